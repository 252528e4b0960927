/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Daemon side of the on-demand cache protocol, for tests and small daemons.
 *
 * Three layers, each usable without the next: single protocol steps (cf_cmd(),
 * cf_read(), cf_copen(), cf_fill(), cf_cread()), a scripted server that can be
 * told to misbehave at a chosen message, and helpers to hand the device to
 * another process.  Functions return 0 or a count, or a negative errno.
 */
#ifndef CF_DAEMON_H
#define CF_DAEMON_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/cachefiles.h>

#define CF_DEVICE	"/dev/cachefiles"
#define CF_BLOCK	4096U
#define CF_MAX_FILES	32
#define CF_MAX_RULES	16

/* One message as read from the device; the accessors are views on @raw. */
struct cf_msg {
	union {
		struct cachefiles_msg hdr;
		unsigned char raw[CACHEFILES_MSG_MAX_SIZE];
		__u64 align;
	};
};

static inline const struct cachefiles_open *cf_open(const struct cf_msg *m)
{
	return (const void *)(m->raw + sizeof(struct cachefiles_msg));
}

static inline const struct cachefiles_read *cf_rd(const struct cf_msg *m)
{
	return (const void *)(m->raw + sizeof(struct cachefiles_msg));
}

static inline const struct cachefiles_close *cf_close(const struct cf_msg *m)
{
	return (const void *)(m->raw + sizeof(struct cachefiles_msg));
}

static inline int cf_open_fd(const struct cf_msg *m)
{
	return (int)cf_open(m)->fd;
}

static inline const char *cf_volume(const struct cf_msg *m)
{
	return (const char *)cf_open(m)->data;
}

const char *cf_key(const struct cf_msg *m, char buf[256]);

/* Multiply every time limit by $CF_TIME_SCALE (slow machines, debug kernels). */
int cf_ms(int ms);

/* Milliseconds of CLOCK_MONOTONIC. */
long long cf_now(void);

/* poll(2) one descriptor: its revents, 0 at the end of the time, or -errno. */
int cf_poll(int fd, short events, int ms);

/* Single steps. */
int cf_device(void);
int cf_cmd(int dev, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int cf_write_raw(int dev, const void *buf, size_t len);
int cf_bind(int dev, const char *dir, const char *tag);
int cf_read(int dev, struct cf_msg *m);
int cf_next(int dev, struct cf_msg *m, int ms);
int cf_expect(int dev, struct cf_msg *m, unsigned int op, int ms);
int cf_idle(int dev);
int cf_copen(int dev, __u32 id, long long size);
ssize_t cf_fill(int fd, __u64 seed, __u64 off, __u64 len, __u64 size);
int cf_cread(int fd, __u32 id);
int cf_cread32(int fd, __u32 id);

/* Content that can be made and checked at any offset. */
void cf_pattern(__u64 seed, __u64 off, void *buf, size_t len);
long long cf_differs(__u64 seed, __u64 off, const void *buf, size_t len);

/* What the scripted server serves under one cookie key. */
struct cf_file {
	char		key[256];
	__u64	size;
	__u64	seed;
	int		error;		/* positive errno: refuse the OPEN */
	char		source[160];	/* a file that has the content, if not the pattern */
};

/* Where a rule can strike. */
enum cf_point {
	CF_WAITING,			/* poll says there is a message */
	CF_GOT,				/* read, nothing done with it */
	CF_WRITTEN,			/* READ: data written, not completed */
	CF_REPLIED,			/* copen or completion given */
};

enum cf_action {
	CF_DIE,				/* SIGKILL to itself */
	CF_STALL,			/* never answer this one */
	CF_CLOSE_FD,			/* close the object's descriptor, go on */
	CF_LATE,			/* answer after the next message */
	CF_TWICE,			/* answer a second time as well */
	CF_WRONG_ID,			/* answer another id first */
	CF_ERROR,			/* refuse with errno @arg; READ: no data */
	CF_WRONG_SIZE,			/* copen with @arg */
	CF_PARTIAL,			/* fill only @arg bytes, then complete */
};

/*
 * "Do @action at point @point of the @nth message (from 0; -1: every) of kind
 * @op."  At CF_WAITING the kind is not known yet: @nth counts all messages.
 */
struct cf_rule {
	unsigned int	op;
	int		nth;
	enum cf_point	point;
	enum cf_action	action;
	long long	arg;
};

/* Counters in shared memory: they outlive a killed daemon process. */
struct cf_stats {
	unsigned long	opens, reads, closes, bytes, reopened;
	unsigned long	refused;	/* answers the kernel took with an errno */
	unsigned long	odd;		/* messages that made no sense */
	unsigned long	died, restored;
};

struct cf_held {
	int		fd;
	int		file;
};

struct cf_server {
	int		dev;
	int		delay_ms;	/* before each answer to a READ */
	bool		any_key;	/* unknown keys are like the first file */
	int		stop[2];	/* pipe: closing it ends the loop */
	int		nr_files, nr_rules;
	struct cf_file	files[CF_MAX_FILES];
	struct cf_rule	rules[CF_MAX_RULES];
	struct cf_stats	*stats;
	/* private */
	pthread_t	thread;
	bool		threaded;
	pid_t		pid;
	int		pidfd;
	struct cf_held	*held;
	unsigned int	nr_held;
	struct cf_msg	late;
	bool		has_late;
	bool		*seen;		/* shared: keys that had an OPEN */
};

int cf_server_init(struct cf_server *s, int dev);
struct cf_file *cf_server_add(struct cf_server *s, const char *key,
			      __u64 size, __u64 seed);
void cf_server_rule(struct cf_server *s, unsigned int op, int nth,
		    enum cf_point point, enum cf_action action, long long arg);
int cf_server_handle(struct cf_server *s, struct cf_msg *m);
int cf_server_run(struct cf_server *s);
int cf_server_thread(struct cf_server *s);
int cf_server_fork(struct cf_server *s, bool restore);
int cf_server_wait(struct cf_server *s, int ms);
void cf_server_stop(struct cf_server *s);

/* Handing descriptors on. */
int cf_send_fd(int sock, int fd);
int cf_recv_fd(int sock, int ms);
int cf_close_others(const int *keep, int nr);
int cf_pidfd(pid_t pid);

#endif /* CF_DAEMON_H */
