// SPDX-License-Identifier: GPL-2.0-only
/*
 * Network file systems of the fuzzer.  Each thread has files of its own, so that it knows
 * exactly what they hold: a pattern that follows from the version on the server, and zeros
 * where the file was cut off and has grown again.  What they share is the volume, the
 * cache, and what others do to that.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"
#include "fuzz_daemon.h"

#define MAX_SIZE	(48 * FZ_PAGE)
#define MAX_IO		(12 * FZ_PAGE)

struct fz_filing {
	int	cookies[FZ_KEYS];	/* 0: not acquired */
	int	device;			/* of the original cache, for culling */
	unsigned int gen;
};

static void volume_key(unsigned int process, char key[32])
{
	snprintf(key, 32, "fuzz%u", process);
}

/* Each process has one, for a while also after it was killed. */
int fz_netfs_volume(int nf, unsigned int process)
{
	char key[32];
	int ret;

	volume_key(process, key);
	do {
		ret = cf_nf_volume(nf, key, fz->caches[1].tag, NULL, 0);
	} while (ret == -EBUSY && !poll(NULL, 0, 10));
	return ret;
}

int fz_netfs_init(struct fz_task *t)
{
	t->filing = calloc(1, sizeof(*t->filing));
	if (!t->filing)
		return -ENOMEM;
	t->filing->device = -ENODEV;
	t->filing->gen = ~0U;
	/* It went with the process, and nobody knows in the middle of what. */
	for (unsigned int i = 0; i < FZ_KEYS; i++) {
		struct fz_key *k = &t->slot->keys[i];

		k->version++;
		if (!k->size)
			k->size = 10 * FZ_PAGE + 100 * i;
		k->cut = k->size;
		k->resized = false;
	}
	return 0;
}

static uint64_t seed_of(const struct fz_task *t, unsigned int i)
{
	return ((uint64_t)t->slot->keys[i].version << 16 | t->id << 8 | i) + 1;
}

static size_t key_name(const struct fz_task *t, unsigned int i, char name[32])
{
	return snprintf(name, 32, "t%uk%u", t->id, i);
}

static void content(const struct fz_task *t, unsigned int i, uint64_t off, unsigned char *buf,
		    size_t len)
{
	uint64_t cut = t->slot->keys[i].cut;
	size_t data = off >= cut ? 0 : cut - off < len ? cut - off : len;

	cf_pattern(seed_of(t, i), off, buf, data);
	memset(buf + data, 0, len - data);
}

/* Nothing takes longer than that, other than with memory that is not there. */
static int nf_expect(struct fz_task *t, int ret)
{
	return FZ_EXPECT(t, ret, ENOBUFS, EINTR);
}

/* Without a cache it stays as it is, and all its operations are refused. */
static int acquire(struct fz_task *t, unsigned int i)
{
	struct fz_key *k = &t->slot->keys[i];
	unsigned int version = k->version;
	char name[32];
	int ret;

	if (t->filing->cookies[i])
		return 0;
	ret = cf_nf_cookie(t->p->nf, t->p->volume, name, key_name(t, i, name), &version,
			   sizeof(version), k->size);
	if (ret < 0)
		return nf_expect(t, ret);
	t->filing->cookies[i] = ret;
	ret = cf_nf_attach(t->p->nf, ret, fz_chance(t, 10));
	if (ret == -ETIMEDOUT)
		fz_fail("the look-up of %s does not end", name);
	return ret;
}

static int release(struct fz_task *t, unsigned int i, bool retire)
{
	int cookie = t->filing->cookies[i], ret;
	struct fz_key *k = &t->slot->keys[i];

	if (!cookie)
		return 0;
	t->filing->cookies[i] = 0;
	/* A cache that was dead when the file was cut has not heard of it. */
	if (k->resized) {
		k->version++;
		k->cut = k->size;
		k->resized = false;
	}
	ret = cf_nf_detach(t->p->nf, cookie, retire);
	if (ret == -ETIMEDOUT)
		fz_fail("cookie %d is not let go", cookie);
	return nf_expect(t, ret);
}

static unsigned int some_key(struct fz_task *t)
{
	unsigned int i = fz_below(t, FZ_KEYS);

	fz_say(t, "k%u v%u %llu/%llu ", i, t->slot->keys[i].version,
	       (unsigned long long)t->slot->keys[i].cut, (unsigned long long)t->slot->keys[i].size);
	return i;
}

static int op_fetch(struct fz_task *t)
{
	unsigned int i = some_key(t), how = CF_IO_PREPARE | CF_IO_ISSUE;
	struct fz_key *k = &t->slot->keys[i];
	uint64_t pos, end;
	int ret;

	pos = fz_below(t, k->size / FZ_PAGE + 1) * FZ_PAGE;
	end = pos + (1 + fz_below(t, MAX_IO / FZ_PAGE)) * FZ_PAGE;
	if (fz_chance(t, 20))
		how |= CF_IO_SYNC;
	fz_say(t, "%llu-%llu", (unsigned long long)pos, (unsigned long long)end);
	ret = acquire(t, i);
	while (!ret && pos < end && pos < k->size) {
		struct cf_netfs_read a;
		uint64_t n;

		ret = cf_nf_read(t->p->nf, t->filing->cookies[i], 0, t->buf, pos, end - pos,
				 k->size, how, CF_HOLE_IGNORE, &a);
		if (ret || !a.prepared)
			break;
		if (a.prepared > end - pos) {
			fz_fail("%llu bytes of %llu that were asked for",
				(unsigned long long)a.prepared, (unsigned long long)(end - pos));
			break;
		}
		if (a.source != CF_SOURCE_CACHE || a.result <= 0) {
			pos += a.prepared;
			continue;
		}
		n = (uint64_t)a.result < k->size - pos ? (uint64_t)a.result : k->size - pos;
		content(t, i, pos, t->buf + FZ_BUF / 2, n);
		if (memcmp(t->buf, t->buf + FZ_BUF / 2, n))
			fz_fail("wrong data of a network file system at %llu (%s)",
				(unsigned long long)pos, t->entry->text);
		fz_count(FZ_HITS, n / FZ_PAGE);
		pos += a.result;
	}
	if (ret == -ETIMEDOUT)
		fz_fail("a read of a network file system does not end");
	/* Without a cache any more; acquired again, it may have one. */
	if (ret == -ENOBUFS && fz_chance(t, 50))
		release(t, i, false);
	return nf_expect(t, ret);
}

static int op_store(struct fz_task *t)
{
	unsigned int i = some_key(t);
	struct fz_key *k = &t->slot->keys[i];
	uint64_t pos = fz_below(t, k->size / FZ_PAGE + 1) * FZ_PAGE;
	uint64_t len = (1 + fz_below(t, MAX_IO / FZ_PAGE)) * FZ_PAGE;
	struct cf_netfs_write a;
	int ret;

	if (pos + len > CF_ROUND_UP(k->size))
		len = CF_ROUND_UP(k->size) - pos;
	fz_say(t, "%llu+%llu", (unsigned long long)pos, (unsigned long long)len);
	ret = acquire(t, i);
	if (ret || !len)
		return ret;
	content(t, i, pos, t->buf, len);
	ret = cf_nf_write(t->p->nf, t->filing->cookies[i], 0, t->buf, pos, len, k->size,
			  CF_IO_PREPARE | CF_IO_ISSUE, &a);
	if (!ret && a.result > 0)
		fz_count(FZ_STORES, 1);
	if (ret == -ETIMEDOUT)
		fz_fail("a write of a network file system does not end");
	if (ret == -ENOBUFS && fz_chance(t, 50))
		release(t, i, false);
	return nf_expect(t, ret);
}

/* The server has another file, or one of another length. */
static int op_change(struct fz_task *t)
{
	unsigned int i = some_key(t), how = fz_below(t, 4);
	struct fz_key *k = &t->slot->keys[i];
	uint64_t size = 1 + fz_below(t, MAX_SIZE);
	unsigned int version;
	int ret;

	fz_say(t, "how %u size %llu", how, (unsigned long long)size);
	/* With no cookie, it is found out when it is acquired again. */
	if (how == 0) {
		ret = release(t, i, false);
		k->version++;
		k->size = size;
		k->cut = size;
		return ret;
	}
	ret = acquire(t, i);
	if (!t->filing->cookies[i])
		return ret;
	if (how == 1) {
		k->size = size;
		k->resized = true;
		if (k->cut > size)
			k->cut = size;
		return nf_expect(t, cf_nf_resize(t->p->nf, t->filing->cookies[i], size));
	}
	version = ++k->version;
	k->size = size;
	k->cut = size;
	return nf_expect(t, cf_nf_invalidate(t->p->nf, t->filing->cookies[i], &version,
					     sizeof(version), size, how == 2));
}

static int op_note(struct fz_task *t)
{
	unsigned int i = some_key(t);

	if (!t->filing->cookies[i])
		return -ENOENT;
	return nf_expect(t, cf_nf_note_release(t->p->nf, t->filing->cookies[i]));
}

static int op_forget(struct fz_task *t)
{
	unsigned int i = some_key(t);
	bool retire = fz_chance(t, 40);

	fz_say(t, "retire %d", retire);
	return release(t, i, retire);
}

static int op_illegal(struct fz_task *t)
{
	unsigned int i = some_key(t), how = fz_below(t, 4);
	int cookie = t->filing->cookies[i], ret;
	struct cf_netfs_query q;
	struct cf_netfs_read a;

	fz_say(t, "how %u", how);
	switch (how) {
	case 0:
		/* In use, so it can't be. */
		if (!cookie)
			return 0;
		return FZ_REFUSED(t, cf_nf_relinquish(t->p->nf, cookie, false), EBUSY);
	case 1:
		ret = cf_nf_query(t->p->nf, cookie, fz_random(t) >> 1, fz_below(t, 1 << 20),
				  1U << fz_below(t, 20), &q);
		return ret;
	case 2:
		/* Beyond the end, and everything that a number can be. */
		return cf_nf_prepare_read(t->p->nf, cookie, fz_random(t) >> 1 & ~4095ULL,
					  (1 + fz_below(t, 100)) * FZ_PAGE,
					  t->slot->keys[i].size, &a);
	default:
		return cf_nf_use(t->p->nf, 1000000, false) ? 0 : FZ_REFUSED(t, 0, ENOENT);
	}
}

/* A device of the original cache: state, culling. */
static int device(struct fz_task *t)
{
	struct fz_filing *f = t->filing;
	unsigned int gen = __atomic_load_n(&fz->caches[1].gen, __ATOMIC_ACQUIRE);

	if (f->gen != gen) {
		if (f->device >= 0)
			close(f->device);
		f->device = gen % 2 ? -ENODEV : fz_parent_device(1);
		f->gen = gen;
	}
	return f->device;
}

static int op_cull_key(struct fz_task *t)
{
	unsigned int of = fz_below(t, fz->nr_processes * fz->nr_threads), i = fz_below(t, FZ_KEYS);
	char name[32], volume[32], path[640], *slash;
	int fd, n, ret;

	n = snprintf(name, sizeof(name), "t%uk%u", of, i);
	fz_say(t, "%s", name);
	fd = device(t);
	if (fd < 0)
		return fd;
	volume_key(of / fz->nr_threads, volume);
	if (cf_nf_path(fz->caches[1].dir, volume, name, n, path, sizeof(path)))
		return -ENAMETOOLONG;
	slash = strrchr(path, '/');
	*slash = '\0';
	if (chdir(path))
		return -errno;
	ret = cf_cmd(fd, "%s %s", fz_chance(t, 80) ? "cull" : "inuse", slash + 1);
	if (!ret)
		fz_count(FZ_CULLED, 1);
	return FZ_EXPECT(t, ret, EBUSY, ESTALE, ENOENT, EIO, EINTR);
}

static int op_state(struct fz_task *t)
{
	struct cf_statistics s;
	int fd = device(t), ret;

	if (fd < 0)
		return fd;
	ret = cf_statistics(fd, &s);
	if (ret == -EPROTO)
		fz_fail("the state of the cache makes no sense");
	return FZ_EXPECT(t, ret, EIO, EINTR);
}

void fz_netfs_exit(struct fz_task *t)
{
	for (unsigned int i = 0; i < FZ_KEYS; i++)
		release(t, i, false);
}

/* Before each operation: a cache that is to be bound anew must not be held. */
void fz_netfs_refresh(struct fz_task *t)
{
	device(t);
}

const struct fz_op fz_netfs_ops[] = {
	{ "fetch",	FZ_NETFS, 200, op_fetch },
	{ "store",	FZ_NETFS, 120, op_store },
	{ "change",	FZ_NETFS, 30, op_change },
	{ "note",	FZ_NETFS, 20, op_note },
	{ "forget",	FZ_NETFS, 20, op_forget },
	{ "illegal",	FZ_NETFS, 20, op_illegal },
	{ "cull_key",	FZ_NETFS, 20, op_cull_key },
	{ "state",	FZ_NETFS, 20, op_state },
	{ NULL }
};
