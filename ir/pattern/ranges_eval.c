/* ranges_eval.c - intervals as numbers, and the class of a tile. */
#include "ir/pattern/pool.h"
#include "ir/pattern/ranges.h"

#include <stdlib.h>

static int by_start(const void *x, const void *y)
{
    const key_interval *a = x, *b = y;
    return (a->lo > b->lo) - (a->lo < b->lo);
}

static uint32_t merge_sorted(key_interval *x, uint32_t n)
{
    uint32_t m = 0, last = UINT32_MAX; /* of those without a step */
    for (uint32_t i = 0; i < n; i++) {
        if (x[i].step == 1 && last != UINT32_MAX && x[i].lo <= x[last].hi + 1) {
            if (x[i].hi > x[last].hi) x[last].hi = x[i].hi;
            continue;
        }
        if (x[i].step == 1) last = m;
        x[m++] = x[i];
    }
    return m;
}

/* Cut to the keys there are; false: none is left. */
static bool cut_to_keys(key_interval *x, int64_t n_keys)
{
    if (x->lo < 0) x->lo = int_floor_mod(x->lo, x->step);
    if (x->hi > n_keys - 1) x->hi = n_keys - 1;
    if (x->lo > x->hi) return false;
    x->hi -= (x->hi - x->lo) % x->step;
    if (x->lo == x->hi) x->step = 1;
    return true;
}

uint32_t ranges_evaluate(const expr_pool *p, const ranges *r, ranges_list which, const expr_env *env, int64_t n_keys,
                         key_interval *out)
{
    const interval *list = which == RANGES_MAY ? r->may : which == RANGES_MUST ? r->must : r->live;
    uint32_t n = which == RANGES_MAY ? r->n_may : which == RANGES_MUST ? r->n_must : r->n_live, m = 0;
    ATTNC_CHECK(n <= RANGES_MAX_INTERVALS);
    for (uint32_t i = 0; i < n; i++) {
        key_interval x = {expr_eval(p, list[i].lo, env).i, expr_eval(p, list[i].hi, env).i, 1};
        if (list[i].step) x.step = expr_eval(p, list[i].step, env).i;
        if (cut_to_keys(&x, n_keys)) out[m++] = x;
    }
    qsort(out, m, sizeof *out, by_start);
    return merge_sorted(out, m);
}

/* Everything that the expression reads is at hand. */
static bool can_evaluate(const expr_pool *p, expr root, const expr_env *env)
{
    bool known = true;
    uint8_t *below = calloc((size_t)root + 1, 1);
    if (!below) ATTNC_BUG("no memory");
    below[root] = 1;
    for (expr e = root; e > 0; e--) {
        if (!below[e]) continue;
        const expr_node *n = expr_get(p, e);
        for (unsigned i = 0; i < n->nargs; i++) below[n->arg[i]] = 1;
        if (n->op == EXPR_ATTR && !env->attr) known = false;
        if (n->op != EXPR_ELEM && n->op != EXPR_ELEM_MIN && n->op != EXPR_ELEM_MAX) continue;
        known &= (env->tables && env->tables[n->index]) || expr_symbols(p)->tables.at[n->index].value;
    }
    free(below);
    return known;
}

bool ranges_hold(const key_interval *x, uint32_t n, int64_t key)
{
    for (uint32_t i = 0; i < n; i++)
        if (x[i].lo <= key && key <= x[i].hi && (key - x[i].lo) % x[i].step == 0) return true;
    return false;
}

/* Steps help single keys only. */
static bool covered(const key_interval *x, uint32_t n, int64_t k0, int64_t k1)
{
    if (k0 == k1) return ranges_hold(x, n, k0);
    for (uint32_t i = 0; i < n; i++)
        if (x[i].step == 1 && x[i].lo <= k0 && k1 <= x[i].hi) return true;
    return false;
}

/* x ends at k1 at the latest. */
static bool touched(const key_interval *x, uint32_t n, int64_t k0)
{
    for (uint32_t i = 0; i < n; i++)
        if (x[i].hi >= k0) return true;
    return false;
}

tile_class ranges_classify(const expr_pool *p, const ranges *r, const expr_env *env)
{
    bool(*data)[2] = calloc(r->n_data + 1u, sizeof *data);
    if (!data) ATTNC_BUG("no memory");
    for (uint32_t i = 0; i < r->n_data; i++) {
        data[i][0] = !can_evaluate(p, r->data[i].may, env) || expr_eval(p, r->data[i].may, env).i;
        data[i][1] = can_evaluate(p, r->data[i].must, env) && expr_eval(p, r->data[i].must, env).i;
    }
    expr_env with_data = *env;
    with_data.data = (const bool(*)[2])data;
    int64_t k0 = env->var[VAR_K0], k1 = env->var[VAR_K1];
    key_interval x[RANGES_MAX_INTERVALS];
    uint32_t n = ranges_evaluate(p, r, RANGES_MAY, &with_data, k1 + 1, x);
    tile_class c = touched(x, n, k0) ? TILE_PARTIAL : TILE_EMPTY;
    if (c == TILE_PARTIAL) {
        n = ranges_evaluate(p, r, RANGES_MUST, &with_data, k1 + 1, x);
        if (covered(x, n, k0, k1)) c = TILE_FULL;
    }
    free(data);
    return c;
}
