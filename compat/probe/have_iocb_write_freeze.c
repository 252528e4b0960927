// SPDX-License-Identifier: GPL-2.0-only
/*
 * vfs_iocb_iter_write() takes freeze protection itself. Nothing in a header tells but what
 * came with that change, a way to ask whether somebody has taken it.
 */
#include <linux/fs.h>

bool probe(const struct file *file);
bool probe(const struct file *file)
{
	return file_write_started(file);
}
