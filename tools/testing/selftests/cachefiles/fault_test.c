// SPDX-License-Identifier: GPL-2.0-only
/*
 * A delivery that fails, for want of room, memory or descriptors, is the
 * daemon's own trouble: the request stays as it was and is delivered next time.
 */
#include "harness.h"

#include <dirent.h>
#include <sys/mman.h>
#include <sys/resource.h>

static int count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int nr = 0;

	if (!d)
		return -1;
	while (readdir(d))
		nr++;
	closedir(d);
	return nr;
}

static int read_into(int dev, void *buf, size_t len)
{
	ssize_t ret = read(dev, buf, len);

	if (ret < 0)
		return -errno;
	return ret <= (ssize_t)len ? (int)ret : -EPROTO;
}

struct fault_ctx {
	char	*page;		/* the last byte of it is followed by nothing */
};

static int fault_init(struct fault_ctx *c)
{
	c->page = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return c->page == MAP_FAILED ? -1 : munmap(c->page + 4096, 4096);
}

/* All the ways to read badly, with one message of @len bytes waiting. */
static void read_badly(struct __test_metadata *_metadata, int dev, unsigned int len)
{
	struct fault_ctx c;
	int fds = count_fds();

	ASSERT_EQ(0, fault_init(&c));
	for (unsigned int n = 0; n < len; n++) {
		EXPECT_EQ(-EMSGSIZE, read_into(dev, c.page, n)) {
			TH_LOG("buffer of %u bytes for %u", n, len);
		}
	}
	EXPECT_EQ(-EFAULT, read_into(dev, (void *)-8192UL, 1024));
	EXPECT_EQ(-EFAULT, read_into(dev, c.page + 4096, 1024));
	for (unsigned int n = 1; n < len; n += 5) {
		EXPECT_EQ(-EFAULT, read_into(dev, c.page + 4096 - n, 1024));
	}
	EXPECT_EQ(POLLIN, cf_poll(dev, POLLIN, 0));
	EXPECT_EQ(fds, count_fds());
	munmap(c.page, 4096);
}

TEST_F(ondemand, d25_every_kind)
{
	struct cf_env *e = &self->e;
	unsigned int len = 32 + strlen(e->volume) + 1 + strlen("file");
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	char small[64];
	int fd;

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	read_badly(_metadata, e->dev, len);
	EXPECT_EQ(0, cf_reader_done(&r));
	/* A buffer of just the right size will do. */
	ASSERT_EQ((int)len, read_into(e->dev, m.raw, len));
	EXPECT_EQ(CACHEFILES_OP_OPEN, m.hdr.opcode);
	fd = cf_open_fd(&m);
	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);

	ASSERT_EQ(0, start_read(e, &r, "file", 1, 4096, 4096));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	read_badly(_metadata, e->dev, 40);
	EXPECT_EQ(0, cf_reader_done(&r));
	ASSERT_EQ(40, read_into(e->dev, m.raw, 40));
	ASSERT_EQ(CACHEFILES_OP_READ, m.hdr.opcode);
	EXPECT_EQ(4096, cf_rd(&m)->off);
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);

	ASSERT_LE(0, cf_env_umount(e, PROMPT));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	read_badly(_metadata, e->dev, 24);
	ASSERT_EQ(24, read_into(e->dev, small, 24));
	EXPECT_EQ(1, cf_idle(e->dev));
}

/* What could not be delivered does not lose its turn to what came later. */
TEST_F(ondemand, keeps_its_turn)
{
	static const char *const names[] = { "first", "second" };
	struct cf_env *e = &self->e;
	struct cf_reader r[2];
	struct cf_result res;
	struct fault_ctx c;
	struct cf_msg m;
	char key[256];

	ASSERT_EQ(0, fault_init(&c));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, start_stat(e, &r[i], names[i]));
		ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
		/* Its request is there when its reader sleeps. */
		EXPECT_EQ(0, cf_poll(r[i].pipe, POLLIN, cf_ms(BRIEF)));
	}
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(-EFAULT, read_into(e->dev, c.page + 4096, 1024));
	}
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
		EXPECT_STREQ(names[i], cf_key(&m, key));
		ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, MB));
		ASSERT_EQ(0, cf_reader_wait(&r[i], &res, LONG));
		EXPECT_EQ(0, res.err);
	}
	munmap(c.page, 4096);
}

/* Failed deliveries of a reopen are as harmless. */
TEST_F(ondemand, d25_reopen)
{
	struct cf_env *e = &self->e;
	unsigned int len = 32 + strlen(e->volume) + 1 + strlen("file");
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	close(fd);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 4096, 4096));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	read_badly(_metadata, e->dev, len);
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	fd = cf_open_fd(&m);
	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, MB));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
}

/* The descriptor that would be the next, with the limit as it is, and by which it is none. */
static int next_descriptor(struct rlimit *old, struct rlimit *full)
{
	int fd = dup(0);

	if (fd < 0 || close(fd) || getrlimit(RLIMIT_NOFILE, old))
		return -errno;
	*full = *old;
	full->rlim_cur = fd;
	return fd;
}

TEST_F(ondemand, d25_descriptor_table_full)
{
	struct cf_env *e = &self->e;
	struct rlimit old, full;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int probe;

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	probe = next_descriptor(&old, &full);
	ASSERT_LE(0, probe);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &full));
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(-EMFILE, cf_read(e->dev, &m));
		EXPECT_EQ(POLLIN, cf_poll(e->dev, POLLIN, 0));
	}
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &old));
	EXPECT_EQ(0, cf_reader_done(&r));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	EXPECT_EQ(probe, cf_open_fd(&m));
	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, 10));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(10, res.n);
}

/* A CLOSE needs none either, and says which one may go: it does not wait behind an OPEN. */
TEST_F(ondemand, close_with_table_full)
{
	long long end = cf_now() + cf_ms(LONG);
	struct cf_env *e = &self->e;
	struct rlimit old, full;
	struct cf_reader r;
	struct cf_msg m;
	int fd, probe, ret;

	fd = open_object(e, &r, "old", 10, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_stat(e, &r, "new"));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	probe = next_descriptor(&old, &full);
	ASSERT_LE(0, probe);
	do {
		ASSERT_EQ(0, cf_drop_caches("3"));
		ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &full));
		ret = cf_read(e->dev, &m);
		if (ret == -EMFILE)
			ret = cf_read(e->dev, &m);
		ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &old));
	} while (ret == -EMFILE && cf_now() < end);
	ASSERT_LT(0, ret);
	EXPECT_EQ(CACHEFILES_OP_CLOSE, m.hdr.opcode);
	close(fd);
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, 10));
	EXPECT_EQ(10, reader_outcome(&r));
}

/* READs need no descriptor: they come through with the table full. */
TEST_F(ondemand, d25_reads_with_table_full)
{
	struct cf_env *e = &self->e;
	struct rlimit old, full;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int fd, ret;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 4096, 4096));
	ASSERT_LE(0, next_descriptor(&old, &full));
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &full));
	ret = cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &old));
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(-1, res.bad);
}

/* A buffer that goes away in the middle of the copy. */
TEST_F(ondemand, d25_buffer_vanishes)
{
	struct cf_env *e = &self->e;
	int fds = count_fds(), fd;
	struct cf_result res;
	struct cf_stall st;
	struct cf_reader r;
	struct cf_msg m;

	if (cf_stall_start(&st, e->dev))
		SKIP(return, "no userfaultfd");
	pthread_join(st.thread, NULL);
	ASSERT_EQ(0, st.ret);
	close(st.uffd);

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	ASSERT_EQ(0, cf_stall_start(&st, e->dev));
	ASSERT_EQ(0, cf_stall_parked(&st, LONG));
	/* It is in one reader's hands: nobody else gets it meanwhile. */
	EXPECT_EQ(1, cf_idle(e->dev));
	EXPECT_EQ(-EINVAL, cf_copen(e->dev, 0, 1));
	EXPECT_EQ(-EFAULT, cf_stall_fail(&st));
	EXPECT_EQ(0, cf_reader_done(&r));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	fd = cf_open_fd(&m);
	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	close(fd);
	EXPECT_EQ(fds, count_fds());
}

TEST_HARNESS_MAIN
