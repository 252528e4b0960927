// SPDX-License-Identifier: GPL-2.0-only
/* Failing allocations and user copies; see failnth.h. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache.h"
#include "failnth.h"

#define FAILSLAB	"/sys/kernel/debug/failslab/"

int cf_fail_count;
static __thread int fail_fd = -1;

int cf_fail_init(void)
{
	static const struct setting {
		const char	*file, *text;
	} settings[] = {
		{ FAILSLAB "ignore-gfp-wait", "N" },
		{ FAILSLAB "verbose", "0" },
		{ FAILSLAB "probability", "0" },
		{ FAILSLAB "require-start", "0" },
		{ FAILSLAB "require-end", "0xffffffffffffffff" },
		{ "/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N" },
		{ "/sys/kernel/debug/fail_page_alloc/min-order", "0" },
		{ "/sys/kernel/debug/fail_page_alloc/verbose", "0" },
		{ NULL }
	};
	const struct setting *s;

	for (s = settings; s->file; s++) {
		int ret = cf_write_file(s->file, s->text);

		if (ret && ret != -ENOENT)
			fprintf(stderr, "%s: %s\n", s->file, strerror(-ret));
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

/* Where the code of @module is: whole pages, that are nobody else's. */
static int code_of(const char *module, unsigned long *start, unsigned long *end)
{
	char line[512], owner[64], wanted[66], type;
	unsigned long at;
	FILE *f = fopen("/proc/kallsyms", "re");

	if (!f)
		return -errno;
	snprintf(wanted, sizeof(wanted), "[%.62s]", module);
	*start = ULONG_MAX;
	*end = 0;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx %c %*s %63s", &at, &type, owner) != 3 ||
		    (type != 't' && type != 'T') || strcmp(owner, wanted))
			continue;
		if (at < *start)
			*start = at;
		if (at >= *end)
			*end = (at | 4095) + 1;
	}
	fclose(f);
	return *end ? 0 : -ENOENT;
}

int cf_fail_module(const char *module)
{
	unsigned long start, end;
	char text[24];
	int ret = code_of(module, &start, &end);

	if (ret)
		return ret;
	snprintf(text, sizeof(text), "0x%lx", start);
	ret = cf_write_file(FAILSLAB "require-start", text);
	snprintf(text, sizeof(text), "0x%lx", end);
	return ret ? ret : cf_write_file(FAILSLAB "require-end", text);
}

int cf_fail_some(int nr, int percent)
{
	char text[24];
	int ret;

	snprintf(text, sizeof(text), "%d", nr);
	ret = cf_write_file(FAILSLAB "times", text);
	/* That arms it. */
	snprintf(text, sizeof(text), "%d", percent);
	return ret ? ret : cf_write_file(FAILSLAB "probability", text);
}

bool cf_fail_some_done(void)
{
	char text[24] = "";
	bool hit;

	if (cf_write_file(FAILSLAB "probability", "0"))
		perror(FAILSLAB "probability");
	hit = cf_read_file(FAILSLAB "times", text, sizeof(text)) > 0 && !atoi(text);
	cf_fail_count += hit;
	return hit;
}
