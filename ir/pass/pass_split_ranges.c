/* pass_split_ranges.c - the key loop becomes one over full ranges, without mask, and one over partial ranges, with it.
 *
 * Needs: `keys all`.      Breaks: nothing.
 * Keeps: the mask's meaning: full = must, partial = may minus must (docs/analysis.md); the rest is never visited. A mask with two halves
 *        (sweeps.h) becomes the formula that reads which of them is asked for; `live` is the whole mask's.
 * Ends: the loop is replaced once.
 *
 *   keys all (m, l, O) {               keys full (m, l, O) { s = dot.qk ..; online }
 *     s = dot.qk ..              ==>   keys partial (..)   { s = dot.qk ..; s = mask s { k <= q }; online }
 *     s = mask s { k <= q }; online }  ranges { may [0, q1]; must [0, q0]; .. }
 */
#include "ir/pass/pass_internal.h"
#include "ir/pattern/sweeps.h"

/* All masks of the body in one formula; true when there is none. */
static expr body_mask(const kernel *k, const kblock *body)
{
    expr_pool *pool = k->module->pool;
    expr mask = expr_bool(pool, true);
    for (size_t i = 0; i < body->ops.n; i++)
        if (body->ops.at[i]->code == OP_MASK) mask = expr_binary(pool, EXPR_AND, mask, body->ops.at[i]->e);
    return mask;
}

static void remove_masks(kblock *body)
{
    for (size_t i = 0; i < body->ops.n;) {
        const kop *o = body->ops.at[i];
        if (o->code != OP_MASK) {
            i++;
            continue;
        }
        kblock_replace_uses(body, o->result[0], o->operand[0]);
        kblock_remove(body, i);
    }
}

/* One mask in place of those of the body. */
static void replace_masks(kernel *k, kblock *body, expr mask)
{
    bool placed = false;
    for (size_t i = 0; i < body->ops.n; i++) {
        kop *o = body->ops.at[i];
        if (o->code != OP_MASK) continue;
        o->e = placed ? expr_bool(k->module->pool, true) : mask;
        placed = true;
    }
}

/* may and must of both halves, live of the whole. */
static ranges *ranges_of_sweeps(expr_pool *pool, expr halves, int64_t max_len, const ranges *whole)
{
    ranges *r = ranges_compute(pool, halves, max_len);
    r->live = whole->live, r->n_live = whole->n_live, r->live_of_len = whole->live_of_len;
    r->sweeps = true;
    return r;
}

/* A partial loop behind the full one; what read the results of the only loop now reads the partial one's. */
static void add_partial_loop(kernel *k, kblock *rows, size_t at)
{
    kop *full = rows->ops.at[at];
    kop *partial = kop_append_copy(k, rows, full);
    for (size_t i = rows->ops.n - 1; i > at + 1; i--) rows->ops.at[i] = rows->ops.at[i - 1];
    rows->ops.at[at + 1] = partial;
    for (size_t i = 0; i < KOP_MAX_RESULTS; i++) kblock_replace_uses(rows, full->result[i], partial->result[i]);
    for (size_t i = 0; i < KOP_MAX_RESULTS; i++) partial->operand[i] = full->result[i];
    partial->range = KEYS_PARTIAL;
}

const char *pass_split_ranges(kernel *k, const pass_options *o)
{
    (void)o;
    kblock *rows = rows_body(k);
    size_t at = find_only(rows, OP_KEYS);
    if (at == NOT_FOUND) return pass_refuse(k, PASS_split_ranges, "it needs one loop over keys");
    const pattern *p = k->module->patterns.at[k->pattern];
    kop *loop = rows->ops.at[at];
    expr_pool *pool = k->module->pool;
    expr mask = body_mask(k, loop->body);
    k->ranges = p->ranges && p->mask == mask ? p->ranges : ranges_compute(pool, mask, p->max_len);
    const expr halves = sweeps_of(pool, mask, k->ranges, p->max_len);
    if (halves) {
        k->ranges = ranges_of_sweeps(pool, halves, p->max_len, k->ranges);
        replace_masks(k, loop->body, halves);
    }
    if (mask != expr_bool(pool, true) && !k->ranges->n_must) {
        loop->range = KEYS_PARTIAL;
        return NULL;
    }
    loop->range = KEYS_FULL;
    if (mask != expr_bool(pool, true)) add_partial_loop(k, rows, at);
    remove_masks(loop->body);
    return NULL;
}
