/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Delay points: places where a test can stop a task, to make a race happen.
 *
 * Each open of cachefiles/delay in debugfs is a trap.  "NAME [SKIP]" written to it
 * arms it: the task that reaches that point, or the one after SKIP others, parks
 * there.  poll(2) then says EPOLLIN, and read(2) its thread id.  "go" lets it go on,
 * and so does closing the trap.  A trap catches one task; after "go" it can be armed
 * again.  An unarmed one lists the names when it is read.
 *
 * Without CONFIG_CACHEFILES_DEBUG nothing of this is there; with it, a point that
 * nobody waits at costs a jump label.
 */
#ifndef CACHEFILES_DELAY_H
#define CACHEFILES_DELAY_H

#include <linux/jump_label.h>
#include <linux/kernel.h>

struct dentry;

/**
 * enum cachefiles_delay_point - Where a task can be stopped
 * @CACHEFILES_DELAY_ARM_OPEN: "arm_open": read(2) has got the id of an OPEN, whose od is
 *	not OPENING yet.
 * @CACHEFILES_DELAY_PICKED: "picked": read(2) has picked a request, nothing is copied.
 * @CACHEFILES_DELAY_PUBLISH: "publish": an OPEN is SENT, its fd is not installed.
 * @CACHEFILES_DELAY_DONE: "done": a read has left the protocol and is to go on or to end.
 * @CACHEFILES_DELAY_ADMIT: "admit": a read is going to ask whether it may look.
 * @CACHEFILES_DELAY_ENQUEUE: "enqueue": a read has found a hole and is not queued yet.
 * @CACHEFILES_DELAY_FOUND: "found": a read has found data and not asked yet whether they
 *	count.
 * @CACHEFILES_DELAY_START: "start": the data count, but are not read.
 * @CACHEFILES_DELAY_FETCH_WORK: "fetch_work": entry of the worker of a deferred read.
 * @CACHEFILES_DELAY_REAP_WORK: "reap_work": entry of the reaper.
 * @CACHEFILES_DELAY_TEARDOWN: "teardown": entry of the tear-down of a cache.
 * @CACHEFILES_DELAY_CLOSED: "closed": in that, when FS-Cache lets nobody begin any more.
 * @CACHEFILES_DELAY_WRITE_WORK: "write_work": entry of the worker of failed writes.
 * @CACHEFILES_DELAY_RELEASE: "release": the last close of a descriptor of an object.
 * @CACHEFILES_DELAY_SHUTDOWN: "shutdown": the cache is DEAD, its protocol is not.
 * @CACHEFILES_DELAY_LOOKUP: "lookup": entry of the look-up of a cookie.
 * @CACHEFILES_DELAY_PUBLISHED: "published": the cookie has its object, nothing is asked of
 *	the daemon yet.
 * @CACHEFILES_DELAY_OPENED: "opened": original mode: the look-up has found or made a file,
 *	and not attached it.
 * @CACHEFILES_DELAY_SPACE: "space": it is known what is being made and written, and is going
 *	to be asked what is free.
 * @CACHEFILES_DELAY_CREATE: "create": there is space for a file that is going to be made.
 * @CACHEFILES_DELAY_WITHDRAW: "withdraw": entry of the withdrawal of an object.
 * @CACHEFILES_DELAY_DROP: "drop": an od is DROPPING, its backing file is still attached.
 * @CACHEFILES_DELAY_ATTACH: "attach": copen is going to attach the backing file.
 * @CACHEFILES_DELAY_SETTLE: "settle": copen has attached it and not said so.
 * @CACHEFILES_DELAY_ENTERED: "entered": an access through a descriptor has got hold of the
 *	object, and of its file if there is one.
 * @CACHEFILES_DELAY_WRITTEN: "written": a fill has been written, or failed; it is going on.
 * @CACHEFILES_DELAY_WRITE_FAILED: "write_failed": the same, if it has failed and nothing has
 *	been forgotten.
 * @CACHEFILES_DELAY_LOOKED: "looked": original mode: all is present, but not read.
 * @CACHEFILES_DELAY_CUT_BEGUN: "cut_begun": something is going to be taken away.
 * @CACHEFILES_DELAY_CUT_DONE: "cut_done": it has been, and nobody knows.
 * @CACHEFILES_DELAY_VOLUME_ACQUIRE: "volume_acquire": a volume is made and on no list.
 * @CACHEFILES_DELAY_VOLUME_END: "volume_end": entry of the end of a volume.
 * @CACHEFILES_DELAY_MARKED: "marked": something that is wanted is marked already, and is
 *	going to be looked at once more.
 * @CACHEFILES_DELAY_MARK_DIRTY: "mark_dirty": a file is going to be marked as being written.
 * @CACHEFILES_DELAY_BURY: "bury": something is going to be removed, its directory is locked;
 *	if it is culled it is marked.
 * @CACHEFILES_DELAY_BURIED: "buried": a stale volume has been moved to the graveyard.
 * @CACHEFILES_DELAY_NR: How many there are.
 */
enum cachefiles_delay_point {
	CACHEFILES_DELAY_ARM_OPEN,
	CACHEFILES_DELAY_PICKED,
	CACHEFILES_DELAY_PUBLISH,
	CACHEFILES_DELAY_DONE,
	CACHEFILES_DELAY_ADMIT,
	CACHEFILES_DELAY_ENQUEUE,
	CACHEFILES_DELAY_FOUND,
	CACHEFILES_DELAY_START,
	CACHEFILES_DELAY_FETCH_WORK,
	CACHEFILES_DELAY_REAP_WORK,
	CACHEFILES_DELAY_TEARDOWN,
	CACHEFILES_DELAY_CLOSED,
	CACHEFILES_DELAY_WRITE_WORK,
	CACHEFILES_DELAY_RELEASE,
	CACHEFILES_DELAY_SHUTDOWN,
	CACHEFILES_DELAY_LOOKUP,
	CACHEFILES_DELAY_PUBLISHED,
	CACHEFILES_DELAY_OPENED,
	CACHEFILES_DELAY_SPACE,
	CACHEFILES_DELAY_CREATE,
	CACHEFILES_DELAY_WITHDRAW,
	CACHEFILES_DELAY_DROP,
	CACHEFILES_DELAY_ATTACH,
	CACHEFILES_DELAY_SETTLE,
	CACHEFILES_DELAY_ENTERED,
	CACHEFILES_DELAY_WRITTEN,
	CACHEFILES_DELAY_WRITE_FAILED,
	CACHEFILES_DELAY_LOOKED,
	CACHEFILES_DELAY_CUT_BEGUN,
	CACHEFILES_DELAY_CUT_DONE,
	CACHEFILES_DELAY_VOLUME_ACQUIRE,
	CACHEFILES_DELAY_VOLUME_END,
	CACHEFILES_DELAY_MARKED,
	CACHEFILES_DELAY_MARK_DIRTY,
	CACHEFILES_DELAY_BURY,
	CACHEFILES_DELAY_BURIED,
	CACHEFILES_DELAY_NR
};

#if IS_ENABLED(CONFIG_CACHEFILES_DEBUG)

DECLARE_STATIC_KEY_FALSE(cachefiles_delay_armed);

void cachefiles_delay_park(enum cachefiles_delay_point point);
void cachefiles_delay_init(struct dentry *dir);

/**
 * cachefiles_delay - A place where a test can stop the task
 * @point: Which one.
 *
 * Does nothing unless a trap is armed for it.
 *
 * Context: process, may sleep.
 */
static inline void cachefiles_delay(enum cachefiles_delay_point point)
{
	might_sleep();
	if (static_branch_unlikely(&cachefiles_delay_armed))
		cachefiles_delay_park(point);
}

#else /* CONFIG_CACHEFILES_DEBUG */

static inline void cachefiles_delay_init(struct dentry *dir)
{
}

static inline void cachefiles_delay(enum cachefiles_delay_point point)
{
}

#endif /* CONFIG_CACHEFILES_DEBUG */

#endif /* CACHEFILES_DELAY_H */
