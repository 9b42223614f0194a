/* pass_test.c - every pass keeps what a kernel computes.
 *
 * Random modules (masks, scores, sinks, heads) go through the pipeline; at each stage every kernel is interpreted with
 * random tiles and parts and compared with the definition (semantics.md 0.2), which this file evaluates by itself. Keys
 * that nobody sees hold NaN. At each stage the text must read back to the same text, and the module that was read
 * computes the same.
 *
 *   pass_test [count [seed]] */
#include "tests/unit/check.h"

#include "ir/pass/pass.h"
#include "tests/unit/random_module.h"

static unsigned long long seed = 1;
static int n_modules = 300;

/* ---- the definition -------------------------------------------------------------------------------------- */

typedef struct definition {
    const random_module *r;
    const pattern *p;
    random_input *in;
    expr_env env;
    int64_t attr[1][ATTR_SIDE_COUNT];
    double *o, *lse;
} definition;

static void set_pair(definition *d, int64_t i, int64_t h, int64_t k)
{
    const shape *s = &d->p->shape;
    d->env.var[VAR_Q] = d->in->seq.pos + i;
    d->env.var[VAR_K] = k;
    d->env.var[VAR_H] = h;
    d->env.var[VAR_G] = h * s->kv_heads / s->q_heads;
    d->attr[0][ATTR_Q] = d->in->q_attr[i];
    if (k < d->in->seq.n_keys) d->attr[0][ATTR_K] = d->in->k_attr[k];
}

static double value_of(definition *d, expr e) { return expr_eval(d->r->p, e, &d->env).f; }
static bool is_visible(definition *d) { return expr_eval(d->r->p, d->p->mask, &d->env).i != 0; }

/* Element c of a row, as the pattern's cache gives it back. */
static double stored(const definition *d, const double *row, int64_t dim, int64_t c)
{
    const shape *s = &d->p->shape;
    if (s->kv != KV_INT8) return row[c];
    const int64_t group = s->kv_group ? s->kv_group : dim, first = c / group * group;
    double largest = 0;
    for (int64_t i = first; i < first + group; i++) largest = fmax(largest, fabs((double)(float)row[i]));
    const float scale = (float)(largest / 127);
    return largest == 0 ? 0 : nearbyint((double)((float)row[c] / scale)) * (double)scale;
}

static double logit(definition *d, int64_t i, int64_t h, int64_t k)
{
    const shape *s = &d->p->shape;
    double dot = 0;
    const double *key = d->in->k + (k * s->kv_heads + d->env.var[VAR_G]) * s->dim;
    for (int64_t c = 0; c < s->dim; c++)
        dot += d->in->seq.q[(i * s->q_heads + h) * s->dim + c] * stored(d, key, s->dim, c);
    d->env.s = dot * value_of(d, d->p->scale);
    for (uint32_t j = 0; j < d->p->n_scores; j++) d->env.s = value_of(d, d->p->scores[j]);
    return d->env.s;
}

static void define_row(definition *d, int64_t i, int64_t h)
{
    const shape *s = &d->p->shape;
    const interp_sequence *seq = &d->in->seq;
    double weight[RM_MAX_TOKENS], max = -INFINITY, sink = -INFINITY, sum;
    bool seen[RM_MAX_TOKENS] = {0};
    set_pair(d, i, h, 0);
    if (d->p->sink) max = sink = value_of(d, d->p->sink);
    for (int64_t k = 0; k < seq->n_keys; k++) {
        set_pair(d, i, h, k);
        seen[k] = is_visible(d);
        weight[k] = seen[k] ? logit(d, i, h, k) : 0;
        if (seen[k] && weight[k] > max) max = weight[k];
    }
    sum = sink == -INFINITY ? 0 : exp(sink - max);
    for (int64_t k = 0; k < seq->n_keys; k++) {
        if (seen[k]) weight[k] = weight[k] == -INFINITY ? 0 : exp(weight[k] - max);
        sum += seen[k] ? weight[k] : 0;
    }
    int64_t at = i * s->q_heads + h, g = h * s->kv_heads / s->q_heads;
    const double *values = d->p->k_is_v ? d->in->k : d->in->v;
    const int64_t width = d->p->k_is_v ? s->dim : s->dim_v;
    for (int64_t c = 0; c < s->dim_v; c++) {
        double total = 0;
        for (int64_t k = 0; k < seq->n_keys; k++)
            if (seen[k]) total += weight[k] * stored(d, values + (k * s->kv_heads + g) * width, width, c);
        d->o[at * s->dim_v + c] = sum == 0 ? 0 : total / sum;
    }
    d->lse[at] = sum == 0 ? -INFINITY : max + log(sum);
}

/* Keys that no row of any head of their group sees hold NaN (rule R3). */
static void poison(definition *d)
{
    const shape *s = &d->p->shape;
    const interp_sequence *seq = &d->in->seq;
    for (int64_t k = 0; k < seq->n_keys; k++)
        for (int64_t g = 0; g < s->kv_heads; g++) {
            bool seen = false;
            for (int64_t h = 0; h < s->q_heads && !seen; h++)
                for (int64_t i = 0; i < seq->n_q && !seen && h * s->kv_heads / s->q_heads == g; i++)
                    set_pair(d, i, h, k), seen = is_visible(d);
            for (int64_t c = 0; c < s->dim && !seen; c++) d->in->k[(k * s->kv_heads + g) * s->dim + c] = NAN;
            for (int64_t c = 0; c < s->dim_v && !seen; c++) d->in->v[(k * s->kv_heads + g) * s->dim_v + c] = NAN;
        }
}

static void define(definition *d, arena *a, const random_module *r, const pattern *p, random_input *in, int64_t layer)
{
    *d = (definition){.r = r, .p = p, .in = in};
    d->env.tables = (const double *const *)r->tables;
    d->env.attr = (const int64_t(*)[ATTR_SIDE_COUNT])d->attr;
    d->env.var[VAR_LAYER] = layer;
    d->o = ARENA_ARRAY(a, double, in->n_out + 1);
    d->lse = ARENA_ARRAY(a, double, in->n_lse + 1);
    poison(d);
    for (int64_t i = 0; i < in->seq.n_q; i++)
        for (int64_t h = 0; h < r->shape.q_heads; h++) define_row(d, i, h);
}

/* ---- comparison ------------------------------------------------------------------------------------------ */

static bool near(double a, double b) { return a == b || fabs(a - b) <= 1e-9 * (1 + fabs(b)); }

static bool all_near(const double *a, const double *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!near(a[i], b[i])) return false;
    return true;
}

static void compare(random_module *r, arena *a, const kernel *k, const definition *d, const char *stage)
{
    interp_options o = {.layer = d->env.var[VAR_LAYER], .tables = (const double *const *)r->tables};
    o.row_tile = (uint32_t)rm_below(r, 6);
    o.key_tile = (uint32_t)rm_below(r, 8);
    o.parts = (uint32_t)rm_below(r, 5);
    for (size_t i = 0; i < d->in->n_out; i++) d->in->seq.o[i] = NAN;
    for (size_t i = 0; i < d->in->n_lse; i++) d->in->seq.lse[i] = NAN;
    const char *error = interp_run(k, &d->in->seq, 1, &o);
    CHECK_MSG(!error, "%s: %s", stage, error);
    bool same = !error && all_near(d->in->seq.o, d->o, d->in->n_out) && all_near(d->in->seq.lse, d->lse, d->in->n_lse);
    CHECK_MSG(same, "%s differs from the definition", stage);
    if (same || check_current > 2) return;
    text t = {.arena = a};
    ir_module_print(k->module, &t);
    printf("kernel %s, n_q %d, pos %d, n_keys %d, row_tile %u, key_tile %u, parts %u\n%s", k->name, (int)d->in->seq.n_q,
           (int)d->in->seq.pos, (int)d->in->seq.n_keys, o.row_tile, o.key_tile, o.parts, text_get(&t));
}

static ir_module *read_back(arena *a, const ir_module *m, const char *stage)
{
    diags d = {.arena = a};
    text first = {.arena = a}, second = {.arena = a};
    ir_module_print(m, &first);
    ir_module *back = ir_module_read(a, &d, diags_add_source(&d, stage, text_get(&first), first.n));
    diags_print(&d, stdout, DIAG_TEXT, false);
    CHECK_MSG(back, "after %s the text does not read", stage);
    if (!back) return NULL;
    ir_module_print(back, &second);
    CHECK_MSG(!strcmp(text_get(&first), text_get(&second)), "after %s: %s\nis not\n%s", stage, text_get(&first),
              text_get(&second));
    return back;
}

static void check_stage(random_module *r, arena *a, pass_id p, const definition *d)
{
    pass_options o = {.passes = pass_name(p), .target = (target_id)rm_below(r, TARGET_COUNT)};
    const char *error = passes_run(r->m, &o);
    CHECK_MSG(!error, "%s: %s", pass_name(p), error);
    if (error) return;
    ir_module *back = read_back(a, r->m, pass_name(p));
    for (size_t i = 0; i < r->m->patterns.n; i++) {
        compare(r, a, r->m->kernels.at[i], &d[i], pass_name(p));
        if (back) compare(r, a, back->kernels.at[i], &d[i], pass_name(p));
    }
}

static void passes_keep_the_meaning(void)
{
    for (int i = 0; i < n_modules; i++) {
        unsigned long long state = seed + (unsigned long long)i, here = state;
        int before = check_current;
        arena *a = arena_create(0, NULL, NULL);
        random_module r = random_module_create(a, &state);
        definition d[2];
        for (size_t j = 0; j < 2; j++)
            define(&d[j], a, &r, r.m->patterns.at[j], random_input_create(&r, a), rm_below(&r, RM_LAYERS));
        for (int p = 0; p < PASS_COUNT && check_current == before; p++) check_stage(&r, a, (pass_id)p, d);
        if (check_current != before) printf("repeat with: pass_test 1 %llu\n", here);
        arena_destroy(a);
    }
}

/* The same chain in another legal order: passes that do not need each other may be exchanged. */
static void order_is_free_where_needs_allow(void)
{
    static const char *const orders[] = {
        "lower-pattern,fuse-online,fold-scale,group-heads,split-kv,split-ranges,schedule",
        "lower-pattern,fuse-online,split-kv,fold-scale,split-ranges,group-heads,schedule",
    };
    for (int i = 0; i < 20; i++) {
        unsigned long long state = seed + 1000000u + (unsigned long long)i;
        arena *a = arena_create(0, NULL, NULL);
        random_module r = random_module_create(a, &state);
        definition d;
        define(&d, a, &r, r.m->patterns.at[0], random_input_create(&r, a), 0);
        pass_options o = {.passes = orders[i % 2], .target = TARGET_CPU_AVX512, .verify_each = true};
        const char *error = passes_run(r.m, &o);
        CHECK_MSG(!error, "%s", error);
        if (!error) compare(&r, a, r.m->kernels.at[0], &d, orders[i % 2]);
        arena_destroy(a);
    }
}

/* ---- the driver ------------------------------------------------------------------------------------------ */

static const char *run_text(arena *a, const char *kernel_text, const pass_options *o)
{
    diags d = {.arena = a};
    const char *t =
        arena_printf(a,
                     "module \"m\" { layers 1; schedule p; pattern p { heads 2 / 1; dim 4; dim_v 4; dtype f32; "
                     "mask k <= q; scale 0.5; } %s }",
                     kernel_text);
    ir_module *m = ir_module_read(a, &d, diags_add_source(&d, "text", t, strlen(t)));
    diags_print(&d, stdout, DIAG_TEXT, false);
    return m ? passes_run(m, o) : "does not read";
}

static void driver_refuses(void)
{
    static const struct {
        const char *passes, *stop, *print, *says;
    } cases[] = {
        {"fuse", NULL, NULL, "--passes: there is no pass \"fuse\"; the passes are lower-pattern, fuse-online"},
        {NULL, "here", NULL, "--stop-after: there is no pass \"here\""},
        {NULL, "all", NULL, "--stop-after: there is no pass \"all\""},
        {NULL, NULL, "x", "--print-after: there is no pass \"x\""},
        {"fuse-online", NULL, NULL, "fuse-online: there is no kernel; lower-pattern makes them"},
        {"lower-pattern,schedule", NULL, NULL, "schedule needs split-ranges first (kernel p)"},
        {"lower-pattern,fold-scale", NULL, NULL, "fold-scale needs fuse-online first (kernel p)"},
        {"lower-pattern,fuse-online,fuse-online", NULL, NULL, "kernel p is behind fuse-online already"},
        {"lower-pattern,lower-pattern", NULL, NULL, "lower-pattern has nothing to do"},
    };
    for (size_t i = 0; i < ATTNC_COUNT(cases); i++) {
        arena *a = arena_create(0, NULL, NULL);
        pass_options o = {.passes = cases[i].passes, .stop_after = cases[i].stop, .print_after = cases[i].print};
        const char *error = run_text(a, "", &o);
        CHECK_MSG(error && !strncmp(error, cases[i].says, strlen(cases[i].says)), "case %zu says: %s", i,
                  error ? error : "nothing");
        arena_destroy(a);
    }
}

/* Kernels that are right but of another shape than the passes give: refused with a sentence, left as they were. */
static void passes_refuse_other_shapes(void)
{
    static const char *const two_chains =
        "kernel k : p { rows { %1 = load.q %2, %3, %4 = init %5, %6, %7 = keys all (%2, %3, %4) { (%8, %9, %10): %11 = "
        "load.k "
        "%12 = dot.qk %1, %11 %13 = map %12 { s * 0.5 } %14 = rowmax %12, %8 %15 = decay %8, %14 %16 = exp %13, %14 "
        "%17 = rowsum %16, %9, %15 %18 = load.v %19 = rescale %10, %15 %20 = accum.pv %16, %18, %19 yield %14, %17, "
        "%20 } "
        "%21, %22 = finish %5, %6, %7 store %21, %22 } }";
    static const char *const no_softmax = "kernel k : p { rows { %1 = load.q %2 = load.k %3 = dot.qk %1, %2 %4 = "
                                          "load.v %5 = dot.pv %3, %4 %6, %7 = softmax %3 "
                                          "store %5, %7 } }";
    const struct {
        const char *kernel, *pass, *says;
    } cases[] = {
        {two_chains, "fold-scale", "fold-scale cannot change kernel k: its loops must have one chain of maps"},
        {no_softmax, "fuse-online",
         "fuse-online cannot change kernel k: it needs one softmax whose weights go to one dot.pv"},
    };
    for (size_t i = 0; i < ATTNC_COUNT(cases); i++) {
        arena *a = arena_create(0, NULL, NULL);
        pass_options o = {.passes = cases[i].pass};
        const char *error = run_text(a, cases[i].kernel, &o);
        CHECK_MSG(error && !strncmp(error, cases[i].says, strlen(cases[i].says)), "%s", error ? error : "nothing");
        arena_destroy(a);
    }
}

/* A kernel is cloned and scheduled for each target; the original stays. */
static void clones_are_scheduled_apart(void)
{
    arena *a = arena_create(0, NULL, NULL);
    unsigned long long state = seed;
    random_module r = random_module_create(a, &state);
    pass_options o = {.stop_after = "split-kv"};
    const char *error = passes_run(r.m, &o);
    CHECK_MSG(!error, "%s", error);
    for (int t = 0; t < TARGET_COUNT && !error; t++) {
        kernel *k = kernel_clone(r.m, r.m->kernels.at[0], "copy");
        error = pass_run(PASS_schedule, k, &(pass_options){.target = (target_id)t});
        CHECK_MSG(!error, "%s", error);
        CHECK(k->schedule.target == (target_id)t && k->schedule.vector == target_get((target_id)t)->vector);
        CHECK(k->schedule.dot_bf16 == (t == TARGET_CPU_AVX512BF16 && k->shape.kv == KV_AS_GIVEN));
    }
    CHECK(r.m->kernels.n == 2 && !r.m->kernels.at[0]->schedule.lanes);
    arena_destroy(a);
}

/* Whatever the shape, there is a row, it passes the verifier, and says what measured it. */
static void every_shape_has_a_row(void)
{
    static const int64_t dims[] = {1, 16, 63, 64, 65, 80, 128, 256, MODULE_MAX_DIM};
    for (int t = 0; t < TARGET_COUNT; t++)
        for (int type = 0; type <= DTYPE_BF16; type++)
            for (size_t i = 0; i < ATTNC_COUNT(dims) * ATTNC_COUNT(dims); i++) {
                const shape s = {4, 2, dims[i % ATTNC_COUNT(dims)], dims[i / ATTNC_COUNT(dims)], (dtype)type, KV_AS_GIVEN, 0};
                const schedule_row row = schedule_row_find((target_id)t, &s);
                const char *wrong = schedule_verify(&row.sizes, &s);
                CHECK_MSG(!wrong, "%s", wrong);
                CHECK(row.sizes.target == (target_id)t && row.measured[0] && row.shapes[0]);
            }
}

/* Sizes that the caller gives go before the table's; what the verifier refuses is refused with its words, not called a bug. */
static void given_sizes_are_taken(void)
{
    arena *a = arena_create(0, NULL, NULL);
    unsigned long long state = seed;
    random_module r = random_module_create(a, &state);
    const char *error = passes_run(r.m, &(pass_options){.stop_after = "split-kv"});
    CHECK_MSG(!error, "%s", error);
    const kernel *from = r.m->kernels.at[0];
    schedule *given = ARENA_ARRAY(a, schedule, r.m->patterns.n);
    const pass_options o = {.target = TARGET_CPU_AVX512, .given = given};
    kernel *k = kernel_clone(r.m, from, "table");
    CHECK(!pass_run(PASS_schedule, k, &o));
    const schedule usual = schedule_row_find(TARGET_CPU_AVX512, &from->shape).sizes;
    CHECK(k->schedule.key_block == usual.key_block && k->schedule.fetch == usual.fetch);
    given[from->pattern] = usual;
    given[from->pattern].target = TARGET_CPU_BASELINE; /* what follows from the target is not taken from the caller */
    given[from->pattern].vector = 4;
    given[from->pattern].key_block = usual.key_block * 2;
    k = kernel_clone(r.m, from, "given");
    CHECK(!pass_run(PASS_schedule, k, &o));
    CHECK(k->schedule.key_block == usual.key_block * 2 && k->schedule.target == TARGET_CPU_AVX512 && k->schedule.vector == 16);
    given[from->pattern].qk_keys = 31;
    k = kernel_clone(r.m, from, "wrong");
    error = pass_run(PASS_schedule, k, &o);
    CHECK_MSG(error && strstr(error, "key_block must be a multiple"), "%s", error ? error : "nothing");
    arena_destroy(a);
}

int main(int argc, char **argv)
{
    if (argc > 1) n_modules = atoi(argv[1]);
    if (argc > 2) seed = strtoull(argv[2], NULL, 10);
    printf("seed %llu, %d modules\n", seed, n_modules);
    RUN(passes_keep_the_meaning);
    RUN(order_is_free_where_needs_allow);
    RUN(driver_refuses);
    RUN(passes_refuse_other_shapes);
    RUN(clones_are_scheduled_apart);
    RUN(every_shape_has_a_row);
    RUN(given_sizes_are_taken);
    return CHECK_DONE();
}
