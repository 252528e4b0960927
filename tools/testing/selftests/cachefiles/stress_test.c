// SPDX-License-Identifier: GPL-2.0-only
/*
 * With daemons, readers and descriptors dying at random times, every byte that
 * is read is right and everybody who is not killed comes to an end.
 *
 * CF_SEED repeats a run, CF_SECONDS makes it longer.
 */
#include "harness.h"

#define FILES	4
#define READERS	6
#define SIZE	(3 * MB + 1234)

static unsigned int number(const char *name, unsigned int def)
{
	const char *s = getenv(name);

	return s ? (unsigned int)strtoul(s, NULL, 0) : def;
}

static void start_one(struct __test_metadata *_metadata, struct cf_env *e,
		      struct cf_reader *r, int i, unsigned int *seed)
{
	struct cf_job job = {
		.seed = i % FILES,
		.off = rand_r(seed) % (unsigned int)SIZE,
		.len = SIZE,
		.sequential = rand_r(seed) % 4 != 0,
		.again = rand_r(seed) % 2,
	};
	char name[16];

	if (!job.sequential)
		job.len = 64 * KB;
	snprintf(name, sizeof(name), "f%d", i % FILES);
	ASSERT_EQ(0, cf_reader_start(r, e->mnt, name, &job));
}

TEST_F_TIMEOUT(ondemand, random_deaths, 300)
{
	unsigned int seed = number("CF_SEED", (unsigned int)cf_now());
	long long end = cf_now() + number("CF_SECONDS", 15) * 1000;
	int finished = 0, killed = 0, daemons = 0;
	struct cf_env *e = &self->e;
	struct cf_reader r[READERS];
	struct cf_result res;
	char name[16];

	TH_LOG("CF_SEED=%u", seed);
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		ASSERT_NE(NULL, cf_server_add(&self->s, name, SIZE, i));
	}
	ASSERT_EQ(0, cf_server_fork(&self->s, false));
	for (int i = 0; i < READERS; i++)
		start_one(_metadata, e, &r[i], i, &seed);

	/* On a slow machine as well, one finishes before all are left alone. */
	while (cf_now() < end || (!finished && cf_now() < end + cf_ms(60000))) {
		int i = rand_r(&seed) % READERS;

		switch (rand_r(&seed) % 8) {
		case 0:
			EXPECT_LE(0, cf_reader_kill(&r[i], PROMPT));
			start_one(_metadata, e, &r[i], i, &seed);
			killed++;
			break;
		case 1:
		case 2:
			kill(self->s.pid, SIGKILL);
			ASSERT_EQ(0, cf_server_wait(&self->s, LONG));
			ASSERT_EQ(0, cf_server_fork(&self->s, true));
			daemons++;
			break;
		case 3:
			ASSERT_EQ(0, cf_cmd(e->dev, "restore"));
			break;
		case 4:
			cf_drop_caches("1");
			break;
		default:
			if (cf_reader_wait(&r[i], &res, 20) == -ETIMEDOUT)
				break;
			EXPECT_EQ(0, res.err) {
				TH_LOG("reader of f%d: stage %c errno %d", i % FILES,
				       res.stage, res.err);
			}
			EXPECT_EQ(-1, res.bad);
			start_one(_metadata, e, &r[i], i, &seed);
			finished++;
		}
	}
	TH_LOG("%d readers finished, %d killed, %d daemons killed, %lu reopened",
	       finished, killed, daemons, self->s.stats->reopened);
	/* Left alone, all of them finish. */
	for (int i = 0; i < READERS; i++) {
		ASSERT_EQ(0, cf_reader_wait(&r[i], &res, 60000));
		EXPECT_EQ(0, res.err);
		EXPECT_EQ(-1, res.bad);
	}
	EXPECT_LT(0, finished);
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
}

TEST_HARNESS_MAIN
