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

static attn_status check_budget(const attn_cache *c, const int64_t *need, uint64_t *more_bytes, attn_error *err)
{
    const uint64_t used = c->bytes - c->prefixes.idle_bytes;
    uint64_t sum = used;
    for (uint32_t k = 0; k < c->n_pools; k++) {
        uint64_t more;
        if (__builtin_mul_overflow((uint64_t)need[k], c->pools[k].page_bytes, &more) ||
            __builtin_add_overflow(sum, more, &sum))
            sum = UINT64_MAX;
    }
    *more_bytes = sum - used;
    if (sum <= c->budget && sum < UINT64_MAX) return ATTN_OK;
    return attni_fail(err, ATTN_E_BUDGET, "the step needs pages for %llu bytes more; %llu of %llu are in use",
                      (unsigned long long)*more_bytes, (unsigned long long)used, (unsigned long long)c->budget);
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
    uint64_t bytes;
    attn_status s = check_budget(c, need, &bytes, err);
    if (s) return s;
    attni_prefix_make_room(c, bytes);
    bool ok = true;
    for (uint32_t k = 0; k < n_pools; k++) c->pools[k].made = 0;
    for (uint32_t k = 0; k < n_pools && ok; k++) ok = fill_pool(c, k, need);
    if (ok) return ATTN_OK;
    for (uint32_t k = 0; k < n_pools; k++)
        while (c->pools[k].made--) unmake_page(c, &c->pools[k]);
    return attni_fail(err, ATTN_E_MEMORY, "out of memory for pages");
}

/* ---- use --------------------------------------------------------------------------------------------------------- */

/* A page counts as shared when several sequences have it, as idle when only the tree of prefixes has. */
static void count(attn_cache *c, page_pool *pool, const page *p, int by)
{
    const uint32_t sequences = p->refs - (p->slot != NULL);
    if (sequences > 1) pool->shared += by;
    if (sequences || !p->slot) return;
    pool->idle += by;
    c->prefixes.idle_bytes += by > 0 ? pool->page_bytes : -pool->page_bytes;
    attni_prefix_count(c, p->slot, by);
}

char *attni_page_take(attn_cache *c, uint32_t pool_index, int64_t from)
{
    page_pool *pool = &c->pools[pool_index];
    page *p = pool->free;
    pool->free = p->next_free;
    pool->n_free--;
    pool->pages++;
    p->refs = 1;
    p->from = (uint32_t)from;
    c->bytes += pool->page_bytes;
    if (c->bytes > c->bytes_most) c->bytes_most = c->bytes;
    return data_of(p);
}

void attni_page_share(attn_cache *c, uint32_t pool_index, const char *data)
{
    page *p = attni_page_of(data);
    count(c, &c->pools[pool_index], p, -1);
    p->refs++;
    count(c, &c->pools[pool_index], p, 1);
}

static void release(attn_cache *c, page_pool *pool, page *p, bool by_tree)
{
    count(c, pool, p, -1);
    if (by_tree) p->slot = NULL;
    p->refs--;
    count(c, pool, p, 1);
    if (p->refs) return;
    pool->pages--;
    c->bytes -= pool->page_bytes;
    poison_all(c, pool, p);
    add_free(pool, p);
}

void attni_page_drop(attn_cache *c, uint32_t pool_index, const char *data)
{
    release(c, &c->pools[pool_index], attni_page_of(data), false);
}

void attni_page_keep(attn_cache *c, uint32_t pool_index, const char *data, prefix_slot *slot)
{
    page *p = attni_page_of(data);
    count(c, &c->pools[pool_index], p, -1);
    p->slot = slot;
    p->refs++;
    count(c, &c->pools[pool_index], p, 1);
}

void attni_page_let_go(attn_cache *c, uint32_t pool_index, const char *data)
{
    release(c, &c->pools[pool_index], attni_page_of(data), true);
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
