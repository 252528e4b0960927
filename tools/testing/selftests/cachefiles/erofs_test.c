// SPDX-License-Identifier: GPL-2.0-only
/*
 * EROFS over FS-Cache, as the kernel has it, mounts and reads right through this cache,
 * whatever becomes of the daemon.
 */
#include "harness.h"
#include "lib/erofs.h"
#include "lib/trace.h"

#include <sys/mman.h>

#define READERS	3
#define FILES	24
#define ROUNDS	12

FIXTURE(erofs) {
	struct cf_env e;
	struct cf_server s;
	char tree[160];
	unsigned long *bytes;		/* compared, by all processes */
};

/* Half of the files can be compressed, some end with a block, some are empty. */
static int make_file(const char *path, unsigned int nr)
{
	static const unsigned int sizes[] = { 0, 1, 100, 4095, 4096, 4097, 70000, 300001 };
	unsigned int size = sizes[nr % ARRAY_SIZE(sizes)];
	static char buf[300001];
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	ssize_t n;

	if (fd < 0)
		return -errno;
	cf_pattern(nr, 0, buf, size);
	if (nr / ARRAY_SIZE(sizes) % 2)
		for (unsigned int i = 0; i < size; i++)
			buf[i] = "erofs "[(i + buf[i / 512 * 512]) % 6];
	n = write(fd, buf, size);
	close(fd);
	return n == (ssize_t)size ? 0 : -EIO;
}

/* 0; 1 with the reason to skip in cf_why; or a negative errno. */
static int set_up(struct cf_env *e, struct cf_server *s, char tree[160], unsigned long **bytes)
{
	char path[200];
	int ret;

	if (world)
		return 1;
	if (!cf_have_fs("erofs") || !cf_have_erofs_on_fscache()) {
		snprintf(cf_why, sizeof(cf_why),
			 "EROFS does not read through FS-Cache (CONFIG_EROFS_FS_ONDEMAND)");
		return 1;
	}
	ret = cf_env_init(e);
	if (!ret)
		ret = cf_env_bind(e);
	if (!ret)
		ret = cf_server_init(s, e->dev);
	*bytes = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	snprintf(tree, 160, "%s-tree", e->mnt);
	if (ret || *bytes == MAP_FAILED || mkdir(tree, 0755))
		return ret ? ret : -errno;
	for (unsigned int i = 0; i < FILES && !ret; i++) {
		snprintf(path, sizeof(path), "%s/f%u", tree, i);
		ret = make_file(path, i);
	}
	return ret;
}

FIXTURE_SETUP(erofs)
{
	int ret = set_up(&self->e, &self->s, self->tree, &self->bytes);

	if (ret > 0)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
}

FIXTURE_TEARDOWN(erofs)
{
	cf_server_stop(&self->s);
	EXPECT_NE(-ETIMEDOUT, cf_env_exit(&self->e));
}

/* Bytes of the file @nr that are right, or a negative errno. */
static long compare_file(const char *where, const char *tree, unsigned int nr)
{
	static char got[300100], want[300100];
	char path[200];
	int a, b;

	snprintf(path, sizeof(path), "%s/f%u", tree, nr);
	b = cf_read_file(path, want, sizeof(want));
	snprintf(path, sizeof(path), "%s/f%u", where, nr);
	a = cf_read_file(path, got, sizeof(got));
	if (a < 0 || b < 0)
		return a < 0 ? a : b;
	return a == b && !memcmp(got, want, a) ? a : -EBADMSG;
}

struct visit {
	const char	*where, *tree;
	unsigned int	first;
	unsigned long	*bytes;
};

/* Every file, from a first one. */
static int compare_all(void *arg)
{
	struct visit *v = arg;
	long n;

	for (unsigned int i = 0; i < FILES; i++) {
		n = compare_file(v->where, v->tree, (v->first + i) % FILES);
		if (n < 0)
			return (int)-n;
		__atomic_fetch_add(v->bytes, n, __ATOMIC_RELAXED);
	}
	return 0;
}

struct mounting {
	const char	*where, *opts;
};

static int do_mount(void *arg)
{
	struct mounting *m = arg;

	return mount("none", m->where, "erofs", MS_RDONLY, m->opts) ? errno : 0;
}

/* Mount within a time limit: 0, a negative errno, or -ETIMEDOUT. */
static int erofs_mount(const char *where, const char *opts)
{
	struct mounting m = { where, opts };
	struct cf_result res;
	struct cf_reader r;
	int ret = cf_child(&r, do_mount, &m);

	if (!ret)
		ret = cf_reader_wait(&r, &res, LONG);
	return ret ? ret : -res.err;
}

/*
 * Have mkfs.erofs make @image of @tree, with up to two options. Chunks go through a file
 * in /tmp, from which they get nowhere but into the same file system.
 */
static int make_image(const char *image, const char *tree, const char *one, const char *two)
{
	const char *argv[8] = { "mkfs.erofs", "--quiet", "-T0" };
	char made[64];
	const char *const copy[] = { "cp", made, image, NULL };
	int n = 3, ret;

	if (one)
		argv[n++] = one;
	if (two)
		argv[n++] = two;
	argv[n++] = made;
	argv[n] = tree;
	snprintf(made, sizeof(made), "/tmp/cf-erofs-%d", getpid());
	ret = cf_run(60000, argv);
	if (!ret)
		ret = cf_run(60000, copy);
	unlink(made);
	return ret;
}

/* Serve the file @path as @key. */
static int serve_file(struct cf_server *s, const char *key, const char *path)
{
	struct cf_file *f;
	struct stat st;

	if (stat(path, &st))
		return -errno;
	f = cf_server_add(s, key, st.st_size, 0);
	if (!f)
		return -ENOSPC;
	snprintf(f->source, sizeof(f->source), "%s", path);
	return 0;
}

FIXTURE_VARIANT(erofs) {
	const char	*one, *two;
	unsigned int	devices;
	bool		tags;		/* say what their names are */
};

FIXTURE_VARIANT_ADD(erofs, plain) {};
FIXTURE_VARIANT_ADD(erofs, compressed) { .one = "-zlz4hc" };
FIXTURE_VARIANT_ADD(erofs, legacy) { .one = "-zlz4hc", .two = "-Elegacy-compress" };
FIXTURE_VARIANT_ADD(erofs, chunked) { .one = "--chunksize=4096" };
FIXTURE_VARIANT_ADD(erofs, blob) { .one = "--chunksize=16384", .devices = 1 };
FIXTURE_VARIANT_ADD(erofs, devices) { .devices = 3 };
FIXTURE_VARIANT_ADD(erofs, tags) { .devices = 3, .tags = true };

/*
 * Make an image, and serve it as @key, its @devices as "blob0" and on: 0; 1 with the
 * reason to skip in cf_why; or a negative errno.  mkfs.erofs makes one device at most.
 */
static int prepare(struct cf_env *e, struct cf_server *s, const char *tree, const char *key,
		   const char *one, const char *two, unsigned int devices)
{
	char image[160], device[180], option[200], name[16];
	int ret;

	snprintf(image, sizeof(image), "%s-%s", e->mnt, key);
	snprintf(device, sizeof(device), "%s.0", image);
	snprintf(option, sizeof(option), "--blobdev=%s", device);
	if (devices > 1) {
		ret = cf_erofs_make(tree, image, devices, "blob%u");
	} else {
		/* mkfs.erofs wants the device to be there. */
		int fd = open(device, O_CREAT | O_CLOEXEC, 0600);

		if (fd >= 0)
			close(fd);
		ret = make_image(image, tree, one, devices ? option : two);
	}
	if (ret == 127) {
		snprintf(cf_why, sizeof(cf_why), "no mkfs.erofs (erofs-utils)");
		return 1;
	}
	if (ret)
		return -EIO;
	ret = serve_file(s, key, image);
	for (unsigned int i = 0; i < devices && !ret; i++) {
		snprintf(device, sizeof(device), "%s.%u", image, i);
		snprintf(name, sizeof(name), "blob%u", i);
		ret = serve_file(s, name, device);
	}
	return ret;
}

/* "image" and "second", which have the same content and share a blob. */
static int prepare_two(struct cf_env *e, struct cf_server *s, const char *tree,
		       const char *chunks)
{
	char image[160];
	int ret = prepare(e, s, tree, "image", chunks, NULL, 1);

	if (ret)
		return ret;
	snprintf(image, sizeof(image), "%s-image", e->mnt);
	return serve_file(s, "second", image);
}

/* What to mount the image @key with. */
static void mount_options(char opts[128], const char *key, unsigned int devices)
{
	int len = snprintf(opts, 128, "fsid=%s", key);

	for (unsigned int i = 0; i < devices; i++)
		len += snprintf(opts + len, 128 - len, ",device=blob%u", i);
}

/* What is fetched is right, and is fetched once. */
TEST_F(erofs, every_byte)
{
	struct visit v = { self->e.mnt, self->tree, 0, self->bytes };
	unsigned long reads;
	char opts[128];
	int ret;

	ret = prepare(&self->e, &self->s, self->tree, "image", variant->one, variant->two,
		      variant->devices);
	if (ret > 0)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	mount_options(opts, "image", variant->tags ? 0 : variant->devices);
	ASSERT_EQ(0, cf_server_thread(&self->s));
	ASSERT_EQ(0, erofs_mount(self->e.mnt, opts));
	ret = compare_all(&v);
	if (variant->one && variant->one[1] == 'z' && ret == EOPNOTSUPP)
		SKIP(return, "EROFS over FS-Cache without compressed files");
	EXPECT_EQ(0, ret);
	ASSERT_LE(0, cf_umount(self->e.mnt, 0, PROMPT));
	reads = self->s.stats->reads;
	EXPECT_LT(0, reads);

	ASSERT_EQ(0, erofs_mount(self->e.mnt, opts));
	EXPECT_EQ(0, compare_all(&v));
	ASSERT_LE(0, cf_umount(self->e.mnt, 0, PROMPT));
	EXPECT_EQ(reads, self->s.stats->reads);
	EXPECT_EQ(2 * (1 + variant->devices), self->s.stats->opens);
	EXPECT_EQ(0, self->s.stats->refused);
	EXPECT_EQ(0, self->s.stats->odd);
	TH_LOG("%lu READs, %lu bytes compared", reads, *self->bytes);
}

/* A daemon that dies at each step, again and again, loses nothing that is asked for. */
TEST_F_TIMEOUT(erofs, killed, 240)
{
	static const struct step {
		unsigned int	op;
		enum cf_point	point;
	} points[] = {
		{ CACHEFILES_OP_READ, CF_GOT }, { CACHEFILES_OP_READ, CF_WRITTEN },
		{ CACHEFILES_OP_READ, CF_REPLIED }, { CACHEFILES_OP_OPEN, CF_GOT },
		{ CACHEFILES_OP_OPEN, CF_REPLIED },
	};
	struct cf_reader mounter, readers[READERS];
	struct visit v[READERS];
	char opts[128], key[16], image[160];
	struct mounting m = { self->e.mnt, opts };
	unsigned int kills = 0, which = 0;
	const struct step *p;
	bool clock;
	struct cf_result res;
	int ret;

	ret = prepare(&self->e, &self->s, self->tree, "image", variant->one, variant->two,
		      variant->devices);
	if (ret > 0)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	snprintf(image, sizeof(image), "%s-image", self->e.mnt);
	for (int round = 0; round < ROUNDS; round++) {
		int started = 0, left = 1;

		/* Under a name that is new, everything is fetched again. */
		snprintf(key, sizeof(key), "image%d", round);
		ASSERT_EQ(0, serve_file(&self->s, key, image));
		mount_options(opts, key, variant->tags ? 0 : variant->devices);
		ASSERT_EQ(0, cf_child(&mounter, do_mount, &m));
		while (left) {
			/* It dies at a step of a message to come, or by the clock. */
			self->s.nr_rules = 0;
			which++;
			clock = which % 4 == 0;
			p = &points[which % (started ? 3 : ARRAY_SIZE(points))];
			if (!clock)
				cf_server_rule(&self->s, p->op, which % 2 +
					       (p->op == CACHEFILES_OP_OPEN ?
						self->s.stats->opens : self->s.stats->reads),
					       p->point, CF_DIE, 0);
			ASSERT_EQ(0, cf_server_fork(&self->s, true));
			for (int i = 0; i < (clock ? 2 : 10) && left; i++) {
				if (!cf_server_wait(&self->s, 5 + which % 7))
					break;
				if (!started && cf_reader_done(&mounter)) {
					ASSERT_EQ(0, cf_reader_wait(&mounter, &res, LONG));
					ASSERT_EQ(0, res.err);
					for (; started < READERS; started++) {
						v[started] = (struct visit) { self->e.mnt,
							self->tree, started * 7, self->bytes };
						ASSERT_EQ(0, cf_child(&readers[started],
								      compare_all, &v[started]));
					}
				}
				left = !started;
				for (int k = 0; k < started; k++)
					left += !cf_reader_done(&readers[k]);
			}
			if (self->s.pid > 0)
				kill(self->s.pid, SIGKILL);
			if (self->s.pid > 0) {
				ASSERT_EQ(0, cf_server_wait(&self->s, LONG));
			}
			kills++;
		}
		for (int k = 0; k < READERS; k++) {
			ASSERT_EQ(0, cf_reader_wait(&readers[k], &res, LONG));
			if (variant->one && variant->one[1] == 'z' && res.err == EOPNOTSUPP)
				SKIP(return, "EROFS over FS-Cache without compressed files");
			EXPECT_EQ(0, res.err);
		}
		/* Nobody is there to hear of it. */
		ASSERT_LE(0, cf_umount(self->e.mnt, 0, PROMPT));
	}
	EXPECT_LT(3, self->s.stats->died);
	TH_LOG("%u kills, %lu in the middle of a message, %lu bytes compared, %lu READs", kills,
	       self->s.stats->died, *self->bytes, self->s.stats->reads);
}

/* What does not depend on the kind of image. */
FIXTURE(one) {
	struct cf_env e;
	struct cf_server s;
	char tree[160];
	unsigned long *bytes;
	char other[160];
};

FIXTURE_SETUP(one)
{
	int ret = set_up(&self->e, &self->s, self->tree, &self->bytes);

	if (ret > 0)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	snprintf(self->other, sizeof(self->other), "%s-other", self->e.mnt);
	ASSERT_EQ(0, mkdir(self->other, 0755));
}

FIXTURE_TEARDOWN(one)
{
	cf_server_stop(&self->s);
	EXPECT_NE(-ETIMEDOUT, cf_env_exit(&self->e));
}

/* Two images share a blob in a domain: it is opened once, and fetched once. */
TEST_F(one, domain)
{
	const char *first = "fsid=image,domain_id=domain,device=blob0";
	const char *second = "fsid=second,domain_id=domain,device=blob0";
	struct visit a = { self->e.mnt, self->tree, 0, self->bytes };
	struct visit b = { self->other, self->tree, 5, self->bytes };
	unsigned long reads;
	int ret;

	ret = prepare_two(&self->e, &self->s, self->tree, "--chunksize=16384");
	if (ret > 0)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, cf_server_thread(&self->s));
	ASSERT_EQ(0, erofs_mount(self->e.mnt, first));
	ASSERT_EQ(0, erofs_mount(self->other, second));
	EXPECT_EQ(3, self->s.stats->opens);
	EXPECT_EQ(0, compare_all(&a));
	reads = self->s.stats->reads;
	EXPECT_EQ(0, compare_all(&b));
	/* Nothing but metadata of the second image is new. */
	EXPECT_GE(reads + 3, self->s.stats->reads);

	/* First in, first out; and the other way. */
	ASSERT_LE(0, cf_umount(self->e.mnt, 0, PROMPT));
	ASSERT_EQ(0, cf_drop_caches("3"));
	EXPECT_EQ(0, compare_all(&b));
	ASSERT_EQ(0, erofs_mount(self->e.mnt, first));
	EXPECT_EQ(4, self->s.stats->opens);
	EXPECT_EQ(0, compare_all(&a));
	ASSERT_LE(0, cf_umount(self->e.mnt, 0, PROMPT));
	ASSERT_LE(0, cf_umount(self->other, 0, PROMPT));
	EXPECT_EQ(0, self->s.stats->refused);
}

/* An OPEN that is refused fails the mount, and nothing of it stays. */
TEST_F(one, refused)
{
	static const int errnos[] = { ENOENT, EACCES, ENOMEM, EIO };
	struct visit v = { self->e.mnt, self->tree, 0, self->bytes };
	int ret;

	ret = prepare(&self->e, &self->s, self->tree, "image", NULL, NULL, 0);
	if (ret > 0)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, cf_server_thread(&self->s));
	for (size_t i = 0; i < ARRAY_SIZE(errnos); i++) {
		self->s.files[0].error = errnos[i];
		ret = erofs_mount(self->e.mnt, "fsid=image");
		EXPECT_GT(0, ret);
		EXPECT_NE(-ETIMEDOUT, ret);
		/* EROFS reads by way of a page, which fails with EIO whatever the reason. */
		EXPECT_TRUE(ret == -EIO || ret == -errnos[i]);
		TH_LOG("refused with %d, mount fails with %d", errnos[i], -ret);
	}
	self->s.files[0].error = 0;
	ASSERT_EQ(0, erofs_mount(self->e.mnt, "fsid=image"));
	EXPECT_EQ(0, compare_all(&v));
	ASSERT_LE(0, cf_umount(self->e.mnt, 0, PROMPT));
}

/* A mount whose daemon never answers its OPEN, or a READ, can be killed. */
TEST_F(one, silent)
{
	struct mounting m = { self->e.mnt, "fsid=image" };
	struct cf_reader r;
	struct cf_msg msg;
	int ms;

	for (int step = 0; step < 4; step++) {
		ASSERT_EQ(0, cf_child(&r, do_mount, &m));
		ASSERT_EQ(POLLIN, cf_poll(self->e.dev, POLLIN, cf_ms(LONG)) & POLLIN);
		if (step) {
			ASSERT_EQ(0, cf_expect(self->e.dev, &msg, CACHEFILES_OP_OPEN, LONG));
		}
		if (step >= 2) {
			ASSERT_EQ(0, cf_copen(self->e.dev, msg.hdr.msg_id, MB));
			ASSERT_EQ(POLLIN, cf_poll(self->e.dev, POLLIN, cf_ms(LONG)) & POLLIN);
		}
		if (step == 3) {
			ASSERT_EQ(0, cf_expect(self->e.dev, &msg, CACHEFILES_OP_READ, LONG));
		}
		ms = cf_reader_kill(&r, LONG);
		EXPECT_LE(0, ms);
		EXPECT_GE(cf_ms(PROMPT), ms);
		TH_LOG("step %d: gone after %d ms", step, ms);
		/* The object goes later than the mount; what nobody has opened is not closed. */
		if (step) {
			ASSERT_EQ(0, cf_expect(self->e.dev, &msg, CACHEFILES_OP_CLOSE, LONG));
		} else {
			ASSERT_EQ(0, until_idle(&self->e));
		}
		/* What a dead mount has asked for is not asked any more. */
		EXPECT_EQ(0, cf_poll(self->e.dev, POLLIN, cf_ms(BRIEF)));
	}
}

/* Two page caches miss the same place of an object: the daemon is asked once. */
TEST_F(one, one_read_for_two)
{
	struct visit a = { self->e.mnt, self->tree, 0, self->bytes };
	struct visit b = { self->other, self->tree, 0, self->bytes };
	struct cf_reader one, two;
	struct cf_result res;
	unsigned long reads;
	int trace, ret;

	ret = prepare_two(&self->e, &self->s, self->tree, "--chunksize=524288");
	if (ret > 0)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, cf_server_thread(&self->s));
	ASSERT_EQ(0, erofs_mount(self->e.mnt, "fsid=image,domain_id=d,device=blob0"));
	ASSERT_EQ(0, erofs_mount(self->other, "fsid=second,domain_id=d,device=blob0"));
	trace = cf_trace_start();
	if (trace < 0)
		SKIP(return, CF_NO_TRACEPOINTS);
	/* Time enough for the second to come while the first one waits. */
	self->s.delay_ms = cf_ms(400);
	reads = self->s.stats->reads;
	ASSERT_EQ(0, cf_child(&one, compare_all, &a));
	ASSERT_EQ(0, cf_child(&two, compare_all, &b));
	EXPECT_EQ(0, cf_trace_wait(trace, "IDLE -> FOLLOWING", LONG));
	cf_trace_stop(trace);
	self->s.delay_ms = 0;
	ASSERT_EQ(0, cf_reader_wait(&one, &res, LONG));
	EXPECT_EQ(0, res.err);
	ASSERT_EQ(0, cf_reader_wait(&two, &res, LONG));
	EXPECT_EQ(0, res.err);
	TH_LOG("%lu READs for two readers of %lu bytes", self->s.stats->reads - reads,
	       *self->bytes);
	/* Not a byte of the blob is asked for twice. */
	EXPECT_GE(self->s.files[1].size + self->s.files[0].size * 2, self->s.stats->bytes);
}

#define BIG	(3 * MB)

/* Can be compressed to a half, so that clusters are as large as they may be. */
static int make_big(const char *path, char *buf)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	ssize_t n;

	if (fd < 0)
		return -errno;
	cf_pattern(82, 0, buf, BIG);
	for (unsigned int i = 0; i < BIG; i += 64)
		memcpy(buf + i + 32, buf + i, 32);
	n = write(fd, buf, BIG);
	close(fd);
	return n == BIG ? 0 : -EIO;
}

/* Store every other @run bytes of @image in its object.  Bytes, or a negative errno. */
static long store_every_other(int object, const char *image, unsigned int run)
{
	int fd = open(image, O_RDONLY | O_CLOEXEC);
	char *buf = malloc(run);
	long stored = 0;
	ssize_t n = 0;

	for (off_t pos = 0; fd >= 0 && buf; pos += 2 * (off_t)run) {
		n = pread(fd, buf, run, pos);
		if (n <= 0)
			break;
		n = pwrite(object, buf, n, pos) == n ? n : -1;
		if (n < 0)
			break;
		stored += n;
	}
	if (n < 0 || fd < 0 || !buf)
		stored = -errno;
	free(buf);
	close(fd);
	return stored;
}

/*
 * A read of compressed data of which a part is there and a part is not completes once, and
 * with the right bytes, however large it is.
 */
TEST_F_TIMEOUT(one, d82_partly_there, 120)
{
	static const struct {
		const char	*cluster;
		unsigned int	run;
	} cases[] = {
		{ "-C4096", 4096 }, { "-C65536", 4096 }, { "-C65536", 32768 },
		{ "-C1048576", 4096 }, { "-C1048576", 262144 }, { "-C1048576", 0 },
	};
	struct mounting m = { self->e.mnt, NULL };
	char path[200], image[180], opts[64], key[16];
	char *want, *got;
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg msg;
	long stored;
	int ret;

	want = malloc(2 * BIG + 1);
	ASSERT_NE(NULL, want);
	got = want + BIG;
	snprintf(path, sizeof(path), "%s/big", self->tree);
	ASSERT_EQ(0, make_big(path, want));
	m.opts = opts;
	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		snprintf(key, sizeof(key), "part%u", i);
		ret = prepare(&self->e, &self->s, self->tree, key, "-zlz4hc",
			      cases[i].cluster, 0);
		if (ret > 0)
			SKIP(return, "%s", cf_why);
		ASSERT_EQ(0, ret);
		snprintf(image, sizeof(image), "%s-%s", self->e.mnt, key);
		snprintf(opts, sizeof(opts), "fsid=%s", key);
		ASSERT_EQ(0, cf_child(&r, do_mount, &m));
		ASSERT_EQ(0, cf_expect(self->e.dev, &msg, CACHEFILES_OP_OPEN, LONG));
		ASSERT_EQ(0, cf_server_handle(&self->s, &msg));
		stored = 0;
		if (cases[i].run)
			stored = store_every_other(cf_open_fd(&msg), image, cases[i].run);
		ASSERT_LE(0, stored);
		ASSERT_EQ(0, cf_server_thread(&self->s));
		ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
		ASSERT_EQ(0, res.err);

		snprintf(path, sizeof(path), "%s/big", self->e.mnt);
		ret = cf_read_file(path, got, BIG + 1);
		if (ret == -EOPNOTSUPP)
			SKIP(return, "EROFS over FS-Cache without compressed files");
		EXPECT_EQ(BIG, ret);
		EXPECT_EQ(0, memcmp(want, got, BIG));
		ASSERT_LE(0, cf_umount(self->e.mnt, 0, PROMPT));
		cf_server_stop(&self->s);
		TH_LOG("%s: %ld bytes were there, %u at a time", cases[i].cluster, stored,
		       cases[i].run);
	}
	free(want);
}

struct mounts {
	struct mounting	m;
	const char	*tree;
	unsigned long	*bytes;
};

/* Mount, compare a file, unmount, again and again. */
static int come_and_go(void *arg)
{
	struct mounts *m = arg;
	long n;
	int ret;

	for (unsigned int i = 0; i < 20; i++) {
		ret = do_mount(&m->m);
		if (ret)
			return ret;
		n = compare_file(m->m.where, m->tree, 7 + i % 2 * 8);
		if (umount2(m->m.where, 0))
			return errno;
		if (n < 0)
			return (int)-n;
		__atomic_fetch_add(m->bytes, n, __ATOMIC_RELAXED);
	}
	return 0;
}

/* An image is mounted once; two with a blob in common come and go as they like. */
TEST_F_TIMEOUT(one, d86_domain, 120)
{
	struct mounts a = {
		{ self->e.mnt, "fsid=image,domain_id=domain,device=blob0" }, self->tree,
		self->bytes
	};
	struct mounts b = {
		{ self->other, "fsid=second,domain_id=domain,device=blob0" }, self->tree,
		self->bytes
	};
	struct mounting again = { self->other, "fsid=image" };
	struct cf_reader one, two;
	struct cf_result res;
	int ret;

	ret = prepare_two(&self->e, &self->s, self->tree, "--chunksize=16384");
	if (ret > 0)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, cf_server_thread(&self->s));

	ASSERT_EQ(0, erofs_mount(self->e.mnt, a.m.opts));
	EXPECT_EQ(-EEXIST, erofs_mount(self->other, a.m.opts));
	ASSERT_LE(0, cf_umount(self->e.mnt, 0, PROMPT));

	/* FS-Cache has the second one of a name wait for the first one to go. */
	ASSERT_EQ(0, erofs_mount(self->e.mnt, "fsid=image,device=blob0"));
	ASSERT_EQ(0, cf_child(&two, do_mount, &again));
	ret = cf_reader_wait(&two, &res, BRIEF);
	TH_LOG("the same name again: %d, error %d", ret, ret ? 0 : res.err);
	if (ret) {
		EXPECT_LE(0, cf_reader_kill(&two, LONG));
	} else {
		EXPECT_LT(0, res.err);
	}
	ASSERT_LE(0, cf_umount(self->e.mnt, 0, PROMPT));

	ASSERT_EQ(0, cf_child(&one, come_and_go, &a));
	ASSERT_EQ(0, cf_child(&two, come_and_go, &b));
	ASSERT_EQ(0, cf_reader_wait(&one, &res, 4 * LONG));
	EXPECT_EQ(0, res.err);
	ASSERT_EQ(0, cf_reader_wait(&two, &res, 4 * LONG));
	EXPECT_EQ(0, res.err);
	EXPECT_EQ(0, self->s.stats->refused);
}

TEST_HARNESS_MAIN
