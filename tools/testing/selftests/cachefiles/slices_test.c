// SPDX-License-Identifier: GPL-2.0-only
/*
 * The cache says of every byte correctly whether it has it, whatever was written, punched
 * and cut off before, and never gives out a byte that is not what was stored last.
 */
#include "harness.h"

#define NR	48			/* granules of the file */
#define SIZE	((__u64)NR * CF_GRANULE)

/* The file as it ought to be: what is cached, and what its server has. */
struct model {
	int	nf, c;
	__u64	size;
	unsigned int rand;
	bool	there[NR];
	unsigned char data[SIZE];
};

static unsigned int rnd(struct model *m, unsigned int n)
{
	m->rand = m->rand * 1103515245 + 12345;
	return (m->rand >> 8) % n;
}

/* What is cached has to be what @there says, and each byte of it right. */
static void expect_model(struct __test_metadata *_metadata, struct model *m, bool exact)
{
	static unsigned char buf[CF_GRANULE];
	struct cf_netfs_read a;

	for (__u64 g = 0; g < NR && g * CF_GRANULE < m->size; g++) {
		__u64 pos = g * CF_GRANULE;
		__u64 n = m->size - pos < CF_GRANULE ? m->size - pos : CF_GRANULE;

		ASSERT_EQ(0, cf_nf_read(m->nf, m->c, 0, buf, pos, CF_GRANULE, m->size,
					CF_IO_PREPARE | CF_IO_ISSUE, CF_HOLE_IGNORE, &a));
		ASSERT_EQ(CF_GRANULE, a.prepared);
		if (exact || !m->there[g]) {
			EXPECT_EQ(m->there[g] ? CF_SOURCE_CACHE : CF_SOURCE_DOWNLOAD, a.source) {
				TH_LOG("granule %llu", g);
			}
		}
		if (a.source != CF_SOURCE_CACHE)
			continue;
		EXPECT_EQ(CF_GRANULE, a.result);
		EXPECT_EQ(0, memcmp(buf, m->data + pos, n)) {
			TH_LOG("granule %llu is wrong", g);
		}
	}
}

static void put(struct __test_metadata *_metadata, struct model *m, unsigned int from,
		unsigned int nr, __u64 seed)
{
	__u64 off = (__u64)from * CF_GRANULE, len = (__u64)nr * CF_GRANULE;

	cf_pattern(seed, off, m->data + off, len);
	ASSERT_EQ(0, cf_nf_store(m->nf, m->c, seed, off, len, m->size));
	for (unsigned int g = from; g < from + nr; g++)
		m->there[g] = true;
}

static void begin(struct __test_metadata *_metadata, struct model *m, int nf, int vol,
		  unsigned int seed)
{
	*m = (struct model){ .nf = nf, .size = SIZE, .rand = seed };
	m->c = cf_nf_file(nf, vol, "file", NULL, 0, SIZE, false);
	ASSERT_LT(0, m->c);
}

static void pieces(struct __test_metadata *_metadata, struct model *m, unsigned int nr)
{
	while (nr--) {
		unsigned int from = rnd(m, NR);
		unsigned int len = 1 + rnd(m, 5);

		put(_metadata, m, from, from + len > NR ? NR - from : len, nr);
	}
	ASSERT_EQ(0, cf_nf_note_release(m->nf, m->c));
}

/* The length of what is alike from @g on. */
static unsigned int run_length(const struct model *m, unsigned int g)
{
	unsigned int n = 1;

	while (g + n < NR && m->there[g + n] == m->there[g])
		n++;
	return n;
}

static void expect_slice(struct __test_metadata *_metadata, struct model *m, unsigned int g,
			 unsigned int nr)
{
	unsigned int n = run_length(m, g);
	struct cf_netfs_read a;

	ASSERT_EQ(0, cf_nf_prepare_read(m->nf, m->c, (__u64)g * CF_GRANULE,
					(__u64)nr * CF_GRANULE, m->size, &a));
	EXPECT_EQ(m->there[g] ? CF_SOURCE_CACHE : CF_SOURCE_DOWNLOAD, a.source);
	EXPECT_EQ((__u64)(n < nr ? n : nr) * CF_GRANULE, a.prepared) {
		TH_LOG("%u granules at %u", nr, g);
	}
	EXPECT_EQ(m->there[g] ? 0 : CF_SREQ_COPY_TO_CACHE, a.flags);
}

static void expect_slices(struct __test_metadata *_metadata, struct model *m)
{
	for (unsigned int g = 0; g < NR; g++)
		expect_slice(_metadata, m, g, NR - g);
	for (int i = 0; i < 100; i++) {
		unsigned int g = rnd(m, NR);

		expect_slice(_metadata, m, g, 1 + rnd(m, NR - g));
	}
}

TEST_F(original, slices)
{
	static struct model m;
	struct cf_netfs_read a;
	char path[512];
	int fd;

	begin(_metadata, &m, self->nf, self->vol, 1);
	expect_slices(_metadata, &m);
	for (int i = 0; i < 4; i++) {
		pieces(_metadata, &m, 3);
		expect_slices(_metadata, &m);
		expect_model(_metadata, &m, true);
	}

	/* The same for one that was there already, and that others make holes in. */
	ASSERT_EQ(0, cf_nf_detach(m.nf, m.c, false));
	m.c = cf_nf_file(self->nf, self->vol, "file", NULL, 0, SIZE, false);
	ASSERT_LT(0, m.c);
	expect_slices(_metadata, &m);
	ASSERT_EQ(0, cf_nf_path(self->e.dir, self->e.volume, "file", 4, path, sizeof(path)));
	fd = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	for (int i = 0; i < 8; i++) {
		unsigned int g = rnd(&m, NR);

		ASSERT_EQ(0, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				       (off_t)g * CF_GRANULE, CF_GRANULE));
		m.there[g] = false;
	}
	close(fd);
	expect_slices(_metadata, &m);
	expect_model(_metadata, &m, true);

	ASSERT_EQ(0, cf_nf_prepare_read(m.nf, m.c, SIZE, 8192, SIZE, &a));
	EXPECT_EQ(CF_SOURCE_ZEROES, a.source);
	EXPECT_EQ(8192, a.prepared);
	ASSERT_EQ(0, cf_nf_prepare_read(m.nf, m.c, 0x7ffffffffffff000, 4096, SIZE, &a));
	EXPECT_EQ(CF_SOURCE_ZEROES, a.source);
	ASSERT_EQ(0, cf_nf_detach(m.nf, m.c, false));
}

/* The end of the file is in the middle of a granule. */
TEST_F(original, slices_at_the_end)
{
	const __u64 size = 5 * CF_GRANULE + 100;
	struct cf_netfs_read a;
	int nf = self->nf, c;

	c = cf_nf_file(nf, self->vol, "file", NULL, 0, size, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_store(nf, c, 1, 4 * CF_GRANULE, 2 * CF_GRANULE, size));
	ASSERT_EQ(0, cf_nf_note_release(nf, c));
	/* All of the request that reaches the end, padding and all. */
	ASSERT_EQ(0, cf_nf_prepare_read(nf, c, 4 * CF_GRANULE, 2 * CF_GRANULE, size, &a));
	EXPECT_EQ(CF_SOURCE_CACHE, a.source);
	EXPECT_EQ(2 * CF_GRANULE, a.prepared);
	ASSERT_EQ(0, cf_nf_prepare_read(nf, c, 4 * CF_GRANULE, size - 4 * CF_GRANULE, size, &a));
	EXPECT_EQ(CF_SOURCE_CACHE, a.source);
	EXPECT_EQ(size - 4 * CF_GRANULE, a.prepared);
	ASSERT_EQ(0, cf_nf_prepare_read(nf, c, 0, 6 * CF_GRANULE, size, &a));
	EXPECT_EQ(CF_SOURCE_DOWNLOAD, a.source);
	EXPECT_EQ(4 * CF_GRANULE, a.prepared);
	ASSERT_EQ(0, cf_nf_prepare_read(nf, c, 0, 64 * CF_GRANULE, 64 * CF_GRANULE, &a));
	EXPECT_EQ(CF_SOURCE_DOWNLOAD, a.source);
	EXPECT_EQ(4 * CF_GRANULE, a.prepared);
	EXPECT_EQ(0, cf_nf_check(nf, c, 1, 4 * CF_GRANULE, 2 * CF_GRANULE, size));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

/*
 * A server that sends less than a page at a time makes the library ask from the middle of
 * a page on. Whatever the answer, the reader gets no error and no wrong byte.
 */
TEST_F(original, slices_from_the_middle)
{
	static struct model m;
	struct cf_fetch f;

	begin(_metadata, &m, self->nf, self->vol, 2);
	put(_metadata, &m, 2, 5, 7);
	put(_metadata, &m, 9, 1, 7);
	ASSERT_EQ(0, cf_nf_note_release(m.nf, m.c));
	for (__u64 off = 0; off < 11 * CF_GRANULE; off += 1021) {
		ASSERT_EQ(0, cf_nf_fetch(m.nf, m.c, 7, off, 12 * CF_GRANULE - off, SIZE, &f,
					 NULL)) {
			TH_LOG("at %llu", off);
		}
		EXPECT_EQ(0, f.err) {
			TH_LOG("at %llu", off);
		}
		EXPECT_EQ(-1, f.bad) {
			TH_LOG("at %llu", off);
		}
	}
	ASSERT_EQ(0, cf_nf_detach(m.nf, m.c, false));
}

static void expect_occupancy(struct __test_metadata *_metadata, struct model *m, __u64 start,
			     __u64 len, __u64 granularity)
{
	__u64 g = (start + CF_GRANULE - 1) / CF_GRANULE, end = (start + len) / CF_GRANULE, n = 0;
	struct cf_netfs_query q;

	if (end > NR)
		end = NR;
	while (g < end && !m->there[g])
		g++;
	while (g + n < end && m->there[g + n])
		n++;
	ASSERT_EQ(0, cf_nf_query(m->nf, m->c, start, len, granularity, &q));
	EXPECT_EQ(n ? 0 : -ENODATA, q.ret) {
		TH_LOG("%llu bytes at %llu", len, start);
	}
	if (n) {
		EXPECT_EQ(g * CF_GRANULE, (__u64)q.data_start);
		EXPECT_EQ(n * CF_GRANULE, q.data_len);
	} else {
		EXPECT_EQ(-1, q.data_start);
		EXPECT_EQ(0, q.data_len);
	}
}

TEST_F(original, occupancy)
{
	static struct model m;

	begin(_metadata, &m, self->nf, self->vol, 3);
	expect_occupancy(_metadata, &m, 0, SIZE, 1);
	pieces(_metadata, &m, 7);
	for (int i = 0; i < 200; i++) {
		__u64 start = rnd(&m, SIZE), len = 1 + rnd(&m, SIZE - start);

		if (i % 2) {
			start -= start % CF_GRANULE;
			len = (1 + rnd(&m, NR - start / CF_GRANULE)) * CF_GRANULE;
		}
		expect_occupancy(_metadata, &m, start, len, i % 3 ? CF_GRANULE : 512);
	}
	expect_occupancy(_metadata, &m, 0, 4 * SIZE, CF_GRANULE);
	expect_occupancy(_metadata, &m, SIZE, SIZE, CF_GRANULE);
	expect_occupancy(_metadata, &m, 0, 0, CF_GRANULE);
	ASSERT_EQ(0, cf_nf_detach(m.nf, m.c, false));
}

/* With a mode for holes, and without a completion. */
TEST_F(original, plain_reads)
{
	static unsigned char buf[4 * CF_GRANULE];
	struct cf_netfs_read a;
	int nf = self->nf, c;

	c = cf_nf_file(nf, self->vol, "file", NULL, 0, SIZE, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_store(nf, c, 1, 8192, 8192, SIZE));

	ASSERT_EQ(0, cf_nf_read(nf, c, 0, buf, 8192, 8192, SIZE, CF_IO_ISSUE, CF_HOLE_FAIL, &a));
	EXPECT_EQ(8192, a.result);
	EXPECT_EQ(0, a.left);
	EXPECT_EQ(-1, cf_differs(1, 8192, buf, 8192));
	/* Over a hole it fails, in the way that makes the library ask the server. */
	for (int hole = CF_HOLE_IGNORE; hole <= CF_HOLE_FAIL; hole++) {
		for (__u64 off = 4096; off < 40000; off += 12288) {
			ASSERT_EQ(0, cf_nf_read(nf, c, 0, buf, off, 8192, SIZE, CF_IO_ISSUE, hole,
						&a));
			EXPECT_GE(0, a.result);
			EXPECT_EQ(0, a.seen);
			EXPECT_EQ(1, a.completions);
		}
	}

	memset(buf, 0, sizeof(buf));
	ASSERT_EQ(0, cf_nf_read(nf, c, 0, buf, 8192, 4096, SIZE, CF_IO_ISSUE | CF_IO_SYNC,
				CF_HOLE_IGNORE, &a));
	EXPECT_EQ(0, a.result);
	EXPECT_EQ(-1, cf_differs(1, 8192, buf, 4096));
	ASSERT_EQ(0, cf_nf_read(nf, c, 0, buf, 32768, 4096, SIZE, CF_IO_ISSUE | CF_IO_SYNC,
				CF_HOLE_FAIL, &a));
	EXPECT_EQ(-ENODATA, a.result);
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

TEST_F(original, plain_writes)
{
	static unsigned char buf[2 * CF_GRANULE];
	struct cf_netfs_write a;
	int nf = self->nf, c;

	c = cf_nf_file(nf, self->vol, "file", NULL, 0, SIZE, false);
	ASSERT_LT(0, c);
	cf_pattern(1, 8192, buf, 8192);
	ASSERT_EQ(0, cf_nf_write(nf, c, 0, buf, 8192, 8192, SIZE,
				 CF_IO_PREPARE | CF_IO_ISSUE | CF_IO_SYNC | CF_IO_NEW, &a));
	EXPECT_EQ(0, a.prepare);
	EXPECT_LE(0, a.result);
	EXPECT_EQ(8192, a.prepared_start);
	EXPECT_EQ(8192, a.prepared_len);
	ASSERT_EQ(0, cf_nf_note_release(nf, c));
	EXPECT_EQ(0, cf_nf_check(nf, c, 1, 8192, 8192, SIZE));
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, 8192, SIZE));
	EXPECT_EQ(0, cf_nf_absent(nf, c, 16384, SIZE - 16384, SIZE));

	/* The end is rounded up; the pages reach that far. */
	cf_pattern(2, 20480, buf, 5000);
	ASSERT_EQ(0, cf_nf_write(nf, c, 0, buf, 20480, 5000, 25480,
				 CF_IO_PREPARE | CF_IO_ISSUE, &a));
	EXPECT_EQ(0, a.prepare);
	EXPECT_EQ(20480, a.prepared_start);
	EXPECT_EQ(8192, a.prepared_len);
	EXPECT_EQ(8192, a.result);
	EXPECT_EQ(0, cf_nf_check(nf, c, 2, 20480, 8192, 25480));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

/* --- sizes --- */

static void resize(struct __test_metadata *_metadata, struct model *m, __u64 size, __u64 seed)
{
	__u64 low = m->size < size ? m->size : size;

	ASSERT_EQ(0, cf_nf_resize(m->nf, m->c, size));
	/* Of the granule that the end was or is in, some bytes are not what they were. */
	if (low != m->size || low != size)
		for (__u64 g = low / CF_GRANULE; g < NR; g++)
			m->there[g] = false;
	cf_pattern(seed, low, m->data + low, SIZE - low);
	m->size = size;
}

/*
 * What is left is what was there and lies before both ends; of what was cut off nothing
 * comes again, though the file grows to where that was, with something else there.
 */
TEST_F(original, resize)
{
	static const __u64 sizes[] = {
		SIZE - 1, SIZE, 30 * CF_GRANULE, 30 * CF_GRANULE + 1, 29 * CF_GRANULE + 2000,
		40 * CF_GRANULE + 7, 40 * CF_GRANULE + 4095, 40 * CF_GRANULE + 100, 100, 4096,
		0, 20 * CF_GRANULE, 1, SIZE,
	};
	static struct model m;

	begin(_metadata, &m, self->nf, self->vol, 4);
	put(_metadata, &m, 0, NR, 1);
	ASSERT_EQ(0, cf_nf_note_release(m.nf, m.c));
	expect_model(_metadata, &m, true);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct cf_netfs_wait w;

		resize(_metadata, &m, sizes[i], 100 + i);
		ASSERT_EQ(0, cf_nf_wait(m.nf, m.c, 0, 0, 0, 0, &w));
		EXPECT_EQ(sizes[i], w.size);
		expect_model(_metadata, &m, true);
		/* Half of what is missing now is stored anew, and the end. */
		for (unsigned int g = 0; g < NR && g * CF_GRANULE < m.size; g++)
			if (!m.there[g] && (g == m.size / CF_GRANULE || rnd(&m, 2)))
				put(_metadata, &m, g, 1, 200 + i);
		expect_model(_metadata, &m, true);
	}
	ASSERT_EQ(0, cf_nf_detach(m.nf, m.c, false));
	m.c = cf_nf_file(self->nf, self->vol, "file", NULL, 0, m.size, false);
	ASSERT_LT(0, m.c);
	expect_model(_metadata, &m, true);
	ASSERT_EQ(0, cf_nf_detach(m.nf, m.c, false));
}

/* The same by chance, and with the cookie let go and found again in between. */
TEST_F_TIMEOUT(original, resize_at_random, 60)
{
	static struct model m;

	begin(_metadata, &m, self->nf, self->vol, 5);
	for (int i = 0; i < 40; i++) {
		unsigned int g = rnd(&m, NR), nr = 1 + rnd(&m, 8);

		resize(_metadata, &m, rnd(&m, 3) ? rnd(&m, SIZE) : rnd(&m, NR) * CF_GRANULE,
		       1000 + i);
		if (g + nr > CF_ROUND_UP(m.size) / CF_GRANULE)
			nr = g < m.size / CF_GRANULE ? CF_ROUND_UP(m.size) / CF_GRANULE - g : 0;
		if (nr)
			put(_metadata, &m, g, nr, 2000 + i);
		if (i % 5 == 4) {
			ASSERT_EQ(0, cf_nf_detach(m.nf, m.c, false));
			m.c = cf_nf_file(self->nf, self->vol, "file", NULL, 0, m.size, false);
			ASSERT_LT(0, m.c);
		}
		cf_nf_note_release(m.nf, m.c);
		expect_model(_metadata, &m, true);
	}
	ASSERT_EQ(0, cf_nf_detach(m.nf, m.c, false));
}

/* --- writes that are no whole granules --- */

#define FEW	4			/* granules that these tests look at */

/*
 * Take away the granule around @off, which has to be the same afterwards where it is there:
 * its server has @seed in the @len bytes. The library writes back that way; what a file
 * system of a library that does not write would do wrong does the same.
 */
static int tear(int nf, int c, __u64 seed, __u64 off, __u64 len)
{
	static unsigned char buf[CF_GRANULE];
	struct cf_netfs_write w;
	struct cf_netfs_subreq s;
	int ret;

	if (cf_nf_has_streams(nf))
		return cf_nf_store_subreq(nf, c, seed, off, len, SIZE, 0, &s);
	cf_pattern(seed, off, buf, len);
	ret = cf_nf_write(nf, c, 0, buf, off, len, SIZE, CF_IO_ISSUE, &w);
	return ret ? ret : w.result == -EINVAL ? 0 : -EPROTO;
}

/*
 * @len bytes at @off are written by write-back: granules that it covers are stored, those
 * that it touches are stored rightly or gone, the others stay.
 */
static void write_back(struct __test_metadata *_metadata, struct model *m, __u64 off, __u64 len,
		       unsigned int extendable_to)
{
	struct cf_netfs_subreq a;
	__u64 end = off + len;

	m->size = FEW * CF_GRANULE - 1000;
	put(_metadata, m, 0, FEW, 1);
	memset(m->data + m->size, 0, 1000);
	if (end > m->size) {
		len = m->size - off;
		end = m->size;
	}
	ASSERT_EQ(0, cf_nf_store_subreq(m->nf, m->c, 2, off, len, m->size, extendable_to, &a));
	EXPECT_EQ(0, a.error);
	EXPECT_EQ(0, a.flags);
	EXPECT_LE(len, a.transferred);
	EXPECT_EQ(a.new_len, a.transferred);
	EXPECT_GE(len + extendable_to, a.new_len);
	cf_pattern(2, off, m->data + off, len);
	cf_nf_note_release(m->nf, m->c);

	for (__u64 g = 0; g < FEW; g++) {
		__u64 from = g * CF_GRANULE, to = from + CF_GRANULE;
		struct cf_netfs_read r;
		bool covered;

		/* Up to the end of the file is enough if the rest of the page is there, too. */
		covered = off <= from && (end >= to ||
					  (end == m->size && end > from && extendable_to));
		ASSERT_EQ(0, cf_nf_prepare_read(m->nf, m->c, from, CF_GRANULE, m->size, &r));
		if (covered || end <= from || off >= to) {
			EXPECT_EQ(CF_SOURCE_CACHE, r.source) {
				TH_LOG("granule %llu", g);
			}
		}
		m->there[g] = r.source == CF_SOURCE_CACHE;
	}
	expect_model(_metadata, m, true);
}

TEST_F_TIMEOUT(original, d63_write_back, 60)
{
	static const __u64 starts[] = { 0, 1, 511, 512, 2048, 4095, 4096, 4097, 8000, 8192, 12288 };
	static const __u64 lens[] = { 1, 512, 4095, 4096, 4097, 8191, 8192, 10000, 16384 };
	static struct model m;

	if (!cf_nf_has_streams(self->nf))
		SKIP(return, CF_NO_STREAMS);
	begin(_metadata, &m, self->nf, self->vol, 6);
	for (size_t i = 0; i < ARRAY_SIZE(starts); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(lens); j++) {
			__u64 end = starts[i] + lens[j];

			if (end > FEW * CF_GRANULE || starts[i] >= FEW * CF_GRANULE - 1000)
				continue;
			if (end > FEW * CF_GRANULE - 1000)
				end = FEW * CF_GRANULE - 1000;
			write_back(_metadata, &m, starts[i], lens[j], 0);
			write_back(_metadata, &m, starts[i], lens[j],
				   (unsigned int)(-end % CF_GRANULE));
			if (!_metadata->exit_code)
				continue;
			TH_LOG("%llu bytes at %llu", lens[j], starts[i]);
			return;
		}
	}
	ASSERT_EQ(0, cf_nf_detach(m.nf, m.c, false));
}

/* What the library may give at once is no more than one write(2) takes. */
TEST_F(original, d65_limits_of_a_subrequest)
{
	const __u64 most = 0x7ffff000;
	struct cf_netfs_subreq a;
	int c;

	if (!cf_nf_has_streams(self->nf))
		SKIP(return, CF_NO_STREAMS);
	c = cf_nf_file(self->nf, self->vol, "file", NULL, 0, SIZE, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_store_subreq(self->nf, c, 1, 0, SIZE, SIZE, 0, &a));
	EXPECT_EQ(0, a.error);
	EXPECT_GE(most, a.max_len);
	EXPECT_LE(MB, a.max_len);
	EXPECT_LT(0, a.max_segs);
	EXPECT_GE(256, a.max_segs);
	ASSERT_EQ(0, cf_nf_note_release(self->nf, c));
	EXPECT_EQ(0, cf_nf_check(self->nf, c, 1, 0, SIZE, SIZE));
	ASSERT_EQ(0, cf_nf_detach(self->nf, c, false));
}

/* A write that the cache can't take as it is: nothing old remains where it was to go. */
TEST_F(original, misfits)
{
	static const struct {
		__u64	off, len;
	} w[] = {
		{ 1, 4096 }, { 512, 512 }, { 4095, 2 }, { 100, 8192 }, { 5000, 3192 },
	};
	static unsigned char buf[4 * CF_GRANULE];
	static struct model m;

	begin(_metadata, &m, self->nf, self->vol, 7);
	for (size_t i = 0; i < ARRAY_SIZE(w); i++) {
		for (int raw = 0; raw < 2; raw++) {
			__u64 off = w[i].off, len = w[i].len;
			struct cf_netfs_write a;

			put(_metadata, &m, 0, FEW, 1);
			cf_nf_note_release(m.nf, m.c);
			if (!raw && !cf_nf_has_streams(self->nf)) {
				/* There the whole pages are at hand, so it takes them. */
				ASSERT_EQ(0, cf_nf_write(m.nf, m.c, 0, buf, off, len, m.size,
							 CF_IO_PREPARE, &a));
				EXPECT_EQ(0, a.prepare);
				EXPECT_EQ(off / CF_GRANULE * CF_GRANULE, a.prepared_start);
				EXPECT_EQ(CF_ROUND_UP(off + len),
					  a.prepared_start + a.prepared_len);
				expect_model(_metadata, &m, true);
				continue;
			}
			cf_pattern(2, off, buf, len);
			cf_pattern(2, off, m.data + off, len);
			ASSERT_EQ(0, cf_nf_write(m.nf, m.c, 0, buf, off, len, m.size,
						 CF_IO_ISSUE | (raw ? 0 : CF_IO_PREPARE), &a));
			if (raw) {
				EXPECT_EQ(1, a.completions);
				EXPECT_GE(0, a.result);
			} else {
				EXPECT_EQ(-ENOBUFS, a.prepare);
			}
			for (__u64 g = off / CF_GRANULE; g * CF_GRANULE < off + len; g++)
				m.there[g] = false;
			expect_model(_metadata, &m, true);
		}
	}
	ASSERT_EQ(0, cf_nf_detach(m.nf, m.c, false));
}

/* A hole is made where a read was told that there are data. */
TEST_F(original, read_meets_hole)
{
	static unsigned char buf[8 * CF_GRANULE];
	struct cf_netfs_read a;
	int nf = self->nf, c;

	c = cf_nf_file(nf, self->vol, "file", NULL, 0, SIZE, false);
	ASSERT_LT(0, c);
	for (int g = 0; g < 8; g++) {
		__u64 at = g * CF_GRANULE + 100, safe = g * CF_GRANULE;
		int op;

		ASSERT_EQ(0, cf_nf_store(nf, c, 1, 0, sizeof(buf), SIZE));
		cf_nf_note_release(nf, c);
		op = cf_nf_begin(nf, c, false);
		ASSERT_LT(0, op);
		ASSERT_EQ(0, cf_nf_read(nf, 0, op, NULL, 0, sizeof(buf), SIZE, CF_IO_PREPARE,
					CF_HOLE_IGNORE, &a));
		ASSERT_EQ(CF_SOURCE_CACHE, a.source);
		ASSERT_EQ(sizeof(buf), a.prepared);
		ASSERT_EQ(0, tear(nf, c, 2, at, 100));
		ASSERT_EQ(0, cf_nf_read(nf, 0, op, buf, 0, sizeof(buf), SIZE, CF_IO_ISSUE,
					CF_HOLE_IGNORE, &a));
		EXPECT_EQ(0, a.seen);
		EXPECT_GE((__s64)safe, a.result);
		EXPECT_EQ(1, a.completions);
		EXPECT_EQ(-1, cf_differs(1, 0, buf, a.result > 0 ? a.result : 0));
		ASSERT_EQ(0, cf_nf_end(nf, op));
	}
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

struct churn {
	int	nf, c, ret;
	bool	stop;
};

/* Granules come and go. */
static void *churn(void *arg)
{
	struct churn *t = arg;

	for (unsigned int i = 0; !__atomic_load_n(&t->stop, __ATOMIC_RELAXED) && !t->ret; i++) {
		__u64 at = i * 7 % 32 * CF_GRANULE;

		t->ret = tear(t->nf, t->c, 1, at + 10, 10);
		if (!t->ret)
			t->ret = cf_nf_store(t->nf, t->c, 1, at, CF_GRANULE, SIZE);
	}
	return NULL;
}

/* Reads among writes and holes, of a content that stays the same. */
TEST_F(original, reads_among_holes)
{
	struct churn t = { .nf = self->nf };
	pthread_t thread;

	t.c = cf_nf_file(self->nf, self->vol, "file", NULL, 0, SIZE, false);
	ASSERT_LT(0, t.c);
	ASSERT_EQ(0, cf_nf_fill(self->nf, t.c, 1, SIZE));
	ASSERT_EQ(0, pthread_create(&thread, NULL, churn, &t));
	for (int i = 0; i < 150; i++) {
		struct cf_fetch f;

		EXPECT_EQ(0, cf_nf_fetch(self->nf, t.c, 1, 0, SIZE, SIZE, &f, NULL));
		EXPECT_EQ(-1, f.bad);
		EXPECT_EQ(0, f.err);
	}
	__atomic_store_n(&t.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	EXPECT_EQ(0, t.ret);
	ASSERT_EQ(0, cf_nf_detach(self->nf, t.c, false));
}

TEST_HARNESS_MAIN
