// SPDX-License-Identifier: GPL-2.0-only
/*
 * poll says readable exactly when the next read(2) delivers a message, and
 * hang-up exactly when the cache is dead.
 */
#include "harness.h"
#include "lib/task.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>

static int agree(struct cf_env *e, struct cf_msg *m)
{
	int events = cf_poll(e->dev, POLLIN, 0);
	int ret = cf_read(e->dev, m);

	if (ret < 0)
		return ret;
	return (events == POLLIN) == (ret > 0) ? ret > 0 : -EPROTO;
}

TEST_F(device, d30_before_bind)
{
	struct cf_msg m;

	EXPECT_EQ(0, agree(&self->e, &m));
	ASSERT_EQ(0, cf_env_bind(&self->e));
	EXPECT_EQ(0, agree(&self->e, &m));
}

TEST_F(cache, d30_nonblocking_and_blocking_are_alike)
{
	struct cf_msg m;

	EXPECT_EQ(0, cf_read(self->e.dev, &m));
	ASSERT_EQ(0, fcntl(self->e.dev, F_SETFL, O_NONBLOCK));
	EXPECT_EQ(0, cf_read(self->e.dev, &m));
	EXPECT_EQ(0, cf_poll(self->e.dev, POLLIN | POLLOUT, 0));
}

TEST_F(ondemand, d29_follows_the_queue)
{
	struct cf_env *e = &self->e;
	struct cf_reader r[3];
	struct cf_result res;
	struct cf_msg m, o;
	int fd;

	EXPECT_EQ(0, agree(e, &m));
	ASSERT_EQ(0, start_stat(e, &r[0], "file"));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	EXPECT_EQ(POLLIN, cf_poll(e->dev, POLLIN | POLLOUT | POLLRDNORM | POLLPRI, 0));
	ASSERT_EQ(1, agree(e, &o));
	EXPECT_EQ(0, agree(e, &m));
	ASSERT_EQ(0, cf_copen(e->dev, o.hdr.msg_id, MB));
	EXPECT_EQ(0, agree(e, &m));
	ASSERT_EQ(0, cf_reader_wait(&r[0], &res, LONG));
	fd = cf_open_fd(&o);

	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, start_read(e, &r[i], "file", 1, i * 8192, 4096));
	}
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
		ASSERT_EQ(1, agree(e, &m));
		ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	}
	EXPECT_EQ(0, agree(e, &m));

	/* A READ of an object without descriptor: the reopen is deliverable. */
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, cf_reader_wait(&r[i], &res, LONG));
	}
	close(fd);
	EXPECT_EQ(0, agree(e, &m));
	ASSERT_EQ(0, start_read(e, &r[0], "file", 1, 65536, 4096));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	ASSERT_EQ(1, agree(e, &m));
	ASSERT_EQ(CACHEFILES_OP_OPEN, m.hdr.opcode);

	/* While it is being reopened its READs are not. */
	EXPECT_EQ(0, agree(e, &o));
	ASSERT_EQ(0, start_read(e, &r[1], "file", 1, 3 * 65536, 4096));
	EXPECT_EQ(0, cf_poll(e->dev, POLLIN, cf_ms(BRIEF)));
	EXPECT_EQ(0, agree(e, &o));
	fd = cf_open_fd(&m);
	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, MB));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
		ASSERT_EQ(1, agree(e, &m));
		ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
		ASSERT_EQ(0, cf_reader_wait(&r[i], &res, LONG));
		EXPECT_EQ(-1, res.bad);
	}
	EXPECT_EQ(0, agree(e, &m));
}

struct waiter {
	int		dev;
	int		revents;
	atomic_int	id;		/* of the thread, when it is about to sleep */
};

static void *wait_poll(void *arg)
{
	struct waiter *w = arg;

	atomic_store(&w->id, gettid());
	w->revents = cf_poll(w->dev, POLLIN, cf_ms(LONG));
	return NULL;
}

static void *wait_epoll(void *arg)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = epoll_create1(EPOLL_CLOEXEC);
	struct waiter *w = arg;

	epoll_ctl(ep, EPOLL_CTL_ADD, w->dev, &ev);
	ev.events = 0;
	atomic_store(&w->id, gettid());
	epoll_wait(ep, &ev, 1, cf_ms(LONG));
	w->revents = ev.events;
	close(ep);
	return NULL;
}

/* Have a thread sleep, with nothing to be delivered. */
static int start_waiter(pthread_t *thread, void *(*how)(void *arg), struct waiter *w, int dev)
{
	int ret;

	w->dev = dev;
	w->revents = 0;
	atomic_store(&w->id, 0);
	ret = pthread_create(thread, NULL, how, w);
	if (ret)
		return -ret;
	while (!atomic_load(&w->id))
		sched_yield();
	return cf_task_sleeps(atomic_load(&w->id), LONG);
}

TEST_F(ondemand, wakes_sleepers)
{
	void *(*const how[])(void *) = { wait_poll, wait_epoll };
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	pthread_t thread;
	struct waiter w;
	struct cf_msg m;
	char name[16];

	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, start_waiter(&thread, how[i], &w, e->dev));
		snprintf(name, sizeof(name), "f%d", i);
		ASSERT_EQ(0, start_stat(e, &r, name));
		pthread_join(thread, NULL);
		EXPECT_EQ(POLLIN, w.revents);
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));

		/* Asleep while there is only something handed out. */
		ASSERT_EQ(0, start_waiter(&thread, how[i], &w, e->dev));
		EXPECT_EQ(0, cf_reader_done(&r));
		close(cf_open_fd(&m));
		ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, -EIO));
		ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
		ASSERT_EQ(0, start_stat(e, &r, name));
		pthread_join(thread, NULL);
		EXPECT_EQ(POLLIN, w.revents);
		ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
		ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, 1));
		ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	}
}

/* A READ whose descriptor is closed under it makes the device readable again. */
TEST_F(ondemand, d21_wakes_on_requeue)
{
	struct cf_env *e = &self->e;
	struct cf_result res;
	struct cf_reader r;
	pthread_t thread;
	struct waiter w;
	struct cf_msg m;
	int fd;

	fd = open_object(e, &r, "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, start_read(e, &r, "file", 1, 0, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, start_waiter(&thread, wait_epoll, &w, e->dev));
	close(fd);
	pthread_join(thread, NULL);
	EXPECT_EQ(POLLIN, w.revents);
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));
	fd = cf_open_fd(&m);
	ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, MB));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, serve_read(&m, fd, 1, MB));
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	EXPECT_EQ(-1, res.bad);
}

/* --- counting --- */

/*
 * One daemon, which closes the descriptor every now and then: whenever poll says
 * readable there is a message, and when all is done nothing is left over.
 */
TEST_F_TIMEOUT(ondemand, d29_as_many_polls_as_messages, 60)
{
	enum { NR = 8 };
	int fd, ended = 0, polls = 0, messages = 0;
	struct cf_env *e = &self->e;
	struct pollfd p[NR + 1];
	struct cf_reader r[NR];
	struct cf_result res;
	struct cf_msg m;

	fd = open_object(e, &r[0], "file", 16 * MB, &m);
	ASSERT_LE(0, fd);
	for (int i = 0; i < NR; i++) {
		/* With its task would go what it read ahead, between a poll and an answer. */
		struct cf_job job = {
			.seed = 1, .off = i * MB, .len = MB, .sequential = true, .stays = true,
		};

		ASSERT_EQ(0, cf_reader_start(&r[i], e->mnt, "file", &job));
		p[i] = (struct pollfd) { .fd = r[i].pipe, .events = POLLIN };
	}
	p[NR] = (struct pollfd) { .fd = e->dev, .events = POLLIN };
	while (ended < NR) {
		ASSERT_LT(0, poll(p, NR + 1, cf_ms(5000)));
		for (int i = 0; i < NR; i++) {
			if (!p[i].revents)
				continue;
			ASSERT_EQ(sizeof(res), read(r[i].pipe, &res, sizeof(res)));
			EXPECT_EQ(0, res.err);
			EXPECT_EQ(-1, res.bad);
			p[i] = (struct pollfd) { .fd = -1 };
			ended++;
		}
		if (!p[NR].revents)
			continue;
		ASSERT_EQ(POLLIN, p[NR].revents);
		polls++;
		ASSERT_LT(0, cf_read(e->dev, &m)) {
			TH_LOG("nothing to read after %d polls", polls);
		}
		messages++;
		if (m.hdr.opcode == CACHEFILES_OP_OPEN) {
			fd = cf_open_fd(&m);
			ASSERT_EQ(0, cf_copen(e->dev, m.hdr.msg_id, 16 * MB));
		} else if (messages % 7 == 0) {
			close(fd);
		} else {
			ASSERT_EQ(0, serve_read(&m, fd, 1, 16 * MB));
		}
	}
	EXPECT_LT(NR * 4, messages);
	/* What was read ahead for nobody is there, message by message. */
	while (cf_poll(e->dev, POLLIN, 0)) {
		ASSERT_LT(0, cf_read(e->dev, &m));
	}
	EXPECT_EQ(1, cf_idle(e->dev));
	for (int i = 0; i < NR; i++) {
		EXPECT_LE(0, cf_reader_kill(&r[i], PROMPT));
	}
}

enum { HERD = 64 };

struct herd {
	int		dev;
	int		how;		/* events of epoll */
	atomic_int	waiting;
	atomic_int	wakeups;
	atomic_long	slept;		/* how often its threads went to sleep */
	int		stop;		/* readable when it is over */
};

static long times_asleep(void)
{
	struct rusage usage = {};

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_nvcsw;
}

static void *graze(void *arg)
{
	long slept = times_asleep();
	struct herd *h = arg;
	struct epoll_event dev = { .events = h->how, .data.fd = h->dev };
	struct epoll_event end = { .events = EPOLLIN, .data.fd = h->stop };
	int ep = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev;

	epoll_ctl(ep, EPOLL_CTL_ADD, h->dev, &dev);
	epoll_ctl(ep, EPOLL_CTL_ADD, h->stop, &end);
	atomic_fetch_add(&h->waiting, 1);
	while (epoll_wait(ep, &ev, 1, -1) == 1 && ev.data.fd != h->stop) {
		struct cf_msg m;

		atomic_fetch_add(&h->wakeups, 1);
		if (cf_read(h->dev, &m) > 0 && m.hdr.opcode == CACHEFILES_OP_OPEN) {
			cf_copen(h->dev, m.hdr.msg_id, 1);
			close(cf_open_fd(&m));
		}
	}
	atomic_fetch_add(&h->slept, times_asleep() - slept);
	close(ep);
	return NULL;
}

/*
 * A herd of daemon threads, each with an epoll of its own that asks to be woken
 * alone: one request wakes one of them.
 */
TEST_F_TIMEOUT(ondemand, d40_one_request_wakes_one, 60)
{
	enum { REQUESTS = 40 };
	struct cf_env *e = &self->e;
	struct herd h = { .dev = e->dev, .how = EPOLLIN | EPOLLEXCLUSIVE };
	struct cf_result res;
	pthread_t thread[HERD];
	struct cf_reader r;
	char name[16];
	int end[2];

	ASSERT_EQ(0, pipe(end));
	h.stop = end[0];
	for (int i = 0; i < HERD; i++) {
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, graze, &h));
	}
	while (atomic_load(&h.waiting) < HERD)
		sched_yield();
	for (int i = 0; i < REQUESTS; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		ASSERT_EQ(0, start_stat(e, &r, name));
		ASSERT_EQ(0, cf_reader_wait(&r, &res, 5000)) {
			TH_LOG("request %d is not served", i);
		}
		EXPECT_EQ(0, res.err);
	}
	close(end[1]);
	for (int i = 0; i < HERD; i++)
		pthread_join(thread[i], NULL);
	close(end[0]);
	TH_LOG("%d requests, %d wake-ups, %ld times asleep", REQUESTS, atomic_load(&h.wakeups),
	       atomic_load(&h.slept));
	EXPECT_LE(REQUESTS, atomic_load(&h.wakeups));
	/* A thread that was not asleep yet may come along, but no herd. */
	EXPECT_GE(2 * REQUESTS, atomic_load(&h.wakeups));
	/* Who comes too late sleeps again, and does not count as one who was told. */
	EXPECT_GE(REQUESTS * HERD / 4, atomic_load(&h.slept));
}

/* --- threads that take one message each, and are busy with it from then on --- */

enum { CREW = 4 };

struct hand {
	int		dev;
	atomic_int	*waiting;
	atomic_int	*taken;
	int		stop;		/* readable when it is over */
	struct cf_msg	m;
};

static void *take_one(void *arg)
{
	struct epoll_event ev, dev = { .events = EPOLLIN | EPOLLEXCLUSIVE };
	struct epoll_event end = { .events = EPOLLIN };
	int ep = epoll_create1(EPOLL_CLOEXEC);
	struct hand *h = arg;

	dev.data.fd = h->dev;
	end.data.fd = h->stop;
	epoll_ctl(ep, EPOLL_CTL_ADD, h->dev, &dev);
	epoll_ctl(ep, EPOLL_CTL_ADD, h->stop, &end);
	atomic_fetch_add(h->waiting, 1);
	while (epoll_wait(ep, &ev, 1, -1) == 1 && ev.data.fd != h->stop) {
		if (cf_read(h->dev, &h->m) > 0) {
			atomic_fetch_add(h->taken, 1);
			cf_poll(h->stop, POLLIN, cf_ms(LONG));
			break;
		}
	}
	close(ep);
	return NULL;
}

/* CREW READs of an object are queued while it is being opened, or taken back. */
static void busy_crew(struct __test_metadata *_metadata, struct cf_env *e, bool restored)
{
	atomic_int waiting = 0, taken = 0;
	static struct hand hand[CREW];
	pthread_t thread[CREW];
	struct cf_reader r[CREW];
	int fd, end[2], status;
	struct cf_result res;
	struct cf_msg o, m;
	long long until;
	pid_t pid;

	ASSERT_EQ(0, pipe(end));
	fd = open_object(e, &r[0], "file", MB, &o);
	ASSERT_LE(0, fd);
	if (!restored)
		close(fd);
	for (int i = 0; i < CREW; i++) {
		ASSERT_EQ(0, start_read(e, &r[i], "file", 1, i * 8192, 4096));
	}
	if (restored) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			for (int i = 0; i < CREW; i++)
				if (cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG))
					_exit(1);
			_exit(0);
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(0, status);
	} else {
		ASSERT_EQ(0, cf_expect(e->dev, &o, CACHEFILES_OP_OPEN, LONG));
		fd = cf_open_fd(&o);
	}
	for (int i = 0; i < CREW; i++) {
		hand[i] = (struct hand) { .dev = e->dev, .waiting = &waiting, .taken = &taken,
					  .stop = end[0] };
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, take_one, &hand[i]));
	}
	while (atomic_load(&waiting) < CREW)
		sched_yield();
	/* The threads are asleep by then, and the readers' READs queued. */
	EXPECT_EQ(0, cf_poll(e->dev, POLLIN, cf_ms(BRIEF)));

	ASSERT_EQ(0, restored ? cf_cmd(e->dev, "restore") : cf_copen(e->dev, o.hdr.msg_id, MB));
	until = cf_now() + cf_ms(5000);
	while (atomic_load(&taken) < CREW && cf_now() < until)
		sched_yield();
	EXPECT_EQ(CREW, atomic_load(&taken)) {
		TH_LOG("%d threads sleep on", CREW - atomic_load(&taken));
	}
	close(end[1]);
	for (int i = 0; i < CREW; i++) {
		pthread_join(thread[i], NULL);
		if (hand[i].m.hdr.opcode == CACHEFILES_OP_READ) {
			EXPECT_EQ(0, serve_read(&hand[i].m, fd, 1, MB));
		}
	}
	while (cf_next(e->dev, &m, 0) > 0) {
		EXPECT_EQ(0, serve_read(&m, fd, 1, MB));
	}
	for (int i = 0; i < CREW; i++) {
		ASSERT_EQ(0, cf_reader_wait(&r[i], &res, LONG));
		EXPECT_EQ(0, res.err);
		EXPECT_EQ(-1, res.bad);
	}
	close(end[0]);
}

/* Threads that ask to be woken alone are all woken, if there is work for all. */
TEST_F(ondemand, d21_d40_reopening_wakes_the_crew)
{
	busy_crew(_metadata, &self->e, false);
}

TEST_F(ondemand, d21_d40_restore_wakes_the_crew)
{
	busy_crew(_metadata, &self->e, true);
}

/* A cache whose disk fails is dead: everybody learns it at once. */
TEST_F(device, d15_d30_dead)
{
	struct cf_env *e = &self->e;
	struct cf_reader r[3];
	struct cf_result res;
	struct cf_msg m, rd;
	int fd;

	if (!cf_have_fs("ext4"))
		SKIP(return, "needs ext4 to break");
	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	ASSERT_EQ(0, cf_env_store(e, 128 * MB, "ext4"));
	ASSERT_EQ(0, cf_env_bind(e));
	ASSERT_EQ(0, cf_env_mount(e));
	fd = open_object(e, &r[0], "file", MB, &m);
	ASSERT_LE(0, fd);
	ASSERT_EQ(4096, cf_fill(fd, 1, 65536, 4096, MB));
	ASSERT_EQ(0, start_read(e, &r[0], "file", 1, 0, 4096));
	ASSERT_EQ(0, cf_expect(e->dev, &rd, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, start_read(e, &r[1], "file", 1, 8192, 4096));
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	ASSERT_EQ(0, start_stat(e, &r[2], "new"));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
	ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG));

	/* The backing file of the new object can't be made any more. */
	ASSERT_EQ(0, cf_store_break(e->dir));
	EXPECT_GT(0, cf_copen(e->dev, m.hdr.msg_id, MB));
	EXPECT_EQ(POLLERR | POLLHUP, cf_poll(e->dev, POLLIN, cf_ms(PROMPT)) &
		  (POLLERR | POLLHUP));
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, cf_reader_wait(&r[i], &res, PROMPT));
		EXPECT_EQ(EIO, res.err);
	}
	EXPECT_EQ(-EIO, cf_read(e->dev, &m));
	EXPECT_EQ(-EIO, cf_cmd(e->dev, "restore"));
	EXPECT_EQ(-EIO, cf_cmd(e->dev, "no such command"));
	EXPECT_EQ(-EIO, cf_fill(fd, 1, 0, 4096, MB));
	EXPECT_EQ(-EINVAL, cf_cread(fd, rd.hdr.msg_id));
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
}

TEST_HARNESS_MAIN
