/* ranges_bounds.c - bounds of a data atom on a tile: interval arithmetic, emitted as expressions over q0, q1, k0, k1,
 * the attributes' least and greatest values and the tables' over boxes of indices.
 *
 * A bound may be missing (0); what is built on it is then bounded by expr_range, or not at all. Floats: a table's bound
 * is NaN when one of its elements is, comparisons with NaN are false, so `may` is written as a negated comparison:
 * unknown means may, and not must. */
#include "ir/pattern/analysis.h"
#include "ir/pattern/pool.h"

#include <math.h>

typedef struct bound {
    expr lo, hi; /* of a boolean: must, may */
} bound;

typedef struct bounder {
    expr_pool *p;
    int64_t max_len; /* 0: over the rows and keys of a tile; else over len */
} bounder;

static bound bound_of(bounder *b, expr e);

static expr op2(bounder *b, expr_op op, expr x, expr y) { return expr_binary(b->p, op, x, y); }
static expr number(bounder *b, int64_t i) { return expr_int(b->p, i); }
static expr truth(bounder *b, bool t) { return expr_bool(b->p, t); }
static bound exactly(expr e) { return (bound){e, e}; }
static expr least(bounder *b, expr x, expr y) { return op2(b, EXPR_MIN, x, y); }
static expr greatest(bounder *b, expr x, expr y) { return op2(b, EXPR_MAX, x, y); }

static bool range_of(bounder *b, expr e, int_range *r) { return expr_range(b->p, e, EXPR_MAX_POSITION, r); }

/* What is known without looking at the tile. */
static bound by_range(bounder *b, expr e)
{
    int_range r;
    if (expr_type_of(b->p, e) == TYPE_BOOL) return (bound){truth(b, false), truth(b, true)};
    if (expr_type_of(b->p, e) == TYPE_FLOAT) return exactly(expr_float(b->p, (double)NAN));
    if (!range_of(b, e, &r)) r = (int_range){INT64_MIN, INT64_MAX};
    return (bound){number(b, r.lo), number(b, r.hi)};
}

/* ---- leaves ------------------------------------------------------------------------------------------------------ */
static bound leaf_bound(bounder *b, expr e)
{
    expr_node n = *expr_get(b->p, e);
    if (n.op == EXPR_VAR && n.index == VAR_LEN && b->max_len)
        return (bound){op2(b, EXPR_ADD, expr_variable(b->p, VAR_Q0), number(b, 1)), number(b, b->max_len)};
    if (n.op == EXPR_VAR && (n.index == VAR_Q || n.index == VAR_K))
        return (bound){expr_variable(b->p, n.index == VAR_Q ? VAR_Q0 : VAR_K0),
                       expr_variable(b->p, n.index == VAR_Q ? VAR_Q1 : VAR_K1)};
    if (n.op == EXPR_ATTR && (n.side == ATTR_Q || n.side == ATTR_K)) {
        bool query = n.side == ATTR_Q;
        return (bound){expr_attr(b->p, n.index, query ? ATTR_Q_MIN : ATTR_K_MIN),
                       expr_attr(b->p, n.index, query ? ATTR_Q_MAX : ATTR_K_MAX)};
    }
    return exactly(e);
}

static bound table_bounds(bounder *b, const expr_node *n)
{
    expr box[2 * TABLE_MAX_RANK];
    for (unsigned i = 0; i < n->nargs; i++) {
        bound x = bound_of(b, n->arg[i]);
        box[2 * i] = x.lo, box[2 * i + 1] = x.hi;
    }
    return (bound){expr_elem_bound(b->p, EXPR_ELEM_MIN, n->index, box, 2u * n->nargs),
                   expr_elem_bound(b->p, EXPR_ELEM_MAX, n->index, box, 2u * n->nargs)};
}

/* ---- integers ---------------------------------------------------------------------------------------------------- */
static bound product_bound(bounder *b, bound x, bound y)
{
    expr a[4] = {op2(b, EXPR_MUL, x.lo, y.lo), op2(b, EXPR_MUL, x.lo, y.hi), op2(b, EXPR_MUL, x.hi, y.lo),
                 op2(b, EXPR_MUL, x.hi, y.hi)};
    return (bound){least(b, least(b, a[0], a[1]), least(b, a[2], a[3])),
                   greatest(b, greatest(b, a[0], a[1]), greatest(b, a[2], a[3]))};
}

/* A divisor that is at least 1: for a fixed dividend the quotient moves one way with it. */
static bound quotient_bound(bounder *b, expr e, bound x, bound y)
{
    int_range r;
    if (!range_of(b, y.lo, &r) || r.lo < 1) return by_range(b, e);
    return (bound){least(b, op2(b, EXPR_DIV, x.lo, y.lo), op2(b, EXPR_DIV, x.lo, y.hi)),
                   greatest(b, op2(b, EXPR_DIV, x.hi, y.lo), op2(b, EXPR_DIV, x.hi, y.hi))};
}

static bound remainder_bound(bounder *b, expr e, bound x, bound y)
{
    int_range r;
    if (!range_of(b, y.lo, &r) || r.lo < 1) return by_range(b, e);
    bound block = {number(b, 0), op2(b, EXPR_ADD, y.hi, number(b, -1))};
    if (y.lo != y.hi) return block;
    expr same = op2(b, EXPR_EQ, op2(b, EXPR_DIV, x.lo, y.lo), op2(b, EXPR_DIV, x.hi, y.lo));
    return (bound){expr_if(b->p, same, op2(b, EXPR_MOD, x.lo, y.lo), block.lo),
                   expr_if(b->p, same, op2(b, EXPR_MOD, x.hi, y.lo), block.hi)};
}

static bound abs_bound(bounder *b, bound x)
{
    expr minus = expr_negate(b->p, x.hi);
    return (bound){greatest(b, greatest(b, x.lo, minus), number(b, 0)), greatest(b, x.hi, expr_negate(b->p, x.lo))};
}

/* ---- floats: only what stays sound when a bound is NaN ----------------------------------------------------------- */
static bound scaled_bound(bounder *b, expr e, bound x, expr factor)
{
    const expr_node *n = expr_get(b->p, factor);
    if (n->op != EXPR_CONST || !(n->value.f != 0)) return by_range(b, e);
    bool flips = n->value.f < 0;
    expr lo = op2(b, EXPR_FMUL, x.lo, factor), hi = op2(b, EXPR_FMUL, x.hi, factor);
    return flips ? (bound){hi, lo} : (bound){lo, hi};
}

/* ---- booleans: lo is must, hi is may ----------------------------------------------------------------------------- */
static expr no(bounder *b, expr e) { return expr_unary(b->p, EXPR_NOT, e); }

static bound compare_bound(bounder *b, expr_op op, bound x, bound y)
{
    if (op == EXPR_EQ)
        return (bound){op2(b, EXPR_AND, op2(b, EXPR_EQ, x.lo, y.hi), op2(b, EXPR_EQ, x.hi, y.lo)),
                       op2(b, EXPR_AND, op2(b, EXPR_LE, x.lo, y.hi), op2(b, EXPR_LE, y.lo, x.hi))};
    if (op == EXPR_FEQ)
        return (bound){op2(b, EXPR_AND, op2(b, EXPR_FEQ, x.lo, y.hi), op2(b, EXPR_FEQ, x.hi, y.lo)),
                       op2(b, EXPR_AND, no(b, op2(b, EXPR_FLT, y.hi, x.lo)), no(b, op2(b, EXPR_FLT, x.hi, y.lo)))};
    if (op == EXPR_FLT) return (bound){op2(b, op, x.hi, y.lo), no(b, op2(b, EXPR_FLE, y.hi, x.lo))};
    if (op == EXPR_FLE) return (bound){op2(b, op, x.hi, y.lo), no(b, op2(b, EXPR_FLT, y.hi, x.lo))};
    return (bound){op2(b, op, x.hi, y.lo), op2(b, op, x.lo, y.hi)};
}

static bound if_bound(bounder *b, expr e, bound c, bound x, bound y)
{
    expr_type t = expr_type_of(b->p, e);
    if (t == TYPE_FLOAT) return by_range(b, e); /* min and max skip a NaN */
    expr_op down = t == TYPE_BOOL ? EXPR_AND : EXPR_MIN, up = t == TYPE_BOOL ? EXPR_OR : EXPR_MAX;
    expr never = no(b, c.hi);
    return (bound){expr_if(b->p, c.lo, x.lo, expr_if(b->p, never, y.lo, op2(b, down, x.lo, y.lo))),
                   expr_if(b->p, c.lo, x.hi, expr_if(b->p, never, y.hi, op2(b, up, x.hi, y.hi)))};
}

/* ---- all --------------------------------------------------------------------------------------------------------- */
static bound node_bound(bounder *b, expr e, const expr_node *n, const bound *v)
{
    bound x = v[0], y = v[1];
    expr_op op = (expr_op)n->op;
    switch ((int)op) { /* the rest is bounded by its range */
    case EXPR_NOT:
        return (bound){no(b, x.hi), no(b, x.lo)};
    case EXPR_AND:
    case EXPR_OR:
    case EXPR_ADD:
    case EXPR_FADD:
    case EXPR_MIN:
    case EXPR_MAX:
        return (bound){op2(b, op, x.lo, y.lo), op2(b, op, x.hi, y.hi)};
    case EXPR_SUB:
    case EXPR_FSUB:
        return (bound){op2(b, op, x.lo, y.hi), op2(b, op, x.hi, y.lo)};
    case EXPR_MUL:
        return product_bound(b, x, y);
    case EXPR_DIV:
        return quotient_bound(b, e, x, y);
    case EXPR_MOD:
        return remainder_bound(b, e, x, y);
    case EXPR_ABS:
        return abs_bound(b, x);
    case EXPR_FMUL:
        return scaled_bound(b, e, x, n->arg[1]);
    case EXPR_FLOAT:
        return (bound){expr_unary(b->p, op, x.lo), expr_unary(b->p, op, x.hi)};
    case EXPR_LT:
    case EXPR_LE:
    case EXPR_EQ:
    case EXPR_FLT:
    case EXPR_FLE:
    case EXPR_FEQ:
        return compare_bound(b, op, x, y);
    case EXPR_IF:
        return if_bound(b, e, v[0], v[1], v[2]);
    }
    return by_range(b, e);
}

/* Something that overflows is worth nothing. */
static bound checked(bounder *b, expr e, bound x)
{
    int_range r;
    return range_of(b, x.lo, &r) && range_of(b, x.hi, &r) ? x : by_range(b, e);
}

/* Nothing in it changes. */
static bool is_fixed(const bounder *b, expr e)
{
    return b->max_len ? !expr_reads_var(b->p, e, VAR_LEN) : !(expr_depends(b->p, e) & (DEPENDS_ROW | DEPENDS_KEY));
}

/* Recursion goes over the tree, whose size the callers limit. */
static bound bound_of(bounder *b, expr e)
{
    expr_node n = *expr_get(b->p, e);
    bound v[EXPR_MAX_ARGS] = {{0}}, r;
    if (is_fixed(b, e)) {
        r = exactly(e);
    } else if (n.op == EXPR_ELEM) {
        r = b->max_len ? by_range(b, e) : table_bounds(b, &n); /* min_of belongs to bounds of data */
    } else if (n.nargs == 0) {
        r = leaf_bound(b, e);
    } else {
        for (unsigned i = 0; i < n.nargs; i++) v[i] = bound_of(b, n.arg[i]);
        r = node_bound(b, e, &n, v);
    }
    return checked(b, e, r);
}

data_atom bounds_of_atom(analysis *a, expr atom)
{
    bounder b = {.p = a->pool};
    data_atom r = {.atom = atom, .may = expr_bool(a->pool, true), .must = expr_bool(a->pool, false)};
    if (expr_tree_size(a->pool, atom) > LINEAR_MAX_TREE) return r;
    bound x = bound_of(&b, atom);
    piece may = {.when = expr_simplify_by_range(a->pool, x.hi)}, must = {.when = expr_simplify_by_range(a->pool, x.lo)};
    if (piece_fits(a, &may)) r.may = may.when;
    if (piece_fits(a, &must)) r.must = must.when;
    return r;
}

expr bound_over_len(const analysis *a, expr e, int64_t max_len, bool greatest)
{
    bounder b = {.p = a->pool, .max_len = max_len};
    const bound x = expr_tree_size(a->pool, e) <= LINEAR_MAX_TREE ? bound_of(&b, e) : by_range(&b, e);
    const expr end = expr_simplify_by_range(a->pool, greatest ? x.hi : x.lo);
    int_range r;
    /* Numbers beyond what ends may be say nothing. */
    if (!expr_range(a->pool, end, EXPR_MAX_POSITION, &r) || r.hi > RANGES_INFINITY || r.lo < -RANGES_INFINITY)
        return expr_int(a->pool, greatest ? RANGES_INFINITY : 0);
    return end;
}
