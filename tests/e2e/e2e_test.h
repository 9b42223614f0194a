/* e2e_test.h - what the end-to-end tests share; names.def and issues.def list them. */
#ifndef ATTNC_TEST_E2E_H
#define ATTNC_TEST_E2E_H

#include "tests/e2e/harness.h"

#define NAMED(name, what) bool test_##name(void);
#include "tests/e2e/names.def"
#include "tests/e2e/issues.def"
#undef NAMED

/* Prints the place and the condition, and ends the test. */
#define EXPECT(cond)                                                                                                   \
    do {                                                                                                               \
        if (!(cond)) return expect_failed(__FILE__, __LINE__, #cond);                                                  \
    } while (0)
bool expect_failed(const char *file, int line, const char *what);

#define LENS(...)                                                                                                      \
    (sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) { __VA_ARGS__ }

/* `pattern p { heads 4 / 2; dim 16; dtype f32; BODY }`, with `head` before it. */
bool compile_body(e2e_module *m, const char *head, const char *body);

/* Compiles the body and probes it on sequences of these lengths, on every instruction set. */
bool probe_body(const char *body, e2e_visible *see, const void *ctx, size_t n, const int64_t *lens);
/* Compares the body with the oracle on random input of these lengths. */
bool match_body(const char *body, size_t n, const int64_t *lens);
bool refused_body(const char *body, const char *words);

/* Random values, one run on an instruction set; two calls with the same seed and shapes have the same values. */
bool run_random(e2e_call *c, unsigned long long seed, int32_t isa);
/* Largest difference; NaN counts as infinite. */
double difference(const float *a, const float *b, int64_t n);

/* The module's live set after n tokens against the keys that a mask keeps: alive(k). */
typedef bool alive_fn(int64_t n, int64_t k);
bool live_is(const e2e_module *m, uint32_t layer, int64_t n, alive_fn *alive);

/* cache_tests.c: scenes in which texts go through a KV cache, on each instruction set. */
typedef bool scene(const e2e_module *m, int32_t isa);
bool on_each_isa(const e2e_module *m, scene *play);
bool play_body(const char *head, const char *body, scene *play);
/* One text in these pieces, in pages of several sizes. */
bool in_pieces(const e2e_module *m, int32_t isa, size_t n, const int64_t *pieces);
/* Feeds the text and looks at what is kept after each piece. */
bool keeps_after(const e2e_module *m, int32_t isa, size_t n, const int64_t *pieces, const char *const *kept);
/* Texts of these lengths side by side: first `past` tokens of each, then `more` in one step, then one at a time. */
bool side_by_side(const e2e_module *m, int32_t isa, size_t n, const int64_t *past, const int64_t *more, int singles);

/* Masks that several tests look for; ctx: their size, an int64_t. */
bool sees_causal(const e2e_pair *x, const void *ctx);
bool sees_chunk(const e2e_pair *x, const void *ctx);
bool sees_window(const e2e_pair *x, const void *ctx);

#endif
