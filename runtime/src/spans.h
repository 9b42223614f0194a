/* spans.h - sets of keys as sorted, disjoint, half-open intervals, some of which hold every nth key only.
 *
 * Those lie outside of each other all the same: between the first and the last key of one there is no key of another.
 * Most lists have none of them; what has is done in spans_steps.c. */
#ifndef ATTN_SRC_SPANS_H
#define ATTN_SRC_SPANS_H

#include "memory.h"

#include <stdbool.h>

typedef struct span {
    int64_t lo, hi; /* lo <= key < hi; never empty in a list */
    int64_t gap; /* keys left out between two of the span: 0 for a single key, and where the last is not hi - 1 there is
                    none */
} span;

typedef struct spans {
    span *at;
    size_t n, cap;
    memory *mem;
} spans;

void attni_spans_clear(spans *s);
void attni_spans_free(spans *s);
static inline int64_t attni_span_step(const span *s) { return s->gap + 1; }
static inline int64_t attni_span_keys(const span *s)
{
    return s->gap ? (s->hi - s->lo + s->gap) / (s->gap + 1) : s->hi - s->lo;
}
/* Its keys in [lo, hi), lo >= 0; none: lo >= hi of what comes out. */
static inline span attni_span_cut(span s, int64_t lo, int64_t hi)
{
    if (s.gap && s.lo < 0) { /* far below, maybe */
        s.lo %= s.gap + 1;
        if (s.lo < 0) s.lo += s.gap + 1;
    }
    if (s.lo < lo) s.lo = s.gap ? s.lo + (lo - s.lo + s.gap) / (s.gap + 1) * (s.gap + 1) : lo;
    if (s.hi > hi) s.hi = hi;
    if (!s.gap || s.lo >= s.hi) return s;
    s.hi -= (s.hi - s.lo - 1) % (s.gap + 1);
    if (s.hi - s.lo == 1) s.gap = 0;
    return s;
}

/* Adds keys lo .. hi - 1 at the end: lo must not lie before the last span's begin, nor among keys with gaps. Joins what
 * touches; nothing for lo >= hi. */
static inline void attni_spans_append(spans *s, int64_t lo, int64_t hi)
{
    if (lo >= hi) return;
    span *last = s->n ? &s->at[s->n - 1] : NULL;
    if (!last || lo > last->hi)
        LIST_ADD(s->mem, s, ((span){lo, hi, 0}));
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
        if (a->at[i].lo != b->at[i].lo || a->at[i].hi != b->at[i].hi || a->at[i].gap != b->at[i].gap) return false;
    return true;
}

static inline bool attni_spans_have_steps(const spans *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->at[i].gap) return true;
    return false;
}

/* out = a op b; out is neither of them. Where spans with gaps of several kinds meet, what cannot be said exactly: */
void attni_spans_unite(const spans *a, const spans *b, spans *out);      /* holds more keys */
void attni_spans_unite_less(const spans *a, const spans *b, spans *out); /* holds fewer */
void attni_spans_intersect(const spans *a, const spans *b, spans *out);  /* is exact */
void attni_spans_subtract(const spans *a, const spans *b, spans *out);   /* stays; not when b was fitted into a */
/* Takes out of b what it has between keys of a that it does not have: a - b is exact then. scratch: neither of them. */
void attni_spans_fit(const spans *a, spans *b, spans *scratch);

/* Adds x, which lies outside of all spans; joins it with what it continues. */
void attni_spans_put(spans *s, span x);
bool attni_span_continues(const span *a, const span *b); /* the keys of b are the next ones of a */

int64_t attni_spans_count(const spans *s); /* keys in all */

#endif
