/* memory.c - blocks from the caller's allocator, chained to their owner. */
#include "memory.h"

#include "error.h"

#include <stdlib.h>
#include <string.h>

typedef struct memory_block {
    struct memory_block *prev, *next;
    size_t size; /* with this header */
} memory_block;

enum { HEADER = MEMORY_ALIGN };
_Static_assert(sizeof(memory_block) <= HEADER, "a block's header keeps its data aligned");

static void *default_alloc(void *ctx, size_t size, size_t align)
{
    (void)ctx;
    size_t rounded = (size + align - 1) / align * align;
    return rounded < size ? NULL : aligned_alloc(align, rounded);
}

static void default_free(void *ctx, void *p, size_t size)
{
    (void)ctx, (void)size;
    free(p);
}

attn_status attni_memory_open(memory *m, const attn_allocator *a, attn_error *err)
{
    static const attn_allocator standard = {NULL, default_alloc, default_free};
    if (a && (!a->alloc || !a->free))
        return attni_fail(err, ATTN_E_ARGUMENT, "the allocator lacks %s", a->alloc ? "free" : "alloc");
    *m = (memory){.a = a ? *a : standard};
    return ATTN_OK;
}

void attni_memory_close(memory *m)
{
    while (m->blocks) attni_free(m, (char *)m->blocks + HEADER);
}

void *attni_alloc_dirty(memory *m, size_t size)
{
    if (size > SIZE_MAX / 2 - HEADER) return m->failed = true, NULL;
    memory_block *b = m->a.alloc(m->a.ctx, HEADER + size, MEMORY_ALIGN);
    if (!b) return m->failed = true, NULL;
    *b = (memory_block){.next = m->blocks, .size = HEADER + size};
    if (m->blocks) m->blocks->prev = b;
    m->blocks = b;
    m->bytes += b->size;
    return (char *)b + HEADER;
}

void *attni_alloc(memory *m, size_t count, size_t size)
{
    if (size && count > (SIZE_MAX / 2 - HEADER) / size) return m->failed = true, NULL;
    void *p = attni_alloc_dirty(m, count * size);
    return p ? memset(p, 0, count * size) : NULL;
}

void attni_free(memory *m, void *p)
{
    if (!p) return;
    memory_block *b = (memory_block *)(void *)((char *)p - HEADER);
    if (b->prev)
        b->prev->next = b->next;
    else
        m->blocks = b->next;
    if (b->next) b->next->prev = b->prev;
    m->bytes -= b->size;
    m->a.free(m->a.ctx, b, b->size);
}

void *attni_grow(memory *m, void *at, size_t n, size_t *cap, size_t size)
{
    size_t more = *cap ? 2 * *cap : 8;
    void *bigger = m->failed ? NULL : attni_alloc(m, more, size);
    if (!bigger) return at;
    if (n) memcpy(bigger, at, n * size);
    attni_free(m, at);
    *cap = more;
    return bigger;
}

void *attni_widen(memory *m, void *at, size_t want, size_t *cap, size_t size)
{
    if (want <= *cap) return at;
    const size_t room = want - *cap < *cap / 2 ? *cap + *cap / 2 : want;
    void *wide = attni_alloc(m, room, size);
    if (!wide) return at;
    attni_free(m, at);
    *cap = room;
    return wide;
}

void *attni_new_owner(size_t size, const attn_allocator *a, memory **m, size_t memory_offset, attn_status *s,
                      attn_error *err)
{
    memory first;
    *s = attni_memory_open(&first, a, err);
    if (*s) return NULL;
    char *owner = first.a.alloc(first.a.ctx, size, MEMORY_ALIGN);
    if (!owner) return *s = attni_no_memory(err), NULL;
    memset(owner, 0, size);
    *m = (memory *)(void *)(owner + memory_offset);
    first.bytes = size;
    **m = first;
    return owner;
}

void attni_delete_owner(void *owner, size_t size, size_t memory_offset)
{
    if (!owner) return;
    memory *m = (memory *)(void *)((char *)owner + memory_offset);
    attni_memory_close(m);
    attn_allocator a = m->a;
    a.free(a.ctx, owner, size);
}
