// SPDX-License-Identifier: GPL-2.0-only
/* A network file system, played through /dev/cf_netfs; see netfs.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cache.h"
#include "daemon.h"
#include "netfs.h"

#define CHUNK	(1U << 20)

static int call(int nf, unsigned long cmd, void *arg)
{
	return ioctl(nf, cmd, arg) ? -errno : 0;
}

int cf_nf_open(void)
{
	const char *const load[] = { "modprobe", "cf_netfs", NULL };
	int fd = open(CF_NETFS_DEVICE, O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	cf_run(20000, load);
	fd = open(CF_NETFS_DEVICE, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* --- volumes and cookies --- */

int cf_nf_volume(int nf, const char *key, const char *tag, const void *blob, size_t len)
{
	struct cf_netfs_volume a = { .coherency_len = (__u8)len };
	int ret;

	if (strlen(key) >= sizeof(a.key) || (tag && strlen(tag) >= sizeof(a.tag)) ||
	    len > sizeof(a.coherency))
		return -EINVAL;
	memcpy(a.key, key, strlen(key));
	if (tag)
		memcpy(a.tag, tag, strlen(tag));
	if (len)
		memcpy(a.coherency, blob, len);
	ret = call(nf, CF_NETFS_ACQUIRE_VOLUME, &a);
	return ret ? ret : (int)a.id;
}

int cf_nf_volume_end(int nf, int volume, const void *blob, size_t len, bool invalidate)
{
	struct cf_netfs_volume_end a = {
		.id = volume, .invalidate = invalidate, .timeout_ms = cf_ms(CF_NF_MS),
	};

	if (len > sizeof(a.coherency))
		return -EINVAL;
	if (blob) {
		a.update = 1;
		memcpy(a.coherency, blob, len);
	}
	return call(nf, CF_NETFS_RELINQUISH_VOLUME, &a);
}

int cf_nf_volume_attached(int nf, int volume)
{
	struct cf_netfs_volume_info a = { .id = volume, .timeout_ms = cf_ms(CF_NF_MS) };
	int ret = call(nf, CF_NETFS_VOLUME_INFO, &a);

	return ret ? ret : (int)a.attached;
}

int cf_nf_cookie_advice(int nf, int volume, const void *key, size_t key_len,
			const void *aux, size_t aux_len, __u64 size, unsigned int advice)
{
	struct cf_netfs_cookie a = {
		.volume = volume, .key_len = (__u8)key_len, .aux_len = (__u8)aux_len,
		.advice = advice, .size = size,
	};
	int ret;

	if (key_len > sizeof(a.key) || aux_len > sizeof(a.aux))
		return -EINVAL;
	memcpy(a.key, key, key_len);
	if (aux_len)
		memcpy(a.aux, aux, aux_len);
	ret = call(nf, CF_NETFS_ACQUIRE_COOKIE, &a);
	return ret ? ret : (int)a.id;
}

int cf_nf_cookie(int nf, int volume, const void *key, size_t key_len,
		 const void *aux, size_t aux_len, __u64 size)
{
	return cf_nf_cookie_advice(nf, volume, key, key_len, aux, aux_len, size, 0);
}

static int change(int nf, unsigned long cmd, int cookie, unsigned int flags,
		  const void *aux, size_t len, const __u64 *size)
{
	struct cf_netfs_change a = { .cookie = cookie, .flags = flags };

	if (len > sizeof(a.aux))
		return -EINVAL;
	if (aux) {
		a.flags |= CF_UNUSE_AUX;
		memcpy(a.aux, aux, len);
	}
	if (size) {
		a.flags |= CF_UNUSE_SIZE;
		a.size = *size;
	}
	return call(nf, cmd, &a);
}

int cf_nf_use(int nf, int cookie, bool modify)
{
	return change(nf, CF_NETFS_USE, cookie, modify ? CF_USE_MODIFY : 0, NULL, 0, NULL);
}

int cf_nf_unuse(int nf, int cookie)
{
	return change(nf, CF_NETFS_UNUSE, cookie, 0, NULL, 0, NULL);
}

int cf_nf_unuse_with(int nf, int cookie, const void *aux, size_t len, const __u64 *size)
{
	return change(nf, CF_NETFS_UNUSE, cookie, 0, aux, len, size);
}

int cf_nf_update(int nf, int cookie, const void *aux, size_t len, const __u64 *size)
{
	return change(nf, CF_NETFS_UPDATE, cookie, 0, aux, len, size);
}

int cf_nf_invalidate(int nf, int cookie, const void *aux, size_t len, __u64 size, bool dio)
{
	return change(nf, CF_NETFS_INVALIDATE, cookie, dio ? CF_INVAL_DIO : 0, aux, len, &size);
}

int cf_nf_resize(int nf, int cookie, __u64 size)
{
	return change(nf, CF_NETFS_RESIZE, cookie, 0, NULL, 0, &size);
}

int cf_nf_note_release(int nf, int cookie)
{
	return change(nf, CF_NETFS_NOTE_RELEASE, cookie, 0, NULL, 0, NULL);
}

int cf_nf_relinquish(int nf, int cookie, bool retire)
{
	struct cf_netfs_relinquish a = {
		.cookie = cookie, .retire = retire, .timeout_ms = cf_ms(CF_NF_MS),
	};

	return call(nf, CF_NETFS_RELINQUISH_COOKIE, &a);
}

int cf_nf_wait(int nf, int cookie, unsigned int states, unsigned int set,
	       unsigned int clear, int ms, struct cf_netfs_wait *info)
{
	struct cf_netfs_wait a = {
		.cookie = cookie, .states = states, .set = set, .clear = clear,
		.timeout_ms = cf_ms(ms),
	};
	int ret = call(nf, CF_NETFS_WAIT, &a);

	if (info)
		*info = a;
	return ret;
}

int cf_nf_flags(int nf, int cookie)
{
	struct cf_netfs_wait a;
	int ret = cf_nf_wait(nf, cookie, 0, 0, 0, 0, &a);

	return ret ? ret : (int)a.flags;
}

int cf_nf_state(int nf, int cookie)
{
	struct cf_netfs_wait a;
	int ret = cf_nf_wait(nf, cookie, 0, 0, 0, 0, &a);

	return ret ? ret : (int)a.state;
}

int cf_nf_attach(int nf, int cookie, bool modify)
{
	struct cf_netfs_wait a;
	int ret = cf_nf_use(nf, cookie, modify);

	if (ret)
		return ret;
	ret = cf_nf_wait(nf, cookie, CF_STATE(CF_QUIESCENT) | CF_STATE(CF_ACTIVE) |
			 CF_STATE(CF_FAILED), 0, 0, CF_NF_MS, &a);
	if (ret)
		return ret;
	return a.state == CF_ACTIVE ? 0 : -ENOBUFS;
}

int cf_nf_detach(int nf, int cookie, bool retire)
{
	int ret = cf_nf_unuse(nf, cookie);

	return ret ? ret : cf_nf_relinquish(nf, cookie, retire);
}

/* --- I/O --- */

int cf_nf_begin(int nf, int cookie, bool write)
{
	struct cf_netfs_begin a = { .cookie = cookie, .write = write };
	int ret = call(nf, CF_NETFS_BEGIN, &a);

	return ret ? ret : (int)a.id;
}

int cf_nf_end(int nf, int op)
{
	__u32 id = op;

	return call(nf, CF_NETFS_END, &id);
}

int cf_nf_end_late(int nf, int op, int cookie, struct cf_netfs_end_late *a)
{
	*a = (struct cf_netfs_end_late) { .op = op, .cookie = cookie };
	return call(nf, CF_NETFS_END_LATE, a);
}

int cf_nf_read(int nf, int cookie, int op, void *buf, __u64 off, __u64 len, __u64 i_size,
	       unsigned int how, enum cf_netfs_hole hole, struct cf_netfs_read *a)
{
	*a = (struct cf_netfs_read){
		.cookie = cookie, .op = op, .start = off, .len = len, .i_size = i_size,
		.buf = (unsigned long)buf, .how = how, .hole = hole,
		.timeout_ms = cf_ms(CF_NF_MS),
	};
	return call(nf, CF_NETFS_READ, a);
}

int cf_nf_read_granule(void *job)
{
	struct cf_nf_job *j = job;
	char buf[CF_GRANULE];
	struct cf_netfs_read a;
	int ret;

	ret = cf_nf_read(j->nf, j->cookie, 0, buf, j->off, sizeof(buf), j->off + sizeof(buf),
			 CF_IO_ISSUE, CF_HOLE_IGNORE, &a);
	if (ret || a.result < 0)
		return ret ? -ret : -(int)a.result;
	return cf_differs(j->seed, j->off, buf, sizeof(buf)) < 0 ? 0 : EBADMSG;
}

int cf_nf_write(int nf, int cookie, int op, const void *buf, __u64 off, __u64 len,
		__u64 i_size, unsigned int how, struct cf_netfs_write *a)
{
	*a = (struct cf_netfs_write){
		.cookie = cookie, .op = op, .start = off, .len = len, .i_size = i_size,
		.buf = (unsigned long)buf, .how = how, .timeout_ms = cf_ms(CF_NF_MS),
	};
	return call(nf, CF_NETFS_WRITE, a);
}

int cf_nf_query(int nf, int cookie, __u64 start, __u64 len, __u64 granularity,
		struct cf_netfs_query *a)
{
	*a = (struct cf_netfs_query){
		.cookie = cookie, .start = start, .len = len, .granularity = granularity,
	};
	return call(nf, CF_NETFS_QUERY, a);
}

int cf_nf_prepare_read(int nf, int cookie, __u64 start, __u64 len, __u64 i_size,
		       struct cf_netfs_read *a)
{
	return cf_nf_read(nf, cookie, 0, NULL, start, len, i_size, CF_IO_PREPARE,
			  CF_HOLE_IGNORE, a);
}

/* The pattern as far as @i_size, zeros from there. */
static void make(__u64 seed, __u64 off, unsigned char *buf, size_t len, __u64 i_size)
{
	size_t data = off >= i_size ? 0 : i_size - off < len ? i_size - off : len;

	cf_pattern(seed, off, buf, data);
	memset(buf + data, 0, len - data);
}

int cf_nf_store(int nf, int cookie, __u64 seed, __u64 off, __u64 len, __u64 i_size)
{
	unsigned char *buf = malloc(CHUNK);
	int ret = buf ? 0 : -ENOMEM;

	while (!ret && len) {
		size_t n = len < CHUNK ? len : CHUNK;
		struct cf_netfs_write a;

		make(seed, off, buf, n, i_size);
		ret = cf_nf_write(nf, cookie, 0, buf, off, n, i_size,
				  CF_IO_PREPARE | CF_IO_ISSUE, &a);
		if (!ret && a.prepare)
			ret = (int)a.prepare;
		else if (!ret && a.result < 0)
			ret = (int)a.result;
		else if (!ret && (__u64)a.result < n)
			ret = -EMSGSIZE;
		off += n;
		len -= n;
	}
	free(buf);
	return ret;
}

bool cf_nf_has_streams(int nf)
{
	struct cf_netfs_subreq a = { 0 };

	return call(nf, CF_NETFS_WRITE_SUBREQ, &a) != -EOPNOTSUPP;
}

/* With what @a says beside that. */
static int write_subreq(int nf, int cookie, __u64 seed, __u64 off, __u64 len, __u64 i_size,
			struct cf_netfs_subreq *a)
{
	unsigned char *buf = malloc(len);
	int ret;

	if (!buf)
		return -ENOMEM;
	make(seed, off, buf, len, i_size);
	a->cookie = cookie;
	a->start = off;
	a->len = len;
	a->i_size = i_size;
	a->buf = (unsigned long)buf;
	a->timeout_ms = cf_ms(CF_NF_MS);
	ret = call(nf, CF_NETFS_WRITE_SUBREQ, a);
	free(buf);
	return ret;
}

int cf_nf_store_subreq(int nf, int cookie, __u64 seed, __u64 off, __u64 len, __u64 i_size,
		       unsigned int extendable_to, struct cf_netfs_subreq *a)
{
	*a = (struct cf_netfs_subreq){ .extendable_to = extendable_to };
	return write_subreq(nf, cookie, seed, off, len, i_size, a);
}

int cf_nf_store_copy(int nf, int cookie, __u64 seed, __u64 off, __u64 len, __u64 i_size,
		     unsigned int copy)
{
	struct cf_netfs_subreq a = { .copy = copy };
	int ret = write_subreq(nf, cookie, seed, off, len, i_size, &a);

	return ret ? ret : a.error;
}

int cf_nf_file(int nf, int volume, const char *name, const void *aux, size_t aux_len,
	       __u64 size, bool modify)
{
	int cookie = cf_nf_cookie(nf, volume, name, strlen(name), aux, aux_len, size);
	int ret = cookie < 0 ? cookie : cf_nf_attach(nf, cookie, modify);

	if (cookie < 0 || !ret)
		return cookie;
	cf_nf_detach(nf, cookie, false);
	return ret;
}

int cf_nf_fill(int nf, int cookie, __u64 seed, __u64 size)
{
	int ret = cf_nf_store(nf, cookie, seed, 0, CF_ROUND_UP(size), size);

	return ret ? ret : cf_nf_note_release(nf, cookie);
}

static void mark(char *map, __u64 off, __u64 from, __u64 to, char what)
{
	if (map)
		memset(map + (from - off) / CF_GRANULE, what,
		       (to - off + CF_GRANULE - 1) / CF_GRANULE - (from - off) / CF_GRANULE);
}

static void compare(struct cf_fetch *f, __u64 seed, __u64 pos, const unsigned char *buf,
		    size_t n, __u64 i_size)
{
	__u64 data = pos >= i_size ? 0 : i_size - pos < n ? i_size - pos : n;

	if (f->bad < 0)
		f->bad = cf_differs(seed, pos, buf, data);
}

int cf_nf_fetch(int nf, int cookie, __u64 seed, __u64 off, __u64 len, __u64 i_size,
		struct cf_fetch *f, char *map)
{
	unsigned char *buf = malloc(CHUNK);
	__u64 pos = off, end = off + len;
	int ret = buf ? 0 : -ENOMEM;

	*f = (struct cf_fetch){ .bad = -1 };
	while (!ret && pos < end) {
		struct cf_netfs_read a;

		ret = cf_nf_read(nf, cookie, 0, buf, pos, end - pos < CHUNK ? end - pos : CHUNK,
				 i_size, CF_IO_PREPARE | CF_IO_ISSUE, CF_HOLE_IGNORE, &a);
		if (ret == -ENOBUFS) {
			/* There is no cache for the library either. */
			ret = 0;
			a.source = CF_SOURCE_DOWNLOAD;
			a.prepared = a.len;
			a.flags = 0;
		}
		if (ret)
			break;
		f->slices++;
		if (!a.prepared || a.prepared > a.len) {
			ret = -EPROTO;
			break;
		}
		switch (a.source) {
		case CF_SOURCE_ZEROES:
			f->zeroes += a.prepared;
			mark(map, off, pos, pos + a.prepared, 'Z');
			break;
		case CF_SOURCE_DOWNLOAD:
			f->download += a.prepared;
			if (a.flags & CF_SREQ_COPY_TO_CACHE)
				f->copy += a.prepared;
			mark(map, off, pos, pos + a.prepared, 'D');
			break;
		case CF_SOURCE_CACHE:
			if (!f->err)
				f->err = a.seen;
			if (a.result > (__s64)a.prepared)
				ret = -EPROTO;
			if (a.result <= 0 || ret) {
				f->download += a.prepared;
				mark(map, off, pos, pos + a.prepared, 'D');
				break;
			}
			compare(f, seed, pos, buf, a.result, i_size);
			f->cached += a.result;
			mark(map, off, pos, pos + a.result, 'C');
			a.prepared = a.result;
			break;
		default:
			ret = -EPROTO;
		}
		pos += a.prepared;
	}
	free(buf);
	return ret;
}

int cf_nf_check(int nf, int cookie, __u64 seed, __u64 off, __u64 len, __u64 i_size)
{
	struct cf_fetch f;
	int ret = cf_nf_fetch(nf, cookie, seed, off, len, i_size, &f, NULL);

	if (ret)
		return ret;
	if (f.bad >= 0)
		return -EBADMSG;
	return f.err ? f.err : f.cached == len ? 0 : -ENODATA;
}

int cf_nf_absent(int nf, int cookie, __u64 off, __u64 len, __u64 i_size)
{
	struct cf_fetch f;
	int ret = cf_nf_fetch(nf, cookie, 0, off, len, i_size, &f, NULL);

	return ret ? ret : f.cached ? -EEXIST : f.err;
}

int cf_nf_odd(int nf)
{
	struct cf_netfs_stats a = { 0 };
	int ret = call(nf, CF_NETFS_STATS, &a);

	return ret ? ret : (int)a.odd;
}

/* --- what is on disk --- */

static __u32 rotl(__u32 v, int n)
{
	return v << n | v >> (32 - n);
}

/* @data is followed by zeros up to a multiple of four bytes. */
__u32 cf_nf_hash(__u32 salt, const void *data, size_t len)
{
	const __u32 golden = 0x61C88647;
	const unsigned char *p = data;
	__u32 x = 0, y = salt;

	for (size_t i = 0; i < len; i += 4) {
		__u32 word = 0;

		for (size_t j = i; j < i + 4 && j < len; j++)
			word |= (__u32)p[j] << 8 * (j - i);
		x ^= word;
		y ^= x;
		x = rotl(x, 7) + y;
		y = rotl(y, 20) * 9;
	}
	return (y ^ x * golden) * golden;
}

__u32 cf_nf_volume_hash(const char *key)
{
	unsigned char buf[260] = { (unsigned char)strlen(key) };

	memcpy(buf + 1, key, buf[0]);
	return cf_nf_hash(0, buf, 1 + buf[0] + 1);
}

static bool is_text(const unsigned char *key, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (key[i] < 0x21 || key[i] > 0x7f || key[i] == '/')
			return false;
	return true;
}

static size_t hex_name(const unsigned char *key, size_t len, bool big, char *name)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i += 4) {
		__u32 word = 0;

		for (size_t j = 0; j < 4; j++)
			if (i + j < len)
				word |= (__u32)key[i + j] << 8 * (big ? 3 - j : j);
		name[n++] = i ? ',' : big ? 'S' : 'T';
		if (word)
			n += sprintf(name + n, "%x", word);
	}
	name[n] = '\0';
	return n;
}

static size_t base64_name(const unsigned char *key, size_t len, char *name)
{
	static const char digits[] =
		"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-";
	size_t n = 0;

	name[n++] = 'E';
	name[n++] = "021"[len % 3];
	for (size_t i = 0; i < len; i += 3) {
		__u32 group = key[i];

		if (i + 1 < len)
			group |= (__u32)key[i + 1] << 8;
		if (i + 2 < len)
			group |= (__u32)key[i + 2] << 16;
		for (int j = 0; j < 4; j++, group >>= 6)
			name[n++] = digits[group & 63];
	}
	name[n] = '\0';
	return n;
}

size_t cf_nf_file_name(const void *key, size_t len, char name[512])
{
	char big[600], little[600];
	size_t nbe, nle, n64, n;

	if (is_text(key, len)) {
		name[0] = len < 255 ? 'D' : '\0';
		memcpy(name + 1, key, len);
		name[1 + len] = '\0';
		return len < 255 ? 1 + len : 0;
	}
	nbe = hex_name(key, len, true, big);
	nle = hex_name(key, len, false, little);
	n64 = 2 + 4 * ((len + 2) / 3);
	n = n64;
	if (nbe < n64 || nle < n64)
		n = nbe <= nle ? nbe : nle;
	name[0] = '\0';
	if (n > 255)
		return 0;
	if (n == n64)
		return base64_name(key, len, name);
	memcpy(name, nbe <= nle ? big : little, n + 1);
	return n;
}

int cf_nf_path(const char *dir, const char *volume, const void *key, size_t len,
	       char *path, size_t size)
{
	__u32 hash = cf_nf_hash(cf_nf_volume_hash(volume), key, len);
	char name[512];
	int n;

	if (!cf_nf_file_name(key, len, name))
		return -ENAMETOOLONG;
	n = snprintf(path, size, "%s/cache/I%s/@%02x/%s", dir, volume, hash & 0xff, name);
	return n < (int)size ? 0 : -ENAMETOOLONG;
}

size_t cf_nf_xattr(unsigned char buf[300], __u64 size, unsigned char content,
		   const void *aux, size_t aux_len)
{
	memset(buf, 0, 18);
	for (int i = 0; i < 8; i++)
		buf[i] = (unsigned char)(size >> 8 * (7 - i));
	buf[16] = 1;
	buf[17] = content;
	if (aux_len)
		memcpy(buf + 18, aux, aux_len);
	return 18 + aux_len;
}
