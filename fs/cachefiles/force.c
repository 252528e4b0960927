// SPDX-License-Identifier: GPL-2.0-only
/*
 * Forced numbers, set through debugfs.  See force.h.
 */
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/limits.h>
#include <linux/module.h>
#include <linux/spinlock.h>
#include "force.h"

/**
 * struct cachefiles_forced - A number that somebody is to get
 * @set: Nobody has got it yet (lock).
 * @number: The number (lock).
 */
struct cachefiles_forced {
	bool	set;
	u32	number;
};

static const char * const cachefiles_force_names[CACHEFILES_FORCE_NR] = {
	[CACHEFILES_FORCE_MSG_ID]	= "next_msg_id",
	[CACHEFILES_FORCE_OBJECT_ID]	= "next_object_id",
	[CACHEFILES_FORCE_NOTES]	= "max_notes",
};

static DEFINE_SPINLOCK(cachefiles_forced_lock);
static struct cachefiles_forced cachefiles_forced[CACHEFILES_FORCE_NR];

/**
 * cachefiles_force_number - Put in the number that a test wants
 * @which: What it is of.
 * @number: Replaced if one is set.
 *
 * Takes effect once for each time that a number is set, for whoever comes first.
 *
 * Context: any but interrupts.
 */
void cachefiles_force_number(enum cachefiles_force which, u32 *number)
{
	struct cachefiles_forced *forced = &cachefiles_forced[which];

	guard(spinlock)(&cachefiles_forced_lock);
	if (forced->set)
		*number = forced->number;
	forced->set = false;
}

static int cachefiles_force_set(void *data, u64 number)
{
	struct cachefiles_forced *forced = data;

	if (number > U32_MAX)
		return -ERANGE;
	guard(spinlock)(&cachefiles_forced_lock);
	forced->set = true;
	forced->number = number;
	return 0;
}

DEFINE_DEBUGFS_ATTRIBUTE(cachefiles_force_fops, NULL, cachefiles_force_set, "%llu\n");

/**
 * cachefiles_force_init - Let numbers be forced
 * @dir: Directory of the module in debugfs; the files go with it.
 */
void __init cachefiles_force_init(struct dentry *dir)
{
	for (int i = 0; i < CACHEFILES_FORCE_NR; i++)
		debugfs_create_file_unsafe(cachefiles_force_names[i], 0200, dir,
					   &cachefiles_forced[i], &cachefiles_force_fops);
}
