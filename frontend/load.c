/* load.c - reads a file with its imports and the prelude, and sorts their declarations into scopes. */
#define _XOPEN_SOURCE 700
#include "frontend/internal.h"
#include "frontend/parse_context.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ---- files ------------------------------------------------------------------------------------------------------ */
static bool read_stream(frontend *f, FILE *in, text *to)
{
    static const size_t piece = 65536;
    char *buffer = arena_alloc(f->arena, piece);
    for (;;) {
        size_t n = fread(buffer, 1, piece, in);
        text_addn(to, buffer, n);
        if (to->n > MAX_SOURCE_BYTES || n < piece) return !ferror(in);
    }
}

/* Adds the file as a source. */
static bool read_source(frontend *f, const char *path, diag_id id, span asked, uint32_t *source)
{
    text t = {.arena = f->arena};
    FILE *in = fopen(path, "rb");
    bool good = in && read_stream(f, in, &t);
    int why = errno;
    if (in) fclose(in);
    if (!good) {
        diag_report(f->diags, id, asked, "cannot read '%s': %s", path, strerror(why));
        return false;
    }
    if (t.n > MAX_SOURCE_BYTES) {
        diag_report(f->diags, DIAG_ID_TOO_LARGE, asked, "'%s' is larger than 16 MiB", path);
        return false;
    }
    *source = diags_add_source(f->diags, path, text_get(&t), t.n);
    return true;
}

static const char *beside(frontend *f, const char *importer, const char *name)
{
    const char *slash = strrchr(importer, '/');
    if (*name == '/' || !slash) return name;
    return arena_printf(f->arena, "%.*s/%s", (int)(slash - importer), importer, name);
}

static const char *true_path(frontend *f, const char *path)
{
    char *real = realpath(path, NULL);
    if (!real) return path;
    const char *kept = arena_strdup(f->arena, real);
    free(real);
    return kept;
}

/* ---- declarations ----------------------------------------------------------------------------------------------- */
/* `mask g(a)` does not hide the variable g, and `param min` not the function. */
static bool is_language_name(const decl *d)
{
    if (d->kind == DECL_DEFINE && d->params.n) return is_builtin(d->name);
    return find_constant(d->name) >= 0 || find_variable(d->name) >= 0;
}

static void report_redefined(frontend *f, const decl *d, const decl *first)
{
    diag_report(f->diags, DIAG_ID_REDEFINED, d->name_where, "'%s' is defined twice", d->name);
    diag_add_note(f->diags, first->name_where, "first defined here");
}

static bool repeats_argument(const decl *d, const node **which)
{
    uint32_t n = 0;
    for (const node *a = d->params.first; a; a = a->next)
        if (++n > MOST_ARGUMENTS) return *which = a, true;
    for (const node *a = d->params.first; a; a = a->next)
        for (const node *b = a->next; b; b = b->next)
            if (!strcmp(a->name, b->name)) return *which = b, true;
    return false;
}

static void add_name(frontend *f, scope *to, decl *d)
{
    if (is_language_name(d)) {
        diag_report(f->diags, DIAG_ID_REDEFINED, d->name_where, "'%s' is a name of the language", d->name);
        if (d->kind == DECL_DEFINE) diag_add_hint(f->diags, "this is a definition; equality is written '=='");
        return;
    }
    const node *bad;
    if (repeats_argument(d, &bad)) {
        if (d->params.n > MOST_ARGUMENTS)
            diag_report(f->diags, DIAG_ID_ARGUMENTS, bad->where, "more than %d arguments", MOST_ARGUMENTS);
        else
            diag_report(f->diags, DIAG_ID_REDEFINED, bad->where, "'%s' is an argument already", bad->name);
        return;
    }
    const decl *same = scope_find_here(to, d->name, d->kind == DECL_DEFINE ? (int)d->params.n : SCOPE_ANY);
    const decl *other = scope_find_here(to, d->name, SCOPE_ANY);
    if (!same && other && (other->kind != DECL_DEFINE) != (d->kind != DECL_DEFINE)) same = other;
    if (same)
        report_redefined(f, d, same);
    else
        scope_add(to, d);
}

static void add_pattern(frontend *f, scope *to, decl *d)
{
    const decl *same = scope_find_here(to, d->name, SCOPE_ANY);
    if (same)
        report_redefined(f, d, same);
    else
        scope_add(to, d);
}

static bool is_named(const decl *d)
{
    return d->kind == DECL_DEFINE || d->kind == DECL_PARAM || d->kind == DECL_INPUT || d->kind == DECL_ATTR;
}

static const char *clause_word(const decl *d)
{
    static const char *const word[CLAUSE_COUNT] = {"layers", "heads", "dim",   "dim_v", "dtype",
                                                   "mask",   "score", "scale", "row",   "kv",    "max_len"};
    return d->kind == DECL_SCHEDULE ? "schedule" : word[d->clause];
}

/* What may stand at file level. Models of imported files are not of interest: only their definitions are. */
static void collect_file(frontend *f, decl_list decls, scope *to, bool is_main)
{
    for (decl *next, *d = decls.first; d; d = next) {
        next = d->next;
        if (is_named(d))
            add_name(f, to, d);
        else if (d->kind == DECL_PATTERN)
            add_pattern(f, f->file_patterns, d);
        else if (d->kind == DECL_MODEL && is_main)
            VEC_PUSH(f->arena, &f->models, d);
        else if (d->kind == DECL_CLAUSE || d->kind == DECL_SCHEDULE) {
            diag_report(f->diags, DIAG_ID_CLAUSE, d->name_where, "'%s' belongs into a model or a pattern",
                        clause_word(d));
        }
    }
}

/* ---- imports ---------------------------------------------------------------------------------------------------- */
typedef struct import_chain {
    const struct import_chain *up;
    const char *path; /* the true one */
    unsigned depth;
} import_chain;

static bool load_imports(frontend *f, decl_list decls, const char *path, const import_chain *chain);

static bool is_open(const import_chain *chain, const char *path)
{
    for (; chain; chain = chain->up)
        if (!strcmp(chain->path, path)) return true;
    return false;
}

static bool is_loaded(const frontend *f, const char *path)
{
    for (size_t i = 0; i < f->files.n; i++)
        if (!strcmp(f->files.at[i].path, path)) return true;
    return false;
}

static bool load_import(frontend *f, const decl *d, const char *importer, const import_chain *chain)
{
    const char *path = beside(f, importer, d->text), *real = true_path(f, path);
    if (is_open(chain, real)) {
        diag_report(f->diags, DIAG_ID_IMPORT, d->name_where, "'%s' imports itself", d->text);
        return false;
    }
    if (is_loaded(f, real)) return true;
    if (chain->depth >= MAX_IMPORT_DEPTH) {
        diag_report(f->diags, DIAG_ID_IMPORT, d->name_where, "imports are nested more than %d deep", MAX_IMPORT_DEPTH);
        return false;
    }
    uint32_t source;
    if (!read_source(f, path, DIAG_ID_IMPORT, d->name_where, &source)) return false;
    decl_list decls = parse_file(f->arena, f->diags, source);
    loaded_file file = {.path = real, .decls = decls};
    VEC_PUSH(f->arena, &f->files, file);
    import_chain here = {chain, real, chain->depth + 1};
    bool good = load_imports(f, decls, path, &here);
    collect_file(f, decls, f->file, false);
    return good;
}

static bool load_imports(frontend *f, decl_list decls, const char *path, const import_chain *chain)
{
    bool good = true;
    for (const decl *d = decls.first; d; d = d->next)
        if (d->kind == DECL_IMPORT) good &= load_import(f, d, path, chain);
    return good;
}

static bool load_source(frontend *f, const char *path, uint32_t source)
{
    decl_list decls = parse_file(f->arena, f->diags, source);
    import_chain here = {NULL, true_path(f, path), 0};
    loaded_file file = {.path = here.path, .decls = decls};
    VEC_PUSH(f->arena, &f->files, file);
    load_imports(f, decls, path, &here);
    bool readable = f->diags->errors == 0; /* after syntax errors too much is missing to go on */
    collect_file(f, decls, f->file, true);
    return readable;
}

bool load_main(frontend *f, const char *path)
{
    uint32_t source;
    return read_source(f, path, DIAG_ID_FILE_ERROR, SPAN_NONE, &source) && load_source(f, path, source);
}

bool load_main_text(frontend *f, const char *name, const char *source_text, size_t len)
{
    if (len > MAX_SOURCE_BYTES) {
        diag_report(f->diags, DIAG_ID_TOO_LARGE, SPAN_NONE, "'%s' is larger than 16 MiB", name);
        return false;
    }
    return load_source(f, name, diags_add_source(f->diags, name, source_text, len));
}

bool load_only(frontend *f, const char *path, decl_list *out)
{
    uint32_t source;
    if (!read_source(f, path, DIAG_ID_FILE_ERROR, SPAN_NONE, &source)) return false;
    *out = parse_file(f->arena, f->diags, source);
    return f->diags->errors == 0;
}

/* ---- prelude ---------------------------------------------------------------------------------------------------- */
static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static bool is_attn_file(const char *name)
{
    size_t n = strlen(name);
    return n > 5 && *name != '.' && !strcmp(name + n - 5, ".attn");
}

bool load_prelude(frontend *f, const char *dir)
{
    VEC(char *) names = {0};
    DIR *in = opendir(dir);
    if (!in) {
        diag_report(f->diags, DIAG_ID_FILE_ERROR, SPAN_NONE, "cannot read the prelude's folder '%s': %s", dir,
                    strerror(errno));
        return false;
    }
    for (const struct dirent *e; (e = readdir(in));)
        if (is_attn_file(e->d_name)) VEC_PUSH(f->arena, &names, arena_strdup(f->arena, e->d_name));
    closedir(in);
    if (names.n) qsort(names.at, names.n, sizeof *names.at, by_name);
    f->prelude_begin = (uint32_t)f->diags->sources.n;
    f->prelude_end = f->prelude_begin;
    for (size_t i = 0; i < names.n; i++) {
        uint32_t source;
        if (!read_source(f, arena_printf(f->arena, "%s/%s", dir, names.at[i]), DIAG_ID_FILE_ERROR, SPAN_NONE, &source))
            return false;
        f->prelude_end = source + 1;
        collect_file(f, parse_file(f->arena, f->diags, source), f->prelude, false);
    }
    return f->diags->errors == 0;
}

/* ---- model and patterns ----------------------------------------------------------------------------------------- */
static bool set_clause(frontend *f, decl **slot, decl *d)
{
    if (*slot) {
        diag_report(f->diags, DIAG_ID_CLAUSE, d->name_where, "a second '%s' clause", clause_word(d));
        diag_add_note(f->diags, (*slot)->name_where, "the first one is here");
        if (d->kind == DECL_CLAUSE && d->clause == CLAUSE_SCORE)
            diag_add_hint(f->diags, "several scores are one list: score a, b;");
        return false;
    }
    *slot = d;
    return true;
}

static void collect_pattern(frontend *f, decl *d, scope *outer)
{
    source_pattern *p = ARENA_NEW(f->arena, source_pattern);
    *p = (source_pattern){.decl = d, .names = scope_create(f->arena, outer), .index = UINT32_MAX};
    d->home = outer;
    d->number = (uint32_t)f->patterns.n;
    for (decl *next, *x = d->body.first; x; x = next) {
        next = x->next;
        if (is_named(x))
            add_name(f, p->names, x);
        else if (x->kind == DECL_CLAUSE && x->clause != CLAUSE_LAYERS)
            set_clause(f, &p->clause[x->clause], x);
        else if (x->kind == DECL_PATTERN)
            diag_report(f->diags, DIAG_ID_CLAUSE, x->name_where, "a pattern cannot stand inside a pattern");
        else {
            diag_report(f->diags, DIAG_ID_CLAUSE, x->name_where, "'%s' belongs into a model", clause_word(x));
            if (!f->model)
                diag_add_hint(f->diags, "write: model %s { %s ...; pattern main { ... } }", d->name, clause_word(x));
        }
    }
    VEC_PUSH(f->arena, &f->patterns, p);
}

static void collect_model(frontend *f, decl *model)
{
    for (decl *next, *d = model->body.first; d; d = next) {
        next = d->next;
        if (is_named(d))
            add_name(f, f->model_names, d);
        else if (d->kind == DECL_CLAUSE)
            set_clause(f, &f->model_clause[d->clause], d);
        else if (d->kind == DECL_SCHEDULE)
            set_clause(f, &f->schedule, d);
        else if (d->kind == DECL_PATTERN)
            add_pattern(f, f->model_patterns, d);
    }
}

static void collect_patterns(frontend *f, const scope *from, scope *names)
{
    size_t n;
    decl *const *all = scope_all(from, &n);
    for (size_t i = 0; i < n; i++) collect_pattern(f, all[i], names);
}

/* Patterns that the main file itself holds: of imported ones none can be meant. */
static size_t count_lone(const frontend *f, decl **last)
{
    size_t n = 0;
    for (decl *d = f->files.at[0].decls.first; d; d = d->next)
        if (d->kind == DECL_PATTERN) *last = d, n++;
    return n;
}

static bool load_lone(frontend *f)
{
    decl *lone = NULL;
    size_t n = count_lone(f, &lone);
    if (n == 1) {
        collect_pattern(f, lone, f->model_names);
        return true;
    }
    span where = lone ? lone->name_where : SPAN_NONE;
    if (n) {
        diag_report(f->diags, DIAG_ID_MISSING, where, "several patterns need a model that says which layer has which");
        diag_add_hint(f->diags, "model NAME { ... schedule (first, second) * 12; }");
    } else {
        diag_report(f->diags, DIAG_ID_MISSING, where, "'%s' holds neither a model nor a pattern", f->files.at[0].path);
        diag_add_hint(f->diags, "the smallest file: pattern main { heads 8 / 8; dim 64; mask causal; }");
    }
    return false;
}

bool load_model(frontend *f)
{
    if (!f->models.n) return load_lone(f);
    f->model = f->models.at[0];
    for (size_t i = 1; i < f->models.n; i++) {
        diag_report(f->diags, DIAG_ID_CLAUSE, f->models.at[i]->name_where, "a second model: one file holds one model");
        diag_add_note(f->diags, f->model->name_where, "the first one is here");
    }
    collect_model(f, f->model);
    collect_patterns(f, f->file_patterns, f->file);
    collect_patterns(f, f->model_patterns, f->model_names);
    return true;
}
