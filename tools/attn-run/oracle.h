/* oracle.h - what the pattern means, computed from the module's own text by the interpreter, and how far off a result may be. */
#ifndef ATTN_RUN_ORACLE_H
#define ATTN_RUN_ORACLE_H

#include "ir/kernel/interp.h"
#include "tools/common/plain.h"
#include "tools/common/problem.h"

/* The problem as the interpreter takes it: doubles, sequence by sequence. */
typedef struct oracle {
    arena *arena;
    ir_module *module;
    const kernel *kernel;
    const pattern *pattern;
    const double **tables; /* per table of the module; NULL for constant ones */
    interp_sequence *seqs; /* o and lse: the oracle's results */
    float *plain_o[PLAIN_WAYS], *plain_lse[PLAIN_WAYS]; /* plain computations in the kernel's precision: the yardstick */
} oracle;

/* Result of a comparison; `where` says the worst element. */
typedef struct comparison {
    double error, allowed;
    bool ok;
    char where[96];
} comparison;

/* lens: per query what `len` is; NULL: the keys of its sequence. */
bool oracle_compute(oracle *o, const problem *p, const int64_t *lens, tool_error *err);
comparison oracle_compare_o(const oracle *o, const problem *p, const float *got);
comparison oracle_compare_lse(const oracle *o, const problem *p, const float *got);
void oracle_free(oracle *o);

#endif
