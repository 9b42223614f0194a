/* expr_code.c - scalar expressions to code: scalars, vectors of lanes, or a mixture in which what is the same for all lanes stays scalar.
 *
 * Integers are i64 as scalars and i32 (or i64, when a value may need it) as lanes; all operations are total, as in expr_ops.def. */
#include "backends/cpu/internal.h"

#include <math.h>

static bool is_lanes(Val v) { return LLVMGetTypeKind(LLVMTypeOf(v)) == LLVMVectorTypeKind; }
static Type lane_int(const gen *g, const expr_code *x) { return vector_of(x->wide_ints ? g->i64 : g->i32, x->lanes); }

Val as_lanes(gen *g, const expr_code *x, Val v)
{
    if (is_lanes(v) || x->lanes == 1) return v;
    if (LLVMTypeOf(v) == g->i64 && !x->wide_ints) v = LLVMBuildTrunc(g->b, v, g->i32, "");
    return splat(g, v, x->lanes);
}

/* ---- integers --------------------------------------------------------------------------------------------------------------- */

typedef struct operand {
    expr e;
    Val v;
    int_range range;
} operand;

static operand operand_of(const expr_code *x, expr e, Val v)
{
    operand o = {.e = e, .v = v, .range = {INT64_MIN, INT64_MAX}};
    int_range r;
    if (expr_range(x->pool, e, EXPR_MAX_POSITION, &r)) o.range = r;
    return o;
}

static bool power_of_two(int64_t c, int *shift)
{
    if (c <= 0 || c & (c - 1)) return false;
    for (*shift = 0; (int64_t)1 << *shift < c;) ++*shift;
    return true;
}

/* Floor division; a zero divisor gives 0. */
static Val floor_div(gen *g, operand a, operand b)
{
    Type t = LLVMTypeOf(a.v);
    int shift;
    if (b.range.lo == b.range.hi && power_of_two(b.range.lo, &shift)) return LLVMBuildAShr(g->b, a.v, int_like(t, shift), "");
    if (b.range.lo > 0 && a.range.lo >= 0) return LLVMBuildUDiv(g->b, a.v, b.v, "");
    Val zero = LLVMConstNull(t), divisor = b.v, is_zero = NULL;
    if (b.range.lo <= 0 && b.range.hi >= 0) {
        is_zero = LLVMBuildICmp(g->b, LLVMIntEQ, b.v, zero, "");
        divisor = select_of(g, is_zero, int_like(t, 1), b.v);
    }
    Val q = LLVMBuildSDiv(g->b, a.v, divisor, ""), r = LLVMBuildSub(g->b, a.v, LLVMBuildMul(g->b, q, divisor, ""), "");
    Val uneven = LLVMBuildICmp(g->b, LLVMIntNE, r, zero, "");
    Val opposed = less(g, LLVMBuildXor(g->b, r, divisor, ""), zero);
    Val down = LLVMBuildAnd(g->b, uneven, opposed, "");
    q = LLVMBuildAdd(g->b, q, LLVMBuildSExt(g->b, down, t, ""), "");
    return is_zero ? select_of(g, is_zero, zero, q) : q;
}

static Val floor_mod(gen *g, operand a, operand b)
{
    Type t = LLVMTypeOf(a.v);
    int shift;
    if (b.range.lo == b.range.hi && power_of_two(b.range.lo, &shift)) return LLVMBuildAnd(g->b, a.v, int_like(t, b.range.lo - 1), "");
    /* The least integer by -1 leaves no rest, but its quotient does not exist, and the machine traps. */
    int64_t least = is_lanes(a.v) && LLVMGetElementType(t) == g->i32 ? INT32_MIN : INT64_MIN;
    if (a.range.lo <= least && b.range.lo <= -1 && b.range.hi >= -1)
        b.v = select_of(g, LLVMBuildICmp(g->b, LLVMIntEQ, b.v, int_like(t, -1), ""), int_like(t, 1), b.v);
    Val r = LLVMBuildSub(g->b, a.v, LLVMBuildMul(g->b, floor_div(g, a, b), b.v, ""), "");
    if (b.range.lo > 0 || b.range.hi < 0) return r;
    return select_of(g, LLVMBuildICmp(g->b, LLVMIntEQ, b.v, LLVMConstNull(t), ""), LLVMConstNull(t), r);
}

static Val int_abs(gen *g, Val a) { return smax(g, a, LLVMBuildSub(g->b, LLVMConstNull(LLVMTypeOf(a)), a, "")); }

static Val float_to_int(gen *g, const expr_code *x, Val a)
{
    Type from = LLVMTypeOf(a), to = is_lanes(a) ? lane_int(g, x) : g->i64;
    Val f = math_floor(g, a);
    return intrinsic(g, "llvm.fptosi.sat", (Type[]){to, from}, 2, &f, 1);
}

/* ---- tables ------------------------------------------------------------------------------------------------------------------- */

static uint32_t input_index(const symbols *s, uint32_t t)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < t; i++) n += !s->tables.at[i].value;
    return n;
}

static int64_t table_size(const table *t)
{
    int64_t n = 1;
    for (uint32_t i = 0; i < t->rank; i++) n *= t->extent[i];
    return n;
}

static Type table_element(const gen *g, const table *t)
{
    if (t->type == TYPE_FLOAT) return g->f32;
    if (!t->value) return g->i32;
    for (int64_t i = 0; i < table_size(t); i++)
        if (fabs(t->value[i]) > INT32_MAX) return g->i64;
    return g->i32;
}

static Val constant_table(gen *g, const table *t)
{
    Type element = table_element(g, t);
    int64_t n = table_size(t);
    Val *values = ARENA_ARRAY(g->arena, Val, (size_t)n + 1);
    for (int64_t i = 0; i < n; i++)
        values[i] = t->type == TYPE_FLOAT ? LLVMConstReal(element, t->value[i])
                                          : LLVMConstInt(element, (unsigned long long)(int64_t)t->value[i], 1);
    Val global = LLVMAddGlobal(g->module, LLVMArrayType2(element, (uint64_t)n), t->name);
    LLVMSetInitializer(global, LLVMConstArray2(element, values, (uint64_t)n));
    LLVMSetLinkage(global, LLVMPrivateLinkage);
    LLVMSetGlobalConstant(global, 1);
    return global;
}

static Val table_base(gen *g, const expr_code *x, uint32_t index)
{
    const symbols *s = expr_symbols(x->pool);
    const table *t = &s->tables.at[index];
    if (!t->value) return load(g, g->ptr, at(g, g->ptr, x->inputs, c64(g, input_index(s, index))), 8);
    if (!g->table_data[index]) g->table_data[index] = constant_table(g, t);
    return g->table_data[index];
}

static Val gather(gen *g, Type element, Val base, Val index, Val valid)
{
    uint32_t n = LLVMGetVectorSize(LLVMTypeOf(index));
    Type t = vector_of(element, n), pointers = vector_of(g->ptr, n);
    Val p = LLVMBuildGEP2(g->b, element, base, &index, 1, "");
    Type over[] = {t, pointers};
    unsigned id = LLVMLookupIntrinsicID("llvm.masked.gather", 18);
    Val f = LLVMGetIntrinsicDeclaration(g->module, id, over, 2);
    Val args[4] = {p};
    unsigned k = 1;
    if (LLVMCountParams(f) == 4) args[k++] = c32(g, element == g->i64 ? 8 : 4); /* the alignment, where it is an operand */
    args[k++] = valid;
    args[k++] = LLVMConstNull(t);
    return LLVMBuildCall2(g->b, LLVMIntrinsicGetType(g->context, id, over, 2), f, args, k, "");
}

/* A flat index and whether each index lies inside. */
static Val flat_index(gen *g, const table *t, const Val *index, Val *valid)
{
    Val flat = NULL, ok = NULL;
    for (uint32_t i = 0; i < t->rank; i++) {
        Val extent = int_like(LLVMTypeOf(index[i]), t->extent[i]);
        Val inside = LLVMBuildICmp(g->b, LLVMIntULT, index[i], extent, "");
        ok = ok ? LLVMBuildAnd(g->b, ok, inside, "") : inside;
        flat = flat ? LLVMBuildAdd(g->b, LLVMBuildMul(g->b, flat, extent, ""), index[i], "") : index[i];
    }
    *valid = ok;
    return flat;
}

static Val table_value(gen *g, const expr_code *x, const expr_node *n, Val *index)
{
    const table *t = &expr_symbols(x->pool)->tables.at[n->index];
    Type element = table_element(g, t);
    bool lanes = false;
    for (uint32_t i = 0; i < n->nargs; i++) lanes |= is_lanes(index[i]);
    bool large = table_size(t) > INT32_MAX;
    for (uint32_t i = 0; i < n->nargs && lanes; i++) {
        index[i] = as_lanes(g, x, index[i]);
        if (large && !x->wide_ints) index[i] = LLVMBuildSExt(g->b, index[i], vector_of(g->i64, x->lanes), "");
    }
    Val valid, flat = flat_index(g, t, index, &valid), base = table_base(g, x, n->index), v;
    flat = select_of(g, valid, flat, LLVMConstNull(LLVMTypeOf(flat)));
    if (lanes) v = gather(g, element, base, flat, valid);
    else v = select_of(g, valid, load(g, element, at(g, element, base, flat), element == g->i64 ? 8 : 4), LLVMConstNull(element));
    if (t->type == TYPE_FLOAT) return v;
    Type to = lanes ? lane_int(g, x) : g->i64;
    return LLVMTypeOf(v) == to ? v : LLVMBuildSExt(g->b, v, to, "");
}

/* ---- bounds of tables over boxes of indices ------------------------------------------------------------------------------------- */

enum { BOX_LIMIT = 4096 }; /* entries looked at; a larger box is unknown */

/* A NaN in the box makes the bound NaN. */
static Val extreme(gen *g, bool is_min, Val best, Val v)
{
    if (LLVMTypeOf(best) != g->f32) return select_of(g, is_min ? less(g, v, best) : less(g, best, v), v, best);
    Val take = LLVMBuildFCmp(g->b, is_min ? LLVMRealULT : LLVMRealUGT, v, best, "");
    Val keep = LLVMBuildFCmp(g->b, LLVMRealUNO, best, best, "");
    return select_of(g, LLVMBuildAnd(g->b, take, LLVMBuildNot(g->b, keep, ""), ""), v, best);
}

/* Walks dimension d of the box; *best is carried through the loops. */
static void walk_box(gen *g, const table *t, uint32_t d, Val flat, const Val *lo, const Val *hi, Val base, bool is_min, Val *best)
{
    if (d == t->rank) {
        Type element = table_element(g, t);
        Val v = load(g, element, at(g, element, base, flat), element == g->i64 ? 8 : 4);
        if (t->type == TYPE_INT && element != g->i64) v = LLVMBuildSExt(g->b, v, g->i64, "");
        *best = extreme(g, is_min, *best, v);
        return;
    }
    loop l;
    Val i = loop_begin(g, &l, lo[d], best, 1);
    walk_box(g, t, d + 1, add(g, mul(g, flat, c64(g, t->extent[d])), i), lo, hi, base, is_min, best);
    loop_end(g, &l, c64(g, 1), add(g, hi[d], c64(g, 1)));
}

/* Of an integer table as a whole, and of what is read outside of it. */
static int64_t whole_bound(const table *t, bool is_min)
{
    double best = 0;
    if (!t->value) return is_min ? INT32_MIN : INT32_MAX;
    for (int64_t i = 0; i < table_size(t); i++)
        if (is_min ? t->value[i] < best : t->value[i] > best) best = t->value[i];
    return (int64_t)best;
}

/* value min_of_table(inputs, lo0, hi0, ...): entries outside the table count as 0, as reading them would give. */
static Val make_bound_function(gen *g, expr_code *x, uint32_t index, bool is_min)
{
    const table *t = &expr_symbols(x->pool)->tables.at[index];
    Val before = g->fn, lo[TABLE_MAX_RANK], hi[TABLE_MAX_RANK];
    Block resume = here(g);
    bool is_float = t->type == TYPE_FLOAT;
    Type value = is_float ? g->f32 : g->i64, args[1 + 2 * TABLE_MAX_RANK] = {g->ptr};
    for (uint32_t i = 0; i < 2 * t->rank; i++) args[1 + i] = g->i64;
    Val f = add_function(g, is_min ? "min_of" : "max_of", value, args, 1 + 2 * t->rank);
    expr_code here_code = *x;
    here_code.inputs = LLVMGetParam(f, 0);
    Val outside = LLVMConstInt(g->i1, 0, 0), volume = c64(g, 1), zero = LLVMConstNull(value);
    Val unknown = is_float ? LLVMConstReal(g->f32, is_min ? -INFINITY : INFINITY) : c64(g, whole_bound(t, is_min));
    Block inside = block(g), walk = block(g), give_up = block(g), nothing = block(g);
    for (uint32_t i = 0; i < t->rank; i++) {
        Val l = LLVMGetParam(f, 1 + 2 * i), h = LLVMGetParam(f, 2 + 2 * i), last = c64(g, t->extent[i] - 1);
        lo[i] = smax(g, l, c64(g, 0));
        hi[i] = smin(g, h, last);
        outside = LLVMBuildOr(g->b, outside, LLVMBuildOr(g->b, less(g, l, c64(g, 0)), less(g, last, h), ""), "");
        Val extent = smin(g, smax(g, add(g, sub(g, hi[i], lo[i]), c64(g, 1)), c64(g, 0)), c64(g, BOX_LIMIT + 1));
        volume = smin(g, mul(g, volume, extent), c64(g, BOX_LIMIT + 1));
    }
    branch(g, LLVMBuildICmp(g->b, LLVMIntEQ, volume, c64(g, 0), ""), nothing, inside);
    go(g, inside);
    branch(g, less(g, c64(g, BOX_LIMIT), volume), give_up, walk);
    go(g, nothing);
    LLVMBuildRet(g->b, zero);
    go(g, give_up);
    LLVMBuildRet(g->b, unknown);
    go(g, walk);
    /* the opposite extreme is the neutral start */
    Val start = is_float ? LLVMConstReal(g->f32, is_min ? INFINITY : -INFINITY) : c64(g, is_min ? INT64_MAX : INT64_MIN);
    Val best = select_of(g, outside, zero, start);
    walk_box(g, t, 0, c64(g, 0), lo, hi, table_base(g, &here_code, index), is_min, &best);
    LLVMBuildRet(g->b, best);
    g->fn = before;
    go(g, resume);
    return f;
}

static Val table_bound(gen *g, expr_code *x, const expr_node *n, Val *index)
{
    bool is_min = n->op == EXPR_ELEM_MIN;
    Val **slot = &g->bound_fn[is_min ? 0 : 1], args[1 + 2 * TABLE_MAX_RANK] = {x->inputs};
    if (!(*slot)[n->index]) (*slot)[n->index] = make_bound_function(g, x, n->index, is_min);
    for (uint32_t i = 0; i < n->nargs; i++) args[1 + i] = index[i];
    Val f = (*slot)[n->index];
    return LLVMBuildCall2(g->b, LLVMGlobalGetValueType(f), f, args, 1u + n->nargs, "");
}

/* ---- operations ------------------------------------------------------------------------------------------------------------------ */

static Val constant(gen *g, const expr_node *n)
{
    if (n->type == TYPE_FLOAT) return LLVMConstReal(g->f32, n->value.f);
    return n->type == TYPE_BOOL ? LLVMConstInt(g->i1, (unsigned long long)n->value.i, 0) : c64(g, n->value.i);
}

static Val float_op(gen *g, expr_op op, Val a, Val b)
{
    LLVMBuilderRef w = g->b;
    if (op == EXPR_FADD) return LLVMBuildFAdd(w, a, b, "");
    if (op == EXPR_FSUB) return LLVMBuildFSub(w, a, b, "");
    if (op == EXPR_FMUL) return LLVMBuildFMul(w, a, b, "");
    if (op == EXPR_FDIV) return LLVMBuildFDiv(w, a, b, "");
    /* what is no number is skipped: b unless a is better or b is none */
    Val first = LLVMBuildFCmp(w, op == EXPR_FMIN ? LLVMRealOLT : LLVMRealOGT, a, b, "");
    return select_of(g, LLVMBuildOr(w, first, LLVMBuildFCmp(w, LLVMRealUNO, b, b, ""), ""), a, b);
}

static Val operation(gen *g, expr_code *x, const expr_node *n, Val *v)
{
    LLVMBuilderRef b = g->b;
    Type t = LLVMTypeOf(v[0]);
    switch ((expr_op)n->op) {
    case EXPR_NOT: return LLVMBuildNot(b, v[0], "");
    case EXPR_AND: return LLVMBuildAnd(b, v[0], v[1], "");
    case EXPR_OR: return LLVMBuildOr(b, v[0], v[1], "");
    case EXPR_LT: return less(g, v[0], v[1]);
    case EXPR_LE: return LLVMBuildICmp(b, LLVMIntSLE, v[0], v[1], "");
    case EXPR_EQ: return LLVMBuildICmp(b, LLVMIntEQ, v[0], v[1], "");
    case EXPR_FLT: return LLVMBuildFCmp(b, LLVMRealOLT, v[0], v[1], "");
    case EXPR_FLE: return LLVMBuildFCmp(b, LLVMRealOLE, v[0], v[1], "");
    case EXPR_FEQ: return LLVMBuildFCmp(b, LLVMRealOEQ, v[0], v[1], "");
    case EXPR_ADD: return LLVMBuildAdd(b, v[0], v[1], "");
    case EXPR_SUB: return LLVMBuildSub(b, v[0], v[1], "");
    case EXPR_MUL: return LLVMBuildMul(b, v[0], v[1], "");
    case EXPR_DIV: return floor_div(g, operand_of(x, n->arg[0], v[0]), operand_of(x, n->arg[1], v[1]));
    case EXPR_MOD: return floor_mod(g, operand_of(x, n->arg[0], v[0]), operand_of(x, n->arg[1], v[1]));
    case EXPR_MIN: return smin(g, v[0], v[1]);
    case EXPR_MAX: return smax(g, v[0], v[1]);
    case EXPR_ABS: return int_abs(g, v[0]);
    case EXPR_FLOOR: return float_to_int(g, x, v[0]);
    case EXPR_FADD:
    case EXPR_FSUB:
    case EXPR_FMUL:
    case EXPR_FDIV:
    case EXPR_FMIN:
    case EXPR_FMAX: return float_op(g, (expr_op)n->op, v[0], v[1]);
    case EXPR_FABS: return intrinsic(g, "llvm.fabs", &t, 1, v, 1);
    case EXPR_FLOAT: return LLVMBuildSIToFP(b, v[0], is_lanes(v[0]) ? vector_of(g->f32, x->lanes) : g->f32, "");
    case EXPR_EXP: return math_exp(g, v[0]);
    case EXPR_EXP2: return math_exp2(g, v[0]);
    case EXPR_LN: return LLVMBuildFMul(b, math_log2(g, v[0]), constant_like(t, 0.6931471805599453), "");
    case EXPR_LOG2: return math_log2(g, v[0]);
    case EXPR_SQRT: return math_sqrt(g, v[0]);
    case EXPR_TANH: return math_tanh(g, v[0]);
    case EXPR_IF: return select_of(g, v[0], v[1], v[2]);
    case EXPR_NONE:
    case EXPR_CONST:
    case EXPR_VAR:
    case EXPR_ATTR:
    case EXPR_DATA:
    case EXPR_ELEM:
    case EXPR_ELEM_MIN:
    case EXPR_ELEM_MAX:
    case EXPR_OP_COUNT: break;
    }
    ATTNC_UNREACHABLE();
}

static Val emit_node(gen *g, expr_code *x, expr e)
{
    const expr_node n = *expr_get(x->pool, e);
    if (n.op == EXPR_CONST) return constant(g, &n);
    Val v[EXPR_MAX_ARGS] = {0};
    bool lanes = false;
    for (uint32_t i = 0; i < n.nargs; i++) lanes |= is_lanes(v[i] = x->known[n.arg[i]]);
    if (n.op == EXPR_ELEM) return table_value(g, x, &n, v);
    if (n.op == EXPR_ELEM_MIN || n.op == EXPR_ELEM_MAX) return table_bound(g, x, &n, v);
    if (!n.nargs) ATTNC_BUG("an expression reads what is not known here");
    bool one_condition = n.op == EXPR_IF && !is_lanes(v[0]);
    for (uint32_t i = one_condition; i < n.nargs && lanes; i++) v[i] = as_lanes(g, x, v[i]);
    return operation(g, x, &n, v);
}

/* Operands have smaller ids: what is needed is marked downwards, then written upwards; no recursion, however deep the formula. */
Val expr_emit(gen *g, expr_code *x, expr e)
{
    if (x->known[e]) return x->known[e];
    bool *needed = ARENA_ARRAY(g->arena, bool, (size_t)e + 1);
    needed[e] = true;
    for (expr i = e; i; i--) {
        if (!needed[i] || x->known[i]) continue;
        if (x->outer && x->outer[i]) x->known[i] = x->outer[i];
        else x->known[i] = x->leaf(g, x, i);
        if (x->known[i]) continue;
        const expr_node *n = expr_get(x->pool, i);
        for (uint32_t j = 0; j < n->nargs; j++) needed[n->arg[j]] = true;
    }
    for (expr i = 1; i <= e; i++)
        if (needed[i] && !x->known[i]) x->known[i] = emit_node(g, x, i);
    return x->known[e];
}

void expr_forget(expr_code *x)
{
    for (size_t i = 0; i < x->n; i++) x->known[i] = NULL;
}
