// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whoever comes in between two steps of somebody else finds nothing freed, loses
 * nothing and gets no wrong data.
 */
#include <sys/wait.h>
#include "harness.h"
#include "lib/delay.h"
#include "lib/netfs.h"
#include "lib/task.h"
#include "lib/trace.h"

FIXTURE(race) {
	struct cf_env e;
};

FIXTURE_SETUP(race)
{
	if (world)
		SKIP(return, "%s", cf_why);
	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	ASSERT_EQ(0, cf_env_init(&self->e));
	ASSERT_EQ(0, cf_env_bind(&self->e));
	ASSERT_EQ(0, cf_env_mount(&self->e));
}

FIXTURE_TEARDOWN(race)
{
	cf_error_injection(0);
	EXPECT_NE(-ETIMEDOUT, cf_env_exit(&self->e));
}

/* --- what is done while somebody is stopped --- */

/* A call of the daemon in a thread of its own. */
struct call {
	struct cf_task	task;
	int		dev, fd;
	__u64		off, seed;
	struct cf_msg	m;
};

static int do_read(void *arg)
{
	struct call *c = arg;

	return cf_read(c->dev, &c->m);
}

static int do_copen(void *arg)
{
	struct call *c = arg;

	return cf_copen(c->dev, c->m.hdr.msg_id, MB);
}

static int do_fill(void *arg)
{
	struct call *c = arg;

	return cf_fill(c->fd, c->seed, c->off, 4096, MB);
}

static int do_seek(void *arg)
{
	struct call *c = arg;
	off_t pos = lseek(c->fd, (off_t)c->off, SEEK_HOLE);

	return pos < 0 ? -errno : (int)pos;
}

static int do_close(void *arg)
{
	struct call *c = arg;

	return close(c->dev) ? -errno : 0;
}

static int do_pread(void *arg)
{
	struct call *c = arg;
	char buf[4096];
	ssize_t n = pread(c->fd, buf, sizeof(buf), (off_t)c->off);

	return n < 0 ? -errno : (int)n;
}

static int do_umount(void *arg)
{
	return cf_env_umount(arg, LONG);
}

/* Close the device in a thread, and wait until nothing is queued any more. */
static int close_device(struct cf_env *e, struct call *c)
{
	int trap = cf_delay_arm("teardown", 0), ret;

	if (trap < 0)
		return trap;
	c->dev = e->dev;
	e->dev = -1;
	ret = cf_task_start(&c->task, do_close, c);
	if (!ret)
		ret = cf_delay_caught(trap, LONG);
	if (ret < 0)
		return ret;
	return cf_delay_go(trap);
}

static int do_rebind(void *arg)
{
	return cf_env_rebind(arg);
}

/* --- what the tests below rely on --- */

/* A trap catches the one it is set for, and lets it go. */
TEST_F(race, trap)
{
	struct cf_env *e = &self->e;
	char points[1024];
	struct cf_reader r;
	struct cf_msg m;
	int fd, trap;

	EXPECT_EQ(-EINVAL, cf_delay_arm("nowhere", 0));
	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	/* What is not set says where it can be. */
	ASSERT_LT(0, cf_read_file(CF_DELAY_POINTS, points, sizeof(points)));
	EXPECT_NE(NULL, strstr(points, "\nenqueue\n"));

	trap = cf_delay_arm("enqueue", 1);
	ASSERT_LE(0, trap);
	EXPECT_EQ(-1, write(trap, "admit 0", 7));
	EXPECT_EQ(EBUSY, errno);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	EXPECT_EQ(-ETIMEDOUT, cf_delay_caught(trap, 0));
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 4096, 4096));
	EXPECT_EQ(r.pid, cf_delay_caught(trap, LONG));
	EXPECT_EQ(1, cf_idle(e->dev));
	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));

	/* Who is killed goes on, and whoever was to let him go is told. */
	trap = cf_delay_arm("enqueue", 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 8192, 4096));
	EXPECT_EQ(r.pid, cf_delay_caught(trap, LONG));
	EXPECT_LE(0, cf_reader_kill(&r, PROMPT));
	EXPECT_EQ(-ESRCH, cf_delay_go(trap));
}

/* --- lifetimes --- */

/* The reaper has started when the object it looks after goes. */
TEST_F(race, d06_object_goes_under_its_worker)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct call c = { };
	struct cf_msg m;
	int fd, trap, ret;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	trap = cf_delay_arm("reap_work", 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	close(fd);
	ASSERT_LE(0, cf_env_umount(e, PROMPT));
	/* Returns when there is no object left. */
	c.dev = e->dev;
	ASSERT_EQ(0, cf_task_start(&c.task, do_close, &c));
	ASSERT_EQ(0, cf_task_wait(&c.task, &ret, PROMPT));
	EXPECT_EQ(0, ret);
	e->dev = -1;
	EXPECT_EQ(0, cf_delay_go(trap));
}

/* The object goes while a daemon is about to have it opened. */
TEST_F(race, d07_dropped_before_open)
{
	struct cf_env *e = &self->e;
	struct call c = { .dev = e->dev };
	struct cf_reader r;
	int trap, ret;

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	trap = cf_delay_arm("arm_open", 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, cf_task_start(&c.task, do_read, &c));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	EXPECT_LE(0, cf_reader_kill(&r, PROMPT));
	EXPECT_EQ(0, until_idle(e));
	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_task_wait(&c.task, &ret, PROMPT));
	EXPECT_EQ(0, ret);
	EXPECT_EQ(1, cf_idle(e->dev));
	EXPECT_LE(0, open_object(e, &r, "file", MB, &c.m));
}

/* Two threads are about to have it opened: only one of them does. */
TEST_F(race, d05_opened_once)
{
	struct cf_env *e = &self->e;
	struct call c = { .dev = e->dev };
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int trap, ret;

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	trap = cf_delay_arm("arm_open", 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, cf_task_start(&c.task, do_read, &c));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_task_wait(&c.task, &ret, PROMPT));
	EXPECT_EQ(0, ret);
	EXPECT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, 7));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(7, res.n);
}

/* The object goes while copen attaches its file: it waits, and takes the file along. */
TEST_F(race, d07_dropped_while_attached)
{
	struct cf_env *e = &self->e;
	struct call c = { .dev = e->dev };
	int trap, drop, ret;
	struct cf_reader r;

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(0, cf_expect(e->dev, &c.m, CACHEFILES_OP_OPEN, LONG));
	trap = cf_delay_arm("attach", 0);
	drop = cf_delay_arm("drop", 0);
	ASSERT_LE(0, trap);
	ASSERT_LE(0, drop);
	ASSERT_EQ(0, cf_task_start(&c.task, do_copen, &c));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	EXPECT_LE(0, cf_reader_kill(&r, PROMPT));
	ASSERT_LT(0, cf_delay_caught(drop, LONG));
	EXPECT_EQ(0, cf_delay_go(drop));
	/* Time enough for a withdrawal that would not wait. */
	EXPECT_EQ(-ETIMEDOUT, cf_task_wait(&c.task, &ret, BRIEF));
	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_task_wait(&c.task, &ret, PROMPT));
	EXPECT_EQ(-EIO, ret);
	EXPECT_EQ(0, cf_expect(e->dev, &c.m, CACHEFILES_OP_CLOSE, LONG));
	close(cf_close(&c.m)->fd);
	/* Nothing of it is left in the way of the next one. */
	EXPECT_LE(0, open_object(e, &r, "file", MB, &c.m));
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
	EXPECT_EQ(0, cf_env_rebind(e));
}

/*
 * Polled from all sides while requests come and go: thousands of them, as a poller that
 * looks at one without the lock has to be stopped just then.
 */
static int do_poll_often(void *arg)
{
	struct call *c = arg;

	while (cf_poll(c->fd, POLLIN | POLLHUP, 0) == 0)
		if (cf_poll(c->dev, POLLIN, 0) < 0)
			return -EPROTO;
	return 0;
}

TEST_F_TIMEOUT(race, d08_polled_all_the_time, 120)
{
	enum { POLLERS = 8, READERS = 4, PART = 2 * MB };
	struct call c[POLLERS] = { };
	struct cf_env *e = &self->e;
	struct cf_reader r[READERS];
	struct cf_server s;
	struct cf_result res;
	int stop[2], ret;

	ASSERT_EQ(0, cf_server_init(&s, e->dev));
	ASSERT_NE(NULL, cf_server_add(&s, "file", READERS * PART, 1));
	ASSERT_EQ(0, cf_server_thread(&s));
	ASSERT_EQ(0, pipe(stop));
	for (int i = 0; i < POLLERS; i++) {
		c[i].dev = e->dev;
		c[i].fd = stop[0];
		ASSERT_EQ(0, cf_task_start(&c[i].task, do_poll_often, &c[i]));
	}
	for (int i = 0; i < READERS; i++)
		ASSERT_EQ(0, start_read(e, &r[i], "file", 1, i * PART, PART));
	for (int i = 0; i < READERS; i++) {
		ASSERT_EQ(0, cf_reader_wait(&r[i], &res, 6 * LONG));
		EXPECT_EQ(0, res.err);
		EXPECT_EQ(-1, res.bad);
	}
	close(stop[1]);
	for (int i = 0; i < POLLERS; i++) {
		ASSERT_EQ(0, cf_task_wait(&c[i].task, &ret, LONG));
		EXPECT_EQ(0, ret);
	}
	cf_server_stop(&s);
	close(stop[0]);
}

/* The object goes while its descriptor is being used. */
static void used_while_withdrawn(struct __test_metadata *_metadata, struct cf_env *e,
				 int (*fn)(void *arg), int done)
{
	struct call c = { };
	struct cf_reader r;
	struct cf_msg m;
	int trap, ret;

	c.fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, c.fd);
	trap = cf_delay_arm("entered", 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, cf_task_start(&c.task, fn, &c));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	/* Neither waits for the other. */
	ASSERT_LE(0, cf_env_umount(e, PROMPT));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_CLOSE, LONG));
	EXPECT_EQ(0, cf_poll(e->dev, POLLIN, cf_ms(BRIEF)));
	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_task_wait(&c.task, &ret, PROMPT));
	EXPECT_TRUE(ret == done || ret == -ENOBUFS) {
		TH_LOG("result %d", ret);
	}
	EXPECT_EQ(-ENOBUFS, fn(&c));
	close(c.fd);
}

TEST_F(race, d09_written_while_withdrawn)
{
	used_while_withdrawn(_metadata, &self->e, do_fill, 4096);
}

TEST_F(race, d09_sought_while_withdrawn)
{
	used_while_withdrawn(_metadata, &self->e, do_seek, 0);
}

/* The cache ends while a look-up is at @point: it waits for that, and nobody hangs. */
static void closed_while_looking_up(struct __test_metadata *_metadata, struct cf_env *e,
				    const char *point)
{
	struct cf_result res;
	struct cf_reader r;
	struct call c = { };
	int trap, ret;

	trap = cf_delay_arm(point, 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	ASSERT_EQ(0, close_device(e, &c));
	EXPECT_EQ(-ETIMEDOUT, cf_task_wait(&c.task, &ret, BRIEF));
	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_task_wait(&c.task, &ret, PROMPT));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, PROMPT));
	EXPECT_EQ(EIO, res.err);
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
}

TEST_F(race, d10_closed_during_lookup)
{
	closed_while_looking_up(_metadata, &self->e, "lookup");
}

/* It has made its object, which nobody has asked the daemon about. */
TEST_F(race, d10_closed_after_lookup)
{
	closed_while_looking_up(_metadata, &self->e, "published");
}

/* The cache ends while fscache lets go of one of its volumes. */
TEST_F(race, d11_closed_while_volume_ends)
{
	struct cf_env *e = &self->e;
	struct cf_task umounting;
	struct cf_reader r;
	struct call c = { };
	struct cf_msg m;
	int trap, ret;

	ASSERT_LE(0, open_object(e, &r, "file", MB, &m));
	trap = cf_delay_arm("volume_end", 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, cf_task_start(&umounting, do_umount, e));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	ASSERT_EQ(0, close_device(e, &c));
	EXPECT_EQ(-ETIMEDOUT, cf_task_wait(&c.task, &ret, BRIEF));
	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_task_wait(&c.task, &ret, PROMPT));
	ASSERT_EQ(0, cf_task_wait(&umounting, &ret, PROMPT));
	EXPECT_LE(0, ret);
}

/* --- the end of the protocol --- */

/* It ends between a reader's search for a hole and the queue. */
TEST_F(race, d16_closed_before_enqueue)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct call c = { };
	struct cf_msg m;
	int trap, fd, ret;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	trap = cf_delay_arm("enqueue", 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	ASSERT_EQ(0, close_device(e, &c));
	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, PROMPT));
	EXPECT_EQ(EIO, res.err);
	ASSERT_EQ(0, cf_task_wait(&c.task, &ret, PROMPT));
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
}

/* The same before the reader of an object that was never opened begins to wait. */
TEST_F(race, d16_closed_before_waiting)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct call c = { };
	int trap, ret;

	trap = cf_delay_arm("admit", 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	ASSERT_EQ(0, close_device(e, &c));
	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, PROMPT));
	EXPECT_EQ(EIO, res.err);
	ASSERT_EQ(0, cf_task_wait(&c.task, &ret, PROMPT));
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
}

/*
 * It dies of an I/O error while a daemon reads a message: that is not
 * delivered, and what it was about is found by no answer.
 */
static void dead_while_delivered(struct __test_metadata *_metadata, struct cf_env *e,
				 const char *point, int result)
{
	struct call c = { .dev = e->dev };
	struct cf_msg m, victim;
	struct cf_reader r, v;
	struct cf_result res;
	int trap, fd, ret;

	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_stat(e, &v, "victim"));
	ASSERT_EQ(0, cf_expect(e->dev, &victim, CACHEFILES_OP_OPEN, LONG));
	if (strcmp(point, "arm_open")) {
		ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	} else {
		ASSERT_EQ(0, start_stat(e, &r, "other"));
	}
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	trap = cf_delay_arm(point, 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, cf_task_start(&c.task, do_read, &c));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));

	ASSERT_EQ(0, cf_error_injection(2));
	EXPECT_GT(0, cf_copen(e->dev, victim.hdr.msg_id, MB));
	cf_error_injection(0);
	EXPECT_LT(0, cf_poll(e->dev, POLLERR | POLLHUP, cf_ms(PROMPT)));
	ASSERT_EQ(0, cf_reader_wait(&v, &res, PROMPT));
	EXPECT_EQ(EIO, res.err);
	ASSERT_EQ(0, cf_reader_wait(&r, &res, PROMPT));
	EXPECT_EQ(EIO, res.err);

	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_task_wait(&c.task, &ret, PROMPT));
	EXPECT_EQ(result, ret);
	EXPECT_EQ(-EIO, cf_read(e->dev, &m));
	for (__u32 id = 0; id < 16; id++) {
		EXPECT_EQ(-EINVAL, cf_cread(fd, id));
		EXPECT_EQ(-EIO, cf_copen(e->dev, id, MB));
	}
	close(fd);
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
}

TEST_F(race, d03_dead_before_open_is_made)
{
	dead_while_delivered(_metadata, &self->e, "arm_open", 0);
}

TEST_F(race, d03_dead_while_delivered)
{
	dead_while_delivered(_metadata, &self->e, "picked", -EIO);
}

/* --- no read relies on what is being written --- */

/* What a daemon has written and is not done with is no data for a reader yet. */
TEST_F(race, read_during_a_fill)
{
	struct cf_env *e = &self->e;
	struct call c = { .seed = 1 };
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int trap, ret;

	c.fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, c.fd);
	trap = cf_delay_arm("written", 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, cf_task_start(&c.task, do_fill, &c));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	EXPECT_EQ(0, cf_rd(&m)->off);
	EXPECT_EQ(4096, cf_rd(&m)->len);
	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_task_wait(&c.task, &ret, PROMPT));
	EXPECT_EQ(4096, ret);
	EXPECT_EQ(0, cf_cread(c.fd, m.hdr.msg_id));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
}

/* What lies before it is, and nobody is asked for it again. */
TEST_F(race, read_up_to_a_fill)
{
	struct call c = { .seed = 1, .off = 64 * KB };
	struct cf_env *e = &self->e;
	struct cf_msg m[2];
	struct cf_result res;
	struct cf_reader r;
	int trap, ret;

	c.fd = open_object(e, &r, "file", MB, m);
	ASSERT_LE(0, c.fd);
	ASSERT_EQ(64 * KB, cf_fill(c.fd, 1, 0, 64 * KB, MB));
	trap = cf_delay_arm("written", 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, cf_task_start(&c.task, do_fill, &c));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	/* One read of what is there, what is being written, and what is missing. */
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 128 * KB));
	for (unsigned int i = 0; i < ARRAY_SIZE(m); i++) {
		ASSERT_EQ(0, cf_expect(e->dev, &m[i], CACHEFILES_OP_READ, LONG));
		EXPECT_LE(64 * KB, cf_rd(&m[i])->off);
	}
	EXPECT_EQ(64 * KB, cf_rd(&m[0])->len + cf_rd(&m[1])->len);
	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_task_wait(&c.task, &ret, PROMPT));
	EXPECT_EQ(4096, ret);
	for (unsigned int i = 0; i < ARRAY_SIZE(m); i++)
		ASSERT_EQ(0, serve_read(&m[i], c.fd, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(128 * KB, res.n);
	EXPECT_EQ(-1, res.bad);
}

/* Have @c fill in a thread, which fails for want of space, and stop that before it tidies up. */
static int start_failing_fill(struct call *c)
{
	int trap = cf_delay_arm("write_failed", 0), ret = cf_error_injection(1);

	if (!ret)
		ret = cf_task_start(&c->task, do_fill, c);
	if (!ret)
		ret = cf_delay_caught(trap, LONG);
	cf_error_injection(0);
	return ret < 0 ? ret : trap;
}

/* A write over data fails: who reads them is through before they are taken away. */
static void read_before_failed_fill(struct __test_metadata *_metadata, struct cf_env *e,
				    const char *point, bool served)
{
	struct call c = { .seed = 1 };
	int reader, failed, cut, ret;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;

	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	c.fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, c.fd);
	ASSERT_EQ(4096, cf_fill(c.fd, 1, 0, 4096, MB));
	reader = cf_delay_arm(point, 0);
	cut = cf_delay_arm("cut_begun", 0);
	ASSERT_LE(0, reader);
	ASSERT_LE(0, cut);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	ASSERT_LT(0, cf_delay_caught(reader, LONG));

	failed = start_failing_fill(&c);
	ASSERT_LE(0, failed);
	EXPECT_EQ(0, cf_delay_go(failed));
	/* The data have to stay for as long as somebody may be reading them. */
	EXPECT_EQ(-ETIMEDOUT, cf_delay_caught(cut, BRIEF));
	EXPECT_EQ(0, cf_delay_go(reader));
	ASSERT_LT(0, cf_delay_caught(cut, LONG));
	if (!served) {
		/* He has noticed, and asks instead. */
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
		EXPECT_EQ(0, cf_delay_go(cut));
		ASSERT_EQ(0, cf_task_wait(&c.task, &ret, PROMPT));
		ASSERT_EQ(0, serve_read(&m, c.fd, 1, MB));
	}
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(4096, res.n);
	EXPECT_EQ(-1, res.bad);
	if (served) {
		EXPECT_EQ(0, cf_delay_go(cut));
		ASSERT_EQ(0, cf_task_wait(&c.task, &ret, PROMPT));
	}
	EXPECT_GT(0, ret);
}

TEST_F(race, read_before_failed_fill)
{
	read_before_failed_fill(_metadata, &self->e, "start", true);
}

TEST_F(race, found_before_failed_fill)
{
	read_before_failed_fill(_metadata, &self->e, "found", false);
}

/*
 * One who comes when a write that fails has begun to wait for others is not waited for: he
 * sees the data, and when he goes on they are gone, and so is the write.
 */
TEST_F(race, looked_during_a_failed_fill)
{
	struct call c = { .seed = 1 };
	struct cf_env *e = &self->e;
	int first, failed, cut, found, other, ret;
	struct cf_reader r, before;
	struct cf_msg m;
	bool over;

	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	other = open_object(e, &r, "other", MB, &m);
	ASSERT_LE(0, other);
	ASSERT_EQ(4096, cf_fill(other, 2, 0, 4096, MB));
	c.fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, c.fd);
	ASSERT_EQ(4096, cf_fill(c.fd, 1, 0, 4096, MB));
	first = cf_delay_arm("start", 0);
	cut = cf_delay_arm("cut_begun", 0);
	ASSERT_LE(0, first);
	ASSERT_LE(0, cut);
	ASSERT_EQ(0, start_read(e, &before, "other", 2, 0, 4096));
	ASSERT_LT(0, cf_delay_caught(first, LONG));

	failed = start_failing_fill(&c);
	ASSERT_LE(0, failed);
	EXPECT_EQ(0, cf_delay_go(failed));
	EXPECT_EQ(-ETIMEDOUT, cf_delay_caught(cut, BRIEF));
	found = cf_delay_arm("found", 0);
	ASSERT_LE(0, found);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	ASSERT_LT(0, cf_delay_caught(found, LONG));
	EXPECT_EQ(0, cf_delay_go(first));
	EXPECT_EQ(4096, reader_outcome(&before));

	/* If it has begun to wait later than that, it waits for him as well. */
	over = cf_delay_caught(cut, PROMPT) > 0;
	if (over) {
		EXPECT_EQ(0, cf_delay_go(cut));
		ASSERT_EQ(0, cf_task_wait(&c.task, &ret, PROMPT));
	}
	EXPECT_EQ(0, cf_delay_go(found));
	if (!over) {
		ASSERT_LT(0, cf_delay_caught(cut, LONG));
		EXPECT_EQ(0, cf_delay_go(cut));
		ASSERT_EQ(0, cf_task_wait(&c.task, &ret, PROMPT));
	}
	EXPECT_GT(0, ret);
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, serve_read(&m, c.fd, 1, MB));
	EXPECT_EQ(4096, reader_outcome(&r));
}

static int close_bare(const struct cf_nf_job *job, int vol, int fd)
{
	int ret = cf_nf_detach(job->nf, job->cookie, false);

	if (!ret)
		ret = cf_nf_volume_end(job->nf, vol, NULL, 0, false);
	close(job->nf);
	close(fd);
	return ret;
}

/* Have @job read by @r, whose READ is @m, and fill that at @c->off before a write fails there. */
static void bring_and_take_away(struct __test_metadata *_metadata, struct cf_env *e,
				struct cf_nf_job *job, struct call *c, struct cf_reader *r,
				struct cf_msg *m)
{
	int failed, ret;

	ASSERT_EQ(0, cf_child_with(r, job->nf, cf_nf_read_granule, job));
	ASSERT_EQ(0, cf_expect(e->dev, m, CACHEFILES_OP_READ, LONG));
	failed = start_failing_fill(c);
	ASSERT_LE(0, failed);
	ASSERT_EQ(4096, cf_fill(c->fd, 1, c->off, 4096, MB));
	EXPECT_EQ(0, cf_delay_go(failed));
	ASSERT_EQ(0, cf_task_wait(&c->task, &ret, PROMPT));
	EXPECT_GT(0, ret);
}

/*
 * Two fill what a READ asks for, and the write that fails takes away what the other has
 * brought: it is asked for again, once.
 */
TEST_F(race, brought_and_taken_away)
{
	struct cf_nf_job job = { .nf = cf_nf_open(), .seed = 1 };
	struct call c = { .seed = 1 };
	struct cf_env *e = &self->e;
	struct cf_reader r;
	struct cf_msg m;
	int vol;

	if (job.nf < 0)
		SKIP(return, CF_NO_NETFS);
	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	c.fd = open_bare(e, &job, &vol);
	ASSERT_LE(0, c.fd);
	for (int served = 1; served >= 0; served--) {
		job.off = served * MB / 2;
		c.off = job.off;
		bring_and_take_away(_metadata, e, &job, &c, &r, &m);
		EXPECT_EQ(0, cf_cread(c.fd, m.hdr.msg_id));
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
		EXPECT_EQ(c.off, cf_rd(&m)->off);
		if (served)
			EXPECT_EQ(4096, cf_fill(c.fd, 1, c.off, 4096, MB));
		EXPECT_EQ(0, cf_cread(c.fd, m.hdr.msg_id));
		EXPECT_EQ(served ? 0 : -EIO, reader_outcome(&r));
		EXPECT_EQ(1, cf_idle(e->dev));
	}
	ASSERT_EQ(0, close_bare(&job, vol, c.fd));
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
}

struct answer {
	int	fd;
	__u32	id;
};

static int do_answer(void *arg)
{
	const struct answer *a = arg;

	return cf_cread(a->fd, a->id);
}

/* And it is asked for, though another READ has ended just then. */
TEST_F(race, taken_away_beside_another_read)
{
	struct cf_nf_job job = { .nf = cf_nf_open(), .seed = 1 }, far;
	struct call c = { .seed = 1 };
	struct cf_env *e = &self->e;
	struct cf_reader r, other;
	int trap, ret, vol;
	struct cf_task answering;
	struct cf_msg m, m2;
	struct answer a;

	if (job.nf < 0)
		SKIP(return, CF_NO_NETFS);
	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	c.fd = open_bare(e, &job, &vol);
	ASSERT_LE(0, c.fd);
	far = job;
	far.off = MB / 2;
	ASSERT_EQ(0, cf_child_with(&other, job.nf, cf_nf_read_granule, &far));
	ASSERT_EQ(0, cf_expect(e->dev, &m2, CACHEFILES_OP_READ, LONG));
	bring_and_take_away(_metadata, e, &job, &c, &r, &m);
	trap = cf_delay_arm("enqueue", 0);
	ASSERT_LE(0, trap);
	a = (struct answer) { c.fd, m.hdr.msg_id };
	ASSERT_EQ(0, cf_task_start(&answering, do_answer, &a));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	ASSERT_EQ(0, serve_read(&m2, c.fd, 1, MB));
	EXPECT_EQ(0, reader_outcome(&other));
	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_task_wait(&answering, &ret, PROMPT));
	EXPECT_EQ(0, ret);
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, serve_read(&m, c.fd, 1, MB));
	EXPECT_EQ(0, reader_outcome(&r));
	ASSERT_EQ(0, close_bare(&job, vol, c.fd));
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
}

/*
 * Who followed a reader that was killed looks at the backing file again, whose disk may hang;
 * others that are killed meanwhile do not wait for that.
 */
TEST_F(race, reaped_while_another_one_looks)
{
	struct cf_nf_job job = { .nf = cf_nf_open(), .seed = 1 }, far;
	struct cf_reader leader, follower, other;
	struct cf_env *e = &self->e;
	int fd, vol, trap, trace;
	struct cf_msg m;

	if (job.nf < 0)
		SKIP(return, CF_NO_NETFS);
	trace = cf_trace_start();
	if (trace < 0)
		SKIP(return, CF_NO_TRACEPOINTS);
	fd = open_bare(e, &job, &vol);
	ASSERT_LE(0, fd);
	far = job;
	far.off = MB / 2;
	ASSERT_EQ(0, cf_child_with(&leader, job.nf, cf_nf_read_granule, &job));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, cf_child_with(&follower, job.nf, cf_nf_read_granule, &job));
	EXPECT_EQ(0, cf_trace_wait(trace, "IDLE -> FOLLOWING", LONG));
	ASSERT_EQ(0, cf_child_with(&other, job.nf, cf_nf_read_granule, &far));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));

	trap = cf_delay_arm("admit", 0);
	ASSERT_LE(0, trap);
	ASSERT_LE(0, cf_reader_kill(&leader, LONG));
	EXPECT_EQ(0, cf_trace_wait(trace, "SENT -> DONE", LONG));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	EXPECT_LE(0, cf_reader_kill(&other, LONG));
	EXPECT_EQ(0, cf_trace_wait(trace, "SENT -> DONE", LONG));
	cf_trace_stop(trace);
	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	EXPECT_EQ(0, reader_outcome(&follower));
	EXPECT_EQ(0, close_bare(&job, vol, fd));
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
}

/* Whom it waits for reads from the same cache: the disk of another one may hang. */
TEST_F(race, failed_fill_beside_a_read)
{
	struct call c = { .seed = 1 };
	struct cf_env *e = &self->e, other;
	struct cf_reader r, first;
	struct cf_msg m;
	int fd, trap, ret;

	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	ASSERT_EQ(0, env_beside(&other, e));
	ASSERT_EQ(0, cf_env_bind(&other));
	ASSERT_EQ(0, cf_env_mount(&other));
	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(4096, cf_fill(fd, 1, 0, 4096, MB));
	c.fd = open_object(&other, &r, "file", MB, &m);
	ASSERT_LE(0, c.fd);
	trap = cf_delay_arm("start", 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, start_read(e, &first, "file", 1, 0, 4096));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	ASSERT_EQ(0, cf_error_injection(1));
	ASSERT_EQ(0, cf_task_start(&c.task, do_fill, &c));
	EXPECT_EQ(0, cf_task_wait(&c.task, &ret, PROMPT));
	cf_error_injection(0);
	EXPECT_GT(0, ret);
	EXPECT_EQ(0, cf_delay_go(trap));
	EXPECT_EQ(4096, reader_outcome(&first));
	close(c.fd);
	EXPECT_LE(0, cf_env_umount(&other, PROMPT));
	close(other.dev);
}

/*
 * A file system that waits where it can be killed tells a daemon so that is killed: what it
 * was writing is not there then, and that is all.
 */
TEST_F(race, killed_in_a_fill)
{
	struct call c = { .seed = 1 };
	struct cf_env *e = &self->e;
	struct cf_reader r, d;
	struct cf_msg m;
	int trap;

	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	c.fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, c.fd);
	ASSERT_EQ(4096, cf_fill(c.fd, 2, 0, 4096, MB));
	trap = cf_delay_arm("entered", 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, cf_child_with(&d, c.fd, do_fill, &c));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	ASSERT_EQ(0, cf_error_injection(4));
	EXPECT_LE(0, cf_reader_kill(&d, LONG));
	cf_error_injection(0);
	EXPECT_EQ(0, cf_cmd(e->dev, "debug 0"));
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, serve_read(&m, c.fd, 1, MB));
	EXPECT_EQ(4096, reader_outcome(&r));
}

/* And who comes when it has failed and the data are still there does not believe them. */
TEST_F(race, read_before_failed_fill_is_punched)
{
	struct cf_env *e = &self->e;
	struct call c = { .seed = 1 };
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int failed, ret;

	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	c.fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, c.fd);
	ASSERT_EQ(4096, cf_fill(c.fd, 2, 0, 4096, MB));
	failed = start_failing_fill(&c);
	ASSERT_LE(0, failed);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	EXPECT_EQ(0, cf_delay_go(failed));
	ASSERT_EQ(0, cf_task_wait(&c.task, &ret, PROMPT));
	EXPECT_GT(0, ret);
	ASSERT_EQ(0, serve_read(&m, c.fd, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
}

/* If it can't be taken away either, nobody believes what is there, who has begun or not. */
TEST_F(race, failed_fill_that_stays)
{
	struct call c = { .seed = 1 };
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int trap, failed, ret;

	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	c.fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, c.fd);
	ASSERT_EQ(4096, cf_fill(c.fd, 2, 0, 4096, MB));
	trap = cf_delay_arm("admit", 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	failed = start_failing_fill(&c);
	ASSERT_LE(0, failed);
	ASSERT_EQ(0, cf_error_injection(2));
	EXPECT_EQ(0, cf_delay_go(failed));
	EXPECT_EQ(0, cf_task_wait(&c.task, &ret, PROMPT));
	cf_error_injection(0);
	EXPECT_GT(0, ret);
	EXPECT_EQ(-EIO, cf_cmd(e->dev, "debug 0"));
	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, PROMPT));
	EXPECT_EQ(EIO, res.err);
	close(c.fd);
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
}

/*
 * The object of a file goes while a daemon writes it, and comes back: the next opening waits
 * until nothing can be taken away under its reads, no longer than its daemon lives.
 */
TEST_F(race, opened_during_an_old_fill)
{
	struct call fill = { .seed = 1 }, c = { .dev = self->e.dev };
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int failed, fd, ret;
	pid_t pid;

	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	fill.fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fill.fd);
	ASSERT_EQ(4096, cf_fill(fill.fd, 2, 0, 4096, MB));
	failed = start_failing_fill(&fill);
	ASSERT_LE(0, failed);
	ASSERT_EQ(0, drop_object(e, &m));

	/* Another file has nothing to wait for. */
	fd = open_object(e, &r, "other", MB, &m);
	ASSERT_LE(0, fd);
	close(fd);
	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(0, cf_expect(e->dev, &c.m, CACHEFILES_OP_OPEN, LONG));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(do_copen(&c) ? 1 : 0);
	fd = cf_pidfd(pid);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, cf_poll(fd, POLLIN, cf_ms(BRIEF)));
	EXPECT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(POLLIN, cf_poll(fd, POLLIN, cf_ms(PROMPT)));
	waitpid(pid, &ret, 0);
	close(fd);

	ASSERT_EQ(0, cf_task_start(&c.task, do_copen, &c));
	EXPECT_EQ(-ETIMEDOUT, cf_task_wait(&c.task, &ret, BRIEF));
	EXPECT_EQ(0, cf_delay_go(failed));
	ASSERT_EQ(0, cf_task_wait(&fill.task, &ret, PROMPT));
	EXPECT_GT(0, ret);
	ASSERT_EQ(0, cf_task_wait(&c.task, &ret, PROMPT));
	EXPECT_EQ(0, ret);
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);

	/* What was there is gone with the write that failed. */
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, serve_read(&m, cf_open_fd(&c.m), 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
}

/* The object goes once more while its opening waits: so does that. */
TEST_F(race, dropped_during_an_old_fill)
{
	struct call fill = { .seed = 1 }, c = { .dev = self->e.dev };
	struct cf_env *e = &self->e;
	struct cf_reader r;
	struct cf_msg m;
	int written, ret;

	fill.fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fill.fd);
	written = cf_delay_arm("written", 0);
	ASSERT_LE(0, written);
	ASSERT_EQ(0, cf_task_start(&fill.task, do_fill, &fill));
	ASSERT_LT(0, cf_delay_caught(written, LONG));
	ASSERT_EQ(0, drop_object(e, &m));
	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(0, cf_expect(e->dev, &c.m, CACHEFILES_OP_OPEN, LONG));
	ASSERT_EQ(0, cf_task_start(&c.task, do_copen, &c));
	EXPECT_EQ(-ETIMEDOUT, cf_task_wait(&c.task, &ret, BRIEF));
	EXPECT_LE(0, cf_reader_kill(&r, PROMPT));
	ASSERT_LE(0, cf_env_umount(e, PROMPT));
	ASSERT_EQ(0, cf_task_wait(&c.task, &ret, PROMPT));
	EXPECT_EQ(-EIO, ret);
	EXPECT_EQ(0, cf_delay_go(written));
	ASSERT_EQ(0, cf_task_wait(&fill.task, &ret, PROMPT));
	EXPECT_EQ(4096, ret);
}

/*
 * A cache comes back under an open file, and its daemon says that the file is shorter: who
 * reads behind that gets no zeros. The read is there before the daemon says so.
 */
TEST_F(race, d47_shorter_under_an_open_file)
{
	struct call held = { .off = MB / 2 };
	struct cf_env *e = &self->e;
	struct cf_reader r, o;
	struct cf_result res;
	struct cf_msg m;
	int fd, trap, trace, ret;
	char path[160];

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	snprintf(path, sizeof(path), "%s/file", e->mnt);
	held.fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, held.fd);
	close(fd);
	ASSERT_EQ(0, cf_env_rebind(e));

	trace = cf_trace_start();
	if (trace < 0)
		SKIP(return, CF_NO_TRACEPOINTS);
	ASSERT_EQ(0, start_read(e, &o, "file", 1, 0, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	/* Past the point where the other one is to be stopped. */
	EXPECT_EQ(0, cf_trace_wait(trace, "IDLE -> BLOCKED", LONG));
	cf_trace_stop(trace);
	trap = cf_delay_arm("admit", 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, cf_task_start(&held.task, do_pread, &held));
	ret = cf_delay_caught(trap, LONG);
	ASSERT_EQ(held.task.id, ret);
	ASSERT_EQ(0, cf_delay_go(trap));

	EXPECT_EQ(-ESTALE, cf_copen(e->dev, m.hdr.msg_id, 4096));
	close(cf_open_fd(&m));
	/* Path walk tries once more after that, and the page cache may. */
	while (!cf_reader_done(&o) || cf_task_wait(&held.task, &ret, 0)) {
		if (cf_next(e->dev, &m, BRIEF) == -ETIMEDOUT)
			continue;
		ASSERT_EQ(CACHEFILES_OP_OPEN, m.hdr.opcode);
		EXPECT_EQ(-ESTALE, cf_copen(e->dev, m.hdr.msg_id, 4096));
		close(cf_open_fd(&m));
	}
	ASSERT_EQ(0, cf_reader_wait(&o, &res, LONG));
	EXPECT_EQ(ESTALE, res.err);
	EXPECT_EQ(-EIO, ret);
	close(held.fd);
}

/* A cache that is still being torn down is waited for, but not by who is killed. */
TEST_F(race, bound_while_torn_down)
{
	struct cf_env *e = &self->e;
	struct cf_task binding;
	struct call c = {};
	struct cf_reader r;
	int trap, ret;

	trap = cf_delay_arm("teardown", 0);
	ASSERT_LE(0, trap);
	c.dev = e->dev;
	e->dev = -1;
	ASSERT_EQ(0, cf_task_start(&c.task, do_close, &c));
	ASSERT_LE(0, cf_delay_caught(trap, LONG));

	ASSERT_EQ(0, cf_child(&r, do_rebind, e));
	EXPECT_EQ(0, cf_poll(r.pipe, POLLIN, cf_ms(BRIEF)));
	EXPECT_LE(0, cf_reader_kill(&r, PROMPT));
	ASSERT_EQ(0, cf_task_start(&binding, do_rebind, e));
	EXPECT_EQ(-ETIMEDOUT, cf_task_wait(&binding, &ret, BRIEF));
	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_task_wait(&binding, &ret, LONG));
	EXPECT_EQ(0, ret);
	ASSERT_EQ(0, cf_task_wait(&c.task, &ret, LONG));
}

TEST_HARNESS_MAIN
