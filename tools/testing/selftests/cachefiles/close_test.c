// SPDX-License-Identifier: GPL-2.0-only
/*
 * The end of an object is told once to a daemon that holds its descriptor,
 * not at all to one that does not, and is never waited for.
 */
#include "harness.h"

TEST_F(ondemand, told_once)
{
	struct cf_env *e = &self->e;
	struct cf_msg o[3], m;
	struct cf_reader r;
	char name[32];
	int fd[3];

	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		fd[i] = open_object(e, &r, name, MB, &o[i]);
		ASSERT_LE(0, fd[i]);
	}
	/* Nobody reads the device: the unmount is done all the same. */
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
	for (int n = 0; n < 3; n++) {
		int i;

		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_CLOSE, LONG));
		EXPECT_EQ(24, m.hdr.len);
		EXPECT_EQ(0, cf_close(&m)->flags);
		for (i = 0; i < 3; i++)
			if (o[i].hdr.object_id == m.hdr.object_id)
				break;
		ASSERT_GT(3, i);
		EXPECT_EQ(fd[i], (int)cf_close(&m)->fd);
		o[i].hdr.object_id = 0;
	}
	EXPECT_EQ(0, cf_poll(e->dev, POLLIN, cf_ms(BRIEF)));
	EXPECT_EQ(1, cf_idle(e->dev));
	EXPECT_EQ(0, cf_cmd(e->dev, "restore"));
	EXPECT_EQ(1, cf_idle(e->dev));

	/* The descriptors are good for nothing but closing. */
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(-ENOBUFS, cf_fill(fd[i], 0, 0, 4096, MB));
		EXPECT_EQ(-EINVAL, cf_cread(fd[i], 0));
		close(fd[i]);
	}
}

TEST_F(ondemand, not_told_without_fd)
{
	struct cf_env *e = &self->e;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	close(fd);
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
	EXPECT_EQ(0, cf_poll(e->dev, POLLIN, cf_ms(BRIEF)));
	EXPECT_EQ(1, cf_idle(e->dev));
}

/* A CLOSE that nobody read yet is gone with the descriptor it is about. */
TEST_F(ondemand, not_told_after_fd_closed)
{
	struct cf_env *e = &self->e;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	close(fd);
	EXPECT_EQ(1, cf_idle(e->dev));
}

TEST_F(ondemand, duplicate_keeps_it_open)
{
	struct cf_env *e = &self->e;
	struct cf_reader r;
	struct cf_msg m;
	int fd, fd2;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	fd2 = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	ASSERT_LE(0, fd2);
	close(fd);
	ASSERT_EQ(0, read_served(e, "file", fd2, 1, 0, 4096, MB));
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
	EXPECT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_CLOSE, LONG));
	close(fd2);
}

/* The same volume and file again, with the old CLOSE still unread. */
TEST_F(ondemand, d35_remount_does_not_wait)
{
	struct cf_msg first, m;
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	int fd, fd2;

	fd = open_object(e, &r, "file", MB, &first);
	ASSERT_LE(0, fd);
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
	ASSERT_EQ(0, cf_env_mount(e));
	ASSERT_EQ(0, start_stat(e, &r, "file"));

	/* The old opening ends before the new one begins. */
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_CLOSE, LONG));
	EXPECT_EQ(first.hdr.object_id, m.hdr.object_id);
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	EXPECT_NE(first.hdr.object_id, m.hdr.object_id);
	fd2 = cf_open_fd(&m);
	ASSERT_NE(fd, fd2);
	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-ENOBUFS, cf_fill(fd, 1, 0, 4096, MB));
	EXPECT_EQ(4096, cf_fill(fd2, 1, 0, 4096, MB));
	EXPECT_EQ(4096, read_here(e, "file", 1, 0, 4096));
}

/* The CLOSE stays unread: who waits for the new opening can be killed all the same. */
TEST_F(ondemand, d35_remount_is_killed)
{
	struct cf_env *e = &self->e;
	struct cf_msg first, m;
	struct cf_reader r;

	ASSERT_LE(0, open_object(e, &r, "file", MB, &first));
	for (int i = 0; i < 3; i++) {
		EXPECT_LE(0, cf_env_umount(e, PROMPT));
		ASSERT_EQ(0, cf_env_mount(e));
		ASSERT_EQ(0, start_stat(e, &r, "file"));
		EXPECT_EQ(-ETIMEDOUT, cf_reader_wait(&r, (struct cf_result[1]) {}, BRIEF));
		EXPECT_LE(0, cf_reader_kill(&r, PROMPT));
	}
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_CLOSE, LONG));
	EXPECT_EQ(first.hdr.object_id, m.hdr.object_id);
	EXPECT_EQ(0, until_idle(e));
	EXPECT_LE(0, open_object(e, &r, "file", MB, &m));
}

/* Requests that are outstanding when the mount goes do not outlive it. */
TEST_F(ondemand, drop_ends_requests)
{
	struct cf_env *e = &self->e;
	struct cf_reader r, stuck;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_read(e, &stuck, "file", 1, 0, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_LE(0, cf_reader_kill(&stuck, PROMPT));
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
	EXPECT_EQ(-EINVAL, cf_cread(fd, m.hdr.msg_id));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_CLOSE, LONG));
	EXPECT_EQ(1, cf_idle(e->dev));
}

TEST_HARNESS_MAIN
