// SPDX-License-Identifier: GPL-2.0-only
/* The one directory of a mount. */
#include <linux/dcache.h>
#include <linux/fs.h>
#include "internal.h"

/*
 * A name the daemon refuses is not remembered: for -ENOENT the dentry stays
 * negative and unhashed, so the VFS says what befits the operation (-ENOENT, or
 * -EROFS for one that would create the name) and the next lookup asks again.
 * Lookups that came meanwhile for the same name find it unhashed and ask for
 * themselves.
 */
static struct dentry *ondemandfs_lookup(struct inode *dir, struct dentry *dentry,
					unsigned int flags)
{
	struct inode *inode;

	if (dentry->d_name.len > NAME_MAX)
		return ERR_PTR(-ENAMETOOLONG);

	inode = ondemandfs_get_file(dir->i_sb, &dentry->d_name);
	if (inode == ERR_PTR(-ENOENT))
		return NULL;
	return d_splice_alias(inode, dentry);
}

/*
 * Lists the files that are open in the cache right now. The position is the
 * number of the next inode to look at, and a file keeps its number: whatever
 * comes and goes meanwhile, one that is there all the time is listed once.
 */
static int ondemandfs_readdir(struct file *file, struct dir_context *ctx)
{
	struct ondemandfs_sb *sbi = ONDEMANDFS_SB(file_inode(file)->i_sb);
	struct ondemandfs_inode *oi;
	char name[NAME_MAX];
	unsigned long ino;
	u32 len;

	if (!dir_emit_dots(file, ctx))
		return 0;

	while (ctx->pos <= U32_MAX) {
		ino = ctx->pos;
		scoped_guard(rcu) {
			oi = xa_find(&sbi->inodes, &ino, U32_MAX, ONDEMANDFS_OPENED);
			if (!oi)
				return 0;
			len = oi->name_len;
			memcpy(name, oi->name, len);
		}
		ctx->pos = ino;
		if (!dir_emit(ctx, name, len, ino, DT_REG))
			return 0;
		ctx->pos = (loff_t)ino + 1;
	}
	return 0;
}

const struct file_operations ondemandfs_dir_fops = {
	.llseek		= generic_file_llseek,
	.read		= generic_read_dir,
	.iterate_shared	= ondemandfs_readdir,
};

const struct inode_operations ondemandfs_dir_iops = {
	.lookup		= ondemandfs_lookup,
};
