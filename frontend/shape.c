/* shape.c - heads, dim, dim_v, dtype: from the pattern, else from the model. */
#include "frontend/internal.h"

#include <string.h>

bool constant_integer(frontend *f, const node *n, scope *names, int64_t lo, int64_t hi, const char *what, int64_t *out)
{
    frame in = {.names = names, .place = PLACE_CONST};
    expr e = lower_as(f, &in, n, TYPE_INT, what);
    if (!e) return false;
    if (!expr_is_const(f->pool, e, out)) {
        diag_report(f->diags, DIAG_ID_TYPE, n->where, "%s must be known when compiling", what);
        return false;
    }
    if (*out >= lo && *out <= hi) return true;
    diag_report(f->diags, DIAG_ID_RANGE, n->where, "%s is %lld; it must be %lld to %lld", what, (long long)*out,
                (long long)lo, (long long)hi);
    return false;
}

static void set_size(sizes *s, constant which, int64_t value)
{
    s->known[which] = true;
    s->value[which] = value;
}

/* `heads A / B;` was read as a division; `heads A;` is A / A. */
static bool compute_heads(frontend *f, const decl *d, scope *names, sizes *out)
{
    const node *n = d->values.first, *q = n, *kv = n;
    if (n->kind == NODE_BINARY && n->op == BINARY_DIV && !n->parens) q = n->kids.first, kv = q->next;
    int64_t heads, kv_heads;
    bool good = constant_integer(f, q, names, 1, MODULE_MAX_HEADS, "the number of query heads", &heads);
    good &= constant_integer(f, kv, names, 1, MODULE_MAX_HEADS, "the number of KV heads", &kv_heads);
    if (!good) return false;
    set_size(out, CONSTANT_HEADS, heads);
    set_size(out, CONSTANT_KV_HEADS, kv_heads);
    if (heads % kv_heads == 0) return true;
    diag_report(f->diags, DIAG_ID_RANGE, n->where, "%lld query heads cannot share %lld KV heads evenly",
                (long long)heads, (long long)kv_heads);
    diag_add_hint(f->diags, "heads Q / KV; where Q is a multiple of KV");
    return false;
}

static bool compute_dtype(frontend *f, const decl *d, dtype *out)
{
    if (dtype_parse(d->text, strlen(d->text), out)) return true;
    diag_report(f->diags, DIAG_ID_TYPE, d->name_where, "there is no dtype '%.64s'", d->text);
    diag_add_hint(f->diags, "dtypes are f32, f16 and bf16");
    return false;
}

/* Sizes that the clauses of one block state. */
static bool compute_sizes(frontend *f, decl *const *clause, scope *names, sizes *out)
{
    bool good = true;
    int64_t x;
    if (clause[CLAUSE_HEADS]) good &= compute_heads(f, clause[CLAUSE_HEADS], names, out);
    if (clause[CLAUSE_DIM]) {
        if (constant_integer(f, clause[CLAUSE_DIM]->values.first, names, 1, MODULE_MAX_DIM, "dim", &x))
            set_size(out, CONSTANT_DIM, x);
        else
            good = false;
    }
    if (clause[CLAUSE_DIM_V]) {
        if (constant_integer(f, clause[CLAUSE_DIM_V]->values.first, names, 1, MODULE_MAX_DIM, "dim_v", &x))
            set_size(out, CONSTANT_DIM_V, x);
        else
            good = false;
    }
    return good;
}

static void inherit_clauses(const frontend *f, source_pattern *p)
{
    for (int c = 0; c < CLAUSE_COUNT; c++)
        if (!p->clause[c] && c != CLAUSE_LAYERS) p->clause[c] = f->model_clause[c];
}

static bool report_missing(frontend *f, const source_pattern *p, const char *what, const char *hint)
{
    diag_report(f->diags, DIAG_ID_MISSING, p->decl->name_where, "pattern '%s' has no %s", p->decl->name, what);
    diag_add_hint(f->diags, "%s", hint);
    return false;
}

static bool compute_pattern_sizes(frontend *f, source_pattern *p)
{
    p->sizes = f->model_sizes;
    bool good = compute_sizes(f, p->clause, p->names, &p->sizes);
    inherit_clauses(f, p);
    if (p->clause[CLAUSE_DTYPE]) good &= compute_dtype(f, p->clause[CLAUSE_DTYPE], &p->type);
    if (!p->clause[CLAUSE_HEADS])
        good = report_missing(f, p, "heads", "add: heads 8 / 8;  query heads / KV heads, here or in the model");
    if (!p->clause[CLAUSE_DIM])
        good = report_missing(f, p, "dim", "add: dim 64;  the size of a head, here or in the model");
    if (!p->clause[CLAUSE_MASK]) good = report_missing(f, p, "mask", "every key is seen with: mask all;");
    if (!p->sizes.known[CONSTANT_DIM_V] && p->sizes.known[CONSTANT_DIM])
        set_size(&p->sizes, CONSTANT_DIM_V, p->sizes.value[CONSTANT_DIM]);
    return good;
}

/* Where the model itself says nothing, its sizes are those that all its patterns share. */
static void share_sizes(frontend *f)
{
    const source_pattern *first = NULL;
    bool same[CONSTANT_COUNT];
    memset(same, true, sizeof same);
    for (size_t i = 0; i < f->patterns.n; i++) {
        const source_pattern *p = f->patterns.at[i];
        if (p->index == UINT32_MAX) continue;
        if (!first) first = p;
        for (int c = 0; c < CONSTANT_COUNT; c++)
            same[c] &= p->sizes.known[c] && first->sizes.known[c] && p->sizes.value[c] == first->sizes.value[c];
    }
    for (int c = 0; first && c < CONSTANT_COUNT; c++)
        if (!f->model_sizes.known[c] && same[c]) set_size(&f->model_sizes, (constant)c, first->sizes.value[c]);
}

bool compute_shapes(frontend *f)
{
    bool good = compute_sizes(f, f->model_clause, f->model_names, &f->model_sizes);
    for (size_t i = 0; i < f->patterns.n; i++)
        if (f->patterns.at[i]->index != UINT32_MAX) good &= compute_pattern_sizes(f, f->patterns.at[i]);
    share_sizes(f);
    return good;
}

scope *clause_names(const frontend *f, const source_pattern *p, clause_kind c)
{
    return p->clause[c] == f->model_clause[c] ? f->model_names : p->names;
}

shape pattern_shape(const source_pattern *p)
{
    const int64_t *v = p->sizes.value;
    return (shape){.q_heads = v[CONSTANT_HEADS],
                   .kv_heads = v[CONSTANT_KV_HEADS],
                   .dim = v[CONSTANT_DIM],
                   .dim_v = v[CONSTANT_DIM_V],
                   .type = p->type};
}
