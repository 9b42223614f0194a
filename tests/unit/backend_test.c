/* backend_test.c - kernels of the CPU backend by themselves: compiled for every target, loaded, run over items and segments that this
 * file makes (no plan), and compared with the f64 interpreter on the definition.
 *
 * K and V lie in scattered pages with NaN in every gap and behind every key that nobody sees. Now and then a visible key is NaN: the
 * rows that see it must be NaN, and no others. The last page ends with its last key, and no memory is behind it. Segments follow the
 * ABI, not the ranges: what a mask cuts is found pair by pair.
 *
 *   backend_test [rounds [seed]] */
#define _DEFAULT_SOURCE
#include "tests/unit/check.h"

#include "backends/backend.h"
#include "ir/kernel/interp.h"
#include "ir/pass/pass.h"
#include "tools/common/half.h"

#include <attn/attn.h>
#include <dlfcn.h>
#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

static unsigned long long seed = 1;
static int rounds = 6;
static bool few; /* problems have 1 to 5 queries */
static bool infinities; /* values that are seen may be infinite: where no weight can become 0, which makes them NaN */

static int below(int n) { return (int)(check_random(&seed) % (unsigned long long)n); }
static double real(void) { return (double)(check_random(&seed) >> 11) / 9007199254740992.0 * 2 - 1; }

/* ---- storage types ------------------------------------------------------------------------------------------------------------------- */

static size_t type_size(dtype t) { return t == DTYPE_F32 ? 4 : 2; }

static void put(void *at, dtype t, double x)
{
    float f = (float)x;
    uint16_t h = t == DTYPE_F16 ? half_to_f16(f) : half_to_bf16(f);
    if (t == DTYPE_F32) memcpy(at, &f, 4);
    else memcpy(at, &h, 2);
}

static double get(const void *at, dtype t)
{
    float f;
    uint16_t h;
    memcpy(&h, at, 2);
    if (t != DTYPE_F32) return t == DTYPE_F16 ? half_from_f16(h) : half_from_bf16(h);
    memcpy(&f, at, 4);
    return f;
}

static double rounded(dtype t, double x)
{
    char room[4];
    put(room, t, x);
    return get(room, t);
}

/* ---- compiling ------------------------------------------------------------------------------------------------------------------------- */

typedef struct compiled {
    arena *arena;
    ir_module *m;
    kernel *definition[16]; /* after lower-pattern */
    void *library;
    const attn_module_desc *desc;
} compiled;

static void lower(compiled *c, backend_variant *variants)
{
    static const pass_id common[] = {PASS_fuse_online, PASS_split_ranges, PASS_fold_scale, PASS_group_heads, PASS_split_kv};
    size_t n = c->m->patterns.n;
    const char *wrong = passes_run(c->m, &(pass_options){.passes = "lower-pattern"});
    for (size_t i = 0; i < n; i++) c->definition[i] = kernel_clone(c->m, c->m->kernels.at[i], "definition");
    for (size_t p = 0; p < ATTNC_COUNT(common); p++)
        for (size_t i = 0; i < n && !wrong; i++) wrong = pass_run(common[p], c->m->kernels.at[i], &(pass_options){0});
    for (int t = 0; t < TARGET_COUNT; t++) {
        kernel **list = ARENA_ARRAY(c->arena, kernel *, n);
        for (size_t i = 0; i < n && !wrong; i++) {
            list[i] = kernel_clone(c->m, c->m->kernels.at[i], c->m->kernels.at[i]->name);
            wrong = pass_run(PASS_schedule, list[i], &(pass_options){.target = (target_id)t});
        }
        variants[t] = (backend_variant){(target_id)t, list};
    }
    CHECK_MSG(!wrong, "%s", wrong);
}

static bool compile_module(compiled *c, const char *air)
{
    char path[] = "./backend-test-XXXXXX";
    c->arena = arena_create(0, NULL, NULL);
    diags d = {.arena = c->arena};
    backend_variant variants[TARGET_COUNT];
    c->m = ir_module_read(c->arena, &d, diags_add_source(&d, "test", air, strlen(air)));
    diags_print(&d, stdout, DIAG_TEXT, false);
    CHECK(c->m);
    if (!c->m) return false;
    lower(c, variants);
    int file = mkstemp(path);
    CHECK(file >= 0);
    bool ok = backend_cpu_emit(c->m, variants, TARGET_COUNT, &(backend_options){.emit = EMIT_SO, .output = path}, &d);
    diags_print(&d, stdout, DIAG_TEXT, false);
    c->library = ok ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    CHECK_MSG(c->library, "%s", ok ? dlerror() : "not compiled");
    close(file);
    remove(path);
    if (c->library) c->desc = dlsym(c->library, ATTN_MODULE_SYMBOL);
    CHECK(c->desc);
    return c->desc;
}

static void drop(compiled *c)
{
    if (c->library) dlclose(c->library);
    arena_destroy(c->arena);
}

/* ---- one sequence ------------------------------------------------------------------------------------------------------------------------ */

typedef struct problem {
    const compiled *c;
    const pattern *p;
    uint32_t index; /* of the pattern */
    interp_sequence seq;
    double *k, *v; /* seq's */
    int32_t *q_attr, *k_attr;
    const double **tables;
    const void **inputs;
    double *o, *lse; /* expected */
    bool *sees;      /* [n_q][q_heads][n_keys] */
    int64_t layer;
    double tolerance;
} problem;

static double *reals(arena *a, int64_t n, dtype t, double scale)
{
    double *x = ARENA_ARRAY(a, double, (size_t)n + 1);
    for (int64_t i = 0; i < n; i++) x[i] = rounded(t, real() * scale);
    return x;
}

static void make_tables(problem *x, arena *a)
{
    const symbols *s = &x->c->m->symbols;
    size_t n_inputs = 0;
    x->tables = ARENA_ARRAY(a, const double *, s->tables.n + 1);
    x->inputs = ARENA_ARRAY(a, const void *, s->tables.n + 1);
    for (size_t i = 0; i < s->tables.n; i++) {
        const table *t = &s->tables.at[i];
        int64_t n = 1;
        for (uint32_t j = 0; j < t->rank; j++) n *= t->extent[j];
        if (t->value) continue;
        double *v = ARENA_ARRAY(a, double, (size_t)n);
        char *data = ARENA_ARRAY(a, char, 4 * (size_t)n);
        for (int64_t j = 0; j < n; j++) {
            int32_t whole = below(12);
            v[j] = t->type == TYPE_INT ? whole : (double)(float)real();
            if (t->type == TYPE_INT) memcpy(data + 4 * j, &whole, 4);
            else put(data + 4 * j, DTYPE_F32, v[j]);
        }
        x->tables[i] = v;
        x->inputs[n_inputs++] = data;
    }
}

static void find_visible(problem *x, arena *a)
{
    const shape *s = &x->p->shape;
    int64_t attr[1][ATTR_SIDE_COUNT] = {{0}};
    expr_env env = {.tables = x->tables, .attr = (const int64_t(*)[ATTR_SIDE_COUNT])attr, .var = {[VAR_LAYER] = x->layer}};
    expr_program *mask = expr_program_create(a, x->c->m->pool, &x->p->mask, 1);
    expr_value *values = ARENA_ARRAY(a, expr_value, expr_program_size(mask)), result;
    bool *at = x->sees = ARENA_ARRAY(a, bool, (size_t)(x->seq.n_q * s->q_heads * x->seq.n_keys) + 1);
    for (int64_t i = 0; i < x->seq.n_q; i++)
        for (int64_t h = 0; h < s->q_heads; h++)
            for (int64_t k = 0; k < x->seq.n_keys; k++) {
                env.var[VAR_Q] = x->seq.pos + i, env.var[VAR_K] = k, env.var[VAR_H] = h;
                env.var[VAR_G] = h * s->kv_heads / s->q_heads;
                attr[0][ATTR_Q] = x->q_attr[i], attr[0][ATTR_K] = x->k_attr[k];
                expr_program_run(mask, &env, values, &result);
                *at++ = result.i != 0;
            }
}

static bool visible(const problem *x, int64_t row, int64_t h, int64_t k)
{
    return x->sees[(row * x->p->shape.q_heads + h) * x->seq.n_keys + k];
}

static void fill_key(problem *x, int64_t key, int64_t g, bool in_k, double with)
{
    const shape *s = &x->p->shape;
    for (int64_t c = 0; c < s->dim && in_k; c++) x->k[(key * s->kv_heads + g) * s->dim + c] = with;
    for (int64_t c = 0; c < s->dim_v; c++) x->v[(key * s->kv_heads + g) * s->dim_v + c] = with;
}

/* NaN where nobody looks; with `visible_nan` also in V, or K and V, of some keys that are seen, and V infinite with `infinite`. */
static void poison(problem *x, bool visible_nan, bool infinite)
{
    const shape *s = &x->p->shape;
    const int64_t group = s->q_heads / s->kv_heads;
    for (int64_t k = 0; k < x->seq.n_keys; k++)
        for (int64_t g = 0; g < s->kv_heads; g++) {
            bool seen = false;
            for (int64_t h = g * group; h < (g + 1) * group; h++)
                for (int64_t i = 0; i < x->seq.n_q && !seen; i++) seen = visible(x, i, h, k);
            const bool in_k = !seen || below(2);
            if (!seen || (visible_nan && !below(60))) fill_key(x, k, g, in_k, in_k || !infinite || below(2) ? NAN : INFINITY);
        }
}

/* Queries of 16 bits may be rounded to 16 bits of their largest element where keys are int8 (docs/quant.md): how much that does to lse. */
static double query_rounding(const problem *x, arena *a)
{
    const shape *s = &x->p->shape;
    const int64_t rows = x->seq.n_q * s->q_heads;
    interp_sequence seq = x->seq;
    double *q = ARENA_ARRAY(a, double, (size_t)(rows * s->dim) + 1), worst = 0;
    if (s->kv != KV_INT8 || s->type == DTYPE_F32) return 0;
    for (int64_t i = 0; i < rows * s->dim; i += s->dim) {
        double largest = 0;
        for (int64_t j = i; j < i + s->dim; j++) largest = fmax(largest, fabs(x->seq.q[j]));
        for (int64_t j = i; j < i + s->dim; j++) q[j] = nearbyint(x->seq.q[j] / largest * 32512) * largest / 32512;
    }
    seq.q = q;
    seq.o = ARENA_ARRAY(a, double, (size_t)(rows * s->dim_v)), seq.lse = ARENA_ARRAY(a, double, (size_t)rows);
    const char *wrong = interp_run(x->c->definition[x->index], &seq, 1, &(interp_options){.layer = x->layer, .tables = x->tables});
    CHECK_MSG(!wrong, "%s", wrong);
    for (int64_t i = 0; i < rows; i++)
        if (isfinite(seq.lse[i])) worst = fmax(worst, fabs(seq.lse[i] - x->lse[i]));
    for (int64_t i = 0; i < rows * s->dim_v; i++)
        if (isfinite(seq.o[i])) worst = fmax(worst, fabs(seq.o[i] - x->o[i]));
    return 2 * worst;
}

static void make_problem(problem *x, const compiled *c, arena *a, uint32_t index, double scale)
{
    const pattern *p = c->m->patterns.at[index];
    const shape *s = &p->shape;
    static const int queries[] = {1, 3, 17, 64, 70, 130, 2, 4}, keys[] = {1, 5, 63, 100, 131, 290};
    *x = (problem){.c = c, .p = p, .index = index, .layer = below((int)c->m->layers)};
    int64_t n_q = few ? 1 + below(5) : queries[below(ATTNC_COUNT(queries))], n_keys = keys[below(ATTNC_COUNT(keys))];
    int64_t pos = below(3) && n_keys >= n_q ? n_keys - n_q : below(40);
    make_tables(x, a);
    x->k = reals(a, n_keys * s->kv_heads * s->dim, s->type, scale);
    x->v = reals(a, n_keys * s->kv_heads * s->dim_v, s->type, 1);
    x->q_attr = ARENA_ARRAY(a, int32_t, (size_t)n_q), x->k_attr = ARENA_ARRAY(a, int32_t, (size_t)n_keys);
    for (int64_t i = 0; i < n_q; i++) x->q_attr[i] = (int32_t)i / 20 - 1 + below(2);
    for (int64_t i = 0; i < n_keys; i++) x->k_attr[i] = (int32_t)i / 20 - 1 + below(2);
    x->o = ARENA_ARRAY(a, double, (size_t)(n_q * s->q_heads * s->dim_v));
    x->lse = ARENA_ARRAY(a, double, (size_t)(n_q * s->q_heads));
    x->seq = (interp_sequence){.n_q = n_q, .pos = pos, .n_keys = n_keys, .k = x->k, .v = x->v, .o = x->o, .lse = x->lse,
                               .q = reals(a, n_q * s->q_heads * s->dim, s->type, scale)};
    find_visible(x, a);
    poison(x, !below(3), infinities && s->kv != KV_INT8);
    const int32_t **attrs = ARENA_ARRAY(a, const int32_t *, 2);
    attrs[0] = x->q_attr, attrs[1] = x->k_attr;
    x->seq.q_attr = attrs, x->seq.k_attr = attrs + 1;
    const char *wrong = interp_run(c->definition[index], &x->seq, 1, &(interp_options){.layer = x->layer, .tables = x->tables});
    CHECK_MSG(!wrong, "%s", wrong);
}

/* ---- memory as the kernel sees it ------------------------------------------------------------------------------------------------------------ */

enum { GAP = 3 }; /* elements behind each row that nobody may read */

typedef struct memory {
    attn_kernel_args args;
    attn_seq seq;
    char *o, *lse;
    size_t o_size;
    bool whole_o; /* o is f32 */
} memory;

static void put_row(char *at, dtype t, const double *from, int64_t n)
{
    for (int64_t i = 0; i < n + GAP; i++) put(at + (size_t)i * type_size(t), t, i < n ? from[i] : NAN);
}

/* What a cache makes of a row under `kv quant(int8)`: elements in steps of a scale, then the scales; bytes in all. */
static size_t put_int8_row(char *at, const shape *s, const double *from, int64_t dim)
{
    const int64_t group = kv_group_of(s, dim);
    char *scale_at = at + dim;
    for (int64_t i = 0; i < dim; i += group, scale_at += 4) {
        double largest = 0;
        for (int64_t j = i; j < i + group; j++) largest = isnan(from[j]) || fabs(from[j]) > largest ? fabs(from[j]) : largest;
        const float scale = (float)(largest / 127);
        for (int64_t j = i; j < i + group; j++) at[j] = scale > 0 ? (char)(int8_t)nearbyint((double)(float)(from[j] / scale)) : 0;
        memcpy(scale_at, &scale, 4);
    }
    return (size_t)(scale_at - at);
}

static int64_t stored_row(const shape *s, int64_t dim)
{
    if (s->kv == KV_INT8) return dim + dim / kv_group_of(s, dim) * 4;
    return dim * (int64_t)type_size(s->type);
}

static int64_t stored_gap(const shape *s) { return s->kv == KV_INT8 ? GAP : GAP * (int64_t)type_size(s->type); }

static void store_row(char *at, const shape *s, const double *from, int64_t dim)
{
    if (s->kv == KV_INT8) memset(at + put_int8_row(at, s, from, dim), 0xff, GAP);
    else put_row(at, s->type, from, dim);
}

/* A copy for K or for V that ends where memory ends: who reads a byte behind it crashes. The next one takes its place. */
static char *at_the_edge(bool values, const char *from, size_t size)
{
    enum { ROOM = 1 << 24, WALL = 1 << 16 };
    static char *room[2];
    if (!room[values]) {
        room[values] = mmap(NULL, ROOM + WALL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (room[values] == MAP_FAILED || mprotect(room[values] + ROOM, WALL, PROT_NONE)) abort();
    }
    if (size > ROOM) abort();
    return memcpy(room[values] + ROOM - size, from, size);
}

/* Pages of [head][token][dim + gap], one allocation each, in no order. */
static const char *const *make_pages(problem *x, arena *a, const double *from, int64_t dim, int64_t tokens, int64_t *token_stride,
                                     const int64_t **heads, bool values)
{
    const shape *s = &x->p->shape;
    const int64_t row = stored_row(s, dim) + stored_gap(s), n = (x->seq.n_keys + tokens - 1) / tokens, offset = values ? 24 : 8;
    const char **pages = ARENA_ARRAY(a, const char *, (size_t)n + 1);
    *token_stride = row;
    int64_t *head_at = ARENA_ARRAY(a, int64_t, (size_t)s->kv_heads);
    for (int64_t g = 0; g < s->kv_heads; g++) head_at[g] = offset + (g + 1) % s->kv_heads * tokens * row;
    *heads = head_at;
    for (int64_t i = n; i-- > 0;) {
        char *page = arena_alloc(a, (size_t)(offset + s->kv_heads * tokens * row));
        memset(page, 0xff, (size_t)(offset + s->kv_heads * tokens * row));
        for (int64_t k = i * tokens; k < x->seq.n_keys && k < (i + 1) * tokens; k++)
            for (int64_t g = 0; g < s->kv_heads; g++)
                store_row(page + head_at[g] + k % tokens * row, s, from + (k * s->kv_heads + g) * dim, dim);
        pages[i] = page;
    }
    const int64_t last = n ? x->seq.n_keys - (n - 1) * tokens : 0, end = offset + ((s->kv_heads - 1) * tokens + last) * row;
    if (n) pages[n - 1] = at_the_edge(values, pages[n - 1], (size_t)(end - stored_gap(s)));
    return pages;
}

static void make_memory(memory *y, problem *x, arena *a)
{
    const shape *s = &x->p->shape;
    static const int64_t sizes[] = {1, 4, 16, 37, 1024};
    int64_t tokens = sizes[below(ATTNC_COUNT(sizes))], row = (s->dim + GAP) * (int64_t)type_size(s->type);
    char *q = ARENA_ARRAY(a, char, (size_t)(x->seq.n_q * s->q_heads * row));
    for (int64_t i = 0; i < x->seq.n_q * s->q_heads; i++) put_row(q + i * row, s->type, x->seq.q + i * s->dim, s->dim);
    *y = (memory){.whole_o = s->type == DTYPE_F32 || below(2)};
    int64_t o_row = (s->dim_v + GAP) * (y->whole_o ? 4 : 2);
    y->o_size = (size_t)(x->seq.n_q * s->q_heads * o_row);
    y->o = ARENA_ARRAY(a, char, y->o_size);
    y->lse = ARENA_ARRAY(a, char, 4 * (size_t)(x->seq.n_q * s->q_heads));
    attn_kernel_args *g = &y->args;
    *g = (attn_kernel_args){.size = sizeof *g, .abi = ATTN_ABI_VERSION, .q = q, .o = y->o, .lse = below(5) ? y->lse : NULL,
                            .q_row_stride = s->q_heads * row, .q_head_stride = row,
                            .o_row_stride = o_row, .o_head_stride = x->seq.n_q * o_row,
                            .lse_row_stride = 4 * s->q_heads, .lse_head_stride = 4,
                            .page_tokens = tokens,
                            .layer = x->layer, .o_f32 = y->whole_o, .inputs = x->inputs};
    y->seq = (attn_seq){.n_q = x->seq.n_q, .pos = x->seq.pos, .n_keys = x->seq.n_keys, .q_attr = x->seq.q_attr, .k_attr = x->seq.k_attr};
    y->seq.k_pages = make_pages(x, a, x->k, s->dim, tokens, &g->k_token_stride, &g->k_heads, false);
    y->seq.v_pages = make_pages(x, a, x->v, s->dim_v, tokens, &g->v_token_stride, &g->v_heads, true);
}

/* ---- items and segments ---------------------------------------------------------------------------------------------------------------------- */

typedef struct work {
    problem *x;
    const attn_kernel_desc *k;
    arena *arena;
    VEC(attn_item) items;
    VEC(attn_segment) segments;
    int32_t slots;
} work;

/* How many of the used lanes lane0 .. see the key. */
static int count_seeing(const work *w, const attn_item *item, int32_t lane0, int32_t lanes, int64_t key)
{
    int n = 0;
    for (int32_t i = lane0; i < lane0 + lanes && i < item->rows * item->heads; i++)
        n += visible(w->x, item->row + i / item->heads * item->row_step, item->head + i % item->heads, key);
    return n;
}

static int used_lanes(const attn_item *item, int32_t lane0, int32_t lanes)
{
    int32_t end = item->rows * item->heads < lane0 + lanes ? item->rows * item->heads : lane0 + lanes;
    return end > lane0 ? end - lane0 : 0;
}

/* Wide segments where all see; taken[] says which keys they cover. */
static void add_wide(work *w, const attn_item *item, int64_t k0, int64_t k1, bool *taken)
{
    for (int64_t k = k0, n; k < k1; k += n ? n : 1) {
        for (n = 0; k + n < k1 && !taken[k + n] && count_seeing(w, item, 0, (int32_t)w->k->lanes, k + n) == used_lanes(item, 0, (int32_t)w->k->lanes);) n++;
        n -= n % w->k->key_step;
        if (!n) continue;
        VEC_PUSH(w->arena, &w->segments, ((attn_segment){.k0 = k, .k1 = k + n, .lanes = (int32_t)w->k->lanes, .step = 1}));
        for (int64_t i = k; i < k + n; i++) taken[i] = true;
    }
}

/* Now and then keys some steps apart, wide and narrow, before the others: steps shorter and longer than a page. */
static void add_stepped(work *w, const attn_item *item, int32_t lane0, int32_t lanes, int64_t k0, int64_t k1, bool *taken)
{
    static const int64_t steps[] = {2, 3, 5, 16, 41};
    const bool wide = lanes == (int32_t)w->k->lanes;
    const int used = used_lanes(item, lane0, lanes);
    const int64_t step = steps[below(ATTNC_COUNT(steps))], least = wide ? w->k->key_step : 1;
    int64_t k = k0 + below(4), n = 0;
    bool all = true;
    while (wide && k < k1 && count_seeing(w, item, lane0, lanes, k) != used) k++;
    for (; k + n * step < k1 && !taken[k + n * step] && n < 150; n++) {
        const bool sees = count_seeing(w, item, lane0, lanes, k + n * step) == used;
        if (wide && !sees) break;
        all &= sees;
    }
    n -= n % least;
    if (!n) return;
    const attn_segment s = {.k0 = k, .k1 = k + (n - 1) * step + 1 + below((int)step), .lane0 = lane0, .lanes = lanes,
                            .masked = !wide && (!all || !below(3)), .step = (int32_t)step};
    VEC_PUSH(w->arena, &w->segments, s);
    for (int64_t i = 0; i < n; i++) taken[k + i * step] = true;
}

/* The rest of a vector, or of a pair of them: runs of keys that all see are unmasked (sometimes asked all the same), others masked; now and then keys that
 * nobody sees are visited too. */
static void add_narrow(work *w, const attn_item *item, int32_t lane0, int32_t lanes, int64_t k0, int64_t k1, const bool *taken)
{
    const int used = used_lanes(item, lane0, lanes);
    const bool lazy = below(2), ask_all = !below(4);
    for (int64_t k = k0, end; k < k1; k = end) {
        int sees = count_seeing(w, item, lane0, lanes, k);
        bool all = sees == used && !ask_all;
        end = k + 1;
        if (taken[k] || (!sees && !lazy)) continue;
        for (; end < k1 && !taken[end]; end++) {
            int next = count_seeing(w, item, lane0, lanes, end);
            if (all ? next != used : !next && !lazy) break;
        }
        attn_segment s = {.k0 = k, .k1 = end, .lane0 = lane0, .lanes = lanes, .masked = !all, .step = 1};
        VEC_PUSH(w->arena, &w->segments, s);
    }
}

static void add_item(work *w, attn_item item, int64_t k0, int64_t k1)
{
    bool *taken = ARENA_ARRAY(w->arena, bool, (size_t)w->x->seq.n_keys + 1);
    item.segment0 = (int32_t)w->segments.n;
    const bool stepped = below(3) == 0;
    if (stepped) add_stepped(w, &item, 0, (int32_t)w->k->lanes, k0, k1, taken);
    if (below(4)) add_wide(w, &item, k0, k1, taken);
    bool *seen = ARENA_ARRAY(w->arena, bool, (size_t)w->x->seq.n_keys + 1);
    const int32_t vector = (int32_t)w->k->vector, pair = (int32_t)w->k->pair;
    for (int32_t lane = 0, lanes; lane < item.rows * item.heads; lane += lanes) {
        lanes = pair && lane % pair == 0 && below(2) ? pair : vector;
        memcpy(seen, taken, (size_t)w->x->seq.n_keys);
        if (stepped) add_stepped(w, &item, lane, lanes, k0, k1, seen);
        add_narrow(w, &item, lane, lanes, k0, k1, seen);
    }
    item.segments = (int32_t)w->segments.n - item.segment0;
    VEC_PUSH(w->arena, &w->items, item);
}

static void add_tile(work *w, attn_item item)
{
    int64_t n = w->x->seq.n_keys;
    item.parts = below(2) ? 1 : 1 + below(4);
    item.part_slot = w->slots;
    w->slots += item.parts;
    for (item.part = 0; item.part < item.parts; item.part++) add_item(w, item, n * item.part / item.parts, n * (item.part + 1) / item.parts);
}

static void make_work(work *w)
{
    const shape *s = &w->x->p->shape;
    int32_t group = (int32_t)(s->q_heads / s->kv_heads), heads = 1 + below(group < (int)w->k->max_group ? group : (int)w->k->max_group);
    int32_t rows = (int32_t)w->k->lanes / heads;
    const int32_t step = below(3) ? 1 : 1 + below(7);
    for (int32_t g = 0; g < s->kv_heads; g++)
        for (int32_t h = 0; h < group; h += heads)
            for (int32_t first = 0; first < step && first < w->x->seq.n_q; first++) {
                const int32_t all = ((int32_t)w->x->seq.n_q - first + step - 1) / step;
                for (int32_t r = 0; r < all; r += rows)
                    add_tile(w, (attn_item){.head = g * group + h, .heads = group - h < heads ? group - h : heads, .row = first + r * step,
                                            .rows = all - r < rows ? all - r : rows, .row_step = step});
            }
    for (size_t i = 0; i + 1 < w->items.n; i++) w->items.at[i].next = i % 3 != 0;
}

static void run_items(const work *w, const attn_kernel_args *args)
{
    void *room = aligned_alloc(64, (w->k->workspace + 63) / 64 * 64);
    memset(room, 0xff, w->k->workspace); /* NaN: nothing may be taken from an earlier item */
    for (size_t i = 0; i < w->items.n; i++) {
        w->k->run(args, &w->items.at[i], room);
        if (w->items.at[i].parts > 1 && w->items.at[i].part + 1 == w->items.at[i].parts) {
            memset(room, 0xff, w->k->workspace);
            w->k->merge(args, &w->items.at[i] - w->items.at[i].part, room);
        }
    }
    free(room);
}

/* ---- comparing ------------------------------------------------------------------------------------------------------------------------------- */

/* In all schedules tiles of so many rows at most are few. */
enum { FEW_LANES = 16 };

static bool is_few(const work *w, int64_t row, int64_t head)
{
    for (size_t i = 0; i < w->items.n; i++) {
        const attn_item *it = &w->items.at[i];
        const int64_t from = row - it->row;
        if (head < it->head || head >= it->head + it->heads || from < 0 || from % it->row_step || from / it->row_step >= it->rows) continue;
        return it->rows * it->heads <= FEW_LANES;
    }
    return false;
}

/* Of weights' rounding: in f32, or to bf16 where pairs of them are multiplied (|v| <= 1, so that o is off by at most half a unit of a
 * weight); of storage if o is not f32. */
static double allowed(const problem *x, const memory *y, const attn_kernel_desc *k, bool few_rows, double is)
{
    double unit = y->whole_o ? 0 : x->p->shape.type == DTYPE_F16 ? 0x1p-11 : 0x1p-8;
    double weights = x->p->shape.type == DTYPE_BF16 && k->isa == ATTN_ISA_AVX512BF16 ? 0x1p-9 : 0;
    const shape *s = &x->p->shape;
    const bool steps = few_rows && s->kv == KV_INT8 && s->type != DTYPE_F32 && !s->kv_group && s->dim % 64 == 0 && s->dim_v % 64 == 0;
    if (steps && k->isa == ATTN_ISA_AVX512BF16) weights += 1e-3; /* docs/quant.md */
    return x->tolerance + weights + unit * fabs(is);
}

static bool agrees(double got, double want, double tolerance)
{
    if (!isfinite(want)) return isnan(want) ? isnan(got) : got == want;
    return fabs(got - want) <= tolerance;
}

static bool compare_row(const work *w, const memory *y, int64_t i, int64_t h)
{
    const problem *x = w->x;
    const attn_kernel_desc *k = w->k;
    const bool few_rows = is_few(w, i, h);
    const shape *s = &x->p->shape;
    const dtype t = y->whole_o ? DTYPE_F32 : s->type;
    const int64_t at = i * s->q_heads + h;
    const char *row = y->o + i * y->args.o_row_stride + h * y->args.o_head_stride;
    for (int64_t c = 0; c < s->dim_v; c++)
        if (!agrees(get(row + (size_t)c * type_size(t), t), x->o[at * s->dim_v + c], allowed(x, y, k, few_rows, x->o[at * s->dim_v + c]))) return false;
    for (int64_t c = 0; c < GAP * (int64_t)type_size(t); c++)
        if (row[s->dim_v * (int64_t)type_size(t) + c] != 0x5a) return false;
    return !y->args.lse || agrees(get(y->lse + 4 * at, DTYPE_F32), x->lse[at], x->tolerance + 1e-6 * fabs(x->lse[at]));
}

static void check_kernel(problem *x, memory *y, const attn_kernel_desc *k, arena *a)
{
    work w = {.x = x, .k = k, .arena = a};
    make_work(&w);
    y->args.seqs = &y->seq;
    y->args.segments = w.segments.at;
    y->args.parts = aligned_alloc(64, ((size_t)w.slots * k->part_bytes + 64) / 64 * 64);
    memset(y->o, 0x5a, y->o_size);
    memset(y->args.parts, 0xff, (size_t)w.slots * k->part_bytes);
    run_items(&w, &y->args);
    free(y->args.parts);
    int wrong = 0;
    for (int64_t i = 0; i < x->seq.n_q; i++)
        for (int64_t h = 0; h < x->p->shape.q_heads; h++)
            if (!compare_row(&w, y, i, h) && !wrong++)
                CHECK_MSG(false, "%s: row %d head %d: o %g for %g, lse %g for %g (n_q %d, pos %d, n_keys %d, layer %d, page %d, o_f32 %d)",
                          k->name, (int)i, (int)h, get(y->o + i * y->args.o_row_stride + h * y->args.o_head_stride,
                          y->whole_o ? DTYPE_F32 : x->p->shape.type), x->o[(i * x->p->shape.q_heads + h) * x->p->shape.dim_v],
                          get(y->lse + 4 * (i * x->p->shape.q_heads + h), DTYPE_F32), x->lse[i * x->p->shape.q_heads + h],
                          (int)x->seq.n_q, (int)x->seq.pos, (int)x->seq.n_keys, (int)x->layer, (int)y->args.page_tokens, y->whole_o);
    CHECK_MSG(!wrong, "%s: %d rows are wrong", k->name, wrong);
}

/* scale: of queries and keys. tolerance: a factor, for logits whose own rounding shows. */
static void check_module(const char *air, int times, double scale, double tolerance)
{
    compiled c = {0};
    if (!compile_module(&c, air)) return;
    for (int i = 0; i < times; i++)
        for (uint32_t p = 0; p < c.m->patterns.n; p++) {
            arena *a = arena_create(0, NULL, NULL);
            problem x;
            memory y;
            make_problem(&x, &c, a, p, scale);
            x.tolerance = 2e-5 * tolerance + query_rounding(&x, a);
            make_memory(&y, &x, a);
            for (uint32_t j = 0; j < c.desc->kinds[p]->n_kernels; j++)
                if (attn_isa_available(c.desc->kinds[p]->kernels[j]->isa)) check_kernel(&x, &y, c.desc->kinds[p]->kernels[j], a);
            arena_destroy(a);
        }
    drop(&c);
}

/* ---- tests ------------------------------------------------------------------------------------------------------------------------------------- */

#define SHAPE(q, kv, d, dv, t) "heads " #q " / " #kv "; dim " #d "; dim_v " #dv "; dtype " #t "; "

static void every_dim_and_type(void)
{
    static const int dims[][2] = {{16, 16}, {24, 40}, {32, 32}, {64, 64}, {80, 80}, {96, 48}, {128, 128}, {5, 3}, {34, 7}, {256, 192}};
    static const char *const types[] = {"f32", "f16", "bf16"};
    for (size_t i = 0; i < ATTNC_COUNT(dims); i++) {
        char air[2048];
        const bool grouped = dims[i][0] % 16 == 0 && dims[i][1] % 16 == 0;
        int n = snprintf(air, sizeof air, "module \"dims\" { layers 5; schedule p0, p1, p2, q0, q1; ");
        for (int t = 0; t < 3; t++)
            n += snprintf(air + n, sizeof air - (size_t)n, "pattern p%d { heads 2 / 1; dim %d; dim_v %d; dtype %s; mask %s; scale 0.25; } ",
                          t, dims[i][0], dims[i][1], types[t], (i + (size_t)t) % 3 ? "k <= q" : "true");
        for (int t = 0; t < 2; t++)
            n += snprintf(air + n, sizeof air - (size_t)n, "pattern q%d { heads 2 / 1; dim %d; dim_v %d; dtype %s; mask %s; scale 0.25; kv quant(int8%s); } ",
                          t, dims[i][0], dims[i][1], types[(i + (size_t)t) % 3], (i + (size_t)t) % 3 ? "k <= q" : "true", t && grouped ? ", 16" : "");
        snprintf(air + n, sizeof air - (size_t)n, "}");
        check_module(air, rounds / 2 + 1, 1, 1);
    }
}

static void masks(void)
{
    check_module("module \"masks\" { layers 4; schedule a, b, c, d; attr doc; input block : f32[5, 5]; table win : int[4] = [1, 4, 60, 0];"
                 "pattern a {" SHAPE(4, 2, 32, 32, f32) "mask k <= q and q - k < 21; scale 0.5; }"
                 "pattern b {" SHAPE(4, 2, 32, 32, f32) "mask k <= q and doc.q == doc.k; scale 0.5; }"
                 "pattern c {" SHAPE(4, 1, 32, 32, f32) "mask k <= q and q - k < win[h] or k < 2; scale 0.5; }"
                 "pattern d {" SHAPE(4, 4, 32, 32, f32) "mask 0.25 < block[q / 30, k / 30] or (q - k) % 7 == 0; scale 0.5; }"
                 "}",
                 2 * rounds, 1, 1);
    check_module("module \"more\" { layers 3; schedule a, b, c;"
                 "pattern a {" SHAPE(3, 1, 16, 16, f32) "mask not (q / 24 == k / 24) and k % 2 == layer % 2; scale 0.5; }"
                 "pattern b {" SHAPE(6, 2, 16, 16, f32) "mask if h % 2 == 0 then k <= q else abs(q - k) <= 9; scale 0.5; }"
                 "pattern c {" SHAPE(2, 2, 16, 16, f32) "mask k < 40 and k != q; scale 0.5; }"
                 "}",
                 2 * rounds, 1, 1);
}

static void scores(void)
{
    check_module("module \"scores\" { layers 2; schedule a, b; input slopes : f32[2, 4]; input bias : f32[4, 12]; input sinks : f32[2, 4];"
                 "pattern a {" SHAPE(4, 2, 32, 32, f32) "mask k <= q; scale 0.5; score s - slopes[layer, h] * float(q - k); sink sinks[layer, h]; }"
                 "pattern b {" SHAPE(4, 2, 32, 32, f32) "mask k <= q; scale 0.5; score 3.0 * tanh(s / 3.0); score s + bias[h, min(q - k, 11)]; }"
                 "}",
                 2 * rounds, 1, 1);
    check_module("module \"more\" { layers 3; schedule a, b, c;"
                 "pattern a {" SHAPE(2, 2, 16, 16, f32) "mask k <= q; scale 0.5; score s * (1.0 + 0.1 * ln(float(q / 8 + 1))); score min(s, 0.7); }"
                 "pattern b {" SHAPE(2, 1, 16, 16, f32) "mask true; scale 0.5; score exp(s) + sqrt(abs(s)) - log2(float(k + 1)); sink -inf; }"
                 "pattern c {" SHAPE(2, 1, 16, 16, f32) "mask k <= q; scale 0.5; score max(s, -0.3) + exp2(-float(k % 5)); "
                 "score if k % 3 == 1 and s < 0.0 then s * 0.1 else s; score s - float(floor(float(k) / 8.0 + 0.06)) * 0.1; }"
                 "}",
                 2 * rounds, 1, 1);
}

/* Logits so large that most weights are 0 in f32: NaN that is seen must still arrive, and must not spread. */
static void large_logits(void)
{
    check_module("module \"large\" { layers 2; schedule a, b;"
                 "pattern a {" SHAPE(2, 1, 32, 32, f32) "mask k <= q; scale 8.0; }"
                 "pattern b {" SHAPE(2, 1, 32, 32, bf16) "mask true; scale 8.0; }"
                 "}",
                 2 * rounds, 3, 20);
}

/* One to five new tokens and the heads of a group, by the last of a sequence's keys: rows of 1 to 40 lanes, tails of dims, masks by row,
 * head and attribute, parts. */
static void few_rows(void)
{
    static const int heads[][2] = {{2, 2}, {4, 1}, {5, 1}, {8, 1}}, dims[][2] = {{128, 128}, {20, 36}, {7, 5}, {66, 80}};
    static const char *const types[] = {"f32", "f16", "bf16"};
    few = true;
    for (size_t i = 0; i < ATTNC_COUNT(heads); i++) {
        char air[4096];
        int n = snprintf(air, sizeof air, "module \"few\" { layers 9; schedule p0, p1, p2, m0, m1, m2, q0, q1, q2; attr doc; input slopes : f32[9, 8]; "
                                          "input sinks : f32[9, 8]; table win : int[8] = [1, 4, 60, 9, 300, 2, 33, 64]; ");
        for (int t = 0; t < 3; t++) {
            n += snprintf(air + n, sizeof air - (size_t)n, "pattern p%d { heads %d / %d; dim %d; dim_v %d; dtype %s; mask %s; scale 0.25; } ", t,
                          heads[i][0], heads[i][1], dims[i][0], dims[i][1], types[t], (i + (size_t)t) % 3 ? "k <= q" : "true");
            n += snprintf(air + n, sizeof air - (size_t)n, "pattern m%d { heads %d / %d; dim %d; dim_v %d; dtype %s; mask %s; scale 0.25; %s } ", t,
                          heads[i][0], heads[i][1], dims[i][0], dims[i][1], types[(t + 1) % 3],
                          t == 0   ? "k <= q and q - k < win[h]"
                          : t == 1 ? "k <= q and (doc.q == doc.k or (q - k) % 3 == 0)"
                                   : "k <= q and (q - k < 50 or k < 3)",
                          t == 0   ? "score s - slopes[layer, h] * float(q - k);"
                          : t == 1 ? "sink sinks[layer, h];"
                                   : "score 3.0 * tanh(s / 3.0); sink sinks[layer, h];");
        }
        for (int t = 0; t < 3; t++) /* the last with groups */
            n += snprintf(air + n, sizeof air - (size_t)n, "pattern q%d { heads %d / %d; dim %d; dim_v %d; dtype %s; mask %s; scale 0.25; kv quant(int8%s); } ",
                          t, heads[i][0], heads[i][1], t < 2 ? dims[i][0] : 96, t < 2 ? dims[i][1] : 64, types[(i + (size_t)t) % 3],
                          t == 0 ? "true" : "k <= q and (q - k < win[h] or doc.q == doc.k)", t < 2 ? "" : ", 32");
        snprintf(air + n, sizeof air - (size_t)n, "}");
        check_module(air, rounds / 2 + 1, 1, 1);
    }
    few = false;
}

/* Few rows by keys and values that are multiplied as integers where machines can: tiles of 1 to 8 rows, dims that are unrolled or not, K and
 * V of other sizes, masks. */
static void few_integers(void)
{
    static const int heads[][2] = {{1, 1}, {2, 1}, {3, 1}, {4, 2}, {4, 1}, {8, 1}}, dims[][2] = {{64, 64}, {128, 128}, {64, 192}, {320, 64}, {128, 64}, {64, 40}};
    few = true;
    for (size_t i = 0; i < ATTNC_COUNT(heads); i++) {
        char air[2048];
        int n = snprintf(air, sizeof air, "module \"integers\" { layers 3; schedule a, b, c; attr doc; input slopes : f32[3, 8]; ");
        for (int t = 0; t < 3; t++) {
            const int *d = dims[(i + 2 * (size_t)t) % ATTNC_COUNT(dims)];
            n += snprintf(air + n, sizeof air - (size_t)n, "pattern %c { heads %d / %d; dim %d; dim_v %d; dtype %s; mask %s; scale 0.125; %s kv quant(int8); } ",
                          'a' + t, heads[i][0], heads[i][1], d[0], d[1], (i + (size_t)t) % 2 ? "f16" : "bf16",
                          t == 0 ? "true" : t == 1 ? "k <= q" : "k <= q and (q - k < 70 or doc.q == doc.k)",
                          t == 2 ? "score s - slopes[layer, h] * float(q - k);" : "");
        }
        snprintf(air + n, sizeof air - (size_t)n, "}");
        check_module(air, rounds, 1, 1);
    }
    few = false;
}

/* Kinds that differ from the first in one thing of their shape each, or in what lies behind it: who shares functions with whom must tell. */
static void shapes(void)
{
    const char *air = "module \"shapes\" { layers 8; schedule a, b, c, d, e, f, g, h; attr doc;"
                      "pattern a {" SHAPE(4, 1, 32, 32, bf16) "mask k <= q; scale 0.5; }"
                      "pattern b {" SHAPE(4, 1, 32, 20, bf16) "mask k <= q; scale 0.5; }"
                      "pattern c {" SHAPE(4, 1, 24, 32, bf16) "mask k <= q; scale 0.5; }"
                      "pattern d {" SHAPE(4, 2, 32, 32, bf16) "mask k <= q and (g == 0 or q - k < 30); scale 0.5; }"
                      "pattern e {" SHAPE(4, 1, 32, 32, f16) "mask k <= q; scale 0.5; }"
                      "pattern f {" SHAPE(4, 1, 32, 32, bf16) "mask k <= q and (q - k) * 1000000 < 50000000 + h; scale 0.5; }"
                      "pattern g {" SHAPE(4, 1, 32, 32, bf16) "mask k <= q; scale 0.5 + 0.25 * float(h); }"
                      "pattern h {" SHAPE(4, 1, 32, 32, bf16) "mask k <= q and doc.q == doc.k; scale 0.5; }"
                      "}";
    const char *formats = "module \"formats\" { layers 6; schedule a, b, c, d, e, f;"
                          "pattern a {" SHAPE(4, 1, 64, 64, f16) "mask k <= q; scale 0.25; }"
                          "pattern b {" SHAPE(4, 1, 64, 64, f16) "mask k <= q; scale 0.25; kv quant(int8); }"
                          "pattern c {" SHAPE(4, 1, 64, 64, f16) "mask k <= q; scale 0.25; kv quant(int8, 16); }"
                          "pattern d {" SHAPE(4, 1, 64, 64, f16) "mask k <= q; scale 0.25; kv quant(int8, 32); }"
                          "pattern e {" SHAPE(4, 1, 64, 64, f16) "mask k <= q and q - k < 40; scale 0.25; kv quant(int8); }"
                          "pattern f {" SHAPE(4, 1, 64, 64, f16) "mask k <= q; scale 0.25; kv quant(int8, 64); }"
                          "}";
    infinities = true;
    for (int i = 0; i < 2; i++) {
        few = i;
        check_module(air, rounds, 1, 1);
        check_module(formats, rounds, 1, 1);
    }
    few = infinities = false;
}

/* What the descriptor says of a module. */
static void descriptor(void)
{
    compiled c = {0};
    if (!compile_module(&c, "module \"facts\" { layers 3; schedule b, a, b; attr doc; input t : int[3, 7]; input f : f32[5];"
                            "pattern a {" SHAPE(4, 2, 24, 40, bf16) "mask k <= q and q - k < t[layer, h]; scale 1.0; }"
                            "pattern b {" SHAPE(2, 1, 16, 16, f16) "mask k <= q and doc.q == doc.k; scale 1.0; sink f[h]; } }"))
        return;
    const attn_module_desc *d = c.desc;
    CHECK(d->size == sizeof *d && d->abi == ATTN_ABI_VERSION && d->n_layers == 3 && d->n_kinds == 2 && d->n_inputs == 2 && d->n_attrs == 1);
    CHECK(d->schedule[0] == 1 && d->schedule[1] == 0 && d->schedule[2] == 1);
    CHECK_STR(d->name, "facts");
    CHECK_STR(d->attrs[0], "doc");
    CHECK(d->inputs[0]->is_int && d->inputs[0]->rank == 2 && d->inputs[0]->extent[1] == 7 && !d->inputs[1]->is_int);
    const attn_kind_desc *a = d->kinds[0], *b = d->kinds[1];
    CHECK(a->dim == 24 && a->dim_v == 40 && a->q_heads == 4 && a->kv_heads == 2 && a->dtype == ATTN_BF16 && b->dtype == ATTN_F16);
    CHECK((a->flags & ~(uint32_t)ATTN_KIND_EXACT_ROWS) == (ATTN_KIND_HEADS_DIFFER | ATTN_KIND_LAYERS_DIFFER | ATTN_KIND_MASK_INPUTS));
    CHECK(b->flags == ATTN_KIND_SINK && b->n_data == 1 && b->bounds);
    CHECK(a->n_kernels == TARGET_COUNT);
    for (uint32_t i = 0; i < a->n_kernels; i++) CHECK(a->kernels[i]->isa == i && a->kernels[i]->max_group == 2);
    drop(&c);
}

int main(int argc, char **argv)
{
    if (argc > 1) rounds = atoi(argv[1]);
    if (argc > 2) seed = strtoull(argv[2], NULL, 10);
    printf("rounds %d, seed %llu\n", rounds, seed);
    RUN(descriptor);
    RUN(every_dim_and_type);
    RUN(masks);
    RUN(scores);
    RUN(few_rows);
    RUN(few_integers);
    RUN(shapes);
    RUN(large_logits);
    return CHECK_DONE();
}
