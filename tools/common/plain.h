/* plain.h - how exact a precision allows to be: the definition by plain loops in f32, weights rounded to the storage type.
 *
 * A kernel's error may be twice the error of this, plus 1e-5 (the scheme of FlashAttention's tests). Plain code has choices that
 * its authors make without thinking: powers of e, or of 2 with scaled queries; sums from the front or from the back. Where logits
 * are in the hundreds, a single one of these is lucky in one of a few thousand small cases, so the worst of the four counts. */
#ifndef ATTNC_TOOLS_PLAIN_H
#define ATTNC_TOOLS_PLAIN_H

#include "ir/kernel/interp.h"

typedef enum plain_way {
    PLAIN_NATURAL = 0,
    PLAIN_BASE2 = 1, /* scaled queries, powers of 2, rounded as they are and divided last; else products first, powers of e, rounded when divided */
    PLAIN_BACK = 2,  /* sums from the back */
    PLAIN_WAYS = 4   /* every set of these */
} plain_way;

typedef struct plain_call {
    arena *arena;
    const ir_module *module;
    const pattern *pattern;
    const double *const *tables; /* per table of the module; NULL entries for constant tables */
    int64_t layer;
    uint32_t n_seqs;
    bool half_output; /* the output is rounded to the storage type as well */
} plain_call;

/* o: [all queries, q_heads, dim_v]; lse: [all queries, q_heads]; sequence after sequence. */
void plain_attention(const plain_call *c, plain_way way, const interp_sequence *seqs, float *o, float *lse);

float plain_round(float x, dtype type); /* to the storage type and back */

#endif
