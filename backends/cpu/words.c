/* words.c - small words for LLVM IR. */
#include "backends/cpu/internal.h"

#include <stdio.h>
#include <string.h>

Val c32(const gen *g, int64_t x) { return LLVMConstInt(g->i32, (unsigned long long)x, 1); }
Val c64(const gen *g, int64_t x) { return LLVMConstInt(g->i64, (unsigned long long)x, 1); }

Type vector_of(Type element, uint32_t n) { return n > 1 ? LLVMVectorType(element, n) : element; }

static bool is_vector(Type t) { return LLVMGetTypeKind(t) == LLVMVectorTypeKind; }

static Val repeat(Val c, Type t)
{
    Val e[64];
    if (!is_vector(t)) return c;
    unsigned n = LLVMGetVectorSize(t);
    ATTNC_CHECK(n <= ATTNC_COUNT(e));
    for (unsigned i = 0; i < n; i++) e[i] = c;
    return LLVMConstVector(e, n);
}

static Type element_of(Type t) { return is_vector(t) ? LLVMGetElementType(t) : t; }

Val constant_like(Type t, double x) { return repeat(LLVMConstReal(element_of(t), x), t); }
Val int_like(Type t, int64_t x) { return repeat(LLVMConstInt(element_of(t), (unsigned long long)x, 1), t); }

Val splat(gen *g, Val scalar, uint32_t n)
{
    if (n == 1) return scalar;
    if (LLVMIsConstant(scalar)) return repeat(scalar, vector_of(LLVMTypeOf(scalar), n));
    Type v = vector_of(LLVMTypeOf(scalar), n);
    Val one = LLVMBuildInsertElement(g->b, LLVMGetPoison(v), scalar, c32(g, 0), "");
    return LLVMBuildShuffleVector(g->b, one, LLVMGetPoison(v), LLVMConstNull(vector_of(g->i32, n)), "");
}

Val add(gen *g, Val a, Val b) { return LLVMBuildNSWAdd(g->b, a, b, ""); }
Val sub(gen *g, Val a, Val b) { return LLVMBuildNSWSub(g->b, a, b, ""); }
Val mul(gen *g, Val a, Val b) { return LLVMBuildNSWMul(g->b, a, b, ""); }
Val less(gen *g, Val a, Val b) { return LLVMBuildICmp(g->b, LLVMIntSLT, a, b, ""); }
Val select_of(gen *g, Val c, Val a, Val b) { return LLVMBuildSelect(g->b, c, a, b, ""); }
Val smin(gen *g, Val a, Val b) { return select_of(g, less(g, b, a), b, a); }
Val smax(gen *g, Val a, Val b) { return select_of(g, less(g, a, b), b, a); }

Val round_up(gen *g, Val n, uint32_t to)
{
    Val q = LLVMBuildUDiv(g->b, add(g, n, c64(g, to - 1)), c64(g, to), "");
    return mul(g, q, c64(g, to));
}

Val intrinsic(gen *g, const char *name, Type *over, unsigned n_over, Val *args, unsigned n)
{
    unsigned id = LLVMLookupIntrinsicID(name, strlen(name));
    if (!id) ATTNC_BUG(name);
    Type t = LLVMIntrinsicGetType(g->context, id, over, n_over);
    return LLVMBuildCall2(g->b, t, LLVMGetIntrinsicDeclaration(g->module, id, over, n_over), args, n, "");
}

/* Without the instruction llvm.fma would become a call of fmaf. */
Val fmadd(gen *g, Val a, Val b, Val c)
{
    Type t = LLVMTypeOf(c);
    return intrinsic(g, g->target->fma ? "llvm.fma" : "llvm.fmuladd", &t, 1, (Val[]){a, b, c}, 3);
}

Val fmax_of(gen *g, Val a, Val b) { return select_of(g, LLVMBuildFCmp(g->b, LLVMRealOGT, a, b, ""), a, b); }

Val byte_at(gen *g, Val p, Val bytes) { return LLVMBuildInBoundsGEP2(g->b, g->i8, p, &bytes, 1, ""); }
Val at(gen *g, Type t, Val p, Val index) { return LLVMBuildInBoundsGEP2(g->b, t, p, &index, 1, ""); }

Val load(gen *g, Type t, Val p, unsigned align)
{
    Val v = LLVMBuildLoad2(g->b, t, p, "");
    LLVMSetAlignment(v, align);
    return v;
}

void store(gen *g, Val v, Val p, unsigned align) { LLVMSetAlignment(LLVMBuildStore(g->b, v, p), align); }

void prefetch(gen *g, Val p, unsigned level)
{
    Val args[] = {p, c32(g, 0), c32(g, 4 - level), c32(g, 1)}; /* to read; locality; data */
    intrinsic(g, "llvm.prefetch", &g->ptr, 1, args, 4);
}

void prefetch_bytes(gen *g, Val p, int64_t bytes, unsigned level)
{
    for (int64_t line = 0; line < bytes; line += 64) prefetch(g, byte_at(g, p, c64(g, line)), level);
}

Val interleave(gen *g, Val a, Val b, bool upper)
{
    Val pick[64];
    const unsigned n = LLVMGetVectorSize(LLVMTypeOf(a));
    ATTNC_CHECK(n <= ATTNC_COUNT(pick));
    for (unsigned i = 0; i < n; i++) pick[i] = c32(g, (upper * n + i) / 2 + (i % 2 ? n : 0));
    return LLVMBuildShuffleVector(g->b, a, b, LLVMConstVector(pick, n), "");
}

Val field(gen *g, Type s, Val p, unsigned index)
{
    Type t = LLVMStructGetTypeAtIndex(s, index);
    Val v = LLVMBuildLoad2(g->b, t, LLVMBuildStructGEP2(g->b, s, p, index, ""), "");
    return t == g->i32 ? LLVMBuildSExt(g->b, v, g->i64, "") : v;
}

Val permuted(gen *g, Val a, Val b, const uint32_t *lane, uint32_t n)
{
    Val pick[64];
    ATTNC_CHECK(n <= ATTNC_COUNT(pick));
    for (uint32_t i = 0; i < n; i++) pick[i] = c32(g, lane[i]);
    return LLVMBuildShuffleVector(g->b, a, b ? b : LLVMGetPoison(LLVMTypeOf(a)), LLVMConstVector(pick, n), "");
}

Val interleave_within(gen *g, Val a, Val b, unsigned size, bool upper)
{
    uint32_t lane[64], n = 64 / size, unit = 16 / size;
    Type t = vector_of(LLVMIntTypeInContext(g->context, size * 8), n);
    for (uint32_t i = 0; i < n; i++) lane[i] = i / unit * unit + (upper * unit + i % unit) / 2 + i % 2 * n;
    return permuted(g, LLVMBuildBitCast(g->b, a, t, ""), LLVMBuildBitCast(g->b, b, t, ""), lane, n);
}

void hold(gen *g, Val *v, unsigned n)
{
    char constraints[8 * MAX_CARRIED];
    size_t end = 0;
    Type type[MAX_CARRIED];
    ATTNC_CHECK(n > 1 && n <= MAX_CARRIED);
    for (unsigned i = 0; i < n; i++) {
        type[i] = LLVMTypeOf(v[i]);
        end += (size_t)snprintf(constraints + end, sizeof constraints - end, "=v,");
    }
    for (unsigned i = 0; i < n; i++) end += (size_t)snprintf(constraints + end, sizeof constraints - end, i + 1 < n ? "%u," : "%u", i);
    Type all = LLVMStructTypeInContext(g->context, type, n, 0), f = LLVMFunctionType(all, type, n, 0);
    Val nothing = LLVMGetInlineAsm(f, "", 0, constraints, end, 1, 0, LLVMInlineAsmDialectATT, 0);
    Val same = LLVMBuildCall2(g->b, f, nothing, v, n, "");
    for (unsigned i = 0; i < n; i++) v[i] = LLVMBuildExtractValue(g->b, same, i, "");
}

/* ---- control ----------------------------------------------------------------------------------------------------------------- */

Block block(gen *g) { return LLVMAppendBasicBlockInContext(g->context, g->fn, ""); }
void go(gen *g, Block b) { LLVMPositionBuilderAtEnd(g->b, b); }
Block here(const gen *g) { return LLVMGetInsertBlock(g->b); }
void jump(gen *g, Block b) { LLVMBuildBr(g->b, b); }
void branch(gen *g, Val c, Block yes, Block no) { LLVMBuildCondBr(g->b, c, yes, no); }

Val loop_begin(gen *g, loop *l, Val start, Val *carried, unsigned n)
{
    *l = (loop){.pre = here(g), .head = block(g), .carried = carried, .n = n};
    ATTNC_CHECK(n <= MAX_CARRIED);
    jump(g, l->head);
    go(g, l->head);
    l->iv = LLVMBuildPhi(g->b, g->i64, "");
    LLVMAddIncoming(l->iv, &start, &l->pre, 1);
    for (unsigned i = 0; i < n; i++) {
        l->phi[i] = LLVMBuildPhi(g->b, LLVMTypeOf(carried[i]), "");
        LLVMAddIncoming(l->phi[i], &carried[i], &l->pre, 1);
        carried[i] = l->phi[i];
    }
    return l->iv;
}

void loop_end(gen *g, loop *l, Val step, Val end)
{
    Block cur = here(g), out = block(g);
    Val next = add(g, l->iv, step);
    branch(g, less(g, next, end), l->head, out);
    LLVMAddIncoming(l->iv, &next, &cur, 1);
    for (unsigned i = 0; i < l->n; i++) LLVMAddIncoming(l->phi[i], &l->carried[i], &cur, 1);
    go(g, out);
}

Val guarded_begin(gen *g, guarded *l, Val start, Val end)
{
    Block inside = block(g);
    l->after = block(g);
    l->end = end;
    branch(g, less(g, start, end), inside, l->after);
    go(g, inside);
    return loop_begin(g, &l->l, start, NULL, 0);
}

void guarded_end(gen *g, guarded *l, Val step)
{
    loop_end(g, &l->l, step, l->end);
    jump(g, l->after);
    go(g, l->after);
}

/* ---- functions --------------------------------------------------------------------------------------------------------------- */

void set_attribute(gen *g, Val fn, const char *key, const char *value)
{
    LLVMAttributeRef a =
        LLVMCreateStringAttribute(g->context, key, (unsigned)strlen(key), value, (unsigned)strlen(value));
    LLVMAddAttributeAtIndex(fn, LLVMAttributeFunctionIndex, a);
}

Val add_function(gen *g, const char *name, Type result, Type *args, unsigned n)
{
    Val f = LLVMAddFunction(g->module, name, LLVMFunctionType(result, args, n, 0));
    LLVMSetLinkage(f, LLVMInternalLinkage);
    set_attribute(g, f, "target-cpu", g->target->cpu);
    if (g->target->features) set_attribute(g, f, "target-features", g->target->features);
    set_attribute(g, f, "no-builtins", ""); /* no call of memset or the like may appear */
    unsigned nounwind = LLVMGetEnumAttributeKindForName("nounwind", 8);
    LLVMAddAttributeAtIndex(f, LLVMAttributeFunctionIndex, LLVMCreateEnumAttribute(g->context, nounwind, 0));
    g->fn = f;
    go(g, block(g));
    return f;
}

/* Types of one context mean nothing in another. */
static Type same_type(const gen *g, Type t)
{
    switch (LLVMGetTypeKind(t)) {
    case LLVMVoidTypeKind: return g->none;
    case LLVMPointerTypeKind: return g->ptr;
    case LLVMIntegerTypeKind: return LLVMIntTypeInContext(g->context, LLVMGetIntTypeWidth(t));
    default: ATTNC_BUG("a function of this type stays in its module");
    }
}

/* Names hold the target's, so that those of different modules differ. */
Val import_function(gen *g, Val f)
{
    size_t length;
    const char *name = LLVMGetValueName2(f, &length);
    Val known = LLVMGetNamedFunction(g->module, name);
    if (known) return known;
    Type t = LLVMGlobalGetValueType(f), args[16];
    const unsigned n = LLVMCountParamTypes(t);
    ATTNC_CHECK(n <= ATTNC_COUNT(args));
    LLVMGetParamTypes(t, args);
    for (unsigned i = 0; i < n; i++) args[i] = same_type(g, args[i]);
    Val here = LLVMAddFunction(g->module, name, LLVMFunctionType(same_type(g, LLVMGetReturnType(t)), args, n, 0));
    LLVMSetLinkage(f, LLVMExternalLinkage);
    LLVMSetVisibility(f, LLVMHiddenVisibility);
    LLVMSetVisibility(here, LLVMHiddenVisibility);
    return here;
}

gen *gen_of_shared(gen *g) { return g->for_shared ? g->for_shared : g; }
