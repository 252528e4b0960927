/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Makes older kernels look new: included before every source file. Each shim
 * stands behind the probe of its name, see compat/probe.
 *
 * The headers that declare the older forms of something are included here, before
 * a macro gives their names to the newer ones.
 */
#ifndef _COMPAT_H
#define _COMPAT_H

#include <linux/dcache.h>
#include <linux/fs.h>
#include <linux/namei.h>
#include <linux/sysctl.h>

#ifndef COMPAT_HAVE_INODE_STATE_READ
static inline unsigned long inode_state_read_once(struct inode *inode)
{
	return READ_ONCE(inode->i_state);
}
#endif

#ifndef COMPAT_HAVE_INODE_JUST_DROP
#define inode_just_drop generic_delete_inode
#endif

#ifndef COMPAT_HAVE_MMAP_PREPARE
/* The older operation of the same purpose; the helper checks the same things. */
#define mmap_prepare mmap
#define generic_file_readonly_mmap_prepare generic_file_readonly_mmap
#endif

#ifndef COMPAT_HAVE_START_CREATING
struct dentry *start_creating(struct mnt_idmap *idmap, struct dentry *parent, struct qstr *name);
struct dentry *start_removing(struct mnt_idmap *idmap, struct dentry *parent, struct qstr *name);
struct dentry *start_removing_dentry(struct dentry *parent, struct dentry *child);
void end_dirop(struct dentry *dentry);

static inline void end_creating(struct dentry *child)
{
	end_dirop(child);
}

static inline void end_removing(struct dentry *child)
{
	end_dirop(child);
}

static inline struct dentry *end_creating_keep(struct dentry *child)
{
	if (!IS_ERR(child))
		dget(child);
	end_dirop(child);
	return child;
}
#endif /* COMPAT_HAVE_START_CREATING */

#ifndef COMPAT_HAVE_MKDIR_DENTRY
static inline struct dentry *compat_vfs_mkdir(struct mnt_idmap *idmap, struct inode *dir,
					      struct dentry *dentry, umode_t mode,
					      void *delegated_inode)
{
	int ret = vfs_mkdir(idmap, dir, dentry, mode);

	if (!ret)
		return dentry;
	end_creating(dentry);
	return ERR_PTR(ret);
}

#define vfs_mkdir compat_vfs_mkdir
#endif /* COMPAT_HAVE_MKDIR_DENTRY */

#ifndef COMPAT_HAVE_START_CREATING
struct compat_renamedata {
	struct mnt_idmap *mnt_idmap;
	struct dentry *old_parent;
	struct dentry *old_dentry;
	struct dentry *new_parent;
	struct dentry *new_dentry;
	struct inode **delegated_inode;
	unsigned int flags;
};

static inline int compat_vfs_rename(struct compat_renamedata *rd)
{
	struct renamedata old = {
		.old_mnt_idmap		= rd->mnt_idmap,
		.old_dir		= d_inode(rd->old_parent),
		.old_dentry		= rd->old_dentry,
		.new_mnt_idmap		= rd->mnt_idmap,
		.new_dir		= d_inode(rd->new_parent),
		.new_dentry		= rd->new_dentry,
		.delegated_inode	= rd->delegated_inode,
		.flags			= rd->flags,
	};

	return vfs_rename(&old);
}

#define renamedata compat_renamedata
#define vfs_rename compat_vfs_rename

int start_renaming_dentry(struct renamedata *rd, int lookup_flags, struct dentry *old_dentry,
			  struct qstr *new_last);
void end_renaming(struct renamedata *rd);
#endif /* COMPAT_HAVE_START_CREATING */

#ifndef COMPAT_HAVE_LOOKUP_ONE_QSTR
static inline struct dentry *compat_lookup_one_positive_unlocked(struct mnt_idmap *idmap,
								 struct qstr *name,
								 struct dentry *base)
{
	return lookup_one_positive_unlocked(idmap, name->name, base, name->len);
}

#define lookup_one_positive_unlocked compat_lookup_one_positive_unlocked
#endif /* COMPAT_HAVE_LOOKUP_ONE_QSTR */

#ifndef COMPAT_HAVE_CONST_CTL_TABLE
/* The table is not written to, only the prototype does not say so. */
#define register_sysctl_sz(path, table, size)	\
	register_sysctl_sz(path, (struct ctl_table *)(table), size)
#endif /* COMPAT_HAVE_CONST_CTL_TABLE */

#ifndef COMPAT_HAVE_NETFS_TERM_FUNC2
#include <linux/netfs.h>

/* Only where it is called: the caller may sleep. */
#define netfs_write_subrequest_terminated(op, ret) \
	netfs_write_subrequest_terminated(op, ret, false)
#endif /* COMPAT_HAVE_NETFS_TERM_FUNC2 */

#endif /* _COMPAT_H */
