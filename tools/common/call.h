/* call.h - one forward call of a compiled layer on a problem. */
#ifndef ATTNC_TOOLS_CALL_H
#define ATTNC_TOOLS_CALL_H

#include "tools/common/problem.h"

typedef struct call {
    const problem *problem;
    attn_plan *plan;
    attn_pool *pool;
    float *out, *lse;       /* results, NaN before the first run */
    int64_t *lens;          /* per query: tokens at the end of its step; NULL: it ran at once */
    DLTensor *inputs;       /* per input of the module */
    const DLTensor **input_list;
    int64_t (*input_shapes)[4];
} call;

/* m and p must outlive the call. isa -1: the best of this machine. */
bool call_create(call *c, attn_module *m, const problem *p, uint32_t threads, int32_t isa, tool_error *err);
bool call_run(call *c, tool_error *err);
void call_destroy(call *c);

/* true, or the runtime's sentence in err. */
bool call_check(attn_status status, const attn_error *e, tool_error *err);
/* Shape of the output for queries of q's shape. */
tensor call_result_like(const tensor *q, int64_t dim_v);

#endif
