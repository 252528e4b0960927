// SPDX-License-Identifier: GPL-2.0-only
/*
 * What happens to a request, to its object or to its cache while a daemon thread is
 * reading the message harms neither, and an answer has to wait for the message.
 */
#include <sys/mman.h>
#include <sys/wait.h>

#include "harness.h"

#include "lib/task.h"
#include "lib/trace.h"

/* What was handed out to this process is taken back by another one. */
static int restore_by_another(int dev)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return -errno;
	if (!pid)
		_exit(cf_cmd(dev, "restore") ? 1 : 0);
	return waitpid(pid, &status, 0) == pid && !status ? 0 : -EPROTO;
}

/*
 * A read(2) of the device that has got hold of a message and is parked in the copy;
 * -ENOSYS if there is nothing to park with.
 */
static int park(struct cf_stall *st, int dev)
{
	int ret = cf_poll(dev, POLLIN, cf_ms(LONG));

	if (ret != POLLIN)
		return ret < 0 ? ret : -ETIMEDOUT;
	return cf_stall_start(st, dev) ? -ENOSYS : cf_stall_parked(st, LONG);
}

static int lowest_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

/* Delivered, taken back, delivered again: the first owner answers in the second's copy. */
TEST_F(ondemand, d01_answered_while_delivered_again)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_stall st;
	struct cf_reader r;
	struct cf_msg m, n;
	int ret;

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	ASSERT_EQ(0, restore_by_another(e->dev));
	ret = park(&st, e->dev);
	if (ret == -ENOSYS)
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(0, ret);
	EXPECT_EQ(-EINVAL, cf_copen(e->dev, m.hdr.msg_id, MB));
	EXPECT_EQ(-EINVAL, cf_copen(e->dev, m.hdr.msg_id, -ENOENT));
	EXPECT_EQ(0, cf_reader_done(&r));
	/* Nor is it taken back from under a copy. */
	ASSERT_EQ(0, restore_by_another(e->dev));
	EXPECT_EQ(1, cf_idle(e->dev));
	ASSERT_LT(0, cf_stall_finish(&st, &n));
	EXPECT_EQ(m.hdr.msg_id, n.hdr.msg_id);
	EXPECT_NE(m.hdr.object_id, n.hdr.object_id);
	EXPECT_EQ(0, cf_copen(e->dev, n.hdr.msg_id, 5));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(5, res.n);
}

/* The reader goes, and with it the object, while the OPEN is copied a second time. */
TEST_F(ondemand, d01_gone_while_delivered_again)
{
	struct cf_env *e = &self->e;
	struct cf_stall st;
	struct cf_reader r;
	int trace, ret;
	struct cf_msg m;

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	ASSERT_EQ(0, restore_by_another(e->dev));
	close(cf_open_fd(&m));
	trace = cf_trace_start();
	if (trace < 0)
		SKIP(return, CF_NO_TRACEPOINTS);
	ret = park(&st, e->dev);
	if (ret == -ENOSYS) {
		cf_trace_stop(trace);
		SKIP(return, "no userfaultfd");
	}
	ASSERT_EQ(0, ret);
	EXPECT_LE(0, cf_reader_kill(&r, PROMPT));
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
	/* The object goes later than its reader and the mount. */
	EXPECT_EQ(0, cf_trace_wait(trace, "COPYING -> DONE", LONG));
	cf_trace_stop(trace);
	EXPECT_EQ(0, cf_poll(e->dev, POLLIN, 0));
	EXPECT_EQ(0, cf_stall_finish(&st, &m));
	EXPECT_EQ(1, cf_idle(e->dev));
	ASSERT_EQ(0, cf_env_mount(e));
	EXPECT_LE(0, open_object(e, &r, "file", MB, &m));
}

/* Object and descriptor go while their CLOSE is copied: then it is not told. */
TEST_F(ondemand, d02_closed_while_delivered)
{
	struct cf_env *e = &self->e;
	struct cf_stall st;
	struct cf_reader r;
	struct cf_msg m;
	int fd, ret;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_LE(0, cf_env_umount(e, PROMPT));
	ret = park(&st, e->dev);
	if (ret == -ENOSYS)
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, restore_by_another(e->dev));
	EXPECT_EQ(1, cf_idle(e->dev));
	close(fd);
	EXPECT_EQ(0, cf_poll(e->dev, POLLIN, cf_ms(BRIEF)));
	EXPECT_EQ(0, cf_stall_finish(&st, &m));
	EXPECT_EQ(1, cf_idle(e->dev));
}

static int wait_for_message(void *arg)
{
	return cf_poll(*(int *)arg, POLLIN, cf_ms(LONG));
}

/* There was no message while it was copied: who waits for one learns that it is back. */
TEST_F(ondemand, failed_delivery_is_announced)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_task poller;
	struct cf_stall st;
	struct cf_reader r;
	struct cf_msg m;
	int fd, ret;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	ret = park(&st, e->dev);
	if (ret == -ENOSYS)
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, cf_task_start(&poller, wait_for_message, &e->dev));
	EXPECT_EQ(-ETIMEDOUT, cf_task_wait(&poller, &ret, BRIEF));
	EXPECT_EQ(-EFAULT, cf_stall_fail(&st));
	/* Not when its time is over and it looks by itself. */
	ASSERT_EQ(0, cf_task_wait(&poller, &ret, PROMPT));
	EXPECT_EQ(POLLIN, ret);
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
}

/*
 * The number of a descriptor in delivery can be closed and used by nobody, and if the
 * delivery fails, nothing of the daemon's is closed.
 */
static void guess_the_fd(struct __test_metadata *_metadata, struct cf_env *e, bool fail)
{
	int lowest = lowest_fd(), other[8];
	struct cf_result res;
	struct cf_stall st;
	struct cf_reader r;
	struct cf_msg m;
	int ret;

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ret = park(&st, e->dev);
	if (ret == -ENOSYS)
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(0, ret);
	for (int fd = lowest; fd < lowest + 32; fd++) {
		char path[64], link[64] = "";

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (readlink(path, link, sizeof(link) - 1) > 0) {
			EXPECT_STRNE("anon_inode:[cachefiles]", link);
			continue;
		}
		EXPECT_EQ(-1, close(fd));
		EXPECT_EQ(-1, fcntl(fd, F_GETFD));
	}
	for (int i = 0; i < 8; i++) {
		other[i] = dup(0);
		ASSERT_LE(0, other[i]);
	}
	if (fail) {
		EXPECT_EQ(-EFAULT, cf_stall_fail(&st));
	} else {
		ASSERT_LT(0, cf_stall_finish(&st, &m));
	}
	for (int i = 0; i < 8; i++) {
		EXPECT_LE(0, fcntl(other[i], F_GETFD));
		EXPECT_EQ(0, close(other[i]));
	}
	EXPECT_EQ(0, cf_reader_done(&r));
	if (fail) {
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	}
	EXPECT_EQ(O_WRONLY, fcntl(cf_open_fd(&m), F_GETFL) & O_ACCMODE);
	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, 4));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
}

TEST_F(ondemand, d04_fd_is_published_last)
{
	guess_the_fd(_metadata, &self->e, false);
}

TEST_F(ondemand, d04_nothing_else_is_closed)
{
	guess_the_fd(_metadata, &self->e, true);
}

/* --- two descriptors of one object, closed in any order --- */

FIXTURE(handles) {
	struct cf_env e;
};

FIXTURE_VARIANT(handles) {
	bool	newest;		/* which one is closed */
	bool	answered;	/* after copen */
};

FIXTURE_VARIANT_ADD(handles, old_before_copen) {
};

FIXTURE_VARIANT_ADD(handles, old_after_copen) {
	.answered = true,
};

FIXTURE_VARIANT_ADD(handles, new_before_copen) {
	.newest = true,
};

FIXTURE_VARIANT_ADD(handles, new_after_copen) {
	.newest = true, .answered = true,
};

FIXTURE_SETUP(handles)
{
	if (world)
		SKIP(return, "%s", cf_why);
	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	ASSERT_EQ(0, cf_env_init(&self->e));
	ASSERT_EQ(0, cf_env_bind(&self->e));
	ASSERT_EQ(0, cf_env_mount(&self->e));
}

FIXTURE_TEARDOWN(handles)
{
	EXPECT_NE(-ETIMEDOUT, cf_env_exit(&self->e));
}

TEST_F(handles, d05_closed)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_msg m, n;
	struct cf_reader r;
	int old, fd, ret;

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	old = cf_open_fd(&m);
	ASSERT_EQ(0, restore_by_another(e->dev));
	ASSERT_EQ(0, cf_expect(e->dev, &n, CACHEFILES_OP_OPEN, LONG));
	fd = cf_open_fd(&n);
	EXPECT_NE(old, fd);
	EXPECT_NE(m.hdr.object_id, n.hdr.object_id);

	if (!variant->answered)
		close(variant->newest ? fd : old);
	ret = cf_copen(e->dev, n.hdr.msg_id, MB);
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	if (variant->newest && !variant->answered) {
		/* Nobody could fill it; who asks next has it opened anew. */
		EXPECT_EQ(-EBADFD, ret);
		EXPECT_EQ(EBADFD, res.err);
		fd = open_object(e, &r, "file", MB, &n);
		ASSERT_LE(0, fd);
	} else {
		EXPECT_EQ(0, ret);
		EXPECT_EQ(0, res.err);
	}
	if (variant->answered)
		close(variant->newest ? fd : old);

	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	if (variant->newest && variant->answered) {
		ASSERT_EQ(0, cf_expect(e->dev, &n, CACHEFILES_OP_OPEN, LONG));
		fd = cf_open_fd(&n);
		ASSERT_EQ(0, cf_copen(e->dev, n.hdr.msg_id, MB));
	}
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	EXPECT_EQ(n.hdr.object_id, m.hdr.object_id);
	if (variant->newest) {
		EXPECT_EQ(-ENOBUFS, cf_fill(old, 9, 0, 4096, MB));
		EXPECT_EQ(-EINVAL, cf_cread(old, m.hdr.msg_id));
		close(old);
	}
	EXPECT_EQ(1, cf_idle(e->dev));
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
	/* The end is told once, to the one that is left. */
	ASSERT_LE(0, cf_env_umount(e, PROMPT));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_CLOSE, LONG));
	EXPECT_EQ(fd, (int)cf_close(&m)->fd);
	EXPECT_EQ(1, cf_idle(e->dev));
	close(fd);
}

/* --- deliveries that fail --- */

/* Each way to fail, many times over, leaves everything as it was. */
TEST_F(ondemand, d13_failed_deliveries_leave_nothing)
{
	struct cf_env *e = &self->e;
	struct rlimit old, full;
	struct cf_result res;
	struct cf_stall st;
	struct cf_reader r;
	struct cf_msg m;
	void *nowhere;
	int lowest, fd, ret;

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	/* A place that read(2) does not refuse by itself. */
	nowhere = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, nowhere);
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &old));
	lowest = lowest_fd();
	full = old;
	full.rlim_cur = lowest;
	for (int i = 0; i < 5; i++) {
		EXPECT_EQ(-1, read(e->dev, nowhere, sizeof(m)));
		EXPECT_EQ(EFAULT, errno);
		EXPECT_EQ(lowest, lowest_fd());
		ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &full));
		EXPECT_EQ(-EMFILE, cf_read(e->dev, &m));
		ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &old));
		ret = park(&st, e->dev);
		if (ret == -ENOSYS)
			SKIP(return, "no userfaultfd");
		ASSERT_EQ(0, ret);
		/* Not to be answered, neither in the copy nor after it has failed. */
		for (__u32 id = 0; id < 16; id++) {
			EXPECT_EQ(-EINVAL, cf_copen(e->dev, id, 1));
		}
		EXPECT_EQ(-EFAULT, cf_stall_fail(&st));
		for (__u32 id = 0; id < 16; id++) {
			EXPECT_EQ(-EINVAL, cf_copen(e->dev, id, 1));
		}
		EXPECT_EQ(lowest, lowest_fd());
	}
	EXPECT_EQ(0, cf_reader_done(&r));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	fd = cf_open_fd(&m);
	EXPECT_EQ(lowest, fd);
	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(4096, cf_fill(fd, 1, 0, 4096, MB));
	EXPECT_EQ(4096, read_here(e, "file", 1, 0, 4096));
	ASSERT_LE(0, cf_env_umount(e, PROMPT));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_CLOSE, LONG));
	EXPECT_EQ(1, cf_idle(e->dev));
	close(fd);
}

TEST_HARNESS_MAIN
