// SPDX-License-Identifier: GPL-2.0-only
/* Inodes: from the cookie's opening to its end. */
#include <linux/cleanup.h>
#include <linux/errno.h>
#include <linux/fs.h>
#include <linux/fscache-cache.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include "internal.h"

static struct kmem_cache *ondemandfs_inode_cachep;

/* What iget5_locked() is to find, or to make; @copy goes to the new inode. */
struct ondemandfs_wanted {
	const struct qstr	*name;
	char			*copy;
};

/**
 * ondemandfs_alloc_inode - allocate an inode for the VFS
 * @sb: its superblock
 *
 * Context: may sleep.
 * Return: the inode, in which nothing but the VFS part is other than zero; NULL
 * without memory.
 */
struct inode *ondemandfs_alloc_inode(struct super_block *sb)
{
	struct ondemandfs_inode *oi;

	oi = alloc_inode_sb(sb, ondemandfs_inode_cachep, GFP_KERNEL);
	if (!oi)
		return NULL;
	memset_after(oi, 0, netfs.inode);
	return &oi->netfs.inode;
}

/**
 * ondemandfs_free_inode - give an inode's memory back
 * @inode: the inode, evicted a grace period ago
 *
 * Context: RCU callback.
 */
void ondemandfs_free_inode(struct inode *inode)
{
	struct ondemandfs_inode *oi = ONDEMANDFS_I(inode);

	kfree(oi->name);
	kmem_cache_free(ondemandfs_inode_cachep, oi);
}

/* Leave the xarray and the cache, as far as this inode has got. */
static void ondemandfs_leave(struct inode *inode)
{
	struct ondemandfs_inode *oi = ONDEMANDFS_I(inode);

	if (oi->ino)
		xa_erase(&ONDEMANDFS_SB(inode->i_sb)->inodes, oi->ino);
	oi->ino = 0;
	if (oi->cookie) {
		fscache_unuse_cookie(oi->cookie, NULL, NULL);
		fscache_relinquish_cookie(oi->cookie, false);
	}
	oi->cookie = NULL;
}

/**
 * ondemandfs_evict_inode - end of an inode, opened or not
 * @inode: the inode; nobody else has a reference
 *
 * Read-ahead may be outstanding with nobody waiting for it: it is ended, lest
 * this wait for the daemon.
 *
 * Context: may sleep; also from reclaim.
 */
void ondemandfs_evict_inode(struct inode *inode)
{
	ondemandfs_drain(inode);
	truncate_inode_pages_final(&inode->i_data);
	clear_inode(inode);
	ondemandfs_leave(inode);
}

/*
 * The cache went away under an open mount and has come back, or another one has
 * come under its name: open the file there as well. Its content is the same by
 * contract, and the size is proof enough that it is not.
 */
static int ondemandfs_reopen(struct inode *inode)
{
	struct ondemandfs_inode *oi = ONDEMANDFS_I(inode);
	struct fscache_cookie *cookie = oi->cookie;
	int error;

	fscache_use_cookie(cookie, false);
	error = ondemandfs_wait_open(cookie, false);
	if (!error && cookie->object_size != i_size_read(inode))
		error = -ESTALE;
	fscache_unuse_cookie(cookie, NULL, NULL);
	WRITE_ONCE(oi->lost, error);
	return error;
}

/*
 * O_DIRECT is welcome, but no more than a wish: data come through the page
 * cache in any case, because only reads into it consult the cache below.
 */
static int ondemandfs_open(struct inode *inode, struct file *file)
{
	struct ondemandfs_inode *oi = ONDEMANDFS_I(inode);
	int aborts = atomic_read(&ONDEMANDFS_SB(inode->i_sb)->aborts);
	int error;

	if (fscache_cookie_state(oi->cookie) != FSCACHE_COOKIE_STATE_ACTIVE ||
	    oi->cookie->object_size != i_size_read(inode) || READ_ONCE(oi->lost)) {
		error = ondemandfs_reopen(inode);
		if (error) {
			/* Look it up afresh once nobody has it open. */
			d_drop(file->f_path.dentry);
			return error;
		}
	}

	file->private_data = (void *)(unsigned long)(unsigned int)aborts;
	file->f_mode |= FMODE_CAN_ODIRECT;
	return generic_file_open(inode, file);
}

static ssize_t ondemandfs_read_iter(struct kiocb *iocb, struct iov_iter *iter)
{
	return filemap_read(iocb, iter, 0);
}

static const struct file_operations ondemandfs_file_fops = {
	.open		= ondemandfs_open,
	.llseek		= generic_file_llseek,
	.read_iter	= ondemandfs_read_iter,
	.mmap_prepare	= generic_file_readonly_mmap_prepare,
	.splice_read	= filemap_splice_read,
};

static void ondemandfs_set_attrs(struct inode *inode, umode_t mode)
{
	const struct ondemandfs_sb *sbi = ONDEMANDFS_SB(inode->i_sb);

	inode->i_mode = mode;
	inode->i_uid = sbi->uid;
	inode->i_gid = sbi->gid;
	inode_set_atime_to_ts(inode, sbi->mount_time);
	inode_set_mtime_to_ts(inode, sbi->mount_time);
	inode_set_ctime_to_ts(inode, sbi->mount_time);
}

/**
 * ondemandfs_get_root - make the inode of the root directory
 * @sb: superblock that has none yet
 *
 * Context: may sleep.
 * Return: the inode, with a reference; NULL without memory.
 */
struct inode *ondemandfs_get_root(struct super_block *sb)
{
	struct inode *inode = new_inode(sb);

	if (!inode)
		return NULL;

	inode->i_ino = ONDEMANDFS_ROOT_INO;
	ondemandfs_set_attrs(inode, S_IFDIR | 0555);
	set_nlink(inode, 2);
	inode->i_op = &ondemandfs_dir_iops;
	inode->i_fop = &ondemandfs_dir_fops;
	return inode;
}

static int ondemandfs_test_inode(struct inode *inode, void *data)
{
	const struct ondemandfs_inode *oi = ONDEMANDFS_I(inode);
	const struct ondemandfs_wanted *wanted = data;

	return oi->name_len == wanted->name->len &&
	       !memcmp(oi->name, wanted->name->name, oi->name_len);
}

static int ondemandfs_set_inode(struct inode *inode, void *data)
{
	struct ondemandfs_inode *oi = ONDEMANDFS_I(inode);
	struct ondemandfs_wanted *wanted = data;

	oi->name_len = wanted->name->len;
	oi->name = no_free_ptr(wanted->copy);
	return 0;
}

/*
 * Open the file of a new inode in the cache, and wait for the daemon to do it.
 * What this has acquired is left to ondemandfs_leave(), also after an error.
 */
static int ondemandfs_open_cookie(struct inode *inode)
{
	struct ondemandfs_sb *sbi = ONDEMANDFS_SB(inode->i_sb);
	struct ondemandfs_inode *oi = ONDEMANDFS_I(inode);
	int error;
	u32 ino;

	/*
	 * Nobody else holds this key: the volume is ours, the name new, and a
	 * lookup of it that has failed has relinquished its cookie.
	 */
	oi->cookie = fscache_acquire_cookie(sbi->volume, FSCACHE_ADV_WANT_CACHE_SIZE,
					    oi->name, oi->name_len, NULL, 0, 0);
	if (!oi->cookie)
		return -ENOMEM;
	fscache_use_cookie(oi->cookie, false);

	/* From here on ondemandfs_abort() can end the wait below. */
	error = xa_alloc_cyclic(&sbi->inodes, &ino, oi, ONDEMANDFS_INO_LIMIT,
				&sbi->next_ino, GFP_KERNEL);
	if (error < 0)
		return error;
	/* Only now: without memory there may be a number, too, which others can get. */
	oi->ino = ino;

	return ondemandfs_wait_open(oi->cookie, true);
}

/*
 * A new inode comes to nothing. When its lookup is over, the next one of the name
 * acquires a cookie with the same key, so this one's has to be relinquished by then.
 * Eviction may be later: ondemandfs_abort() has a reference for a moment, and so has
 * whoever drops the caches.
 */
static void ondemandfs_fail_new(struct inode *inode)
{
	/* Nobody is using the cookie now, and nobody finds it any more. */
	scoped_guard(mutex, &ONDEMANDFS_SB(inode->i_sb)->aborting)
		ondemandfs_leave(inode);
	iget_failed(inode);
}

/**
 * ondemandfs_get_file - find or make the inode of a name
 * @sb: superblock of a mount
 * @name: the name, 1 to NAME_MAX bytes; its hash must be valid
 *
 * There is one inode for a name, whatever became of its dentry, since there
 * can be one cookie for a key. A new inode exists once the daemon has answered
 * how large the file is.
 *
 * Context: may sleep; waits killably for the daemon. The VFS runs one lookup of
 * a name at a time, so nobody waits behind a new inode of the same name.
 * Return: the inode, with a reference, or an error: what the daemon refused the
 * name with, -EINTR for a task being killed, -EIO if the cache is dead or the
 * wait was ended by force, -EFBIG for a size that its file system cannot hold, -ENOMEM.
 */
struct inode *ondemandfs_get_file(struct super_block *sb, const struct qstr *name)
{
	struct ondemandfs_wanted wanted = { .name = name };
	struct ondemandfs_inode *oi;
	struct inode *inode;
	int error;

	wanted.copy = kmemdup_nul(name->name, name->len, GFP_KERNEL);
	if (!wanted.copy)
		return ERR_PTR(-ENOMEM);
	inode = iget5_locked(sb, name->hash, ondemandfs_test_inode,
			     ondemandfs_set_inode, &wanted);
	kfree(wanted.copy);
	if (!inode)
		return ERR_PTR(-ENOMEM);
	if (!(inode_state_read_once(inode) & I_NEW))
		return inode;

	error = ondemandfs_open_cookie(inode);
	if (error) {
		ondemandfs_fail_new(inode);
		return ERR_PTR(error);
	}

	oi = ONDEMANDFS_I(inode);
	inode->i_ino = oi->ino;
	ondemandfs_set_attrs(inode, S_IFREG | ONDEMANDFS_SB(sb)->mode);
	i_size_write(inode, oi->cookie->object_size);
	inode->i_blocks = DIV_ROUND_UP_ULL(oi->cookie->object_size, SECTOR_SIZE);
	inode->i_fop = &ondemandfs_file_fops;
	ondemandfs_netfs_init(oi);
	xa_set_mark(&ONDEMANDFS_SB(sb)->inodes, oi->ino, ONDEMANDFS_OPENED);
	unlock_new_inode(inode);
	return inode;
}

/* The next inode, opened or being looked up, with a number of at least *@ino. */
static struct inode *ondemandfs_next_inode(struct ondemandfs_sb *sbi, unsigned long *ino)
{
	struct ondemandfs_inode *oi;
	struct inode *inode;

	guard(rcu)();
	xa_for_each_start(&sbi->inodes, *ino, oi, *ino) {
		inode = igrab(&oi->netfs.inode);
		if (inode)
			return inode;
	}
	return NULL;
}

/* False if no inode has a number of at least *@ino; else *@ino is the one it was. */
static bool ondemandfs_abort_next(struct ondemandfs_sb *sbi, unsigned long *ino)
{
	struct inode *inode;

	/* For one inode at a time: a lookup that has failed waits for this. */
	guard(mutex)(&sbi->aborting);
	inode = ondemandfs_next_inode(sbi, ino);
	if (!inode)
		return false;
	ondemandfs_end_reads(ONDEMANDFS_I(inode)->cookie);
	iput(inode);
	return true;
}

/**
 * ondemandfs_abort - end by force what is outstanding
 * @sbi: the mount
 *
 * Lookups that wait for the daemon fail with -EIO, and so do reads; since the
 * page cache tries a failed read again, files that are open now stay without
 * new data from the cache, while files opened later are not affected. A reader
 * that asks for data at this very moment may be missed, and needs another call.
 *
 * Context: may sleep, but not for the daemon.
 */
void ondemandfs_abort(struct ondemandfs_sb *sbi)
{
	unsigned long ino = 0;

	atomic_inc(&sbi->aborts);
	while (ondemandfs_abort_next(sbi, &ino))
		ino++;
}

static void ondemandfs_init_once(void *p)
{
	struct ondemandfs_inode *oi = p;

	inode_init_once(&oi->netfs.inode);
}

/**
 * ondemandfs_inode_init - set up what all mounts share
 *
 * Return: 0 or -ENOMEM.
 */
int __init ondemandfs_inode_init(void)
{
	ondemandfs_inode_cachep = kmem_cache_create("ondemandfs_inode",
						    sizeof(struct ondemandfs_inode), 0,
						    SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT,
						    ondemandfs_init_once);
	return ondemandfs_inode_cachep ? 0 : -ENOMEM;
}

/**
 * ondemandfs_inode_exit - undo ondemandfs_inode_init()
 *
 * Context: may sleep. There are no mounts and can be none any more.
 */
void ondemandfs_inode_exit(void)
{
	/*
	 * Inodes are freed by RCU callbacks, and the library's read requests by
	 * callbacks that look at our request operations. The library says that
	 * a request is over just before it queues the callback; the grace
	 * period lets it get there.
	 */
	synchronize_rcu();
	rcu_barrier();
	kmem_cache_destroy(ondemandfs_inode_cachep);
}
