/* kernel_gen.h - one kernel being written: its IR, its workspace, and the values that its loops share. */
#ifndef ATTNC_CPU_KERNEL_GEN_H
#define ATTNC_CPU_KERNEL_GEN_H

#include "backends/cpu/internal.h"

/* A value of an expression that is kept in the workspace: per lane (computed once per item) or per key (once per block). */
typedef struct kept {
    expr e;
    uint64_t offset;
} kept;

typedef struct kgen {
    gen *g;
    const kernel *k;
    expr_pool *pool;
    size_t n_exprs;
    int64_t dim, dim_v;
    uint32_t lanes, vector, vectors, block_keys, slack, value_stride; /* value_stride: floats from row to row of value_panel; slack: keys behind a block that register tiles may touch */
    bool half, dot, wide_ints; /* half: K, V, Q are not f32; dot: K and Q are multiplied as pairs of bf16, as they are stored */
    int64_t words;             /* of a query in `queries`: dims, or pairs of them */
    Type vf, lane_int; /* vectors of one register */

    const kop *load_q, *init;
    const kblock *full, *partial; /* bodies; each may be NULL */
    kop *const *finish_ops;

    /* workspace, offsets in bytes */
    uint64_t max, sum, out, new_max, scores, seen, queries, key_ptr, value_ptr, key_panel, value_panel;
    uint64_t q_ptr, o_ptr, lse_ptr, spare_row, lane_q, lane_h, lane_g, size;
    uint64_t *lane_attr;
    VEC(kept) lane_values, key_values;
    VEC(expr) uniform_values;

    /* of the function being written */
    Val args, item, ws, seq, value_step; /* value_step: bytes from row to row of V */
    Val *uniform; /* per expr: known for the whole item */
    Val *lane_known; /* per expr: uniform, and loaded for one vector of lanes */
    expr_code code;
} kgen;

/* A piece of a tile: n keys of the block against `nv` vectors of lanes from lane `s`. */
typedef struct piece {
    const kblock *body;
    Val n0, n, s; /* first key (position), number of keys, first lane */
    uint32_t nv, qk_vectors, pv_vectors, keys, dims; /* register tiles */
    bool narrow, masked; /* masked: of a narrow piece's body, set by body_attend() */
} piece;

/* ---- values.c ---- */
void values_collect(kgen *x);                    /* fills lane_values, key_values, uniform_values, wide_ints */
void values_emit_uniform(kgen *x);               /* at the start of an item */
void values_emit_lanes(kgen *x);                 /* per-lane values into the workspace */
void values_emit_keys(kgen *x, Val n0, Val n, Val padded);   /* per-key values of a block */
void values_load_lanes(kgen *x, Val lane);       /* makes lane_known for the vector at `lane` */
Val values_of_key(kgen *x, expr e, Val key, Val slot, Val score); /* e for one key (position; place in the block) against that vector */
Val values_on_lanes(kgen *x, expr e);            /* an expression over rows, for the vector of lane_known */

/* ---- rows.c ---- */
void rows_setup(kgen *x);      /* the body of the function that fills the lanes' tables */
void rows_load_queries(kgen *x);
Val rows_query_factor(kgen *x); /* for the vector of lane_known; NULL: one */
void rows_init(kgen *x);
void rows_finish(kgen *x);     /* O / l and lse to their places */

/* ---- body.c ---- */
uint64_t body_seen_bytes(const kgen *x); /* of one key's entry in `seen`: which lanes of a narrow piece see it */
void body_attend(kgen *x, const piece *p);
const char *body_check(const kblock *b); /* NULL, or why this body cannot be done */

/* ---- workspace.c ---- */
Val ws_at(kgen *x, uint64_t offset);                      /* address in the workspace */
Val ws_float(kgen *x, uint64_t offset, Val index);        /* &((float *)(ws + offset))[index] */
Val load_lanes(kgen *x, uint64_t offset, Val lane);       /* a vector of floats */
void store_lanes(kgen *x, Val v, uint64_t offset, Val lane);
Val safe_max(kgen *x, Val m);                             /* 0 for -inf: nothing is subtracted from nothing */
Val item_field(kgen *x, unsigned index);
Val arg_field(kgen *x, unsigned index);

/* Fields by name, from the ABI's structs. */
enum {
#define FIELD(type, kind, name) ARG_##name,
#include <attn/kernel_args.def>
#undef FIELD
    ARG_COUNT
};
enum { ITEM_seq, ITEM_head, ITEM_heads, ITEM_row, ITEM_rows, ITEM_part, ITEM_parts, ITEM_part_slot, ITEM_segment0, ITEM_segments };
enum { SEG_k0, SEG_k1, SEG_lane0, SEG_lanes, SEG_masked };
enum { SEQ_n_q, SEQ_pos, SEQ_n_keys, SEQ_q_offset, SEQ_o_offset, SEQ_lse_offset, SEQ_k_pages, SEQ_v_pages, SEQ_q_attr, SEQ_k_attr };

#endif
