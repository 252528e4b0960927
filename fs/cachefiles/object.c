// SPDX-License-Identifier: GPL-2.0-only
/*
 * Objects: what fscache asks about a data cookie, and the way to a backing file.
 */
#include <linux/file.h>
#include <linux/jiffies.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <trace/events/fscache.h>
#include "delay.h"
#include "internal.h"
#include "ondemand.h"
#include "vfs.h"

static struct kmem_cache *cachefiles_object_cache_slab;
static atomic_t cachefiles_object_debug_id;

static void cachefiles_object_after_thaw(struct work_struct *work);

static struct cachefiles_object *cachefiles_object_alloc(struct fscache_cookie *cookie)
{
	struct cachefiles_object *object;
	char *name;

	name = cachefiles_key_name(cookie);
	if (IS_ERR(name))
		return ERR_CAST(name);
	object = kmem_cache_zalloc(cachefiles_object_cache_slab, GFP_KERNEL);
	if (!object) {
		kfree(name);
		return ERR_PTR(-ENOMEM);
	}
	refcount_set(&object->ref, 1);
	object->debug_id = atomic_inc_return(&cachefiles_object_debug_id);
	object->cookie = fscache_get_cookie(cookie, fscache_cookie_get_attach_object);
	object->volume = cookie->volume->cache_priv;
	object->inval_counter = READ_ONCE(cookie->inval_counter);
	INIT_LIST_HEAD(&object->link);
	spin_lock_init(&object->lock);
	INIT_WORK(&object->after_thaw, cachefiles_object_after_thaw);
	mutex_init(&object->marking);
	spin_lock_init(&object->leaving);
	object->name = name;
	fscache_count_object(cachefiles_object_cache(object)->fscache);
	return object;
}

void cachefiles_object_get(struct cachefiles_object *object)
{
	refcount_inc(&object->ref);
}

/**
 * cachefiles_object_put - Drop a reference on an object
 * @object: The object.
 *
 * Context: process, no lock held.
 */
void cachefiles_object_put(struct cachefiles_object *object)
{
	struct fscache_cache *fscache = cachefiles_object_cache(object)->fscache;

	if (!refcount_dec_and_test(&object->ref))
		return;
	WARN_ON_ONCE(object->file || object->ops || object->old_ops);
	if (object->od)
		cachefiles_ondemand_put(object->od);
	fscache_put_cookie(object->cookie, fscache_cookie_put_object);
	mutex_destroy(&object->marking);
	kfree(object->name);
	kmem_cache_free(cachefiles_object_cache_slab, object);
	/* Whoever waits for the objects may now take the cache away. */
	fscache_uncount_object(fscache);
}

/**
 * cachefiles_object_get_file - Take hold of an object's backing file
 * @object: The object.
 *
 * Return: the file, with a reference for the caller to fput(), or NULL if none
 * is attached.
 */
struct file *cachefiles_object_get_file(struct cachefiles_object *object)
{
	guard(spinlock)(&object->lock);
	return object->file ? get_file(object->file) : NULL;
}

/**
 * cachefiles_object_get_valid_file - The same for an operation of the netfs
 * @object: The object.
 * @inval_counter: Invalidations of the cookie when the operation began.
 *
 * The operation and the file may be from two sides of an invalidation.
 *
 * Return: the file, with a reference for the caller to fput(), or NULL if none
 * is attached or it is not the operation's.
 */
struct file *cachefiles_object_get_valid_file(struct cachefiles_object *object,
					      unsigned int inval_counter)
{
	guard(spinlock)(&object->lock);
	if (!object->file || object->inval_counter != inval_counter)
		return NULL;
	return get_file(object->file);
}

/**
 * cachefiles_object_begin_io - An operation of the netfs begins
 * @object: The object.
 * @inval_counter: Invalidations of the cookie that the operation knows of.
 *
 * Return: false if it has to do without the cache, since the object is from another side
 * of an invalidation; else cachefiles_object_end_io_locked() follows.
 */
bool cachefiles_object_begin_io(struct cachefiles_object *object, unsigned int inval_counter)
{
	guard(spinlock_irqsave)(&object->leaving);
	if (object->inval_counter != inval_counter)
		return false;
	object->ops++;
	return true;
}

/**
 * cachefiles_object_end_io_locked - It has ended
 * @object: The object.
 * @inval_counter: As when it began.
 *
 * Context: any; object->leaving held.
 */
void cachefiles_object_end_io_locked(struct cachefiles_object *object, unsigned int inval_counter)
{
	lockdep_assert_held(&object->leaving);
	if (object->inval_counter == inval_counter)
		object->ops--;
	else
		object->old_ops--;
}

/**
 * cachefiles_object_has_old_ops - Do operations go on that began before an invalidation?
 * @object: The object.
 *
 * What they have read is not right any more, though who stores it may have begun after it.
 *
 * Context: any.
 * Return: true if so.
 */
bool cachefiles_object_has_old_ops(struct cachefiles_object *object)
{
	guard(spinlock_irqsave)(&object->leaving);
	return object->old_ops;
}

/* The file that is going to be made comes after all that the cookie has been told. */
static void cachefiles_object_catch_up(struct cachefiles_object *object)
{
	unsigned int counter = READ_ONCE(object->cookie->inval_counter);

	guard(spinlock_irqsave)(&object->leaving);
	if (object->inval_counter == counter)
		return;
	/* Who marks the file that was there before may look. */
	WRITE_ONCE(object->inval_counter, counter);
	object->old_ops += object->ops;
	object->ops = 0;
	WRITE_ONCE(object->old_copies, true);
}

/* The only way in for a backing file.  Consumes @file. */
static void cachefiles_object_publish_file(struct cachefiles_object *object, struct file *file)
{
	guard(spinlock)(&object->lock);
	object->file = file;
	WRITE_ONCE(object->distrusted, false);
}

static struct file *cachefiles_object_take_file(struct cachefiles_object *object)
{
	struct file *file;

	guard(spinlock)(&object->lock);
	file = object->file;
	object->file = NULL;
	return file;
}

/*
 * Make a backing file as long as its object, in whole granules.  If it ends within
 * one, what would be added to that one would count as data: it is given up.
 */
static int cachefiles_object_set_backing_size(struct cachefiles_object *object,
					      struct file *file)
{
	loff_t size = round_up(object->cookie->object_size, CACHEFILES_GRANULE);
	loff_t old = cachefiles_vfs_size(file);
	int ret = 0;

	if (old == size)
		return 0;
	/* Whoever reads waits for the look-up.  Behind its end, nothing of a file is there. */
	if (!object->od && cachefiles_cache_is_frozen(cachefiles_object_cache(object)))
		return old < size && IS_ALIGNED(old, CACHEFILES_GRANULE) ? 0 : -EBUSY;
	with_cache_creds(cachefiles_object_cache(object)) {
		if (old < size && !IS_ALIGNED(old, CACHEFILES_GRANULE))
			ret = cachefiles_vfs_truncate(file, round_down(old, CACHEFILES_GRANULE));
		if (!ret)
			ret = cachefiles_vfs_truncate(file, size);
	}
	if (ret == -EIO)
		cachefiles_cache_io_error(cachefiles_object_cache(object), "truncate", ret);
	return ret;
}

/*
 * The use that is going on is no longer one of the cookie's object.  FS-Cache does not note
 * its end then: cookie->unused_at tells when an object was used last.
 */
static void cachefiles_object_end_use(struct fscache_cookie *cookie)
{
	clear_bit(FSCACHE_COOKIE_IS_CACHING, &cookie->flags);
}

/* From now on the netfs may write to its server and not to this object. */
static void cachefiles_object_missed(struct cachefiles_volume *volume)
{
	WRITE_ONCE(volume->missed_at, jiffies);
	WRITE_ONCE(volume->missed, true);
}

/*
 * May the netfs have written while the object was not attached?  It tells that it
 * writes, but not since when.  It is all right if this is the first use of a cookie
 * that was always meant for the cache, or if nothing went wrong since the last use.  That may
 * not be known of one that began when its volume could not be attached.
 */
static bool cachefiles_object_was_bypassed(struct cachefiles_object *object)
{
	struct cachefiles_volume *volume = object->volume;
	struct fscache_cookie *cookie = object->cookie;
	unsigned long unused_at = READ_ONCE(cookie->unused_at);
	bool missed = READ_ONCE(volume->missed);

	if (!test_bit(FSCACHE_COOKIE_LOCAL_WRITE, &cookie->flags))
		return false;
	if (atomic_read(&cookie->n_active) > 1)
		return true;
	if (!volume->fresh && READ_ONCE(volume->cache->volume_missed))
		return true;
	if (!unused_at)
		return missed || !volume->fresh;
	return !time_after(unused_at, volume->attached_at) ||
	       (missed && !time_after(unused_at, READ_ONCE(volume->missed_at)));
}

/*
 * Has the cookie been invalidated while no object was attached?  What it tells about the
 * content need not have changed with that.
 */
static bool cachefiles_object_missed_invalidation(struct cachefiles_object *object)
{
	struct cachefiles_volume *volume = object->volume;

	if (cachefiles_volume_noted_invalidations(volume, object->cookie) == object->inval_counter)
		return false;
	/* It may have had one in a cache that was bound before. */
	object->old_copies = !volume->fresh;
	return true;
}

/*
 * The file that is there under the object's name, if it can be believed.
 *
 * Return: the file; NULL if there is none, or if it is stale, with that in *@stale; or an
 * error.
 */
static struct file *cachefiles_object_open_existing(struct cachefiles_object *object,
						    struct file **stale)
{
	bool missed = !object->od && cachefiles_object_missed_invalidation(object);
	struct file *file = cachefiles_namei_open(object);
	int ret;

	*stale = NULL;
	if (IS_ERR(file))
		return file == ERR_PTR(-ENOENT) ? NULL : file;
	ret = missed || cachefiles_object_was_bypassed(object) ||
	      cachefiles_presence_is_lost(file) ? -ESTALE : 0;
	if (!ret)
		ret = cachefiles_xattr_check_object(object, file);
	if (!ret)
		ret = cachefiles_object_set_backing_size(object, file);
	if (!ret)
		return file;
	if (ret == -ESTALE) {
		*stale = file;
		return NULL;
	}
	cachefiles_namei_release(cachefiles_object_cache(object), file, true);
	return ERR_PTR(ret);
}

/* An empty file is right whatever the netfs means; what it says last counts. */
static int cachefiles_object_set_new_xattr(struct cachefiles_object *object, struct file *file,
					   bool dirty)
{
	int ret;

	do {
		cachefiles_object_catch_up(object);
		ret = cachefiles_xattr_set_object(object, file, dirty);
	} while (ret == -ESTALE);
	return ret;
}

static int cachefiles_object_sync(struct cachefiles_object *object, struct file *file)
{
	int ret = 0;

	with_cache_creds(cachefiles_object_cache(object))
		ret = vfs_fsync(file, 0);
	if (ret)
		cachefiles_presence_distrust(object, file, "fsync", ret);
	return ret;
}

/* Takes the file's name, or if it won't go, everything that makes it credible. */
static void cachefiles_object_remove(struct cachefiles_object *object, struct file *file)
{
	if (cachefiles_namei_unlink(object, file))
		cachefiles_xattr_remove_object(object, file);
}

/*
 * A new file, empty but for its size.  It gets its name at once: holes say what
 * is missing, so it is never wrong, and what is fetched outlives a crash.  If the
 * netfs is going to write, nobody is to believe it until it is done, nor after a power cut
 * the file that it @replaces.  One that was dirty itself is not believed anyway.
 */
static struct file *cachefiles_object_create(struct cachefiles_object *object, bool replaces)
{
	bool dirty = test_bit(FSCACHE_COOKIE_LOCAL_WRITE, &object->cookie->flags);
	struct cachefiles_cache *cache = cachefiles_object_cache(object);
	struct dentry *fanout = cachefiles_namei_fanout(object, true);
	struct file *file;
	int ret;

	if (IS_ERR(fanout))
		return ERR_CAST(fanout);
	ret = cachefiles_presence_ensure(cache);
	if (ret)
		return ERR_PTR(ret);
	file = cachefiles_namei_tmpfile(cache, fanout);
	if (IS_ERR(file))
		return file;
	ret = cachefiles_object_set_backing_size(object, file);
	if (!ret)
		ret = cachefiles_object_set_new_xattr(object, file, dirty);
	if (!ret)
		ret = cachefiles_namei_link(object, file, &replaces);
	if (!ret && dirty && replaces && !object->dirty) {
		ret = cachefiles_object_sync(object, file);
		if (ret)
			cachefiles_object_remove(object, file);
	}
	if (ret) {
		cachefiles_namei_release(cache, file, false);
		return ERR_PTR(ret);
	}
	WRITE_ONCE(object->dirty, dirty);
	return file;
}

/*
 * A new file in place of @old, which is consumed, or NULL.  I/O that is going on keeps that,
 * but it loses its name first: it might be believed later if there is no new one, since what
 * makes it stale need not be on it.
 */
static struct file *cachefiles_object_supersede(struct cachefiles_object *object, struct file *old)
{
	bool replaces = old;

	if (old) {
		cachefiles_object_remove(object, old);
		cachefiles_namei_release(cachefiles_object_cache(object), old, false);
	}
	return cachefiles_object_create(object, replaces);
}

/* The same for an object of the original mode, which has the file then. */
static int cachefiles_object_replace(struct cachefiles_object *object, struct file *old)
{
	struct file *file = cachefiles_object_supersede(object, old);

	if (IS_ERR(file))
		return PTR_ERR(file);
	cachefiles_delay(CACHEFILES_DELAY_OPENED);
	cachefiles_object_publish_file(object, file);
	return 0;
}

/* What the object has is not right any more.  Error: it has none then. */
static int cachefiles_object_renew(struct cachefiles_object *object)
{
	return cachefiles_object_replace(object, cachefiles_object_take_file(object));
}

/*
 * FS-Cache does not ask to invalidate what is just being made or invalidated.  Those who
 * come after it would get no file until the cookie is used again.
 */
static bool cachefiles_object_outdated(const struct cachefiles_object *object)
{
	return READ_ONCE(object->cookie->inval_counter) != object->inval_counter;
}

/* A new file for those.  Error: it has none then. */
static int cachefiles_object_keep_up(struct cachefiles_object *object)
{
	return cachefiles_object_outdated(object) ? cachefiles_object_renew(object) : 0;
}

static bool cachefiles_object_fits(struct cachefiles_object *object, loff_t size)
{
	const struct super_block *sb = READ_ONCE(cachefiles_object_cache(object)->sb);

	return size <= sb->s_maxbytes - (loff_t)CACHEFILES_GRANULE;
}

/**
 * cachefiles_object_attach - Find or make an on-demand object's backing file
 * @object: An object that has none.
 * @size: The object's size in bytes, not negative.
 *
 * If the cookie had an object before, its netfs knows the size of that one, and takes
 * for data what it reads up to there: no other size will do.
 *
 * Context: process, may sleep for the backing file system.
 * Return: 0, or why there is no file: -EFBIG if the backing file system has no
 * files of that size, -ESTALE if the cookie has had another size, -ENOBUFS if
 * space is short, or its own error.
 */
int cachefiles_object_attach(struct cachefiles_object *object, loff_t size)
{
	struct fscache_cookie *cookie = object->cookie;
	loff_t known = cookie->object_size;
	struct file *file, *stale;

	might_sleep();
	if (!cachefiles_object_fits(object, size))
		return -EFBIG;
	if (known && known != size)
		return -ESTALE;
	cookie->object_size = size;

	file = cachefiles_object_open_existing(object, &stale);
	if (!file)
		file = cachefiles_object_supersede(object, stale);
	if (IS_ERR(file)) {
		cookie->object_size = known;
		return PTR_ERR(file);
	}
	if (size)
		clear_bit(FSCACHE_COOKIE_NO_DATA_TO_READ, &cookie->flags);
	cachefiles_object_publish_file(object, file);
	return 0;
}

/*
 * The same in original mode, where the netfs knows the size.  It need not wait for a
 * new file to learn that there is nothing to read.
 */
static int cachefiles_object_open(struct cachefiles_object *object)
{
	struct fscache_cookie *cookie = object->cookie;
	struct file *file, *stale;
	int ret;

	if (!cachefiles_object_fits(object, READ_ONCE(cookie->object_size)))
		return -EFBIG;

	file = cachefiles_object_open_existing(object, &stale);
	if (IS_ERR(file))
		return PTR_ERR(file);
	if (!file) {
		/* Those who are let go on by that know of all invalidations until now. */
		cachefiles_object_catch_up(object);
		fscache_cookie_lookup_negative(cookie);
		ret = cachefiles_object_replace(object, stale);
		return ret ?: cachefiles_object_keep_up(object);
	}
	clear_bit(FSCACHE_COOKIE_NO_DATA_TO_READ, &cookie->flags);
	cachefiles_delay(CACHEFILES_DELAY_OPENED);
	cachefiles_object_publish_file(object, file);
	return 0;
}

static struct cachefiles_object *cachefiles_object_new(struct fscache_cookie *cookie)
{
	struct cachefiles_object *object = cachefiles_object_alloc(cookie);
	int ret;

	if (IS_ERR(object))
		return object;
	ret = cachefiles_ondemand_create(object);
	if (!ret)
		return object;
	cachefiles_object_put(object);
	return ERR_PTR(ret);
}

/*
 * The netfs is going to write: nobody is to believe the file until it is done, not
 * even after a power cut, which what is written may well survive.
 */
static void cachefiles_object_mark_dirty(struct cachefiles_object *object, struct file *file)
{
	int ret;

	cachefiles_delay(CACHEFILES_DELAY_MARK_DIRTY);
	ret = cachefiles_xattr_set_object(object, file, true);
	if (ret)
		ret = cachefiles_xattr_remove_object(object, file);
	if (!ret)
		ret = cachefiles_object_sync(object, file);
	if (ret)
		return;
	/* It may have been replaced meanwhile. */
	guard(spinlock)(&object->lock);
	if (object->file == file)
		WRITE_ONCE(object->dirty, true);
}

/**
 * cachefiles_object_mark - See to it that the netfs may write to an object
 * @object: An object of the original mode.
 *
 * Nothing is to be written before it is marked, but it need not be if the netfs is not going
 * to write.  If it can't be marked, cachefiles_object_is_unmarked() goes on to say so.
 *
 * Context: process, may sleep for the backing file system and waits for it to be thawed;
 * allocates nothing into another one.
 */
void cachefiles_object_mark(struct cachefiles_object *object)
{
	unsigned int nofs;
	struct file *file;

	guard(mutex)(&object->marking);
	if (!cachefiles_object_is_unmarked(object))
		return;
	file = cachefiles_object_get_file(object);
	if (file) {
		nofs = memalloc_nofs_save();
		cachefiles_object_mark_dirty(object, file);
		memalloc_nofs_restore(nofs);
		fput(file);
	}
}

static void cachefiles_object_prepare_to_write(struct fscache_cookie *cookie)
{
	struct cachefiles_object *object = cookie->cache_priv;

	if (object->od)
		return;
	/* Whoever reads may have to wait for the cookie's worker. */
	if (cachefiles_cache_is_frozen(cachefiles_object_cache(object)))
		cachefiles_io_queue_frozen(&object->after_thaw);
	else
		cachefiles_object_mark(object);
}

/* From when the object is published, fscache has it withdrawn if this fails. */
static bool cachefiles_object_lookup(struct fscache_cookie *cookie)
{
	struct cachefiles_cache *cache = cookie->volume->cache->cache_priv;
	struct cachefiles_object *object;
	int ret = 0;

	guard(cachefiles_nofs)();
	cachefiles_delay(CACHEFILES_DELAY_LOOKUP);
	object = cachefiles_object_new(cookie);
	if (object == ERR_PTR(-ENOMEM)) {
		cachefiles_object_end_use(cookie);
		goto missed;
	}
	if (IS_ERR(object))
		goto failed;

	cookie->cache_priv = object;
	scoped_guard(spinlock, &cache->lists_lock)
		list_add_tail(&object->link, &cache->objects);
	cachefiles_delay(CACHEFILES_DELAY_PUBLISHED);

	if (object->od)
		cachefiles_ondemand_want(object);
	else
		ret = cachefiles_object_open(object);
	if (!ret) {
		/* FS-Cache does not ask for one who came to write during the look-up. */
		if (test_bit(FSCACHE_COOKIE_LOCAL_WRITE, &cookie->flags))
			cachefiles_object_prepare_to_write(cookie);
		return true;
	}
failed:
	fscache_caching_failed(cookie);
missed:
	cachefiles_object_missed(cookie->volume->cache_priv);
	return false;
}

/* Does the netfs go on writing without the cache, or has it done so when that was ended? */
static bool cachefiles_object_may_miss_writes(struct cachefiles_object *object)
{
	struct cachefiles_cache *cache = cachefiles_object_cache(object);
	struct fscache_cookie *cookie = object->cookie;

	if (atomic_read(&cookie->n_active) > 0)
		return true;
	return cachefiles_cache_state(cache) == CACHEFILES_CACHE_DEAD &&
	       !time_before(READ_ONCE(cookie->unused_at), cache->closed_at);
}

/*
 * Stores what the file is now.  If that fails, what is stored tells that it is stale,
 * and so it does if there are writes that it has not got.
 *
 * Return: false if it can't be kept: nothing tells that it is stale, or the cookie has been
 * invalidated, and the object was not asked, as it is on its way out.
 */
static bool cachefiles_object_commit(struct cachefiles_object *object, struct file *file)
{
	struct fscache_cookie *cookie = object->cookie;
	bool changed;

	if (cachefiles_object_outdated(object))
		return false;
	if (test_bit(FSCACHE_COOKIE_LOCAL_WRITE, &cookie->flags)) {
		/* If the cache has failed, that stays as it is. */
		if (READ_ONCE(cachefiles_object_cache(object)->failed) ||
		    cachefiles_object_may_miss_writes(object))
			return object->dirty;
		/* No power cut is to bring the mark and not the data. */
		if (cachefiles_vfs_has_dirty_pages(file) && cachefiles_object_sync(object, file))
			return false;
	}
	if (READ_ONCE(cachefiles_object_cache(object)->failed))
		return true;
	changed = test_and_clear_bit(FSCACHE_COOKIE_LOCAL_WRITE, &cookie->flags);
	changed |= test_and_clear_bit(FSCACHE_COOKIE_NEEDS_UPDATE, &cookie->flags);
	return !changed || cachefiles_xattr_set_object(object, file, false) != -ESTALE;
}

/* The operation that held the last access may still be at the cookie. */
static void cachefiles_object_wait_for_leaving(struct cachefiles_object *object)
{
	spin_lock_irq(&object->leaving);
	spin_unlock_irq(&object->leaving);
}

/*
 * The cookie lets go of its object.  No access is held, so no I/O that came
 * through the netfs is left.
 *
 * While the cache takes it away, FS-Cache does not tell who begins to write.  So whoever has
 * come meanwhile, or may have come and gone, counts as one who does; whether the file is
 * believed when it is looked for again is for cachefiles_object_was_bypassed() to say.
 */
static void cachefiles_object_withdraw(struct fscache_cookie *cookie)
{
	bool unannounced = fscache_cookie_state(cookie) == FSCACHE_COOKIE_STATE_WITHDRAWING;
	unsigned long unused_at = READ_ONCE(cookie->unused_at);
	int n_active = atomic_read(&cookie->n_active);
	struct cachefiles_object *object = cookie->cache_priv;
	struct cachefiles_cache *cache = cachefiles_object_cache(object);
	struct file *file;
	bool keep;

	guard(cachefiles_nofs)();
	cachefiles_delay(CACHEFILES_DELAY_WITHDRAW);
	cachefiles_object_wait_for_leaving(object);
	flush_work(&object->after_thaw);
	scoped_guard(spinlock, &cache->lists_lock)
		list_del_init(&object->link);
	cachefiles_ondemand_drop(object);

	file = cachefiles_object_take_file(object);
	if (file) {
		keep = !test_bit(FSCACHE_COOKIE_RETIRED, &cookie->flags) &&
		       !object->distrusted && !cachefiles_presence_is_lost(file);
		if (keep && !object->od)
			keep = cachefiles_object_commit(object, file);
		if (!keep)
			cachefiles_object_remove(object, file);
		cachefiles_namei_release(cache, file, keep);
		if (!object->od)
			cachefiles_volume_note_invalidations(object->volume, cookie,
							     object->inval_counter);
	}
	cachefiles_object_end_use(cookie);
	if (!object->od && unannounced && (READ_ONCE(cookie->unused_at) != unused_at ||
					   atomic_read(&cookie->n_active) != n_active))
		set_bit(FSCACHE_COOKIE_LOCAL_WRITE, &cookie->flags);
	cookie->cache_priv = NULL;
	cachefiles_object_put(object);
}

/*
 * Is the file to be replaced by another worker, since that would have to wait for the thaw?
 * One who is at it already takes notice of what the cookie is told meanwhile.
 */
static bool cachefiles_object_replace_later(struct cachefiles_object *object)
{
	scoped_guard(spinlock, &object->lock) {
		if (object->replacing)
			return true;
		if (!cachefiles_cache_is_frozen(cachefiles_object_cache(object)))
			return false;
		object->replacing = true;
	}
	cachefiles_io_queue_frozen(&object->after_thaw);
	return true;
}

/* Is that over?  From then on, the cookie's worker replaces the file again. */
static bool cachefiles_object_end_replacing(struct cachefiles_object *object, int error)
{
	guard(spinlock)(&object->lock);
	if (!error && cachefiles_object_outdated(object))
		return false;
	object->replacing = false;
	return true;
}

static void cachefiles_object_after_thaw(struct work_struct *work)
{
	struct cachefiles_object *object = container_of(work, struct cachefiles_object,
							after_thaw);
	int ret;

	guard(cachefiles_nofs)();
	if (READ_ONCE(object->replacing)) {
		do {
			ret = cachefiles_object_renew(object);
		} while (!cachefiles_object_end_replacing(object, ret));
		if (ret)
			cachefiles_object_missed(object->volume);
	}
	/* It may have been asked for while there was no file. */
	cachefiles_object_mark(object);
}

/*
 * The netfs says that nothing of what is stored is right any more.  I/O that is
 * going on keeps the old file, which has no name then.  What a daemon serves never
 * changes, so an on-demand object can't be invalidated.
 *
 * Those who come now wait for the new file, lest what they fetch is lost, even if it is
 * said twice in a row, as NFS does whenever a file has changed on the server.  If the backing
 * file system is being frozen they do without: they may be writing to it themselves, and
 * hold up the freezing, and so the new file.  Nor is that made by the cookie's worker then,
 * who would keep those waiting that come after the next invalidation.  A freeze that begins
 * only while the new file is being made is not noticed.
 *
 * If there is no new file, nothing is stored until the cookie has been out of use for a
 * while and is used again.  FS-Cache is not told: it would keep the object as long as the
 * cookie.
 */
static bool cachefiles_object_invalidate(struct fscache_cookie *cookie)
{
	struct cachefiles_object *object = cookie->cache_priv;
	int ret;

	guard(cachefiles_nofs)();
	if (object->od)
		return false;
	if (cachefiles_object_replace_later(object)) {
		fscache_resume_after_invalidation(cookie);
		return true;
	}
	ret = cachefiles_object_renew(object);
	/* Not as often as it is said, lest those who wait do so for ever. */
	ret = ret ?: cachefiles_object_keep_up(object);
	fscache_resume_after_invalidation(cookie);
	/* For any that comes from then on, FS-Cache asks. */
	ret = ret ?: cachefiles_object_keep_up(object);
	if (ret)
		cachefiles_object_missed(object->volume);
	return true;
}

struct cachefiles_cut {
	struct cachefiles_cache	*cache;
	struct file		*file;
	loff_t			size;
};

/* The file ends with a whole granule, of which nothing is there. */
static int cachefiles_object_do_cut(void *data)
{
	struct cachefiles_cut *cut = data;
	loff_t whole = round_down(cut->size, CACHEFILES_GRANULE);
	int ret = 0;

	with_cache_creds(cut->cache) {
		ret = cachefiles_vfs_truncate(cut->file, whole);
		if (!ret && whole != cut->size)
			ret = cachefiles_vfs_truncate(cut->file, whole + CACHEFILES_GRANULE);
	}
	return ret;
}

/* Takes away what lies behind @size, and the granule that it ends in. */
static void cachefiles_object_cut(struct cachefiles_object *object, struct file *file, loff_t size)
{
	struct cachefiles_cut cut = {
		.cache	= cachefiles_object_cache(object),
		.file	= file,
		.size	= size,
	};
	unsigned int nofs;
	int ret;

	cachefiles_vfs_settle(file);
	if (cachefiles_vfs_size(file) <= round_down(size, CACHEFILES_GRANULE))
		return;
	nofs = memalloc_nofs_save();
	cachefiles_presence_begin_cut(object);
	cachefiles_delay(CACHEFILES_DELAY_CUT_BEGUN);
	ret = cachefiles_io_insist(cachefiles_object_do_cut, &cut);
	if (ret)
		cachefiles_presence_distrust(object, file, "truncate", ret);
	cachefiles_delay(CACHEFILES_DELAY_CUT_DONE);
	cachefiles_presence_end_cut(object);
	memalloc_nofs_restore(nofs);
}

/*
 * What lies behind the end of the object in its last granule is nobody's content:
 * when the end moves, that granule is given up.  The netfs may have stored more than the
 * cookie tells, so what counts for cutting is what there is.
 */
static void cachefiles_object_resize(struct netfs_cache_resources *cres, loff_t new_size)
{
	struct fscache_cookie *cookie = fscache_cres_cookie(cres);
	struct cachefiles_object *object = cookie->cache_priv;
	struct file *file = cres->cache_priv2;
	loff_t old_size = cookie->object_size;

	if (object->od || !file)
		return;
	cachefiles_object_cut(object, file, new_size);
	if (new_size > old_size && !IS_ALIGNED(old_size, CACHEFILES_GRANULE))
		cachefiles_presence_forget(object, file, old_size, old_size + 1);
	cookie->object_size = new_size;
}

/**
 * cachefiles_object_withdraw_all - Detach all objects of a cache
 * @cache: A cache whose volumes are stopped, so that no lookup is running.
 *
 * Context: process.  Returns when the last object is gone; waits for backing I/O
 * but not for the daemon.
 */
void cachefiles_object_withdraw_all(struct cachefiles_cache *cache)
{
	struct cachefiles_object *object;

	scoped_guard(spinlock, &cache->lists_lock) {
		while ((object = list_first_entry_or_null(&cache->objects,
							  struct cachefiles_object, link))) {
			list_del_init(&object->link);
			/* The cookie stays as long as the object is attached to it. */
			fscache_withdraw_cookie(object->cookie);
		}
	}
	fscache_wait_for_objects(cache->fscache);
}

const struct fscache_cache_ops cachefiles_cache_ops = {
	.name			= "cachefiles",
	.acquire_volume		= cachefiles_volume_acquire,
	.free_volume		= cachefiles_volume_free,
	.lookup_cookie		= cachefiles_object_lookup,
	.withdraw_cookie	= cachefiles_object_withdraw,
	.invalidate_cookie	= cachefiles_object_invalidate,
	.resize_cookie		= cachefiles_object_resize,
	.begin_operation	= cachefiles_netfs_begin,
	.prepare_to_write	= cachefiles_object_prepare_to_write,
};

int __init cachefiles_object_init(void)
{
	cachefiles_object_cache_slab = kmem_cache_create("cachefiles_object",
							 sizeof(struct cachefiles_object), 0,
							 SLAB_HWCACHE_ALIGN, NULL);
	return cachefiles_object_cache_slab ? 0 : -ENOMEM;
}

void cachefiles_object_exit(void)
{
	kmem_cache_destroy(cachefiles_object_cache_slab);
}
