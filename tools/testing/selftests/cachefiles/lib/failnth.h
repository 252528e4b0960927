/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Let one allocation of this thread fail, the first, the second, and so on. Copies from
 * and to user space are counted with them (CONFIG_FAULT_INJECTION_USERCOPY).
 */
#ifndef CF_FAILNTH_H
#define CF_FAILNTH_H

#include <errno.h>
#include <stdbool.h>

#define CF_NO_FAILNTH "no CONFIG_FAULT_INJECTION with fail-nth"
/* 0, or a negative errno where the kernel can't do that. */
int cf_fail_init(void);
/* Let the @n-th allocation or copy of this thread fail, counting from now. */
void cf_fail_nth(int n);
/* Stop that: whether one has been failed. */
bool cf_fail_done(void);
/* Stop that: how many there were still to be until one fails, or -1 if there is no telling. */
int cf_fail_left(void);
/* How many were. */
extern int cf_fail_count;

/*
 * Until the next cf_fail_init() let allocations fail only on behalf of @module: 0, or a
 * negative errno where the kernel can't do that.
 */
int cf_fail_module(const char *module);
/*
 * Let @nr allocations fail, whatever task makes them, workers above all: each is one of
 * them with a chance of @percent. 0 or a negative errno.
 */
int cf_fail_some(int nr, int percent);
/* Stop that: whether all of them have been failed. */
bool cf_fail_some_done(void);

/* An allocation or a copy that was failed is what @error can come from. */
static inline bool cf_fail_is(int error)
{
	return error == -ENOMEM || error == -EFAULT;
}

#endif /* CF_FAILNTH_H */
