// SPDX-License-Identifier: GPL-2.0-only
/*
 * Forced ids, set through debugfs.  See force.h.
 */
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/limits.h>
#include <linux/module.h>
#include <linux/spinlock.h>
#include "force.h"

/**
 * struct cachefiles_forced - An id that somebody is to get
 * @set: Nobody has got it yet (lock).
 * @id: Where to look for it first (lock).
 */
struct cachefiles_forced {
	bool	set;
	u32	id;
};

static const char * const cachefiles_force_names[CACHEFILES_FORCE_NR] = {
	[CACHEFILES_FORCE_MSG_ID]	= "next_msg_id",
	[CACHEFILES_FORCE_OBJECT_ID]	= "next_object_id",
};

static DEFINE_SPINLOCK(cachefiles_forced_lock);
static struct cachefiles_forced cachefiles_forced[CACHEFILES_FORCE_NR];

/**
 * cachefiles_force_id - Let the search for an id go on where a test wants it to
 * @which: What the id is of.
 * @id: Where the search goes on; replaced if an id is set.
 *
 * Takes effect once for each time that an id is set, for whoever comes first.
 *
 * Context: any but interrupts.
 */
void cachefiles_force_id(enum cachefiles_force which, u32 *id)
{
	struct cachefiles_forced *forced = &cachefiles_forced[which];

	guard(spinlock)(&cachefiles_forced_lock);
	if (forced->set)
		*id = forced->id;
	forced->set = false;
}

static int cachefiles_force_set(void *data, u64 id)
{
	struct cachefiles_forced *forced = data;

	if (id > U32_MAX)
		return -ERANGE;
	guard(spinlock)(&cachefiles_forced_lock);
	forced->set = true;
	forced->id = id;
	return 0;
}

DEFINE_DEBUGFS_ATTRIBUTE(cachefiles_force_fops, NULL, cachefiles_force_set, "%llu\n");

/**
 * cachefiles_force_init - Let ids be forced
 * @dir: Directory of the module in debugfs; the files go with it.
 */
void __init cachefiles_force_init(struct dentry *dir)
{
	for (int i = 0; i < CACHEFILES_FORCE_NR; i++)
		debugfs_create_file_unsafe(cachefiles_force_names[i], 0200, dir,
					   &cachefiles_forced[i], &cachefiles_force_fops);
}
