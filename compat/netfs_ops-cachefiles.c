// SPDX-License-Identifier: GPL-2.0-only
/*
 * Stands in for fs/cachefiles/netfs_ops.c where EROFS has an operation of its own, or
 * where the library does not write.
 */
#include "internal.h"
#include "ondemand.h"

#ifdef COMPAT_HAVE_NETFS_STREAMS

/*
 * @len stays: EROFS completes a bio of compressed data once for each slice of it.  None of
 * its objects is other than on-demand, since they want to be told their size.
 */
static enum netfs_io_source
compat_netfs_prepare_ondemand_read(struct netfs_cache_resources *cres, loff_t start,
				   size_t *len, loff_t i_size, unsigned long *flags, ino_t ino)
{
	return start < i_size ? NETFS_READ_FROM_CACHE : NETFS_FILL_WITH_ZEROES;
}

/* The last one in the table. */
#define cachefiles_netfs_query_occupancy	cachefiles_netfs_query_occupancy, \
	.prepare_ondemand_read = compat_netfs_prepare_ondemand_read

#include "netfs_ops.c"

#else /* COMPAT_HAVE_NETFS_STREAMS */

static enum netfs_io_source compat_netfs_prepare_read(struct netfs_io_subrequest *subreq,
						      loff_t i_size)
{
	return cachefiles_netfs_prepare_read(subreq, i_size);
}

/* The caller has all pages that the range touches. */
static int compat_netfs_prepare_write(struct netfs_cache_resources *cres, loff_t *start,
				      size_t *len, loff_t i_size, bool no_space_allocated_yet)
{
	loff_t end = round_up(*start + *len, PAGE_SIZE);

	*start = round_down(*start, PAGE_SIZE);
	*len = end - *start;
	return cachefiles_netfs_prepare_write(cres, start, len, *len, i_size,
					      no_space_allocated_yet);
}

const struct netfs_cache_ops cachefiles_netfs_ops = {
	.end_operation		= cachefiles_netfs_end_operation,
	.read			= cachefiles_netfs_read,
	.write			= cachefiles_netfs_write,
	.prepare_read		= compat_netfs_prepare_read,
	.prepare_write		= compat_netfs_prepare_write,
	.query_occupancy	= cachefiles_netfs_query_occupancy,
};

#endif /* COMPAT_HAVE_NETFS_STREAMS */
