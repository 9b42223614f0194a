/* frontend_test.c - what .attn text means: masks and scores by value, schedules, params, and one test per kind of
 * mistake.
 *
 * Expectations come from plain C formulas and from published numbers (ALiBi slopes of MPT and BLOOM, T5 buckets, Llama
 * 4's temperature), never from the compiler. Argument: the prelude's folder (default: beside the sources). */
#include "frontend/frontend.h"
#include "tests/unit/check.h"

#include <math.h>

static const char *prelude_dir;

typedef struct compiled {
    arena *arena;
    diags diags;
    ir_module *module;
} compiled;

static void compile_into(compiled *c, const char *source, const frontend_define *defines, size_t n)
{
    *c = (compiled){.arena = arena_create((size_t)512 << 20, NULL, NULL)};
    c->diags.arena = c->arena;
    frontend_options o = {.prelude_dir = prelude_dir, .defines = defines, .n_defines = n};
    c->module = frontend_compile_text(c->arena, &c->diags, "test.attn", source, strlen(source), &o);
}

static void compile(compiled *c, const char *source) { compile_into(c, source, NULL, 0); }
static void drop(compiled *c) { arena_destroy(c->arena); }

static const char *first_error(const compiled *c)
{
    for (size_t i = 0; i < c->diags.list.n; i++)
        if (c->diags.list.at[i].severity == DIAG_ERROR) return c->diags.list.at[i].text;
    return "";
}

static bool mentions(const compiled *c, diag_id id, const char *part)
{
    for (size_t i = 0; i < c->diags.list.n; i++) {
        const diagnostic *d = &c->diags.list.at[i];
        if (d->id == id && strstr(d->text, part)) return true;
        for (const diag_note *n = d->notes; n && d->id == id; n = n->next)
            if (strstr(n->text, part)) return true;
    }
    return false;
}

static void print_errors(const compiled *c) { diags_print(&c->diags, stdout, DIAG_TEXT, false); }

/* ---- values ----------------------------------------------------------------------------------------------------- */
typedef struct point {
    int64_t q, k, h, layer;
    double s;
    int64_t attr_q, attr_k; /* the same for all attributes */
} point;

static expr_value eval_at(const compiled *c, const pattern *p, expr e, const point *x, const double *const *tables)
{
    int64_t attr[4][ATTR_SIDE_COUNT] = {{0}};
    for (int i = 0; i < 4; i++) attr[i][ATTR_Q] = x->attr_q, attr[i][ATTR_K] = x->attr_k;
    const double *none[64] = {0};
    expr_env env = {.s = x->s, .attr = (const int64_t(*)[ATTR_SIDE_COUNT])attr, .tables = tables ? tables : none};
    env.var[VAR_Q] = x->q, env.var[VAR_K] = x->k, env.var[VAR_H] = x->h, env.var[VAR_LAYER] = x->layer;
    env.var[VAR_G] = x->h * p->shape.kv_heads / p->shape.q_heads;
    return expr_eval(c->module->pool, e, &env);
}

static bool sees(const compiled *c, const pattern *p, const point *x) { return eval_at(c, p, p->mask, x, NULL).i != 0; }

static double score_at(const compiled *c, const pattern *p, point x, const double *const *tables)
{
    for (uint32_t i = 0; i < p->n_scores; i++) x.s = eval_at(c, p, p->scores[i], &x, tables).f;
    return x.s;
}

static int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a % b < 0) != (b < 0)); }

/* ---- masks against plain C -------------------------------------------------------------------------------------- */
typedef bool rule(int64_t q, int64_t k, int64_t n);
static bool is_all(int64_t q, int64_t k, int64_t n) { return (void)q, (void)k, (void)n, true; }
static bool is_causal(int64_t q, int64_t k, int64_t n) { return (void)n, k <= q; }
static bool is_window(int64_t q, int64_t k, int64_t n) { return k <= q && q - k < n; }
static bool is_chunk(int64_t q, int64_t k, int64_t n) { return q / n == k / n; }
static bool is_shifted(int64_t q, int64_t k, int64_t n) { return floor_div(q - 3, n) == floor_div(k - 3, n); }
static bool is_band(int64_t q, int64_t k, int64_t n) { return llabs(q - k) <= n; }
static bool is_ahead(int64_t q, int64_t k, int64_t n) { return k <= q + n; }
static bool is_sink(int64_t q, int64_t k, int64_t n) { return (void)q, k < n; }
static bool is_every(int64_t q, int64_t k, int64_t n) { return (void)q, k % n == 0; }
static bool is_phase(int64_t q, int64_t k, int64_t n) { return (void)q, (k + 1) % n == 0; }
static bool is_stride(int64_t q, int64_t k, int64_t n) { return llabs(q - k) % n == 0; }
static bool is_last(int64_t q, int64_t k, int64_t n) { return k / n <= q / n && q / n - k / n < 2; }
static bool is_streaming(int64_t q, int64_t k, int64_t n) { return k <= q && (k < 2 || q - k < n); }
static bool is_dilated(int64_t q, int64_t k, int64_t n) { return k <= q && q - k <= (n - 1) * 3 && (q - k) % 3 == 0; }
static bool is_far(int64_t q, int64_t k, int64_t n) { return k <= q && q - k >= n; }
static bool is_sink_chunk(int64_t q, int64_t k, int64_t n) { return k <= q && (k < 2 || q / n == k / n); }

static const struct {
    const char *mask;
    rule *rule;
} mask_table[] = {
    {"all", is_all},
    {"causal", is_causal},
    {"causal and window(N)", is_window},
    {"0 <= q - k < N", is_window},
    {"chunk(N)", is_chunk},
    {"chunk(N, 3)", is_shifted},
    {"(q - 3) / N == (k - 3) / N", is_shifted},
    {"band(-N, N)", is_band},
    {"abs(q - k) <= N", is_band},
    {"ahead(N)", is_ahead},
    {"sink(N)", is_sink},
    {"prefix(N)", is_sink},
    {"every(N)", is_every},
    {"every(N, 1)", is_phase},
    {"stride(N)", is_stride},
    {"lastblock(N, 2)", is_last},
    {"streaming(2, N)", is_streaming},
    {"(sink(2) or window(N)) and causal", is_streaming},
    {"dilated(N, 3)", is_dilated},
    {"causal and not window(N)", is_far},
    {"(sink(2) or chunk(N)) and causal", is_sink_chunk},
    {"if true then causal and window(N) else all", is_window},
};

static void masks_mean_what_they_say(void)
{
    static const int sizes[] = {1, 2, 3, 4, 5, 7, 8, 16, 64};
    for (size_t i = 0; i < ATTNC_COUNT(mask_table); i++)
        for (size_t j = 0; j < ATTNC_COUNT(sizes); j++) {
            char source[256], number[16];
            snprintf(source, sizeof source, "param N : int = 0; pattern main { heads 2 / 1; dim 16; mask %s; }",
                     mask_table[i].mask);
            snprintf(number, sizeof number, "%d", sizes[j]);
            compiled c;
            compile_into(&c, source, &(frontend_define){"N", number}, 1);
            CHECK_MSG(c.module, "%s, N = %d: %s", mask_table[i].mask, sizes[j], first_error(&c));
            for (point x = {0}; c.module && x.q < 80; x.q++)
                for (x.k = 0; x.k < 80; x.k++)
                    CHECK_MSG(sees(&c, c.module->patterns.at[0], &x) == mask_table[i].rule(x.q, x.k, sizes[j]),
                              "%s, N = %d at %d, %d", mask_table[i].mask, sizes[j], (int)x.q, (int)x.k);
            drop(&c);
        }
}

static void attributes_and_tables(void)
{
    compiled c;
    compile(&c, "attr doc : int; pattern main { heads 2; dim 16; mask causal and same(doc); }");
    CHECK(c.module && c.module->symbols.attrs.n == 1);
    const pattern *p = c.module->patterns.at[0];
    CHECK(sees(&c, p, &(point){.q = 5, .k = 3, .attr_q = 2, .attr_k = 2}));
    CHECK(!sees(&c, p, &(point){.q = 5, .k = 3, .attr_q = 2, .attr_k = 1}));
    CHECK(!sees(&c, p, &(point){.q = 5, .k = 3, .attr_q = -1, .attr_k = -1}));
    drop(&c);
    compile(&c, "attr flag : bool; pattern main { heads 2; dim 16; mask longformer(2, flag) or prefixlm(flag); }");
    CHECK_MSG(c.module, "%s", first_error(&c));
    drop(&c);
    compile(&c, "pattern main { heads 4; dim 16; input t : f32[heads, 3, 3]; mask block(16, t); }");
    CHECK_MSG(c.module && c.module->symbols.tables.n == 1, "%s", first_error(&c));
    double marks[36] = {0};
    marks[2 * 9 + 1 * 3 + 2] = 1;
    const double *tables[] = {marks};
    p = c.module->patterns.at[0];
    CHECK(eval_at(&c, p, p->mask, &(point){.q = 31, .k = 32, .h = 2}, tables).i);
    CHECK(!eval_at(&c, p, p->mask, &(point){.q = 31, .k = 31, .h = 2}, tables).i);
    CHECK(!eval_at(&c, p, p->mask, &(point){.q = 31, .k = 48, .h = 2}, tables).i); /* outside */
    drop(&c);
}

static void tables_of_constants(void)
{
    static const int64_t window[] = {1, 4, 16, 1000000};
    compiled c;
    compile(
        &c,
        "param win : int[4] = [1, 4, 16, none]; pattern main { heads 4 / 2; dim 16; mask causal and window(win[h]); }");
    CHECK_MSG(c.module, "%s", first_error(&c));
    for (point x = {.q = 50}; c.module && x.h < 4; x.h++)
        for (x.k = 0; x.k < 60; x.k++)
            CHECK(sees(&c, c.module->patterns.at[0], &x) == is_window(x.q, x.k, window[x.h]));
    drop(&c);
    compile(&c,
            "model duo { layers 2; heads 2; dim 16; param full : bool[layers, heads] = [[true, false], [false, true]];"
            " pattern p { mask causal and (full[layer, h] or k < 1 or q - k < 2); } schedule p * 2; }");
    CHECK_MSG(c.module, "%s", first_error(&c));
    const point far = {.q = 9, .k = 4}, other = {.q = 9, .k = 4, .layer = 1};
    CHECK(c.module && sees(&c, c.module->patterns.at[0], &far) && !sees(&c, c.module->patterns.at[0], &other));
    drop(&c);
    compile(&c, "pattern p { heads 8; dim 16; mask causal and (h in [0, 3, 5..7] or window(2)); }");
    CHECK_MSG(c.module, "%s", first_error(&c));
    for (point x = {.q = 9, .k = 1}; x.h < 8; x.h++)
        CHECK(sees(&c, c.module->patterns.at[0], &x) == (x.h == 0 || x.h == 3 || x.h >= 5));
    drop(&c);
}

/* ---- scores ----------------------------------------------------------------------------------------------------- */
static bool has_costly_function(const compiled *c, expr e)
{
    const expr_node n = *expr_get(c->module->pool, e);
    if (n.op == EXPR_EXP || n.op == EXPR_EXP2 || n.op == EXPR_LN || n.op == EXPR_LOG2 || n.op == EXPR_SQRT) return true;
    for (unsigned i = 0; i < n.nargs; i++)
        if (has_costly_function(c, n.arg[i])) return true;
    return false;
}

static void check_alibi(int heads, const double *exponents)
{
    char source[128];
    snprintf(source, sizeof source, "pattern main { heads %d; dim 16; mask all; score alibi; }", heads);
    compiled c;
    compile(&c, source);
    CHECK_MSG(c.module, "%s", first_error(&c));
    const pattern *p = c.module->patterns.at[0];
    for (point x = {.q = 3, .k = 10, .s = 0.5}; x.h < heads; x.h++) {
        double want = 0.5 - 7 * pow(2, exponents[x.h]), got = score_at(&c, p, x, NULL);
        CHECK_MSG(fabs(got - want) < 1e-12, "head %d of %d: %g, not %g", (int)x.h, heads, got, want);
    }
    CHECK(!has_costly_function(&c, p->scores[0]));
    drop(&c);
}

static void alibi_slopes_are_the_published_ones(void)
{
    check_alibi(1, (double[]){-8});
    check_alibi(2, (double[]){-4, -8});
    check_alibi(3, (double[]){-4, -8, -2});
    check_alibi(5, (double[]){-2, -4, -6, -8, -1});
    check_alibi(6, (double[]){-2, -4, -6, -8, -1, -3});
    check_alibi(8, (double[]){-1, -2, -3, -4, -5, -6, -7, -8});
    check_alibi(12, (double[]){-1, -2, -3, -4, -5, -6, -7, -8, -0.5, -1.5, -2.5, -3.5});
}

static void check_t5(const char *bidirectional, const int (*golden)[2], size_t n)
{
    char source[256];
    snprintf(source, sizeof source,
             "pattern main { heads 2; dim 16; input rel : f32[heads, 32]; mask all; score t5(rel, 32, 128, %s); }",
             bidirectional);
    compiled c;
    compile(&c, source);
    CHECK_MSG(c.module, "%s", first_error(&c));
    double number[64];
    for (int i = 0; i < 64; i++) number[i] = i % 32 + 100 * (i / 32);
    const double *tables[8] = {number};
    for (size_t i = 0; i < n; i++) {
        point x = {.q = 5000, .k = 5000 + golden[i][0], .h = 1, .s = 0.25};
        double got = score_at(&c, c.module->patterns.at[0], x, tables);
        CHECK_MSG(got == 100.25 + golden[i][1], "distance %d: bucket %g, not %d", golden[i][0], got - 100.25,
                  golden[i][1]);
    }
    CHECK(!has_costly_function(&c, c.module->patterns.at[0]->scores[0]));
    drop(&c);
}

static void t5_buckets_are_the_published_ones(void)
{
    static const int both[][2] = {{-8, 8},   {-12, 9}, {-16, 10}, {-64, 14}, {-127, 15},  {7, 23},   {16, 26},
                                  {127, 31}, {0, 0},   {-1, 1},   {1, 17},   {-4000, 15}, {4000, 31}};
    static const int back[][2] = {{-15, 15},  {-17, 16}, {-20, 17}, {-64, 26}, {-112, 30},
                                  {-113, 31}, {1, 0},    {500, 0},  {0, 0},    {-4000, 31}};
    check_t5("true", both, ATTNC_COUNT(both));
    check_t5("false", back, ATTNC_COUNT(back));
}

static void query_temperature(void)
{
    static const struct {
        int64_t q;
        double factor;
    } golden[] = {{0, 1}, {8190, 1}, {8191, 1.0693147}, {16382, 1.0693147}, {16383, 1.1098612}, {40959, 1.1791759}};
    compiled c;
    compile(&c, "pattern main { heads 2; dim 16; mask causal; score qtemp(0.1, 8192, 1); }");
    CHECK_MSG(c.module, "%s", first_error(&c));
    for (size_t i = 0; i < ATTNC_COUNT(golden); i++) {
        double got = score_at(&c, c.module->patterns.at[0], (point){.q = golden[i].q, .s = 1}, NULL);
        CHECK_MSG(fabs(got - golden[i].factor) < 1e-7, "%d: %.9g", (int)golden[i].q, got);
    }
    drop(&c);
}

static void scores_in_order(void)
{
    compiled a, b;
    compile(&a, "pattern main { heads 4; dim 16; mask causal; score alibi, softcap(3.0); }");
    compile(&b, "pattern main { heads 4; dim 16; mask causal; score softcap(3.0), alibi; }");
    CHECK(a.module && b.module);
    const point x = {.q = 20, .k = 3, .h = 1, .s = 2};
    const double slope = pow(2, -4), bias = slope * 17;
    CHECK(fabs(score_at(&a, a.module->patterns.at[0], x, NULL) - 3 * tanh((2 - bias) / 3)) < 1e-12);
    CHECK(fabs(score_at(&b, b.module->patterns.at[0], x, NULL) - (3 * tanh(2.0 / 3) - bias)) < 1e-12);
    drop(&a), drop(&b);
    compile(&a, "score far = if q - k < 4 then s else 0.25 * s - 1.0; pattern main { heads 4; dim 64; scale 1 / dim; "
                "mask causal; score far, if h < 2 then s * 0.5 else s; }");
    CHECK_MSG(a.module, "%s", first_error(&a));
    CHECK(score_at(&a, a.module->patterns.at[0], (point){.q = 9, .k = 1, .h = 3, .s = 8}, NULL) == 1);
    CHECK(score_at(&a, a.module->patterns.at[0], (point){.q = 9, .k = 8, .h = 1, .s = 8}, NULL) == 4);
    drop(&a);
}

static void scale_and_sink(void)
{
    compiled c;
    compile(&c, "model m { layers 2; heads 4 / 2; dim 64; input sinks : f32[layers, heads]; scale 0.5;"
                " pattern a { mask causal; row softmax(sink: sinks[layer, h]); } pattern b { mask all; scale 1.0; } "
                "schedule a, b; }");
    CHECK_MSG(c.module, "%s", first_error(&c));
    const pattern *a = c.module->patterns.at[0], *b = c.module->patterns.at[1];
    const double value[] = {0, 1, 2, 3, 4, 5, 6, 7}, *tables[] = {value};
    CHECK(eval_at(&c, a, a->scale, &(point){0}, NULL).f == 0.5 && eval_at(&c, b, b->scale, &(point){0}, NULL).f == 1);
    CHECK(a->sink && !b->sink && eval_at(&c, a, a->sink, &(point){.h = 2, .layer = 1}, tables).f == 6);
    drop(&c);
    compile(&c, "pattern main { heads 4; dim 64; mask all; }");
    CHECK(c.module &&
          eval_at(&c, c.module->patterns.at[0], c.module->patterns.at[0]->scale, &(point){0}, NULL).f == 0.125);
    drop(&c);
}

/* ---- schedules, shapes, params ---------------------------------------------------------------------------------- */
static void check_schedule(const char *layers, const char *schedule, const char *want)
{
    char source[512];
    snprintf(source, sizeof source,
             "param N : int = 2; model m { %s heads 4; dim 16; pattern a { mask all; } pattern b { mask causal; }"
             " pattern c { mask causal and window(N); } schedule %s; }",
             layers, schedule);
    compiled c;
    compile(&c, source);
    CHECK_MSG(c.module, "%s: %s", schedule, first_error(&c));
    char got[128] = "";
    for (uint32_t i = 0; c.module && i < c.module->layers && i < 100; i++)
        got[i] = *c.module->patterns.at[c.module->schedule[i]]->name;
    CHECK_STR(got, want);
    drop(&c);
}

static void schedules(void)
{
    check_schedule("layers 8;", "(a * 3, b) * 2", "aaabaaab");
    check_schedule("layers 6;", "a * 5, b", "aaaaab");
    check_schedule("", "(a, b * 2) * N, c", "abbabbc");
    check_schedule("", "2 * a, c", "aac");
    check_schedule("layers 8;", "if layer % 4 == 3 then b else a", "aaabaaab");
    check_schedule("layers 6;", "if layer < 2 then a else if layer % 2 == 0 then b else c", "aabcbc");
    check_schedule("layers 5;", "a, (if layer % 2 == 0 then b else c) * 3, a", "acbca");
    check_schedule("layers N + 1;", "c * (N + 1)", "ccc");
}

static void shapes_and_defaults(void)
{
    compiled c;
    compile(
        &c,
        "model m { heads 8 / 2; dim 64; dtype bf16; pattern a { heads 16 / 4; dim 32; dim_v 48; dtype f16; mask all; }"
        " pattern b { mask if heads == 8 and kv_heads == 2 and dim == 64 and dim_v == 64 and layers == 3 then causal "
        "else all; }"
        " schedule a, b * 2; }");
    CHECK_MSG(c.module, "%s", first_error(&c));
    shape a = c.module->patterns.at[0]->shape, b = c.module->patterns.at[1]->shape;
    CHECK(a.q_heads == 16 && a.kv_heads == 4 && a.dim == 32 && a.dim_v == 48 && a.type == DTYPE_F16);
    CHECK(b.q_heads == 8 && b.kv_heads == 2 && b.dim == 64 && b.dim_v == 64 && b.type == DTYPE_BF16);
    CHECK(!sees(&c, c.module->patterns.at[1], &(point){.q = 1, .k = 2}));
    drop(&c);
    compile(&c, "model m { layers 3; heads 4; dim 16; mask causal; pattern only { } }");
    CHECK_MSG(c.module && c.module->layers == 3 && c.module->patterns.n == 1, "%s", first_error(&c));
    CHECK_STR(c.module->name, "m");
    drop(&c);
}

static void names_are_contextual(void)
{
    compiled c;
    compile(&c,
            "attr row : int; param scale : int = 3; mask pos(phase, s) = (k + phase) % s == 0; mask g(h) = h < scale;"
            "pattern select { heads 4; dim 16; mask pos(1, 2) and row.q == row.k and g(q - k); }");
    CHECK_MSG(c.module, "%s", first_error(&c));
    drop(&c);
    compile(
        &c,
        "mask window(w) = q - k <= w; pattern main { heads 4; dim 16; mask causal and window(2); }"); /* hides the
                                                                                                         prelude's */
    CHECK(c.module && sees(&c, c.module->patterns.at[0], &(point){.q = 4, .k = 2}));
    drop(&c);
}

static void defines_override_params(void)
{
    static const char source[] =
        "param W : int = 8; param F : float = 0.5; param B : bool = false; param A : int[2] = [1, 1];"
        "pattern main { heads 2; dim 16; scale F; mask causal and window(if B then W else A[h]); }";
    static const frontend_define good[] = {{"W", "none"}, {"F", "2"}, {"B", "true"}, {"A", "[3, 4]"}};
    compiled c;
    compile_into(&c, source, good, 4);
    CHECK_MSG(c.module, "%s", first_error(&c));
    CHECK(sees(&c, c.module->patterns.at[0], &(point){.q = 1000, .k = 0}));
    CHECK(eval_at(&c, c.module->patterns.at[0], c.module->patterns.at[0]->scale, &(point){0}, NULL).f == 2);
    drop(&c);
    static const frontend_define bad[] = {{"W", "1.5"},       {"V", "3"}, {"W", "*"},
                                          {"A", "[1, 2, 3]"}, {"W", "0"}, {"W", "99999999999999999999"}};
    static const diag_id want[] = {DIAG_ID_TYPE,  DIAG_ID_PARAM,    DIAG_ID_SYNTAX,
                                   DIAG_ID_PARAM, DIAG_ID_OVERFLOW, DIAG_ID_LEX};
    for (size_t i = 0; i < ATTNC_COUNT(bad); i++) {
        compile_into(&c, source, &bad[i], 1);
        if (i == 4)
            CHECK(c.module); /* B is false: W is not a window */
        else
            CHECK_MSG(!c.module && mentions(&c, want[i], ""), "-D %s=%s: %s", bad[i].name, bad[i].value,
                      first_error(&c));
        drop(&c);
    }
}

static void golden_forms(void)
{
    static const char *const source[] = {
        "param B : int = 8;\nparam NB : int = 6;\nmask near = abs(q / B - k / B) <= 1;\n"
        "mask edge = q / B == 0 or q / B == NB - 1 or k / B == 0 or k / B == NB - 1;\nmodel bigbird { layers 1; heads "
        "4 / 2; dim 16; dtype f32;"
        " input table : f32[heads, 6, 6]; pattern main { mask near or edge or table[h, q / B, k / B] > 0.5; } schedule "
        "main; }",
        "mask nat(y, z, n, w) = z >= min(max(y - w / 2, 0), n - w) and z < min(max(y - w / 2, 0), n - w) + w;\nparam L "
        ": int = 45;\n"
        "pattern main { heads 4 / 2; dim 16; dtype f32; mask (q - k) % 2 == 0 and nat(q / 2, k / 2, (L - q % 2 + 1) / "
        "2, 7); }",
        "model gemma3_images { layers 6; heads 4 / 2; dim 16; dtype f32; attr image : int; pattern local { mask "
        "(causal or same(image)) and window(8);"
        " scale 0.125; } pattern full { mask causal or same(image); scale 0.125; } schedule local * 5, full; }",
        "model t5_tiny { layers 2; heads 2 / 2; dim 16; dtype f32; input rel : f32[heads, 255]; pattern self { mask "
        "all; scale 1.0;"
        " score s + rel[h, min(max(q - k, -127), 127) + 127]; } schedule self * 2; }",
        "model slopes_given { layers 1; heads 4 / 2; dim 16; dtype f32; input slope : f32[heads]; pattern main { mask "
        "causal and window(5);"
        " score s - slope[h] * (q - k); } schedule main; }",
        "pattern main { heads 4 / 2; dim 16; dtype f32; mask causal and (if h < 2 then chunk(8) else (q + 4) / 8 == (k "
        "+ 4) / 8); }",
        "model ort_table { layers 1; heads 4 / 2; dim 16; dtype f32; input table : f32[33, 33]; pattern main { mask "
        "table[q, k] > 0.5; } schedule main; }",
        "attr doc : int; pattern main { heads 4 / 2; dim 16; dtype f32; mask causal and doc.q != doc.k; }",
    };
    for (size_t i = 0; i < ATTNC_COUNT(source); i++) {
        compiled c;
        compile(&c, source[i]);
        CHECK_MSG(c.module, "%zu: %s", i, first_error(&c));
        drop(&c);
    }
}

/* ---- mistakes --------------------------------------------------------------------------------------------------- */
#define MAIN(clauses) "pattern main { heads 4 / 2; dim 16; " clauses " }"
#define SHARED(owner, reader)                                                                                          \
    "model m { heads 4; dim 16; pattern a { mask all; " owner " } pattern b { mask all; " reader                       \
    " } schedule a * 2, b * 2; }"
static const struct {
    const char *text;
    diag_id id;
    const char *part;
} mistake_table[] = {
    {MAIN("mask causal and window(0);"), DIAG_ID_RANGE, "at least the query itself"},
    {MAIN("mask chunk(-3);"), DIAG_ID_RANGE, "at least one token"},
    {MAIN("mask chunk(0);"), DIAG_ID_RANGE, "at least one token"},
    {"param w : int[4] = [1, 2, 0, 4]; " MAIN("mask causal and window(w[h]);"), DIAG_ID_RANGE, "(head 2)"},
    {MAIN("mask band(3, 1);"), DIAG_ID_RANGE, "lower end first"},
    {"pattern main { heads 7 / 2; dim 16; mask all; }", DIAG_ID_RANGE, "evenly"},
    {"pattern main { heads 0; dim 16; mask all; }", DIAG_ID_RANGE, "must be 1 to 4096"},
    {"pattern main { heads 4; dim 0; mask all; }", DIAG_ID_RANGE, "must be 1 to 1024"},
    {"pattern main { heads 4; dim 1025; mask all; }", DIAG_ID_RANGE, "must be 1 to 1024"},
    {"pattern main { heads 4; dim 16; dim_v 0; mask all; }", DIAG_ID_RANGE, "dim_v is 0"},
    {"pattern main { heads 4; dim 16; dtype f8; mask all; }", DIAG_ID_TYPE, "no dtype"},
    {"pattern main { heads 4; dim 16; }", DIAG_ID_MISSING, "mask all"},
    {"pattern main { dim 16; mask all; }", DIAG_ID_MISSING, "no heads"},
    {"pattern main { heads 4; mask all; }", DIAG_ID_MISSING, "no dim"},
    {"", DIAG_ID_MISSING, "neither a model nor a pattern"},
    {"pattern a { heads 4; dim 16; mask all; } pattern b { heads 4; dim 16; mask all; }", DIAG_ID_MISSING,
     "need a model"},
    {"model m { layers 4; heads 4; dim 16; pattern a { mask all; } schedule a * 3; }", DIAG_ID_SCHEDULE,
     "3 layers, the model has 4"},
    {"model m { heads 4; dim 16; pattern a { mask all; } schedule aa * 3; }", DIAG_ID_SCHEDULE, "no pattern 'aa'"},
    {"model m { heads 4; dim 16; pattern a { mask all; } schedule a * 1000000000; }", DIAG_ID_SCHEDULE,
     "more than 65536"},
    {"model m { heads 4; dim 16; pattern a { mask all; } schedule (a * 60000) * 60000; }", DIAG_ID_SCHEDULE,
     "more than 65536"},
    {"model m { heads 4; dim 16; pattern a { mask all; } schedule a * 0; }", DIAG_ID_RANGE, "repetition is 0"},
    {"model m { heads 4; dim 16; pattern a { mask all; } schedule if layer == 1 then a else a; }", DIAG_ID_MISSING,
     "number of layers"},
    {"model m { layers 2; heads 4; dim 16; pattern a { mask all; } pattern b { mask all; } }", DIAG_ID_MISSING,
     "no schedule"},
    {"model m { layers 70000; heads 4; dim 16; pattern a { mask all; } schedule a; }", DIAG_ID_RANGE,
     "must be 1 to 65536"},
    {"attr img : int; " MAIN("mask causal and window(8) or same(img);"), DIAG_ID_AMBIGUOUS,
     "(causal and window(8)) or same(img)"},
    {"attr img : int; " MAIN("mask causal and window(8) or same(img);"), DIAG_ID_AMBIGUOUS,
     "causal and (window(8) or same(img))"},
    {"attr img : int; " MAIN("mask same(img) or causal and window(8);"), DIAG_ID_AMBIGUOUS,
     "(same(img) or causal) and window(8)"},
    {MAIN("mask causl;"), DIAG_ID_UNKNOWN, "did you mean 'causal'"},
    {MAIN("mask causal and windwo(3);"), DIAG_ID_UNKNOWN, "did you mean 'window'"},
    {MAIN("mask window;"), DIAG_ID_ARGUMENTS, "takes 1 argument, not 0"},
    {MAIN("mask window(1, 2);"), DIAG_ID_ARGUMENTS, "not 2"},
    {MAIN("mask all; score min(1);"), DIAG_ID_ARGUMENTS, "2 to 16"},
    {MAIN("mask q;"), DIAG_ID_TYPE, "must be a bool"},
    {MAIN("mask q + true < 3;"), DIAG_ID_TYPE, "must be a number"},
    {MAIN("mask s < 1.0;"), DIAG_ID_TYPE, "only scores read it"},
    {MAIN("mask q < 2.5;"), DIAG_ID_TYPE, "positions as floats"},
    {MAIN("mask q / 0 == 1;"), DIAG_ID_RANGE, "division by zero"},
    {MAIN("mask q % (3 - 3) == 1;"), DIAG_ID_RANGE, "division by zero"},
    {MAIN("mask q * q * q < 5;"), DIAG_ID_OVERFLOW, "64 bits"},
    {MAIN("mask q < 99999999999999999999;"), DIAG_ID_LEX, "does not fit"},
    {MAIN("mask 1 < q != 2;"), DIAG_ID_TYPE, "chain"},
    {"mask a = b; mask b = c(1); mask c(x) = a and x == 1; " MAIN("mask all;"), DIAG_ID_RECURSION, "a -> b -> c -> a"},
    {"param a : int = b; param b : int = a + 1; " MAIN("mask q - k < a;"), DIAG_ID_RECURSION, "needs itself"},
    {"mask a = all; mask a = causal; " MAIN("mask a;"), DIAG_ID_REDEFINED, "first defined here"},
    {"param q : int = 1; " MAIN("mask all;"), DIAG_ID_REDEFINED, "name of the language"},
    {"mask f(a, a) = a == 1; " MAIN("mask all;"), DIAG_ID_REDEFINED, "argument already"},
    {MAIN("mask all; mask causal;"), DIAG_ID_CLAUSE, "second 'mask'"},
    {MAIN("mask all; layers 3;"), DIAG_ID_CLAUSE, "belongs into a model"},
    {"heads 3; " MAIN("mask all;"), DIAG_ID_CLAUSE, "belongs into"},
    {MAIN("mask all; pattern x { mask all; }"), DIAG_ID_CLAUSE, "inside a pattern"},
    {MAIN("mask all; rope 500000;"), DIAG_ID_UNSUPPORTED, "unsupported in this version"},
    {MAIN("mask all; select block(64), top 8;"), DIAG_ID_UNSUPPORTED, "'select'"},
    {MAIN("mask all; kv ring(128);"), DIAG_ID_UNSUPPORTED, "cache policy 'ring'"},
    {MAIN("mask all; kv ring(128);"), DIAG_ID_UNSUPPORTED, "shared(LAYER) and k_is_v"},
    {MAIN("mask all; scale float(len);"), DIAG_ID_TYPE, "'len' has no value in the scale"},
    {MAIN("mask all; row softmax(sink: float(len));"), DIAG_ID_TYPE, "'len' has no value in the sink"},
    {MAIN("mask float(len) * 0.5 > 3.0;"), DIAG_ID_TYPE, "positions as floats"},
    {"param len : int = 1; " MAIN("mask all;"), DIAG_ID_REDEFINED, "name of the language"},
    {MAIN("mask all; max_len 0;"), DIAG_ID_RANGE, "max_len is 0"},
    {MAIN("mask all; max_len 1073741825;"), DIAG_ID_RANGE, "must be 1 to 1073741824"},
    {MAIN("mask all; max_len h;"), DIAG_ID_TYPE, "no value in a constant"},
    {MAIN("mask all; kv derived, k_is_v;"), DIAG_ID_CLAUSE, "stands alone"},
    {MAIN("mask all; kv derived(1);"), DIAG_ID_CLAUSE, "takes no arguments"},
    {MAIN("mask all; kv k_is_v(1);"), DIAG_ID_CLAUSE, "takes no arguments"},
    {MAIN("mask all; kv k_is_v, k_is_v;"), DIAG_ID_CLAUSE, "'k_is_v' is said twice"},
    {MAIN("mask all; kv k_is_v; kv k_is_v;"), DIAG_ID_CLAUSE, "second 'kv'"},
    {MAIN("mask all; dim_v 17; kv k_is_v;"), DIAG_ID_RANGE, "dim_v is 17, dim only 16"},
    {MAIN("mask all; kv quant;"), DIAG_ID_CLAUSE, "needs the format"},
    {MAIN("mask all; kv quant(8);"), DIAG_ID_CLAUSE, "kv quant(int8); with a scale for each row"},
    {MAIN("mask all; kv quant(int8, 16, 16);"), DIAG_ID_CLAUSE, "needs the format"},
    {MAIN("mask all; kv quant(int4);"), DIAG_ID_UNSUPPORTED, "cache format 'int4'"},
    {MAIN("mask all; kv quant(fp8, 32);"), DIAG_ID_UNSUPPORTED, "kv quant(int8, G); with one for each G elements"},
    {MAIN("mask all; kv quant(int8), quant(int8, 16);"), DIAG_ID_CLAUSE, "'quant' is said twice"},
    {MAIN("mask all; kv derived, quant(int8);"), DIAG_ID_CLAUSE, "stands alone"},
    {MAIN("mask all; kv quant(int8, 0);"), DIAG_ID_RANGE, "elements that share a scale is 0"},
    {MAIN("mask all; kv quant(int8, h);"), DIAG_ID_TYPE, "'h' has no value in a constant"},
    {MAIN("mask all; kv quant(int8, nothing);"), DIAG_ID_UNKNOWN, "nothing"},
    {MAIN("mask all; kv quant(int8, 8);"), DIAG_ID_RANGE, "groups of 8 elements: they must be multiples of 16"},
    {MAIN("mask all; dim_v 40; kv quant(int8, 16);"), DIAG_ID_RANGE, "that divide dim (16) and dim_v (40)"},
    {MAIN("mask all; dim_v 40; kv quant(int8, 16);"), DIAG_ID_RANGE, "kv quant(int8); has a scale for each row"},
    {MAIN("mask all; dim_v 32; kv quant(int8, 32);"), DIAG_ID_RANGE, "kv quant(int8, 16); or without groups"},
    {SHARED("", "kv shared(0), quant(int8);"), DIAG_ID_SCHEDULE, "keys that are stored as they are given, not as quant(int8)"},
    {SHARED("kv quant(int8, 16); dim_v 32;", "kv shared(0), quant(int8); dim_v 32;"), DIAG_ID_SCHEDULE, "stored as quant(int8, 16), not as quant(int8)"},
    {MAIN("mask all; kv shared;"), DIAG_ID_CLAUSE, "needs the layer"},
    {MAIN("mask all; kv shared(1, 2);"), DIAG_ID_CLAUSE, "counted from 0"},
    {MAIN("mask all; kv shared(h);"), DIAG_ID_TYPE, "'h' has no value in a constant"},
    {MAIN("mask all; kv shared(nothing);"), DIAG_ID_UNKNOWN, "nothing"},
    {MAIN("mask all; kv shared(-1);"), DIAG_ID_RANGE, "must be 0 to"},
    {MAIN("mask all; kv shared(0);"), DIAG_ID_SCHEDULE, "the first layer has keys of its own"},
    {MAIN("mask all; kv shared(1);"), DIAG_ID_RANGE, "there is no layer 1: the model has 1"},
    {SHARED("", "kv shared(0), shared(0);"), DIAG_ID_CLAUSE, "'shared' is said twice"},
    {SHARED("", "kv shared(3);"), DIAG_ID_SCHEDULE, "layer 2 has this pattern, and layer 3 is not before it"},
    {SHARED("", "kv shared(2);"), DIAG_ID_SCHEDULE, "an earlier layer: 0 to 1"},
    {SHARED("", "heads 4 / 2; kv shared(0);"), DIAG_ID_SCHEDULE, "layer 0 has KV heads 4, not 2"},
    {SHARED("", "dim 8; dim_v 16; kv shared(0);"), DIAG_ID_SCHEDULE, "layer 0 has dim 16, not 8"},
    {SHARED("", "dim_v 8; kv shared(0);"), DIAG_ID_SCHEDULE, "its pattern is 'a'"},
    {SHARED("", "dtype bf16; kv shared(0);"), DIAG_ID_SCHEDULE, "dtype f32, not bf16"},
    {SHARED("", "kv shared(0), k_is_v;"), DIAG_ID_SCHEDULE, "values of its own"},
    {SHARED("kv k_is_v;", "kv shared(0);"), DIAG_ID_SCHEDULE, "no values beside its keys"},
    {"model m { heads 4; dim 16; pattern a { mask all; } pattern b { mask all; kv shared(0); }"
     " pattern c { mask all; kv shared(1); } schedule a, b, c; }",
     DIAG_ID_SCHEDULE, "layer 1 has no keys of its own: it reads those of layer 0"},
    {MAIN("mask all; row sigmoid;"), DIAG_ID_UNSUPPORTED, "row function 'sigmoid'"},
    {MAIN("mask all; row softmax(sunk: 1.0);"), DIAG_ID_ARGUMENTS, "no option 'sunk'"},
    {MAIN("mask all; row softmax(sink: k);"), DIAG_ID_TYPE, "no value in the sink"},
    {"param x : int[2] = [1, 2, 3]; " MAIN("mask q < x[0];"), DIAG_ID_PARAM, "2 elements are declared, 3 are given"},
    {"param x : int[2] = [1, 2]; " MAIN("mask q < x[0, 1];"), DIAG_ID_ARGUMENTS, "1 index, not 2"},
    {"param x : int[2] = [1, 2]; " MAIN("mask q < x[2];"), DIAG_ID_RANGE, "never inside"},
    {"param x : int[2] = [1, 2]; " MAIN("mask q < x;"), DIAG_ID_TYPE, "read an element"},
    {"param x : int = 1.5; " MAIN("mask q < x;"), DIAG_ID_TYPE, "must be an int, not a float"},
    {"input x : f32[0]; " MAIN("mask all; score s + x[h];"), DIAG_ID_RANGE, "extent is 0"},
    {"input x : f32; " MAIN("mask all; score s + x[h];"), DIAG_ID_ARGUMENTS, "1 to 4"},
    {"input x : f64[2]; " MAIN("mask all; score s + x[h];"), DIAG_ID_TYPE, "no type 'f64'"},
    {"attr x : float; " MAIN("mask x.q == 1;"), DIAG_ID_TYPE, "one integer per token"},
    {"attr x : int; " MAIN("mask x == 1;"), DIAG_ID_TYPE, "name.q"},
    {"attr x : int; " MAIN("mask x.v == 1;"), DIAG_ID_UNKNOWN, "x.q or x.k"},
    {"import \"test.attn\"; " MAIN("mask all;"), DIAG_ID_IMPORT, "imports itself"},
    {"import \"no_such_file.attn\"; " MAIN("mask all;"), DIAG_ID_IMPORT, "cannot read"},
    {MAIN("mask causal and q ≤ k;"), DIAG_ID_LEX, "write '<='"},
    {MAIN("mask causal && all;"), DIAG_ID_LEX, "written 'and'"},
    {MAIN("mask causal"), DIAG_ID_SYNTAX, "';' missing"},
    {MAIN("mask q = k;"), DIAG_ID_REDEFINED, "equality is written '=='"},
    {MAIN("maks causal;"), DIAG_ID_SYNTAX, "did you mean 'mask'"},
    {"pattern main { heads 4; dim 16; mask (causal;", DIAG_ID_SYNTAX, "too early"},
    {"/* " MAIN("mask causal;"), DIAG_ID_LEX, "never closed"},
    {MAIN("mask if causal then 1 else all;"), DIAG_ID_TYPE, "branches of 'if' differ"},
    {"input t : i32[2]; param x : int = t[0]; " MAIN("mask q < x;"), DIAG_ID_TYPE, "known when compiling"},
    {"input t : i32[2]; model m { layers 2; heads 2; dim 16; pattern a { mask all; } schedule if t[layer] == 1 then a "
     "else a; }",
     DIAG_ID_TYPE, "known when compiling"},
    {MAIN("mask all; score softcap(-2.0);"), DIAG_ID_RANGE, "must be positive"},
};

static void mistakes_are_named(void)
{
    for (size_t i = 0; i < ATTNC_COUNT(mistake_table); i++) {
        compiled c;
        compile(&c, mistake_table[i].text);
        bool good = !c.module && c.diags.errors && mentions(&c, mistake_table[i].id, mistake_table[i].part);
        CHECK_MSG(good, "%s\n  wanted: %s", mistake_table[i].text, mistake_table[i].part);
        if (!good) print_errors(&c);
        drop(&c);
    }
}

static void several_mistakes_in_one_run(void)
{
    compiled c;
    compile(&c, "pattern main { heads 4 / 3; dim 0; mask causal and window(0); score s + nothing; row tanh; }");
    CHECK(!c.module && c.diags.errors == 5);
    if (c.diags.errors != 5) print_errors(&c);
    drop(&c);
    compile(&c, "pattern main { heads ; dim 16; mask q < ; score *; } model { } pattern x { mask all; }");
    CHECK(!c.module && c.diags.errors == 4);
    if (c.diags.errors != 4) print_errors(&c);
    drop(&c);
}

static void warnings(void)
{
    static const struct {
        const char *text;
        diag_id id;
        const char *part;
    } expected[] = {
        {"param x : int = 1; " MAIN("mask all;"), DIAG_ID_UNUSED, "param 'x' is never used"},
        {"input x : f32[2]; " MAIN("mask all;"), DIAG_ID_UNUSED, "input 'x'"},
        {"attr x : int; " MAIN("mask all;"), DIAG_ID_UNUSED, "attr 'x'"},
        {"model m { heads 2; dim 16; pattern a { mask all; } pattern b { mask all; } schedule a; }", DIAG_ID_UNUSED,
         "no layer uses pattern 'b'"},
        {MAIN("mask causal and q < k;"), DIAG_ID_EMPTY_MASK, "no query can see"},
        {MAIN("mask window(3) and q - k >= 3;"), DIAG_ID_EMPTY_MASK, "no query can see"},
        {MAIN("mask false;"), DIAG_ID_EMPTY_MASK, "no query can see"},
        {MAIN("mask causal and (q - k) % 3 < 2;"), DIAG_ID_UNDECIDED, "key ranges"},
        {MAIN("mask causal and stride(3) and (k - q * q) % 4 == 0;"), DIAG_ID_UNDECIDED, "key ranges"},
        {MAIN("mask all; score 1.0;"), DIAG_ID_UNUSED, "logits before it are lost"},
    };
    for (size_t i = 0; i < ATTNC_COUNT(expected); i++) {
        compiled c;
        compile(&c, expected[i].text);
        CHECK_MSG(c.module && mentions(&c, expected[i].id, expected[i].part), "%s: %s", expected[i].text,
                  first_error(&c));
        drop(&c);
    }
    compiled c;
    static const char *const decided[] = {MAIN("mask causal and window(4) and (h < 2 or chunk(8));"),
                                          MAIN("mask causal and (window(4) or every(6, h));"),
                                          MAIN("mask causal and (window(4) or stride(6)) or dilated(3, 4);")};
    for (size_t i = 0; i < ATTNC_COUNT(decided); i++) {
        compile(&c, decided[i]);
        CHECK_MSG(c.module && !c.diags.list.n, "%s", decided[i]);
        drop(&c);
    }
}

/* ---- hostile input ---------------------------------------------------------------------------------------------- */
static char *repeat(const char *before, const char *part, size_t n, const char *after)
{
    size_t len = strlen(part);
    char *p = malloc(strlen(before) + n * len + strlen(after) + 1), *at = p;
    at += sprintf(at, "%s", before);
    for (size_t i = 0; i < n; i++) memcpy(at, part, len), at += len;
    strcpy(at, after);
    return p;
}

static void check_refused(char *source, diag_id id)
{
    compiled c;
    compile(&c, source);
    CHECK_MSG(!c.module && mentions(&c, id, ""), "%.60s...: %s", source, first_error(&c));
    drop(&c);
    free(source);
}

static void nesting_is_bounded(void)
{
    check_refused(repeat("pattern main { heads 2; dim 16; mask ", "(", 100000, ";}"), DIAG_ID_TOO_LARGE);
    check_refused(repeat("pattern main { heads 2; dim 16; mask ", "not ", 100000, "all;}"), DIAG_ID_TOO_LARGE);
    check_refused(repeat("pattern main { heads 2; dim 16; mask q < ", "-", 100000, "1;}"), DIAG_ID_TOO_LARGE);
    check_refused(repeat("pattern main { heads 2; dim 16; mask 0 < ", "1 + ", 100000, "1;}"), DIAG_ID_TOO_LARGE);
    check_refused(repeat("pattern main { heads 2; dim 16; mask all; score ", "if h == 1 then s else ", 100000, "s;}"),
                  DIAG_ID_TOO_LARGE);
    check_refused(repeat("model m { heads 2; dim 16; pattern a { mask all; } schedule ", "(", 100000, "a;}"),
                  DIAG_ID_TOO_LARGE);
    check_refused(repeat("", "pattern main {", 100000, ""), DIAG_ID_TOO_LARGE);
    char *many = repeat("pattern main { heads 2; dim 16; mask causal and (", "k == q - 3 or ", 2000, "all);}");
    compiled c;
    compile(&c, many);
    CHECK_MSG(c.module, "%s", first_error(&c));
    drop(&c);
    free(many);
}

static void definitions_that_explode(void)
{
    char source[8192], *at = source;
    at += sprintf(at, "let f0(x) = x + k;\n");
    for (int i = 1; i <= 60; i++)
        at += sprintf(at, "let f%d(x) = f%d(x + %d) + f%d(x - %d);\n", i, i - 1, i, i - 1, 2 * i);
    sprintf(at, MAIN("mask f60(q) < 3;"));
    compiled c;
    compile(&c, source);
    CHECK(!c.module && c.diags.errors);
    drop(&c);
    static const char open[] = "if 0 < (",
                      close[] = ") < 2 then 1 else 0"; /* the middle of a chain is looked at once */
    at = source + sprintf(source, "pattern main { heads 2; dim 16; mask 0 < ");
    for (int i = 0; i < 60; i++) at += sprintf(at, "(%s", open);
    at += sprintf(at, "k");
    for (int i = 0; i < 60; i++) at += sprintf(at, "%s)", close);
    sprintf(at, "; }");
    compile(&c, source);
    CHECK(!c.module && mentions(&c, DIAG_ID_TOO_LARGE, "")); /* soon, though each chain doubles what is written out */
    drop(&c);
    at = source;
    at += sprintf(at, "let f0 = k;\n");
    for (int i = 1; i <= 60; i++) at += sprintf(at, "let f%d = min(f%d, f%d);\n", i, i - 1, i - 1);
    sprintf(at, MAIN("mask f60 <= q;"));
    compile(&c, source);
    CHECK_MSG(c.module, "%s", first_error(&c)); /* harmless: equal parts are one */
    drop(&c);
}

/* ---- printing --------------------------------------------------------------------------------------------------- */
static const char *print_file(arena *a, const char *source)
{
    static const char path[] = "frontend_test.tmp.attn";
    FILE *f = fopen(path, "w");
    fputs(source, f);
    fclose(f);
    diags d = {.arena = a};
    frontend_options o = {.prelude_dir = prelude_dir};
    text t = {.arena = a};
    bool good = frontend_print_ast(a, &d, path, &o, &t);
    remove(path);
    return good ? text_get(&t) : "";
}

static void tree_prints_and_reads_back(void)
{
    static const char source[] =
        "import \"x.attn\"; attr a : int; input t : f32[heads, 3]; param p : int[2, 2] = [[1, -2], [none, 4]];\n"
        "mask m(x, y) = 0 <= x < y and not (x == 1 or y in [1, 3..5]) require y >= 1 \"text\" require x < 3;\n"
        "let z = if 1.5e-3 < 2.0 then t[h, 1] else -(a.q + 2) * 3 % 4;\n"
        "model w { layers 4; heads 8 / 2; scale 0.5; pattern n { dim 4; dtype f16; mask m(1, 2); score alibi, s * "
        "2.0;\n"
        " row softmax(sink: t[h, 0]); kv derived; } schedule (n * 2, n) * 1, (if layer % 2 == 0 then n else n); }";
    arena *a = arena_create(0, NULL, NULL);
    const char *once = print_file(a, source), *twice = print_file(a, once);
    CHECK(strlen(once) > 400);
    CHECK_STR(once, twice);
    CHECK(strstr(once, "0 <= x < y") != NULL);
    arena_destroy(a);
}

static void every_definition_of_the_prelude_is_explained(void)
{
    arena *a = arena_create(0, NULL, NULL);
    diags d = {.arena = a};
    text t = {.arena = a};
    CHECK(frontend_print_prelude(a, &d, prelude_dir, &t));
    unsigned definitions = 0;
    for (const char *line = text_get(&t); *line; line += strcspn(line, "\n") + 1) {
        const char *next = line + strcspn(line, "\n") + 1;
        if (*line == ' ') continue;
        definitions++;
        CHECK_MSG(!strncmp(next, "    ", 4), "no comment: %.*s", (int)strcspn(line, "\n"), line);
    }
    CHECK(definitions >= 30 && strstr(text_get(&t), "mask window(w)\n    The last w tokens"));
    arena_destroy(a);
}

int main(int argc, char **argv)
{
    static char beside[4096];
    const char *end = strstr(__FILE__, "tests/unit/");
    snprintf(beside, sizeof beside, "%.*sdsl/prelude", (int)(end ? end - __FILE__ : 0), __FILE__);
    prelude_dir = argc > 1 ? argv[1] : beside;
    RUN(masks_mean_what_they_say);
    RUN(attributes_and_tables);
    RUN(tables_of_constants);
    RUN(alibi_slopes_are_the_published_ones);
    RUN(t5_buckets_are_the_published_ones);
    RUN(query_temperature);
    RUN(scores_in_order);
    RUN(scale_and_sink);
    RUN(schedules);
    RUN(shapes_and_defaults);
    RUN(names_are_contextual);
    RUN(defines_override_params);
    RUN(golden_forms);
    RUN(mistakes_are_named);
    RUN(several_mistakes_in_one_run);
    RUN(warnings);
    RUN(nesting_is_bounded);
    RUN(definitions_that_explode);
    RUN(tree_prints_and_reads_back);
    RUN(every_definition_of_the_prelude_is_explained);
    return CHECK_DONE();
}
