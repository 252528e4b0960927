// SPDX-License-Identifier: GPL-2.0-only
/*
 * pattern write FILE SEED OFFSET LENGTH [FILE SEED OFFSET LENGTH]...
 * pattern check|mmap|direct FILE SEED OFFSET LENGTH [FILE SEED OFFSET LENGTH]...
 *
 * Content for tests that are shell scripts. "write" puts into a range of FILE,
 * which it creates, what SEED says; the others read a range, in that way, and
 * compare. SEED 0 is zeros, and to write them is to write, not to punch a hole.
 * Numbers may end with K, M or G. Status 1, and a line that names the first wrong
 * byte, for a file that differs or is too short.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/daemon.h"

#define CHUNK	(128 * 1024)
#define ALIGN	4096

static __u64 to_number(const char *s)
{
	static const char units[] = "KMG";
	char *end;
	__u64 n = strtoull(s, &end, 0);
	const char *unit = *end ? strchr(units, *end) : NULL;

	if (unit) {
		n <<= 10 * (unit - units + 1);
		end++;
	}
	if (end == s || *end) {
		fprintf(stderr, "pattern: '%s' is not what a range starts or ends with\n", s);
		exit(2);
	}
	return n;
}

static int fail(const char *file, const char *what, __u64 off)
{
	printf("# %s: %s at offset %llu%s%s\n", file, what, off,
	       errno ? ": " : "", errno ? strerror(errno) : "");
	return 1;
}

static void content(__u64 seed, __u64 off, void *buf, size_t len)
{
	if (seed)
		cf_pattern(seed, off, buf, len);
	else
		memset(buf, 0, len);
}

static long long differs(__u64 seed, __u64 off, const unsigned char *buf, size_t len)
{
	if (seed)
		return cf_differs(seed, off, buf, len);
	for (size_t i = 0; i < len; i++) {
		if (buf[i])
			return off + i;
	}
	return -1;
}

static int compare(const char *file, __u64 seed, __u64 off, const void *buf, size_t len)
{
	long long bad = differs(seed, off, buf, len);

	errno = 0;
	return bad < 0 ? 0 : fail(file, "wrong byte", bad);
}

static int write_range(const char *file, __u64 seed, __u64 off, __u64 len, char *buf)
{
	int fd = open(file, O_WRONLY | O_CREAT, 0644);

	if (fd < 0)
		return fail(file, "open", off);
	while (len) {
		size_t n = len < CHUNK ? len : CHUNK;

		content(seed, off, buf, n);
		errno = 0;
		if (pwrite(fd, buf, n, off) != (ssize_t)n)
			return fail(file, "write", off);
		off += n;
		len -= n;
	}
	return close(fd) ? fail(file, "close", off) : 0;
}

static int check_range(const char *file, __u64 seed, __u64 off, __u64 len, int flags, char *buf)
{
	int fd = open(file, O_RDONLY | flags), ret = 0;

	if (fd < 0)
		return fail(file, "open", off);
	while (len && !ret) {
		size_t n = len < CHUNK ? len : CHUNK;
		ssize_t got;

		errno = 0;
		got = pread(fd, buf, flags ? CHUNK : n, off);
		if (got > 0 && (size_t)got < n)
			n = got;
		ret = got > 0 ? compare(file, seed, off, buf, n) :
				fail(file, got ? "read" : "end of file", off);
		off += n;
		len -= n;
	}
	close(fd);
	return ret;
}

static int check_cached(const char *file, __u64 seed, __u64 off, __u64 len, char *buf)
{
	return check_range(file, seed, off, len, 0, buf);
}

static int check_direct(const char *file, __u64 seed, __u64 off, __u64 len, char *buf)
{
	return check_range(file, seed, off, len, O_DIRECT, buf);
}

static int check_mapping(const char *file, __u64 seed, __u64 off, __u64 len, char *buf)
{
	__u64 start = off & ~(__u64)(ALIGN - 1);
	int fd = open(file, O_RDONLY), ret;
	char *map;

	if (fd < 0)
		return fail(file, "open", off);
	errno = 0;
	if (lseek(fd, 0, SEEK_END) < (off_t)(off + len)) {
		close(fd);
		return fail(file, "end of file", off + len);
	}
	map = mmap(NULL, off - start + len, PROT_READ, MAP_SHARED, fd, start);
	close(fd);
	if (map == MAP_FAILED)
		return fail(file, "mmap", off);
	ret = compare(file, seed, off, map + (off - start), len);
	munmap(map, off - start + len);
	return ret;
}

static const struct way {
	const char	*name;
	int		(*range)(const char *file, __u64 seed, __u64 off, __u64 len, char *buf);
} ways[] = {
	{ "write", write_range },
	{ "check", check_cached },
	{ "direct", check_direct },
	{ "mmap", check_mapping },
	{ }
};

int main(int argc, char **argv)
{
	const struct way *way = ways;
	char *buf = aligned_alloc(ALIGN, CHUNK);
	int ret = 0;

	while (argc > 1 && way->name && strcmp(argv[1], way->name))
		way++;
	if (argc < 6 || (argc - 2) % 4 || !way->name) {
		fputs("usage: pattern WAY FILE SEED OFFSET LENGTH [...]\n", stderr);
		return 2;
	}
	if (!buf)
		return 2;
	for (int i = 2; i < argc && !ret; i += 4)
		ret = way->range(argv[i], to_number(argv[i + 1]), to_number(argv[i + 2]),
				 to_number(argv[i + 3]), buf);
	return ret;
}
