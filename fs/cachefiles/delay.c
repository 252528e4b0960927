// SPDX-License-Identifier: GPL-2.0-only
/*
 * Delay points: traps for tasks, set through debugfs.  See delay.h.
 */
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/refcount.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/wait.h>
#include "delay.h"

/* A task that nobody lets go goes on by itself, so that no test leaves one stuck. */
#define CACHEFILES_DELAY_BOUND	(300 * HZ)

#define CACHEFILES_DELAY_CMD_MAX	64

enum cachefiles_trap_state {
	CACHEFILES_TRAP_IDLE,
	CACHEFILES_TRAP_ARMED,
	CACHEFILES_TRAP_CAUGHT,
};

/**
 * struct cachefiles_trap - One open of the file in debugfs
 * @ref: One for the open file, one for the task that is caught.
 * @link: In cachefiles_traps if it is armed (lock).
 * @state: What it is doing (lock).
 * @point: Where it stands (lock).
 * @skip: How many tasks to let pass (lock).
 * @pid: The task that is caught (lock).
 * @wait: Where the task waits to be let go, and the test for the task.
 */
struct cachefiles_trap {
	refcount_t			ref;
	struct list_head		link;
	enum cachefiles_trap_state	state;
	enum cachefiles_delay_point	point;
	unsigned int			skip;
	pid_t				pid;
	wait_queue_head_t		wait;
};

static const char * const cachefiles_delay_names[CACHEFILES_DELAY_NR] = {
	[CACHEFILES_DELAY_ARM_OPEN]		= "arm_open",
	[CACHEFILES_DELAY_PICKED]		= "picked",
	[CACHEFILES_DELAY_PUBLISH]		= "publish",
	[CACHEFILES_DELAY_DONE]			= "done",
	[CACHEFILES_DELAY_ADMIT]		= "admit",
	[CACHEFILES_DELAY_ENQUEUE]		= "enqueue",
	[CACHEFILES_DELAY_FOUND]		= "found",
	[CACHEFILES_DELAY_START]		= "start",
	[CACHEFILES_DELAY_FETCH_WORK]		= "fetch_work",
	[CACHEFILES_DELAY_REAP_WORK]		= "reap_work",
	[CACHEFILES_DELAY_TEARDOWN]		= "teardown",
	[CACHEFILES_DELAY_CLOSED]		= "closed",
	[CACHEFILES_DELAY_WRITE_WORK]		= "write_work",
	[CACHEFILES_DELAY_RELEASE]		= "release",
	[CACHEFILES_DELAY_SHUTDOWN]		= "shutdown",
	[CACHEFILES_DELAY_LOOKUP]		= "lookup",
	[CACHEFILES_DELAY_PUBLISHED]		= "published",
	[CACHEFILES_DELAY_OPENED]		= "opened",
	[CACHEFILES_DELAY_SPACE]		= "space",
	[CACHEFILES_DELAY_CREATE]		= "create",
	[CACHEFILES_DELAY_WITHDRAW]		= "withdraw",
	[CACHEFILES_DELAY_DROP]			= "drop",
	[CACHEFILES_DELAY_ATTACH]		= "attach",
	[CACHEFILES_DELAY_SETTLE]		= "settle",
	[CACHEFILES_DELAY_ENTERED]		= "entered",
	[CACHEFILES_DELAY_WRITTEN]		= "written",
	[CACHEFILES_DELAY_WRITE_FAILED]		= "write_failed",
	[CACHEFILES_DELAY_LOOKED]		= "looked",
	[CACHEFILES_DELAY_CUT_BEGUN]		= "cut_begun",
	[CACHEFILES_DELAY_CUT_DONE]		= "cut_done",
	[CACHEFILES_DELAY_VOLUME_ACQUIRE]	= "volume_acquire",
	[CACHEFILES_DELAY_VOLUME_END]		= "volume_end",
	[CACHEFILES_DELAY_MARKED]		= "marked",
	[CACHEFILES_DELAY_MARK_DIRTY]		= "mark_dirty",
	[CACHEFILES_DELAY_BURY]			= "bury",
	[CACHEFILES_DELAY_BURIED]		= "buried",
};

/* Counts traps that are not idle. */
DEFINE_STATIC_KEY_FALSE(cachefiles_delay_armed);

static DEFINE_SPINLOCK(cachefiles_traps_lock);
static LIST_HEAD(cachefiles_traps);

static void cachefiles_trap_put(struct cachefiles_trap *trap)
{
	if (refcount_dec_and_test(&trap->ref))
		kfree(trap);
}

/* The trap that springs for a task at @point, with a reference, or NULL. */
static struct cachefiles_trap *cachefiles_trap_spring(enum cachefiles_delay_point point)
{
	struct cachefiles_trap *trap;

	guard(spinlock)(&cachefiles_traps_lock);
	list_for_each_entry(trap, &cachefiles_traps, link) {
		if (trap->point != point)
			continue;
		if (trap->skip) {
			trap->skip--;
			continue;
		}
		list_del_init(&trap->link);
		trap->state = CACHEFILES_TRAP_CAUGHT;
		trap->pid = task_pid_nr(current);
		refcount_inc(&trap->ref);
		return trap;
	}
	return NULL;
}

/**
 * cachefiles_delay_park - Stop this task if there is a trap for it
 * @point: Where it is.
 *
 * Context: process.  Sleeps until somebody lets the task go; not if it is killed, and
 * not for longer than CACHEFILES_DELAY_BOUND.
 */
void cachefiles_delay_park(enum cachefiles_delay_point point)
{
	struct cachefiles_trap *trap = cachefiles_trap_spring(point);

	if (!trap)
		return;
	wake_up_all(&trap->wait);
	wait_event_killable_timeout(trap->wait,
				    READ_ONCE(trap->state) != CACHEFILES_TRAP_CAUGHT,
				    CACHEFILES_DELAY_BOUND);
	/* From here on "go" says that there is nobody. */
	scoped_guard(spinlock, &cachefiles_traps_lock)
		trap->pid = 0;
	wake_up_all(&trap->wait);
	cachefiles_trap_put(trap);
}

/* Make a trap idle.  Returns false if a task was expected in it and is not. */
static bool cachefiles_trap_open(struct cachefiles_trap *trap)
{
	enum cachefiles_trap_state state;
	bool held;

	scoped_guard(spinlock, &cachefiles_traps_lock) {
		state = trap->state;
		held = state == CACHEFILES_TRAP_CAUGHT && trap->pid;
		list_del_init(&trap->link);
		WRITE_ONCE(trap->state, CACHEFILES_TRAP_IDLE);
	}
	wake_up_all(&trap->wait);
	if (state != CACHEFILES_TRAP_IDLE)
		static_branch_dec(&cachefiles_delay_armed);
	return held;
}

static int cachefiles_trap_arm(struct cachefiles_trap *trap, char *args)
{
	const char *name = strsep(&args, " ");
	unsigned int skip = 0;
	int point;

	point = match_string(cachefiles_delay_names, CACHEFILES_DELAY_NR, name);
	if (point < 0)
		return -EINVAL;
	if (args && kstrtouint(args, 10, &skip))
		return -EINVAL;

	static_branch_inc(&cachefiles_delay_armed);
	scoped_guard(spinlock, &cachefiles_traps_lock) {
		/* One who was let go may not have left yet. */
		if (trap->state == CACHEFILES_TRAP_IDLE && refcount_read(&trap->ref) == 1) {
			trap->state = CACHEFILES_TRAP_ARMED;
			trap->point = point;
			trap->skip = skip;
			list_add_tail(&trap->link, &cachefiles_traps);
			return 0;
		}
	}
	static_branch_dec(&cachefiles_delay_armed);
	return -EBUSY;
}

static ssize_t cachefiles_delay_write(struct file *file, const char __user *buffer, size_t len,
				      loff_t *pos)
{
	struct cachefiles_trap *trap = file->private_data;
	char *cmd;
	int ret = 0;

	if (!len || len >= CACHEFILES_DELAY_CMD_MAX)
		return -EINVAL;
	cmd = memdup_user_nul(buffer, len);
	if (IS_ERR(cmd))
		return PTR_ERR(cmd);
	strim(cmd);
	if (strcmp(cmd, "go"))
		ret = cachefiles_trap_arm(trap, cmd);
	else if (!cachefiles_trap_open(trap))
		ret = -ESRCH;
	kfree(cmd);
	return ret ?: len;
}

static ssize_t cachefiles_delay_read(struct file *file, char __user *buffer, size_t len,
				     loff_t *pos)
{
	struct cachefiles_trap *trap = file->private_data;
	char text[CACHEFILES_DELAY_NR * 20];
	bool idle;
	int n = 0;
	pid_t pid;

	scoped_guard(spinlock, &cachefiles_traps_lock) {
		idle = trap->state == CACHEFILES_TRAP_IDLE;
		pid = trap->state == CACHEFILES_TRAP_CAUGHT ? trap->pid : 0;
	}
	if (pid)
		n = scnprintf(text, sizeof(text), "%d\n", pid);
	for (int i = 0; idle && i < CACHEFILES_DELAY_NR; i++)
		n += scnprintf(text + n, sizeof(text) - n, "%s\n", cachefiles_delay_names[i]);
	return simple_read_from_buffer(buffer, len, pos, text, n);
}

static __poll_t cachefiles_delay_poll(struct file *file, struct poll_table_struct *wait)
{
	struct cachefiles_trap *trap = file->private_data;

	poll_wait(file, &trap->wait, wait);
	guard(spinlock)(&cachefiles_traps_lock);
	if (trap->state != CACHEFILES_TRAP_CAUGHT)
		return 0;
	return trap->pid ? EPOLLIN : EPOLLERR;
}

static int cachefiles_delay_open(struct inode *inode, struct file *file)
{
	struct cachefiles_trap *trap = kzalloc_obj(*trap);

	if (!trap)
		return -ENOMEM;
	refcount_set(&trap->ref, 1);
	INIT_LIST_HEAD(&trap->link);
	init_waitqueue_head(&trap->wait);
	file->private_data = trap;
	return 0;
}

static int cachefiles_delay_release(struct inode *inode, struct file *file)
{
	struct cachefiles_trap *trap = file->private_data;

	cachefiles_trap_open(trap);
	cachefiles_trap_put(trap);
	return 0;
}

static const struct file_operations cachefiles_delay_fops = {
	.owner		= THIS_MODULE,
	.open		= cachefiles_delay_open,
	.release	= cachefiles_delay_release,
	.read		= cachefiles_delay_read,
	.write		= cachefiles_delay_write,
	.poll		= cachefiles_delay_poll,
};

/**
 * cachefiles_delay_init - Make delay points available
 * @dir: Directory of the module in debugfs; the file goes with it.
 */
void __init cachefiles_delay_init(struct dentry *dir)
{
	debugfs_create_file("delay", 0600, dir, NULL, &cachefiles_delay_fops);
}
