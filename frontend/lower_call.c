/* lower_call.c - functions of the language, and definitions: expanded in place, their requirements checked at each use.
 */
#include "frontend/internal.h"

#include <string.h>

static const meaning failed = {.kind = VALUE_ERROR};

/* ---- built-in functions ----------------------------------------------------------------------------------------- */
typedef struct builtin {
    const char *name;
    uint32_t least, most;
    expr_op on_ints, on_floats;
} builtin;

static const builtin builtins[] = {
#define BUILTIN(spelling, least, most, ints, floats) {spelling, least, most, EXPR_##ints, EXPR_##floats},
#include "frontend/builtins.def"
#undef BUILTIN
};

static const builtin *find_builtin(const char *name)
{
    for (size_t i = 0; i < ATTNC_COUNT(builtins); i++)
        if (!strcmp(builtins[i].name, name)) return &builtins[i];
    return NULL;
}

bool is_builtin(const char *name) { return find_builtin(name) != NULL; }

void suggest_builtins(suggestion *s)
{
    for (size_t i = 0; i < ATTNC_COUNT(builtins); i++) suggest_offer(s, builtins[i].name);
}

static bool check_count(frontend *f, const frame *in, const node *n, const builtin *b, uint32_t count)
{
    if (count >= b->least && count <= b->most) return true;
    if (b->least == b->most)
        report(f, in, DIAG_ID_ARGUMENTS, n->where, "'%s' takes %u argument%s, not %u", b->name, b->least,
               b->least == 1 ? "" : "s", count);
    else
        report(f, in, DIAG_ID_ARGUMENTS, n->where, "'%s' takes %u to %u arguments, not %u", b->name, b->least, b->most,
               count);
    return false;
}

static bool all_ints(const frontend *f, const meaning *args, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (args[i].kind != VALUE_EXPR || expr_type_of(f->pool, args[i].e) != TYPE_INT) return false;
    return true;
}

static meaning lower_builtin(frontend *f, const frame *in, const node *n, const meaning *args, uint32_t count)
{
    const builtin *b = find_builtin(n->name);
    if (!b || !check_count(f, in, n, b, count)) return failed;
    bool ints = all_ints(f, args, count);
    if (b->on_floats == EXPR_FLOOR && ints) return args[0]; /* an int is its own floor */
    expr_op op = ints && b->on_ints != EXPR_NONE ? b->on_ints : b->on_floats;
    bool convert = b->on_ints == EXPR_FLOAT; /* float(x): nothing but the conversion */
    expr_type type = op == b->on_ints && !convert ? TYPE_INT : TYPE_FLOAT;
    expr result = 0;
    const node *k = n->kids.first;
    for (uint32_t i = 0; i < count; i++, k = k->next) {
        expr e = as_type(f, in, args[i], type, k->where, arena_printf(f->arena, "the argument of '%s'", b->name));
        if (!e) return failed;
        if (count == 1)
            result = convert ? e : expr_unary(f->pool, op, e);
        else
            result = i ? expr_binary(f->pool, op, result, e) : e;
    }
    return checked(f, in, result, n->where);
}

/* ---- uses that were worked out before --------------------------------------------------------------------------- */
struct memo_entry {
    const decl *define;
    place place;
    expr path;
    uint32_t n;
    const meaning *args;
    meaning result;
    uint64_t hash;
    memo_entry *next;
};

static uint64_t hash_use(const decl *d, const frame *in, const meaning *args, uint32_t n)
{
    uint64_t h = (uint64_t)(uintptr_t)d ^ ((uint64_t)in->path << 20) ^ (uint64_t)in->place;
    for (uint32_t i = 0; i < n; i++)
        h = (h ^ (h >> 31)) * 0x9e3779b97f4a7c15u + args[i].e * 4u + args[i].index * 64u + args[i].kind;
    return h ^ (h >> 29);
}

static bool same_args(const meaning *a, const meaning *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (a[i].kind != b[i].kind || a[i].e != b[i].e || a[i].index != b[i].index || a[i].is_bool != b[i].is_bool)
            return false;
    return true;
}

static memo_entry *find_memo(const frontend *f, const decl *d, const frame *in, const meaning *args, uint32_t n,
                             uint64_t h)
{
    memo_entry *m = f->memo_size ? f->memo[h & (f->memo_size - 1)] : NULL;
    while (m && !(m->hash == h && m->define == d && m->place == in->place && m->path == in->path && m->n == n &&
                  same_args(m->args, args, n)))
        m = m->next;
    return m;
}

static void grow_memo(frontend *f)
{
    size_t n = f->memo_size ? 2 * f->memo_size : 64;
    memo_entry **bigger = ARENA_ARRAY(f->arena, memo_entry *, n);
    for (size_t i = 0; i < f->memo_size; i++)
        for (memo_entry *next, *m = f->memo[i]; m; m = next) {
            next = m->next;
            m->next = bigger[m->hash & (n - 1)];
            bigger[m->hash & (n - 1)] = m;
        }
    f->memo = bigger;
    f->memo_size = n;
}

static void add_memo(frontend *f, const frame *use, uint32_t n, uint64_t h, meaning result)
{
    if (f->memo_used++ >= f->memo_size) grow_memo(f);
    memo_entry *m = ARENA_NEW(f->arena, memo_entry), **slot = &f->memo[h & (f->memo_size - 1)];
    meaning *args = ARENA_ARRAY(f->arena, meaning, n);
    if (n) memcpy(args, use->args, n * sizeof *args);
    *m = (memo_entry){use->define, use->place, use->path, n, args, result, h, *slot};
    *slot = m;
}

/* ---- requirements ----------------------------------------------------------------------------------------------- */
bool reads_run_time(const frontend *f, expr root)
{
    VEC(expr) open = {0};
    bool *seen = ARENA_ARRAY(f->arena, bool, (size_t)root + 1), found = false;
    VEC_PUSH(f->arena, &open, root);
    while (open.n && !found) {
        expr e = open.at[--open.n];
        if (seen[e]) continue;
        seen[e] = true;
        const expr_node *n = expr_get(f->pool, e);
        found = n->op == EXPR_ATTR || (n->op == EXPR_ELEM && !f->module->symbols.tables.at[n->index].value);
        for (unsigned i = 0; i < n->nargs; i++) VEC_PUSH(f->arena, &open, n->arg[i]);
    }
    return found;
}

typedef struct counterexample {
    int64_t h, layer;
} counterexample;

/* Looks at every head of every layer that has the pattern (as far as the condition depends on them). */
static bool find_violation(frontend *f, expr broken, counterexample *at)
{
    const source_pattern *p = f->now;
    bool by_head = expr_reads_var(f->pool, broken, VAR_H) || expr_reads_var(f->pool, broken, VAR_G);
    bool by_layer = expr_reads_var(f->pool, broken, VAR_LAYER);
    int64_t heads = by_head ? p->sizes.value[CONSTANT_HEADS] : 1, kv = p->sizes.value[CONSTANT_KV_HEADS];
    int64_t layers = by_layer ? (int64_t)p->layers.n : 1;
    f->cases += (uint64_t)(heads * layers);
    if (f->cases > MAX_CASES) return false;
    expr_program *x = expr_program_create(f->arena, f->pool, &broken, 1);
    expr_value *values = ARENA_ARRAY(f->arena, expr_value, expr_program_size(x) + 1), result;
    for (int64_t i = 0; i < layers * heads; i++) {
        int64_t l = i / heads, h = i % heads;
        expr_env env = {0};
        env.var[VAR_H] = h, env.var[VAR_G] = by_head ? h * kv / heads : 0, env.var[VAR_LAYER] = p->layers.at[l];
        expr_program_run(x, &env, values, &result);
        if (!result.i) continue;
        *at = (counterexample){by_head ? h : -1, by_layer ? (int64_t)p->layers.at[l] : -1};
        return true;
    }
    return false;
}

static void report_requirement(frontend *f, const frame *use, const requirement *r, const counterexample *at)
{
    text t = {.arena = f->arena};
    text_printf(&t, "%s", r->text ? r->text : "a requirement of this definition does not hold");
    if (at->h >= 0) text_printf(&t, " (head %lld", (long long)at->h);
    if (at->layer >= 0) text_printf(&t, "%slayer %lld", at->h >= 0 ? ", " : " (", (long long)at->layer);
    if (at->h >= 0 || at->layer >= 0) text_add(&t, ")");
    if (report(f, use->up, DIAG_ID_RANGE, use->use, "%s", text_get(&t)))
        diag_add_note(f->diags, r->where, "'%s' requires this", use->define->name);
}

/* Decides what can be decided now: constants, and what depends on heads and layers alone. */
static bool check_requirement(frontend *f, const frame *use, const requirement *r)
{
    expr holds = lower_as(f, use, r->condition, TYPE_BOOL, "a requirement");
    if (!holds) return false;
    expr broken = expr_unary(f->pool, EXPR_NOT, holds);
    if (use->path) broken = expr_binary(f->pool, EXPR_AND, use->path, broken);
    counterexample at = {-1, -1};
    if (broken == expr_bool(f->pool, false)) return true;
    if (broken != expr_bool(f->pool, true)) {
        if (expr_depends(f->pool, broken) & (DEPENDS_ROW | DEPENDS_KEY | DEPENDS_SCORE)) return true;
        if (!f->now || reads_run_time(f, broken) || expr_reads_var(f->pool, broken, VAR_LEN)) return true;
        bool violated = find_violation(f, broken, &at);
        if (f->cases > MAX_CASES) give_up(f, use->up, use->use, "requirements over too many heads and layers");
        if (!violated) return true;
    }
    report_requirement(f, use, r, &at);
    return false;
}

/* ---- definitions ------------------------------------------------------------------------------------------------ */
static meaning lower_body(frontend *f, const frame *use, const decl *d)
{
    meaning v = lower(f, use, d->value);
    if (v.kind != VALUE_EXPR || d->define == DEFINE_LET) return v;
    bool is_mask = d->define == DEFINE_MASK;
    expr e = as_type(f, use, v, is_mask ? TYPE_BOOL : TYPE_FLOAT, d->value->where,
                     arena_printf(f->arena, "the %s '%s'", is_mask ? "mask" : "score", d->name));
    return e ? (meaning){.kind = VALUE_EXPR, .e = e} : failed;
}

meaning use_definition(frontend *f, const frame *in, span use, const decl *d, const meaning *args, uint32_t n)
{
    if (in->depth >= AST_MAX_DEPTH) return give_up(f, in, use, "definitions are nested too deeply");
    frame here = {.up = in,
                  .define = d,
                  .use = use,
                  .args = args,
                  .names = d->home,
                  .place = in->place,
                  .path = in->path,
                  .depth = in->depth + 1};
    uint64_t h = hash_use(d, in, args, n);
    memo_entry *known = find_memo(f, d, in, args, n, h);
    bool good = true;
    if (!known || d->requires) {
        if (++f->expansions > MAX_EXPANSIONS) return give_up(f, in, use, "definitions expand to too much");
        for (const requirement *r = d->requires; r && good; r = r->next) good = check_requirement(f, &here, r);
    }
    if (known) return good ? known->result : failed;
    meaning v = good ? lower_body(f, &here, d) : failed;
    add_memo(f, &here, n, h, v);
    return v;
}

meaning lower_call(frontend *f, const frame *in, const node *n)
{
    meaning args[MOST_ARGUMENTS];
    uint32_t count = 0;
    bool good = true;
    for (const node *k = n->kids.first; k; k = k->next) {
        meaning v = lower(f, in, k);
        good &= v.kind != VALUE_ERROR;
        if (count < MOST_ARGUMENTS) args[count] = v;
        count++;
    }
    if (count > MOST_ARGUMENTS || !good) return failed;
    const decl *d = scope_find(in->names, n->name, (int)count);
    if (!d) return lower_builtin(f, in, n, args, count);
    return d->kind == DECL_DEFINE ? use_definition(f, in, n->where, d, args, count) : failed;
}
