// SPDX-License-Identifier: GPL-2.0-only
/*
 * fs/ondemandfs/netfs.c for kernels whose netfs_io_terminated_t has a third
 * argument, was_async: the one function of that type gets it, and ignores it.
 */
#include <linux/types.h>

#define ondemandfs_barrier_done(priv, result) \
	ondemandfs_barrier_done(priv, result, bool was_async)

#include "netfs.c"
