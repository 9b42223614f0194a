/* ranges.h - the one analysis: key intervals of a query tile, in closed form (docs/analysis.md).
 *
 * For rows q0..q1 (both included) of a mask:
 *     may    every key that some of these rows might see lies in one of these intervals
 *     must   every key inside is seen by all of these rows
 *     live   may with q1 = infinity, a function of q0 alone: also for every `len` from q0 + 1 to the longest there can be
 * Everything else (tile classes, key loops, liveness, legal splits, pair counts) follows. Ends are expressions over q0, q1, h, g,
 * layer, len, tables with uniform indices, and DATA leaves; an interval with lo > hi is empty; ends are not cut to the keys that exist.
 * Lists are neither sorted nor disjoint: who evaluates them sorts and merges. An interval may have a step: then it holds lo, lo + step, ..
 * up to hi. `live` has none.
 *
 * Comparisons that read token attributes or run-time tables are *data atoms*. Before anything is known of them may#i = true and
 * must#i = false. `bounds` of a key tile k0..k1 say more: may#i is false when no pair of the tile satisfies the atom, must#i is
 * true when all do; evaluating the same intervals with them and cutting to the tile gives the tile's class. */
#ifndef ATTNC_IR_RANGES_H
#define ATTNC_IR_RANGES_H

#include "ir/pattern/expr.h"

/* The end of a half line that goes on for ever. Only compared, never computed with. */
#define RANGES_INFINITY ((int64_t)1 << 62)
enum { RANGES_MAX_INTERVALS = 32 }; /* longer lists are widened (may) or shortened (must), which is sound */
enum { RANGES_MAX_DATA = 64 };      /* data atoms beyond these are left undecided */

typedef struct interval {
    expr lo, hi; /* both included */
    expr step;   /* 0: every key; else an integer >= 1, and lo is its first key */
} interval;

typedef struct data_atom {
    expr atom; /* the comparison itself, over q, k, h, g, layer, attributes, tables */
    expr may;  /* bool, over q0, q1, k0, k1, attribute bounds, min_of/max_of: false: no pair of the tile */
    expr must; /* true: every pair of the tile */
} data_atom;

typedef struct ranges {
    interval *may, *must, *live;
    uint32_t n_may, n_must, n_live;
    data_atom *data;
    uint32_t n_data;
    expr *undecided; /* comparisons without data that the analysis could only bound by may = all, must = none, at least on tiles of several rows */
    uint32_t n_undecided;
    uint32_t row_step; /* not 0: comparisons are decided on single rows, and on tiles of rows so many apart, that otherwise are not */
    bool sweeps; /* may and must are those of sweeps_of() the mask: they read `sweep` */
    bool live_of_len; /* live was made for every len: it depends on the longest sequence */
    bool exact_rows; /* no data atoms, nothing undecided, nothing widened: may = must on single rows */
} ranges;

/* Lives in the pool's arena. max_len: no sequence is longer; 0: EXPR_MAX_POSITION. */
ranges *ranges_compute(expr_pool *p, expr mask, int64_t max_len);

/* ---- evaluation, for tools, tests and the report (kernels and runtime use the emitted code) ------------------------------ */
typedef struct key_interval {
    int64_t lo, hi, step; /* first and last key; step 1: all between */
} key_interval;

/* may or must or live for the given environment (q0, q1, h, g, layer, data), cut to [0, n_keys), sorted by lo. Those of step 1 are merged;
 * others may overlap them and each other. Returns the number of intervals; out needs RANGES_MAX_INTERVALS. */
typedef enum ranges_list { RANGES_MAY, RANGES_MUST, RANGES_LIVE } ranges_list;
uint32_t ranges_evaluate(const expr_pool *p, const ranges *r, ranges_list which, const expr_env *env, int64_t n_keys,
                         key_interval *out);

typedef enum tile_class { TILE_EMPTY, TILE_PARTIAL, TILE_FULL } tile_class;
bool ranges_hold(const key_interval *x, uint32_t n, int64_t key);
/* Class of the tile env->q0..q1 x env->k0..k1; with attribute bounds and tables in env the data atoms are looked at. */
tile_class ranges_classify(const expr_pool *p, const ranges *r, const expr_env *env);

#endif
