/* attn/attn.h - run compiled attention: load a module, plan a batch, run it.
 *
 * attnc turns a pattern into a module (kernel.so, or an object to link). This library needs libc and pthreads only.
 *
 *     attn_module *m;  attn_plan *p;  attn_pool *pool;
 *     attn_module_load("kernel.so", NULL, &m, &err);
 *     attn_pool_create(4, NULL, &pool, &err);
 *     attn_plan_create(m, &(attn_plan_config){.size = sizeof(attn_plan_config), .isa = -1, .workers = 4, .n_seqs = 1, .q_lens = &len},
 *                      &p, &err);
 *     attn_forward(p, &(attn_tensors){.size = sizeof(attn_tensors), .q = &q, .k = &k, .v = &v, .o = &o}, pool, &err);
 *
 * Conventions
 *   Shapes     q [.., tokens, query heads, dim], k [.., tokens, KV heads, dim], v [.., tokens, KV heads, dim_v],
 *              o [.., tokens, query heads, dim_v], lse [.., tokens, query heads] (f32, natural logarithm, sink included).
 *              `..` is the batch: [batch, tokens, heads, dim] with sequences of one length, or [tokens, heads, dim] with the
 *              sequences one behind the other. Padding is never stored. A sequence may be shorter than its batch tensor: what lies
 *              behind its length is neither read nor written.
 *   Tensors    DLPack's DLTensor, in CPU memory; the last dimension must be contiguous, other strides are free (element-aligned, not
 *              negative, o and lse must not overlap themselves). Never copied, never kept after the call; the data of inputs given
 *              to a plan is kept by address, and must live as long as the plan is used.
 *   Errors     functions return a status and leave everything as it was; `err` (may be NULL) gets a sentence.
 *   Ownership  *_create makes, *_destroy frees (NULL is fine). Memory comes from the caller's allocator (NULL: malloc).
 *              A module outlives its plans.
 *   Threads    a module and a plan's shape are read-only and may be shared; one plan runs one call at a time (attn_forward says
 *              ATTN_E_BUSY otherwise). No function uses global mutable state. Running allocates nothing. */
#ifndef ATTN_H
#define ATTN_H

#include <attn/abi.h>
#include <dlpack/dlpack.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define ATTN_API __attribute__((visibility("default")))
#define ATTN_CHECKED __attribute__((warn_unused_result))
#else
#define ATTN_API
#define ATTN_CHECKED
#endif

#define ATTN_VERSION "0.1.0"
ATTN_API const char *attn_version(void); /* of the library that is linked */

typedef enum attn_status {
#define STATUS(ident, value, text) ATTN_##ident = value,
#include <attn/status.def>
#undef STATUS
    ATTN_STATUS_COUNT
} attn_status;
ATTN_API const char *attn_status_text(attn_status s);

typedef struct attn_error { /* filled when a call fails, else left alone */
    char text[256];
} attn_error;

typedef struct attn_allocator {
    void *ctx;
    void *(*alloc)(void *ctx, size_t size, size_t align); /* NULL: no memory */
    void (*free)(void *ctx, void *p, size_t size);
} attn_allocator;

/* ---- modules ------------------------------------------------------------------------------------------------------------ */

typedef struct attn_module attn_module;

/* Loads a library that attnc wrote; checks version and that some kernel of every kind runs on this processor. */
ATTN_API ATTN_CHECKED attn_status attn_module_load(const char *path, const attn_allocator *a, attn_module **out, attn_error *err);
/* The same for a descriptor that is linked in (the header of `attnc -c` declares it); desc is borrowed. */
ATTN_API ATTN_CHECKED attn_status attn_module_open(const attn_module_desc *desc, const attn_allocator *a, attn_module **out,
                                                   attn_error *err);
ATTN_API void attn_module_destroy(attn_module *m);

/* The descriptor: layers, kinds, shapes, inputs, attributes (attn/abi.h). Lives as long as the module. */
ATTN_API const attn_module_desc *attn_module_describe(const attn_module *m);
/* The kernel that runs `layer` when a plan asks for no particular one; NULL for a layer that is not there. */
ATTN_API const attn_kernel_desc *attn_module_kernel(const attn_module *m, uint32_t layer);

/* Instruction sets by name: "baseline", "avx2", "avx512", "avx512bf16", "native". -1 for an unknown name. */
ATTN_API int attn_isa_parse(const char *name);
ATTN_API const char *attn_isa_name(uint32_t isa);
ATTN_API int attn_isa_available(uint32_t isa); /* does this processor (and system) run it; "native" is taken on trust */

/* ---- threads -------------------------------------------------------------------------------------------------------------- */

typedef struct attn_pool attn_pool;

/* `threads` workers in all, the caller being one; they sleep between calls. One call at a time uses a pool. */
ATTN_API ATTN_CHECKED attn_status attn_pool_create(uint32_t threads, const attn_allocator *a, attn_pool **out, attn_error *err);
ATTN_API void attn_pool_destroy(attn_pool *p);
ATTN_API uint32_t attn_pool_threads(const attn_pool *p);
/* How long a worker that has nothing to do looks for the next call before it sleeps; 50 microseconds unless this is called, 0: not at all.
 * Waking a sleeper takes tens of microseconds, as long as a layer of a short sequence: an engine that decodes, and computes something else
 * between two layers, sets this to what it takes between them, if it can spare the processors for so long. From any thread, at any time. */
ATTN_API void attn_pool_set_spin(attn_pool *p, uint32_t microseconds);

/* ---- plans ---------------------------------------------------------------------------------------------------------------- */

typedef struct attn_plan attn_plan;

typedef struct attn_plan_config {
    size_t size;              /* sizeof(attn_plan_config) */
    uint32_t layer;           /* any layer of the kind; the layer itself when its kind is ATTN_KIND_LAYERS_DIFFER */
    uint32_t n_seqs;
    const int64_t *q_lens;    /* [n_seqs] queries of each sequence, >= 0 */
    const int64_t *k_lens;    /* [n_seqs] keys of each sequence, or NULL: as q_lens */
    const int64_t *positions; /* [n_seqs] of each first query, or NULL: k_len - q_len (the queries are the last tokens) */
    const int32_t *const *q_attrs; /* per attribute of the module: values of all queries, sequence after sequence; copied */
    const int32_t *const *k_attrs; /* the same for keys; NULL: as q_attrs (then k_lens must be q_lens) */
    const DLTensor *const *inputs; /* per input of the module; needed here when the kind is ATTN_KIND_MASK_INPUTS, else may be NULL */
    uint32_t workers;         /* most workers that will run it; 0: 1. Long rows of a small batch are cut for them */
    int32_t isa;              /* attn_isa (0 is the baseline), or -1: the best this processor runs */
    const attn_allocator *allocator;
    uint32_t max_parts;       /* most parts a tile's keys are cut into; 0: chosen. (tests) */
    uint32_t group;           /* heads that share a tile; 0: chosen. (tests) */
} attn_plan_config;

/* Works out who visits what: tiles of query rows, their key ranges from the mask's closed form, in a good order. A plan serves every
 * layer of its kind and any tensors of these lengths. Cost: about a microsecond a tile. */
ATTN_API ATTN_CHECKED attn_status attn_plan_create(const attn_module *m, const attn_plan_config *c, attn_plan **out, attn_error *err);
ATTN_API void attn_plan_destroy(attn_plan *p);

typedef struct attn_plan_stats {
    size_t size;             /* in: sizeof(attn_plan_stats) */
    int64_t items, segments;
    int64_t pairs_computed;  /* (row, key, query head) triples the kernels compute */
    int64_t pairs_visible;   /* those that the mask lets through, exactly */
    uint64_t bytes;          /* memory of the plan, workspaces included */
    const char *kernel;      /* name of the kernel */
} attn_plan_stats;
/* pairs_visible is counted here, row by row, with working memory from the plan's allocator: not for a hot path. */
ATTN_API ATTN_CHECKED attn_status attn_plan_get_stats(const attn_plan *p, attn_plan_stats *out);

/* May a step boundary stand at position n of a sequence of `total` tokens (no visible pair query < n <= key)? attrs: per attribute of
 * the module, `total` values; NULL without attributes. inputs as in attn_plan_config. ATTN_E_SPLIT: no, with the reason in err. */
ATTN_API ATTN_CHECKED attn_status attn_split_check(const attn_module *m, uint32_t layer, int64_t n, int64_t total,
                                                   const int32_t *const *attrs, const DLTensor *const *inputs, attn_error *err);

/* ---- running --------------------------------------------------------------------------------------------------------------- */

typedef struct attn_tensors {
    size_t size;               /* sizeof(attn_tensors) */
    const DLTensor *q, *k, *v; /* of the kind's dtype; v NULL where the pattern says `kv k_is_v` */
    const DLTensor *o;         /* f32 or the kind's dtype */
    const DLTensor *lse;       /* f32, or NULL */
    const DLTensor *const *inputs; /* per input of the module, f32 or int32, contiguous; NULL: those of the plan */
    uint32_t layer;            /* must be of the plan's kind */
} attn_tensors;

/* Attention of one layer over the plan's sequences; pool NULL: in this thread. */
ATTN_API ATTN_CHECKED attn_status attn_forward(attn_plan *p, const attn_tensors *t, attn_pool *pool, attn_error *err);

/* The same for an engine's own threads: bind once, let each of `workers` threads (at most the plan's) call attn_run_part with its
 * number, then, when all have come back, attn_end. attn_run_part never blocks. */
ATTN_API ATTN_CHECKED attn_status attn_begin(attn_plan *p, const attn_tensors *t, attn_error *err);
ATTN_API void attn_run_part(attn_plan *p, uint32_t worker, uint32_t workers);
ATTN_API void attn_end(attn_plan *p);

#ifdef __cplusplus
}
#endif
#endif
