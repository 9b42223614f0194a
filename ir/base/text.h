/* text.h - a growable text buffer in an arena, for printers. */
#ifndef ATTNC_BASE_TEXT_H
#define ATTNC_BASE_TEXT_H

#include "ir/base/arena.h"

typedef struct text {
    arena *arena;
    char *at; /* NUL-terminated once anything was written */
    size_t n, cap;
} text;

void text_add(text *t, const char *s);
void text_addn(text *t, const char *s, size_t n);
void text_printf(text *t, const char *fmt, ...) ATTNC_PRINTF(2, 3);
const char *text_get(text *t);             /* never NULL */
void text_double(text *t, double x);       /* shortest decimal form that reads back to the same double; inf, -inf, nan */

#endif
