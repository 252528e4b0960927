// SPDX-License-Identifier: GPL-2.0-only
/*
 * The daemon's answers: copen to an OPEN, READ_COMPLETE to a READ.
 *
 * An answer is taken from whoever gives it, but only to a request that was
 * delivered and not answered yet, and to a READ only through the descriptor the
 * object is open with.  Locking is described in ondemand.h.
 */
#include <linux/cachefiles.h>
#include <linux/err.h>
#include <linux/kstrtox.h>
#include <linux/sched/signal.h>
#include <linux/string.h>
#include "delay.h"
#include "ondemand.h"

/* What a copen says.  @invalid: the error to be told to its writer, or 0. */
struct cachefiles_copen {
	u32	id;
	s64	size;
	int	invalid;
};

static int cachefiles_copen_parse(char *args, struct cachefiles_copen *copen)
{
	char *size = args;
	char *id = strsep(&size, ",");
	int ret;

	if (!size)
		return -EINVAL;
	ret = kstrtou32(id, 0, &copen->id);
	if (ret)
		return ret;
	copen->invalid = kstrtos64(size, 0, &copen->size);
	if (!copen->invalid && copen->size < -MAX_ERRNO)
		copen->invalid = -EINVAL;
	return 0;
}

/* The OPEN has failed: nobody who waits for it is left waiting. */
static void cachefiles_copen_failed_locked(struct cachefiles_ondemand *od, int error,
					   struct list_head *done)
{
	lockdep_assert_held(&od->queue->lock);
	/* The refusal may come before the first read that wants to know. */
	if (!od->attached && !od->awaited)
		od->untold = error;
	cachefiles_req_finish_locked(&od->open, error, done);
	od->anon = NULL;
	cachefiles_od_set_state(od, CACHEFILES_OD_CLOSED);
	cachefiles_od_end_reads_locked(od, error, done);
	cachefiles_queue_update(od);
}

/*
 * Accept a copen: find its OPEN, and settle what needs no backing file.
 *
 * Return: 0 with a reference on the od in *@found if the file has to be
 * attached; 0 with NULL there if the answer is settled; or an error for the
 * writer.
 */
static int cachefiles_copen_accept(struct cachefiles_queue *queue,
				   const struct cachefiles_copen *copen,
				   struct cachefiles_ondemand **found,
				   struct cachefiles_object **object, struct list_head *done)
{
	struct cachefiles_ondemand *od;
	struct cachefiles_req *req;
	int error;

	guard(spinlock)(&queue->lock);
	req = cachefiles_req_find_locked(queue, copen->id, CACHEFILES_OP_OPEN);
	if (!req)
		return -EINVAL;
	od = req->od;

	error = copen->invalid;
	if (!error && copen->size >= 0 && !od->anon)
		error = -EBADFD;
	if (!error && copen->size >= 0 && od->attached && od->size != copen->size)
		error = -ESTALE;
	if (error || copen->size < 0) {
		cachefiles_copen_failed_locked(od, error ?: copen->size, done);
		return error;
	}
	cachefiles_req_set_state(req, CACHEFILES_REQ_ATTACHING);
	cachefiles_od_get(od);
	*found = od;
	*object = od->object;
	cachefiles_object_get(*object);
	return 0;
}

static void cachefiles_od_unblock_locked(struct cachefiles_ondemand *od, struct list_head *done)
{
	struct cachefiles_req *req;

	lockdep_assert_held(&od->queue->lock);
	while ((req = list_first_entry_or_null(&od->blocked, struct cachefiles_req, link)))
		cachefiles_req_release_locked(req, done);
}

/*
 * The backing file is attached, or could not be.
 *
 * Return: 0, or what the writer of the copen is told.
 */
static int cachefiles_copen_settle(struct cachefiles_ondemand *od, loff_t size, int error,
				   struct list_head *done)
{
	guard(spinlock)(&od->queue->lock);
	/* The object went, or the cache died, and has ended the OPEN. */
	if (od->open.state != CACHEFILES_REQ_ATTACHING)
		return -EIO;
	/* It is the daemon that is being killed, or got a signal: somebody can still answer. */
	if (error && (fatal_signal_pending(current) || cachefiles_was_interrupted(error))) {
		cachefiles_req_set_state(&od->open, CACHEFILES_REQ_SENT);
		if (!od->open.reader) {
			cachefiles_od_requeue_open_locked(od);
			cachefiles_queue_update(od);
			cachefiles_queue_wake(od->queue);
		}
		return error;
	}
	if (error) {
		cachefiles_copen_failed_locked(od, error, done);
		return error;
	}
	od->attached = true;
	od->size = size;
	cachefiles_req_finish_locked(&od->open, 0, done);
	cachefiles_od_set_state(od, od->anon ? CACHEFILES_OD_OPEN : CACHEFILES_OD_CLOSED);
	cachefiles_od_unblock_locked(od, done);
	cachefiles_queue_update(od);
	cachefiles_queue_wake_od(od);
	return 0;
}

static int cachefiles_copen_attach(struct cachefiles_ondemand *od,
				   struct cachefiles_object *object, loff_t size,
				   struct list_head *done)
{
	int ret = 0;

	/* Whoever drops the object waits until we are through with it. */
	guard(mutex)(&od->attach);
	if (!od->attached)
		ret = cachefiles_anon_wait_for_orphans(od);
	scoped_guard(spinlock, &od->queue->lock) {
		if (od->open.state != CACHEFILES_REQ_ATTACHING)
			return -EIO;
	}
	cachefiles_delay(CACHEFILES_DELAY_ATTACH);
	if (!ret && !od->attached)
		ret = cachefiles_object_attach(object, size);
	cachefiles_delay(CACHEFILES_DELAY_SETTLE);
	return cachefiles_copen_settle(od, size, ret, done);
}

/**
 * cachefiles_reply_copen - The command ``copen <msg_id>,<size or -errno>``
 * @cache: An on-demand cache.
 * @args: The argument; modified.
 *
 * When it succeeds with a size, the backing file is attached: the descriptor can
 * be written to, and reads that waited are on their way.
 *
 * Context: process.
 * Return: 0; -EINVAL or -ERANGE if @args can't be understood, or -EINVAL if no
 * such OPEN has been delivered; -EBADFD if its descriptor was closed; -ESTALE if
 * the size is not what it was at the first opening; -EINTR if a signal came in between,
 * and the OPEN can still be answered; or why the backing file could not be attached.
 */
int cachefiles_reply_copen(struct cachefiles_cache *cache, char *args)
{
	struct cachefiles_ondemand *od = NULL;
	struct cachefiles_object *object;
	struct cachefiles_copen copen;
	LIST_HEAD(done);
	int ret;

	ret = cachefiles_copen_parse(args, &copen);
	if (ret)
		return ret;
	ret = cachefiles_copen_accept(cache->queue, &copen, &od, &object, &done);
	if (od) {
		ret = cachefiles_copen_attach(od, object, copen.size, &done);
		cachefiles_object_put(object);
	}
	cachefiles_req_run_done(&done);
	if (od)
		cachefiles_ondemand_put(od);
	return ret;
}

/**
 * cachefiles_reply_read_complete - A READ has been carried out
 * @anon: The descriptor the answer came through.
 * @id: The msg_id.
 *
 * Context: process.  Reads the data into the pages that wait for them.
 * Return: 0, or -EINVAL if no such READ has been delivered for this object
 * through this descriptor.
 */
int cachefiles_reply_read_complete(struct cachefiles_anon *anon, u32 id)
{
	struct cachefiles_queue *queue = anon->od->queue;
	struct cachefiles_req *req;
	LIST_HEAD(done);

	scoped_guard(spinlock, &queue->lock) {
		req = cachefiles_req_find_locked(queue, id, CACHEFILES_OP_READ);
		if (!req || req->od->anon != anon || req->object_id != anon->object_id)
			return -EINVAL;
		cachefiles_req_finish_locked(req, 0, &done);
	}
	cachefiles_req_run_done(&done);
	return 0;
}
