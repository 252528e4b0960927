// SPDX-License-Identifier: GPL-2.0-only
/* A lying file system in user space; see fusefs.h. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/falloc.h>
#include <linux/fuse.h>

#include "daemon.h"
#include "fusefs.h"

#define MAX_NODES	16384
#define MAX_WRITE	(128U << 10)
#define COARSE		(64LL << 10)
#define FOREVER		3600
#define SPACE		(1ULL << 30)

/* Node numbers are those of the protocol: 1 is the root. */
struct node {
	unsigned int	parent;		/* 0: has no name */
	mode_t		mode;		/* 0: unused */
	int		fd;		/* memory with the content */
	bool		dirty;
	char		*name;
	char		*xattr_name;	/* one will do */
	unsigned int	xattr_len;
	char		*xattr;
};

static struct node *nodes;
static unsigned int nr_nodes = FUSE_ROOT_ID + 1;
static enum cf_lie lie;
static struct cf_fusefs_fault *fault;
static int dev;

/* --- nodes --- */

static struct node *find(unsigned int parent, const char *name)
{
	for (unsigned int i = FUSE_ROOT_ID + 1; i < nr_nodes; i++) {
		if (nodes[i].parent == parent && !strcmp(nodes[i].name, name))
			return &nodes[i];
	}
	return NULL;
}

static unsigned int id_of(const struct node *n)
{
	return (unsigned int)(n - nodes);
}

static bool replace(char **what, const void *by, size_t len)
{
	char *p = by ? malloc(len) : NULL;

	if (by && !p)
		return false;
	if (by)
		memcpy(p, by, len);
	free(*what);
	*what = p;
	return true;
}

static bool rename_to(struct node *n, unsigned int parent, const char *name)
{
	n->parent = 0;
	if (!replace(&n->name, name, strlen(name) + 1))
		return false;
	n->parent = parent;
	return true;
}

static struct node *make(unsigned int parent, const char *name, mode_t mode)
{
	struct node *n;

	if (nr_nodes == MAX_NODES)
		return NULL;
	n = &nodes[nr_nodes];
	if (!rename_to(n, parent, name))
		return NULL;
	n->fd = S_ISREG(mode) ? memfd_create("node", MFD_CLOEXEC) : -1;
	if (S_ISREG(mode) && n->fd < 0)
		return NULL;
	nr_nodes++;
	n->mode = mode;
	return n;
}

static void attr_of(const struct node *n, struct fuse_attr *a)
{
	struct stat st = { .st_nlink = 1 };

	if (n->fd >= 0)
		fstat(n->fd, &st);
	*a = (struct fuse_attr) {
		.ino = id_of(n),
		.size = st.st_size,
		.blocks = st.st_blocks,
		.mode = n->mode,
		.nlink = S_ISDIR(n->mode) ? 2 : !!n->parent,
		.blksize = CF_BLOCK,
	};
}

/* --- answers --- */

static int answer(const struct fuse_in_header *in, int error, const void *arg, size_t len)
{
	struct fuse_out_header out = {
		.len = sizeof(out) + (error ? 0 : len),
		.error = error,
		.unique = in->unique,
	};
	struct iovec v[2] = { { &out, sizeof(out) }, { (void *)arg, len } };

	/* Nobody is waiting any more if it is not taken. */
	return writev(dev, v, error || !len ? 1 : 2) < 0 && errno == ENODEV;
}

static int answer_entry(const struct fuse_in_header *in, const struct node *n, bool opened)
{
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out;

	if (!n)
		return answer(in, -ENOSPC, NULL, 0);
	memset(&out, 0, sizeof(out));
	out.entry.nodeid = id_of(n);
	out.entry.entry_valid = FOREVER;
	out.entry.attr_valid = FOREVER;
	attr_of(n, &out.entry.attr);
	return answer(in, 0, &out, opened ? sizeof(out) : sizeof(out.entry));
}

static int answer_attr(const struct fuse_in_header *in, const struct node *n)
{
	struct fuse_attr_out out = { .attr_valid = FOREVER };

	attr_of(n, &out.attr);
	return answer(in, 0, &out, sizeof(out));
}

/* --- what it lies about --- */

static bool all_zero(const char *p, size_t len)
{
	return !len || (!*p && !memcmp(p, p + 1, len - 1));
}

static int punch(struct node *n, off_t off, off_t len)
{
	off_t end = off + len;
	struct stat st;

	switch (lie) {
	case CF_LIE_NO_PUNCH:
		return -EOPNOTSUPP;
	case CF_LIE_PUNCH_NOTHING:
		return 0;
	case CF_LIE_PUNCH_ZEROS:
		fstat(n->fd, &st);
		for (; off < end && off < st.st_size; off++) {
			if (pwrite(n->fd, "", 1, off) != 1)
				return -errno;
		}
		return 0;
	case CF_LIE_PUNCH_COARSE:
		off = (off + COARSE - 1) / COARSE * COARSE;
		end = end / COARSE * COARSE;
		if (off >= end)
			return 0;
		break;
	default:
		break;
	}
	return fallocate(n->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 off, end - off) ? -errno : 0;
}

static ssize_t store(struct node *n, const char *data, size_t len, off_t off)
{
	n->dirty = true;
	for (size_t done = 0; done < len; done += CF_BLOCK) {
		size_t part = len - done < CF_BLOCK ? len - done : CF_BLOCK;
		struct stat st;
		off_t end = off + done + part;

		if (lie == CF_LIE_ZEROS_VANISH && all_zero(data + done, part)) {
			fstat(n->fd, &st);
			if (st.st_size < end && ftruncate(n->fd, end))
				return -errno;
			if (fallocate(n->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				      off + done, part))
				return -errno;
		} else if (pwrite(n->fd, data + done, part, off + done) < 0) {
			return -errno;
		}
	}
	return len;
}

static off_t seek(struct node *n, off_t off, int whence)
{
	struct stat st;
	off_t at;

	fstat(n->fd, &st);
	if (off >= st.st_size)
		return -ENXIO;
	if (lie == CF_LIE_ALL_HOLE || (lie == CF_LIE_LATE && n->dirty))
		return whence == SEEK_DATA ? -ENXIO : off;
	at = lseek(n->fd, off, whence);
	if (at < 0)
		return -errno;
	switch (lie) {
	case CF_LIE_COARSE:
		if (whence == SEEK_DATA) {
			off_t floor = at / COARSE * COARSE;

			return floor > off ? floor : off;
		}
		/* Behind the 64 KiB that hold the last data before. */
		for (;;) {
			off_t data;

			at = off / COARSE * COARSE;
			data = lseek(n->fd, at, SEEK_DATA);
			if (data < 0 || data >= at + COARSE)
				return off;
			off = at + COARSE;
			if (off >= st.st_size)
				return st.st_size;
		}
	case CF_LIE_SHORT:
		if (whence == SEEK_HOLE && at < st.st_size && at - 512 > off)
			return at - 512;
		return at;
	case CF_LIE_EARLY:
		return whence == SEEK_DATA && at - 512 > off ? at - 512 : at;
	default:
		return at;
	}
}

/* --- requests --- */

static int do_init(const struct fuse_in_header *in, const void *arg)
{
	const struct fuse_init_in *init = arg;
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = init->max_readahead,
		.flags = init->flags & (FUSE_BIG_WRITES | FUSE_MAX_PAGES | FUSE_DONT_MASK),
		.max_write = MAX_WRITE,
		.max_pages = MAX_WRITE / CF_BLOCK,
		.time_gran = 1,
	};

	return answer(in, 0, &out, sizeof(out));
}

static int do_setattr(const struct fuse_in_header *in, const void *arg, struct node *n)
{
	const struct fuse_setattr_in *set = arg;
	int ret = 0;

	if (set->valid & FATTR_MODE)
		n->mode = (n->mode & S_IFMT) | (set->mode & 07777);
	if (set->valid & FATTR_SIZE)
		ret = ftruncate(n->fd, (off_t)set->size) ? -errno : 0;
	return ret ? answer(in, ret, NULL, 0) : answer_attr(in, n);
}

static int do_remove(const struct fuse_in_header *in, const char *name)
{
	struct node *n = find((unsigned int)in->nodeid, name);

	if (!n)
		return answer(in, -ENOENT, NULL, 0);
	n->parent = 0;
	return answer(in, 0, NULL, 0);
}

static int do_rename(const struct fuse_in_header *in, __u64 newdir, const char *name)
{
	struct node *n = find((unsigned int)in->nodeid, name);
	const char *to = name + strlen(name) + 1;
	struct node *over = find((unsigned int)newdir, to);

	if (!n)
		return answer(in, -ENOENT, NULL, 0);
	if (over)
		over->parent = 0;
	return answer(in, rename_to(n, (unsigned int)newdir, to) ? 0 : -ENOMEM, NULL, 0);
}

static int do_link(const struct fuse_in_header *in, const void *arg)
{
	const struct fuse_link_in *link = arg;
	struct node *n = &nodes[link->oldnodeid];

	/* One name each is all that a cache wants. */
	if (n->parent)
		return answer(in, -EMLINK, NULL, 0);
	if (!rename_to(n, (unsigned int)in->nodeid, (const char *)(link + 1)))
		return answer(in, -ENOMEM, NULL, 0);
	return answer_entry(in, n, false);
}

static int do_read(const struct fuse_in_header *in, const void *arg, struct node *n)
{
	static char buf[MAX_WRITE];
	const struct fuse_read_in *rd = arg;
	ssize_t got;

	got = pread(n->fd, buf, rd->size < MAX_WRITE ? rd->size : MAX_WRITE, (off_t)rd->offset);
	return got < 0 ? answer(in, -errno, NULL, 0) : answer(in, 0, buf, got);
}

static int do_write(const struct fuse_in_header *in, const void *arg, struct node *n)
{
	const struct fuse_write_in *wr = arg;
	struct fuse_write_out out = { .size = wr->size };
	ssize_t ret = store(n, (const char *)(wr + 1), wr->size, (off_t)wr->offset);

	return ret < 0 ? answer(in, (int)ret, NULL, 0) : answer(in, 0, &out, sizeof(out));
}

static int do_fallocate(const struct fuse_in_header *in, const void *arg, struct node *n)
{
	const struct fuse_fallocate_in *fa = arg;

	if (fa->mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
		return answer(in, -EOPNOTSUPP, NULL, 0);
	return answer(in, punch(n, (off_t)fa->offset, (off_t)fa->length), NULL, 0);
}

static int do_lseek(const struct fuse_in_header *in, const void *arg, struct node *n)
{
	const struct fuse_lseek_in *ls = arg;
	struct fuse_lseek_out out;
	off_t at;

	if (lie == CF_LIE_NO_SEEK)
		return answer(in, -ENOSYS, NULL, 0);
	at = seek(n, (off_t)ls->offset, (int)ls->whence);
	out.offset = (__u64)at;
	return at < 0 ? answer(in, (int)at, NULL, 0) : answer(in, 0, &out, sizeof(out));
}

static int do_readdir(const struct fuse_in_header *in, const void *arg)
{
	const struct fuse_read_in *rd = arg;
	char buf[CF_BLOCK];
	size_t len = 0;

	for (unsigned int i = (unsigned int)rd->offset; i < nr_nodes; i++) {
		struct fuse_dirent *d = (void *)(buf + len);
		size_t name;

		if (nodes[i].parent != in->nodeid)
			continue;
		name = strlen(nodes[i].name);
		if (len + FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + name) > sizeof(buf) ||
		    len + FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + name) > rd->size)
			break;
		memset(d, 0, FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + name));
		d->ino = i;
		d->off = i + 1;
		d->namelen = name;
		d->type = nodes[i].mode >> 12;
		memcpy(d->name, nodes[i].name, name);
		len += FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + name);
	}
	return answer(in, 0, buf, len);
}

static int do_statfs(const struct fuse_in_header *in)
{
	struct fuse_statfs_out out = { .st = {
		.blocks = SPACE / CF_BLOCK,
		.bfree = SPACE / CF_BLOCK,
		.files = MAX_NODES,
		.ffree = MAX_NODES - nr_nodes,
		.bsize = CF_BLOCK,
		.frsize = CF_BLOCK,
		.namelen = 255,
	} };

	for (unsigned int i = FUSE_ROOT_ID + 1; i < nr_nodes; i++) {
		struct stat st;

		if (nodes[i].fd >= 0 && !fstat(nodes[i].fd, &st))
			out.st.bfree -= st.st_blocks * 512 / CF_BLOCK;
	}
	out.st.bavail = out.st.bfree;
	return answer(in, 0, &out, sizeof(out));
}

static int do_setxattr(const struct fuse_in_header *in, const void *arg, struct node *n)
{
	/* Without FUSE_SETXATTR_EXT the structure ends earlier. */
	const struct fuse_setxattr_in *set = arg;
	const char *name = (const char *)arg + FUSE_COMPAT_SETXATTR_IN_SIZE;

	if (lie == CF_LIE_NO_XATTR)
		return answer(in, -ENOSYS, NULL, 0);
	if (!replace(&n->xattr_name, name, strlen(name) + 1) ||
	    !replace(&n->xattr, name + strlen(name) + 1, set->size))
		return answer(in, -ENOSPC, NULL, 0);
	n->xattr_len = set->size;
	return answer(in, 0, NULL, 0);
}

static int do_getxattr(const struct fuse_in_header *in, const void *arg, struct node *n)
{
	const struct fuse_getxattr_in *get = arg;
	struct fuse_getxattr_out out = { .size = n->xattr_len };

	if (lie == CF_LIE_NO_XATTR)
		return answer(in, -ENOSYS, NULL, 0);
	if (!n->xattr_name || strcmp(n->xattr_name, (const char *)(get + 1)))
		return answer(in, -ENODATA, NULL, 0);
	if (!get->size)
		return answer(in, 0, &out, sizeof(out));
	if (get->size < n->xattr_len)
		return answer(in, -ERANGE, NULL, 0);
	return answer(in, 0, n->xattr, n->xattr_len);
}

static int do_removexattr(const struct fuse_in_header *in, const char *name, struct node *n)
{
	if (!n->xattr_name || strcmp(n->xattr_name, name))
		return answer(in, -ENODATA, NULL, 0);
	replace(&n->xattr_name, NULL, 0);
	return answer(in, 0, NULL, 0);
}

/* What has no name is gone with its last user. */
static int forget(struct node *n)
{
	if (!n->parent && n->fd >= 0) {
		close(n->fd);
		n->fd = -1;
	}
	return 0;
}

static int do_batch_forget(const void *arg)
{
	const struct fuse_batch_forget_in *batch = arg;
	const struct fuse_forget_one *one = (const void *)(batch + 1);

	for (unsigned int i = 0; i < batch->count; i++)
		forget(&nodes[one[i].nodeid]);
	return 0;
}

/* Is this the one to refuse? What has no answer, or none that matters, is not counted. */
static bool refuse(const struct fuse_in_header *in)
{
	switch (in->opcode) {
	case FUSE_INIT:
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
		return false;
	}
	if (fault->held && fault->held != (pid_t)in->pid)
		return false;
	if (!__atomic_load_n(&fault->nth, __ATOMIC_ACQUIRE) ||
	    __atomic_sub_fetch(&fault->nth, 1, __ATOMIC_ACQ_REL))
		return false;
	__atomic_store_n(&fault->opcode, in->opcode, __ATOMIC_RELEASE);
	return true;
}

static int serve(const struct fuse_in_header *in, const void *arg)
{
	static const struct fuse_open_out opened;
	static struct fuse_in_header held;
	struct node *n = &nodes[in->nodeid];
	unsigned int parent = (unsigned int)in->nodeid;
	int ret;

	if (refuse(in)) {
		held = *in;
		return fault->held ? 0 : answer(in, fault->error, NULL, 0);
	}
	switch (in->opcode) {
	case FUSE_INIT:
		return do_init(in, arg);
	case FUSE_FORGET:
		return forget(n);
	case FUSE_BATCH_FORGET:
		return do_batch_forget(arg);
	case FUSE_INTERRUPT:
		if (!held.unique || ((const struct fuse_interrupt_in *)arg)->unique != held.unique)
			return 0;
		ret = answer(&held, fault->error, NULL, 0);
		held.unique = 0;
		return ret;
	case FUSE_LOOKUP:
		n = find(parent, arg);
		return n ? answer_entry(in, n, false) : answer(in, -ENOENT, NULL, 0);
	case FUSE_GETATTR:
		return answer_attr(in, n);
	case FUSE_SETATTR:
		return do_setattr(in, arg, n);
	case FUSE_MKDIR:
		n = make(parent, (const char *)arg + sizeof(struct fuse_mkdir_in),
			 S_IFDIR | ((const struct fuse_mkdir_in *)arg)->mode);
		return answer_entry(in, n, false);
	case FUSE_TMPFILE:
		if (lie == CF_LIE_NO_TMPFILE)
			return answer(in, -ENOSYS, NULL, 0);
		return answer_entry(in, make(0, "", S_IFREG | 0600), true);
	case FUSE_CREATE:
		n = make(parent, (const char *)arg + sizeof(struct fuse_create_in), S_IFREG | 0600);
		return answer_entry(in, n, true);
	case FUSE_UNLINK:
	case FUSE_RMDIR:
		return do_remove(in, arg);
	case FUSE_RENAME:
		return do_rename(in, ((const struct fuse_rename_in *)arg)->newdir,
				 (const char *)arg + sizeof(struct fuse_rename_in));
	case FUSE_RENAME2:
		return do_rename(in, ((const struct fuse_rename2_in *)arg)->newdir,
				 (const char *)arg + sizeof(struct fuse_rename2_in));
	case FUSE_LINK:
		return do_link(in, arg);
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		return answer(in, 0, &opened, sizeof(opened));
	case FUSE_READ:
		return do_read(in, arg, n);
	case FUSE_WRITE:
		return do_write(in, arg, n);
	case FUSE_FALLOCATE:
		return do_fallocate(in, arg, n);
	case FUSE_LSEEK:
		return do_lseek(in, arg, n);
	case FUSE_READDIR:
		return do_readdir(in, arg);
	case FUSE_STATFS:
		return do_statfs(in);
	case FUSE_SETXATTR:
		return do_setxattr(in, arg, n);
	case FUSE_GETXATTR:
		return do_getxattr(in, arg, n);
	case FUSE_REMOVEXATTR:
		return do_removexattr(in, arg, n);
	case FUSE_FSYNC:
		n->dirty = false;
		return answer(in, 0, NULL, 0);
	case FUSE_FLUSH:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
	case FUSE_FSYNCDIR:
	case FUSE_SYNCFS:
		return answer(in, 0, NULL, 0);
	}
	return answer(in, -ENOSYS, NULL, 0);
}

static void serve_all(void)
{
	static union {
		struct fuse_in_header in;
		char raw[MAX_WRITE + CF_BLOCK];
	} req;
	ssize_t got;

	nodes = calloc(MAX_NODES, sizeof(*nodes));
	if (!nodes)
		return;
	nodes[FUSE_ROOT_ID].mode = S_IFDIR | 0755;
	nodes[FUSE_ROOT_ID].fd = -1;
	do {
		got = read(dev, &req, sizeof(req));
		if (got < 0 && (errno == EINTR || errno == ENOENT))
			continue;
		/* Ends when it has been unmounted. */
	} while (got >= (ssize_t)sizeof(req.in) && !serve(&req.in, req.raw + sizeof(req.in)));
}

int cf_fusefs_start(struct cf_fusefs *f, const char *where, enum cf_lie what)
{
	char opts[128];
	int ret = 0;

	f->fault = mmap(NULL, sizeof(*f->fault), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (f->fault == MAP_FAILED)
		return -errno;
	dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (dev < 0)
		return -errno;
	snprintf(opts, sizeof(opts),
		 "fd=%d,rootmode=40755,user_id=0,group_id=0,allow_other,default_permissions", dev);
	if (mount("liar", where, "fuse.liar", 0, opts)) {
		ret = -errno;
		goto out;
	}
	f->pid = fork();
	if (!f->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		cf_close_others(&dev, 1);
		lie = what;
		fault = f->fault;
		serve_all();
		_exit(0);
	}
	if (f->pid < 0) {
		ret = -errno;
		umount2(where, MNT_DETACH);
	}
out:
	close(dev);
	return ret;
}

void cf_fusefs_fail(struct cf_fusefs *f, int nth, int error)
{
	__atomic_store_n(&f->fault->opcode, 0, __ATOMIC_RELEASE);
	f->fault->error = error;
	f->fault->held = 0;
	__atomic_store_n(&f->fault->nth, nth, __ATOMIC_RELEASE);
}

void cf_fusefs_hold(struct cf_fusefs *f, int nth)
{
	__atomic_store_n(&f->fault->opcode, 0, __ATOMIC_RELEASE);
	f->fault->error = -EINTR;
	f->fault->held = gettid();
	__atomic_store_n(&f->fault->nth, nth, __ATOMIC_RELEASE);
}

int cf_fusefs_held(const struct cf_fusefs *f)
{
	return __atomic_load_n(&f->fault->opcode, __ATOMIC_ACQUIRE);
}

int cf_fusefs_failed(struct cf_fusefs *f)
{
	__atomic_store_n(&f->fault->nth, 0, __ATOMIC_RELEASE);
	return __atomic_load_n(&f->fault->opcode, __ATOMIC_ACQUIRE);
}

void cf_fusefs_stop(struct cf_fusefs *f)
{
	if (f->pid <= 0)
		return;
	kill(f->pid, SIGKILL);
	waitpid(f->pid, NULL, 0);
	munmap(f->fault, sizeof(*f->fault));
	f->pid = 0;
}
