// SPDX-License-Identifier: GPL-2.0-only
/*
 * Writing backing files.  What the daemon fills goes through cachefiles_io_write();
 * the rest is for objects of the original mode, which the netfs writes.
 *
 * A write that can't be carried out leaves a hole: what was there before is not
 * what the netfs means any more, and what was half written never was.
 */
#include <linux/file.h>
#include <linux/ioprio.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uio.h>
#include <linux/workqueue.h>
#include "delay.h"
#include "internal.h"
#include "vfs.h"

/*
 * Where writes that have failed in a context that can't sleep are cleared up, and what a
 * task must not do itself is done.
 */
static struct workqueue_struct *cachefiles_io_wq;

/*
 * How many writes wait at most for a file system to be thawed, or for their object to be
 * marked, each with a worker and what it is to write.
 */
#define CACHEFILES_MAX_DEFERRED	64

/* Where they wait, so that nothing else waits for them: there is a worker for each. */
static struct workqueue_struct *cachefiles_frozen_wq;
static atomic_t cachefiles_nr_deferred;

/*
 * Where objects wait for the thaw, of which there may be any number.  Their files are made
 * there: not for reclaim to wait for, since XFS, when it is full, has workers of its own make
 * room first, which need memory.
 */
static struct workqueue_struct *cachefiles_thaw_wq;

/**
 * cachefiles_io_write_init - Set up what writes need
 *
 * Return: 0 or -ENOMEM.
 */
int cachefiles_io_write_init(void)
{
	cachefiles_io_wq = alloc_workqueue("cachefiles_io", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	if (!cachefiles_io_wq)
		return -ENOMEM;
	cachefiles_frozen_wq = alloc_workqueue("cachefiles_frozen", WQ_UNBOUND | WQ_MEM_RECLAIM,
					       CACHEFILES_MAX_DEFERRED);
	if (!cachefiles_frozen_wq)
		goto err_io;
	cachefiles_thaw_wq = alloc_workqueue("cachefiles_thaw", WQ_UNBOUND, WQ_MAX_ACTIVE);
	if (!cachefiles_thaw_wq)
		goto err_frozen;
	return 0;

err_frozen:
	destroy_workqueue(cachefiles_frozen_wq);
err_io:
	destroy_workqueue(cachefiles_io_wq);
	return -ENOMEM;
}

/**
 * cachefiles_io_write_exit - Take it down again
 *
 * Context: Module exit; no write is left.
 */
void cachefiles_io_write_exit(void)
{
	destroy_workqueue(cachefiles_thaw_wq);
	destroy_workqueue(cachefiles_frozen_wq);
	destroy_workqueue(cachefiles_io_wq);
}

/* What a worker does for a task that waits for it. */
struct cachefiles_errand {
	struct work_struct	work;
	int			(*run)(void *data);
	void			*data;
	int			ret;
};

static void cachefiles_errand_work(struct work_struct *work)
{
	struct cachefiles_errand *errand = container_of(work, struct cachefiles_errand, work);
	unsigned int nofs = memalloc_nofs_save();

	errand->ret = errand->run(errand->data);
	memalloc_nofs_restore(nofs);
}

static int cachefiles_io_run_on(struct workqueue_struct *wq, int (*run)(void *data),
				void *data)
{
	struct cachefiles_errand errand = { .run = run, .data = data };

	INIT_WORK_ONSTACK(&errand.work, cachefiles_errand_work);
	queue_work(wq, &errand.work);
	flush_work(&errand.work);
	destroy_work_on_stack(&errand.work);
	return errand.ret;
}

/**
 * cachefiles_io_delegate - Have a worker do something
 * @run: Does it.  No signal cuts it short, files may become as large as it likes, and
 *	nothing is allocated into a file system.  It makes no files, and does not write
 *	through the page cache.
 * @data: Its argument.
 *
 * Context: process; sleeps until it is done.
 * Return: what @run has returned.
 */
int cachefiles_io_delegate(int (*run)(void *data), void *data)
{
	return cachefiles_io_run_on(cachefiles_io_wq, run, data);
}

/**
 * cachefiles_io_delegate_any - The same, whatever it does
 * @run: Does it.
 * @data: Its argument.
 *
 * Context: process; sleeps until it is done, and nothing that reclaim waits for waits for it.
 * Return: what @run has returned.
 */
int cachefiles_io_delegate_any(int (*run)(void *data), void *data)
{
	return cachefiles_io_run_on(cachefiles_thaw_wq, run, data);
}

/* Such a task would get a signal for what it did not mean to do, and the cache an error. */
static bool cachefiles_io_is_limited(void)
{
	return rlimit(RLIMIT_FSIZE) != RLIM_INFINITY;
}

/**
 * cachefiles_io_insist - Do something that must not be left half done
 * @run: Does it, and returns 0 or an error; may be called a second time if the first was
 *	cut short.
 * @data: Its argument.
 *
 * A worker does it for a task that gets a signal, or that may not make files as large as it
 * likes: the cache is not to suffer from what concerns that task alone.
 *
 * Context: process, may sleep for the backing file system; allocates nothing into another
 * one if the caller must not.
 * Return: what @run has returned.
 */
int cachefiles_io_insist(int (*run)(void *data), void *data)
{
	int ret;

	if (cachefiles_io_is_limited())
		return cachefiles_io_delegate(run, data);
	ret = run(data);
	return cachefiles_was_interrupted(ret) ? cachefiles_io_delegate(run, data) : ret;
}

/**
 * cachefiles_io_queue_frozen - Have a worker do something that may wait for a thaw
 * @work: What to do; nothing else waits for it.
 *
 * Context: any.
 */
void cachefiles_io_queue_frozen(struct work_struct *work)
{
	queue_work(cachefiles_thaw_wq, work);
}

static ssize_t cachefiles_io_do_write(struct file *file, loff_t pos, struct iov_iter *from)
{
	struct kiocb iocb = {
		.ki_filp	= file,
		.ki_pos		= pos,
	};

	/*
	 * Through the page cache, where the data are wanted next.  But a page of
	 * several blocks could become visible half filled if a block is refused:
	 * there, blocks have to become data by themselves.
	 */
	if (i_blocksize(file_inode(file)) < PAGE_SIZE)
		iocb.ki_flags |= IOCB_DIRECT;
	return vfs_iocb_iter_write(file, &iocb, from);
}

/**
 * cachefiles_io_write - Write whole granules to a backing file
 * @object: The object; the caller holds a reference.
 * @file: Its backing file; likewise.
 * @pos: First byte, a multiple of CACHEFILES_GRANULE.
 * @from: What to write, in kernel memory; its length is a multiple of
 *	CACHEFILES_GRANULE.
 *
 * What is not written, according to the result, is missing afterwards: part of it
 * may have been allocated already, and would count as data.  Part of it may also
 * have been there before: reads of that end first, and until this returns nobody
 * may take the range for present, which is the caller's duty.
 *
 * Context: process, may sleep for the backing file system.
 * Return: bytes written, a multiple of CACHEFILES_GRANULE, or an error: -ENOBUFS
 * if space is short, -EIO if the file is distrusted.
 */
ssize_t cachefiles_io_write(struct cachefiles_object *object, struct file *file, loff_t pos,
			    struct iov_iter *from)
{
	struct cachefiles_cache *cache = cachefiles_object_cache(object);
	size_t len = iov_iter_count(from);
	unsigned int nofs;
	ssize_t ret;

	/* Its readers get nothing of it any more. */
	if (READ_ONCE(object->distrusted))
		return -EIO;
	ret = cachefiles_space_begin_write(cache, len);
	if (ret)
		return ret;
	fscache_count_write();
	ret = cachefiles_inject_write_error();
	if (!ret) {
		nofs = memalloc_nofs_save();
		with_cache_creds(cache)
			ret = cachefiles_io_do_write(file, pos, from);
		memalloc_nofs_restore(nofs);
	}
	cachefiles_space_end_write(cache, len);
	if (ret < (ssize_t)len) {
		ssize_t kept = ret < 0 ? 0 : round_down(ret, CACHEFILES_GRANULE);

		cachefiles_delay(CACHEFILES_DELAY_WRITE_FAILED);
		cachefiles_io_wait_for_reads(cache);
		cachefiles_presence_forget(object, file, pos + kept, pos + len);
		if (kept || ret >= 0)
			ret = kept ?: -EIO;
	}
	if (ret > 0)
		set_bit(FSCACHE_COOKIE_HAVE_DATA, &object->cookie->flags);
	return ret;
}

/**
 * struct cachefiles_write - A write for the netfs
 * @iocb: The write to the backing file.
 * @work: Clears up after a write that has failed; before that, submits one that has to wait.
 * @ref: One for completing it, one for submitting it (A).
 * @object: What is written; the netfs holds an access until it is called back (I).
 * @pos: First byte (I).
 * @len: Bytes (I).
 * @from: What to write, of one that has to wait.
 * @segments: Array that belongs to @from, or NULL.
 * @early: The backing file system is frozen or the object is not marked yet, so nothing has
 *	been submitted.
 * @error: What to tell the netfs when it was cleared up.
 * @term_func: Called with the result; NULL if the caller waits (I).
 * @term_priv: Its argument (I).
 */
struct cachefiles_write {
	struct kiocb			iocb;
	struct work_struct		work;
	refcount_t			ref;
	struct cachefiles_object	*object;
	loff_t				pos;
	size_t				len;
	struct iov_iter			from;
	const void			*segments;
	bool				early;
	int				error;
	netfs_io_terminated_t		term_func;
	void				*term_priv;
};

static void cachefiles_write_put(struct cachefiles_write *write)
{
	if (refcount_dec_and_test(&write->ref)) {
		fput(write->iocb.ki_filp);
		kfree(write->segments);
		kfree(write);
	}
}

/*
 * Consumes the claim of whoever completes the write.  When the netfs is called, it may
 * let go of the object, and the file is to be closed then: so let go of it before.
 * Any context.
 */
static void cachefiles_write_complete(struct cachefiles_write *write, ssize_t ret)
{
	netfs_io_terminated_t term_func = write->term_func;
	void *term_priv = write->term_priv;

	cachefiles_write_put(write);
	cachefiles_netfs_terminated(term_func, term_priv, ret);
}

/* Likewise; any context. */
static void cachefiles_write_succeed(struct cachefiles_write *write)
{
	set_bit(FSCACHE_COOKIE_HAVE_DATA, &write->object->cookie->flags);
	cachefiles_write_complete(write, write->len);
}

/* Likewise; may sleep. */
static void cachefiles_write_fail(struct cachefiles_write *write)
{
	cachefiles_presence_forget(write->object, write->iocb.ki_filp, write->pos,
				   write->pos + write->len);
	cachefiles_write_complete(write, write->error);
}

static void cachefiles_write_fail_work(struct work_struct *work)
{
	cachefiles_delay(CACHEFILES_DELAY_WRITE_WORK);
	cachefiles_write_fail(container_of(work, struct cachefiles_write, work));
}

static int cachefiles_write_error(const struct cachefiles_write *write, ssize_t ret)
{
	if (ret < 0)
		return cachefiles_outside_error(ret);
	return ret == write->len ? 0 : -EIO;
}

/* A write that was queued has ended, in any context. */
static void cachefiles_write_done(struct kiocb *iocb, long ret)
{
	struct cachefiles_write *write = container_of(iocb, struct cachefiles_write, iocb);

	kiocb_end_write(iocb);
	cachefiles_space_end_write(cachefiles_object_cache(write->object), write->len);
	write->error = cachefiles_write_error(write, ret);
	if (write->error)
		queue_work(cachefiles_io_wq, &write->work);
	else
		cachefiles_write_succeed(write);
}

/*
 * Is there room for @len bytes?  If so, they count as being written.  What is there
 * already can be written over even if space is short.
 */
static int cachefiles_write_reserve(struct cachefiles_object *object, struct file *file,
				    loff_t pos, size_t len)
{
	struct cachefiles_cache *cache = cachefiles_object_cache(object);
	bool full = false;
	int ret;

	if (READ_ONCE(cache->failed) || READ_ONCE(object->distrusted))
		return -EIO;
	ret = cachefiles_space_begin_write(cache, len);
	if (ret != -ENOBUFS)
		return ret;
	with_cache_creds(cache)
		full = cachefiles_presence_is_full(object, file, pos, pos + len);
	if (!full)
		return ret;
	atomic64_add(len, &cache->writing);
	return 0;
}

/*
 * The beginning of what kiocb_end_write() ends, in whichever task.  A stacked file system begins
 * the same below itself, and can't be told not to wait.
 */
static bool cachefiles_write_begin(struct cachefiles_cache *cache, struct kiocb *iocb, bool wait)
{
	struct super_block *sb = file_inode(iocb->ki_filp)->i_sb;

	if (wait) {
		kiocb_start_write(iocb);
		return true;
	}
	if (cachefiles_cache_is_frozen(cache) || !sb_start_write_trylock(sb))
		return false;
	/* Only lockdep is told so, as kiocb_start_write() does it. */
	__sb_writers_release(sb, SB_FREEZE_WRITE);
	return true;
}

/*
 * Not vfs_iocb_iter_write(), which waits for a file system to be thawed.  The caller may have
 * pages locked that somebody waits for who writes to another file of the same file system:
 * the freezing waits for him.
 */
static ssize_t cachefiles_write_issue(struct cachefiles_write *write, struct iov_iter *from,
				      bool wait)
{
	struct kiocb *iocb = &write->iocb;
	loff_t end;
	ssize_t ret;

	if (iocb->ki_pos < 0 || check_add_overflow(iocb->ki_pos, (loff_t)write->len, &end))
		return -EINVAL;
	ret = cachefiles_inject_write_error();
	if (ret || !write->len)
		return ret;
	write->early = cachefiles_object_is_unmarked(write->object) ||
		       !cachefiles_write_begin(cachefiles_object_cache(write->object), iocb, wait);
	if (write->early)
		return -EBUSY;
	fscache_count_write();
	ret = iocb->ki_filp->f_op->write_iter(iocb, from);
	if (ret != -EIOCBQUEUED)
		kiocb_end_write(iocb);
	return ret;
}

/*
 * -EIOCBQUEUED if cachefiles_write_done() is called.  With write->early set, it may be tried
 * again after cachefiles_object_mark(), and with leave to @wait for the thaw.
 */
static ssize_t cachefiles_write_submit(struct cachefiles_write *write, struct iov_iter *from,
				       bool wait)
{
	struct cachefiles_cache *cache = cachefiles_object_cache(write->object);
	struct kiocb *iocb = &write->iocb;
	unsigned int nofs;
	ssize_t ret;

	nofs = memalloc_nofs_save();
	ret = cachefiles_write_reserve(write->object, iocb->ki_filp, write->pos, write->len);
	if (!ret) {
		with_cache_creds(cache)
			ret = cachefiles_write_issue(write, from, wait);
		if (ret != -EIOCBQUEUED)
			cachefiles_space_end_write(cache, write->len);
	}
	memalloc_nofs_restore(nofs);
	return ret;
}

/* A write and what it is to write. */
struct cachefiles_submission {
	struct cachefiles_write	*write;
	struct iov_iter		*from;
};

static int cachefiles_write_submit_work(void *data)
{
	struct cachefiles_submission *submission = data;

	return cachefiles_write_submit(submission->write, submission->from, false);
}

/*
 * The same for whoever may not make files as large as it likes: what the netfs stores is
 * not what this task writes, and even one that reads may come here.
 */
static ssize_t cachefiles_write_submit_limited(struct cachefiles_write *write,
					       struct iov_iter *from)
{
	struct cachefiles_submission submission = { .write = write, .from = from };

	return cachefiles_io_delegate(cachefiles_write_submit_work, &submission);
}

/* After cachefiles_write_submit(), of which @ret is the result.  Consumes the submitter's claim. */
static int cachefiles_write_submitted(struct cachefiles_write *write, ssize_t ret)
{
	if (ret != -EIOCBQUEUED) {
		write->error = cachefiles_write_error(write, ret);
		ret = write->error;
		if (ret)
			cachefiles_write_fail(write);
		else
			cachefiles_write_succeed(write);
	}
	/* What submits a write may look at the iocb after it was completed. */
	cachefiles_write_put(write);
	return ret;
}

static void cachefiles_write_deferred_work(struct work_struct *work)
{
	struct cachefiles_write *write = container_of(work, struct cachefiles_write, work);
	ssize_t ret;

	/* From now on it is for a write that fails. */
	INIT_WORK(&write->work, cachefiles_write_fail_work);
	cachefiles_object_mark(write->object);
	ret = cachefiles_write_submit(write, &write->from, true);
	atomic_dec(&cachefiles_nr_deferred);
	cachefiles_write_submitted(write, ret);
}

/* The array of segments may be gone when the caller returns; what it tells of is not. */
static int cachefiles_write_copy_iter(struct cachefiles_write *write, struct iov_iter *from)
{
	if (iov_iter_is_bvec(from) || iov_iter_is_kvec(from)) {
		write->segments = dup_iter(&write->from, from, GFP_NOFS);
		return write->segments ? 0 : -ENOMEM;
	}
	write->from = *from;
	return 0;
}

/*
 * Lets a worker wait for the thaw and mark the object, who then has all claims on the write;
 * or returns false.  Nobody misses a copy of what was read; but whoever wants memory may have
 * to wait for the pages that are copied (PG_private_2), even who is to thaw, or is waited for
 * by the freezing.
 */
static bool cachefiles_write_defer(struct cachefiles_write *write, struct iov_iter *from)
{
	if (!write->term_func ||
	    !test_bit(FSCACHE_COOKIE_LOCAL_WRITE, &write->object->cookie->flags))
		return false;
	if (atomic_inc_return(&cachefiles_nr_deferred) > CACHEFILES_MAX_DEFERRED ||
	    cachefiles_write_copy_iter(write, from)) {
		atomic_dec(&cachefiles_nr_deferred);
		return false;
	}
	INIT_WORK(&write->work, cachefiles_write_deferred_work);
	queue_work(cachefiles_frozen_wq, &write->work);
	return true;
}

/**
 * cachefiles_io_write_async - Write whole granules for the netfs
 * @object: An object of the original mode; the caller holds an access on its cookie
 *	until it is called back.
 * @file: The backing file; likewise.
 * @pos: First byte, a multiple of CACHEFILES_GRANULE.
 * @from: What to write; its length is a multiple of CACHEFILES_GRANULE.
 * @term_func: Called exactly once, in any context, with the number of bytes or a
 *	negative errno; NULL to wait.
 * @term_priv: Argument of @term_func.
 *
 * If it fails, the range is missing when the netfs is told.
 *
 * The caller does not wait for the backing file system to be thawed, unless there are data
 * in the range that can't be kept, nor for the object to be marked as being written: a worker
 * does, or if @term_func is NULL, too many wait already or the netfs does not write to the
 * object but stores what it has read, the write is refused.
 *
 * Context: process; the caller may be writing back, so nothing is allocated into a
 * file system.
 * Return: 0, -EIOCBQUEUED, or the error: -ENOBUFS if space is short, -EBUSY if the backing
 * file system is frozen or the object not marked, -EIO if the cache has failed or the file is
 * distrusted, -ENOMEM, or the error of the backing file system.
 */
int cachefiles_io_write_async(struct cachefiles_object *object, struct file *file, loff_t pos,
			      struct iov_iter *from, netfs_io_terminated_t term_func,
			      void *term_priv)
{
	size_t len = iov_iter_count(from);
	struct cachefiles_write *write;
	ssize_t ret;

	write = kzalloc_obj(*write, GFP_NOFS);
	if (!write) {
		cachefiles_presence_forget(object, file, pos, pos + len);
		cachefiles_netfs_terminated(term_func, term_priv, -ENOMEM);
		return -ENOMEM;
	}
	refcount_set(&write->ref, 2);
	INIT_WORK(&write->work, cachefiles_write_fail_work);
	write->object = object;
	write->pos = pos;
	write->len = len;
	write->term_func = term_func;
	write->term_priv = term_priv;
	write->iocb.ki_filp = get_file(file);
	write->iocb.ki_pos = pos;
	write->iocb.ki_flags = IOCB_DIRECT | IOCB_WRITE;
	write->iocb.ki_ioprio = get_current_ioprio();
	write->iocb.ki_complete = term_func ? cachefiles_write_done : NULL;

	if (cachefiles_io_is_limited())
		ret = cachefiles_write_submit_limited(write, from);
	else
		ret = cachefiles_write_submit(write, from, false);
	/* Unless it is too early, it may have been completed. */
	if (ret == -EBUSY && write->early && cachefiles_write_defer(write, from))
		return -EIOCBQUEUED;
	return cachefiles_write_submitted(write, ret);
}

/**
 * cachefiles_io_prepare_write - See to it that a write can be carried out
 * @object: An object of the original mode.
 * @file: Its backing file.
 * @start: First byte; has to be a multiple of the page size.
 * @len: Length in bytes; rounded up to whole pages, which the caller has.
 * @upper_len: What @len must not be more than.
 * @i_size: Size of the netfs's file, in bytes.  Some write back to a server, and only then
 *	here, what a truncation has overtaken.
 *
 * If it can't, what the write means to change is missing afterwards.
 *
 * Context: process; the caller may be writing back.
 * Return: 0; -ENOBUFS if it does not fit, lies behind the end, or space is short; or an error.
 */
int cachefiles_io_prepare_write(struct cachefiles_object *object, struct file *file,
				loff_t *start, size_t *len, size_t upper_len, loff_t i_size)
{
	size_t want = round_up(*len, PAGE_SIZE);
	int ret = -ENOBUFS;

	guard(cachefiles_nofs)();
	if (!IS_ALIGNED(*start, PAGE_SIZE) || *len > upper_len) {
		fscache_count_dio_misfit();
	} else if (*start < i_size) {
		ret = cachefiles_write_reserve(object, file, *start, want);
		if (!ret) {
			cachefiles_space_end_write(cachefiles_object_cache(object), want);
			*len = want;
			return 0;
		}
	}
	cachefiles_presence_forget(object, file, *start, *start + *len);
	return ret;
}
