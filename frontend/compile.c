/* compile.c - the way from text to a module, in order. */
#include "frontend/ast_print.h"
#include "frontend/internal.h"

static frontend *begin(arena *a, diags *d, const frontend_options *o)
{
    frontend *f = ARENA_NEW(a, frontend);
    *f = (frontend){.arena = a, .diags = d, .options = o, .prelude_begin = UINT32_MAX};
    f->prelude = scope_create(a, NULL);
    f->file = scope_create(a, f->prelude);
    f->model_names = scope_create(a, f->file);
    f->file_patterns = scope_create(a, NULL);
    f->model_patterns = scope_create(a, NULL);
    return f;
}

/* After a mistake in the schedule or in sizes the patterns are still looked at, each as if one layer had it. */
static void assume_sizes(frontend *f)
{
    for (size_t i = 0; i < f->patterns.n; i++) {
        source_pattern *p = f->patterns.at[i];
        if (!p->layers.n) VEC_PUSH(f->arena, &p->layers, 0);
        p->index = (uint32_t)i;
        for (int c = 0; c < CONSTANT_COUNT; c++)
            if (!p->sizes.known[c]) p->sizes.known[c] = true, p->sizes.value[c] = 1;
    }
    for (int c = 0; c < CONSTANT_COUNT; c++)
        if (!f->model_sizes.known[c]) f->model_sizes.known[c] = true, f->model_sizes.value[c] = 1;
}

static ir_module *check_and_lower(frontend *f)
{
    f->module = ir_module_create(f->arena, f->model ? f->model->name : f->patterns.at[0]->decl->name);
    f->pool = f->module->pool;
    apply_defines(f);
    resolve_names(f);
    if (f->stuck) return NULL;
    bool scheduled = expand_schedule(f);
    if (!scheduled)
        for (size_t i = 0; i < f->patterns.n; i++) f->patterns.at[i]->index = (uint32_t)i;
    const bool known = compute_shapes(f) && scheduled;
    if (!known) assume_sizes(f);
    declare_symbols(f);
    for (size_t i = 0; i < f->patterns.n; i++)
        if (f->patterns.at[i]->index != UINT32_MAX) lower_pattern(f, f->patterns.at[i]);
    if (known) check_shared(f);
    if (f->diags->errors) return NULL;
    remark_kept(f);
    warn_unused(f);
    return f->module;
}

static ir_module *finish(frontend *f, bool loaded) { return loaded && load_model(f) ? check_and_lower(f) : NULL; }

ir_module *frontend_compile(arena *a, diags *d, const char *path, const frontend_options *o)
{
    frontend *f = begin(a, d, o);
    return finish(f, load_prelude(f, o->prelude_dir) && load_main(f, path));
}

ir_module *frontend_compile_text(arena *a, diags *d, const char *name, const char *source, size_t len,
                                 const frontend_options *o)
{
    frontend *f = begin(a, d, o);
    return finish(f, load_prelude(f, o->prelude_dir) && load_main_text(f, name, source, len));
}

bool frontend_print_ast(arena *a, diags *d, const char *path, const frontend_options *o, text *to)
{
    decl_list decls;
    if (!load_only(begin(a, d, o), path, &decls)) return false;
    ast_print(to, decls);
    return true;
}

bool frontend_print_prelude(arena *a, diags *d, const char *prelude_dir, text *to)
{
    frontend_options o = {.prelude_dir = prelude_dir};
    frontend *f = begin(a, d, &o);
    if (!load_prelude(f, prelude_dir)) return false;
    print_definitions(f, f->prelude, to);
    return true;
}
