/* SPDX-License-Identifier: GPL-2.0-only */
/* What a wild daemon of the fuzzer holds. */
#ifndef CF_FUZZ_DAEMON_H
#define CF_FUZZ_DAEMON_H

#include <sys/resource.h>

#include "fuzz.h"

#define FZ_OBJECTS	12
#define FZ_CHILDREN	3
#define FZ_READS_KEPT	4

struct fz_read {
	uint32_t	id;
	uint64_t	off, len;
};

/* An object descriptor, and what is known of it. */
struct fz_object {
	pthread_mutex_t	lock;
	int		fd;			/* -1: none */
	unsigned int	dev;
	uint32_t	object_id, open_id;
	uint64_t	content;
	bool		answered;		/* by this process, with @size */
	bool		stale;			/* a newer one was seen, or a CLOSE */
	uint64_t	size;
	unsigned int	nr_reads;
	struct fz_read	reads[FZ_READS_KEPT];	/* to be answered some time */
};

struct fz_device {
	pthread_rwlock_t	lock;		/* held for reading while it is used */
	int			fd;
	unsigned int		gen;		/* of the main cache */
};

struct fz_process {
	pthread_rwlock_t	fds;		/* held for reading by each operation */
	int			low;		/* descriptors from here on can be closed */
	struct rlimit		nofile;		/* how many there can be */
	struct fz_device	devices[FZ_DEVICES];
	struct fz_object	objects[FZ_OBJECTS];
	pthread_mutex_t		children_lock;
	pid_t			children[FZ_CHILDREN];
	int			nf, volume;	/* of the network file system */
};

/* With its lock held. */
void fz_object_close(struct fz_object *o);
void fz_kill_child(struct fz_process *p, unsigned int i);
/* Write what belongs there, FZ_BUF bytes at most: how much was written, or -errno. */
ssize_t fz_write_right(int fd, uint64_t content, uint64_t off, uint64_t len, void *buf);

#endif /* CF_FUZZ_DAEMON_H */
