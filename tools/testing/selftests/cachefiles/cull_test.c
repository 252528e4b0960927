// SPDX-License-Identifier: GPL-2.0-only
/*
 * cull removes what is not in use and nothing else, inuse tells which is which,
 * and neither leaves a mark when it fails.
 */
#include "harness.h"

#include <dirent.h>

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

static void close_all(struct cf_env *e)
{
	struct cf_msg m;

	while (cf_next(e->dev, &m, 100) > 0)
		if (m.hdr.opcode == CACHEFILES_OP_CLOSE)
			close(cf_close(&m)->fd);
}

static void make_file(struct __test_metadata *_metadata, struct cf_env *e, struct found *f)
{
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &r, "file", 8192, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(8192, cf_fill(fd, 1, 0, 8192, 8192));
	ASSERT_LE(0, cf_env_umount(e, PROMPT));
	close_all(e);
	ASSERT_EQ(0, find_file(e, f));
	ASSERT_EQ(0, chdir(f->dir));
}

TEST_F(ondemand, file)
{
	struct cf_env *e = &self->e;
	struct cf_reader r;
	struct found f;
	struct cf_msg m;

	make_file(_metadata, e, &f);
	EXPECT_EQ(0, cf_cmd(e->dev, "inuse %s", f.name));

	/* In use while it is open. */
	ASSERT_EQ(0, cf_env_mount(e));
	ASSERT_LE(0, open_object(e, &r, "file", 8192, &m));
	EXPECT_EQ(8192, read_here(e, "file", 1, 0, 8192));
	EXPECT_EQ(-EBUSY, cf_cmd(e->dev, "inuse %s", f.name));
	EXPECT_EQ(-EBUSY, cf_cmd(e->dev, "cull %s", f.name));
	EXPECT_EQ(0, access(f.name, F_OK));
	EXPECT_EQ(8192, read_here(e, "file", 1, 0, 8192));
	ASSERT_LE(0, cf_env_umount(e, PROMPT));
	close_all(e);

	EXPECT_EQ(0, cf_cmd(e->dev, "inuse %s", f.name));
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
	struct found f;

	make_file(_metadata, e, &f);
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(-EINVAL, cf_cmd(e->dev, "%s a/b", cmds[i]));
		EXPECT_EQ(-EINVAL, cf_cmd(e->dev, "%s /", cmds[i]));
		EXPECT_GT(0, cf_cmd(e->dev, "%s", cmds[i]));
		EXPECT_GT(0, cf_cmd(e->dev, "%s .", cmds[i]));
		EXPECT_GT(0, cf_cmd(e->dev, "%s ..", cmds[i]));
		EXPECT_EQ(-ESTALE, cf_cmd(e->dev, "%s nothing", cmds[i]));
		EXPECT_GT(0, cf_cmd(e->dev, "%s %0300d", cmds[i], 0));
	}
	EXPECT_EQ(0, cf_cmd(e->dev, "restore"));
	EXPECT_EQ(0, access(f.name, F_OK));
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
TEST_F(ondemand, directory)
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
	ASSERT_LE(0, cf_env_umount(e, PROMPT));
	close_all(e);
	EXPECT_EQ(0, cf_cmd(e->dev, "inuse %s", name));
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

TEST_HARNESS_MAIN
