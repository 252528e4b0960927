// SPDX-License-Identifier: GPL-2.0-only
/*
 * The wire format has the documented layout, and every command and every
 * malformed write to the device gets its documented errno and no effect.
 */
#include "harness.h"

#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

_Static_assert(sizeof(struct cachefiles_msg) == 16, "header");
_Static_assert(offsetof(struct cachefiles_msg, opcode) == 4, "opcode");
_Static_assert(offsetof(struct cachefiles_msg, len) == 8, "len");
_Static_assert(offsetof(struct cachefiles_msg, object_id) == 12, "object_id");
_Static_assert(sizeof(struct cachefiles_open) == 16, "OPEN");
_Static_assert(offsetof(struct cachefiles_open, cookie_key_size) == 4, "cookie_key_size");
_Static_assert(offsetof(struct cachefiles_open, fd) == 8, "OPEN fd");
_Static_assert(offsetof(struct cachefiles_open, data) == 16, "OPEN data");
_Static_assert(sizeof(struct cachefiles_close) == 8, "CLOSE");
_Static_assert(sizeof(struct cachefiles_read) == 24, "READ");
_Static_assert(offsetof(struct cachefiles_read, len) == 8, "READ len");
_Static_assert(offsetof(struct cachefiles_read, fd) == 16, "READ fd");

TEST(numbers)
{
	EXPECT_EQ(0, CACHEFILES_OP_OPEN);
	EXPECT_EQ(1, CACHEFILES_OP_CLOSE);
	EXPECT_EQ(2, CACHEFILES_OP_READ);
	EXPECT_EQ(0x40049801, CACHEFILES_IOC_CREAD);
	EXPECT_EQ(CACHEFILES_IOC_CREAD, CACHEFILES_IOC_READ_COMPLETE);
	EXPECT_EQ(1024, CACHEFILES_MSG_MAX_SIZE);
}

TEST_F(device, operations)
{
	struct cf_msg m;
	int dev = self->e.dev;

	EXPECT_EQ(0, cf_read(dev, &m));
	EXPECT_EQ(0, cf_poll(dev, POLLIN, 0));
	EXPECT_EQ(0, lseek(dev, 0, SEEK_SET));
	EXPECT_EQ(-1, ioctl(dev, CACHEFILES_IOC_CREAD, 0));
	EXPECT_EQ(ENOTTY, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, 4096, PROT_READ, MAP_SHARED, dev, 0));
	EXPECT_EQ(ENODEV, errno);
	EXPECT_EQ(-1, fsync(dev));
	EXPECT_EQ(EINVAL, errno);
}

struct framing {
	const char	*text;
	int		err;
	size_t		more;		/* bytes behind its end, that one included */
};

TEST_F(device, framing)
{
	static const struct framing f[] = {
		{ "",				EOPNOTSUPP },
		{ "\n",			EINVAL },
		{ "\ndebug 0",			EINVAL },
		{ " debug 0",			EOPNOTSUPP },
		{ "\tdebug 0",			EOPNOTSUPP },
		{ "debug 0",			EINVAL, 1 },
		{ "debug\0 0",			EINVAL, 3 },
		{ "debug 0\n",			EINVAL, 1 },
		{ "debug 0\nanything",		0 },
		{ "debug 0\n",			0 },
		{ "debug\t0",			0 },
		{ "debug \t\v\f\r 0",		0 },
		{ "debug",			0 },
		{ "debug ",			0 },
		{ "debu",			EOPNOTSUPP },
		{ "debugs 0",			EOPNOTSUPP },
		{ "Debug 0",			EOPNOTSUPP },
		{ "unknown",			EOPNOTSUPP },
		{ "nocull",			0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(f); i++) {
		size_t len = strlen(f[i].text) + f[i].more;

		EXPECT_EQ(-f[i].err, cf_write_raw(self->e.dev, f[i].text, len)) {
			TH_LOG("write of \"%s\" (%zu bytes)", f[i].text, len);
		}
	}
}

TEST_F(device, framing_length)
{
	char buf[4097];

	memset(buf, ' ', sizeof(buf));
	memcpy(buf, "debug 0\n", 8);
	EXPECT_EQ(0, cf_write_raw(self->e.dev, buf, 4095));
	EXPECT_EQ(-EOPNOTSUPP, cf_write_raw(self->e.dev, buf, 4096));
	EXPECT_EQ(-EOPNOTSUPP, cf_write_raw(self->e.dev, buf, 4097));
}

TEST_F(device, unreadable_command)
{
	char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, p);
	ASSERT_EQ(0, munmap(p + 4096, 4096));
	memcpy(p + 4096 - 5, "debug", 5);
	EXPECT_EQ(-EFAULT, cf_write_raw(self->e.dev, p + 4096 - 5, 7));
	EXPECT_EQ(-EFAULT, cf_write_raw(self->e.dev, p + 4096, 7));
	EXPECT_EQ(0, cf_write_raw(self->e.dev, p + 4096 - 5, 5));
}

struct command {
	const char	*text;
	int		err;
};

static void run_table(struct __test_metadata *_metadata, int dev,
		      const struct command *c, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		EXPECT_EQ(-c[i].err, cf_cmd(dev, "%s", c[i].text)) {
			TH_LOG("command \"%s\"", c[i].text);
		}
	}
}

TEST_F(device, commands_before_bind)
{
	static const struct command c[] = {
		{ "dir",		EINVAL },
		{ "dir ",		EINVAL },
		{ "dir /nowhere",	0 },
		{ "dir /elsewhere",	EEXIST },
		{ "tag",		EINVAL },
		{ "tag one",		0 },
		{ "tag two",		EEXIST },
		{ "secctx",		EINVAL },
		{ "debug 0x0",		0 },
		{ "debug 00",		0 },
		{ "debug x",		EINVAL },
		{ "debug 0 ",		EINVAL },
		{ "debug 0x",		EINVAL },
		{ "cull x",		EIO },
		{ "inuse x",		EIO },
		{ "cull a/b",		EINVAL },
		{ "inuse a/b",		EINVAL },
		{ "copen 0,0",		EOPNOTSUPP },
		{ "copen",		EOPNOTSUPP },
		{ "restore",		EOPNOTSUPP },
	};

	run_table(_metadata, self->e.dev, c, ARRAY_SIZE(c));
}

/* Defaults are 7, 5 and 1; each value is held against its neighbours. */
TEST_F(device, limits)
{
	static const struct command c[] = {
		{ "brun",			EINVAL },
		{ "brun ",			EINVAL },
		{ "brun 8",			EINVAL },
		{ "brun 8%%",			EINVAL },
		{ "brun 8% ",			EINVAL },
		{ "brun -8%",			EINVAL },
		{ "brun +8%",			EINVAL },
		{ "brun 0x8%",			EINVAL },
		{ "brun 8 %",			EINVAL },
		{ "brun 99999999999999999999%",	EINVAL },
		{ "brun 4294967304%",		EINVAL },
		{ "brun 5%",			EINVAL },
		{ "brun 100%",			EINVAL },
		{ "brun 6%",			0 },
		{ "brun 99%",			0 },
		{ "brun 10%",			0 },
		{ "bcull 1%",			EINVAL },
		{ "bcull 10%",			EINVAL },
		{ "bcull 9%",			0 },
		{ "bstop 9%",			EINVAL },
		{ "bstop 8%",			0 },
		{ "bstop %",			0 },
		{ "frun 5%",			EINVAL },
		{ "frun 8%",			0 },
		{ "fcull 8%",			EINVAL },
		{ "fcull 7%",			0 },
		{ "fcull 1%",			EINVAL },
		{ "fstop 7%",			EINVAL },
		{ "fstop 0%",			0 },
		{ "fcull 1%",			0 },
	};

	run_table(_metadata, self->e.dev, c, ARRAY_SIZE(c));
}

TEST_F(cache, commands_after_bind)
{
	static const struct command c[] = {
		{ "dir /elsewhere",		EEXIST },
		{ "tag two",			EEXIST },
		{ "bind",			EBUSY },
		{ "bind ondemand",		EBUSY },
		{ "copen",			EINVAL },
		{ "copen ",			EINVAL },
		{ "copen 0",			EINVAL },
		{ "copen ,",			EINVAL },
		{ "copen ,0",			EINVAL },
		{ "copen x,0",			EINVAL },
		{ "copen 0 ,0",			EINVAL },
		{ "copen 0,0",			EINVAL },
		{ "copen -1,0",			EINVAL },
		{ "copen 4294967296,0",		ERANGE },
		{ "copen 99999999999999999999,0", ERANGE },
		{ "copen 4294967295,0",		EINVAL },
		{ "restore",			0 },
		{ "restore anything",		0 },
		{ "brun 20%",			0 },
		{ "unknown",			EOPNOTSUPP },
	};

	run_table(_metadata, self->e.dev, c, ARRAY_SIZE(c));
	EXPECT_EQ(1, cf_idle(self->e.dev));
}

TEST_HARNESS_MAIN
