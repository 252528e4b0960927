// SPDX-License-Identifier: GPL-2.0-only
/*
 * bench_fuse [REPEATS]: the fetches of bench_fetch, served by a small FUSE file
 * system that keeps nothing, on the low-level interface of libfuse and with its
 * defaults: what a read(2) costs from the reader's call to its return.
 */
#define FUSE_USE_VERSION 35
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define MOUNT_POINT	"/mnt/bench-fuse"
#define STRIDE		(64 * KIB)
#define FOREVER		1e9

static unsigned int *requests;
static char *source;
static char *buffer;

/* An inode number above 1 is the size of the file and a running number. */
static fuse_ino_t ino_of(unsigned int i, unsigned long size)
{
	return size << 16 | (i + 2);
}

static void set_attr(fuse_ino_t ino, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_ino = ino;
	st->st_mode = ino == FUSE_ROOT_ID ? S_IFDIR | 0555 : S_IFREG | 0444;
	st->st_nlink = 1;
	st->st_size = ino >> 16;
}

static void do_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = { .attr_timeout = FOREVER, .entry_timeout = FOREVER };
	unsigned long size;
	unsigned int i;

	if (sscanf(name, "%u-%lu", &i, &size) != 2) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	e.ino = ino_of(i, size);
	set_attr(e.ino, &e.attr);
	fuse_reply_entry(req, &e);
}

static void do_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;

	set_attr(ino, &st);
	fuse_reply_attr(req, &st, FOREVER);
}

static void do_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fuse_reply_open(req, fi);
}

static void do_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	(*requests)++;
	if (off + size > ino >> 16)
		size = off < (off_t)(ino >> 16) ? (ino >> 16) - off : 0;
	fuse_reply_buf(req, source + off % MIB, size);
}

static const struct fuse_lowlevel_ops ops = {
	.lookup		= do_lookup,
	.getattr	= do_getattr,
	.open		= do_open,
	.read		= do_read,
};

static void daemon_main(struct fuse_session *se)
{
	_exit(fuse_session_loop(se) ? 1 : 0);
}

static uint64_t timed_read(int fd, size_t len, off_t off)
{
	uint64_t t = bench_insns();
	ssize_t ret = pread(fd, buffer, len, off);

	t = bench_insns() - t;
	if (ret != (ssize_t)len)
		bench_die("pread %zu at %lld: %zd, %m", len, (long long)off, ret);
	if (memcmp(buffer, source + off % MIB, len))
		bench_die("wrong data at %lld", (long long)off);
	memset(buffer, 0, len);
	return t;
}

static int open_file(int i, unsigned long size)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%u-%lu", MOUNT_POINT, i, size);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	bench_check(fd >= 0);
	return fd;
}

static void measure(struct bench_series *total, struct bench_series *asked, int fd, size_t len,
		    off_t off)
{
	*requests = 0;
	bench_add(total, timed_read(fd, len, off));
	if (!*requests)
		bench_die("the daemon was not asked");
	bench_add(asked, *requests);
}

static void end_series(struct bench_series *total, struct bench_series *asked)
{
	bench_say("fuse %s: %.0f with %.0f requests", total->what, bench_report(total),
		  bench_report(asked));
}

#define SERIES(what_, metric_, unit_)	\
	{ .test = "fuse", .what = what_, .metric = metric_, .unit = unit_ }

static void random_reads(int repeats)
{
	struct bench_series total = SERIES("4 KiB", "total", BENCH_INSNS);
	struct bench_series asked = SERIES("4 KiB", "READs", "requests");
	int fd = open_file(0, (repeats + 1) * STRIDE);

	bench_check(!posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM));
	timed_read(fd, 4 * KIB, repeats * STRIDE);
	for (int i = 0; i < repeats; i++)
		measure(&total, &asked, fd, 4 * KIB, i * STRIDE);
	end_series(&total, &asked);
	close(fd);
}

static void whole_files(const char *what, size_t size, int repeats)
{
	struct bench_series total = SERIES(what, "total", BENCH_INSNS);
	struct bench_series asked = SERIES(what, "READs", "requests");

	for (int i = 0; i <= repeats; i++) {
		int fd = open_file(i, size);

		/* The first one is for warming up. */
		if (i)
			measure(&total, &asked, fd, size, 0);
		else
			timed_read(fd, size, 0);
		close(fd);
	}
	end_series(&total, &asked);
}

static struct fuse_session *new_session(char *program)
{
	struct fuse_args args = FUSE_ARGS_INIT(1, &program);
	struct fuse_session *se = fuse_session_new(&args, &ops, sizeof(ops), NULL);

	if (!se || fuse_session_mount(se, MOUNT_POINT))
		bench_die("no FUSE mount on %s: %m", MOUNT_POINT);
	return se;
}

int main(int argc, char **argv)
{
	int repeats = argc > 1 ? atoi(argv[1]) : 100;
	struct fuse_session *se;
	pid_t pid;

	if (repeats < 1)
		bench_die("usage: %s [REPEATS]", argv[0]);
	bench_pin(0);
	requests = bench_shared(sizeof(*requests));
	source = bench_source(2 * MIB);
	buffer = bench_shared(MIB);
	bench_check(!mkdir(MOUNT_POINT, 0700) || errno == EEXIST);
	se = new_session(argv[0]);
	pid = fork();
	bench_check(pid >= 0);
	if (!pid)
		daemon_main(se);

	random_reads(repeats);
	whole_files("128 KiB", 128 * KIB, repeats);
	whole_files("1 MiB", MIB, repeats / 4 + 1);
	umount2(MOUNT_POINT, MNT_DETACH);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return 0;
}
