// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is present: which granules of a backing file hold data of the object.
 *
 * Today the backing file system is asked: what it calls data is present, what it
 * calls a hole is not.  Nothing outside of this file knows.  So a file system must
 * tell one from the other exactly, which is tried out when a cache is bound.
 *
 * A granule becomes present by being written as a whole, and missing by being
 * forgotten.  Whoever relies on data notes cachefiles_presence_begin() first, then
 * looks, then reads, and asks cachefiles_presence_stays() last.
 */
#include <linux/bvec.h>
#include <linux/file.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/uio.h>
#include "delay.h"
#include "internal.h"
#include "vfs.h"

/*
 * The file that cachefiles_presence_check() makes is large and sparse, with what is
 * tried far from both ends, so that a file system that rounds to larger units shows
 * it.  tmpfs does so where it gets a huge page, and does not get one each time: hence
 * a few more granules, far apart.  All in granules.
 */
#define CACHEFILES_PROBE_SIZE		(512U << 10)
#define CACHEFILES_PROBE_START		(257U << 10)
#define CACHEFILES_PROBE_AREA		(33U << 10)

static const u32 cachefiles_probe_areas[] = {
	CACHEFILES_PROBE_START + CACHEFILES_PROBE_AREA,
	CACHEFILES_PROBE_START + CACHEFILES_PROBE_AREA * 2,
	CACHEFILES_PROBE_START + CACHEFILES_PROBE_AREA * 3,
};

/**
 * cachefiles_presence_next_data - Find what is present next
 * @file: A backing file.
 * @pos: Where to start, in bytes.
 * @end: Where to stop.
 *
 * Context: process, may sleep for the backing file system.
 * Return: where data start, between @pos and @end and @end if there are none, as
 * a multiple of CACHEFILES_GRANULE unless that is @pos or @end; or an error.
 */
loff_t cachefiles_presence_next_data(struct file *file, loff_t pos, loff_t end)
{
	loff_t data = cachefiles_vfs_llseek(file, pos, SEEK_DATA);

	if (data == -ENXIO)
		return end;
	if (data < 0 || data == pos)
		return data;
	return min(round_up(data, CACHEFILES_GRANULE), end);
}

/**
 * cachefiles_presence_next_hole - Find what is missing next
 * @file: A backing file.
 * @size: Of its object, in bytes.
 * @pos: Where to start, in bytes; there are data.
 * @end: Where to stop.
 *
 * Only whole granules are present, but that the last one of a file may be
 * shorter on disk, if all of the object is there.
 *
 * Context: process, may sleep for the backing file system.
 * Return: where the first hole starts, between @pos and @end and @end if there is
 * none; or an error.
 */
loff_t cachefiles_presence_next_hole(struct file *file, loff_t size, loff_t pos, loff_t end)
{
	loff_t hole = cachefiles_vfs_llseek(file, pos, SEEK_HOLE);
	loff_t top = cachefiles_vfs_size(file);

	if (hole < 0)
		return hole;
	if (hole < size || hole <= top - (loff_t)CACHEFILES_GRANULE)
		hole = round_down(hole, CACHEFILES_GRANULE);
	else
		hole = top;
	return clamp(hole, pos, end);
}

/**
 * cachefiles_presence_is_full - Is all of a range present?
 * @object: The object.
 * @file: Its backing file.
 * @pos: First byte.
 * @end: Behind the last byte.
 *
 * Context: process, may sleep for the backing file system.
 * Return: true if it is; false also if that can't be told.
 */
bool cachefiles_presence_is_full(struct cachefiles_object *object, struct file *file,
				 loff_t pos, loff_t end)
{
	loff_t size = READ_ONCE(object->cookie->object_size);

	return cachefiles_presence_next_hole(file, size, pos, end) == end;
}

/**
 * cachefiles_presence_seek - Tell somebody outside of the cache what is present
 * @file: A backing file.
 * @size: Of its object, in bytes.  Somebody may have made the file longer than that.
 * @pos: Where to start, in bytes.
 * @whence: SEEK_DATA or SEEK_HOLE.
 *
 * Context: process, may sleep for the backing file system.
 * Return: as lseek(2): where data or a hole start, -ENXIO behind the end or if
 * there are no more data, or another error.
 */
loff_t cachefiles_presence_seek(struct file *file, loff_t size, loff_t pos, int whence)
{
	loff_t end = min(cachefiles_vfs_size(file), round_up(size, CACHEFILES_GRANULE));
	loff_t at, data, hole;

	if (pos < 0 || pos >= end)
		return -ENXIO;
	/* A granule of which only a part is there is missing. */
	for (at = round_down(pos, CACHEFILES_GRANULE);; at = data + CACHEFILES_GRANULE) {
		data = cachefiles_presence_next_data(file, at, end);
		if (data < 0)
			return data;
		if (data >= end)
			return whence == SEEK_DATA ? -ENXIO : pos;
		hole = cachefiles_presence_next_hole(file, size, data, end);
		if (hole < 0)
			return hole;
		if (hole > data || whence == SEEK_HOLE)
			break;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	if (whence == SEEK_DATA)
		return max(data, pos);
	return data > pos ? pos : max(hole, pos);
}

/**
 * cachefiles_presence_is_lost - Has something not reached the disk that was written?
 * @file: A backing file that is open, and was read from last.
 *
 * What is filled is answered for while it is only in memory.  If it can't be written to the
 * disk later, file systems differ in what they make of it: it stays for as long as memory
 * lasts, or the old content of the disk takes its place.  So nothing in the file is to be
 * believed, until it is opened the next time and found stale.
 *
 * Context: any.
 * Return: true if something is lost.
 */
bool cachefiles_presence_is_lost(const struct file *file)
{
	int ret = filemap_check_wb_err(cachefiles_vfs_inode(file)->i_mapping, file->f_wb_err);

	if (ret)
		pr_err_ratelimited("%pD was not written to the disk: error %d\n", file, ret);
	return ret;
}

/**
 * cachefiles_presence_begin - Begin to rely on data being present
 * @object: The object.
 *
 * Context: any.
 * Return: what to pass to cachefiles_presence_stays() when the data were read.
 */
int cachefiles_presence_begin(struct cachefiles_object *object)
{
	/* In this order, so that one that is going on is noticed. */
	int cuts = atomic_read_acquire(&object->cuts_done);

	return atomic_read(&object->cuts_begun) == cuts ? cuts : cuts - 1;
}

/**
 * cachefiles_presence_stays - Was what was read present all the time?
 * @object: The object.
 * @begun: What cachefiles_presence_begin() has returned.
 *
 * Context: any.
 * Return: false if something has been forgotten meanwhile.
 */
bool cachefiles_presence_stays(struct cachefiles_object *object, int begun)
{
	/* After the data: pairs with cachefiles_presence_begin_cut(). */
	smp_mb();
	return atomic_read(&object->cuts_begun) == begun;
}

/**
 * cachefiles_presence_begin_cut - Something is going to be taken away
 * @object: The object.
 *
 * Context: any; cachefiles_presence_end_cut() follows.
 */
void cachefiles_presence_begin_cut(struct cachefiles_object *object)
{
	atomic_inc(&object->cuts_begun);
	/* Before the data go: pairs with cachefiles_presence_stays(). */
	smp_mb__after_atomic();
}

/**
 * cachefiles_presence_end_cut - Something has been taken away
 * @object: The object.
 *
 * Context: any.
 */
void cachefiles_presence_end_cut(struct cachefiles_object *object)
{
	/* After the data went: pairs with cachefiles_presence_begin(). */
	smp_mb__before_atomic();
	atomic_inc(&object->cuts_done);
}

/* False if the object has another file by now, or none. */
static bool cachefiles_presence_distrust_object(struct cachefiles_object *object,
						struct file *file)
{
	guard(spinlock)(&object->lock);
	if (object->file == file || object->od)
		WRITE_ONCE(object->distrusted, true);
	return object->file == file;
}

/**
 * cachefiles_presence_distrust - The content of a backing file can't be told any more
 * @object: The object.
 * @file: Its backing file, or one that was.
 * @what: What has failed, for the log.
 * @error: How it has failed.
 *
 * Nobody is to believe the file, not even a read that has begun.  Unless it was just for
 * want of memory or space, this is the end of the cache; else nothing of the object is read
 * or written any more until it gets another file.
 *
 * Context: process, may sleep for the backing file system.
 */
void cachefiles_presence_distrust(struct cachefiles_object *object, struct file *file,
				  const char *what, int error)
{
	bool local = error == -ENOMEM || error == -ENOSPC || error == -EDQUOT;
	bool found = (local || object->od) && cachefiles_presence_distrust_object(object, file);

	/* What was replaced is read by nobody; what a daemon fills may have another object. */
	if (local && !found && !object->od)
		return;
	if (local && found)
		pr_warn_ratelimited("%s is not cached any more: %s: error %d\n", object->name,
				    what, error);
	else
		cachefiles_cache_io_error(cachefiles_object_cache(object), what, error);
	cachefiles_xattr_remove_object(object, file);
}

struct cachefiles_punch {
	struct cachefiles_cache	*cache;
	struct file		*file;
	loff_t			pos;
	loff_t			end;
};

/*
 * A hole is left alone, since the file system may be frozen, and whoever stores what he has
 * read is not to wait for the thaw.  Writes on their way into the range count.
 */
static int cachefiles_presence_punch(void *data)
{
	struct cachefiles_punch *punch = data;
	loff_t at = 0;
	int ret = 0;

	/* Nothing can be behind that, and the file system minds to be asked. */
	punch->end = min(punch->end, cachefiles_vfs_inode(punch->file)->i_sb->s_maxbytes);
	if (punch->pos >= punch->end)
		return 0;
	cachefiles_vfs_settle(punch->file);
	with_cache_creds(punch->cache) {
		at = cachefiles_vfs_llseek(punch->file, punch->pos, SEEK_DATA);
		if (at != -ENXIO && at < punch->end)
			ret = cachefiles_vfs_punch(punch->file, punch->pos,
						   punch->end - punch->pos);
	}
	return ret;
}

/**
 * cachefiles_presence_forget - Make a range of a backing file missing
 * @object: The object.
 * @file: Its backing file, or one that was.
 * @pos: First byte.
 * @end: Behind the last byte.
 *
 * Every granule that the range touches becomes missing.  If that fails, the file is
 * distrusted.
 *
 * Context: process, may sleep for the backing file system, and waits for it to be thawed if
 * there are data in the range; allocates nothing into another one.
 */
void cachefiles_presence_forget(struct cachefiles_object *object, struct file *file, loff_t pos,
				loff_t end)
{
	struct cachefiles_punch punch = {
		.cache	= cachefiles_object_cache(object),
		.file	= file,
		.pos	= round_down(pos, CACHEFILES_GRANULE),
		.end	= round_up(end, CACHEFILES_GRANULE),
	};
	unsigned int nofs;
	int ret;

	if (READ_ONCE(object->distrusted))
		return;

	nofs = memalloc_nofs_save();
	cachefiles_presence_begin_cut(object);
	cachefiles_delay(CACHEFILES_DELAY_CUT_BEGUN);
	ret = cachefiles_io_insist(cachefiles_presence_punch, &punch);
	if (ret)
		cachefiles_presence_distrust(object, file, "punch hole", ret);
	cachefiles_delay(CACHEFILES_DELAY_CUT_DONE);
	cachefiles_presence_end_cut(object);
	memalloc_nofs_restore(nofs);
}

/* One granule of zeros: a file system that drops them is of no use. */
static int cachefiles_probe_write(struct file *file, u32 granule, int flags)
{
	struct kiocb iocb = {
		.ki_filp	= file,
		.ki_pos		= (loff_t)granule * CACHEFILES_GRANULE,
		.ki_flags	= flags,
	};
	struct iov_iter from;
	struct bio_vec bvec;
	ssize_t ret;

	bvec_set_page(&bvec, ZERO_PAGE(0), CACHEFILES_GRANULE, 0);
	iov_iter_bvec(&from, ITER_SOURCE, &bvec, 1, CACHEFILES_GRANULE);
	ret = cachefiles_inject_write_error() ?: vfs_iocb_iter_write(file, &iocb, &from);
	if (ret < 0)
		return ret;
	return ret == CACHEFILES_GRANULE ? 0 : -ENOSPC;
}

/* Does a run of granules of one kind that starts at *@pos end at @end?  Goes there. */
static int cachefiles_probe_run(struct file *file, u32 *pos, u32 end, bool present)
{
	loff_t at = cachefiles_vfs_llseek(file, (loff_t)*pos * CACHEFILES_GRANULE,
					  present ? SEEK_HOLE : SEEK_DATA);

	*pos = end;
	if (at == -ENXIO)
		at = (loff_t)CACHEFILES_PROBE_SIZE * CACHEFILES_GRANULE;
	if (at < 0)
		return at;
	return at == (loff_t)end * CACHEFILES_GRANULE ? 0 : -EOPNOTSUPP;
}

/* Is there a hole from *@pos to @start, and are there data from there to @end? */
static int cachefiles_probe_data(struct file *file, u32 *pos, u32 start, u32 end)
{
	return cachefiles_probe_run(file, pos, start, false) ?:
	       cachefiles_probe_run(file, pos, end, true);
}

/* Is what was written present, from @first to the end of the first area, and nothing else? */
static int cachefiles_probe_compare(struct file *file, u32 first)
{
	const u32 start = CACHEFILES_PROBE_START;
	unsigned int i;
	u32 pos = 0;
	int ret;

	ret = cachefiles_probe_data(file, &pos, start, start + 1) ?:
	      cachefiles_probe_data(file, &pos, first, start + 4);
	for (i = 0; !ret && i < ARRAY_SIZE(cachefiles_probe_areas); i++)
		ret = cachefiles_probe_data(file, &pos, cachefiles_probe_areas[i],
					    cachefiles_probe_areas[i] + 1);
	return ret ?: cachefiles_probe_run(file, &pos, CACHEFILES_PROBE_SIZE, false);
}

/*
 * Allocate a granule behind data, if the file system can do that.  It is none: a write that
 * fails may leave such, or a power cut.
 */
static int cachefiles_probe_reserve(struct file *file, u32 granule)
{
	int ret = cachefiles_vfs_reserve(file, (loff_t)granule * CACHEFILES_GRANULE,
					 CACHEFILES_GRANULE);

	return ret == -EOPNOTSUPP ? 0 : ret;
}

static int cachefiles_probe_fill(struct file *file)
{
	const u32 start = CACHEFILES_PROBE_START;
	unsigned int i;
	int ret;

	ret = cachefiles_probe_write(file, start, IOCB_DIRECT) ?:
	      cachefiles_probe_write(file, start + 2, IOCB_DIRECT) ?:
	      cachefiles_probe_write(file, start + 3, 0);
	for (i = 0; !ret && i < ARRAY_SIZE(cachefiles_probe_areas); i++)
		ret = cachefiles_probe_write(file, cachefiles_probe_areas[i], IOCB_DIRECT);
	return ret ?: cachefiles_probe_reserve(file, start + 1) ?:
	       filemap_write_and_wait(cachefiles_vfs_inode(file)->i_mapping);
}

/* What a cache does to its files, in small. */
static int cachefiles_probe_file(struct file *file)
{
	const loff_t granule = CACHEFILES_GRANULE;
	const u32 start = CACHEFILES_PROBE_START;
	u32 pos = 0;

	return cachefiles_vfs_truncate(file, CACHEFILES_PROBE_SIZE * granule) ?:
	       cachefiles_probe_run(file, &pos, CACHEFILES_PROBE_SIZE, false) ?:
	       cachefiles_probe_fill(file) ?:
	       cachefiles_probe_compare(file, start + 2) ?:
	       cachefiles_vfs_punch(file, (start + 2) * granule, granule) ?:
	       cachefiles_probe_compare(file, start + 3);
}

struct cachefiles_probe {
	struct cachefiles_cache	*cache;
	bool			fit;
};

static int cachefiles_probe_run_all(void *data)
{
	struct cachefiles_probe *probe = data;
	struct cachefiles_cache *cache = probe->cache;
	struct file *file;
	int ret;

	file = cachefiles_namei_tmpfile(cache, cache->store);
	if (IS_ERR(file))
		return PTR_ERR(file);
	WRITE_ONCE(cache->sb, cachefiles_vfs_inode(file)->i_sb);
	ret = cachefiles_xattr_probe(cache, file);
	probe->fit = !ret;
	if (probe->fit) {
		with_cache_creds(cache)
			ret = cachefiles_probe_file(file);
	}
	cachefiles_namei_release(cache, file, false);
	return ret;
}

/* Returns 0, -ENOBUFS if there is no space to tell, or else with the reason if it is not fit. */
static int cachefiles_presence_try(struct cachefiles_cache *cache, const char **reason)
{
	struct cachefiles_probe probe = { .cache = cache };
	int ret = cachefiles_io_delegate_any(cachefiles_probe_run_all, &probe);

	switch (ret) {
	case -EOPNOTSUPP:
	case -EINVAL:
		*reason = probe.fit ? "can't tell exactly what a file holds" :
				      "lacks what a cache needs";
		return -EOPNOTSUPP;
	case -ENOBUFS:
	case -ENOSPC:
	case -EDQUOT:
		return -ENOBUFS;
	default:
		return ret;
	}
}

/**
 * cachefiles_presence_check - Can a file system tell what is present?
 * @cache: The cache that is being bound; its store is open.
 *
 * This is tried out with a file that has no name, and gone afterwards.  If there
 * is no space for it, that is left to cachefiles_presence_ensure().  A worker
 * does it, since the file is larger than the caller may be allowed to make one.
 *
 * Context: process, may sleep for the backing file system.
 * Return: 0; -EOPNOTSUPP, after saying so in the log, if the file system is not fit
 * for a cache; -EIO and others if it fails.
 */
int cachefiles_presence_check(struct cachefiles_cache *cache)
{
	const char *reason = NULL;
	int ret = cachefiles_presence_try(cache, &reason);

	cache->tried = !ret;
	if (reason)
		pr_err("%s is on %s, which %s: not bound\n", cache->dir_name,
		       cache->mnt->mnt_sb->s_type->name, reason);
	return ret == -ENOBUFS ? 0 : ret;
}

/**
 * cachefiles_presence_ensure - Make sure that a file system can tell what is present
 * @cache: The cache, which is going to make a file.
 *
 * A file system that was full when its cache was bound is tried out now.  If it
 * turns out not to be fit, this is the end of the cache.
 *
 * Context: process, may sleep for the backing file system.
 * Return: 0; -ENOBUFS if there is still no space to try it; or another error.
 */
int cachefiles_presence_ensure(struct cachefiles_cache *cache)
{
	const char *what = "trying out the file system";
	int ret;

	if (READ_ONCE(cache->tried))
		return 0;
	ret = cachefiles_presence_try(cache, &what);
	if (!ret)
		WRITE_ONCE(cache->tried, true);
	else if (ret != -ENOBUFS && ret != -ENOMEM)
		cachefiles_cache_io_error(cache, what, ret);
	return ret;
}
