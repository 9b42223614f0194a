/* read_lex.h - words, numbers and punctuation of .air text, for read.c alone.
 *
 * The first mistake is reported and sticks: from then on every function returns false and reads nothing. */
#ifndef ATTNC_IR_KERNEL_READ_LEX_H
#define ATTNC_IR_KERNEL_READ_LEX_H

#include "ir/kernel/kernel.h"

typedef struct lexer {
    arena *arena;
    diags *diags;
    uint32_t source;
    const char *text, *at, *end;
    bool failed;
} lexer;

void lex_open(lexer *l, arena *a, diags *d, uint32_t source);
const char *lex_skip(lexer *l); /* behind blanks and comments */
bool lex_at_end(lexer *l);

/* The next thing is this word or punctuation (then it is read). */
bool lex_accept(lexer *l, const char *what);
bool lex_expect(lexer *l, const char *what);
bool lex_word(lexer *l, const char **out);                   /* letters, digits, . : _ */
bool lex_name(lexer *l, const char *what, const char **out); /* a word that starts with a letter or _, no : */
bool lex_integer(lexer *l, const char *what, int64_t lo, int64_t hi, int64_t *out);
bool lex_number(lexer *l, double *out); /* inf, -inf, nan too */
bool lex_string(lexer *l, const char **out);
bool lex_expression(lexer *l, expr_pool *p, expr *out);

/* Both return false. */
bool lex_error(lexer *l, diag_id id, const char *from, const char *fmt, ...) ATTNC_PRINTF(4, 5);
bool lex_expected(lexer *l, const char *what); /* "expected WHAT, found ..." at the next thing */

#endif
