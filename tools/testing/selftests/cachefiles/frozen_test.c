// SPDX-License-Identifier: GPL-2.0-only
/*
 * With the backing file system frozen, whoever is killed is gone and nothing
 * but I/O on it waits; thawed, everything goes on where it stopped.
 */
#include "harness.h"

#include <linux/fs.h>
#include <sys/ioctl.h>

static int freeze(struct cf_env *e)
{
	int fd = open(e->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0 && ioctl(fd, FIFREEZE, 0)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static void thaw(int fd)
{
	ioctl(fd, FITHAW, 0);
	close(fd);
}

/* The only holder of the device is killed: it can be reaped, frozen or not. */
TEST_F(device, d36_daemon_is_reaped)
{
	struct cf_env *e = &self->e;
	struct cf_server s;
	struct cf_result res;
	struct cf_reader r;
	int fd;

	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	ASSERT_EQ(0, cf_env_store(e, 512 * MB, backing_fs()));
	ASSERT_EQ(0, cf_env_bind(e));
	ASSERT_EQ(0, cf_env_mount(e));
	ASSERT_EQ(0, cf_server_init(&s, e->dev));
	ASSERT_NE(NULL, cf_server_add(&s, "file", MB, 1));
	ASSERT_EQ(0, cf_server_fork(&s, false));
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 65536));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
	close(e->dev);
	e->dev = -1;

	fd = freeze(e);
	ASSERT_LE(0, fd);
	kill(s.pid, SIGKILL);
	EXPECT_EQ(0, cf_server_wait(&s, PROMPT));
	thaw(fd);
	cf_server_stop(&s);
	EXPECT_LE(0, cf_env_umount(e, PROMPT));

	/* The end of the old cache is awaited, not run into. */
	e->dev = cf_device();
	ASSERT_LE(0, e->dev);
	ASSERT_EQ(0, cf_env_bind(e));
	ASSERT_EQ(0, cf_env_mount(e));
	EXPECT_LE(0, open_object(e, &r, "file", MB, (struct cf_msg[1]) {}));
	EXPECT_EQ(65536, read_here(e, "file", 1, 0, 65536));
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
}

/* A reader whose data can't be written is killed, and the rest is served later. */
TEST_F(device, d39_reader_is_killed)
{
	struct cf_env *e = &self->e;
	struct cf_server s;
	struct cf_result res;
	struct cf_reader r[2];
	int fd;

	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	ASSERT_EQ(0, cf_env_store(e, 512 * MB, backing_fs()));
	ASSERT_EQ(0, cf_env_bind(e));
	ASSERT_EQ(0, cf_env_mount(e));
	ASSERT_EQ(0, cf_server_init(&s, e->dev));
	ASSERT_NE(NULL, cf_server_add(&s, "file", MB, 1));
	ASSERT_EQ(0, cf_server_thread(&s));
	ASSERT_EQ(0, start_read(e, &r[0], "file", 1, 0, 4096));
	ASSERT_EQ(0, cf_reader_wait(&r[0], &res, LONG));

	fd = freeze(e);
	ASSERT_LE(0, fd);
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, start_read(e, &r[i], "file", 1, (i + 1) * 65536, 4096));
	}
	EXPECT_EQ(-ETIMEDOUT, cf_reader_wait(&r[1], &res, BRIEF));
	EXPECT_LE(0, cf_reader_kill(&r[0], 1000));
	/* What is there is there. */
	EXPECT_EQ(4096, read_here(e, "file", 1, 0, 4096));
	thaw(fd);
	ASSERT_EQ(0, cf_reader_wait(&r[1], &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
	cf_server_stop(&s);
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
}

TEST_HARNESS_MAIN
