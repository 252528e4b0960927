// SPDX-License-Identifier: GPL-2.0-only
/* A system call that another thread makes; see task.h. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "cache.h"
#include "daemon.h"
#include "task.h"

static void *task_main(void *arg)
{
	struct cf_task *t = arg;

	atomic_store(&t->id, gettid());
	t->ret = t->fn(t->arg);
	eventfd_write(t->event, 1);
	return NULL;
}

int cf_task_start(struct cf_task *t, int (*fn)(void *arg), void *arg)
{
	int ret;

	t->fn = fn;
	t->arg = arg;
	atomic_init(&t->id, 0);
	t->event = eventfd(0, EFD_CLOEXEC);
	if (t->event < 0)
		return -errno;
	ret = pthread_create(&t->thread, NULL, task_main, t);
	if (ret)
		close(t->event);
	return -ret;
}

int cf_task_wait(struct cf_task *t, int *ret, int ms)
{
	if (cf_poll(t->event, POLLIN, cf_ms(ms)) <= 0)
		return -ETIMEDOUT;
	pthread_join(t->thread, NULL);
	close(t->event);
	*ret = t->ret;
	return 0;
}

/* Wait until @state is the letter that stat has for thread @id. */
static int task_until(pid_t id, char state, int ms)
{
	long long end = cf_now() + cf_ms(ms);
	char path[32], text[256];
	const char *name;
	int ret;

	snprintf(path, sizeof(path), "/proc/%d/stat", id);
	do {
		ret = cf_read_file(path, text, sizeof(text));
		if (ret < 0)
			return ret;
		/* Its state follows its name, which is in brackets and may have some. */
		name = strrchr(text, ')');
		if (name && name[1] == ' ' && name[2] == state)
			return 0;
	} while (cf_now() < end && !poll(NULL, 0, 1));
	return -ETIMEDOUT;
}

int cf_task_sleeps(pid_t id, int ms)
{
	return task_until(id, 'S', ms);
}

int cf_task_blocks(pid_t id, int ms)
{
	return task_until(id, 'D', ms);
}

/* How often thread @id has gone to sleep, or a negative errno. */
static long task_switches(pid_t id)
{
	static const char what[] = "\nvoluntary_ctxt_switches:";
	char path[32], text[4096];
	const char *nr;
	int ret;

	snprintf(path, sizeof(path), "/proc/%d/status", id);
	ret = cf_read_file(path, text, sizeof(text));
	if (ret < 0)
		return ret;
	nr = strstr(text, what);
	return nr ? atol(nr + strlen(what)) : -EPROTO;
}

int cf_task_waits(struct cf_task *t, int ms)
{
	long long end = cf_now() + cf_ms(ms);
	long before, after;
	pid_t id;
	int ret;

	do {
		id = atomic_load(&t->id);
	} while (!id && cf_now() < end && !poll(NULL, 0, 1));
	if (!id)
		return -ETIMEDOUT;
	do {
		ret = cf_task_blocks(id, ms);
		if (ret)
			return ret;
		before = task_switches(id);
		poll(NULL, 0, cf_ms(50));
		after = task_switches(id);
		if (before < 0 || after < 0)
			return before < 0 ? before : after;
		if (before == after && !cf_task_blocks(id, 0))
			return 0;
	} while (cf_now() < end);
	return -ETIMEDOUT;
}

int cf_task_where(struct cf_task *t, char *where, size_t size, int ms)
{
	int ret = cf_task_waits(t, ms);
	char path[48];

	if (ret)
		return ret;
	snprintf(path, sizeof(path), "/proc/self/task/%d/wchan", atomic_load(&t->id));
	if (cf_read_file(path, where, size) < 0 || !strcmp(where, "0"))
		where[0] = '\0';
	return 0;
}
