/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Types and prototypes of the cachefiles backend, grouped by the file that
 * implements them.  The on-demand half has its own header, ondemand.h.
 *
 * Letters behind a field say what protects it:
 *
 *	I  set before the structure is published, constant after that
 *	C  cache->cmd_mutex
 *	L  cache->lists_lock
 *	O  object->lock
 *	V  volume->mutex
 *	S  cache->space_lock
 *	A  atomic
 *
 * Locks from the outside in:
 *
 *	cache->cmd_mutex
 *	  fscache_addremove_sem
 *	  object->marking
 *	    freeze protection
 *	      inode locks of the backing file system
 *	  volume->mutex
 *	    inode locks, and never freeze protection
 *	cache->lists_lock
 *	  (inside fscache_withdraw_cookie(): locks of fscache)
 *	cache->space_lock, object->lock, cookie->lock
 *						innermost, never nested in each other
 *	object->leaving
 *	  (inside fscache_end_cookie_access(): the lock of a workqueue)
 *
 * None of the spinlocks is held over anything that can sleep.  object->leaving is
 * taken in any context, with interrupts off, the others in process context only.
 * For the locks of the daemon protocol see ondemand.h.
 */
#ifndef CACHEFILES_INTERNAL_H
#define CACHEFILES_INTERNAL_H

#ifdef pr_fmt
#undef pr_fmt
#endif
#define pr_fmt(fmt) "CacheFiles: " fmt

#include <linux/completion.h>
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/fscache-cache.h>
#include <linux/mount.h>
#include <linux/mutex.h>
#include <linux/netfs.h>
#include <linux/refcount.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

struct cachefiles_ondemand;
struct cachefiles_queue;

/* Unit of what can be present in a cache file; part of the disk format. */
#define CACHEFILES_GRANULE	4096U

/* Number of fan-out directories of a volume; part of the disk format. */
#define CACHEFILES_FANOUTS	256U

/**
 * enum cachefiles_cache_state - Life of a cache
 * @CACHEFILES_CACHE_SETUP: The device is open, bind has not succeeded yet.
 * @CACHEFILES_CACHE_LIVE: Bound.
 * @CACHEFILES_CACHE_DEAD: The device was closed, or the backing file system
 *	failed.  Nothing new is cached or fetched.
 */
enum cachefiles_cache_state {
	CACHEFILES_CACHE_SETUP,
	CACHEFILES_CACHE_LIVE,
	CACHEFILES_CACHE_DEAD,
};

/**
 * struct cachefiles_limits - One resource of the backing file system
 * @run_percent: Culling stops when this much is available again (C).
 * @cull_percent: Culling starts when less than this is available (C).
 * @stop_percent: Nothing is allocated when less than this is available (C).
 * @run: @run_percent in units of the resource (S).
 * @cull: @cull_percent in units of the resource (S).
 * @stop: @stop_percent in units of the resource (S).
 */
struct cachefiles_limits {
	unsigned int	run_percent;
	unsigned int	cull_percent;
	unsigned int	stop_percent;
	u64		run;
	u64		cull;
	u64		stop;
};

/**
 * struct cachefiles_credit - Space that is known to be there
 * @expires: When to ask again at the latest, in jiffies.
 * @files: Inodes that may be allocated until then.
 * @bytes: Bytes that may be allocated until then.
 */
struct cachefiles_credit {
	unsigned long	expires;
	u64		files;
	u64		bytes;
};

/**
 * struct cachefiles_released - What has become free to be culled
 * @files: Number of files.
 * @sectors: Their size on disk, in units of 512 bytes.
 */
struct cachefiles_released {
	u32			files;
	u64			sectors;
};

/**
 * struct cachefiles_cache - One open of /dev/cachefiles
 * @ref: One for the open device, one for each volume, one for each object's
 *	on-demand half (A).
 * @state: enum cachefiles_cache_state; written by cachefiles_cache_set_state().
 * @failed: The backing file system has failed: nothing is stored any more.  Set by
 *	cachefiles_cache_io_error(), never cleared.
 * @cmd_mutex: Serialises bind and the other set-up commands.
 * @link: In the list of bound caches (fscache_addremove_sem).
 * @fscache: What fscache knows this cache as; NULL until bound (C, then I).
 * @mnt: Mount that holds the cache directory (I after bind).
 * @sb: The file system that data go to; if that of @mnt is stacked on others, which one is
 *	known once it was tried out.
 * @root: The directory given by ``dir`` (I after bind).
 * @store: Its sub-directory ``cache`` (I after bind).
 * @graveyard: Its sub-directory ``graveyard`` (I after bind).
 * @grave_counter: Makes names in the graveyard unique (A).
 * @cred: Credentials for every access to the backing file system (I after bind).
 * @secid_set: A security context was given (C).
 * @secid: That security context (C).
 * @dir_name: Argument of ``dir`` (C).
 * @tag: Argument of ``tag``, or NULL for the default (C).
 * @bind_failed: bind was tried in vain; @dir_name and @tag may be corrected (C).
 * @tried: The backing file system can tell what its files hold: it was tried out.
 *	Written by cachefiles_presence_check(), and if there was no space then, set
 *	by cachefiles_presence_ensure().
 * @volume_missed: A volume could not be attached; never cleared.
 * @closed_at: When the device was closed, in jiffies (I once DEAD).
 * @queue: On-demand mode and its request queue; NULL in original mode.  Set by
 *	a bind that succeeds, constant from then on.
 * @daemon_wait: Where poll() on the device waits.
 * @lists_lock: Guards @volumes, @objects and volume and object membership.
 * @volumes: Attached volumes (L).
 * @objects: Objects not withdrawn yet (L).
 * @space_lock: Guards the limits, @credit, @culling and what the daemon is told.
 * @files: Limits in inodes.
 * @blocks: Limits in blocks of @bsize bytes.
 * @bsize: Block size that the backing file system reports (I after bind).
 * @credit: What may be allocated before the file system is asked again (S).
 * @culling: Space is short; the daemon should cull (S).
 * @released: What was released since the daemon asked last (S).
 * @changes: Counts reasons for the daemon to ask again (S).
 * @changes_told: @changes when the daemon asked last (S).
 * @writing: Bytes on their way to the backing file system (A).
 * @creating: Files and directories that are being made (A).
 * @reads: Spans every read of an on-demand object from before the look that finds data
 *	present to the completion, so that whoever has to take data away can wait until
 *	nobody relies on them.
 * @teardown: Unbinds the cache after the device was closed.
 * @torn_down: @teardown is done.
 */
struct cachefiles_cache {
	refcount_t			ref;
	enum cachefiles_cache_state	state;
	bool				failed;
	struct mutex			cmd_mutex;	/* set-up commands */

	struct list_head		link;
	struct fscache_cache		*fscache;
	struct vfsmount			*mnt;
	struct super_block		*sb;
	struct dentry			*root;
	struct dentry			*store;
	struct dentry			*graveyard;
	atomic_t			grave_counter;
	const struct cred		*cred;
	bool				secid_set;
	u32				secid;
	char				*dir_name;
	char				*tag;
	bool				bind_failed;
	bool				tried;
	bool				volume_missed;
	unsigned long			closed_at;

	struct cachefiles_queue		*queue;
	wait_queue_head_t		daemon_wait;

	spinlock_t			lists_lock;	/* volumes, objects */
	struct list_head		volumes;
	struct list_head		objects;

	spinlock_t			space_lock;	/* limits, culling */
	struct cachefiles_limits	files;
	struct cachefiles_limits	blocks;
	unsigned int			bsize;
	struct cachefiles_credit	credit;
	bool				culling;
	struct cachefiles_released	released;
	u32				changes;
	u32				changes_told;
	atomic64_t			writing;
	atomic_t			creating;
	struct srcu_struct		reads;

	struct work_struct		teardown;
	struct completion		torn_down;
};

/**
 * struct cachefiles_volume - An attached volume
 * @cache: The cache it is in; counted (I).
 * @vcookie: The volume cookie (I).
 * @dentry: The volume's directory, marked in use (I).
 * @link: In cache->volumes (L).
 * @stopped: Nothing looks up cookies in it any more (L).
 * @fresh: None of its cookies was there before it was attached (I).
 * @missed: An object could not be attached or kept; never cleared.
 * @attached_at: When it was attached, in jiffies (I).
 * @missed_at: When @missed was set last, in jiffies.
 * @invalidations: By cookie->debug_id, how often a cookie had been invalidated when its
 *	object was detached, unless that is never.
 * @n_invalidations: Entries of @invalidations (A).
 * @mutex: Guards @fanout.
 * @fanout: Fan-out directories, marked in use; each is made and pinned when the
 *	first object needs it (V).
 */
struct cachefiles_volume {
	struct cachefiles_cache		*cache;
	struct fscache_volume		*vcookie;
	struct dentry			*dentry;
	struct list_head		link;
	bool				stopped;
	bool				fresh;
	bool				missed;
	unsigned long			attached_at;
	unsigned long			missed_at;
	struct xarray			invalidations;
	atomic_t			n_invalidations;
	struct mutex			mutex;		/* fanout */
	struct dentry			*fanout[CACHEFILES_FANOUTS];
};

/**
 * struct cachefiles_object - A cookie that is attached to this cache
 * @ref: One for the cookie, one for each caller that uses the object outside of
 *	fscache's access count (A).
 * @debug_id: For tracepoints (I).
 * @cookie: The data cookie; the object holds a reference (I).
 * @volume: The volume it is in; fscache keeps it as long as the cookie (I).
 * @link: In cache->objects, empty once withdrawn (L).
 * @lock: Guards @file, @replacing, and @dirty while there is a file.
 * @file: The backing file, or NULL (O).
 * @replacing: @after_thaw is going to replace @file, however often the cookie is invalidated
 *	until then.
 * @after_thaw: Does what has to wait for the backing file system to be thawed.
 * @marking: Held while @file is marked as being written.
 * @leaving: Held by an operation that gives back its access on the cookie.  Guards
 *	@inval_counter, @ops and @old_ops.
 * @cuts_begun: Counts what was taken away from the file, see presence.c (A).
 * @cuts_done: The same, counted when it was done (A).
 * @distrusted: Nobody knows what is in @file; cachefiles_presence_distrust() sets it.
 * @dirty: @file is marked as being written by the netfs, on the disk too if it was believed
 *	there before.
 * @inval_counter: Invalidations of the cookie that @file comes after; set by whoever makes
 *	the file, while there is none.
 * @ops: Operations of the netfs that have begun since the last of these invalidations.
 * @old_ops: Operations that had begun before that.
 * @old_copies: The netfs may have in memory what it read before that, and store it later;
 *	set by whoever makes the file, while there is none, never cleared.
 * @name: The name of the backing file (I).
 * @od: The daemon's side of the object; NULL unless the cache is on-demand (I).
 */
struct cachefiles_object {
	refcount_t			ref;
	unsigned int			debug_id;
	struct fscache_cookie		*cookie;
	struct cachefiles_volume	*volume;
	struct list_head		link;
	spinlock_t			lock;		/* file, replacing, dirty */
	struct file			*file;
	bool				replacing;
	struct work_struct		after_thaw;
	struct mutex			marking;	/* one at a time marks the file */
	spinlock_t			leaving;	/* the last steps of operations */
	atomic_t			cuts_begun;
	atomic_t			cuts_done;
	bool				distrusted;
	bool				dirty;
	unsigned int			inval_counter;
	unsigned int			ops;
	unsigned int			old_ops;
	bool				old_copies;
	char				*name;
	struct cachefiles_ondemand	*od;
};

static inline struct cachefiles_cache *
cachefiles_object_cache(const struct cachefiles_object *object)
{
	return object->volume->cache;
}

static inline struct cachefiles_object *cachefiles_cres_object(struct netfs_cache_resources *cres)
{
	return fscache_cres_cookie(cres)->cache_priv;
}

/* Would what the netfs writes be believed after a power cut, though it has not come to an end? */
static inline bool cachefiles_object_is_unmarked(const struct cachefiles_object *object)
{
	return test_bit(FSCACHE_COOKIE_LOCAL_WRITE, &object->cookie->flags) &&
	       !READ_ONCE(object->dirty);
}

/* Is the backing file system frozen, or about to be? */
static inline bool cachefiles_cache_is_frozen(const struct cachefiles_cache *cache)
{
	return READ_ONCE(READ_ONCE(cache->sb)->s_writers.frozen) != SB_UNFROZEN;
}

static inline enum cachefiles_cache_state
cachefiles_cache_state(const struct cachefiles_cache *cache)
{
	/* Pairs with cachefiles_cache_set_state(): LIVE means all is set up. */
	return smp_load_acquire(&cache->state);
}

/* What those outside are told if the kernel was to start something again: it was interrupted. */
static inline ssize_t cachefiles_outside_error(ssize_t ret)
{
	return ret <= -ERESTARTSYS && ret >= -ERESTART_RESTARTBLOCK ? -EINTR : ret;
}

/*
 * Has something been cut short by a signal to this task?  Most backing file systems do so
 * only if it is being killed.
 */
static inline bool cachefiles_was_interrupted(int error)
{
	return signal_pending(current) && cachefiles_outside_error(error) == -EINTR;
}

extern unsigned int cachefiles_debug_mask;

/* Tells of something unusual, if the administrator wants to know. */
#define cachefiles_debug(fmt, ...)						\
do {										\
	if (IS_ENABLED(CONFIG_CACHEFILES_DEBUG) && cachefiles_debug_mask)	\
		pr_info(fmt, ##__VA_ARGS__);					\
} while (0)

/*
 * cache.c
 */

struct cachefiles_cache *cachefiles_cache_alloc(void);
void cachefiles_cache_get(struct cachefiles_cache *cache);
void cachefiles_cache_put(struct cachefiles_cache *cache);
int cachefiles_cache_bind(struct cachefiles_cache *cache, const char *mode);
void cachefiles_cache_close(struct cachefiles_cache *cache);
void cachefiles_cache_io_error(struct cachefiles_cache *cache, const char *what, int error);
int cachefiles_cache_init(void);
void cachefiles_cache_exit(void);

/*
 * cull.c
 */
int cachefiles_cull_remove(struct cachefiles_cache *cache, const char *name);
int cachefiles_cull_inuse(struct cachefiles_cache *cache, const char *name);

/*
 * daemon.c
 */
ssize_t cachefiles_daemon_command(struct cachefiles_cache *cache,
				  const char __user *buffer, size_t len);

/*
 * device.c
 */
int cachefiles_device_init(void);
void cachefiles_device_exit(void);

/*
 * key.c
 */
char *cachefiles_key_name(struct fscache_cookie *cookie);

/*
 * io_read.c
 */
int cachefiles_io_begin_read(struct cachefiles_cache *cache);
void cachefiles_io_end_read(struct cachefiles_cache *cache, int token);
void cachefiles_io_wait_for_reads(struct cachefiles_cache *cache);
int cachefiles_io_read(struct file *file, struct kiocb *iocb, struct iov_iter *iter);
enum netfs_io_source cachefiles_io_source(struct cachefiles_object *object, struct file *file,
					  loff_t start, size_t *len, bool *copy);
int cachefiles_io_read_async(struct cachefiles_object *object, struct file *file, loff_t pos,
			     struct iov_iter *iter, unsigned int inval_counter,
			     netfs_io_terminated_t term_func, void *term_priv);
int cachefiles_io_occupancy(struct cachefiles_object *object, struct file *file, loff_t start,
			    size_t len, size_t granularity, loff_t *data_start,
			    size_t *data_len);

/*
 * io_write.c
 */
int cachefiles_io_write_init(void);
void cachefiles_io_write_exit(void);
int cachefiles_io_delegate(int (*run)(void *data), void *data);
int cachefiles_io_delegate_any(int (*run)(void *data), void *data);
int cachefiles_io_insist(int (*run)(void *data), void *data);
void cachefiles_io_queue_frozen(struct work_struct *work);
ssize_t cachefiles_io_write(struct cachefiles_object *object, struct file *file, loff_t pos,
			    struct iov_iter *from);
int cachefiles_io_prepare_write(struct cachefiles_object *object, struct file *file,
				loff_t *start, size_t *len, size_t upper_len, loff_t i_size);
int cachefiles_io_write_async(struct cachefiles_object *object, struct file *file, loff_t pos,
			      struct iov_iter *from, netfs_io_terminated_t term_func,
			      void *term_priv);

/*
 * namei.c
 */
bool cachefiles_namei_is_marked(struct dentry *dentry);
int cachefiles_namei_make_dir(struct cachefiles_cache *cache, struct dentry *parent,
			      const char *name);
struct dentry *cachefiles_namei_get_dir(struct cachefiles_cache *cache, struct dentry *parent,
					const char *name, bool make, bool *is_new);
bool cachefiles_namei_ignores_case(struct cachefiles_cache *cache);
void cachefiles_namei_put_dir(struct dentry *dentry);
struct dentry *cachefiles_namei_fanout(struct cachefiles_object *object, bool make);
struct file *cachefiles_namei_open(struct cachefiles_object *object);
struct file *cachefiles_namei_tmpfile(struct cachefiles_cache *cache, struct dentry *dir);
int cachefiles_namei_link(struct cachefiles_object *object, struct file *file, bool *replaces);
void cachefiles_namei_release(struct cachefiles_cache *cache, struct file *file, bool named);
int cachefiles_namei_unlink(struct cachefiles_object *object, struct file *file);
int cachefiles_namei_bury(struct cachefiles_cache *cache, struct dentry *parent,
			  struct dentry *victim);
int cachefiles_namei_cull(struct cachefiles_cache *cache, struct dentry *parent,
			  struct dentry *victim);

/*
 * netfs.c
 */
bool cachefiles_netfs_begin(struct netfs_cache_resources *cres, enum fscache_want_state want);
void cachefiles_netfs_end_operation(struct netfs_cache_resources *cres);
int cachefiles_netfs_read(struct netfs_cache_resources *cres, loff_t start_pos,
			  struct iov_iter *iter, enum netfs_read_from_hole read_hole,
			  netfs_io_terminated_t term_func, void *term_func_priv);
int cachefiles_netfs_write(struct netfs_cache_resources *cres, loff_t start_pos,
			   struct iov_iter *iter, netfs_io_terminated_t term_func,
			   void *term_func_priv);
enum netfs_io_source cachefiles_netfs_prepare_read(struct netfs_io_subrequest *subreq,
						   unsigned long long i_size);
int cachefiles_netfs_prepare_write(struct netfs_cache_resources *cres, loff_t *start,
				   size_t *len, size_t upper_len, loff_t i_size,
				   bool no_space_allocated_yet);
int cachefiles_netfs_query_occupancy(struct netfs_cache_resources *cres, loff_t start,
				     size_t len, size_t granularity, loff_t *data_start,
				     size_t *data_len);
struct file *cachefiles_cres_file(struct netfs_cache_resources *cres,
				  enum fscache_want_state want);
void cachefiles_netfs_terminated(netfs_io_terminated_t term_func, void *priv, ssize_t ret);
void cachefiles_netfs_read_terminated(netfs_io_terminated_t read_func, void *priv, ssize_t ret);

/*
 * netfs_ops.c
 */
extern const struct netfs_cache_ops cachefiles_netfs_ops;

/*
 * object.c
 */
extern const struct fscache_cache_ops cachefiles_cache_ops;
void cachefiles_object_get(struct cachefiles_object *object);
void cachefiles_object_put(struct cachefiles_object *object);
struct file *cachefiles_object_get_file(struct cachefiles_object *object);
bool cachefiles_object_begin_io(struct cachefiles_object *object, unsigned int inval_counter);
void cachefiles_object_end_io_locked(struct cachefiles_object *object, unsigned int inval_counter);
bool cachefiles_object_has_old_ops(struct cachefiles_object *object);
struct file *cachefiles_object_get_valid_file(struct cachefiles_object *object,
					      unsigned int inval_counter);
int cachefiles_object_attach(struct cachefiles_object *object, loff_t size);
void cachefiles_object_mark(struct cachefiles_object *object);
void cachefiles_object_withdraw_all(struct cachefiles_cache *cache);
int cachefiles_object_init(void);
void cachefiles_object_exit(void);

/*
 * presence.c
 */
loff_t cachefiles_presence_next_data(struct file *file, loff_t pos, loff_t end);
loff_t cachefiles_presence_next_hole(struct file *file, loff_t size, loff_t pos, loff_t end);
bool cachefiles_presence_is_full(struct cachefiles_object *object, struct file *file,
				 loff_t pos, loff_t end);
loff_t cachefiles_presence_seek(struct file *file, loff_t size, loff_t pos, int whence);
bool cachefiles_presence_is_lost(const struct file *file);
int cachefiles_presence_begin(struct cachefiles_object *object);
bool cachefiles_presence_stays(struct cachefiles_object *object, int begun);
void cachefiles_presence_begin_cut(struct cachefiles_object *object);
void cachefiles_presence_end_cut(struct cachefiles_object *object);
void cachefiles_presence_forget(struct cachefiles_object *object, struct file *file, loff_t pos,
				loff_t end);
void cachefiles_presence_distrust(struct cachefiles_object *object, struct file *file,
				  const char *what, int error);
int cachefiles_presence_check(struct cachefiles_cache *cache);
int cachefiles_presence_ensure(struct cachefiles_cache *cache);

/*
 * security.c
 */
struct cred *cachefiles_security_prepare(const struct cachefiles_cache *cache);
int cachefiles_security_set_creator(struct cred *cred, struct dentry *root);

/* To the end of the scope, nothing is allocated into another file system. */
DEFINE_LOCK_GUARD_0(cachefiles_nofs, _T->flags = memalloc_nofs_save(),
		    memalloc_nofs_restore(_T->flags), unsigned int flags)

/*
 * A worker whose allocations enter another file system might wait there for a folio that is
 * on its way to the cache, and that for the worker; lockdep does not see it.
 */
static inline const struct cred *cachefiles_override_creds(const struct cachefiles_cache *cache)
{
	if (IS_ENABLED(CONFIG_CACHEFILES_DEBUG))
		WARN_ON_ONCE((current->flags & PF_WQ_WORKER) &&
			     !(current->flags & PF_MEMALLOC_NOFS));
	return override_creds(cache->cred);
}

EXTEND_CLASS(override_creds, _cachefiles,
	     cachefiles_override_creds(cache), struct cachefiles_cache *cache)

/* The statement or block that follows runs with the credentials of @cache. */
#define with_cache_creds(cache) \
	scoped_class(override_creds_cachefiles, __UNIQUE_ID(cred), cache)

/*
 * space.c
 */
int cachefiles_space_init(struct cachefiles_cache *cache);
int cachefiles_space_recompute(struct cachefiles_cache *cache);
int cachefiles_space_evaluate(struct cachefiles_cache *cache);
int cachefiles_space_begin_create(struct cachefiles_cache *cache);
void cachefiles_space_end_create(struct cachefiles_cache *cache);
int cachefiles_space_begin_write(struct cachefiles_cache *cache, u64 bytes);
void cachefiles_space_end_write(struct cachefiles_cache *cache, u64 bytes);

/*
 * stat.c
 */
void cachefiles_stat_changed_locked(struct cachefiles_cache *cache);
void cachefiles_stat_wake(struct cachefiles_cache *cache);
void cachefiles_stat_released(struct cachefiles_cache *cache, u64 sectors);
ssize_t cachefiles_stat_read(struct cachefiles_cache *cache, char __user *buffer, size_t len);
__poll_t cachefiles_stat_poll(struct cachefiles_cache *cache);

/*
 * volume.c
 */
void cachefiles_volume_acquire(struct fscache_volume *vcookie);
void cachefiles_volume_free(struct fscache_volume *vcookie);
void cachefiles_volume_stop_all(struct cachefiles_cache *cache);
void cachefiles_volume_free_all(struct cachefiles_cache *cache);
void cachefiles_volume_note_invalidations(struct cachefiles_volume *volume,
					  const struct fscache_cookie *cookie,
					  unsigned int counter);
unsigned int cachefiles_volume_noted_invalidations(struct cachefiles_volume *volume,
						   const struct fscache_cookie *cookie);
struct dentry *cachefiles_volume_fanout(struct cachefiles_volume *volume, u32 key_hash,
					bool make);

/*
 * xattr.c
 */
int cachefiles_xattr_probe(struct cachefiles_cache *cache, struct file *file);
int cachefiles_xattr_set_object(struct cachefiles_object *object, struct file *file, bool dirty);
int cachefiles_xattr_check_object(struct cachefiles_object *object, struct file *file);
int cachefiles_xattr_remove_object(struct cachefiles_object *object, struct file *file);
int cachefiles_xattr_set_volume(struct cachefiles_volume *volume);
int cachefiles_xattr_check_volume(struct cachefiles_volume *volume);
int cachefiles_xattr_remove_volume(struct cachefiles_volume *volume);

#endif /* CACHEFILES_INTERNAL_H */
