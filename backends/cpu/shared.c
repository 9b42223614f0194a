/* shared.c - functions that depend on a kernel's shape and schedule, not on its expressions: written once for all layer kinds of one shape.
 *
 * Where several modules are compiled side by side they are in one of their own. They reach the workspace by its offsets, of which those that expressions change come last (kernel.c). */
#include "backends/cpu/kernel_gen.h"

/* What they are called with, all words of 64 bits. */
typedef enum {
    OF_ITEM,  /* args, item, workspace */
    OF_RUNS,  /* the same, first key, keys of the segment from it on, their step, keys of the block; returns a number */
    OF_KEYS,  /* the same, first key, keys, their step, keys with those that fill the last register tile */
    OF_BLOCK, /* workspace, lane, rows, step, runs, keys: a few_piece */
    OF_FOLD,  /* workspace, lane, late, keys: a fold_piece */
} signature;

static const struct {
    const char *name;
    signature takes;
    void (*write)(kgen *);
} functions[SHARED_COUNT] = {
    [SHARED_setup] = {"setup", OF_ITEM, rows_setup},
    [SHARED_keys] = {"keys", OF_KEYS, keys_write_block},
    [SHARED_gather] = {"gather", OF_KEYS, keys_write_gather},
    [SHARED_mend] = {"mend", OF_BLOCK, pairs_write_mend},
    [SHARED_fold_wide] = {"fold_wide", OF_FOLD, fold_write_wide},
    [SHARED_fold_single] = {"fold_single", OF_FOLD, fold_write_single},
    [SHARED_fold_pair] = {"fold_pair", OF_FOLD, fold_write_pair},
    [SHARED_fold_seen_single] = {"fold_seen_single", OF_FOLD, fold_write_single},
    [SHARED_fold_seen_pair] = {"fold_seen_pair", OF_FOLD, fold_write_pair},
    [SHARED_ahead_some] = {"ahead_some", OF_ITEM, ahead_write_some},
    [SHARED_ahead] = {"ahead", OF_ITEM, ahead_write},
    [SHARED_resume] = {"resume", OF_ITEM, rows_resume},
    [SHARED_finish] = {"finish", OF_ITEM, rows_finish_tile},
    [SHARED_merge] = {"merge", OF_ITEM, parts_merge},
    [SHARED_few_begin] = {"few_begin", OF_ITEM, few_write_begin},
    [SHARED_few_end] = {"few_end", OF_ITEM, few_write_end},
    [SHARED_few_runs] = {"few_runs", OF_RUNS, few_write_runs},
    [SHARED_few_scores] = {"few_scores", OF_BLOCK, few_write_scores},
    [SHARED_few_peaks] = {"few_peaks", OF_BLOCK, few_write_peaks},
    [SHARED_few_weights] = {"few_weights", OF_BLOCK, few_write_weights},
    [SHARED_few_packed] = {"few_packed", OF_BLOCK, few_write_packed},
    [SHARED_few_values] = {"few_values", OF_BLOCK, few_write_values},
    [SHARED_few_seen_values] = {"few_seen_values", OF_BLOCK, few_write_seen_values},
};

/* All that the functions depend on, and those that are written. */
struct shared {
    const cpu_target *target;
    const schedule *schedule;
    shape shape;
    bool dot, scaled, wide_ints;
    int64_t value_row; /* bytes of a quantised row of V: its scales stand at the end */
    uint64_t last; /* of the workspace's places that they reach */
    Val fn[SHARED_COUNT];
    shared *next;
};

static bool same_schedule(const schedule *a, const schedule *b)
{
    return a->target == b->target && a->lanes == b->lanes && a->vector == b->vector && a->key_block == b->key_block && a->qk_keys == b->qk_keys &&
           a->qk_vectors == b->qk_vectors && a->pv_dims == b->pv_dims && a->pv_vectors == b->pv_vectors && a->narrow_keys == b->narrow_keys &&
           a->narrow_dims == b->narrow_dims && a->few_lanes == b->few_lanes && a->few_rows == b->few_rows && a->few_keys == b->few_keys &&
           a->fetch == b->fetch;
}

static bool same_shape(const shape *a, const shape *b)
{
    return a->type == b->type && a->dim == b->dim && a->dim_v == b->dim_v && a->q_heads / a->kv_heads == b->q_heads / b->kv_heads &&
           a->kv == b->kv && a->kv_group == b->kv_group;
}

/* Values that are keys lie in longer rows. */
static int64_t value_row(const kgen *x) { return x->quant ? keys_row_bytes(x, true) : 0; }

static bool fits(const shared *s, const kgen *x)
{
    return s->target == x->g->target && same_schedule(s->schedule, &x->k->schedule) && same_shape(&s->shape, &x->k->shape) && s->dot == x->dot &&
           s->scaled == (x->load_q->e != 0) && s->wide_ints == x->wide_ints && s->value_row == value_row(x);
}

static uint64_t last_place(const kgen *x)
{
    const size_t attrs = x->g->ir->symbols.attrs.n;
    return attrs ? x->lane_attr[attrs - 1] : x->lane_g;
}

shared *shared_of(kgen *x)
{
    gen *g = gen_of_shared(x->g);
    for (shared *s = g->shapes; s; s = s->next)
        if (fits(s, x)) {
            ATTNC_CHECK(s->last == last_place(x)); /* all that moves places is compared */
            return s;
        }
    shared *s = ARENA_ARRAY(g->arena, shared, 1);
    *s = (shared){.target = g->target, .schedule = &x->k->schedule, .shape = x->k->shape, .dot = x->dot, .scaled = x->load_q->e != 0,
                  .wide_ints = x->wide_ints, .value_row = value_row(x), .last = last_place(x), .next = g->shapes};
    return g->shapes = s;
}

/* What Q and O are, and K and V where that is something else. */
static const char *types_name(const kgen *x)
{
    const shape *s = &x->k->shape;
    const char *given = dtype_name(s->type);
    if (!x->quant) return given;
    if (!s->kv_group) return arena_printf(x->g->arena, "%s_int8", given);
    return arena_printf(x->g->arena, "%s_int8x%lld", given, (long long)s->kv_group);
}

static void begin(kgen *x, shared_id id)
{
    gen *g = x->g;
    Type p = g->ptr, i = g->i64, of_item[] = {p, p, p, i, i, i, i}, of_block[] = {p, i, i, i, i, i};
    const char *name = arena_printf(g->arena, "%s_d%lld_%s_%s", types_name(x), (long long)x->dim, g->target->suffix, functions[id].name);
    if (functions[id].takes == OF_BLOCK || functions[id].takes == OF_FOLD) {
        x->ws = LLVMGetParam(add_function(g, name, g->none, of_block, functions[id].takes == OF_FOLD ? 4 : 6), 0);
        x->args = x->item = x->seq = x->in_use = x->used = NULL;
        return;
    }
    kernel_begin(x, name, functions[id].takes == OF_RUNS ? i : g->none, of_item, functions[id].takes == OF_ITEM ? 3 : 7);
}

/* Not while another function is being written. */
void shared_write(kgen *x, shared_id id)
{
    Val *fn = &x->shared->fn[id];
    if (*fn) return;
    begin(x, id);
    *fn = x->g->fn;
    functions[id].write(x);
    if (functions[id].takes != OF_RUNS) LLVMBuildRetVoid(x->g->b);
}

Val shared_function(const kgen *x, shared_id id)
{
    ATTNC_CHECK(x->shared->fn[id]);
    return gen_of_shared(x->g) == x->g ? x->shared->fn[id] : import_function(x->g, x->shared->fn[id]);
}

static Val call(kgen *x, shared_id id, Val *args, unsigned n)
{
    Val f = shared_function(x, id);
    return LLVMBuildCall2(x->g->b, LLVMGlobalGetValueType(f), f, args, n, "");
}

void shared_call(kgen *x, shared_id id) { call(x, id, (Val[]){x->args, x->item, x->ws}, 3); }

Val shared_call_runs(kgen *x, key_walk left, Val n)
{
    return call(x, SHARED_few_runs, (Val[]){x->args, x->item, x->ws, left.k0, left.n, left.step, n}, 7);
}

void shared_call_keys(kgen *x, shared_id id, key_walk keys, Val padded)
{
    call(x, id, (Val[]){x->args, x->item, x->ws, keys.k0, keys.n, keys.step, padded}, 7);
}

void shared_call_block(kgen *x, shared_id id, const few_piece *p)
{
    call(x, id, (Val[]){x->ws, p->lane, p->rows, p->step, p->runs, p->n}, 6);
}

few_piece shared_block(const kgen *x)
{
    Val f = x->g->fn;
    return (few_piece){.lane = LLVMGetParam(f, 1), .rows = LLVMGetParam(f, 2), .step = LLVMGetParam(f, 3), .runs = LLVMGetParam(f, 4),
                       .n = LLVMGetParam(f, 5)};
}

void shared_call_fold(kgen *x, shared_id id, Val lane, Val late, Val n) { call(x, id, (Val[]){x->ws, lane, late, n}, 4); }

fold_piece shared_fold(const kgen *x)
{
    Val f = x->g->fn;
    return (fold_piece){.lane = LLVMGetParam(f, 1), .late = LLVMGetParam(f, 2), .n = LLVMGetParam(f, 3)};
}
