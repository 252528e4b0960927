// SPDX-License-Identifier: GPL-2.0-only
/*
 * Stands in for fs/cachefiles/netfs.c where completions are told whether they are
 * called asynchronously.
 */
#include "internal.h"

/* Only where they are called: true is right in any context. */
#define term_func(priv, ret) term_func(priv, ret, true)

#ifdef COMPAT_HAVE_NETFS_STREAMS
/* A read is repeated from the server if it brings nothing, not if it brings an error. */
#define read_func(priv, ret) read_func(priv, max_t(ssize_t, ret, 0), true)
#else
#define read_func(priv, ret) read_func(priv, ret, true)
#endif

#include "netfs.c"
