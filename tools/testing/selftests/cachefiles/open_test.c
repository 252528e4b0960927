// SPDX-License-Identifier: GPL-2.0-only
/*
 * An OPEN says everything the daemon needs, and whatever copen answers, right
 * or wrong, becomes the size or the errno that the reader sees.
 */
#include "harness.h"

#include <sys/ioctl.h>

TEST_F(ondemand, contents)
{
	struct cf_env *e = &self->e;
	char key[256], link[64], path[64];
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	ASSERT_EQ(0, start_stat(e, &r, "some name"));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	EXPECT_EQ(strlen(e->volume) + 1, cf_open(&m)->volume_key_size);
	EXPECT_STREQ(e->volume, cf_volume(&m));
	EXPECT_EQ(strlen("some name"), cf_open(&m)->cookie_key_size);
	EXPECT_STREQ("some name", cf_key(&m, key));
	EXPECT_EQ(32 + strlen(e->volume) + 1 + strlen("some name"), m.hdr.len);
	EXPECT_EQ(0, cf_open(&m)->flags);
	EXPECT_LT(0, (int)m.hdr.object_id);

	fd = cf_open_fd(&m);
	EXPECT_EQ(O_WRONLY, fcntl(fd, F_GETFL) & O_ACCMODE);
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	memset(link, 0, sizeof(link));
	EXPECT_LT(0, readlink(path, link, sizeof(link) - 1));
	EXPECT_STREQ("anon_inode:[cachefiles]", link);

	EXPECT_EQ(1, cf_idle(e->dev));
	EXPECT_EQ(0, cf_reader_done(&r));
	EXPECT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, 12345));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(12345, res.n);
	EXPECT_EQ(1, cf_idle(e->dev));
}

TEST_F(ondemand, sizes)
{
	static const long long sizes[] = {
		0, 1, 4095, 4096, 4097, 0x7fffffff, 0x80000000LL, 0x100000001LL, 1LL << 40,
	};
	struct cf_reader r;
	struct cf_msg m;
	char name[32];

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		snprintf(name, sizeof(name), "size%zu", i);
		EXPECT_LE(0, open_object(&self->e, &r, name, sizes[i], &m)) {
			TH_LOG("size %lld", sizes[i]);
		}
	}
	EXPECT_EQ(0, read_here(&self->e, "size0", 0, 0, 4096));
}

/*
 * Every errno a daemon can give reaches the caller of open(2) unchanged; ESTALE
 * too, but the VFS asks once more before it believes that one.
 */
TEST_F(ondemand, errors)
{
	static const int errs[] = {
		EPERM, ENOENT, EIO, ENOMEM, EACCES, EBUSY, EINVAL, ENOSPC,
		ENODATA, ETIMEDOUT, EDQUOT, EKEYREJECTED,
	};
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	char name[32];

	for (size_t i = 0; i < ARRAY_SIZE(errs); i++) {
		snprintf(name, sizeof(name), "error%zu", i);
		ASSERT_EQ(0, start_stat(e, &r, name));
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
		EXPECT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, -errs[i]));
		ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG)) {
			TH_LOG("errno %d", errs[i]);
		}
		EXPECT_EQ(errs[i], res.err);
		close(cf_open_fd(&m));
	}
	EXPECT_EQ(1, cf_idle(e->dev));
}

TEST_F(ondemand, enoent_is_asked_again)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;

	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, start_stat(e, &r, "later"));
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
		EXPECT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, -ENOENT));
		close(cf_open_fd(&m));
		ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
		EXPECT_EQ(ENOENT, res.err);
	}
	EXPECT_LE(0, open_object(e, &r, "later", 77, &m));
}

/* Answers that end the OPEN, and with what. */
struct answer {
	const char	*size;		/* after "copen <id>," */
	int		writer;		/* errno of write(2) */
	int		reader;		/* errno of the look-up */
	long long	n;		/* or the size it finds */
};

TEST_F(ondemand, d55_copen_size_grammar)
{
	static const struct answer a[] = {
		{ "",			EINVAL,	EINVAL, 0 },
		{ "x",			EINVAL,	EINVAL, 0 },
		{ "12x",		EINVAL,	EINVAL, 0 },
		{ " 12",		EINVAL,	EINVAL, 0 },
		{ "12 ",		EINVAL,	EINVAL, 0 },
		{ "1,2",		EINVAL,	EINVAL, 0 },
		{ "--1",		EINVAL,	EINVAL, 0 },
		{ "9223372036854775808", ERANGE, ERANGE, 0 },
		{ "-4096",		EINVAL,	EINVAL, 0 },
		{ "-9223372036854775808", EINVAL, EINVAL, 0 },
		{ "-9223372036854775809", ERANGE, ERANGE, 0 },
		/* Not an errno that user space could know: EIO in its place. */
		{ "-4095",		0,	EIO, 0 },
		{ "-512",		0,	EIO, 0 },
		{ "-511",		0,	511, 0 },
		{ "-1",			0,	EPERM, 0 },
		{ "010",		0,	0, 8 },
		{ "0x10",		0,	0, 16 },
		{ "+10",		0,	0, 10 },
		{ "10\n",		0,	0, 10 },
		{ "10\nrest",		0,	0, 10 },
	};
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	char name[32];

	for (size_t i = 0; i < ARRAY_SIZE(a); i++) {
		snprintf(name, sizeof(name), "g%zu", i);
		ASSERT_EQ(0, start_stat(e, &r, name));
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
		EXPECT_EQ(-a[i].writer,
			  cf_cmd(e->dev, "copen %u,%s", m.hdr.msg_id, a[i].size)) {
			TH_LOG("answer \"%s\"", a[i].size);
		}
		ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG)) {
			TH_LOG("answer \"%s\"", a[i].size);
		}
		EXPECT_EQ(a[i].reader, res.err) {
			TH_LOG("answer \"%s\"", a[i].size);
		}
		EXPECT_EQ(a[i].n, res.n);
		/* Whatever it was, it is answered now. */
		EXPECT_EQ(-EINVAL, cf_copen(e->dev, m.hdr.msg_id, 1));
		if (a[i].reader)
			close(cf_open_fd(&m));
	}
	EXPECT_EQ(1, cf_idle(e->dev));
}

/* Answers that name no OPEN change nothing: it can still be answered. */
TEST_F(ondemand, d55_copen_id_grammar)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	__u32 id;

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	id = m.hdr.msg_id;
	EXPECT_EQ(-EINVAL, cf_cmd(e->dev, "copen %u", id));
	EXPECT_EQ(-EINVAL, cf_cmd(e->dev, "copen %u ,1", id));
	EXPECT_EQ(-EINVAL, cf_cmd(e->dev, "copen %ux,1", id));
	EXPECT_EQ(-EINVAL, cf_cmd(e->dev, "copen ,1"));
	EXPECT_EQ(-EINVAL, cf_cmd(e->dev, "copen"));
	EXPECT_EQ(-EINVAL, cf_copen(e->dev, id + 1, 1));
	EXPECT_EQ(-EINVAL, cf_copen(e->dev, id - 1, 1));
	EXPECT_EQ(0, cf_reader_done(&r));
	EXPECT_EQ(0, cf_cmd(e->dev, "copen 0x%x,0x7b", id));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(123, res.n);
}

TEST_F(ondemand, d18_undelivered_open_takes_no_answer)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	for (unsigned int id = 0; id < 64; id++) {
		EXPECT_EQ(-EINVAL, cf_copen(e->dev, id, 1));
	}
	EXPECT_EQ(0, cf_reader_done(&r));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	EXPECT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, 5));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
}

TEST_F(ondemand, fd_closed_before_copen)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	close(cf_open_fd(&m));
	EXPECT_EQ(1, cf_idle(e->dev));
	EXPECT_EQ(0, cf_reader_done(&r));
	EXPECT_EQ(-EBADFD, cf_copen(e->dev, m.hdr.msg_id, 4096));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(EBADFD, res.err);
}

/* Closing the descriptor first and refusing then is an ordinary refusal. */
TEST_F(ondemand, fd_closed_before_refusal)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	close(cf_open_fd(&m));
	EXPECT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, -EACCES));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(EACCES, res.err);
}

/* The fd takes data from the moment copen returns, and not before. */
TEST_F(ondemand, d52_fd_is_usable_after_copen)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	char name[32];
	int fd;

	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		ASSERT_EQ(0, start_stat(e, &r, name));
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
		fd = cf_open_fd(&m);
		EXPECT_EQ(-ENOBUFS, cf_fill(fd, i, 0, 4096, 8192));
		ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, 8192));
		ASSERT_EQ(8192, cf_fill(fd, i, 0, 8192, 8192));
		ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
		EXPECT_EQ(8192, read_here(e, name, i, 0, 8192));
	}
	EXPECT_EQ(1, cf_idle(e->dev));
}

/* Nor does it take longer where a file of another version is in the way. */
TEST_F(ondemand, d52_fd_is_usable_in_place_of_a_stale_file)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int fd;

	for (int i = 1; i < 10; i++) {
		ASSERT_EQ(0, start_stat(e, &r, "file"));
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
		fd = cf_open_fd(&m);
		ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, i * 8192));
		ASSERT_EQ(8192, cf_fill(fd, i, 0, 8192, i * 8192));
		ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
		EXPECT_EQ(8192, read_here(e, "file", i, 0, 8192));
		close(fd);
		ASSERT_LE(0, cf_env_umount(e, PROMPT));
		ASSERT_EQ(0, cf_env_rebind(e));
		ASSERT_EQ(0, cf_env_mount(e));
	}
	EXPECT_EQ(1, cf_idle(e->dev));
}

TEST_F(ondemand, fd_is_stale_after_refusal)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, -EIO));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(-ENOBUFS, cf_fill(cf_open_fd(&m), 0, 0, 4096, 4096));
	EXPECT_EQ(-EINVAL, cf_cread(cf_open_fd(&m), m.hdr.msg_id));
	close(cf_open_fd(&m));
	EXPECT_EQ(1, cf_idle(e->dev));
}

/* Cookie keys are bytes, whatever they mean to the backing file system. */
TEST_F(ondemand, keys)
{
	static const char *const names[] = {
		"a", " leading", "trailing ", "tab\there", "new\nline", "..x", "D", "@00",
		"\x01\x7f\x80\xff", "per%cent", "quote\"'", "\xc3\xa4\xc3\xb6",
		"long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-",
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
	};
	struct cf_env *e = &self->e;
	struct cf_reader r;
	char key[256];
	struct cf_msg m;
	int fd;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		fd = open_object(e, &r, names[i], 4096, &m);
		ASSERT_LE(0, fd) {
			TH_LOG("key %zu", i);
		}
		EXPECT_STREQ(names[i], cf_key(&m, key));
		EXPECT_EQ(4096, cf_fill(fd, i, 0, 4096, 4096));
	}
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		EXPECT_EQ(4096, read_here(e, names[i], i, 0, 4096)) {
			TH_LOG("key %zu", i);
		}
	}
}

/* Many look-ups wait at the same time, and any of them can be answered first. */
TEST_F(ondemand, many_at_once)
{
	enum { NR = 40 };
	struct cf_env *e = &self->e;
	struct cf_reader r[NR];
	struct cf_msg m[NR];
	struct cf_result res;
	char name[32];

	for (int i = 0; i < NR; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		ASSERT_EQ(0, start_stat(e, &r[i], name));
	}
	for (int i = 0; i < NR; i++) {
		ASSERT_EQ(0, cf_expect(e->dev, &m[i], CACHEFILES_OP_OPEN, LONG));
	}
	for (int i = NR - 1; i >= 0; i--) {
		char key[256];
		int nr = atoi(cf_key(&m[i], key) + 1);

		ASSERT_EQ(0, cf_copen(e->dev, m[i].hdr.msg_id, nr + 1));
		ASSERT_EQ(0, cf_reader_wait(&r[nr], &res, LONG));
		EXPECT_EQ(nr + 1, res.n);
	}
}

/* Two look-ups of one name make one OPEN. */
TEST_F(ondemand, same_name_twice)
{
	struct cf_env *e = &self->e;
	struct cf_reader a, b;
	struct cf_result res;
	struct cf_msg m;

	ASSERT_EQ(0, start_stat(e, &a, "one"));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	ASSERT_EQ(0, start_stat(e, &b, "one"));
	EXPECT_EQ(0, cf_poll(e->dev, POLLIN, cf_ms(BRIEF)));
	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, 99));
	ASSERT_EQ(0, cf_reader_wait(&a, &res, LONG));
	EXPECT_EQ(99, res.n);
	ASSERT_EQ(0, cf_reader_wait(&b, &res, LONG));
	EXPECT_EQ(99, res.n);
	EXPECT_EQ(1, cf_idle(e->dev));
}

TEST_F(ondemand, operations_of_the_fd)
{
	struct cf_env *e = &self->e;
	struct cf_reader r;
	struct cf_msg m;
	char byte;
	int fd;

	fd = open_object(e, &r, "file", 8192, &m);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-1, read(fd, &byte, 1));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, fsync(fd));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, ftruncate(fd, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, ioctl(fd, CACHEFILES_IOC_CREAD + 1, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, ioctl(fd, CACHEFILES_IOC_CREAD, 12345));
	EXPECT_EQ(EINVAL, errno);
	close(fd);
}

/* What /proc says of a descriptor of an object; 0 or a negative errno. */
static int fd_info(int fd, unsigned int *object, char state[16], long long *size)
{
	char path[64], text[512];
	ssize_t n;
	int in;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	in = open(path, O_RDONLY | O_CLOEXEC);
	if (in < 0)
		return -errno;
	n = read(in, text, sizeof(text) - 1);
	close(in);
	text[n < 0 ? 0 : n] = '\0';
	if (!strstr(text, "cachefiles-object:") ||
	    sscanf(strstr(text, "cachefiles-object:"),
		   "cachefiles-object: %u cachefiles-state: %15s cachefiles-size: %lld",
		   object, state, size) != 3)
		return -ENODATA;
	return 0;
}

TEST_F(ondemand, fdinfo)
{
	struct cf_env *e = &self->e;
	struct cf_msg m, again;
	unsigned int object;
	struct cf_result res;
	struct cf_reader r;
	char state[16];
	long long size;
	int fd;

	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	fd = cf_open_fd(&m);
	ASSERT_EQ(0, fd_info(fd, &object, state, &size));
	EXPECT_EQ(m.hdr.object_id, object);
	EXPECT_STREQ("opening", state);
	EXPECT_EQ(0, size);

	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, 12345));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	ASSERT_EQ(0, fd_info(fd, &object, state, &size));
	EXPECT_EQ(m.hdr.object_id, object);
	EXPECT_STREQ("open", state);
	EXPECT_EQ(12345, size);

	/* The next descriptor of the file goes with another object. */
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
	/* Which a worker drops; its CLOSE tells that. */
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	ASSERT_EQ(0, fd_info(fd, &object, state, &size));
	EXPECT_STREQ("dropping", state);
	ASSERT_EQ(0, cf_env_mount(e));
	ASSERT_EQ(0, start_stat(e, &r, "file"));
	ASSERT_EQ(0, cf_expect(e->dev, &again, CACHEFILES_OP_CLOSE, LONG));
	ASSERT_EQ(0, cf_expect(e->dev, &again, CACHEFILES_OP_OPEN, LONG));
	EXPECT_NE(m.hdr.object_id, again.hdr.object_id);
	ASSERT_EQ(0, fd_info(cf_open_fd(&again), &object, state, &size));
	EXPECT_EQ(again.hdr.object_id, object);

	/* And one that was refused is good for nothing. */
	ASSERT_EQ(0, cf_copen(e->dev, again.hdr.msg_id, -ENOENT));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	ASSERT_EQ(0, fd_info(cf_open_fd(&again), &object, state, &size));
	EXPECT_STREQ("stale", state);
}

TEST_HARNESS_MAIN
