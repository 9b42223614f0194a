/* tabulate.c - what can be known when compiling becomes a table: no kernel computes a logarithm of a constant.
 *
 * Two kinds of subexpressions are looked for, the largest first:
 *     over heads and layers alone             exp2(-8.0 * (h + 1) / 8)         =>  baked[h]
 *     and over one integer of few values      floor(log2(min(k - q, 128)...))  =>  baked[h, min(k - q, 128) - lo]
 * and only those that hold a function worth it (exp, exp2, ln, log2, sqrt, tanh). */
#include "frontend/internal.h"

#include <math.h>
#include <string.h>

/* Bounds of the search; what lies beyond is left as it is. */
enum { MOST_NODES = 4000 /* of an expression that is searched */, MOST_TRIES = 16 /* of its parts as an index */ };
static const size_t most_work = 20000000; /* nodes looked at in one clause */

typedef struct baking {
    frontend *f;
    const source_pattern *pattern;
    bool *costly; /* per expression: it holds a function worth a table */
    expr *seen;   /* per expression: the walk that met it last */
    expr walk;
    size_t work;
} baking;

static bool is_costly_op(uint8_t op)
{
    return op == EXPR_EXP || op == EXPR_EXP2 || op == EXPR_LN || op == EXPR_LOG2 || op == EXPR_SQRT || op == EXPR_TANH;
}

static void find_costly(baking *b, expr root)
{
    b->costly = ARENA_ARRAY(b->f->arena, bool, (size_t)root + 1);
    for (expr e = 1; e <= root; e++) {
        const expr_node *n = expr_get(b->f->pool, e);
        b->costly[e] = is_costly_op(n->op);
        for (unsigned i = 0; i < n->nargs; i++) b->costly[e] |= b->costly[n->arg[i]];
    }
}

/* Whether a leaf has a value when compiling, once head and layer are given. */
static bool is_known_leaf(const baking *b, const expr_node *n)
{
    if (n->op == EXPR_VAR) return n->index == VAR_H || n->index == VAR_G || n->index == VAR_LAYER;
    if (n->op == EXPR_ELEM) return b->f->module->symbols.tables.at[n->index].value != NULL;
    return n->op != EXPR_ATTR && n->op != EXPR_DATA;
}

/* Everything below root, without looking into `index` (0: none), is known. Nodes met are listed in `met` when it is
 * there. */
typedef VEC(expr) expr_list;
static bool is_known(baking *b, expr root, expr index, expr_list *met)
{
    expr_list open = {0};
    bool good = true;
    size_t count = 0;
    b->walk++;
    VEC_PUSH(b->f->arena, &open, root);
    while (open.n) {
        expr e = open.at[--open.n];
        if (e == index || b->seen[e] == b->walk) continue;
        b->seen[e] = b->walk;
        const expr_node *n = expr_get(b->f->pool, e);
        good &= is_known_leaf(b, n);
        if (!met && !good) return false;
        if (met) VEC_PUSH(b->f->arena, met, e);
        b->work++;
        if (++count > MOST_NODES || b->work > most_work) return false;
        for (unsigned i = 0; i < n->nargs; i++) VEC_PUSH(b->f->arena, &open, n->arg[i]);
    }
    return good;
}

static bool is_small_index(const baking *b, expr e)
{
    int_range r;
    return expr_type_of(b->f->pool, e) == TYPE_INT && !b->costly[e] &&
           (expr_depends(b->f->pool, e) & (DEPENDS_ROW | DEPENDS_KEY)) &&
           expr_range(b->f->pool, e, EXPR_MAX_POSITION, &r) && r.hi - r.lo < MAX_BAKED_INDEX;
}

/* Whether e can be a table; *index is what it is indexed by besides head and layer, 0 for nothing. */
static bool can_bake(baking *b, expr e, expr *index)
{
    *index = 0;
    if (expr_type_of(b->f->pool, e) == TYPE_BOOL || !b->costly[e] || expr_get(b->f->pool, e)->op == EXPR_CONST)
        return false;
    if (expr_depends(b->f->pool, e) & DEPENDS_SCORE) return false;
    expr_list met = {0};
    if (is_known(b, e, 0, &met)) return true;
    for (int tries = 0; tries < MOST_TRIES; tries++) { /* candidates from the outermost inwards: greater ids first */
        expr best = 0;
        for (size_t i = 0; i < met.n; i++)
            if (met.at[i] > best && met.at[i] != e && is_small_index(b, met.at[i]) && (!*index || met.at[i] < *index))
                best = met.at[i];
        if (!best) return false;
        *index = best;
        if (is_known(b, e, best, NULL)) return true;
    }
    return false;
}

/* ---- making the table ------------------------------------------------------------------------------------------- */
typedef struct grid {
    bool by_layer, by_head;
    int64_t layers, heads, n, lo; /* n values of the index from lo on */
} grid;

static bool plan_grid(const baking *b, expr e, expr index, grid *g)
{
    const expr_pool *p = b->f->pool;
    *g = (grid){.by_layer = expr_reads_var(p, e, VAR_LAYER),
                .by_head = expr_reads_var(p, e, VAR_H) || expr_reads_var(p, e, VAR_G)};
    g->layers = g->by_layer ? b->f->module->layers : 1;
    g->heads = g->by_head ? b->pattern->sizes.value[CONSTANT_HEADS] : 1;
    g->n = 1;
    int_range r;
    if (index && expr_range(p, index, EXPR_MAX_POSITION, &r)) g->n = r.hi - r.lo + 1, g->lo = r.lo;
    return g->layers * g->heads * g->n <= MAX_TABLE_ENTRIES;
}

/* false: a value does not fit the run time's 32 bits. */
static bool compute_values(baking *b, expr e, expr index, const grid *g, double *to)
{
    frontend *f = b->f;
    expr_type type = expr_type_of(f->pool, e);
    if (index)
        e = expr_replace(f->pool, e, index, expr_variable(f->pool, VAR_K1)); /* a variable that sources cannot name */
    expr_program *x = expr_program_create(f->arena, f->pool, &e, 1);
    expr_value *values = ARENA_ARRAY(f->arena, expr_value, expr_program_size(x) + 1), result;
    int64_t heads = b->pattern->sizes.value[CONSTANT_HEADS], kv = b->pattern->sizes.value[CONSTANT_KV_HEADS];
    for (int64_t l = 0; l < g->layers; l++)
        for (int64_t h = 0; h < g->heads; h++)
            for (int64_t i = 0; i < g->n; i++) {
                expr_env env = {0};
                env.var[VAR_LAYER] = l, env.var[VAR_H] = h, env.var[VAR_G] = h * kv / heads,
                env.var[VAR_K1] = g->lo + i;
                expr_program_run(x, &env, values, &result);
                *to = type == TYPE_INT ? (double)result.i : result.f;
                if (type == TYPE_INT && (result.i > INT32_MAX || result.i < INT32_MIN)) return false;
                to++;
            }
    return true;
}

static uint32_t share_table(frontend *f, expr_type type, uint32_t rank, const int64_t *extent, const double *value,
                            size_t count)
{
    for (size_t i = 0; i < f->module->symbols.tables.n; i++) {
        const table *t = &f->module->symbols.tables.at[i];
        if (t->value && t->type == type && t->rank == rank && !memcmp(t->extent, extent, rank * sizeof *extent) &&
            !memcmp(t->value, value, count * sizeof *value))
            return (uint32_t)i;
    }
    return add_const_table(f, fresh_table_name(f, "baked"), type, rank, extent, value);
}

static expr bake(baking *b, expr e, expr index)
{
    grid g;
    if (!plan_grid(b, e, index, &g)) return e;
    frontend *f = b->f;
    size_t count = (size_t)(g.layers * g.heads * g.n);
    double *value = ARENA_ARRAY(f->arena, double, count);
    if (!compute_values(b, e, index, &g, value)) return e;
    int64_t extent[TABLE_MAX_RANK];
    expr at[TABLE_MAX_RANK];
    uint32_t rank = 0;
    if (g.by_layer) at[rank] = expr_variable(f->pool, VAR_LAYER), extent[rank++] = g.layers;
    if (g.by_head) at[rank] = expr_variable(f->pool, VAR_H), extent[rank++] = g.heads;
    if (index) at[rank] = expr_binary(f->pool, EXPR_SUB, index, expr_int(f->pool, g.lo)), extent[rank++] = g.n;
    if (!rank) return e;
    uint32_t made = share_table(f, expr_type_of(f->pool, e), rank, extent, value, count);
    return expr_elem(f->pool, made, at, rank);
}

typedef struct finding {
    expr e, index;
} finding;

expr tabulate(frontend *f, expr root, const source_pattern *p)
{
    baking b = {.f = f, .pattern = p};
    find_costly(&b, root);
    if (!b.costly[root]) return root;
    b.seen = ARENA_ARRAY(f->arena, expr, (size_t)root + 1);
    bool *visited = ARENA_ARRAY(f->arena, bool, (size_t)root + 1);
    VEC(finding) found = {0};
    visited[root] = true;
    for (expr e = root; e > 0; e--) { /* operands have smaller ids: whole expressions come before their parts */
        if (!visited[e] || !b.costly[e]) continue;
        finding x = {.e = e};
        if (can_bake(&b, e, &x.index)) {
            VEC_PUSH(f->arena, &found, x);
            continue;
        }
        const expr_node *n = expr_get(f->pool, e);
        for (unsigned i = 0; i < n->nargs; i++) visited[n->arg[i]] = true;
    }
    for (size_t i = 0; i < found.n; i++) {
        expr by = bake(&b, found.at[i].e, found.at[i].index);
        if (by != found.at[i].e) root = expr_replace(f->pool, root, found.at[i].e, by);
    }
    return root;
}
