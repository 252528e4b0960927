// SPDX-License-Identifier: GPL-2.0-only
/*
 * mount_file TYPE FILE DIR
 *
 * mount(2), read-only, and nothing else: mount(8) puts a loop device between a
 * regular file and its file system, which EROFS does without.
 */
#include <stdio.h>
#include <sys/mount.h>

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: mount_file TYPE FILE DIR\n");
		return 2;
	}
	if (mount(argv[2], argv[3], argv[1], MS_RDONLY | MS_NODEV | MS_NOSUID, NULL)) {
		perror(argv[2]);
		return 1;
	}
	return 0;
}
