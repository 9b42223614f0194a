/* main.c - an engine in small, valid as C99 and as C++11: loads kernel.so, runs it, checks one number.   main KERNEL.so
 *
 * All keys are 0 and token t has the value t, so a query sees the mean of its window of 4: query 9 gives 7.5. */
#include <attn/attn.h>
#include <stdio.h>
#include <string.h>

enum { TOKENS = 10, HEADS = 2, DIM = 16 };
static float q[TOKENS * HEADS * DIM], k[TOKENS * DIM], v[TOKENS * DIM], o[TOKENS * HEADS * DIM];

static DLTensor describe(void *data, int64_t *shape)
{
    DLTensor t;
    memset(&t, 0, sizeof t);
    t.data = data;
    t.device.device_type = kDLCPU;
    t.ndim = 3;
    t.dtype.code = kDLFloat;
    t.dtype.bits = 32;
    t.dtype.lanes = 1;
    t.shape = shape;
    return t;
}

static attn_status run(attn_module *m, attn_error *err)
{
    int64_t tokens = TOKENS, wide[] = {TOKENS, HEADS, DIM}, narrow[] = {TOKENS, 1, DIM};
    DLTensor tq = describe(q, wide), tk = describe(k, narrow), tv = describe(v, narrow), to = describe(o, wide);
    attn_plan_config config;
    attn_tensors tensors;
    attn_plan *plan;
    attn_status status;
    memset(&config, 0, sizeof config);
    config.size = sizeof config;
    config.n_seqs = 1;
    config.q_lens = &tokens;
    config.isa = -1;
    memset(&tensors, 0, sizeof tensors);
    tensors.size = sizeof tensors;
    tensors.q = &tq;
    tensors.k = &tk;
    tensors.v = &tv;
    tensors.o = &to;
    status = attn_plan_create(m, &config, &plan, err);
    if (status != ATTN_OK) return status;
    status = attn_forward(plan, &tensors, NULL, err);
    attn_plan_destroy(plan);
    return status;
}

int main(int argc, char **argv)
{
    attn_error err = {""};
    attn_module *m;
    attn_status status = attn_module_load(argc > 1 ? argv[1] : "kernel.so", NULL, &m, &err);
    int i;
    for (i = 0; i < TOKENS * DIM; i++)
        v[i] = (float)(i / DIM);
    if (status == ATTN_OK) status = run(m, &err);
    if (status != ATTN_OK) {
        printf("%s: %s\n", attn_status_text(status), err.text);
        return 1;
    }
    attn_module_destroy(m);
    printf("attn %s: query 9 gives %.3f\n", attn_version(), o[9 * HEADS * DIM]);
    return o[9 * HEADS * DIM] > 7.4999f && o[9 * HEADS * DIM] < 7.5001f ? 0 : 1;
}
