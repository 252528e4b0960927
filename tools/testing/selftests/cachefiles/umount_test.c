// SPDX-License-Identifier: GPL-2.0-only
/*
 * With a daemon that holds the device and never answers, whoever is killed is
 * gone, and every unmount is done, within a second.
 */
#include "harness.h"

#define READERS	8

static void take_all(struct cf_env *e)
{
	struct cf_msg m;

	while (cf_next(e->dev, &m, BRIEF) > 0)
		;
}

static void kill_and_umount(struct __test_metadata *_metadata, struct cf_env *e,
			    bool deliver)
{
	struct cf_reader r[READERS], o;
	struct cf_msg m;
	int ret;

	ASSERT_LE(0, open_object(e, &o, "file", 64 * MB, &m));
	for (int i = 0; i < READERS; i++) {
		ASSERT_EQ(0, start_stream(e, &r[i], "file", 1, i * 8 * MB, 8 * MB));
	}
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	if (deliver)
		take_all(e);
	else
		cf_poll(r[0].pipe, POLLIN, cf_ms(BRIEF));
	for (int i = 0; i < READERS; i++)
		kill(r[i].pid, SIGKILL);
	for (int i = 0; i < READERS; i++) {
		EXPECT_LE(0, cf_reader_kill(&r[i], PROMPT));
	}
	ret = cf_env_umount(e, PROMPT);
	EXPECT_LE(0, ret) {
		TH_LOG("unmount: %d", ret);
	}
}

TEST_F(ondemand, readers_killed_requests_queued)
{
	kill_and_umount(_metadata, &self->e, false);
}

TEST_F(ondemand, readers_killed_requests_sent)
{
	kill_and_umount(_metadata, &self->e, true);
}

/* That second itself. A machine that stalls may do so twice. */
TEST_F(ondemand, within_a_second)
{
	struct cf_env *e = &self->e;
	int killed, unmounted;
	struct cf_reader r;
	struct cf_msg m;

	for (int i = 0; i < 3; i++) {
		ASSERT_LE(0, open_object(e, &r, "file", MB, &m));
		ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
		killed = cf_reader_kill(&r, PROMPT);
		ASSERT_LE(0, killed);
		unmounted = cf_env_umount(e, PROMPT);
		ASSERT_LE(0, unmounted);
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_CLOSE, LONG));
		close(cf_close(&m)->fd);
		ASSERT_EQ(0, cf_env_mount(e));
		if (killed <= cf_ms(1000) && unmounted <= cf_ms(1000))
			break;
	}
	EXPECT_GE(cf_ms(1000), killed);
	EXPECT_GE(cf_ms(1000), unmounted);
}

/* The same with the object's descriptor closed, so that it waits for a reopen. */
TEST_F(ondemand, readers_killed_while_reopening)
{
	struct cf_env *e = &self->e;
	struct cf_reader r, o;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &o, "file", MB, &m);
	ASSERT_LE(0, fd);
	close(fd);
	ASSERT_EQ(0, start_stream(e, &r, "file", 1, 0, MB));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	EXPECT_LE(0, cf_reader_kill(&r, PROMPT));
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
}

TEST_F(ondemand, d34_lookup_killed)
{
	struct cf_env *e = &self->e;
	struct cf_reader r[READERS];
	struct cf_msg m;
	char name[16];

	for (int i = 0; i < READERS; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		ASSERT_EQ(0, start_stat(e, &r[i], name));
		if (i % 2) {
			ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
		}
	}
	for (int i = 0; i < READERS; i++) {
		EXPECT_LE(0, cf_reader_kill(&r[i], PROMPT));
	}
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
}

/* Live readers: the mount is busy; forced, they get an error and it goes. */
TEST_F(ondemand, forced)
{
	struct cf_env *e = &self->e;
	struct cf_reader r, o;
	struct cf_result res;
	struct cf_msg m;
	long long end;
	int ret;

	ASSERT_LE(0, open_object(e, &o, "file", MB, &m));
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	EXPECT_EQ(-EBUSY, cf_umount(e->mnt, 0, PROMPT));
	EXPECT_EQ(0, cf_reader_done(&r));
	for (end = cf_now() + cf_ms(LONG); cf_now() < end && !cf_reader_done(&r);) {
		/* As soon as the reader has gone it may succeed, and then there is no mount. */
		ret = cf_umount(e->mnt, MNT_FORCE, PROMPT);
		EXPECT_NE(-ETIMEDOUT, ret);
		cf_poll(r.pipe, POLLIN, 100);
	}
	ASSERT_EQ(0, cf_reader_wait(&r, &res, PROMPT));
	EXPECT_NE(0, res.err);
	ret = cf_umount(e->mnt, MNT_FORCE, PROMPT);
	EXPECT_NE(-ETIMEDOUT, ret);
	e->mounted = ret == -EBUSY;
	if (e->mounted) {
		EXPECT_LE(0, cf_env_umount(e, PROMPT));
	}
}

/* What a forced unmount ends, the daemon is not told of any more, while others go on. */
TEST_F(ondemand, forced_before_it_is_told)
{
	struct cf_env *e = &self->e;
	struct cf_reader r, o;
	struct cf_result res;
	char path[160];
	struct cf_msg m;
	long long end;
	int fd, held;

	fd = open_object(e, &o, "file", MB, &m);
	ASSERT_LE(0, fd);
	snprintf(path, sizeof(path), "%s/file", e->mnt);
	held = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, held);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	for (end = cf_now() + cf_ms(LONG); cf_now() < end && !cf_reader_done(&r);) {
		EXPECT_EQ(-EBUSY, cf_umount(e->mnt, MNT_FORCE, PROMPT));
		cf_poll(r.pipe, POLLIN, 100);
	}
	ASSERT_EQ(0, cf_reader_wait(&r, &res, PROMPT));
	EXPECT_NE(0, res.err);
	EXPECT_EQ(0, cf_poll(e->dev, POLLIN, 0));
	EXPECT_EQ(1, cf_idle(e->dev));

	ASSERT_EQ(0, read_served(e, "file", fd, 1, 0, 4096, MB));
	close(held);
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
}

/* Detached at once; what is left of it goes with the last reader. */
TEST_F(ondemand, lazy)
{
	struct cf_env *e = &self->e;
	struct cf_reader r, o;
	struct cf_msg m;

	ASSERT_LE(0, open_object(e, &o, "file", MB, &m));
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	EXPECT_LE(0, cf_umount(e->mnt, MNT_DETACH, PROMPT));
	e->mounted = false;
	EXPECT_LE(0, cf_reader_kill(&r, PROMPT));
	EXPECT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_CLOSE, LONG));
}

struct mount_args {
	char	image[160];
	char	where[160];
};

static int mount_erofs(void *arg)
{
	struct mount_args *a = arg;

	return mount(a->image, a->where, "erofs", MS_RDONLY, NULL) ? errno : 0;
}

static void mount_killed(struct __test_metadata *_metadata, struct cf_env *e,
			 bool open_answered, bool deliver)
{
	struct mount_args a;
	struct cf_reader r;
	struct cf_msg m;

	if (!cf_have_fs("erofs"))
		SKIP(return, "no erofs");
	/* Before it reads the file, it looks it up. */
	if (open_answered && !cf_have_erofs_on_files())
		SKIP(return, "no CONFIG_EROFS_FS_BACKED_BY_FILE");
	snprintf(a.image, sizeof(a.image), "%s/image", e->mnt);
	snprintf(a.where, sizeof(a.where), "%s-erofs", e->mnt);
	ASSERT_EQ(0, mkdir(a.where, 0755));
	if (open_answered) {
		ASSERT_LE(0, open_object(e, &r, "image", MB, &m));
	}
	ASSERT_EQ(0, cf_child(&r, mount_erofs, &a));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	if (deliver) {
		ASSERT_LT(0, cf_next(e->dev, &m, LONG));
		EXPECT_EQ(open_answered ? CACHEFILES_OP_READ : CACHEFILES_OP_OPEN,
			  m.hdr.opcode);
	}
	EXPECT_EQ(0, cf_reader_done(&r));
	EXPECT_LE(0, cf_reader_kill(&r, PROMPT));
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
	rmdir(a.where);
}

TEST_F(ondemand, d34_mount_killed_open_queued)
{
	mount_killed(_metadata, &self->e, false, false);
}

TEST_F(ondemand, d34_mount_killed_open_sent)
{
	mount_killed(_metadata, &self->e, false, true);
}

TEST_F(ondemand, d34_mount_killed_read_queued)
{
	mount_killed(_metadata, &self->e, true, false);
}

TEST_F(ondemand, d34_mount_killed_read_sent)
{
	mount_killed(_metadata, &self->e, true, true);
}

/* The daemon itself mounts, and is killed with the request unanswered. */
static int daemon_that_mounts(void *arg)
{
	mount_erofs(arg);
	return 0;
}

TEST_F(ondemand, d34_mounting_daemon_killed)
{
	struct cf_env *e = &self->e;
	struct mount_args a;
	struct cf_reader r;

	if (!cf_have_fs("erofs"))
		SKIP(return, "no erofs");
	snprintf(a.image, sizeof(a.image), "%s/image", e->mnt);
	snprintf(a.where, sizeof(a.where), "%s-erofs", e->mnt);
	ASSERT_EQ(0, mkdir(a.where, 0755));
	ASSERT_EQ(0, cf_child(&r, daemon_that_mounts, &a));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	/* Ours was the last descriptor of the device: the mount(2) gets its error. */
	close(e->dev);
	e->dev = -1;
	EXPECT_LE(0, cf_reader_kill(&r, PROMPT));
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
	rmdir(a.where);
}

TEST_HARNESS_MAIN
