/* memory.h - memory with an owner: everything taken through one `memory` is freed by closing it.
 *
 * Failure is sticky (`failed`), so that code that builds lists checks once, at the end. Lists grow by doubling. */
#ifndef ATTN_SRC_MEMORY_H
#define ATTN_SRC_MEMORY_H

#include <attn/attn.h>
#include <stdbool.h>

enum { MEMORY_ALIGN = 64 }; /* of every block: kernels want their workspaces so */

typedef struct memory {
    attn_allocator a;
    struct memory_block *blocks;
    uint64_t bytes; /* taken now, headers included */
    bool failed;
} memory;

attn_status attni_memory_open(memory *m, const attn_allocator *a, attn_error *err); /* a NULL: malloc */
void attni_memory_close(memory *m);

void *attni_alloc(memory *m, size_t count, size_t size); /* zeroed; NULL and m->failed when there is none */
void *attni_alloc_dirty(memory *m, size_t size);         /* not zeroed */
void attni_free(memory *m, void *p);                     /* NULL is fine */
/* Room for one more element: returns the list's new place, or its old one with m->failed. */
void *attni_grow(memory *m, void *at, size_t n, size_t *cap, size_t size);
/* A block of `cap` elements that is to have `want`: itself, or a larger one that is zeroed. Its old place with m->failed
 * when there is none. */
void *attni_widen(memory *m, void *at, size_t want, size_t *cap, size_t size);

/* `T` with its own life, which holds a `memory`: the owner of all its parts. */
void *attni_new_owner(size_t size, const attn_allocator *a, memory **m, size_t memory_offset, attn_status *s,
                      attn_error *err);
void attni_delete_owner(void *owner, size_t size, size_t memory_offset);

#define LIST(type)                                                                                                     \
    struct {                                                                                                           \
        type *at;                                                                                                      \
        size_t n, cap;                                                                                                 \
    }
/* For lists that are kept from use to use: room for `want` elements, whose contents are not kept. */
#define LIST_ROOM(m, list, want) ((list)->at = attni_widen(m, (list)->at, want, &(list)->cap, sizeof *(list)->at))
#define LIST_ADD(m, list, value)                                                                                       \
    do {                                                                                                               \
        if ((list)->n == (list)->cap)                                                                                  \
            (list)->at = attni_grow(m, (list)->at, (list)->n, &(list)->cap, sizeof *(list)->at);                       \
        if ((list)->n < (list)->cap) (list)->at[(list)->n++] = (value);                                                \
    } while (0)

#endif
