// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reading backing files.  On-demand objects are read from fetch.c and io.c, which
 * use cachefiles_io_read(); the rest here is for objects of the original mode.
 */
#include <linux/file.h>
#include <linux/ioprio.h>
#include <linux/log2.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uio.h>
#include "delay.h"
#include "internal.h"
#include "vfs.h"

/**
 * cachefiles_io_begin_read - Begin to rely on data being present
 * @cache: The cache; the caller keeps it until cachefiles_io_end_read().
 *
 * Context: any that may be followed by cachefiles_io_end_read(), also under a
 * spinlock.
 * Return: what to pass to cachefiles_io_end_read().
 */
int cachefiles_io_begin_read(struct cachefiles_cache *cache)
{
	return srcu_down_read(&cache->reads);
}

/**
 * cachefiles_io_end_read - The data have been read
 * @cache: The cache.
 * @token: What cachefiles_io_begin_read() has returned.
 *
 * Context: any.
 */
void cachefiles_io_end_read(struct cachefiles_cache *cache, int token)
{
	srcu_up_read(&cache->reads, token);
}

/**
 * cachefiles_io_wait_for_reads - Wait for reads that have begun
 * @cache: The cache.
 *
 * Context: process, may sleep for the backing file system.
 */
void cachefiles_io_wait_for_reads(struct cachefiles_cache *cache)
{
	synchronize_srcu(&cache->reads);
}

/**
 * cachefiles_io_read - Read a range of a backing file that is present
 * @file: The file.
 * @iocb: What to read; ki_pos and ki_complete are set, the rest is filled in.
 * @iter: Where the data go.
 *
 * What was written a moment ago is copied from the page cache, everything else
 * bypasses it: the netfs caches it once more.
 *
 * Context: process.  The file and everything that is passed have to stay until
 * ki_complete is called.
 * Return: -EIOCBQUEUED if ki_complete is going to be called, in any context; else
 * bytes read or an error, and it is not called.
 */
int cachefiles_io_read(struct file *file, struct kiocb *iocb, struct iov_iter *iter)
{
	const struct iov_iter whole = *iter;
	const size_t len = iov_iter_count(iter);
	const loff_t pos = iocb->ki_pos;
	bool aligned = IS_ALIGNED(pos | len, CACHEFILES_GRANULE);
	bool cached = filemap_range_has_page(cachefiles_vfs_inode(file)->i_mapping, pos,
					     pos + len - 1);
	unsigned int nofs;
	int ret;

	ret = cachefiles_inject_read_error();
	if (ret)
		return ret;
	iocb->ki_filp = file;
	iocb->ki_ioprio = get_current_ioprio();
	iocb->ki_flags = !aligned ? 0 : cached ? IOCB_NOIO : IOCB_DIRECT;

	/*
	 * Not vfs_iocb_iter_read(), which asks whoever watches with fanotify.  The reader may be
	 * a fault in a write to another file of the same file system: freezing waits for that,
	 * and the watcher, if it wants to write before it answers, for the freezing.
	 */
	nofs = memalloc_nofs_save();
	ret = file->f_op->read_iter(iocb, iter);
	/*
	 * Where a page is not there, none is made: with the one it would read others ahead, and
	 * what is read where nothing was written becomes pages of zeros, which some file systems
	 * take for data.  That the file is read at random is not asked of a page that is marked
	 * for reclaim, which is the mark to read ahead as well.
	 */
	if (aligned && cached && (ret == -EAGAIN || (ret >= 0 && ret < len))) {
		*iter = whole;
		iocb->ki_pos = pos;
		iocb->ki_flags = IOCB_DIRECT;
		ret = file->f_op->read_iter(iocb, iter);
	}
	memalloc_nofs_restore(nofs);
	return ret;
}

/**
 * struct cachefiles_read - A read for the netfs
 * @iocb: The read from the backing file.
 * @ref: One for completing it, one for submitting it (A).
 * @object: What is read; the netfs holds an access until it is called back (I).
 * @len: Bytes wanted (I).
 * @cuts: What cachefiles_presence_begin() returned (I).
 * @inval_counter: Invalidations of the cookie when the operation began (I).
 * @term_func: Called with the result; NULL if the caller waits (I).
 * @term_priv: Its argument (I).
 */
struct cachefiles_read {
	struct kiocb			iocb;
	refcount_t			ref;
	struct cachefiles_object	*object;
	size_t				len;
	int				cuts;
	unsigned int			inval_counter;
	netfs_io_terminated_t		term_func;
	void				*term_priv;
};

static void cachefiles_read_put(struct cachefiles_read *read)
{
	if (refcount_dec_and_test(&read->ref)) {
		fput(read->iocb.ki_filp);
		kfree(read);
	}
}

/* What the read has come to, when all is said: @ret bytes were read. */
static ssize_t cachefiles_read_judge(const struct cachefiles_read *read, ssize_t ret)
{
	if (ret < 0)
		return cachefiles_outside_error(ret);
	if (READ_ONCE(read->object->cookie->inval_counter) != read->inval_counter ||
	    !cachefiles_presence_stays(read->object, read->cuts) ||
	    cachefiles_presence_is_lost(read->iocb.ki_filp))
		return -ESTALE;
	return ret == read->len ? ret : -EIO;
}

/*
 * Consumes the claim of whoever completes the read.  When the netfs is called, it may
 * let go of the object, and the file is to be closed then: so let go of it before.
 */
static ssize_t cachefiles_read_complete(struct cachefiles_read *read, ssize_t ret)
{
	netfs_io_terminated_t term_func = read->term_func;
	void *term_priv = read->term_priv;

	ret = cachefiles_read_judge(read, ret);
	cachefiles_read_put(read);
	cachefiles_netfs_read_terminated(term_func, term_priv, ret);
	return ret;
}

static void cachefiles_read_done(struct kiocb *iocb, long ret)
{
	cachefiles_read_complete(container_of(iocb, struct cachefiles_read, iocb), ret);
}

/* Looks and reads.  -EIOCBQUEUED if cachefiles_read_done() is called. */
static ssize_t cachefiles_read_submit(struct cachefiles_read *read, struct iov_iter *iter)
{
	struct cachefiles_object *object = read->object;
	struct file *file = read->iocb.ki_filp;
	loff_t pos = read->iocb.ki_pos;
	unsigned int nofs;
	bool full = false;

	nofs = memalloc_nofs_save();
	/* Distrusted before the cut is done, so it is seen if the cut is not. */
	read->cuts = cachefiles_presence_begin(object);
	with_cache_creds(cachefiles_object_cache(object))
		full = !READ_ONCE(object->distrusted) &&
		       cachefiles_presence_is_full(object, file, pos, pos + read->len);
	memalloc_nofs_restore(nofs);
	cachefiles_delay(CACHEFILES_DELAY_LOOKED);
	return full ? cachefiles_io_read(file, &read->iocb, iter) : -ENODATA;
}

/**
 * cachefiles_io_read_async - Read a range for the netfs
 * @object: An object of the original mode; the caller holds an access on its cookie
 *	until it is called back.
 * @file: The backing file; likewise.
 * @pos: First byte.
 * @iter: Where the data go; consumed unless it fails at once.
 * @inval_counter: Invalidations of the cookie when the operation began.
 * @term_func: Called exactly once, in any context, with the number of bytes or a
 *	negative errno; NULL to wait.
 * @term_priv: Argument of @term_func.
 *
 * All of the range is read, or the read fails: -ENODATA if any of it is missing,
 * -ESTALE if it was taken away or invalidated meanwhile.
 *
 * Context: process; the caller may hold folio locks, so nothing is allocated into a
 * file system.
 * Return: 0, -EIOCBQUEUED, or the error.
 */
int cachefiles_io_read_async(struct cachefiles_object *object, struct file *file, loff_t pos,
			     struct iov_iter *iter, unsigned int inval_counter,
			     netfs_io_terminated_t term_func, void *term_priv)
{
	struct cachefiles_read *read = kzalloc_obj(*read, GFP_NOFS);
	ssize_t ret;

	if (!read) {
		cachefiles_netfs_read_terminated(term_func, term_priv, -ENOMEM);
		return -ENOMEM;
	}
	refcount_set(&read->ref, 2);
	read->object = object;
	read->len = iov_iter_count(iter);
	read->inval_counter = inval_counter;
	read->term_func = term_func;
	read->term_priv = term_priv;
	read->iocb.ki_filp = get_file(file);
	read->iocb.ki_pos = pos;
	read->iocb.ki_complete = term_func ? cachefiles_read_done : NULL;

	ret = cachefiles_read_submit(read, iter);
	if (ret != -EIOCBQUEUED)
		ret = min(cachefiles_read_complete(read, ret), 0);
	/* What submits a read may look at the iocb after it was completed. */
	cachefiles_read_put(read);
	return ret;
}

/**
 * cachefiles_io_source - Where to read a range from
 * @object: An object of the original mode.
 * @file: Its backing file.
 * @start: First byte.
 * @len: Length, more than 0; shortened to what comes from one source.
 * @copy: Set if what is downloaded should be copied to the cache.
 *
 * Context: process; the caller may hold folio locks.
 * Return: NETFS_READ_FROM_CACHE or NETFS_DOWNLOAD_FROM_SERVER.
 */
enum netfs_io_source cachefiles_io_source(struct cachefiles_object *object, struct file *file,
					  loff_t start, size_t *len, bool *copy)
{
	loff_t size = READ_ONCE(object->cookie->object_size);
	loff_t end = start + (loff_t)*len;
	loff_t data = 0, hole = 0;
	unsigned int nofs;

	nofs = memalloc_nofs_save();
	with_cache_creds(cachefiles_object_cache(object)) {
		data = cachefiles_presence_next_data(file, start, end);
		hole = data == start ? cachefiles_presence_next_hole(file, size, start, end) :
				       start;
	}
	memalloc_nofs_restore(nofs);

	*copy = false;
	if (data < 0 || hole < 0 || READ_ONCE(object->distrusted))
		return NETFS_DOWNLOAD_FROM_SERVER;
	if (hole > start) {
		*len = hole - start;
		return NETFS_READ_FROM_CACHE;
	}
	/* A granule of which a part is missing is missing. */
	data = max(data, start + (loff_t)CACHEFILES_GRANULE);
	*len = min(end, data) - start;
	*copy = true;
	return NETFS_DOWNLOAD_FROM_SERVER;
}

/**
 * cachefiles_io_occupancy - Find what is present in a range
 * @object: An object of the original mode.
 * @file: Its backing file.
 * @start: First byte of the range.
 * @len: Its length.
 * @granularity: The caller's block size, rounded up to a power of two; what is present
 *	counts in whole blocks.
 * @data_start: Where the first data start, or -1 if there are none.
 * @data_len: How much there is in one piece, in the range.
 *
 * Context: process; may sleep for the backing file system.
 * Return: 0; -ENODATA if nothing is present; -ENOBUFS if it can't be told.
 */
int cachefiles_io_occupancy(struct cachefiles_object *object, struct file *file, loff_t start,
			    size_t len, size_t granularity, loff_t *data_start, size_t *data_len)
{
	loff_t end = min_t(loff_t, start + (loff_t)len, cachefiles_vfs_size(file));
	loff_t size = READ_ONCE(object->cookie->object_size);
	loff_t data, hole, block, pos;

	*data_start = -1;
	*data_len = 0;
	if (READ_ONCE(object->distrusted))
		return -ENOBUFS;
	/* The size of a folio is one; other blocks would take a 64-bit division. */
	block = roundup_pow_of_two(max_t(size_t, granularity, CACHEFILES_GRANULE));
	guard(cachefiles_nofs)();
	guard(override_creds_cachefiles)(cachefiles_object_cache(object));
	for (pos = start; pos < end; pos = max(hole, pos + 1)) {
		data = cachefiles_presence_next_data(file, pos, end);
		if (data < 0)
			return -ENOBUFS;
		if (data == end)
			break;
		hole = cachefiles_presence_next_hole(file, size, data, end);
		if (hole < 0)
			return -ENOBUFS;
		data = round_up(data, block);
		if (data + block <= hole) {
			*data_start = data;
			*data_len = round_down(hole, block) - data;
			return 0;
		}
	}
	return -ENODATA;
}
