/* ranges_lists.c - lists of conditional key intervals: intersection, union, and what keeps them short.
 *
 * Every shortcut errs to the safe side: may and live grow, must shrinks; `widened` says that it happened. */
#include "ir/pattern/analysis.h"

enum { MAX_END_TREE = 2000, MAX_END_NESTING = 200 };

typedef struct buffer {
    piece at[RANGES_MAX_INTERVALS];
    uint32_t n;
} buffer;

piece_list list_one(const analysis *a, piece x)
{
    piece *at = ARENA_NEW(a->arena, piece);
    *at = x;
    return (piece_list){at, 1};
}
piece_list list_all(const analysis *a) { return list_one(a, (piece){.when = a->always}); }
piece_list list_none(void) { return (piece_list){NULL, 0}; }

static piece_list finish(const analysis *a, const buffer *b)
{
    piece *at = ARENA_ARRAY(a->arena, piece, b->n);
    for (uint32_t i = 0; i < b->n; i++) at[i] = b->at[i];
    return (piece_list){at, b->n};
}

static bool is_all(const analysis *a, piece_list x)
{
    return x.n == 1 && !x.at[0].lo && !x.at[0].hi && x.at[0].when == a->always && !x.at[0].step;
}

static bool small(const analysis *a, expr e)
{
    return !e || (expr_tree_size(a->pool, e) <= MAX_END_TREE && expr_nesting(a->pool, e) <= MAX_END_NESTING);
}

expr piece_first(const analysis *a, const piece *x)
{
    if (!x->step) return x->lo;
    if (!x->lo) return x->at; /* of the keys there are, from 0 on */
    expr away = expr_binary(a->pool, EXPR_SUB, x->at, x->lo);
    return expr_binary(a->pool, EXPR_ADD, x->lo, expr_binary(a->pool, EXPR_MOD, away, x->step));
}

bool piece_fits(const analysis *a, const piece *x)
{
    int_range r;
    const expr first = piece_first(a, x);
    if (first != x->lo && (!expr_range(a->pool, first, EXPR_MAX_POSITION, &r) || !small(a, first))) return false;
    if (x->step && !small(a, x->step)) return false;
    if (x->lo && !expr_range(a->pool, x->lo, EXPR_MAX_POSITION, &r)) return false;
    if (x->hi && !expr_range(a->pool, x->hi, EXPR_MAX_POSITION, &r)) return false;
    return expr_range(a->pool, x->when, EXPR_MAX_POSITION, &r) && small(a, x->lo) && small(a, x->hi) &&
           small(a, x->when);
}

static bool proves(analysis *a, expr x, expr y)
{
    return x == y || (++a->proofs < MAX_PROOFS && expr_proves_le(a->pool, x, y));
}

static expr greater(analysis *a, expr x, expr y)
{
    if (proves(a, x, y)) return y;
    return proves(a, y, x) ? x : expr_binary(a->pool, EXPR_MAX, x, y);
}
static expr lesser(analysis *a, expr x, expr y)
{
    if (proves(a, x, y)) return x;
    return proves(a, y, x) ? y : expr_binary(a->pool, EXPR_MIN, x, y);
}

/* No key lies in it, for any tile. */
static bool is_empty(analysis *a, const piece *x)
{
    int_range r;
    if (expr_range(a->pool, x->when, EXPR_MAX_POSITION, &r) && r.hi == 0) return true;
    if (x->hi && expr_range(a->pool, x->hi, EXPR_MAX_POSITION, &r) && r.hi < 0) return true;
    return x->lo && x->hi && proves(a, expr_binary(a->pool, EXPR_ADD, x->hi, expr_int(a->pool, 1)), x->lo);
}

/* ---- union ------------------------------------------------------------------------------------------------------- */
static bool same_step(const piece *x, const piece *y) { return x->step == y->step && x->at == y->at; }

static bool covers(analysis *a, const piece *big, const piece *x)
{
    if (big->step && !same_step(big, x)) return false;
    if (big->when != a->always && big->when != x->when) return false;
    if (big->lo && !(x->lo && proves(a, big->lo, x->lo))) return false;
    return !big->hi || (x->hi && proves(a, x->hi, big->hi));
}

/* Two intervals as one, when that is exactly their union. */
static bool join_pieces(analysis *a, piece *x, const piece *y)
{
    if (!same_step(x, y)) return false;
    if (x->lo == y->lo && x->hi == y->hi) {
        x->when = expr_binary(a->pool, EXPR_OR, x->when, y->when);
        x->of_several &= y->of_several;
        return true;
    }
    if (x->when != y->when) return false;
    if (x->lo == y->lo && x->hi && y->hi) {
        x->hi = greater(a, x->hi, y->hi);
        return true;
    }
    if (x->hi == y->hi && x->lo && y->lo) {
        x->lo = lesser(a, x->lo, y->lo);
        return true;
    }
    return false;
}

/* One interval around all. */
static piece hull(analysis *a, const buffer *b)
{
    piece r = {.lo = b->at[0].lo, .hi = b->at[0].hi, .when = a->always};
    for (uint32_t i = 1; i < b->n; i++) {
        r.lo = r.lo && b->at[i].lo ? lesser(a, r.lo, b->at[i].lo) : 0;
        r.hi = r.hi && b->at[i].hi ? greater(a, r.hi, b->at[i].hi) : 0;
    }
    if (!small(a, r.lo)) r.lo = 0;
    if (!small(a, r.hi)) r.hi = 0;
    return r;
}

static void add_piece(analysis *a, ranges_list kind, buffer *b, const piece *x)
{
    if (is_empty(a, x)) return;
    for (uint32_t i = 0; i < b->n; i++)
        if (covers(a, &b->at[i], x)) return;
    for (uint32_t i = 0; i < b->n;) {
        if (covers(a, x, &b->at[i]))
            b->at[i] = b->at[--b->n];
        else
            i++;
    }
    for (uint32_t i = 0; i < b->n; i++) {
        piece joined = b->at[i];
        if (!join_pieces(a, &joined, x) || !piece_fits(a, &joined)) continue;
        b->at[i] = joined;
        return;
    }
    if (b->n < RANGES_MAX_INTERVALS) {
        b->at[b->n++] = *x;
        return;
    }
    a->widened = true;
    if (kind == RANGES_MUST) return;
    b->at[0] = hull(a, b);
    b->n = 1;
    add_piece(a, kind, b, x);
}

piece_list list_join(analysis *a, ranges_list kind, piece_list x, piece_list y)
{
    if (x.n == 0 || is_all(a, y)) return y;
    if (y.n == 0 || is_all(a, x)) return x;
    buffer b = {.n = 0};
    for (uint32_t i = 0; i < x.n; i++) add_piece(a, kind, &b, &x.at[i]);
    for (uint32_t i = 0; i < y.n; i++) add_piece(a, kind, &b, &y.at[i]);
    return finish(a, &b);
}

/* ---- intersection ------------------------------------------------------------------------------------------------ */
/* false: nothing is left of it (must, when the ends grow too large). */
static bool meet_pieces(analysis *a, ranges_list kind, const piece *x, const piece *y, piece *out)
{
    *out = *x;
    if (y->lo) out->lo = x->lo ? greater(a, x->lo, y->lo) : y->lo;
    if (y->hi) out->hi = x->hi ? lesser(a, x->hi, y->hi) : y->hi;
    out->when = expr_binary(a->pool, EXPR_AND, x->when, y->when);
    bool exact = true;
    if (!x->step)
        out->step = y->step, out->at = y->at;
    else if (y->step && !same_step(x, y))
        exact = residue_meet(a, x, y, out);
    out->of_several |= y->of_several;
    if (!exact && !out->of_several) a->widened = true; /* may: the keys that leave the first of the remainders */
    if (!exact && kind == RANGES_MUST) return false;
    if (piece_fits(a, out)) return true;
    a->widened = true;
    *out = *x; /* may: leaving one of them out is safe */
    return kind != RANGES_MUST;
}

piece_list list_meet(analysis *a, ranges_list kind, piece_list x, piece_list y)
{
    if (x.n == 0 || is_all(a, y)) return x;
    if (y.n == 0 || is_all(a, x)) return y;
    buffer b = {.n = 0};
    for (uint32_t i = 0; i < x.n; i++)
        for (uint32_t j = 0; j < y.n; j++) {
            piece both;
            if (meet_pieces(a, kind, &x.at[i], &y.at[j], &both)) add_piece(a, kind, &b, &both);
        }
    return finish(a, &b);
}
