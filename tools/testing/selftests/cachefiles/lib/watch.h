/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Threads that sleep where no signal reaches them.
 *
 * One who waits for a daemon is in state D, too, but leaves it when he is killed. So a
 * thread that is killed, or is on its way out, must not stay there.
 */
#ifndef CF_WATCH_H
#define CF_WATCH_H

enum cf_sleep {
	CF_DOOMED,			/* killed, or exiting */
	CF_KTHREAD,			/* the kernel's own, which nobody can kill */
	CF_ALIVE,
	CF_SLEEPS
};

struct cf_sleeper {
	int		pid, tid;
	unsigned int	flags;			/* PF_* of the kernel */
	unsigned long long	start;		/* with the tid, who it is */
	unsigned long long	switches;	/* another number is another sleep */
	enum cf_sleep	kind;
	long long	since;
	bool		here, told;
	char		name[32];
};

/* Between two looks, so many milliseconds. */
#define CF_LOOK		500
/* One who is doomed may be in state D for so many milliseconds, times CF_TIME_SCALE. */
#define CF_DOOMED_MS	5000
#define CF_KTHREAD_MS	20000

/* @stack is where it sleeps, empty if the kernel does not say. */
typedef void (*cf_tell_fn)(const struct cf_sleeper *s, long long ms, const char *stack);

/*
 * Look at all threads. @tell is called for each that has been in one sleep, and of one
 * kind, for more than @limits[kind] milliseconds; once. Returns how many of the doomed are
 * in state D now and have not been told of, or a negative errno.
 *
 * One sleep ends with the next context switch: one who waits for a long write-back makes
 * many, and rightly so. Time passes as far as the caller has looked: what the machine, or
 * the caller, was stopped for does not count.
 */
int cf_watch(const int limits[CF_SLEEPS], cf_tell_fn tell);

#endif /* CF_WATCH_H */
