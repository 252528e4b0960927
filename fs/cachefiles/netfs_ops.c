// SPDX-License-Identifier: GPL-2.0-only
/*
 * What fscache and the netfs library get to call, and the operations by which the
 * library writes: what is written to a server, or was downloaded from one, goes to the
 * cache as well.
 */
#include <linux/bio.h>
#include <linux/fscache-cache.h>
#include "internal.h"

static void cachefiles_netfs_prepare_write_subreq(struct netfs_io_subrequest *subreq)
{
	struct netfs_io_request *rreq = subreq->rreq;
	struct netfs_cache_resources *cres = &rreq->cache_resources;
	struct netfs_io_stream *stream = &rreq->io_streams[subreq->stream_nr];

	stream->sreq_max_len = MAX_RW_COUNT;
	stream->sreq_max_segs = BIO_MAX_VECS;
	if (cachefiles_cres_object(cres)->od || !cachefiles_cres_file(cres, FSCACHE_WANT_WRITE)) {
		subreq->error = -ENOBUFS;
		netfs_prepare_write_failed(subreq);
	}
}

/* Is anything of @subreq what the netfs has read, rather than written? */
static bool cachefiles_netfs_has_copies(const struct netfs_io_subrequest *subreq)
{
	struct address_space *mapping = subreq->rreq->mapping;
	pgoff_t last = (subreq->start + subreq->len - 1) >> PAGE_SHIFT;
	XA_STATE(xas, &mapping->i_pages, subreq->start >> PAGE_SHIFT);
	struct folio *folio;

	/* They are being written back, and stay. */
	guard(rcu)();
	xas_for_each(&xas, folio, last) {
		if (xas_retry(&xas, folio) || xa_is_value(folio))
			continue;
		if (folio_get_private(folio) == NETFS_FOLIO_COPY_TO_CACHE)
			return true;
	}
	return false;
}

/*
 * The netfs asks for an invalidation, and only then drops what it has read, or even has it
 * written back.  Who stores it begins after the invalidation.
 */
static bool cachefiles_netfs_is_old_copy(const struct netfs_io_subrequest *subreq,
					 struct cachefiles_object *object)
{
	switch (subreq->rreq->origin) {
	case NETFS_PGPRIV2_COPY_TO_CACHE:
		/* Part of a read, which goes on until this is issued. */
		return cachefiles_object_has_old_ops(object);
	case NETFS_WRITEBACK:
		return READ_ONCE(object->old_copies) && cachefiles_netfs_has_copies(subreq);
	default:
		return false;
	}
}

/*
 * Cuts @subreq to whole granules, from @start to @end.  What it means to change
 * elsewhere is missing from the cache from now on, and counts as done; all of it if that
 * is not to be stored.  But the last granule of a file can be written if the pages have
 * room for it.
 */
static void cachefiles_netfs_align(struct netfs_io_subrequest *subreq,
				   struct cachefiles_object *object, struct file *file,
				   loff_t *start, loff_t *end)
{
	struct netfs_io_request *rreq = subreq->rreq;
	size_t room = rreq->io_streams[subreq->stream_nr].submit_extendable_to;
	loff_t from = subreq->start + subreq->transferred;
	loff_t to = subreq->start + subreq->len;
	size_t pad = round_up(to, CACHEFILES_GRANULE) - to;

	*start = round_up(from, CACHEFILES_GRANULE);
	*end = round_down(to, CACHEFILES_GRANULE);
	if (pad && to == rreq->i_size && pad <= room && *start <= *end) {
		subreq->len += pad;
		*end = to = to + pad;
	}
	if (*start >= *end || cachefiles_netfs_is_old_copy(subreq, object)) {
		*start = *end = to;
		cachefiles_presence_forget(object, file, from, to);
		subreq->transferred = subreq->len;
	} else {
		if (from < *start)
			cachefiles_presence_forget(object, file, from, *start);
		if (*end < to)
			cachefiles_presence_forget(object, file, *end, to);
		subreq->transferred += *start - from + (to - *end);
	}
	if (from < *start || *end < to)
		fscache_count_dio_misfit();
	iov_iter_reexpand(&subreq->io_iter, to - from);
	iov_iter_advance(&subreq->io_iter, *start - from);
	iov_iter_truncate(&subreq->io_iter, *end - *start);
}

static void cachefiles_netfs_issue_write(struct netfs_io_subrequest *subreq)
{
	struct netfs_cache_resources *cres = &subreq->rreq->cache_resources;
	struct cachefiles_object *object = cachefiles_cres_object(cres);
	struct file *file = NULL;
	loff_t start, end;

	if (!object->od)
		file = cachefiles_cres_file(cres, FSCACHE_WANT_WRITE);
	if (!file) {
		netfs_write_subrequest_terminated(subreq, -ENOBUFS);
		return;
	}
	cachefiles_netfs_align(subreq, object, file, &start, &end);
	if (start == end)
		netfs_write_subrequest_terminated(subreq, 0);
	else
		cachefiles_io_write_async(object, file, start, &subreq->io_iter,
					  netfs_write_subrequest_terminated, subreq);
}

/*
 * There is nothing to expand a read-ahead to: a granule is never larger than a page.
 */
const struct netfs_cache_ops cachefiles_netfs_ops = {
	.end_operation		= cachefiles_netfs_end_operation,
	.read			= cachefiles_netfs_read,
	.write			= cachefiles_netfs_write,
	.issue_write		= cachefiles_netfs_issue_write,
	.prepare_read		= cachefiles_netfs_prepare_read,
	.prepare_write_subreq	= cachefiles_netfs_prepare_write_subreq,
	.prepare_write		= cachefiles_netfs_prepare_write,
	.query_occupancy	= cachefiles_netfs_query_occupancy,
};
