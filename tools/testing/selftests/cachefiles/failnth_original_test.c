// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whichever allocation or user copy fails while a network file system reads, writes or
 * resizes, its reader gets no wrong byte and no error of the cache, and the next try is a
 * good one.
 */
#include "harness.h"

#include "lib/failnth.h"

/* More allocations and copies than any of these calls makes. */
#define MOST	100
#define SIZE	(32 * CF_GRANULE + 1000ULL)
#define ALL	CF_ROUND_UP(SIZE)

/* It is what it was, or is gone, or is what it was to become: never something else. */
static void expect_right(struct __test_metadata *_metadata, int nf, int c, __u64 seed, int n)
{
	struct cf_fetch f;

	ASSERT_EQ(0, cf_nf_fetch(nf, c, seed, 0, ALL, SIZE, &f, NULL));
	EXPECT_EQ(-1, f.bad) {
		TH_LOG("allocation %d", n);
	}
	EXPECT_EQ(0, f.err);
}

static void expect_alive(struct __test_metadata *_metadata, struct cf_env *e, int nf, int c)
{
	EXPECT_LT(0, cf_fail_count);
	TH_LOG("%d allocations failed", cf_fail_count);
	EXPECT_EQ(0, cf_cmd(e->dev, "debug 0"));
	ASSERT_EQ(0, cf_nf_fill(nf, c, 99, SIZE));
	EXPECT_EQ(0, cf_nf_check(nf, c, 99, 0, ALL, SIZE));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

/*
 * A file of which something could not be taken away is given up by the cache: the next
 * one that is opened under its name is as good as new. The cache goes on.
 */
static int revive(struct __test_metadata *_metadata, struct cf_env *e, int nf, int vol, int c)
{
	EXPECT_EQ(0, cf_cmd(e->dev, "debug 0"));
	if (!cf_nf_fill(nf, c, 1, SIZE))
		return c;
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	c = cf_nf_file(nf, vol, "file", NULL, 0, SIZE, false);
	ASSERT_LT(0, c);
	return c;
}

static int begin(struct __test_metadata *_metadata, int nf, int vol)
{
	int c = cf_nf_file(nf, vol, "file", NULL, 0, SIZE, false);

	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_fill(nf, c, 1, SIZE));
	return c;
}

TEST_F_TIMEOUT(original, read, 120)
{
	static unsigned char buf[8 * CF_GRANULE];
	bool hit = true;
	int c;

	if (cf_fail_init())
		SKIP(return, CF_NO_FAILNTH);
	c = begin(_metadata, self->nf, self->vol);
	for (int n = 1; hit && n < MOST; n++) {
		struct cf_netfs_read a;
		int ret;

		cf_fail_nth(n);
		ret = cf_nf_read(self->nf, c, 0, buf, 0, sizeof(buf), SIZE,
				 CF_IO_PREPARE | CF_IO_ISSUE, CF_HOLE_IGNORE, &a);
		hit = cf_fail_done();
		/* That is from the player of the file system itself. */
		if (cf_fail_is(ret))
			continue;
		ASSERT_EQ(0, ret);
		if (a.source != CF_SOURCE_CACHE)
			continue;
		EXPECT_EQ(1, a.completions);
		EXPECT_EQ(0, a.seen) {
			TH_LOG("allocation %d: the reader gets: %s", n, strerror(-a.seen));
		}
		EXPECT_EQ(-1, cf_differs(1, 0, buf, a.result > 0 ? a.result : 0));
		EXPECT_EQ(0, cf_nf_check(self->nf, c, 1, 0, ALL, SIZE));
	}
	EXPECT_FALSE(hit);
	expect_alive(_metadata, &self->e, self->nf, c);
}

TEST_F_TIMEOUT(original, write, 120)
{
	bool hit = true;
	int c;

	if (cf_fail_init())
		SKIP(return, CF_NO_FAILNTH);
	c = begin(_metadata, self->nf, self->vol);
	for (int n = 1; hit && n < MOST; n++) {
		int ret;

		ASSERT_EQ(0, cf_nf_fill(self->nf, c, n, SIZE));
		cf_fail_nth(n);
		ret = cf_nf_store(self->nf, c, n + 1, 4 * CF_GRANULE, 4 * CF_GRANULE, SIZE);
		hit = cf_fail_done();
		/* A call that has not got as far as the cache changes nothing there. */
		if (ret == -ENOMEM) {
			struct cf_fetch f;

			ASSERT_EQ(0, cf_nf_fetch(self->nf, c, n, 4 * CF_GRANULE, 4 * CF_GRANULE,
						 SIZE, &f, NULL));
			EXPECT_EQ(-1, f.bad);
			EXPECT_EQ(0, f.err);
		} else if (ret == -EFAULT) {
			/* The player cannot say how far it came. */
		} else if (ret) {
			EXPECT_EQ(0, cf_nf_absent(self->nf, c, 4 * CF_GRANULE, 4 * CF_GRANULE,
						  SIZE)) {
				TH_LOG("allocation %d: %s", n, strerror(-ret));
			}
		} else {
			EXPECT_EQ(0, cf_nf_check(self->nf, c, n + 1, 4 * CF_GRANULE,
						 4 * CF_GRANULE, SIZE));
		}
		EXPECT_EQ(0, cf_nf_check(self->nf, c, n, 0, 4 * CF_GRANULE, SIZE));
		EXPECT_EQ(0, cf_nf_check(self->nf, c, n, 8 * CF_GRANULE, ALL - 8 * CF_GRANULE,
					 SIZE));
	}
	EXPECT_FALSE(hit);
	expect_alive(_metadata, &self->e, self->nf, c);
}

/* Content that stays the same, so that all that is read has to be it. */
TEST_F_TIMEOUT(original, write_back, 120)
{
	bool hit = true;
	int c;

	if (cf_fail_init())
		SKIP(return, CF_NO_FAILNTH);
	c = begin(_metadata, self->nf, self->vol);
	for (int n = 1; hit && n < MOST; n++) {
		struct cf_netfs_subreq a;
		struct cf_netfs_query q;

		cf_fail_nth(n);
		cf_nf_store_subreq(self->nf, c, 1, 4 * CF_GRANULE + 7, 3 * CF_GRANULE, SIZE, 0, &a);
		hit = cf_fail_done();
		expect_right(_metadata, self->nf, c, 1, n);
		cf_fail_nth(n);
		cf_nf_query(self->nf, c, 0, ALL, CF_GRANULE, &q);
		hit |= cf_fail_done();
		expect_right(_metadata, self->nf, c, 1, n);
		c = revive(_metadata, &self->e, self->nf, self->vol, c);
		expect_right(_metadata, self->nf, c, 1, n);
		EXPECT_EQ(0, cf_nf_fill(self->nf, c, 1, SIZE));
	}
	EXPECT_FALSE(hit);
	expect_alive(_metadata, &self->e, self->nf, c);
}

TEST_F_TIMEOUT(original, resize, 120)
{
	bool hit = true;
	int c;

	if (cf_fail_init())
		SKIP(return, CF_NO_FAILNTH);
	c = begin(_metadata, self->nf, self->vol);
	for (int n = 1; hit && n < MOST; n++) {
		cf_fail_nth(n);
		cf_nf_resize(self->nf, c, SIZE - 5000);
		hit = cf_fail_done();
		cf_fail_nth(n);
		cf_nf_resize(self->nf, c, SIZE);
		hit |= cf_fail_done();
		expect_right(_metadata, self->nf, c, 1, n);
		ASSERT_EQ(0, cf_nf_resize(self->nf, c, SIZE));
		c = revive(_metadata, &self->e, self->nf, self->vol, c);
		expect_right(_metadata, self->nf, c, 1, n);
		EXPECT_EQ(0, cf_nf_fill(self->nf, c, 1, SIZE));
	}
	EXPECT_FALSE(hit);
	expect_alive(_metadata, &self->e, self->nf, c);
}

/* Files and volumes are looked up, made and given up by workers. */
TEST_F_TIMEOUT(original, workers, 240)
{
	enum { ROUNDS = 120 };
	char name[80];

	if (cf_fail_init() || cf_fail_module("cachefiles"))
		SKIP(return, CF_NO_FAILNTH);
	for (int n = 0; n < ROUNDS; n++) {
		int vol, c;

		snprintf(name, sizeof(name), "%s-%d", self->e.volume, n);
		/* Some of the first, and some of the last. */
		ASSERT_EQ(0, cf_fail_some(1, n % 2 ? 4 : 20));
		vol = cf_nf_volume(self->nf, name, self->e.tag, NULL, 0);
		c = vol < 0 ? vol : cf_nf_file(self->nf, vol, "file", NULL, 0, SIZE, false);
		if (c >= 0) {
			cf_nf_fill(self->nf, c, 1, SIZE);
			cf_nf_detach(self->nf, c, n % 3 == 0);
		}
		cf_fail_some_done();
		ASSERT_LE(0, vol);
		ASSERT_TRUE(c >= 0 || c == -ENOBUFS) {
			TH_LOG("round %d: %s", n, strerror(-c));
		}

		c = cf_nf_file(self->nf, vol, "file", NULL, 0, SIZE, false);
		ASSERT_LE(0, c);
		expect_right(_metadata, self->nf, c, 1, n);
		ASSERT_EQ(0, cf_nf_fill(self->nf, c, 2, SIZE)) {
			TH_LOG("round %d", n);
		}
		EXPECT_EQ(0, cf_nf_check(self->nf, c, 2, 0, ALL, SIZE));
		ASSERT_EQ(0, cf_nf_detach(self->nf, c, true));
		cf_nf_volume_end(self->nf, vol, NULL, 0, false);
	}
	TH_LOG("%d allocations failed", cf_fail_count);
	EXPECT_LT(0, cf_fail_count);
	EXPECT_EQ(0, cf_cmd(self->e.dev, "debug 0"));
}

/* What a daemon asks for comes the next time. */
TEST_F_TIMEOUT(original, statistics, 120)
{
	struct cf_env *e = &self->e;
	bool hit = true;

	if (cf_fail_init())
		SKIP(return, CF_NO_FAILNTH);
	for (int n = 1; hit && n < MOST; n++) {
		struct cf_statistics s;
		int ret, c;

		c = cf_nf_file(self->nf, self->vol, "file", NULL, 0, SIZE, false);
		ASSERT_LT(0, c);
		ASSERT_EQ(0, cf_nf_detach(self->nf, c, false));
		ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
		cf_fail_nth(n);
		ret = cf_statistics(e->dev, &s);
		hit = cf_fail_done();
		if (ret) {
			EXPECT_TRUE(cf_fail_is(ret)) {
				TH_LOG("allocation %d: %d", n, ret);
			}
			EXPECT_EQ(POLLIN, cf_poll(e->dev, POLLIN, 0));
			ASSERT_EQ(0, cf_statistics(e->dev, &s));
		}
		EXPECT_EQ(1, s.freleased);
	}
	EXPECT_FALSE(hit);
	EXPECT_EQ(0, cf_cmd(e->dev, "debug 0"));
}

TEST_HARNESS_MAIN
