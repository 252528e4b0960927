/* SPDX-License-Identifier: GPL-2.0-only */
/* EROFS over FS-Cache: is it there, and images that no mkfs.erofs makes. */
#ifndef CF_EROFS_H
#define CF_EROFS_H

#include <stdbool.h>

#define CF_MAX_DEVICES	8

/* Is the option that EROFS over FS-Cache is asked for with known, and more than known? */
bool cf_have_erofs_on_fscache(void);

/*
 * Make @image of the files in @dir, which has no others: metadata only, the data are in
 * @nr files beside it, @image.0 and on, in turns of 16 KiB.  @tag is how a device is
 * called unless mount(2) says so, with its number for %u.  0 or a negative errno.
 *
 * mkfs.erofs of Debian 12 makes one device at most.
 */
int cf_erofs_make(const char *dir, const char *image, unsigned int nr, const char *tag);

#endif /* CF_EROFS_H */
