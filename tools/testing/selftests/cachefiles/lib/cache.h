/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Surroundings of a test: backing store, cache directory, mounts, readers.
 *
 * The store is an ext4 (or xfs, btrfs) in a loop device over a tmpfs, in a mount
 * namespace of the test program's own: nothing of it outlives the program.
 */
#ifndef CF_CACHE_H
#define CF_CACHE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/types.h>

#define CF_BASE		"/tmp/cachefiles-selftest"
#define CF_STORE	CF_BASE "/store"

/* Set up once in a program: 0, or why not (for SKIP) in cf_why. */
int cf_world_init(const char *fstype);
/* Take it down. True if a file system of the tests is in use for no reason that they have. */
bool cf_world_exit(void);
int cf_store(const char *image, __u64 size, const char *where, const char *fstype);
int cf_store_break(const char *where);
extern char cf_why[256];

/* Names of one test, all its own: cache directory, tag, volume, mount point. */
struct cf_env {
	int	dev;
	char	dir[128];
	char	tag[64];
	char	volume[64];
	char	mnt[128];
	bool	mounted;
};

int cf_env_init(struct cf_env *e);
int cf_env_store(struct cf_env *e, __u64 size, const char *fstype);
int cf_env_bind(struct cf_env *e);
int cf_env_bind_original(struct cf_env *e);
int cf_env_rebind(struct cf_env *e);
int cf_env_rebind_original(struct cf_env *e);
int cf_env_mount(struct cf_env *e);
int cf_env_umount(struct cf_env *e, int ms);
/* What cf_umount() says of its mount. It may be busy still, but never takes long. */
int cf_env_exit(struct cf_env *e);

/* What a cache in original mode says when it is read. */
struct cf_statistics {
	unsigned long long cull;
	unsigned long long frun, fcull, fstop, brun, bcull, bstop;
	unsigned long long freleased, breleased;
};

int cf_statistics(int dev, struct cf_statistics *s);
#define CF_NO_INJECTION "no error injection (CONFIG_CACHEFILES_ERROR_INJECTION)"
int cf_error_injection(unsigned int bits);

int cf_mount_od(const char *volume, const char *where, const char *opts);
int cf_umount(const char *where, int flags, int ms);
/* The same for what a worker of the kernel may still have to close a file of: 0 within @ms. */
int cf_umount_idle(const char *where, int ms);
/* As /proc/sys/vm/drop_caches has it: "1" for pages, "3" for inodes as well. */
int cf_drop_caches(const char *what);
int cf_run(int ms, const char *const argv[]);
int cf_have_fs(const char *name);
/* Does EROFS mount from a regular file, or does it want a block device? */
bool cf_have_erofs_on_files(void);
int cf_read_file(const char *path, char *buf, size_t size);
/* All of @text by one write(2): 0 or a negative errno. */
int cf_write_file(const char *path, const char *text);
long cf_tree_count(const char *dir, int (*fn)(const char *path, void *arg), void *arg);

/* What a reader process does. */
struct cf_job {
	__u64	off, len;
	__u64	seed;
	bool		sequential;	/* keep read-ahead; else one page at a time */
	bool		stat_only;	/* no more than the look-up */
	bool		use_mmap;
	bool		direct;
	bool		again;		/* drop the file's pages and read once more */
	bool		stays;		/* with its result, until it is killed */
	unsigned int	chunk;		/* bytes of one read(2), 128 KiB if 0 */
};

/* How it went: @err is 0 or a positive errno of @stage. */
struct cf_result {
	int		stage;		/* 'o'pen, 'r'ead, 'd'one */
	int		err;
	__s64		n;		/* bytes read, or st_size with stat_only */
	__s64		bad;		/* offset of the first wrong byte, or -1 */
	__s64		ms;
};

struct cf_reader {
	pid_t		pid;
	int		pidfd;
	int		pipe;
};

int cf_reader_start(struct cf_reader *r, const char *dir, const char *name,
		    const struct cf_job *job);
int cf_reader_wait(struct cf_reader *r, struct cf_result *res, int ms);
int cf_reader_done(struct cf_reader *r);
int cf_reader_kill(struct cf_reader *r, int ms);

/* Start any function in a child of its own: a killable call with a time limit. */
int cf_child(struct cf_reader *r, int (*fn)(void *arg), void *arg);
/* The same, and it keeps one descriptor of its parent. */
int cf_child_with(struct cf_reader *r, int fd, int (*fn)(void *arg), void *arg);

#endif /* CF_CACHE_H */
