/* burst.h - what this machine can do right now: multiply-adds and reads, to be timed between the repeats of a kernel. */
#ifndef ATTNC_TOOLS_BURST_H
#define ATTNC_TOOLS_BURST_H

#include <stddef.h>
#include <stdint.h>

typedef enum burst_kind { BURST_SSE, BURST_AVX2, BURST_AVX512, BURST_BF16 } burst_kind;

/* Seconds: of this thread's processor time for one thread, of the clock for several. */
double burst_now(uint32_t threads);

/* FLOP/s of multiply-adds in registers, on this many threads at once. */
double burst_flops(burst_kind kind, uint32_t threads);
/* Bytes per second of a plain read of two buffers. */
double burst_read(const void *a, size_t a_bytes, const void *b, size_t b_bytes, uint32_t threads);

#endif
