// SPDX-License-Identifier: GPL-2.0-only
/*
 * A cache in an overlay has what was stored and nothing else, like any other: with files in
 * a lower layer, with the file system below frozen or its disk stopped, and after a power cut.
 */
#include "harness.h"

#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "lib/backing.h"
#include "lib/netfs.h"
#include "lib/task.h"

#define SIZE	(64 * (__u64)CF_GRANULE)

/* What a cache, its volume and its file are in one test. */
struct use {
	struct cf_env	*e;
	char		below[160];	/* directory that the overlay is made of */
	int		nf, vol, c;
};

/* From now on the cache is in an overlay of what is there. */
static int stack(struct use *u)
{
	snprintf(u->below, sizeof(u->below), "%s", u->e->dir);
	snprintf(u->e->dir, sizeof(u->e->dir), "%.110s-overlay", u->below);
	return cf_overlay(u->below, u->e->dir);
}

static int unstack(struct use *u)
{
	int ret = umount(u->e->dir) ? -errno : 0;

	rmdir(u->e->dir);
	return ret;
}

static int begin(struct use *u, const char *version, bool modify)
{
	struct cf_env *e = u->e;
	int ret;

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
	close(u->e->dev);
	u->e->dev = -1;
	return ret;
}

/* A file of which every other piece of 8 granules is there, in what becomes the lower layer. */
static int make_lower(struct use *u)
{
	char dir[128];
	int ret;

	snprintf(dir, sizeof(dir), "%s", u->e->dir);
	snprintf(u->e->dir, sizeof(u->e->dir), "%.100s/lower", dir);
	ret = mkdir(u->e->dir, 0755) ? -errno : begin(u, "version1", false);
	for (__u64 pos = 0; !ret && pos < SIZE; pos += SIZE / 4)
		ret = cf_nf_store(u->nf, u->c, 1, pos, SIZE / 8, SIZE);
	if (!ret)
		ret = end(u);
	snprintf(u->e->dir, sizeof(u->e->dir), "%s", dir);
	return ret ?: stack(u);
}

/* What is copied to the upper layer when it is opened has no holes any more. */
TEST_F(device, d45_copied_up)
{
	struct use u = { .e = &self->e, .nf = cf_nf_open() };
	int ret;

	if (u.nf < 0)
		SKIP(return, CF_NO_NETFS);
	ASSERT_EQ(0, cf_env_store(&self->e, 320 * MB, backing_fs()));
	ret = make_lower(&u);
	if (ret > 0)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, begin(&u, "version1", false));
	cf_nf_note_release(u.nf, u.c);
	for (__u64 pos = SIZE / 8; pos < SIZE; pos += SIZE / 4) {
		EXPECT_EQ(0, cf_nf_absent(u.nf, u.c, pos, SIZE / 8, SIZE));
	}
	ASSERT_EQ(0, cf_nf_fill(u.nf, u.c, 1, SIZE));
	ASSERT_EQ(0, end(&u));

	/* What is in the upper layer stays as it is. */
	ASSERT_EQ(0, begin(&u, "version1", false));
	EXPECT_EQ(0, cf_nf_check(u.nf, u.c, 1, 0, SIZE, SIZE));
	ASSERT_EQ(0, end(&u));
	EXPECT_EQ(0, unstack(&u));
	close(u.nf);
}

/* A directory of the lower layer can't be moved: that costs a volume, not the cache. */
TEST_F(device, stale_volume)
{
	struct use u = { .e = &self->e, .nf = cf_nf_open() };
	int ret, vol, c;

	if (u.nf < 0)
		SKIP(return, CF_NO_NETFS);
	ASSERT_EQ(0, cf_env_store(&self->e, 320 * MB, backing_fs()));
	ret = make_lower(&u);
	if (ret > 0)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	ret = begin(&u, "version2", false);
	if (!ret)
		SKIP(return, "overlay moves directories (CONFIG_OVERLAY_FS_REDIRECT_DIR)");
	EXPECT_EQ(-ENOBUFS, ret);
	EXPECT_EQ(0, cf_cmd(self->e.dev, "debug 0"));
	vol = cf_nf_volume(u.nf, "other", self->e.tag, NULL, 0);
	ASSERT_LT(0, vol);
	c = cf_nf_file(u.nf, vol, "file", NULL, 0, SIZE, false);
	ASSERT_LT(0, c);
	EXPECT_EQ(0, cf_nf_fill(u.nf, c, 1, SIZE));
	EXPECT_EQ(0, cf_nf_check(u.nf, c, 1, 0, SIZE, SIZE));
	ASSERT_EQ(0, cf_nf_detach(u.nf, c, false));
	ASSERT_EQ(0, cf_nf_volume_end(u.nf, vol, NULL, 0, false));
	ASSERT_EQ(0, end(&u));
	EXPECT_EQ(0, unstack(&u));
	close(u.nf);
}

struct call {
	struct cf_task	task;
	struct use	*u;
};

static int do_store(void *arg)
{
	const struct use *u = ((struct call *)arg)->u;

	return cf_nf_store(u->nf, u->c, 1, 65536, 4096, SIZE);
}

static int do_misfit(void *arg)
{
	const struct use *u = ((struct call *)arg)->u;
	struct cf_netfs_write w;
	int ret;

	ret = cf_nf_write(u->nf, u->c, 0, "abcde", 65541, 5, SIZE, CF_IO_ISSUE | CF_IO_SYNC, &w);
	return ret ? ret : (int)w.ret;
}

/* What is being written below is seen by whoever takes it away. */
TEST_F(device, d45_forgotten_with_the_disk_stopped)
{
	struct use u = { .e = &self->e, .nf = cf_nf_open() };
	struct call store = { .u = &u }, misfit = { .u = &u };
	char dir[sizeof(self->e.dir)];
	int ret;

	if (u.nf < 0)
		SKIP(return, CF_NO_NETFS);
	if (!cf_have_disk())
		SKIP(return, CF_NO_DISK);
	ASSERT_EQ(0, cf_disk(&self->e, "make"));
	ret = stack(&u);
	if (ret > 0) {
		cf_disk(&self->e, "remove");
		SKIP(return, "%s", cf_why);
	}
	ASSERT_EQ(0, ret);
	snprintf(dir, sizeof(dir), "%s", self->e.dir);
	ASSERT_EQ(0, begin(&u, "", false));
	ASSERT_EQ(0, cf_nf_store(u.nf, u.c, 1, 0, 4096, SIZE));
	cf_nf_note_release(u.nf, u.c);

	ASSERT_EQ(0, cf_disk(&self->e, "stop"));
	ret = cf_task_start(&store.task, do_store, &store);
	if (!ret)
		ret = cf_task_waits(&store.task, LONG);
	if (!ret)
		ret = cf_task_start(&misfit.task, do_misfit, &misfit);
	/* It has time to pass the other one. */
	poll(NULL, 0, cf_ms(BRIEF));
	EXPECT_EQ(0, cf_disk(&self->e, "go"));
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, cf_task_wait(&store.task, &ret, LONG));
	EXPECT_EQ(0, ret);
	ASSERT_EQ(0, cf_task_wait(&misfit.task, &ret, LONG));
	EXPECT_EQ(-EINVAL, ret);

	EXPECT_EQ(0, cf_nf_check(u.nf, u.c, 1, 0, 4096, SIZE));
	EXPECT_EQ(0, cf_nf_absent(u.nf, u.c, 4096, SIZE - 4096, SIZE));
	ASSERT_EQ(0, end(&u));
	snprintf(self->e.dir, sizeof(self->e.dir), "%s", dir);
	EXPECT_EQ(0, unstack(&u));
	EXPECT_EQ(0, cf_disk(&self->e, "remove"));
	close(u.nf);
}

static int do_write(void *arg)
{
	const struct use *u = ((struct call *)arg)->u;
	unsigned char buf[CF_GRANULE];
	struct cf_netfs_write w;
	int ret;

	cf_pattern(1, 0, buf, sizeof(buf));
	ret = cf_nf_write(u->nf, u->c, 0, buf, 0, sizeof(buf), SIZE, CF_IO_ISSUE | CF_IO_SYNC, &w);
	return ret ? ret : (int)w.ret;
}

/* Who stores with pages locked does not wait for the file system below either. */
TEST_F(device, d39_store_while_frozen)
{
	struct use u = { .e = &self->e, .nf = cf_nf_open() };
	struct call store = { .u = &u };
	int fd, ret;

	if (u.nf < 0)
		SKIP(return, CF_NO_NETFS);
	ASSERT_EQ(0, cf_env_store(&self->e, 320 * MB, backing_fs()));
	ret = stack(&u);
	if (ret > 0)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, begin(&u, "", false));
	fd = open(u.below, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ioctl(fd, FIFREEZE, 0));
	EXPECT_EQ(0, cf_task_start(&store.task, do_write, &store));
	ret = 0;
	EXPECT_EQ(0, cf_task_wait(&store.task, &ret, PROMPT));
	EXPECT_EQ(-EBUSY, ret);
	ASSERT_EQ(0, ioctl(fd, FITHAW, 0));
	close(fd);
	EXPECT_EQ(0, cf_nf_fill(u.nf, u.c, 1, SIZE));
	EXPECT_EQ(0, cf_nf_check(u.nf, u.c, 1, 0, SIZE, SIZE));
	ASSERT_EQ(0, end(&u));
	EXPECT_EQ(0, unstack(&u));
	close(u.nf);
}

/* Overlayfs keeps in memory what is to be written directly, if somebody waits for it. */
TEST_F_TIMEOUT(device, d45_power_cut, 120)
{
	static const struct cf_backing ext4 = {
		.fstype = "ext4", .mb = 64, .mkfs = "mkfs.ext4 -q -F -b4096",
	};
	struct use u = { .e = &self->e, .nf = cf_nf_open() };
	unsigned char *buf = malloc(SIZE);
	struct cf_netfs_write w;
	struct cf_mounted m;
	char path[200];
	int fd, ret;

	ASSERT_NE(NULL, buf);
	if (u.nf < 0)
		SKIP(return, CF_NO_NETFS);
	ret = cf_backing_mount(&m, &ext4);
	if (!ret) {
		snprintf(self->e.dir, sizeof(self->e.dir), "%.100s/c", m.where);
		ret = mkdir(self->e.dir, 0755) ? -errno : stack(&u);
	}
	if (ret > 0)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, begin(&u, "", true));
	ASSERT_EQ(0, cf_nf_fill(u.nf, u.c, 1, SIZE));
	ASSERT_EQ(0, end(&u));
	fd = open(m.where, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, syncfs(fd));
	close(fd);

	ASSERT_EQ(0, begin(&u, "", true));
	cf_pattern(2, 0, buf, SIZE);
	ASSERT_EQ(0, cf_nf_write(u.nf, u.c, 0, buf, 0, SIZE, SIZE, CF_IO_ISSUE | CF_IO_SYNC, &w));
	ASSERT_EQ(0, w.ret);
	ASSERT_EQ(0, cf_nf_detach(u.nf, u.c, false));
	/* What is in the log of the file system reaches the disk with somebody else's file. */
	snprintf(path, sizeof(path), "%s/other", m.where);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	ASSERT_EQ(1, write(fd, "", 1));
	ASSERT_EQ(0, fsync(fd));
	close(fd);
	ASSERT_EQ(0, cf_store_break(m.where));
	u.c = 0;
	ASSERT_EQ(0, end(&u));
	ASSERT_EQ(0, unstack(&u));

	ASSERT_EQ(0, cf_backing_remount(&m));
	ASSERT_EQ(0, cf_overlay(u.below, self->e.dir));
	ASSERT_EQ(0, begin(&u, "", false));
	EXPECT_EQ(0, cf_nf_check(u.nf, u.c, 2, 0, SIZE, SIZE));
	ASSERT_EQ(0, end(&u));
	EXPECT_EQ(0, unstack(&u));
	cf_backing_unmount(&m);
	free(buf);
	close(u.nf);
}

TEST_HARNESS_MAIN
