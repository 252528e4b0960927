// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reads of on-demand objects: what is present comes from the backing file, what
 * is missing is fetched by the daemon first.
 *
 * A read starts as one io.  It is cut where presence changes, and each piece
 * goes its own way: data are read at once, a hole becomes a READ for the daemon
 * or follows a READ that is under way for the same place.  When a READ is
 * answered, its piece looks at the backing file again.
 *
 * Locking is described in ondemand.h.
 */
#include <linux/cachefiles.h>
#include <linux/file.h>
#include <linux/pid.h>
#include <linux/sched/mm.h>
#include "delay.h"
#include "ondemand.h"

/* What has become of an io, beside being on its way (0) or failing (< 0). */
enum {
	CACHEFILES_LOOK_AGAIN = 1,	/* look at the backing file again */
	CACHEFILES_LOOK_LATER,		/* it waits for its object to be opened */
	CACHEFILES_LOOK_FETCH,		/* what is there does not count yet */
};

/* How often a look is repeated because of READs that were answered meanwhile. */
#define CACHEFILES_LOOK_TRIES	3

/* What a look at the backing file starts from. */
struct cachefiles_look {
	unsigned int tries;
	u32	fetches;
	loff_t	size;
};

/**
 * cachefiles_fetch_unlink_locked - A READ is no longer under way
 * @io: Its io.
 *
 * Context: queue->lock held.
 */
void cachefiles_fetch_unlink_locked(struct cachefiles_io *io)
{
	struct cachefiles_ondemand *od = io->req.od;

	lockdep_assert_held(&od->queue->lock);
	rb_erase(&io->node, &od->fetching);
	RB_CLEAR_NODE(&io->node);
}

/*
 * Find the READ under way that covers @io's first byte, or else the first one
 * that starts inside @io.
 */
static struct cachefiles_io *cachefiles_fetch_overlap_locked(struct cachefiles_ondemand *od,
							     const struct cachefiles_io *io)
{
	loff_t end = io->pos + (loff_t)io->len;
	struct rb_node *node = od->fetching.rb_node;
	struct cachefiles_io *found = NULL;

	lockdep_assert_held(&od->queue->lock);
	while (node) {
		struct cachefiles_io *other = rb_entry(node, struct cachefiles_io, node);

		if (other->pos >= end) {
			node = node->rb_left;
		} else if (other->pos + (loff_t)other->len <= io->pos) {
			node = node->rb_right;
		} else {
			found = other;
			if (other->pos <= io->pos)
				break;
			node = node->rb_left;
		}
	}
	return found;
}

static bool cachefiles_io_before(struct rb_node *node, const struct rb_node *parent)
{
	return rb_entry(node, struct cachefiles_io, node)->pos <
	       rb_entry(parent, struct cachefiles_io, node)->pos;
}

static int cachefiles_fetch_queue_locked(struct cachefiles_io *io,
					 const struct cachefiles_look *look, loff_t *cut)
{
	struct cachefiles_ondemand *od = io->req.od;
	struct cachefiles_io *other;

	lockdep_assert_held(&od->queue->lock);
	if (od->cancels != io->cancels)
		return -ECANCELED;
	if (od->queue->dead || od->state == CACHEFILES_OD_DROPPING)
		return -EIO;
	if (od->state == CACHEFILES_OD_CLOSED && !cachefiles_failover_reopens(od))
		return -EIO;
	/*
	 * Somebody's READ was answered since we looked: it may have been ours.
	 * Where that goes on all the time, asking in vain does no harm.
	 */
	if (od->fetches != look->fetches && look->tries < CACHEFILES_LOOK_TRIES)
		return CACHEFILES_LOOK_AGAIN;

	other = cachefiles_fetch_overlap_locked(od, io);
	if (other && other->pos > io->pos) {
		*cut = other->pos;
		return CACHEFILES_LOOK_AGAIN;
	}
	cachefiles_reap_arm_locked(od);
	if (other) {
		cachefiles_req_set_state(&io->req, CACHEFILES_REQ_FOLLOWING);
		list_add_tail(&io->req.link, &other->followers);
		return 0;
	}
	rb_add(&io->node, &od->fetching, cachefiles_io_before);
	cachefiles_req_set_state(&io->req, CACHEFILES_REQ_QUEUED);
	list_add_tail(&io->req.link, &od->queued);
	cachefiles_queue_update(od);
	cachefiles_queue_wake(od->queue);
	return 0;
}

/*
 * Have the daemon fill @io.  On success the io belongs to the protocol.  If it has
 * to look again and *@cut is not 0, it has to be cut there.
 */
static int cachefiles_fetch(struct cachefiles_io *io, const struct cachefiles_look *look,
			    loff_t *cut)
{
	struct cachefiles_queue *queue = io->req.od->queue;
	int ret;

	/* Set before the id can be found; nobody else uses an IDLE io. */
	ret = cachefiles_ids_insert(&queue->msg_ids, &io->req, &io->req.id, GFP_NOFS);
	if (ret)
		return ret;

	cachefiles_delay(CACHEFILES_DELAY_ENQUEUE);
	guard(spinlock)(&queue->lock);
	ret = cachefiles_fetch_queue_locked(io, look, cut);
	if (ret || io->req.state == CACHEFILES_REQ_FOLLOWING)
		xa_erase(&queue->msg_ids.used, io->req.id);
	return ret;
}

/*
 * May @io look at the backing file?  If it has to do so later, it belongs to the
 * protocol until the object is open.
 */
static int cachefiles_fetch_admit(struct cachefiles_io *io, struct cachefiles_look *look)
{
	struct cachefiles_ondemand *od = io->req.od;

	guard(spinlock)(&od->queue->lock);
	if (io->req.state == CACHEFILES_REQ_DONE)
		cachefiles_req_set_state(&io->req, CACHEFILES_REQ_IDLE);
	if (od->cancels != io->cancels)
		return -ECANCELED;
	if (od->state == CACHEFILES_OD_DROPPING)
		return -EIO;
	if (od->attached) {
		look->fetches = od->fetches;
		look->size = od->size;
		return 0;
	}
	if (od->queue->dead)
		return -EIO;
	if (od->untold)
		return xchg(&od->untold, 0);
	cachefiles_reap_arm_locked(od);
	od->awaited = true;
	cachefiles_req_set_state(&io->req, CACHEFILES_REQ_BLOCKED);
	list_add_tail(&io->req.link, &od->blocked);
	cachefiles_queue_update(od);
	cachefiles_queue_wake(od->queue);
	return CACHEFILES_LOOK_LATER;
}

/*
 * How much of what is found in @io up to @end counts, since it is not being written?  To be
 * asked after cachefiles_io_begin_read(), and both before and after the look: a write that
 * is going on before may take away what it has brought without waiting for @io, and be over
 * after, and one that begins later may bring what is not to be believed yet.
 *
 * Return: Where it ends; at or before @io's first byte if nothing counts.
 */
static loff_t cachefiles_fetch_settled(const struct cachefiles_io *io, loff_t end)
{
	struct cachefiles_ondemand *od = io->req.od;
	const struct cachefiles_fill *fill;

	guard(spinlock)(&od->queue->lock);
	list_for_each_entry(fill, &od->fills, link) {
		if (fill->end > io->pos)
			end = min(end, fill->pos);
	}
	return end;
}

/*
 * Have the daemon fill @io up to @data, or to where READs end, and treat what lies behind
 * separately.
 */
static int cachefiles_fetch_hole(struct cachefiles_io *io, loff_t data,
				 const struct cachefiles_look *look, struct list_head *todo)
{
	size_t len = io->len;
	loff_t cut = 0;
	int ret;

	cachefiles_ondemand_slice(io->pos, &len);
	/* From now on nothing has been brought. */
	io->fetched = false;
	io->cuts = cachefiles_presence_begin(io->object);
	ret = cachefiles_io_cut(io, min(data, io->pos + (loff_t)len), todo);
	if (!ret)
		ret = cachefiles_fetch(io, look, &cut);
	if (ret == CACHEFILES_LOOK_AGAIN && cut)
		ret = cachefiles_io_cut(io, cut, todo) ?: ret;
	return ret;
}

/*
 * Look at the backing file and start the io on its way.
 *
 * Return: 0 if it is on its way, CACHEFILES_LOOK_AGAIN, or an error to complete it
 * with.
 */
static int cachefiles_fetch_look(struct cachefiles_io *io, const struct cachefiles_look *look,
				 struct list_head *todo)
{
	loff_t end, data, hole, settled;
	unsigned int nofs;
	struct file *file;
	int ret;

	cachefiles_io_clip(io, round_up(look->size, CACHEFILES_GRANULE));
	if (!io->len) {
		cachefiles_io_complete(io, 0);
		return 0;
	}
	file = cachefiles_object_get_file(io->object);
	if (!file)
		return -EIO;

	io->reading = cachefiles_io_begin_read(io->req.od->cache);
	end = io->pos + (loff_t)io->len;
	settled = cachefiles_fetch_settled(io, end);
	nofs = memalloc_nofs_save();
	/* Ask first what is likely: a hole, or data if they were just fetched. */
	data = io->fetched ? io->pos : cachefiles_presence_next_data(file, io->pos, end);
	hole = data == io->pos ? cachefiles_presence_next_hole(file, look->size, io->pos, end) :
				 io->pos;
	memalloc_nofs_restore(nofs);
	ret = min3(data, hole, (loff_t)0);
	if (!ret && hole > io->pos) {
		cachefiles_delay(CACHEFILES_DELAY_FOUND);
		settled = min(settled, cachefiles_fetch_settled(io, hole));
		/* Who has failed to take something away has said so before his write was over. */
		if (READ_ONCE(io->object->distrusted) || READ_ONCE(io->req.od->cache->failed))
			ret = -EIO;
		else if (settled > io->pos)
			ret = cachefiles_io_cut(io, settled, todo);
		else
			ret = CACHEFILES_LOOK_FETCH;
		if (!ret) {
			cachefiles_delay(CACHEFILES_DELAY_START);
			cachefiles_io_start(io, file, look->size);
			return 0;
		}
	}
	cachefiles_io_end_read(io->req.od->cache, io->reading);
	fput(file);
	if (ret == CACHEFILES_LOOK_FETCH)
		return cachefiles_fetch_hole(io, hole, look, todo);
	if (ret)
		return ret;
	if (io->fetched) {
		/* What was brought may have gone with another write, which failed. */
		if (io->again || cachefiles_presence_stays(io->object, io->cuts)) {
			pr_notice_ratelimited("READ of %zu bytes at %lld answered without data\n",
					      io->len, io->pos);
			return -EIO;
		}
		io->again = true;
	}
	/* A granule of which a part is missing is fetched again. */
	return cachefiles_fetch_hole(io, max(data, io->pos + (loff_t)CACHEFILES_GRANULE), look,
				     todo);
}

static void cachefiles_fetch_step(struct cachefiles_io *io, struct list_head *todo)
{
	struct cachefiles_look look = {};
	int ret;

	do {
		look.tries++;
		cachefiles_delay(CACHEFILES_DELAY_ADMIT);
		ret = cachefiles_fetch_admit(io, &look);
		if (!ret)
			ret = cachefiles_fetch_look(io, &look, todo);
	} while (ret == CACHEFILES_LOOK_AGAIN);

	if (ret < 0 && cachefiles_io_was_disturbed(io))
		cachefiles_io_defer(io);
	else if (ret < 0)
		cachefiles_io_complete(io, ret);
}

/* Consumes @io: it is completed, or on its way to be. */
static void cachefiles_fetch_run(struct cachefiles_io *io)
{
	LIST_HEAD(todo);

	list_add(&io->req.link, &todo);
	while ((io = list_first_entry_or_null(&todo, struct cachefiles_io, req.link))) {
		list_del_init(&io->req.link);
		cachefiles_fetch_step(io, &todo);
	}
}

/**
 * cachefiles_fetch_work - Carry on a read that was deferred
 * @work: That of the io; consumed.
 *
 * Context: worker.
 */
void cachefiles_fetch_work(struct work_struct *work)
{
	cachefiles_delay(CACHEFILES_DELAY_FETCH_WORK);
	cachefiles_fetch_run(container_of(work, struct cachefiles_io, work));
}

/**
 * cachefiles_fetch_continue - Carry on a read that the protocol has let go of
 * @io: The read: DONE, or IDLE if what it waited for is over.  Consumed.
 *
 * Context: process, no lock held.  Calls back into the netfs, or has a worker do
 * it if the calling task is being killed.
 */
void cachefiles_fetch_continue(struct cachefiles_io *io)
{
	bool ended = io->req.state == CACHEFILES_REQ_DONE;

	if (ended && io->req.error) {
		cachefiles_io_complete(io, io->req.error);
		return;
	}
	/* A READ that was answered has to have brought something. */
	io->fetched = ended;
	if (cachefiles_io_has_dying_helper(io))
		cachefiles_io_defer(io);
	else
		cachefiles_fetch_run(io);
}

/**
 * cachefiles_ondemand_read - Read from an on-demand object
 * @object: The object; the caller holds an access on its cookie until it is
 *	called back.
 * @pos: First byte, a multiple of CACHEFILES_GRANULE.
 * @iter: Where the data go; consumed.  If it is empty, the read is a barrier: it
 *	ends when the object is open, or with the errno of the OPEN that failed.
 * @inval_counter: Invalidations of the cookie when the operation began.
 * @term_func: Called exactly once, in any context, with the number of bytes or a
 *	negative errno.  All of @iter is filled, or the read fails.
 * @term_priv: Argument of @term_func.
 *
 * Context: process; the caller may hold folio locks, so nothing here waits for
 * the daemon or allocates into a file system.
 * Return: -EIOCBQUEUED, always: there are callers that would end the read once more if they
 * were told of an error that they have been called back with.
 */
int cachefiles_ondemand_read(struct cachefiles_object *object, loff_t pos, struct iov_iter *iter,
			     unsigned int inval_counter, netfs_io_terminated_t term_func,
			     void *term_priv)
{
	struct cachefiles_io *io = cachefiles_io_alloc(object->od, object, pos, iter);

	if (!io) {
		iov_iter_advance(iter, iov_iter_count(iter));
		cachefiles_netfs_terminated(term_func, term_priv, -ENOMEM);
		return -EIOCBQUEUED;
	}
	io->task = get_pid(task_pid(current));
	io->cancels = READ_ONCE(object->od->cancels);
	io->total = io->len;
	io->inval_counter = inval_counter;
	io->term_func = term_func;
	io->term_priv = term_priv;
	atomic_set(&io->pending, 1);
	iov_iter_advance(iter, io->len);

	/*
	 * The locks and the stack of a file system that is stacked on another one do not go
	 * on top of what the reader has of both, which may be writing to the one below.
	 */
	if (cachefiles_object_cache(object)->mnt->mnt_sb->s_stack_depth)
		cachefiles_io_defer(io);
	else
		cachefiles_fetch_run(io);
	return -EIOCBQUEUED;
}
