/* diag.c - collecting and printing diagnostics. */
#include "ir/base/diag.h"

#include <stdarg.h>
#include <string.h>

static const struct {
    const char *slug;
    diag_severity severity;
} table[] = {
#define DIAG(ident, slug, severity) {slug, DIAG_##severity},
#include "ir/base/diag.def"
#undef DIAG
};
static const char *const severity_name[] = {"error", "warning", "performance", "note"};
static const char *const severity_colour[] = {"\033[1;31m", "\033[1;35m", "\033[1;33m", "\033[1;36m"};

uint32_t diags_add_source(diags *d, const char *name, const char *text, size_t len)
{
    diag_source s = {arena_strdup(d->arena, name), arena_copy(d->arena, text, len), len};
    VEC_PUSH(d->arena, &d->sources, s);
    return (uint32_t)d->sources.n - 1;
}

static char *format(arena *a, const char *fmt, va_list args)
{
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    if (n < 0) ATTNC_BUG("bad format");
    char *p = arena_alloc(a, (size_t)n + 1);
    vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return p;
}

static bool same_span(span a, span b) { return a.source == b.source && a.begin == b.begin && a.end == b.end; }

static bool is_repeat(const diags *d, diag_id id, span where, const char *what)
{
    for (size_t i = 0; i < d->list.n; i++) {
        const diagnostic *x = &d->list.at[i];
        if (x->id == id && same_span(x->where, where) && !strcmp(x->text, what)) return true;
    }
    return false;
}

void diag_report(diags *d, diag_id id, span where, const char *fmt, ...)
{
    diag_severity severity = table[id].severity;
    size_t most = d->max_errors ? d->max_errors : 20;
    d->silent = true;
    if (severity == DIAG_ERROR && d->errors >= most) {
        d->errors++;
        return;
    }
    va_list args;
    va_start(args, fmt);
    char *what = format(d->arena, fmt, args);
    va_end(args);
    if (is_repeat(d, id, where, what)) return;
    d->silent = false;
    if (severity == DIAG_ERROR) d->errors++;
    if (severity == DIAG_WARNING) d->warnings++;
    diagnostic x = {.id = id, .severity = severity, .where = where, .text = what};
    VEC_PUSH(d->arena, &d->list, x);
}

static void add_note(diags *d, span where, char *what)
{
    if (!d->list.n || d->silent) return;
    diag_note *n = ARENA_NEW(d->arena, diag_note), **at = &d->list.at[d->list.n - 1].notes;
    *n = (diag_note){.where = where, .text = what};
    while (*at) at = &(*at)->next;
    *at = n;
}

void diag_add_note(diags *d, span where, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    add_note(d, where, format(d->arena, fmt, args));
    va_end(args);
}

void diag_add_hint(diags *d, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    add_note(d, SPAN_NONE, format(d->arena, fmt, args));
    va_end(args);
}

bool diag_locate(const diags *d, span where, diag_place *out)
{
    if (where.source >= d->sources.n) return false;
    const diag_source *s = &d->sources.at[where.source];
    size_t at = where.begin < s->len ? where.begin : s->len, start = 0;
    uint32_t line = 1;
    for (size_t i = 0; i < at; i++)
        if (s->text[i] == '\n') line++, start = i + 1;
    size_t end = start;
    while (end < s->len && s->text[end] != '\n' && s->text[end] != '\r') end++;
    *out = (diag_place){s->name, line, (uint32_t)(at - start) + 1, s->text + start, end - start};
    return true;
}

/* ---- text ---------------------------------------------------------------------------------------------------- */

static bool is_continuation(char c) { return ((unsigned char)c & 0xc0) == 0x80; }

/* The line as a terminal may show it: control bytes and NULs become spaces, tabs stay. */
static void print_line(const diag_place *p, FILE *to)
{
    for (size_t i = 0; i < p->line_len; i++) {
        unsigned char c = (unsigned char)p->line_text[i];
        fputc(c == '\t' || (c >= 32 && c != 127) ? c : ' ', to);
    }
    fputc('\n', to);
}

static void print_caret(const diag_place *p, span where, FILE *to)
{
    size_t from = p->column - 1, len = where.end > where.begin ? where.end - where.begin : 1;
    for (size_t i = 0; i < from && i < p->line_len; i++)
        if (p->line_text[i] == '\t' || !is_continuation(p->line_text[i])) fputc(p->line_text[i] == '\t' ? '\t' : ' ', to);
    fputc('^', to);
    for (size_t i = from + 1; i < from + len && i < p->line_len; i++)
        if (!is_continuation(p->line_text[i])) fputc('~', to);
    fputc('\n', to);
}

static void print_place(const diags *d, span where, diag_severity severity, const char *what, const char *slug, FILE *to, bool colour)
{
    diag_place p;
    bool placed = diag_locate(d, where, &p);
    if (placed) fprintf(to, "%s:%u:%u: ", p.file, p.line, p.column);
    else fputs("attnc: ", to);
    if (colour) fputs(severity_colour[severity], to);
    fprintf(to, "%s:%s %s", severity_name[severity], colour ? "\033[0m" : "", what);
    if (slug) fprintf(to, " [attn-%s]", slug);
    fputc('\n', to);
    if (!placed) return;
    /* very long lines say more by their place than by their text */
    if (p.line_len > 400) return;
    fputs("    ", to);
    print_line(&p, to);
    fputs("    ", to);
    print_caret(&p, where, to);
}

static void print_text(const diags *d, const diagnostic *x, FILE *to, bool colour)
{
    print_place(d, x->where, x->severity, x->text, table[x->id].slug, to, colour);
    for (const diag_note *n = x->notes; n; n = n->next) {
        if (n->where.source == UINT32_MAX) fprintf(to, "    hint: %s\n", n->text);
        else print_place(d, n->where, DIAG_NOTE, n->text, NULL, to, colour);
    }
}

/* ---- json ---------------------------------------------------------------------------------------------------- */

static void json_string(const char *s, FILE *to)
{
    fputc('"', to);
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') fprintf(to, "\\%c", c);
        else if (c < 32 || c >= 127) fprintf(to, "\\u%04x", c);
        else fputc(c, to);
    }
    fputc('"', to);
}

static void json_place(const diags *d, span where, FILE *to)
{
    diag_place p;
    if (!diag_locate(d, where, &p)) return;
    fputs("\"file\":", to);
    json_string(p.file, to);
    fprintf(to, ",\"line\":%u,\"column\":%u,\"end_column\":%u,", p.line, p.column,
            p.column + (where.end > where.begin ? where.end - where.begin : 1));
}

static void print_json(const diags *d, const diagnostic *x, FILE *to)
{
    fprintf(to, "{\"severity\":\"%s\",\"slug\":\"attn-%s\",", severity_name[x->severity], table[x->id].slug);
    json_place(d, x->where, to);
    fputs("\"text\":", to);
    json_string(x->text, to);
    for (int hints = 0; hints < 2; hints++) {
        fputs(hints ? "],\"hints\":[" : ",\"notes\":[", to);
        bool first = true;
        for (const diag_note *n = x->notes; n; n = n->next) {
            if ((n->where.source == UINT32_MAX) != (hints == 1)) continue;
            if (!first) fputc(',', to);
            first = false;
            if (!hints) fputc('{', to), json_place(d, n->where, to), fputs("\"text\":", to);
            json_string(n->text, to);
            if (!hints) fputc('}', to);
        }
    }
    fputs("]}\n", to);
}

void diags_print(const diags *d, FILE *to, diag_format fmt, bool colour)
{
    for (size_t i = 0; i < d->list.n; i++) {
        if (fmt == DIAG_JSON) print_json(d, &d->list.at[i], to);
        else print_text(d, &d->list.at[i], to, colour);
    }
    size_t most = d->max_errors ? d->max_errors : 20;
    if (fmt == DIAG_TEXT && d->errors > most) fprintf(to, "attnc: %zu more errors are not shown\n", d->errors - most);
}
