// SPDX-License-Identifier: GPL-2.0-only
/*
 * cull removes what is not in use and nothing else, inuse tells which is which,
 * neither leaves a mark when it fails, and nobody is refused what is being culled.
 */
#include "harness.h"

#include <dirent.h>
#include <linux/fs.h>
#include <sched.h>
#include <sys/ioctl.h>

#include "lib/backing.h"
#include "lib/delay.h"
#include "lib/task.h"

struct found {
	char	dir[512];
	char	name[300];
};

static int find_one(const char *path, void *arg)
{
	struct found *f = arg;
	const char *slash = strrchr(path, '/');

	snprintf(f->dir, sizeof(f->dir), "%.*s", (int)(slash - path), path);
	snprintf(f->name, sizeof(f->name), "%s", slash + 1);
	return 0;
}

static int find_file(struct cf_env *e, struct found *f)
{
	char dir[160];

	snprintf(dir, sizeof(dir), "%s/cache", e->dir);
	return cf_tree_count(dir, find_one, f) == 1 ? 0 : -ENOENT;
}

/* Unmount, and close the one object's descriptor when its CLOSE comes. */
static int umount_and_close(struct cf_env *e)
{
	int ret = cf_env_umount(e, PROMPT);
	struct cf_msg m;

	if (ret < 0)
		return ret;
	ret = cf_expect(e->dev, &m, CACHEFILES_OP_CLOSE, LONG);
	if (!ret)
		close(cf_close(&m)->fd);
	return ret;
}

/* Workers let go of @name, in the working directory, after that: what inuse says then. */
static int until_unused(struct cf_env *e, const char *name)
{
	long long end = cf_now() + cf_ms(LONG);
	int ret;

	do {
		ret = cf_cmd(e->dev, "inuse %s", name);
	} while (ret == -EBUSY && cf_now() < end && !poll(NULL, 0, 10));
	return ret;
}

static void make_file(struct __test_metadata *_metadata, struct cf_env *e, struct found *f)
{
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &r, "file", 8192, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(8192, cf_fill(fd, 1, 0, 8192, 8192));
	ASSERT_EQ(0, umount_and_close(e));
	ASSERT_EQ(0, find_file(e, f));
	ASSERT_EQ(0, chdir(f->dir));
	ASSERT_EQ(0, until_unused(e, f->name));
}

TEST_F(ondemand, file)
{
	struct cf_env *e = &self->e;
	struct cf_reader r;
	struct found f;
	struct cf_msg m;

	make_file(_metadata, e, &f);

	/* In use while it is open. */
	ASSERT_EQ(0, cf_env_mount(e));
	ASSERT_LE(0, open_object(e, &r, "file", 8192, &m));
	EXPECT_EQ(8192, read_here(e, "file", 1, 0, 8192));
	EXPECT_EQ(-EBUSY, cf_cmd(e->dev, "inuse %s", f.name));
	EXPECT_EQ(-EBUSY, cf_cmd(e->dev, "cull %s", f.name));
	EXPECT_EQ(0, access(f.name, F_OK));
	EXPECT_EQ(8192, read_here(e, "file", 1, 0, 8192));
	ASSERT_EQ(0, umount_and_close(e));

	EXPECT_EQ(0, until_unused(e, f.name));
	EXPECT_EQ(0, cf_cmd(e->dev, "cull %s", f.name));
	EXPECT_EQ(-1, access(f.name, F_OK));
	EXPECT_EQ(-ESTALE, cf_cmd(e->dev, "cull %s", f.name));
	EXPECT_EQ(-ESTALE, cf_cmd(e->dev, "inuse %s", f.name));

	/* And it comes again as if it had never been. */
	ASSERT_EQ(0, cf_env_mount(e));
	ASSERT_LE(0, open_object(e, &r, "file", 8192, &m));
	ASSERT_EQ(8192, cf_fill(cf_open_fd(&m), 2, 0, 8192, 8192));
	EXPECT_EQ(8192, read_here(e, "file", 2, 0, 8192));
	ASSERT_EQ(0, chdir("/"));
}

TEST_F(ondemand, names)
{
	static const char *const cmds[] = { "cull", "inuse" };
	struct cf_env *e = &self->e;
	int log = cf_log_open();
	struct found f;
	char line[200];

	ASSERT_LE(0, log);
	make_file(_metadata, e, &f);
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(-EINVAL, cf_cmd(e->dev, "%s a/b", cmds[i]));
		EXPECT_EQ(-EINVAL, cf_cmd(e->dev, "%s /", cmds[i]));
		/* What is no name of anything is not even tried. */
		cf_log_lines(log, "error", line, sizeof(line));
		EXPECT_EQ(-EIO, cf_cmd(e->dev, "%s", cmds[i]));
		EXPECT_EQ(-EIO, cf_cmd(e->dev, "%s .", cmds[i]));
		EXPECT_EQ(-EIO, cf_cmd(e->dev, "%s ..", cmds[i]));
		EXPECT_EQ(0, cf_log_lines(log, "error", line, sizeof(line)));
		EXPECT_EQ(-ESTALE, cf_cmd(e->dev, "%s nothing", cmds[i]));
		EXPECT_GT(0, cf_cmd(e->dev, "%s %0300d", cmds[i], 0));
	}
	close(log);
	EXPECT_EQ(0, cf_cmd(e->dev, "restore"));
	EXPECT_EQ(0, access(f.name, F_OK));
	ASSERT_EQ(0, chdir("/"));
}

/* An I/O error is the end of the cache, and not of the file. */
TEST_F(ondemand, io_error)
{
	struct cf_env *e = &self->e;
	struct found f;

	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	make_file(_metadata, e, &f);
	ASSERT_EQ(0, cf_error_injection(2));
	EXPECT_EQ(-EIO, cf_cmd(e->dev, "cull %s", f.name));
	ASSERT_EQ(0, cf_error_injection(0));
	EXPECT_EQ(-EIO, cf_cmd(e->dev, "debug 0"));
	EXPECT_EQ(0, access(f.name, F_OK));

	ASSERT_EQ(0, cf_env_rebind(e));
	EXPECT_EQ(0, cf_cmd(e->dev, "inuse %s", f.name));
	EXPECT_EQ(0, cf_cmd(e->dev, "cull %s", f.name));
	EXPECT_EQ(-1, access(f.name, F_OK));
	ASSERT_EQ(0, chdir("/"));
}

/* The working directory has to be inside the cache. */
TEST_F(ondemand, outside)
{
	struct cf_env *e = &self->e;
	char path[160];
	int fd;

	snprintf(path, sizeof(path), "%s-victim", e->dir);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	close(fd);
	ASSERT_EQ(0, chdir(CF_STORE));
	EXPECT_EQ(-EINVAL, cf_cmd(e->dev, "cull %s", strrchr(path, '/') + 1));
	EXPECT_EQ(-EINVAL, cf_cmd(e->dev, "inuse %s", strrchr(path, '/') + 1));
	EXPECT_EQ(0, access(path, F_OK));
	ASSERT_EQ(0, chdir("/"));
	EXPECT_EQ(-EINVAL, cf_cmd(e->dev, "cull tmp"));
	ASSERT_EQ(0, chdir(e->dir));
	EXPECT_EQ(-EINVAL, cf_cmd(e->dev, "cull graveyard"));
	EXPECT_EQ(-EINVAL, cf_cmd(e->dev, "cull cache"));
	ASSERT_EQ(0, chdir("/"));
}

/* A volume's directory: busy while mounted, buried when culled. */
TEST_F(ondemand, d70_directory)
{
	struct cf_env *e = &self->e;
	char path[160], name[300] = "";
	struct dirent *de;
	struct cf_reader r;
	int buried = 0;
	struct found f;
	struct cf_msg m;
	DIR *d;

	make_file(_metadata, e, &f);
	snprintf(path, sizeof(path), "%s/cache", e->dir);
	ASSERT_EQ(0, chdir(path));
	d = opendir(".");
	ASSERT_NE(NULL, d);
	while ((de = readdir(d)))
		if (de->d_name[0] == 'I')
			snprintf(name, sizeof(name), "%s", de->d_name);
	closedir(d);
	ASSERT_NE('\0', name[0]);

	ASSERT_EQ(0, cf_env_mount(e));
	/* Volumes come by and by; one with a file in use is there. */
	ASSERT_LE(0, open_object(e, &r, "file", 8192, &m));
	EXPECT_EQ(-EBUSY, cf_cmd(e->dev, "inuse %s", name));
	EXPECT_EQ(-EBUSY, cf_cmd(e->dev, "cull %s", name));
	ASSERT_EQ(0, umount_and_close(e));
	EXPECT_EQ(0, until_unused(e, name));
	EXPECT_EQ(0, cf_cmd(e->dev, "cull %s", name));
	EXPECT_EQ(-1, access(name, F_OK));
	d = opendir("../graveyard");
	ASSERT_NE(NULL, d);
	while ((de = readdir(d)))
		buried += de->d_name[0] != '.';
	closedir(d);
	EXPECT_EQ(1, buried);
	ASSERT_EQ(0, chdir("/"));
}

/* Many of them, and none of what they consisted of is left in use. */
TEST_F(device, d70_many_directories)
{
	struct cf_env *e = &self->e;
	char path[200];

	ASSERT_EQ(0, cf_env_store(e, 320 * MB, backing_fs()));
	ASSERT_EQ(0, cf_env_bind(e));
	snprintf(path, sizeof(path), "%s/cache", e->dir);
	ASSERT_EQ(0, chdir(path));
	for (int i = 0; i < 50; i++) {
		snprintf(path, sizeof(path), "Istale%d", i);
		ASSERT_EQ(0, mkdir(path, 0700));
		EXPECT_EQ(0, cf_cmd(e->dev, "inuse %s", path));
		EXPECT_EQ(0, cf_cmd(e->dev, "cull %s", path));
		EXPECT_EQ(-1, access(path, F_OK));
		EXPECT_EQ(-ESTALE, cf_cmd(e->dev, "cull %s", path));
	}
	ASSERT_EQ(0, chdir("/"));
	close(e->dev);
	e->dev = -1;
	EXPECT_LE(0, cf_umount(e->dir, 0, LONG));
}

/* The graveyard has no room for another name: what is culled stays, and so does the cache. */
TEST_F(ondemand, d59_no_space)
{
	struct cf_env *e = &self->e;
	char path[160];

	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	snprintf(path, sizeof(path), "%s/cache", e->dir);
	ASSERT_EQ(0, chdir(path));
	ASSERT_EQ(0, mkdir("Istale", 0700));
	ASSERT_EQ(0, cf_error_injection(1));
	EXPECT_EQ(-EBUSY, cf_cmd(e->dev, "cull Istale"));
	ASSERT_EQ(0, cf_error_injection(0));
	EXPECT_EQ(0, cf_cmd(e->dev, "inuse Istale"));
	EXPECT_EQ(0, cf_cmd(e->dev, "cull Istale"));
	EXPECT_EQ(-1, access("Istale", F_OK));
	ASSERT_EQ(0, chdir("/"));
}

static int set_immutable(const char *name, bool on)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC), flags, ret = 0;

	if (fd < 0)
		return -errno;
	if (ioctl(fd, FS_IOC_GETFLAGS, &flags))
		ret = -errno;
	flags = on ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
	if (!ret && ioctl(fd, FS_IOC_SETFLAGS, &flags))
		ret = -errno;
	close(fd);
	return ret;
}

/* What must not be removed stays, and so does the cache; the log does not overflow. */
TEST_F(device, d59_immutable)
{
	static const char *const names[] = { "Ifile", "Idir" };
	struct cf_env *e = &self->e;
	int log = cf_log_open(), fd;
	char path[160], line[200];
	int lines;

	ASSERT_LE(0, log);
	ASSERT_EQ(0, cf_env_store(e, 320 * MB, backing_fs()));
	ASSERT_EQ(0, cf_env_bind(e));
	snprintf(path, sizeof(path), "%s/cache", e->dir);
	ASSERT_EQ(0, chdir(path));
	fd = open(names[0], O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	close(fd);
	ASSERT_EQ(0, mkdir(names[1], 0700));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, set_immutable(names[i], true));
		for (int j = 0; j < 50; j++)
			EXPECT_EQ(-EIO, cf_cmd(e->dev, "cull %s", names[i]));
		EXPECT_EQ(0, cf_cmd(e->dev, "debug 0"));
		EXPECT_EQ(0, cf_cmd(e->dev, "inuse %s", names[i]));
		EXPECT_EQ(0, access(names[i], F_OK));
	}
	lines = cf_log_lines(log, "error", line, sizeof(line));
	EXPECT_LE(0, lines);
	EXPECT_GT(50, lines);
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, set_immutable(names[i], false));
		EXPECT_EQ(0, cf_cmd(e->dev, "cull %s", names[i]));
		EXPECT_EQ(-1, access(names[i], F_OK));
	}
	close(log);
	ASSERT_EQ(0, chdir("/"));
	close(e->dev);
	e->dev = -1;
	EXPECT_LE(0, cf_umount(e->dir, 0, LONG));
}

struct culler {
	struct cf_task	task;
	struct cf_env	*e;
	struct found	*f;
};

/* A thread with a working directory of its own. */
static int do_cull(void *arg)
{
	struct culler *c = arg;

	if (unshare(CLONE_FS) || chdir(c->f->dir))
		return -errno;
	return cf_cmd(c->e->dev, "cull %s", c->f->name);
}

/*
 * It is the thread's working directory that counts, and after an unmount the only errno
 * is EBUSY, for a moment.
 */
TEST_F(ondemand, d59_after_an_unmount)
{
	struct cf_env *e = &self->e;
	long long end;
	int busy = 0;

	for (int i = 0; i < 20; i++) {
		struct culler c = { .e = e };
		struct found f;
		struct cf_reader r;
		struct cf_msg m;
		int fd, ret;

		fd = open_object(e, &r, "file", 8192, &m);
		ASSERT_LE(0, fd);
		ASSERT_EQ(8192, cf_fill(fd, 1, 0, 8192, 8192));
		ASSERT_EQ(0, find_file(e, &f));
		c.f = &f;
		ASSERT_LE(0, cf_env_umount(e, PROMPT));
		EXPECT_EQ(-EINVAL, cf_cmd(e->dev, "cull %s", f.name));
		end = cf_now() + cf_ms(LONG);
		do {
			ASSERT_EQ(0, cf_task_start(&c.task, do_cull, &c));
			ASSERT_EQ(0, cf_task_wait(&c.task, &ret, LONG));
			busy += ret == -EBUSY;
		} while (ret == -EBUSY && cf_now() < end);
		EXPECT_EQ(0, ret) {
			TH_LOG("%s", strerror(-ret));
		}
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_CLOSE, LONG));
		close(cf_close(&m)->fd);
		ASSERT_EQ(0, cf_env_mount(e));
	}
	TH_LOG("EBUSY %d times", busy);
}

/* The directory of a mounted volume is busy, whoever asks, and says so. */
TEST_F(ondemand, d59_busy_is_busy)
{
	struct cf_env *e = &self->e;
	struct cf_reader r;
	struct found f;
	struct cf_msg m;

	ASSERT_LE(0, open_object(e, &r, "file", 8192, &m));
	ASSERT_EQ(8192, cf_fill(cf_open_fd(&m), 1, 0, 8192, 8192));
	ASSERT_EQ(0, find_file(e, &f));
	ASSERT_EQ(0, chdir(f.dir));
	for (int i = 0; i < 5; i++) {
		EXPECT_EQ(-EBUSY, cf_cmd(e->dev, "cull %s", f.name));
		EXPECT_EQ(-EBUSY, cf_cmd(e->dev, "inuse %s", f.name));
		EXPECT_EQ(-EBUSY, cf_cmd(e->dev, "cull %s", f.name));
	}
	EXPECT_EQ(0, cf_cmd(e->dev, "debug 0"));
	EXPECT_EQ(8192, read_here(e, "file", 1, 0, 8192));
	ASSERT_EQ(0, chdir("/"));
}

/* So is what something is mounted on, and that is not the end of the cache. */
TEST_F(ondemand, d59_mount_point)
{
	struct cf_env *e = &self->e;
	struct found f;

	make_file(_metadata, e, &f);
	ASSERT_EQ(0, mount("/dev/null", f.name, NULL, MS_BIND, NULL));
	EXPECT_EQ(-EBUSY, cf_cmd(e->dev, "cull %s", f.name));
	EXPECT_EQ(0, cf_cmd(e->dev, "debug 0"));
	ASSERT_EQ(0, umount2(f.name, MNT_DETACH));
	EXPECT_EQ(0, cf_cmd(e->dev, "cull %s", f.name));
	ASSERT_EQ(0, chdir("/"));
}

/* Have @f culled in a thread, and stop that when it has its mark. */
static int start_cull(struct culler *c, struct cf_env *e, struct found *f)
{
	int trap = cf_delay_arm("bury", 0), ret;

	c->e = e;
	c->f = f;
	ret = cf_task_start(&c->task, do_cull, c);
	if (!ret)
		ret = cf_delay_caught(trap, LONG);
	return ret < 0 ? ret : trap;
}

struct answer {
	struct cf_task	task;
	struct cf_msg	m;
	int		dev;
};

static int do_copen(void *arg)
{
	struct answer *a = arg;

	return cf_copen(a->dev, a->m.hdr.msg_id, 8192);
}

/*
 * A file that is opened while it is culled is a new one. Its directory is in use, or who
 * opens it would wait for that first.
 */
TEST_F(ondemand, d59_file_being_culled)
{
	struct cf_env *e = &self->e;
	struct answer a = { .dev = e->dev };
	int culling, opening, ret;
	struct cf_result res;
	struct culler c = { };
	struct cf_reader r;
	struct found f;

	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	ASSERT_LE(0, open_object(e, &r, "file", 8192, &a.m));
	ASSERT_EQ(8192, cf_fill(cf_open_fd(&a.m), 1, 0, 8192, 8192));
	ASSERT_EQ(0, drop_object(e, &a.m));
	close(cf_close(&a.m)->fd);
	ASSERT_EQ(0, find_file(e, &f));
	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(0, cf_expect(e->dev, &a.m, CACHEFILES_OP_OPEN, LONG));

	culling = start_cull(&c, e, &f);
	ASSERT_LE(0, culling);
	opening = cf_delay_arm("marked", 0);
	ASSERT_LE(0, opening);
	ASSERT_EQ(0, cf_task_start(&a.task, do_copen, &a));
	ASSERT_LT(0, cf_delay_caught(opening, LONG));
	EXPECT_EQ(0, cf_delay_go(opening));
	/* Time enough to be refused. */
	EXPECT_EQ(-ETIMEDOUT, cf_task_wait(&a.task, &ret, BRIEF));
	EXPECT_EQ(0, cf_delay_go(culling));
	ASSERT_EQ(0, cf_task_wait(&c.task, &ret, PROMPT));
	EXPECT_EQ(0, ret);
	ASSERT_EQ(0, cf_task_wait(&a.task, &ret, PROMPT));
	EXPECT_EQ(0, ret);

	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(0, read_served(e, "file", cf_open_fd(&a.m), 2, 0, 4096, 8192));
}

/* The same of a volume that is mounted while its directory is culled. */
TEST_F(ondemand, d59_directory_being_culled)
{
	struct cf_env *e = &self->e;
	struct culler c = { };
	struct found f, dir;
	int culling, opening, ret;
	struct cf_reader r;
	struct cf_msg m;

	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	make_file(_metadata, e, &f);
	snprintf(dir.dir, sizeof(dir.dir), "%s/cache", e->dir);
	snprintf(dir.name, sizeof(dir.name), "I%s", e->volume);
	ASSERT_EQ(0, chdir(dir.dir));
	ASSERT_EQ(0, until_unused(e, dir.name));
	ASSERT_EQ(0, chdir("/"));

	culling = start_cull(&c, e, &dir);
	ASSERT_LE(0, culling);
	opening = cf_delay_arm("marked", 0);
	ASSERT_LE(0, opening);
	ASSERT_EQ(0, cf_env_mount(e));
	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_LT(0, cf_delay_caught(opening, LONG));
	EXPECT_EQ(0, cf_delay_go(opening));
	EXPECT_EQ(-ETIMEDOUT, cf_next(e->dev, &m, BRIEF));
	EXPECT_EQ(0, cf_delay_go(culling));
	ASSERT_EQ(0, cf_task_wait(&c.task, &ret, PROMPT));
	EXPECT_EQ(0, ret);

	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	EXPECT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, 8192));
	EXPECT_EQ(0, read_served(e, "file", cf_open_fd(&m), 2, 0, 4096, 8192));
}

/* Remove what is in @dir, which are empty directories: how many, or a negative errno. */
static int empty(const char *dir)
{
	struct dirent *de;
	DIR *d = opendir(dir);
	int ret = 0;

	if (!d)
		return -errno;
	while (ret >= 0 && (de = readdir(d))) {
		if (*de->d_name != '.')
			ret = unlinkat(dirfd(d), de->d_name, AT_REMOVEDIR) ? -errno : ret + 1;
	}
	closedir(d);
	return ret;
}

/* What is in the graveyard can be removed at any time: cachefilesd ends if it can't. */
TEST_F(original, d59_graveyard_is_not_busy)
{
	struct cf_env *e = &self->e;
	char path[160];
	int vol, trap;

	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	vol = cf_nf_volume(self->nf, "stale", e->tag, "version1", 8);
	ASSERT_LT(0, vol);
	EXPECT_EQ(1, cf_nf_volume_attached(self->nf, vol));
	ASSERT_EQ(0, cf_nf_volume_end(self->nf, vol, NULL, 0, false));
	trap = cf_delay_arm("buried", 0);
	ASSERT_LE(0, trap);
	vol = cf_nf_volume(self->nf, "stale", e->tag, "version2", 8);
	ASSERT_LT(0, vol);
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	snprintf(path, sizeof(path), "%s/graveyard", e->dir);
	EXPECT_EQ(1, empty(path));
	EXPECT_EQ(0, cf_delay_go(trap));
	EXPECT_EQ(1, cf_nf_volume_attached(self->nf, vol));
	ASSERT_EQ(0, cf_nf_volume_end(self->nf, vol, NULL, 0, false));
}

TEST_HARNESS_MAIN
