// SPDX-License-Identifier: GPL-2.0-only
/* The library writes to the cache itself, in streams. */
#include <linux/netfs.h>

void *probe(struct netfs_io_request *rreq, struct netfs_io_subrequest *subreq);
void *probe(struct netfs_io_request *rreq, struct netfs_io_subrequest *subreq)
{
	return &rreq->io_streams[subreq->stream_nr];
}
