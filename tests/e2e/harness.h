/* harness.h - from pattern text to numbers in one process: compile, run on guarded memory, compare with the oracle.
 *
 *     e2e_module m;
 *     e2e_compile(&m, "pattern p { heads 2 / 1; dim 16; dtype f32; mask causal; }", NULL);
 *     e2e_call c;
 *     e2e_call_init(&c, &m, 0, 1, (int64_t[]){100}, NULL, NULL);
 *     e2e_fill(&c, &seed, 1);
 *     ok = e2e_run(&c) && e2e_matches(&c);
 *
 * Every tensor of a run ends at a page without access and begins behind one; what no kernel may read is NaN, and what
 * none may write is looked at afterwards. */
#ifndef ATTNC_TEST_HARNESS_H
#define ATTNC_TEST_HARNESS_H

#include "ir/kernel/interp.h"
#include <attn/attn.h>

enum { E2E_MAX_NAMED = 8, E2E_MAX_ISAS = 8 };

/* ---- modules ---- */

typedef struct e2e_module {
    arena *arena;
    diags diags;
    ir_module *ir;
    kernel **definition; /* per pattern, after lower-pattern: what the oracle runs */
    attn_module *loaded;
} e2e_module;

/* targets: "cpu:avx2,cpu:avx512"; NULL: all. Prints diagnostics and returns false when the text is wrong. */
bool e2e_compile(e2e_module *m, const char *text, const char *targets);
/* Does the front end refuse the text, with this slug and these words in one diagnostic? Prints what it said otherwise.
 */
bool e2e_is_refused(const char *text, const char *slug, const char *words);
void e2e_module_free(e2e_module *m);

/* The instruction sets that this processor runs; returns their number. */
size_t e2e_isas(int32_t isa[E2E_MAX_ISAS]);
const char *e2e_target_name(int32_t isa); /* "cpu:avx2" */

/* ---- calls ---- */

typedef enum e2e_layout {
    E2E_PACKED,      /* [tokens, heads, dim], nothing between */
    E2E_GAPS,        /* the same with odd gaps behind heads and tokens */
    E2E_HEADS_FIRST, /* strides of [heads, tokens, dim] */
    E2E_BATCH,       /* [sequences, longest + 1, heads, dim] */
    E2E_LAYOUT_COUNT
} e2e_layout;

typedef struct e2e_call {
    const e2e_module *m;
    const attn_kind_desc *kind;
    const pattern *pattern;
    arena *arena;
    uint32_t layer, n_seqs;
    int64_t *q_lens, *k_lens, *positions, total_q, total_k;
    int64_t *lens;                                            /* per query: what `len` is; NULL: keys of its sequence */
    int64_t n_q, n_k, n_v, n_o, n_lse;                        /* elements of the tensors */
    float *q, *k, *v;                                         /* sequence after sequence, [tokens, heads, dim] */
    int32_t *q_attrs[E2E_MAX_NAMED], *k_attrs[E2E_MAX_NAMED]; /* per attribute of the module */
    double *inputs[E2E_MAX_NAMED];                            /* per input of the module */
    /* How it runs; all zero: the baseline, one thread, the plan's own choices. */
    int32_t isa;
    uint32_t threads, parts, group;
    bool own_threads; /* attn_run_part by threads of the test instead of a pool */
    bool half_output; /* o in the pattern's dtype */
    e2e_layout layout;
    /* Results, sequence after sequence. */
    float *o, *lse;
    double *want_o, *want_lse; /* NULL until the oracle ran on these values */
    double allowed_o, allowed_lse;
} e2e_call;

/* k_lens NULL: as q_lens; positions NULL: the queries are the last tokens. Values, attributes and inputs are 0. */
void e2e_call_init(e2e_call *c, const e2e_module *m, uint32_t layer, uint32_t n_seqs, const int64_t *q_lens,
                   const int64_t *k_lens, const int64_t *positions);
void e2e_call_free(e2e_call *c);
int64_t e2e_input_count(const e2e_call *c, uint32_t input);

/* Random q, k, v of about this size, rounded to the dtype. Call e2e_values_changed after writing others. */
void e2e_fill(e2e_call *c, unsigned long long *seed, double size);
void e2e_values_changed(e2e_call *c); /* rounds to the dtype, forgets the oracle's results */

/* false, with a printed sentence, when the runtime refuses or something was written that is not an output. */
bool e2e_run(e2e_call *c);
/* Compares the last run's o and lse with the oracle; prints the worst element when they differ. */
bool e2e_matches(e2e_call *c);
/* What is being run, for the report of a crash and of a mismatch. */
void e2e_note(const char *format, ...) ATTNC_PRINTF(1, 2);
const char *e2e_get_note(void);
bool e2e_fail(const char *format, ...) ATTNC_PRINTF(1, 2); /* prints the sentence and the note; false */

double e2e_uniform(unsigned long long *seed); /* in [-1, 1) */
int64_t e2e_below(unsigned long long *seed, int64_t n);

/* ---- other ways to look ---- */

typedef struct e2e_pair {
    int64_t q, k, h, layer; /* positions, query head */
    int32_t q_attr[E2E_MAX_NAMED], k_attr[E2E_MAX_NAMED];
} e2e_pair;
typedef bool e2e_visible(const e2e_pair *x, const void *ctx);

/* probe.c: with all keys 0, a row's output is the mean of the values it sees, whose codes name them. Reads the mask off
 * the kernel and compares it with `see`; then once more for a row chosen at random, with NaN in all that this row must
 * not see. Overwrites q, k, v. */
bool e2e_probe(e2e_call *c, e2e_visible *see, const void *ctx, unsigned long long *seed);
/* The same on every instruction set of this processor. */
bool e2e_probe_all(e2e_call *c, e2e_visible *see, const void *ctx, unsigned long long *seed);

/* paged.c: the same call through the kernel ABI, with keys and values in pages of this many tokens, scattered, the rest
 * of them NaN. Every tile asks the mask. Fills o and lse like e2e_run. */
bool e2e_run_paged(e2e_call *c, int64_t page_tokens, unsigned long long *seed);

/* Runs on every instruction set, in several layouts, with one and several threads, and compares with the oracle. */
bool e2e_matches_all(e2e_call *c);

/* memory.c: a block that ends at a page without access and begins behind one; all bytes 0xff, which is NaN in every
 * dtype. */
typedef struct guarded {
    void *at;
    size_t size;
    void *map;
    size_t map_size;
} guarded;
bool guarded_create(guarded *g, size_t size);
void guarded_destroy(guarded *g);
bool guarded_is_untouched(const guarded *g);

#endif
