/* pipeline.c - the pass driver: the pipeline as a table of contents, and a check between any two steps. */
#define _POSIX_C_SOURCE 200809L
#include "ir/pass/pass_internal.h"

#include <string.h>
#include <time.h>

/* From the definition to what a backend takes, in the order in which this must happen. */
static const pass_id pipeline[] = {
    PASS_lower_pattern, /* first: the definition, in the words of the kernel IR; all else is a change of it that keeps
                           its meaning */
    PASS_fuse_online,   /* before the keys are divided: two loops cannot share one softmax, a running one they can */
    PASS_split_ranges,  /* while the mask still stands beside the whole loop; needs only the mask, so nothing must be
                           folded yet */
    PASS_fold_scale,    /* behind split-ranges: it changes the maps of every loop alike, and there are no more loops to
                           come */
    PASS_group_heads,   /* the expressions are final: from here on h belongs to the row */
    PASS_split_kv,      /* changes only the end of `rows`, whatever stands before it; merge counts in the base that
                           fold-scale chose */
    PASS_schedule, /* last: the only step that knows a target, so that everything before is done once for all of them */
};

typedef struct pass_facts {
    const char *name, *help;
    uint32_t needs, gives;
    pass_function *run;
} pass_facts;

static const pass_facts passes[PASS_COUNT] = {
#define FACT(f)                                   KFACT_##f
#define PASS(ident, spelling, needs, gives, help) [PASS_##ident] = {spelling, help, needs, gives, pass_##ident},
#include "ir/pass/passes.def"
#undef PASS
#undef FACT
};

_Static_assert(ATTNC_COUNT(pipeline) == PASS_COUNT, "every pass has its place");

const char *pass_name(pass_id p) { return passes[p].name; }
const char *pass_help(pass_id p) { return passes[p].help; }

/* What a kernel shows of the passes that it went through. A kernel without ops has no facts yet. */
static uint32_t facts_of(const kernel *k)
{
    uint32_t facts = 0;
    if (!k->body->ops.n) return 0;
    facts |= KFACT_LOWERED;
    if (count_ops(rows_body(k), OP_INIT)) facts |= KFACT_ONLINE;
    if (k->ranges) facts |= KFACT_RANGES;
    if (k->base2) facts |= KFACT_FOLDED;
    if (k->grouped) facts |= KFACT_GROUPED;
    if (k->split) facts |= KFACT_SPLIT;
    if (k->schedule.lanes) facts |= KFACT_SCHEDULED;
    return facts;
}

/* ---- one pass on one kernel ------------------------------------------------------------------------------ */

static const char *check_needs(kernel *k, pass_id p)
{
    arena *a = k->module->arena;
    uint32_t missing = passes[p].needs & ~k->facts;
    if (k->facts & passes[p].gives) return arena_printf(a, "kernel %s is behind %s already", k->name, pass_name(p));
    for (size_t i = 0; i < PASS_COUNT; i++)
        if (missing & passes[pipeline[i]].gives)
            return arena_printf(a, "%s needs %s first (kernel %s)", pass_name(p), pass_name(pipeline[i]), k->name);
    return NULL;
}

const char *pass_run(pass_id p, kernel *k, const pass_options *o)
{
    ATTNC_CHECK(p < PASS_COUNT);
    k->facts = facts_of(k);
    const char *error = check_needs(k, p);
    if (!error) error = passes[p].run(k, o);
    if (error) return error;
    k->facts = facts_of(k);
    const char *wrong = kernel_verify(k);
    if (!wrong && !(k->facts & passes[p].gives)) wrong = "it does not show what the pass gives";
    if (wrong) ATTNC_BUG(arena_printf(k->module->arena, "after %s, kernel %s: %s", pass_name(p), k->name, wrong));
    return NULL;
}

/* ---- one pass on a module -------------------------------------------------------------------------------- */

static bool has_kernel(const ir_module *m, uint32_t index)
{
    for (size_t i = 0; i < m->kernels.n; i++)
        if (m->kernels.at[i]->pattern == index) return true;
    return false;
}

/* asked: by name; then it must have something to do. */
static const char *lower_patterns(ir_module *m, const pass_options *o, bool asked)
{
    size_t made = 0;
    for (uint32_t i = 0; i < m->patterns.n; i++) {
        if (has_kernel(m, i)) continue;
        const char *error = pass_run(PASS_lower_pattern, kernel_create(m, m->patterns.at[i]->name, i), o);
        if (error) return error;
        made++;
    }
    return made || !asked ? NULL : "lower-pattern has nothing to do: every pattern has a kernel already";
}

static const char *run_on_kernels(ir_module *m, pass_id p, const pass_options *o, bool asked)
{
    if (!m->kernels.n && asked)
        return arena_printf(m->arena, "%s: there is no kernel; lower-pattern makes them", pass_name(p));
    for (size_t i = 0; i < m->kernels.n; i++) {
        kernel *k = m->kernels.at[i];
        if (!asked && facts_of(k) & passes[p].gives) continue; /* the text came from the middle of the pipeline */
        const char *error = pass_run(p, k, o);
        if (error) return error;
    }
    return NULL;
}

static void print_module(const ir_module *m, const pass_options *o, const char *when, pass_id p)
{
    FILE *to = o->print_to ? o->print_to : stderr;
    text t = {.arena = m->arena};
    ir_module_print(m, &t);
    fprintf(to, "// %s %s\n%s", when, pass_name(p), text_get(&t));
}

static bool names(const char *option, pass_id p)
{
    return option && (!strcmp(option, "all") || !strcmp(option, pass_name(p)));
}

/* Prints, reads back, prints again: the text must say all there is. */
static void check_text(const ir_module *m, pass_id p)
{
    arena *a = arena_create(0, NULL, NULL);
    diags d = {.arena = a};
    text first = {.arena = a}, second = {.arena = a};
    ir_module_print(m, &first);
    ir_module *back = ir_module_read(a, &d, diags_add_source(&d, "printed", text_get(&first), first.n));
    if (!back) diags_print(&d, stderr, DIAG_TEXT, false);
    if (back) ir_module_print(back, &second);
    if (strcmp(text_get(&first), text_get(&second)))
        ATTNC_BUG(arena_printf(a, "after %s: the printed module does not read back", pass_name(p)));
    arena_destroy(a);
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static const char *run_step(ir_module *m, pass_id p, const pass_options *o, bool asked)
{
    if (names(o->print_before, p)) print_module(m, o, "before", p);
    double start = now_ms();
    const char *error = p == PASS_lower_pattern ? lower_patterns(m, o, asked) : run_on_kernels(m, p, o, asked);
    if (o->pass_ms) o->pass_ms[p] += now_ms() - start;
    if (error) return error;
    if (o->verify_each) {
        const char *wrong = ir_module_verify(m);
        if (wrong) ATTNC_BUG(arena_printf(m->arena, "after %s: %s", pass_name(p), wrong));
        check_text(m, p);
    }
    if (names(o->print_after, p)) print_module(m, o, "after", p);
    return NULL;
}

/* ---- options --------------------------------------------------------------------------------------------- */

static bool find_pass(const char *name, size_t len, pass_id *out)
{
    for (int p = 0; p < PASS_COUNT; p++)
        if (strlen(passes[p].name) == len && !memcmp(passes[p].name, name, len)) return *out = (pass_id)p, true;
    return false;
}

static const char *unknown_pass(ir_module *m, const char *option, const char *name, size_t len)
{
    text t = {.arena = m->arena};
    text_printf(&t, "%s: there is no pass \"%.*s\"; the passes are", option, (int)(len < 80 ? len : 80), name);
    for (size_t i = 0; i < PASS_COUNT; i++) text_printf(&t, "%s %s", i ? "," : "", pass_name(pipeline[i]));
    return text_get(&t);
}

static const char *check_pass_name(ir_module *m, const char *option, const char *name, bool or_all)
{
    pass_id p;
    if (!name || (or_all && !strcmp(name, "all")) || find_pass(name, strlen(name), &p)) return NULL;
    return unknown_pass(m, option, name, strlen(name));
}

static const char *check_options(ir_module *m, const pass_options *o)
{
    const char *error = check_pass_name(m, "--stop-after", o->stop_after, false);
    if (!error) error = check_pass_name(m, "--print-after", o->print_after, true);
    if (!error) error = check_pass_name(m, "--print-before", o->print_before, true);
    for (const char *at = o->passes; !error && at && *at;) {
        pass_id p;
        size_t len = strcspn(at, ",");
        if (!find_pass(at, len, &p)) error = unknown_pass(m, "--passes", at, len);
        at += len + (at[len] == ',');
    }
    return error;
}

static bool stops(const pass_options *o, pass_id p) { return o->stop_after && !strcmp(o->stop_after, pass_name(p)); }

static const char *run_listed(ir_module *m, const pass_options *o)
{
    for (const char *at = o->passes; *at;) {
        pass_id p;
        size_t len = strcspn(at, ",");
        ATTNC_CHECK(find_pass(at, len, &p));
        const char *error = run_step(m, p, o, true);
        if (error || stops(o, p)) return error;
        at += len + (at[len] == ',');
    }
    return NULL;
}

const char *passes_run(ir_module *m, const pass_options *o)
{
    const char *error = check_options(m, o);
    if (!error) error = ir_module_verify(m);
    if (error || o->passes) return error ? error : run_listed(m, o);
    for (size_t i = 0; i < PASS_COUNT && !error; i++) {
        error = run_step(m, pipeline[i], o, false);
        if (stops(o, pipeline[i])) break;
    }
    return error;
}
