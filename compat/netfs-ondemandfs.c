// SPDX-License-Identifier: GPL-2.0-only
/*
 * fs/ondemandfs/netfs.c for kernels whose netfs_io_terminated_t has a third
 * argument, was_async: the one function of that type gets it, and ignores it.
 */
#include <linux/types.h>

#define ondemandfs_barrier_done(priv, result) \
	ondemandfs_barrier_done(priv, result, bool was_async)

#ifdef COMPAT_HAVE_NETFS_STREAMS
#include "netfs.c"
#else
#include <linux/fs.h>
#include <linux/fscache.h>
#include <linux/netfs.h>
#include <linux/pagemap.h>

/*
 * The library of these kernels does not count the requests of an inode: they are counted
 * as direct I/O, of which there is none, and which can be waited for.
 */
#define io_count inode.i_dio_count
#define netfs_wait_for_outstanding_io inode_dio_wait

static inline void netfs_read_subreq_terminated(struct netfs_io_subrequest *subreq)
{
	netfs_subreq_terminated(subreq, subreq->error, false);
}

/* Nothing hangs on the folios, which are single pages. */
#define netfs_release_folio NULL
#define netfs_invalidate_folio NULL
static inline void mapping_set_folio_order_range(struct address_space *mapping,
						 unsigned int min, unsigned int max)
{
}

static const struct netfs_request_ops compat_request_ops;

struct compat_netfs_request_ops {
	int (*init_request)(struct netfs_io_request *rreq, struct file *file);
	int (*prepare_read)(struct netfs_io_subrequest *subreq);
	void (*issue_read)(struct netfs_io_subrequest *subreq);
};

static void compat_netfs_inode_init(struct netfs_inode *ctx,
				    const struct compat_netfs_request_ops *ops, bool zero_point)
{
	netfs_inode_init(ctx, &compat_request_ops);
}

#define netfs_request_ops compat_netfs_request_ops
#define netfs_inode_init compat_netfs_inode_init
#include "netfs.c"
#undef netfs_request_ops

static int compat_init_request(struct netfs_io_request *rreq, struct file *file)
{
	int ret = ondemandfs_request_ops.init_request(rreq, file);

	if (!ret)
		inode_dio_begin(rreq->inode);
	return ret;
}

static void compat_free_request(struct netfs_io_request *rreq)
{
	inode_dio_end(rreq->inode);
}

static int compat_begin_cache_operation(struct netfs_io_request *rreq)
{
	return fscache_begin_read_operation(&rreq->cache_resources,
					    ONDEMANDFS_I(rreq->inode)->cookie);
}

static void compat_issue_read(struct netfs_io_subrequest *subreq)
{
	ondemandfs_request_ops.issue_read(subreq);
}

static const struct netfs_request_ops compat_request_ops = {
	.init_request		= compat_init_request,
	.free_request		= compat_free_request,
	.begin_cache_operation	= compat_begin_cache_operation,
	.issue_read		= compat_issue_read,
};
#endif
