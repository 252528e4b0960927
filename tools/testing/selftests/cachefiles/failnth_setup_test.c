// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whichever allocation or user copy fails while a module is loaded, a cache is bound or a
 * volume is mounted, the caller is told, nothing is left behind, and the next try succeeds.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "lib/failnth.h"

/* More allocations and copies than any of these calls makes. */
#define MOST	2000
/* What a module allocates for itself comes last, and is less than that. */
#define OWN	200

/* A new device with all that bind wants to know, and directory @n that nothing is in. */
static int device_again(struct cf_env *e, int n)
{
	char dir[160];
	int ret;

	close(e->dev);
	e->dev = cf_device();
	if (e->dev < 0)
		return e->dev;
	snprintf(dir, sizeof(dir), "%s/%d", e->dir, n);
	if (mkdir(dir, 0700))
		return -errno;
	ret = cf_cmd(e->dev, "dir %s", dir);
	return ret ? ret : cf_cmd(e->dev, "tag %s", e->tag);
}

/* What has failed can be given again, and what has not is there. */
TEST_F_TIMEOUT(device, names, 120)
{
	static const char *const cmds[] = { "dir /tmp", "tag name" };
	struct cf_env *e = &self->e;

	if (cf_fail_init())
		SKIP(return, CF_NO_FAILNTH);
	for (unsigned int i = 0; i < ARRAY_SIZE(cmds); i++) {
		bool hit = true;

		for (int n = 1; hit && n < MOST; n++) {
			int ret;

			close(e->dev);
			e->dev = cf_device();
			ASSERT_LE(0, e->dev);
			cf_fail_nth(n);
			ret = cf_cmd(e->dev, "%s", cmds[i]);
			hit = cf_fail_done();
			if (ret) {
				EXPECT_TRUE(cf_fail_is(ret)) {
					TH_LOG("allocation %d: %s", n, strerror(-ret));
				}
				EXPECT_EQ(0, cf_cmd(e->dev, "%s", cmds[i]));
			}
			EXPECT_EQ(-EEXIST, cf_cmd(e->dev, "%s", cmds[i])) {
				TH_LOG("allocation %d of %s", n, cmds[i]);
			}
		}
		EXPECT_FALSE(hit);
	}
	EXPECT_LT(0, cf_fail_count);
}

static void bind_failing(struct __test_metadata *_metadata, struct cf_env *e, const char *mode)
{
	bool hit = true;

	if (cf_fail_init())
		SKIP(return, CF_NO_FAILNTH);
	for (int n = 1; hit && n < MOST; n++) {
		int ret;

		ASSERT_EQ(0, device_again(e, n));
		cf_fail_nth(n);
		ret = cf_cmd(e->dev, "bind %s", mode);
		hit = cf_fail_done();
		if (!ret)
			continue;
		EXPECT_TRUE(cf_fail_is(ret)) {
			TH_LOG("allocation %d: %s", n, strerror(-ret));
		}
		/* With the same device, unless that has seen the cache die. */
		ret = cf_cmd(e->dev, "bind %s", mode);
		ASSERT_EQ(0, ret) {
			TH_LOG("after allocation %d: %s", n, strerror(-ret));
		}
	}
	EXPECT_FALSE(hit);
	TH_LOG("%d allocations failed", cf_fail_count);
	EXPECT_LT(0, cf_fail_count);
	ASSERT_EQ(0, device_again(e, MOST));
	EXPECT_EQ(0, cf_cmd(e->dev, "bind %s", mode));
}

TEST_F_TIMEOUT(device, bind_ondemand, 300)
{
	bind_failing(_metadata, &self->e, "ondemand");
}

TEST_F_TIMEOUT(device, bind_original, 300)
{
	bind_failing(_metadata, &self->e, "");
}

TEST_F_TIMEOUT(cache, mount, 300)
{
	struct cf_env *e = &self->e;
	bool hit = true;
	char opts[96];

	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	if (cf_fail_init())
		SKIP(return, CF_NO_FAILNTH);
	snprintf(opts, sizeof(opts), "cache=%s", e->tag);
	for (int n = 1; hit && n < MOST; n++) {
		int ret;

		cf_fail_nth(n);
		ret = cf_mount_od(e->volume, e->mnt, opts);
		hit = cf_fail_done();
		if (ret) {
			EXPECT_TRUE(cf_fail_is(ret)) {
				TH_LOG("allocation %d: %s", n, strerror(-ret));
			}
			ASSERT_EQ(0, cf_mount_od(e->volume, e->mnt, opts));
		}
		ASSERT_LE(0, cf_umount(e->mnt, 0, LONG));
	}
	EXPECT_FALSE(hit);
	TH_LOG("%d allocations failed", cf_fail_count);
	EXPECT_LT(0, cf_fail_count);
}

/* --- loading --- */

/* Only for the time limit. */
FIXTURE(none) {
	int	nothing;
};

FIXTURE_SETUP(none)
{
}

FIXTURE_TEARDOWN(none)
{
}

static int module_open(const char *name)
{
	char command[64], path[512] = "";
	FILE *f;
	int fd;

	snprintf(command, sizeof(command), "modinfo -n %s 2>/dev/null", name);
	f = popen(command, "r");
	if (!f)
		return -errno;
	if (!fgets(path, sizeof(path), f))
		path[0] = '\0';
	pclose(f);
	path[strcspn(path, "\n")] = '\0';
	/* A module that is compressed would be unpacked by many allocations more. */
	if (strlen(path) < 3 || strcmp(path + strlen(path) - 3, ".ko"))
		return -ENOENT;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int module_load(int fd)
{
	return syscall(SYS_finit_module, fd, "", 0) ? -errno : 0;
}

static int module_unload(const char *name)
{
	return syscall(SYS_delete_module, name, O_NONBLOCK) ? -errno : 0;
}

/* Allocations and copies while @fd is loaded, and it stays. */
static int module_allocations(int fd)
{
	const int plenty = 1000000000;
	int left, ret;

	cf_fail_nth(plenty);
	ret = module_load(fd);
	left = cf_fail_left();
	if (ret)
		return ret;
	return left < 0 ? -EIO : plenty - left;
}

static void load_failing(struct __test_metadata *_metadata, const char *name, int fd)
{
	int all, before = cf_fail_count;

	all = module_allocations(fd);
	ASSERT_LT(0, all);
	ASSERT_EQ(0, module_unload(name));
	for (int n = all > OWN ? all - OWN : 1; n <= all + 1; n++) {
		int ret;

		cf_fail_nth(n);
		ret = module_load(fd);
		cf_fail_done();
		if (ret) {
			EXPECT_TRUE(cf_fail_is(ret)) {
				TH_LOG("%s, allocation %d of %d: %s", name, n, all, strerror(-ret));
			}
			ASSERT_EQ(0, module_load(fd)) {
				TH_LOG("%s, after allocation %d of %d", name, n, all);
			}
		}
		ASSERT_EQ(0, module_unload(name));
	}
	TH_LOG("%s: %d of %d allocations failed", name, cf_fail_count - before, all);
	EXPECT_LT(before, cf_fail_count);
}

/*
 * What kmemleak has to say of that, but for what the slab allocator itself loses: the name
 * of a cache that sysfs has no room for.
 */
static int leaks(void)
{
	static const char file[] = "/sys/kernel/debug/kmemleak", head[] = "unreferenced object";
	static char text[1 << 20];
	int fd = open(file, O_RDWR | O_CLOEXEC), ours = 0;
	char *next;

	if (fd < 0)
		return 0;
	/* It passes over what is younger than five seconds, and reports what two scans find. */
	poll(NULL, 0, 6000);
	if (write(fd, "scan", 4) == 4 && write(fd, "scan", 4) == 4 &&
	    cf_read_file(file, text, sizeof(text)) > 0) {
		for (char *p = strstr(text, head); p; p = next) {
			next = strstr(p + 1, head);
			if (next)
				next[-1] = '\0';
			if (!strstr(p, "sysfs_slab_add")) {
				printf("# %s\n", p);
				ours++;
			}
		}
		if (write(fd, "clear", 5) != 5)
			ours = -errno;
	}
	close(fd);
	return ours;
}

/* Where allocations can be made to fail nobody's work depends on these modules. */
TEST_F_TIMEOUT(none, load, 600)
{
	static const char * const names[] = { "cf_netfs", "ondemandfs", "cachefiles" };
	bool loaded[3] = { false };
	long long end;
	char path[64];
	int fds[3];

	if (world)
		SKIP(return, "%s", cf_why);
	if (cf_fail_init())
		SKIP(return, CF_NO_FAILNTH);
	for (int i = 1; i < 3; i++)
		fds[i] = module_open(names[i]);
	if (fds[1] < 0 && fds[2] < 0)
		SKIP(return, "neither %s nor %s is a module in a .ko", names[1], names[2]);
	end = cf_now() + cf_ms(LONG);
	for (int i = 0; i < 3; i++) {
		int ret = module_unload(names[i]);

		/* Nobody uses it, but for what the last mount may leave to others. */
		while (ret == -EWOULDBLOCK && cf_now() < end && !poll(NULL, 0, 10))
			ret = module_unload(names[i]);
		snprintf(path, sizeof(path), "/sys/module/%s/refcnt", names[i]);
		if (!access(path, F_OK)) {
			ASSERT_EQ(0, ret) {
				TH_LOG("%s: %s", names[i], strerror(-ret));
			}
		}
		/* The others may be built in, or not loaded. */
		if (ret && i == 2)
			SKIP(return, "%s is built in", names[i]);
		loaded[i] = !ret;
	}
	for (int i = 2; i > 0; i--) {
		if (fds[i] < 0)
			TH_LOG("%s: not loaded from a .ko", names[i]);
		else
			load_failing(_metadata, names[i], fds[i]);
		close(fds[i]);
	}
	EXPECT_EQ(0, leaks());
	for (int i = 2; i >= 0; i--)
		if (loaded[i])
			EXPECT_EQ(0, cf_run(20000, (const char *const[]) {
				"modprobe", names[i], NULL }));
}

TEST_HARNESS_MAIN
