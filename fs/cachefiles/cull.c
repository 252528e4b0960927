// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the culling daemon asks for: whether something is in use, and to remove it
 * if it is not.  It names things in its working directory.
 */
#include <linux/fs_struct.h>
#include <linux/namei.h>
#include "internal.h"

/* The caller's working directory, if it is in the cache. */
static int cachefiles_cull_get_cwd(struct cachefiles_cache *cache, struct path *cwd)
{
	int ret = 0;

	get_fs_pwd(current->fs, cwd);
	if (!d_can_lookup(cwd->dentry))
		ret = -ENOTDIR;
	else if (cwd->mnt->mnt_sb != cache->mnt->mnt_sb || !is_subdir(cwd->dentry, cache->store))
		ret = -EINVAL;
	if (ret)
		path_put(cwd);
	return ret;
}

/* Errors that the culling daemon knows what to do about; it asks for the same again and again. */
static int cachefiles_cull_error(struct cachefiles_cache *cache, const char *what, int error)
{
	if (cachefiles_was_interrupted(error))
		return -EINTR;
	switch (error) {
	case 0:
	case -ENOMEM:
	case -EBUSY:
		return error;
	case -ENOENT:
	case -ESTALE:
		return -ESTALE;
	case -EIO:
		cachefiles_cache_io_error(cache, what, error);
		return -EIO;
	default:
		pr_err_ratelimited("%s: error %d\n", what, error);
		return -EIO;
	}
}

static int cachefiles_cull_in(struct cachefiles_cache *cache, struct dentry *parent,
			      const char *name)
{
	struct dentry *victim;
	int ret;

	victim = lookup_one_positive_unlocked(&nop_mnt_idmap, &QSTR(name), parent);
	if (IS_ERR(victim))
		return PTR_ERR(victim);

	ret = cachefiles_namei_cull(cache, parent, victim);
	dput(victim);
	return ret;
}

/**
 * cachefiles_cull_remove - Remove something that is not in use
 * @cache: The cache; bound
 * @name: A name without slashes in the caller's working directory
 *
 * Context: May sleep; no lock of the backing file system is held.
 * Return: 0; -EINVAL if the working directory is not in the cache, -ENOTDIR if it is
 * no directory, -ESTALE if there is no such name, -EBUSY if it is in use or there is no
 * room for moving it, -ENOMEM, else -EIO, which is the end of the cache if it is the error
 * of the backing file system.
 */
int cachefiles_cull_remove(struct cachefiles_cache *cache, const char *name)
{
	struct path cwd;
	int ret;

	ret = cachefiles_cull_get_cwd(cache, &cwd);
	if (ret)
		return ret;

	with_cache_creds(cache)
		ret = cachefiles_cull_in(cache, cwd.dentry, name);
	path_put(&cwd);
	if (!ret)
		fscache_count_culled();
	return cachefiles_cull_error(cache, "cull", ret);
}

/**
 * cachefiles_cull_inuse - Tell whether something is in use
 * @cache: The cache; bound
 * @name: A name without slashes in the caller's working directory
 *
 * Context: May sleep; no lock of the backing file system is held.
 * Return: 0 if it is not in use; else as cachefiles_cull_remove().
 */
int cachefiles_cull_inuse(struct cachefiles_cache *cache, const char *name)
{
	struct dentry *dentry;
	struct path cwd;
	int ret;

	ret = cachefiles_cull_get_cwd(cache, &cwd);
	if (ret)
		return ret;

	with_cache_creds(cache) {
		dentry = lookup_one_positive_unlocked(&nop_mnt_idmap, &QSTR(name), cwd.dentry);
		if (IS_ERR(dentry)) {
			ret = PTR_ERR(dentry);
		} else {
			ret = cachefiles_namei_is_marked(dentry) ? -EBUSY : 0;
			dput(dentry);
		}
	}
	path_put(&cwd);
	return cachefiles_cull_error(cache, "inuse", ret);
}
