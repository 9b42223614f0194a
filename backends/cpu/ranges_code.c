/* ranges_code.c - what the analysis proved, as code: ranges, live, bounds, visible. Scalar, for the baseline machine. */
#include "backends/cpu/internal.h"

#include <attn/abi.h>

/* Fields of attn_range_args as the code reads them. */
enum { RANGE_size, RANGE_row_step, RANGE_q0, RANGE_q1, RANGE_k0, RANGE_k1, RANGE_h, RANGE_g, RANGE_layer, RANGE_inputs, RANGE_attr, RANGE_data, RANGE_len, RANGE_sweep };

typedef struct range_gen {
    gen *g;
    const kernel *k;
    Type args_type;
    Val args, data; /* data: after the choice when it is NULL */
    bool exact;     /* visible: q is q0, k is k0, attributes are values */
    expr_code code;
} range_gen;

static Type range_args_type(const gen *g)
{
    Type t[] = {g->i32, g->i32, g->i64, g->i64, g->i64, g->i64, g->i64, g->i64, g->i64, g->ptr, g->ptr, g->ptr, g->i64, g->i64};
    return LLVMStructTypeInContext(g->context, t, ATTNC_COUNT(t), 0);
}

static Val variable(range_gen *r, expr_var v)
{
    static const int fields[VAR_COUNT] = {[VAR_Q] = RANGE_q0, [VAR_K] = RANGE_k0, [VAR_H] = RANGE_h,   [VAR_G] = RANGE_g,
                                          [VAR_LAYER] = RANGE_layer, [VAR_LEN] = RANGE_len, [VAR_SWEEP] = RANGE_sweep, [VAR_Q0] = RANGE_q0, [VAR_Q1] = RANGE_q1, [VAR_ROW_STEP] = RANGE_row_step,
                                          [VAR_K0] = RANGE_k0, [VAR_K1] = RANGE_k1};
    if (!fields[v] || ((v == VAR_Q || v == VAR_K) && !r->exact)) ATTNC_BUG("a range reads a variable it has not");
    return field(r->g, r->args_type, r->args, (unsigned)fields[v]);
}

static Val attribute(range_gen *r, const expr_node *n)
{
    gen *g = r->g;
    static const int places[ATTR_SIDE_COUNT] = {[ATTR_Q] = 0, [ATTR_K] = 2, [ATTR_Q_MIN] = 0, [ATTR_Q_MAX] = 1, [ATTR_K_MIN] = 2, [ATTR_K_MAX] = 3};
    Val list = field(g, r->args_type, r->args, RANGE_attr);
    return load(g, g->i64, at(g, g->i64, list, c64(g, 4 * (int64_t)n->index + places[n->side])), 8);
}

static Val leaf(gen *g, expr_code *x, expr e)
{
    range_gen *r = x->ctx;
    const expr_node *n = expr_get(x->pool, e);
    if (n->op == EXPR_VAR) return variable(r, (expr_var)n->index);
    if (n->op == EXPR_ATTR) return attribute(r, n);
    if (n->op != EXPR_DATA) return NULL;
    Val byte = load(g, g->i8, at(g, g->i8, r->data, c64(g, 2 * (int64_t)n->index + n->side)), 1);
    return LLVMBuildICmp(g->b, LLVMIntNE, byte, LLVMConstNull(g->i8), "");
}

static Val begin(range_gen *r, const char *what, Type result, bool out)
{
    gen *g = r->g;
    Type args[] = {g->ptr, g->ptr};
    Val f = add_function(g, arena_printf(g->arena, "%s_%s", r->k->name, what), result, args, out ? 2 : 1);
    r->args = LLVMGetParam(f, 0);
    r->code = (expr_code){.pool = g->ir->pool, .lanes = 1, .leaf = leaf, .ctx = r, .n = expr_count(g->ir->pool)};
    r->code.known = ARENA_ARRAY(g->arena, Val, r->code.n + 1);
    r->code.inputs = field(g, r->args_type, r->args, RANGE_inputs);
    return f;
}

/* The data atoms' bytes, or what holds when nothing is known of them: may, and not must. */
static void choose_data(range_gen *r, uint32_t n_data)
{
    gen *g = r->g;
    if (!n_data) return;
    Val *bytes = ARENA_ARRAY(g->arena, Val, 2 * (size_t)n_data);
    for (uint32_t i = 0; i < 2 * n_data; i++) bytes[i] = LLVMConstInt(g->i8, i % 2 == 0, 0);
    Val unknown = LLVMAddGlobal(g->module, LLVMArrayType2(g->i8, 2 * n_data), "unknown");
    LLVMSetInitializer(unknown, LLVMConstArray2(g->i8, bytes, 2 * n_data));
    LLVMSetLinkage(unknown, LLVMPrivateLinkage);
    LLVMSetGlobalConstant(unknown, 1);
    Val given = field(g, r->args_type, r->args, RANGE_data);
    r->data = select_of(g, LLVMBuildIsNull(g->b, given, ""), unknown, given);
}

/* width 2: lo, hi; 3: a step too. */
static void write_list(range_gen *r, const interval *list, uint32_t n, uint32_t first, uint32_t width)
{
    gen *g = r->g;
    Val out = LLVMGetParam(g->fn, 1);
    for (uint32_t i = 0; i < n; i++) {
        const expr word[] = {list[i].lo, list[i].hi, list[i].step};
        for (uint32_t j = 0; j < width; j++)
            store(g, word[j] ? expr_emit(g, &r->code, word[j]) : c64(g, 1), at(g, g->i64, out, c64(g, (int64_t)width * (first + i) + j)), 8);
    }
    expr_forget(&r->code);
}

static Val emit_lists(range_gen *r, const char *what, const ranges *x, bool live)
{
    Val f = begin(r, what, r->g->none, true);
    choose_data(r, x->n_data);
    if (live) {
        write_list(r, x->live, x->n_live, 0, 2);
    } else {
        write_list(r, x->may, x->n_may, 0, 3);
        write_list(r, x->must, x->n_must, x->n_may, 3);
    }
    LLVMBuildRetVoid(r->g->b);
    return f;
}

static Val emit_bounds(range_gen *r, const ranges *x)
{
    gen *g = r->g;
    Val f = begin(r, "bounds", g->none, true);
    for (uint32_t i = 0; i < x->n_data; i++) {
        expr both[] = {x->data[i].may, x->data[i].must};
        for (uint32_t j = 0; j < 2; j++) {
            Val byte = LLVMBuildZExt(g->b, expr_emit(g, &r->code, both[j]), g->i8, "");
            store(g, byte, at(g, g->i8, LLVMGetParam(f, 1), c64(g, 2 * (int64_t)i + j)), 1);
        }
    }
    LLVMBuildRetVoid(g->b);
    return f;
}

static Val emit_visible(range_gen *r, expr mask)
{
    gen *g = r->g;
    Val f = begin(r, "visible", g->i32, false);
    r->exact = true;
    LLVMBuildRet(g->b, LLVMBuildZExt(g->b, expr_emit(g, &r->code, mask), g->i32, ""));
    return f;
}

/* ---- facts of the kind ----------------------------------------------------------------------------------------------------------- */

static expr body_mask(const kblock *b)
{
    for (size_t i = 0; i < b->ops.n; i++)
        if (b->ops.at[i]->code == OP_MASK) return b->ops.at[i]->e;
    return 0;
}

/* The mask as the kernel has it: that of its partial loop; none: everything is visible. */
static expr kernel_mask(const gen *g, const kernel *k)
{
    const kblock *rows = k->body->ops.at[0]->body;
    for (size_t i = 0; i < rows->ops.n; i++) {
        expr m = rows->ops.at[i]->code == OP_KEYS ? body_mask(rows->ops.at[i]->body) : 0;
        if (m) return m;
    }
    return expr_bool(g->ir->pool, true);
}

static bool reads_inputs(const expr_pool *p, expr e)
{
    bool *needed = ARENA_ARRAY(expr_arena(p), bool, (size_t)e + 1);
    needed[e] = true;
    for (expr i = e; i; i--) {
        const expr_node *n = expr_get(p, i);
        if (!needed[i]) continue;
        if (n->op == EXPR_ELEM && !expr_symbols(p)->tables.at[n->index].value) return true;
        for (uint32_t j = 0; j < n->nargs; j++) needed[n->arg[j]] = true;
    }
    return false;
}

static bool reads_len(const expr_pool *p, const kblock *b)
{
    for (size_t i = 0; i < b->ops.n; i++) {
        const kop *o = b->ops.at[i];
        if ((o->e && expr_reads_var(p, o->e, VAR_LEN)) || (o->body && reads_len(p, o->body))) return true;
    }
    return false;
}

static uint32_t kind_flags(const gen *g, const kernel *k, expr mask)
{
    const expr_pool *p = g->ir->pool;
    const kblock *rows = k->body->ops.at[0]->body;
    uint32_t flags = 0;
    if (expr_reads_var(p, mask, VAR_H) || expr_reads_var(p, mask, VAR_G)) flags |= ATTN_KIND_HEADS_DIFFER;
    if (expr_reads_var(p, mask, VAR_LAYER)) flags |= ATTN_KIND_LAYERS_DIFFER;
    if (reads_inputs(p, mask)) flags |= ATTN_KIND_MASK_INPUTS;
    if (k->ranges->exact_rows) flags |= ATTN_KIND_EXACT_ROWS;
    if (k->ranges->sweeps) flags |= ATTN_KIND_SWEEPS;
    const pattern *meaning = g->ir->patterns.at[k->pattern];
    if (meaning->kv_shared) flags |= ATTN_KIND_KV_SHARED;
    if (meaning->k_is_v) flags |= ATTN_KIND_K_IS_V;
    if (reads_len(p, k->body)) flags |= ATTN_KIND_LEN;
    for (size_t i = 0; i < rows->ops.n; i++)
        if (rows->ops.at[i]->code == OP_INIT && rows->ops.at[i]->e) flags |= ATTN_KIND_SINK;
    return flags;
}

kind_code emit_kind_code(gen *g, const kernel *k)
{
    range_gen r = {.g = g, .k = k, .args_type = range_args_type(g)};
    expr mask = kernel_mask(g, k);
    kind_code out = {.ranges = emit_lists(&r, "ranges", k->ranges, false), .live = emit_lists(&r, "live", k->ranges, true)};
    if (k->ranges->n_data) out.bounds = emit_bounds(&r, k->ranges);
    out.visible = emit_visible(&r, mask);
    out.flags = kind_flags(g, k, mask);
    return out;
}
