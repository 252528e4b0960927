// SPDX-License-Identifier: GPL-2.0-only
/*
 * A writer of EROFS images that is as small as can be: one directory of files in
 * chunks.  Block 0 has the superblock and the table of devices; the inodes follow,
 * each with the places of its chunks, and then the blocks of the directory.
 */
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/erofs.h"

#define BLOCK		4096U
#define CHUNK_BITS	2		/* of blocks */
#define CHUNK		(BLOCK << CHUNK_BITS)
#define SLOT		32U		/* what inode numbers count in */

#define MAGIC		0xe0f5e1e2U
#define CHUNKED_FILE	0x4U
#define DEVICE_TABLE	0x8U
#define FLAT_PLAIN	(0 << 1)	/* data layouts of compact inodes */
#define CHUNK_BASED	(4 << 1)
#define WITH_INDEXES	0x20
#define ROOT		1		/* inode number */

struct super {
	uint32_t	magic, checksum, feature_compat;
	uint8_t		blkszbits, extslots;
	uint16_t	root_nid;
	uint64_t	inos, build_time;
	uint32_t	build_time_nsec, blocks, meta_blkaddr, xattr_blkaddr;
	uint8_t		uuid[16], name[16];
	uint32_t	feature_incompat;
	uint16_t	algorithms, extra_devices, devt_slotoff;
	uint8_t		dirblkbits, reserved[37];
};

struct device_slot {
	char		tag[64];
	uint32_t	blocks, mapped_blkaddr;
	uint8_t		reserved[56];
};

struct inode {
	uint16_t	format, xattr_icount, mode, nlink;
	uint32_t	size, reserved, place, ino;
	uint16_t	uid, gid;
	uint32_t	reserved2;
};

struct chunk {
	uint16_t	advise, device;		/* devices count from 1 */
	uint32_t	block;
};

struct entry {
	uint64_t	nid;
	uint16_t	nameoff;
	uint8_t		type, reserved;
} __attribute__((packed));

_Static_assert(sizeof(struct super) == 128, "on-disk format");
_Static_assert(sizeof(struct device_slot) == 128, "on-disk format");
_Static_assert(sizeof(struct inode) == SLOT, "on-disk format");
_Static_assert(sizeof(struct chunk) == 8, "on-disk format");
_Static_assert(sizeof(struct entry) == 12, "on-disk format");

struct maker {
	int		image, dir, devices[CF_MAX_DEVICES];
	unsigned int	nr;
	uint32_t	used[CF_MAX_DEVICES];	/* blocks of each device */
	uint64_t	turn;
	uint64_t	meta;			/* end of the inodes, from their start */
	uint64_t	at;			/* the next block of the directory */
	char		block[BLOCK];		/* of the directory: names from its end */
	struct entry	entries[BLOCK / sizeof(struct entry)];
	unsigned int	nr_entries, names;
};

bool cf_have_erofs_on_fscache(void)
{
	char text[512] = "";
	int fd, ret;

	fd = syscall(SYS_fsopen, "erofs", 1 /* FSOPEN_CLOEXEC */);
	if (fd < 0)
		return false;
	ret = syscall(SYS_fsconfig, fd, 1 /* FSCONFIG_SET_STRING */, "fsid", "probe", 0);
	/* Without the feature it is taken, with a message. */
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	return !ret && !strstr(text, "not supported");
}

static int put(int fd, const void *data, size_t len, uint64_t off)
{
	ssize_t n = pwrite(fd, data, len, off);

	return n == (ssize_t)len ? 0 : n < 0 ? -errno : -ENOSPC;
}

/* One chunk from @fd to the device whose turn it is. */
static int put_chunk(struct maker *m, int fd, uint64_t off, struct chunk *c)
{
	unsigned int nr = m->turn++ % m->nr, blocks;
	char buf[CHUNK] = "";
	ssize_t n = pread(fd, buf, CHUNK, off);

	if (n <= 0)
		return n ? -errno : -EIO;
	blocks = (n + BLOCK - 1) / BLOCK;
	*c = (struct chunk) {
		.device = htole16(nr + 1),
		.block = htole32(m->used[nr]),
	};
	m->used[nr] += blocks;
	return put(m->devices[nr], buf, blocks * BLOCK,
		   (uint64_t)(m->used[nr] - blocks) * BLOCK);
}

/* An inode of @dir's file @name behind the others: its number, or a negative errno. */
static long long put_file(struct maker *m, const char *name)
{
	uint64_t nid = m->meta / SLOT, at = BLOCK + m->meta + sizeof(struct inode);
	struct inode inode = {
		.format = htole16(CHUNK_BASED),
		.place = htole32(CHUNK_BITS | WITH_INDEXES),
		.nlink = htole16(1),
		.ino = htole32(nid),
	};
	struct chunk chunk;
	struct stat st;
	int fd, ret = 0;

	fd = openat(m->dir, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		ret = -errno;
	else if (!S_ISREG(st.st_mode) || st.st_size > UINT32_MAX)
		ret = -EINVAL;
	for (off_t off = 0; !ret && off < st.st_size; off += CHUNK) {
		ret = put_chunk(m, fd, off, &chunk);
		if (!ret)
			ret = put(m->image, &chunk, sizeof(chunk), at);
		at += sizeof(chunk);
	}
	if (fd >= 0)
		close(fd);
	if (ret)
		return ret;
	inode.mode = htole16(st.st_mode);
	inode.size = htole32(st.st_size);
	ret = put(m->image, &inode, sizeof(inode), BLOCK + m->meta);
	m->meta = (at - BLOCK + SLOT - 1) / SLOT * SLOT;
	return ret ? ret : (long long)nid;
}

/* The block of the directory that is complete: entries first, then the names in order. */
static int put_block(struct maker *m)
{
	char block[BLOCK] = "";
	unsigned int size = m->nr_entries * sizeof(struct entry);

	for (unsigned int i = 0; i < m->nr_entries; i++)
		m->entries[i].nameoff = htole16(m->entries[i].nameoff + size);
	memcpy(block, m->entries, size);
	memcpy(block + size, m->block, m->names);
	m->nr_entries = 0;
	m->names = 0;
	m->at++;
	return put(m->image, block, BLOCK, (m->at - 1) * BLOCK);
}

static int put_entry(struct maker *m, const char *name, uint64_t nid, bool dir)
{
	size_t len = strlen(name);
	int ret = 0;

	if ((m->nr_entries + 1) * sizeof(struct entry) + m->names + len > BLOCK)
		ret = put_block(m);
	m->entries[m->nr_entries++] = (struct entry) {
		.nid = htole64(nid),
		.nameoff = m->names,
		.type = dir ? 2 : 1,
	};
	memcpy(m->block + m->names, name, len);
	m->names += len;
	return ret;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* Entries are sorted by the bytes of their names, those of the directory itself as well. */
static int put_all(struct maker *m, struct dirent **names, int nr, const char *tag)
{
	long long *nids = calloc(nr, sizeof(*nids));
	struct inode root = {
		.format = htole16(FLAT_PLAIN),
		.mode = htole16(S_IFDIR | 0755),
		.nlink = htole16(2),
		.ino = htole32(ROOT),
	};
	struct super super = {
		.magic = htole32(MAGIC),
		.blkszbits = 12,
		.root_nid = htole16(ROOT),
		.inos = htole64(nr - 1),
		.meta_blkaddr = htole32(1),
		.feature_incompat = htole32(CHUNKED_FILE | DEVICE_TABLE),
		.extra_devices = htole16(m->nr),
		.devt_slotoff = htole16((1024 + sizeof(super)) / sizeof(struct device_slot)),
	};
	uint64_t first;
	int ret = nids ? 0 : -ENOMEM;

	m->meta = (ROOT + 1) * SLOT;
	for (int i = 0; i < nr && !ret; i++) {
		nids[i] = ROOT;
		if (strcmp(names[i]->d_name, ".") && strcmp(names[i]->d_name, ".."))
			nids[i] = put_file(m, names[i]->d_name);
		if (nids[i] < 0)
			ret = (int)nids[i];
	}
	first = 1 + (m->meta + BLOCK - 1) / BLOCK;
	m->at = first;
	for (int i = 0; i < nr && !ret; i++)
		ret = put_entry(m, names[i]->d_name, nids[i], nids[i] == ROOT);
	free(nids);
	if (!ret)
		ret = put_block(m);
	root.place = htole32(first);
	root.size = htole32((m->at - first) * BLOCK);
	super.blocks = htole32(m->at);
	if (!ret)
		ret = put(m->image, &root, sizeof(root), BLOCK + ROOT * SLOT);
	for (unsigned int i = 0; i < m->nr && !ret; i++) {
		struct device_slot slot = { .blocks = htole32(m->used[i]) };

		snprintf(slot.tag, sizeof(slot.tag), tag, i);
		ret = put(m->image, &slot, sizeof(slot), 1024 + sizeof(super) +
			  i * sizeof(slot));
	}
	return ret ? ret : put(m->image, &super, sizeof(super), 1024);
}

int cf_erofs_make(const char *dir, const char *image, unsigned int nr, const char *tag)
{
	const int flags = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC;
	struct maker *m = calloc(1, sizeof(*m));
	struct dirent **names = NULL;
	char path[4096];
	int nr_names = 0, ret = 0;

	if (!m || !nr || nr > CF_MAX_DEVICES) {
		free(m);
		return m ? -EINVAL : -ENOMEM;
	}
	m->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	m->image = open(image, flags, 0644);
	if (m->dir < 0 || m->image < 0)
		ret = -errno;
	for (; m->nr < nr; m->nr++) {
		snprintf(path, sizeof(path), "%s.%u", image, m->nr);
		m->devices[m->nr] = open(path, flags, 0644);
		if (m->devices[m->nr] < 0)
			ret = -errno;
	}
	if (!ret) {
		nr_names = scandir(dir, &names, NULL, by_bytes);
		ret = nr_names < 0 ? -errno : put_all(m, names, nr_names, tag);
	}
	for (int i = 0; i < nr_names; i++)
		free(names[i]);
	free(names);
	for (unsigned int i = 0; i < nr; i++)
		close(m->devices[i]);
	close(m->image);
	close(m->dir);
	free(m);
	return ret;
}
