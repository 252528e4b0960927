// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a process of the fuzzer holds: devices, object descriptors, children.
 *
 * Whoever writes through an object descriptor has to be sure which object it is of, or
 * right data would get to the wrong place.  So descriptors stand in a table, and nobody
 * closes one while another thread uses it; a duplicate is used in order to have it closed
 * meanwhile.  Order of locks: fds, device, object.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"
#include "fuzz_daemon.h"

struct fz_process *fz_process_new(void)
{
	struct fz_process *p = calloc(1, sizeof(*p));
	pthread_rwlockattr_t attr;

	if (!p)
		return NULL;
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&p->fds, &attr);
	for (unsigned int i = 0; i < FZ_DEVICES; i++) {
		pthread_rwlock_init(&p->devices[i].lock, &attr);
		p->devices[i].fd = -1;
	}
	for (unsigned int i = 0; i < FZ_OBJECTS; i++) {
		pthread_mutex_init(&p->objects[i].lock, NULL);
		p->objects[i].fd = -1;
	}
	pthread_mutex_init(&p->children_lock, NULL);
	getrlimit(RLIMIT_NOFILE, &p->nofile);
	return p;
}

/* All that this process needs is open: the numbers from here on can be closed at will. */
void fz_process_ready(struct fz_process *p)
{
	p->low = dup(0);
	close(p->low);
}

int fz_parent_device(unsigned int cache)
{
	int pidfd = cf_pidfd(fz->parent), fd;

	if (pidfd < 0)
		return pidfd;
	fd = fz_err(syscall(SYS_pidfd_getfd, pidfd,
			    __atomic_load_n(&fz->caches[cache].fd, __ATOMIC_ACQUIRE), 0));
	close(pidfd);
	return fd;
}

void fz_object_close(struct fz_object *o)
{
	if (o->fd >= 0)
		close(o->fd);
	o->fd = -1;
	o->nr_reads = 0;
}

static void drop_objects(struct fz_process *p, int dev)
{
	for (unsigned int i = 0; i < FZ_OBJECTS; i++) {
		struct fz_object *o = &p->objects[i];

		pthread_mutex_lock(&o->lock);
		if (dev < 0 || o->dev == (unsigned int)dev)
			fz_object_close(o);
		pthread_mutex_unlock(&o->lock);
	}
}

void fz_drop_slots(struct fz_process *p)
{
	drop_objects(p, -1);
}

/* The main cache was bound anew: what is left of the old one must go, or it can't. */
static void refresh(struct fz_process *p)
{
	unsigned int gen = __atomic_load_n(&fz->caches[0].gen, __ATOMIC_ACQUIRE);
	struct fz_device *d = &p->devices[0];

	if (__atomic_load_n(&d->gen, __ATOMIC_ACQUIRE) == gen)
		return;
	pthread_rwlock_wrlock(&d->lock);
	if (d->gen != gen) {
		if (d->fd >= 0)
			close(d->fd);
		d->fd = -1;
		/* An odd one says that there is none at the moment. */
		if (gen % 2 == 0)
			d->fd = fz_parent_device(0);
		drop_objects(p, 0);
		__atomic_store_n(&d->gen, gen, __ATOMIC_RELEASE);
	}
	pthread_rwlock_unlock(&d->lock);
}

void fz_enter(struct fz_process *p)
{
	pthread_rwlock_rdlock(&p->fds);
	refresh(p);
}

void fz_leave(struct fz_process *p)
{
	pthread_rwlock_unlock(&p->fds);
}

int fz_device_get(struct fz_task *t, unsigned int i)
{
	struct fz_device *d = &t->p->devices[i];

	pthread_rwlock_rdlock(&d->lock);
	if (d->fd >= 0)
		return d->fd;
	pthread_rwlock_unlock(&d->lock);
	return -ENODEV;
}

void fz_device_put(struct fz_task *t, unsigned int i)
{
	pthread_rwlock_unlock(&t->p->devices[i].lock);
}

void fz_device_set(struct fz_task *t, unsigned int i, int fd)
{
	struct fz_device *d = &t->p->devices[i];

	/* Not before nobody is in it: its number may be that of another cache then. */
	pthread_rwlock_wrlock(&d->lock);
	if (d->fd >= 0)
		close(d->fd);
	d->fd = fd;
	/* Before anybody meets an object of the same number in the new one. */
	drop_objects(t->p, i);
	pthread_rwlock_unlock(&d->lock);
}

void fz_kill_child(struct fz_process *p, unsigned int i)
{
	pthread_mutex_lock(&p->children_lock);
	if (p->children[i] > 0) {
		kill(p->children[i], SIGKILL);
		waitpid(p->children[i], NULL, 0);
		p->children[i] = 0;
	}
	pthread_mutex_unlock(&p->children_lock);
}

void fz_process_end(struct fz_process *p)
{
	for (unsigned int i = 0; i < FZ_CHILDREN; i++)
		fz_kill_child(p, i);
	drop_objects(p, -1);
}
