// SPDX-License-Identifier: GPL-2.0-only
/*
 * A request goes on from wherever it is, also by the moves that no other test comes by:
 * each of them is made to happen here, and whoever waits gets the right data.
 *
 * model/main.py replay tells which moves all tests together have not shown.
 */
#include "harness.h"
#include "lib/delay.h"
#include "lib/task.h"
#include "lib/trace.h"

FIXTURE(moves) {
	struct cf_env e;
	int trace;
};

FIXTURE_SETUP(moves)
{
	self->trace = -1;
	self->e.dev = -1;
	if (world)
		SKIP(return, "%s", cf_why);
	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	self->trace = cf_trace_start();
	if (self->trace < 0)
		SKIP(return, CF_NO_TRACEPOINTS);
	ASSERT_EQ(0, cf_env_init(&self->e));
	ASSERT_EQ(0, cf_env_bind(&self->e));
	ASSERT_EQ(0, cf_env_mount(&self->e));
}

FIXTURE_TEARDOWN(moves)
{
	cf_error_injection(0);
	EXPECT_NE(-ETIMEDOUT, cf_env_exit(&self->e));
	if (self->trace >= 0)
		cf_trace_stop(self->trace);
}

/* A call of a daemon, in a thread or a process of its own. */
struct call {
	int		dev;
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

	return -cf_copen(c->dev, c->m.hdr.msg_id, MB);
}

static int do_restore(void *arg)
{
	struct call *c = arg;

	return -cf_cmd(c->dev, "restore");
}

/* One OPEN and one READ. */
static int do_serve(void *arg)
{
	struct call *c = arg;
	int fd, ret;

	ret = cf_expect(c->dev, &c->m, CACHEFILES_OP_OPEN, LONG);
	if (ret)
		return -ret;
	fd = cf_open_fd(&c->m);
	ret = cf_copen(c->dev, c->m.hdr.msg_id, MB);
	if (!ret)
		ret = cf_expect(c->dev, &c->m, CACHEFILES_OP_READ, LONG);
	return -(ret ? ret : serve_read(&c->m, fd, 1, MB));
}

static void good(struct __test_metadata *_metadata, struct cf_reader *r)
{
	struct cf_result res;

	ASSERT_EQ(0, cf_reader_wait(r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
}

/* Answer the OPEN @m, and the READ that comes then. */
static void serve_both(struct __test_metadata *_metadata, int dev, const struct cf_msg *m)
{
	struct cf_msg rd;
	int fd = cf_open_fd(m);

	ASSERT_EQ(0, cf_copen(dev, m->hdr.msg_id, MB));
	ASSERT_EQ(0, cf_expect(dev, &rd, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, serve_read(&rd, fd, 1, MB));
	close(fd);
}

/* An object that was open once and whose descriptor is closed. */
static void closed_object(struct __test_metadata *_metadata, struct cf_env *e)
{
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	close(fd);
}

/* The task that attaches the file is killed, and with RESTORED somebody takes over before. */
static void kill_copen(struct __test_metadata *_metadata, struct cf_env *e, struct call *c,
		       bool restored)
{
	struct cf_reader d, other;
	struct cf_result res;
	int trap;

	trap = cf_delay_arm("attach", 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, cf_child_with(&d, e->dev, do_copen, c));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	if (restored) {
		ASSERT_EQ(0, cf_child_with(&other, e->dev, do_restore, c));
		ASSERT_EQ(0, cf_reader_wait(&other, &res, LONG));
		ASSERT_EQ(0, res.err);
	}
	ASSERT_EQ(0, cf_error_injection(1));
	ASSERT_LE(0, cf_reader_kill(&d, LONG));
	close(trap);
	ASSERT_EQ(0, cf_error_injection(0));
}

/* ATTACHING -> SENT: it is killed, and another one can answer. */
TEST_F(moves, copen_killed)
{
	struct cf_env *e = &self->e;
	struct call c = { .dev = e->dev };
	struct cf_reader r;

	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 4096, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &c.m, CACHEFILES_OP_OPEN, LONG));
	kill_copen(_metadata, e, &c, false);
	EXPECT_EQ(0, cf_trace_wait(self->trace, "ATTACHING -> SENT", LONG));
	serve_both(_metadata, e->dev, &c.m);
	good(_metadata, &r);
}

/* ATTACHING -> SENT -> QUEUED: it is killed when somebody has taken over already. */
TEST_F(moves, d26_copen_killed_after_restore)
{
	struct cf_env *e = &self->e;
	struct call c = { .dev = e->dev };
	struct cf_reader r;
	struct cf_msg m;

	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 4096, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &c.m, CACHEFILES_OP_OPEN, LONG));
	EXPECT_EQ(1, cf_idle(e->dev));
	kill_copen(_metadata, e, &c, true);
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	EXPECT_EQ(c.m.hdr.msg_id, m.hdr.msg_id);
	EXPECT_NE(c.m.hdr.object_id, m.hdr.object_id);
	EXPECT_EQ(-ENOBUFS, cf_fill(cf_open_fd(&c.m), 1, 0, 4096, MB));
	close(cf_open_fd(&c.m));
	serve_both(_metadata, e->dev, &m);
	good(_metadata, &r);
}

/*
 * QUEUED -> DONE: an OPEN that could not be delivered ends with its object, or with the
 * cache.
 */
static void undelivered(struct __test_metadata *_metadata, struct cf_env *e, bool again,
			bool dead)
{
	struct cf_result res;
	struct cf_reader r;

	if (again)
		closed_object(_metadata, e);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 4096, 4096));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	ASSERT_EQ(-1, read(e->dev, (void *)4096, CACHEFILES_MSG_MAX_SIZE));
	ASSERT_EQ(EFAULT, errno);
	if (dead) {
		close(e->dev);
		e->dev = -1;
		ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
		EXPECT_EQ(EIO, res.err);
	} else {
		ASSERT_LE(0, cf_reader_kill(&r, LONG));
		ASSERT_LE(0, cf_env_umount(e, LONG));
		EXPECT_EQ(0, until_idle(e));
	}
}

TEST_F(moves, opening_dropped)
{
	undelivered(_metadata, &self->e, false, false);
}

TEST_F(moves, opening_dead)
{
	undelivered(_metadata, &self->e, false, true);
}

TEST_F(moves, reopening_dropped)
{
	undelivered(_metadata, &self->e, true, false);
}

TEST_F(moves, reopening_dead)
{
	undelivered(_metadata, &self->e, true, true);
}

/* COPYING -> DONE: the object goes while somebody copies the OPEN of another opening. */
TEST_F(moves, dropped_in_copy_of_open)
{
	struct cf_env *e = &self->e;
	struct call c = { .dev = e->dev };
	struct cf_reader r;
	struct cf_task t;
	int trap, ret;

	closed_object(_metadata, e);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 4096, 4096));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	trap = cf_delay_arm("picked", 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, cf_task_start(&t, do_read, &c));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	ASSERT_LE(0, cf_reader_kill(&r, LONG));
	ASSERT_LE(0, cf_env_umount(e, LONG));
	EXPECT_EQ(0, cf_trace_wait(self->trace, "COPYING -> DONE", LONG));
	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_task_wait(&t, &ret, LONG));
	EXPECT_EQ(0, ret);
	EXPECT_EQ(1, cf_idle(e->dev));
}

/* SENT -> QUEUED: another process takes over the OPEN of a further opening. */
TEST_F(moves, reopening_restored)
{
	struct cf_env *e = &self->e;
	struct call c = { .dev = e->dev };
	struct cf_reader r, d;
	struct cf_result res;
	struct cf_msg m;

	closed_object(_metadata, e);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 4096, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	ASSERT_EQ(0, cf_child_with(&d, e->dev, do_restore, &c));
	ASSERT_EQ(0, cf_reader_wait(&d, &res, LONG));
	ASSERT_EQ(0, res.err);
	ASSERT_EQ(0, cf_expect(e->dev, &c.m, CACHEFILES_OP_OPEN, LONG));
	EXPECT_EQ(m.hdr.msg_id, c.m.hdr.msg_id);
	EXPECT_NE(m.hdr.object_id, c.m.hdr.object_id);
	close(cf_open_fd(&m));
	serve_both(_metadata, e->dev, &c.m);
	good(_metadata, &r);
}

/* BLOCKED -> IDLE in CLOSED: the descriptor goes while copen attaches the file. */
TEST_F(moves, closed_in_copen)
{
	struct cf_env *e = &self->e;
	struct call c = { .dev = e->dev };
	struct cf_reader r;
	struct cf_task t;
	int trap, ret;

	ASSERT_EQ(0, start_read(e, &r, "file", 1, 4096, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &c.m, CACHEFILES_OP_OPEN, LONG));
	trap = cf_delay_arm("settle", 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, cf_task_start(&t, do_copen, &c));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	close(cf_open_fd(&c.m));
	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_task_wait(&t, &ret, LONG));
	EXPECT_EQ(0, ret);
	ASSERT_EQ(0, cf_expect(e->dev, &c.m, CACHEFILES_OP_OPEN, LONG));
	serve_both(_metadata, e->dev, &c.m);
	good(_metadata, &r);
}

/*
 * COPYING -> DONE of a READ: its descriptor is closed and its reader killed while it is
 * copied, and the object is opened again, or not, for another one.
 */
static void killed_in_copy(struct __test_metadata *_metadata, struct cf_env *e, int trace,
			   bool again)
{
	struct call c = { .dev = e->dev };
	struct cf_reader r, other;
	struct cf_task t;
	struct cf_msg m;
	int fd, trap, ret;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 4096, 4096));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	trap = cf_delay_arm("picked", 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, cf_task_start(&t, do_read, &c));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	close(fd);
	if (again) {
		ASSERT_EQ(0, start_read(e, &other, "file", 1, 65536, 4096));
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	}
	ASSERT_LE(0, cf_reader_kill(&r, LONG));
	EXPECT_EQ(0, cf_trace_wait(trace, "COPYING -> DONE", LONG));
	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_task_wait(&t, &ret, LONG));
	EXPECT_EQ(0, ret);
	EXPECT_EQ(1, cf_idle(e->dev));
	if (again) {
		serve_both(_metadata, e->dev, &m);
		good(_metadata, &other);
	}
}

TEST_F(moves, killed_in_copy_closed)
{
	killed_in_copy(_metadata, &self->e, self->trace, false);
}

TEST_F(moves, killed_in_copy_reopening)
{
	killed_in_copy(_metadata, &self->e, self->trace, true);
}

/*
 * DONE -> IDLE: a daemon that has answered is killed before it could carry the read on,
 * and its descriptors go with it. A worker does so; it needs no descriptor.
 */
static void killed_after_answer(struct __test_metadata *_metadata, struct cf_env *e, bool again)
{
	struct call c = { .dev = e->dev };
	struct cf_reader r, d, other;
	int trap, worker;
	struct cf_msg m;

	ASSERT_EQ(0, cf_child_with(&d, e->dev, do_serve, &c));
	ASSERT_EQ(0, start_stat(e, &r, "file"));
	good(_metadata, &r);
	trap = cf_delay_arm("done", 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 4096, 4096));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	worker = cf_delay_arm("fetch_work", 0);
	ASSERT_LE(0, worker);
	ASSERT_LE(0, cf_reader_kill(&d, LONG));
	close(trap);
	ASSERT_LT(0, cf_delay_caught(worker, LONG));
	if (again) {
		ASSERT_EQ(0, start_read(e, &other, "file", 1, 65536, 4096));
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	}
	EXPECT_EQ(0, cf_delay_go(worker));
	good(_metadata, &r);
	if (again) {
		serve_both(_metadata, e->dev, &m);
		good(_metadata, &other);
	}
	EXPECT_EQ(1, cf_idle(e->dev));
}

TEST_F(moves, killed_after_answer_closed)
{
	killed_after_answer(_metadata, &self->e, false);
}

TEST_F(moves, killed_after_answer_reopening)
{
	killed_after_answer(_metadata, &self->e, true);
}

/* --- two reads of one place; a page cache never makes them --- */

FIXTURE(follow) {
	struct cf_env e;
	int trace;
	int nf;
};

FIXTURE_VARIANT(follow) {
	enum { OPEN, CLOSED, REOPENING } state;	/* of the object meanwhile */
	bool	leader;			/* is killed, or else the follower */
};

FIXTURE_VARIANT_ADD(follow, open_leader_killed) {
	.state = OPEN, .leader = true,
};

FIXTURE_VARIANT_ADD(follow, open_follower_killed) {
	.state = OPEN,
};

FIXTURE_VARIANT_ADD(follow, closed_leader_killed) {
	.state = CLOSED, .leader = true,
};

FIXTURE_VARIANT_ADD(follow, closed_follower_killed) {
	.state = CLOSED,
};

FIXTURE_VARIANT_ADD(follow, reopening_leader_killed) {
	.state = REOPENING, .leader = true,
};

FIXTURE_VARIANT_ADD(follow, reopening_follower_killed) {
	.state = REOPENING,
};

FIXTURE_SETUP(follow)
{
	self->nf = -1;
	self->trace = -1;
	self->e.dev = -1;
	if (world)
		SKIP(return, "%s", cf_why);
	self->nf = cf_nf_open();
	if (self->nf < 0)
		SKIP(return, CF_NO_NETFS);
	self->trace = cf_trace_start();
	if (self->trace < 0)
		SKIP(return, CF_NO_TRACEPOINTS);
	ASSERT_EQ(0, cf_env_init(&self->e));
	ASSERT_EQ(0, cf_env_bind(&self->e));
}

FIXTURE_TEARDOWN(follow)
{
	if (self->nf >= 0)
		close(self->nf);
	EXPECT_NE(-ETIMEDOUT, cf_env_exit(&self->e));
	if (self->trace >= 0)
		cf_trace_stop(self->trace);
}

TEST_F(follow, killed)
{
	struct cf_reader leader, follower, *victim = &follower, *other = &leader;
	struct cf_nf_job o = { .nf = self->nf, .seed = 1 };
	int dev = self->e.dev, fd, vol;
	struct cf_msg m, rd;

	fd = open_bare(&self->e, &o, &vol);
	ASSERT_LE(0, fd);
	if (variant->state != OPEN)
		close(fd);

	ASSERT_EQ(0, cf_child_with(&leader, o.nf, cf_nf_read_granule, &o));
	ASSERT_EQ(POLLIN, cf_poll(dev, POLLIN, cf_ms(LONG)));
	if (variant->state == REOPENING) {
		ASSERT_EQ(0, cf_expect(dev, &m, CACHEFILES_OP_OPEN, LONG));
	}
	ASSERT_EQ(0, cf_child_with(&follower, o.nf, cf_nf_read_granule, &o));
	ASSERT_EQ(0, cf_trace_wait(self->trace, "IDLE -> FOLLOWING", LONG));
	if (variant->leader) {
		victim = &leader;
		other = &follower;
	}
	ASSERT_LE(0, cf_reader_kill(victim, LONG));
	ASSERT_EQ(0, cf_trace_wait(self->trace, variant->leader ? "FOLLOWING -> IDLE" :
				   "FOLLOWING -> DONE", LONG));

	/* The one that is left gets its data. */
	if (variant->state == CLOSED) {
		ASSERT_EQ(0, cf_expect(dev, &m, CACHEFILES_OP_OPEN, LONG));
	}
	if (variant->state != OPEN) {
		serve_both(_metadata, dev, &m);
	} else {
		ASSERT_EQ(0, cf_expect(dev, &rd, CACHEFILES_OP_READ, LONG));
		ASSERT_EQ(0, serve_read(&rd, fd, 1, MB));
	}
	good(_metadata, other);
	EXPECT_EQ(1, cf_idle(dev));
	ASSERT_EQ(0, cf_nf_detach(o.nf, o.cookie, false));
	ASSERT_EQ(0, cf_nf_volume_end(o.nf, vol, NULL, 0, false));
}

TEST_HARNESS_MAIN
