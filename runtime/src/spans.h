/* spans.h - sets of keys as sorted, disjoint, half-open intervals. */
#ifndef ATTN_SRC_SPANS_H
#define ATTN_SRC_SPANS_H

#include "memory.h"

typedef struct span {
    int64_t lo, hi; /* lo <= key < hi; never empty in a list */
} span;

typedef struct spans {
    span *at;
    size_t n, cap;
    memory *mem;
} spans;

void attni_spans_clear(spans *s);
void attni_spans_free(spans *s);
void attni_spans_copy(spans *to, const spans *from);
/* Adds at the end: lo must not lie before the last span's begin. Joins what touches; nothing for lo >= hi. */
void attni_spans_append(spans *s, int64_t lo, int64_t hi);
/* Adds anywhere (few spans: it moves the rest along). */
void attni_spans_insert(spans *s, int64_t lo, int64_t hi);

/* out = a op b; out is neither of them. */
void attni_spans_unite(const spans *a, const spans *b, spans *out);
void attni_spans_intersect(const spans *a, const spans *b, spans *out);
void attni_spans_subtract(const spans *a, const spans *b, spans *out);

int64_t attni_spans_count(const spans *s); /* keys in all */

#endif
