/* spans.c - union, intersection and difference of sorted lists of intervals. */
#include "spans.h"

#include "numbers.h"
#include "spans_steps.h"

#include <string.h>

void attni_spans_clear(spans *s) { s->n = 0; }

void attni_spans_free(spans *s)
{
    attni_free(s->mem, s->at);
    *s = (spans){.mem = s->mem};
}

void attni_spans_insert_between(spans *s, int64_t lo, int64_t hi)
{
    if (lo >= hi) return;
    size_t first = s->n; /* spans [first, last) touch the new one */
    while (first > 0 && s->at[first - 1].hi >= lo) first--;
    size_t last = first;
    while (last < s->n && s->at[last].lo <= hi) {
        lo = min64(lo, s->at[last].lo);
        hi = max64(hi, s->at[last].hi);
        last++;
    }
    size_t tail = s->n - last;
    if (last == first) {
        LIST_ADD(s->mem, s, ((span){lo, hi, 0})); /* room for one more; moved into place below */
        if (s->mem->failed) return;
        last = first;
        memmove(s->at + first + 1, s->at + last, tail * sizeof *s->at);
    } else {
        memmove(s->at + first + 1, s->at + last, tail * sizeof *s->at);
        s->n = first + 1 + tail;
    }
    s->at[first] = (span){lo, hi, 0};
}

void attni_spans_unite(const spans *a, const spans *b, spans *out)
{
    if (attni_spans_have_steps(a) || attni_spans_have_steps(b)) {
        attni_steps_unite(a, b, out);
        return;
    }
    out->n = 0;
    for (size_t i = 0, j = 0; i < a->n || j < b->n;) {
        int from_a = j == b->n || (i < a->n && a->at[i].lo <= b->at[j].lo);
        const span *next = from_a ? &a->at[i++] : &b->at[j++];
        attni_spans_append(out, next->lo, next->hi);
    }
}

void attni_spans_unite_less(const spans *a, const spans *b, spans *out)
{
    if (attni_spans_have_steps(a) || attni_spans_have_steps(b))
        attni_steps_unite_less(a, b, out);
    else
        attni_spans_unite(a, b, out);
}

void attni_spans_intersect(const spans *a, const spans *b, spans *out)
{
    if (attni_spans_have_steps(a) || attni_spans_have_steps(b)) {
        attni_steps_intersect(a, b, out);
        return;
    }
    out->n = 0;
    for (size_t i = 0, j = 0; i < a->n && j < b->n;) {
        const span *x = &a->at[i], *y = &b->at[j];
        attni_spans_append(out, max64(x->lo, y->lo), min64(x->hi, y->hi));
        if (x->hi < y->hi)
            i++;
        else
            j++;
    }
}

void attni_spans_subtract(const spans *a, const spans *b, spans *out)
{
    if (attni_spans_have_steps(a) || attni_spans_have_steps(b)) {
        attni_steps_subtract(a, b, out);
        return;
    }
    out->n = 0;
    size_t j = 0;
    for (size_t i = 0; i < a->n; i++) {
        int64_t lo = a->at[i].lo, hi = a->at[i].hi;
        while (j < b->n && b->at[j].hi <= lo) j++;
        for (size_t k = j; k < b->n && b->at[k].lo < hi; k++) {
            attni_spans_append(out, lo, b->at[k].lo);
            lo = max64(lo, b->at[k].hi);
        }
        attni_spans_append(out, lo, hi);
    }
}

int64_t attni_spans_count(const spans *s)
{
    int64_t n = 0;
    for (size_t i = 0; i < s->n; i++) n += attni_span_keys(&s->at[i]);
    return n;
}
