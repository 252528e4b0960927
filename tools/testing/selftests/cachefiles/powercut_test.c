// SPDX-License-Identifier: GPL-2.0-only
/*
 * After a power cut, and in a copy that has the same holes, every byte that is read is
 * what was stored or is fetched again; and what had reached the disk is not.
 */
#include "harness.h"

#include <stdlib.h>
#include <sys/ioctl.h>

#include "lib/backing.h"

#define GRANULES	256
#define SIZE		(GRANULES * (__u64)CF_BLOCK - 1000)
#define SEED		5

FIXTURE(stores) {
	struct cf_env e;
	struct cf_mounted m;
};

FIXTURE_VARIANT(stores) {
	struct cf_backing b;
};

FIXTURE_VARIANT_ADD(stores, ext4) {
	.b = { .fstype = "ext4", .mb = 64, .mkfs = "mkfs.ext4 -q -F -b4096" },
};

FIXTURE_VARIANT_ADD(stores, ext4_1k) {
	.b = { .fstype = "ext4", .mb = 64, .mkfs = "mkfs.ext4 -q -F -b1024" },
};

FIXTURE_VARIANT_ADD(stores, xfs) {
	.b = { .fstype = "xfs", .mb = 320, .mkfs = "mkfs.xfs -q -f -K" },
};

FIXTURE_SETUP(stores)
{
	int ret;

	if (world)
		SKIP(return, "%s", cf_why);
	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	ASSERT_EQ(0, cf_env_init(&self->e));
	ret = cf_backing_mount(&self->m, &variant->b);
	if (ret > 0)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	snprintf(self->e.dir, sizeof(self->e.dir), "%.100s/c", self->m.where);
	ASSERT_EQ(0, mkdir(self->e.dir, 0700));
	ASSERT_EQ(0, cf_env_bind(&self->e));
	ASSERT_EQ(0, cf_env_mount(&self->e));
}

FIXTURE_TEARDOWN(stores)
{
	EXPECT_NE(-ETIMEDOUT, cf_env_exit(&self->e));
	cf_backing_unmount(&self->m);
}

/* The mount and the cache end, in whatever state the file system is. */
static void leave(struct __test_metadata *_metadata, struct cf_env *e, int fd)
{
	close(fd);
	ASSERT_LE(0, cf_env_umount(e, LONG));
	close(e->dev);
	e->dev = -1;
}

static void come_back(struct __test_metadata *_metadata, struct cf_env *e)
{
	e->dev = cf_device();
	ASSERT_LE(0, e->dev);
	ASSERT_EQ(0, cf_env_bind(e));
	ASSERT_EQ(0, cf_env_mount(e));
}

/* From now on nothing reaches the disk, not even what is in the log of the file system. */
static void cut_power(struct __test_metadata *_metadata, struct cf_mounted *m)
{
	ASSERT_EQ(0, cf_store_break(m->where));
}

static void remove_all(struct __test_metadata *_metadata, const char *dir)
{
	const char *const rm[] = { "rm", "-rf", dir, NULL };

	ASSERT_EQ(0, cf_run(20000, rm));
}

/* Read all of it page by page, every byte right: which granules were fetched. */
static void read_all(struct __test_metadata *_metadata, struct cf_env *e, bool fetched[GRANULES])
{
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	memset(fetched, 0, GRANULES * sizeof(*fetched));
	fd = open_object(e, &r, "file", SIZE, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_read(e, &r, "file", SEED, 0, SIZE));
	while (!cf_reader_done(&r)) {
		struct pollfd p[2] = {
			{ .fd = e->dev, .events = POLLIN },
			{ .fd = r.pipe, .events = POLLIN },
		};

		ASSERT_LT(0, poll(p, 2, cf_ms(LONG)));
		if (!(p[0].revents & POLLIN) || !cf_read(e->dev, &m))
			continue;
		ASSERT_EQ(CACHEFILES_OP_READ, m.hdr.opcode);
		for (__u64 g = 0; g < cf_rd(&m)->len / CF_BLOCK; g++)
			fetched[cf_rd(&m)->off / CF_BLOCK + g] = true;
		ASSERT_EQ(0, serve_read(&m, fd, SEED, SIZE));
	}
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(SIZE, (__u64)res.n);
	EXPECT_EQ(-1, res.bad) {
		TH_LOG("wrong at %lld", (long long)res.bad);
	}
	close(fd);
}

/* A file that was in use all the time is there, though nobody has ended anything. */
TEST_F_TIMEOUT(stores, d61_complete_fetch, 120)
{
	struct cf_env *e = &self->e;
	bool fetched[GRANULES];
	struct cf_reader r;
	struct cf_msg m;
	int fd, nr = 0;

	fd = open_object(e, &r, "file", SIZE, &m);
	ASSERT_LE(0, fd);
	ASSERT_LT(0, cf_fill(fd, SEED, 0, SIZE, SIZE));
	ASSERT_EQ(0, cf_sync_fs(self->m.where));
	cut_power(_metadata, &self->m);
	leave(_metadata, e, fd);
	ASSERT_EQ(0, cf_backing_remount(&self->m));
	come_back(_metadata, e);
	read_all(_metadata, e, fetched);
	for (int g = 0; g < GRANULES; g++)
		nr += fetched[g];
	EXPECT_EQ(0, nr);
	ASSERT_LE(0, cf_env_umount(e, LONG));
}

/* Between any two writes: what was flushed is there, of the rest no byte is made up. */
TEST_F_TIMEOUT(stores, d45_power_cut, 240)
{
	const char *s = getenv("CF_SEED");
	struct cf_env *e = &self->e;
	bool there[GRANULES], fetched[GRANULES];
	unsigned int seed = s ? (unsigned int)atoi(s) : 7;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	TH_LOG("CF_SEED=%u", seed);
	srand48(seed);
	memset(there, 0, sizeof(there));
	for (int round = 0; round < 3; round++) {
		fd = open_object(e, &r, "file", SIZE, &m);
		ASSERT_LE(0, fd);
		for (int i = 0; i < 24; i++) {
			__u64 g = (__u64)lrand48() % (GRANULES - 1), n = 1 + lrand48() % 4;

			if (g + n >= GRANULES)
				n = 1;
			ASSERT_EQ((ssize_t)(n * CF_BLOCK),
				  cf_fill(fd, SEED, g * CF_BLOCK, n * CF_BLOCK, SIZE));
			while (i < 12 && n--)
				there[g + n] = true;
			if (i == 11)
				ASSERT_EQ(0, cf_sync_fs(self->m.where));
		}
		cut_power(_metadata, &self->m);
		leave(_metadata, e, fd);
		ASSERT_EQ(0, cf_backing_remount(&self->m));
		come_back(_metadata, e);
		if (round % 2)
			continue;
		read_all(_metadata, e, fetched);
		for (int g = 0; g < GRANULES; g++) {
			EXPECT_FALSE(there[g] && fetched[g]) {
				TH_LOG("granule %d was flushed and is fetched again", g);
			}
			there[g] = true;
		}
		/* And once more from the beginning. */
		leave(_metadata, e, -1);
		remove_all(_metadata, e->dir);
		ASSERT_EQ(0, mkdir(e->dir, 0700));
		come_back(_metadata, e);
		memset(there, 0, sizeof(there));
	}
	ASSERT_LE(0, cf_env_umount(e, LONG));
}

/*
 * A file that the netfs may have written to without the cache is replaced when it is going
 * to write again, and does not come back.
 */
TEST_F_TIMEOUT(stores, replaced_by_writer, 120)
{
	struct cf_env *e = &self->e;
	int nf, vol, c;

	nf = cf_nf_open();
	if (nf < 0)
		SKIP(return, CF_NO_NETFS);
	leave(_metadata, e, -1);
	ASSERT_LE(0, e->dev = cf_device());
	ASSERT_EQ(0, cf_env_bind_original(e));
	vol = cf_nf_volume(nf, e->volume, e->tag, NULL, 0);
	c = cf_nf_file(nf, vol, "file", NULL, 0, MB, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_fill(nf, c, SEED, MB));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	ASSERT_EQ(0, cf_nf_volume_end(nf, vol, NULL, 0, false));
	ASSERT_EQ(0, cf_sync_fs(self->m.where));

	/* It is there already when its cache comes. */
	close(e->dev);
	vol = cf_nf_volume(nf, e->volume, e->tag, NULL, 0);
	ASSERT_LT(0, vol);
	c = cf_nf_cookie(nf, vol, "file", 4, NULL, 0, MB);
	ASSERT_LT(0, c);
	ASSERT_LE(0, e->dev = cf_device());
	ASSERT_EQ(0, cf_env_bind_original(e));
	ASSERT_EQ(0, cf_nf_attach(nf, c, true));
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, MB, MB));
	cut_power(_metadata, &self->m);
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	ASSERT_EQ(0, cf_nf_volume_end(nf, vol, NULL, 0, false));
	close(e->dev);
	e->dev = -1;

	ASSERT_EQ(0, cf_backing_remount(&self->m));
	ASSERT_LE(0, e->dev = cf_device());
	ASSERT_EQ(0, cf_env_bind_original(e));
	vol = cf_nf_volume(nf, e->volume, e->tag, NULL, 0);
	c = cf_nf_file(nf, vol, "file", NULL, 0, MB, false);
	ASSERT_LT(0, c);
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, MB, MB));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	ASSERT_EQ(0, cf_nf_volume_end(nf, vol, NULL, 0, false));
	close(nf);
}

/* A copy of the cache in its place. Without its holes it must not be copied. */
TEST_F_TIMEOUT(stores, d45_copied, 120)
{
	static const char *const how[] = { "--sparse=auto", "--sparse=always" };
	struct cf_env *e = &self->e;
	bool fetched[GRANULES];
	struct cf_reader r;
	struct cf_msg m;
	char copy[160];
	int fd, nr;

	snprintf(copy, sizeof(copy), "%s.copy", e->dir);
	fd = open_object(e, &r, "file", SIZE, &m);
	ASSERT_LE(0, fd);
	for (__u64 g = 0; g < GRANULES / 2; g++) {
		__u64 pos = 2 * g * CF_BLOCK;

		ASSERT_EQ((ssize_t)CF_BLOCK, cf_fill(fd, SEED, pos, CF_BLOCK, SIZE));
	}
	leave(_metadata, e, fd);
	for (size_t i = 0; i < ARRAY_SIZE(how); i++) {
		const char *const cp[] = { "cp", "-a", how[i], e->dir, copy, NULL };
		const char *const back[] = { "cp", "-a", copy, e->dir, NULL };

		remove_all(_metadata, copy);
		ASSERT_EQ(0, cf_run(20000, cp));
		remove_all(_metadata, e->dir);
		ASSERT_EQ(0, cf_run(20000, back));
		come_back(_metadata, e);
		read_all(_metadata, e, fetched);
		for (int g = nr = 0; g < GRANULES; g++)
			nr += fetched[g] == g % 2;
		EXPECT_EQ(GRANULES, nr) {
			TH_LOG("%s", how[i]);
		}
		leave(_metadata, e, -1);
		/* The next one is of the copy, which is as it was. */
		remove_all(_metadata, e->dir);
		ASSERT_EQ(0, rename(copy, e->dir));
	}
}

TEST_HARNESS_MAIN
