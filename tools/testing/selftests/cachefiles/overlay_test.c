// SPDX-License-Identifier: GPL-2.0-only
/*
 * A cache in an overlay has what was stored and nothing else, like any other: with files in
 * a lower layer, with the file system below frozen or its disk stopped, and after a power cut.
 */
#include "harness.h"

#include <stdlib.h>
#include <sys/statfs.h>

#include "lib/backing.h"
#include "lib/netfs.h"
#include "lib/task.h"

#define SIZE	(64 * (__u64)CF_GRANULE)

/* What a cache, its volume and its file are in one test. */
struct use {
	struct cf_env	e;
	char		below[128];	/* directory that the overlay is made of */
	char		where[128];	/* the overlay, with the cache in it */
	int		nf, vol, c;
};

/* The cache is to be in an overlay of what is in its directory. */
static int stack(struct use *u)
{
	if (!u->below[0])
		snprintf(u->below, sizeof(u->below), "%s", u->e.dir);
	snprintf(u->where, sizeof(u->where), "%.110s-overlay", u->below);
	return cf_overlay(u->below, u->where);
}

static int unstack(struct use *u)
{
	int ret;

	if (!u->where[0])
		return 0;
	ret = cf_umount_idle(u->where, LONG);
	rmdir(u->where);
	u->where[0] = '\0';
	return ret;
}

static int begin(struct use *u, const char *version, bool modify)
{
	struct cf_env *e = &u->e;
	int ret;

	if (u->where[0])
		snprintf(e->dir, sizeof(e->dir), "%s", u->where);
	if (e->dev >= 0)
		close(e->dev);
	e->dev = cf_device();
	if (e->dev < 0)
		return e->dev;
	ret = cf_env_bind_original(e);
	if (ret)
		return ret;
	u->vol = cf_nf_volume(u->nf, e->volume, e->tag, version, strlen(version));
	if (u->vol < 0)
		return u->vol;
	u->c = cf_nf_file(u->nf, u->vol, "file", NULL, 0, SIZE, modify);
	return u->c < 0 ? u->c : 0;
}

static int end(struct use *u)
{
	int ret = u->c > 0 ? cf_nf_detach(u->nf, u->c, false) : 0;

	if (!ret)
		ret = cf_nf_volume_end(u->nf, u->vol, NULL, 0, false);
	close(u->e.dev);
	u->e.dev = -1;
	return ret;
}

FIXTURE(overlay) {
	struct use u;
};

FIXTURE_SETUP(overlay)
{
	if (world)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, cf_env_init(&self->u.e));
	self->u.nf = cf_nf_open();
	if (self->u.nf < 0)
		SKIP(return, CF_NO_NETFS);
}

FIXTURE_TEARDOWN(overlay)
{
	EXPECT_EQ(0, unstack(&self->u));
	EXPECT_NE(-ETIMEDOUT, cf_env_exit(&self->u.e));
	close(self->u.nf);
}

/* A file of which every other piece of 8 granules is there, in what becomes the lower layer. */
static int make_lower(struct use *u)
{
	char dir[128];
	int ret;

	snprintf(dir, sizeof(dir), "%s", u->e.dir);
	snprintf(u->e.dir, sizeof(u->e.dir), "%.100s/lower", dir);
	ret = mkdir(u->e.dir, 0755) ? -errno : begin(u, "version1", false);
	for (__u64 pos = 0; !ret && pos < SIZE; pos += SIZE / 4)
		ret = cf_nf_store(u->nf, u->c, 1, pos, SIZE / 8, SIZE);
	if (!ret)
		ret = end(u);
	snprintf(u->e.dir, sizeof(u->e.dir), "%s", dir);
	return ret ?: stack(u);
}

/* What is copied to the upper layer when it is opened has no holes any more. */
TEST_F(overlay, d45_copied_up)
{
	struct use *u = &self->u;
	int ret;

	ASSERT_EQ(0, cf_env_store(&u->e, 320 * MB, backing_fs()));
	ret = make_lower(u);
	if (ret > 0)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, begin(u, "version1", false));
	cf_nf_note_release(u->nf, u->c);
	for (__u64 pos = SIZE / 8; pos < SIZE; pos += SIZE / 4) {
		EXPECT_EQ(0, cf_nf_absent(u->nf, u->c, pos, SIZE / 8, SIZE));
	}
	ASSERT_EQ(0, cf_nf_fill(u->nf, u->c, 1, SIZE));
	ASSERT_EQ(0, end(u));

	/* What is in the upper layer stays as it is. */
	ASSERT_EQ(0, begin(u, "version1", false));
	EXPECT_EQ(0, cf_nf_check(u->nf, u->c, 1, 0, SIZE, SIZE));
	ASSERT_EQ(0, end(u));
}

/* What somebody has read below, who has nothing to do with the cache, is not data by that. */
TEST_F(overlay, d45_read_by_somebody_else)
{
	static const struct cf_backing xfs = {
		.fstype = "xfs", .mb = 320, .mkfs = "mkfs.xfs -q -f -mreflink=0",
		.extsize = "64k",
	};
	struct use *u = &self->u;
	static char all[SIZE];
	struct cf_mounted m;
	char path[512];
	int fd, ret;

	ret = cf_backing_mount(&m, &xfs);
	if (!ret) {
		snprintf(u->e.dir, sizeof(u->e.dir), "%s", m.where);
		ret = stack(u);
	}
	if (ret > 0)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, begin(u, "", false));
	ASSERT_EQ(0, cf_nf_store(u->nf, u->c, 1, 0, 4096, SIZE));
	ASSERT_EQ(0, cf_nf_store(u->nf, u->c, 1, 131072, 4096, SIZE));
	ASSERT_EQ(0, end(u));
	ASSERT_EQ(0, cf_nf_path(u->where, u->e.volume, "file", 4, path, sizeof(path)));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ((ssize_t)SIZE, read(fd, all, SIZE));
	close(fd);

	ASSERT_EQ(0, begin(u, "", false));
	EXPECT_EQ(0, cf_nf_check(u->nf, u->c, 1, 0, 4096, SIZE));
	EXPECT_EQ(0, cf_nf_absent(u->nf, u->c, 4096, 131072 - 4096, SIZE));
	EXPECT_EQ(0, cf_nf_check(u->nf, u->c, 1, 131072, 4096, SIZE));
	ASSERT_EQ(0, end(u));
	EXPECT_EQ(0, unstack(u));
	cf_backing_unmount(&m);
}

/* What is larger than files can be in the file system below is not stored, that is all. */
TEST_F(overlay, too_large)
{
	struct use *u = &self->u;
	struct statfs st;
	__u64 pos;
	int ret;

	ASSERT_EQ(0, cf_env_store(&u->e, 64 * MB, "ext4"));
	ASSERT_EQ(0, statfs(u->e.dir, &st));
	ret = stack(u);
	if (ret > 0)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, begin(u, "", false));
	pos = (((1ULL << 32) - 1) * st.f_bsize / CF_GRANULE - 1) * CF_GRANULE;
	EXPECT_GT(0, cf_nf_store(u->nf, u->c, 1, pos, 2 * CF_GRANULE, pos + 2 * CF_GRANULE));
	EXPECT_EQ(0, cf_cmd(u->e.dev, "debug 0"));
	cf_nf_note_release(u->nf, u->c);
	EXPECT_EQ(0, cf_nf_absent(u->nf, u->c, pos, 2 * CF_GRANULE, pos + 2 * CF_GRANULE));
	EXPECT_EQ(0, cf_nf_fill(u->nf, u->c, 1, SIZE));
	EXPECT_EQ(0, cf_nf_check(u->nf, u->c, 1, 0, SIZE, SIZE));
	ASSERT_EQ(0, end(u));
}

/* A directory of the lower layer can't be moved: that costs a volume, not the cache. */
TEST_F(overlay, stale_volume)
{
	struct use *u = &self->u;
	int ret, vol, c;

	ASSERT_EQ(0, cf_env_store(&u->e, 320 * MB, backing_fs()));
	ret = make_lower(u);
	if (ret > 0)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	ret = begin(u, "version2", false);
	if (!ret)
		SKIP(return, "overlay moves directories (CONFIG_OVERLAY_FS_REDIRECT_DIR)");
	EXPECT_EQ(-ENOBUFS, ret);
	EXPECT_EQ(0, cf_cmd(u->e.dev, "debug 0"));
	vol = cf_nf_volume(u->nf, "other", u->e.tag, NULL, 0);
	ASSERT_LT(0, vol);
	c = cf_nf_file(u->nf, vol, "file", NULL, 0, SIZE, false);
	ASSERT_LT(0, c);
	EXPECT_EQ(0, cf_nf_fill(u->nf, c, 1, SIZE));
	EXPECT_EQ(0, cf_nf_check(u->nf, c, 1, 0, SIZE, SIZE));
	ASSERT_EQ(0, cf_nf_detach(u->nf, c, false));
	ASSERT_EQ(0, cf_nf_volume_end(u->nf, vol, NULL, 0, false));
	ASSERT_EQ(0, end(u));
}

static int do_store(void *arg)
{
	const struct use *u = arg;

	return cf_nf_store(u->nf, u->c, 1, 65536, 4096, SIZE);
}

static int do_misfit(void *arg)
{
	const struct use *u = arg;
	struct cf_netfs_write w;
	int ret;

	ret = cf_nf_write(u->nf, u->c, 0, "abcde", 65541, 5, SIZE, CF_IO_ISSUE | CF_IO_SYNC, &w);
	return ret ? ret : (int)w.ret;
}

/* What is being written below is seen by whoever takes it away. */
TEST_F(overlay, d45_forgotten_with_the_disk_stopped)
{
	struct use *u = &self->u;
	int ret, rets[2];

	if (!cf_have_disk())
		SKIP(return, CF_NO_DISK);
	ASSERT_EQ(0, cf_disk(&u->e, "make"));
	ret = stack(u);
	if (ret > 0) {
		cf_disk(&u->e, "remove");
		SKIP(return, "%s", cf_why);
	}
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, begin(u, "", false));
	ASSERT_EQ(0, cf_nf_store(u->nf, u->c, 1, 0, 4096, SIZE));
	cf_nf_note_release(u->nf, u->c);

	ASSERT_EQ(0, cf_disk_between(&u->e, do_store, do_misfit, u, rets));
	EXPECT_EQ(0, rets[0]);
	EXPECT_EQ(-EINVAL, rets[1]);

	EXPECT_EQ(0, cf_nf_check(u->nf, u->c, 1, 0, 4096, SIZE));
	EXPECT_EQ(0, cf_nf_absent(u->nf, u->c, 4096, SIZE - 4096, SIZE));
	ASSERT_EQ(0, end(u));
	EXPECT_EQ(0, unstack(u));
	EXPECT_EQ(0, cf_disk(&u->e, "remove"));
}

static int do_write(void *arg)
{
	const struct use *u = arg;
	unsigned char buf[CF_GRANULE];
	struct cf_netfs_write w;
	int ret;

	cf_pattern(1, 0, buf, sizeof(buf));
	ret = cf_nf_write(u->nf, u->c, 0, buf, 0, sizeof(buf), SIZE, CF_IO_ISSUE | CF_IO_SYNC, &w);
	return ret ? ret : (int)w.ret;
}

/* Who stores with pages locked does not wait for the file system below either. */
TEST_F(overlay, d39_store_while_frozen)
{
	struct use *u = &self->u;
	struct cf_task store;
	int fd, ret;

	ASSERT_EQ(0, cf_env_store(&u->e, 320 * MB, backing_fs()));
	ret = stack(u);
	if (ret > 0)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, begin(u, "", false));
	fd = cf_freeze(u->below);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, cf_task_start(&store, do_write, u));
	EXPECT_EQ(0, cf_task_wait(&store, &ret, PROMPT));
	EXPECT_EQ(-EBUSY, ret);
	EXPECT_EQ(0, cf_thaw(fd));
	EXPECT_EQ(0, cf_nf_fill(u->nf, u->c, 1, SIZE));
	EXPECT_EQ(0, cf_nf_check(u->nf, u->c, 1, 0, SIZE, SIZE));
	ASSERT_EQ(0, end(u));
}

/* Overlayfs keeps in memory what is to be written directly, if somebody waits for it. */
TEST_F_TIMEOUT(overlay, d45_power_cut, 120)
{
	static const struct cf_backing ext4 = {
		.fstype = "ext4", .mb = 64, .mkfs = "mkfs.ext4 -q -F -b4096",
	};
	struct use *u = &self->u;
	unsigned char *buf = malloc(SIZE);
	struct cf_netfs_write w;
	struct cf_mounted m;
	char path[200];
	int fd, ret;

	ASSERT_NE(NULL, buf);
	ret = cf_backing_mount(&m, &ext4);
	if (!ret) {
		snprintf(u->e.dir, sizeof(u->e.dir), "%.100s/c", m.where);
		ret = mkdir(u->e.dir, 0755) ? -errno : stack(u);
	}
	if (ret > 0)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, begin(u, "", true));
	ASSERT_EQ(0, cf_nf_fill(u->nf, u->c, 1, SIZE));
	ASSERT_EQ(0, end(u));
	ASSERT_EQ(0, cf_sync_fs(m.where));

	ASSERT_EQ(0, begin(u, "", true));
	cf_pattern(2, 0, buf, SIZE);
	ASSERT_EQ(0, cf_nf_write(u->nf, u->c, 0, buf, 0, SIZE, SIZE, CF_IO_ISSUE | CF_IO_SYNC, &w));
	ASSERT_EQ(0, w.ret);
	ASSERT_EQ(0, cf_nf_detach(u->nf, u->c, false));
	/* What is in the log of the file system reaches the disk with somebody else's file. */
	snprintf(path, sizeof(path), "%s/other", m.where);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	ASSERT_EQ(1, write(fd, "", 1));
	ASSERT_EQ(0, fsync(fd));
	close(fd);
	ASSERT_EQ(0, cf_store_break(m.where));
	u->c = 0;
	ASSERT_EQ(0, end(u));
	ASSERT_EQ(0, unstack(u));

	ASSERT_EQ(0, cf_backing_remount(&m));
	ASSERT_EQ(0, stack(u));
	ASSERT_EQ(0, begin(u, "", false));
	EXPECT_EQ(0, cf_nf_check(u->nf, u->c, 2, 0, SIZE, SIZE));
	ASSERT_EQ(0, end(u));
	EXPECT_EQ(0, unstack(u));
	cf_backing_unmount(&m);
	free(buf);
}

TEST_HARNESS_MAIN
