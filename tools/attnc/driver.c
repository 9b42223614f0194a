/* driver.c - one run of attnc: front end, passes, then whatever was asked for.
 *
 * All memory of a run is one arena with a limit; when a file needs more, the run ends with a diagnostic. Files appear only when
 * they are whole, and not at all after a mistake. */
#define _POSIX_C_SOURCE 200809L
#include "tools/attnc/driver.h"
#include "backends/backend.h"
#include "tools/attnc/picture.h"
#include "tools/attnc/processor.h"
#include "tools/attnc/report.h"
#include "tools/attnc/time.h"
#include "tools/attnc/tune.h"
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SESSION_LIMIT = 1 << 30 };

typedef struct session {
    const options *o;
    arena *arena;
    diags diags;
    time_table times;
    ir_module *module;
    const char *air; /* the definition, after lower-pattern */
    backend_variant variants[OPTIONS_MAX_TARGETS];
    tuning_db *tuning; /* or NULL */
    schedule_choice *choices; /* [targets][patterns]; NULL: before `schedule` */
    file_output outputs[2];
    bool bad_usage;
    jmp_buf too_large;
} session;

/* ---- small things ------------------------------------------------------------------------------------------------------------ */

static bool file_error(session *s, const tool_error *err)
{
    diag_report(&s->diags, DIAG_ID_FILE_ERROR, SPAN_NONE, "%s", err->text);
    return false;
}

static bool write_text(session *s, const char *output, const char *all)
{
    tool_error err;
    return file_write(output ? output : "-", all, strlen(all), &err) || file_error(s, &err);
}

static bool is_folder_of_prelude(const char *dir) { return !access(dir, R_OK | X_OK); }

/* The option, the environment, beside the installed program, in the sources that it was built from. */
static const char *find_prelude(session *s)
{
    const char *env = getenv("ATTNC_PRELUDE");
    if (s->o->prelude_dir) return s->o->prelude_dir;
    if (env && *env) return env;
    char program[4096];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n > 0) {
        program[n] = 0;
        char *slash = strrchr(program, '/');
        if (slash) *slash = 0;
        const char *installed = arena_printf(s->arena, "%s/../share/attnc/prelude", program);
        if (is_folder_of_prelude(installed)) return installed;
    }
    return ATTNC_SOURCE_PRELUDE;
}

static frontend_options frontend_settings(session *s)
{
    return (frontend_options){.prelude_dir = find_prelude(s), .defines = s->o->defines, .n_defines = s->o->n_defines};
}

static const char *hash_of(arena *a, const char *all)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (const char *p = all; *p; p++)
        h = (h ^ (unsigned char)*p) * 0x100000001b3u;
    return arena_printf(a, "%016" PRIx64, h);
}

/* ---- passes ------------------------------------------------------------------------------------------------------------------- */

/* The passes of this run, those of a target and those before it. --stop-after is included. */
typedef struct pass_plan {
    const char *lower, *common; /* "" when there are none */
    bool schedule;
} pass_plan;

static bool is_name(const char *at, size_t len, pass_id p)
{
    return strlen(pass_name(p)) == len && !strncmp(pass_name(p), at, len);
}

static void plan_pass(arena *a, pass_plan *plan, pass_id p)
{
    if (p == PASS_schedule)
        plan->schedule = true;
    else if (p == PASS_lower_pattern && !*plan->common)
        plan->lower = pass_name(p);
    else
        plan->common = arena_printf(a, "%s%s%s", plan->common, *plan->common ? "," : "", pass_name(p));
}

static pass_plan plan_passes(session *s)
{
    pass_plan plan = {"", "", false};
    const char *at = s->o->passes, *stop = s->o->stop_after;
    for (int p = 0; p < PASS_COUNT && !at; p++) {
        plan_pass(s->arena, &plan, (pass_id)p);
        if (stop && !strcmp(stop, pass_name((pass_id)p))) return plan;
    }
    while (at) {
        size_t n = strcspn(at, ",");
        for (int p = 0; p < PASS_COUNT; p++)
            if (is_name(at, n, (pass_id)p)) plan_pass(s->arena, &plan, (pass_id)p);
        if (stop && strlen(stop) == n && !strncmp(at, stop, n)) return plan;
        at = at[n] ? at + n + 1 : NULL;
    }
    return plan;
}

static bool run_passes(session *s, ir_module *m, const char *passes, target_id target, const schedule *given)
{
    const options *o = s->o;
    if (!*passes) return true;
    pass_options p = {.target = target,
                      .passes = passes,
                      .print_after = o->print_after,
                      .print_before = o->print_before,
                      .verify_each = o->verify_each,
                      .pass_ms = s->times.pass,
                      .given = given};
    const char *wrong = passes_run(m, &p);
    if (wrong) { /* --passes in an order that does not work */
        fprintf(stderr, "attnc: error: %s\n", wrong);
        s->bad_usage = true;
    }
    return !wrong;
}

/* The named file must be one; what lies in the default place may be anything, and is no reason not to compile. */
static bool open_tuning(session *s)
{
    const char *path = s->o->tuning_db ? s->o->tuning_db : tuning_db_default_path(s->arena);
    tool_error err;
    if (s->o->no_tuning_db || !path || (!s->o->tuning_db && !tuning_db_exists(path))) return true;
    s->tuning = tuning_db_open(path, false, &err);
    if (s->tuning || s->o->tuning_db) return s->tuning || file_error(s, &err);
    diag_report(&s->diags, DIAG_ID_TUNING, SPAN_NONE, "%s", err.text);
    return true;
}

/* Sizes of each pattern's kernel for a target, from the tuning database or the table. */
static const schedule *choose_schedules(session *s, size_t index)
{
    const size_t n = s->module->patterns.n;
    schedule *given = ARENA_ARRAY(s->arena, schedule, n + 1);
    if (!s->choices) s->choices = ARENA_ARRAY(s->arena, schedule_choice, n * s->o->n_targets + 1);
    for (uint32_t i = 0; i < n; i++) {
        schedule_choice *c = &s->choices[index * n + i];
        *c = schedule_choose(s->arena, s->tuning, s->module, i, s->o->targets[index], s->o->native, &s->diags);
        given[i] = c->sizes;
    }
    return given;
}

/* A target's own kernels: clones in a view of the module, so that `schedule` may choose differently for each. */
static bool schedule_for(session *s, size_t index, bool wanted)
{
    ir_module *m = s->module, *view = ARENA_NEW(s->arena, ir_module);
    *view = *m;
    view->kernels.at = NULL;
    view->kernels.n = view->kernels.cap = 0;
    for (size_t i = 0; i < m->kernels.n; i++)
        VEC_PUSH(s->arena, &view->kernels, kernel_clone(m, m->kernels.at[i], m->kernels.at[i]->name));
    s->variants[index] = (backend_variant){s->o->targets[index], view->kernels.at};
    return !wanted || run_passes(s, view, pass_name(PASS_schedule), s->o->targets[index], choose_schedules(s, index));
}

static bool compile_kernels(session *s)
{
    pass_plan plan = plan_passes(s);
    if (!run_passes(s, s->module, plan.lower, TARGET_NONE, NULL)) return false;
    text air = {.arena = s->arena};
    ir_module_print(s->module, &air);
    s->air = text_get(&air);
    if (!run_passes(s, s->module, plan.common, TARGET_NONE, NULL)) return false;
    if (s->o->tune) return true;
    if (plan.schedule && !open_tuning(s)) return false;
    for (size_t i = 0; i < s->o->n_targets; i++)
        if (!schedule_for(s, i, plan.schedule)) return false;
    return true;
}

/* ---- outputs ------------------------------------------------------------------------------------------------------------------ */

/* The kernels as they stand at the end: one target's under their own names, several targets' with the target behind it. */
static bool emit_air(session *s)
{
    ir_module view = *s->module;
    view.kernels.at = NULL;
    view.kernels.n = view.kernels.cap = 0;
    bool scheduled = s->module->kernels.n && s->variants[0].kernels[0]->schedule.lanes;
    size_t n_targets = scheduled ? s->o->n_targets : 1;
    for (size_t t = 0; t < n_targets; t++)
        for (size_t i = 0; i < s->module->kernels.n; i++) {
            kernel *k = s->variants[t].kernels[i];
            if (n_targets > 1) k->name = arena_printf(s->arena, "%s_%s", k->name, target_get(s->variants[t].target)->name + 4);
            VEC_PUSH(s->arena, &view.kernels, k);
        }
    text t = {.arena = s->arena};
    ir_module_print(&view, &t);
    return write_text(s, s->o->output, text_get(&t));
}

static bool emit_pattern(session *s)
{
    text t = {.arena = s->arena};
    ir_module_print(s->module, &t);
    return write_text(s, s->o->output, text_get(&t));
}

/* kernel.o -> kernel.h */
static const char *header_name(session *s, const char *object)
{
    size_t n = strlen(object);
    bool dot_o = n > 2 && !strcmp(object + n - 2, ".o");
    return arena_printf(s->arena, "%.*s.h", (int)(dot_o ? n - 2 : n), object);
}

static bool begin_output(session *s, size_t i, const char *path)
{
    tool_error err;
    return file_output_begin(&s->outputs[i], path, &err) || file_error(s, &err);
}

static bool commit_outputs(session *s)
{
    tool_error err;
    for (size_t i = 0; i < ATTNC_COUNT(s->outputs); i++)
        if (s->outputs[i].path && !file_output_commit(&s->outputs[i], &err)) return file_error(s, &err);
    return true;
}

static bool emit_machine(session *s, emit_kind kind)
{
    const char *output = s->o->output && strcmp(s->o->output, "-") ? s->o->output : NULL;
    if (output && !begin_output(s, 0, output)) return false;
    if (kind == EMIT_OBJ && !begin_output(s, 1, header_name(s, output))) return false;
    backend_options b = {.emit = kind,
                         .output = s->outputs[0].temporary,
                         .header = s->outputs[1].temporary,
                         .native = s->o->native,
                         .source_hash = hash_of(s->arena, s->air),
                         .air = s->air,
                         .times = &s->times.backend};
    return backend_cpu_emit(s->module, s->variants, s->o->n_targets, &b, &s->diags) && commit_outputs(s);
}

static bool emit(session *s)
{
    switch (s->o->emit) {
    case OUTPUT_AST:
    case OUTPUT_PATTERN:
    case OUTPUT_NONE: return true; /* written before the passes ran */
    case OUTPUT_AIR: return emit_air(s);
    case OUTPUT_LLVM: return emit_machine(s, EMIT_LLVM);
    case OUTPUT_ASM: return emit_machine(s, EMIT_ASM);
    case OUTPUT_OBJ: return emit_machine(s, EMIT_OBJ);
    case OUTPUT_SO: return emit_machine(s, EMIT_SO);
    }
    ATTNC_UNREACHABLE();
}

static bool draw(session *s)
{
    tool_error err;
    if (s->o->layer >= (int64_t)s->module->layers) {
        diag_report(&s->diags, DIAG_ID_RANGE, SPAN_NONE, "--layer=%" PRId64 ": the model has layers 0 to %u", s->o->layer,
                    s->module->layers - 1);
        return false;
    }
    picture_options p = {.context = s->o->context, .layer = s->o->layer, .output = s->o->picture};
    return picture_write(s->arena, s->module, &p, &err) || file_error(s, &err);
}

static bool print_report(session *s)
{
    report_options r = {.context = s->o->context ? s->o->context : REPORT_DEFAULT_CONTEXT,
                        .json = s->o->json,
                        .choices = s->choices,
                        .variants = s->variants,
                        .n_variants = s->o->n_targets};
    text t = {.arena = s->arena};
    report_print(s->arena, s->module, &r, &t);
    return write_text(s, NULL, text_get(&t));
}

/* ---- the run ------------------------------------------------------------------------------------------------------------------ */

static bool print_ast(session *s)
{
    frontend_options f = frontend_settings(s);
    text t = {.arena = s->arena};
    return frontend_print_ast(s->arena, &s->diags, s->o->input, &f, &t) && write_text(s, s->o->output, text_get(&t));
}

static bool run_frontend(session *s)
{
    frontend_options f = frontend_settings(s);
    double start = time_now();
    s->module = frontend_compile(s->arena, &s->diags, s->o->input, &f);
    s->times.frontend = time_now() - start;
    return s->module != NULL;
}

static bool analyse(session *s)
{
    double start = time_now();
    bool ok = (!s->o->report || print_report(s)) && (!s->o->picture || draw(s));
    s->times.analysis = time_now() - start;
    return ok;
}

/* ---- tuning ------------------------------------------------------------------------------------------------------------------- */

static bool open_tuning_to_write(session *s, tool_error *err)
{
    const char *path = s->o->tuning_db ? s->o->tuning_db : tuning_db_default_path(s->arena);
    if (!path) return tool_fail(err, "no place for a tuning database: neither XDG_CACHE_HOME nor HOME is set; name one by --tuning-db=FILE");
    if (!s->o->tuning_db) tuning_db_make_folders(path);
    s->tuning = tuning_db_open(path, true, err);
    return s->tuning != NULL;
}

/* The targets that this machine can run. */
static size_t runnable_targets(const session *s, target_id *out)
{
    size_t n = 0;
    for (size_t i = 0; i < s->o->n_targets; i++) {
        const char *name = target_get(s->o->targets[i])->name;
        const int isa = attn_isa_parse(name + strlen("cpu:"));
        if (isa >= 0 && attn_isa_available((uint32_t)isa))
            out[n++] = s->o->targets[i];
        else
            fprintf(stderr, "attnc: %s cannot be measured here: this processor does not run it\n", name);
    }
    return n;
}

static bool tune(session *s)
{
    target_id targets[OPTIONS_MAX_TARGETS];
    tool_error err;
    tune_options t = {.module = s->module,
                      .targets = targets,
                      .native = s->o->native,
                      .shapes = s->o->tune_shapes,
                      .n_shapes = s->o->n_tune_shapes,
                      .seconds = s->o->tune_seconds,
                      .diags = &s->diags};
    if (!*processor_name(s->arena)) return tool_fail(&err, "this processor does not say what it is: an entry could not name it"), file_error(s, &err);
    t.n_targets = runnable_targets(s, targets);
    if (!t.n_targets) return tool_fail(&err, "this machine runs none of the targets"), file_error(s, &err);
    if (!open_tuning_to_write(s, &err)) return file_error(s, &err);
    t.db = s->tuning;
    return tune_run(&t, &err) || (!s->diags.errors && file_error(s, &err));
}

static bool compile(session *s)
{
    if (s->o->emit == OUTPUT_AST) return print_ast(s);
    if (!run_frontend(s)) return false;
    if (s->o->emit == OUTPUT_PATTERN) return emit_pattern(s) && (!s->o->picture || draw(s));
    if (!compile_kernels(s)) return false;
    return s->o->tune ? tune(s) : analyse(s) && emit(s);
}

static bool help_prelude(session *s)
{
    text t = {.arena = s->arena};
    return frontend_print_prelude(s->arena, &s->diags, find_prelude(s), &t) && write_text(s, NULL, text_get(&t));
}

static bool run_mode(session *s)
{
    switch (s->o->mode) {
    case MODE_COMPILE: return compile(s);
    case MODE_HELP_PRELUDE: return help_prelude(s);
    case MODE_HELP: options_help(stdout); return true;
    case MODE_VERSION: puts("attnc " ATTNC_VERSION); return true;
    }
    ATTNC_UNREACHABLE();
}

static void on_exhausted(void *ctx) { longjmp(((session *)ctx)->too_large, 1); }

/* The arena is full, so this diagnostic gets one of its own. */
static void report_too_large(const session *s)
{
    arena *a = arena_create(0, NULL, NULL);
    diags d = {.arena = a};
    diag_report(&d, DIAG_ID_TOO_LARGE, SPAN_NONE, "%s needs more than %d MiB, or more than there is, to compile",
                s->o->input ? s->o->input : "the prelude", SESSION_LIMIT >> 20);
    diags_print(&d, stderr, s->o->diag_format, false);
    arena_destroy(a);
}

static bool run(session *s)
{
    if (setjmp(s->too_large)) {
        report_too_large(s);
        return false;
    }
    bool ok = run_mode(s);
    if (ok && fflush(stdout)) {
        tool_error err;
        tool_fail(&err, "cannot write to standard output: %s", strerror(errno));
        ok = file_error(s, &err);
    }
    bool colour = isatty(STDERR_FILENO) && !getenv("NO_COLOR");
    diags_print(&s->diags, stderr, s->o->diag_format, colour);
    if (s->o->time && s->o->mode == MODE_COMPILE) time_print(&s->times, stderr);
    return ok && !s->diags.errors;
}

int driver_run(const options *o)
{
    session *s = calloc(1, sizeof *s);
    if (!s) return EXIT_MISTAKES;
    s->o = o;
    s->times.start = time_now();
    s->arena = arena_create(SESSION_LIMIT, on_exhausted, s);
    s->diags.arena = s->arena;
    int status = run(s) ? EXIT_DONE : s->bad_usage ? EXIT_USAGE : EXIT_MISTAKES;
    for (size_t i = 0; i < ATTNC_COUNT(s->outputs); i++)
        file_output_abandon(&s->outputs[i]);
    tuning_db_close(s->tuning);
    arena_destroy(s->arena);
    free(s);
    return status;
}
