// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whichever allocation or copy to or from user space fails in a system call of the daemon,
 * nothing is lost: the request is there the next time, or its reader has been told an errno.
 * In one of a reader that one fails, or nothing does, and the next one gets what is right.
 */
#include "harness.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "lib/delay.h"
#include "lib/failnth.h"

/* More allocations and copies than any of these calls makes. */
#define MOST	60

TEST_F_TIMEOUT(ondemand, d13_delivery_of_open, 60)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	bool hit = true;
	char name[16];

	if (cf_fail_init())
		SKIP(return, CF_NO_FAILNTH);
	for (int n = 1; hit && n < MOST; n++) {
		int ret;

		snprintf(name, sizeof(name), "f%d", n);
		ASSERT_EQ(0, start_stat(e, &r, name));
		ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
		cf_fail_nth(n);
		ret = cf_read(e->dev, &m);
		hit = cf_fail_done();
		if (ret < 0) {
			EXPECT_TRUE(cf_fail_is(ret)) {
				TH_LOG("allocation %d: %d", n, ret);
			}
			EXPECT_EQ(0, cf_reader_done(&r));
			ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
		}
		ASSERT_EQ(CACHEFILES_OP_OPEN, m.hdr.opcode);
		ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, n));
		ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
		EXPECT_EQ(n, res.n);
	}
	EXPECT_FALSE(hit);
	TH_LOG("%d allocations failed", cf_fail_count);
	EXPECT_LT(0, cf_fail_count);
}

/*
 * Another opening needs an id, which may need memory; that is tried for twice.  Without it
 * there is none, and not one that was just used.
 */
TEST_F(ondemand, d17_no_memory_for_an_id)
{
	enum { ID = 63 };	/* The next one is in a new node of an xarray. */
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	if (cf_fail_init() || cf_fail_module("cachefiles"))
		SKIP(return, CF_NO_FAILNTH);
	if (cf_delay_init())
		SKIP(return, CF_NO_FORCED_IDS);
	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, cf_force_msg_id(ID));
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(ID, m.hdr.msg_id);
	close(fd);

	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	ASSERT_EQ(0, cf_fail_some(2, 100));
	EXPECT_EQ(-ENOMEM, cf_read(e->dev, &m));
	EXPECT_TRUE(cf_fail_some_done());
	EXPECT_EQ(0, cf_reader_done(&r));

	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	EXPECT_LT(ID, m.hdr.msg_id);
	fd = cf_open_fd(&m);
	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, MB));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	EXPECT_EQ(ID, m.hdr.msg_id);
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
}

/* An answer that can't be carried out fails its OPEN with the writer's errno. */
TEST_F_TIMEOUT(ondemand, copen, 120)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	bool hit = true;
	char name[16];

	if (cf_fail_init())
		SKIP(return, CF_NO_FAILNTH);
	for (int n = 1; hit && n < 4 * MOST; n++) {
		int ret, len, again;
		char text[64];

		snprintf(name, sizeof(name), "f%d", n);
		ASSERT_EQ(0, start_stat(e, &r, name));
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
		len = snprintf(text, sizeof(text), "copen %u,%d", m.hdr.msg_id, n);
		cf_fail_nth(n);
		ret = cf_write_raw(e->dev, text, len);
		hit = cf_fail_done();
		/* The command may not even have been read: once more, unless the OPEN has ended. */
		if (cf_fail_is(ret)) {
			again = cf_write_raw(e->dev, text, len);
			ASSERT_TRUE(again == 0 || again == -EINVAL) {
				TH_LOG("allocation %d, copen %d, then %d", n, ret, again);
			}
			if (!again)
				ret = 0;
		}
		ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG)) {
			TH_LOG("allocation %d, copen %d", n, ret);
		}
		if (ret) {
			EXPECT_NE(0, res.err);
			close(cf_open_fd(&m));
		} else {
			EXPECT_EQ(0, res.err);
			EXPECT_EQ(n, res.n);
		}
	}
	EXPECT_FALSE(hit);
	TH_LOG("%d allocations failed", cf_fail_count);
	EXPECT_LT(0, cf_fail_count);
	EXPECT_EQ(0, cf_cmd(e->dev, "restore"));
}

TEST_F_TIMEOUT(ondemand, fill_and_complete, 120)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	bool hit = true;
	char page[4096];
	int fd;

	if (cf_fail_init())
		SKIP(return, CF_NO_FAILNTH);
	fd = open_object(e, &r, "file", 64 * MB, &m);
	ASSERT_LE(0, fd);
	for (int n = 1; hit && n < 2 * MOST; n++) {
		__u64 off = n * 65536ULL;
		int ret;

		ASSERT_EQ(0, start_read(e, &r, "file", 1, off, 4096));
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
		cf_pattern(1, off, page, sizeof(page));
		cf_fail_nth(n);
		ret = pwrite(fd, page, 4096, (off_t)off) < 0 ? -errno : 0;
		hit = cf_fail_done();
		if (ret) {
			EXPECT_EQ(4096, pwrite(fd, page, 4096, (off_t)off)) {
				TH_LOG("allocation %d: %d, then %d", n, ret, errno);
			}
		}
		cf_fail_nth(n);
		ret = ioctl(fd, CACHEFILES_IOC_CREAD, (unsigned long)m.hdr.msg_id);
		hit |= cf_fail_done();
		EXPECT_EQ(0, ret);
		/* Reading back may fail; what is asked again then is answered. */
		while (!cf_poll(r.pipe, POLLIN, 100)) {
			if (cf_poll(e->dev, POLLIN, 0)) {
				ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
				ASSERT_EQ(0, serve_read(&m, fd, 1, 64 * MB));
			}
		}
		ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
		EXPECT_TRUE(res.err == 0 || res.err == ENOMEM || res.err == EIO) {
			TH_LOG("allocation %d: errno %d", n, res.err);
		}
		EXPECT_EQ(-1, res.bad);
	}
	EXPECT_FALSE(hit);
	TH_LOG("%d allocations failed", cf_fail_count);
	EXPECT_LT(0, cf_fail_count);
	EXPECT_EQ(0, cf_cmd(e->dev, "restore"));
}

static int size_errno(struct cf_env *e, const char *name, long long *size)
{
	char path[160];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", e->mnt, name);
	if (stat(path, &st))
		return errno;
	*size = st.st_size;
	return 0;
}

TEST_F_TIMEOUT(ondemand, lookup, 120)
{
	struct cf_env *e = &self->e;
	bool hit = true;
	char name[16];

	if (cf_fail_init())
		SKIP(return, CF_NO_FAILNTH);
	ASSERT_NE(NULL, cf_server_add(&self->s, "file", 12345, 1));
	self->s.any_key = true;
	ASSERT_EQ(0, cf_server_thread(&self->s));
	for (int n = 1; hit && n < 4 * MOST; n++) {
		long long size = 0;
		int ret;

		snprintf(name, sizeof(name), "f%d", n);
		cf_fail_nth(n);
		ret = size_errno(e, name, &size);
		hit = cf_fail_done();
		if (ret) {
			EXPECT_TRUE(cf_fail_is(-ret)) {
				TH_LOG("allocation %d: %s", n, strerror(ret));
			}
			ASSERT_EQ(0, size_errno(e, name, &size)) {
				TH_LOG("after allocation %d: %s", n, strerror(errno));
			}
		}
		EXPECT_EQ(12345, size);
	}
	EXPECT_FALSE(hit);
	TH_LOG("%d allocations failed", cf_fail_count);
	EXPECT_LT(0, cf_fail_count);
	EXPECT_EQ(0, self->s.stats->odd);
}

/* Every other page is there, so that what is read at once comes in pieces. */
TEST_F_TIMEOUT(ondemand, read, 120)
{
	enum { GRANULES = 32, SIZE = GRANULES * CF_GRANULE };
	static unsigned char buf[SIZE];
	struct cf_env *e = &self->e;
	bool hit = true;
	char path[160];

	if (cf_fail_init())
		SKIP(return, CF_NO_FAILNTH);
	ASSERT_NE(NULL, cf_server_add(&self->s, "file", SIZE, 1));
	self->s.any_key = true;
	ASSERT_EQ(0, cf_server_thread(&self->s));
	for (int n = 1; hit && n < 10 * MOST; n++) {
		ssize_t got;
		int fd;

		snprintf(path, sizeof(path), "%s/f%d", e->mnt, n);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM));
		for (int i = 1; i < GRANULES; i += 2) {
			ASSERT_EQ(CF_GRANULE, pread(fd, buf, CF_GRANULE, i * CF_GRANULE));
		}
		ASSERT_EQ(0, posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
		ASSERT_EQ(0, posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL));

		memset(buf, 0, sizeof(buf));
		cf_fail_nth(n);
		got = pread(fd, buf, SIZE, 0);
		got = got < 0 ? -errno : got;
		hit = cf_fail_done();
		EXPECT_TRUE(got > 0 || cf_fail_is(got) || got == -EIO) {
			TH_LOG("allocation %d: %s", n, strerror(-got));
		}
		EXPECT_EQ(-1, cf_differs(1, 0, buf, got > 0 ? got : 0));
		ASSERT_EQ(SIZE, pread(fd, buf, SIZE, 0)) {
			TH_LOG("after allocation %d: %s", n, strerror(errno));
		}
		EXPECT_EQ(-1, cf_differs(1, 0, buf, SIZE));
		close(fd);
	}
	EXPECT_FALSE(hit);
	TH_LOG("%d allocations failed", cf_fail_count);
	EXPECT_LT(0, cf_fail_count);
	EXPECT_EQ(0, self->s.stats->odd);
}

TEST_HARNESS_MAIN
