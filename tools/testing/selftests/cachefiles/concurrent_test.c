// SPDX-License-Identifier: GPL-2.0-only
/*
 * Many may want the same or different data at once: one hole is asked for once,
 * windows of one reader are in flight together, and every reader gets its bytes.
 */
#include "harness.h"

#include "lib/task.h"

TEST_F(ondemand, one_hole_one_read)
{
	enum { NR = 10 };
	struct cf_env *e = &self->e;
	struct cf_reader r[NR], o;
	struct cf_result res;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &o, "file", MB, &m);
	ASSERT_LE(0, fd);
	for (int i = 0; i < NR; i++) {
		ASSERT_EQ(0, start_read(e, &r[i], "file", 1, 0, 4096));
	}
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	for (int i = 0; i < NR; i++) {
		ASSERT_EQ(0, cf_task_blocks(r[i].pid, LONG));
	}
	EXPECT_EQ(0, cf_poll(e->dev, POLLIN, cf_ms(BRIEF)));
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	for (int i = 0; i < NR; i++) {
		ASSERT_EQ(0, cf_reader_wait(&r[i], &res, LONG));
		EXPECT_EQ(0, res.err);
		EXPECT_EQ(-1, res.bad);
	}
	EXPECT_EQ(1, cf_idle(e->dev));
}

/* One reader, nothing answered: more than one request is out, none too large. */
TEST_F(ondemand, windows_in_flight)
{
	struct cf_env *e = &self->e;
	__u64 asked = 0, size = 8 * MB;
	struct cf_msg o, m[64];
	struct cf_result res;
	struct cf_reader r;
	int fd, ret, nr = 0;

	fd = open_object(e, &r, "file", size, &o);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_stream(e, &r, "file", 1, 0, size));
	/* Once it is reading ahead, let it run into the wall. */
	for (int i = 0; i < 4; i++) {
		ASSERT_EQ(0, cf_expect(e->dev, &m[0], CACHEFILES_OP_READ, LONG));
		ASSERT_EQ(0, serve_read(&m[0], fd, 1, size));
	}
	/* Two are sure to come; nothing tells which one is the last. */
	while (nr < 64 && cf_next(e->dev, &m[nr], nr < 2 ? LONG : BRIEF) > 0) {
		ASSERT_EQ(CACHEFILES_OP_READ, m[nr].hdr.opcode);
		EXPECT_GE(256 * KB, cf_rd(&m[nr])->len);
		asked += cf_rd(&m[nr])->len;
		nr++;
	}
	EXPECT_LE(2, nr);
	EXPECT_LE(256 * KB, asked);
	EXPECT_EQ(0, cf_reader_done(&r));
	for (int i = 0; i < nr; i++)
		for (int j = 0; j < i; j++) {
			EXPECT_TRUE(cf_rd(&m[i])->off >= cf_rd(&m[j])->off + cf_rd(&m[j])->len ||
				    cf_rd(&m[j])->off >= cf_rd(&m[i])->off + cf_rd(&m[i])->len);
		}

	/* The last one first; then the rest as it comes. */
	for (int i = nr - 1; i >= 0; i--) {
		ASSERT_EQ(0, serve_read(&m[i], fd, 1, size));
	}
	while (!cf_reader_done(&r)) {
		ret = cf_next(e->dev, &m[0], 100);
		if (ret == -ETIMEDOUT)
			continue;
		ASSERT_LT(0, ret);
		ASSERT_EQ(0, serve_read(&m[0], fd, 1, size));
	}
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ((__s64)size, res.n);
	EXPECT_EQ(-1, res.bad);
}

/* A slow source is overlapped: much less time than one request after another. */
TEST_F_TIMEOUT(ondemand, slow_source, 60)
{
	enum { THREADS = 8 };
	/* All of them together are far more than all else takes, and than a machine stalls for. */
	const int delay = cf_ms(150);
	static struct cf_server s[THREADS];
	struct cf_env *e = &self->e;
	unsigned long reads = 0;
	struct cf_result res;
	struct cf_msg m;
	struct cf_reader r;
	int fd;

	/* All threads serve one object, whose descriptor any of them may use. */
	fd = open_object(e, &r, "file", 16 * MB, &m);
	ASSERT_LE(0, fd);
	for (int i = 0; i < THREADS; i++) {
		ASSERT_EQ(0, cf_server_init(&s[i], e->dev));
		ASSERT_NE(NULL, cf_server_add(&s[i], "file", 16 * MB, 1));
		s[i].delay_ms = delay;
		s[i].nr_held = m.hdr.object_id + 1;
		s[i].held = malloc(s[i].nr_held * sizeof(*s[i].held));
		ASSERT_NE(NULL, s[i].held);
		for (unsigned int j = 0; j < s[i].nr_held; j++)
			s[i].held[j] = (struct cf_held) { .fd = -1, .file = -1 };
		s[i].held[m.hdr.object_id] = (struct cf_held) {
			.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3),
		};
		ASSERT_EQ(0, cf_server_thread(&s[i]));
	}
	ASSERT_EQ(0, start_stream(e, &r, "file", 1, 0, 16 * MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, 40000));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(16 * MB, res.n);
	EXPECT_EQ(-1, res.bad);
	for (int i = 0; i < THREADS; i++) {
		reads += s[i].stats->reads;
		cf_server_stop(&s[i]);
	}
	EXPECT_GT((long)reads * delay, res.ms) {
		TH_LOG("%lu requests took %lld ms", reads, (long long)res.ms);
	}
}

/* Many readers, several files, several server threads: all bytes right. */
TEST_F_TIMEOUT(ondemand, crowd, 90)
{
	enum { FILES = 6, READERS = 18 };
	struct cf_env *e = &self->e;
	struct cf_reader r[READERS];
	struct cf_result res;
	char name[16];

	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		ASSERT_NE(NULL, cf_server_add(&self->s, name, MB + i * 1000, i));
	}
	ASSERT_EQ(0, cf_server_thread(&self->s));
	for (int i = 0; i < READERS; i++) {
		struct cf_job job = {
			.seed = i % FILES, .len = 2 * MB, .sequential = i % 3 != 0,
			.chunk = i % 3 ? 0 : 4096, .again = i % 2,
		};

		snprintf(name, sizeof(name), "f%d", i % FILES);
		ASSERT_EQ(0, cf_reader_start(&r[i], e->mnt, name, &job));
	}
	for (int i = 0; i < READERS; i++) {
		ASSERT_EQ(0, cf_reader_wait(&r[i], &res, 60000));
		EXPECT_EQ(0, res.err);
		EXPECT_EQ(-1, res.bad);
		EXPECT_LE(MB, res.n);
	}
	EXPECT_EQ(0, self->s.stats->refused);
	EXPECT_EQ(FILES, self->s.stats->opens);
	/* No more asked for than there is. */
	EXPECT_GE(FILES * (MB + 8192), self->s.stats->bytes);
}

TEST_HARNESS_MAIN
