/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Calls into the backing file system that error injection can make fail.
 *
 * Each function does what the VFS function it is named after does, with the
 * arguments that are the same everywhere filled in.  Callers run with the
 * credentials of the cache, and hold write access to the mount around
 * everything that modifies the file system.
 */
#ifndef CACHEFILES_VFS_H
#define CACHEFILES_VFS_H

#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/sched/signal.h>
#include <linux/xattr.h>

/* Bits of cachefiles_error_injection_state. */
#define CACHEFILES_INJECT_ENOSPC	1U
#define CACHEFILES_INJECT_EIO		2U
#define CACHEFILES_INJECT_EINTR		4U
#define CACHEFILES_INJECT_PUNCH		8U

/* How backing files are opened.  Direct I/O is asked for with each access. */
#define CACHEFILES_OPEN_FLAGS	(O_RDWR | O_LARGEFILE | O_NOATIME)

extern unsigned int cachefiles_error_injection_state;

static inline bool cachefiles_injecting(unsigned int error)
{
	return IS_ENABLED(CONFIG_CACHEFILES_ERROR_INJECTION) &&
	       (READ_ONCE(cachefiles_error_injection_state) & error);
}

/**
 * cachefiles_inject_read_error - May an access that modifies nothing go on?
 *
 * Return: 0, or the error that it has to fail with.
 */
static inline int cachefiles_inject_read_error(void)
{
	if (cachefiles_injecting(CACHEFILES_INJECT_EIO))
		return -EIO;
	return cachefiles_injecting(CACHEFILES_INJECT_EINTR) && fatal_signal_pending(current) ?
	       -EINTR : 0;
}

/**
 * cachefiles_inject_remove_error - May an access that only frees space go on?
 *
 * Return: 0, or the error that it has to fail with.
 */
static inline int cachefiles_inject_remove_error(void)
{
	return cachefiles_inject_read_error();
}

/**
 * cachefiles_inject_write_error - May an access that may allocate space go on?
 *
 * Return: 0, or the error that it has to fail with.
 */
static inline int cachefiles_inject_write_error(void)
{
	return cachefiles_inject_read_error() ?:
	       (cachefiles_injecting(CACHEFILES_INJECT_ENOSPC) ? -ENOSPC : 0);
}

/* Consumes @dentry when it fails, as vfs_mkdir() does. */
static inline struct dentry *cachefiles_vfs_mkdir(struct dentry *parent, struct dentry *dentry)
{
	int ret = cachefiles_inject_write_error();

	if (ret) {
		end_creating(dentry);
		return ERR_PTR(ret);
	}
	return vfs_mkdir(&nop_mnt_idmap, d_inode(parent), dentry, 0700, NULL);
}

static inline int cachefiles_vfs_unlink(struct dentry *parent, struct dentry *dentry)
{
	return cachefiles_inject_remove_error() ?:
	       vfs_unlink(&nop_mnt_idmap, d_inode(parent), dentry, NULL);
}

static inline int cachefiles_vfs_rename(struct renamedata *rd)
{
	return cachefiles_inject_write_error() ?: vfs_rename(rd);
}

static inline int cachefiles_vfs_link(struct dentry *old, struct dentry *parent,
				      struct dentry *dentry)
{
	return cachefiles_inject_write_error() ?:
	       vfs_link(old, &nop_mnt_idmap, d_inode(parent), dentry, NULL);
}

static inline struct file *cachefiles_vfs_open(const struct path *path, const struct cred *cred)
{
	int ret = cachefiles_inject_read_error();

	return ret ? ERR_PTR(ret) : kernel_file_open(path, CACHEFILES_OPEN_FLAGS, cred);
}

static inline struct file *cachefiles_vfs_tmpfile(const struct path *parent,
						  const struct cred *cred)
{
	int ret = cachefiles_inject_write_error();

	if (ret)
		return ERR_PTR(ret);
	return kernel_tmpfile_open(&nop_mnt_idmap, parent, S_IFREG | 0600, CACHEFILES_OPEN_FLAGS,
				   cred);
}

static inline int cachefiles_vfs_setxattr(struct dentry *dentry, const char *name,
					  const void *value, size_t len)
{
	return cachefiles_inject_write_error() ?:
	       vfs_setxattr(&nop_mnt_idmap, dentry, name, value, len, 0);
}

static inline ssize_t cachefiles_vfs_getxattr(struct dentry *dentry, const char *name,
					      void *value, size_t len)
{
	return cachefiles_inject_read_error() ?:
	       vfs_getxattr(&nop_mnt_idmap, dentry, name, value, len);
}

static inline int cachefiles_vfs_removexattr(struct dentry *dentry, const char *name)
{
	return cachefiles_inject_remove_error() ?:
	       vfs_removexattr(&nop_mnt_idmap, dentry, name);
}

/* Takes write access to the mount itself. */
static inline int cachefiles_vfs_truncate(struct file *file, loff_t size)
{
	return cachefiles_inject_remove_error() ?: vfs_truncate(&file->f_path, size);
}

/* Makes a hole. */
static inline int cachefiles_vfs_punch(struct file *file, loff_t pos, loff_t len)
{
	return cachefiles_inject_remove_error() ?:
	       (cachefiles_injecting(CACHEFILES_INJECT_PUNCH) ? -ENOSPC : 0) ?:
	       vfs_fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pos, len);
}

/* Allocates, and writes nothing. */
static inline int cachefiles_vfs_reserve(struct file *file, loff_t pos, loff_t len)
{
	return cachefiles_inject_write_error() ?:
	       vfs_fallocate(file, FALLOC_FL_KEEP_SIZE, pos, len);
}

static inline loff_t cachefiles_vfs_llseek(struct file *file, loff_t pos, int whence)
{
	return cachefiles_inject_read_error() ?: vfs_llseek(file, pos, whence);
}

/**
 * cachefiles_vfs_inode - What has the data of a backing file
 * @file: The file.
 *
 * Context: any.
 * Return: its inode, or if its file system is stacked on others the one below.
 */
static inline struct inode *cachefiles_vfs_inode(const struct file *file)
{
	return d_real_inode(file->f_path.dentry);
}

/**
 * cachefiles_vfs_size - How long is a backing file?
 * @file: The file.
 *
 * A file system that is stacked on others may learn only later how long a write has made it.
 *
 * Context: any.
 * Return: its size in bytes.
 */
static inline loff_t cachefiles_vfs_size(const struct file *file)
{
	return i_size_read(cachefiles_vfs_inode(file));
}

/**
 * cachefiles_vfs_has_dirty_pages - Is something of a backing file in memory only?
 * @file: A file, to which nothing is being written.
 *
 * Some file systems do not write directly when they are asked to.
 *
 * Context: any.
 * Return: true if so.
 */
static inline bool cachefiles_vfs_has_dirty_pages(const struct file *file)
{
	struct address_space *mapping = cachefiles_vfs_inode(file)->i_mapping;

	return mapping_tagged(mapping, PAGECACHE_TAG_DIRTY) ||
	       mapping_tagged(mapping, PAGECACHE_TAG_WRITEBACK);
}

/**
 * cachefiles_vfs_settle - Wait for direct writes that have begun
 * @file: A backing file.
 *
 * They show in size and extents only when they are done.
 */
static inline void cachefiles_vfs_settle(struct file *file)
{
	struct inode *inode = cachefiles_vfs_inode(file);

	inode_lock(inode);
	inode_dio_wait(inode);
	inode_unlock(inode);
}

#endif /* CACHEFILES_VFS_H */
