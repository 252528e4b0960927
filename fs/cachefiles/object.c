// SPDX-License-Identifier: GPL-2.0-only
/*
 * Objects: what fscache asks about a data cookie, and the way to a backing file.
 */
#include <linux/file.h>
#include <linux/slab.h>
#include <trace/events/fscache.h>
#include "internal.h"
#include "ondemand.h"
#include "vfs.h"

static struct kmem_cache *cachefiles_object_cache_slab;
static atomic_t cachefiles_object_debug_id;

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
	INIT_LIST_HEAD(&object->link);
	spin_lock_init(&object->lock);
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
	WARN_ON_ONCE(object->file);
	if (object->od)
		cachefiles_ondemand_put(object->od);
	fscache_put_cookie(object->cookie, fscache_cookie_put_object);
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

/* The only way in for a backing file.  Consumes @file. */
static void cachefiles_object_publish_file(struct cachefiles_object *object, struct file *file)
{
	guard(spinlock)(&object->lock);
	object->file = file;
	object->named = true;
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
	loff_t old = i_size_read(file_inode(file));
	int ret = 0;

	if (old == size)
		return 0;
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
 * The file that is there under the object's name, if it can be believed.
 *
 * Return: the file; NULL if there is none or it is stale; or an error.
 */
static struct file *cachefiles_object_open_existing(struct cachefiles_object *object)
{
	struct file *file = cachefiles_namei_open(object);
	int ret;

	if (IS_ERR(file))
		return file == ERR_PTR(-ENOENT) ? NULL : file;
	ret = cachefiles_xattr_check_object(object, file);
	if (!ret)
		ret = cachefiles_object_set_backing_size(object, file);
	if (!ret)
		return file;
	cachefiles_namei_release(object, file, true);
	return ret == -ESTALE ? NULL : ERR_PTR(ret);
}

/*
 * A new file, empty but for its size.  It gets its name at once: holes say what
 * is missing, so it is never wrong, and what is fetched outlives a crash.
 */
static struct file *cachefiles_object_create(struct cachefiles_object *object)
{
	struct file *file = cachefiles_namei_tmpfile(object);
	int ret;

	if (IS_ERR(file))
		return file;
	ret = cachefiles_object_set_backing_size(object, file);
	if (!ret)
		ret = cachefiles_xattr_set_object(object, file, false);
	if (!ret)
		ret = cachefiles_namei_link(object, file);
	if (!ret)
		return file;
	cachefiles_namei_release(object, file, false);
	return ERR_PTR(ret);
}

/**
 * cachefiles_object_attach - Find or make an object's backing file
 * @object: An object that has none.
 * @size: The object's size in bytes, not negative.
 *
 * Context: process, may sleep for the backing file system.
 * Return: 0, or why there is no file: -EFBIG if the backing file system has no
 * files of that size, -ENOBUFS if space is short, or its own error.
 */
int cachefiles_object_attach(struct cachefiles_object *object, loff_t size)
{
	struct super_block *sb = cachefiles_object_cache(object)->mnt->mnt_sb;
	struct fscache_cookie *cookie = object->cookie;
	struct file *file;

	might_sleep();
	if (size > sb->s_maxbytes - (loff_t)CACHEFILES_GRANULE)
		return -EFBIG;
	cookie->object_size = size;

	file = cachefiles_object_open_existing(object);
	if (!file)
		file = cachefiles_object_create(object);
	if (IS_ERR(file))
		return PTR_ERR(file);
	if (size)
		clear_bit(FSCACHE_COOKIE_NO_DATA_TO_READ, &cookie->flags);
	cachefiles_object_publish_file(object, file);
	return 0;
}

static bool cachefiles_object_lookup(struct fscache_cookie *cookie)
{
	struct cachefiles_object *object;
	struct cachefiles_cache *cache;
	int ret;

	object = cachefiles_object_alloc(cookie);
	if (IS_ERR(object)) {
		if (PTR_ERR(object) != -ENOMEM)
			fscache_caching_failed(cookie);
		return false;
	}
	cache = cachefiles_object_cache(object);
	ret = cachefiles_ondemand_create(object);
	if (ret) {
		if (ret != -ENOMEM)
			fscache_caching_failed(cookie);
		cachefiles_object_put(object);
		return false;
	}

	cookie->cache_priv = object;
	scoped_guard(spinlock, &cache->lists_lock)
		list_add_tail(&object->link, &cache->objects);
	cachefiles_ondemand_want(object);
	return true;
}

/*
 * The cookie lets go of its object.  No access is held, so no I/O that came
 * through the netfs is left.
 */
static void cachefiles_object_withdraw(struct fscache_cookie *cookie)
{
	struct cachefiles_object *object = cookie->cache_priv;
	struct cachefiles_cache *cache = cachefiles_object_cache(object);
	struct file *file;

	scoped_guard(spinlock, &cache->lists_lock)
		list_del_init(&object->link);
	cachefiles_ondemand_drop(object);

	file = cachefiles_object_take_file(object);
	if (file) {
		if (test_bit(FSCACHE_COOKIE_RETIRED, &cookie->flags))
			cachefiles_namei_unlink(object, file);
		cachefiles_namei_release(object, file, object->named);
	}
	cookie->cache_priv = NULL;
	cachefiles_object_put(object);
}

/* What the daemon serves never changes, so there is nothing to be invalidated. */
static bool cachefiles_object_invalidate(struct fscache_cookie *cookie)
{
	return false;
}

static void cachefiles_object_resize(struct netfs_cache_resources *cres, loff_t new_size)
{
}

static void cachefiles_object_prepare_to_write(struct fscache_cookie *cookie)
{
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
