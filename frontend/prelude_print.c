/* prelude_print.c - the prelude as help: name, arguments and the comment above each definition. */
#include "frontend/internal.h"

#include <string.h>

/* Begin of the line that holds or ends before `at`; lines end at '\n'. */
static size_t line_begin(const char *source, size_t at)
{
    while (at > 0 && source[at - 1] != '\n') at--;
    return at;
}

static bool is_comment(const char *source, size_t begin)
{
    while (source[begin] == ' ' || source[begin] == '\t') begin++;
    return source[begin] == '/' && source[begin + 1] == '/';
}

/* Copies a comment line without its slashes. */
static void print_comment_line(text *to, const char *source, size_t begin)
{
    const char *p = source + begin;
    while (*p == ' ' || *p == '\t') p++;
    p += strspn(p, "/");
    while (*p == ' ') p++;
    text_add(to, "    ");
    text_addn(to, p, strcspn(p, "\r\n"));
    text_add(to, "\n");
}

static void print_comment(text *to, const char *source, size_t decl_begin)
{
    size_t end = line_begin(source, decl_begin), begin = end;
    while (begin > 0 && is_comment(source, line_begin(source, begin - 1))) begin = line_begin(source, begin - 1);
    while (begin < end) {
        print_comment_line(to, source, begin);
        begin += strcspn(source + begin, "\n") + 1;
    }
}

static void print_header(text *to, const decl *d)
{
    static const char *const word[] = {"mask", "score", "let"};
    text_printf(to, "%s %s", word[d->define], d->name);
    for (const node *a = d->params.first; a; a = a->next)
        text_printf(to, "%s%s%s", a == d->params.first ? "(" : ", ", a->name, a->next ? "" : ")");
    text_add(to, "\n");
}

void print_definitions(const frontend *f, const scope *s, text *to)
{
    size_t n;
    decl *const *all = scope_all(s, &n);
    for (size_t i = 0; i < n; i++) {
        if (all[i]->kind != DECL_DEFINE) continue;
        print_header(to, all[i]);
        print_comment(to, f->diags->sources.at[all[i]->where.source].text, all[i]->where.begin);
    }
}
