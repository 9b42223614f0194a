/* expr_test.c - expressions: text both ways, folding, values against arithmetic of the test's own, ranges against
 * values, long chains.
 *
 *     expr_test [random formulas [seed]]
 */
#include "ir/pattern/module.h"
#include "tests/unit/formula.h"

#include <math.h>

static long formulas = 4000;
static unsigned long long seed = 20260502;

static arena *the_arena;
static ir_module *module;

static ir_module *make_module(arena *a)
{
    ir_module *m = ir_module_create(a, "test");
    static const double primes[] = {2, 3, 5, 7}, slopes[] = {0.5, 0.25, -1};
    VEC_PUSH(a, &m->symbols.attrs, "doc");
    VEC_PUSH(a, &m->symbols.attrs, "image");
    table t[] = {{"win", TYPE_INT, 1, {WIN_SIZE}, NULL},
                 {"grid", TYPE_INT, 2, {GRID_ROWS, GRID_COLUMNS}, NULL},
                 {"primes", TYPE_INT, 1, {4}, primes},
                 {"slopes", TYPE_FLOAT, 1, {3}, slopes},
                 {"bias", TYPE_FLOAT, 3, {2, 3, 4}, NULL}};
    for (size_t i = 0; i < ATTNC_COUNT(t); i++) VEC_PUSH(a, &m->symbols.tables, t[i]);
    return m;
}

static const char *print_of(const ir_module *m, expr e)
{
    text t = {.arena = m->arena};
    expr_print(m->pool, e, &t);
    return text_get(&t);
}

static expr read_of(const ir_module *m, const char *source)
{
    const char *at = source, *error = NULL;
    expr e = expr_read(m->pool, &at, &error);
    CHECK_MSG(e && !*at, "%s: %s at `%s`", source, error ? error : "not read to the end", at);
    return e;
}

/* What it prints as. */
static const char *P(const char *source)
{
    expr e = read_of(module, source);
    return e ? print_of(module, e) : "";
}

/* ---- text -------------------------------------------------------------------------------------------------------- */
static void prints_as_written(void)
{
    static const char *const same[] = {"k <= q and k / 8192 == q / 8192",
                                       "k <= q and (k < 3 or q - k < 5)",
                                       "not (k <= q and h < 3)",
                                       "not q == k",
                                       "q * -2",
                                       "-(q + k)",
                                       "q - (k - h)",
                                       "q / (k / 2)",
                                       "q % 3 * 2",
                                       "q * (k % 2)",
                                       "if h < 3 then q else k",
                                       "(if h < 3 then q else k) + 1",
                                       "if not (q < 3 or k < 3) and h == 1 then 1 else if q < 1 then 2 else 3",
                                       "s * 0.25 + float(q - k) * -1.5",
                                       "-s",
                                       "exp(-s)",
                                       "min(q, k) - max(h, 2)",
                                       "abs(q - k)",
                                       "doc.q == doc.k",
                                       "doc.q.min <= doc.k.max and image.k.min < image.q.max",
                                       "may#0 and not must#12",
                                       "win[h]",
                                       "bias[h, q / 2, k % 3] > 0.5",
                                       "min_of(grid, h, h, q0 / 2, q1 / 2)",
                                       "max_of(bias, 0, h, q0, q1, k0, k1)",
                                       "tanh(s / 30.0) * 30.0",
                                       "floor(log2(float(q + 1)))",
                                       "-9223372036854775808",
                                       "9223372036854775807",
                                       "q + -9223372036854775808",
                                       "1e+30",
                                       "inf",
                                       "-inf",
                                       "nan",
                                       "-0.0",
                                       "5e-324",
                                       "layer + g",
                                       "true",
                                       "false",
                                       "5 - q",
                                       "q - 5",
                                       "2 < q",
                                       "(q < 3 or k < 3) and h < 3",
                                       "q < 3 or k < 3 and h < 3",
                                       "not (not (q == k) and k == 3) or q < 2"};
    for (size_t i = 0; i < ATTNC_COUNT(same); i++) {
        if (strstr(same[i], "> 0.5"))
            CHECK_STR(P(same[i]), "0.5 < bias[h, q / 2, k % 3]");
        else if (strstr(same[i], "not (not ("))
            CHECK_STR(P(same[i]), "not (not q == k and k == 3) or q < 2");
        else if (strstr(same[i], "if not"))
            CHECK_STR(P(same[i]), "if not (q < 3 or k < 3) and h == 1 then 1 else if q < 1 then 2 else 3");
        else
            CHECK_STR(P(same[i]), same[i]);
    }
    CHECK_STR(P(" 2 // a comment\n*q"), "q * 2");
    CHECK_STR(P("q>k"), "k < q");
    CHECK_STR(P("q!=k"), "not q == k");
    CHECK_STR(P("((q))\n+\t(k)"), "q + k");
}

static void folds(void)
{
    static const char *const cases[][2] = {{"1 + 2 * 3", "7"},
                                           {"-7 / 2", "-4"},
                                           {"-7 % 2", "1"},
                                           {"7 / -2", "-4"},
                                           {"7 % -2", "-1"},
                                           {"5 / 0", "0"},
                                           {"5 % 0", "0"},
                                           {"q / 0", "0"},
                                           {"q - q", "0"},
                                           {"q + 0", "q"},
                                           {"q * 0", "0"},
                                           {"q * 1", "q"},
                                           {"0 + q", "q"},
                                           {"q + 3 - 5", "q - 2"},
                                           {"(q + 3) - (k + 5)", "q - k - 2"},
                                           {"q - k + k", "q"},
                                           {"q + k - q", "k"},
                                           {"q * 2 * 3", "q * 6"},
                                           {"q / 2 / 3", "q / 6"},
                                           {"q * 6 / 3", "q * 2"},
                                           {"q * 6 % 3", "0"},
                                           {"-(-q)", "q"},
                                           {"-(q - k)", "k - q"},
                                           {"3 - (q - 2)", "5 - q"},
                                           {"q == q", "true"},
                                           {"q < q", "false"},
                                           {"q <= q", "true"},
                                           {"not not (q == k)", "q == k"},
                                           {"not q < k", "k <= q"},
                                           {"q < k and q < k", "q < k"},
                                           {"q < k and k <= q", "false"},
                                           {"q < k or k <= q", "true"},
                                           {"q < k and true", "q < k"},
                                           {"q < k or true", "true"},
                                           {"q < k and (q < k or h < 3)", "q < k"},
                                           {"if true then q else k", "q"},
                                           {"if q < k then h else h", "h"},
                                           {"if not q == k then q else h", "if q == k then h else q"},
                                           {"if q < k then true else h < 3", "q < k or h < 3"},
                                           {"if q < k then h < 3 else false", "q < k and h < 3"},
                                           {"min(q, q)", "q"},
                                           {"max(q + 3, q - 2)", "q + 3"},
                                           {"min(q + 3, q - 2)", "q - 2"},
                                           {"max(max(q, 3), 5)", "max(q, 5)"},
                                           {"min(max(q, k), q)", "q"},
                                           {"abs(-q)", "abs(q)"},
                                           {"abs(-3)", "3"},
                                           {"s * 1.0", "s"},
                                           {"s + 0.0", "s"},
                                           {"0.5 + 0.25", "0.75"},
                                           {"floor(2.75)", "2"},
                                           {"floor(-0.5)", "-1"},
                                           {"floor(nan)", "0"},
                                           {"floor(1e+300)", "9223372036854775807"},
                                           {"float(3) * 0.5", "1.5"},
                                           {"1.0 / 0.0", "inf"},
                                           {"nan == nan", "false"},
                                           {"not nan < 1.0", "true"},
                                           {"primes[2]", "5"},
                                           {"primes[4]", "0"},
                                           {"primes[-1]", "0"},
                                           {"slopes[1]", "0.25"},
                                           {"win[9]", "0"},
                                           {"min_of(win, h, h)", "win[h]"},
                                           {"floor(float(q))", "q"},
                                           {"q % 3 % 3", "q % 3"},
                                           {"9223372036854775807 + 1", "9223372036854775807 + 1"},
                                           {"4611686018427387904 * 2", "4611686018427387904 * 2"},
                                           {"4611686018427387904 * 2 * h", "4611686018427387904 * 2 * h"},
                                           {"-9223372036854775808 / -1", "-9223372036854775808 / -1"},
                                           {"abs(-9223372036854775808)", "abs(-9223372036854775808)"}};
    for (size_t i = 0; i < ATTNC_COUNT(cases); i++) CHECK_STR(P(cases[i][0]), cases[i][1]);
}

static void equal_formulas_meet(void)
{
    static const char *const pairs[][2] = {{"q + k", "k + q"},         {"q == k and h < 2", "h < 2 and k == q"},
                                           {"min(q, k)", "min(k, q)"}, {"q > k", "k < q"},
                                           {"q - 3", "-3 + q"},        {"s * 2.0", "2.0 * s"},
                                           {"not q <= k", "q > k"},    {"q != k", "not k == q"},
                                           {"2 - q", "-q + 2"},        {"5 == q", "q == 5"}};
    for (size_t i = 0; i < ATTNC_COUNT(pairs); i++)
        CHECK_MSG(read_of(module, pairs[i][0]) == read_of(module, pairs[i][1]), "%s, %s", pairs[i][0], pairs[i][1]);
    CHECK(read_of(module, "q - k") != read_of(module, "k - q"));
    CHECK(read_of(module, "0.0") != read_of(module, "-0.0"));
    CHECK(read_of(module, "1") != read_of(module, "1.0") && read_of(module, "1") != read_of(module, "true"));
}

static void mistakes(void)
{
    static const struct {
        const char *source, *message;
        int at;
    } cases[] = {{"", "expected an expression", 0},
                 {"q +", "expected an expression", 3},
                 {"q < k < h", "comparisons do not chain; write `a < b and b < c`", 6},
                 {"q + 1.0", "the operands have different types", 2},
                 {"q and k", "this operator does not take operands of this type", 2},
                 {"foo + 1", "unknown name", 0},
                 {"not q", "`not` takes a boolean", 0},
                 {"-(q < k)", "`-` takes a number", 0},
                 {"(q", "expected `)`", 2},
                 {"win[h", "expected `]`", 5},
                 {"win[h, 1]", "the wrong number of indices for this table", 0},
                 {"win[s]", "an index is no integer", 0},
                 {"min(q)", "the wrong number of operands", 0},
                 {"min(q, s)", "the operands have different types", 0},
                 {"exp(q)", "no function of this name for operands of this type", 0},
                 {"none[q]", "no table of this name", 0},
                 {"doc.x", "expected .q, .k, .q.min, .q.max, .k.min or .k.max", 3},
                 {"nodoc.q", "no attribute of this name", 0},
                 {"may#x", "expected the number of a data atom", 4},
                 {"if q then 1 else 2", "the condition is no boolean", 0},
                 {"if q < k then 1 else 2.0", "the branches have different types", 0},
                 {"if q < k else", "expected `then`", 9},
                 {"9223372036854775808", "a number does not fit 64 bits", 0},
                 {"min_of(q, 1, 2)", "expected the name of a table", 7},
                 {"abs(true)", "no function of this name for operands of this type", 0},
                 {"min(q, k, h, q, k, h, q, k, h)", "too many operands", 28}};
    for (size_t i = 0; i < ATTNC_COUNT(cases); i++) {
        const char *at = cases[i].source, *error = NULL;
        CHECK_MSG(expr_read(module->pool, &at, &error) == 0 && error, "%s is read", cases[i].source);
        if (error) CHECK_STR(error, cases[i].message);
        CHECK_MSG(at - cases[i].source == cases[i].at, "%s: at %d", cases[i].source, (int)(at - cases[i].source));
    }
    const char *at = "q + 1; rest", *error = NULL; /* the longest expression */
    CHECK(expr_read(module->pool, &at, &error) && !strcmp(at, "; rest"));
}

static void nesting_is_bounded(void)
{
    for (int depth = 400; depth <= 100000; depth *= 250) {
        for (int way = 0; way < 4; way++) {
            static const char *const open[] = {"(", "not (", "-(-", "abs("};
            text t = {.arena = the_arena};
            for (int i = 0; i < depth / (way == 2 ? 4 : 1); i++) text_add(&t, open[way]);
            text_add(&t, way == 1 ? "q < k" : "q");
            for (int i = 0; i < depth / (way == 2 ? 4 : 1); i++) text_add(&t, ")");
            const char *at = text_get(&t), *error = NULL;
            expr e = expr_read(module->pool, &at, &error);
            bool deep = way == 1 ? depth > 240 : depth > 480;
            CHECK_MSG(deep == !e, "shape %d, depth %d: %s", way, depth, error ? error : "read");
        }
    }
}

/* ---- values ------------------------------------------------------------------------------------------------------ */
static void values_of_floats(void)
{
    static const struct {
        const char *source;
        double value;
    } cases[] = {{"s * 2.0 - 1.0", 2},
                 {"exp(s)", 4.4816890703380645},
                 {"exp2(s)", 2.8284271247461903},
                 {"ln(s)", 0.4054651081081644},
                 {"log2(s)", 0.5849625007211562},
                 {"sqrt(s)", 1.224744871391589},
                 {"tanh(s / 2.0) * 2.0", 1.2702979047745743},
                 {"min(s, 1.0) + max(s, 1.0)", 2.5},
                 {"abs(-s)", 1.5},
                 {"float(floor(s + 0.75))", 2},
                 {"if s < 1.0 then 1.0 else float(q) / 2.0", 5},
                 {"slopes[h] * float(k - q)", 0.75},
                 {"bias[1, 2, h] + bias[1, 2, 9]", 23}};
    double bias[24];
    for (int i = 0; i < 24; i++) bias[i] = i;
    const double *tables[5] = {NULL, NULL, NULL, NULL, bias};
    expr_env env = {.s = 1.5, .tables = tables};
    env.var[VAR_Q] = 10, env.var[VAR_K] = 10 - 3 * -1, env.var[VAR_H] = 1;
    for (size_t i = 0; i < ATTNC_COUNT(cases); i++) {
        if (i + 1 == ATTNC_COUNT(cases)) env.var[VAR_H] = 3;
        double x = expr_eval(module->pool, read_of(module, cases[i].source), &env).f;
        CHECK_MSG(fabs(x - cases[i].value) < 1e-12, "%s = %.17g", cases[i].source, x);
    }
}

static void values_of_tables(void)
{
    double win[WIN_SIZE] = {4, -7, 2, 9}, grid[GRID_ROWS * GRID_COLUMNS];
    for (int i = 0; i < GRID_ROWS * GRID_COLUMNS; i++) grid[i] = (i * 7) % 31 + 1;
    const double *tables[5] = {win, grid, NULL, NULL, NULL};
    for (int lo0 = -1; lo0 < 6; lo0++)
        for (int hi0 = lo0; hi0 < 7; hi0++)
            for (int lo1 = -2; lo1 < 7; lo1 += 2)
                for (int hi1 = lo1; hi1 < 8; hi1++) {
                    double least = INFINITY, greatest = -INFINITY;
                    for (int i = lo0; i <= hi0; i++)
                        for (int j = lo1; j <= hi1; j++) {
                            double x =
                                i >= 0 && i < GRID_ROWS && j >= 0 && j < GRID_COLUMNS ? grid[i * GRID_COLUMNS + j] : 0;
                            least = fmin(least, x), greatest = fmax(greatest, x);
                        }
                    expr_env env = {.tables = tables};
                    env.var[VAR_Q0] = lo0, env.var[VAR_Q1] = hi0, env.var[VAR_K0] = lo1, env.var[VAR_K1] = hi1;
                    CHECK(expr_eval(module->pool, read_of(module, "min_of(grid, q0, q1, k0, k1)"), &env).i ==
                          (int64_t)least);
                    CHECK(expr_eval(module->pool, read_of(module, "max_of(grid, q0, q1, k0, k1)"), &env).i ==
                          (int64_t)greatest);
                }
    expr_env env = {.tables = NULL}; /* nothing known: defined all the same */
    CHECK(expr_eval(module->pool, read_of(module, "win[0] + doc.q"), &env).i == 0);
    CHECK(expr_eval(module->pool, read_of(module, "may#3 and not must#3"), &env).i == 1);
}

/* ---- random formulas --------------------------------------------------------------------------------------------- */
typedef struct sample {
    const formula *formula;
    formula_world world;
    ir_module *module;
    const char *source;
    expr e;
} sample;

static void check_text(const sample *s)
{
    const char *printed = print_of(s->module, s->e);
    CHECK_MSG(read_of(s->module, printed) == s->e, "%s prints as %s", s->source, printed);
    ir_module *fresh = make_module(s->module->arena);
    CHECK_STR(print_of(fresh, read_of(fresh, printed)), printed);
    CHECK(expr_nesting(s->module->pool, s->e) < EXPR_MAX_NESTING);
}

static long checked_formulas;

static void check_values(const sample *s, unsigned long long *random)
{
    expr_pool *p = s->module->pool;
    expr simple = expr_simplify_by_range(p, s->e), roots[2] = {simple, s->e};
    expr swapped = expr_substitute(p, s->e, VAR_Q, expr_binary(p, EXPR_ADD, expr_variable(p, VAR_K), expr_int(p, 2)));
    const double *tables[5] = {s->world.win, s->world.grid, NULL, NULL, NULL};
    expr_program *program = expr_program_create(s->module->arena, p, roots, 2);
    expr_value *values = ARENA_ARRAY(s->module->arena, expr_value, expr_program_size(program)), results[2];
    int_range all, small;
    bool fits = expr_range(p, s->e, EXPR_MAX_POSITION, &all),
         fits_small = expr_range(p, s->e, FORMULA_POSITIONS, &small);
    CHECK(fits_small || !fits);
    if (!fits_small) return; /* nothing is promised */
    checked_formulas++;
    for (int i = 0; i < 20; i++) {
        long q = (long)(check_random(random) % FORMULA_POSITIONS),
             k = (long)(check_random(random) % (FORMULA_POSITIONS - 2)), h = (long)(check_random(random) % 6);
        int64_t attrs[2][ATTR_SIDE_COUNT] = {{s->world.doc[q], s->world.doc[k]}};
        expr_env env = {.tables = tables, .attr = (const int64_t(*)[ATTR_SIDE_COUNT])attrs};
        env.var[VAR_Q] = q, env.var[VAR_K] = k, env.var[VAR_H] = h;
        int64_t truth = (int64_t)formula_value(s->formula, &s->world, q, k, h), got = expr_eval(p, s->e, &env).i;
        CHECK_MSG(got == truth, "%s = %lld, not %lld", s->source, (long long)got, (long long)truth);
        CHECK_MSG(expr_eval(p, simple, &env).i == truth, "%s simplified to %s", s->source, print_of(s->module, simple));
        expr_program_run(program, &env, values, results);
        CHECK(results[0].i == truth && results[1].i == truth);
        if (fits)
            CHECK_MSG(all.lo <= truth && truth <= all.hi, "%s = %lld outside %lld..%lld", s->source, (long long)truth,
                      (long long)all.lo, (long long)all.hi);
        CHECK_MSG(small.lo <= truth && truth <= small.hi, "%s = %lld outside %lld..%lld", s->source, (long long)truth,
                  (long long)small.lo, (long long)small.hi);
        attrs[0][ATTR_Q] = s->world.doc[k + 2];
        CHECK_MSG(expr_eval(p, swapped, &env).i == formula_value(s->formula, &s->world, k + 2, k, h),
                  "%s with k + 2 for q", s->source);
    }
}

static void random_formulas(void)
{
    unsigned long long random = seed;
    for (long i = 0; i < formulas; i++) {
        arena *a = arena_create(0, NULL, NULL);
        formula_maker maker = {.arena = a, .random = &random, .uniform = true, .data = true, .huge = i % 4 == 3};
        sample s = {.module = make_module(a)};
        s.formula = i % 2 ? formula_bool(&maker, 4) : formula_int(&maker, 4);
        formula_world_fill(&s.world, &random);
        text t = {.arena = a};
        formula_text(s.formula, &t);
        s.source = text_get(&t);
        s.e = read_of(s.module, s.source);
        if (s.e) check_text(&s), check_values(&s, &random);
        arena_destroy(a);
    }
    printf("  values of %ld formulas checked\n", checked_formulas);
}

/* Text with some bytes changed: read or refused with a place inside it, and what is read prints and reads back. */
static void mangled_text(void)
{
    static const char bytes[] = "qkhs()[]<>=!+-*/%.,# 0123456789eifandortxm\n\"\\_\x80\xff";
    unsigned long long random = seed + 1;
    long read = 0;
    for (long i = 0; i < formulas; i++) {
        arena *a = arena_create(0, NULL, NULL);
        formula_maker maker = {.arena = a, .random = &random, .uniform = true, .data = true};
        ir_module *m = make_module(a);
        text t = {.arena = a};
        formula_text(formula_bool(&maker, 3), &t);
        char *source = arena_strdup(a, text_get(&t));
        for (unsigned j = 0, n = 1 + (unsigned)(check_random(&random) % 3); j < n; j++)
            source[check_random(&random) % t.n] = bytes[check_random(&random) % (sizeof bytes - 1)];
        const char *at = source, *error = NULL;
        expr e = expr_read(m->pool, &at, &error);
        CHECK((e != 0) == (error == NULL) && at >= source && at <= source + t.n);
        if (e) CHECK_MSG(read_of(m, print_of(m, e)) == e, "%s", source);
        read += e != 0;
        arena_destroy(a);
    }
    printf("  %ld of %ld mangled texts still read\n", read, formulas);
    CHECK(read > formulas / 100 && read < formulas);
}

/* ---- facts ------------------------------------------------------------------------------------------ */
static void facts(void)
{
    expr_pool *p = module->pool;
    static const struct {
        const char *source;
        unsigned depends;
        bool data;
    } cases[] = {{"q + k", DEPENDS_ROW | DEPENDS_KEY, false},
                 {"win[h] + layer", DEPENDS_HEAD, false},
                 {"doc.q", DEPENDS_ROW, true},
                 {"doc.q.min", DEPENDS_UNIFORM, false},
                 {"primes[k]", DEPENDS_KEY, true},
                 {"s * 2.0", DEPENDS_SCORE, false},
                 {"win[doc.k]", DEPENDS_KEY, true},
                 {"q0 + k1", DEPENDS_UNIFORM, false}};
    for (size_t i = 0; i < ATTNC_COUNT(cases); i++) {
        expr e = read_of(module, cases[i].source);
        CHECK_MSG(expr_depends(p, e) == cases[i].depends && expr_reads_data(p, e) == cases[i].data, "%s",
                  cases[i].source);
    }
    CHECK(expr_reads_var(p, read_of(module, "q + win[h]"), VAR_H) &&
          !expr_reads_var(p, read_of(module, "q + win[h]"), VAR_K));
    static const struct {
        const char *source;
        long long lo, hi;
        bool fits;
    } ranges_of[] = {{"q - k", -(1ll << 30), 1ll << 30, true},
                     {"q * k", 0, 1ll << 60, true},
                     {"q * k * q", 0, 0, false},
                     {"q % 8", 0, 7, true},
                     {"(q % 8 + 3) / 2", 1, 5, true},
                     {"q % -8", -7, 0, true},
                     {"primes[h]", 0, 7, true},
                     {"win[h]", INT32_MIN, INT32_MAX, true},
                     {"doc.q * doc.k", -(1ll << 62) + (1ll << 31), 1ll << 62, true},
                     {"abs(q - k)", 0, 1ll << 30, true},
                     {"min(q, 5)", 0, 5, true},
                     {"100 / (h + 1)", 0, 100, true},
                     {"100 / (h - 5)", -100, 100, true},
                     {"max(0, min(floor(s), 15))", 0, 15, true},
                     {"floor(float(q) / 8.0)", -1, 134300000, true},
                     {"q + 9223372036854775807", 0, 0, false}};
    for (size_t i = 0; i < ATTNC_COUNT(ranges_of); i++) {
        int_range r;
        bool fits = expr_range(p, read_of(module, ranges_of[i].source), EXPR_MAX_POSITION, &r);
        CHECK_MSG(fits == ranges_of[i].fits, "%s fits", ranges_of[i].source);
        bool loose = strstr(ranges_of[i].source, "float(q)");
        if (fits && loose)
            CHECK_MSG(r.lo >= ranges_of[i].lo && r.hi <= ranges_of[i].hi && r.hi >= 1 << 27, "%s", ranges_of[i].source);
        else if (fits)
            CHECK_MSG(r.lo == ranges_of[i].lo && r.hi == ranges_of[i].hi, "%s: %lld..%lld", ranges_of[i].source,
                      (long long)r.lo, (long long)r.hi);
    }
    static const char *const decided[][2] = {{"q - k < 2147483647", "true"},
                                             {"q < 0", "false"},
                                             {"q % 2147483648", "q"},
                                             {"q / 2147483648", "0"},
                                             {"abs(q + 1)", "q + 1"},
                                             {"min(q % 4, 7)", "q % 4"},
                                             {"k <= q and q - k < 1073741825", "k <= q"},
                                             {"q - k < 1073741824", "q - k < 1073741824"},
                                             {"q == -1", "false"},
                                             {"max(q, -3)", "q"}};
    for (size_t i = 0; i < ATTNC_COUNT(decided); i++)
        CHECK_STR(print_of(module, expr_simplify_by_range(p, read_of(module, decided[i][0]))), decided[i][1]);
}

static void long_chains(void)
{
    arena *a = arena_create((size_t)1 << 28, NULL, NULL);
    ir_module *m = make_module(a);
    text t = {.arena = a};
    for (int i = 0; i < 10000; i++) text_printf(&t, "%sk == %d", i ? " or " : "", i * 3);
    expr e = read_of(m, text_get(&t));
    CHECK_STR(print_of(m, e), text_get(&t));
    expr_env env = {0};
    env.var[VAR_K] = 29997;
    CHECK(expr_eval(m->pool, e, &env).i == 1);
    env.var[VAR_K] = 29998;
    CHECK(expr_eval(m->pool, e, &env).i == 0);
    CHECK(expr_nesting(m->pool, e) <= 3);
    expr f = expr_substitute(m->pool, e, VAR_K, expr_variable(m->pool, VAR_Q));
    env.var[VAR_Q] = 3;
    CHECK(expr_eval(m->pool, f, &env).i == 1 && expr_simplify_by_range(m->pool, f) == f);
    /* sharing: 2^80 nodes as a tree */
    expr x = expr_variable(m->pool, VAR_Q);
    for (int i = 0; i < 80; i++)
        x = expr_binary(m->pool, EXPR_ADD, expr_binary(m->pool, EXPR_MOD, x, expr_int(m->pool, 1000 + i)),
                        expr_binary(m->pool, EXPR_DIV, x, expr_int(m->pool, 2)));
    CHECK(expr_tree_size(m->pool, x) == UINT32_MAX);
    CHECK_STR(print_of(m, x), "<too large: 4294967295 nodes>");
    env.var[VAR_Q] = 12345;
    int64_t v = 12345;
    for (int i = 0; i < 80; i++) v = v % (1000 + i) + v / 2;
    CHECK(expr_eval(m->pool, x, &env).i == v);
    CHECK(expr_substitute(m->pool, x, VAR_Q, expr_variable(m->pool, VAR_K)) != x);
    arena_destroy(a);
}

static void modules(void)
{
    dtype t = DTYPE_F32;
    CHECK(dtype_parse("bf16", 4, &t) && t == DTYPE_BF16 && dtype_parse("f16", 3, &t) && t == DTYPE_F16);
    CHECK(!dtype_parse("f16", 2, &t) && !dtype_parse("f64", 3, &t) && !dtype_parse("", 0, &t) && t == DTYPE_F16);
    CHECK_STR(dtype_name(DTYPE_F32), "f32");
    CHECK(expr_symbols(module->pool) == &module->symbols && expr_arena(module->pool) == module->arena);
}

int main(int argc, char **argv)
{
    if (argc > 1) formulas = strtol(argv[1], NULL, 10);
    if (argc > 2) seed = strtoull(argv[2], NULL, 10);
    printf("seed %llu, %ld random formulas\n", seed, formulas);
    the_arena = arena_create(0, NULL, NULL);
    module = make_module(the_arena);
    RUN(prints_as_written);
    RUN(folds);
    RUN(equal_formulas_meet);
    RUN(mistakes);
    RUN(nesting_is_bounded);
    RUN(values_of_floats);
    RUN(values_of_tables);
    RUN(random_formulas);
    RUN(mangled_text);
    RUN(facts);
    RUN(long_chains);
    RUN(modules);
    arena_destroy(the_arena);
    return CHECK_DONE();
}
