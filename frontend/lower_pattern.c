/* lower_pattern.c - one pattern: its clauses to mask, scale, scores and sink, and what the analysis says about the
 * mask. */
#include "frontend/internal.h"

#include <math.h>
#include <string.h>

static frame clause_frame(const frontend *f, const source_pattern *p, clause_kind c, place where)
{
    return (frame){.names = clause_names(f, p, c), .place = where};
}

/* Small enough, simplified by what is known of positions, and without work that a table can do. */
static expr finish(frontend *f, const source_pattern *p, expr e)
{
    return e ? tabulate(f, expr_simplify_by_range(f->pool, e), p) : 0;
}

static expr lower_clause(frontend *f, const source_pattern *p, clause_kind c, place where, const node *n,
                         expr_type type, const char *what)
{
    frame in = clause_frame(f, p, c, where);
    return finish(f, p, lower_as(f, &in, n, type, what));
}

static expr lower_mask(frontend *f, const source_pattern *p)
{
    const decl *d = p->clause[CLAUSE_MASK];
    return d ? lower_clause(f, p, CLAUSE_MASK, PLACE_MASK, d->values.first, TYPE_BOOL, "a mask") : 0;
}

static expr lower_scale(frontend *f, const source_pattern *p)
{
    const decl *d = p->clause[CLAUSE_SCALE];
    if (!d) return expr_float(f->pool, 1 / sqrt((double)p->sizes.value[CONSTANT_DIM]));
    return lower_clause(f, p, CLAUSE_SCALE, PLACE_SCALE, d->values.first, TYPE_FLOAT, "the scale");
}

static bool lower_scores(frontend *f, const source_pattern *p, pattern *to)
{
    const decl *d = p->clause[CLAUSE_SCORE];
    bool good = true;
    to->scores = d ? ARENA_ARRAY(f->arena, expr, d->values.n) : NULL;
    for (const node *n = d ? d->values.first : NULL; n; n = n->next) {
        expr e = lower_clause(f, p, CLAUSE_SCORE, PLACE_SCORE, n, TYPE_FLOAT, "a score");
        good &= e != 0;
        if (e && !expr_reads_var(f->pool, e, VAR_S)) {
            diag_report(f->diags, DIAG_ID_UNUSED, n->where,
                        "this score does not read 's': the logits before it are lost");
            diag_add_hint(f->diags, "to add it to the logit write: s + ...");
        }
        if (e && e != expr_variable(f->pool, VAR_S)) to->scores[to->n_scores++] = e;
    }
    return good;
}

static bool read_max_len(frontend *f, const source_pattern *p, pattern *to)
{
    const decl *d = p->clause[CLAUSE_MAX_LEN];
    return !d || constant_integer(f, d->values.first, clause_names(f, p, CLAUSE_MAX_LEN), 1, EXPR_MAX_POSITION,
                                  "max_len", &to->max_len);
}

static bool unsupported_row(frontend *f, const decl *d)
{
    diag_report(f->diags, DIAG_ID_UNSUPPORTED, d->name_where, "the row function '%.64s' is unsupported in this version",
                d->text);
    diag_add_hint(f->diags, "row softmax; or row softmax(sink: ...);");
    return false;
}

static bool lower_row(frontend *f, const source_pattern *p, pattern *to)
{
    const decl *d = p->clause[CLAUSE_ROW];
    if (!d) return true;
    if (strcmp(d->text, "softmax") != 0) return unsupported_row(f, d);
    const option *sink = NULL;
    bool good = true;
    for (const option *o = d->options; o; o = o->next) {
        bool known = !strcmp(o->name, "sink");
        if (!known)
            diag_report(f->diags, DIAG_ID_ARGUMENTS, o->where, "softmax has no option '%.64s'; it has: sink", o->name);
        else if (sink)
            diag_report(f->diags, DIAG_ID_CLAUSE, o->where, "a second sink");
        good &= known && !sink;
        if (known) sink = o;
    }
    if (!good || !sink) return good;
    to->sink = lower_clause(f, p, CLAUSE_ROW, PLACE_SINK, sink->value, TYPE_FLOAT, "the sink");
    return to->sink != 0;
}

/* ---- what the analysis says ------------------------------------------------------------------------------------- */
static void remark_undecided(frontend *f, const source_pattern *p, const ranges *r)
{
    for (uint32_t i = 0; i < r->n_undecided; i++) {
        expr e = r->undecided[i];
        span where = e < f->compared.n && f->compared.at[e].source != UINT32_MAX
                         ? f->compared.at[e]
                         : p->clause[CLAUSE_MASK]->values.first->where;
        size_t before = f->diags->list.n;
        diag_report(f->diags, DIAG_ID_UNDECIDED, where,
                    "the analysis cannot turn this into key ranges: its tiles are all computed and masked");
        if (f->diags->list.n > before) diag_add_note(f->diags, p->decl->name_where, "in pattern '%s'", p->decl->name);
    }
}

static void remark_len(frontend *f, const source_pattern *p)
{
    size_t before = f->diags->list.n;
    diag_report(f->diags, DIAG_ID_KEPT, p->clause[CLAUSE_MASK]->values.first->where,
                "how far this reaches grows with 'len', without end: the cache keeps what any length may need");
    if (f->diags->list.n > before) diag_add_hint(f->diags, "say how long a sequence can get: max_len 131072;");
}

static bool sees_nothing(const frontend *f, const ranges *r, int64_t q0, int64_t q1, int64_t h, int64_t layer,
                         const source_pattern *p)
{
    key_interval out[RANGES_MAX_INTERVALS];
    typedef bool may_must[2];
    may_must *data = ARENA_ARRAY(f->arena, may_must, r->n_data + 1);
    for (uint32_t i = 0; i < r->n_data; i++) data[i][0] = true;
    expr_env env = {.data = (const bool(*)[2])data};
    env.var[VAR_Q0] = q0, env.var[VAR_Q1] = q1, env.var[VAR_H] = h, env.var[VAR_LAYER] = layer;
    env.var[VAR_G] = h * p->sizes.value[CONSTANT_KV_HEADS] / p->sizes.value[CONSTANT_HEADS];
    return ranges_evaluate(f->pool, r, RANGES_MAY, &env, EXPR_MAX_POSITION, out) == 0;
}

/* Proven empty over all rows at once, or on each of very many rows, by the sound list `may`. */
static bool is_empty_for(const frontend *f, const source_pattern *p, const pattern *x, int64_t h, int64_t layer)
{
    if (sees_nothing(f, x->ranges, 0, EXPR_MAX_POSITION, h, layer, p)) return true;
    for (int64_t q = 0; q < 64; q++)
        if (!sees_nothing(f, x->ranges, q, q, h, layer, p)) return false;
    for (int64_t q = 64; q <= EXPR_MAX_POSITION; q *= 2)
        if (!sees_nothing(f, x->ranges, q - 1, q - 1, h, layer, p) || !sees_nothing(f, x->ranges, q, q, h, layer, p))
            return false;
    return true;
}

static bool is_empty_mask(const frontend *f, const source_pattern *p, const pattern *x)
{
    enum { MOST_CASES = 4096 }; /* heads and layers that are looked at; beyond that no warning */
    if (x->mask == expr_bool(f->pool, false) || !x->ranges->n_may) return true;
    bool by_head = expr_reads_var(f->pool, x->mask, VAR_H) || expr_reads_var(f->pool, x->mask, VAR_G);
    int64_t heads = by_head ? x->shape.q_heads : 1;
    int64_t layers = expr_reads_var(f->pool, x->mask, VAR_LAYER) ? (int64_t)p->layers.n : 1;
    if (reads_run_time(f, x->mask) || expr_reads_var(f->pool, x->mask, VAR_LEN) || heads * layers > MOST_CASES)
        return false;
    for (int64_t i = 0; i < heads * layers; i++)
        if (!is_empty_for(f, p, x, i % heads, p->layers.at[i / heads])) return false;
    return true;
}

static void analyse(frontend *f, const source_pattern *p, pattern *x)
{
    x->ranges = ranges_compute(f->pool, x->mask, x->max_len);
    remark_undecided(f, p, x->ranges);
    if (x->ranges->live_of_len && !x->max_len) remark_len(f, p);
    if (is_empty_mask(f, p, x))
        diag_report(f->diags, DIAG_ID_EMPTY_MASK, p->clause[CLAUSE_MASK]->values.first->where,
                    "no query can see a key through this mask");
}

bool lower_pattern(frontend *f, source_pattern *p)
{
    pattern *x = ARENA_NEW(f->arena, pattern);
    *x = (pattern){.name = p->decl->name, .where = p->decl->name_where, .shape = pattern_shape(p)};
    f->now = p;
    f->memo_size = f->memo_used = 0; /* sizes differ from pattern to pattern, and with them what definitions mean */
    const bool limited = read_max_len(f, p, x);
    x->mask = lower_mask(f, p);
    x->scale = lower_scale(f, p);
    bool good = lower_scores(f, p, x); /* each part is looked at, for all its mistakes */
    good &= lower_row(f, p, x);
    good &= read_policies(f, p) && limited;
    x->kv_shared = p->shared, x->kv_layer = p->kv_layer, x->k_is_v = p->k_is_v;
    x->shape.kv = p->quant ? KV_INT8 : KV_AS_GIVEN, x->shape.kv_group = p->kv_group;
    f->now = NULL;
    if (!good || !x->mask || !x->scale || f->diags->errors) return false;
    analyse(f, p, x);
    VEC_PUSH(f->arena, &f->module->patterns, x);
    return true;
}
