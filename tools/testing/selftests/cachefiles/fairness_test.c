// SPDX-License-Identifier: GPL-2.0-only
/*
 * Requests of one object are delivered in the order they were made, and a busy
 * object can't keep another one from its turn.
 */
#include "harness.h"
#include "lib/trace.h"

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

/*
 * Start @job on @name, an object whose descriptor has @object_id (0: none yet), and wait
 * until its request is queued. Without tracepoints that is when it has had the time.
 */
static int start_and_queue(struct cf_env *e, struct cf_reader *r, const char *name,
			   const struct cf_job *job, __u32 object_id)
{
	int trace = cf_trace_start(), ret;
	char what[32];

	ret = cf_reader_start(r, e->mnt, name, job);
	if (trace >= 0) {
		/* The first of its moves, IDLE -> QUEUED. */
		snprintf(what, sizeof(what), "fd=%u ", object_id);
		if (!ret)
			ret = cf_trace_wait(trace, what, LONG);
		cf_trace_stop(trace);
	} else if (!ret) {
		cf_poll(r->pipe, POLLIN, cf_ms(BRIEF));
	}
	return ret ? ret : -cf_reader_done(r);
}

TEST_F(ondemand, d28_busy_and_quiet)
{
	struct cf_env *e = &self->e;
	struct cf_job job = { .seed = 2, .len = 4096 };
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
	/* Its request is there: what follows is its turn. */
	ASSERT_EQ(0, start_and_queue(e, &quiet, "quiet", &job, q.hdr.object_id));
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
	EXPECT_LE(0, cf_reader_kill(&busy, PROMPT));
}

/* OPENs come through between the READs of another object. */
TEST_F(ondemand, d28_open_passes_busy)
{
	struct cf_env *e = &self->e;
	struct cf_job job = { .stat_only = true };
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
	ASSERT_EQ(0, start_and_queue(e, &r, "new", &job, 0));
	for (;;) {
		ASSERT_LT(0, cf_next(e->dev, &m, LONG));
		if (m.hdr.opcode == CACHEFILES_OP_OPEN)
			break;
		ASSERT_GE(2, ++before);
	}
	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, 1));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_LE(0, cf_reader_kill(&busy, PROMPT));
}

/* --- a late reader among looping ones --- */

enum { LOOPERS = 64, FILES = 16, PAGES = 4096 };

struct looper {
	const char	*mnt;
	int		nr;
};

/* Ask for one page after the other, for ever. */
static int loop_reading(void *arg)
{
	struct looper *l = arg;
	char path[160], byte;
	int fd;

	snprintf(path, sizeof(path), "%s/f%d", l->mnt, l->nr % FILES);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	for (int i = l->nr / FILES; ; i = (i + LOOPERS / FILES) % PAGES)
		if (pread(fd, &byte, 1, i * 4096LL) != 1)
			return errno;
}

/*
 * However many read in a loop, the one who comes late is served after at most one
 * READ of each other object, what is in the queue before him.
 */
TEST_F_TIMEOUT(ondemand, d28_late_reader, 60)
{
	static struct cf_reader loop[LOOPERS];
	struct cf_env *e = &self->e;
	struct looper l = { .mnt = e->mnt };
	struct cf_reader late, r;
	__u32 objects[FILES];
	struct cf_result res;
	struct cf_msg m, o;
	int fd[FILES], late_fd, before;
	char name[16];

	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		fd[i] = open_object(e, &r, name, PAGES * 4096ULL, &m);
		ASSERT_LE(0, fd[i]);
		objects[i] = m.hdr.object_id;
	}
	late_fd = open_object(e, &r, "late", MB, &o);
	ASSERT_LE(0, late_fd);
	for (l.nr = 0; l.nr < LOOPERS; l.nr++) {
		ASSERT_EQ(0, cf_child(&loop[l.nr], loop_reading, &l));
	}
	for (int round = 0; round < 5; round++) {
		struct cf_job job = { .seed = 2, .off = round * 8192, .len = 4096 };

		ASSERT_EQ(0, start_and_queue(e, &late, "late", &job, o.hdr.object_id));
		/* All others have one, too. */
		EXPECT_EQ(0, cf_poll(late.pipe, POLLIN, cf_ms(BRIEF)));
		for (before = 0; ; before++) {
			int i;

			ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
			if (m.hdr.object_id == o.hdr.object_id)
				break;
			for (i = 0; i < FILES && objects[i] != m.hdr.object_id; i++)
				;
			ASSERT_GT(FILES, i);
			ASSERT_GE(FILES, before);
			ASSERT_EQ(0, serve_read(&m, fd[i], 1, PAGES * 4096ULL));
		}
		ASSERT_EQ(0, serve_read(&m, late_fd, 2, MB));
		ASSERT_EQ(0, cf_reader_wait(&late, &res, 5000));
		EXPECT_EQ(0, res.err);
		EXPECT_EQ(-1, res.bad);
	}
	for (int i = 0; i < LOOPERS; i++)
		kill(loop[i].pid, SIGKILL);
	for (int i = 0; i < LOOPERS; i++) {
		EXPECT_LE(0, cf_reader_kill(&loop[i], 5000));
	}
}

/*
 * Hundreds of unanswered OPENs keep nobody from being served, opened again or
 * unmounted.
 */
TEST_F_TIMEOUT(ondemand, d31_unanswered_opens, 60)
{
	enum { NR = 400 };
	struct cf_env *e = &self->e;
	static struct cf_reader r[NR];
	char name[32], key[256], opts[96], mnt[160];
	struct cf_reader last;
	struct cf_result res;
	struct cf_msg m, o;

	ASSERT_EQ(0, room_for_fds(4096));
	snprintf(mnt, sizeof(mnt), "%s-other", e->mnt);
	snprintf(opts, sizeof(opts), "cache=%s", e->tag);
	ASSERT_EQ(0, mkdir(mnt, 0755));
	ASSERT_EQ(0, cf_mount_od("erofs,other", mnt, opts));
	ASSERT_EQ(0, cf_reader_start(&last, mnt, "other", &(struct cf_job) { .stat_only = true }));
	ASSERT_EQ(0, cf_expect(e->dev, &o, CACHEFILES_OP_OPEN, LONG));
	ASSERT_EQ(0, cf_copen(e->dev, o.hdr.msg_id, 1));
	ASSERT_EQ(0, cf_reader_wait(&last, &res, PROMPT));

	for (int i = 0; i < NR; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		ASSERT_EQ(0, start_stat(e, &r[i], name));
	}
	for (int i = 0; i < NR; i++) {
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	}
	ASSERT_EQ(0, start_stat(e, &last, "last"));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, 5000));
	EXPECT_STREQ("last", cf_key(&m, key));
	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, MB));
	ASSERT_EQ(0, cf_reader_wait(&last, &res, PROMPT));
	EXPECT_EQ(MB, res.n);

	close(cf_open_fd(&m));
	ASSERT_EQ(0, start_read(e, &last, "last", 1, 4096, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, 5000));
	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, MB));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, 5000));
	ASSERT_EQ(0, serve_read(&m, (int)cf_rd(&m)->fd, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&last, &res, PROMPT));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);

	EXPECT_LE(0, cf_umount(mnt, 0, PROMPT));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_CLOSE, 5000));
	EXPECT_EQ(o.hdr.object_id, m.hdr.object_id);
	for (int i = 0; i < NR; i++)
		kill(r[i].pid, SIGKILL);
	for (int i = 0; i < NR; i++) {
		EXPECT_LE(0, cf_reader_kill(&r[i], 5000));
	}
	rmdir(mnt);
}

TEST_HARNESS_MAIN
