/* mask_view.c - a mask on a text of n tokens. Attributes and run-time tables get example values, the same in every run. */
#include "tools/attnc/mask_view.h"

enum { FEWEST_TOKENS = 64, MOST_TOKENS = 1 << 20 };

/* Two groups of tokens, a long and a short one, and tokens without a group: images, documents or flags. */
static int32_t example_group(int64_t i, int64_t n)
{
    if (i >= n / 8 && i < 3 * n / 8) return 0;
    return i >= 5 * n / 8 && i < 11 * n / 16 ? 1 : -1;
}

/* Zeros and ones, one in sixteen, without a pattern that the eye could take for the mask's. */
static double example_entry(uint64_t i)
{
    uint64_t x = (i + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    return (x ^ (x >> 27)) % 16 == 0;
}

static const double *example_table(arena *a, const table *t)
{
    size_t n = 1;
    for (uint32_t i = 0; i < t->rank; i++)
        n *= (size_t)t->extent[i];
    double *out = ARENA_ARRAY(a, double, n + 1);
    for (size_t i = 0; i < n; i++)
        out[i] = example_entry(i);
    return out;
}

mask_view *mask_view_create(arena *a, const ir_module *m, const pattern *p, int64_t n, int64_t layer, int64_t head)
{
    mask_view *v = ARENA_NEW(a, mask_view);
    *v = (mask_view){.m = m, .ranges = p->ranges, .n = n};
    v->mask = expr_program_create(a, m->pool, &p->mask, 1);
    v->values = ARENA_ARRAY(a, expr_value, expr_program_size(v->mask) + 1);
    v->attr = (int64_t(*)[ATTR_SIDE_COUNT])arena_array(a, m->symbols.attrs.n + 1, sizeof *v->attr);
    v->tables = ARENA_ARRAY(a, const double *, m->symbols.tables.n + 1);
    for (size_t i = 0; i < m->symbols.tables.n; i++)
        if (!m->symbols.tables.at[i].value) v->tables[i] = example_table(a, &m->symbols.tables.at[i]);
    v->env = (expr_env){.attr = (const int64_t(*)[ATTR_SIDE_COUNT])v->attr, .tables = v->tables};
    v->env.var[VAR_LAYER] = layer;
    v->env.var[VAR_LEN] = n;
    v->env.var[VAR_H] = head;
    v->env.var[VAR_G] = head * p->shape.kv_heads / p->shape.q_heads;
    return v;
}

bool mask_view_visible(mask_view *v, int64_t q, int64_t k)
{
    expr_value result;
    for (size_t i = 0; i < v->m->symbols.attrs.n; i++) {
        v->attr[i][ATTR_Q] = example_group(q, v->n);
        v->attr[i][ATTR_K] = example_group(k, v->n);
    }
    v->env.var[VAR_Q] = q;
    v->env.var[VAR_K] = k;
    expr_program_run(v->mask, &v->env, v->values, &result);
    return result.i;
}

/* Smallest and largest group of tokens t0..t1; groups are stretches, so few tokens need a look. */
static void group_bounds(int64_t n, int64_t t0, int64_t t1, int64_t *lo, int64_t *hi)
{
    const int64_t edges[] = {t0, n / 8, 3 * n / 8, 5 * n / 8, 11 * n / 16};
    *lo = INT32_MAX, *hi = INT32_MIN;
    for (size_t i = 0; i < ATTNC_COUNT(edges); i++) {
        if (edges[i] < t0 || edges[i] > t1) continue;
        int64_t g = example_group(edges[i], n);
        *lo = g < *lo ? g : *lo;
        *hi = g > *hi ? g : *hi;
    }
}

tile_class mask_view_classify(mask_view *v, int64_t q0, int64_t q1, int64_t k0, int64_t k1)
{
    for (size_t i = 0; i < v->m->symbols.attrs.n; i++) {
        group_bounds(v->n, q0, q1, &v->attr[i][ATTR_Q_MIN], &v->attr[i][ATTR_Q_MAX]);
        group_bounds(v->n, k0, k1, &v->attr[i][ATTR_K_MIN], &v->attr[i][ATTR_K_MAX]);
    }
    v->env.var[VAR_Q0] = q0, v->env.var[VAR_Q1] = q1;
    v->env.var[VAR_K0] = k0, v->env.var[VAR_K1] = k1;
    return ranges_classify(v->m->pool, v->ranges, &v->env);
}

/* The largest number in the mask, and the largest that something is divided by: the scale of what it draws. */
static void find_numbers(const expr_pool *pool, expr e, bool *seen, int64_t *largest, int64_t *divisor)
{
    int64_t x;
    if (!e || seen[e]) return;
    seen[e] = true;
    const expr_node node = *expr_get(pool, e);
    if (expr_is_const(pool, e, &x)) {
        x = x < 0 ? -x : x;
        if (x <= MOST_TOKENS && x > *largest) *largest = x;
        return;
    }
    bool divides = node.op == EXPR_DIV || node.op == EXPR_MOD;
    if (divides && expr_is_const(pool, node.arg[1], &x) && x <= MOST_TOKENS && x > *divisor) *divisor = x;
    for (uint32_t i = 0; i < (divides ? 1 : node.nargs); i++)
        find_numbers(pool, node.arg[i], seen, largest, divisor);
}

int64_t mask_view_default_tokens(const ir_module *m, const pattern *p)
{
    int64_t largest = 0, divisor = 0, n = FEWEST_TOKENS;
    arena *scratch = arena_create(0, NULL, NULL);
    find_numbers(m->pool, p->mask, ARENA_ARRAY(scratch, bool, expr_count(m->pool)), &largest, &divisor);
    arena_destroy(scratch);
    int64_t wanted = 4 * (largest > divisor ? largest : divisor);
    if (divisor > 1 && divisor * (largest + 1) > wanted) wanted = divisor * (largest + 1); /* largest counts blocks */
    while (n < wanted && n < MOST_TOKENS)
        n *= 2;
    return n;
}
