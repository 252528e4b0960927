// SPDX-License-Identifier: GPL-2.0-only
/*
 * Plays a network file system to the local cache: what such a file system does to its
 * volumes, cookies and data, user space does here by ioctl(2), one step at a time, and
 * sees what the cache answers. Only for tests. See cf_netfs.h.
 *
 * I/O goes by requests and subrequests of our own making, through the cache's operations
 * and not through the library's, so that every offset, length and error can be had.
 */
#include <linux/bvec.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/fscache-cache.h>
#include <linux/kref.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/netfs.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <linux/wait_bit.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>
#include <trace/events/fscache.h>

#include "cf_netfs.h"

/* Out of tree the kernel has been asked what it offers; in its tree it is the newest. */
#ifndef COMPAT_ASKED
#define COMPAT_HAVE_NETFS_STREAMS	1
#define COMPAT_HAVE_NETFS_TERM_FUNC2	1
#endif

static_assert((int)CF_QUIESCENT == FSCACHE_COOKIE_STATE_QUIESCENT);
static_assert((int)CF_ACTIVE == FSCACHE_COOKIE_STATE_ACTIVE);
static_assert((int)CF_FAILED == FSCACHE_COOKIE_STATE_FAILED);
static_assert((int)CF_DROPPED == FSCACHE_COOKIE_STATE_DROPPED);
static_assert(BIT(FSCACHE_COOKIE_RETIRED) == CF_RETIRED);
static_assert(BIT(FSCACHE_COOKIE_IS_CACHING) == CF_IS_CACHING);
static_assert(BIT(FSCACHE_COOKIE_NO_DATA_TO_READ) == CF_NO_DATA_TO_READ);
static_assert(BIT(FSCACHE_COOKIE_NEEDS_UPDATE) == CF_NEEDS_UPDATE);
static_assert(BIT(FSCACHE_COOKIE_HAS_BEEN_CACHED) == CF_HAS_BEEN_CACHED);
static_assert(BIT(FSCACHE_COOKIE_DISABLED) == CF_DISABLED);
static_assert(BIT(FSCACHE_COOKIE_LOCAL_WRITE) == CF_LOCAL_WRITE);
static_assert(BIT(FSCACHE_COOKIE_HAVE_DATA) == CF_HAVE_DATA);
static_assert(CF_ADV_WANT_CACHE_SIZE == FSCACHE_ADV_WANT_CACHE_SIZE);

static struct workqueue_struct *cf_wq;

/*
 * One open of the device. Nothing is asked of fscache with the lock held: it may sleep
 * for long.
 */
struct cf_ctx {
	struct mutex lock;		/* the tables, their counts, and @ios */
	struct xarray volumes;
	struct xarray cookies;
	struct xarray ops;
	struct list_head ios;		/* completed; kept to catch a second completion */
	u64 submitted;
	struct file *file;
};

struct cf_volume {
	struct fscache_volume *volume;
	unsigned int cookies;
};

struct cf_cookie {
	struct fscache_cookie *cookie;	/* a reference besides fscache's own */
	struct cf_volume *volume;
	unsigned int uses;
	unsigned int busy;		/* calls that are at it */
};

/* An operation that has begun. Ends with the last reference, in a process. */
struct cf_op {
	struct kref ref;
	struct fscache_cookie *cookie;
	struct address_space *copies;	/* a page cache with marks for CF_COPY_WRITEBACK */
	struct page *copy;		/* its only page, in all places */
	struct netfs_io_request rreq;
};

struct cf_io {
	struct list_head link;
	struct cf_op *op;
	struct completion done;
	atomic_t completions;
	ssize_t result;
	struct bio_vec *bv;
	unsigned int nr;
	unsigned int off;		/* of the data in the first page */
	struct iov_iter iter;
	struct netfs_io_subrequest *subreq;
	struct work_struct work;
};

/* --- handles --- */

static struct cf_cookie *cf_cookie_get(struct cf_ctx *ctx, u32 id)
{
	struct cf_cookie *c;

	mutex_lock(&ctx->lock);
	c = xa_load(&ctx->cookies, id);
	if (c)
		c->busy++;
	mutex_unlock(&ctx->lock);
	return c;
}

static void cf_cookie_put(struct cf_ctx *ctx, struct cf_cookie *c)
{
	mutex_lock(&ctx->lock);
	c->busy--;
	mutex_unlock(&ctx->lock);
}

static void cf_op_release(struct kref *ref)
{
	struct cf_op *op = container_of(ref, struct cf_op, ref);

	fscache_end_operation(&op->rreq.cache_resources);
	fscache_put_cookie(op->cookie, fscache_cookie_put_object);
	if (op->copies)
		xa_destroy(&op->copies->i_pages);
	kfree(op->copies);
	if (op->copy) {
		set_page_private(op->copy, 0);
		__free_page(op->copy);
	}
	kfree(op);
}

static void cf_op_put(struct cf_op *op)
{
	kref_put(&op->ref, cf_op_release);
}

/* As much of a request as a cache may look at, with the stream that goes to it. */
static void cf_rreq_init(struct netfs_io_request *rreq, bool write)
{
#ifdef COMPAT_HAVE_NETFS_STREAMS
	struct netfs_io_stream *stream = &rreq->io_streams[1];

	rreq->gfp = GFP_KERNEL;
	rreq->origin = write ? NETFS_WRITEBACK : NETFS_READPAGE;
	spin_lock_init(&rreq->lock);
	INIT_LIST_HEAD(&rreq->io_streams[0].subrequests);
	INIT_LIST_HEAD(&stream->subrequests);
	stream->stream_nr = 1;
	stream->source = NETFS_WRITE_TO_CACHE;
	stream->avail = true;
	stream->active = true;
	stream->sreq_max_len = UINT_MAX;
	stream->sreq_max_segs = INT_MAX;
#else
	rreq->origin = NETFS_READPAGE;
	INIT_LIST_HEAD(&rreq->subrequests);
#endif
}

static struct cf_op *cf_op_begin(struct cf_ctx *ctx, struct cf_cookie *c, bool write)
{
	struct cf_op *op = kzalloc_obj(*op);
	struct netfs_io_request *rreq;
	int ret;

	if (!op)
		return ERR_PTR(-ENOMEM);
	kref_init(&op->ref);
	rreq = &op->rreq;
	rreq->inode = file_inode(ctx->file);
	rreq->mapping = rreq->inode->i_mapping;
	refcount_set(&rreq->ref, 1);
	cf_rreq_init(rreq, write);

	if (write)
		ret = fscache_begin_write_operation(&rreq->cache_resources, c->cookie);
	else
		ret = fscache_begin_read_operation(&rreq->cache_resources, c->cookie);
	if (ret) {
		kfree(op);
		return ERR_PTR(ret);
	}
	op->cookie = fscache_get_cookie(c->cookie, fscache_cookie_get_attach_object);
	return op;
}

/* The operation @op_id, or a new one on @cookie_id. */
static struct cf_op *cf_op_for(struct cf_ctx *ctx, u32 cookie_id, u32 op_id, bool write)
{
	struct cf_cookie *c;
	struct cf_op *op;

	if (op_id) {
		mutex_lock(&ctx->lock);
		op = xa_load(&ctx->ops, op_id);
		if (op)
			kref_get(&op->ref);
		mutex_unlock(&ctx->lock);
		return op ?: ERR_PTR(-EBADF);
	}
	c = cf_cookie_get(ctx, cookie_id);
	if (!c)
		return ERR_PTR(-EBADF);
	op = cf_op_begin(ctx, c, write);
	cf_cookie_put(ctx, c);
	return op;
}

static int cf_alloc(struct cf_ctx *ctx, struct xarray *xa, u32 *id, void *what)
{
	int ret;

	mutex_lock(&ctx->lock);
	ret = xa_alloc(xa, id, what, xa_limit_31b, GFP_KERNEL);
	mutex_unlock(&ctx->lock);
	return ret;
}

/* --- volumes and cookies --- */

static int cf_acquire_volume(struct cf_ctx *ctx, void *arg)
{
	struct cf_netfs_volume *a = arg;
	struct cf_volume *v;
	int ret;

	if (strnlen(a->key, sizeof(a->key)) == sizeof(a->key) ||
	    strnlen(a->tag, sizeof(a->tag)) == sizeof(a->tag))
		return -EINVAL;
	v = kzalloc_obj(*v);
	if (!v)
		return -ENOMEM;
	v->volume = fscache_acquire_volume(a->key, a->tag[0] ? a->tag : NULL,
					   a->coherency_len ? a->coherency : NULL,
					   a->coherency_len);
	if (IS_ERR_OR_NULL(v->volume)) {
		ret = v->volume ? PTR_ERR(v->volume) : -EOPNOTSUPP;
		kfree(v);
		return ret;
	}
	a->key_hash = v->volume->key_hash;
	ret = cf_alloc(ctx, &ctx->volumes, &a->id, v);
	if (ret) {
		fscache_relinquish_volume(v->volume, NULL, false);
		kfree(v);
	}
	return ret;
}

/* Until @cond, a signal that kills, or @end: 0, -EINTR, -ETIMEDOUT. */
#define cf_wait_until(cond, end)					\
({									\
	int __ret = 0;							\
									\
	while (!(cond)) {						\
		if (fatal_signal_pending(current))			\
			__ret = -EINTR;					\
		else if (time_after(jiffies, end))			\
			__ret = -ETIMEDOUT;				\
		if (__ret)						\
			break;						\
		usleep_range(100, 500);					\
	}								\
	__ret;								\
})

static unsigned long cf_end(u32 timeout_ms)
{
	return jiffies + msecs_to_jiffies(timeout_ms);
}

static int cf_relinquish_volume(struct cf_ctx *ctx, void *arg)
{
	struct cf_netfs_volume_end *a = arg;
	unsigned long end = cf_end(a->timeout_ms);
	struct cf_volume *v;
	int ret = 0;

	mutex_lock(&ctx->lock);
	v = xa_load(&ctx->volumes, a->id);
	if (!v)
		ret = -EBADF;
	else if (v->cookies)
		ret = -EBUSY;
	else
		xa_erase(&ctx->volumes, a->id);
	mutex_unlock(&ctx->lock);
	if (ret)
		return ret;
	/* With the last reference ours, what the cache does is done when we are back. */
	ret = cf_wait_until(refcount_read(&v->volume->ref) == 1, end);
	fscache_relinquish_volume(v->volume, a->update ? a->coherency : NULL, a->invalidate);
	kfree(v);
	return ret;
}

static int cf_volume_info(struct cf_ctx *ctx, void *arg)
{
	struct cf_netfs_volume_info *a = arg;
	unsigned long end = cf_end(a->timeout_ms);
	struct fscache_volume *volume;
	struct cf_volume *v;
	int ret;

	mutex_lock(&ctx->lock);
	v = xa_load(&ctx->volumes, a->id);
	if (v)
		v->cookies++;
	mutex_unlock(&ctx->lock);
	if (!v)
		return -EBADF;
	volume = v->volume;
	ret = cf_wait_until(!test_bit(FSCACHE_VOLUME_CREATING, &volume->flags), end);
	a->attached = !!READ_ONCE(volume->cache_priv);
	a->n_accesses = atomic_read(&volume->n_accesses);
	mutex_lock(&ctx->lock);
	v->cookies--;
	mutex_unlock(&ctx->lock);
	return ret;
}

static int cf_acquire_cookie(struct cf_ctx *ctx, void *arg)
{
	struct cf_netfs_cookie *a = arg;
	struct cf_cookie *c;
	int ret;

	if (a->key_len > sizeof(a->key) || a->aux_len > sizeof(a->aux) || a->advice > 0xff)
		return -EINVAL;
	c = kzalloc_obj(*c);
	if (!c)
		return -ENOMEM;
	mutex_lock(&ctx->lock);
	c->volume = xa_load(&ctx->volumes, a->volume);
	if (c->volume)
		c->volume->cookies++;
	mutex_unlock(&ctx->lock);
	ret = -EBADF;
	if (!c->volume)
		goto err_free;
	c->cookie = fscache_acquire_cookie(c->volume->volume, a->advice, a->key, a->key_len,
					   a->aux, a->aux_len, a->size);
	ret = -EINVAL;
	if (!c->cookie)
		goto err_volume;
	fscache_get_cookie(c->cookie, fscache_cookie_get_attach_object);
	a->key_hash = c->cookie->key_hash;
	ret = cf_alloc(ctx, &ctx->cookies, &a->id, c);
	if (ret)
		goto err_cookie;
	return 0;

err_cookie:
	fscache_relinquish_cookie(c->cookie, false);
	fscache_put_cookie(c->cookie, fscache_cookie_put_object);
err_volume:
	mutex_lock(&ctx->lock);
	c->volume->cookies--;
	mutex_unlock(&ctx->lock);
err_free:
	kfree(c);
	return ret;
}

static bool cf_arrived(const struct cf_netfs_wait *a, struct fscache_cookie *cookie)
{
	unsigned long flags = READ_ONCE(cookie->flags);

	return (!a->states || a->states & BIT(fscache_cookie_state(cookie))) &&
	       (flags & a->set) == a->set && !(flags & a->clear);
}

/* Changes of state wake us, those of flags do not: look again from time to time. */
static int cf_wait_cookie(const struct cf_netfs_wait *a, struct fscache_cookie *cookie)
{
	unsigned long end = cf_end(a->timeout_ms);

	while (!cf_arrived(a, cookie)) {
		if (fatal_signal_pending(current))
			return -EINTR;
		if (time_after(jiffies, end))
			return -ETIMEDOUT;
		___wait_var_event(&cookie->state, ___wait_cond_timeout(cf_arrived(a, cookie)),
				  TASK_KILLABLE, 0, (long)msecs_to_jiffies(10),
				  __ret = schedule_timeout(__ret));
	}
	return 0;
}

static int cf_wait(struct cf_ctx *ctx, void *arg)
{
	struct cf_netfs_wait *a = arg;
	struct fscache_cookie *cookie;
	struct cf_cookie *c;
	int ret;

	c = cf_cookie_get(ctx, a->cookie);
	if (!c)
		return -EBADF;
	cookie = c->cookie;
	ret = cf_wait_cookie(a, cookie);
	a->state = fscache_cookie_state(cookie);
	a->flags = READ_ONCE(cookie->flags);
	a->n_accesses = atomic_read(&cookie->n_accesses);
	a->n_active = atomic_read(&cookie->n_active);
	a->inval_counter = READ_ONCE(cookie->inval_counter);
	a->size = READ_ONCE(cookie->object_size);
	cf_cookie_put(ctx, c);
	return ret;
}

static int cf_relinquish_cookie(struct cf_ctx *ctx, void *arg)
{
	struct cf_netfs_relinquish *a = arg;
	struct cf_netfs_wait wait = {
		.states = BIT(FSCACHE_COOKIE_STATE_DROPPED), .timeout_ms = a->timeout_ms,
	};
	struct cf_cookie *c;
	int ret = 0;

	mutex_lock(&ctx->lock);
	c = xa_load(&ctx->cookies, a->cookie);
	if (!c)
		ret = -EBADF;
	else if (c->uses || c->busy)
		ret = -EBUSY;
	else
		xa_erase(&ctx->cookies, a->cookie);
	mutex_unlock(&ctx->lock);
	if (ret)
		return ret;
	fscache_relinquish_cookie(c->cookie, a->retire);
	if (a->timeout_ms)
		ret = cf_wait_cookie(&wait, c->cookie);
	a->state = fscache_cookie_state(c->cookie);
	fscache_put_cookie(c->cookie, fscache_cookie_put_object);
	mutex_lock(&ctx->lock);
	c->volume->cookies--;
	mutex_unlock(&ctx->lock);
	kfree(c);
	return ret;
}

static int cf_change(struct cf_ctx *ctx, unsigned int cmd, struct cf_netfs_change *a)
{
	loff_t size = a->size, *sizep = a->flags & CF_UNUSE_SIZE ? &size : NULL;
	void *aux = a->flags & CF_UNUSE_AUX ? a->aux : NULL;
	struct cf_cookie *c;
	int ret = 0;

	c = cf_cookie_get(ctx, a->cookie);
	if (!c)
		return -EBADF;
	switch (cmd) {
	case CF_NETFS_USE:
		fscache_use_cookie(c->cookie, a->flags & CF_USE_MODIFY);
		mutex_lock(&ctx->lock);
		c->uses++;
		mutex_unlock(&ctx->lock);
		break;
	case CF_NETFS_UNUSE:
		mutex_lock(&ctx->lock);
		if (c->uses)
			c->uses--;
		else
			ret = -EINVAL;
		mutex_unlock(&ctx->lock);
		if (!ret)
			fscache_unuse_cookie(c->cookie, aux, sizep);
		break;
	case CF_NETFS_UPDATE:
		fscache_update_cookie(c->cookie, aux, sizep);
		break;
	case CF_NETFS_INVALIDATE:
		fscache_invalidate(c->cookie, aux, a->size,
				   a->flags & CF_INVAL_DIO ? FSCACHE_INVAL_DIO_WRITE : 0);
		break;
	case CF_NETFS_RESIZE:
		fscache_resize_cookie(c->cookie, a->size);
		break;
	case CF_NETFS_NOTE_RELEASE:
		fscache_note_page_release(c->cookie);
		break;
	}
	cf_cookie_put(ctx, c);
	return ret;
}

static int cf_use(struct cf_ctx *ctx, void *arg)
{
	return cf_change(ctx, CF_NETFS_USE, arg);
}

static int cf_unuse(struct cf_ctx *ctx, void *arg)
{
	return cf_change(ctx, CF_NETFS_UNUSE, arg);
}

static int cf_update(struct cf_ctx *ctx, void *arg)
{
	return cf_change(ctx, CF_NETFS_UPDATE, arg);
}

static int cf_invalidate(struct cf_ctx *ctx, void *arg)
{
	return cf_change(ctx, CF_NETFS_INVALIDATE, arg);
}

static int cf_resize(struct cf_ctx *ctx, void *arg)
{
	return cf_change(ctx, CF_NETFS_RESIZE, arg);
}

static int cf_note_release(struct cf_ctx *ctx, void *arg)
{
	return cf_change(ctx, CF_NETFS_NOTE_RELEASE, arg);
}

/* --- operations --- */

static int cf_begin(struct cf_ctx *ctx, void *arg)
{
	struct cf_netfs_begin *a = arg;
	struct cf_op *op = cf_op_for(ctx, a->cookie, 0, a->write);
	int ret;

	if (IS_ERR(op))
		return PTR_ERR(op);
	ret = cf_alloc(ctx, &ctx->ops, &a->id, op);
	if (ret)
		cf_op_put(op);
	return ret;
}

static int cf_end_op(struct cf_ctx *ctx, void *arg)
{
	struct cf_op *op;
	u32 *id = arg;

	mutex_lock(&ctx->lock);
	op = xa_erase(&ctx->ops, *id);
	mutex_unlock(&ctx->lock);
	if (!op)
		return -EBADF;
	cf_op_put(op);
	return 0;
}

/* How long an operation that ends late waits to see its cookie going, in milliseconds. */
#define CF_LATE_MAX	5000
/* And how long it watches it then. */
#define CF_LATE_WATCH	300

struct cf_late {
	struct cf_ctx *ctx;
	struct fscache_cookie *cookie;
	struct cf_netfs_relinquish relinquish;
	struct completion reached;
	struct work_struct work;
	int ret;
	u32 state;
	u32 refs;
};

static void cf_late_relinquish(struct work_struct *work)
{
	struct cf_late *late = container_of(work, struct cf_late, work);

	wait_for_completion(&late->reached);
	late->ret = cf_relinquish_cookie(late->ctx, &late->relinquish);
}

/* In any context, most likely with interrupts off. */
static void cf_late_probe(void *data, unsigned int cookie_debug_id, int ref, int n_accesses,
			  enum fscache_access_trace why)
{
	struct cf_late *late = data;
	struct fscache_cookie *cookie = late->cookie;
	unsigned int ms, watched = 0;

	if (cookie_debug_id != cookie->debug_id || why != fscache_access_io_end || n_accesses)
		return;
	complete(&late->reached);
	for (ms = 0; ms < CF_LATE_MAX && watched < CF_LATE_WATCH; ms++) {
		late->state = max_t(u32, late->state, READ_ONCE(cookie->state));
		/* The operation has one, and cf_end_late(). */
		late->refs = refcount_read(&cookie->ref) - 2;
		if (!late->refs)
			break;
		watched += late->state >= FSCACHE_COOKIE_STATE_RELINQUISHING;
		mdelay(1);
	}
}

static int cf_end_late(struct cf_ctx *ctx, void *arg)
{
	struct cf_netfs_end_late *a = arg;
	struct cf_late late = { .ctx = ctx, .relinquish.cookie = a->cookie };
	struct cf_op *op = cf_op_for(ctx, 0, a->op, false);
	int ret;

	if (IS_ERR(op))
		return PTR_ERR(op);
	init_completion(&late.reached);
	INIT_WORK_ONSTACK(&late.work, cf_late_relinquish);
	late.cookie = fscache_get_cookie(op->cookie, fscache_cookie_get_attach_object);
	ret = register_trace_fscache_access(cf_late_probe, &late);
	if (!ret) {
		queue_work(cf_wq, &late.work);
		ret = cf_end_op(ctx, &a->op);
		cf_op_put(op);
		/* It may not have been the last. */
		complete(&late.reached);
		flush_work(&late.work);
		unregister_trace_fscache_access(cf_late_probe, &late);
		tracepoint_synchronize_unregister();
		a->state = late.state;
		a->refs = late.refs;
		ret = ret ?: late.ret;
	} else {
		cf_op_put(op);
	}
	destroy_work_on_stack(&late.work);
	fscache_put_cookie(late.cookie, fscache_cookie_put_object);
	return ret;
}

static void cf_io_free_pages(struct cf_io *io)
{
	while (io->nr)
		__free_page(io->bv[--io->nr].bv_page);
	kvfree(io->bv);
	io->bv = NULL;
}

static void cf_io_free(struct cf_io *io)
{
	cf_io_free_pages(io);
	if (io->op)
		cf_op_put(io->op);
	kfree(io->subreq);
	kfree(io);
}

/* Room for @len bytes at @start, laid out as in the page cache; takes over @op. */
static struct cf_io *cf_io_alloc(struct cf_op *op, u64 start, u64 len, int poison)
{
	struct cf_io *io = kzalloc_obj(*io);
	unsigned int nr;

	if (!io) {
		cf_op_put(op);
		return ERR_PTR(-ENOMEM);
	}
	INIT_LIST_HEAD(&io->link);
	init_completion(&io->done);
	io->op = op;
	io->off = offset_in_page(start);
	nr = DIV_ROUND_UP(io->off + len, PAGE_SIZE);
	io->bv = kvcalloc(nr, sizeof(*io->bv), GFP_KERNEL);
	if (!io->bv)
		goto nomem;
	while (io->nr < nr) {
		struct page *page = alloc_page(GFP_KERNEL);

		if (!page)
			goto nomem;
		memset(page_address(page), poison, PAGE_SIZE);
		bvec_set_page(&io->bv[io->nr++], page, PAGE_SIZE, 0);
	}
	if (nr) {
		io->bv[0].bv_offset = io->off;
		io->bv[0].bv_len -= io->off;
	}
	return io;

nomem:
	cf_io_free(io);
	return ERR_PTR(-ENOMEM);
}

/*
 * Faults are for the code under test: a tool that does not get to know what was done, or
 * can't undo it, does not know what has to be so from then on.
 */
static unsigned int cf_pause_faults(void)
{
	unsigned int nth = 0;

#ifdef CONFIG_FAULT_INJECTION
	swap(nth, current->fail_nth);
#endif
	return nth;
}

static void cf_resume_faults(unsigned int nth)
{
#ifdef CONFIG_FAULT_INJECTION
	current->fail_nth = nth;
#endif
}

static int cf_copy(void __user *user, void *kernel, size_t len, bool to_user)
{
	unsigned int nth = cf_pause_faults();
	unsigned long left;

	if (to_user)
		left = copy_to_user(user, kernel, len);
	else
		left = copy_from_user(kernel, user, len);
	cf_resume_faults(nth);
	return left ? -EFAULT : 0;
}

static int cf_io_copy(struct cf_io *io, u64 user, u64 len, bool to_user)
{
	void __user *p = u64_to_user_ptr(user);
	unsigned int i;

	for (i = 0; i < io->nr && len; i++) {
		size_t n = min_t(u64, len, io->bv[i].bv_len);
		void *kp = page_address(io->bv[i].bv_page) + io->bv[i].bv_offset;

		if (cf_copy(p, kp, n, to_user))
			return -EFAULT;
		p += n;
		len -= n;
	}
	return 0;
}

#ifdef COMPAT_HAVE_NETFS_TERM_FUNC2
static void cf_terminated(void *priv, ssize_t transferred_or_error)
#else
static void cf_terminated(void *priv, ssize_t transferred_or_error, bool was_async)
#endif
{
	struct cf_io *io = priv;

	if (atomic_read(&io->completions) == 0)
		io->result = transferred_or_error;
	atomic_inc(&io->completions);
	complete(&io->done);
}

/*
 * The last thing that the library does to a subrequest is to drop its reference. It wakes
 * nobody who is not its own collector, so this has to look.
 */
static bool cf_subreq_done(struct netfs_io_subrequest *subreq)
{
#ifdef COMPAT_HAVE_NETFS_STREAMS
	if (test_bit_acquire(NETFS_SREQ_IN_PROGRESS, &subreq->flags))
		return false;
#endif
	return refcount_read(&subreq->ref) == 1;
}

static void cf_io_late(struct work_struct *work)
{
	struct cf_io *io = container_of(work, struct cf_io, work);

	if (io->subreq)
		while (!cf_subreq_done(io->subreq))
			msleep(20);
	else
		wait_for_completion(&io->done);
	cf_io_free(io);
}

/* On error the I/O is not ours any more. */
static int cf_io_wait(struct cf_io *io, u32 timeout_ms)
{
	long ret;

	if (io->subreq) {
		unsigned long end = cf_end(timeout_ms);

		ret = cf_wait_until(cf_subreq_done(io->subreq), end);
	} else {
		ret = wait_for_completion_killable_timeout(&io->done,
							   msecs_to_jiffies(timeout_ms));
		ret = ret > 0 ? 0 : ret ? -EINTR : -ETIMEDOUT;
	}
	if (ret) {
		INIT_WORK(&io->work, cf_io_late);
		queue_work(cf_wq, &io->work);
		return ret;
	}
	return 0;
}

/* Drop what is big, keep what a second completion would strike. */
static void cf_io_keep(struct cf_ctx *ctx, struct cf_io *io)
{
	cf_io_free_pages(io);
	cf_op_put(io->op);
	io->op = NULL;
	mutex_lock(&ctx->lock);
	ctx->submitted++;
	list_add_tail(&io->link, &ctx->ios);
	mutex_unlock(&ctx->lock);
}

static int cf_hole_mode(u32 hole)
{
	switch (hole) {
	case CF_HOLE_IGNORE:
		return NETFS_READ_HOLE_IGNORE;
	case CF_HOLE_FAIL:
		return NETFS_READ_HOLE_FAIL;
#ifndef COMPAT_HAVE_NETFS_TERM_FUNC2
	/* It went together with the completions' third argument. */
	case CF_HOLE_CLEAR:
		return NETFS_READ_HOLE_CLEAR;
#endif
	default:
		return -EOPNOTSUPP;
	}
}

static enum cf_netfs_source cf_source(enum netfs_io_source source)
{
	switch (source) {
	case NETFS_FILL_WITH_ZEROES:
		return CF_SOURCE_ZEROES;
	case NETFS_DOWNLOAD_FROM_SERVER:
		return CF_SOURCE_DOWNLOAD;
	case NETFS_READ_FROM_CACHE:
		return CF_SOURCE_CACHE;
	case NETFS_INVALID_READ:
		return CF_SOURCE_INVALID;
	default:
		return CF_SOURCE_UNKNOWN;
	}
}

static void cf_prepare_read(struct cf_op *op, struct cf_netfs_read *a)
{
	struct netfs_io_subrequest subreq = {
		.rreq	= &op->rreq,
		.start	= a->start,
		.len	= a->len,
	};

	refcount_set(&subreq.ref, 1);
	op->rreq.start = a->start;
	op->rreq.len = a->len;
	op->rreq.i_size = a->i_size;
	a->source = cf_source(op->rreq.cache_resources.ops->prepare_read(&subreq, a->i_size));
	a->prepared = subreq.len;
	a->flags = test_bit(NETFS_SREQ_COPY_TO_CACHE, &subreq.flags) ? CF_SREQ_COPY_TO_CACHE : 0;
}

/*
 * What a reader gets to see when the cache completes a read of @len with @ret: 0 if he
 * gets his data, be it from the server, else an errno. Libraries differ in how they are
 * told to ask the server.
 */
static int cf_seen(ssize_t ret, u64 len)
{
#ifndef COMPAT_HAVE_NETFS_STREAMS
	/* What is too short is read from the cache again, with zeros where it has nothing. */
	return ret >= 0 && ret < len ? -EBADMSG : 0;
#elif defined(COMPAT_HAVE_NETFS_TERM_FUNC2)
	return ret ? 0 : -ENODATA;
#else
	return min_t(ssize_t, ret, 0);
#endif
}

static int cf_read(struct cf_ctx *ctx, void *arg)
{
	struct cf_netfs_read *a = arg;
	int hole = cf_hole_mode(a->hole), ret;
	struct cf_op *op;
	struct cf_io *io;
	u64 len = a->len;

	if (hole < 0)
		return hole;
	if (a->how & CF_IO_ISSUE && len > CF_NETFS_MAX_IO)
		return -E2BIG;
	op = cf_op_for(ctx, a->cookie, a->op, false);
	if (IS_ERR(op))
		return PTR_ERR(op);
	a->source = CF_SOURCE_CACHE;
	a->prepared = len;
	if (a->how & CF_IO_SINGLE)
		op->rreq.origin = NETFS_READ_SINGLE;
	if (a->how & CF_IO_PREPARE)
		cf_prepare_read(op, a);
	len = min(len, a->prepared);
	if (!(a->how & CF_IO_ISSUE) || a->source != CF_SOURCE_CACHE || !len) {
		cf_op_put(op);
		return 0;
	}

	io = cf_io_alloc(op, a->start, len, CF_NETFS_POISON);
	if (IS_ERR(io))
		return PTR_ERR(io);
	iov_iter_bvec(&io->iter, ITER_DEST, io->bv, io->nr, len);
	if (a->how & CF_IO_SYNC) {
		a->ret = fscache_read(&op->rreq.cache_resources, a->start, &io->iter, hole,
				      NULL, NULL);
		a->result = a->ret;
		a->left = iov_iter_count(&io->iter);
		ret = cf_io_copy(io, a->buf, len, true);
		cf_io_free(io);
		return ret;
	}
	a->ret = fscache_read(&op->rreq.cache_resources, a->start, &io->iter, hole,
			      cf_terminated, io);
	a->left = iov_iter_count(&io->iter);
	ret = cf_io_wait(io, a->timeout_ms);
	if (ret)
		return ret;
	a->result = io->result;
	a->seen = cf_seen(io->result, len);
	a->completions = atomic_read(&io->completions);
	ret = cf_io_copy(io, a->buf, len, true);
	cf_io_keep(ctx, io);
	return ret;
}

static int cf_prepare_write(struct netfs_cache_resources *cres, loff_t *start, size_t *len,
			    const struct cf_netfs_write *a)
{
	bool new = a->how & CF_IO_NEW;

	if (!fscache_wait_for_operation(cres, FSCACHE_WANT_WRITE))
		return -ENOBUFS;
#ifdef COMPAT_HAVE_NETFS_STREAMS
	return cres->ops->prepare_write(cres, start, len, a->len, a->i_size, new);
#else
	return cres->ops->prepare_write(cres, start, len, a->i_size, new);
#endif
}

/* As fscache_write_to_cache() does it, which takes its data from a mapping. */
static int cf_write(struct cf_ctx *ctx, void *arg)
{
	struct cf_netfs_write *a = arg;
	struct netfs_cache_resources *cres;
	loff_t start = a->start;
	size_t len = a->len;
	struct cf_op *op;
	struct cf_io *io;
	int ret;

	if (len > CF_NETFS_MAX_IO)
		return -E2BIG;
	op = cf_op_for(ctx, a->cookie, a->op, true);
	if (IS_ERR(op))
		return PTR_ERR(op);
	cres = &op->rreq.cache_resources;
	/* It may be rounded up to the end of a page. */
	io = cf_io_alloc(op, a->start, len + PAGE_SIZE, 0);
	if (IS_ERR(io))
		return PTR_ERR(io);
	ret = cf_io_copy(io, a->buf, len, false);
	if (ret)
		goto out;

	if (a->how & CF_IO_PREPARE)
		a->prepare = cf_prepare_write(cres, &start, &len, a);
	a->prepared_start = start;
	a->prepared_len = len;
	if (!(a->how & CF_IO_ISSUE) || a->prepare < 0)
		goto out;
	ret = -EPROTO;
	if (start < a->start || start + len > a->start + a->len + PAGE_SIZE)
		goto out;

	iov_iter_bvec(&io->iter, ITER_SOURCE, io->bv, io->nr, start - a->start + len);
	iov_iter_advance(&io->iter, start - a->start);
	if (a->how & CF_IO_SYNC) {
		a->ret = fscache_write(cres, start, &io->iter, NULL, NULL);
		a->result = a->ret;
		a->left = iov_iter_count(&io->iter);
		ret = 0;
		goto out;
	}
	a->ret = fscache_write(cres, start, &io->iter, cf_terminated, io);
	a->left = iov_iter_count(&io->iter);
	ret = cf_io_wait(io, a->timeout_ms);
	if (ret)
		return ret;
	a->result = io->result;
	a->completions = atomic_read(&io->completions);
	cf_io_keep(ctx, io);
	return 0;
out:
	cf_io_free(io);
	return ret;
}

#ifdef COMPAT_HAVE_NETFS_STREAMS
/* Mark what @op is going to store as read. */
static int cf_op_mark_copies(struct cf_op *op, u64 start, u64 len)
{
	void *entry;
	u64 pos;

	op->copies = kzalloc_obj(*op->copies);
	op->copy = alloc_page(GFP_KERNEL);
	if (!op->copies || !op->copy)
		return -ENOMEM;
	address_space_init_once(op->copies);
	set_page_private(op->copy, (unsigned long)NETFS_FOLIO_COPY_TO_CACHE);
	for (pos = round_down(start, PAGE_SIZE); pos < start + len; pos += PAGE_SIZE) {
		entry = xa_store_irq(&op->copies->i_pages, pos >> PAGE_SHIFT,
				     page_folio(op->copy), GFP_KERNEL);
		if (xa_is_err(entry))
			return xa_err(entry);
	}
	op->rreq.mapping = op->copies;
	return 0;
}

/* What the library's write-back does to the stream of the cache, with one subrequest. */
static int cf_write_subreq(struct cf_ctx *ctx, void *arg)
{
	struct cf_netfs_subreq *a = arg;
	struct netfs_io_subrequest *subreq;
	const struct netfs_cache_ops *ops;
	struct netfs_io_stream *stream;
	struct cf_op *op;
	struct cf_io *io;
	int ret;

	if (a->len > CF_NETFS_MAX_IO || a->extendable_to > CF_NETFS_MAX_IO)
		return -E2BIG;
	op = cf_op_for(ctx, a->cookie, 0, true);
	if (IS_ERR(op))
		return PTR_ERR(op);
	io = cf_io_alloc(op, a->start, a->len + a->extendable_to, 0);
	if (IS_ERR(io))
		return PTR_ERR(io);
	ret = cf_io_copy(io, a->buf, a->len, false);
	if (!ret && a->copy == CF_COPY_WRITEBACK)
		ret = cf_op_mark_copies(op, a->start, a->len);
	if (ret)
		goto err;
	if (a->copy == CF_COPY_READ)
		op->rreq.origin = NETFS_PGPRIV2_COPY_TO_CACHE;
	ret = -ENOMEM;
	subreq = kzalloc_obj(*subreq);
	if (!subreq)
		goto err;
	io->subreq = subreq;

	op->rreq.start = a->start;
	op->rreq.len = a->len;
	op->rreq.i_size = a->i_size;
	ops = op->rreq.cache_resources.ops;
	stream = &op->rreq.io_streams[1];
	stream->collected_to = a->start;
	stream->prepare_write = ops->prepare_write_subreq;
	stream->issue_write = ops->issue_write;

	INIT_LIST_HEAD(&subreq->rreq_link);
	refcount_set(&subreq->ref, 2);
	subreq->rreq = &op->rreq;
	subreq->source = NETFS_WRITE_TO_CACHE;
	subreq->stream_nr = 1;
	subreq->start = a->start;
	iov_iter_bvec(&subreq->io_iter, ITER_SOURCE, io->bv, io->nr, a->len + a->extendable_to);
	if (stream->prepare_write)
		stream->prepare_write(subreq);
	a->max_len = stream->sreq_max_len;
	a->max_segs = stream->sreq_max_segs;

	__set_bit(NETFS_SREQ_IN_PROGRESS, &subreq->flags);
	subreq->len = min_t(u64, a->len, stream->sreq_max_len);
	subreq->nr_segs = io->nr;
	subreq->io_iter.count = subreq->len;
	stream->submit_extendable_to = subreq->len < a->len ? 0 : a->extendable_to;
	if (!test_bit(NETFS_SREQ_FAILED, &subreq->flags))
		stream->issue_write(subreq);
	else
		netfs_write_subrequest_terminated(subreq, subreq->error);
	ret = cf_io_wait(io, a->timeout_ms);
	if (ret)
		return ret;
	a->flags = (test_bit(NETFS_SREQ_FAILED, &subreq->flags) ? CF_SREQ_FAILED : 0) |
		   (test_bit(NETFS_SREQ_NEED_RETRY, &subreq->flags) ? CF_SREQ_NEED_RETRY : 0);
	a->error = subreq->error;
	a->transferred = subreq->transferred;
	a->new_len = subreq->len;
	atomic_set(&io->completions, 1);
	cf_io_keep(ctx, io);
	return 0;
err:
	cf_io_free(io);
	return ret;
}
#else
/* This library does not write, its users do. */
static int cf_write_subreq(struct cf_ctx *ctx, void *arg)
{
	return -EOPNOTSUPP;
}
#endif

static int cf_query(struct cf_ctx *ctx, void *arg)
{
	struct cf_netfs_query *a = arg;
	struct netfs_cache_resources *cres;
	loff_t data_start = 0;
	size_t data_len = 0;
	struct cf_op *op;

	op = cf_op_for(ctx, a->cookie, a->op, false);
	if (IS_ERR(op))
		return PTR_ERR(op);
	cres = &op->rreq.cache_resources;
	a->ret = cres->ops->query_occupancy(cres, a->start, a->len, a->granularity,
					    &data_start, &data_len);
	a->data_start = data_start;
	a->data_len = data_len;
	cf_op_put(op);
	return 0;
}

static int cf_stats(struct cf_ctx *ctx, void *arg)
{
	struct cf_netfs_stats *a = arg;
	struct cf_io *io;

	memset(a, 0, sizeof(*a));
	mutex_lock(&ctx->lock);
	a->submitted = ctx->submitted;
	list_for_each_entry(io, &ctx->ios, link)
		if (atomic_read(&io->completions) != 1)
			a->odd++;
	mutex_unlock(&ctx->lock);
	return 0;
}

/* --- the device --- */

static const struct cf_command {
	unsigned int cmd;
	int (*fn)(struct cf_ctx *ctx, void *arg);
} cf_commands[] = {
	{ CF_NETFS_ACQUIRE_VOLUME,	cf_acquire_volume },
	{ CF_NETFS_RELINQUISH_VOLUME,	cf_relinquish_volume },
	{ CF_NETFS_VOLUME_INFO,		cf_volume_info },
	{ CF_NETFS_ACQUIRE_COOKIE,	cf_acquire_cookie },
	{ CF_NETFS_RELINQUISH_COOKIE,	cf_relinquish_cookie },
	{ CF_NETFS_USE,			cf_use },
	{ CF_NETFS_UNUSE,		cf_unuse },
	{ CF_NETFS_UPDATE,		cf_update },
	{ CF_NETFS_INVALIDATE,		cf_invalidate },
	{ CF_NETFS_RESIZE,		cf_resize },
	{ CF_NETFS_NOTE_RELEASE,	cf_note_release },
	{ CF_NETFS_WAIT,		cf_wait },
	{ CF_NETFS_BEGIN,		cf_begin },
	{ CF_NETFS_END,			cf_end_op },
	{ CF_NETFS_READ,		cf_read },
	{ CF_NETFS_WRITE,		cf_write },
	{ CF_NETFS_WRITE_SUBREQ,	cf_write_subreq },
	{ CF_NETFS_QUERY,		cf_query },
	{ CF_NETFS_STATS,		cf_stats },
	{ CF_NETFS_END_LATE,		cf_end_late },
};

static long cf_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct cf_ctx *ctx = file->private_data;
	void __user *p = (void __user *)arg;
	unsigned int i, nth, size = _IOC_SIZE(cmd);
	void *a;
	int ret;

	for (i = 0; i < ARRAY_SIZE(cf_commands); i++)
		if (cf_commands[i].cmd == cmd)
			break;
	if (i == ARRAY_SIZE(cf_commands))
		return -ENOTTY;
	nth = cf_pause_faults();
	a = kzalloc(size, GFP_KERNEL);
	cf_resume_faults(nth);
	if (!a)
		return -ENOMEM;
	ret = -EFAULT;
	if (_IOC_DIR(cmd) & _IOC_WRITE && cf_copy(p, a, size, false))
		goto out;
	ret = cf_commands[i].fn(ctx, a);
	/* What there is to say about a failure is in there. */
	if (_IOC_DIR(cmd) & _IOC_READ && cf_copy(p, a, size, true))
		ret = -EFAULT;
out:
	kfree(a);
	return ret;
}

static int cf_open(struct inode *inode, struct file *file)
{
	struct cf_ctx *ctx = kzalloc_obj(*ctx);

	if (!ctx)
		return -ENOMEM;
	mutex_init(&ctx->lock);
	xa_init_flags(&ctx->volumes, XA_FLAGS_ALLOC1);
	xa_init_flags(&ctx->cookies, XA_FLAGS_ALLOC1);
	xa_init_flags(&ctx->ops, XA_FLAGS_ALLOC1);
	INIT_LIST_HEAD(&ctx->ios);
	ctx->file = file;
	file->private_data = ctx;
	return 0;
}

/* Everything is given back in the order that fscache asks for. */
static int cf_release(struct inode *inode, struct file *file)
{
	struct cf_ctx *ctx = file->private_data;
	struct cf_volume *v;
	struct cf_cookie *c;
	struct cf_io *io, *next;
	struct cf_op *op;
	unsigned long i;

	xa_for_each(&ctx->ops, i, op)
		cf_op_put(op);
	xa_for_each(&ctx->cookies, i, c) {
		while (c->uses--)
			fscache_unuse_cookie(c->cookie, NULL, NULL);
		fscache_relinquish_cookie(c->cookie, false);
		fscache_put_cookie(c->cookie, fscache_cookie_put_object);
		kfree(c);
	}
	xa_for_each(&ctx->volumes, i, v) {
		fscache_relinquish_volume(v->volume, NULL, false);
		kfree(v);
	}
	list_for_each_entry_safe(io, next, &ctx->ios, link)
		cf_io_free(io);
	xa_destroy(&ctx->ops);
	xa_destroy(&ctx->cookies);
	xa_destroy(&ctx->volumes);
	kfree(ctx);
	return 0;
}

static const struct file_operations cf_fops = {
	.owner		= THIS_MODULE,
	.open		= cf_open,
	.release	= cf_release,
	.unlocked_ioctl	= cf_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.llseek		= noop_llseek,
};

static struct miscdevice cf_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "cf_netfs",
	.mode	= 0600,
	.fops	= &cf_fops,
};

static int __init cf_init(void)
{
	int ret;

	cf_wq = alloc_workqueue("cf_netfs", WQ_UNBOUND, 0);
	if (!cf_wq)
		return -ENOMEM;
	ret = misc_register(&cf_misc);
	if (ret)
		destroy_workqueue(cf_wq);
	return ret;
}

static void __exit cf_exit(void)
{
	misc_deregister(&cf_misc);
	/* Waits for what was given up by its caller. */
	destroy_workqueue(cf_wq);
}

module_init(cf_init);
module_exit(cf_exit);

MODULE_DESCRIPTION("Network file system played from user space, to test caches");
MODULE_LICENSE("GPL");
