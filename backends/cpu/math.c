/* math.c - elementary functions on floats or vectors of floats, as IR: no call of libm can appear.
 *
 * Coefficients are minimax (Remez exchange in f64); the relative errors given include rounding in f32. NaN goes in, NaN comes out. */
#include "backends/cpu/internal.h"

#include <math.h>

static Val fadd(gen *g, Val a, Val b) { return LLVMBuildFAdd(g->b, a, b, ""); }
static Val fsub(gen *g, Val a, Val b) { return LLVMBuildFSub(g->b, a, b, ""); }
static Val fmul(gen *g, Val a, Val b) { return LLVMBuildFMul(g->b, a, b, ""); }
static Val fdiv(gen *g, Val a, Val b) { return LLVMBuildFDiv(g->b, a, b, ""); }
static Val compare(gen *g, LLVMRealPredicate p, Val a, Val b) { return LLVMBuildFCmp(g->b, p, a, b, ""); }

static uint32_t lanes_of(Val x)
{
    Type t = LLVMTypeOf(x);
    return LLVMGetTypeKind(t) == LLVMVectorTypeKind ? LLVMGetVectorSize(t) : 1;
}
static Type bits_type(const gen *g, Val x) { return vector_of(g->i32, lanes_of(x)); }

/* c[0] + c[1] x + ... */
static Val polynomial(gen *g, Val x, const double *c, int degree)
{
    Type t = LLVMTypeOf(x);
    Val p = constant_like(t, c[degree]);
    for (int i = degree - 1; i >= 0; i--) p = fmadd(g, p, x, constant_like(t, c[i]));
    return p;
}

/* ---- powers of 2 ------------------------------------------------------------------------------------------------------------- */

/* 2^r on [-1/2, 1/2]: relative error 7.9e-8. */
static const double exp2_c[] = {1.0000000005541665,   0.6931472057372674,    0.24022646890634242,   0.05550328776965721,
                                0.00961848895711658, 0.0013399931219081813, 0.00015345812000853534};

/* On [0, 1). */
static const double exp2_floor_c[] = {1.0000000018558002,   0.6931469838406201,    0.2402298362739494,    0.05548334198461494,
                                      0.009678840996045926, 0.0012439687827857009, 0.00021702255458340726};

/* On [0, 1), 2.9e-6: for weights that are rounded to bf16. Exactly 1 at 0: what is equal to the maximum counts in the sum as it does rounded. */
static const double exp2_short_floor_c[] = {1, 0.6930448445325442, 0.24128020759687827, 0.05224246823059875, 0.013426687971398926};

/* 2^r - 1 on [-1/32, 1/32]: 1.2e-9. */
static const double exp2_root_c[] = {-1.146588272243898e-09, 0.6931471804009951, 0.2402358997918526, 0.055505410782768896};

static Val clamp_below(gen *g, Val x, double low)
{
    Val c = constant_like(LLVMTypeOf(x), low);
    return select_of(g, compare(g, LLVMRealOLT, x, c), c, x);
}

static Val clamp_above(gen *g, Val x, double high)
{
    Val c = constant_like(LLVMTypeOf(x), high);
    return select_of(g, compare(g, LLVMRealOGT, x, c), c, x);
}

/* a 2^floor(x) */
static Val scalef(gen *g, Val a, Val x)
{
    Val none = LLVMConstNull(LLVMTypeOf(x)), all = LLVMConstAllOnes(g->i16), as_ever = c32(g, 4);
    return intrinsic(g, "llvm.x86.avx512.mask.scalef.ps.512", NULL, 0, (Val[]){a, x, none, all, as_ever}, 5);
}

/* vreduceps leaves what is behind the point, and 0 of infinities; vscalefps takes what is before it, underflows to 0 by itself and
 * keeps a NaN. */
static Val exp2_scalef(gen *g, Val x, const double *c, int degree)
{
    Type t = LLVMTypeOf(x);
    Val none = LLVMConstNull(t), all = LLVMConstAllOnes(g->i16), to_floor = c32(g, 9), as_ever = c32(g, 4);
    Val r = intrinsic(g, "llvm.x86.avx512.mask.reduce.ps.512", NULL, 0, (Val[]){x, to_floor, none, all, as_ever}, 5);
    return scalef(g, polynomial(g, r, c, degree), x);
}

static Val table16(gen *g, float (*entry)(int))
{
    Val v[16];
    for (int i = 0; i < 16; i++) v[i] = LLVMConstReal(g->f32, entry(i));
    return LLVMConstVector(v, 16);
}

static float root(int i) { return (float)exp2(i / 16.0); }

/* What root() is rounded by, and the polynomial's constant. */
static float root_error(int i) { return (float)((exp2(i / 16.0) - root(i)) / root(i) + exp2_root_c[0]); }

/* x = k/16 + r: adding 1.5 * 2^19 leaves k in the low bits of the sum, of which vpermps takes four, and vscalefps the rest. 2^x = t + t (2^r - 1) with t a
 * 16th root: 6.2e-8. Four multiply-adds, where exp2_scalef() has six, but more instructions: for places where multiply-adds are what is waited for. */
static Val exp2_by_roots(gen *g, Val x)
{
    Type t = LLVMTypeOf(x), bits = bits_type(g, x);
    Val magic = constant_like(t, 786432.0);
    x = fmax_of(g, constant_like(t, -200), x); /* so that the sum does not round; a NaN stays */
    Val sum = fadd(g, x, magic), sixteenths = fsub(g, sum, magic), r = fsub(g, x, sixteenths), which = LLVMBuildBitCast(g->b, sum, bits, "");
    Val q = constant_like(t, exp2_root_c[3]);
    q = fmadd(g, fmadd(g, q, r, constant_like(t, exp2_root_c[2])), r, constant_like(t, exp2_root_c[1]));
    q = fmadd(g, q, r, intrinsic(g, "llvm.x86.avx512.permvar.sf.512", NULL, 0, (Val[]){table16(g, root_error), which}, 2));
    Val whole = intrinsic(g, "llvm.x86.avx512.permvar.sf.512", NULL, 0, (Val[]){table16(g, root), which}, 2);
    return scalef(g, fmadd(g, q, whole, whole), sixteenths);
}

/* The nearest integer by adding 1.5 * 2^23: it stands in the low bits of the sum, ready to become an exponent. */
static Val exp2_shift(gen *g, Val x)
{
    Type t = LLVMTypeOf(x), bits = bits_type(g, x);
    Val magic = constant_like(t, 12582912.0), sum = fadd(g, x, magic);
    Val p = polynomial(g, fsub(g, x, fsub(g, sum, magic)), exp2_c, 6);
    Val exponent = LLVMBuildShl(g->b, LLVMBuildBitCast(g->b, sum, bits, ""), int_like(bits, 23), "");
    Val power = LLVMBuildAdd(g->b, exponent, int_like(bits, 0x3f800000), "");
    return fmul(g, p, LLVMBuildBitCast(g->b, power, t, ""));
}

static bool has_scalef(const gen *g, Val x) { return g->target->scalef && lanes_of(x) == 16; }

Val math_exp2_falling(gen *g, Val x)
{
    if (has_scalef(g, x)) return exp2_scalef(g, x, exp2_floor_c, 6);
    return exp2_shift(g, clamp_below(g, x, -127)); /* the exponent of 2^-127 is that of 0 */
}

Val math_exp2_beside(gen *g, Val x) { return has_scalef(g, x) ? exp2_by_roots(g, x) : math_exp2_falling(g, x); }

Val math_exp2_falling_short(gen *g, Val x)
{
    ATTNC_CHECK(has_scalef(g, x));
    return exp2_scalef(g, x, exp2_short_floor_c, 4);
}

static Val nearest(gen *g, Val x)
{
    Type t = LLVMTypeOf(x);
    Val magic = constant_like(t, 12582912.0);
    return has_scalef(g, x) ? intrinsic(g, "llvm.roundeven", &t, 1, &x, 1) : fsub(g, fadd(g, x, magic), magic);
}

/* 2^n for whole n in [-127, 127]; -127 gives 0. */
static Val power_of(gen *g, Val n)
{
    Type t = LLVMTypeOf(n), bits = bits_type(g, n);
    Val sum = LLVMBuildBitCast(g->b, fadd(g, n, constant_like(t, 12582912.0)), bits, "");
    Val power = LLVMBuildAdd(g->b, LLVMBuildShl(g->b, sum, int_like(bits, 23), ""), int_like(bits, 0x3f800000), "");
    return LLVMBuildBitCast(g->b, power, t, "");
}

/* 2^(n + r), |r| <= 1/2, n whole in [-254, 254]: in two factors, so that both ends of f32 come out right. */
static Val exp2_of_parts(gen *g, Val n, Val r)
{
    Val p = polynomial(g, r, exp2_c, 6), half = nearest(g, fmul(g, n, constant_like(LLVMTypeOf(n), 0.5)));
    return fmul(g, fmul(g, p, power_of(g, half)), power_of(g, fsub(g, n, half)));
}

Val math_exp2(gen *g, Val x)
{
    x = clamp_above(g, clamp_below(g, x, -160), 129);
    Val n = nearest(g, x);
    return exp2_of_parts(g, n, fsub(g, x, n));
}

/* x = n ln 2 + r with ln 2 in two pieces, the first short enough for n times it to be exact: rounding x log2 e as a whole would cost
 * as many digits as x has before the point. */
Val math_exp(gen *g, Val x)
{
    Type t = LLVMTypeOf(x);
    const double ln2 = 0.69314718055994531, high = 0x1.62ep-1;
    x = clamp_above(g, clamp_below(g, x, -110), 89.5);
    Val n = nearest(g, fmul(g, x, constant_like(t, 1 / ln2)));
    Val r = fsub(g, fsub(g, x, fmul(g, n, constant_like(t, high))), fmul(g, n, constant_like(t, ln2 - high)));
    return exp2_of_parts(g, n, fmul(g, r, constant_like(t, 1 / ln2)));
}

/* ---- logarithm ---------------------------------------------------------------------------------------------------------------- */

/* log2((1 + s) / (1 - s)) / s in s^2 for mantissas in [sqrt 1/2, sqrt 2]: 2e-9 before rounding. */
static const double log2_c[] = {2.8853900797616236, 0.9617988678148116, 0.5767122419377231, 0.43179149975539266};

Val math_log2(gen *g, Val x)
{
    Type t = LLVMTypeOf(x), bits = bits_type(g, x);
    /* subnormals are brought up by 2^24 */
    Val small = compare(g, LLVMRealOLT, x, constant_like(t, 1.17549435e-38));
    Val y = select_of(g, small, fmul(g, x, constant_like(t, 16777216.0)), x);
    Val i = LLVMBuildBitCast(g->b, y, bits, "");
    Val e = LLVMBuildAShr(g->b, LLVMBuildSub(g->b, i, int_like(bits, 0x3f3504f3), ""), int_like(bits, 23), "");
    Val m = LLVMBuildBitCast(g->b, LLVMBuildSub(g->b, i, LLVMBuildShl(g->b, e, int_like(bits, 23), ""), ""), t, "");
    Val one = constant_like(t, 1), s = fdiv(g, fsub(g, m, one), fadd(g, m, one));
    Val exponent = LLVMBuildSIToFP(g->b, e, t, "");
    exponent = fsub(g, exponent, select_of(g, small, constant_like(t, 24), LLVMConstNull(t)));
    Val r = fmadd(g, polynomial(g, fmul(g, s, s), log2_c, 3), s, exponent);
    Val zero = LLVMConstNull(t), inf = constant_like(t, 1e39);
    r = select_of(g, compare(g, LLVMRealOEQ, x, zero), constant_like(t, -1e39), r);
    r = select_of(g, compare(g, LLVMRealOEQ, x, inf), inf, r);
    Val bad = compare(g, LLVMRealULT, x, zero); /* negative or NaN */
    return select_of(g, bad, constant_like(t, 0.0 / 0.0), r);
}

/* ---- tanh ----------------------------------------------------------------------------------------------------------------------- */

/* x P(x^2) / Q(x^2) for |x| <= 9.01, where tanh is 1 to a rounding: 2.1e-8 (Lawson's weighted least squares in f64), 3.1e-7 with roundings. Every
 * term is positive, so nothing cancels. By exp2 (a polynomial near 0 beside it) it is 1.2e-7 and twice the instructions: softcap at D 64
 * cost 1.15 times plain causal. */
static const double tanh_p[] = {0.9999999792697797, 0.13380360011820214, 0.003494797248940225, 2.0596048151747317e-05, 1.3336543439491021e-08};
static const double tanh_q[] = {1, 0.46713675439465185, 0.025873974319362853, 0.0003284340675803146, 7.769156310602504e-07};

Val math_tanh(gen *g, Val x)
{
    Val c = clamp_above(g, clamp_below(g, x, -9.01), 9.01), square = fmul(g, c, c);
    return fdiv(g, fmul(g, c, polynomial(g, square, tanh_p, 4)), polynomial(g, square, tanh_q, 4));
}

Val math_sqrt(gen *g, Val x)
{
    Type t = LLVMTypeOf(x);
    return intrinsic(g, "llvm.sqrt", &t, 1, &x, 1);
}

/* Without vroundps: to an integer and back; beyond 2^23 every float is whole. */
Val math_floor(gen *g, Val x)
{
    Type t = LLVMTypeOf(x), bits = bits_type(g, x);
    if (g->target->round) return intrinsic(g, "llvm.floor", &t, 1, &x, 1);
    Val a = intrinsic(g, "llvm.fabs", &t, 1, &x, 1);
    Val small = compare(g, LLVMRealOLT, a, constant_like(t, 8388608.0));
    Val whole = LLVMBuildSIToFP(g->b, LLVMBuildFPToSI(g->b, select_of(g, small, x, LLVMConstNull(t)), bits, ""), t, "");
    Val above = compare(g, LLVMRealOGT, whole, x);
    whole = fsub(g, whole, select_of(g, above, constant_like(t, 1), LLVMConstNull(t)));
    return select_of(g, small, whole, x);
}

/* ---- storage types --------------------------------------------------------------------------------------------------------------- */

static Val to_bits(gen *g, Val x) { return LLVMBuildBitCast(g->b, x, bits_type(g, x), ""); }

/* f16 without the instruction: shift exponent and mantissa into place and multiply by 2^112, which also makes subnormals right;
 * infinities and NaN get the largest exponent. */
static Val half_bits_to_float(gen *g, Val x)
{
    uint32_t n = lanes_of(x);
    Type bits = vector_of(g->i32, n), t = vector_of(g->f32, n);
    Val w = LLVMBuildZExt(g->b, x, bits, "");
    Val magnitude = LLVMBuildAnd(g->b, w, int_like(bits, 0x7fff), "");
    Val shifted = LLVMBuildShl(g->b, magnitude, int_like(bits, 13), "");
    Val y = fmul(g, LLVMBuildBitCast(g->b, shifted, t, ""), constant_like(t, 0x1p112));
    Val special = LLVMBuildICmp(g->b, LLVMIntUGE, magnitude, int_like(bits, 0x7c00), "");
    Val large = LLVMBuildOr(g->b, shifted, int_like(bits, 0x7f800000), "");
    Val r = select_of(g, special, large, to_bits(g, y));
    Val sign = LLVMBuildShl(g->b, LLVMBuildAnd(g->b, w, int_like(bits, 0x8000), ""), int_like(bits, 16), "");
    return LLVMBuildBitCast(g->b, LLVMBuildOr(g->b, r, sign, ""), t, "");
}

Val half_to_float(gen *g, Val x, dtype t)
{
    uint32_t n = lanes_of(x);
    Type bits = vector_of(g->i32, n), f = vector_of(g->f32, n);
    if (t == DTYPE_BF16)
        return LLVMBuildBitCast(g->b, LLVMBuildShl(g->b, LLVMBuildZExt(g->b, x, bits, ""), int_like(bits, 16), ""), f, "");
    if (!g->target->half) return half_bits_to_float(g, x);
    return LLVMBuildFPExt(g->b, LLVMBuildBitCast(g->b, x, vector_of(g->f16, n), ""), f, "");
}

static Val float_to_bf16(gen *g, Val x)
{
    Type bits = bits_type(g, x);
    Val w = to_bits(g, x);
    Val odd = LLVMBuildAnd(g->b, LLVMBuildLShr(g->b, w, int_like(bits, 16), ""), int_like(bits, 1), "");
    Val r = LLVMBuildAdd(g->b, w, LLVMBuildAdd(g->b, odd, int_like(bits, 0x7fff), ""), "");
    Val quiet = LLVMBuildOr(g->b, w, int_like(bits, 0x400000), "");
    r = select_of(g, compare(g, LLVMRealUNO, x, x), quiet, r);
    return LLVMBuildTrunc(g->b, LLVMBuildLShr(g->b, r, int_like(bits, 16), ""), vector_of(g->i16, lanes_of(x)), "");
}

/* f16 without the instruction. Normal: round the 13 bits that go in integer arithmetic. Subnormal: adding 1/2 lets the adder round.
 * Too large: infinity. */
static Val float_to_half_bits(gen *g, Val x)
{
    Type bits = bits_type(g, x), t = LLVMTypeOf(x);
    Val w = to_bits(g, x), sign = LLVMBuildAnd(g->b, w, int_like(bits, 0x80000000), "");
    Val u = LLVMBuildXor(g->b, w, sign, "");
    Val odd = LLVMBuildAnd(g->b, LLVMBuildLShr(g->b, u, int_like(bits, 13), ""), int_like(bits, 1), "");
    Val rounded = LLVMBuildAdd(g->b, u, LLVMBuildAdd(g->b, odd, int_like(bits, 0xfff - (112 << 23)), ""), "");
    Val normal = LLVMBuildLShr(g->b, rounded, int_like(bits, 13), "");
    Val tiny = to_bits(g, fadd(g, LLVMBuildBitCast(g->b, u, t, ""), constant_like(t, 0.5)));
    tiny = LLVMBuildSub(g->b, tiny, int_like(bits, 0x3f000000), "");
    Val r = select_of(g, LLVMBuildICmp(g->b, LLVMIntULT, u, int_like(bits, 113 << 23), ""), tiny, normal);
    Val over = LLVMBuildICmp(g->b, LLVMIntUGE, u, int_like(bits, 0x47800000), "");
    Val nan = LLVMBuildICmp(g->b, LLVMIntUGT, u, int_like(bits, 0x7f800000), "");
    r = select_of(g, over, select_of(g, nan, int_like(bits, 0x7e00), int_like(bits, 0x7c00)), r);
    r = LLVMBuildOr(g->b, r, LLVMBuildLShr(g->b, sign, int_like(bits, 16), ""), "");
    return LLVMBuildTrunc(g->b, r, vector_of(g->i16, lanes_of(x)), "");
}

Val float_to_half(gen *g, Val x, dtype t)
{
    uint32_t n = lanes_of(x);
    if (t == DTYPE_BF16) return float_to_bf16(g, x);
    if (!g->target->half) return float_to_half_bits(g, x);
    return LLVMBuildBitCast(g->b, LLVMBuildFPTrunc(g->b, x, vector_of(g->f16, n), ""), vector_of(g->i16, n), "");
}
