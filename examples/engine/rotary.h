/* rotary.h - what a model does to the heads of its queries and keys before attention: it turns them by their position
 * (RoPE), and brings them to one length (QK norm).
 *
 * The two models here need one form each; the others are what other published models do, and a new one is a line in
 * model_load.c. */
#ifndef ENGINE_ROTARY_H
#define ENGINE_ROTARY_H

#include "failure.h"
#include <stdint.h>

/* ---- RoPE: pairs of a head's elements, as points of a plane, turn with the position; each pair at its own speed. ----
 */

typedef enum rotary_pairs {
    ROTARY_NEIGHBOURS, /* (0, 1), (2, 3), ..: Llama 4, Cohere 2 */
    ROTARY_HALVES,     /* (0, n / 2), (1, n / 2 + 1), ..: gpt-oss, Gemma, Qwen, Llama in Hugging Face's order */
} rotary_pairs;

typedef struct rotary {
    rotary_pairs pairs;
    int64_t n;     /* how many of a head's first elements turn. All; fewer: partial RoPE (Qwen3-Next); 0: NoPE */
    double *speed; /* [n / 2], radians a token: pair i has theta^(-2 i / n) */
} rotary;

/* n: even. */
bool rotary_open(rotary *r, rotary_pairs pairs, int64_t n, double theta, failure *f);
void rotary_close(rotary *r);

/* Cosine and sine of every pair's angle, [n]: the same for all heads and layers. */
void rotary_prepare(const rotary *r, int64_t position, float *turns);
void rotary_turn(const rotary *r, const float *turns, float *head);

/* ---- RMS norm: x / sqrt(mean(x^2) + eps), by element times `weight`, unless that is NULL. y may be x. --------------
 */

void rms_norm(const float *x, int64_t n, float eps, const float *weight, float *y);

/* ---- both, in a model's order -------------------------------------------------------------------------------------
 */

typedef enum qk_norm {
    QK_NORM_NONE,
    QK_NORM_HEAD_THEN_ROPE, /* Gemma 3 (whose files hold weight - 1), Qwen 3: [dim] weights */
    QK_NORM_ROPE_THEN_HEAD, /* Llama 4, without weights */
    QK_NORM_ALL_THEN_ROPE,  /* OLMo 3: all heads of a token together, [heads * dim] weights */
} qk_norm;

typedef struct heads { /* of the queries, or of the keys */
    int64_t n, dim;
    qk_norm norm;
    float eps;
    const float *weight; /* NULL: none */
} heads;

/* x: [rows][heads][dim]; turns: [rows][r->n]. */
void heads_place(const heads *h, const rotary *r, const float *turns, int64_t rows, float *x);

#endif
