/* live_groups_test.c - heads that are put together live together: the groups against what each head's `live` says,
 * number by number.
 *
 *     live_groups_test [random formulas [seed]]
 */
#include "ir/pattern/live_groups.h"
#include "tests/unit/formula.h"

#include <stdint.h>

enum { MOST_LAYERS = 6, MOST_HEADS = 8, LENGTHS = 70 };
static long formulas = 300;
static unsigned long long seed = 20260701;

/* ---- models ------------------------------------------------------------------------------------------------------ */

typedef struct kind_text {
    const char *mask;
    int q_heads, kv_heads;
    int kv_layer; /* -1: its own */
} kind_text;

static expr read_expr(expr_pool *p, const char *source)
{
    const char *at = source, *error = NULL;
    expr e = expr_read(p, &at, &error);
    CHECK_MSG(e && !*at, "%s: %s at `%s`", source, error ? error : "not read to the end", at);
    return e;
}

/* The layers' kinds as digits: "0012". */
static ir_module *make_model(arena *a, const char *layers, const kind_text *kinds, size_t n_kinds, formula_world *w)
{
    static double win[MOST_LAYERS * MOST_HEADS];
    ir_module *m = ir_module_create(a, "test");
    for (int i = 0; i < MOST_LAYERS * MOST_HEADS; i++) win[i] = i % 3 == 0 ? 4 : i % 3 == 1 ? 9 : 30;
    VEC_PUSH(a, &m->symbols.attrs, "doc");
    table run_time = {"win", TYPE_INT, 1, {WIN_SIZE}, NULL},
          grid = {"grid", TYPE_INT, 2, {GRID_ROWS, GRID_COLUMNS}, w->grid};
    table by_layer = {"size", TYPE_INT, 2, {MOST_LAYERS, MOST_HEADS}, win};
    VEC_PUSH(a, &m->symbols.tables, run_time);
    VEC_PUSH(a, &m->symbols.tables, grid);
    VEC_PUSH(a, &m->symbols.tables, by_layer);
    m->layers = (uint32_t)strlen(layers);
    m->schedule = ARENA_ARRAY(a, uint32_t, m->layers);
    for (uint32_t l = 0; l < m->layers; l++) m->schedule[l] = (uint32_t)(layers[l] - '0');
    for (size_t i = 0; i < n_kinds; i++) {
        pattern *p = ARENA_NEW(a, pattern);
        p->name = "p", p->shape = (shape){.q_heads = kinds[i].q_heads, .kv_heads = kinds[i].kv_heads, .dim = 16, .dim_v = 16};
        p->kv_shared = kinds[i].kv_layer >= 0, p->kv_layer = p->kv_shared ? (uint32_t)kinds[i].kv_layer : 0;
        p->mask = expr_simplify_by_range(m->pool, read_expr(m->pool, kinds[i].mask));
        p->ranges = ranges_compute(m->pool, p->mask, 0);
        VEC_PUSH(a, &m->patterns, p);
    }
    return m;
}

static live_groups groups_of(const ir_module *m, uint32_t kind)
{
    const ranges *by_kind[4];
    for (size_t i = 0; i < m->patterns.n; i++) by_kind[i] = m->patterns.at[i]->ranges;
    return live_groups_compute(m, by_kind, kind);
}

/* ---- brute force ------------------------------------------------------------------------------------------------- */

typedef struct head_life {
    bool lives[LENGTHS][LENGTHS]; /* after n tokens, key k */
} head_life;

static void add_life(head_life *to, const ir_module *m, const double *const *tables, uint32_t layer, int64_t g)
{
    const pattern *p = m->patterns.at[m->schedule[layer]];
    const int64_t per = p->shape.q_heads / p->shape.kv_heads;
    key_interval x[RANGES_MAX_INTERVALS];
    for (int64_t h = g * per; h < (g + 1) * per; h++)
        for (int64_t n = 0; n < LENGTHS; n++) {
            expr_env env = {.tables = tables};
            env.var[VAR_Q0] = n, env.var[VAR_H] = h, env.var[VAR_G] = g, env.var[VAR_LAYER] = layer;
            const uint32_t count = ranges_evaluate(m->pool, p->ranges, RANGES_LIVE, &env, n, x);
            for (uint32_t i = 0; i < count; i++)
                for (int64_t k = x[i].lo; k <= x[i].hi; k++) to->lives[n][k] = true;
        }
}

static head_life life_of(const ir_module *m, const double *const *tables, uint32_t layer, int64_t g)
{
    head_life out = {{{0}}};
    add_life(&out, m, tables, layer, g);
    for (uint32_t l = layer + 1; l < m->layers; l++) {
        const pattern *p = m->patterns.at[m->schedule[l]];
        if (p->kv_shared && p->kv_layer == layer) add_life(&out, m, tables, l, g);
    }
    return out;
}

/* Heads of a group live alike, and the group's own list says how. How many different lives there are. */
static uint32_t check_groups(const char *name, const ir_module *m, const live_groups *x, uint32_t kind,
                             const double *const *tables)
{
    const int64_t kv_heads = m->patterns.at[kind]->shape.kv_heads;
    static head_life of_group[MOST_LAYERS * MOST_HEADS], different[MOST_LAYERS * MOST_HEADS];
    bool seen[MOST_LAYERS * MOST_HEADS] = {0};
    uint32_t n_different = 0, counted[MOST_LAYERS * MOST_HEADS] = {0};
    for (uint32_t l = 0; l < m->layers; l++)
        for (int64_t g = 0; g < kv_heads && m->schedule[l] == kind; g++) {
            const uint32_t i = x->of ? x->of[l * kv_heads + g] : 0;
            const head_life life = life_of(m, tables, l, g);
            CHECK_MSG(i < x->n, "%s: group %u of %u", name, i, x->n);
            if (seen[i])
                CHECK_MSG(!memcmp(&life, &of_group[i], sizeof life), "%s: layer %u, KV head %lld lives in another way",
                          name, l, (long long)g);
            seen[i] = true, of_group[i] = life, counted[i]++;
            uint32_t d = 0;
            while (d < n_different && memcmp(&different[d], &life, sizeof life) != 0) d++;
            if (d == n_different) different[n_different++] = life;
        }
    for (uint32_t i = 0; i < x->n; i++)
        CHECK_MSG(seen[i] && counted[i] == x->at[i].kv_heads, "%s: heads of group %u", name, i);
    for (uint32_t i = 0; i < x->n; i++)
        for (int64_t n = 0; n < LENGTHS; n++)
            for (int64_t k = 0; k < n; k++) {
                bool lives = false;
                expr_env env = {.tables = tables};
                env.var[VAR_Q0] = n;
                for (uint32_t j = 0; j < x->at[i].n_live; j++)
                    lives |= expr_eval(m->pool, x->at[i].live[j].lo, &env).i <= k &&
                             k <= expr_eval(m->pool, x->at[i].live[j].hi, &env).i;
                CHECK_MSG(lives == of_group[i].lives[n][k], "%s: group %u, key %lld after %lld tokens", name, i,
                          (long long)k, (long long)n);
            }
    return n_different;
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

static const struct named {
    const char *name, *layers;
    kind_text kinds[3];
    size_t n_kinds;
    uint32_t groups; /* of kind 0 */
} named[] = {
    {"one kind", "0000", {{"k <= q and q - k < 7", 8, 4, -1}}, 1, 1},
    {"duo attention",
     "0000",
     {{"if g == 0 or g == 2 then k <= q else (k < 3 or q - k < 7) and k <= q", 8, 4, -1}},
     1,
     2},
    {"all heads of a group count", "00", {{"k <= q and (h == 3 or q - k < 7)", 8, 2, -1}}, 1, 2},
    {"a window per head", "000", {{"k <= q and q - k < size[0, h]", 4, 4, -1}}, 1, 3},
    {"a window per layer and head", "000000", {{"k <= q and q - k < size[layer, h]", 8, 8, -1}}, 1, 3},
    {"windows that hold others", "000", {{"k <= q and q - k < size[0, h]", 8, 2, -1}}, 1, 1},
    {"limits that never hold", "00", {{"k <= q and q - k < (if h == 1 then 2147483647 else 5)", 4, 4, -1}}, 1, 2},
    {"chunks per layer", "000", {{"k <= q and q / (8 + layer) == k / (8 + layer)", 4, 2, -1}}, 1, 3},
    {"only early layers, some heads", "000000", {{"k <= q and (q - k < 5 or layer < 2 and g == 1)", 4, 4, -1}}, 1, 2},
    {"windows given at run time", "00", {{"k <= q and q - k < win[h]", 4, 4, -1}}, 1, 4},
    {"a wider reader", "0010", {{"k <= q and q - k < 5", 4, 2, -1}, {"k <= q and q - k < 9", 8, 2, 1}}, 2, 2},
    {"a narrower reader", "0010", {{"k <= q and q - k < 5", 4, 2, -1}, {"k <= q and q - k < 3", 4, 2, 1}}, 2, 1},
    {"a reader that is wide for one head",
     "00011",
     {{"k <= q and q - k < 5", 4, 4, -1}, {"k <= q and (g == 2 or q - k < 5)", 8, 4, 1}},
     2,
     2},
    {"two readers, by layer",
     "0012",
     {{"k <= q and q - k < 5", 2, 2, -1}, {"k <= q and q - k < 5 + layer", 2, 2, 1}, {"k <= q and k < 2", 2, 2, 0}},
     3,
     2},
};

static void named_models(void)
{
    for (size_t i = 0; i < ATTNC_COUNT(named); i++) {
        const struct named *t = &named[i];
        arena *a = arena_create((size_t)1 << 30, NULL, NULL);
        formula_world w;
        unsigned long long random = seed;
        formula_world_fill(&w, &random);
        const double windows[WIN_SIZE] = {4, 9, 17, 30}, *tables[] = {windows, NULL, NULL};
        const ir_module *m = make_model(a, t->layers, t->kinds, t->n_kinds, &w);
        const live_groups x = groups_of(m, 0);
        const uint32_t different = check_groups(t->name, m, &x, 0, tables);
        CHECK_MSG(x.n == t->groups && different == t->groups, "%s: %u groups, %u lives, not %u", t->name, x.n,
                  different, t->groups);
        arena_destroy(a);
    }
}

static void random_formulas(void)
{
    unsigned long long random = seed;
    long told_apart = 0;
    for (long i = 0; i < formulas; i++) {
        arena *a = arena_create((size_t)1 << 30, NULL, NULL);
        formula_maker maker = {.arena = a, .random = &random, .uniform = true};
        formula_world w;
        text t = {.arena = a};
        formula_world_fill(&w, &random);
        formula_text(formula_bool(&maker, 3), &t);
        const kind_text kinds[] = {{text_get(&t), 4, 2, -1}, {"q - k < 3 + h + layer", 8, 2, 0}};
        const double *tables[] = {w.win, NULL, NULL};
        const ir_module *m = make_model(a, i % 2 ? "000" : "001", kinds, 2, &w);
        const live_groups x = groups_of(m, 0);
        check_groups(kinds[0].mask, m, &x, 0, tables);
        told_apart += x.n > 1;
        arena_destroy(a);
    }
    CHECK_MSG(told_apart > formulas / 10, "only %ld formulas have several groups", told_apart);
}

/* More heads that differ than a cache takes: one group, said by n = 0. */
static void too_many(void)
{
    arena *a = arena_create((size_t)1 << 30, NULL, NULL);
    formula_world w;
    unsigned long long random = seed;
    formula_world_fill(&w, &random);
    const kind_text by_layer = {"k <= q and q - k < 2 + h + 64 * layer", 64, 64, -1};
    char layers[66] = "";
    memset(layers, '0', 65);
    CHECK(groups_of(make_model(a, layers, &by_layer, 1, &w), 0).n == 0);
    layers[64] = 0;
    CHECK(groups_of(make_model(a, layers, &by_layer, 1, &w), 0).n == LIVE_MAX_GROUPS);
    arena_destroy(a);
}

int main(int argc, char **argv)
{
    if (argc > 1) formulas = strtol(argv[1], NULL, 10);
    if (argc > 2) seed = strtoull(argv[2], NULL, 10);
    printf("seed %llu, %ld formulas\n", seed, formulas);
    RUN(named_models);
    RUN(random_formulas);
    RUN(too_many);
    return CHECK_DONE();
}
