// SPDX-License-Identifier: GPL-2.0-only
/*
 * The reaper: ends reads whose tasks are dying.
 *
 * A task that is killed leaves its read through the page lock; the page stays
 * locked until the read ends, and must not stay so for as long as the daemon
 * likes.  The task may even be stuck in the page lock itself.
 *
 * Nor for as long as a disk likes, of this cache or another one: nothing in here
 * uses the backing file system.
 *
 * Locking is described in ondemand.h.
 */
#include <linux/cachefiles.h>
#include <linux/pid.h>
#include <linux/sched/signal.h>
#include "delay.h"
#include "ondemand.h"

/**
 * cachefiles_reap_arm_locked - Watch the tasks that wait for an object
 * @od: The object's od; a read of it is about to wait.
 *
 * Context: queue->lock held.
 */
void cachefiles_reap_arm_locked(struct cachefiles_ondemand *od)
{
	lockdep_assert_held(&od->queue->lock);
	if (!od->reaping) {
		od->reaping = true;
		cachefiles_od_get(od);
		queue_delayed_work(cachefiles_reap_wq, &od->reaper, CACHEFILES_REAP_INTERVAL);
	}
}

static bool cachefiles_task_is_dying(struct pid *pid)
{
	struct task_struct *task;

	guard(rcu)();
	task = pid_task(pid, PIDTYPE_PID);
	return !task || (task->flags & PF_EXITING) || fatal_signal_pending(task);
}

/*
 * End @io if its task was dying the last time already.  What follows it is to look
 * again.
 */
static void cachefiles_reap_io_locked(struct cachefiles_io *io, struct list_head *done,
				      struct list_head *again)
{
	struct cachefiles_io *follower, *next;

	if (!cachefiles_task_is_dying(io->task))
		return;
	if (io->doomed) {
		list_for_each_entry_safe(follower, next, &io->followers, req.link)
			cachefiles_req_release_locked(&follower->req, again);
		cachefiles_req_finish_locked(&io->req, -EINTR, done);
	}
	io->doomed = true;
}

static void cachefiles_reap_list_locked(struct list_head *list, struct list_head *done,
					struct list_head *again)
{
	struct cachefiles_io *io, *next, *follower, *next_follower;

	list_for_each_entry_safe(io, next, list, req.link) {
		list_for_each_entry_safe(follower, next_follower, &io->followers, req.link)
			cachefiles_reap_io_locked(follower, done, again);
		cachefiles_reap_io_locked(io, done, again);
	}
}

/**
 * cachefiles_reap_work - End the reads of tasks that are dying
 * @work: The reaper of an od; its reference on the od is consumed.
 *
 * Context: worker.  Goes on as long as something waits.
 */
void cachefiles_reap_work(struct work_struct *work)
{
	struct cachefiles_ondemand *od =
		container_of(to_delayed_work(work), struct cachefiles_ondemand, reaper);
	struct cachefiles_req *req, *next;
	LIST_HEAD(done);
	LIST_HEAD(again);

	cachefiles_delay(CACHEFILES_DELAY_REAP_WORK);
	scoped_guard(spinlock, &od->queue->lock) {
		cachefiles_reap_list_locked(&od->queued, &done, &again);
		cachefiles_reap_list_locked(&od->sent, &done, &again);
		cachefiles_reap_list_locked(&od->blocked, &done, &again);
		cachefiles_queue_update(od);

		od->reaping = false;
		if (!list_empty(&od->queued) || !list_empty(&od->sent) ||
		    !list_empty(&od->blocked))
			cachefiles_reap_arm_locked(od);
	}
	cachefiles_req_run_done(&done);
	list_for_each_entry_safe(req, next, &again, link) {
		list_del_init(&req->link);
		cachefiles_io_defer(cachefiles_req_io(req));
	}
	cachefiles_ondemand_put(od);
}
