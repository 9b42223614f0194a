/* fake_module.h - modules written by hand in C: masks with their ranges, kinds and layers made of them, and a kernel
 * that checks what the plan asks of it.
 *
 * The masks' `see` functions are the definition; ranges, bounds and visible are what a compiler would have proved. The
 * kernel walks segments exactly as docs/kernel-abi.md says, counts its visits of every (row, head, key), and computes
 * plain attention in f32. */
#ifndef ATTNC_TEST_FAKE_MODULE_H
#define ATTNC_TEST_FAKE_MODULE_H

#include <attn/attn.h>
#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- masks ---------------------------------------------------------------------------------------------------- */

typedef struct fake_pair { /* what a mask may look at */
    int64_t q, k, h, layer, sweep;
    int32_t q_attr, k_attr;
    const int32_t *table; /* 8 x 8 */
} fake_pair;

typedef struct fake_mask {
    const char *name;
    uint32_t flags, n_may, n_must, n_data;
    bool attr, table;
    attn_ranges_fn *ranges;
    attn_bounds_fn *bounds;
    bool (*see)(const fake_pair *p);
    uint32_t row_step;
} fake_mask;

#define FAKE_FAR ((int64_t)1 << 62)

static void put_every(int64_t *out, int i, int64_t lo, int64_t hi, int64_t step)
{
    out[3 * i] = lo;
    out[3 * i + 1] = hi;
    out[3 * i + 2] = step;
}
static void put(int64_t *out, int i, int64_t lo, int64_t hi) { put_every(out, i, lo, hi, 1); }
/* Of what a cache keeps: without a step. */
static void keep(int64_t *out, int i, int64_t lo, int64_t hi)
{
    out[2 * i] = lo;
    out[2 * i + 1] = hi;
}
static bool may_atom(const attn_range_args *a) { return a->data ? a->data[0] : true; }
static bool must_atom(const attn_range_args *a) { return a->data ? a->data[1] : false; }

static bool see_all(const fake_pair *p) { return p->k >= 0; }
static void ranges_all(const attn_range_args *a, int64_t *out)
{
    (void)a;
    put(out, 0, -FAKE_FAR, FAKE_FAR);
    put(out, 1, -FAKE_FAR, FAKE_FAR);
}

static bool see_causal(const fake_pair *p) { return p->k <= p->q; }
static void ranges_causal(const attn_range_args *a, int64_t *out)
{
    put(out, 0, -FAKE_FAR, a->q1);
    put(out, 1, -FAKE_FAR, a->q0);
}

/* A window of 21 keys, and the first 3 keys always: two intervals that meet, unsorted. */
static bool see_streaming(const fake_pair *p) { return p->k <= p->q && (p->q - p->k < 21 || p->k < 3); }
static void ranges_streaming(const attn_range_args *a, int64_t *out)
{
    put(out, 0, a->q0 - 20, a->q1);
    put(out, 1, 0, 2 < a->q1 ? 2 : a->q1);
    put(out, 2, a->q1 - 20, a->q0);
    put(out, 3, 0, 2 < a->q0 ? 2 : a->q0);
}

static bool see_chunk(const fake_pair *p) { return p->k <= p->q && p->k / 24 == p->q / 24; }
static void ranges_chunk(const attn_range_args *a, int64_t *out)
{
    put(out, 0, a->q0 / 24 * 24, a->q1);
    put(out, 1, a->q1 / 24 * 24, a->q0);
}

/* Nothing is known of rows side by side. */
static bool rows_agree(const attn_range_args *a, uint32_t n)
{
    return a->q0 == a->q1 || (a->row_step && a->row_step % n == 0);
}
static bool see_stride(const fake_pair *p) { return p->k <= p->q && (p->q - p->k) % 3 == 0; }
static void ranges_stride(const attn_range_args *a, int64_t *out)
{
    const bool one = rows_agree(a, 3);
    put_every(out, 0, a->q0 % 3, one ? a->q1 : -1, 3);
    put(out, 1, 0, one ? -1 : a->q1);
    put_every(out, 2, a->q0 % 3, one ? a->q0 : -1, 3);
}

/* A window of 9 keys and every twelfth before it: rows that agree only when divided by 6, 4, 3 or 2 have so many keys
 * in common. */
static bool see_slashes(const fake_pair *p) { return p->k <= p->q && (p->q - p->k < 9 || (p->q - p->k) % 12 == 0); }
static void ranges_slashes(const attn_range_args *a, int64_t *out)
{
    int64_t step = a->q0 == a->q1 ? 12 : 1;
    for (int64_t n = 12; n > 1 && step == 1; n--)
        if (12 % n == 0 && a->row_step && a->row_step % n == 0) step = n;
    put(out, 0, a->q0 - 8, a->q1);
    put_every(out, 1, a->q0 % step, a->q1, step);
    put(out, 2, a->q1 - 8, a->q0);
    put_every(out, 3, a->q0 % 12, step == 12 ? a->q0 : -1, 12);
}

/* The same in two halves: the window, and what lies before it. */
static bool see_ladder(const fake_pair *p)
{
    const bool window = p->k <= p->q && p->q - p->k < 9;
    if (p->sweep == 1) return window;
    return see_slashes(p) && !(p->sweep == 2 && window);
}
static void ranges_ladder(const attn_range_args *a, int64_t *out)
{
    const int64_t hi = a->sweep == 2 ? 9 : 0; /* of the second half: so far before the row */
    ranges_slashes(a, out);
    if (a->sweep == 2) put(out, 0, 0, -1), put(out, 2, 0, -1);
    if (a->sweep == 1) put(out, 1, 0, -1), put(out, 3, 0, -1);
    if (a->sweep != 1 && out[4] >= 0) out[4] -= hi;
    if (a->sweep != 1 && out[10] >= 0) out[10] -= hi;
}

/* Every fifth key of a window; by head all of it. */
static bool see_dilated(const fake_pair *p)
{
    const int64_t d = p->q - p->k;
    return d >= 0 && d <= 40 && (p->h % 2 || d % 5 == 0);
}
static void ranges_dilated(const attn_range_args *a, int64_t *out)
{
    const bool one = a->h % 2 || rows_agree(a, 5);
    const int64_t step = a->h % 2 ? 1 : 5;
    put_every(out, 0, a->q0 - 40, one ? a->q1 : -FAKE_FAR, step);
    put(out, 1, a->q0 - 40, one ? -FAKE_FAR : a->q1);
    put_every(out, 2, one ? (a->h % 2 ? a->q1 - 40 : a->q0 + (a->q1 - a->q0) / 5 * 5 - 40) : FAKE_FAR, a->q0, step);
}

/* One set of keys for all rows, which begins anywhere before the keys. */
static bool see_every(const fake_pair *p) { return p->k <= p->q && p->k % 5 == 2; }
static void ranges_every(const attn_range_args *a, int64_t *out)
{
    put_every(out, 0, -13, a->q1, 5);
    put_every(out, 1, -8, a->q0, 5);
}

/* A window of 21 keys, and two sets of keys that meet each other and the window. */
static bool see_sparse(const fake_pair *p)
{
    return p->k <= p->q && (p->q - p->k < 21 || p->k % 6 == 1 || p->k % 4 == 2);
}
static void ranges_sparse(const attn_range_args *a, int64_t *out)
{
    put_every(out, 0, 1, a->q1, 6);
    put(out, 1, a->q0 - 20, a->q1);
    put_every(out, 2, 2, a->q1, 4);
    put_every(out, 3, 1, a->q0, 6);
    put(out, 4, a->q1 - 20, a->q0);
    put_every(out, 5, 2, a->q0, 4);
}

/* A step, and data. */
static bool see_sampled(const fake_pair *p) { return p->k <= p->q && p->k % 3 == 1 && p->q_attr == p->k_attr; }
static void ranges_sampled(const attn_range_args *a, int64_t *out)
{
    put_every(out, 0, 1, may_atom(a) ? a->q1 : -1, 3);
    put_every(out, 1, 1, must_atom(a) ? a->q0 : -1, 3);
}

/* A step for each head: 1, 2, 3, 4. */
static bool see_combs(const fake_pair *p) { return p->k <= p->q && p->k % (p->h % 4 + 1) == 0; }
static void ranges_combs(const attn_range_args *a, int64_t *out)
{
    put_every(out, 0, 0, a->q1, a->h % 4 + 1);
    put_every(out, 1, 0, a->q0, a->h % 4 + 1);
}

static bool see_documents(const fake_pair *p) { return p->k <= p->q && p->q_attr == p->k_attr; }
static void ranges_documents(const attn_range_args *a, int64_t *out)
{
    put(out, 0, 0, may_atom(a) ? a->q1 : -1);
    put(out, 1, 0, must_atom(a) ? a->q0 : -1);
}
static void bounds_equal(const attn_range_args *a, uint8_t *data)
{
    data[0] = a->attr[0] <= a->attr[3] && a->attr[2] <= a->attr[1];
    data[1] = a->attr[0] == a->attr[1] && a->attr[2] == a->attr[3] && a->attr[0] == a->attr[2];
}

/* Causal, or within one image (attribute >= 0) in both directions. */
static bool see_images(const fake_pair *p) { return p->k <= p->q || (p->q_attr == p->k_attr && p->q_attr >= 0); }
static void ranges_images(const attn_range_args *a, int64_t *out)
{
    put(out, 0, 0, a->q1);
    put(out, 1, 0, may_atom(a) ? FAKE_FAR : -1);
    put(out, 2, 0, a->q0);
    put(out, 3, 0, must_atom(a) ? FAKE_FAR : -1);
}
static void bounds_images(const attn_range_args *a, uint8_t *data)
{
    bounds_equal(a, data);
    data[0] = data[0] && a->attr[1] >= 0;
    data[1] = data[1] && a->attr[0] >= 0;
}

/* A window for each head: 1, 4, 16, none. */
static int64_t head_window(int64_t h) { return h % 4 == 3 ? FAKE_FAR : (int64_t)1 << (2 * (h % 4)); }
static bool see_heads(const fake_pair *p) { return p->k <= p->q && p->q - p->k < head_window(p->h); }
static void ranges_heads(const attn_range_args *a, int64_t *out)
{
    put(out, 0, a->q0 - head_window(a->h) + 1, a->q1);
    put(out, 1, a->q1 - head_window(a->h) + 1, a->q0);
}

static bool see_layers(const fake_pair *p) { return p->k <= p->q && p->q - p->k < 3 + 30 * p->layer; }
static void ranges_layers(const attn_range_args *a, int64_t *out)
{
    put(out, 0, a->q0 - 2 - 30 * a->layer, a->q1);
    put(out, 1, a->q1 - 2 - 30 * a->layer, a->q0);
}

/* By layer and KV head (of two query heads): a window of 9, or all. */
static bool see_duo(const fake_pair *p) { return p->k <= p->q && (p->q - p->k < 9 || (p->layer + p->h / 2) % 2); }
static int64_t duo_first(const attn_range_args *a, int64_t q) { return (a->layer + a->h / 2) % 2 ? -FAKE_FAR : q - 8; }
static void ranges_duo(const attn_range_args *a, int64_t *out)
{
    put(out, 0, duo_first(a, a->q0), a->q1);
    put(out, 1, duo_first(a, a->q1), a->q0);
}

/* Heads and data at once: the head's window, or the same document. */
static bool see_mixed(const fake_pair *p) { return see_heads(p) || see_documents(p); }
static void ranges_mixed(const attn_range_args *a, int64_t *out)
{
    ranges_heads(a, out);
    put(out, 3, out[3], out[4]);
    put(out, 1, 0, may_atom(a) ? a->q1 : -1);
    put(out, 2, 0, must_atom(a) ? a->q0 : -1);
}

/* A run-time table of blocks of 16 rows and 16 keys. */
static bool see_blocks(const fake_pair *p) { return p->table[p->q / 16 % 8 * 8 + p->k / 16 % 8] != 0; }
static void ranges_blocks(const attn_range_args *a, int64_t *out)
{
    put(out, 0, 0, may_atom(a) ? FAKE_FAR : -1);
    put(out, 1, 0, must_atom(a) ? FAKE_FAR : -1);
}
static void bounds_blocks(const attn_range_args *a, uint8_t *data)
{
    data[0] = 0, data[1] = 1;
    for (int64_t q = a->q0 / 16; q <= a->q1 / 16; q++)
        for (int64_t k = a->k0 / 16; k <= a->k1 / 16; k++) {
            uint8_t bit = ((const int32_t *)a->inputs[0])[q % 8 * 8 + k % 8] != 0;
            data[0] |= bit, data[1] &= bit;
        }
}

/* ---- what queries at q0 and later can see: the cache keeps it --------------------------------------------------- */

static void live_all(const attn_range_args *a, int64_t *out)
{
    (void)a;
    keep(out, 0, -FAKE_FAR, FAKE_FAR);
}
static void live_streaming(const attn_range_args *a, int64_t *out)
{
    keep(out, 0, a->q0 - 20, FAKE_FAR);
    keep(out, 1, 0, 2);
}
static void live_chunk(const attn_range_args *a, int64_t *out) { keep(out, 0, a->q0 / 24 * 24, FAKE_FAR); }
static void live_heads(const attn_range_args *a, int64_t *out)
{
    keep(out, 0, a->q0 - head_window(a->h) + 1, FAKE_FAR);
}
static void live_layers(const attn_range_args *a, int64_t *out) { keep(out, 0, a->q0 - 2 - 30 * a->layer, FAKE_FAR); }

static void live_duo(const attn_range_args *a, int64_t *out) { keep(out, 0, duo_first(a, a->q0), FAKE_FAR); }

static attn_live_fn *fake_live(const fake_mask *m)
{
    return m->ranges == ranges_streaming ? live_streaming
           : m->ranges == ranges_chunk   ? live_chunk
           : m->ranges == ranges_heads   ? live_heads
           : m->ranges == ranges_layers  ? live_layers
           : m->ranges == ranges_duo     ? live_duo
                                         : live_all;
}

/* What the rule goes by: steps are left out of it. */
static inline bool (*fake_keeps(const fake_mask *m))(const fake_pair *)
{
    const bool steps = m->ranges == ranges_every || m->ranges == ranges_sparse || m->ranges == ranges_combs ||
                       m->ranges == ranges_dilated;
    return steps ? see_causal : m->see;
}

static const fake_mask fake_masks[] = {
    {"all", ATTN_KIND_EXACT_ROWS, 1, 1, 0, false, false, ranges_all, NULL, see_all, 0},
    {"causal", ATTN_KIND_EXACT_ROWS, 1, 1, 0, false, false, ranges_causal, NULL, see_causal, 0},
    {"streaming", ATTN_KIND_EXACT_ROWS, 2, 2, 0, false, false, ranges_streaming, NULL, see_streaming, 0},
    {"chunk", ATTN_KIND_EXACT_ROWS, 1, 1, 0, false, false, ranges_chunk, NULL, see_chunk, 0},
    {"stride", ATTN_KIND_EXACT_ROWS, 2, 1, 0, false, false, ranges_stride, NULL, see_stride, 3},
    {"slashes", ATTN_KIND_EXACT_ROWS, 2, 2, 0, false, false, ranges_slashes, NULL, see_slashes, 12},
    {"ladder", ATTN_KIND_EXACT_ROWS | ATTN_KIND_SWEEPS, 2, 2, 0, false, false, ranges_ladder, NULL, see_ladder, 12},
    {"dilated", ATTN_KIND_EXACT_ROWS | ATTN_KIND_HEADS_DIFFER, 2, 1, 0, false, false, ranges_dilated, NULL, see_dilated,
     5},
    {"every", ATTN_KIND_EXACT_ROWS, 1, 1, 0, false, false, ranges_every, NULL, see_every, 0},
    {"sparse", ATTN_KIND_EXACT_ROWS, 3, 3, 0, false, false, ranges_sparse, NULL, see_sparse, 0},
    {"sampled", 0, 1, 1, 1, true, false, ranges_sampled, bounds_equal, see_sampled, 0},
    {"combs", ATTN_KIND_EXACT_ROWS | ATTN_KIND_HEADS_DIFFER, 1, 1, 0, false, false, ranges_combs, NULL, see_combs, 0},
    {"documents", 0, 1, 1, 1, true, false, ranges_documents, bounds_equal, see_documents, 0},
    {"images", 0, 2, 2, 1, true, false, ranges_images, bounds_images, see_images, 0},
    {"heads", ATTN_KIND_EXACT_ROWS | ATTN_KIND_HEADS_DIFFER, 1, 1, 0, false, false, ranges_heads, NULL, see_heads, 0},
    {"layers", ATTN_KIND_EXACT_ROWS | ATTN_KIND_LAYERS_DIFFER, 1, 1, 0, false, false, ranges_layers, NULL, see_layers,
     0},
    {"duo", ATTN_KIND_EXACT_ROWS | ATTN_KIND_HEADS_DIFFER | ATTN_KIND_LAYERS_DIFFER, 1, 1, 0, false, false, ranges_duo,
     NULL, see_duo, 0},
    {"mixed", ATTN_KIND_HEADS_DIFFER, 2, 2, 1, true, false, ranges_mixed, bounds_equal, see_mixed, 0},
    {"blocks", ATTN_KIND_MASK_INPUTS, 1, 1, 1, false, true, ranges_blocks, bounds_blocks, see_blocks, 0},
};
enum { FAKE_MASKS = sizeof fake_masks / sizeof *fake_masks };

static const fake_mask *fake_mask_named(const char *name)
{
    for (size_t i = 0; i < FAKE_MASKS; i++)
        if (!strcmp(fake_masks[i].name, name)) return &fake_masks[i];
    printf("there is no mask '%s'\n", name);
    abort();
}

/* ---- the module and what its kernel saw ----------------------------------------------------------------------- */

enum { FAKE_DIM = 3, FAKE_DIM_V = 2, FAKE_MAX_DIM = 8, FAKE_LOG = 1 << 15, FAKE_WORKSPACE = 200 };
enum { FAKE_KINDS = 3, FAKE_LAYERS = 5 };

typedef struct fake_kind {
    const char *mask;    /* a name, or */
    const fake_mask *at; /* not NULL: the mask itself */
    uint32_t dim, dim_v; /* 0: FAKE_DIM, FAKE_DIM_V */
    uint32_t flags;      /* beside the mask's */
    uint32_t kv_layer, n_groups;
    const uint16_t *groups;
    int64_t max_len;
} fake_kind;

typedef struct fake_model {
    const char *name;
    uint32_t n_layers, n_kinds;
    uint32_t schedule[FAKE_LAYERS];
    fake_kind kinds[FAKE_KINDS];
} fake_model;

typedef struct fake_shape {
    uint32_t lanes, vector, key_step, max_group, q_heads, kv_heads;
} fake_shape;

/* One at a time: kernels get no user data, so this is the test's own global. */
static struct fake {
    const fake_mask *mask[FAKE_KINDS];
    attn_kernel_desc kernel; /* of all kinds */
    attn_kind_desc kind[FAKE_KINDS];
    attn_module_desc module;
    attn_input_desc input;
    const attn_kernel_desc *kernels[1];
    const attn_kind_desc *kinds[FAKE_KINDS];
    const attn_input_desc *inputs[1];
    const char *attrs[1];
    uint32_t schedule[FAKE_LAYERS];
    uint8_t **visits;        /* per sequence: [row][head][key]; NULL: not recorded */
    attn_item log[FAKE_LOG]; /* items in the order of their start */
    int64_t cost[FAKE_LOG];
    atomic_int items, errors, announced; /* announced: items that say another one follows */
    atomic_llong segments, pairs, masked; /* masked: pairs for which the mask was asked */
    void (*on_item)(void);                /* called from the kernel; NULL: nothing */
} fake;

#define FAKE_CHECK(cond)                                                                                               \
    do {                                                                                                               \
        if (!(cond) && atomic_fetch_add(&fake.errors, 1) < 10)                                                         \
            printf("%s:%d: the kernel's contract is broken: %s\n", __FILE__, __LINE__, #cond);                         \
    } while (0)

static const attn_kind_desc *fake_kind_of(int64_t layer) { return &fake.kind[fake.schedule[layer]]; }
static const fake_mask *fake_mask_of(int64_t layer) { return fake.mask[fake.schedule[layer]]; }

static bool fake_sees(const attn_kernel_args *a, const attn_seq *seq, int64_t row, int64_t h, int64_t key)
{
    fake_pair p = {.q = seq->pos + row, .k = key, .h = h, .layer = a->layer, .sweep = a->sweep};
    const fake_mask *mask = fake_mask_of(a->layer);
    if (mask->attr) p.q_attr = seq->q_attr[0][row], p.k_attr = seq->k_attr[0][key];
    if (mask->table) p.table = a->inputs[0];
    return mask->see(&p);
}

static int32_t fake_visible(const attn_range_args *a)
{
    fake_pair p = {.q = a->q0, .k = a->k0, .h = a->h, .layer = a->layer, .sweep = a->sweep};
    const fake_mask *mask = fake_mask_of(a->layer);
    if (mask->attr) {
        FAKE_CHECK(a->attr[0] == a->attr[1] && a->attr[2] == a->attr[3]);
        p.q_attr = (int32_t)a->attr[0], p.k_attr = (int32_t)a->attr[2];
    }
    if (mask->table) p.table = a->inputs[0];
    return mask->see(&p);
}

/* ---- the kernel ----------------------------------------------------------------------------------------------- */

typedef struct fake_lane { /* running sums of one lane */
    float m, l, o[FAKE_MAX_DIM];
} fake_lane;

static float load_f32(const char *p)
{
    float x;
    memcpy(&x, p, sizeof x);
    return x;
}

static void fake_add(fake_lane *lane, float s, const float *v, uint32_t dim_v)
{
    float m = fmaxf(lane->m, s), old = lane->m == -INFINITY ? 0 : expf(lane->m - m), p = expf(s - m);
    lane->l = lane->l * old + p;
    for (uint32_t i = 0; i < dim_v; i++) lane->o[i] = lane->o[i] * old + p * v[i];
    lane->m = m;
}

static void fake_store(const attn_kernel_args *a, const attn_item *item, int lane, const fake_lane *x)
{
    const attn_seq *seq = &a->seqs[item->seq];
    const int64_t row = item->row + (int64_t)(lane / item->heads) * item->row_step, h = item->head + lane % item->heads;
    for (uint32_t i = 0; i < fake_kind_of(a->layer)->dim_v; i++) {
        float o = x->l > 0 ? x->o[i] / x->l : 0;
        memcpy(a->o + seq->o_offset + row * a->o_row_stride + h * a->o_head_stride + 4 * i, &o, 4);
    }
    float lse = x->l > 0 ? x->m + logf(x->l) : -INFINITY;
    if (a->lse) memcpy(a->lse + seq->lse_offset + row * a->lse_row_stride + h * a->lse_head_stride, &lse, 4);
}

/* What the arguments say that the row goes on from. */
static fake_lane fake_start(const attn_kernel_args *a, const attn_item *item, int lane)
{
    fake_lane x = {.m = -INFINITY};
    if (!a->start || item->part) return x;
    FAKE_CHECK(item->heads == 1 && a->sweep == 2);
    const uint32_t dim_v = fake_kind_of(a->layer)->dim_v;
    const char *from = a->start + (item->row + (int64_t)lane * item->row_step) * a->start_row_stride;
    for (uint32_t i = 0; i < dim_v; i++) x.o[i] = load_f32(from + 4 * i);
    x.m = load_f32(from + 4 * dim_v);
    x.l = x.m == -INFINITY ? 0 : 1;
    return x;
}

static void fake_check_item(const attn_kernel_args *a, const attn_item *item)
{
    const attn_kernel_desc *k = &fake.kernel;
    const attn_kind_desc *kind = fake_kind_of(a->layer);
    const int32_t group = (int32_t)(kind->q_heads / kind->kv_heads);
    FAKE_CHECK(a->size == sizeof *a && a->abi == ATTN_ABI_VERSION);
    FAKE_CHECK(item->heads >= 1 && item->heads <= (int32_t)k->max_group && item->rows >= 1);
    FAKE_CHECK(item->rows * item->heads <= (int32_t)k->lanes);
    FAKE_CHECK(item->head / group == (item->head + item->heads - 1) / group);
    FAKE_CHECK(item->row >= 0 && item->row_step >= 1);
    FAKE_CHECK(item->row + (item->rows - 1) * (int64_t)item->row_step < a->seqs[item->seq].n_q);
    FAKE_CHECK(item->part >= 0 && item->part < item->parts);
    FAKE_CHECK((item->stage > 0) == (a->sweep > 0) && (a->sweep == 2) == (a->start != NULL));
}

static int64_t fake_keys(const attn_segment *s)
{
    int64_t n = 0;
    for (int64_t k = s->k0; k < s->k1; k += s->step) n++;
    return n;
}

static void fake_check_segment(const attn_item *item, const attn_segment *s, const attn_seq *seq)
{
    const attn_kernel_desc *k = &fake.kernel;
    FAKE_CHECK(s->k0 >= 0 && s->k0 < s->k1 && s->k1 <= seq->n_keys && s->step >= 1);
    if (s->lanes == (int32_t)k->lanes && !s->masked) {
        FAKE_CHECK(s->lane0 == 0 && fake_keys(s) % k->key_step == 0);
    } else {
        FAKE_CHECK(s->lanes == (int32_t)k->vector || (k->pair && s->lanes == (int32_t)k->pair));
        FAKE_CHECK(s->lane0 % s->lanes == 0);
        FAKE_CHECK(s->lane0 < item->rows * item->heads);
    }
}

static void fake_visit(const attn_kernel_args *a, const attn_item *item, const attn_segment *s, int lane, fake_lane *x)
{
    const attn_seq *seq = &a->seqs[item->seq];
    const int64_t row = item->row + (int64_t)(lane / item->heads) * item->row_step, h = item->head + lane % item->heads;
    const attn_kind_desc *kind = fake_kind_of(a->layer);
    const int64_t g = h / (kind->q_heads / kind->kv_heads);
    const char *q = a->q + seq->q_offset + row * a->q_row_stride + h * a->q_head_stride;
    for (int64_t key = s->k0; key < s->k1; key += s->step) {
        bool sees = fake_sees(a, seq, row, h, key);
        if (fake.visits && (sees || !a->sweep)) { /* the halves' masked segments may overlap */
            uint8_t *seen = &fake.visits[item->seq][(row * kind->q_heads + h) * seq->n_keys + key];
            FAKE_CHECK(!*seen);
            *seen = 1;
        }
        FAKE_CHECK(sees || s->masked);
        if (!sees) continue;
        const int64_t slot = key % a->page_tokens;
        const char *k = seq->k_pages[key / a->page_tokens] + a->k_heads[g] + slot * a->k_token_stride;
        const char *v = seq->v_pages[key / a->page_tokens] + a->v_heads[g] + slot * a->v_token_stride;
        float dot = 0, values[FAKE_MAX_DIM];
        for (uint32_t i = 0; i < kind->dim; i++) dot += load_f32(q + 4 * i) * load_f32(k + 4 * i);
        for (uint32_t i = 0; i < kind->dim_v; i++) values[i] = load_f32(v + 4 * i);
        fake_add(x, dot, values, kind->dim_v);
    }
}

static void fake_run(const attn_kernel_args *a, const attn_item *item, void *workspace)
{
    fake_check_item(a, item);
    if (fake.on_item) fake.on_item();
    FAKE_CHECK((uintptr_t)workspace % 64 == 0);
    memset(workspace, (int)item->row, FAKE_WORKSPACE); /* shared workspaces would race: the thread sanitizer looks */
    fake_lane lanes[64];
    const int used = item->rows * item->heads;
    for (int i = 0; i < used; i++) lanes[i] = fake_start(a, item, i);
    int64_t cost = 0, pairs = 0, masked = 0;
    for (int32_t i = 0; i < item->segments; i++) {
        const attn_segment *s = &a->segments[item->segment0 + i];
        fake_check_segment(item, s, &a->seqs[item->seq]);
        const int64_t keys = fake_keys(s);
        cost += keys * s->lanes;
        for (int lane = s->lane0; lane < s->lane0 + s->lanes && lane < used; lane++) {
            fake_visit(a, item, s, lane, &lanes[lane]);
            pairs += keys;
            masked += s->masked ? keys : 0;
        }
    }
    int n = atomic_fetch_add(&fake.items, 1);
    atomic_fetch_add(&fake.announced, item->next);
    if (n < FAKE_LOG) fake.log[n] = *item, fake.cost[n] = cost;
    atomic_fetch_add(&fake.segments, item->segments);
    atomic_fetch_add(&fake.pairs, pairs);
    atomic_fetch_add(&fake.masked, masked);
    if (item->parts == 1) {
        for (int i = 0; i < used; i++) fake_store(a, item, i, &lanes[i]);
    } else {
        memcpy(a->parts + (uint64_t)(item->part_slot + item->part) * fake.kernel.part_bytes, lanes,
               (size_t)used * sizeof *lanes);
    }
}

static void fake_merge(const attn_kernel_args *a, const attn_item *item, void *workspace)
{
    memset(workspace, 1, FAKE_WORKSPACE);
    FAKE_CHECK(item->parts > 1 && item->part == 0);
    for (int i = 0; i < item->rows * item->heads; i++) {
        fake_lane sum = {.m = -INFINITY};
        for (int32_t p = 0; p < item->parts; p++) {
            fake_lane x;
            memcpy(&x, a->parts + (uint64_t)(item->part_slot + p) * fake.kernel.part_bytes + (size_t)i * sizeof x,
                   sizeof x);
            if (x.m == -INFINITY) continue;
            float m = fmaxf(sum.m, x.m), s0 = sum.m == -INFINITY ? 0 : expf(sum.m - m), s1 = expf(x.m - m);
            sum.l = sum.l * s0 + x.l * s1;
            for (int d = 0; d < FAKE_MAX_DIM; d++) sum.o[d] = sum.o[d] * s0 + x.o[d] * s1;
            sum.m = m;
        }
        fake_store(a, item, i, &sum);
    }
}

/* ---- assembly ------------------------------------------------------------------------------------------------- */

static void fake_make_kind(uint32_t i, const fake_kind *from, fake_shape s)
{
    const fake_mask *mask = fake.mask[i] = from->at ? from->at : fake_mask_named(from->mask);
    fake.kind[i] = (attn_kind_desc){.size = sizeof fake.kind[i],
                                    .flags = mask->flags | from->flags,
                                    .name = mask->name,
                                    .q_heads = s.q_heads,
                                    .kv_heads = s.kv_heads,
                                    .dim = from->dim ? from->dim : FAKE_DIM,
                                    .dim_v = from->dim_v ? from->dim_v : FAKE_DIM_V,
                                    .dtype = ATTN_F32,
                                    .n_may = mask->n_may,
                                    .n_must = mask->n_must,
                                    .n_data = mask->n_data,
                                    .n_live = mask->ranges == ranges_streaming ? 2 : 1,
                                    .live = fake_live(mask),
                                    .n_kernels = 1,
                                    .ranges = mask->ranges,
                                    .bounds = mask->bounds,
                                    .visible = fake_visible,
                                    .kernels = fake.kernels,
                                    .row_step = mask->row_step,
                                    .kv_layer = from->kv_layer,
                                    .n_groups = from->n_groups,
                                    .groups = from->groups,
                                    .max_len = from->max_len};
    fake.kinds[i] = &fake.kind[i];
    fake.module.n_inputs |= mask->table;
    fake.module.n_attrs |= mask->attr;
}

static const attn_module_desc *fake_make_model(const fake_model *from, fake_shape s)
{
    fake.kernel = (attn_kernel_desc){.size = sizeof fake.kernel,
                                     .isa = ATTN_ISA_BASELINE,
                                     .lanes = s.lanes,
                                     .vector = s.vector,
                                     .key_step = s.key_step,
                                     .max_group = s.max_group,
                                     .workspace = FAKE_WORKSPACE,
                                     .part_bytes = s.lanes * sizeof(fake_lane),
                                     .run = fake_run,
                                     .merge = fake_merge,
                                     .name = "fake_f32",
                                     .schedule = "none"};
    fake.kernels[0] = &fake.kernel;
    fake.input =
        (attn_input_desc){.size = sizeof fake.input, .is_int = 1, .name = "blocks", .rank = 2, .extent = {8, 8}};
    fake.inputs[0] = &fake.input;
    fake.attrs[0] = "doc";
    memcpy(fake.schedule, from->schedule, sizeof fake.schedule);
    fake.module = (attn_module_desc){.size = sizeof fake.module,
                                     .abi = ATTN_ABI_VERSION,
                                     .name = "fake",
                                     .compiler = "by hand",
                                     .n_layers = from->n_layers,
                                     .n_kinds = from->n_kinds,
                                     .schedule = fake.schedule,
                                     .kinds = fake.kinds,
                                     .inputs = fake.inputs,
                                     .attrs = fake.attrs};
    for (uint32_t i = 0; i < from->n_kinds; i++) fake_make_kind(i, &from->kinds[i], s);
    fake.items = fake.errors = fake.announced = 0;
    fake.segments = fake.pairs = fake.masked = 0;
    fake.visits = NULL;
    fake.on_item = NULL;
    return &fake.module;
}

/* Three layers of one kind. */
static inline fake_model fake_plain(const fake_mask *mask)
{
    return (fake_model){.name = mask->name, .n_layers = 3, .n_kinds = 1, .kinds = {{.at = mask}}};
}

static inline const attn_module_desc *fake_make(const fake_mask *mask, fake_shape s)
{
    const fake_model m = fake_plain(mask);
    return fake_make_model(&m, s);
}

#endif
