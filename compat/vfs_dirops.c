// SPDX-License-Identifier: GPL-2.0-only
/*
 * Brackets around operations on directory entries, for kernels without them:
 * look the entry up and lock its directory, do the operation, unlock and drop.
 */
#include <linux/dcache.h>
#include <linux/fs.h>
#include <linux/namei.h>

/**
 * start_creating - Prepare to create a name
 * @idmap: ID mapping of the mount
 * @parent: The directory
 * @name: The name; its hash need not be valid
 *
 * Return: A reference on the entry, which may be positive, with @parent locked
 * until end_creating(); or an error, and nothing is locked.
 */
struct dentry *start_creating(struct mnt_idmap *idmap, struct dentry *parent, struct qstr *name)
{
	struct dentry *dentry;

	inode_lock_nested(d_inode(parent), I_MUTEX_PARENT);
	dentry = lookup_one(idmap, name->name, parent, name->len);
	if (IS_ERR(dentry))
		inode_unlock(d_inode(parent));
	return dentry;
}

/**
 * start_removing - Prepare to remove a name
 * @idmap: ID mapping of the mount
 * @parent: The directory
 * @name: The name; its hash need not be valid
 *
 * Return: A reference on the entry, which is positive, with @parent locked until
 * end_removing(); or an error, -ENOENT for a missing name, and nothing is locked.
 */
struct dentry *start_removing(struct mnt_idmap *idmap, struct dentry *parent, struct qstr *name)
{
	struct dentry *dentry = start_creating(idmap, parent, name);

	if (!IS_ERR(dentry) && d_is_negative(dentry)) {
		end_dirop(dentry);
		return ERR_PTR(-ENOENT);
	}
	return dentry;
}

/**
 * start_removing_dentry - Prepare to remove a known entry
 * @parent: The directory it was found in
 * @child: The entry
 *
 * Return: Another reference on @child, with @parent locked until end_removing();
 * -EINVAL if the entry has been moved or removed, -ENOENT if it is negative, and
 * nothing is locked.
 */
struct dentry *start_removing_dentry(struct dentry *parent, struct dentry *child)
{
	struct inode *dir = d_inode(parent);
	int ret = 0;

	inode_lock_nested(dir, I_MUTEX_PARENT);
	if (IS_DEADDIR(dir) || child->d_parent != parent || d_unhashed(child))
		ret = -EINVAL;
	else if (d_is_negative(child))
		ret = -ENOENT;
	if (!ret)
		return dget(child);

	inode_unlock(dir);
	return ERR_PTR(ret);
}

/**
 * end_dirop - End what start_creating() or start_removing() has begun
 * @dentry: What they, or vfs_mkdir(), have returned; nothing happens on an error
 */
void end_dirop(struct dentry *dentry)
{
	if (!IS_ERR(dentry)) {
		inode_unlock(d_inode(dentry->d_parent));
		dput(dentry);
	}
}

/**
 * start_renaming_dentry - Prepare to rename a known entry
 * @rd: mnt_idmap, new_parent and flags are set, old_parent may be: then @old_dentry
 *	must be in it.  The other dentries are set here
 * @lookup_flags: Not used
 * @old_dentry: The entry
 * @new_last: The new name; its hash need not be valid
 *
 * Return: 0, with both directories locked until end_renaming(), and the target
 * positive or negative unless RENAME_NOREPLACE or RENAME_EXCHANGE is set; -EXDEV;
 * -EINVAL if @old_dentry was removed or moved, or is an ancestor of the target;
 * -ENOTEMPTY if the target is an ancestor of @old_dentry; or an error of the lookup.
 */
int start_renaming_dentry(struct renamedata *rd, int lookup_flags, struct dentry *old_dentry,
			  struct qstr *new_last)
{
	struct dentry *trap, *target;
	int ret = 0;

	trap = lock_rename_child(old_dentry, rd->new_parent);
	if (IS_ERR(trap))
		return PTR_ERR(trap);

	if (d_unhashed(old_dentry) || (rd->old_parent && rd->old_parent != old_dentry->d_parent)) {
		ret = -EINVAL;
		goto unlock;
	}

	target = lookup_one(rd->mnt_idmap, new_last->name, rd->new_parent, new_last->len);
	if (IS_ERR(target)) {
		ret = PTR_ERR(target);
		goto unlock;
	}

	if (old_dentry == trap)
		ret = -EINVAL;
	else if (target == trap)
		ret = rd->flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
	else if ((rd->flags & RENAME_NOREPLACE) && d_is_positive(target))
		ret = -EEXIST;
	else if ((rd->flags & RENAME_EXCHANGE) && d_is_negative(target))
		ret = -ENOENT;
	if (ret) {
		dput(target);
		goto unlock;
	}

	rd->old_dentry = dget(old_dentry);
	rd->old_parent = dget(old_dentry->d_parent);
	rd->new_dentry = target;
	return 0;

unlock:
	unlock_rename(old_dentry->d_parent, rd->new_parent);
	return ret;
}

/**
 * end_renaming - End what start_renaming_dentry() has begun
 * @rd: As start_renaming_dentry() has left it
 */
void end_renaming(struct renamedata *rd)
{
	unlock_rename(rd->old_parent, rd->new_parent);
	dput(rd->old_dentry);
	dput(rd->new_dentry);
	dput(rd->old_parent);
}
