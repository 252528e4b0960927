/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * cf_torture: daemons that die at exact points, readers that compare every byte.
 *
 * One supervisor holds the device and decides what happens.  It forks everybody
 * else: daemons, readers, a watcher, and helpers for whatever may block.  All of
 * them share &struct torture, which outlives whoever is killed.
 */
#ifndef CF_TORTURE_H
#define CF_TORTURE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/daemon.h"

#define MAX_READERS	64
#define MAX_DAEMONS	2
#define VOLUMES		3
#define IMAGE_MOUNT	VOLUMES		/* the volume that has the image alone */
#define EROFS_MOUNT	(VOLUMES + 1)	/* what is mounted from it */
#define MOUNTS		(VOLUMES + 2)
#define FRESH		65536U		/* files beyond the asked number, used in turn */
#define IMAGE_KEY	"image.x"
/*
 * With --erofs, each volume is a mount of EROFS over FS-Cache instead: its objects are
 * an image and the devices of that, under names that change with each mount.
 */
#define DEVICES		3
#define OBJECTS		(VOLUMES * (1 + DEVICES))

/* A message of the daemon; OPEN is of an object that is new, REOPEN of one in use. */
enum kind { K_OPEN, K_REOPEN, K_READ, K_CLOSE, KINDS, K_ANY = KINDS, K_UNSURE };

/* Where a daemon does something other than serve. */
enum point {
	P_WAITING,			/* the message is known to be the next one */
	P_GOT,				/* it has been read */
	P_HALF,				/* READ: half of the data are written */
	P_WRITTEN,			/* READ: all of them are */
	P_ANSWERED,			/* copen, CREAD, or the descriptor's close, is done */
	P_BEFORE_RESTORE,		/* successor of one that died at P_GOT */
	P_AFTER_RESTORE,
	POINTS
};

enum action {
	A_KILL,				/* SIGKILL to itself */
	A_STOP,				/* SIGSTOP to itself, SIGKILL later */
	A_TAKEOVER,			/* SIGSTOP; another restores; both go on; SIGKILL */
	A_CLOSE,			/* close the object's descriptor and go on */
	ACTIONS
};

/* What a daemon is to do, and where. */
struct item {
	enum kind	kind;
	enum point	point;
	enum action	action;
};

extern const char *const kind_names[KINDS];
extern const char *const point_names[POINTS];
extern const char *const action_names[ACTIONS];

struct options {
	const char	*cache, *mounts, *out, *image, *erofs;
	unsigned int	seed, readers, files, kills, threads, image_files;
	int		minutes, umount_ms;
	bool		brief;
};

/* Waiting to be carried out by whichever daemon gets there. */
struct plan {
	_Atomic int	armed;
	enum kind	kind;
	enum point	point;
	enum action	action;
	_Atomic int	skip;		/* so many times not */
};

struct daemon_state {
	_Atomic int	pid;
	_Atomic int	held;		/* messages it has read and is not done with */
	_Atomic int	struck;		/* the plan was carried out; the kind, plus one */
	_Atomic int	ready;		/* it has restored and serves */
	_Atomic int	foreign;	/* READs for a descriptor of another one */
};

struct reader_state {
	_Atomic int	pid;
	_Atomic int	mount;		/* where it is at work, plus one */
	_Atomic unsigned int	holding;	/* file it has open, plus one */
	_Atomic long long	since;	/* when its system call began, or 0 */
	_Atomic long long	longest;
	_Atomic char	doing;
	_Atomic unsigned long long	off;
	_Atomic unsigned int	file;
};

/*
 * A daemon that has come back after its OPEN was given to another one holds a
 * stale descriptor.  The other one shows it READs, which it tries to answer.
 */
struct stale {
	_Atomic unsigned int	msg_id;	/* of the OPEN */
	_Atomic unsigned int	file;	/* plus one */
	_Atomic int	taken;		/* the OPEN was delivered to another one */
	_Atomic unsigned int	read_id;	/* READ to be answered wrongly */
};

struct torture {
	struct options	opt;
	_Atomic int	quit;
	/* Odd while errors are to be expected, and another number afterwards. */
	_Atomic unsigned int	cache_gen, mount_gen[MOUNTS];
	_Atomic int	mount_on[MOUNTS];
	_Atomic int	want_new;	/* readers are to open files nobody has opened */
	_Atomic int	want_rest;	/* readers are to read what has not been read */
	struct plan	plan;
	struct daemon_state	daemons[MAX_DAEMONS];
	struct reader_state	readers[MAX_READERS];
	struct stale	stale;
	unsigned long long	object_size[OBJECTS + 1];	/* the last one is the image */

	_Atomic int	failed;
	char		fault[512];

	_Atomic unsigned int	next_new, walked;
	_Atomic unsigned long	hits[KINDS][POINTS][ACTIONS];
	_Atomic unsigned long	opens, reopens, reads, closes, served, faulted;
	_Atomic unsigned long	refused, foreign, stale_tried, stale_accepted;
	_Atomic unsigned long	visits, bytes, excused, mapped;
	_Atomic unsigned long	culled;
	/* When the helper that culls has last come to a file, and the longest for one. */
	_Atomic long long	cull_step, longest_cull;
	_Atomic unsigned long	mismatches, errors;

	/* By file: the cache's generation that it was opened in. */
	_Atomic unsigned char	*opened;
	/* By block, see content_see(): has it been compared?  By file: have all of its blocks? */
	_Atomic unsigned char	*compared, *seen;
};

extern struct torture *sh;

static inline void add(_Atomic unsigned long *counter, unsigned long n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* The first one to report a fault ends the campaign. */
void fault(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Pseudo-random numbers, the same for the same seed: below @n. */
unsigned int draw(unsigned int n);
void draw_seed(unsigned int seed);

/* content.c: what the files hold */
#define NO_FILE		UINT32_MAX
#define IMAGE_FILE	(UINT32_MAX - 1)
#define FIRST_OBJECT	(IMAGE_FILE - OBJECTS)

__u64 content_size(unsigned int file);
__u64 image_file_size(unsigned int file);
__u64 content_seed(unsigned int file);
void content_key(unsigned int file, char key[32]);
unsigned int content_file(const char *key);
unsigned int content_index(unsigned int file);
size_t content_count(void);
void content_see(unsigned int file, __u64 off, __u64 len);
bool content_missing(unsigned int file, unsigned int from, __u64 *off, __u64 *len);
void content_done(unsigned int file);
unsigned int content_unread(unsigned int *first);
static inline unsigned int content_volume(unsigned int file)
{
	return file < FIRST_OBJECT ? file % VOLUMES : (file - FIRST_OBJECT) / (1 + DEVICES);
}

int content_make(const char *dir, unsigned int files);
int content_make_images(const char *dir, unsigned int files);
int content_find_images(const char *dir);
/* Of the mount of that number; with @device 0 of its image, else of a device. */
void object_path(const char *dir, int mount, unsigned int device, char path[4096]);
void object_key(int mount, unsigned int device, unsigned int turn, char key[32]);

/* serve.c: the daemon */
__attribute__((noreturn))
void serve(int device, int slot, int restores, int die_at_restore);

/* reader.c */
__attribute__((noreturn))
void reader(int nr);

/* watch.c */
__attribute__((noreturn))
void watch(pid_t supervisor);

/* people.c: processes of the supervisor, and waiting for them */
enum helper_job { H_NONE, H_MOUNT, H_UMOUNT, H_FORCE, H_DROP, H_CULL, H_TOUCH, H_SYNC,
		  H_RENEW };

struct people {
	int		device;
	int		signals;
	pid_t		watcher, helper;
	int		helper_status;
	long long	helper_since;
	int		renewing;	/* H_RENEW of this mount is at work, plus one */
	unsigned int	turns[MOUNTS];	/* mounts of an image */
	struct daemon {
		pid_t		pid;
		bool		stopped, doomed;
	} daemons[MAX_DAEMONS];
	struct {
		long long	killed;
	} readers[MAX_READERS];
	long long	started, deadline, next_check, next_reader_kill, last_word;
	long long	closed;
	/* what is told in the end */
	unsigned long	kills, busy, in_flight, most_in_flight, reader_kills, stuck_readers;
	unsigned long	umounts, forced, busy_umounts, culls, rebinds, restores, drops, starts;
	long long	longest_umount, last_umount, last_umounts;
	long long	longest_reader_kill, longest_read;
};

extern struct people who;

bool pump(int ms, bool (*until)(void));
void people_init(void);
void start_readers(void);
bool stop_readers(void);
int start_daemon(int slot, int die_at_restore);
void kill_daemon(int slot);
bool helper_start(enum helper_job job, int mount);
int helper_run(enum helper_job job, int mount);
void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void tell_waiting(void);
void show_notes(void);
void mount_path(int mount, char path[256]);
int mounts(void);
void next_turn(int mount);

/* campaign.c: what happens in which order */
bool asked_for(const struct item *i);
void campaign(void);
bool surroundings_up(void);
bool surroundings_down(void);

#endif /* CF_TORTURE_H */
