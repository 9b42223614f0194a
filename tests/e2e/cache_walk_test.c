/* cache_walk_test.c - random patterns, and random walks over the operations of their caches.
 *
 *     cache_walk_test [PATTERNS [WALKS [SEED [FIRST]]]]      so many patterns, so many walks over each
 *
 * Pattern i is made from SEED + i alone, walk j over it from that and FIRST + j: `cache_walk_test 1 1 SEED FIRST`
 * repeats one. */
#include "tests/e2e/cached.h"
#include "tests/e2e/random_pattern.h"

#include <stdio.h>
#include <stdlib.h>

enum { WALK_TEXTS = 6, WALK_OPERATIONS = 24, WALK_TOKENS = 90 };

typedef struct walk {
    random_pattern *r;
    cached x;
    cached_text *texts[WALK_TEXTS]; /* NULL: none */
    int64_t furthest[WALK_TEXTS];
    int64_t rollback;
    enum { NO_BUDGET, BUDGET_IS_BOUND, SMALL_BUDGET } budget;
    unsigned long long values;
} walk;

/* Some query that is there sees a key of the next m tokens: then, and only then, a step may be refused. */
static bool sees_ahead(const walk *w, const cached_text *t, uint32_t layer, int64_t m)
{
    const e2e_call *c = &t->call[layer];
    const attn_module_desc *d = attn_module_describe(w->x.m->loaded);
    int64_t attr[4 * E2E_MAX_NAMED];
    attn_range_args a = {.size = sizeof a,
                         .layer = c->layer,
                         .attr = attr,
                         .inputs = (const void *const *)w->x.input_data,
                         .len = t->n + m};
    for (int64_t i = 0; i < t->n * m * d->kinds[d->schedule[c->layer]]->q_heads; i++) {
        a.q0 = a.q1 = i / m % t->n, a.k0 = a.k1 = t->n + i % m, a.h = i / m / t->n;
        a.g = a.h / (c->kind->q_heads / c->kind->kv_heads);
        for (uint32_t k = 0; k < d->n_attrs; k++) {
            attr[4 * k] = attr[4 * k + 1] = c->q_attrs[k][a.q0];
            attr[4 * k + 2] = attr[4 * k + 3] = c->q_attrs[k][a.k0];
        }
        if (c->kind->visible(&a)) return true;
    }
    return false;
}

static bool may_be_refused(const walk *w, const cached_move *moves, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t l = 0; l < w->x.n_layers; l++)
            if (moves[i].m && sees_ahead(w, moves[i].text, l, moves[i].m)) return true;
    return false;
}

static int pick(const walk *w)
{
    for (int i = 0, first = random_below(w->r, WALK_TEXTS); i < WALK_TEXTS; i++)
        if (w->texts[(first + i) % WALK_TEXTS]) return (first + i) % WALK_TEXTS;
    return -1;
}

static int free_place(const walk *w)
{
    for (int i = 0; i < WALK_TEXTS; i++)
        if (!w->texts[i]) return i;
    return -1;
}

static bool end_text(walk *w, int i)
{
    const bool ok = cached_matches(&w->x, w->texts[i]) && cached_end(&w->x, w->texts[i]);
    w->texts[i] = NULL;
    return ok;
}

/* Prefill, decode and idle texts together. */
static uint32_t choose_moves(const walk *w, cached_move moves[WALK_TEXTS])
{
    static const int sizes[] = {0, 1, 1, 2, 3, 8, 20, 50};
    uint32_t n = 0;
    for (int i = 0; i < WALK_TEXTS; i++) {
        if (!w->texts[i] || !random_below(w->r, 4)) continue;
        const int64_t left = WALK_TOKENS - w->texts[i]->n, m = sizes[random_below(w->r, 8)];
        moves[n++] = (cached_move){w->texts[i], m < left ? m : left};
    }
    return n;
}

/* A step was not begun. Was that right? When there is no room, a text has to go. */
static bool refused(walk *w, bool refuse)
{
    if (w->x.last == ATTN_E_SPLIT && refuse) return true;
    if (w->x.last == ATTN_E_BUDGET && w->budget == SMALL_BUDGET) {
        const int i = pick(w);
        return i < 0 || end_text(w, i);
    }
    if (w->x.last) printf("a step was refused: %s\n  in: %s\n", attn_status_text(w->x.last), e2e_get_note());
    return false;
}

static bool step(walk *w)
{
    cached_move moves[WALK_TEXTS];
    const uint32_t n = choose_moves(w, moves);
    const bool refuse = may_be_refused(w, moves, n);
    if (!cached_step(&w->x, moves, n)) return refused(w, refuse);
    for (int i = 0; i < WALK_TEXTS; i++)
        if (w->texts[i] && w->texts[i]->n > w->furthest[i]) w->furthest[i] = w->texts[i]->n;
    return !refuse ||
           (printf("a step that parts what belongs together went through\n  in: %s\n", e2e_get_note()), false);
}

static bool cancel(walk *w)
{
    cached_move moves[WALK_TEXTS];
    const uint32_t n = choose_moves(w, moves);
    const bool refuse = may_be_refused(w, moves, n);
    return cached_cancel(&w->x, moves, n, (uint32_t)random_below(w->r, 4)) || refused(w, refuse);
}

static bool begin_text(walk *w)
{
    const int i = free_place(w);
    if (i < 0) return true;
    w->texts[i] = cached_begin(&w->x, WALK_TOKENS, ++w->values);
    w->furthest[i] = 0;
    return true;
}

static bool fork_text(walk *w, int from)
{
    const int i = free_place(w);
    if (i < 0) return true;
    w->furthest[i] = w->furthest[from];
    return (w->texts[i] = cached_fork(&w->x, w->texts[from], ++w->values)) != NULL;
}

/* Begins like another one, as far as that is known. */
static bool share_text(walk *w, int from)
{
    const int i = free_place(w);
    if (i < 0) return true;
    const cached_text *like = w->texts[from];
    const int64_t alike = random_below(w->r, (int)like->n + 1),
                  n = alike + random_below(w->r, (int)(WALK_TOKENS - alike) + 1);
    if (!(w->texts[i] = cached_share(&w->x, like, alike, n, random_below(w->r, (int)n + 1), ++w->values))) return false;
    w->furthest[i] = w->texts[i]->n;
    return true;
}

/* Not where tokens that stay have seen tokens that go: their results were right, and would not be any more. */
static bool roll_back(walk *w, int i)
{
    int64_t most = w->rollback - (w->furthest[i] - w->texts[i]->n);
    if (most > w->texts[i]->n) most = w->texts[i]->n;
    const int64_t r = random_below(w->r, (int)most + 1);
    w->texts[i]->n -= r;
    const bool parts = may_be_refused(w, &(cached_move){w->texts[i], r}, 1);
    w->texts[i]->n += r;
    return parts || cached_rollback(&w->x, w->texts[i], r);
}

static bool operation(walk *w)
{
    const int i = pick(w);
    if (i < 0) return begin_text(w);
    switch (random_below(w->r, w->x.named ? 11 : 9)) {
    case 9:
    case 10:
        return share_text(w, i);
    case 0:
        return begin_text(w);
    case 1:
        return fork_text(w, i);
    case 2:
        return roll_back(w, i);
    case 3:
        return random_below(w->r, 3) || end_text(w, i);
    case 4:
        return cancel(w);
    default:
        return step(w);
    }
}

/* What the texts of a walk can need at most, or a part of it. */
static bool choose_budget(walk *w, const e2e_module *m, attn_cache_config *c, unsigned long long seed)
{
    const attn_cache_limits l = {.size = sizeof l, .n_seqs = WALK_TEXTS, .max_tokens = WALK_TOKENS, .max_step = 50};
    w->budget = random_below(w->r, 3);
    if (w->budget == NO_BUDGET) return true;
    if (!cached_open(&w->x, m, *c, seed)) return false;
    const bool ok = !attn_cache_bound(w->x.cache, &l, &c->budget, NULL);
    cached_close(&w->x);
    if (w->budget == SMALL_BUDGET) c->budget = c->budget * (uint64_t)(1 + random_below(w->r, 8)) / 16;
    return ok;
}

static bool run_walk(random_pattern *r, const e2e_module *m, unsigned long long seed, long number)
{
    static const uint32_t page_sizes[] = {1, 4, 16, 64};
    const uint32_t layer = (uint32_t)random_below(r, r->layers), kind = m->ir->schedule[layer];
    const uint32_t page = page_sizes[random_below(r, 4)];
    walk w = {.r = r, .rollback = random_below(r, 3) ? random_below(r, 41) : 0, .values = seed << 20};
    attn_cache_config c = {.page_tokens = page,
                           .rollback = (uint32_t)w.rollback,
                           .workers = (uint32_t)(1 + random_below(r, 2)),
                           .isa = r->isa,
                           .n_layers = random_chance(r, 0.5) && !m->ir->patterns.at[kind]->kv_shared,
                           .layers = &layer,
                           .prefix_bytes = random_chance(r, 0.3) ? 0 : (uint64_t)random_below(r, 100000)};
    e2e_note("cache_walk_test 1 1 %llu %ld: %s, pages of %u, R %d", seed, number, attn_isa_name((uint32_t)r->isa), page,
             (int)w.rollback);
    bool ok = choose_budget(&w, m, &c, seed) && cached_open(&w.x, m, c, seed);
    w.x.named = random_chance(r, 0.5);
    for (int i = 0; i < WALK_OPERATIONS && ok; i++) ok = operation(&w);
    for (int i = 0; i < WALK_TEXTS && ok; i++)
        if (w.texts[i]) ok = end_text(&w, i);
    cached_close(&w.x);
    return ok;
}

/* Walks first, first + 1 .. over one pattern; how many were wrong. */
static long run_pattern(unsigned long long seed, long first, long walks)
{
    random_pattern r;
    e2e_module m;
    long wrong = 0;
    random_pattern_create(&r, seed, true);
    e2e_note("cache_walk_test 1 1 %llu: compiling for %s", seed, e2e_target_name(r.isa));
    if (!e2e_compile(&m, r.at, e2e_target_name(r.isa))) return printf("  in: %s\n", e2e_get_note()), walks;
    const unsigned long long after = r.seed;
    for (long i = first; i < first + walks; i++) {
        r.seed = after + (unsigned long long)i * 1000003;
        wrong += !run_walk(&r, &m, seed, i);
    }
    if (wrong) fputs(r.at, stdout);
    e2e_module_free(&m);
    return wrong;
}

int main(int argc, char **argv)
{
    const long patterns = argc > 1 ? strtol(argv[1], NULL, 10) : 50, walks = argc > 2 ? strtol(argv[2], NULL, 10) : 10;
    const unsigned long long seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
    const long first = argc > 4 ? strtol(argv[4], NULL, 10) : 0;
    long done = 0, wrong = 0;
    for (; done < patterns && wrong < 10; done++) wrong += run_pattern(seed + (unsigned long long)done, first, walks);
    printf("%ld walks over %ld random patterns from seed %llu, %ld wrong\n", done * walks, done, seed, wrong);
    return wrong ? EXIT_FAILURE : EXIT_SUCCESS;
}
