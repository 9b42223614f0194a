/* arena.c - blocks of doubling size; under AddressSanitizer every allocation ends in a red zone. */
#include "ir/base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_ASAN 1
#endif
#endif
#ifdef ARENA_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(p, n) __asan_poison_memory_region((p), (n))
#define UNPOISON(p, n) __asan_unpoison_memory_region((p), (n))
enum { RED_ZONE = 16 };
#else
#define POISON(p, n) ((void)0)
#define UNPOISON(p, n) ((void)0)
enum { RED_ZONE = 0 };
#endif

typedef struct block {
    struct block *next;
    size_t size, used;
    _Alignas(16) unsigned char data[];
} block;

struct arena {
    block *blocks;
    size_t total, limit;
    arena_exhausted *handler;
    void *ctx;
};

void attnc_bug(const char *file, int line, const char *what)
{
    fprintf(stderr, "attnc: internal error at %s:%d: %s\nThis is a bug in attnc; please report it with the input.\n", file,
            line, what);
    exit(70);
}

arena *arena_create(size_t limit, arena_exhausted *handler, void *ctx)
{
    arena *a = calloc(1, sizeof *a);
    if (!a) ATTNC_BUG("no memory for an arena");
    *a = (arena){.limit = limit, .handler = handler, .ctx = ctx};
    return a;
}

void arena_destroy(arena *a)
{
    if (!a) return;
    for (block *b = a->blocks, *next; b; b = next) {
        next = b->next;
        UNPOISON(b->data, b->size);
        free(b);
    }
    free(a);
}

size_t arena_used(const arena *a) { return a->total; }

static void exhausted(arena *a)
{
    if (a->handler) a->handler(a->ctx);
    ATTNC_BUG("memory exhausted");
}

static block *add_block(arena *a, size_t need)
{
    size_t size = a->blocks ? a->blocks->size * 2 : 4096;
    if (size > (size_t)1 << 20) size = (size_t)1 << 20;
    if (size < need) size = need;
    if (a->limit && (size > a->limit || a->total > a->limit - size)) exhausted(a);
    block *b = size > SIZE_MAX - sizeof *b ? NULL : calloc(1, sizeof *b + size);
    if (!b) exhausted(a);
    b->size = size;
    b->next = a->blocks;
    a->blocks = b;
    a->total += size;
    POISON(b->data, size);
    return b;
}

void *arena_alloc(arena *a, size_t size)
{
    if (size > SIZE_MAX / 2) exhausted(a);
    size_t need = ((size ? size : 1) + 15) / 16 * 16 + RED_ZONE;
    block *b = a->blocks;
    if (!b || b->size - b->used < need) b = add_block(a, need);
    void *p = b->data + b->used;
    b->used += need;
    UNPOISON(p, size);
    return p;
}

void *arena_array(arena *a, size_t count, size_t size)
{
    if (size && count > SIZE_MAX / 2 / size) exhausted(a);
    return arena_alloc(a, count * size);
}

char *arena_copy(arena *a, const char *text, size_t len)
{
    char *p = arena_alloc(a, len + 1);
    if (len) memcpy(p, text, len);
    return p;
}

char *arena_strdup(arena *a, const char *text) { return arena_copy(a, text, strlen(text)); }

char *arena_printf(arena *a, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0) ATTNC_BUG("bad format");
    char *p = arena_alloc(a, (size_t)n + 1);
    va_start(args, fmt);
    vsnprintf(p, (size_t)n + 1, fmt, args);
    va_end(args);
    return p;
}

void *arena_grow(arena *a, void *old, size_t n, size_t *cap, size_t size)
{
    *cap = *cap ? *cap * 2 : 8;
    void *p = arena_array(a, *cap, size);
    if (n) memcpy(p, old, n * size);
    return p;
}
