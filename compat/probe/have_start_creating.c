// SPDX-License-Identifier: GPL-2.0-only
/* start_creating(), start_removing() and end_creating(). */
#include <linux/namei.h>

struct dentry *probe(struct mnt_idmap *idmap, struct dentry *parent, struct qstr *name);
struct dentry *probe(struct mnt_idmap *idmap, struct dentry *parent, struct qstr *name)
{
	struct dentry *dentry = start_creating(idmap, parent, name);

	end_creating(dentry);
	dentry = start_removing(idmap, parent, name);
	end_removing(dentry);
	return dentry;
}
