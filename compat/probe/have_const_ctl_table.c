// SPDX-License-Identifier: GPL-2.0-only
/* register_sysctl() takes a constant table. */
#include <linux/sysctl.h>

struct ctl_table_header *(*probe)(const char *, const struct ctl_table *, size_t) =
	register_sysctl_sz;
