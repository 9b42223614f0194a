/* pass_fold_scale.c - the maps of the logits become one cheap map; scale and log2 e go where they are free; exp becomes
 * exp2.
 *
 * Needs: the online form.      Breaks: logits count in powers of 2 (kernel->base2).
 * Keeps: weights and lse: 2^(s log2 e) = e^s; the sink is multiplied as well.
 * Ends: the chain of maps is composed once; peeling a factor off s removes one operation each time. Costs the size of
 * the formula as a graph.
 *
 *   q = load.q                         q = load.q { 0.1803 }            (0.125 * log2 e)
 *   s = map s { s * 0.125 }      ==>   s = map s { s + -1.4427 * float(q - k) }
 *   s = map s { s - float(q - k) }
 *
 * f is the composed map; sums over dim are linear, so a factor of s may stand at the queries.
 *   f = s * A + B, A free of the key     A moves.
 *   else                                 a factor c that stands at every use of s moves: f(c s). What is left is
 * written in units of log2 e where that costs nothing: g(L s) = L f(s) for sums, min, max, choices; then L moves as
 * well. Where it does not (tanh), L goes to the constants outside. */
#include "ir/pass/pass_internal.h"

static const double log2_e = 1.4426950408889634074;

/* ---- products -------------------------------------------------------------------------------------------- */

static bool constant_of(const expr_pool *p, expr e, double *out)
{
    const expr_node *n = expr_get(p, e);
    if (n->op != EXPR_CONST || n->type != TYPE_FLOAT) return false;
    *out = n->value.f;
    return true;
}

/* e = 0 - x: gives x, else 0. */
static expr negated(const expr_pool *p, expr e)
{
    const expr_node *n = expr_get(p, e);
    double zero;
    return n->op == EXPR_FSUB && constant_of(p, n->arg[0], &zero) && zero == 0 ? n->arg[1] : 0;
}

/* a * b, where 0 stands for the number 1. */
static expr times(expr_pool *p, expr a, expr b)
{
    double x, y;
    if (!a || !b) return a ? a : b;
    if (constant_of(p, a, &x) && constant_of(p, b, &y)) return expr_float(p, x * y);
    return expr_binary(p, EXPR_FMUL, a, b);
}

/* Results by id of an expression: shared parts are looked at once, so that a formula costs its size as a graph. */
typedef struct memo {
    expr *at;
    expr n;
} memo;

static const expr NOTHING = UINT32_MAX;

static memo memo_create(expr_pool *p, expr e) { return (memo){ARENA_ARRAY(expr_arena(p), expr, (size_t)e + 1), e + 1}; }

static expr absorb(expr_pool *p, expr e, memo *m);

static expr absorb_new(expr_pool *p, expr e, memo *m)
{
    double x;
    if (constant_of(p, e, &x)) return expr_float(p, x * log2_e);
    const expr_node n = *expr_get(p, e);
    if (n.op != EXPR_FMUL && n.op != EXPR_FDIV && n.op != EXPR_FADD && n.op != EXPR_FSUB && n.op != EXPR_IF) return 0;
    size_t first = n.op == EXPR_IF ? 1 : 0;
    expr a = absorb(p, n.arg[first], m);
    if (n.op == EXPR_FDIV) {
        if (a) return expr_binary(p, EXPR_FDIV, a, n.arg[1]);
        return constant_of(p, n.arg[1], &x) && x != 0 ? expr_binary(p, EXPR_FMUL, n.arg[0], expr_float(p, log2_e / x))
                                                      : 0;
    }
    if (n.op == EXPR_FMUL && a) return expr_binary(p, EXPR_FMUL, a, n.arg[1]);
    expr b = a || n.op == EXPR_FMUL ? absorb(p, n.arg[first + 1], m) : 0;
    if (!b) return 0;
    if (n.op == EXPR_FMUL) return expr_binary(p, EXPR_FMUL, n.arg[0], b);
    return n.op == EXPR_IF ? expr_if(p, n.arg[0], a, b) : expr_binary(p, (expr_op)n.op, a, b);
}

/* e * log2 e if a constant inside takes the factor up, so that no operation is added; else 0. */
static expr absorb(expr_pool *p, expr e, memo *m)
{
    if (!m->at[e]) {
        expr r = absorb_new(p, e, m);
        m->at[e] = r ? r : NOTHING;
    }
    return m->at[e] == NOTHING ? 0 : m->at[e];
}

static expr multiply_with(expr_pool *p, expr e, memo *m)
{
    expr free_of_charge = absorb(p, e, m);
    if (free_of_charge) return free_of_charge;
    const expr_node n = *expr_get(p, e);
    if (negated(p, e)) return expr_binary(p, EXPR_FSUB, n.arg[0], multiply_with(p, n.arg[1], m));
    for (uint32_t i = 0; n.op == EXPR_FMUL && i < 2; i++)
        if (!(expr_depends(p, n.arg[i]) & (DEPENDS_KEY | DEPENDS_SCORE | DEPENDS_ROW)))
            return expr_binary(p, EXPR_FMUL, multiply_with(p, n.arg[i], m), n.arg[1 - i]);
    return expr_binary(p, EXPR_FMUL, e, expr_float(p, log2_e));
}

/* e * log2 e, the multiplication put where it is evaluated least often: beside what does not depend on row, key and
 * score. */
static expr to_base2(expr_pool *p, expr e)
{
    memo m = memo_create(p, e);
    return multiply_with(p, e, &m);
}

/* ---- f = s * A + B --------------------------------------------------------------------------------------- */

typedef struct linear {
    bool ok;
    expr a, b; /* 0: zero */
} linear;

static bool reads_score(const expr_pool *p, expr e) { return expr_depends(p, e) & DEPENDS_SCORE; }

static expr or_zero(expr_pool *p, expr e) { return e ? e : expr_float(p, 0); }

static expr add(expr_pool *p, expr_op op, expr a, expr b)
{
    if (!b) return a;
    if (!a && op == EXPR_FADD) return b;
    return expr_binary(p, op, or_zero(p, a), b);
}

/* of: what was found for the smaller ids. */
static linear linear_known(const expr_pool *p, const linear *of, expr e)
{
    return reads_score(p, e) ? of[e] : (linear){.ok = true, .b = e};
}

static linear linear_product(expr_pool *p, expr_op op, linear l, expr by)
{
    if (l.a) l.a = expr_binary(p, op, l.a, by);
    if (l.b) l.b = expr_binary(p, op, l.b, by);
    return l;
}

static linear linear_if(expr_pool *p, expr cond, linear x, linear y)
{
    linear l = {.ok = x.ok && y.ok && !reads_score(p, cond)};
    if (l.ok && (x.a || y.a)) l.a = expr_if(p, cond, or_zero(p, x.a), or_zero(p, y.a));
    if (l.ok && (x.b || y.b)) l.b = expr_if(p, cond, or_zero(p, x.b), or_zero(p, y.b));
    return l;
}

static linear linear_step(expr_pool *p, const linear *of, expr e)
{
    const expr_node n = *expr_get(p, e);
    if (n.op == EXPR_VAR) return (linear){.ok = true, .a = expr_float(p, 1)};
    if (n.op == EXPR_IF) return linear_if(p, n.arg[0], linear_known(p, of, n.arg[1]), linear_known(p, of, n.arg[2]));
    if (n.op != EXPR_FADD && n.op != EXPR_FSUB && n.op != EXPR_FMUL && n.op != EXPR_FDIV) return (linear){.ok = false};
    linear x = linear_known(p, of, n.arg[0]), y = linear_known(p, of, n.arg[1]);
    if (!x.ok || !y.ok) return (linear){.ok = false};
    if (n.op == EXPR_FADD || n.op == EXPR_FSUB)
        return (linear){true, add(p, (expr_op)n.op, x.a, y.a), add(p, (expr_op)n.op, x.b, y.b)};
    if (!reads_score(p, n.arg[1])) return linear_product(p, (expr_op)n.op, x, n.arg[1]);
    if (n.op == EXPR_FMUL && !reads_score(p, n.arg[0])) return linear_product(p, EXPR_FMUL, y, n.arg[0]);
    return (linear){.ok = false};
}

/* Marks what f is made of, as far as it reads the score. */
static bool *score_parts(const expr_pool *p, expr f)
{
    bool *part = ARENA_ARRAY(expr_arena(p), bool, (size_t)f + 1);
    part[f] = reads_score(p, f);
    for (expr e = f; e; e--) {
        const expr_node *n = expr_get(p, e);
        for (uint32_t i = 0; part[e] && i < n->nargs; i++) part[n->arg[i]] |= reads_score(p, n->arg[i]);
    }
    return part;
}

static linear linear_of(expr_pool *p, expr f)
{
    const bool *part = score_parts(p, f);
    linear *of = ARENA_ARRAY(expr_arena(p), linear, (size_t)f + 1);
    for (expr e = 1; e <= f; e++)
        if (part[e]) of[e] = linear_step(p, of, e);
    return linear_known(p, of, f);
}

/* ---- f(c * s) -------------------------------------------------------------------------------------------- */

/* The only operation of f that uses s; 0 when there are several, or f is s. */
static expr only_user(const expr_pool *p, const bool *part, expr f, expr s)
{
    expr found = 0;
    for (expr e = 1; e <= f; e++) {
        const expr_node *n = expr_get(p, e);
        bool uses = false;
        for (uint32_t i = 0; part[e] && i < n->nargs; i++) uses |= n->arg[i] == s;
        if (uses && found) return 0;
        if (uses) found = e;
    }
    return found;
}

static expr rebuild(expr_pool *p, expr_node n)
{
    if (n.op == EXPR_ELEM) return expr_elem(p, n.index, n.arg, n.nargs);
    if (n.op == EXPR_ELEM_MIN || n.op == EXPR_ELEM_MAX)
        return expr_elem_bound(p, (expr_op)n.op, n.index, n.arg, n.nargs);
    return expr_make(p, (expr_op)n.op, n.arg, n.nargs);
}

/* f with every `from` replaced. */
static expr replace(expr_pool *p, const bool *part, expr f, expr from, expr by)
{
    expr *to = ARENA_ARRAY(expr_arena(p), expr, (size_t)f + 1);
    for (expr e = 1; e <= f; e++) {
        expr_node n = *expr_get(p, e);
        to[e] = e == from ? by : e;
        if (!part[e] || e == from || n.op == EXPR_VAR) continue;
        for (uint32_t i = 0; i < n.nargs; i++) n.arg[i] = to[n.arg[i]];
        to[e] = rebuild(p, n);
    }
    return to[f];
}

/* Takes c off f(c * s) or f(s / c); 0 when s is used otherwise. */
static expr peel_factor(expr_pool *p, expr *f)
{
    const bool *part = score_parts(p, *f);
    expr s = expr_variable(p, VAR_S), user = only_user(p, part, *f, s);
    if (!user) return 0;
    const expr_node n = *expr_get(p, user);
    if (n.op != EXPR_FMUL && n.op != EXPR_FDIV) return 0;
    expr other = n.arg[0] == s ? n.arg[1] : n.arg[0];
    if (expr_depends(p, other) & (DEPENDS_SCORE | DEPENDS_KEY)) return 0;
    if (n.op == EXPR_FDIV && n.arg[0] != s) return 0;
    *f = replace(p, part, *f, user, s);
    return n.op == EXPR_FMUL ? other : expr_binary(p, EXPR_FDIV, expr_float(p, 1), other);
}

/* ---- g(L s) = L f(s), L = log2 e ------------------------------------------------------------------------- */

typedef struct units {
    expr_pool *p;
    memo scaled; /* of what is free of s: times L */
    expr *to;    /* per part of f: g; 0: there is none */
} units;

static expr unit_of(units *u, expr e) { return reads_score(u->p, e) ? u->to[e] : multiply_with(u->p, e, &u->scaled); }

/* A condition keeps its truth when both sides of its comparisons grow alike (L > 0). */
static expr unit_of_condition(units *u, expr e) { return reads_score(u->p, e) ? u->to[e] : e; }

static expr unit_binary(units *u, expr_op op, expr a, expr b) { return a && b ? expr_binary(u->p, op, a, b) : 0; }

static expr unit_step(units *u, expr e)
{
    expr_pool *p = u->p;
    const expr_node n = *expr_get(p, e);
    expr a = n.nargs ? n.arg[0] : 0, b = n.nargs > 1 ? n.arg[1] : 0;
    switch ((expr_op)n.op) {
    case EXPR_VAR:
        return e;
    case EXPR_FADD:
    case EXPR_FSUB:
    case EXPR_FMIN:
    case EXPR_FMAX:
    case EXPR_FLT:
    case EXPR_FLE:
    case EXPR_FEQ:
        return unit_binary(u, (expr_op)n.op, unit_of(u, a), unit_of(u, b));
    case EXPR_FABS:
        return u->to[a] ? expr_unary(p, EXPR_FABS, u->to[a]) : 0;
    case EXPR_FMUL:
        if (!reads_score(p, b)) return unit_binary(u, EXPR_FMUL, u->to[a], b);
        return reads_score(p, a) ? 0 : unit_binary(u, EXPR_FMUL, a, u->to[b]);
    case EXPR_FDIV:
        return reads_score(p, b) ? 0 : unit_binary(u, EXPR_FDIV, u->to[a], b);
    case EXPR_NOT:
        return u->to[a] ? expr_unary(p, EXPR_NOT, u->to[a]) : 0;
    case EXPR_AND:
    case EXPR_OR:
        return unit_binary(u, (expr_op)n.op, unit_of_condition(u, a), unit_of_condition(u, b));
    case EXPR_IF: {
        expr cond = unit_of_condition(u, a), x = unit_of(u, b), y = unit_of(u, n.arg[2]);
        return cond && x && y ? expr_if(p, cond, x, y) : 0;
    }
    case EXPR_NONE:
    case EXPR_CONST:
    case EXPR_ATTR:
    case EXPR_DATA:
    case EXPR_ELEM:
    case EXPR_ELEM_MIN:
    case EXPR_ELEM_MAX:
    case EXPR_LT:
    case EXPR_LE:
    case EXPR_EQ:
    case EXPR_ADD:
    case EXPR_SUB:
    case EXPR_MUL:
    case EXPR_DIV:
    case EXPR_MOD:
    case EXPR_MIN:
    case EXPR_MAX:
    case EXPR_ABS:
    case EXPR_FLOOR:
    case EXPR_FLOAT:
    case EXPR_EXP:
    case EXPR_EXP2:
    case EXPR_LN:
    case EXPR_LOG2:
    case EXPR_SQRT:
    case EXPR_TANH:
        return 0; /* not of this kind, or not of floats */
    case EXPR_OP_COUNT:
        break;
    }
    ATTNC_UNREACHABLE();
}

/* g, or 0. */
static expr in_units(expr_pool *p, expr f)
{
    const bool *part = score_parts(p, f);
    units u = {.p = p, .scaled = memo_create(p, f), .to = ARENA_ARRAY(expr_arena(p), expr, (size_t)f + 1)};
    for (expr e = 1; e <= f; e++)
        if (part[e]) u.to[e] = unit_step(&u, e);
    return u.to[f];
}

/* ---- the whole of the logits ----------------------------------------------------------------------------- */

typedef struct folded {
    expr query; /* factor of the queries; 0: one */
    expr map;   /* what is left for each element; s itself: nothing */
} folded;

static folded fold_linear(expr_pool *p, linear l)
{
    folded r = {0};
    double one;
    expr b = l.b ? to_base2(p, l.b) : 0, minus = b ? negated(p, b) : 0, rest = l.a ? expr_variable(p, VAR_S) : 0;
    if (l.a) r.query = to_base2(p, l.a);
    if (l.a && constant_of(p, r.query, &one) && one == 1) r.query = 0;
    r.map = or_zero(p, rest && minus ? add(p, EXPR_FSUB, rest, minus) : add(p, EXPR_FADD, rest, b));
    return r;
}

static folded fold_other(expr_pool *p, expr f)
{
    folded r = {0};
    for (expr c; (c = peel_factor(p, &f));) r.query = times(p, r.query, c);
    expr g = in_units(p, f);
    if (g) r.query = r.query ? to_base2(p, r.query) : expr_float(p, log2_e);
    r.map = g ? g : to_base2(p, f);
    return r;
}

static folded fold(expr_pool *p, expr f)
{
    linear l = linear_of(p, f);
    bool of_row = l.ok && !(l.a && expr_depends(p, l.a) & DEPENDS_KEY);
    return of_row ? fold_linear(p, l) : fold_other(p, f);
}

/* ---- on the kernel --------------------------------------------------------------------------------------- */

enum {
    MAX_COMPOSED = 4096,
    MAX_COMPOSED_NESTING = 200
}; /* sharing hides it: twelve maps s * s are one of 2^12 nodes */

static const expr TOO_LARGE = UINT32_MAX;

static expr compose(expr_pool *p, expr outer, expr inner)
{
    if (inner == TOO_LARGE) return TOO_LARGE;
    expr e = expr_substitute(p, outer, VAR_S, inner);
    return expr_tree_size(p, e) > MAX_COMPOSED || expr_nesting(p, e) > MAX_COMPOSED_NESTING ? TOO_LARGE : e;
}

/* The ops from dot.qk to what reads the logits must be one chain of maps and masks; their maps are composed into *f. */
static bool compose_maps(expr_pool *p, const kblock *body, expr *f)
{
    size_t at = find_only(body, OP_DOT_QK), max = find_only(body, OP_ROWMAX), exp_at = find_only(body, OP_EXP);
    if (at == NOT_FOUND || max == NOT_FOUND || exp_at == NOT_FOUND) return false;
    kvalue s = body->ops.at[at]->result[0];
    expr e = expr_variable(p, VAR_S);
    for (size_t i = 0; i < body->ops.n; i++) {
        const kop *o = body->ops.at[i];
        if (o->code != OP_MAP && o->code != OP_MASK) continue;
        if (o->operand[0] != s) return false;
        s = o->result[0];
        if (o->code == OP_MAP) e = compose(p, o->e, e);
    }
    *f = e;
    return body->ops.at[max]->operand[0] == s && body->ops.at[exp_at]->operand[0] == s;
}

static void replace_maps(kernel *k, kblock *body, expr map)
{
    for (size_t i = 0; i < body->ops.n;) {
        const kop *o = body->ops.at[i];
        if (o->code != OP_MAP) {
            i++;
            continue;
        }
        kblock_replace_uses(body, o->result[0], o->operand[0]);
        kblock_remove(body, i);
    }
    if (map == expr_variable(k->module->pool, VAR_S)) return;
    size_t dot = find_only(body, OP_DOT_QK);
    kvalue s = body->ops.at[dot]->result[0];
    kop *o = kop_insert(k, body, dot + 1, OP_MAP, &s, map);
    kblock_replace_uses(body, s, o->result[0]);
    o->operand[0] = s;
}

/* For maps that are too large to be composed: log2 e goes into the last of them, no factor moves. */
static void scale_last_map(kernel *k, kblock *body)
{
    kop *last = NULL;
    for (size_t i = 0; i < body->ops.n; i++)
        if (body->ops.at[i]->code == OP_MAP) last = body->ops.at[i];
    ATTNC_CHECK(last);
    last->e = to_base2(k->module->pool, last->e);
}

/* The loops' common map; false when a loop is of another shape or they differ (then no factor could move to the
 * queries). */
static bool common_map(const kernel *k, const kblock *rows, expr *f)
{
    expr_pool *p = k->module->pool;
    *f = 0;
    for (size_t i = 0; i < rows->ops.n; i++) {
        expr e;
        if (rows->ops.at[i]->code != OP_KEYS) continue;
        if (!compose_maps(p, rows->ops.at[i]->body, &e) || (*f && e != *f)) return false;
        *f = e;
    }
    return *f != 0;
}

const char *pass_fold_scale(kernel *k, const pass_options *o)
{
    (void)o;
    expr_pool *p = k->module->pool;
    kblock *rows = rows_body(k);
    size_t load = find_only(rows, OP_LOAD_Q), init = find_only(rows, OP_INIT);
    expr f;
    if (load == NOT_FOUND || init == NOT_FOUND)
        return pass_refuse(k, PASS_fold_scale, "it needs one load.q and one init");
    if (!common_map(k, rows, &f))
        return pass_refuse(k, PASS_fold_scale, "its loops must have one chain of maps from dot.qk, the same in each");
    folded r = f == TOO_LARGE ? (folded){0} : fold(p, f);
    for (size_t i = 0; i < rows->ops.n; i++) {
        if (rows->ops.at[i]->code != OP_KEYS) continue;
        if (f == TOO_LARGE)
            scale_last_map(k, rows->ops.at[i]->body);
        else
            replace_maps(k, rows->ops.at[i]->body, r.map);
    }
    kop *q = rows->ops.at[load], *start = rows->ops.at[init];
    q->e = times(p, q->e, r.query);
    if (start->e) start->e = to_base2(p, start->e);
    k->base2 = true;
    return NULL;
}
