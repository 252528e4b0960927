/* SPDX-License-Identifier: GPL-2.0-only */
/* A system call that another thread makes, and its result as something to wait for. */
#ifndef CF_TASK_H
#define CF_TASK_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

struct cf_task {
	int		(*fn)(void *arg);
	void		*arg;
	int		ret;
	int		event;
	atomic_int	id;		/* of the thread, once it runs */
	pthread_t	thread;
};

/* Call @fn in a thread of this process: 0 or a negative errno. */
int cf_task_start(struct cf_task *t, int (*fn)(void *arg), void *arg);
/* Has it returned? 0 with the result in @ret, or -ETIMEDOUT; to be called until it has. */
int cf_task_wait(struct cf_task *t, int *ret, int ms);

/* Wait until thread @id sleeps in a system call: 0, -ETIMEDOUT, or -ENOENT if it has ended. */
int cf_task_sleeps(pid_t id, int ms);
/* The same for a sleep that no handler of a signal ends, as all waits for the daemon are. */
int cf_task_blocks(pid_t id, int ms);
/* And for @t, from when it was started on: for a while, as what is short will be over. */
int cf_task_waits(struct cf_task *t, int ms);
/* The same, with the kernel's name of the function it is in; "" if the kernel does not tell. */
int cf_task_where(struct cf_task *t, char *where, size_t size, int ms);

#endif /* CF_TASK_H */
