/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Forced numbers, set by a test: where the search for a free id goes on, and a limit.
 *
 * An id is used again only after all the others, which no test can wait for.  A number
 * written to cachefiles/next_msg_id in debugfs is the first that is tried for the next
 * message, whatever cache it is of, and one written to cachefiles/next_object_id the
 * first for the next descriptor of an object.  An id that is in use is passed over, as
 * ever, and the ids after that follow from the one that was given.
 *
 * Likewise a number written to cachefiles/max_notes is how many invalidations a volume
 * remembers when the next one is noted.
 *
 * Without CONFIG_CACHEFILES_DEBUG nothing of this is there.
 */
#ifndef CACHEFILES_FORCE_H
#define CACHEFILES_FORCE_H

#include <linux/kconfig.h>
#include <linux/types.h>

struct dentry;

/**
 * enum cachefiles_force - What can be forced
 * @CACHEFILES_FORCE_MSG_ID: "next_msg_id": the id of a message.
 * @CACHEFILES_FORCE_OBJECT_ID: "next_object_id": the id of an object in messages.
 * @CACHEFILES_FORCE_NOTES: "max_notes": how many notes a volume keeps.
 * @CACHEFILES_FORCE_NR: How many there are.
 */
enum cachefiles_force {
	CACHEFILES_FORCE_MSG_ID,
	CACHEFILES_FORCE_OBJECT_ID,
	CACHEFILES_FORCE_NOTES,
	CACHEFILES_FORCE_NR
};

#if IS_ENABLED(CONFIG_CACHEFILES_DEBUG)

void cachefiles_force_number(enum cachefiles_force which, u32 *number);
void cachefiles_force_init(struct dentry *dir);

#else /* CONFIG_CACHEFILES_DEBUG */

static inline void cachefiles_force_number(enum cachefiles_force which, u32 *number)
{
}

static inline void cachefiles_force_init(struct dentry *dir)
{
}

#endif /* CONFIG_CACHEFILES_DEBUG */

#endif /* CACHEFILES_FORCE_H */
