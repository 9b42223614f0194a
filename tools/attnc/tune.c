/* tune.c - --tune: coordinate descent over schedules, measured against the table's row; the winner is measured again and stored. */
#define _POSIX_C_SOURCE 200809L
#include "tools/attnc/tune.h"
#include "tools/attnc/processor.h"
#include "tools/attnc/schedule_choice.h"
#include "tools/attnc/tune_guard.h"
#include "tools/attnc/tune_space.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PLACEMENTS = 3, EVERYTHING = TUNE_PREFILL | TUNE_DECODE | TUNE_STEP };

static const double most_shape_seconds = 0.8;

/* ---- one kind for one target -------------------------------------------------------------------------------------------------------- */

typedef struct search {
    const tune_options *o;
    uint32_t kind;
    target_id target;
    const char *target_name;
    arena *arena;
    tune_bench bench;
    tune_trial winner;            /* the best so far, or closed: the reference is */
    VEC(schedule) tried;
    double started, deadline;
    const char *wrong;            /* a candidate computes something else: a bug */
    tool_error *err;
} search;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool is_late(const search *s) { return now() >= s->deadline; }
static const shape *shape_of(const search *s) { return &s->o->module->patterns.at[s->kind]->shape; }
static tune_trial *best(search *s) { return s->winner.module ? &s->winner : &s->bench.reference; }
static double percent(double log_ratio) { return 100 * (exp(log_ratio) - 1); }

static bool was_tried(search *s, const schedule *x)
{
    for (size_t i = 0; i < s->tried.n; i++)
        if (schedule_same(&s->tried.at[i], x)) return true;
    VEC_PUSH(s->arena, &s->tried, *x);
    return false;
}

/* Only what differs from the best: "qk_keys 6, key_block 126". */
static const char *change_text(search *s, const schedule *x)
{
    const schedule *from = &best(s)->sizes;
    text t = {.arena = s->arena};
#define FIELD(name) \
    if (x->name != from->name) text_printf(&t, "%s" #name " %u", t.n ? ", " : "", x->name);
#include "ir/kernel/schedule_fields.def"
#undef FIELD
    return text_get(&t);
}

static void say(const search *s, const char *what, const tune_rounds *r, const char *then)
{
    const score all = score_mean(r->scores, r->n_used);
    fprintf(stderr, "  %4.0f s  %-40s %+6.1f %% (noise %.1f)%s\n", now() - s->started, what, percent(all.gain), 100 * all.noise, then);
}

/* The candidate computes what the reference does. */
static bool is_right(search *s, const schedule *x, tune_trial *t)
{
    if (!tune_trial_differs(&s->bench, t, s->err)) return true;
    s->wrong = arena_printf(s->arena, "pattern %s for %s: the schedule { %s } gives another result than the table's: %s",
                            s->o->module->patterns.at[s->kind]->name, s->target_name, schedule_sizes_text(s->arena, x), s->err->text);
    return false;
}

/* Both loaded anew, in this order: where their code and their memory lie is worth two percent, and nobody's merit. */
static bool compare_anew(search *s, const schedule *old, const schedule *new, bool new_first, uint32_t ops, tune_rounds *r)
{
    tune_trial pair[2] = {{.module = NULL}, {.module = NULL}};
    const schedule *sizes[2] = {old, new};
    bool ok = !tune_guard_stopped() && tune_trial_open(&s->bench, sizes[new_first], &pair[new_first], s->err) &&
              tune_trial_open(&s->bench, sizes[!new_first], &pair[!new_first], s->err) &&
              tune_compare(&s->bench, &pair[0], &pair[1], ops, true, tune_guard_stopped, r, s->err);
    tune_trial_close(&pair[0]);
    tune_trial_close(&pair[1]);
    return ok;
}

/* Twice better is taken: the first time may be luck, as there are many candidates. */
static bool judge(search *s, tune_trial *t, uint32_t touches, const char *what, bool *better)
{
    tune_rounds r;
    if (!tune_compare(&s->bench, best(s), t, touches, false, tune_guard_stopped, &r, s->err)) return false;
    *better = !r.hopeless && score_is_better(r.scores, r.n_used);
    say(s, what, &r, *better ? ": once more" : "");
    if (!*better) return true;
    if (!compare_anew(s, &best(s)->sizes, &t->sizes, true, touches, &r)) return false;
    *better = score_is_better(r.scores, r.n_used);
    say(s, what, &r, *better ? ": taken" : ": not taken");
    return true;
}

static bool try_candidate(search *s, const schedule *x, uint32_t touches)
{
    tune_trial t;
    bool better;
    const char *what = change_text(s, x);
    if (tune_guard_stopped()) return false;
    if (!tune_trial_open(&s->bench, x, &t, s->err)) { /* too much code for the backend, say */
        fprintf(stderr, "  %4.0f s  %-40s cannot be compiled: %s\n", now() - s->started, what, s->err->text);
        return true;
    }
    if (!is_right(s, x, &t) || !judge(s, &t, touches, what, &better)) return tune_trial_close(&t), false;
    if (better) tune_trial_close(&s->winner), s->winner = t;
    if (!better) tune_trial_close(&t);
    return true;
}

/* Of the shapes that are run. */
static uint32_t touched(const search *s, size_t coordinate)
{
    uint32_t ops = 0;
    for (size_t i = 0; i < s->bench.n_shapes; i++)
        ops |= s->bench.shapes[i].op;
    return ops & tune_touches(coordinate);
}

static bool try_values(search *s, size_t coordinate, bool *moved)
{
    const schedule from = best(s)->sizes;
    for (size_t v = 0; v < tune_values(coordinate) && !is_late(s); v++) {
        schedule x;
        if (!tune_move(&from, coordinate, v, shape_of(s), &x) || was_tried(s, &x)) continue;
        if (!try_candidate(s, &x, touched(s, coordinate))) return false;
    }
    *moved = !schedule_same(&from, &best(s)->sizes);
    return true;
}

/* Through all coordinates, again through those whose shapes another one has changed since, until nothing moves. */
static bool descend(search *s)
{
    uint32_t changed = EVERYTHING;
    was_tried(s, &s->bench.reference.sizes);
    while (changed && !is_late(s)) {
        uint32_t next = 0;
        for (size_t c = 0; c < tune_coordinates(); c++) {
            bool moved;
            if (!(touched(s, c) & changed)) continue;
            if (!try_values(s, c, &moved)) return false;
            if (moved) next |= touched(s, c);
        }
        changed = next;
    }
    return true;
}

/* ---- the end ------------------------------------------------------------------------------------------------------------------------ */

static const char *shares_text(search *s, const tune_rounds *r, bool kept)
{
    text t = {.arena = s->arena};
    for (size_t i = 0; i < r->n_used; i++) {
        const tune_shape *x = &s->bench.shapes[r->used[i]];
        text_printf(&t, "%s%s %.1f", i ? ", " : "", tune_shape_text(s->arena, x), 100 * r->share[i][0]);
        if (!kept) text_printf(&t, " -> %.1f", 100 * r->share[i][1]);
        text_printf(&t, " %% %s", tune_shape_unit(x));
    }
    return text_get(&t);
}

static const char *today(arena *a)
{
    char out[16];
    time_t t = time(NULL);
    struct tm parts;
    return gmtime_r(&t, &parts) && strftime(out, sizeof out, "%Y-%m-%d", &parts) ? arena_strdup(a, out) : "";
}

static bool store(search *s, const tune_rounds *r, bool kept)
{
    const char *name = s->o->module->patterns.at[s->kind]->name;
    const tuning_entry e = {.key = {processor_name(s->arena), s->target_name,
                                    schedule_shape_text(s->arena, s->o->module, s->o->module->patterns.at[s->kind])},
                            .sizes = kept ? s->bench.reference.sizes : s->winner.sizes,
                            .gain = kept ? 1 : exp(score_mean(r->scores, r->n_used).gain),
                            .measured = shares_text(s, r, kept),
                            .version = ATTNC_VERSION,
                            .date = today(s->arena)};
    if (!tuning_db_store(s->o->db, &e, s->err)) return false;
    if (kept)
        printf("%s for %s: nothing better than the table's (%s)\n", name, s->target_name, e.measured);
    else
        printf("%s for %s: %+.1f %% (%s): %s\n", name, s->target_name, 100 * (e.gain - 1), e.measured, schedule_sizes_text(s->arena, &e.sizes));
    fflush(stdout);
    return true;
}

/* The winner against the table's, all shapes, fresh numbers: better each time, or it does not count. What is written is the least of them. */
static bool confirm(search *s, tune_rounds *least, bool *better)
{
    *better = true;
    for (int i = 0; i < PLACEMENTS && *better; i++) {
        tune_rounds r;
        if (!compare_anew(s, &s->bench.reference.sizes, &s->winner.sizes, i % 2, EVERYTHING, &r)) return false;
        *better = score_is_better(r.scores, r.n_used);
        say(s, "the winner, again", &r, *better ? "" : ": not better than the table's");
        if (!i || score_mean(r.scores, r.n_used).gain < score_mean(least->scores, least->n_used).gain) *least = r;
    }
    return true;
}

/* The table's against itself, for its shares. */
static bool measure_table(search *s, tune_rounds *r)
{
    return tune_compare(&s->bench, &s->bench.reference, &s->bench.reference, EVERYTHING, true, tune_guard_stopped, r, s->err);
}

static bool finish(search *s)
{
    tune_rounds r;
    bool better = false;
    if (s->winner.module ? !confirm(s, &r, &better) : !measure_table(s, &r)) return false;
    return store(s, &r, !better);
}

/* A short search has short rounds, too. */
static bool open_bench(search *s, const char *folder, const schedule *reference)
{
    const tune_options *o = s->o;
    const tune_bench_options b = {.module = o->module,
                                  .kind = s->kind,
                                  .target = s->target,
                                  .native = o->native,
                                  .folder = folder,
                                  .shapes = o->shapes,
                                  .n_shapes = o->n_shapes,
                                  .shape_seconds = fmin(most_shape_seconds, (double)o->seconds / 60),
                                  .diags = o->diags};
    return tune_bench_open(&s->bench, &b, reference, s->err);
}

static bool tune_kind(search *s, const char *folder)
{
    const pattern *p = s->o->module->patterns.at[s->kind];
    const schedule from = schedule_row_find(s->target, &p->shape).sizes;
    fprintf(stderr, "attnc: tuning %s for %s: %s\n", p->name, s->target_name, schedule_sizes_text(s->arena, &from));
    if (!open_bench(s, folder, &from)) return false;
    s->started = now();
    s->deadline = s->started + (double)s->o->seconds;
    return descend(s) && finish(s);
}

static bool has_layer(const ir_module *m, uint32_t kind)
{
    for (uint32_t l = 0; l < m->layers; l++)
        if (m->schedule[l] == kind) return true;
    return false;
}

/* One kind for one target, and all that it took is given back. *wrong is malloc'ed. */
static bool tune_one(const tune_options *o, uint32_t kind, target_id target, const char *folder, char **wrong, tool_error *err)
{
    search s = {.o = o, .kind = kind, .target = target, .arena = arena_create(0, NULL, NULL), .err = err};
    s.target_name = schedule_target_name(s.arena, target, o->native);
    bool ok = tune_kind(&s, folder);
    if (s.wrong) *wrong = strdup(s.wrong);
    tune_trial_close(&s.winner);
    tune_bench_close(&s.bench);
    arena_destroy(s.arena);
    return ok;
}

bool tune_run(const tune_options *o, tool_error *err)
{
    tune_guard g;
    char *wrong = NULL;
    err->text[0] = 0;
    if (!tune_guard_begin(&g, err)) return false;
    bool ok = true;
    for (size_t t = 0; t < o->n_targets && ok; t++)
        for (uint32_t kind = 0; kind < o->module->patterns.n && ok; kind++)
            if (has_layer(o->module, kind)) ok = tune_one(o, kind, o->targets[t], g.folder, &wrong, err);
    tune_guard_end(&g);
    if (wrong) ATTNC_BUG(wrong);
    return ok;
}
