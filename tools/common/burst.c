/* burst.c - what this machine can do right now.
 *
 * The loops are whole asm blocks with named registers: nothing but the units themselves can limit them, whatever a compiler thinks.
 * Every chain is x = x * a + b with a < 1, so values stay near 1: no infinities, no denormals. */
#define _POSIX_C_SOURCE 200809L
#include "tools/common/burst.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

enum { ROUNDS = 400000, MAX_THREADS = 64, SPIN_TURNS = 100000 };

static double clock_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double burst_now(uint32_t threads) { return clock_of(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC); }

/* ---- multiply-adds ---------------------------------------------------------------------------------------------------------------- */

static const float factor = 0.999f, addend = 0.001f;

#define EACH6(X) X(0) X(1) X(2) X(3) X(4) X(5)
#define EACH12(X) EACH6(X) X(6) X(7) X(8) X(9) X(10) X(11)
#define EACH24(X) EACH12(X) X(12) X(13) X(14) X(15) X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23)
#define TEXT(x) #x

/* Without FMA: six chains of products and six of sums. */
#define SSE_START(i) "movaps %%xmm12, %%xmm" TEXT(i) "\n\t"
#define SSE_MUL(i) "mulps %%xmm12, %%xmm" TEXT(i) "\n\t"
#define SSE_ADDS \
    "addps %%xmm13, %%xmm6\n\taddps %%xmm13, %%xmm7\n\taddps %%xmm13, %%xmm8\n\t" \
    "addps %%xmm13, %%xmm9\n\taddps %%xmm13, %%xmm10\n\taddps %%xmm13, %%xmm11\n\t"

static double sse_flops(int64_t n)
{
    const float one = 1.0f; /* products stay 1 exactly; sums grow to n * 0.001 */
    int64_t left = n;
    __asm__ volatile("movss %[one], %%xmm12\n\tshufps $0, %%xmm12, %%xmm12\n\t"
                     "movss %[add], %%xmm13\n\tshufps $0, %%xmm13, %%xmm13\n\t" EACH12(SSE_START)
                     "1:\n\t" EACH6(SSE_MUL) SSE_ADDS "sub $1, %[n]\n\tjnz 1b\n\t"
                     : [n] "+r"(left)
                     : [one] "m"(one), [add] "m"(addend)
                     : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
                       "xmm13");
    return (double)n * 12 * 4;
}

#define AVX2_START(i) "vmovaps %%ymm12, %%ymm" TEXT(i) "\n\t"
#define AVX2_FMA(i) "vfmadd213ps %%ymm13, %%ymm12, %%ymm" TEXT(i) "\n\t"

__attribute__((target("avx2,fma"))) static double avx2_flops(int64_t n)
{
    int64_t left = n;
    __asm__ volatile("vbroadcastss %[mul], %%ymm12\n\tvbroadcastss %[add], %%ymm13\n\t" EACH12(AVX2_START)
                     "1:\n\t" EACH12(AVX2_FMA) "sub $1, %[n]\n\tjnz 1b\n\tvzeroupper\n\t"
                     : [n] "+r"(left)
                     : [mul] "m"(factor), [add] "m"(addend)
                     : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
                       "xmm13");
    return (double)n * 12 * 8 * 2;
}

#define ZMM_CLOBBERS \
    "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", \
        "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25"
#define ZMM_START(i) "vmovaps %%zmm24, %%zmm" TEXT(i) "\n\t"
#define ZMM_FMA(i) "vfmadd213ps %%zmm25, %%zmm24, %%zmm" TEXT(i) "\n\t"
#define ZMM_DOT(i) "vdpbf16ps %%zmm25, %%zmm24, %%zmm" TEXT(i) "\n\t"

__attribute__((target("avx512f"))) static double avx512_flops(int64_t n)
{
    int64_t left = n;
    __asm__ volatile("vbroadcastss %[mul], %%zmm24\n\tvbroadcastss %[add], %%zmm25\n\t" EACH24(ZMM_START)
                     "1:\n\t" EACH24(ZMM_FMA) "sub $1, %[n]\n\tjnz 1b\n\tvzeroupper\n\t"
                     : [n] "+r"(left)
                     : [mul] "m"(factor), [add] "m"(addend)
                     : ZMM_CLOBBERS);
    return (double)n * 24 * 16 * 2;
}

/* Sums of pair products of small numbers; they grow to a few hundred. */
__attribute__((target("avx512f"))) static double bf16_flops(int64_t n)
{
    int64_t left = n;
    __asm__ volatile("vbroadcastss %[mul], %%zmm24\n\tvbroadcastss %[add], %%zmm25\n\t" EACH24(ZMM_START)
                     "1:\n\t" EACH24(ZMM_DOT) "sub $1, %[n]\n\tjnz 1b\n\tvzeroupper\n\t"
                     : [n] "+r"(left)
                     : [mul] "m"(factor), [add] "m"(addend)
                     : ZMM_CLOBBERS);
    return (double)n * 24 * 32 * 2;
}

static double flops_once(burst_kind kind)
{
    switch (kind) {
    case BURST_SSE: return sse_flops(ROUNDS);
    case BURST_AVX2: return avx2_flops(ROUNDS);
    case BURST_AVX512: return avx512_flops(ROUNDS);
    case BURST_BF16: return bf16_flops(ROUNDS);
    }
    return 0;
}

/* ---- reads -------------------------------------------------------------------------------------------------------------------------- */

static void read_once(const char *p, size_t bytes)
{
    size_t blocks = bytes / 64;
    if (!blocks) return;
    __asm__ volatile("1:\n\tmovups (%[p]), %%xmm0\n\tmovups 16(%[p]), %%xmm1\n\tmovups 32(%[p]), %%xmm2\n\tmovups 48(%[p]), %%xmm3\n\t"
                     "add $64, %[p]\n\tsub $1, %[n]\n\tjnz 1b\n\t"
                     : [p] "+r"(p), [n] "+r"(blocks)
                     :
                     : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3");
}

/* ---- threads ------------------------------------------------------------------------------------------------------------------------ */

typedef struct share { /* one thread's part of a burst */
    bool reads;
    burst_kind kind;
    const char *at[2];
    size_t bytes[2];
    double flops, begun, ended; /* seconds of the clock */
    atomic_uint *awaited;       /* threads that are not there yet */
} share;

/* Nobody begins before all are there: to make a thread and wake a core takes as long as to read some MiB, and is no part of it. */
static void *run_share(void *arg)
{
    share *s = arg;
    atomic_fetch_sub(s->awaited, 1);
    for (int turn = 0; atomic_load(s->awaited); turn++)
        if (turn > SPIN_TURNS) sched_yield(); /* fewer cores than threads */
    s->begun = clock_of(CLOCK_MONOTONIC);
    if (!s->reads) s->flops = flops_once(s->kind);
    for (int i = 0; s->reads && i < 2; i++)
        read_once(s->at[i], s->bytes[i]);
    s->ended = clock_of(CLOCK_MONOTONIC);
    return NULL;
}

/* Seconds from the first begin to the last end; share 0 runs here. */
static double run_together(share *shares, uint32_t threads)
{
    pthread_t others[MAX_THREADS];
    bool made[MAX_THREADS] = {false};
    atomic_uint awaited = threads;
    for (uint32_t i = 0; i < threads; i++)
        shares[i].awaited = &awaited;
    for (uint32_t i = 1; i < threads; i++)
        if (!(made[i] = !pthread_create(&others[i], NULL, run_share, &shares[i]))) atomic_fetch_sub(&awaited, 1);
    run_share(&shares[0]);
    double begun = shares[0].begun, ended = shares[0].ended;
    for (uint32_t i = 1; i < threads; i++) {
        if (made[i])
            pthread_join(others[i], NULL);
        else
            atomic_store(&awaited, 1), run_share(&shares[i]); /* no memory for a thread: one after the other */
        begun = shares[i].begun < begun ? shares[i].begun : begun;
        ended = shares[i].ended > ended ? shares[i].ended : ended;
    }
    return ended - begun;
}

/* One share alone is timed as a kernel in one thread is. */
static double run_shares(share *shares, uint32_t threads)
{
    if (threads > 1) return run_together(shares, threads);
    atomic_uint awaited = 1;
    shares[0].awaited = &awaited;
    double start = burst_now(1);
    run_share(&shares[0]);
    return burst_now(1) - start;
}

double burst_flops(burst_kind kind, uint32_t threads)
{
    share shares[MAX_THREADS] = {{.reads = false}};
    double sum = 0;
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    for (uint32_t i = 0; i < threads; i++)
        shares[i].kind = kind;
    double seconds = run_shares(shares, threads);
    for (uint32_t i = 0; i < threads; i++)
        sum += shares[i].flops;
    return sum / seconds;
}

double burst_read(const void *a, size_t a_bytes, const void *b, size_t b_bytes, uint32_t threads)
{
    share shares[MAX_THREADS] = {{.reads = false}};
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    for (uint32_t i = 0; i < threads; i++) {
        size_t a0 = a_bytes / threads * i, b0 = b_bytes / threads * i;
        shares[i] = (share){.reads = true,
                            .at = {(const char *)a + a0, (const char *)b + b0},
                            .bytes = {a_bytes / threads, b_bytes / threads}};
    }
    return (double)(a_bytes + b_bytes) / run_shares(shares, threads);
}
