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
/* Adds at the end: lo must not lie before the last span's begin. Joins what touches; nothing for lo >= hi. */
static inline void attni_spans_append(spans *s, int64_t lo, int64_t hi)
{
    if (lo >= hi) return;
    span *last = s->n ? &s->at[s->n - 1] : NULL;
    if (!last || lo > last->hi)
        LIST_ADD(s->mem, s, ((span){lo, hi}));
    else if (hi > last->hi)
        last->hi = hi;
}
/* Adds anywhere (few spans: it moves the rest along). */
void attni_spans_insert_between(spans *s, int64_t lo, int64_t hi);
static inline void attni_spans_insert(spans *s, int64_t lo, int64_t hi)
{
    if (!s->n || lo >= s->at[s->n - 1].lo)
        attni_spans_append(s, lo, hi);
    else
        attni_spans_insert_between(s, lo, hi);
}

static inline void attni_spans_copy(spans *to, const spans *from)
{
    to->n = 0;
    for (size_t i = 0; i < from->n; i++) LIST_ADD(to->mem, to, from->at[i]);
}

static inline bool attni_spans_same(const spans *a, const spans *b)
{
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++)
        if (a->at[i].lo != b->at[i].lo || a->at[i].hi != b->at[i].hi) return false;
    return true;
}

/* out = a op b; out is neither of them. */
void attni_spans_unite(const spans *a, const spans *b, spans *out);
void attni_spans_intersect(const spans *a, const spans *b, spans *out);
void attni_spans_subtract(const spans *a, const spans *b, spans *out);

int64_t attni_spans_count(const spans *s); /* keys in all */

#endif
