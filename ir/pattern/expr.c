/* expr.c - the pool: hash-consing, leaves, and the facts that are read off an expression. */
#include "ir/pattern/pool.h"

#include <math.h>
#include <string.h>

const expr_op_info expr_op_table[EXPR_OP_COUNT] = {
#define EXPR(ident, spelling, form, result, operand, operands)                                                         \
    [EXPR_##ident] = {spelling, FORM_##form, RULE_##result, RULE_##operand, operands},
#include "ir/pattern/expr_ops.def"
#undef EXPR
};

static const struct {
    uint8_t type, depends;
} var_table[VAR_COUNT] = {
#define VAR(ident, spelling, type, depends) [VAR_##ident] = {TYPE_##type, DEPENDS_##depends},
#include "ir/pattern/expr_vars.def"
#undef VAR
};

/* ---- the pool ---------------------------------------------------------------------------------------------------- */
static uint32_t node_hash(const expr_node *n)
{
    uint64_t h = n->op * 31u + n->type * 7u + n->side;
    h = (h * 0x9e3779b97f4a7c15u) ^ n->index;
    h = (h * 0x9e3779b97f4a7c15u) ^ (uint64_t)n->value.i;
    for (unsigned i = 0; i < n->nargs; i++) h = (h ^ (h >> 29)) * 0xbf58476d1ce4e5b9u + n->arg[i];
    return (uint32_t)(h ^ (h >> 32));
}

static bool same_node(const expr_node *a, const expr_node *b)
{
    return a->op == b->op && a->type == b->type && a->nargs == b->nargs && a->side == b->side && a->index == b->index &&
           a->value.i == b->value.i && !memcmp(a->arg, b->arg, a->nargs * sizeof *a->arg);
}

/* The bucket that holds the node, or the empty one where it belongs. */
static size_t bucket_of(const expr_pool *p, const expr_node *node, uint32_t hash)
{
    size_t mask = p->n_buckets - 1, at = hash & mask;
    for (; p->buckets[at]; at = (at + 1) & mask) {
        const expr_entry *e = pool_entry(p, p->buckets[at]);
        if (e->hash == hash && same_node(&e->node, node)) break;
    }
    return at;
}

static void rehash(expr_pool *p, size_t n)
{
    p->buckets = ARENA_ARRAY(p->arena, expr, n);
    p->n_buckets = n;
    for (expr e = 1; e < p->count; e++) {
        const expr_entry *x = pool_entry(p, e);
        p->buckets[bucket_of(p, &x->node, x->hash)] = e;
    }
}

expr_pool *expr_pool_create(arena *a, symbols *s)
{
    expr_pool *p = ARENA_NEW(a, expr_pool);
    *p = (expr_pool){.arena = a, .symbols = s, .count = 1};
    VEC_PUSH(a, &p->chunks, ARENA_ARRAY(a, expr_entry, POOL_CHUNK));
    rehash(p, 1024);
    return p;
}

static uint32_t saturate(uint64_t x, uint32_t limit) { return x > limit ? limit : (uint32_t)x; }

/* Nesting of the text: an operand written without parentheses on the left of its operator adds none. */
static unsigned operand_nesting(const expr_pool *p, const expr_node *n, unsigned i, int precedence)
{
    bool flat = expr_op_table[n->op].form == FORM_INFIX && i == 0 && expr_precedence(p, n->arg[0]) >= precedence;
    return pool_entry(p, n->arg[i])->nesting + (flat ? 0u : 1u);
}

static void leaf_facts(expr_entry *x)
{
    const expr_node *n = &x->node;
    if (n->op == EXPR_VAR) {
        x->depends = var_table[n->index].depends;
        x->vars = (uint16_t)(1u << n->index);
    } else if (n->op == EXPR_ATTR) {
        x->depends = n->side == ATTR_Q ? DEPENDS_ROW : n->side == ATTR_K ? DEPENDS_KEY : DEPENDS_UNIFORM;
        x->reads_data = n->side == ATTR_Q || n->side == ATTR_K;
    }
}

static void fill_facts(expr_pool *p, expr e, expr_entry *x)
{
    const expr_node *n = &x->node;
    leaf_facts(x);
    uint64_t size = 1;
    unsigned depth = 0, nesting = 0;
    value_range ranges[EXPR_MAX_ARGS];
    int precedence = n->nargs ? expr_precedence(p, e) : PREC_ATOM;
    for (unsigned i = 0; i < n->nargs; i++) {
        const expr_entry *a = pool_entry(p, n->arg[i]);
        x->depends |= a->depends;
        x->vars |= a->vars;
        x->reads_data |= a->reads_data;
        size += a->tree_size;
        if (a->depth + 1 > depth) depth = a->depth + 1;
        unsigned inner = operand_nesting(p, n, i, precedence);
        if (inner > nesting) nesting = inner;
        ranges[i] = a->range;
    }
    if (n->op == EXPR_ELEM && (x->depends & (DEPENDS_ROW | DEPENDS_KEY))) x->reads_data = true;
    x->depth = depth;
    x->tree_size = saturate(size, UINT32_MAX);
    x->nesting = (uint16_t)saturate(nesting, UINT16_MAX);
    x->range = range_of_node(p, n, ranges, EXPR_MAX_POSITION);
}

expr pool_find(const expr_pool *p, const expr_node *node) { return p->buckets[bucket_of(p, node, node_hash(node))]; }

expr pool_intern(expr_pool *p, const expr_node *node)
{
    expr_node copy = *node; /* the caller's may lie in the pool */
    uint32_t hash = node_hash(&copy);
    size_t at = bucket_of(p, &copy, hash);
    if (p->buckets[at]) return p->buckets[at];
    ATTNC_CHECK(p->count < UINT32_MAX);
    expr e = (expr)p->count;
    if (e / POOL_CHUNK == p->chunks.n) VEC_PUSH(p->arena, &p->chunks, ARENA_ARRAY(p->arena, expr_entry, POOL_CHUNK));
    expr_entry *x = &p->chunks.at[e / POOL_CHUNK][e % POOL_CHUNK];
    *x = (expr_entry){.node = copy, .hash = hash};
    p->count++;
    fill_facts(p, e, x);
    p->buckets[at] = e;
    if (p->count * 2 > p->n_buckets) rehash(p, p->n_buckets * 2);
    return e;
}

const expr_node *expr_get(const expr_pool *p, expr e)
{
    ATTNC_CHECK(e && e < p->count);
    return &pool_entry(p, e)->node;
}
size_t expr_count(const expr_pool *p) { return p->count; }
symbols *expr_symbols(const expr_pool *p) { return p->symbols; }
arena *expr_arena(const expr_pool *p) { return p->arena; }

/* ---- leaves ------------------------------------------------------------------------------------------------------ */
static expr constant(expr_pool *p, expr_type type, expr_value v)
{
    expr_node n = {.op = EXPR_CONST, .type = (uint8_t)type};
    if (type == TYPE_FLOAT)
        n.value.f = isnan(v.f) ? (double)NAN : v.f; /* one NaN */
    else
        n.value.i = v.i;
    return pool_intern(p, &n);
}

expr expr_bool(expr_pool *p, bool b) { return constant(p, TYPE_BOOL, (expr_value){.i = b}); }
expr expr_int(expr_pool *p, int64_t i) { return constant(p, TYPE_INT, (expr_value){.i = i}); }
expr expr_float(expr_pool *p, double f) { return constant(p, TYPE_FLOAT, (expr_value){.f = f}); }

expr expr_variable(expr_pool *p, expr_var v)
{
    ATTNC_CHECK(v < VAR_COUNT);
    return pool_intern(p, &(expr_node){.op = EXPR_VAR, .type = var_table[v].type, .index = v});
}

expr expr_attr(expr_pool *p, uint32_t attr, attr_side side)
{
    ATTNC_CHECK(attr < p->symbols->attrs.n && side < ATTR_SIDE_COUNT);
    return pool_intern(p, &(expr_node){.op = EXPR_ATTR, .type = TYPE_INT, .index = attr, .side = (uint8_t)side});
}

expr expr_data(expr_pool *p, uint32_t atom, bool must)
{
    return pool_intern(p, &(expr_node){.op = EXPR_DATA, .type = TYPE_BOOL, .index = atom, .side = must});
}

static expr_node table_node(const expr_pool *p, expr_op op, uint32_t index, const expr *args, uint32_t n)
{
    ATTNC_CHECK(index < p->symbols->tables.n);
    const table *t = &p->symbols->tables.at[index];
    ATTNC_CHECK(n == t->rank * (op == EXPR_ELEM ? 1u : 2u) && n <= EXPR_MAX_ARGS);
    expr_node node = {.op = (uint8_t)op, .type = (uint8_t)t->type, .nargs = (uint8_t)n, .index = index};
    for (uint32_t i = 0; i < n; i++) {
        ATTNC_CHECK(expr_type_of(p, args[i]) == TYPE_INT);
        node.arg[i] = args[i];
    }
    return node;
}

expr expr_elem(expr_pool *p, uint32_t index, const expr *args, uint32_t n)
{
    expr_node node = table_node(p, EXPR_ELEM, index, args, n);
    const table *t = &p->symbols->tables.at[index];
    int64_t at[TABLE_MAX_RANK];
    bool known = true, outside = false;
    for (uint32_t i = 0; i < n; i++) {
        bool is_const = expr_is_const(p, args[i], &at[i]);
        known &= is_const;
        outside |= is_const && (at[i] < 0 || at[i] >= t->extent[i]);
    }
    if (outside || (known && t->value)) {
        double v = outside ? 0 : table_element(t, t->value, at);
        return t->type == TYPE_INT ? expr_int(p, (int64_t)v) : expr_float(p, v);
    }
    return pool_intern(p, &node);
}

expr expr_elem_bound(expr_pool *p, expr_op min_or_max, uint32_t index, const expr *lo_hi, uint32_t n)
{
    ATTNC_CHECK(min_or_max == EXPR_ELEM_MIN || min_or_max == EXPR_ELEM_MAX);
    expr_node node = table_node(p, min_or_max, index, lo_hi, n);
    expr point[TABLE_MAX_RANK];
    bool one = true;
    for (uint32_t i = 0; i < n; i += 2) {
        point[i / 2] = lo_hi[i];
        one &= lo_hi[i] == lo_hi[i + 1];
    }
    return one ? expr_elem(p, index, point, n / 2) : pool_intern(p, &node);
}

/* ---- facts ------------------------------------------------------------------------------------------------------- */
const char *expr_op_spelling(expr_op op) { return expr_op_table[op].spelling; }
expr_type expr_type_of(const expr_pool *p, expr e) { return (expr_type)expr_get(p, e)->type; }
unsigned expr_depends(const expr_pool *p, expr e) { return pool_entry(p, e)->depends; }
bool expr_reads_data(const expr_pool *p, expr e) { return pool_entry(p, e)->reads_data; }
bool expr_reads_var(const expr_pool *p, expr e, expr_var v) { return pool_entry(p, e)->vars >> v & 1; }
uint32_t expr_tree_size(const expr_pool *p, expr e) { return pool_entry(p, e)->tree_size; }
unsigned expr_nesting(const expr_pool *p, expr e) { return pool_entry(p, e)->nesting; }

bool expr_is_const(const expr_pool *p, expr e, int64_t *out)
{
    const expr_node *n = expr_get(p, e);
    if (n->op != EXPR_CONST || n->type != TYPE_INT) return false;
    if (out) *out = n->value.i;
    return true;
}
