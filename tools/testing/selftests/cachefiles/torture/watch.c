// SPDX-License-Identifier: GPL-2.0-only
/*
 * The watcher: reports tasks that sleep where no signal reaches them.
 *
 * Those who wait for a daemon are killed after some time, to see whether they can be;
 * that is longer than the supervisor lets readers wait.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "torture/torture.h"
#include "lib/watch.h"

#define KILL_MS		20000

static void tell(const struct cf_sleeper *s, long long ms, const char *stack)
{
	/* Without the supervisor nobody would tell. */
	if (s->kind == CF_ALIVE && s->pid != getppid())
		kill(s->pid, SIGKILL);
	else
		fault("%s %d is in state D for %lld ms%s:\n%s", s->name, s->tid, ms,
		      s->kind == CF_DOOMED ? ", and killing does not end it" : "", stack);
}

void watch(pid_t supervisor)
{
	const int limits[CF_SLEEPS] = {
		[CF_DOOMED] = cf_ms(CF_DOOMED_MS), [CF_KTHREAD] = cf_ms(CF_KTHREAD_MS),
		[CF_ALIVE] = cf_ms(KILL_MS),
	};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	cf_close_others(NULL, 0);
	while (getppid() == supervisor) {
		if (cf_watch(limits, tell) < 0)
			_exit(40);
		usleep(CF_LOOK * 1000);
	}
	_exit(0);
}
