/* read_lex.c - see read_lex.h. */
#include "ir/kernel/read_lex.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static bool is_letter(char c) { return isalpha((unsigned char)c) || c == '_'; }
static bool is_name_char(char c) { return isalnum((unsigned char)c) || c == '_' || c == '.'; }
static bool is_word_char(char c) { return is_name_char(c) || c == ':'; }

void lex_open(lexer *l, arena *a, diags *d, uint32_t source)
{
    ATTNC_CHECK(source < d->sources.n);
    const diag_source *s = &d->sources.at[source];
    *l = (lexer){.arena = a, .diags = d, .source = source, .text = s->text, .at = s->text, .end = s->text + s->len};
}

const char *lex_skip(lexer *l)
{
    for (;;) {
        while (l->at < l->end && isspace((unsigned char)*l->at)) l->at++;
        if (l->end - l->at < 2 || l->at[0] != '/' || l->at[1] != '/') return l->at;
        while (l->at < l->end && *l->at != '\n') l->at++;
    }
}

bool lex_at_end(lexer *l) { return lex_skip(l) == l->end; }

/* ---- mistakes -------------------------------------------------------------------------------------------- */

/* The extent of the thing at `from`: a word, or one byte. */
static const char *thing_end(const lexer *l, const char *from)
{
    const char *to = from;
    while (to < l->end && is_word_char(*to)) to++;
    return to == from && to < l->end ? to + 1 : to;
}

bool lex_error(lexer *l, diag_id id, const char *from, const char *fmt, ...)
{
    if (l->failed) return false;
    l->failed = true;
    char what[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    span where = {l->source, (uint32_t)(from - l->text), (uint32_t)(thing_end(l, from) - l->text)};
    diag_report(l->diags, id, where, "%s", what);
    return false;
}

bool lex_expected(lexer *l, const char *what)
{
    if (l->failed) return false;
    const char *from = lex_skip(l), *to = thing_end(l, from);
    if (from == l->end) return lex_error(l, DIAG_ID_SYNTAX, from, "expected %s, found the end of the text", what);
    if (!isprint((unsigned char)*from))
        return lex_error(l, DIAG_ID_LEX, from, "expected %s, found a byte of value %u", what,
                         (unsigned)(unsigned char)*from);
    return lex_error(l, DIAG_ID_SYNTAX, from, "expected %s, found '%.*s'", what, (int)(to - from < 40 ? to - from : 40),
                     from);
}

/* ---- things ---------------------------------------------------------------------------------------------- */

bool lex_accept(lexer *l, const char *what)
{
    if (l->failed) return false;
    const char *from = lex_skip(l);
    size_t n = strlen(what);
    if ((size_t)(l->end - from) < n || memcmp(from, what, n)) return false;
    if (is_letter(*what) && from + n < l->end && is_word_char(from[n])) return false;
    l->at = from + n;
    return true;
}

bool lex_expect(lexer *l, const char *what)
{
    if (lex_accept(l, what)) return true;
    char quoted[40];
    snprintf(quoted, sizeof quoted, "'%s'", what);
    return lex_expected(l, quoted);
}

bool lex_word(lexer *l, const char **out)
{
    if (l->failed) return false;
    const char *from = lex_skip(l), *to = from;
    while (to < l->end && is_word_char(*to)) to++;
    if (to == from) return lex_expected(l, "a word");
    l->at = to;
    *out = arena_copy(l->arena, from, (size_t)(to - from));
    return true;
}

bool lex_name(lexer *l, const char *what, const char **out)
{
    if (l->failed) return false;
    const char *from = lex_skip(l), *to = from;
    if (from == l->end || !is_letter(*from)) return lex_expected(l, what);
    while (to < l->end && is_name_char(*to)) to++;
    l->at = to;
    *out = arena_copy(l->arena, from, (size_t)(to - from));
    return true;
}

bool lex_integer(lexer *l, const char *what, int64_t lo, int64_t hi, int64_t *out)
{
    if (l->failed) return false;
    const char *from = lex_skip(l), *to = from;
    if (to < l->end && *to == '-') to++;
    if (to == l->end || !isdigit((unsigned char)*to)) return lex_expected(l, what);
    while (to < l->end && isdigit((unsigned char)*to)) to++;
    errno = 0;
    long long x = strtoll(from, NULL, 10);
    if (errno || x < lo || x > hi)
        return lex_error(l, DIAG_ID_RANGE, from, "%s must lie between %lld and %lld", what, (long long)lo,
                         (long long)hi);
    l->at = to;
    *out = x;
    return true;
}

/* The extent of a decimal number; strtod alone would also take hexadecimal ones, and depends on what follows. */
static const char *decimal_end(const lexer *l, const char *at)
{
    const char *digits = at;
    while (at < l->end && (isdigit((unsigned char)*at) || *at == '.')) at++;
    if (at == digits || at == l->end || (*at != 'e' && *at != 'E')) return at;
    const char *e = at + 1;
    if (e < l->end && (*e == '-' || *e == '+')) e++;
    if (e == l->end || !isdigit((unsigned char)*e)) return at;
    while (e < l->end && isdigit((unsigned char)*e)) e++;
    return e;
}

bool lex_number(lexer *l, double *out)
{
    bool minus = lex_accept(l, "-");
    if (l->failed) return false;
    const char *from = lex_skip(l), *to = decimal_end(l, from);
    if (lex_accept(l, "inf"))
        *out = INFINITY;
    else if (lex_accept(l, "nan"))
        *out = NAN;
    else if (to == from || to - from > 400)
        return lex_expected(l, "a number");
    else
        *out = strtod(arena_copy(l->arena, from, (size_t)(to - from)), NULL), l->at = to;
    if (minus) *out = -*out;
    return true;
}

static int hex_digit(char c) { return isdigit((unsigned char)c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

bool lex_string(lexer *l, const char **out)
{
    text t = {.arena = l->arena};
    if (!lex_accept(l, "\"")) return lex_expected(l, "a name in quotes");
    for (; l->at < l->end && *l->at != '"' && *l->at != '\n'; l->at++) {
        char c = *l->at;
        if (c == '\\' && l->end - l->at > 3 && l->at[1] == 'x' && hex_digit(l->at[2]) >= 0 &&
            hex_digit(l->at[3]) >= 0) {
            c = (char)(hex_digit(l->at[2]) * 16 + hex_digit(l->at[3]));
            l->at += 3;
        } else if (c == '\\' && l->end - l->at > 1) {
            c = *++l->at;
        }
        if (!c) return lex_error(l, DIAG_ID_LEX, l->at, "a name cannot hold a zero byte");
        text_addn(&t, &c, 1);
    }
    *out = text_get(&t);
    return lex_expect(l, "\"");
}

bool lex_expression(lexer *l, expr_pool *p, expr *out)
{
    if (l->failed) return false;
    const char *at = lex_skip(l), *error = NULL;
    *out = expr_read(p, &at, &error);
    if (!*out)
        return lex_error(l, DIAG_ID_SYNTAX, at > l->end ? l->end : at, "%s", error ? error : "expected an expression");
    l->at = at;
    return true;
}
