/* expr_rewrite.c - rebuilding expressions bottom-up with something changed. Operands have smaller ids, so it is a loop. */
#include "ir/pattern/pool.h"

#include <string.h>

/* made[e] for everything below root, 0 where not needed yet. */
static expr *needed(const expr_pool *p, expr root)
{
    expr *made = ARENA_ARRAY(p->arena, expr, (size_t)root + 1);
    made[root] = root;
    for (expr e = root; e > 0; e--) {
        if (!made[e]) continue;
        const expr_node *n = expr_get(p, e);
        for (unsigned i = 0; i < n->nargs; i++) made[n->arg[i]] = n->arg[i];
    }
    return made;
}

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
    if (n.op == EXPR_ELEM_MIN || n.op == EXPR_ELEM_MAX) return expr_elem_bound(p, (expr_op)n.op, n.index, n.arg, n.nargs);
    return expr_make(p, (expr_op)n.op, n.arg, n.nargs);
}

expr expr_replace(expr_pool *p, expr root, expr what, expr by)
{
    if (what > root) return root;
    expr *made = needed(p, root);
    for (expr e = what; e <= root; e++)
        if (made[e]) made[e] = e == what ? by : rebuild(p, e, made);
    return made[root];
}

expr expr_substitute(expr_pool *p, expr e, expr_var v, expr by)
{
    return expr_reads_var(p, e, v) ? expr_replace(p, e, expr_variable(p, v), by) : e;
}

/* ---- decisions by range ---------------------------------------------------------------------------------------------- */
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

expr expr_simplify_by_range(expr_pool *p, expr root)
{
    expr *made = needed(p, root);
    for (expr e = 1; e <= root; e++)
        if (made[e]) made[e] = decide(p, rebuild(p, e, made));
    return made[root];
}
