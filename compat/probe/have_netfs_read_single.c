// SPDX-License-Identifier: GPL-2.0-only
/* The netfs library reads some things, such as directories, in one piece or not at all. */
#include <linux/netfs.h>

enum netfs_io_origin probe = NETFS_READ_SINGLE;
