/* module.c - the smallest module: one causal kind whose kernel writes zeros. For load.test. */
#include <attn/abi.h>

static void run(const attn_kernel_args *a, const attn_item *item, void *workspace)
{
    (void)workspace;
    const attn_seq *seq = &a->seqs[item->seq];
    for (int lane = 0; lane < item->rows * item->heads; lane++) {
        char *o = a->o + seq->o_offset + (item->row + lane / item->heads) * a->o_row_stride +
                  (item->head + lane % item->heads) * a->o_head_stride;
        for (int i = 0; i < 4; i++) o[i] = 0;
    }
}

static void ranges(const attn_range_args *a, int64_t *out)
{
    out[0] = out[3] = 0;
    out[1] = a->q1;
    out[4] = a->q0;
    out[2] = out[5] = 1;
}

static int32_t visible(const attn_range_args *a) { return a->k0 <= a->q0; }

static const attn_kernel_desc kernel = {
    .size = sizeof kernel, .lanes = 4, .vector = 4, .key_step = 1, .max_group = 1, .run = run, .name = "zeros"};
static const attn_kernel_desc *const kernels[] = {&kernel};
static const attn_kind_desc kind = {.size = sizeof kind,
                                    .name = "causal",
                                    .q_heads = 1,
                                    .kv_heads = 1,
                                    .dim = 1,
                                    .dim_v = 1,
                                    .n_may = 1,
                                    .n_must = 1,
                                    .n_kernels = 1,
                                    .ranges = ranges,
                                    .visible = visible,
                                    .kernels = kernels};
static const attn_kind_desc *const kinds[] = {&kind};
static const uint32_t schedule[1];
extern const attn_module_desc attn_module;
const attn_module_desc attn_module = {.size = sizeof attn_module,
                                      .abi = ATTN_ABI_VERSION,
                                      .name = "tiny",
                                      .n_layers = 1,
                                      .n_kinds = 1,
                                      .schedule = schedule,
                                      .kinds = kinds};
