// SPDX-License-Identifier: GPL-2.0-only
/*
 * The limits on free space decide when the daemon is told to cull and when
 * nothing more is stored, and changing them takes effect at once.
 */
#include "harness.h"

#include <sys/statfs.h>

static int put_ballast(struct cf_env *e, off_t size)
{
	char path[160];
	int fd, ret;

	snprintf(path, sizeof(path), "%s/ballast", e->dir);
	if (!size)
		return unlink(path);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ret = fd < 0 ? -errno : -posix_fallocate(fd, 0, size);
	close(fd);
	return ret;
}

/*
 * A cache on a file system of its own, of which a good part is taken: per cent
 * that would be free without that part.
 */
static int set_up(struct __test_metadata *_metadata, struct cf_env *e)
{
	struct statfs st;

	ASSERT_EQ(0, cf_env_store(e, 512 * MB, backing_fs()));
	EXPECT_EQ(0, statfs(e->dir, &st));
	ASSERT_EQ(0, put_ballast(e, 128 * MB));
	return (int)(st.f_bavail * 100 / st.f_blocks);
}

/* Wait for POLLOUT to come or go, having the cache look from time to time. */
static int culling(struct cf_env *e, int fd, bool on)
{
	long long end = cf_now() + cf_ms(LONG);

	while (cf_now() < end) {
		if (!!(cf_poll(e->dev, POLLOUT, 0) & POLLOUT) == on)
			return 1;
		if (fd >= 0)
			cf_fill(fd, 1, 0, 4096, MB);
		cf_poll(e->dev, POLLERR, 50);
	}
	return 0;
}

TEST_F(device, culling_is_announced)
{
	struct cf_env *e = &self->e;
	struct cf_reader r;
	struct cf_msg m;
	int fd, most;

	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	most = set_up(_metadata, e);
	ASSERT_EQ(0, cf_cmd(e->dev, "brun %d%%", most - 3));
	ASSERT_EQ(0, cf_cmd(e->dev, "bcull %d%%", most - 10));
	ASSERT_EQ(0, cf_env_bind(e));
	ASSERT_EQ(0, cf_env_mount(e));
	EXPECT_EQ(1, culling(e, -1, true));
	EXPECT_EQ(0, cf_poll(e->dev, POLLIN, 0));

	/* It is still stored, above the last limit. */
	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	EXPECT_EQ((ssize_t)MB, cf_fill(fd, 1, 0, MB, MB));
	EXPECT_EQ(POLLOUT, cf_poll(e->dev, POLLOUT, 0));

	/* Room is made: the announcement is taken back. */
	ASSERT_EQ(0, put_ballast(e, 0));
	EXPECT_EQ(1, culling(e, fd, false));

	/* And once more, with the ballast on board. */
	ASSERT_EQ(0, put_ballast(e, 128 * MB));
	EXPECT_EQ(1, culling(e, fd, true));
	ASSERT_EQ(0, cf_cmd(e->dev, "bcull 40%%"));
	ASSERT_EQ(0, cf_cmd(e->dev, "brun 50%%"));
	EXPECT_EQ(1, culling(e, fd, false));
	ASSERT_LE(0, cf_env_umount(e, PROMPT));
}

TEST_F(device, nothing_is_stored_below_stop)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	set_up(_metadata, e);
	ASSERT_EQ(0, cf_env_bind(e));
	ASSERT_EQ(0, cf_env_mount(e));
	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(4096, cf_fill(fd, 1, 0, 4096, MB));
	EXPECT_EQ(0, cf_poll(e->dev, POLLOUT, 0));

	ASSERT_EQ(0, cf_cmd(e->dev, "brun 97%%"));
	ASSERT_EQ(0, cf_cmd(e->dev, "bcull 96%%"));
	ASSERT_EQ(0, cf_cmd(e->dev, "bstop 95%%"));
	EXPECT_EQ(1, culling(e, fd, true));
	EXPECT_EQ(-ENOBUFS, cf_fill(fd, 1, 4096, 4096, MB));
	/* What is there is read all the same. */
	EXPECT_EQ(4096, read_here(e, "file", 1, 0, 4096));
	/* A file that isn't there can't be made: the look-up is refused. */
	ASSERT_EQ(0, start_stat(e, &r, "new"));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	EXPECT_EQ(-ENOBUFS, cf_copen(e->dev, m.hdr.msg_id, MB));
	close(cf_open_fd(&m));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(ENOBUFS, res.err);

	/* With the limit lowered everything goes its way again. */
	ASSERT_EQ(0, cf_cmd(e->dev, "bstop 1%%"));
	EXPECT_EQ(4096, cf_fill(fd, 1, 4096, 4096, MB));
	EXPECT_EQ(8192, read_here(e, "file", 1, 0, 8192));
	EXPECT_LE(0, open_object(e, &r, "new", MB, &m));
	ASSERT_LE(0, cf_env_umount(e, PROMPT));
}

TEST_HARNESS_MAIN
