// SPDX-License-Identifier: GPL-2.0-only
/*
 * Caches of both modes live side by side: they conflict by tag or by directory
 * and by nothing else, each has what is its own, and what happens to one of
 * them is not noticed by those who use another.
 */
#include "harness.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "lib/backing.h"

#define MAX_PARTIES	8
#define FILES		6
#define FILE_SIZE	150000
/* A round of a load takes a fraction of this, also with others around. */
#define HICCUP		(2 * LONG)

/* What a load in a child says of itself. */
struct load {
	unsigned long	rounds;
	unsigned long	hits;		/* files that were there */
	unsigned long	stored;		/* files that had to be stored or fetched */
	unsigned long	refused;	/* there was no cache */
	unsigned long	wrong;		/* files with other data than the server's */
	unsigned long	errors;		/* of which there must be none */
	long		longest;	/* milliseconds of a round */
	bool		stop;
};

/* A cache and what uses it. */
struct party {
	struct cf_env		e;
	bool			ondemand;
	unsigned int		seed;
	struct cf_server	s;	/* in on-demand mode */
	pid_t			keeper;	/* the process that has the device, if another */
	struct load		*load;
	struct cf_reader	r;
};

FIXTURE(side_by_side) {
	struct cf_env e;
	int nf;
	struct party p[MAX_PARTIES];
};

FIXTURE_SETUP(side_by_side)
{
	struct load *l;

	self->e.dev = -1;
	self->nf = -1;
	if (world)
		SKIP(return, "%s", cf_why);
	self->nf = cf_nf_open();
	if (self->nf < 0)
		SKIP(return, CF_NO_NETFS);
	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	ASSERT_EQ(0, cf_env_init(&self->e));
	l = mmap(NULL, sizeof(*l) * MAX_PARTIES, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, l);
	for (int i = 0; i < MAX_PARTIES; i++) {
		struct party *p = &self->p[i];

		p->load = l + i;
		p->seed = 1000 * i;
		p->e.dev = -1;
		snprintf(p->e.dir, sizeof(p->e.dir), "%.100s-%d", self->e.dir, i);
		snprintf(p->e.mnt, sizeof(p->e.mnt), "%.100s-%d", self->e.mnt, i);
		snprintf(p->e.tag, sizeof(p->e.tag), "%.50s-%d", self->e.tag, i);
		/* One name for all: it is the tag that makes the difference. */
		snprintf(p->e.volume, sizeof(p->e.volume), "%s", self->e.volume);
		ASSERT_EQ(0, mkdir(p->e.dir, 0700));
		ASSERT_EQ(0, mkdir(p->e.mnt, 0755));
	}
}

static void end_keeper(struct party *p)
{
	if (p->keeper > 0) {
		kill(p->keeper, SIGKILL);
		waitpid(p->keeper, NULL, 0);
	}
	p->keeper = 0;
}

FIXTURE_TEARDOWN(side_by_side)
{
	for (int i = 0; i < MAX_PARTIES; i++) {
		struct party *p = &self->p[i];

		if (!p->load)
			continue;
		if (p->r.pid > 0)
			cf_reader_kill(&p->r, LONG);
		end_keeper(p);
		if (p->s.stats)
			cf_server_stop(&p->s);
		EXPECT_NE(-ETIMEDOUT, cf_env_exit(&p->e));
	}
	if (self->nf >= 0)
		EXPECT_EQ(0, cf_nf_odd(self->nf));
	EXPECT_NE(-ETIMEDOUT, cf_env_exit(&self->e));
}

/* --- caches --- */

static int bind_party(struct party *p, bool ondemand)
{
	int ret;

	p->ondemand = ondemand;
	p->e.dev = cf_device();
	if (p->e.dev < 0)
		return p->e.dev;
	ret = ondemand ? cf_env_bind(&p->e) : cf_env_bind_original(&p->e);
	if (!ret && ondemand) {
		ret = cf_env_mount(&p->e);
		if (!ret)
			ret = cf_server_init(&p->s, p->e.dev);
		p->s.any_key = true;
		if (!ret && !cf_server_add(&p->s, "any", FILE_SIZE, p->seed))
			ret = -ENOSPC;
	}
	return ret;
}

/* Only a child has the device from now on. */
static int give_away(struct party *p)
{
	int keep[2], pipefd[2];
	char byte;

	if (pipe2(pipefd, O_CLOEXEC))
		return -errno;
	p->keeper = fork();
	if (!p->keeper) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		keep[0] = p->e.dev < pipefd[1] ? p->e.dev : pipefd[1];
		keep[1] = p->e.dev < pipefd[1] ? pipefd[1] : p->e.dev;
		cf_close_others(keep, 2);
		if (write(pipefd[1], "", 1) == 1)
			for (;;)
				pause();
		_exit(1);
	}
	close(pipefd[1]);
	if (p->keeper < 0 || read(pipefd[0], &byte, 1) != 1)
		return -EPIPE;
	close(pipefd[0]);
	close(p->e.dev);
	p->e.dev = -1;
	return 0;
}

static int find_one(const char *path, void *arg)
{
	(void)path;
	(void)arg;
	return 0;
}

static long nr_files(const struct party *p)
{
	char store[160];

	snprintf(store, sizeof(store), "%s/cache", p->e.dir);
	return cf_tree_count(store, find_one, NULL);
}

static bool has_file(const struct party *p, const char *name)
{
	char path[512];

	return !cf_nf_path(p->e.dir, p->e.volume, name, strlen(name), path, sizeof(path)) &&
	       !access(path, F_OK);
}

/* --- loads --- */

static void note_round(struct load *l, long long start)
{
	long took = (long)(cf_now() - start);

	if (took > l->longest)
		l->longest = took;
	__atomic_add_fetch(&l->rounds, 1, __ATOMIC_RELEASE);
}

/* One file: what is missing is stored. */
static void use_file(struct party *p, int nf, int vol, unsigned long n)
{
	unsigned int seed = p->seed + n % FILES;
	struct load *l = p->load;
	struct cf_fetch f;
	char name[32];
	int c;

	snprintf(name, sizeof(name), "f%lu", n % FILES);
	c = cf_nf_file(nf, vol, name, "a", 1, FILE_SIZE, false);
	if (c == -ENOBUFS) {
		l->refused++;
		poll(NULL, 0, 10);
		return;
	}
	if (c < 0 || cf_nf_fetch(nf, c, seed, 0, FILE_SIZE, FILE_SIZE, &f, NULL)) {
		l->errors++;
	} else if (f.bad >= 0 || f.err) {
		l->wrong += f.bad >= 0;
		l->errors += f.err != 0;
	} else if (f.cached == FILE_SIZE) {
		l->hits++;
	} else {
		l->stored++;
		/* May be refused when the cache ends just now. */
		cf_nf_fill(nf, c, seed, FILE_SIZE);
	}
	if (c >= 0 && cf_nf_detach(nf, c, n % 17 == 0))
		l->errors++;
}

static int original_load(void *arg)
{
	struct party *p = arg;
	int nf = cf_nf_open(), vol;

	if (nf < 0)
		return -nf;
	vol = cf_nf_volume(nf, p->e.volume, p->e.tag, NULL, 0);
	if (vol < 0)
		return -vol;
	for (unsigned long n = 0; !__atomic_load_n(&p->load->stop, __ATOMIC_ACQUIRE); n++) {
		long long start = cf_now();

		use_file(p, nf, vol, n);
		note_round(p->load, start);
	}
	if (cf_nf_odd(nf))
		p->load->errors++;
	return -cf_nf_volume_end(nf, vol, NULL, 0, false);
}

/* Read a file: 0, 1 if the cache has failed, -1 if the data are wrong. */
static int read_file(struct party *p, const char *name)
{
	static unsigned char buf[32 << 10];
	char path[256];
	off_t off = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", p->e.mnt, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 1;
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	while ((n = pread(fd, buf, sizeof(buf), off)) > 0) {
		if (cf_differs(p->seed, off, buf, n) >= 0)
			break;
		off += n;
	}
	close(fd);
	return n > 0 ? -1 : n < 0 ? 1 : off == FILE_SIZE ? 0 : -1;
}

/* Old files from the cache, new ones from the daemon. */
static int ondemand_load(void *arg)
{
	struct party *p = arg;
	struct load *l = p->load;
	unsigned long fresh = 0;

	for (unsigned long n = 0; !__atomic_load_n(&l->stop, __ATOMIC_ACQUIRE); n++) {
		long long start = cf_now();
		bool old = n % 3 && fresh;
		char name[32];

		snprintf(name, sizeof(name), "n%lu", old ? n % fresh : fresh % 40);
		switch (read_file(p, name)) {
		case 0:
			*(old ? &l->hits : &l->stored) += 1;
			fresh += !old;
			break;
		case 1:
			l->refused++;
			poll(NULL, 0, 10);
			break;
		default:
			l->wrong++;
		}
		note_round(l, start);
	}
	return 0;
}

static int start_load(struct party *p)
{
	memset(p->load, 0, sizeof(*p->load));
	if (p->ondemand) {
		int ret = cf_server_fork(&p->s, false);

		if (ret)
			return ret;
	}
	return cf_child(&p->r, p->ondemand ? ondemand_load : original_load, p);
}

/* The load's own end: 0, its errno, or -ETIMEDOUT. */
static int stop_load(struct party *p)
{
	struct cf_result res;
	int ret;

	__atomic_store_n(&p->load->stop, true, __ATOMIC_RELEASE);
	ret = cf_reader_wait(&p->r, &res, 3 * LONG);
	return ret ? ret : -res.err;
}

/* Wait until @nr more of *@what have come. */
static bool comes(const unsigned long *what, unsigned long nr)
{
	unsigned long want = __atomic_load_n(what, __ATOMIC_ACQUIRE) + nr;
	long long end = cf_now() + cf_ms(2 * LONG);

	while (__atomic_load_n(what, __ATOMIC_ACQUIRE) < want && cf_now() < end)
		poll(NULL, 0, 5);
	return __atomic_load_n(what, __ATOMIC_ACQUIRE) >= want;
}

/* Nothing has happened to it: it was served all the time, and is now. */
static void expect_undisturbed(struct __test_metadata *_metadata, struct party *p, int line)
{
	struct load *l = p->load;
	bool fine = comes(&l->rounds, 6) && comes(&l->hits, 1);

	EXPECT_EQ(0, l->wrong);
	EXPECT_EQ(0, l->errors);
	EXPECT_TRUE(fine && !l->refused && l->longest <= cf_ms(HICCUP)) {
		TH_LOG("line %d, cache %s: %lu rounds, %lu hits, %lu refused, %ld ms",
		       line, p->e.tag, l->rounds, l->hits, l->refused, l->longest);
	}
	l->longest = 0;
}

/* Its cache has ended: it is told so, and gets nothing wrong. */
static void expect_uncached(struct __test_metadata *_metadata, struct party *p, int line)
{
	bool told = comes(&p->load->refused, 3);

	EXPECT_EQ(0, p->load->wrong);
	EXPECT_EQ(0, p->load->errors);
	EXPECT_TRUE(told) {
		TH_LOG("line %d, cache %s: %lu refused", line, p->e.tag, p->load->refused);
	}
}

#define EXPECT_UNDISTURBED(p)	expect_undisturbed(_metadata, p, __LINE__)
#define EXPECT_UNCACHED(p)	expect_uncached(_metadata, p, __LINE__)

/* --- one ends, the other goes on --- */

TEST_F_TIMEOUT(side_by_side, one_ends_the_other_goes_on, 300)
{
	struct party *o = &self->p[0], *d = &self->p[1];

	ASSERT_EQ(0, bind_party(o, false));
	ASSERT_EQ(0, bind_party(d, true));
	ASSERT_EQ(0, start_load(o));
	ASSERT_EQ(0, start_load(d));
	EXPECT_UNDISTURBED(o);
	EXPECT_UNDISTURBED(d);

	/* The one in original mode is closed and comes back, twice. */
	for (int i = 0; i < 2; i++) {
		if (i)
			end_keeper(o);
		else
			close(o->e.dev);
		EXPECT_UNCACHED(o);
		EXPECT_UNDISTURBED(d);
		ASSERT_EQ(0, bind_party(o, false));
		EXPECT_TRUE(comes(&o->load->hits, 3));
		o->load->refused = 0;
		o->load->longest = 0;
		ASSERT_EQ(0, give_away(o));
		EXPECT_UNDISTURBED(o);
		EXPECT_UNDISTURBED(d);
	}

	/* The daemon of the other one is killed, and nobody else has its device. */
	close(d->e.dev);
	d->e.dev = -1;
	EXPECT_UNDISTURBED(d);
	kill(d->s.pid, SIGKILL);
	ASSERT_EQ(0, cf_server_wait(&d->s, LONG));
	EXPECT_UNCACHED(d);
	EXPECT_UNDISTURBED(o);
	EXPECT_EQ(0, stop_load(d));
	EXPECT_LE(0, cf_env_umount(&d->e, LONG));
	EXPECT_UNDISTURBED(o);

	ASSERT_EQ(0, bind_party(d, true));
	ASSERT_EQ(0, start_load(d));
	EXPECT_UNDISTURBED(d);
	EXPECT_UNDISTURBED(o);
	EXPECT_EQ(0, stop_load(o));
	EXPECT_EQ(0, stop_load(d));
	EXPECT_EQ(0, o->load->wrong);
	EXPECT_EQ(0, o->load->errors);
	EXPECT_EQ(0, d->load->wrong);
}

TEST_F_TIMEOUT(side_by_side, eight, 300)
{
	for (int i = 0; i < MAX_PARTIES; i++) {
		ASSERT_EQ(0, bind_party(&self->p[i], i % 2));
		ASSERT_EQ(0, start_load(&self->p[i]));
	}
	/* In another order than they came. */
	for (int i = 0; i < MAX_PARTIES; i++) {
		struct party *ends = &self->p[(i * 3 + 2) % MAX_PARTIES];

		for (int k = i; k < MAX_PARTIES; k++)
			EXPECT_UNDISTURBED(&self->p[(k * 3 + 2) % MAX_PARTIES]);
		close(ends->e.dev);
		ends->e.dev = -1;
		if (ends->ondemand) {
			kill(ends->s.pid, SIGKILL);
			ASSERT_EQ(0, cf_server_wait(&ends->s, LONG));
		}
		EXPECT_UNCACHED(ends);
		EXPECT_EQ(0, stop_load(ends));
		if (ends->ondemand)
			EXPECT_LE(0, cf_env_umount(&ends->e, LONG));
	}
}

/* --- conflicts --- */

/* What bind says of @dir and @tag, in a mode. */
static int try_bind(const char *dir, const char *tag, bool ondemand)
{
	int dev = cf_device(), ret;

	if (dev < 0)
		return dev;
	ret = cf_cmd(dev, "dir %s", dir);
	if (!ret && tag)
		ret = cf_cmd(dev, "tag %s", tag);
	if (!ret)
		ret = cf_cmd(dev, ondemand ? "bind ondemand" : "bind");
	close(dev);
	return ret;
}

TEST_F_TIMEOUT(side_by_side, conflicts, 120)
{
	struct party *p = self->p;
	char path[200], sub[200], *elsewhere = p[2].e.dir;
	const char *base = strrchr(p[0].e.dir, '/') + 1;

	ASSERT_EQ(0, bind_party(&p[0], false));
	ASSERT_EQ(0, bind_party(&p[1], true));
	snprintf(sub, sizeof(sub), "%s/sub", p[0].e.dir);
	ASSERT_EQ(0, mkdir(sub, 0700));
	for (int mode = 0; mode < 2; mode++) {
		for (int i = 0; i < 2; i++) {
			/* By tag, whatever the directory. */
			EXPECT_EQ(-EBUSY, try_bind(elsewhere, p[i].e.tag, mode));
			/* By directory, whatever the tag. */
			EXPECT_EQ(-EBUSY, try_bind(p[i].e.dir, "other", mode));
			EXPECT_EQ(-EBUSY, try_bind(p[i].e.dir, NULL, mode));
		}

		/* However it is called. */
		snprintf(path, sizeof(path), "%s/../%s/.", p[1].e.dir, base);
		EXPECT_EQ(-EBUSY, try_bind(path, "other", mode));
		snprintf(path, sizeof(path), "%s-link", self->e.dir);
		ASSERT_EQ(0, symlink(p[0].e.dir, path));
		EXPECT_EQ(-EBUSY, try_bind(path, "other", mode));
		ASSERT_EQ(0, unlink(path));
		ASSERT_EQ(0, mount(p[0].e.dir, self->e.mnt, NULL, MS_BIND, NULL));
		EXPECT_EQ(-EBUSY, try_bind(self->e.mnt, "other", mode));
		ASSERT_EQ(0, umount2(self->e.mnt, 0));

		/* Neither above nor below nor a name that begins the same. */
		EXPECT_EQ(0, try_bind(sub, "other", mode));
		EXPECT_EQ(0, try_bind(CF_STORE, "other", mode));
		snprintf(path, sizeof(path), "%.60s2", p[0].e.tag);
		EXPECT_EQ(0, try_bind(elsewhere, path, mode));
		snprintf(path, sizeof(path), "%.*s", (int)strlen(p[0].e.tag) - 1, p[0].e.tag);
		EXPECT_EQ(0, try_bind(elsewhere, path, mode));
		EXPECT_EQ(0, try_bind(elsewhere, NULL, mode));
	}

	/* The same descriptor is free to do better. */
	p[2].e.dev = cf_device();
	ASSERT_LE(0, p[2].e.dev);
	ASSERT_EQ(0, cf_cmd(p[2].e.dev, "dir %s", p[0].e.dir));
	ASSERT_EQ(0, cf_cmd(p[2].e.dev, "tag %s", p[0].e.tag));
	EXPECT_EQ(-EBUSY, cf_cmd(p[2].e.dev, "bind"));
	EXPECT_EQ(0, cf_cmd(p[2].e.dev, "dir %s", elsewhere));
	EXPECT_EQ(-EBUSY, cf_cmd(p[2].e.dev, "bind"));
	EXPECT_EQ(0, cf_cmd(p[2].e.dev, "tag %s", p[2].e.tag));
	EXPECT_EQ(0, cf_cmd(p[2].e.dev, "bind"));

	/* What has ended is in nobody's way. */
	close(p[0].e.dev);
	p[0].e.dev = -1;
	EXPECT_EQ(-EBUSY, try_bind(p[1].e.dir, p[0].e.tag, true));
	EXPECT_EQ(0, try_bind(p[0].e.dir, p[0].e.tag, true));
	EXPECT_EQ(0, try_bind(p[0].e.dir, p[0].e.tag, false));

	/* And those that were in the way have not noticed. */
	p[2].ondemand = false;
	ASSERT_EQ(0, start_load(&p[1]));
	ASSERT_EQ(0, start_load(&p[2]));
	EXPECT_UNDISTURBED(&p[1]);
	EXPECT_UNDISTURBED(&p[2]);
	EXPECT_EQ(0, stop_load(&p[1]));
	EXPECT_EQ(0, stop_load(&p[2]));
}

/* Of many that want the same at the same time one gets it. */
struct racer {
	struct party	p;
	int		*tried;		/* shared by all */
};

static int race_bind(void *arg)
{
	struct racer *me = arg;
	int ret = bind_party(&me->p, false);

	/* Nobody ends before all have tried. */
	__atomic_add_fetch(me->tried, 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(me->tried, __ATOMIC_ACQUIRE) % 4)
		poll(NULL, 0, 1);
	return -ret;
}

TEST_F_TIMEOUT(side_by_side, race, 120)
{
	int *tried = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, tried);
	for (int round = 0; round < 10; round++) {
		struct cf_reader r[4];
		struct cf_result res;
		int winners = 0;

		for (int i = 0; i < 4; i++) {
			struct racer me = { .p = self->p[0], .tried = tried };

			/* All by directory, or all by tag. */
			if (round % 2)
				snprintf(me.p.e.tag, sizeof(me.p.e.tag), "race%d", i);
			else
				snprintf(me.p.e.dir, sizeof(me.p.e.dir), "%s", self->p[i].e.dir);
			ASSERT_EQ(0, cf_child(&r[i], race_bind, &me));
		}
		for (int i = 0; i < 4; i++) {
			ASSERT_EQ(0, cf_reader_wait(&r[i], &res, LONG));
			EXPECT_TRUE(!res.err || res.err == EBUSY);
			winners += !res.err;
		}
		EXPECT_EQ(1, winners);
		EXPECT_EQ(0, try_bind(self->p[0].e.dir, self->p[0].e.tag, false));
	}
}

/* --- what belongs to whom --- */

TEST_F_TIMEOUT(side_by_side, tag_chooses_the_cache, 120)
{
	struct party *p = self->p;
	int vol[3], c[3];

	/* Those in on-demand mode are first. */
	for (int i = 0; i < 4; i++)
		ASSERT_EQ(0, bind_party(&p[i ^ 2], i < 2));

	/* The same volume and the same file, once in each. */
	for (int i = 0; i < 2; i++) {
		vol[i] = cf_nf_volume(self->nf, p[i].e.volume, p[i].e.tag, NULL, 0);
		ASSERT_LT(0, vol[i]);
		c[i] = cf_nf_file(self->nf, vol[i], "file", "a", 1, FILE_SIZE, false);
		ASSERT_LT(0, c[i]);
		EXPECT_EQ(i + 1, nr_files(&p[0]) + nr_files(&p[1]));
		EXPECT_TRUE(has_file(&p[i], "file"));
		EXPECT_EQ(0, cf_nf_absent(self->nf, c[i], 0, FILE_SIZE, FILE_SIZE));
		ASSERT_EQ(0, cf_nf_fill(self->nf, c[i], i + 1, FILE_SIZE));
	}
	for (int i = 0; i < 2; i++)
		EXPECT_EQ(0, cf_nf_check(self->nf, c[i], i + 1, 0, FILE_SIZE, FILE_SIZE));
	EXPECT_EQ(0, nr_files(&p[2]) + nr_files(&p[3]));

	/* Without one, it is the first that was bound of those that can be used. */
	vol[2] = cf_nf_volume(self->nf, "any", NULL, NULL, 0);
	ASSERT_LT(0, vol[2]);
	c[2] = cf_nf_file(self->nf, vol[2], "untagged", "a", 1, FILE_SIZE, false);
	ASSERT_LT(0, c[2]);
	EXPECT_EQ(2, nr_files(&p[0]));
	EXPECT_EQ(1, nr_files(&p[1]));
	ASSERT_EQ(0, cf_nf_detach(self->nf, c[2], true));
	ASSERT_EQ(0, cf_nf_volume_end(self->nf, vol[2], NULL, 0, false));

	for (int i = 2; i < 4; i++) {
		ASSERT_EQ(0, cf_server_fork(&p[i].s, false));
		EXPECT_EQ(0, read_file(&p[i], "file"));
		EXPECT_EQ(1, nr_files(&p[i]));
	}
	/* And another mount by the same tag comes to the same place. */
	EXPECT_EQ(0, read_file(&p[2], "another"));
	EXPECT_EQ(2, nr_files(&p[2]));
	EXPECT_EQ(1, nr_files(&p[3]));

	/* What one forgets the other one keeps. */
	ASSERT_EQ(0, cf_nf_detach(self->nf, c[0], true));
	EXPECT_FALSE(has_file(&p[0], "file"));
	EXPECT_TRUE(has_file(&p[1], "file"));
	EXPECT_EQ(0, cf_nf_check(self->nf, c[1], 2, 0, FILE_SIZE, FILE_SIZE));
	ASSERT_EQ(0, cf_nf_invalidate(self->nf, c[1], "b", 1, FILE_SIZE, false));
	EXPECT_EQ(0, read_file(&p[2], "file"));
	EXPECT_EQ(0, read_file(&p[3], "file"));
	ASSERT_EQ(0, cf_nf_detach(self->nf, c[1], false));
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, cf_nf_volume_end(self->nf, vol[i], NULL, 0, false));

	/* Also if that has just come back, and the others were there all the time. */
	for (int i = 0; i < 2; i++)
		close(p[i].e.dev);
	ASSERT_EQ(0, bind_party(&p[1], false));
	vol[2] = cf_nf_volume(self->nf, "any", NULL, NULL, 0);
	ASSERT_LT(0, vol[2]);
	c[2] = cf_nf_file(self->nf, vol[2], "untagged", "a", 1, FILE_SIZE, false);
	ASSERT_LT(0, c[2]);
	EXPECT_EQ(2, nr_files(&p[1]));
	ASSERT_EQ(0, cf_nf_detach(self->nf, c[2], false));
	ASSERT_EQ(0, cf_nf_volume_end(self->nf, vol[2], NULL, 0, false));
	p[0].e.dev = -1;
}

/* Who names no cache gets one in original mode, in whatever order they have come and gone. */
TEST_F_TIMEOUT(side_by_side, original_mode_first, 120)
{
	struct party *p = self->p;
	int keep, vol, c;

	ASSERT_EQ(0, bind_party(&p[0], false));
	ASSERT_EQ(0, bind_party(&p[1], false));
	/* FS-Cache remembers the first one while that is bound once more. */
	keep = cf_nf_volume(self->nf, p[0].e.volume, p[0].e.tag, NULL, 0);
	ASSERT_LT(0, keep);
	close(p[0].e.dev);
	ASSERT_EQ(0, bind_party(&p[0], false));
	ASSERT_EQ(0, bind_party(&p[2], true));
	ASSERT_EQ(0, cf_nf_volume_end(self->nf, keep, NULL, 0, false));
	close(p[0].e.dev);
	p[0].e.dev = -1;

	vol = cf_nf_volume(self->nf, "any", NULL, NULL, 0);
	ASSERT_LT(0, vol);
	c = cf_nf_file(self->nf, vol, "untagged", "a", 1, FILE_SIZE, false);
	EXPECT_LT(0, c);
	EXPECT_EQ(1, nr_files(&p[1]));
	if (c > 0)
		ASSERT_EQ(0, cf_nf_detach(self->nf, c, false));
	ASSERT_EQ(0, cf_nf_volume_end(self->nf, vol, NULL, 0, false));
}

/* Keys that are the same in caches of different modes are different files. */
TEST_F_TIMEOUT(side_by_side, same_keys, 120)
{
	struct party *o = &self->p[0], *d = &self->p[1];
	int vol, c;

	for (int round = 0; round < 2; round++) {
		ASSERT_EQ(0, bind_party(o, false));
		ASSERT_EQ(0, bind_party(d, true));
		ASSERT_EQ(0, cf_server_fork(&d->s, false));
		vol = cf_nf_volume(self->nf, o->e.volume, o->e.tag, NULL, 0);
		ASSERT_LT(0, vol);
		c = cf_nf_file(self->nf, vol, "same", "a", 1, FILE_SIZE, false);
		ASSERT_LT(0, c);
		if (!round)
			ASSERT_EQ(0, cf_nf_fill(self->nf, c, 5, FILE_SIZE));
		EXPECT_EQ(0, read_file(d, "same"));
		EXPECT_EQ(0, cf_nf_check(self->nf, c, 5, 0, FILE_SIZE, FILE_SIZE));
		EXPECT_EQ(round ? 0 : 1, !!d->s.stats->reads);
		ASSERT_EQ(0, cf_nf_detach(self->nf, c, false));
		ASSERT_EQ(0, cf_nf_volume_end(self->nf, vol, NULL, 0, false));
		ASSERT_LE(0, cf_env_umount(&d->e, LONG));
		cf_server_stop(&d->s);
		close(o->e.dev);
		close(d->e.dev);
	}
}

/* A user of the other mode is refused in words, and harms nobody. */
TEST_F_TIMEOUT(side_by_side, d12_wrong_mode, 120)
{
	struct party *o = &self->p[0], *d = &self->p[1];
	char opts[96], line[512] = "", path[200];
	int log, vol, c;

	ASSERT_EQ(0, bind_party(o, false));
	ASSERT_EQ(0, bind_party(d, true));
	ASSERT_EQ(0, start_load(o));
	ASSERT_EQ(0, start_load(d));
	log = cf_log_open();
	ASSERT_LE(0, log);

	vol = cf_nf_volume(self->nf, "wrong", d->e.tag, NULL, 0);
	ASSERT_LT(0, vol);
	c = cf_nf_file(self->nf, vol, "file", "a", 1, FILE_SIZE, false);
	EXPECT_EQ(-ENOBUFS, c);
	EXPECT_EQ(1, cf_log_lines(log, "", line, sizeof(line))) {
		TH_LOG("%s", line);
	}
	ASSERT_EQ(0, cf_nf_volume_end(self->nf, vol, NULL, 0, false));

	snprintf(opts, sizeof(opts), "cache=%s", o->e.tag);
	if (!cf_mount_od("wrong", self->e.mnt, opts)) {
		struct stat st;

		snprintf(path, sizeof(path), "%s/file", self->e.mnt);
		EXPECT_EQ(-1, stat(path, &st));
		EXPECT_EQ(1, cf_log_lines(log, "", line, sizeof(line))) {
			TH_LOG("%s", line);
		}
		ASSERT_EQ(0, umount2(self->e.mnt, 0));
	}
	EXPECT_UNDISTURBED(o);
	EXPECT_UNDISTURBED(d);
	EXPECT_EQ(0, stop_load(o));
	EXPECT_EQ(0, stop_load(d));
	close(log);
}

/* --- what a daemon is told --- */

/* Store a file through @p's volume, and let it go. */
static void release_one(struct __test_metadata *_metadata, int nf, struct party *p)
{
	int vol = cf_nf_volume(nf, p->e.volume, p->e.tag, NULL, 0), c;

	ASSERT_LT(0, vol);
	c = cf_nf_file(nf, vol, "released", "a", 1, FILE_SIZE, false);
	ASSERT_LT(0, c);
	ASSERT_EQ(0, cf_nf_fill(nf, c, 1, FILE_SIZE));
	ASSERT_EQ(0, cf_nf_detach(nf, c, false));
	ASSERT_EQ(0, cf_nf_volume_end(nf, vol, NULL, 0, false));
}

TEST_F_TIMEOUT(side_by_side, statistics, 120)
{
	struct party *a = &self->p[0], *b = &self->p[1], *d = &self->p[2];
	struct cf_statistics before, sa, sb;
	short both = POLLIN | POLLOUT;
	char path[200];
	int fd;

	ASSERT_EQ(0, bind_party(a, false));
	ASSERT_EQ(0, bind_party(b, false));
	ASSERT_EQ(0, bind_party(d, true));
	ASSERT_EQ(0, cf_statistics(b->e.dev, &before));

	/* Limits. */
	ASSERT_EQ(0, cf_cmd(a->e.dev, "brun 40%%"));
	ASSERT_EQ(0, cf_cmd(a->e.dev, "frun 30%%"));
	ASSERT_EQ(0, cf_cmd(d->e.dev, "brun 50%%"));
	ASSERT_EQ(0, cf_statistics(a->e.dev, &sa));
	ASSERT_EQ(0, cf_statistics(b->e.dev, &sb));
	EXPECT_LT(sb.brun, sa.brun);
	EXPECT_LT(sb.frun, sa.frun);
	EXPECT_EQ(before.brun, sb.brun);
	EXPECT_EQ(before.frun, sb.frun);

	/* What was released. */
	release_one(_metadata, self->nf, a);
	EXPECT_EQ(POLLIN, cf_poll(a->e.dev, both, cf_ms(LONG)));
	EXPECT_EQ(0, cf_poll(b->e.dev, both, 0));
	EXPECT_EQ(0, cf_poll(d->e.dev, both, 0));
	ASSERT_EQ(0, cf_statistics(b->e.dev, &sb));
	EXPECT_EQ(0, sb.freleased);
	EXPECT_EQ(0, sb.breleased);
	release_one(_metadata, self->nf, b);
	ASSERT_EQ(0, cf_statistics(a->e.dev, &sa));
	EXPECT_EQ(1, sa.freleased);
	EXPECT_LT(0, sa.breleased);
	EXPECT_EQ(POLLIN, cf_poll(b->e.dev, both, cf_ms(LONG)));
	ASSERT_EQ(0, cf_statistics(b->e.dev, &sb));
	EXPECT_EQ(1, sb.freleased);
	EXPECT_EQ(0, cf_poll(a->e.dev, both, 0));

	/* Culling, whatever else there is. */
	snprintf(path, sizeof(path), "%s/ballast", a->e.dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, posix_fallocate(fd, 0, 64 * MB));
	close(fd);
	ASSERT_EQ(0, cf_cmd(a->e.dev, "brun 99%%"));
	ASSERT_EQ(0, cf_cmd(a->e.dev, "bcull 98%%"));
	ASSERT_EQ(0, cf_cmd(a->e.dev, "bstop 97%%"));
	EXPECT_EQ(POLLIN | POLLOUT, cf_poll(a->e.dev, both, cf_ms(LONG)));
	EXPECT_EQ(0, cf_poll(b->e.dev, both, 0));
	EXPECT_EQ(0, cf_poll(d->e.dev, both, 0));
	ASSERT_EQ(0, cf_statistics(a->e.dev, &sa));
	ASSERT_EQ(0, cf_statistics(b->e.dev, &sb));
	EXPECT_EQ(1, sa.cull);
	EXPECT_EQ(0, sb.cull);
	/* Where there is room, things are stored. */
	ASSERT_EQ(0, start_load(b));
	ASSERT_EQ(0, start_load(d));
	EXPECT_UNDISTURBED(b);
	EXPECT_UNDISTURBED(d);
	EXPECT_EQ(0, stop_load(b));
	EXPECT_EQ(0, stop_load(d));
	ASSERT_EQ(0, cf_statistics(a->e.dev, &sa));
	EXPECT_EQ(0, sa.freleased);
	EXPECT_EQ(1, sa.cull);
	ASSERT_EQ(0, cf_statistics(b->e.dev, &sb));
	EXPECT_LT(0, sb.freleased);
	EXPECT_EQ(0, sb.cull);
	unlink(path);
}

/* Each culls in its own directory only. */
TEST_F_TIMEOUT(side_by_side, cull, 120)
{
	struct party *a = &self->p[0], *b = &self->p[1], *d = &self->p[2];
	char path[512], *name;

	ASSERT_EQ(0, bind_party(a, false));
	ASSERT_EQ(0, bind_party(b, false));
	ASSERT_EQ(0, bind_party(d, true));
	release_one(_metadata, self->nf, a);
	release_one(_metadata, self->nf, b);
	ASSERT_EQ(0, cf_nf_path(b->e.dir, b->e.volume, "released", 8, path, sizeof(path)));
	name = strrchr(path, '/');
	*name++ = '\0';
	ASSERT_EQ(0, chdir(path));
	EXPECT_EQ(-EINVAL, cf_cmd(a->e.dev, "inuse %s", name));
	EXPECT_EQ(-EINVAL, cf_cmd(a->e.dev, "cull %s", name));
	EXPECT_EQ(-EINVAL, cf_cmd(d->e.dev, "cull %s", name));
	EXPECT_TRUE(has_file(b, "released"));
	EXPECT_EQ(0, cf_cmd(b->e.dev, "inuse %s", name));
	EXPECT_EQ(0, cf_cmd(b->e.dev, "cull %s", name));
	EXPECT_FALSE(has_file(b, "released"));
	EXPECT_TRUE(has_file(a, "released"));
	ASSERT_EQ(0, chdir("/"));
}

/* --- one's disk breaks --- */

/*
 * A write that fails is the trouble of a daemon that fills a file, any other failure
 * is the cache's end: a look-up at the latest.
 */
static bool has_failed(struct party *p)
{
	long long end = cf_now() + cf_ms(LONG);

	while (cf_now() < end) {
		if (p->ondemand)
			read_file(p, "unknown");
		if (cf_cmd(p->e.dev, "brun 8%%") == -EIO)
			return true;
		poll(NULL, 0, 20);
	}
	return false;
}

TEST_F_TIMEOUT(side_by_side, error, 300)
{
	struct party *p = self->p;
	char line[512] = "", image[160], path[200];
	struct cf_statistics s;
	int log = cf_log_open(), fd;

	if (strcmp(backing_fs(), "ext4"))
		SKIP(return, "needs an ext4 to break");
	ASSERT_LE(0, log);
	/* The first two have a disk of their own each. */
	for (int i = 0; i < 2; i++) {
		snprintf(p[i].e.dir, sizeof(p[i].e.dir), CF_BASE "/s%d-%d", getpid(), i);
		snprintf(image, sizeof(image), "%s.img", p[i].e.dir);
		ASSERT_EQ(0, cf_store(image, 128 * MB, p[i].e.dir, "ext4"));
		unlink(image);
	}
	for (int i = 0; i < 4; i++) {
		ASSERT_EQ(0, bind_party(&p[i], i % 2));
		ASSERT_EQ(0, start_load(&p[i]));
	}
	for (int i = 0; i < 4; i++)
		EXPECT_UNDISTURBED(&p[i]);
	cf_log_lines(log, "", line, sizeof(line));

	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, cf_store_break(p[i].e.dir));
		EXPECT_UNCACHED(&p[i]);
		EXPECT_TRUE(has_failed(&p[i]));
		for (int k = i + 1; k < 4; k++) {
			EXPECT_UNDISTURBED(&p[k]);
			EXPECT_EQ(0, cf_cmd(p[k].e.dev, "brun 8%%"));
		}
		EXPECT_EQ(1, cf_log_lines(log, "I/O error: ", line, sizeof(line))) {
			TH_LOG("%s", line);
		}
	}
	/* The dead one still tells its daemon, and gives way to a new one. */
	EXPECT_EQ(0, cf_statistics(p[0].e.dev, &s));
	EXPECT_EQ(0, stop_load(&p[0]));
	EXPECT_EQ(0, stop_load(&p[1]));
	close(p[0].e.dev);
	snprintf(p[0].e.dir, sizeof(p[0].e.dir), "%s", p[4].e.dir);
	ASSERT_EQ(0, bind_party(&p[0], false));
	ASSERT_EQ(0, start_load(&p[0]));
	EXPECT_UNDISTURBED(&p[0]);
	for (int k = 2; k < 4; k++)
		EXPECT_UNDISTURBED(&p[k]);

	/* Nor does one that ends on a broken disk hold up the others. */
	kill(p[1].s.pid, SIGKILL);
	cf_server_wait(&p[1].s, LONG);
	close(p[1].e.dev);
	p[1].e.dev = -1;
	EXPECT_LE(0, cf_env_umount(&p[1].e, LONG));
	EXPECT_UNDISTURBED(&p[3]);
	for (int k = 0; k < 4; k++) {
		if (k != 1)
			EXPECT_EQ(0, stop_load(&p[k]));
	}
	snprintf(path, sizeof(path), "%s/probe", p[2].e.dir);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	EXPECT_LE(0, fd);
	close(fd);
	close(log);
}

/* --- and after all --- */

TEST_F_TIMEOUT(side_by_side, unload, 300)
{
	const char *const unload[] = { "modprobe", "-r", "ondemandfs", "cachefiles", NULL };
	const char *const load[] = { "modprobe", "-a", "cachefiles", "ondemandfs", NULL };
	long long end;
	int ret;

	if (access("/sys/module/cachefiles/refcnt", F_OK))
		SKIP(return, "is not a module");
	for (int i = 0; i < MAX_PARTIES; i++) {
		ASSERT_EQ(0, bind_party(&self->p[i], i % 2));
		ASSERT_EQ(0, start_load(&self->p[i]));
	}
	for (int i = 0; i < MAX_PARTIES; i++)
		EXPECT_UNDISTURBED(&self->p[i]);
	/* In use, whoever has it. */
	EXPECT_NE(0, cf_run(20000, unload));
	for (int i = 0; i < MAX_PARTIES; i++) {
		struct party *p = &self->p[i];

		EXPECT_EQ(0, stop_load(p));
		if (p->ondemand) {
			EXPECT_LE(0, cf_env_umount(&p->e, LONG));
			cf_server_stop(&p->s);
		}
		close(p->e.dev);
		p->e.dev = -1;
	}
	close(self->e.dev);
	self->e.dev = -1;
	/* The last processes have to be reaped. */
	end = cf_now() + cf_ms(LONG);
	do {
		ret = cf_run(20000, unload);
	} while (ret && cf_now() < end && !poll(NULL, 0, 100));
	EXPECT_EQ(0, ret);
	EXPECT_EQ(0, cf_run(20000, load));
}

TEST_HARNESS_MAIN
