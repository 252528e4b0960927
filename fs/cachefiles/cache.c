// SPDX-License-Identifier: GPL-2.0-only
/*
 * Caches: binding one to a directory, ending it, and everything in between that
 * concerns a cache as a whole.
 */
#include <linux/file.h>
#include <linux/namei.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/statfs.h>
#include "delay.h"
#include "internal.h"
#include "ondemand.h"

#define CACHEFILES_DEFAULT_TAG	"CacheFiles"

/* How long a daemon's exit may wait for the tear-down of its cache. */
#define CACHEFILES_EXIT_TIMEOUT	HZ

static const struct cachefiles_limits cachefiles_default_limits = {
	.run_percent	= 7,
	.cull_percent	= 5,
	.stop_percent	= 1,
};

/* Bound caches; fscache_addremove_sem guards it. */
static LIST_HEAD(cachefiles_caches);

/*
 * Tear-downs run here, so that a daemon can die while its backing file system
 * hangs.  Until one is done, the cache keeps its directory and its tag.
 */
static struct workqueue_struct *cachefiles_wq;
static atomic_t cachefiles_teardowns = ATOMIC_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(cachefiles_teardown_wait);

/*
 * The only writer of cache->state.  False if the cache is dead already, or in the
 * state already.
 */
static bool cachefiles_cache_set_state(struct cachefiles_cache *cache,
				       enum cachefiles_cache_state state)
{
	enum cachefiles_cache_state old = READ_ONCE(cache->state);

	do {
		if (old == CACHEFILES_CACHE_DEAD || WARN_ON_ONCE(state <= old))
			return false;
	} while (!try_cmpxchg_release(&cache->state, &old, state));
	return true;
}

static void cachefiles_cache_teardown(struct work_struct *work);

/**
 * cachefiles_cache_alloc - Make the record of a cache
 *
 * Return: A cache that is not bound, with one reference, or NULL.
 */
struct cachefiles_cache *cachefiles_cache_alloc(void)
{
	struct cachefiles_cache *cache = kzalloc_obj(*cache);

	if (!cache)
		return NULL;
	if (init_srcu_struct(&cache->reads)) {
		kfree(cache);
		return NULL;
	}

	refcount_set(&cache->ref, 1);
	mutex_init(&cache->cmd_mutex);
	init_waitqueue_head(&cache->daemon_wait);
	spin_lock_init(&cache->lists_lock);
	INIT_LIST_HEAD(&cache->volumes);
	INIT_LIST_HEAD(&cache->objects);
	spin_lock_init(&cache->space_lock);
	cache->files = cachefiles_default_limits;
	cache->blocks = cachefiles_default_limits;
	INIT_WORK(&cache->teardown, cachefiles_cache_teardown);
	init_completion(&cache->torn_down);
	return cache;
}

/**
 * cachefiles_cache_get - Take a reference on the record of a cache
 * @cache: The cache
 *
 * The record is memory only: it does not keep the cache bound.
 */
void cachefiles_cache_get(struct cachefiles_cache *cache)
{
	refcount_inc(&cache->ref);
}

/**
 * cachefiles_cache_put - Return a reference on the record of a cache
 * @cache: The cache
 *
 * Context: May sleep; no spinlock of the cache is held.
 */
void cachefiles_cache_put(struct cachefiles_cache *cache)
{
	if (!refcount_dec_and_test(&cache->ref))
		return;

	cachefiles_ondemand_free_cache(cache);
	cleanup_srcu_struct(&cache->reads);
	mutex_destroy(&cache->cmd_mutex);
	kfree(cache->dir_name);
	kfree(cache->tag);
	kfree(cache);
}

/**
 * cachefiles_cache_io_error - Give a cache up
 * @cache: The cache
 * @what: What has failed, for the log
 * @error: How it has failed
 *
 * Nothing new is cached or fetched from now on, all requests to the daemon end, and
 * what is in the cache stays as it is on disk.  The cache stays bound until the
 * device is closed; a bind that is running fails.  Any call but the first does
 * nothing.
 *
 * Context: May sleep; no spinlock is held.
 */
void cachefiles_cache_io_error(struct cachefiles_cache *cache, const char *what, int error)
{
	bool live = cachefiles_cache_state(cache) == CACHEFILES_CACHE_LIVE;

	might_sleep();

	WRITE_ONCE(cache->failed, true);
	if (!cachefiles_cache_set_state(cache, CACHEFILES_CACHE_DEAD))
		return;
	pr_err("I/O error: %s: error %d\n", what, error);
	if (live)
		fscache_io_error(cache->fscache);
	cachefiles_ondemand_shutdown(cache);
	wake_up_all(&cache->daemon_wait);
}

static int cachefiles_cache_check_limits(const struct cachefiles_limits *limits)
{
	if (limits->stop_percent < limits->cull_percent &&
	    limits->cull_percent < limits->run_percent && limits->run_percent < 100)
		return 0;
	return -ERANGE;
}

/* Can the file system of the directory be a backing file system?  If not, says so. */
static int cachefiles_cache_check_root(const struct path *path, const char *dir_name)
{
	struct super_block *sb = path->mnt->mnt_sb;
	struct inode *inode = d_backing_inode(path->dentry);
	const char *reason;
	int ret;

	if (is_idmapped_mnt(path->mnt)) {
		reason = "is id-mapped";
		ret = -EINVAL;
	} else if (!inode->i_op->lookup || !inode->i_op->mkdir || !inode->i_op->tmpfile ||
		   !(inode->i_opflags & IOP_XATTR) || !sb->s_op->statfs ||
		   sb->s_blocksize > PAGE_SIZE) {
		reason = "lacks what a cache needs";
		ret = -EOPNOTSUPP;
	} else if (sb_rdonly(sb) || __mnt_is_readonly(path->mnt)) {
		reason = "is read-only";
		ret = -EROFS;
	} else {
		return 0;
	}
	pr_err("%s is on %s, which %s: not bound\n", dir_name, sb->s_type->name, reason);
	return ret;
}

/* Sets mnt, root and cred. */
static int cachefiles_cache_open_root(struct cachefiles_cache *cache)
{
	struct cred *cred;
	struct path path;
	int ret;

	cred = cachefiles_security_prepare(cache);
	if (IS_ERR(cred))
		return PTR_ERR(cred);

	ret = kern_path(cache->dir_name, LOOKUP_FOLLOW | LOOKUP_DIRECTORY, &path);
	if (ret)
		goto put_cred;
	ret = cachefiles_cache_check_root(&path, cache->dir_name);
	if (!ret)
		ret = cachefiles_security_set_creator(cred, path.dentry);
	if (ret)
		goto put_path;

	cache->cred = cred;
	cache->mnt = path.mnt;
	cache->sb = path.mnt->mnt_sb;
	cache->root = path.dentry;
	return 0;

put_path:
	path_put(&path);
put_cred:
	put_cred(cred);
	return ret;
}

/* Undoes cachefiles_cache_open_dirs() and cachefiles_cache_open_root(), also in part. */
static void cachefiles_cache_put_dirs(struct cachefiles_cache *cache)
{
	cachefiles_namei_put_dir(cache->graveyard);
	cache->graveyard = NULL;
	cachefiles_namei_put_dir(cache->store);
	cache->store = NULL;
	dput(cache->root);
	cache->root = NULL;
	mntput(cache->mnt);
	cache->mnt = NULL;
	put_cred(cache->cred);
	cache->cred = NULL;
}

static int cachefiles_cache_open_dirs(struct cachefiles_cache *cache)
{
	struct dentry *dentry;
	int ret;

	ret = cachefiles_space_init(cache);
	if (ret)
		return ret;

	dentry = cachefiles_namei_get_dir(cache, cache->root, "cache", true, NULL);
	if (IS_ERR(dentry))
		return PTR_ERR(dentry);
	cache->store = dentry;
	if (cachefiles_namei_ignores_case(cache)) {
		pr_err("%s is on %s, which ignores case: not bound\n", cache->dir_name,
		       cache->mnt->mnt_sb->s_type->name);
		return -EOPNOTSUPP;
	}

	dentry = cachefiles_namei_get_dir(cache, cache->root, "graveyard", true, NULL);
	if (IS_ERR(dentry))
		return PTR_ERR(dentry);
	cache->graveyard = dentry;

	ret = cachefiles_presence_check(cache);
	return ret ?: cachefiles_space_evaluate(cache);
}

/* Puts all caches of one mode behind @last, or where the first one is. */
static struct list_head *cachefiles_cache_line_up(struct list_head *last, bool ondemand)
{
	struct cachefiles_cache *cache;

	lockdep_assert_held_write(&fscache_addremove_sem);
	list_for_each_entry(cache, &cachefiles_caches, link) {
		if (!cache->queue == ondemand)
			continue;
		if (last)
			list_move(&cache->fscache->cache_link, last);
		last = &cache->fscache->cache_link;
	}
	return last;
}

/*
 * Most file systems ask for no cache in particular, and get the first one that fscache
 * knows.  Nearly all of these are network file systems: so on-demand caches stand
 * behind the others.  A record that fscache has kept may stand anywhere.
 */
static void cachefiles_cache_enlist(struct cachefiles_cache *cache)
{
	guard(rwsem_write)(&fscache_addremove_sem);
	list_add_tail(&cache->link, &cachefiles_caches);
	cachefiles_cache_line_up(cachefiles_cache_line_up(NULL, false), true);
}

static void cachefiles_cache_delist(struct cachefiles_cache *cache)
{
	guard(rwsem_write)(&fscache_addremove_sem);
	list_del(&cache->link);
}

/*
 * Goes live.  From fscache_add_cache() on everything may be called, so nothing may
 * be left to do then.
 */
static int cachefiles_cache_add(struct cachefiles_cache *cache)
{
	if (!cachefiles_cache_set_state(cache, CACHEFILES_CACHE_LIVE))
		return -EIO;

	cachefiles_cache_enlist(cache);
	pr_info("Cache in %s is bound\n", cache->dir_name);
	fscache_add_cache(cache->fscache, &cachefiles_cache_ops, cache);
	/* A thread of the daemon may have met with it before fscache could take notice. */
	if (READ_ONCE(cache->failed))
		fscache_io_error(cache->fscache);
	return 0;
}

/*
 * One attempt to bind.  A failure leaves nothing behind but the queue of a cache
 * that has died meanwhile: somebody may be looking at it.
 */
static int cachefiles_cache_try_bind(struct cachefiles_cache *cache, bool ondemand)
{
	struct fscache_cache *fscache;
	int ret;

	if (ondemand) {
		ret = cachefiles_ondemand_init_cache(cache);
		if (ret)
			return ret;
	}

	fscache = fscache_acquire_cache(cache->tag ?: CACHEFILES_DEFAULT_TAG);
	if (IS_ERR(fscache)) {
		ret = PTR_ERR(fscache);
		goto free_queue;
	}
	cache->fscache = fscache;

	ret = cachefiles_cache_open_root(cache);
	if (!ret)
		ret = cachefiles_cache_open_dirs(cache);
	if (!ret)
		ret = cachefiles_cache_add(cache);
	if (!ret)
		return 0;

	cache->fscache = NULL;
	fscache_relinquish_cache(fscache);
	cachefiles_cache_put_dirs(cache);
free_queue:
	if (cachefiles_cache_state(cache) == CACHEFILES_CACHE_SETUP)
		cachefiles_ondemand_free_cache(cache);
	return ret;
}

static int cachefiles_cache_do_bind(struct cachefiles_cache *cache, const char *mode)
{
	bool ondemand = strcmp(mode, "ondemand") == 0;
	bool dying;
	int ret;

	if (cachefiles_cache_check_limits(&cache->files) ||
	    cachefiles_cache_check_limits(&cache->blocks))
		return -ERANGE;
	if (!cache->dir_name)
		return -EINVAL;
	if (*mode && !ondemand)
		return -EINVAL;

	do {
		/* Look before trying: a tear-down that ends in between counts as one. */
		dying = atomic_read(&cachefiles_teardowns);
		ret = cachefiles_cache_try_bind(cache, ondemand);
		if (ret != -EBUSY || !dying)
			break;
		if (wait_event_killable(cachefiles_teardown_wait,
					!atomic_read(&cachefiles_teardowns)))
			ret = -EINTR;
	} while (ret == -EBUSY);
	return ret;
}

/**
 * cachefiles_cache_bind - Make a cache of a directory
 * @cache: The cache; not bound
 * @mode: Argument of the command: "ondemand", or nothing for the original mode
 *
 * A tag or a directory that belongs to a cache which is being torn down is waited
 * for.  After a failure bind can be tried again, with another directory and tag.
 *
 * Context: Process that has the right to do it; cache->cmd_mutex is held.
 * Return: 0; -ERANGE if the limits contradict each other; -EINVAL if no directory
 * was given, @mode is not known, or the mount is id-mapped; -EOPNOTSUPP if the
 * mode or the file system can't be had; -EBUSY if the cache is bound, or
 * another cache has the tag or the directory; -EINTR if the task is being killed;
 * -EROFS, -EIO, -EPERM, -ENOBUFS, -ENOMEM, or an error of path walk or security
 * module.
 */
int cachefiles_cache_bind(struct cachefiles_cache *cache, const char *mode)
{
	int ret;

	lockdep_assert_held(&cache->cmd_mutex);
	if (cachefiles_cache_state(cache) == CACHEFILES_CACHE_LIVE)
		return -EBUSY;
	ret = cachefiles_cache_do_bind(cache, mode);
	cache->bind_failed = ret;
	return ret;
}

static void cachefiles_cache_sync(struct cachefiles_cache *cache)
{
	struct super_block *sb = cache->mnt->mnt_sb;
	int ret;

	down_read(&sb->s_umount);
	ret = sync_filesystem(sb);
	up_read(&sb->s_umount);
	if (ret)
		pr_err("Syncing the backing file system: error %d\n", ret);
}

/* Ends a cache that was bound and is dead. */
static void cachefiles_cache_teardown(struct work_struct *work)
{
	struct cachefiles_cache *cache = container_of(work, struct cachefiles_cache, teardown);

	guard(cachefiles_nofs)();
	cachefiles_delay(CACHEFILES_DELAY_TEARDOWN);
	/* In this order new volumes, new objects and then the objects come to an end. */
	fscache_withdraw_cache(cache->fscache);
	cachefiles_delay(CACHEFILES_DELAY_CLOSED);
	cachefiles_volume_stop_all(cache);
	cachefiles_object_withdraw_all(cache);
	cachefiles_volume_free_all(cache);

	/* What others have closed late must not keep the mount busy. */
	flush_delayed_fput();
	cachefiles_cache_sync(cache);
	cachefiles_cache_delist(cache);
	fscache_relinquish_cache(cache->fscache);
	cachefiles_cache_put_dirs(cache);

	if (atomic_dec_and_test(&cachefiles_teardowns))
		wake_up_all(&cachefiles_teardown_wait);
	complete_all(&cache->torn_down);
	cachefiles_cache_put(cache);
}

/**
 * cachefiles_cache_close - End a cache, since its device was closed
 * @cache: The cache; the caller's reference is consumed
 *
 * All requests to the daemon have ended when this returns.  Unless the task is
 * killed while it waits, or is exiting and the backing file system is slow, or is a
 * thread of the kernel, the cache is unbound as well.
 *
 * Context: May sleep.
 */
void cachefiles_cache_close(struct cachefiles_cache *cache)
{
	cache->closed_at = jiffies;
	cachefiles_cache_set_state(cache, CACHEFILES_CACHE_DEAD);
	cachefiles_ondemand_shutdown(cache);

	if (cache->fscache) {
		cachefiles_cache_get(cache);
		atomic_inc(&cachefiles_teardowns);
		queue_work(cachefiles_wq, &cache->teardown);
		/*
		 * Nobody can kill a task that is exiting, so that waits but shortly; and a
		 * thread of the kernel that has the last reference, say of an io_uring, has
		 * other files to close, those of the tear-down among them.
		 */
		if (current->flags & PF_EXITING)
			wait_for_completion_timeout(&cache->torn_down,
						    CACHEFILES_EXIT_TIMEOUT);
		else if (!(current->flags & PF_KTHREAD))
			wait_for_completion_killable(&cache->torn_down);
	}
	cachefiles_cache_put(cache);
}

/**
 * cachefiles_cache_init - Set up what all caches share
 *
 * Return: 0 or -ENOMEM.
 */
int cachefiles_cache_init(void)
{
	cachefiles_wq = alloc_workqueue("cachefiles", WQ_UNBOUND, 0);
	return cachefiles_wq ? 0 : -ENOMEM;
}

/**
 * cachefiles_cache_exit - Wait for the last tear-downs
 *
 * Context: Module exit; the device is gone.
 */
void cachefiles_cache_exit(void)
{
	destroy_workqueue(cachefiles_wq);
}
