// SPDX-License-Identifier: GPL-2.0-only
/*
 * The supervisor's processes.  It never does itself what might wait for a daemon:
 * readers, daemons and helpers are processes, and pump() sees what becomes of them.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "torture/torture.h"
#include "lib/cache.h"

/* How long a system call may take while somebody serves, and after the cache's end. */
#define STUCK		15000
#define ENDED		5000
/* So many files are culled at a time, at most. */
#define CULL		500
/* So long writing back takes, at most. */
#define SYNCED		60000
/* A reader that is killed is gone by then. */
#define GONE		5000
#define NOTES		24

struct people who = { .device = -1, .signals = -1 };

static char notes[NOTES][160];
static unsigned int nr_notes;

/* Remember what was done last; shown when something is off. */
void note(const char *fmt, ...)
{
	char *to = notes[nr_notes++ % NOTES];
	va_list args;
	int n;

	n = snprintf(to, sizeof(*notes), "%9.3f s ", (cf_now() - who.started) / 1000.0);
	va_start(args, fmt);
	vsnprintf(to + n, sizeof(*notes) - n, fmt, args);
	va_end(args);
}

void show_notes(void)
{
	for (unsigned int i = nr_notes > NOTES ? nr_notes - NOTES : 0; i < nr_notes; i++)
		printf("# %s\n", notes[i % NOTES]);
}

void mount_path(int mount, char path[256])
{
	snprintf(path, 256, "%s/%d", sh->opt.mounts, mount);
}

/* --- readers --- */

static void start_reader(unsigned int nr)
{
	struct reader_state *r = &sh->readers[nr];
	pid_t pid = fork();

	if (pid < 0) {
		fault("fork: %s", strerror(errno));
		return;
	}
	if (!pid)
		reader(nr);
	atomic_store(&r->pid, pid);
}

void start_readers(void)
{
	for (unsigned int i = 0; i < sh->opt.readers; i++)
		start_reader(i);
	who.watcher = fork();
	if (!who.watcher)
		watch(getppid());
}

static void reader_ended(unsigned int nr, int status)
{
	struct reader_state *r = &sh->readers[nr];
	long long ms;

	atomic_store(&r->pid, 0);
	atomic_store(&r->mount, 0);
	atomic_store(&r->holding, 0);
	atomic_store(&r->since, 0);
	if (who.readers[nr].killed) {
		ms = cf_now() - who.readers[nr].killed;
		who.readers[nr].killed = 0;
		if (ms > who.longest_reader_kill)
			who.longest_reader_kill = ms;
	} else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
		who.stuck_readers++;
		note("the watcher has killed reader %u", nr);
	} else if (status) {
		fault("reader %u has ended with status 0x%x", nr, status);
	}
	if (!atomic_load(&sh->quit))
		start_reader(nr);
}

static bool no_readers(void)
{
	for (unsigned int i = 0; i < sh->opt.readers; i++) {
		if (atomic_load(&sh->readers[i].pid))
			return false;
	}
	return true;
}

/* Let all of them finish what they are at. */
bool stop_readers(void)
{
	atomic_store(&sh->quit, 1);
	return pump(cf_ms(STUCK), no_readers);
}

/* One who has waited for long may be stuck: that must not be covered up. */
static void kill_some_reader(void)
{
	unsigned int nr = draw(sh->opt.readers);
	pid_t pid = atomic_load(&sh->readers[nr].pid);
	long long since = atomic_load(&sh->readers[nr].since);

	if (since && cf_now() - since > 1000)
		return;
	if (!pid || who.readers[nr].killed || atomic_load(&sh->quit))
		return;
	who.readers[nr].killed = cf_now();
	who.reader_kills++;
	kill(pid, SIGKILL);
}

static void tell_threads(pid_t pid)
{
	char path[64], text[2048], *at, *next;
	struct dirent *de;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	while (d && (de = readdir(d))) {
		if (*de->d_name == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%.16s/status", pid, de->d_name);
		if (cf_read_file(path, text, sizeof(text)) <= 0)
			continue;
		at = strstr(text, "\nState:\t");
		printf("#   %s in %c:", de->d_name, at ? at[8] : '?');
		snprintf(path, sizeof(path), "/proc/%d/task/%.16s/stack", pid, de->d_name);
		if (cf_read_file(path, text, sizeof(text)) <= 0)
			*text = '\0';
		for (at = text; at && *at; at = next) {
			next = strchr(at, '\n');
			if (next)
				*next++ = '\0';
			printf(" %.*s", (int)strcspn(at + 5, "+"), at + 5);
		}
		printf("\n");
	}
	if (d)
		closedir(d);
}

/* Who waits, and where everybody is. */
void tell_waiting(void)
{
	for (unsigned int i = 0; i < sh->opt.readers; i++) {
		struct reader_state *r = &sh->readers[i];
		long long since = atomic_load(&r->since);

		if (!since)
			continue;
		printf("# reader %u waits for %lld ms in '%c' of f%u at %llu\n", i,
		       cf_now() - since, atomic_load(&r->doing), atomic_load(&r->file),
		       atomic_load(&r->off));
		tell_threads(atomic_load(&r->pid));
	}
	for (int i = 0; i < MAX_DAEMONS; i++) {
		struct daemon_state *s = &sh->daemons[i];

		if (!who.daemons[i].pid)
			continue;
		printf("# daemon %d%s: holds %d messages, struck %d, ready %d, %d of others\n", i,
		       who.daemons[i].stopped ? ", stopped" : "", atomic_load(&s->held),
		       atomic_load(&s->struck), atomic_load(&s->ready),
		       atomic_load(&s->foreign));
		tell_threads(who.daemons[i].pid);
	}
	if (who.helper) {
		printf("# a helper has been at work for %lld ms\n", cf_now() - who.helper_since);
		tell_threads(who.helper);
	}
	fflush(stdout);
}

/* Nobody waits longer than anything here takes. */
static void check_readers(void)
{
	long long now = cf_now();

	for (unsigned int i = 0; i < sh->opt.readers; i++) {
		struct reader_state *r = &sh->readers[i];
		long long since = atomic_load(&r->since);

		if (who.readers[i].killed && now - who.readers[i].killed > cf_ms(GONE)) {
			tell_waiting();
			fault("reader %u was killed %lld ms ago and is still there", i,
			      now - who.readers[i].killed);
		}
		if (atomic_load(&r->longest) > who.longest_read)
			who.longest_read = atomic_load(&r->longest);
		if (!since)
			continue;
		if (now - since > cf_ms(STUCK) ||
		    (who.closed && since < who.closed && now - who.closed > cf_ms(ENDED))) {
			tell_waiting();
			fault("reader %u waits for %lld ms in '%c' of f%u at %llu%s", i,
			      now - since, atomic_load(&r->doing), atomic_load(&r->file),
			      atomic_load(&r->off), who.closed ? ", without a cache" : "");
		}
	}
}

/* --- daemons --- */

/* A daemon in @slot; how it takes over is drawn.  See serve() for the rest. */
int start_daemon(int slot, int die_at_restore)
{
	struct daemon *d = &who.daemons[slot];
	int restores = draw(8) ? 1 : 2;
	pid_t pid;

	atomic_store(&sh->daemons[slot].ready, 0);
	atomic_store(&sh->daemons[slot].held, 0);
	atomic_store(&sh->daemons[slot].struck, 0);
	/* The supervisor can do it for its child. */
	if (!die_at_restore && !draw(6)) {
		restores = 0;
		if (cf_cmd(who.device, "restore"))
			fault("restore: %s", strerror(errno));
	}
	pid = fork();
	if (pid < 0) {
		fault("fork: %s", strerror(errno));
		return -errno;
	}
	if (!pid)
		serve(who.device, slot, restores, die_at_restore);
	*d = (struct daemon) { .pid = pid, .doomed = die_at_restore };
	atomic_store(&sh->daemons[slot].pid, pid);
	who.restores += restores ? restores : 1;
	who.starts++;
	return 0;
}

void kill_daemon(int slot)
{
	if (!who.daemons[slot].pid)
		return;
	who.daemons[slot].doomed = true;
	kill(who.daemons[slot].pid, SIGKILL);
}

static void daemon_ended(int slot, int status)
{
	struct daemon_state *s = &sh->daemons[slot];
	struct daemon *d = &who.daemons[slot];
	int held = atomic_load(&s->held);

	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL ||
	    (!d->doomed && !atomic_load(&s->struck)))
		fault("a daemon has ended by itself, with status 0x%x", status);
	who.kills++;
	who.in_flight += held;
	who.busy += held > 0;
	if (held > (long)who.most_in_flight)
		who.most_in_flight = held;
	*d = (struct daemon) {};
	atomic_store(&s->pid, 0);
}

/* --- helpers --- */

/* The mounts there are. */
int mounts(void)
{
	return sh->opt.image ? MOUNTS : VOLUMES;
}

/* What is mounted from now on has other names, so that everything is fetched again. */
void next_turn(int mount)
{
	who.turns[mount]++;
	for (unsigned int i = 0; i <= DEVICES; i++)
		atomic_store(&sh->opened[content_index(FIRST_OBJECT + mount * (1 + DEVICES) + i)],
			     0);
}

/* One of them is in a domain. */
static int do_mount_image(int mount_nr, const char *path)
{
	char opts[512], key[32];
	int len;

	object_key(mount_nr, 0, who.turns[mount_nr], key);
	len = snprintf(opts, sizeof(opts), "fsid=%s%s", key,
		       mount_nr == 1 ? ",domain_id=torture" : "");
	for (unsigned int i = 1; i <= DEVICES; i++) {
		object_key(mount_nr, i, who.turns[mount_nr], key);
		if (sh->object_size[mount_nr * (1 + DEVICES) + i])
			len += snprintf(opts + len, sizeof(opts) - len, ",device=%s", key);
	}
	return mount("none", path, "erofs", MS_RDONLY, opts) ? errno : 0;
}

static int do_mount(int mount_nr)
{
	char path[256], source[300];

	mount_path(mount_nr, path);
	if (sh->opt.erofs)
		return do_mount_image(mount_nr, path);
	if (mount_nr != EROFS_MOUNT) {
		snprintf(source, sizeof(source), "torture,%d", mount_nr);
		return mount(source, path, "ondemandfs", MS_RDONLY, "cache=torture") ? errno : 0;
	}
	mount_path(IMAGE_MOUNT, source);
	strcat(source, "/" IMAGE_KEY);
	if (!mount(source, path, "erofs", MS_RDONLY, NULL))
		return 0;
	if (errno == ENOTBLK) {
		const char *const argv[] = { "mount", "-t", "erofs", "-o", "ro,loop", source,
					     path, NULL };

		return cf_run(30000, argv);
	}
	return errno;
}

static int do_umount(int mount_nr, int flags)
{
	char path[256];

	mount_path(mount_nr, path);
	return umount2(path, flags) ? errno : 0;
}

/* What has just been closed is let go a moment later. */
static int do_renew(int mount_nr)
{
	int ret = EBUSY;

	for (int i = 0; i < 20 && ret == EBUSY; i++) {
		if (i)
			usleep(50000);
		ret = do_umount(mount_nr, 0);
	}
	return ret ? ret : do_mount(mount_nr);
}

/* Inodes; those of EROFS have no objects of their own, so its pages instead. */
static int do_drop(void)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, sh->opt.erofs ? "1" : "2", 1) != 1 ? errno : 0;
}

/* Some of what is not in use. */
static int cull_one(const char *path, void *left)
{
	const char *slash = strrchr(path, '/');
	long long since = cf_now(), ms;
	char dir[1024];
	int ret;

	atomic_store(&sh->cull_step, since);
	if (!*(int *)left || !draw(3) || (sh->opt.erofs && !strstr(path, "/Ierofs,")))
		return -1;
	--*(int *)left;
	snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
	if (chdir(dir))
		return -errno;
	ret = cf_cmd(who.device, "cull %s", slash + 1);
	add(&sh->culled, !ret);
	ms = cf_now() - since;
	if (ms > atomic_load(&sh->longest_cull))
		atomic_store(&sh->longest_cull, ms);
	return ret;
}

static int do_cull(int mount_nr)
{
	int left = CULL;
	char dir[512];

	if (sh->opt.erofs)
		snprintf(dir, sizeof(dir), "%s/cache", sh->opt.cache);
	else
		snprintf(dir, sizeof(dir), "%s/cache/Itorture,%d", sh->opt.cache, mount_nr);
	cf_tree_count(dir, cull_one, &left);
	return 0;
}

/* A cache that has come back serves a file when somebody opens it again. */
static int do_touch(void)
{
	char path[256];

	mount_path(IMAGE_MOUNT, path);
	strcat(path, "/" IMAGE_KEY);
	return open(path, O_RDONLY | O_CLOEXEC) < 0 ? errno : 0;
}

/* What the end of the cache would wait for. */
static int do_sync(void)
{
	int fd = open(sh->opt.cache, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || syncfs(fd) ? errno : 0;
}

static __attribute__((noreturn)) void help(enum helper_job job, int mount_nr)
{
	int ret = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (job != H_CULL)
		cf_close_others(NULL, 0);
	switch (job) {
	case H_MOUNT:
		ret = do_mount(mount_nr);
		break;
	case H_UMOUNT:
		ret = do_umount(mount_nr, 0);
		break;
	case H_FORCE:
		ret = do_umount(mount_nr, MNT_FORCE);
		break;
	case H_DROP:
		ret = do_drop();
		break;
	case H_CULL:
		ret = do_cull(mount_nr);
		break;
	case H_TOUCH:
		ret = do_touch();
		break;
	case H_SYNC:
		ret = do_sync();
		break;
	case H_RENEW:
		ret = do_renew(mount_nr);
		break;
	case H_NONE:
		break;
	}
	_exit(ret);
}

/* One at a time; false if there is one at work. */
bool helper_start(enum helper_job job, int mount_nr)
{
	unsigned int seed = draw(1U << 30);

	if (who.helper)
		return false;
	who.helper_since = cf_now();
	who.helper = fork();
	if (!who.helper) {
		draw_seed(seed);
		help(job, mount_nr);
	}
	return who.helper > 0;
}

static bool no_helper(void)
{
	return !who.helper;
}

/*
 * Wait for its end.  One that culls has as long as it goes on from file to file: how
 * much there is to free, and how fast that goes, says nothing about anybody being stuck.
 */
static bool helper_ends(int ms)
{
	long long step;

	do {
		step = atomic_load(&sh->cull_step);
		if (pump(ms, no_helper))
			return true;
	} while (!atomic_load(&sh->failed) && atomic_load(&sh->cull_step) != step);
	return false;
}

/* Start one when there is none, and wait for its end: 0, or a positive errno. */
int helper_run(enum helper_job job, int mount_nr)
{
	int ms = cf_ms(job == H_SYNC ? SYNCED : STUCK);

	if (!helper_ends(cf_ms(SYNCED)) || !helper_start(job, mount_nr) || !helper_ends(ms)) {
		tell_waiting();
		fault("helper %d for mount %d takes %lld ms", job, mount_nr,
		      cf_now() - who.helper_since);
		who.helper_status = ETIMEDOUT;
	}
	return who.helper_status;
}

/* H_RENEW, which nobody waits for, has ended. */
static void renewed(void)
{
	int mount_nr = who.renewing - 1;

	who.renewing = 0;
	who.umounts++;
	if (who.helper_status)
		fault("renewing mount %d: %s", mount_nr, strerror(who.helper_status));
	else
		atomic_store(&sh->mount_on[mount_nr], 1);
}

/* --- all of them --- */

static void reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0) {
		for (int i = 0; i < MAX_DAEMONS; i++) {
			if (pid != who.daemons[i].pid)
				continue;
			if (WIFSTOPPED(status))
				who.daemons[i].stopped = true;
			else
				daemon_ended(i, status);
		}
		if (pid == who.helper) {
			who.helper = 0;
			who.helper_status = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
			if (who.renewing)
				renewed();
		}
		if (pid == who.watcher)
			fault("the watcher has ended");
		for (unsigned int i = 0; i < sh->opt.readers; i++) {
			if (pid == atomic_load(&sh->readers[i].pid) && !WIFSTOPPED(status))
				reader_ended(i, status);
		}
	}
}

static void say_progress(void)
{
	who.last_word = cf_now();
	printf("# %4lld s: %lu kills, %lu with work; %lu files opened, %u of %u seen, %lu MiB\n",
	       (cf_now() - who.started) / 1000, who.kills, who.busy, sh->visits,
	       sh->opt.files - content_unread(NULL), sh->opt.files, sh->bytes >> 20);
	fflush(stdout);
}

/*
 * Let time pass and keep everybody going, until @until says so (true), @ms
 * milliseconds are over, or something is off (false).
 */
bool pump(int ms, bool (*until)(void))
{
	struct pollfd p = { .fd = who.signals, .events = POLLIN };
	long long end = cf_now() + ms, now;
	struct signalfd_siginfo si;

	for (;;) {
		reap();
		if (atomic_load(&sh->failed))
			return false;
		if (until && until())
			return true;
		now = cf_now();
		if (now >= end)
			return false;
		if (now >= who.next_check) {
			check_readers();
			who.next_check = now + 100;
		}
		if (now >= who.next_reader_kill) {
			kill_some_reader();
			who.next_reader_kill = now + 100 + draw(600);
		}
		if (now >= who.last_word + 10000)
			say_progress();
		if (poll(&p, 1, end - now < 20 ? (int)(end - now) : 20) > 0 &&
		    read(who.signals, &si, sizeof(si)) < 0)
			fault("signalfd: %s", strerror(errno));
	}
}

void people_init(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	who.signals = signalfd(-1, &set, SFD_CLOEXEC);
	who.started = cf_now();
	who.last_word = who.started;
}
