// SPDX-License-Identifier: GPL-2.0-only
/*
 * Free space of the backing file system: when to allocate nothing more, and when
 * to have the daemon cull.
 *
 * Asking the file system takes thousands of instructions, a small fill should
 * not.  So each answer gives a credit: a small part of the distance to the next
 * limit below, in inodes and in bytes, to be used within a second.  The closer
 * the limit, the smaller the credit, so that a limit is never overrun by what is
 * allocated here, and what others allocate is noticed within the second.
 *
 * The file system does not know yet of data that are on their way to it, so these
 * are counted here.
 */
#include <linux/jiffies.h>
#include <linux/math64.h>
#include <linux/statfs.h>
#include "delay.h"
#include "internal.h"

#define CACHEFILES_CREDIT_SHARE	16
#define CACHEFILES_CREDIT_TIME	HZ

static int cachefiles_space_statfs(struct cachefiles_cache *cache, struct kstatfs *stats)
{
	struct path path = { .mnt = cache->mnt, .dentry = cache->root };
	int ret = 0;

	with_cache_creds(cache)
		ret = vfs_statfs(&path, stats);
	if (ret == -EIO)
		cachefiles_cache_io_error(cache, "asking for free space", ret);
	return ret;
}

static void cachefiles_space_set_limits(struct cachefiles_limits *limits, u64 total)
{
	total = div_u64(total, 100);
	limits->run = total * limits->run_percent;
	limits->cull = total * limits->cull_percent;
	limits->stop = total * limits->stop_percent;
}

static void cachefiles_space_use_percentages(struct cachefiles_cache *cache,
					     const struct kstatfs *stats)
{
	spin_lock(&cache->space_lock);
	cachefiles_space_set_limits(&cache->files, stats->f_files);
	cachefiles_space_set_limits(&cache->blocks, stats->f_blocks);
	cache->credit.files = 0;
	cache->credit.bytes = 0;
	spin_unlock(&cache->space_lock);
}

/**
 * cachefiles_space_init - Compute the limits of a cache
 * @cache: The cache, with its root directory and its credentials
 *
 * Context: May sleep; cache->cmd_mutex is held.
 * Return: 0; -ERANGE or -EOPNOTSUPP if the block size is none, or none we can work
 * with; or the error of the file system.
 */
int cachefiles_space_init(struct cachefiles_cache *cache)
{
	struct kstatfs stats;
	int ret;

	lockdep_assert_held(&cache->cmd_mutex);

	ret = cachefiles_space_statfs(cache, &stats);
	if (ret)
		return ret;
	if (stats.f_bsize <= 0 || stats.f_bsize > PAGE_SIZE) {
		pr_err("%s has blocks of %ld bytes\n", cache->dir_name, (long)stats.f_bsize);
		return stats.f_bsize <= 0 ? -ERANGE : -EOPNOTSUPP;
	}

	cache->bsize = stats.f_bsize;
	cachefiles_space_use_percentages(cache, &stats);
	return 0;
}

/**
 * cachefiles_space_recompute - Compute the limits again after a percentage has changed
 * @cache: The cache; bound
 *
 * Culling starts or stops accordingly.
 *
 * Context: May sleep; cache->cmd_mutex is held.
 * Return: 0, or the error of the file system.
 */
int cachefiles_space_recompute(struct cachefiles_cache *cache)
{
	struct kstatfs stats;
	int ret;

	lockdep_assert_held(&cache->cmd_mutex);

	ret = cachefiles_space_statfs(cache, &stats);
	if (ret)
		return ret;
	cachefiles_space_use_percentages(cache, &stats);
	return cachefiles_space_evaluate(cache);
}

static u64 cachefiles_space_above(u64 available, u64 limit)
{
	return available > limit ? available - limit : 0;
}

static u64 cachefiles_space_share(const struct cachefiles_limits *limits, u64 available)
{
	u64 limit = available >= limits->cull ? limits->cull : limits->stop;

	return cachefiles_space_above(available, limit) / CACHEFILES_CREDIT_SHARE;
}

/* Takes from the credit.  The space lock is held. */
static bool cachefiles_space_spend_locked(struct cachefiles_cache *cache, unsigned int files,
					  u64 bytes)
{
	struct cachefiles_credit *credit = &cache->credit;

	lockdep_assert_held(&cache->space_lock);

	if (files > credit->files || bytes > credit->bytes ||
	    time_after_eq(jiffies, credit->expires))
		return false;
	credit->files -= files;
	credit->bytes -= bytes;
	return true;
}

/*
 * Judges what is available once the caller has got what it wants, and gives a new
 * credit.  Returns -ENOBUFS if the caller must not get it.
 */
static int cachefiles_space_judge_locked(struct cachefiles_cache *cache, u64 files, u64 blocks)
{
	struct cachefiles_credit *credit = &cache->credit;
	bool stop, cull, run;

	lockdep_assert_held(&cache->space_lock);

	stop = files < cache->files.stop || blocks < cache->blocks.stop;
	cull = files < cache->files.cull || blocks < cache->blocks.cull;
	run = files >= cache->files.run && blocks >= cache->blocks.run;

	if (stop || cull)
		WRITE_ONCE(cache->culling, true);
	else if (run)
		WRITE_ONCE(cache->culling, false);

	credit->expires = jiffies + CACHEFILES_CREDIT_TIME;
	credit->files = stop ? 0 : cachefiles_space_share(&cache->files, files);
	credit->bytes = stop ? 0 : cachefiles_space_share(&cache->blocks, blocks) * cache->bsize;
	/* Without limits in inodes there is no distance, and no need for one. */
	if (!stop && !cache->files.run)
		credit->files = U64_MAX;
	return stop ? -ENOBUFS : 0;
}

/* Asks for what is being made and written. */
static int cachefiles_space_ask(struct cachefiles_cache *cache)
{
	bool was_culling, culling;
	struct kstatfs stats;
	u64 blocks, files;
	int ret;

	/* First, so that what ends meanwhile counts twice, rather than not at all. */
	files = atomic_read_acquire(&cache->creating);
	blocks = DIV_ROUND_UP_ULL(atomic64_read_acquire(&cache->writing), cache->bsize);
	cachefiles_delay(CACHEFILES_DELAY_SPACE);
	ret = cachefiles_space_statfs(cache, &stats);
	if (ret)
		return ret;

	scoped_guard(spinlock, &cache->space_lock) {
		was_culling = cache->culling;
		ret = cachefiles_space_judge_locked(cache,
						    cachefiles_space_above(stats.f_ffree, files),
						    cachefiles_space_above(stats.f_bavail, blocks));
		culling = cache->culling;
		if (culling != was_culling)
			cachefiles_stat_changed_locked(cache);
	}
	if (culling != was_culling) {
		cachefiles_debug("culling %s\n", culling ? "starts" : "stops");
		cachefiles_stat_wake(cache);
	}
	return ret;
}

/**
 * cachefiles_space_evaluate - Start or stop culling as free space demands
 * @cache: The cache; bound
 *
 * Context: May sleep.
 * Return: 0, or the error of the file system.
 */
int cachefiles_space_evaluate(struct cachefiles_cache *cache)
{
	int ret = cachefiles_space_ask(cache);

	return ret == -ENOBUFS ? 0 : ret;
}

static int cachefiles_space_want(struct cachefiles_cache *cache, unsigned int files, u64 bytes)
{
	might_sleep();

	scoped_guard(spinlock, &cache->space_lock)
		if (cachefiles_space_spend_locked(cache, files, bytes))
			return 0;
	return cachefiles_space_ask(cache);
}

/**
 * cachefiles_space_begin_create - May a file or a directory be made?
 * @cache: The cache; its limits are known
 *
 * Counts as being made until cachefiles_space_end_create(), unless it fails.  Culling
 * starts or stops as free space demands.  In most cases this costs a lock and a few
 * comparisons.
 *
 * Context: May sleep.
 * Return: 0; -ENOBUFS if less than the stop limit would be left; or the error of
 * the file system.
 */
int cachefiles_space_begin_create(struct cachefiles_cache *cache)
{
	int ret;

	atomic_inc(&cache->creating);
	ret = cachefiles_space_want(cache, 1, 0);
	if (ret)
		cachefiles_space_end_create(cache);
	if (ret == -ENOBUFS)
		fscache_count_no_create_space();
	return ret;
}

/**
 * cachefiles_space_end_create - Something was made, or could not be
 * @cache: The cache
 *
 * Context: Any.
 */
void cachefiles_space_end_create(struct cachefiles_cache *cache)
{
	/* Pairs with cachefiles_space_ask(): who does not count it sees that it is there. */
	smp_mb__before_atomic();
	atomic_dec(&cache->creating);
}

/**
 * cachefiles_space_begin_write - May something be written?
 * @cache: The cache; its limits are known
 * @bytes: How much
 *
 * Counts as being written until cachefiles_space_end_write(), unless it fails.
 *
 * Context: May sleep.
 * Return: As cachefiles_space_begin_create().
 */
int cachefiles_space_begin_write(struct cachefiles_cache *cache, u64 bytes)
{
	int ret;

	atomic64_add(bytes, &cache->writing);
	ret = cachefiles_space_want(cache, 0, bytes);
	if (ret)
		cachefiles_space_end_write(cache, bytes);
	if (ret == -ENOBUFS)
		fscache_count_no_write_space();
	return ret;
}

/**
 * cachefiles_space_end_write - Something was written, or could not be
 * @cache: The cache
 * @bytes: What cachefiles_space_begin_write() was told
 *
 * Context: Any.
 */
void cachefiles_space_end_write(struct cachefiles_cache *cache, u64 bytes)
{
	/* As in cachefiles_space_end_create(). */
	smp_mb__before_atomic();
	atomic64_sub(bytes, &cache->writing);
}
