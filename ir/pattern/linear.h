/* linear.h - inside ir/pattern only: integer expressions as sums of terms, and what follows from that form.
 *
 * A sum is k + c1 * x1 + c2 * x2 + ...; a term x is a variable, floor(sum / n), sum % n, a product by something
 * uniform, or anything else as it stands. Like terms cancel. Coefficients that would leave 64 bits, and sums of more
 * terms than fit, are refused: the caller then knows nothing. */
#ifndef ATTNC_IR_PATTERN_LINEAR_H
#define ATTNC_IR_PATTERN_LINEAR_H

#include "ir/pattern/expr.h"

enum { SUM_MAX_TERMS = 16, LINEAR_MAX_TREE = 2000 };

typedef struct term {
    expr x;
    int64_t c; /* not 0 */
} term;
typedef struct sum {
    term t[SUM_MAX_TERMS];
    uint32_t n;
    int64_t k;
    bool ok; /* false: refused; everything made of it is */
} sum;

sum sum_const(int64_t k);
sum sum_of(expr_pool *p, expr e);                      /* trees up to LINEAR_MAX_TREE */
void sum_add(expr_pool *p, sum *s, expr e, int64_t c); /* s += c * e */
void sum_add_term(sum *s, expr x, int64_t c);          /* x is a term already */
void sum_add_sum(sum *s, const sum *o, int64_t c);
expr sum_rebuild(expr_pool *p, const sum *s); /* the same sum gives the same expression; 0 when not ok */

/* How e moves when x, some subexpression or variable, grows. */
typedef enum trend { TREND_FALLS = -1, TREND_NONE = 0, TREND_RISES = 1, TREND_UNKNOWN = 2 } trend;
trend expr_trend(const expr_pool *p, expr e, expr x);

/* a <= b for all positions with q0 <= q1. false: not proved. */
bool expr_proves_le(expr_pool *p, expr a, expr b);

#endif
