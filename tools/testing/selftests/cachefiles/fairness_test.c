// SPDX-License-Identifier: GPL-2.0-only
/*
 * Requests of one object are delivered in the order they were made, and a busy
 * object can't keep another one from its turn.
 */
#include "harness.h"

#define BUSY	200

/* Ask for every other page of @name, without waiting for any of them. */
static int ask_many(void *arg)
{
	const char *path = arg;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return errno;
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	for (int i = 0; i < BUSY; i++)
		posix_fadvise(fd, i * 8192, 4096, POSIX_FADV_WILLNEED);
	/* Stay for the answers: who leaves isn't served. */
	for (;;)
		pause();
}

TEST_F(ondemand, d28_busy_and_quiet)
{
	struct cf_env *e = &self->e;
	struct cf_reader busy, quiet, r;
	struct cf_msg b, q, m;
	struct cf_result res;
	char path[160];
	__u64 last = 0;
	int fd, fd2, before = 0;

	fd = open_object(e, &r, "busy", 16 * MB, &b);
	ASSERT_LE(0, fd);
	fd2 = open_object(e, &r, "quiet", MB, &q);
	ASSERT_LE(0, fd2);
	snprintf(path, sizeof(path), "%s/busy", e->mnt);
	ASSERT_EQ(0, cf_child(&busy, ask_many, path));

	/* The first ones, in order; then the quiet one turns up. */
	for (int i = 0; i < 20; i++) {
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
		ASSERT_EQ(b.hdr.object_id, m.hdr.object_id);
		ASSERT_EQ(i * 8192, (int)cf_rd(&m)->off);
		ASSERT_EQ(0, serve_read(&m, fd, 1, 16 * MB));
		last = cf_rd(&m)->off;
	}
	ASSERT_EQ(0, start_read(e, &quiet, "quiet", 2, 0, 4096));
	/* Its request is there when its reader sleeps: what follows is its turn. */
	EXPECT_EQ(0, cf_poll(quiet.pipe, POLLIN, BRIEF));
	for (;;) {
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
		if (m.hdr.object_id == q.hdr.object_id)
			break;
		ASSERT_LT(last, cf_rd(&m)->off);
		last = cf_rd(&m)->off;
		ASSERT_GE(2, ++before);
		ASSERT_EQ(0, serve_read(&m, fd, 1, 16 * MB));
	}
	ASSERT_EQ(0, serve_read(&m, fd2, 2, MB));
	ASSERT_EQ(0, cf_reader_wait(&quiet, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);

	/* The rest of the busy one, still in order. */
	while (last != (BUSY - 1) * 8192) {
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
		ASSERT_LT(last, cf_rd(&m)->off);
		last = cf_rd(&m)->off;
		ASSERT_EQ(0, serve_read(&m, fd, 1, 16 * MB));
	}
	EXPECT_LE(0, cf_reader_kill(&busy, 1000));
}

/* OPENs come through between the READs of another object. */
TEST_F(ondemand, d28_open_passes_busy)
{
	struct cf_env *e = &self->e;
	struct cf_reader busy, r;
	struct cf_result res;
	struct cf_msg b, m;
	char path[160];
	int fd, before = 0;

	fd = open_object(e, &r, "busy", 16 * MB, &b);
	ASSERT_LE(0, fd);
	snprintf(path, sizeof(path), "%s/busy", e->mnt);
	ASSERT_EQ(0, cf_child(&busy, ask_many, path));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, start_stat(e, &r, "new"));
	EXPECT_EQ(0, cf_poll(r.pipe, POLLIN, BRIEF));
	for (;;) {
		ASSERT_LT(0, cf_next(e->dev, &m, LONG));
		if (m.hdr.opcode == CACHEFILES_OP_OPEN)
			break;
		ASSERT_GE(2, ++before);
	}
	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, 1));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_LE(0, cf_reader_kill(&busy, 1000));
}

/* Hundreds of unanswered OPENs don't keep one more from being served. */
TEST_F_TIMEOUT(ondemand, d31_unanswered_opens, 60)
{
	enum { NR = 400 };
	struct cf_env *e = &self->e;
	static struct cf_reader r[NR + 1];
	struct cf_result res;
	struct cf_msg m;
	char name[32], key[256];

	ASSERT_EQ(0, room_for_fds(4096));
	for (int i = 0; i < NR; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		ASSERT_EQ(0, start_stat(e, &r[i], name));
	}
	for (int i = 0; i < NR; i++) {
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	}
	ASSERT_EQ(0, start_stat(e, &r[NR], "last"));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	EXPECT_STREQ("last", cf_key(&m, key));
	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, 9));
	ASSERT_EQ(0, cf_reader_wait(&r[NR], &res, PROMPT));
	EXPECT_EQ(9, res.n);
	for (int i = 0; i < NR; i++)
		kill(r[i].pid, SIGKILL);
	for (int i = 0; i < NR; i++) {
		EXPECT_LE(0, cf_reader_kill(&r[i], 5000));
	}
}

TEST_HARNESS_MAIN
