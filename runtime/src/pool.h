/* pool.h - running one function on all workers of a pool. */
#ifndef ATTN_SRC_POOL_H
#define ATTN_SRC_POOL_H

#include <attn/attn.h>
#include <stdbool.h>

typedef void attni_job(void *ctx, uint32_t worker, uint32_t workers);

/* Calls job(ctx, i, workers) for i in 0 .. workers - 1, 0 in this thread; workers <= attn_pool_threads. False: the pool
 * is in use by another call, nothing was done. */
bool attni_pool_run(attn_pool *p, uint32_t workers, attni_job *job, void *ctx);

#endif
