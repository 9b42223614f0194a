/* memory.c - blocks between pages without access: sanitizers do not see into compiled kernels, the processor does. */
#define _DEFAULT_SOURCE
#include "tests/e2e/harness.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

bool guarded_create(guarded *g, size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), inner = (size + page - 1) / page * page;
    if (!inner) inner = page;
    *g = (guarded){.size = size, .map_size = inner + 2 * page};
    g->map = mmap(NULL, g->map_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g->map == MAP_FAILED) return false;
    char *begin = (char *)g->map + page;
    if (mprotect(begin, inner, PROT_READ | PROT_WRITE)) return false;
    memset(begin, 0xff, inner);
    g->at = begin + inner - size;
    return true;
}

void guarded_destroy(guarded *g)
{
    if (g->map && g->map != MAP_FAILED) munmap(g->map, g->map_size);
    *g = (guarded){0};
}

bool guarded_is_untouched(const guarded *g)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const unsigned char *at = (const unsigned char *)g->map + page,
                        *end = (const unsigned char *)g->map + g->map_size - page;
    for (; at < end; at++)
        if (*at != 0xff) return false;
    return true;
}
