// SPDX-License-Identifier: GPL-2.0-only
/*
 * Writing backing files.
 */
#include <linux/falloc.h>
#include <linux/sched/mm.h>
#include <linux/uio.h>
#include "internal.h"
#include "vfs.h"

/*
 * What could not be written has to be a hole again: part of it may have been
 * allocated already, and would count as data.  Part of it may also have been
 * there before: reads of that have to end first, and no other may begin, which
 * is the caller's duty.
 */
static void cachefiles_io_unwrite(struct cachefiles_object *object, struct file *file,
				  loff_t pos, loff_t end)
{
	struct cachefiles_cache *cache = cachefiles_object_cache(object);
	int ret = 0;

	cachefiles_io_wait_for_reads();
	with_cache_creds(cache)
		ret = cachefiles_vfs_fallocate(file,
					       FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					       pos, end - pos);
	if (ret)
		cachefiles_cache_io_error(cache, "punch hole", ret);
}

static ssize_t cachefiles_io_do_write(struct file *file, loff_t pos, struct iov_iter *from)
{
	struct kiocb iocb = {
		.ki_filp	= file,
		.ki_pos		= pos,
	};

	/*
	 * Through the page cache, where the data are wanted next.  But a page of
	 * several blocks could become visible half filled if a block is refused:
	 * there, blocks have to become data by themselves.
	 */
	if (i_blocksize(file_inode(file)) < PAGE_SIZE)
		iocb.ki_flags |= IOCB_DIRECT;
	return vfs_iocb_iter_write(file, &iocb, from);
}

/**
 * cachefiles_io_write - Write whole granules to a backing file
 * @object: The object; the caller holds a reference.
 * @file: Its backing file; likewise.
 * @pos: First byte, a multiple of CACHEFILES_GRANULE.
 * @from: What to write, in kernel memory; its length is a multiple of
 *	CACHEFILES_GRANULE.
 *
 * What is not written, according to the result, is missing afterwards.  Until it
 * returns, nobody may take the range for present.
 *
 * Context: process, may sleep for the backing file system.
 * Return: bytes written, a multiple of CACHEFILES_GRANULE, or an error: -ENOBUFS
 * if space is short.
 */
ssize_t cachefiles_io_write(struct cachefiles_object *object, struct file *file, loff_t pos,
			    struct iov_iter *from)
{
	size_t len = iov_iter_count(from);
	unsigned int nofs;
	ssize_t ret;

	ret = cachefiles_space_check(cachefiles_object_cache(object), 0, len);
	if (ret)
		return ret;
	fscache_count_write();
	ret = cachefiles_inject_write_error();
	if (ret)
		return ret;

	nofs = memalloc_nofs_save();
	ret = cachefiles_io_do_write(file, pos, from);
	memalloc_nofs_restore(nofs);
	if (ret < (ssize_t)len) {
		ssize_t kept = ret < 0 ? 0 : round_down(ret, CACHEFILES_GRANULE);

		cachefiles_io_unwrite(object, file, pos + kept, pos + len);
		if (kept || ret >= 0)
			ret = kept ?: -EIO;
	}
	if (ret > 0)
		set_bit(FSCACHE_COOKIE_HAVE_DATA, &object->cookie->flags);
	return ret;
}
