// SPDX-License-Identifier: GPL-2.0-only
/* Parking a read(2) in the kernel; see stall.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/userfaultfd.h>

#include "stall.h"

static void *stalled_read(void *arg)
{
	struct cf_stall *s = arg;
	ssize_t ret = read(s->dev, s->page, CACHEFILES_MSG_MAX_SIZE);

	s->ret = ret < 0 ? -errno : (int)ret;
	return NULL;
}

/* Start the read(2); it parks when it has a message to copy. */
int cf_stall_start(struct cf_stall *s, int dev)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	int ret;

	s->dev = dev;
	s->ret = 0;
	s->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (s->uffd < 0)
		return -errno;
	s->page = mmap(NULL, CF_BLOCK, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s->page == MAP_FAILED)
		return -errno;
	reg.range.start = (unsigned long)s->page;
	reg.range.len = CF_BLOCK;
	if (ioctl(s->uffd, UFFDIO_API, &api) || ioctl(s->uffd, UFFDIO_REGISTER, &reg))
		return -errno;
	ret = pthread_create(&s->thread, NULL, stalled_read, s);
	return -ret;
}

/* Wait until the read(2) is parked: 0 or -ETIMEDOUT. */
int cf_stall_parked(struct cf_stall *s, int ms)
{
	struct uffd_msg msg;
	int ret = cf_poll(s->uffd, POLLIN, cf_ms(ms));

	if (ret <= 0)
		return ret ? ret : -ETIMEDOUT;
	return read(s->uffd, &msg, sizeof(msg)) == sizeof(msg) ? 0 : -errno;
}

/* Let the copy succeed: what read(2) returned, the message in @m. */
int cf_stall_finish(struct cf_stall *s, struct cf_msg *m)
{
	struct uffdio_zeropage zero = {
		.range = { .start = (unsigned long)s->page, .len = CF_BLOCK },
	};

	if (ioctl(s->uffd, UFFDIO_ZEROPAGE, &zero))
		return -errno;
	pthread_join(s->thread, NULL);
	if (m && s->ret > 0)
		memcpy(m->raw, s->page, s->ret);
	munmap(s->page, CF_BLOCK);
	close(s->uffd);
	return s->ret;
}

/* Take the buffer away from under the copy: what read(2) returned. */
int cf_stall_fail(struct cf_stall *s)
{
	munmap(s->page, CF_BLOCK);
	close(s->uffd);
	pthread_join(s->thread, NULL);
	return s->ret;
}
