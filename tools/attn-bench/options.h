/* options.h - the command line of attn-bench as data. */
#ifndef ATTN_BENCH_OPTIONS_H
#define ATTN_BENCH_OPTIONS_H

#include "tools/common/problem.h"
#include <stdint.h>

typedef struct bench_options {
    const char *module;
    const char *op; /* prefill: q_len queries over themselves; decode: 1 over kv_len; step: q_len, the last of kv_len */
    int64_t layer, batch, q_len, kv_len, threads, repeat, page_size; /* page_size 0: contiguous tensors */
    int32_t isa; /* -1: the best */
    const char *layout; /* of the tensors: heads or tokens; NULL: not said */
    problem_source files; /* attributes and inputs only */
    bool csv, help;
} bench_options;

bool bench_options_parse(int argc, char **argv, bench_options *o, tool_error *err);
void bench_options_help(void);

#endif
