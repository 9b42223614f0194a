/* parse_report.c - syntax errors in the user's words. */
#include "frontend/parse_report.h"

#include "frontend/suggest.h"
#include "ir/base/text.h"

#include <string.h>

enum { MOST_WORDS = 8 }; /* a longer list of expectations helps nobody */

static const char *const word_text[PARSE_WORD_COUNT] = {
    [PARSE_WORD_NAME] = "a name",
    [PARSE_WORD_KEYWORD] = "a clause",
    [PARSE_WORD_MODEL] = "a declaration",
    [PARSE_WORD_INTEGER] = "a number",
    [PARSE_WORD_FLOAT] = NULL,
    [PARSE_WORD_STRING] = "a text in quotes",
    [PARSE_WORD_THEN] = "'then'",
    [PARSE_WORD_ELSE] = "'else'",
    [PARSE_WORD_REQUIRE] = "'require'",
    [PARSE_WORD_OPERATOR] = "an operator",
    [PARSE_WORD_STAR] = "'*'",
    [PARSE_WORD_DOTS] = "'..'",
    [PARSE_WORD_ASSIGN] = "'='",
    [PARSE_WORD_SEMICOLON] = "';'",
    [PARSE_WORD_COLON] = "':'",
    [PARSE_WORD_COMMA] = "','",
    [PARSE_WORD_LPAREN] = "'('",
    [PARSE_WORD_RPAREN] = "')'",
    [PARSE_WORD_LBRACKET] = "'['",
    [PARSE_WORD_RBRACKET] = "']'",
    [PARSE_WORD_LBRACE] = "'{'",
    [PARSE_WORD_RBRACE] = "'}'",
    [PARSE_WORD_END] = "the end of the file",
};

static size_t expected_words(const bool *wanted, const char **out)
{
    bool expression = wanted[PARSE_WORD_FLOAT], operators = wanted[PARSE_WORD_OPERATOR];
    bool name = wanted[PARSE_WORD_NAME] && !expression;
    size_t n = 0;
    if (expression) out[n++] = "an expression";
    for (int i = 0; i < PARSE_WORD_COUNT; i++) {
        bool show = wanted[i] && word_text[i];
        if (i == PARSE_WORD_NAME) show = name;
        if (i == PARSE_WORD_INTEGER || i == PARSE_WORD_LPAREN) show = show && !expression && !operators;
        if (i == PARSE_WORD_LBRACKET) show = show && !operators;
        if (i == PARSE_WORD_STAR || i == PARSE_WORD_REQUIRE) show = show && !operators;
        if (i == PARSE_WORD_STRING) show = show && !operators;
        if (i == PARSE_WORD_KEYWORD) show = show && !wanted[PARSE_WORD_NAME] && !wanted[PARSE_WORD_MODEL];
        if (i == PARSE_WORD_MODEL) show = show && !wanted[PARSE_WORD_NAME];
        if (i == PARSE_WORD_SEMICOLON) show = show && !wanted[PARSE_WORD_KEYWORD];
        if (show) out[n++] = word_text[i];
    }
    return n;
}

static const char *list_words(parse_context *c, const char *const *word, size_t n)
{
    text t = {.arena = c->arena};
    for (size_t i = 0; i < n; i++) text_printf(&t, "%s%s", i ? i + 1 == n ? " or " : ", " : "", word[i]);
    return text_get(&t);
}

/* A word where a clause should begin: perhaps a mistyped one. */
static void suggest_keyword(parse_context *c, const char *word)
{
    suggestion s = suggest_begin(word);
#define KEYWORD(token, spelling, kind) suggest_offer(&s, spelling);
#include "dsl/keywords.def"
#undef KEYWORD
    if (suggest_result(&s)) diag_add_hint(c->diags, "did you mean '%s'?", suggest_result(&s));
}

static bool on_new_line(const parse_context *c, uint32_t at)
{
    while (at > 0 && strchr(" \t\r", c->text[at - 1])) at--;
    return at > 0 && c->text[at - 1] == '\n';
}

static void add_syntax_hints(parse_context *c, span where, const char *word, const bool *wanted)
{
    if (wanted[PARSE_WORD_SEMICOLON] && !wanted[PARSE_WORD_KEYWORD] &&
        (on_new_line(c, where.begin) || !strcmp(word, "}")))
        diag_add_hint(c->diags, "is a ';' missing before this?");
    else if (!strcmp(word, "=") && wanted[PARSE_WORD_OPERATOR])
        diag_add_hint(c->diags, "equality is written '=='");
    else if (wanted[PARSE_WORD_KEYWORD] && !wanted[PARSE_WORD_NAME])
        suggest_keyword(c, word);
}

void parse_report_syntax(parse_context *c, span where, bool at_end, const bool *wanted)
{
    if (c->muted || c->stopped) return;
    const char *word[PARSE_WORD_COUNT + 1];
    size_t n = expected_words(wanted, word), len = where.end - where.begin;
    const char *expected = n && n <= MOST_WORDS ? arena_printf(c->arena, ", expected %s", list_words(c, word, n)) : "";
    if (at_end) {
        diag_report(c->diags, DIAG_ID_SYNTAX, where, "the file ends too early%s", expected);
        return;
    }
    const char *found = arena_copy(c->arena, c->text + where.begin, len < 40 ? len : 40);
    diag_report(c->diags, DIAG_ID_SYNTAX, where, "unexpected '%s'%s", found, expected);
    add_syntax_hints(c, where, found, wanted);
}

void parse_reserved(parse_context *c, span where)
{
    const char *word = arena_copy(c->arena, c->text + where.begin, where.end - where.begin);
    diag_report(c->diags, DIAG_ID_UNSUPPORTED, where, "the clause '%s' is unsupported in this version", word);
    if (!strcmp(word, "rope") || !strcmp(word, "nope") || !strcmp(word, "qknorm") || !strcmp(word, "pos"))
        diag_add_hint(c->diags,
                      "queries and keys arrive rotated and normalised: do it before the kernel and drop this clause");
    c->muted = true;
}

void parse_too_deep(parse_context *c, span where)
{
    if (c->stopped) return;
    c->stopped = true;
    diag_report(c->diags, DIAG_ID_TOO_LARGE, where, "nested too deeply (at most %d levels)", AST_MAX_DEPTH);
}

static bool type_name_parse(const char *name, type_name *out)
{
    static const struct {
        const char *name;
        type_name type;
    } known[] = {{"int", TYPE_NAME_INT},     {"i32", TYPE_NAME_INT},   {"int32", TYPE_NAME_INT},
                 {"float", TYPE_NAME_FLOAT}, {"f32", TYPE_NAME_FLOAT}, {"bool", TYPE_NAME_BOOL}};
    for (size_t i = 0; i < ATTNC_COUNT(known); i++)
        if (!strcmp(name, known[i].name)) {
            *out = known[i].type;
            return true;
        }
    return false;
}

type_name parse_type(parse_context *c, span where, const char *name)
{
    type_name type = TYPE_NAME_NONE;
    if (!type_name_parse(name, &type)) {
        diag_report(c->diags, DIAG_ID_TYPE, where, "there is no type '%.64s'", name);
        diag_add_hint(c->diags, "types are int, float and bool; run-time inputs may also say i32 and f32");
    }
    return type;
}
