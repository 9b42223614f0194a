/* arena.h - memory with an owner and an end.
 *
 * The compiler frees nothing one by one: an arena is dropped as a whole. arena_alloc never returns NULL; when
 * the limit (a bound on what a hostile input may take) or the machine's memory is reached, the handler is called and
 * must not return (the driver's longjmps to where it reports the input as too large). Single-threaded. */
#ifndef ATTNC_BASE_ARENA_H
#define ATTNC_BASE_ARENA_H

#include "ir/base/compiler.h"
#include <stddef.h>

typedef struct arena arena;
typedef void arena_exhausted(void *ctx); /* must not return */

/* limit: bytes, 0 = none. handler may be NULL (then exhaustion is ATTNC_BUG). */
arena *arena_create(size_t limit, arena_exhausted *handler, void *ctx);
void arena_destroy(arena *a);
size_t arena_used(const arena *a);

void *arena_alloc(arena *a, size_t size); /* zeroed, aligned to 16 */
void *arena_array(arena *a, size_t count, size_t size);
char *arena_copy(arena *a, const char *text, size_t len); /* NUL-terminated */
char *arena_strdup(arena *a, const char *text);
char *arena_printf(arena *a, const char *fmt, ...) ATTNC_PRINTF(2, 3);

#define ARENA_NEW(a, type) ((type *)arena_alloc((a), sizeof(type)))
#define ARENA_ARRAY(a, type, n) ((type *)arena_array((a), (n), sizeof(type)))

/* Growable arrays in an arena: struct { T *at; size_t n, cap; }. */
#define VEC(type) \
    struct { \
        type *at; \
        size_t n, cap; \
    }
void *arena_grow(arena *a, void *old, size_t n, size_t *cap, size_t size);
#define VEC_PUSH(a, v, x) \
    ((v)->at = (v)->n == (v)->cap ? arena_grow((a), (v)->at, (v)->n, &(v)->cap, sizeof *(v)->at) : (v)->at, \
     (v)->at[(v)->n++] = (x))

#endif
