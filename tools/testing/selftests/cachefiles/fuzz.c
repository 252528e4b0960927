// SPDX-License-Identifier: GPL-2.0-only
/*
 * A fuzzer for cachefiles and what stands on it: legal and illegal messages, commands,
 * ids and file operations from several threads and processes at once.  See
 * "fuzz --help" for its use, and fuzz.h for how it is made up.
 */
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fuzz.h"
#include "fuzz_daemon.h"
#include "fuzz_run.h"
#include "lib/failnth.h"

struct fz_shared *fz;

/* --- what operations are made with --- */

/* A stream for each operation of each thread (splitmix64). */
uint64_t fz_random(struct fz_task *t)
{
	uint64_t z = t->random += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static void begin_random(struct fz_task *t, uint64_t n)
{
	t->random = fz->seed * 0xd1342543de82ef95ULL + ((uint64_t)t->id << 48);
	t->random = fz_random(t) + n;
	t->random = fz_random(t);
}

void fz_say(struct fz_task *t, const char *fmt, ...)
{
	size_t used = strnlen(t->entry->text, FZ_TEXT - 1);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(t->entry->text + used, FZ_TEXT - used, fmt, ap);
	va_end(ap);
}

void fz_fail(const char *fmt, ...)
{
	va_list ap;

	if (__atomic_exchange_n(&fz->failed, true, __ATOMIC_ACQ_REL))
		return;
	va_start(ap, fmt);
	vsnprintf(fz->failure, sizeof(fz->failure), fmt, ap);
	va_end(ap);
	__atomic_store_n(&fz->stop, true, __ATOMIC_RELEASE);
}

static bool among(int err, va_list ap)
{
	int allowed;

	while ((allowed = va_arg(ap, int)))
		if (allowed == err)
			return true;
	return false;
}

static void unexpected(struct fz_task *t, int ret, const char *what)
{
	fz_fail("%s: thread %u operation %llu: %s %s: %d (%s)", what, t->id,
		(unsigned long long)t->entry->n, fz_op_name(t->entry->op), t->entry->text, ret,
		ret < 0 ? strerror(-ret) : "success");
}

int fz_expect(struct fz_task *t, int ret, ...)
{
	va_list ap;
	bool ok;

	/* Another thread may have run out of descriptors on purpose. */
	if (ret >= 0 || t->lenient || ret == -ENOMEM || ret == -EMFILE)
		return ret;
	va_start(ap, ret);
	ok = among(-ret, ap);
	va_end(ap);
	if (!ok)
		unexpected(t, ret, "undocumented error");
	return ret;
}

int fz_refused(struct fz_task *t, int ret, ...)
{
	va_list ap;
	bool ok;

	if (ret >= 0) {
		unexpected(t, ret, "an illegal call succeeds");
		return ret;
	}
	fz_count(FZ_REFUSED_CALLS, 1);
	if (t->lenient || ret == -ENOMEM)
		return ret;
	va_start(ap, ret);
	ok = among(-ret, ap);
	va_end(ap);
	if (!ok)
		unexpected(t, ret, "the wrong refusal");
	return ret;
}

/* --- the table of operations --- */

static const struct fz_op *ops[FZ_OPS];
static unsigned int nr_ops;

static void add_ops(const struct fz_op *op)
{
	for (; op->name && nr_ops < FZ_OPS; op++)
		ops[nr_ops++] = op;
}

void fz_ops_init(void)
{
	add_ops(fz_daemon_ops);
	add_ops(fz_object_ops);
	add_ops(fz_device_ops);
	add_ops(fz_reader_ops);
	add_ops(fz_netfs_ops);
}

const char *fz_op_name(int op)
{
	return op >= 0 && op < (int)nr_ops ? ops[op]->name : "?";
}

unsigned int fz_op_count(void)
{
	return nr_ops;
}

static int pick_op(struct fz_task *t)
{
	unsigned int total = 0, at;

	for (unsigned int i = 0; i < nr_ops; i++)
		if (ops[i]->roles & t->roles)
			total += ops[i]->weight;
	at = fz_below(t, total);
	for (unsigned int i = 0; i < nr_ops; i++) {
		if (!(ops[i]->roles & t->roles))
			continue;
		if (at < ops[i]->weight)
			return (int)i;
		at -= ops[i]->weight;
	}
	return 0;
}

/* --- one operation --- */

static void trace(struct fz_task *t, const char *how)
{
	char line[FZ_TEXT + 96];
	int n;

	if (!fz->trace)
		return;
	n = snprintf(line, sizeof(line), "%u %llu %s %s%s\n", t->id,
		     (unsigned long long)t->entry->n, fz_op_name(t->entry->op), t->entry->text,
		     how);
	if (write(2, line, n) != n)
		return;
}

static void run_op(struct fz_task *t)
{
	struct fz_slot *s = t->slot;
	struct fz_entry *e = &s->ring[s->n % FZ_RING];
	const struct fz_op *op;
	char result[32];
	int ret, nth = 0;

	t->entry = e;
	begin_random(t, s->n);
	*e = (struct fz_entry) { .n = s->n, .op = pick_op(t), .ret = FZ_RUNNING };
	op = ops[e->op];
	nth = fz_below(t, 40) ? 0 : 1 + (int)fz_below(t, 30);
	t->lenient = nth && t->can_fail;
	__atomic_store_n(&s->since, cf_now(), __ATOMIC_RELEASE);

	fz_enter(t->p);
	if (t->roles & FZ_NETFS)
		fz_netfs_refresh(t);
	/* Nobody else of this process might answer. */
	if (op->blocks && t->roles & FZ_DAEMON)
		fz_drop_slots(t->p);
	if (t->lenient)
		cf_fail_nth(nth);
	ret = op->run(t);
	if (t->lenient && cf_fail_left() == 0)
		fz_count(FZ_ALLOCS, 1);
	if (s->injected && !--s->injected)
		cf_error_injection(0);
	/* From here on another thread can close whatever is open (op_close_range). */
	fz_leave(t->p);

	e->ret = ret;
	s->results[e->op][ret >= 0 ? 0 : -ret < FZ_ERRNOS ? -ret : FZ_ERRNOS - 1]++;
	snprintf(result, sizeof(result), " = %d", ret);
	trace(t, result);
	__atomic_store_n(&s->since, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&s->n, s->n + 1, __ATOMIC_RELEASE);
}

/* --- threads --- */

struct starting {
	struct fz_process	*p;
	pthread_barrier_t	*ready;
	unsigned int		id, roles;
};

static bool task_init(struct fz_task *t)
{
	unsigned char *pages = mmap(NULL, 4 * FZ_PAGE, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED || mprotect(pages + FZ_PAGE, FZ_PAGE, PROT_NONE) ||
	    mprotect(pages + 2 * FZ_PAGE, FZ_PAGE, PROT_READ) ||
	    mprotect(pages + 3 * FZ_PAGE, FZ_PAGE, PROT_NONE) ||
	    posix_memalign((void **)&t->buf, FZ_PAGE, FZ_BUF))
		return false;
	t->pages = pages;
	memset(t->buf, 0, FZ_BUF);
	/* Without that, only what the module can inject. */
	t->can_fail = fz->faults && !cf_fail_init();
	/* A working directory of its own, for culling. */
	return !unshare(CLONE_FS) && !fz_reader_init(t) && !fz_netfs_init(t);
}

static void *run_thread(void *arg)
{
	struct starting *s = arg;
	struct fz_task t = {
		.p = s->p, .slot = &fz->slots[s->id], .id = s->id, .roles = s->roles,
	};

	if (!task_init(&t))
		fz_fail("thread %u can't be set up: %s", t.id, strerror(errno));
	t.slot->tid = (pid_t)syscall(SYS_gettid);
	pthread_barrier_wait(s->ready);
	/* The first one says from where descriptors can be closed. */
	pthread_barrier_wait(s->ready);
	while (!fz_stopping()) {
		if (fz->only && fz->only != t.id + 1)
			break;
		if (__atomic_fetch_add(&fz->done, 1, __ATOMIC_RELAXED) >= fz->target)
			break;
		run_op(&t);
	}
	/* Whoever goes on is not to wait for what this one holds. */
	fz_drop_slots(s->p);
	__atomic_store_n(&t.slot->since, cf_now(), __ATOMIC_RELEASE);
	if (t.roles & FZ_NETFS)
		fz_netfs_exit(&t);
	__atomic_store_n(&t.slot->since, 0, __ATOMIC_RELEASE);
	return NULL;
}

static unsigned int roles_of(unsigned int process)
{
	/* Readers are slow: they wait for the others. */
	static const unsigned int roles[] = {
		FZ_DAEMON, FZ_READER, FZ_NETFS, FZ_READER, FZ_DAEMON, FZ_READER,
	};

	switch (fz->nr_processes) {
	case 1:
		return FZ_DAEMON | FZ_READER | FZ_NETFS;
	case 2:
		return process ? FZ_READER | FZ_NETFS : FZ_DAEMON;
	default:
		return roles[process % 6];
	}
}

/* A process that was killed may have been in the middle of an operation. */
static void skip_interrupted(struct fz_slot *s)
{
	struct fz_entry *e = &s->ring[s->n % FZ_RING];

	if (s->since && e->n == s->n && e->ret == FZ_RUNNING) {
		e->ret = FZ_KILLED;
		s->n++;
	}
	s->since = 0;
}

void fz_worker(unsigned int process)
{
	unsigned int nr = fz->nr_threads, roles = roles_of(process);
	struct starting starting[FZ_THREADS];
	struct fz_process *p = fz_process_new();
	pthread_t threads[FZ_THREADS];
	pthread_barrier_t ready;

	if (!p)
		_exit(2);
	p->nf = -1;
	if (roles & FZ_NETFS) {
		p->nf = cf_nf_open();
		p->volume = p->nf < 0 ? p->nf : fz_netfs_volume(p->nf, process);
		/* Without the module that plays it. */
		if (p->volume < 0)
			roles = (roles & ~FZ_NETFS) ?: FZ_READER;
	}
	pthread_barrier_init(&ready, NULL, nr + 1);
	for (unsigned int i = 0; i < nr; i++) {
		starting[i] = (struct starting) { p, &ready, process * nr + i, roles };
		skip_interrupted(&fz->slots[starting[i].id]);
		if (pthread_create(&threads[i], NULL, run_thread, &starting[i]))
			_exit(2);
	}
	pthread_barrier_wait(&ready);
	fz_process_ready(p);
	pthread_barrier_wait(&ready);
	for (unsigned int i = 0; i < nr; i++)
		pthread_join(threads[i], NULL);
	fz_process_end(p);
	_exit(0);
}
