/* tune_bench.h - one kind for one target under measurement: candidates are compiled, loaded, compared and timed in turn. */
#ifndef ATTNC_TOOLS_TUNE_BENCH_H
#define ATTNC_TOOLS_TUNE_BENCH_H

#include "ir/kernel/kernel.h"
#include "tools/attnc/tune_score.h"
#include "tools/attnc/tune_shape.h"
#include "tools/common/call.h"
#include "tools/common/paged.h"

/* A schedule, compiled and loaded. */
typedef struct tune_trial {
    schedule sizes;
    attn_module *module;
    call calls[TUNE_MAX_SHAPES];
    paged paged[TUNE_MAX_SHAPES]; /* open where keys are quantised: those lie in a KV cache only */
} tune_trial;

typedef struct tune_bench {
    arena *arena;            /* its own */
    ir_module *view;  /* this kind alone */
    const kernel *kernel;    /* before `schedule` */
    target_id target;
    bool native;
    int64_t layer;           /* one of this kind */
    const char *folder;      /* for the libraries */
    unsigned libraries;      /* made so far: each has a name of its own, as dlopen knows open ones by name */
    tune_shape shapes[TUNE_MAX_SHAPES];
    size_t n_shapes;
    problem problems[TUNE_MAX_SHAPES];
    double work[TUNE_MAX_SHAPES]; /* FLOP of prefill, else bytes of K and V */
    uint32_t repeats[TUNE_MAX_SHAPES]; /* runs in one timing: long enough for the clock */
    uint32_t rounds[TUNE_MAX_SHAPES];  /* even: each side is as often first as second */
    tune_trial reference;
} tune_bench;

typedef struct tune_bench_options {
    const ir_module *module; /* kernels before `schedule` */
    uint32_t kind;
    target_id target;
    bool native;
    const char *folder;
    const tune_shape *shapes;
    size_t n_shapes;
    double shape_seconds;    /* for all rounds of a shape, about */
    diags *diags;            /* what the backend says of the reference */
} tune_bench_options;

/* The reference is opened. */
bool tune_bench_open(tune_bench *b, const tune_bench_options *o, const schedule *reference, tool_error *err);
void tune_bench_close(tune_bench *b);

bool tune_trial_open(tune_bench *b, const schedule *sizes, tune_trial *t, tool_error *err);
void tune_trial_close(tune_trial *t);
/* false and err.text empty: every result is the reference's; else where one differs, or why it did not run. */
bool tune_trial_differs(tune_bench *b, tune_trial *t, tool_error *err);

/* Rounds of old and new in turn on the shapes of `ops` (set of TUNE_PREFILL ..). */
typedef struct tune_rounds {
    size_t n_used, used[TUNE_MAX_SHAPES]; /* shapes */
    bool hopeless;                        /* the first rounds of the last shape were all lost; later shapes were left out */
    score scores[TUNE_MAX_SHAPES];        /* of these */
    double share[TUNE_MAX_SHAPES][2];     /* of a burst or a plain read; old, new; medians */
} tune_rounds;
/* Ends early when that is hopeless, unless `all`. stop is looked at between rounds: false and err.text empty then. */
bool tune_compare(tune_bench *b, tune_trial *old, tune_trial *new, uint32_t ops, bool all, bool (*stop)(void), tune_rounds *out,
                  tool_error *err);

#endif
