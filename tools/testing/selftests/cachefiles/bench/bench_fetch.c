// SPDX-License-Identifier: GPL-2.0-only
/*
 * bench_fetch STORE [REPEATS]: what a read of missing data costs, from the
 * reader's pread(2) to its return, with a daemon of one thread on the reader's
 * processor that has its data in memory.
 *
 * total	all of it
 * fill		the daemon's pwrite(2)
 * read-back	what the same pread(2) costs when the data are present and in the
 *		page cache of the backing file, as they are after a fill
 * protocol	the rest: total - fill - read-back
 *
 * The rest is split by what daemon and reader see, for the first READ of a read:
 * submit, from pread(2) to the daemon's return from poll(2); deliver, read(2) of
 * the device; answer, from the last READ_COMPLETE to the return of pread(2),
 * which includes the read-back.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define MOUNT_POINT	"/mnt/bench-fetch"
#define STRIDE		(64 * KIB)

/* Written by the daemon, reset by the reader before each read. */
struct trace {
	uint64_t	first_poll;	/* when poll(2) first told of a message */
	uint64_t	last_answer;	/* when the last answer was begun */
	uint64_t	deliver, fill;	/* sums */
	unsigned int	reads;
};

static struct trace *trace;
static char *source;
static char *buffer;

/* The size of a file is in its name, behind the last dash. */
static long long size_of(const struct cf_msg *m)
{
	char key[256];

	return atoll(strrchr(cf_key(m, key), '-') + 1);
}

static void serve_read(const struct cf_msg *m)
{
	const struct cachefiles_read *rd = cf_rd(m);
	uint64_t t = bench_insns();
	ssize_t ret;

	ret = pwrite(rd->fd, source + rd->off % MIB, rd->len, rd->off);
	if (ret != (ssize_t)rd->len)
		bench_die("pwrite %lld: %zd, %m", (long long)rd->len, ret);
	/* All that is noted has to be there when the reader goes on. */
	trace->last_answer = bench_insns();
	trace->fill += trace->last_answer - t;
	trace->reads++;
	ioctl(rd->fd, CACHEFILES_IOC_READ_COMPLETE, (unsigned long)m->hdr.msg_id);
}

static void daemon_main(int dev)
{
	struct pollfd p = { .fd = dev, .events = POLLIN };
	static struct cf_msg m;

	for (;;) {
		uint64_t t;

		poll(&p, 1, -1);
		t = bench_insns();
		if (read(dev, m.raw, sizeof(m.raw)) <= 0)
			continue;
		switch (m.hdr.opcode) {
		case CACHEFILES_OP_OPEN:
			bench_ok(cf_copen(dev, m.hdr.msg_id, size_of(&m)));
			break;
		case CACHEFILES_OP_READ:
			trace->deliver += bench_insns() - t;
			if (!trace->first_poll)
				trace->first_poll = t;
			serve_read(&m);
			break;
		case CACHEFILES_OP_CLOSE:
			close(cf_close(&m)->fd);
			break;
		}
	}
}

static uint64_t timed_read(int fd, size_t len, off_t off)
{
	uint64_t t = bench_insns();
	ssize_t ret = pread(fd, buffer, len, off);

	t = bench_insns() - t;
	if (ret != (ssize_t)len)
		bench_die("pread %zu at %lld: %zd, %m", len, (long long)off, ret);
	if (memcmp(buffer, source + off % MIB, len))
		bench_die("wrong data at %lld", (long long)off);
	memset(buffer, 0, len);
	return t;
}

enum { TOTAL, SUBMIT, DELIVER, FILL, ANSWER, READ_BACK, PROTOCOL, WARM, READS, NR };

static const char * const names[NR] = {
	[TOTAL] = "total", [SUBMIT] = "submit", [DELIVER] = "deliver", [FILL] = "fill",
	[ANSWER] = "answer", [READ_BACK] = "read-back", [PROTOCOL] = "protocol",
	[WARM] = "warm", [READS] = "READs",
};

/* One cold read, then the same again from the backing file's page cache. */
static void measure(struct bench_series *s, int fd, size_t len, off_t off)
{
	uint64_t start, total, back;

	memset(trace, 0, sizeof(*trace));
	start = bench_insns();
	total = timed_read(fd, len, off);
	if (!trace->reads)
		bench_die("the daemon was not asked");
	bench_add(&s[TOTAL], total);
	bench_add(&s[SUBMIT], trace->first_poll - start);
	bench_add(&s[DELIVER], trace->deliver);
	bench_add(&s[FILL], trace->fill);
	bench_add(&s[ANSWER], start + total - trace->last_answer);
	bench_add(&s[READS], trace->reads);

	trace->reads = 0;
	bench_check(!posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	back = timed_read(fd, len, off);
	if (trace->reads)
		bench_die("the daemon was asked twice");
	bench_add(&s[READ_BACK], back);
	bench_add(&s[PROTOCOL], (double)total - trace->fill - back);
}

static int open_file(const char *name, int i, unsigned long size)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s-%d-%lu", MOUNT_POINT, name, i, size);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	bench_check(fd >= 0);
	return fd;
}

static void start_series(struct bench_series *s, const char *what)
{
	for (int i = 0; i < NR; i++)
		s[i] = (struct bench_series) {
			.test = "fetch", .what = what, .metric = names[i],
			.unit = i == READS ? "requests" : BENCH_INSNS,
		};
}

static void end_series(struct bench_series *s)
{
	double median[NR];

	for (int i = 0; i < NR; i++)
		median[i] = bench_report(&s[i]);
	bench_say("fetch %s: %.0f, protocol %.0f, fill %.0f, read-back %.0f", s->what,
		  median[TOTAL], median[PROTOCOL], median[FILL], median[READ_BACK]);
}

/* Small reads here and there in one file. */
static void random_reads(int repeats)
{
	int fd = open_file("random", 0, (repeats + 1) * STRIDE);
	struct bench_series s[NR];

	start_series(s, "4 KiB");
	bench_check(!posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM));
	timed_read(fd, 4 * KIB, repeats * STRIDE);
	for (int i = 0; i < repeats; i++)
		measure(s, fd, 4 * KIB, i * STRIDE);
	bench_drop_caches();
	for (int i = 0; i < repeats; i++)
		bench_add(&s[WARM], timed_read(fd, 4 * KIB, i * STRIDE));
	end_series(s);
	close(fd);
}

/* Whole files; the first one is for warming up. */
static void whole_files(const char *what, size_t size, int repeats)
{
	int *fds = calloc(repeats + 1, sizeof(*fds));
	struct bench_series s[NR];

	bench_check(fds);
	start_series(s, what);
	for (int i = 0; i <= repeats; i++)
		fds[i] = open_file("whole", i, size);
	timed_read(fds[0], size, 0);
	for (int i = 1; i <= repeats; i++)
		measure(s, fds[i], size, 0);
	bench_drop_caches();
	for (int i = 1; i <= repeats; i++)
		bench_add(&s[WARM], timed_read(fds[i], size, 0));
	end_series(s);
	for (int i = 0; i <= repeats; i++)
		close(fds[i]);
	free(fds);
}

int main(int argc, char **argv)
{
	int repeats = argc > 2 ? atoi(argv[2]) : 100;
	pid_t pid;
	int dev;

	if (argc < 2 || repeats < 1)
		bench_die("usage: %s STORE [REPEATS]", argv[0]);
	bench_pin(0);
	trace = bench_shared(sizeof(*trace));
	source = bench_source(2 * MIB);
	buffer = bench_shared(MIB);
	dev = bench_bind(argv[1], "fetch");
	pid = fork();
	bench_check(pid >= 0);
	if (!pid)
		daemon_main(dev);
	close(dev);

	bench_mount("bench,fetch", MOUNT_POINT);
	random_reads(repeats);
	whole_files("128 KiB", 128 * KIB, repeats);
	whole_files("1 MiB", MIB, repeats / 4 + 1);
	bench_umount(MOUNT_POINT);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return 0;
}
