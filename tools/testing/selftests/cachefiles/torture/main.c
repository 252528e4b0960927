// SPDX-License-Identifier: GPL-2.0-only
/*
 * cf_torture [OPTION]... CACHE_DIR MOUNT_DIR
 * cf_torture --make DIR FILES
 * cf_torture --make-images DIR FILES
 *
 * Binds a cache in CACHE_DIR, reads through ondemandfs below MOUNT_DIR, and lets
 * daemons die at every point of the protocol, systematically and at random, while
 * readers compare every byte.  With --image, the EROFS image FILE of a directory that
 * --make has filled is served and mounted as well.  With --erofs, EROFS over FS-Cache
 * takes the place of ondemandfs, with images that --make-images has made in DIR.
 *
 * Status 0 if nothing was off, 1 if something was, 4 if the kernel does not have it.
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "torture/torture.h"
#include "lib/erofs.h"

struct torture *sh;

static unsigned int state;

void draw_seed(unsigned int seed)
{
	state = seed;
}

unsigned int draw(unsigned int n)
{
	return n ? (unsigned int)rand_r(&state) % n : 0;
}

void fault(const char *fmt, ...)
{
	char text[sizeof(sh->fault)] = "";
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	/* The text is there before anybody can see that there is one. */
	if (!atomic_fetch_or(&sh->failed, 2)) {
		memcpy(sh->fault, text, sizeof(text));
		atomic_fetch_or(&sh->failed, 1);
	}
}

static const struct option options[] = {
	{ "seed",	required_argument, NULL, 's' },
	{ "readers",	required_argument, NULL, 'r' },
	{ "files",	required_argument, NULL, 'f' },
	{ "kills",	required_argument, NULL, 'k' },
	{ "minutes",	required_argument, NULL, 'm' },
	{ "threads",	required_argument, NULL, 't' },
	{ "umount-ms",	required_argument, NULL, 'u' },
	{ "image",	required_argument, NULL, 'i' },
	{ "image-files", required_argument, NULL, 'I' },
	{ "out",	required_argument, NULL, 'o' },
	{ "brief",	no_argument,	   NULL, 'b' },
	{ "erofs",	required_argument, NULL, 'e' },
	{ "make",	no_argument,	   NULL, 'M' },
	{ "make-images", no_argument,	   NULL, 'N' },
	{ NULL }
};

static __attribute__((noreturn)) void usage(void)
{
	fprintf(stderr,
		"usage: cf_torture [OPTION]... CACHE_DIR MOUNT_DIR\n"
		"       cf_torture --make DIR FILES\n"
		"       cf_torture --make-images DIR FILES\n"
		"  --seed N          what is drawn\n"
		"  --readers N       processes that read (16)\n"
		"  --files N         files, each of which is to be read completely (20000)\n"
		"  --kills N         daemons to be killed, at least (1000)\n"
		"  --minutes N       end after this time in any case, done or not (20)\n"
		"  --threads N       of a daemon (8)\n"
		"  --umount-ms N     the unmounts at the end take no longer (1000)\n"
		"  --image FILE      serve this image, too, and mount it\n"
		"  --image-files N   with so many files\n"
		"  --erofs DIR       read through EROFS, and such images\n"
		"  --brief           each point once, and any of the files\n"
		"  --out FILE        what was counted, as NAME=VALUE\n");
	exit(2);
}

static void parse(int argc, char **argv, struct options *o, int *make)
{
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 's':
			o->seed = strtoul(optarg, NULL, 0);
			break;
		case 'r':
			o->readers = strtoul(optarg, NULL, 0);
			break;
		case 'f':
			o->files = strtoul(optarg, NULL, 0);
			break;
		case 'k':
			o->kills = strtoul(optarg, NULL, 0);
			break;
		case 'm':
			o->minutes = atoi(optarg);
			break;
		case 't':
			o->threads = strtoul(optarg, NULL, 0);
			break;
		case 'u':
			o->umount_ms = atoi(optarg);
			break;
		case 'i':
			o->image = optarg;
			break;
		case 'I':
			o->image_files = strtoul(optarg, NULL, 0);
			break;
		case 'o':
			o->out = optarg;
			break;
		case 'b':
			o->brief = true;
			break;
		case 'e':
			o->erofs = optarg;
			break;
		case 'M':
		case 'N':
			*make = c;
			break;
		default:
			usage();
		}
	}
	if (argc - optind != 2)
		usage();
	o->cache = argv[optind];
	o->mounts = argv[optind + 1];
	if (*make)
		return;
	if (!o->readers || o->readers > MAX_READERS || !o->files || o->files > 10000000 ||
	    !o->threads || o->threads > 64 || o->minutes < 1 || (o->image && !o->image_files) ||
	    (o->image && o->erofs))
		usage();
}

static void *shared(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	return p;
}

/* What was to be done at some point, and never was. */
static unsigned int missed(void)
{
	unsigned int nr = 0;

	for (int k = 0; k < KINDS; k++) {
		for (int p = 0; p < POINTS; p++) {
			for (int a = 0; a < ACTIONS; a++) {
				if (!asked_for(&(struct item) { k, p, a }) || sh->hits[k][p][a])
					continue;
				printf("# never %s: %s %s\n", action_names[a], kind_names[k],
				       point_names[p]);
				nr++;
			}
		}
	}
	return nr;
}

static void print_points(void)
{
	printf("# %-18s", "at a point");
	for (int a = 0; a < ACTIONS; a++)
		printf(" %s", action_names[a]);
	printf("\n");
	for (int k = 0; k < KINDS; k++) {
		for (int p = 0; p < POINTS; p++) {
			unsigned long *h = (unsigned long *)sh->hits[k][p];

			if (!(h[0] + h[1] + h[2] + h[3]))
				continue;
			printf("# %-6s %-16s %6lu %7lu %10lu %9lu\n", kind_names[k], point_names[p],
			       h[0], h[1], h[2], h[3]);
		}
	}
}

static void print_counts(FILE *f, const char *prefix, const char *equals)
{
	const struct {
		const char		*name;
		unsigned long long	n;
	} counts[] = {
		{ "seed", sh->opt.seed },
		{ "milliseconds", cf_now() - who.started },
		{ "kills", who.kills },
		{ "kills_with_work", who.busy },
		{ "in_flight_at_kills", who.in_flight },
		{ "most_in_flight", who.most_in_flight },
		{ "daemons", who.starts },
		{ "restores", who.restores },
		{ "caches_closed", who.rebinds },
		{ "reader_kills", who.reader_kills },
		{ "stuck_readers", who.stuck_readers },
		{ "umounts", who.umounts },
		{ "umounts_busy", who.busy_umounts },
		{ "umounts_forced", who.forced },
		{ "culls", who.culls },
		{ "files_culled", sh->culled },
		{ "longest_cull_ms", sh->longest_cull },
		{ "opens", sh->opens },
		{ "reopens", sh->reopens },
		{ "reads", sh->reads },
		{ "closes", sh->closes },
		{ "answers_refused", sh->refused },
		{ "reads_of_another", sh->foreign },
		{ "device_reads_failed", sh->faulted },
		{ "stale_answers_tried", sh->stale_tried },
		{ "stale_answers_accepted", sh->stale_accepted },
		{ "bytes_served", sh->served },
		{ "bytes_compared", sh->bytes },
		{ "files_opened", sh->visits },
		{ "files_seen", sh->opt.files - content_unread(NULL) },
		{ "mapped", sh->mapped },
		{ "errors_allowed", sh->excused },
		{ "errors", sh->errors },
		{ "mismatches", sh->mismatches },
		{ "longest_read_ms", who.longest_read },
		{ "longest_reader_kill_ms", who.longest_reader_kill },
		{ "longest_umount_ms", who.longest_umount },
		{ "umounts_at_the_end_ms", who.last_umounts },
	};

	for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++)
		fprintf(f, "%s%s%s%llu\n", prefix, counts[i].name, equals, counts[i].n);
}

static int finish(void)
{
	unsigned int first, unread = content_unread(&first), nr;
	FILE *f;

	nr = atomic_load(&sh->failed) ? 0 : missed();
	if (nr)
		fault("%u things that were to be done at some point never were", nr);
	if (!atomic_load(&sh->failed) && !sh->opt.brief && !sh->stale_tried)
		fault("no daemon has come back to find its descriptor stale");
	if (!atomic_load(&sh->failed) && who.kills < sh->opt.kills)
		fault("%lu kills, %u were asked for", who.kills, sh->opt.kills);
	if (!atomic_load(&sh->failed) && !sh->opt.brief && unread)
		fault("%u files, first f%u, were not read completely in %d minutes", unread,
		      first, sh->opt.minutes);
	print_points();
	print_counts(stdout, "# ", ": ");
	if (sh->opt.out) {
		f = fopen(sh->opt.out, "we");
		if (f) {
			print_counts(f, "", "=");
			fclose(f);
		}
	}
	if (!atomic_load(&sh->failed))
		return 0;
	show_notes();
	printf("# FAILED after %.1f s, seed %u: %s\n", (cf_now() - who.started) / 1000.0,
	       sh->opt.seed, sh->fault);
	return 1;
}

int main(int argc, char **argv)
{
	struct options opt = {
		.seed = 1, .readers = 16, .files = 20000, .kills = 1000, .minutes = 20,
		.threads = 8, .umount_ms = 1000,
	};
	size_t nr_blocks;
	struct stat st;
	int make = 0;

	parse(argc, argv, &opt, &make);
	sh = shared(sizeof(*sh));
	if (make == 'N') {
		sh->opt.erofs = opt.cache;
		return content_make_images(opt.cache, atoi(opt.mounts));
	}
	if (make)
		return content_make(opt.cache, atoi(opt.mounts));
	if (opt.erofs && !cf_have_erofs_on_fscache()) {
		fprintf(stderr, "EROFS does not read through FS-Cache\n");
		return 4;
	}
	sh->opt = opt;
	sh->opened = shared(opt.files + FRESH + OBJECTS + 1);
	sh->seen = shared(opt.files);
	if (opt.image) {
		if (stat(opt.image, &st)) {
			perror(opt.image);
			return 2;
		}
		sh->object_size[OBJECTS] = st.st_size;
	}
	if (opt.erofs && content_find_images(opt.erofs)) {
		perror(opt.erofs);
		return 2;
	}
	nr_blocks = content_count();
	if (!nr_blocks) {
		fprintf(stderr, "no memory\n");
		return 2;
	}
	sh->compared = shared(nr_blocks);
	draw_seed(opt.seed);
	people_init();
	who.deadline = who.started + opt.minutes * 60000LL;
	printf("# seed %u: %u readers, %u files, %u kills\n", opt.seed, opt.readers, opt.files,
	       opt.kills);
	fflush(stdout);
	if (surroundings_up()) {
		campaign();
		if (!atomic_load(&sh->failed))
			surroundings_down();
	}
	return finish();
}
