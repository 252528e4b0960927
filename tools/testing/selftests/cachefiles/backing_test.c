// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whichever request the backing file system refuses, by an I/O error or another one, an
 * on-demand cache gives nobody a wrong byte and leaves nobody waiting; afterwards, bound
 * anew if that was its end, it gives everything. (inject_test has the original mode.)
 */
#include "harness.h"

#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>

#include "lib/backing.h"
#include "lib/task.h"

/* More requests than there are in the life of a file. */
#define MOST	400

/* Its store is a file system in user space. */
FIXTURE(refusing) {
	struct cf_env e;
	struct cf_server s;
	struct cf_mounted m;
};

FIXTURE_SETUP(refusing)
{
	int ret;

	self->e.dev = -1;
	if (world)
		SKIP(return, "%s", cf_why);
	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	ASSERT_EQ(0, cf_env_init(&self->e));
	ret = cf_backing_fuse(&self->m, &self->e);
	if (ret == 1)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, cf_env_bind(&self->e));
}

FIXTURE_TEARDOWN(refusing)
{
	cf_server_stop(&self->s);
	EXPECT_NE(-ETIMEDOUT, cf_env_exit(&self->e));
	cf_backing_unmount(&self->m);
}

enum { SIZE = 3 * CF_GRANULE + 100, OLD = 2 * CF_GRANULE + 5 };

/* Mount it with a daemon that serves NAME-NR, "changed-NR" with @changed bytes. */
static int up(struct cf_env *e, struct cf_server *s, int nr, __u64 changed)
{
	static const char *const names[] = { "old", "new", "changed" };
	char key[32];
	int ret;

	ret = cf_server_init(s, e->dev);
	for (int i = 0; !ret && i < 3; i++) {
		snprintf(key, sizeof(key), "%s-%d", names[i], nr);
		if (!cf_server_add(s, key, i == 2 ? changed : SIZE, i + 1))
			ret = -ENOSPC;
	}
	if (!ret)
		ret = cf_server_thread(s);
	return ret ? ret : cf_env_mount(e);
}

/* A worker of fscache lets go of the volume, and its end is still written to the store. */
static int until_no_volume(struct cf_env *e)
{
	long long end = cf_now() + cf_ms(LONG);
	char text[8192];
	int ret;

	do {
		ret = cf_read_file("/proc/fs/fscache/volumes", text, sizeof(text));
		if (ret < 0)
			return ret;
		if (!strstr(text, e->volume))
			return 0;
	} while (cf_now() < end && !poll(NULL, 0, 1));
	return -ETIMEDOUT;
}

static int down(struct cf_env *e, struct cf_server *s)
{
	int ret = e->mounted ? cf_env_umount(e, LONG) : 0;

	cf_server_stop(s);
	return ret < 0 ? ret : until_no_volume(e);
}

/* Read all of NAME-NR, of @size, twice: 0 or a negative errno; no byte is wrong. */
static int read_all(struct __test_metadata *_metadata, struct cf_env *e, const char *what, int nr,
		    __u64 seed, __u64 size)
{
	struct cf_job job = { .len = size, .seed = seed, .again = true };
	struct cf_result res;
	struct cf_reader r;
	char name[32];

	snprintf(name, sizeof(name), "%s-%d", what, nr);
	EXPECT_EQ(0, cf_reader_start(&r, e->mnt, name, &job));
	EXPECT_EQ(0, cf_reader_wait(&r, &res, LONG)) {
		TH_LOG("%s waits", name);
		return -ETIMEDOUT;
	}
	EXPECT_EQ(-1, res.bad) {
		TH_LOG("%s", name);
	}
	if (!res.err)
		EXPECT_EQ(2 * (__s64)size, res.n);
	return -res.err;
}

/* What is read while one request is refused: files that are there, new and of another size. */
static int live(struct __test_metadata *_metadata, struct cf_env *e, struct cf_server *s,
		struct cf_fusefs *fuse, int n, int error)
{
	static int nr;
	int op, ret;

	nr++;
	ASSERT_EQ(0, up(e, s, nr, OLD));
	ASSERT_EQ(0, read_all(_metadata, e, "old", nr, 1, SIZE));
	ASSERT_EQ(0, read_all(_metadata, e, "changed", nr, 3, OLD));
	ASSERT_EQ(0, down(e, s));

	cf_fusefs_fail(fuse, n, error);
	ret = up(e, s, nr, SIZE);
	if (!ret) {
		read_all(_metadata, e, "old", nr, 1, SIZE);
		read_all(_metadata, e, "new", nr, 2, SIZE);
		read_all(_metadata, e, "changed", nr, 3, SIZE);
	}
	ASSERT_EQ(0, down(e, s));
	op = cf_fusefs_failed(fuse);

	/* An I/O error may have been the end of the cache. */
	if (cf_cmd(e->dev, "debug 0"))
		ASSERT_EQ(0, cf_env_rebind(e));
	ASSERT_EQ(0, up(e, s, nr, SIZE));
	EXPECT_EQ(0, read_all(_metadata, e, "old", nr, 1, SIZE));
	EXPECT_EQ(0, read_all(_metadata, e, "new", nr, 2, SIZE));
	EXPECT_EQ(0, read_all(_metadata, e, "changed", nr, 3, SIZE));
	EXPECT_EQ(0, s->stats->odd);
	ASSERT_EQ(0, down(e, s));
	return op;
}

/* Each request is refused both ways; by turns where everything is ten times as slow. */
static bool is_left_out(int n, int i)
{
	return cf_ms(1) >= 10 && (n + i) % 2;
}

TEST_F_TIMEOUT(refusing, any_request, 600)
{
	bool hit = true;
	int count = 0;

	for (int n = 1; hit && n < MOST && !_metadata->exit_code; n++) {
		for (int i = 0; i < 2 && !_metadata->exit_code; i++) {
			int error = i ? cf_refusal(n) : -EIO, op;

			if (is_left_out(n, i))
				continue;
			op = live(_metadata, &self->e, &self->s, &self->m.fuse, n, error);
			hit = op;
			count += hit;
			EXPECT_FALSE(_metadata->exit_code) {
				TH_LOG("request %d, of kind %d: %s", n, op, strerror(-error));
			}
		}
	}
	EXPECT_FALSE(hit);
	TH_LOG("%d requests refused", count);
	EXPECT_LT(20, count);
}

/*
 * Without an answer to these it can't be told what is present, or where to put it. A file
 * system that is full is bound all the same, so that it can be culled.
 */
static bool is_essential(int op, int error)
{
	if (error == -ENOSPC)
		return false;
	switch (op) {
	case FUSE_STATFS:
	case FUSE_TMPFILE:
	case FUSE_WRITE:
	case FUSE_LSEEK:
		return true;
	}
	return false;
}

static int bind_mode(struct cf_env *e, bool original)
{
	return original ? cf_env_rebind_original(e) : cf_env_rebind(e);
}

/* What it does not tell, nobody is told. */
TEST_F(refusing, seeks)
{
	static const int whences[] = { SEEK_DATA, SEEK_HOLE };
	struct cf_env *e = &self->e;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	ASSERT_EQ(0, cf_env_mount(e));
	fd = open_object(e, &r, "file", SIZE, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(CF_GRANULE, cf_fill(fd, 1, 0, CF_GRANULE, SIZE));
	for (size_t i = 0; i < ARRAY_SIZE(whences); i++) {
		int n, op = FUSE_LSEEK;

		for (n = 1; op && n < MOST; n++) {
			off_t at;

			cf_fusefs_fail(&self->m.fuse, n, -EIO);
			at = lseek(fd, 0, whences[i]);
			op = cf_fusefs_failed(&self->m.fuse);
			EXPECT_EQ(op ? -1 : (off_t)(i * CF_GRANULE), at) {
				TH_LOG("request %d, of kind %d", n, op);
			}
			if (op)
				EXPECT_EQ(EIO, errno);
		}
		EXPECT_EQ(0, op);
		EXPECT_LT(2, n);
	}
	close(fd);
	EXPECT_LE(0, cf_env_umount(e, LONG));
}

struct interrupted {
	struct cf_task		task;
	struct cf_env		*e;
	struct cf_fusefs	*fuse;
	int			nth;
	enum { OPENS, FILLS, READS } what;
	unsigned int		id;
	int			fd;
};

static int answer_held(void *arg)
{
	struct interrupted *i = arg;

	cf_fusefs_hold(i->fuse, i->nth);
	switch (i->what) {
	case OPENS:
		return cf_copen(i->e->dev, i->id, SIZE);
	case FILLS:
		return (int)cf_fill(i->fd, 1, 0, SIZE, SIZE);
	default:
		return cf_cread(i->fd, i->id);
	}
}

static void on_signal(int sig)
{
}

/* The opcode of the request that a signal came in, or 0; in @ret what became of the call. */
static int interrupt(struct __test_metadata *_metadata, struct interrupted *i, int *ret)
{
	ASSERT_EQ(0, cf_task_start(&i->task, answer_held, i));
	while (cf_task_wait(&i->task, ret, 1) == -ETIMEDOUT)
		if (cf_fusefs_held(i->fuse))
			pthread_kill(i->task.thread, SIGUSR1);
	return cf_fusefs_failed(i->fuse);
}

/*
 * Whichever request a signal to the daemon cuts short, that is no error of the disk: the
 * daemon is told, and what it does again is done.
 */
TEST_F_TIMEOUT(refusing, any_request_interrupted, 300)
{
	struct interrupted i = { .e = &self->e, .fuse = &self->m.fuse };
	struct cf_env *e = &self->e;
	int op = 1, read_op, copens = 0, fills = 0, reads = 0, ret;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	char name[32];

	ASSERT_NE(SIG_ERR, signal(SIGUSR1, on_signal));
	ASSERT_EQ(0, cf_env_mount(e));
	for (i.nth = 1; op && i.nth < MOST && !_metadata->exit_code; i.nth++) {
		snprintf(name, sizeof(name), "file-%d", i.nth);
		ASSERT_EQ(0, start_read(e, &r, name, 1, 0, SIZE));
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
		i.fd = cf_open_fd(&m);
		i.id = m.hdr.msg_id;
		i.what = OPENS;
		op = interrupt(_metadata, &i, &ret);
		copens += ret == -EINTR;
		if (ret == -EINTR)
			ret = cf_copen(e->dev, i.id, SIZE);
		EXPECT_EQ(0, ret) {
			TH_LOG("request %d of copen, of kind %d", i.nth, op);
		}
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
		i.what = FILLS;
		op |= interrupt(_metadata, &i, &ret);
		fills += ret != SIZE;
		if (ret != SIZE)
			ret = cf_fill(i.fd, 1, 0, SIZE, SIZE);
		EXPECT_LE(SIZE, ret) {
			TH_LOG("request %d of a fill, of kind %d", i.nth, op);
		}
		/* Nobody looks what became of that, so it is not the daemon who is told. */
		i.what = READS;
		i.id = m.hdr.msg_id;
		read_op = interrupt(_metadata, &i, &ret);
		op |= read_op;
		reads += !!read_op;
		EXPECT_EQ(0, ret);
		ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
		EXPECT_EQ(0, res.err);
		EXPECT_EQ(-1, res.bad);
		EXPECT_EQ(0, cf_cmd(e->dev, "debug 0"));
		close(i.fd);
	}
	EXPECT_EQ(0, op);
	TH_LOG("%d times copen, %d times a fill and %d times a read were interrupted", copens,
	       fills, reads);
	EXPECT_LT(0, reads);
	EXPECT_LT(0, copens);
	EXPECT_LT(0, fills);
	EXPECT_LE(0, cf_env_umount(e, LONG));
}

/* Binding looks what the file system is good for, and is refused if it can't know. */
TEST_F_TIMEOUT(refusing, any_request_of_bind, 300)
{
	struct cf_env *e = &self->e;
	struct cf_fusefs *fuse = &self->m.fuse;

	for (int mode = 0; mode < 2; mode++) {
		int op = 1, refused = 0, n;

		for (n = 1; op && n < MOST; n++) {
			for (int i = 0; i < 2; i++) {
				int error = i ? cf_refusal(n) : -EIO, ret;

				if (is_left_out(n, i))
					continue;
				cf_fusefs_fail(fuse, n, error);
				ret = bind_mode(e, mode);
				op = cf_fusefs_failed(fuse);
				refused += !!ret;
				EXPECT_GE(0, ret);
				EXPECT_TRUE(op ? ret || !is_essential(op, error) : !ret) {
					TH_LOG("request %d, of kind %d: %d", n, op, ret);
				}
				ASSERT_EQ(0, bind_mode(e, mode)) {
					TH_LOG("after request %d, of kind %d", n, op);
				}
			}
		}
		TH_LOG("%d requests, bind is refused %d times", n - 1, refused);
		EXPECT_LT(n, MOST);
		EXPECT_LT(n / 2, refused);
	}
}

/* Have what is in memory of a backing file written, and not its journal. */
static int write_out(const char *path, void *arg)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int *ret = arg;

	*ret = 0;
	if (sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
			    SYNC_FILE_RANGE_WAIT_AFTER))
		*ret = -errno;
	close(fd);
	return 0;
}

#define EXPIRE	"/proc/sys/vm/dirty_expire_centisecs"

/* What is in memory is not written by itself, however long a test takes. */
FIXTURE(unwritten) {
	struct cf_env e;
	char expire[32];
};

FIXTURE_SETUP(unwritten)
{
	self->e.dev = -1;
	if (world)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, cf_env_init(&self->e));
	ASSERT_LT(0, cf_read_file(EXPIRE, self->expire, sizeof(self->expire)));
	ASSERT_EQ(0, cf_write_file(EXPIRE, "360000"));
}

FIXTURE_TEARDOWN(unwritten)
{
	if (self->expire[0])
		EXPECT_EQ(0, cf_write_file(EXPIRE, self->expire));
	EXPECT_NE(-ETIMEDOUT, cf_env_exit(&self->e));
}

/*
 * What a daemon has brought is lost on its way to the disk, and the file system calls data
 * what the disk has instead: nobody gets that, and whoever comes next gets it from the daemon.
 */
TEST_F_TIMEOUT(unwritten, lost_on_the_way, 120)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	char path[160];
	struct cf_reader r;
	struct cf_msg m;
	int fd, ret;

	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	if (!cf_have_disk())
		SKIP(return, CF_NO_DISK);
	/* Blocks become data when they are allocated, and the journal is written late. */
	ASSERT_EQ(0, cf_disk(e, "make nodelalloc,dioread_lock,commit=300"));
	ASSERT_EQ(0, cf_env_bind(e));
	ASSERT_EQ(0, cf_env_mount(e));
	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(65536, cf_fill(fd, 1, 0, 65536, MB));
	EXPECT_EQ(65536, read_here(e, "file", 1, 0, 65536));
	ASSERT_EQ(0, cf_disk(e, "fail"));
	snprintf(path, sizeof(path), "%s/cache", e->dir);
	EXPECT_EQ(1, cf_tree_count(path, write_out, &ret));
	EXPECT_EQ(-EIO, ret);
	ASSERT_EQ(0, cf_disk(e, "go"));
	/* And not inodes: objects would go with them. */
	ASSERT_EQ(0, cf_drop_caches("1"));
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 65536));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(-1, res.bad);
	EXPECT_EQ(EIO, res.err);
	EXPECT_EQ(-1, lseek(fd, 0, SEEK_DATA));

	ASSERT_LE(0, cf_env_umount(e, PROMPT));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_CLOSE, LONG));
	close(fd);
	ASSERT_EQ(0, until_no_volume(e));
	ASSERT_EQ(0, cf_env_mount(e));
	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, read_served(e, "file", fd, 1, 0, 4096, MB));
	close(fd);
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
	close(e->dev);
	e->dev = -1;
	EXPECT_EQ(0, cf_disk(e, "remove"));
}

TEST_HARNESS_MAIN
