// SPDX-License-Identifier: GPL-2.0-only
/* start_creating(), start_removing(), start_renaming_dentry() and their ends. */
#include <linux/fs.h>
#include <linux/namei.h>

struct dentry *probe(struct mnt_idmap *idmap, struct dentry *parent, struct qstr *name);
struct dentry *probe(struct mnt_idmap *idmap, struct dentry *parent, struct qstr *name)
{
	struct renamedata rd = {
		.mnt_idmap = idmap,
		.old_parent = parent,
		.new_parent = parent,
	};
	struct dentry *dentry = start_creating(idmap, parent, name);

	end_creating(dentry);
	dentry = start_removing(idmap, parent, name);
	end_removing(dentry);
	start_renaming_dentry(&rd, 0, parent, name);
	end_renaming(&rd);
	return dentry;
}
