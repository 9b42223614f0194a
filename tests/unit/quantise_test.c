/* quantise_test.c - what a KV cache stores of rows under `kv quant(int8)`, byte by byte, against the rule in double.
 *
 * A module by hand, whose kernel takes down what lies in the pages.
 *
 *   quantise_test [rounds [seed]] */
#include "tests/unit/check.h"

#include "tools/common/half.h"

#include <attn/cache.h>
#include <float.h>
#include <math.h>
#include <stdbool.h>

enum { HEADS = 2, MOST_DIM = 600, MOST_ROW = MOST_DIM * 5, TOKENS = 24, PAGE = 5 };

static unsigned long long seed = 1;
static int rounds = 300;

static int below(int n) { return (int)(check_random(&seed) % (unsigned long long)n); }

/* ---- the module ------------------------------------------------------------------------------------------------------------------------- */

static attn_kind_desc kind;
static unsigned char stored[2][TOKENS][HEADS][MOST_ROW]; /* of K, of V */

static int64_t row_bytes(int64_t dim) { return dim + dim / (kind.kv_group ? kind.kv_group : dim) * 4; }

static void take_down(const attn_kernel_args *a, const attn_item *item, void *workspace)
{
    (void)workspace;
    const attn_seq *s = &a->seqs[item->seq];
    const uint32_t g = (uint32_t)item->head;
    for (int64_t k = 0; k < s->n_keys; k++) {
        const int64_t page = k / a->page_tokens, slot = k % a->page_tokens;
        memcpy(stored[0][k][g], s->k_pages[page] + a->k_heads[g] + slot * a->k_token_stride, (size_t)row_bytes(kind.dim));
        memcpy(stored[1][k][g], s->v_pages[page] + a->v_heads[g] + slot * a->v_token_stride, (size_t)row_bytes(kind.dim_v));
    }
}

static void ranges(const attn_range_args *a, int64_t *out)
{
    out[0] = out[3] = 0;
    out[2] = out[5] = 1;
    out[1] = a->q1;
    out[4] = a->q0;
}

static void live(const attn_range_args *a, int64_t *out)
{
    out[0] = 0;
    out[1] = a->q0;
}

static int32_t visible(const attn_range_args *a) { return a->k0 <= a->q0; }

static const attn_kernel_desc kernel = {.size = sizeof kernel, .lanes = 4, .vector = 4, .key_step = 1, .max_group = 1, .run = take_down, .name = "takes down"};
static const attn_kernel_desc *const kernels[] = {&kernel};
static const attn_kind_desc *const kinds[] = {&kind};
static const uint32_t schedule[1];
static const attn_module_desc module = {.size = sizeof module, .abi = ATTN_ABI_VERSION, .name = "by hand", .n_layers = 1, .n_kinds = 1,
                                        .schedule = schedule, .kinds = kinds};

static void make_kind(uint32_t dtype, uint32_t dim, uint32_t dim_v, uint32_t group)
{
    kind = (attn_kind_desc){.size = sizeof kind, .name = "k", .q_heads = HEADS, .kv_heads = HEADS, .dim = dim, .dim_v = dim_v, .dtype = dtype,
                            .n_may = 1, .n_must = 1, .n_live = 1, .n_kernels = 1, .ranges = ranges, .live = live, .visible = visible,
                            .kernels = kernels, .kv_format = ATTN_KV_INT8, .kv_group = group};
}

/* ---- values ----------------------------------------------------------------------------------------------------------------------------- */

static float random_size(void)
{
    static const float sizes[] = {1, 1, 1e-3f, 1e4f, 1e-37f, 1e-42f, 1e30f, 6e-8f};
    return sizes[below(8)];
}

/* Mostly plain numbers; ties between steps; now and then what is no number. */
static float random_value(float size)
{
    const double unit = (double)(check_random(&seed) >> 11) * 0x1p-52 - 1;
    switch (below(40)) {
    case 0: return 0;
    case 1: return -0.0f;
    case 2: return size;
    case 3: return size / 127 * (float)(below(127) + 0.5);
    case 4: return below(20) ? -size : below(2) ? NAN : INFINITY;
    default: return (float)unit * size;
    }
}

static void put(char *at, uint32_t dtype, float x, float *is)
{
    const uint16_t h = dtype == ATTN_F16 ? half_to_f16(x) : half_to_bf16(x);
    if (dtype == ATTN_F32) memcpy(at, &x, 4);
    else memcpy(at, &h, 2);
    *is = dtype == ATTN_F32 ? x : dtype == ATTN_F16 ? half_from_f16(h) : half_from_bf16(h);
}

/* ---- the rule --------------------------------------------------------------------------------------------------------------------------- */

static bool is_stored(const float *x, int64_t n, const signed char *elements, float scale)
{
    double largest = 0;
    bool finite = true;
    for (int64_t i = 0; i < n; i++) finite &= isfinite(x[i]) != 0, largest = fmax(largest, fabs((double)x[i]));
    const float want = (float)(largest / 127);
    const bool none = !finite || want < FLT_MIN;
    if (finite ? scale != (none ? 0 : want) : !isnan(scale)) return false;
    for (int64_t i = 0; i < n; i++)
        if (elements[i] != (none ? 0 : (int)nearbyint((double)(float)((double)x[i] / (double)want)))) return false;
    for (int64_t i = 0; i < n && !none; i++) /* the bound that docs/quant.md gives */
        if (fabs(elements[i] * (double)scale - (double)x[i]) > largest / 254 * (1 + 0x1p-15)) return false;
    return true;
}

static void check_row(const unsigned char *row, const float *x, int64_t dim, const char *what, int64_t token)
{
    const int64_t group = kind.kv_group ? kind.kv_group : dim;
    for (int64_t i = 0; i < dim; i += group) {
        float scale;
        memcpy(&scale, row + dim + i / group * 4, 4);
        CHECK_MSG(is_stored(x + i, group, (const signed char *)row + i, scale), "%s: token %d, elements %d.. of %d, dtype %u: scale %g", what,
                  (int)token, (int)i, (int)dim, kind.dtype, (double)scale);
    }
}

/* ---- a text ----------------------------------------------------------------------------------------------------------------------------- */

typedef struct rows { /* of all tokens: [token][head][dim] with gaps */
    char bytes[TOKENS * HEADS * (MOST_DIM + 3) * 4];
    float values[TOKENS][HEADS][MOST_DIM];
    int64_t shape[3], strides[3];
    DLTensor dl;
} rows;

static void make_rows(rows *r, int64_t dim, bool gaps)
{
    const int64_t element = kind.dtype == ATTN_F32 ? 4 : 2, head = dim + (gaps ? 3 : 0);
    for (int64_t t = 0; t < TOKENS; t++)
        for (int64_t h = 0; h < HEADS; h++) {
            const float size = random_size();
            for (int64_t i = 0; i < dim; i++)
                put(r->bytes + ((t * HEADS + h) * head + i) * element, kind.dtype, random_value(size), &r->values[t][h][i]);
        }
    memcpy(r->strides, ((int64_t[]){HEADS * head, head, 1}), sizeof r->strides);
    memcpy(r->shape, ((int64_t[]){TOKENS, HEADS, dim}), sizeof r->shape);
    r->dl = (DLTensor){.data = r->bytes, .device = {kDLCPU, 0}, .ndim = 3, .shape = r->shape, .strides = r->strides,
                       .dtype = {kind.dtype == ATTN_BF16 ? kDLBfloat : kDLFloat, (uint8_t)(8 * element), 1}};
}

/* Tokens first .. first + n - 1 in one step. */
static bool feed(attn_cache *c, attn_seq_id id, rows *k, rows *v, rows *q, int64_t first, int64_t n)
{
    const attn_step_config step = {.size = sizeof step, .n_seqs = 1, .seqs = &id, .counts = &n};
    static float out[TOKENS * HEADS * MOST_DIM];
    int64_t shape[3] = {n, HEADS, kind.dim_v};
    DLTensor o = {.data = out, .device = {kDLCPU, 0}, .ndim = 3, .shape = shape, .dtype = {kDLFloat, 32, 1}};
    rows *const all[] = {k, v, q};
    for (int i = 0; i < 3; i++) {
        all[i]->shape[0] = n;
        all[i]->dl.byte_offset = (uint64_t)(first * all[i]->strides[0] * (kind.dtype == ATTN_F32 ? 4 : 2));
    }
    const attn_tensors t = {.size = sizeof t, .q = &q->dl, .k = &k->dl, .v = &v->dl, .o = &o};
    attn_error err = {""};
    const bool ok = !attn_step_begin(c, &step, &err) && !attn_step_layer(c, 0, &t, NULL, &err) && !attn_step_end(c, &err);
    CHECK_MSG(ok, "%s", err.text);
    return ok;
}

static void run_text(attn_module *m)
{
    static rows k, v, q;
    attn_seq_id id;
    attn_cache *c;
    attn_error err = {""};
    const attn_cache_config config = {.size = sizeof config, .page_tokens = PAGE, .isa = -1, .poison = below(2)};
    const bool gaps = below(2);
    make_rows(&k, kind.dim, gaps), make_rows(&v, kind.dim_v, gaps), make_rows(&q, kind.dim, false);
    CHECK_MSG(!attn_cache_create(m, &config, &c, &err), "%s", err.text);
    CHECK(!attn_seq_begin(c, &id, &err));
    for (int64_t first = 0, n; first < TOKENS; first += n) {
        n = 1 + below(9) < TOKENS - first ? 1 + below(TOKENS - (int)first) : TOKENS - first;
        if (!feed(c, id, &k, &v, &q, first, n)) break;
    }
    CHECK_MSG(!attn_cache_check(c), "%s", attn_cache_check(c));
    for (int64_t t = 0; t < TOKENS; t++)
        for (int64_t h = 0; h < HEADS; h++) {
            check_row(stored[0][t][h], k.values[t][h], kind.dim, "K", t);
            check_row(stored[1][t][h], v.values[t][h], kind.dim_v, "V", t);
        }
    attn_cache_stats s = {.size = sizeof s};
    CHECK(!attn_cache_get_stats(c, &s));
    const uint64_t block = (uint64_t)(PAGE * (row_bytes(kind.dim) + row_bytes(kind.dim_v)) + 63) / 64 * 64;
    CHECK(s.bytes == (TOKENS + PAGE - 1) / PAGE * HEADS * block);
    attn_cache_destroy(c);
}

static void rows_are_stored_by_the_rule(void)
{
    static const struct {
        uint32_t dim, dim_v, group;
    } shapes[] = {{128, 128, 0}, {64, 96, 32}, {7, 5, 0}, {1, 33, 0}, {600, 300, 0}, {576, 288, 288}};
    for (int i = 0; i < rounds; i++) {
        const int shape = below(6);
        attn_module *m;
        attn_error err = {""};
        make_kind((uint32_t)below(3), shapes[shape].dim, shapes[shape].dim_v, shapes[shape].group);
        CHECK_MSG(!attn_module_open(&module, NULL, &m, &err), "%s", err.text);
        run_text(m);
        attn_module_destroy(m);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1) rounds = atoi(argv[1]);
    if (argc > 2) seed = strtoull(argv[2], NULL, 10);
    printf("rounds %d, seed %llu\n", rounds, seed);
    RUN(rows_are_stored_by_the_rule);
    return CHECK_DONE();
}
