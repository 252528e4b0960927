/* SPDX-License-Identifier: GPL-2.0-only */
/* Where older kernels have it. */
#include <asm/unaligned.h>
