// SPDX-License-Identifier: GPL-2.0-only
/*
 * bench_pending STORE: what each step of the protocol costs a daemon while 1, 100
 * and 10,000 requests are pending.
 *
 * A second process makes the requests: OPENs by as many threads that look up a
 * name each, READs by read-ahead, which does not wait.  All requests are first
 * delivered and then taken back by `restore`, written by the second process; so
 * when the delivery is timed, all of them are pending, and they stay so until they
 * are answered.  Answers are timed as long as at least nine tenths of the requests
 * are still pending.
 *
 * Cases: "1 OPEN", "100 READ" and so on are on as many objects; "100 READ of 1" are
 * all on one.
 *
 * deliver	read(2) of the device
 * poll		poll(2) of the device, which has something to deliver
 * copen	the answer to an OPEN; the backing file is made
 * copen again	the same, but the backing file is there
 * cread	the answer to a READ of 4 KiB, which was filled before
 * close	close(2) of an object that a READ is pending on
 * restore	for each request
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define MOUNT_POINT	"/mnt/bench-pending"
#define MAX_PENDING	10000
#define STRIDE		(8 * KIB)
#define OBJECT_SIZE	STRIDE
#define STACK_SIZE	(16 * KIB)

/* --- the second process: makes requests --- */

/* What it is told to do, and how it answers. */
struct order {
	char		what;		/* 'o'pen, 'r'ead-ahead, 'R'estore, 'c'lose */
	bool		one;		/* read-ahead all in the first file */
	int		batch;		/* part of the names */
	int		nr;
};

struct answer {
	uint64_t	insns;
};

struct opener {
	pthread_t	thread;
	int		batch, i;
	int		fd;
};

static struct opener *openers;

/* The size of a file is in its name, behind the last dash. */
static void file_name(char *name, size_t len, int batch, int i, int nr)
{
	unsigned long size = i < 0 ? nr * STRIDE : OBJECT_SIZE;

	snprintf(name, len, "%d-%d-%lu", batch, i, size);
}

static long long size_of(const struct cf_msg *m)
{
	char key[256];

	return atoll(strrchr(cf_key(m, key), '-') + 1);
}

static void *open_one(void *arg)
{
	struct opener *o = arg;
	char name[64], path[128];

	file_name(name, sizeof(name), o->batch, o->i, MAX_PENDING);
	snprintf(path, sizeof(path), MOUNT_POINT "/%s", name);
	o->fd = open(path, O_RDONLY | O_CLOEXEC);
	return NULL;
}

static void start_opening(const struct order *order)
{
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	bench_check(!pthread_attr_setstacksize(&attr, STACK_SIZE));
	for (int i = 0; i < order->nr; i++) {
		struct opener *o = &openers[i];

		o->batch = order->batch;
		o->i = order->one ? -1 : i;
		errno = pthread_create(&o->thread, &attr, open_one, o);
		bench_check(!errno);
	}
	pthread_attr_destroy(&attr);
}

static void finish_opening(const struct order *order)
{
	for (int i = 0; i < order->nr; i++) {
		bench_check(!pthread_join(openers[i].thread, NULL));
		bench_check(openers[i].fd >= 0);
	}
}

static void read_ahead(const struct order *order)
{
	for (int i = 0; i < order->nr; i++) {
		int fd = openers[order->one ? 0 : i].fd;

		errno = posix_fadvise(fd, order->one ? i * STRIDE : 0, 4 * KIB,
				      POSIX_FADV_WILLNEED);
		bench_check(!errno);
	}
}

static void close_all(const struct order *order)
{
	for (int i = 0; i < order->nr; i++)
		close(openers[i].fd);
	/* Names that nobody uses go, and what they held with them. */
	bench_write_file("/proc/sys/vm/drop_caches", "2");
}

static void client_main(int dev, int orders, int answers)
{
	struct order order;

	bench_fifo();
	while (read(orders, &order, sizeof(order)) == sizeof(order)) {
		struct answer answer = {};

		switch (order.what) {
		case 'o':
			start_opening(&order);
			break;
		case 'f':
			finish_opening(&order);
			break;
		case 'r':
			read_ahead(&order);
			break;
		case 'c':
			close_all(&order);
			break;
		case 'R':
			answer.insns = bench_insns();
			bench_ok(cf_cmd(dev, "restore"));
			answer.insns = bench_insns() - answer.insns;
			break;
		}
		bench_check(write(answers, &answer, sizeof(answer)) == sizeof(answer));
	}
	_exit(0);
}

/* --- the first process: the daemon that is measured --- */

static int dev = -1;
static int orders, answers;

/* What was delivered, in that order. */
struct request {
	uint32_t	id;
	int		fd;
	long long	size;
	uint64_t	off;
};

static struct request *requests;
static int *stale;

enum metric { DELIVER, POLL, COPEN, COPEN_AGAIN, CREAD, CLOSE, RESTORE, NR };

static const char * const metrics[NR] = {
	[DELIVER] = "deliver", [POLL] = "poll", [COPEN] = "copen",
	[COPEN_AGAIN] = "copen again", [CREAD] = "cread", [CLOSE] = "close",
	[RESTORE] = "restore",
};

static struct bench_series series[NR];

static void start_case(const char *what)
{
	for (int i = 0; i < NR; i++)
		series[i] = (struct bench_series) {
			.test = "pending", .what = what, .metric = metrics[i],
			.unit = BENCH_INSNS,
		};
}

static void end_case(void)
{
	const char *what = series[0].what;
	char line[256];
	size_t n = 0;

	for (int i = 0; i < NR; i++) {
		if (!series[i].nr)
			continue;
		n += snprintf(line + n, sizeof(line) - n, "%s %s %.0f", n ? "," : "",
			      metrics[i], bench_report(&series[i]));
		free(series[i].value);
	}
	bench_say("pending %s:%s", what, line);
}

static void begin(const struct order *order)
{
	bench_check(write(orders, order, sizeof(*order)) == sizeof(*order));
}

static uint64_t end(void)
{
	struct answer answer;

	bench_check(read(answers, &answer, sizeof(answer)) == sizeof(answer));
	return answer.insns;
}

static uint64_t tell(char what, bool one, int batch, int nr)
{
	struct order order = { .what = what, .one = one, .batch = batch, .nr = nr };

	begin(&order);
	return end();
}

/* Take one message, which is there or comes soon. */
static void take(unsigned int op, struct request *r, bool timed)
{
	static struct pollfd p = { .events = POLLIN };
	static struct cf_msg m;
	uint64_t start, polled;
	ssize_t ret;

	p.fd = dev;
	if (!timed)
		bench_check(poll(&p, 1, 60000) == 1);
	start = bench_insns();
	bench_check(poll(&p, 1, 0) == 1);
	polled = bench_insns();
	ret = read(dev, m.raw, sizeof(m.raw));
	if (timed) {
		bench_add(&series[DELIVER], bench_insns() - polled);
		bench_add(&series[POLL], polled - start);
	}
	if (ret <= 0 || m.hdr.opcode != op)
		bench_die("message %u of %zd bytes instead of %u: %m", m.hdr.opcode, ret, op);
	r->id = m.hdr.msg_id;
	switch (op) {
	case CACHEFILES_OP_OPEN:
		r->fd = cf_open_fd(&m);
		r->size = size_of(&m);
		break;
	case CACHEFILES_OP_READ:
		r->fd = cf_rd(&m)->fd;
		r->off = cf_rd(&m)->off;
		break;
	case CACHEFILES_OP_CLOSE:
		r->fd = cf_close(&m)->fd;
		break;
	}
}

static void take_all(unsigned int op, int nr, bool timed)
{
	for (int i = 0; i < nr; i++)
		take(op, &requests[i], timed);
}

/* Answers are timed while nearly all requests are pending. */
static bool still_timed(int i, int nr)
{
	return i <= nr / 10;
}

static void answer_opens(int nr, enum metric metric)
{
	for (int i = 0; i < nr; i++) {
		uint64_t t = bench_insns();

		bench_ok(cf_copen(dev, requests[i].id, requests[i].size));
		t = bench_insns() - t;
		if (still_timed(i, nr))
			bench_add(&series[metric], t);
	}
}

static void answer_read(const struct request *r)
{
	static char data[4 * KIB];

	bench_check(pwrite(r->fd, data, sizeof(data), r->off) == sizeof(data));
}

static void answer_reads(int nr)
{
	for (int i = 0; i < nr; i++) {
		uint64_t t;

		answer_read(&requests[i]);
		t = bench_insns();
		bench_ok(cf_cread(requests[i].fd, requests[i].id));
		t = bench_insns() - t;
		if (still_timed(i, nr))
			bench_add(&series[CREAD], t);
	}
}

static void restore(int nr)
{
	bench_add(&series[RESTORE], (double)tell('R', false, 0, nr) / nr);
}

/* Open @nr files, or one: for the first time, or once more. */
static void open_files(int batch, int nr, bool one, bool timed, enum metric copen)
{
	struct order order = { .what = 'o', .one = one, .batch = batch, .nr = one ? 1 : nr };

	nr = order.nr;
	begin(&order);
	end();
	take_all(CACHEFILES_OP_OPEN, nr, false);
	if (timed) {
		for (int i = 0; i < nr; i++)
			stale[i] = requests[i].fd;
		restore(nr);
		take_all(CACHEFILES_OP_OPEN, nr, true);
		for (int i = 0; i < nr; i++)
			close(stale[i]);
		answer_opens(nr, copen);
	} else {
		for (int i = 0; i < nr; i++)
			bench_ok(cf_copen(dev, requests[i].id, requests[i].size));
	}
	order.what = 'f';
	begin(&order);
	end();
}

static void close_files(int nr)
{
	struct request gone;

	tell('c', false, 0, nr);
	for (int i = 0; i < nr; i++) {
		take(CACHEFILES_OP_CLOSE, &gone, false);
		close(gone.fd);
	}
}

/* Close some of the descriptors, and go through the reopening. */
static void close_some(int nr)
{
	int some = nr / 10 + 1;

	for (int i = 0; i < some; i++) {
		uint64_t t = bench_insns();

		close(requests[i].fd);
		bench_add(&series[CLOSE], bench_insns() - t);
	}
	take_all(CACHEFILES_OP_OPEN, some, false);
	for (int i = 0; i < some; i++)
		bench_ok(cf_copen(dev, requests[i].id, requests[i].size));
	take_all(CACHEFILES_OP_READ, some, false);
}

static void measure_opens(const char *what, int batch, int nr, int rounds)
{
	start_case(what);
	for (int i = 0; i < rounds; i++) {
		open_files(batch + i, nr, false, true, COPEN);
		close_files(nr);
	}
	/* Only now, or the backing file system would still have just this file at hand. */
	for (int i = 0; i < rounds; i++) {
		open_files(batch + i, nr, false, true, COPEN_AGAIN);
		close_files(nr);
	}
	end_case();
}

static void measure_reads(const char *what, int batch, int nr, bool one, int rounds)
{
	start_case(what);
	for (int i = 0; i < rounds; i++) {
		open_files(batch + i, nr, one, false, COPEN);
		tell('r', one, batch + i, nr);
		take_all(CACHEFILES_OP_READ, nr, false);
		restore(nr);
		take_all(CACHEFILES_OP_READ, nr, true);
		if (!one)
			close_some(nr);
		answer_reads(nr);
		close_files(one ? 1 : nr);
	}
	end_case();
}

int main(int argc, char **argv)
{
	int to[2], from[2];
	pid_t pid;

	if (argc < 2)
		bench_die("usage: %s STORE", argv[0]);
	bench_pin(0);
	bench_many_files();
	dev = bench_bind(argv[1], "pending");
	bench_mount("bench,pending", MOUNT_POINT);
	requests = calloc(MAX_PENDING, sizeof(*requests));
	openers = calloc(MAX_PENDING, sizeof(*openers));
	stale = calloc(MAX_PENDING, sizeof(*stale));
	bench_check(requests && openers && stale && !pipe(to) && !pipe(from));
	pid = fork();
	bench_check(pid >= 0);
	if (!pid) {
		close(to[1]);
		client_main(dev, to[0], from[1]);
	}
	orders = to[1];
	answers = from[0];
	bench_fifo();

	/* The largest first: it makes the directories that all others use. */
	measure_opens("10000 OPEN", 0, 10000, 1);
	measure_reads("10000 READ", 0, 10000, false, 1);
	measure_reads("10000 READ of 1", 0, 10000, true, 1);
	measure_opens("100 OPEN", 1000, 100, 3);
	measure_reads("100 READ", 1000, 100, false, 3);
	measure_reads("100 READ of 1", 1000, 100, true, 3);
	measure_opens("1 OPEN", 2000, 1, 100);
	measure_reads("1 READ", 2000, 1, false, 100);

	close(orders);
	waitpid(pid, NULL, 0);
	bench_umount(MOUNT_POINT);
	return 0;
}
