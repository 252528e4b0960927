/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * /dev/cf_netfs: plays a network file system to the local cache. For tests; the
 * kernel module and the programs are built from the same tree, so this may change.
 *
 * Each open of the device has volumes and cookies of its own, numbered from 1; they go
 * with the last descriptor. ioctl(2) returns 0 or -1 with errno; what the cache said
 * is in the structure and does not make the call fail unless it is said here.
 */
#ifndef CF_NETFS_H
#define CF_NETFS_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define CF_NETFS_DEVICE		"/dev/cf_netfs"

/* One read or write at most. */
#define CF_NETFS_MAX_IO		(16U << 20)

/* What a read buffer holds where nothing has been read. */
#define CF_NETFS_POISON		0xa5

/* States of a cookie. */
enum cf_netfs_state {
	CF_QUIESCENT,
	CF_LOOKING_UP,
	CF_CREATING,
	CF_ACTIVE,
	CF_INVALIDATING,
	CF_FAILED,
	CF_LRU_DISCARDING,
	CF_WITHDRAWING,
	CF_RELINQUISHING,
	CF_DROPPED,
};

/* Flags of a cookie, as bits. */
#define CF_RETIRED		(1U << 1)
#define CF_IS_CACHING		(1U << 2)
#define CF_NO_DATA_TO_READ	(1U << 3)
#define CF_NEEDS_UPDATE		(1U << 4)
#define CF_HAS_BEEN_CACHED	(1U << 5)
#define CF_DISABLED		(1U << 6)
#define CF_LOCAL_WRITE		(1U << 7)
#define CF_HAVE_DATA		(1U << 13)

/* Advice for a cookie. */
#define CF_ADV_SINGLE_CHUNK	0x01
#define CF_ADV_WRITE_NOCACHE	0x02
#define CF_ADV_WANT_CACHE_SIZE	0x04

/* Where prepare_read says the data are. */
enum cf_netfs_source {
	CF_SOURCE_UNKNOWN,
	CF_SOURCE_ZEROES,
	CF_SOURCE_DOWNLOAD,
	CF_SOURCE_CACHE,
	CF_SOURCE_INVALID,
};

/* What to do about a hole, see fscache_read(). */
enum cf_netfs_hole {
	CF_HOLE_IGNORE,
	CF_HOLE_FAIL,
	CF_HOLE_CLEAR,			/* EOPNOTSUPP where netfs has it no more */
};

/* Flags of subrequests that are reported. */
#define CF_SREQ_COPY_TO_CACHE	(1U << 0)
#define CF_SREQ_FAILED		(1U << 1)
#define CF_SREQ_NEED_RETRY	(1U << 2)

struct cf_netfs_volume {
	char	key[256];		/* text, NUL terminated */
	char	tag[64];		/* of the cache; "" is any cache */
	__u8	coherency[255];
	__u8	coherency_len;
	__u32	id;			/* out */
	__u32	key_hash;		/* out */
};

/* Without cookies only (EBUSY), waits until the cache has let the volume go. */
struct cf_netfs_volume_end {
	__u32	id;
	__u32	invalidate;
	__u32	update;			/* @coherency is the new blob */
	__u32	timeout_ms;		/* ETIMEDOUT: the cookies' workers still hold it */
	__u8	coherency[256];
};

/* Is it attached? Waits while it is being created. */
struct cf_netfs_volume_info {
	__u32	id;
	__u32	timeout_ms;
	__u32	attached;		/* out */
	__u32	n_accesses;		/* out */
};

struct cf_netfs_cookie {
	__u32	volume;
	__u8	key[255];
	__u8	key_len;
	__u8	aux[255];
	__u8	aux_len;
	__u32	advice;
	__u64	size;
	__u32	id;			/* out */
	__u32	key_hash;		/* out */
};

#define CF_USE_MODIFY		(1U << 0)
#define CF_UNUSE_AUX		(1U << 1)	/* @aux is new */
#define CF_UNUSE_SIZE		(1U << 2)	/* @size is new */
#define CF_INVAL_DIO		(1U << 3)

/*
 * For use, unuse, update, invalidate, resize: what is not asked for is not looked at.
 * Auxiliary data have the length that the cookie was acquired with.
 */
struct cf_netfs_change {
	__u32	cookie;
	__u32	flags;
	__u64	size;
	__u8	aux[256];
};

/*
 * Wait until the cookie is in one of the states of the mask @states, with all of
 * @set and none of @clear among its flags; ETIMEDOUT says what it was at the end.
 * No state at all: any.
 */
struct cf_netfs_wait {
	__u32	cookie;
	__u32	states;
	__u32	set;
	__u32	clear;
	__u32	timeout_ms;
	__u32	state;			/* out, this and all below */
	__u32	flags;
	__u32	n_accesses;
	__u32	n_active;
	__u32	inval_counter;
	__u64	size;
};

/* Not while it is in use (EBUSY); with a timeout, waits until it is dropped. */
struct cf_netfs_relinquish {
	__u32	cookie;
	__u32	retire;
	__u32	timeout_ms;
	__u32	state;			/* out */
};

/* Begin an operation and keep it: ENOBUFS as fscache says it. */
struct cf_netfs_begin {
	__u32	cookie;
	__u32	write;
	__u32	id;			/* out */
};

/*
 * End @op, as the last one of @cookie, which is not in use. When fscache has counted the
 * access down and before it does anything else, @cookie is relinquished.
 */
struct cf_netfs_end_late {
	__u32	op;
	__u32	cookie;
	__u32	state;			/* out: how far the cookie came meanwhile */
	__u32	refs;			/* out: what kept it meanwhile, beside us */
};

#define CF_IO_PREPARE		(1U << 0)	/* ask prepare_read or prepare_write first */
#define CF_IO_ISSUE		(1U << 1)	/* then read or write, unless told not to */
#define CF_IO_SYNC		(1U << 2)	/* without a completion */
#define CF_IO_NEW		(1U << 3)	/* no space is allocated yet */
#define CF_IO_SINGLE		(1U << 4)	/* what is read has to come in one piece */

/* With @op of CF_NETFS_BEGIN, or @cookie for an operation of its own. */
struct cf_netfs_read {
	__u32	cookie;
	__u32	op;
	__u64	start;
	__u64	len;
	__u64	i_size;
	__u64	buf;			/* user memory of @len bytes */
	__u32	how;
	__u32	hole;
	__u32	timeout_ms;
	__u32	source;			/* out, this and all below */
	__u32	flags;
	__u32	completions;
	__u64	prepared;		/* length that prepare_read has left */
	__u64	left;			/* of the iterator, after submission */
	__s64	ret;			/* of submission */
	__s64	result;			/* of completion, or @ret with CF_IO_SYNC */
	__s32	seen;			/* what this library lets a reader see of @result */
	__u32	unused;
};

struct cf_netfs_write {
	__u32	cookie;
	__u32	op;
	__u64	start;
	__u64	len;
	__u64	i_size;
	__u64	buf;
	__u32	how;
	__u32	timeout_ms;
	__s64	prepare;		/* out, this and all below: of prepare_write */
	__u64	prepared_start;
	__u64	prepared_len;
	__u64	left;
	__s64	ret;
	__s64	result;
	__u32	completions;
};

/* What the library stores that was read and not written, as it marks that. */
#define CF_COPY_WRITEBACK	1	/* by a mark on the folio, when that is written back */
#define CF_COPY_READ		2	/* at the end of the read, by a request of its own */

/* By way of prepare_write_subreq and issue_write, as write-back does it. */
struct cf_netfs_subreq {
	__u32	cookie;
	__u32	extendable_to;		/* bytes behind @len that may be written, too */
	__u32	copy;			/* CF_COPY_*, or 0 for what was written */
	__u32	unused;
	__u64	start;
	__u64	len;
	__u64	i_size;
	__u64	buf;
	__u32	timeout_ms;
	__u32	flags;			/* out, this and all below */
	__u64	max_len;
	__u32	max_segs;
	__s32	error;
	__u64	transferred;
	__u64	new_len;
};

struct cf_netfs_query {
	__u32	cookie;
	__u32	op;
	__u64	start;
	__u64	len;
	__u64	granularity;
	__s64	ret;			/* out, this and all below */
	__s64	data_start;
	__u64	data_len;
};

/* What this descriptor has seen. */
struct cf_netfs_stats {
	__u64	submitted;
	__u64	odd;			/* not completed exactly once, so far */
};

#define CF_NETFS_ACQUIRE_VOLUME		_IOWR('~', 1, struct cf_netfs_volume)
#define CF_NETFS_RELINQUISH_VOLUME	_IOW('~', 2, struct cf_netfs_volume_end)
#define CF_NETFS_VOLUME_INFO		_IOWR('~', 3, struct cf_netfs_volume_info)
#define CF_NETFS_ACQUIRE_COOKIE		_IOWR('~', 4, struct cf_netfs_cookie)
#define CF_NETFS_RELINQUISH_COOKIE	_IOWR('~', 5, struct cf_netfs_relinquish)
#define CF_NETFS_USE			_IOW('~', 6, struct cf_netfs_change)
#define CF_NETFS_UNUSE			_IOW('~', 7, struct cf_netfs_change)
#define CF_NETFS_UPDATE			_IOW('~', 8, struct cf_netfs_change)
#define CF_NETFS_INVALIDATE		_IOW('~', 9, struct cf_netfs_change)
#define CF_NETFS_RESIZE			_IOW('~', 10, struct cf_netfs_change)
#define CF_NETFS_NOTE_RELEASE		_IOW('~', 11, struct cf_netfs_change)
#define CF_NETFS_WAIT			_IOWR('~', 12, struct cf_netfs_wait)
#define CF_NETFS_BEGIN			_IOWR('~', 13, struct cf_netfs_begin)
#define CF_NETFS_END			_IOW('~', 14, __u32)
#define CF_NETFS_READ			_IOWR('~', 15, struct cf_netfs_read)
#define CF_NETFS_WRITE			_IOWR('~', 16, struct cf_netfs_write)
#define CF_NETFS_WRITE_SUBREQ		_IOWR('~', 17, struct cf_netfs_subreq)
#define CF_NETFS_QUERY			_IOWR('~', 18, struct cf_netfs_query)
#define CF_NETFS_STATS			_IOR('~', 19, struct cf_netfs_stats)
#define CF_NETFS_END_LATE		_IOWR('~', 20, struct cf_netfs_end_late)

#endif /* CF_NETFS_H */
