/* pass_schedule.c - tile sizes and register tiles for a target.
 *
 * Needs: every other pass.      Breaks: the kernel's target neutrality; nothing of its meaning.
 * Keeps: all ops: a schedule says over how many rows and keys they run at a time.
 * Ends: fills one struct from schedule_table.def.
 *
 *   kernel local .. {     ==>     kernel local .. {
 *                                   schedule cpu:avx512 { lanes 64; vector 16; key_block 128; .. }
 */
#include "ir/pass/pass_internal.h"

static const schedule schedule_table[TARGET_COUNT] = {
#define SCHEDULE(ident, n_lanes, keys, qk_k, qk_v, pv_d, pv_v, nkeys, ndims, few_l, few_r, few_k, ahead)               \
    [TARGET_##ident] = {.target = TARGET_##ident,                                                                      \
                        .lanes = n_lanes,                                                                              \
                        .key_block = keys,                                                                             \
                        .qk_keys = qk_k,                                                                               \
                        .qk_vectors = qk_v,                                                                            \
                        .pv_dims = pv_d,                                                                               \
                        .pv_vectors = pv_v,                                                                            \
                        .narrow_keys = nkeys,                                                                          \
                        .narrow_dims = ndims,                                                                          \
                        .few_lanes = few_l,                                                                            \
                        .few_rows = few_r,                                                                             \
                        .few_keys = few_k,                                                                             \
                        .fetch = ahead},
#include "ir/pass/schedule_table.def"
#undef SCHEDULE
};

const char *pass_schedule(kernel *k, const pass_options *o)
{
    if (o->target >= TARGET_COUNT) return pass_refuse(k, PASS_schedule, "the target is unknown");
    const target_facts *facts = target_get(o->target);
    ATTNC_CHECK(schedule_table[o->target].lanes);
    k->schedule = schedule_table[o->target];
    k->schedule.vector = facts->vector;
    k->schedule.dot_bf16 = facts->dot_bf16 && k->shape.type == DTYPE_BF16 && k->shape.kv == KV_AS_GIVEN;
    return NULL;
}
