/* plan_rows.c - which rows lie side by side in a sequence's tiles.
 *
 * Rows some steps apart see the same keys where the mask compares remainders, and others do not: (q - k) % 64 == 0. What each choice costs is
 * guessed from the tiles of one class of rows. Where the mask has two halves (ATTN_KIND_SWEEPS), a window beside a stride, each half may have
 * tiles of its own; then the second sweep reads what the first has written. */
#include "plan.h"
#include "numbers.h"

enum {
    TILE_KEYS = 32,  /* what a tile costs beside its keys, in keys */
    RESUME_KEYS = 8, /* what it costs to leave a row's results and take them up again */
    SWEEP_ROWS = 64  /* fewer of a sequence are not worth the guess */
};

static spacing all_rows(const drafts *d, int64_t row_step, uint32_t sweep)
{
    return (spacing){row_step, 0, min64(row_step, d->mask.seq->n_q), sweep};
}

/* About what the sequence costs, by the rows from one in the middle on. */
static int64_t guess_cost(drafts *d, int32_t seq, uint32_t group, spacing rows)
{
    const size_t tiles = d->tiles.n, strips = d->strips.n, segments = d->segments.n;
    const int64_t n = rows.end;
    rows.first = n / 2, rows.end = n / 2 + 1;
    const workload l = attni_draft_load(d, seq, group, rows);
    d->tiles.n = tiles, d->strips.n = strips, d->segments.n = segments;
    return n * (l.w.cost + (int64_t)l.items * TILE_KEYS * d->plan->kernel->lanes);
}

static int64_t without_factor(int64_t n)
{
    for (int64_t f = 2; f * f <= n; f++)
        if (n % f == 0) return n / f;
    return 1;
}

typedef struct choice {
    int64_t row_step, cost;
} choice;

/* With a window beside a stride rows 16 apart may be best: they have keys 16 apart in common, and most of their windows. */
static choice choose_step(drafts *d, int32_t seq, uint32_t group, uint32_t sweep)
{
    choice best = {1, guess_cost(d, seq, group, all_rows(d, 1, sweep))};
    for (int64_t step = d->plan->kind->row_step; step > 1 && !d->mem->failed; step = without_factor(step)) {
        const int64_t cost = guess_cost(d, seq, group, all_rows(d, step, sweep));
        if (cost < best.cost) best = (choice){step, cost};
    }
    return best;
}

/* Results are passed on by heads: tiles of several are for short sequences, which have nothing to gain. */
static bool may_sweep(const drafts *d, uint32_t group)
{
    return d->plan->kind->flags & ATTN_KIND_SWEEPS && group <= 1 && d->mask.seq->n_q >= SWEEP_ROWS;
}

row_layout attni_choose_rows(drafts *d, int32_t seq, uint32_t group)
{
    if (d->plan->kind->row_step < 2 || d->mask.seq->n_q < 2)
        return (row_layout){1, group, {all_rows(d, 1, 0)}};
    const choice whole = choose_step(d, seq, group, 0);
    if (may_sweep(d, group)) {
        const choice apart = choose_step(d, seq, 1, 2);
        const int64_t together = guess_cost(d, seq, 1, all_rows(d, 1, 1)), heads = d->plan->kind->q_heads;
        if (together + apart.cost + heads * d->mask.seq->n_q * RESUME_KEYS < whole.cost)
            return (row_layout){2, 1, {all_rows(d, 1, 1), all_rows(d, apart.row_step, 2)}};
    }
    return (row_layout){1, group, {all_rows(d, whole.row_step, 0)}};
}
