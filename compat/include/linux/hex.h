/* SPDX-License-Identifier: GPL-2.0-only */
/* Older kernels declare all this elsewhere. */
#include <linux/kernel.h>
