/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Makes older kernels look new: included before every source file. Each shim
 * stands behind the probe of its name, see compat/probe.
 */
#ifndef _COMPAT_H
#define _COMPAT_H

#include <linux/fs.h>

#ifndef COMPAT_HAVE_INODE_STATE_READ
static inline unsigned long inode_state_read_once(struct inode *inode)
{
	return READ_ONCE(inode->i_state);
}
#endif

#ifndef COMPAT_HAVE_INODE_JUST_DROP
#define inode_just_drop generic_delete_inode
#endif

#ifndef COMPAT_HAVE_MMAP_PREPARE
/* The older operation of the same purpose; the helper checks the same things. */
#define mmap_prepare mmap
#define generic_file_readonly_mmap_prepare generic_file_readonly_mmap
#endif

#endif /* _COMPAT_H */
