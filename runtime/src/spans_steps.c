/* spans_steps.c - sets of keys in which some spans hold every nth key only.
 *
 * Two lists are cut where a span of either begins or ends; in each stretch there is at most one span of each, and a
 * rule says what comes of the two. */
#include "spans_steps.h"
#include "numbers.h"

#include <string.h>

static bool is_empty(const span *s) { return s->lo >= s->hi; }
static bool is_single(const span *s) { return s->hi - s->lo == 1; }
static bool is_same(const span *a, const span *b) { return a->lo == b->lo && a->hi == b->hi && a->gap == b->gap; }

bool attni_span_continues(const span *a, const span *b)
{
    if (!is_single(a) && !is_single(b) && a->gap != b->gap) return false;
    return b->lo == a->hi + (is_single(a) ? b->gap : a->gap);
}

/* x becomes x and what continues it. */
static void extend(span *x, const span *by)
{
    if (is_single(x)) x->gap = by->gap;
    x->hi = by->hi;
}

/* Behind all others. */
static void append(spans *s, span x)
{
    if (is_empty(&x)) return;
    if (s->n && attni_span_continues(&s->at[s->n - 1], &x))
        extend(&s->at[s->n - 1], &x);
    else
        LIST_ADD(s->mem, s, x);
}

void attni_spans_put(spans *s, span x)
{
    size_t at = s->n;
    while (at > 0 && s->at[at - 1].lo > x.lo) at--;
    const bool before = at > 0 && attni_span_continues(&s->at[at - 1], &x);
    if (before) {
        extend(&s->at[--at], &x);
    } else {
        LIST_ADD(s->mem, s, x); /* room for one more */
        if (s->mem->failed) return;
        memmove(s->at + at + 1, s->at + at, (s->n - 1 - at) * sizeof *s->at);
        s->at[at] = x;
    }
    if (at + 1 == s->n || !attni_span_continues(&s->at[at], &s->at[at + 1])) return;
    extend(&s->at[at], &s->at[at + 1]);
    s->n--;
    memmove(s->at + at + 1, s->at + at + 2, (s->n - 1 - at) * sizeof *s->at);
}

/* ---- stretch by stretch ----------------------------------------------------------------------------------------- */

/* What comes of x and y, the keys that the lists have in a stretch; either may be empty, not both. */
typedef span rule_fn(const span *x, const span *y);

static void sweep(const spans *a, const spans *b, spans *out, rule_fn *rule)
{
    const span none = {INT64_MAX, INT64_MAX, 0};
    int64_t from = INT64_MIN;
    out->n = 0;
    for (size_t i = 0, j = 0; (i < a->n || j < b->n) && !out->mem->failed;) {
        const span *x = i < a->n ? &a->at[i] : &none, *y = j < b->n ? &b->at[j] : &none;
        from = max64(from, min64(x->lo, y->lo));
        const int64_t to = min64(x->lo <= from ? x->hi : x->lo, y->lo <= from ? y->hi : y->lo);
        const span in_x = attni_span_cut(*x, from, to), in_y = attni_span_cut(*y, from, to);
        if (!is_empty(&in_x) || !is_empty(&in_y)) append(out, rule(&in_x, &in_y));
        from = to;
        i += x->hi <= to && i < a->n;
        j += y->hi <= to && j < b->n;
    }
}

static int64_t gcd(int64_t a, int64_t b)
{
    while (b) {
        const int64_t r = a % b;
        a = b, b = r;
    }
    return a;
}

static int64_t step_of(const span *s) { return is_single(s) ? 0 : s->gap + 1; }

/* The first key and all steps of both lie a multiple of the new step apart. */
static span around(const span *x, const span *y)
{
    if (is_empty(x) || is_empty(y)) return is_empty(x) ? *y : *x;
    if (is_same(x, y)) return *x;
    const int64_t away = x->lo < y->lo ? y->lo - x->lo : x->lo - y->lo;
    return (span){min64(x->lo, y->lo), max64(x->hi, y->hi), gcd(gcd(step_of(x), step_of(y)), away) - 1};
}

static span larger(const span *x, const span *y)
{
    if (is_empty(x) || is_empty(y)) return is_empty(x) ? *y : *x;
    return attni_span_keys(x) >= attni_span_keys(y) ? *x : *y;
}

/* Keys of x, a whole number of steps of y apart from its own: the first is found by trying. */
static span common(const span *x, const span *y)
{
    span r = attni_span_cut(*x, y->lo, y->hi);
    const int64_t step = y->gap + 1, shared = gcd(r.gap + 1, step);
    if (is_empty(&r) || step == 1) return r;
    for (int64_t i = 0; i < step / shared && !is_empty(&r) && (r.lo - y->lo) % step; i++) r.lo += r.gap + 1;
    if (is_empty(&r) || (r.lo - y->lo) % step) return (span){0, 0, 0};
    r.gap = (r.gap + 1) / shared * step - 1;
    return attni_span_cut(r, r.lo, r.hi);
}

/* A single key that was cut out has no step of its own to try with. */
static span in_both(const span *x, const span *y)
{
    if (is_empty(x) || is_empty(y)) return (span){0, 0, 0};
    return x->gap >= y->gap && !is_single(y) ? common(x, y) : common(y, x);
}

static span in_first(const span *x, const span *y)
{
    if (is_empty(x) || is_empty(y)) return *x;
    const span both = in_both(x, y);
    return is_empty(&both) || attni_span_keys(&both) < attni_span_keys(x) ? *x : (span){0, 0, 0};
}

static span if_same(const span *x, const span *y) { return is_same(x, y) ? *x : (span){0, 0, 0}; }

void attni_steps_unite(const spans *a, const spans *b, spans *out) { sweep(a, b, out, around); }
void attni_steps_unite_less(const spans *a, const spans *b, spans *out) { sweep(a, b, out, larger); }
void attni_steps_intersect(const spans *a, const spans *b, spans *out) { sweep(a, b, out, in_both); }
void attni_steps_subtract(const spans *a, const spans *b, spans *out) { sweep(a, b, out, in_first); }

void attni_spans_fit(const spans *a, spans *b, spans *scratch)
{
    if (!attni_spans_have_steps(a) && !attni_spans_have_steps(b)) return;
    sweep(b, a, scratch, if_same);
    attni_spans_copy(b, scratch);
}
