// SPDX-License-Identifier: GPL-2.0-only
/*
 * A reader that is killed is gone within a second whatever state its request
 * is in, the request ends soon after, and nobody else is harmed.
 */
#include "harness.h"
#include "lib/delay.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>

/* After this long the cache has noticed that a reader is gone. */
#define GRACE	2000

/* Read @name at @off in a new process while this one is the daemon. */
static void read_and_serve(struct __test_metadata *_metadata, struct cf_env *e,
			   int fd, __u64 off)
{
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;

	ASSERT_EQ(0, start_read(e, &r, "file", 1, off, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	EXPECT_EQ(off, cf_rd(&m)->off);
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
}

TEST_F(ondemand, d34_open_queued)
{
	struct cf_env *e = &self->e;
	struct cf_reader r;
	struct cf_msg m;

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	EXPECT_LE(0, cf_reader_kill(&r, PROMPT));
	/* The look-up gave up the object: soon there is nothing left to open. */
	EXPECT_EQ(0, until_idle(e));
	EXPECT_LE(0, open_object(e, &r, "file", MB, &m));
}

TEST_F(ondemand, d34_open_sent)
{
	struct cf_env *e = &self->e;
	struct cf_msg m, c;
	struct cf_reader r;
	int fd;

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	EXPECT_LE(0, cf_reader_kill(&r, PROMPT));
	/* A late answer is refused; the daemon is told to close. */
	ASSERT_EQ(0, cf_expect(e->dev, &c, CACHEFILES_OP_CLOSE, LONG));
	EXPECT_EQ(m.hdr.object_id, c.hdr.object_id);
	EXPECT_EQ(-EINVAL, cf_copen(e->dev, m.hdr.msg_id, MB));
	EXPECT_EQ(-ENOBUFS, cf_fill(cf_open_fd(&m), 1, 0, 4096, MB));
	close(cf_open_fd(&m));

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	read_and_serve(_metadata, e, fd, 0);
}

TEST_F(ondemand, d33_read_queued)
{
	struct cf_env *e = &self->e;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 8192, 4096));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	EXPECT_LE(0, cf_reader_kill(&r, PROMPT));
	EXPECT_EQ(0, until_idle(e));
	read_and_serve(_metadata, e, fd, 8192);
}

TEST_F(ondemand, d33_read_sent)
{
	struct cf_env *e = &self->e;
	struct cf_reader r, r2;
	struct cf_result res;
	struct cf_msg m, m2;
	int fd;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 8192, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	EXPECT_LE(0, cf_reader_kill(&r, PROMPT));

	/* Somebody else who wants the page has his own request before long. */
	ASSERT_EQ(0, start_read(e, &r2, "file", 1, 8192, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m2, CACHEFILES_OP_READ, LONG));
	EXPECT_NE(m.hdr.msg_id, m2.hdr.msg_id);
	EXPECT_EQ(8192, cf_rd(&m2)->off);

	/* The late answer harms nobody: data are data. */
	EXPECT_EQ(4096, cf_fill(fd, 1, 8192, 4096, MB));
	EXPECT_EQ(-EINVAL, cf_cread(fd, m.hdr.msg_id));
	EXPECT_EQ(0, cf_reader_done(&r2));
	EXPECT_EQ(0, cf_cread(fd, m2.hdr.msg_id));
	ASSERT_EQ(0, cf_reader_wait(&r2, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
}

/* Two wait for one page, the one who asked is killed: the other is served. */
TEST_F(ondemand, other_waiters_stay)
{
	struct cf_env *e = &self->e;
	struct cf_reader a, b, o;
	struct cf_result res;
	struct cf_msg m, om;
	int fd, ret;

	fd = open_object(e, &o, "file", MB, &om);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_read(e, &a, "file", 1, 0, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, start_read(e, &b, "file", 1, 0, 4096));
	EXPECT_EQ(0, cf_poll(e->dev, POLLIN, cf_ms(BRIEF)));
	EXPECT_LE(0, cf_reader_kill(&a, PROMPT));
	while (!cf_reader_done(&b)) {
		ret = cf_next(e->dev, &m, 200);
		if (ret == -ETIMEDOUT)
			continue;
		ASSERT_LT(0, ret);
		ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	}
	ASSERT_EQ(0, cf_reader_wait(&b, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(4096, res.n);
	EXPECT_EQ(-1, res.bad);
}

/* Kill who waits for request @nr, of an OPEN or a READ: milliseconds, or a negative errno. */
static int time_kill(struct cf_env *e, int nr, bool opening, bool deliver)
{
	unsigned int op = opening ? CACHEFILES_OP_OPEN : CACHEFILES_OP_READ;
	struct cf_reader r;
	struct cf_msg m;
	char name[16];
	int ms, ret;

	snprintf(name, sizeof(name), "f%d", nr);
	ret = opening ? start_stat(e, &r, name) : start_read(e, &r, "file", 1, nr * 8192, 4096);
	if (ret)
		return ret;
	if (deliver)
		ret = cf_expect(e->dev, &m, op, LONG);
	else
		ret = cf_poll(e->dev, POLLIN, cf_ms(LONG)) == POLLIN ? 0 : -ETIMEDOUT;
	if (ret)
		return ret;
	ms = cf_reader_kill(&r, PROMPT);
	if (opening && deliver) {
		ret = cf_expect(e->dev, &m, CACHEFILES_OP_CLOSE, LONG);
		close(cf_close(&m)->fd);
	}
	if (!ret)
		ret = until_idle(e);
	return ret ? ret : ms;
}

/* The bound itself. A machine that stalls may do so twice. */
TEST_F(ondemand, within_a_second)
{
	struct cf_env *e = &self->e;
	int fd, ms, nr = 0;
	struct cf_reader o;
	struct cf_msg m;

	fd = open_object(e, &o, "file", MB, &m);
	ASSERT_LE(0, fd);
	for (int state = 0; state < 4; state++) {
		for (int i = 0; i < 3; i++) {
			ms = time_kill(e, nr++, state / 2, state % 2);
			ASSERT_LE(0, ms);
			if (ms <= cf_ms(1000))
				break;
		}
		EXPECT_GE(cf_ms(1000), ms) {
			TH_LOG("state %d", state);
		}
	}
}

static void kill_in_copy(struct __test_metadata *_metadata, struct cf_env *e,
			 bool opening, bool fault)
{
	struct cf_reader r, o;
	struct cf_stall st;
	struct cf_msg m, c;
	int fd = -1, ret;

	if (!opening) {
		fd = open_object(e, &o, "file", MB, &m);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, start_read(e, &r, "file", 1, 8192, 4096));
	} else {
		ASSERT_EQ(0, start_stat(e, &r, "file"));
	}
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	if (cf_stall_start(&st, e->dev))
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(0, cf_stall_parked(&st, LONG));
	EXPECT_LE(0, cf_reader_kill(&r, PROMPT));
	if (!opening) {
		EXPECT_EQ(0, cf_poll(e->dev, POLLIN, cf_ms(GRACE)));
	}

	memset(&m, 0, sizeof(m));
	if (fault) {
		ret = cf_stall_fail(&st);
		EXPECT_TRUE(ret == -EFAULT || ret == 0) {
			TH_LOG("faulted read returned %d", ret);
		}
	} else {
		/* Nothing to deliver any more, or a message that is out of date. */
		ret = cf_stall_finish(&st, &m);
		EXPECT_LE(0, ret);
	}
	if (ret > 0 && m.hdr.opcode == CACHEFILES_OP_OPEN) {
		/* The object goes later than its reader, and may be opened until then. */
		ASSERT_EQ(0, cf_expect(e->dev, &c, CACHEFILES_OP_CLOSE, LONG));
		EXPECT_EQ(-EINVAL, cf_copen(e->dev, m.hdr.msg_id, MB));
		close(cf_open_fd(&m));
	}
	/* What could not be delivered may be once more, before the object has gone. */
	while (cf_next(e->dev, &c, BRIEF) > 0) {
		if (opening && fault && c.hdr.opcode == CACHEFILES_OP_OPEN)
			close(cf_open_fd(&c));
		else if (opening || !fault || c.hdr.opcode != CACHEFILES_OP_READ)
			EXPECT_EQ(CACHEFILES_OP_CLOSE, c.hdr.opcode);
	}
	EXPECT_EQ(0, until_idle(e));
	if (opening) {
		fd = open_object(e, &o, "file", MB, &m);
		ASSERT_LE(0, fd);
	}
	read_and_serve(_metadata, e, fd, 8192);
}

TEST_F(ondemand, d34_open_copying)
{
	kill_in_copy(_metadata, &self->e, true, false);
}

TEST_F(ondemand, d34_open_copying_faults)
{
	kill_in_copy(_metadata, &self->e, true, true);
}

TEST_F(ondemand, d33_read_copying)
{
	kill_in_copy(_metadata, &self->e, false, false);
}

TEST_F(ondemand, d33_read_copying_faults)
{
	kill_in_copy(_metadata, &self->e, false, true);
}

/* Killed while its object has no descriptor and is being reopened. */
TEST_F(ondemand, d33_reopening)
{
	struct cf_env *e = &self->e;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	close(fd);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 8192, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	EXPECT_LE(0, cf_reader_kill(&r, PROMPT));
	fd = cf_open_fd(&m);
	EXPECT_EQ(0, cf_poll(e->dev, POLLIN, cf_ms(GRACE)));
	/* The object lives on, and so does its reopening. */
	EXPECT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, MB));
	EXPECT_EQ(0, until_idle(e));
	read_and_serve(_metadata, e, fd, 8192);
}

/* --- killed while the READ is being completed, at the highest priority --- */

struct rt_job {
	char	path[160];
	__u64	off;
	bool	rt;
	bool	mapped;
};

static int pin(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

static int read_pinned(void *arg)
{
	const struct sched_param param = { .sched_priority = 50 };
	const struct rt_job *job = arg;
	char *p, byte;
	int fd;

	fd = open(job->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || pin() || posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM))
		return errno ?: EIO;
	if (job->rt && sched_setscheduler(0, SCHED_FIFO, &param))
		return errno;
	if (!job->mapped)
		return pread(fd, &byte, 1, (off_t)job->off) == 1 ? 0 : errno ?: EIO;
	p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, (off_t)job->off);
	if (p == MAP_FAILED || madvise(p, 4096, MADV_RANDOM))
		return errno;
	return *p ? 0 : EIO;
}

struct completer {
	int	fd;
	__u32	id;
	int	ret;
};

static void *complete_read(void *arg)
{
	struct completer *c = arg;

	pin();
	c->ret = cf_cread(c->fd, c->id);
	return NULL;
}

/* The one who completes is stopped where he has taken the READ and not gone on. */
static void kill_in_completion(struct __test_metadata *_metadata, struct cf_env *e,
			       struct rt_job job)
{
	struct completer c;
	struct cf_reader r, o;
	pthread_t thread;
	struct cf_msg m;
	int fd, trap;

	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	fd = open_object(e, &o, "file", MB, &m);
	ASSERT_LE(0, fd);
	snprintf(job.path, sizeof(job.path), "%s/file", e->mnt);
	job.off = 8192;
	ASSERT_EQ(0, cf_child(&r, read_pinned, &job));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(4096, cf_fill(fd, 1, 8192, 4096, MB));
	trap = cf_delay_arm("done", 0);
	ASSERT_LE(0, trap);
	c = (struct completer) { .fd = fd, .id = m.hdr.msg_id };
	ASSERT_EQ(0, pthread_create(&thread, NULL, complete_read, &c));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));

	/* A fault waits inside the netfs library: until the completion, but no longer. */
	kill(r.pid, SIGKILL);
	if (job.mapped) {
		EXPECT_EQ(0, cf_delay_go(trap));
		EXPECT_LE(0, cf_reader_kill(&r, PROMPT));
	} else {
		EXPECT_LE(0, cf_reader_kill(&r, PROMPT));
		EXPECT_EQ(0, cf_delay_go(trap));
	}
	pthread_join(thread, NULL);
	EXPECT_EQ(0, c.ret);
	EXPECT_EQ(1, cf_idle(e->dev));
	EXPECT_EQ(4096, read_here(e, "file", 1, 8192, 4096));
	read_and_serve(_metadata, e, fd, 65536);
}

TEST_F(ondemand, d33_read_completing)
{
	kill_in_completion(_metadata, &self->e, (struct rt_job) { .rt = false });
}

TEST_F(ondemand, d33_read_completing_realtime)
{
	kill_in_completion(_metadata, &self->e, (struct rt_job) { .rt = true });
}

TEST_F(ondemand, d33_fault_completing_realtime)
{
	kill_in_completion(_metadata, &self->e, (struct rt_job) { .rt = true, .mapped = true });
}

/*
 * Readers with the daemon's processor to themselves whenever they want it, killed with
 * their READs queued, delivered and being answered: the daemon gets on.
 */
TEST_F(ondemand, d33_realtime_on_one_processor)
{
	enum { ROUNDS = 30 };
	struct cf_env *e = &self->e;
	struct rt_job job = { .rt = true };
	struct cf_reader r, o;
	cpu_set_t all;
	struct cf_msg m;
	int fd, ret;

	fd = open_object(e, &o, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, sched_getaffinity(0, sizeof(all), &all));
	ASSERT_EQ(0, pin());
	snprintf(job.path, sizeof(job.path), "%s/file", e->mnt);
	for (int i = 0; i < ROUNDS; i++) {
		job.off = i * 8192;
		ASSERT_EQ(0, cf_child(&r, read_pinned, &job));
		ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
		if (i % 3) {
			ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
			EXPECT_EQ(4096, cf_fill(fd, 1, job.off, 4096, MB));
		}
		kill(r.pid, SIGKILL);
		if (i % 3 == 0) {
			EXPECT_EQ(0, until_idle(e));
		} else if (i % 3 == 2) {
			ret = cf_cread(fd, m.hdr.msg_id);
			EXPECT_TRUE(ret == 0 || ret == -EINVAL) {
				TH_LOG("late answer: %d", ret);
			}
		}
		EXPECT_LE(0, cf_reader_kill(&r, PROMPT));
	}
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(all), &all));
	read_and_serve(_metadata, e, fd, MB - 4096);
}

/* A crowd that is killed in the middle of read-ahead leaves nothing behind. */
TEST_F(ondemand, crowd)
{
	enum { NR = 16 };
	struct cf_env *e = &self->e;
	struct cf_reader r[NR], o;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &o, "file", 16 * MB, &m);
	ASSERT_LE(0, fd);
	for (int i = 0; i < NR; i++) {
		ASSERT_EQ(0, start_stream(e, &r[i], "file", 1, i * MB, MB));
	}
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	for (int i = 0; i < NR; i++) {
		EXPECT_LE(0, cf_reader_kill(&r[i], PROMPT));
	}
	EXPECT_EQ(0, until_idle(e));
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
}

TEST_HARNESS_MAIN
