// SPDX-License-Identifier: GPL-2.0-only
/*
 * The operations that fscache and the netfs library call for I/O.  Nothing but this
 * and netfs_ops.c knows their signatures.
 */
#include <linux/file.h>
#include <trace/events/fscache.h>
#include "internal.h"
#include "ondemand.h"

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
		term_func(priv, ret);
}

/**
 * cachefiles_netfs_read_terminated - Tell the netfs how a read has ended
 * @read_func: What to call.
 * @priv: Its argument.
 * @ret: Bytes or a negative errno.
 *
 * For objects of the original mode: if the read has failed, the netfs asks its
 * server.
 *
 * Context: any.
 */
void cachefiles_netfs_read_terminated(netfs_io_terminated_t read_func, void *priv, ssize_t ret)
{
	if (read_func)
		read_func(priv, ret);
}

/**
 * cachefiles_cres_file - Get the backing file of an operation
 * @cres: The operation, on an object of the original mode.
 * @want: What it is for.
 *
 * The operation keeps the file until its end.  It was begun without waiting, and if
 * the cookie has been invalidated since, there is no file for it.
 *
 * A file that is still to be made may have to wait for the thaw, and the netfs, with pages
 * locked, would hold up the freezing.
 *
 * Context: process, waits for fscache.
 * Return: the file, borrowed; NULL if there is none to be had.
 */
struct file *cachefiles_cres_file(struct netfs_cache_resources *cres, enum fscache_want_state want)
{
	struct cachefiles_cache *cache = cachefiles_object_cache(cachefiles_cres_object(cres));

	if (cres->cache_priv2)
		return cres->cache_priv2;
	if (cachefiles_cache_is_frozen(cache) || !fscache_wait_for_operation(cres, want))
		return NULL;
	return cres->cache_priv2;
}

/**
 * cachefiles_netfs_end_operation - End an operation
 * @cres: The operation.
 *
 * fscache counts the access down, and takes a reference on the cookie for its worker
 * then.  If the cookie is relinquished in between, there is a worker that could free it;
 * but first it withdraws the object, see cachefiles_object_wait_for_leaving().
 *
 * Context: any.
 */
void cachefiles_netfs_end_operation(struct netfs_cache_resources *cres)
{
	struct cachefiles_object *object = cachefiles_cres_object(cres);
	struct file *file = cres->cache_priv2;

	cres->cache_priv2 = NULL;
	if (file)
		fput(file);
	guard(spinlock_irqsave)(&object->leaving);
	if (!object->od)
		cachefiles_object_end_io_locked(object, cres->inval_counter);
	fscache_end_cookie_access(fscache_cres_cookie(cres), fscache_access_io_end);
}

/**
 * cachefiles_netfs_read - Read from the cache
 * @cres: The operation.
 * @start_pos: First byte.
 * @iter: Where the data go.
 * @read_hole: Ignored: what is missing is never made up.
 * @term_func: Called exactly once with the result; NULL to wait.
 * @term_func_priv: Its argument.
 *
 * Context: process; the caller may hold folio locks.
 * Return: 0, -EIOCBQUEUED, or the error.
 */
int cachefiles_netfs_read(struct netfs_cache_resources *cres, loff_t start_pos,
			  struct iov_iter *iter, enum netfs_read_from_hole read_hole,
			  netfs_io_terminated_t term_func, void *term_func_priv)
{
	struct cachefiles_object *object = cachefiles_cres_object(cres);
	struct file *file;

	fscache_count_read();
	if (object->od)
		return cachefiles_ondemand_read(object, start_pos, iter, cres->inval_counter,
						term_func, term_func_priv);

	file = cachefiles_cres_file(cres, FSCACHE_WANT_READ);
	if (!file) {
		cachefiles_netfs_read_terminated(term_func, term_func_priv, -ENOBUFS);
		return -ENOBUFS;
	}
	return cachefiles_io_read_async(object, file, start_pos, iter, cres->inval_counter,
					term_func, term_func_priv);
}

/*
 * The daemon fills an on-demand object, nobody else.  A write of no length ends
 * what is outstanding.
 */
static int cachefiles_netfs_write_ondemand(struct cachefiles_object *object, bool cancel)
{
	if (!cancel)
		return -ENOBUFS;
	cachefiles_ondemand_cancel(object);
	return 0;
}

/**
 * cachefiles_netfs_write - Write to the cache
 * @cres: The operation.
 * @start_pos: First byte.
 * @iter: What to write.
 * @term_func: Called exactly once with the result; NULL to wait.
 * @term_func_priv: Its argument.
 *
 * Context: process; the caller may be writing back.
 * Return: 0, -EIOCBQUEUED, or the error.
 */
int cachefiles_netfs_write(struct netfs_cache_resources *cres, loff_t start_pos,
			   struct iov_iter *iter, netfs_io_terminated_t term_func,
			   void *term_func_priv)
{
	struct cachefiles_object *object = cachefiles_cres_object(cres);
	struct file *file = NULL;
	int ret = -ENOBUFS;

	if (object->od)
		ret = cachefiles_netfs_write_ondemand(object, !iov_iter_count(iter));
	else
		file = cachefiles_cres_file(cres, FSCACHE_WANT_WRITE);
	if (file) {
		if (IS_ALIGNED(start_pos | iov_iter_count(iter), CACHEFILES_GRANULE))
			return cachefiles_io_write_async(object, file, start_pos, iter, term_func,
							 term_func_priv);
		fscache_count_dio_misfit();
		cachefiles_presence_forget(object, file, start_pos,
					   start_pos + iov_iter_count(iter));
		ret = -EINVAL;
	}
	cachefiles_netfs_terminated(term_func, term_func_priv, ret);
	return ret;
}

/* Where to read from, and whether what is downloaded should go to the cache as well. */
static enum netfs_io_source cachefiles_netfs_look(struct netfs_cache_resources *cres,
						  loff_t start, size_t *len, bool *copy)
{
	struct cachefiles_object *object = cachefiles_cres_object(cres);
	struct file *file;

	*copy = true;
	if (test_bit(FSCACHE_COOKIE_NO_DATA_TO_READ, &object->cookie->flags))
		return NETFS_DOWNLOAD_FROM_SERVER;
	file = cachefiles_cres_file(cres, FSCACHE_WANT_READ);
	if (file)
		return cachefiles_io_source(object, file, start, len, copy);
	*copy = false;
	return NETFS_DOWNLOAD_FROM_SERVER;
}

/*
 * What is behind the end of the file, in a folio that begins before it.  It may be
 * here where the netfs looks whether to copy the folio to the cache.
 */
static bool cachefiles_netfs_copies_tail(struct netfs_cache_resources *cres, loff_t start)
{
	size_t len = CACHEFILES_GRANULE;
	bool copy;

	if (IS_ALIGNED(start, CACHEFILES_GRANULE))
		return false;
	cachefiles_netfs_look(cres, round_down(start, CACHEFILES_GRANULE), &len, &copy);
	return copy;
}

/**
 * cachefiles_netfs_prepare_read - Where is a slice to be read from?
 * @subreq: The slice; shortened to what comes from one source.
 * @i_size: Size of the netfs's file, in bytes.
 *
 * Context: process, with folio locks; does not wait for the daemon.
 * Return: the source.
 */
enum netfs_io_source cachefiles_netfs_prepare_read(struct netfs_io_subrequest *subreq,
						   unsigned long long i_size)
{
	struct netfs_cache_resources *cres = &subreq->rreq->cache_resources;
	bool ondemand = cachefiles_cres_object(cres)->od;
	enum netfs_io_source source;
	size_t len = subreq->len;
	bool copy = false;

	if (subreq->start >= i_size) {
		copy = !ondemand && cachefiles_netfs_copies_tail(cres, subreq->start);
		source = NETFS_FILL_WITH_ZEROES;
	} else if (ondemand) {
		cachefiles_ondemand_slice(subreq->start, &subreq->len);
		source = NETFS_READ_FROM_CACHE;
	} else {
		source = cachefiles_netfs_look(cres, subreq->start, &len, &copy);
		if (len < subreq->len && subreq->rreq->origin == NETFS_READ_SINGLE) {
			/* It comes in one piece, which can't be from two sources. */
			source = NETFS_DOWNLOAD_FROM_SERVER;
			copy = true;
		} else {
			subreq->len = len;
		}
	}
	if (copy)
		__set_bit(NETFS_SREQ_COPY_TO_CACHE, &subreq->flags);
	return source;
}

/**
 * cachefiles_netfs_prepare_write - May a range be written to the cache?
 * @cres: The operation.
 * @start: First byte.
 * @len: Length; rounded up to whole pages.
 * @upper_len: What @len must not be more than.
 * @i_size: Size of the netfs's file, in bytes.
 * @no_space_allocated_yet: The caller's guess, not relied on.
 *
 * Context: process; the caller may be writing back.
 * Return: 0, or an error; -ENOBUFS is one.
 */
int cachefiles_netfs_prepare_write(struct netfs_cache_resources *cres, loff_t *start,
				   size_t *len, size_t upper_len, loff_t i_size,
				   bool no_space_allocated_yet)
{
	struct cachefiles_object *object = cachefiles_cres_object(cres);
	struct file *file = NULL;

	if (!object->od)
		file = cachefiles_cres_file(cres, FSCACHE_WANT_WRITE);
	if (!file)
		return -ENOBUFS;
	return cachefiles_io_prepare_write(object, file, start, len, upper_len, i_size);
}

/**
 * cachefiles_netfs_query_occupancy - Find what is present in a range
 * @cres: The operation.
 * @start: First byte.
 * @len: Length.
 * @granularity: The caller's block size.
 * @data_start: Where data start, or -1.
 * @data_len: How much there is in one piece.
 *
 * Context: process; may sleep for the backing file system.
 * Return: 0; -ENODATA if nothing is present; -ENOBUFS if it can't be told.
 */
int cachefiles_netfs_query_occupancy(struct netfs_cache_resources *cres, loff_t start,
				     size_t len, size_t granularity, loff_t *data_start,
				     size_t *data_len)
{
	struct cachefiles_object *object = cachefiles_cres_object(cres);
	struct file *file = NULL;

	*data_start = -1;
	*data_len = 0;
	if (!object->od)
		file = cachefiles_cres_file(cres, FSCACHE_WANT_READ);
	if (!file)
		return -ENOBUFS;
	return cachefiles_io_occupancy(object, file, start, len, granularity, data_start,
				       data_len);
}

/**
 * cachefiles_netfs_begin - Begin an operation of the netfs
 * @cres: The operation; fscache has taken an access on its cookie.
 * @want: What it is for; an on-demand object is good for everything at any time.
 *
 * Context: any that holds the access; does not sleep.
 * Return: true; false if it needs a backing file and there is none for it, or is from
 * another side of an invalidation than the object.
 */
bool cachefiles_netfs_begin(struct netfs_cache_resources *cres, enum fscache_want_state want)
{
	struct cachefiles_object *object = cachefiles_cres_object(cres);
	struct file *file = cres->cache_priv2;

	if (!object->od) {
		if (!file)
			file = cachefiles_object_get_valid_file(object, cres->inval_counter);
		if (!file && want != FSCACHE_WANT_PARAMS)
			return false;
		/* fscache comes here once more for an operation that waits for its file. */
		if (!cres->ops && !cachefiles_object_begin_io(object, cres->inval_counter)) {
			if (file)
				fput(file);
			return false;
		}
	}
	cres->ops = &cachefiles_netfs_ops;
	cres->debug_id = object->debug_id;
	cres->cache_priv2 = file;
	return true;
}
