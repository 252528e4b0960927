// SPDX-License-Identifier: GPL-2.0-only
/* netfs_io_terminated_t has lost its third argument, was_async. */
#include <linux/netfs.h>

static void done(void *priv, ssize_t transferred_or_error)
{
}

netfs_io_terminated_t probe = done;
