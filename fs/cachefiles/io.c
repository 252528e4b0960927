// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pieces of reads of on-demand objects: how they are made and cut, read what is
 * present, and come to an end.
 *
 * Which way a piece goes is decided in fetch.c.
 */
#include <linux/cachefiles.h>
#include <linux/file.h>
#include <linux/pid.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include "ondemand.h"

static struct kmem_cache *cachefiles_io_cache;

int __init cachefiles_io_init(void)
{
	cachefiles_io_cache = kmem_cache_create("cachefiles_io", sizeof(struct cachefiles_io), 0,
						SLAB_HWCACHE_ALIGN, NULL);
	return cachefiles_io_cache ? 0 : -ENOMEM;
}

void cachefiles_io_exit(void)
{
	kmem_cache_destroy(cachefiles_io_cache);
}

/**
 * cachefiles_io_alloc - Make a piece of a read
 * @od: The object's od.
 * @object: The object; the netfs keeps it until the read has called back.
 * @pos: First byte.
 * @iter: Where the data go; copied.
 *
 * Context: process; does not allocate into a file system.
 * Return: the piece, the first of a read until it is told another, or NULL.
 */
struct cachefiles_io *cachefiles_io_alloc(struct cachefiles_ondemand *od,
					  struct cachefiles_object *object, loff_t pos,
					  const struct iov_iter *iter)
{
	struct cachefiles_io *io = kmem_cache_zalloc(cachefiles_io_cache, GFP_NOFS);

	if (!io)
		return NULL;
	refcount_set(&io->ref, 1);
	io->req.opcode = CACHEFILES_OP_READ;
	cachefiles_od_get(od);
	io->req.od = od;
	INIT_LIST_HEAD(&io->req.link);
	INIT_LIST_HEAD(&io->followers);
	RB_CLEAR_NODE(&io->node);
	io->first = io;
	io->object = object;
	io->pos = pos;
	io->len = iov_iter_count(iter);
	io->iter = *iter;
	return io;
}

/**
 * cachefiles_io_put - Drop a reference on a piece
 * @io: The piece.
 *
 * Context: any.
 */
void cachefiles_io_put(struct cachefiles_io *io)
{
	if (refcount_dec_and_test(&io->ref)) {
		put_pid(io->task);
		kmem_cache_free(cachefiles_io_cache, io);
	}
}

static void cachefiles_io_report(struct cachefiles_io *first)
{
	netfs_io_terminated_t term_func = first->term_func;
	void *term_priv = first->term_priv;
	ssize_t ret = first->error ?: first->total;

	if (ret > 0 && READ_ONCE(first->object->cookie->inval_counter) != first->inval_counter)
		ret = -ESTALE;
	cachefiles_io_put(first);
	/* From here on the netfs may let go of the object, and with it of this module. */
	cachefiles_netfs_terminated(term_func, term_priv, ret);
}

/**
 * cachefiles_io_complete - Complete one piece
 * @io: The piece; the caller's claim on it is consumed.
 * @error: 0 if its part of the iterator is filled, or a negative errno.
 *
 * The last piece of a read calls the netfs back.
 *
 * Context: any.
 */
void cachefiles_io_complete(struct cachefiles_io *io, int error)
{
	struct cachefiles_ondemand *od = io->req.od;
	struct cachefiles_io *first = io->first;

	if (error)
		cmpxchg(&first->error, 0, error);
	io->req.od = NULL;
	cachefiles_ondemand_put(od);
	if (io != first)
		cachefiles_io_put(io);
	if (atomic_dec_and_test(&first->pending))
		cachefiles_io_report(first);
}

static void cachefiles_io_backing_done(struct kiocb *iocb, long ret)
{
	struct cachefiles_io *io = container_of(iocb, struct cachefiles_io, iocb);

	/* After the data, which were in memory or on the disk, or lost in between. */
	if (ret > 0 && cachefiles_presence_is_lost(iocb->ki_filp))
		ret = -EIO;
	cachefiles_io_end_read(io->req.od->cache, io->reading);
	fput(iocb->ki_filp);
	if (ret == io->len) {
		iov_iter_zero(iov_iter_count(&io->tail), &io->tail);
		ret = 0;
	} else if (ret >= 0) {
		ret = -EIO;	/* All of it was present, so the rest was lost. */
	}
	cachefiles_io_complete(io, cachefiles_outside_error(ret));
}

/**
 * cachefiles_io_defer - Go on with a read in a task that nobody kills
 * @io: The read, on no list.  Consumed.
 *
 * Context: process.
 */
void cachefiles_io_defer(struct cachefiles_io *io)
{
	INIT_WORK(&io->work, cachefiles_fetch_work);
	queue_work(cachefiles_ondemand_wq, &io->work);
}

/**
 * cachefiles_io_has_dying_helper - Is this task being killed and not the reader?
 * @io: A read.
 *
 * Return: true if what this task does for @io may be cut short by a signal that
 * is none of the reader's business.
 */
bool cachefiles_io_has_dying_helper(const struct cachefiles_io *io)
{
	return fatal_signal_pending(current) && task_pid(current) != io->task;
}

/**
 * cachefiles_io_was_disturbed - May a signal be the reason why this task has failed?
 * @io: A read.
 *
 * Return: true if it may, and does not kill the reader; a worker gets none.
 */
bool cachefiles_io_was_disturbed(const struct cachefiles_io *io)
{
	if (fatal_signal_pending(current))
		return cachefiles_io_has_dying_helper(io);
	return signal_pending(current);
}

/*
 * What is stored behind the end of the object may be anything, and a mapping would show it:
 * note what has to be zeros.
 */
static void cachefiles_io_note_tail(struct cachefiles_io *io, loff_t size)
{
	loff_t content = min(size - io->pos, (loff_t)io->len);

	io->tail = io->iter;
	iov_iter_advance(&io->tail, content);
}

/**
 * cachefiles_io_start - Read a piece that is present
 * @io: The piece, after cachefiles_io_begin_read(); consumed.
 * @file: The backing file, with a reference that is consumed.
 * @size: Size of the object in bytes, more than where the piece begins.
 *
 * Context: process.
 */
void cachefiles_io_start(struct cachefiles_io *io, struct file *file, loff_t size)
{
	struct iov_iter whole = io->iter;
	int ret;

	cachefiles_io_note_tail(io, size);

	/* What submits a read may look at iocb and file after it was completed. */
	refcount_inc(&io->ref);
	get_file(file);
	io->iocb = (struct kiocb) {
		.ki_filp	= file,
		.ki_pos		= io->pos,
		.ki_complete	= cachefiles_io_backing_done,
	};
	ret = cachefiles_io_read(file, &io->iocb, &io->iter);
	if (ret == -EIOCBQUEUED) {
		/* It may be complete by now. */
	} else if (ret != io->len && cachefiles_io_was_disturbed(io)) {
		io->iter = whole;
		cachefiles_io_end_read(io->req.od->cache, io->reading);
		fput(file);
		cachefiles_io_defer(io);
	} else {
		cachefiles_io_backing_done(&io->iocb, ret);
	}
	fput(file);
	cachefiles_io_put(io);
}

/**
 * cachefiles_io_cut - Make what lies at and behind a position a piece of its own
 * @io: The piece to be cut.
 * @at: Where; if that is at or behind its end, nothing happens.
 * @todo: Where the new piece is put.
 *
 * Context: process; does not allocate into a file system.
 * Return: 0 or -ENOMEM.
 */
int cachefiles_io_cut(struct cachefiles_io *io, loff_t at, struct list_head *todo)
{
	struct iov_iter iter = io->iter;
	struct cachefiles_io *rest;

	if (at >= io->pos + (loff_t)io->len)
		return 0;
	iov_iter_advance(&iter, at - io->pos);
	rest = cachefiles_io_alloc(io->req.od, io->object, at, &iter);
	if (!rest)
		return -ENOMEM;
	rest->first = io->first;
	rest->task = get_pid(io->task);
	rest->cancels = io->cancels;
	atomic_inc(&io->first->pending);
	list_add_tail(&rest->req.link, todo);

	io->len = at - io->pos;
	iov_iter_truncate(&io->iter, io->len);
	return 0;
}

/**
 * cachefiles_io_clip - Fill what lies behind the end of the object with zeros
 * @io: The piece; what is left of it may be nothing.
 * @end: The end of the object, in whole granules.
 *
 * Context: process.
 */
void cachefiles_io_clip(struct cachefiles_io *io, loff_t end)
{
	size_t keep = io->pos < end ? min_t(loff_t, io->len, end - io->pos) : 0;
	struct iov_iter tail = io->iter;

	if (keep == io->len)
		return;
	iov_iter_advance(&tail, keep);
	iov_iter_zero(iov_iter_count(&tail), &tail);
	io->len = keep;
	iov_iter_truncate(&io->iter, keep);
}
