// SPDX-License-Identifier: GPL-2.0-only
/*
 * A small on-demand daemon: serves the files of a directory by cookie key.
 *
 * With --supervise the process that binds the cache only keeps the device and
 * the counters; a worker process serves, gets the device over a socket, and is
 * replaced when it dies.  Everything a worker knows is told to it again by the
 * kernel, so its successor starts from nothing but "restore".
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/daemon.h"

#define MAX_FDS		(1U << 20)
#define MAX_THREADS	64
#define MAX_CMDS	16
#define SEEN_IDS	(1U << 23)	/* message ids whose redelivery is noticed */
#define SEEN_KEYS	(1U << 16)
#define CHUNK		(256U << 10)
#define EXIT_DEAD	3		/* worker: the cache is gone */

/* Shared between the supervisor and all its workers, whatever happens to them. */
struct shared {
	_Atomic unsigned long	opens, reads, closes, bytes;
	_Atomic unsigned long	reopened;	/* OPEN of a key that was open before */
	_Atomic unsigned long	resent;		/* messages delivered once more */
	_Atomic unsigned long	unknown;	/* OPEN of a key that is no file */
	_Atomic unsigned long	stale;		/* requests or answers overtaken by events */
	_Atomic unsigned long	errors;		/* source or write errors */
	_Atomic unsigned long	restores, starts, deaths, kills;
	_Atomic unsigned long	busy;		/* deaths with a message not yet dealt with */
	_Atomic unsigned long	first;		/* READs that were not delivered before */
	_Atomic unsigned long	held;		/* messages the worker has now */
	_Atomic int		worker;		/* its pid, 0 when there is none */
	_Atomic __u64	keys[SEEN_KEYS];
	_Atomic __u64	ids[SEEN_IDS / 64];
};

/* What the daemon holds under one descriptor of its own. */
struct slot {
	pthread_rwlock_t	lock;
	__u32		object_id;	/* 0: nothing */
	int			src;		/* never 0, which is stdin */
	__u64		size;
	const char		*map;
};

static struct options {
	const char	*source, *cache, *tag, *stats;
	const char	*cmds[MAX_CMDS];
	int		nr_cmds, threads, worker_fd;
	long		delay_us, kill_ms, kill_reads, kills, chunk;
	int		supervise, use_mmap;
} opt = { .threads = 1, .worker_fd = -1 };

static struct shared *shared;
static struct slot *slots;
static unsigned int nr_slots;
static int device = -1, source_dir = -1;

static __attribute__((noreturn, format(printf, 2, 3)))
void fatal(int err, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "ondemandd: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, err ? ": %s\n" : "\n", strerror(err));
	exit(1);
}

static void add(_Atomic unsigned long *counter, unsigned long n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static void print_stats(FILE *f)
{
	const struct {
		const char		*name;
		_Atomic unsigned long	*count;
	} counts[] = {
		{ "opens", &shared->opens },
		{ "reads", &shared->reads },
		{ "closes", &shared->closes },
		{ "bytes", &shared->bytes },
		{ "reopened", &shared->reopened },
		{ "resent", &shared->resent },
		{ "unknown", &shared->unknown },
		{ "stale", &shared->stale },
		{ "errors", &shared->errors },
		{ "restores", &shared->restores },
		{ "starts", &shared->starts },
		{ "deaths", &shared->deaths },
		{ "kills", &shared->kills },
		{ "busy", &shared->busy },
	};
	struct pollfd p = { .fd = device, .events = POLLIN };

	for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++)
		fprintf(f, "%s=%lu\n", counts[i].name, atomic_load(counts[i].count));
	fprintf(f, "pending=%d\n", poll(&p, 1, 0) > 0 && (p.revents & POLLIN));
	fprintf(f, "worker=%d\n", atomic_load(&shared->worker));
}

/* Replace the statistics file in one step, so that nobody reads half of it. */
static void save_stats(void)
{
	char tmp[4096];
	FILE *f;

	if (!opt.stats) {
		print_stats(stdout);
		fflush(stdout);
		return;
	}
	snprintf(tmp, sizeof(tmp), "%s.new", opt.stats);
	f = fopen(tmp, "we");
	if (!f)
		return;
	print_stats(f);
	if (!fclose(f))
		rename(tmp, opt.stats);
}

/* Whether this message was delivered before. */
static bool seen_id(__u32 id)
{
	__u64 bit = 1ULL << (id % 64);

	if (id >= SEEN_IDS)
		return false;
	return atomic_fetch_or_explicit(&shared->ids[id / 64], bit,
					memory_order_relaxed) & bit;
}

/* Whether this key had an OPEN before. */
static bool seen_key(const char *key)
{
	__u64 h = 14695981039346656037ULL;

	while (*key)
		h = (h ^ (unsigned char)*key++) * 1099511628211ULL;
	h |= 1;
	for (unsigned int i = 0; i < SEEN_KEYS; i++) {
		_Atomic __u64 *p = &shared->keys[(h + i) % SEEN_KEYS];
		__u64 empty = 0;

		if (atomic_compare_exchange_strong(p, &empty, h))
			return false;
		if (empty == h)
			return true;
	}
	return false;
}

/* --- serving --- */

static void slot_clear(struct slot *s)
{
	if (s->map)
		munmap((void *)s->map, s->size);
	if (s->src > 0)
		close(s->src);
	s->object_id = 0;
	s->src = 0;
	s->map = NULL;
}

/* Open the source of @key into @s: its size, or a negative errno. */
static long long open_source(struct slot *s, const char *key)
{
	struct stat st;
	void *p;

	if (!*key || strchr(key, '/') || !strcmp(key, ".") || !strcmp(key, ".."))
		return -ENOENT;
	s->src = openat(source_dir, key, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (s->src < 0)
		return errno == ELOOP ? -ENOENT : -errno;
	if (fstat(s->src, &st) || !S_ISREG(st.st_mode))
		return -ENOENT;
	s->size = st.st_size;
	if (opt.use_mmap && s->size) {
		p = mmap(NULL, s->size, PROT_READ, MAP_SHARED | MAP_POPULATE, s->src, 0);
		if (p != MAP_FAILED)
			s->map = p;
	}
	return st.st_size;
}

static void handle_open(const struct cf_msg *m)
{
	unsigned int fd = cf_open(m)->fd;
	bool again = seen_id(m->hdr.msg_id);
	struct slot *s = fd < nr_slots ? &slots[fd] : NULL;
	long long size = -EMFILE;
	char key[256];

	add(&shared->opens, 1);
	add(&shared->resent, again);
	cf_key(m, key);
	if (s) {
		/* In place before the answer: a READ may reach another thread. */
		pthread_rwlock_wrlock(&s->lock);
		slot_clear(s);
		size = open_source(s, key);
		if (size >= 0)
			s->object_id = m->hdr.object_id;
		else
			slot_clear(s);
		pthread_rwlock_unlock(&s->lock);
	}
	if (size == -ENOENT)
		add(&shared->unknown, 1);
	else if (size < 0)
		add(&shared->errors, 1);
	else if (seen_key(key) && !again)
		add(&shared->reopened, 1);
	if (cf_copen(device, m->hdr.msg_id, size))
		add(&shared->stale, 1);
	if (size < 0)
		close(fd);
}

static void handle_close(const struct cf_msg *m)
{
	unsigned int fd = cf_close(m)->fd;
	struct slot *s;

	add(&shared->closes, 1);
	if (fd >= nr_slots)
		return;
	s = &slots[fd];
	pthread_rwlock_wrlock(&s->lock);
	if (s->object_id == m->hdr.object_id) {
		slot_clear(s);
		close(fd);
	}
	pthread_rwlock_unlock(&s->lock);
}

/* Copy [off, off + len) of the source: 0, or a negative errno. */
static int fill(struct slot *s, int fd, char *buf, __u64 off, __u64 len)
{
	__u64 top = (s->size + CF_BLOCK - 1) / CF_BLOCK * CF_BLOCK;

	if (off >= top)
		return 0;
	if (len > top - off)
		len = top - off;
	while (len) {
		size_t n = s->map ? len : len < CHUNK ? len : CHUNK;
		const char *p = s->map + off;
		ssize_t got;

		if (!s->map) {
			size_t data = s->size - off < n ? s->size - off : n;

			got = pread(s->src, buf, data, (off_t)off);
			if (got != (ssize_t)data)
				return got < 0 ? -errno : -ENODATA;
			if (data < n)
				memset(buf + data, 0, n - data);
			p = buf;
		}
		got = pwrite(fd, p, n, (off_t)off);
		if (got <= 0)
			return got ? -errno : -EIO;
		add(&shared->bytes, got);
		off += got;
		len -= got;
	}
	return 0;
}

static void handle_read(const struct cf_msg *m, char *buf)
{
	const struct cachefiles_read *rd = cf_rd(m);
	__u64 off = rd->off, end = rd->off + rd->len;
	bool again = seen_id(m->hdr.msg_id);
	struct slot *s;
	int ret;

	add(&shared->reads, 1);
	add(&shared->resent, again);
	/*
	 * The answer and the end are now on their way, and either may be first.
	 * No READ causes two deaths, or nothing would ever be answered.
	 */
	if (opt.supervise && opt.kill_reads && !again &&
	    (atomic_fetch_add(&shared->first, 1) + 1) % opt.kill_reads == 0)
		kill(getppid(), SIGALRM);
	if (opt.chunk) {
		off -= off % opt.chunk;
		end += (opt.chunk - end % opt.chunk) % opt.chunk;
	}
	if (rd->fd >= nr_slots)
		return;
	if (opt.delay_us) {
		struct timespec ts = {
			.tv_sec = opt.delay_us / 1000000,
			.tv_nsec = opt.delay_us % 1000000 * 1000,
		};

		nanosleep(&ts, NULL);
	}
	s = &slots[rd->fd];
	pthread_rwlock_rdlock(&s->lock);
	if (s->object_id != m->hdr.object_id) {
		add(&shared->stale, 1);
	} else {
		ret = fill(s, (int)rd->fd, buf, off, end - off);
		/* ENOBUFS: the object was dropped meanwhile. */
		if (ret)
			add(ret == -ENOBUFS ? &shared->stale : &shared->errors, 1);
		/* Also without data: the reader then gets its error. */
		if (cf_cread((int)rd->fd, m->hdr.msg_id))
			add(&shared->stale, 1);
	}
	pthread_rwlock_unlock(&s->lock);
}

static void *serve(void *arg)
{
	struct pollfd p = { .fd = device, .events = POLLIN };
	struct cf_msg m;
	char *buf = NULL;
	int ret;

	if (posix_memalign((void **)&buf, CF_BLOCK, CHUNK))
		fatal(ENOMEM, "buffer");
	for (;;) {
		if (poll(&p, 1, -1) < 0 && errno != EINTR)
			fatal(errno, "poll");
		ret = cf_read(device, &m);
		if (ret == -EIO)
			_exit(EXIT_DEAD);
		if (ret <= 0) {
			/* EMFILE and the like: the request waits until it can be had. */
			if (ret < 0)
				add(&shared->errors, 1);
			continue;
		}
		add(&shared->held, 1);
		switch (m.hdr.opcode) {
		case CACHEFILES_OP_OPEN:
			handle_open(&m);
			break;
		case CACHEFILES_OP_CLOSE:
			handle_close(&m);
			break;
		case CACHEFILES_OP_READ:
			handle_read(&m, buf);
			break;
		}
		atomic_fetch_sub(&shared->held, 1);
	}
	return arg;
}

static void start_threads(void)
{
	struct rlimit lim;
	pthread_t thread;

	source_dir = open(opt.source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (source_dir < 0)
		fatal(errno, "%s", opt.source);
	if (getrlimit(RLIMIT_NOFILE, &lim))
		fatal(errno, "RLIMIT_NOFILE");
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
	nr_slots = lim.rlim_cur < MAX_FDS ? lim.rlim_cur : MAX_FDS;
	/* Untouched parts of the table cost nothing; an rwlock of zeros is valid. */
	slots = mmap(NULL, nr_slots * sizeof(*slots), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (slots == MAP_FAILED)
		fatal(errno, "descriptor table");
	for (int i = 0; i < opt.threads; i++) {
		int ret = pthread_create(&thread, NULL, serve, NULL);

		if (ret)
			fatal(ret, "thread");
	}
}

/* --- worker and supervisor --- */

static void map_shared(int fd)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shared == MAP_FAILED)
		fatal(errno, "statistics");
}

/* The worker process: told where its socket is, and nothing else. */
static int run_worker(void)
{
	int mem, ret;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	device = cf_recv_fd(opt.worker_fd, 10000);
	mem = cf_recv_fd(opt.worker_fd, 10000);
	close(opt.worker_fd);
	if (device < 0 || mem < 0)
		fatal(device < 0 ? -device : -mem, "no device from the supervisor");
	map_shared(mem);
	close(mem);
	ret = cf_cmd(device, "restore");
	if (ret == -EIO)
		return EXIT_DEAD;
	if (ret)
		fatal(-ret, "restore");
	add(&shared->restores, 1);
	start_threads();
	for (;;)
		pause();
}

static pid_t start_worker(char **argv, int argc, int mem)
{
	char *args[argc + 3], number[32];
	int sv[2], keep;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv))
		fatal(errno, "socketpair");
	pid = fork();
	if (pid < 0)
		fatal(errno, "fork");
	if (!pid) {
		sigset_t none;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		keep = sv[1];
		cf_close_others(&keep, 1);
		fcntl(keep, F_SETFD, 0);
		snprintf(number, sizeof(number), "--worker=%d", keep);
		args[0] = argv[0];
		args[1] = number;
		memcpy(args + 2, argv + 1, argc * sizeof(*args));
		execv("/proc/self/exe", args);
		_exit(127);
	}
	close(sv[1]);
	/* A worker that is dead already is seen by its end, not here. */
	if (!cf_send_fd(sv[0], device))
		cf_send_fd(sv[0], mem);
	close(sv[0]);
	atomic_store(&shared->worker, pid);
	add(&shared->starts, 1);
	return pid;
}

static void arm(int timer, long ms)
{
	struct itimerspec its = {
		.it_value = { ms / 1000, ms % 1000 * 1000000 },
		.it_interval = { ms / 1000, ms % 1000 * 1000000 },
	};

	timerfd_settime(timer, 0, &its, NULL);
}

/* Kill the worker, if there is one to be killed still. */
static void kill_worker(pid_t pid, bool *killed)
{
	if (!pid || *killed || (opt.kills && (long)atomic_load(&shared->kills) >= opt.kills))
		return;
	*killed = true;
	kill(pid, SIGKILL);
	add(&shared->kills, 1);
}

/*
 * Keep the device and a worker.  SIGUSR1 saves the statistics, SIGUSR2 ends
 * the worker and starts no other, SIGHUP starts one again, SIGTERM ends it all.
 */
static int supervise(char **argv, int argc, int mem, int signals)
{
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), status, pidfd = -1;
	struct signalfd_siginfo si;
	bool parked = false, killed = false;
	pid_t pid = 0;
	__u64 ticks;

	if (opt.kill_ms)
		arm(timer, opt.kill_ms);
	for (;;) {
		struct pollfd p[3] = {
			{ .fd = signals, .events = POLLIN },
			{ .fd = timer, .events = POLLIN },
		};

		if (!pid && !parked) {
			atomic_store(&shared->held, 0);
			killed = false;
			pid = start_worker(argv, argc, mem);
			pidfd = cf_pidfd(pid);
			save_stats();
		}
		p[2].fd = pidfd;
		p[2].events = POLLIN;
		if (poll(p, 3, -1) < 0)
			continue;
		if (p[1].revents && read(timer, &ticks, sizeof(ticks)) > 0)
			kill_worker(pid, &killed);
		if (p[2].revents) {
			waitpid(pid, &status, 0);
			close(pidfd);
			pidfd = -1;
			pid = 0;
			atomic_store(&shared->worker, 0);
			add(&shared->deaths, 1);
			add(&shared->busy, atomic_load(&shared->held) > 0);
			save_stats();
			if (WIFEXITED(status) && WEXITSTATUS(status))
				return WEXITSTATUS(status);
		}
		if (!p[0].revents || read(signals, &si, sizeof(si)) != sizeof(si))
			continue;
		switch (si.ssi_signo) {
		case SIGUSR1:
			save_stats();
			break;
		case SIGUSR2:
			parked = true;
			if (pid)
				kill(pid, SIGKILL);
			else
				save_stats();
			break;
		case SIGHUP:
			parked = false;
			break;
		case SIGALRM:
			/* Not for what an earlier worker has asked for. */
			if (si.ssi_pid == (__u32)pid)
				kill_worker(pid, &killed);
			break;
		default:
			if (pid) {
				kill(pid, SIGKILL);
				waitpid(pid, NULL, 0);
			}
			return 0;
		}
	}
}

static int serve_here(int signals)
{
	struct signalfd_siginfo si;

	atomic_store(&shared->worker, getpid());
	start_threads();
	save_stats();
	for (;;) {
		if (read(signals, &si, sizeof(si)) != sizeof(si))
			continue;
		if (si.ssi_signo == SIGTERM || si.ssi_signo == SIGINT)
			return 0;
		save_stats();
	}
}

static void bind_cache(void)
{
	int ret;

	device = cf_device();
	if (device < 0)
		fatal(-device, CF_DEVICE);
	for (int i = 0; i < opt.nr_cmds; i++) {
		ret = cf_cmd(device, "%s", opt.cmds[i]);
		if (ret)
			fatal(-ret, "%s", opt.cmds[i]);
	}
	ret = cf_bind(device, opt.cache, opt.tag);
	if (ret)
		fatal(-ret, "binding %s", opt.cache);
}

static const struct option long_options[] = {
	{ "tag",	required_argument, NULL, 't' },
	{ "threads",	required_argument, NULL, 'n' },
	{ "supervise",	no_argument,	   NULL, 's' },
	{ "delay-us",	required_argument, NULL, 'd' },
	{ "stats",	required_argument, NULL, 'o' },
	{ "chunk",	required_argument, NULL, 'C' },
	{ "mmap",	no_argument,	   NULL, 'm' },
	{ "command",	required_argument, NULL, 'c' },
	{ "kill-ms",	required_argument, NULL, 'k' },
	{ "kill-reads",	required_argument, NULL, 'r' },
	{ "kills",	required_argument, NULL, 'K' },
	{ "worker",	required_argument, NULL, 'w' },
	{ NULL }
};

static void help(void)
{
	fprintf(stderr,
		"usage: ondemandd [options] SOURCE_DIR CACHE_DIR\n"
		"  --tag TAG        name of the cache (CacheFiles)\n"
		"  --threads N      serving threads (1)\n"
		"  --supervise      serve in a worker process that is replaced when it dies\n"
		"  --delay-us N     wait before each answer to a READ\n"
		"  --chunk KIB      fill aligned chunks of so much, more than was asked for\n"
		"  --stats FILE     where SIGUSR1 and the end put the statistics (stdout)\n"
		"  --mmap           map the source files instead of reading them\n"
		"  --command TEXT   command to write to the device before bind; repeatable\n"
		"  --kill-ms N      supervisor: SIGKILL the worker every N ms\n"
		"  --kill-reads N   supervisor: SIGKILL the worker at every Nth READ that is new\n"
		"  --kills N        stop that after N kills\n");
	exit(2);
}

static void parse(int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (c) {
		case 't':
			opt.tag = optarg;
			break;
		case 'n':
			opt.threads = atoi(optarg);
			break;
		case 's':
			opt.supervise = 1;
			break;
		case 'd':
			opt.delay_us = atol(optarg);
			break;
		case 'C':
			opt.chunk = atol(optarg) << 10;
			break;
		case 'o':
			opt.stats = optarg;
			break;
		case 'm':
			opt.use_mmap = 1;
			break;
		case 'c':
			if (opt.nr_cmds == MAX_CMDS)
				fatal(0, "too many commands");
			opt.cmds[opt.nr_cmds++] = optarg;
			break;
		case 'k':
			opt.kill_ms = atol(optarg);
			break;
		case 'r':
			opt.kill_reads = atol(optarg);
			break;
		case 'K':
			opt.kills = atol(optarg);
			break;
		case 'w':
			opt.worker_fd = atoi(optarg);
			break;
		default:
			help();
		}
	}
	if (argc - optind != 2 || opt.threads < 1 || opt.threads > MAX_THREADS ||
	    opt.chunk < 0 || opt.chunk % CF_BLOCK)
		help();
	opt.source = argv[optind];
	opt.cache = argv[optind + 1];
}

int main(int argc, char **argv)
{
	/* getopt permutes its argument vector; the worker gets the original order. */
	char *orig[argc + 1];
	int mem, signals, ret;
	sigset_t set;

	memcpy(orig, argv, (argc + 1) * sizeof(*orig));
	parse(argc, argv);
	if (opt.worker_fd >= 0)
		return run_worker();

	mem = memfd_create("ondemandd", MFD_CLOEXEC);
	if (mem < 0 || ftruncate(mem, sizeof(*shared)))
		fatal(errno, "statistics");
	map_shared(mem);
	bind_cache();

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGALRM);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (signals < 0)
		fatal(errno, "signalfd");
	if (opt.supervise)
		ret = supervise(orig, argc, mem, signals);
	else
		ret = serve_here(signals);
	save_stats();
	return ret;
}
