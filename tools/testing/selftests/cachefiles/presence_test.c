// SPDX-License-Identifier: GPL-2.0-only
/*
 * bind refuses a file system that does not report exactly what is present, and
 * takes those that do; on these, what was stored is never fetched again, and
 * what was not stored is never believed.
 */
#include "harness.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/xattr.h>

#include <linux/fs.h>
#include <linux/fuse.h>

#include "lib/backing.h"
#include "lib/netfs.h"

/* A cache's surroundings, and a backing file system of its own. */
struct store {
	struct cf_env e;
	struct cf_mounted m;
	int log;
};

/* 1, with the reason in cf_why, if it can't be had here; or a negative errno. */
static int store_init(struct store *s, const struct cf_backing *b)
{
	int ret = world ? 1 : cf_env_init(&s->e);

	if (!ret)
		ret = cf_backing_mount(&s->m, b);
	if (ret)
		return ret;
	s->log = cf_log_open();
	return s->log < 0 ? s->log : 0;
}

static void store_exit(struct __test_metadata *_metadata, struct store *s)
{
	EXPECT_NE(-ETIMEDOUT, cf_env_exit(&s->e));
	cf_backing_unmount(&s->m);
}

/* Beginnings of command lines. */
#define EXT4	"mkfs.ext4 -q -F -Elazy_itable_init=1,nodiscard"
#define XFS	"mkfs.xfs -q -f -K"
#define BTRFS	"mkfs.btrfs -q -f -K"

FIXTURE(suitable) {
	struct store s;
};

FIXTURE_VARIANT(suitable) {
	struct cf_backing b;
};

/* What tmpfs did not have from the beginning; in cf_why. */
static bool lacks_something(const char *where)
{
	int fd = open(where, O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);

	cf_why[0] = '\0';
	if (fd < 0 && (errno == EOPNOTSUPP || errno == EINVAL))
		snprintf(cf_why, sizeof(cf_why), "tmpfs has no O_TMPFILE with O_DIRECT");
	else if (fd >= 0 && fsetxattr(fd, "user.test", "", 1, 0) && errno == EOPNOTSUPP)
		snprintf(cf_why, sizeof(cf_why), "tmpfs has no user attributes");
	close(fd);
	return cf_why[0];
}

FIXTURE_SETUP(suitable)
{
	int ret = store_init(&self->s, &variant->b);

	if (!ret && !strcmp(variant->b.fstype, "tmpfs") && lacks_something(self->s.m.where))
		SKIP(return, "%s", cf_why);

	if (ret > 0)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	snprintf(self->s.e.dir, sizeof(self->s.e.dir), "%s", self->s.m.where);
}

FIXTURE_TEARDOWN(suitable)
{
	store_exit(_metadata, &self->s);
}

FIXTURE_VARIANT_ADD(suitable, ext4) {
	.b = { .fstype = "ext4", .mb = 64, .mkfs = EXT4 " -b4096" },
};

FIXTURE_VARIANT_ADD(suitable, ext4_1k) {
	.b = { .fstype = "ext4", .mb = 64, .mkfs = EXT4 " -b1024" },
};

FIXTURE_VARIANT_ADD(suitable, ext4_bigalloc) {
	.b = { .fstype = "ext4", .mb = 128, .mkfs = EXT4 " -Obigalloc -C65536" },
};

FIXTURE_VARIANT_ADD(suitable, ext4_indirect) {
	.b = { .fstype = "ext4", .mb = 64, .mkfs = EXT4 " -O^extents,^64bit" },
};

FIXTURE_VARIANT_ADD(suitable, ext4_indirect_1k) {
	.b = { .fstype = "ext4", .mb = 64, .mkfs = EXT4 " -b1024 -O^extents,^64bit" },
};

FIXTURE_VARIANT_ADD(suitable, ext4_inline) {
	.b = { .fstype = "ext4", .mb = 64, .mkfs = EXT4 " -Oinline_data -I512" },
};

FIXTURE_VARIANT_ADD(suitable, ext4_journal) {
	.b = { .fstype = "ext4", .mb = 64, .mkfs = EXT4, .opts = "data=journal" },
};

FIXTURE_VARIANT_ADD(suitable, xfs) {
	.b = { .fstype = "xfs", .mb = 320, .mkfs = XFS },
};

FIXTURE_VARIANT_ADD(suitable, xfs_1k) {
	.b = { .fstype = "xfs", .mb = 320, .mkfs = XFS " -bsize=1024" },
};

FIXTURE_VARIANT_ADD(suitable, xfs_plain) {
	.b = { .fstype = "xfs", .mb = 320, .mkfs = XFS " -mreflink=0" },
};

FIXTURE_VARIANT_ADD(suitable, xfs_extsize) {
	.b = { .fstype = "xfs", .mb = 320, .mkfs = XFS " -mreflink=0", .extsize = "64k" },
};

FIXTURE_VARIANT_ADD(suitable, overlay_xfs_extsize) {
	.b = { .fstype = "xfs", .mb = 320, .mkfs = XFS " -mreflink=0", .extsize = "64k",
	       .stacked = true },
};

FIXTURE_VARIANT_ADD(suitable, btrfs) {
	.b = { .fstype = "btrfs", .mb = 256, .mkfs = BTRFS },
};

FIXTURE_VARIANT_ADD(suitable, btrfs_zstd) {
	.b = { .fstype = "btrfs", .mb = 256, .mkfs = BTRFS, .opts = "compress-force=zstd" },
};

FIXTURE_VARIANT_ADD(suitable, btrfs_nodatacow) {
	.b = { .fstype = "btrfs", .mb = 256, .mkfs = BTRFS, .opts = "nodatacow" },
};

FIXTURE_VARIANT_ADD(suitable, tmpfs) {
	.b = { .fstype = "tmpfs", .opts = "size=64m" },
};

FIXTURE_VARIANT_ADD(suitable, overlay) {
	.b = { .fstype = "overlay" },
};

FIXTURE_VARIANT_ADD(suitable, fuse_honest) {
	.b = { .fstype = "fuse", .lie = CF_LIE_NONE },
};

FIXTURE(unsuitable) {
	struct store s;
	char dir[160];
};

FIXTURE_VARIANT(unsuitable) {
	struct cf_backing b;
	bool folded;		/* a directory that ignores case */
	int refused;		/* errno */
};

/* Only what is in there ignores case, and has been there before bind. */
static bool make_folded(const char *dir)
{
	int fd = -1, flags = FS_CASEFOLD_FL, ret = -1;
	char path[176];

	snprintf(path, sizeof(path), "%s/cache", dir);
	if (!mkdir(dir, 0755) && !mkdir(path, 0755))
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		ret = ioctl(fd, FS_IOC_SETFLAGS, &flags);
	close(fd);
	return !ret;
}

FIXTURE_SETUP(unsuitable)
{
	int ret = store_init(&self->s, &variant->b);

	if (ret > 0)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	snprintf(self->dir, sizeof(self->dir), "%s%s", self->s.m.where,
		 variant->folded ? "/folded" : "");
	if (variant->folded && !make_folded(self->dir))
		SKIP(return, "no directories that ignore case (CONFIG_UNICODE)");
}

FIXTURE_TEARDOWN(unsuitable)
{
	store_exit(_metadata, &self->s);
}

/* Small files are told exactly, large ones in huge pages. */
FIXTURE_VARIANT_ADD(unsuitable, tmpfs_huge) {
	.b = { .fstype = "tmpfs", .opts = "huge=within_size" },
	.refused = EOPNOTSUPP,
};

/* What is allocated counts as data there, behind data. */
FIXTURE_VARIANT_ADD(unsuitable, f2fs) {
	.b = { .fstype = "f2fs", .mb = 128, .mkfs = "mkfs.f2fs -q -f" },
	.refused = EOPNOTSUPP,
};

FIXTURE_VARIANT_ADD(unsuitable, ext4_read_only) {
	.b = { .fstype = "ext4", .mb = 64, .mkfs = EXT4, .opts = "ro" },
	.refused = EROFS,
};

FIXTURE_VARIANT_ADD(unsuitable, ext4_folded) {
	.b = { .fstype = "ext4", .mb = 64, .mkfs = EXT4 " -Ocasefold" },
	.folded = true,
	.refused = EOPNOTSUPP,
};

FIXTURE_VARIANT_ADD(unsuitable, xfs_ignores_case) {
	.b = { .fstype = "xfs", .mb = 320, .mkfs = XFS " -nversion=ci" },
	.refused = EOPNOTSUPP,
};

/* Not even when it happens to be exact while it is tried out. */
FIXTURE_VARIANT_ADD(unsuitable, btrfs_inexact) {
	.b = { .fstype = "btrfs", .mb = 256, .mkfs = BTRFS, .inexact = true },
	.refused = EOPNOTSUPP,
};

FIXTURE_VARIANT_ADD(unsuitable, minix) {
	.b = { .fstype = "minix", .mb = 32, .mkfs = "mkfs.minix" },
	.refused = EOPNOTSUPP,
};

FIXTURE_VARIANT_ADD(unsuitable, ramfs) {
	.b = { .fstype = "ramfs" },
	.refused = EOPNOTSUPP,
};

FIXTURE_VARIANT_ADD(unsuitable, proc) {
	.b = { .fstype = "proc", .existing = "/proc" },
	.refused = EOPNOTSUPP,
};

FIXTURE_VARIANT_ADD(unsuitable, fuse_no_seek) {
	.b = { .fstype = "fuse", .lie = CF_LIE_NO_SEEK },
	.refused = EOPNOTSUPP,
};

FIXTURE_VARIANT_ADD(unsuitable, fuse_all_hole) {
	.b = { .fstype = "fuse", .lie = CF_LIE_ALL_HOLE },
	.refused = EOPNOTSUPP,
};

FIXTURE_VARIANT_ADD(unsuitable, fuse_coarse) {
	.b = { .fstype = "fuse", .lie = CF_LIE_COARSE },
	.refused = EOPNOTSUPP,
};

FIXTURE_VARIANT_ADD(unsuitable, fuse_short) {
	.b = { .fstype = "fuse", .lie = CF_LIE_SHORT },
	.refused = EOPNOTSUPP,
};

FIXTURE_VARIANT_ADD(unsuitable, fuse_early) {
	.b = { .fstype = "fuse", .lie = CF_LIE_EARLY },
	.refused = EOPNOTSUPP,
};

FIXTURE_VARIANT_ADD(unsuitable, fuse_late) {
	.b = { .fstype = "fuse", .lie = CF_LIE_LATE },
	.refused = EOPNOTSUPP,
};

FIXTURE_VARIANT_ADD(unsuitable, fuse_no_punch) {
	.b = { .fstype = "fuse", .lie = CF_LIE_NO_PUNCH },
	.refused = EOPNOTSUPP,
};

FIXTURE_VARIANT_ADD(unsuitable, fuse_punch_nothing) {
	.b = { .fstype = "fuse", .lie = CF_LIE_PUNCH_NOTHING },
	.refused = EOPNOTSUPP,
};

FIXTURE_VARIANT_ADD(unsuitable, fuse_punch_zeros) {
	.b = { .fstype = "fuse", .lie = CF_LIE_PUNCH_ZEROS },
	.refused = EOPNOTSUPP,
};

FIXTURE_VARIANT_ADD(unsuitable, fuse_punch_coarse) {
	.b = { .fstype = "fuse", .lie = CF_LIE_PUNCH_COARSE },
	.refused = EOPNOTSUPP,
};

FIXTURE_VARIANT_ADD(unsuitable, fuse_zeros_vanish) {
	.b = { .fstype = "fuse", .lie = CF_LIE_ZEROS_VANISH },
	.refused = EOPNOTSUPP,
};

FIXTURE_VARIANT_ADD(unsuitable, fuse_no_tmpfile) {
	.b = { .fstype = "fuse", .lie = CF_LIE_NO_TMPFILE },
	.refused = EOPNOTSUPP,
};

FIXTURE_VARIANT_ADD(unsuitable, fuse_no_xattr) {
	.b = { .fstype = "fuse", .lie = CF_LIE_NO_XATTR },
	.refused = EOPNOTSUPP,
};

static const char *const modes[] = { "bind ondemand", "bind" };

/* Limits that leave to the cache all that there is. */
static int unlimited(int dev)
{
	int ret = 0;

	for (const char *what = "bf"; !ret && *what; what++) {
		ret = cf_cmd(dev, "%cstop 0%%", *what);
		if (!ret)
			ret = cf_cmd(dev, "%ccull 1%%", *what);
		if (!ret)
			ret = cf_cmd(dev, "%crun 2%%", *what);
	}
	return ret;
}

/* How many entries of @dir are not among those that may be there. */
static int strangers(const char *dir, const char *const known[], unsigned int nr_known)
{
	unsigned int i;
	struct dirent *de;
	int nr = 0;
	DIR *d = opendir(dir);

	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while ((de = readdir(d))) {
		for (i = 0; i < nr_known && strcmp(de->d_name, known[i]); i++)
			;
		nr += i == nr_known;
	}
	closedir(d);
	return nr;
}

/* Entries of @dir and of what is in it that bind has no business to leave. */
static int leftovers(const char *dir)
{
	static const char *const known[] = { ".", "..", "lost+found", "cache", "graveyard" };
	int nr = strangers(dir, known, ARRAY_SIZE(known));
	char path[512];

	for (unsigned int i = 3; i < ARRAY_SIZE(known); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, known[i]);
		nr += strangers(path, known, 2);
	}
	return nr;
}

/* Open the device, name @dir and bind: the descriptor, or the errno of bind. */
static int bind_to(const char *dir, const char *tag, const char *mode)
{
	int dev = cf_device(), ret;

	if (dev < 0)
		return dev;
	ret = cf_cmd(dev, "dir %s", dir);
	if (!ret)
		ret = cf_cmd(dev, "tag %s", tag);
	if (!ret)
		ret = cf_cmd(dev, "%s", mode);
	if (!ret)
		return dev;
	close(dev);
	return ret;
}

/* What has been added to what is used; XFS frees what was removed a while later. */
static long long added(const char *where, long long before, long long most)
{
	long long end = cf_now() + cf_ms(LONG), more;

	while ((more = cf_used(where) - before) > most && cf_now() < end)
		poll(NULL, 0, 20);
	return more;
}

TEST_F_TIMEOUT(suitable, accepted, 300)
{
	struct cf_env *e = &self->s.e;
	char line[512] = "";
	long long before, took = 0;
	int dev;

	for (unsigned int i = 0; i < ARRAY_SIZE(modes); i++) {
		dev = bind_to(self->s.m.where, e->tag, modes[i]);
		EXPECT_EQ(1, cf_log_lines(self->s.log, "", line, sizeof(line)));
		ASSERT_LE(0, dev) {
			TH_LOG("%s: %s", modes[i], line);
		}
		close(dev);
		EXPECT_EQ(0, leftovers(self->s.m.where));

		before = cf_used(self->s.m.where);
		for (int n = 0; n < 10; n++) {
			long long start = cf_now();

			dev = bind_to(self->s.m.where, e->tag, modes[i]);
			took += cf_now() - start;
			ASSERT_LE(0, dev);
			close(dev);
		}
		EXPECT_GE(128 * (long long)KB, added(self->s.m.where, before, 128 * KB));
		EXPECT_EQ(0, leftovers(self->s.m.where));
		cf_log_lines(self->s.log, "", line, sizeof(line));
	}
	TH_LOG("bind takes %lld.%lld ms", took / 20, took % 20 / 2);
}

TEST_F_TIMEOUT(unsuitable, d45_refused, 120)
{
	struct cf_env *e = &self->s.e;
	char other[160], line[512] = "";
	long long before;
	int dev;

	snprintf(other, sizeof(other), "%s-other", e->dir);
	ASSERT_EQ(0, mkdir(other, 0700));
	for (unsigned int i = 0; i < ARRAY_SIZE(modes); i++) {
		dev = cf_device();
		ASSERT_LE(0, dev);
		ASSERT_EQ(0, cf_cmd(dev, "dir %s", self->dir));
		before = variant->b.existing ? 0 : cf_used(self->dir);
		EXPECT_EQ(-variant->refused, cf_cmd(dev, "%s", modes[i]));
		EXPECT_EQ(1, cf_log_lines(self->s.log, "", line, sizeof(line))) {
			TH_LOG("%s: %s", modes[i], line);
		}
		if (!variant->b.existing) {
			EXPECT_EQ(0, leftovers(self->dir));
			EXPECT_GE(16 * (long long)KB, added(self->dir, before, 16 * KB));
		}

		/* Nothing keeps the same descriptor from getting it right. */
		ASSERT_EQ(0, cf_cmd(dev, "dir %s", other));
		ASSERT_EQ(0, cf_cmd(dev, "tag %s", e->tag));
		EXPECT_EQ(0, cf_cmd(dev, "%s", modes[i]));
		EXPECT_EQ(1, cf_log_lines(self->s.log, "", line, sizeof(line)));
		close(dev);
	}
}

/* The size of files that the daemon may have is about files of its own. */
TEST_F(device, limited_daemon)
{
	struct rlimit lim = { .rlim_cur = MB, .rlim_max = RLIM_INFINITY };
	struct cf_env *e = &self->e;

	ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &lim));
	for (unsigned int i = 0; i < ARRAY_SIZE(modes); i++) {
		int dev = bind_to(e->dir, e->tag, modes[i]);

		EXPECT_LE(0, dev);
		close(dev);
	}
}

/* --- presence, granule by granule --- */

#define GRANULES	258
#define SIZE		((GRANULES - 1) * CF_BLOCK + 100ULL)
#define SEED_STORED	71
#define SEED_FETCHED	72

/* What each granule of the file has to hold. */
enum content { ABSENT, STORED, FETCHED, ZEROS };

struct model {
	struct cf_env	*e;
	int		fd;		/* of the object, for the daemon */
	unsigned int	nr_reads;
	int		nf, volume, cookie;	/* in original mode */
	unsigned char	is[GRANULES];
	unsigned char	*shared;	/* what a child has read */
};

struct slurp {
	struct model	*m;
	unsigned int	from, nr, chunk;
	bool		stream;
};

/* Read into the shared buffer, in a child: 0 or an errno. */
static int slurp(void *arg)
{
	struct slurp *s = arg;
	__u64 off = (__u64)s->from * CF_BLOCK, end = off + (__u64)s->nr * CF_BLOCK;
	char path[256];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/file", s->m->e->mnt);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	if (!s->stream)
		posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	for (; off < end && off < SIZE; off += n) {
		n = pread(fd, s->m->shared + off, end - off < s->chunk ? end - off : s->chunk,
			  (off_t)off);
		if (n <= 0)
			return n ? errno : ENODATA;
	}
	return 0;
}

static void take_message(struct __test_metadata *_metadata, struct model *m)
{
	struct cf_msg msg;
	int ret = cf_read(m->e->dev, &msg);

	ASSERT_LE(0, ret);
	if (!ret)
		return;
	switch (msg.hdr.opcode) {
	case CACHEFILES_OP_OPEN:
		m->fd = cf_open_fd(&msg);
		ASSERT_EQ(0, cf_copen(m->e->dev, msg.hdr.msg_id, SIZE));
		break;
	case CACHEFILES_OP_READ:
		m->nr_reads++;
		for (__u64 at = cf_rd(&msg)->off; at < cf_rd(&msg)->off + cf_rd(&msg)->len &&
		     at < SIZE; at += CF_BLOCK) {
			EXPECT_EQ(ABSENT, m->is[at / CF_BLOCK]) {
				TH_LOG("granule %llu is fetched again", at / CF_BLOCK);
			}
			m->is[at / CF_BLOCK] = FETCHED;
		}
		ASSERT_EQ(0, serve_read(&msg, m->fd, SEED_FETCHED, SIZE));
		break;
	case CACHEFILES_OP_CLOSE:
		close(m->fd);
		m->fd = -1;
		break;
	}
}

static bool holds(const unsigned char *p, unsigned int g, enum content is)
{
	size_t len = g == GRANULES - 1 ? SIZE % CF_BLOCK : CF_BLOCK;

	if (is == ZEROS)
		return !*p && !memcmp(p, p + 1, len - 1);
	return cf_differs(is == STORED ? SEED_STORED : SEED_FETCHED,
			  (__u64)g * CF_BLOCK, p, len) < 0;
}

/* Read granules as the model has it, serving what it says is absent. */
static void read_back(struct __test_metadata *_metadata, struct model *m, unsigned int from,
		      unsigned int nr, unsigned int chunk, bool stream)
{
	struct slurp s = { m, from, nr, chunk, stream };
	struct cf_result res;
	struct cf_reader r;

	memset(m->shared, 0xee, GRANULES * CF_BLOCK);
	ASSERT_EQ(0, cf_child(&r, slurp, &s));
	while (!cf_reader_done(&r)) {
		struct pollfd p[2] = {
			{ .fd = m->e->dev, .events = POLLIN },
			{ .fd = r.pipe, .events = POLLIN },
		};

		ASSERT_LT(0, poll(p, 2, cf_ms(LONG)));
		if (p[0].revents & POLLIN)
			take_message(_metadata, m);
	}
	ASSERT_EQ(0, cf_reader_wait(&r, &res, LONG));
	ASSERT_EQ(0, res.err);
	for (unsigned int g = from; g < from + nr && g < GRANULES; g++) {
		ASSERT_NE(ABSENT, m->is[g]) {
			TH_LOG("granule %u was not fetched but believed", g);
		}
		ASSERT_TRUE(holds(m->shared + g * CF_BLOCK, g, m->is[g])) {
			TH_LOG("granule %u does not hold what was stored (%u)", g, m->is[g]);
		}
	}
}

/* As the daemon, unasked. */
static void fill(struct __test_metadata *_metadata, struct model *m, unsigned int g,
		 unsigned int nr, enum content is)
{
	static char zeros[CF_BLOCK] __attribute__((aligned(CF_BLOCK)));

	for (unsigned int i = g; i < g + nr; i++) {
		if (is == ZEROS) {
			ASSERT_EQ(CF_BLOCK, pwrite(m->fd, zeros, CF_BLOCK, (off_t)i * CF_BLOCK));
		}
		m->is[i] = is;
	}
	if (is == STORED) {
		ASSERT_EQ((ssize_t)nr * CF_BLOCK,
			  cf_fill(m->fd, SEED_STORED, (__u64)g * CF_BLOCK,
				  (__u64)nr * CF_BLOCK, SIZE));
	}
}

static void start(struct __test_metadata *_metadata, struct model *m, struct cf_env *e)
{
	*m = (struct model) { .e = e, .fd = -1 };
	m->shared = mmap(NULL, GRANULES * CF_BLOCK, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, m->shared);
	ASSERT_EQ(0, cf_env_bind(e));
	ASSERT_EQ(0, cf_env_mount(e));
	read_back(_metadata, m, 0, 0, CF_BLOCK, false);
	ASSERT_LE(0, m->fd);
}

/* End the cache, with nothing in memory. */
static void end(struct __test_metadata *_metadata, struct model *m, struct cf_mounted *store)
{
	ASSERT_LE(0, cf_env_umount(m->e, LONG));
	close(m->fd);
	m->fd = -1;
	close(m->e->dev);
	m->e->dev = -1;
	ASSERT_EQ(0, cf_backing_remount(store));
}

/* And begin it again. */
static void again(struct __test_metadata *_metadata, struct model *m)
{
	m->e->dev = cf_device();
	ASSERT_LE(0, m->e->dev);
	ASSERT_EQ(0, cf_env_bind(m->e));
	ASSERT_EQ(0, cf_env_mount(m->e));
}

static int found_file(const char *path, void *arg)
{
	snprintf(arg, 512, "%s", path);
	return 0;
}

/* Push some of the backing file's pages out of memory. */
static void evict(struct __test_metadata *_metadata, struct cf_env *e, unsigned int g,
		  unsigned int nr)
{
	char path[512], store[160];
	int fd;

	snprintf(store, sizeof(store), "%s/cache", e->dir);
	ASSERT_EQ(1, cf_tree_count(store, found_file, path));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, fsync(fd));
	ASSERT_EQ(0, posix_fadvise(fd, (off_t)g * CF_BLOCK, (off_t)nr * CF_BLOCK,
				   POSIX_FADV_DONTNEED));
	close(fd);
}

/*
 * What is read from memory, beside something that is missing, brings nothing of that into
 * memory: zeros there would count as data where space was allocated and not written.
 */
TEST_F_TIMEOUT(suitable, read_beside_what_is_missing, 120)
{
	struct cf_env *e = &self->s.e;
	struct model m;

	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	start(_metadata, &m, e);
	fill(_metadata, &m, 0, 8, STORED);
	fill(_metadata, &m, 9, 7, STORED);
	fill(_metadata, &m, 31, 1, STORED);
	end(_metadata, &m, &self->s.m);
	again(_metadata, &m);
	read_back(_metadata, &m, 200, 1, CF_BLOCK, false);
	fill(_metadata, &m, 8, 1, STORED);
	read_back(_metadata, &m, 0, 64, 64 * CF_BLOCK, false);
	munmap(m.shared, GRANULES * CF_BLOCK);
	ASSERT_LE(0, cf_env_umount(e, LONG));
}

/*
 * Nor do pages that are still to be written, which nobody could drop when the file was opened
 * again: these are marked for reclaim by the bit that elsewhere says where to read ahead.
 */
TEST_F_TIMEOUT(suitable, read_before_it_is_written, 120)
{
	struct cf_env *e = &self->s.e;
	struct model m;

	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	start(_metadata, &m, e);
	fill(_metadata, &m, 16, 40, STORED);
	ASSERT_LE(0, cf_env_umount(e, LONG));
	close(m.fd);
	m.fd = -1;
	ASSERT_EQ(0, cf_env_mount(e));
	read_back(_metadata, &m, 16, 40, 40 * CF_BLOCK, false);
	read_back(_metadata, &m, 0, 128, 16 * CF_BLOCK, false);

	/* Or when memory was wanted. */
	fill(_metadata, &m, 150, 40, STORED);
	ASSERT_EQ(0, cf_drop_caches("1"));
	ASSERT_EQ(0, cf_drop_caches("1"));
	read_back(_metadata, &m, 150, 40, 40 * CF_BLOCK, false);
	read_back(_metadata, &m, 128, 100, 16 * CF_BLOCK, false);
	munmap(m.shared, GRANULES * CF_BLOCK);
	ASSERT_LE(0, cf_env_umount(e, LONG));
}

/* Nor does it count what somebody else has brought into memory by reading the file. */
TEST_F_TIMEOUT(suitable, read_by_somebody_else, 120)
{
	struct cf_env *e = &self->s.e;
	char path[512], store[160];
	static char all[SIZE];
	struct model m;
	int fd;

	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	start(_metadata, &m, e);
	fill(_metadata, &m, 0, 8, STORED);
	fill(_metadata, &m, 31, 1, STORED);
	end(_metadata, &m, &self->s.m);
	snprintf(store, sizeof(store), "%s/cache", e->dir);
	ASSERT_EQ(1, cf_tree_count(store, found_file, path));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ((ssize_t)SIZE, read(fd, all, SIZE));
	close(fd);
	again(_metadata, &m);
	read_back(_metadata, &m, 0, 64, 64 * CF_BLOCK, false);
	munmap(m.shared, GRANULES * CF_BLOCK);
	ASSERT_LE(0, cf_env_umount(e, LONG));
}

TEST_F_TIMEOUT(suitable, granules, 600)
{
	struct cf_env *e = &self->s.e;
	const char *s = getenv("CF_SEED");
	struct model m;

	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	srand48(s ? atoi(s) : 3);
	start(_metadata, &m, e);

	/* By itself, in pairs, at both ends, around 64 KiB, as zeros, at random. */
	fill(_metadata, &m, 0, 1, STORED);
	fill(_metadata, &m, 5, 1, STORED);
	fill(_metadata, &m, 7, 2, STORED);
	fill(_metadata, &m, 15, 1, STORED);
	fill(_metadata, &m, 17, 1, STORED);
	fill(_metadata, &m, 31, 2, STORED);
	fill(_metadata, &m, 40, 1, ZEROS);
	fill(_metadata, &m, 42, 2, ZEROS);
	fill(_metadata, &m, GRANULES - 1, 1, STORED);
	for (unsigned int i = 0; i < 40; i++) {
		fill(_metadata, &m, 140 + lrand48() % (GRANULES - 141), 1,
		     lrand48() % 4 ? STORED : ZEROS);
	}
	for (unsigned int i = 0; i < 20; i++) {
		read_back(_metadata, &m, 140 + lrand48() % (GRANULES - 140), 1, CF_BLOCK, false);
	}

	/* The store's own read-ahead brings no zeros into being. */
	fill(_metadata, &m, 64, 2, STORED);
	evict(_metadata, e, 64, 1);
	read_back(_metadata, &m, 64, 2, 2 * CF_BLOCK, false);
	read_back(_metadata, &m, 66, 20, 2 * CF_BLOCK, false);
	fill(_metadata, &m, 100, 2, STORED);
	evict(_metadata, e, 100, 2);
	read_back(_metadata, &m, 100, 2, CF_BLOCK, false);
	read_back(_metadata, &m, 98, 2, CF_BLOCK, false);
	read_back(_metadata, &m, 102, 10, CF_BLOCK, false);

	/* Through read-ahead of the netfs. */
	ASSERT_EQ(0, cf_drop_caches("1"));
	read_back(_metadata, &m, 0, 48, 2 * CF_BLOCK, true);

	end(_metadata, &m, &self->s.m);
	again(_metadata, &m);
	read_back(_metadata, &m, 0, GRANULES, CF_BLOCK, false);
	end(_metadata, &m, &self->s.m);
	again(_metadata, &m);
	m.nr_reads = 0;
	read_back(_metadata, &m, 0, GRANULES, 16 * CF_BLOCK, true);
	EXPECT_EQ(0, m.nr_reads);
	ASSERT_LE(0, cf_env_umount(e, LONG));
}

/* --- the same in original mode --- */

#define VOLUME	"presence"

static void attach(struct __test_metadata *_metadata, struct model *m)
{
	ASSERT_EQ(0, cf_cmd(m->e->dev, "dir %s", m->e->dir));
	ASSERT_EQ(0, cf_cmd(m->e->dev, "tag %s", m->e->tag));
	ASSERT_EQ(0, cf_cmd(m->e->dev, "bind"));
	m->volume = cf_nf_volume(m->nf, VOLUME, m->e->tag, NULL, 0);
	ASSERT_LT(0, m->volume);
	m->cookie = cf_nf_cookie(m->nf, m->volume, "file", 4, "a", 1, SIZE);
	ASSERT_LT(0, m->cookie);
	ASSERT_EQ(0, cf_nf_attach(m->nf, m->cookie, false));
}

static void detach(struct __test_metadata *_metadata, struct model *m, struct cf_mounted *store)
{
	ASSERT_EQ(0, cf_nf_detach(m->nf, m->cookie, false));
	ASSERT_EQ(0, cf_nf_volume_end(m->nf, m->volume, NULL, 0, false));
	close(m->e->dev);
	m->e->dev = -1;
	ASSERT_EQ(0, cf_backing_remount(store));
	m->e->dev = cf_device();
	ASSERT_LE(0, m->e->dev);
}

/* One write to the cache: all of it or none. */
static void store(struct __test_metadata *_metadata, struct model *m, unsigned int g,
		  unsigned int nr, enum content is)
{
	struct cf_netfs_write a = {
		.cookie = m->cookie, .start = (__u64)g * CF_BLOCK, .len = nr * CF_BLOCK,
		.i_size = SIZE, .buf = (unsigned long)m->shared,
		.how = CF_IO_PREPARE | CF_IO_ISSUE, .timeout_ms = cf_ms(LONG),
	};

	memset(m->shared, 0, a.len);
	if (is == STORED)
		cf_pattern(SEED_STORED, a.start, m->shared,
			   a.start + a.len > SIZE ? SIZE - a.start : a.len);
	ASSERT_EQ(0, ioctl(m->nf, CF_NETFS_WRITE, &a));
	ASSERT_EQ(0, a.prepare);
	ASSERT_EQ((__s64)a.len, a.result);
	memset(m->is + g, is, nr);
}

/* All of it as the library reads: each slice is of one kind. */
static void compare_slices(struct __test_metadata *_metadata, struct model *m)
{
	struct cf_netfs_read a;
	__u64 pos = 0;

	while (pos < SIZE) {
		memset(m->shared, 0xee, GRANULES * CF_BLOCK);
		ASSERT_EQ(0, cf_nf_read(m->nf, m->cookie, 0, m->shared, pos,
					GRANULES * CF_BLOCK - pos, SIZE,
					CF_IO_PREPARE | CF_IO_ISSUE, CF_HOLE_IGNORE, &a));
		ASSERT_LT(0, a.prepared);
		if (a.source == CF_SOURCE_CACHE) {
			ASSERT_LT(0, a.result);
			a.prepared = a.result;
		}
		for (__u64 off = 0; off < a.prepared && pos + off < SIZE; off += CF_BLOCK) {
			unsigned int g = (unsigned int)((pos + off) / CF_BLOCK);

			ASSERT_EQ(a.source == CF_SOURCE_CACHE, m->is[g] != ABSENT) {
				TH_LOG("granule %u (%u) would come from %u", g, m->is[g],
				       a.source);
			}
			if (m->is[g] != ABSENT) {
				ASSERT_TRUE(holds(m->shared + off, g, m->is[g]));
			}
		}
		pos += CF_ROUND_UP(a.prepared);
	}
}

/* Every granule by itself, then many at once. */
static void compare(struct __test_metadata *_metadata, struct model *m)
{
	/* Or a new object would be taken for empty: its pages are all in memory. */
	ASSERT_EQ(0, cf_nf_note_release(m->nf, m->cookie));
	for (unsigned int g = 0; g < GRANULES; g++) {
		struct cf_netfs_read a = {
			.cookie = m->cookie, .start = (__u64)g * CF_BLOCK, .len = CF_BLOCK,
			.i_size = SIZE, .buf = (unsigned long)m->shared,
			.how = CF_IO_PREPARE | CF_IO_ISSUE, .timeout_ms = cf_ms(LONG),
		};

		ASSERT_EQ(0, ioctl(m->nf, CF_NETFS_READ, &a));
		ASSERT_EQ(m->is[g] == ABSENT ? CF_SOURCE_DOWNLOAD : CF_SOURCE_CACHE, a.source) {
			TH_LOG("granule %u (%u) would come from %u", g, m->is[g], a.source);
		}
		if (m->is[g] == ABSENT)
			continue;
		ASSERT_LT(0, a.result);
		ASSERT_TRUE(holds(m->shared, g, m->is[g])) {
			TH_LOG("granule %u does not hold what was stored (%u)", g, m->is[g]);
		}
	}
	compare_slices(_metadata, m);
}

TEST_F_TIMEOUT(suitable, granules_original, 600)
{
	struct cf_env *e = &self->s.e;
	const char *s = getenv("CF_SEED");
	struct model m = { .e = e };

	m.nf = cf_nf_open();
	if (m.nf < 0)
		SKIP(return, "no cf_netfs module");
	srand48(s ? atoi(s) : 4);
	m.shared = calloc(GRANULES, CF_BLOCK);
	ASSERT_NE(NULL, m.shared);
	attach(_metadata, &m);

	store(_metadata, &m, 0, 1, STORED);
	store(_metadata, &m, 5, 1, STORED);
	store(_metadata, &m, 7, 2, STORED);
	store(_metadata, &m, 15, 1, STORED);
	store(_metadata, &m, 17, 1, STORED);
	store(_metadata, &m, 40, 1, ZEROS);
	store(_metadata, &m, 42, 2, ZEROS);
	store(_metadata, &m, 60, 64, STORED);
	store(_metadata, &m, 90, 1, ZEROS);
	store(_metadata, &m, GRANULES - 1, 1, STORED);
	for (unsigned int i = 0; i < 60; i++) {
		store(_metadata, &m, 140 + lrand48() % (GRANULES - 141), 1,
		      lrand48() % 4 ? STORED : ZEROS);
	}
	compare(_metadata, &m);
	detach(_metadata, &m, &self->s.m);
	attach(_metadata, &m);
	compare(_metadata, &m);

	/* Cut in the middle of a granule, grown again: neither old bytes nor zeros. */
	store(_metadata, &m, 198, 4, STORED);
	ASSERT_EQ(0, cf_nf_resize(m.nf, m.cookie, 200ULL * CF_BLOCK + 100));
	ASSERT_EQ(0, cf_nf_absent(m.nf, m.cookie, 200ULL * CF_BLOCK, CF_BLOCK,
				  200ULL * CF_BLOCK + 100));
	ASSERT_EQ(0, cf_nf_resize(m.nf, m.cookie, SIZE));
	memset(m.is + 200, ABSENT, GRANULES - 200);
	compare(_metadata, &m);
	store(_metadata, &m, 201, 1, STORED);
	store(_metadata, &m, 210, 20, STORED);
	compare(_metadata, &m);
	detach(_metadata, &m, &self->s.m);
	attach(_metadata, &m);
	compare(_metadata, &m);
	detach(_metadata, &m, &self->s.m);
	EXPECT_EQ(0, cf_nf_odd(m.nf));
	close(m.nf);
}

/* --- less than a granule --- */

FIXTURE(small_blocks) {
	struct store s;
};

FIXTURE_VARIANT(small_blocks) {
	struct cf_backing b;
};

FIXTURE_SETUP(small_blocks)
{
	int ret = store_init(&self->s, &variant->b);

	if (ret > 0)
		SKIP(return, "%s", cf_why);
	ASSERT_EQ(0, ret);
	snprintf(self->s.e.dir, sizeof(self->s.e.dir), "%s", self->s.m.where);
}

FIXTURE_TEARDOWN(small_blocks)
{
	store_exit(_metadata, &self->s);
}

FIXTURE_VARIANT_ADD(small_blocks, ext4) {
	.b = { .fstype = "ext4", .mb = 64, .mkfs = EXT4 " -b1024" },
};

FIXTURE_VARIANT_ADD(small_blocks, xfs) {
	.b = { .fstype = "xfs", .mb = 320, .mkfs = XFS " -bsize=1024" },
};

/* Holes of 1 KiB at the start, in the middle and at the end of what is there. */
static void nibble(struct __test_metadata *_metadata, struct model *m, const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	ASSERT_LE(0, fd);
	for (unsigned int i = 0; i < 4; i++) {
		unsigned int g = 10 + 3 * i;

		ASSERT_EQ(0, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				       (off_t)g * CF_BLOCK + i * 1024, 1024));
		m->is[g] = ABSENT;
	}
	/* Data of 1 KiB where nothing was. */
	for (unsigned int i = 0; i < 4; i++) {
		off_t at = (off_t)(40 + 3 * i) * CF_BLOCK + i * 1024;

		ASSERT_EQ(1024, pwrite(fd, m->shared, 1024, at));
	}
	ASSERT_EQ(0, fsync(fd));
	close(fd);
}

/* What a daemon is told to be there is what needs no READ, and no step is of no length. */
static void seek_through(struct __test_metadata *_metadata, struct model *m)
{
	const off_t end = (off_t)GRANULES * CF_BLOCK;
	off_t pos = 0, data, hole;

	while (pos < end) {
		data = lseek(m->fd, pos, SEEK_DATA);
		if (data < 0) {
			ASSERT_EQ(ENXIO, errno);
			data = end;
		}
		ASSERT_LE(pos, data);
		for (off_t at = pos; at < data; at += CF_BLOCK) {
			ASSERT_EQ(ABSENT, m->is[at / CF_BLOCK]);
			ASSERT_EQ(at + 1, lseek(m->fd, at + 1, SEEK_HOLE));
		}
		if (data == end)
			break;
		hole = lseek(m->fd, data, SEEK_HOLE);
		ASSERT_LT(data, hole);
		for (off_t at = data; at < hole; at += CF_BLOCK) {
			ASSERT_NE(ABSENT, m->is[at / CF_BLOCK]);
			ASSERT_EQ(at + 1, lseek(m->fd, at + 1, SEEK_DATA));
		}
		pos = hole;
	}
}

/* Of a granule in parts nothing is believed, and an answer is never of no length. */
TEST_F_TIMEOUT(small_blocks, d66_part_of_a_granule, 120)
{
	struct cf_env *e = &self->s.e;
	char path[512];
	struct model m;

	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	start(_metadata, &m, e);
	fill(_metadata, &m, 0, 32, STORED);
	snprintf(path, sizeof(path), "%s/cache", e->dir);
	ASSERT_EQ(1, cf_tree_count(path, found_file, path));
	memset(m.shared, 0xcc, CF_BLOCK);
	nibble(_metadata, &m, path);
	seek_through(_metadata, &m);
	read_back(_metadata, &m, 0, GRANULES, CF_BLOCK, false);
	ASSERT_LE(0, cf_env_umount(e, LONG));
}

TEST_F_TIMEOUT(small_blocks, d66_part_of_a_granule_original, 120)
{
	struct cf_env *e = &self->s.e;
	struct model m = { .e = e };
	char path[512];

	m.nf = cf_nf_open();
	if (m.nf < 0)
		SKIP(return, "no cf_netfs module");
	m.shared = calloc(GRANULES, CF_BLOCK);
	ASSERT_NE(NULL, m.shared);
	attach(_metadata, &m);
	store(_metadata, &m, 0, 32, STORED);
	ASSERT_EQ(0, cf_nf_path(e->dir, VOLUME, "file", 4, path, sizeof(path)));
	memset(m.shared, 0xcc, CF_BLOCK);
	nibble(_metadata, &m, path);
	compare(_metadata, &m);
	detach(_metadata, &m, &self->s.m);
	EXPECT_EQ(0, cf_nf_odd(m.nf));
	close(m.nf);
}

/* Nor of the last one, unless what is missing is behind the end. */
TEST_F_TIMEOUT(small_blocks, part_of_the_last_granule, 120)
{
	static const struct {
		int	hole;		/* of 1 KiB, in the granule */
		bool	missing;
	} p[] = { { 0, true }, { 1024, true }, { 2048, true }, { 3072, false } };
	enum { SHORT = 4096 + 3000 };
	struct cf_env *e = &self->s.e;
	char path[512], name[16];
	struct cf_reader r;
	struct cf_msg m;
	int fd, file;

	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	ASSERT_EQ(0, cf_env_bind(e));
	ASSERT_EQ(0, cf_env_mount(e));
	for (size_t i = 0; i < ARRAY_SIZE(p); i++) {
		snprintf(name, sizeof(name), "file%zu", i);
		fd = open_object(e, &r, name, SHORT, &m);
		ASSERT_LE(0, fd);
		ASSERT_EQ(8192, cf_fill(fd, 1, 0, 8192, SHORT));
		ASSERT_EQ(0, cf_nf_path(e->dir, e->volume, name, strlen(name), path,
					sizeof(path)));
		file = open(path, O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, file);
		ASSERT_EQ(0, fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				       4096 + p[i].hole, 1024));
		close(file);
		ASSERT_EQ(0, start_read(e, &r, name, 1, 4096, 3000));
		if (p[i].missing) {
			ASSERT_EQ(0, cf_expect(e->dev, &m, CACHEFILES_OP_READ, LONG));
			ASSERT_EQ(0, serve_read(&m, fd, 1, SHORT));
		}
		EXPECT_EQ(3000, reader_outcome(&r));
		EXPECT_EQ(1, cf_idle(e->dev));
		close(fd);
	}
	ASSERT_LE(0, cf_env_umount(e, LONG));
}

/* --- a full disk --- */

/* Take all space there is: the ballast's descriptor and size. */
static int take_all(const char *dir, off_t *size)
{
	static char block[64 << 10];
	off_t step = 16 << 20;
	char path[256];
	int fd, ret;

	snprintf(path, sizeof(path), "%s/ballast", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	*size = 0;
	while (step >= CF_BLOCK) {
		ret = fallocate(fd, 0, *size, step) ? errno : 0;
		if (ret == EOPNOTSUPP) {
			if (step > (off_t)sizeof(block))
				step = sizeof(block);
			ret = pwrite(fd, block, step, *size) == step ? 0 : ENOSPC;
		}
		if (ret && ret != ENOSPC)
			return -ret;
		if (ret)
			step /= 2;
		else
			*size += step;
	}
	fsync(fd);
	return fd;
}

TEST_F_TIMEOUT(suitable, full, 300)
{
	struct cf_env *e = &self->s.e;
	char line[512];
	off_t size = 0;
	int fd, dev;

	if (!strcmp(variant->b.fstype, "fuse"))
		SKIP(return, "what is behind fuse here has no end");
	for (unsigned int i = 0; i < ARRAY_SIZE(modes); i++) {
		dev = bind_to(self->s.m.where, e->tag, modes[i]);
		ASSERT_LE(0, dev);
		close(dev);
	}
	fd = take_all(self->s.m.where, &size);
	ASSERT_LE(0, fd);
	cf_log_lines(self->s.log, "", line, sizeof(line));

	/* However little is left: it is not for want of space that bind refuses. */
	for (int left = 0; left < 8; left++) {
		dev = cf_device();
		ASSERT_LE(0, dev);
		ASSERT_EQ(0, unlimited(dev));
		ASSERT_EQ(0, cf_cmd(dev, "tag %s", e->tag));
		ASSERT_EQ(0, cf_cmd(dev, "dir %s", self->s.m.where));
		EXPECT_EQ(0, cf_cmd(dev, "%s", modes[left % 2])) {
			cf_log_lines(self->s.log, "", line, sizeof(line));
			TH_LOG("%d granules left: %s", left, line);
		}
		close(dev);
		size -= CF_BLOCK;
		ASSERT_EQ(0, ftruncate(fd, size));
	}
	close(fd);
	snprintf(line, sizeof(line), "%s/ballast", self->s.m.where);
	unlink(line);
}

/* Have the daemon give @name a file: what the kernel says to that. */
static int give_file(struct cf_env *e, const char *name)
{
	struct cf_result res;
	struct cf_reader r;
	struct cf_msg m;
	int ret = start_stat(e, &r, name);

	if (!ret)
		ret = cf_expect(e->dev, &m, CACHEFILES_OP_OPEN, LONG);
	if (ret)
		return ret;
	ret = cf_copen(e->dev, m.hdr.msg_id, SIZE);
	close(cf_open_fd(&m));
	return cf_reader_wait(&r, &res, LONG) ?: ret;
}

/* A cache that was bound without any space gets files as soon as there is some. */
TEST_F_TIMEOUT(suitable, full_at_first, 120)
{
	struct cf_env *e = &self->s.e;
	long long end;
	off_t size;
	int fd, ret;

	if (!strcmp(variant->b.fstype, "fuse"))
		SKIP(return, "what is behind fuse here has no end");
	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	ASSERT_EQ(0, cf_env_bind(e));
	ASSERT_EQ(0, cf_env_mount(e));
	ASSERT_EQ(0, give_file(e, "first"));
	ASSERT_LE(0, cf_env_umount(e, LONG));
	close(e->dev);

	fd = take_all(e->dir, &size);
	ASSERT_LE(0, fd);
	e->dev = cf_device();
	ASSERT_LE(0, e->dev);
	ASSERT_EQ(0, unlimited(e->dev));
	ASSERT_EQ(0, cf_env_bind(e));
	ASSERT_EQ(0, cf_env_mount(e));
	ret = give_file(e, "early");
	EXPECT_TRUE(!ret || ret == -ENOBUFS || ret == -ENOSPC);
	TH_LOG("without space: %s", ret ? strerror(-ret) : "a file");

	ASSERT_EQ(0, ftruncate(fd, size / 2));
	ASSERT_EQ(0, fsync(fd));
	close(fd);
	/* Some free it a while later. */
	end = cf_now() + cf_ms(LONG);
	do {
		ret = give_file(e, "late");
	} while ((ret == -ENOBUFS || ret == -ENOSPC) && cf_now() < end);
	EXPECT_EQ(0, ret);
	ASSERT_LE(0, cf_env_umount(e, LONG));
}

/* How many requests it takes to give @name a file. */
static int requests(struct __test_metadata *_metadata, struct store *s, const char *name)
{
	enum { MANY = 1 << 20 };

	cf_fusefs_fail(&s->m.fuse, MANY, -EIO);
	EXPECT_EQ(0, give_file(&s->e, name));
	return MANY - s->m.fuse.fault->nth;
}

/* And it is not tried again once it has passed. */
TEST_F(suitable, tried_once)
{
	struct cf_env *e = &self->s.e;
	int n = 0, op, with, without;

	if (strcmp(variant->b.fstype, "fuse"))
		SKIP(return, "its requests are not counted");
	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	do {
		cf_fusefs_fail(&self->s.m.fuse, ++n, -ENOSPC);
		cf_env_rebind(e);
		op = cf_fusefs_failed(&self->s.m.fuse);
	} while (op && op != FUSE_WRITE);
	ASSERT_EQ(FUSE_WRITE, op);
	ASSERT_EQ(0, cf_env_mount(e));
	with = requests(_metadata, &self->s, "first");
	/* That one has made directories as well. */
	requests(_metadata, &self->s, "second");
	without = requests(_metadata, &self->s, "third");
	TH_LOG("%d and %d requests", with, without);
	EXPECT_LT(2 * without, with);
	ASSERT_LE(0, cf_env_umount(e, LONG));
}

/* One that is not fit, and could not be tried out for want of space, gets none ever. */
TEST_F(unsuitable, full_at_first)
{
	struct cf_env *e = &self->s.e;
	char line[512] = "";
	int n = 0, ret;

	if (strcmp(variant->b.fstype, "fuse"))
		SKIP(return, "it can't be told to have no space");
	if (variant->b.lie == CF_LIE_NO_TMPFILE || variant->b.lie == CF_LIE_NO_XATTR)
		SKIP(return, "that shows without any space");
	if (!cf_have_fs("ondemandfs"))
		SKIP(return, "no ondemandfs (CONFIG_ONDEMANDFS)");
	snprintf(e->dir, sizeof(e->dir), "%s", self->s.m.where);
	do {
		cf_fusefs_fail(&self->s.m.fuse, ++n, -ENOSPC);
		ret = cf_env_rebind(e);
	} while (ret && cf_fusefs_failed(&self->s.m.fuse));
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, cf_env_mount(e));
	cf_log_lines(self->s.log, "", line, sizeof(line));

	EXPECT_EQ(-EIO, give_file(e, "file"));
	EXPECT_EQ(1, cf_log_lines(self->s.log, "can't tell exactly what a file holds: error -95",
				  line, sizeof(line))) {
		TH_LOG("%s", line);
	}
	EXPECT_EQ(-EIO, cf_cmd(e->dev, "debug 0"));
	ASSERT_LE(0, cf_env_umount(e, LONG));
}

TEST_HARNESS_MAIN
