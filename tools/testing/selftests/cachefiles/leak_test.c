// SPDX-License-Identifier: GPL-2.0-only
/*
 * What fails leaves nothing behind: no memory, no file in use, no reference that keeps the
 * backing file system mounted, and no address in the kernel log.
 */
#include "harness.h"

#include "lib/backing.h"

/*
 * Memory of all slab caches, without what is only kept in case it is wanted again. With
 * slab debugging that can't be told: kmemleak looks for leaks there.
 */
static long long slab_bytes(void)
{
	char line[512], name[64];
	long long sum = 0, size;
	FILE *f;

	cf_drop_caches("1");
	f = fopen("/proc/slabinfo", "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		long long objects;

		if (sscanf(line, "%63s %lld %*d %lld", name, &objects, &size) != 3)
			continue;
		if (!strcmp(name, "kmalloc-64") && size > 64)
			break;
		sum += objects * size;
	}
	size = feof(f) ? sum : -EOPNOTSUPP;
	fclose(f);
	return size;
}

/* Binds that fail once there are credentials, and one that finds no directory. */
static int fail_to_bind(const char *dir, const char *mode, int expected)
{
	int dev = cf_device(), ret;

	if (dev < 0)
		return dev;
	ret = cf_cmd(dev, "dir %s", dir);
	if (!ret)
		ret = cf_cmd(dev, "%s", mode);
	close(dev);
	return ret == expected ? 0 : ret ? ret : -EPROTO;
}

TEST_F_TIMEOUT(device, d67_binds_that_fail, 120)
{
	enum { ROUNDS = 2000, EACH = 100 };
	long long before, end, grown = 0;

	if (slab_bytes() < 0)
		SKIP(return, "no /proc/slabinfo that means anything");
	for (int round = 0; round < 2; round++) {
		before = slab_bytes();
		for (int i = 0; i < ROUNDS; i++) {
			ASSERT_EQ(0, fail_to_bind("/proc", "bind ondemand", -EOPNOTSUPP));
			ASSERT_EQ(0, fail_to_bind("/proc", "bind", -EOPNOTSUPP));
			ASSERT_EQ(0, fail_to_bind("/nowhere", "bind", -ENOENT));
		}
		/* What waits for RCU goes by and by. The first round is for all others. */
		for (end = cf_now() + cf_ms(LONG);; cf_poll(self->e.dev, 0, 100)) {
			grown = slab_bytes() - before;
			if (!round || grown < ROUNDS * EACH || cf_now() > end)
				break;
		}
	}
	TH_LOG("%lld bytes more after %d failures", grown, 3 * ROUNDS);
	EXPECT_GT(ROUNDS * EACH, grown);
}

/*
 * The file is there but can't be opened: that is the end of the cache. A new one takes the
 * file as if nothing had been, can remove it, and lets go of the file system.
 */
TEST_F(device, d68_d72_open_fails)
{
	static const char key[] = "file";
	struct cf_env *e = &self->e;
	int nf = cf_nf_open(), vol, c;
	char path[512], *slash;

	if (nf < 0)
		SKIP(return, CF_NO_NETFS);
	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	ASSERT_EQ(0, cf_env_store(e, 320 * MB, backing_fs()));
	ASSERT_EQ(0, cf_env_bind_original(e));
	for (int i = 0; i < 5; i++) {
		vol = cf_nf_volume(nf, "v", e->tag, NULL, 0);
		ASSERT_LT(0, vol);
		c = cf_nf_file(nf, vol, key, NULL, 0, 65536, false);
		ASSERT_LT(0, c);
		ASSERT_EQ(0, i ? cf_nf_check(nf, c, 1, 0, 65536, 65536) :
			     cf_nf_fill(nf, c, 1, 65536));
		ASSERT_EQ(0, cf_nf_detach(nf, c, false));

		ASSERT_EQ(0, cf_error_injection(2));
		EXPECT_EQ(-ENOBUFS, cf_nf_file(nf, vol, key, NULL, 0, 65536, false));
		ASSERT_EQ(0, cf_error_injection(0));
		EXPECT_EQ(-EIO, cf_cmd(e->dev, "debug 0"));
		EXPECT_EQ(0, cf_nf_volume_end(nf, vol, NULL, 0, false));
		ASSERT_EQ(0, cf_env_rebind_original(e));
	}
	ASSERT_EQ(0, cf_nf_path(e->dir, "v", key, strlen(key), path, sizeof(path)));
	slash = strrchr(path, '/');
	*slash = '\0';
	ASSERT_EQ(0, chdir(path));
	EXPECT_EQ(0, cf_cmd(e->dev, "inuse %s", slash + 1));
	EXPECT_EQ(0, cf_cmd(e->dev, "cull %s", slash + 1));
	ASSERT_EQ(0, chdir("/"));
	close(nf);
	close(e->dev);
	e->dev = -1;
	EXPECT_EQ(0, cf_umount_idle(e->dir, LONG));
}

/* A new file that can't get its size is let go of once, and nothing of it stays. */
TEST_F(device, d69_no_size_for_a_new_file)
{
	struct cf_env *e = &self->e;
	struct rlimit old, lim;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	ASSERT_EQ(0, cf_env_store(e, 320 * MB, backing_fs()));
	ASSERT_EQ(0, cf_env_bind(e));
	ASSERT_EQ(0, cf_env_mount(e));
	signal(SIGXFSZ, SIG_IGN);
	ASSERT_EQ(0, getrlimit(RLIMIT_FSIZE, &old));
	lim = (struct rlimit) { .rlim_cur = 65536, .rlim_max = old.rlim_max };
	for (int i = 0; i < 20; i++) {
		ASSERT_EQ(0, start_stat(e, &r, "file"));
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
		ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &lim));
		EXPECT_EQ(-EFBIG, cf_copen(e->dev, m.hdr.msg_id, MB));
		ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &old));
		ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
		EXPECT_EQ(EFBIG, res.err);
		close(cf_open_fd(&m));
	}
	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ((ssize_t)MB, cf_fill(fd, 1, 0, MB, MB));
	EXPECT_EQ(MB, read_here(e, "file", 1, 0, MB));
	close(fd);
	ASSERT_LE(0, cf_env_umount(e, PROMPT));
	close(e->dev);
	e->dev = -1;
	EXPECT_EQ(0, cf_umount_idle(e->dir, LONG));
}

/* With all debug messages there are. Kernel addresses begin with these digits. */
TEST_F(device, d74_no_addresses)
{
	static const char *const digits[] = {
		"ffff8", "ffff9", "ffffa", "ffffc", "ffffe", "fffff",
	};
	static const char *const modes[] = { "bind ondemand", "bind" };
	int log[ARRAY_SIZE(digits) + 1];
	struct cf_env *e = &self->e;
	char line[512];

	for (size_t i = 0; i < ARRAY_SIZE(log); i++) {
		log[i] = cf_log_open();
		ASSERT_LE(0, log[i]);
	}
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, cf_cmd(e->dev, "debug 0xffff"));
		ASSERT_EQ(0, cf_cmd(e->dev, "dir %s", e->dir));
		ASSERT_EQ(0, cf_cmd(e->dev, "tag %s", e->tag));
		ASSERT_EQ(0, cf_cmd(e->dev, "%s", modes[i]));
		ASSERT_EQ(0, cf_cmd(e->dev, "debug 0"));
		close(e->dev);
		e->dev = cf_device();
		ASSERT_LE(0, e->dev);
	}
	EXPECT_LE(2, cf_log_lines(log[ARRAY_SIZE(digits)], "", line, sizeof(line)));
	for (size_t i = 0; i < ARRAY_SIZE(digits); i++) {
		EXPECT_EQ(0, cf_log_lines(log[i], digits[i], line, sizeof(line))) {
			TH_LOG("%s", line);
		}
	}
}

TEST_HARNESS_MAIN
