// SPDX-License-Identifier: GPL-2.0-only
/* Mounting: options, superblocks, the volume. */
#include <linux/backing-dev.h>
#include <linux/errno.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/fscache-cache.h>
#include <linux/kdev_t.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/statfs.h>
#include <linux/timekeeping.h>
#include "internal.h"

/* Names of directories that a cache makes of volume keys have a byte before. */
#define ONDEMANDFS_KEY_MAX	(NAME_MAX - 1)

#define ONDEMANDFS_READAHEAD	SZ_1M
#define ONDEMANDFS_FILE_MODE	0444

enum {
	OPT_CACHE,
	OPT_GID,
	OPT_MODE,
	OPT_UID,
};

static const struct fs_parameter_spec ondemandfs_parameters[] = {
	fsparam_string("cache",	OPT_CACHE),
	fsparam_gid("gid",	OPT_GID),
	fsparam_u32oct("mode",	OPT_MODE),
	fsparam_uid("uid",	OPT_UID),
	{}
};

static int ondemandfs_show_options(struct seq_file *m, struct dentry *root)
{
	const struct ondemandfs_sb *sbi = ONDEMANDFS_SB(root->d_sb);

	if (sbi->tag[0])
		seq_show_option(m, "cache", sbi->tag);
	if (!uid_eq(sbi->uid, GLOBAL_ROOT_UID))
		seq_printf(m, ",uid=%u", from_kuid_munged(&init_user_ns, sbi->uid));
	if (!gid_eq(sbi->gid, GLOBAL_ROOT_GID))
		seq_printf(m, ",gid=%u", from_kgid_munged(&init_user_ns, sbi->gid));
	if (sbi->mode != ONDEMANDFS_FILE_MODE)
		seq_printf(m, ",mode=%04o", sbi->mode);
	return 0;
}

static void ondemandfs_put_super(struct super_block *sb)
{
	struct ondemandfs_sb *sbi = ONDEMANDFS_SB(sb);

	WARN_ON_ONCE(!xa_empty(&sbi->inodes));
	/* Now, that a mount of the same volume still waits for this to be over. */
	fscache_relinquish_volume(sbi->volume, NULL, false);
	sbi->volume = NULL;
}

static void ondemandfs_umount_begin(struct super_block *sb)
{
	ondemandfs_abort(ONDEMANDFS_SB(sb));
}

static const struct super_operations ondemandfs_sops = {
	.alloc_inode	= ondemandfs_alloc_inode,
	.free_inode	= ondemandfs_free_inode,
	.drop_inode	= inode_just_drop,
	.evict_inode	= ondemandfs_evict_inode,
	.put_super	= ondemandfs_put_super,
	.statfs		= simple_statfs,
	.umount_begin	= ondemandfs_umount_begin,
	.show_options	= ondemandfs_show_options,
};

/*
 * A volume without a live cache would acquire its cookies in vain, so that is
 * refused here and now. A cache bound later is none that the volume waits for.
 */
static int ondemandfs_acquire_volume(struct ondemandfs_sb *sbi, struct fs_context *fc)
{
	const char *tag = sbi->tag[0] ? sbi->tag : NULL;
	struct fscache_volume *volume;

	volume = fscache_acquire_volume(sbi->key, tag, NULL, 0);
	if (IS_ERR(volume)) {
		errorfc(fc, "volume %s: %s", sbi->key,
			volume == ERR_PTR(-EBUSY) ? "in use" : "cannot be acquired");
		return PTR_ERR(volume);
	}
	if (READ_ONCE(volume->cache->state) != FSCACHE_CACHE_IS_ACTIVE) {
		fscache_relinquish_volume(volume, NULL, false);
		errorfc(fc, "volume %s: no cache is bound%s%s", sbi->key,
			tag ? " as " : "", sbi->tag);
		return -ENOTCONN;
	}
	sbi->volume = volume;
	return 0;
}

static int ondemandfs_fill_super(struct super_block *sb, struct fs_context *fc)
{
	struct ondemandfs_sb *sbi = ONDEMANDFS_SB(sb);
	int error;

	sb->s_magic = ONDEMANDFS_MAGIC;
	sb->s_op = &ondemandfs_sops;
	sb->s_maxbytes = MAX_LFS_FILESIZE;
	sb->s_blocksize = PAGE_SIZE;
	sb->s_blocksize_bits = PAGE_SHIFT;
	sb->s_time_gran = 1;
	ktime_get_real_ts64(&sbi->mount_time);

	/* The name is the number that stat(2) gives, which is free for others only after it. */
	error = super_setup_bdi_name(sb, "%u:%u", MAJOR(sb->s_dev), MINOR(sb->s_dev));
	if (error)
		return error;
	sb->s_bdi->ra_pages = ONDEMANDFS_READAHEAD >> PAGE_SHIFT;
	sb->s_bdi->io_pages = ONDEMANDFS_READAHEAD >> PAGE_SHIFT;

	error = ondemandfs_acquire_volume(sbi, fc);
	if (error)
		return error;

	sb->s_root = d_make_root(ondemandfs_get_root(sb));
	return sb->s_root ? 0 : -ENOMEM;
}

/* Does what was given with @fc agree with the options of an existing mount? */
static bool ondemandfs_options_agree(const struct ondemandfs_sb *sbi,
				     const struct ondemandfs_sb *wanted)
{
	return (!(wanted->given & BIT(OPT_UID)) || uid_eq(wanted->uid, sbi->uid)) &&
	       (!(wanted->given & BIT(OPT_GID)) || gid_eq(wanted->gid, sbi->gid)) &&
	       (!(wanted->given & BIT(OPT_MODE)) || wanted->mode == sbi->mode) &&
	       (!(wanted->given & BIT(OPT_CACHE)) || !strcmp(wanted->tag, sbi->tag));
}

static int ondemandfs_test_super(struct super_block *sb, struct fs_context *fc)
{
	const struct ondemandfs_sb *wanted = fc->s_fs_info;
	const struct ondemandfs_sb *sbi = ONDEMANDFS_SB(sb);

	return !strcmp(sbi->key, wanted->key) && !strcmp(sbi->tag, wanted->tag);
}

static int ondemandfs_get_tree(struct fs_context *fc)
{
	struct ondemandfs_sb *wanted = fc->s_fs_info;
	struct super_block *sb;
	size_t len;
	int error;

	len = fc->source ? strlen(fc->source) : 0;
	if (!len || len > ONDEMANDFS_KEY_MAX || strchr(fc->source, '/'))
		return invalfc(fc, "a volume key has 1 to %d bytes and no slash",
			       ONDEMANDFS_KEY_MAX);
	memcpy(wanted->key, fc->source, len + 1);

	fc->sb_flags |= SB_RDONLY;
	sb = sget_fc(fc, ondemandfs_test_super, set_anon_super_fc);
	if (IS_ERR(sb))
		return PTR_ERR(sb);

	if (!sb->s_root) {
		error = ondemandfs_fill_super(sb, fc);
		if (error)
			goto err_super;
		sb->s_flags |= SB_ACTIVE;
	} else if (!ondemandfs_options_agree(ONDEMANDFS_SB(sb), wanted)) {
		errorfc(fc, "volume %s: already mounted with other options", wanted->key);
		error = -EBUSY;
		goto err_super;
	}

	fc->root = dget(sb->s_root);
	return 0;

err_super:
	deactivate_locked_super(sb);
	return error;
}

static int ondemandfs_reconfigure(struct fs_context *fc)
{
	/* fsconfig(2) says nothing of a flag that is to stay. */
	if ((fc->sb_flags_mask & SB_RDONLY) && !(fc->sb_flags & SB_RDONLY)) {
		errorfc(fc, "can be mounted read-only only");
		return -EROFS;
	}
	if (!ondemandfs_options_agree(ONDEMANDFS_SB(fc->root->d_sb), fc->s_fs_info))
		return invalfc(fc, "options of a mount cannot be changed");
	return 0;
}

static int ondemandfs_parse_param(struct fs_context *fc, struct fs_parameter *param)
{
	struct ondemandfs_sb *sbi = fc->s_fs_info;
	struct fs_parse_result result;
	int opt;

	opt = fs_parse(fc, ondemandfs_parameters, param, &result);
	switch (opt) {
	case OPT_CACHE:
		if (param->size > NAME_MAX)
			return invalfc(fc, "cache: a name has at most %d bytes", NAME_MAX);
		strscpy(sbi->tag, param->string);
		break;
	case OPT_GID:
		sbi->gid = result.gid;
		break;
	case OPT_MODE:
		if (result.uint_32 & ~0777)
			return invalfc(fc, "mode: permission bits only");
		sbi->mode = result.uint_32;
		break;
	case OPT_UID:
		sbi->uid = result.uid;
		break;
	default:
		return opt;
	}
	sbi->given |= BIT(opt);
	return 0;
}

static void ondemandfs_free_fc(struct fs_context *fc)
{
	kfree(fc->s_fs_info);
}

static const struct fs_context_operations ondemandfs_context_ops = {
	.free		= ondemandfs_free_fc,
	.parse_param	= ondemandfs_parse_param,
	.get_tree	= ondemandfs_get_tree,
	.reconfigure	= ondemandfs_reconfigure,
};

static int ondemandfs_init_fs_context(struct fs_context *fc)
{
	struct ondemandfs_sb *sbi;

	sbi = kzalloc_obj(*sbi);
	if (!sbi)
		return -ENOMEM;

	xa_init_flags(&sbi->inodes, XA_FLAGS_ALLOC);
	mutex_init(&sbi->aborting);
	sbi->uid = GLOBAL_ROOT_UID;
	sbi->gid = GLOBAL_ROOT_GID;
	sbi->mode = ONDEMANDFS_FILE_MODE;
	fc->s_fs_info = sbi;
	fc->ops = &ondemandfs_context_ops;
	return 0;
}

static void ondemandfs_kill_sb(struct super_block *sb)
{
	struct ondemandfs_sb *sbi = ONDEMANDFS_SB(sb);

	kill_anon_super(sb);
	/* Left from a mount that failed before it had a root. */
	fscache_relinquish_volume(sbi->volume, NULL, false);
	kfree(sbi);
}

static struct file_system_type ondemandfs_fs_type = {
	.owner			= THIS_MODULE,
	.name			= "ondemandfs",
	.init_fs_context	= ondemandfs_init_fs_context,
	.parameters		= ondemandfs_parameters,
	.kill_sb		= ondemandfs_kill_sb,
};
MODULE_ALIAS_FS("ondemandfs");

static int __init ondemandfs_init(void)
{
	int error;

	error = ondemandfs_inode_init();
	if (error)
		return error;

	error = register_filesystem(&ondemandfs_fs_type);
	if (error)
		ondemandfs_inode_exit();
	return error;
}

static void __exit ondemandfs_exit(void)
{
	unregister_filesystem(&ondemandfs_fs_type);
	ondemandfs_inode_exit();
}

module_init(ondemandfs_init);
module_exit(ondemandfs_exit);

MODULE_DESCRIPTION("Read-only file system served by a cache in on-demand mode");
MODULE_LICENSE("GPL");
