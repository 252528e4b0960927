/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * On-demand mode: types, locking rules, and the calls between it and the base.
 *
 * Overview
 * ========
 *
 * A netfs reads an object.  Where the backing file has a hole, a READ is queued
 * for the daemon, and the read goes on when the daemon has answered it.  Nothing
 * in here sleeps for the daemon: a read is a &struct cachefiles_io that moves
 * from list to list and calls back when it is done.
 *
 * For each object there is a &struct cachefiles_ondemand, "od".  It outlives the
 * object as long as the daemon holds descriptors of it, so that dropping an
 * object never waits for anybody.
 *
 * States of an od
 * ===============
 *
 *	CLOSED		The daemon holds no current descriptor.  Deliverable when
 *			somebody wants the object opened: the daemon's read(2)
 *			then makes it OPENING or REOPENING and hands out an OPEN.
 *	OPENING		The first OPEN is on its way or being worked on.
 *	OPEN		copen has succeeded, the descriptor is there.
 *	REOPENING	As OPENING, but backing file and size are known already.
 *	DROPPING	The object is gone.  Only a CLOSE may be left to deliver.
 *
 * CLOSED means anon == NULL, OPEN means anon != NULL.  @attached says that a
 * copen has succeeded once: from then on present data are read in any state.
 *
 * States of a request
 * ===================
 *
 *	IDLE		On no list of the protocol.
 *	BLOCKED		A read that waits for its object to be opened.
 *	FOLLOWING	A read that waits for a READ of somebody else.
 *	QUEUED		To be delivered.
 *	COPYING		A daemon thread is copying it to its buffer.
 *	SENT		Delivered; can be answered.
 *	ATTACHING	An OPEN whose copen is being carried out.  Back to SENT if
 *			the task that does it is killed or interrupted, and on to
 *			QUEUED if somebody has taken over.
 *	DONE		Finished.  Exactly one caller moves a request here.
 *
 * Locking
 * =======
 *
 *	od->attach		mutex, held by copen while it attaches the file.
 *				Dropping an object takes it to wait for that.
 *	queue->lock		spinlock, process context.  Guards everything
 *				marked Q.  Wait queue and xarray locks nest in it,
 *				nothing else does: no allocation, no user copy, no
 *				fput(), no call into fscache or netfs under it.
 *	object->lock		never together with queue->lock.
 *
 * Each section under queue->lock is O(1), O(log n) or linear in the requests of
 * one object; only restore and shutdown walk all objects.
 *
 * A function that finishes requests collects them on a list of its caller, who
 * calls cachefiles_req_run_done() after unlocking.
 *
 * References
 * ==========
 *
 * An od is referenced by its object, by each io, by each descriptor, by the armed
 * reaper, and by a daemon thread that reads a message or answers an OPEN.  An io is
 * referenced by whoever has to complete it and by a daemon thread that copies it.
 * The netfs holds an access on the cookie until an io has called back, hence an io
 * may use its object without a reference.
 */
#ifndef CACHEFILES_ONDEMAND_H
#define CACHEFILES_ONDEMAND_H

#include <linux/list.h>
#include <linux/rbtree.h>
#include <linux/uio.h>
#include <linux/xarray.h>
#include "force.h"
#include "internal.h"

/* A READ asks for at most this many bytes, and none crosses a multiple of it. */
#define CACHEFILES_FETCH_MAX	SZ_256K

/* How often an object looks whether tasks that wait for its READs still live. */
#define CACHEFILES_REAP_INTERVAL	(HZ / 4)

enum cachefiles_od_state {
	CACHEFILES_OD_CLOSED,
	CACHEFILES_OD_OPENING,
	CACHEFILES_OD_OPEN,
	CACHEFILES_OD_REOPENING,
	CACHEFILES_OD_DROPPING,
	CACHEFILES_OD_NR_STATES
};

enum cachefiles_req_state {
	CACHEFILES_REQ_IDLE,
	CACHEFILES_REQ_BLOCKED,
	CACHEFILES_REQ_FOLLOWING,
	CACHEFILES_REQ_QUEUED,
	CACHEFILES_REQ_COPYING,
	CACHEFILES_REQ_SENT,
	CACHEFILES_REQ_ATTACHING,
	CACHEFILES_REQ_DONE,
	CACHEFILES_REQ_NR_STATES
};

/**
 * cachefiles_ondemand_slice - Cut a slice of an on-demand object
 * @start: First byte.
 * @len: Length; shortened.
 *
 * Slices end where READs do, so that one that fails takes no other with it.
 */
static inline void cachefiles_ondemand_slice(loff_t start, size_t *len)
{
	size_t room = CACHEFILES_FETCH_MAX - (start & (CACHEFILES_FETCH_MAX - 1));

	*len = min(*len, room);
}

#if IS_ENABLED(CONFIG_CACHEFILES_ONDEMAND)

struct cachefiles_io;

/**
 * struct cachefiles_ids - Numbers by which a daemon names something
 * @used: What goes by them, with a lock of its own.
 * @next: The one to try next (lock of @used).
 * @min: The lowest (I).
 * @max: The highest (I).
 * @force: enum cachefiles_force: how a test names them (I).
 */
struct cachefiles_ids {
	struct xarray	used;
	u32		next;
	u32		min;
	u32		max;
	u8		force;
};

/**
 * struct cachefiles_queue - The daemon protocol of one cache
 * @lock: Guards everything marked Q in this file.
 * @ready: ods with something to deliver, in the order of delivery (Q).
 * @all: ods whose object is alive (Q).
 * @msg_ids: Requests by msg_id, for finding the request an answer is meant for.  One
 *	that is not on its way to the daemon may be found, but takes no answer.
 * @object_ids: Descriptors by object_id, to keep ids unique.
 * @orphans: Writes of the daemon that go on although their object was dropped (Q).
 * @orphan_wait: Where the next object with that file waits for their end.
 * @dead: Nothing is queued or delivered any more (Q).
 * @wait: Where poll() on the device waits; cache->daemon_wait (I).
 */
struct cachefiles_queue {
	spinlock_t		lock;		/* everything marked Q */
	struct list_head	ready;
	struct list_head	all;
	struct cachefiles_ids	msg_ids;
	struct cachefiles_ids	object_ids;
	struct list_head	orphans;
	wait_queue_head_t	orphan_wait;
	bool			dead;
	wait_queue_head_t	*wait;
};

/**
 * struct cachefiles_req - One request of the daemon protocol
 * @state: enum cachefiles_req_state; cachefiles_req_set_state() writes it (Q).
 * @opcode: enum cachefiles_opcode (I).
 * @id: msg_id while it is in queue->msg_ids; kept when it is queued again (Q).
 * @object_id: Opening of the object it was delivered under (Q).
 * @error: Its result, 0 or negative (Q until DONE, then constant).
 * @od: The object it belongs to; counted for an io (I).
 * @reader: Process that it was delivered to, counted; NULL if that was taken over while
 *	the request is ATTACHING (Q).
 * @link: In one of the od's lists, or in a list of finished requests (Q).
 */
struct cachefiles_req {
	u8				state;
	u8				opcode;
	u32				id;
	u32				object_id;
	int				error;
	struct cachefiles_ondemand	*od;
	struct pid			*reader;
	struct list_head		link;
};

/**
 * struct cachefiles_ondemand - The daemon's side of an object
 * @ref: See "References" above (A).
 * @debug_id: That of the object (I).
 * @cache: The cache; counted (I).
 * @queue: Its queue (I).
 * @object: The object, or NULL once it is dropped; borrowed (Q).
 * @state: enum cachefiles_od_state; cachefiles_od_set_state() writes it (Q).
 * @attached: copen has succeeded once, @size is valid (Q, never cleared).
 * @wanted: An OPEN is wanted though no read waits for it (Q).
 * @reaping: @reaper is armed (Q).
 * @awaited: A read has waited for the OPEN (Q).
 * @untold: Why the first OPEN failed, if nobody was there to be told (Q).
 * @fetches: Counts finished READs, to notice one between look and lock (Q).
 * @fills: Writes of the daemon that are going on (Q).
 * @cancels: Counts cancellations; a read that began before one is ended (Q).
 * @size: What copen said, in bytes (Q).
 * @anon: The current descriptor, or NULL; borrowed (Q).
 * @open: The OPEN (Q).
 * @close: The CLOSE; there is at most one, so a drop can't fail (Q).
 * @queued: READs to be delivered, oldest first (Q).
 * @sent: READs being delivered or delivered, oldest first (Q).
 * @blocked: Reads that wait for the object to be opened (Q).
 * @fetching: READs in @queued and @sent by position; they don't overlap (Q).
 * @ready_link: In queue->ready (Q).
 * @all_link: In queue->all (Q).
 * @attach: Held while copen attaches the backing file.
 * @reaper: Looks for tasks that died; holds a reference while armed.
 * @keys_len: Length of @keys (I).
 * @volume_key_size: Length of the volume key in @keys, with its NUL (I).
 * @keys: Volume key, NUL, cookie key: the tail of an OPEN message (I).
 */
struct cachefiles_ondemand {
	refcount_t			ref;
	unsigned int			debug_id;
	struct cachefiles_cache		*cache;
	struct cachefiles_queue		*queue;
	struct cachefiles_object	*object;
	enum cachefiles_od_state	state;
	bool				attached;
	bool				wanted;
	bool				reaping;
	bool				awaited;
	int				untold;
	u32				fetches;
	u32				cancels;
	struct list_head		fills;
	loff_t				size;
	struct cachefiles_anon		*anon;
	struct cachefiles_req		open;
	struct cachefiles_req		close;
	struct list_head		queued;
	struct list_head		sent;
	struct list_head		blocked;
	struct rb_root			fetching;
	struct list_head		ready_link;
	struct list_head		all_link;
	struct mutex			attach;		/* copen at work */
	struct delayed_work		reaper;
	u16				keys_len;
	u16				volume_key_size;
	u8				keys[] __counted_by(keys_len);
};

/**
 * struct cachefiles_io - A contiguous piece of a read
 * @req: Its part in the protocol.
 * @ref: One for completing it, one for submitting the read of the backing file, one
 *	for a daemon thread that copies it (A).
 * @first: The first piece of the same read; it collects the result (I).
 * @object: What is read (I).
 * @task: The task that reads; counted (I).
 * @cancels: od->cancels when the read began (I).
 * @doomed: @task was seen dying (Q).
 * @fetched: A READ for the start of the piece has been answered.
 * @again: It was asked for once more, since what was brought may have been taken away.
 * @cuts: What cachefiles_presence_begin() returned when it was asked for.
 * @reading: What cachefiles_io_begin_read() returned.
 * @node: In od->fetching (Q).
 * @followers: Pieces that wait for this READ (Q).
 * @pos: First byte, a multiple of CACHEFILES_GRANULE.
 * @len: Bytes; 0 in a barrier, which waits for the object to be open.
 * @iter: Where the data go.
 * @tail: What of it lies behind the end of the object.
 * @iocb: The read from the backing file.
 * @work: Goes on with it where no signal does any harm.
 * @pending: First piece: number of pieces not complete (A).
 * @error: First piece: the first error met.
 * @total: First piece: bytes wanted in all (I).
 * @inval_counter: First piece: invalidations when the operation began (I).
 * @term_func: First piece: called once with the result (I).
 * @term_priv: First piece: its argument (I).
 */
struct cachefiles_io {
	struct cachefiles_req		req;
	refcount_t			ref;
	struct cachefiles_io		*first;
	struct cachefiles_object	*object;
	struct pid			*task;
	u32				cancels;
	bool				doomed;
	bool				fetched;
	bool				again;
	int				cuts;
	int				reading;
	struct rb_node			node;
	struct list_head		followers;
	loff_t				pos;
	size_t				len;
	struct iov_iter			iter;
	struct iov_iter			tail;
	union {
		struct kiocb		iocb;
		struct work_struct	work;
	};

	atomic_t			pending;
	int				error;
	size_t				total;
	unsigned int			inval_counter;
	netfs_io_terminated_t		term_func;
	void				*term_priv;
};

/**
 * struct cachefiles_fill - A write of the daemon that is going on
 * @od: What is written; its descriptor keeps it (I).
 * @link: In od->fills, or in queue->orphans once the object is dropped (Q).
 * @pos: First byte.
 * @end: Behind the last byte.
 *
 * Until it is over, what it writes is not data: what the backing file says about
 * the range may be taken back if the write fails.  That happens only after the
 * reads have ended that began before, so a read that begins, looks, and finds no
 * fill in its way can rely on what it saw.  An object that comes after one that was
 * dropped waits for the writes to that one before it takes over their file.
 */
struct cachefiles_fill {
	struct cachefiles_ondemand	*od;
	struct list_head		link;
	loff_t				pos;
	loff_t				end;
};

/**
 * struct cachefiles_anon - A descriptor that a daemon holds of an object
 * @od: What it belongs to; counted (I).
 * @object_id: The id of this opening (I).
 * @fd: Its number in the process that read the OPEN (I).
 *
 * It is current if od->anon points to it, else it is stale: good for nothing but
 * to be closed.
 */
struct cachefiles_anon {
	struct cachefiles_ondemand	*od;
	u32				object_id;
	u32				fd;
};

static inline struct cachefiles_io *cachefiles_req_io(struct cachefiles_req *req)
{
	return container_of(req, struct cachefiles_io, req);
}

/*
 * What the base calls.
 */
int cachefiles_ondemand_init(void);
void cachefiles_ondemand_exit(void);
int cachefiles_ondemand_init_cache(struct cachefiles_cache *cache);
void cachefiles_ondemand_free_cache(struct cachefiles_cache *cache);
void cachefiles_ondemand_shutdown(struct cachefiles_cache *cache);
int cachefiles_ondemand_create(struct cachefiles_object *object);
void cachefiles_ondemand_want(struct cachefiles_object *object);
void cachefiles_ondemand_drop(struct cachefiles_object *object);
void cachefiles_ondemand_put(struct cachefiles_ondemand *od);
int cachefiles_ondemand_read(struct cachefiles_object *object, loff_t pos, struct iov_iter *iter,
			     unsigned int inval_counter, netfs_io_terminated_t term_func,
			     void *term_priv);
void cachefiles_ondemand_cancel(struct cachefiles_object *object);
ssize_t cachefiles_ondemand_daemon_read(struct cachefiles_cache *cache, char __user *buffer,
					size_t len);
__poll_t cachefiles_ondemand_daemon_poll(struct cachefiles_cache *cache);
int cachefiles_ondemand_command(struct cachefiles_cache *cache, const char *name, char *args);

/*
 * ondemand.c
 */
extern struct workqueue_struct *cachefiles_ondemand_wq;
extern struct workqueue_struct *cachefiles_reap_wq;
void cachefiles_od_set_state(struct cachefiles_ondemand *od, enum cachefiles_od_state state);
void cachefiles_od_get(struct cachefiles_ondemand *od);
void cachefiles_od_requeue_open_locked(struct cachefiles_ondemand *od);
void cachefiles_od_end_reads_locked(struct cachefiles_ondemand *od, int error,
				    struct list_head *done);

/*
 * request.c
 */
void cachefiles_req_set_state(struct cachefiles_req *req, enum cachefiles_req_state state);
void cachefiles_req_set_reader_locked(struct cachefiles_req *req, struct pid *reader);
bool cachefiles_req_finish_locked(struct cachefiles_req *req, int error, struct list_head *done);
void cachefiles_req_release_locked(struct cachefiles_req *req, struct list_head *done);
struct cachefiles_req *cachefiles_req_find_locked(struct cachefiles_queue *queue, u32 id,
						  u8 opcode);
void cachefiles_req_run_done(struct list_head *done);

/*
 * fetch.c
 */
void cachefiles_fetch_continue(struct cachefiles_io *io);
void cachefiles_fetch_unlink_locked(struct cachefiles_io *io);
void cachefiles_fetch_work(struct work_struct *work);

/*
 * io.c
 */
int cachefiles_io_init(void);
void cachefiles_io_exit(void);
struct cachefiles_io *cachefiles_io_alloc(struct cachefiles_ondemand *od,
					  struct cachefiles_object *object, loff_t pos,
					  const struct iov_iter *iter);
void cachefiles_io_put(struct cachefiles_io *io);
void cachefiles_io_complete(struct cachefiles_io *io, int error);
void cachefiles_io_start(struct cachefiles_io *io, struct file *file, loff_t size);
int cachefiles_io_cut(struct cachefiles_io *io, loff_t at, struct list_head *todo);
void cachefiles_io_clip(struct cachefiles_io *io, loff_t end);
void cachefiles_io_defer(struct cachefiles_io *io);
bool cachefiles_io_has_dying_helper(const struct cachefiles_io *io);
bool cachefiles_io_was_disturbed(const struct cachefiles_io *io);

/*
 * reap.c
 */
void cachefiles_reap_arm_locked(struct cachefiles_ondemand *od);
void cachefiles_reap_work(struct work_struct *work);

/*
 * queue.c
 */
void cachefiles_queue_update(struct cachefiles_ondemand *od);
void cachefiles_queue_wake(struct cachefiles_queue *queue);
void cachefiles_queue_wake_od(struct cachefiles_ondemand *od);

/*
 * ids.c
 */
void cachefiles_ids_init(struct cachefiles_ids *ids, u32 min, u32 max,
			 enum cachefiles_force force);
void cachefiles_ids_destroy(struct cachefiles_ids *ids);
int cachefiles_ids_insert(struct cachefiles_ids *ids, void *entry, u32 *id, gfp_t gfp);
u32 cachefiles_ids_pass(struct cachefiles_ids *ids);

/*
 * anon.c
 */
struct file *cachefiles_anon_open(struct cachefiles_ondemand *od, u32 fd,
				  struct cachefiles_anon **anon);
int cachefiles_anon_wait_for_orphans(struct cachefiles_ondemand *od);

/*
 * reply.c
 */
int cachefiles_reply_copen(struct cachefiles_cache *cache, char *args);
int cachefiles_reply_read_complete(struct cachefiles_anon *anon, u32 id);

/*
 * failover.c
 */
bool cachefiles_failover_reopens(const struct cachefiles_ondemand *od);
void cachefiles_failover_fd_gone_locked(struct cachefiles_ondemand *od, struct list_head *done);
int cachefiles_failover_restore(struct cachefiles_cache *cache);

#else /* CONFIG_CACHEFILES_ONDEMAND */

static inline int cachefiles_ondemand_init(void)
{
	return 0;
}

static inline void cachefiles_ondemand_exit(void)
{
}

static inline int cachefiles_ondemand_init_cache(struct cachefiles_cache *cache)
{
	return -EOPNOTSUPP;
}

static inline void cachefiles_ondemand_free_cache(struct cachefiles_cache *cache)
{
}

static inline void cachefiles_ondemand_shutdown(struct cachefiles_cache *cache)
{
}

static inline int cachefiles_ondemand_create(struct cachefiles_object *object)
{
	return object->cookie->advice & FSCACHE_ADV_WANT_CACHE_SIZE ? -EINVAL : 0;
}

static inline void cachefiles_ondemand_want(struct cachefiles_object *object)
{
}

static inline void cachefiles_ondemand_drop(struct cachefiles_object *object)
{
}

static inline void cachefiles_ondemand_put(struct cachefiles_ondemand *od)
{
}

static inline int cachefiles_ondemand_read(struct cachefiles_object *object, loff_t pos,
					   struct iov_iter *iter, unsigned int inval_counter,
					   netfs_io_terminated_t term_func, void *term_priv)
{
	return -EOPNOTSUPP;
}

static inline void cachefiles_ondemand_cancel(struct cachefiles_object *object)
{
}

static inline ssize_t cachefiles_ondemand_daemon_read(struct cachefiles_cache *cache,
						      char __user *buffer, size_t len)
{
	return -EOPNOTSUPP;
}

static inline __poll_t cachefiles_ondemand_daemon_poll(struct cachefiles_cache *cache)
{
	return 0;
}

static inline int cachefiles_ondemand_command(struct cachefiles_cache *cache, const char *name,
					      char *args)
{
	return -EOPNOTSUPP;
}

#endif /* CONFIG_CACHEFILES_ONDEMAND */

#endif /* CACHEFILES_ONDEMAND_H */
