/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Backing file systems of all kinds, made and mounted for one test, and what
 * the kernel's log says meanwhile.
 */
#ifndef CF_BACKING_H
#define CF_BACKING_H

#include <stdbool.h>

#include <linux/types.h>

#include "cache.h"
#include "fusefs.h"

struct cf_backing {
	const char	*fstype;	/* "fuse": lib/fusefs.h */
	const char	*module;	/* in /proc/filesystems, if not fstype */
	const char	*mkfs;		/* with its arguments; the image follows */
	const char	*opts;		/* of the mount */
	const char	*extsize;	/* hint for the directory, for xfs_io */
	const char	*existing;	/* a directory that is there already */
	unsigned int	mb;		/* size */
	bool		inexact;	/* btrfs that takes holes for data, not another one */
	bool		stacked;	/* what is mounted is an overlay of it */
	enum cf_lie	lie;
};

/* One that is mounted. */
struct cf_mounted {
	const struct cf_backing	*b;
	struct cf_fusefs	fuse;
	char			where[128];
	char			below[136];	/* what it is stacked on, or as where */
	char			image[136];
};

/*
 * 0 once it is there, in m->where; 1, with the reason in cf_why, if this
 * machine can't make it; or a negative errno.
 */
int cf_backing_mount(struct cf_mounted *m, const struct cf_backing *b);
/* The same with one in user space that tells the truth; @e has its directory there then. */
int cf_backing_fuse(struct cf_mounted *m, struct cf_env *e);
/* Once more, with nothing of it in memory. */
int cf_backing_remount(struct cf_mounted *m);
void cf_backing_unmount(struct cf_mounted *m);
/*
 * An overlay of "lower", "upper" and "work" in @dir, which are made if need be: 0 once it is
 * mounted at @where; 1, with the reason in cf_why, if there is none that is fit for a cache;
 * or a negative errno.
 */
int cf_overlay(const char *dir, const char *where);
/* Freeze the file system of @dir: what cf_thaw() takes, or a negative errno. */
int cf_freeze(const char *dir);
int cf_thaw(int fd);
/* Write what the file system of @dir has in memory: 0 or a negative errno. */
int cf_sync_fs(const char *dir);
/* Bytes in use on the file system of @dir, after everything has been written. */
long long cf_used(const char *dir);

/* An ext4 on a disk that can be made to stop and to fail, for the store of one test. */
#define CF_NO_DISK "no dmsetup (CONFIG_BLK_DEV_DM)"
bool cf_have_disk(void);
/*
 * "make [OPTIONS]" (of the mount): @e has its directory there then. "stop": nothing on it
 * ends. "fail": no write succeeds. "go": as before. "remove" in the end. 0 or a negative
 * errno; -EIO if that does not work here.
 */
int cf_disk(struct cf_env *e, const char *how);
/*
 * With the disk stopped, @first comes to where it waits and @second begins; then the disk goes
 * on. 0 with what they have returned in @rets, or a negative errno.
 */
int cf_disk_between(struct cf_env *e, int (*first)(void *arg), int (*second)(void *arg),
		    void *arg, int rets[2]);

/* The kernel's log from now on. */
int cf_log_open(void);
/* Lines of caches with @what since the last call, the last of them in @line. */
int cf_log_lines(int fd, const char *what, char *line, size_t size);

#endif /* CF_BACKING_H */
