/* probe_test.c - the visibility probe over the prelude: every mask, sizes 1 to 64, every length to 4 C + 3, and every
 * head dimension.
 *
 *   probe_test --list          names of masks, then `dim16` and so on
 *   probe_test NAME            one of them
 *   probe_test long            every mask at every dimension in every dtype (campaign)
 *
 * Expectations are the plain C formulas below. */
#include "tests/e2e/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int sizes[] = {1, 2, 3, 4, 5, 7, 8, 16, 64};
static const int dims[] = {16, 32, 64, 80, 96, 128, 192, 256};
static const char *const types[] = {"f32", "bf16", "f16"};
enum { BLOCKS = 8 };

/* ---- what the masks mean ---- */

typedef struct probe {
    int64_t c;           /* size */
    const double *table; /* of block(): [heads, BLOCKS, BLOCKS] */
} probe;

static int64_t size_of(const void *ctx) { return ((const probe *)ctx)->c; }
static int64_t distance(const e2e_pair *x) { return x->q - x->k; }
static bool is_causal(const e2e_pair *x) { return x->k <= x->q; }
static int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

#define SEES(name, condition)                                                                                          \
    static bool sees_##name(const e2e_pair *x, const void *ctx)                                                        \
    {                                                                                                                  \
        int64_t c = size_of(ctx);                                                                                      \
        (void)c, (void)x;                                                                                              \
        return condition;                                                                                              \
    }
SEES(all, true)
SEES(causal, is_causal(x))
SEES(window, distance(x) < c)
SEES(causal_window, is_causal(x) && distance(x) < c)
SEES(ahead, x->k <= x->q + c)
SEES(band, distance(x) >= -c && distance(x) <= 2 * c)
SEES(chunk, x->q / c == x->k / c)
SEES(causal_chunk, is_causal(x) && x->q / c == x->k / c)
SEES(chunk_origin, floor_div(x->q - (c / 2 + 1), c) == floor_div(x->k - (c / 2 + 1), c))
SEES(sink, x->k < c)
SEES(every, x->k % c == 0)
SEES(every_phase, is_causal(x) && (x->k + 1) % c == 0)
SEES(stride, distance(x) % c == 0)
SEES(same, x->q_attr[0] == x->k_attr[0] && x->q_attr[0] >= 0)
SEES(prefixlm, is_causal(x) || x->k_attr[0] == 1)
SEES(lastblock, x->k / c <= x->q / c && x->k / c > x->q / c - 2)
SEES(streaming, is_causal(x) && (x->k < 3 || distance(x) < c))
SEES(longformer, (distance(x) <= c && distance(x) >= -c) || x->q_attr[0] == 1 || x->k_attr[0] == 1)
SEES(dilated, is_causal(x) && distance(x) <= 2 * c && distance(x) % c == 0)
#undef SEES

static bool sees_block(const e2e_pair *x, const void *ctx)
{
    const probe *p = ctx;
    return p->table[(x->h * BLOCKS + x->q / p->c) * BLOCKS + x->k / p->c] > 0.5;
}

static const struct mask_case {
    const char *name, *head, *mask; /* # in the mask is the size */
    e2e_visible *see;
} masks[] = {
    {"all", "", "all", sees_all},
    {"causal", "", "causal", sees_causal},
    {"window", "", "window(#)", sees_window},
    {"causal_window", "", "causal and window(#)", sees_causal_window},
    {"ahead", "", "ahead(#)", sees_ahead},
    {"band", "", "band(-#, 2 * #)", sees_band},
    {"chunk", "", "chunk(#)", sees_chunk},
    {"causal_chunk", "", "causal and chunk(#)", sees_causal_chunk},
    {"chunk_origin", "", "chunk(#, # / 2 + 1)", sees_chunk_origin},
    {"sink", "", "sink(#)", sees_sink},
    {"prefix", "", "prefix(#)", sees_sink},
    {"every", "", "every(#)", sees_every},
    {"every_phase", "", "causal and every(#, 1)", sees_every_phase},
    {"stride", "", "stride(#)", sees_stride},
    {"same", "attr x : int;", "same(x)", sees_same},
    {"prefixlm", "attr x : int;", "prefixlm(x)", sees_prefixlm},
    {"lastblock", "", "lastblock(#, 2)", sees_lastblock},
    {"streaming", "", "streaming(3, #)", sees_streaming},
    {"longformer", "attr x : int;", "longformer(#, x)", sees_longformer},
    {"dilated", "", "dilated(3, #)", sees_dilated},
    {"block", "input table : f32[heads, 8, 8];", "block(#, table)", sees_block},
};

/* ---- one call ---- */

static void fill_data(e2e_call *c, unsigned long long *seed)
{
    if (c->q_attrs[0]) {
        int32_t value = 0;
        for (int64_t t = 0; t < c->total_k; t++) {
            if (e2e_uniform(seed) > 0.6) value = (int32_t)e2e_below(seed, 4) - 1;
            c->k_attrs[0][t] = value;
        }
        for (int64_t t = 0; t < c->total_q; t++) c->q_attrs[0][t] = c->k_attrs[0][c->positions[0] + t];
    }
    for (int64_t i = 0; c->inputs[0] && i < e2e_input_count(c, 0); i++) c->inputs[0][i] = e2e_uniform(seed) > 0;
}

/* The last n_q of `length` tokens as queries, with all keys. */
static bool probe_length(const e2e_module *m, uint32_t layer, const struct mask_case *x, int c, int64_t n_q,
                         int64_t length, unsigned long long *seed)
{
    e2e_call call;
    e2e_call_init(&call, m, layer, 1, &n_q, &length, NULL);
    fill_data(&call, seed);
    probe p = {.c = c, .table = call.inputs[0]};
    bool ok = e2e_probe_all(&call, x->see, &p, seed);
    if (!ok) printf("%s, size %d, %lld queries, %lld keys\n", x->mask, c, (long long)n_q, (long long)length);
    e2e_call_free(&call);
    return ok;
}

/* ---- modules ---- */

static void append_mask(char *to, size_t size, const char *mask, int c)
{
    size_t n = strlen(to);
    for (; *mask && n + 16 < size; mask++)
        n += (size_t)(*mask == '#' ? snprintf(to + n, size - n, "%d", c) : snprintf(to + n, size - n, "%c", *mask));
}

/* A layer for each size. */
static bool compile_sizes(e2e_module *m, const struct mask_case *x)
{
    char source[4096], plan[256] = "";
    snprintf(source, sizeof source, "%s model probe { heads 2 / 1; dim 16; dtype f32;\n", x->head);
    for (size_t i = 0; i < ATTNC_COUNT(sizes); i++) {
        size_t n = strlen(source), at = strlen(plan);
        snprintf(source + n, sizeof source - n, "  pattern c%d { mask ", sizes[i]);
        append_mask(source, sizeof source, x->mask, sizes[i]);
        n = strlen(source);
        snprintf(source + n, sizeof source - n, "; }\n");
        snprintf(plan + at, sizeof plan - at, "%sc%d", i ? ", " : "", sizes[i]);
    }
    size_t n = strlen(source);
    snprintf(source + n, sizeof source - n, "  schedule %s; }\n", plan);
    return e2e_compile(m, source, NULL);
}

static bool probe_mask(const struct mask_case *x)
{
    e2e_module m;
    unsigned long long seed = 1;
    if (!compile_sizes(&m, x)) return false;
    bool ok = true;
    for (uint32_t layer = 0; layer < ATTNC_COUNT(sizes) && ok; layer++) {
        int c = sizes[layer];
        int64_t longest = 4 * c + 3;
        if (x->see == sees_block && longest > (int64_t)BLOCKS * c) longest = (int64_t)BLOCKS * c;
        for (int64_t length = 1; length <= longest && ok; length++) {
            ok = probe_length(&m, layer, x, c, length, length, &seed);
            if (ok && length % 3 == 0) ok = probe_length(&m, layer, x, c, 1 + e2e_below(&seed, length), length, &seed);
        }
    }
    e2e_module_free(&m);
    return ok;
}

/* One dimension with three masks, in three dtypes, dim_v the same and another. */
static bool probe_shape(int dim, int dim_v, const char *type, const struct mask_case *x, int c)
{
    char source[1024];
    e2e_module m;
    unsigned long long seed = (unsigned long long)(dim + dim_v);
    snprintf(source, sizeof source, "%s pattern p { heads 4 / 2; dim %d; dim_v %d; dtype %s; mask ", x->head, dim,
             dim_v, type);
    append_mask(source, sizeof source, x->mask, c);
    size_t n = strlen(source);
    snprintf(source + n, sizeof source - n, "; }");
    if (!e2e_compile(&m, source, NULL)) return false;
    bool ok = true;
    for (int i = 0; i < 6 && ok; i++) {
        int64_t length = 1 + e2e_below(&seed, x->see == sees_block ? BLOCKS * c : i % 2 ? 300 : 4 * c + 3);
        ok = probe_length(&m, 0, x, c, i < 3 ? length : 1 + e2e_below(&seed, length), length, &seed);
    }
    if (!ok) puts(source);
    e2e_module_free(&m);
    return ok;
}

static bool probe_dim(int dim)
{
    int other = dim == 64 ? 40 : 64;
    return probe_shape(dim, dim, "f32", &masks[3], 16) && probe_shape(dim, other, "bf16", &masks[7], 64) &&
           probe_shape(dim, dim, "f16", &masks[17], 5) && probe_shape(dim, other, "f32", &masks[20], 16);
}

static bool probe_everything(void)
{
    for (size_t x = 0; x < ATTNC_COUNT(masks); x++)
        for (size_t d = 0; d < ATTNC_COUNT(dims); d++) {
            for (size_t t = 0; t < ATTNC_COUNT(types); t++)
                if (!probe_shape(dims[d], (x + t) % 2 ? dims[d] : dims[(d + 3) % ATTNC_COUNT(dims)], types[t],
                                 &masks[x], sizes[(x + d + t) % ATTNC_COUNT(sizes)]))
                    return false;
            printf("pass %s at dim %d\n", masks[x].name, dims[d]);
            fflush(stdout);
        }
    return true;
}

static int result(const char *name, bool ok)
{
    printf("%s %s\n", ok ? "pass" : "FAIL", name);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "--list";
    if (!strcmp(name, "--list")) {
        for (size_t i = 0; i < ATTNC_COUNT(masks); i++) puts(masks[i].name);
        for (size_t i = 0; i < ATTNC_COUNT(dims); i++) printf("dim%d\n", dims[i]);
        return EXIT_SUCCESS;
    }
    if (!strcmp(name, "long")) return result(name, probe_everything());
    for (size_t i = 0; i < ATTNC_COUNT(masks); i++)
        if (!strcmp(name, masks[i].name)) return result(name, probe_mask(&masks[i]));
    for (size_t i = 0; i < ATTNC_COUNT(dims); i++)
        if (!strncmp(name, "dim", 3) && atoi(name + 3) == dims[i]) return result(name, probe_dim(dims[i]));
    puts("there is no such probe; --list lists them");
    return EXIT_FAILURE;
}
