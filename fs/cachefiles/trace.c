// SPDX-License-Identifier: GPL-2.0-only
#include <linux/cachefiles.h>
#include "ondemand.h"

#define CREATE_TRACE_POINTS
#include "trace.h"
