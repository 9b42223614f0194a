/* bench_test.c - what attn-bench stands on: tensors laid out head by head, and bursts of several threads. */
#include "tools/common/burst.h"
#include "tools/common/problem.h"
#include "tests/unit/check.h"

enum { B = 2, T = 3, H = 4, D = 5 };

static int64_t offset(const DLTensor *t, const int64_t *at)
{
    int64_t sum = 0;
    for (int i = 0; i < t->ndim; i++)
        sum += at[i] * t->strides[i];
    return sum;
}

/* Walking the memory [batch, heads, tokens, dim] from front to back, the tensor's own index gives each place in turn. */
static void heads_lie_in_one_piece(void)
{
    int64_t shape[4] = {B, T, H, D}, strides[4], place = 0;
    DLTensor q = {.ndim = 4, .shape = shape}, lse = {.ndim = 3, .shape = shape};
    tensor_store_by_head(&q, strides);
    for (int64_t b = 0; b < B; b++)
        for (int64_t h = 0; h < H; h++)
            for (int64_t t = 0; t < T; t++)
                for (int64_t d = 0; d < D; d++)
                    CHECK(offset(&q, (int64_t[]){b, t, h, d}) == place++);
    tensor_store_by_head(&lse, strides);
    place = 0;
    for (int64_t b = 0; b < B; b++)
        for (int64_t h = 0; h < H; h++)
            for (int64_t t = 0; t < T; t++)
                CHECK(offset(&lse, (int64_t[]){b, t, h}) == place++);
}

static void tensors_begin_at_a_line(void)
{
    tool_error err = {""};
    for (int64_t n = 1; n < 1 << 20; n = 3 * n + 1) {
        tensor t;
        CHECK(tensor_create(&t, &n, 1, ATTN_BF16, &err));
        CHECK((uintptr_t)t.values % 64 == 0 && (uintptr_t)t.stored % 64 == 0);
        bool zero = true;
        for (int64_t i = 0; i < n; i++)
            zero &= t.values[i] == 0 && ((uint16_t *)t.stored)[i] == 0;
        CHECK(zero);
        free(t.values), free(t.stored);
    }
}

/* Speeds cannot be judged in a test; that every thread comes back, any number of times, can. */
static void bursts_end(void)
{
    static char a[1 << 16], b[1 << 12];
    for (uint32_t threads = 1; threads <= 5; threads++)
        for (int i = 0; i < 3; i++)
            CHECK(burst_read(a, sizeof a, b, sizeof b, threads) > 0);
    for (uint32_t threads = 1; threads <= 3; threads++)
        CHECK(burst_flops(BURST_SSE, threads) > 0);
}

int main(void)
{
    RUN(heads_lie_in_one_piece);
    RUN(tensors_begin_at_a_line);
    RUN(bursts_end);
    return CHECK_DONE();
}
