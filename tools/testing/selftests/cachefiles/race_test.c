// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whoever comes in between two steps of somebody else finds nothing freed, loses
 * nothing and gets no wrong data.
 */
#include "harness.h"
#include "lib/delay.h"

FIXTURE(delay) {
	struct cf_env e;
	struct cf_stall stall;
};

FIXTURE_SETUP(delay)
{
	if (world)
		SKIP(return, "%s", cf_why);
	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	if (cf_delay_init())
		SKIP(return, "no delay points (CONFIG_CACHEFILES_DEBUG)");
	ASSERT_EQ(0, cf_env_init(&self->e));
	ASSERT_EQ(0, cf_env_bind(&self->e));
	ASSERT_EQ(0, cf_env_mount(&self->e));
}

FIXTURE_TEARDOWN(delay)
{
	cf_env_exit(&self->e);
}

/* What the tests below rely on: a trap catches the one it is set for, and lets it go. */
TEST_F(delay, trap)
{
	struct cf_env *e = &self->e;
	struct cf_reader r;
	struct cf_msg m;
	int fd, trap;

	EXPECT_EQ(-EINVAL, cf_delay_arm("nowhere", 0));
	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);

	trap = cf_delay_arm("enqueue", 1);
	ASSERT_LE(0, trap);
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
	EXPECT_LE(0, cf_reader_kill(&r, 1000));
	EXPECT_EQ(-ESRCH, cf_delay_go(trap));
}

TEST_HARNESS_MAIN
