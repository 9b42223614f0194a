/* pass_schedule.c - tile sizes and register tiles for a target.
 *
 * Needs: every other pass.      Breaks: the kernel's target neutrality; nothing of its meaning.
 * Keeps: all ops: a schedule says over how many rows and keys they run at a time.
 * Ends: fills one struct, from what the caller gives or else from the first row of schedule_table.def that fits.
 *
 *   kernel local .. {     ==>     kernel local .. {
 *                                   schedule cpu:avx512 { lanes 64; vector 16; key_block 128; .. }
 */
#include "ir/pass/pass_internal.h"

#define CLASS(ident, words, condition) \
    static bool fits_##ident(const shape *s) { return (void)s, condition; }
#include "ir/pass/shape_classes.def"
#undef CLASS

enum {
#define CLASS(ident, words, condition) CLASS_##ident,
#include "ir/pass/shape_classes.def"
#undef CLASS
};

static const struct {
    const char *words;
    bool (*fits)(const shape *s);
} classes[] = {
#define CLASS(ident, words, condition) {words, fits_##ident},
#include "ir/pass/shape_classes.def"
#undef CLASS
};

static const struct table_row {
    int shapes;
    schedule_row row;
} rows[] = {
#define SCHEDULE(ident, class, n_lanes, keys, qk_k, qk_v, pv_d, pv_v, nkeys, ndims, few_l, few_r, few_k, ahead, text)   \
    {CLASS_##class,                                                                                                    \
     {.measured = text,                                                                                                \
      .sizes = {.target = TARGET_##ident,                                                                              \
                .lanes = n_lanes,                                                                                      \
                .key_block = keys,                                                                                     \
                .qk_keys = qk_k,                                                                                       \
                .qk_vectors = qk_v,                                                                                    \
                .pv_dims = pv_d,                                                                                       \
                .pv_vectors = pv_v,                                                                                    \
                .narrow_keys = nkeys,                                                                                  \
                .narrow_dims = ndims,                                                                                  \
                .few_lanes = few_l,                                                                                    \
                .few_rows = few_r,                                                                                     \
                .few_keys = few_k,                                                                                     \
                .fetch = ahead}}},
#include "ir/pass/schedule_table.def"
#undef SCHEDULE
};

void schedule_fill_facts(schedule *s, target_id t, const shape *of)
{
    const target_facts *facts = target_get(t);
    s->target = t;
    s->vector = facts->vector;
    s->dot_bf16 = facts->dot_bf16 && of->type == DTYPE_BF16 && of->kv == KV_AS_GIVEN;
}

schedule_row schedule_row_find(target_id t, const shape *s)
{
    for (size_t i = 0; i < ATTNC_COUNT(rows); i++) {
        if (rows[i].row.sizes.target != t || !classes[rows[i].shapes].fits(s)) continue;
        schedule_row found = rows[i].row;
        found.shapes = classes[rows[i].shapes].words;
        schedule_fill_facts(&found.sizes, t, s);
        return found;
    }
    ATTNC_BUG("a target without a schedule for any shape");
}

const char *pass_schedule(kernel *k, const pass_options *o)
{
    const schedule *given = o->given ? &o->given[k->pattern] : NULL;
    if (o->target >= TARGET_COUNT) return pass_refuse(k, PASS_schedule, "the target is unknown");
    k->schedule = given && given->lanes ? *given : schedule_row_find(o->target, &k->shape).sizes;
    schedule_fill_facts(&k->schedule, o->target, &k->shape);
    const char *wrong = schedule_verify(&k->schedule, &k->shape);
    return wrong ? pass_refuse(k, PASS_schedule, wrong) : NULL;
}
