// SPDX-License-Identifier: GPL-2.0-only
/*
 * watcher COMMAND [ARGUMENT]...
 *
 * Runs COMMAND, looks at all threads of the machine meanwhile, and says "not ok" of each
 * that stays where no signal reaches it, in one sleep in state D:
 *
 * - for 5 s, one that is killed or exits. No test is an exception: who waits for a daemon,
 *   or for room in the cache, has to go then, even with the disk stopped below;
 * - for 20 s, one of the kernel. What the tests freeze or stop is let go before;
 * - for 120 s, any other. He may wait for a daemon as long as a test lets him, but none of
 *   them has time for that.
 *
 * Times are multiplied by CF_TIME_SCALE. After COMMAND it goes on while there is one of the
 * first kind, who may have been left behind. The status is that of COMMAND, as a shell has
 * it, or 127 without one; "not ok" is all that it says itself.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/daemon.h"
#include "lib/watch.h"

#define ALIVE_MS	120000
/* Seldom enough to take a fortieth of a processor on an emulated machine. */
#define LOOK_MS		1000

/* In one piece, and at the beginning of a line: a test program prints to the same place. */
static void tell(const struct cf_sleeper *s, long long ms, const char *stack)
{
	static const char * const why[CF_SLEEPS] = {
		[CF_DOOMED] = " though killed", [CF_KTHREAD] = ", of the kernel", [CF_ALIVE] = "",
	};
	char text[4096], *end = text + sizeof(text) - 2, *at = text;

	at += snprintf(at, end - at, "\nnot ok 0 watcher # task %d (%s) was ", s->tid, s->name);
	at += snprintf(at, end - at, "in state D for more than %lld s%s\n", ms / 1000,
		       why[s->kind]);
	while (*stack && at < end - 2) {
		size_t len = strcspn(stack, "\n");

		at += snprintf(at, end - at, "#   %.*s\n", (int)len, stack);
		stack += len + (stack[len] == '\n');
	}
	if (at > end)
		at = end;
	if (write(STDOUT_FILENO, text, at - text) < 0)
		perror("watcher");
}

int main(int argc, char **argv)
{
	const int limits[CF_SLEEPS] = {
		[CF_DOOMED] = cf_ms(CF_DOOMED_MS), [CF_KTHREAD] = cf_ms(CF_KTHREAD_MS),
		[CF_ALIVE] = cf_ms(ALIVE_MS),
	};
	struct pollfd p = { .events = POLLIN };
	int status = 0, n = 0;
	long long end = 0;
	pid_t pid;

	pid = argc > 1 ? fork() : -1;
	if (!pid) {
		execvp(argv[1], argv + 1);
		perror(argv[1]);
		_exit(127);
	}
	p.fd = pid < 0 ? -1 : cf_pidfd(pid);
	if (p.fd < 0) {
		printf("not ok 0 watcher # nothing to run\n");
		return 127;
	}
	while (n >= 0 && (!end || (n && cf_now() < end))) {
		/* Who fell asleep before the end has had his time then. */
		if (poll(&p, !end, LOOK_MS) > 0)
			end = cf_now() + limits[CF_DOOMED] + 2 * LOOK_MS;
		n = cf_watch(limits, tell);
	}
	if (waitpid(pid, &status, 0) < 0)
		n = -errno;
	if (n < 0)
		printf("\nnot ok 0 watcher # has not seen all: %s\n", strerror(-n));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
