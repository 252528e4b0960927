/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A read(2) of the device that is parked in the kernel, between taking a
 * message and returning it, until the test lets it go on or makes it fail.
 */
#ifndef CF_STALL_H
#define CF_STALL_H

#include <pthread.h>

#include "daemon.h"

struct cf_stall {
	int		dev;
	int		uffd;
	void		*page;
	int		ret;
	pthread_t	thread;
};

/* -ENOSYS and the like when the kernel has no userfaultfd to park with. */
int cf_stall_start(struct cf_stall *s, int dev);
int cf_stall_parked(struct cf_stall *s, int ms);
int cf_stall_finish(struct cf_stall *s, struct cf_msg *m);
int cf_stall_fail(struct cf_stall *s);

#endif /* CF_STALL_H */
