// SPDX-License-Identifier: GPL-2.0-only
/* vfs_mkdir() takes a delegation to break, returns the dentry and consumes it on failure. */
#include <linux/fs.h>

struct dentry *probe(struct inode *dir, struct dentry *dentry);
struct dentry *probe(struct inode *dir, struct dentry *dentry)
{
	return vfs_mkdir(&nop_mnt_idmap, dir, dentry, 0700, NULL);
}
