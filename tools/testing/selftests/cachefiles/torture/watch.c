// SPDX-License-Identifier: GPL-2.0-only
/*
 * The watcher: reports tasks that sleep where no signal reaches them.
 *
 * A task that has been killed, or is a helper of the kernel, must not be in state D
 * for long without having run.  Others wait there for a daemon, and are killed
 * after some time, to see whether they can be; that is longer than the supervisor
 * lets readers wait.
 */
#include <ctype.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "torture/torture.h"
#include "lib/cache.h"

#define MAX_STUCK	256
#define LIMIT		5000
#define KERNEL_LIMIT	20000
#define KILL_LIMIT	20000
#define SIGKILL_BIT	(1ULL << (SIGKILL - 1))

static struct stuck {
	int			pid, tid;
	unsigned long long	switches;
	long long		since, killed;
	bool			there;
} stuck[MAX_STUCK];

/* How often it has been switched away from, if it is in state D, and is it killed? */
static bool is_in_d(int pid, int tid, unsigned long long *switches, bool *killed, char name[64])
{
	unsigned long long willing, unwilling, own, shared;
	char path[64], text[4096], *at;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", pid, tid);
	if (cf_read_file(path, text, sizeof(text)) <= 0)
		return false;
	at = strstr(text, "\nState:\t");
	if (!at || at[8] != 'D')
		return false;
	at = strstr(text, "\nvoluntary_ctxt_switches:");
	if (!at || sscanf(at, "\nvoluntary_ctxt_switches: %llu\nnonvoluntary_ctxt_switches: %llu",
			  &willing, &unwilling) != 2)
		return false;
	*switches = willing + unwilling;
	at = strstr(text, "\nSigPnd:");
	*killed = at && sscanf(at, "\nSigPnd: %llx\nShdPnd: %llx", &own, &shared) == 2 &&
		  (own | shared) & SIGKILL_BIT;
	if (sscanf(text, "Name:\t%63s", name) != 1)
		*name = '\0';
	return true;
}

static bool is_of_kernel(int pid)
{
	char path[64], text[64];

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	return cf_read_file(path, text, sizeof(text)) <= 0;
}

static void report(const struct stuck *s, const char *name, const char *what)
{
	char path[64], text[2048];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stack", s->pid, s->tid);
	if (cf_read_file(path, text, sizeof(text)) < 0)
		*text = '\0';
	fault("%s %d is in state D for %lld ms%s:\n%s", name, s->tid, cf_now() - s->since, what,
	      text);
}

static void look_at(int pid, int tid)
{
	struct stuck *s, *unused = NULL;
	unsigned long long switches;
	char name[64];
	bool killed;

	if (!is_in_d(pid, tid, &switches, &killed, name))
		return;
	for (s = stuck; s < stuck + MAX_STUCK; s++) {
		if (s->tid == tid)
			break;
		if (!s->tid)
			unused = s;
	}
	if (s == stuck + MAX_STUCK) {
		s = unused;
		if (!s)
			return;
		*s = (struct stuck) { .pid = pid, .tid = tid, .since = cf_now() };
	} else if (s->switches != switches) {
		s->since = cf_now();
		s->killed = 0;
	}
	s->switches = switches;
	s->there = true;
	if (is_of_kernel(pid)) {
		if (cf_now() - s->since > cf_ms(KERNEL_LIMIT))
			report(s, name, "");
	} else if (killed) {
		if (!s->killed)
			s->killed = cf_now();
		else if (cf_now() - s->killed > cf_ms(LIMIT))
			report(s, name, ", and killing does not end it");
	} else if (cf_now() - s->since > cf_ms(KILL_LIMIT)) {
		/* Without the supervisor nobody would tell. */
		if (pid == getppid())
			report(s, name, "");
		else
			kill(pid, SIGKILL);
	}
}

static void for_numbers(const char *dir, int pid)
{
	struct dirent *de;
	char path[64];
	DIR *d = opendir(dir);

	if (!d)
		return;
	while ((de = readdir(d))) {
		if (!isdigit(de->d_name[0]))
			continue;
		if (pid) {
			look_at(pid, atoi(de->d_name));
		} else {
			snprintf(path, sizeof(path), "/proc/%d/task", atoi(de->d_name));
			for_numbers(path, atoi(de->d_name));
		}
	}
	closedir(d);
}

void watch(pid_t supervisor)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	cf_close_others(NULL, 0);
	while (getppid() == supervisor) {
		for_numbers("/proc", 0);
		for (struct stuck *s = stuck; s < stuck + MAX_STUCK; s++) {
			if (!s->there)
				s->tid = 0;
			s->there = false;
		}
		usleep(500000);
	}
	_exit(0);
}
