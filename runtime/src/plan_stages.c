/* plan_stages.c - two sweeps over a mask: where the results of the first lie, and what waits for what.
 *
 * A stage is one head's tiles in one sweep. The first sweep's tiles leave O and lse of their rows in a slot, the second's go on from there; their
 * rows come from all tiles of the first, so the whole stage must be done. Items are handed out in their order and every one that was
 * handed out is being run, so waiting ends; stages are ordered so that it is rare. */
#define _POSIX_C_SOURCE 200809L
#include "plan.h"

#include <sched.h>
#include <string.h>

enum { LINE = 64, LOOKS = 256 };

/* O, then lse; an odd number of lines, so that rows spread over all sets of a cache. */
static size_t row_bytes(const attn_plan *p)
{
    const size_t lines = ((size_t)p->kind->dim_v * sizeof(float) + sizeof(float) + LINE - 1) / LINE;
    return (lines | 1) * LINE;
}

static size_t slot_bytes(const attn_plan *p) { return (size_t)p->start_rows * row_bytes(p); }

/* One worker runs them in their order. */
static int32_t slots(const attn_plan *p) { return p->workers > 1 ? START_SLOTS : 1; }

size_t attni_start_bytes(const attn_plan *p) { return p->n_stages ? (size_t)slots(p) * slot_bytes(p) : 0; }

void attni_forget_stages(attn_plan *p)
{
    p->n_stages = 0;
    p->start_rows = 0;
    memset(p->opened, 0, sizeof p->opened);
    memset(p->last, 0, sizeof p->last);
}

/* The first sweep writes where the last one has been read, the second reads what the first has written. */
void attni_open_stage(attn_plan *p, stage s)
{
    const uint32_t sweep = s.sweep - 1;
    s.slot = p->opened[sweep]++ % slots(p);
    s.after = p->last[1 - sweep][s.slot];
    if (s.rows > p->start_rows) p->start_rows = s.rows;
    p->stages[p->n_stages++] = s;
    p->last[sweep][s.slot] = (int32_t)p->n_stages;
}

void attni_close_stage(attn_plan *p, int64_t items)
{
    p->stages[p->n_stages - 1].items = (uint32_t)items;
}

static void wait_for(const attn_plan *p, int32_t number)
{
    if (!number) return;
    const atomic_uint *done = &p->room.staged[number - 1];
    for (int look = 0; atomic_load_explicit(done, memory_order_acquire) != p->stages[number - 1].items; look++)
        if (look >= LOOKS) sched_yield();
}

static char *before(char *p, int64_t bytes) { return (char *)((uintptr_t)p - (uintptr_t)bytes); }

attn_kernel_args attni_begin_staged(const attn_plan *p, const attn_item *item)
{
    const stage *s = &p->stages[item->stage - 1];
    const attn_seq *seq = &p->seqs[item->seq];
    attn_kernel_args a = p->args;
    char *rows = p->room.starts + (size_t)s->slot * slot_bytes(p);
    wait_for(p, s->after);
    a.sweep = s->sweep;
    if (s->sweep == 2) {
        a.start = rows;
        a.start_row_stride = (int64_t)row_bytes(p);
        return a;
    }
    a.o = before(rows, seq->o_offset); /* kernels add the sequence's offsets, which are those of the caller's tensors */
    a.lse = before(rows + p->kind->dim_v * sizeof(float), seq->lse_offset);
    a.o_row_stride = a.lse_row_stride = (int64_t)row_bytes(p);
    a.o_head_stride = a.lse_head_stride = 0;
    a.o_f32 = 1;
    return a;
}

void attni_end_staged(const attn_plan *p, const attn_item *item)
{
    atomic_fetch_add_explicit(&p->room.staged[item->stage - 1], 1, memory_order_release);
}
