// SPDX-License-Identifier: GPL-2.0-only
/* Waiting for a move of the on-demand protocol; see trace.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon.h"
#include "trace.h"

#define INSTANCE	"/sys/kernel/tracing/instances/cf_selftest"

static int put(const char *file, const char *value)
{
	char path[128];
	int fd, ret;

	snprintf(path, sizeof(path), INSTANCE "/%s", file);
	fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = write(fd, value, strlen(value)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

int cf_trace_start(void)
{
	int fd, ret;

	/* What a program that died has left is as good as new. */
	if (mkdir(INSTANCE, 0700) && errno != EEXIST)
		return -errno;
	put("trace", "");
	put("buffer_percent", "0");
	ret = put("events/cachefiles/cachefiles_req_state/enable", "1");
	if (ret)
		return ret;
	fd = open(INSTANCE "/trace_pipe", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int cf_trace_wait(int trace, const char *what, int ms)
{
	long long end = cf_now() + cf_ms(ms);
	static char text[65536];
	size_t have = 0;
	char *last;
	ssize_t n;

	for (;;) {
		n = read(trace, text + have, sizeof(text) - 1 - have);
		if (n < 0 && errno != EAGAIN)
			return -errno;
		if (n > 0) {
			have += n;
			text[have] = '\0';
			if (strstr(text, what))
				return 0;
			/* The rest of a line may be still to come. */
			last = strrchr(text, '\n');
			last = last ? last + 1 : text;
			have = text + have - last;
			memmove(text, last, have);
			continue;
		}
		if (cf_now() >= end)
			return -ETIMEDOUT;
		cf_poll(trace, POLLIN, 10);
	}
}

void cf_trace_stop(int trace)
{
	if (trace >= 0)
		close(trace);
	put("events/cachefiles/cachefiles_req_state/enable", "0");
	rmdir(INSTANCE);
}
