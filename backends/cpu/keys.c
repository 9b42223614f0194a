/* keys.c - where the keys of a block lie: tables of the addresses of their rows, made once per block; rows converted to f32. */
#include "backends/cpu/kernel_gen.h"

bool keys_are_converted(const kgen *x) { return x->convert && !x->dot; }

static source source_of(kgen *x, Val seq, unsigned pages, unsigned heads, unsigned stride, Val kv_head)
{
    gen *g = x->g;
    Val first = load(g, g->i64, at(g, g->i64, arg_field(x, heads), kv_head), 8);
    Val row = arg_field(x, stride);
    return (source){.pages = field(g, g->seq_type, seq, pages), .offset = first, .stride = row, .pace = row};
}

segment keys_open(kgen *x, Val seq, Val head)
{
    gen *g = x->g;
    int64_t group = x->k->shape.q_heads / x->k->shape.kv_heads;
    Val kv_head = LLVMBuildUDiv(g->b, head, c64(g, group), "");
    segment s = {.page = arg_field(x, ARG_page_tokens), .step = c64(g, 1)};
    s.k = source_of(x, seq, SEQ_k_pages, ARG_k_heads, ARG_k_token_stride, kv_head);
    s.v = source_of(x, seq, SEQ_v_pages, ARG_v_heads, ARG_v_token_stride, kv_head);
    s.k.table = keys_are_converted(x) ? x->stored_keys : x->key_ptr;
    s.v.table = x->convert ? x->stored_values : x->value_ptr;
    return s;
}

void keys_set_step(kgen *x, segment *s, Val step)
{
    s->step = step;
    s->k.pace = mul(x->g, s->k.stride, step);
    s->v.pace = mul(x->g, s->v.stride, step);
}

/* Without a division where every key is visited, which nearly all segments do. */
Val keys_divided_up(kgen *x, Val n, Val step)
{
    gen *g = x->g;
    Block every = here(g), some = block(g), done = block(g);
    branch(g, LLVMBuildICmp(g->b, LLVMIntEQ, step, c64(g, 1), ""), done, some);
    go(g, some);
    Val quotient = LLVMBuildUDiv(g->b, add(g, n, sub(g, step, c64(g, 1))), step, "");
    jump(g, done);
    go(g, done);
    Val phi = LLVMBuildPhi(g->b, g->i64, "");
    LLVMAddIncoming(phi, (Val[]){n, quotient}, (Block[]){every, some}, 2);
    return phi;
}

key_walk keys_of_segment(kgen *x, Val at_segment)
{
    gen *g = x->g;
    Val k0 = field(g, g->segment_type, at_segment, SEG_k0), step = field(g, g->segment_type, at_segment, SEG_step);
    return (key_walk){k0, keys_divided_up(x, sub(g, field(g, g->segment_type, at_segment, SEG_k1), k0), step), step};
}

Val keys_position(kgen *x, Val n0, Val slot, Val step) { return add(x->g, n0, mul(x->g, slot, step)); }

Val keys_of_page(kgen *x, const segment *s, Val offset, Val n)
{
    return smin(x->g, keys_divided_up(x, sub(x->g, s->page, offset), s->step), n);
}

/* Steps longer than a page leave some out. */
void keys_next_page(kgen *x, const segment *s, Val run, Val *page, Val *offset)
{
    gen *g = x->g;
    Val next[2] = {add(g, *page, c64(g, 1)), sub(g, add(g, *offset, mul(g, run, s->step)), s->page)};
    Block near = here(g), far = block(g), done = block(g);
    branch(g, less(g, next[1], s->page), done, far);
    go(g, far);
    Val beyond[2] = {add(g, next[0], LLVMBuildUDiv(g->b, next[1], s->page, "")), LLVMBuildURem(g->b, next[1], s->page, "")};
    jump(g, done);
    go(g, done);
    for (int i = 0; i < 2; i++) {
        Val phi = LLVMBuildPhi(g->b, g->i64, "");
        LLVMAddIncoming(phi, (Val[]){next[i], beyond[i]}, (Block[]){near, far}, 2);
        *(i ? offset : page) = phi;
    }
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

/* A stored row becomes `dim` floats. */
static void convert_row(kgen *x, Val from, Val to, int64_t dim, bool values)
{
    gen *g = x->g;
    loop l;
    int64_t whole = dim / x->vector * x->vector;
    for (int tail = 0; tail < 2; tail++) {
        uint32_t n = tail ? 1 : x->vector;
        int64_t begin = tail ? whole : 0, end = tail ? dim : whole;
        if (begin == end) continue;
        Val d = loop_begin(g, &l, c64(g, begin), NULL, 0);
        Val v = keys_row_elements(x, byte_at(g, from, mul(g, d, c64(g, x->quant ? 1 : 2))), n);
        if (x->quant) v = LLVMBuildFMul(g->b, v, splat(g, keys_row_scale(x, from, d, values), n), "");
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

static void place_row(kgen *x, const source *s, Val row, Val slot) { store(x->g, row, at(x->g, x->g->ptr, ws_at(x, s->table), slot), 8); }

Val keys_stored_row(kgen *x, uint64_t list, Val slot) { return load(x->g, x->g->ptr, at(x->g, x->g->ptr, ws_at(x, list), slot), 8); }

void keys_convert_key(kgen *x, Val slot)
{
    Val to = ws_float(x, x->key_panel, mul(x->g, slot, c64(x->g, x->dim)));
    convert_row(x, keys_stored_row(x, x->stored_keys, slot), to, x->dim, false);
}

void keys_convert_value(kgen *x, Val slot)
{
    Val to = ws_float(x, x->value_panel, mul(x->g, slot, c64(x->g, x->value_stride)));
    convert_row(x, keys_stored_row(x, x->stored_values, slot), to, x->dim_v, true);
}

/* Keys first .. first + n - 1 of the block lie in one page, from its `offset` on. */
static void place_run(kgen *x, const segment *s, Val page, Val offset, Val first, Val n)
{
    gen *g = x->g;
    loop l;
    Val row[] = {keys_row(x, &s->k, page, offset), keys_row(x, &s->v, page, offset)};
    Val slot = loop_begin(g, &l, first, row, 2);
    place_row(x, &s->k, row[0], slot);
    place_row(x, &s->v, row[1], slot);
    row[0] = byte_at(g, row[0], s->k.pace);
    row[1] = byte_at(g, row[1], s->v.pace);
    loop_end(g, &l, c64(g, 1), add(g, first, n));
}

void keys_find_page(kgen *x, const segment *s, Val key, Val at[2])
{
    at[0] = LLVMBuildUDiv(x->g->b, key, s->page, "");
    at[1] = LLVMBuildURem(x->g->b, key, s->page, "");
}

/* A register tile's rest, up to slot `padded`, repeats the last row: what it gives is masked. */
static void repeat_last(kgen *x, const segment *s, Val n0, Val n, Val padded)
{
    gen *g = x->g;
    guarded l;
    Val slot = guarded_begin(g, &l, n, padded), last = keys_position(x, n0, sub(g, n, c64(g, 1)), s->step), in[2];
    keys_find_page(x, s, last, in);
    place_row(x, &s->k, keys_row(x, &s->k, in[0], in[1]), slot);
    place_row(x, &s->v, keys_row(x, &s->v, in[0], in[1]), slot);
    guarded_end(g, &l, c64(g, 1));
}

/* The rows of V of a block, which are f32, into the panel. */
void keys_write_gather(kgen *x)
{
    gen *g = x->g;
    loop l;
    const int64_t W = x->vector;
    Val slot = loop_begin(g, &l, c64(g, 0), NULL, 0), entry = at(g, g->ptr, ws_at(x, x->value_ptr), slot), from = load(g, g->ptr, entry, 8);
    Val to = ws_float(x, x->value_panel, mul(g, slot, c64(g, x->value_stride)));
    for (int64_t d = 0, n; d < x->dim_v; d += n) {
        n = x->dim_v - d >= W ? W : 1;
        store(g, load(g, vector_of(g->f32, (uint32_t)n), at(g, g->f32, from, c64(g, d)), 4), at(g, g->f32, to, c64(g, d)), 4);
    }
    store(g, to, entry, 8);
    loop_end(g, &l, c64(g, 1), LLVMGetParam(g->fn, 4));
}

void keys_gather_values(kgen *x, key_walk keys, int64_t far)
{
    gen *g = x->g;
    if (x->convert) return;
    Block apart = block(g), done = block(g);
    branch(g, less(g, c64(g, far - 1), mul(g, x->value_step, keys.step)), apart, done);
    go(g, apart);
    shared_call_keys(x, SHARED_gather, keys, keys.n);
    jump(g, done);
    go(g, done);
}

void keys_place(kgen *x, const segment *s, Val n0, Val n, Val slot)
{
    gen *g = x->g;
    loop l;
    Val carried[2];
    keys_find_page(x, s, n0, carried);
    Val i = loop_begin(g, &l, c64(g, 0), carried, 2), page = carried[0], offset = carried[1];
    Val run = keys_of_page(x, s, offset, sub(g, n, i));
    place_run(x, s, page, offset, add(g, slot, i), run);
    keys_next_page(x, s, run, &page, &offset);
    carried[0] = page;
    carried[1] = offset;
    loop_end(g, &l, run, n);
}

void keys_write_block(kgen *x)
{
    gen *g = x->g;
    Val k0 = LLVMGetParam(g->fn, 3), n = LLVMGetParam(g->fn, 4), padded = LLVMGetParam(g->fn, 6);
    segment s = keys_open(x, x->seq, item_field(x, ITEM_head));
    keys_set_step(x, &s, LLVMGetParam(g->fn, 5));
    keys_place(x, &s, k0, n, c64(g, 0));
    repeat_last(x, &s, k0, n, padded);
}

/* Converted rows always lie in the panels. */
void keys_point_to_panels(kgen *x)
{
    gen *g = x->g;
    loop l;
    if (!keys_are_converted(x)) return;
    Val i = loop_begin(g, &l, c64(g, 0), NULL, 0);
    store(g, at(g, g->f32, ws_at(x, x->key_panel), mul(g, i, c64(g, x->dim))), at(g, g->ptr, ws_at(x, x->key_ptr), i), 8);
    store(g, at(g, g->f32, ws_at(x, x->value_panel), mul(g, i, c64(g, x->value_stride))), at(g, g->ptr, ws_at(x, x->value_ptr), i), 8);
    loop_end(g, &l, c64(g, 1), c64(g, x->block_keys + x->slack));
}
