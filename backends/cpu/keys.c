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

Val keys_row(kgen *x, const source *s, Val page, Val offset)
{
    gen *g = x->g;
    Val base = load(g, g->ptr, at(g, g->ptr, s->pages, page), 8);
    return byte_at(g, base, add(g, s->offset, mul(g, offset, s->stride)));
}

static void place_row(kgen *x, const source *s, Val page, Val offset, Val slot)
{
    gen *g = x->g;
    Val row = keys_row(x, s, page, offset);
    if (s->convert) convert_row(x, s, row, slot);
    else store(g, row, at(g, g->ptr, ws_at(x, s->table), slot), 8);
}

/* Row by row over page borders. Rows behind the last (a register tile's rest) repeat it: what they give is masked. */
void keys_place(kgen *x, const segment *s, Val n0, Val n, Val padded)
{
    gen *g = x->g;
    loop l;
    Val last = sub(g, n, c64(g, 1)), one = c64(g, 1);
    Val carried[2] = {LLVMBuildUDiv(g->b, n0, s->page, ""), LLVMBuildURem(g->b, n0, s->page, "")};
    Val i = loop_begin(g, &l, c64(g, 0), carried, 2), page = carried[0], offset = carried[1];
    place_row(x, &s->k, page, offset, i);
    place_row(x, &s->v, page, offset, i);
    Val next = add(g, offset, one), wraps = LLVMBuildICmp(g->b, LLVMIntEQ, next, s->page, "");
    Val stays = LLVMBuildNot(g->b, less(g, i, last), "");
    carried[0] = select_of(g, stays, page, select_of(g, wraps, add(g, page, one), page));
    carried[1] = select_of(g, stays, offset, select_of(g, wraps, c64(g, 0), next));
    loop_end(g, &l, one, padded);
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
