// SPDX-License-Identifier: GPL-2.0-only
/*
 * In original mode, data that are taken away or become invalid between two steps of
 * somebody who reads them are not taken for content.
 */
#include "harness.h"

#include <sched.h>
#include <sys/ioctl.h>

#include "lib/delay.h"
#include "lib/task.h"

#define FILE_SIZE	65536ULL

static const unsigned char aux[8] = "version1";

/* One file whose data are all present, and what a thread does with it. */
struct act {
	struct cf_task		task;
	int			nf, cookie;
	__u64			size;
	unsigned char		buf[4096];
	struct cf_netfs_read	r;
};

static int do_read(void *arg)
{
	struct act *a = arg;

	return cf_nf_read(a->nf, a->cookie, 0, a->buf, 0, sizeof(a->buf), FILE_SIZE,
			  CF_IO_ISSUE, CF_HOLE_FAIL, &a->r);
}

static int do_resize(void *arg)
{
	struct act *a = arg;

	return cf_nf_resize(a->nf, a->cookie, a->size);
}

/* A reader that has looked, found all present, and is stopped: the trap it is in. */
static int stop_reader(struct act *a, int nf, int cookie)
{
	int trap = cf_delay_arm("looked", 0), ret;

	if (trap < 0)
		return trap;
	a->nf = nf;
	a->cookie = cookie;
	ret = cf_task_start(&a->task, do_read, a);
	if (!ret)
		ret = cf_delay_caught(trap, LONG);
	return ret < 0 ? ret : trap;
}

/* Let it go on: it must not bring anything, and is completed once. */
static void expect_nothing(struct __test_metadata *_metadata, struct act *a, int trap)
{
	int ret;

	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_task_wait(&a->task, &ret, LONG));
	EXPECT_EQ(0, ret);
	EXPECT_EQ(1, a->r.completions);
	EXPECT_GE(0, a->r.result);
	EXPECT_EQ(0, a->r.seen);
}

static int full_file(int nf, int vol)
{
	int c = cf_nf_file(nf, vol, "file", aux, sizeof(aux), FILE_SIZE, false);
	int ret = c < 0 ? c : cf_nf_fill(nf, c, 1, FILE_SIZE);

	return ret ? ret : cf_nf_check(nf, c, 1, 0, FILE_SIZE, FILE_SIZE) ?: c;
}

TEST_F(original, nothing_in_between)
{
	struct act a = { };
	int c, trap, ret;

	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	c = full_file(self->nf, self->vol);
	ASSERT_LT(0, c);
	trap = stop_reader(&a, self->nf, c);
	ASSERT_LE(0, trap);
	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_task_wait(&a.task, &ret, LONG));
	EXPECT_EQ(0, ret);
	EXPECT_EQ((int)sizeof(a.buf), a.r.result);
	EXPECT_EQ(-1, cf_differs(1, 0, a.buf, sizeof(a.buf)));
	ASSERT_EQ(0, cf_nf_detach(self->nf, c, false));
}

/* Cut off after the look, which leaves zeros in the granule that the end is in. */
TEST_F(original, cut_between_look_and_read)
{
	struct act a = { };
	int c, trap;

	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	c = full_file(self->nf, self->vol);
	ASSERT_LT(0, c);
	trap = stop_reader(&a, self->nf, c);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, cf_nf_resize(self->nf, c, 1000));
	ASSERT_EQ(0, cf_nf_resize(self->nf, c, FILE_SIZE));
	expect_nothing(_metadata, &a, trap);
	EXPECT_EQ(0, cf_nf_absent(self->nf, c, 0, FILE_SIZE, FILE_SIZE));
	ASSERT_EQ(0, cf_nf_detach(self->nf, c, false));
}

/* The look comes when the cut has begun and taken nothing yet. */
TEST_F(original, look_during_cut)
{
	struct act a = { }, cut = { };
	int c, trap, cutting, ret;

	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	c = full_file(self->nf, self->vol);
	ASSERT_LT(0, c);
	cutting = cf_delay_arm("cut_begun", 0);
	ASSERT_LE(0, cutting);
	cut.nf = self->nf;
	cut.cookie = c;
	cut.size = 1000;
	ASSERT_EQ(0, cf_task_start(&cut.task, do_resize, &cut));
	ASSERT_LT(0, cf_delay_caught(cutting, LONG));
	trap = stop_reader(&a, self->nf, c);
	ASSERT_LE(0, trap);
	EXPECT_EQ(0, cf_delay_go(cutting));
	ASSERT_EQ(0, cf_task_wait(&cut.task, &ret, LONG));
	EXPECT_EQ(0, ret);
	expect_nothing(_metadata, &a, trap);
	ASSERT_EQ(0, cf_nf_detach(self->nf, c, false));
}

/* A write over the data fails, which makes a hole of them. */
TEST_F(original, failed_write_between_look_and_read)
{
	struct act a = { };
	int c, trap;

	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	c = full_file(self->nf, self->vol);
	ASSERT_LT(0, c);
	trap = stop_reader(&a, self->nf, c);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, cf_error_injection(1));
	EXPECT_GT(0, cf_nf_store(self->nf, c, 2, 0, 8192, FILE_SIZE));
	cf_error_injection(0);
	expect_nothing(_metadata, &a, trap);
	EXPECT_EQ(0, cf_nf_absent(self->nf, c, 0, 8192, FILE_SIZE));
	EXPECT_EQ(0, cf_nf_check(self->nf, c, 1, 8192, FILE_SIZE - 8192, FILE_SIZE));
	ASSERT_EQ(0, cf_nf_detach(self->nf, c, false));
}

/* The netfs says that nothing is right any more, after the look. */
TEST_F(original, invalidated_between_look_and_read)
{
	static const unsigned char newer[8] = "version2";
	struct act a = { };
	int c, trap;

	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	c = full_file(self->nf, self->vol);
	ASSERT_LT(0, c);
	trap = stop_reader(&a, self->nf, c);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, cf_nf_invalidate(self->nf, c, newer, sizeof(newer), FILE_SIZE, false));
	expect_nothing(_metadata, &a, trap);
	ASSERT_EQ(0, cf_nf_wait(self->nf, c, CF_STATE(CF_ACTIVE), CF_NO_DATA_TO_READ, 0, LONG,
				NULL));
	ASSERT_EQ(0, cf_nf_detach(self->nf, c, false));
}

static int do_rebind(void *arg)
{
	return cf_env_rebind_original(arg);
}

/* The same when the cache is on its way out and is not asked any more. */
TEST_F(original, invalidated_during_withdrawal)
{
	static const unsigned char newer[8] = "version2";
	int nf = self->nf, c, trap, ret;
	struct cf_task rebind;

	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	c = full_file(nf, self->vol);
	ASSERT_LT(0, c);
	/* So that there is something to be stored about it. */
	ASSERT_EQ(0, cf_nf_update(nf, c, aux, sizeof(aux), NULL));
	trap = cf_delay_arm("withdraw", 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, cf_task_start(&rebind, do_rebind, &self->e));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	ASSERT_EQ(0, cf_nf_invalidate(nf, c, newer, sizeof(newer), FILE_SIZE, false));
	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_task_wait(&rebind, &ret, LONG));
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));

	c = cf_nf_file(nf, self->vol, "file", newer, sizeof(newer), FILE_SIZE, false);
	ASSERT_LT(0, c);
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, FILE_SIZE, FILE_SIZE));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

/* What is stored now is there afterwards, and when the file is looked for again. */
static void keeps(struct __test_metadata *_metadata, int nf, int vol, int c,
		  const unsigned char what[8])
{
	long long end = cf_now() + cf_ms(LONG);

	/* The worker may not be through. */
	while (cf_nf_fill(nf, c, 2, FILE_SIZE) && cf_now() < end)
		sched_yield();
	EXPECT_EQ(0, cf_nf_check(nf, c, 2, 0, FILE_SIZE, FILE_SIZE));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	c = cf_nf_file(nf, vol, "file", what, 8, FILE_SIZE, false);
	ASSERT_LT(0, c);
	EXPECT_EQ(0, cf_nf_check(nf, c, 2, 0, FILE_SIZE, FILE_SIZE));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

/* A new file, a write operation on it that began during its look-up, and an invalidation. */
struct begun {
	int	c, op, trap;
};

static void begin_before_invalidation(struct __test_metadata *_metadata, int nf, int vol,
				      const unsigned char newer[8], struct begun *b)
{
	b->c = cf_nf_cookie(nf, vol, "file", 4, aux, sizeof(aux), FILE_SIZE);
	ASSERT_LT(0, b->c);
	b->trap = cf_delay_arm("opened", 0);
	ASSERT_LE(0, b->trap);
	ASSERT_EQ(0, cf_nf_use(nf, b->c, false));
	ASSERT_LT(0, cf_delay_caught(b->trap, LONG));
	b->op = cf_nf_begin(nf, b->c, true);
	ASSERT_LT(0, b->op);
	ASSERT_EQ(0, cf_nf_invalidate(nf, b->c, newer, 8, FILE_SIZE, false));
}

/* What was read from the server before that is not found by whoever asks after it. */
TEST_F(original, write_begun_before_invalidation)
{
	static const unsigned char newer[8] = "version2";
	int nf = self->nf;
	struct begun b;
	unsigned char buf[8192];
	struct cf_netfs_write w;

	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	begin_before_invalidation(_metadata, nf, self->vol, newer, &b);
	EXPECT_EQ(0, cf_delay_go(b.trap));
	ASSERT_EQ(0, cf_nf_wait(nf, b.c, CF_STATE(CF_ACTIVE), 0, 0, LONG, NULL));

	cf_pattern(1, 0, buf, sizeof(buf));
	cf_nf_write(nf, 0, b.op, buf, 0, sizeof(buf), FILE_SIZE, CF_IO_PREPARE | CF_IO_ISSUE, &w);
	EXPECT_GE(0, w.result);
	ASSERT_EQ(0, cf_nf_end(nf, b.op));
	cf_nf_note_release(nf, b.c);
	EXPECT_EQ(0, cf_nf_absent(nf, b.c, 0, FILE_SIZE, FILE_SIZE));
	keeps(_metadata, nf, self->vol, b.c, newer);
}

/* The same, and there is no space for the file that is to take the place of the old one. */
TEST_F(original, operation_begun_before_invalidation_without_space)
{
	static const unsigned char newer[8] = "version2";
	int nf = self->nf, c;
	struct begun b;
	unsigned char buf[8192];
	struct cf_netfs_write w;
	struct cf_netfs_read r;

	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	begin_before_invalidation(_metadata, nf, self->vol, newer, &b);
	ASSERT_EQ(0, cf_error_injection(1));
	EXPECT_EQ(0, cf_delay_go(b.trap));
	ASSERT_EQ(0, cf_nf_read(nf, 0, b.op, buf, 0, sizeof(buf), FILE_SIZE, CF_IO_ISSUE,
				CF_HOLE_FAIL, &r));
	EXPECT_EQ(1, r.completions);
	EXPECT_EQ(0, r.result);
	EXPECT_EQ(0, r.seen);
	ASSERT_EQ(0, cf_nf_write(nf, 0, b.op, buf, 0, sizeof(buf), FILE_SIZE, CF_IO_ISSUE, &w));
	EXPECT_EQ(1, w.completions);
	EXPECT_EQ(-ENOBUFS, w.result);
	ASSERT_EQ(0, cf_nf_end(nf, b.op));
	ASSERT_EQ(0, cf_nf_detach(nf, b.c, false));
	ASSERT_EQ(0, cf_error_injection(0));

	c = cf_nf_file(nf, self->vol, "file", newer, sizeof(newer), FILE_SIZE, false);
	ASSERT_LT(0, c);
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, FILE_SIZE, FILE_SIZE));
	keeps(_metadata, nf, self->vol, c, newer);
}

static int do_begin(void *arg)
{
	const struct act *a = arg;

	return cf_nf_begin(a->nf, a->cookie, true);
}

/* Whoever waits for a stale file to be replaced knows of an invalidation that came before. */
TEST_F(original, invalidated_before_it_is_replaced)
{
	static const unsigned char newer[8] = "version2", newest[8] = "version3";
	struct act a = { .nf = self->nf };
	int nf = self->nf, c, found, made, op;
	unsigned char buf[8192];
	struct cf_netfs_write w;

	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	c = full_file(nf, self->vol);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	a.cookie = cf_nf_cookie(nf, self->vol, "file", 4, newer, sizeof(newer), FILE_SIZE);
	ASSERT_LT(0, a.cookie);
	found = cf_delay_arm("published", 0);
	made = cf_delay_arm("create", 0);
	ASSERT_LE(0, found);
	ASSERT_LE(0, made);
	ASSERT_EQ(0, cf_nf_use(nf, a.cookie, false));
	ASSERT_LT(0, cf_delay_caught(found, LONG));
	ASSERT_EQ(0, cf_nf_invalidate(nf, a.cookie, newest, sizeof(newest), FILE_SIZE, false));
	ASSERT_EQ(0, cf_task_start(&a.task, do_begin, &a));
	EXPECT_EQ(0, cf_delay_go(found));
	ASSERT_LT(0, cf_delay_caught(made, LONG));
	ASSERT_EQ(0, cf_task_wait(&a.task, &op, LONG));
	EXPECT_LT(0, op);
	EXPECT_EQ(0, cf_delay_go(made));
	cf_pattern(2, 0, buf, sizeof(buf));
	EXPECT_EQ(0, cf_nf_write(nf, 0, op, buf, 0, sizeof(buf), FILE_SIZE,
				 CF_IO_PREPARE | CF_IO_ISSUE, &w));
	EXPECT_EQ(sizeof(buf), w.result);
	ASSERT_EQ(0, cf_nf_end(nf, op));
	cf_nf_note_release(nf, a.cookie);
	EXPECT_EQ(0, cf_nf_check(nf, a.cookie, 2, 0, sizeof(buf), FILE_SIZE));
	keeps(_metadata, nf, self->vol, a.cookie, newest);
}

/* A second invalidation while the first is stopped: the trap that it is in. */
static int invalidate_twice(struct __test_metadata *_metadata, int nf, int c,
			    const unsigned char newer[8], const unsigned char newest[8])
{
	int trap = cf_delay_arm("opened", 0);

	ASSERT_LE(0, trap);
	ASSERT_EQ(0, cf_nf_invalidate(nf, c, newer, 8, FILE_SIZE, false));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	ASSERT_EQ(0, cf_nf_invalidate(nf, c, newest, 8, FILE_SIZE, false));
	return trap;
}

/* Let it go on, and stop whoever comes to that place next: the trap that he is in. */
static int stop_next(struct __test_metadata *_metadata, int trap)
{
	int next = cf_delay_arm("opened", 0);

	ASSERT_LE(0, next);
	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_LT(0, cf_delay_caught(next, LONG));
	return next;
}

/*
 * One invalidation comes while another one is being done: whoever comes then waits for the
 * end of both, so that what he stores is there.
 */
TEST_F(original, invalidated_twice)
{
	static const unsigned char newer[8] = "version2", newest[8] = "version3";
	int nf = self->nf, c, first, second;

	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	c = full_file(nf, self->vol);
	ASSERT_LT(0, c);
	first = invalidate_twice(_metadata, nf, c, newer, newest);
	second = stop_next(_metadata, first);
	EXPECT_EQ(CF_INVALIDATING, cf_nf_state(nf, c));
	EXPECT_EQ(0, cf_delay_go(second));
	ASSERT_EQ(0, cf_nf_wait(nf, c, CF_STATE(CF_ACTIVE), 0, 0, LONG, NULL));
	cf_nf_note_release(nf, c);
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, FILE_SIZE, FILE_SIZE));
	EXPECT_EQ(0, cf_nf_fill(nf, c, 2, FILE_SIZE));
	keeps(_metadata, nf, self->vol, c, newest);
}

/* And a third one after the first: that is not waited for, but cached afterwards. */
TEST_F(original, invalidated_again_and_again)
{
	static const unsigned char newer[8] = "version2", newest[8] = "version3";
	int nf = self->nf, c, first, second, third;

	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	c = full_file(nf, self->vol);
	ASSERT_LT(0, c);
	first = invalidate_twice(_metadata, nf, c, newer, newer);
	second = stop_next(_metadata, first);
	ASSERT_EQ(0, cf_nf_invalidate(nf, c, newest, 8, FILE_SIZE, false));
	third = stop_next(_metadata, second);
	EXPECT_EQ(CF_ACTIVE, cf_nf_state(nf, c));
	EXPECT_EQ(0, cf_delay_go(third));
	cf_nf_note_release(nf, c);
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, FILE_SIZE, FILE_SIZE));
	keeps(_metadata, nf, self->vol, c, newest);
}

/* The same, and there is no space any more for a second file in its place. */
TEST_F(original, invalidated_twice_without_space)
{
	static const unsigned char newer[8] = "version2", newest[8] = "version3";
	int nf = self->nf, c, trap;

	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	c = full_file(nf, self->vol);
	ASSERT_LT(0, c);
	trap = invalidate_twice(_metadata, nf, c, newer, newest);
	ASSERT_EQ(0, cf_error_injection(1));
	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_nf_wait(nf, c, CF_STATE(CF_ACTIVE), 0, 0, LONG, NULL));
	cf_nf_note_release(nf, c);
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, FILE_SIZE, FILE_SIZE));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	ASSERT_EQ(0, cf_error_injection(0));

	c = cf_nf_file(nf, self->vol, "file", newest, sizeof(newest), FILE_SIZE, false);
	ASSERT_LT(0, c);
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, FILE_SIZE, FILE_SIZE));
	keeps(_metadata, nf, self->vol, c, newest);
}

/* And while the cookie is looked up, when the old file has been found to be good. */
TEST_F(original, d81_invalidated_during_lookup)
{
	static const unsigned char newer[8] = "version2";
	int nf = self->nf, c, trap;

	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	c = full_file(nf, self->vol);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));

	c = cf_nf_cookie(nf, self->vol, "file", 4, aux, sizeof(aux), FILE_SIZE);
	ASSERT_LT(0, c);
	trap = cf_delay_arm("opened", 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, cf_nf_use(nf, c, false));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	ASSERT_EQ(0, cf_nf_invalidate(nf, c, newer, sizeof(newer), FILE_SIZE, false));
	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_nf_wait(nf, c, CF_STATE(CF_ACTIVE), 0, 0, LONG, NULL));
	cf_nf_note_release(nf, c);
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, FILE_SIZE, FILE_SIZE));
	/* Also when there is something to be read again. */
	ASSERT_EQ(0, cf_nf_store(nf, c, 2, 0, 4096, FILE_SIZE));
	ASSERT_EQ(0, cf_nf_note_release(nf, c));
	EXPECT_EQ(0, cf_nf_check(nf, c, 2, 0, 4096, FILE_SIZE));
	EXPECT_EQ(0, cf_nf_absent(nf, c, 4096, FILE_SIZE - 4096, FILE_SIZE));
	ASSERT_EQ(0, cf_nf_fill(nf, c, 2, FILE_SIZE));
	EXPECT_EQ(0, cf_nf_check(nf, c, 2, 0, FILE_SIZE, FILE_SIZE));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));

	c = cf_nf_file(nf, self->vol, "file", newer, sizeof(newer), FILE_SIZE, false);
	ASSERT_LT(0, c);
	EXPECT_EQ(0, cf_nf_check(nf, c, 2, 0, FILE_SIZE, FILE_SIZE));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

/* As the library does it, for which a part of its request has to end. */
static int do_write_back(void *arg)
{
	const struct act *a = arg;

	return cf_nf_store_copy(a->nf, a->cookie, 1, 16384, 4096, FILE_SIZE, CF_COPY_WRITEBACK);
}

/*
 * Who writes to a file that was believed has it marked first: a power cut would leave it with
 * what the server may never get.
 */
TEST_F(original, d45_written_before_the_mark)
{
	struct cf_netfs_write w = { .start = 4096, .len = 4096, .i_size = FILE_SIZE,
				    .how = CF_IO_ISSUE, .timeout_ms = 1 };
	long long end = cf_now() + cf_ms(3 * LONG);
	unsigned char buf[4096];
	int c, trap, ret;
	struct act a;

	c = cf_nf_file(self->nf, self->vol, "file", aux, sizeof(aux), FILE_SIZE, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_store(self->nf, c, 1, 0, 4096, FILE_SIZE));
	ASSERT_EQ(0, cf_nf_note_release(self->nf, c));
	trap = cf_delay_arm("mark_dirty", 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, cf_nf_use(self->nf, c, true));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));

	cf_pattern(1, 4096, buf, sizeof(buf));
	w.cookie = c;
	w.buf = (unsigned long)buf;
	EXPECT_GT(0, ioctl(self->nf, CF_NETFS_WRITE, &w));
	EXPECT_EQ(ETIMEDOUT, errno);
	EXPECT_EQ(0, cf_nf_absent(self->nf, c, 4096, FILE_SIZE - 4096, FILE_SIZE));
	/* Who wants to wait is refused. */
	ASSERT_EQ(0, cf_nf_write(self->nf, c, 0, buf, 8192, sizeof(buf), FILE_SIZE,
				 CF_IO_ISSUE | CF_IO_SYNC, &w));
	EXPECT_EQ(-EBUSY, w.ret);
	EXPECT_EQ(0, cf_nf_check(self->nf, c, 1, 0, 4096, FILE_SIZE));
	a.nf = self->nf;
	a.cookie = c;
	if (cf_nf_has_streams(self->nf)) {
		ASSERT_EQ(0, cf_task_start(&a.task, do_write_back, &a));
		EXPECT_EQ(-ETIMEDOUT, cf_task_wait(&a.task, &ret, BRIEF));
	}

	EXPECT_EQ(0, cf_delay_go(trap));
	if (cf_nf_has_streams(self->nf)) {
		ASSERT_EQ(0, cf_task_wait(&a.task, &ret, LONG));
		EXPECT_EQ(0, ret);
		EXPECT_EQ(0, cf_nf_check(self->nf, c, 1, 16384, 4096, FILE_SIZE));
	}
	do {
		ret = cf_nf_check(self->nf, c, 1, 0, 8192, FILE_SIZE);
	} while (ret == -ENODATA && cf_now() < end && !poll(NULL, 0, 10));
	EXPECT_EQ(0, ret);
	EXPECT_EQ(0, cf_nf_absent(self->nf, c, 8192, 8192, FILE_SIZE));
	ASSERT_EQ(0, cf_nf_unuse(self->nf, c));
	ASSERT_EQ(0, cf_nf_detach(self->nf, c, false));
}

/*
 * An operation that has given back the last access is not through with the cookie, which
 * is relinquished just then: it is not taken away.
 */
TEST_F_TIMEOUT(original, relinquished_while_operation_ends, 120)
{
	long long end = cf_now() + cf_ms(6 * LONG);
	struct cf_netfs_end_late a;
	int c, op;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "one processor");
	/* The operation does not wait for long, as it has interrupts off. */
	do {
		c = full_file(self->nf, self->vol);
		ASSERT_LT(0, c);
		op = cf_nf_begin(self->nf, c, false);
		ASSERT_LT(0, op);
		ASSERT_EQ(0, cf_nf_unuse(self->nf, c));
		ASSERT_EQ(0, cf_nf_end_late(self->nf, op, c, &a));
	} while (a.state < CF_RELINQUISHING && cf_now() < end);
	/* The cache was asked to let go of it, and has not done so. */
	EXPECT_EQ(CF_RELINQUISHING, a.state);
	EXPECT_LT(0, a.refs);
}

TEST_HARNESS_MAIN
