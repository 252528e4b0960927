// SPDX-License-Identifier: GPL-2.0-only
/*
 * bench_seq STORE [REPEATS]: how fast one reader gets through a file that is not
 * there, front to back, when the daemon's source takes 10 ms for each request
 * but any number of requests at once.
 *
 * ratio	number of READs times 10 ms, which is what one request at a time
 *		would take at least, over the time that it took
 * speed	of the reader
 * one-by-one	speed when the daemon does take one request at a time
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

#define MOUNT_POINT	"/mnt/bench-seq"
#define FILE_SIZE	(16 * MIB)
#define CHUNK		(128 * KIB)
#define DELAY_NS	10000000ULL
#define MAX_PENDING	1024

/* A READ, and when the source has its data. */
struct pending {
	uint32_t	id;
	uint32_t	fd;
	uint64_t	off, len;
	uint64_t	ready;
};

static struct pending ring[MAX_PENDING];
static unsigned int head, tail;
static pthread_mutex_t ring_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ring_filled = PTHREAD_COND_INITIALIZER;

static unsigned int *reads;
static char *source;

static void sleep_until(uint64_t ns)
{
	struct timespec ts = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static void answer(const struct pending *p)
{
	ssize_t ret;

	sleep_until(p->ready);
	ret = pwrite(p->fd, source + p->off % MIB, p->len, p->off);
	if (ret != (ssize_t)p->len)
		bench_die("pwrite %llu: %zd, %m", (unsigned long long)p->len, ret);
	bench_ok(cf_cread(p->fd, p->id));
}

/* The delay is the same for all, so they get ready in the order they come in. */
static void *answer_all(void *unused)
{
	struct pending p;

	for (;;) {
		pthread_mutex_lock(&ring_lock);
		while (head == tail)
			pthread_cond_wait(&ring_filled, &ring_lock);
		p = ring[tail++ % MAX_PENDING];
		pthread_mutex_unlock(&ring_lock);
		answer(&p);
	}
	return NULL;
}

static void daemon_main(int dev, bool one_by_one)
{
	static struct cf_msg m;
	pthread_t thread;

	if (!one_by_one)
		bench_check(!pthread_create(&thread, NULL, answer_all, NULL));
	for (;;) {
		struct pending p;

		if (cf_poll(dev, POLLIN, 60000) <= 0 || bench_ok(cf_read(dev, &m)) == 0)
			continue;
		if (m.hdr.opcode == CACHEFILES_OP_OPEN)
			bench_ok(cf_copen(dev, m.hdr.msg_id, FILE_SIZE));
		else if (m.hdr.opcode == CACHEFILES_OP_CLOSE)
			close(cf_close(&m)->fd);
		if (m.hdr.opcode != CACHEFILES_OP_READ)
			continue;

		p = (struct pending) {
			.id = m.hdr.msg_id, .fd = cf_rd(&m)->fd,
			.off = cf_rd(&m)->off, .len = cf_rd(&m)->len,
			.ready = bench_ns() + DELAY_NS,
		};
		(*reads)++;
		if (one_by_one) {
			answer(&p);
			continue;
		}
		pthread_mutex_lock(&ring_lock);
		ring[head++ % MAX_PENDING] = p;
		pthread_cond_signal(&ring_filled);
		pthread_mutex_unlock(&ring_lock);
	}
}

static double read_file(int i)
{
	static char buffer[CHUNK];
	char path[256];
	uint64_t t;
	int fd;

	snprintf(path, sizeof(path), "%s/file-%d", MOUNT_POINT, i);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	bench_check(fd >= 0);
	t = bench_ns();
	for (unsigned long off = 0; off < FILE_SIZE; off += CHUNK) {
		bench_check(read(fd, buffer, CHUNK) == CHUNK);
		if (memcmp(buffer, source + off % MIB, CHUNK))
			bench_die("wrong data at %lu", off);
	}
	t = bench_ns() - t;
	close(fd);
	return t;
}

static pid_t start_daemon(int dev, bool one_by_one)
{
	pid_t pid = fork();

	bench_check(pid >= 0);
	if (!pid)
		daemon_main(dev, one_by_one);
	return pid;
}

static void stop_daemon(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

#define SERIES(metric_, unit_)	\
	{ .test = "seq", .what = "10 ms source", .metric = metric_, .unit = unit_ }

int main(int argc, char **argv)
{
	struct bench_series ratio = SERIES("ratio", "times");
	struct bench_series speed = SERIES("speed", "MiB/s");
	struct bench_series requests = SERIES("READs", "requests");
	struct bench_series single = SERIES("one-by-one", "MiB/s");
	int repeats = argc > 2 ? atoi(argv[2]) : 5;
	pid_t pid;
	int dev;

	if (argc < 2 || repeats < 1)
		bench_die("usage: %s STORE [REPEATS]", argv[0]);
	reads = bench_shared(sizeof(*reads));
	source = bench_source(2 * MIB);
	dev = bench_bind(argv[1], "seq");
	pid = start_daemon(dev, false);
	bench_mount("bench,seq", MOUNT_POINT);
	for (int i = 0; i < repeats; i++) {
		double ns;

		*reads = 0;
		ns = read_file(i);
		bench_add(&ratio, *reads * (double)DELAY_NS / ns);
		bench_add(&speed, FILE_SIZE / (double)MIB * 1e9 / ns);
		bench_add(&requests, *reads);
	}
	stop_daemon(pid);

	pid = start_daemon(dev, true);
	for (int i = repeats; i < repeats + 2; i++)
		bench_add(&single, FILE_SIZE / (double)MIB * 1e9 / read_file(i));
	bench_umount(MOUNT_POINT);
	stop_daemon(pid);

	bench_say("seq: %.0f READs, %.2f times what one by one can give, %.1f MiB/s",
		  bench_report(&requests), bench_report(&ratio), bench_report(&speed));
	bench_say("seq: one by one %.1f MiB/s", bench_report(&single));
	return 0;
}
