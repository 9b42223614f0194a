/* pool.c - threads that sleep between calls.
 *
 * A call raises `generation`; workers look at it for a while without sleeping (calls of consecutive layers follow each
 * other soon, and waking a thread takes as long as a layer of a short sequence), then wait on a condition variable. The
 * last worker to finish wakes the caller. */
#define _POSIX_C_SOURCE 200809L
#include "pool.h"

#include "error.h"
#include "memory.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <time.h>

enum { DEFAULT_SPIN = 50, LOOKS = 32, MAX_THREADS = 4096 }; /* microseconds; looks between two glances at the clock */

typedef struct worker {
    attn_pool *pool;
    uint32_t index;
    pthread_t thread;
} worker;

struct attn_pool {
    memory mem;
    uint32_t threads, started; /* started: workers that run, without the caller */
    worker *workers;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    atomic_bool busy;
    atomic_uint generation, pending, spin;
    /* Written by the caller before it raises generation. */
    attni_job *job; /* NULL: go home */
    void *ctx;
    uint32_t job_workers;
};

static void pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Looks at a number until it is `wanted`, as long as the pool spins. */
static void spin_until(attn_pool *p, atomic_uint *number, unsigned wanted)
{
    const int64_t end = now() + atomic_load_explicit(&p->spin, memory_order_relaxed);
    do {
        for (int i = 0; i < LOOKS; i++) {
            if (atomic_load_explicit(number, memory_order_acquire) == wanted) return;
            pause_cpu();
        }
    } while (now() < end);
}

static unsigned wait_for_call(attn_pool *p, unsigned seen)
{
    spin_until(p, &p->generation, seen + 1);
    if (atomic_load_explicit(&p->generation, memory_order_acquire) == seen) {
        pthread_mutex_lock(&p->lock);
        while (atomic_load_explicit(&p->generation, memory_order_acquire) == seen)
            pthread_cond_wait(&p->wake, &p->lock);
        pthread_mutex_unlock(&p->lock);
    }
    return seen + 1; /* the next call waits for all of us, so none can be missed */
}

static void report_done(attn_pool *p)
{
    if (atomic_fetch_sub_explicit(&p->pending, 1, memory_order_acq_rel) != 1) return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_signal(&p->done);
    pthread_mutex_unlock(&p->lock);
}

static void *work(void *arg)
{
    worker *w = arg;
    attn_pool *p = w->pool;
    for (unsigned seen = 0;;) {
        seen = wait_for_call(p, seen);
        if (!p->job) return NULL;
        if (w->index < p->job_workers) p->job(p->ctx, w->index, p->job_workers);
        report_done(p);
    }
}

static void call_workers(attn_pool *p, attni_job *job, void *ctx, uint32_t workers)
{
    p->job = job;
    p->ctx = ctx;
    p->job_workers = workers;
    atomic_store_explicit(&p->pending, p->started, memory_order_relaxed);
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add_explicit(&p->generation, 1, memory_order_release);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

static void wait_for_workers(attn_pool *p)
{
    spin_until(p, &p->pending, 0);
    /* The lock also lets the last worker leave report_done before the pool can be destroyed. */
    pthread_mutex_lock(&p->lock);
    while (atomic_load_explicit(&p->pending, memory_order_acquire)) pthread_cond_wait(&p->done, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

bool attni_pool_run(attn_pool *p, uint32_t workers, attni_job *job, void *ctx)
{
    if (atomic_exchange_explicit(&p->busy, true, memory_order_acquire)) return false;
    bool alone = workers <= 1 || !p->started;
    if (!alone) call_workers(p, job, ctx, workers);
    job(ctx, 0, alone ? 1 : workers);
    if (!alone) wait_for_workers(p);
    atomic_store_explicit(&p->busy, false, memory_order_release);
    return true;
}

/* Workers take no signals: those belong to the host program's own threads. */
static attn_status start_workers(attn_pool *p, attn_error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = 0;
    for (uint32_t i = 1; i < p->threads && !failed; i++) {
        worker *w = &p->workers[i - 1];
        *w = (worker){.pool = p, .index = i};
        failed = pthread_create(&w->thread, NULL, work, w);
        p->started += !failed;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed ? attni_fail(err, ATTN_E_MEMORY, "the system gives no more than %u threads", p->started + 1)
                  : ATTN_OK;
}

attn_status attn_pool_create(uint32_t threads, const attn_allocator *a, attn_pool **out, attn_error *err)
{
    if (!out || !threads || threads > MAX_THREADS)
        return attni_fail(err, ATTN_E_ARGUMENT, "attn_pool_create: %u threads; 1 to %d are possible", threads,
                          MAX_THREADS);
    memory *mem;
    attn_status s;
    attn_pool *p = attni_new_owner(sizeof *p, a, &mem, offsetof(attn_pool, mem), &s, err);
    if (!p) return s;
    p->threads = threads;
    atomic_init(&p->spin, DEFAULT_SPIN);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->done, NULL);
    p->workers = attni_alloc(mem, threads, sizeof *p->workers);
    s = p->workers ? start_workers(p, err) : attni_no_memory(err);
    if (s)
        attn_pool_destroy(p);
    else
        *out = p;
    return s;
}

void attn_pool_destroy(attn_pool *p)
{
    if (!p) return;
    if (p->started) call_workers(p, NULL, NULL, 0);
    for (uint32_t i = 0; i < p->started; i++) pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    attni_delete_owner(p, sizeof *p, offsetof(attn_pool, mem));
}

void attn_pool_set_spin(attn_pool *p, uint32_t microseconds)
{
    atomic_store_explicit(&p->spin, microseconds, memory_order_relaxed);
}

uint32_t attn_pool_threads(const attn_pool *p) { return p->threads; }
