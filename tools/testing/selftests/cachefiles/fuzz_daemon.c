// SPDX-License-Identifier: GPL-2.0-only
/*
 * Daemons of the fuzzer: wild ones, which take messages and do anything with them, and a
 * tame one, which answers what it gets and takes back from the others what they keep.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"
#include "fuzz_daemon.h"

/* --- the right answers --- */

ssize_t fz_write_right(int fd, uint64_t content, uint64_t off, uint64_t len, void *buf)
{
	size_t n = len < FZ_BUF ? len : FZ_BUF;
	ssize_t ret;

	cf_pattern(content, off, buf, n);
	ret = pwrite(fd, buf, n, (off_t)off);
	return ret < 0 ? -errno : ret;
}

static uint64_t round_up(uint64_t n)
{
	return (n + FZ_PAGE - 1) / FZ_PAGE * FZ_PAGE;
}

static int fill(struct fz_object *o, uint64_t off, uint64_t len, void *buf)
{
	uint64_t end = off + len;
	ssize_t n;

	while (off < end) {
		n = fz_write_right(o->fd, o->content, off, end - off, buf);
		if (n <= 0)
			return (int)n;
		off += n;
	}
	return 0;
}

/* With the object's lock. */
static int answer_open(struct fz_task *t, struct fz_object *o, int dev, long long size)
{
	static const char * const forms[] = {
		"copen %u,%lld", "copen %u,%lld\n", "copen 0x%x,0x%llx", "copen \t 0%o,+%lld",
		"copen +%u,0%llo\ncopen 1,1",
	};
	unsigned int form = fz_below(t, size < 0 ? 2 : 5);
	char text[96];
	int n, ret;

	/* A GNU check of the format is of no use here: all of them take the same. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat"
	n = snprintf(text, sizeof(text), forms[form], o->open_id, size);
#pragma GCC diagnostic pop
	fz_say(t, " %s", text);
	ret = cf_write_raw(dev, text, n);
	if (!ret && size >= 0) {
		o->answered = true;
		o->size = size;
		fz_count(FZ_COPENS, 1);
	}
	/* Refused; whoever opens the object next has another descriptor. */
	if (!ret && size < 0)
		o->stale = true;
	if (fz->backing)
		return ret;
	/* What can't be a size, or no errno, ends the OPEN and is refused. */
	if (size < -4095)
		return FZ_REFUSED(t, ret, EINVAL, EIO);
	return FZ_EXPECT(t, ret, EINVAL, EIO, ENOBUFS, EBADFD, ESTALE, EFBIG, ENOSPC, EDQUOT,
			 EINTR);
}

static void forget_read(struct fz_object *o, unsigned int i)
{
	o->reads[i] = o->reads[--o->nr_reads];
}

/* With the object's lock: write the range that is wanted, or some of it, and say so. */
static int answer_read(struct fz_task *t, struct fz_object *o, const struct fz_read *r,
		       unsigned int percent)
{
	uint64_t len = r->len * percent / 100 / FZ_PAGE * FZ_PAGE;
	int ret = 0;

	fz_say(t, " fill %d %llu+%llu of %llu cread %u", o->fd, (unsigned long long)r->off,
	       (unsigned long long)r->len, (unsigned long long)len, r->id);
	if (o->answered && r->off + r->len > round_up(o->size))
		fz_fail("READ %llu+%llu of an object of %llu bytes", (unsigned long long)r->off,
			(unsigned long long)r->len, (unsigned long long)o->size);
	if (len)
		ret = fill(o, r->off, len, t->buf);
	/* Somebody else may have answered the OPEN, with another size. */
	if (o->answered)
		FZ_EXPECT(t, ret, EIO, ENOBUFS, ENOSPC, EDQUOT, EINTR);
	ret = cf_cread(o->fd, r->id);
	if (!ret)
		fz_count(FZ_CREADS, 1);
	FZ_EXPECT(t, ret, EINVAL);
	/* Taken, so it has ended; otherwise it may have been delivered once more meanwhile. */
	if (fz_chance(t, 20) && !ret) {
		int again = cf_cread32(o->fd, r->id);

		/* No 32-bit system calls there. */
		if (again != -ENOSYS)
			FZ_REFUSED(t, again, EINVAL);
		else
			FZ_REFUSED(t, cf_cread(o->fd, r->id), EINVAL);
	}
	return ret;
}

/* --- taking messages --- */

static long long any_size(struct fz_task *t, uint64_t right)
{
	static const long long sizes[] = {
		0, 1, 4095, 4096, 4097, 65536, FZ_FILE_MAX, 1LL << 40, 1LL << 44, 1LL << 62,
		INT64_MAX, INT64_MAX - 4095, -4096, -4097, INT64_MIN, INT64_MIN + 1,
	};

	if (fz_chance(t, 40))
		return (long long)right + (long long)fz_below(t, 3) - 1;
	return sizes[fz_below(t, sizeof(sizes) / sizeof(*sizes))];
}

static void note_open(struct fz_process *p, struct fz_object *o, unsigned int dev,
		      const struct cf_msg *m)
{
	const struct cachefiles_open *om = cf_open(m);
	uint64_t content = fz_content(cf_volume(m), om->data + om->volume_key_size,
				      om->cookie_key_size);

	/* The same object, opened before: the kernel has made those descriptors stale. */
	for (unsigned int i = 0; i < FZ_OBJECTS; i++) {
		struct fz_object *old = &p->objects[i];

		if (old == o || pthread_mutex_trylock(&old->lock))
			continue;
		if (old->fd >= 0 && old->dev == dev && old->content == content &&
		    old->object_id < m->hdr.object_id)
			old->stale = true;
		pthread_mutex_unlock(&old->lock);
	}
	fz_object_close(o);
	o->fd = (int)om->fd;
	o->dev = dev;
	o->object_id = m->hdr.object_id;
	o->open_id = m->hdr.msg_id;
	o->content = content;
	o->answered = false;
	o->stale = false;
}

static int got_open(struct fz_task *t, unsigned int dev, int fd, const struct cf_msg *m)
{
	struct fz_object *o = &t->p->objects[fz_below(t, FZ_OBJECTS)];
	unsigned int what = fz_below(t, 100);
	int ret = 0;

	fz_count(FZ_OPENS, 1);
	pthread_mutex_lock(&o->lock);
	note_open(t->p, o, dev, m);
	fz_say(t, "OPEN %u object %u fd %d", o->open_id, o->object_id, o->fd);
	if (what < 60) {
		ret = answer_open(t, o, fd, (long long)fz_size(o->content));
	} else if (what < 64) {
		ret = answer_open(t, o, fd, any_size(t, fz_size(o->content)));
	} else if (what < 71) {
		ret = answer_open(t, o, fd, -1 - (long long)fz_below(t, 4095));
	} else if (what < 73) {
		fz_object_close(o);
		ret = answer_open(t, o, fd, (long long)fz_size(o->content));
		/* Another process may have taken the OPEN meanwhile; this one has no descriptor. */
		if (!ret)
			o->answered = false;
	} else if (what < 76) {
		fz_object_close(o);
	}
	if (ret)
		fz_object_close(o);
	pthread_mutex_unlock(&o->lock);
	return ret;
}

/* Locked, or NULL if it is none of this process. */
static struct fz_object *find_object(struct fz_process *p, unsigned int dev, uint32_t id)
{
	for (unsigned int i = 0; i < FZ_OBJECTS; i++) {
		struct fz_object *o = &p->objects[i];

		pthread_mutex_lock(&o->lock);
		if (o->fd >= 0 && o->dev == dev && o->object_id == id)
			return o;
		pthread_mutex_unlock(&o->lock);
	}
	return NULL;
}

static int got_read(struct fz_task *t, unsigned int dev, const struct cf_msg *m)
{
	struct fz_read r = { .id = m->hdr.msg_id, .off = cf_rd(m)->off, .len = cf_rd(m)->len };
	struct fz_object *o = find_object(t->p, dev, m->hdr.object_id);
	unsigned int what = fz_below(t, 100);
	int ret = 0;

	fz_count(FZ_READS, 1);
	fz_say(t, "READ %u object %u %llu+%llu", r.id, m->hdr.object_id,
	       (unsigned long long)r.off, (unsigned long long)r.len);
	if (!o)
		return 0;
	if (what < 76) {
		ret = answer_read(t, o, &r, 100);
	} else if (what < 80) {
		ret = answer_read(t, o, &r, fz_below(t, 100));
	} else if (what < 84) {
		fz_say(t, " close %d", o->fd);
		fz_object_close(o);
	} else if (what < 95) {
		if (o->nr_reads == FZ_READS_KEPT)
			forget_read(o, 0);
		o->reads[o->nr_reads++] = r;
	}
	pthread_mutex_unlock(&o->lock);
	return ret;
}

static int got_close(struct fz_task *t, unsigned int dev, const struct cf_msg *m)
{
	struct fz_object *o = find_object(t->p, dev, m->hdr.object_id);

	fz_count(FZ_CLOSES, 1);
	fz_say(t, "CLOSE object %u", m->hdr.object_id);
	if (!o)
		return 0;
	if (fz_chance(t, 80))
		fz_object_close(o);
	else
		o->stale = true;
	pthread_mutex_unlock(&o->lock);
	return 0;
}

static int got_message(struct fz_task *t, unsigned int dev, int fd, const struct cf_msg *m)
{
	switch (m->hdr.opcode) {
	case CACHEFILES_OP_OPEN:
		return got_open(t, dev, fd, m);
	case CACHEFILES_OP_READ:
		return got_read(t, dev, m);
	default:
		return got_close(t, dev, m);
	}
}

static unsigned int any_device(struct fz_task *t)
{
	return fz_chance(t, 60) ? 0 : 1 + fz_below(t, FZ_LOCALS);
}

/* A buffer of any size, at any place; where there is nothing one can't be read. */
static int read_message(struct fz_task *t, int fd, struct cf_msg *m)
{
	unsigned char *end = t->pages + FZ_PAGE;
	struct iovec iov[2];
	size_t size;
	void *at;
	int n;

	switch (fz_below(t, 16)) {
	case 0:
		size = fz_below(t, 64);
		at = t->pages;
		break;
	case 1:
		size = sizeof(*m);
		at = end - fz_below(t, 64);
		break;
	case 2:
		size = sizeof(*m);
		at = t->pages + 2 * FZ_PAGE;
		break;
	case 3:
		size = sizeof(*m);
		at = (void *)(fz_chance(t, 50) ? 0UL : 0xffff888000000000UL);
		break;
	case 4:
		size = FZ_BUF;
		at = t->buf;
		break;
	case 5:
		/* Each part is a read(2) of its own, as long as they are filled. */
		iov[0] = (struct iovec) { t->pages, fz_below(t, 48) };
		iov[1] = (struct iovec) { t->pages + 64, sizeof(*m) };
		n = fz_err(readv(fd, iov, 2));
		fz_say(t, "readv %zu", iov[0].iov_len);
		FZ_EXPECT(t, n, EMSGSIZE, EIO, EMFILE, ENFILE);
		/* What came was good enough to be looked at, but not more. */
		return n < 0 ? n : 0;
	default:
		size = sizeof(*m);
		at = m;
	}
	n = fz_err(read(fd, at, size));
	if (at != m)
		fz_say(t, "read %zu at %lx", size, (unsigned long)at);
	FZ_EXPECT(t, n, EMSGSIZE, EFAULT, EIO, EMFILE, ENFILE);
	if (n > 0 && at != m)
		memcpy(m, at, n < (int)sizeof(*m) ? (size_t)n : sizeof(*m));
	return n;
}

static int op_message(struct fz_task *t)
{
	unsigned int dev = any_device(t);
	int fd = fz_device_get(t, dev), n;
	struct cf_msg m;
	char text[64];

	fz_say(t, "dev %u ", dev);
	if (fd < 0)
		return fd;
	if (fz_chance(t, 50))
		cf_poll(fd, POLLIN, 1);
	n = read_message(t, fd, &m);
	/* One of the original mode says how full it is. */
	if (n > 0 && dev && n >= 5 && !memcmp(&m, "cull=", 5)) {
		snprintf(text, sizeof(text), "%.*s", n < 60 ? n : 60, (char *)&m);
		fz_say(t, "%s", text);
	} else if (n > 0) {
		fz_check_message(&m, n);
		n = got_message(t, dev, fd, &m);
	}
	fz_device_put(t, dev);
	return n;
}

/* Short of descriptors. */
static int op_few_fds(struct fz_task *t)
{
	struct rlimit few = t->p->nofile;
	int ret;

	few.rlim_cur = t->p->low + fz_below(t, 8);
	setrlimit(RLIMIT_NOFILE, &few);
	ret = op_message(t);
	/* Not what it was before: another thread may be here, too. */
	setrlimit(RLIMIT_NOFILE, &t->p->nofile);
	return ret;
}

/* What was put off: the answer to an OPEN or to a READ. */
static int op_answer(struct fz_task *t)
{
	unsigned int first = fz_below(t, FZ_OBJECTS), percent = fz_chance(t, 90) ? 100 : 50;
	struct fz_object *o = NULL;
	int ret = 0, fd;

	for (unsigned int i = 0; i < FZ_OBJECTS; i++) {
		o = &t->p->objects[(first + i) % FZ_OBJECTS];
		if (o->fd >= 0 && ((!o->answered && !o->stale) || o->nr_reads))
			break;
	}
	unsigned int dev = o->dev;

	fd = fz_device_get(t, dev);
	if (fd < 0)
		return fd;
	pthread_mutex_lock(&o->lock);
	if (o->fd < 0 || o->dev != dev) {
		ret = -ENOENT;
	} else if (!o->answered) {
		ret = answer_open(t, o, fd, (long long)fz_size(o->content));
		if (ret)
			fz_object_close(o);
	} else if (o->nr_reads) {
		unsigned int i = fz_below(t, o->nr_reads);
		struct fz_read r = o->reads[i];

		forget_read(o, i);
		ret = answer_read(t, o, &r, percent);
	}
	pthread_mutex_unlock(&o->lock);
	fz_device_put(t, dev);
	return ret;
}

/* --- processes that inherit all of it --- */

static void child_serve(struct fz_process *p, unsigned int dev, int fd, unsigned int left,
			unsigned char *buf)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	struct fz_object *o;
	struct cf_msg m;

	while (left-- && poll(&pfd, 1, 10 * fz->scale) >= 0 && !(pfd.revents & POLLERR)) {
		int n = cf_read(fd, &m);

		if (n <= 0)
			continue;
		switch (m.hdr.opcode) {
		case CACHEFILES_OP_OPEN:
			o = &p->objects[left % FZ_OBJECTS];
			note_open(p, o, dev, &m);
			o->answered = !cf_copen(fd, o->open_id, (long long)fz_size(o->content));
			break;
		case CACHEFILES_OP_READ:
			o = find_object(p, dev, m.hdr.object_id);
			if (!o)
				break;
			fill(o, cf_rd(&m)->off, cf_rd(&m)->len, buf);
			cf_cread(o->fd, m.hdr.msg_id);
			pthread_mutex_unlock(&o->lock);
			break;
		}
	}
}

static int op_fork(struct fz_task *t)
{
	unsigned int which = fz_below(t, FZ_CHILDREN), left = 1 + fz_below(t, 24);
	unsigned int dev = any_device(t);
	struct fz_process *p = t->p;
	int fd, ret;
	pid_t pid;

	fz_say(t, "child %u serves dev %u, %u times", which, dev, left);
	fz_kill_child(p, which);
	fd = fz_device_get(t, dev);
	if (fd < 0)
		return fd;
	/* The child is to find the table as it is at one moment. */
	for (unsigned int i = 0; i < FZ_OBJECTS; i++)
		pthread_mutex_lock(&p->objects[i].lock);
	pid = fork();
	ret = pid < 0 ? -errno : 0;
	for (unsigned int i = 0; i < FZ_OBJECTS; i++)
		pthread_mutex_unlock(&p->objects[i].lock);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (left % 2)
			cf_cmd(fd, "restore");
		child_serve(p, dev, fd, left, t->buf);
		_exit(0);
	}
	fz_device_put(t, dev);
	pthread_mutex_lock(&p->children_lock);
	if (pid > 0 && !p->children[which]) {
		p->children[which] = pid;
	} else if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	pthread_mutex_unlock(&p->children_lock);
	return ret;
}

static int op_kill_child(struct fz_task *t)
{
	unsigned int which = fz_below(t, FZ_CHILDREN);

	fz_say(t, "child %u", which);
	if (t->p->children[which])
		fz_count(FZ_DAEMON_KILLS, 1);
	fz_kill_child(t->p, which);
	return 0;
}

static int op_restore(struct fz_task *t)
{
	static const char * const forms[] = { "restore", "restore\n", "restore 1 2", "restore\t" };
	unsigned int dev = any_device(t), form = fz_below(t, 4);
	int fd = fz_device_get(t, dev), ret;

	fz_say(t, "dev %u %s", dev, forms[form]);
	if (fd < 0)
		return fd;
	ret = cf_cmd(fd, "%s", forms[form]);
	fz_device_put(t, dev);
	return FZ_EXPECT(t, ret, EIO, EOPNOTSUPP);
}

/* Every descriptor that is not needed, whoever of this process is about to use it. */
static int op_close_range(struct fz_task *t)
{
	struct fz_process *p = t->p;
	int ret;

	/* It is held for reading around each operation. */
	fz_leave(p);
	pthread_rwlock_wrlock(&p->fds);
	fz_say(t, "from %d", p->low);
	ret = fz_err(syscall(SYS_close_range, p->low, ~0U, 0));
	for (unsigned int i = 0; i < FZ_OBJECTS; i++)
		p->objects[i].fd = -1;
	for (unsigned int i = 0; i < FZ_DEVICES; i++)
		p->devices[i].fd = -1;
	p->devices[0].gen = ~0U;
	pthread_rwlock_unlock(&p->fds);
	fz_enter(p);
	return ret;
}

const struct fz_op fz_daemon_ops[] = {
	{ "message",	FZ_DAEMON, 400, op_message },
	{ "answer",	FZ_DAEMON, 120, op_answer },
	{ "few_fds",	FZ_DAEMON, 5, op_few_fds },
	{ "restore",	FZ_DAEMON, 10, op_restore },
	{ "fork",	FZ_DAEMON, 1, op_fork },
	{ "kill_child",	FZ_DAEMON, 1, op_kill_child },
	{ "close_range", FZ_DAEMON, 2, op_close_range },
	{ NULL }
};

/* --- the tame daemon --- */

#define TAME_FDS	256

struct tame {
	int		dev;
	unsigned int	gen;
	struct fz_object	held[TAME_FDS];
};

static void tame_open(struct tame *d, const struct cf_msg *m)
{
	struct fz_object *o = &d->held[m->hdr.object_id % TAME_FDS];
	const struct cachefiles_open *om = cf_open(m);
	uint64_t content = fz_content(cf_volume(m), om->data + om->volume_key_size,
				      om->cookie_key_size);

	fz_object_close(o);
	o->fd = (int)om->fd;
	o->object_id = m->hdr.object_id;
	o->content = content;
	if (cf_copen(d->dev, m->hdr.msg_id, (long long)fz_size(content)))
		fz_object_close(o);
	else
		fz_count(FZ_TAME_OPENS, 1);
}

static void tame_message(struct tame *d, const struct cf_msg *m, unsigned char *buf)
{
	struct fz_object *o = &d->held[m->hdr.object_id % TAME_FDS];
	bool mine = o->fd >= 0 && o->object_id == m->hdr.object_id;

	switch (m->hdr.opcode) {
	case CACHEFILES_OP_OPEN:
		tame_open(d, m);
		break;
	case CACHEFILES_OP_READ:
		/* Otherwise whoever has the descriptor closes it, and it comes again. */
		if (!mine)
			break;
		fill(o, cf_rd(m)->off, cf_rd(m)->len, buf);
		if (!cf_cread(o->fd, m->hdr.msg_id))
			fz_count(FZ_TAME_READS, 1);
		break;
	case CACHEFILES_OP_CLOSE:
		if (mine)
			fz_object_close(o);
		break;
	}
}

static void tame_renew(struct tame *d, unsigned int gen)
{
	for (unsigned int i = 0; i < TAME_FDS; i++)
		fz_object_close(&d->held[i]);
	if (d->dev >= 0)
		close(d->dev);
	d->dev = gen % 2 ? -1 : fz_parent_device(0);
	d->gen = gen;
	if (d->dev >= 0)
		cf_cmd(d->dev, "restore");
}

/* Serves the main cache until it is killed. */
void fz_tame(void)
{
	static struct tame d = { .dev = -1, .gen = ~0U };
	unsigned char *buf = malloc(FZ_BUF);
	long long last = cf_now();
	struct cf_msg m;

	for (unsigned int i = 0; i < TAME_FDS; i++)
		d.held[i].fd = -1;
	while (buf) {
		unsigned int gen = __atomic_load_n(&fz->caches[0].gen, __ATOMIC_ACQUIRE);
		struct pollfd p = { .events = POLLIN };
		int n;

		if (gen != d.gen)
			tame_renew(&d, gen);
		p.fd = d.dev;
		poll(&p, 1, 20);
		if (d.dev < 0 || p.revents & POLLERR) {
			poll(NULL, 0, 5);
			continue;
		}
		/* What the wild ones keep for themselves. */
		if (cf_now() - last > 50 * fz->scale) {
			cf_cmd(d.dev, "restore");
			last = cf_now();
		}
		/* For them to be first, which matters only if they want to. */
		if (fz->nr_processes > 1 && p.revents)
			poll(NULL, 0, 3);
		n = cf_read(d.dev, &m);
		if (n <= 0)
			continue;
		fz_check_message(&m, n);
		tame_message(&d, &m, buf);
	}
}
