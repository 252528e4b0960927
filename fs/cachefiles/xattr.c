// SPDX-License-Identifier: GPL-2.0-only
/*
 * Coherency data, kept in an extended attribute of backing files and of volume
 * directories: whether what is stored belongs to what the netfs means now.
 */
#include <linux/slab.h>
#include "internal.h"
#include "vfs.h"

static const char cachefiles_xattr_name[] = XATTR_USER_PREFIX "CacheFiles.cache";

#define CACHEFILES_XATTR_TYPE_DATA	1
#define CACHEFILES_XATTR_CLEAN		0
#define CACHEFILES_XATTR_DIRTY		4

/* Value of the attribute of a backing file. */
struct cachefiles_object_xattr {
	__be64	object_size;	/* exact, in bytes */
	__be64	zero_point;	/* 0, never read */
	u8	type;		/* CACHEFILES_XATTR_TYPE_DATA */
	u8	content;	/* of all values only CACHEFILES_XATTR_DIRTY has a meaning */
	u8	aux[];
} __packed;

/* Value of the attribute of a volume directory. */
struct cachefiles_volume_xattr {
	__be32	reserved;	/* 0 */
	u8	coherency[];
} __packed;

static_assert(sizeof(struct cachefiles_object_xattr) == 18);
static_assert(sizeof(struct cachefiles_volume_xattr) == 4);

/*
 * A full disk costs this object only, and so does a signal; any other failure costs the
 * cache.
 */
static int cachefiles_xattr_write_error(struct cachefiles_cache *cache, const char *what, int error)
{
	if (cachefiles_was_interrupted(error))
		return -EINTR;
	switch (error) {
	case 0:
	case -ENOMEM:
	case -ENOSPC:
	case -EDQUOT:
		return error;
	default:
		cachefiles_cache_io_error(cache, what, error);
		return -EIO;
	}
}

/*
 * Compares what is stored with what is wanted, of which the first @fixed bytes
 * are left to the caller: they are returned in @head.
 */
static int cachefiles_xattr_compare(struct cachefiles_cache *cache, struct dentry *dentry,
				    const void *want, size_t len, void *head, size_t fixed)
{
	u8 *value __free(kfree) = kmalloc(len, GFP_KERNEL);
	ssize_t got = 0;

	if (!value)
		return -ENOMEM;

	with_cache_creds(cache)
		got = cachefiles_vfs_getxattr(dentry, cachefiles_xattr_name, value, len);

	if (got == -EIO) {
		cachefiles_cache_io_error(cache, "reading an extended attribute", got);
		return -EIO;
	}
	if (got == -ENODATA || got == -ERANGE)
		return -ESTALE;
	if (got < 0)
		return got;
	if (got != len || memcmp(value + fixed, want + fixed, len - fixed))
		return -ESTALE;

	memcpy(head, value, fixed);
	return 0;
}

/*
 * The netfs may change auxiliary data and size at any time: take one copy.  With an
 * invalidation come those of another content, which the object's file does not have.
 */
static int cachefiles_xattr_of_object(struct cachefiles_object *object, bool dirty,
				      struct cachefiles_object_xattr **xattr, size_t *len)
{
	struct fscache_cookie *cookie = object->cookie;
	struct cachefiles_object_xattr *value;
	u8 aux_len = cookie->aux_len;

	*len = sizeof(*value) + aux_len;
	value = kzalloc(*len, GFP_KERNEL);
	*xattr = value;
	if (!value)
		return -ENOMEM;

	value->type = CACHEFILES_XATTR_TYPE_DATA;
	value->content = dirty ? CACHEFILES_XATTR_DIRTY : CACHEFILES_XATTR_CLEAN;

	guard(spinlock)(&cookie->lock);
	value->object_size = cpu_to_be64(READ_ONCE(cookie->object_size));
	memcpy(value->aux, fscache_get_aux(cookie), aux_len);
	return cookie->inval_counter == READ_ONCE(object->inval_counter) ? 0 : -ESTALE;
}

/**
 * cachefiles_xattr_set_object - Store size and coherency data with a backing file
 * @object: The object
 * @file: Its backing file
 * @dirty: The file is about to get data that exist nowhere else: nobody may
 *	believe it until this is called again without @dirty
 *
 * Context: May sleep; no lock of the backing file system is held.
 * Return: 0; -ESTALE if the cookie has been invalidated since object->inval_counter;
 * -ENOMEM, -ENOSPC or -EDQUOT; -EINTR if the task was interrupted; -EIO after any other
 * failure, which is the end of the cache.
 */
int cachefiles_xattr_set_object(struct cachefiles_object *object, struct file *file, bool dirty)
{
	struct cachefiles_cache *cache = cachefiles_object_cache(object);
	struct cachefiles_object_xattr *value __free(kfree) = NULL;
	size_t len;
	int ret;

	ret = cachefiles_xattr_of_object(object, dirty, &value, &len);
	if (ret)
		return ret;

	ret = mnt_want_write_file(file);
	if (!ret) {
		with_cache_creds(cache)
			ret = cachefiles_vfs_setxattr(file->f_path.dentry, cachefiles_xattr_name,
						      value, len);
		mnt_drop_write_file(file);
	}
	return cachefiles_xattr_write_error(cache, "setting an extended attribute", ret);
}

/**
 * cachefiles_xattr_check_object - Does a backing file hold what the netfs means?
 * @object: The object; the size of its cookie is known
 * @file: A file found under its name
 *
 * Context: May sleep; no lock of the backing file system is held.
 * Return: 0; -ESTALE if the file must be replaced: there are no coherency data,
 * or others, or the file was left dirty, or the cookie has been invalidated since
 * object->inval_counter; -EIO, which is the end of the cache; -ENOMEM and others if it
 * can't be told.
 */
int cachefiles_xattr_check_object(struct cachefiles_object *object, struct file *file)
{
	struct cachefiles_cache *cache = cachefiles_object_cache(object);
	struct cachefiles_object_xattr *want __free(kfree) = NULL;
	struct cachefiles_object_xattr head;
	size_t len;
	int ret;

	ret = cachefiles_xattr_of_object(object, false, &want, &len);
	if (ret)
		return ret;

	ret = cachefiles_xattr_compare(cache, file->f_path.dentry, want, len, &head, sizeof(head));
	if (ret)
		return ret;
	if (head.type != want->type || head.object_size != want->object_size ||
	    head.content == CACHEFILES_XATTR_DIRTY)
		return -ESTALE;
	return 0;
}

/**
 * cachefiles_xattr_probe - Can files have the attribute?
 * @cache: The cache that is being bound
 * @file: A file to try it with
 *
 * Context: May sleep; no lock of the backing file system is held.
 * Return: 0; -EOPNOTSUPP if the file system has no such attributes; or its error.
 */
int cachefiles_xattr_probe(struct cachefiles_cache *cache, struct file *file)
{
	u8 value[sizeof(struct cachefiles_object_xattr) + U8_MAX] = {};
	int ret;

	ret = mnt_want_write_file(file);
	if (ret)
		return ret;
	with_cache_creds(cache)
		ret = cachefiles_vfs_setxattr(file->f_path.dentry, cachefiles_xattr_name, value,
					      sizeof(value));
	mnt_drop_write_file(file);
	return ret;
}

struct cachefiles_xattr_removal {
	struct cachefiles_cache	*cache;
	struct dentry		*dentry;
};

static int cachefiles_xattr_do_remove(void *data)
{
	struct cachefiles_xattr_removal *removal = data;
	struct vfsmount *mnt = removal->cache->mnt;
	int ret = mnt_want_write(mnt);

	if (!ret) {
		with_cache_creds(removal->cache)
			ret = cachefiles_vfs_removexattr(removal->dentry, cachefiles_xattr_name);
		mnt_drop_write(mnt);
	}
	return ret;
}

static int cachefiles_xattr_remove(struct cachefiles_cache *cache, struct dentry *dentry)
{
	struct cachefiles_xattr_removal removal = { .cache = cache, .dentry = dentry };
	int ret = cachefiles_io_insist(cachefiles_xattr_do_remove, &removal);

	if (ret == -ENOENT || ret == -ENODATA)
		return 0;
	return cachefiles_xattr_write_error(cache, "removing an extended attribute", ret);
}

/**
 * cachefiles_xattr_remove_object - Make sure that a backing file is never believed
 * @object: The object
 * @file: Its backing file
 *
 * Context: May sleep; no lock of the backing file system is held.
 * Return: As cachefiles_xattr_set_object(); 0 if there is nothing to remove.
 */
int cachefiles_xattr_remove_object(struct cachefiles_object *object, struct file *file)
{
	return cachefiles_xattr_remove(cachefiles_object_cache(object), file->f_path.dentry);
}

static struct cachefiles_volume_xattr *cachefiles_xattr_of_volume(struct fscache_volume *vcookie,
								  size_t *len)
{
	struct cachefiles_volume_xattr *value;
	u8 coherency_len = vcookie->coherency_len;

	*len = sizeof(*value) + coherency_len;
	value = kzalloc(*len, GFP_KERNEL);
	if (value)
		memcpy(value->coherency, vcookie->coherency, coherency_len);
	return value;
}

/**
 * cachefiles_xattr_set_volume - Store coherency data with a volume directory
 * @volume: The volume
 *
 * Context: May sleep; no lock of the backing file system is held.
 * Return: As cachefiles_xattr_set_object().
 */
int cachefiles_xattr_set_volume(struct cachefiles_volume *volume)
{
	struct cachefiles_volume_xattr *value __free(kfree) = NULL;
	struct cachefiles_cache *cache = volume->cache;
	size_t len;
	int ret;

	value = cachefiles_xattr_of_volume(volume->vcookie, &len);
	if (!value)
		return -ENOMEM;

	ret = mnt_want_write(cache->mnt);
	if (!ret) {
		with_cache_creds(cache)
			ret = cachefiles_vfs_setxattr(volume->dentry, cachefiles_xattr_name, value,
						      len);
		mnt_drop_write(cache->mnt);
	}
	return cachefiles_xattr_write_error(cache, "setting an extended attribute", ret);
}

/**
 * cachefiles_xattr_check_volume - Does a directory hold the volume the netfs means?
 * @volume: The volume, with the directory that was found under its name
 *
 * Context: May sleep; no lock of the backing file system is held.
 * Return: As cachefiles_xattr_check_object().
 */
int cachefiles_xattr_check_volume(struct cachefiles_volume *volume)
{
	struct cachefiles_volume_xattr *want __free(kfree) = NULL;
	size_t len;

	want = cachefiles_xattr_of_volume(volume->vcookie, &len);
	if (!want)
		return -ENOMEM;

	return cachefiles_xattr_compare(volume->cache, volume->dentry, want, len, NULL, 0);
}

/**
 * cachefiles_xattr_remove_volume - Make sure that a directory is never believed
 * @volume: The volume
 *
 * Context: May sleep; no lock of the backing file system is held.
 * Return: As cachefiles_xattr_remove_object().
 */
int cachefiles_xattr_remove_volume(struct cachefiles_volume *volume)
{
	return cachefiles_xattr_remove(volume->cache, volume->dentry);
}
