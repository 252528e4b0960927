// SPDX-License-Identifier: GPL-2.0-only
/* The daemon: serves in several threads, and dies or misbehaves where it is told to. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "torture/torture.h"

#define MAX_FDS		(1U << 18)

/* What it holds under one descriptor. */
struct slot {
	pthread_rwlock_t	lock;
	__u32		object_id;	/* 0: nothing */
	unsigned int	file;
};

static struct slot *slots;
static int device, objects[OBJECTS + 1];
static struct daemon_state *self;

static void nap(long us)
{
	struct timespec ts = { .tv_nsec = us * 1000 };

	nanosleep(&ts, NULL);
}

static __attribute__((noreturn)) void die(void)
{
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

/*
 * Is the plan for this point?  Then nobody else carries it out.  What happens
 * then, if it is no death, is left to the caller who gets true.
 */
static bool planned(enum kind kind, enum point point, enum action *action)
{
	struct plan *p = &sh->plan;
	int armed = 1;

	if (!atomic_load(&p->armed) || p->point != point)
		return false;
	if (p->kind != kind && (p->kind != K_ANY || kind >= KINDS))
		return false;
	if (atomic_fetch_sub(&p->skip, 1) > 0)
		return false;
	*action = p->action;
	if (!atomic_compare_exchange_strong(&p->armed, &armed, 0))
		return false;
	add(&sh->hits[kind][point][*action], 1);
	return true;
}

/* True: the descriptor is to be closed. */
static bool strike(enum kind kind, enum point point)
{
	enum action action;

	if (!planned(kind, point, &action))
		return false;
	atomic_store(&self->struck, kind + 1);
	switch (action) {
	case A_KILL:
		die();
	case A_CLOSE:
		return true;
	default:
		kill(getpid(), SIGSTOP);
		/* The other threads stop a moment later than this call returns. */
		while (atomic_load(&self->struck))
			nap(1000);
		return false;
	}
}

static enum kind kind_of_open(unsigned int file)
{
	unsigned char now = atomic_load(&sh->cache_gen) / 2 + 1, then;

	if (file >= IMAGE_FILE)
		return K_UNSURE;
	then = atomic_load(&sh->opened[content_index(file)]);
	if (then != now)
		return K_OPEN;
	if (file >= FIRST_OBJECT)
		return atomic_load(&sh->mount_on[content_volume(file)]) ? K_REOPEN : K_UNSURE;
	for (unsigned int i = 0; i < sh->opt.readers; i++) {
		if (atomic_load(&sh->readers[i].holding) == file + 1)
			return K_REOPEN;
	}
	return K_UNSURE;
}

static void slot_close(struct slot *s, int fd, __u32 object_id)
{
	pthread_rwlock_wrlock(&s->lock);
	if (s->object_id == object_id) {
		s->object_id = 0;
		close(fd);
	}
	pthread_rwlock_unlock(&s->lock);
}

/*
 * Hold a descriptor of an OPEN that has gone to another daemon: whatever is
 * answered through it must be refused.
 */
static void answer_stale(int fd, unsigned int file)
{
	long long end = cf_now() + cf_ms(1000);
	__u32 id;

	while (cf_now() < end) {
		id = atomic_load(&sh->stale.read_id);
		if (!id) {
			nap(500);
			continue;
		}
		add(&sh->stale_tried, 1);
		if (!cf_cread(fd, id)) {
			add(&sh->stale_accepted, 1);
			fault("READ %u of f%u was answered through a stale descriptor", id, file);
		}
		atomic_store(&sh->stale.read_id, 0);
		break;
	}
}

static bool is_ours(const char *volume, unsigned int file)
{
	unsigned int nr;

	if (sh->opt.erofs)
		return file >= FIRST_OBJECT && file < IMAGE_FILE && !strncmp(volume, "erofs,", 6);
	return file != NO_FILE && sscanf(volume, "torture,%u", &nr) == 1 &&
	       nr == (file == IMAGE_FILE ? IMAGE_MOUNT : content_volume(file));
}

static void handle_open(const struct cf_msg *m)
{
	int fd = cf_open_fd(m), ret;
	struct slot *s = &slots[fd];
	unsigned int file;
	enum kind kind;
	bool stopped;
	char key[256];

	cf_key(m, key);
	file = content_file(key);
	if (!is_ours(cf_volume(m), file)) {
		fault("OPEN of %s in volume %s", key, cf_volume(m));
		return;
	}
	kind = kind_of_open(file);
	/* There has to be something to read that can be answered wrongly. */
	if (!content_size(file) && sh->plan.action == A_TAKEOVER)
		kind = K_UNSURE;
	add(kind == K_REOPEN ? &sh->reopens : &sh->opens, 1);
	if (atomic_load(&sh->stale.msg_id) == m->hdr.msg_id)
		atomic_store(&sh->stale.taken, 1);

	stopped = atomic_load(&sh->plan.armed) && sh->plan.action == A_TAKEOVER &&
		  sh->plan.point == P_GOT && sh->plan.kind == kind;
	if (stopped) {
		atomic_store(&sh->stale.taken, 0);
		atomic_store(&sh->stale.read_id, 0);
		atomic_store(&sh->stale.file, file + 1);
		atomic_store(&sh->stale.msg_id, m->hdr.msg_id);
	}
	/* Without a descriptor the OPEN can't be answered; a successor has to. */
	if (strike(kind, P_GOT)) {
		close(fd);
		die();
	}
	atomic_store(&sh->opened[content_index(file)], atomic_load(&sh->cache_gen) / 2 + 1);

	pthread_rwlock_wrlock(&s->lock);
	s->object_id = m->hdr.object_id;
	s->file = file;
	pthread_rwlock_unlock(&s->lock);
	ret = cf_copen(device, m->hdr.msg_id, content_size(file));
	if (ret) {
		add(&sh->refused, 1);
		if (stopped && atomic_load(&sh->stale.taken))
			answer_stale(fd, file);
	}
	if (stopped) {
		atomic_store(&sh->stale.msg_id, 0);
		atomic_store(&sh->stale.file, 0);
	}
	if (strike(kind, P_ANSWERED) || ret)
		slot_close(s, fd, m->hdr.object_id);
}

static void handle_close(const struct cf_msg *m)
{
	int fd = cf_close(m)->fd;

	add(&sh->closes, 1);
	strike(K_CLOSE, P_GOT);
	slot_close(&slots[fd], fd, m->hdr.object_id);
	strike(K_CLOSE, P_ANSWERED);
}

/* 0 or what a write said. */
static int fill(unsigned int file, int fd, __u64 off, __u64 len)
{
	static __thread char *buf;
	ssize_t n;

	if (file < FIRST_OBJECT) {
		n = cf_fill(fd, content_seed(file), off, len, content_size(file));
		if (n > 0)
			add(&sh->served, n);
		return n < 0 ? (int)n : 0;
	}
	if (!buf && posix_memalign((void **)&buf, CF_BLOCK, 256 * 1024))
		return -ENOMEM;
	while (len) {
		size_t want = len < 256 * 1024 ? len : 256 * 1024;

		memset(buf, 0, want);
		if (pread(objects[file - FIRST_OBJECT], buf, want, off) < 0)
			return -errno;
		n = pwrite(fd, buf, want, off);
		if (n <= 0)
			return n ? -errno : -EIO;
		add(&sh->served, n);
		off += n;
		len -= n;
	}
	return 0;
}

/* Let one with a stale descriptor try this READ before there are any data. */
static void show_stale(unsigned int file, __u32 id)
{
	if (atomic_load(&sh->stale.file) != file + 1 || !atomic_load(&sh->stale.taken) ||
	    atomic_load(&sh->stale.read_id))
		return;
	atomic_store(&sh->stale.read_id, id);
	for (int i = cf_ms(2000); i > 0 && atomic_load(&sh->stale.file) == file + 1 &&
	     atomic_load(&sh->stale.read_id) == id; i--)
		nap(1000);
}

/* Write, and answer.  True: the descriptor is to be closed. */
static bool carry_out(const struct cf_msg *m, unsigned int file)
{
	const struct cachefiles_read *rd = cf_rd(m);
	__u64 half = rd->len / 2 / CF_BLOCK * CF_BLOCK;
	int ret;

	show_stale(file, m->hdr.msg_id);
	ret = half ? fill(file, rd->fd, rd->off, half) : 0;
	if (strike(K_READ, P_HALF))
		return true;
	if (!ret)
		ret = fill(file, rd->fd, rd->off + half, rd->len - half);
	if (strike(K_READ, P_WRITTEN))
		return true;
	/* It is not wanted any more, or the cache has been closed. */
	if (ret == -ENOBUFS || ret == -EIO) {
		add(&sh->refused, 1);
	} else if (ret) {
		fault("writing f%u at %llu: %s", file, rd->off, strerror(-ret));
		return false;
	}
	if (cf_cread(rd->fd, m->hdr.msg_id))
		add(&sh->refused, 1);
	return strike(K_READ, P_ANSWERED);
}

/* Only the one who has the descriptor can answer: it needs a restore. */
static void not_mine(void)
{
	add(&sh->foreign, 1);
	atomic_fetch_add(&self->foreign, 1);
}

static void handle_read(const struct cf_msg *m, unsigned int *seed)
{
	int fd = cf_rd(m)->fd;
	struct slot *s = &slots[fd];
	bool closing = false;

	add(&sh->reads, 1);
	if (rand_r(seed) % 2)
		nap(rand_r(seed) % 3000);
	closing = strike(K_READ, P_GOT);
	if (!closing) {
		pthread_rwlock_rdlock(&s->lock);
		/* The descriptor may be that of another daemon. */
		if (s->object_id == m->hdr.object_id)
			closing = carry_out(m, s->file);
		else
			not_mine();
		pthread_rwlock_unlock(&s->lock);
	}
	if (closing)
		slot_close(s, fd, m->hdr.object_id);
}

/*
 * Look at the next message without taking it: read(2) to a buffer that ends a
 * byte too early fails, and leaves the message where it was.  If another thread
 * has been faster, a shorter one may fit, which is in @taken then; else @taken has
 * no length.
 */
static enum kind peek(char *page_end, struct cf_msg *taken)
{
	struct cachefiles_msg hdr;
	char key[256], *at;
	struct cf_msg m;
	ssize_t n;

	taken->hdr.len = 0;
	at = page_end - sizeof(hdr);
	memset(at, 0, sizeof(hdr));
	if (read(device, at, CACHEFILES_MSG_MAX_SIZE) >= 0 || errno != EFAULT)
		return K_UNSURE;
	memcpy(&hdr, at, sizeof(hdr));
	add(&sh->faulted, 1);
	switch (hdr.opcode) {
	case CACHEFILES_OP_READ:
		return K_READ;
	case CACHEFILES_OP_CLOSE:
		return K_CLOSE;
	}
	if (hdr.opcode != CACHEFILES_OP_OPEN || hdr.len > sizeof(m))
		return K_UNSURE;
	/* All but the last byte of the name, which says nothing. */
	at = page_end - (hdr.len - 1);
	memset(at, 0, hdr.len - 1);
	n = read(device, at, CACHEFILES_MSG_MAX_SIZE);
	if (n > 0)
		memcpy(taken->raw, at, n);
	if (n >= 0 || errno != EFAULT)
		return K_UNSURE;
	memset(&m, 0, sizeof(m));
	memcpy(m.raw, at, hdr.len - 1);
	if (m.hdr.msg_id != hdr.msg_id || m.hdr.opcode != hdr.opcode || m.hdr.len != hdr.len)
		return K_UNSURE;
	cf_key(&m, key);
	return kind_of_open(content_file(key));
}

static char *short_page(void)
{
	char *p = mmap(NULL, 2 * CF_BLOCK, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p + CF_BLOCK, CF_BLOCK, PROT_NONE))
		_exit(20);
	*p = 0;
	return p + CF_BLOCK;
}

static void *serving(void *arg)
{
	struct pollfd p = { .fd = device, .events = POLLIN };
	unsigned int seed = getpid() * 64 + (long)arg;
	char *page_end = short_page();
	struct cf_msg m;
	int ret;

	for (;;) {
		if (poll(&p, 1, -1) < 0)
			continue;
		/* The cache is being closed by its supervisor, who ends this process, too. */
		if (p.revents & (POLLERR | POLLHUP)) {
			pause();
			continue;
		}
		m.hdr.len = 0;
		if (atomic_load(&sh->plan.armed) && sh->plan.point == P_WAITING)
			strike(peek(page_end, &m), P_WAITING);
		ret = m.hdr.len ? (int)m.hdr.len : cf_read(device, &m);
		if (ret < 0 && ret != -EIO)
			fault("read(2) of the device: %s", strerror(-ret));
		if (ret <= 0)
			continue;
		atomic_fetch_add(&self->held, 1);
		switch (m.hdr.opcode) {
		case CACHEFILES_OP_OPEN:
			handle_open(&m);
			break;
		case CACHEFILES_OP_READ:
			handle_read(&m, &seed);
			break;
		case CACHEFILES_OP_CLOSE:
			handle_close(&m);
			break;
		default:
			fault("a message of kind %u", m.hdr.opcode);
		}
		atomic_fetch_sub(&self->held, 1);
	}
	return arg;
}

/*
 * Be a daemon of the cache behind @dev until killed.  Takes over by @restores
 * commands; dies before (1) or after (2) them if @die_at_restore says so.
 */
void serve(int dev, int slot, int restores, int die_at_restore)
{
	struct rlimit lim = { .rlim_cur = MAX_FDS, .rlim_max = MAX_FDS };
	pthread_t thread;
	char path[4096];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	device = dev;
	cf_close_others(&dev, 1);
	self = &sh->daemons[slot];
	atomic_store(&self->held, 0);
	atomic_store(&self->struck, 0);
	atomic_store(&self->foreign, 0);
	if (setrlimit(RLIMIT_NOFILE, &lim))
		_exit(21);
	slots = mmap(NULL, MAX_FDS * sizeof(*slots), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (slots == MAP_FAILED)
		_exit(22);
	for (unsigned int i = 0; i <= OBJECTS; i++) {
		if (!sh->object_size[i])
			continue;
		if (i == OBJECTS)
			snprintf(path, sizeof(path), "%s", sh->opt.image);
		else
			object_path(sh->opt.erofs, i / (1 + DEVICES), i % (1 + DEVICES), path);
		objects[i] = open(path, O_RDONLY | O_CLOEXEC);
		if (objects[i] < 0)
			_exit(23);
	}
	if (die_at_restore == 1)
		die();
	for (int i = 0; i < restores; i++) {
		if (cf_cmd(device, "restore"))
			_exit(24);
	}
	if (die_at_restore == 2)
		die();
	atomic_store(&self->ready, 1);
	for (long i = 1; i < sh->opt.threads; i++) {
		if (pthread_create(&thread, NULL, serving, (void *)i))
			_exit(25);
	}
	serving(NULL);
	_exit(26);
}
