// SPDX-License-Identifier: GPL-2.0-only
/*
 * What was fetched is used again after unmount, unbind and bind without asking
 * for it, and what is not exactly what was stored is fetched again. A version is told
 * by volume, key and size, and by nothing else.
 */
#include "harness.h"

#include <sys/xattr.h>

#include "lib/backing.h"

#define SIZE	(256 * KB + 100)

/* Open, read all of it with this process as the daemon: READs it took. */
static int fetch(struct cf_env *e, const char *name, __u64 seed, __u64 size)
{
	struct cf_msg o, m;
	struct cf_result res;
	struct cf_reader r;
	int fd, ret, reads = 0;

	fd = open_object(e, &r, name, size, &o);
	if (fd < 0)
		return fd;
	ret = start_stream(e, &r, name, seed, 0, size + 4096);
	if (ret)
		return ret;
	while (!cf_reader_done(&r)) {
		ret = cf_next(e->dev, &m, 100);
		if (ret == -ETIMEDOUT)
			continue;
		if (ret < 0)
			return ret;
		if (m.hdr.opcode != CACHEFILES_OP_READ)
			return -ENOMSG;
		ret = serve_read(&m, fd, seed, size);
		if (ret)
			return ret;
		reads++;
	}
	ret = cf_reader_wait(&r, &res, LONG);
	if (ret)
		return ret;
	if (res.err)
		return -res.err;
	if (res.bad >= 0 || res.n != (__s64)size)
		return -EBADMSG;
	return reads;
}

/* With one object, whose descriptor is open: its CLOSE would be in the way of what follows. */
static int remount(struct cf_env *e)
{
	struct cf_msg m;
	int ret = cf_env_umount(e, PROMPT);

	if (ret < 0)
		return ret;
	ret = cf_expect(e->dev, &m, CACHEFILES_OP_CLOSE, LONG);
	if (ret)
		return ret;
	close(cf_close(&m)->fd);
	return cf_env_mount(e);
}

static int rebind(struct cf_env *e)
{
	struct cf_msg m;
	int ret = cf_env_umount(e, PROMPT);

	if (ret < 0)
		return ret;
	while (cf_next(e->dev, &m, 50) > 0)
		close(cf_close(&m)->fd);
	ret = cf_env_rebind(e);
	return ret ? ret : cf_env_mount(e);
}

TEST_F(ondemand, reused_after_remount)
{
	struct cf_env *e = &self->e;

	EXPECT_LT(0, fetch(e, "file", 1, SIZE));
	ASSERT_EQ(0, remount(e));
	EXPECT_EQ(0, fetch(e, "file", 1, SIZE));
}

TEST_F(ondemand, reused_after_rebind)
{
	struct cf_env *e = &self->e;

	EXPECT_LT(0, fetch(e, "file", 1, SIZE));
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, rebind(e));
		EXPECT_EQ(0, fetch(e, "file", 1, SIZE));
	}
}

/* A part that was fetched is a part that isn't again. */
TEST_F(ondemand, part_reused)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(8192, cf_fill(fd, 1, 4096, 8192, MB));
	close(fd);
	ASSERT_EQ(0, rebind(e));
	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	EXPECT_EQ(8192, read_here(e, "file", 1, 4096, 8192));
	EXPECT_EQ(1, cf_idle(e->dev));
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 12288, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(-1, res.bad);
}

/* What is stale gives its space back when it is found to be, not in the end. */
TEST_F(ondemand, d61_stale_file_takes_no_space)
{
	const __u64 size = 8 * MB;
	struct cf_env *e = &self->e;
	long long before, used, end;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &r, "file", size, &m);
	ASSERT_LE(0, fd);
	before = cf_used(e->dir);
	ASSERT_EQ((ssize_t)size, cf_fill(fd, 1, 0, size, size));
	EXPECT_LE(before + (long long)size, cf_used(e->dir));
	close(fd);
	ASSERT_EQ(0, rebind(e));
	fd = open_object(e, &r, "file", size + 4096, &m);
	ASSERT_LE(0, fd);
	/* A file system may give it back by and by. */
	for (end = cf_now() + cf_ms(LONG);; cf_poll(e->dev, 0, 100)) {
		used = cf_used(e->dir);
		if (used < before + (long long)size / 2 || cf_now() > end)
			break;
	}
	EXPECT_GT(before + (long long)size / 2, used);
	close(fd);
}

/* Another size is another file. */
TEST_F(ondemand, d46_changed_size)
{
	struct cf_env *e = &self->e;

	EXPECT_LT(0, fetch(e, "file", 1, SIZE));
	ASSERT_EQ(0, rebind(e));
	EXPECT_LT(0, fetch(e, "file", 2, SIZE + 4096));
	ASSERT_EQ(0, rebind(e));
	EXPECT_LT(0, fetch(e, "file", 3, SIZE - 4096));
	ASSERT_EQ(0, rebind(e));
	EXPECT_EQ(0, fetch(e, "file", 3, SIZE - 4096));
}

/* Keys and volumes are apart. */
TEST_F(ondemand, d46_other_volume)
{
	struct cf_env *e = &self->e;

	EXPECT_LT(0, fetch(e, "file", 1, SIZE));
	EXPECT_LT(0, fetch(e, "other", 2, SIZE));
	ASSERT_LE(0, cf_env_umount(e, PROMPT));
	strcat(e->volume, "x");
	ASSERT_EQ(0, cf_env_rebind(e));
	ASSERT_EQ(0, cf_env_mount(e));
	EXPECT_LT(0, fetch(e, "file", 3, SIZE));
	ASSERT_LE(0, cf_env_umount(e, PROMPT));
	e->volume[strlen(e->volume) - 1] = '\0';
	ASSERT_EQ(0, cf_env_rebind(e));
	ASSERT_EQ(0, cf_env_mount(e));
	EXPECT_EQ(0, fetch(e, "file", 1, SIZE));
	EXPECT_EQ(0, fetch(e, "other", 2, SIZE));
}

/* Ways to spoil a backing file behind the cache's back. */
static int spoil_remove(const char *path, void *arg)
{
	return unlink(path);
}

static int spoil_shorten(const char *path, void *arg)
{
	return truncate(path, 4096);
}

static int spoil_lengthen(const char *path, void *arg)
{
	return truncate(path, SIZE + 12288);
}

static int spoil_xattr_gone(const char *path, void *arg)
{
	return removexattr(path, "user.CacheFiles.cache");
}

static int spoil_xattr_short(const char *path, void *arg)
{
	return setxattr(path, "user.CacheFiles.cache", "x", 1, 0);
}

static int spoil_xattr_long(const char *path, void *arg)
{
	char buf[512];

	memset(buf, 0, sizeof(buf));
	return setxattr(path, "user.CacheFiles.cache", buf, sizeof(buf), 0);
}

static int spoil_directory(const char *path, void *arg)
{
	return unlink(path) || mkdir(path, 0700);
}

static int spoil_fifo(const char *path, void *arg)
{
	return unlink(path) || mkfifo(path, 0600);
}

TEST_F(ondemand, spoilt)
{
	static int (*const spoil[])(const char *path, void *arg) = {
		spoil_remove, spoil_shorten, spoil_xattr_gone,
		spoil_xattr_short, spoil_xattr_long, spoil_directory, spoil_fifo,
		spoil_lengthen,
	};
	struct cf_env *e = &self->e;
	__u64 seed = 1;
	char dir[160];

	snprintf(dir, sizeof(dir), "%s/cache", e->dir);
	EXPECT_LT(0, fetch(e, "file", seed, SIZE));
	for (size_t i = 0; i < ARRAY_SIZE(spoil); i++) {
		ASSERT_LE(0, cf_env_umount(e, PROMPT));
		close(e->dev);
		e->dev = -1;
		ASSERT_EQ(1, cf_tree_count(dir, spoil[i], NULL));
		e->dev = cf_device();
		ASSERT_LE(0, e->dev);
		ASSERT_EQ(0, cf_env_bind(e));
		ASSERT_EQ(0, cf_env_mount(e));
		/* Of a file that was only cut or stretched the rest is good. */
		if (spoil[i] == spoil_lengthen) {
			EXPECT_LE(0, fetch(e, "file", seed, SIZE));
			continue;
		}
		if (spoil[i] != spoil_shorten)
			seed++;
		EXPECT_LT(0, fetch(e, "file", seed, SIZE)) {
			TH_LOG("spoilt in way %zu", i);
		}
	}
}

/* A daemon that was killed after a fetch: what it fetched stays. */
TEST_F(ondemand, kept_without_a_clean_end)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;

	ASSERT_NE(NULL, cf_server_add(&self->s, "file", SIZE, 1));
	ASSERT_EQ(0, cf_server_fork(&self->s, false));
	ASSERT_EQ(0, start_stream(e, &r, "file", 1, 0, SIZE));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	cf_server_stop(&self->s);

	/* Nobody serves: the second pass is all from the cache. */
	ASSERT_EQ(0, cf_drop_caches("1"));
	ASSERT_EQ(0, start_stream(e, &r, "file", 1, 0, SIZE));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
	EXPECT_EQ(SIZE, res.n);
	EXPECT_EQ(1, cf_idle(e->dev));
}

TEST_HARNESS_MAIN
