// SPDX-License-Identifier: GPL-2.0-only
/*
 * bench_warm STORE IMAGE [REPEATS]: how fast an EROFS image is read that has been
 * filled, with nothing in the page cache, against the same image in a plain file of
 * the same file system.
 *
 * The image is mounted twice: from a file of ondemandfs, and from a copy in STORE.
 * Both are read in turns, each time after the page cache was dropped.
 *
 * speed	ours over theirs, of the same turn
 * ours, theirs	MiB/s
 * cost		our instructions over theirs; only tells something under -icount
 * upcalls	messages to the daemon in all turns
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define VOLUME		"/mnt/bench-warm"
#define OURS		"/mnt/bench-warm-ours"
#define THEIRS		"/mnt/bench-warm-theirs"
#define CHUNK		(128 * KIB)
#define COPY		"warm-image"

static unsigned int *messages;
static const char *image;
static size_t image_size;

static void map_image(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		bench_die("%s: %m", path);
	image_size = st.st_size;
	/* Zeros behind the end, for the last granule. */
	image = mmap(NULL, image_size + CF_BLOCK, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bench_check(image != MAP_FAILED);
	bench_check(read(fd, (char *)image, image_size) == (ssize_t)image_size);
	close(fd);
}

static void daemon_main(int dev)
{
	static struct cf_msg m;

	for (;;) {
		if (cf_poll(dev, POLLIN, 60000) <= 0 || bench_ok(cf_read(dev, &m)) == 0)
			continue;
		(*messages)++;
		if (m.hdr.opcode == CACHEFILES_OP_OPEN) {
			bench_ok(cf_copen(dev, m.hdr.msg_id, image_size));
		} else if (m.hdr.opcode == CACHEFILES_OP_CLOSE) {
			close(cf_close(&m)->fd);
		} else {
			const struct cachefiles_read *rd = cf_rd(&m);

			bench_check(pwrite(rd->fd, image + rd->off, rd->len, rd->off) ==
				    (ssize_t)rd->len);
			bench_ok(cf_cread(rd->fd, m.hdr.msg_id));
		}
	}
}

static void copy_image(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	bench_check(fd >= 0);
	for (size_t done = 0; done < image_size;) {
		ssize_t ret = write(fd, image + done, image_size - done);

		bench_check(ret > 0);
		done += ret;
	}
	bench_check(!fsync(fd));
	close(fd);
}

static void mount_erofs(const char *path, const char *where)
{
	bench_check(!mkdir(where, 0700) || errno == EEXIST);
	if (mount(path, where, "erofs", MS_RDONLY, NULL))
		bench_die("mount erofs %s on %s: %m", path, where);
}

static size_t bytes;

static int read_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	static char buffer[CHUNK];
	ssize_t ret;
	int fd;

	if (type != FTW_F)
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	bench_check(fd >= 0);
	while ((ret = read(fd, buffer, CHUNK)) > 0)
		bytes += ret;
	if (ret < 0)
		bench_die("%s: %m", path);
	close(fd);
	return 0;
}

/* Read all files from nothing: nanoseconds, and instructions. */
static double read_all(const char *where, double *insns)
{
	uint64_t ns, tsc;

	bench_drop_caches();
	bytes = 0;
	ns = bench_ns();
	tsc = bench_insns();
	if (nftw(where, read_one, 16, FTW_PHYS))
		bench_die("%s: %m", where);
	*insns = bench_insns() - tsc;
	return bench_ns() - ns;
}

#define SERIES(metric_, unit_)	\
	{ .test = "warm", .what = "EROFS", .metric = metric_, .unit = unit_ }

static void measure(int repeats)
{
	struct bench_series speed = SERIES("speed", "ours/theirs");
	struct bench_series cost = SERIES("cost", "ours/theirs");
	struct bench_series ours = SERIES("ours", "MiB/s");
	struct bench_series theirs = SERIES("theirs", "MiB/s");

	*messages = 0;
	for (int i = 0; i < repeats; i++) {
		double insns[2], ns[2];

		/* Whoever comes first may have an advantage. */
		ns[i % 2] = read_all(i % 2 ? THEIRS : OURS, &insns[i % 2]);
		ns[!(i % 2)] = read_all(i % 2 ? OURS : THEIRS, &insns[!(i % 2)]);
		bench_add(&speed, ns[1] / ns[0]);
		bench_add(&cost, insns[0] / insns[1]);
		bench_add(&ours, bytes / (double)MIB * 1e9 / ns[0]);
		bench_add(&theirs, bytes / (double)MIB * 1e9 / ns[1]);
	}
	bench_one("warm", "EROFS", "upcalls", "messages", *messages);
	bench_say("warm: %.1f MiB/s, without us %.1f MiB/s: %.1f %% of the speed",
		  bench_report(&ours), bench_report(&theirs), 100 * bench_report(&speed));
	bench_say("warm: %.1f %% of the cost, %u upcalls", 100 * bench_report(&cost), *messages);
}

int main(int argc, char **argv)
{
	int repeats = argc > 3 ? atoi(argv[3]) : 10;
	double unused;
	char path[256];
	pid_t pid;
	int dev;

	if (argc < 3 || repeats < 1)
		bench_die("usage: %s STORE IMAGE [REPEATS]", argv[0]);
	messages = bench_shared(sizeof(*messages));
	map_image(argv[2]);
	snprintf(path, sizeof(path), "%s/" COPY, argv[1]);
	copy_image(path);
	dev = bench_bind(argv[1], "warm");
	pid = fork();
	bench_check(pid >= 0);
	if (!pid)
		daemon_main(dev);

	bench_mount("bench,warm", VOLUME);
	mount_erofs(VOLUME "/" COPY, OURS);
	mount_erofs(path, THEIRS);
	read_all(OURS, &unused);
	if (!*messages)
		bench_die("the daemon was not asked");
	bench_say("warm: filled with %u messages, %zu MiB", *messages, bytes / MIB);
	read_all(THEIRS, &unused);
	measure(repeats);

	bench_umount(THEIRS);
	bench_umount(OURS);
	bench_umount(VOLUME);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return 0;
}
