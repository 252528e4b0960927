// SPDX-License-Identifier: GPL-2.0-only
/*
 * A hole makes exactly the READ that is missing, what the daemon writes is what
 * the reader gets, and what is there is never asked for again.
 */
#include "harness.h"

#include <sys/mman.h>

#include "lib/delay.h"
#include "lib/netfs.h"
#include "lib/trace.h"

TEST_F(ondemand, one_page)
{
	struct cf_env *e = &self->e;
	struct cf_msg open_msg, m;
	struct cf_result res;
	struct cf_reader r;
	int fd;

	fd = open_object(e, &r, "file", MB, &open_msg);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 5 * 4096 + 10, 20));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	EXPECT_EQ(40, m.hdr.len);
	EXPECT_EQ(open_msg.hdr.object_id, m.hdr.object_id);
	EXPECT_EQ(5 * 4096, cf_rd(&m)->off);
	EXPECT_EQ(4096, cf_rd(&m)->len);
	EXPECT_EQ(fd, (int)cf_rd(&m)->fd);
	EXPECT_EQ(0, cf_rd(&m)->flags);
	EXPECT_EQ(0, cf_reader_done(&r));
	EXPECT_EQ(1, cf_idle(e->dev));

	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(20, res.n);
	EXPECT_EQ(-1, res.bad);

	/* From the page cache, and from the backing file after dropping that. */
	EXPECT_EQ(100, read_here(e, "file", 1, 5 * 4096 + 1, 100));
	ASSERT_EQ(0, cf_drop_caches("1"));
	EXPECT_EQ(4096, read_here(e, "file", 1, 5 * 4096, 4096));
	EXPECT_EQ(1, cf_idle(e->dev));
}

/* Data that were written ahead of any miss are never asked for. */
TEST_F(ondemand, prefetched)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &r, "file", 2 * MB + 5, &m);
	ASSERT_LE(0, fd);
	ASSERT_LT(0, cf_fill(fd, 2, 0, 3 * MB, 2 * MB + 5));
	ASSERT_EQ(0, start_stream(e, &r, "file", 2, 0, 3 * MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(2 * MB + 5, res.n);
	EXPECT_EQ(-1, res.bad);
	EXPECT_EQ(1, cf_idle(e->dev));
}

/* Only the holes are asked for, and all of them. */
TEST_F(ondemand, partly_there)
{
	enum { PAGES = 64 };
	struct cf_env *e = &self->e;
	bool there[PAGES] = { false };
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int fd, ret;

	fd = open_object(e, &r, "file", PAGES * 4096, &m);
	ASSERT_LE(0, fd);
	for (int i = 0; i < PAGES; i += 7) {
		ASSERT_EQ(4096, cf_fill(fd, 3, i * 4096, 4096, PAGES * 4096));
		there[i] = true;
	}
	ASSERT_EQ(0, start_stream(e, &r, "file", 3, 0, PAGES * 4096));
	while (!cf_reader_done(&r)) {
		ret = cf_next(e->dev, &m, BRIEF);
		if (ret == -ETIMEDOUT)
			continue;
		ASSERT_LT(0, ret);
		ASSERT_EQ(CACHEFILES_OP_READ, m.hdr.opcode);
		ASSERT_EQ(0, cf_rd(&m)->off % 4096);
		ASSERT_EQ(0, cf_rd(&m)->len % 4096);
		for (__u64 p = cf_rd(&m)->off / 4096;
		     p < (cf_rd(&m)->off + cf_rd(&m)->len) / 4096; p++) {
			EXPECT_FALSE(there[p]) {
				TH_LOG("page %llu asked for", (unsigned long long)p);
			}
			there[p] = true;
		}
		ASSERT_EQ(0, serve_read(&m, fd, 3, PAGES * 4096));
	}
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(PAGES * 4096, res.n);
	EXPECT_EQ(-1, res.bad);
	for (int i = 0; i < PAGES; i++) {
		EXPECT_TRUE(there[i]);
	}
}

/* Either the device is readable, or @r has a result. */
static void until_message_or_end(struct cf_env *e, struct cf_reader *r)
{
	struct pollfd p[] = {
		{ .fd = e->dev, .events = POLLIN }, { .fd = r->pipe, .events = POLLIN },
	};

	poll(p, 2, cf_ms(LONG));
}

/* A completion without data is the daemon's way to fail a READ. */
TEST_F(ondemand, d48_completed_without_data)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	for (int i = 0; i < 4 && !cf_reader_done(&r); i++) {
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
		ASSERT_EQ(0, cf_cread(fd, m.hdr.msg_id));
		until_message_or_end(e, &r);
	}
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(EIO, res.err);

	/* And no more than that: the next read asks again and gets it. */
	ASSERT_EQ(0, read_served(e, "file", fd, 1, 0, 4096, MB));
}

/* A completion after part of the data brings another READ, never zeros. */
TEST_F(ondemand, d48_completed_with_part)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int fd, ret, asked = 0;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_stream(e, &r, "file", 4, 0, MB));
	while (!cf_reader_done(&r)) {
		__u64 half;

		ret = cf_next(e->dev, &m, BRIEF);
		if (ret == -ETIMEDOUT)
			continue;
		ASSERT_LT(0, ret);
		ASSERT_EQ(CACHEFILES_OP_READ, m.hdr.opcode);
		half = cf_rd(&m)->len / 8192 * 4096;
		if (!half)
			half = 4096;
		ASSERT_EQ((ssize_t)half, cf_fill(fd, 4, cf_rd(&m)->off, half, MB));
		ASSERT_EQ(0, cf_cread(fd, m.hdr.msg_id));
		ASSERT_GT(600, ++asked);
	}
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(MB, res.n);
	EXPECT_EQ(-1, res.bad);
}

/* Answer every READ with all but its last block, which then is asked for by itself. */
TEST_F(ondemand, d48_completed_but_for_the_end)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m, rest;
	int fd;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_stream(e, &r, "file", 4, 0, 65536));
	while (!cf_reader_done(&r)) {
		__u64 most;

		if (cf_next(e->dev, &m, BRIEF) == -ETIMEDOUT)
			continue;
		ASSERT_EQ(CACHEFILES_OP_READ, m.hdr.opcode);
		most = cf_rd(&m)->len - 4096;
		if (most) {
			ASSERT_EQ((ssize_t)most, cf_fill(fd, 4, cf_rd(&m)->off, most, MB));
			ASSERT_EQ(0, cf_cread(fd, m.hdr.msg_id));
			ASSERT_EQ(0, cf_expect(e->dev, &rest, CACHEFILES_OP_READ, LONG));
			EXPECT_EQ(cf_rd(&m)->off + most, cf_rd(&rest)->off);
			EXPECT_EQ(4096, cf_rd(&rest)->len);
			m = rest;
		}
		ASSERT_EQ(0, serve_read(&m, fd, 4, MB));
	}
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(65536, res.n);
	EXPECT_EQ(-1, res.bad);
}

/* What was written elsewhere is no answer, and is there for who wants it. */
TEST_F(ondemand, d48_completed_elsewhere)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 65536, 4096));
	/* A page that failed in read-ahead is asked for once more by the reader. */
	for (int i = 0; i < 4 && !cf_reader_done(&r); i++) {
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
		ASSERT_EQ(8192, cf_fill(fd, 1, 131072, 8192, MB));
		ASSERT_EQ(0, cf_cread(fd, m.hdr.msg_id));
		until_message_or_end(e, &r);
	}
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(EIO, res.err);
	EXPECT_EQ(8192, read_here(e, "file", 1, 131072, 8192));
	EXPECT_EQ(1, cf_idle(e->dev));
}

/*
 * A READ that fails costs what it was for, not the 256 KiB beside it that were read ahead
 * with it; and when its pages have gone, just the one block. It costs nothing later.
 */
TEST_F(ondemand, d49_only_what_is_missing_fails)
{
	enum { BAD = 37 * 4096, SLICE = 64 * 4096, LATE = 100 * 4096, TOP = 128 * 4096 };
	struct cf_env *e = &self->e;
	struct cf_reader r, other;
	struct cf_result res;
	struct cf_msg m, late;
	int fd;

	fd = open_object(e, &r, "file", TOP, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(BAD, cf_fill(fd, 1, 0, BAD, TOP));
	ASSERT_EQ(LATE - BAD - 4096, cf_fill(fd, 1, BAD + 4096, LATE - BAD - 4096, TOP));
	ASSERT_EQ(TOP - LATE - 4096, cf_fill(fd, 1, LATE + 4096, TOP - LATE - 4096, TOP));
	/* Somebody waits for something else. */
	ASSERT_EQ(0, start_read(e, &other, "file", 1, LATE, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &late, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, start_stream(e, &r, "file", 1, 0, SLICE));
	while (!cf_reader_done(&r)) {
		if (cf_next(e->dev, &m, BRIEF) == -ETIMEDOUT)
			continue;
		ASSERT_EQ(CACHEFILES_OP_READ, m.hdr.opcode);
		EXPECT_EQ(BAD, cf_rd(&m)->off);
		EXPECT_EQ(4096, cf_rd(&m)->len);
		ASSERT_EQ(0, cf_cread(fd, m.hdr.msg_id));
	}
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(EIO, res.err);
	EXPECT_EQ(-1, res.bad);
	EXPECT_EQ(0, cf_reader_done(&other));
	ASSERT_EQ(0, serve_read(&late, fd, 1, TOP));
	ASSERT_EQ(0, cf_reader_wait(&other, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);

	/* All the rest, without asking. */
	EXPECT_EQ(TOP - SLICE, read_here(e, "file", 1, SLICE, TOP));
	ASSERT_EQ(0, cf_drop_caches("1"));
	EXPECT_EQ(BAD, read_here(e, "file", 1, 0, BAD));
	EXPECT_EQ(TOP - BAD - 4096, read_here(e, "file", 1, BAD + 4096, TOP));
	EXPECT_EQ(1, cf_idle(e->dev));
	/* And that, once the daemon has it. */
	ASSERT_EQ(0, start_stream(e, &r, "file", 1, 0, TOP));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	EXPECT_EQ(BAD, cf_rd(&m)->off);
	ASSERT_EQ(0, serve_read(&m, fd, 1, TOP));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(TOP, res.n);
	EXPECT_EQ(-1, res.bad);
}

static void read_to_the_end(struct __test_metadata *_metadata, struct cf_env *e, __u64 size,
			    bool direct)
{
	struct cf_job job = { .seed = size, .len = 2 * MB, .sequential = true, .direct = direct };
	__u64 top = (size + 4095) / 4096 * 4096;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	char name[32];
	int fd, ret;

	snprintf(name, sizeof(name), "%c%llu", direct ? 'd' : 's', size);
	fd = open_object(e, &r, name, (long long)size, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, cf_reader_start(&r, e->mnt, name, &job));
	while (!cf_reader_done(&r)) {
		ret = cf_next(e->dev, &m, BRIEF);
		if (ret == -ETIMEDOUT)
			continue;
		ASSERT_LT(0, ret);
		EXPECT_GE(top, cf_rd(&m)->off + cf_rd(&m)->len);
		EXPECT_EQ(0, cf_rd(&m)->len % 4096);
		ASSERT_EQ(0, serve_read(&m, fd, size, size));
	}
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(size, (__u64)res.n);
	EXPECT_EQ(-1, res.bad) {
		TH_LOG("size %llu: wrong at %lld", size, (long long)res.bad);
	}
}

/* The end of a file: the READ covers whole blocks, the reader sees the size. */
TEST_F(ondemand, d54_odd_sizes)
{
	static const unsigned int sizes[] = { 1, 511, 4095, 4097, 8191, 262143, 262145 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		read_to_the_end(_metadata, &self->e, sizes[i], false);
		read_to_the_end(_metadata, &self->e, sizes[i], true);
	}
}

struct answer {
	int	fd;
	__u32	id;
};

/* One read by a file system that takes its files for endless. */
struct endless {
	int			nf, c;
	__u64			off, len;
	unsigned char		buf[65536];
	struct cf_netfs_read	a;
	int			ret;
};

static void *read_endless(void *arg)
{
	struct endless *r = arg;

	r->ret = cf_nf_read(r->nf, r->c, 0, r->buf, r->off, r->len, 1ULL << 40, CF_IO_ISSUE,
			    CF_HOLE_IGNORE, &r->a);
	return NULL;
}

/* A file of @size bytes that it has open: the object's descriptor, or a negative errno. */
static int open_endless(struct cf_env *e, struct endless *r, long long size)
{
	struct cf_msg m;
	int vol, ret;

	*r = (struct endless) { .nf = cf_nf_open(), .len = sizeof(r->buf) };
	if (r->nf < 0)
		return r->nf;
	vol = cf_nf_volume(r->nf, e->volume, e->tag, NULL, 0);
	if (vol < 0)
		return vol;
	r->c = cf_nf_cookie_advice(r->nf, vol, "file", 4, NULL, 0, 0, CF_ADV_WANT_CACHE_SIZE);
	if (r->c < 0)
		return r->c;
	ret = cf_nf_use(r->nf, r->c, false);
	if (!ret)
		ret = cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG);
	if (!ret)
		ret = cf_copen(e->dev, m.hdr.msg_id, size);
	memset(r->buf, 0xee, sizeof(r->buf));
	return ret ? ret : cf_open_fd(&m);
}

static int close_endless(struct endless *r, int fd)
{
	int ret = cf_nf_detach(r->nf, r->c, false);

	close(r->nf);
	close(fd);
	return ret;
}

static void expect_read(struct __test_metadata *_metadata, struct cf_env *e, struct cf_msg *m,
			__u64 off, __u64 len)
{
	ASSERT_EQ(0, cf_expect(e->dev, m, CACHEFILES_OP_READ, LONG));
	EXPECT_EQ(off, cf_rd(m)->off);
	EXPECT_EQ(len, cf_rd(m)->len);
}

/* What it asks for beyond the end is zeros, and no READ is for that. */
TEST_F(cache, d54_reader_that_knows_no_size)
{
	enum { SIZE = 5000, TOP = 8192 };
	static struct endless r;
	struct cf_env *e = &self->e;
	pthread_t thread;
	struct cf_msg m;
	int fd;

	fd = open_endless(e, &r, SIZE);
	if (r.nf < 0)
		SKIP(return, CF_NO_NETFS);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, pthread_create(&thread, NULL, read_endless, &r));
	expect_read(_metadata, e, &m, 0, TOP);
	ASSERT_EQ(0, serve_read(&m, fd, 1, SIZE));
	pthread_join(thread, NULL);
	EXPECT_EQ(0, r.ret);
	EXPECT_EQ(1, r.a.completions);
	EXPECT_EQ((__s64)sizeof(r.buf), r.a.result);
	EXPECT_EQ(-1, cf_differs(1, 0, r.buf, SIZE));
	EXPECT_EQ(0, r.buf[SIZE]);
	EXPECT_EQ(0, memcmp(r.buf + SIZE, r.buf + SIZE + 1, sizeof(r.buf) - SIZE - 1));
	EXPECT_EQ(1, cf_idle(e->dev));
	ASSERT_EQ(0, close_endless(&r, fd));
}

/* However much is asked for at once, a READ ends at the next multiple of 256 KiB. */
TEST_F(cache, reads_end_together)
{
	enum { END = 256 * KB, HALF = sizeof(((struct endless *)0)->buf) / 2 };
	static struct endless r;
	struct cf_env *e = &self->e;
	struct cf_msg before, behind;
	pthread_t thread;
	int fd;

	fd = open_endless(e, &r, MB);
	if (r.nf < 0)
		SKIP(return, CF_NO_NETFS);
	ASSERT_LE(0, fd);
	r.off = END - HALF;
	ASSERT_EQ(0, pthread_create(&thread, NULL, read_endless, &r));
	expect_read(_metadata, e, &before, END - HALF, HALF);
	expect_read(_metadata, e, &behind, END, HALF);
	ASSERT_EQ(0, serve_read(&behind, fd, 1, MB));
	ASSERT_EQ(0, serve_read(&before, fd, 1, MB));
	pthread_join(thread, NULL);
	EXPECT_EQ(0, r.ret);
	EXPECT_EQ((__s64)sizeof(r.buf), r.a.result);
	EXPECT_EQ(-1, cf_differs(1, r.off, r.buf, sizeof(r.buf)));
	ASSERT_EQ(0, close_endless(&r, fd));
}

/* What was invalidated while it was fetched is not what the file system has asked for. */
TEST_F(cache, invalidated_meanwhile)
{
	static struct endless r;
	struct cf_env *e = &self->e;
	pthread_t thread;
	struct cf_msg m;
	int fd;

	fd = open_endless(e, &r, sizeof(r.buf));
	if (r.nf < 0)
		SKIP(return, CF_NO_NETFS);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, pthread_create(&thread, NULL, read_endless, &r));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, cf_nf_invalidate(r.nf, r.c, NULL, 0, sizeof(r.buf), false));
	EXPECT_LE(0, serve_read(&m, fd, 1, sizeof(r.buf)));
	pthread_join(thread, NULL);
	EXPECT_EQ(0, r.ret);
	EXPECT_EQ(1, r.a.completions);
	EXPECT_EQ(-ESTALE, r.a.result);
	ASSERT_EQ(0, close_endless(&r, fd));
}

static int do_cread(void *arg)
{
	const struct answer *a = arg;

	return -cf_cread(a->fd, a->id);
}

/*
 * It is the daemon who goes on with a read when he has answered. If he is killed there, and
 * the file system below says so, that is no error of the reader's.
 */
TEST_F(cache, answered_by_the_dying)
{
	static struct endless r;
	struct cf_env *e = &self->e;
	struct cf_reader d;
	struct answer a;
	pthread_t thread;
	struct cf_msg m;
	int trap;

	if (cf_error_injection(0))
		SKIP(return, CF_NO_INJECTION);
	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	a.fd = open_endless(e, &r, sizeof(r.buf));
	if (r.nf < 0)
		SKIP(return, CF_NO_NETFS);
	ASSERT_LE(0, a.fd);
	ASSERT_EQ(0, pthread_create(&thread, NULL, read_endless, &r));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	a.id = m.hdr.msg_id;
	ASSERT_LT(0, cf_fill(a.fd, 1, 0, sizeof(r.buf), sizeof(r.buf)));
	trap = cf_delay_arm("admit", 0);
	ASSERT_LE(0, trap);
	ASSERT_EQ(0, cf_child_with(&d, a.fd, do_cread, &a));
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	ASSERT_EQ(0, cf_error_injection(4));
	EXPECT_LE(0, cf_reader_kill(&d, LONG));
	cf_error_injection(0);
	pthread_join(thread, NULL);
	close(trap);
	EXPECT_EQ(0, r.ret);
	EXPECT_EQ(1, r.a.completions);
	EXPECT_EQ((__s64)sizeof(r.buf), r.a.result);
	EXPECT_EQ(-1, cf_differs(1, 0, r.buf, sizeof(r.buf)));
	ASSERT_EQ(0, close_endless(&r, a.fd));
}

/*
 * What another READ is under way for is not asked for again: who wants more asks for what
 * lies before it, waits for it, and asks for the rest. The end of the cache ends them all.
 */
TEST_F(cache, around_another_read)
{
	enum { AT = 32768, LEN = 4096 };
	static struct endless r, all, same;
	struct cf_env *e = &self->e;
	struct cf_msg m, other;
	pthread_t thread[3];
	int fd, trace;

	fd = open_endless(e, &r, sizeof(r.buf));
	if (r.nf < 0)
		SKIP(return, CF_NO_NETFS);
	ASSERT_LE(0, fd);
	r.off = AT;
	r.len = LEN;
	all = (struct endless) { .nf = r.nf, .c = r.c, .len = sizeof(all.buf) };
	ASSERT_EQ(0, pthread_create(&thread[0], NULL, read_endless, &r));
	expect_read(_metadata, e, &m, AT, LEN);
	ASSERT_EQ(0, pthread_create(&thread[1], NULL, read_endless, &all));
	expect_read(_metadata, e, &other, 0, AT);
	EXPECT_EQ(0, serve_read(&other, fd, 1, sizeof(r.buf)));
	EXPECT_EQ(1, cf_idle(e->dev));
	ASSERT_EQ(0, serve_read(&m, fd, 1, sizeof(r.buf)));
	pthread_join(thread[0], NULL);
	expect_read(_metadata, e, &other, AT + LEN, sizeof(all.buf) - AT - LEN);
	EXPECT_EQ(0, serve_read(&other, fd, 1, sizeof(r.buf)));
	pthread_join(thread[1], NULL);
	EXPECT_EQ(LEN, r.a.result);
	EXPECT_EQ(-1, cf_differs(1, AT, r.buf, LEN));
	EXPECT_EQ((__s64)sizeof(all.buf), all.a.result);
	EXPECT_EQ(-1, cf_differs(1, 0, all.buf, sizeof(all.buf)));
	ASSERT_EQ(0, close_endless(&r, fd));

	/* A new file, of which nothing is there. */
	e->volume[0] ^= 1;
	fd = open_endless(e, &r, sizeof(r.buf));
	ASSERT_LE(0, fd);
	r.len = LEN;
	all = r;
	same = r;
	ASSERT_EQ(0, pthread_create(&thread[0], NULL, read_endless, &r));
	expect_read(_metadata, e, &m, 0, LEN);
	/* Where it can be seen that they wait nobody has to guess. */
	trace = cf_trace_start();
	ASSERT_EQ(0, pthread_create(&thread[1], NULL, read_endless, &all));
	if (trace >= 0) {
		EXPECT_EQ(0, cf_trace_wait(trace, "IDLE -> FOLLOWING", LONG));
	}
	ASSERT_EQ(0, pthread_create(&thread[2], NULL, read_endless, &same));
	if (trace >= 0) {
		EXPECT_EQ(0, cf_trace_wait(trace, "IDLE -> FOLLOWING", LONG));
		cf_trace_stop(trace);
	}
	EXPECT_EQ(0, cf_poll(e->dev, POLLIN, cf_ms(BRIEF)));
	close(e->dev);
	e->dev = -1;
	for (int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	EXPECT_EQ(-EIO, r.a.result);
	EXPECT_EQ(-EIO, all.a.result);
	EXPECT_EQ(-EIO, same.a.result);
	close(r.nf);
	close(fd);
}

/* It is the daemon that fills an object: a file system that tries is turned away. */
TEST_F(cache, filled_by_the_daemon_alone)
{
	struct cf_env *e = &self->e;
	struct cf_netfs_subreq sub;
	struct cf_netfs_write w;
	static struct endless r;
	struct cf_netfs_query q;
	int fd;

	fd = open_endless(e, &r, sizeof(r.buf));
	if (r.nf < 0)
		SKIP(return, CF_NO_NETFS);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-ENOBUFS, cf_nf_store(r.nf, r.c, 1, 0, 4096, sizeof(r.buf)));
	/* Without asking first whether it may. */
	ASSERT_EQ(0, cf_nf_write(r.nf, r.c, 0, r.buf, 0, 4096, sizeof(r.buf), CF_IO_ISSUE, &w));
	EXPECT_EQ(1, w.completions);
	EXPECT_EQ(-ENOBUFS, w.result);
	ASSERT_EQ(0, cf_nf_query(r.nf, r.c, 0, sizeof(r.buf), 4096, &q));
	EXPECT_EQ(-ENOBUFS, q.ret);
	if (cf_nf_has_streams(r.nf)) {
		ASSERT_EQ(0, cf_nf_store_subreq(r.nf, r.c, 1, 0, 4096, sizeof(r.buf), 0, &sub));
		EXPECT_EQ(-ENOBUFS, sub.error);
	}
	EXPECT_EQ(-ENXIO, (int)(lseek(fd, 0, SEEK_DATA) < 0 ? -errno : 0));
	ASSERT_EQ(0, close_endless(&r, fd));
}

/* The same beyond 4 GiB. */
TEST_F(ondemand, d54_end_of_a_large_file)
{
	const __u64 size = (1ULL << 32) + 1;
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &r, "file", (long long)size, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_stream(e, &r, "file", 1, size - 4097, 2 * MB));
	while (!cf_reader_done(&r)) {
		if (cf_next(e->dev, &m, BRIEF) == -ETIMEDOUT)
			continue;
		ASSERT_EQ(CACHEFILES_OP_READ, m.hdr.opcode);
		EXPECT_GE(size + 4095, cf_rd(&m)->off + cf_rd(&m)->len);
		EXPECT_LE(size - 4097 - 2 * MB, cf_rd(&m)->off);
		ASSERT_EQ(0, serve_read(&m, fd, 1, size));
	}
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(4097, res.n);
	EXPECT_EQ(-1, res.bad);
}

static int find_rubbish(const char *path, void *arg)
{
	int *odd = arg, fd = open(path, O_RDONLY | O_CLOEXEC);
	char buf[4096] = "";

	*odd = fd < 0 || pread(fd, buf, sizeof(buf), 0) < 100;
	for (int at = 100; at < 4096; at++)
		*odd += !!buf[at];
	close(fd);
	return 0;
}

/* What the daemon puts behind the end of the file is never shown, nor in a mapping. */
TEST_F(ondemand, d54_rubbish_behind_the_end)
{
	struct cf_env *e = &self->e;
	char buf[4096], got[8192], *map;
	struct cf_result res;
	struct cf_reader r;
	int fd, file, odd = 0;
	struct cf_msg m;
	char path[160];

	fd = open_object(e, &r, "file", 100, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_read(e, &r, "file", 9, 0, 8192));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	memset(buf, 0xee, sizeof(buf));
	cf_pattern(9, 0, buf, 100);
	ASSERT_EQ(4096, pwrite(fd, buf, 4096, 0));
	ASSERT_EQ(0, cf_cread(fd, m.hdr.msg_id));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(100, res.n);
	EXPECT_EQ(-1, res.bad);

	snprintf(path, sizeof(path), "%s/file", e->mnt);
	file = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, file);
	EXPECT_EQ(100, pread(file, got, sizeof(got), 0));
	EXPECT_EQ(0, pread(file, got, sizeof(got), 100));
	/* As it was fetched, and as it is read from the cache. */
	for (int i = 0; i < 2; i++) {
		map = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 0);
		ASSERT_NE(MAP_FAILED, map);
		EXPECT_EQ(-1, cf_differs(9, 0, map, 100));
		for (int at = 100; at < 4096; at++)
			odd += !!map[at];
		EXPECT_EQ(0, odd) {
			TH_LOG("%d bytes behind the end show in a mapping", odd);
		}
		munmap(map, 4096);
		ASSERT_EQ(0, posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED));
	}
	close(file);

	/* Nor is it stored, for whatever reads the cache next. */
	snprintf(path, sizeof(path), "%.100s/cache", e->dir);
	ASSERT_EQ(1, cf_tree_count(path, find_rubbish, &odd));
	EXPECT_EQ(0, odd);
}

/* Requests are answered in any order; each wakes its own reader. */
TEST_F(ondemand, out_of_order)
{
	enum { NR = 8 };
	struct cf_env *e = &self->e;
	struct cf_reader r[NR], o;
	struct cf_msg m[NR], om;
	struct cf_result res;
	int fd;

	fd = open_object(e, &o, "file", MB, &om);
	ASSERT_LE(0, fd);
	for (int i = 0; i < NR; i++) {
		ASSERT_EQ(0, start_read(e, &r[i], "file", 5, i * 65536, 4096));
		ASSERT_EQ(0, cf_expect(e->dev, &m[i], CACHEFILES_OP_READ, LONG));
		ASSERT_EQ(i * 65536, (int)cf_rd(&m[i])->off);
	}
	for (int i = NR - 1; i >= 0; i--) {
		EXPECT_EQ(0, cf_reader_done(&r[i]));
		ASSERT_EQ(0, serve_read(&m[i], fd, 5, MB));
		ASSERT_EQ(0, cf_reader_wait(&r[i], &res, LONG));
		EXPECT_EQ(0, res.err);
		EXPECT_EQ(-1, res.bad);
	}
}

TEST_F(ondemand, whole_files_by_a_server)
{
	struct cf_job job = { .seed = 6, .len = 3 * MB, .sequential = true };
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;

	ASSERT_NE(NULL, cf_server_add(&self->s, "plain", 2 * MB + 17, 6));
	ASSERT_NE(NULL, cf_server_add(&self->s, "mapped", 2 * MB, 6));
	ASSERT_NE(NULL, cf_server_add(&self->s, "direct", 2 * MB + 17, 6));
	ASSERT_NE(NULL, cf_server_add(&self->s, "empty", 0, 6));
	ASSERT_EQ(0, cf_server_thread(&self->s));

	ASSERT_EQ(0, cf_reader_start(&r, e->mnt, "plain", &job));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(2 * MB + 17, res.n);
	EXPECT_EQ(-1, res.bad);

	ASSERT_EQ(0, cf_reader_start(&r, e->mnt, "empty", &job));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(0, res.n);

	job.direct = true;
	ASSERT_EQ(0, cf_reader_start(&r, e->mnt, "direct", &job));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(2 * MB + 17, res.n);
	EXPECT_EQ(-1, res.bad);

	job = (struct cf_job) { .seed = 6, .len = 2 * MB, .use_mmap = true, .sequential = true };
	ASSERT_EQ(0, cf_reader_start(&r, e->mnt, "mapped", &job));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
	EXPECT_EQ(0, self->s.stats->refused);
	EXPECT_EQ(0, self->s.stats->odd);
}

/* A daemon that misbehaves in small ways harms nobody but is told so. */
TEST_F(ondemand, clumsy_server)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;

	ASSERT_NE(NULL, cf_server_add(&self->s, "file", 2 * MB, 8));
	cf_server_rule(&self->s, CACHEFILES_OP_OPEN, 0, CF_GOT, CF_TWICE, 0);
	cf_server_rule(&self->s, CACHEFILES_OP_READ, 0, CF_GOT, CF_TWICE, 0);
	cf_server_rule(&self->s, CACHEFILES_OP_READ, 1, CF_GOT, CF_WRONG_ID, 0);
	cf_server_rule(&self->s, CACHEFILES_OP_READ, 2, CF_GOT, CF_LATE, 0);
	cf_server_rule(&self->s, CACHEFILES_OP_READ, 4, CF_GOT, CF_PARTIAL, 4096);
	ASSERT_EQ(0, cf_server_thread(&self->s));
	ASSERT_EQ(0, start_stream(e, &r, "file", 8, 0, 2 * MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(2 * MB, res.n);
	EXPECT_EQ(-1, res.bad);
	EXPECT_EQ(3, self->s.stats->refused);
}

/* The completion call of a 32-bit daemon works on a 64-bit kernel. */
TEST_F(ondemand, d62_compat_ioctl)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int fd, ret;

#ifndef __x86_64__
	SKIP(return, "no 32-bit system call entry");
#endif
	if (access("/proc/sys/abi/vsyscall32", F_OK) && access("/proc/sys/abi/ldt16", F_OK))
		SKIP(return, "no CONFIG_IA32_EMULATION");
	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(4096, cf_fill(fd, 1, 0, 4096, MB));
	EXPECT_EQ(-EINVAL, cf_cread32(fd, m.hdr.msg_id + 1));
	ret = cf_cread32(fd, m.hdr.msg_id);
	EXPECT_EQ(0, ret);
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
}

TEST_HARNESS_MAIN
