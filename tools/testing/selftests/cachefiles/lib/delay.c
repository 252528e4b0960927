// SPDX-License-Identifier: GPL-2.0-only
/* Delay points of the module; see delay.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "cache.h"
#include "daemon.h"
#include "delay.h"

static int trap_open(void)
{
	int fd = open(CF_DELAY_POINTS, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int cf_delay_init(void)
{
	int fd = trap_open();

	if (fd == -ENOENT) {
		mount("debugfs", CF_DEBUGFS, "debugfs", 0, NULL);
		fd = trap_open();
	}
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

int cf_delay_arm(const char *point, unsigned int skip)
{
	int fd = trap_open();
	char cmd[64];
	int n, ret;

	if (fd < 0)
		return fd;
	n = snprintf(cmd, sizeof(cmd), "%s %u", point, skip);
	if (write(fd, cmd, n) == n)
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

int cf_delay_caught(int trap, int ms)
{
	int ret = cf_poll(trap, POLLIN, cf_ms(ms));
	char tid[32] = "";

	if (ret <= 0)
		return ret ? ret : -ETIMEDOUT;
	if (!(ret & POLLIN) || pread(trap, tid, sizeof(tid) - 1, 0) <= 0)
		return -ESRCH;
	return atoi(tid);
}

int cf_delay_go(int trap)
{
	int ret = write(trap, "go", 2) == 2 ? 0 : -errno;

	close(trap);
	return ret;
}

static int force_id(const char *file, __u32 id)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", id);
	return cf_write_file(file, text);
}

int cf_force_msg_id(__u32 id)
{
	return force_id(CF_DEBUGFS "/cachefiles/next_msg_id", id);
}

int cf_force_object_id(__u32 id)
{
	return force_id(CF_DEBUGFS "/cachefiles/next_object_id", id);
}

int cf_force_notes(__u32 max)
{
	return force_id(CF_DEBUGFS "/cachefiles/max_notes", max);
}
