/* ranges_test.c - the range analysis against brute force: never a seen key outside may, never an unseen key inside
 * must, no live key dropped, no wrong tile class, no wrong split; exact where it promises to be.
 *
 *     ranges_test [random formulas [seed]]
 */
#include "ir/pattern/module.h"
#include "ir/pattern/sweeps.h"
#include "tests/unit/formula.h"

#include <time.h>

enum { KEYS = 48, HEADS = 4, LAST_ROW = FORMULA_POSITIONS - 1 };
static long formulas = 1500;
static unsigned long long seed = 20260501;

/* ---- one mask under test ----------------------------------------------------------------------------------------- */
typedef struct subject {
    const char *name;
    ir_module *module;
    const ranges *ranges;
    formula_world world;
    expr mask;
    long keys; /* positions 0 .. keys - 1 are looked at; rows up to LAST_ROW for live */
    long h, sweep;
    unsigned char seen[FORMULA_POSITIONS][KEYS]; /* the truth */
} subject;

static ir_module *make_module(arena *a, formula_world *w)
{
    ir_module *m = ir_module_create(a, "test");
    VEC_PUSH(a, &m->symbols.attrs, "doc");
    table win = {"win", TYPE_INT, 1, {WIN_SIZE}, NULL}, grid = {"grid", TYPE_INT, 2, {GRID_ROWS, GRID_COLUMNS}, NULL};
    table bits = {"bits", TYPE_FLOAT, 2, {GRID_ROWS, GRID_COLUMNS}, w->grid};
    VEC_PUSH(a, &m->symbols.tables, win);
    VEC_PUSH(a, &m->symbols.tables, grid);
    VEC_PUSH(a, &m->symbols.tables, bits);
    return m;
}

static expr read_mask(expr_pool *p, const char *source)
{
    const char *at = source, *error = NULL;
    expr e = expr_read(p, &at, &error);
    CHECK_MSG(e && !*at, "%s: %s at `%s`", source, error ? error : "not read to the end", at);
    return e;
}

static expr_env environment(const subject *s, const double **tables, long q0, long q1)
{
    tables[0] = s->world.win, tables[1] = s->world.grid, tables[2] = NULL;
    expr_env env = {.tables = tables};
    env.var[VAR_SWEEP] = s->sweep;
    env.var[VAR_H] = s->h, env.var[VAR_Q0] = q0, env.var[VAR_Q1] = q1;
    return env;
}

/* Not by the analysis' own words for it. */
static bool inside(const key_interval *x, uint32_t n, long k)
{
    for (uint32_t i = 0; i < n; i++)
        for (long one = x[i].lo; one <= x[i].hi; one += x[i].step)
            if (one == k) return true;
    return false;
}

static bool some_row_sees(const subject *s, long q0, long q1, long k)
{
    for (long q = q0; q <= q1; q++)
        if (s->seen[q][k]) return true;
    return false;
}
static bool every_row_sees(const subject *s, long q0, long q1, long k)
{
    for (long q = q0; q <= q1; q++)
        if (!s->seen[q][k]) return false;
    return true;
}

/* ---- what is checked --------------------------------------------------------------------------------------------- */
/* Returns the number of keys for which may or must is not exact. */
static long check_rows(const subject *s, long q0, long q1)
{
    const double *tables[3];
    expr_env env = environment(s, tables, q0, q1);
    key_interval may[RANGES_MAX_INTERVALS], must[RANGES_MAX_INTERVALS];
    uint32_t n_may = ranges_evaluate(s->module->pool, s->ranges, RANGES_MAY, &env, s->keys, may);
    uint32_t n_must = ranges_evaluate(s->module->pool, s->ranges, RANGES_MUST, &env, s->keys, must);
    long loose = 0;
    for (long k = 0; k < s->keys; k++) {
        bool some = some_row_sees(s, q0, q1, k), every = every_row_sees(s, q0, q1, k);
        bool in_may = inside(may, n_may, k), in_must = inside(must, n_must, k);
        CHECK_MSG(in_may || !some, "%s: may misses key %ld, rows %ld..%ld, h %ld", s->name, k, q0, q1, s->h);
        CHECK_MSG(every || !in_must, "%s: must has key %ld, rows %ld..%ld, h %ld", s->name, k, q0, q1, s->h);
        loose += (in_may != some) + (in_must != every);
    }
    if (q0 == q1 && s->ranges->exact_rows) CHECK_MSG(loose == 0, "%s: exact_rows, but row %ld is not", s->name, q0);
    return loose;
}

/* Rows some steps apart, which the mask's own step may decide. Returns the number of keys for which may or must is not
 * exact. */
static long check_rows_apart(const subject *s, long q0, long step, long rows)
{
    const double *tables[3];
    const long q1 = q0 + (rows - 1) * step;
    expr_env env = environment(s, tables, q0, q1);
    env.var[VAR_ROW_STEP] = step;
    key_interval may[RANGES_MAX_INTERVALS], must[RANGES_MAX_INTERVALS];
    uint32_t n_may = ranges_evaluate(s->module->pool, s->ranges, RANGES_MAY, &env, s->keys, may);
    uint32_t n_must = ranges_evaluate(s->module->pool, s->ranges, RANGES_MUST, &env, s->keys, must);
    long loose = 0;
    for (long k = 0; k < s->keys; k++) {
        bool some = false, every = true;
        for (long q = q0; q <= q1; q += step) some |= s->seen[q][k], every &= s->seen[q][k];
        bool in_may = inside(may, n_may, k), in_must = inside(must, n_must, k);
        CHECK_MSG(in_may || !some, "%s: may misses key %ld, rows %ld..%ld by %ld, h %ld", s->name, k, q0, q1, step,
                  s->h);
        CHECK_MSG(every || !in_must, "%s: must has key %ld, rows %ld..%ld by %ld, h %ld", s->name, k, q0, q1, step,
                  s->h);
        loose += (in_may != some) + (in_must != every);
    }
    return loose;
}

static long check_live(const subject *s, long n)
{
    const double *tables[3];
    expr_env env = environment(s, tables, n, 0);
    key_interval live[RANGES_MAX_INTERVALS];
    uint32_t n_live = ranges_evaluate(s->module->pool, s->ranges, RANGES_LIVE, &env, n, live);
    long loose = 0;
    for (long k = 0; k < n; k++) {
        bool future = some_row_sees(s, n, LAST_ROW, k), kept = inside(live, n_live, k);
        CHECK_MSG(kept || !future, "%s: live key %ld dropped after %ld tokens, h %ld", s->name, k, n, s->h);
        loose += kept != future;
    }
    return loose;
}

static void check_split(const subject *s, long n)
{
    const double *tables[3];
    expr_env env = environment(s, tables, 0, n - 1);
    key_interval may[RANGES_MAX_INTERVALS];
    uint32_t n_may = ranges_evaluate(s->module->pool, s->ranges, RANGES_MAY, &env, s->keys, may);
    for (uint32_t i = 0; i < n_may; i++)
        if (may[i].hi >= n) return;
    for (long q = 0; q < n; q++)
        for (long k = n; k < s->keys; k++)
            CHECK_MSG(!s->seen[q][k], "%s: a step may end at %ld, but %ld sees %ld", s->name, n, q, k);
}

static void attribute_bounds(const subject *s, const expr_env *env, int64_t bounds[ATTR_SIDE_COUNT])
{
    for (int side = ATTR_Q_MIN; side < ATTR_SIDE_COUNT; side++) bounds[side] = side & 1 ? INT64_MIN : INT64_MAX;
    for (int64_t q = env->var[VAR_Q0]; q <= env->var[VAR_Q1]; q++) {
        if (s->world.doc[q] < bounds[ATTR_Q_MIN]) bounds[ATTR_Q_MIN] = s->world.doc[q];
        if (s->world.doc[q] > bounds[ATTR_Q_MAX]) bounds[ATTR_Q_MAX] = s->world.doc[q];
    }
    for (int64_t k = env->var[VAR_K0]; k <= env->var[VAR_K1]; k++) {
        if (s->world.doc[k] < bounds[ATTR_K_MIN]) bounds[ATTR_K_MIN] = s->world.doc[k];
        if (s->world.doc[k] > bounds[ATTR_K_MAX]) bounds[ATTR_K_MAX] = s->world.doc[k];
    }
}

/* 1: the class is the true one. */
static bool check_tile(const subject *s, long q0, long q1, long k0, long k1, bool with_attributes)
{
    const double *tables[3];
    expr_env env = environment(s, tables, q0, q1);
    env.var[VAR_K0] = k0, env.var[VAR_K1] = k1;
    int64_t bounds[1][ATTR_SIDE_COUNT];
    bounds[0][ATTR_Q] = bounds[0][ATTR_K] = 0;
    attribute_bounds(s, &env, bounds[0]);
    if (with_attributes) env.attr = (const int64_t(*)[ATTR_SIDE_COUNT])bounds;
    tile_class c = ranges_classify(s->module->pool, s->ranges, &env);
    bool none = true, all = true;
    for (long k = k0; k <= k1; k++) {
        none &= !some_row_sees(s, q0, q1, k);
        all &= every_row_sees(s, q0, q1, k);
    }
    CHECK_MSG(c != TILE_EMPTY || none, "%s: tile %ld..%ld x %ld..%ld is not EMPTY, h %ld", s->name, q0, q1, k0, k1,
              s->h);
    CHECK_MSG(c != TILE_FULL || all, "%s: tile %ld..%ld x %ld..%ld is not FULL, h %ld", s->name, q0, q1, k0, k1, s->h);
    return c == (none ? TILE_EMPTY : all ? TILE_FULL : TILE_PARTIAL);
}

typedef struct looseness {
    long rows, live, tiles, apart;
} looseness;

static void check_everything(const subject *s, unsigned long long *random, int tries, looseness *loose)
{
    static const long widths[] = {0, 1, 3, 7, 20};
    for (int i = 0; i < tries; i++) {
        long q0 = (long)(check_random(random) % (unsigned long)s->keys);
        long q1 = q0 + widths[check_random(random) % 5], k0 = (long)(check_random(random) % (unsigned long)s->keys);
        long k1 = k0 + widths[check_random(random) % 5];
        if (q1 >= s->keys) q1 = s->keys - 1;
        if (k1 >= s->keys) k1 = s->keys - 1;
        loose->rows += check_rows(s, q0, q1);
        check_rows(s, q0, q0);
        long step = (long)s->ranges->row_step;
        if (step && q0 + step <= LAST_ROW)
            loose->apart += check_rows_apart(s, q0, step, 1 + (LAST_ROW - q0) / step % 4);
        step = 1 + i % 7;
        check_rows_apart(s, q0, step, 1 + (LAST_ROW - q0) / step % 9);
        loose->tiles += !check_tile(s, q0, q1, k0, k1, true);
        check_tile(s, q0, q1, k0, k1, false);
    }
    for (long n = 1; n <= s->keys; n += 5) {
        loose->live += check_live(s, n);
        if (n < s->keys) check_split(s, n);
    }
}

static bool half_sees(const subject *s, expr halves, long q, long k)
{
    const double *tables[3];
    expr_env env = environment(s, tables, q, q);
    const int64_t attr[1][ATTR_SIDE_COUNT] = {{[ATTR_Q] = s->world.doc[q], [ATTR_K] = s->world.doc[k]}};
    env.var[VAR_Q] = q, env.var[VAR_K] = k;
    env.attr = attr;
    return expr_eval(s->module->pool, halves, &env).i != 0;
}

/* The halves of a mask, where it has some: what one sees the other does not, together they see all, and the ranges say so
 * of each. Returns whether there are any. */
static bool check_sweeps(const subject *s, unsigned long long *random, int tries)
{
    const expr halves = sweeps_of(s->module->pool, s->mask, s->ranges, 0);
    if (!halves) return false;
    subject *half = ARENA_NEW(s->module->arena, subject);
    *half = *s;
    half->ranges = ranges_compute(s->module->pool, halves, 0);
    for (half->sweep = 0; half->sweep < 3; half->sweep++) {
        for (long q = 0; q <= LAST_ROW; q++)
            for (long k = 0; k < s->keys; k++) {
                const bool before = half->sweep == 2 && half->seen[q][k];
                half->seen[q][k] = half_sees(half, halves, q, k);
                if (half->sweep == 1) CHECK_MSG(s->seen[q][k] || !half->seen[q][k], "%s: half of (%ld, %ld)", s->name, q, k);
                if (half->sweep != 1)
                    CHECK_MSG(before + half->seen[q][k] == s->seen[q][k], "%s: (%ld, %ld) is in %d halves", s->name, q, k,
                              before + half->seen[q][k]);
            }
        for (int i = 0; i < tries; i++) {
            const long q0 = (long)(check_random(random) % (unsigned long)s->keys), step = half->ranges->row_step;
            check_rows(half, q0, q0 + i % 9 < s->keys ? q0 + i % 9 : q0);
            check_rows_apart(half, q0, 1 + i % 7, 1 + (LAST_ROW - q0) / (1 + i % 7) % 9);
            if (step && q0 + step <= LAST_ROW) check_rows_apart(half, q0, step, 1 + (LAST_ROW - q0) / step % 4);
        }
    }
    return true;
}

static void print_list(const subject *s, const char *name, const interval *x, uint32_t n)
{
    printf("    %s", name);
    for (uint32_t i = 0; i < n; i++) {
        text t = {.arena = s->module->arena};
        text_add(&t, " ["), expr_print(s->module->pool, x[i].lo, &t), text_add(&t, ", ");
        expr_print(s->module->pool, x[i].hi, &t);
        if (x[i].step) text_add(&t, ", "), expr_print(s->module->pool, x[i].step, &t);
        text_add(&t, "]");
        printf("%s", text_get(&t));
    }
    puts("");
}

static void explain(const subject *s, const char *mask)
{
    printf("    mask %s\n", mask);
    print_list(s, "may ", s->ranges->may, s->ranges->n_may);
    print_list(s, "must", s->ranges->must, s->ranges->n_must);
    print_list(s, "live", s->ranges->live, s->ranges->n_live);
}

/* ---- masks by name, with the truth in C -------------------------------------------------------------------------- */
static long fl(long a, long b) { return (long)floor_quotient(a, b); }
static long md(long a, long b) { return (long)floor_remainder(a, b); }
static long distance(long q, long k) { return q > k ? q - k : k - q; }
static long clamp(long x, long lo, long hi) { return x < lo ? lo : x > hi ? hi : x; }

/* KEYS_EXACT: keys of every tile, which with steps are not classes of tiles; APART_EXACT: of tiles of rows that are the
 * ranges' row step apart. */
enum {
    ROWS_EXACT = 1,
    LIVE_EXACT = 2,
    TILES_EXACT = 4,
    KEYS_EXACT = 8 | ROWS_EXACT,
    APART_EXACT = 16 | ROWS_EXACT,
    EXACT = 15,
    SOUND = 0
};
/* MASK(name, exactness, text, truth) */
#define MASKS                                                                                                          \
    MASK(causal, EXACT, "k <= q", k <= q)                                                                              \
    MASK(window, EXACT, "k <= q and q - k < 7", k <= q && q - k < 7)                                                   \
    MASK(window_of_one, EXACT, "k <= q and q - k < 1", k == q)                                                         \
    MASK(chunk, EXACT, "k <= q and q / 8 == k / 8", k <= q && q / 8 == k / 8)                                          \
    MASK(chunk_of_one, EXACT, "k <= q and q / 1 == k / 1", k == q)                                                     \
    MASK(chunk_from_3, EXACT, "k <= q and (q - 3) / 8 == (k - 3) / 8", k <= q && fl(q - 3, 8) == fl(k - 3, 8))         \
    MASK(sink_window, EXACT, "k <= q and (k < 3 or q - k < 5)", k <= q && (k < 3 || q - k < 5))                        \
    MASK(band, EXACT, "abs(q - k) <= 4", distance(q, k) <= 4)                                                          \
    MASK(ahead, EXACT, "k - q <= 3 and q - k < 6", k - q <= 3 && q - k < 6)                                            \
    MASK(sink_chunk, EXACT, "k <= q and (k < 2 or q / 6 == k / 6)", k <= q && (k < 2 || q / 6 == k / 6))               \
    MASK(lastblock, EXACT, "k <= q and q / 4 - k / 4 < 2 and q / 4 - k / 4 >= 0", k <= q && q / 4 - k / 4 < 2)         \
    MASK(lastblock_open, EXACT, "q / 4 - k / 4 < 2 and q / 4 - k / 4 >= 0", q / 4 - k / 4 < 2 && k / 4 <= q / 4)       \
    MASK(prefixlm, EXACT, "k <= q or k < 9", k <= q || k < 9)                                                          \
    MASK(bidirectional_chunk, EXACT, "q / 5 == k / 5", q / 5 == k / 5)                                                 \
    MASK(far_keys, EXACT, "k <= q and not (q - k < 6)", q - k >= 6)                                                    \
    MASK(chunk_as_range, EXACT, "k <= q and k >= 8 * (q / 8)", k <= q && k >= q / 8 * 8)                               \
    MASK(window_in_chunk, EXACT, "k <= q and q / 16 == k / 16 and q - k < 5", k <= q && q / 16 == k / 16 && q - k < 5) \
    MASK(all, EXACT, "true", true)                                                                                     \
    MASK(nothing, EXACT, "k <= q and k > q", false)                                                                    \
    MASK(scaled, EXACT, "3 * k <= 2 * q + 5", 3 * k <= 2 * q + 5)                                                      \
    MASK(window_per_head, EXACT, "k <= q and q - k < win[h]", k <= q && q - k < (long)s->world.win[h])                 \
    MASK(chunk_per_head, EXACT, "k <= q and k / (h + 2) == q / (h + 2)", k <= q && k / (h + 2) == q / (h + 2))         \
    MASK(mask_per_head, EXACT, "k <= q and (h < 2 or q - k < 7)", k <= q && (h < 2 || q - k < 7))                      \
    MASK(head_list, EXACT, "if h == 1 or h == 3 then k <= q else k <= q and (k < 2 or q - k < 4)",                     \
         k <= q && (h == 1 || h == 3 || k < 2 || q - k < 4))                                                           \
    MASK(window_or_none, EXACT, "k <= q and (win[h] < 4 or q - k < win[h])",                                           \
         k <= q && (s->world.win[h] < 4 || q - k < (long)s->world.win[h]))                                             \
    MASK(growing_window, SOUND, "q - k < (if q < 10 then 3 else 20)", q - k < (q < 10 ? 3 : 20))                       \
    MASK(natten, ROWS_EXACT, "abs(k - min(max(q, 3), 44)) <= 3", distance(k, clamp(q, 3, 44)) <= 3)                    \
    MASK(dilated, APART_EXACT, "k <= q and q - k < 9 and (q - k) % 2 == 0", k <= q && q - k < 9 && (q - k) % 2 == 0)   \
    MASK(stride, SOUND, "k <= q and (q - k < 4 or k % 8 >= 6)", k <= q && (q - k < 4 || k % 8 >= 6))                   \
    MASK(every, KEYS_EXACT, "k <= q and k % 5 == 0", k <= q && k % 5 == 0)                                             \
    MASK(every_phase, KEYS_EXACT, "k <= q and (k + 7) % 5 == 1", k <= q && md(k + 7, 5) == 1)                          \
    MASK(every_alone, KEYS_EXACT, "k % 7 == 3", k % 7 == 3)                                                            \
    MASK(every_back, KEYS_EXACT, "(3 - k) % 7 == 6 and k >= 2", md(3 - k, 7) == 6 && k >= 2)                           \
    MASK(every_scaled, KEYS_EXACT, "(4 * k + 3) % 10 == 5", (4 * k + 3) % 10 == 5)                                     \
    MASK(every_never, EXACT, "(4 * k + 3) % 10 == 4", false)                                                           \
    MASK(every_too_large, EXACT, "k % 4 == 4", false)                                                                  \
    MASK(every_all, EXACT, "k <= q and (3 * k) % 3 == 0", k <= q)                                                      \
    MASK(every_or_window, KEYS_EXACT, "k <= q and (q - k < 6 or k % 4 == 1)", k <= q && (q - k < 6 || k % 4 == 1))     \
    MASK(every_two, KEYS_EXACT, "k <= q and k % 6 == 1 and k % 4 == 3", k <= q && k % 12 == 7)                         \
    MASK(every_neither, KEYS_EXACT, "k % 6 == 1 and k % 4 == 2", false)                                                \
    MASK(every_of_either, KEYS_EXACT, "k <= q and (k % 6 == 1 or k % 4 == 2)", k <= q && (k % 6 == 1 || k % 4 == 2))   \
    MASK(every_in_chunk, KEYS_EXACT, "k <= q and q / 16 == k / 16 and k % 3 == 2",                                     \
         k <= q && q / 16 == k / 16 && k % 3 == 2)                                                                     \
    MASK(every_by_head, KEYS_EXACT, "k <= q and (k + h) % (h + 2) == 1", k <= q && (k + h) % (h + 2) == 1)             \
    MASK(every_remainder_by_head, KEYS_EXACT, "k <= q and k % 3 == h", k <= q && k % 3 == h)                           \
    MASK(every_far_away, KEYS_EXACT, "k <= q and k > q - 9000000000000000000 and k % 7 == 2", k <= q && k % 7 == 2)     \
    MASK(every_once, KEYS_EXACT, "k <= q and k % 2147483647 == 9", k <= q && k == 9)                                   \
    MASK(every_document, SOUND, "k <= q and k % 3 == 1 and doc.q == doc.k",                                            \
         k <= q && k % 3 == 1 && s->world.doc[q] == s->world.doc[k])                                                   \
    MASK(same_remainder, APART_EXACT, "k <= q and (q - k) % 6 == 0", k <= q && (q - k) % 6 == 0)                       \
    MASK(same_remainder_scaled, APART_EXACT, "(4 * q - 3 * k) % 10 == 1 and k <= q",                                   \
         md(4 * q - 3 * k, 10) == 1 && k <= q)                                                                         \
    MASK(two_remainders, APART_EXACT, "k <= q and (q - k) % 6 == 0 and (q + k) % 4 == 2",                              \
         k <= q && (q - k) % 6 == 0 && (q + k) % 4 == 2)                                                               \
    MASK(window_or_remainder, ROWS_EXACT, "k <= q and (q - k < 5 or (q - k) % 6 == 0)",                                \
         k <= q && (q - k < 5 || (q - k) % 6 == 0))                                                                    \
    MASK(window_sinks_or_remainder, ROWS_EXACT, "(k < 3 or (q - k) % 6 == 0 or q - k < 5) and k <= q",                 \
         k <= q && (k < 3 || q - k < 5 || (q - k) % 6 == 0))                                                           \
    MASK(window_or_stride_in_documents, SOUND, "k <= q and (q - k < 5 or (q - k) % 6 == 0) and doc.q == doc.k",        \
         k <= q && (q - k < 5 || (q - k) % 6 == 0) && s->world.doc[q] == s->world.doc[k])                              \
    MASK(each_causal, ROWS_EXACT, "k <= q and q - k < 5 or (q - k) % 6 == 0 and k <= q",                               \
         k <= q && (q - k < 5 || (q - k) % 6 == 0))                                                                    \
    MASK(remainder_of_half_row, ROWS_EXACT, "k <= q and (q / 2 - k) % 5 == 0", k <= q && md(q / 2 - k, 5) == 0)        \
    MASK(remainder_of_row, ROWS_EXACT, "k % 7 == q / 4", k % 7 == q / 4)                                               \
    MASK(vertical_by_head, SOUND, "k <= q and (q / 4 - k / 4 < 2 or (k / 4 + h + 1) % 3 == 0)",                        \
         k <= q && (q / 4 - k / 4 < 2 || (k / 4 + h + 1) % 3 == 0))                                                    \
    MASK(bigbird, SOUND, "abs(q / 4 - k / 4) <= 1 or k < 4 or q < 4 or k / 4 == grid[q / 8 % 5, 2]",                   \
         distance(q / 4, k / 4) <= 1 || k < 4 || q < 4 || k / 4 == (long)s->world.grid[q / 8 % 5 * GRID_COLUMNS + 2])  \
    MASK(longformer, SOUND, "abs(q - k) <= 3 or q % 16 == 0 or k % 16 == 0",                                           \
         distance(q, k) <= 3 || q % 16 == 0 || k % 16 == 0)                                                            \
    MASK(documents, SOUND, "k <= q and doc.q == doc.k", k <= q && s->world.doc[q] == s->world.doc[k])                  \
    MASK(images, SOUND, "(k <= q or doc.q == doc.k and doc.q >= 0) and q - k < 9",                                     \
         (k <= q || (s->world.doc[q] == s->world.doc[k] && s->world.doc[q] >= 0)) && q - k < 9)                        \
    MASK(band_to_one_side, EXACT, "-2 <= q - k and q - k <= 5", q - k >= -2 && q - k <= 5)                             \
    MASK(streaming, EXACT, "(k < 4 or q - k < 6) and k <= q", (k < 4 || q - k < 6) && k <= q)                          \
    MASK(prefix_by_attribute, SOUND, "k <= q or doc.k == 1", k <= q || s->world.doc[k] == 1)                           \
    MASK(global_tokens, SOUND, "abs(q - k) <= 3 or doc.q == 1 or doc.k == 1",                                          \
         distance(q, k) <= 3 || s->world.doc[q] == 1 || s->world.doc[k] == 1)                                          \
    MASK(blocks, SOUND, "bits[q / 10, k / 8] > 0.5", s->world.grid[q / 10 * GRID_COLUMNS + k / 8] > 0.5)               \
    MASK(not_blocks, SOUND, "not bits[q / 10, k / 8] * -2.0 > 0.5",                                                    \
         !(s->world.grid[q / 10 * GRID_COLUMNS + k / 8] * -2 > 0.5))                                                   \
    MASK(row_phase, ROWS_EXACT, "k <= q and q % 8 < 3", k <= q && q % 8 < 3)                                           \
    MASK(floor_of_difference, ROWS_EXACT, "(q - k) / 8 == 1", fl(q - k, 8) == 1)                                       \
    MASK(remainder_by_attribute, SOUND, "k % (abs(doc.q) + 2) < 2", k % (labs(s->world.doc[q]) + 2) < 2)               \
    MASK(quotient_by_attribute, SOUND, "(k - 9) / (abs(doc.q) + 2) < 2", fl(k - 9, labs(s->world.doc[q]) + 2) < 2)     \
    MASK(remainder_of_negative, SOUND, "(k - q) % 5 == 2", md(k - q, 5) == 2)

#define MASK(name, exact, text, truth)                                                                                 \
    static bool truth_##name(const subject *s, long q, long k, long h)                                                 \
    {                                                                                                                  \
        (void)s, (void)q, (void)k, (void)h;                                                                            \
        return truth;                                                                                                  \
    }
MASKS
#undef MASK

static const struct named_mask {
    const char *name, *text;
    int exact;
    bool (*truth)(const subject *, long, long, long);
} named_masks[] = {
#define MASK(name, exact, text, truth) {#name, text, exact, truth_##name},
    MASKS
#undef MASK
};

static subject *named_subject(arena *a, const struct named_mask *m, long h, unsigned long long *random)
{
    subject *s = ARENA_NEW(a, subject);
    s->name = m->name, s->keys = KEYS, s->h = h;
    formula_world_fill(&s->world, random);
    for (int i = 0; i < WIN_SIZE; i++) s->world.win[i]++; /* a window holds at least one token */
    for (int i = 0; i < GRID_ROWS * GRID_COLUMNS; i++)    /* block rows of one kind, so that tiles are decided */
        s->world.grid[i] = (double)((i / 2) % 3);
    s->module = make_module(a, &s->world);
    s->mask = expr_simplify_by_range(s->module->pool, read_mask(s->module->pool, m->text));
    s->ranges = ranges_compute(s->module->pool, s->mask, 0);
    for (long q = 0; q <= LAST_ROW; q++)
        for (long k = 0; k < KEYS; k++)
            s->seen[q][k] = q < 50 || !strstr(m->name, "blocks") ? m->truth(s, q, k, h) : false;
    return s;
}

static void masks_of_the_prelude(void)
{
    unsigned long long random = seed;
    int swept = 0;
    for (size_t i = 0; i < ATTNC_COUNT(named_masks); i++) {
        for (long h = 0; h < HEADS; h++) {
            arena *a = arena_create(0, NULL, NULL);
            const struct named_mask *m = &named_masks[i];
            subject *s = named_subject(a, m, h, &random);
            looseness loose = {0};
            int before = check_current;
            check_everything(s, &random, 40, &loose);
            swept += check_sweeps(s, &random, 40);
            if (m->exact & ROWS_EXACT) CHECK_MSG(s->ranges->exact_rows, "%s should be exact on rows", m->name);
            if ((m->exact & APART_EXACT) == APART_EXACT)
                CHECK_MSG(s->ranges->row_step && !loose.apart, "%s: step %u, %ld keys not exact", m->name,
                          (unsigned)s->ranges->row_step, loose.apart);
            if ((m->exact & KEYS_EXACT) == KEYS_EXACT)
                CHECK_MSG(!loose.rows, "%s: %ld keys not exact", m->name, loose.rows);
            if (m->exact & TILES_EXACT) CHECK_MSG(!loose.tiles, "%s: %ld tiles not exact", m->name, loose.tiles);
            if (m->exact & LIVE_EXACT) CHECK_MSG(!loose.live, "%s: %ld keys kept for nothing", m->name, loose.live);
            if (check_current != before) explain(s, m->text);
            arena_destroy(a);
        }
    }
    CHECK_MSG(swept == 4 * HEADS, "%d masks have halves", swept);
}

/* ---- random formulas --------------------------------------------------------------------------------------------- */
static looseness total;
static long swept_formulas, checked_formulas, exact_formulas, promised_rows;

static void try_formula(unsigned long long *random, int kind)
{
    arena *a = arena_create(0, NULL, NULL);
    formula_maker maker = {.arena = a, .random = random, .uniform = kind >= 1, .data = kind >= 2, .huge = kind == 3};
    const formula *f = formula_bool(&maker, 3);
    text t = {.arena = a};
    formula_text(f, &t);
    subject *s = ARENA_NEW(a, subject);
    s->name = "random", s->keys = 24, s->h = (long)(check_random(random) % HEADS);
    formula_world_fill(&s->world, random);
    s->module = make_module(a, &s->world);
    s->mask = read_mask(s->module->pool, text_get(&t));
    if (check_random(random) % 2) s->mask = expr_simplify_by_range(s->module->pool, s->mask);
    s->ranges = ranges_compute(s->module->pool, s->mask, 0);
    int_range r;
    if (!expr_range(s->module->pool, s->mask, EXPR_MAX_POSITION, &r)) { /* refused before the analysis */
        arena_destroy(a);
        return;
    }
    checked_formulas++;
    for (long q = 0; q <= LAST_ROW; q++)
        for (long k = 0; k < s->keys; k++) s->seen[q][k] = formula_value(f, &s->world, q, k, s->h) != 0;
    looseness loose = {0};
    int before = check_current;
    check_everything(s, random, 6, &loose);
    swept_formulas += check_sweeps(s, random, 4);
    if (check_current != before) explain(s, text_get(&t));
    exact_formulas += !loose.rows;
    promised_rows += s->ranges->exact_rows;
    total.rows += loose.rows, total.tiles += loose.tiles, total.live += loose.live;
    arena_destroy(a);
}

static void random_formulas(void)
{
    static const char *const kinds[] = {"positions", "positions, heads, tables by head", "attributes and tables too",
                                        "all of it, and huge constants"};
    for (int kind = 0; kind < 4; kind++) {
        unsigned long long random = seed + (unsigned)kind * 1000003u;
        swept_formulas = checked_formulas = exact_formulas = promised_rows = 0;
        for (long i = 0; i < formulas; i++) try_formula(&random, kind);
        printf("  %ld random formulas over %s: %ld exact on all tiles tried, %ld promise exact rows, %ld have halves\n",
               checked_formulas, kinds[kind], exact_formulas, promised_rows, swept_formulas);
    }
}

/* ---- large masks ------------------------------------------------------------------------------------------------- */
static double seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }

static expr chain(expr_pool *p, expr_op junction, const char *format, int terms)
{
    expr e = 0;
    for (int i = 0; i < terms; i++) {
        char one[128];
        snprintf(one, sizeof one, format, i * 3, i * 7 % 100 + 2);
        expr x = read_mask(p, one);
        e = e ? expr_binary(p, junction, e, x) : x;
    }
    return e;
}

static void long_chains(void)
{
    static const struct {
        expr_op junction;
        const char *format;
        int k_seen; /* by row 600 */
    } chains[] = {{EXPR_OR, "k == %d and q > %d", 300},
                  {EXPR_OR, "k == q - %d * h and k < %d * 10", -1},
                  {EXPR_AND, "k != q - %d * (h + 1) or q < %d", -1},
                  {EXPR_AND, "k + %d >= q / %d", 599},
                  {EXPR_OR, "doc.q == %d and doc.k < %d", -1},
                  {EXPR_AND, "if q < %d then doc.k < %d else k < q", -1}};
    for (size_t i = 0; i < ATTNC_COUNT(chains); i++) {
        arena *a = arena_create((size_t)1 << 30, NULL, NULL);
        formula_world w = {{0}, {0}, {0}};
        ir_module *m = make_module(a, &w);
        double start = seconds();
        ranges *r = ranges_compute(m->pool, chain(m->pool, chains[i].junction, chains[i].format, 10000), 0);
        CHECK_MSG(seconds() - start < 20, "%s: too slow", chains[i].format);
        expr_env env = {0};
        env.var[VAR_Q0] = env.var[VAR_Q1] = 600;
        key_interval x[RANGES_MAX_INTERVALS];
        uint32_t n = ranges_evaluate(m->pool, r, RANGES_MAY, &env, 1000, x);
        if (chains[i].k_seen >= 0) CHECK_MSG(inside(x, n, chains[i].k_seen), "%s", chains[i].format);
        CHECK(r->n_may <= RANGES_MAX_INTERVALS && r->n_must <= RANGES_MAX_INTERVALS && r->n_data <= RANGES_MAX_DATA);
        arena_destroy(a);
    }
}

/* Shared parts make trees exponential; the analysis gives up in time. */
static void exponential_sharing(void)
{
    arena *a = arena_create((size_t)1 << 30, NULL, NULL);
    formula_world w = {{0}, {0}, {0}};
    ir_module *m = make_module(a, &w);
    expr_pool *p = m->pool;
    expr q = expr_variable(p, VAR_Q), k = expr_variable(p, VAR_K), x = q, y = q, z = expr_binary(p, EXPR_LT, k, q);
    for (int i = 1; i < 80; i++) {
        x = expr_binary(p, EXPR_MAX, expr_binary(p, EXPR_DIV, expr_binary(p, EXPR_ADD, x, k), expr_int(p, 3)),
                        expr_binary(p, EXPR_SUB, k, x));
        y = expr_binary(p, EXPR_ADD, expr_binary(p, EXPR_MOD, y, expr_int(p, i + 2)),
                        expr_binary(p, EXPR_DIV, y, expr_int(p, i + 7)));
        z = expr_binary(
            p, i % 2 ? EXPR_AND : EXPR_OR, expr_unary(p, EXPR_NOT, z),
            expr_binary(p, EXPR_OR, z, expr_binary(p, EXPR_LT, expr_int(p, i), expr_binary(p, EXPR_SUB, q, k))));
    }
    ranges *r = ranges_compute(p, expr_binary(p, EXPR_LT, x, q), 0);
    CHECK(r->n_undecided == 1 && !r->exact_rows && r->n_may == 1 && r->n_must == 0);
    r = ranges_compute(p, expr_binary(p, EXPR_LT, k, y), 0);
    CHECK(!r->exact_rows || r->n_undecided == 0);
    r = ranges_compute(p, z, 0);
    CHECK(r->n_may <= RANGES_MAX_INTERVALS);
    arena_destroy(a);
}

/* ---- the text of some results: what reports show ----------------------------------------------------------------- */
static const char *list_text(const ir_module *m, const interval *x, uint32_t n)
{
    text t = {.arena = m->arena};
    for (uint32_t i = 0; i < n; i++) {
        if (i) text_add(&t, " ");
        text_add(&t, "["), expr_print(m->pool, x[i].lo, &t), text_add(&t, ", ");
        expr_print(m->pool, x[i].hi, &t);
        if (x[i].step) text_add(&t, ", "), expr_print(m->pool, x[i].step, &t);
        text_add(&t, "]");
    }
    return text_get(&t);
}

static void results_are_simple(void)
{
    arena *a = arena_create(0, NULL, NULL);
    formula_world w = {{0}, {0}, {0}};
    ir_module *m = make_module(a, &w);
    ranges *r = ranges_compute(m->pool, read_mask(m->pool, "k <= q and k / 8192 == q / 8192"), 0);
    CHECK_STR(list_text(m, r->may, r->n_may), "[q0 / 8192 * 8192, q1]");
    CHECK_STR(list_text(m, r->must, r->n_must), "[q1 / 8192 * 8192, q0]");
    CHECK_STR(list_text(m, r->live, r->n_live), "[q0 / 8192 * 8192, 4611686018427387904]");
    r = ranges_compute(m->pool, read_mask(m->pool, "k <= q and q - k < 128"), 0);
    CHECK_STR(list_text(m, r->may, r->n_may), "[q0 - 127, q1]");
    r = ranges_compute(m->pool, read_mask(m->pool, "q - k < 10 and h < 3"), 0);
    CHECK_STR(list_text(m, r->may, r->n_may), "[q0 - 9, if h < 3 then 4611686018427387904 else -1]");
    r = ranges_compute(m->pool, read_mask(m->pool, "k <= q and doc.q == doc.k"), 0);
    CHECK_STR(list_text(m, r->must, r->n_must), "[0, if must#0 then q0 else -1]");
    CHECK(r->n_data == 1 && !r->exact_rows);
    r = ranges_compute(m->pool, read_mask(m->pool, "k <= q and (q - k) % 3 == 0 and q - k < 4000000000000000000 * h"),
                       0);
    CHECK(r->n_undecided == 1 && r->row_step == 3); /* the last may leave 64 bits */
    r = ranges_compute(m->pool, read_mask(m->pool, "k <= q and k % 64 == 0"), 0);
    CHECK_STR(list_text(m, r->may, r->n_may), "[0, q1, 64]");
    CHECK_STR(list_text(m, r->must, r->n_must), "[0, q0, 64]");
    CHECK_STR(list_text(m, r->live, r->n_live), "[0, 4611686018427387904]");
    CHECK(!r->n_undecided && r->exact_rows);
    r = ranges_compute(m->pool, read_mask(m->pool, "k <= q and q - k < 9 and (k + 3) % 64 == 0"), 0);
    CHECK_STR(list_text(m, r->may, r->n_may), "[q0 + (69 - q0) % 64 - 8, q1, 64]");
    r = ranges_compute(m->pool, read_mask(m->pool, "(q - k) % 64 == 0"), 0);
    CHECK_STR(list_text(m, r->must, r->n_must),
              "[q0 % 64, if q0 == q1 or 0 < row_step and row_step % 64 == 0 then 4611686018427387904 else -1, 64]");
    CHECK(r->n_undecided == 0 && r->row_step == 64 && r->exact_rows);
    expr_env env = {.var[VAR_Q0] = 37, .var[VAR_Q1] = 85, .var[VAR_ROW_STEP] = 48}; /* they agree modulo 16 */
    key_interval some[RANGES_MAX_INTERVALS];
    CHECK(ranges_evaluate(m->pool, r, RANGES_MAY, &env, 90, some) == 1);
    CHECK(some[0].lo == 5 && some[0].hi == 85 && some[0].step == 16);
    CHECK(ranges_evaluate(m->pool, r, RANGES_MUST, &env, 90, some) == 0);
    r = ranges_compute(m->pool, read_mask(m->pool, "(q - k) % 64 == 0 or (q - k) % 48 == 1 and k <= q"), 0);
    CHECK(r->n_undecided == 0 && r->row_step == 192);
    r = ranges_compute(m->pool, read_mask(m->pool, "(q - k) % 64 == 0 or (q * q - k) % 4 == 0"), 0);
    CHECK(r->n_undecided == 2 && !r->row_step && r->exact_rows);
    arena_destroy(a);
}

/* A NaN in a table: comparisons with it are false, so neither a wrong EMPTY nor a wrong FULL may follow. */
static void nan_in_a_table(void)
{
    arena *a = arena_create(0, NULL, NULL);
    formula_world w = {{0}, {0}, {0}};
    ir_module *m = make_module(a, &w);
    const char *const masks[] = {"bits[q, k] > 0.5", "bits[q, k] <= 0.5", "not bits[q, k] > 0.5",
                                 "not (bits[q, k] == 1.0)", "bits[q, k] == 1.0"};
    for (size_t i = 0; i < ATTNC_COUNT(masks); i++) {
        ranges *r = ranges_compute(m->pool, read_mask(m->pool, masks[i]), 0);
        for (int nan_first = 0; nan_first < 2; nan_first++) {
            double values[GRID_ROWS * GRID_COLUMNS] = {nan_first ? strtod("nan", NULL) : 1,
                                                       nan_first ? 1 : strtod("nan", NULL)};
            const double *tables[3] = {NULL, NULL, values};
            expr_env env = {.tables = tables};
            env.var[VAR_K1] = 1;
            CHECK_MSG(ranges_classify(m->pool, r, &env) == TILE_PARTIAL, "%s", masks[i]);
        }
    }
    arena_destroy(a);
}

/* ---- len -----------------------------------------------------------------------------------------------------------
 */

/* A key lives when a query to come may see it, in a text of whatever length up to the longest. */
static bool lives_for_some_len(const expr_pool *p, expr mask, long n, long k, long longest)
{
    for (long len = n + 1; len <= longest; len++)
        for (long q = n; q < len; q++) {
            expr_env env = {0};
            env.var[VAR_Q] = q, env.var[VAR_K] = k, env.var[VAR_LEN] = len;
            if (expr_eval(p, mask, &env).i) return true;
        }
    return false;
}

static void every_len(void)
{
    enum { LONGEST = 40 };
    static const struct {
        const char *mask;
        bool exact;
    } masks[] = {{"k <= q and q - k < 2 + len / 4", true},
                 {"k <= q and q - k < 30 - len / 2", true},
                 {"k <= q and q - k < (if len > 20 then 12 else 5)", false},
                 {"k <= q and (k < 3 or q - k < 1 + len % 7)", false},
                 {"k <= q and q - k < min(len, 9) - max(len / 9, 1)", false},
                 {"k <= q and (q + 3 >= len or q - k < 4)", false},
                 {"k >= len - 6 and k <= q", false},
                 {"k <= q and len - k > 8 and q - k < 15", false},
                 {"if len < 16 then k <= q else k <= q and q - k < 6", false}};
    for (size_t i = 0; i < ATTNC_COUNT(masks); i++) {
        arena *a = arena_create((size_t)1 << 30, NULL, NULL);
        formula_world w = {{0}, {0}, {0}};
        ir_module *m = make_module(a, &w);
        expr mask = read_mask(m->pool, masks[i].mask);
        const ranges *r = ranges_compute(m->pool, mask, LONGEST);
        CHECK_MSG(r->live_of_len || !masks[i].exact, "%s", masks[i].mask);
        for (uint32_t j = 0; j < r->n_live; j++)
            CHECK_MSG(!expr_reads_var(m->pool, r->live[j].lo, VAR_LEN) &&
                          !expr_reads_var(m->pool, r->live[j].hi, VAR_LEN),
                      "%s: live reads len", masks[i].mask);
        for (long n = 0; n < LONGEST; n++) {
            expr_env env = {0};
            env.var[VAR_Q0] = n;
            key_interval x[RANGES_MAX_INTERVALS];
            const uint32_t count = ranges_evaluate(m->pool, r, RANGES_LIVE, &env, n, x);
            for (long k = 0; k < n; k++) {
                const bool lives = lives_for_some_len(m->pool, mask, n, k, LONGEST), kept = inside(x, count, k);
                CHECK_MSG(kept || !lives, "%s: live key %ld dropped after %ld tokens", masks[i].mask, k, n);
                CHECK_MSG(kept == lives || !masks[i].exact, "%s: key %ld is kept after %ld tokens", masks[i].mask, k,
                          n);
            }
        }
        arena_destroy(a);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1) formulas = strtol(argv[1], NULL, 10);
    if (argc > 2) seed = strtoull(argv[2], NULL, 10);
    printf("seed %llu, %ld formulas of each kind\n", seed, formulas);
    RUN(results_are_simple);
    RUN(masks_of_the_prelude);
    RUN(random_formulas);
    RUN(nan_in_a_table);
    RUN(every_len);
    RUN(long_chains);
    RUN(exponential_sharing);
    return CHECK_DONE();
}
