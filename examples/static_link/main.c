/* main.c - attention without loading anything: a kernel that `attnc -c` made is linked into the program.
 *
 *     attnc tiny.attn -c -o tiny.o          (writes tiny.h, too)
 *     cc main.c tiny.o -lattn -lpthread
 *
 * All keys are 0, so every visible key gets the same weight and an output is the plain mean of the values that its query sees.
 * Token t has the value t: query q must give the mean of q-3 .. q. */
#include "tiny.h"
#include <attn/attn.h>
#include <math.h>
#include <stdio.h>

enum { TOKENS = 100, HEADS = 4, KV_HEADS = 2, DIM = 16 };

static float q[TOKENS][HEADS][DIM], k[TOKENS][KV_HEADS][DIM], v[TOKENS][KV_HEADS][DIM], o[TOKENS][HEADS][DIM];

/* [batch, tokens, heads, dim], contiguous, f32, in CPU memory. */
static DLTensor describe(void *data, int64_t *shape)
{
    return (DLTensor){.data = data, .device = {kDLCPU, 0}, .ndim = 4, .dtype = {kDLFloat, 32, 1}, .shape = shape};
}

static void fill_values(void)
{
    for (int t = 0; t < TOKENS; t++)
        for (int g = 0; g < KV_HEADS; g++)
            for (int d = 0; d < DIM; d++)
                v[t][g][d] = (float)t;
}

static attn_status run(attn_module *m, attn_error *err)
{
    int64_t tokens = TOKENS, q_shape[] = {1, TOKENS, HEADS, DIM}, kv_shape[] = {1, TOKENS, KV_HEADS, DIM};
    DLTensor tq = describe(q, q_shape), tk = describe(k, kv_shape), tv = describe(v, kv_shape), to = describe(o, q_shape);
    attn_plan_config config = {.size = sizeof config, .layer = 1, .n_seqs = 1, .q_lens = &tokens, .isa = -1};
    attn_tensors tensors = {.size = sizeof tensors, .q = &tq, .k = &tk, .v = &tv, .o = &to, .layer = 1};
    attn_plan *plan;
    attn_status status = attn_plan_create(m, &config, &plan, err);
    if (status != ATTN_OK) return status;
    status = attn_forward(plan, &tensors, NULL, err);
    attn_plan_destroy(plan);
    return status;
}

static int count_wrong(void)
{
    int wrong = 0;
    for (int t = 0; t < TOKENS; t++) {
        float mean = t < 3 ? 0.5f * (float)t : (float)t - 1.5f;
        for (int h = 0; h < HEADS; h++)
            for (int d = 0; d < DIM; d++)
                wrong += !(fabsf(o[t][h][d] - mean) <= 1e-4f);
    }
    return wrong;
}

int main(void)
{
    attn_error err = {""};
    attn_module *m;
    fill_values();
    attn_status status = attn_module_open(&attn_module_tiny, NULL, &m, &err);
    if (status == ATTN_OK) {
        status = run(m, &err);
        attn_module_destroy(m);
    }
    if (status != ATTN_OK) {
        fprintf(stderr, "%s: %s\n", attn_status_text(status), err.text);
        return 1;
    }
    printf("%s of %d outputs are right; o[99] = %.2f\n", count_wrong() ? "not all" : "all", TOKENS * HEADS * DIM, (double)o[99][0][0]);
    return count_wrong() != 0;
}
