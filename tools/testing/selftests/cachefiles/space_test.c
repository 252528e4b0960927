// SPDX-License-Identifier: GPL-2.0-only
/*
 * The limits on free space decide when the daemon is told to cull and when
 * nothing more is stored, and changing them takes effect at once.
 */
#include "harness.h"

#include <sys/statfs.h>

#include "lib/backing.h"
#include "lib/delay.h"
#include "lib/task.h"

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

TEST_F(device, d58_culling_is_announced)
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

/* Nothing is stored meanwhile: it is enough that the daemon looks for messages. */
TEST_F(device, d58_told_without_writes)
{
	struct cf_env *e = &self->e;
	long long end;
	int most;

	most = set_up(_metadata, e);
	ASSERT_EQ(0, cf_cmd(e->dev, "brun %d%%", most - 3));
	ASSERT_EQ(0, cf_cmd(e->dev, "bcull %d%%", most - 10));
	ASSERT_EQ(0, cf_env_bind(e));
	EXPECT_EQ(1, culling(e, -1, true));
	ASSERT_EQ(0, put_ballast(e, 0));
	for (end = cf_now() + cf_ms(LONG); cf_now() < end && cf_poll(e->dev, POLLOUT, 0);) {
		EXPECT_EQ(1, cf_idle(e->dev));
		cf_poll(e->dev, POLLERR, 100);
	}
	EXPECT_EQ(0, cf_poll(e->dev, POLLOUT, 0));
}

/* Where inodes are made as they are needed, culling does not wait for more of them. */
TEST_F(device, no_inodes_to_count)
{
	static const struct cf_backing btrfs = {
		.fstype = "btrfs", .mb = 512, .mkfs = "mkfs.btrfs -q -f -K",
	};
	struct cf_env *e = &self->e;
	struct cf_mounted store;
	struct statfs st;
	int ret;

	ret = cf_backing_mount(&store, &btrfs);
	if (ret == 1)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	snprintf(e->dir, sizeof(e->dir), "%s", store.where);
	ASSERT_EQ(0, put_ballast(e, 256 * MB));
	/* It counts what is used with each commit. */
	sync();
	ASSERT_EQ(0, statfs(e->dir, &st));
	EXPECT_EQ(0, st.f_files);
	ASSERT_EQ(0, cf_cmd(e->dev, "brun 90%%"));
	ASSERT_EQ(0, cf_cmd(e->dev, "bcull 80%%"));
	ASSERT_EQ(0, cf_env_bind(e));
	EXPECT_EQ(1, culling(e, -1, true));
	ASSERT_EQ(0, cf_cmd(e->dev, "bcull 10%%"));
	ASSERT_EQ(0, cf_cmd(e->dev, "brun 20%%"));
	EXPECT_EQ(1, culling(e, -1, false));
	cf_env_exit(e);
	cf_backing_unmount(&store);
}

/*
 * A write that would leave less than the limit is refused, however small the blocks of
 * the file system are: one of 64 KiB with 32 KiB above it. Half of it is not.
 */
TEST_F(device, d50_small_blocks)
{
	struct cf_env *e = &self->e;
	struct cf_mounted store;
	static const struct cf_backing small = {
		.fstype = "ext4", .mb = 64, .mkfs = "mkfs.ext4 -q -F -b1024 -m0",
	};
	__u64 stop, above;
	struct statfs st;
	struct cf_reader r;
	struct cf_msg m;
	char path[160];
	int fd, ballast, ret;

	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	ret = cf_backing_mount(&store, &small);
	if (ret > 0)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	snprintf(e->dir, sizeof(e->dir), "%s", store.where);
	ASSERT_EQ(0, cf_cmd(e->dev, "brun 60%%"));
	ASSERT_EQ(0, cf_cmd(e->dev, "bcull 55%%"));
	ASSERT_EQ(0, cf_cmd(e->dev, "bstop 50%%"));
	ASSERT_EQ(0, cf_env_bind(e));
	ASSERT_EQ(0, cf_env_mount(e));
	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	/* So that no block for the map of extents is needed later. */
	ASSERT_EQ(65536, cf_fill(fd, 1, 0, 65536, MB));

	snprintf(path, sizeof(path), "%s/ballast", e->dir);
	ballast = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, ballast);
	ASSERT_EQ(0, statfs(e->dir, &st));
	EXPECT_EQ(1024, st.f_bsize);
	stop = st.f_blocks / 100 * 50;
	ASSERT_LT(stop + 64, st.f_bavail);
	ASSERT_EQ(0, fallocate(ballast, 0, 0, (off_t)(st.f_bavail - stop - 32) * 1024));
	ASSERT_EQ(0, statfs(e->dir, &st));
	above = (st.f_bavail - stop) * 1024;
	ASSERT_LE(30 * KB, above);
	ASSERT_GE(34 * KB, above);
	/* What was granted before counts no more. */
	ASSERT_EQ(0, cf_cmd(e->dev, "bstop 50%%"));

	EXPECT_EQ(-ENOBUFS, cf_fill(fd, 1, 65536, 65536, MB));
	EXPECT_EQ(16384, cf_fill(fd, 1, 65536, 16384, MB));
	EXPECT_EQ(-ENOBUFS, cf_fill(fd, 1, 65536 + 16384, 32768, MB));
	ASSERT_EQ(0, statfs(e->dir, &st));
	EXPECT_LE(stop, st.f_bavail);
	EXPECT_EQ(65536 + 16384, lseek(fd, 0, SEEK_HOLE));
	close(ballast);
	close(fd);
	ASSERT_LE(0, cf_env_umount(e, PROMPT));
	close(e->dev);
	e->dev = -1;
	cf_backing_unmount(&store);
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

/* Whatever else is in the directory of the cache: until @left files can be made. */
static int leave_files(struct cf_env *e, unsigned long long left)
{
	char path[160];
	struct statfs st;
	int fd;

	for (int i = 0; !statfs(e->dir, &st) && st.f_ffree > left; i++) {
		snprintf(path, sizeof(path), "%s/ballast%d", e->dir, i);
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd < 0)
			return -errno;
		close(fd);
	}
	return st.f_ffree == left ? 0 : -ERANGE;
}

/* A name of which the file is in the same directory as that of "file". */
static void find_neighbour(struct cf_env *e, char name[16])
{
	char file[512], other[512];

	cf_nf_path(e->dir, e->volume, "file", 4, file, sizeof(file));
	*strrchr(file, '/') = '\0';
	for (int i = 0; i < 100000; i++) {
		snprintf(name, 16, "%d", i);
		cf_nf_path(e->dir, e->volume, name, strlen(name), other, sizeof(other));
		*strrchr(other, '/') = '\0';
		if (!strcmp(file, other))
			return;
	}
	*name = '\0';
}

struct file {
	struct cf_task	task;
	int		nf, vol;
	char		name[16];
};

static int do_make(void *arg)
{
	const struct file *f = arg;

	return cf_nf_file(f->nf, f->vol, f->name, NULL, 0, MB, false);
}

/* The last file that there is space for is made once, though others are asked for. */
TEST_F(device, d50_last_file)
{
	struct file other = { .nf = cf_nf_open() };
	int nf = other.nf, c, trap, asking, ret;
	struct cf_env *e = &self->e;
	struct statfs st;
	char path[160];

	if (nf < 0)
		SKIP(return, CF_NO_NETFS);
	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	ASSERT_EQ(0, cf_env_store(e, 64 * MB, "ext4"));
	ASSERT_EQ(0, cf_env_bind_original(e));
	other.vol = cf_nf_volume(nf, e->volume, e->tag, NULL, 0);
	ASSERT_LT(0, other.vol);
	find_neighbour(e, other.name);
	ASSERT_NE('\0', *other.name);
	trap = cf_delay_arm("create", 0);
	ASSERT_LE(0, trap);
	c = cf_nf_cookie(nf, other.vol, "file", 4, NULL, 0, MB);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_use(nf, c, false));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));

	ASSERT_EQ(0, statfs(e->dir, &st));
	ASSERT_EQ(0, leave_files(e, st.f_files / 100 * 97 + 1));
	ASSERT_EQ(0, cf_cmd(e->dev, "frun 99%%"));
	ASSERT_EQ(0, cf_cmd(e->dev, "fcull 98%%"));
	ASSERT_EQ(0, cf_cmd(e->dev, "fstop 97%%"));
	EXPECT_EQ(-ENOBUFS, do_make(&other));

	/* It is made between the two questions that another one needs an answer to. */
	asking = cf_delay_arm("space", 0);
	ASSERT_LE(0, asking);
	ASSERT_EQ(0, cf_task_start(&other.task, do_make, &other));
	ASSERT_LT(0, cf_delay_caught(asking, LONG));
	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_nf_wait(nf, c, CF_STATE(CF_ACTIVE), 0, 0, LONG, NULL));
	EXPECT_EQ(0, cf_delay_go(asking));
	ASSERT_EQ(0, cf_task_wait(&other.task, &ret, LONG));
	EXPECT_EQ(-ENOBUFS, ret);
	EXPECT_EQ(0, cf_nf_store(nf, c, 1, 0, 4096, MB));
	EXPECT_EQ(-ENOBUFS, do_make(&other));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));

	/* And it can be made as soon as there is space for one more. */
	snprintf(path, sizeof(path), "%s/ballast0", e->dir);
	ASSERT_EQ(0, unlink(path));
	c = do_make(&other);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	EXPECT_EQ(0, cf_nf_odd(nf));
	close(nf);
}

/* A network file system can write over what is there, which takes no space. */
TEST_F(device, written_over_below_stop)
{
	enum { SIZE = 16 * CF_GRANULE, HALF = SIZE / 2 };
	struct cf_env *e = &self->e;
	int nf = cf_nf_open(), vol, c;

	if (nf < 0)
		SKIP(return, CF_NO_NETFS);
	set_up(_metadata, e);
	ASSERT_EQ(0, cf_env_bind_original(e));
	vol = cf_nf_volume(nf, e->volume, e->tag, NULL, 0);
	ASSERT_LT(0, vol);
	c = cf_nf_file(nf, vol, "file", NULL, 0, SIZE, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_store(nf, c, 1, 0, HALF, SIZE));
	ASSERT_EQ(0, cf_nf_note_release(nf, c));
	ASSERT_EQ(0, cf_nf_check(nf, c, 1, 0, HALF, SIZE));

	ASSERT_EQ(0, cf_cmd(e->dev, "brun 97%%"));
	ASSERT_EQ(0, cf_cmd(e->dev, "bcull 96%%"));
	ASSERT_EQ(0, cf_cmd(e->dev, "bstop 95%%"));
	EXPECT_EQ(0, cf_nf_store(nf, c, 2, 0, HALF / 2, SIZE));
	EXPECT_EQ(-ENOBUFS, cf_nf_store(nf, c, 2, HALF, HALF, SIZE));
	/* Not even in part. */
	EXPECT_EQ(-ENOBUFS, cf_nf_store(nf, c, 2, HALF - CF_GRANULE, 2 * CF_GRANULE, SIZE));
	EXPECT_EQ(0, cf_nf_check(nf, c, 2, 0, HALF / 2, SIZE));
	EXPECT_EQ(0, cf_nf_check(nf, c, 1, HALF / 2, HALF / 2 - CF_GRANULE, SIZE));
	EXPECT_EQ(0, cf_nf_absent(nf, c, HALF - CF_GRANULE, HALF + CF_GRANULE, SIZE));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	EXPECT_EQ(0, cf_nf_odd(nf));
	close(nf);
}

TEST_HARNESS_MAIN
