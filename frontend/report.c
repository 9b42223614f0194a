/* report.c - diagnostics for expressions that stand inside definitions: the user's own line first, the way there as
 * notes. */
#include "frontend/internal.h"

#include <stdarg.h>
#include <stdio.h>

enum { MOST_USES = 3 }; /* notes on the way from a clause into nested definitions */

bool in_prelude(const frontend *f, span where)
{
    return where.source >= f->prelude_begin && where.source < f->prelude_end;
}

span user_place(const frontend *f, const frame *in, span where)
{
    for (; in && in->define && in_prelude(f, where); in = in->up) where = in->use;
    return where;
}

bool is_dead(const frontend *f, const frame *in) { return in && in->path && in->path == expr_bool(f->pool, false); }

static void add_uses(frontend *f, const frame *in, span where)
{
    const frame *at = in;
    for (; at && at->define && in_prelude(f, where); at = at->up) {
        diag_add_note(f->diags, where, "in the definition of '%s'", at->define->name);
        where = at->use;
    }
    for (int n = 0; at && at->define && n < MOST_USES; at = at->up, n++)
        if (!in_prelude(f, at->use)) diag_add_note(f->diags, at->use, "used here");
}

bool report(frontend *f, const frame *in, diag_id id, span where, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    char *what = arena_alloc(f->arena, (size_t)n + 1);
    vsnprintf(what, (size_t)n + 1, fmt, again);
    va_end(again);
    va_end(args);
    size_t before = f->diags->list.n;
    diag_report(f->diags, id, user_place(f, in, where), "%s", what);
    if (f->diags->list.n == before) return false;
    add_uses(f, in, where);
    return true;
}
