// SPDX-License-Identifier: GPL-2.0-only
/*
 * The daemon's side of an object: its life, its state, and what the base asks
 * of on-demand mode.
 *
 * Locking is described in ondemand.h.
 */
#include <linux/cachefiles.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include "delay.h"
#include "ondemand.h"
#include "trace.h"

struct workqueue_struct *cachefiles_ondemand_wq;
struct workqueue_struct *cachefiles_reap_wq;

#define TO(state)	BIT(CACHEFILES_OD_##state)

static const u8 cachefiles_od_moves[CACHEFILES_OD_NR_STATES] = {
	[CACHEFILES_OD_CLOSED]		= TO(OPENING) | TO(REOPENING) | TO(DROPPING),
	[CACHEFILES_OD_OPENING]		= TO(OPEN) | TO(CLOSED) | TO(DROPPING),
	[CACHEFILES_OD_OPEN]		= TO(CLOSED) | TO(DROPPING),
	[CACHEFILES_OD_REOPENING]	= TO(OPEN) | TO(CLOSED) | TO(DROPPING),
	[CACHEFILES_OD_DROPPING]	= 0,
};

/**
 * cachefiles_od_set_state - Move an od to another state
 * @od: The od.
 * @state: Where it goes; must be a legal move.
 *
 * The only writer of @od->state.  Context: queue->lock held, @od->anon as the
 * new state requires.
 */
void cachefiles_od_set_state(struct cachefiles_ondemand *od, enum cachefiles_od_state state)
{
	lockdep_assert_held(&od->queue->lock);
	WARN_ON_ONCE(!(cachefiles_od_moves[od->state] & BIT(state)));
	WARN_ON_ONCE(state == CACHEFILES_OD_CLOSED && od->anon);
	WARN_ON_ONCE(state == CACHEFILES_OD_OPEN && (!od->anon || !od->attached));

	trace_cachefiles_od_state(od, state);
	od->state = state;
}

void cachefiles_od_get(struct cachefiles_ondemand *od)
{
	refcount_inc(&od->ref);
}

/**
 * cachefiles_ondemand_put - Drop a reference on an od
 * @od: The od.
 *
 * Context: any, but for the last reference: process, no lock held.
 */
void cachefiles_ondemand_put(struct cachefiles_ondemand *od)
{
	if (!refcount_dec_and_test(&od->ref))
		return;
	mutex_destroy(&od->attach);
	cachefiles_cache_put(od->cache);
	kfree(od);
}

static void cachefiles_od_init_req(struct cachefiles_ondemand *od, struct cachefiles_req *req,
				   u8 opcode)
{
	req->opcode = opcode;
	req->od = od;
	INIT_LIST_HEAD(&req->link);
}

static struct cachefiles_ondemand *cachefiles_od_alloc(struct cachefiles_object *object)
{
	const struct fscache_cookie *cookie = object->cookie;
	const u8 *volume_key = object->volume->vcookie->key;
	size_t volume_key_size = volume_key[0] + 1;
	struct cachefiles_ondemand *od;

	od = kzalloc_flex(*od, keys, volume_key_size + cookie->key_len);
	if (!od)
		return NULL;
	od->keys_len = volume_key_size + cookie->key_len;
	od->volume_key_size = volume_key_size;
	/* The last byte of the first part stays NUL. */
	memcpy(od->keys, volume_key + 1, volume_key[0]);
	memcpy(od->keys + volume_key_size, fscache_get_key(object->cookie), cookie->key_len);

	refcount_set(&od->ref, 1);
	od->debug_id = object->debug_id;
	od->object = object;
	INIT_LIST_HEAD(&od->fills);
	INIT_LIST_HEAD(&od->queued);
	INIT_LIST_HEAD(&od->sent);
	INIT_LIST_HEAD(&od->blocked);
	od->fetching = RB_ROOT;
	INIT_LIST_HEAD(&od->ready_link);
	INIT_LIST_HEAD(&od->all_link);
	mutex_init(&od->attach);
	INIT_DELAYED_WORK(&od->reaper, cachefiles_reap_work);
	cachefiles_od_init_req(od, &od->open, CACHEFILES_OP_OPEN);
	cachefiles_od_init_req(od, &od->close, CACHEFILES_OP_CLOSE);
	return od;
}

/**
 * cachefiles_ondemand_create - Give a new object its daemon's side
 * @object: The object, not published yet.
 *
 * Nothing is asked of the daemon yet, see cachefiles_ondemand_want().
 *
 * Context: process.
 * Return: 0; also, without doing anything, if the cache is not in on-demand
 * mode.  -EINVAL if the netfs did not ask for a size, -ENOMEM.
 */
int cachefiles_ondemand_create(struct cachefiles_object *object)
{
	struct cachefiles_cache *cache = cachefiles_object_cache(object);
	bool wants_size = object->cookie->advice & FSCACHE_ADV_WANT_CACHE_SIZE;
	struct cachefiles_ondemand *od;

	if (!!cache->queue != wants_size) {
		pr_notice_ratelimited("Cookie is for a cache in %s mode, not cached\n",
				      wants_size ? "on-demand" : "original");
		return -EINVAL;
	}
	if (!cache->queue)
		return 0;

	od = cachefiles_od_alloc(object);
	if (!od)
		return -ENOMEM;
	cachefiles_cache_get(cache);
	od->cache = cache;
	od->queue = cache->queue;
	object->od = od;
	return 0;
}

/**
 * cachefiles_ondemand_want - Ask the daemon to open an object
 * @object: The object, ready to be used.
 *
 * Context: process.  Does not wait for the answer.
 */
void cachefiles_ondemand_want(struct cachefiles_object *object)
{
	struct cachefiles_ondemand *od = object->od;

	guard(spinlock)(&od->queue->lock);
	list_add_tail(&od->all_link, &od->queue->all);
	od->wanted = true;
	cachefiles_queue_update(od);
	cachefiles_queue_wake(od->queue);
}

/**
 * cachefiles_od_end_reads_locked - End every read of an object
 * @od: The object's od.
 * @error: What the reads fail with.
 * @done: Where they are put for cachefiles_req_run_done().
 *
 * Context: queue->lock held.
 */
void cachefiles_od_end_reads_locked(struct cachefiles_ondemand *od, int error,
				    struct list_head *done)
{
	struct list_head *lists[] = { &od->sent, &od->queued, &od->blocked };
	struct cachefiles_req *req;

	lockdep_assert_held(&od->queue->lock);
	for (int i = 0; i < ARRAY_SIZE(lists); i++) {
		while ((req = list_first_entry_or_null(lists[i], struct cachefiles_req, link)))
			cachefiles_req_finish_locked(req, error, done);
	}
}

/**
 * cachefiles_od_requeue_open_locked - Have an OPEN delivered once more
 * @od: An od whose OPEN is SENT.
 *
 * The descriptor that went with it becomes stale.  The caller brings the ready list up to
 * date and wakes daemons.
 *
 * Context: queue->lock held.
 */
void cachefiles_od_requeue_open_locked(struct cachefiles_ondemand *od)
{
	lockdep_assert_held(&od->queue->lock);
	cachefiles_req_set_state(&od->open, CACHEFILES_REQ_QUEUED);
	cachefiles_req_set_reader_locked(&od->open, NULL);
	od->anon = NULL;
}

/**
 * cachefiles_ondemand_cancel - End every read of an object at once
 * @object: The object; the caller holds an access on its cookie.
 *
 * The reads and barriers that are outstanding fail with -ECANCELED, unless they
 * are reading what is present: none of them waits for the daemon any more, or is
 * going to.  Those that begin later are not affected.
 *
 * Context: process.
 */
void cachefiles_ondemand_cancel(struct cachefiles_object *object)
{
	struct cachefiles_ondemand *od = object->od;
	LIST_HEAD(done);

	scoped_guard(spinlock, &od->queue->lock) {
		/* A read that begins notes it without the lock. */
		WRITE_ONCE(od->cancels, od->cancels + 1);
		cachefiles_od_end_reads_locked(od, -ECANCELED, &done);
		cachefiles_queue_update(od);
	}
	cachefiles_req_run_done(&done);
}

/**
 * cachefiles_ondemand_drop - An object goes
 * @object: The object; no access on its cookie is held by anybody.
 *
 * Ends everything that is pending and queues a CLOSE if the daemon holds a
 * current descriptor.  The daemon's side goes on living for as long as there are
 * descriptors.  On return no copen is working on the object any more.
 *
 * Context: process, may sleep, but not for the daemon.  The caller still has to
 * drop the object's reference on the od.
 */
void cachefiles_ondemand_drop(struct cachefiles_object *object)
{
	struct cachefiles_ondemand *od = object->od;
	LIST_HEAD(done);

	if (!od)
		return;
	scoped_guard(spinlock, &od->queue->lock) {
		cachefiles_od_end_reads_locked(od, -EIO, &done);
		cachefiles_req_finish_locked(&od->open, -EIO, &done);
		od->object = NULL;
		list_splice_init(&od->fills, &od->queue->orphans);
		list_del_init(&od->all_link);
		cachefiles_od_set_state(od, CACHEFILES_OD_DROPPING);
		if (od->anon && !od->queue->dead)
			cachefiles_req_set_state(&od->close, CACHEFILES_REQ_QUEUED);
		cachefiles_queue_update(od);
		cachefiles_queue_wake(od->queue);
	}
	wake_up_all(&od->queue->orphan_wait);
	cachefiles_req_run_done(&done);

	cachefiles_delay(CACHEFILES_DELAY_DROP);
	if (cancel_delayed_work(&od->reaper))
		cachefiles_ondemand_put(od);
	mutex_lock(&od->attach);
	mutex_unlock(&od->attach);
}

static void cachefiles_od_shutdown_locked(struct cachefiles_ondemand *od, struct list_head *done)
{
	lockdep_assert_held(&od->queue->lock);
	cachefiles_od_end_reads_locked(od, -EIO, done);
	cachefiles_req_finish_locked(&od->open, -EIO, done);
	od->wanted = false;
	if (od->state == CACHEFILES_OD_OPENING || od->state == CACHEFILES_OD_REOPENING) {
		od->anon = NULL;
		cachefiles_od_set_state(od, CACHEFILES_OD_CLOSED);
	}
}

/**
 * cachefiles_ondemand_shutdown - End the daemon protocol of a cache
 * @cache: The cache; in any mode and state, and any number of times.
 *
 * Everything that waits for the daemon fails with -EIO, and nothing new is
 * queued or delivered.
 *
 * Context: process.
 */
void cachefiles_ondemand_shutdown(struct cachefiles_cache *cache)
{
	struct cachefiles_queue *queue = cache->queue;
	struct cachefiles_ondemand *od, *next;
	LIST_HEAD(done);

	if (!queue)
		return;
	cachefiles_delay(CACHEFILES_DELAY_SHUTDOWN);
	scoped_guard(spinlock, &queue->lock) {
		queue->dead = true;
		list_for_each_entry(od, &queue->all, all_link)
			cachefiles_od_shutdown_locked(od, &done);
		/* What is left in here are CLOSEs. */
		list_for_each_entry_safe(od, next, &queue->ready, ready_link) {
			cachefiles_req_finish_locked(&od->close, -EIO, &done);
			cachefiles_queue_update(od);
		}
	}
	wake_up_all(&queue->orphan_wait);
	wake_up_poll(queue->wait, EPOLLERR | EPOLLHUP);
	cachefiles_req_run_done(&done);
}

/**
 * cachefiles_ondemand_init_cache - Put a cache into on-demand mode
 * @cache: A cache that is being bound.
 *
 * Context: process.
 * Return: 0 or -ENOMEM.
 */
int cachefiles_ondemand_init_cache(struct cachefiles_cache *cache)
{
	struct cachefiles_queue *queue = kzalloc_obj(*queue);

	if (!queue)
		return -ENOMEM;
	spin_lock_init(&queue->lock);
	INIT_LIST_HEAD(&queue->ready);
	INIT_LIST_HEAD(&queue->all);
	cachefiles_ids_init(&queue->msg_ids, 0, U32_MAX, CACHEFILES_FORCE_MSG_ID);
	cachefiles_ids_init(&queue->object_ids, 1, INT_MAX, CACHEFILES_FORCE_OBJECT_ID);
	INIT_LIST_HEAD(&queue->orphans);
	init_waitqueue_head(&queue->orphan_wait);
	queue->wait = &cache->daemon_wait;
	cache->queue = queue;
	return 0;
}

/**
 * cachefiles_ondemand_free_cache - Undo cachefiles_ondemand_init_cache()
 * @cache: A cache without objects and descriptors, in any mode.
 */
void cachefiles_ondemand_free_cache(struct cachefiles_cache *cache)
{
	struct cachefiles_queue *queue = cache->queue;

	if (!queue)
		return;
	cache->queue = NULL;
	cachefiles_ids_destroy(&queue->msg_ids);
	cachefiles_ids_destroy(&queue->object_ids);
	kfree(queue);
}

/**
 * cachefiles_ondemand_command - Carry out a command of on-demand mode
 * @cache: The cache.
 * @name: The command word.
 * @args: What follows it; may be modified.
 *
 * Context: process; must not be called with cache->cmd_mutex held, so that
 * answers never wait behind a bind or a cull.
 * Return: 0, -EOPNOTSUPP if it is no such command or the cache is not in
 * on-demand mode, or the command's error.
 */
int cachefiles_ondemand_command(struct cachefiles_cache *cache, const char *name, char *args)
{
	if (cachefiles_cache_state(cache) == CACHEFILES_CACHE_SETUP || !cache->queue)
		return -EOPNOTSUPP;
	if (!strcmp(name, "copen"))
		return cachefiles_reply_copen(cache, args);
	if (!strcmp(name, "restore"))
		return cachefiles_failover_restore(cache);
	return -EOPNOTSUPP;
}

int __init cachefiles_ondemand_init(void)
{
	int ret;

	cachefiles_ondemand_wq = alloc_workqueue("cachefiles_ondemand",
						 WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	if (!cachefiles_ondemand_wq)
		return -ENOMEM;
	ret = -ENOMEM;
	cachefiles_reap_wq = alloc_workqueue("cachefiles_reap", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	if (!cachefiles_reap_wq)
		goto err_ondemand;
	ret = cachefiles_io_init();
	if (ret)
		goto err_reap;
	return 0;

err_reap:
	destroy_workqueue(cachefiles_reap_wq);
err_ondemand:
	destroy_workqueue(cachefiles_ondemand_wq);
	return ret;
}

void cachefiles_ondemand_exit(void)
{
	destroy_workqueue(cachefiles_reap_wq);
	destroy_workqueue(cachefiles_ondemand_wq);
	cachefiles_io_exit();
}
