/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the parts of the fuzzer share.
 *
 * Operation N of a thread follows from the seed, the thread and N, and from nothing
 * else: what others do, and what became of earlier operations, changes its result but
 * not what is tried.  So a thread that was killed goes on behind the operation that it
 * was killed in, and any operation can be issued again by its number.
 *
 * Everything that is to survive a process is in shared memory.
 */
#ifndef CF_FUZZ_H
#define CF_FUZZ_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/cache.h"
#include "lib/daemon.h"
#include "lib/netfs.h"

#define FZ_THREADS	32
#define FZ_PROCESSES	16
#define FZ_OPS		96
#define FZ_RING		50		/* operations of a thread that are remembered */
#define FZ_TEXT		112
#define FZ_ERRNOS	160		/* results are counted by errno; 0 is success */

#define FZ_BUF		(512U << 10)
#define FZ_PAGE		4096U

/* Volumes of the main cache, and caches that threads bind and end themselves. */
#define FZ_VOLUMES	3
#define FZ_LOCALS	3
#define FZ_NAMES	96		/* files of a volume that are asked for */
#define FZ_INLINE_KEY	16		/* bytes of a name that fscache keeps in the cookie */
#define FZ_KEYS		4		/* files of a thread, in original mode */
#define FZ_FILE_MAX	(512U << 10)	/* no file is larger */

#define FZ_RUNNING	1000		/* result of an operation that has none yet */
#define FZ_KILLED	1001

/* What a process does. */
#define FZ_DAEMON	1U		/* reads the devices, answers, misbehaves; ends caches */
#define FZ_READER	2U		/* mounts and reads */
#define FZ_NETFS	4U		/* plays a network file system */
#define FZ_NR_ROLES	3

struct fz_entry {
	uint64_t	n;
	int		op;
	int		ret;
	char		text[FZ_TEXT];
};

struct fz_key {
	unsigned int	version;	/* of the file on the server; never goes back */
	uint64_t	size, cut;	/* zeros from @cut to @size */
	bool		resized;	/* so it is another version when it is acquired again */
};

/* One thread, whatever process it is in at the moment. */
struct fz_slot {
	uint64_t	n;		/* the operation to come, or that is under way */
	long long	since;		/* of its start, or 0 */
	pid_t		tid;
	int		injected;	/* operations until it takes its error injection back */
	struct fz_key	keys[FZ_KEYS];
	struct fz_entry	ring[FZ_RING];
	uint32_t	results[FZ_OPS][FZ_ERRNOS];
};

/* How deep it went; indices of fz_shared.depth. */
enum fz_depth {
	FZ_BYTES,			/* read and compared */
	FZ_OPENS, FZ_READS, FZ_CLOSES,	/* messages that a wild daemon got */
	FZ_COPENS, FZ_CREADS,		/* answers that it gave and the kernel took */
	FZ_REFUSED_CALLS,		/* illegal calls that were refused as they have to be */
	FZ_TAME_OPENS, FZ_TAME_READS,	/* what the tame daemon answered */
	FZ_BINDS, FZ_MOUNTS, FZ_UMOUNTS, FZ_CULLED,
	FZ_HITS, FZ_STORES,		/* of the network file system */
	FZ_KILLS, FZ_DAEMON_KILLS, FZ_REBINDS, FZ_UNLOADS, FZ_ALLOCS,
	FZ_NR_DEPTHS
};

/* A cache that the parent holds; index 0 is on-demand mode, 1 original mode. */
struct fz_cache {
	char		dir[96], tag[32];
	bool		ondemand;
	int		fd;		/* in the parent */
	unsigned int	gen;		/* a new one with each bind */
};

struct fz_shared {
	uint64_t	seed;
	uint64_t	target, done;
	bool		stop;		/* no operation begins any more */
	bool		failed;
	char		failure[512];
	pid_t		parent;
	pid_t		pids[FZ_PROCESSES];
	pid_t		tame;
	int		scale;
	bool		faults, backing, trace;
	unsigned int	nr_processes, nr_threads;	/* threads in each */
	uint64_t	first, only;	/* replay: operations before are not done; thread + 1 */
	uint64_t	depth[FZ_NR_DEPTHS];
	struct fz_cache	caches[2];
	struct fz_slot	slots[FZ_THREADS];
};

extern struct fz_shared *fz;

struct fz_process;

/* What an operation gets. */
struct fz_task {
	struct fz_process	*p;
	struct fz_slot		*slot;
	struct fz_entry		*entry;
	unsigned int		id;
	unsigned int		roles;
	uint64_t		random;
	bool			can_fail;	/* allocations can be made to */
	bool			lenient;	/* one was to fail */
	unsigned char		*buf;		/* FZ_BUF bytes */
	unsigned char		*pages;		/* writable, none, read-only, none */
	struct fz_reading	*reading;
	struct fz_filing	*filing;
};

struct fz_op {
	const char	*name;
	unsigned int	roles;
	unsigned int	weight;
	int		(*run)(struct fz_task *t);
	bool		blocks;		/* waits for a daemon */
};

extern const struct fz_op fz_daemon_ops[], fz_object_ops[], fz_device_ops[], fz_reader_ops[],
			fz_netfs_ops[];

/* --- fuzz.c --- */

/* The operation's own random numbers. */
uint64_t fz_random(struct fz_task *t);

static inline unsigned int fz_below(struct fz_task *t, unsigned int n)
{
	return fz_random(t) % n;
}

static inline bool fz_chance(struct fz_task *t, unsigned int percent)
{
	return fz_below(t, 100) < percent;
}

/* Say what is going to be tried, before it is. */
void fz_say(struct fz_task *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The run has failed; the first to say so is heard. */
void fz_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static inline void fz_count(enum fz_depth what, uint64_t n)
{
	__atomic_add_fetch(&fz->depth[what], n, __ATOMIC_RELAXED);
}

static inline bool fz_stopping(void)
{
	return __atomic_load_n(&fz->stop, __ATOMIC_ACQUIRE);
}

/*
 * The result of a call: if it has failed, then with one of the errnos that follow, up
 * to a 0; failed allocations are always allowed for.  Returns @ret.
 */
int fz_expect(struct fz_task *t, int ret, ...);
#define FZ_EXPECT(t, ret, ...)	fz_expect(t, ret, ##__VA_ARGS__, 0)
/* An illegal call: it must fail so. */
int fz_refused(struct fz_task *t, int ret, ...);
#define FZ_REFUSED(t, ret, ...)	fz_refused(t, ret, ##__VA_ARGS__, 0)

static inline int fz_err(long ret)
{
	return ret < 0 ? -errno : (int)(ret & 0x3fffffff);
}

/* --- fuzz_files.c: what is where --- */

size_t fz_name(unsigned int i, char name[256]);
uint64_t fz_content(const char *volume, const void *key, size_t len);
uint64_t fz_size(uint64_t content);
void fz_volume(unsigned int i, char volume[32]);
void fz_mount_point(unsigned int i, char path[64]);
void fz_local(unsigned int i, char dir[96], char tag[32]);
int fz_mount(unsigned int i);
bool fz_is_mounted(unsigned int i);
/* The operation: mount volume @i unless it is mounted. */
int fz_op_mount(struct fz_task *t, unsigned int i);
/* Look at a message as closely as is possible without knowing what it is about. */
void fz_check_message(const struct cf_msg *m, int len);

/* --- fuzz_process.c --- */

struct fz_process *fz_process_new(void);
void fz_process_ready(struct fz_process *p);
/* Around each operation. */
void fz_enter(struct fz_process *p);
void fz_leave(struct fz_process *p);
/* Let go of everything that a reader of this process could have to wait for. */
void fz_drop_slots(struct fz_process *p);
void fz_process_end(struct fz_process *p);

/* A device of this process: 0 is the main cache, others are its own. */
int fz_device_get(struct fz_task *t, unsigned int i);
void fz_device_put(struct fz_task *t, unsigned int i);
/* What becomes of an own device: a descriptor, or -1 to close it. */
void fz_device_set(struct fz_task *t, unsigned int i, int fd);
#define FZ_DEVICES	(1 + FZ_LOCALS)
/* The parent's device of a cache, for this process: a descriptor, or -errno. */
int fz_parent_device(unsigned int cache);

/* --- fuzz_daemon.c, fuzz_reader.c, fuzz_netfs.c --- */

/* Serves the main cache until it is killed. */
void fz_tame(void);

int fz_reader_init(struct fz_task *t);
int fz_netfs_volume(int nf, unsigned int process);
int fz_netfs_init(struct fz_task *t);
void fz_netfs_refresh(struct fz_task *t);
void fz_netfs_exit(struct fz_task *t);

#endif /* CF_FUZZ_H */
