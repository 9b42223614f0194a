/* text.c - see text.h. */
#include "ir/base/text.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void text_addn(text *t, const char *s, size_t n)
{
    while (t->n + n + 1 > t->cap) t->at = arena_grow(t->arena, t->at, t->n, &t->cap, 1);
    if (n) memcpy(t->at + t->n, s, n);
    t->n += n;
    t->at[t->n] = 0;
}

void text_add(text *t, const char *s) { text_addn(t, s, strlen(s)); }

void text_printf(text *t, const char *fmt, ...)
{
    char small[256];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(small, sizeof small, fmt, args);
    va_end(args);
    if (n < 0) ATTNC_BUG("bad format");
    if ((size_t)n < sizeof small) {
        text_addn(t, small, (size_t)n);
        return;
    }
    char *big = arena_alloc(t->arena, (size_t)n + 1);
    va_start(args, fmt);
    vsnprintf(big, (size_t)n + 1, fmt, args);
    va_end(args);
    text_addn(t, big, (size_t)n);
}

const char *text_get(text *t)
{
    if (!t->at) text_addn(t, "", 0);
    return t->at;
}

void text_double(text *t, double x)
{
    if (isnan(x)) {
        text_add(t, "nan");
        return;
    }
    if (isinf(x)) {
        text_add(t, x < 0 ? "-inf" : "inf");
        return;
    }
    char s[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, x);
        if (strtod(s, NULL) == x) break;
    }
    if (fabs(x) < 1e15 && x == floor(x)) snprintf(s, sizeof s, "%.0f", x); /* 50.0, not 5e+01 */
    text_add(t, s);
    if (!strpbrk(s, ".e")) text_add(t, ".0");
}
