// SPDX-License-Identifier: GPL-2.0-only
/* Surroundings of a test; see cache.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/loop.h>

#include "cache.h"
#include "daemon.h"

#define STORE_IMAGE	CF_BASE "/store.img"
#define STORE_SIZE	(1ULL << 30)

char cf_why[256];
static pid_t world_owner;

static int because(int err, const char *what)
{
	snprintf(cf_why, sizeof(cf_why), "%s: %s", what, strerror(err));
	return -err;
}

/* Run a program with its output thrown away: exit status, or -errno. */
int cf_run(int ms, const char *const argv[])
{
	int status, fd, ret;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (!pid) {
		fd = open("/dev/null", O_RDWR);
		if (fd >= 0) {
			dup2(fd, 0);
			dup2(fd, 1);
			dup2(fd, 2);
		}
		cf_close_others(NULL, 0);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	fd = cf_pidfd(pid);
	ret = fd < 0 ? fd : cf_poll(fd, POLLIN, cf_ms(ms));
	if (fd >= 0)
		close(fd);
	if (ret <= 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return ret ? ret : -ETIMEDOUT;
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

int cf_read_file(const char *path, char *buf, size_t size)
{
	size_t got = 0;
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	while (got < size - 1) {
		n = read(fd, buf + got, size - 1 - got);
		if (n <= 0)
			break;
		got += n;
	}
	buf[got] = '\0';
	close(fd);
	return (int)got;
}

int cf_write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n, len = (ssize_t)strlen(text);
	int ret;

	if (fd < 0)
		return -errno;
	n = write(fd, text, len);
	ret = n == len ? 0 : n < 0 ? -errno : -EIO;
	close(fd);
	return ret;
}

/* Whether the kernel knows the file system, loading its module if need be. */
int cf_have_fs(const char *name)
{
	char buf[8192], want[64];

	for (int i = 0; i < 2; i++) {
		const char *const argv[] = { "modprobe", name, NULL };

		if (cf_read_file("/proc/filesystems", buf, sizeof(buf)) < 0)
			return 0;
		snprintf(want, sizeof(want), "\t%s\n", name);
		if (strstr(buf, want))
			return 1;
		if (!i)
			cf_run(20000, argv);
	}
	return 0;
}

/* Not any file will do: one in memory need not be readable for the kernel. */
bool cf_have_erofs_on_files(void)
{
	static const char path[] = CF_STORE "/no-image";
	bool have = false;
	int fd;

	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	/* That it is no image is found out only when it is read. */
	if (cf_have_fs("erofs") && !ftruncate(fd, 65536))
		have = mount(path, CF_STORE, "erofs", MS_RDONLY, NULL) && errno != ENOTBLK;
	close(fd);
	unlink(path);
	return have;
}

/* A loop device on @image that goes away with its last user: its descriptor. */
static int loop_open(const char *image, char name[32])
{
	struct loop_config cfg = { .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	int ctl, nr, dev, ret;

	ctl = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (ctl < 0)
		return -errno;
	cfg.fd = open(image, O_RDWR | O_CLOEXEC);
	if (cfg.fd == (unsigned int)-1) {
		ret = -errno;
		goto out_ctl;
	}
	/* Somebody else may take the free one first: ask again then. */
	for (int i = 0; i < 16; i++) {
		nr = ioctl(ctl, LOOP_CTL_GET_FREE);
		ret = -errno;
		if (nr < 0)
			break;
		snprintf(name, 32, "/dev/loop%d", nr);
		dev = open(name, O_RDWR | O_CLOEXEC);
		ret = -errno;
		if (dev < 0)
			break;
		if (!ioctl(dev, LOOP_CONFIGURE, &cfg)) {
			ret = dev;
			break;
		}
		ret = -errno;
		close(dev);
		if (ret != -EBUSY)
			break;
	}
	close(cfg.fd);
out_ctl:
	close(ctl);
	return ret;
}

/* Make an ext4, xfs or btrfs of @size bytes in @image and mount it on @where. */
int cf_store(const char *image, __u64 size, const char *where, const char *fstype)
{
	/* Nothing is to go on by itself: a thread in the middle of it can't be frozen. */
	static const char quiet[] = "noinit_itable,no_prefetch_block_bitmaps";
	bool is_ext4 = !strcmp(fstype, "ext4");
	char mkfs[32], loop[32];
	const char *const ext4[] = { mkfs, "-q", "-F", "-m", "0", "-E",
				     "lazy_itable_init=1,nodiscard", image, NULL };
	const char *const others[] = { mkfs, "-q", "-f", "-K", image, NULL };
	int fd, ret;

	if (mkdir(where, 0755))
		return because(errno, where);
	fd = open(image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)size))
		return because(errno, image);
	close(fd);
	snprintf(mkfs, sizeof(mkfs), "mkfs.%s", fstype);
	ret = cf_run(60000, is_ext4 ? ext4 : others);
	if (ret)
		return because(ret < 0 ? -ret : ENOEXEC, mkfs);
	fd = loop_open(image, loop);
	if (fd < 0)
		return because(-fd, "loop device");
	ret = mount(loop, where, fstype, MS_NOATIME, is_ext4 ? quiet : NULL) ? errno : 0;
	close(fd);
	if (ret)
		return because(ret, "mounting the store");
	return 0;
}

/* Let every write to the ext4 on @where fail with EIO from now on. */
int cf_store_break(const char *where)
{
	__u32 flags = 2;	/* at once, nothing is flushed */
	int fd = open(where, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	ret = ioctl(fd, _IOR('X', 125, __u32), &flags) ? -errno : 0;
	close(fd);
	return ret;
}

/* Make the backing store of the program; 0, or a reason to skip in cf_why. */
int cf_world_init(const char *fstype)
{
	const char *const load[] = { "modprobe", "cachefiles", NULL };
	const char *const loadloop[] = { "modprobe", "loop", NULL };

	world_owner = getpid();
	if (geteuid())
		return because(EPERM, "needs root");
	if (access(CF_DEVICE, F_OK))
		cf_run(20000, load);
	if (access(CF_DEVICE, F_OK))
		return because(errno, "no " CF_DEVICE " (CONFIG_CACHEFILES)");
	if (access("/dev/loop-control", F_OK))
		cf_run(20000, loadloop);
	if (!cf_have_fs(fstype))
		return because(ENODEV, fstype);
	if (mkdir(CF_BASE, 0755) && errno != EEXIST)
		return because(errno, CF_BASE);
	if (unshare(CLONE_NEWNS))
		return because(errno, "mount namespace");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return because(errno, "private mounts");
	if (mount("tmpfs", CF_BASE, "tmpfs", 0, "size=75%"))
		return because(errno, "tmpfs");
	return cf_store(STORE_IMAGE, STORE_SIZE, CF_STORE, fstype);
}

/* How many loop devices have their images in the file system of @st. */
static int loops_on(const struct stat *st)
{
	/* As the kernel writes the number of a device. */
	__u64 dev = (minor(st->st_dev) & 0xff) | (__u64)major(st->st_dev) << 8 |
		    (__u64)(minor(st->st_dev) & ~0xffU) << 12;
	struct loop_info64 info;
	char path[300];
	struct dirent *de;
	int nr = 0, fd;
	DIR *d = opendir("/sys/block");

	while (d && (de = readdir(d))) {
		if (strncmp(de->d_name, "loop", 4))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", de->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		nr += !ioctl(fd, LOOP_GET_STATUS64, &info) && info.lo_device == dev;
		close(fd);
	}
	if (d)
		closedir(d);
	return nr;
}

bool cf_world_exit(void)
{
	long long end = cf_now() + cf_ms(10000);
	struct stat st;
	bool left;

	if (getpid() != world_owner || umount2(CF_STORE, MNT_DETACH) || stat(CF_BASE, &st))
		return false;
	while ((left = loops_on(&st)) && cf_now() < end)
		poll(NULL, 0, 20);
	umount2(CF_BASE, MNT_DETACH);
	rmdir(CF_BASE);
	return left;
}

/* --- one test --- */

int cf_env_init(struct cf_env *e)
{
	pid_t pid = getpid();

	memset(e, 0, sizeof(*e));
	e->dev = -1;
	/* Mounts of a test that is cut short go with its processes. */
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return -errno;
	snprintf(e->dir, sizeof(e->dir), CF_STORE "/c%d", pid);
	snprintf(e->mnt, sizeof(e->mnt), CF_BASE "/m%d", pid);
	snprintf(e->tag, sizeof(e->tag), "t%d", pid);
	snprintf(e->volume, sizeof(e->volume), "erofs,v%d", pid);
	if (mkdir(e->dir, 0700) || mkdir(e->mnt, 0755))
		return -errno;
	e->dev = cf_device();
	return e->dev < 0 ? e->dev : 0;
}

/* Let the cache directory be a file system that no other test uses. */
int cf_env_store(struct cf_env *e, __u64 size, const char *fstype)
{
	char image[160];
	int ret;

	snprintf(e->dir, sizeof(e->dir), CF_BASE "/s%d", getpid());
	snprintf(image, sizeof(image), "%s.img", e->dir);
	ret = cf_store(image, size, e->dir, fstype);
	unlink(image);
	return ret;
}

int cf_env_bind(struct cf_env *e)
{
	return cf_bind(e->dev, e->dir, e->tag);
}

/* End the cache and bind a new one with the same directory and tag. */
int cf_env_rebind(struct cf_env *e)
{
	close(e->dev);
	e->dev = cf_device();
	return e->dev < 0 ? e->dev : cf_env_bind(e);
}

/* The same in original mode, a cache for network file systems. */
int cf_env_bind_original(struct cf_env *e)
{
	int ret = cf_cmd(e->dev, "dir %s", e->dir);

	if (!ret)
		ret = cf_cmd(e->dev, "tag %s", e->tag);
	return ret ? ret : cf_cmd(e->dev, "bind");
}

int cf_env_rebind_original(struct cf_env *e)
{
	close(e->dev);
	e->dev = cf_device();
	return e->dev < 0 ? e->dev : cf_env_bind_original(e);
}

/* Read the line and see that it is exactly what it has to be: -EPROTO if it is not. */
int cf_statistics(int dev, struct cf_statistics *s)
{
	struct {
		const char		*name;
		unsigned long long	*value;
	} fields[] = {
		{ "cull", &s->cull },
		{ "frun", &s->frun }, { "fcull", &s->fcull }, { "fstop", &s->fstop },
		{ "brun", &s->brun }, { "bcull", &s->bcull }, { "bstop", &s->bstop },
		{ "freleased", &s->freleased }, { "breleased", &s->breleased },
		{ NULL }
	}, *f;
	char line[4096], again[64], *p = line;
	ssize_t n = read(dev, line, sizeof(line) - 1);
	int len;

	if (n < 0)
		return -errno;
	line[n] = '\0';
	for (f = fields; f->name; f++) {
		const char *equals = strchr(p, '=');

		if (!equals || sscanf(equals, "=%llx", f->value) != 1)
			return -EPROTO;
		len = snprintf(again, sizeof(again), "%s%s=%llx", f == fields ? "" : " ", f->name,
			       *f->value);
		if (strncmp(p, again, len))
			return -EPROTO;
		p += len;
	}
	return p == line + n && s->cull < 2 ? 0 : -EPROTO;
}

/* 1: no space, 2: I/O errors; of all caches. -ENOENT if the module can't do that. */
int cf_error_injection(unsigned int bits)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", bits);
	return cf_write_file("/proc/sys/cachefiles/error_injection", text);
}

int cf_mount_od(const char *volume, const char *where, const char *opts)
{
	if (!mount(volume, where, "ondemandfs", MS_RDONLY, opts))
		return 0;
	return -errno;
}

int cf_env_mount(struct cf_env *e)
{
	char opts[96];
	int ret;

	snprintf(opts, sizeof(opts), "cache=%s", e->tag);
	ret = cf_mount_od(e->volume, e->mnt, opts);
	e->mounted = !ret;
	return ret;
}

struct umount_args {
	const char	*where;
	int		flags;
};

static int do_umount(void *arg)
{
	struct umount_args *a = arg;

	return umount2(a->where, a->flags) ? errno : 0;
}

/* Unmount in a child: milliseconds it took, -errno, or -ETIMEDOUT. */
int cf_umount(const char *where, int flags, int ms)
{
	struct umount_args a = { .where = where, .flags = flags };
	struct cf_result res;
	struct cf_reader r;
	int ret;

	ret = cf_child(&r, do_umount, &a);
	if (ret)
		return ret;
	ret = cf_reader_wait(&r, &res, ms);
	if (ret)
		return ret;
	return res.err ? -res.err : (int)res.ms;
}

int cf_umount_idle(const char *where, int ms)
{
	long long end = cf_now() + cf_ms(ms);
	int ret;

	do {
		ret = cf_umount(where, 0, ms);
	} while (ret == -EBUSY && cf_now() < end && !poll(NULL, 0, 10));
	return ret < 0 ? ret : 0;
}

int cf_env_umount(struct cf_env *e, int ms)
{
	int ret = cf_umount(e->mnt, 0, ms);

	if (ret >= 0)
		e->mounted = false;
	return ret;
}

int cf_env_exit(struct cf_env *e)
{
	int ret = 0;

	if (e->dev >= 0)
		close(e->dev);
	if (e->mounted)
		ret = cf_umount(e->mnt, MNT_FORCE, 5000);
	rmdir(e->mnt);
	return ret;
}

int cf_drop_caches(const char *what)
{
	return cf_write_file("/proc/sys/vm/drop_caches", what);
}

/* Call @fn for every non-directory below @dir: the number of those it took (0). */
long cf_tree_count(const char *dir, int (*fn)(const char *path, void *arg), void *arg)
{
	struct dirent *de;
	char path[1024];
	struct stat st;
	long nr = 0;
	DIR *d = opendir(dir);

	if (!d)
		return -errno;
	while ((de = readdir(d))) {
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, de->d_name);
		if (lstat(path, &st))
			continue;
		if (S_ISDIR(st.st_mode))
			nr += cf_tree_count(path, fn, arg);
		else
			nr += fn(path, arg) == 0;
	}
	closedir(d);
	return nr;
}

/* --- readers --- */

/* Returns when the child has let go of all descriptors it inherited, but for @keep. */
static int child_start(struct cf_reader *r, int out[2], int keep)
{
	int keeps[2];
	char ready = 0;

	if (pipe2(out, O_CLOEXEC))
		return -errno;
	r->pid = fork();
	if (r->pid < 0) {
		close(out[0]);
		close(out[1]);
		return -errno;
	}
	if (!r->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		keeps[0] = keep < out[1] ? keep : out[1];
		keeps[1] = keep < out[1] ? out[1] : keep;
		cf_close_others(keep < 0 ? keeps + 1 : keeps, keep < 0 ? 1 : 2);
		if (write(out[1], &ready, 1) != 1)
			_exit(1);
		return 0;
	}
	close(out[1]);
	r->pipe = out[0];
	if (read(r->pipe, &ready, 1) != 1)
		return -EPIPE;
	r->pidfd = cf_pidfd(r->pid);
	return r->pidfd < 0 ? r->pidfd : 1;
}

static void child_report(int fd, struct cf_result *res, long long since, bool stays)
{
	ssize_t n;

	res->ms = cf_now() - since;
	n = write(fd, res, sizeof(*res));
	if (stays)
		pause();
	_exit(n == sizeof(*res) ? 0 : 1);
}

int cf_child(struct cf_reader *r, int (*fn)(void *arg), void *arg)
{
	return cf_child_with(r, -1, fn, arg);
}

int cf_child_with(struct cf_reader *r, int fd, int (*fn)(void *arg), void *arg)
{
	struct cf_result res = { .stage = 'd', .bad = -1 };
	long long start;
	int out[2], ret;

	ret = child_start(r, out, fd);
	if (ret)
		return ret < 0 ? ret : 0;
	start = cf_now();
	res.err = fn(arg);
	child_report(out[1], &res, start, false);
	return 0;
}

static void read_mapped(int fd, const struct cf_job *job, struct cf_result *res)
{
	__u64 start = job->off / CF_BLOCK * CF_BLOCK;
	char *p = mmap(NULL, job->off - start + job->len, PROT_READ, MAP_SHARED, fd, start);

	if (p == MAP_FAILED) {
		res->err = errno;
		return;
	}
	if (!job->sequential)
		madvise(p, job->off - start + job->len, MADV_RANDOM);
	res->bad = cf_differs(job->seed, job->off, p + (job->off - start), job->len);
	res->n = job->len;
}

static void read_plain(int fd, const struct cf_job *job, struct cf_result *res)
{
	unsigned int chunk = job->chunk ? job->chunk : 128 << 10;
	__u64 off = job->off, end = off + job->len;
	void *buf;

	if (posix_memalign(&buf, CF_BLOCK, chunk)) {
		res->err = ENOMEM;
		return;
	}
	while (off < end) {
		size_t want = end - off < chunk ? end - off : chunk;
		ssize_t n = pread(fd, buf, want, (off_t)off);

		if (n < 0) {
			res->err = errno;
			break;
		}
		if (!n)
			break;
		if (res->bad < 0)
			res->bad = cf_differs(job->seed, off, buf, n);
		off += n;
		res->n += n;
	}
	free(buf);
}

static void read_job(const char *path, const struct cf_job *job, struct cf_result *res)
{
	struct stat st;
	int fd;

	res->stage = 'o';
	if (job->stat_only) {
		if (stat(path, &st))
			res->err = errno;
		else
			res->n = st.st_size;
		return;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | (job->direct ? O_DIRECT : 0));
	if (fd < 0) {
		res->err = errno;
		return;
	}
	res->stage = 'r';
	if (!job->sequential)
		posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	for (int i = 0; i <= job->again && !res->err; i++) {
		if (i)
			posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		if (job->use_mmap)
			read_mapped(fd, job, res);
		else
			read_plain(fd, job, res);
	}
	if (!res->err)
		res->stage = 'd';
}

int cf_reader_start(struct cf_reader *r, const char *dir, const char *name,
		    const struct cf_job *job)
{
	struct cf_result res = { .bad = -1 };
	char path[512];
	long long start;
	int out[2], ret;

	ret = child_start(r, out, -1);
	if (ret)
		return ret < 0 ? ret : 0;
	start = cf_now();
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	read_job(path, job, &res);
	child_report(out[1], &res, start, job->stays);
	return 0;
}

static int reap(struct cf_reader *r, int ms)
{
	int ret = cf_poll(r->pidfd, POLLIN, ms);

	if (ret <= 0)
		return ret ? ret : -ETIMEDOUT;
	waitpid(r->pid, NULL, 0);
	close(r->pidfd);
	close(r->pipe);
	r->pid = 0;
	return 0;
}

/* The reader's result: 0, -ETIMEDOUT (still at it), -EPIPE (died without one). */
int cf_reader_wait(struct cf_reader *r, struct cf_result *res, int ms)
{
	int ret = cf_poll(r->pipe, POLLIN, cf_ms(ms));

	if (ret <= 0)
		return ret ? ret : -ETIMEDOUT;
	if (read(r->pipe, res, sizeof(*res)) != sizeof(*res)) {
		reap(r, cf_ms(1000));
		return -EPIPE;
	}
	return reap(r, cf_ms(20000));
}

/* 1 when the reader has ended or has a result. */
int cf_reader_done(struct cf_reader *r)
{
	return cf_poll(r->pipe, POLLIN, 0) != 0;
}

/* SIGKILL the reader: milliseconds until it is gone, or -ETIMEDOUT. */
int cf_reader_kill(struct cf_reader *r, int ms)
{
	long long start = cf_now();
	int ret;

	if (r->pid <= 0)
		return -ESRCH;
	kill(r->pid, SIGKILL);
	ret = reap(r, cf_ms(ms));
	return ret ? ret : (int)(cf_now() - start);
}
