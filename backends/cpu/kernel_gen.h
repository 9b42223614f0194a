/* kernel_gen.h - one kernel being written: its IR, its workspace, and the values that its loops share. */
#ifndef ATTNC_CPU_KERNEL_GEN_H
#define ATTNC_CPU_KERNEL_GEN_H

#include "backends/cpu/internal.h"

/* A value of an expression that is kept in the workspace: per lane (computed once per item) or per key (once per block). */
typedef struct kept {
    expr e;
    uint64_t offset;
    bool wide; /* a key's: the body without a mask reads it too */
} kept;

typedef struct kgen {
    gen *g;
    const kernel *k;
    expr_pool *pool;
    size_t n_exprs;
    int64_t dim, dim_v;
    uint32_t lanes, vector, vectors, narrow_vectors, block_keys, slack, value_stride; /* value_stride: floats from row to row of value_panel; slack: keys behind a block that register tiles may touch */
    bool half, dot, wide_ints; /* half: Q, O (and K, V as they are given) are not f32; dot: bf16 is multiplied in pairs: K and Q as they are stored, wide pieces P and V too */
    bool quant, convert;       /* quant: K and V are int8 with scales; convert: what K and V are stored as is not f32 */
    int64_t words;             /* of a query in `queries`: dims, or pairs of them */
    Type vf, lane_int; /* vectors of one register */

    const kop *load_q, *init;
    const kblock *full, *partial; /* bodies; each may be NULL */
    kop *const *finish_ops;

    /* workspace, offsets in bytes */
    uint64_t max, sum, out, new_max, scores, idle, seen, queries, key_ptr, value_ptr, stored_keys, stored_values, key_panel, value_panel;
    uint64_t ahead, ahead_next;
    uint64_t q_ptr, o_ptr, lse_ptr, spare_row, lane_q, lane_h, lane_g, size;
    uint64_t few_queries, few_scale, few_scores, few_seen, few_factor, few_out, few_runs, few_order, few_listed; /* of few.c */
    bool digits; /* of few_int8.c: queries are multiplied by digits */
    uint64_t digit[2], digit_step, digit_bias;
    bool value_steps; /* of few_int8_values.c: weights are whole steps */
    uint64_t weight_steps, weight_most, weight_sum;
    uint32_t fetch_keys; /* rows of K and V that few.c fetches ahead */
    struct shared *shared; /* functions that other kinds of this shape use too */
    uint64_t *lane_attr;
    VEC(kept) lane_values, key_values;
    VEC(expr) uniform_values;

    /* of the function being written */
    Val args, item, ws, seq, value_step; /* value_step: bytes from row to row of V */
    Val in_use, used; /* lanes that hold rows; those that are computed: all, or for few rows whole vectors */
    Val *uniform; /* per expr: known for the whole item */
    Val *lane_known; /* per expr: uniform, and loaded for one vector of lanes */
    expr_code code;
} kgen;

/* Where the keys of a segment lie. */
typedef struct source { /* K or V */
    Val pages, offset, stride, pace; /* page list; bytes from a page to this head's first row; from row to row; from one that is visited to the next */
    uint64_t table; /* of rows, in the workspace */
} source;

typedef struct segment {
    Val page, step, next; /* tokens of a page; from key to key; first key of the next segment, or of the last one again */
    source k, v;
} segment;

/* Keys k0, k0 + step, .., n of them. */
typedef struct key_walk {
    Val k0, n, step;
} key_walk;

/* A piece of a tile: n keys of the block against `nv` vectors of lanes from lane `s`. */
typedef struct piece {
    const kblock *body;
    Val n0, n, step, s; /* first key (position), number of keys, positions from one to the next, first lane */
    uint32_t nv, qk_vectors, pv_vectors, keys, dims; /* register tiles */
    bool narrow, masked; /* masked: not every lane sees every key */
    Val next[2], stride[2]; /* of a wide piece, K and V: the first row of the block behind it; from row to row */
} piece;

/* ---- values.c ---- */
void values_collect(kgen *x);                    /* fills lane_values, key_values, uniform_values, wide_ints */
void values_emit_uniform(kgen *x);               /* at the start of an item */
void values_emit_lanes(kgen *x);                 /* per-lane values into the workspace */
void values_emit_keys(kgen *x, bool wide, key_walk k, Val padded); /* per-key values of a block; wide: for the body without a mask */
void values_load_lanes(kgen *x, Val lane);       /* makes lane_known for the vector at `lane` */
Val values_of_key(kgen *x, expr e, Val key, Val slot, Val score); /* e for one key (position; place in the block) against that vector */
Val values_on_lanes(kgen *x, expr e);            /* an expression over rows, for the vector of lane_known */

/* ---- keys.c ---- */
segment keys_open(kgen *x, Val seq, Val head); /* of a query head's keys; every key */
void keys_set_step(kgen *x, segment *s, Val step);
key_walk keys_of_segment(kgen *x, Val at_segment);
Val keys_divided_up(kgen *x, Val n, Val step); /* n >= 0 */
Val keys_position(kgen *x, Val n0, Val slot, Val step); /* of a slot's key in a block that begins with n0 */
void keys_find_page(kgen *x, const segment *s, Val key, Val at[2]); /* where a key lies: page, offset in it */
/* Keys of the page at `page`, `offset` that the segment visits from there on: how many, n at the most; then where the next one lies. */
Val keys_of_page(kgen *x, const segment *s, Val offset, Val n);
void keys_next_page(kgen *x, const segment *s, Val run, Val *page, Val *offset);
Val keys_row(kgen *x, const source *s, Val page, Val offset); /* address of a page's row */
/* The rows of n keys from n0 on, n > 0, into the tables from `slot` on. */
void keys_place(kgen *x, const segment *s, Val n0, Val n, Val slot);
void keys_write_block(kgen *x); /* the body of the function that lists the rows of a block (shared.c) */
bool keys_are_converted(const kgen *x); /* rows of K: key_ptr leads to the panel */
Val keys_stored_row(kgen *x, uint64_t list, Val slot); /* of stored_keys or stored_values */
void keys_convert_key(kgen *x, Val slot); /* a listed row into its panel: of K */
void keys_convert_value(kgen *x, Val slot); /* of V */
int64_t keys_row_bytes(const kgen *x, bool values);        /* of a stored row */
Val keys_row_elements(kgen *x, Val p, uint32_t n);         /* of stored K or V, as floats; of int8 the scale is still to come */
bool keys_fold_scales(const kgen *x);                      /* a row has one scale: scores and weights take it, not elements */
Val keys_row_scale(kgen *x, Val row, Val d, bool values);  /* of int8: the scale of element d */
/* Copies the rows of V of a block, whose lines have been asked for meanwhile, to where they lie together, if they lie `far` bytes apart or more. */
void keys_gather_values(kgen *x, key_walk keys, int64_t far);
void keys_write_gather(kgen *x); /* the body of the function that does it */
void keys_point_to_panels(kgen *x); /* once per item */

/* ---- ahead.c ---- */
uint32_t ahead_rows(const kgen *x);           /* of its list */
void ahead_write(kgen *x);                    /* once per item: lists the rows */
void ahead_block(kgen *x, const segment *s, Val more, piece *p); /* where the keys behind a wide piece are; more: in its segment */
/* Addresses of 2 * p->keys rows that are read later than the group's: of the list, or behind its end of the next block. */
Val ahead_group(kgen *x, const piece *p, Val group);
void ahead_write_some(kgen *x);               /* the body of the function that asks for some of the list: at a group of keys of a narrow piece */
void ahead_rest(kgen *x);                     /* asks for those of the list that nobody has asked for */

/* ---- rows.c ---- */
void rows_setup(kgen *x);      /* the body of the function that fills the lanes' tables */
void rows_load_queries(kgen *x);
Val rows_query_factor(kgen *x); /* for the vector of lane_known; NULL: one */
Val rows_load_words(kgen *x, Val p, uint32_t n); /* of a query, or a row of K that is not converted: floats, or pairs of bf16 as they are */
unsigned rows_word_size(const kgen *x);          /* in memory */
Val rows_pointer(kgen *x, uint64_t list, Val lane); /* q_ptr, o_ptr, lse_ptr */
typedef struct rows_of { /* a tensor's rows of one sequence */
    Val first, stride, head_stride;
} rows_of;
rows_of rows_queries(kgen *x, Val seq);
Val rows_address(kgen *x, const rows_of *t, Val row, Val head);
void rows_init(kgen *x);       /* maxima and sums */
void rows_clear_out(kgen *x);
Val rows_start(kgen *x, Val row); /* where a row of the sequence goes on from */
void rows_resume(kgen *x);     /* the body of the function that does both from the results that the arguments name */
/* Writes O of a vector of lanes; inverse: 1 / l, or 1 for rows that saw nothing; f32: o is f32, else the storage type. */
typedef void rows_put(kgen *x, Val lane, Val inverse, bool f32);
void rows_put_tile(kgen *x, Val lane, Val inverse, bool f32); /* from the workspace's `out` */
void rows_finish(kgen *x, rows_put *put); /* O / l and lse to their places */
void rows_finish_tile(kgen *x);           /* the same with rows_put_tile() */
Val rows_output_is_f32(kgen *x); /* of kinds of 16 bits */
void rows_store_output(kgen *x, Val p, Val v, bool f32);

/* ---- parts.c ---- */
uint64_t parts_bytes(const kgen *x); /* of a slot */
void parts_store(kgen *x);           /* the workspace's (m, l, O) to the item's slot */
void parts_store_rows(kgen *x);      /* the same of few rows */
void parts_merge(kgen *x);           /* the body of the function that adds up an item's slots and stores the result */

/* ---- body.c ---- */
uint64_t body_seen_bytes(const kgen *x); /* of one key's entry in `seen`: which lanes of a narrow piece see it */
Val body_load_seen(kgen *x, Val slot, Val j); /* of vector j of a narrow piece with a mask */
bool body_has(const kblock *b, kop_code c);
bool body_fetches(const kgen *x); /* wide pieces ask for rows that are read later (ahead.c) */
Val body_product(kgen *x, Val k, Val q, Val sum); /* of floats, or of pairs of bf16: then a sum takes two products */
Val body_broadcast(kgen *x, Val p, Val index, unsigned align); /* of floats */
Val body_mapped(kgen *x, const piece *p, Val s, Val slot, Val *visible); /* after maps and masks; *visible: lanes, NULL: all */
void body_attend(kgen *x, const piece *p);
const char *body_check(const kblock *b); /* NULL, or why this body cannot be done */
piece body_wide_piece(const kgen *x);
piece body_narrow_piece(const kgen *x, Val lane, uint32_t vectors);
Val body_lane(kgen *x, const piece *p, Val part, uint32_t j); /* of vector j behind `part` lanes of the piece */
/* Walks over the piece's vectors from `first` on, `step` at a time; a single step makes no loop. */
typedef struct passes {
    loop l;
    bool looped;
} passes;
Val passes_begin(kgen *x, passes *w, const piece *p, uint32_t first, uint32_t step);
void passes_end(kgen *x, passes *w, const piece *p, uint32_t step);
/* Parts of it, for lagged.c. */
typedef struct due_weights {
    Val from, to; /* a group's scores; where their weights go */
} due_weights;
void body_keys_of_group(kgen *x, Val group, uint32_t n, Val *key); /* the rows of K, as they are multiplied */
/* The sums of a group's keys by vectors of lanes, from lane `part` of the piece on. due: NULL, or what is weighed meanwhile. */
void body_products(kgen *x, const piece *p, Val group, Val part, const Val *key, Val *sum, const due_weights *due);

/* ---- lagged.c ---- */
bool lagged_fits(const kgen *x); /* the shape and the schedule */
bool lagged_applies(const kgen *x, const piece *p);
uint64_t lagged_idle_bytes(const kgen *x);
void lagged_weigh(kgen *x, const due_weights *due, Val step); /* at a step of the products: one vector */
Val lagged_scores(kgen *x, const piece *p); /* and the weights of all but the last group, or of those before the key that it returns */

/* ---- fold.c ---- */
void fold_block(kgen *x, const piece *p, Val late); /* scores to O; late: of lagged_scores(), or 0 */
void fold_rescale(kgen *x, const piece *p, Val weighed); /* weighed: keys, from the first, whose weights are there already; NULL: none */
void fold_write_wide(kgen *x); /* the bodies of the functions that fold_block() calls */
void fold_write_single(kgen *x);
void fold_write_pair(kgen *x);

/* ---- pairs.c: bf16, where x->dot ---- */
Val pairs_product(kgen *x, Val a, Val b, Val sum); /* sum + the products of both halves of each word */
Val pairs_of_weights(kgen *x, Val even, Val odd); /* of two keys, rounded to bf16: words, the first in their lower halves */
Val pairs_at(kgen *x, Val pair, Val d); /* in value_panel: dim d of two keys, one word */
Val pairs_partner(kgen *x, Val row, Val slot, Val end); /* row, or one of zeros where the slot is none of the keys, which end before `end`: its weight is 0 */
/* The listed rows of V of two keys from the slot on, side by side there. most: NULL, or what it gathers of their magnitudes, which begins with
 * pairs_none_extreme(); pairs_mend() then does what products of pairs cannot do with values that are not finite and not seen by all. */
void pairs_of_values(kgen *x, const piece *p, Val slot, Val *most);
Val pairs_none_extreme(kgen *x);
void pairs_mend(kgen *x, const piece *p, Val most);
void pairs_write_mend(kgen *x); /* the body of the function that does it */

/* ---- few.c: items with few rows ---- */
enum {
    FEW_BLOCK = 64,       /* keys of a block: K of one is fetched ahead while V of another is read, both and O stay in the first-level cache */
    FEW_ROOM = 16384,     /* bytes that may be on their way */
    FEW_TILE_KEYS = 8,    /* the most of a register tile of S */
    FEW_OUTPUT_KEYS = 16, /* of a step of O += P V: its rows of V are read again for each tile of dims */
};
enum { RUN_row, RUN_keys, RUN_stride, RUN_WORDS }; /* keys of one page that lie one behind the other: first row; how many; bytes from row to row */
typedef struct few_piece { /* n keys of the block against `rows` rows in one vector of lanes */
    Val n0, n, pace, runs; /* first key (position); keys; positions from one to the next; the pages that they lie in */
    Val lane, rows, open; /* open: all rows see all keys */
    Val step;             /* floats from key to key of the scores: a vector, or few_rows where they are packed */
} few_piece;
void few_lay_out(kgen *x); /* takes its part of the workspace */
void few_run(kgen *x); /* the body of the function that runs such an item, after setup */
void few_write_begin(kgen *x); /* queries, O = 0 */
void few_write_runs(kgen *x);  /* where the keys of a block lie, in the order in which they are read; returns their runs */
Val few_values_place(kgen *x, Val n); /* in the order, of the first row of V of a block of n keys */
void few_write_end(kgen *x);   /* O / l and lse, or the part's slot */

/* ---- few_body.c, few_weights.c ---- */
uint32_t few_sums(const kgen *x);   /* of a register tile */
void few_clear_out(kgen *x);
void few_finish(kgen *x); /* O to where it belongs */
uint32_t few_row(const kgen *x, int64_t words); /* floats from row to row of a panel of whole vectors */
Val few_load(kgen *x, Val row, Val first, bool tail, int64_t words, Val (*load_some)(kgen *, Val, uint32_t), unsigned size);
Val few_only_new(kgen *x, Val v, int64_t words); /* zero in place of what the vector before the last has already */
Val few_score_at(kgen *x, const few_piece *p, Val slot, Val lane);
Val few_seen_at(kgen *x, Val slot, Val lane);
Val few_repeated(kgen *x, Val list, uint32_t rows, Type element); /* a number for each of some rows, again and again in a vector */
Val few_panel_at(kgen *x, uint64_t panel, Val row, int64_t words, Val word);
bool few_packs(const kgen *x);      /* vectors have room for several keys of few_rows rows */
Val few_is_packed(kgen *x, const few_piece *p);
void few_pair_weights(kgen *x, const few_piece *p); /* those of two keys take the place of the first half of the scores */
void few_write_scores(kgen *x);      /* S = Q K^T */
void few_write_peaks(kgen *x);       /* the new maxima, where no mask or map has made them */
void few_write_weights(kgen *x);     /* exp, sums, O to the new maxima */
void few_write_packed(kgen *x);      /* peaks and weights where scores are packed */
void few_write_values(kgen *x);      /* O += P V */
void few_write_seen_values(kgen *x); /* the same for the keys that a row sees */
void few_attend(kgen *x, const few_piece *p);
typedef struct few_tile { /* `rows` rows from `row` of the vector of lanes */
    Val row;
    uint32_t rows;
} few_tile;
typedef void few_tile_fn(kgen *x, const few_piece *p, const few_tile *t, void *ctx);
void few_each_tile(kgen *x, const few_piece *p, few_tile_fn *f, void *ctx);
void few_fetch_dense(kgen *x, Val place, Val offset, int64_t bytes); /* of the rows of int8 from `place` of the order on */

/* ---- few_int8.c: queries as two digits of 8 bits, multiplied with keys in integers ---- */
void int8_lay_out(kgen *x);      /* decides it (x->digits), takes its part of the workspace */
void int8_load_queries(kgen *x); /* the digits of the queries in the panel few_queries */
typedef struct int8_tile { /* of S: `keys` rows of K, from `slot` of the block on, by the `rows` rows from `lane` on */
    Val slot, lane;
    const Val *key;
    uint32_t keys, rows;
} int8_tile;
uint32_t int8_keys(uint32_t rows); /* of a tile */
void int8_products(kgen *x, const int8_tile *t, Val *to); /* whole sums in vectors, a key's rows side by side */
/* What they are as scores, but for the keys' scales. */
Val int8_scores(kgen *x, Val lane, uint32_t rows, Val sums);

/* ---- few_int8_values.c: weights as whole steps, multiplied with values in integers ---- */
void int8_lay_out_values(kgen *x); /* after int8_lay_out() */
void int8_add_values(kgen *x, const few_piece *p, bool masked);
void int8_end_values(kgen *x); /* brings O's dims into their order */

/* ---- shared.c ---- */
typedef enum {
    SHARED_setup, SHARED_keys, SHARED_gather, SHARED_mend, SHARED_fold_wide, SHARED_fold_single, SHARED_fold_pair, SHARED_fold_seen_single, SHARED_fold_seen_pair, SHARED_ahead, SHARED_ahead_some, SHARED_resume, SHARED_finish, SHARED_merge, SHARED_few_begin, SHARED_few_end, SHARED_few_runs, SHARED_few_scores, SHARED_few_peaks,
    SHARED_few_weights, SHARED_few_packed, SHARED_few_values, SHARED_few_seen_values, SHARED_COUNT
} shared_id;
typedef struct shared shared;
shared *shared_of(kgen *x);                 /* of the kernel's shape, on its target */
void shared_write(kgen *x, shared_id id);   /* unless it is written */
Val shared_function(const kgen *x, shared_id id);
void shared_call(kgen *x, shared_id id);    /* with the item of the function being written */
Val shared_call_runs(kgen *x, key_walk left, Val n);
void shared_call_keys(kgen *x, shared_id id, key_walk keys, Val padded);
void shared_call_block(kgen *x, shared_id id, const few_piece *p);
void shared_call_fold(kgen *x, shared_id id, Val lane, Val late, Val n);
typedef struct fold_piece {
    Val lane, late, n;
} fold_piece;
fold_piece shared_fold(const kgen *x);
few_piece shared_block(const kgen *x);      /* what the function being written is called with */

/* ---- workspace.c ---- */
uint64_t ws_take(kgen *x, uint64_t bytes);               /* room behind what is taken: its offset */
Val ws_at(kgen *x, uint64_t offset);                      /* address in the workspace */
Val ws_float(kgen *x, uint64_t offset, Val index);        /* &((float *)(ws + offset))[index] */
Val row_of_lanes(kgen *x, Val row, Val lane);             /* an index of load_lanes() where each row (a dim, a key) has all lanes */
Val load_lanes(kgen *x, uint64_t offset, Val lane);       /* a vector of floats */
void store_lanes(kgen *x, Val v, uint64_t offset, Val lane);
Val safe_max(kgen *x, Val m);                             /* 0 for -inf: nothing is subtracted from nothing */
Val item_field(kgen *x, unsigned index);
Val arg_field(kgen *x, unsigned index);
/* A function whose first parameters are args, item and workspace. */
Val kernel_begin(kgen *x, const char *name, Type result, Type *params, unsigned n);
Val kernel_is_few(kgen *x); /* the item takes the function for few rows */

/* Fields by name, from the ABI's structs. */
enum {
#define FIELD(type, kind, name) ARG_##name,
#include <attn/kernel_args.def>
#undef FIELD
    ARG_COUNT
};
enum { ITEM_seq, ITEM_head, ITEM_heads, ITEM_row, ITEM_rows, ITEM_part, ITEM_parts, ITEM_part_slot, ITEM_segment0, ITEM_segments, ITEM_row_step, ITEM_next, ITEM_stage };
enum { SEG_k0, SEG_k1, SEG_lane0, SEG_lanes, SEG_masked, SEG_step };
enum { SEQ_n_q, SEQ_pos, SEQ_n_keys, SEQ_q_offset, SEQ_o_offset, SEQ_lse_offset, SEQ_k_pages, SEQ_v_pages, SEQ_q_attr, SEQ_k_attr };

#endif
