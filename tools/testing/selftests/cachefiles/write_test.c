// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bytes written to an object's descriptor land where asked, or the call fails
 * with its documented errno and has no effect.
 */
#include "harness.h"

#include <sys/uio.h>

struct wr {
	__u64	off, len;
	int		err;
};

static int put(int fd, __u64 off, __u64 len, unsigned char byte)
{
	static unsigned char buf[65536];
	ssize_t ret;

	memset(buf, byte, sizeof(buf));
	ret = pwrite(fd, buf, len, (off_t)off);
	return ret < 0 ? -errno : (int)ret;
}

/* Start on a block; end on a block, or at the size or beyond in its last one. */
TEST_F(ondemand, alignment)
{
	enum { SIZE = 5 * 4096 + 1000 };
	static const struct wr w[] = {
		{ 0,		0,	0 },
		{ 0,		4096,	0 },
		{ 4096,		8192,	0 },
		{ 1,		4096,	EINVAL },
		{ 512,		512,	EINVAL },
		{ 4095,		1,	EINVAL },
		{ 0,		1,	EINVAL },
		{ 0,		512,	EINVAL },
		{ 0,		4095,	EINVAL },
		{ 0,		4097,	EINVAL },
		{ 4 * 4096,	4096 + 999, EINVAL },
		{ 5 * 4096,	999,	EINVAL },
		{ 5 * 4096,	1000,	0 },
		{ 5 * 4096,	1001,	0 },
		{ 5 * 4096,	4095,	0 },
		{ 5 * 4096,	4096,	0 },
		{ 4 * 4096,	4096 + 1000, 0 },
		{ 4 * 4096,	8192,	0 },
		{ 5 * 4096 + 1,	999,	EINVAL },
		{ 5 * 4096,	4097,	EFBIG },
		{ 4 * 4096,	8193,	EFBIG },
		{ 6 * 4096,	1,	EFBIG },
		{ 6 * 4096,	4096,	EFBIG },
		{ 1 << 30,	4096,	EFBIG },
		{ 1ULL << 40,	4096,	EFBIG },
		{ 0x7fffffffffffe000, 4096, EFBIG },
	};
	struct cf_env *e = &self->e;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &r, "file", SIZE, &m);
	ASSERT_LE(0, fd);
	for (size_t i = 0; i < ARRAY_SIZE(w); i++) {
		EXPECT_EQ(w[i].err ? -w[i].err : (int)w[i].len,
			  put(fd, w[i].off, w[i].len, 0x55)) {
			TH_LOG("%llu bytes at %llu", (unsigned long long)w[i].len,
			       (unsigned long long)w[i].off);
		}
	}
	EXPECT_EQ(-EINVAL, put(fd, (__u64)-4096, 4096, 0x55));
	EXPECT_EQ(1, cf_idle(e->dev));
}

/* Every start and length in a window of three blocks, against a model. */
TEST_F_TIMEOUT(ondemand, model, 60)
{
	enum { SIZE = 3 * 4096 - 700, TOP = 3 * 4096 };
	static const int starts[] = { 0, 1, 511, 512, 2048, 4095, 4096, 4097, 8191, 8192, 12288 };
	static const int lens[] = { 1, 511, 512, 3396, 4095, 4096, 4097, 8191, 8192, 8193,
				    11588, 11589, 12287, 12288, 12289 };
	struct cf_env *e = &self->e;
	unsigned char model[TOP] = { 0 }, got[TOP];
	struct cf_reader r;
	struct cf_msg m;
	unsigned char byte = 0;
	char path[160];
	int fd, file;

	fd = open_object(e, &r, "file", SIZE, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(TOP, put(fd, 0, TOP, 0));
	snprintf(path, sizeof(path), "%s/file", e->mnt);
	file = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, file);
	for (size_t i = 0; i < ARRAY_SIZE(starts); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(lens); j++) {
			int off = starts[i], end = off + lens[j], ret;
			bool ok = off % 4096 == 0 && end <= TOP &&
				  (end % 4096 == 0 || end >= SIZE);

			ret = put(fd, off, lens[j], ++byte);
			if (ok) {
				memset(model + off, byte, lens[j]);
				EXPECT_EQ(lens[j], ret) {
					TH_LOG("%d bytes at %d", lens[j], off);
				}
			} else {
				EXPECT_TRUE(ret == -EINVAL || (ret == -EFBIG && end > TOP)) {
					TH_LOG("%d bytes at %d: %d", lens[j], off, ret);
				}
			}
			posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
			ASSERT_EQ(SIZE, pread(file, got, TOP, 0));
			ASSERT_EQ(0, memcmp(model, got, SIZE)) {
				TH_LOG("after %d bytes at %d", lens[j], off);
			}
		}
	}
	close(file);
}

/* The descriptor has a position of its own, which write(2) and lseek(2) move. */
TEST_F(ondemand, position)
{
	struct cf_env *e = &self->e;
	struct iovec iov[2];
	char buf[8192];
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &r, "file", 64 * 1024, &m);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, lseek(fd, 0, SEEK_CUR));
	cf_pattern(1, 0, buf, 8192);
	EXPECT_EQ(4096, write(fd, buf, 4096));
	EXPECT_EQ(4096, lseek(fd, 0, SEEK_CUR));
	EXPECT_EQ(4096, write(fd, buf + 4096, 4096));
	EXPECT_EQ(8192, lseek(fd, 0, SEEK_CUR));
	EXPECT_EQ(16384, lseek(fd, 16384, SEEK_SET));
	cf_pattern(1, 16384, buf, 8192);
	iov[0] = (struct iovec) { buf, 4096 };
	iov[1] = (struct iovec) { buf + 4096, 4096 };
	EXPECT_EQ(8192, writev(fd, iov, 2));
	EXPECT_EQ(24576, lseek(fd, 0, SEEK_CUR));
	/* Pieces of a vector need not be blocks, the whole does. */
	iov[0].iov_len = 100;
	iov[1] = (struct iovec) { buf + 100, 3996 };
	cf_pattern(1, 24576, buf, 4096);
	EXPECT_EQ(4096, writev(fd, iov, 2));
	EXPECT_EQ(65536, lseek(fd, 0, SEEK_END));
	EXPECT_EQ(61440, lseek(fd, -4096, SEEK_CUR));
	cf_pattern(1, 61440, buf, 4096);
	EXPECT_EQ(4096, write(fd, buf, 4096));
	EXPECT_EQ(-1, write(fd, buf, 4096));
	EXPECT_EQ(EFBIG, errno);
	EXPECT_EQ(65536, lseek(fd, 0, SEEK_CUR));
	/* A pwrite leaves it alone, a refused write too. */
	EXPECT_EQ(4096, pwrite(fd, buf, 4096, 61440));
	EXPECT_EQ(65536, lseek(fd, 0, SEEK_CUR));
	EXPECT_EQ(1, lseek(fd, 1, SEEK_SET));
	EXPECT_EQ(-1, write(fd, buf, 4096));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(1, lseek(fd, 0, SEEK_CUR));
	EXPECT_EQ(-1, lseek(fd, -1, SEEK_SET));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, lseek(fd, 0, 99));
	EXPECT_EQ(EINVAL, errno);

	EXPECT_EQ(8192, read_here(e, "file", 1, 0, 8192));
	EXPECT_EQ(12288, read_here(e, "file", 1, 16384, 12288));
	EXPECT_EQ(4096, read_here(e, "file", 1, 61440, 4096));
	EXPECT_EQ(1, cf_idle(e->dev));
}

/* SEEK_DATA and SEEK_HOLE say what is there. */
TEST_F(ondemand, what_is_there)
{
	struct cf_env *e = &self->e;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-1, lseek(fd, 0, SEEK_DATA));
	EXPECT_EQ(ENXIO, errno);
	EXPECT_EQ(0, lseek(fd, 0, SEEK_HOLE));
	ASSERT_EQ(8192, cf_fill(fd, 1, 65536, 8192, MB));
	EXPECT_EQ(65536, lseek(fd, 0, SEEK_DATA));
	EXPECT_EQ(65536, lseek(fd, 0, SEEK_CUR));
	EXPECT_EQ(65536 + 8192, lseek(fd, 65536, SEEK_HOLE));
	EXPECT_EQ(65536 + 8192, lseek(fd, 0, SEEK_CUR));
	EXPECT_EQ(0, lseek(fd, 0, SEEK_HOLE));
	EXPECT_EQ(-1, lseek(fd, 65536 + 8192, SEEK_DATA));
	EXPECT_EQ(ENXIO, errno);
}

TEST_F(ondemand, bad_buffer)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-1, pwrite(fd, (void *)-8192UL, 4096, 0));
	EXPECT_EQ(EFAULT, errno);
	/* Nothing is taken for data that isn't. */
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(-1, res.bad);
}

/* An object of size 0 takes nothing; one of size 1 takes one block. */
TEST_F(ondemand, tiny)
{
	struct cf_env *e = &self->e;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &r, "none", 0, &m);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, put(fd, 0, 0, 1));
	EXPECT_EQ(-EFBIG, put(fd, 0, 1, 1));
	EXPECT_EQ(-EFBIG, put(fd, 0, 4096, 1));
	fd = open_object(e, &r, "one", 1, &m);
	ASSERT_LE(0, fd);
	EXPECT_EQ(1, put(fd, 0, 1, 1));
	EXPECT_EQ(4096, put(fd, 0, 4096, 1));
	EXPECT_EQ(-EFBIG, put(fd, 0, 4097, 1));
	EXPECT_EQ(-EFBIG, put(fd, 4096, 1, 1));
}

/* Write in vain: before copen, after a refusal, after the object is gone, dead. */
TEST_F(ondemand, no_object_to_write_to)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int fd, gone;

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	EXPECT_EQ(-ENOBUFS, put(cf_open_fd(&m), 0, 4096, 1));
	EXPECT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, -ENOENT));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(-ENOBUFS, put(cf_open_fd(&m), 0, 4096, 1));
	close(cf_open_fd(&m));

	gone = open_object(e, &r, "gone", MB, &m);
	ASSERT_LE(0, gone);
	EXPECT_EQ(4096, put(gone, 0, 4096, 1));
	ASSERT_LE(0, cf_env_umount(e, PROMPT));
	EXPECT_EQ(-ENOBUFS, put(gone, 0, 4096, 1));
	EXPECT_EQ(-1, lseek(gone, 0, SEEK_DATA));
	EXPECT_EQ(ENOBUFS, errno);

	ASSERT_EQ(0, cf_env_mount(e));
	ASSERT_EQ(0, start_stat(e, &r, "dead"));
	do {
		ASSERT_LT(0, cf_next(e->dev, &m, LONG));
	} while (m.hdr.opcode != CACHEFILES_OP_OPEN);
	fd = cf_open_fd(&m);
	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(4096, put(fd, 0, 4096, 1));
	close(e->dev);
	e->dev = -1;
	EXPECT_EQ(-EIO, put(fd, 0, 4096, 1));
}

/* A writer and an unmount at the same time, many times over. */
struct scribbler {
	int	fd;
	_Bool	stop;
	int	odd;
};

static void *scribble(void *arg)
{
	struct scribbler *s = arg;

	while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
		int ret = (int)cf_fill(s->fd, 1, 0, 65536, MB);

		if (ret < 0 && ret != -ENOBUFS)
			s->odd = ret;
		lseek(s->fd, 0, SEEK_DATA);
	}
	return NULL;
}

TEST_F_TIMEOUT(ondemand, written_while_unmounted, 60)
{
	struct cf_env *e = &self->e;
	struct scribbler s;
	pthread_t thread;
	struct cf_reader r;
	struct cf_msg m;

	for (int i = 0; i < 20; i++) {
		struct cf_result res;

		ASSERT_EQ(0, start_stat(e, &r, "file"));
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
		s = (struct scribbler) { .fd = cf_open_fd(&m) };
		ASSERT_EQ(0, pthread_create(&thread, NULL, scribble, &s));
		ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, MB));
		ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
		ASSERT_LE(0, cf_env_umount(e, PROMPT));
		__atomic_store_n(&s.stop, 1, __ATOMIC_RELAXED);
		pthread_join(thread, NULL);
		EXPECT_EQ(0, s.odd);
		close(s.fd);
		ASSERT_EQ(0, cf_env_mount(e));
	}
}

TEST_HARNESS_MAIN
