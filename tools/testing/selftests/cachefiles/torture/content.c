// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the files hold.  All of it follows from the number of a file, so that
 * nobody has to store it: file N is called fN.x.
 *
 * The last byte of a name says nothing, for a daemon that peeks at a message
 * can't see it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "torture/torture.h"
#include "lib/cache.h"
#include "lib/erofs.h"

#define KB	1024ULL
#define MB	(1024 * KB)
#define GB	(1024 * MB)
#define LARGE	(4 * GB)
/* Of a large file, so many blocks in a row are counted at each place that is. */
#define STRIP	16

static __u64 mix(__u64 x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

__u64 content_seed(unsigned int file)
{
	return mix(file) >> 8;
}

/* One in 500 is too large for 32 bits; of the others, most are small. */
__u64 content_size(unsigned int file)
{
	__u64 x = mix(file + (1ULL << 40)), in = mix(x);

	if (file >= FIRST_OBJECT)
		return sh->object_size[file - FIRST_OBJECT];
	if (file % 500 == 7)
		return LARGE + STRIP * CF_BLOCK + in % (4 * GB);
	switch (x % 20) {
	case 0:
		return 0;
	case 1:
	case 2:
		return 1 + in % (4 * KB);
	case 3:
		return 4 * KB * (in % 64);
	case 4:
	case 5:
	case 6:
		return 64 * KB + in % (448 * KB);
	case 7:
		return 512 * KB + in % (4 * MB);
	default:
		return 1 + in % (64 * KB);
	}
}

/* In an image, which is made before and as a whole, nothing is large. */
__u64 image_file_size(unsigned int file)
{
	if (!sh->opt.erofs)
		return content_size(file) % (512 * KB);
	return content_size(file) % (file % 500 == 7 ? 4 * MB : 32 * KB);
}

void content_key(unsigned int file, char key[32])
{
	if (file == IMAGE_FILE)
		snprintf(key, 32, IMAGE_KEY);
	else
		snprintf(key, 32, "f%u.x", file);
}

/* The file of a name, complete or without its last byte. */
unsigned int content_file(const char *key)
{
	unsigned int mount, device, turn, n;
	char *end;

	if (sscanf(key, "i%u.%u.", &mount, &turn) == 2)
		return mount < VOLUMES ? FIRST_OBJECT + mount * (1 + DEVICES) : NO_FILE;
	if (sscanf(key, "d%u.%u.%u.", &mount, &device, &turn) == 3)
		return mount < VOLUMES && device && device <= DEVICES ?
		       FIRST_OBJECT + mount * (1 + DEVICES) + device : NO_FILE;
	if (!strncmp(key, IMAGE_KEY, sizeof(IMAGE_KEY) - 2))
		return IMAGE_FILE;
	if (*key != 'f' || key[1] < '0' || key[1] > '9')
		return NO_FILE;
	n = strtoul(key + 1, &end, 10);
	return *end == '.' && n < FIRST_OBJECT ? n : NO_FILE;
}

/* Where the tables by file have it. */
unsigned int content_index(unsigned int file)
{
	unsigned int files = sh->opt.files;

	if (file >= FIRST_OBJECT)
		return files + FRESH + (file - FIRST_OBJECT);
	return file < files ? file : files + (file - files) % FRESH;
}

/*
 * --- what has been compared ---
 *
 * A file has been read when each of its blocks has been compared, in one reading or in
 * several.  Nobody can fetch all of those of more than 4 GiB: of these it is the blocks at
 * the beginning, at the end, and around 2 and 4 GiB, where numbers of 31 and 32 bits end.
 * All is told by marks that are never taken back: a reader that is killed keeps no count.
 */
static unsigned int *first_block;

static __u64 counted_size(unsigned int file)
{
	return sh->opt.erofs ? image_file_size(file) : content_size(file);
}

static __u64 block_at(__u64 size, unsigned int i)
{
	const __u64 strips[] = {
		0, 2 * GB - STRIP / 2 * CF_BLOCK, 4 * GB - STRIP / 2 * CF_BLOCK,
		(size - 1) / CF_BLOCK * CF_BLOCK - (STRIP - 1) * CF_BLOCK,
	};

	if (size < LARGE)
		return i * (__u64)CF_BLOCK;
	return strips[i / STRIP] + i % STRIP * CF_BLOCK;
}

/* An empty file has one, too: there is an end to be seen. */
static unsigned int blocks(__u64 size)
{
	if (size >= LARGE)
		return 4 * STRIP;
	return size ? (size + CF_BLOCK - 1) / CF_BLOCK : 1;
}

/* Those of all files, which is how many marks there have to be; 0 without memory. */
size_t content_count(void)
{
	size_t n = 0;

	first_block = calloc(sh->opt.files, sizeof(*first_block));
	if (!first_block)
		return 0;
	for (unsigned int file = 0; file < sh->opt.files; file++) {
		first_block[file] = n;
		n += blocks(counted_size(file));
	}
	return n;
}

/* [off, off + len) is right.  Of the blocks in there that are not whole others tell. */
void content_see(unsigned int file, __u64 off, __u64 len)
{
	__u64 size, at, end;

	if (file >= sh->opt.files)
		return;
	size = counted_size(file);
	for (unsigned int i = size < LARGE ? off / CF_BLOCK : 0; i < blocks(size); i++) {
		at = block_at(size, i);
		end = at + CF_BLOCK < size ? at + CF_BLOCK : size;
		if (at >= off && end <= off + len)
			atomic_store(&sh->compared[first_block[file] + i], 1);
		else if (size < LARGE && at >= off)
			break;
	}
}

/* Blocks that nobody has compared, in a row, from the block @from or in front of that. */
bool content_missing(unsigned int file, unsigned int from, __u64 *off, __u64 *len)
{
	_Atomic unsigned char *marks;
	unsigned int nr, i, at;
	__u64 size;

	if (file >= sh->opt.files)
		return false;
	size = counted_size(file);
	nr = blocks(size);
	marks = &sh->compared[first_block[file]];
	for (i = 0; i < nr && atomic_load(&marks[(from + i) % nr]);)
		i++;
	if (i == nr)
		return false;
	at = (from + i) % nr;
	*off = block_at(size, at);
	*len = 0;
	while (at < nr && !atomic_load(&marks[at]) && block_at(size, at) == *off + *len) {
		*len += CF_BLOCK;
		at++;
	}
	if (*len > size - *off)
		*len = size - *off;
	return true;
}

/* Somebody has read some of it: was that the rest? */
void content_done(unsigned int file)
{
	__u64 off, len;

	if (file < sh->opt.files && !content_missing(file, 0, &off, &len))
		atomic_store(&sh->seen[file], 1);
}

/* How many files have not been read; the first of them goes to @first unless that is NULL. */
unsigned int content_unread(unsigned int *first)
{
	unsigned int n = 0;

	for (unsigned int file = sh->opt.files; file--;) {
		if (atomic_load(&sh->seen[file]))
			continue;
		if (first)
			*first = file;
		n++;
	}
	return n;
}

static int make_file(const char *dir, unsigned int file)
{
	__u64 size = image_file_size(file);
	char key[32], path[4096];
	ssize_t done = 0;
	int fd;

	content_key(file, key);
	snprintf(path, sizeof(path), "%s/%s", dir, key);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd >= 0)
		done = cf_fill(fd, content_seed(file), 0, size, size);
	/* cf_fill() fills the last block with zeros. */
	if (fd < 0 || done < 0 || ftruncate(fd, size)) {
		perror(path);
		return 1;
	}
	close(fd);
	return 0;
}

/* Write the files of the image to @dir. */
int content_make(const char *dir, unsigned int files)
{
	int ret = 0;

	for (unsigned int i = 0; i < files && !ret; i++)
		ret = make_file(dir, i);
	return ret;
}

void object_key(int mount, unsigned int device, unsigned int turn, char key[32])
{
	if (device)
		snprintf(key, 32, "d%d.%u.%u.x", mount, device, turn);
	else
		snprintf(key, 32, "i%d.%u.x", mount, turn);
}

void object_path(const char *dir, int mount, unsigned int device, char path[4096])
{
	if (device)
		snprintf(path, 4096, "%s/%d.%u", dir, mount, device - 1);
	else
		snprintf(path, 4096, "%s/%d", dir, mount);
}

/* By mkfs.erofs one without a device and one with one, by ourselves one with more. */
static int make_image(const char *dir, const char *tree, int mount)
{
	char path[4096], device[4096], option[4200];
	const char *argv[8] = { "mkfs.erofs", "--quiet", "-T0", path, tree };
	int fd;

	object_path(dir, mount, 0, path);
	if (mount == 2)
		return cf_erofs_make(tree, path, DEVICES, "d%u");
	if (mount == 1) {
		object_path(dir, mount, 1, device);
		fd = open(device, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		if (fd >= 0)
			close(fd);
		snprintf(option, sizeof(option), "--blobdev=%s", device);
		argv[3] = "--chunksize=16384";
		argv[4] = option;
		argv[5] = path;
		argv[6] = tree;
	}
	return cf_run(600000, argv);
}

/* Images of all volumes, in @dir. */
int content_make_images(const char *dir, unsigned int files)
{
	const char *remove[4] = { "rm", "-rf" };
	char tree[4096];
	int ret = 0;

	for (int mount = 0; mount < VOLUMES && !ret; mount++) {
		snprintf(tree, sizeof(tree), "%s/tree", dir);
		remove[2] = tree;
		ret = mkdir(tree, 0755);
		for (unsigned int i = mount; i < files && !ret; i += VOLUMES)
			ret = make_file(tree, i);
		if (!ret)
			ret = make_image(dir, tree, mount);
		cf_run(60000, remove);
	}
	if (ret)
		fprintf(stderr, "making images in %s: %d\n", dir, ret);
	return ret ? 1 : 0;
}

/* How large they are; a device that is not there has no size. */
int content_find_images(const char *dir)
{
	for (int mount = 0; mount < VOLUMES; mount++) {
		for (unsigned int device = 0; device <= DEVICES; device++) {
			char path[4096];
			struct stat st;

			object_path(dir, mount, device, path);
			if (!stat(path, &st))
				sh->object_size[mount * (1 + DEVICES) + device] = st.st_size;
			else if (!device)
				return -errno;
		}
	}
	return 0;
}
