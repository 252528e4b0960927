// SPDX-License-Identifier: GPL-2.0-only
/*
 * Stands in for fs/cachefiles/netfs.c where completions are told whether they are
 * called asynchronously, a read from the cache is repeated from the server if it
 * brings nothing but not if it brings an error, and EROFS has an entry of its own.
 */
#include "internal.h"

static bool compat_netfs_begin(struct netfs_cache_resources *cres,
			       enum fscache_want_state want);

#define cachefiles_netfs_begin compat_netfs_begin
/* Only where they are called: true is right in any context. */
#define term_func(priv, ret) term_func(priv, ret, true)
#define read_func(priv, ret) read_func(priv, max_t(ssize_t, ret, 0), true)

#include "netfs.c"

#undef cachefiles_netfs_begin

static enum netfs_io_source
compat_netfs_prepare_ondemand_read(struct netfs_cache_resources *cres, loff_t start,
				   size_t *len, loff_t i_size, unsigned long *flags, ino_t ino)
{
	if (start >= i_size)
		return NETFS_FILL_WITH_ZEROES;
	if (!cachefiles_cres_object(cres)->od)
		return NETFS_DOWNLOAD_FROM_SERVER;
	cachefiles_netfs_slice_ondemand(start, len);
	return NETFS_READ_FROM_CACHE;
}

static const struct netfs_cache_ops compat_netfs_ops = {
	.end_operation		= cachefiles_netfs_end_operation,
	.read			= cachefiles_netfs_read,
	.write			= cachefiles_netfs_write,
	.issue_write		= cachefiles_netfs_issue_write,
	.prepare_read		= cachefiles_netfs_prepare_read,
	.prepare_ondemand_read	= compat_netfs_prepare_ondemand_read,
	.prepare_write_subreq	= cachefiles_netfs_prepare_write_subreq,
	.prepare_write		= cachefiles_netfs_prepare_write,
	.query_occupancy	= cachefiles_netfs_query_occupancy,
};

/* As the original, with the operations above. */
bool cachefiles_netfs_begin(struct netfs_cache_resources *cres, enum fscache_want_state want)
{
	bool begun = compat_netfs_begin(cres, want);

	cres->ops = &compat_netfs_ops;
	return begun;
}
