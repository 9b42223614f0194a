/* report.c - --report: what the compiler proved and chose, per layer kind; for people and, with --json, for machines. */
#include "tools/attnc/report.h"
#include "tools/attnc/coverage.h"
#include "ir/pattern/sweeps.h"
#include "tools/attnc/tune_space.h"
#include <inttypes.h>
#include <string.h>

typedef struct totals {
    int64_t pairs_visible, pairs_all, live, peak, full;
    bool all_known, exact_pairs, exact_live, peak_known;
} totals;

typedef struct report {
    arena *arena;
    const ir_module *m;
    const report_options *o;
    text *to;
    totals totals;
} report;

static const schedule *widest(const report *r, uint32_t kind)
{
    return &r->o->variants[r->o->n_variants - 1].kernels[kind]->schedule;
}

static coverage cover(const report *r, uint32_t kind)
{
    const schedule *s = widest(r, kind);
    coverage_options c = {.n = r->o->context, .tile_rows = s->lanes ? s->lanes : 64, .tile_keys = s->key_block ? s->key_block : 128};
    return coverage_compute(r->arena, r->m, kind, &c);
}

static void add_totals(totals *t, const coverage *c)
{
    t->all_known &= c->known;
    t->exact_pairs &= c->exact_pairs;
    t->exact_live &= c->exact_live;
    t->peak_known &= c->live_peak_bytes >= 0;
    t->pairs_visible += c->pairs_visible, t->pairs_all += c->pairs_all;
    t->live += c->live_bytes, t->peak += c->live_peak_bytes, t->full += c->full_bytes;
}

static double percent(int64_t part, int64_t all) { return all ? 100 * (double)part / (double)all : 0; }

static uint32_t count_layers(const ir_module *m, uint32_t kind)
{
    uint32_t n = 0;
    for (uint32_t l = 0; l < m->layers; l++)
        n += m->schedule[l] == kind;
    return n;
}

static bool reads_len(const ir_module *m, const pattern *p)
{
    bool reads = expr_reads_var(m->pool, p->mask, VAR_LEN);
    for (uint32_t i = 0; i < p->n_scores; i++)
        reads |= expr_reads_var(m->pool, p->scores[i], VAR_LEN);
    return reads;
}

/* ---- text ------------------------------------------------------------------------------------------------------------------------ */

static const char *bytes_text(arena *a, int64_t bytes)
{
    const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double x = (double)bytes;
    size_t u = 0;
    while (x >= 1024 && u + 1 < ATTNC_COUNT(units))
        x /= 1024, u++;
    return u ? arena_printf(a, "%.1f %s", x, units[u]) : arena_printf(a, "%" PRId64 " B", bytes);
}

/* "0-2, 4-6, 8": at most ten pieces. */
static void print_layers(const report *r, uint32_t kind)
{
    uint32_t pieces = 0;
    for (uint32_t l = 0; l < r->m->layers; l++) {
        if (r->m->schedule[l] != kind) continue;
        uint32_t last = l;
        while (last + 1 < r->m->layers && r->m->schedule[last + 1] == kind)
            last++;
        if (pieces++ == 10) {
            text_add(r->to, ", ...");
            return;
        }
        text_printf(r->to, "%s%u", pieces > 1 ? ", " : "", l);
        if (last > l) text_printf(r->to, "-%u", last);
        l = last;
    }
}

static bool skips_keys(const ranges *x)
{
    for (uint32_t i = 0; i < x->n_may; i++)
        if (x->may[i].step) return true;
    return false;
}

static void print_pairs(const report *r, const coverage *c, const pattern *p, const schedule *s)
{
    text_printf(r->to, "  pairs      %s%.2f %% visible\n", c->exact_pairs ? "" : "at most ", percent(c->pairs_visible, c->pairs_all));
    if (skips_keys(p->ranges)) {
        text_printf(r->to, "  tiles      %.2f %% of %u x %u hold a visible pair; of keys some steps apart only those are computed\n",
                    percent(c->tiles_full + c->tiles_partial, c->tiles_all), s->lanes, s->key_block);
        return;
    }
    text_printf(r->to, "  tiles      %.2f %% computed: %.2f %% full (no mask code), %.2f %% partial, of %u x %u\n",
                percent(c->tiles_full + c->tiles_partial, c->tiles_all), percent(c->tiles_full, c->tiles_all),
                percent(c->tiles_partial, c->tiles_all), s->lanes, s->key_block);
}

static void print_cache(const report *r, const coverage *c, uint32_t kind)
{
    if (r->m->patterns.at[kind]->kv_shared) return;
    text_printf(r->to, "  KV cache   %s%s of %s (%.2f %%)", c->exact_live ? "" : "at most ", bytes_text(r->arena, c->live_bytes),
                bytes_text(r->arena, c->full_bytes), percent(c->live_bytes, c->full_bytes));
    if (c->live_peak_bytes >= 0 && c->live_peak_bytes != c->live_bytes)
        text_printf(r->to, ", %s at most on the way", bytes_text(r->arena, c->live_peak_bytes));
    text_add(r->to, "\n");
    for (uint32_t i = 0; i < c->n_groups && c->n_groups > 1; i++)
        text_printf(r->to, "  %-10s %s of %s: %" PRId64 " KV head%s\n", i ? "" : "by head", bytes_text(r->arena, c->groups[i].live_bytes),
                    bytes_text(r->arena, c->groups[i].full_bytes), c->groups[i].kv_heads, c->groups[i].kv_heads == 1 ? "" : "s");
}

/* Kinds whose queries some kernel takes in 16 bits (docs/quant.md, "Digits"). */
static bool has_digits(const shape *s) { return s->type != DTYPE_F32 && !s->kv_group && s->dim % 64 == 0 && s->dim <= 512; }

/* Kinds whose weights some kernel takes as whole steps. */
static bool has_steps(const shape *s) { return has_digits(s) && s->dim_v % 64 == 0; }

/* How keys and values are stored, and how far a result can be from what they were (docs/quant.md, "The bound"). */
static void print_format(const report *r, const pattern *p)
{
    const shape *s = &p->shape;
    shape given = *s;
    given.kv = KV_AS_GIVEN, given.kv_group = 0;
    if (s->kv == KV_AS_GIVEN) return;
    const char *group = s->kv_group ? arena_printf(r->arena, "%" PRId64 " elements", s->kv_group) : "row";
    const int64_t values = p->k_is_v ? 0 : 1;
    text_printf(r->to, "  stored     int8, an f32 scale for each %s: %" PRId64 " bytes a token and KV head, %" PRId64 " as given\n", group,
                kv_row_bytes(s, s->dim) + values * kv_row_bytes(s, s->dim_v), kv_row_bytes(&given, s->dim) + values * kv_row_bytes(&given, s->dim_v));
    text_printf(r->to, "  error      of an element: M / 254, M the largest of its %s; of a score: D = |scale| * %s%s;\n", s->kv_group ? "group" : "row",
                has_digits(s) ? "(sum of |q| M / 254 + largest |q| * sum of |k| / 65024)" : "sum of |q| M / 254", p->n_scores ? ", times the slope of its maps" : "");
    text_printf(r->to, "             of an output: tanh(D / 2) * (largest - smallest value seen) + %s of the values\n", has_steps(s) ? "(M / 254 + M / 1000)" : "M / 254");
}

/* What is stored otherwise than as keys and values of its own; len. */
static void print_policies(const report *r, const pattern *p)
{
    if (p->kv_shared) text_printf(r->to, "  keys       those of layer %u: none of its own\n", p->kv_layer);
    if (p->k_is_v) text_add(r->to, "  values     the first elements of the keys: none of their own\n");
    print_format(r, p);
    if (!reads_len(r->m, p)) return;
    text_add(r->to, "  len        results depend on how tokens are cut into steps: the mask or a score reads the sequence's length\n");
    if (p->max_len) text_printf(r->to, "  max_len    %" PRId64 " tokens\n", p->max_len);
}

static void print_steps(const report *r, const coverage *c)
{
    int64_t places = r->o->context - 1;
    text_add(r->to, "  steps      ");
    if (c->live_peak_bytes < 0)
        text_add(r->to, "not looked at for a text this long\n");
    else if (c->boundaries == places)
        text_add(r->to, "may end anywhere\n");
    else if (!c->exact_live)
        text_add(r->to, "may end where the tokens' data allow it\n");
    else if (!c->boundaries)
        text_add(r->to, "all tokens at once (later ones are seen)\n");
    else
        text_printf(r->to, "may end at %" PRId64 " of %" PRId64 " places\n", c->boundaries, places);
}

static bool has_halves(const report *r, const pattern *p) { return sweeps_of(r->m->pool, p->mask, p->ranges, p->max_len); }

static void print_expressions(const report *r, const char *name, const expr *list, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        text_printf(r->to, "  %-10s ", i ? "" : name);
        expr_print(r->m->pool, list[i], r->to);
        text_add(r->to, "\n");
    }
}

static const schedule_choice *choice_of(const report *r, size_t variant, uint32_t kind)
{
    return r->o->choices ? &r->o->choices[variant * r->m->patterns.n + kind] : NULL;
}

static const char *target_of(const report *r, size_t variant) { return target_get(r->o->variants[variant].target)->name; }

static void print_source(text *to, const schedule_choice *c)
{
    const tuning_entry *e = c->entry;
    text_printf(to, "  %-10s %-15s ", "", "");
    if (e && schedule_same(&e->sizes, &c->row.sizes))
        text_printf(to, "tuned on %s, %s: the table's, %s\n", e->key.processor, e->date, e->measured);
    else if (e)
        text_printf(to, "tuned on %s, %s: %+.1f %%, %s\n", e->key.processor, e->date, 100 * (e->gain - 1), e->measured);
    else
        text_printf(to, "table, %s: %s\n", c->row.shapes, c->row.measured);
}

static const char *schedules_text(const report *r, uint32_t kind)
{
    text t = {.arena = r->arena};
    for (size_t i = 0; i < r->o->n_variants; i++) {
        const schedule *s = &r->o->variants[i].kernels[kind]->schedule;
        text_printf(&t, "  %-10s %-15s %u rows x %u keys, QK %u x %u, PV %u x %u, rim %u x %u, few %u: %u x %u, fetch %u\n",
                    i ? "" : "schedule", target_of(r, i), s->lanes, s->key_block, s->qk_keys, s->qk_vectors, s->pv_dims, s->pv_vectors,
                    s->narrow_keys, s->narrow_dims, s->few_lanes, s->few_rows, s->few_keys, s->fetch);
        if (choice_of(r, i, kind)) print_source(&t, choice_of(r, i, kind));
    }
    return text_get(&t);
}

/* Kinds mostly agree, and eight lines say it. */
static void print_schedules(report *r, uint32_t kind)
{
    const char *own = schedules_text(r, kind);
    for (uint32_t i = 0; i < kind; i++)
        if (count_layers(r->m, i) && !strcmp(own, schedules_text(r, i))) {
            text_printf(r->to, "  %-10s as %s\n", "schedule", r->m->patterns.at[i]->name);
            return;
        }
    text_add(r->to, own);
}

static void print_kind(report *r, uint32_t kind)
{
    const pattern *p = r->m->patterns.at[kind];
    coverage c = cover(r, kind);
    add_totals(&r->totals, &c);
    text_printf(r->to, "\n%s: %u layer%s (", p->name, count_layers(r->m, kind), count_layers(r->m, kind) == 1 ? "" : "s");
    print_layers(r, kind);
    text_printf(r->to, "), heads %" PRId64 " / %" PRId64 ", dim %" PRId64, p->shape.q_heads, p->shape.kv_heads, p->shape.dim);
    if (p->shape.dim_v != p->shape.dim) text_printf(r->to, " / %" PRId64, p->shape.dim_v);
    text_printf(r->to, ", %s\n", dtype_name(p->shape.type));
    print_expressions(r, "mask", &p->mask, 1);
    print_expressions(r, "scores", p->scores, p->n_scores);
    if (p->sink) print_expressions(r, "sink", &p->sink, 1);
    print_policies(r, p);
    if (c.known) {
        print_pairs(r, &c, p, widest(r, kind));
        print_cache(r, &c, kind);
        print_steps(r, &c);
    } else {
        text_printf(r->to, "  pairs      not known here: %s\n", c.unknown);
    }
    print_expressions(r, "undecided", p->ranges->undecided, p->ranges->n_undecided);
    if (p->ranges->row_step)
        text_printf(r->to, "  rows       tiles may take them %u apart, or a divisor of it: fewer pairs than with rows side by side\n", p->ranges->row_step);
    if (has_halves(r, p)) text_add(r->to, "  sweeps     long texts may take two: tiles of rows side by side for one half of the mask, then of rows apart for the other\n");
    for (uint32_t i = 0; i < p->ranges->n_data; i++)
        print_expressions(r, "run time", &p->ranges->data[i].atom, 1);
    print_schedules(r, kind);
}

static void print_totals(const report *r)
{
    const totals *t = &r->totals;
    text_add(r->to, "\nmodel\n");
    if (!t->all_known) {
        text_add(r->to, "  pairs      not known here for every kind\n");
        return;
    }
    text_printf(r->to, "  pairs      %s%.2f %% visible\n", t->exact_pairs ? "" : "at most ", percent(t->pairs_visible, t->pairs_all));
    text_printf(r->to, "  KV cache   %s%s of %s (%.2f %%)", t->exact_live ? "" : "at most ", bytes_text(r->arena, t->live),
                bytes_text(r->arena, t->full), percent(t->live, t->full));
    if (t->peak_known && t->peak != t->live) text_printf(r->to, ", %s at most on the way", bytes_text(r->arena, t->peak));
    text_add(r->to, "\n");
}

static void print_text(report *r)
{
    text_printf(r->to, "%s: %u layers, one text of %" PRId64 " tokens\n", r->m->name, r->m->layers, r->o->context);
    for (uint32_t i = 0; i < r->m->patterns.n; i++)
        print_kind(r, i);
    if (r->m->patterns.n > 1) print_totals(r);
}

/* ---- json ------------------------------------------------------------------------------------------------------------------------ */

static void json_string(text *to, const char *s)
{
    text_add(to, "\"");
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            text_printf(to, "\\%c", *s);
        else if ((unsigned char)*s < 0x20)
            text_printf(to, "\\u%04x", *s);
        else
            text_addn(to, s, 1);
    }
    text_add(to, "\"");
}

static void json_expressions(const report *r, const char *name, const expr *list, uint32_t n)
{
    text_printf(r->to, ", \"%s\": [", name);
    for (uint32_t i = 0; i < n; i++) {
        text t = {.arena = r->arena};
        expr_print(r->m->pool, list[i], &t);
        text_add(r->to, i ? ", " : "");
        json_string(r->to, text_get(&t));
    }
    text_add(r->to, "]");
}

static void json_number(const report *r, const char *name, int64_t x) { text_printf(r->to, ", \"%s\": %" PRId64, name, x); }
static void json_bool(const report *r, const char *name, bool x) { text_printf(r->to, ", \"%s\": %s", name, x ? "true" : "false"); }

static void json_coverage(const report *r, const coverage *c)
{
    json_bool(r, "known", c->known);
    if (!c->known) return;
    json_number(r, "pairs_visible", c->pairs_visible);
    json_number(r, "pairs_all", c->pairs_all);
    json_bool(r, "pairs_exact", c->exact_pairs);
    json_number(r, "tiles_full", c->tiles_full);
    json_number(r, "tiles_partial", c->tiles_partial);
    json_number(r, "tiles_all", c->tiles_all);
    json_number(r, "kv_bytes", c->live_bytes);
    json_bool(r, "kv_exact", c->exact_live);
    json_number(r, "kv_bytes_full", c->full_bytes);
    text_add(r->to, ", \"kv_groups\": [");
    for (uint32_t i = 0; i < c->n_groups; i++)
        text_printf(r->to, "%s{\"kv_heads\": %" PRId64 ", \"kv_bytes\": %" PRId64 ", \"kv_bytes_full\": %" PRId64 "}", i ? ", " : "",
                    c->groups[i].kv_heads, c->groups[i].live_bytes, c->groups[i].full_bytes);
    text_add(r->to, "]");
    if (c->live_peak_bytes < 0) return;
    json_number(r, "kv_bytes_peak", c->live_peak_bytes);
    json_number(r, "step_boundaries", c->boundaries);
}

static void json_layers(const report *r, uint32_t kind)
{
    const char *comma = "";
    text_add(r->to, ", \"layers\": [");
    for (uint32_t l = 0; l < r->m->layers; l++)
        if (r->m->schedule[l] == kind) text_printf(r->to, "%s%u", comma, l), comma = ", ";
    text_add(r->to, "]");
}

static void json_text(const report *r, const char *name, const char *value)
{
    text_printf(r->to, ", \"%s\": ", name);
    json_string(r->to, value);
}

static void json_source(const report *r, const schedule_choice *c)
{
    const tuning_entry *e = c->entry;
    json_text(r, "source", e ? "tuned" : "table");
    json_text(r, "measured", e ? e->measured : c->row.measured);
    if (!e) {
        json_text(r, "shapes", c->row.shapes);
        return;
    }
    json_text(r, "processor", e->key.processor);
    json_text(r, "date", e->date);
    if (e->gain > 0 && e->gain < 1e9) text_printf(r->to, ", \"gain\": %.4f", e->gain); /* the file may say anything */
}

static void json_schedules(const report *r, uint32_t kind)
{
    text_add(r->to, ", \"schedules\": [");
    for (size_t i = 0; i < r->o->n_variants; i++) {
        const schedule *s = &r->o->variants[i].kernels[kind]->schedule;
        text_printf(r->to, "%s{\"target\": \"%s\"", i ? ", " : "", target_of(r, i));
        json_number(r, "lanes", s->lanes);
        json_number(r, "vector", s->vector);
        json_number(r, "key_block", s->key_block);
        text_printf(r->to, ", \"qk\": [%u, %u], \"pv\": [%u, %u], \"narrow\": [%u, %u], \"few\": [%u, %u, %u]", s->qk_keys, s->qk_vectors,
                    s->pv_dims, s->pv_vectors, s->narrow_keys, s->narrow_dims, s->few_lanes, s->few_rows, s->few_keys);
        json_number(r, "fetch", s->fetch);
        if (choice_of(r, i, kind)) json_source(r, choice_of(r, i, kind));
        text_add(r->to, "}");
    }
    text_add(r->to, "]");
}

static void json_kind(const report *r, uint32_t kind)
{
    const pattern *p = r->m->patterns.at[kind];
    coverage c = cover(r, kind);
    text_add(r->to, "{\"name\": ");
    json_string(r->to, p->name);
    json_layers(r, kind);
    json_number(r, "q_heads", p->shape.q_heads);
    json_number(r, "kv_heads", p->shape.kv_heads);
    json_number(r, "dim", p->shape.dim);
    json_number(r, "dim_v", p->shape.dim_v);
    text_printf(r->to, ", \"dtype\": \"%s\"", dtype_name(p->shape.type));
    json_expressions(r, "mask", &p->mask, 1);
    json_expressions(r, "scores", p->scores, p->n_scores);
    json_expressions(r, "undecided", p->ranges->undecided, p->ranges->n_undecided);
    if (p->ranges->row_step) json_number(r, "row_step", p->ranges->row_step);
    if (p->ranges->row_step) json_bool(r, "two_sweeps", has_halves(r, p));
    if (p->kv_shared) json_number(r, "kv_layer", p->kv_layer);
    json_bool(r, "k_is_v", p->k_is_v);
    if (p->shape.kv == KV_INT8) text_add(r->to, ", \"kv_format\": \"int8\"");
    if (p->shape.kv == KV_INT8) json_number(r, "kv_group", p->shape.kv_group);
    json_bool(r, "depends_on_steps", reads_len(r->m, p));
    if (p->max_len) json_number(r, "max_len", p->max_len);
    json_coverage(r, &c);
    json_schedules(r, kind);
    text_add(r->to, "}");
}

static void print_json(const report *r)
{
    text_add(r->to, "{\"model\": ");
    json_string(r->to, r->m->name);
    text_printf(r->to, ", \"layers\": %u", r->m->layers);
    json_number(r, "context", r->o->context);
    text_add(r->to, ", \"kinds\": [");
    for (uint32_t i = 0; i < r->m->patterns.n; i++) {
        text_add(r->to, i ? ",\n  " : "\n  ");
        json_kind(r, i);
    }
    text_add(r->to, "\n]}\n");
}

void report_print(arena *a, const ir_module *m, const report_options *o, text *to)
{
    report r = {.arena = a, .m = m, .o = o, .to = to, .totals = {.all_known = true, .exact_pairs = true, .exact_live = true, .peak_known = true}};
    if (o->json)
        print_json(&r);
    else
        print_text(&r);
}
