/* ranges.c - the analysis: a mask to lists of key intervals.
 *
 *   mask --(negations pushed down; every boolean part once, operands first)--> lists of its parts --> meet, join -->
 * lists comparison --(if: by cases)--> d >= 0 --(min, max, abs: and/or of simpler d)--> ranges_atom.c comparison that
 * reads data --> data atom, ranges_bounds.c
 *
 * The walk over the mask is a loop over ids, so `a or b or ...` may be long. Inside one comparison there is recursion,
 * bounded by the comparison's size. */
#include "ir/pattern/analysis.h"
#include "ir/pattern/pool.h"

enum { ROW_OR_KEY = DEPENDS_ROW | DEPENDS_KEY, MAX_SPLITS = 64 };

static lists condition_lists(analysis *a, expr e, bool positive);
static lists compare(analysis *a, expr e, bool positive);

/* ---- the simple cases -------------------------------------------------------------------------------------------- */
static lists combine(analysis *a, bool meet, const lists *x, const lists *y)
{
    lists r;
    for (int k = RANGES_MAY; k <= RANGES_LIVE; k++)
        r.of[k] =
            meet ? list_meet(a, (ranges_list)k, x->of[k], y->of[k]) : list_join(a, (ranges_list)k, x->of[k], y->of[k]);
    return r;
}

static expr with_sign(analysis *a, expr e, bool positive) { return positive ? e : expr_unary(a->pool, EXPR_NOT, e); }

static lists undecided(analysis *a, expr e)
{
    bool seen = false;
    for (size_t i = 0; i < a->undecided.n; i++) seen |= a->undecided.at[i] == e;
    if (!seen) VEC_PUSH(a->arena, &a->undecided, e);
    return (lists){{list_all(a), list_none(), list_all(a)}};
}

/* All keys, or none, by a condition that is the same for every pair of the tile. */
static lists uniform_lists(analysis *a, expr when)
{
    int_range r;
    if (!expr_range(a->pool, when, EXPR_MAX_POSITION, &r)) return undecided(a, when);
    piece_list l = r.hi == 0 ? list_none() : list_one(a, (piece){.when = r.lo == 1 ? a->always : when});
    return (lists){{l, l, l}};
}

static lists data_lists(analysis *a, expr atom)
{
    uint32_t i = 0;
    while (i < a->data.n && a->data.at[i].atom != atom) i++;
    if (i == RANGES_MAX_DATA) return undecided(a, atom);
    if (i == a->data.n) VEC_PUSH(a->arena, &a->data, bounds_of_atom(a, atom));
    lists r;
    r.of[RANGES_MAY] = list_one(a, (piece){.when = expr_data(a->pool, i, false)});
    r.of[RANGES_MUST] = list_one(a, (piece){.when = expr_data(a->pool, i, true)});
    r.of[RANGES_LIVE] = list_all(a); /* nobody knows the attributes of tokens to come */
    return r;
}

/* ---- choices inside a comparison --------------------------------------------------------------------------------- */
/* The outermost if, or min, max, abs, over rows or keys; an `if` may choose by data, the others must not read any. 0:
 * none. Operands have smaller ids, so the greatest id is outermost. Conditions of an if are not looked into. */
static expr find_choice(const expr_pool *p, expr e, bool ifs)
{
    const expr_entry *x = pool_entry(p, e);
    bool is_if = x->node.op == EXPR_IF && (x->depends & ROW_OR_KEY);
    bool is_pick = (x->node.op == EXPR_MIN || x->node.op == EXPR_MAX || x->node.op == EXPR_ABS) &&
                   (x->depends & ROW_OR_KEY) && !x->reads_data;
    if (ifs ? is_if : is_pick) return e;
    if (!(x->depends & ROW_OR_KEY)) return 0;
    expr best = 0;
    for (unsigned i = x->node.op == EXPR_IF; i < x->node.nargs; i++) {
        expr inner = find_choice(p, x->node.arg[i], ifs);
        if (inner > best) best = inner;
    }
    return best;
}

/* (cond and x) or (not cond and y) */
static lists by_cases(analysis *a, expr cond, const lists *x, const lists *y)
{
    lists yes = condition_lists(a, cond, true), no = condition_lists(a, cond, false);
    lists first = combine(a, true, &yes, x), second = combine(a, true, &no, y);
    return combine(a, false, &first, &second);
}

static lists at_least_zero(analysis *a, expr d, bool *decided);

/* max(x, y) + rest >= 0 is (x + rest >= 0) or (y + rest >= 0), and so on; where d does not simply rise or fall with it,
 * by cases. */
static lists split_pick(analysis *a, expr d, expr pick, bool *decided)
{
    expr_node n = *expr_get(a->pool, pick);
    expr x = n.arg[0], y = n.op == EXPR_ABS ? expr_negate(a->pool, x) : n.arg[1];
    trend way = expr_trend(a->pool, d, pick);
    lists first = at_least_zero(a, expr_replace(a->pool, d, pick, x), decided);
    lists second = at_least_zero(a, expr_replace(a->pool, d, pick, y), decided);
    bool greatest = n.op != EXPR_MIN;
    if (way == TREND_RISES || way == TREND_FALLS) return combine(a, greatest != (way == TREND_RISES), &first, &second);
    return by_cases(a, expr_binary(a->pool, EXPR_LE, greatest ? y : x, greatest ? x : y), &first, &second);
}

static bool too_much(const analysis *a)
{
    return expr_count(a->pool) - a->first_count > MAX_GROWTH || a->proofs >= MAX_PROOFS;
}

static lists at_least_zero(analysis *a, expr d, bool *decided)
{
    if (!(expr_depends(a->pool, d) & ROW_OR_KEY))
        return uniform_lists(a, expr_binary(a->pool, EXPR_LE, expr_int(a->pool, 0), d));
    expr pick = find_choice(a->pool, d, false);
    if (!pick) return atom_lists(a, d, decided);
    if (++a->splits <= MAX_SPLITS && !too_much(a) && expr_tree_size(a->pool, d) <= LINEAR_MAX_TREE)
        return split_pick(a, d, pick, decided);
    *decided = false;
    return (lists){{list_all(a), list_none(), list_all(a)}};
}

/* ---- comparisons ------------------------------------------------------------------------------------------------- */
/* x - y - strict >= 0 */
static lists ordered(analysis *a, expr x, expr y, bool strict, bool *decided)
{
    expr d = expr_binary(a->pool, EXPR_SUB, x, y);
    return at_least_zero(a, expr_binary(a->pool, EXPR_ADD, d, expr_int(a->pool, -(int)strict)), decided);
}

static lists compare_ints(analysis *a, expr_op op, expr x, expr y, bool positive, bool *decided)
{
    if (op == EXPR_LT) return positive ? ordered(a, y, x, true, decided) : ordered(a, x, y, false, decided);
    if (op == EXPR_LE) return positive ? ordered(a, y, x, false, decided) : ordered(a, x, y, true, decided);
    lists residue;
    if (positive && residue_lists(a, expr_binary(a->pool, EXPR_SUB, x, y), &residue)) return residue;
    lists up = ordered(a, x, y, !positive, decided), down = ordered(a, y, x, !positive, decided);
    return combine(a, positive, &up, &down);
}

static lists split_if(analysis *a, expr e, expr choice, bool positive)
{
    expr_node n = *expr_get(a->pool, choice);
    lists x = condition_lists(a, expr_replace(a->pool, e, choice, n.arg[1]), positive);
    lists y = condition_lists(a, expr_replace(a->pool, e, choice, n.arg[2]), positive);
    return by_cases(a, n.arg[0], &x, &y);
}

static lists compare(analysis *a, expr e, bool positive)
{
    expr_node n = *expr_get(a->pool, e);
    bool large = expr_tree_size(a->pool, e) > LINEAR_MAX_TREE || too_much(a);
    expr choice = large ? 0 : find_choice(a->pool, e, true);
    if (choice && ++a->splits <= MAX_SPLITS) return split_if(a, e, choice, positive);
    if (expr_reads_data(a->pool, e)) return data_lists(a, with_sign(a, e, positive));
    bool decided = n.op == EXPR_LT || n.op == EXPR_LE || n.op == EXPR_EQ;
    int_range r;
    if (large || !decided || choice || !expr_range(a->pool, e, EXPR_MAX_POSITION, &r))
        return undecided(a, with_sign(a, e, positive));
    a->period = 0;
    lists l = compare_ints(a, (expr_op)n.op, n.arg[0], n.arg[1], positive, &decided);
    if (a->period) VEC_PUSH(a->arena, &a->by_rows, ((row_remainder){with_sign(a, e, positive), a->period}));
    a->period = 0;
    if (!decided) undecided(a, with_sign(a, e, positive));
    return l;
}

/* Conditions met inside comparisons: small, so recursion will do. */
static lists condition_lists(analysis *a, expr e, bool positive)
{
    expr_node n = *expr_get(a->pool, e);
    if (!(expr_depends(a->pool, e) & ROW_OR_KEY)) return uniform_lists(a, with_sign(a, e, positive));
    if (n.op == EXPR_NOT) return condition_lists(a, n.arg[0], !positive);
    if (n.op != EXPR_AND && n.op != EXPR_OR && n.op != EXPR_IF) return compare(a, e, positive);
    if (n.op == EXPR_IF) {
        lists x = condition_lists(a, n.arg[1], positive), y = condition_lists(a, n.arg[2], positive);
        return by_cases(a, n.arg[0], &x, &y);
    }
    lists x = condition_lists(a, n.arg[0], positive), y = condition_lists(a, n.arg[1], positive);
    return combine(a, (n.op == EXPR_AND) == positive, &x, &y);
}

/* ---- the mask ---------------------------------------------------------------------------------------------------- */
enum { NEED_TRUE = 1, NEED_FALSE = 2 };

typedef struct walk {
    uint8_t *need;  /* per expression */
    uint32_t *slot; /* per expression that is needed: index into made */
    struct {
        lists of[2]; /* of it, of its negation */
    } * made;
} walk;

static bool is_junction(const expr_node *n)
{
    return n->op == EXPR_NOT || n->op == EXPR_AND || n->op == EXPR_OR || (n->op == EXPR_IF && n->type == TYPE_BOOL);
}

static unsigned flipped(unsigned need)
{
    return (need & NEED_TRUE ? NEED_FALSE : 0u) | (need & NEED_FALSE ? NEED_TRUE : 0u);
}

static uint32_t mark_needed(analysis *a, walk *w, expr root)
{
    uint32_t count = 0;
    w->need[root] = NEED_TRUE;
    for (expr e = root; e > 0; e--) {
        const expr_node *n = expr_get(a->pool, e);
        if (w->need[e]) w->slot[e] = count++;
        if (!w->need[e] || !is_junction(n) || !(expr_depends(a->pool, e) & ROW_OR_KEY)) continue;
        for (unsigned i = 0; i < n->nargs; i++) {
            bool condition = n->op == EXPR_IF && i == 0;
            unsigned need = condition ? NEED_TRUE | NEED_FALSE : n->op == EXPR_NOT ? flipped(w->need[e]) : w->need[e];
            w->need[n->arg[i]] = (uint8_t)(w->need[n->arg[i]] | need);
        }
    }
    return count;
}

static const lists *made(const walk *w, expr e, bool positive) { return &w->made[w->slot[e]].of[!positive]; }

static lists junction(analysis *a, const walk *w, const expr_node *n, bool positive)
{
    if (n->op == EXPR_NOT) return *made(w, n->arg[0], !positive);
    if (n->op == EXPR_IF) {
        lists yes = combine(a, true, made(w, n->arg[0], true), made(w, n->arg[1], positive));
        lists no = combine(a, true, made(w, n->arg[0], false), made(w, n->arg[2], positive));
        return combine(a, false, &yes, &no);
    }
    return combine(a, (n->op == EXPR_AND) == positive, made(w, n->arg[0], positive), made(w, n->arg[1], positive));
}

static lists part_lists(analysis *a, const walk *w, expr e, bool positive)
{
    expr_node n = *expr_get(a->pool, e);
    a->splits = 0;
    if (!(expr_depends(a->pool, e) & ROW_OR_KEY)) return uniform_lists(a, with_sign(a, e, positive));
    return is_junction(&n) ? junction(a, w, &n, positive) : compare(a, e, positive);
}

static lists mask_lists(analysis *a, expr mask)
{
    walk w = {.need = ARENA_ARRAY(a->arena, uint8_t, (size_t)mask + 1),
              .slot = ARENA_ARRAY(a->arena, uint32_t, (size_t)mask + 1)};
    w.made = arena_array(a->arena, mark_needed(a, &w, mask), sizeof *w.made);
    for (expr e = 1; e <= mask; e++) {
        if (w.need[e] & NEED_TRUE) w.made[w.slot[e]].of[0] = part_lists(a, &w, e, true);
        if (w.need[e] & NEED_FALSE) w.made[w.slot[e]].of[1] = part_lists(a, &w, e, false);
    }
    return *made(&w, mask, true);
}

/* ---- result ------------------------------------------------------------------------------------------------------ */
static interval *emit(analysis *a, piece_list l, uint32_t *n)
{
    interval *r = ARENA_ARRAY(a->arena, interval, l.n);
    *n = l.n;
    for (uint32_t i = 0; i < l.n; i++) {
        piece x = l.at[i];
        const expr first = piece_first(a, &x);
        r[i].lo = first ? first : expr_int(a->pool, 0);
        r[i].step = x.step;
        r[i].hi = expr_if(a->pool, x.when, x.hi ? x.hi : expr_int(a->pool, RANGES_INFINITY), expr_int(a->pool, -1));
        /* without its condition the interval is lo .. -1, and keys start at 0 */
    }
    return r;
}

/* Nobody knows how long a sequence will be: what some length lets live, lives. */
static void forget_len(const analysis *a, ranges *r, int64_t max_len)
{
    for (uint32_t i = 0; i < r->n_live; i++) {
        interval *x = &r->live[i];
        const bool lo = expr_reads_var(a->pool, x->lo, VAR_LEN), hi = expr_reads_var(a->pool, x->hi, VAR_LEN);
        if (lo) x->lo = bound_over_len(a, x->lo, max_len, false);
        if (hi) x->hi = bound_over_len(a, x->hi, max_len, true);
        r->live_of_len |= lo || hi;
    }
}

ranges *ranges_compute(expr_pool *p, expr mask, int64_t max_len)
{
    ATTNC_CHECK(expr_type_of(p, mask) == TYPE_BOOL);
    analysis a = {.pool = p, .arena = expr_arena(p), .first_count = expr_count(p)};
    a.always = expr_bool(p, true);
    a.q = expr_variable(p, VAR_Q), a.q0 = expr_variable(p, VAR_Q0), a.q1 = expr_variable(p, VAR_Q1);
    a.row_step = expr_variable(p, VAR_ROW_STEP);
    lists l = mask_lists(&a, mask);
    ranges *r = ARENA_NEW(a.arena, ranges);
    r->may = emit(&a, l.of[RANGES_MAY], &r->n_may);
    r->must = emit(&a, l.of[RANGES_MUST], &r->n_must);
    r->live = emit(&a, l.of[RANGES_LIVE], &r->n_live);
    forget_len(&a, r, max_len ? max_len : EXPR_MAX_POSITION);
    r->data = a.data.at, r->n_data = (uint32_t)a.data.n;
    r->exact_rows = !a.data.n && !a.undecided.n && !a.widened;
    r->row_step = residue_row_step(&a);
    for (size_t i = 0; i < a.by_rows.n && !r->row_step; i++) undecided(&a, a.by_rows.at[i].atom);
    r->undecided = a.undecided.at, r->n_undecided = (uint32_t)a.undecided.n;
    return r;
}
