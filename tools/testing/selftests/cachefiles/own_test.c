// SPDX-License-Identifier: GPL-2.0-only
/*
 * A daemon that touches what it serves waits for itself, and no longer than until it
 * is killed or its cache ends: nothing stays behind, and the mount can go.
 */
#include "harness.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum touch { LOOK_UP, READ, FAULT, MOUNT };

struct own {
	struct cf_env	*e;
	enum touch	touch;
	int		err;		/* what the touch ended with */
	int		says;		/* pipe: written to when it has ended */
};

static int touch(const struct own *o)
{
	char path[160], where[160], byte;
	int fd, to, err = 0;
	struct stat st;
	void *p;

	snprintf(path, sizeof(path), "%s/file", o->e->mnt);
	snprintf(where, sizeof(where), "%s-erofs", o->e->mnt);
	if (o->touch == LOOK_UP)
		return stat(path, &st) ? errno : 0;
	if (o->touch == MOUNT)
		return mount(path, where, "erofs", MS_RDONLY, NULL) ? errno : 0;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	if (o->touch == READ) {
		err = pread(fd, &byte, 1, 8192) == 1 ? 0 : errno;
		close(fd);
		return err;
	}
	p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 8192);
	close(fd);
	to = memfd_create("to", MFD_CLOEXEC);
	/* A fault in write(2) is told of by an errno, and not by a signal. */
	if (p == MAP_FAILED || to < 0 || write(to, p, 1) != 1)
		err = errno;
	close(to);
	munmap(p, 4096);
	return err;
}

static void *touch_and_say(void *arg)
{
	struct own *o = arg;

	o->err = touch(o);
	if (write(o->says, "", 1) != 1)
		_exit(1);
	return NULL;
}

/* What the daemon touches is known to the cache, unless that is what it asks for. */
static void prepare(struct __test_metadata *_metadata, struct cf_env *e, enum touch touch)
{
	char where[160];
	struct cf_reader r;
	struct cf_msg m;

	snprintf(where, sizeof(where), "%s-erofs", e->mnt);
	ASSERT_EQ(0, mkdir(where, 0755));
	if (touch != LOOK_UP) {
		ASSERT_LE(0, open_object(e, &r, "file", MB, &m));
	}
}

/* Only this process holds the device, and it waits for itself. Then it is killed. */
static void killed(struct __test_metadata *_metadata, struct cf_env *e, enum touch touch,
		   bool deliver)
{
	struct own o = { .e = e, .touch = touch };
	struct cf_msg m;
	int pidfd, says[2];
	char byte;
	pid_t pid;

	if (touch == MOUNT && !cf_have_erofs_on_files())
		SKIP(return, "no EROFS, or no CONFIG_EROFS_FS_BACKED_BY_FILE");
	prepare(_metadata, e, touch);
	ASSERT_EQ(0, pipe2(says, O_CLOEXEC));
	o.says = says[1];
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		touch_and_say(&o);
		_exit(0);
	}
	pidfd = cf_pidfd(pid);
	ASSERT_LE(0, pidfd);
	close(says[1]);
	ASSERT_EQ(POLLIN, cf_poll(e->dev, POLLIN, cf_ms(LONG)));
	if (deliver) {
		ASSERT_LT(0, cf_next(e->dev, &m, LONG));
	}
	close(e->dev);
	e->dev = -1;
	EXPECT_EQ(0, cf_poll(says[0], POLLIN, cf_ms(BRIEF)));
	kill(pid, SIGKILL);
	/* Exiting waits for the end of the read, and then up to a second for the cache's. */
	EXPECT_EQ(POLLIN, cf_poll(pidfd, POLLIN, cf_ms(LONG)));
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	EXPECT_EQ(0, read(says[0], &byte, 1));
	if (touch == FAULT) {
		/* Whoever looks at its status in /proc keeps its mapping a moment longer. */
		EXPECT_EQ(0, cf_umount_idle(e->mnt, LONG));
		e->mounted = false;
	} else {
		EXPECT_LE(0, cf_env_umount(e, PROMPT));
	}
	/* With it went the cache: there can be a new one. */
	e->dev = cf_device();
	ASSERT_LE(0, e->dev);
	EXPECT_EQ(0, cf_env_bind(e));
	close(pidfd);
	close(says[0]);
}

TEST_F(ondemand, d38_killed_in_lookup)
{
	killed(_metadata, &self->e, LOOK_UP, false);
}

TEST_F(ondemand, d38_killed_in_lookup_sent)
{
	killed(_metadata, &self->e, LOOK_UP, true);
}

TEST_F(ondemand, d38_killed_in_read)
{
	killed(_metadata, &self->e, READ, false);
}

TEST_F(ondemand, d38_killed_in_read_sent)
{
	killed(_metadata, &self->e, READ, true);
}

TEST_F(ondemand, d38_killed_in_fault)
{
	killed(_metadata, &self->e, FAULT, false);
}

TEST_F(ondemand, d38_killed_in_fault_sent)
{
	killed(_metadata, &self->e, FAULT, true);
}

TEST_F(ondemand, d34_d38_killed_in_mount)
{
	killed(_metadata, &self->e, MOUNT, false);
}

TEST_F(ondemand, d34_d38_killed_in_mount_sent)
{
	killed(_metadata, &self->e, MOUNT, true);
}

/* One thread waits for the process itself, another one ends the cache. */
static void closed(struct __test_metadata *_metadata, struct cf_env *e, enum touch touch)
{
	struct own o = { .e = e, .touch = touch };
	pthread_t thread;
	struct cf_msg m;
	int says[2];

	if (touch == MOUNT && !cf_have_erofs_on_files())
		SKIP(return, "no EROFS, or no CONFIG_EROFS_FS_BACKED_BY_FILE");
	prepare(_metadata, e, touch);
	ASSERT_EQ(0, pipe2(says, O_CLOEXEC));
	o.says = says[1];
	ASSERT_EQ(0, pthread_create(&thread, NULL, touch_and_say, &o));
	ASSERT_LT(0, cf_next(e->dev, &m, LONG));
	EXPECT_EQ(0, cf_poll(says[0], POLLIN, cf_ms(BRIEF)));
	close(e->dev);
	e->dev = -1;
	ASSERT_EQ(POLLIN, cf_poll(says[0], POLLIN, cf_ms(5000)));
	pthread_join(thread, NULL);
	EXPECT_EQ(touch == FAULT ? EFAULT : EIO, o.err);
	EXPECT_LE(0, cf_env_umount(e, PROMPT));
	close(says[0]);
	close(says[1]);
}

TEST_F(ondemand, d38_closed_in_lookup)
{
	closed(_metadata, &self->e, LOOK_UP);
}

TEST_F(ondemand, d38_closed_in_read)
{
	closed(_metadata, &self->e, READ);
}

TEST_F(ondemand, d38_closed_in_fault)
{
	closed(_metadata, &self->e, FAULT);
}

TEST_F(ondemand, d38_closed_in_mount)
{
	closed(_metadata, &self->e, MOUNT);
}

/* With a thread to spare it serves itself like anybody else. */
TEST_F(ondemand, d38_serves_itself)
{
	struct cf_env *e = &self->e;
	struct own o = { .e = e };
	int says[2];

	ASSERT_EQ(0, pipe2(says, O_CLOEXEC));
	o.says = says[1];
	ASSERT_NE(NULL, cf_server_add(&self->s, "file", MB, 1));
	ASSERT_EQ(0, cf_server_thread(&self->s));
	for (o.touch = LOOK_UP; o.touch <= FAULT; o.touch++) {
		EXPECT_EQ(0, touch(&o));
	}
	cf_server_stop(&self->s);
	close(says[0]);
	close(says[1]);
}

TEST_HARNESS_MAIN
