/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Delay points of the module: stop a task of the kernel at a place with a name, and let
 * it go on. fs/cachefiles/delay.h lists the places. And forced ids: those that nobody can
 * wait for.
 */
#ifndef CF_DELAY_H
#define CF_DELAY_H

#include <linux/types.h>

#define CF_DEBUGFS	"/sys/kernel/debug"
/* Each open of it is a trap; reading one that is not set lists the places. */
#define CF_DELAY_POINTS	CF_DEBUGFS "/cachefiles/delay"

#define CF_NO_DELAY "no delay points (CONFIG_CACHEFILES_DEBUG)"
/* 0, or a negative errno where there are none. */
int cf_delay_init(void);

/*
 * Set a trap for the next task that comes to @point, or the one after @skip others: a
 * descriptor, or a negative errno. Closing it lets the task go.
 */
int cf_delay_arm(const char *point, unsigned int skip);
/* Wait until somebody is in it: the thread's id, -ETIMEDOUT, or -ESRCH if it has gone. */
int cf_delay_caught(int trap, int ms);
/* Let it go on, and remove the trap: 0, or -ESRCH if there was nobody any more. */
int cf_delay_go(int trap);

#define CF_NO_FORCED_IDS "no forced ids (CONFIG_CACHEFILES_DEBUG)"
/*
 * Let the search for a free id begin at @id: that of the next message, or of the next
 * descriptor of an object, whatever cache it is of. After cf_delay_init(); 0 or a negative
 * errno.
 */
int cf_force_msg_id(__u32 id);
int cf_force_object_id(__u32 id);
/* Likewise: how many invalidations a volume remembers when the next one is noted. */
int cf_force_notes(__u32 max);

#endif /* CF_DELAY_H */
