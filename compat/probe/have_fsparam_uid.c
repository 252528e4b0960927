// SPDX-License-Identifier: GPL-2.0-only
/* Mount parameters that are user and group ids. */
#include <linux/fs_parser.h>

const struct fs_parameter_spec probe[] = {
	fsparam_uid("uid", 0),
	fsparam_gid("gid", 1),
	{}
};
