/* values.c - which parts of a kernel's expressions are computed when.
 *
 *     reads nothing that changes          once per item, in registers          (inputs[layer], 8192 * layer)
 *     reads rows and heads only           once per item and lane, kept         (q / 8192, slopes[h])
 *     reads keys only                     once per key of a block, kept        (k / 8192, doc.k)
 *     reads both, or the score            for each element                     (k <= q, s - slope * (q - k)) */
#include "backends/cpu/kernel_gen.h"

enum { ROW_BITS = DEPENDS_ROW | DEPENDS_HEAD };

static bool is_mixed(unsigned depends) { return depends & DEPENDS_SCORE || ((depends & ROW_BITS) && (depends & DEPENDS_KEY)); }

static void keep_lane(kgen *x, expr e)
{
    for (size_t i = 0; i < x->lane_values.n; i++)
        if (x->lane_values.at[i].e == e) return;
    VEC_PUSH(x->g->arena, &x->lane_values, (kept){.e = e});
}

static void keep_key(kgen *x, expr e, bool wide)
{
    for (size_t i = 0; i < x->key_values.n; i++)
        if (x->key_values.at[i].e == e) {
            x->key_values.at[i].wide |= wide;
            return;
        }
    VEC_PUSH(x->g->arena, &x->key_values, ((kept){.e = e, .wide = wide}));
}

static bool is_lane_leaf(const expr_node *n) { return n->op == EXPR_VAR || n->op == EXPR_ATTR; }

/* The largest parts of e that are not mixed. wide: of the body without a mask. */
static void collect(kgen *x, expr e, bool wide)
{
    if (!e) return;
    bool *needed = ARENA_ARRAY(x->g->arena, bool, (size_t)e + 1);
    needed[e] = true;
    for (expr i = e; i; i--) {
        const expr_node *n = expr_get(x->pool, i);
        if (!needed[i] || n->op == EXPR_CONST) continue;
        unsigned depends = expr_depends(x->pool, i);
        if (is_mixed(depends)) {
            for (uint32_t j = 0; j < n->nargs; j++) needed[n->arg[j]] = true;
        } else if (depends & ROW_BITS) {
            if (!is_lane_leaf(n)) keep_lane(x, i);
        } else if (depends & DEPENDS_KEY) {
            if (n->op != EXPR_VAR) keep_key(x, i, wide);
        } else {
            VEC_PUSH(x->g->arena, &x->uniform_values, i);
        }
    }
}

static bool fits_32(const expr_pool *p, expr e)
{
    int_range r;
    return expr_range(p, e, EXPR_MAX_POSITION, &r) && r.lo >= -INT32_MAX && r.hi <= INT32_MAX;
}

/* Integer lanes are i32 unless some integer on the way may not fit. */
static bool needs_wide(const kgen *x, expr e)
{
    if (!e) return false;
    bool *needed = ARENA_ARRAY(x->g->arena, bool, (size_t)e + 1);
    needed[e] = true;
    for (expr i = e; i; i--) {
        if (!needed[i]) continue;
        const expr_node *n = expr_get(x->pool, i);
        if (n->type == TYPE_INT && n->op != EXPR_ATTR && !fits_32(x->pool, i)) return true;
        for (uint32_t j = 0; j < n->nargs; j++) needed[n->arg[j]] = true;
    }
    return false;
}

static void each_body(kgen *x, void (*f)(kgen *, expr, bool))
{
    const kblock *bodies[] = {x->full, x->partial};
    for (int i = 0; i < 2; i++)
        for (size_t j = 0; bodies[i] && j < bodies[i]->ops.n; j++) f(x, bodies[i]->ops.at[j]->e, i == 0);
    f(x, x->load_q->e, true);
    f(x, x->init->e, true);
}

static void check_wide(kgen *x, expr e, bool wide)
{
    (void)wide;
    x->wide_ints |= needs_wide(x, e);
}

void values_collect(kgen *x)
{
    each_body(x, check_wide);
    each_body(x, collect);
}

/* ---- where leaves come from --------------------------------------------------------------------------------------------------- */

static Val no_leaf(gen *g, expr_code *c, expr e)
{
    (void)g, (void)c, (void)e;
    return NULL;
}

static void use_code(kgen *x, Val (*leaf)(gen *, expr_code *, expr), uint32_t lanes, const Val *outer)
{
    x->code.leaf = leaf;
    x->code.lanes = lanes;
    x->code.outer = outer;
    x->code.wide_ints = x->wide_ints;
    expr_forget(&x->code);
}

void values_emit_uniform(kgen *x)
{
    x->code.inputs = arg_field(x, ARG_inputs);
    for (expr e = 0; e < x->n_exprs; e++) x->uniform[e] = NULL;
    x->uniform[expr_variable(x->pool, VAR_LAYER)] = arg_field(x, ARG_layer);
    const expr len = expr_variable(x->pool, VAR_LEN);
    if (len < x->n_exprs) x->uniform[len] = field(x->g, x->g->seq_type, x->seq, SEQ_n_keys); /* else nothing reads it */
    const expr sweep = expr_variable(x->pool, VAR_SWEEP);
    if (sweep < x->n_exprs) x->uniform[sweep] = arg_field(x, ARG_sweep);
    use_code(x, no_leaf, 1, x->uniform);
    for (size_t i = 0; i < x->uniform_values.n; i++) {
        expr e = x->uniform_values.at[i];
        x->uniform[e] = expr_emit(x->g, &x->code, e);
    }
}

/* ---- kept values ---------------------------------------------------------------------------------------------------------------- */

static Type kept_type(const kgen *x, expr e, uint32_t n)
{
    const gen *g = x->g;
    expr_type t = expr_type_of(x->pool, e);
    Type element = t == TYPE_FLOAT ? g->f32 : t == TYPE_BOOL ? g->i8 : x->wide_ints ? g->i64 : g->i32;
    return vector_of(element, n);
}

static unsigned kept_size(const kgen *x, expr e)
{
    expr_type t = expr_type_of(x->pool, e);
    return t == TYPE_BOOL ? 1 : t == TYPE_INT && x->wide_ints ? 8 : 4;
}

static void store_kept(kgen *x, const kept *v, Val value, Val index, uint32_t n)
{
    gen *g = x->g;
    Type t = kept_type(x, v->e, n);
    expr_type type = expr_type_of(x->pool, v->e);
    if (type == TYPE_BOOL) value = LLVMBuildZExt(g->b, value, t, "");
    else if (type == TYPE_INT && LLVMTypeOf(value) != t) value = LLVMBuildTrunc(g->b, value, t, "");
    store(g, value, byte_at(g, ws_at(x, v->offset), mul(g, index, c64(g, kept_size(x, v->e)))), kept_size(x, v->e));
}

static Val load_kept(kgen *x, const kept *v, Val index, uint32_t n)
{
    gen *g = x->g;
    Type t = kept_type(x, v->e, n);
    Val value = load(g, t, byte_at(g, ws_at(x, v->offset), mul(g, index, c64(g, kept_size(x, v->e)))), kept_size(x, v->e));
    if (expr_type_of(x->pool, v->e) == TYPE_BOOL) return LLVMBuildTrunc(g->b, value, vector_of(g->i1, n), "");
    return t == g->i32 ? LLVMBuildSExt(g->b, value, g->i64, "") : value;
}

/* ---- per lane ---------------------------------------------------------------------------------------------------------------------- */

static void set_lane_int(kgen *x, expr e, uint64_t offset, Val lane)
{
    gen *g = x->g;
    x->lane_known[e] = load(g, x->lane_int, at(g, x->wide_ints ? g->i64 : g->i32, ws_at(x, offset), lane), x->wide_ints ? 8 : 4);
}

/* Positions, heads and attributes of the lanes; what is not used costs nothing: dead loads disappear. */
static void load_leaves(kgen *x, Val lane)
{
    for (expr e = 0; e < x->n_exprs; e++) x->lane_known[e] = x->uniform[e];
    set_lane_int(x, expr_variable(x->pool, VAR_Q), x->lane_q, lane);
    set_lane_int(x, expr_variable(x->pool, VAR_H), x->lane_h, lane);
    set_lane_int(x, expr_variable(x->pool, VAR_G), x->lane_g, lane);
    for (uint32_t a = 0; a < x->g->ir->symbols.attrs.n; a++)
        set_lane_int(x, expr_attr(x->pool, a, ATTR_Q), x->lane_attr[a], lane);
}

void values_emit_lanes(kgen *x)
{
    gen *g = x->g;
    loop l;
    if (!x->lane_values.n) return;
    Val lane = loop_begin(g, &l, c64(g, 0), NULL, 0);
    load_leaves(x, lane);
    use_code(x, no_leaf, x->vector, x->lane_known);
    for (size_t i = 0; i < x->lane_values.n; i++) {
        Val v = as_lanes(g, &x->code, expr_emit(g, &x->code, x->lane_values.at[i].e));
        store_kept(x, &x->lane_values.at[i], v, lane, x->vector);
    }
    loop_end(g, &l, c64(g, x->vector), x->used);
}

void values_load_lanes(kgen *x, Val lane)
{
    load_leaves(x, lane);
    for (size_t i = 0; i < x->lane_values.n; i++)
        x->lane_known[x->lane_values.at[i].e] = load_kept(x, &x->lane_values.at[i], lane, x->vector);
    use_code(x, no_leaf, x->vector, x->lane_known);
}

Val values_on_lanes(kgen *x, expr e) { return as_lanes(x->g, &x->code, expr_emit(x->g, &x->code, e)); }

/* ---- per key ------------------------------------------------------------------------------------------------------------------------ */

typedef struct key_place {
    kgen *x;
    Val key; /* position */
} key_place;

static Val key_leaf(gen *g, expr_code *c, expr e)
{
    key_place *at_key = c->ctx;
    kgen *x = at_key->x;
    const expr_node *n = expr_get(x->pool, e);
    if (n->op == EXPR_VAR && n->index == VAR_K) return at_key->key;
    if (n->op != EXPR_ATTR) return NULL;
    Val list = load(g, g->ptr, at(g, g->ptr, field(g, g->seq_type, x->seq, SEQ_k_attr), c64(g, n->index)), 8);
    return LLVMBuildSExt(g->b, load(g, g->i32, at(g, g->i32, list, at_key->key), 4), g->i64, "");
}

static bool any_wide(const kgen *x)
{
    for (size_t i = 0; i < x->key_values.n; i++)
        if (x->key_values.at[i].wide) return true;
    return false;
}

void values_emit_keys(kgen *x, bool wide, key_walk k, Val padded)
{
    gen *g = x->g;
    loop l;
    if (wide ? !any_wide(x) : !x->key_values.n) return;
    Val i = loop_begin(g, &l, c64(g, 0), NULL, 0);
    key_place place = {x, keys_position(x, k.k0, smin(g, i, sub(g, k.n, c64(g, 1))), k.step)};
    use_code(x, key_leaf, 1, x->uniform);
    x->code.ctx = &place;
    for (size_t j = 0; j < x->key_values.n; j++)
        if (!wide || x->key_values.at[j].wide) store_kept(x, &x->key_values.at[j], expr_emit(g, &x->code, x->key_values.at[j].e), i, 1);
    x->code.ctx = x;
    loop_end(g, &l, c64(g, 1), padded);
}

/* ---- per element ------------------------------------------------------------------------------------------------------------------------ */

typedef struct element_place {
    kgen *x;
    Val key, slot, score;
} element_place;

static Val element_leaf(gen *g, expr_code *c, expr e)
{
    (void)g;
    element_place *p = c->ctx;
    kgen *x = p->x;
    const expr_node *n = expr_get(x->pool, e);
    if (n->op == EXPR_VAR && n->index == VAR_K) return p->key;
    if (n->op == EXPR_VAR && n->index == VAR_S) return p->score;
    for (size_t i = 0; i < x->key_values.n; i++)
        if (x->key_values.at[i].e == e) return load_kept(x, &x->key_values.at[i], p->slot, 1);
    return NULL;
}

Val values_of_key(kgen *x, expr e, Val key, Val slot, Val score)
{
    element_place p = {x, key, slot, score};
    use_code(x, element_leaf, x->vector, x->lane_known);
    x->code.ctx = &p;
    Val v = as_lanes(x->g, &x->code, expr_emit(x->g, &x->code, e));
    x->code.ctx = x;
    return v;
}
