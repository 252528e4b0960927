/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A network file system, played through /dev/cf_netfs: one step of it in each function.
 *
 * Functions return 0, a number or an id, or a negative errno. A cookie's data are those
 * of cf_pattern(): what is at an offset depends on nothing but a seed.
 */
#ifndef CF_LIB_NETFS_H
#define CF_LIB_NETFS_H

#include <stdbool.h>
#include <stddef.h>

#include "../test_modules/cf_netfs.h"

#define CF_GRANULE	4096U
#define CF_ROUND_UP(n)	(((n) + CF_GRANULE - 1) / CF_GRANULE * CF_GRANULE)
/* How long anything may take that has to end. */
#define CF_NF_MS	20000

#define CF_STATE(s)	(1U << (s))

/* The device, loading the module if need be. */
#define CF_NO_NETFS "no " CF_NETFS_DEVICE " (make TEST_MODULES=y)"
int cf_nf_open(void);

int cf_nf_volume(int nf, const char *key, const char *tag, const void *blob, size_t len);
int cf_nf_volume_end(int nf, int volume, const void *blob, size_t len, bool invalidate);
int cf_nf_volume_attached(int nf, int volume);

int cf_nf_cookie(int nf, int volume, const void *key, size_t key_len,
		 const void *aux, size_t aux_len, __u64 size);
int cf_nf_cookie_advice(int nf, int volume, const void *key, size_t key_len,
			const void *aux, size_t aux_len, __u64 size, unsigned int advice);
int cf_nf_use(int nf, int cookie, bool modify);
int cf_nf_unuse(int nf, int cookie);
int cf_nf_unuse_with(int nf, int cookie, const void *aux, size_t len, const __u64 *size);
int cf_nf_update(int nf, int cookie, const void *aux, size_t len, const __u64 *size);
int cf_nf_invalidate(int nf, int cookie, const void *aux, size_t len, __u64 size, bool dio);
int cf_nf_resize(int nf, int cookie, __u64 size);
int cf_nf_note_release(int nf, int cookie);

/* Waits until it is dropped. */
int cf_nf_relinquish(int nf, int cookie, bool retire);

/* See struct cf_netfs_wait; @info may be NULL. */
int cf_nf_wait(int nf, int cookie, unsigned int states, unsigned int set,
	       unsigned int clear, int ms, struct cf_netfs_wait *info);
int cf_nf_flags(int nf, int cookie);
int cf_nf_state(int nf, int cookie);

/* Use it and wait until the look-up has ended: 0, or -ENOBUFS if it is not cached. */
int cf_nf_attach(int nf, int cookie, bool modify);
/* Stop using it, and relinquish. */
int cf_nf_detach(int nf, int cookie, bool retire);

/* Acquire and attach a file by its name: the cookie, or why it is not cached. */
int cf_nf_file(int nf, int volume, const char *name, const void *aux, size_t aux_len,
	       __u64 size, bool modify);
/* Store all of a file of @size, and have it readable. */
int cf_nf_fill(int nf, int cookie, __u64 seed, __u64 size);

int cf_nf_begin(int nf, int cookie, bool write);
int cf_nf_end(int nf, int op);
/* See struct cf_netfs_end_late. */
int cf_nf_end_late(int nf, int op, int cookie, struct cf_netfs_end_late *a);

/* One ioctl each: on @op, or on an operation of its own on @cookie if that is 0. */
int cf_nf_read(int nf, int cookie, int op, void *buf, __u64 off, __u64 len, __u64 i_size,
	       unsigned int how, enum cf_netfs_hole hole, struct cf_netfs_read *a);
/* One granule of a file that is large enough, for a child to read: 0 or an errno. */
struct cf_nf_job {
	int	nf, cookie;
	__u64	seed, off;
};

int cf_nf_read_granule(void *job);
int cf_nf_write(int nf, int cookie, int op, const void *buf, __u64 off, __u64 len,
		__u64 i_size, unsigned int how, struct cf_netfs_write *a);
int cf_nf_query(int nf, int cookie, __u64 start, __u64 len, __u64 granularity,
		struct cf_netfs_query *a);

/* Ask where [start, start + len) is; @a tells more. */
int cf_nf_prepare_read(int nf, int cookie, __u64 start, __u64 len, __u64 i_size,
		       struct cf_netfs_read *a);

/* Store as the library does it, with @i_size and zeros behind that. */
int cf_nf_store(int nf, int cookie, __u64 seed, __u64 off, __u64 len, __u64 i_size);
/* Does the library write to caches by itself? cf_nf_store_subreq() needs that. */
#define CF_NO_STREAMS "netfs does not write to caches (struct netfs_io_stream)"
bool cf_nf_has_streams(int nf);
int cf_nf_store_subreq(int nf, int cookie, __u64 seed, __u64 off, __u64 len, __u64 i_size,
		       unsigned int extendable_to, struct cf_netfs_subreq *a);
/* The same of what was read and not written: CF_COPY_*. */
int cf_nf_store_copy(int nf, int cookie, __u64 seed, __u64 off, __u64 len, __u64 i_size,
		     unsigned int copy);

/* What became of a read. */
struct cf_fetch {
	__u64		cached, download, zeroes;	/* bytes */
	__u64		copy;		/* of @download: to be stored */
	unsigned int	slices;
	long long	bad;		/* first offset with wrong data from the cache, or -1 */
	int		err;		/* first error that the reader would get to see */
};

/*
 * Read [off, off + len) as the library does it, slice after slice, and compare what comes
 * from the cache. @map, if given, gets one letter for each granule: C, D or Z.
 */
int cf_nf_fetch(int nf, int cookie, __u64 seed, __u64 off, __u64 len, __u64 i_size,
		struct cf_fetch *f, char *map);

/* Read all of it from the cache: 0, -EBADMSG (wrong data), -ENODATA (not there). */
int cf_nf_check(int nf, int cookie, __u64 seed, __u64 off, __u64 len, __u64 i_size);
/* 0 if nothing of it comes from the cache, else -EEXIST. */
int cf_nf_absent(int nf, int cookie, __u64 off, __u64 len, __u64 i_size);

/* Completions that came never or more than once. */
int cf_nf_odd(int nf);

/* --- what is on disk, by our own reading of the format --- */

__u32 cf_nf_hash(__u32 salt, const void *data, size_t len);
__u32 cf_nf_volume_hash(const char *key);
/* Name of the file, "" if the key can't be cached; its length. */
size_t cf_nf_file_name(const void *key, size_t len, char name[512]);
/* CACHE/I<volume>/@xx/<name> */
int cf_nf_path(const char *dir, const char *volume, const void *key, size_t len,
	       char *path, size_t size);

#define CF_XATTR	"user.CacheFiles.cache"

/* Content byte of an object's attribute. */
#define CF_CLEAN	0
#define CF_DIRTY	4

/* The attribute's value as it has to be: its length. */
size_t cf_nf_xattr(unsigned char buf[300], __u64 size, unsigned char content,
		   const void *aux, size_t aux_len);

#endif /* CF_LIB_NETFS_H */
