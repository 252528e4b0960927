// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a wild daemon of the fuzzer does with object descriptors, beside answering.  What
 * is illegal has to fail, and has to fail as the documentation says.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fuzz.h"
#include "fuzz_daemon.h"

/* An object descriptor that nobody closes meanwhile, but perhaps what it is a copy of. */
struct use {
	struct fz_object	*locked;	/* NULL if it is a copy */
	int			fd;
	unsigned int		dev;
	uint32_t		object_id, open_id;
	uint64_t		content, size, end;	/* @end: size rounded up */
	bool			sure;		/* @size is what the kernel knows */
	bool			stale;
	unsigned int		nr_reads;
	struct fz_read		read;		/* one that is waiting for its answer */
};

static bool use_begin(struct fz_task *t, struct use *u)
{
	unsigned int first = fz_below(t, FZ_OBJECTS);
	bool copy = fz_chance(t, 30);
	struct fz_object *o = NULL;

	for (unsigned int i = 0; i < FZ_OBJECTS; i++) {
		o = &t->p->objects[(first + i) % FZ_OBJECTS];
		if (o->fd >= 0)
			break;
	}
	pthread_mutex_lock(&o->lock);
	if (o->fd < 0) {
		pthread_mutex_unlock(&o->lock);
		return false;
	}
	*u = (struct use) {
		.locked = o, .fd = o->fd, .dev = o->dev, .object_id = o->object_id,
		.open_id = o->open_id, .content = o->content, .size = o->size,
		.end = (o->size + FZ_PAGE - 1) / FZ_PAGE * FZ_PAGE,
		.sure = o->answered, .stale = o->stale, .nr_reads = o->nr_reads,
	};
	if (o->nr_reads)
		u->read = o->reads[0];
	if (copy) {
		int fd = fcntl(o->fd, F_DUPFD_CLOEXEC, 0);

		if (fd >= 0) {
			u->fd = fd;
			u->locked = NULL;
			pthread_mutex_unlock(&o->lock);
		}
	}
	fz_say(t, "object %u fd %d%s%s ", u->object_id, u->fd, u->sure ? "" : " unanswered",
	       u->stale ? " stale" : "");
	return true;
}

static void use_end(struct use *u)
{
	if (u->locked)
		pthread_mutex_unlock(&u->locked->lock);
	else
		close(u->fd);
}

/* Ahead of any need, in one piece or several, and sometimes only as far as there is memory. */
static int op_write(struct fz_task *t)
{
	unsigned int how = fz_below(t, 6);
	struct iovec iov[3];
	uint64_t off, len;
	struct use u;
	ssize_t ret;

	if (!use_begin(t, &u))
		return -ENOENT;
	if (!u.sure)
		u.end = FZ_FILE_MAX;
	off = u.end > FZ_FILE_MAX ? FZ_FILE_MAX : u.end;
	off = off ? fz_below(t, off) / FZ_PAGE * FZ_PAGE : 0;
	len = (1 + fz_below(t, 16)) * FZ_PAGE;
	if (off + len > u.end)
		len = u.end - off;
	/* The last block can end anywhere behind the end. */
	if (u.sure && off + len > u.size)
		len -= fz_below(t, off + len - u.size + 1);
	cf_pattern(u.content, off, t->buf, len);
	fz_say(t, "how %u %llu+%llu", how, (unsigned long long)off, (unsigned long long)len);
	switch (how) {
	case 0:
		iov[0] = (struct iovec) { t->buf, len / 3 };
		iov[1] = (struct iovec) { t->buf + len / 3, 0 };
		iov[2] = (struct iovec) { t->buf + len / 3, len - len / 3 };
		ret = pwritev(u.fd, iov, 3, (off_t)off);
		break;
	case 1:
		/*
		 * The position is shared by all copies, so write(2) could go anywhere: it is
		 * tried without data only.
		 */
		ret = lseek(u.fd, (off_t)off, SEEK_SET);
		ret = ret < 0 ? ret : write(u.fd, t->buf, 0);
		ret = ret < 0 ? ret : pwrite(u.fd, t->buf, len, (off_t)off);
		break;
	case 2:
		/* Pages, and then nothing; whole blocks and parts of them. */
		len = fz_below(t, FZ_PAGE + 1);
		cf_pattern(u.content, off, t->pages + FZ_PAGE - len, len);
		ret = pwrite(u.fd, t->pages + FZ_PAGE - len, len + 2 * FZ_PAGE, (off_t)off);
		if (ret > (ssize_t)len)
			fz_fail("wrote %zd bytes of %llu that there are", ret,
				(unsigned long long)len);
		break;
	default:
		ret = pwrite(u.fd, t->buf, len, (off_t)off);
	}
	ret = fz_err(ret);
	use_end(&u);
	if (u.stale && ret > 0)
		fz_fail("a stale descriptor takes data");
	if (how == 2 || !u.sure)
		return FZ_EXPECT(t, (int)ret, EIO, ENOBUFS, ENOSPC, EDQUOT, EFBIG, EINVAL, EFAULT,
				 EINTR);
	return FZ_EXPECT(t, (int)ret, EIO, ENOBUFS, ENOSPC, EDQUOT, EINTR);
}

static int op_bad_write(struct fz_task *t)
{
	unsigned int how = fz_below(t, 5);
	uint64_t off = fz_below(t, 32) * FZ_PAGE, len = (1 + fz_below(t, 4)) * FZ_PAGE;
	struct use u;
	int ret;

	if (!use_begin(t, &u))
		return -ENOENT;
	switch (how) {
	case 0:
		off += 1 + fz_below(t, FZ_PAGE - 1);
		break;
	case 1:
		/* All of it, or the last byte. */
		off = fz_chance(t, 50) ? u.end : u.end - (u.end ? FZ_PAGE : 0);
		len = u.end - off + 1 + fz_below(t, 2 * FZ_PAGE);
		if (!u.sure)
			off = INT64_MAX / FZ_PAGE * FZ_PAGE;
		break;
	case 2:
		if (u.size < 2 * FZ_PAGE || !u.sure) {
			off++;
			break;
		}
		off = 0;
		len = 1 + fz_below(t, FZ_PAGE - 1);
		break;
	case 3:
		off = (uint64_t)-1 - fz_below(t, 2 * FZ_PAGE);
		break;
	case 4:
		off = INT64_MAX - fz_below(t, 3 * FZ_PAGE);
		break;
	}
	cf_pattern(u.content, off, t->buf, len);
	fz_say(t, "how %u %llu+%llu of %llu", how, (unsigned long long)off,
	       (unsigned long long)len, (unsigned long long)u.size);
	ret = fz_err(pwrite(u.fd, t->buf, len, (off_t)off));
	use_end(&u);
	switch (how) {
	case 0:
		return FZ_REFUSED(t, ret, EINVAL, EFBIG, ENOBUFS, EIO);
	case 1:
		return FZ_REFUSED(t, ret, EFBIG, ENOBUFS, EIO, EINVAL);
	case 2:
		return FZ_REFUSED(t, ret, EINVAL, ENOBUFS, EIO, EFBIG);
	default:
		return FZ_REFUSED(t, ret, EINVAL, EFBIG, EOVERFLOW, ENOBUFS, EIO);
	}
}

/* An id that can't be of a READ of this object that waits for its answer. */
static bool wrong_id(struct fz_task *t, const struct use *u, uint32_t *id)
{
	struct fz_object *other;
	bool found = false;

	switch (u->stale ? 2 : fz_below(t, 3)) {
	case 0:
		/* They are given in turn, and that takes a while. */
		*id = 0x80000000U + (uint32_t)fz_below(t, 0x7fffffff);
		return true;
	case 1:
		*id = u->open_id;
		return true;
	}
	for (unsigned int i = 0; i < FZ_OBJECTS && !found; i++) {
		other = &t->p->objects[i];
		/* Not waiting: somebody may have this one locked, and want ours. */
		if (other == u->locked || pthread_mutex_trylock(&other->lock))
			continue;
		/* Through a stale descriptor it would even be of the same object. */
		found = other->nr_reads && other->fd >= 0 && other->dev == u->dev &&
			(u->stale ? other->object_id != u->object_id :
			 other->content != u->content);
		if (found)
			*id = other->reads[0].id;
		pthread_mutex_unlock(&other->lock);
	}
	return found;
}

static int op_bad_cread(struct fz_task *t)
{
	unsigned long cmd = CACHEFILES_IOC_CREAD;
	struct use u;
	uint32_t id;
	int ret;

	if (!use_begin(t, &u))
		return -ENOENT;
	if (u.stale && u.nr_reads && fz_chance(t, 50)) {
		id = u.read.id;
	} else if (!wrong_id(t, &u, &id)) {
		/* A right one, with the wrong command. */
		id = u.nr_reads ? u.read.id : 1;
		cmd += 1 + fz_below(t, 8);
	}
	fz_say(t, "ioctl %lx %u", cmd, id);
	ret = fz_err(ioctl(u.fd, cmd, (unsigned long)id));
	use_end(&u);
	return FZ_REFUSED(t, ret, EINVAL);
}

/* The right answer, by way of a number with more bits than an id has. */
static int op_blind_cread(struct fz_task *t)
{
	unsigned long id;
	struct use u;
	int ret;

	if (!use_begin(t, &u))
		return -ENOENT;
	id = u.nr_reads ? u.read.id : u.open_id + fz_below(t, 4);
	id |= (unsigned long)fz_below(t, 3) << 32;
	fz_say(t, "cread %lx", id);
	ret = cf_cread(u.fd, 0);
	FZ_EXPECT(t, ret, EINVAL);
	ret = fz_err(ioctl(u.fd, CACHEFILES_IOC_CREAD, id));
	if (u.stale && !ret)
		fz_fail("READ %lx is answered through a stale descriptor", id);
	use_end(&u);
	return FZ_EXPECT(t, ret, EINVAL);
}

static int op_seek(struct fz_task *t)
{
	static const off_t offsets[] = {
		0, 1, 4095, 4096, 65536, 1LL << 40, INT64_MAX, -1, INT64_MIN,
	};
	off_t off = offsets[fz_below(t, 9)], pos;
	int whence = (int)fz_below(t, 7);
	struct use u;

	if (!use_begin(t, &u))
		return -ENOENT;
	fz_say(t, "%d %lld", whence, (long long)off);
	pos = lseek(u.fd, off, whence);
	if (pos >= 0 && u.stale)
		fz_fail("a stale descriptor has a position");
	if (pos >= 0 && u.sure && (whence == SEEK_DATA || whence == SEEK_HOLE) &&
	    ((uint64_t)pos > u.end || pos < off))
		fz_fail("lseek(%lld, %d) in %llu bytes is %lld", (long long)off, whence,
			(unsigned long long)u.size, (long long)pos);
	use_end(&u);
	return FZ_EXPECT(t, fz_err(pos < 0 ? pos : 0), EINVAL, ENXIO, EIO, ENOBUFS, EOVERFLOW,
			 EINTR);
}

/* What other files can do. */
static int op_no_use(struct fz_task *t)
{
	unsigned int how = fz_below(t, 10);
	struct pollfd pfd = { .events = POLLIN | POLLOUT };
	char path[64], text[512];
	struct stat st;
	loff_t pos = 0;
	struct use u;
	int ret = 0;
	void *p;

	if (!use_begin(t, &u))
		return -ENOENT;
	fz_say(t, "how %u", how);
	switch (how) {
	case 0:
		ret = FZ_REFUSED(t, fz_err(read(u.fd, t->buf, 64)), EBADF);
		break;
	case 1:
		ret = FZ_REFUSED(t, fz_err(ftruncate(u.fd, 4096)), EINVAL);
		break;
	case 2:
		ret = FZ_REFUSED(t, fz_err(fsync(u.fd)), EINVAL);
		break;
	case 3:
		ret = FZ_REFUSED(t, fz_err(fallocate(u.fd, 0, 0, 4096)), ENODEV, EINVAL,
				 EOPNOTSUPP, ESPIPE);
		break;
	case 4:
		p = mmap(NULL, FZ_PAGE, PROT_WRITE, MAP_SHARED, u.fd, 0);
		ret = FZ_REFUSED(t, p == MAP_FAILED ? -errno : 0, EACCES, ENODEV);
		break;
	case 5:
		ret = FZ_REFUSED(t, fz_err(copy_file_range(u.fd, &pos, u.fd, NULL, 64, 0)), EBADF,
				 EINVAL);
		break;
	case 6:
		pfd.fd = u.fd;
		ret = poll(&pfd, 1, 0);
		if (pfd.revents & ~(POLLIN | POLLOUT))
			fz_fail("poll of an object says %x", pfd.revents);
		break;
	case 7:
		ret = FZ_EXPECT(t, fz_err(fstat(u.fd, &st)));
		break;
	case 8:
		snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", u.fd);
		ret = cf_read_file(path, text, sizeof(text));
		FZ_EXPECT(t, ret);
		if (ret > 0 && !strstr(text, "cachefiles-object"))
			fz_fail("fdinfo: %s", text);
		if (ret > 0 && u.stale && !strstr(text, "stale") && !strstr(text, "dropping"))
			fz_fail("not stale: %s", text);
		break;
	case 9:
		ret = FZ_EXPECT(t, fz_err(pwrite(u.fd, t->buf, 0, 0)), EIO, ENOBUFS);
		break;
	}
	use_end(&u);
	return ret;
}

/* Another number for it, which may be what keeps it open. */
static int op_dup(struct fz_task *t)
{
	struct fz_object *o = &t->p->objects[fz_below(t, FZ_OBJECTS)];
	int fd, ret = 0;

	pthread_mutex_lock(&o->lock);
	fz_say(t, "fd %d", o->fd);
	if (o->fd >= 0) {
		fd = fcntl(o->fd, F_DUPFD_CLOEXEC, 0);
		ret = fz_err(fd);
		if (fd >= 0) {
			close(o->fd);
			o->fd = fd;
		}
	}
	pthread_mutex_unlock(&o->lock);
	return ret;
}

static int op_close(struct fz_task *t)
{
	struct fz_object *o = &t->p->objects[fz_below(t, FZ_OBJECTS)];
	int ret = 0;

	pthread_mutex_lock(&o->lock);
	fz_say(t, "fd %d object %u", o->fd, o->object_id);
	if (o->fd >= 0)
		ret = fz_err(close(o->fd));
	o->fd = -1;
	o->nr_reads = 0;
	pthread_mutex_unlock(&o->lock);
	return FZ_EXPECT(t, ret);
}

const struct fz_op fz_object_ops[] = {
	{ "write",	FZ_DAEMON, 60, op_write },
	{ "bad_write",	FZ_DAEMON, 60, op_bad_write },
	{ "bad_cread",	FZ_DAEMON, 60, op_bad_cread },
	{ "blind_cread", FZ_DAEMON, 20, op_blind_cread },
	{ "seek",	FZ_DAEMON, 30, op_seek },
	{ "no_use",	FZ_DAEMON, 30, op_no_use },
	{ "dup",	FZ_DAEMON, 10, op_dup },
	{ "close",	FZ_DAEMON, 30, op_close },
	{ NULL }
};
