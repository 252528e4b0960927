// SPDX-License-Identifier: GPL-2.0-only
/*
 * The control device, /dev/cachefiles: each open of it is a cache.
 */
#include <linux/capability.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/poll.h>
#include "internal.h"
#include "ondemand.h"

static int cachefiles_device_open(struct inode *inode, struct file *file)
{
	struct cachefiles_cache *cache;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;

	cache = cachefiles_cache_alloc();
	if (!cache)
		return -ENOMEM;
	file->private_data = cache;
	return 0;
}

static int cachefiles_device_release(struct inode *inode, struct file *file)
{
	cachefiles_cache_close(file->private_data);
	return 0;
}

static ssize_t cachefiles_device_read(struct file *file, char __user *buffer, size_t len,
				      loff_t *pos)
{
	struct cachefiles_cache *cache = file->private_data;
	ssize_t ret;

	if (cachefiles_cache_state(cache) == CACHEFILES_CACHE_SETUP)
		return 0;
	if (!cache->queue)
		return cachefiles_stat_read(cache, buffer, len);
	ret = cachefiles_ondemand_daemon_read(cache, buffer, len);
	/* Where nothing is stored, nobody else sees that there is room again. */
	if (!ret && READ_ONCE(cache->culling))
		cachefiles_space_evaluate(cache);
	return ret;
}

static ssize_t cachefiles_device_write(struct file *file, const char __user *buffer, size_t len,
				       loff_t *pos)
{
	return cachefiles_daemon_command(file->private_data, buffer, len);
}

static __poll_t cachefiles_device_poll(struct file *file, struct poll_table_struct *wait)
{
	struct cachefiles_cache *cache = file->private_data;
	__poll_t mask = 0;

	poll_wait(file, &cache->daemon_wait, wait);
	if (cachefiles_cache_state(cache) == CACHEFILES_CACHE_SETUP)
		return 0;
	if (cache->queue)
		mask = cachefiles_ondemand_daemon_poll(cache);
	else
		mask = cachefiles_stat_poll(cache);
	if (READ_ONCE(cache->culling))
		mask |= EPOLLOUT;
	return mask;
}

static const struct file_operations cachefiles_device_fops = {
	.owner		= THIS_MODULE,
	.open		= cachefiles_device_open,
	.release	= cachefiles_device_release,
	.read		= cachefiles_device_read,
	.write		= cachefiles_device_write,
	.poll		= cachefiles_device_poll,
	.llseek		= noop_llseek,
};

static struct miscdevice cachefiles_device = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "cachefiles",
	.fops	= &cachefiles_device_fops,
};

/**
 * cachefiles_device_init - Make the control device appear
 *
 * Everything else has to be ready.
 *
 * Return: 0 or an error of misc_register().
 */
int cachefiles_device_init(void)
{
	return misc_register(&cachefiles_device);
}

/**
 * cachefiles_device_exit - Make the control device go
 *
 * Context: Module exit; nobody has the device open.
 */
void cachefiles_device_exit(void)
{
	misc_deregister(&cachefiles_device);
}
