/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Makes older kernels look new: included before every source file. Each shim
 * stands behind the probe of its name, see compat/probe.
 *
 * The headers that declare the older forms of something are included here, before
 * a macro gives their names to the newer ones.
 */
#ifndef _COMPAT_H
#define _COMPAT_H

#include <linux/anon_inodes.h>
#include <linux/bvec.h>
#include <linux/cleanup.h>
#include <linux/cred.h>
#include <linux/dcache.h>
#include <linux/fs.h>
#include <linux/fscache-cache.h>
#include <linux/namei.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/sysctl.h>
#include <linux/uio.h>
#include <linux/xattr.h>

#ifndef COMPAT_HAVE_MNT_IDMAP
#define mnt_idmap user_namespace
#define old_mnt_idmap old_mnt_userns
#define new_mnt_idmap new_mnt_userns
#define nop_mnt_idmap init_user_ns
#endif

#ifndef COMPAT_HAVE_CLASS_OVERRIDE_CREDS
DEFINE_CLASS(override_creds, const struct cred *, revert_creds(_T),
	     override_creds(override_cred), const struct cred *override_cred)
#endif

#ifndef scoped_class
#define scoped_class(_name, var, args...)				\
	for (CLASS(_name, var)(args), *compat_done = NULL; !compat_done; \
	     compat_done = (void *)1)

/* As it came with the above: it must not hide a variable of the user's. */
#undef scoped_guard
#define scoped_guard(_name, args...) scoped_class(_name, compat_scope, ##args)
#endif

#ifndef kzalloc_obj
#define kzalloc_obj(obj, gfp...) kzalloc(sizeof(obj), __take_second_arg(0, ##gfp, GFP_KERNEL))
#define kzalloc_flex(obj, field, count, gfp...) \
	kzalloc(struct_size(&(obj), field, count), __take_second_arg(0, ##gfp, GFP_KERNEL))
#endif

#ifndef QSTR
static inline struct qstr compat_qstr(const char *name)
{
	return (struct qstr)QSTR_INIT(name, strlen(name));
}

#define QSTR(n) (((struct qstr []){ compat_qstr(n) })[0])
#endif

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

#ifndef COMPAT_HAVE_START_CREATING
struct dentry *start_creating(struct mnt_idmap *idmap, struct dentry *parent, struct qstr *name);
struct dentry *start_removing(struct mnt_idmap *idmap, struct dentry *parent, struct qstr *name);
struct dentry *start_removing_dentry(struct dentry *parent, struct dentry *child);
void end_dirop(struct dentry *dentry);

#define end_creating end_dirop
#define end_removing end_dirop

static inline struct dentry *end_creating_keep(struct dentry *child)
{
	if (!IS_ERR(child))
		dget(child);
	end_dirop(child);
	return child;
}

struct compat_renamedata {
	struct mnt_idmap *mnt_idmap;
	struct dentry *old_parent;
	struct dentry *old_dentry;
	struct dentry *new_parent;
	struct dentry *new_dentry;
	struct inode **delegated_inode;
	unsigned int flags;
};

static inline int compat_vfs_rename(struct compat_renamedata *rd)
{
	struct renamedata old = {
		.old_mnt_idmap		= rd->mnt_idmap,
		.new_mnt_idmap		= rd->mnt_idmap,
		.old_dir		= d_inode(rd->old_parent),
		.old_dentry		= rd->old_dentry,
		.new_dir		= d_inode(rd->new_parent),
		.new_dentry		= rd->new_dentry,
		.delegated_inode	= rd->delegated_inode,
		.flags			= rd->flags,
	};

	return vfs_rename(&old);
}

#define renamedata compat_renamedata
#define vfs_rename compat_vfs_rename

int start_renaming_dentry(struct renamedata *rd, int lookup_flags, struct dentry *old_dentry,
			  struct qstr *new_last);
void end_renaming(struct renamedata *rd);
#endif /* COMPAT_HAVE_START_CREATING */

#ifndef COMPAT_HAVE_MKDIR_DENTRY
static inline struct dentry *compat_vfs_mkdir(struct mnt_idmap *idmap, struct inode *dir,
					      struct dentry *dentry, umode_t mode,
					      void *delegated_inode)
{
	int ret = vfs_mkdir(idmap, dir, dentry, mode);

	if (!ret)
		return dentry;
	end_creating(dentry);
	return ERR_PTR(ret);
}

#define vfs_mkdir compat_vfs_mkdir
#endif /* COMPAT_HAVE_MKDIR_DENTRY */

#ifndef COMPAT_HAVE_LOOKUP_ONE_QSTR
static inline struct dentry *compat_lookup_one_positive_unlocked(struct mnt_idmap *idmap,
								 struct qstr *name,
								 struct dentry *base)
{
	return lookup_one_positive_unlocked(idmap, name->name, base, name->len);
}

#define lookup_one_positive_unlocked compat_lookup_one_positive_unlocked
#endif /* COMPAT_HAVE_LOOKUP_ONE_QSTR */

#ifndef COMPAT_HAVE_KERNEL_FILE_OPEN
static inline struct file *kernel_file_open(const struct path *path, int flags,
					    const struct cred *cred)
{
	return open_with_fake_path(path, flags, d_inode(path->dentry), cred);
}

#define kernel_tmpfile_open vfs_tmpfile_open

static inline struct file *anon_inode_getfile_fmode(const char *name,
						    const struct file_operations *fops,
						    void *priv, int flags, fmode_t mode)
{
	struct file *file = anon_inode_getfile(name, fops, priv, flags);

	if (!IS_ERR(file))
		file->f_mode |= mode;
	return file;
}
#endif /* COMPAT_HAVE_KERNEL_FILE_OPEN */

#ifndef COMPAT_HAVE_IOCB_WRITE_FREEZE
/* What is written asynchronously is finished by the caller, in both cases. */
static inline ssize_t compat_vfs_iocb_iter_write(struct file *file, struct kiocb *iocb,
						 struct iov_iter *from)
{
	ssize_t ret;

	kiocb_start_write(iocb);
	ret = vfs_iocb_iter_write(file, iocb, from);
	if (ret != -EIOCBQUEUED)
		kiocb_end_write(iocb);
	return ret;
}

#define vfs_iocb_iter_write compat_vfs_iocb_iter_write
#endif /* COMPAT_HAVE_IOCB_WRITE_FREEZE */

#ifndef COMPAT_HAVE_EXTRACT_PAGES
/* Pages are not pinned but copied. */
static inline bool iov_iter_extract_will_pin(const struct iov_iter *iter)
{
	return false;
}

static inline ssize_t iov_iter_extract_pages(struct iov_iter *iter, struct page ***pages,
					     size_t size, unsigned int nr, unsigned int flags,
					     size_t *offset)
{
	return -EOPNOTSUPP;
}

static inline size_t copy_folio_from_iter(struct folio *folio, size_t offset, size_t bytes,
					  struct iov_iter *iter)
{
	return copy_page_from_iter(folio_page(folio, 0), offset, bytes, iter);
}

static inline void bvec_set_folio(struct bio_vec *bvec, struct folio *folio, size_t len,
				  size_t offset)
{
	bvec_set_page(bvec, folio_page(folio, 0), len, offset);
}
#endif /* COMPAT_HAVE_EXTRACT_PAGES */

#ifndef MAX_PAGE_ORDER
#define MAX_PAGE_ORDER (MAX_ORDER - 1)
#endif

#ifndef COMPAT_HAVE_SRCU_DOWN_READ
/* Without lockdep, to which this has one owner. */
#define srcu_down_read __srcu_read_lock
#define srcu_up_read __srcu_read_unlock
#endif

#ifndef COMPAT_HAVE_NETFS_READ_SINGLE
#define NETFS_READ_SINGLE ((enum netfs_io_origin)U8_MAX)	/* there is none */
#endif

#ifndef COMPAT_HAVE_NETFS_STREAMS
#include <linux/magic.h>

#define fscache_count_dio_misfit() do { } while (0)

/*
 * As long as data were on their way into its trees, btrfs took holes for data and data
 * for holes. No header tells when that ended; it is exact where netfs has streams.
 */
static inline loff_t compat_vfs_llseek(struct file *file, loff_t pos, int whence)
{
	if ((whence == SEEK_DATA || whence == SEEK_HOLE) &&
	    file_inode(file)->i_sb->s_magic == BTRFS_SUPER_MAGIC)
		return -EOPNOTSUPP;
	return vfs_llseek(file, pos, whence);
}

#define vfs_llseek compat_vfs_llseek
#endif /* COMPAT_HAVE_NETFS_STREAMS */

#ifndef COMPAT_HAVE_INODE_TIMES
#define inode_set_atime_to_ts(inode, ts) ((inode)->i_atime = (ts))
#define inode_set_mtime_to_ts(inode, ts) ((inode)->i_mtime = (ts))
#define filemap_splice_read generic_file_splice_read
#endif

#ifndef register_sysctl
/* One table, and one that ends with an empty entry. */
static inline struct ctl_table_header *compat_register_sysctl(const char *path,
							      const struct ctl_table *table,
							      size_t nr)
{
	static struct ctl_table copy[4];

	if (WARN_ON(nr >= ARRAY_SIZE(copy)))
		return NULL;
	memcpy(copy, table, nr * sizeof(*table));
	return register_sysctl(path, copy);
}

#define register_sysctl(path, table...) \
	compat_register_sysctl(path, table, ARRAY_SIZE(table))
#elif !defined(COMPAT_HAVE_CONST_CTL_TABLE)
/* The table is not written to, only the prototype does not say so. */
#define register_sysctl_sz(path, table, size)	\
	register_sysctl_sz(path, (struct ctl_table *)(table), size)
#endif /* register_sysctl */

#ifndef COMPAT_HAVE_FSPARAM_UID
#include <linux/fs_parser.h>
#include <linux/user_namespace.h>

#define strscpy(to, from, size...) strscpy(to, from, __take_second_arg(0, ##size, sizeof(to)))

/* As the older one, and ids are made of its number. */
struct compat_fs_parse_result {
	bool		negated;
	union {
		unsigned int	uint_32;
		kuid_t		uid;
		kgid_t		gid;
		u64		uint_64;
	};
};

#define COMPAT_FS_PARAM_IS(id)								\
static inline int compat_fs_param_is_##id(struct p_log *log, const struct fs_parameter_spec *p, \
					  struct fs_parameter *param,			\
					  struct fs_parse_result *result)		\
{											\
	int ret = fs_param_is_u32(log, p, param, result);				\
	k##id##_t kid = make_k##id(current_user_ns(), result->uint_32);			\
											\
	result->uint_32 = __k##id##_val(kid);						\
	return ret ?: id##_valid(kid) ? 0 :						\
		inval_plog(log, "Bad value for '%s'", param->key);			\
}

COMPAT_FS_PARAM_IS(uid)
COMPAT_FS_PARAM_IS(gid)

#define fs_parse_result compat_fs_parse_result
#define fs_parse(fc, desc, param, result) fs_parse(fc, desc, param, (void *)(result))
#define fsparam_uid(name, opt) __fsparam(compat_fs_param_is_uid, name, opt, 0, NULL)
#define fsparam_gid(name, opt) __fsparam(compat_fs_param_is_gid, name, opt, 0, NULL)
#endif /* COMPAT_HAVE_FSPARAM_UID */

#if defined(COMPAT_HAVE_NETFS_STREAMS) && !defined(COMPAT_HAVE_NETFS_TERM_FUNC2)
#include <linux/netfs.h>

/* Only where it is called: the caller may sleep. */
#define netfs_write_subrequest_terminated(op, ret) \
	netfs_write_subrequest_terminated(op, ret, false)
#endif

#endif /* _COMPAT_H */
