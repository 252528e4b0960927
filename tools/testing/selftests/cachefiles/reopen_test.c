// SPDX-License-Identifier: GPL-2.0-only
/*
 * A descriptor may be closed at any moment: what was asked through it is asked
 * again through a new one, and every reader gets its data or the errno given.
 */
#include "harness.h"
#include "lib/delay.h"

#include <sched.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

/* Expect the reopening of what @old opened, and answer it with @size. */
static int reopen(struct cf_env *e, const struct cf_msg *old, long long size,
		  struct cf_msg *m)
{
	char a[256], b[256];
	int ret = cf_expect(e->dev, m, CACHEFILES_OP_OPEN, LONG);

	if (ret)
		return ret;
	if (strcmp(cf_key(old, a), cf_key(m, b)) || strcmp(cf_volume(old), cf_volume(m)))
		return -ENOMSG;
	if (m->hdr.object_id == old->hdr.object_id)
		return -EEXIST;
	ret = cf_copen(e->dev, m->hdr.msg_id, size);
	return ret ? ret : cf_open_fd(m);
}

static void finish(struct __test_metadata *_metadata, struct cf_reader *r, int err)
{
	struct cf_result res;

	ASSERT_EQ(0, cf_reader_wait(r, &res, LONG));
	/* The netfs library may make EIO of what failed. */
	EXPECT_TRUE(res.err == err || (err && res.err == EIO)) {
		TH_LOG("errno %d instead of %d", res.err, err);
	}
	if (!err) {
		EXPECT_EQ(4096, res.n);
		EXPECT_EQ(-1, res.bad);
	}
}

/*
 * Refuse every OPEN with @size until the reader has ended: a page that failed
 * in read-ahead is asked for once more by the reader itself.
 */
static void refuse(struct __test_metadata *_metadata, struct cf_env *e, struct cf_reader *r,
		   long long size, bool close_first, int writer)
{
	struct cf_msg m;
	int ret;

	for (int i = 0; i < 20 && !cf_reader_done(r); i++) {
		ret = cf_next(e->dev, &m, BRIEF);
		if (ret == -ETIMEDOUT)
			continue;
		ASSERT_LT(0, ret);
		ASSERT_EQ(CACHEFILES_OP_OPEN, m.hdr.opcode);
		if (close_first)
			close(cf_open_fd(&m));
		EXPECT_EQ(-writer, cf_copen(e->dev, m.hdr.msg_id, size));
		if (!close_first)
			close(cf_open_fd(&m));
	}
}

TEST_F(ondemand, d22_closed_while_idle)
{
	struct cf_env *e = &self->e;
	struct cf_msg o, n, m;
	struct cf_reader r;
	int fd;

	fd = open_object(e, &r, "file", MB, &o);
	ASSERT_LE(0, fd);
	close(fd);
	EXPECT_EQ(0, cf_poll(e->dev, POLLIN, cf_ms(BRIEF)));
	EXPECT_EQ(1, cf_idle(e->dev));
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 4096, 4096));
	/* A reopen that nobody has read yet takes no answer. */
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	for (unsigned int id = 0; id < 16; id++) {
		EXPECT_EQ(-EINVAL, cf_copen(e->dev, id, MB));
	}
	fd = reopen(e, &o, MB, &n);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	EXPECT_EQ(n.hdr.object_id, m.hdr.object_id);
	EXPECT_EQ(fd, (int)cf_rd(&m)->fd);
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	finish(_metadata, &r, 0);
}

TEST_F(ondemand, d22_closed_with_read_queued)
{
	struct cf_env *e = &self->e;
	struct cf_msg o, n, m;
	struct cf_reader r;
	int fd;

	fd = open_object(e, &r, "file", MB, &o);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 4096, 4096));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	close(fd);
	fd = reopen(e, &o, MB, &n);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	finish(_metadata, &r, 0);
}

TEST_F(ondemand, d22_closed_with_read_sent)
{
	struct cf_env *e = &self->e;
	struct cf_msg o, n, m, again;
	struct cf_reader r;
	int fd;

	fd = open_object(e, &r, "file", MB, &o);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 4096, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	close(fd);
	fd = reopen(e, &o, MB, &n);
	ASSERT_LE(0, fd);

	/* Queued again, so not to be answered before it is delivered again. */
	EXPECT_EQ(-EINVAL, cf_cread(fd, m.hdr.msg_id));
	EXPECT_EQ(0, cf_reader_done(&r));
	ASSERT_EQ(0, cf_expect(e->dev, &again, CACHEFILES_OP_READ, LONG));
	EXPECT_EQ(m.hdr.msg_id, again.hdr.msg_id);
	EXPECT_EQ(cf_rd(&m)->off, cf_rd(&again)->off);
	EXPECT_EQ(cf_rd(&m)->len, cf_rd(&again)->len);
	EXPECT_EQ(n.hdr.object_id, again.hdr.object_id);
	EXPECT_EQ(fd, (int)cf_rd(&again)->fd);
	ASSERT_EQ(0, serve_read(&again, fd, 1, MB));
	finish(_metadata, &r, 0);
}

/* Several READs, some sent and some not: none is lost, their order is kept. */
TEST_F(ondemand, d22_closed_with_many_reads)
{
	enum { NR = 12 };
	struct cf_env *e = &self->e;
	struct cf_msg o, n, m[NR], again;
	struct cf_reader r[NR], first;
	int fd;

	fd = open_object(e, &first, "file", MB, &o);
	ASSERT_LE(0, fd);
	for (int i = 0; i < NR; i++) {
		ASSERT_EQ(0, start_read(e, &r[i], "file", 1, i * 8192, 4096));
		if (i < NR / 2) {
			ASSERT_EQ(0, cf_expect(e->dev, &m[i], CACHEFILES_OP_READ, LONG));
		}
	}
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	close(fd);
	fd = reopen(e, &o, MB, &n);
	ASSERT_LE(0, fd);
	for (int i = 0; i < NR; i++) {
		ASSERT_EQ(0, cf_expect(e->dev, &again, CACHEFILES_OP_READ, LONG));
		if (i < NR / 2) {
			EXPECT_EQ(m[i].hdr.msg_id, again.hdr.msg_id);
		}
		ASSERT_EQ(0, serve_read(&again, fd, 1, MB));
	}
	for (int i = 0; i < NR; i++)
		finish(_metadata, &r[i], 0);
	EXPECT_EQ(1, cf_idle(e->dev));
}

TEST_F(ondemand, d22_closed_in_copy_of_read)
{
	struct cf_env *e = &self->e;
	struct cf_msg o, n, m;
	struct cf_stall st;
	struct cf_reader r;
	int fd, ret;

	fd = open_object(e, &r, "file", MB, &o);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 4096, 4096));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	if (cf_stall_start(&st, e->dev))
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(0, cf_stall_parked(&st, LONG));
	close(fd);
	memset(&n, 0, sizeof(n));
	ret = cf_stall_finish(&st, &n);
	/* The READ for a closed fd is not delivered; in its place comes the OPEN. */
	ASSERT_LT(0, ret);
	ASSERT_EQ(CACHEFILES_OP_OPEN, n.hdr.opcode);
	fd = cf_open_fd(&n);
	ASSERT_EQ(0, cf_copen(e->dev, n.hdr.msg_id, MB));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	finish(_metadata, &r, 0);
}

/* The reopen is under way for another READ when the copy ends. */
TEST_F(ondemand, d29_reopening_in_copy_of_read)
{
	struct cf_env *e = &self->e;
	struct cf_reader r[2];
	struct cf_msg o, n, m;
	struct cf_stall st;
	int fd;

	fd = open_object(e, &r[0], "file", MB, &o);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_read(e, &r[0], "file", 1, 4096, 4096));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	if (cf_stall_start(&st, e->dev))
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(0, cf_stall_parked(&st, LONG));
	close(fd);
	ASSERT_EQ(0, start_read(e, &r[1], "file", 1, 65536, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &n, CACHEFILES_OP_OPEN, LONG));
	/* The OPEN is sent and not answered: there is nothing to deliver. */
	EXPECT_EQ(0, cf_stall_finish(&st, &m));
	EXPECT_EQ(1, cf_idle(e->dev));
	fd = cf_open_fd(&n);
	ASSERT_EQ(0, cf_copen(e->dev, n.hdr.msg_id, MB));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
		ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	}
	finish(_metadata, &r[0], 0);
	finish(_metadata, &r[1], 0);
}

/* Closed again before the reopen is answered. */
TEST_F(ondemand, d21_closed_while_reopening)
{
	struct cf_env *e = &self->e;
	struct cf_msg o, n, m;
	struct cf_reader r;
	int fd;

	fd = open_object(e, &r, "file", MB, &o);
	ASSERT_LE(0, fd);
	close(fd);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 4096, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &n, CACHEFILES_OP_OPEN, LONG));
	close(cf_open_fd(&n));
	EXPECT_EQ(0, cf_poll(e->dev, POLLIN, cf_ms(BRIEF)));
	EXPECT_EQ(0, cf_reader_done(&r));

	/* The answer is too late, and says so to its writer and to the reader. */
	EXPECT_EQ(-EBADFD, cf_copen(e->dev, n.hdr.msg_id, MB));
	refuse(_metadata, e, &r, MB, true, EBADFD);
	finish(_metadata, &r, EBADFD);

	/* The object is only closed: the next READ opens it. */
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 4096, 4096));
	fd = reopen(e, &n, MB, &n);
	ASSERT_EQ(-EEXIST, fd);
	ASSERT_EQ(0, cf_copen(e->dev, n.hdr.msg_id, MB));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, serve_read(&m, cf_open_fd(&n), 1, MB));
	finish(_metadata, &r, 0);
}

/* A refused reopen fails the READs that wait for it, with the daemon's errno. */
TEST_F(ondemand, d21_reopen_refused)
{
	struct cf_env *e = &self->e;
	struct cf_msg o, n, m;
	struct cf_reader r[3];
	int fd;

	for (int keep = 0; keep < 2; keep++) {
		char name[16];

		snprintf(name, sizeof(name), "f%d", keep);
		fd = open_object(e, &r[0], name, MB, &o);
		ASSERT_LE(0, fd);
		close(fd);
		for (int i = 0; i < 3; i++) {
			ASSERT_EQ(0, start_read(e, &r[i], name, 1, i * 8192, 4096));
		}
		ASSERT_EQ(0, cf_expect(e->dev, &n, CACHEFILES_OP_OPEN, LONG));
		/* All three have to be waiting by now. */
		EXPECT_EQ(0, cf_poll(e->dev, POLLIN, cf_ms(BRIEF)));
		ASSERT_EQ(0, cf_copen(e->dev, n.hdr.msg_id, -ENODATA));
		if (!keep)
			close(cf_open_fd(&n));
		for (int i = 0; i < 3; i++) {
			refuse(_metadata, e, &r[i], -ENODATA, !keep, 0);
			finish(_metadata, &r[i], ENODATA);
		}
		EXPECT_EQ(0, cf_poll(e->dev, POLLIN, cf_ms(BRIEF)));

		/* And it can be opened after all, later. */
		ASSERT_EQ(0, start_read(e, &r[0], name, 1, 0, 4096));
		ASSERT_EQ(0, cf_expect(e->dev, &n, CACHEFILES_OP_OPEN, LONG));
		ASSERT_EQ(0, cf_copen(e->dev, n.hdr.msg_id, MB));
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
		ASSERT_EQ(0, serve_read(&m, cf_open_fd(&n), 1, MB));
		finish(_metadata, &r[0], 0);
	}
}

/* --- a refused reopen, as its reader, a sleeping daemon and a looping one see it --- */

/* The ends of a reader that waits while the reopen of its object is being refused. */
static void refused_at_once(struct __test_metadata *_metadata, struct cf_reader *r)
{
	struct cf_result res;

	ASSERT_EQ(0, cf_reader_wait(r, &res, 5000));
	EXPECT_EQ(0, res.n);
	EXPECT_TRUE(res.err == ENODATA || res.err == EIO) {
		TH_LOG("errno %d", res.err);
	}
}

/* A READ of a closed object has led to @m, an OPEN. */
static void read_closed(struct __test_metadata *_metadata, struct cf_env *e,
			struct cf_reader *r, struct cf_msg *m)
{
	int fd = open_object(e, r, "file", MB, m);

	ASSERT_LE(0, fd);
	close(fd);
	ASSERT_EQ(0, start_read(e, r, "file", 1, 4096, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, m, CACHEFILES_OP_OPEN, LONG));
}

struct sleeper {
	int		ep;
	int		end;		/* readable when it is over */
	int		events;		/* how often it was woken */
	struct cf_env	*e;
	pthread_t	thread;
};

/* Refuses what it is woken for; each wake-up has to bring an OPEN. */
static void *refuse_when_woken(void *arg)
{
	struct sleeper *s = arg;
	struct epoll_event ev;
	struct cf_msg m;

	while (epoll_wait(s->ep, &ev, 1, cf_ms(LONG)) > 0 && ev.data.fd == s->e->dev) {
		s->events++;
		if (cf_read(s->e->dev, &m) <= 0 || m.hdr.opcode != CACHEFILES_OP_OPEN ||
		    cf_copen(s->e->dev, m.hdr.msg_id, -ENODATA))
			s->events += 1000;
		close(cf_open_fd(&m));
	}
	return NULL;
}

static void sleeper_start(struct __test_metadata *_metadata, struct sleeper *s,
			  struct cf_env *e)
{
	struct epoll_event dev = { .events = EPOLLIN | EPOLLET, .data.fd = e->dev };
	struct epoll_event end = { .events = EPOLLIN };

	*s = (struct sleeper) { .ep = epoll_create1(EPOLL_CLOEXEC), .e = e };
	ASSERT_LE(0, s->ep);
	s->end = eventfd(0, EFD_CLOEXEC);
	ASSERT_LE(0, s->end);
	end.data.fd = s->end;
	ASSERT_EQ(0, epoll_ctl(s->ep, EPOLL_CTL_ADD, e->dev, &dev));
	ASSERT_EQ(0, epoll_ctl(s->ep, EPOLL_CTL_ADD, s->end, &end));
	ASSERT_EQ(0, pthread_create(&s->thread, NULL, refuse_when_woken, s));
}

static void sleeper_stop(struct sleeper *s)
{
	eventfd_write(s->end, 1);
	pthread_join(s->thread, NULL);
	close(s->end);
	close(s->ep);
}

/* The daemon keeps the descriptor of the OPEN that it has refused. */
TEST_F(ondemand, d21_refused_fd_kept)
{
	struct cf_env *e = &self->e;
	struct cf_reader r;
	struct sleeper s;
	struct cf_msg m;

	read_closed(_metadata, e, &r, &m);
	sleeper_start(_metadata, &s, e);
	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, -ENODATA));
	refused_at_once(_metadata, &r);
	sleeper_stop(&s);
	/* The page cache asks once more, and no more often. */
	EXPECT_GE(1, s.events);
	EXPECT_EQ(1, cf_idle(e->dev));
	close(cf_open_fd(&m));
	EXPECT_EQ(1, cf_idle(e->dev));
}

/* It closes it, while another thread sleeps in epoll_wait(2). */
TEST_F(ondemand, d21_refused_fd_closed)
{
	struct cf_env *e = &self->e;
	struct cf_reader r;
	struct sleeper s;
	struct cf_msg m;

	for (int first = 0; first < 2; first++) {
		read_closed(_metadata, e, &r, &m);
		sleeper_start(_metadata, &s, e);
		if (first)
			close(cf_open_fd(&m));
		ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, -ENODATA));
		if (!first)
			close(cf_open_fd(&m));
		refused_at_once(_metadata, &r);
		sleeper_stop(&s);
		EXPECT_GE(1, s.events);
		EXPECT_EQ(1, cf_idle(e->dev));
		ASSERT_LE(0, cf_env_umount(e, PROMPT));
		ASSERT_EQ(0, cf_env_mount(e));
	}
}

/* A daemon that polls and refuses in a loop is asked twice at most, not for ever. */
TEST_F(ondemand, d21_refused_in_a_loop)
{
	struct cf_env *e = &self->e;
	struct cf_reader r;
	int asked = 1;
	struct cf_msg m;

	read_closed(_metadata, e, &r, &m);
	do {
		ASSERT_EQ(CACHEFILES_OP_OPEN, m.hdr.opcode);
		ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, -ENODATA));
		close(cf_open_fd(&m));
		while (!cf_reader_done(&r) && !cf_poll(e->dev, POLLIN, 1))
			;
	} while (!cf_reader_done(&r) && ++asked <= 10 && cf_next(e->dev, &m, LONG) > 0);
	EXPECT_GE(2, asked);
	refused_at_once(_metadata, &r);
	EXPECT_EQ(1, cf_idle(e->dev));
}

/* Closed after the READ was delivered: two system calls, and it is asked again. */
TEST_F(ondemand, d22_wakes_edge_triggered)
{
	struct cf_env *e = &self->e;
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg o, n, m;
	int fd, ep;

	ep = epoll_create1(EPOLL_CLOEXEC);
	ASSERT_LE(0, ep);
	fd = open_object(e, &r, "file", MB, &o);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 4096, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, epoll_ctl(ep, EPOLL_CTL_ADD, e->dev, &ev));
	EXPECT_EQ(0, epoll_wait(ep, &ev, 1, 0));
	close(fd);
	EXPECT_EQ(1, epoll_wait(ep, &ev, 1, cf_ms(5000)));
	fd = reopen(e, &o, MB, &n);
	ASSERT_LE(0, fd);
	EXPECT_EQ(1, epoll_wait(ep, &ev, 1, cf_ms(5000)));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, 5000));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(-1, res.bad);
	close(ep);
}

/*
 * While a message is read, the descriptor that it names is closed: what a READ says
 * is what was true at one moment, an opening that this test knows of.
 */
struct closer {
	atomic_int	fd;		/* to be closed, or -1 */
	atomic_long	spin;		/* a while later */
	atomic_int	stop;
};

static void *close_soon(void *arg)
{
	struct closer *c = arg;

	while (!atomic_load(&c->stop)) {
		int fd = atomic_exchange(&c->fd, -1);

		for (long i = atomic_load(&c->spin); fd >= 0 && i > 0; i--)
			__asm__ volatile("" ::: "memory");
		if (fd >= 0)
			close(fd);
		else
			sched_yield();
	}
	return NULL;
}

/* The same, with the close between picking the READ and copying the message. */
TEST_F(ondemand, d23_closed_when_picked)
{
	struct cf_env *e = &self->e;
	struct cf_msg o, n, m;
	struct cf_stall st;
	struct cf_reader r;
	int fd, trap;

	fd = open_object(e, &r, "file", MB, &o);
	ASSERT_LE(0, fd);
	if (cf_delay_init())
		SKIP(return, CF_NO_DELAY);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 4096, 4096));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	trap = cf_delay_arm("picked", 0);
	ASSERT_LE(0, trap);
	if (cf_stall_start(&st, e->dev))
		SKIP(return, "no userfaultfd");
	ASSERT_LT(0, cf_delay_caught(trap, LONG));
	close(fd);
	EXPECT_EQ(0, cf_delay_go(trap));
	ASSERT_EQ(0, cf_stall_parked(&st, LONG));
	/* In the place of the READ comes the OPEN that it needs. */
	ASSERT_LT(0, cf_stall_finish(&st, &n));
	ASSERT_EQ(CACHEFILES_OP_OPEN, n.hdr.opcode);
	EXPECT_NE(o.hdr.object_id, n.hdr.object_id);
	ASSERT_EQ(0, cf_copen(e->dev, n.hdr.msg_id, MB));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	EXPECT_EQ(n.hdr.object_id, m.hdr.object_id);
	ASSERT_EQ(0, serve_read(&m, cf_open_fd(&n), 1, MB));
	finish(_metadata, &r, 0);
}

TEST_F_TIMEOUT(ondemand, d23_read_names_its_opening, 60)
{
	enum { ROUNDS = 200 };
	struct closer c = { .fd = -1, .spin = 1000 };
	struct cf_env *e = &self->e;
	int fd, reads = 0;
	struct cf_reader r;
	pthread_t thread;
	struct cf_msg o, m;

	fd = open_object(e, &r, "file", MB, &o);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, pthread_create(&thread, NULL, close_soon, &c));
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 4096, 4096));
	for (int i = 0; i < ROUNDS; i++) {
		long spin = atomic_load(&c.spin);

		ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
		atomic_store(&c.fd, fd);
		/* The READ that is there, or the reopening that takes its place. */
		ASSERT_LT(0, cf_next(e->dev, &m, LONG));
		/* The time of the close closes in on that of the read(2). */
		if (m.hdr.opcode == CACHEFILES_OP_READ) {
			reads++;
			atomic_store(&c.spin, spin - spin / 8);
			ASSERT_EQ(o.hdr.object_id, m.hdr.object_id);
			ASSERT_EQ(fd, (int)cf_rd(&m)->fd);
			ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
		} else {
			atomic_store(&c.spin, spin + spin / 8 + 10);
		}
		ASSERT_EQ(CACHEFILES_OP_OPEN, m.hdr.opcode);
		ASSERT_NE(o.hdr.object_id, m.hdr.object_id);
		o = m;
		fd = cf_open_fd(&o);
		ASSERT_EQ(0, cf_copen(e->dev, o.hdr.msg_id, MB));
	}
	atomic_store(&c.stop, 1);
	pthread_join(thread, NULL);
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	finish(_metadata, &r, 0);
	TH_LOG("%d times before the close, %d times after it", reads, ROUNDS - reads);
}

/* The size of a live object doesn't change. */
TEST_F(ondemand, d47_reopen_with_other_size)
{
	static const long long sizes[] = { 0, MB - 1, MB + 1, 2 * MB };
	struct cf_env *e = &self->e;
	struct cf_msg o, n, m;
	struct cf_reader r;
	struct stat st;
	char path[160];
	int fd;

	fd = open_object(e, &r, "file", MB, &o);
	ASSERT_LE(0, fd);
	ASSERT_EQ(4096, cf_fill(fd, 1, 0, 4096, MB));
	close(fd);
	for (int i = 0; i < 4; i++) {
		ASSERT_EQ(0, start_read(e, &r, "file", 1, 4096, 4096));
		ASSERT_EQ(0, cf_expect(e->dev, &n, CACHEFILES_OP_OPEN, LONG));
		EXPECT_EQ(-ESTALE, cf_copen(e->dev, n.hdr.msg_id, sizes[i]));
		close(cf_open_fd(&n));
		refuse(_metadata, e, &r, sizes[i], false, ESTALE);
		finish(_metadata, &r, ESTALE);
	}
	snprintf(path, sizeof(path), "%s/file", e->mnt);
	ASSERT_EQ(0, stat(path, &st));
	EXPECT_EQ(MB, st.st_size);
	EXPECT_EQ(4096, read_here(e, "file", 1, 0, 4096));
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 4096, 4096));
	fd = reopen(e, &o, MB, &n);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	finish(_metadata, &r, 0);
}

/* A daemon that drops every descriptor it gets makes no progress, nor a storm. */
TEST_F(ondemand, d21_closed_again_and_again)
{
	struct cf_env *e = &self->e;
	struct cf_msg o, n, m;
	struct cf_reader r;
	int fd;

	fd = open_object(e, &r, "file", MB, &o);
	ASSERT_LE(0, fd);
	close(fd);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 4096, 4096));
	for (int i = 0; i < 50; i++) {
		fd = reopen(e, &o, MB, &n);
		ASSERT_LE(0, fd);
		close(fd);
		EXPECT_EQ(0, cf_reader_done(&r));
	}
	fd = reopen(e, &o, MB, &n);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	finish(_metadata, &r, 0);
}

/* Cached data are read without any descriptor, and bring no reopening. */
TEST_F(ondemand, cached_data_need_no_fd)
{
	struct cf_env *e = &self->e;
	struct cf_reader r;
	struct cf_msg o;
	int fd;

	fd = open_object(e, &r, "file", MB, &o);
	ASSERT_LE(0, fd);
	ASSERT_EQ((ssize_t)MB, cf_fill(fd, 1, 0, MB, MB));
	close(fd);
	EXPECT_EQ(MB, read_here(e, "file", 1, 0, MB));
	EXPECT_EQ(1, cf_idle(e->dev));
}

/* The descriptor is closed by mistake in the course of ordinary service. */
TEST_F(ondemand, closed_by_the_server)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;

	ASSERT_NE(NULL, cf_server_add(&self->s, "file", 4 * MB, 9));
	for (int i = 0; i < 5; i++) {
		cf_server_rule(&self->s, CACHEFILES_OP_OPEN, 2 * i, CF_REPLIED, CF_CLOSE_FD, 0);
		cf_server_rule(&self->s, CACHEFILES_OP_READ, 2 * i, CF_GOT, CF_CLOSE_FD, 0);
		cf_server_rule(&self->s, CACHEFILES_OP_READ, 2 * i + 1, CF_WRITTEN,
			       CF_CLOSE_FD, 0);
	}
	ASSERT_EQ(0, cf_server_thread(&self->s));
	ASSERT_EQ(0, start_stream(e, &r, "file", 9, 0, 4 * MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(4 * MB, res.n);
	EXPECT_EQ(-1, res.bad);
	EXPECT_LE(5, self->s.stats->reopened);
}

/* The fd is closed by one thread all the time while another one serves. */
struct vandal {
	struct cf_server	*s;
	_Bool			stop;
};

static void *vandalise(void *arg)
{
	struct vandal *v = arg;

	while (!__atomic_load_n(&v->stop, __ATOMIC_RELAXED)) {
		for (unsigned int i = 0; i < v->s->nr_held; i++) {
			int fd = __atomic_load_n(&v->s->held[i].fd, __ATOMIC_RELAXED);

			if (fd > 2)
				close(fd);
		}
		poll(NULL, 0, 3);
	}
	return NULL;
}

TEST_F_TIMEOUT(ondemand, closed_at_random, 120)
{
	struct cf_env *e = &self->e;
	struct vandal v = { .s = &self->s };
	struct cf_result res;
	struct cf_reader r;
	pthread_t thread;

	/* Room for all object ids, so that the table isn't moved. */
	self->s.nr_held = 1 << 14;
	self->s.held = malloc(self->s.nr_held * sizeof(*self->s.held));
	ASSERT_NE(NULL, self->s.held);
	for (unsigned int i = 0; i < self->s.nr_held; i++)
		self->s.held[i] = (struct cf_held) { .fd = -1, .file = -1 };
	ASSERT_NE(NULL, cf_server_add(&self->s, "file", 4 * MB, 9));
	ASSERT_EQ(0, cf_server_thread(&self->s));
	/* First, as its descriptors may get numbers that are closed once more. */
	ASSERT_EQ(0, start_stream(e, &r, "file", 9, 0, 4 * MB));
	ASSERT_EQ(0, pthread_create(&thread, NULL, vandalise, &v));
	EXPECT_EQ(0, cf_reader_wait(&r, &res, 60000));
	__atomic_store_n(&v.stop, 1, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	/* Bytes are right, or the errno of an answer that came too late. */
	EXPECT_TRUE(res.err == 0 || res.err == EBADFD || res.err == EIO) {
		TH_LOG("errno %d", res.err);
	}
	EXPECT_EQ(-1, res.bad);
}

TEST_HARNESS_MAIN
