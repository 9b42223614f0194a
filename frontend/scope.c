/* scope.c - a hash table of names per scope, chained outwards. */
#include "frontend/scope.h"

#include <string.h>

struct scope {
    arena *arena;
    scope *outer;
    VEC(decl *) all;
    decl **bucket; /* first of each name; others behind it through same_name */
    size_t n_buckets, names;
};

scope *scope_create(arena *a, scope *outer)
{
    scope *s = ARENA_NEW(a, scope);
    *s = (scope){.arena = a, .outer = outer, .n_buckets = 32};
    s->bucket = ARENA_ARRAY(a, decl *, s->n_buckets);
    return s;
}

scope *scope_outer(const scope *s) { return s->outer; }

static size_t slot_of(decl *const *bucket, size_t n, const char *name)
{
    uint64_t h = 14695981039346656037u;
    for (const char *p = name; *p; p++) h = (h ^ (unsigned char)*p) * 1099511628211u;
    size_t at = (size_t)(h ^ (h >> 32)) & (n - 1);
    while (bucket[at] && strcmp(bucket[at]->name, name)) at = (at + 1) & (n - 1);
    return at;
}

static void grow(scope *s)
{
    size_t n = 2 * s->n_buckets;
    decl **bigger = ARENA_ARRAY(s->arena, decl *, n);
    for (size_t i = 0; i < s->n_buckets; i++)
        if (s->bucket[i]) bigger[slot_of(bigger, n, s->bucket[i]->name)] = s->bucket[i];
    s->bucket = bigger;
    s->n_buckets = n;
}

void scope_add(scope *s, decl *d)
{
    d->home = s;
    VEC_PUSH(s->arena, &s->all, d);
    size_t at = slot_of(s->bucket, s->n_buckets, d->name);
    if (!s->bucket[at] && 2 * ++s->names > s->n_buckets) {
        grow(s);
        at = slot_of(s->bucket, s->n_buckets, d->name);
    }
    d->same_name = s->bucket[at];
    s->bucket[at] = d;
}

static bool fits(const decl *d, int arguments)
{
    if (arguments == SCOPE_ANY) return true;
    if (d->kind != DECL_DEFINE) return arguments == SCOPE_VALUE;
    return d->params.n == (uint32_t)(arguments == SCOPE_VALUE ? 0 : arguments);
}

decl *scope_find_here(const scope *s, const char *name, int arguments)
{
    decl *d = s->bucket[slot_of(s->bucket, s->n_buckets, name)];
    while (d && !fits(d, arguments)) d = d->same_name;
    return d;
}

decl *scope_find(const scope *s, const char *name, int arguments)
{
    for (; s; s = s->outer) {
        decl *d = scope_find_here(s, name, arguments);
        if (d) return d;
    }
    return NULL;
}

void scope_suggest(const scope *s, suggestion *to)
{
    for (; s; s = s->outer)
        for (size_t i = 0; i < s->all.n; i++) suggest_offer(to, s->all.at[i]->name);
}

decl *const *scope_all(const scope *s, size_t *n)
{
    *n = s->all.n;
    return s->all.at;
}
