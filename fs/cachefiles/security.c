// SPDX-License-Identifier: GPL-2.0-only
/*
 * Credentials for accesses to the backing file system.
 */
#include <linux/security.h>
#include "internal.h"

/**
 * cachefiles_security_prepare - Make the credentials of a cache
 * @cache: The cache, with or without a security context
 *
 * They are those of the calling task, labelled with the context that the
 * ``secctx`` command gave, if any.
 *
 * Context: May sleep; cache->cmd_mutex is held.
 * Return: A reference on new credentials, -ENOMEM, or the error of the security
 * module.
 */
struct cred *cachefiles_security_prepare(const struct cachefiles_cache *cache)
{
	struct cred *cred;
	int ret;

	lockdep_assert_held(&cache->cmd_mutex);

	cred = prepare_kernel_cred(current);
	if (!cred)
		return ERR_PTR(-ENOMEM);

	if (cache->secid_set) {
		ret = set_security_override(cred, cache->secid);
		if (ret) {
			put_cred(cred);
			return ERR_PTR(ret);
		}
	}
	return cred;
}

/**
 * cachefiles_security_set_creator - Let new files belong to the cache directory's owner
 * @cred: Credentials that nobody uses yet
 * @root: The cache directory
 *
 * Context: May sleep.
 * Return: 0, or the error of the security module, if it forbids to create
 * directories and files in @root.
 */
int cachefiles_security_set_creator(struct cred *cred, struct dentry *root)
{
	struct inode *dir = d_backing_inode(root);
	int ret;

	ret = set_create_files_as(cred, dir);
	if (ret)
		return ret;

	scoped_class(override_creds, old, cred) {
		ret = security_inode_mkdir(dir, root, 0);
		if (!ret)
			ret = security_inode_create(dir, root, 0);
	}
	return ret == -EOPNOTSUPP ? 0 : ret;
}
