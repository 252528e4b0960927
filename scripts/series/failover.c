// SPDX-License-Identifier: GPL-2.0-only
/*
 * What outlives a daemon: nothing yet.
 *
 * Locking is described in ondemand.h.
 */
#include <linux/cachefiles.h>
#include "ondemand.h"

/**
 * cachefiles_failover_reopens - May an object be opened again for a READ?
 * @od: A CLOSED od.
 *
 * Return: false, always.
 */
bool cachefiles_failover_reopens(const struct cachefiles_ondemand *od)
{
	return false;
}

/**
 * cachefiles_failover_fd_gone_locked - What becomes of READs that were handed out
 * @od: An od whose current descriptor has just been closed.
 * @done: Where reads are put that end.
 *
 * They fail.
 *
 * Context: queue->lock held.
 */
void cachefiles_failover_fd_gone_locked(struct cachefiles_ondemand *od, struct list_head *done)
{
	cachefiles_od_end_reads_locked(od, -EIO, done);
}

/**
 * cachefiles_failover_restore - The command ``restore``
 * @cache: An on-demand cache.
 *
 * Return: -EOPNOTSUPP.
 */
int cachefiles_failover_restore(struct cachefiles_cache *cache)
{
	return -EOPNOTSUPP;
}
