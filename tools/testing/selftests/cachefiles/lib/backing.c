// SPDX-License-Identifier: GPL-2.0-only
/* Backing file systems of all kinds; see backing.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <linux/fs.h>

#include "backing.h"
#include "cache.h"
#include "daemon.h"
#include "netfs.h"
#include "task.h"

static int impossible(const char *what)
{
	snprintf(cf_why, sizeof(cf_why), "%s", what);
	return 1;
}

static int make_image(struct cf_mounted *m)
{
	char line[256], *save, *arg = line;
	const char *argv[16];
	int fd, ret, i = 0;

	fd = open(m->image, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	ret = ftruncate(fd, (off_t)m->b->mb << 20) ? -errno : 0;
	close(fd);
	if (ret)
		return ret;
	snprintf(line, sizeof(line), "%s %s", m->b->mkfs, m->image);
	while (i < 15 && (argv[i] = strtok_r(arg, " ", &save))) {
		arg = NULL;
		i++;
	}
	argv[i] = NULL;
	ret = cf_run(60000, argv);
	if (ret == 127)
		return impossible(argv[0]);
	return ret > 0 ? -ENOEXEC : ret;
}

/* What this kernel lacks for a file system that was made so, or NULL; it is the log that says. */
static const char *unsupported(const char *mkfs)
{
	static const struct {
		const char *made, *said, *lacks;
	} all[] = {
		{ "crc=0", "V4 format (crc=0) not supported", "no CONFIG_XFS_SUPPORT_V4" },
		{ "version=ci", "(ascii-ci=1) not supported",
		  "no CONFIG_XFS_SUPPORT_ASCII_CI" },
		{ "casefold", "without CONFIG_UNICODE", "no CONFIG_UNICODE" },
		{ NULL },
	};
	static char log[16384];
	int n = klogctl(3 /* SYSLOG_ACTION_READ_ALL */, log, sizeof(log) - 1);

	log[n > 0 ? n : 0] = '\0';
	for (int i = 0; all[i].made; i++) {
		if (strstr(mkfs, all[i].made) && strstr(log, all[i].said))
			return all[i].lacks;
	}
	return NULL;
}

static int mount_image(struct cf_mounted *m)
{
	char opts[128];
	const char *const argv[] = {
		"mount", "-t", m->b->fstype, "-o", opts, m->image, m->below, NULL,
	};
	const char *lacks;
	int ret;

	snprintf(opts, sizeof(opts), "loop,noatime%s%s", m->b->opts ? "," : "",
		 m->b->opts ?: "");
	ret = cf_run(20000, argv);
	lacks = ret > 0 ? unsupported(m->b->mkfs) : NULL;
	if (lacks)
		return impossible(lacks);
	return ret > 0 ? -EIO : ret;
}

int cf_overlay(const char *dir, const char *where)
{
	static const char *const names[] = { "", "/lower", "/upper", "/work" };
	char opts[512], part[4][160];
	int fd;

	if (!cf_have_fs("overlay"))
		return impossible("overlay");
	for (int i = 0; i < 4; i++) {
		snprintf(part[i], sizeof(part[i]), "%s%s", dir, names[i]);
		if (mkdir(part[i], 0755) && errno != EEXIST)
			return -errno;
	}
	snprintf(opts, sizeof(opts), "lowerdir=%s,upperdir=%s,workdir=%s",
		 part[1], part[2], part[3]);
	if (mkdir(where, 0755) && errno != EEXIST)
		return -errno;
	if (mount("overlay", where, "overlay", 0, opts))
		return -errno;
	fd = open(where, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
	if (fd < 0) {
		umount2(where, MNT_DETACH);
		return impossible("O_TMPFILE of overlay");
	}
	close(fd);
	return 0;
}

static int mount_overlay(struct cf_mounted *m)
{
	char dir[64];

	snprintf(dir, sizeof(dir), CF_STORE "/overlay%d", getpid());
	return cf_overlay(dir, m->where);
}

static int hint(struct cf_mounted *m)
{
	char command[64];
	const char *const argv[] = { "xfs_io", "-c", command, m->below, NULL };
	int ret;

	snprintf(command, sizeof(command), "extsize %s", m->b->extsize);
	ret = cf_run(10000, argv);
	return ret == 127 ? impossible("xfs_io") : ret > 0 ? -EIO : ret;
}

/*
 * Does btrfs tell at any time what is a hole? Where it does not, netfs does not write to
 * caches either, and bind refuses it. The one can be asked for, the other be seen by luck.
 */
static bool btrfs_is_exact(void)
{
	int nf = cf_nf_open();
	bool exact = nf < 0 || cf_nf_has_streams(nf);

	if (nf >= 0)
		close(nf);
	return exact;
}

int cf_backing_mount(struct cf_mounted *m, const struct cf_backing *b)
{
	static int count;
	int ret;

	*m = (struct cf_mounted) { .b = b };
	if (!cf_have_fs(b->module ?: b->fstype))
		return impossible(b->module ?: b->fstype);
	if (!strcmp(b->fstype, "btrfs") && btrfs_is_exact() == b->inexact)
		return impossible(b->inexact ? "btrfs tells exactly what is a hole" :
				  "btrfs takes holes for data (SEEK_HOLE while writing)");
	if (b->existing) {
		snprintf(m->where, sizeof(m->where), "%s", b->existing);
		return 0;
	}
	snprintf(m->where, sizeof(m->where), CF_BASE "/b%d-%d", getpid(), count++);
	snprintf(m->image, sizeof(m->image), "%s.img", m->where);
	snprintf(m->below, sizeof(m->below), "%s%s", m->where, b->stacked ? "-below" : "");
	if (mkdir(m->where, 0755) || (b->stacked && mkdir(m->below, 0755)))
		return -errno;
	if (!strcmp(b->fstype, "fuse"))
		return cf_fusefs_start(&m->fuse, m->where, b->lie);
	if (!strcmp(b->fstype, "overlay"))
		return mount_overlay(m);
	if (!b->mkfs)
		return mount(b->fstype, m->where, b->fstype, 0, b->opts) ? -errno : 0;
	ret = make_image(m);
	if (!ret)
		ret = mount_image(m);
	if (!ret && b->extsize)
		ret = hint(m);
	if (!ret && b->stacked)
		ret = cf_overlay(m->below, m->where);
	return ret;
}

int cf_backing_fuse(struct cf_mounted *m, struct cf_env *e)
{
	static const struct cf_backing fuse = { .fstype = "fuse" };
	int ret = cf_backing_mount(m, &fuse);

	if (!ret)
		snprintf(e->dir, sizeof(e->dir), "%s", m->where);
	return ret;
}

int cf_backing_remount(struct cf_mounted *m)
{
	if (!m->b->mkfs)
		return 0;
	return cf_umount_idle(m->where, 20000) ?:
	       (m->b->stacked ? cf_umount_idle(m->below, 20000) : 0) ?: mount_image(m) ?:
	       (m->b->stacked ? cf_overlay(m->below, m->where) : 0);
}

void cf_backing_unmount(struct cf_mounted *m)
{
	if (!m->b || m->b->existing)
		return;
	umount2(m->where, MNT_DETACH);
	if (m->b->stacked)
		umount2(m->below, MNT_DETACH);
	cf_fusefs_stop(&m->fuse);
	unlink(m->image);
	rmdir(m->where);
	rmdir(m->below);
}

static int open_dir(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int cf_freeze(const char *dir)
{
	int fd = open_dir(dir), ret;

	if (fd < 0 || !ioctl(fd, FIFREEZE, 0))
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

int cf_thaw(int fd)
{
	int ret = ioctl(fd, FITHAW, 0) ? -errno : 0;

	close(fd);
	return ret;
}

int cf_sync_fs(const char *dir)
{
	int fd = open_dir(dir), ret;

	if (fd < 0)
		return fd;
	ret = syncfs(fd) ? -errno : 0;
	close(fd);
	return ret;
}

long long cf_used(const char *dir)
{
	int fd = open_dir(dir), ret;
	struct statfs st;

	if (fd < 0)
		return fd;
	ret = syncfs(fd) || fstatfs(fd, &st) ? -errno : 0;
	close(fd);
	return ret ? ret : (long long)(st.f_blocks - st.f_bfree) * st.f_bsize;
}

bool cf_have_disk(void)
{
	const char *const argv[] = { "sh", "-c", "modprobe -q dm-mod; dmsetup version", NULL };

	return !cf_run(20000, argv);
}

int cf_disk(struct cf_env *e, const char *how)
{
	char script[1600];
	const char *const argv[] = { "sh", "-c", script, NULL };
	int ret;

	snprintf(e->dir, sizeof(e->dir), CF_BASE "/s%d", getpid());
	snprintf(script, sizeof(script),
		 "i=" CF_BASE "/disk%1$d n=cf-disk-%1$d d=/dev/mapper/cf-disk-%1$d\n"
		 "table() { dmsetup load $n --table \"$1\"; }\n"
		 "set -- %2$s\n"
		 "case $1 in\n"
		 "make)	truncate -s 256M $i && l=$(losetup -f --show $i) &&\n"
		 "	dmsetup create $n --table \"0 $(blockdev --getsz $l) linear $l 0\" &&\n"
		 "	{ [ -e $d ] || dmsetup mknodes $n; } &&\n"
		 "	mkfs.ext4 -q -F -b 4096 -E lazy_itable_init=1,nodiscard $d &&\n"
		 "	mkdir -p %3$s && mount -o ${2:-defaults} $d %3$s ;;\n"
		 "stop)	dmsetup suspend --noflush --nolockfs $n ;;\n"
		 "fail)	modprobe -q dm-flakey; s=$(blockdev --getsz $d)\n"
		 "	l=$(losetup -n -O NAME -j $i)\n"
		 "	dmsetup suspend --noflush --nolockfs $n &&\n"
		 "	table \"0 $s flakey $l 0 0 1000 1 error_writes\"; r=$?\n"
		 "	dmsetup resume $n && [ $r = 0 ] ;;\n"
		 "go)	l=$(losetup -n -O NAME -j $i)\n"
		 "	dmsetup suspend --noflush --nolockfs $n\n"
		 "	table \"0 $(blockdev --getsz $l) linear $l 0\"\n"
		 "	dmsetup resume $n ;;\n"
		 "remove) dmsetup remove --retry $n &&\n"
		 "	losetup -d $(losetup -n -O NAME -j $i) ;;\n"
		 "esac\n",
		 getpid(), how, e->dir);
	ret = strcmp(how, "remove") ? 0 : cf_umount_idle(e->dir, 10000);
	if (!ret)
		ret = cf_run(30000, argv);
	return ret > 0 ? -EIO : ret;
}

int cf_disk_between(struct cf_env *e, int (*first)(void *arg), int (*second)(void *arg),
		    void *arg, int rets[2])
{
	/* Should one not end, its thread still has it. */
	static struct cf_task tasks[2];
	int ret, went;

	ret = cf_disk(e, "stop");
	if (!ret)
		ret = cf_task_start(&tasks[0], first, arg);
	if (!ret)
		ret = cf_task_waits(&tasks[0], 10000);
	if (!ret)
		ret = cf_task_start(&tasks[1], second, arg);
	/* It has time to pass the other one. */
	poll(NULL, 0, cf_ms(300));
	went = cf_disk(e, "go");
	for (int i = 0; i < 2 && !ret; i++)
		ret = cf_task_wait(&tasks[i], &rets[i], 10000);
	return ret ?: went;
}

int cf_log_open(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	lseek(fd, 0, SEEK_END);
	return fd;
}

int cf_log_lines(int fd, const char *what, char *line, size_t size)
{
	static const char prefix[] = "cachefiles: ";
	char record[2048];
	int nr = 0;

	for (;;) {
		ssize_t n = read(fd, record, sizeof(record) - 1);
		char *text;

		if (n < 0 && errno == EPIPE)
			continue;	/* some were overwritten */
		if (n < 0)
			return errno == EAGAIN ? nr : -errno;
		record[n] = '\0';
		text = strchr(record, ';');
		if (!text || strncasecmp(text + 1, prefix, strlen(prefix)))
			continue;
		text[1 + strcspn(text + 1, "\n")] = '\0';
		if (!strstr(text, what))
			continue;
		snprintf(line, size, "%s", text + 1);
		nr++;
	}
}
