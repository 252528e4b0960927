// SPDX-License-Identifier: GPL-2.0-only
/*
 * The modules load and unload a hundred times with mounts in between, go within a second
 * of the last use, or about as fast as unused ones do where the machine is slow just then,
 * and leave nothing in slabinfo and no complaint in the kernel log.
 *
 * It takes the modules away from everybody, so it runs only with CF_SLOW=1.
 */
#include "harness.h"

#include <limits.h>
#include <sys/klog.h>
#include <sys/syscall.h>

#define ROUNDS	100

static int modules(const char *how)
{
	const char *const load1[] = { "modprobe", "cachefiles", NULL };
	const char *const load2[] = { "modprobe", "ondemandfs", NULL };
	const char *const drop1[] = { "rmmod", "ondemandfs", NULL };
	const char *const drop2[] = { "rmmod", "cachefiles", NULL };
	int ret;

	if (!strcmp(how, "load")) {
		ret = cf_run(20000, load1);
		return ret ? ret : cf_run(20000, load2);
	}
	ret = cf_run(20000, drop1);
	return ret ? ret : cf_run(20000, drop2);
}

/* How long that takes, in milliseconds, or why it can't be done. */
static int unload(void)
{
	long long begun = cf_now();
	int ret = modules("unload");

	return ret ? -abs(ret) : cf_now() - begun;
}

/* The same where nothing of them was used: that much is the machine's. */
static int unload_unused(void)
{
	int ret = modules("load");

	return ret ? -abs(ret) : unload();
}

/* Lines of the kernel log that no test may leave. */
static int complaints(void)
{
	static const char *const bad[] = {
		"BUG", "WARNING", "Oops", "suspected memory leak", "refcount_t",
		"Objects remaining", "list_del", "list_add", "possible circular",
	};
	static char log[1 << 20];
	int n = klogctl(3, log, sizeof(log) - 1), found = 0;

	if (n < 0)
		return -errno;
	log[n] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		found += !!strstr(log, bad[i]);
	return found;
}

static int slabs_left(void)
{
	static char buf[1 << 18];

	if (cf_read_file("/proc/slabinfo", buf, sizeof(buf)) < 0)
		return 0;
	return strstr(buf, "\ncachefiles") || strstr(buf, "\nondemandfs");
}

static void one_round(struct __test_metadata *_metadata, int i)
{
	struct cf_server s;
	struct cf_env e;

	ASSERT_EQ(0, cf_env_init(&e));
	ASSERT_EQ(0, cf_env_bind(&e));
	ASSERT_EQ(0, cf_env_mount(&e));
	ASSERT_EQ(0, cf_server_init(&s, e.dev));
	ASSERT_NE(NULL, cf_server_add(&s, "file", 100000, i));
	ASSERT_EQ(0, cf_server_thread(&s));
	EXPECT_EQ(100000, read_here(&e, "file", i, 0, 200000));
	if (i % 2) {
		cf_server_stop(&s);
		close(e.dev);
		e.dev = -1;
		EXPECT_LE(0, cf_env_umount(&e, PROMPT));
	} else {
		EXPECT_LE(0, cf_env_umount(&e, PROMPT));
		cf_server_stop(&s);
		close(e.dev);
		e.dev = -1;
	}
	cf_env_exit(&e);
	/* The directory is made anew by the next round. */
	const char *const rm[] = { "rm", "-rf", e.dir, NULL };

	cf_run(20000, rm);
}

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

TEST_F_TIMEOUT(none, load_unload, 1200)
{
	int fastest = INT_MAX;

	if (!getenv("CF_SLOW"))
		SKIP(return, "takes the modules away; set CF_SLOW=1");
	if (world)
		SKIP(return, "%s", cf_why);
	cf_run(20000, (const char *const[]) { "modprobe", "ondemandfs", NULL });
	if (access("/sys/module/cachefiles/refcnt", F_OK))
		SKIP(return, "modules are built in");
	ASSERT_EQ(0, modules("unload"));
	ASSERT_EQ(0, complaints());
	for (int i = 0, took, unused, slow = 0; i < ROUNDS; i++) {
		ASSERT_EQ(0, modules("load")) {
			TH_LOG("round %d", i);
		}
		one_round(_metadata, i);
		took = unload();
		ASSERT_LE(0, took) {
			TH_LOG("round %d: %d", i, took);
		}
		ASSERT_GT(cf_ms(LONG), took) {
			TH_LOG("round %d", i);
		}
		unused = took > cf_ms(1000) ? unload_unused() : 0;
		ASSERT_LE(0, unused) {
			TH_LOG("round %d, once more: %d", i, unused);
		}
		fastest = took < fastest ? took : fastest;
		/* A machine that stalls may do so a few times. */
		slow += took > 2 * unused + cf_ms(1000);
		ASSERT_GT(5, slow) {
			TH_LOG("round %d: %d ms, unused %d ms", i, took, unused);
		}
		ASSERT_EQ(0, slabs_left());
	}
	EXPECT_GT(cf_ms(1000), fastest);
	EXPECT_EQ(0, complaints());
	modules("load");
}

TEST_HARNESS_MAIN
