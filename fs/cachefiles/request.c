// SPDX-License-Identifier: GPL-2.0-only
/*
 * Requests of the daemon protocol: states, ids, and how a request ends.
 *
 * Locking is described in ondemand.h.
 */
#include <linux/cachefiles.h>
#include <linux/pid.h>
#include "delay.h"
#include "ondemand.h"
#include "trace.h"

#define TO(state)	BIT(CACHEFILES_REQ_##state)

static const u8 cachefiles_req_moves[CACHEFILES_REQ_NR_STATES] = {
	[CACHEFILES_REQ_IDLE]		= TO(BLOCKED) | TO(FOLLOWING) | TO(QUEUED),
	[CACHEFILES_REQ_BLOCKED]	= TO(IDLE) | TO(DONE),
	[CACHEFILES_REQ_FOLLOWING]	= TO(IDLE) | TO(DONE),
	[CACHEFILES_REQ_QUEUED]		= TO(COPYING) | TO(DONE),
	[CACHEFILES_REQ_COPYING]	= TO(QUEUED) | TO(SENT) | TO(DONE),
	[CACHEFILES_REQ_SENT]		= TO(QUEUED) | TO(ATTACHING) | TO(DONE),
	[CACHEFILES_REQ_ATTACHING]	= TO(SENT) | TO(DONE),
	[CACHEFILES_REQ_DONE]		= TO(IDLE),
};

/**
 * cachefiles_req_set_state - Move a request to another state
 * @req: The request.
 * @state: Where it goes; must be a legal move.
 *
 * The only writer of @req->state.  Context: queue->lock held.
 */
void cachefiles_req_set_state(struct cachefiles_req *req, enum cachefiles_req_state state)
{
	lockdep_assert_held(&req->od->queue->lock);
	WARN_ON_ONCE(!(cachefiles_req_moves[req->state] & BIT(state)));

	trace_cachefiles_req_state(req, state);
	req->state = state;
}

/**
 * cachefiles_req_set_reader_locked - Note who a request was delivered to
 * @req: The request.
 * @reader: The process, with a reference that is consumed, or NULL.
 *
 * Context: queue->lock held.
 */
void cachefiles_req_set_reader_locked(struct cachefiles_req *req, struct pid *reader)
{
	lockdep_assert_held(&req->od->queue->lock);
	put_pid(req->reader);
	req->reader = reader;
}

static bool cachefiles_req_has_id(const struct cachefiles_req *req)
{
	return req->opcode != CACHEFILES_OP_CLOSE &&
	       (req->state == CACHEFILES_REQ_QUEUED || req->state == CACHEFILES_REQ_COPYING ||
		req->state == CACHEFILES_REQ_SENT || req->state == CACHEFILES_REQ_ATTACHING);
}

/**
 * cachefiles_req_find_locked - Find the request that an answer is meant for
 * @queue: The queue.
 * @id: The msg_id of the answer.
 * @opcode: What kind of request the answer is for.
 *
 * Return: the request if it has been delivered and not answered yet, else NULL.
 * Context: queue->lock held; the result is good as long as it is.
 */
struct cachefiles_req *cachefiles_req_find_locked(struct cachefiles_queue *queue, u32 id,
						  u8 opcode)
{
	struct cachefiles_req *req;

	lockdep_assert_held(&queue->lock);
	req = xa_load(&queue->msg_ids.used, id);
	if (!req || req->id != id || req->opcode != opcode || req->state != CACHEFILES_REQ_SENT)
		return NULL;
	return req;
}

/**
 * cachefiles_req_release_locked - Let a waiting read look again
 * @req: A read that is BLOCKED or FOLLOWING.
 * @done: Where it is put for cachefiles_req_run_done().
 *
 * Context: queue->lock held.
 */
void cachefiles_req_release_locked(struct cachefiles_req *req, struct list_head *done)
{
	cachefiles_req_set_state(req, CACHEFILES_REQ_IDLE);
	list_move_tail(&req->link, done);
}

static void cachefiles_req_end_followers_locked(struct cachefiles_io *io, int error,
						struct list_head *done)
{
	struct cachefiles_io *follower, *next;

	list_for_each_entry_safe(follower, next, &io->followers, req.link) {
		if (error)
			cachefiles_req_finish_locked(&follower->req, error, done);
		else
			cachefiles_req_release_locked(&follower->req, done);
	}
}

/**
 * cachefiles_req_finish_locked - End a request
 * @req: The request.
 * @error: Its result: 0, or a negative errno.  Reads that follow it fail with it,
 *	or look again.
 * @done: Where an io is put for cachefiles_req_run_done().
 *
 * Context: queue->lock held.
 * Return: false if there was nothing to end.
 */
bool cachefiles_req_finish_locked(struct cachefiles_req *req, int error, struct list_head *done)
{
	struct cachefiles_ondemand *od = req->od;

	if (req->state == CACHEFILES_REQ_IDLE || req->state == CACHEFILES_REQ_DONE)
		return false;

	if (cachefiles_req_has_id(req)) {
		xa_erase(&od->queue->msg_ids.used, req->id);
		if (req->opcode == CACHEFILES_OP_READ) {
			cachefiles_fetch_unlink_locked(cachefiles_req_io(req));
			cachefiles_req_end_followers_locked(cachefiles_req_io(req), error, done);
			if (!error)
				od->fetches++;
		}
	}
	cachefiles_req_set_state(req, CACHEFILES_REQ_DONE);
	cachefiles_req_set_reader_locked(req, NULL);
	req->error = error;
	if (req->opcode == CACHEFILES_OP_READ)
		list_move_tail(&req->link, done);
	return true;
}

/**
 * cachefiles_req_run_done - Carry on what was collected under the lock
 * @done: Reads that were finished or released; empty on return.
 *
 * Starts backing reads and calls back into the netfs.  Context: process, no
 * lock of ours held.
 */
void cachefiles_req_run_done(struct list_head *done)
{
	struct cachefiles_req *req;

	might_sleep();
	while ((req = list_first_entry_or_null(done, struct cachefiles_req, link))) {
		list_del_init(&req->link);
		cachefiles_delay(CACHEFILES_DELAY_DONE);
		cachefiles_fetch_continue(cachefiles_req_io(req));
	}
}
