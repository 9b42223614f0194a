/* attn/abi.h - what a compiled module and the runtime say to each other: the kernel ABI.
 *
 * For whoever writes a backend or another runtime; engine authors want attn/attn.h. Rules that keep it stable:
 *   - every struct begins with its size as its maker knows it; fields are appended, never moved, never removed;
 *   - a reader copies min(size, its own) and takes zero for what is missing;
 *   - only pointers and integers cross; all strides and offsets are in bytes.
 * C99 and C++ clean, includes nothing of the compiler. */
#ifndef ATTN_ABI_H
#define ATTN_ABI_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ATTN_ABI_VERSION 5u
/* Every .so exports this symbol, an attn_module_desc; an object made by `attnc -c` exports attn_module_<model name> instead. */
#define ATTN_MODULE_SYMBOL "attn_module"

typedef enum attn_dtype { ATTN_F32 = 0, ATTN_F16 = 1, ATTN_BF16 = 2 } attn_dtype;
/* How a KV cache stores a row of n elements of K or V. */
typedef enum attn_kv_format {
    ATTN_KV_AS_GIVEN = 0, /* n elements of the kind's dtype */
    ATTN_KV_INT8 = 1      /* n elements of int8, then n / group scales in f32, unaligned: element i is int8[i] * scale[i / group] */
} attn_kv_format;
typedef enum attn_isa {
    ATTN_ISA_BASELINE = 0, /* x86-64: SSE2 */
    ATTN_ISA_AVX2 = 1,     /* AVX2, FMA, F16C */
    ATTN_ISA_AVX512 = 2,   /* AVX-512 F, BW, CD, DQ, VL */
    ATTN_ISA_AVX512BF16 = 3, /* also VNNI, which all processors with BF16 have */
    ATTN_ISA_NATIVE = 4    /* whatever the compiling machine had; runs only on its like */
} attn_isa;

/* ---- work -------------------------------------------------------------------------------------------------------------- */

/* One sequence of a call. Position p of its keys lies in page p / page_tokens; a contiguous tensor is one page. */
typedef struct attn_seq {
    int64_t n_q;    /* queries, at positions pos .. pos + n_q - 1 */
    int64_t pos;
    int64_t n_keys; /* keys 0 .. n_keys - 1 */
    int64_t q_offset, o_offset, lse_offset; /* of the first query's row, from the bases in attn_kernel_args */
    const char *const *k_pages;   /* addresses of pages; those that no item's segments touch may be NULL or hold anything */
    const char *const *v_pages;
    const int32_t *const *q_attr; /* per attribute of the module: n_q values; NULL without attributes */
    const int32_t *const *k_attr; /* n_keys values, by position */
} attn_seq;

/* A rectangle that some lanes see: keys k0, k0 + step, .. below k1. masked: the mask must be asked (a partial tile); else all these lanes see
 * all of them. */
typedef struct attn_segment {
    int64_t k0, k1;
    int32_t lane0, lanes; /* all lanes of the tile, one vector of them, or a pair */
    int32_t masked;
    int32_t step; /* at least 1; 1: every key */
} attn_segment;

/* A tile of query rows of one sequence, and the keys it visits in order.
 * Lane i of the tile is row `row + i / heads * row_step` of query head `head + i % heads`. */
typedef struct attn_item {
    int32_t seq;          /* of attn_kernel_args.seqs; a sequence has several where its KV heads lie in different pages */
    int32_t head, heads;  /* first query head; how many heads of the same KV head share the tile */
    int32_t row, rows;    /* first query row within the sequence, how many; rows * heads <= lanes of the kernel */
    int32_t part, parts;  /* the keys are cut into `parts` items; 1: not cut. Only part 0 counts the sink */
    int32_t part_slot;    /* where partial results go: slot part_slot + part; the merge reads part_slot .. + parts - 1 */
    int32_t segment0, segments;
    int32_t row_step; /* at least 1; 1: rows side by side */
    int32_t next;         /* 1: the item behind this one in memory is likely to be run after it: what it reads may be asked for. Else 0 */
    int32_t stage;        /* the runtime's own: kernels do not read it */
    int32_t reserved;
} attn_item;

/* Arguments of a kernel, the same for all items of a call. One list: the C struct, LLVM's struct type and the layout test. */
typedef struct attn_kernel_args {
#define FIELD(type, kind, name) type name;
#include <attn/kernel_args.def>
#undef FIELD
} attn_kernel_args;

/* Runs one item. workspace: attn_kernel_desc.workspace bytes, aligned to 64, one per worker. No allocation, no lock, no global. */
typedef void attn_run_fn(const attn_kernel_args *args, const attn_item *item, void *workspace);

/* ---- what the compiler proved, as code -------------------------------------------------------------------------------------- */

typedef struct attn_range_args {
    uint32_t size;
    uint32_t row_step;      /* ranges: the rows are q0, q0 + row_step, .. up to q1; 0, 1: all between */
    int64_t q0, q1, k0, k1; /* tile: rows q0..q1, keys k0..k1, both included. live: q0 only. ranges: q0, q1 */
    int64_t h, g, layer;
    const void *const *inputs;      /* per run-time input */
    const int64_t *attr;            /* bounds: 4 per attribute: q min, q max, k min, k max. visible: value of q twice, of k twice */
    const uint8_t *data;            /* ranges, live: 2 per data atom: may, must; NULL: 1, 0 */
    int64_t len;                    /* tokens of the sequence, this step's included; live does not read it */
    int64_t sweep;                  /* the half of the mask that is asked about: 1, 2, or 0: all of it. live does not read it */
} attn_range_args;
/* Triples lo, hi, step: keys lo, lo + step, .. up to hi (included), none when lo > hi; step is at least 1; not cut, not sorted. n_may of them,
 * then n_must. */
typedef void attn_ranges_fn(const attn_range_args *args, int64_t *out);
typedef void attn_live_fn(const attn_range_args *args, int64_t *out);  /* n_live pairs lo, hi: all keys between */
typedef void attn_bounds_fn(const attn_range_args *args, uint8_t *data); /* 2 per data atom: may, must */
typedef int32_t attn_visible_fn(const attn_range_args *args);          /* the mask itself, for the pair q0, k0 */

/* ---- descriptors ------------------------------------------------------------------------------------------------------------ */

typedef struct attn_kernel_desc { /* one layer kind for one instruction set */
    uint32_t size;
    uint32_t isa;          /* attn_isa */
    uint32_t lanes;        /* of a tile */
    uint32_t vector;       /* lanes of one vector: what a masked segment covers */
    uint32_t key_step;     /* an unmasked segment that covers all lanes visits a multiple of this many keys */
    uint32_t max_group;    /* most heads in one item */
    uint64_t workspace;    /* bytes per worker */
    uint64_t part_bytes;   /* bytes of one partial-result slot */
    attn_run_fn *run;
    attn_run_fn *merge;    /* after all parts of an item; reads item->part_slot, item->parts */
    const char *name;      /* for profilers: local_f32_d128_avx512 */
    const char *schedule;  /* the chosen tiles, for reports */
    uint32_t pair;         /* lanes of two vectors, from a multiple of as many on, that a segment may cover too; 0: there are no such */
    uint32_t reserved;
} attn_kernel_desc;

enum { /* attn_kind_desc.flags */
    ATTN_KIND_HEADS_DIFFER = 1,   /* the mask reads h or g: ranges differ between heads */
    ATTN_KIND_LAYERS_DIFFER = 2,  /* the mask reads layer: a plan is for one layer */
    ATTN_KIND_MASK_INPUTS = 4,    /* the mask reads run-time inputs: a plan belongs to their values */
    ATTN_KIND_SINK = 8,
    ATTN_KIND_EXACT_ROWS = 16,    /* may = must on single rows: pair counts come from ranges */
    ATTN_KIND_KV_SHARED = 32,     /* its layers have no keys and values of their own: they read those of kv_layer */
    ATTN_KIND_K_IS_V = 64,        /* the first dim_v elements of a key are its value: V is never given, never stored */
    ATTN_KIND_SWEEPS = 256,       /* the mask has two halves, which ranges and kernels know apart; every visible pair is in one of them. Tiles of
                                     the second may take rows row_step apart */
    ATTN_KIND_LEN = 128           /* the mask or a score reads len: results depend on how tokens are cut into steps */
};

typedef struct attn_kind_desc { /* one pattern */
    uint32_t size, flags;
    const char *name;
    uint32_t q_heads, kv_heads, dim, dim_v;
    uint32_t dtype;        /* attn_dtype of q, k, v as they are given */
    uint32_t n_may, n_must, n_live, n_data;
    uint32_t n_kernels;
    attn_ranges_fn *ranges;
    attn_live_fn *live;
    attn_bounds_fn *bounds;   /* NULL when n_data is 0 */
    attn_visible_fn *visible;
    const attn_kernel_desc *const *kernels;
    uint32_t kv_layer;        /* ATTN_KIND_KV_SHARED: an earlier layer, of a kind of the same heads, dims and dtype that has its own */
    uint32_t n_groups;        /* of `groups`; 0 or 1: all alike */
    const uint16_t *groups;   /* [layers of the module][kv_heads], below n_groups: KV heads of this kind's layers that share a number
                                 are live together, for all who read them. Entries of other layers are 0 */
    int64_t max_len;          /* most tokens of a sequence; 0: no limit of the pattern's */
    uint32_t kv_format;       /* attn_kv_format: of the rows that kernels read */
    uint32_t kv_group;        /* ATTN_KV_INT8: elements that share a scale, a divisor of dim and dim_v; 0: all of a row */
    uint32_t row_step;        /* not 0: `ranges` says more of tiles whose rows lie so many apart than of others */
    uint32_t reserved;
} attn_kind_desc;

typedef struct attn_input_desc {
    uint32_t size;
    uint32_t is_int;       /* 0: f32, 1: int32 */
    const char *name;
    uint32_t rank, reserved;
    int64_t extent[4];
} attn_input_desc;

typedef struct attn_module_desc {
    uint32_t size, abi;
    const char *name, *compiler, *source_hash;
    const char *air;       /* the definition as text, for the oracle */
    uint32_t n_layers, n_kinds, n_inputs, n_attrs;
    const uint32_t *schedule;             /* per layer: its kind */
    const attn_kind_desc *const *kinds;
    const attn_input_desc *const *inputs;
    const char *const *attrs;
} attn_module_desc;

#ifdef __cplusplus
}
#endif
#endif
