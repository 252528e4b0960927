// SPDX-License-Identifier: GPL-2.0-only
/* Setters of the times of an inode, and filemap_splice_read(). */
#include <linux/fs.h>

void *probe(struct inode *inode, struct timespec64 ts);
void *probe(struct inode *inode, struct timespec64 ts)
{
	inode_set_atime_to_ts(inode, ts);
	inode_set_mtime_to_ts(inode, ts);
	return filemap_splice_read;
}
