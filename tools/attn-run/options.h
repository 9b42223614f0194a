/* options.h - the command line of attn-run as data. */
#ifndef ATTN_RUN_OPTIONS_H
#define ATTN_RUN_OPTIONS_H

#include "tools/common/problem.h"
#include "tools/common/steps.h"

enum { RUN_DONE = 0, RUN_MISMATCH = 1, RUN_USAGE = 2 };
typedef struct run_options {
    const char *module, *out, *lse, *expect;
    problem_source source;
    int64_t *lengths; /* what source.lengths points to */
    steps_options steps; /* no pieces: one call without a cache */
    int64_t *pieces;     /* what steps.pieces points to */
    bool cache;          /* an option of the cache was given */
    int64_t threads, kv_len; /* of --random; 0: as many keys as queries */
    double tolerance; /* of --expect */
    int32_t isa; /* -1: the best */
    bool check, help;
} run_options;

bool run_options_parse(int argc, char **argv, run_options *o, tool_error *err);
void run_options_free(run_options *o);
void run_options_help(void);

#endif
