// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fuzzer's parent process: it sets everything up, starts what was killed, binds what
 * has died, sees that nothing is stuck, and takes everything down again.
 *
 * A run is cut into rounds. Between them nothing of the fuzzer is left in the kernel, and
 * the modules have to go.
 */
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"
#include "fuzz_run.h"

/* Nothing takes longer than that, and nobody who was killed. */
#define STUCK_MS	30000
#define KILLED_MS	5000

static struct {
	uint64_t	ops, wanted, round;
	long long	end;		/* by the clock, or 0 */
	unsigned int	memory;		/* MiB for all workers, or 0 */
	bool		unload;
	const char	*cgroup;
	int		pin;		/* keeps cachefiles while both caches are bound anew */
	long long	since;		/* the parent's own wait, like fz_slot.since */
} run = { .round = 100000 };

static int limit(int ms)
{
	return ms * fz->scale;
}

/* --- what is stuck --- */

static void print_file(const char *path)
{
	char text[4096];

	if (cf_read_file(path, text, sizeof(text)) > 0)
		printf("%s", text);
}

static void print_stack(pid_t pid)
{
	char path[64];

	if (pid <= 0)
		return;
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	char text[256];

	if (cf_read_file(path, text, sizeof(text)) > 0) {
		char *state = strstr(text, "State:");

		printf("task %d %.*s\n", pid, state ? (int)strcspn(state, "\n") : 0, state ?: "");
	}
	snprintf(path, sizeof(path), "/proc/%d/stack", pid);
	print_file(path);
}

static void print_stacks(void)
{
	print_stack(getpid());
	print_stack(fz->tame);
	for (unsigned int i = 0; i < fz->nr_processes; i++)
		print_stack(fz->pids[i]);
	for (unsigned int i = 0; i < fz->nr_processes * fz->nr_threads; i++)
		print_stack(fz->slots[i].tid);
}

static void replay_hint(void)
{
	printf("again: --seed %llu --processes %u --threads %u\n", (unsigned long long)fz->seed,
	       fz->nr_processes, fz->nr_threads);
	printf("what thread T does from its operation N on: add --only T --first N --trace\n");
}

/* There is no way out for this process: leave, with all that the kernel will say. */
static void give_up(const char *why, unsigned int who)
{
	printf("STUCK: %s %u\n", why, who);
	if (fz->failed)
		printf("FAILED before: %s\n", fz->failure);
	replay_hint();
	fz_print_rings();
	print_stacks();
	fflush(stdout);
	if (fz->tame > 0)
		kill(fz->tame, SIGKILL);
	for (unsigned int i = 0; i < fz->nr_processes; i++)
		if (fz->pids[i] > 0)
			kill(fz->pids[i], SIGKILL);
	_exit(1);
}

static bool too_long(const long long *since)
{
	long long start = __atomic_load_n(since, __ATOMIC_ACQUIRE);

	return start && cf_now() - start > limit(STUCK_MS);
}

static void *watch(void *arg)
{
	(void)arg;
	for (;;) {
		for (unsigned int i = 0; i < fz->nr_processes * fz->nr_threads; i++)
			if (too_long(&fz->slots[i].since))
				give_up("thread", i);
		if (too_long(&run.since))
			give_up("the parent, by operation", 0);
		poll(NULL, 0, 500);
	}
	return NULL;
}

static void waiting(bool begin)
{
	__atomic_store_n(&run.since, begin ? cf_now() : 0, __ATOMIC_RELEASE);
}

/* --- processes --- */

static pid_t start(void (*fn)(unsigned int), unsigned int arg)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != fz->parent)
		_exit(0);
	cf_close_others(NULL, 0);
	if (run.cgroup) {
		char path[96];
		int fd;

		snprintf(path, sizeof(path), "%s/fuzz/cgroup.procs", run.cgroup);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, "0", 1) != 1)
			_exit(2);
		close(fd);
	}
	fn(arg);
	_exit(0);
}

static void tame(unsigned int arg)
{
	(void)arg;
	fz_tame();
}

static void worker(unsigned int process)
{
	fz_worker(process);
}

static void start_tame(void)
{
	const char *cgroup = run.cgroup;

	/* Memory is short for the others only, or nothing would get done. */
	run.cgroup = NULL;
	fz->tame = start(tame, 0);
	run.cgroup = cgroup;
}

static void bury(pid_t pid, int status)
{
	unsigned int i;

	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
		fz_fail("process %d has died of signal %d", pid, WTERMSIG(status));
	if (WIFEXITED(status) && WEXITSTATUS(status))
		fz_fail("process %d has ended with status %d", pid, WEXITSTATUS(status));
	if (pid == fz->tame) {
		fz->tame = 0;
		if (!fz_stopping())
			start_tame();
		return;
	}
	for (i = 0; i < fz->nr_processes && fz->pids[i] != pid; i++)
		;
	if (i == fz->nr_processes)
		return;
	fz->pids[i] = 0;
	/* What it has injected and not taken back. */
	if (fz->faults)
		cf_error_injection(0);
	if (WIFSIGNALED(status) && !fz_stopping())
		fz->pids[i] = start(worker, i);
}

static bool reap(void)
{
	int status;
	pid_t pid = waitpid(-1, &status, WNOHANG);

	if (pid <= 0)
		return false;
	bury(pid, status);
	return true;
}

static unsigned int alive(void)
{
	unsigned int n = 0;

	while (reap())
		;
	for (unsigned int i = 0; i < fz->nr_processes; i++)
		n += fz->pids[i] > 0;
	return n;
}

/* --- caches --- */

/* The generation is odd while there is none: then everybody lets go of the old one. */
static int bind_cache(struct fz_cache *c)
{
	int dev = cf_device(), ret;

	if (dev < 0)
		return dev;
	ret = cf_cmd(dev, "dir %s", c->dir);
	if (!ret)
		ret = cf_cmd(dev, "tag %s", c->tag);
	if (!ret)
		ret = cf_cmd(dev, "bind %s", c->ondemand ? "ondemand" : "");
	if (ret) {
		close(dev);
		return ret;
	}
	__atomic_store_n(&c->fd, dev, __ATOMIC_RELEASE);
	__atomic_add_fetch(&c->gen, 1, __ATOMIC_ACQ_REL);
	return 0;
}

static void unbind_cache(struct fz_cache *c)
{
	if (c->fd < 0)
		return;
	__atomic_add_fetch(&c->gen, 1, __ATOMIC_ACQ_REL);
	waiting(true);
	close(c->fd);
	waiting(false);
	c->fd = -1;
}

/* Others may have its directory for a moment, or still hold the one that has died. */
static void look_after(struct fz_cache *c)
{
	static long long since;

	if (c->fd >= 0 && cf_cmd(c->fd, "nocull") != -EIO)
		return;
	if (c->fd >= 0)
		since = cf_now();
	unbind_cache(c);
	waiting(true);
	if (fz->faults)
		cf_error_injection(0);
	if (!bind_cache(c))
		fz_count(FZ_REBINDS, 1);
	else if (cf_now() - since > limit(STUCK_MS))
		fz_fail("%s can't be bound again", c->dir);
	waiting(false);
}

static void make_caches(void)
{
	static const char * const names[] = { "main", "orig" };
	char path[128], tag[32];

	for (unsigned int i = 0; i < 2; i++) {
		struct fz_cache *c = &fz->caches[i];

		snprintf(c->dir, sizeof(c->dir), CF_STORE "/%s", names[i]);
		snprintf(c->tag, sizeof(c->tag), "%s", names[i]);
		c->ondemand = !i;
		c->fd = -1;
		c->gen = 1;
		mkdir(c->dir, 0700);
	}
	for (unsigned int i = 0; i < FZ_LOCALS; i++) {
		fz_local(i, path, tag);
		mkdir(path, 0700);
	}
	for (unsigned int i = 0; i < FZ_VOLUMES + FZ_LOCALS; i++) {
		fz_mount_point(i, path);
		mkdir(path, 0755);
	}
	close(open(CF_STORE "/file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
}

/* --- rounds --- */

static bool begin_round(void)
{
	const char *const load[] = { "modprobe", "cachefiles", NULL };
	int ret;

	/* The last round may have unloaded it. */
	if (access(CF_DEVICE, F_OK))
		cf_run(20000, load);
	if (!cf_have_fs("ondemandfs"))
		return false;
	run.pin = cf_device();
	for (unsigned int i = 0; i < 2; i++) {
		ret = bind_cache(&fz->caches[i]);
		if (ret)
			fz_fail("bind %s: %s", fz->caches[i].dir, strerror(-ret));
	}
	for (unsigned int i = 0; i < FZ_VOLUMES && !fz->failed; i++) {
		ret = fz_mount(i);
		if (ret)
			fz_fail("mount %u: %s", i, strerror(-ret));
	}
	if (fz->failed)
		return true;
	start_tame();
	for (unsigned int i = 0; i < fz->nr_processes; i++)
		fz->pids[i] = start(worker, i);
	return true;
}

static void progress(void)
{
	static long long last, first;
	static uint64_t then;
	long long now = cf_now();
	uint64_t done = __atomic_load_n(&fz->done, __ATOMIC_RELAXED);

	if (!last) {
		first = now;
		last = now;
	}
	if (now - last < 10000)
		return;
	printf("# %4lld s: %llu operations, %llu a second\n", (now - first) / 1000,
	       (unsigned long long)done, (unsigned long long)(done - then) * 1000 / (now - last));
	fflush(stdout);
	last = now;
	then = done;
}

static void supervise(void)
{
	while (!fz_stopping()) {
		for (unsigned int i = 0; i < 2; i++)
			look_after(&fz->caches[i]);
		if (!alive() || (run.end && cf_now() > run.end))
			break;
		progress();
		poll(NULL, 0, 20);
	}
	__atomic_store_n(&fz->stop, true, __ATOMIC_RELEASE);
}

static void kill_and_wait(pid_t pid)
{
	long long end = cf_now() + limit(KILLED_MS);
	int status;

	if (pid <= 0)
		return;
	kill(pid, SIGKILL);
	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (cf_now() > end)
			give_up("a killed process does not end, pid", pid);
		poll(NULL, 0, 5);
	}
}

static void unmount_all(void)
{
	for (unsigned int i = 0; i < FZ_VOLUMES + FZ_LOCALS; i++) {
		long long end = cf_now() + limit(KILLED_MS);
		char dir[64];

		fz_mount_point(i, dir);
		waiting(true);
		while (fz_is_mounted(i)) {
			/* The last files are closed a moment after their processes are gone. */
			if (!umount2(dir, 0))
				continue;
			if (errno != EBUSY || cf_now() > end) {
				fz_fail("umount %s: %s", dir, strerror(errno));
				umount2(dir, MNT_DETACH);
			}
			poll(NULL, 0, 10);
		}
		waiting(false);
	}
}

static void unload_modules(void)
{
	static const char * const names[] = { "cf_netfs", "ondemandfs", "cachefiles" };

	for (unsigned int i = 0; i < 3; i++) {
		long long end = cf_now() + limit(KILLED_MS);

		waiting(true);
		while (syscall(SYS_delete_module, names[i], O_NONBLOCK)) {
			if (errno == ENOENT)
				break;
			if (cf_now() > end) {
				fz_fail("%s can't be unloaded: %s", names[i], strerror(errno));
				break;
			}
			poll(NULL, 0, 10);
		}
		waiting(false);
	}
	fz_count(FZ_UNLOADS, 1);
}

static void end_round(void)
{
	long long end = cf_now() + limit(STUCK_MS);

	while (alive()) {
		for (unsigned int i = 0; i < fz->nr_processes && cf_now() > end; i++)
			if (fz->pids[i] > 0)
				give_up("a process does not end, number", i);
		poll(NULL, 0, 5);
	}
	kill_and_wait(fz->tame);
	fz->tame = 0;
	if (fz->faults)
		cf_error_injection(0);
	unmount_all();
	for (unsigned int i = 0; i < 2; i++)
		unbind_cache(&fz->caches[i]);
	close(run.pin);
	if (run.unload && !fz->failed)
		unload_modules();
}

/* --- the whole --- */

static void limit_memory(void)
{
	static const char dir[] = CF_BASE "/cgroup";
	char path[96], text[32];
	int fd;

	mkdir(dir, 0755);
	if (mount("cgroup2", dir, "cgroup2", 0, NULL)) {
		printf("# no cgroups, so memory is not limited: %s\n", strerror(errno));
		return;
	}
	fd = open(CF_BASE "/cgroup/cgroup.subtree_control", O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (write(fd, "+memory", 7) != 7)
			perror("memory controller");
		close(fd);
	}
	snprintf(path, sizeof(path), "%s/fuzz", dir);
	mkdir(path, 0755);
	strcat(path, "/memory.max");
	snprintf(text, sizeof(text), "%uM", run.memory);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		printf("# memory is not limited: %s\n", strerror(errno));
	else
		run.cgroup = dir;
	if (fd >= 0)
		close(fd);
}

static const struct option options[] = {
	{ "seed", required_argument, NULL, 's' },
	{ "ops", required_argument, NULL, 'o' },
	{ "minutes", required_argument, NULL, 'm' },
	{ "processes", required_argument, NULL, 'p' },
	{ "threads", required_argument, NULL, 't' },
	{ "round", required_argument, NULL, 'r' },
	{ "memory", required_argument, NULL, 'M' },
	{ "faults", no_argument, NULL, 'f' },
	{ "backing", no_argument, NULL, 'b' },
	{ "unload", no_argument, NULL, 'u' },
	{ "trace", no_argument, NULL, 'T' },
	{ "only", required_argument, NULL, 'O' },
	{ "first", required_argument, NULL, 'F' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL }
};

static void usage(void)
{
	puts("fuzz [OPTION]...\n\n"
	     "  --seed N       what is tried follows from it alone (default: the time)\n"
	     "  --ops N        operations in all, default 20000, or as many as there is time for\n"
	     "  --minutes N    end after that time, which fails if --ops wants more\n"
	     "  --processes N  default 6: two daemons, three readers, one network file system;\n"
	     "                 1 plays all of them\n"
	     "  --threads N    of each process, default 2\n"
	     "  --round N      take everything down after so many operations, default 100000\n"
	     "  --unload       and then unload the modules\n"
	     "  --faults       with I/O errors, lack of space and failing allocations\n"
	     "  --backing      damage files of a volume behind the cache's back, too\n"
	     "  --memory MIB   for all workers together\n"
	     "  --trace        print each operation on standard error\n"
	     "  --only T       replay: only thread T does anything\n"
	     "  --first N      replay: threads begin with their operation N\n\n"
	     "CF_TIME_SCALE multiplies time limits, CF_FSTYPE is the backing file system.\n"
	     "Needs root. Status 0: nothing found, 1: something, 4: can't be run here.");
}

static unsigned long long number(void)
{
	return strtoull(optarg, NULL, 0);
}

static void parse(int argc, char **argv)
{
	int c;

	fz->seed = (uint64_t)time(NULL);
	fz->nr_processes = 6;
	fz->nr_threads = 2;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 's':
			fz->seed = number();
			break;
		case 'o':
			run.ops = number();
			run.wanted = run.ops;
			break;
		case 'm':
			run.end = cf_now() + 60000LL * (long long)number();
			break;
		case 'p':
			fz->nr_processes = (unsigned int)number();
			break;
		case 't':
			fz->nr_threads = (unsigned int)number();
			break;
		case 'r':
			run.round = number();
			break;
		case 'M':
			run.memory = (unsigned int)number();
			break;
		case 'f':
			fz->faults = true;
			break;
		case 'b':
			fz->backing = true;
			break;
		case 'u':
			run.unload = true;
			break;
		case 'T':
			fz->trace = true;
			break;
		case 'O':
			fz->only = number() + 1;
			break;
		case 'F':
			fz->first = number();
			break;
		default:
			usage();
			exit(c == 'h' ? 0 : 2);
		}
	}
	if (!run.ops)
		run.ops = run.end ? UINT64_MAX / 2 : 20000;
	if (!fz->nr_processes || fz->nr_processes > FZ_PROCESSES || !fz->nr_threads ||
	    fz->nr_processes * fz->nr_threads > FZ_THREADS) {
		printf("at most %d processes, and %d threads in all\n", FZ_PROCESSES, FZ_THREADS);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	const char *fstype = getenv("CF_FSTYPE") ?: "ext4";
	long long began = cf_now(), took;
	const char *missing;
	unsigned int more = 3;
	uint64_t left;
	pthread_t t;

	fz = mmap(NULL, sizeof(*fz), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (fz == MAP_FAILED)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	fz->parent = getpid();
	fz->scale = cf_ms(1);
	parse(argc, argv);
	fz_ops_init();
	if (cf_world_init(fstype)) {
		printf("%s\n", cf_why);
		return 4;
	}
	make_caches();
	if (run.memory)
		limit_memory();
	for (unsigned int i = 0; i < FZ_THREADS; i++)
		fz->slots[i].n = fz->first;
	printf("# seed %llu, %llu operations, %u processes of %u threads%s%s\n",
	       (unsigned long long)fz->seed, (unsigned long long)run.ops, fz->nr_processes,
	       fz->nr_threads, fz->faults ? ", faults" : "", fz->backing ? ", damage" : "");
	if (pthread_create(&t, NULL, watch, NULL))
		return 2;

	if (run.round > run.ops)
		run.round = run.ops;
	for (left = run.ops; left && !fz->failed && (!run.end || cf_now() < run.end);) {
		uint64_t n = left < run.round ? left : run.round;

		fz->stop = false;
		/* Those that came too late have counted as well. */
		fz->done = run.ops - left;
		fz->target = fz->done + n;
		if (!begin_round()) {
			printf("no ondemandfs (CONFIG_ONDEMANDFS)\n");
			return 4;
		}
		supervise();
		end_round();
		left -= n;
		/* Readers have to wait, and get little done in a short run: prolong it. */
		if (!left && more && fz_missing()) {
			left = run.round;
			run.ops += left;
			more--;
		}
	}
	took = cf_now() - began;
	if (fz->done > fz->target)
		fz->done = fz->target;
	printf("# %llu operations in %lld.%lld s, %lld a second\n", (unsigned long long)fz->done,
	       took / 1000, took / 100 % 10, (long long)fz->done * 1000 / (took ?: 1));
	fz_print_table();
	missing = fz_missing();
	if (fz->failed) {
		printf("FAILED: %s\n", fz->failure);
		replay_hint();
		fz_print_rings();
	} else if (missing) {
		printf("FAILED: none at all: %s\n", missing);
		fz->failed = true;
	} else if (fz->done < run.wanted) {
		printf("FAILED: the time has run out\n");
		fz->failed = true;
	}
	if (cf_world_exit()) {
		printf("FAILED: a backing file system is still in use\n");
		fz->failed = true;
	}
	return fz->failed;
}
