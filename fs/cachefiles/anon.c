// SPDX-License-Identifier: GPL-2.0-only
/*
 * The descriptor that a daemon holds of an object: writing, seeking, answering.
 *
 * It belongs to the od, not to the object, and is good for something only while
 * it is the current one.  Locking is described in ondemand.h.
 */
#include <linux/anon_inodes.h>
#include <linux/bvec.h>
#include <linux/cachefiles.h>
#include <linux/compat.h>
#include <linux/file.h>
#include <linux/mm.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include "delay.h"
#include "ondemand.h"

/* How many pages of the daemon are written at once. */
#define CACHEFILES_CHUNK_PAGES	16

/* How much is copied in at once, if it has to be. */
#define CACHEFILES_BOUNCE_ORDER	min(4, MAX_PAGE_ORDER)

/* A part of what a daemon writes, in pages that can't go away. */
struct cachefiles_chunk {
	struct folio	*bounce;	/* a copy, or NULL */
	bool		unpin;		/* the pages are pinned */
	unsigned int	nr;		/* entries in bvec */
	size_t		len;		/* bytes to write: whole granules */
	struct bio_vec	bvec[CACHEFILES_CHUNK_PAGES];
};

static void cachefiles_anon_end_fill(struct cachefiles_ondemand *od, struct cachefiles_fill *fill)
{
	bool orphan;

	if (!fill)
		return;
	scoped_guard(spinlock, &od->queue->lock) {
		list_del(&fill->link);
		orphan = od->state == CACHEFILES_OD_DROPPING;
	}
	if (orphan)
		wake_up_all(&od->queue->orphan_wait);
}

/* Is no write going on to what was the same file, or is the OPEN over? */
static bool cachefiles_anon_has_no_orphan(struct cachefiles_ondemand *od)
{
	const struct cachefiles_fill *fill;

	guard(spinlock)(&od->queue->lock);
	if (od->open.state != CACHEFILES_REQ_ATTACHING)
		return true;
	list_for_each_entry(fill, &od->queue->orphans, link) {
		if (fill->od->keys_len == od->keys_len &&
		    !memcmp(fill->od->keys, od->keys, od->keys_len))
			return false;
	}
	return true;
}

/**
 * cachefiles_anon_wait_for_orphans - Wait for writes that an object was dropped under
 * @od: One with the same keys, whose OPEN is being answered.
 *
 * What such a write has brought may be taken back without regard for reads of @od.
 * It waits for nothing but the backing file system.
 *
 * Context: process.
 * Return: 0, also if the OPEN was ended; -ERESTARTSYS if the task is being killed.
 */
int cachefiles_anon_wait_for_orphans(struct cachefiles_ondemand *od)
{
	return wait_event_killable(od->queue->orphan_wait, cachefiles_anon_has_no_orphan(od));
}

/* Is the object open through this descriptor, and the cache alive? */
static int cachefiles_anon_check_locked(const struct cachefiles_anon *anon)
{
	const struct cachefiles_ondemand *od = anon->od;

	lockdep_assert_held(&od->queue->lock);
	if (od->queue->dead)
		return -EIO;
	return od->anon == anon && od->state == CACHEFILES_OD_OPEN ? 0 : -ENOBUFS;
}

/*
 * Take hold of the object behind a descriptor for an access to its backing file,
 * and announce the access if it is a write.
 *
 * Return: 0, with a reference on *@object and on *@file; -EIO if the cache is
 * dead, -ENOBUFS if the object is not open through this descriptor.
 */
static int cachefiles_anon_enter(struct cachefiles_anon *anon, struct cachefiles_fill *fill,
				 struct cachefiles_object **object, struct file **file)
{
	struct cachefiles_ondemand *od = anon->od;
	int ret;

	scoped_guard(spinlock, &od->queue->lock) {
		ret = cachefiles_anon_check_locked(anon);
		if (ret)
			return ret;
		*object = od->object;
		cachefiles_object_get(*object);
		if (fill) {
			fill->od = od;
			list_add(&fill->link, &od->fills);
		}
	}
	*file = cachefiles_object_get_file(*object);
	cachefiles_delay(CACHEFILES_DELAY_ENTERED);
	if (!*file) {
		cachefiles_anon_end_fill(od, fill);
		cachefiles_object_put(*object);
		return -ENOBUFS;
	}
	return 0;
}

static void cachefiles_anon_leave(struct cachefiles_anon *anon, struct cachefiles_fill *fill,
				  struct cachefiles_object *object, struct file *file)
{
	cachefiles_anon_end_fill(anon->od, fill);
	fput(file);
	cachefiles_object_put(object);
}

/*
 * May @len bytes be written at @pos?  Only whole granules become present, but
 * the last one may end anywhere behind the end of the object, which is returned
 * in @object_end.
 */
static int cachefiles_anon_check_range(struct cachefiles_anon *anon, loff_t pos, size_t len,
				       loff_t *object_end)
{
	struct cachefiles_ondemand *od = anon->od;
	loff_t size, end, limit;
	int ret;

	scoped_guard(spinlock, &od->queue->lock) {
		ret = cachefiles_anon_check_locked(anon);
		if (ret)
			return ret;
		size = od->size;
	}
	limit = round_up(size, CACHEFILES_GRANULE);
	if (check_add_overflow(pos, len, &end) || end > limit)
		return -EFBIG;
	if (!IS_ALIGNED(pos, CACHEFILES_GRANULE) ||
	    (!IS_ALIGNED(end, CACHEFILES_GRANULE) && end < size))
		return -EINVAL;
	*object_end = size;
	return 0;
}

/* The daemon's own pages, if they hold whole granules of content.  Returns bytes taken. */
static size_t cachefiles_chunk_pin(struct cachefiles_chunk *chunk, size_t content,
				   struct iov_iter *from)
{
	size_t max = round_down(content, CACHEFILES_GRANULE);
	struct page *pages[CACHEFILES_CHUNK_PAGES], **array = pages;
	ssize_t got, left;
	size_t offset;

	if (!max)
		return 0;
	chunk->unpin = iov_iter_extract_will_pin(from);
	got = iov_iter_extract_pages(from, &array, max, ARRAY_SIZE(pages), 0, &offset);
	if (got <= 0)
		return 0;
	for (left = got; left > 0; offset = 0) {
		size_t part = min_t(size_t, left, PAGE_SIZE - offset);

		bvec_set_page(&chunk->bvec[chunk->nr], pages[chunk->nr], part, offset);
		chunk->nr++;
		left -= part;
	}
	chunk->len = round_down(got, CACHEFILES_GRANULE);
	iov_iter_revert(from, got - chunk->len);
	return chunk->len;
}

static void cachefiles_chunk_release(struct cachefiles_chunk *chunk)
{
	if (chunk->bounce)
		folio_put(chunk->bounce);
	else if (chunk->unpin)
		for (int i = 0; i < chunk->nr; i++)
			unpin_user_page(chunk->bvec[i].bv_page);
}

/* A copy of the content, with zeros behind it up to the next granule.  Returns bytes taken. */
static ssize_t cachefiles_chunk_copy(struct cachefiles_chunk *chunk, size_t content,
				     struct iov_iter *from)
{
	unsigned int order = min_t(unsigned int, get_order(iov_iter_count(from)),
				   CACHEFILES_BOUNCE_ORDER);
	struct folio *folio = NULL;
	size_t want, got;

	if (order)
		folio = folio_alloc(GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN, order);
	if (!folio)
		folio = folio_alloc(GFP_KERNEL, 0);
	if (!folio)
		return -ENOMEM;
	want = min(iov_iter_count(from), folio_size(folio));
	got = copy_folio_from_iter(folio, 0, want, from);
	if (got < want) {
		iov_iter_revert(from, got);
		folio_put(folio);
		return -EFAULT;
	}
	chunk->len = round_up(want, CACHEFILES_GRANULE);
	content = min(content, want);
	folio_zero_range(folio, content, chunk->len - content);
	chunk->bounce = folio;
	chunk->nr = 1;
	bvec_set_folio(&chunk->bvec[0], folio, chunk->len, 0);
	return want;
}

/*
 * Take the next part of what the daemon gives into pages that stay: a fault in
 * the middle of a write could leave zeros behind that would count as data.
 * Where the backing file system wants direct I/O, that is a copy; and so it is at
 * the end of the object, @left bytes away: a mapping shows what is stored behind it.
 */
static ssize_t cachefiles_chunk_take(struct cachefiles_chunk *chunk,
				     const struct cachefiles_cache *cache, loff_t left,
				     struct iov_iter *from)
{
	size_t content = min_t(loff_t, left, iov_iter_count(from));
	ssize_t taken = 0;

	memset(chunk, 0, offsetof(struct cachefiles_chunk, bvec));
	if (cache->bsize >= PAGE_SIZE) {
		taken = cachefiles_chunk_pin(chunk, content, from);
		if (!taken) {
			cachefiles_chunk_release(chunk);
			chunk->nr = 0;
		}
	}
	return taken ?: cachefiles_chunk_copy(chunk, content, from);
}

/*
 * Write a chunk.  The object is pinned only here: getting at the daemon's memory
 * may take as long as the daemon likes.
 */
static ssize_t cachefiles_chunk_write(struct cachefiles_anon *anon,
				      struct cachefiles_chunk *chunk, loff_t pos)
{
	struct cachefiles_fill fill = { .pos = pos, .end = pos + chunk->len };
	struct cachefiles_object *object;
	struct iov_iter iter;
	struct file *file;
	ssize_t ret;

	iov_iter_bvec(&iter, ITER_SOURCE, chunk->bvec, chunk->nr, chunk->len);
	ret = cachefiles_anon_enter(anon, &fill, &object, &file);
	if (ret)
		return ret;
	ret = cachefiles_io_write(object, file, pos, &iter);
	cachefiles_delay(CACHEFILES_DELAY_WRITTEN);
	cachefiles_anon_leave(anon, &fill, object, file);
	return ret;
}

/*
 * write(2), for filling what is missing, asked for or not.
 *
 * Return: bytes consumed, or if there are none: -EINVAL for a range that does
 * not consist of whole granules, -EFBIG beyond the object, -ENOBUFS if the
 * object is not open through this descriptor or space is short, -EIO if the
 * cache is dead or nobody can tell what is in the file, -EFAULT, -ENOMEM, or the error of
 * the backing file system.
 */
static ssize_t cachefiles_anon_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct cachefiles_anon *anon = iocb->ki_filp->private_data;
	struct cachefiles_chunk chunk;
	ssize_t done = 0, taken, ret;
	loff_t end;

	ret = cachefiles_anon_check_range(anon, iocb->ki_pos, iov_iter_count(from), &end);
	if (ret)
		return ret;
	while (iov_iter_count(from)) {
		taken = cachefiles_chunk_take(&chunk, anon->od->cache, end - iocb->ki_pos, from);
		if (taken < 0) {
			ret = taken;
			break;
		}
		ret = cachefiles_chunk_write(anon, &chunk, iocb->ki_pos);
		cachefiles_chunk_release(&chunk);
		if (ret > 0) {
			ret = min(ret, taken);
			iocb->ki_pos += ret;
			done += ret;
		}
		if (ret < taken) {
			iov_iter_revert(from, taken - max_t(ssize_t, ret, 0));
			break;
		}
		cond_resched();
	}
	return done ?: ret;
}

/*
 * llseek(2): SEEK_DATA and SEEK_HOLE tell what is present.  The position is the
 * descriptor's own.
 */
static loff_t cachefiles_anon_llseek(struct file *filp, loff_t offset, int whence)
{
	struct cachefiles_anon *anon = filp->private_data;
	struct cachefiles_object *object;
	struct file *file;
	loff_t ret;

	ret = cachefiles_anon_enter(anon, NULL, &object, &file);
	if (ret)
		return ret;
	if (whence == SEEK_DATA || whence == SEEK_HOLE) {
		if (READ_ONCE(object->distrusted) || cachefiles_presence_is_lost(file))
			ret = -EIO;
		else
			ret = cachefiles_presence_seek(file, object->cookie->object_size, offset,
						       whence);
		if (ret >= 0)
			ret = vfs_setpos(filp, ret, OFFSET_MAX);
	} else {
		ret = generic_file_llseek_size(filp, offset, whence, OFFSET_MAX,
					       object->cookie->object_size);
	}
	cachefiles_anon_leave(anon, NULL, object, file);
	return ret;
}

static long cachefiles_anon_ioctl(struct file *filp, unsigned int cmd, unsigned long arg)
{
	if (cmd != CACHEFILES_IOC_READ_COMPLETE)
		return -EINVAL;
	/* An int by the definition of the command: what lies above it says nothing. */
	return cachefiles_reply_read_complete(filp->private_data, arg);
}

#ifdef CONFIG_COMPAT
/* The argument is a number, so there is nothing to convert. */
static long cachefiles_anon_compat_ioctl(struct file *filp, unsigned int cmd, unsigned long arg)
{
	return cachefiles_anon_ioctl(filp, cmd, arg);
}
#endif

static const char * const cachefiles_od_state_names[CACHEFILES_OD_NR_STATES] = {
	[CACHEFILES_OD_CLOSED]		= "close",
	[CACHEFILES_OD_OPENING]		= "opening",
	[CACHEFILES_OD_OPEN]		= "open",
	[CACHEFILES_OD_REOPENING]	= "reopening",
	[CACHEFILES_OD_DROPPING]	= "dropping",
};

static void cachefiles_anon_show_fdinfo(struct seq_file *m, struct file *filp)
{
	struct cachefiles_anon *anon = filp->private_data;
	struct cachefiles_ondemand *od = anon->od;
	enum cachefiles_od_state state;
	bool current_fd;
	loff_t size;

	scoped_guard(spinlock, &od->queue->lock) {
		state = od->state;
		current_fd = od->anon == anon;
		size = od->attached ? od->size : 0;
	}
	seq_printf(m, "cachefiles-object:\t%u\n", anon->object_id);
	seq_printf(m, "cachefiles-state:\t%s\n",
		   current_fd ? cachefiles_od_state_names[state] : "stale");
	seq_printf(m, "cachefiles-size:\t%lld\n", size);
}

/*
 * The last descriptor of an opening is closed, on purpose or because the daemon
 * died.  What was handed out through it can't be answered any more.
 */
static int cachefiles_anon_release(struct inode *inode, struct file *filp)
{
	struct cachefiles_anon *anon = filp->private_data;
	struct cachefiles_ondemand *od = anon->od;
	LIST_HEAD(done);

	cachefiles_delay(CACHEFILES_DELAY_RELEASE);
	scoped_guard(spinlock, &od->queue->lock) {
		if (od->anon == anon) {
			od->anon = NULL;
			cachefiles_req_finish_locked(&od->close, 0, &done);
			if (od->state == CACHEFILES_OD_OPEN) {
				cachefiles_od_set_state(od, CACHEFILES_OD_CLOSED);
				cachefiles_failover_fd_gone_locked(od, &done);
			}
			cachefiles_queue_update(od);
			cachefiles_queue_wake(od->queue);
		}
	}
	cachefiles_req_run_done(&done);

	xa_erase(&od->queue->object_ids.used, anon->object_id);
	kfree(anon);
	cachefiles_ondemand_put(od);
	return 0;
}

static const struct file_operations cachefiles_anon_fops = {
	.owner		= THIS_MODULE,
	.release	= cachefiles_anon_release,
	.write_iter	= cachefiles_anon_write_iter,
	.llseek		= cachefiles_anon_llseek,
	.unlocked_ioctl	= cachefiles_anon_ioctl,
#ifdef CONFIG_COMPAT
	.compat_ioctl	= cachefiles_anon_compat_ioctl,
#endif
	.show_fdinfo	= cachefiles_anon_show_fdinfo,
};

/**
 * cachefiles_anon_open - Make a descriptor of an object
 * @od: The object's od.
 * @fd: The number that the descriptor is going to have.
 * @anon: Where to store what is behind the file, for making it the current one.
 *
 * Until that is done, the file can just be dropped.
 *
 * Context: process.
 * Return: the file, or -ENFILE, -ENOMEM, or -EBUSY if all object ids are in use.
 */
struct file *cachefiles_anon_open(struct cachefiles_ondemand *od, u32 fd,
				  struct cachefiles_anon **anon)
{
	struct cachefiles_anon *new;
	struct file *file;
	int ret;

	new = kzalloc_obj(*new);
	if (!new)
		return ERR_PTR(-ENOMEM);
	ret = cachefiles_ids_insert(&od->queue->object_ids, new, &new->object_id, GFP_KERNEL);
	if (ret)
		goto err_free;

	cachefiles_od_get(od);
	new->od = od;
	new->fd = fd;
	file = anon_inode_getfile_fmode("[cachefiles]", &cachefiles_anon_fops, new,
					O_WRONLY | O_LARGEFILE, FMODE_PWRITE | FMODE_LSEEK);
	if (IS_ERR(file)) {
		ret = PTR_ERR(file);
		goto err_put;
	}
	*anon = new;
	return file;

err_put:
	cachefiles_ondemand_put(od);
	xa_erase(&od->queue->object_ids.used, new->object_id);
err_free:
	kfree(new);
	return ERR_PTR(ret);
}
