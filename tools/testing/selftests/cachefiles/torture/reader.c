// SPDX-License-Identifier: GPL-2.0-only
/* A reader: opens files, reads them in any order and any way, compares every byte. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "torture/torture.h"

#define CHUNK	(128 * 1024)
/* What is read of a file in one piece at most, and of a large one at all. */
#define PIECE	(512 * 1024ULL)

static struct reader_state *self;
static unsigned int file, cache_gen, mount_gen;
static int mount_nr;
static char *buf;
static sigjmp_buf on_bus_error;

static void begin(char doing, __u64 off)
{
	atomic_store(&self->doing, doing);
	atomic_store(&self->off, off);
	atomic_store(&self->since, cf_now());
}

static void end(void)
{
	long long ms = cf_now() - atomic_load(&self->since);

	atomic_store(&self->since, 0);
	if (ms > atomic_load(&self->longest))
		atomic_store(&self->longest, ms);
}

static bool in_image(void)
{
	return mount_nr == EROFS_MOUNT || sh->opt.erofs;
}

static const char *where(void)
{
	return in_image() ? "image file" : "file";
}

/* Nobody may see an error while somebody keeps the device and the mount is in use. */
static void complain(const char *what, __u64 off, int err)
{
	struct timespec ts = { .tv_nsec = 10000000 };

	if (atomic_load(&sh->cache_gen) != cache_gen ||
	    atomic_load(&sh->mount_gen[mount_nr]) != mount_gen) {
		add(&sh->excused, 1);
		nanosleep(&ts, NULL);
		return;
	}
	add(&sh->errors, 1);
	fault("%s f%u, %s at %llu: %s", where(), file, what, off, strerror(err));
}

static bool compare(const char *data, __u64 off, size_t len)
{
	long long bad = cf_differs(content_seed(file), off, data, len);

	add(&sh->bytes, len);
	if (bad < 0) {
		if (mount_nr != EROFS_MOUNT)
			content_see(file, off, len);
		return true;
	}
	add(&sh->mismatches, 1);
	fault("%s f%u: wrong byte at %lld, 0x%02x, in a read of %zu at %llu", where(), file,
	      bad, (unsigned char)data[bad - off], len, off);
	return false;
}

/* Read [off, off + len), which is all within the file. */
static bool read_range(int fd, __u64 off, __u64 len)
{
	while (len && !atomic_load(&sh->quit)) {
		size_t want = len < CHUNK ? len : CHUNK;
		ssize_t n;
		int err;

		begin('r', off);
		n = pread(fd, buf, want, off);
		err = errno;
		end();
		if (n < 0) {
			complain("read", off, err);
			return false;
		}
		if (!n) {
			add(&sh->mismatches, 1);
			fault("%s f%u: ends at %llu", where(), file, off);
			return false;
		}
		if (!compare(buf, off, n))
			return false;
		off += n;
		len -= n;
	}
	return true;
}

/* There is an end, and nothing before it. */
static bool is_empty(int fd)
{
	ssize_t n = pread(fd, buf, 1, 0);

	if (n < 0) {
		complain("read", 0, errno);
	} else if (n) {
		add(&sh->mismatches, 1);
		fault("%s f%u: a byte where there is none", where(), file);
	} else if (mount_nr != EROFS_MOUNT) {
		content_see(file, 0, 0);
	}
	return !n;
}

static void bus_error(int nr)
{
	siglongjmp(on_bus_error, 1);
}

static bool read_mapped(int fd, __u64 off, __u64 len)
{
	__u64 start = off / CF_BLOCK * CF_BLOCK;
	/* Not lost by siglongjmp(). */
	static bool good;
	char *map;

	map = mmap(NULL, off - start + len, PROT_READ, MAP_SHARED, fd, start);
	if (map == MAP_FAILED) {
		complain("mmap", off, errno);
		return false;
	}
	good = false;
	if (!sigsetjmp(on_bus_error, 1)) {
		for (__u64 at = start; at < off + len; at += CF_BLOCK) {
			begin('m', at);
			atomic_load((_Atomic char *)(map + (at - start)));
			end();
		}
		good = compare(map + (off - start), off, len);
		add(&sh->mapped, 1);
	} else {
		end();
		complain("SIGBUS", off, EIO);
	}
	munmap(map, off - start + len);
	return good;
}

static __u64 draw_off(__u64 size)
{
	__u64 x = ((__u64)draw(1U << 31) << 31) + draw(1U << 31);

	return x % size;
}

/* Whatever nobody has compared yet, from some place on. */
static bool read_rest(int fd)
{
	__u64 off, len;
	bool good = true;

	while (good && !atomic_load(&sh->quit) &&
	       content_missing(file, draw(1U << 30), &off, &len))
		good = read_range(fd, off, len);
	return good;
}

/* Whole, or several pieces at random places: what is missing then has holes. */
static bool read_somehow(int fd, __u64 size)
{
	unsigned int how = draw(10), pieces = 1 + draw(6);
	bool good = true;
	__u64 off, len;

	if (!size)
		return is_empty(fd);
	if (mount_nr != EROFS_MOUNT && (how > 7 || atomic_load(&sh->want_rest)) &&
	    content_missing(file, 0, &off, &len))
		return read_rest(fd);
	if (how < 4 && size <= 4 * PIECE)
		return read_range(fd, 0, size);
	if (how == 4)
		posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	while (good && pieces-- && !atomic_load(&sh->quit)) {
		off = draw_off(size);
		len = 1 + draw_off(how == 5 ? PIECE : PIECE / 8);
		if (len > size - off)
			len = size - off;
		good = how == 6 ? read_mapped(fd, off, len) : read_range(fd, off, len);
	}
	/* Again, from the cache below. */
	if (good && how == 7 && size <= PIECE) {
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		good = read_range(fd, 0, size);
	}
	return good;
}

static void visit(void)
{
	__u64 size = in_image() ? image_file_size(file) : content_size(file);
	int flags = O_RDONLY | O_CLOEXEC, fd, err;
	char path[256], key[32];
	struct stat st;

	/* EROFS on a file does not take it. */
	if (!in_image() && !draw(8))
		flags |= O_DIRECT;
	mount_path(mount_nr, path);
	content_key(file, key);
	strcat(path, "/");
	strcat(path, key);
	atomic_store(&self->file, file);
	begin('o', 0);
	fd = open(path, flags);
	err = errno;
	end();
	if (fd < 0) {
		complain("open", 0, err);
		return;
	}
	if (fstat(fd, &st) || (__u64)st.st_size != size) {
		add(&sh->mismatches, 1);
		fault("%s f%u has %lld bytes, not %llu", where(), file, (long long)st.st_size,
		      size);
	}
	if (mount_nr != EROFS_MOUNT)
		atomic_store(&self->holding, file + 1);
	if (read_somehow(fd, size) && mount_nr != EROFS_MOUNT)
		content_done(file);
	add(&sh->visits, 1);
	atomic_store(&self->holding, 0);
	close(fd);
}

/* In turn, past those that have been read. */
static unsigned int next_unseen(unsigned int files)
{
	unsigned int nr = 0;

	for (int i = 0; i < 64; i++) {
		nr = atomic_fetch_add(&sh->walked, 1) % files;
		if (!atomic_load(&sh->seen[nr]))
			break;
	}
	return nr;
}

/* The next file in turn, a large one, one that nobody has asked for, or any. */
static void choose(void)
{
	unsigned int files = sh->opt.files, x = draw(16);

	/* In the end, what nobody has read; now and then another, so that all goes on. */
	if (atomic_load(&sh->want_rest) && x >= 2) {
		file = next_unseen(files);
		mount_nr = content_volume(file);
		return;
	}
	if (sh->opt.erofs) {
		file = x < 6 ? draw(files) : next_unseen(files);
		mount_nr = content_volume(file);
		return;
	}
	mount_nr = EROFS_MOUNT;
	if (atomic_load(&sh->mount_on[EROFS_MOUNT]) && !x) {
		file = draw(sh->opt.image_files);
		return;
	}
	if (x < 3 || (x < 10 && atomic_load(&sh->want_new)))
		file = files + atomic_fetch_add(&sh->next_new, 1);
	else if (x < 6)
		file = draw((files + 499) / 500) * 500 + 7;
	else if (x < 9)
		file = draw(files);
	else
		file = next_unseen(files);
	mount_nr = content_volume(file);
}

/* Is the mount there, and will it stay?  An unmount waits until nobody says so. */
static bool enter(void)
{
	atomic_store(&self->mount, mount_nr + 1);
	cache_gen = atomic_load(&sh->cache_gen);
	mount_gen = atomic_load(&sh->mount_gen[mount_nr]);
	return atomic_load(&sh->mount_on[mount_nr]) && !(cache_gen & 1) && !(mount_gen & 1);
}

void reader(int nr)
{
	struct sigaction sa = { .sa_handler = bus_error };
	struct timespec ts = { .tv_nsec = 2000000 };
	bool there;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	cf_close_others(NULL, 0);
	sigaction(SIGBUS, &sa, NULL);
	self = &sh->readers[nr];
	draw_seed(sh->opt.seed + nr + 100 * getpid());
	if (posix_memalign((void **)&buf, CF_BLOCK, CHUNK))
		_exit(30);
	while (!atomic_load(&sh->quit)) {
		choose();
		there = enter();
		if (there)
			visit();
		atomic_store(&self->mount, 0);
		if (!there)
			nanosleep(&ts, NULL);
	}
	_exit(0);
}
