/* SPDX-License-Identifier: GPL-2.0-only */
/* What the fuzzer's parent process needs of the others. */
#ifndef CF_FUZZ_RUN_H
#define CF_FUZZ_RUN_H

void fz_ops_init(void);
const char *fz_op_name(int op);
unsigned int fz_op_count(void);

/* The threads of one process, until the run is stopped; does not return. */
void fz_worker(unsigned int process) __attribute__((noreturn));

/* What was done, and whether it went deep enough to mean anything. */
void fz_print_table(void);
const char *fz_missing(void);
/* For a run that has failed: what each thread did last. */
void fz_print_rings(void);

#endif /* CF_FUZZ_RUN_H */
