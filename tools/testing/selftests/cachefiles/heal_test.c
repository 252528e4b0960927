// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is on disk is taken only if it is exactly what was stored for this version of the
 * file; anything else is replaced at once, and never makes a key uncacheable.
 */
#include "harness.h"

#include <dirent.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>

#define SIZE	70000ULL

/* The last byte is what is found behind a value that is too short, in memory that is clear. */
static const unsigned char aux[] = { 1, 2, 3, 4, 5, 0 };

static int entries(const char *dir, const char *sub)
{
	char path[512];
	int nr = 0;
	DIR *d;

	snprintf(path, sizeof(path), "%s/%s", dir, sub);
	d = opendir(path);
	if (!d)
		return -errno;
	while (readdir(d))
		nr++;
	closedir(d);
	return nr - 2;
}

static void expect_xattr(struct __test_metadata *_metadata, const char *path, const void *want,
			 size_t len)
{
	unsigned char have[600];

	EXPECT_EQ((ssize_t)len, getxattr(path, CF_XATTR, have, sizeof(have))) {
		TH_LOG("%s: %s", path, strerror(errno));
	}
	EXPECT_EQ(0, memcmp(want, have, len));
}

static void expect_object_xattr(struct __test_metadata *_metadata, const char *path,
				__u64 size, unsigned char content, const void *a, size_t a_len)
{
	unsigned char want[300];
	size_t len = cf_nf_xattr(want, size, content, a, a_len);

	expect_xattr(_metadata, path, want, len);
}

/* Store "file" as version @seed and let it go. */
static void leave(struct __test_metadata *_metadata, int nf, int vol, __u64 seed)
{
	int c = cf_nf_file(nf, vol, "file", aux, sizeof(aux), SIZE, false);

	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_fill(nf, c, seed, SIZE));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

/* "file" is found again, or not; either way it can be stored after that. */
static void expect_found(struct __test_metadata *_metadata, int nf, int vol, const char *path,
			 const void *a, size_t a_len, __u64 size, bool found, const char *what)
{
	int c = cf_nf_file(nf, vol, "file", a, a_len, size, false);

	ASSERT_LT(0, c) {
		TH_LOG("%s: %s", what, strerror(-c));
	}
	EXPECT_EQ(found ? 0 : CF_NO_DATA_TO_READ, cf_nf_flags(nf, c) & CF_NO_DATA_TO_READ) {
		TH_LOG("%s", what);
	}
	if (found) {
		EXPECT_EQ(0, cf_nf_check(nf, c, 1, 0, CF_ROUND_UP(size), size)) {
			TH_LOG("%s", what);
		}
	} else {
		/* Whether or not the netfs goes by the flag. */
		cf_nf_store(nf, c, 2, 0, CF_GRANULE, size);
		cf_nf_note_release(nf, c);
		EXPECT_EQ(0, cf_nf_absent(nf, c, CF_GRANULE, CF_ROUND_UP(size) - CF_GRANULE,
					  size)) {
			TH_LOG("%s", what);
		}
	}
	ASSERT_EQ(0, cf_nf_fill(nf, c, 1, size));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	/* One that was found need not be written again. */
	if (!found)
		expect_object_xattr(_metadata, path, size, CF_CLEAN, a, a_len);
	c = cf_nf_file(nf, vol, "file", a, a_len, size, false);
	ASSERT_LT(0, c);
	EXPECT_EQ(0, cf_nf_check(nf, c, 1, 0, CF_ROUND_UP(size), size)) {
		TH_LOG("%s, the second time", what);
	}
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

struct mutation {
	const char	*what;
	int		at;		/* byte that is changed, -1: none */
	int		to;
	int		len;		/* of the attribute, relative to what is right */
	bool		found;
};

TEST_F(original, object_attribute)
{
	static const struct mutation mutations[] = {
		{ "as it was",		-1, 0, 0, true },
		{ "content 1",		17, 1, 0, true },
		{ "content 2",		17, 2, 0, true },
		{ "content 3",		17, 3, 0, true },
		{ "zero point",		15, 9, 0, true },
		{ "dirty",		17, 4, 0, false },
		{ "type 0",		16, 0, 0, false },
		{ "type 2",		16, 2, 0, false },
		{ "size, low byte",	7, 0x71, 0, false },
		{ "size, high byte",	0, 0x80, 0, false },
		{ "first of aux",	18, 0xff, 0, false },
		{ "last of aux",	23, 0xff, 0, false },
		{ "one byte short",	-1, 0, -1, false },
		{ "no aux",		-1, 0, -6, false },
		{ "17 bytes",		-1, 0, -7, false },
		{ "1 byte",		-1, 0, -23, false },
		{ "0 bytes",		-1, 0, -24, false },
		{ "none",		-1, 0, -25, false },
		{ "one byte long",	-1, 0, 1, false },
		{ "200 bytes long",	-1, 0, 200, false },
		{ "400 bytes long",	-1, 0, 400, false },
	};
	unsigned char value[600];
	int nf = self->nf;
	char path[512];

	ASSERT_EQ(0, cf_nf_path(self->e.dir, self->e.volume, "file", 4, path, sizeof(path)));
	for (size_t i = 0; i < ARRAY_SIZE(mutations); i++) {
		const struct mutation *m = &mutations[i];
		int len;

		leave(_metadata, nf, self->vol, 1);
		memset(value, 0x99, sizeof(value));
		len = (int)cf_nf_xattr(value, SIZE, CF_CLEAN, aux, sizeof(aux));
		expect_xattr(_metadata, path, value, len);
		if (m->at >= 0)
			value[m->at] = m->to;
		if (len + m->len < 0) {
			ASSERT_EQ(0, removexattr(path, CF_XATTR));
		} else {
			ASSERT_EQ(0, setxattr(path, CF_XATTR, value, len + m->len, 0));
		}
		expect_found(_metadata, nf, self->vol, path, aux, sizeof(aux), SIZE, m->found,
			     m->what);
		ASSERT_EQ(0, unlink(path));
	}
	/* Nothing of it is an error of the cache. */
	EXPECT_EQ(0, cf_cmd(self->e.dev, "debug 0"));
}

/* The netfs has another version, or another idea of what a version is. */
TEST_F(original, another_version)
{
	static const unsigned char other[300] = { 1, 2, 3, 4, 9, 0 };
	const __u64 small = CF_GRANULE + 1;
	int nf = self->nf;
	char path[512];

	ASSERT_EQ(0, cf_nf_path(self->e.dir, self->e.volume, "file", 4, path, sizeof(path)));
	leave(_metadata, nf, self->vol, 1);
	expect_found(_metadata, nf, self->vol, path, other, 6, SIZE, false, "another aux");
	expect_found(_metadata, nf, self->vol, path, other, 6, SIZE, true, "the same");
	expect_found(_metadata, nf, self->vol, path, other, 6, SIZE - 1, false, "a byte less");
	expect_found(_metadata, nf, self->vol, path, other, 6, 2 * SIZE, false, "larger");
	expect_found(_metadata, nf, self->vol, path, other, 6, small, false, "smaller");
	expect_found(_metadata, nf, self->vol, path, other, 5, small, false, "shorter aux");
	expect_found(_metadata, nf, self->vol, path, other, 0, small, false, "no aux");
	expect_found(_metadata, nf, self->vol, path, other, 255, small, false, "long aux");
	expect_found(_metadata, nf, self->vol, path, other, 255, small, true, "the same");
	expect_found(_metadata, nf, self->vol, path, aux, 6, small, false, "aux as at first");
}

/* A right attribute on a file of another length is no reason to believe in its tail. */
TEST_F(original, file_of_another_length)
{
	int nf = self->nf, c;
	struct cf_fetch f;
	char path[512];

	ASSERT_EQ(0, cf_nf_path(self->e.dir, self->e.volume, "file", 4, path, sizeof(path)));
	for (int i = 0; i < 4; i++) {
		static const off_t to[] = { 0, 10000, 65536, 1 << 20 };

		leave(_metadata, nf, self->vol, 1);
		ASSERT_EQ(0, truncate(path, to[i]));
		c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), SIZE, false);
		ASSERT_LT(0, c);
		ASSERT_EQ(0, cf_nf_fetch(nf, c, 1, 0, CF_ROUND_UP(SIZE), SIZE, &f, NULL));
		EXPECT_EQ(0, f.err);
		EXPECT_EQ(-1, f.bad) {
			TH_LOG("cut to %lld", (long long)to[i]);
		}
		ASSERT_EQ(0, cf_nf_fill(nf, c, 1, SIZE));
		EXPECT_EQ(0, cf_nf_check(nf, c, 1, 0, CF_ROUND_UP(SIZE), SIZE));
		ASSERT_EQ(0, cf_nf_detach(nf, c, true));
	}
}

/* Something that is no file stands where the file belongs. */
TEST_F(original, no_file_in_its_place)
{
	static const char *const kinds[] = { "directory", "symlink", "fifo", "device", "full" };
	struct cf_env *e = &self->e;
	int nf = self->nf;
	char path[512], in[600];

	ASSERT_EQ(0, cf_nf_path(e->dir, e->volume, "file", 4, path, sizeof(path)));
	leave(_metadata, nf, self->vol, 1);
	for (int kind = 0; kind < 5; kind++) {
		int graves = entries(e->dir, "graveyard");

		ASSERT_EQ(0, unlink(path));
		switch (kind) {
		case 0:
		case 4:
			ASSERT_EQ(0, mkdir(path, 0700));
			snprintf(in, sizeof(in), "%s/more", path);
			if (kind) {
				ASSERT_EQ(0, mkdir(in, 0700));
			}
			break;
		case 1:
			ASSERT_EQ(0, symlink("/etc/passwd", path));
			break;
		case 2:
			ASSERT_EQ(0, mkfifo(path, 0600));
			break;
		case 3:
			ASSERT_EQ(0, mknod(path, S_IFCHR | 0600, makedev(1, 3)));
			break;
		}
		expect_found(_metadata, nf, self->vol, path, aux, sizeof(aux), SIZE, false,
			     kinds[kind]);
		EXPECT_EQ(graves + (kind == 0 || kind == 4), entries(e->dir, "graveyard")) {
			TH_LOG("%s", kinds[kind]);
		}
	}
}

/*
 * A directory takes the place of a file that is in use, and has to go when a new file is to
 * get the name.  Lockdep sees whether write access is taken twice for that: freezing in
 * between would wait for the first, and the second for freezing.
 */
TEST_F(original, directory_comes_in_its_place)
{
	struct cf_env *e = &self->e;
	int nf = self->nf, graves, c;
	char path[512];

	ASSERT_EQ(0, cf_nf_path(e->dir, e->volume, "file", 4, path, sizeof(path)));
	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), SIZE, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_fill(nf, c, 1, SIZE));
	ASSERT_EQ(0, unlink(path));
	ASSERT_EQ(0, mkdir(path, 0700));
	graves = entries(e->dir, "graveyard");

	ASSERT_EQ(0, cf_nf_invalidate(nf, c, aux, sizeof(aux), SIZE, false));
	ASSERT_EQ(0, cf_nf_fill(nf, c, 2, SIZE));
	EXPECT_EQ(0, cf_nf_check(nf, c, 2, 0, CF_ROUND_UP(SIZE), SIZE));
	EXPECT_EQ(graves + 1, entries(e->dir, "graveyard"));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));

	/* It has its name, and is found by that. */
	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), SIZE, false);
	ASSERT_LT(0, c);
	EXPECT_EQ(0, cf_nf_check(nf, c, 2, 0, CF_ROUND_UP(SIZE), SIZE));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

/* What is to be taken away, and is gone or another file by now, is nobody's fault. */
TEST_F(original, gone_before_it_is_retired)
{
	struct cf_env *e = &self->e;
	int nf = self->nf, fd, c;
	struct stat st;
	char path[512];

	ASSERT_EQ(0, cf_nf_path(e->dir, e->volume, "file", 4, path, sizeof(path)));
	for (int i = 0; i < 2; i++) {
		c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), SIZE, false);
		ASSERT_LT(0, c);
		ASSERT_EQ(0, cf_nf_fill(nf, c, 1, SIZE));
		ASSERT_EQ(0, unlink(path));
		if (i) {
			fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
			ASSERT_LE(0, fd);
			close(fd);
		}
		ASSERT_EQ(0, cf_nf_detach(nf, c, true));
		EXPECT_EQ(i ? 0 : -1, stat(path, &st));
	}
	EXPECT_EQ(0, cf_cmd(e->dev, "debug 0"));
}

/*
 * A file that is open for writing while there is no cache may be changed behind its back,
 * and its version need not tell before it is closed.
 */
TEST_F(original, changed_without_cache)
{
	struct cf_env *e = &self->e;
	int nf = self->nf, c;

	leave(_metadata, nf, self->vol, 1);
	close(e->dev);
	c = cf_nf_cookie(nf, self->vol, "file", 4, aux, sizeof(aux), SIZE);
	ASSERT_LT(0, c);
	EXPECT_EQ(-ENOBUFS, cf_nf_attach(nf, c, true));
	e->dev = cf_device();
	ASSERT_LE(0, e->dev);
	ASSERT_EQ(0, cf_env_bind_original(e));
	ASSERT_EQ(0, cf_nf_attach(nf, c, false));
	cf_nf_note_release(nf, c);
	EXPECT_EQ(0, cf_nf_absent(nf, c, 0, CF_ROUND_UP(SIZE), SIZE));
	ASSERT_EQ(0, cf_nf_fill(nf, c, 2, SIZE));
	EXPECT_EQ(0, cf_nf_check(nf, c, 2, 0, CF_ROUND_UP(SIZE), SIZE));
	ASSERT_EQ(0, cf_nf_unuse(nf, c));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));

	/* One that was only read has not been changed. */
	leave(_metadata, nf, self->vol, 1);
	close(e->dev);
	c = cf_nf_cookie(nf, self->vol, "file", 4, aux, sizeof(aux), SIZE);
	ASSERT_LT(0, c);
	EXPECT_EQ(-ENOBUFS, cf_nf_attach(nf, c, false));
	e->dev = cf_device();
	ASSERT_LE(0, e->dev);
	ASSERT_EQ(0, cf_env_bind_original(e));
	ASSERT_EQ(0, cf_nf_attach(nf, c, false));
	EXPECT_EQ(0, cf_nf_check(nf, c, 1, 0, CF_ROUND_UP(SIZE), SIZE));
	ASSERT_EQ(0, cf_nf_unuse(nf, c));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

/* --- crashes --- */

/* Until the marker is there: the state machine of the cookie sets it by and by. */
static int wait_for_content(const char *path, int content)
{
	long long end = cf_now() + cf_ms(LONG);
	unsigned char value[300] = { 0 };

	while (getxattr(path, CF_XATTR, value, sizeof(value)) < 18 || value[17] != content) {
		if (cf_now() > end)
			return -ETIMEDOUT;
		sched_yield();
	}
	return 0;
}

static int copy(const char *from, const char *to)
{
	const char *const argv[] = { "cp", "-a", from, to, NULL };

	return cf_run(20000, argv);
}

/* What would be there after a crash is copied aside, and put back later. */
TEST_F(original, crash_while_written)
{
	int nf = self->nf, c;
	char path[512], aside[520];

	ASSERT_EQ(0, cf_nf_path(self->e.dir, self->e.volume, "file", 4, path, sizeof(path)));
	snprintf(aside, sizeof(aside), "%s/aside", self->e.dir);
	leave(_metadata, nf, self->vol, 1);
	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), SIZE, false);
	ASSERT_LT(0, c);
	expect_object_xattr(_metadata, path, SIZE, CF_CLEAN, aux, sizeof(aux));
	ASSERT_EQ(0, cf_nf_use(nf, c, true));
	EXPECT_EQ(0, wait_for_content(path, CF_DIRTY));
	expect_object_xattr(_metadata, path, SIZE, CF_DIRTY, aux, sizeof(aux));
	ASSERT_EQ(0, cf_nf_store(nf, c, 2, 0, 8192, SIZE));
	ASSERT_EQ(0, copy(path, aside));
	ASSERT_EQ(0, cf_nf_unuse(nf, c));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	/* Without a crash, it is clean in the end. */
	expect_object_xattr(_metadata, path, SIZE, CF_CLEAN, aux, sizeof(aux));

	ASSERT_EQ(0, rename(aside, path));
	expect_found(_metadata, nf, self->vol, path, aux, sizeof(aux), SIZE, false, "dirty");
}

/* The same with a file that is new, and written from the beginning. */
TEST_F(original, crash_while_written_new)
{
	int nf = self->nf, c;
	char path[512], aside[520];

	ASSERT_EQ(0, cf_nf_path(self->e.dir, self->e.volume, "file", 4, path, sizeof(path)));
	snprintf(aside, sizeof(aside), "%s/aside", self->e.dir);
	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), SIZE, true);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_store(nf, c, 2, 0, 8192, SIZE));
	EXPECT_EQ(0, wait_for_content(path, CF_DIRTY));
	ASSERT_EQ(0, copy(path, aside));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	expect_object_xattr(_metadata, path, SIZE, CF_CLEAN, aux, sizeof(aux));
	ASSERT_EQ(0, rename(aside, path));
	expect_found(_metadata, nf, self->vol, path, aux, sizeof(aux), SIZE, false, "dirty");
}

/* What was only downloaded is there after a crash, though the file was in use. */
TEST_F(original, crash_while_read)
{
	int nf = self->nf, c;
	char path[512], aside[520];

	ASSERT_EQ(0, cf_nf_path(self->e.dir, self->e.volume, "file", 4, path, sizeof(path)));
	snprintf(aside, sizeof(aside), "%s/aside", self->e.dir);
	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), SIZE, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_fill(nf, c, 1, SIZE));
	expect_object_xattr(_metadata, path, SIZE, CF_CLEAN, aux, sizeof(aux));
	ASSERT_EQ(0, copy(path, aside));
	ASSERT_EQ(0, cf_nf_detach(nf, c, true));
	EXPECT_EQ(-1, access(path, F_OK));
	ASSERT_EQ(0, rename(aside, path));
	expect_found(_metadata, nf, self->vol, path, aux, sizeof(aux), SIZE, true, "clean");
}

/* After a crash in the middle of it, an invalidated file is not the old one again. */
TEST_F(original, crash_after_invalidation)
{
	int nf = self->nf, c;
	struct cf_fetch f;
	char path[512], aside[520];

	ASSERT_EQ(0, cf_nf_path(self->e.dir, self->e.volume, "file", 4, path, sizeof(path)));
	snprintf(aside, sizeof(aside), "%s/aside", self->e.dir);
	leave(_metadata, nf, self->vol, 1);
	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), SIZE, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_invalidate(nf, c, NULL, 0, SIZE, false));
	ASSERT_EQ(0, cf_nf_wait(nf, c, CF_STATE(CF_ACTIVE), 0, 0, LONG, NULL));
	ASSERT_EQ(0, cf_nf_store(nf, c, 2, 0, CF_GRANULE, SIZE));
	if (!access(path, F_OK)) {
		ASSERT_EQ(0, copy(path, aside));
	}
	ASSERT_EQ(0, cf_nf_detach(nf, c, true));
	if (!access(aside, F_OK)) {
		ASSERT_EQ(0, rename(aside, path));
	}
	c = cf_nf_file(nf, self->vol, "file", aux, sizeof(aux), SIZE, false);
	ASSERT_LT(0, c);
	EXPECT_EQ(0, cf_nf_fetch(nf, c, 2, 0, CF_ROUND_UP(SIZE), SIZE, &f, NULL));
	EXPECT_EQ(-1, f.bad);
	EXPECT_EQ(0, f.err);
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
}

/* --- volumes --- */

struct blob {
	const void	*data;
	size_t		len;
};

/* Is "file", left there before, found in a volume with this @blob? */
static int found_with(struct cf_env *e, int nf, const char *volume, struct blob blob)
{
	int vol = cf_nf_volume(nf, volume, e->tag, blob.data, blob.len), c, ret;

	if (vol < 0)
		return vol;
	c = cf_nf_file(nf, vol, "file", aux, sizeof(aux), SIZE, false);
	if (c < 0)
		return c;
	ret = cf_nf_check(nf, c, 1, 0, CF_ROUND_UP(SIZE), SIZE);
	ret = ret == 0 ? 1 : ret == -ENODATA ? 0 : ret;
	if (!ret)
		ret = cf_nf_fill(nf, c, 1, SIZE);
	if (cf_nf_detach(nf, c, false) || cf_nf_volume_end(nf, vol, NULL, 0, false))
		return -EIO;
	return ret;
}

static void volume_path(struct cf_env *e, const char *volume, char path[512])
{
	snprintf(path, 512, "%s/cache/I%s", e->dir, volume);
}

TEST_F(original, volume_attribute)
{
	static const struct mutation mutations[] = {
		{ "as it was",		-1, 0, 0, true },
		{ "reserved",		0, 1, 0, false },
		{ "reserved",		3, 1, 0, false },
		{ "first byte",		4, 0, 0, false },
		{ "last byte",		8, 1, 0, false },
		{ "one byte short",	-1, 0, -1, false },
		{ "no blob",		-1, 0, -5, false },
		{ "3 bytes",		-1, 0, -6, false },
		{ "0 bytes",		-1, 0, -9, false },
		{ "none",		-1, 0, -10, false },
		{ "one byte long",	-1, 0, 1, false },
		{ "300 bytes long",	-1, 0, 300, false },
	};
	static const unsigned char right[9] = "\0\0\0\0stat";
	const struct blob blob = { right + 4, 5 };
	struct cf_env *e = &self->e;
	unsigned char value[600];
	char path[512];

	volume_path(e, "other", path);
	EXPECT_EQ(0, found_with(e, self->nf, "other", blob));
	for (size_t i = 0; i < ARRAY_SIZE(mutations); i++) {
		const struct mutation *m = &mutations[i];
		int graves = entries(e->dir, "graveyard");

		expect_xattr(_metadata, path, right, 9);
		memset(value, 0x99, sizeof(value));
		memcpy(value, right, 9);
		if (m->at >= 0)
			value[m->at] = m->to;
		if (9 + m->len < 0) {
			ASSERT_EQ(0, removexattr(path, CF_XATTR));
		} else {
			ASSERT_EQ(0, setxattr(path, CF_XATTR, value, 9 + m->len, 0));
		}
		EXPECT_EQ(m->found, found_with(e, self->nf, "other", blob)) {
			TH_LOG("%s", m->what);
		}
		EXPECT_EQ(graves + !m->found, entries(e->dir, "graveyard")) {
			TH_LOG("%s", m->what);
		}
		EXPECT_EQ(1, found_with(e, self->nf, "other", blob)) {
			TH_LOG("%s, the second time", m->what);
		}
	}
}

TEST_F(original, d71_volume_blobs)
{
	static const unsigned char data[255] = { 1, 2, 3 };
	static const struct blob blobs[] = {
		{ NULL, 0 }, { data, 1 }, { data, 2 }, { data + 1, 2 }, { data, 255 },
		{ data, 254 },
	};
	struct cf_env *e = &self->e;
	unsigned char want[260] = { 0 };
	char path[512];

	volume_path(e, "other", path);
	for (size_t i = 0; i < ARRAY_SIZE(blobs); i++) {
		EXPECT_EQ(0, found_with(e, self->nf, "other", blobs[i]));
		EXPECT_EQ(1, found_with(e, self->nf, "other", blobs[i]));
		memcpy(want + 4, data + (i == 3), blobs[i].len);
		expect_xattr(_metadata, path, want, 4 + blobs[i].len);
	}
}

/* The last word about a volume's state is the one that is kept. */
TEST_F(original, volume_blob_at_the_end)
{
	const struct blob old = { "old!", 4 }, new = { "new!", 4 };
	struct cf_env *e = &self->e;
	char path[512];
	int vol, c;

	volume_path(e, "other", path);
	EXPECT_EQ(0, found_with(e, self->nf, "other", old));
	vol = cf_nf_volume(self->nf, "other", e->tag, old.data, old.len);
	ASSERT_LT(0, vol);
	c = cf_nf_file(self->nf, vol, "file", aux, sizeof(aux), SIZE, false);
	ASSERT_LT(0, c);
	expect_xattr(_metadata, path, "\0\0\0\0old!", 8);
	ASSERT_EQ(0, cf_nf_detach(self->nf, c, false));
	ASSERT_EQ(0, cf_nf_volume_end(self->nf, vol, new.data, new.len, false));
	expect_xattr(_metadata, path, "\0\0\0\0new!", 8);
	EXPECT_EQ(1, found_with(e, self->nf, "other", new));
	EXPECT_EQ(0, found_with(e, self->nf, "other", old));
	/* Nor does the end of the cache change it. */
	ASSERT_EQ(0, cf_env_rebind_original(e));
	EXPECT_EQ(1, found_with(e, self->nf, "other", old));
}

TEST_F(original, volume_invalidated)
{
	const struct blob blob = { "blob", 4 };
	struct cf_env *e = &self->e;
	int vol, c;

	EXPECT_EQ(0, found_with(e, self->nf, "other", blob));
	vol = cf_nf_volume(self->nf, "other", e->tag, blob.data, blob.len);
	ASSERT_LT(0, vol);
	c = cf_nf_file(self->nf, vol, "file", aux, sizeof(aux), SIZE, false);
	ASSERT_LT(0, c);
	EXPECT_EQ(0, cf_nf_check(self->nf, c, 1, 0, CF_GRANULE, SIZE));
	ASSERT_EQ(0, cf_nf_detach(self->nf, c, false));
	ASSERT_EQ(0, cf_nf_volume_end(self->nf, vol, NULL, 0, true));
	EXPECT_EQ(0, found_with(e, self->nf, "other", blob));
	EXPECT_EQ(1, found_with(e, self->nf, "other", blob));
}

/*
 * Sessions of a cache that follow one another in the same second, or somebody else, have
 * taken the names that come next.
 */
TEST_F(original, graves_with_names_that_are_taken)
{
	const struct blob old = { "old", 3 }, new = { "new", 3 };
	struct cf_env *e = &self->e;
	int graves;

	EXPECT_EQ(0, found_with(e, self->nf, "other", old));
	for (time_t t = time(NULL), end = t + cf_ms(5000) / 1000; t < end; t++) {
		for (int i = 0; i < 10; i++) {
			char path[256];

			snprintf(path, sizeof(path), "%s/graveyard/%08x%08x", e->dir,
				 (unsigned int)t, i);
			ASSERT_EQ(0, mkdir(path, 0700));
		}
	}
	graves = entries(e->dir, "graveyard");
	EXPECT_EQ(0, found_with(e, self->nf, "other", new));
	EXPECT_EQ(graves + 1, entries(e->dir, "graveyard"));
	EXPECT_EQ(1, found_with(e, self->nf, "other", new));
}

/* What is stale but can't be moved away ends the cache, and is not tried for ever. */
TEST_F(original, d60_stale_and_immovable)
{
	const struct blob old = { "old", 3 }, new = { "new", 3 };
	struct cf_env *e = &self->e;
	int vol, c, fd, flags;
	char path[512];

	EXPECT_EQ(0, found_with(e, self->nf, "other", old));
	volume_path(e, "other", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ioctl(fd, FS_IOC_GETFLAGS, &flags));
	flags |= FS_IMMUTABLE_FL;
	ASSERT_EQ(0, ioctl(fd, FS_IOC_SETFLAGS, &flags));

	vol = cf_nf_volume(self->nf, "other", e->tag, new.data, new.len);
	ASSERT_LT(0, vol);
	c = cf_nf_cookie(self->nf, vol, "file", 4, aux, sizeof(aux), SIZE);
	ASSERT_LT(0, c);
	EXPECT_EQ(-ENOBUFS, cf_nf_attach(self->nf, c, false));
	EXPECT_EQ(-EIO, cf_cmd(e->dev, "debug 0"));
	EXPECT_EQ(0, cf_nf_detach(self->nf, c, false));
	/* No worker is at it any more. */
	EXPECT_EQ(0, cf_nf_volume_end(self->nf, vol, NULL, 0, false));
	EXPECT_EQ(0, access(path, F_OK));

	flags &= ~FS_IMMUTABLE_FL;
	ASSERT_EQ(0, ioctl(fd, FS_IOC_SETFLAGS, &flags));
	close(fd);
	ASSERT_EQ(0, cf_env_rebind_original(e));
	EXPECT_EQ(0, found_with(e, self->nf, "other", new));
	EXPECT_EQ(1, found_with(e, self->nf, "other", new));
}

/* Another volume is not touched by any of this. */
TEST_F(original, volumes_apart)
{
	struct cf_env *e = &self->e;

	EXPECT_EQ(0, found_with(e, self->nf, "one", (struct blob){ "1", 1 }));
	EXPECT_EQ(0, found_with(e, self->nf, "two", (struct blob){ "1", 1 }));
	EXPECT_EQ(0, found_with(e, self->nf, "one", (struct blob){ "2", 1 }));
	EXPECT_EQ(1, found_with(e, self->nf, "two", (struct blob){ "1", 1 }));
	EXPECT_EQ(1, found_with(e, self->nf, "one", (struct blob){ "2", 1 }));
}

TEST_HARNESS_MAIN
