// SPDX-License-Identifier: GPL-2.0-only
/*
 * An answer is taken only for a request of its own kind and object that was
 * delivered and is not answered yet; any other id is refused without effect.
 */
#include <limits.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "harness.h"
#include "lib/delay.h"

struct two {
	struct cf_msg	oa, ob, ra, rb, pending;
	struct cf_reader a, b, q, p;
	int		fa, fb;
};

/* Two objects with a READ sent for each, an OPEN sent, and a READ undelivered. */
static int set_up(struct cf_env *e, struct two *t)
{
	int ret;

	t->fa = open_object(e, &t->a, "a", MB, &t->oa);
	t->fb = open_object(e, &t->b, "b", MB, &t->ob);
	if (t->fa < 0 || t->fb < 0)
		return -EIO;
	ret = start_read(e, &t->a, "a", 1, 0, 4096);
	if (!ret)
		ret = cf_expect(e->dev, &t->ra, CACHEFILES_OP_READ, LONG);
	if (!ret)
		ret = start_read(e, &t->b, "b", 2, 0, 4096);
	if (!ret)
		ret = cf_expect(e->dev, &t->rb, CACHEFILES_OP_READ, LONG);
	if (!ret)
		ret = start_stat(e, &t->p, "c");
	if (!ret)
		ret = cf_expect(e->dev, &t->pending, CACHEFILES_OP_OPEN, LONG);
	if (!ret)
		ret = start_read(e, &t->q, "a", 1, 65536, 4096);
	if (!ret)
		ret = cf_poll(e->dev, POLLIN, cf_ms(LONG)) == POLLIN ? 0 : -ETIMEDOUT;
	return ret;
}

TEST_F(ondemand, d19_d20_matrix)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct two t = { 0 };
	struct cf_msg m;
	int fc;

	ASSERT_EQ(0, set_up(e, &t));
	fc = cf_open_fd(&t.pending);

	/* copen of READs, of what is answered, of what never was. */
	EXPECT_EQ(-EINVAL, cf_copen(e->dev, t.ra.hdr.msg_id, MB));
	EXPECT_EQ(-EINVAL, cf_copen(e->dev, t.ra.hdr.msg_id, -EIO));
	EXPECT_EQ(-EINVAL, cf_copen(e->dev, t.oa.hdr.msg_id, MB));
	EXPECT_EQ(-EINVAL, cf_copen(e->dev, t.ob.hdr.msg_id, -EIO));

	/* Completion through another object's fd, of OPENs, of the answered. */
	EXPECT_EQ(-EINVAL, cf_cread(t.fa, t.rb.hdr.msg_id));
	EXPECT_EQ(-EINVAL, cf_cread(t.fb, t.ra.hdr.msg_id));
	EXPECT_EQ(-EINVAL, cf_cread(fc, t.ra.hdr.msg_id));
	EXPECT_EQ(-EINVAL, cf_cread(fc, t.pending.hdr.msg_id));
	EXPECT_EQ(-EINVAL, cf_cread(t.fa, t.pending.hdr.msg_id));
	EXPECT_EQ(-EINVAL, cf_cread(t.fa, t.oa.hdr.msg_id));

	/* Any id but the right ones: undelivered, future, absurd. */
	for (__u32 id = 0; id < 64; id++) {
		if (id != t.ra.hdr.msg_id) {
			EXPECT_EQ(-EINVAL, cf_cread(t.fa, id)) {
				TH_LOG("id %u", id);
			}
		}
		if (id != t.pending.hdr.msg_id) {
			EXPECT_EQ(-EINVAL, cf_copen(e->dev, id, 1)) {
				TH_LOG("id %u", id);
			}
		}
	}
	EXPECT_EQ(-EINVAL, cf_cread(t.fa, 0x7fffffff));
	EXPECT_EQ(-EINVAL, cf_cread(t.fa, 0xffffffff));
	EXPECT_EQ(-EINVAL, cf_copen(e->dev, 0xffffffff, 1));

	/* None of this woke or failed anybody. */
	EXPECT_EQ(0, cf_reader_done(&t.a));
	EXPECT_EQ(0, cf_reader_done(&t.b));
	EXPECT_EQ(0, cf_reader_done(&t.p));
	EXPECT_EQ(0, cf_reader_done(&t.q));
	EXPECT_EQ(POLLIN, cf_poll(e->dev, POLLIN, 0));

	/* And all are served in the end, each once. */
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	EXPECT_EQ(65536, cf_rd(&m)->off);
	ASSERT_EQ(0, serve_read(&m, t.fa, 1, MB));
	ASSERT_EQ(0, serve_read(&t.ra, t.fa, 1, MB));
	ASSERT_EQ(0, serve_read(&t.rb, t.fb, 2, MB));
	ASSERT_EQ(0, cf_copen(e->dev, t.pending.hdr.msg_id, 5));
	EXPECT_EQ(-EINVAL, cf_cread(t.fa, m.hdr.msg_id));
	EXPECT_EQ(-EINVAL, cf_cread(t.fa, t.ra.hdr.msg_id));
	EXPECT_EQ(-EINVAL, cf_copen(e->dev, t.pending.hdr.msg_id, 5));
	ASSERT_EQ(0, cf_reader_wait(&t.a, &res, LONG));
	EXPECT_EQ(-1, res.bad);
	ASSERT_EQ(0, cf_reader_wait(&t.b, &res, LONG));
	EXPECT_EQ(-1, res.bad);
	ASSERT_EQ(0, cf_reader_wait(&t.q, &res, LONG));
	EXPECT_EQ(-1, res.bad);
	ASSERT_EQ(0, cf_reader_wait(&t.p, &res, LONG));
	EXPECT_EQ(5, res.n);
	EXPECT_EQ(1, cf_idle(e->dev));
}

/* Ids and object ids are not used again while anybody could mean the old one. */
TEST_F(ondemand, d24_never_twice)
{
	struct cf_env *e = &self->e;
	__u32 objects[60], ids[60];
	struct cf_reader r;
	struct cf_msg m;
	char name[32];

	for (int i = 0; i < 60; i++) {
		int fd;

		snprintf(name, sizeof(name), "f%d", i);
		fd = open_object(e, &r, name, 1, &m);
		ASSERT_LE(0, fd);
		close(fd);
		objects[i] = m.hdr.object_id;
		ids[i] = m.hdr.msg_id;
		for (int j = 0; j < i; j++) {
			ASSERT_NE(objects[j], objects[i]);
			ASSERT_NE(ids[j], ids[i]);
		}
	}
}

/*
 * A reopen is refused under the nose of a thread that is still busy with it. Its late
 * answer must not be taken for one to somebody else's OPEN.
 */
TEST_F(ondemand, d17_late_answer)
{
	enum { NR = 5 };
	struct cf_env *e = &self->e;
	struct cf_reader a, b[NR];
	struct cf_result res;
	struct cf_msg m, n[NR];
	char name[16];
	int fd, ret;

	fd = open_object(e, &a, "a", MB, &m);
	ASSERT_LE(0, fd);
	close(fd);
	ASSERT_EQ(0, start_read(e, &a, "a", 1, 0, 4096));
	/* The netfs library may try twice. */
	while (!cf_reader_done(&a)) {
		ret = cf_next(e->dev, &m, 200);
		if (ret == -ETIMEDOUT)
			continue;
		ASSERT_LT(0, ret);
		ASSERT_EQ(CACHEFILES_OP_OPEN, m.hdr.opcode);
		ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, -ENODATA));
	}
	ASSERT_EQ(0, cf_reader_wait(&a, &res, LONG));
	/* And may make EIO of what failed. */
	EXPECT_TRUE(res.err == ENODATA || res.err == EIO) {
		TH_LOG("errno %d", res.err);
	}

	for (int i = 0; i < NR; i++) {
		snprintf(name, sizeof(name), "b%d", i);
		ASSERT_EQ(0, start_stat(e, &b[i], name));
		ASSERT_EQ(0, cf_expect(e->dev, &n[i], CACHEFILES_OP_OPEN, LONG));
		EXPECT_NE(m.hdr.msg_id, n[i].hdr.msg_id);
	}
	EXPECT_EQ(-EINVAL, cf_copen(e->dev, m.hdr.msg_id, MB));
	for (int i = 0; i < NR; i++) {
		EXPECT_EQ(0, cf_reader_done(&b[i]));
		ASSERT_EQ(0, cf_copen(e->dev, n[i].hdr.msg_id, i));
		ASSERT_EQ(0, cf_reader_wait(&b[i], &res, LONG));
		EXPECT_EQ(0, res.err);
		EXPECT_EQ(i, res.n);
	}
}

/* After 2^32 messages the ids begin again; until then each is the one after the last. */
TEST_F(ondemand, d17_message_ids_wrap)
{
	enum { FILES = 4 };
	struct cf_env *e = &self->e;
	__u32 id = (__u32)-6;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	char name[16];

	if (cf_delay_init())
		SKIP(return, CF_NO_FORCED_IDS);
	ASSERT_EQ(0, cf_force_msg_id(id));
	for (int i = 0; i < FILES; i++) {
		int fd;

		snprintf(name, sizeof(name), "f%d", i);
		fd = open_object(e, &r, name, MB, &m);
		ASSERT_LE(0, fd);
		EXPECT_EQ(id++, m.hdr.msg_id);
		ASSERT_EQ(0, start_read(e, &r, name, i, 0, 4096));
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
		EXPECT_EQ(id++, m.hdr.msg_id);
		/* Delivered again, by the same id, after an opening with one of its own. */
		close(fd);
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
		EXPECT_EQ(id++, m.hdr.msg_id);
		fd = cf_open_fd(&m);
		ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, MB));
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
		EXPECT_EQ(id - 2, m.hdr.msg_id);
		ASSERT_EQ(0, serve_read(&m, fd, i, MB));
		ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
		EXPECT_EQ(0, res.err);
		EXPECT_EQ(-1, res.bad);
		/* Nobody answers a CLOSE, but it has an id. */
		ASSERT_EQ(0, drop_object(e, &m));
		EXPECT_EQ(id++, m.hdr.msg_id);
		close(fd);
	}
	/* So it was all across the end. */
	EXPECT_EQ(4 * FILES - 6, id);
}

/* Come round to ids that are in use still, messages get others. */
TEST_F(ondemand, d17_live_ids_are_passed_over)
{
	struct cf_env *e = &self->e;
	struct cf_msg open, read, m;
	struct cf_reader a, b, c;
	struct cf_result res;
	__u32 first;
	int fd;

	if (cf_delay_init())
		SKIP(return, CF_NO_FORCED_IDS);
	fd = open_object(e, &a, "a", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_read(e, &a, "a", 1, 0, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &read, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, start_stat(e, &b, "b"));
	ASSERT_EQ(0, cf_expect(e->dev, &open, CACHEFILES_OP_OPEN, LONG));
	first = read.hdr.msg_id;
	ASSERT_EQ(first + 1, open.hdr.msg_id);

	ASSERT_EQ(0, cf_force_msg_id(first));
	ASSERT_LE(0, open_object(e, &c, "c", MB, &m));
	EXPECT_EQ(first + 2, m.hdr.msg_id);
	ASSERT_EQ(0, cf_force_msg_id(first));
	ASSERT_EQ(0, drop_object(e, &m));
	EXPECT_EQ(first + 2, m.hdr.msg_id);
	ASSERT_EQ(0, cf_force_msg_id(first));
	ASSERT_EQ(0, start_read(e, &c, "a", 1, 65536, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	EXPECT_EQ(first + 2, m.hdr.msg_id);

	/* Each answer finds what it is for. */
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&c, &res, LONG));
	EXPECT_EQ(-1, res.bad);
	EXPECT_EQ(0, cf_reader_done(&a));
	EXPECT_EQ(0, cf_reader_done(&b));
	ASSERT_EQ(0, cf_copen(e->dev, open.hdr.msg_id, 5));
	ASSERT_EQ(0, cf_reader_wait(&b, &res, LONG));
	EXPECT_EQ(5, res.n);
	EXPECT_EQ(0, cf_reader_done(&a));
	ASSERT_EQ(0, serve_read(&read, fd, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&a, &res, LONG));
	EXPECT_EQ(-1, res.bad);
}

/* A second answer that is 2^32 messages late is none to the READ of another object. */
TEST_F(ondemand, d17_late_by_all_ids)
{
	struct cf_env *e = &self->e;
	struct cf_reader a, b;
	struct cf_result res;
	struct cf_msg m;
	int fa, fb;
	__u32 id;

	if (cf_delay_init())
		SKIP(return, CF_NO_FORCED_IDS);
	fa = open_object(e, &a, "a", MB, &m);
	fb = open_object(e, &b, "b", MB, &m);
	ASSERT_LE(0, fa);
	ASSERT_LE(0, fb);
	ASSERT_EQ(0, start_read(e, &a, "a", 1, 0, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	id = m.hdr.msg_id;
	ASSERT_EQ(0, serve_read(&m, fa, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&a, &res, LONG));

	ASSERT_EQ(0, cf_force_msg_id(id));
	ASSERT_EQ(0, start_read(e, &b, "b", 2, 0, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(id, m.hdr.msg_id);
	EXPECT_EQ(-EINVAL, cf_cread(fa, id));
	EXPECT_EQ(-EINVAL, cf_copen(e->dev, id, MB));
	EXPECT_EQ(0, cf_reader_done(&b));
	ASSERT_EQ(0, serve_read(&m, fb, 2, MB));
	ASSERT_EQ(0, cf_reader_wait(&b, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
}

/* Ids of objects end where an int does, begin again at 1, and pass over those in use. */
TEST_F(ondemand, d24_object_ids_wrap)
{
	static const struct {
		__u32	forced, id;
	} steps[] = {
		{ 1, 1 }, { INT_MAX, INT_MAX }, { INT_MAX, 2 }, { 0, 3 },
		{ (__u32)INT_MAX + 1, 4 }, { (__u32)-1, 5 },
	};
	enum { NR = ARRAY_SIZE(steps) };
	struct cf_env *e = &self->e;
	struct cf_reader r[NR];
	struct cf_result res;
	struct cf_msg m;
	char name[16];
	int fds[NR];

	if (cf_delay_init())
		SKIP(return, CF_NO_FORCED_IDS);
	for (int i = 0; i < NR; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		ASSERT_EQ(0, cf_force_object_id(steps[i].forced));
		fds[i] = open_object(e, &r[i], name, MB, &m);
		ASSERT_LE(0, fds[i]);
		EXPECT_EQ(steps[i].id, m.hdr.object_id);
	}
	/* What a READ names is what its file was opened as. */
	for (int i = 0; i < NR; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		ASSERT_EQ(0, start_read(e, &r[i], name, i, 0, 4096));
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
		EXPECT_EQ(steps[i].id, m.hdr.object_id);
		ASSERT_EQ(0, serve_read(&m, fds[i], i, MB));
		ASSERT_EQ(0, cf_reader_wait(&r[i], &res, LONG));
		EXPECT_EQ(0, res.err);
		EXPECT_EQ(-1, res.bad);
	}
}

/*
 * Somebody still holds a READ when the object that it names has lost its descriptor, and
 * another one has come to its id: to that one the READ says nothing.
 */
TEST_F(ondemand, d24_object_id_used_again)
{
	struct cf_env *e = &self->e;
	struct cf_reader a, b;
	struct cf_msg read, other, m;
	struct cf_result res;
	int fa, fb;

	if (cf_delay_init())
		SKIP(return, CF_NO_FORCED_IDS);
	fa = open_object(e, &a, "a", MB, &m);
	ASSERT_LE(0, fa);
	ASSERT_EQ(0, start_read(e, &a, "a", 1, 0, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &read, CACHEFILES_OP_READ, LONG));
	close(fa);
	/* It is to be opened again, and that is left for now. */
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	EXPECT_NE(read.hdr.object_id, m.hdr.object_id);
	fa = cf_open_fd(&m);

	ASSERT_EQ(0, cf_force_object_id(read.hdr.object_id));
	fb = open_object(e, &b, "b", MB, &other);
	ASSERT_LE(0, fb);
	ASSERT_EQ(read.hdr.object_id, other.hdr.object_id);
	EXPECT_EQ(-EINVAL, cf_cread(fb, read.hdr.msg_id));
	EXPECT_EQ(0, cf_reader_done(&a));

	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, MB));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	EXPECT_EQ(read.hdr.msg_id, m.hdr.msg_id);
	EXPECT_NE(read.hdr.object_id, m.hdr.object_id);
	ASSERT_EQ(0, serve_read(&m, fa, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&a, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
}

/* An OPEN that has an id, since it was read in vain, and is not delivered. */
static void expect_no_answer(struct __test_metadata *_metadata, struct cf_env *e,
			     struct cf_reader *r)
{
	void *nowhere = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, nowhere);
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	EXPECT_EQ(-1, read(e->dev, nowhere, sizeof(struct cf_msg)));
	EXPECT_EQ(EFAULT, errno);
	for (__u32 id = 0; id < 16; id++) {
		EXPECT_EQ(-EINVAL, cf_copen(e->dev, id, MB)) {
			TH_LOG("id %u", id);
		}
		EXPECT_EQ(-EINVAL, cf_copen(e->dev, id, -EIO)) {
			TH_LOG("id %u", id);
		}
	}
	EXPECT_EQ(0, cf_reader_done(r));
	EXPECT_EQ(POLLIN, cf_poll(e->dev, POLLIN, 0));
}

TEST_F(ondemand, d18_before_it_is_delivered)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	expect_no_answer(_metadata, e, &r);
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(MB, res.n);
	close(cf_open_fd(&m));

	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	expect_no_answer(_metadata, e, &r);
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	fd = cf_open_fd(&m);
	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, MB));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
}

/* A stale fd of an earlier opening of the same object answers nothing. */
TEST_F(ondemand, earlier_opening)
{
	struct cf_env *e = &self->e;
	struct cf_msg first, m;
	struct cf_result res;
	struct cf_reader r;
	int old, fd;

	old = open_object(e, &r, "file", MB, &first);
	ASSERT_LE(0, old);
	ASSERT_LE(0, cf_env_umount(e, PROMPT));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_CLOSE, LONG));
	ASSERT_EQ(0, cf_env_mount(e));
	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	EXPECT_EQ(-EINVAL, cf_cread(old, m.hdr.msg_id));
	EXPECT_EQ(-ENOBUFS, cf_fill(old, 9, 0, 4096, MB));
	close(old);
	EXPECT_EQ(0, cf_reader_done(&r));
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
}

/* What was taken back by restore is not answered before it is delivered again. */
TEST_F(ondemand, d18_d20_taken_back)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int fd, status;
	pid_t pid;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(!!cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	ASSERT_EQ(0, cf_cmd(e->dev, "restore"));
	for (__u32 id = 0; id < 16; id++) {
		EXPECT_EQ(-EINVAL, cf_cread(fd, id)) {
			TH_LOG("id %u", id);
		}
	}
	EXPECT_EQ(0, cf_reader_done(&r));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
}

/* Two caches: an id of one means nothing to the other. */
TEST_F(ondemand, other_cache)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	char dir[160];
	struct cf_msg m;
	int dev = cf_device();

	ASSERT_LE(0, dev);
	snprintf(dir, sizeof(dir), "%s-other", e->dir);
	ASSERT_EQ(0, mkdir(dir, 0700));
	ASSERT_EQ(0, cf_bind(dev, dir, "other"));
	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	EXPECT_EQ(1, cf_idle(dev));
	EXPECT_EQ(-EINVAL, cf_copen(dev, m.hdr.msg_id, 1));
	EXPECT_EQ(0, cf_cmd(dev, "restore"));
	EXPECT_EQ(1, cf_idle(e->dev));
	EXPECT_EQ(0, cf_reader_done(&r));
	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, 1));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	close(dev);
}

TEST_HARNESS_MAIN
