// SPDX-License-Identifier: GPL-2.0-only
/*
 * Volumes: a directory for each, with fan-out directories for its objects.
 */
#include <linux/jiffies.h>
#include <linux/slab.h>
#include <trace/events/fscache.h>
#include "delay.h"
#include "force.h"
#include "internal.h"

/* Stale directories are expected once; more than a few mean that something fights us. */
#define CACHEFILES_VOLUME_TRIES	3

/* How many cookies of a volume are remembered that were invalidated and have no object now. */
#define CACHEFILES_VOLUME_NOTES	(16U << 10)

/*
 * Finds or makes the directory of @volume and marks it in use.  One that belongs
 * to another generation of the volume, or to none that can be told, goes to the
 * graveyard.  In original mode nothing is made or moved while the file system is frozen: all
 * who read files of the volume would have to wait for the thaw, though there is a server.
 */
static int cachefiles_volume_open(struct cachefiles_volume *volume, const char *name)
{
	struct cachefiles_cache *cache = volume->cache;
	bool frozen = !cache->queue && cachefiles_cache_is_frozen(cache);
	struct dentry *dentry;
	bool is_new;
	int tries;
	int ret;

	for (tries = 0; tries < CACHEFILES_VOLUME_TRIES; tries++) {
		dentry = cachefiles_namei_get_dir(cache, cache->store, name, !frozen, &is_new);
		if (frozen && dentry == ERR_PTR(-ENOENT))
			return -EBUSY;
		if (IS_ERR(dentry))
			return PTR_ERR(dentry);

		volume->dentry = dentry;
		if (is_new)
			ret = cachefiles_xattr_set_volume(volume);
		else
			ret = cachefiles_xattr_check_volume(volume);
		if (!ret)
			return 0;

		/* Not marked any more when it is in the graveyard, or nobody can empty that. */
		dget(dentry);
		cachefiles_namei_put_dir(dentry);
		if (ret == -ESTALE && frozen) {
			ret = -EBUSY;
		} else if (ret == -ESTALE) {
			cachefiles_debug("volume %s is stale\n", name);
			ret = cachefiles_namei_bury(cache, cache->store, dentry);
			cachefiles_delay(CACHEFILES_DELAY_BURIED);
		}
		dput(dentry);
		if (ret)
			return ret;
	}
	return -ESTALE;
}

static struct cachefiles_volume *cachefiles_volume_alloc(struct cachefiles_cache *cache,
							 struct fscache_volume *vcookie)
{
	struct cachefiles_volume *volume = kzalloc_obj(*volume);

	if (!volume)
		return NULL;
	cachefiles_cache_get(cache);
	volume->cache = cache;
	volume->vcookie = vcookie;
	volume->fresh = !atomic_read(&vcookie->n_cookies);
	volume->attached_at = jiffies;
	INIT_LIST_HEAD(&volume->link);
	xa_init(&volume->invalidations);
	mutex_init(&volume->mutex);
	return volume;
}

static void cachefiles_volume_dealloc(struct cachefiles_volume *volume)
{
	cachefiles_cache_put(volume->cache);
	xa_destroy(&volume->invalidations);
	mutex_destroy(&volume->mutex);
	kfree(volume);
}

/**
 * cachefiles_volume_acquire - Attach a volume to its cache
 * @vcookie: The volume cookie
 *
 * Success is told by vcookie->cache_priv, and by an access on the volume that
 * fscache_withdraw_volume() gives back.  If it fails, fscache asks again when the
 * next cookie is looked up.
 *
 * Context: A worker of fscache that holds an access on the cache; may sleep.
 */
void cachefiles_volume_acquire(struct fscache_volume *vcookie)
{
	struct cachefiles_cache *cache = vcookie->cache->cache_priv;
	struct cachefiles_volume *volume;
	int n_accesses;
	char *name;
	int ret;

	guard(cachefiles_nofs)();
	name = kasprintf(GFP_KERNEL, "I%s", vcookie->key + 1);
	if (!name)
		goto missed;
	volume = cachefiles_volume_alloc(cache, vcookie);
	if (!volume)
		goto missed;

	ret = cachefiles_volume_open(volume, name);
	if (ret) {
		pr_warn_ratelimited("Volume %s is not cached: error %d\n", name, ret);
		cachefiles_volume_dealloc(volume);
		goto missed;
	}

	cachefiles_delay(CACHEFILES_DELAY_VOLUME_ACQUIRE);
	scoped_guard(spinlock, &cache->lists_lock)
		list_add_tail(&volume->link, &cache->volumes);

	n_accesses = atomic_inc_return(&vcookie->n_accesses);
	trace_fscache_access_volume(vcookie->debug_id, 0, refcount_read(&vcookie->ref), n_accesses,
				    fscache_access_cache_pin);
	vcookie->cache_priv = volume;
	kfree(name);
	return;

missed:
	WRITE_ONCE(cache->volume_missed, true);
	kfree(name);
}

/*
 * Ends a volume that nothing looks up any more.  Leaving the list comes last: the
 * tear-down of the cache goes on when the list is empty.
 */
static void cachefiles_volume_end(struct cachefiles_volume *volume)
{
	struct cachefiles_cache *cache = volume->cache;
	unsigned int i;

	cachefiles_delay(CACHEFILES_DELAY_VOLUME_END);
	if (test_bit(FSCACHE_VOLUME_INVALIDATE, &volume->vcookie->flags))
		cachefiles_xattr_remove_volume(volume);
	else
		cachefiles_xattr_set_volume(volume);

	for (i = 0; i < CACHEFILES_FANOUTS; i++)
		cachefiles_namei_put_dir(volume->fanout[i]);
	cachefiles_namei_put_dir(volume->dentry);

	scoped_guard(spinlock, &cache->lists_lock) {
		list_del_init(&volume->link);
		wake_up_var(&cache->volumes);
	}
	cachefiles_volume_dealloc(volume);
}

/**
 * cachefiles_volume_free - Detach a volume whose last reference is gone
 * @vcookie: The volume cookie
 *
 * Coherency data are stored as the netfs has left them; if it has invalidated
 * the volume they are removed, so that the next user starts afresh.
 *
 * cachefiles_volume_free_all() does the same for volumes that live on.  It needs
 * a reference for that, which can't be had of a volume that comes here: so only
 * one of the two ends a volume.
 *
 * Context: fscache holds an access on the volume; may sleep.
 */
void cachefiles_volume_free(struct fscache_volume *vcookie)
{
	struct cachefiles_volume *volume = vcookie->cache_priv;

	guard(cachefiles_nofs)();
	vcookie->cache_priv = NULL;
	cachefiles_volume_end(volume);
}

/* Finds a volume that can be had a reference on; the others are leaving by themselves. */
static struct cachefiles_volume *cachefiles_volume_get_next(struct cachefiles_cache *cache,
							    bool stopping)
{
	struct cachefiles_volume *found = NULL;
	struct cachefiles_volume *volume;

	spin_lock(&cache->lists_lock);
	list_for_each_entry(volume, &cache->volumes, link) {
		if (stopping && volume->stopped)
			continue;
		volume->stopped = true;
		if (fscache_try_get_volume(volume->vcookie, fscache_volume_get_withdraw)) {
			found = volume;
			break;
		}
	}
	spin_unlock(&cache->lists_lock);
	return found;
}

/**
 * cachefiles_volume_stop_all - Let no cookie be looked up any more
 * @cache: The cache; fscache_withdraw_cache() has been called
 *
 * Context: May sleep until lookups that are running have ended.
 */
void cachefiles_volume_stop_all(struct cachefiles_cache *cache)
{
	struct cachefiles_volume *volume;

	while ((volume = cachefiles_volume_get_next(cache, true))) {
		struct fscache_volume *vcookie = volume->vcookie;

		fscache_withdraw_volume(vcookie);
		fscache_put_volume(vcookie, fscache_volume_put_withdraw);
	}
}

static bool cachefiles_volume_none_left(struct cachefiles_cache *cache)
{
	bool none;

	/* Under the lock, so that whoever has left the list is done with it. */
	spin_lock(&cache->lists_lock);
	none = list_empty(&cache->volumes);
	spin_unlock(&cache->lists_lock);
	return none;
}

/**
 * cachefiles_volume_free_all - Detach all volumes
 * @cache: The cache; its volumes are stopped and its objects are gone
 *
 * Context: May sleep, also until volumes that fscache is freeing are freed.
 */
void cachefiles_volume_free_all(struct cachefiles_cache *cache)
{
	struct cachefiles_volume *volume;

	while ((volume = cachefiles_volume_get_next(cache, false))) {
		struct fscache_volume *vcookie = volume->vcookie;

		vcookie->cache_priv = NULL;
		cachefiles_volume_end(volume);
		fscache_put_volume(vcookie, fscache_volume_put_withdraw);
	}
	wait_var_event(&cache->volumes, cachefiles_volume_none_left(cache));
}

static struct dentry *cachefiles_volume_find_fanout(struct cachefiles_volume *volume,
						    unsigned int i, const char *name)
{
	struct dentry *dentry;

	/* Pairs with the release below. */
	dentry = smp_load_acquire(&volume->fanout[i]);
	if (dentry)
		return dentry;

	guard(mutex)(&volume->mutex);
	dentry = volume->fanout[i];
	if (!dentry) {
		dentry = cachefiles_namei_get_dir(volume->cache, volume->dentry, name, false,
						  NULL);
		if (!IS_ERR(dentry))
			/* Pairs with the unlocked look above. */
			smp_store_release(&volume->fanout[i], dentry);
	}
	return dentry;
}

/**
 * cachefiles_volume_fanout - Find the directory for an object's file
 * @volume: The volume
 * @key_hash: Hash of the object's key; its lowest byte says which directory
 * @make: Make it if it is not there
 *
 * Context: May sleep; no lock of the backing file system is held.  Unless it has to be made,
 * does not wait for the backing file system to be thawed.
 * Return: A directory that lives as long as the volume, no reference is passed;
 * or the error of cachefiles_namei_get_dir().
 */
struct dentry *cachefiles_volume_fanout(struct cachefiles_volume *volume, u32 key_hash, bool make)
{
	unsigned int i = key_hash % CACHEFILES_FANOUTS;
	struct dentry *dentry;
	char name[sizeof("@ff")];
	int tries;
	int ret;

	snprintf(name, sizeof(name), "@%02x", i);
	for (tries = 0; tries < CACHEFILES_VOLUME_TRIES; tries++) {
		dentry = cachefiles_volume_find_fanout(volume, i, name);
		if (!make || dentry != ERR_PTR(-ENOENT))
			return dentry;
		/* Without the lock, which those want who do not wait for the thaw. */
		ret = cachefiles_namei_make_dir(volume->cache, volume->dentry, name);
		if (ret)
			return ERR_PTR(ret);
	}
	return ERR_PTR(-EAGAIN);
}

static void cachefiles_volume_drop_note(struct cachefiles_volume *volume, unsigned long id)
{
	if (xa_erase(&volume->invalidations, id))
		atomic_dec(&volume->n_invalidations);
}

/**
 * cachefiles_volume_note_invalidations - A cookie's object is being detached
 * @volume: The volume
 * @cookie: The cookie
 * @counter: How often it had been invalidated when its object got its file
 *
 * Where there is no note, the file is found stale when the cookie is used again.  Many
 * cookies end without telling, so when there are too many notes the oldest one goes.
 *
 * Context: A worker of fscache; may sleep
 */
void cachefiles_volume_note_invalidations(struct cachefiles_volume *volume,
					  const struct fscache_cookie *cookie,
					  unsigned int counter)
{
	u32 max = CACHEFILES_VOLUME_NOTES;
	unsigned long oldest = 0;

	cachefiles_volume_drop_note(volume, cookie->debug_id);
	if (!counter || test_bit(FSCACHE_COOKIE_RELINQUISHED, &cookie->flags))
		return;
	/* Ids are given out in order, so the first one is the oldest. */
	cachefiles_force_number(CACHEFILES_FORCE_NOTES, &max);
	if (atomic_inc_return(&volume->n_invalidations) > max &&
	    xa_find(&volume->invalidations, &oldest, ULONG_MAX, XA_PRESENT))
		cachefiles_volume_drop_note(volume, oldest);
	if (xa_err(xa_store(&volume->invalidations, cookie->debug_id,
			    xa_mk_value(counter), GFP_NOFS | __GFP_NOWARN)))
		atomic_dec(&volume->n_invalidations);
}

/**
 * cachefiles_volume_noted_invalidations - A cookie gets an object
 * @volume: The volume
 * @cookie: The cookie
 *
 * Context: A worker of fscache
 * Return: What was noted when an object of the cookie was detached that had a file; 0 if
 * nothing was
 */
unsigned int cachefiles_volume_noted_invalidations(struct cachefiles_volume *volume,
						   const struct fscache_cookie *cookie)
{
	void *entry = xa_load(&volume->invalidations, cookie->debug_id);

	return entry ? xa_to_value(entry) : 0;
}
