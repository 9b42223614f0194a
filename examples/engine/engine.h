/* engine.h - generation and evaluation over a model and its attention. */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include "model.h"

typedef struct engine_options {
    uint32_t forks;   /* branches of each prompt, >= 1; all greedy, so all must say the same */
    bool diverge;     /* or: branch i begins with the i-th likeliest byte, and is greedy from there on */
    bool batch;       /* all prompts at once, else one after the other */
    bool share;       /* prompts that begin alike read that beginning once */
    bool draft;       /* guess what comes next from what has been said, and check the guess in one step */
    int64_t step;     /* most prompt tokens that a sequence brings to one step, >= 1 */
    bool count_bytes; /* fill in the cache's part of the statistics */
} engine_options;

enum { ENGINE_DRAFT = 8 }; /* longest guess, and so what the cache must be able to take back */

typedef struct engine_stats {
    int64_t steps, tokens_in, tokens_out; /* tokens_out: of all branches */
    int64_t drafted, accepted;
    int64_t found;        /* tokens of prompts that the cache knew */
    attention_stats most; /* when a full cache would have been largest */
} engine_stats;

typedef struct engine_branch {
    uint8_t *text; /* [count] */
    double score;  /* mean log-likelihood of its bytes */
} engine_branch;

typedef struct engine_job {
    const uint8_t *prompt;
    int64_t prompt_length;   /* >= 1 */
    int64_t count;           /* bytes to generate */
    uint8_t *text;           /* out: [count]; of the first branch, which is greedy throughout */
    engine_branch *branches; /* out: [forks]; NULL: not wanted */
} engine_job;

bool engine_generate(model *m, attention *a, const engine_options *o, engine_job *jobs, uint32_t n, engine_stats *stats,
                     failure *f);

/* Mean nats per byte over consecutive windows of the text, each with an empty context; the last, incomplete one is left
 * out. */
bool engine_loss(model *m, attention *a, const engine_options *o, const uint8_t *text, size_t size, int64_t window,
                 double *loss, engine_stats *stats, failure *f);

#endif
