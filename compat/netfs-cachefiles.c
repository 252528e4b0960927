// SPDX-License-Identifier: GPL-2.0-only
/*
 * Stands in for fs/cachefiles/netfs.c where completion callbacks are told
 * whether they are called asynchronously, and EROFS has an entry of its own.
 */
#include <trace/events/fscache.h>
#include "internal.h"
#include "ondemand.h"

static struct cachefiles_object *cachefiles_cres_object(struct netfs_cache_resources *cres)
{
	return fscache_cres_cookie(cres)->cache_priv;
}

/**
 * cachefiles_netfs_terminated - Tell the netfs that an operation has ended
 * @term_func: What to call.
 * @priv: Its argument.
 * @ret: Bytes or a negative errno.
 *
 * Context: any.
 */
void cachefiles_netfs_terminated(netfs_io_terminated_t term_func, void *priv, ssize_t ret)
{
	if (term_func)
		term_func(priv, ret, true);
}

static void cachefiles_netfs_end_operation(struct netfs_cache_resources *cres)
{
	fscache_end_cookie_access(fscache_cres_cookie(cres), fscache_access_io_end);
}

static int cachefiles_netfs_read(struct netfs_cache_resources *cres, loff_t start_pos,
				 struct iov_iter *iter, enum netfs_read_from_hole read_hole,
				 netfs_io_terminated_t term_func, void *term_func_priv)
{
	fscache_count_read();
	return cachefiles_ondemand_read(cachefiles_cres_object(cres), start_pos, iter,
					cres->inval_counter, term_func, term_func_priv);
}

/*
 * The daemon fills an on-demand object, nobody else.  A write of no length ends
 * what is outstanding.
 */
static int cachefiles_netfs_write(struct netfs_cache_resources *cres, loff_t start_pos,
				  struct iov_iter *iter, netfs_io_terminated_t term_func,
				  void *term_func_priv)
{
	int ret = -ENOBUFS;

	if (!iov_iter_count(iter)) {
		cachefiles_ondemand_cancel(cachefiles_cres_object(cres));
		ret = 0;
	}
	cachefiles_netfs_terminated(term_func, term_func_priv, ret);
	return ret;
}

static void cachefiles_netfs_issue_write(struct netfs_io_subrequest *subreq)
{
	netfs_write_subrequest_terminated(subreq, -ENOBUFS, false);
}

/* Slices end where READs do, so that one that fails takes no other with it. */
static enum netfs_io_source cachefiles_netfs_prepare_read(struct netfs_io_subrequest *subreq,
							  unsigned long long i_size)
{
	size_t room = CACHEFILES_FETCH_MAX - (subreq->start & (CACHEFILES_FETCH_MAX - 1));

	if (subreq->start >= i_size)
		return NETFS_FILL_WITH_ZEROES;
	subreq->len = min(subreq->len, room);
	return NETFS_READ_FROM_CACHE;
}

static enum netfs_io_source
cachefiles_netfs_prepare_ondemand_read(struct netfs_cache_resources *cres, loff_t start,
				       size_t *len, loff_t i_size, unsigned long *flags,
				       ino_t ino)
{
	size_t room = CACHEFILES_FETCH_MAX - (start & (CACHEFILES_FETCH_MAX - 1));

	if (start >= i_size)
		return NETFS_FILL_WITH_ZEROES;
	*len = min(*len, room);
	return NETFS_READ_FROM_CACHE;
}

static int cachefiles_netfs_prepare_write(struct netfs_cache_resources *cres, loff_t *start,
					  size_t *len, size_t upper_len, loff_t i_size,
					  bool no_space_allocated_yet)
{
	return -ENOBUFS;
}

static int cachefiles_netfs_query_occupancy(struct netfs_cache_resources *cres, loff_t start,
					    size_t len, size_t granularity, loff_t *data_start,
					    size_t *data_len)
{
	*data_start = -1;
	*data_len = 0;
	return -ENOBUFS;
}

static const struct netfs_cache_ops cachefiles_netfs_ops = {
	.end_operation		= cachefiles_netfs_end_operation,
	.read			= cachefiles_netfs_read,
	.write			= cachefiles_netfs_write,
	.issue_write		= cachefiles_netfs_issue_write,
	.prepare_read		= cachefiles_netfs_prepare_read,
	.prepare_ondemand_read	= cachefiles_netfs_prepare_ondemand_read,
	.prepare_write		= cachefiles_netfs_prepare_write,
	.query_occupancy	= cachefiles_netfs_query_occupancy,
};

/**
 * cachefiles_netfs_begin - Begin an operation of the netfs
 * @cres: The operation; fscache has taken an access on its cookie.
 * @want: What it is for; an on-demand object is good for everything at any time.
 *
 * Context: any that holds the access; does not sleep.
 * Return: true.
 */
bool cachefiles_netfs_begin(struct netfs_cache_resources *cres, enum fscache_want_state want)
{
	cres->ops = &cachefiles_netfs_ops;
	cres->debug_id = cachefiles_cres_object(cres)->debug_id;
	return true;
}
