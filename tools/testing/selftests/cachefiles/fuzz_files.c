// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fuzzer's world: which files there are, what they hold and where they are mounted.
 *
 * Content follows from volume, name and offset, at any offset and whatever size somebody
 * has claimed.  Daemons, however wild, only ever write that: so each byte that is read
 * can be checked, by everybody, without a model of what has happened.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "fuzz.h"

/* What names can look like: none has a slash, and of each a file name can be made. */
static size_t odd_name(unsigned int i, char name[256])
{
	size_t len;

	switch (i % 8) {
	case 0:
		return snprintf(name, 256, "with a blank %u", i);
	case 1:
		memcpy(name, "\xff\x01\x80\n\t", 5);
		name[5] = (char)(1 + i);
		name[6] = '\0';
		return 6;
	case 2:
		len = 254;
		break;
	case 3:
		return snprintf(name, 256, "%%s%%n,%u", i);
	case 4:
		return snprintf(name, 256, ".%u", i);
	case 5:
		len = 189;
		memset(name, 0xc3, len);
		name[len - 1] = (char)(1 + i);
		name[len] = '\0';
		return len;
	case 6:
		return snprintf(name, 256, "D+%u=&", i);
	default:
		return snprintf(name, 256, "-%u\\", i);
	}
	memset(name, 'n', len);
	name[len - 1] = (char)('0' + i / 8 % 64);
	name[len] = '\0';
	return len;
}

size_t fz_name(unsigned int i, char name[256])
{
	i %= FZ_NAMES;
	if (i % 8 == 7)
		return odd_name(i / 8, name);
	return snprintf(name, 256, "f%u", i);
}

static uint64_t hash(uint64_t h, const void *data, size_t len)
{
	const unsigned char *p = data;

	while (len--)
		h = (h ^ *p++) * 0x100000001b3ULL;
	return h;
}

/* The pattern that a file is made of. */
uint64_t fz_content(const char *volume, const void *key, size_t len)
{
	uint64_t h = hash(0xcbf29ce484222325ULL, volume, strlen(volume) + 1);

	return hash(h, key, len) >> 8;
}

/* Most files are small, and their ends are where mistakes are made. */
uint64_t fz_size(uint64_t content)
{
	uint64_t r = content * 0x9e3779b97f4a7c15ULL >> 32;

	switch (content % 8) {
	case 0:
		return r % 64 ? r % FZ_PAGE : 0;
	case 1:
		return (1 + r % 8) * FZ_PAGE;
	case 2:
		return (1 + r % 8) * FZ_PAGE + (r % 16 < 8 ? 1 : FZ_PAGE - 1);
	case 3:
		return r % FZ_FILE_MAX + 1;
	default:
		return r % (16 * FZ_PAGE) + 1;
	}
}

/* --- mounts --- */

#define VOLUMES	(FZ_VOLUMES + FZ_LOCALS)

void fz_volume(unsigned int i, char volume[32])
{
	i %= VOLUMES;
	snprintf(volume, 32, "erofs,%c%u", i < FZ_VOLUMES ? 'm' : 'l',
		 i < FZ_VOLUMES ? i : i - FZ_VOLUMES);
}

void fz_mount_point(unsigned int i, char path[64])
{
	snprintf(path, 64, CF_BASE "/fuzz-%u", i % VOLUMES);
}

void fz_local(unsigned int i, char dir[96], char tag[32])
{
	snprintf(dir, 96, CF_STORE "/local%u", i % FZ_LOCALS);
	snprintf(tag, 32, "local%u", i % FZ_LOCALS);
}

int fz_mount(unsigned int i)
{
	char volume[32], path[64], dir[96], tag[32], opts[64];

	i %= VOLUMES;
	fz_volume(i, volume);
	fz_mount_point(i, path);
	if (i >= FZ_VOLUMES)
		fz_local(i - FZ_VOLUMES, dir, tag);
	snprintf(opts, sizeof(opts), "cache=%s", i < FZ_VOLUMES ? fz->caches[0].tag : tag);
	return cf_mount_od(volume, path, opts);
}

bool fz_is_mounted(unsigned int i)
{
	struct statfs s;
	char path[64];

	fz_mount_point(i, path);
	return !statfs(path, &s) && s.f_type != 0x01021994 /* tmpfs */;
}

/* --- data --- */

static bool key_is_known(const char *volume, const void *key, size_t len)
{
	char name[256];
	bool ours = false;

	for (unsigned int i = 0; i < VOLUMES && !ours; i++) {
		fz_volume(i, name);
		ours = !strcmp(volume, name);
	}
	/* Any name can be asked for, but no slash and no NUL. */
	return ours && len && len < 256 && !memchr(key, '/', len) && !memchr(key, 0, len);
}

void fz_check_message(const struct cf_msg *m, int len)
{
	const struct cachefiles_open *o = cf_open(m);
	const struct cachefiles_read *r = cf_rd(m);

	if (len < (int)sizeof(m->hdr) || (int)m->hdr.len != len || !m->hdr.object_id) {
		fz_fail("message of %d bytes says %u, object %u", len, m->hdr.len,
			m->hdr.object_id);
		return;
	}
	switch (m->hdr.opcode) {
	case CACHEFILES_OP_OPEN:
		if (len < 32 || 32 + o->volume_key_size + o->cookie_key_size != (unsigned int)len ||
		    o->flags || !o->volume_key_size || o->data[o->volume_key_size - 1] ||
		    !key_is_known((const char *)o->data, o->data + o->volume_key_size,
				  o->cookie_key_size))
			fz_fail("bad OPEN: %d bytes, keys %u and %u, flags %x", len,
				o->volume_key_size, o->cookie_key_size, o->flags);
		break;
	case CACHEFILES_OP_READ:
		if (len != 40 || r->flags || !r->len || r->off % FZ_PAGE || r->len % FZ_PAGE)
			fz_fail("bad READ: %d bytes, %llu + %llu, flags %x", len,
				(unsigned long long)r->off, (unsigned long long)r->len, r->flags);
		break;
	case CACHEFILES_OP_CLOSE:
		if (len != 24 || cf_close(m)->flags)
			fz_fail("bad CLOSE: %d bytes, flags %x", len, cf_close(m)->flags);
		break;
	default:
		fz_fail("message of unknown kind %u", m->hdr.opcode);
	}
}
