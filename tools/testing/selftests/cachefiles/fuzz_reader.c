// SPDX-License-Identifier: GPL-2.0-only
/* Readers of the fuzzer: they mount, look up and read, in every way there is. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fuzz.h"
#include "lib/failnth.h"

#define OPEN_FILES	6

/* Files that a thread keeps open for a while. */
struct fz_reading {
	struct fz_file {
		int		fd;
		uint64_t	content;
	} files[OPEN_FILES];
	int	pipe[2];
	int	sink;
};

int fz_reader_init(struct fz_task *t)
{
	struct fz_reading *r = calloc(1, sizeof(*r));

	t->reading = r;
	if (!r || pipe2(r->pipe, O_CLOEXEC | O_NONBLOCK))
		return -ENOMEM;
	r->sink = open("/dev/null", O_WRONLY | O_CLOEXEC);
	for (unsigned int i = 0; i < OPEN_FILES; i++)
		r->files[i].fd = -1;
	return r->sink < 0 ? -errno : 0;
}

/*
 * Kernels up to 7.3 at least crash in fscache_free_cookie() when a key that does not fit into
 * the cookie can't be copied: nothing fails in what may make a cookie of such a name.
 */
static void spare_long_key(struct fz_task *t, size_t len)
{
	if (t->lenient && len > FZ_INLINE_KEY)
		t->lenient = cf_fail_left() == 0;
}

/* A file of one of the volumes; where several do everything, only the tame daemon serves. */
static uint64_t some_path(struct fz_task *t, char path[384])
{
	unsigned int i = fz_below(t, FZ_NAMES), volume = fz_below(t, FZ_VOLUMES);
	char dir[64], key[32], name[256];
	size_t len;

	if (!(t->roles & FZ_DAEMON) && fz_chance(t, 20))
		volume = FZ_VOLUMES + fz_below(t, FZ_LOCALS);
	/* Half of it on a few files, so that requests meet. */
	if (fz_chance(t, 50))
		i %= 8;
	len = fz_name(i, name);
	fz_volume(volume, key);
	fz_mount_point(volume, dir);
	snprintf(path, 384, "%s/%s", dir, name);
	fz_say(t, "%u/%u ", volume, i);
	spare_long_key(t, len);
	return fz_content(key, name, len);
}

/* Which parts of the file are wrong, for the report. */
static const char *look_again(struct fz_task *t, int fd, uint64_t content)
{
	static __thread char text[256];
	struct stat st = { 0 };
	size_t used;

	fstat(fd, &st);
	used = snprintf(text, sizeof(text), " size %lld, wrong pages:", (long long)st.st_size);
	for (off_t off = 0; off < st.st_size && off < FZ_FILE_MAX && used < 200; off += FZ_PAGE) {
		ssize_t n = pread(fd, t->buf, FZ_PAGE, off);
		long long bad = n > 0 ? cf_differs(content, off, t->buf, n) : -1;

		if (n < 0)
			used += snprintf(text + used, sizeof(text) - used, " %lld=%d",
					 (long long)off / FZ_PAGE, -errno);
		else if (bad >= 0)
			used += snprintf(text + used, sizeof(text) - used, " %lld+%lld",
					 (long long)off / FZ_PAGE, bad - (long long)off);
	}
	return text;
}

/* What was read is what belongs there. */
static void compare(struct fz_task *t, int fd, uint64_t content, uint64_t off, const void *buf,
		    size_t n)
{
	long long bad = cf_differs(content, off, buf, n);
	unsigned char found, wanted;

	fz_count(FZ_BYTES, n);
	if (bad < 0)
		return;
	found = ((const unsigned char *)buf)[bad - (long long)off];
	cf_pattern(content, bad, &wanted, 1);
	fz_fail("wrong byte at %lld of %llu+%zu: %02x, not %02x; now%s (%s)", bad,
		(unsigned long long)off, n, found, wanted, look_again(t, fd, content),
		t->entry->text);
}

/* A read, by read(2) or by a page fault, tells no more than that it has failed. */
#define READ_ERRNOS	EIO

/* A page fault that fails is EFAULT to whoever reads somebody else's memory. */
static int read_mapped(struct fz_task *t, int fd, uint64_t content, uint64_t off, size_t len)
{
	struct iovec local = { t->buf, len }, remote;
	struct stat st;
	ssize_t n;
	char *p;

	if (fstat(fd, &st) || off >= (uint64_t)st.st_size)
		return 0;
	off -= off % FZ_PAGE;
	p = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, (off_t)off);
	if (p == MAP_FAILED)
		return FZ_EXPECT(t, -errno);
	if (fz_chance(t, 50))
		madvise(p, len, MADV_RANDOM);
	if (fz_chance(t, 10))
		madvise(p, len, MADV_WILLNEED);
	remote = (struct iovec) { p, len };
	n = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
	if (n > 0) {
		size_t data = (uint64_t)n, end;

		if (data > (uint64_t)st.st_size - off)
			data = st.st_size - off;
		end = (data + FZ_PAGE - 1) / FZ_PAGE * FZ_PAGE;

		compare(t, fd, content, off, t->buf, data);
		/* Behind the end there are zeros as far as the page goes. */
		for (size_t i = data; i < end && i < (size_t)n; i++) {
			if (t->buf[i]) {
				fz_fail("%02x behind the end at %llu (%s)", t->buf[i],
					(unsigned long long)off + i, t->entry->text);
				break;
			}
		}
	}
	munmap(p, len);
	return FZ_EXPECT(t, fz_err(n), EFAULT);
}

static int read_spliced(struct fz_task *t, int fd, uint64_t content, uint64_t off, size_t len)
{
	loff_t pos = (loff_t)off;
	ssize_t n, got;

	/*
	 * Where the new position could not be told, to have that fail, the data are in the pipe
	 * all the same.
	 */
	do {
		got = read(t->reading->pipe[0], t->buf, FZ_BUF);
	} while (got > 0 || errno == EFAULT);
	n = splice(fd, &pos, t->reading->pipe[1], NULL, len, SPLICE_F_NONBLOCK);
	if (n <= 0)
		return FZ_EXPECT(t, fz_err(n), READ_ERRNOS, EAGAIN);
	for (ssize_t left = n; left > 0; left -= got) {
		got = read(t->reading->pipe[0], t->buf, left);
		if (got <= 0) {
			if (!t->lenient)
				fz_fail("%zd bytes were spliced, %zd are missing", n, left);
			break;
		}
		compare(t, fd, content, off + (n - left), t->buf, got);
	}
	return (int)n;
}

static int read_some(struct fz_task *t, int fd, uint64_t content)
{
	uint64_t size = fz_size(content), off = size ? fz_below(t, size) : 0;
	unsigned int how = fz_below(t, 20), len = 1 + fz_below(t, 4 * FZ_PAGE);
	struct iovec iov[2];
	int flags, n;

	if (fz_chance(t, 10))
		len = fz_below(t, FZ_BUF / 4) + 1;
	if (fz_chance(t, 10))
		off = size;
	fz_say(t, "how %u %llu+%u of %llu", how, (unsigned long long)off, len,
	       (unsigned long long)size);
	if (fz_chance(t, 40))
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	if (fz_chance(t, 40))
		posix_fadvise(fd, 0, 0, fz_chance(t, 80) ? POSIX_FADV_RANDOM : POSIX_FADV_NORMAL);
	switch (how) {
	case 0:
	case 1:
	case 2:
		return read_mapped(t, fd, content, off, len);
	case 3:
		return read_spliced(t, fd, content, off, len);
	case 4:
		n = posix_fadvise(fd, (off_t)off, len, POSIX_FADV_WILLNEED);
		return FZ_EXPECT(t, -n);
	case 5:
		n = fz_err(readahead(fd, (off_t)off, len));
		return FZ_EXPECT(t, n);
	case 6:
		iov[0] = (struct iovec) { t->buf, len / 2 };
		iov[1] = (struct iovec) { t->buf + len / 2, len - len / 2 };
		flags = fz_chance(t, 50) ? RWF_NOWAIT : 0;
		n = fz_err(preadv2(fd, iov, 2, (off_t)off, flags));
		FZ_EXPECT(t, n, READ_ERRNOS, EAGAIN, EOPNOTSUPP);
		break;
	case 7:
		/* Where there is no memory for it. */
		n = fz_err(pread(fd, t->pages + FZ_PAGE - 16, 64, (off_t)off));
		FZ_EXPECT(t, n, READ_ERRNOS, EFAULT);
		if (n > 16)
			fz_fail("%d bytes in 16", n);
		if (n > 0)
			compare(t, fd, content, off, t->pages + FZ_PAGE - 16, n);
		return n;
	case 8:
		n = fz_err(pread(fd, t->buf, len, -1 - (off_t)fz_below(t, 100)));
		return FZ_REFUSED(t, n, EINVAL);
	case 9:
		off = fz_chance(t, 50) ? INT64_MAX - off : 1ULL << 40;
		n = fz_err(pread(fd, t->buf, len, (off_t)off));
		FZ_EXPECT(t, n, READ_ERRNOS, EINVAL, EOVERFLOW);
		if (n > 0)
			compare(t, fd, content, off, t->buf, n);
		return n;
	default:
		n = fz_err(pread(fd, t->buf, len, (off_t)off));
		FZ_EXPECT(t, n, READ_ERRNOS);
	}
	if (n > 0)
		compare(t, fd, content, off, t->buf, n);
	return n;
}

/* --- files --- */

/* Look one up, read it and close it, or keep it open. */
static int op_read(struct fz_task *t)
{
	struct fz_file *f = &t->reading->files[fz_below(t, OPEN_FILES)];
	bool keep = fz_chance(t, 40);
	uint64_t content;
	char path[384];
	int fd, ret;

	content = some_path(t, path);
	/* Any errno that a daemon gives. */
	fd = fz_err(open(path, O_RDONLY | O_CLOEXEC | (fz_chance(t, 15) ? O_DIRECT : 0)));
	if (fd < 0)
		return fd;
	ret = read_some(t, fd, content);
	if (!keep) {
		close(fd);
		return ret;
	}
	if (f->fd >= 0)
		close(f->fd);
	f->fd = fd;
	f->content = content;
	return ret;
}

static struct fz_file *open_file(struct fz_task *t)
{
	unsigned int first = fz_below(t, OPEN_FILES);

	for (unsigned int i = 0; i < OPEN_FILES; i++) {
		struct fz_file *f = &t->reading->files[(first + i) % OPEN_FILES];

		if (f->fd >= 0)
			return f;
	}
	return NULL;
}

static int op_reread(struct fz_task *t)
{
	struct fz_file *f = open_file(t);

	return f ? read_some(t, f->fd, f->content) : -ENOENT;
}

static int op_release(struct fz_task *t)
{
	struct fz_file *f = open_file(t);
	int ret;

	if (!f)
		return -ENOENT;
	ret = fz_err(close(f->fd));
	f->fd = -1;
	return FZ_EXPECT(t, ret);
}

/* What can be asked of an open file and tells nothing. */
static int op_ask(struct fz_task *t)
{
	struct fz_file *f = open_file(t);
	unsigned int how = fz_below(t, 8);
	struct stat st;

	fz_say(t, "how %u", how);
	if (!f)
		return -ENOENT;
	switch (how) {
	case 0:
		return FZ_REFUSED(t, fz_err(pwrite(f->fd, t->buf, 1, 0)), EBADF);
	case 1:
		return FZ_REFUSED(t, fz_err(ftruncate(f->fd, 1)), EINVAL, EROFS, EBADF);
	case 2:
		return FZ_REFUSED(t, fz_err(ioctl(f->fd, 0x9801, 5)), ENOTTY);
	case 3:
		return FZ_EXPECT(t, fz_err(lseek(f->fd, fz_below(t, 8192), SEEK_DATA)), ENXIO);
	case 4:
		return FZ_EXPECT(t, fz_err(lseek(f->fd, fz_below(t, 8192), SEEK_HOLE)), ENXIO);
	case 5:
		return fz_err(fsync(f->fd));
	case 6:
		return fz_err(sendfile(t->reading->sink, f->fd, NULL, fz_below(t, FZ_PAGE)));
	default:
		return FZ_EXPECT(t, fz_err(fstat(f->fd, &st)));
	}
}

static int op_stat(struct fz_task *t)
{
	struct stat st;
	char path[384];
	int ret;

	some_path(t, path);
	ret = fz_err(stat(path, &st));
	if (!ret && !S_ISREG(st.st_mode) && st.st_size)
		fz_fail("%s has mode %o", path, st.st_mode);
	return ret;
}

/* --- the directory --- */

static int op_odd_name(struct fz_task *t)
{
	unsigned int how = fz_below(t, 12), volume = fz_below(t, FZ_VOLUMES);
	char dir[64], path[512], other[128];
	struct stat st;
	int n;

	fz_mount_point(volume, dir);
	fz_say(t, "volume %u how %u", volume, how);
	if (!fz_is_mounted(volume))
		return -ENOENT;
	n = snprintf(path, sizeof(path), "%s/", dir);
	/* It may be unmounted meanwhile, and then it is a directory of another kind. */
	switch (how) {
	case 0:
		memset(path + n, 'x', 256);
		path[n + 256] = '\0';
		return FZ_REFUSED(t, fz_err(stat(path, &st)), ENAMETOOLONG);
	case 1:
		/* A file name of it would be too long. */
		memset(path + n, 'x', 255);
		path[n + 255] = '\0';
		spare_long_key(t, 255);
		return FZ_REFUSED(t, fz_err(stat(path, &st)), EIO, ENOENT);
	case 2:
		snprintf(path + n, 32, "%s", "..");
		return FZ_EXPECT(t, fz_err(stat(path, &st)));
	case 3:
		snprintf(path + n, 32, "%s", "f1/x");
		return fz_err(stat(path, &st)) ? 0 : FZ_REFUSED(t, 0, ENOTDIR);
	case 4:
		snprintf(path + n, 32, "%s", "new");
		n = mkdir(path, 0700);
		break;
	case 5:
		snprintf(path + n, 32, "%s", "f1");
		n = unlink(path);
		break;
	case 6:
		snprintf(path + n, 32, "%s", "f1");
		snprintf(other, sizeof(other), "%s/g", dir);
		n = rename(path, other);
		break;
	case 7:
		snprintf(path + n, 32, "%s", "new");
		n = symlink("x", path);
		break;
	case 8:
		snprintf(path + n, 32, "%s", "f1");
		return fz_err(open(path, O_RDWR | O_CLOEXEC)) < 0 ? 0 : FZ_REFUSED(t, 0, EROFS);
	case 9:
		snprintf(path + n, 32, "%s", "f1");
		n = setxattr(path, "user.x", "y", 1, 0);
		break;
	case 10:
		snprintf(path + n, 32, "%s", "f1");
		n = truncate(path, 0);
		break;
	default:
		n = rmdir(dir);
		/* Or the mount is gone, and so is the directory then. */
		if (!n)
			mkdir(dir, 0700);
		return fz_err(n);
	}
	if (!n && how != 4 && how != 7 && fz_is_mounted(volume))
		fz_fail("%s could be changed", path);
	return fz_err(n);
}

static int op_list(struct fz_task *t)
{
	unsigned int volume = fz_below(t, FZ_VOLUMES), names = 0;
	struct dirent *de;
	char dir[64];
	DIR *d;

	fz_mount_point(volume, dir);
	fz_say(t, "volume %u", volume);
	d = opendir(dir);
	if (!d)
		return -errno;
	if (fz_chance(t, 20))
		seekdir(d, fz_below(t, 40));
	while ((de = readdir(d)))
		names++;
	closedir(d);
	if (names > 4 * FZ_NAMES)
		fz_fail("%u names in volume %u", names, volume);
	return 0;
}

static int op_statfs(struct fz_task *t)
{
	unsigned int volume = fz_below(t, FZ_VOLUMES + FZ_LOCALS);
	struct statvfs s;
	char dir[64];

	fz_mount_point(volume, dir);
	return fz_err(statvfs(dir, &s));
}

/* --- mounts --- */

int fz_op_mount(struct fz_task *t, unsigned int i)
{
	int ret;

	fz_say(t, "volume %u", i);
	if (fz_is_mounted(i))
		return -EBUSY;
	ret = fz_mount(i);
	if (!ret)
		fz_count(FZ_MOUNTS, 1);
	/* Not while its cache is being bound anew. */
	return FZ_EXPECT(t, ret, ENOTCONN, EBUSY, EINTR);
}

static int op_mount(struct fz_task *t)
{
	return fz_op_mount(t, fz_below(t, FZ_VOLUMES));
}

static int op_bad_mount(struct fz_task *t)
{
	static const struct {
		const char *volume, *opts;
		int err;
	} bad[] = {
		{ "erofs,m0", "cache=nothing", ENOTCONN },
		{ "erofs,m0", "cache=main,mode=99999", EINVAL },
		{ "erofs,m0", "cache=main,nonsense", EINVAL },
		{ "a/b", "cache=main", EINVAL },
		{ "", "cache=main", EINVAL },
		{ "erofs,m0", "cache=main,uid=x", EINVAL },
	};
	unsigned int i = fz_below(t, 6);
	char dir[64];
	int ret;

	fz_mount_point(fz_below(t, FZ_VOLUMES), dir);
	fz_say(t, "%s %s", bad[i].volume, bad[i].opts);
	ret = cf_mount_od(bad[i].volume, dir, bad[i].opts);
	return FZ_REFUSED(t, ret, bad[i].err, EBUSY, ENOENT, EINTR);
}

static int op_umount(struct fz_task *t)
{
	static const int flags[] = { 0, 0, 0, MNT_FORCE, MNT_FORCE, MNT_DETACH, MNT_EXPIRE };
	unsigned int i = fz_below(t, FZ_VOLUMES + FZ_LOCALS), how = fz_below(t, 7);
	char dir[64];
	int ret;

	fz_mount_point(i, dir);
	fz_say(t, "volume %u flags %x", i, flags[how]);
	if (!fz_is_mounted(i))
		return -ENOENT;
	ret = fz_err(umount2(dir, flags[how] | UMOUNT_NOFOLLOW));
	if (!ret)
		fz_count(FZ_UMOUNTS, 1);
	return FZ_EXPECT(t, ret, EBUSY, EINVAL, EAGAIN, ENOENT);
}

/* --- everybody --- */

static int op_drop_caches(struct fz_task *t)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC), ret;

	if (fd < 0)
		return -errno;
	/* The second bit has inodes forgotten, so that they are looked up again. */
	ret = fz_err(write(fd, fz_chance(t, 50) ? "2" : "3", 1));
	close(fd);
	return ret;
}

/* Another process, or the tame daemon; the parent starts it again. */
static int op_kill(struct fz_task *t)
{
	unsigned int i = fz_below(t, fz->nr_processes + 1);
	pid_t pid = i < fz->nr_processes ? fz->pids[i] : fz->tame;

	fz_say(t, "process %u", i);
	if (pid <= 0 || pid == getpid())
		return 0;
	fz_count(i < fz->nr_processes ? FZ_KILLS : FZ_DAEMON_KILLS, 1);
	return fz_err(kill(pid, SIGKILL));
}

const struct fz_op fz_reader_ops[] = {
	{ "read",	FZ_READER, 300, op_read, true },
	{ "reread",	FZ_READER, 300, op_reread, true },
	{ "release",	FZ_READER, 80, op_release },
	{ "stat",	FZ_READER, 100, op_stat, true },
	{ "ask",	FZ_READER, 60, op_ask, true },
	{ "odd_name",	FZ_READER, 20, op_odd_name, true },
	{ "list",	FZ_READER, 15, op_list },
	{ "statfs",	FZ_READER, 15, op_statfs },
	{ "mount",	FZ_READER, 24, op_mount },
	{ "bad_mount",	FZ_READER, 6, op_bad_mount },
	{ "umount",	FZ_READER, 16, op_umount },
	{ "drop_caches", FZ_READER, 2, op_drop_caches },
	{ "kill",	FZ_READER, 1, op_kill },
	{ NULL }
};
