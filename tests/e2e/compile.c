/* compile.c - from text to a loaded module, as attnc does it, with the definition kept for the oracle. */
#define _POSIX_C_SOURCE 200809L
#include "backends/backend.h"
#include "frontend/frontend.h"
#include "ir/pass/pass.h"
#include "tests/e2e/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static ir_module *read_text(e2e_module *m, const char *source)
{
    *m = (e2e_module){.arena = arena_create(0, NULL, NULL)};
    m->diags.arena = m->arena;
    frontend_options o = {.prelude_dir = E2E_PRELUDE};
    ir_module *ir = frontend_compile_text(m->arena, &m->diags, "test.attn", source, strlen(source), &o);
    return m->diags.errors ? NULL : ir;
}

static bool refuse(e2e_module *m, const char *source, const char *sentence)
{
    printf("%s\n%s\n", sentence, source);
    diags_print(&m->diags, stdout, DIAG_TEXT, false);
    e2e_module_free(m);
    return false;
}

static void keep_definitions(e2e_module *m)
{
    m->definition = ARENA_ARRAY(m->arena, kernel *, m->ir->patterns.n + 1);
    for (size_t i = 0; i < m->ir->kernels.n; i++) {
        const kernel *k = m->ir->kernels.at[i];
        m->definition[k->pattern] = kernel_clone(m->ir, k, k->name);
    }
}

/* The passes between the definition and the schedule, which is made for each target. */
static const char *common_passes(arena *a)
{
    const char *list = "";
    for (int p = 0; p < PASS_COUNT; p++)
        if (p != PASS_lower_pattern && p != PASS_schedule)
            list = arena_printf(a, "%s%s%s", list, *list ? "," : "", pass_name((pass_id)p));
    return list;
}

static const char *schedule_for(const e2e_module *m, target_id target, backend_variant *out)
{
    ir_module view = *m->ir;
    view.kernels.at = NULL;
    view.kernels.n = view.kernels.cap = 0;
    for (size_t i = 0; i < m->ir->kernels.n; i++)
        VEC_PUSH(m->arena, &view.kernels, kernel_clone(m->ir, m->ir->kernels.at[i], m->ir->kernels.at[i]->name));
    *out = (backend_variant){target, view.kernels.at};
    return passes_run(&view, &(pass_options){.target = target, .passes = pass_name(PASS_schedule)});
}

static bool is_wanted(const char *targets, const char *name)
{
    for (const char *at = targets; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (!strncmp(at, name, strlen(name)) && (!at[strlen(name)] || at[strlen(name)] == ',')) return true;
    return !targets;
}

static const char *emit(e2e_module *m, const char *targets, const char *air, const char *path)
{
    backend_variant variants[TARGET_COUNT];
    size_t n = 0;
    for (int t = 0; t < TARGET_COUNT; t++) {
        if (!is_wanted(targets, target_get((target_id)t)->name)) continue;
        const char *wrong = schedule_for(m, (target_id)t, &variants[n++]);
        if (wrong) return wrong;
    }
    backend_options b = {.emit = EMIT_SO, .output = path, .air = air, .source_hash = "test"};
    return backend_cpu_emit(m->ir, variants, n, &b, &m->diags) ? NULL : "the backend refuses";
}

static const char *load(e2e_module *m, const char *targets, const char *air)
{
    char path[] = "./e2e-XXXXXX";
    int file = mkstemp(path);
    if (file < 0) return "no temporary file can be made here";
    close(file);
    const char *wrong = emit(m, targets, air, path);
    attn_error err;
    if (!wrong && attn_module_load(path, NULL, &m->loaded, &err))
        wrong = arena_printf(m->arena, "attn_module_load: %s", err.text);
    unlink(path);
    return wrong;
}

bool e2e_compile(e2e_module *m, const char *source, const char *targets)
{
    m->ir = read_text(m, source);
    if (!m->ir) return refuse(m, source, "the front end refuses");
    const char *wrong =
        passes_run(m->ir, &(pass_options){.target = TARGET_NONE, .passes = pass_name(PASS_lower_pattern)});
    if (wrong) return refuse(m, source, wrong);
    text air = {.arena = m->arena};
    ir_module_print(m->ir, &air);
    keep_definitions(m);
    wrong = passes_run(m->ir, &(pass_options){.target = TARGET_NONE, .passes = common_passes(m->arena)});
    if (!wrong) wrong = load(m, targets, text_get(&air));
    return !wrong || refuse(m, source, wrong);
}

bool e2e_is_refused(const char *source, const char *slug, const char *words)
{
    static const char *const slugs[] = {
#define DIAG(ident, slug, severity) slug,
#include "ir/base/diag.def"
#undef DIAG
    };
    e2e_module m;
    bool compiled = read_text(&m, source);
    for (size_t i = 0; i < m.diags.list.n && !compiled; i++) {
        const diagnostic *d = &m.diags.list.at[i];
        if (d->severity == DIAG_ERROR && !strcmp(slugs[d->id], slug) && strstr(d->text, words)) {
            e2e_module_free(&m);
            return true;
        }
    }
    return refuse(&m, source, compiled ? "compiles, but must be refused" : "is refused with other words");
}

void e2e_module_free(e2e_module *m)
{
    if (m->loaded) attn_module_destroy(m->loaded);
    if (m->arena) arena_destroy(m->arena);
    *m = (e2e_module){0};
}

/* ---- instruction sets ---- */

size_t e2e_isas(int32_t isa[E2E_MAX_ISAS])
{
    size_t n = 0;
    for (uint32_t i = ATTN_ISA_BASELINE; i <= ATTN_ISA_AVX512BF16; i++)
        if (attn_isa_available(i)) isa[n++] = (int32_t)i;
    return n;
}

const char *e2e_target_name(int32_t isa)
{
    for (int t = 0; t < TARGET_COUNT; t++)
        if (!strcmp(target_get((target_id)t)->name + strlen("cpu:"), attn_isa_name((uint32_t)isa)))
            return target_get((target_id)t)->name;
    ATTNC_UNREACHABLE();
}
