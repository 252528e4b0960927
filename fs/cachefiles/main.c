// SPDX-License-Identifier: GPL-2.0-only
/*
 * Module start and end.
 */
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/sysctl.h>
#include "delay.h"
#include "force.h"
#include "internal.h"
#include "ondemand.h"
#include "vfs.h"

unsigned int cachefiles_debug_mask;
module_param_named(debug, cachefiles_debug_mask, uint, 0644);
MODULE_PARM_DESC(debug, "Tell of unusual things if not 0; needs CONFIG_CACHEFILES_DEBUG");

/* See CACHEFILES_INJECT_*; stays 0 without CONFIG_CACHEFILES_ERROR_INJECTION. */
unsigned int cachefiles_error_injection_state;

static const struct ctl_table cachefiles_sysctls[] = {
	{
		.procname	= "error_injection",
		.data		= &cachefiles_error_injection_state,
		.maxlen		= sizeof(cachefiles_error_injection_state),
		.mode		= 0644,
		.proc_handler	= proc_douintvec,
	},
};

static struct ctl_table_header *cachefiles_sysctl_header;

static int __init cachefiles_sysctl_init(void)
{
	if (!IS_ENABLED(CONFIG_CACHEFILES_ERROR_INJECTION))
		return 0;
	cachefiles_sysctl_header = register_sysctl("cachefiles", cachefiles_sysctls);
	return cachefiles_sysctl_header ? 0 : -ENOMEM;
}

static struct dentry *cachefiles_debugfs_dir;

/* What tests can do to the module; without debugfs they can't. */
static void __init cachefiles_debugfs_init(void)
{
	if (!IS_ENABLED(CONFIG_CACHEFILES_DEBUG))
		return;
	cachefiles_debugfs_dir = debugfs_create_dir("cachefiles", NULL);
	cachefiles_delay_init(cachefiles_debugfs_dir);
	cachefiles_force_init(cachefiles_debugfs_dir);
}

static int __init cachefiles_init(void)
{
	int ret;

	ret = cachefiles_object_init();
	if (ret)
		return ret;
	ret = cachefiles_io_write_init();
	if (ret)
		goto object_exit;
	ret = cachefiles_ondemand_init();
	if (ret)
		goto write_exit;
	ret = cachefiles_cache_init();
	if (ret)
		goto ondemand_exit;
	ret = cachefiles_sysctl_init();
	if (ret)
		goto cache_exit;
	ret = cachefiles_device_init();
	if (ret)
		goto sysctl_exit;
	cachefiles_debugfs_init();
	return 0;

sysctl_exit:
	unregister_sysctl_table(cachefiles_sysctl_header);
cache_exit:
	cachefiles_cache_exit();
ondemand_exit:
	cachefiles_ondemand_exit();
write_exit:
	cachefiles_io_write_exit();
object_exit:
	cachefiles_object_exit();
	return ret;
}
module_init(cachefiles_init);

static void __exit cachefiles_exit(void)
{
	debugfs_remove(cachefiles_debugfs_dir);
	cachefiles_device_exit();
	unregister_sysctl_table(cachefiles_sysctl_header);
	cachefiles_cache_exit();
	cachefiles_ondemand_exit();
	cachefiles_io_write_exit();
	/* A worker may be on its last steps in one of our callbacks. */
	flush_workqueue(fscache_wq);
	cachefiles_object_exit();
}
module_exit(cachefiles_exit);

MODULE_DESCRIPTION("Cache of network file systems and images on a local file system");
MODULE_LICENSE("GPL");
