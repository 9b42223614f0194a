/* verify.c - every rule of docs/kernel-ir.md, checked; the first broken one is told in a sentence.
 *
 * A kernel that passes can be printed, run, changed and compiled without further checks of its form. Nothing is assumed
 * of the input but that its pointers are right: it may come from a hostile text. */
#include "ir/kernel/kernel.h"

#include <stdlib.h>
#include <string.h>

/* Where an op stands. */
typedef enum place { PLACE_TOP, PLACE_ROWS, PLACE_LOOP, PLACE_MERGE } place;

typedef struct checker {
    const kernel *k;
    const char *error;
    const kblock **home; /* per value: the block that defines it; NULL: not defined (yet, or any more) */
    uint8_t *defined;    /* per value: it was defined somewhere */
    bool online;         /* the kernel has an init */
} checker;

typedef struct site {
    const kblock *block;
    size_t at;
    place where;
    keys_range range; /* of the loop around, in PLACE_LOOP */
} site;

#define FAIL(c, ...) ((c)->error = arena_printf((c)->k->module->arena, __VA_ARGS__), false)

/* ---- expressions ----------------------------------------------------------------------------------------- */

typedef struct scope {
    const char *what;
    expr_type type;
    unsigned depends; /* DEPENDS_ that may occur */
    bool bounds;      /* attribute bounds, min_of, max_of, k0, k1 */
    bool tile;        /* q0, q1 */
    bool sweep;       /* which half of a mask */
    bool no_len;      /* what outlives a step knows no len */
    bool data;        /* may#i, must#i with i < n_data */
    uint32_t n_data;
} scope;

static const char *bad_leaf(const expr_node *n, const scope *s)
{
    if (n->op == EXPR_VAR && !s->tile && (n->index == VAR_Q0 || n->index == VAR_Q1 || n->index == VAR_ROW_STEP))
        return "q0, q1 and row_step belong to ranges";
    if (n->op == EXPR_VAR && !s->sweep && n->index == VAR_SWEEP) return "sweep belongs to kernels whose ranges have sweeps";
    if (n->op == EXPR_VAR && s->no_len && n->index == VAR_LEN) return "len has no value here";
    if (n->op == EXPR_VAR && !s->bounds && (n->index == VAR_K0 || n->index == VAR_K1))
        return "k0 and k1 belong to bounds of data";
    if (n->op == EXPR_ATTR && n->side > ATTR_K && !s->bounds) return "an attribute's bounds belong to bounds of data";
    if ((n->op == EXPR_ELEM_MIN || n->op == EXPR_ELEM_MAX) && !s->bounds)
        return "min_of and max_of belong to bounds of data";
    if (n->op == EXPR_DATA && (!s->data || n->index >= s->n_data)) return "there is no such data atom here";
    return NULL;
}

/* Visits what e is made of; ids of operands are smaller, so one sweep downwards is enough. */
static const char *bad_part(const expr_pool *p, expr e, const scope *s)
{
    const char *error = NULL;
    bool *part = calloc((size_t)e + 1, 1);
    if (!part) return "out of memory";
    part[e] = true;
    for (; e && !error; e--) {
        const expr_node *n = expr_get(p, e);
        if (!part[e]) continue;
        error = bad_leaf(n, s);
        for (uint32_t i = 0; i < n->nargs; i++) part[n->arg[i]] = true;
    }
    free(part);
    return error;
}

static const char *const depends_name[] = {"the query's row", "the key", "the head", "the logit s"};
static const char *const type_name[] = {[TYPE_BOOL] = "bool", [TYPE_INT] = "int", [TYPE_FLOAT] = "float"};

/* NULL, or what is wrong. */
static const char *expression_error(arena *a, const expr_pool *p, expr e, const scope *s)
{
    if (!e || e >= expr_count(p)) return arena_printf(a, "%s has no expression", s->what);
    if (expr_type_of(p, e) != s->type)
        return arena_printf(a, "%s must be %s, not %s", s->what, type_name[s->type], type_name[expr_type_of(p, e)]);
    unsigned extra = expr_depends(p, e) & ~s->depends;
    for (unsigned i = 0; i < ATTNC_COUNT(depends_name); i++)
        if (extra >> i & 1) return arena_printf(a, "%s must not depend on %s", s->what, depends_name[i]);
    const char *bad = bad_part(p, e, s);
    return bad ? arena_printf(a, "%s: %s", s->what, bad) : NULL;
}

enum { OF_ROW = DEPENDS_ROW | DEPENDS_HEAD, OF_PAIR = OF_ROW | DEPENDS_KEY };

static bool check_expression(checker *c, const kop *o)
{
    static const scope rows = {.type = TYPE_FLOAT, .depends = OF_ROW};
    static const scope score = {.type = TYPE_FLOAT, .depends = OF_PAIR | DEPENDS_SCORE};
    static const scope mask = {.type = TYPE_BOOL, .depends = OF_PAIR};
    const kop_info *info = kop_get_info(o->code);
    scope s = rows;
    switch (info->expression) {
    case EXPR_NO:
        return o->e ? FAIL(c, "%s takes no expression", info->name) : true;
    case EXPR_ROWS_OPT:
        if (!o->e) return true;
        break;
    case EXPR_SCORE:
        s = score;
        break;
    case EXPR_BOOL:
        s = mask;
        s.sweep = c->k->ranges && c->k->ranges->sweeps;
        break;
    }
    s.what = arena_printf(c->k->module->arena, "the expression of %s", info->name);
    const char *error = expression_error(c->k->module->arena, c->k->module->pool, o->e, &s);
    return error ? FAIL(c, "%s", error) : true;
}

/* ---- values ---------------------------------------------------------------------------------------------- */

static bool define(checker *c, kvalue v, char type, const kblock *home)
{
    if (!v || v >= c->k->types.n) return FAIL(c, "a result is not a value of the kernel");
    if (c->defined[v]) return FAIL(c, "a value is defined twice");
    if (c->k->types.at[v] != (uint8_t)type)
        return FAIL(c, "a value of type %c is defined as %c", c->k->types.at[v], type);
    c->defined[v] = 1;
    c->home[v] = home;
    return true;
}

/* A tile with keys belongs to the keys of its block: another block's loop is over others. */
static bool check_operand(checker *c, const kop_info *info, kvalue v, char type, const kblock *here)
{
    if (!v || v >= c->k->types.n || !c->home[v])
        return FAIL(c, "%s uses a value that is not defined before it", info->name);
    char is = (char)c->k->types.at[v];
    if (is != type) return FAIL(c, "%s wants a value of type %c, not %c", info->name, type, is);
    if (strchr("kvs", type) && c->home[v] != here) return FAIL(c, "%s uses a tile of other keys", info->name);
    return true;
}

static bool check_operands(checker *c, const kop *o, const kblock *here)
{
    const kop_info *info = kop_get_info(o->code);
    size_t n = strlen(info->operands);
    for (size_t i = 0; i < n; i++)
        if (!check_operand(c, info, o->operand[i], info->operands[i], here)) return false;
    for (size_t i = n; i < KOP_MAX_OPERANDS; i++)
        if (o->operand[i]) return FAIL(c, "%s has too many operands", info->name);
    return true;
}

static bool define_results(checker *c, const kop *o, const kblock *here)
{
    const kop_info *info = kop_get_info(o->code);
    size_t n = strlen(info->results);
    for (size_t i = 0; i < n; i++)
        if (!define(c, o->result[i], info->results[i], here)) return false;
    for (size_t i = n; i < KOP_MAX_RESULTS; i++)
        if (o->result[i]) return FAIL(c, "%s has too many results", info->name);
    return true;
}

/* ---- blocks ---------------------------------------------------------------------------------------------- */

static bool check_block(checker *c, const kblock *b, place where, keys_range range);

static bool is_last(const site *s) { return s->at + 1 == s->block->ops.n; }

static bool want(checker *c, const kop *o, bool right, const char *where)
{
    return right ? true : FAIL(c, "%s must stand %s", kop_get_info(o->code)->name, where);
}

static bool check_keys(checker *c, const kop *o, const site *s)
{
    if (!want(c, o, s->where == PLACE_ROWS, "in rows")) return false;
    if (o->range > KEYS_PARTIAL) return FAIL(c, "keys must be all, full or partial");
    if ((o->range == KEYS_ALL) != !c->k->ranges)
        return FAIL(c, c->k->ranges ? "keys all: the kernel has ranges; loops are over full and partial"
                                    : "keys full and partial need ranges");
    for (size_t i = 0; i < s->at; i++)
        if (s->block->ops.at[i]->code == OP_KEYS && s->block->ops.at[i]->range == o->range)
            return FAIL(c, "two loops over the same keys");
    return true;
}

/* What each op asks of its place. A new row of ops.def does not compile cleanly until it says so here. */
static bool check_place(checker *c, const kop *o, const site *s)
{
    bool tile = s->where == PLACE_LOOP || (s->where == PLACE_ROWS && !c->online);
    switch (o->code) {
    case OP_ROWS:
        return want(c, o, s->where == PLACE_TOP && s->at == 0, "first in the kernel, once");
    case OP_MERGE:
        return want(c, o, s->where == PLACE_TOP && s->at == 1 && c->k->split, "behind rows, in a split kernel");
    case OP_LOAD_Q:
    case OP_INIT:
        return want(c, o, s->where == PLACE_ROWS, "in rows, outside loops");
    case OP_LOAD_K:
    case OP_LOAD_V:
    case OP_DOT_QK:
    case OP_MAP:
        return want(c, o, tile, "where keys are: in a loop, or in rows without init");
    case OP_MASK:
        if (s->where == PLACE_LOOP && s->range == KEYS_FULL)
            return FAIL(c, "mask in keys full: every row sees every key there");
        return want(c, o, tile, "where keys are: in a loop, or in rows without init");
    case OP_SOFTMAX:
        if (c->k->base2) return FAIL(c, "softmax counts in powers of e; the kernel is base2");
        return want(c, o, s->where == PLACE_ROWS && !c->online, "in rows without init");
    case OP_DOT_PV:
        return want(c, o, s->where == PLACE_ROWS && !c->online, "in rows without init");
    case OP_KEYS:
        return check_keys(c, o, s);
    case OP_ROWMAX:
    case OP_DECAY:
    case OP_EXP:
    case OP_ROWSUM:
    case OP_RESCALE:
    case OP_ACCUM_PV:
        return want(c, o, s->where == PLACE_LOOP, "in a loop over keys");
    case OP_YIELD:
        return want(c, o, s->where == PLACE_LOOP && is_last(s), "last in a loop over keys");
    case OP_FINISH:
        return want(c, o, s->where == (c->k->split ? PLACE_MERGE : PLACE_ROWS),
                    c->k->split ? "in merge: the kernel is split" : "in rows");
    case OP_STORE:
        return want(c, o, s->where == (c->k->split ? PLACE_MERGE : PLACE_ROWS) && is_last(s),
                    c->k->split ? "last in merge: the kernel is split" : "last in rows");
    case OP_STORE_PART:
        return want(c, o, s->where == PLACE_ROWS && c->k->split && is_last(s), "last in rows of a split kernel");
    case OP_LOAD_PARTS:
        return want(c, o, s->where == PLACE_MERGE, "in merge");
    case OP_COUNT:
        break;
    }
    return FAIL(c, "there is no such op");
}

/* How a body must end. */
static bool check_end(checker *c, const kblock *b, place where)
{
    kop_code end = OP_COUNT;
    switch (where) {
    case PLACE_TOP:
        if (b->ops.n != (c->k->split ? 2u : 1u))
            return FAIL(c, c->k->split ? "a split kernel is rows and merge" : "a kernel is one rows");
        return true;
    case PLACE_ROWS:
        end = c->k->split ? OP_STORE_PART : OP_STORE;
        break;
    case PLACE_LOOP:
        end = OP_YIELD;
        break;
    case PLACE_MERGE:
        end = OP_STORE;
        break;
    }
    if (b->ops.n && b->ops.at[b->ops.n - 1]->code == end) return true;
    return FAIL(c, "a body must end in %s", kop_get_info(end)->name);
}

static place place_of_body(const kop *o)
{
    if (o->code == OP_ROWS) return PLACE_ROWS;
    return o->code == OP_MERGE ? PLACE_MERGE : PLACE_LOOP;
}

static bool check_region(checker *c, const kop *o)
{
    const kop_info *info = kop_get_info(o->code);
    if ((info->region == REGION_NONE) != !o->body)
        return FAIL(c, "%s %s", info->name, o->body ? "has no body" : "needs a body");
    if (!o->body) return true;
    size_t args = info->region == REGION_LOOP ? strlen(info->operands) : 0;
    if (o->body->n_args != args) return FAIL(c, "the body of %s has %zu arguments", info->name, args);
    for (size_t i = 0; i < args; i++)
        if (!define(c, o->body->arg[i], info->operands[i], o->body)) return false;
    return check_block(c, o->body, place_of_body(o), o->range);
}

static bool check_op(checker *c, const kop *o, const site *s)
{
    if (o->code >= OP_COUNT) return FAIL(c, "there is no such op");
    return check_place(c, o, s) && check_operands(c, o, s->block) && check_expression(c, o) && check_region(c, o) &&
           define_results(c, o, s->block);
}

/* What a block defines is out of sight behind its end. */
static void leave_block(checker *c, const kblock *b)
{
    for (size_t v = 1; v < c->k->types.n; v++)
        if (c->home[v] == b) c->home[v] = NULL;
}

static bool check_block(checker *c, const kblock *b, place where, keys_range range)
{
    for (size_t i = 0; i < b->ops.n; i++)
        if (!check_op(c, b->ops.at[i], &(site){b, i, where, range})) return false;
    leave_block(c, b);
    return check_end(c, b, where);
}

/* ---- ranges and schedule --------------------------------------------------------------------------------- */

/* A step of 0 would never end. */
static const char *step_error(const kernel *k, const char *what, expr step, const scope *s)
{
    int_range r;
    const char *error = expression_error(k->module->arena, k->module->pool, step, s);
    if (error) return error;
    if (s->no_len) return arena_printf(k->module->arena, "%s has a step: what a cache keeps has none", what);
    if (expr_range(k->module->pool, step, EXPR_MAX_POSITION, &r) && r.lo >= 1) return NULL;
    return arena_printf(k->module->arena, "%s has a step that may not be positive", what);
}

static const char *intervals_error(const kernel *k, const char *what, const interval *at, uint32_t n, bool no_len)
{
    const scope s = {.what = what,
                     .type = TYPE_INT,
                     .depends = DEPENDS_HEAD,
                     .tile = true,
                     .sweep = k->ranges->sweeps && !no_len,
                     .no_len = no_len,
                     .data = true,
                     .n_data = k->ranges->n_data};
    if (n > RANGES_MAX_INTERVALS)
        return arena_printf(k->module->arena, "%s has more than %d intervals", what, RANGES_MAX_INTERVALS);
    const char *error = NULL;
    for (uint32_t i = 0; i < n && !error; i++) {
        error = expression_error(k->module->arena, k->module->pool, at[i].lo, &s);
        if (!error) error = expression_error(k->module->arena, k->module->pool, at[i].hi, &s);
        if (!error && at[i].step) error = step_error(k, what, at[i].step, &s);
    }
    return error;
}

static const char *atoms_error(const kernel *k)
{
    const ranges *r = k->ranges;
    static const scope atom = {.what = "a data atom", .type = TYPE_BOOL, .depends = OF_PAIR};
    static const scope bound = {
        .what = "a data atom's bound", .type = TYPE_BOOL, .depends = OF_PAIR, .bounds = true, .tile = true};
    arena *a = k->module->arena;
    const expr_pool *p = k->module->pool;
    const char *error = NULL;
    for (uint32_t i = 0; i < r->n_data && !error; i++) {
        error = expression_error(a, p, r->data[i].atom, &atom);
        if (!error) error = expression_error(a, p, r->data[i].may, &bound);
        if (!error) error = expression_error(a, p, r->data[i].must, &bound);
    }
    for (uint32_t i = 0; i < r->n_undecided && !error; i++) error = expression_error(a, p, r->undecided[i], &atom);
    return error;
}

static const char *ranges_error(const kernel *k)
{
    if (!k->ranges) return NULL;
    const char *error = intervals_error(k, "ranges may", k->ranges->may, k->ranges->n_may, false);
    if (!error) error = intervals_error(k, "ranges must", k->ranges->must, k->ranges->n_must, false);
    if (!error) error = intervals_error(k, "ranges live", k->ranges->live, k->ranges->n_live, true);
    return error ? error : atoms_error(k);
}

static bool fits(uint32_t sums, uint32_t vectors, uint32_t registers) { return sums + vectors + 1 <= registers; }

const char *schedule_verify(const schedule *s, const shape *of)
{
    enum { MOST = 4096, MOST_VECTORS = 16, MOST_SUMS = 32, MOST_FEW_ROWS = 8 };
    const uint32_t all[] = {
#define FIELD(name) s->name,
#include "ir/kernel/schedule_fields.def"
#undef FIELD
        s->vector,
    };
    if (!s->lanes) return s->vector || s->key_block ? "a schedule has lanes" : NULL;
    if (s->target >= TARGET_COUNT) return "the schedule's target is unknown";
    for (size_t i = 0; i < ATTNC_COUNT(all); i++)
        if (!all[i] || all[i] > MOST) return "a size of the schedule is 0 or larger than 4096";
    const target_facts *t = target_get(s->target);
    if (s->vector != t->vector) return "the schedule's vector is not the target's";
    if (s->lanes % s->vector) return "lanes must be a multiple of vector";
    const uint32_t vectors = s->lanes / s->vector;
    if (vectors & (vectors - 1) || vectors > MOST_VECTORS) return "a tile must have 1, 2, 4, 8 or 16 vectors of lanes";
    if (s->lanes / s->vector % s->qk_vectors || s->lanes / s->vector % s->pv_vectors)
        return "register tiles must divide the vectors of a tile";
    if (s->key_block % s->qk_keys || s->key_block % s->narrow_keys)
        return "key_block must be a multiple of the keys of a register tile";
    if (!fits(s->qk_keys * s->qk_vectors, s->qk_vectors, t->registers) ||
        !fits(s->pv_dims * s->pv_vectors, s->pv_vectors, t->registers) || !fits(s->narrow_keys, 1, t->registers) ||
        !fits(s->narrow_dims, 1, t->registers))
        return "a register tile does not fit the target's registers";
    if (2 * s->narrow_keys > MOST_SUMS) return "a narrow tile has more than 16 keys"; /* a key may have two sums */
    if (s->dot_bf16 && s->qk_keys % 2) return "keys of a register tile are even where bf16 is multiplied in pairs";
    if (s->few_rows & (s->few_rows - 1) || s->few_keys & (s->few_keys - 1) || s->few_rows * s->few_keys % s->vector)
        return "few rows and keys must be powers of two that fill vectors";
    if (s->few_rows > MOST_FEW_ROWS) return "a tile of few rows has more than 8";
    if (!fits(s->few_rows * s->few_keys, s->few_keys, t->registers) || s->few_rows > s->vector || s->few_lanes > s->lanes)
        return "a register tile of few rows does not fit the target's registers or vectors";
    if (s->dot_bf16 && (!t->dot_bf16 || of->type != DTYPE_BF16 || of->kv != KV_AS_GIVEN))
        return "dot_bf16 needs a target that has it and bf16 storage";
    return NULL;
}

/* ---- kernel ---------------------------------------------------------------------------------------------- */

static bool has_init(const kernel *k)
{
    if (!k->body->ops.n || k->body->ops.at[0]->code != OP_ROWS || !k->body->ops.at[0]->body) return false;
    const kblock *rows = k->body->ops.at[0]->body;
    for (size_t i = 0; i < rows->ops.n; i++)
        if (rows->ops.at[i]->code == OP_INIT) return true;
    return false;
}

static bool same_shape(const shape *a, const shape *b)
{
    return a->q_heads == b->q_heads && a->kv_heads == b->kv_heads && a->dim == b->dim && a->dim_v == b->dim_v &&
           a->type == b->type && a->kv == b->kv && a->kv_group == b->kv_group;
}

static const char *head_error(const kernel *k)
{
    if (k->pattern >= k->module->patterns.n) return "its pattern does not exist";
    if (!same_shape(&k->shape, &k->module->patterns.at[k->pattern]->shape)) return "its shape is not its pattern's";
    if (!k->types.n) return "it has no table of values";
    if ((k->split || k->grouped || k->base2 || k->ranges) && !has_init(k))
        return "base2, grouped, split and ranges need the online form (init)";
    const char *error = ranges_error(k);
    return error ? error : schedule_verify(&k->schedule, &k->shape);
}

const char *kernel_verify(const kernel *k)
{
    const char *error = head_error(k);
    if (error) return error;
    checker c = {.k = k, .online = has_init(k)};
    c.home = calloc(k->types.n, sizeof(const kblock *));
    c.defined = calloc(k->types.n, 1);
    if (!c.home || !c.defined)
        c.error = "out of memory";
    else
        check_block(&c, k->body, PLACE_TOP, KEYS_ALL);
    free(c.home);
    free(c.defined);
    return c.error;
}

/* ---- module ---------------------------------------------------------------------------------------------- */

static const char *shape_error(const shape *s)
{
    if (s->q_heads < 1 || s->q_heads > MODULE_MAX_HEADS || s->kv_heads < 1 || s->kv_heads > s->q_heads)
        return "heads are out of range";
    if (s->q_heads % s->kv_heads) return "query heads must be a multiple of KV heads";
    if (s->dim < 1 || s->dim > MODULE_MAX_DIM || s->dim_v < 1 || s->dim_v > MODULE_MAX_DIM)
        return "dim is out of range";
    if (s->kv_group && s->kv != KV_INT8) return "groups belong to quantised keys";
    if (s->kv_group && (s->kv_group < 0 || s->kv_group % KV_GROUP_STEP || s->dim % s->kv_group || s->dim_v % s->kv_group))
        return "groups must be multiples of 16 that divide dim and dim_v";
    return NULL;
}

const char *pattern_verify(const ir_module *m, const pattern *p)
{
    static const scope mask = {.what = "the mask", .type = TYPE_BOOL, .depends = OF_PAIR};
    static const scope scale = {.what = "the scale", .type = TYPE_FLOAT, .depends = DEPENDS_HEAD, .no_len = true};
    static const scope score = {.what = "a score", .type = TYPE_FLOAT, .depends = OF_PAIR | DEPENDS_SCORE};
    static const scope sink = {.what = "the sink", .type = TYPE_FLOAT, .depends = OF_ROW, .no_len = true};
    const char *error = shape_error(&p->shape);
    if (!error) error = expression_error(m->arena, m->pool, p->mask, &mask);
    if (!error) error = expression_error(m->arena, m->pool, p->scale, &scale);
    for (uint32_t i = 0; i < p->n_scores && !error; i++)
        error = expression_error(m->arena, m->pool, p->scores[i], &score);
    if (!error && p->sink) error = expression_error(m->arena, m->pool, p->sink, &sink);
    if (!error && p->k_is_v && p->shape.dim_v > p->shape.dim) error = "the value is longer than the key that it is";
    if (!error && (p->max_len < 0 || p->max_len > EXPR_MAX_POSITION)) error = "max_len is out of range";
    return error;
}

/* Who reads another layer's keys finds them there, in its own form. */
static const char *sharing_error(const ir_module *m, uint32_t layer)
{
    const pattern *p = m->patterns.at[m->schedule[layer]];
    if (!p->kv_shared) return NULL;
    if (p->kv_layer >= layer)
        return arena_printf(m->arena, "layer %u reads the keys of layer %u, which is not before it", (unsigned)layer,
                            (unsigned)p->kv_layer);
    const pattern *owner = m->patterns.at[m->schedule[p->kv_layer]];
    const shape *a = &p->shape, *b = &owner->shape;
    if (owner->kv_shared)
        return arena_printf(m->arena, "layer %u reads the keys of layer %u, which has none of its own", (unsigned)layer,
                            (unsigned)p->kv_layer);
    if (a->kv_heads != b->kv_heads || a->dim != b->dim || a->dim_v != b->dim_v || a->type != b->type ||
        p->k_is_v != owner->k_is_v || a->kv != b->kv || a->kv_group != b->kv_group)
        return arena_printf(m->arena, "layer %u reads the keys of layer %u, which have another shape", (unsigned)layer,
                            (unsigned)p->kv_layer);
    return NULL;
}

const char *ir_module_verify(const ir_module *m)
{
    for (uint32_t i = 0; i < m->layers; i++)
        if (m->schedule[i] >= m->patterns.n) return arena_printf(m->arena, "layer %u has no pattern", (unsigned)i);
    for (uint32_t i = 0; i < m->layers; i++) {
        const char *error = sharing_error(m, i);
        if (error) return error;
    }
    for (size_t i = 0; i < m->patterns.n; i++) {
        const char *error = pattern_verify(m, m->patterns.at[i]);
        if (error) return arena_printf(m->arena, "pattern %s: %s", m->patterns.at[i]->name, error);
    }
    for (size_t i = 0; i < m->kernels.n; i++) {
        const char *error = kernel_verify(m->kernels.at[i]);
        if (error) return arena_printf(m->arena, "kernel %s: %s", m->kernels.at[i]->name, error);
    }
    return NULL;
}
