/* keys.c - where the keys of a block lie: tables of the addresses of their rows, made once per block, or their rows converted to f32. */
#include "backends/cpu/kernel_gen.h"

static source source_of(kgen *x, unsigned pages, unsigned heads, unsigned stride, Val kv_head)
{
    gen *g = x->g;
    Val first = load(g, g->i64, at(g, g->i64, arg_field(x, heads), kv_head), 8);
    return (source){.pages = field(g, g->seq_type, x->seq, pages), .offset = first, .stride = arg_field(x, stride)};
}

segment keys_open(kgen *x)
{
    gen *g = x->g;
    int64_t group = x->k->shape.q_heads / x->k->shape.kv_heads;
    Val kv_head = LLVMBuildUDiv(g->b, item_field(x, ITEM_head), c64(g, group), "");
    segment s = {.page = arg_field(x, ARG_page_tokens)};
    s.k = source_of(x, SEQ_k_pages, ARG_k_heads, ARG_k_token_stride, kv_head);
    s.v = source_of(x, SEQ_v_pages, ARG_v_heads, ARG_v_token_stride, kv_head);
    s.k.table = x->key_ptr, s.k.panel = x->key_panel, s.k.dim = s.k.panel_stride = x->dim;
    s.v.table = x->value_ptr, s.v.panel = x->value_panel, s.v.dim = x->dim_v, s.v.panel_stride = x->value_stride;
    s.k.convert = x->convert && !x->dot, s.v.convert = x->convert, s.v.values = true;
    return s;
}

/* ---- what a row consists of -------------------------------------------------------------------------------------------------------- */

static const pattern *pattern_of(const kgen *x) { return x->g->ir->patterns.at[x->k->pattern]; }

/* Elements of the stored row: values that are keys lie in rows of keys. */
static int64_t stored_elements(const kgen *x, bool values) { return values && !pattern_of(x)->k_is_v ? x->dim_v : x->dim; }

int64_t keys_row_bytes(const kgen *x, bool values) { return kv_row_bytes(&x->k->shape, stored_elements(x, values)); }

Val keys_row_elements(kgen *x, Val p, uint32_t n)
{
    gen *g = x->g;
    if (x->quant) return LLVMBuildSIToFP(g->b, LLVMBuildSExt(g->b, load(g, vector_of(g->i8, n), p, 1), vector_of(g->i32, n), ""),
                                         vector_of(g->f32, n), "");
    if (!x->half) return load(g, vector_of(g->f32, n), p, 4);
    return half_to_float(g, load(g, vector_of(g->i16, n), p, 2), x->k->shape.type);
}

bool keys_fold_scales(const kgen *x) { return x->quant && !x->k->shape.kv_group; }

Val keys_row_scale(kgen *x, Val row, Val d, bool values)
{
    gen *g = x->g;
    const int64_t n = stored_elements(x, values), group = x->k->shape.kv_group;
    Val scales = byte_at(g, row, c64(g, n));
    if (group) scales = at(g, g->f32, scales, LLVMBuildUDiv(g->b, d, c64(g, group), ""));
    return load(g, g->f32, scales, 1);
}

static void convert_row(kgen *x, const source *s, Val from, Val slot)
{
    gen *g = x->g;
    loop l;
    Val to = at(g, g->f32, ws_at(x, s->panel), mul(g, slot, c64(g, s->panel_stride)));
    int64_t whole = s->dim / x->vector * x->vector;
    for (int tail = 0; tail < 2; tail++) {
        uint32_t n = tail ? 1 : x->vector;
        int64_t begin = tail ? whole : 0, end = tail ? s->dim : whole;
        if (begin == end) continue;
        Val d = loop_begin(g, &l, c64(g, begin), NULL, 0);
        Val v = keys_row_elements(x, byte_at(g, from, mul(g, d, c64(g, x->quant ? 1 : 2))), n);
        if (x->quant) v = LLVMBuildFMul(g->b, v, splat(g, keys_row_scale(x, from, d, s->values), n), "");
        store(g, v, at(g, g->f32, to, d), 4);
        loop_end(g, &l, c64(g, n), c64(g, end));
    }
}

Val keys_pair_at(kgen *x, Val pair, Val d)
{
    return at(x->g, x->g->i32, ws_at(x, x->value_panel), add(x->g, mul(x->g, pair, c64(x->g, x->value_stride)), d));
}

static void convert_pair(kgen *x, Val even, Val odd, Val pair)
{
    gen *g = x->g;
    uint32_t n = 2 * x->vector;
    int64_t d = 0;
    for (; d + n <= x->dim_v; d += n) {
        Val a = load(g, vector_of(g->i16, n), at(g, g->i16, even, c64(g, d)), 2);
        Val b = load(g, vector_of(g->i16, n), at(g, g->i16, odd, c64(g, d)), 2);
        for (uint32_t half = 0; half < 2; half++) store(g, interleave(g, a, b, half), keys_pair_at(x, pair, c64(g, d + half * x->vector)), 4);
    }
    for (; d < x->dim_v; d++) {
        Val to = keys_pair_at(x, pair, c64(g, d));
        store(g, load(g, g->i16, at(g, g->i16, even, c64(g, d)), 2), to, 2);
        store(g, load(g, g->i16, at(g, g->i16, odd, c64(g, d)), 2), byte_at(g, to, c64(g, 2)), 2);
    }
}

Val keys_row(kgen *x, const source *s, Val page, Val offset)
{
    gen *g = x->g;
    Val base = load(g, g->ptr, at(g, g->ptr, s->pages, page), 8);
    return byte_at(g, base, add(g, s->offset, mul(g, offset, s->stride)));
}

static void place_row(kgen *x, const source *s, Val row, Val slot)
{
    gen *g = x->g;
    if (s->convert) convert_row(x, s, row, slot);
    else store(g, row, at(g, g->ptr, ws_at(x, s->table), slot), 8);
}

void keys_pair_values(kgen *x, Val n)
{
    gen *g = x->g;
    loop l;
    Val slot = loop_begin(g, &l, c64(g, 0), NULL, 0), row[2];
    for (int i = 0; i < 2; i++) row[i] = load(g, g->ptr, at(g, g->ptr, ws_at(x, x->pair_ptr), add(g, slot, c64(g, i))), 8);
    convert_pair(x, row[0], row[1], LLVMBuildUDiv(g->b, slot, c64(g, 2), ""));
    loop_end(g, &l, c64(g, 2), n);
}

/* Keys first .. first + n - 1 of the block lie one behind the other, from a page's `offset`. */
static void place_run(kgen *x, const segment *s, Val page, Val offset, Val first, Val n)
{
    gen *g = x->g;
    loop l;
    Val row[] = {keys_row(x, &s->k, page, offset), keys_row(x, &s->v, page, offset)};
    Val slot = loop_begin(g, &l, first, row, 2);
    place_row(x, &s->k, row[0], slot);
    place_row(x, &s->v, row[1], slot);
    row[0] = byte_at(g, row[0], s->k.stride);
    row[1] = byte_at(g, row[1], s->v.stride);
    loop_end(g, &l, c64(g, 1), add(g, first, n));
}

void keys_repeat_last(kgen *x, const segment *s, Val n0, Val n, Val padded)
{
    gen *g = x->g;
    guarded l;
    Val slot = guarded_begin(g, &l, n, padded), last = add(g, n0, sub(g, n, c64(g, 1)));
    Val page = LLVMBuildUDiv(g->b, last, s->page, ""), offset = LLVMBuildURem(g->b, last, s->page, "");
    place_row(x, &s->k, keys_row(x, &s->k, page, offset), slot);
    place_row(x, &s->v, keys_row(x, &s->v, page, offset), slot);
    guarded_end(g, &l, c64(g, 1));
}

void keys_place(kgen *x, const segment *s, Val n0, Val n)
{
    gen *g = x->g;
    loop l;
    Val carried[2] = {LLVMBuildUDiv(g->b, n0, s->page, ""), LLVMBuildURem(g->b, n0, s->page, "")};
    Val i = loop_begin(g, &l, c64(g, 0), carried, 2), page = carried[0], offset = carried[1];
    Val run = smin(g, sub(g, s->page, offset), sub(g, n, i));
    place_run(x, s, page, offset, i, run);
    carried[0] = add(g, page, c64(g, 1));
    carried[1] = c64(g, 0);
    loop_end(g, &l, run, n);
}

/* Converted rows always lie in the panels. */
void keys_point_to_panels(kgen *x)
{
    gen *g = x->g;
    loop l;
    if (!x->convert) return;
    Val i = loop_begin(g, &l, c64(g, 0), NULL, 0);
    if (!x->dot)
        store(g, at(g, g->f32, ws_at(x, x->key_panel), mul(g, i, c64(g, x->dim))), at(g, g->ptr, ws_at(x, x->key_ptr), i), 8);
    store(g, at(g, g->f32, ws_at(x, x->value_panel), mul(g, i, c64(g, x->value_stride))), at(g, g->ptr, ws_at(x, x->value_ptr), i), 8);
    loop_end(g, &l, c64(g, 1), c64(g, x->block_keys + x->slack));
}
