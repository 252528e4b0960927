// SPDX-License-Identifier: GPL-2.0-only
/*
 * Stands in for fs/cachefiles/netfs.c where completions are told whether they are
 * called asynchronously, and EROFS has an entry of its own.
 */
#include "internal.h"

static bool compat_netfs_begin(struct netfs_cache_resources *cres,
			       enum fscache_want_state want);

#define cachefiles_netfs_begin compat_netfs_begin
#define netfs_write_subrequest_terminated(op, ret) \
	netfs_write_subrequest_terminated(op, ret, false)
/* Only where it is called: true is right in any context. */
#define term_func(priv, ret) term_func(priv, ret, true)

#include "netfs.c"

#undef cachefiles_netfs_begin

static enum netfs_io_source
compat_netfs_prepare_ondemand_read(struct netfs_cache_resources *cres, loff_t start,
				   size_t *len, loff_t i_size, unsigned long *flags, ino_t ino)
{
	struct netfs_io_subrequest subreq = { .start = start, .len = *len };
	enum netfs_io_source source = cachefiles_netfs_prepare_read(&subreq, i_size);

	*len = subreq.len;
	return source;
}

static const struct netfs_cache_ops compat_netfs_ops = {
	.end_operation		= cachefiles_netfs_end_operation,
	.read			= cachefiles_netfs_read,
	.write			= cachefiles_netfs_write,
	.issue_write		= cachefiles_netfs_issue_write,
	.prepare_read		= cachefiles_netfs_prepare_read,
	.prepare_ondemand_read	= compat_netfs_prepare_ondemand_read,
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
