// SPDX-License-Identifier: GPL-2.0-only
/*
 * What outlives a daemon: the policy of failover.
 *
 * A READ that was handed out through a descriptor that is gone is handed out
 * again, and the object it is for is opened again for that; `restore` takes over
 * what was handed out to somebody else.  Both rely on content that never
 * changes: a range may be fetched and written twice.
 *
 * Locking is described in ondemand.h.
 */
#include <linux/cachefiles.h>
#include <linux/pid.h>
#include "ondemand.h"

/**
 * cachefiles_failover_reopens - May an object be opened again for a READ?
 * @od: A CLOSED od.
 *
 * Return: true, always: content never changes, so it can be fetched again.
 */
bool cachefiles_failover_reopens(const struct cachefiles_ondemand *od)
{
	return true;
}

/* Back to the head of the queue, in the order they were delivered in. */
static void cachefiles_failover_requeue_locked(struct cachefiles_ondemand *od,
					       const struct pid *except)
{
	struct cachefiles_req *req, *prev;

	lockdep_assert_held(&od->queue->lock);
	list_for_each_entry_safe_reverse(req, prev, &od->sent, link) {
		if (req->state != CACHEFILES_REQ_SENT || req->reader == except)
			continue;
		cachefiles_req_set_state(req, CACHEFILES_REQ_QUEUED);
		cachefiles_req_set_reader_locked(req, NULL);
		list_move(&req->link, &od->queued);
	}
}

/**
 * cachefiles_failover_fd_gone_locked - What becomes of READs that were handed out
 * @od: An od whose current descriptor has just been closed.
 * @done: Where reads are put that end.
 *
 * Context: queue->lock held.
 */
void cachefiles_failover_fd_gone_locked(struct cachefiles_ondemand *od, struct list_head *done)
{
	cachefiles_failover_requeue_locked(od, NULL);
}

static void cachefiles_failover_restore_open_locked(struct cachefiles_ondemand *od,
						    const struct pid *except)
{
	lockdep_assert_held(&od->queue->lock);
	/* A process that has become another program by execve() has lost the descriptor. */
	if (od->open.reader == except && od->anon)
		return;
	if (od->open.state == CACHEFILES_REQ_SENT)
		cachefiles_od_requeue_open_locked(od);
	else if (od->open.state == CACHEFILES_REQ_ATTACHING)
		cachefiles_req_set_reader_locked(&od->open, NULL);
}

/**
 * cachefiles_failover_restore - The command ``restore``
 * @cache: An on-demand cache.
 *
 * Every OPEN and READ that was delivered to another process than the caller and
 * is not answered is queued again under its id, ahead of what was queued later for the same
 * object; and of the caller's own, every OPEN whose descriptor is closed.
 * The descriptor that went with such an OPEN becomes stale: its new delivery
 * brings a new one.  So it is later with one whose answer is being carried out, if that
 * fails since the task that does it is killed or interrupted.
 *
 * Context: process.  Linear in the number of objects and requests.
 * Return: 0.
 */
int cachefiles_failover_restore(struct cachefiles_cache *cache)
{
	struct cachefiles_queue *queue = cache->queue;
	const struct pid *caller = task_tgid(current);
	struct cachefiles_ondemand *od;

	guard(spinlock)(&queue->lock);
	list_for_each_entry(od, &queue->all, all_link) {
		cachefiles_failover_requeue_locked(od, caller);
		cachefiles_failover_restore_open_locked(od, caller);
		cachefiles_queue_update(od);
		cachefiles_queue_wake_od(od);
	}
	return 0;
}
