// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reading backing files: what is present, and the data.
 */
#include <linux/ioprio.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/srcu.h>
#include <linux/uio.h>
#include "internal.h"
#include "vfs.h"

/**
 * cachefiles_io_next_data - Find what is present next
 * @file: A backing file.
 * @pos: Where to start, in bytes.
 * @end: Where to stop.
 *
 * Context: process, may sleep for the backing file system.
 * Return: where data start, between @pos and @end and @end if there are none, as
 * a multiple of CACHEFILES_GRANULE unless that is @pos or @end; or an error.
 */
loff_t cachefiles_io_next_data(struct file *file, loff_t pos, loff_t end)
{
	loff_t data = cachefiles_vfs_llseek(file, pos, SEEK_DATA);

	if (data == -ENXIO)
		return end;
	if (data < 0 || data == pos)
		return data;
	return min(round_up(data, CACHEFILES_GRANULE), end);
}

/**
 * cachefiles_io_next_hole - Find what is missing next
 * @file: A backing file.
 * @pos: Where to start, in bytes; there are data.
 * @end: Where to stop.
 *
 * Only whole granules are present, but that the last one of a file may be
 * shorter on disk.
 *
 * Context: process, may sleep for the backing file system.
 * Return: where the first hole starts, between @pos and @end and @end if there is
 * none; or an error.
 */
loff_t cachefiles_io_next_hole(struct file *file, loff_t pos, loff_t end)
{
	loff_t hole = cachefiles_vfs_llseek(file, pos, SEEK_HOLE);
	loff_t size = i_size_read(file_inode(file));

	if (hole < 0)
		return hole;
	if (hole <= size - (loff_t)CACHEFILES_GRANULE)
		hole = round_down(hole, CACHEFILES_GRANULE);
	else
		hole = size;
	return clamp(hole, pos, end);
}

/*
 * Spans every read from the look that found data present to the completion, so
 * that whoever has to take data away can wait until nobody relies on them.
 */
DEFINE_STATIC_SRCU(cachefiles_reads);

/**
 * cachefiles_io_begin_read - Begin to rely on data being present
 *
 * Context: any that may be followed by cachefiles_io_end_read(), also under a
 * spinlock.
 * Return: what to pass to cachefiles_io_end_read().
 */
int cachefiles_io_begin_read(void)
{
	return srcu_down_read(&cachefiles_reads);
}

/**
 * cachefiles_io_end_read - The data have been read
 * @token: What cachefiles_io_begin_read() has returned.
 *
 * Context: any.
 */
void cachefiles_io_end_read(int token)
{
	srcu_up_read(&cachefiles_reads, token);
}

/**
 * cachefiles_io_wait_for_reads - Wait for reads that have begun
 *
 * Context: process, may sleep for the backing file systems.
 */
void cachefiles_io_wait_for_reads(void)
{
	synchronize_srcu(&cachefiles_reads);
}

/**
 * cachefiles_io_read - Read a range of a backing file that is present
 * @file: The file.
 * @iocb: What to read; ki_pos and ki_complete are set, the rest is filled in.
 * @iter: Where the data go.
 *
 * What was written a moment ago is copied from the page cache, everything else
 * bypasses it: the netfs caches it once more.
 *
 * Context: process.  The file and everything that is passed have to stay until
 * ki_complete is called.
 * Return: -EIOCBQUEUED if ki_complete is going to be called, in any context; else
 * bytes read or an error, and it is not called.
 */
int cachefiles_io_read(struct file *file, struct kiocb *iocb, struct iov_iter *iter)
{
	loff_t last = iocb->ki_pos + iov_iter_count(iter) - 1;
	unsigned int nofs;
	int ret;

	ret = cachefiles_inject_read_error();
	if (ret)
		return ret;
	iocb->ki_filp = file;
	iocb->ki_ioprio = get_current_ioprio();
	iocb->ki_flags = 0;
	if (IS_ALIGNED(iocb->ki_pos | iov_iter_count(iter), CACHEFILES_GRANULE) &&
	    !filemap_range_has_page(file->f_mapping, iocb->ki_pos, last))
		iocb->ki_flags = IOCB_DIRECT;

	nofs = memalloc_nofs_save();
	ret = vfs_iocb_iter_read(file, iocb, iter);
	memalloc_nofs_restore(nofs);
	return ret;
}
