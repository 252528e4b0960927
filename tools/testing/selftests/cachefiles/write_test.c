// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bytes written to an object's descriptor land where asked, or the call fails
 * with its documented errno and has no effect.
 */
#include "harness.h"

#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "lib/backing.h"

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
TEST_F(ondemand, d51_d53_alignment)
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
		{ MB + SIZE,	4096,	EFBIG },
		{ 1 << 30,	4096,	EFBIG },
		{ 1ULL << 40,	4096,	EFBIG },
		{ 1ULL << 62,	4096,	EFBIG },
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

/* What is refused in a file of which nothing is there makes nothing be there. */
TEST_F(ondemand, d41_refused_in_a_hole)
{
	enum { SIZE = 3 * 4096 - 700 };
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &r, "file", SIZE, &m);
	ASSERT_LE(0, fd);
	for (int off = 0; off < 4 * 4096; off += 512) {
		for (int len = 512; len <= 4 * 4096; len += 512) {
			int end = off + len;

			if (off % 4096 == 0 && end <= 3 * 4096 &&
			    (end % 4096 == 0 || end >= SIZE))
				continue;
			EXPECT_GT(0, put(fd, off, len, 0x55)) {
				TH_LOG("%d bytes at %d", len, off);
			}
		}
	}
	EXPECT_EQ(-1, lseek(fd, 0, SEEK_DATA));
	EXPECT_EQ(ENXIO, errno);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 4096, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, serve_read(&m, fd, 1, SIZE));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(-1, res.bad);
}

/* --- the window of three blocks, on file systems that differ in what they write --- */

FIXTURE(stores) {
	struct cf_env e;
	struct cf_mounted m;
};

FIXTURE_VARIANT(stores) {
	struct cf_backing b;
};

FIXTURE_VARIANT_ADD(stores, ext4) {
	.b = { .fstype = "ext4", .mb = 64, .mkfs = "mkfs.ext4 -q -F -b4096" },
};

FIXTURE_VARIANT_ADD(stores, ext4_1k) {
	.b = { .fstype = "ext4", .mb = 64, .mkfs = "mkfs.ext4 -q -F -b1024" },
};

FIXTURE_VARIANT_ADD(stores, xfs) {
	.b = { .fstype = "xfs", .mb = 320, .mkfs = "mkfs.xfs -q -f -K" },
};

FIXTURE_VARIANT_ADD(stores, xfs_512) {
	.b = { .fstype = "xfs", .mb = 320, .mkfs = "mkfs.xfs -q -f -K -mcrc=0 -bsize=512" },
};

FIXTURE_VARIANT_ADD(stores, btrfs) {
	.b = { .fstype = "btrfs", .mb = 256, .mkfs = "mkfs.btrfs -q -f -K" },
};

FIXTURE_SETUP(stores)
{
	int ret;

	if (world)
		SKIP(return, "%s", cf_why);
	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	ASSERT_EQ(0, cf_env_init(&self->e));
	ret = cf_backing_mount(&self->m, &variant->b);
	if (ret > 0)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	snprintf(self->e.dir, sizeof(self->e.dir), "%s", self->m.where);
	ASSERT_EQ(0, cf_env_bind(&self->e));
	ASSERT_EQ(0, cf_env_mount(&self->e));
}

FIXTURE_TEARDOWN(stores)
{
	EXPECT_NE(-ETIMEDOUT, cf_env_exit(&self->e));
	cf_backing_unmount(&self->m);
}

enum { WINDOW = 3 * 4096, IN_WINDOW = WINDOW - 700 };

struct window {
	int		fd, file;
	unsigned char	byte;
	unsigned char	is[WINDOW];
};

static void try_write(struct __test_metadata *_metadata, struct window *w, int off, int len)
{
	bool ok = off % 4096 == 0 && off + len <= WINDOW &&
		  ((off + len) % 4096 == 0 || off + len >= IN_WINDOW);
	unsigned char got[WINDOW];
	int ret;

	ret = put(w->fd, off, len, ++w->byte);
	if (ok) {
		memset(w->is + off, w->byte, len);
		EXPECT_EQ(len, ret) {
			TH_LOG("%d bytes at %d", len, off);
		}
	} else {
		EXPECT_TRUE(ret == -EINVAL || (ret == -EFBIG && off + len > WINDOW)) {
			TH_LOG("%d bytes at %d: %d", len, off, ret);
		}
	}
	posix_fadvise(w->file, 0, 0, POSIX_FADV_DONTNEED);
	ASSERT_EQ(IN_WINDOW, pread(w->file, got, WINDOW, 0));
	ASSERT_EQ(0, memcmp(w->is, got, IN_WINDOW)) {
		TH_LOG("after %d bytes at %d", len, off);
	}
}

/* All starts and lengths in units of a sector, and what is next to a block's ends. */
TEST_F_TIMEOUT(stores, d41_d42_model, 120)
{
	static const int starts[] = { 0, 1, 511, 2048, 4095, 4096, 4097, 8191, 8192, 12288 };
	static const int lens[] = { 1, 511, 3396, 4095, 4096, 4097, 8191, 8193, 11588, 11589,
				    12287, 12289 };
	struct window w = { .fd = -1 };
	struct cf_reader r;
	struct cf_msg m;
	char path[160];

	w.fd = open_object(&self->e, &r, "file", IN_WINDOW, &m);
	ASSERT_LE(0, w.fd);
	ASSERT_EQ(WINDOW, put(w.fd, 0, WINDOW, 0));
	snprintf(path, sizeof(path), "%s/file", self->e.mnt);
	w.file = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, w.file);
	for (int off = 0; off < WINDOW; off += 512)
		for (int len = 512; off + len <= WINDOW + 512; len += 512)
			try_write(_metadata, &w, off, len);
	for (size_t i = 0; i < ARRAY_SIZE(starts); i++)
		for (size_t j = 0; j < ARRAY_SIZE(lens); j++)
			try_write(_metadata, &w, starts[i], lens[j]);
	close(w.file);
	close(w.fd);
	ASSERT_LE(0, cf_env_umount(&self->e, LONG));
}

/* The descriptor has a position of its own, which write(2) and lseek(2) move. */
TEST_F(ondemand, d43_position)
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

/* --- every call that writes --- */

struct uring {
	int			fd;
	struct io_uring_params	p;
	unsigned char		*ring;
	struct io_uring_sqe	*sqe;
};

static int uring_init(struct uring *u)
{
	size_t len;

	memset(u, 0, sizeof(*u));
	u->fd = (int)syscall(SYS_io_uring_setup, 1, &u->p);
	if (u->fd < 0)
		return -errno;
	len = u->p.cq_off.cqes + u->p.cq_entries * sizeof(struct io_uring_cqe);
	if (u->p.sq_off.array + u->p.sq_entries * 4 > len)
		len = u->p.sq_off.array + u->p.sq_entries * 4;
	u->ring = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, u->fd, IORING_OFF_SQ_RING);
	u->sqe = mmap(NULL, sizeof(*u->sqe), PROT_READ | PROT_WRITE, MAP_SHARED, u->fd,
		      IORING_OFF_SQES);
	return u->ring == MAP_FAILED || (void *)u->sqe == MAP_FAILED ? -ENOMEM : 0;
}

static unsigned int *uring_at(struct uring *u, unsigned int off)
{
	return (unsigned int *)(u->ring + off);
}

/* Write at @off, or at the position if that is -1. */
static int uring_write(struct uring *u, int fd, const void *buf, unsigned int len, __s64 off)
{
	unsigned int tail = *uring_at(u, u->p.sq_off.tail), head;
	struct io_uring_cqe *cqe;

	*u->sqe = (struct io_uring_sqe) {
		.opcode = IORING_OP_WRITE, .fd = fd, .off = (__u64)off,
		.addr = (unsigned long)buf, .len = len,
	};
	*uring_at(u, u->p.sq_off.array) = 0;
	__atomic_store_n(uring_at(u, u->p.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, u->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		return -errno;
	head = *uring_at(u, u->p.cq_off.head);
	cqe = (void *)(u->ring + u->p.cq_off.cqes);
	cqe += head & *uring_at(u, u->p.cq_off.ring_mask);
	__atomic_store_n(uring_at(u, u->p.cq_off.head), head + 1, __ATOMIC_RELEASE);
	return cqe->res;
}

static int aio_write(int fd, const void *buf, size_t len, __s64 off)
{
	struct iocb cb = {
		.aio_lio_opcode = IOCB_CMD_PWRITE, .aio_fildes = fd,
		.aio_buf = (unsigned long)buf, .aio_nbytes = len, .aio_offset = off,
	}, *list = &cb;
	aio_context_t ctx = 0;
	struct io_event ev;
	int ret;

	if (syscall(SYS_io_setup, 1, &ctx))
		return -errno;
	ret = syscall(SYS_io_submit, ctx, 1, &list) == 1 ? 0 : -errno;
	if (!ret && syscall(SYS_io_getevents, ctx, 1, 1, &ev, NULL) != 1)
		ret = -errno;
	syscall(SYS_io_destroy, ctx);
	return ret ? ret : (int)ev.res;
}

enum call {
	WRITE, WRITEV, URING,			/* at the position */
	PWRITE, PWRITEV, URING_AT, AIO,		/* elsewhere */
	NR_CALLS,
};

static const char *const call_names[] = {
	"write", "writev", "io_uring", "pwrite", "pwritev", "io_uring with an offset", "aio",
};

/* In two parts where there may be parts, none of which is a block. */
static int call(enum call how, struct uring *u, int fd, const char *buf, size_t len, off_t off)
{
	struct iovec v[2] = {
		{ (void *)buf, len / 3 }, { (void *)(buf + len / 3), len - len / 3 },
	};
	ssize_t ret;

	switch (how) {
	case WRITE:
		ret = write(fd, buf, len);
		break;
	case WRITEV:
		ret = writev(fd, v, 2);
		break;
	case URING:
		return uring_write(u, fd, buf, len, -1);
	case PWRITE:
		ret = pwrite(fd, buf, len, off);
		break;
	case PWRITEV:
		ret = pwritev(fd, v, 2, off);
		break;
	case URING_AT:
		return uring_write(u, fd, buf, len, off);
	default:
		return aio_write(fd, buf, len, off);
	}
	return ret < 0 ? -errno : (int)ret;
}

/*
 * The result is what was given, the position moves by it where the call says so, and
 * all of it is there. What ends within the last block counts with the bytes it had.
 */
TEST_F(ondemand, d42_d43_every_call)
{
	static const unsigned int lens[] = { 4096, 8192, 69632, 200704 };
	enum { SIZE = 4 * MB - 123 };
	struct cf_env *e = &self->e;
	off_t pos = 0, at = 3 * MB;
	static char buf[256 << 10];
	struct cf_reader r;
	struct uring u;
	struct cf_msg m;
	int fd, pipes[2];

	fd = open_object(e, &r, "file", SIZE, &m);
	ASSERT_LE(0, fd);
	if (uring_init(&u))
		u.fd = -1;
	for (int how = 0; how < NR_CALLS; how++) {
		if (u.fd < 0 && (how == URING || how == URING_AT))
			continue;
		for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
			int len = (int)lens[i];
			bool moves = how < PWRITE;

			if (!moves && at + len > SIZE)
				at = 3 * MB;
			cf_pattern(1, moves ? pos : at, buf, len);
			EXPECT_EQ(len, call(how, &u, fd, buf, len, at)) {
				TH_LOG("%s, %d bytes", call_names[how], len);
			}
			if (moves)
				pos += len;
			EXPECT_EQ(pos, lseek(fd, 0, SEEK_CUR)) {
				TH_LOG("%s, %d bytes", call_names[how], len);
			}
			EXPECT_EQ(len, read_here(e, "file", 1, moves ? pos - len : at, len)) {
				TH_LOG("%s, %d bytes", call_names[how], len);
			}
			if (!moves)
				at += len;
		}
		/* The end. */
		cf_pattern(1, SIZE - 3973, buf, 3973);
		ASSERT_EQ(SIZE - 3973, lseek(fd, SIZE - 3973, SEEK_SET));
		EXPECT_EQ(3973, call(how, &u, fd, buf, 3973, SIZE - 3973)) {
			TH_LOG("%s at the end", call_names[how]);
		}
		EXPECT_EQ(how < PWRITE ? SIZE : SIZE - 3973, lseek(fd, 0, SEEK_CUR)) {
			TH_LOG("%s at the end", call_names[how]);
		}
		ASSERT_EQ(pos, lseek(fd, pos, SEEK_SET));
	}
	EXPECT_EQ(3973, read_here(e, "file", 1, SIZE - 3973, 4096));
	EXPECT_EQ(pos, read_here(e, "file", 1, 0, pos));

	/* There is no other way in. */
	ASSERT_EQ(0, pipe2(pipes, O_CLOEXEC));
	ASSERT_EQ(4096, write(pipes[1], buf, 4096));
	EXPECT_EQ(-1, splice(pipes[0], NULL, fd, NULL, 4096, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(pos, lseek(fd, 0, SEEK_CUR));
	EXPECT_EQ(1, cf_idle(e->dev));
}

/* --- part of it --- */

/*
 * The backing file system takes only a part, since the daemon's files must not get any
 * larger: what is counted as written is there, in whole blocks, and nothing else is.
 */
TEST_F(ondemand, d44_part_of_a_write)
{
	static const int limits[] = { 1, 4095, 4096, 4097, 40960, 40961, 65536, 65537, 135000 };
	struct cf_env *e = &self->e;
	struct rlimit old, lim;
	static char buf[MB];
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	char name[32];
	int fd;

	signal(SIGXFSZ, SIG_IGN);
	ASSERT_EQ(0, getrlimit(RLIMIT_FSIZE, &old));
	cf_pattern(1, 0, buf, sizeof(buf));
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		int whole = limits[i] / 4096 * 4096;

		snprintf(name, sizeof(name), "file%zu", i);
		fd = open_object(e, &r, name, MB, &m);
		ASSERT_LE(0, fd);
		lim = (struct rlimit) { .rlim_cur = limits[i], .rlim_max = old.rlim_max };
		ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &lim));
		if (whole) {
			EXPECT_EQ(whole, write(fd, buf, sizeof(buf))) {
				TH_LOG("limit %d: %s", limits[i], strerror(errno));
			}
		} else {
			EXPECT_EQ(-1, write(fd, buf, sizeof(buf)));
		}
		EXPECT_EQ(whole, lseek(fd, 0, SEEK_CUR));
		EXPECT_EQ(-1, write(fd, buf + whole, 4096));
		EXPECT_EQ(whole, lseek(fd, 0, SEEK_CUR));
		ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &old));

		EXPECT_EQ(whole, lseek(fd, 0, SEEK_HOLE));
		EXPECT_EQ(-1, lseek(fd, whole, SEEK_DATA));
		EXPECT_EQ(ENXIO, errno);
		EXPECT_EQ(whole, lseek(fd, whole, SEEK_SET));
		if (whole) {
			EXPECT_EQ(whole, read_here(e, name, 1, 0, whole));
		}
		EXPECT_EQ(1, cf_idle(e->dev));
		ASSERT_EQ(0, start_read(e, &r, name, 1, whole, 4096));
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
		EXPECT_EQ(whole, (int)cf_rd(&m)->off);
		/* And it goes on from there. */
		EXPECT_EQ((ssize_t)MB - whole, write(fd, buf + whole, MB - whole));
		ASSERT_EQ(0, cf_cread(fd, m.hdr.msg_id));
		ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
		EXPECT_EQ(-1, res.bad);
		EXPECT_EQ(MB, read_here(e, name, 1, 0, MB));
		EXPECT_EQ(1, cf_idle(e->dev));
	}
}

/* The same with a disk that is full: how much it takes is its own affair. */
TEST_F(device, d44_full_disk)
{
	struct cf_env *e = &self->e;
	static char buf[MB];
	struct cf_result res;
	ssize_t part, n;
	struct cf_reader r;
	struct cf_msg m;
	char path[160];
	int fd, ballast;
	off_t size = 0;

	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	ASSERT_EQ(0, cf_env_store(e, 320 * MB, "ext4"));
	ASSERT_EQ(0, cf_cmd(e->dev, "bstop 0%%"));
	ASSERT_EQ(0, cf_env_bind(e));
	ASSERT_EQ(0, cf_env_mount(e));
	fd = open_object(e, &r, "file", 8 * MB, &m);
	ASSERT_LE(0, fd);
	snprintf(path, sizeof(path), "%s/ballast", e->dir);
	ballast = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, ballast);
	for (off_t step = 64 * MB; step >= 4096; step /= 2)
		while (!fallocate(ballast, 0, size, step))
			size += step;
	ASSERT_EQ(0, ftruncate(ballast, size - 5 * MB / 2));
	ASSERT_EQ(0, fsync(ballast));

	for (part = 0; part < (ssize_t)(8 * MB); part += n) {
		cf_pattern(1, part, buf, sizeof(buf));
		n = pwrite(fd, buf, sizeof(buf), part);
		if (n < (ssize_t)sizeof(buf))
			break;
	}
	/* Some write was cut short, or there was a limit between two of them. */
	ASSERT_GT(8 * MB, part);
	if (n > 0)
		part += n;
	EXPECT_EQ(0, part % 4096);
	EXPECT_LT(0, part);
	TH_LOG("%zd bytes taken, %zd of the last write", part, n);
	EXPECT_EQ(part, lseek(fd, 0, SEEK_HOLE));
	EXPECT_EQ(-1, lseek(fd, part, SEEK_DATA));
	ASSERT_EQ(0, ftruncate(ballast, 0));
	ASSERT_EQ(0, fsync(ballast));
	ASSERT_EQ(0, cf_drop_caches("1"));
	EXPECT_EQ(part, read_here(e, "file", 1, 0, part));
	EXPECT_EQ(1, cf_idle(e->dev));
	ASSERT_EQ(0, start_read(e, &r, "file", 1, part, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, serve_read(&m, fd, 1, 8 * MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(-1, res.bad);
	ASSERT_LE(0, cf_env_umount(e, PROMPT));
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

/* What lies behind the object is nothing, even if somebody has made its file longer. */
TEST_F(ondemand, what_is_behind)
{
	struct cf_env *e = &self->e;
	struct cf_reader r;
	struct cf_msg m;
	char path[512];
	int fd;

	fd = open_object(e, &r, "file", 10000, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(10000, cf_fill(fd, 1, 0, 10000, 10000));
	ASSERT_EQ(0, cf_nf_path(e->dir, e->volume, "file", 4, path, sizeof(path)));
	ASSERT_EQ(0, truncate(path, MB));
	EXPECT_EQ(12288, lseek(fd, 0, SEEK_HOLE));
	EXPECT_EQ(-1, lseek(fd, 65536, SEEK_HOLE));
	EXPECT_EQ(ENXIO, errno);
	EXPECT_EQ(-1, lseek(fd, 12288, SEEK_DATA));
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

/* What can be read of a buffer is written in whole blocks, and nothing of the one it ends in. */
TEST_F(ondemand, buffer_ends_early)
{
	enum { SIZE = 2 * CF_GRANULE + 100 };
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	char *end;
	int fd;

	fd = open_object(e, &r, "file", SIZE, &m);
	ASSERT_LE(0, fd);
	end = mmap(NULL, 3 * CF_GRANULE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		   -1, 0);
	ASSERT_NE(MAP_FAILED, end);
	end += 2 * CF_GRANULE;
	ASSERT_EQ(0, mprotect(end, CF_GRANULE, PROT_NONE));

	/* The last block of the object, which is not a whole one. */
	cf_pattern(1, 2 * CF_GRANULE, end - 50, 50);
	EXPECT_EQ(-1, pwrite(fd, end - 50, 100, 2 * CF_GRANULE));
	EXPECT_EQ(EFAULT, errno);
	/* One block in full, then part of the next. */
	cf_pattern(1, 0, end - CF_GRANULE - 50, CF_GRANULE + 50);
	EXPECT_EQ(CF_GRANULE, pwrite(fd, end - CF_GRANULE - 50, 2 * CF_GRANULE, 0));

	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, SIZE));
	for (__u64 off = CF_GRANULE; off < SIZE; off += cf_rd(&m)->len) {
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
		EXPECT_EQ(off, cf_rd(&m)->off);
		ASSERT_EQ(0, serve_read(&m, fd, 1, SIZE));
	}
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
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
	/* A worker drops the object, and its CLOSE tells that. */
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
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
