/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * On-demand file system: one mount is one volume of a cache, one file is one
 * cookie, and the data come through the netfs library.
 *
 * Locking, outer to inner:
 *
 *   root directory's i_rwsem	taken by the VFS, shared; held over a lookup,
 *				which waits killably for the daemon. Whoever
 *				would make a name takes it exclusive before he
 *				is refused, and is not killable while he waits
 *				for it; nor are lookups that queue behind him.
 *				ondemandfs_abort() and the end of the device
 *				end the lookups that hold it
 *   filemap locks, folio locks	held over reads, which wait for the daemon too
 *   ondemandfs_sb.aborting	held while ondemandfs_abort() uses an inode, and
 *				while a lookup that has failed takes its own
 *				away; never over a wait for the daemon
 *   ondemandfs_sb.inodes	the xarray's own lock, a leaf. Readers walk it
 *				under RCU alone: an inode leaves it before it
 *				is freed, and is freed after a grace period
 *
 * Eviction takes none of these but the last, so it can run from reclaim and
 * iput() below any of them. It never waits for the daemon: it ends the inode's
 * reads first.
 *
 * Lifetime: the dentry holds the inode; an inode without a dentry and without
 * an open file is evicted at once. The inode owns its cookie, used from the
 * moment it is acquired until eviction, so the daemon keeps a file open as long
 * as the inode lives. That of a lookup that has failed goes at once, whoever has
 * the inode. The volume goes after the last inode, in put_super().
 *
 * Marks in comments below: I immutable once the object can be found by others,
 * X written under the xarray's lock, A atomic, W written and read at any time
 * with WRITE_ONCE() and READ_ONCE().
 */
#ifndef _ONDEMANDFS_INTERNAL_H
#define _ONDEMANDFS_INTERNAL_H

#include <linux/fs.h>
#include <linux/fscache.h>
#include <linux/limits.h>
#include <linux/mutex.h>
#include <linux/netfs.h>
#include <linux/xarray.h>

#define ONDEMANDFS_MAGIC	0x6f646673	/* "odfs" */
#define ONDEMANDFS_ROOT_INO	1

/* Inode numbers are readdir positions as well, and "." and ".." come first. */
#define ONDEMANDFS_INO_LIMIT	XA_LIMIT(2, U32_MAX)

/* Inodes whose file has been opened in the cache; the rest are being looked up. */
#define ONDEMANDFS_OPENED	XA_MARK_1

/**
 * struct ondemandfs_sb - what belongs to one volume
 * @volume: the volume, NULL before it was acquired [I]
 * @inodes: every inode but the root, by inode number [X]
 * @next_ino: where to look for the next free inode number [X]
 * @aborting: held by ondemandfs_abort() while it uses a cookie, and to relinquish
 *	      one before its inode is evicted
 * @aborts: how often what was outstanding has been ended by force [A]
 * @mount_time: the time stamp of everything [I]
 * @uid: owner of everything [I]
 * @gid: group of everything [I]
 * @mode: permission bits of files [I]
 * @given: bits by option number: the options that were given, which those of
 *	   another mount of this volume must agree with [I]
 * @key: the volume key [I]
 * @tag: name of the cache, empty for any [I]
 */
struct ondemandfs_sb {
	struct fscache_volume	*volume;
	struct xarray		inodes;
	u32			next_ino;
	struct mutex		aborting;	/* cookies of others */
	atomic_t		aborts;
	struct timespec64	mount_time;
	kuid_t			uid;
	kgid_t			gid;
	umode_t			mode;
	unsigned int		given;
	char			key[NAME_MAX + 1];
	char			tag[NAME_MAX + 1];
};

/**
 * struct ondemandfs_inode - a file, or the root directory
 * @netfs: the VFS inode and the library's part of it; must be first
 * @cookie: the file in the cache, in use; NULL in the root directory, before it
 *	    was acquired and after the lookup has failed [I]
 * @name: name of the file and key of the cookie, NUL-terminated [I]
 * @name_len: bytes in @name [I]
 * @ino: index in ondemandfs_sb.inodes, 0 while not in there [I]
 * @lost: the cache came back, and opening the file there has failed [W]
 */
struct ondemandfs_inode {
	struct netfs_inode	netfs;
	struct fscache_cookie	*cookie;
	char			*name;
	u32			name_len;
	u32			ino;
	bool			lost;
};

static inline struct ondemandfs_sb *ONDEMANDFS_SB(const struct super_block *sb)
{
	return sb->s_fs_info;
}

static inline struct ondemandfs_inode *ONDEMANDFS_I(struct inode *inode)
{
	return container_of(inode, struct ondemandfs_inode, netfs.inode);
}

/* dir.c */
extern const struct file_operations ondemandfs_dir_fops;
extern const struct inode_operations ondemandfs_dir_iops;

/* inode.c */
int __init ondemandfs_inode_init(void);
void ondemandfs_inode_exit(void);
struct inode *ondemandfs_alloc_inode(struct super_block *sb);
void ondemandfs_free_inode(struct inode *inode);
void ondemandfs_evict_inode(struct inode *inode);
struct inode *ondemandfs_get_root(struct super_block *sb);
struct inode *ondemandfs_get_file(struct super_block *sb, const struct qstr *name);
void ondemandfs_abort(struct ondemandfs_sb *sbi);

/* netfs.c */
extern const struct address_space_operations ondemandfs_aops;
void ondemandfs_netfs_init(struct ondemandfs_inode *oi);
int ondemandfs_wait_open(struct fscache_cookie *cookie, bool alone);
void ondemandfs_end_reads(struct fscache_cookie *cookie);
void ondemandfs_drain(struct inode *inode);

#endif /* _ONDEMANDFS_INTERNAL_H */
