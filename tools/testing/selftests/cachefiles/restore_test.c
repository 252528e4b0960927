// SPDX-License-Identifier: GPL-2.0-only
/*
 * A daemon may be killed at any message and at any step of serving it: its
 * successor writes restore, and the reader gets the right data and no error.
 */
#include "harness.h"

#include <sys/socket.h>

FIXTURE_VARIANT(ondemand) {
	unsigned int	op;
	int		nth;
	enum cf_point	point;
	bool		twice;		/* the successor dies there as well */
};

FIXTURE_VARIANT_ADD(ondemand, before_first_message) {
	.point = CF_WAITING, .nth = 0,
};

FIXTURE_VARIANT_ADD(ondemand, before_second_message) {
	.point = CF_WAITING, .nth = 1,
};

FIXTURE_VARIANT_ADD(ondemand, before_fifth_message) {
	.point = CF_WAITING, .nth = 4,
};

FIXTURE_VARIANT_ADD(ondemand, open_read) {
	.op = CACHEFILES_OP_OPEN, .point = CF_GOT,
};

FIXTURE_VARIANT_ADD(ondemand, open_answered) {
	.op = CACHEFILES_OP_OPEN, .point = CF_REPLIED,
};

FIXTURE_VARIANT_ADD(ondemand, open_read_twice) {
	.op = CACHEFILES_OP_OPEN, .point = CF_GOT, .twice = true,
};

FIXTURE_VARIANT_ADD(ondemand, open_answered_twice) {
	.op = CACHEFILES_OP_OPEN, .point = CF_REPLIED, .twice = true,
};

FIXTURE_VARIANT_ADD(ondemand, read_read) {
	.op = CACHEFILES_OP_READ, .point = CF_GOT,
};

FIXTURE_VARIANT_ADD(ondemand, read_written) {
	.op = CACHEFILES_OP_READ, .point = CF_WRITTEN,
};

FIXTURE_VARIANT_ADD(ondemand, read_answered) {
	.op = CACHEFILES_OP_READ, .point = CF_REPLIED,
};

FIXTURE_VARIANT_ADD(ondemand, read_read_twice) {
	.op = CACHEFILES_OP_READ, .point = CF_GOT, .twice = true,
};

FIXTURE_VARIANT_ADD(ondemand, read_written_twice) {
	.op = CACHEFILES_OP_READ, .point = CF_WRITTEN, .twice = true,
};

FIXTURE_VARIANT_ADD(ondemand, third_read_read) {
	.op = CACHEFILES_OP_READ, .nth = 2, .point = CF_GOT,
};

FIXTURE_VARIANT_ADD(ondemand, third_read_written) {
	.op = CACHEFILES_OP_READ, .nth = 2, .point = CF_WRITTEN,
};

TEST_F(ondemand, killed)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	int deaths = 0, ret;

	ASSERT_NE(NULL, cf_server_add(&self->s, "file", 4 * MB + 7, 3));
	cf_server_rule(&self->s, variant->op, variant->nth, variant->point, CF_DIE, 0);
	if (variant->twice)
		cf_server_rule(&self->s, variant->op, variant->nth + 1, variant->point,
			       CF_DIE, 0);
	ASSERT_EQ(0, cf_server_fork(&self->s, false));
	ASSERT_EQ(0, start_stream(e, &r, "file", 3, 0, 8 * MB));
	while (!cf_reader_done(&r)) {
		ret = cf_server_wait(&self->s, 50);
		if (ret == -ETIMEDOUT)
			continue;
		ASSERT_EQ(0, ret);
		ASSERT_GE(2, ++deaths);
		ASSERT_EQ(0, cf_server_fork(&self->s, true));
	}
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(4 * MB + 7, res.n);
	EXPECT_EQ(-1, res.bad);
	EXPECT_EQ(variant->twice ? 2 : 1, deaths);
	EXPECT_EQ(deaths, (int)self->s.stats->died);
}

/* --- the rules of restore itself, once each --- */

FIXTURE(rules) {
	struct cf_env e;
};

FIXTURE_SETUP(rules)
{
	if (world)
		SKIP(return, "%s", cf_why);
	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	ASSERT_EQ(0, cf_env_init(&self->e));
	ASSERT_EQ(0, cf_env_bind(&self->e));
	ASSERT_EQ(0, cf_env_mount(&self->e));
}

FIXTURE_TEARDOWN(rules)
{
	EXPECT_NE(-ETIMEDOUT, cf_env_exit(&self->e));
}

/* A process that takes one message off the device, hands over its fd and waits. */
struct thief {
	struct cf_msg	m;
	pid_t		pid;
	int		sock;
};

static int steal(struct thief *t, int dev)
{
	int sv[2], keep[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv))
		return -errno;
	t->pid = fork();
	if (t->pid < 0)
		return -errno;
	if (!t->pid) {
		char byte;

		/* Not the sockets of other thieves, whose end is their end. */
		keep[0] = dev < sv[1] ? dev : sv[1];
		keep[1] = dev < sv[1] ? sv[1] : dev;
		cf_close_others(keep, 2);
		if (cf_next(dev, &t->m, LONG) <= 0)
			_exit(1);
		if (send(sv[1], &t->m, sizeof(t->m), 0) < 0)
			_exit(1);
		if (t->m.hdr.opcode == CACHEFILES_OP_OPEN)
			cf_send_fd(sv[1], cf_open_fd(&t->m));
		/* Until the other side has enough of us. */
		if (read(sv[1], &byte, 1))
			_exit(2);
		_exit(0);
	}
	close(sv[1]);
	t->sock = sv[0];
	if (cf_poll(t->sock, POLLIN, cf_ms(LONG)) <= 0)
		return -ETIMEDOUT;
	return recv(t->sock, &t->m, sizeof(t->m), 0) > 0 ? 0 : -errno;
}

static void steal_end(struct thief *t)
{
	close(t->sock);
	waitpid(t->pid, NULL, 0);
}

TEST_F(rules, d27_own_messages_stay)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	EXPECT_EQ(0, cf_cmd(e->dev, "restore"));
	EXPECT_EQ(1, cf_idle(e->dev));
	fd = cf_open_fd(&m);
	EXPECT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);

	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	EXPECT_EQ(0, cf_cmd(e->dev, "restore"));
	EXPECT_EQ(1, cf_idle(e->dev));
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
}

/*
 * But for an OPEN whose descriptor is closed, as by a daemon that goes on as another program:
 * it does not know what it has been told, and nobody else does.
 */
TEST_F(rules, d27_own_open_without_fd)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m, again;

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	close(cf_open_fd(&m));
	EXPECT_EQ(1, cf_idle(e->dev));
	EXPECT_EQ(0, cf_cmd(e->dev, "restore"));
	ASSERT_EQ(0, cf_expect(e->dev, &again, CACHEFILES_OP_OPEN, LONG));
	EXPECT_EQ(m.hdr.msg_id, again.hdr.msg_id);
	EXPECT_EQ(0, cf_copen(e->dev, again.hdr.msg_id, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(0, read_served(e, "file", cf_open_fd(&again), 1, 0, 4096, MB));
}

TEST_F(rules, without_it_nothing_moves)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct thief t = { 0 };
	struct cf_reader r;
	struct cf_msg m;

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(0, steal(&t, e->dev));
	close(cf_recv_fd(t.sock, cf_ms(LONG)));
	steal_end(&t);
	EXPECT_EQ(0, cf_poll(e->dev, POLLIN, cf_ms(BRIEF)));
	EXPECT_EQ(0, cf_reader_done(&r));
	EXPECT_EQ(0, cf_cmd(e->dev, "restore"));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	EXPECT_EQ(t.m.hdr.msg_id, m.hdr.msg_id);
	EXPECT_NE(t.m.hdr.object_id, m.hdr.object_id);
	EXPECT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, 3));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(3, res.n);
}

/* The descriptor of an unanswered OPEN survives: the OPEN is delivered anew. */
TEST_F(rules, d26_open_with_surviving_fd)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct thief t = { 0 };
	struct cf_reader r;
	struct cf_msg m;
	int old, fd;

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(0, steal(&t, e->dev));
	old = cf_recv_fd(t.sock, cf_ms(LONG));
	ASSERT_LE(0, old);
	steal_end(&t);
	EXPECT_EQ(0, cf_cmd(e->dev, "restore"));
	/* Taken back, so not to be answered before it is read again. */
	EXPECT_EQ(-EINVAL, cf_copen(e->dev, t.m.hdr.msg_id, MB));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	EXPECT_EQ(t.m.hdr.msg_id, m.hdr.msg_id);
	EXPECT_NE(t.m.hdr.object_id, m.hdr.object_id);
	fd = cf_open_fd(&m);
	EXPECT_NE(old, fd);
	EXPECT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);

	/* One is the object's, the other is not; and its end ends nothing. */
	EXPECT_EQ(-ENOBUFS, cf_fill(old, 1, 0, 4096, MB));
	EXPECT_EQ(4096, cf_fill(fd, 1, 0, 4096, MB));
	close(old);
	EXPECT_EQ(4096, cf_fill(fd, 1, 4096, 4096, MB));
	EXPECT_EQ(8192, read_here(e, "file", 1, 0, 8192));
}

/*
 * Two processes share the device, both alive.  What one of them has in hand goes to
 * the other once for each restore, and its own late answers are refused.
 */
TEST_F(rules, d27_two_that_share)
{
	enum { NR = 5 };
	struct cf_env *e = &self->e;
	struct thief t[NR] = { 0 }, o = { 0 };
	struct cf_reader r[NR], open, first;
	int fd, seen[NR] = { 0 };
	struct cf_result res;
	struct cf_msg m;

	fd = open_object(e, &first, "file", MB, &m);
	ASSERT_LE(0, fd);
	for (int i = 0; i < NR; i++) {
		ASSERT_EQ(0, start_read(e, &r[i], "file", 1, i * 8192, 4096));
		ASSERT_EQ(0, steal(&t[i], e->dev));
	}
	ASSERT_EQ(0, start_stat(e, &open, "other"));
	ASSERT_EQ(0, steal(&o, e->dev));
	EXPECT_EQ(0, cf_poll(e->dev, POLLIN, cf_ms(BRIEF)));

	EXPECT_EQ(0, cf_cmd(e->dev, "restore"));
	/* They were taken away: what the others answer now comes too late. */
	for (int i = 0; i < NR; i++) {
		EXPECT_EQ(-EINVAL, cf_cread(fd, t[i].m.hdr.msg_id));
	}
	EXPECT_EQ(-EINVAL, cf_copen(e->dev, o.m.hdr.msg_id, 5));
	for (int n = 0; n <= NR; n++) {
		ASSERT_LT(0, cf_next(e->dev, &m, LONG));
		if (m.hdr.opcode == CACHEFILES_OP_OPEN) {
			EXPECT_EQ(o.m.hdr.msg_id, m.hdr.msg_id);
			EXPECT_NE(o.m.hdr.object_id, m.hdr.object_id);
			o.m = m;
			continue;
		}
		for (int i = 0; i < NR; i++)
			seen[i] += t[i].m.hdr.msg_id == m.hdr.msg_id;
	}
	for (int i = 0; i < NR; i++) {
		EXPECT_EQ(1, seen[i]) {
			TH_LOG("READ %d came %d times", i, seen[i]);
		}
		EXPECT_EQ(0, cf_reader_done(&r[i]));
	}
	/* They are ours now: once more does nothing. */
	EXPECT_EQ(0, cf_cmd(e->dev, "restore"));
	EXPECT_EQ(0, cf_poll(e->dev, POLLIN, cf_ms(BRIEF)));
	EXPECT_EQ(1, cf_idle(e->dev));

	for (int i = 0; i < NR; i++) {
		ASSERT_EQ(0, serve_read(&t[i].m, fd, 1, MB));
		ASSERT_EQ(0, cf_reader_wait(&r[i], &res, 5000));
		EXPECT_EQ(0, res.err);
		EXPECT_EQ(-1, res.bad);
	}
	ASSERT_EQ(0, cf_copen(e->dev, o.m.hdr.msg_id, 5));
	ASSERT_EQ(0, cf_reader_wait(&open, &res, 5000));
	EXPECT_EQ(5, res.n);
	/* Answered is answered. */
	EXPECT_EQ(0, cf_cmd(e->dev, "restore"));
	EXPECT_EQ(1, cf_idle(e->dev));
	for (int i = 0; i < NR; i++) {
		EXPECT_EQ(-EINVAL, cf_cread(fd, t[i].m.hdr.msg_id));
		steal_end(&t[i]);
	}
	steal_end(&o);
}

/* The descriptor of an open object survives: READs come again through it. */
TEST_F(rules, d27_read_with_surviving_fd)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct thief t = { 0 };
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 8192, 4096));
	ASSERT_EQ(0, steal(&t, e->dev));
	steal_end(&t);
	EXPECT_EQ(0, cf_cmd(e->dev, "restore"));
	EXPECT_EQ(-EINVAL, cf_cread(fd, t.m.hdr.msg_id));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	EXPECT_EQ(t.m.hdr.msg_id, m.hdr.msg_id);
	EXPECT_EQ(t.m.hdr.object_id, m.hdr.object_id);
	EXPECT_EQ(8192, cf_rd(&m)->off);
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
	/* And the late answer of the first owner is refused. */
	EXPECT_EQ(-EINVAL, cf_cread(fd, t.m.hdr.msg_id));
}

/* What comes back keeps its place: before everything younger. */
TEST_F(rules, order_is_kept)
{
	enum { NR = 6 };
	struct cf_env *e = &self->e;
	struct thief t[3] = { 0 };
	struct cf_reader r[NR], o;
	struct cf_result res;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &o, "file", MB, &m);
	ASSERT_LE(0, fd);
	for (int i = 0; i < NR; i++) {
		ASSERT_EQ(0, start_read(e, &r[i], "file", 1, i * 8192, 4096));
		if (i < 3) {
			ASSERT_EQ(0, steal(&t[i], e->dev));
		}
	}
	for (int i = 0; i < 3; i++)
		steal_end(&t[i]);
	EXPECT_EQ(0, cf_cmd(e->dev, "restore"));
	for (int i = 0; i < NR; i++) {
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
		if (i < 3) {
			EXPECT_EQ(t[i].m.hdr.msg_id, m.hdr.msg_id);
		}
		ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	}
	for (int i = 0; i < NR; i++) {
		ASSERT_EQ(0, cf_reader_wait(&r[i], &res, LONG));
		EXPECT_EQ(0, res.err);
		EXPECT_EQ(-1, res.bad);
	}
}

/* Again and again, also with nothing to take over. */
TEST_F(rules, repeated)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct thief t = { 0 };
	struct cf_reader r;
	struct cf_msg m;
	__u32 id = 0;

	for (int i = 0; i < 10; i++) {
		EXPECT_EQ(0, cf_cmd(e->dev, "restore"));
	}
	ASSERT_EQ(0, start_stat(e, &r, "file"));
	for (int i = 0; i < 5; i++) {
		ASSERT_EQ(0, steal(&t, e->dev));
		close(cf_recv_fd(t.sock, cf_ms(LONG)));
		steal_end(&t);
		if (i) {
			EXPECT_EQ(id, t.m.hdr.msg_id);
		}
		id = t.m.hdr.msg_id;
		EXPECT_EQ(0, cf_cmd(e->dev, "restore"));
		EXPECT_EQ(0, cf_cmd(e->dev, "restore"));
	}
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	EXPECT_EQ(id, m.hdr.msg_id);
	EXPECT_EQ(1, cf_idle(e->dev));
	ASSERT_EQ(0, cf_copen(e->dev, id, 1));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
}

/* While another process is in the middle of reading: it is not disturbed. */
TEST_F(rules, d01_during_a_copy)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_stall st;
	struct cf_reader r;
	struct cf_msg m;

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	if (cf_stall_start(&st, e->dev))
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(0, cf_stall_parked(&st, LONG));
	EXPECT_EQ(0, cf_cmd(e->dev, "restore"));
	EXPECT_EQ(1, cf_idle(e->dev));
	ASSERT_LT(0, cf_stall_finish(&st, &m));
	EXPECT_EQ(1, cf_idle(e->dev));
	EXPECT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, 2));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(2, res.n);
}

/* A daemon that dies after the unmount, with CLOSE unread or just read. */
TEST_F(rules, d27_close_is_not_repeated)
{
	struct cf_env *e = &self->e;
	struct thief t = { 0 };
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_LE(0, cf_env_umount(e, PROMPT));
	ASSERT_EQ(0, steal(&t, e->dev));
	EXPECT_EQ(CACHEFILES_OP_CLOSE, t.m.hdr.opcode);
	steal_end(&t);
	EXPECT_EQ(0, cf_cmd(e->dev, "restore"));
	EXPECT_EQ(1, cf_idle(e->dev));
	close(fd);
}

TEST_HARNESS_MAIN
