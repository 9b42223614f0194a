/* mask.c - joins the module's answers about tiles, blocks and pairs. */
#include "mask.h"
#include "numbers.h"

uint32_t attni_mask_heads(const attn_kind_desc *kind)
{
    return kind->flags & ATTN_KIND_HEADS_DIFFER ? kind->q_heads : 1;
}

static size_t max_size(size_t a, size_t b) { return a > b ? a : b; }

void attni_mask_open(mask *m, memory *mem, const attn_module_desc *d)
{
    const spans none = {.mem = mem};
    size_t ranges = 0, data = 0;
    *m = (mask){.mem = mem, .n_attrs = d->n_attrs, .head_may = none, .head_must = none, .rest = none};
    m->block_may = m->block_must = m->piece_may = m->piece_must = m->joined = m->present = m->one = none;
    for (uint32_t k = 0; k < d->n_kinds; k++) {
        ranges = max_size(ranges, (size_t)d->kinds[k]->n_may + d->kinds[k]->n_must);
        data = max_size(data, d->kinds[k]->n_data);
    }
    m->attr = attni_alloc(mem, (size_t)d->n_attrs + 1, 4 * sizeof *m->attr);
    m->ranges = attni_alloc(mem, ranges + 1, MASK_RANGE * sizeof *m->ranges);
    m->data = attni_alloc(mem, data + 1, 2);
}

void attni_mask_turn(mask *m, const attn_kind_desc *kind, uint32_t layer, const void *const *inputs)
{
    m->kind = kind;
    m->args = (attn_range_args){.size = sizeof m->args, .layer = layer, .inputs = inputs, .attr = m->attr};
    m->per_kv = kind->q_heads / kind->kv_heads;
    m->plain = !(kind->flags & ATTN_KIND_HEADS_DIFFER) && !kind->n_data && kind->n_may == 1 && kind->n_must == 1;
}

void attni_mask_close(mask *m)
{
    spans *const lists[] = {&m->head_may,  &m->head_must,  &m->rest,   &m->block_may, &m->block_must,
                            &m->piece_may, &m->piece_must, &m->joined, &m->present,   &m->one};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) attni_spans_free(lists[i]);
    attni_free(m->mem, m->attr);
    attni_free(m->mem, m->ranges);
    attni_free(m->mem, m->data);
}

void attni_mask_bind(mask *m, const attn_seq *seq, const int32_t *key_bounds)
{
    m->seq = seq;
    m->key_bounds = key_bounds;
    m->args.len = seq->n_keys;
    m->past = NULL;
}

/* Minimum and maximum of values[lo], values[lo + step], .. below hi. */
static void extremes(const int32_t *values, int64_t lo, int64_t hi, int64_t step, int32_t out[2])
{
    out[0] = out[1] = values[lo];
    for (int64_t i = lo + step; i < hi; i += step) {
        if (values[i] < out[0]) out[0] = values[i];
        if (values[i] > out[1]) out[1] = values[i];
    }
}

void attni_mask_bound_blocks(int32_t *bounds, const int32_t *const *values, uint32_t n_attrs, int64_t from, int64_t to)
{
    for (int64_t b = from / MASK_BLOCK; b * MASK_BLOCK < to; b++)
        for (uint32_t a = 0; a < n_attrs; a++)
            extremes(values[a], b * MASK_BLOCK, min64((b + 1) * MASK_BLOCK, to), 1, bounds + 2 * (b * n_attrs + a));
}

int32_t *attni_mask_key_bounds(memory *mem, const attn_seq *seq, uint32_t n_attrs)
{
    const size_t blocks = (size_t)((seq->n_keys + MASK_BLOCK - 1) / MASK_BLOCK);
    int32_t *bounds = attni_alloc(mem, blocks * n_attrs + 1, 2 * sizeof *bounds);
    if (bounds) attni_mask_bound_blocks(bounds, seq->k_attr, n_attrs, 0, seq->n_keys);
    return bounds;
}

/* ---- one head ------------------------------------------------------------------------------------------------- */

static void set_rows(mask *m, int64_t row0, int64_t row1, uint32_t step)
{
    m->rows.row0 = row0;
    m->rows.row1 = row1;
    m->rows.step = step;
    m->args.row_step = step;
    m->args.q0 = m->seq->pos + row0;
    m->args.q1 = m->seq->pos + row1;
}

/* Only for questions to the data: it takes a look at every row. */
static void set_row_attrs(mask *m)
{
    for (uint32_t a = 0; a < m->n_attrs; a++) {
        int32_t e[2];
        extremes(m->seq->q_attr[a], m->rows.row0, m->rows.row1 + 1, m->rows.step, e);
        m->attr[4 * a] = e[0];
        m->attr[4 * a + 1] = e[1];
    }
}

static void set_head(mask *m, uint32_t head)
{
    m->args.h = head;
    m->args.g = head / m->per_kv;
}

/* Keys lo .. hi - 1, which lie in one block of MASK_BLOCK. A whole block's bounds also hold for a part of it. */
static void set_keys(mask *m, int64_t lo, int64_t hi, bool fine)
{
    m->args.k0 = lo;
    m->args.k1 = hi - 1;
    const int64_t block = lo / MASK_BLOCK;
    for (uint32_t a = 0; a < m->n_attrs; a++) {
        int32_t e[2];
        const int32_t *known = fine || !m->key_bounds ? NULL : m->key_bounds + 2 * (block * m->n_attrs + a);
        if (!known) extremes(m->seq->k_attr[a], lo, hi, 1, e);
        m->attr[4 * a + 2] = known ? known[0] : e[0];
        m->attr[4 * a + 3] = known ? known[1] : e[1];
    }
}

static span range_at(const int64_t *ranges, uint32_t i, int64_t lo, int64_t hi)
{
    const int64_t *r = ranges + MASK_RANGE * (size_t)i;
    if (r[0] > r[1]) return (span){0, 0, 0};
    return attni_span_cut((span){r[0], min64(r[1], hi - 1) + 1, r[2] - 1}, lo, hi);
}

/* Where ranges with steps meet others, the list holds more or fewer keys than they do. */
static void collect(mask *m, const int64_t *ranges, uint32_t n, const span *cut, bool more, spans *out)
{
    bool steps = false;
    out->n = 0;
    for (uint32_t i = 0; i < n; i++) {
        span x = range_at(ranges, i, cut->lo, cut->hi);
        if (x.lo >= x.hi) continue;
        steps |= x.gap > 0;
        if (!steps) {
            attni_spans_insert(out, x.lo, x.hi);
            continue;
        }
        (more ? attni_spans_unite : attni_spans_unite_less)(out, &(spans){.at = &x, .n = 1}, &m->one);
        attni_spans_copy(out, &m->one);
    }
}

/* ranges for the rows and head that are set, cut to [lo, hi). data NULL: nothing is known of the atoms. */
static void ask_ranges(mask *m, const uint8_t *data, int64_t lo, int64_t hi, spans *may, spans *must)
{
    const span cut = {lo, hi, 0};
    m->args.data = data;
    m->kind->ranges(&m->args, m->ranges);
    collect(m, m->ranges, m->kind->n_may, &cut, true, may);
    collect(m, m->ranges + MASK_RANGE * (size_t)m->kind->n_may, m->kind->n_must, &cut, false, must);
}

static void ask_block(mask *m, int64_t lo, int64_t hi, bool fine)
{
    set_keys(m, lo, hi, fine);
    m->kind->bounds(&m->args, m->data);
    ask_ranges(m, m->data, lo, hi, &m->piece_may, &m->piece_must);
    for (size_t i = 0; i < m->piece_may.n; i++) attni_spans_put(&m->block_may, m->piece_may.at[i]);
    for (size_t i = 0; i < m->piece_must.n; i++) attni_spans_put(&m->block_must, m->piece_must.at[i]);
}

static void cut_to(mask *m, spans *s, const spans *within)
{
    attni_spans_intersect(s, within, &m->joined);
    attni_spans_copy(s, &m->joined);
}

static void cut(mask *m, const spans *within, spans *may, spans *must)
{
    cut_to(m, may, within);
    cut_to(m, must, within);
}

/* Asks the data about what lies in may but not in must, block by block; may and must take over what it says. Answers
 * name what lies between the first and the last key of a block. */
static void ask_data(mask *m, bool fine, spans *may, spans *must)
{
    const int64_t step = fine ? MASK_FINE : MASK_BLOCK;
    attni_spans_fit(may, must, &m->joined);
    attni_spans_subtract(may, must, &m->rest);
    m->block_may.n = m->block_must.n = 0;
    if (m->rest.n) set_row_attrs(m);
    for (size_t i = 0; i < m->rest.n; i++)
        for (int64_t lo = m->rest.at[i].lo, hi; lo < m->rest.at[i].hi; lo = hi) {
            hi = min64((lo / step + 1) * step, m->rest.at[i].hi);
            ask_block(m, lo, hi, fine);
        }
    if (attni_spans_have_steps(&m->rest)) cut(m, &m->rest, &m->block_may, &m->block_must);
    attni_spans_unite_less(must, &m->block_must, &m->joined);
    attni_spans_copy(must, &m->joined);
    attni_spans_unite(must, &m->block_may, may);
}

/* Whether past and [old, ..) have all of s. Most answers are one interval that ends behind `old`. */
static bool is_present(const spans *past, int64_t old, const spans *s)
{
    for (size_t i = 0, j = 0; i < s->n && s->at[i].lo < old; i++) {
        while (j < past->n && past->at[j].hi <= s->at[i].lo) j++;
        if (j == past->n || s->at[i].lo < past->at[j].lo) return false;
        if (min64(s->at[i].hi, old) > past->at[j].hi) return false;
    }
    return true;
}

static void cut_to_present(mask *m, spans *may, spans *must)
{
    if (is_present(m->past, m->old, may) && is_present(m->past, m->old, must)) return;
    attni_spans_copy(&m->present, m->past);
    attni_spans_append(&m->present, m->old, m->seq->n_keys);
    cut(m, &m->present, may, must);
}

static void ask_head(mask *m, uint32_t head, const spans *within, bool fine, spans *may, spans *must)
{
    set_head(m, head);
    ask_ranges(m, NULL, 0, m->seq->n_keys, may, must);
    if (within) cut(m, within, may, must);
    if (m->past) cut_to_present(m, may, must);
    if (!m->kind->n_data) return;
    ask_data(m, false, may, must);
    if (fine) ask_data(m, true, may, must);
}

/* ---- tiles, pairs, rows --------------------------------------------------------------------------------------- */

void attni_mask_ask(mask *m, mask_rows rows, const spans *within, bool fine, spans *may, spans *must)
{
    set_rows(m, rows.row0, rows.row1, rows.step);
    ask_head(m, rows.head, within, fine, may, must);
    if (!(m->kind->flags & ATTN_KIND_HEADS_DIFFER)) return;
    for (uint32_t h = 1; h < rows.heads && !m->mem->failed; h++) {
        ask_head(m, rows.head + h, within, fine, &m->head_may, &m->head_must);
        attni_spans_unite(may, &m->head_may, &m->joined);
        attni_spans_copy(may, &m->joined);
        attni_spans_intersect(must, &m->head_must, &m->joined);
        attni_spans_copy(must, &m->joined);
    }
}

bool attni_mask_interval(mask *m, mask_rows rows, span *keys)
{
    if (!m->plain) return false;
    set_rows(m, rows.row0, rows.row1, rows.step);
    set_head(m, rows.head);
    m->args.data = NULL;
    m->kind->ranges(&m->args, m->ranges);
    const span may = range_at(m->ranges, 0, 0, m->seq->n_keys), must = range_at(m->ranges, 1, 0, m->seq->n_keys);
    if (may.lo >= may.hi || may.lo != must.lo || may.hi != must.hi || may.gap != must.gap) return false;
    *keys = may;
    return !m->past || is_present(m->past, m->old, &(spans){.at = keys, .n = 1});
}

bool attni_mask_visible(mask *m, int64_t row, uint32_t head, int64_t key)
{
    set_rows(m, row, row, 1);
    set_row_attrs(m);
    set_head(m, head);
    set_keys(m, key, key + 1, true);
    return m->kind->visible(&m->args) != 0;
}

int64_t attni_mask_count(mask *m, int64_t row, uint32_t head, spans *may, spans *must)
{
    attni_mask_ask(m, (mask_rows){row, row, head, 1, 1}, NULL, true, may, must);
    if (attni_spans_same(may, must)) return attni_spans_count(must);
    attni_spans_fit(may, must, &m->joined);
    int64_t n = attni_spans_count(must);
    attni_spans_subtract(may, must, &m->rest);
    set_row_attrs(m);
    for (size_t i = 0; i < m->rest.n; i++)
        for (int64_t k = m->rest.at[i].lo; k < m->rest.at[i].hi; k += attni_span_step(&m->rest.at[i])) {
            set_keys(m, k, k + 1, true);
            n += m->kind->visible(&m->args) != 0;
        }
    return n;
}
