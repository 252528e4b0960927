// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the culling daemon is told: the state of a cache as a line of text, and
 * when there is a reason to read it again.
 */
#include <linux/overflow.h>
#include <linux/poll.h>
#include <linux/uaccess.h>
#include "internal.h"

/* "cull=1", eight more fields of at most 16 digits, and what stands between. */
#define CACHEFILES_STAT_MAX	256

/**
 * cachefiles_stat_changed_locked - There is a reason to read the state again
 * @cache: The cache
 *
 * Context: cache->space_lock is held; cachefiles_stat_wake() follows without it.
 */
void cachefiles_stat_changed_locked(struct cachefiles_cache *cache)
{
	lockdep_assert_held(&cache->space_lock);
	cache->changes++;
}

/**
 * cachefiles_stat_wake - Tell those who poll the device
 * @cache: The cache
 *
 * Context: Any but hard interrupt; no lock is held.
 */
void cachefiles_stat_wake(struct cachefiles_cache *cache)
{
	wake_up_all(&cache->daemon_wait);
}

static void cachefiles_stat_add_locked(struct cachefiles_cache *cache,
				       const struct cachefiles_released *more)
{
	struct cachefiles_released *sum = &cache->released;

	lockdep_assert_held(&cache->space_lock);
	/* Nobody may ever ask; a lot is told better than next to nothing. */
	if (check_add_overflow(sum->files, more->files, &sum->files))
		sum->files = U32_MAX;
	if (check_add_overflow(sum->sectors, more->sectors, &sum->sectors))
		sum->sectors = U64_MAX;
	cachefiles_stat_changed_locked(cache);
}

/**
 * cachefiles_stat_released - A file has become free to be culled
 * @cache: The cache
 * @sectors: Its size on disk, in units of 512 bytes
 *
 * Context: Process; no lock is held.
 */
void cachefiles_stat_released(struct cachefiles_cache *cache, u64 sectors)
{
	const struct cachefiles_released file = { .files = 1, .sectors = sectors };

	scoped_guard(spinlock, &cache->space_lock)
		cachefiles_stat_add_locked(cache, &file);
	cachefiles_stat_wake(cache);
}

/*
 * Format the state for a reader with room for @len bytes, and take what was released:
 * another one who reads meanwhile is told of what comes after that.
 */
static int cachefiles_stat_take(struct cachefiles_cache *cache, char *line, size_t len,
				struct cachefiles_released *taken, u32 *changes)
{
	int n;

	guard(spinlock)(&cache->space_lock);
	n = scnprintf(line, CACHEFILES_STAT_MAX,
		      "cull=%c frun=%llx fcull=%llx fstop=%llx brun=%llx bcull=%llx bstop=%llx freleased=%x breleased=%llx",
		      cache->culling ? '1' : '0',
		      cache->files.run, cache->files.cull, cache->files.stop,
		      cache->blocks.run, cache->blocks.cull, cache->blocks.stop,
		      cache->released.files, cache->released.sectors);
	if (n > len)
		return -EMSGSIZE;
	*taken = cache->released;
	*changes = cache->changes;
	cache->released = (struct cachefiles_released){};
	return n;
}

/* The line did not get to the reader: the next one is told. */
static void cachefiles_stat_give_back(struct cachefiles_cache *cache,
				      const struct cachefiles_released *taken)
{
	if (!taken->files)
		return;
	/* A reader who was told of nothing may have said that there is no news. */
	scoped_guard(spinlock, &cache->space_lock)
		cachefiles_stat_add_locked(cache, taken);
	cachefiles_stat_wake(cache);
}

/**
 * cachefiles_stat_read - Tell the state of a cache
 * @cache: The cache; it is or was bound in original mode
 * @buffer: Where to put the line, which ends neither in a newline nor in a NUL
 * @len: Length of the buffer in bytes
 *
 * Culling starts or stops first, as free space demands.  What was released is told
 * once.
 *
 * Context: Process; may sleep.
 * Return: Length of the line; -EMSGSIZE if the buffer is too small or -EFAULT, and
 * nothing counts as told.
 */
ssize_t cachefiles_stat_read(struct cachefiles_cache *cache, char __user *buffer, size_t len)
{
	struct cachefiles_released taken;
	char line[CACHEFILES_STAT_MAX];
	u32 changes;
	int n;

	/* What is known is worth being told even if the file system says nothing. */
	if (cachefiles_cache_state(cache) == CACHEFILES_CACHE_LIVE)
		cachefiles_space_evaluate(cache);

	n = cachefiles_stat_take(cache, line, len, &taken, &changes);
	if (n < 0)
		return n;
	if (copy_to_user(buffer, line, n)) {
		cachefiles_stat_give_back(cache, &taken);
		return -EFAULT;
	}

	guard(spinlock)(&cache->space_lock);
	/* Unless somebody has been told of more meanwhile. */
	if (cache->changes - changes < cache->changes - cache->changes_told)
		cache->changes_told = changes;
	return n;
}

/**
 * cachefiles_stat_poll - Is there a reason to read the state?
 * @cache: The cache; it is or was bound in original mode
 *
 * Context: Process.
 * Return: EPOLLIN if something has been released, or culling has started or stopped,
 * since it was read.
 */
__poll_t cachefiles_stat_poll(struct cachefiles_cache *cache)
{
	guard(spinlock)(&cache->space_lock);
	return cache->changes != cache->changes_told ? EPOLLIN : 0;
}
