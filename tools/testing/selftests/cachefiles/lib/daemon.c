// SPDX-License-Identifier: GPL-2.0-only
/* Daemon side of the on-demand cache protocol; see daemon.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon.h"

#define FILL_CHUNK	(256U << 10)

static int err_or(ssize_t ret)
{
	return ret < 0 ? -errno : (int)ret;
}

int cf_ms(int ms)
{
	const char *s = getenv("CF_TIME_SCALE");
	int scale = s ? atoi(s) : 1;

	return ms * (scale > 0 ? scale : 1);
}

long long cf_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

int cf_poll(int fd, short events, int ms)
{
	long long end = cf_now() + ms;
	struct pollfd p = { .fd = fd, .events = events };
	int ret;

	for (;;) {
		long long left = end - cf_now();

		ret = poll(&p, 1, left > 0 ? (int)left : 0);
		if (ret >= 0)
			return ret ? p.revents : 0;
		if (errno != EINTR)
			return -errno;
	}
}

/* The cookie key of an OPEN as a string. */
const char *cf_key(const struct cf_msg *m, char buf[256])
{
	const struct cachefiles_open *o = cf_open(m);
	size_t n = o->cookie_key_size < 255 ? o->cookie_key_size : 255;

	memcpy(buf, o->data + o->volume_key_size, n);
	buf[n] = '\0';
	return buf;
}

int cf_device(void)
{
	return err_or(open(CF_DEVICE, O_RDWR | O_CLOEXEC));
}

int cf_write_raw(int dev, const void *buf, size_t len)
{
	ssize_t ret = write(dev, buf, len);

	if (ret < 0)
		return -errno;
	return (size_t)ret == len ? 0 : -EPROTO;
}

/* Write one command: 0 when the kernel took all of it. */
int cf_cmd(int dev, const char *fmt, ...)
{
	char buf[4096];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	if (n < 0 || n >= (int)sizeof(buf))
		return -E2BIG;
	return cf_write_raw(dev, buf, n);
}

int cf_bind(int dev, const char *dir, const char *tag)
{
	int ret = cf_cmd(dev, "dir %s", dir);

	if (!ret && tag)
		ret = cf_cmd(dev, "tag %s", tag);
	if (!ret)
		ret = cf_cmd(dev, "bind ondemand");
	return ret;
}

/* Read one message: its length, 0 when there is none. */
int cf_read(int dev, struct cf_msg *m)
{
	ssize_t ret = read(dev, m->raw, sizeof(m->raw));

	if (ret < 0)
		return -errno;
	if (ret && (ret < (ssize_t)sizeof(m->hdr) || m->hdr.len != ret))
		return -EPROTO;
	return (int)ret;
}

/* Wait for a message and read it: its length, or -ETIMEDOUT. */
int cf_next(int dev, struct cf_msg *m, int ms)
{
	long long end = cf_now() + cf_ms(ms);

	for (;;) {
		long long left = end - cf_now();
		int ret = cf_poll(dev, POLLIN, left > 0 ? (int)left : 0);

		if (ret < 0)
			return ret;
		if (!ret)
			return -ETIMEDOUT;
		ret = cf_read(dev, m);
		if (ret)
			return ret;
	}
}

/* The next message, which has to be of kind @op: 0, or a negative errno. */
int cf_expect(int dev, struct cf_msg *m, unsigned int op, int ms)
{
	int ret = cf_next(dev, m, ms);

	if (ret < 0)
		return ret;
	return m->hdr.opcode == op ? 0 : -ENOMSG;
}

/* 1 when poll and read(2) agree that nothing is to be delivered. */
int cf_idle(int dev)
{
	struct cf_msg m;

	return cf_poll(dev, POLLIN, 0) == 0 && cf_read(dev, &m) == 0;
}

int cf_copen(int dev, __u32 id, long long size)
{
	return cf_cmd(dev, "copen %u,%lld", id, size);
}

int cf_cread(int fd, __u32 id)
{
	return err_or(ioctl(fd, CACHEFILES_IOC_CREAD, (unsigned long)id));
}

/* The same call through the 32-bit system call entry, as a 32-bit daemon makes it. */
int cf_cread32(int fd, __u32 id)
{
#ifdef __x86_64__
	long ret;

	/* 54 is ioctl in the i386 table; there are no pointers to truncate. */
	__asm__ volatile("int $0x80"
			 : "=a" (ret)
			 : "a" (54L), "b" ((long)fd), "c" ((long)CACHEFILES_IOC_CREAD),
			   "d" ((long)id)
			 : "memory", "r8", "r9", "r10", "r11");
	return (int)ret;
#else
	(void)fd;
	(void)id;
	return -ENOSYS;
#endif
}

static __u64 pattern_word(__u64 seed, __u64 index)
{
	__u64 x = (seed + 1) * 0x9e3779b97f4a7c15ULL + index * 0xd1b54a32d192ed03ULL;

	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9ULL;
	return x ^ (x >> 32) ^ 0x0101010101010101ULL;
}

void cf_pattern(__u64 seed, __u64 off, void *buf, size_t len)
{
	unsigned char *p = buf;

	while (len) {
		__u64 w = pattern_word(seed, off / 8);
		size_t in = off % 8, n = 8 - in < len ? 8 - in : len;

		memcpy(p, (unsigned char *)&w + in, n);
		p += n;
		off += n;
		len -= n;
	}
}

/* Offset (in the file) of the first byte that differs from the pattern, or -1. */
long long cf_differs(__u64 seed, __u64 off, const void *buf, size_t len)
{
	const unsigned char *p = buf;
	unsigned char want[512];

	while (len) {
		size_t n = len < sizeof(want) ? len : sizeof(want);

		cf_pattern(seed, off, want, n);
		if (memcmp(p, want, n)) {
			for (size_t i = 0; i < n; i++)
				if (p[i] != want[i])
					return (long long)(off + i);
		}
		p += n;
		off += n;
		len -= n;
	}
	return -1;
}

/*
 * Fill [off, off + len) of an object of @size bytes: pattern up to the size,
 * zeros to the end of the last block, nothing beyond.
 */
ssize_t cf_fill(int fd, __u64 seed, __u64 off, __u64 len, __u64 size)
{
	static __thread unsigned char *buf;
	__u64 top = (size + CF_BLOCK - 1) / CF_BLOCK * CF_BLOCK;
	ssize_t done = 0;

	if (!buf && posix_memalign((void **)&buf, CF_BLOCK, FILL_CHUNK))
		return -ENOMEM;
	if (off + len > top)
		len = off < top ? top - off : 0;
	while (len) {
		size_t n = len < FILL_CHUNK ? len : FILL_CHUNK;
		size_t data = off >= size ? 0 : size - off < n ? size - off : n;
		ssize_t ret;

		cf_pattern(seed, off, buf, data);
		memset(buf + data, 0, n - data);
		ret = pwrite(fd, buf, n, (off_t)off);
		if (ret < 0)
			return -errno;
		if (!ret)
			return -EPROTO;
		off += ret;
		len -= ret;
		done += ret;
	}
	return done;
}

/* The same with the content of the file @source; its last block is filled with zeros. */
static ssize_t copy_from(int fd, const char *source, __u64 off, __u64 len, __u64 size)
{
	__u64 top = (size + CF_BLOCK - 1) / CF_BLOCK * CF_BLOCK;
	int from = open(source, O_RDONLY | O_CLOEXEC);
	unsigned char buf[64 << 10];
	ssize_t done = 0, n = 0;

	if (from < 0)
		return -errno;
	if (off + len > top)
		len = off < top ? top - off : 0;
	while (len) {
		size_t want = len < sizeof(buf) ? len : sizeof(buf);

		memset(buf, 0, want);
		n = pread(from, buf, want, (off_t)off);
		if (n >= 0)
			n = pwrite(fd, buf, want, (off_t)off);
		if (n <= 0) {
			done = n ? -errno : -EPROTO;
			break;
		}
		off += n;
		len -= n;
		done += n;
	}
	close(from);
	return done;
}

/* --- scripted server --- */

int cf_server_init(struct cf_server *s, int dev)
{
	void *p = mmap(NULL, CF_BLOCK, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	memset(s, 0, sizeof(*s));
	if (p == MAP_FAILED)
		return -errno;
	s->stats = p;
	s->seen = (bool *)(s->stats + 1);
	s->dev = dev;
	s->pidfd = -1;
	s->stop[0] = -1;
	s->stop[1] = -1;
	return 0;
}

struct cf_file *cf_server_add(struct cf_server *s, const char *key,
			      __u64 size, __u64 seed)
{
	struct cf_file *f;

	if (s->nr_files == CF_MAX_FILES)
		return NULL;
	f = &s->files[s->nr_files++];
	memset(f, 0, sizeof(*f));
	snprintf(f->key, sizeof(f->key), "%s", key);
	f->size = size;
	f->seed = seed;
	return f;
}

void cf_server_rule(struct cf_server *s, unsigned int op, int nth,
		    enum cf_point point, enum cf_action action, long long arg)
{
	if (s->nr_rules < CF_MAX_RULES)
		s->rules[s->nr_rules++] = (struct cf_rule) {
			.op = op, .nth = nth, .point = point,
			.action = action, .arg = arg,
		};
}

static unsigned long *op_count(struct cf_server *s, unsigned int op)
{
	switch (op) {
	case CACHEFILES_OP_OPEN:
		return &s->stats->opens;
	case CACHEFILES_OP_READ:
		return &s->stats->reads;
	case CACHEFILES_OP_CLOSE:
		return &s->stats->closes;
	}
	return &s->stats->odd;
}

/* The rule for message number @nth of kind @op at @point. */
static const struct cf_rule *find_rule(struct cf_server *s, unsigned int op,
				       unsigned long nth, enum cf_point point)
{
	for (int i = 0; i < s->nr_rules; i++) {
		const struct cf_rule *r = &s->rules[i];

		if (r->op == op && r->point == point &&
		    (r->nth < 0 || (unsigned long)r->nth == nth))
			return r;
	}
	return NULL;
}

static void die(struct cf_server *s)
{
	s->stats->died++;
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

static struct cf_held *held(struct cf_server *s, __u32 object_id)
{
	if (object_id >= s->nr_held) {
		unsigned int nr = object_id + 64;
		struct cf_held *p = realloc(s->held, nr * sizeof(*p));

		if (!p)
			return NULL;
		for (unsigned int i = s->nr_held; i < nr; i++)
			p[i] = (struct cf_held) { .fd = -1, .file = -1 };
		s->held = p;
		s->nr_held = nr;
	}
	return &s->held[object_id];
}

static void count_refusal(struct cf_server *s, int ret)
{
	if (ret < 0)
		s->stats->refused++;
}

static void close_held(struct cf_held *h)
{
	if (h->fd >= 0)
		close(h->fd);
	h->fd = -1;
}

static void answer_open(struct cf_server *s, struct cf_msg *m,
			const struct cf_rule *r)
{
	struct cf_held *h = held(s, m->hdr.object_id);
	long long answer = -ENOENT;
	char key[256];

	cf_key(m, key);
	for (int i = 0; h && i < s->nr_files; i++) {
		if (strcmp(s->files[i].key, key) && !s->any_key)
			continue;
		h->fd = cf_open_fd(m);
		h->file = i;
		if (s->seen[i])
			s->stats->reopened++;
		s->seen[i] = true;
		answer = s->files[i].error ? -s->files[i].error : (long long)s->files[i].size;
		break;
	}
	if (r && r->action == CF_ERROR)
		answer = -r->arg;
	if (r && r->action == CF_WRONG_SIZE)
		answer = r->arg;
	if (r && r->action == CF_CLOSE_FD && h)
		close_held(h);
	if (r && r->action == CF_WRONG_ID)
		count_refusal(s, cf_copen(s->dev, m->hdr.msg_id + 1000, answer));
	count_refusal(s, cf_copen(s->dev, m->hdr.msg_id, answer));
	if (r && r->action == CF_TWICE)
		count_refusal(s, cf_copen(s->dev, m->hdr.msg_id, answer));
	if (answer < 0 && !(r && r->action == CF_CLOSE_FD)) {
		close(cf_open_fd(m));
		if (h)
			h->fd = -1;
	}
}

static void answer_read(struct cf_server *s, struct cf_msg *m,
			const struct cf_rule *r, unsigned long nth)
{
	struct cf_held *h = held(s, m->hdr.object_id);
	const struct cachefiles_read *rd = cf_rd(m);
	const struct cf_rule *w;
	struct cf_file *f;
	__u64 len = rd->len;
	ssize_t n = 0;

	if (!h || h->fd < 0) {
		s->stats->odd += !h || h->file < 0;
		return;
	}
	f = &s->files[h->file];
	if (s->delay_ms)
		poll(NULL, 0, s->delay_ms);
	if (r && r->action == CF_CLOSE_FD) {
		close_held(h);
		return;
	}
	if (r && r->action == CF_PARTIAL && (__u64)r->arg < len)
		len = r->arg;
	if (!(r && r->action == CF_ERROR))
		n = f->source[0] ? copy_from(h->fd, f->source, rd->off, len, f->size) :
		    cf_fill(h->fd, f->seed, rd->off, len, f->size);
	count_refusal(s, n < 0 ? (int)n : 0);
	s->stats->bytes += n > 0 ? n : 0;

	w = find_rule(s, CACHEFILES_OP_READ, nth, CF_WRITTEN);
	if (w && w->action == CF_DIE)
		die(s);
	if (w && w->action == CF_STALL)
		return;
	if (w && w->action == CF_CLOSE_FD) {
		close_held(h);
		return;
	}
	if (r && r->action == CF_WRONG_ID)
		count_refusal(s, cf_cread(h->fd, m->hdr.msg_id + 1000));
	count_refusal(s, cf_cread(h->fd, m->hdr.msg_id));
	if (r && r->action == CF_TWICE)
		count_refusal(s, cf_cread(h->fd, m->hdr.msg_id));
}

static void handle(struct cf_server *s, struct cf_msg *m, bool deferred)
{
	unsigned int op = m->hdr.opcode;
	unsigned long *count = op_count(s, op), nth = *count;
	const struct cf_rule *r = NULL;
	struct cf_held *h;

	if (!deferred) {
		++*count;
		r = find_rule(s, op, nth, CF_GOT);
		if (r && r->action == CF_DIE)
			die(s);
		if (r && r->action == CF_STALL)
			return;
		if (r && r->action == CF_LATE) {
			s->late = *m;
			s->has_late = true;
			return;
		}
	}
	switch (op) {
	case CACHEFILES_OP_OPEN:
		answer_open(s, m, r);
		break;
	case CACHEFILES_OP_READ:
		answer_read(s, m, r, nth);
		break;
	case CACHEFILES_OP_CLOSE:
		h = held(s, m->hdr.object_id);
		if (h)
			close_held(h);
		break;
	}
	r = deferred ? NULL : find_rule(s, op, nth, CF_REPLIED);
	if (r && r->action == CF_DIE)
		die(s);
	if (r && r->action == CF_CLOSE_FD) {
		h = held(s, m->hdr.object_id);
		if (h)
			close_held(h);
	}
}

/* Handle one message by the rules; then the one that was to be late. */
int cf_server_handle(struct cf_server *s, struct cf_msg *m)
{
	bool was_late = s->has_late;
	struct cf_msg late;

	if (was_late)
		late = s->late;
	s->has_late = false;
	handle(s, m, false);
	if (was_late)
		handle(s, &late, true);
	return 0;
}

/* Serve until the device is dead or the stop pipe is closed. */
int cf_server_run(struct cf_server *s)
{
	struct pollfd p[2] = {
		{ .fd = s->dev, .events = POLLIN },
		{ .fd = s->stop[0], .events = POLLIN },
	};
	struct cf_msg m;
	int ret;

	for (;;) {
		ret = poll(p, 2, -1);
		if (ret < 0 && errno != EINTR)
			return -errno;
		if (p[1].revents)
			return 0;
		if (p[0].revents & POLLIN) {
			/* The kind is not known before the read: any kind will do. */
			for (int i = 0; i < s->nr_rules; i++) {
				const struct cf_rule *r = &s->rules[i];

				if (r->point == CF_WAITING && r->action == CF_DIE &&
				    (unsigned long)r->nth == s->stats->opens +
				    s->stats->reads + s->stats->closes &&
				    !s->stats->died)
					die(s);
			}
		}
		ret = cf_read(s->dev, &m);
		if (ret < 0)
			return ret;
		if (ret)
			cf_server_handle(s, &m);
	}
}

static void *server_thread(void *arg)
{
	return (void *)(long)cf_server_run(arg);
}

int cf_server_thread(struct cf_server *s)
{
	int ret;

	if (pipe2(s->stop, O_CLOEXEC))
		return -errno;
	ret = pthread_create(&s->thread, NULL, server_thread, s);
	s->threaded = !ret;
	return -ret;
}

int cf_pidfd(pid_t pid)
{
	return err_or(syscall(SYS_pidfd_open, pid, 0));
}

/* Close every descriptor but stdio and those in @keep (in ascending order). */
int cf_close_others(const int *keep, int nr)
{
	unsigned int from = 3;

	for (int i = 0; i < nr; i++) {
		if (keep[i] < (int)from)
			continue;
		if (keep[i] > (int)from &&
		    syscall(SYS_close_range, from, keep[i] - 1, 0))
			return -errno;
		from = keep[i] + 1;
	}
	return syscall(SYS_close_range, from, ~0U, 0) ? -errno : 0;
}

/*
 * Serve in a process of its own that gets the device over a socket and nothing
 * else, and takes over what its predecessor held if @restore.
 */
int cf_server_fork(struct cf_server *s, bool restore)
{
	int sv[2], ret;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv))
		return -errno;
	pid = fork();
	if (pid < 0) {
		ret = -errno;
		close(sv[0]);
		close(sv[1]);
		return ret;
	}
	if (!pid) {
		cf_close_others(&sv[1], 1);
		s->dev = cf_recv_fd(sv[1], cf_ms(20000));
		s->stop[0] = -1;
		if (s->dev < 0)
			_exit(2);
		if (restore) {
			if (cf_cmd(s->dev, "restore"))
				_exit(3);
			s->stats->restored++;
		}
		_exit(cf_server_run(s) ? 1 : 0);
	}
	close(sv[1]);
	ret = cf_send_fd(sv[0], s->dev);
	close(sv[0]);
	s->pid = pid;
	s->pidfd = cf_pidfd(pid);
	return ret ? ret : s->pidfd < 0 ? s->pidfd : 0;
}

/* Wait until the daemon process is gone: 0 or -ETIMEDOUT. */
int cf_server_wait(struct cf_server *s, int ms)
{
	int ret = cf_poll(s->pidfd, POLLIN, cf_ms(ms));

	if (ret <= 0)
		return ret ? ret : -ETIMEDOUT;
	waitpid(s->pid, NULL, 0);
	close(s->pidfd);
	s->pidfd = -1;
	s->pid = 0;
	return 0;
}

void cf_server_stop(struct cf_server *s)
{
	if (s->threaded) {
		close(s->stop[1]);
		pthread_join(s->thread, NULL);
		close(s->stop[0]);
		s->threaded = false;
	}
	if (s->pid > 0) {
		kill(s->pid, SIGKILL);
		cf_server_wait(s, 5000);
	}
	for (unsigned int i = 0; i < s->nr_held; i++)
		close_held(&s->held[i]);
	free(s->held);
	s->held = NULL;
	s->nr_held = 0;
}

/* --- descriptors over a socket --- */

int cf_send_fd(int sock, int fd)
{
	char byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	union {
		struct cmsghdr hdr;
		char space[CMSG_SPACE(sizeof(int))];
	} u = { .space = { 0 } };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = u.space, .msg_controllen = sizeof(u.space),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	return sendmsg(sock, &msg, MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

int cf_recv_fd(int sock, int ms)
{
	char byte, space[CMSG_SPACE(sizeof(int))]
		__attribute__((aligned(__alignof__(struct cmsghdr))));
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = space, .msg_controllen = sizeof(space),
	};
	struct cmsghdr *c;
	int fd, ret;

	ret = cf_poll(sock, POLLIN, ms);
	if (ret <= 0)
		return ret ? ret : -ETIMEDOUT;
	ret = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	if (ret <= 0)
		return ret ? -errno : -EPIPE;
	c = CMSG_FIRSTHDR(&msg);
	if (!c || c->cmsg_type != SCM_RIGHTS)
		return -EPROTO;
	memcpy(&fd, CMSG_DATA(c), sizeof(int));
	return fd;
}
