// SPDX-License-Identifier: GPL-2.0-only
/* What the fuzzer tells about a run. */
#include <stdio.h>
#include <string.h>

#include "fuzz.h"
#include "fuzz_run.h"

static const char * const depth_names[FZ_NR_DEPTHS] = {
	[FZ_BYTES] = "bytes compared", [FZ_OPENS] = "OPENs got", [FZ_READS] = "READs got",
	[FZ_CLOSES] = "CLOSEs got", [FZ_COPENS] = "copens taken", [FZ_CREADS] = "READs answered",
	[FZ_REFUSED_CALLS] = "illegal calls refused", [FZ_TAME_OPENS] = "copens of the tame one",
	[FZ_TAME_READS] = "READs of the tame one", [FZ_BINDS] = "binds", [FZ_MOUNTS] = "mounts",
	[FZ_UMOUNTS] = "unmounts", [FZ_CULLED] = "culled", [FZ_HITS] = "netfs blocks cached",
	[FZ_STORES] = "netfs stores", [FZ_KILLS] = "processes killed",
	[FZ_DAEMON_KILLS] = "daemons killed", [FZ_REBINDS] = "caches bound anew",
	[FZ_UNLOADS] = "module unloads", [FZ_ALLOCS] = "allocations failed",
};

/* All threads together. */
static void sum(unsigned int op, uint64_t by_errno[FZ_ERRNOS])
{
	memset(by_errno, 0, FZ_ERRNOS * sizeof(*by_errno));
	for (unsigned int i = 0; i < FZ_THREADS; i++)
		for (unsigned int e = 0; e < FZ_ERRNOS; e++)
			by_errno[e] += fz->slots[i].results[op][e];
}

static void print_op(unsigned int op)
{
	uint64_t by_errno[FZ_ERRNOS], total = 0;

	sum(op, by_errno);
	for (unsigned int e = 0; e < FZ_ERRNOS; e++)
		total += by_errno[e];
	if (!total)
		return;
	printf("  %-12s %9llu %9llu ", fz_op_name((int)op), (unsigned long long)total,
	       (unsigned long long)by_errno[0]);
	/* The most frequent ones. */
	for (int n = 0; n < 6; n++) {
		unsigned int most = 0;

		for (unsigned int e = 1; e < FZ_ERRNOS; e++)
			if (by_errno[e] && (!most || by_errno[e] > by_errno[most]))
				most = e;
		if (!most)
			break;
		printf(" %s:%llu", strerrorname_np((int)most) ?: "?",
		       (unsigned long long)by_errno[most]);
		by_errno[most] = 0;
	}
	printf("\n");
}

void fz_print_table(void)
{
	printf("  %-12s %9s %9s  %s\n", "operation", "times", "success", "errors");
	for (unsigned int i = 0; i < fz_op_count(); i++)
		print_op(i);
	for (unsigned int i = 0; i < FZ_NR_DEPTHS; i++)
		printf("  %-28s %llu\n", depth_names[i], (unsigned long long)fz->depth[i]);
}

static void share_of(const char *name, uint64_t *success, uint64_t *total)
{
	uint64_t by_errno[FZ_ERRNOS];

	for (unsigned int i = 0; i < fz_op_count(); i++) {
		if (strcmp(fz_op_name((int)i), name))
			continue;
		sum(i, by_errno);
		*success += by_errno[0];
		for (unsigned int e = 0; e < FZ_ERRNOS; e++)
			*total += by_errno[e];
	}
}

/*
 * What has not been reached, or NULL: a fuzzer that is turned away at the door proves nothing.
 * Not asked of a single thread, and of so few operations as may well miss something.
 */
const char *fz_missing(void)
{
	static const enum fz_depth needed[] = {
		FZ_BYTES, FZ_OPENS, FZ_READS, FZ_CLOSES, FZ_COPENS, FZ_CREADS, FZ_REFUSED_CALLS,
		FZ_TAME_OPENS, FZ_TAME_READS, FZ_BINDS, FZ_MOUNTS, FZ_UMOUNTS, FZ_CULLED,
	};
	uint64_t success = 0, total = 0;

	if (fz->only || fz->done < 20000)
		return NULL;
	for (unsigned int i = 0; i < sizeof(needed) / sizeof(*needed); i++)
		if (!fz->depth[needed[i]])
			return depth_names[needed[i]];
	share_of("read", &success, &total);
	share_of("reread", &success, &total);
	return success * 4 < total ? "one successful read in four" : NULL;
}

void fz_print_rings(void)
{
	long long now = cf_now();

	for (unsigned int i = 0; i < fz->nr_processes * fz->nr_threads; i++) {
		const struct fz_slot *s = &fz->slots[i];

		printf("thread %u, tid %d, at operation %llu", i, s->tid, (unsigned long long)s->n);
		if (s->since)
			printf(", for %lld ms", now - s->since);
		printf("\n");
		for (uint64_t n = s->n < FZ_RING ? 0 : s->n - FZ_RING + 1; n <= s->n; n++) {
			const struct fz_entry *e = &s->ring[n % FZ_RING];

			if (e->n != n || (!e->text[0] && !e->ret && !e->op))
				continue;
			printf("  %u %llu %s %s", i, (unsigned long long)n, fz_op_name(e->op),
			       e->text);
			if (e->ret == FZ_RUNNING)
				printf(" ... under way\n");
			else if (e->ret == FZ_KILLED)
				printf(" ... killed\n");
			else
				printf(" = %d\n", e->ret);
		}
	}
}
