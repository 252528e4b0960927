// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the daemon reads: which request is next, and its delivery.
 *
 * A request is picked under the lock, copied to the daemon without it, and
 * committed under it again.  Until the commit nothing is lost: a fault, or a
 * lack of descriptors or memory, puts the request back where it was.
 *
 * Locking is described in ondemand.h.
 */
#include <linux/cachefiles.h>
#include <linux/file.h>
#include <linux/pid.h>
#include <linux/poll.h>
#include <linux/uaccess.h>
#include "delay.h"
#include "ondemand.h"

/* A message as it is copied to the daemon: all but the keys of an OPEN. */
struct cachefiles_wire {
	struct cachefiles_msg	hdr;
	union {
		struct cachefiles_open	open;
		struct cachefiles_close	close;
		struct cachefiles_read	read;
	};
};

static_assert(offsetof(struct cachefiles_wire, read) == sizeof(struct cachefiles_msg));

/* A message on its way. */
struct cachefiles_delivery {
	struct cachefiles_req	*req;
	struct cachefiles_wire	wire;
};

static bool cachefiles_od_is_deliverable(const struct cachefiles_ondemand *od)
{
	if (od->queue->dead)
		return false;
	switch (od->state) {
	case CACHEFILES_OD_CLOSED:
		return od->wanted || !list_empty(&od->blocked) ||
		       (!list_empty(&od->queued) && cachefiles_failover_reopens(od));
	case CACHEFILES_OD_OPENING:
	case CACHEFILES_OD_REOPENING:
		return od->open.state == CACHEFILES_REQ_QUEUED;
	case CACHEFILES_OD_OPEN:
		return !list_empty(&od->queued);
	case CACHEFILES_OD_DROPPING:
		return od->close.state == CACHEFILES_REQ_QUEUED;
	default:
		return false;
	}
}

/**
 * cachefiles_queue_update - Put an od on the ready list, or take it off
 * @od: An od that something was changed about.
 *
 * Ends every section under the lock that may have changed whether there is
 * something to deliver.  Context: queue->lock held.
 */
void cachefiles_queue_update(struct cachefiles_ondemand *od)
{
	lockdep_assert_held(&od->queue->lock);
	if (!cachefiles_od_is_deliverable(od))
		list_del_init(&od->ready_link);
	else if (list_empty(&od->ready_link))
		list_add_tail(&od->ready_link, &od->queue->ready);
}

/**
 * cachefiles_queue_wake - Tell daemons that something has become deliverable
 * @queue: The queue.
 *
 * Called for each request and not just for the first, so that daemon threads
 * that are woken one at a time all get their share.
 */
void cachefiles_queue_wake(struct cachefiles_queue *queue)
{
	if (!list_empty(&queue->ready))
		wake_up_poll(queue->wait, EPOLLIN);
}

/**
 * cachefiles_queue_wake_od - Tell daemons that all of an od has become deliverable
 * @od: An od that had nothing to deliver, or less than it has now.
 *
 * As cachefiles_queue_wake(), for as many requests as there are: a thread that is
 * woken may be busy with the first one for as long as it likes.
 *
 * Context: queue->lock held.
 */
void cachefiles_queue_wake_od(struct cachefiles_ondemand *od)
{
	const struct cachefiles_req *req;
	int nr = 0;

	lockdep_assert_held(&od->queue->lock);
	if (list_empty(&od->ready_link))
		return;
	if (od->state == CACHEFILES_OD_OPEN)
		list_for_each_entry(req, &od->queued, link)
			nr++;
	__wake_up(od->queue->wait, TASK_NORMAL, max(nr, 1), poll_to_key(EPOLLIN));
}

/* The od goes to the end of the line, so that a busy one starves nobody. */
static void cachefiles_queue_rotate_locked(struct cachefiles_ondemand *od)
{
	lockdep_assert_held(&od->queue->lock);
	list_del_init(&od->ready_link);
	cachefiles_queue_update(od);
}

static size_t cachefiles_delivery_len(const struct cachefiles_ondemand *od)
{
	const size_t hdr = sizeof(struct cachefiles_msg);

	switch (od->state) {
	case CACHEFILES_OD_OPEN:
		return hdr + sizeof(struct cachefiles_read);
	case CACHEFILES_OD_DROPPING:
		return hdr + sizeof(struct cachefiles_close);
	default:
		return hdr + sizeof(struct cachefiles_open) + od->keys_len;
	}
}

/* Take up the next request of @od and make a snapshot of it. */
static void cachefiles_queue_pick_locked(struct cachefiles_ondemand *od,
					 struct cachefiles_delivery *msg)
{
	struct cachefiles_req *req;
	struct cachefiles_io *io;
	loff_t end;

	lockdep_assert_held(&od->queue->lock);
	switch (od->state) {
	case CACHEFILES_OD_OPEN:
		req = list_first_entry(&od->queued, struct cachefiles_req, link);
		list_move_tail(&req->link, &od->sent);
		io = cachefiles_req_io(req);
		refcount_inc(&io->ref);
		end = round_up(io->pos + (loff_t)io->len, CACHEFILES_GRANULE);
		msg->wire.read.off = round_down(io->pos, CACHEFILES_GRANULE);
		msg->wire.read.len = end - msg->wire.read.off;
		msg->wire.read.fd = od->anon->fd;
		break;
	case CACHEFILES_OD_DROPPING:
		req = &od->close;
		req->id = cachefiles_ids_pass(&od->queue->msg_ids);
		msg->wire.close.fd = od->anon->fd;
		break;
	default:
		req = &od->open;
		msg->wire.open.volume_key_size = od->volume_key_size;
		msg->wire.open.cookie_key_size = od->keys_len - od->volume_key_size;
		break;
	}
	req->object_id = od->anon ? od->anon->object_id : 0;
	cachefiles_req_set_state(req, CACHEFILES_REQ_COPYING);

	msg->req = req;
	msg->wire.hdr.msg_id = req->id;
	msg->wire.hdr.opcode = req->opcode;
	msg->wire.hdr.len = cachefiles_delivery_len(od);
	msg->wire.hdr.object_id = req->object_id;
	cachefiles_queue_rotate_locked(od);
}

/*
 * A CLOSED od that is wanted starts to open.  The lock is dropped to allocate
 * the id of its OPEN.
 *
 * Return: 0, -EAGAIN if the od is no longer to be opened, -ENOMEM or -EBUSY.
 */
static int cachefiles_queue_arm_open(struct cachefiles_ondemand *od)
	__must_hold(&od->queue->lock)
{
	struct cachefiles_queue *queue = od->queue;
	u32 id;
	int ret;

	spin_unlock(&queue->lock);
	ret = cachefiles_ids_insert(&queue->msg_ids, &od->open, &id, GFP_KERNEL);
	cachefiles_delay(CACHEFILES_DELAY_ARM_OPEN);
	spin_lock(&queue->lock);
	if (ret)
		return ret;
	if (od->state != CACHEFILES_OD_CLOSED || list_empty(&od->ready_link)) {
		xa_erase(&queue->msg_ids.used, id);
		return -EAGAIN;
	}
	if (od->open.state == CACHEFILES_REQ_DONE)
		cachefiles_req_set_state(&od->open, CACHEFILES_REQ_IDLE);
	od->open.id = id;
	od->wanted = false;
	od->awaited = !list_empty(&od->blocked);
	cachefiles_req_set_state(&od->open, CACHEFILES_REQ_QUEUED);
	cachefiles_od_set_state(od, od->attached ? CACHEFILES_OD_REOPENING :
						   CACHEFILES_OD_OPENING);
	return 0;
}

/*
 * Pick the next request.
 *
 * Return: the od it belongs to, with a reference that keeps the request, too;
 * NULL if there is nothing; or an error, with nothing changed.
 */
static struct cachefiles_ondemand *cachefiles_queue_pick(struct cachefiles_queue *queue,
							 size_t len,
							 struct cachefiles_delivery *msg)
{
	struct cachefiles_ondemand *od;
	int ret;

	do {
		spin_lock(&queue->lock);
		od = list_first_entry_or_null(&queue->ready, struct cachefiles_ondemand,
					      ready_link);
		if (!od || cachefiles_delivery_len(od) > len) {
			spin_unlock(&queue->lock);
			return od ? ERR_PTR(-EMSGSIZE) : NULL;
		}
		cachefiles_od_get(od);
		ret = od->state == CACHEFILES_OD_CLOSED ? cachefiles_queue_arm_open(od) : 0;
		if (!ret) {
			cachefiles_queue_pick_locked(od, msg);
		} else if (ret != -EAGAIN) {
			/* Another may do better, or have something else to do. */
			cachefiles_queue_rotate_locked(od);
			cachefiles_queue_wake(queue);
		}
		spin_unlock(&queue->lock);
		if (!ret)
			return od;
		cachefiles_ondemand_put(od);
	} while (ret == -EAGAIN);
	return ERR_PTR(ret);
}

/*
 * Give a picked request back.  Unless it is @last, that is as if it had not been touched: an
 * OPEN for which there is no descriptor lets others pass, a CLOSE may bring one.
 */
static void cachefiles_queue_unpick_locked(struct cachefiles_req *req, bool last)
{
	struct cachefiles_ondemand *od = req->od;

	cachefiles_req_set_state(req, CACHEFILES_REQ_QUEUED);
	if (req->opcode == CACHEFILES_OP_READ)
		list_move(&req->link, &od->queued);
	cachefiles_queue_update(od);
	/* Not if its turn has passed: then the object is being opened again. */
	if (!last && !list_empty(&od->ready_link))
		list_move(&od->ready_link, &od->queue->ready);
	cachefiles_queue_wake(od->queue);
}

static bool cachefiles_req_is_current(const struct cachefiles_req *req)
{
	return req->od->anon && req->od->anon->object_id == req->object_id;
}

/*
 * The message has been copied, or not: make it count, or take it back.
 *
 * Return: true if it is delivered; false if it was cancelled meanwhile, or can't
 * be answered since its descriptor has gone, so that another has to be picked.
 */
static bool cachefiles_queue_commit(struct cachefiles_ondemand *od,
				    struct cachefiles_delivery *msg,
				    struct cachefiles_anon *anon, int error)
{
	struct cachefiles_req *req = msg->req;
	LIST_HEAD(none);

	guard(spinlock)(&od->queue->lock);
	if (req->state != CACHEFILES_REQ_COPYING)
		return false;
	if (error) {
		cachefiles_queue_unpick_locked(req, error != -EFAULT);
		return false;
	}
	switch (req->opcode) {
	case CACHEFILES_OP_OPEN:
		od->anon = anon;
		req->object_id = anon->object_id;
		break;
	case CACHEFILES_OP_CLOSE:
		return cachefiles_req_finish_locked(req, 0, &none);
	default:
		if (!cachefiles_req_is_current(req)) {
			cachefiles_queue_unpick_locked(req, false);
			return false;
		}
		break;
	}
	cachefiles_req_set_state(req, CACHEFILES_REQ_SENT);
	cachefiles_req_set_reader_locked(req, get_pid(task_tgid(current)));
	cachefiles_queue_update(od);
	return true;
}

static int cachefiles_delivery_copy(const struct cachefiles_ondemand *od,
				    const struct cachefiles_delivery *msg, char __user *buffer)
{
	size_t fixed = msg->wire.hdr.len;

	if (msg->wire.hdr.opcode == CACHEFILES_OP_OPEN)
		fixed -= od->keys_len;
	if (copy_to_user(buffer, &msg->wire, fixed))
		return -EFAULT;
	if (msg->wire.hdr.opcode == CACHEFILES_OP_OPEN &&
	    copy_to_user(buffer + fixed, od->keys, od->keys_len))
		return -EFAULT;
	return 0;
}

static int cachefiles_deliver_open(struct cachefiles_ondemand *od,
				   struct cachefiles_delivery *msg, char __user *buffer,
				   bool *delivered)
{
	struct cachefiles_anon *anon = NULL;
	struct file *file = NULL;
	int fd, ret;

	fd = get_unused_fd_flags(O_CLOEXEC);
	ret = min(fd, 0);
	if (!ret) {
		file = cachefiles_anon_open(od, fd, &anon);
		ret = PTR_ERR_OR_ZERO(file);
	}
	if (!ret) {
		msg->wire.open.fd = fd;
		msg->wire.hdr.object_id = anon->object_id;
		ret = cachefiles_delivery_copy(od, msg, buffer);
	}
	*delivered = cachefiles_queue_commit(od, msg, anon, ret);
	if (*delivered) {
		cachefiles_delay(CACHEFILES_DELAY_PUBLISH);
		/* Last, so that nobody meets a descriptor that is not finished. */
		fd_install(fd, file);
		return 0;
	}
	if (!IS_ERR_OR_NULL(file))
		fput(file);
	if (fd >= 0)
		put_unused_fd(fd);
	return ret;
}

/* Deliver what was picked.  Consumes the references that go with it. */
static int cachefiles_deliver(struct cachefiles_ondemand *od, struct cachefiles_delivery *msg,
			      char __user *buffer, bool *delivered)
{
	int ret;

	cachefiles_delay(CACHEFILES_DELAY_PICKED);
	if (msg->wire.hdr.opcode == CACHEFILES_OP_OPEN) {
		ret = cachefiles_deliver_open(od, msg, buffer, delivered);
	} else {
		ret = cachefiles_delivery_copy(od, msg, buffer);
		*delivered = cachefiles_queue_commit(od, msg, NULL, ret);
	}
	if (msg->wire.hdr.opcode == CACHEFILES_OP_READ)
		cachefiles_io_put(cachefiles_req_io(msg->req));
	cachefiles_ondemand_put(od);
	return ret;
}

/**
 * cachefiles_ondemand_daemon_read - read(2) of the device in on-demand mode
 * @cache: The cache.
 * @buffer: The daemon's buffer.
 * @len: Its size in bytes.
 *
 * Delivers one message.  When it fails, nothing is lost: the next read(2) finds
 * the same request.
 *
 * Context: process.
 * Return: length of the message, 0 if there is none, -EMSGSIZE if @buffer is too
 * small, -EFAULT, -EMFILE, -ENFILE, -ENOMEM, or -EIO if the cache is dead.
 */
ssize_t cachefiles_ondemand_daemon_read(struct cachefiles_cache *cache, char __user *buffer,
					size_t len)
{
	struct cachefiles_queue *queue = cache->queue;
	struct cachefiles_delivery msg;
	struct cachefiles_ondemand *od;
	bool delivered;
	int ret;

	do {
		if (cachefiles_cache_state(cache) == CACHEFILES_CACHE_DEAD)
			return -EIO;
		memset(&msg, 0, sizeof(msg));
		od = cachefiles_queue_pick(queue, len, &msg);
		if (IS_ERR_OR_NULL(od))
			return PTR_ERR_OR_ZERO(od);
		ret = cachefiles_deliver(od, &msg, buffer, &delivered);
	} while (!ret && !delivered);
	return ret ? ret : (ssize_t)msg.wire.hdr.len;
}

/**
 * cachefiles_ondemand_daemon_poll - poll(2) of the device in on-demand mode
 * @cache: The cache; the caller has registered with its daemon_wait.
 *
 * Return: EPOLLIN exactly if read(2) would return a message; EPOLLERR and
 * EPOLLHUP if the cache is dead.
 */
__poll_t cachefiles_ondemand_daemon_poll(struct cachefiles_cache *cache)
{
	struct cachefiles_queue *queue = cache->queue;

	guard(spinlock)(&queue->lock);
	if (queue->dead)
		return EPOLLERR | EPOLLHUP;
	return list_empty(&queue->ready) ? 0 : EPOLLIN;
}
