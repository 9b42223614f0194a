/* kernel.h - kernel IR: a target-neutral program over tiles of query rows and keys (docs/kernel-ir.md).
 *
 * A kernel is a tree of ops with single-assignment values. Values are 32-bit ids into the kernel's type table. The same
 * program is printed and read (.air), verified, interpreted (the oracle) and handed to a backend, which reads nothing else. */
#ifndef ATTNC_IR_KERNEL_H
#define ATTNC_IR_KERNEL_H

#include "ir/pattern/module.h"

typedef uint32_t kvalue; /* 0: none */

typedef enum kop_code {
#define OP(ident, spelling, results, operands, region, expression, effects) OP_##ident,
#include "ir/kernel/ops.def"
#undef OP
    OP_COUNT
} kop_code;

typedef enum keys_range { KEYS_ALL, KEYS_FULL, KEYS_PARTIAL } keys_range;

enum { KOP_MAX_RESULTS = 3, KOP_MAX_OPERANDS = 3 };

typedef struct kop kop;
typedef struct kblock {
    kvalue arg[KOP_MAX_RESULTS]; /* LOOP: carried values, as the body sees them */
    uint32_t n_args;
    VEC(kop *) ops;
} kblock;

struct kop {
    kop_code code;
    kvalue result[KOP_MAX_RESULTS], operand[KOP_MAX_OPERANDS]; /* counts come from the table */
    expr e;            /* 0: none */
    keys_range range;  /* KEYS */
    kblock *body;      /* BODY, LOOP */
};

typedef enum target_id {
#define TARGET(ident, spelling, vector, registers, dot) TARGET_##ident,
#include "ir/kernel/targets.def"
#undef TARGET
    TARGET_COUNT,
    TARGET_NONE = TARGET_COUNT
} target_id;
typedef struct target_facts {
    const char *name;
    uint32_t vector, registers;
    bool dot_bf16;
} target_facts;
const target_facts *target_get(target_id t);
target_id target_parse(const char *name); /* TARGET_NONE when unknown */

/* Chosen by the schedule pass; all zero before it. Meaning: docs/kernel-ir.md. */
typedef struct schedule {
    target_id target;
    uint32_t lanes;               /* query rows (x heads of a group) of a tile; a multiple of vector */
    uint32_t vector;              /* f32 lanes of one vector */
    uint32_t key_block;           /* keys of one block of a wide (full) tile */
    uint32_t qk_keys, qk_vectors; /* register tile of S = Q K^T: keys x vectors of lanes */
    uint32_t pv_dims, pv_vectors; /* register tile of O = P V: dims x vectors of lanes */
    uint32_t narrow_keys;         /* partial tiles take a vector of lanes at a time, or two: keys and */
    uint32_t narrow_dims;         /* dims of its register tiles */
    uint32_t few_lanes;           /* tiles with at most this many rows in use take dims as lanes: */
    uint32_t few_rows, few_keys;  /* register tile of S: rows x keys; of O: rows x as many vectors of dims */
    uint32_t fetch;               /* how far they fetch K and V ahead, in lines of 64 bytes */
    bool dot_bf16;                /* products of bf16 pairs */
} schedule;

typedef struct kernel {
    const char *name;
    const ir_module *module;
    uint32_t pattern;    /* index in module->patterns: shape and, for the oracle, meaning */
    shape shape;
    kblock *body;
    VEC(uint8_t) types;  /* per value: its letter ('q', 'k', 'v', 's', 'o', 'r'); [0] unused */
    bool base2;          /* exp, decay, finish, init, load.parts count in powers of 2 (fold-scale), else e */
    bool grouped;        /* rows takes query heads of one KV head together (group-heads) */
    bool split;          /* items are parts of the keys; merge follows (split-kv) */
    ranges *ranges;      /* set by split-ranges; what keys full / partial iterate over */
    schedule schedule;
    uint32_t facts;      /* set of KFACT_, see ir/pass/passes.def */
} kernel;

/* ---- table ---------------------------------------------------------------------------------------------------------- */
typedef struct kop_info {
    const char *name, *results, *operands;
    enum { REGION_NONE, REGION_BODY, REGION_LOOP } region;
    enum { EXPR_NO, EXPR_ROWS_OPT, EXPR_SCORE, EXPR_BOOL } expression;
    enum { EFFECT_NONE, EFFECT_READS, EFFECT_WRITES } effects;
} kop_info;
const kop_info *kop_get_info(kop_code c);

/* ---- builder --------------------------------------------------------------------------------------------------------- */
kernel *kernel_create(ir_module *m, const char *name, uint32_t pattern); /* added to the module */
kernel *kernel_clone(ir_module *m, const kernel *k, const char *name);   /* deep copy, not added to the module */
kvalue kernel_value(kernel *k, char type);
kblock *kblock_create(kernel *k);
/* Appends; operands as the table says (0-padded); results are made. */
kop *kop_append(kernel *k, kblock *b, kop_code code, const kvalue *operands, expr e);
kop *kop_insert(kernel *k, kblock *b, size_t at, kop_code code, const kvalue *operands, expr e);
/* A copy of o at the end of b: its results and all that is defined inside are new values, operands from outside stay. */
kop *kop_append_copy(kernel *k, kblock *b, const kop *o);
void kblock_remove(kblock *b, size_t at);
void kblock_replace_uses(kblock *b, kvalue from, kvalue to); /* nested bodies too */

/* ---- text ------------------------------------------------------------------------------------------------------------ */
void kernel_print(const kernel *k, text *to);
void ir_module_print(const ir_module *m, text *to); /* model facts, symbols, patterns, kernels: a whole .air file */
/* NULL after reporting to d; source: index of the text in d. What is returned has passed ir_module_verify. */
ir_module *ir_module_read(arena *a, diags *d, uint32_t source);

/* ---- checks ---------------------------------------------------------------------------------------------------------- */
/* NULL when right, else a sentence (in the module's arena). Covers types, dominance, regions, expression scopes, and that
 * `mask` stands in partial loops only, `keys full` needs ranges, and so on: every rule of docs/kernel-ir.md. */
const char *kernel_verify(const kernel *k);
const char *schedule_verify(const schedule *s, const shape *of); /* of a kernel of this shape; part of kernel_verify */
const char *pattern_verify(const ir_module *m, const pattern *p);
const char *ir_module_verify(const ir_module *m); /* all patterns and kernels, the schedule of the layers */

#endif
