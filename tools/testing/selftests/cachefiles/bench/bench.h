/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the benchmark programs share: clocks, series of measurements and their
 * output, shared memory, a cache with a mount.
 *
 * Run by scripts/bench.sh in a virtual machine.  Results are appended to the
 * file $BENCH_RESULTS, one JSON object a line and series; what is printed is
 * progress.  A program that cannot measure says why and exits with 1.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/daemon.h"

#define KIB		1024UL
#define MIB		(1024UL * KIB)

#define BENCH_INSNS	"instructions"

/*
 * Under -icount shift=0 the time stamp counter counts instructions, and what a
 * machine without work waits, as if it had executed an instruction a nanosecond.
 */
static inline uint64_t bench_insns(void)
{
	return __builtin_ia32_rdtsc();
}

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t bench_ns(void);

/* One measured quantity; zero but for the names. */
struct bench_series {
	const char	*test;		/* group, as in "fetch" */
	const char	*what;		/* case in the group, as in "4 KiB" */
	const char	*metric;	/* quantity, as in "total" */
	const char	*unit;
	double		*value;
	size_t		nr, room;
};

void bench_add(struct bench_series *s, double value);
double bench_median(struct bench_series *s);
double bench_report(struct bench_series *s);
void bench_one(const char *test, const char *what, const char *metric, const char *unit,
	       double value);

void bench_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void bench_die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Die with errno unless @cond. */
#define bench_check(cond)						\
do {									\
	if (!(cond))							\
		bench_die("%s:%d: %s: %m", __FILE__, __LINE__, #cond);	\
} while (0)

/* Die unless a function of lib/daemon.h succeeded; yields its result. */
#define bench_ok(call)							\
({									\
	long __ret = (call);						\
									\
	if (__ret < 0) {						\
		errno = -__ret;						\
		bench_die("%s:%d: %s: %m", __FILE__, __LINE__, #call);	\
	}								\
	__ret;								\
})

void *bench_shared(size_t size);
char *bench_source(size_t size);
void bench_write_file(const char *path, const char *text);
void bench_drop_caches(void);
void bench_pin(int cpu);
void bench_fifo(void);
void bench_many_files(void);

/* A bound cache, its directory new and empty, in @store; returns the device. */
int bench_bind(const char *store, const char *name);

/* Mount ondemandfs, with a volume key of that name, on @where, which is made. */
void bench_mount(const char *volume, const char *where);
void bench_umount(const char *where);

#endif /* BENCH_H */
