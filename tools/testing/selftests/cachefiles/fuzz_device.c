// SPDX-License-Identifier: GPL-2.0-only
/*
 * Caches as a whole: commands of all shapes, binding and ending of caches, culling, and
 * what is done to a cache behind its back.
 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fuzz.h"
#include "fuzz_daemon.h"

static unsigned int some_device(struct fz_task *t)
{
	return fz_chance(t, 40) ? 0 : 1 + fz_below(t, FZ_LOCALS);
}

/* --- commands --- */

/* Without a cache that does it: before bind, in the other mode, or in a dead one. */
static int op_bad_command(struct fz_task *t)
{
	static const char * const unknown[] = {
		"", " ", " bind", "\tdir x", "bin", "bindx", "BIND", "copen1,2", "Restore", "cullx",
		"read", "\x7f", "\xff\xfe", "bind\x01",
	};
	unsigned int dev = some_device(t), how = fz_below(t, 8);
	int fd = fz_device_get(t, dev), ret;
	size_t len;

	fz_say(t, "dev %u how %u ", dev, how);
	if (fd < 0)
		return fd;
	switch (how) {
	case 0:
		len = fz_below(t, sizeof(unknown) / sizeof(*unknown));
		fz_say(t, "\"%s\"", unknown[len]);
		ret = cf_write_raw(fd, unknown[len], strlen(unknown[len]));
		/* Nothing at all is written to no effect by the VFS, or refused. */
		ret = FZ_REFUSED(t, ret, EOPNOTSUPP, EIO);
		break;
	case 1:
		/* Longer than a command can be. */
		len = 4096 + fz_below(t, 3);
		if (fz_chance(t, 50))
			len = FZ_BUF;
		memset(t->buf, 'a', len);
		memcpy(t->buf, "bind ", 5);
		ret = FZ_REFUSED(t, cf_write_raw(fd, t->buf, len), EOPNOTSUPP, EIO);
		break;
	case 2:
		/* A NUL somewhere. */
		len = 1 + fz_below(t, 64);
		memset(t->buf, 'a', len);
		memcpy(t->buf, "copen 1", len < 7 ? len : 7);
		t->buf[fz_below(t, len)] = '\0';
		ret = FZ_REFUSED(t, cf_write_raw(fd, t->buf, len), EINVAL, EIO);
		break;
	case 3:
		ret = FZ_REFUSED(t, cf_write_raw(fd, "\nbind", 1 + fz_below(t, 5)), EINVAL, EIO);
		break;
	case 4:
		/* Memory that can't be read. */
		ret = FZ_REFUSED(t, cf_write_raw(fd, t->pages + FZ_PAGE - fz_below(t, 8), 16),
				 EFAULT, EIO);
		break;
	case 5:
		ret = FZ_REFUSED(t, cf_write_raw(fd, NULL, 1 + fz_below(t, 4095)), EFAULT, EIO);
		break;
	case 6:
		/* Random bytes do nothing but by the one chance in a great many. */
		len = 1 + fz_below(t, 32);
		for (size_t i = 0; i < len; i++)
			t->buf[i] = (unsigned char)(0x80 | fz_below(t, 0x80));
		ret = FZ_REFUSED(t, cf_write_raw(fd, t->buf, len), EOPNOTSUPP, EIO);
		break;
	default:
		ret = FZ_EXPECT(t, cf_cmd(fd, "nocull"), EIO);
	}
	fz_device_put(t, dev);
	return ret;
}

static int op_bad_copen(struct fz_task *t)
{
	static const char * const bad[] = {
		"copen", "copen ", "copen ,", "copen ,5", "copen 1", "copen x,5", "copen -1,5",
		"copen 1 ,5", "copen 0x,5", "copen 4294967296,5", "copen 99999999999999999999,5",
		"copen 1;5", "copen 08,5", "copen ++1,5",
	};
	unsigned int dev = some_device(t), which = fz_below(t, 20);
	int fd = fz_device_get(t, dev), ret;
	char text[96];

	if (fd < 0)
		return fd;
	if (which < 14)
		snprintf(text, sizeof(text), "%s", bad[which]);
	else
		/* No OPEN has had this id yet. */
		snprintf(text, sizeof(text), "copen %u,%s",
			 0x80000000U + (uint32_t)fz_below(t, 1U << 30), which % 2 ? "x" : "4096");
	fz_say(t, "dev %u %s", dev, text);
	ret = cf_cmd(fd, "%s", text);
	fz_device_put(t, dev);
	return FZ_REFUSED(t, ret, EINVAL, ERANGE, EOPNOTSUPP, EIO);
}

static int op_limits(struct fz_task *t)
{
	static const char * const names[] = { "brun", "bcull", "bstop", "frun", "fcull", "fstop" };
	static const char * const args[] = {
		"%", "", "100%", "101%", "-1%", "5", "5%%", "x%", "4294967301%", "5 %",
	};
	unsigned int dev = some_device(t), name = fz_below(t, 6), arg = fz_below(t, 20);
	/* The main cache is to have space. */
	unsigned int percent = fz_below(t, dev ? 101 : 15);
	int fd = fz_device_get(t, dev), ret;
	char text[64];

	if (arg < 10)
		snprintf(text, sizeof(text), "%s %s", names[name], args[arg]);
	else
		snprintf(text, sizeof(text), "%s %u%%", names[name], percent);
	fz_say(t, "dev %u %s", dev, text);
	if (fd < 0)
		return fd;
	ret = cf_cmd(fd, "%s", text);
	fz_device_put(t, dev);
	/* The first one means 0%, which only a limit for stopping can be. */
	if (arg > 0 && arg < 10)
		return FZ_REFUSED(t, ret, EINVAL, EIO);
	return FZ_EXPECT(t, ret, EINVAL, EIO, EINTR);
}

static int op_setting(struct fz_task *t)
{
	static const char * const texts[] = {
		"dir /nowhere", "tag other", "dir ", "tag", "secctx x", "secctx", "debug 0",
		"debug x", "debug 4294967296", "debug -1", "nocull 5", "bind x", "bind ondemand x",
	};
	unsigned int dev = some_device(t), which = fz_below(t, 13);
	int fd = fz_device_get(t, dev), ret;

	fz_say(t, "dev %u %s", dev, texts[which]);
	if (fd < 0)
		return fd;
	ret = cf_cmd(fd, "%s", texts[which]);
	fz_device_put(t, dev);
	switch (which) {
	case 2:
	case 3:
		return FZ_REFUSED(t, ret, EINVAL, EIO);
	case 7:
	case 9:
		return FZ_REFUSED(t, ret, EINVAL, EIO);
	case 8:
		return FZ_REFUSED(t, ret, ERANGE, EIO);
	case 11:
	case 12:
		return FZ_REFUSED(t, ret, EINVAL, EIO, EEXIST, EBUSY);
	}
	if (!dev && (which == 0 || which == 1))
		return FZ_REFUSED(t, ret, EEXIST, EIO);
	return ret;
}

/* --- the device as a file --- */

static int op_device(struct fz_task *t)
{
	unsigned int dev = some_device(t), how = fz_below(t, 8);
	int fd = fz_device_get(t, dev), ret = 0, epfd;
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT };
	struct pollfd p = { .events = POLLIN | POLLOUT };
	void *map;

	fz_say(t, "dev %u how %u", dev, how);
	if (fd < 0)
		return fd;
	switch (how) {
	case 0:
		ret = FZ_EXPECT(t, fz_err(lseek(fd, fz_below(t, 100), (int)fz_below(t, 3))));
		break;
	case 1:
		map = mmap(NULL, FZ_PAGE, PROT_READ, MAP_SHARED, fd, 0);
		ret = FZ_REFUSED(t, map == MAP_FAILED ? -errno : 0, ENODEV);
		break;
	case 2:
		ret = FZ_REFUSED(t, fz_err(fsync(fd)), EINVAL);
		break;
	case 3:
		ret = fz_chance(t, 50) ? cf_cread(fd, fz_below(t, 1000)) :
			fz_err(ioctl(fd, 0x9800 + fz_below(t, 256), t->pages));
		ret = FZ_REFUSED(t, ret, ENOTTY);
		break;
	case 4:
		ret = FZ_REFUSED(t, fz_err(ftruncate(fd, 0)), EINVAL);
		break;
	case 5:
		epfd = epoll_create1(EPOLL_CLOEXEC);
		if (epfd < 0)
			break;
		ev.events |= fz_chance(t, 50) ? EPOLLET : 0;
		ret = FZ_EXPECT(t, fz_err(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev)), ENOSPC);
		for (int i = 0; i < 2 && !ret; i++)
			epoll_wait(epfd, &ev, 1, 0);
		close(epfd);
		break;
	default:
		p.fd = fd;
		ret = poll(&p, 1, how == 6 ? 0 : 1);
		if (p.revents & ~(POLLIN | POLLOUT | POLLERR | POLLHUP))
			fz_fail("poll of a device says %x", p.revents);
		break;
	}
	fz_device_put(t, dev);
	return ret;
}

/* --- caches of its own --- */

static int open_device(struct fz_task *t, unsigned int dev)
{
	int flags = O_RDWR | O_CLOEXEC | (fz_chance(t, 50) ? O_NONBLOCK : 0), fd, high;

	fz_say(t, "dev %u flags %x ", dev, flags);
	fd = fz_err(open(CF_DEVICE, flags));
	if (fd >= 0 && fd < t->p->low) {
		high = fcntl(fd, F_DUPFD_CLOEXEC, t->p->low);
		close(fd);
		fd = fz_err(high);
	}
	FZ_EXPECT(t, fd, EMFILE, ENFILE);
	if (fd < 0)
		return fd;
	fz_device_set(t, dev, fd);
	return 0;
}

static int op_open(struct fz_task *t)
{
	return open_device(t, 1 + fz_below(t, FZ_LOCALS));
}

static int op_end(struct fz_task *t)
{
	unsigned int dev = 1 + fz_below(t, FZ_LOCALS);

	fz_say(t, "dev %u", dev);
	fz_device_set(t, dev, -1);
	return 0;
}

static int op_bind(struct fz_task *t)
{
	unsigned int dev = 1 + fz_below(t, FZ_LOCALS), how = fz_below(t, 32);
	static const char * const dirs[] = {
		"/proc/self", "/proc", "/dev/null", CF_STORE "/nowhere", CF_BASE, CF_STORE "/file",
		CF_STORE, "relative", "/sys", CF_STORE "/local0 ",
	};
	bool wrong = how < 10, taken = how == 10 || how == 11;
	char dir[96], tag[32];
	const char *mode = how == 12 ? "" : "ondemand";
	int fd = fz_device_get(t, dev), ret;

	if (fd == -ENODEV && !open_device(t, dev))
		fd = fz_device_get(t, dev);
	fz_local(dev - 1, dir, tag);
	if (wrong)
		snprintf(dir, sizeof(dir), "%s", dirs[how]);
	else if (taken)
		snprintf(dir, sizeof(dir), "%s", fz->caches[how - 10].dir);
	else if (how == 13)
		fz_local(dev, dir, tag);
	fz_say(t, "dir %s tag %s mode \"%s\"", dir, tag, mode);
	if (fd < 0)
		return fd;
	if (how != 14)
		cf_cmd(fd, "dir %s", dir);
	cf_cmd(fd, "tag %s", tag);
	ret = cf_cmd(fd, "bind %s", mode);
	fz_device_put(t, dev);
	if (!ret)
		fz_count(FZ_BINDS, 1);
	/* One that is being bound anew may really be free; a former dir may still stand. */
	return ret;
}

static int op_mount_local(struct fz_task *t)
{
	return fz_op_mount(t, FZ_VOLUMES + fz_below(t, FZ_LOCALS));
}

/* --- culling, in both modes --- */

/* As culling daemons do it: from the directory that the file is in. */
static int op_cull(struct fz_task *t)
{
	unsigned int dev = some_device(t), volume, i;
	bool inuse = fz_chance(t, 20), odd = fz_chance(t, 10);
	char dir[96], tag[32], key[32], name[256], path[640], *slash;
	size_t len;
	int fd, ret;

	volume = dev ? FZ_VOLUMES + fz_below(t, FZ_LOCALS) : fz_below(t, FZ_VOLUMES);
	i = fz_below(t, FZ_NAMES);
	len = fz_name(i, name);
	fz_volume(volume, key);
	fz_local(dev - 1, dir, tag);
	fz_say(t, "dev %u volume %u file %u%s", dev, volume, i, inuse ? " inuse" : "");
	if (cf_nf_path(dev ? dir : fz->caches[0].dir, key, name, len, path, sizeof(path)))
		return -ENAMETOOLONG;
	slash = strrchr(path, '/');
	*slash = '\0';
	if (chdir(path))
		return -errno;
	fd = fz_device_get(t, dev);
	if (fd < 0)
		return fd;
	if (odd) {
		static const char * const names[] = { "", ".", "..", "a/b", "nothing", "/" };
		unsigned int which = fz_below(t, 6);

		fz_say(t, " %s", names[which]);
		ret = cf_cmd(fd, "cull %s", names[which]);
		fz_device_put(t, dev);
		return FZ_REFUSED(t, ret, EINVAL, EIO, ENOENT, ESTALE, EOPNOTSUPP);
	}
	/* A blank, or a newline, ends a command's word but not its argument. */
	ret = cf_cmd(fd, "%s %s", inuse ? "inuse" : "cull", slash + 1);
	fz_device_put(t, dev);
	if (!ret && !inuse)
		fz_count(FZ_CULLED, 1);
	if (fz->backing)
		return ret;
	return FZ_EXPECT(t, ret, EBUSY, ESTALE, ENOENT, EIO, EOPNOTSUPP, EINVAL, EINTR);
}

/* --- behind its back --- */

/*
 * Nothing that would put other data in the place of a file: only what breaks it.  Cut off or
 * punched in the middle of a page, its other bytes would still be there, beside zeros.
 */
static int op_backing(struct fz_task *t)
{
	unsigned int volume = FZ_VOLUMES - 1, i = fz_below(t, FZ_NAMES), how = fz_below(t, 10);
	char name[256], path[640], other[660], key[32];
	int ret = 0, fd;

	fz_say(t, "file %u how %u", i, how);
	if (!fz->backing)
		return -EOPNOTSUPP;
	fz_volume(volume, key);
	if (cf_nf_path(fz->caches[0].dir, key, name, fz_name(i, name), path, sizeof(path)))
		return -ENAMETOOLONG;
	snprintf(other, sizeof(other), "%.*s/x%u", (int)(strrchr(path, '/') - path), path,
		 fz_below(t, 8));
	switch (how) {
	case 0:
		ret = unlink(path);
		break;
	case 1:
		ret = rename(path, other);
		break;
	case 2:
		ret = truncate(path, 0);
		break;
	case 3:
		ret = truncate(path, fz_below(t, FZ_FILE_MAX / FZ_PAGE) * FZ_PAGE);
		break;
	case 4:
		ret = removexattr(path, CF_XATTR);
		break;
	case 5:
		ret = setxattr(path, CF_XATTR, "garbage", fz_below(t, 8), 0);
		break;
	case 6:
		ret = chmod(path, fz_below(t, 0777));
		break;
	case 7:
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd >= 0) {
			ret = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					fz_below(t, 64) * FZ_PAGE,
					(1 + fz_below(t, 16)) * FZ_PAGE);
			close(fd);
		}
		break;
	case 8:
		ret = mkdir(path, 0700);
		break;
	case 9:
		ret = rmdir(path);
		unlink(other);
		break;
	}
	return fz_err(ret);
}

/* --- faults --- */

/* For a few operations of this thread; the main loop takes it back. */
static int op_inject(struct fz_task *t)
{
	unsigned int bits = fz_chance(t, 80) ? 1 : 2, n = 1 + fz_below(t, 12);

	fz_say(t, "%u for %u operations", bits, n);
	if (!fz->faults)
		return -EOPNOTSUPP;
	t->slot->injected = (int)n;
	return cf_error_injection(bits);
}

static int op_unload(struct fz_task *t)
{
	/* Mounts and caches come and go, but a device of the parent's stays.  ENOENT: built in. */
	return FZ_REFUSED(t, fz_err(syscall(SYS_delete_module, "cachefiles", O_NONBLOCK)), EAGAIN,
			  EBUSY, ENOENT);
}

const struct fz_op fz_device_ops[] = {
	{ "bad_command", FZ_DAEMON, 60, op_bad_command },
	{ "bad_copen",	FZ_DAEMON, 40, op_bad_copen },
	{ "limits",	FZ_DAEMON, 15, op_limits },
	{ "setting",	FZ_DAEMON, 15, op_setting },
	{ "device",	FZ_DAEMON, 40, op_device },
	{ "open_device", FZ_DAEMON, 4, op_open },
	{ "end_device",	FZ_DAEMON, 2, op_end },
	{ "bind",	FZ_DAEMON, 8, op_bind },
	{ "mount_local", FZ_DAEMON, 4, op_mount_local },
	{ "cull",	FZ_DAEMON, 60, op_cull },
	{ "backing",	FZ_DAEMON, 15, op_backing },
	{ "inject",	FZ_DAEMON, 1, op_inject },
	{ "unload",	FZ_DAEMON, 2, op_unload },
	{ NULL }
};
