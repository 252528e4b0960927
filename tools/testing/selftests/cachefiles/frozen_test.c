// SPDX-License-Identifier: GPL-2.0-only
/*
 * With the backing file system frozen, whoever is killed is gone and nothing
 * but I/O on it waits; thawed, everything goes on where it stopped.
 */
#include "harness.h"

#include <stdio.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "lib/backing.h"
#include "lib/delay.h"
#include "lib/netfs.h"
#include "lib/task.h"

/* The only holder of the device is killed: it can be reaped, whatever hangs below. */
static void reap_daemon(struct __test_metadata *_metadata, struct cf_env *e, bool frozen)
{
	struct cf_server s;
	struct cf_result res;
	struct cf_reader r;
	int fd = -1;

	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	if (frozen) {
		ASSERT_EQ(0, cf_env_store(e, 512 * MB, backing_fs()));
	} else {
		if (!cf_have_disk())
			SKIP(return, CF_NO_DISK);
		ASSERT_EQ(0, cf_disk(e, "make"));
	}
	ASSERT_EQ(0, cf_env_bind(e));
	ASSERT_EQ(0, cf_env_mount(e));
	ASSERT_EQ(0, cf_server_init(&s, e->dev));
	ASSERT_NE(NULL, cf_server_add(&s, "file", MB, 1));
	ASSERT_EQ(0, cf_server_fork(&s, false));
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 65536));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
	close(e->dev);
	e->dev = -1;

	if (frozen)
		fd = cf_freeze(e->dir);
	else
		fd = cf_disk(e, "stop");
	ASSERT_LE(0, fd);
	kill(s.pid, SIGKILL);
	EXPECT_EQ(0, cf_server_wait(&s, LONG));
	if (frozen) {
		EXPECT_EQ(0, cf_thaw(fd));
	} else {
		EXPECT_EQ(0, cf_disk(e, "go"));
	}
	cf_server_stop(&s);
	EXPECT_LE(0, cf_env_umount(e, PROMPT));

	/* The end of the old cache is awaited, not run into. */
	e->dev = cf_device();
	ASSERT_LE(0, e->dev);
	ASSERT_EQ(0, cf_env_bind(e));
	ASSERT_EQ(0, cf_env_mount(e));
	EXPECT_LE(0, open_object(e, &r, "file", MB, (struct cf_msg[1]) {}));
	EXPECT_EQ(65536, read_here(e, "file", 1, 0, 65536));
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
	close(e->dev);
	e->dev = -1;
	if (!frozen) {
		EXPECT_EQ(0, cf_disk(e, "remove"));
	}
}

TEST_F(device, d36_daemon_is_reaped)
{
	reap_daemon(_metadata, &self->e, true);
}

TEST_F(device, d36_daemon_is_reaped_with_the_disk_stopped)
{
	reap_daemon(_metadata, &self->e, false);
}

struct target {
	int	nf, c;
};

static int do_look(void *arg)
{
	const struct target *t = arg;

	return -cf_nf_absent(t->nf, t->c, 0, 8192, 8192);
}

/* Once it has been replaced, which takes a while after the thaw, it can be filled again. */
static int fill_again(const struct target *t, int ms)
{
	long long end = cf_now() + cf_ms(ms);
	int ret;

	do {
		ret = cf_nf_fill(t->nf, t->c, 2, 8192);
	} while (ret == -ENOBUFS && cf_now() < end && !poll(NULL, 0, 10));
	return ret;
}

/* Nothing of what was stored before is there, and the file can be filled again. Closes @nf. */
static void nothing_is_left(struct __test_metadata *_metadata, int nf, int vol, int c)
{
	cf_nf_note_release(nf, c);
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, 8192, 8192));
	EXPECT_EQ(0, cf_nf_fill(nf, c, 2, 8192));
	EXPECT_EQ(0, cf_nf_check(nf, c, 2, 0, 8192, 8192));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	ASSERT_EQ(0, cf_nf_volume_end(nf, vol, NULL, 0, false));
	close(nf);
}

/*
 * What was invalidated can't be replaced before the thaw. Who wants it meanwhile does
 * without: he may be writing to the file system himself, and be what freezing waits for.
 */
TEST_F_TIMEOUT(device, invalidated_while_frozen, 120)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct target l;
	int vol, fd;

	l.nf = cf_nf_open();
	if (l.nf < 0)
		SKIP(return, CF_NO_NETFS);
	l.c = only_file(e, l.nf, 512 * MB, backing_fs(), 8192, &vol);
	ASSERT_LT(0, l.c);
	ASSERT_EQ(0, cf_nf_fill(l.nf, l.c, 1, 8192));
	fd = cf_freeze(e->dir);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, cf_nf_invalidate(l.nf, l.c, NULL, 0, 8192, false));
	ASSERT_EQ(0, cf_child_with(&r, l.nf, do_look, &l));
	EXPECT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, cf_thaw(fd));
	EXPECT_EQ(0, res.err);
	ASSERT_EQ(0, fill_again(&l, 3 * LONG));
	EXPECT_EQ(0, cf_nf_check(l.nf, l.c, 2, 0, 8192, 8192));
	ASSERT_EQ(0, cf_nf_detach(l.nf, l.c, false));
	ASSERT_EQ(0, cf_nf_volume_end(l.nf, vol, NULL, 0, false));
	close(l.nf);
}

/* Nor does anybody wait who comes after another invalidation, or after somebody who writes. */
TEST_F_TIMEOUT(device, d39_invalidated_twice, 120)
{
	struct target t = { .nf = cf_nf_open() };
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	int vol, fd;

	if (t.nf < 0)
		SKIP(return, CF_NO_NETFS);
	t.c = only_file(e, t.nf, 512 * MB, backing_fs(), 8192, &vol);
	ASSERT_LT(0, t.c);
	ASSERT_EQ(0, cf_nf_fill(t.nf, t.c, 1, 8192));
	fd = cf_freeze(e->dir);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, cf_nf_use(t.nf, t.c, true));
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(0, cf_nf_invalidate(t.nf, t.c, NULL, 0, 8192, false));
		EXPECT_EQ(0, cf_nf_wait(t.nf, t.c, CF_STATE(CF_ACTIVE), 0, 0, PROMPT, NULL));
	}
	ASSERT_EQ(0, cf_child_with(&r, t.nf, do_look, &t));
	EXPECT_EQ(0, cf_reader_wait(&r, &res, PROMPT));
	EXPECT_EQ(0, cf_thaw(fd));
	EXPECT_EQ(0, res.err);
	ASSERT_EQ(0, fill_again(&t, LONG));
	EXPECT_EQ(0, cf_nf_check(t.nf, t.c, 2, 0, 8192, 8192));
	ASSERT_EQ(0, cf_nf_unuse(t.nf, t.c));
	ASSERT_EQ(0, cf_nf_detach(t.nf, t.c, false));
	ASSERT_EQ(0, cf_nf_volume_end(t.nf, vol, NULL, 0, false));
	close(t.nf);
}

struct lookup {
	struct cf_task	task;
	int		nf, vol;
	const char	*name;
	__u64		size;
};

static int do_lookup(void *arg)
{
	const struct lookup *l = arg;

	return cf_nf_file(l->nf, l->vol, l->name, NULL, 0, l->size, false);
}

/* If there is no space for the new file after the thaw, there is none, and nothing of the old. */
TEST_F_TIMEOUT(device, no_space_after_the_thaw, 120)
{
	int nf = cf_nf_open(), vol, c, fd;
	struct cf_env *e = &self->e;

	if (nf < 0)
		SKIP(return, CF_NO_NETFS);
	if (cf_error_injection(0))
		SKIP(return, "no error injection (CONFIG_CACHEFILES_ERROR_INJECTION)");
	c = only_file(e, nf, 512 * MB, backing_fs(), 8192, &vol);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_fill(nf, c, 1, 8192));
	fd = cf_freeze(e->dir);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, cf_nf_invalidate(nf, c, NULL, 0, 8192, false));
	EXPECT_EQ(0, cf_nf_wait(nf, c, CF_STATE(CF_ACTIVE), 0, 0, PROMPT, NULL));
	EXPECT_EQ(0, cf_error_injection(1));
	EXPECT_EQ(0, cf_thaw(fd));
	EXPECT_EQ(0, cf_nf_detach(nf, c, false));
	EXPECT_EQ(0, cf_error_injection(0));

	c = cf_nf_file(nf, vol, "file", NULL, 0, 8192, false);
	ASSERT_LT(0, c);
	nothing_is_left(_metadata, nf, vol, c);
}

/*
 * What is there is found, also while new files wait for the thaw. Volumes that are new, or
 * stale, do without.
 */
TEST_F_TIMEOUT(device, d39_found_while_frozen, 120)
{
	struct lookup old = { .nf = cf_nf_open(), .name = "file", .size = 8192 }, other[2];
	const char *const names[2] = { "new", "stale" };
	struct cf_env *e = &self->e;
	char path[512] = "", dir[512], name[16];
	int fd, c, new, found, ret;

	if (old.nf < 0)
		SKIP(return, CF_NO_NETFS);
	ASSERT_EQ(0, cf_env_store(e, 512 * MB, backing_fs()));
	ASSERT_EQ(0, cf_env_bind_original(e));
	old.vol = cf_nf_volume(old.nf, e->volume, e->tag, NULL, 0);
	c = cf_nf_file(old.nf, old.vol, old.name, NULL, 0, 8192, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_fill(old.nf, c, 1, 8192));
	ASSERT_EQ(0, cf_nf_detach(old.nf, c, false));
	ASSERT_EQ(0, cf_nf_volume_end(old.nf, old.vol, NULL, 0, false));
	old.vol = cf_nf_volume(old.nf, names[1], e->tag, "1", 1);
	c = cf_nf_file(old.nf, old.vol, old.name, NULL, 0, 8192, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_detach(old.nf, c, false));
	ASSERT_EQ(0, cf_nf_volume_end(old.nf, old.vol, "1", 1, false));

	/* The volume knows no directory yet, and the new file is in one that is not there. */
	old.vol = cf_nf_volume(old.nf, e->volume, e->tag, NULL, 0);
	ASSERT_LT(0, old.vol);
	c = cf_nf_file(old.nf, old.vol, "attach", NULL, 0, 8192, false);
	ASSERT_LT(0, c);
	for (int i = 0; !path[0] || !access(dir, F_OK); i++) {
		snprintf(name, sizeof(name), "new%d", i);
		ASSERT_EQ(0, cf_nf_path(e->dir, e->volume, name, strlen(name), path,
					sizeof(path)));
		snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(path, '/') - path), path);
	}
	new = cf_nf_cookie(old.nf, old.vol, name, strlen(name), NULL, 0, 8192);
	ASSERT_LT(0, new);
	fd = cf_freeze(e->dir);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, cf_nf_use(old.nf, new, false));
	EXPECT_EQ(0, cf_nf_wait(old.nf, new, CF_STATE(CF_CREATING), 0, 0, LONG, NULL));
	ASSERT_EQ(0, cf_task_start(&old.task, do_lookup, &old));
	EXPECT_EQ(0, cf_task_wait(&old.task, &found, PROMPT));
	EXPECT_LT(0, found);
	EXPECT_EQ(0, cf_nf_check(old.nf, found, 1, 0, 8192, 8192));
	for (int i = 0; i < 2; i++) {
		other[i] = (struct lookup){ .nf = old.nf, .name = "file", .size = 8192 };
		other[i].vol = cf_nf_volume(old.nf, names[i], e->tag, "2", 1);
		ASSERT_LT(0, other[i].vol);
		ASSERT_EQ(0, cf_task_start(&other[i].task, do_lookup, &other[i]));
		EXPECT_EQ(0, cf_task_wait(&other[i].task, &ret, PROMPT));
		EXPECT_EQ(-ENOBUFS, ret);
	}
	EXPECT_EQ(0, cf_thaw(fd));

	EXPECT_EQ(0, cf_nf_wait(old.nf, new, CF_STATE(CF_ACTIVE), 0, 0, LONG, NULL));
	for (int i = 0; i < 2; i++) {
		ret = cf_nf_file(old.nf, other[i].vol, "again", NULL, 0, 8192, false);
		ASSERT_LT(0, ret);
		EXPECT_EQ(0, cf_nf_fill(old.nf, ret, 1, 8192));
		ASSERT_EQ(0, cf_nf_detach(old.nf, ret, false));
		ASSERT_EQ(0, cf_nf_volume_end(old.nf, other[i].vol, "2", 1, false));
	}
	ASSERT_EQ(0, cf_nf_detach(old.nf, found, false));
	ASSERT_EQ(0, cf_nf_detach(old.nf, new, false));
	ASSERT_EQ(0, cf_nf_detach(old.nf, c, false));
	ASSERT_EQ(0, cf_nf_volume_end(old.nf, old.vol, NULL, 0, false));
	close(old.nf);
}

/* A file of another size than its object: what lies behind its end is missing, or all of it. */
TEST_F_TIMEOUT(device, d39_found_with_another_size, 120)
{
	struct lookup found[2] = { { .nf = cf_nf_open(), .name = "longer" }, };
	const int expected[2] = { 0, -ENOBUFS };
	const __u64 size[2] = { 16384, 4096 };
	int nf = found[0].nf, c[2], vol, fd;
	struct cf_env *e = &self->e;

	if (nf < 0)
		SKIP(return, CF_NO_NETFS);
	found[1] = (struct lookup){ .nf = nf, .name = "shorter" };
	ASSERT_EQ(0, cf_env_store(e, 512 * MB, backing_fs()));
	ASSERT_EQ(0, cf_env_bind_original(e));
	vol = cf_nf_volume(nf, e->volume, e->tag, NULL, 0);
	ASSERT_LT(0, vol);
	for (int i = 0; i < 2; i++) {
		found[i].vol = vol;
		c[i] = cf_nf_file(nf, vol, found[i].name, NULL, 0, 8192, false);
		ASSERT_LT(0, c[i]);
		ASSERT_EQ(0, cf_nf_fill(nf, c[i], 1, 8192));
		ASSERT_EQ(0, cf_nf_unuse_with(nf, c[i], NULL, 0, &size[i]));
		ASSERT_EQ(0, cf_nf_relinquish(nf, c[i], false));
		found[i].size = size[i];
	}
	/* Whoever comes next waits until they are let go of. */
	for (int i = 0; i < 2; i++) {
		c[i] = cf_nf_file(nf, vol, "attach", NULL, 0, 8192, false);
		ASSERT_LT(0, c[i]);
		ASSERT_EQ(0, cf_nf_detach(nf, c[i], false));
	}
	fd = cf_freeze(e->dir);
	ASSERT_LE(0, fd);
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, cf_task_start(&found[i].task, do_lookup, &found[i]));
		EXPECT_EQ(0, cf_task_wait(&found[i].task, &c[i], PROMPT));
		EXPECT_EQ(expected[i], c[i] < 0 ? c[i] : 0);
	}
	EXPECT_EQ(0, cf_nf_check(nf, c[0], 1, 0, 8192, 16384));
	EXPECT_EQ(0, cf_nf_absent(nf, c[0], 8192, 8192, 16384));
	EXPECT_EQ(0, cf_thaw(fd));

	EXPECT_EQ(0, cf_nf_store(nf, c[0], 1, 12288, 4096, 16384));
	EXPECT_EQ(0, cf_nf_check(nf, c[0], 1, 12288, 4096, 16384));
	EXPECT_EQ(0, cf_nf_absent(nf, c[0], 8192, 4096, 16384));
	c[1] = cf_nf_file(nf, vol, "shorter", NULL, 0, 4096, false);
	ASSERT_LT(0, c[1]);
	EXPECT_EQ(0, cf_nf_check(nf, c[1], 1, 0, 4096, 4096));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, cf_nf_detach(nf, c[i], false));
	}
	ASSERT_EQ(0, cf_nf_volume_end(nf, vol, NULL, 0, false));
	close(nf);
}

static int do_close(void *arg)
{
	return close(*(int *)arg) ? -errno : 0;
}

static int do_store(void *arg)
{
	const struct target *t = arg;

	return cf_nf_store(t->nf, t->c, 1, 65536, 4096, 131072);
}

/* However much waits there for the thaw, what is written to another cache does not. */
TEST_F_TIMEOUT(device, beside_another_cache, 120)
{
	enum { NR = 80 };
	struct cf_env *e = &self->e, other;
	struct target s = { .nf = cf_nf_open() };
	int vol, vol2, c[NR], fd, trap, ret;
	struct cf_task store;
	char name[16];

	if (s.nf < 0)
		SKIP(return, CF_NO_NETFS);
	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	ASSERT_EQ(0, env_beside(&other, e));
	ASSERT_EQ(0, cf_env_bind_original(&other));
	vol2 = cf_nf_volume(s.nf, other.volume, other.tag, NULL, 0);
	ASSERT_LT(0, vol2);
	s.c = cf_nf_file(s.nf, vol2, "file", NULL, 0, 131072, false);
	ASSERT_LT(0, s.c);
	ASSERT_EQ(0, cf_nf_store(s.nf, s.c, 1, 0, 4096, 131072));
	ASSERT_EQ(0, cf_nf_note_release(s.nf, s.c));
	c[0] = only_file(e, s.nf, 512 * MB, backing_fs(), 8192, &vol);
	ASSERT_LT(0, c[0]);
	for (int i = 1; i < NR; i++) {
		snprintf(name, sizeof(name), "file%d", i);
		c[i] = cf_nf_file(s.nf, vol, name, NULL, 0, 8192, false);
		ASSERT_LT(0, c[i]);
	}

	fd = cf_freeze(e->dir);
	ASSERT_LE(0, fd);
	for (int i = 0; i < NR; i++) {
		EXPECT_EQ(0, cf_nf_invalidate(s.nf, c[i], NULL, 0, 8192, false));
	}
	trap = cf_delay_arm("mark_dirty", 0);
	EXPECT_LE(0, trap);
	EXPECT_EQ(0, cf_nf_use(s.nf, s.c, true));
	EXPECT_LT(0, cf_delay_caught(trap, LONG));
	EXPECT_EQ(0, cf_task_start(&store, do_store, &s));
	EXPECT_EQ(-ETIMEDOUT, cf_task_wait(&store, &ret, BRIEF));
	EXPECT_EQ(0, cf_delay_go(trap));
	EXPECT_EQ(0, cf_task_wait(&store, &ret, PROMPT));
	EXPECT_EQ(0, cf_thaw(fd));
	EXPECT_EQ(0, ret);
	EXPECT_EQ(0, cf_nf_check(s.nf, s.c, 1, 65536, 4096, 131072));

	ASSERT_EQ(0, cf_nf_unuse(s.nf, s.c));
	ASSERT_EQ(0, cf_nf_detach(s.nf, s.c, false));
	ASSERT_EQ(0, cf_nf_volume_end(s.nf, vol2, NULL, 0, false));
	for (int i = 0; i < NR; i++) {
		ASSERT_EQ(0, cf_nf_detach(s.nf, c[i], false));
	}
	ASSERT_EQ(0, cf_nf_volume_end(s.nf, vol, NULL, 0, false));
	close(other.dev);
	close(s.nf);
}

/*
 * The end of the cache waits for the thaw. Who writes meanwhile does so without it, and
 * what was stored before is not right any more.
 */
TEST_F_TIMEOUT(device, d46_written_while_withdrawn, 120)
{
	int nf = cf_nf_open(), vol, c, fd, ret;
	struct cf_env *e = &self->e;
	struct cf_task closing;

	if (nf < 0)
		SKIP(return, CF_NO_NETFS);
	c = only_file(e, nf, 512 * MB, backing_fs(), 8192, &vol);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_use(nf, c, true));
	ASSERT_EQ(0, cf_nf_fill(nf, c, 1, 8192));
	ASSERT_EQ(0, cf_nf_unuse(nf, c));
	ASSERT_EQ(0, cf_nf_unuse(nf, c));
	fd = cf_freeze(e->dir);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, cf_task_start(&closing, do_close, &e->dev));
	ASSERT_EQ(0, cf_nf_wait(nf, c, CF_STATE(CF_WITHDRAWING), 0, 0, PROMPT, NULL));
	ASSERT_EQ(0, cf_nf_use(nf, c, true));
	/* FS-Cache's clock goes on by hundredths of a second. */
	poll(NULL, 0, 30);
	ASSERT_EQ(0, cf_nf_unuse(nf, c));
	EXPECT_EQ(CF_WITHDRAWING, cf_nf_state(nf, c));
	EXPECT_EQ(0, cf_thaw(fd));
	ASSERT_EQ(0, cf_task_wait(&closing, &ret, LONG));
	EXPECT_EQ(0, ret);
	ASSERT_EQ(0, cf_nf_wait(nf, c, CF_STATE(CF_QUIESCENT), 0, 0, LONG, NULL));

	e->dev = cf_device();
	ASSERT_LE(0, e->dev);
	ASSERT_EQ(0, cf_env_bind_original(e));
	ASSERT_EQ(0, cf_nf_attach(nf, c, false));
	nothing_is_left(_metadata, nf, vol, c);
}

/* An operation that can't begin, for want of the file that is being made, does not go on. */
TEST_F(device, d46_not_begun)
{
	struct cf_env *e = &self->e;
	int nf = cf_nf_open(), vol, c, fd, trap, ret;
	long long end;

	if (nf < 0)
		SKIP(return, CF_NO_NETFS);
	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	c = only_file(e, nf, 512 * MB, backing_fs(), 8192, &vol);
	ASSERT_LT(0, c);
	trap = cf_delay_arm("opened", 0);
	ASSERT_LE(0, trap);
	fd = cf_freeze(e->dir);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, cf_nf_invalidate(nf, c, NULL, 0, 8192, false));
	EXPECT_EQ(0, cf_nf_wait(nf, c, CF_STATE(CF_ACTIVE), 0, 0, LONG, NULL));
	EXPECT_EQ(0, cf_thaw(fd));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	EXPECT_EQ(0, cf_nf_resize(nf, c, 4096));
	EXPECT_EQ(0, cf_delay_go(trap));

	ASSERT_EQ(0, cf_nf_invalidate(nf, c, NULL, 0, 8192, false));
	ASSERT_EQ(0, cf_nf_wait(nf, c, CF_STATE(CF_ACTIVE), 0, 0, LONG, NULL));
	if (cf_nf_has_streams(nf)) {
		/* The worker who was stopped may not be through. */
		end = cf_now() + cf_ms(LONG);
		do {
			ret = cf_nf_store_copy(nf, c, 1, 0, 8192, 8192, CF_COPY_READ);
		} while (ret == -ENOBUFS && cf_now() < end && !poll(NULL, 0, 10));
		EXPECT_EQ(0, ret);
		cf_nf_note_release(nf, c);
		EXPECT_EQ(0, cf_nf_check(nf, c, 1, 0, 8192, 8192));
	}
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	ASSERT_EQ(0, cf_nf_volume_end(nf, vol, NULL, 0, false));
	close(nf);
}

static int do_resize(void *arg)
{
	const struct target *t = arg;

	return cf_nf_resize(t->nf, t->c, 8192);
}

/* What is being written behind the end of a file when that moves is taken away as well. */
TEST_F(device, resized_with_the_disk_stopped)
{
	struct target s = { .nf = cf_nf_open() };
	struct cf_env *e = &self->e;
	int vol, rets[2];

	if (s.nf < 0)
		SKIP(return, CF_NO_NETFS);
	if (!cf_have_disk())
		SKIP(return, CF_NO_DISK);
	ASSERT_EQ(0, cf_disk(e, "make"));
	ASSERT_EQ(0, cf_env_bind_original(e));
	vol = cf_nf_volume(s.nf, e->volume, e->tag, NULL, 0);
	ASSERT_LT(0, vol);
	s.c = cf_nf_file(s.nf, vol, "file", NULL, 0, 4096, false);
	ASSERT_LT(0, s.c);
	ASSERT_EQ(0, cf_nf_fill(s.nf, s.c, 1, 4096));
	ASSERT_EQ(0, cf_disk_between(e, do_store, do_resize, &s, rets));
	EXPECT_EQ(0, rets[0]);
	EXPECT_EQ(0, rets[1]);

	ASSERT_EQ(0, cf_nf_resize(s.nf, s.c, 131072));
	EXPECT_EQ(0, cf_nf_check(s.nf, s.c, 1, 0, 4096, 131072));
	EXPECT_EQ(0, cf_nf_absent(s.nf, s.c, 4096, 126976, 131072));
	ASSERT_EQ(0, cf_nf_detach(s.nf, s.c, false));
	ASSERT_EQ(0, cf_nf_volume_end(s.nf, vol, NULL, 0, false));
	close(s.nf);
	close(e->dev);
	e->dev = -1;
	EXPECT_EQ(0, cf_disk(e, "remove"));
}

/* A reader whose data can't be written is killed, and the rest is served later. */
TEST_F(device, d39_reader_is_killed)
{
	struct cf_env *e = &self->e;
	struct cf_server s;
	struct cf_result res;
	struct cf_reader r[2];
	int fd;

	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	ASSERT_EQ(0, cf_env_store(e, 512 * MB, backing_fs()));
	ASSERT_EQ(0, cf_env_bind(e));
	ASSERT_EQ(0, cf_env_mount(e));
	ASSERT_EQ(0, cf_server_init(&s, e->dev));
	ASSERT_NE(NULL, cf_server_add(&s, "file", MB, 1));
	ASSERT_EQ(0, cf_server_thread(&s));
	ASSERT_EQ(0, start_read(e, &r[0], "file", 1, 0, 4096));
	ASSERT_EQ(0, cf_reader_wait(&r[0], &res, LONG));

	fd = cf_freeze(e->dir);
	ASSERT_LE(0, fd);
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, start_read(e, &r[i], "file", 1, (i + 1) * 65536, 4096));
	}
	EXPECT_EQ(-ETIMEDOUT, cf_reader_wait(&r[1], &res, BRIEF));
	EXPECT_LE(0, cf_reader_kill(&r[0], PROMPT));
	/* What is there is there, also behind the page cache. */
	ASSERT_EQ(0, cf_reader_start(&r[0], e->mnt, "file",
				     &(struct cf_job) { .seed = 1, .len = 4096, .again = true }));
	ASSERT_EQ(0, cf_reader_wait(&r[0], &res, PROMPT));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(2 * 4096, res.n);
	EXPECT_EQ(-1, res.bad);
	/* A write of the daemon holds no lock that anybody else needs. */
	EXPECT_EQ(0, cf_poll(r[1].pipe, POLLIN, 0));
	EXPECT_EQ(-EBUSY, cf_env_umount(e, PROMPT));
	EXPECT_EQ(0, cf_thaw(fd));
	ASSERT_EQ(0, cf_reader_wait(&r[1], &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
	cf_server_stop(&s);
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
}

/* A volume that is new is waited for where there is no server to read from instead. */
TEST_F(device, new_volume_while_frozen)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	ASSERT_EQ(0, cf_env_store(e, 512 * MB, backing_fs()));
	ASSERT_EQ(0, cf_env_bind(e));
	fd = cf_freeze(e->dir);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, cf_env_mount(e));
	ASSERT_EQ(0, start_stat(e, &r, "file"));
	EXPECT_EQ(-ETIMEDOUT, cf_reader_wait(&r, &res, BRIEF));
	EXPECT_EQ(0, cf_thaw(fd));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(MB, res.n);
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
}

struct copying {
	struct cf_task	task;
	char		from[160], to[160];
	int		fd;
};

/* From a mapping of what is served to the file system that the cache is in. */
static int do_copy(void *arg)
{
	const struct copying *c = arg;
	int from = open(c->from, O_RDONLY | O_CLOEXEC);
	int to = open(c->to, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	void *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, from, 0);

	if (to < 0 || map == MAP_FAILED)
		return errno;
	return write(to, map, 4096) == 4096 ? 0 : errno;
}

static int do_freeze(void *arg)
{
	const struct copying *c = arg;

	return ioctl(c->fd, FIFREEZE, 0) ? -errno : 0;
}

static int do_create(void *arg)
{
	const struct copying *c = arg;
	int fd = open(c->to, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	close(fd);
	return unlink(c->to) ? -errno : 0;
}

static int do_fill(void *arg)
{
	const struct copying *c = arg;

	return cf_fill(c->fd, 1, 0, 4096, MB);
}

/*
 * Let files be made until that waits for the thaw, in the task of @c. While the freezing
 * begins they are made still, and may take their time.
 */
static int until_frozen(struct copying *c)
{
	long long end = cf_now() + cf_ms(3 * LONG);
	char where[64];
	int ret, made;

	do {
		ret = cf_task_start(&c->task, do_create, c);
		if (ret)
			return ret;
		do {
			/* The caller's name is seen where the compiler has made one of both. */
			if (!cf_task_where(&c->task, where, sizeof(where), BRIEF) &&
			    (!where[0] || !strncmp(where, "percpu_rwsem_wait", 17) ||
			     !strncmp(where, "mnt_want_write", 14)))
				return 0;
			ret = cf_task_wait(&c->task, &made, 0);
		} while (ret && cf_now() < end);
	} while (!ret && !made && cf_now() < end);
	return ret ?: made ?: -ETIMEDOUT;
}

/* A reader who holds up the freezing, which holds up his data, can be killed, and that ends it. */
TEST_F_TIMEOUT(device, d39_reader_who_writes, 120)
{
	struct copying copy = { }, freezing = { }, other = { }, fill = { };
	struct cf_env *e = &self->e;
	struct cf_reader r, p;
	struct cf_msg m;
	int ret;

	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	ASSERT_EQ(0, cf_env_store(e, 512 * MB, backing_fs()));
	ASSERT_EQ(0, cf_env_bind(e));
	ASSERT_EQ(0, cf_env_mount(e));
	fill.fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fill.fd);
	freezing.fd = open(e->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_LE(0, freezing.fd);
	snprintf(copy.from, sizeof(copy.from), "%s/file", e->mnt);
	snprintf(copy.to, sizeof(copy.to), "%s/copy", e->dir);
	ASSERT_EQ(0, cf_child(&p, do_copy, &copy));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));

	ASSERT_EQ(0, cf_task_start(&freezing.task, do_freeze, &freezing));
	snprintf(other.to, sizeof(other.to), "%s/other", e->dir);
	ASSERT_EQ(0, until_frozen(&other));
	ASSERT_EQ(0, cf_task_start(&fill.task, do_fill, &fill));
	EXPECT_EQ(-ETIMEDOUT, cf_task_wait(&fill.task, &ret, BRIEF));
	EXPECT_EQ(-ETIMEDOUT, cf_task_wait(&freezing.task, &ret, 0));
	EXPECT_LE(0, cf_reader_kill(&p, PROMPT));
	ASSERT_EQ(0, cf_task_wait(&freezing.task, &ret, LONG));
	EXPECT_EQ(0, ret);
	EXPECT_EQ(-ETIMEDOUT, cf_task_wait(&fill.task, &ret, 0));
	EXPECT_EQ(0, cf_thaw(freezing.fd));
	ASSERT_EQ(0, cf_task_wait(&other.task, &ret, LONG));
	EXPECT_EQ(0, ret);
	ASSERT_EQ(0, cf_task_wait(&fill.task, &ret, LONG));
	EXPECT_EQ(4096, ret);
	/* What he has asked for ahead is a page with the rest. */
	ASSERT_EQ(MB, cf_fill(fill.fd, 1, 0, MB, MB));
	EXPECT_EQ(4096, read_here(e, "file", 1, 0, 4096));
	close(fill.fd);
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
}

TEST_HARNESS_MAIN
