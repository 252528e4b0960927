// SPDX-License-Identifier: GPL-2.0-only
/*
 * A pending READ costs at most 512 bytes of kernel memory, and the on-demand
 * state of an object at most 1 KiB, with 10,000 of each; all of it comes back.
 */
#include "harness.h"

#include <dirent.h>

#define NR		10000
#define MAX_CACHES	512

/* What one slab cache holds, in bytes. */
struct slab {
	char	name[64];
	long	objects, size;
};

struct slabs {
	struct slab	s[MAX_CACHES];
	int		nr;
};

static int read_slabs(struct slabs *all)
{
	char line[512];
	FILE *f = fopen("/proc/slabinfo", "re");

	if (!f)
		return -errno;
	all->nr = 0;
	while (fgets(line, sizeof(line), f) && all->nr < MAX_CACHES) {
		struct slab *s = &all->s[all->nr];

		if (sscanf(line, "%63s %ld %*d %ld", s->name, &s->objects, &s->size) == 3)
			all->nr++;
	}
	fclose(f);
	return all->nr ? 0 : -ENODATA;
}

/* With slab debugging sizes mean nothing, and what is freed may stay for long. */
static bool slabs_padded(const struct slabs *all)
{
	for (int i = 0; i < all->nr; i++)
		if (!strcmp(all->s[i].name, "kmalloc-64"))
			return all->s[i].size > 64;
	return false;
}

/* The kernel lets caches of one size be one: what @name really is. */
static void real_name(const char *name, char *buf, size_t size)
{
	char path[128];
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/kernel/slab/%.64s", name);
	n = readlink(path, buf, size - 1);
	if (n < 0)
		n = snprintf(buf, size, "%s", name);
	buf[n] = '\0';
}

/* Whether slab cache @name is, or is shared with, one whose name begins with @prefix. */
static bool belongs(const char *name, const char *prefix)
{
	char ours[128], its[128];
	struct dirent *de;
	bool yes = !strncmp(name, prefix, strlen(prefix));
	DIR *d = yes ? NULL : opendir("/sys/kernel/slab");

	if (!d)
		return yes;
	real_name(name, its, sizeof(its));
	while (!yes && (de = readdir(d))) {
		if (strncmp(de->d_name, prefix, strlen(prefix)))
			continue;
		real_name(de->d_name, ours, sizeof(ours));
		yes = !strcmp(ours, its);
	}
	closedir(d);
	return yes;
}

/*
 * Growth between two readings, in bytes, of the slab caches whose names begin
 * with @prefix.  Only caches with about one more object for each of the NR
 * count: the rest is other people's.
 */
static long growth(struct __test_metadata *_metadata, const struct slabs *before,
		   const struct slabs *after, const char *prefix)
{
	long sum = 0;

	for (int i = 0; i < after->nr; i++) {
		const struct slab *a = &after->s[i];
		long objects = a->objects;

		for (int j = 0; j < before->nr; j++)
			if (!strcmp(before->s[j].name, a->name))
				objects -= before->s[j].objects;
		if (objects < NR / 2 || !belongs(a->name, prefix))
			continue;
		TH_LOG("%s (%s): %ld more of %ld bytes", prefix, a->name, objects, a->size);
		sum += objects * a->size;
	}
	return sum;
}

static int ask_many(void *arg)
{
	const char *path = arg;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return errno;
	for (int i = 0; i < NR; i++)
		posix_fadvise(fd, i * 8192LL, 4096, POSIX_FADV_WILLNEED);
	for (;;)
		pause();
}

TEST_F_TIMEOUT(ondemand, pending_reads, 120)
{
	static struct slabs before, after;
	struct cf_env *e = &self->e;
	struct cf_reader asker, r;
	struct cf_msg m;
	char path[160];
	long bytes;
	int nr = 0;

	if (read_slabs(&before))
		SKIP(return, "no /proc/slabinfo");
	if (slabs_padded(&before))
		SKIP(return, "slab debugging is on");
	ASSERT_LE(0, open_object(e, &r, "file", NR * 8192LL, &m));
	snprintf(path, sizeof(path), "%s/file", e->mnt);
	ASSERT_EQ(0, read_slabs(&before));
	ASSERT_EQ(0, cf_child(&asker, ask_many, path));
	while (nr < NR && cf_next(e->dev, &m, LONG) > 0) {
		ASSERT_EQ(CACHEFILES_OP_READ, m.hdr.opcode);
		nr++;
	}
	ASSERT_EQ(NR, nr);
	ASSERT_EQ(0, read_slabs(&after));
	bytes = growth(_metadata, &before, &after, "cachefiles");
	TH_LOG("%ld bytes for each pending READ", bytes / NR);
	/* What the netfs library needs for each is its own affair. */
	EXPECT_LT(0, bytes);
	EXPECT_GE(512, bytes / NR);

	EXPECT_LE(0, cf_reader_kill(&asker, 5000));
	EXPECT_LE(0, cf_env_umount(e, 10000));
	ASSERT_EQ(0, read_slabs(&after));
	EXPECT_GT(NR * 64L, growth(_metadata, &before, &after, "cachefiles"));
}

TEST_F_TIMEOUT(ondemand, objects, 300)
{
	static struct slabs before, after;
	struct cf_env *e = &self->e;
	char path[200];
	struct cf_msg m;
	struct stat st;
	long bytes, own;
	long long end;

	if (read_slabs(&before))
		SKIP(return, "no /proc/slabinfo");
	if (slabs_padded(&before))
		SKIP(return, "slab debugging is on");
	if (strcmp(backing_fs(), "ext4"))
		SKIP(return, "only ext4 allocates little enough itself");
	if (room_for_fds(NR + 1000))
		SKIP(return, "too few descriptors allowed");
	ASSERT_NE(NULL, cf_server_add(&self->s, "any", 10, 1));
	self->s.any_key = true;
	ASSERT_EQ(0, cf_server_thread(&self->s));
	for (int i = 0; i < NR; i++) {
		snprintf(path, sizeof(path), "%s/n%d", e->mnt, i);
		ASSERT_EQ(0, stat(path, &st));
	}
	ASSERT_EQ(0, read_slabs(&after));
	bytes = growth(_metadata, &before, &after, "cachefiles");
	own = growth(_metadata, &before, &after, "cachefiles_object");
	/* The state itself is of no fixed size; so is what others allocate. */
	bytes += growth(_metadata, &before, &after, "kmalloc");
	TH_LOG("%ld bytes for each object, %ld of them of any cached object",
	       bytes / NR, own / NR);
	EXPECT_LT(0, bytes - own);
	EXPECT_GE(1024, (bytes - own) / NR);
	EXPECT_LE(0, cf_env_umount(e, 60000));
	while (cf_next(e->dev, &m, 100) > 0)
		;
	/* RCU and FS-Cache let go of the last ones a moment later. */
	for (end = cf_now() + cf_ms(LONG);; cf_poll(e->dev, 0, 100)) {
		ASSERT_EQ(0, read_slabs(&after));
		own = growth(_metadata, &before, &after, "cachefiles");
		if (own < NR * 64L || cf_now() > end)
			break;
	}
	EXPECT_GT(NR * 64L, own);
}

TEST_HARNESS_MAIN
