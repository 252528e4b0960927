// SPDX-License-Identifier: GPL-2.0-only
/*
 * Commands, which are written to the control device: one word and its argument.
 */
#include <linux/ctype.h>
#include <linux/kstrtox.h>
#include <linux/security.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include "internal.h"
#include "ondemand.h"

/**
 * struct cachefiles_command - A command
 * @name: The word
 * @run: Carries it out.  The name is passed because one function serves several;
 *	the argument may be written to.  cache->cmd_mutex is held, and the cache is
 *	not dead.
 */
struct cachefiles_command {
	const char *name;
	int (*run)(struct cachefiles_cache *cache, const char *name, char *args);
};

static int cachefiles_daemon_bind(struct cachefiles_cache *cache, const char *name, char *args)
{
	return cachefiles_cache_bind(cache, args);
}

/* A string can be given once, and again after a bind that has failed. */
static int cachefiles_daemon_set_string(struct cachefiles_cache *cache, char **string,
					const char *args)
{
	char *copy;

	if (!*args)
		return -EINVAL;
	if (cachefiles_cache_state(cache) == CACHEFILES_CACHE_LIVE ||
	    (*string && !cache->bind_failed))
		return -EEXIST;

	copy = kstrdup(args, GFP_KERNEL);
	if (!copy)
		return -ENOMEM;
	kfree(*string);
	*string = copy;
	return 0;
}

static int cachefiles_daemon_dir(struct cachefiles_cache *cache, const char *name, char *args)
{
	return cachefiles_daemon_set_string(cache, &cache->dir_name, args);
}

static int cachefiles_daemon_tag(struct cachefiles_cache *cache, const char *name, char *args)
{
	return cachefiles_daemon_set_string(cache, &cache->tag, args);
}

static int cachefiles_daemon_secctx(struct cachefiles_cache *cache, const char *name, char *args)
{
	u32 secid;
	int ret;

	if (!*args || cache->secid_set)
		return -EINVAL;

	ret = security_secctx_to_secid(args, strlen(args), &secid);
	if (ret)
		return ret;
	cache->secid = secid;
	cache->secid_set = true;
	return 0;
}

static int cachefiles_daemon_debug(struct cachefiles_cache *cache, const char *name, char *args)
{
	unsigned int mask = 0;
	int ret = 0;

	if (*args)
		ret = kstrtouint(args, 0, &mask);
	if (!ret)
		cachefiles_debug_mask = mask;
	return ret;
}

/* Digits, possibly none, and a per cent sign; 100 stands for anything beyond. */
static int cachefiles_daemon_parse_percent(const char *args, unsigned int *percent)
{
	unsigned int value = 0;

	if (!*args)
		return -EINVAL;
	while (isdigit(*args))
		value = min(10 * value + (*args++ - '0'), 100U);
	if (strcmp(args, "%") != 0)
		return -EINVAL;

	*percent = value;
	return 0;
}

/* The name is f for files or b for blocks, and which limit it is. */
static int cachefiles_daemon_limit(struct cachefiles_cache *cache, const char *name, char *args)
{
	struct cachefiles_limits *limits = name[0] == 'f' ? &cache->files : &cache->blocks;
	const char *which = name + 1;
	unsigned int percent;
	int ret;

	ret = cachefiles_daemon_parse_percent(args, &percent);
	if (ret)
		return ret;

	if (strcmp(which, "run") == 0) {
		if (percent <= limits->cull_percent || percent >= 100)
			return -EINVAL;
		limits->run_percent = percent;
	} else if (strcmp(which, "cull") == 0) {
		if (percent <= limits->stop_percent || percent >= limits->run_percent)
			return -EINVAL;
		limits->cull_percent = percent;
	} else {
		if (percent >= limits->cull_percent)
			return -EINVAL;
		limits->stop_percent = percent;
	}

	if (cachefiles_cache_state(cache) != CACHEFILES_CACHE_LIVE)
		return 0;
	return cachefiles_space_recompute(cache);
}

/* A name in the caller's working directory, which must be that of a bound cache. */
static int cachefiles_daemon_check_name(struct cachefiles_cache *cache, const char *args)
{
	if (strchr(args, '/'))
		return -EINVAL;
	if (cachefiles_cache_state(cache) != CACHEFILES_CACHE_LIVE)
		return -EIO;
	if (!*args || strcmp(args, ".") == 0 || strcmp(args, "..") == 0)
		return -EIO;
	return 0;
}

static int cachefiles_daemon_cull(struct cachefiles_cache *cache, const char *name, char *args)
{
	int ret = cachefiles_daemon_check_name(cache, args);

	if (!ret)
		ret = cachefiles_cull_remove(cache, args);
	/* There may be enough space now; whether the file system tells is another matter. */
	if (!ret)
		cachefiles_space_evaluate(cache);
	return ret;
}

static int cachefiles_daemon_inuse(struct cachefiles_cache *cache, const char *name, char *args)
{
	int ret = cachefiles_daemon_check_name(cache, args);

	return ret ?: cachefiles_cull_inuse(cache, args);
}

/* Meant for the culling daemon, which passes it on. */
static int cachefiles_daemon_nocull(struct cachefiles_cache *cache, const char *name, char *args)
{
	return 0;
}

static const struct cachefiles_command cachefiles_commands[] = {
	{ "bcull",	cachefiles_daemon_limit },
	{ "bind",	cachefiles_daemon_bind },
	{ "brun",	cachefiles_daemon_limit },
	{ "bstop",	cachefiles_daemon_limit },
	{ "cull",	cachefiles_daemon_cull },
	{ "debug",	cachefiles_daemon_debug },
	{ "dir",	cachefiles_daemon_dir },
	{ "fcull",	cachefiles_daemon_limit },
	{ "frun",	cachefiles_daemon_limit },
	{ "fstop",	cachefiles_daemon_limit },
	{ "inuse",	cachefiles_daemon_inuse },
	{ "nocull",	cachefiles_daemon_nocull },
	{ "secctx",	cachefiles_daemon_secctx },
	{ "tag",	cachefiles_daemon_tag },
};

static int cachefiles_daemon_run(struct cachefiles_cache *cache,
				 const struct cachefiles_command *command, char *args)
{
	int ret;

	if (mutex_lock_killable(&cache->cmd_mutex))
		return -EINTR;
	if (cachefiles_cache_state(cache) == CACHEFILES_CACHE_DEAD)
		ret = -EIO;
	else
		ret = command->run(cache, command->name, args);
	mutex_unlock(&cache->cmd_mutex);
	return ret;
}

/*
 * Finds the command and runs it.  Those of on-demand mode wait for none of the
 * others, a daemon answers with them.
 */
static int cachefiles_daemon_dispatch(struct cachefiles_cache *cache, const char *name, char *args)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(cachefiles_commands); i++)
		if (strcmp(name, cachefiles_commands[i].name) == 0)
			return cachefiles_daemon_run(cache, &cachefiles_commands[i], args);

	return cachefiles_ondemand_command(cache, name, args);
}

/* Cuts the line behind the command word and runs the command. */
static int cachefiles_daemon_parse(struct cachefiles_cache *cache, char *line, size_t len)
{
	char *args;

	if (memchr(line, '\0', len) || line[0] == '\n')
		return -EINVAL;
	line[strcspn(line, "\n")] = '\0';
	if (!line[0] || isspace(line[0]))
		return -EOPNOTSUPP;

	for (args = line; *args && !isspace(*args); args++)
		;
	if (*args)
		*args++ = '\0';
	return cachefiles_daemon_dispatch(cache, line, skip_spaces(args));
}

/**
 * cachefiles_daemon_command - Carry out a command that was written to the device
 * @cache: The cache
 * @buffer: The command; it ends at a newline, what follows is ignored
 * @len: Length of the buffer in bytes
 *
 * Context: Process; may sleep.
 * Return: @len; -EIO if the cache is dead; -EOPNOTSUPP if there is no such command,
 * or more than a page of it; -EINVAL if there is a NUL in it, or nothing before a
 * newline; -EFAULT, -ENOMEM, -EINTR; or the error of the command.
 */
ssize_t cachefiles_daemon_command(struct cachefiles_cache *cache, const char __user *buffer,
				  size_t len)
{
	char *line;
	int ret;

	if (cachefiles_cache_state(cache) == CACHEFILES_CACHE_DEAD)
		return -EIO;
	if (len > PAGE_SIZE - 1)
		return -EOPNOTSUPP;

	line = memdup_user_nul(buffer, len);
	if (IS_ERR(line))
		return PTR_ERR(line);
	ret = cachefiles_daemon_parse(cache, line, len);
	kfree(line);
	return ret ?: len;
}
