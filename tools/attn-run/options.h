/* options.h - the command line of attn-run as data. */
#ifndef ATTN_RUN_OPTIONS_H
#define ATTN_RUN_OPTIONS_H

#include "tools/common/file.h"
#include <stdint.h>

enum { RUN_DONE = 0, RUN_MISMATCH = 1, RUN_USAGE = 2 };
enum { RUN_MAX_NAMED = 64 };

typedef struct named_file { /* NAME=FILE */
    const char *name, *file;
} named_file;

typedef struct run_options {
    const char *module, *q, *k, *v, *out, *lse;
    int64_t layer, threads;
    int64_t *lengths; /* NULL: [batch, tokens, heads, dim] */
    size_t n_lengths;
    named_file attrs[RUN_MAX_NAMED], inputs[RUN_MAX_NAMED];
    size_t n_attrs, n_inputs;
    int32_t isa; /* -1: the best */
    bool check, random, help;
    int64_t batch, tokens, seed; /* --random */
} run_options;

bool run_options_parse(int argc, char **argv, run_options *o, tool_error *err);
void run_options_free(run_options *o);
void run_options_help(void);

#endif
