// SPDX-License-Identifier: GPL-2.0-only
/* kernel_file_open(), kernel_tmpfile_open() and anon_inode_getfile_fmode(). */
#include <linux/anon_inodes.h>
#include <linux/fs.h>

struct file *probe(const struct path *path, const struct cred *cred);
struct file *probe(const struct path *path, const struct cred *cred)
{
	kernel_tmpfile_open(&nop_mnt_idmap, path, 0, 0, cred);
	anon_inode_getfile_fmode("", NULL, NULL, 0, 0);
	return kernel_file_open(path, 0, cred);
}
