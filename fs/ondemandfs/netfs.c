// SPDX-License-Identifier: GPL-2.0-only
/* Everything that is said to the netfs library and, through it, to the cache. */
#include <linux/completion.h>
#include <linux/errno.h>
#include <linux/fscache.h>
#include <linux/netfs.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/uio.h>
#include "internal.h"

/* Errors from here on are of the kernel alone and must not get out. */
#define ONDEMANDFS_KERNEL_ERRNO	512

struct ondemandfs_barrier {
	struct completion	done;
	int			error;
};

static void ondemandfs_barrier_done(void *priv, ssize_t transferred_or_error)
{
	struct ondemandfs_barrier *barrier = priv;

	barrier->error = min_t(ssize_t, transferred_or_error, 0);
	complete(&barrier->done);
}

/* To the cache, a write of nothing ends all that is outstanding on the cookie. */
static void ondemandfs_end_reads_of(struct netfs_cache_resources *cres)
{
	struct iov_iter iter;

	iov_iter_kvec(&iter, ITER_SOURCE, NULL, 0, 0);
	fscache_write(cres, 0, &iter, NULL, NULL);
}

/**
 * ondemandfs_wait_open - wait until the daemon has opened a file
 * @cookie: cookie of the file, in use
 * @alone: nobody can be reading the file yet
 *
 * To the cache, a read of nothing is over when the file is open, or refused.
 * After success @cookie->object_size is the size of the file.
 *
 * Context: may sleep; waits killably for the daemon. A task that is killed ends
 * the wait by itself if it is alone; else the cache does it for it, less than a
 * second later and without touching the reads of others.
 * Return: 0; the error the daemon gave; -EINTR for a task being killed; -EIO if
 * the cache is dead, or the wait was ended by ondemandfs_end_reads().
 */
int ondemandfs_wait_open(struct fscache_cookie *cookie, bool alone)
{
	struct netfs_cache_resources cres = {};
	struct ondemandfs_barrier barrier;
	struct iov_iter iter;
	int error;

	error = fscache_begin_read_operation(&cres, cookie);
	if (error == -ENOBUFS)
		return -EIO;
	if (error)
		return error;

	init_completion(&barrier.done);
	iov_iter_kvec(&iter, ITER_DEST, NULL, 0, 0);
	/*
	 * A cache without on-demand mode has made an empty file of the name, and would read
	 * nothing from it with success, but for the hole that this is.
	 */
	fscache_read(&cres, 0, &iter, NETFS_READ_HOLE_FAIL,
		     ondemandfs_barrier_done, &barrier);
	/*
	 * The daemon may be frozen first: then it takes until it is thawed. A lookup sleeps
	 * with its directory locked, which is why that is called unsafe: who waits for the
	 * lock cannot be frozen, and the machine is not suspended. No worse can come of it,
	 * as the daemon has no use for that directory.
	 */
	error = wait_for_completion_state(&barrier.done, TASK_KILLABLE | TASK_FREEZABLE_UNSAFE);
	if (error) {
		if (alone)
			ondemandfs_end_reads_of(&cres);
		wait_for_completion(&barrier.done);
		error = -EINTR;
	} else {
		error = barrier.error;
	}
	fscache_end_operation(&cres);

	if (error == -ECANCELED || error <= -ONDEMANDFS_KERNEL_ERRNO)
		return -EIO;
	return error;
}

/**
 * ondemandfs_end_reads - end all that is outstanding on a file
 * @cookie: cookie of the file, in use
 *
 * Reads fail, and so does ondemandfs_wait_open(). A cache that is dead has
 * ended them already.
 *
 * Context: may sleep, but not for the daemon.
 */
void ondemandfs_end_reads(struct fscache_cookie *cookie)
{
	struct netfs_cache_resources cres = {};

	if (fscache_begin_write_operation(&cres, cookie))
		return;
	ondemandfs_end_reads_of(&cres);
	fscache_end_operation(&cres);
}

/**
 * ondemandfs_drain - end all reads of an inode and wait until they are over
 * @inode: the inode, which nobody can read from any more
 *
 * Context: may sleep, but not for the daemon.
 */
void ondemandfs_drain(struct inode *inode)
{
	struct ondemandfs_inode *oi = ONDEMANDFS_I(inode);

	if (atomic_read(&oi->netfs.io_count))
		ondemandfs_end_reads(oi->cookie);
	netfs_wait_for_outstanding_io(inode);
}

/*
 * Files that were open when reads were ended by force get no more data: the
 * page cache would ask for each failed folio once more and wait again. A request
 * without a file, of a part of the kernel that has only the inode, is let through.
 * Nobody gets data of a file that has another size than before after the cache
 * came back.
 */
static int ondemandfs_init_request(struct netfs_io_request *rreq, struct file *file)
{
	struct ondemandfs_sb *sbi = ONDEMANDFS_SB(rreq->inode->i_sb);
	struct ondemandfs_inode *oi = ONDEMANDFS_I(rreq->inode);
	unsigned int aborts = atomic_read(&sbi->aborts);

	if (file && (unsigned long)file->private_data != aborts)
		return -EIO;
	if (oi->cookie->object_size != i_size_read(rreq->inode))
		return -EIO;
	return 0;
}

static int ondemandfs_prepare_read(struct netfs_io_subrequest *subreq)
{
	return 0;
}

/*
 * The library comes here with what the cache does not deliver. There is no
 * other source.
 */
static void ondemandfs_issue_read(struct netfs_io_subrequest *subreq)
{
	subreq->error = -EIO;
	netfs_read_subreq_terminated(subreq);
}

static const struct netfs_request_ops ondemandfs_request_ops = {
	.init_request	= ondemandfs_init_request,
	.prepare_read	= ondemandfs_prepare_read,
	.issue_read	= ondemandfs_issue_read,
};

const struct address_space_operations ondemandfs_aops = {
	.read_folio	= netfs_read_folio,
	.readahead	= netfs_readahead,
	.release_folio	= netfs_release_folio,
	.invalidate_folio = netfs_invalidate_folio,
	.migrate_folio	= filemap_migrate_folio,
};

/**
 * ondemandfs_netfs_init - make a new file's data readable
 * @oi: inode of the file, new, with its final size and an open cookie
 *
 * Context: the inode cannot be found by others yet.
 */
void ondemandfs_netfs_init(struct ondemandfs_inode *oi)
{
	struct inode *inode = &oi->netfs.inode;

	/*
	 * No "zero point": the library would serve zeros from there on when the
	 * cache fails, where a reader must get an error.
	 */
	netfs_inode_init(&oi->netfs, &ondemandfs_request_ops, false);
	oi->netfs.cache = oi->cookie;

	/*
	 * The cache cuts a request in pieces at multiples of 256 KiB in the
	 * file and nowhere else, and read-ahead makes no folio that is not
	 * aligned to its size or reaches beyond the end of the file. So up to
	 * this size each folio is filled by one piece, and never has to be put
	 * together from a part that came and a part that failed.
	 */
	mapping_set_folio_order_range(inode->i_mapping, 0, get_order(SZ_256K));
	inode->i_mapping->a_ops = &ondemandfs_aops;
}
