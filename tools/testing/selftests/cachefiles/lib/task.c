// SPDX-License-Identifier: GPL-2.0-only
/* A system call that another thread makes; see task.h. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
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

int cf_task_waits(struct cf_task *t, int ms)
{
	long long end = cf_now() + cf_ms(ms);
	pid_t id;

	do {
		id = atomic_load(&t->id);
	} while (!id && cf_now() < end && !poll(NULL, 0, 1));
	return id ? cf_task_blocks(id, ms) : -ETIMEDOUT;
}
