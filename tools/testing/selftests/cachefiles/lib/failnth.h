/* SPDX-License-Identifier: GPL-2.0-only */
/* Let one allocation of this thread fail, the first, the second, and so on. */
#ifndef CF_FAILNTH_H
#define CF_FAILNTH_H

#include <stdbool.h>

/* 0, or a negative errno where the kernel can't do that (CONFIG_FAULT_INJECTION). */
int cf_fail_init(void);
/* Let the @n-th allocation of this thread fail, counting from now. */
void cf_fail_nth(int n);
/* Stop that: whether an allocation has been failed. */
bool cf_fail_done(void);
/* How many were. */
extern int cf_fail_count;

#endif /* CF_FAILNTH_H */
