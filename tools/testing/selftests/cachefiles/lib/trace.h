/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Waiting for a move of the on-demand protocol, where nothing else tells of it. One at a
 * time in a program.
 */
#ifndef CF_TRACE_H
#define CF_TRACE_H

#define CF_NO_TRACEPOINTS "no tracepoints (CONFIG_FTRACE)"
/* From now on, moves of requests are recorded: a descriptor, or a negative errno. */
int cf_trace_start(void);
/* Until one was printed with @what in its line: 0, or -ETIMEDOUT. Forgets those before. */
int cf_trace_wait(int trace, const char *what, int ms);
void cf_trace_stop(int trace);

#endif /* CF_TRACE_H */
