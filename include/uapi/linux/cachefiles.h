/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The messages a cachefiles daemon exchanges with the kernel in on-demand mode.
 *
 * See Documentation/filesystems/caching/cachefiles-ondemand.rst for the protocol.
 */
#ifndef _LINUX_CACHEFILES_H
#define _LINUX_CACHEFILES_H

#include <linux/types.h>
#include <linux/ioctl.h>

/* No message is longer than this; a buffer of this size never meets EMSGSIZE. */
#define CACHEFILES_MSG_MAX_SIZE	1024

/**
 * enum cachefiles_opcode - What a message asks of the daemon
 * @CACHEFILES_OP_OPEN: Say how large an object is, or why it can't be served.
 *	Answered by the text command ``copen <msg_id>,<size or -errno>``.
 * @CACHEFILES_OP_CLOSE: The object is no longer used; close its descriptor.
 *	Not answered.
 * @CACHEFILES_OP_READ: Write a range of the object through its descriptor.
 *	Answered by CACHEFILES_IOC_READ_COMPLETE on that descriptor.
 */
enum cachefiles_opcode {
	CACHEFILES_OP_OPEN,
	CACHEFILES_OP_CLOSE,
	CACHEFILES_OP_READ,
};

/**
 * struct cachefiles_msg - Header of every message read from /dev/cachefiles
 * @msg_id: Identifies the request in its answer.  Stays the same when a request
 *	is delivered again.
 * @opcode: One of enum cachefiles_opcode.
 * @len: Length of the whole message in bytes, this header included.  A daemon
 *	takes as many bytes as it knows and skips the rest, so that messages
 *	can grow.
 * @object_id: Identifies the opening of the object that the message is about:
 *	positive, new with each OPEN delivered.
 * @data: The part that depends on @opcode.
 */
struct cachefiles_msg {
	__u32 msg_id;
	__u32 opcode;
	__u32 len;
	__u32 object_id;
	__u8  data[];
};

/**
 * struct cachefiles_open - What follows the header of an OPEN
 * @volume_key_size: Length of the volume key in bytes, with its NUL.
 * @cookie_key_size: Length of the cookie key in bytes; it has no terminator.
 * @fd: The object's new descriptor in the process that read the message: for
 *	writing only, close-on-exec.
 * @flags: Always 0.
 * @data: The volume key, at once followed by the cookie key.
 */
struct cachefiles_open {
	__u32 volume_key_size;
	__u32 cookie_key_size;
	__u32 fd;
	__u32 flags;
	__u8  data[];
};

/**
 * struct cachefiles_close - What follows the header of a CLOSE
 * @fd: The descriptor the object was opened with, as a number of the process
 *	that read the OPEN.
 * @flags: Always 0.
 */
struct cachefiles_close {
	__u32 fd;
	__u32 flags;
};

/**
 * struct cachefiles_read - What follows the header of a READ
 * @off: First byte wanted, a multiple of 4096.
 * @len: Number of bytes wanted, a multiple of 4096.  The last one may lie up to
 *	4095 bytes beyond the size given by copen; what is written there is
 *	never shown to anybody.
 * @fd: The descriptor the object was opened with, as a number of the process
 *	that read the OPEN.
 * @flags: Always 0.
 */
struct cachefiles_read {
	__u64 off;
	__u64 len;
	__u32 fd;
	__u32 flags;
};

/*
 * Answers a READ once its data are written.  Issued on the object's descriptor;
 * the argument is the msg_id itself, not a pointer to it.
 */
#define CACHEFILES_IOC_READ_COMPLETE	_IOW(0x98, 1, int)
#define CACHEFILES_IOC_CREAD		CACHEFILES_IOC_READ_COMPLETE

#endif /* _LINUX_CACHEFILES_H */
