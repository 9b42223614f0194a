/* plan_stats.c - what a plan computes, against what its mask lets through. */
#include "plan.h"

#include <string.h>

static int64_t count_visible(const attn_plan *p, mask *m, memory *scratch)
{
    const uint32_t heads = attni_mask_heads(p->kind), same = p->kind->q_heads / heads;
    spans may = {.mem = scratch}, must = {.mem = scratch};
    int64_t n = 0;
    for (uint32_t i = 0; i < p->n_seqs; i++) {
        const attn_seq *seq = attni_plan_seq(p, i);
        attni_mask_bind(m, seq, p->key_bounds[i]);
        for (uint32_t h = 0; h < heads; h++)
            for (int64_t row = 0; row < seq->n_q && !scratch->failed; row++)
                n += same * attni_mask_count(m, row, h, &may, &must);
    }
    return n;
}

attn_status attn_plan_get_stats(const attn_plan *p, attn_plan_stats *out)
{
    if (!p || !out) return ATTN_E_ARGUMENT;
    if (out->size < sizeof out->size) return ATTN_E_VERSION;
    attn_plan_stats s = {.size = out->size,
                         .items = p->n_items,
                         .segments = p->n_segments,
                         .pairs_computed = p->pairs_computed,
                         .bytes = p->mem.bytes,
                         .kernel = p->kernel->name};
    memory scratch;
    attn_status status = attni_memory_open(&scratch, &p->mem.a, NULL);
    if (status) return status;
    mask m;
    attni_mask_open(&m, &scratch, &p->module->desc);
    attni_mask_turn(&m, p->kind, p->layer, p->inputs);
    if (!scratch.failed) s.pairs_visible = count_visible(p, &m, &scratch);
    bool failed = scratch.failed;
    attni_memory_close(&scratch);
    if (failed) return ATTN_E_MEMORY;
    memcpy(out, &s, s.size < sizeof s ? s.size : sizeof s);
    return ATTN_OK;
}
