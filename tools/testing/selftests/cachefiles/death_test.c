// SPDX-License-Identifier: GPL-2.0-only
/*
 * A daemon that is killed while the kernel carries out its answer harms nobody:
 * the READ is answered or it is not, and the reader gets its bytes either way.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"

#define PIECE		(128U << 10)
#define ROUNDS		120
#define MOST		(4 * ROUNDS)
#define SIZE		((__u64)MOST * PIECE)
#define SPARE		(1U << 20)	/* behind it, nobody reads that */

static void spin(long ns)
{
	struct timespec from, now;

	clock_gettime(CLOCK_MONOTONIC, &from);
	do {
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((now.tv_sec - from.tv_sec) * 1000000000L + now.tv_nsec - from.tv_nsec < ns);
}

/* Kill a process @ns after it has set out to answer; true if it died of that. */
static bool kill_while_answering(int fd, __u32 id, atomic_int *go, long ns)
{
	int status = 0;
	pid_t pid;

	atomic_store(go, 0);
	pid = fork();
	if (!pid) {
		atomic_store(go, 1);
		while (atomic_load(go) == 1)
			;
		cf_cread(fd, id);
		_exit(0);
	}
	while (pid > 0 && !atomic_load(go) && waitpid(pid, &status, WNOHANG) == 0)
		;
	/* It is running by now, and starts as soon as it sees this. */
	atomic_store(go, 2);
	spin(ns);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status);
}

/*
 * The page cache reads once more what could not be read, so that a failure may
 * remain unseen: netfs tells of it in the trace.
 */
static int trace_set(const char *file, const char *value)
{
	char path[128];
	int fd, ret;

	snprintf(path, sizeof(path), "/sys/kernel/tracing/%s", file);
	fd = open(path, O_WRONLY | O_TRUNC);
	if (fd < 0)
		return -errno;
	ret = write(fd, value, strlen(value)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

static int trace_count(const char *what)
{
	FILE *f = fopen("/sys/kernel/tracing/trace", "r");
	char line[512];
	int n = 0;

	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f))
		n += line[0] != '#' && strstr(line, what);
	fclose(f);
	return n;
}

/* Keep the backing file busy: whoever wants to look at it has to wait a little. */
static pid_t keep_writing(int fd)
{
	pid_t pid = fork();

	if (!pid) {
		void *buf = mmap(NULL, SPARE, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		while (pwrite(fd, buf, SPARE, SIZE) == SPARE)
			;
		_exit(1);
	}
	return pid;
}

/*
 * Once the answer is accepted the data are read for the reader in the dying task.
 * The time of the kill closes in on that moment.
 */
TEST_F_TIMEOUT(ondemand, killed_while_answering, 120)
{
	int fd, round, killed = 0, answered = 0;
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	long ns = 100000;
	struct cf_msg m;
	atomic_int *go;
	long long end;
	pid_t writer;

	if (trace_set("events/netfs/netfs_failure/enable", "1"))
		SKIP(return, "no trace event netfs_failure (CONFIG_FTRACE)");
	ASSERT_EQ(0, trace_set("trace", ""));
	go = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, go);
	fd = open_object(e, &r, "file", SIZE + SPARE, &m);
	ASSERT_LE(0, fd);
	writer = keep_writing(fd);
	ASSERT_LT(0, writer);

	end = cf_now() + cf_ms(6 * LONG);
	/* It may need luck to meet that moment at all. */
	for (round = 0; round < ROUNDS ||
	     (!answered && round < MOST && cf_now() < end); round++) {
		bool died, late;

		ASSERT_EQ(0, start_read(e, &r, "file", 1, (__u64)round * PIECE, PIECE));
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
		ASSERT_EQ(PIECE, cf_rd(&m)->len);
		ASSERT_EQ(PIECE, cf_fill(fd, 1, cf_rd(&m)->off, PIECE,
					 SIZE + SPARE));
		died = kill_while_answering(fd, m.hdr.msg_id, go, ns);
		late = cf_cread(fd, m.hdr.msg_id) == -EINVAL;
		killed += died;
		answered += died && late;
		ns += died && !late ? ns / 8 + 1000 : -ns / 8;

		ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
		ASSERT_EQ(0, res.err) {
			TH_LOG("round %d, killed %d, answered %d", round, died, late);
		}
		ASSERT_EQ(-1, res.bad);
		ASSERT_EQ(PIECE, res.n);
	}
	TH_LOG("%d of %d killed, %d of them after the answer was accepted",
	       killed, round, answered);
	/* Else nothing was tested. */
	EXPECT_LT(0, answered);
	EXPECT_EQ(0, trace_count("netfs_failure:"));
	trace_set("events/netfs/netfs_failure/enable", "0");
	EXPECT_EQ(0, waitpid(writer, NULL, WNOHANG));
	kill(writer, SIGKILL);
	waitpid(writer, NULL, 0);
	munmap(go, 4096);
}

TEST_HARNESS_MAIN
