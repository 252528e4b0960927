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
#include <linux/seq_file.h>
#include <linux/slab.h>
#include "ondemand.h"
#include "trace.h"

/* How much is copied in at once. */
#define CACHEFILES_BOUNCE_ORDER	min(4, MAX_PAGE_ORDER)

/*
 * Take hold of the object behind a descriptor for an access to its backing file.
 *
 * Return: 0, with a reference on *@object and on *@file; -EIO if the cache is
 * dead, -ENOBUFS if the object is not open through this descriptor.
 */
static int cachefiles_anon_enter(struct cachefiles_anon *anon, struct cachefiles_object **object,
				 struct file **file)
{
	struct cachefiles_ondemand *od = anon->od;

	scoped_guard(spinlock, &od->queue->lock) {
		if (od->queue->dead)
			return -EIO;
		if (od->anon != anon || od->state != CACHEFILES_OD_OPEN)
			return -ENOBUFS;
		*object = od->object;
		cachefiles_object_get(*object);
	}
	*file = cachefiles_object_get_file(*object);
	if (!*file) {
		cachefiles_object_put(*object);
		return -ENOBUFS;
	}
	return 0;
}

static void cachefiles_anon_leave(struct cachefiles_object *object, struct file *file)
{
	fput(file);
	cachefiles_object_put(object);
}

/*
 * May @len bytes be written at @pos?  Only whole granules become present, but
 * the last one may end anywhere behind the end of the object.
 */
static int cachefiles_anon_check_range(struct cachefiles_anon *anon, loff_t pos, size_t len)
{
	struct cachefiles_ondemand *od = anon->od;
	loff_t size, end, limit;

	scoped_guard(spinlock, &od->queue->lock) {
		if (od->queue->dead)
			return -EIO;
		if (od->anon != anon || od->state != CACHEFILES_OD_OPEN)
			return -ENOBUFS;
		size = od->size;
	}
	limit = round_up(size, CACHEFILES_GRANULE);
	if (check_add_overflow(pos, len, &end) || end > limit)
		return -EFBIG;
	if (!IS_ALIGNED(pos, CACHEFILES_GRANULE) ||
	    (!IS_ALIGNED(end, CACHEFILES_GRANULE) && end < size))
		return -EINVAL;
	return 0;
}

static struct folio *cachefiles_bounce_alloc(size_t len)
{
	unsigned int order = min_t(unsigned int, get_order(len), CACHEFILES_BOUNCE_ORDER);
	struct folio *folio = NULL;

	if (order)
		folio = folio_alloc(GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN, order);
	return folio ?: folio_alloc(GFP_KERNEL, 0);
}

/*
 * Write what is in the bounce buffer.  The object is pinned only here: copying
 * from the daemon's memory may take as long as the daemon likes.
 */
static ssize_t cachefiles_anon_write_bounce(struct cachefiles_anon *anon, struct folio *bounce,
					    size_t len, loff_t pos)
{
	struct cachefiles_object *object;
	struct iov_iter iter;
	struct bio_vec bvec;
	struct file *file;
	ssize_t ret;

	bvec_set_folio(&bvec, bounce, len, 0);
	iov_iter_bvec(&iter, ITER_SOURCE, &bvec, 1, len);
	ret = cachefiles_anon_enter(anon, &object, &file);
	if (ret)
		return ret;
	ret = cachefiles_io_write(object, file, pos, &iter);
	cachefiles_anon_leave(object, file);
	return ret;
}

/*
 * write(2): what the daemon gives is copied in first, so that a fault in its
 * memory can't leave zeros behind that would count as data.
 *
 * Return: bytes consumed, or if there are none: -EINVAL for a range that does
 * not consist of whole granules, -EFBIG beyond the object, -ENOBUFS if the
 * object is not open through this descriptor, -EIO if the cache is dead, -EFAULT,
 * -ENOMEM, or the error of the backing file system.
 */
static ssize_t cachefiles_anon_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct cachefiles_anon *anon = iocb->ki_filp->private_data;
	struct folio *bounce;
	ssize_t done = 0, ret;

	ret = cachefiles_anon_check_range(anon, iocb->ki_pos, iov_iter_count(from));
	if (ret || !iov_iter_count(from))
		return ret;
	bounce = cachefiles_bounce_alloc(iov_iter_count(from));
	if (!bounce)
		return -ENOMEM;

	while (iov_iter_count(from)) {
		size_t want = min(iov_iter_count(from), folio_size(bounce));
		size_t len = round_up(want, CACHEFILES_GRANULE);
		size_t got = copy_folio_from_iter(bounce, 0, want, from);

		if (got < want) {
			iov_iter_revert(from, got);
			ret = -EFAULT;
			break;
		}
		/* The rest of the last granule belongs to nobody. */
		folio_zero_range(bounce, want, len - want);
		ret = cachefiles_anon_write_bounce(anon, bounce, len, iocb->ki_pos);
		if (ret < 0) {
			iov_iter_revert(from, want);
			break;
		}
		ret = min_t(ssize_t, ret, want);
		iocb->ki_pos += ret;
		done += ret;
		if (ret < want) {
			iov_iter_revert(from, want - ret);
			break;
		}
		cond_resched();
	}
	folio_put(bounce);
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

	ret = cachefiles_anon_enter(anon, &object, &file);
	if (ret)
		return ret;
	if (whence == SEEK_DATA || whence == SEEK_HOLE) {
		ret = vfs_llseek(file, offset, whence);
		if (ret >= 0)
			ret = vfs_setpos(filp, ret, OFFSET_MAX);
	} else {
		ret = generic_file_llseek_size(filp, offset, whence, OFFSET_MAX,
					       object->cookie->object_size);
	}
	cachefiles_anon_leave(object, file);
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

	xa_erase(&od->queue->object_ids, anon->object_id);
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
	ret = xa_alloc_cyclic(&od->queue->object_ids, &new->object_id, new,
			      XA_LIMIT(1, INT_MAX), &od->queue->next_object_id, GFP_KERNEL);
	if (ret < 0)
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
	xa_erase(&od->queue->object_ids, new->object_id);
err_free:
	kfree(new);
	return ERR_PTR(ret);
}
