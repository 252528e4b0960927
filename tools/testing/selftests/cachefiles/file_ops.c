// SPDX-License-Identifier: GPL-2.0-only
/*
 * file_ops [-s SEED] [-n OPERATIONS] [-m MAX-SIZE] [-r] [-v] FILE
 *
 * Does random things to FILE, which is made anew, and knows from a copy in memory
 * what every read must find: reads, writes and truncations of any alignment, through
 * calls and mappings, holes, with the file flushed, thrown out of the page cache and
 * opened again in between.  For phases of some operations the file is open for reading
 * only, since that is when some network file systems use their caches; with -r most
 * of them are.  The same SEED (or CF_SEED) does the same things.
 *
 * Status 1 for a wrong byte or size or a refused operation, and lines that say which,
 * the seed and the last operations; 0 with FILE left as it was at last.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/types.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HISTORY	16
#define LINE	96
#define PAGE	4096L

static const char *path;
static unsigned long seed;
static __u64 state;
static int fd = -1;
static bool read_only;
static bool verbose;

/* What FILE must be: @size bytes of @model. */
static unsigned char *model, *buffer;
static long size, max_size = 1 << 20;

static char history[HISTORY][LINE];
static unsigned long nr_ops;

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* An operation, before it is done. */
static void say(const char *format, ...)
{
	char *line = history[nr_ops++ % HISTORY];
	va_list args;

	va_start(args, format);
	vsnprintf(line, LINE, format, args);
	va_end(args);
	if (verbose)
		printf("# %lu: %s\n", nr_ops, line);
}

static void die(const char *format, ...)
{
	unsigned long i = nr_ops < HISTORY ? 0 : nr_ops - HISTORY;
	va_list args;

	printf("# %s: ", path);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n# seed %lu, the last operations:\n", seed);
	for (; i < nr_ops; i++)
		printf("# %5lu: %s\n", i + 1, history[i % HISTORY]);
	exit(1);
}

/* Marsaglia's 64 bit xorshift with a multiplier */
static __u64 any(void)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return state * 0x2545f4914f6cdd1dULL;
}

/* From 0 to less than @limit, or 0 */
static long below(long limit)
{
	return limit > 0 ? (long)(any() % (__u64)limit) : 0;
}

static bool one_in(unsigned int n)
{
	return any() % n == 0;
}

/* A place up to @limit: everything that rounds to something is taken more often. */
static long place(long limit)
{
	long off = below(limit + 1);

	if (one_in(3))
		off &= ~(PAGE - 1);
	else if (one_in(6))
		off = (off & ~(PAGE - 1)) + below(5) - 2;
	if (off < 0)
		off = 0;
	return off < limit ? off : limit;
}

/* Some range within the first @limit bytes, most often a short one */
static void range(long limit, long *off, long *len)
{
	long end;

	*off = place(limit);
	if (one_in(4))
		end = place(limit);
	else
		end = *off + below(one_in(2) ? 3 * PAGE : 16 * PAGE);
	if (end > limit)
		end = limit;
	if (end < *off) {
		*len = *off - end;
		*off = end;
	} else {
		*len = end - *off;
	}
}

/* New bytes; none is zero, so that a hole is told from what was written. */
static void fresh(long off, long len)
{
	for (long i = 0; i < len; i++)
		model[off + i] = any() >> 56 | 1;
}

static void compare(const unsigned char *found, long off, long len, const char *how)
{
	long i, n = 0;

	if (!memcmp(found, model + off, len))
		return;
	for (i = len - 1; i >= 0; i--)
		n += found[i] != model[off + i];
	for (i = 0; found[i] == model[off + i]; i++)
		;
	die("%s of %ld at %ld: %ld wrong bytes, the first at %ld: 0x%02x instead of 0x%02x",
	    how, len, off, n, off + i, found[i], model[off + i]);
}

static void check_size(void)
{
	struct stat st;

	if (fstat(fd, &st))
		die("fstat: %s", strerror(errno));
	if (st.st_size != size)
		die("its size is %lld, not %ld", (long long)st.st_size, size);
}

static void open_file(bool ro, int flags)
{
	if (fd >= 0 && close(fd))
		die("close: %s", strerror(errno));
	read_only = ro;
	fd = open(path, (ro ? O_RDONLY : O_RDWR) | flags, 0644);
	if (fd < 0)
		die("open: %s", strerror(errno));
	check_size();
}

static void do_read(long off, long len)
{
	ssize_t n;

	say("read %ld + %ld", off, len);
	n = pread(fd, buffer, len, off);
	if (n != len)
		die("read: %zd: %s", n, n < 0 ? strerror(errno) : "short");
	compare(buffer, off, len, "read");
}

static void do_write(long off, long len)
{
	ssize_t n;

	say("write %ld + %ld, size %ld", off, len, size);
	fresh(off, len);
	n = pwrite(fd, model + off, len, off);
	if (n != len)
		die("write: %zd: %s", n, n < 0 ? strerror(errno) : "short");
	if (len && off + len > size)
		size = off + len;
}

static void do_truncate(long to)
{
	say("truncate %ld, size %ld", to, size);
	if (ftruncate(fd, to))
		die("ftruncate: %s", strerror(errno));
	if (to < size)
		memset(model + to, 0, size - to);
	size = to;
	check_size();
}

static unsigned char *map(long off, long len, long *start)
{
	unsigned char *p;

	*start = off & ~(PAGE - 1);
	p = mmap(NULL, off - *start + len, read_only ? PROT_READ : PROT_READ | PROT_WRITE,
		 MAP_SHARED, fd, *start);
	if (p == MAP_FAILED)
		die("mmap: %s", strerror(errno));
	return p;
}

static void do_map_read(long off, long len)
{
	unsigned char *p;
	long start;

	say("mapped read %ld + %ld", off, len);
	p = map(off, len, &start);
	compare(p + (off - start), off, len, "mapped read");
	munmap(p, off - start + len);
}

static void do_map_write(long off, long len)
{
	unsigned char *p;
	long start;

	say("mapped write %ld + %ld", off, len);
	p = map(off, len, &start);
	fresh(off, len);
	memcpy(p + (off - start), model + off, len);
	if (one_in(3) && msync(p, off - start + len, MS_SYNC))
		die("msync: %s", strerror(errno));
	munmap(p, off - start + len);
}

/* Not every file system can. */
static void do_punch(long off, long len)
{
	say("punch %ld + %ld", off, len);
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len)) {
		if (errno != EOPNOTSUPP && errno != ENOSYS)
			die("fallocate: %s", strerror(errno));
		return;
	}
	memset(model + off, 0, len);
}

static void do_sync(void)
{
	say("fsync");
	if (fsync(fd))
		die("fsync: %s", strerror(errno));
}

/* Only clean pages can go. */
static void do_forget(long off, long len)
{
	if (!read_only)
		do_sync();
	say("forget %ld + %ld", off, len);
	errno = posix_fadvise(fd, off, len, POSIX_FADV_DONTNEED);
	if (errno)
		die("posix_fadvise: %s", strerror(errno));
}

static void do_check(void)
{
	check_size();
	for (long off = 0; off < size; off += 128 * 1024)
		do_read(off, size - off < 128 * 1024 ? size - off : 128 * 1024);
}

static void do_open(bool ro)
{
	say("open for %s", ro ? "reading" : "writing");
	open_file(ro, 0);
}

static void change_something(void)
{
	long off, len;

	switch (below(8)) {
	case 0:
		range(size, &off, &len);
		if (len)
			do_map_write(off, len);
		return;
	case 1:
		do_truncate(place(one_in(2) ? size : max_size));
		return;
	case 2:
		range(size, &off, &len);
		if (len)
			do_punch(off, len);
		return;
	case 3:
		len = below(8 * PAGE);
		do_write(size, size + len < max_size ? len : max_size - size);
		return;
	default:
		/* Close to what is there, and now and then far off */
		range(one_in(8) || size + 32 * PAGE > max_size ? max_size : size + 32 * PAGE,
		      &off, &len);
		do_write(off, len);
	}
}

static void look_at_something(void)
{
	long off, len;

	range(size, &off, &len);
	if (len && one_in(3))
		do_map_read(off, len);
	else
		do_read(off, len);
}

static void bad_usage(void)
{
	fprintf(stderr, "usage: file_ops [-s SEED] [-n OPERATIONS] [-m MAX-SIZE] [-r] [-v] FILE\n");
	exit(2);
}

static unsigned long to_number(const char *s)
{
	char *end;
	unsigned long n = strtoul(s, &end, 0);

	if (end == s || *end)
		bad_usage();
	return n;
}

int main(int argc, char **argv)
{
	unsigned long count = 1000, phase = 0;
	bool mostly_read = false;
	int option;

	seed = getenv("CF_SEED") ? to_number(getenv("CF_SEED")) : (unsigned long)time(NULL);
	while ((option = getopt(argc, argv, "s:n:m:rv")) != -1) {
		switch (option) {
		case 's':
			seed = to_number(optarg);
			break;
		case 'n':
			count = to_number(optarg);
			break;
		case 'm':
			max_size = to_number(optarg);
			break;
		case 'r':
			mostly_read = true;
			break;
		case 'v':
			verbose = true;
			break;
		default:
			bad_usage();
		}
	}
	if (optind != argc - 1 || max_size < PAGE)
		bad_usage();
	path = argv[optind];
	setvbuf(stdout, NULL, _IOLBF, 0);
	state = seed * 0x9e3779b97f4a7c15ULL + 1;
	model = calloc(1, max_size);
	buffer = malloc(max_size);
	if (!model || !buffer)
		return 2;

	open_file(false, O_CREAT | O_TRUNC);
	while (nr_ops < count) {
		if (!phase) {
			phase = 4 + below(24);
			do_open(one_in(4) ? !mostly_read : mostly_read);
			continue;
		}
		phase--;
		if (one_in(24))
			do_sync();
		else if (one_in(12))
			do_forget(one_in(2) ? 0 : place(size), 0);
		else if (one_in(48))
			do_check();
		else if (read_only || one_in(2))
			look_at_something();
		else
			change_something();
	}
	do_check();
	do_open(true);
	do_forget(0, 0);
	do_check();
	return close(fd) ? 1 : 0;
}
