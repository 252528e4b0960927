// SPDX-License-Identifier: GPL-2.0-only
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/cache.h"
#include "lib/daemon.h"
#include "lib/watch.h"

#define SIGKILL_BIT	(1ULL << (SIGKILL - 1))
/* As /proc/PID/stat shows them; an empty command line is that of one who exits as well. */
#define PF_EXITING	0x00000004
#define PF_KTHREAD	0x00200000
/* A look that comes later than this has missed what there was to see. */
#define LATE		(4 * CF_LOOK)

static struct cf_sleeper *sleepers;
static unsigned int nr_sleepers, room;
static long long seen;			/* milliseconds, as far as somebody has looked */

/* The field of that number of proc_pid_stat(5), which is beyond the name: that ends at @end. */
static const char *field(const char *end, int nr)
{
	for (; end && nr > 2; nr--) {
		end = strchr(end, ' ');
		if (end)
			end++;
	}
	return end ? end : "";
}

/* What "stat" says, of a process or a thread: its state, or '\0' if it is gone. */
static char read_stat(const char *path, struct cf_sleeper *s, int *threads)
{
	char text[1024], *end;

	if (cf_read_file(path, text, sizeof(text)) <= 0)
		return '\0';
	/* The name may have any characters, these too. */
	end = strrchr(text, ')');
	s->flags = strtoul(field(end, 9), NULL, 10);
	*threads = atoi(field(end, 20));
	s->start = strtoull(field(end, 22), NULL, 10);
	return *field(end, 3);
}

/* How often it has been switched away from, and is it killed? False if it is gone. */
static bool read_status(const char *path, struct cf_sleeper *s)
{
	unsigned long long willing, unwilling, own, shared;
	char text[4096], *at;

	if (cf_read_file(path, text, sizeof(text)) <= 0)
		return false;
	at = strstr(text, "\nState:\t");
	if (!at || at[8] != 'D')
		return false;
	at = strstr(text, "\nvoluntary_ctxt_switches:");
	if (!at || sscanf(at, "\nvoluntary_ctxt_switches: %llu\nnonvoluntary_ctxt_switches: %llu",
			  &willing, &unwilling) != 2)
		return false;
	s->switches = willing + unwilling;
	at = strstr(text, "\nSigPnd:");
	if (!at || sscanf(at, "\nSigPnd: %llx\nShdPnd: %llx", &own, &shared) != 2)
		return false;
	/* One who exits has taken the signal already. */
	if (s->flags & PF_KTHREAD)
		s->kind = CF_KTHREAD;
	else if (s->flags & PF_EXITING || (own | shared) & SIGKILL_BIT)
		s->kind = CF_DOOMED;
	else
		s->kind = CF_ALIVE;
	if (sscanf(text, "Name:\t%31s", s->name) != 1)
		*s->name = '\0';
	return true;
}

/* The same one in the same sleep as before, or a new one; NULL without memory. */
static struct cf_sleeper *remember(const struct cf_sleeper *now)
{
	struct cf_sleeper *s;

	for (s = sleepers; s < sleepers + nr_sleepers; s++) {
		if (s->tid != now->tid)
			continue;
		if (s->start == now->start && s->switches == now->switches &&
		    s->kind == now->kind)
			return s;
		break;
	}
	if (s == sleepers + nr_sleepers) {
		if (nr_sleepers == room) {
			s = realloc(sleepers, (room + 256) * sizeof(*s));
			if (!s)
				return NULL;
			sleepers = s;
			room += 256;
		}
		s = &sleepers[nr_sleepers++];
	}
	*s = *now;
	s->since = seen;
	return s;
}

/* One that is in state D, as "stat" has just said. */
static int look_closer(struct cf_sleeper *now, const int limits[CF_SLEEPS], cf_tell_fn tell)
{
	char path[64], stack[2048];
	struct cf_sleeper *s;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", now->pid, now->tid);
	if (!read_status(path, now))
		return 0;
	s = remember(now);
	if (!s)
		return -ENOMEM;
	s->here = true;
	if (!s->told && seen - s->since > limits[s->kind]) {
		s->told = true;
		snprintf(path, sizeof(path), "/proc/%d/task/%d/stack", s->pid, s->tid);
		if (cf_read_file(path, stack, sizeof(stack)) < 0)
			*stack = '\0';
		tell(s, seen - s->since, stack);
	}
	return s->kind == CF_DOOMED && !s->told;
}

/* The next number in @d, or 0. */
static int next_number(DIR *d)
{
	struct dirent *de;

	while ((de = readdir(d))) {
		if (isdigit(de->d_name[0]))
			return atoi(de->d_name);
	}
	return 0;
}

static int look_at(int pid, const int limits[CF_SLEEPS], cf_tell_fn tell)
{
	struct cf_sleeper now = { .pid = pid, .tid = pid };
	int threads, tid, ret = 0, n = 0;
	char path[64], state;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	state = read_stat(path, &now, &threads);
	if (!state)
		return 0;
	if (threads <= 1)
		return state == 'D' ? look_closer(&now, limits, tell) : 0;
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	if (!d)
		return 0;
	while (ret >= 0 && (tid = next_number(d))) {
		now = (struct cf_sleeper) { .pid = pid, .tid = tid };
		snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
		if (read_stat(path, &now, &threads) != 'D')
			continue;
		ret = look_closer(&now, limits, tell);
		n += ret;
	}
	closedir(d);
	return ret < 0 ? ret : n;
}

int cf_watch(const int limits[CF_SLEEPS], cf_tell_fn tell)
{
	static long long last;
	long long now = cf_now();
	unsigned int kept = 0;
	int pid, ret = 0, n = 0;
	DIR *d;

	if (last)
		seen += now - last < LATE ? now - last : LATE;
	last = now;
	d = opendir("/proc");
	if (!d)
		return -errno;
	while (ret >= 0 && (pid = next_number(d))) {
		ret = look_at(pid, limits, tell);
		n += ret;
	}
	closedir(d);
	for (unsigned int i = 0; i < nr_sleepers; i++) {
		if (!sleepers[i].here)
			continue;
		sleepers[kept] = sleepers[i];
		sleepers[kept++].here = false;
	}
	nr_sleepers = kept;
	return ret < 0 ? ret : n;
}
