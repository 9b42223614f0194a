/* rows.c - a tile's lanes: where their rows lie, queries transposed with their factor, the start and the end of a row. */
#include "backends/cpu/kernel_gen.h"

#include <math.h>

#define LOG2_E 1.4426950408889634

static Val seq_field(kgen *x, unsigned index) { return field(x->g, x->g->seq_type, x->seq, index); }

/* Of n elements those that from() says: of a, or behind them of c. */
static Val shuffled(kgen *x, Val a, Val c, uint32_t (*from)(uint32_t e, uint32_t n, bool upper), bool upper)
{
    Val pick[16];
    for (uint32_t e = 0; e < x->vector; e++) pick[e] = c32(x->g, from(e, x->vector, upper));
    return LLVMBuildShuffleVector(x->g->b, a, c, LLVMConstVector(pick, x->vector), "");
}

/* In each quarter of 4 elements: a0 c0 a1 c1, upper: a2 c2 a3 c3. */
static uint32_t singles(uint32_t e, uint32_t n, bool upper) { return (e & ~3u) + (e & 3u) / 2 + (upper ? 2 : 0) + (e % 2 ? n : 0); }
/* a0 a1 c0 c1, upper: a2 a3 c2 c3. */
static uint32_t doubles(uint32_t e, uint32_t n, bool upper) { return (e & ~3u) + e % 2 + (upper ? 2 : 0) + (e & 2 ? n : 0); }
/* Quarters, every second one of a, then of c: from the first, upper: from the second. */
static uint32_t quarters(uint32_t e, uint32_t n, bool upper)
{
    const uint32_t q = n / 4 < 2 ? 1 : n / 4, to = e / 4, half = q / 2;
    return (to % half * 2 + (upper ? 1 : 0)) * 4 + e % 4 + (to >= half ? n : 0);
}

/* vector x vector transpose in log2(vector) rounds, of shuffles that have instructions of their own: two rounds within quarters, the
 * others of quarters. */
static void transpose(kgen *x, Val *v)
{
    const uint32_t W = x->vector;
    Val t[16];
    for (uint32_t i = 0; i < W; i += 2)
        for (uint32_t up = 0; up < 2; up++) t[i + up] = shuffled(x, v[i], v[i + 1], singles, up);
    for (uint32_t i = 0; i < W; i += 4)
        for (uint32_t j = 0; j < 4; j++) v[i + j] = shuffled(x, t[i + j / 2], t[i + 2 + j / 2], doubles, j % 2);
    for (uint32_t rows = 4; rows < W; rows *= 2) { /* v[i]: quarters of `rows` rows */
        for (uint32_t i = 0; i < W; i++) t[i] = v[i];
        for (uint32_t i = 0; i < W; i += 2 * rows)
            for (uint32_t j = 0; j < rows; j++)
                for (uint32_t up = 0; up < 2; up++) v[i + (j / 4 + up * rows / 4) * 4 + j % 4] = shuffled(x, t[i + j], t[i + rows + j], quarters, up);
    }
}

/* ---- tables of the lanes -------------------------------------------------------------------------------------------------------- */

static rows_of rows_open(kgen *x, unsigned base, Val offset, unsigned row_stride, unsigned head_stride)
{
    return (rows_of){byte_at(x->g, arg_field(x, base), offset), arg_field(x, row_stride), arg_field(x, head_stride)};
}

Val rows_address(kgen *x, const rows_of *t, Val row, Val head)
{
    gen *g = x->g;
    return byte_at(g, t->first, add(g, mul(g, row, t->stride), mul(g, head, t->head_stride)));
}

rows_of rows_queries(kgen *x, Val seq)
{
    return rows_open(x, ARG_q, field(x->g, x->g->seq_type, seq, SEQ_q_offset), ARG_q_row_stride, ARG_q_head_stride);
}

static void store_lane_int(kgen *x, Val v, uint64_t offset, Val lane)
{
    gen *g = x->g;
    if (!x->wide_ints) v = LLVMBuildTrunc(g->b, v, g->i32, "");
    store(g, v, at(g, x->wide_ints ? g->i64 : g->i32, ws_at(x, offset), lane), x->wide_ints ? 8 : 4);
}

Val rows_pointer(kgen *x, uint64_t list, Val lane) { return load(x->g, x->g->ptr, at(x->g, x->g->ptr, ws_at(x, list), lane), 8); }

/* Asks for a row of Q. */
static void fetch_query(kgen *x, Val row)
{
    prefetch_bytes(x->g, row, x->dim * (x->half ? 2 : 4), 2);
}

typedef struct setup { /* what all lanes share: nothing moves it out of the loop */
    rows_of q, o, lse;
    Val heads, row_step, last, spare, no_lse, pos, *attr;
} setup;

static setup setup_open(kgen *x)
{
    gen *g = x->g;
    const uint32_t attrs = (uint32_t)g->ir->symbols.attrs.n;
    setup s = {.q = rows_queries(x, x->seq),
               .o = rows_open(x, ARG_o, seq_field(x, SEQ_o_offset), ARG_o_row_stride, ARG_o_head_stride),
               .lse = rows_open(x, ARG_lse, seq_field(x, SEQ_lse_offset), ARG_lse_row_stride, ARG_lse_head_stride),
               .heads = item_field(x, ITEM_heads),
               .row_step = item_field(x, ITEM_row_step),
               .last = sub(g, x->in_use, c64(g, 1)),
               .spare = ws_at(x, x->spare_row),
               .no_lse = LLVMBuildIsNull(g->b, arg_field(x, ARG_lse), ""),
               .pos = seq_field(x, SEQ_pos),
               .attr = ARENA_ARRAY(g->arena, Val, attrs + 1)};
    for (uint32_t a = 0; a < attrs; a++) s.attr[a] = load(g, g->ptr, at(g, g->ptr, seq_field(x, SEQ_q_attr), c64(g, a)), 8);
    return s;
}

static void setup_lane(kgen *x, const setup *s, Val i, Val row, Val h)
{
    gen *g = x->g;
    const int64_t group = x->k->shape.q_heads / x->k->shape.kv_heads;
    Val idle = less(g, s->last, i), q = rows_address(x, &s->q, row, h);
    store(g, q, at(g, g->ptr, ws_at(x, x->q_ptr), i), 8);
    store(g, select_of(g, idle, s->spare, rows_address(x, &s->o, row, h)), at(g, g->ptr, ws_at(x, x->o_ptr), i), 8);
    Val to_lse = select_of(g, LLVMBuildOr(g->b, idle, s->no_lse, ""), s->spare, rows_address(x, &s->lse, row, h));
    store(g, to_lse, at(g, g->ptr, ws_at(x, x->lse_ptr), i), 8);
    store_lane_int(x, add(g, s->pos, row), x->lane_q, i);
    store_lane_int(x, h, x->lane_h, i);
    store_lane_int(x, LLVMBuildUDiv(g->b, h, c64(g, group), ""), x->lane_g, i);
    for (uint32_t a = 0; a < g->ir->symbols.attrs.n; a++)
        store_lane_int(x, LLVMBuildSExt(g->b, load(g, g->i32, at(g, g->i32, s->attr[a], row), 4), g->i64, ""), x->lane_attr[a], i);
    fetch_query(x, q);
}

/* Lane i holds the item's row i / heads, head i % heads; lanes behind the last repeat it and store into a spare row. */
void rows_setup(kgen *x)
{
    gen *g = x->g;
    loop l;
    const setup s = setup_open(x);
    Val first = item_field(x, ITEM_head), place[] = {item_field(x, ITEM_row), c64(g, 0)}; /* of the lane: row, head of the item's */
    Val i = loop_begin(g, &l, c64(g, 0), place, 2), row = place[0], in_row = place[1];
    setup_lane(x, &s, i, row, add(g, first, in_row));
    Val next = add(g, in_row, c64(g, 1)), is_last = LLVMBuildNot(g->b, less(g, i, s.last), "");
    Val wraps = LLVMBuildICmp(g->b, LLVMIntEQ, next, s.heads, "");
    place[0] = select_of(g, is_last, row, select_of(g, wraps, add(g, row, s.row_step), row));
    place[1] = select_of(g, is_last, in_row, select_of(g, wraps, c64(g, 0), next));
    loop_end(g, &l, c64(g, 1), x->used);
}

/* ---- queries ---------------------------------------------------------------------------------------------------------------------- */

/* A word of a query: a float from whatever is stored, or a pair of bf16 as it is. */
unsigned rows_word_size(const kgen *x) { return x->half && !x->dot ? 2 : 4; }

Val rows_load_words(kgen *x, Val p, uint32_t n)
{
    gen *g = x->g;
    if (rows_word_size(x) == 4) return load(g, vector_of(g->f32, n), p, x->dot ? 2 : 4);
    return half_to_float(g, load(g, vector_of(g->i16, n), p, 2), x->k->shape.type);
}

Val rows_query_factor(kgen *x) { return x->load_q->e ? values_on_lanes(x, x->load_q->e) : NULL; }

/* Pairs of bf16 stay as they are; their products take the factor. */
static Val query_factor(kgen *x, Val lane)
{
    if (!x->load_q->e || x->dot) return NULL;
    values_load_lanes(x, lane);
    return rows_query_factor(x);
}

typedef struct words { /* of rows, which become dims by lanes in the workspace */
    Val (*load)(kgen *x, Val p, uint32_t n); /* n of them, as floats or what products take */
    unsigned size;                           /* of one in memory */
    int64_t n;
    uint64_t to;
    Val factor; /* NULL: one */
} words;

static void put_words(kgen *x, const words *w, Val v, Val d, Val m)
{
    if (w->factor) v = LLVMBuildFMul(x->g->b, v, w->factor, "");
    store_lanes(x, v, w->to, row_of_lanes(x, d, m));
}

/* One word of each of a vector's rows. */
static Val word_of_rows(kgen *x, const words *w, const Val *base, Val bytes)
{
    gen *g = x->g;
    Val v = LLVMGetPoison(x->vf);
    for (uint32_t i = 0; i < x->vector; i++) v = LLVMBuildInsertElement(g->b, v, w->load(x, byte_at(g, base[i], bytes), 1), c32(g, i), "");
    return v;
}

/* Whole squares by transposing, the words behind them one by one. base: a vector's rows, whose first lane is m. */
static void load_transposed(kgen *x, const words *w, const Val *base, Val m)
{
    gen *g = x->g;
    loop l;
    const uint32_t W = x->vector;
    const int64_t whole = w->n / W * W;
    Val v[16];
    if (whole) {
        Val d = loop_begin(g, &l, c64(g, 0), NULL, 0), bytes = mul(g, d, c64(g, w->size));
        for (uint32_t i = 0; i < W; i++) v[i] = w->load(x, byte_at(g, base[i], bytes), W);
        transpose(x, v);
        for (uint32_t i = 0; i < W; i++) put_words(x, w, v[i], add(g, d, c64(g, i)), m);
        loop_end(g, &l, c64(g, W), c64(g, whole));
    }
    if (whole < w->n) {
        Val d = loop_begin(g, &l, c64(g, whole), NULL, 0), bytes = mul(g, d, c64(g, w->size));
        put_words(x, w, word_of_rows(x, w, base, bytes), d, m);
        loop_end(g, &l, c64(g, 1), c64(g, w->n));
    }
}

void rows_load_queries(kgen *x)
{
    gen *g = x->g;
    loop l;
    Val base[16], m = loop_begin(g, &l, c64(g, 0), NULL, 0);
    const words w = {rows_load_words, rows_word_size(x), x->words, x->queries, query_factor(x, m)};
    for (uint32_t i = 0; i < x->vector; i++) base[i] = rows_pointer(x, x->q_ptr, add(g, m, c64(g, i)));
    load_transposed(x, &w, base, m);
    loop_end(g, &l, c64(g, x->vector), x->used);
}

/* ---- start ------------------------------------------------------------------------------------------------------------------------- */

/* m, l = -inf, 0; with a sink: sink, 1, in the first part of the keys only. */
void rows_init(kgen *x)
{
    gen *g = x->g;
    loop l;
    Val none = constant_like(x->vf, -INFINITY), zero = LLVMConstNull(x->vf), m = none, sum = zero;
    Val lane = loop_begin(g, &l, c64(g, 0), NULL, 0);
    if (x->init->e) {
        values_load_lanes(x, lane);
        Val first = LLVMBuildICmp(g->b, LLVMIntEQ, item_field(x, ITEM_part), c64(g, 0), "");
        m = select_of(g, first, values_on_lanes(x, x->init->e), none);
        sum = select_of(g, LLVMBuildFCmp(g->b, LLVMRealOEQ, m, none, ""), zero, constant_like(x->vf, 1));
    }
    store_lanes(x, m, x->max, lane);
    store_lanes(x, m, x->new_max, lane);
    store_lanes(x, sum, x->sum, lane);
    loop_end(g, &l, c64(g, x->vector), x->used);
}

void rows_clear_out(kgen *x)
{
    gen *g = x->g;
    loop lm, ld;
    Val lane = loop_begin(g, &lm, c64(g, 0), NULL, 0), d = loop_begin(g, &ld, c64(g, 0), NULL, 0);
    store_lanes(x, LLVMConstNull(x->vf), x->out, row_of_lanes(x, d, lane));
    loop_end(g, &ld, c64(g, 1), c64(g, x->dim_v));
    loop_end(g, &lm, c64(g, x->vector), x->used);
}

Val rows_start(kgen *x, Val row) { return byte_at(x->g, arg_field(x, ARG_start), mul(x->g, row, arg_field(x, ARG_start_row_stride))); }

static Val start_of_lane(kgen *x, Val lane)
{
    gen *g = x->g;
    Val in_item = smin(g, lane, sub(g, x->in_use, c64(g, 1))); /* idle lanes repeat the last row */
    return rows_start(x, add(g, item_field(x, ITEM_row), mul(g, in_item, item_field(x, ITEM_row_step))));
}

static Val load_floats(kgen *x, Val p, uint32_t n) { return load(x->g, vector_of(x->g->f32, n), p, 4); }

/* O / l and lse are what one key of weight 1 would leave: m = lse, l = 1; of rows that saw nothing m = -inf, l = 0. */
void rows_resume(kgen *x)
{
    gen *g = x->g;
    loop lm;
    const words w = {load_floats, 4, x->dim_v, x->out, NULL};
    Val base[16], m = loop_begin(g, &lm, c64(g, 0), NULL, 0), none = constant_like(x->vf, -INFINITY);
    for (uint32_t i = 0; i < x->vector; i++) base[i] = start_of_lane(x, add(g, m, c64(g, i)));
    load_transposed(x, &w, base, m);
    Val lse = LLVMBuildFMul(g->b, word_of_rows(x, &w, base, c64(g, 4 * x->dim_v)), constant_like(x->vf, LOG2_E), "");
    Val empty = LLVMBuildFCmp(g->b, LLVMRealOEQ, lse, none, "");
    store_lanes(x, lse, x->max, m);
    store_lanes(x, lse, x->new_max, m);
    store_lanes(x, select_of(g, empty, LLVMConstNull(x->vf), constant_like(x->vf, 1)), x->sum, m);
    loop_end(g, &lm, c64(g, x->vector), x->used);
}

/* ---- end -------------------------------------------------------------------------------------------------------------------------- */

void rows_store_output(kgen *x, Val p, Val v, bool f32)
{
    if (!f32) v = float_to_half(x->g, v, x->k->shape.type);
    store(x->g, v, p, f32 ? 4 : 2);
}

void rows_put_tile(kgen *x, Val m, Val inverse, bool f32)
{
    gen *g = x->g;
    loop ld;
    uint32_t W = x->vector;
    int64_t whole = x->dim_v / W * W, size = f32 ? 4 : 2;
    Val v[16], base[16];
    for (uint32_t i = 0; i < W; i++) base[i] = rows_pointer(x, x->o_ptr, add(g, m, c64(g, i)));
    if (whole) {
        Val d = loop_begin(g, &ld, c64(g, 0), NULL, 0), bytes = mul(g, d, c64(g, size));
        for (uint32_t i = 0; i < W; i++)
            v[i] = LLVMBuildFMul(g->b, load_lanes(x, x->out, row_of_lanes(x, add(g, d, c64(g, i)), m)), inverse, "");
        transpose(x, v);
        for (uint32_t i = 0; i < W; i++) rows_store_output(x, byte_at(g, base[i], bytes), v[i], f32);
        loop_end(g, &ld, c64(g, W), c64(g, whole));
    }
    if (whole < x->dim_v) {
        Val d = loop_begin(g, &ld, c64(g, whole), NULL, 0), bytes = mul(g, d, c64(g, size));
        Val row = LLVMBuildFMul(g->b, load_lanes(x, x->out, row_of_lanes(x, d, m)), inverse, "");
        for (uint32_t i = 0; i < W; i++)
            rows_store_output(x, byte_at(g, base[i], bytes), LLVMBuildExtractElement(g->b, row, c32(g, i), ""), f32);
        loop_end(g, &ld, c64(g, 1), c64(g, x->dim_v));
    }
}

/* Rows that saw nothing have l = 0. */
static Val is_empty(kgen *x, Val sum) { return LLVMBuildFCmp(x->g->b, LLVMRealOEQ, sum, LLVMConstNull(x->vf), ""); }

static void store_lse(kgen *x, Val m)
{
    gen *g = x->g;
    double ln2 = 0.69314718055994531;
    Val max = load_lanes(x, x->max, m), sum = load_lanes(x, x->sum, m);
    Val units = x->k->base2 ? max : LLVMBuildFMul(g->b, max, constant_like(x->vf, 1 / ln2), "");
    Val lse = LLVMBuildFMul(g->b, LLVMBuildFAdd(g->b, units, math_log2(g, sum), ""), constant_like(x->vf, ln2), "");
    lse = select_of(g, is_empty(x, sum), constant_like(x->vf, -INFINITY), lse);
    for (uint32_t i = 0; i < x->vector; i++) {
        Val p = rows_pointer(x, x->lse_ptr, add(g, m, c64(g, i)));
        store(g, LLVMBuildExtractElement(g->b, lse, c32(g, i), ""), p, 4);
    }
}

static Val inverse_of(kgen *x, Val m)
{
    Val one = constant_like(x->vf, 1), sum = load_lanes(x, x->sum, m);
    return LLVMBuildFDiv(x->g->b, one, select_of(x->g, is_empty(x, sum), one, sum), "");
}

Val rows_output_is_f32(kgen *x) { return LLVMBuildICmp(x->g->b, LLVMIntNE, arg_field(x, ARG_o_f32), c64(x->g, 0), ""); }

static void by_type(kgen *x, rows_put *put, Val lane, Val inverse)
{
    gen *g = x->g;
    if (!x->half) {
        put(x, lane, inverse, true);
        return;
    }
    Block f32 = block(g), storage = block(g), done = block(g);
    branch(g, rows_output_is_f32(x), f32, storage);
    go(g, f32);
    put(x, lane, inverse, true);
    jump(g, done);
    go(g, storage);
    put(x, lane, inverse, false);
    jump(g, done);
    go(g, done);
}

void rows_finish_tile(kgen *x) { rows_finish(x, rows_put_tile); }

void rows_finish(kgen *x, rows_put *put)
{
    gen *g = x->g;
    loop l;
    Val m = loop_begin(g, &l, c64(g, 0), NULL, 0);
    by_type(x, put, m, inverse_of(x, m));
    store_lse(x, m);
    loop_end(g, &l, c64(g, x->vector), x->used);
}
