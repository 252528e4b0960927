/* SPDX-License-Identifier: GPL-2.0-only */
/* What every test program starts from: the world, and the fixtures on it. */
#ifndef CF_HARNESS_H
#define CF_HARNESS_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "lib/cache.h"
#include "lib/daemon.h"
#include "lib/netfs.h"
#include "lib/stall.h"

/* Long enough for anything that is going to happen, on any machine. */
#define LONG		10000
/* How long something that must not happen is watched for. */
#define BRIEF		300
/*
 * The bound for everything a dead or silent daemon must not hold up. That takes a second or
 * two at most, but the machine may stall: kill_test and umount_test look at the time.
 */
#define PROMPT		5000

#define KB		1024ULL
#define MB		(1024 * KB)

static int world;

/* The cache's own file system; $CF_FSTYPE may say xfs or btrfs. */
static inline const char *backing_fs(void)
{
	const char *s = getenv("CF_FSTYPE");

	return s ? s : "ext4";
}

static __attribute__((constructor)) void world_up(void)
{
	world = cf_world_init(backing_fs());
}

static __attribute__((destructor)) void world_down(void)
{
	if (!cf_world_exit())
		return;
	/* Whoever still has a file of it has forgotten a reference. */
	printf("# a backing file system is still in use after the tests\n");
	fflush(NULL);
	_exit(KSFT_FAIL);
}

/* $CF_TIME_SCALE is for the time limits of whole tests, too, not only of their steps. */
static inline int run_scaled(int argc, char **argv)
{
	struct __fixture_metadata *f;
	struct __test_metadata *t;

	for (f = __fixture_list; f; f = f->next)
		for (t = f->tests; t; t = t->next)
			t->timeout = cf_ms(t->timeout);
	return test_harness_run(argc, argv);
}

/* What TEST_HARNESS_MAIN calls. */
#define test_harness_run	run_scaled

/* A device with nothing written to it yet. */
FIXTURE(device) {
	struct cf_env e;
};

FIXTURE_SETUP(device)
{
	if (world)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, cf_env_init(&self->e));
}

FIXTURE_TEARDOWN(device)
{
	EXPECT_NE(-ETIMEDOUT, cf_env_exit(&self->e));
}

/* A bound on-demand cache; no mount. */
FIXTURE(cache) {
	struct cf_env e;
};

FIXTURE_SETUP(cache)
{
	if (world)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, cf_env_init(&self->e));
	ASSERT_EQ(0, cf_env_bind(&self->e));
}

FIXTURE_TEARDOWN(cache)
{
	EXPECT_NE(-ETIMEDOUT, cf_env_exit(&self->e));
}

/* A bound on-demand cache with a volume mounted; nobody serves it yet. */
FIXTURE(ondemand) {
	struct cf_env e;
	struct cf_server s;
};

FIXTURE_SETUP(ondemand)
{
	if (world)
		SKIP(return, "%s", cf_why);
	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	ASSERT_EQ(0, cf_env_init(&self->e));
	ASSERT_EQ(0, cf_env_bind(&self->e));
	ASSERT_EQ(0, cf_env_mount(&self->e));
	ASSERT_EQ(0, cf_server_init(&self->s, self->e.dev));
}

FIXTURE_TEARDOWN(ondemand)
{
	cf_server_stop(&self->s);
	EXPECT_NE(-ETIMEDOUT, cf_env_exit(&self->e));
}

/* A bound cache in original mode, and a network file system with a volume in it. */
FIXTURE(original) {
	struct cf_env e;
	int nf;
	int vol;
};

FIXTURE_SETUP(original)
{
	self->nf = -1;
	self->e.dev = -1;
	if (world)
		SKIP(return, "%s", cf_why);
	self->nf = cf_nf_open();
	if (self->nf < 0)
		SKIP(return, CF_NO_NETFS);
	ASSERT_EQ(0, cf_env_init(&self->e));
	ASSERT_EQ(0, cf_env_bind_original(&self->e));
	self->vol = cf_nf_volume(self->nf, self->e.volume, self->e.tag, NULL, 0);
	ASSERT_LT(0, self->vol);
}

FIXTURE_TEARDOWN(original)
{
	cf_error_injection(0);
	if (self->nf >= 0) {
		EXPECT_EQ(0, cf_nf_odd(self->nf));
		close(self->nf);
	}
	EXPECT_NE(-ETIMEDOUT, cf_env_exit(&self->e));
}

/* Room for @nr descriptors in this process. */
static inline __attribute__((unused)) int room_for_fds(unsigned int nr)
{
	struct rlimit lim = { .rlim_cur = nr, .rlim_max = nr };

	return setrlimit(RLIMIT_NOFILE, &lim);
}

/* Programs use some of these. */
#define OPTIONAL	static inline __attribute__((unused))

OPTIONAL int start_stat(struct cf_env *e, struct cf_reader *r, const char *name)
{
	struct cf_job job = { .stat_only = true };

	return cf_reader_start(r, e->mnt, name, &job);
}

/*
 * A cache in original mode, in a file system of its own, and a file of @size in it, whose
 * number or error this returns.
 */
OPTIONAL int only_file(struct cf_env *e, int nf, __u64 room, const char *fstype, __u64 size,
		       int *vol)
{
	int ret = cf_env_store(e, room, fstype);

	if (!ret)
		ret = cf_env_bind_original(e);
	if (ret)
		return ret;
	*vol = cf_nf_volume(nf, e->volume, e->tag, NULL, 0);
	if (*vol < 0)
		return *vol;
	return cf_nf_file(nf, *vol, "file", NULL, 0, size, false);
}

/*
 * An object of MB bytes that @job reads without a page cache, which would ask twice: its
 * descriptor, or a negative errno.
 */
OPTIONAL int open_bare(struct cf_env *e, struct cf_nf_job *job, int *vol)
{
	struct cf_msg m;
	int ret;

	*vol = cf_nf_volume(job->nf, "bare", e->tag, NULL, 0);
	if (*vol < 0)
		return *vol;
	job->cookie = cf_nf_cookie_advice(job->nf, *vol, "file", 4, NULL, 0, MB,
					  CF_ADV_WANT_CACHE_SIZE);
	if (job->cookie < 0)
		return job->cookie;
	ret = cf_nf_attach(job->nf, job->cookie, false);
	if (!ret)
		ret = cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG);
	if (!ret)
		ret = cf_copen(e->dev, m.hdr.msg_id, MB);
	return ret ? ret : cf_open_fd(&m);
}

/* Directories, names and a device for another cache than that of @e: 0 or a negative errno. */
OPTIONAL int env_beside(struct cf_env *other, const struct cf_env *e)
{
	*other = *e;
	strcat(other->dir, "-two");
	strcat(other->mnt, "-two");
	strcat(other->tag, "-two");
	strcat(other->volume, "-two");
	if (mkdir(other->dir, 0700) || mkdir(other->mnt, 0755))
		return -errno;
	other->dev = cf_device();
	return other->dev < 0 ? other->dev : 0;
}

/* A reader of single pages, so that each READ is exactly what is missing. */
OPTIONAL int start_read(struct cf_env *e, struct cf_reader *r, const char *name,
			__u64 seed, __u64 off, __u64 len)
{
	struct cf_job job = { .seed = seed, .off = off, .len = len };

	return cf_reader_start(r, e->mnt, name, &job);
}

/* A reader with read-ahead. */
OPTIONAL int start_stream(struct cf_env *e, struct cf_reader *r, const char *name,
			  __u64 seed, __u64 off, __u64 len)
{
	struct cf_job job = { .seed = seed, .off = off, .len = len, .sequential = true };

	return cf_reader_start(r, e->mnt, name, &job);
}

/* How @r has ended: the bytes it got, a negative errno, or -EBADMSG if one was wrong. */
OPTIONAL int reader_outcome(struct cf_reader *r)
{
	struct cf_result res;
	int ret = cf_reader_wait(r, &res, LONG);

	if (ret)
		return ret;
	if (res.err)
		return -res.err;
	return res.bad >= 0 ? -EBADMSG : (int)res.n;
}

/* Read @len bytes at @off in this process, by its own descriptor. */
OPTIONAL int read_here(struct cf_env *e, const char *name, __u64 seed,
		       __u64 off, __u64 len)
{
	struct cf_reader r;
	int ret = start_read(e, &r, name, seed, off, len);

	return ret ? ret : reader_outcome(&r);
}

/*
 * Open @name from a child that stays (it holds its READ-less file open until
 * it is killed) and answer the OPEN with @size: the object's descriptor.
 */
OPTIONAL int open_object(struct cf_env *e, struct cf_reader *r, const char *name,
			 long long size, struct cf_msg *m)
{
	struct cf_result res;
	int ret;

	ret = start_stat(e, r, name);
	if (!ret)
		ret = cf_expect(e->dev, m, CACHEFILES_OP_OPEN, LONG);
	if (!ret)
		ret = cf_copen(e->dev, m->hdr.msg_id, size);
	if (!ret)
		ret = cf_reader_wait(r, &res, LONG);
	if (!ret && res.err)
		ret = -res.err;
	if (!ret && res.n != size)
		ret = -ERANGE;
	return ret ? ret : cf_open_fd(m);
}

/* Fill and complete one READ of a file of @size. */
OPTIONAL int serve_read(const struct cf_msg *m, int fd, __u64 seed, __u64 size)
{
	ssize_t n = cf_fill(fd, seed, cf_rd(m)->off, cf_rd(m)->len, size);

	return n < 0 ? (int)n : cf_cread(fd, m->hdr.msg_id);
}

/* Read @len bytes at @off of a file of @size by one READ, which is answered through @fd. */
OPTIONAL int read_served(struct cf_env *e, const char *name, int fd, __u64 seed,
			 __u64 off, __u64 len, __u64 size)
{
	struct cf_reader r;
	struct cf_msg m;
	int ret;

	ret = start_read(e, &r, name, seed, off, len);
	if (!ret)
		ret = cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG);
	if (!ret)
		ret = serve_read(&m, fd, seed, size);
	if (!ret)
		ret = reader_outcome(&r);
	return ret < 0 ? ret : 0;
}

/* Have the inode of the one unused file evicted, until there is its CLOSE. */
OPTIONAL int drop_object(struct cf_env *e, struct cf_msg *m)
{
	long long end = cf_now() + cf_ms(LONG);
	int ret;

	do {
		ret = cf_drop_caches("3");
		if (!ret)
			ret = cf_next(e->dev, m, BRIEF);
	} while (ret == -ETIMEDOUT && cf_now() < end);
	if (ret < 0)
		return ret;
	return m->hdr.opcode == CACHEFILES_OP_CLOSE ? 0 : -EPROTO;
}

/* A request whose reader is gone goes by itself: the device stops being readable. */
OPTIONAL int until_idle(struct cf_env *e)
{
	long long end = cf_now() + cf_ms(LONG);

	while (cf_poll(e->dev, POLLIN, 0) && cf_now() < end)
		poll(NULL, 0, 10);
	return cf_idle(e->dev) ? 0 : -ETIMEDOUT;
}

#endif /* CF_HARNESS_H */
