// SPDX-License-Identifier: GPL-2.0-only
/*
 * With the backing file system full or broken at any moment, a network file system goes on
 * without the cache: every call ends, no reader gets an error or a wrong byte, and
 * afterwards the cache takes files again. While it is frozen, nothing is written.
 */
#include "harness.h"

#include <linux/fs.h>
#include <linux/fuse.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>

#include "lib/backing.h"
#include "lib/task.h"

#define NR	16			/* granules of the file */
#define TOP	((__u64)NR * CF_GRANULE)

#define NOSPC	1
#define EIOS	2
#define PUNCH	8

/* What only the kernel knows. */
#ifndef EIOCBQUEUED
#define EIOCBQUEUED	529
#endif

/* The server's side of the story. */
struct server {
	__u64		size;
	unsigned char	aux[8];
	unsigned char	data[TOP];
};

struct life {
	struct cf_env	*e;
	struct server	*s;
	int		nf, vol, c;
	bool		used;		/* with the announcement of changes */
};

static void change(struct server *s, __u64 seed, __u64 off, __u64 len)
{
	cf_pattern(seed, off, s->data + off, len);
	s->aux[0]++;
}

static void set_size(struct server *s, __u64 size, __u64 seed)
{
	__u64 low = size < s->size ? size : s->size;

	s->size = size;
	change(s, seed, low, TOP - low);
}

/* Nothing may take for ever, and what has failed says so. */
static void ended(struct __test_metadata *_metadata, int ret, const char *what)
{
	EXPECT_GE(0, ret) {
		TH_LOG("%s", what);
	}
	EXPECT_EQ(1, ret != -ETIMEDOUT && ret != -EINTR && ret != -EINVAL && ret != -EPROTO) {
		TH_LOG("%s: %s", what, strerror(-ret));
	}
}

/* Hand what the server has to the cache. */
static int put(struct life *l, __u64 off, __u64 len)
{
	static unsigned char buf[TOP];
	struct cf_netfs_write a;
	__u64 data = off >= l->s->size ? 0 : l->s->size - off < len ? l->s->size - off : len;
	int ret;

	memcpy(buf, l->s->data + off, data);
	memset(buf + data, 0, len - data);
	ret = cf_nf_write(l->nf, l->c, 0, buf, off, len, l->s->size,
			  CF_IO_PREPARE | CF_IO_ISSUE, &a);
	cf_nf_note_release(l->nf, l->c);
	if (ret)
		return ret;
	if (a.prepare < 0)
		return (int)a.prepare;
	return a.result < 0 ? (int)a.result : (__u64)a.result < len ? -EMSGSIZE : 0;
}

static int put_by_write_back(struct life *l, __u64 off, __u64 len)
{
	struct cf_netfs_subreq a = {
		.cookie = l->c, .start = off, .len = len, .i_size = l->s->size,
		.buf = (unsigned long)(l->s->data + off), .timeout_ms = cf_ms(CF_NF_MS),
	};

	if (ioctl(l->nf, CF_NETFS_WRITE_SUBREQ, &a))
		return -errno;
	return a.error;
}

/* Read all of it: bytes that came from the cache. */
static int get(struct __test_metadata *_metadata, struct life *l, const char *what)
{
	static unsigned char buf[TOP];
	int cached = 0;

	for (__u64 pos = 0; pos < CF_ROUND_UP(l->s->size);) {
		struct cf_netfs_read a;
		int ret = cf_nf_read(l->nf, l->c, 0, buf, pos, CF_ROUND_UP(l->s->size) - pos,
				     l->s->size, CF_IO_PREPARE | CF_IO_ISSUE, CF_HOLE_IGNORE, &a);
		__u64 n;

		if (ret == -ENOBUFS)
			return cached;
		EXPECT_EQ(0, ret) {
			TH_LOG("%s: %s", what, strerror(-ret));
			return cached;
		}
		if (a.source != CF_SOURCE_CACHE) {
			EXPECT_EQ(CF_SOURCE_DOWNLOAD, a.source);
			a.result = 0;
		} else {
			EXPECT_EQ(1, a.completions);
		}
		EXPECT_EQ(0, a.seen) {
			TH_LOG("%s: the reader gets: %s", what, strerror(-a.seen));
		}
		if (a.result > 0) {
			n = l->s->size - pos < (__u64)a.result ? l->s->size - pos : (__u64)a.result;
			EXPECT_EQ(0, memcmp(buf, l->s->data + pos, n)) {
				TH_LOG("%s: wrong data at %llu", what, pos);
			}
			cached += (int)n;
			pos += a.result;
			continue;
		}
		EXPECT_LT(0, a.prepared);
		if (!a.prepared)
			return cached;
		pos += a.prepared;
	}
	return cached;
}

static int find(struct life *l)
{
	l->c = cf_nf_cookie(l->nf, l->vol, "file", 4, l->s->aux, sizeof(l->s->aux), l->s->size);
	return l->c < 0 ? l->c : cf_nf_attach(l->nf, l->c, false);
}

enum step {
	VOLUME, LOOKUP, FIRST_STORE, FIRST_READ, MODIFY, STORE, WRITE_BACK, SHRINK, GROW,
	STORE_AGAIN, READ, UNUSE, INVALIDATE, LAST_STORE, LAST_READ, RELINQUISH, VOLUME_END,
	NR_STEPS
};

static const char *const step_names[] = {
	"volume", "look-up", "first store", "first read", "modify", "store", "write-back",
	"shrink", "grow", "store again", "read", "unuse", "invalidate", "last store",
	"last read", "relinquish", "end of volume",
};

static void take(struct __test_metadata *_metadata, struct life *l, enum step at,
		 const char *what)
{
	struct server *s = l->s;
	int ret = 0;

	switch (at) {
	case VOLUME:
		l->vol = cf_nf_volume(l->nf, l->e->volume, l->e->tag, "blob", 4);
		ASSERT_LT(0, l->vol);
		/* It is made by a worker. */
		ASSERT_LE(0, cf_nf_volume_attached(l->nf, l->vol));
		break;
	case LOOKUP:
		ret = find(l);
		ASSERT_LT(0, l->c);
		break;
	case FIRST_STORE:
		ret = put(l, 0, TOP / 2);
		break;
	case FIRST_READ:
	case READ:
	case LAST_READ:
		get(_metadata, l, what);
		break;
	case MODIFY:
		ret = cf_nf_use(l->nf, l->c, true);
		break;
	case STORE:
		change(s, s->aux[0], 3 * CF_GRANULE, 2 * CF_GRANULE);
		ret = put(l, 3 * CF_GRANULE, 2 * CF_GRANULE);
		break;
	case WRITE_BACK:
		change(s, s->aux[0], 6 * CF_GRANULE + 100, CF_GRANULE);
		ret = put_by_write_back(l, 6 * CF_GRANULE + 100, CF_GRANULE);
		break;
	case SHRINK:
		set_size(s, 5 * CF_GRANULE + 300, s->aux[0]);
		ret = cf_nf_resize(l->nf, l->c, s->size);
		break;
	case GROW:
		set_size(s, 10 * CF_GRANULE + 50, s->aux[0]);
		ret = cf_nf_resize(l->nf, l->c, s->size);
		break;
	case STORE_AGAIN:
		ret = put(l, 5 * CF_GRANULE, 6 * CF_GRANULE);
		break;
	case UNUSE:
		ASSERT_EQ(0, cf_nf_unuse_with(l->nf, l->c, s->aux, sizeof(s->aux), &s->size));
		break;
	case INVALIDATE:
		change(s, s->aux[0], 0, TOP);
		ret = cf_nf_invalidate(l->nf, l->c, s->aux, sizeof(s->aux), s->size, false);
		if (!ret)
			ret = cf_nf_wait(l->nf, l->c, ~CF_STATE(CF_INVALIDATING), 0, 0, CF_NF_MS,
					 NULL);
		break;
	case LAST_STORE:
		ret = put(l, 0, 4 * CF_GRANULE);
		break;
	case RELINQUISH:
		ASSERT_EQ(0, cf_nf_detach(l->nf, l->c, false));
		break;
	default:
		ASSERT_EQ(0, cf_nf_volume_end(l->nf, l->vol, "bulb", 4, false));
		break;
	}
	ended(_metadata, ret, what);
}

/* After all, the file is found as it is or not at all, and can be stored. */
static void expect_healthy(struct __test_metadata *_metadata, struct life *l, const char *what)
{
	l->vol = cf_nf_volume(l->nf, l->e->volume, l->e->tag, "bulb", 4);
	ASSERT_LT(0, l->vol);
	ASSERT_EQ(0, find(l)) {
		TH_LOG("%s: not cached any more", what);
	}
	get(_metadata, l, what);
	ASSERT_EQ(0, put(l, 0, CF_ROUND_UP(l->s->size))) {
		TH_LOG("%s", what);
	}
	EXPECT_EQ((int)l->s->size, get(_metadata, l, what)) {
		TH_LOG("%s", what);
	}
	ASSERT_EQ(0, cf_nf_detach(l->nf, l->c, false));
	ASSERT_EQ(0, cf_nf_volume_end(l->nf, l->vol, "blob", 4, false));
}

/*
 * A file's life, with trouble of the kind @bits at the steps [@from, @to]. @fresh: nothing
 * of it was there before.
 */
static void live(struct __test_metadata *_metadata, struct life *l, unsigned int bits, int from,
		 int to, bool fresh)
{
	char what[128];

	if (fresh)
		change(l->s, from, 0, TOP);
	set_size(l->s, 9 * CF_GRANULE + 1000, 77);
	for (int i = 0; i < NR_STEPS && !_metadata->exit_code; i++) {
		snprintf(what, sizeof(what), "%s, %s to %s, at %s",
			 bits == NOSPC ? "no space" : "I/O errors", step_names[from],
			 step_names[to], step_names[i]);
		if (i == from) {
			ASSERT_EQ(0, cf_error_injection(bits));
		}
		take(_metadata, l, i, what);
		if (i == to) {
			ASSERT_EQ(0, cf_error_injection(0));
		}
	}
	if (bits == EIOS) {
		/* The cache may have ended, and does no harm. */
		EXPECT_EQ(0, cf_poll(l->e->dev, POLLERR | POLLHUP, 0));
		ASSERT_EQ(0, cf_env_rebind_original(l->e));
	} else {
		EXPECT_EQ(0, cf_cmd(l->e->dev, "debug 0")) {
			TH_LOG("%s: the cache is dead", what);
		}
	}
	expect_healthy(_metadata, l, what);
}

static void live_all(struct __test_metadata *_metadata, struct cf_env *e, int nf,
		     unsigned int bits)
{
	static struct server s;
	struct life l = { .e = e, .s = &s, .nf = nf };

	for (int from = 0; from < NR_STEPS; from++) {
		for (int i = 0; i < 4 && !_metadata->exit_code; i++)
			live(_metadata, &l, bits, from, i & 1 ? NR_STEPS - 1 : from, i & 2);
	}
}

TEST_F_TIMEOUT(original, no_space_at_any_step, 120)
{
	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	ASSERT_EQ(0, cf_nf_volume_end(self->nf, self->vol, NULL, 0, false));
	live_all(_metadata, &self->e, self->nf, NOSPC);
}

TEST_F_TIMEOUT(original, io_errors_at_any_step, 120)
{
	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	ASSERT_EQ(0, cf_nf_volume_end(self->nf, self->vol, NULL, 0, false));
	live_all(_metadata, &self->e, self->nf, EIOS);
}

/* A file's life with one request to the backing file system refused: which, or 0. */
static int live_refused(struct __test_metadata *_metadata, struct life *l, struct cf_fusefs *fuse,
			int n, int error, bool fresh)
{
	char what[128];
	int op;

	if (fresh)
		change(l->s, n, 0, TOP);
	set_size(l->s, 9 * CF_GRANULE + 1000, 77);
	cf_fusefs_fail(fuse, n, error);
	for (int i = 0; i < NR_STEPS && !_metadata->exit_code; i++) {
		snprintf(what, sizeof(what), "request %d refused (%s), at %s", n, strerror(-error),
			 step_names[i]);
		take(_metadata, l, i, what);
	}
	op = cf_fusefs_failed(fuse);
	if (cf_cmd(l->e->dev, "debug 0"))
		ASSERT_EQ(0, cf_env_rebind_original(l->e));
	expect_healthy(_metadata, l, what);
	return op;
}

TEST_F_TIMEOUT(device, any_request_refused, 600)
{
	static struct server s;
	struct life l = { .e = &self->e, .s = &s };
	struct cf_mounted m;
	bool hit = true;
	int ret, count = 0;

	l.nf = cf_nf_open();
	if (l.nf < 0)
		SKIP(return, CF_NO_NETFS);
	ret = cf_backing_fuse(&m, l.e);
	if (ret == 1)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, cf_env_bind_original(l.e));
	for (int n = 1; hit && !_metadata->exit_code; n++) {
		hit = false;
		for (int i = 0; i < 4 && !_metadata->exit_code; i++) {
			int op = live_refused(_metadata, &l, &m.fuse, n,
					      i & 1 ? cf_refusal(n) : -EIO, i & 2);

			hit |= op;
			count += !!op;
		}
	}
	TH_LOG("%d requests refused", count);
	EXPECT_LT(20, count);
	EXPECT_EQ(0, cf_nf_odd(l.nf));
	close(l.nf);
	cf_env_exit(l.e);
	l.e->dev = -1;
	cf_backing_unmount(&m);
}

/* Have the @n-th request of marking a file as dirty refused: which. */
static int refuse_mark(struct __test_metadata *_metadata, struct life *l, struct cf_fusefs *fuse,
		       int n)
{
	long long end = cf_now() + cf_ms(LONG);
	char name[16];
	int c;

	snprintf(name, sizeof(name), "mark%d", n);
	c = cf_nf_file(l->nf, l->vol, name, NULL, 0, TOP, false);
	EXPECT_LT(0, c);
	EXPECT_EQ(0, cf_nf_fill(l->nf, c, 1, TOP));
	cf_fusefs_fail(fuse, n, -ENOSPC);
	EXPECT_EQ(0, cf_nf_use(l->nf, c, true));
	/* A worker does it. */
	while (!__atomic_load_n(&fuse->fault->opcode, __ATOMIC_RELAXED) && cf_now() < end)
		poll(NULL, 0, 10);
	n = cf_fusefs_failed(fuse);
	EXPECT_EQ(0, cf_nf_unuse(l->nf, c));
	EXPECT_EQ(0, cf_nf_detach(l->nf, c, false));
	EXPECT_EQ(0, cf_cmd(l->e->dev, "debug 0"));

	/* Nobody believes it, or it is what it was: nothing was changed. */
	c = cf_nf_file(l->nf, l->vol, name, NULL, 0, TOP, false);
	EXPECT_LT(0, c);
	if (n == FUSE_FSYNC) {
		EXPECT_EQ(0, cf_nf_absent(l->nf, c, 0, TOP, TOP));
	}
	EXPECT_EQ(0, cf_nf_fill(l->nf, c, 2, TOP));
	EXPECT_EQ(0, cf_nf_check(l->nf, c, 2, 0, TOP, TOP));
	EXPECT_EQ(0, cf_nf_detach(l->nf, c, false));
	return n;
}

/* No space for what tells that a file is going to be changed costs that file, not the cache. */
TEST_F_TIMEOUT(device, no_space_for_the_mark, 120)
{
	struct life l = { .e = &self->e };
	struct cf_mounted m;
	int ret, n = 1;

	l.nf = cf_nf_open();
	if (l.nf < 0)
		SKIP(return, CF_NO_NETFS);
	ret = cf_backing_fuse(&m, l.e);
	if (ret == 1)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, cf_env_bind_original(l.e));
	l.vol = cf_nf_volume(l.nf, l.e->volume, l.e->tag, NULL, 0);
	ASSERT_LT(0, l.vol);
	do {
		ret = refuse_mark(_metadata, &l, &m.fuse, n);
	} while (ret && ret != FUSE_FSYNC && n++ < 10);
	EXPECT_EQ(FUSE_FSYNC, ret);
	EXPECT_EQ(0, cf_nf_odd(l.nf));
	close(l.nf);
	cf_env_exit(l.e);
	l.e->dev = -1;
	cf_backing_unmount(&m);
}

/* --- one by one --- */

/* A write that fails leaves nothing that could be read, and says so nowhere. */
TEST_F(original, d64_failed_write_has_no_data)
{
	int nf = self->nf, c;

	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	c = cf_nf_file(nf, self->vol, "file", NULL, 0, TOP, false);
	ASSERT_LT(0, c);
	for (unsigned int bits = NOSPC; bits <= EIOS; bits++) {
		ASSERT_EQ(0, cf_error_injection(bits));
		EXPECT_GT(0, cf_nf_store(nf, c, 1, 0, 4 * CF_GRANULE, TOP));
		EXPECT_EQ(0, cf_nf_flags(nf, c) & CF_HAVE_DATA);
		ASSERT_EQ(0, cf_error_injection(0));
		cf_nf_note_release(nf, c);
		EXPECT_EQ(0, cf_nf_absent(nf, c, 0, TOP, TOP));
	}
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

/* With operations that have begun before: nothing more is stored, of no file. */
TEST_F(original, dies_under_io)
{
	struct cf_env *e = &self->e;
	static unsigned char buf[4 * CF_GRANULE];
	struct cf_statistics st;
	struct cf_netfs_write w;
	struct cf_netfs_read r;
	int nf = self->nf, c, other, rd, wr, late;

	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	c = cf_nf_file(nf, self->vol, "file", NULL, 0, TOP, false);
	other = cf_nf_file(nf, self->vol, "other", NULL, 0, TOP, false);
	ASSERT_LT(0, c);
	ASSERT_LT(0, other);
	ASSERT_EQ(0, cf_nf_fill(nf, c, 1, TOP));
	rd = cf_nf_begin(nf, c, false);
	wr = cf_nf_begin(nf, c, true);
	late = cf_nf_begin(nf, other, true);
	ASSERT_LT(0, rd);
	ASSERT_LT(0, wr);
	ASSERT_LT(0, late);
	ASSERT_EQ(0, cf_error_injection(EIOS));
	ASSERT_EQ(0, cf_nf_read(nf, 0, rd, buf, 0, sizeof(buf), TOP, CF_IO_ISSUE,
				CF_HOLE_IGNORE, &r));
	EXPECT_EQ(1, r.completions);
	EXPECT_GE(0, r.result);
	EXPECT_EQ(0, r.seen);
	ASSERT_EQ(0, cf_nf_write(nf, 0, wr, buf, 0, sizeof(buf), TOP, CF_IO_ISSUE, &w));
	EXPECT_EQ(1, w.completions);
	EXPECT_GT(0, w.result);
	ASSERT_EQ(0, cf_error_injection(0));
	ASSERT_EQ(0, cf_nf_write(nf, 0, late, buf, 0, sizeof(buf), TOP, CF_IO_ISSUE, &w));
	EXPECT_EQ(1, w.completions);
	EXPECT_EQ(-EIO, w.result);

	/* Dead it stays, and quiet. */
	EXPECT_EQ(-EIO, cf_cmd(e->dev, "debug 0"));
	EXPECT_EQ(0, cf_statistics(e->dev, &st));
	EXPECT_EQ(0, cf_poll(e->dev, POLLIN | POLLOUT | POLLERR | POLLHUP, 0));
	EXPECT_EQ(-ENOBUFS, cf_nf_begin(nf, c, false));
	EXPECT_EQ(-ENOBUFS, cf_nf_store(nf, c, 1, 0, 4096, TOP));
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, TOP, TOP));
	ASSERT_EQ(0, cf_nf_end(nf, rd));
	ASSERT_EQ(0, cf_nf_end(nf, wr));
	ASSERT_EQ(0, cf_nf_end(nf, late));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	ASSERT_EQ(0, cf_nf_detach(nf, other, false));
	ASSERT_EQ(0, cf_env_rebind_original(e));
	c = cf_nf_file(nf, self->vol, "file", NULL, 0, TOP, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_fill(nf, c, 1, TOP));
	EXPECT_EQ(0, cf_nf_check(nf, c, 1, 0, TOP, TOP));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

/* --- space --- */

static int put_ballast(struct cf_env *e, off_t size)
{
	char path[160];
	int fd, ret;

	snprintf(path, sizeof(path), "%s/ballast", e->dir);
	if (!size)
		return unlink(path);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ret = fd < 0 ? -errno : -posix_fallocate(fd, 0, size);
	close(fd);
	return ret;
}

/* A hole that can't be punched for want of space is the end of one file, and not of the cache. */
TEST_F(ondemand, d44_no_space_to_punch)
{
	const __u64 size = 16 * CF_GRANULE;
	struct cf_env *e = &self->e;
	struct cf_reader r;
	struct cf_msg m;
	int fd, other;

	if (cf_error_injection(0))
		SKIP(return, "no error injection (CONFIG_CACHEFILES_ERROR_INJECTION)");
	other = open_object(e, &r, "other", size, &m);
	ASSERT_LE(0, other);
	fd = open_object(e, &r, "file", size, &m);
	ASSERT_LE(0, fd);
	/* What is there would have to be taken away. */
	ASSERT_EQ(CF_GRANULE, cf_fill(fd, 1, 5 * CF_GRANULE, CF_GRANULE, size));
	ASSERT_EQ(0, cf_error_injection(NOSPC | PUNCH));
	EXPECT_EQ(-ENOSPC, cf_fill(fd, 1, 0, size, size));
	ASSERT_EQ(0, cf_error_injection(0));

	EXPECT_EQ(0, cf_cmd(e->dev, "debug 0"));
	EXPECT_EQ(-EIO, cf_fill(fd, 1, 0, size, size));
	EXPECT_EQ(-1, lseek(fd, 0, SEEK_DATA));
	EXPECT_EQ(EIO, errno);
	EXPECT_EQ(-EIO, read_here(e, "file", 1, 5 * CF_GRANULE, CF_GRANULE));
	EXPECT_EQ(size, cf_fill(other, 1, 0, size, size));
	EXPECT_EQ(size, read_here(e, "other", 1, 0, size));
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
	close(fd);
	close(other);

	/* The next one has a file of its own. */
	ASSERT_EQ(0, cf_env_rebind(e));
	ASSERT_EQ(0, cf_env_mount(e));
	fd = open_object(e, &r, "file", size, &m);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, read_served(e, "file", fd, 1, 5 * CF_GRANULE, CF_GRANULE, size));
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
	close(fd);
}

/* Below the stop limits, nothing is stored and nothing old is kept where it would go. */
TEST_F(device, below_stop)
{
	struct cf_env *e = &self->e;
	struct cf_statistics st;
	struct cf_fetch f;
	int nf, vol, c, d;

	nf = cf_nf_open();
	if (nf < 0)
		SKIP(return, CF_NO_NETFS);
	ASSERT_EQ(0, cf_env_store(e, 320 * MB, backing_fs()));
	ASSERT_EQ(0, put_ballast(e, 64 * MB));
	ASSERT_EQ(0, cf_env_bind_original(e));
	vol = cf_nf_volume(nf, "v", e->tag, NULL, 0);
	ASSERT_LT(0, vol);
	c = cf_nf_file(nf, vol, "file", NULL, 0, TOP, true);
	ASSERT_LT(0, c);
	/* All but one granule, so that a write over it would need space. */
	ASSERT_EQ(0, cf_nf_store(nf, c, 1, 0, 3 * CF_GRANULE, TOP));
	ASSERT_EQ(0, cf_nf_store(nf, c, 1, 4 * CF_GRANULE, TOP - 4 * CF_GRANULE, TOP));
	ASSERT_EQ(0, cf_nf_note_release(nf, c));

	ASSERT_EQ(0, cf_cmd(e->dev, "brun 99%%"));
	ASSERT_EQ(0, cf_cmd(e->dev, "bcull 98%%"));
	ASSERT_EQ(0, cf_cmd(e->dev, "bstop 97%%"));
	EXPECT_EQ(POLLIN | POLLOUT, cf_poll(e->dev, POLLIN | POLLOUT, cf_ms(LONG)));
	ASSERT_EQ(0, cf_statistics(e->dev, &st));
	EXPECT_EQ(1, st.cull);

	/* What is stored can be read, what is new can't be stored, and what has changed is gone. */
	EXPECT_EQ(0, cf_nf_check(nf, c, 1, 0, 3 * CF_GRANULE, TOP));
	EXPECT_EQ(-ENOBUFS, cf_nf_store(nf, c, 2, 2 * CF_GRANULE, 3 * CF_GRANULE, TOP));
	cf_nf_note_release(nf, c);
	EXPECT_EQ(0, cf_nf_check(nf, c, 1, 0, 2 * CF_GRANULE, TOP));
	EXPECT_EQ(0, cf_nf_check(nf, c, 1, 5 * CF_GRANULE, TOP - 5 * CF_GRANULE, TOP));
	EXPECT_EQ(0, cf_nf_fetch(nf, c, 2, 2 * CF_GRANULE, 3 * CF_GRANULE, TOP, &f, NULL));
	EXPECT_EQ(-1, f.bad);
	EXPECT_EQ(3 * CF_GRANULE, f.download);
	d = cf_nf_file(nf, vol, "another", NULL, 0, TOP, false);
	EXPECT_EQ(-ENOBUFS, d);

	ASSERT_EQ(0, cf_cmd(e->dev, "bstop 1%%"));
	ASSERT_EQ(0, cf_cmd(e->dev, "bcull 5%%"));
	ASSERT_EQ(0, cf_cmd(e->dev, "brun 7%%"));
	EXPECT_EQ(0, cf_nf_store(nf, c, 2, 2 * CF_GRANULE, 3 * CF_GRANULE, TOP));
	EXPECT_EQ(0, cf_nf_check(nf, c, 2, 2 * CF_GRANULE, 3 * CF_GRANULE, TOP));
	d = cf_nf_file(nf, vol, "another", NULL, 0, TOP, false);
	ASSERT_LT(0, d);
	EXPECT_EQ(0, cf_nf_fill(nf, d, 3, TOP));
	EXPECT_EQ(0, cf_nf_check(nf, d, 3, 0, TOP, TOP));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	ASSERT_EQ(0, cf_nf_detach(nf, d, false));
	close(nf);
}

/* While the file system can only be read, there are no new files, and that is all. */
TEST_F(device, read_only)
{
	struct cf_env *e = &self->e;
	char path[700];
	int nf, vol, c;

	nf = cf_nf_open();
	if (nf < 0)
		SKIP(return, CF_NO_NETFS);
	c = only_file(e, nf, 320 * MB, backing_fs(), TOP, &vol);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	/* Its directory stays, so that the file is the first thing that can't be made. */
	ASSERT_EQ(0, cf_nf_path(e->dir, e->volume, "file", 4, path, sizeof(path)));
	ASSERT_EQ(0, unlink(path));
	ASSERT_EQ(0, mount(NULL, e->dir, NULL, MS_REMOUNT | MS_RDONLY, NULL)) {
		TH_LOG("%s", strerror(errno));
	}
	EXPECT_EQ(-ENOBUFS, cf_nf_file(nf, vol, "file", NULL, 0, TOP, false));
	EXPECT_EQ(-ENOBUFS, cf_nf_file(nf, vol, "another", NULL, 0, TOP, true));
	EXPECT_EQ(0, cf_cmd(e->dev, "debug 0"));

	ASSERT_EQ(0, mount(NULL, e->dir, NULL, MS_REMOUNT, NULL));
	c = cf_nf_file(nf, vol, "file", NULL, 0, TOP, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_fill(nf, c, 1, TOP));
	EXPECT_EQ(0, cf_nf_check(nf, c, 1, 0, TOP, TOP));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	close(nf);
}

/* A file that becomes larger than the backing file system has any is not stored, that is all. */
TEST_F(device, too_large)
{
	struct cf_env *e = &self->e;
	struct statfs st;
	int nf, vol, c;
	__u64 pos, end;

	nf = cf_nf_open();
	if (nf < 0)
		SKIP(return, CF_NO_NETFS);
	c = only_file(e, nf, 64 * MB, "ext4", TOP, &vol);
	ASSERT_LT(0, c);
	/* Where files of ext4 end, which may be within a granule. */
	ASSERT_EQ(0, statfs(e->dir, &st));
	end = ((1ULL << 32) - 1) * st.f_bsize;
	pos = (end / CF_GRANULE - 1) * CF_GRANULE;
	end = pos + 2 * CF_GRANULE;
	EXPECT_GT(0, cf_nf_store(nf, c, 1, pos, 2 * CF_GRANULE, end));
	EXPECT_GT(0, cf_nf_store(nf, c, 1, end, CF_GRANULE, end + CF_GRANULE));
	EXPECT_EQ(0, cf_cmd(e->dev, "debug 0"));
	cf_nf_note_release(nf, c);
	EXPECT_EQ(0, cf_nf_absent(nf, c, pos, 2 * CF_GRANULE, end));
	EXPECT_EQ(0, cf_nf_fill(nf, c, 1, TOP));
	EXPECT_EQ(0, cf_nf_check(nf, c, 1, 0, TOP, TOP));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	close(nf);
}

/* What was invalidated and can't be opened afterwards stays invalid. */
TEST_F_TIMEOUT(device, d46_invalidated_and_read_only, 120)
{
	struct cf_env *e = &self->e;
	int nf, vol, c;

	nf = cf_nf_open();
	if (nf < 0)
		SKIP(return, CF_NO_NETFS);
	c = only_file(e, nf, 320 * MB, backing_fs(), TOP, &vol);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_fill(nf, c, 1, TOP));
	ASSERT_EQ(0, cf_nf_unuse(nf, c));
	ASSERT_EQ(0, cf_nf_wait(nf, c, CF_STATE(CF_QUIESCENT), 0, 0, 30000, NULL));
	ASSERT_EQ(0, cf_nf_invalidate(nf, c, NULL, 0, TOP, false));
	ASSERT_EQ(0, mount(NULL, e->dir, NULL, MS_REMOUNT | MS_RDONLY, NULL));
	EXPECT_EQ(-ENOBUFS, cf_nf_attach(nf, c, false));
	ASSERT_EQ(0, mount(NULL, e->dir, NULL, MS_REMOUNT, NULL));

	ASSERT_EQ(0, cf_nf_unuse(nf, c));
	ASSERT_EQ(0, cf_nf_wait(nf, c, CF_STATE(CF_QUIESCENT), 0, 0, LONG, NULL));
	ASSERT_EQ(0, cf_nf_attach(nf, c, false));
	cf_nf_note_release(nf, c);
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, TOP, TOP));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	close(nf);
}

/* The limits are kept: bytes are counted, those on their way included. */
TEST_F_TIMEOUT(device, d50_stops_in_time, 120)
{
	struct cf_env *e = &self->e;
	const __u64 size = 512 * MB;
	struct cf_statistics st;
	struct statfs fs;
	int nf, vol, c, stop, ret = 0;
	__u64 off, slack;

	nf = cf_nf_open();
	if (nf < 0)
		SKIP(return, CF_NO_NETFS);
	ASSERT_EQ(0, cf_env_store(e, 320 * MB, backing_fs()));
	ASSERT_EQ(0, statfs(e->dir, &fs));
	stop = (int)(fs.f_bavail * 100 / fs.f_blocks) - 25;
	ASSERT_EQ(0, cf_cmd(e->dev, "brun %d%%", stop + 10));
	ASSERT_EQ(0, cf_cmd(e->dev, "bcull %d%%", stop + 5));
	ASSERT_EQ(0, cf_cmd(e->dev, "bstop %d%%", stop));
	ASSERT_EQ(0, cf_env_bind_original(e));
	vol = cf_nf_volume(nf, "v", e->tag, NULL, 0);
	c = cf_nf_file(nf, vol, "file", NULL, 0, size, false);
	ASSERT_LT(0, c);
	for (off = 0; off < size && !ret; off += 64 * KB)
		ret = cf_nf_store(nf, c, 1, off, 64 * KB, size);
	EXPECT_EQ(-ENOBUFS, ret);
	ASSERT_EQ(0, cf_statistics(e->dev, &st));
	EXPECT_EQ(1, st.cull);
	ASSERT_EQ(0, statfs(e->dir, &fs));
	/* What is needed to map it is not known beforehand; btrfs takes whole chunks for that. */
	slack = (strcmp(backing_fs(), "btrfs") ? MB : 64 * MB) / fs.f_bsize;
	EXPECT_LE(st.bstop, fs.f_bavail + slack);
	EXPECT_GT(st.bstop + 2 * MB / fs.f_bsize, fs.f_bavail);
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	close(nf);
}

/* Space that a write was to take is given back if it fails. */
TEST_F_TIMEOUT(device, failures_take_no_space, 120)
{
	struct cf_env *e = &self->e;
	const __u64 size = 64 * MB;
	int nf, vol, c;

	nf = cf_nf_open();
	if (nf < 0)
		SKIP(return, CF_NO_NETFS);
	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	ASSERT_EQ(0, cf_env_store(e, 320 * MB, backing_fs()));
	ASSERT_EQ(0, cf_env_bind_original(e));
	vol = cf_nf_volume(nf, "v", e->tag, NULL, 0);
	c = cf_nf_file(nf, vol, "file", NULL, 0, size, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_error_injection(NOSPC));
	for (int i = 0; i < 400; i++) {
		EXPECT_GT(0, cf_nf_store(nf, c, 1, 0, MB, size));
	}
	ASSERT_EQ(0, cf_error_injection(0));
	EXPECT_EQ(0, cf_nf_fill(nf, c, 1, size / 4));
	EXPECT_EQ(0, cf_nf_check(nf, c, 1, 0, size / 4, size / 4));
	EXPECT_EQ(0, cf_poll(e->dev, POLLOUT, 0));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	close(nf);
}

/* No limits, and a file system that is really full. */
TEST_F_TIMEOUT(device, really_full, 60)
{
	struct cf_env *e = &self->e;
	const __u64 size = 64 * MB;
	struct statfs fs;
	struct cf_fetch f;
	int nf, vol, c;
	__u64 left;

	nf = cf_nf_open();
	if (nf < 0)
		SKIP(return, CF_NO_NETFS);
	ASSERT_EQ(0, cf_env_store(e, 320 * MB, backing_fs()));
	ASSERT_EQ(0, cf_cmd(e->dev, "bstop 0%%"));
	ASSERT_EQ(0, cf_cmd(e->dev, "bcull 1%%"));
	ASSERT_EQ(0, cf_cmd(e->dev, "brun 2%%"));
	ASSERT_EQ(0, cf_env_bind_original(e));
	vol = cf_nf_volume(nf, "v", e->tag, NULL, 0);
	c = cf_nf_file(nf, vol, "file", NULL, 0, size, true);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, statfs(e->dir, &fs));
	left = fs.f_bavail * fs.f_bsize;
	for (__u64 n = left - 2 * MB; n; n -= MB)
		if (!put_ballast(e, n))
			break;
	for (__u64 off = 0; off < size; off += MB)
		ended(_metadata, cf_nf_store(nf, c, 1, off, MB, size), "store");
	/* Of another version, at places that are stored or not. */
	for (__u64 off = 0; off < size; off += 4 * MB)
		ended(_metadata, cf_nf_store(nf, c, 2, off, 16 * CF_GRANULE, size), "store");
	cf_nf_note_release(nf, c);
	for (__u64 off = 0; off < size; off += 4 * MB) {
		ASSERT_EQ(0, cf_nf_fetch(nf, c, 2, off, 16 * CF_GRANULE, size, &f, NULL));
		EXPECT_EQ(-1, f.bad);
		EXPECT_EQ(0, f.err);
		ASSERT_EQ(0, cf_nf_fetch(nf, c, 1, off + 16 * CF_GRANULE, 4 * MB - 16 * CF_GRANULE,
					 size, &f, NULL));
		EXPECT_EQ(-1, f.bad);
		EXPECT_EQ(0, f.err);
	}
	EXPECT_EQ(0, cf_cmd(e->dev, "debug 0"));
	ASSERT_EQ(0, put_ballast(e, 0));
	EXPECT_EQ(0, cf_nf_store(nf, c, 3, 0, MB, size));
	EXPECT_EQ(0, cf_nf_check(nf, c, 3, 0, MB, size));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	close(nf);
}

/* --- frozen --- */

/* A call in a thread, and what it is made with. */
struct call {
	int		nf, vol, c, fd;
	struct cf_task	task;
};

static int start(struct call *t, int (*fn)(void *arg))
{
	return cf_task_start(&t->task, fn, t);
}

/* 0 or what it returned; -ETIMEDOUT if it is still at it. */
static int finish(struct call *t, int ms)
{
	int ret;

	return cf_task_wait(&t->task, &ret, ms) ?: ret;
}

static int do_freeze(void *arg)
{
	const struct call *t = arg;

	return ioctl(t->fd, FIFREEZE, 0) ? -errno : 0;
}

static int do_store(void *arg)
{
	const struct call *t = arg;

	return cf_nf_store(t->nf, t->c, 1, 8 * CF_GRANULE, 4 * CF_GRANULE, TOP);
}

static int do_write_back(void *arg)
{
	const struct call *t = arg;
	struct cf_netfs_subreq a;
	int ret;

	/* Where the library does not, the file system writes, and whole pages. */
	if (!cf_nf_has_streams(t->nf))
		return cf_nf_store(t->nf, t->c, 1, 12 * CF_GRANULE, 2 * CF_GRANULE, TOP);
	ret = cf_nf_store_subreq(t->nf, t->c, 1, 12 * CF_GRANULE, 2 * CF_GRANULE + 50, TOP, 0, &a);
	return ret ? ret : a.error;
}

static int do_create(void *arg)
{
	const struct call *t = arg;
	int c = cf_nf_file(t->nf, t->vol, "new", NULL, 0, TOP, false);

	return c < 0 ? c : cf_nf_detach(t->nf, c, false);
}

static int do_submit(void *arg)
{
	const struct call *t = arg;
	unsigned char buf[CF_GRANULE];
	struct cf_netfs_write w;
	int ret;

	cf_pattern(1, 4 * CF_GRANULE, buf, sizeof(buf));
	ret = cf_nf_write(t->nf, t->c, 0, buf, 4 * CF_GRANULE, sizeof(buf), TOP,
			  CF_IO_ISSUE | CF_IO_SYNC, &w);
	return ret ? ret : (int)w.ret;
}

static int do_misfit(void *arg)
{
	const struct call *t = arg;
	struct cf_netfs_write w;
	int ret = cf_nf_write(t->nf, t->c, 0, "abcde", 5 * CF_GRANULE + 5, 5, TOP,
			      CF_IO_ISSUE | CF_IO_SYNC, &w);

	return ret ? ret : (int)w.ret;
}

/* What submitting says. Nobody waits for the end. */
static int do_submit_async(void *arg)
{
	const struct call *t = arg;
	unsigned char buf[CF_GRANULE];
	struct cf_netfs_write w = {
		.cookie = t->c, .start = 2 * CF_GRANULE, .len = sizeof(buf), .i_size = TOP,
		.buf = (unsigned long)buf, .how = CF_IO_ISSUE, .timeout_ms = 1,
	};

	cf_pattern(1, 2 * CF_GRANULE, buf, sizeof(buf));
	if (!ioctl(t->nf, CF_NETFS_WRITE, &w))
		return w.ret == -EIOCBQUEUED ? (int)w.result : (int)w.ret;
	return errno == ETIMEDOUT ? (int)w.ret : -errno;
}

static int do_write_back_new(void *arg)
{
	const struct call *t = arg;
	struct cf_netfs_subreq a;
	int ret;

	ret = cf_nf_store_subreq(t->nf, t->c, 1, 0, CF_GRANULE, TOP, 0, &a);
	return ret ? ret : a.error;
}

/* Writes of all kinds, so that each has given back what it took against freezing. */
static void write_around(struct __test_metadata *_metadata, int nf, int c)
{
	static unsigned char buf[2 * CF_GRANULE];
	struct cf_netfs_subreq s;
	struct cf_netfs_write w;

	for (unsigned int bits = 0; bits <= EIOS; bits++) {
		/* I/O errors would be the end of it. */
		if (bits == EIOS || (bits && cf_error_injection(bits)))
			continue;
		cf_nf_store(nf, c, 1, 0, 8 * CF_GRANULE, TOP);
		cf_nf_store_subreq(nf, c, 1, 100, 3 * CF_GRANULE, TOP, 0, &s);
		cf_pattern(1, 0, buf, sizeof(buf));
		cf_nf_write(nf, c, 0, buf, 0, sizeof(buf), TOP, CF_IO_ISSUE | CF_IO_SYNC, &w);
		cf_nf_write(nf, c, 0, buf, 5, 100, TOP, CF_IO_ISSUE, &w);
		cf_nf_resize(nf, c, TOP - 100);
		cf_nf_resize(nf, c, TOP);
		cf_error_injection(0);
	}
	ASSERT_EQ(0, cf_nf_store(nf, c, 1, 0, 8 * CF_GRANULE, TOP));
	ASSERT_EQ(0, cf_nf_note_release(nf, c));
}

TEST_F_TIMEOUT(device, frozen, 120)
{
	struct cf_env *e = &self->e;
	struct call freezer = { 0 }, t[3];
	struct cf_statistics st;

	t[0] = (struct call){ .nf = cf_nf_open() };
	if (t[0].nf < 0)
		SKIP(return, CF_NO_NETFS);
	t[0].c = only_file(e, t[0].nf, 320 * MB, backing_fs(), TOP, &t[0].vol);
	ASSERT_LT(0, t[0].c);
	ASSERT_EQ(0, cf_nf_use(t[0].nf, t[0].c, true));
	t[1] = t[0];
	t[2] = t[0];
	write_around(_metadata, t[0].nf, t[0].c);

	freezer.fd = open(e->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_LE(0, freezer.fd);
	ASSERT_EQ(0, start(&freezer, do_freeze));
	ASSERT_EQ(0, finish(&freezer, LONG));

	/* What is there is there; what would be written waits. */
	EXPECT_EQ(0, cf_nf_check(t[0].nf, t[0].c, 1, 0, 8 * CF_GRANULE, TOP));
	EXPECT_EQ(0, cf_statistics(e->dev, &st));
	ASSERT_EQ(0, start(&t[0], do_store));
	ASSERT_EQ(0, start(&t[1], do_write_back));
	ASSERT_EQ(0, start(&t[2], do_create));
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(-ETIMEDOUT, finish(&t[i], BRIEF));
	}
	EXPECT_EQ(0, cf_nf_check(t[0].nf, t[0].c, 1, 0, 8 * CF_GRANULE, TOP));

	ASSERT_EQ(0, ioctl(freezer.fd, FITHAW, 0));
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(0, finish(&t[i], LONG));
	}
	EXPECT_EQ(0, cf_nf_check(t[0].nf, t[0].c, 1, 0, 14 * CF_GRANULE, TOP));
	EXPECT_EQ(0, cf_nf_absent(t[0].nf, t[0].c, 14 * CF_GRANULE, 2 * CF_GRANULE, TOP));

	/* And it can be frozen again. */
	ASSERT_EQ(0, start(&freezer, do_freeze));
	ASSERT_EQ(0, finish(&freezer, LONG));
	ASSERT_EQ(0, ioctl(freezer.fd, FITHAW, 0));
	close(freezer.fd);
	ASSERT_EQ(0, cf_nf_unuse(t[0].nf, t[0].c));
	ASSERT_EQ(0, cf_nf_detach(t[0].nf, t[0].c, false));
	close(t[0].nf);
}

/*
 * Who stores what he has read has pages locked, and freezing may wait for somebody who waits
 * for these: so he does not wait for the thaw, and what he can't store is missing.
 */
TEST_F_TIMEOUT(device, d39_store_while_frozen, 120)
{
	struct cf_env *e = &self->e;
	int ret, new, queued = 0, refused = 0;
	struct call freezer = { 0 }, t, copy, fresh;
	long long end;

	t = (struct call){ .nf = cf_nf_open() };
	if (t.nf < 0)
		SKIP(return, CF_NO_NETFS);
	t.c = only_file(e, t.nf, 320 * MB, backing_fs(), TOP, &t.vol);
	ASSERT_LT(0, t.c);
	/* There are data behind the hole. */
	ASSERT_EQ(0, cf_nf_use(t.nf, t.c, true));
	ASSERT_EQ(0, cf_nf_store(t.nf, t.c, 1, 8 * CF_GRANULE, 8 * CF_GRANULE, TOP));
	ASSERT_EQ(0, cf_nf_note_release(t.nf, t.c));
	copy = t;
	copy.c = cf_nf_file(t.nf, t.vol, "copy", NULL, 0, TOP, false);
	ASSERT_LT(0, copy.c);
	freezer.fd = open(e->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_LE(0, freezer.fd);
	ASSERT_EQ(0, start(&freezer, do_freeze));
	ASSERT_EQ(0, finish(&freezer, LONG));

	ASSERT_EQ(0, start(&t, do_submit));
	EXPECT_EQ(-EBUSY, finish(&t, PROMPT));
	ASSERT_EQ(0, start(&t, do_misfit));
	EXPECT_EQ(-EINVAL, finish(&t, PROMPT));
	/* Nobody waits for pages that are copied, as who is to thaw may want their memory. */
	ASSERT_EQ(0, start(&copy, do_submit_async));
	EXPECT_EQ(-EBUSY, finish(&copy, PROMPT));
	ASSERT_EQ(0, start(&copy, do_store));
	EXPECT_EQ(-EBUSY, finish(&copy, PROMPT));
	for (int i = 0; i < 80 && !_metadata->exit_code; i++) {
		ASSERT_EQ(0, start(&t, do_submit_async));
		ret = finish(&t, PROMPT);
		queued += ret == -EIOCBQUEUED;
		refused += ret == -EBUSY;
	}
	EXPECT_EQ(80, queued + refused);
	EXPECT_LT(0, queued);
	EXPECT_LT(0, refused);
	EXPECT_EQ(0, cf_nf_absent(t.nf, t.c, 0, 8 * CF_GRANULE, TOP));
	EXPECT_EQ(0, cf_nf_check(t.nf, t.c, 1, 8 * CF_GRANULE, 8 * CF_GRANULE, TOP));

	/* Nor is a file waited for that can't be made now. */
	fresh = t;
	new = cf_nf_cookie(t.nf, t.vol, "new", 3, NULL, 0, TOP);
	ASSERT_LT(0, new);
	fresh.c = new;
	ASSERT_EQ(0, cf_nf_use(t.nf, new, false));
	ASSERT_EQ(0, cf_nf_wait(t.nf, new, CF_STATE(CF_CREATING), 0, 0, LONG, NULL));
	if (cf_nf_has_streams(t.nf)) {
		ASSERT_EQ(0, start(&fresh, do_write_back_new));
		EXPECT_EQ(-ENOBUFS, finish(&fresh, PROMPT));
	}

	ASSERT_EQ(0, ioctl(freezer.fd, FITHAW, 0));
	end = cf_now() + cf_ms(3 * LONG);
	do {
		ret = cf_nf_check(t.nf, t.c, 1, 2 * CF_GRANULE, CF_GRANULE, TOP);
	} while (ret == -ENODATA && cf_now() < end && !poll(NULL, 0, 10));
	EXPECT_EQ(0, ret);
	EXPECT_EQ(0, cf_nf_absent(t.nf, t.c, 3 * CF_GRANULE, 5 * CF_GRANULE, TOP));
	EXPECT_EQ(0, cf_nf_store(t.nf, t.c, 1, 0, 8 * CF_GRANULE, TOP));
	EXPECT_EQ(0, cf_nf_check(t.nf, t.c, 1, 0, TOP, TOP));
	EXPECT_EQ(0, cf_nf_absent(t.nf, copy.c, 0, TOP, TOP));
	EXPECT_EQ(0, cf_nf_store(t.nf, copy.c, 1, 0, TOP, TOP));
	EXPECT_EQ(0, cf_nf_wait(t.nf, new, CF_STATE(CF_ACTIVE), 0, 0, LONG, NULL));
	EXPECT_EQ(0, cf_cmd(e->dev, "debug 0"));

	/* Each has given back what it took against freezing. */
	ASSERT_EQ(0, start(&freezer, do_freeze));
	ASSERT_EQ(0, finish(&freezer, LONG));
	ASSERT_EQ(0, ioctl(freezer.fd, FITHAW, 0));
	close(freezer.fd);
	ASSERT_EQ(0, cf_nf_detach(t.nf, new, false));
	ASSERT_EQ(0, cf_nf_detach(t.nf, copy.c, false));
	ASSERT_EQ(0, cf_nf_unuse(t.nf, t.c));
	ASSERT_EQ(0, cf_nf_detach(t.nf, t.c, false));
	close(t.nf);
}

TEST_HARNESS_MAIN
