// SPDX-License-Identifier: GPL-2.0-only
/*
 * The machine can be suspended while OPENs and CLOSEs are in the hands of a daemon
 * that does not answer, and whatever it had in hand is there afterwards as before.
 */
#include "harness.h"

#include <stdio.h>

/* Write @value to @file below /sys; its old content, a single line, to @old. */
static int sys_set(const char *file, const char *value, char old[64])
{
	char path[128];
	int fd, ret;

	snprintf(path, sizeof(path), "/sys/%s", file);
	if (old) {
		ret = cf_read_file(path, old, 64);
		if (ret < 0)
			return ret;
		old[strcspn(old, "\n")] = '\0';
	}
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = write(fd, value, strlen(value)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

struct pm {
	char	level[64], delay[64], timeout[64];
};

/* Suspend is to go no further than freezing all processes, and to give up after @ms. */
static int pm_begin(struct pm *pm, int ms)
{
	char timeout[16];
	int ret;

	snprintf(timeout, sizeof(timeout), "%d", cf_ms(ms));
	ret = sys_set("power/pm_test", "freezer", pm->level);
	if (!ret)
		ret = sys_set("module/suspend/parameters/pm_test_delay", "0", pm->delay);
	if (!ret)
		ret = sys_set("power/pm_freeze_timeout", timeout, pm->timeout);
	return ret;
}

static void pm_end(struct pm *pm)
{
	sys_set("power/pm_test", "none", NULL);
	sys_set("module/suspend/parameters/pm_test_delay", pm->delay, NULL);
	sys_set("power/pm_freeze_timeout", pm->timeout, NULL);
}

static int suspend(void)
{
	return sys_set("power/state", "freeze", NULL);
}

/* One OPEN and one CLOSE are outstanding, delivered or not. */
static void open_and_close(struct __test_metadata *_metadata, struct cf_env *e, bool deliver)
{
	struct cf_msg o, m;
	struct cf_reader r;
	struct cf_result res;
	struct pm pm;
	int fd;

	if (pm_begin(&pm, LONG))
		SKIP(return, "no /sys/power/pm_test (CONFIG_PM_DEBUG)");
	fd = open_object(e, &r, "closed", MB, &o);
	ASSERT_LE(0, fd);
	ASSERT_LE(0, cf_env_umount(e, PROMPT));
	ASSERT_EQ(0, cf_env_mount(e));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	if (deliver) {
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_CLOSE, LONG));
	}
	ASSERT_EQ(0, start_stat(e, &r, "file"));
	if (deliver) {
		ASSERT_EQ(0, cf_expect(e->dev, &o, CACHEFILES_OP_OPEN, LONG));
	} else {
		EXPECT_EQ(0, cf_poll(r.pipe, POLLIN, cf_ms(BRIEF)));
	}

	EXPECT_EQ(0, suspend());
	pm_end(&pm);
	EXPECT_EQ(0, cf_reader_done(&r));
	EXPECT_EQ(deliver ? 0 : POLLIN, cf_poll(e->dev, POLLIN, 0));
	if (!deliver) {
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_CLOSE, LONG));
		ASSERT_EQ(0, cf_expect(e->dev, &o, CACHEFILES_OP_OPEN, LONG));
	}
	ASSERT_EQ(0, cf_copen(e->dev, o.hdr.msg_id, 7));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(7, res.n);
	EXPECT_EQ(1, cf_idle(e->dev));
	close(fd);
}

TEST_F(ondemand, d32_open_and_close_queued)
{
	open_and_close(_metadata, &self->e, false);
}

TEST_F(ondemand, d32_open_and_close_sent)
{
	open_and_close(_metadata, &self->e, true);
}

/*
 * A reader of data waits in the page cache, which does not let itself be frozen: then
 * the machine says in time that it can't be suspended.
 */
static void read_sent(struct __test_metadata *_metadata, struct cf_env *e, struct cf_job job)
{
	struct cf_result res;
	struct cf_reader r, o;
	struct cf_msg m;
	struct pm pm;
	int fd, ret;

	if (pm_begin(&pm, 1000))
		SKIP(return, "no /sys/power/pm_test (CONFIG_PM_DEBUG)");
	fd = open_object(e, &o, "file", MB, &m);
	ASSERT_LE(0, fd);
	job.seed = 1;
	job.len = 4096;
	ASSERT_EQ(0, cf_reader_start(&r, e->mnt, "file", &job));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ret = suspend();
	pm_end(&pm);
	EXPECT_TRUE(ret == 0 || ret == -EBUSY) {
		TH_LOG("suspend: %d", ret);
	}
	EXPECT_EQ(0, cf_reader_done(&r));
	if (!job.sequential) {
		EXPECT_EQ(1, cf_idle(e->dev));
	}
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
}

TEST_F(ondemand, d32_read_sent)
{
	read_sent(_metadata, &self->e, (struct cf_job) { .sequential = false });
}

TEST_F(ondemand, d32_read_ahead_sent)
{
	read_sent(_metadata, &self->e, (struct cf_job) { .sequential = true });
}

TEST_F(ondemand, d32_fault_sent)
{
	read_sent(_metadata, &self->e, (struct cf_job) { .use_mmap = true });
}

TEST_HARNESS_MAIN
