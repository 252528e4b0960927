// SPDX-License-Identifier: GPL-2.0-only
/* What the benchmark programs share; see bench.h. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

uint64_t bench_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

void bench_say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

void bench_die(const char *fmt, ...)
{
	int err = errno;
	va_list ap;

	printf("FAILED: ");
	errno = err;
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	_exit(1);
}

void bench_add(struct bench_series *s, double value)
{
	if (s->nr == s->room) {
		s->room = s->room ? 2 * s->room : 64;
		s->value = realloc(s->value, s->room * sizeof(*s->value));
		bench_check(s->value);
	}
	s->value[s->nr++] = value;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double bench_median(struct bench_series *s)
{
	if (!s->nr)
		bench_die("%s, %s, %s: nothing was measured", s->test, s->what, s->metric);
	qsort(s->value, s->nr, sizeof(*s->value), by_value);
	return (s->value[(s->nr - 1) / 2] + s->value[s->nr / 2]) / 2;
}

/* Write a series out and empty it: its median. */
double bench_report(struct bench_series *s)
{
	const char *path = getenv("BENCH_RESULTS");
	double median = bench_median(s);
	FILE *f = path ? fopen(path, "a") : stdout;

	bench_check(f);
	fprintf(f, "{\"test\": \"%s\", \"case\": \"%s\", \"metric\": \"%s\", \"unit\": \"%s\", ",
		s->test, s->what, s->metric, s->unit);
	fprintf(f, "\"n\": %zu, \"median\": %.10g, \"p10\": %.10g, \"p90\": %.10g, ", s->nr, median,
		s->value[(s->nr - 1) / 10], s->value[(s->nr - 1) * 9 / 10]);
	fprintf(f, "\"min\": %.10g, \"max\": %.10g}\n", s->value[0], s->value[s->nr - 1]);
	if (path)
		bench_check(!fclose(f));
	s->nr = 0;
	return median;
}

void bench_one(const char *test, const char *what, const char *metric, const char *unit,
	       double value)
{
	struct bench_series s = { .test = test, .what = what, .metric = metric, .unit = unit };

	bench_add(&s, value);
	bench_report(&s);
	free(s.value);
}

/* Memory that is shared with children and takes no faults. */
void *bench_shared(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	bench_check(p != MAP_FAILED);
	memset(p, 0, size);
	return p;
}

/* What a daemon serves: a mapped file in memory, read without a fault. */
char *bench_source(size_t size)
{
	int fd = memfd_create("source", MFD_CLOEXEC);
	char *p;

	bench_check(fd >= 0);
	bench_check(!ftruncate(fd, size));
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	bench_check(p != MAP_FAILED);
	cf_pattern(1, 0, p, size);
	close(fd);
	return p;
}

void bench_write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		bench_die("%s: %m", path);
	close(fd);
}

void bench_drop_caches(void)
{
	sync();
	bench_write_file("/proc/sys/vm/drop_caches", "3");
}

void bench_pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	bench_check(!sched_setaffinity(0, sizeof(set), &set));
}

/* From here on nobody who is woken up takes the processor away. */
void bench_fifo(void)
{
	struct sched_param p = { .sched_priority = 1 };

	bench_write_file("/proc/sys/kernel/sched_rt_runtime_us", "-1");
	bench_check(!sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &p));
}

void bench_many_files(void)
{
	struct rlimit limit = { .rlim_cur = 65536, .rlim_max = 65536 };

	bench_check(!setrlimit(RLIMIT_NOFILE, &limit));
}

int bench_bind(const char *store, const char *name)
{
	char dir[256];
	int dev;

	snprintf(dir, sizeof(dir), "%s/%s", store, name);
	bench_check(!mkdir(dir, 0700));
	dev = bench_ok(cf_device());
	bench_ok(cf_bind(dev, dir, NULL));
	return dev;
}

void bench_mount(const char *volume, const char *where)
{
	bench_check(!mkdir(where, 0700) || errno == EEXIST);
	if (mount(volume, where, "ondemandfs", MS_RDONLY, NULL))
		bench_die("mount ondemandfs %s on %s: %m", volume, where);
}

void bench_umount(const char *where)
{
	if (umount2(where, 0))
		bench_die("umount %s: %m", where);
}
