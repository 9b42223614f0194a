/* model.h - a byte-level language model: its weights, and a step that turns new tokens into logits.
 *
 * Two families of models share everything but a few lines: where weights lie in their file, how positions turn queries
 * and keys (RoPE), and the MLP's activation. What their attention means is not here but in llama4.attn and
 * gpt_oss.attn. */
#ifndef ENGINE_MODEL_H
#define ENGINE_MODEL_H

#include "attention.h"
#include "matrix.h"
#include "rotary.h"

enum { VOCABULARY = 256 }; /* a token is a byte */

typedef enum model_family { FAMILY_LLAMA4, FAMILY_GPT_OSS, FAMILY_COUNT } model_family;

typedef struct model_layer {
    bool rope; /* else the layer knows positions by its mask and temperature only */
    float *attention_norm, *mlp_norm;
    matrix q, k, v, o, gate, up, down;
} model_layer;

typedef struct model {
    model_family family;
    const attn_module_desc *kernels; /* linked into this program */
    int64_t hidden, heads, kv_heads, dim, mlp;
    float eps;
    uint32_t n_layers;
    model_layer *layers;
    float *embedding, *norm; /* [VOCABULARY][hidden], [hidden] */
    matrix head;
    float *sinks;  /* [n_layers][heads]; NULL: none */
    rotary rotary; /* of the layers with RoPE, and so is qk_norm */
    qk_norm qk_norm;

    int64_t room; /* rows that the arrays below have room for */
    float *scratch, *x, *normed, *queries, *keys, *values, *mixed, *gates, *ups, *turns, *logits;
} model;

/* model_load.c: reads weights and configuration; refuses a file that the kernels of its family do not fit. */
bool model_open(const char *path, model *out, failure *f);
void model_close(model *m);

/* The layers over `rows` new tokens, for which a step of `a` is open; positions[r] is row r's place in its sequence.
 * *logits: [rows][VOCABULARY], until the next call. */
bool model_run(model *m, attention *a, const uint8_t *tokens, const int64_t *positions, int64_t rows,
               const float **logits, failure *f);

#endif
