// SPDX-License-Identifier: GPL-2.0-only
/* file_operations have mmap_prepare(), with a helper for read-only files. */
#include <linux/fs.h>

const struct file_operations probe = {
	.mmap_prepare = generic_file_readonly_mmap_prepare,
};
