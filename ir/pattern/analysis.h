/* analysis.h - inside ir/pattern only: what the parts of the range analysis share (docs/analysis.md). */
#ifndef ATTNC_IR_PATTERN_ANALYSIS_H
#define ATTNC_IR_PATTERN_ANALYSIS_H

#include "ir/pattern/linear.h"
#include "ir/pattern/ranges.h"

/* Keys lo..hi (0: open) when a condition that is the same for all pairs of the tile holds; with a step (not 0, >= 1)
 * only those that leave the remainder `at`, 0 <= at < step. */
typedef struct piece {
    expr lo, hi, when, step, at;
    bool of_several; /* `when` does not hold on single rows */
} piece;
typedef struct piece_list {
    const piece *at;
    uint32_t n;
} piece_list;

/* may, must and live of one condition, indexed by ranges_list. */
typedef struct lists {
    piece_list of[3];
} lists;

/* A comparison that says which remainder keys leave, by row. */
typedef struct row_remainder {
    expr atom;
    int64_t period; /* it says the same of rows so many apart; -1: of none */
} row_remainder;

typedef struct analysis {
    expr_pool *pool;
    arena *arena;
    expr always, q, q0, q1, row_step;
    size_t first_count; /* of the pool, to bound what one mask may cost */
    unsigned splits;    /* of the comparison being looked at */
    unsigned proofs;    /* tried so far, for the same reason */
    bool widened;
    int64_t period; /* of the comparison being looked at, as in row_remainder; 0: it is none */
    VEC(row_remainder) by_rows;
    VEC(expr) undecided;
    VEC(data_atom) data;
} analysis;

/* A mask that is too much work: what is left of it stays undecided. */
enum { MAX_GROWTH = 400000, MAX_PROOFS = 100000 };

/* ---- ranges_lists.c ---------------------------------------------------------------------------------------------- */
piece_list list_all(const analysis *a);
piece_list list_none(void);
piece_list list_one(const analysis *a, piece x);
piece_list list_meet(analysis *a, ranges_list kind, piece_list x, piece_list y);
piece_list list_join(analysis *a, ranges_list kind, piece_list x, piece_list y);
bool piece_fits(const analysis *a, const piece *x); /* ends stay in 64 bits and of reasonable size */
expr piece_first(const analysis *a, const piece *x); /* its lo, moved up to the remainder; 0: open */

/* ---- ranges_atom.c ----------------------------------------------------------------------------------------------- */
/* Lists of d >= 0, d free of min, max, abs and if over rows or keys. *decided is cleared when they are not exact. */
lists atom_lists(analysis *a, expr d, bool *decided);

/* ---- ranges_residue.c -------------------------------------------------------------------------------------------- */
/* Lists of d == 0 where that says which remainder a key leaves; false: it does not, or not in a way that can be solved.
 * Sets a->period where that depends on the row: the lists are exact for single rows, and for rows that far apart. */
bool residue_lists(analysis *a, expr d, lists *out);
/* A row step at which all of a->by_rows are decided; 0: there is none. */
uint32_t residue_row_step(const analysis *a);
/* Keys that leave both remainders, for constant steps; clears the step of neither. false: not expressible. */
bool residue_meet(analysis *a, const piece *x, const piece *y, piece *out);

/* ---- ranges_bounds.c --------------------------------------------------------------------------------------------- */
data_atom bounds_of_atom(analysis *a, expr atom);
/* Least or greatest value of an integer over all len in [q0 + 1, max_len]. */
expr bound_over_len(const analysis *a, expr e, int64_t max_len, bool greatest);

#endif
