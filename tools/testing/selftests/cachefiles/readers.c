// SPDX-License-Identifier: GPL-2.0-only
/*
 * readers [-m SOURCE OPTIONS] DIRECTORY FILES UNIT ROUNDS STOP
 *
 * Reads the files f1, f2, ... of DIRECTORY in random order until a file STOP is there,
 * each time from the file system and not from the page cache, and compares every byte.
 * File number N has N times UNIT bytes of pattern N. Adds a line to the file ROUNDS for
 * each file that has been read, whether that went well or not. With -m NFS is mounted
 * on DIRECTORY for each file, by mount(2), which has to be told addr= among OPTIONS, and
 * unmounted after it.
 *
 * Wrong data, which a short file is too, are told on standard output, errors on standard
 * error. In the end "longest read: N ms" comes to standard output. Status 1 for wrong
 * data, 0 otherwise, errors or not.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#include "lib/daemon.h"

#define CHUNK	(64 * 1024)

static int wrong;
static char buf[CHUNK];

static long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void tell(FILE *to, const char *file, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void tell(FILE *to, const char *file, const char *format, ...)
{
	va_list args;

	fprintf(to, "%s: ", file);
	va_start(args, format);
	vfprintf(to, format, args);
	va_end(args);
	fputc('\n', to);
	fflush(to);
}

/* What is given back is no wrong data: an error, or nothing to complain of. */
static void read_file(const char *file, __u64 seed, __u64 size)
{
	__u64 off = 0;
	int fd = open(file, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		tell(stderr, file, "open: %s", strerror(errno));
		return;
	}
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	while (off < size) {
		ssize_t got = pread(fd, buf, CHUNK, off);
		long long bad;

		if (got < 0) {
			tell(stderr, file, "read at %llu: %s", off, strerror(errno));
			break;
		}
		bad = got ? cf_differs(seed, off, buf, got) : (long long)off;
		if (bad >= 0) {
			tell(stdout, file, "wrong byte at %lld%s", bad, got ? "" : ", the end");
			wrong = 1;
			break;
		}
		off += got;
	}
	close(fd);
}

/* What the kernel has closed may keep it busy for a moment: whoever waits has the limit. */
static void unmount(const char *dir)
{
	while (umount2(dir, 0)) {
		if (errno != EBUSY) {
			tell(stderr, dir, "umount: %s", strerror(errno));
			break;
		}
		usleep(50000);
	}
}

int main(int argc, char **argv)
{
	const char *source = NULL, *options = NULL;
	long longest = 0, start;
	unsigned int files;
	__u64 unit;
	int rounds;

	if (argc == 9 && !strcmp(argv[1], "-m")) {
		source = argv[2];
		options = argv[3];
		argc -= 3;
		argv += 3;
	}
	if (argc != 6) {
		fprintf(stderr,
			"usage: readers [-m SOURCE OPTIONS] DIRECTORY FILES UNIT ROUNDS STOP\n");
		return 2;
	}
	files = strtoul(argv[2], NULL, 0);
	unit = strtoull(argv[3], NULL, 0);
	rounds = open(argv[4], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (!files || !unit || rounds < 0) {
		fprintf(stderr, "readers: bad arguments\n");
		return 2;
	}
	srandom(getpid());
	while (access(argv[5], F_OK)) {
		unsigned int nr = random() % files + 1;
		char file[4096];

		snprintf(file, sizeof(file), "%s/f%u", argv[1], nr);
		if (source && mount(source, argv[1], "nfs", 0, options)) {
			tell(stderr, argv[1], "mount: %s", strerror(errno));
		} else {
			start = now_ms();
			read_file(file, nr, nr * unit);
			if (now_ms() - start > longest)
				longest = now_ms() - start;
			if (source)
				unmount(argv[1]);
		}
		if (write(rounds, "\n", 1) != 1)
			return 2;
		/* Others are to have their turn. */
		usleep(50000);
	}
	printf("longest read: %ld ms\n", longest);
	return wrong;
}
