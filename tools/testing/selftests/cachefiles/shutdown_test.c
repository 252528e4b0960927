// SPDX-License-Identifier: GPL-2.0-only
/*
 * When the device is closed everything outstanding ends with EIO at once, the
 * mount can go, and a new cache can come, whatever descriptors are left over.
 */
#include "harness.h"
#include "lib/delay.h"
#include "lib/task.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>

struct outstanding {
	struct cf_reader	r[5];
	int			fd;
	struct cf_msg		rd;
};

/* An OPEN and a READ that were handed out, an OPEN and a READ that were not. */
static int make_outstanding(struct cf_env *e, struct outstanding *o)
{
	struct cf_msg m;
	int ret;

	o->fd = open_object(e, &o->r[0], "file", MB, &m);
	if (o->fd < 0)
		return o->fd;
	if (cf_fill(o->fd, 1, 65536, 4096, MB) != 4096)
		return -EIO;
	ret = start_stat(e, &o->r[0], "open-sent");
	if (!ret)
		ret = cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG);
	if (!ret)
		ret = start_read(e, &o->r[1], "file", 1, 0, 4096);
	if (!ret)
		ret = cf_expect(e->dev, &o->rd, CACHEFILES_OP_READ, LONG);
	if (!ret)
		ret = start_read(e, &o->r[2], "file", 1, 8192, 4096);
	if (!ret)
		ret = start_stat(e, &o->r[3], "open-queued");
	/* A stream has windows under way when it happens. */
	if (!ret)
		ret = start_stream(e, &o->r[4], "file", 1, 131072, MB - 131072);
	if (!ret)
		ret = cf_poll(o->r[4].pipe, POLLIN, cf_ms(BRIEF)) ? -EPROTO : 0;
	/* Whoever has not asked by now would ask the next cache, which nobody serves. */
	for (int i = 2; !ret && i < 5; i++)
		ret = cf_task_blocks(o->r[i].pid, LONG);
	return ret;
}

static void all_ended(struct __test_metadata *_metadata, struct outstanding *o)
{
	struct cf_result res;

	for (int i = 0; i < 5; i++) {
		ASSERT_EQ(0, cf_reader_wait(&o->r[i], &res, PROMPT)) {
			TH_LOG("reader %d hangs", i);
		}
		EXPECT_EQ(EIO, res.err) {
			TH_LOG("reader %d", i);
		}
	}
}

TEST_F(ondemand, everything_outstanding)
{
	struct cf_env *e = &self->e;
	struct outstanding o;
	struct cf_result res;
	struct cf_reader r;

	ASSERT_EQ(0, make_outstanding(e, &o));
	close(e->dev);
	e->dev = -1;
	all_ended(_metadata, &o);

	/* The old descriptor is dead, the mount too, but nothing hangs. */
	EXPECT_EQ(-EIO, cf_fill(o.fd, 1, 0, 4096, MB));
	EXPECT_EQ(-EINVAL, cf_cread(o.fd, o.rd.hdr.msg_id));
	ASSERT_EQ(0, start_stat(e, &r, "other"));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, PROMPT));
	EXPECT_EQ(EIO, res.err);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 16384, 4096));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, PROMPT));
	EXPECT_EQ(EIO, res.err);
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
	close(o.fd);
}

/* The object's descriptor stays open, here, and in nobody's way. */
TEST_F(ondemand, d37_new_cache_at_once)
{
	struct cf_env *e = &self->e;
	struct outstanding o;
	struct cf_reader r;
	struct cf_msg m;

	ASSERT_EQ(0, make_outstanding(e, &o));
	ASSERT_EQ(0, cf_env_rebind(e));
	all_ended(_metadata, &o);
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
	ASSERT_EQ(0, cf_env_mount(e));
	EXPECT_LE(0, open_object(e, &r, "file", MB, &m));
	/* What was written before the end is there still. */
	EXPECT_EQ(4096, read_here(e, "file", 1, 65536, 4096));
	EXPECT_EQ(1, cf_idle(e->dev));
	EXPECT_EQ(-EIO, cf_fill(o.fd, 1, 0, 4096, MB));
	close(o.fd);
}

/* A daemon that serves "file" of @size bytes in what comes after the cache of the fixture. */
static int serve_again(struct cf_env *e, struct cf_server *s, __u64 size)
{
	int ret = cf_env_rebind(e);

	if (!ret)
		ret = cf_server_init(s, e->dev);
	if (!ret && !cf_server_add(s, "file", size, 1))
		ret = -ENOSPC;
	return ret ? ret : cf_server_thread(s);
}

/* Reads a page through a descriptor: 0, an errno, or EBADMSG if it is not what it should be. */
static int page_errno(int fd, off_t off)
{
	unsigned char page[4096];

	if (pread(fd, page, sizeof(page), off) != sizeof(page))
		return errno;
	return cf_differs(1, off, page, sizeof(page)) < 0 ? 0 : EBADMSG;
}

/* Opening a file under the mount that has stayed brings it back, for those who had it open. */
TEST_F(ondemand, comes_back)
{
	struct cf_env *e = &self->e;
	static struct cf_server s;
	char path[160];
	int fd, held, again;
	struct cf_reader r;
	struct cf_msg m;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(4096, cf_fill(fd, 1, 0, 4096, MB));
	snprintf(path, sizeof(path), "%s/file", e->mnt);
	held = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, held);
	ASSERT_EQ(0, posix_fadvise(held, 0, 0, POSIX_FADV_RANDOM));
	ASSERT_EQ(0, serve_again(e, &s, MB));
	close(fd);

	/* Nobody has asked for it yet. */
	EXPECT_EQ(EIO, page_errno(held, 65536));
	EXPECT_EQ(0, s.stats->opens);
	again = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, again);
	EXPECT_EQ(1, s.stats->opens);
	EXPECT_EQ(0, page_errno(held, 65536));
	EXPECT_EQ(0, page_errno(again, 131072));
	EXPECT_EQ(2, s.stats->reads);
	/* What was written in the first life of the cache is there. */
	EXPECT_EQ(0, page_errno(held, 0));
	EXPECT_EQ(2, s.stats->reads);
	close(again);
	close(held);
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
	cf_server_stop(&s);
}

/* A file of another size is another file, while somebody has the old one. */
static void with_another_size(struct __test_metadata *_metadata, struct cf_env *e, long long size)
{
	static struct cf_server s;
	struct cf_reader r;
	struct cf_msg m;
	struct stat st;
	char path[160];
	int fd, held;

	fd = open_object(e, &r, "file", size, &m);
	ASSERT_LE(0, fd);
	if (size) {
		ASSERT_EQ(4096, cf_fill(fd, 1, 0, 4096, size));
	}
	snprintf(path, sizeof(path), "%s/file", e->mnt);
	held = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, held);
	ASSERT_EQ(0, serve_again(e, &s, 2 * MB));
	close(fd);

	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(-1, open(path, O_RDONLY | O_CLOEXEC));
		EXPECT_EQ(ESTALE, errno);
		for (off_t off = 0; off < size; off += MB / 4) {
			EXPECT_EQ(EIO, page_errno(held, off));
		}
	}
	ASSERT_EQ(0, fstat(held, &st));
	EXPECT_EQ(size, st.st_size);
	EXPECT_EQ(0, s.stats->reads);
	close(held);

	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, fstat(fd, &st));
	EXPECT_EQ((long long)(2 * MB), st.st_size);
	EXPECT_EQ(0, page_errno(fd, 0));
	EXPECT_EQ(0, page_errno(fd, 2 * MB - 4096));
	close(fd);
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
	cf_server_stop(&s);
}

TEST_F(ondemand, comes_back_with_another_size)
{
	with_another_size(_metadata, &self->e, MB);
}

/* To the cache, a size of nothing is none that it knows. */
TEST_F(ondemand, comes_back_empty_no_more)
{
	with_another_size(_metadata, &self->e, 0);
}

/* Who waits for it to come back can be killed, and the answer is there for the next one. */
TEST_F(ondemand, comes_back_for_the_next)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	char path[160];
	int fd, held;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	snprintf(path, sizeof(path), "%s/file", e->mnt);
	held = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, held);
	ASSERT_EQ(0, cf_env_rebind(e));
	close(fd);

	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	EXPECT_LE(0, cf_reader_kill(&r, PROMPT));

	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, MB));
	fd = cf_open_fd(&m);
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
	EXPECT_EQ(0, page_errno(held, 0));
	close(held);
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
	close(fd);
}

/* The names of what a process has open that belongs to a cache. */
static int cache_fds(pid_t pid)
{
	char dir[64], path[330], to[256];
	struct dirent *de;
	int nr = 0;
	DIR *d;

	snprintf(dir, sizeof(dir), "/proc/%d/fd", pid);
	d = opendir(dir);
	if (!d)
		return -errno;
	while ((de = readdir(d))) {
		ssize_t n;

		snprintf(path, sizeof(path), "%s/%s", dir, de->d_name);
		n = readlink(path, to, sizeof(to) - 1);
		if (n < 0)
			continue;
		to[n] = '\0';
		nr += !strcmp(to, CF_DEVICE) || strstr(to, "[cachefiles]");
	}
	closedir(d);
	return nr;
}

/* A daemon that opens an object, starts a helper, says its pid and goes on. */
static void daemon_with_helper(int dev, int out)
{
	struct cf_msg m;
	pid_t pid;

	if (cf_expect(dev, &m, CACHEFILES_OP_OPEN, LONG) ||
	    cf_copen(dev, m.hdr.msg_id, MB))
		_exit(1);
	pid = fork();
	if (!pid) {
		execlp("sleep", "sleep", "1000", NULL);
		_exit(1);
	}
	if (write(out, &pid, sizeof(pid)) != sizeof(pid))
		_exit(1);
	for (;;)
		pause();
}

/* What the daemon has started lives on, and holds nothing of the cache. */
TEST_F(ondemand, d37_helper_outlives_daemon)
{
	struct cf_env *e = &self->e;
	pid_t daemon, helper = 0;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int out[2];

	ASSERT_EQ(0, pipe2(out, O_CLOEXEC));
	daemon = fork();
	ASSERT_LE(0, daemon);
	if (!daemon)
		daemon_with_helper(e->dev, out[1]);
	close(out[1]);
	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	ASSERT_EQ(0, res.err);
	ASSERT_EQ((ssize_t)sizeof(helper), read(out[0], &helper, sizeof(helper)));
	EXPECT_EQ(2, cache_fds(daemon));
	/* The end of the pipe says that the helper has executed its program. */
	kill(daemon, SIGKILL);
	ASSERT_EQ(daemon, waitpid(daemon, NULL, 0));
	EXPECT_EQ(0, read(out[0], &helper, sizeof(helper)));
	EXPECT_EQ(0, cache_fds(helper));

	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	EXPECT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	/* Ours is the last descriptor of the device: a new cache comes at once. */
	ASSERT_EQ(0, cf_env_rebind(e));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, 5000));
	EXPECT_EQ(EIO, res.err);
	EXPECT_EQ(0, kill(helper, 0));
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
	ASSERT_EQ(0, cf_env_mount(e));
	EXPECT_LE(0, open_object(e, &r, "file", MB, &m));
	kill(helper, SIGKILL);
	close(out[0]);
}

/* The only holder of the device is killed: its end is the end of the cache. */
TEST_F(ondemand, holder_killed)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r[2];

	ASSERT_NE(NULL, cf_server_add(&self->s, "file", MB, 1));
	cf_server_rule(&self->s, CACHEFILES_OP_READ, 3, CF_GOT, CF_STALL, 0);
	ASSERT_EQ(0, cf_server_fork(&self->s, false));
	close(e->dev);
	e->dev = -1;
	ASSERT_EQ(0, start_read(e, &r[0], "file", 1, 0, MB));
	EXPECT_EQ(-ETIMEDOUT, cf_reader_wait(&r[0], &res, BRIEF));
	cf_server_stop(&self->s);
	ASSERT_EQ(0, cf_reader_wait(&r[0], &res, PROMPT));
	EXPECT_EQ(EIO, res.err);
	EXPECT_EQ(-1, res.bad);
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
}

/* Nobody ever bound it, or nothing ever happened: no fuss. */
TEST_F(device, unused)
{
	close(self->e.dev);
	self->e.dev = cf_device();
	ASSERT_LE(0, self->e.dev);
	ASSERT_EQ(0, cf_env_bind(&self->e));
}

/* Over and over: bind, mount, ask, close in the middle, unmount. */
TEST_F_TIMEOUT(device, churn, 90)
{
	struct cf_env *e = &self->e;
	struct outstanding o;

	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	ASSERT_EQ(0, cf_env_bind(e));
	for (int i = 0; i < 10; i++) {
		ASSERT_EQ(0, cf_env_mount(e));
		ASSERT_EQ(0, make_outstanding(e, &o));
		ASSERT_EQ(0, cf_env_rebind(e));
		all_ended(_metadata, &o);
		ASSERT_LE(0, cf_env_umount(e, PROMPT));
		close(o.fd);
	}
}

struct parting {
	int	fd;		/* what nobody is to have any more */
	int	go[2];		/* nobody else has it when this is at its end */
};

/* Leave a descriptor to sockets that only refer to themselves. */
static int throw_away(void *arg)
{
	char control[CMSG_SPACE(2 * sizeof(int))] = { };
	const struct parting *p = arg;
	struct iovec iov = { .iov_base = control, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	int sv[2];
	char byte;

	close(p->go[1]);
	if (read(p->go[0], &byte, 1) || socketpair(AF_UNIX, SOCK_DGRAM, 0, sv))
		return errno;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(2 * sizeof(int));
	memcpy(CMSG_DATA(c), (int [2]) { p->fd, sv[0] }, 2 * sizeof(int));
	if (sendmsg(sv[1], &msg, 0) != 1)
		return errno;
	close(p->fd);
	close(sv[0]);
	close(sv[1]);
	return 0;
}

/* A child throws @fd away as the last who has it. */
static void last_of(struct __test_metadata *_metadata, int fd)
{
	struct parting p = { .fd = fd };
	int status;
	pid_t pid;

	ASSERT_EQ(0, pipe(p.go));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(throw_away(&p));
	close(fd);
	close(p.go[0]);
	close(p.go[1]);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/*
 * The kernel may be the one who closes the device. It closes files of others as well, and
 * those of the cache, and does not wait for its end.
 */
TEST_F_TIMEOUT(ondemand, d36_closed_by_the_kernel, 60)
{
	struct cf_env *e = &self->e;
	int trap, p[2];

	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	ASSERT_LE(0, cf_env_umount(e, LONG));
	trap = cf_delay_arm("teardown", 0);
	ASSERT_LE(0, trap);
	last_of(_metadata, e->dev);
	e->dev = -1;
	ASSERT_LT(0, cf_delay_caught(trap, LONG));

	ASSERT_EQ(0, pipe(p));
	last_of(_metadata, p[1]);
	EXPECT_EQ(POLLHUP, cf_poll(p[0], POLLIN, cf_ms(LONG)));
	close(p[0]);
	EXPECT_EQ(0, cf_delay_go(trap));

	e->dev = cf_device();
	ASSERT_LE(0, e->dev);
	EXPECT_EQ(0, cf_env_bind(e));
}

TEST_HARNESS_MAIN
