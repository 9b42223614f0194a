/* read.c - modules and kernels from text (.air), docs/kernel-ir.md.
 *
 * Stops at the first mistake. What is returned has passed the verifier, so nobody behind the reader meets a hostile
 * module. */
#include "ir/kernel/read_lex.h"

#include <string.h>

enum { MAX_NAMED = 4096, MAX_VALUE_NUMBER = 1 << 16, MAX_ATOMS = 4096, MAX_DEPTH = 4, MAX_SCORES = 4096 };

typedef struct layer_run { /* of the model's schedule; patterns are known only later */
    const char *name, *place;
    int64_t count;
} layer_run;

typedef struct reader {
    lexer lex;
    arena *arena;
    ir_module *m;
    VEC(layer_run) layers;
    kernel *k;           /* being read */
    VEC(kvalue) numbers; /* of k: by number in the text; 0: not defined */
} reader;

static bool accept_list(reader *r, size_t *n)
{
    if (!lex_accept(&r->lex, ",")) return false;
    ++*n;
    return true;
}

static bool accept_semicolon(reader *r) { return lex_expect(&r->lex, ";"); }

/* ---- names of the module --------------------------------------------------------------------------------- */

static uint32_t find_pattern(const ir_module *m, const char *name)
{
    for (uint32_t i = 0; i < m->patterns.n; i++)
        if (!strcmp(m->patterns.at[i]->name, name)) return i;
    return UINT32_MAX;
}

static bool symbol_exists(const symbols *s, const char *name)
{
    for (size_t i = 0; i < s->tables.n; i++)
        if (!strcmp(s->tables.at[i].name, name)) return true;
    for (size_t i = 0; i < s->attrs.n; i++)
        if (!strcmp(s->attrs.at[i], name)) return true;
    return false;
}

static bool kernel_exists(const ir_module *m, const char *name)
{
    for (size_t i = 0; i < m->kernels.n; i++)
        if (!strcmp(m->kernels.at[i]->name, name)) return true;
    return false;
}

static bool check_new(reader *r, const char *place, const char *name, bool exists, size_t count)
{
    if (exists) return lex_error(&r->lex, DIAG_ID_REDEFINED, place, "%.80s is defined twice", name);
    if (count >= MAX_NAMED) return lex_error(&r->lex, DIAG_ID_TOO_LARGE, place, "more than %d of them", MAX_NAMED);
    return true;
}

static bool read_symbol_name(reader *r, const char *what, const char **name)
{
    const char *place = lex_skip(&r->lex);
    const symbols *s = &r->m->symbols;
    return lex_name(&r->lex, what, name) &&
           check_new(r, place, *name, symbol_exists(s, *name), s->tables.n + s->attrs.n);
}

/* ---- tables and attributes ------------------------------------------------------------------------------- */

static bool read_extents(reader *r, table *t, int64_t *total)
{
    *total = 1;
    do {
        const char *place = lex_skip(&r->lex);
        int64_t n;
        if (t->rank == TABLE_MAX_RANK)
            return lex_error(&r->lex, DIAG_ID_RANGE, place, "a table has at most %d indices", TABLE_MAX_RANK);
        if (!lex_integer(&r->lex, "an extent", 1, INT32_MAX, &n)) return false;
        if (*total > ((int64_t)1 << 40) / n) return lex_error(&r->lex, DIAG_ID_RANGE, place, "the table is too large");
        *total *= n;
        t->extent[t->rank++] = n;
    } while (lex_accept(&r->lex, ","));
    return lex_expect(&r->lex, "]");
}

static bool is_integral(double x)
{
    return x >= -9007199254740992.0 && x <= 9007199254740992.0 && x == (double)(int64_t)x;
}

static bool read_table_values(reader *r, table *t, int64_t total)
{
    VEC(double) v = {0};
    if (!lex_expect(&r->lex, "=") || !lex_expect(&r->lex, "[")) return false;
    do {
        const char *place = lex_skip(&r->lex);
        double x;
        if (!lex_number(&r->lex, &x)) return false;
        if (t->type == TYPE_INT && !is_integral(x))
            return lex_error(&r->lex, DIAG_ID_TYPE, place, "an int table holds integers");
        VEC_PUSH(r->arena, &v, x);
    } while ((int64_t)v.n < total && lex_accept(&r->lex, ","));
    if ((int64_t)v.n < total) return lex_expected(&r->lex, "a value for each element of the table");
    t->value = v.at;
    return lex_expect(&r->lex, "]");
}

static bool read_table(reader *r, bool constant)
{
    table t = {0};
    int64_t total = 1;
    if (!read_symbol_name(r, "the table's name", &t.name) || !lex_expect(&r->lex, ":")) return false;
    if (lex_accept(&r->lex, "int"))
        t.type = TYPE_INT;
    else if (lex_accept(&r->lex, "f32"))
        t.type = TYPE_FLOAT;
    else
        return lex_expected(&r->lex, "int or f32");
    if (lex_accept(&r->lex, "[") && !read_extents(r, &t, &total)) return false;
    if (constant && !read_table_values(r, &t, total)) return false;
    VEC_PUSH(r->arena, &r->m->symbols.tables, t);
    return accept_semicolon(r);
}

static bool read_attr(reader *r)
{
    const char *name;
    if (!read_symbol_name(r, "the attribute's name", &name)) return false;
    VEC_PUSH(r->arena, &r->m->symbols.attrs, name);
    return accept_semicolon(r);
}

/* ---- layers ---------------------------------------------------------------------------------------------- */

static bool read_layers(reader *r)
{
    int64_t n;
    if (r->m->schedule || r->layers.n)
        return lex_error(&r->lex, DIAG_ID_CLAUSE, r->lex.at, "layers stand before the schedule, once");
    if (!lex_integer(&r->lex, "the number of layers", 0, MODULE_MAX_LAYERS, &n)) return false;
    r->m->layers = (uint32_t)n;
    return accept_semicolon(r);
}

static bool read_schedule_list(reader *r)
{
    size_t n = 0;
    do {
        layer_run run = {.place = lex_skip(&r->lex), .count = 1};
        if (!lex_name(&r->lex, "a pattern's name", &run.name)) return false;
        if (lex_accept(&r->lex, "*") && !lex_integer(&r->lex, "a number of layers", 1, MODULE_MAX_LAYERS, &run.count))
            return false;
        if (r->layers.n >= MODULE_MAX_LAYERS)
            return lex_error(&r->lex, DIAG_ID_SCHEDULE, run.place, "the schedule is too long");
        VEC_PUSH(r->arena, &r->layers, run);
    } while (accept_list(r, &n));
    return accept_semicolon(r);
}

static bool resolve_layers(reader *r, const char *place)
{
    ir_module *m = r->m;
    uint32_t n = 0;
    m->schedule = ARENA_ARRAY(r->arena, uint32_t, m->layers ? m->layers : 1);
    for (size_t i = 0; i < r->layers.n; i++) {
        const layer_run *run = &r->layers.at[i];
        uint32_t index = find_pattern(m, run->name);
        if (index == UINT32_MAX)
            return lex_error(&r->lex, DIAG_ID_UNKNOWN, run->place, "there is no pattern %.80s", run->name);
        if (run->count > m->layers - n)
            return lex_error(&r->lex, DIAG_ID_SCHEDULE, run->place, "the schedule has more than %u layers",
                             (unsigned)m->layers);
        for (int64_t j = 0; j < run->count; j++) m->schedule[n++] = index;
    }
    if (n < m->layers)
        return lex_error(&r->lex, DIAG_ID_SCHEDULE, place, "the schedule has %u of %u layers", (unsigned)n,
                         (unsigned)m->layers);
    return true;
}

/* ---- patterns -------------------------------------------------------------------------------------------- */

static bool read_dtype(reader *r, dtype *out)
{
    const char *place = lex_skip(&r->lex), *name;
    if (!lex_word(&r->lex, &name)) return false;
    if (!dtype_parse(name, strlen(name), out))
        return lex_error(&r->lex, DIAG_ID_UNKNOWN, place, "there is no dtype %.40s", name);
    return true;
}

static bool read_heads(reader *r, shape *s)
{
    return lex_integer(&r->lex, "query heads", 1, MODULE_MAX_HEADS, &s->q_heads) && lex_expect(&r->lex, "/") &&
           lex_integer(&r->lex, "KV heads", 1, MODULE_MAX_HEADS, &s->kv_heads);
}

typedef struct pattern_draft {
    pattern *p;
    VEC(expr) scores;
} pattern_draft;

static bool read_score(reader *r, pattern_draft *d)
{
    expr e;
    if (!lex_expression(&r->lex, r->m->pool, &e)) return false;
    if (d->scores.n >= MAX_SCORES)
        return lex_error(&r->lex, DIAG_ID_TOO_LARGE, r->lex.at, "more than %d scores", MAX_SCORES);
    VEC_PUSH(r->arena, &d->scores, e);
    return true;
}

static bool read_shared(reader *r, pattern *p)
{
    int64_t layer;
    p->kv_shared = true;
    if (!lex_expect(&r->lex, "(") || !lex_integer(&r->lex, "a layer", 0, MODULE_MAX_LAYERS - 1, &layer) ||
        !lex_expect(&r->lex, ")"))
        return false;
    p->kv_layer = (uint32_t)layer;
    return true;
}

static bool read_format(reader *r, shape *s)
{
    s->kv = KV_INT8;
    if (!lex_expect(&r->lex, "(") || !lex_expect(&r->lex, "int8")) return false;
    if (lex_accept(&r->lex, ",") && !lex_integer(&r->lex, "a group", 1, MODULE_MAX_DIM, &s->kv_group)) return false;
    return lex_expect(&r->lex, ")");
}

static bool read_policies(reader *r, pattern *p)
{
    do {
        if (lex_accept(&r->lex, "shared")) {
            if (!read_shared(r, p)) return false;
        } else if (lex_accept(&r->lex, "k_is_v")) {
            p->k_is_v = true;
        } else if (!lex_expect(&r->lex, "quant") || !read_format(r, &p->shape)) {
            return false;
        }
    } while (lex_accept(&r->lex, ","));
    return true;
}

static bool read_clause(reader *r, pattern_draft *d)
{
    pattern *p = d->p;
    expr_pool *pool = r->m->pool;
    if (lex_accept(&r->lex, "heads")) return read_heads(r, &p->shape);
    if (lex_accept(&r->lex, "dim_v")) return lex_integer(&r->lex, "dim_v", 1, MODULE_MAX_DIM, &p->shape.dim_v);
    if (lex_accept(&r->lex, "dim")) return lex_integer(&r->lex, "dim", 1, MODULE_MAX_DIM, &p->shape.dim);
    if (lex_accept(&r->lex, "dtype")) return read_dtype(r, &p->shape.type);
    if (lex_accept(&r->lex, "mask")) return lex_expression(&r->lex, pool, &p->mask);
    if (lex_accept(&r->lex, "scale")) return lex_expression(&r->lex, pool, &p->scale);
    if (lex_accept(&r->lex, "sink")) return lex_expression(&r->lex, pool, &p->sink);
    if (lex_accept(&r->lex, "score")) return read_score(r, d);
    if (lex_accept(&r->lex, "kv")) return read_policies(r, p);
    if (lex_accept(&r->lex, "max_len")) return lex_integer(&r->lex, "max_len", 1, EXPR_MAX_POSITION, &p->max_len);
    return lex_expected(&r->lex, "a clause (heads, dim, dim_v, dtype, mask, scale, score, sink, kv, max_len) or '}'");
}

static bool read_pattern(reader *r)
{
    ir_module *m = r->m;
    pattern *p = ARENA_NEW(r->arena, pattern);
    pattern_draft d = {.p = p};
    const char *place = lex_skip(&r->lex);
    if (!lex_name(&r->lex, "the pattern's name", &p->name)) return false;
    if (!check_new(r, place, p->name, find_pattern(m, p->name) != UINT32_MAX, m->patterns.n)) return false;
    p->where = (span){r->lex.source, (uint32_t)(place - r->lex.text), (uint32_t)(r->lex.at - r->lex.text)};
    if (!lex_expect(&r->lex, "{")) return false;
    while (!lex_accept(&r->lex, "}"))
        if (!read_clause(r, &d) || !accept_semicolon(r)) return false;
    p->scores = d.scores.at;
    p->n_scores = (uint32_t)d.scores.n;
    const char *wrong = pattern_verify(m, p);
    if (wrong) return lex_error(&r->lex, DIAG_ID_TYPE, place, "pattern %.80s: %s", p->name, wrong);
    VEC_PUSH(r->arena, &m->patterns, p);
    return true;
}

/* ---- ranges and schedule of a kernel --------------------------------------------------------------------- */

static bool read_braced(reader *r, expr *e)
{
    return lex_expect(&r->lex, "{") && lex_expression(&r->lex, r->m->pool, e) && lex_expect(&r->lex, "}");
}

static bool read_intervals(reader *r, interval **at, uint32_t *n)
{
    VEC(interval) v = {0};
    size_t count = 0;
    expr_pool *pool = r->m->pool;
    if (lex_accept(&r->lex, ";")) return true;
    do {
        interval i = {0};
        if (count >= RANGES_MAX_INTERVALS)
            return lex_error(&r->lex, DIAG_ID_TOO_LARGE, r->lex.at, "more than %d intervals", RANGES_MAX_INTERVALS);
        if (!lex_expect(&r->lex, "[") || !lex_expression(&r->lex, pool, &i.lo) || !lex_expect(&r->lex, ",") ||
            !lex_expression(&r->lex, pool, &i.hi))
            return false;
        if (lex_accept(&r->lex, ",") && !lex_expression(&r->lex, pool, &i.step)) return false;
        if (!lex_expect(&r->lex, "]")) return false;
        VEC_PUSH(r->arena, &v, i);
    } while (accept_list(r, &count));
    *at = v.at;
    *n = (uint32_t)v.n;
    return accept_semicolon(r);
}

static bool read_atom(reader *r, data_atom *d)
{
    return read_braced(r, &d->atom) && lex_expect(&r->lex, "may") && read_braced(r, &d->may) &&
           lex_expect(&r->lex, "must") && read_braced(r, &d->must) && accept_semicolon(r);
}

typedef struct ranges_draft {
    ranges *r;
    VEC(data_atom) data;
    VEC(expr) undecided;
} ranges_draft;

static bool read_range_clause(reader *r, ranges_draft *d)
{
    data_atom atom = {0};
    expr e = 0;
    if (d->data.n + d->undecided.n >= MAX_ATOMS)
        return lex_error(&r->lex, DIAG_ID_TOO_LARGE, r->lex.at, "more than %d comparisons", MAX_ATOMS);
    if (lex_accept(&r->lex, "may")) return read_intervals(r, &d->r->may, &d->r->n_may);
    if (lex_accept(&r->lex, "must")) return read_intervals(r, &d->r->must, &d->r->n_must);
    if (lex_accept(&r->lex, "live")) return read_intervals(r, &d->r->live, &d->r->n_live);
    if (lex_accept(&r->lex, "row_step")) {
        int64_t step;
        if (!lex_integer(&r->lex, "a step", 1, INT32_MAX, &step)) return false;
        d->r->row_step = (uint32_t)step;
        return accept_semicolon(r);
    }
    if (lex_accept(&r->lex, "sweeps")) return d->r->sweeps = true, accept_semicolon(r);
    if (lex_accept(&r->lex, "exact")) return d->r->exact_rows = true, accept_semicolon(r);
    if (lex_accept(&r->lex, "data")) {
        if (!read_atom(r, &atom)) return false;
        VEC_PUSH(r->arena, &d->data, atom);
        return true;
    }
    if (!lex_expect(&r->lex, "undecided") || !read_braced(r, &e)) return false;
    VEC_PUSH(r->arena, &d->undecided, e);
    return accept_semicolon(r);
}

static bool read_ranges(reader *r)
{
    ranges_draft d = {.r = ARENA_NEW(r->arena, ranges)};
    if (!lex_expect(&r->lex, "{")) return false;
    while (!lex_accept(&r->lex, "}"))
        if (!read_range_clause(r, &d)) return false;
    d.r->data = d.data.at;
    d.r->n_data = (uint32_t)d.data.n;
    d.r->undecided = d.undecided.at;
    d.r->n_undecided = (uint32_t)d.undecided.n;
    r->k->ranges = d.r;
    return true;
}

static bool read_size(reader *r, uint32_t *out)
{
    int64_t n;
    if (!lex_integer(&r->lex, "a size", 1, 4096, &n)) return false;
    *out = (uint32_t)n;
    return true;
}

static bool read_pair(reader *r, uint32_t *a, uint32_t *b)
{
    return read_size(r, a) && lex_expect(&r->lex, "x") && read_size(r, b);
}

static bool read_schedule_clause(reader *r, schedule *s)
{
    if (lex_accept(&r->lex, "lanes")) return read_size(r, &s->lanes);
    if (lex_accept(&r->lex, "vector")) return read_size(r, &s->vector);
    if (lex_accept(&r->lex, "key_block")) return read_size(r, &s->key_block);
    if (lex_accept(&r->lex, "qk")) return read_pair(r, &s->qk_keys, &s->qk_vectors);
    if (lex_accept(&r->lex, "pv")) return read_pair(r, &s->pv_dims, &s->pv_vectors);
    if (lex_accept(&r->lex, "narrow")) return read_pair(r, &s->narrow_keys, &s->narrow_dims);
    if (lex_accept(&r->lex, "few"))
        return read_size(r, &s->few_lanes) && lex_expect(&r->lex, ",") && read_pair(r, &s->few_rows, &s->few_keys);
    if (lex_accept(&r->lex, "fetch")) return read_size(r, &s->fetch);
    if (lex_accept(&r->lex, "dot_bf16")) return s->dot_bf16 = true;
    return lex_expected(&r->lex, "a size (lanes, vector, key_block, qk, pv, narrow, few, fetch, dot_bf16) or '}'");
}

static bool read_schedule(reader *r)
{
    schedule s = {0};
    const char *place = lex_skip(&r->lex), *name;
    if (!lex_word(&r->lex, &name)) return false;
    s.target = target_parse(name);
    if (s.target == TARGET_NONE) return lex_error(&r->lex, DIAG_ID_UNKNOWN, place, "there is no target %.40s", name);
    if (!lex_expect(&r->lex, "{")) return false;
    while (!lex_accept(&r->lex, "}"))
        if (!read_schedule_clause(r, &s) || !accept_semicolon(r)) return false;
    if (!s.lanes) return lex_error(&r->lex, DIAG_ID_MISSING, place, "a schedule needs lanes");
    r->k->schedule = s;
    return true;
}

/* ---- ops ------------------------------------------------------------------------------------------------- */

static bool read_value_number(reader *r, size_t *out)
{
    int64_t n;
    if (!lex_expect(&r->lex, "%") || !lex_integer(&r->lex, "a value's number", 1, MAX_VALUE_NUMBER, &n)) return false;
    *out = (size_t)n;
    return true;
}

static bool read_numbers(reader *r, size_t *at, size_t max, size_t *n)
{
    *n = 0;
    do {
        if (*n == max) return lex_error(&r->lex, DIAG_ID_ARGUMENTS, r->lex.at, "at most %zu values stand here", max);
        if (!read_value_number(r, &at[*n])) return false;
    } while (accept_list(r, n));
    ++*n;
    return true;
}

static bool define_number(reader *r, const char *place, size_t number, kvalue v)
{
    while (r->numbers.n <= number) VEC_PUSH(r->arena, &r->numbers, 0);
    if (r->numbers.at[number]) return lex_error(&r->lex, DIAG_ID_REDEFINED, place, "%%%zu is defined twice", number);
    r->numbers.at[number] = v;
    return true;
}

static bool read_operands(reader *r, size_t want, kvalue *operand)
{
    for (size_t i = 0; i < want; i++) {
        size_t number;
        const char *place = lex_skip(&r->lex);
        if ((i && !lex_expect(&r->lex, ",")) || !read_value_number(r, &number)) return false;
        if (number >= r->numbers.n || !r->numbers.at[number])
            return lex_error(&r->lex, DIAG_ID_UNKNOWN, place, "%%%zu is not defined before this", number);
        operand[i] = r->numbers.at[number];
    }
    return true;
}

typedef struct results {
    const char *place;
    size_t number[KOP_MAX_RESULTS], n;
} results;

static bool read_results(reader *r, results *out)
{
    out->place = lex_skip(&r->lex);
    out->n = 0;
    if (out->place == r->lex.end || *out->place != '%') return true;
    return read_numbers(r, out->number, KOP_MAX_RESULTS, &out->n) && lex_expect(&r->lex, "=");
}

static bool find_op(const char *name, kop_code *out)
{
    for (int c = 0; c < OP_COUNT; c++)
        if (!strcmp(kop_get_info((kop_code)c)->name, name)) return *out = (kop_code)c, true;
    return false;
}

static bool read_op_code(reader *r, kop_code *code)
{
    const char *place = lex_skip(&r->lex), *name;
    if (!lex_word(&r->lex, &name)) return false;
    return find_op(name, code) || lex_error(&r->lex, DIAG_ID_UNKNOWN, place, "there is no op %.40s", name);
}

static bool read_block(reader *r, kblock *b, int depth);

static bool read_loop_range(reader *r, keys_range *out)
{
    if (lex_accept(&r->lex, "all"))
        *out = KEYS_ALL;
    else if (lex_accept(&r->lex, "full"))
        *out = KEYS_FULL;
    else if (lex_accept(&r->lex, "partial"))
        *out = KEYS_PARTIAL;
    else
        return lex_expected(&r->lex, "all, full or partial");
    return true;
}

static bool read_loop_arguments(reader *r, const kblock *body)
{
    const char *place = lex_skip(&r->lex);
    size_t number[KOP_MAX_RESULTS], n;
    if (!lex_expect(&r->lex, "(") || !read_numbers(r, number, KOP_MAX_RESULTS, &n)) return false;
    if (n != body->n_args)
        return lex_error(&r->lex, DIAG_ID_ARGUMENTS, place, "the body has %u arguments", (unsigned)body->n_args);
    for (size_t i = 0; i < n; i++)
        if (!define_number(r, place, number[i], body->arg[i])) return false;
    return lex_expect(&r->lex, ")") && lex_expect(&r->lex, ":");
}

static bool read_op_expression(reader *r, const kop_info *info, expr *e)
{
    *e = 0;
    switch (info->expression) {
    case EXPR_NO:
        return true;
    case EXPR_ROWS_OPT:
        return *lex_skip(&r->lex) == '{' ? read_braced(r, e) : true;
    case EXPR_SCORE:
    case EXPR_BOOL:
        return read_braced(r, e);
    }
    ATTNC_UNREACHABLE();
}

static bool read_body(reader *r, const kop_info *info, kop *o, int depth)
{
    if (info->region == REGION_NONE) return true;
    if (depth >= MAX_DEPTH) return lex_error(&r->lex, DIAG_ID_TOO_LARGE, r->lex.at, "bodies are nested too deeply");
    if (!lex_expect(&r->lex, "{")) return false;
    if (info->region == REGION_LOOP && !read_loop_arguments(r, o->body)) return false;
    return read_block(r, o->body, depth + 1);
}

static bool read_op(reader *r, kblock *b, int depth)
{
    results res;
    kop_code code = OP_COUNT;
    kvalue operand[KOP_MAX_OPERANDS] = {0};
    keys_range range = KEYS_ALL;
    expr e;
    if (!read_results(r, &res) || !read_op_code(r, &code)) return false;
    const kop_info *info = kop_get_info(code);
    bool loop = info->region == REGION_LOOP;
    if (res.n != strlen(info->results))
        return lex_error(&r->lex, DIAG_ID_ARGUMENTS, res.place, "%s has %zu results, not %zu", info->name,
                         strlen(info->results), res.n);
    if (loop && (!read_loop_range(r, &range) || !lex_expect(&r->lex, "("))) return false;
    if (!read_operands(r, strlen(info->operands), operand) || (loop && !lex_expect(&r->lex, ")"))) return false;
    if (!read_op_expression(r, info, &e)) return false;
    kop *o = kop_append(r->k, b, code, operand, e);
    o->range = range;
    if (!read_body(r, info, o, depth)) return false;
    for (size_t i = 0; i < res.n; i++)
        if (!define_number(r, res.place, res.number[i], o->result[i])) return false;
    return true;
}

/* Up to and with the closing brace. */
static bool read_block(reader *r, kblock *b, int depth)
{
    while (!lex_accept(&r->lex, "}"))
        if (!read_op(r, b, depth)) return false;
    return true;
}

/* ---- kernel ---------------------------------------------------------------------------------------------- */

static bool read_kernel_parts(reader *r)
{
    kernel *k = r->k;
    for (;;) {
        if (lex_accept(&r->lex, "base2"))
            k->base2 = true;
        else if (lex_accept(&r->lex, "grouped"))
            k->grouped = true;
        else if (lex_accept(&r->lex, "split"))
            k->split = true;
        else
            break;
    }
    if (!lex_expect(&r->lex, "{")) return false;
    if (lex_accept(&r->lex, "ranges") && !read_ranges(r)) return false;
    if (lex_accept(&r->lex, "schedule") && !read_schedule(r)) return false;
    return read_block(r, k->body, 0);
}

static bool read_kernel(reader *r)
{
    ir_module *m = r->m;
    const char *place = lex_skip(&r->lex), *name, *pattern_name;
    if (!lex_name(&r->lex, "the kernel's name", &name) || !lex_expect(&r->lex, ":")) return false;
    if (!check_new(r, place, name, kernel_exists(m, name), m->kernels.n)) return false;
    const char *pattern_place = lex_skip(&r->lex);
    if (!lex_name(&r->lex, "a pattern's name", &pattern_name)) return false;
    uint32_t index = find_pattern(m, pattern_name);
    if (index == UINT32_MAX)
        return lex_error(&r->lex, DIAG_ID_UNKNOWN, pattern_place, "there is no pattern %.80s", pattern_name);
    r->k = kernel_create(m, name, index);
    r->numbers.n = 0;
    if (!read_kernel_parts(r)) return false;
    const char *wrong = kernel_verify(r->k);
    return wrong ? lex_error(&r->lex, DIAG_ID_TYPE, place, "kernel %.80s: %s", name, wrong) : true;
}

/* ---- module ---------------------------------------------------------------------------------------------- */

static bool read_item(reader *r)
{
    if (lex_accept(&r->lex, "layers")) return read_layers(r);
    if (lex_accept(&r->lex, "schedule")) return read_schedule_list(r);
    if (lex_accept(&r->lex, "input")) return read_table(r, false);
    if (lex_accept(&r->lex, "table")) return read_table(r, true);
    if (lex_accept(&r->lex, "attr")) return read_attr(r);
    if (lex_accept(&r->lex, "pattern")) return read_pattern(r);
    if (lex_accept(&r->lex, "kernel")) return read_kernel(r);
    return lex_expected(&r->lex, "layers, schedule, input, table, attr, pattern, kernel or '}'");
}

static bool read_module(reader *r)
{
    const char *place = lex_skip(&r->lex), *name;
    if (!lex_expect(&r->lex, "module") || !lex_string(&r->lex, &name) || !lex_expect(&r->lex, "{")) return false;
    r->m->name = name;
    while (!lex_accept(&r->lex, "}"))
        if (!read_item(r)) return false;
    if (!lex_at_end(&r->lex)) return lex_expected(&r->lex, "the end of the text");
    return resolve_layers(r, place);
}

ir_module *ir_module_read(arena *a, diags *d, uint32_t source)
{
    reader r = {.arena = a, .m = ir_module_create(a, "")};
    lex_open(&r.lex, a, d, source);
    return read_module(&r) ? r.m : NULL;
}
