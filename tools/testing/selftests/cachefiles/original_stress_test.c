// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whatever a network file system does with its files, in whatever order and at
 * the same time, and whatever becomes of the cache meanwhile: what is read from
 * the cache is what the file held at some time while it was being read.
 *
 * CF_SEED repeats the choices of a run, CF_SECONDS makes it longer.
 */
#include "harness.h"

#include <dirent.h>
#include <sched.h>
#include <stdlib.h>

#define KEYS		5
#define WORKERS		6
#define MAX_SIZE	(120 * CF_GRANULE)
#define MAX_IO		(24 * CF_GRANULE)
#define HISTORY		256

/*
 * A state of the file on the server: its content is the pattern of @seed up to
 * @cut, and zeros from there to @size.
 */
struct version {
	unsigned int	seed;
	__u64		cut, size;
};

struct key {
	pthread_mutex_t	lock;		/* everything below */
	pthread_cond_t	idle;
	char		name[16];
	int		cookie;		/* 0: nobody has acquired it */
	bool		uncached;	/* until it is acquired again */
	bool		attached;	/* it had an object when it was acquired ... */
	unsigned long	moves;		/* ... and the cache had come and gone so often */
	unsigned int	ops, stores;	/* in flight; the first with a claim on the cookie */
	unsigned int	now;		/* of the states below; they stay for a while */
	struct version	past[HISTORY];
};

struct world {
	int		nf, vol;
	struct cf_env	*e;
	struct key	keys[KEYS];
	bool		stop;
	/* What was seen; atomic. */
	unsigned long	hits, misses, stores, refusals, changes, culled, rebinds;
	unsigned long	moves;			/* beginnings and ends of rebinds */
	unsigned long	wrong, failed;
};

struct worker {
	struct world	*w;
	unsigned int	seed;
	unsigned char	*buf, *want;
	pthread_t	thread;
};

#define COUNT(what)	__atomic_add_fetch(&(what), 1, __ATOMIC_SEQ_CST)

static unsigned int number(const char *name, unsigned int def)
{
	const char *s = getenv(name);

	return s ? (unsigned int)strtoul(s, NULL, 0) : def;
}

/* --- what a file holds --- */

static struct version *current(struct key *k)
{
	return &k->past[k->now % HISTORY];
}

static void content(const struct version *v, __u64 off, unsigned char *buf, size_t len)
{
	size_t data = off >= v->cut ? 0 : v->cut - off < len ? v->cut - off : len;

	cf_pattern(v->seed, off, buf, data);
	memset(buf + data, 0, len - data);
}

static struct version *change(struct key *k)
{
	struct version v = *current(k);

	k->now++;
	*current(k) = v;
	return current(k);
}

static unsigned int aux_of(struct key *k)
{
	return current(k)->seed;
}

/* Is the granule at @off what it was in one of the states from @from to @to? */
static bool was(struct worker *me, struct key *k, unsigned int from, unsigned int to,
		__u64 off, const unsigned char *buf)
{
	for (unsigned int i = from; i <= to; i++) {
		struct version *v = &k->past[i % HISTORY];
		size_t len = CF_GRANULE;

		/* What lies behind the end is nobody's. */
		if (off >= v->size)
			return true;
		if (v->size - off < len)
			len = v->size - off;
		content(v, off, me->want, len);
		if (!memcmp(me->want, buf, len))
			return true;
	}
	return false;
}

/* --- what is done with it --- */

/* With the lock: acquire it, if nobody has. */
static bool acquire(struct worker *me, struct key *k, bool modify)
{
	struct world *w = me->w;
	unsigned int aux = aux_of(k);
	int c;

	if (k->cookie)
		return true;
	c = cf_nf_cookie(w->nf, w->vol, k->name, strlen(k->name), &aux, sizeof(aux),
			 current(k)->size);
	if (c < 0) {
		COUNT(w->failed);
		return false;
	}
	k->cookie = c;
	k->uncached = false;
	k->moves = __atomic_load_n(&w->moves, __ATOMIC_SEQ_CST);
	/* Without a cache it stays as it is, and all its operations are refused. */
	k->attached = cf_nf_attach(w->nf, c, modify) >= 0;
	if (!k->attached)
		COUNT(w->refusals);
	return true;
}

/*
 * With the lock: may the cookie have no object any more? Then the cache does not get to
 * know what becomes of it.
 */
static bool lost(struct world *w, struct key *k)
{
	return !k->attached || k->moves % 2 ||
	       k->moves != __atomic_load_n(&w->moves, __ATOMIC_SEQ_CST);
}

/* With the lock: wait until none of *@what is in flight. */
static void quiesce(struct key *k, const unsigned int *what)
{
	while (*what)
		pthread_cond_wait(&k->idle, &k->lock);
}

/* With the lock; sometimes the file changes while nobody looks. */
static void release(struct worker *me, struct key *k, bool retire, bool changes)
{
	struct world *w = me->w;

	quiesce(k, &k->ops);
	if (!k->cookie)
		return;
	if (cf_nf_detach(w->nf, k->cookie, retire))
		COUNT(w->failed);
	k->cookie = 0;
	if (retire && lost(w, k))
		changes = true;
	if (!retire && !changes)
		return;
	COUNT(w->changes);
	change(k)->seed += changes ? KEYS : 0;
	current(k)->cut = current(k)->size;
	if (!retire || !acquire(me, k, false))
		return;
	/* Retired is gone, even if the file is the same. */
	if (cf_nf_absent(w->nf, k->cookie, 0, current(k)->size, current(k)->size) == -EEXIST)
		COUNT(w->wrong);
}

static void end_op(struct world *w, struct key *k, int op, bool write)
{
	cf_nf_end(w->nf, op);
	pthread_mutex_lock(&k->lock);
	k->ops--;
	k->stores -= write;
	if (!k->ops || !k->stores)
		pthread_cond_broadcast(&k->idle);
	pthread_mutex_unlock(&k->lock);
}

static int begin_op(struct world *w, struct key *k, bool write)
{
	int op = cf_nf_begin(w->nf, k->cookie, write);

	if (op > 0) {
		k->ops++;
		k->stores += write;
	} else {
		k->uncached = true;
		COUNT(w->refusals);
	}
	return op;
}

static __u64 somewhere(struct worker *me, const struct version *v)
{
	return rand_r(&me->seed) % (v->size / CF_GRANULE + 1) * CF_GRANULE;
}

static __u64 some(struct worker *me)
{
	return (rand_r(&me->seed) % (MAX_IO / CF_GRANULE) + 1) * CF_GRANULE;
}

/* As the netfs library reads; the lock is held, and given up. */
static void read_some(struct worker *me, struct key *k)
{
	struct world *w = me->w;
	struct version v = *current(k);
	__u64 pos = somewhere(me, &v), end = pos + some(me);
	unsigned int from = k->now, to;
	int op = begin_op(w, k, false);

	pthread_mutex_unlock(&k->lock);
	if (op < 0)
		return;
	while (pos < end && pos < v.size) {
		struct cf_netfs_read a;
		int ret = cf_nf_read(w->nf, 0, op, me->buf, pos, end - pos, v.size,
				     CF_IO_PREPARE | CF_IO_ISSUE, CF_HOLE_IGNORE, &a);

		if (ret || !a.prepared)
			break;
		if (a.source != CF_SOURCE_CACHE || a.result <= 0) {
			COUNT(w->misses);
			pos += a.prepared;
			continue;
		}
		pthread_mutex_lock(&k->lock);
		to = k->now;
		for (__u64 off = 0; off + CF_GRANULE <= (__u64)a.result; off += CF_GRANULE) {
			if (to - from < HISTORY && !was(me, k, from, to, pos + off, me->buf + off))
				COUNT(w->wrong);
			COUNT(w->hits);
		}
		pthread_mutex_unlock(&k->lock);
		pos += a.result;
		if (a.result % CF_GRANULE)
			break;
	}
	end_op(w, k, op, false);
}

/*
 * As the netfs library stores what it has downloaded; the lock is held, and given
 * up. The file may be invalidated while that is on its way, but not be cut.
 */
static void store_some(struct worker *me, struct key *k)
{
	struct world *w = me->w;
	struct version v = *current(k);
	__u64 pos = somewhere(me, &v), len = some(me);
	int op = begin_op(w, k, true);
	struct cf_netfs_write a;

	pthread_mutex_unlock(&k->lock);
	if (op < 0)
		return;
	if (pos + len > CF_ROUND_UP(v.size))
		len = CF_ROUND_UP(v.size) - pos;
	content(&v, pos, me->buf, len);
	if (len && !cf_nf_write(w->nf, 0, op, me->buf, pos, len, v.size,
				CF_IO_PREPARE | CF_IO_ISSUE, &a) && a.result > 0)
		COUNT(w->stores);
	end_op(w, k, op, true);
}

/* The server has another file; the lock is held. */
static void invalidate(struct worker *me, struct key *k)
{
	struct version *v = change(k);
	unsigned int aux;

	v->seed += KEYS;
	v->size = rand_r(&me->seed) % MAX_SIZE + 1;
	v->cut = v->size;
	aux = aux_of(k);
	if (cf_nf_invalidate(me->w->nf, k->cookie, &aux, sizeof(aux), v->size,
			     rand_r(&me->seed) % 4 == 0))
		COUNT(me->w->failed);
	COUNT(me->w->changes);
}

/* The lock is held. Where it was cut off there are zeros when it has grown again. */
static void resize(struct worker *me, struct key *k)
{
	struct version *v;

	/* Reads may go on. */
	quiesce(k, &k->stores);
	if (!k->cookie)
		return;
	v = change(k);
	v->size = rand_r(&me->seed) % MAX_SIZE + 1;
	if (v->cut > v->size)
		v->cut = v->size;
	if (cf_nf_resize(me->w->nf, k->cookie, v->size))
		COUNT(me->w->failed);
	COUNT(me->w->changes);
}

static void *work(void *arg)
{
	struct worker *me = arg;
	struct world *w = me->w;

	while (!__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE)) {
		struct key *k = &w->keys[rand_r(&me->seed) % KEYS];
		unsigned int what = rand_r(&me->seed) % 100;

		pthread_mutex_lock(&k->lock);
		if (k->uncached && rand_r(&me->seed) % 4 == 0)
			release(me, k, false, false);
		if (!acquire(me, k, rand_r(&me->seed) % 8 == 0)) {
			pthread_mutex_unlock(&k->lock);
		} else if (what < 45) {
			read_some(me, k);
		} else if (what < 80) {
			store_some(me, k);
		} else {
			if (what < 84)
				invalidate(me, k);
			else if (what < 88)
				resize(me, k);
			else if (what < 92)
				cf_nf_note_release(w->nf, k->cookie);
			else if (what < 97)
				release(me, k, false, what == 92);
			else
				release(me, k, true, what == 97);
			pthread_mutex_unlock(&k->lock);
		}
	}
	return NULL;
}

/* --- what becomes of the cache --- */

struct culler {
	struct world	*w;
	int		dev;		/* a descriptor of its own */
	unsigned int	odd;
};

static int cull_one(const char *path, void *arg)
{
	const char *slash = strrchr(path, '/');
	struct culler *c = arg;
	char dir[512];
	int ret;

	snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
	if (chdir(dir))
		return 0;
	ret = cf_cmd(c->dev, "cull %s", slash + 1);
	if (!ret)
		COUNT(c->w->culled);
	else if (ret != -EBUSY && ret != -ESTALE)
		c->odd++;
	return 0;
}

static void *cull(void *arg)
{
	struct culler *c = arg;
	char store[160];

	/* A working directory of this thread's own. */
	if (unshare(CLONE_FS))
		c->odd++;
	snprintf(store, sizeof(store), "%s/cache", c->w->e->dir);
	cf_tree_count(store, cull_one, c);
	return NULL;
}

static int cull_all(struct world *w)
{
	struct culler c = { .w = w, .dev = w->e->dev };
	pthread_t t;

	if (pthread_create(&t, NULL, cull, &c))
		return -EAGAIN;
	pthread_join(t, NULL);
	return c.odd ? -EPROTO : 0;
}

static int start(struct world *w, struct cf_env *e, int nf, int vol)
{
	*w = (struct world) { .nf = nf, .vol = vol, .e = e };
	for (unsigned int i = 0; i < KEYS; i++) {
		struct key *k = &w->keys[i];

		snprintf(k->name, sizeof(k->name), "k%u", i);
		pthread_mutex_init(&k->lock, NULL);
		pthread_cond_init(&k->idle, NULL);
		k->past[0] = (struct version) {
			.seed = i, .cut = MAX_SIZE - 77 * i, .size = MAX_SIZE - 77 * i,
		};
	}
	return 0;
}

TEST_F_TIMEOUT(original, everything_at_once, 3600)
{
	unsigned int seed = number("CF_SEED", (unsigned int)cf_now()), random = seed;
	long long end = cf_now() + number("CF_SECONDS", 15) * 1000;
	struct cf_env *e = &self->e;
	struct worker workers[WORKERS];
	struct world w;

	TH_LOG("CF_SEED=%u", seed);
	ASSERT_EQ(0, start(&w, e, self->nf, self->vol));
	for (int i = 0; i < WORKERS; i++) {
		workers[i] = (struct worker) {
			.w = &w, .seed = seed + i,
			.buf = malloc(MAX_IO), .want = malloc(CF_GRANULE),
		};
		ASSERT_TRUE(workers[i].buf && workers[i].want);
		ASSERT_EQ(0, pthread_create(&workers[i].thread, NULL, work, &workers[i]));
	}
	/* On a slow machine as well, there is a new cache once and something is culled. */
	while (cf_now() < end || (!w.culled && cf_now() < end + cf_ms(60000))) {
		poll(NULL, 0, rand_r(&random) % 200);
		if (rand_r(&random) % 6 && w.rebinds) {
			EXPECT_EQ(0, cull_all(&w));
			continue;
		}
		COUNT(w.moves);
		ASSERT_EQ(0, cf_env_rebind_original(e));
		COUNT(w.moves);
		w.rebinds++;
	}
	__atomic_store_n(&w.stop, true, __ATOMIC_RELEASE);
	for (int i = 0; i < WORKERS; i++)
		pthread_join(workers[i].thread, NULL);

	/* All that is left is right, now and after a restart. */
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 20 * KEYS; i++) {
			struct key *k = &w.keys[i % KEYS];

			pthread_mutex_lock(&k->lock);
			ASSERT_TRUE(acquire(&workers[0], k, false));
			read_some(&workers[0], k);
		}
		for (int i = 0; i < KEYS; i++) {
			pthread_mutex_lock(&w.keys[i].lock);
			release(&workers[0], &w.keys[i], false, false);
			pthread_mutex_unlock(&w.keys[i].lock);
		}
		ASSERT_EQ(0, cf_env_rebind_original(e));
	}
	TH_LOG("%lu hits, %lu misses, %lu stores, %lu changes", w.hits, w.misses, w.stores,
	       w.changes);
	TH_LOG("%lu culled, %lu rebinds, %lu refused", w.culled, w.rebinds, w.refusals);
	EXPECT_EQ(0, w.wrong);
	EXPECT_EQ(0, w.failed);
	EXPECT_LT(0, w.hits);
	EXPECT_LT(0, w.stores);
	EXPECT_LT(0, w.changes);
	EXPECT_LT(0, w.rebinds);
	EXPECT_LT(0, w.culled);
	EXPECT_EQ(0, cf_nf_volume_end(self->nf, self->vol, NULL, 0, false));
}

TEST_HARNESS_MAIN
