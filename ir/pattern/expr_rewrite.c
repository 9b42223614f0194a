/* expr_rewrite.c - rebuilding expressions bottom-up with something changed.
 *
 * The walk has a stack of its own (long chains) and touches only what is below the root: a mask of thousands of
 * comparisons is rewritten comparison by comparison, and each must cost what it measures, not what the pool does. */
#include "ir/pattern/pool.h"

#include <string.h>

/* The node with its operands replaced by made[operand]. */
static expr rebuild(expr_pool *p, expr e, const expr *made)
{
    expr_node n = *expr_get(p, e);
    bool same = true;
    for (unsigned i = 0; i < n.nargs; i++) {
        same &= made[n.arg[i]] == n.arg[i];
        n.arg[i] = made[n.arg[i]];
    }
    if (same) return e;
    if (n.op == EXPR_ELEM) return expr_elem(p, n.index, n.arg, n.nargs);
    if (n.op == EXPR_ELEM_MIN || n.op == EXPR_ELEM_MAX)
        return expr_elem_bound(p, (expr_op)n.op, n.index, n.arg, n.nargs);
    return expr_make(p, (expr_op)n.op, n.arg, n.nargs);
}

typedef struct rewrite {
    expr what, by; /* what = 0: decide by range instead */
} rewrite;

static expr decide(expr_pool *p, expr e);

static expr rewrite_node(expr_pool *p, const rewrite *r, expr e)
{
    expr x = rebuild(p, e, p->made);
    return r->what ? x : decide(p, x);
}

/* 0: e is to be rebuilt from its operands. */
static expr known_already(const rewrite *r, expr e)
{
    if (e == r->what) return r->by;
    return e < r->what ? e : 0; /* what contains another expression has a greater id */
}

static bool push_operands(expr_pool *p, expr e)
{
    const expr_node *n = expr_get(p, e);
    size_t before = p->todo.n;
    for (unsigned i = 0; i < n->nargs; i++)
        if (!p->made[n->arg[i]]) VEC_PUSH(p->arena, &p->todo, n->arg[i]);
    return p->todo.n > before;
}

static expr rewrite_all(expr_pool *p, const rewrite *r, expr root)
{
    if (p->made_cap <= root) {
        p->made_cap = p->count * 2;
        p->made = ARENA_ARRAY(p->arena, expr, p->made_cap);
    }
    VEC_PUSH(p->arena, &p->todo, root);
    while (p->todo.n) {
        expr e = p->todo.at[p->todo.n - 1], x = p->made[e] ? p->made[e] : known_already(r, e);
        if (!x && push_operands(p, e)) continue;
        p->todo.n--;
        if (p->made[e]) continue;
        p->made[e] = x ? x : rewrite_node(p, r, e);
        VEC_PUSH(p->arena, &p->done, e);
    }
    expr result = p->made[root];
    for (size_t i = 0; i < p->done.n; i++) p->made[p->done.at[i]] = 0;
    p->done.n = 0;
    return result;
}

expr expr_replace(expr_pool *p, expr root, expr what, expr by)
{
    ATTNC_CHECK(what);
    return rewrite_all(p, &(rewrite){what, by}, root);
}

expr expr_substitute(expr_pool *p, expr e, expr_var v, expr by)
{
    return expr_reads_var(p, e, v) ? expr_replace(p, e, expr_variable(p, v), by) : e;
}

/* ---- decisions by range ------------------------------------------------------------------------------------------ */
static bool difference(expr_pool *p, const expr_node *n, int_range *d)
{
    return expr_range(p, expr_binary(p, EXPR_SUB, n->arg[0], n->arg[1]), EXPR_MAX_POSITION, d);
}

static expr decide_pair(expr_pool *p, expr e, const expr_node *n)
{
    int_range d;
    if (!difference(p, n, &d)) return e;
    if (n->op == EXPR_MIN) return d.hi <= 0 ? n->arg[0] : d.lo >= 0 ? n->arg[1] : e;
    if (n->op == EXPR_MAX) return d.hi <= 0 ? n->arg[1] : d.lo >= 0 ? n->arg[0] : e;
    if (n->op == EXPR_LT) return d.hi < 0 ? expr_bool(p, true) : d.lo >= 0 ? expr_bool(p, false) : e;
    if (n->op == EXPR_LE) return d.hi <= 0 ? expr_bool(p, true) : d.lo > 0 ? expr_bool(p, false) : e;
    return d.lo > 0 || d.hi < 0 ? expr_bool(p, false) : e; /* EQ; equal for certain only when it folds */
}

static expr decide(expr_pool *p, expr e)
{
    expr_node n = *expr_get(p, e);
    int_range r, a, b;
    if (n.op == EXPR_CONST || !expr_range(p, e, EXPR_MAX_POSITION, &r)) return e;
    if (n.type == TYPE_BOOL && r.lo == r.hi) return expr_bool(p, r.lo);
    if (n.type == TYPE_INT && n.nargs && r.lo == r.hi) return expr_int(p, r.lo);
    if (n.op == EXPR_MIN || n.op == EXPR_MAX || n.op == EXPR_LT || n.op == EXPR_LE || n.op == EXPR_EQ)
        return decide_pair(p, e, &n);
    if (n.op != EXPR_MOD && n.op != EXPR_ABS) return e;
    expr_range(p, n.arg[0], EXPR_MAX_POSITION, &a);
    if (n.op == EXPR_ABS) return a.lo >= 0 ? n.arg[0] : a.hi <= 0 ? expr_negate(p, n.arg[0]) : e;
    expr_range(p, n.arg[1], EXPR_MAX_POSITION, &b);
    return a.lo >= 0 && a.hi < b.lo ? n.arg[0] : e;
}

expr expr_simplify_by_range(expr_pool *p, expr root) { return rewrite_all(p, &(rewrite){0, 0}, root); }
