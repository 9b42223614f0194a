/* internal.h - what the files of the CPU backend share. Nobody outside includes it.
 *
 *     emit.c         the driver: targets, limits, object, library, header
 *     unit.c         an LLVM module and its machine code; several side by side
 *     link.c         the linker's command
 *     module_desc.c  the descriptor: constant data
 *     ranges_code.c  ranges, live, bounds, visible: scalar functions
 *     kernel.c       run and merge of one kernel: items, segments, blocks of keys
 *     keys.c         where the keys of a block lie
 *     ahead.c        rows that the next tile reads for the first time
 *     parts.c        partial results
 *     rows.c         a tile's lanes: addresses, per-lane values, Q transposed, O stored
 *     body.c         what happens to one block of keys: S = QK, maps, masks, maxima
 *     fold.c         then: weights, O += PV
 *     lagged.c       exponentials of one group of keys beside the products of the next
 *     pairs.c        O += PV by pairs of bf16
 *     few.c          items with few rows (decoding): queries, rows ahead, O
 *     few_body.c     their blocks of keys: the same phases, with dims as lanes
 *     few_weights.c  softmax in them
 *     few_int8.c     their products of int8 keys, in integers
 *     few_int8_values.c  those of int8 values
 *     shared.c       the functions of kernels that depend on shapes only
 *     workspace.c    how these reach scratch memory, arguments and item
 *     values.c       which parts of the expressions are computed once per item, row, key or element
 *     expr_code.c    expressions to scalar or vector code
 *     math.c         exp2, log2, tanh ... on floats or vectors of them
 *     words.c        small words for LLVM IR */
#ifndef ATTNC_CPU_INTERNAL_H
#define ATTNC_CPU_INTERNAL_H

#include "backends/backend.h"
#include "ir/kernel/kernel.h"

#include <llvm-c/Core.h>
#include <llvm-c/Target.h>

typedef LLVMValueRef Val;
typedef LLVMTypeRef Type;
typedef LLVMBasicBlockRef Block;

typedef struct cpu_target {
    const char *suffix;         /* of function names: avx512 */
    const char *cpu, *features; /* LLVM's; features may be NULL */
    uint32_t isa;               /* attn_isa */
    bool fma, scalef, masked, round, half; /* instructions: fused multiply-add; vscalefps; masked arithmetic; vroundps; f16 conversion */
    bool dot_bf16, dot_int8;
} cpu_target;

/* An LLVM module and the words to write into it. */
typedef struct gen {
    arena *arena;
    const ir_module *ir;
    LLVMContextRef context;
    LLVMModuleRef module;
    LLVMBuilderRef b;
    LLVMTargetDataRef layout;
    Type i1, i8, i16, i32, i64, f16, f32, ptr, none;
    Type args_type, item_type, segment_type, seq_type; /* of the ABI */
    Val fn;                   /* the function being written */
    const cpu_target *target; /* its machine */
    Val *table_data;          /* constant tables as globals, per table; NULL until used */
    Val *bound_fn[2];         /* min_of, max_of per table; NULL until used */
    struct shared *shapes;    /* functions that kinds of one shape share: shared.c */
    struct gen *for_shared;   /* where they are written; NULL: here */
} gen;

/* ---- words.c ---------------------------------------------------------------------------------------------------------------- */
Val c32(const gen *g, int64_t x);
Val c64(const gen *g, int64_t x);
Type vector_of(Type element, uint32_t n); /* n = 1: the element itself */
Val splat(gen *g, Val scalar, uint32_t n);
Val constant_like(Type t, double x); /* float or vector of floats */
Val int_like(Type t, int64_t x);     /* integer or vector of them */
Val add(gen *g, Val a, Val b);
Val sub(gen *g, Val a, Val b);
Val mul(gen *g, Val a, Val b);
Val less(gen *g, Val a, Val b); /* signed */
Val select_of(gen *g, Val c, Val a, Val b);
Val smin(gen *g, Val a, Val b);
Val smax(gen *g, Val a, Val b);
Val round_up(gen *g, Val n, uint32_t to); /* n >= 0, to a multiple */
Val fmadd(gen *g, Val a, Val b, Val c); /* a * b + c, fused where the machine has it */
Val fmax_of(gen *g, Val a, Val b);      /* b where a > b does not hold: a NaN in a is dropped, one in b stays */
Val intrinsic(gen *g, const char *name, Type *over, unsigned n_over, Val *args, unsigned n);
Val byte_at(gen *g, Val p, Val bytes);            /* p + bytes */
Val at(gen *g, Type t, Val p, Val index);         /* &((t *)p)[index] */
Val load(gen *g, Type t, Val p, unsigned align);
void store(gen *g, Val v, Val p, unsigned align);
void prefetch(gen *g, Val p, unsigned level);     /* asks for the line of p, into the cache of that level */
void prefetch_bytes(gen *g, Val p, int64_t bytes, unsigned level); /* for a line in each 64 bytes */
Val interleave(gen *g, Val a, Val b, bool upper); /* elements of a and b in turn, of their lower or upper halves */
Val permuted(gen *g, Val a, Val b, const uint32_t *lane, uint32_t n); /* lanes of a, then of b; b NULL: of a alone */
Val interleave_within(gen *g, Val a, Val b, unsigned size, bool upper); /* of 64 bytes: words of `size` bytes, within each 16 bytes */
void hold(gen *g, Val *v, unsigned n); /* no instruction, but a place that none of what makes or takes v is moved across */
Val field(gen *g, Type s, Val p, unsigned index); /* value of a struct's field; ints become i64 */
Block block(gen *g);
void go(gen *g, Block b);     /* write at the end of b */
Block here(const gen *g);
void jump(gen *g, Block b);
void branch(gen *g, Val c, Block yes, Block no);
void set_attribute(gen *g, Val fn, const char *key, const char *value);
Val add_function(gen *g, const char *name, Type result, Type *args, unsigned n); /* internal, for g->target; becomes g->fn */
Val import_function(gen *g, Val f); /* a function of another module, to be called from this one; never known outside of the library */
gen *gen_of_shared(gen *g);

enum { MAX_CARRIED = 32 };
/* A counted loop that runs at least once, with values carried in phis. */
typedef struct loop {
    Block pre, head;
    Val iv, phi[MAX_CARRIED], *carried;
    unsigned n;
} loop;
Val loop_begin(gen *g, loop *l, Val start, Val *carried, unsigned n); /* carried[i] become the phis */
void loop_end(gen *g, loop *l, Val step, Val end); /* while ((iv += step) < end); carried[i] are the next values */
/* The same behind a test: not entered when start >= end. Nothing is carried. */
typedef struct guarded {
    loop l;
    Block after;
    Val end;
} guarded;
Val guarded_begin(gen *g, guarded *l, Val start, Val end);
void guarded_end(gen *g, guarded *l, Val step);

/* ---- math.c: x is a float or a vector of them --------------------------------------------------------------------------------- */
Val math_exp2_falling(gen *g, Val x); /* x <= 0; exactly 0 for -inf and below -150; NaN stays */
Val math_exp2_beside(gen *g, Val x); /* the same for x <= 1000, with fewer multiply-adds and more of the rest: beside products */
Val math_exp2_falling_short(gen *g, Val x); /* the same to 2.9e-6, on vectors of 16 with vscalefps */
Val math_exp2(gen *g, Val x); /* over all of f32 */
Val math_exp(gen *g, Val x);
Val math_log2(gen *g, Val x);
Val math_tanh(gen *g, Val x);
Val math_sqrt(gen *g, Val x);
Val math_floor(gen *g, Val x);
Val half_to_float(gen *g, Val x, dtype t); /* integers of 16 bits */
Val float_to_half(gen *g, Val x, dtype t); /* to nearest, ties to even */

/* ---- expr_code.c --------------------------------------------------------------------------------------------------------------- */
/* Where leaves come from. leaf() returns NULL for what it does not know, then the operands are asked; scalars (integers as i64) and
 * vectors of `lanes` may be mixed. */
typedef struct expr_code {
    const expr_pool *pool;
    uint32_t lanes;     /* of vectors; 1: scalars only */
    bool wide_ints;     /* integer lanes are i64, not i32 */
    Val (*leaf)(gen *g, struct expr_code *x, expr e);
    void *ctx;
    Val inputs;         /* pointer to the addresses of run-time inputs */
    Val *known;         /* per expr id: value in the block being written; NULL: not yet */
    const Val *outer;   /* the same for values that dominate it, or NULL */
    size_t n;           /* entries of both */
} expr_code;
Val expr_emit(gen *g, expr_code *x, expr e);
void expr_forget(expr_code *x); /* drops known values: another block is written */
Val as_lanes(gen *g, const expr_code *x, Val v); /* splats a scalar */

/* ---- the parts of a module --------------------------------------------------------------------------------------------------------- */
typedef struct kind_code { /* functions of one layer kind */
    Val ranges, live, bounds, visible; /* bounds may be NULL */
    uint32_t flags;
} kind_code;
kind_code emit_kind_code(gen *g, const kernel *k); /* ranges_code.c */

typedef struct kernel_code {
    const kernel *kernel;
    const cpu_target *target;
    const char *name, *schedule;
    Val run, merge;
    uint64_t workspace, part_bytes;
    uint32_t pair; /* lanes of a narrow piece of two vectors; 0: there are none */
} kernel_code;
/* NULL, or a sentence: this kernel cannot be done. */
const char *emit_kernel(gen *g, const kernel *k, kernel_code *out); /* kernel.c */

void emit_module_desc(gen *g, const kind_code *kinds, const kernel_code *kernels, size_t n_variants, const backend_options *o,
                      const char *symbol); /* module_desc.c; kernels: [variant][kind] */

bool link_library(arena *a, const char *const *objects, size_t n, const char *library, diags *d); /* link.c */

#endif
