/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A file system in user space that keeps everything in memory and may lie
 * about which parts of its files hold data.
 *
 * It speaks the protocol of /dev/fuse itself: a file that has no name yet is
 * beyond the library that hides it.
 */
#ifndef CF_FUSEFS_H
#define CF_FUSEFS_H

#include <errno.h>
#include <sys/types.h>

/* What is wrong with it. */
enum cf_lie {
	CF_LIE_NONE,
	CF_LIE_NO_SEEK,		/* can't tell data and holes apart */
	CF_LIE_ALL_HOLE,	/* never admits data */
	CF_LIE_COARSE,		/* data are as large as their 64 KiB */
	CF_LIE_SHORT,		/* data end 512 bytes early */
	CF_LIE_EARLY,		/* data begin 512 bytes early */
	CF_LIE_LATE,		/* data are none before they are synced */
	CF_LIE_NO_PUNCH,	/* can't make holes */
	CF_LIE_PUNCH_NOTHING,	/* says it has, and has not */
	CF_LIE_PUNCH_ZEROS,	/* writes zeros instead */
	CF_LIE_PUNCH_COARSE,	/* makes holes of whole 64 KiB only */
	CF_LIE_ZEROS_VANISH,	/* blocks of zeros are not stored */
	CF_LIE_NO_TMPFILE,	/* no files without a name */
	CF_LIE_NO_XATTR,	/* no extended attributes */
};

/* The one request that it refuses, in memory that it shares with the test. */
struct cf_fusefs_fault {
	int	nth;		/* counts down to it, 0: none */
	int	error;		/* a negative errno */
	pid_t	held;		/* of this thread alone, and held until interrupted; 0: neither */
	int	opcode;		/* of what was refused, 0: nothing */
};

struct cf_fusefs {
	pid_t			pid;
	struct cf_fusefs_fault	*fault;
};

/* Mount one on @where, served by a child: 0 or a negative errno. */
int cf_fusefs_start(struct cf_fusefs *f, const char *where, enum cf_lie lie);
/* What a request can be refused by, besides I/O errors. */
static inline int cf_refusal(int n)
{
	return n % 3 == 0 ? -ENOSPC : n % 3 == 1 ? -EACCES : -ESTALE;
}

/* Let it refuse the @nth request from now on, by @error, a negative errno. */
void cf_fusefs_fail(struct cf_fusefs *f, int nth, int error);
/*
 * Let it hold the @nth request of the calling thread from now on until that gets a signal, and
 * then refuse it by EINTR.
 */
void cf_fusefs_hold(struct cf_fusefs *f, int nth);
/* The opcode of the request that is held or was, or 0. */
int cf_fusefs_held(const struct cf_fusefs *f);
/* Stop that: the opcode of the request that was refused, or 0 if there were too few. */
int cf_fusefs_failed(struct cf_fusefs *f);
/* End the child, after everything that needs its answers. */
void cf_fusefs_stop(struct cf_fusefs *f);

#endif /* CF_FUSEFS_H */
