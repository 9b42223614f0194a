/* kernel.c - run and merge of one kernel: items, their segments, blocks of keys.
 *
 *     run(args, item, workspace)     setup, queries, start; for each segment, for each block of keys: addresses, then the body;
 *                                    the end, or the partial result of a part
 *     merge(args, item, workspace)   setup, the parts' results in order, the end (parts.c) */
#include "backends/cpu/kernel_gen.h"

#include <attn/abi.h>
#include <stddef.h>

/* The fields' numbers in kernel_gen.h are those of the C structs. */
#define AT_ITEM(f) (offsetof(attn_item, f) == 4 * ITEM_##f)
#define AT_SEQ(f) (offsetof(attn_seq, f) == 8 * SEQ_##f)
_Static_assert(AT_ITEM(seq) && AT_ITEM(head) && AT_ITEM(heads) && AT_ITEM(row) && AT_ITEM(rows) && AT_ITEM(part) && AT_ITEM(parts) &&
                   AT_ITEM(part_slot) && AT_ITEM(segment0) && AT_ITEM(segments) && AT_ITEM(row_step) && AT_ITEM(next) &&
                   AT_ITEM(stage), "attn_item");
_Static_assert(AT_SEQ(n_q) && AT_SEQ(pos) && AT_SEQ(n_keys) && AT_SEQ(q_offset) && AT_SEQ(o_offset) && AT_SEQ(lse_offset) &&
                   AT_SEQ(k_pages) && AT_SEQ(v_pages) && AT_SEQ(q_attr) && AT_SEQ(k_attr), "attn_seq");
_Static_assert(offsetof(attn_segment, k1) == 8 * SEG_k1 && offsetof(attn_segment, lane0) == 8 * SEG_lane0 &&
                   offsetof(attn_segment, lanes) == 20 && offsetof(attn_segment, masked) == 24 && offsetof(attn_segment, step) == 28,
               "attn_segment");

/* ---- layout of the workspace ---------------------------------------------------------------------------------------------------- */

static void lay_out(kgen *x)
{
    uint64_t lanes = x->lanes, keys = x->block_keys + x->slack, dim_v = (uint64_t)x->dim_v;
    uint64_t int_size = x->wide_ints ? 8 : 4;
    x->max = ws_take(x, lanes * 4); /* max, sum, out are what a part's result consists of: together, in this order */
    x->sum = ws_take(x, lanes * 4);
    x->out = ws_take(x, dim_v * lanes * 4);
    x->new_max = ws_take(x, lanes * 4);
    x->scores = ws_take(x, keys * lanes * 4);
    x->idle = ws_take(x, lagged_idle_bytes(x));
    x->seen = ws_take(x, keys * x->narrow_vectors * body_seen_bytes(x));
    x->queries = ws_take(x, (uint64_t)x->words * lanes * 4);
    x->key_ptr = ws_take(x, keys * 8);
    x->value_ptr = ws_take(x, keys * 8);
    if (x->convert) x->stored_keys = ws_take(x, keys * 8), x->stored_values = ws_take(x, keys * 8); /* key_ptr and value_ptr lead to the panels */
    x->key_panel = ws_take(x, keys * (uint64_t)x->words * 4); /* of rows that are converted, or gathered */
    x->value_panel = ws_take(x, keys * x->value_stride * 4); /* or pairs of rows, half as many */
    x->ahead = ws_take(x, ((uint64_t)ahead_rows(x) + 2 * x->k->schedule.qk_keys) * 8);
    x->ahead_next = ws_take(x, 8);
    x->q_ptr = ws_take(x, lanes * 8);
    x->o_ptr = ws_take(x, lanes * 8);
    x->lse_ptr = ws_take(x, lanes * 8);
    x->spare_row = ws_take(x, dim_v * 4);
    few_lay_out(x);
    /* What follows depends on expressions: behind all that shared.c reaches but the tables of lanes, which begin at one place. */
    x->lane_q = ws_take(x, lanes * int_size);
    x->lane_h = ws_take(x, lanes * int_size);
    x->lane_g = ws_take(x, lanes * int_size);
    for (uint32_t a = 0; a < x->g->ir->symbols.attrs.n; a++) x->lane_attr[a] = ws_take(x, lanes * int_size);
    for (size_t i = 0; i < x->lane_values.n; i++) x->lane_values.at[i].offset = ws_take(x, lanes * 8);
    for (size_t i = 0; i < x->key_values.n; i++) x->key_values.at[i].offset = ws_take(x, keys * 8);
}

/* ---- segments ---------------------------------------------------------------------------------------------------------------------------- */

static void blocks(kgen *x, const segment *s, key_walk of, piece p)
{
    gen *g = x->g;
    guarded l;
    Val first = guarded_begin(g, &l, c64(g, 0), of.n);
    p.n0 = keys_position(x, of.k0, first, of.step);
    p.n = smin(g, sub(g, of.n, first), c64(g, x->block_keys));
    p.step = of.step;
    const key_walk keys = {p.n0, p.n, p.step};
    Val padded = p.narrow ? round_up(g, p.n, p.keys) : p.n;
    shared_call_keys(x, SHARED_keys, keys, padded);
    if (!p.narrow && body_fetches(x)) ahead_block(x, s, less(g, add(g, first, c64(g, x->block_keys)), of.n), &p);
    values_emit_keys(x, !p.narrow, keys, padded);
    body_attend(x, &p);
    guarded_end(g, &l, c64(g, x->block_keys));
}

static void emit_segments(kgen *x)
{
    gen *g = x->g;
    segment s = keys_open(x, x->seq, item_field(x, ITEM_head));
    x->value_step = s.v.stride;
    shared_call(x, SHARED_ahead);
    Val first = item_field(x, ITEM_segment0), list = arg_field(x, ARG_segments);
    guarded l;
    Val end = add(g, first, item_field(x, ITEM_segments)), last = sub(g, end, c64(g, 1));
    Val i = guarded_begin(g, &l, first, end), at_seg = at(g, g->segment_type, list, i);
    Val lane0 = field(g, g->segment_type, at_seg, SEG_lane0), lanes = field(g, g->segment_type, at_seg, SEG_lanes);
    s.next = field(g, g->segment_type, at(g, g->segment_type, list, smin(g, add(g, i, c64(g, 1)), last)), SEG_k0);
    key_walk of = keys_of_segment(x, at_seg);
    keys_set_step(x, &s, of.step);
    Val open = LLVMBuildICmp(g->b, LLVMIntEQ, field(g, g->segment_type, at_seg, SEG_masked), c64(g, 0), "");
    Val all = LLVMBuildICmp(g->b, LLVMIntEQ, lanes, c64(g, x->lanes), "");
    Block wide = block(g), narrow = block(g), next = block(g);
    branch(g, LLVMBuildAnd(g->b, all, open, ""), wide, narrow);
    go(g, wide);
    if (x->full) blocks(x, &s, of, body_wide_piece(x));
    jump(g, next);
    go(g, narrow);
    if (x->narrow_vectors > 1) {
        Block pair = block(g), single = block(g);
        branch(g, LLVMBuildICmp(g->b, LLVMIntEQ, lanes, c64(g, x->vector), ""), single, pair);
        go(g, pair);
        blocks(x, &s, of, body_narrow_piece(x, lane0, x->narrow_vectors));
        jump(g, next);
        go(g, single);
    }
    blocks(x, &s, of, body_narrow_piece(x, lane0, 1));
    jump(g, next);
    go(g, next);
    guarded_end(g, &l, c64(g, 1));
}

/* ---- functions ------------------------------------------------------------------------------------------------------------------------------- */

static Val begin_function(kgen *x, const char *what)
{
    gen *g = x->g;
    Type args[] = {g->ptr, g->ptr, g->ptr};
    return kernel_begin(x, arena_printf(g->arena, "%s_%s_%s", x->k->name, g->target->suffix, what), g->none, args, 3);
}

static Val emit_few(kgen *x)
{
    Val f = begin_function(x, "few");
    values_emit_uniform(x);
    values_emit_lanes(x);
    few_run(x);
    LLVMBuildRetVoid(x->g->b);
    return f;
}

static void start_anew(kgen *x)
{
    rows_init(x);
    rows_clear_out(x);
}

/* Where the second of two sweeps begins is what the first has found. */
static void start(kgen *x)
{
    gen *g = x->g;
    if (!x->k->ranges->sweeps) {
        start_anew(x);
        return;
    }
    Block goes_on = block(g), anew = block(g), done = block(g);
    Val given = LLVMBuildICmp(g->b, LLVMIntNE, arg_field(x, ARG_start), LLVMConstNull(g->ptr), "");
    Val first = LLVMBuildICmp(g->b, LLVMIntEQ, item_field(x, ITEM_part), c64(g, 0), "");
    branch(g, LLVMBuildAnd(g->b, given, first, ""), goes_on, anew);
    go(g, goes_on);
    shared_call(x, SHARED_resume);
    jump(g, done);
    go(g, anew);
    start_anew(x);
    jump(g, done);
    go(g, done);
}

static Val emit_run(kgen *x, Val few)
{
    gen *g = x->g;
    Val f = begin_function(x, "run");
    shared_call(x, SHARED_setup);
    Block is_small = block(g), is_large = block(g), whole = block(g), cut = block(g);
    branch(g, kernel_is_few(x), is_small, is_large);
    go(g, is_small);
    LLVMBuildCall2(g->b, LLVMGlobalGetValueType(few), few, (Val[]){x->args, x->item, x->ws}, 3, "");
    LLVMBuildRetVoid(g->b);
    go(g, is_large);
    values_emit_uniform(x);
    values_emit_lanes(x);
    rows_load_queries(x);
    start(x);
    keys_point_to_panels(x);
    emit_segments(x);
    ahead_rest(x);
    branch(g, less(g, c64(g, 1), item_field(x, ITEM_parts)), cut, whole);
    go(g, whole);
    shared_call(x, SHARED_finish);
    LLVMBuildRetVoid(g->b);
    go(g, cut);
    parts_store(x);
    LLVMBuildRetVoid(g->b);
    return f;
}

/* ---- reading the IR ---------------------------------------------------------------------------------------------------------------------------- */

static const kop *find_op(const kblock *b, kop_code c)
{
    for (size_t i = 0; i < b->ops.n; i++)
        if (b->ops.at[i]->code == c) return b->ops.at[i];
    return NULL;
}

static const kblock *find_loop(const kblock *rows, keys_range range)
{
    for (size_t i = 0; i < rows->ops.n; i++)
        if (rows->ops.at[i]->code == OP_KEYS && rows->ops.at[i]->range == range) return rows->ops.at[i]->body;
    return NULL;
}

static const char *read_kernel(kgen *x)
{
    const kop *rows = find_op(x->k->body, OP_ROWS), *merge = find_op(x->k->body, OP_MERGE);
    if (!x->k->schedule.lanes || !x->k->base2 || !x->k->split || !rows || !merge)
        return "the CPU backend takes kernels after the whole pipeline (the last pass is schedule)";
    x->load_q = find_op(rows->body, OP_LOAD_Q);
    x->init = find_op(rows->body, OP_INIT);
    x->full = find_loop(rows->body, KEYS_FULL);
    x->partial = find_loop(rows->body, KEYS_PARTIAL);
    if (!x->load_q || !x->init || (!x->full && !x->partial)) return "a kernel without queries, start or loop over keys";
    const char *wrong = x->full ? body_check(x->full) : NULL;
    return wrong || !x->partial ? wrong : body_check(x->partial);
}

/* An odd number of cache lines: the same dims of a block's keys then spread over all sets of the cache. */
static uint32_t odd_lines(int64_t floats) { return (uint32_t)((floats + 15) / 16 | 1) * 16; }

/* With two vectors an element of K or V is loaded once for two products: with one, loads are what a narrow piece waits for. */
static uint32_t narrow_vectors(const schedule *c)
{
    return c->lanes / c->vector >= 4 && target_get(c->target)->registers >= 32 && c->narrow_keys <= 8 ? 2 : 1;
}

static void prepare(kgen *x)
{
    gen *g = x->g;
    const schedule *c = &x->k->schedule;
    x->dim = x->k->shape.dim;
    x->dim_v = x->k->shape.dim_v;
    x->lanes = c->lanes;
    x->vector = c->vector;
    x->vectors = c->lanes / c->vector;
    x->narrow_vectors = narrow_vectors(c);
    x->block_keys = c->key_block;
    x->slack = c->narrow_keys > c->qk_keys ? c->narrow_keys : c->qk_keys;
    x->value_stride = odd_lines(x->dim_v);
    x->quant = x->k->shape.kv == KV_INT8;
    x->half = x->k->shape.type != DTYPE_F32;
    x->convert = x->half || x->quant;
    x->dot = c->dot_bf16 && g->target->dot_bf16 && x->k->shape.type == DTYPE_BF16 && !x->quant && x->dim % 2 == 0 && x->dim_v > 1;
    x->words = x->dot ? x->dim / 2 : x->dim;
    expr_variable(x->pool, VAR_Q), expr_variable(x->pool, VAR_H), expr_variable(x->pool, VAR_G), expr_variable(x->pool, VAR_LAYER);
    for (uint32_t a = 0; a < g->ir->symbols.attrs.n; a++) expr_attr(x->pool, a, ATTR_Q);
    x->n_exprs = expr_count(x->pool);
    x->lane_attr = ARENA_ARRAY(g->arena, uint64_t, g->ir->symbols.attrs.n + 1);
    x->uniform = ARENA_ARRAY(g->arena, Val, x->n_exprs + 1);
    x->lane_known = ARENA_ARRAY(g->arena, Val, x->n_exprs + 1);
    x->code = (expr_code){.pool = x->pool, .ctx = x, .known = ARENA_ARRAY(g->arena, Val, x->n_exprs + 1), .n = x->n_exprs};
    values_collect(x);
    x->vf = vector_of(g->f32, x->vector);
    x->lane_int = vector_of(x->wide_ints ? g->i64 : g->i32, x->vector);
    lay_out(x);
    x->shared = shared_of(x);
}

static bool is_needed(const kgen *x, int id)
{
    const bool masked = x->partial && body_has(x->partial, OP_MASK), pairs = x->narrow_vectors > 1;
    switch (id) {
    case SHARED_few_packed: return few_packs(x);
    case SHARED_gather: return !x->convert;
    case SHARED_resume: return x->k->ranges->sweeps;
    case SHARED_mend: return x->dot && masked;
    case SHARED_fold_wide: return x->full;
    case SHARED_fold_single: return !masked;
    case SHARED_fold_pair: return !masked && pairs;
    case SHARED_fold_seen_pair: return masked && pairs;
    case SHARED_fold_seen_single:
    case SHARED_few_seen_values: return masked;
    default: return true;
    }
}

/* In an order in which each calls only what is written; into the module that is for them. */
static void write_shared(const kgen *x)
{
    kgen y = {.g = gen_of_shared(x->g), .k = x->k, .pool = x->pool};
    const char *wrong = read_kernel(&y);
    ATTNC_CHECK(!wrong);
    prepare(&y);
    for (int id = 0; id < SHARED_COUNT; id++)
        if (is_needed(&y, id)) shared_write(&y, (shared_id)id);
}

const char *emit_kernel(gen *g, const kernel *k, kernel_code *out)
{
    kgen x = {.g = g, .k = k, .pool = g->ir->pool};
    const char *wrong = read_kernel(&x);
    if (wrong) return wrong;
    prepare(&x);
    const schedule *c = &k->schedule;
    write_shared(&x);
    Val few = emit_few(&x);
    *out = (kernel_code){.kernel = k, .target = g->target, .run = emit_run(&x, few), .merge = shared_function(&x, SHARED_merge),
                         .workspace = x.size, .part_bytes = parts_bytes(&x), .pair = x.narrow_vectors > 1 ? x.narrow_vectors * x.vector : 0};
    out->name = arena_printf(g->arena, "%s_%s_d%lld_%s", k->name, dtype_name(k->shape.type), (long long)k->shape.dim, g->target->suffix);
    out->schedule = arena_printf(g->arena, "lanes %u, keys %u, qk %u x %u, pv %u x %u, narrow %u x %u", c->lanes, c->key_block,
                                 c->qk_keys, c->qk_vectors, c->pv_dims, c->pv_vectors, c->narrow_keys, c->narrow_dims);
    return NULL;
}
