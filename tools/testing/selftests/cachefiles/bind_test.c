// SPDX-License-Identifier: GPL-2.0-only
/*
 * bind checks its conditions, leaves nothing behind when it fails, and caches
 * conflict by tag or by directory and not otherwise.
 */
#include "harness.h"

#include <linux/capability.h>
#include <sys/syscall.h>

TEST_F(device, needs_dir)
{
	EXPECT_EQ(-EINVAL, cf_cmd(self->e.dev, "bind ondemand"));
	EXPECT_EQ(0, cf_env_bind(&self->e));
}

TEST_F(device, arguments)
{
	ASSERT_EQ(0, cf_cmd(self->e.dev, "dir /nowhere"));
	EXPECT_EQ(-EEXIST, cf_cmd(self->e.dev, "dir %s", self->e.dir));
	EXPECT_EQ(-EINVAL, cf_cmd(self->e.dev, "bind ondemand "));
	/* It was not understood, but tried. */
	EXPECT_EQ(0, cf_cmd(self->e.dev, "dir %s", self->e.dir));
	EXPECT_EQ(-EINVAL, cf_cmd(self->e.dev, "bind ondemand x"));
	EXPECT_EQ(-EINVAL, cf_cmd(self->e.dev, "bind Ondemand"));
	EXPECT_EQ(-EINVAL, cf_cmd(self->e.dev, "bind original"));
	EXPECT_EQ(0, cf_cmd(self->e.dev, "bind ondemand\n"));
	EXPECT_EQ(-EBUSY, cf_cmd(self->e.dev, "bind ondemand"));
}

/* The mode is what the bind that succeeded said, not one that failed. */
TEST_F(device, d57_failed_bind_leaves_nothing)
{
	char late[160];

	snprintf(late, sizeof(late), "%s/late", self->e.dir);
	ASSERT_EQ(0, cf_cmd(self->e.dev, "dir %s", late));
	EXPECT_EQ(-ENOENT, cf_cmd(self->e.dev, "bind ondemand"));
	EXPECT_EQ(-EOPNOTSUPP, cf_cmd(self->e.dev, "restore"));
	EXPECT_EQ(0, cf_cmd(self->e.dev, "tag %s", self->e.tag));
	ASSERT_EQ(0, mkdir(late, 0700));
	EXPECT_EQ(-EOPNOTSUPP, cf_cmd(self->e.dev, "restore"));
	EXPECT_EQ(0, cf_cmd(self->e.dev, "bind ondemand"));
	EXPECT_EQ(0, cf_cmd(self->e.dev, "restore"));
}

/* And so does a mode: the bind that follows decides, with another directory too. */
TEST_F(device, d57_mode_of_the_last_bind)
{
	static const char *const modes[] = { "bind ondemand", "bind" };
	struct cf_env *e = &self->e;
	struct cf_statistics st;
	struct cf_msg m;
	char late[160];

	for (int i = 0; i < 2; i++) {
		snprintf(late, sizeof(late), "%s/late%d", e->dir, i);
		ASSERT_EQ(0, cf_cmd(e->dev, "dir %s", late));
		ASSERT_EQ(0, cf_cmd(e->dev, "tag %s", e->tag));
		EXPECT_EQ(-ENOENT, cf_cmd(e->dev, "%s", modes[i]));
		EXPECT_EQ(0, cf_read(e->dev, &m));
		ASSERT_EQ(0, mkdir(late, 0700));
		if (i) {
			ASSERT_EQ(0, cf_cmd(e->dev, "dir %s", e->dir));
		}
		EXPECT_EQ(0, cf_cmd(e->dev, "%s", modes[!i]));
		/* Only in original mode it has statistics to tell. */
		EXPECT_EQ(i, !!cf_statistics(e->dev, &st)) {
			TH_LOG("\"%s\" after \"%s\" that failed", modes[!i], modes[i]);
		}
		EXPECT_EQ(i ? 0 : -EOPNOTSUPP, cf_cmd(e->dev, "restore"));
		close(e->dev);
		e->dev = cf_device();
		ASSERT_LE(0, e->dev);
	}
}

#define OWN_CONTEXT "/proc/self/attr/current"

/* A context is checked when it is given; one that was refused is not there for bind. */
TEST_F(device, d56_context_is_checked_at_once)
{
	char own[256];

	/* Security modules that have no contexts check none. */
	if (!access(OWN_CONTEXT, F_OK) && cf_read_file(OWN_CONTEXT, own, sizeof(own)) <= 0)
		SKIP(return, "no security module with contexts (SELinux, Smack, AppArmor)");
	EXPECT_GT(0, cf_cmd(self->e.dev, "secctx no:such:context:here"));
	EXPECT_GT(0, cf_cmd(self->e.dev, "secctx no:such:context:here"));
	EXPECT_EQ(0, cf_env_bind(&self->e));
}

TEST_F(device, dir_is_no_directory)
{
	char path[160];
	int fd;

	snprintf(path, sizeof(path), "%s/file", self->e.dir);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	close(fd);
	ASSERT_EQ(0, cf_cmd(self->e.dev, "dir %s", path));
	EXPECT_GT(0, cf_cmd(self->e.dev, "bind ondemand"));
	EXPECT_EQ(-EOPNOTSUPP, cf_cmd(self->e.dev, "restore"));
}

TEST_F(device, dir_is_relative_to_the_binder)
{
	char path[160];

	ASSERT_EQ(0, chdir(CF_STORE));
	ASSERT_EQ(0, cf_cmd(self->e.dev, "dir %s", strrchr(self->e.dir, '/') + 1));
	ASSERT_EQ(0, cf_cmd(self->e.dev, "bind ondemand"));
	snprintf(path, sizeof(path), "%s/cache", self->e.dir);
	EXPECT_EQ(0, access(path, F_OK));
	snprintf(path, sizeof(path), "%s/graveyard", self->e.dir);
	EXPECT_EQ(0, access(path, F_OK));
	ASSERT_EQ(0, chdir("/"));
}

/* /proc keeps neither files nor their attributes. */
TEST_F(device, unsuitable_file_system)
{
	ASSERT_EQ(0, cf_cmd(self->e.dev, "dir /proc"));
	EXPECT_EQ(-EOPNOTSUPP, cf_cmd(self->e.dev, "bind ondemand"));
	EXPECT_EQ(-EOPNOTSUPP, cf_cmd(self->e.dev, "bind"));
	EXPECT_EQ(-EOPNOTSUPP, cf_cmd(self->e.dev, "restore"));
}

TEST_F(device, read_only_mount)
{
	ASSERT_EQ(0, mount(CF_STORE, self->e.mnt, NULL, MS_BIND, NULL));
	ASSERT_EQ(0, mount(NULL, self->e.mnt, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL));
	ASSERT_EQ(0, cf_cmd(self->e.dev, "dir %s/c%d", self->e.mnt, getpid()));
	EXPECT_EQ(-EROFS, cf_cmd(self->e.dev, "bind ondemand"));
	EXPECT_EQ(0, umount2(self->e.mnt, 0));
}

TEST_F(cache, conflicts)
{
	char other[160];
	int dev = cf_device();

	ASSERT_LE(0, dev);
	snprintf(other, sizeof(other), "%s-other", self->e.dir);
	ASSERT_EQ(0, mkdir(other, 0700));

	/* The same tag, another directory. */
	EXPECT_EQ(-EBUSY, cf_bind(dev, other, self->e.tag));
	close(dev);

	/* Another tag, the same directory. */
	dev = cf_device();
	ASSERT_LE(0, dev);
	EXPECT_EQ(-EBUSY, cf_bind(dev, self->e.dir, "another"));
	close(dev);

	/* Neither in common: both live. */
	dev = cf_device();
	ASSERT_LE(0, dev);
	EXPECT_EQ(0, cf_bind(dev, other, "another"));
	EXPECT_EQ(1, cf_idle(dev));
	EXPECT_EQ(1, cf_idle(self->e.dev));
	close(dev);

	/* The end of one is not the end of the other. */
	EXPECT_EQ(0, cf_cmd(self->e.dev, "restore"));
}

/* A bind that fails early has nothing to let go of, whatever the one before it had got. */
TEST_F(cache, late_and_early_failure)
{
	int dev = cf_device();
	char other[160];

	ASSERT_LE(0, dev);
	snprintf(other, sizeof(other), "%s-other", self->e.dir);
	ASSERT_EQ(0, cf_cmd(dev, "tag another"));
	for (int i = 0; i < 10; i++) {
		ASSERT_EQ(0, cf_cmd(dev, "dir %s", self->e.dir));
		EXPECT_EQ(-EBUSY, cf_cmd(dev, "bind ondemand"));
		ASSERT_EQ(0, cf_cmd(dev, "dir %s", other));
		EXPECT_EQ(-ENOENT, cf_cmd(dev, "bind ondemand"));
	}
	ASSERT_EQ(0, mkdir(other, 0700));
	EXPECT_EQ(0, cf_cmd(dev, "bind ondemand"));
	close(dev);
	EXPECT_EQ(0, cf_cmd(self->e.dev, "restore"));
}

TEST_F(cache, rebind_at_once)
{
	for (int i = 0; i < 5; i++) {
		ASSERT_EQ(0, cf_env_rebind(&self->e));
	}
}

TEST_F(device, default_tag)
{
	int dev = cf_device();
	char other[160];

	ASSERT_LE(0, dev);
	snprintf(other, sizeof(other), "%s-other", self->e.dir);
	ASSERT_EQ(0, mkdir(other, 0700));
	ASSERT_EQ(0, cf_bind(self->e.dev, self->e.dir, NULL));
	EXPECT_EQ(-EBUSY, cf_bind(dev, other, "CacheFiles"));
	close(dev);
}

/* Other descriptors of the same open keep the cache; the last one ends it. */
TEST_F(cache, duplicates_share_the_open)
{
	int dup_fd = fcntl(self->e.dev, F_DUPFD_CLOEXEC, 3);
	int dev = cf_device();

	ASSERT_LE(0, dup_fd);
	ASSERT_LE(0, dev);
	close(self->e.dev);
	self->e.dev = dup_fd;
	EXPECT_EQ(0, cf_cmd(dup_fd, "restore"));
	EXPECT_EQ(-EBUSY, cf_bind(dev, self->e.dir, "another"));
	close(dev);
}

static int open_unprivileged(void *arg)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2];
	int fd;

	(void)arg;
	if (syscall(SYS_capget, &h, d))
		return errno;
	d[0].effective &= ~(1U << CAP_SYS_ADMIN);
	if (syscall(SYS_capset, &h, d))
		return errno;
	fd = open(CF_DEVICE, O_RDWR);
	return fd < 0 ? errno : 0;
}

TEST_F(device, needs_privilege)
{
	struct cf_result res;
	struct cf_reader r;

	ASSERT_EQ(0, cf_child(&r, open_unprivileged, NULL));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(EPERM, res.err);
}

TEST_F(device, access_mode)
{
	char byte;
	int fd = open(CF_DEVICE, O_WRONLY | O_CLOEXEC);

	ASSERT_LE(0, fd);
	EXPECT_EQ(-1, read(fd, &byte, 1));
	EXPECT_EQ(EBADF, errno);
	close(fd);
	fd = open(CF_DEVICE, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EBADF, cf_cmd(fd, "debug 0"));
	close(fd);
}

TEST_HARNESS_MAIN
