/* report.h - --report: what the compiler proved and chose, per layer kind. */
#ifndef ATTNC_TOOLS_REPORT_H
#define ATTNC_TOOLS_REPORT_H

#include "backends/backend.h"
#include "tools/attnc/schedule_choice.h"

enum { REPORT_DEFAULT_CONTEXT = 8192 };

typedef struct report_options {
    int64_t context; /* tokens */
    bool json;
    const schedule_choice *choices;  /* [variants][patterns]; NULL: not scheduled */
    const backend_variant *variants; /* scheduled */
    size_t n_variants;
} report_options;

void report_print(arena *a, const ir_module *m, const report_options *o, text *to);

#endif
