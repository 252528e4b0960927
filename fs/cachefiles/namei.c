// SPDX-License-Identifier: GPL-2.0-only
/*
 * Names in the backing file system: finding, making and removing them.
 *
 * Everything here runs with the credentials of the cache, takes write access to
 * the mount before it locks a directory, and holds no lock when it returns.
 *
 * Inodes in use are marked with S_KERNEL_FILE, under their own lock.  The VFS
 * refuses to remove a directory that is marked, the cull command refuses to
 * remove anything, and a second user is refused as well.  The mark of the cull
 * command itself comes and goes while the directory is locked for writing: who
 * finds something marked looks once more with that lock, and is not refused what
 * is gone in a moment.
 */
#include <linux/fadvise.h>
#include <linux/file.h>
#include <linux/lockdep.h>
#include <linux/pagemap.h>
#include <linux/security.h>
#include <linux/stat.h>
#include <linux/timekeeping.h>
#include "delay.h"
#include "internal.h"
#include "vfs.h"

/* How often something is tried again that somebody else has interfered with. */
#define CACHEFILES_NAMEI_TRIES	8

/* How many names in the graveyard may be taken; one try costs a look-up. */
#define CACHEFILES_GRAVE_TRIES	10000

#ifdef CONFIG_LOCKDEP
static struct lock_class_key cachefiles_file_key;
static const char *cachefiles_usual_name;

/*
 * A file of a cache is locked inside the invalidate lock of whoever reads ahead from it.
 * Any other file of its file system may be written from a mapping of what is read so, which
 * takes these locks the other way round.  The two never meet in one file: what is written
 * to a cache is no user memory that could still fault.  So while it is marked, a file is of
 * a class of its own; the name has to be the very one that the other class was made with.
 */
static void cachefiles_namei_set_class(struct inode *inode, bool marked)
{
	struct lock_class_key *usual = &inode->i_sb->s_type->i_mutex_key;

	lockdep_assert_held_write(&inode->i_rwsem);
	if (!S_ISREG(inode->i_mode))
		return;
	if (marked && lockdep_match_class(&inode->i_rwsem, usual)) {
		WRITE_ONCE(cachefiles_usual_name, inode->i_rwsem.dep_map.name);
		lock_set_class(&inode->i_rwsem.dep_map, "cachefiles_file", &cachefiles_file_key,
			       0, _THIS_IP_);
	} else if (!marked && lockdep_match_class(&inode->i_rwsem, &cachefiles_file_key)) {
		lock_set_class(&inode->i_rwsem.dep_map, READ_ONCE(cachefiles_usual_name), usual,
			       0, _THIS_IP_);
	}
}
#else
static void cachefiles_namei_set_class(struct inode *inode, bool marked) { }
#endif

/**
 * cachefiles_namei_is_marked - Is something in use?
 * @dentry: A positive entry
 *
 * Context: Any; unless the lock of the inode is held, the answer may be out of date.
 * Return: True if it is marked.
 */
bool cachefiles_namei_is_marked(struct dentry *dentry)
{
	return READ_ONCE(d_inode(dentry)->i_flags) & S_KERNEL_FILE;
}

/* Marks something as in use, or returns false if it is already. */
static bool cachefiles_namei_mark(struct dentry *dentry)
{
	struct inode *inode = d_inode(dentry);
	bool marked;

	inode_lock(inode);
	marked = !cachefiles_namei_is_marked(dentry);
	if (marked) {
		inode_set_flags(inode, S_KERNEL_FILE, S_KERNEL_FILE);
		cachefiles_namei_set_class(inode, true);
	}
	inode_unlock(inode);
	return marked;
}

static void cachefiles_namei_unmark(struct dentry *dentry)
{
	struct inode *inode = d_inode(dentry);

	inode_lock(inode);
	/* Whoever lets go of something twice has taken the mark of somebody else. */
	WARN_ON_ONCE(!cachefiles_namei_is_marked(dentry));
	cachefiles_namei_set_class(inode, false);
	inode_set_flags(inode, 0, S_KERNEL_FILE);
	inode_unlock(inode);
}

/* Marks what was found without locks: if it is being culled, after that. */
static bool cachefiles_namei_claim(struct dentry *parent, struct dentry *dentry)
{
	struct inode *dir = d_inode(parent);
	bool marked = cachefiles_namei_mark(dentry);

	if (!marked) {
		cachefiles_delay(CACHEFILES_DELAY_MARKED);
		inode_lock_shared_nested(dir, I_MUTEX_PARENT);
		marked = cachefiles_namei_mark(dentry);
		inode_unlock_shared(dir);
	}
	return marked;
}

static int cachefiles_namei_error(struct cachefiles_cache *cache, const char *what, int error)
{
	if (error == -EIO)
		cachefiles_cache_io_error(cache, what, error);
	return error;
}

/* Can the cache work with the directory? */
static int cachefiles_namei_check_dir(struct dentry *dentry)
{
	const struct inode *inode = d_inode(dentry);

	if (!d_can_lookup(dentry))
		return -EIO;
	/* Names in a cache may differ in nothing but case. */
	if (IS_CASEFOLDED(inode)) {
		pr_err_ratelimited("Directory %pd ignores case: not used\n", dentry);
		return -EOPNOTSUPP;
	}
	if (!(inode->i_opflags & IOP_XATTR) || !inode->i_op->lookup || !inode->i_op->mkdir ||
	    !inode->i_op->rename || !inode->i_op->rmdir || !inode->i_op->unlink)
		return -EPERM;
	return 0;
}

/* Makes a directory unless there is something by now; the caller looks it up again. */
static int cachefiles_namei_mkdir(struct cachefiles_cache *cache, struct dentry *parent,
				  const char *name, bool *is_new)
{
	struct path path = { .mnt = cache->mnt, .dentry = parent };
	struct dentry *dentry;
	int ret;

	ret = cachefiles_space_begin_create(cache);
	if (ret)
		return ret;
	ret = mnt_want_write(cache->mnt);
	if (ret)
		goto out;

	dentry = start_creating(&nop_mnt_idmap, parent, &QSTR(name));
	if (!IS_ERR(dentry) && d_is_negative(dentry)) {
		ret = security_path_mkdir(&path, dentry, 0700);
		if (!ret) {
			dentry = cachefiles_vfs_mkdir(parent, dentry);
			*is_new = !IS_ERR(dentry);
		}
	}
	if (IS_ERR(dentry))
		ret = PTR_ERR(dentry);
	end_creating(dentry);
	mnt_drop_write(cache->mnt);
out:
	cachefiles_space_end_create(cache);
	return ret;
}

/*
 * Marks a directory that was found without locks; -EAGAIN if it was removed or
 * moved meanwhile.
 */
static int cachefiles_namei_claim_dir(struct dentry *parent, struct dentry *dentry)
{
	int ret;

	if (!cachefiles_namei_claim(parent, dentry))
		return -EBUSY;

	ret = cachefiles_namei_check_dir(dentry);
	if (!ret && (IS_DEADDIR(d_inode(dentry)) || d_unhashed(dentry) ||
		     READ_ONCE(dentry->d_parent) != parent))
		ret = -EAGAIN;
	if (ret)
		cachefiles_namei_unmark(dentry);
	return ret;
}

static struct dentry *cachefiles_namei_find_dir(struct cachefiles_cache *cache,
						struct dentry *parent, const char *name,
						bool make, bool *is_new)
{
	struct dentry *dentry;
	unsigned int tries;
	int ret = -EAGAIN;

	*is_new = false;
	for (tries = 0; tries < CACHEFILES_NAMEI_TRIES; tries++) {
		dentry = lookup_one_positive_unlocked(&nop_mnt_idmap, &QSTR(name), parent);
		if (!IS_ERR(dentry)) {
			ret = cachefiles_namei_claim_dir(parent, dentry);
			if (!ret)
				return dentry;
			dput(dentry);
		} else {
			ret = PTR_ERR(dentry);
			if (ret == -ENOENT && make) {
				ret = cachefiles_namei_mkdir(cache, parent, name, is_new);
				if (!ret)
					ret = -EAGAIN;
			}
			cachefiles_namei_error(cache, "making a directory", ret);
		}
		if (ret != -EAGAIN)
			break;
	}
	return ERR_PTR(ret);
}

/**
 * cachefiles_namei_get_dir - Find or make a directory, and mark it in use
 * @cache: The cache
 * @parent: Where it is; in use
 * @name: Its name
 * @make: Make it if it is not there
 * @is_new: Where to tell whether the directory was made here, or NULL
 *
 * Context: May sleep; no lock of the backing file system is held.  Unless it has to
 * be made, does not wait for the backing file system to be thawed.
 * Return: The directory, to be returned with cachefiles_namei_put_dir(); -ENOENT if
 * it is not there, -EBUSY if it is in use already, -EIO if it is something else
 * than a directory, -EPERM if it lacks operations, -EOPNOTSUPP, after saying so in the
 * log, if it takes names for others, -ENOBUFS if there is too little
 * space to make one, or an error of the backing file system.
 */
struct dentry *cachefiles_namei_get_dir(struct cachefiles_cache *cache, struct dentry *parent,
					const char *name, bool make, bool *is_new)
{
	struct dentry *dentry = NULL;
	bool dummy;

	with_cache_creds(cache)
		dentry = cachefiles_namei_find_dir(cache, parent, name, make, is_new ?: &dummy);
	return dentry;
}

/**
 * cachefiles_namei_make_dir - See to it that a directory is there
 * @cache: The cache
 * @parent: Where it is to be; in use
 * @name: Its name
 *
 * Context: May sleep, and waits for the backing file system to be thawed; no lock of it is
 * held.
 * Return: 0; -ENOBUFS if there is too little space; or an error of the backing file system.
 */
int cachefiles_namei_make_dir(struct cachefiles_cache *cache, struct dentry *parent,
			      const char *name)
{
	bool dummy;
	int ret = 0;

	with_cache_creds(cache) {
		ret = cachefiles_namei_mkdir(cache, parent, name, &dummy);
		cachefiles_namei_error(cache, "making a directory", ret);
	}
	return ret;
}

/**
 * cachefiles_namei_ignores_case - Does the file system take names for others?
 * @cache: The cache; its root and store are open
 *
 * Some do so everywhere, and not just in directories that are made for it.
 *
 * Context: May sleep; no lock of the backing file system is held.
 * Return: True if the store is found by another name.
 */
bool cachefiles_namei_ignores_case(struct cachefiles_cache *cache)
{
	struct dentry *dentry = NULL;
	bool same;

	with_cache_creds(cache)
		dentry = lookup_one_positive_unlocked(&nop_mnt_idmap, &QSTR("CACHE"),
						      cache->root);
	if (IS_ERR(dentry))
		return false;
	same = d_inode(dentry) == d_inode(cache->store);
	dput(dentry);
	return same;
}

/**
 * cachefiles_namei_put_dir - Return a directory
 * @dentry: What cachefiles_namei_get_dir() has returned, or NULL
 *
 * Context: May sleep; no lock of the backing file system is held.
 */
void cachefiles_namei_put_dir(struct dentry *dentry)
{
	if (dentry) {
		cachefiles_namei_unmark(dentry);
		dput(dentry);
	}
}

/**
 * cachefiles_namei_fanout - Find the directory where an object's file belongs
 * @object: The object
 * @make: Make it if it is not there
 *
 * Context: May sleep; no lock of the backing file system is held.
 * Return: As cachefiles_volume_fanout().
 */
struct dentry *cachefiles_namei_fanout(struct cachefiles_object *object, bool make)
{
	return cachefiles_volume_fanout(object->volume, object->cookie->key_hash, make);
}

static int cachefiles_namei_check_file(struct file *file)
{
	if (!file->f_op->read_iter || !file->f_op->write_iter ||
	    !(file->f_mode & FMODE_CAN_ODIRECT))
		return -EOPNOTSUPP;
	return 0;
}

/*
 * Only the atime tells of use.  And nothing is read ahead, nor in the file that one of a
 * stacked file system has below: what is read where nothing was written becomes pages of
 * zeros, which file systems with extents that are allocated and not written would take for
 * data.
 */
static void cachefiles_namei_set_mode(struct file *file)
{
	file->f_mode |= FMODE_NOCMTIME;
	vfs_fadvise(file, 0, 0, POSIX_FADV_RANDOM);
	file->f_ra.ra_pages = 0;
}

/*
 * A file that overlayfs has copied from a lower layer just because it was opened: that does
 * not keep the holes.  So it goes, for good if need be.
 */
static int cachefiles_namei_discard_copy(struct cachefiles_cache *cache, struct dentry *parent,
					 struct file *file)
{
	int ret = cachefiles_namei_bury(cache, parent, file->f_path.dentry);

	return ret ?: vfs_fsync(file, 0) ?: -ENOENT;
}

/* Opens a file that is marked. */
static struct file *cachefiles_namei_open_marked(struct cachefiles_cache *cache,
						 struct dentry *parent, struct dentry *dentry)
{
	struct path path = { .mnt = cache->mnt, .dentry = dentry };
	struct inode *real = d_real_inode(dentry);
	struct file *file;
	int ret;

	/* An unlink that came before the mark has won. */
	if (d_unhashed(dentry))
		return ERR_PTR(-ENOENT);

	file = cachefiles_vfs_open(&path, cache->cred);
	if (IS_ERR(file))
		return file;

	ret = cachefiles_namei_check_file(file);
	if (!ret && cachefiles_vfs_inode(file) != real)
		ret = cachefiles_namei_discard_copy(cache, parent, file);
	if (ret) {
		fput(file);
		return ERR_PTR(ret);
	}
	cachefiles_namei_set_mode(file);
	/* Likewise, if somebody has read it who has nothing to do with the cache. */
	vfs_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
	touch_atime(&file->f_path);
	return file;
}

static struct file *cachefiles_namei_open_name(struct cachefiles_object *object,
					       struct dentry *fanout)
{
	struct cachefiles_cache *cache = cachefiles_object_cache(object);
	struct dentry *dentry;
	struct file *file;
	int ret;

	dentry = lookup_one_positive_unlocked(&nop_mnt_idmap, &QSTR(object->name), fanout);
	if (IS_ERR(dentry))
		return ERR_CAST(dentry);

	if (!d_is_reg(dentry)) {
		ret = cachefiles_namei_bury(cache, fanout, dentry);
		file = ERR_PTR(ret ?: -ENOENT);
	} else if (!cachefiles_namei_claim(fanout, dentry)) {
		file = ERR_PTR(-EBUSY);
	} else {
		file = cachefiles_namei_open_marked(cache, fanout, dentry);
		if (IS_ERR(file))
			cachefiles_namei_unmark(dentry);
	}
	dput(dentry);
	return file;
}

/**
 * cachefiles_namei_open - Open the backing file that has an object's name
 * @object: The object
 *
 * What is no regular file is moved out of the way.
 *
 * Context: May sleep; no lock of the backing file system is held.  Does not wait for
 * the backing file system to be thawed, unless there is something to be moved.
 * Return: The file, marked in use, for cachefiles_namei_release(); -ENOENT if there
 * is none, -EBUSY if it is in use already, -EOPNOTSUPP if it can't be used, -EIO
 * after the end of the cache, or another error of the backing file system.
 */
struct file *cachefiles_namei_open(struct cachefiles_object *object)
{
	struct cachefiles_cache *cache = cachefiles_object_cache(object);
	struct dentry *fanout;
	struct file *file = NULL;
	int ret;

	fanout = cachefiles_namei_fanout(object, false);
	if (IS_ERR(fanout))
		return ERR_CAST(fanout);

	with_cache_creds(cache)
		file = cachefiles_namei_open_name(object, fanout);
	ret = PTR_ERR_OR_ZERO(file);
	if (ret)
		cachefiles_namei_error(cache, "opening a file", ret);
	return file;
}

/**
 * cachefiles_namei_tmpfile - Make a file without a name
 * @cache: The cache
 * @dir: Directory of the cache where cachefiles_namei_link() can link it
 *
 * Context: May sleep; no lock of the backing file system is held.
 * Return: The file, marked in use, for cachefiles_namei_release(); -ENOBUFS if
 * space is short, -EOPNOTSUPP if it can't be used, -EIO after the end of the
 * cache, or another error.
 */
struct file *cachefiles_namei_tmpfile(struct cachefiles_cache *cache, struct dentry *dir)
{
	struct path parent = { .mnt = cache->mnt, .dentry = dir };
	struct file *file = NULL;
	int ret;

	ret = cachefiles_space_begin_create(cache);
	if (ret)
		return ERR_PTR(ret);
	cachefiles_delay(CACHEFILES_DELAY_CREATE);
	ret = mnt_want_write(cache->mnt);
	if (!ret) {
		with_cache_creds(cache)
			file = cachefiles_vfs_tmpfile(&parent, cache->cred);
		mnt_drop_write(cache->mnt);
	}
	cachefiles_space_end_create(cache);
	if (ret)
		return ERR_PTR(ret);
	ret = PTR_ERR_OR_ZERO(file);
	if (ret) {
		cachefiles_namei_error(cache, "making a temporary file", ret);
		return file;
	}

	ret = cachefiles_namei_check_file(file);
	if (!ret && !cachefiles_namei_mark(file->f_path.dentry))
		ret = -EBUSY;
	if (ret) {
		fput(file);
		return ERR_PTR(ret);
	}
	cachefiles_namei_set_mode(file);
	return file;
}

/*
 * Removes an entry that is no directory; the directory is locked.  If it must not be, that is
 * the end of the cache, unless it is only to be culled.
 */
static int cachefiles_namei_unlink_locked(struct cachefiles_cache *cache, struct dentry *parent,
					  struct dentry *dentry, bool cull)
{
	struct path path = { .mnt = cache->mnt, .dentry = parent };
	int ret;

	ret = security_path_unlink(&path, dentry);
	if (ret && cull)
		return ret;
	if (ret) {
		cachefiles_cache_io_error(cache, "removing a file is forbidden", ret);
		return -EIO;
	}
	ret = cachefiles_vfs_unlink(parent, dentry);
	return cachefiles_namei_error(cache, "removing a file", ret);
}

/*
 * One attempt to link @file in @fanout.  -EAGAIN if a stale file had to be removed
 * first, -EISDIR if a directory is in the way.
 */
static int cachefiles_namei_link_locked(struct cachefiles_object *object, struct dentry *fanout,
					struct dentry *dentry, struct file *file)
{
	struct cachefiles_cache *cache = cachefiles_object_cache(object);
	int ret;

	if (d_is_negative(dentry))
		return cachefiles_vfs_link(file->f_path.dentry, fanout, dentry);
	if (d_inode(dentry) == file_inode(file))
		return 0;
	if (d_is_dir(dentry))
		return -EISDIR;
	if (cachefiles_namei_is_marked(dentry))
		return -EBUSY;
	ret = cachefiles_namei_unlink_locked(cache, fanout, dentry, false);
	return ret ?: -EAGAIN;
}

/* The same; @victim is the directory, if there is one. */
static int cachefiles_namei_link_name(struct cachefiles_object *object, struct dentry *fanout,
				      struct file *file, struct dentry **victim)
{
	struct dentry *dentry;
	int ret;

	dentry = start_creating(&nop_mnt_idmap, fanout, &QSTR(object->name));
	if (IS_ERR(dentry))
		return PTR_ERR(dentry);
	ret = cachefiles_namei_link_locked(object, fanout, dentry, file);
	if (ret == -EISDIR)
		*victim = dget(dentry);
	end_creating(dentry);
	return ret;
}

/**
 * cachefiles_namei_link - Give a temporary file its object's name
 * @object: The object
 * @file: What cachefiles_namei_tmpfile() has returned
 * @replaces: Set if something of that name had to be removed, also if this fails
 *
 * A stale file of that name is removed.  Whatever makes the new one credible must
 * be on it already.
 *
 * Context: May sleep; no lock of the backing file system is held.
 * Return: 0, also if it has the name already; -EBUSY if the file that has the name
 * is in use, -EIO after the end of the cache, or another error.
 */
int cachefiles_namei_link(struct cachefiles_object *object, struct file *file, bool *replaces)
{
	struct cachefiles_cache *cache = cachefiles_object_cache(object);
	struct dentry *fanout;
	unsigned int tries;
	int ret = -EAGAIN;

	fanout = cachefiles_namei_fanout(object, true);
	if (IS_ERR(fanout))
		return PTR_ERR(fanout);

	for (tries = 0; ret == -EAGAIN && tries < CACHEFILES_NAMEI_TRIES; tries++) {
		struct dentry *victim = NULL;

		ret = mnt_want_write(cache->mnt);
		if (ret)
			return ret;
		with_cache_creds(cache)
			ret = cachefiles_namei_link_name(object, fanout, file, &victim);
		mnt_drop_write(cache->mnt);

		*replaces |= ret == -EAGAIN;
		/* Takes write access itself: twice, and a freeze in between never ends. */
		if (victim) {
			ret = cachefiles_namei_bury(cache, fanout, victim) ?: -EAGAIN;
			dput(victim);
		}
	}
	return cachefiles_namei_error(cache, "linking a file", ret);
}

/**
 * cachefiles_namei_release - Close a backing file
 * @cache: The cache
 * @file: The file; the reference is consumed
 * @named: The file has a name and can be culled from now on
 *
 * Context: May sleep; no lock of the backing file system is held.
 */
void cachefiles_namei_release(struct cachefiles_cache *cache, struct file *file, bool named)
{
	struct kstat stat = {};

	cachefiles_namei_unmark(file->f_path.dentry);
	if (named) {
		/* If there is no telling, it has no size but counts. */
		vfs_getattr(&file->f_path, &stat, STATX_BLOCKS, AT_STATX_DONT_SYNC);
		cachefiles_stat_released(cache, stat.blocks);
	}
	/* At once: in a worker fput() leaves it for later, and the mount stays busy. */
	if (current->flags & PF_KTHREAD)
		__fput_sync(file);
	else
		fput(file);
}

/**
 * cachefiles_namei_unlink - Take an object's name from a backing file
 * @object: The object
 * @file: The file; it stays open
 *
 * Context: May sleep; no lock of the backing file system is held.
 * Return: 0, also if the name belongs to no file or to another; -EIO after the end
 * of the cache, or another error.
 */
int cachefiles_namei_unlink(struct cachefiles_object *object, struct file *file)
{
	struct cachefiles_cache *cache = cachefiles_object_cache(object);
	struct dentry *fanout;
	int ret;

	fanout = cachefiles_namei_fanout(object, false);
	if (IS_ERR(fanout))
		return fanout == ERR_PTR(-ENOENT) ? 0 : PTR_ERR(fanout);

	ret = mnt_want_write(cache->mnt);
	if (ret)
		return ret;
	with_cache_creds(cache) {
		struct dentry *dentry;

		dentry = start_removing(&nop_mnt_idmap, fanout, &QSTR(object->name));
		if (IS_ERR(dentry))
			ret = PTR_ERR(dentry);
		else if (d_inode(dentry) == file_inode(file))
			ret = cachefiles_namei_unlink_locked(cache, fanout, dentry, false);
		end_removing(dentry);
	}
	mnt_drop_write(cache->mnt);
	return ret == -ENOENT ? 0 : cachefiles_namei_error(cache, "removing a file", ret);
}

/*
 * Moves a directory whose parent and the graveyard are locked.  Only one that is not in use
 * if it is to be culled.
 */
static int cachefiles_namei_rename_locked(struct cachefiles_cache *cache, struct renamedata *rd,
					  bool cull)
{
	struct path old = { .mnt = cache->mnt, .dentry = rd->old_parent };
	struct path grave = { .mnt = cache->mnt, .dentry = rd->new_parent };
	int ret;

	if (d_is_positive(rd->new_dentry))
		return -EEXIST;
	ret = security_path_rename(&old, rd->old_dentry, &grave, rd->new_dentry, 0);
	if (!ret && cull && !cachefiles_namei_mark(rd->old_dentry))
		ret = -EBUSY;
	if (!ret) {
		cachefiles_delay(CACHEFILES_DELAY_BURY);
		ret = cachefiles_vfs_rename(rd);
		if (cull)
			cachefiles_namei_unmark(rd->old_dentry);
	}
	return ret;
}

/* Moves a directory to the graveyard under a name that is not taken. */
static int cachefiles_namei_bury_dir(struct cachefiles_cache *cache, struct dentry *parent,
				     struct dentry *victim, bool cull)
{
	char name[sizeof("0123456789abcdef")];
	unsigned int tries;
	int ret = -EEXIST;

	for (tries = 0; ret == -EEXIST && tries < CACHEFILES_GRAVE_TRIES; tries++) {
		struct renamedata rd = {
			.mnt_idmap	= &nop_mnt_idmap,
			.old_parent	= parent,
			.new_parent	= cache->graveyard,
		};

		snprintf(name, sizeof(name), "%08x%08x", (u32)ktime_get_real_seconds(),
			 (u32)atomic_inc_return(&cache->grave_counter));
		ret = start_renaming_dentry(&rd, 0, victim, &QSTR(name));
		if (ret)
			return ret;
		ret = cachefiles_namei_rename_locked(cache, &rd, cull);
		end_renaming(&rd);
	}
	return ret;
}

static int cachefiles_namei_bury_file(struct cachefiles_cache *cache, struct dentry *parent,
				      struct dentry *victim, bool cull)
{
	struct dentry *dentry;
	int ret = -EBUSY;

	dentry = start_removing_dentry(parent, victim);
	if (IS_ERR(dentry))
		return PTR_ERR(dentry);
	if (!cull || cachefiles_namei_mark(dentry)) {
		cachefiles_delay(CACHEFILES_DELAY_BURY);
		ret = cachefiles_namei_unlink_locked(cache, parent, dentry, cull);
		if (cull)
			cachefiles_namei_unmark(dentry);
	}
	end_removing(dentry);
	return ret;
}

static int cachefiles_namei_do_bury(struct cachefiles_cache *cache, struct dentry *parent,
				    struct dentry *victim, bool cull)
{
	int ret;

	ret = mnt_want_write(cache->mnt);
	if (!ret) {
		with_cache_creds(cache) {
			if (d_is_dir(victim))
				ret = cachefiles_namei_bury_dir(cache, parent, victim, cull);
			else
				ret = cachefiles_namei_bury_file(cache, parent, victim, cull);
		}
		mnt_drop_write(cache->mnt);
	}

	if (ret && (d_unhashed(victim) || READ_ONCE(victim->d_parent) != parent))
		return 0;
	/* A name in the graveyard may take space: the culling daemon goes on elsewhere. */
	if (ret == -ENOSPC || ret == -EDQUOT)
		return cull ? -EBUSY : ret;
	/* Nor can overlayfs move each directory. */
	if (ret == -EXDEV)
		return ret;
	if (!ret || ret == -ENOMEM || cachefiles_was_interrupted(ret))
		return ret;
	/* What can't be culled is no harm to anybody, unless the file system is broken. */
	if (cull && ret != -EIO)
		return ret;
	cachefiles_cache_io_error(cache, "moving something out of the cache", ret);
	return -EIO;
}

/**
 * cachefiles_namei_bury - Remove what must not stay in the cache
 * @cache: The cache
 * @parent: Directory in the cache
 * @victim: Its entry; a directory is moved to the graveyard, anything else unlinked
 *
 * A mark on @victim stays, it is the caller's.
 *
 * Context: May sleep; no lock of the backing file system is held.
 * Return: 0, also if @victim has been moved or removed by somebody else; -ENOMEM; -ENOSPC or
 * -EDQUOT if there is no room for a name in the graveyard; -EXDEV if it can't be moved there;
 * an error by which the task was interrupted; -EIO after any other failure, which is the end
 * of the cache.
 */
int cachefiles_namei_bury(struct cachefiles_cache *cache, struct dentry *parent,
			  struct dentry *victim)
{
	return cachefiles_namei_do_bury(cache, parent, victim, false);
}

/**
 * cachefiles_namei_cull - Remove something unless it is in use
 * @cache: The cache
 * @parent: Directory in the cache
 * @victim: Its entry, not marked by the caller; treated as by cachefiles_namei_bury()
 *
 * Context: May sleep; no lock of the backing file system is held.
 * Return: As cachefiles_namei_bury(), but only -EIO is the end of the cache; -EBUSY if @victim
 * is in use, or there is no room for a name in the graveyard; or another error, with which
 * @victim is left alone: it is immutable, say, or must not be removed.
 */
int cachefiles_namei_cull(struct cachefiles_cache *cache, struct dentry *parent,
			  struct dentry *victim)
{
	/* Whoever uses it may have its inode locked for long, and should not stop the others. */
	if (cachefiles_namei_is_marked(victim))
		return -EBUSY;
	return cachefiles_namei_do_bury(cache, parent, victim, true);
}
