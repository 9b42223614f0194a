/* parse.c - runs scanner and parser over one source, and the parts of the scanner that are plain C. */
#include "frontend/parse_context.h"
#include "frontend/parse_report.h"

#define YYSTYPE ATTN_YYSTYPE
#define YYLTYPE ATTN_YYLTYPE
#include "attn.tab.h"
#include "attn.lex.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int parse_keyword(const char *word, size_t len)
{
    static const struct {
        const char *word;
        size_t len;
        int token;
    } known[] = {
#define KEYWORD(token, spelling, kind) {spelling, sizeof spelling - 1, T_##token},
#include "dsl/keywords.def"
#undef KEYWORD
    };
    for (size_t i = 0; i < ATTNC_COUNT(known); i++)
        if (known[i].len == len && !memcmp(known[i].word, word, len)) return known[i].token;
    return T_NAME;
}

int64_t parse_integer(parse_context *c, span where, const char *word)
{
    errno = 0;
    int64_t x = strtoll(word, NULL, 10);
    if (errno == ERANGE) {
        diag_report(c->diags, DIAG_ID_LEX, where, "this number does not fit into 64 bits");
        diag_add_hint(c->diags, "positions stay below 2^30; 'none' switches a limit off");
        return 1;
    }
    return x;
}

double parse_float(parse_context *c, span where, const char *word)
{
    double x = strtod(word, NULL);
    if (!isfinite(x)) {
        diag_report(c->diags, DIAG_ID_LEX, where, "this number is too large");
        return 1;
    }
    return x;
}

char *parse_string(parse_context *c, span where, const char *word, size_t len)
{
    if (memchr(word, 0, len)) diag_report(c->diags, DIAG_ID_LEX, where, "a text cannot hold a NUL byte");
    return arena_copy(c->arena, word, len);
}

static bool is_printable(const char *word, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (word[i] >= 0 && (word[i] < 0x20 || word[i] == 0x7f)) return false;
    return true;
}

/* Bytes of one UTF-8 character arrive as one word; others one by one. */
void parse_bad_character(parse_context *c, span where, const char *word, size_t len)
{
    static const char *const known[][2] = {
        {"≤", "<="},  {"≥", ">="}, {"≠", "!="},  {"×", "*"},  {"·", "*"},  {"÷", "/"},   {"−", "-"},  {"–", "-"},
        {"∧", "and"}, {"∨", "or"}, {"¬", "not"}, {"“", "\""}, {"”", "\""}, {"&", "and"}, {"|", "or"}, {"^", "*"}};
    if (c->muted || c->stopped) return;
    if (is_printable(word, len))
        diag_report(c->diags, DIAG_ID_LEX, where, "'%.*s' means nothing here", (int)len, word);
    else
        diag_report(c->diags, DIAG_ID_LEX, where, "the byte 0x%02x means nothing here", (unsigned char)*word);
    for (size_t i = 0; i < ATTNC_COUNT(known); i++)
        if (strlen(known[i][0]) == len && !memcmp(word, known[i][0], len))
            diag_add_hint(c->diags, "write '%s'", known[i][1]);
}

void parse_wrong_operator(parse_context *c, span where, const char *written, const char *right)
{
    if (c->muted || c->stopped) return;
    diag_report(c->diags, DIAG_ID_LEX, where, "'%s' is written '%s' here", written, right);
}

bool parse_nest(parse_context *c, span where, int by)
{
    if (by < 0) {
        if (c->nesting) c->nesting--;
        return true;
    }
    if (c->nesting++ < AST_MAX_DEPTH) return true;
    parse_too_deep(c, where);
    return false;
}

static void run_parser(parse_context *c)
{
    void *scanner;
    if (attn_yylex_init_extra(c, &scanner)) ATTNC_BUG("the scanner cannot start");
    attn_yy_scan_bytes(c->text, (int)c->len, scanner);
    attn_yyparse(scanner, c);
    attn_yylex_destroy(scanner);
}

static parse_context begin(arena *a, diags *d, uint32_t source, int first_token)
{
    const diag_source *s = &d->sources.at[source];
    return (parse_context){
        .arena = a, .diags = d, .source = source, .text = s->text, .len = s->len, .first_token = first_token};
}

decl_list parse_file(arena *a, diags *d, uint32_t source)
{
    parse_context c = begin(a, d, source, T_START_FILE);
    run_parser(&c);
    return c.file;
}

node *parse_expression(arena *a, diags *d, uint32_t source)
{
    parse_context c = begin(a, d, source, T_START_EXPRESSION);
    size_t before = d->errors;
    run_parser(&c);
    return d->errors == before ? c.expression : NULL;
}
