// SPDX-License-Identifier: GPL-2.0-only
/*
 * ondemandfs is an ordinary read-only file system whose files are what the
 * daemon says they are.
 */
#include "harness.h"
#include "lib/netfs.h"
#include "lib/task.h"

#include <dirent.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

/* Older than these calls, a libc lets the kernel's own header tell what belongs to them. */
#ifndef FSPICK_CLOEXEC
#include <linux/mount.h>
#endif

TEST_F(ondemand, mount_options)
{
	static char longest[sizeof("cache=") + 255], longer[sizeof("cache=") + 256];
	static const struct {
		const char	*opts;
		int		err;
	} o[] = {
		{ "uid=5,gid=6,mode=0640",	0 },
		{ "mode=640",			0 },
		{ "uid=x",			EINVAL },
		{ "mode=9",			EINVAL },
		{ "nonsense",			EINVAL },
		{ "nonsense=1",			EINVAL },
		{ "cache=nothere",		ENOTCONN },
		{ longest,			ENOTCONN },
		{ longer,			EINVAL },
	};
	struct cf_env *e = &self->e;
	char opts[300], volume[96], where[160];
	struct cf_reader r;
	struct cf_msg m;
	struct stat st;

	snprintf(longest, sizeof(longest), "cache=%0255d", 0);
	snprintf(longer, sizeof(longer), "cache=%0256d", 0);
	snprintf(where, sizeof(where), "%s-options", e->mnt);
	ASSERT_EQ(0, mkdir(where, 0755));
	for (size_t i = 0; i < ARRAY_SIZE(o); i++) {
		int ret;

		snprintf(volume, sizeof(volume), "%s-%zu", e->volume, i);
		if (strstr(o[i].opts, "cache="))
			snprintf(opts, sizeof(opts), "%s", o[i].opts);
		else
			snprintf(opts, sizeof(opts), "cache=%s,%s", e->tag, o[i].opts);
		ret = cf_mount_od(volume, where, opts);
		EXPECT_EQ(-o[i].err, ret) {
			TH_LOG("options \"%s\"", opts);
		}
		if (!ret && !i) {
			struct cf_env other = *e;

			strcat(other.mnt, "-options");
			ASSERT_LE(0, open_object(&other, &r, "file", 10, &m));
			snprintf(opts, sizeof(opts), "%s/file", where);
			ASSERT_EQ(0, stat(opts, &st));
			EXPECT_EQ(5, st.st_uid);
			EXPECT_EQ(6, st.st_gid);
			EXPECT_EQ(S_IFREG | 0640, st.st_mode);
		}
		if (!ret) {
			EXPECT_LE(0, cf_umount(where, 0, PROMPT));
		}
	}
	rmdir(where);
}

/* Where @where is mounted: the options of its file system, as the kernel shows them. */
static int shown_options(const char *where, char *opts, size_t size)
{
	FILE *f = fopen("/proc/self/mounts", "re");
	char line[1024], dir[256], shown[512];
	int ret = -ENOENT;

	if (!f)
		return -errno;
	while (ret && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*s %255s ondemandfs %511s", dir, shown) != 2 ||
		    strcmp(dir, where))
			continue;
		snprintf(opts, size, "%s", shown);
		ret = 0;
	}
	fclose(f);
	return ret;
}

/* What was asked for is what is shown, and what a remount neither changes nor denies. */
TEST_F(ondemand, shown_options)
{
	struct cf_env *e = &self->e;
	char opts[400], shown[512], again[512], volume[96], where[160], tag[300];

	ASSERT_EQ(0, shown_options(e->mnt, shown, sizeof(shown)));
	snprintf(opts, sizeof(opts), "ro,relatime,cache=%s", e->tag);
	EXPECT_STREQ(opts, shown);

	snprintf(where, sizeof(where), "%s-shown", e->mnt);
	ASSERT_EQ(0, mkdir(where, 0755));
	snprintf(volume, sizeof(volume), "%s-shown", e->volume);
	snprintf(opts, sizeof(opts), "cache=%s,uid=5,gid=6,mode=0640", e->tag);
	ASSERT_EQ(0, cf_mount_od(volume, where, opts));
	ASSERT_EQ(0, shown_options(where, shown, sizeof(shown)));
	EXPECT_NE(NULL, strstr(shown, opts)) {
		TH_LOG("shown: %s", shown);
	}

	EXPECT_EQ(0, mount(NULL, where, NULL, MS_REMOUNT | MS_RDONLY, opts));
	EXPECT_EQ(0, mount(NULL, where, NULL, MS_REMOUNT | MS_RDONLY, NULL));
	snprintf(opts, sizeof(opts), "cache=%s,mode=0600", e->tag);
	EXPECT_EQ(-1, mount(NULL, where, NULL, MS_REMOUNT | MS_RDONLY, opts));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, mount(NULL, where, NULL, MS_REMOUNT | MS_RDONLY, "uid=7"));
	EXPECT_EQ(EINVAL, errno);
	ASSERT_EQ(0, shown_options(where, again, sizeof(again)));
	EXPECT_STREQ(shown, again);
	EXPECT_LE(0, cf_umount(where, 0, PROMPT));

	snprintf(opts, sizeof(opts), "cache=%s,mode=1755", e->tag);
	EXPECT_EQ(-EINVAL, cf_mount_od(volume, where, opts));
	memset(tag, 't', sizeof(tag));
	tag[256] = '\0';
	snprintf(opts, sizeof(opts), "cache=%s", tag);
	EXPECT_EQ(-EINVAL, cf_mount_od(volume, where, opts));
	rmdir(where);
}

/* A change of nothing is none, as long as nobody asks for writing. */
TEST_F(ondemand, reconfigured)
{
	struct cf_env *e = &self->e;
	int fd;

	fd = syscall(SYS_fspick, AT_FDCWD, e->mnt, FSPICK_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, syscall(SYS_fsconfig, fd, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0)) {
		TH_LOG("errno %d", errno);
	}
	EXPECT_EQ(0, syscall(SYS_fsconfig, fd, FSCONFIG_SET_FLAG, "ro", NULL, 0));
	EXPECT_EQ(0, syscall(SYS_fsconfig, fd, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0));
	EXPECT_EQ(0, syscall(SYS_fsconfig, fd, FSCONFIG_SET_FLAG, "rw", NULL, 0));
	EXPECT_EQ(-1, syscall(SYS_fsconfig, fd, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0));
	EXPECT_EQ(EROFS, errno);
	close(fd);
}

/* How far to read ahead can be set where the number of the mount leads to. */
TEST_F(ondemand, read_ahead)
{
	struct cf_env *e = &self->e;
	char path[80], kb[16];
	struct stat st;

	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, stat(e->mnt, &st));
		snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb",
			 major(st.st_dev), minor(st.st_dev));
		ASSERT_LT(0, cf_read_file(path, kb, sizeof(kb)));
		EXPECT_STREQ("1024\n", kb);
		ASSERT_EQ(0, cf_write_file(path, "256"));
		ASSERT_LT(0, cf_read_file(path, kb, sizeof(kb)));
		EXPECT_STREQ("256\n", kb);

		/* The next mount has that number again. */
		ASSERT_LE(0, cf_env_umount(e, PROMPT));
		EXPECT_EQ(-1, access(path, F_OK));
		ASSERT_EQ(0, cf_env_mount(e));
	}
}

TEST_F(ondemand, volume_names)
{
	struct cf_env *e = &self->e;
	char opts[96], longname[300], where[160];

	snprintf(where, sizeof(where), "%s-names", e->mnt);
	ASSERT_EQ(0, mkdir(where, 0755));
	snprintf(opts, sizeof(opts), "cache=%s", e->tag);
	EXPECT_EQ(-EINVAL, cf_mount_od("a/b", where, opts));
	EXPECT_EQ(-EINVAL, cf_mount_od("", where, opts));
	memset(longname, 'v', sizeof(longname));
	longname[255] = '\0';
	EXPECT_EQ(-EINVAL, cf_mount_od(longname, where, opts));
	rmdir(where);
}

TEST_F(device, no_cache)
{
	struct cf_env *e = &self->e;

	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	EXPECT_EQ(-ENOTCONN, cf_env_mount(e));
}

/* The same volume mounted twice is one file system. */
TEST_F(ondemand, mounted_twice)
{
	struct cf_env *e = &self->e;
	struct stat a, b;
	char where[160], path[200], opts[96];
	struct cf_reader r;
	struct cf_msg m;

	ASSERT_LE(0, open_object(e, &r, "file", 10, &m));
	snprintf(where, sizeof(where), "%s-twice", e->mnt);
	ASSERT_EQ(0, mkdir(where, 0755));
	snprintf(opts, sizeof(opts), "cache=%s", e->tag);
	ASSERT_EQ(0, cf_mount_od(e->volume, where, opts));
	snprintf(path, sizeof(path), "%s/file", where);
	EXPECT_EQ(0, stat(path, &a));
	snprintf(path, sizeof(path), "%s/file", e->mnt);
	EXPECT_EQ(0, stat(path, &b));
	EXPECT_EQ(a.st_dev, b.st_dev);
	EXPECT_EQ(a.st_ino, b.st_ino);
	EXPECT_EQ(1, cf_idle(e->dev));
	EXPECT_LE(0, cf_umount(where, 0, PROMPT));

	/* What it is like has been settled by the first one. */
	strcat(opts, ",mode=0400");
	EXPECT_EQ(-EBUSY, cf_mount_od(e->volume, where, opts));
	EXPECT_EQ(0, stat(path, &b));
	EXPECT_EQ(S_IFREG | 0444, b.st_mode);
	rmdir(where);
}

TEST_F(ondemand, read_only)
{
	struct cf_env *e = &self->e;
	struct cf_reader r;
	struct cf_msg m;
	char path[160];

	ASSERT_LE(0, open_object(e, &r, "file", 10, &m));
	snprintf(path, sizeof(path), "%s/file", e->mnt);
	EXPECT_EQ(-1, open(path, O_RDWR));
	EXPECT_EQ(EROFS, errno);
	EXPECT_EQ(-1, truncate(path, 0));
	EXPECT_EQ(EROFS, errno);
	EXPECT_EQ(-1, unlink(path));
	EXPECT_EQ(EROFS, errno);
	EXPECT_EQ(-1, chmod(path, 0));
	EXPECT_EQ(EROFS, errno);
	EXPECT_EQ(-1, mount(NULL, e->mnt, NULL, MS_REMOUNT, NULL));
	EXPECT_EQ(EROFS, errno);
}

TEST_F(ondemand, attributes)
{
	struct cf_env *e = &self->e;
	struct statfs sfs;
	struct cf_reader r;
	struct cf_msg m;
	char path[400];
	struct stat st;

	ASSERT_LE(0, open_object(e, &r, "file", 10000, &m));
	snprintf(path, sizeof(path), "%s/file", e->mnt);
	ASSERT_EQ(0, stat(path, &st));
	EXPECT_EQ(10000, st.st_size);
	EXPECT_EQ(S_IFREG | 0444, st.st_mode);
	EXPECT_EQ(1, st.st_nlink);
	EXPECT_EQ(4096, st.st_blksize);
	ASSERT_EQ(0, stat(e->mnt, &st));
	EXPECT_EQ(S_IFDIR | 0555, st.st_mode);
	ASSERT_EQ(0, statfs(e->mnt, &sfs));
	EXPECT_EQ(255, sfs.f_namelen);
	EXPECT_EQ(4096, sfs.f_bsize);
	snprintf(path, sizeof(path), "%s/%0256d", e->mnt, 0);
	EXPECT_EQ(-1, stat(path, &st));
	EXPECT_EQ(ENAMETOOLONG, errno);
}

/* The directory lists what is open now. */
TEST_F(ondemand, directory)
{
	struct cf_env *e = &self->e;
	bool seen[20] = { false };
	int dots = 0, other = 0;
	struct dirent *de;
	struct cf_reader r;
	struct cf_msg m;
	char name[16];
	DIR *d;

	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		ASSERT_LE(0, open_object(e, &r, name, i, &m));
	}
	d = opendir(e->mnt);
	ASSERT_NE(NULL, d);
	while ((de = readdir(d))) {
		if (de->d_name[0] == '.') {
			dots++;
		} else if (de->d_name[0] == 'f' && atoi(de->d_name + 1) < 20) {
			EXPECT_FALSE(seen[atoi(de->d_name + 1)]);
			seen[atoi(de->d_name + 1)] = true;
		} else {
			other++;
		}
	}
	closedir(d);
	EXPECT_EQ(2, dots);
	EXPECT_EQ(0, other);
	for (int i = 0; i < 20; i++) {
		EXPECT_TRUE(seen[i]);
	}
	EXPECT_EQ(1, cf_idle(e->dev));
}

/* It does so however little is asked for at a time. */
TEST_F(ondemand, directory_in_steps)
{
	enum { FILES = 20 };
	struct cf_env *e = &self->e;
	unsigned int seen = 0, dots = 0;
	struct dirent64 de;
	struct cf_reader r;
	struct cf_msg m;
	char name[16];
	ssize_t n;
	int fd;

	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		ASSERT_LE(0, open_object(e, &r, name, i, &m));
	}
	fd = open(e->mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	/* Too little for any name; what is asked for next is the same one. */
	EXPECT_EQ(-1, getdents64(fd, &de, 20));
	EXPECT_EQ(EINVAL, errno);
	/* Enough for one, and not for two. */
	while ((n = getdents64(fd, &de, 32)) > 0) {
		ASSERT_EQ(de.d_reclen, n);
		if (de.d_name[0] == '.') {
			dots++;
			continue;
		}
		ASSERT_EQ('f', de.d_name[0]);
		ASSERT_GT(FILES, atoi(de.d_name + 1));
		EXPECT_EQ(0, seen & 1U << atoi(de.d_name + 1));
		seen |= 1U << atoi(de.d_name + 1);
		/* In between, too; after the last one nothing is too little. */
		if (seen != (1U << FILES) - 1) {
			ASSERT_EQ(-1, getdents64(fd, &de, 20));
			ASSERT_EQ(EINVAL, errno);
		}
	}
	EXPECT_EQ(0, n);
	EXPECT_EQ(2, dots);
	EXPECT_EQ((1U << FILES) - 1, seen);

	/* No number is as high as that. */
	ASSERT_EQ(1LL << 32, lseek(fd, 1LL << 32, SEEK_SET));
	EXPECT_EQ(0, getdents64(fd, &de, sizeof(de)));
	close(fd);
}

TEST_F(ondemand, ways_to_read)
{
	struct cf_env *e = &self->e;
	enum { SIZE = 300000 };
	static unsigned char buf[SIZE + 4096] __attribute__((aligned(4096)));
	char path[160];
	int fd, out, p[2];
	ssize_t n, got = 0;
	void *map;

	ASSERT_NE(NULL, cf_server_add(&self->s, "file", SIZE, 4));
	ASSERT_EQ(0, cf_server_thread(&self->s));
	snprintf(path, sizeof(path), "%s/file", e->mnt);

	/* Through a pipe. */
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, pipe2(p, O_CLOEXEC));
	while ((n = splice(fd, NULL, p[1], NULL, 65536, 0)) > 0) {
		for (ssize_t k; n > 0; n -= k, got += k) {
			k = read(p[0], buf + got, n);
			ASSERT_LT(0, k);
		}
	}
	EXPECT_EQ(SIZE, got);
	EXPECT_EQ(-1, cf_differs(4, 0, buf, SIZE));

	/* From file to file. */
	out = memfd_create("out", MFD_CLOEXEC);
	ASSERT_LE(0, out);
	ASSERT_EQ(0, lseek(fd, 0, SEEK_SET));
	got = 0;
	while ((n = sendfile(out, fd, NULL, SIZE)) > 0)
		got += n;
	EXPECT_EQ(SIZE, got);
	memset(buf, 0, sizeof(buf));
	EXPECT_EQ(SIZE, pread(out, buf, SIZE, 0));
	EXPECT_EQ(-1, cf_differs(4, 0, buf, SIZE));

	/* Mapped, with zeros behind the end. */
	map = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(-1, cf_differs(4, 0, map, SIZE));
	for (int i = SIZE; i < (SIZE + 4095) / 4096 * 4096; i++) {
		ASSERT_EQ(0, ((unsigned char *)map)[i]);
	}
	EXPECT_EQ(MAP_FAILED, mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	munmap(map, SIZE);
	close(fd);

	/* Without the page cache, as far as the caller is concerned. */
	fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	ASSERT_LE(0, fd);
	memset(buf, 0, sizeof(buf));
	EXPECT_EQ(SIZE, read(fd, buf, SIZE + 4096));
	EXPECT_EQ(-1, cf_differs(4, 0, buf, SIZE));
	EXPECT_EQ(0, read(fd, buf, 4096));
	close(fd);
}

/* Another cache may have left anything behind the end of a file: a mapping has zeros there. */
TEST_F(ondemand, zeros_behind_the_end)
{
	enum { SIZE = 100 };
	char path[512], other[4096 - SIZE];
	struct cf_env *e = &self->e;
	struct cf_reader r;
	struct cf_msg m;
	char *map;
	int fd;

	fd = open_object(e, &r, "file", SIZE, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(4096, cf_fill(fd, 1, 0, 4096, SIZE));
	ASSERT_LE(0, cf_env_umount(e, LONG));
	close(fd);
	close(e->dev);
	ASSERT_EQ(0, cf_nf_path(e->dir, e->volume, "file", 4, path, sizeof(path)));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	memset(other, 0xee, sizeof(other));
	ASSERT_EQ((ssize_t)sizeof(other), pwrite(fd, other, sizeof(other), SIZE));
	close(fd);

	e->dev = cf_device();
	ASSERT_LE(0, e->dev);
	ASSERT_EQ(0, cf_env_bind(e));
	ASSERT_EQ(0, cf_env_mount(e));
	fd = open_object(e, &r, "file", SIZE, &m);
	ASSERT_LE(0, fd);
	snprintf(path, sizeof(path), "%s/file", e->mnt);
	close(fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	map = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_EQ(-1, cf_differs(1, 0, map, SIZE));
	for (int i = SIZE; i < 4096; i++) {
		ASSERT_EQ(0, map[i]);
	}
	munmap(map, SIZE);
	close(fd);
}

/*
 * The file system that the cache is on takes what is mapped here: its lock is held then,
 * and the fault has the cache read.  Lockdep would have a word if both were of one class.
 */
TEST_F(ondemand, written_from_a_mapping)
{
	struct cf_env *e = &self->e;
	enum { SIZE = 64 << 10 };
	static unsigned char buf[SIZE];
	char path[160];
	void *map;
	int fd, to;

	ASSERT_NE(NULL, cf_server_add(&self->s, "file", SIZE, 11));
	ASSERT_EQ(0, cf_server_thread(&self->s));
	snprintf(path, sizeof(path), "%s/file", e->mnt);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	to = open(CF_STORE "/copy", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ASSERT_LE(0, to);
	ASSERT_EQ(0, unlink(CF_STORE "/copy"));

	/* What has to be fetched, and what the cache has. */
	for (int i = 0; i < 2; i++) {
		map = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
		ASSERT_NE(MAP_FAILED, map);
		EXPECT_EQ(SIZE, pwrite(to, map, SIZE, 0));
		EXPECT_EQ(SIZE, pread(to, buf, SIZE, 0));
		EXPECT_EQ(-1, cf_differs(11, 0, buf, SIZE));
		munmap(map, SIZE);
		ASSERT_EQ(0, posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
		ASSERT_EQ(0, ftruncate(to, 0));
	}
	close(to);
	close(fd);
}

/* A file that is open while its name is dropped is the same file when asked again. */
TEST_F(ondemand, dropped_name)
{
	struct cf_env *e = &self->e;
	struct stat a, b;
	char path[160];
	int fd;

	ASSERT_NE(NULL, cf_server_add(&self->s, "file", 10000, 4));
	ASSERT_EQ(0, cf_server_thread(&self->s));
	snprintf(path, sizeof(path), "%s/file", e->mnt);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, fstat(fd, &a));
	for (int i = 0; i < 5; i++) {
		ASSERT_EQ(0, cf_drop_caches("3"));
		ASSERT_EQ(0, stat(path, &b));
		EXPECT_EQ(a.st_ino, b.st_ino);
	}
	EXPECT_EQ(1, self->s.stats->opens);
	close(fd);
}

/* Files that nobody uses go under memory pressure, and come again. */
TEST_F(ondemand, evicted)
{
	struct cf_env *e = &self->e;
	char path[160];
	struct stat st;

	ASSERT_NE(NULL, cf_server_add(&self->s, "file", 10000, 4));
	ASSERT_EQ(0, cf_server_thread(&self->s));
	snprintf(path, sizeof(path), "%s/file", e->mnt);
	for (int i = 0; i < 20; i++) {
		ASSERT_EQ(0, stat(path, &st));
		EXPECT_EQ(10000, st.st_size);
		EXPECT_EQ(10000, read_here(e, "file", 4, 0, 20000));
		ASSERT_EQ(0, cf_drop_caches("3"));
	}
	EXPECT_EQ(0, self->s.stats->refused);
	EXPECT_EQ(0, self->s.stats->odd);
}

struct aborts {
	const char	*where;
	int		stop;
};

static int keep_aborting(void *arg)
{
	struct aborts *a = arg;

	/* Somebody has the root directory open: it never goes through. */
	while (!__atomic_load_n(&a->stop, __ATOMIC_RELAXED)) {
		if (!umount2(a->where, MNT_FORCE) || errno != EBUSY)
			return -EPROTO;
	}
	return 0;
}

/*
 * A look-up that was ended by force has left nothing behind: the next one of the same name
 * ends the same way, however many are just having a look at what there is to be ended.
 */
TEST_F(ondemand, aborted_lookups)
{
	struct cf_env *e = &self->e;
	struct aborts a = { .where = e->mnt };
	int root, ret, lookups = 0, odd = 0;
	struct cf_task t[3];
	char path[160];
	long long end;
	struct stat st;

	root = open(e->mnt, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_LE(0, root);
	snprintf(path, sizeof(path), "%s/file", e->mnt);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		ASSERT_EQ(0, cf_task_start(&t[i], keep_aborting, &a));
	}
	for (end = cf_now() + cf_ms(PROMPT); cf_now() < end; lookups++) {
		if (!stat(path, &st) || errno != EIO)
			odd++;
	}
	__atomic_store_n(&a.stop, 1, __ATOMIC_RELAXED);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		ASSERT_EQ(0, cf_task_wait(&t[i], &ret, LONG));
		EXPECT_EQ(0, ret);
	}
	EXPECT_EQ(0, odd) {
		TH_LOG("%d of %d look-ups", odd, lookups);
	}
	close(root);
}

/* An EROFS image in a cached file, mounted straight from it. */
TEST_F(ondemand, erofs)
{
	static char image[1 << 20], got[1 << 16], want[1 << 16];
	static const char *const files[] = { "cache.c", "daemon.c", "daemon.h" };
	struct cf_env *e = &self->e;
	char where[160], path[300];
	struct cf_reader r;
	struct cf_msg m;
	int file, fd, n;

	file = open("erofs.img", O_RDONLY | O_CLOEXEC);
	n = file < 0 ? 0 : (int)read(file, image, sizeof(image));
	if (n <= 0)
		SKIP(return, "no erofs.img (mkfs.erofs at build time)");
	close(file);
	if (!cf_have_fs("erofs"))
		SKIP(return, "no erofs");
	snprintf(where, sizeof(where), "%s-erofs", e->mnt);
	ASSERT_EQ(0, mkdir(where, 0755));
	fd = open_object(e, &r, "image", n, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ((n + 4095) / 4096 * 4096,
		  pwrite(fd, image, (n + 4095) / 4096 * 4096, 0));
	snprintf(path, sizeof(path), "%s/image", e->mnt);
	if (mount(path, where, "erofs", MS_RDONLY, NULL)) {
		if (errno == ENOTBLK)
			SKIP(return, "no CONFIG_EROFS_FS_BACKED_BY_FILE");
		ASSERT_EQ(0, errno);
	}
	for (int i = 0; i < 3; i++) {
		int a, b;

		snprintf(path, sizeof(path), "%s/%s", where, files[i]);
		a = cf_read_file(path, got, sizeof(got));
		snprintf(path, sizeof(path), "lib/%s", files[i]);
		b = cf_read_file(path, want, sizeof(want));
		ASSERT_LT(0, b);
		ASSERT_EQ(b, a);
		EXPECT_EQ(0, memcmp(got, want, b));
	}
	EXPECT_LE(0, cf_umount(where, 0, PROMPT));
	EXPECT_EQ(1, cf_idle(e->dev));
	rmdir(where);
}

TEST_HARNESS_MAIN
