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

struct cf_fusefs {
	pid_t	pid;
};

/* Mount one on @where, served by a child: 0 or a negative errno. */
int cf_fusefs_start(struct cf_fusefs *f, const char *where, enum cf_lie lie);
/* End the child, after everything that needs its answers. */
void cf_fusefs_stop(struct cf_fusefs *f);

#endif /* CF_FUSEFS_H */
