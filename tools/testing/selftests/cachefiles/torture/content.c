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
#include <unistd.h>

#include "torture/torture.h"

#define KB	1024ULL
#define MB	(1024 * KB)
#define GB	(1024 * MB)

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

	if (file == IMAGE_FILE)
		return sh->image_size;
	if (file % 500 == 7)
		return 4 * GB + in % (4 * GB);
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

/* In the image, which is made before and as a whole, nothing is large. */
__u64 image_file_size(unsigned int file)
{
	return content_size(file) % (512 * KB);
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
	unsigned long n;
	char *end;

	if (!strncmp(key, IMAGE_KEY, sizeof(IMAGE_KEY) - 2))
		return IMAGE_FILE;
	if (*key != 'f' || key[1] < '0' || key[1] > '9')
		return NO_FILE;
	n = strtoul(key + 1, &end, 10);
	return *end == '.' && n < IMAGE_FILE ? n : NO_FILE;
}

/* Where the tables by file have it. */
unsigned int content_index(unsigned int file)
{
	unsigned int files = sh->opt.files;

	return file < files ? file : files + (file - files) % FRESH;
}

/* Write the files of the image to @dir. */
int content_make(const char *dir, unsigned int files)
{
	for (unsigned int i = 0; i < files; i++) {
		char key[32], path[4096];
		__u64 size = image_file_size(i);
		ssize_t done = 0;
		int fd;

		content_key(i, key);
		snprintf(path, sizeof(path), "%s/%s", dir, key);
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		if (fd >= 0)
			done = cf_fill(fd, content_seed(i), 0, size, size);
		/* cf_fill() fills the last block with zeros. */
		if (fd < 0 || done < 0 || ftruncate(fd, size)) {
			perror(path);
			return 1;
		}
		close(fd);
	}
	return 0;
}
