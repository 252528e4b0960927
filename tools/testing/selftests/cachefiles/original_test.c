// SPDX-License-Identifier: GPL-2.0-only
/*
 * A cache bound without an argument keeps what a network file system stores, gives it
 * back as long as it is the same, and tells its daemon how it goes.
 */
#include "harness.h"
#include "lib/task.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "lib/delay.h"

static const unsigned char aux[] = { 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88 };

/* --- the device --- */

TEST_F(device, bind_without_argument)
{
	static const char *const how[] = {
		"bind", "bind ", "bind \t ", "bind\n", "bind\nondemand",
	};

	for (size_t i = 0; i < ARRAY_SIZE(how); i++) {
		struct cf_env *e = &self->e;
		char byte;

		EXPECT_EQ(0, read(e->dev, &byte, 1));
		ASSERT_EQ(0, cf_cmd(e->dev, "dir %s", e->dir));
		ASSERT_EQ(0, cf_cmd(e->dev, "tag %s", e->tag));
		EXPECT_EQ(0, cf_cmd(e->dev, "nocull"));
		ASSERT_EQ(0, cf_cmd(e->dev, "%s", how[i]));
		EXPECT_EQ(-EBUSY, cf_cmd(e->dev, "bind"));
		EXPECT_EQ(-EOPNOTSUPP, cf_cmd(e->dev, "restore"));
		EXPECT_EQ(-EOPNOTSUPP, cf_cmd(e->dev, "copen 0,1"));
		EXPECT_EQ(0, cf_cmd(e->dev, "nocull"));
		EXPECT_EQ(0, cf_poll(e->dev, POLLIN | POLLOUT, 0));
		close(e->dev);
		e->dev = cf_device();
		ASSERT_LE(0, e->dev);
	}
}

TEST_F(original, statistics)
{
	struct cf_env *e = &self->e;
	struct cf_statistics s;
	struct statfs st;

	ASSERT_EQ(0, statfs(e->dir, &st));
	ASSERT_EQ(0, cf_statistics(e->dev, &s));
	EXPECT_EQ(0, s.cull);
	EXPECT_EQ(st.f_files / 100 * 7, s.frun);
	EXPECT_EQ(st.f_files / 100 * 5, s.fcull);
	EXPECT_EQ(st.f_files / 100 * 1, s.fstop);
	EXPECT_EQ(st.f_blocks / 100 * 7, s.brun);
	EXPECT_EQ(st.f_blocks / 100 * 5, s.bcull);
	EXPECT_EQ(st.f_blocks / 100 * 1, s.bstop);
	EXPECT_EQ(0, s.freleased);
	EXPECT_EQ(0, s.breleased);

	/* Percentages count at once. */
	ASSERT_EQ(0, cf_cmd(e->dev, "brun 40%%"));
	ASSERT_EQ(0, cf_cmd(e->dev, "fcull 6%%"));
	ASSERT_EQ(0, cf_statistics(e->dev, &s));
	EXPECT_EQ(st.f_blocks / 100 * 40, s.brun);
	EXPECT_EQ(st.f_files / 100 * 6, s.fcull);
	EXPECT_EQ(st.f_blocks / 100 * 5, s.bcull);

	/* No end of file, and the position is of no consequence. */
	EXPECT_EQ(0, lseek(e->dev, 0, SEEK_CUR));
	EXPECT_EQ(0, cf_statistics(e->dev, &s));
}

/* Store a file of @size and let it go: its st_blocks. */
static int leave_file(struct __test_metadata *_metadata, struct cf_env *e, int nf, int vol,
		      const char *name, __u64 seed, __u64 size)
{
	char path[512];
	struct stat st;
	int c = cf_nf_file(nf, vol, name, aux, sizeof(aux), size, false);

	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_fill(nf, c, seed, size));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	ASSERT_EQ(0, cf_nf_path(e->dir, e->volume, name, strlen(name), path, sizeof(path)));
	ASSERT_EQ(0, stat(path, &st));
	return (int)st.st_blocks;
}

/* What a read that fails would have told is told by the next one. */
TEST_F(original, consumed_on_success_only)
{
	struct cf_env *e = &self->e;
	struct cf_statistics s;
	char line[4096], *page;
	ssize_t len;
	int blocks;

	ASSERT_EQ(0, cf_poll(e->dev, POLLIN | POLLOUT, 0));
	blocks = leave_file(_metadata, e, self->nf, self->vol, "a", 1, 70000);
	blocks += leave_file(_metadata, e, self->nf, self->vol, "b", 2, 5000);
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN | POLLOUT, cf_ms(LONG)));

	page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, page);
	ASSERT_EQ(0, munmap(page + 4096, 4096));
	for (int n = 0; n < 60; n += 3) {
		EXPECT_EQ(-1, read(e->dev, line, n));
		EXPECT_EQ(EMSGSIZE, errno);
		EXPECT_EQ(POLLIN, cf_poll(e->dev, POLLIN, 0));
	}
	EXPECT_EQ(-1, read(e->dev, page + 4096 - 10, 4096));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, read(e->dev, (void *)-8192UL, 4096));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(POLLIN, cf_poll(e->dev, POLLIN, 0));
	munmap(page, 4096);

	ASSERT_EQ(0, cf_statistics(e->dev, &s));
	EXPECT_EQ(2, s.freleased);
	EXPECT_EQ((unsigned long long)blocks, s.breleased);
	EXPECT_EQ(0, cf_poll(e->dev, POLLIN | POLLOUT, 0));
	len = read(e->dev, line, sizeof(line));
	ASSERT_LT(0, len);
	EXPECT_EQ(-1, read(e->dev, line, len - 1));
	EXPECT_EQ(EMSGSIZE, errno);
	EXPECT_EQ(len, read(e->dev, line, len));
	ASSERT_EQ(0, cf_statistics(e->dev, &s));
	EXPECT_EQ(0, s.freleased);
	EXPECT_EQ(0, s.breleased);
}

/*
 * While one reader's line is on its way, another one is told of what comes after that; what
 * the first one does not get is told by the next.
 */
TEST_F(original, told_once)
{
	struct cf_env *e = &self->e;
	struct cf_statistics s;
	struct cf_stall first;
	int ret, before, after;
	struct cf_msg m;
	char want[64];

	for (int fails = 0; fails < 2; fails++) {
		before = leave_file(_metadata, e, self->nf, self->vol, "a", 1, 70000);
		if (cf_stall_start(&first, e->dev))
			SKIP(return, "no userfaultfd");
		ASSERT_EQ(0, cf_stall_parked(&first, LONG));
		after = leave_file(_metadata, e, self->nf, self->vol, "b", 2, 5000);
		ASSERT_EQ(0, cf_statistics(e->dev, &s));
		EXPECT_EQ(1, s.freleased);
		EXPECT_EQ((unsigned long long)after, s.breleased);
		EXPECT_EQ(0, cf_poll(e->dev, POLLIN, 0));

		if (fails) {
			EXPECT_EQ(-EFAULT, cf_stall_fail(&first));
			EXPECT_EQ(POLLIN, cf_poll(e->dev, POLLIN, 0));
			ASSERT_EQ(0, cf_statistics(e->dev, &s));
			EXPECT_EQ(1, s.freleased);
			EXPECT_EQ((unsigned long long)before, s.breleased);
		} else {
			ret = cf_stall_finish(&first, &m);
			ASSERT_LT(0, ret);
			m.raw[ret] = '\0';
			snprintf(want, sizeof(want), " freleased=1 breleased=%x", before);
			EXPECT_NE(NULL, strstr((char *)m.raw, want)) {
				TH_LOG("told: %s", (char *)m.raw);
			}
		}
		EXPECT_EQ(0, cf_poll(e->dev, POLLIN, 0));
		ASSERT_EQ(0, cf_statistics(e->dev, &s));
		EXPECT_EQ(0, s.freleased);
		EXPECT_EQ(0, s.breleased);
	}
}

struct wake {
	int	dev;
	short	events;
};

static int wait_for_events(void *arg)
{
	struct wake *w = arg;
	long long start = cf_now();
	int ret = cf_poll(w->dev, w->events, cf_ms(2 * LONG));

	/* The kernel looks once more in the end; that is not being woken. */
	return ret & w->events && cf_now() - start < cf_ms(LONG) ? 0 : ETIMEDOUT;
}

/* Poll in a child, until it sleeps; cf_child() closes what it does not know. */
static int start_poll(struct cf_reader *r, struct wake *w)
{
	pid_t pid;
	char byte;
	int p[2];

	if (pipe2(p, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid) {
		struct cf_result res = { .stage = 'd', .bad = -1 };
		ssize_t n;

		cf_close_others((int[]){ w->dev, p[1] }, 2);
		n = write(p[1], "", 1);
		res.err = wait_for_events(w);
		n = write(p[1], &res, sizeof(res));
		_exit(n == sizeof(res) ? 0 : 1);
	}
	close(p[1]);
	r->pid = pid;
	r->pipe = p[0];
	r->pidfd = cf_pidfd(pid);
	return read(p[0], &byte, 1) == 1 ? cf_task_sleeps(pid, LONG) : -EPIPE;
}

/* A daemon that sleeps in poll is woken by what poll reports. */
TEST_F_TIMEOUT(original, poll_wakes, 60)
{
	struct cf_env *e = &self->e;
	struct wake in = { .dev = e->dev, .events = POLLIN };
	struct cf_statistics s;
	struct cf_result res;
	struct cf_reader r;

	ASSERT_EQ(0, start_poll(&r, &in));
	leave_file(_metadata, e, self->nf, self->vol, "file", 1, 4096);
	ASSERT_EQ(0, cf_reader_wait(&r, &res, 3 * LONG));
	EXPECT_EQ(0, res.err);
	ASSERT_EQ(0, cf_statistics(e->dev, &s));
	EXPECT_EQ(1, s.freleased);
}

/* Per cent of the store that are free. */
static int free_space(struct cf_env *e)
{
	struct statfs st;

	return statfs(e->dir, &st) ? -errno : (int)(st.f_bavail * 100 / st.f_blocks);
}

/* Take space until less than @below per cent are free, or give it back until @above are. */
static int put_ballast(struct cf_env *e, off_t size, int above, int below)
{
	long long end = cf_now() + cf_ms(LONG);
	char path[160];
	int fd, ret = 0;

	snprintf(path, sizeof(path), "%s/ballast", e->dir);
	unlink(path);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (size)
		ret = -posix_fallocate(fd, 0, size);
	/* What is taken, and what was deleted, shows when the file system has come to it. */
	while (!ret && (free_space(e) <= above || free_space(e) >= below)) {
		syncfs(fd);
		if (cf_now() > end)
			ret = -ETIMEDOUT;
	}
	close(fd);
	return ret;
}

TEST_F(device, culling)
{
	struct cf_env *e = &self->e;
	struct cf_statistics s;
	int most, run, cull;

	ASSERT_EQ(0, cf_env_store(e, 320 * MB, backing_fs()));
	most = free_space(e);
	run = most - 3;
	cull = most - 25;
	ASSERT_EQ(0, put_ballast(e, 160 * MB, 0, cull));
	ASSERT_EQ(0, cf_cmd(e->dev, "brun %d%%", run));
	ASSERT_EQ(0, cf_cmd(e->dev, "bcull %d%%", cull));
	ASSERT_EQ(0, cf_env_bind_original(e));
	EXPECT_EQ(POLLIN | POLLOUT, cf_poll(e->dev, POLLIN | POLLOUT, cf_ms(LONG)));
	ASSERT_EQ(0, cf_statistics(e->dev, &s));
	EXPECT_EQ(1, s.cull);
	EXPECT_EQ(POLLOUT, cf_poll(e->dev, POLLIN | POLLOUT, 0));

	/* It ends at the higher limit, not at the one where it began. */
	ASSERT_EQ(0, put_ballast(e, 45 * MB, cull, run));
	ASSERT_EQ(0, cf_statistics(e->dev, &s));
	EXPECT_EQ(1, s.cull);
	ASSERT_EQ(0, put_ballast(e, 0, run, 101));
	ASSERT_EQ(0, cf_statistics(e->dev, &s));
	EXPECT_EQ(0, s.cull);
	EXPECT_EQ(0, cf_poll(e->dev, POLLOUT, 0));

	ASSERT_EQ(0, put_ballast(e, 160 * MB, 0, cull));
	ASSERT_EQ(0, cf_statistics(e->dev, &s));
	EXPECT_EQ(1, s.cull);
	EXPECT_EQ(POLLOUT, cf_poll(e->dev, POLLOUT, 0));

	/* Other limits, and it is over: poll says so. */
	cf_statistics(e->dev, &s);
	ASSERT_EQ(0, cf_poll(e->dev, POLLIN, 0));
	ASSERT_EQ(0, cf_cmd(e->dev, "bcull 10%%"));
	ASSERT_EQ(0, cf_cmd(e->dev, "brun 20%%"));
	EXPECT_EQ(POLLIN, cf_poll(e->dev, POLLIN | POLLOUT, cf_ms(LONG)));
	ASSERT_EQ(0, cf_statistics(e->dev, &s));
	EXPECT_EQ(0, s.cull);
	EXPECT_EQ(0, cf_poll(e->dev, POLLIN | POLLOUT, 0));
}

/* --- files --- */

static void expect_on_disk(struct __test_metadata *_metadata, const char *path, __u64 size,
			   unsigned char content, const void *a, size_t a_len)
{
	unsigned char want[300], have[300];
	size_t len = cf_nf_xattr(want, size, content, a, a_len);
	struct stat st;

	ASSERT_EQ(0, stat(path, &st)) {
		TH_LOG("%s: %s", path, strerror(errno));
	}
	EXPECT_EQ(CF_ROUND_UP(size), (__u64)st.st_size);
	EXPECT_EQ(1, S_ISREG(st.st_mode));
	EXPECT_EQ((ssize_t)len, getxattr(path, CF_XATTR, have, sizeof(have)));
	EXPECT_EQ(0, memcmp(want, have, len));
}

/* All that a file goes through when it is read for the first time, and again. */
static void cold_and_warm(struct __test_metadata *_metadata, struct cf_env *e, int nf, int vol,
			  const char *name, __u64 seed, __u64 size)
{
	__u64 all = CF_ROUND_UP(size);
	struct cf_fetch f;
	char path[512];
	int c, flags;

	c = cf_nf_file(nf, vol, name, aux, sizeof(aux), size, false);
	ASSERT_LT(0, c);
	EXPECT_EQ(CF_ACTIVE, cf_nf_state(nf, c));
	EXPECT_EQ(CF_NO_DATA_TO_READ, cf_nf_flags(nf, c) & (CF_NO_DATA_TO_READ | CF_HAVE_DATA));
	ASSERT_EQ(0, cf_nf_fetch(nf, c, seed, 0, all, size, &f, NULL));
	EXPECT_EQ(all, f.copy);
	EXPECT_EQ(0, f.cached + f.zeroes + f.err);

	ASSERT_EQ(0, cf_nf_store(nf, c, seed, 0, all, size));
	flags = cf_nf_flags(nf, c);
	EXPECT_EQ(CF_NO_DATA_TO_READ | CF_HAVE_DATA, flags & (CF_NO_DATA_TO_READ | CF_HAVE_DATA));
	/* The pages still have it. Nobody looks for it here. */
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, all, size));
	ASSERT_EQ(0, cf_nf_note_release(nf, c));
	EXPECT_EQ(0, cf_nf_flags(nf, c) & CF_NO_DATA_TO_READ);
	EXPECT_EQ(0, cf_nf_check(nf, c, seed, 0, all, size));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));

	ASSERT_EQ(0, cf_nf_path(e->dir, e->volume, name, strlen(name), path, sizeof(path)));
	expect_on_disk(_metadata, path, size, CF_CLEAN, aux, sizeof(aux));

	c = cf_nf_file(nf, vol, name, aux, sizeof(aux), size, false);
	ASSERT_LT(0, c);
	EXPECT_EQ(0, cf_nf_flags(nf, c) & CF_NO_DATA_TO_READ);
	EXPECT_EQ(0, cf_nf_check(nf, c, seed, 0, all, size));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

TEST_F(original, cold_and_warm)
{
	static const __u64 sizes[] = { 1, 4095, 4096, 4097, 1234567, 3 * MB };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		char name[32];

		snprintf(name, sizeof(name), "file%llu", sizes[i]);
		cold_and_warm(_metadata, &self->e, self->nf, self->vol, name, i, sizes[i]);
	}
}

/* A look-up that fails: from now on the file system may write what the cache does not see. */
static void miss(struct __test_metadata *_metadata, int nf, int vol, const char *name)
{
	ASSERT_EQ(0, cf_error_injection(1));
	EXPECT_EQ(-ENOBUFS, cf_nf_file(nf, vol, name, NULL, 0, MB, true));
	ASSERT_EQ(0, cf_error_injection(0));
}

/*
 * FS-Cache lets go of a file that nobody has used for ten seconds. Who opens it to write
 * after that has written nothing before, unless the cache has missed something meanwhile.
 */
TEST_F_TIMEOUT(original, unused_for_a_while, 60)
{
	static const char *const names[] = { "right", "doubtful" };
	int nf = self->nf, c[2];

	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	/* If the volume itself can't be attached, much more is doubtful. */
	c[0] = cf_nf_file(nf, self->vol, "first", NULL, 0, MB, false);
	ASSERT_LT(0, c[0]);
	ASSERT_EQ(0, cf_nf_detach(nf, c[0], false));
	miss(_metadata, nf, self->vol, "before");
	for (int i = 0; i < 2; i++) {
		c[i] = cf_nf_file(nf, self->vol, names[i], NULL, 0, MB, false);
		ASSERT_LT(0, c[i]);
		ASSERT_EQ(0, cf_nf_fill(nf, c[i], i, MB));
		ASSERT_EQ(0, cf_nf_unuse(nf, c[i]));
	}
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, cf_nf_wait(nf, c[i], CF_STATE(CF_QUIESCENT), 0, 0, 30000, NULL));
	}
	ASSERT_EQ(0, cf_nf_attach(nf, c[0], true));
	EXPECT_EQ(0, cf_nf_check(nf, c[0], 0, 0, MB, MB));
	miss(_metadata, nf, self->vol, "after");
	ASSERT_EQ(0, cf_nf_attach(nf, c[1], true));
	EXPECT_EQ(0, cf_nf_absent(nf, c[1], 0, MB, MB));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, cf_nf_detach(nf, c[i], false));
	}
}

/* Far beyond 4 GiB, with holes all over. */
TEST_F(original, huge_and_sparse)
{
	static const __u64 at[] = { 0, 0x7fffffff000, 0x100000000, 0xfffff000, 0x100001000 };
	const __u64 size = 0x7fffffff000 + 4000;
	int c = cf_nf_file(self->nf, self->vol, "huge", NULL, 0, size, false);

	if (c < 0 && strcmp(backing_fs(), "ext4"))
		SKIP(return, "not on %s", backing_fs());
	ASSERT_LT(0, c);
	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		ASSERT_EQ(0, cf_nf_store(self->nf, c, 9, at[i], 4096, size));
	}
	ASSERT_EQ(0, cf_nf_note_release(self->nf, c));
	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		EXPECT_EQ(0, cf_nf_check(self->nf, c, 9, at[i], 4096, size));
	}
	EXPECT_EQ(0, cf_nf_absent(self->nf, c, 4096, MB, size));
	EXPECT_EQ(0, cf_nf_absent(self->nf, c, 0x100002000, MB, size));
	EXPECT_EQ(0, cf_nf_detach(self->nf, c, false));
}

TEST_F(original, empty_file)
{
	struct cf_fetch f;
	char path[512];
	int c = cf_nf_file(self->nf, self->vol, "empty", aux, 2, 0, false);

	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_fetch(self->nf, c, 0, 0, 8192, 0, &f, NULL));
	EXPECT_EQ(8192, f.zeroes);
	ASSERT_EQ(0, cf_nf_detach(self->nf, c, false));
	ASSERT_EQ(0, cf_nf_path(self->e.dir, self->e.volume, "empty", 5, path, sizeof(path)));
	expect_on_disk(_metadata, path, 0, CF_CLEAN, aux, 2);
}

TEST_F(original, two_cookies)
{
	int nf = self->nf, a, b;

	a = cf_nf_file(nf, self->vol, "a", aux, sizeof(aux), 100000, false);
	b = cf_nf_file(nf, self->vol, "b", aux, sizeof(aux), 100000, false);
	ASSERT_LT(0, a);
	ASSERT_LT(0, b);
	ASSERT_EQ(0, cf_nf_store(nf, a, 1, 0, 40960, 100000));
	ASSERT_EQ(0, cf_nf_store(nf, b, 2, 40960, 40960, 100000));
	ASSERT_EQ(0, cf_nf_note_release(nf, a));
	ASSERT_EQ(0, cf_nf_note_release(nf, b));
	EXPECT_EQ(0, cf_nf_check(nf, a, 1, 0, 40960, 100000));
	EXPECT_EQ(0, cf_nf_check(nf, b, 2, 40960, 40960, 100000));
	EXPECT_EQ(0, cf_nf_absent(nf, a, 40960, 40960, 100000));
	EXPECT_EQ(0, cf_nf_absent(nf, b, 0, 40960, 100000));
	ASSERT_EQ(0, cf_nf_detach(nf, a, true));
	EXPECT_EQ(0, cf_nf_check(nf, b, 2, 40960, 40960, 100000));
	ASSERT_EQ(0, cf_nf_detach(nf, b, false));
}

/* Without users for ten seconds, the file is closed; the next user finds it again. */
TEST_F_TIMEOUT(original, d75_d76_left_alone, 120)
{
	struct cf_env *e = &self->e;
	int nf = self->nf, c, idle;
	struct cf_statistics s;
	char path[512];

	idle = cf_nf_file(nf, self->vol, "idle", NULL, 0, 4096, false);
	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), 70000, false);
	ASSERT_LT(0, c);
	ASSERT_LT(0, idle);
	ASSERT_EQ(0, cf_nf_fill(nf, c, 1, 70000));
	ASSERT_EQ(0, cf_nf_unuse(nf, c));
	ASSERT_EQ(0, cf_nf_wait(nf, c, CF_STATE(CF_QUIESCENT), 0, 0, 30000, NULL));
	EXPECT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	ASSERT_EQ(0, cf_statistics(e->dev, &s));
	EXPECT_EQ(1, s.freleased);
	ASSERT_EQ(0, cf_nf_path(e->dir, e->volume, "file", 4, path, sizeof(path)));
	expect_on_disk(_metadata, path, 70000, CF_CLEAN, aux, sizeof(aux));

	ASSERT_EQ(0, cf_nf_attach(nf, c, false));
	EXPECT_EQ(0, cf_nf_flags(nf, c) & CF_NO_DATA_TO_READ);
	EXPECT_EQ(0, cf_nf_check(nf, c, 1, 0, CF_ROUND_UP(70000ULL), 70000));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	/* What is in use stays open, however long it does nothing. */
	EXPECT_EQ(CF_ACTIVE, cf_nf_state(nf, idle));
	ASSERT_EQ(0, cf_nf_detach(nf, idle, false));
}

TEST_F(original, retire_deletes)
{
	struct cf_env *e = &self->e;
	int nf = self->nf, c;
	char path[512];

	ASSERT_EQ(0, cf_nf_path(e->dir, e->volume, "file", 4, path, sizeof(path)));
	leave_file(_metadata, e, nf, self->vol, "file", 1, 5000);
	ASSERT_EQ(0, access(path, F_OK));
	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), 5000, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_detach(nf, c, true));
	EXPECT_EQ(-1, access(path, F_OK));

	/* One that has never been kept, too. */
	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), 5000, false);
	ASSERT_LT(0, c);
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, 8192, 5000));
	ASSERT_EQ(0, cf_nf_fill(nf, c, 2, 5000));
	ASSERT_EQ(0, cf_nf_detach(nf, c, true));
	EXPECT_EQ(-1, access(path, F_OK));
}

/* The size and the version that the file has in the end are what it is found by. */
TEST_F(original, updated_at_the_end)
{
	static const unsigned char newer[8] = "\1\2\3\4\5\6\7\10";
	int nf = self->nf, c;
	__u64 size = 9000;
	char path[512];

	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), 8192, true);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_store(nf, c, 1, 0, 12288, size));
	ASSERT_EQ(0, cf_nf_unuse_with(nf, c, newer, sizeof(newer), &size));
	ASSERT_EQ(0, cf_nf_relinquish(nf, c, false));
	ASSERT_EQ(0, cf_nf_path(self->e.dir, self->e.volume, "file", 4, path, sizeof(path)));
	expect_on_disk(_metadata, path, size, CF_CLEAN, newer, sizeof(newer));
	c = cf_nf_file(nf, self->vol, "file", newer, sizeof(newer), size, false);
	ASSERT_LT(0, c);
	EXPECT_EQ(0, cf_nf_check(nf, c, 1, 0, 12288, size));

	/* By update as well, which needs no end of use. */
	ASSERT_EQ(0, cf_nf_update(nf, c, aux, sizeof(aux), NULL));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	expect_on_disk(_metadata, path, size, CF_CLEAN, aux, sizeof(aux));
}

/* --- invalidation --- */

/* What has begun before comes to nothing; what begins after sees an empty file. */
TEST_F(original, invalidate_under_io)
{
	static const unsigned char newer[8] = "version2";
	unsigned char buf[8192];
	struct cf_netfs_write w;
	struct cf_netfs_read r;
	int nf = self->nf, c, rd, wr;
	char path[512];

	ASSERT_EQ(0, cf_nf_path(self->e.dir, self->e.volume, "file", 4, path, sizeof(path)));
	leave_file(_metadata, &self->e, nf, self->vol, "file", 1, 65536);
	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), 65536, false);
	ASSERT_LT(0, c);
	rd = cf_nf_begin(nf, c, false);
	wr = cf_nf_begin(nf, c, true);
	ASSERT_LT(0, rd);
	ASSERT_LT(0, wr);
	ASSERT_EQ(0, cf_nf_read(nf, 0, rd, buf, 0, 8192, 65536, CF_IO_PREPARE | CF_IO_ISSUE,
				CF_HOLE_IGNORE, &r));
	ASSERT_EQ(CF_SOURCE_CACHE, r.source);
	ASSERT_EQ(8192, r.result);
	EXPECT_EQ(0, r.left);

	ASSERT_EQ(0, cf_nf_invalidate(nf, c, newer, sizeof(newer), 40000, false));
	ASSERT_EQ(0, cf_nf_wait(nf, c, CF_STATE(CF_ACTIVE), CF_NO_DATA_TO_READ, 0, LONG, NULL));

	/* The old read is not given old data, and its user no error that he would see. */
	ASSERT_EQ(0, cf_nf_read(nf, 0, rd, buf, 0, 8192, 65536, CF_IO_ISSUE, CF_HOLE_IGNORE, &r));
	EXPECT_GE(0, r.result);
	EXPECT_EQ(0, r.seen);
	EXPECT_EQ(1, r.completions);
	cf_pattern(1, 8192, buf, 8192);
	ASSERT_EQ(0, cf_nf_write(nf, 0, wr, buf, 8192, 8192, 65536, CF_IO_PREPARE | CF_IO_ISSUE,
				 &w));
	EXPECT_EQ(1, w.completions + (w.prepare < 0));
	ASSERT_EQ(0, cf_nf_end(nf, rd));
	ASSERT_EQ(0, cf_nf_end(nf, wr));

	ASSERT_EQ(0, cf_nf_note_release(nf, c));
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, 40960, 40000));
	ASSERT_EQ(0, cf_nf_store(nf, c, 2, 4096, 8192, 40000));
	ASSERT_EQ(0, cf_nf_note_release(nf, c));
	EXPECT_EQ(0, cf_nf_check(nf, c, 2, 4096, 8192, 40000));
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, 4096, 40000));
	EXPECT_EQ(0, cf_nf_absent(nf, c, 12288, 28672, 40000));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	expect_on_disk(_metadata, path, 40000, CF_CLEAN, newer, sizeof(newer));

	c = cf_nf_file(nf, self->vol, "file", newer, sizeof(newer), 40000, false);
	ASSERT_LT(0, c);
	EXPECT_EQ(0, cf_nf_check(nf, c, 2, 4096, 8192, 40000));
	EXPECT_EQ(0, cf_nf_absent(nf, c, 12288, 28672, 40000));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

struct invalidator {
	int	nf, cookie, ret;
};

static void *invalidate_often(void *arg)
{
	struct invalidator *v = arg;

	for (int i = 0; i < 40 && !v->ret; i++) {
		v->ret = cf_nf_invalidate(v->nf, v->cookie, NULL, 0, 65536, false);
		if (!v->ret)
			v->ret = cf_nf_wait(v->nf, v->cookie, CF_STATE(CF_ACTIVE), 0, 0, LONG,
					    NULL);
	}
	return NULL;
}

/* The content stays the same here, so that whatever is read has to be right. */
TEST_F(original, d81_invalidate_often)
{
	struct invalidator v = { .nf = self->nf };
	int nf = self->nf, ret;
	struct cf_fetch f;
	pthread_t thread;

	v.cookie = cf_nf_file(nf, self->vol, "file", NULL, 0, 65536, false);
	ASSERT_LT(0, v.cookie);
	ASSERT_EQ(0, pthread_create(&thread, NULL, invalidate_often, &v));
	for (int i = 0; i < 60; i++) {
		ret = cf_nf_store(nf, v.cookie, 1, i % 16 * 4096, 4096, 65536);
		EXPECT_EQ(1, ret == 0 || ret == -ENOBUFS || ret == -ESTALE) {
			TH_LOG("%s", strerror(-ret));
		}
		cf_nf_note_release(nf, v.cookie);
		EXPECT_EQ(0, cf_nf_fetch(nf, v.cookie, 1, 0, 65536, 65536, &f, NULL));
		EXPECT_EQ(-1, f.bad);
		EXPECT_EQ(0, f.err);
	}
	pthread_join(thread, NULL);
	EXPECT_EQ(0, v.ret);
	ASSERT_EQ(0, cf_nf_fill(nf, v.cookie, 1, 65536));
	EXPECT_EQ(0, cf_nf_check(nf, v.cookie, 1, 0, 65536, 65536));
	ASSERT_EQ(0, cf_nf_detach(nf, v.cookie, false));
}

/* --- who is let in, and what happens when the cache goes --- */

TEST_F(original, d12_wants_cache_size)
{
	int nf = self->nf, c;
	char path[512];

	c = cf_nf_cookie_advice(nf, self->vol, "file", 4, NULL, 0, 4096, CF_ADV_WANT_CACHE_SIZE);
	ASSERT_LT(0, c);
	EXPECT_EQ(-ENOBUFS, cf_nf_attach(nf, c, false));
	EXPECT_EQ(-ENOBUFS, cf_nf_store(nf, c, 1, 0, 4096, 4096));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	ASSERT_EQ(0, cf_nf_path(self->e.dir, self->e.volume, "file", 4, path, sizeof(path)));
	EXPECT_EQ(-1, access(path, F_OK));
	cold_and_warm(_metadata, &self->e, nf, self->vol, "file", 1, 4096);
}

/* And the other way round: nobody could be asked for its data. */
TEST_F(cache, d12_knows_its_size)
{
	int nf = cf_nf_open(), vol, c;

	if (nf < 0)
		SKIP(return, CF_NO_NETFS);
	vol = cf_nf_volume(nf, self->e.volume, self->e.tag, NULL, 0);
	ASSERT_LT(0, vol);
	c = cf_nf_cookie(nf, vol, "file", 4, NULL, 0, 4096);
	ASSERT_LT(0, c);
	EXPECT_EQ(-ENOBUFS, cf_nf_attach(nf, c, false));
	EXPECT_EQ(1, cf_idle(self->e.dev));
	EXPECT_EQ(0, cf_nf_detach(nf, c, false));
	close(nf);
}

/* The end of the cache is not the end of the file system, nor is it of its next cache. */
TEST_F(original, device_closed_while_in_use)
{
	struct cf_env *e = &self->e;
	int nf = self->nf, c;
	struct cf_fetch f;
	char path[512];

	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), 70000, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_fill(nf, c, 1, 70000));
	close(e->dev);
	ASSERT_EQ(0, cf_nf_wait(nf, c, CF_STATE(CF_QUIESCENT), 0, 0, LONG, NULL));
	ASSERT_EQ(0, cf_nf_path(e->dir, e->volume, "file", 4, path, sizeof(path)));
	expect_on_disk(_metadata, path, 70000, CF_CLEAN, aux, sizeof(aux));
	EXPECT_EQ(-ENOBUFS, cf_nf_store(nf, c, 1, 0, 4096, 70000));
	EXPECT_EQ(0, cf_nf_fetch(nf, c, 1, 0, 69632, 70000, &f, NULL));
	EXPECT_EQ(69632, f.download);
	EXPECT_EQ(0, cf_nf_resize(nf, c, 70000));

	e->dev = cf_device();
	ASSERT_LE(0, e->dev);
	ASSERT_EQ(0, cf_env_bind_original(e));
	ASSERT_EQ(0, cf_nf_unuse(nf, c));
	ASSERT_EQ(0, cf_nf_attach(nf, c, false));
	EXPECT_EQ(0, cf_nf_check(nf, c, 1, 0, CF_ROUND_UP(70000ULL), 70000));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

/* What is written from then on does not get into the cache: nothing of it is right then. */
TEST_F(original, device_closed_while_written)
{
	struct cf_env *e = &self->e;
	int nf = self->nf, c;
	char path[512];

	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), 70000, true);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_fill(nf, c, 1, 70000));
	close(e->dev);
	ASSERT_EQ(0, cf_nf_wait(nf, c, CF_STATE(CF_QUIESCENT), 0, 0, LONG, NULL));
	ASSERT_EQ(0, cf_nf_path(e->dir, e->volume, "file", 4, path, sizeof(path)));
	expect_on_disk(_metadata, path, 70000, CF_DIRTY, aux, sizeof(aux));
	e->dev = cf_device();
	ASSERT_LE(0, e->dev);
	ASSERT_EQ(0, cf_env_bind_original(e));
	ASSERT_EQ(0, cf_nf_unuse(nf, c));
	ASSERT_EQ(0, cf_nf_attach(nf, c, false));
	cf_nf_note_release(nf, c);
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, CF_ROUND_UP(70000ULL), 70000));
	ASSERT_EQ(0, cf_nf_fill(nf, c, 2, 70000));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	expect_on_disk(_metadata, path, 70000, CF_CLEAN, aux, sizeof(aux));
}

static void *close_device(void *arg)
{
	close(*(int *)arg);
	return NULL;
}

/* It counts when something was written, not when that was over. */
TEST_F(original, written_before_bind)
{
	struct cf_env *e = &self->e;
	int nf = self->nf, c, other;

	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), 70000, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_fill(nf, c, 1, 70000));
	ASSERT_EQ(0, cf_nf_unuse(nf, c));
	close(e->dev);
	ASSERT_EQ(0, cf_nf_wait(nf, c, CF_STATE(CF_QUIESCENT), 0, 0, LONG, NULL));
	ASSERT_EQ(0, cf_nf_use(nf, c, true));
	e->dev = cf_device();
	ASSERT_LE(0, e->dev);
	ASSERT_EQ(0, cf_env_bind_original(e));
	other = cf_nf_file(nf, self->vol, "other", NULL, 0, 4096, false);
	ASSERT_LT(0, other);
	/* FS-Cache's clock goes on by hundredths of a second. */
	poll(NULL, 0, 30);
	ASSERT_EQ(0, cf_nf_unuse(nf, c));
	ASSERT_EQ(0, cf_nf_attach(nf, c, false));
	cf_nf_note_release(nf, c);
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, CF_ROUND_UP(70000ULL), 70000));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	ASSERT_EQ(0, cf_nf_detach(nf, other, false));
}

/* What is written when nothing is taken any more, but the file has not been let go. */
static void written_until_the_end(struct __test_metadata *_metadata, struct cf_env *e, int nf,
				  int vol, const char *point)
{
	int c, trap;
	pthread_t thread;

	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	c = cf_nf_file(nf, vol, "file", aux, sizeof(aux), 70000, true);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_fill(nf, c, 1, 70000));
	trap = cf_delay_arm(point, 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, pthread_create(&thread, NULL, close_device, &e->dev));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	EXPECT_EQ(-ENOBUFS, cf_nf_store(nf, c, 2, 0, 4096, 70000));
	ASSERT_EQ(0, cf_nf_unuse(nf, c));
	EXPECT_EQ(0, cf_delay_go(trap));
	pthread_join(thread, NULL);
	ASSERT_EQ(0, cf_nf_wait(nf, c, CF_STATE(CF_QUIESCENT), 0, 0, LONG, NULL));

	e->dev = cf_device();
	ASSERT_LE(0, e->dev);
	ASSERT_EQ(0, cf_env_bind_original(e));
	ASSERT_EQ(0, cf_nf_attach(nf, c, false));
	cf_nf_note_release(nf, c);
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, CF_ROUND_UP(70000ULL), 70000));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

TEST_F(original, written_before_the_end)
{
	written_until_the_end(_metadata, &self->e, self->nf, self->vol, "closed");
}

TEST_F(original, written_during_the_end)
{
	written_until_the_end(_metadata, &self->e, self->nf, self->vol, "withdraw");
}

/* A file that grew, of which the cookie was not told, is cut like any other. */
TEST_F(original, resized_after_it_grew)
{
	int nf = self->nf, c;

	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), 100, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_store(nf, c, 1, 0, 12288, 12000));
	ASSERT_EQ(0, cf_nf_note_release(nf, c));
	ASSERT_EQ(0, cf_nf_check(nf, c, 1, 4096, 8192, 12000));
	ASSERT_EQ(0, cf_nf_resize(nf, c, 5000));
	ASSERT_EQ(0, cf_nf_resize(nf, c, 12000));
	EXPECT_EQ(0, cf_nf_absent(nf, c, 4096, 8192, 12000));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

/* Nor does it matter whether the cookie is told a size that it had all the time. */
TEST_F(original, resized_to_what_it_knows)
{
	int nf = self->nf, c;

	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), 0, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_store(nf, c, 1, 0, 8192, 8192));
	ASSERT_EQ(0, cf_nf_note_release(nf, c));
	ASSERT_EQ(0, cf_nf_check(nf, c, 1, 0, 8192, 8192));
	ASSERT_EQ(0, cf_nf_resize(nf, c, 0));
	ASSERT_EQ(0, cf_nf_store(nf, c, 2, 8192, 4096, 8193));
	EXPECT_EQ(0, cf_nf_check(nf, c, 2, 8192, 4096, 8193));
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, 8192, 8193));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

/* What is written back late, after the file was cut, is not stored. */
TEST_F(original, stored_behind_the_end)
{
	int nf = self->nf, c;

	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), 12288, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_fill(nf, c, 1, 12288));
	EXPECT_EQ(-ENOBUFS, cf_nf_store(nf, c, 2, 4096, 4096, 4096));
	EXPECT_EQ(0, cf_nf_check(nf, c, 1, 0, 4096, 12288));
	EXPECT_EQ(0, cf_nf_absent(nf, c, 4096, 4096, 12288));
	EXPECT_EQ(0, cf_nf_check(nf, c, 1, 8192, 4096, 12288));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

/* What the library can only read as a whole comes from the cache if all of it is there. */
TEST_F(original, read_as_a_whole)
{
	struct cf_netfs_read r;
	int nf = self->nf, c;

	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), 65536, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_store(nf, c, 1, 0, 32768, 65536));
	cf_nf_note_release(nf, c);
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, cf_nf_read(nf, c, 0, NULL, i * 16384, 65536 - i * 16384, 65536,
					CF_IO_PREPARE | CF_IO_SINGLE, CF_HOLE_IGNORE, &r));
		EXPECT_EQ(CF_SOURCE_DOWNLOAD, r.source);
		EXPECT_EQ(65536 - i * 16384, r.prepared);
		EXPECT_TRUE(r.flags & CF_SREQ_COPY_TO_CACHE);
	}
	ASSERT_EQ(0, cf_nf_store(nf, c, 1, 32768, 32768, 65536));
	ASSERT_EQ(0, cf_nf_read(nf, c, 0, NULL, 0, 65536, 65536, CF_IO_PREPARE | CF_IO_SINGLE,
				CF_HOLE_IGNORE, &r));
	EXPECT_EQ(CF_SOURCE_CACHE, r.source);
	EXPECT_EQ(65536, r.prepared);
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

/* Cut and store as one who may not make files larger than a byte: 0 or an errno. */
static int limited(int nf, int c)
{
	const struct rlimit lim = { 1, 1 };
	int status, ret;
	pid_t pid = fork();

	if (pid < 0)
		return errno;
	if (!pid) {
		signal(SIGXFSZ, SIG_DFL);
		if (setrlimit(RLIMIT_FSIZE, &lim))
			_exit(errno);
		ret = cf_nf_resize(nf, c, 9000);
		if (!ret)
			ret = cf_nf_store(nf, c, 2, 4096, 8192, 9000);
		_exit(-ret);
	}
	if (waitpid(pid, &status, 0) != pid)
		return errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

/* Leave a full file @c alone until its object goes. */
static void let_go(struct __test_metadata *_metadata, int nf, int c, __u64 seed)
{
	ASSERT_EQ(0, cf_nf_fill(nf, c, seed, 70000));
	ASSERT_EQ(0, cf_nf_unuse(nf, c));
	ASSERT_EQ(0, cf_nf_wait(nf, c, CF_STATE(CF_QUIESCENT), 0, 0, 30000, NULL));
}

static int invalidate(int nf, int c)
{
	return cf_nf_invalidate(nf, c, aux, sizeof(aux), 70000, false);
}

/* With nothing in use that could be invalidated, and the version as it was. */
TEST_F_TIMEOUT(original, d46_invalidated_while_idle, 120)
{
	int nf = self->nf, c;

	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), 70000, false);
	ASSERT_LT(0, c);
	let_go(_metadata, nf, c, 1);
	ASSERT_EQ(0, cf_nf_attach(nf, c, false));
	EXPECT_EQ(0, cf_nf_check(nf, c, 1, 0, CF_ROUND_UP(70000ULL), 70000));
	ASSERT_EQ(0, cf_nf_unuse(nf, c));
	ASSERT_EQ(0, cf_nf_wait(nf, c, CF_STATE(CF_QUIESCENT), 0, 0, 30000, NULL));
	ASSERT_EQ(0, invalidate(nf, c));
	ASSERT_EQ(0, cf_nf_attach(nf, c, false));
	cf_nf_note_release(nf, c);
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, CF_ROUND_UP(70000ULL), 70000));

	/* What it gets then is right, the next time as well. */
	let_go(_metadata, nf, c, 2);
	ASSERT_EQ(0, cf_nf_attach(nf, c, false));
	EXPECT_EQ(0, cf_nf_check(nf, c, 2, 0, CF_ROUND_UP(70000ULL), 70000));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));

	/* Before it is used at all, with a file from another time. */
	c = cf_nf_cookie(nf, self->vol, "file", 4, aux, sizeof(aux), 70000);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, invalidate(nf, c));
	ASSERT_EQ(0, cf_nf_attach(nf, c, false));
	cf_nf_note_release(nf, c);
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, CF_ROUND_UP(70000ULL), 70000));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

/* The same, and the next time there is no space for another file in place of the old one. */
TEST_F_TIMEOUT(original, d46_invalidated_while_idle_without_space, 120)
{
	int nf = self->nf, c;

	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), 70000, false);
	ASSERT_LT(0, c);
	let_go(_metadata, nf, c, 1);
	ASSERT_EQ(0, invalidate(nf, c));
	ASSERT_EQ(0, cf_error_injection(1));
	EXPECT_EQ(-ENOBUFS, cf_nf_attach(nf, c, false));
	ASSERT_EQ(0, cf_error_injection(0));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));

	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), 70000, false);
	ASSERT_LT(0, c);
	cf_nf_note_release(nf, c);
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, CF_ROUND_UP(70000ULL), 70000));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

/*
 * @c, which is not in use, is invalidated when its object is about to go with the cache, and
 * does not look. A new cookie of the same version does not believe its file.
 */
static void not_believed_after(struct __test_metadata *_metadata, struct cf_env *e, int nf,
			       int vol, int c)
{
	int trap = cf_delay_arm("withdraw", 0);
	pthread_t thread;

	ASSERT_LE(0, trap);
	ASSERT_EQ(0, pthread_create(&thread, NULL, close_device, &e->dev));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	ASSERT_EQ(0, invalidate(nf, c));
	EXPECT_EQ(0, cf_delay_go(trap));
	pthread_join(thread, NULL);
	ASSERT_EQ(0, cf_nf_relinquish(nf, c, false));

	e->dev = cf_device();
	ASSERT_LE(0, e->dev);
	ASSERT_EQ(0, cf_env_bind_original(e));
	c = cf_nf_file(nf, vol, "file", aux, sizeof(aux), 70000, false);
	ASSERT_LT(0, c);
	cf_nf_note_release(nf, c);
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, CF_ROUND_UP(70000ULL), 70000));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

/* When its object is about to go, and does not look. */
TEST_F(original, d46_invalidated_while_withdrawn)
{
	int nf = self->nf, c;

	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), 70000, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_fill(nf, c, 1, 70000));
	ASSERT_EQ(0, cf_nf_unuse(nf, c));
	not_believed_after(_metadata, &self->e, nf, self->vol, c);
}

/* And the cache has failed before, but the file system is well again. */
TEST_F(original, d46_invalidated_while_failed)
{
	int nf = self->nf, c, other;

	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), 70000, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_fill(nf, c, 1, 70000));
	other = cf_nf_file(nf, self->vol, "other", aux, sizeof(aux), 70000, false);
	ASSERT_LT(0, other);
	ASSERT_EQ(0, cf_error_injection(2));
	EXPECT_GT(0, cf_nf_store(nf, other, 1, 0, 4096, 70000));
	ASSERT_EQ(0, cf_error_injection(0));
	EXPECT_EQ(-EIO, cf_cmd(self->e.dev, "debug 0"));

	ASSERT_EQ(0, cf_nf_detach(nf, other, false));
	ASSERT_EQ(0, cf_nf_unuse(nf, c));
	not_believed_after(_metadata, &self->e, nf, self->vol, c);
}

/* There was no space for a new file: the next use gets one, not just the next cookie. */
TEST_F_TIMEOUT(original, invalidated_without_space, 60)
{
	int nf = self->nf, c;

	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), 70000, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_fill(nf, c, 1, 70000));
	ASSERT_EQ(0, cf_error_injection(1));
	ASSERT_EQ(0, invalidate(nf, c));
	EXPECT_EQ(0, cf_nf_wait(nf, c, CF_STATE(CF_ACTIVE), 0, 0, LONG, NULL));
	ASSERT_EQ(0, cf_error_injection(0));
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, CF_ROUND_UP(70000ULL), 70000));
	ASSERT_EQ(0, cf_nf_unuse(nf, c));
	ASSERT_EQ(0, cf_nf_wait(nf, c, CF_STATE(CF_QUIESCENT), 0, 0, 30000, NULL));
	ASSERT_EQ(0, cf_nf_attach(nf, c, false));
	EXPECT_EQ(0, cf_nf_fill(nf, c, 2, 70000));
	EXPECT_EQ(0, cf_nf_check(nf, c, 2, 0, CF_ROUND_UP(70000ULL), 70000));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

/* Of very many invalidations the latest are remembered. */
TEST_F_TIMEOUT(original, d46_invalidated_too_often, 120)
{
	static const char *const names[] = { "oldest", "old", "latest" };
	int nf = self->nf, c[3];

	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	for (int i = 0; i < 3; i++) {
		c[i] = cf_nf_file(nf, self->vol, names[i], aux, sizeof(aux), 70000, false);
		ASSERT_LT(0, c[i]);
		ASSERT_EQ(0, invalidate(nf, c[i]));
		ASSERT_EQ(0, cf_nf_wait(nf, c[i], CF_STATE(CF_ACTIVE), 0, 0, LONG, NULL));
		ASSERT_EQ(0, cf_nf_fill(nf, c[i], i, 70000));
	}
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, cf_nf_unuse(nf, c[i]));
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, cf_nf_wait(nf, c[i], CF_STATE(CF_QUIESCENT), 0, 0, 30000, NULL));
	ASSERT_EQ(0, cf_force_notes(2));
	let_go(_metadata, nf, c[2], 2);
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, cf_nf_attach(nf, c[i], false));
		cf_nf_note_release(nf, c[i]);
		EXPECT_EQ(i ? 0 : -ENODATA,
			  cf_nf_check(nf, c[i], i, 0, CF_ROUND_UP(70000ULL), 70000));
		ASSERT_EQ(0, cf_nf_detach(nf, c[i], false));
	}
}

/*
 * The library stores what it has read later than it has read it: after an invalidation,
 * that is not what the cookie means any more.
 */
TEST_F(original, d46_old_copies)
{
	int nf = self->nf, c, op;

	if (!cf_nf_has_streams(nf))
		SKIP(return, CF_NO_STREAMS);
	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), 70000, false);
	ASSERT_LT(0, c);
	EXPECT_EQ(0, cf_nf_store_copy(nf, c, 1, 0, 8192, 70000, CF_COPY_WRITEBACK));
	EXPECT_EQ(0, cf_nf_store_copy(nf, c, 1, 8192, 8192, 70000, CF_COPY_READ));
	cf_nf_note_release(nf, c);
	EXPECT_EQ(0, cf_nf_check(nf, c, 1, 0, 16384, 70000));

	op = cf_nf_begin(nf, c, false);
	ASSERT_LT(0, op);
	ASSERT_EQ(0, invalidate(nf, c));
	ASSERT_EQ(0, cf_nf_wait(nf, c, CF_STATE(CF_ACTIVE), 0, 0, LONG, NULL));
	EXPECT_EQ(0, cf_nf_store_copy(nf, c, 1, 0, 8192, 70000, CF_COPY_WRITEBACK));
	EXPECT_EQ(0, cf_nf_store_copy(nf, c, 1, 8192, 8192, 70000, CF_COPY_READ));
	cf_nf_note_release(nf, c);
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, 16384, 70000));

	/* What is written is not old, and what is read now neither, once no old read goes on. */
	EXPECT_EQ(0, cf_nf_store(nf, c, 2, 16384, 8192, 70000));
	ASSERT_EQ(0, cf_nf_end(nf, op));
	EXPECT_EQ(0, cf_nf_store_copy(nf, c, 2, 24576, 8192, 70000, CF_COPY_READ));
	cf_nf_note_release(nf, c);
	EXPECT_EQ(0, cf_nf_check(nf, c, 2, 16384, 16384, 70000));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));

	/* Nor is anything when the cookie begins anew. */
	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), 70000, false);
	ASSERT_LT(0, c);
	EXPECT_EQ(0, cf_nf_store_copy(nf, c, 2, 0, 16384, 70000, CF_COPY_WRITEBACK));
	cf_nf_note_release(nf, c);
	EXPECT_EQ(0, cf_nf_check(nf, c, 2, 0, 32768, 70000));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

/* How large a user's files may become does not concern the cache, nor the cache him. */
TEST_F(original, limited_user)
{
	int nf = self->nf, c;

	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), 70000, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_fill(nf, c, 1, 70000));
	EXPECT_EQ(0, limited(nf, c));
	EXPECT_EQ(0, cf_cmd(self->e.dev, "debug 0"));
	EXPECT_EQ(0, cf_nf_check(nf, c, 1, 0, 4096, 9000));
	EXPECT_EQ(0, cf_nf_check(nf, c, 2, 4096, 8192, 9000));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

/* It waits for an operation that has begun, and that one can still be finished. */
TEST_F(original, device_closed_under_io)
{
	struct cf_env *e = &self->e;
	unsigned char buf[4096];
	struct cf_netfs_read r;
	int nf = self->nf, c, op;
	pthread_t thread;

	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), 8192, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_fill(nf, c, 1, 8192));
	op = cf_nf_begin(nf, c, false);
	ASSERT_LT(0, op);
	ASSERT_EQ(0, pthread_create(&thread, NULL, close_device, &e->dev));
	/* Nothing new may begin. */
	while (cf_nf_absent(nf, c, 0, 4096, 8192) == -EEXIST)
		sched_yield();
	ASSERT_EQ(0, cf_nf_read(nf, 0, op, buf, 0, 4096, 8192, CF_IO_ISSUE, CF_HOLE_IGNORE, &r));
	EXPECT_EQ(1, r.completions);
	EXPECT_EQ(0, r.seen);
	EXPECT_EQ(1, r.result <= 0 || (r.result == 4096 && cf_differs(1, 0, buf, 4096) < 0));
	EXPECT_EQ(CF_ACTIVE, cf_nf_state(nf, c));
	ASSERT_EQ(0, cf_nf_end(nf, op));
	pthread_join(thread, NULL);
	ASSERT_EQ(0, cf_nf_wait(nf, c, CF_STATE(CF_QUIESCENT), 0, 0, LONG, NULL));
	e->dev = cf_device();
	ASSERT_LE(0, e->dev);
	ASSERT_EQ(0, cf_env_bind_original(e));
	ASSERT_EQ(0, cf_nf_unuse(nf, c));
	ASSERT_EQ(0, cf_nf_attach(nf, c, false));
	EXPECT_EQ(0, cf_nf_check(nf, c, 1, 0, 8192, 8192));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

TEST_HARNESS_MAIN
