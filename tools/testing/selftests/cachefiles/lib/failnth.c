// SPDX-License-Identifier: GPL-2.0-only
/* Failing allocations and user copies; see failnth.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "failnth.h"

int cf_fail_count;
static __thread int fail_fd = -1;

int cf_fail_init(void)
{
	static const struct setting {
		const char	*file, *text;
	} settings[] = {
		{ "/sys/kernel/debug/failslab/ignore-gfp-wait", "N" },
		{ "/sys/kernel/debug/failslab/verbose", "0" },
		{ "/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N" },
		{ "/sys/kernel/debug/fail_page_alloc/min-order", "0" },
		{ "/sys/kernel/debug/fail_page_alloc/verbose", "0" },
		{ NULL }
	};
	const struct setting *set;

	for (set = settings; set->file; set++) {
		int fd = open(set->file, O_WRONLY | O_CLOEXEC);

		if (fd < 0)
			continue;
		if (write(fd, set->text, 1) != 1)
			perror(set->file);
		close(fd);
	}
	fail_fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	return fail_fd < 0 ? -errno : 0;
}

void cf_fail_nth(int n)
{
	char buf[16];
	int len = snprintf(buf, sizeof(buf), "%d", n);

	/* The kernel's own copy of these digits may be the one that fails. */
	if (pwrite(fail_fd, buf, len, 0) != len && pwrite(fail_fd, buf, len, 0) != len)
		perror("fail-nth");
}

int cf_fail_left(void)
{
	char buf[16] = "";
	/* Nor has anything failed so far if this read is what fails. */
	int left = pread(fail_fd, buf, sizeof(buf) - 1, 0) > 0 ? atoi(buf) : -1;

	cf_fail_nth(0);
	return left;
}

bool cf_fail_done(void)
{
	bool hit = cf_fail_left() == 0;

	cf_fail_count += hit;
	return hit;
}
