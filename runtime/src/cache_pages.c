/* cache_pages.c - pages of each pool: counted, shared, kept when free, within the budget. */
#include "cache.h"

#include "error.h"

#include <string.h>

enum { PAGE_HEADER = MEMORY_ALIGN };
_Static_assert(sizeof(page) <= PAGE_HEADER, "a page's header keeps its data aligned");

page *attni_page_of(const char *data) { return (page *)(void *)(uintptr_t)(data - PAGE_HEADER); }
static char *data_of(page *p) { return (char *)p + PAGE_HEADER; }

static void poison_all(const attn_cache *c, const page_pool *pool, page *p)
{
    if (c->poison) memset(data_of(p), 0xff, pool->page_bytes);
}

/* ---- pages from the allocator ----------------------------------------------------------------------------------- */

static void add_free(page_pool *pool, page *p)
{
    p->next_free = pool->free;
    pool->free = p;
    pool->n_free++;
}

static bool make_page(attn_cache *c, page_pool *pool)
{
    page *p = attni_alloc_dirty(&c->mem, PAGE_HEADER + pool->page_bytes);
    if (!p) return false;
    *p = (page){.next = pool->all};
    if (pool->all) pool->all->prev = p;
    pool->all = p;
    poison_all(c, pool, p);
    add_free(pool, p);
    c->bytes_reserved += pool->page_bytes;
    return true;
}

static void unmake_page(attn_cache *c, page_pool *pool)
{
    page *p = pool->free;
    pool->free = p->next_free;
    pool->n_free--;
    if (p->prev)
        p->prev->next = p->next;
    else
        pool->all = p->next;
    if (p->next) p->next->prev = p->prev;
    c->bytes_reserved -= pool->page_bytes;
    attni_free(&c->mem, p);
}

/* ---- reserving --------------------------------------------------------------------------------------------------- */

static attn_status check_budget(const attn_cache *c, const int64_t *need, attn_error *err)
{
    uint64_t sum = c->bytes;
    for (uint32_t k = 0; k < c->n_pools; k++) {
        uint64_t more;
        if (__builtin_mul_overflow((uint64_t)need[k], c->pools[k].page_bytes, &more) ||
            __builtin_add_overflow(sum, more, &sum))
            sum = UINT64_MAX;
    }
    if (sum <= c->budget && sum < UINT64_MAX) return ATTN_OK;
    return attni_fail(err, ATTN_E_BUDGET, "the step needs pages for %llu bytes more; %llu of %llu are in use",
                      (unsigned long long)(sum - c->bytes), (unsigned long long)c->bytes,
                      (unsigned long long)c->budget);
}

/* Gives a free page that nobody needs back to the allocator. As the sum fits, there is one whenever room is short. */
static void make_room(attn_cache *c, const int64_t *need)
{
    for (uint32_t k = 0; k < c->n_pools; k++)
        if (c->pools[k].n_free > need[k]) {
            unmake_page(c, &c->pools[k]);
            return;
        }
}

static bool fill_pool(attn_cache *c, uint32_t pool_index, const int64_t *need)
{
    page_pool *pool = &c->pools[pool_index];
    while (pool->n_free < need[pool_index]) {
        while (c->bytes_reserved > c->budget - pool->page_bytes) make_room(c, need);
        if (!make_page(c, pool)) return false;
        pool->made++;
    }
    return true;
}

attn_status attni_pages_reserve(attn_cache *c, const int64_t *need, attn_error *err)
{
    const uint32_t n_pools = c->n_pools;
    attn_status s = check_budget(c, need, err);
    if (s) return s;
    bool ok = true;
    for (uint32_t k = 0; k < n_pools; k++) c->pools[k].made = 0;
    for (uint32_t k = 0; k < n_pools && ok; k++) ok = fill_pool(c, k, need);
    if (ok) return ATTN_OK;
    for (uint32_t k = 0; k < n_pools; k++)
        while (c->pools[k].made--) unmake_page(c, &c->pools[k]);
    return attni_fail(err, ATTN_E_MEMORY, "out of memory for pages");
}

/* ---- use --------------------------------------------------------------------------------------------------------- */

char *attni_page_take(attn_cache *c, uint32_t pool_index)
{
    page_pool *pool = &c->pools[pool_index];
    page *p = pool->free;
    pool->free = p->next_free;
    pool->n_free--;
    pool->pages++;
    p->refs = 1;
    c->bytes += pool->page_bytes;
    if (c->bytes > c->bytes_most) c->bytes_most = c->bytes;
    return data_of(p);
}

void attni_page_share(attn_cache *c, uint32_t pool_index, const char *data)
{
    if (++attni_page_of(data)->refs == 2) c->pools[pool_index].shared++;
}

void attni_page_drop(attn_cache *c, uint32_t pool_index, const char *data)
{
    page *p = attni_page_of(data);
    page_pool *pool = &c->pools[pool_index];
    if (--p->refs == 1) pool->shared--;
    if (p->refs) return;
    pool->pages--;
    c->bytes -= pool->page_bytes;
    poison_all(c, pool, p);
    add_free(pool, p);
}

bool attni_page_is_shared(const char *data) { return attni_page_of(data)->refs > 1; }

void attni_page_poison(attn_cache *c, uint32_t pool_index, const char *data, int64_t lo, int64_t hi)
{
    const page_pool *pool = &c->pools[pool_index];
    if (!c->poison || lo >= hi || attni_page_is_shared(data)) return;
    for (uint32_t b = 0; b < pool->n_blocks; b++) {
        char *keys = data_of(attni_page_of(data)) + b * pool->block_bytes;
        char *values = keys + c->page_tokens * pool->k_row;
        memset(keys + lo * pool->k_row, 0xff, (size_t)((hi - lo) * pool->k_row));
        if (pool->v_row) memset(values + lo * pool->v_row, 0xff, (size_t)((hi - lo) * pool->v_row));
    }
}
