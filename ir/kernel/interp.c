/* interp.c - the oracle: a kernel run in f64, by plain loops over rows, keys and dims (docs/kernel-ir.md, "Meaning").
 *
 * A value is an array of doubles. A tile of logits has a flag beside each element: masked elements are never read, so
 * that what lies in K and V behind them may be NaN. */
#include "ir/kernel/interp.h"

#include <math.h>
#include <string.h>

typedef struct tile_value {
    double *at;       /* q [row, dim], s [row, key], o [row, dim_v], r [row] */
    bool *masked;     /* s */
    const double *in; /* k, v: the first key's vector; the next lies `stride` behind it */
} tile_value;

typedef struct op_program {
    const kop *op;
    expr_program *code;
    expr_value *scratch;
} op_program;

typedef struct query_row {
    int64_t index, head; /* of the call's queries; query head */
} query_row;

typedef struct machine {
    const kernel *k;
    const interp_options *options;
    const interp_sequence *seq;
    const double *keys, *values; /* of seq, as they are stored; values NULL where they are the keys */
    arena *scratch;
    VEC(op_program) programs;
    tile_value *value; /* per kvalue */
    size_t max_rows, max_keys;
    expr_env env;
    int64_t (*attr)[ATTR_SIDE_COUNT];
    bool (*data)[2];
    query_row *row; /* the tile's rows */
    size_t n_rows;
    int64_t kv_head;
    int64_t key, n_keys;          /* first key and keys of the current key tile */
    int64_t part_begin, part_end; /* keys of the part */
    uint32_t part;
    uint8_t *key_class; /* per key, for the tile's rows: keys_range; KEYS_ALL: not visited */
    tile_value *parts;  /* per part: m, l, O of store.part */
    tile_value stage[KOP_MAX_RESULTS];
} machine;

/* Values that are keys lie as keys do. */
static bool is_k_v(const machine *m) { return m->k->module->patterns.at[m->k->pattern]->k_is_v; }
static int64_t value_size(const machine *m) { return is_k_v(m) ? m->k->shape.dim : m->k->shape.dim_v; }

/* ---- expressions ----------------------------------------------------------------------------------------- */

static void set_row(machine *m, const query_row *r)
{
    m->env.var[VAR_Q] = m->seq->pos + r->index;
    m->env.var[VAR_H] = r->head;
    m->env.var[VAR_G] = m->kv_head;
    m->env.var[VAR_LEN] = m->seq->len ? m->seq->len[r->index] : m->seq->n_keys;
    for (size_t a = 0; a < m->k->module->symbols.attrs.n; a++)
        if (m->seq->q_attr && m->seq->q_attr[a]) m->attr[a][ATTR_Q] = m->seq->q_attr[a][r->index];
}

static void set_key(machine *m, int64_t key)
{
    m->env.var[VAR_K] = key;
    for (size_t a = 0; a < m->k->module->symbols.attrs.n; a++)
        if (m->seq->k_attr && m->seq->k_attr[a]) m->attr[a][ATTR_K] = m->seq->k_attr[a][key];
}

static expr_value evaluate(machine *m, const kop *o)
{
    expr_value result;
    const op_program *p = m->programs.at;
    while (p->op != o) p++;
    expr_program_run(p->code, &m->env, p->scratch, &result);
    return result;
}

/* The op's expression for a row; `without` when it has none. */
static double row_value(machine *m, const kop *o, size_t row, double without)
{
    if (!o->e) return without;
    set_row(m, &m->row[row]);
    return evaluate(m, o).f;
}

static void compile_block(machine *m, const kblock *b)
{
    for (size_t i = 0; i < b->ops.n; i++) {
        const kop *o = b->ops.at[i];
        if (o->body) compile_block(m, o->body);
        if (!o->e) continue;
        op_program p = {.op = o, .code = expr_program_create(m->scratch, m->k->module->pool, &o->e, 1)};
        p.scratch = ARENA_ARRAY(m->scratch, expr_value, expr_program_size(p.code) + 1);
        VEC_PUSH(m->scratch, &m->programs, p);
    }
}

/* ---- ops ------------------------------------------------------------------------------------------------- */

static double power(const machine *m, double x) { return m->k->base2 ? exp2(x) : exp(x); }

/* base^(x - max): nothing seen yet, or a logit of -inf, is 0 whatever the maximum. */
static double weight(const machine *m, double x, double max) { return x == -INFINITY ? 0 : power(m, x - max); }

/* A NaN among what is visible must reach the output: it wins. */
static double larger(double a, double b) { return isnan(a) || a > b ? a : b; }

static double *rows_of(machine *m, kvalue v) { return m->value[v].at; }

static void run_load_q(machine *m, const kop *o)
{
    const shape *s = &m->k->shape;
    double *to = rows_of(m, o->result[0]);
    for (size_t r = 0; r < m->n_rows; r++) {
        double factor = row_value(m, o, r, 1);
        const double *from = m->seq->q + (m->row[r].index * s->q_heads + m->row[r].head) * s->dim;
        for (int64_t d = 0; d < s->dim; d++) to[(int64_t)r * s->dim + d] = from[d] * factor;
    }
}

static void run_dot_qk(machine *m, const kop *o)
{
    const shape *s = &m->k->shape;
    const tile_value *q = &m->value[o->operand[0]], *k = &m->value[o->operand[1]], *to = &m->value[o->result[0]];
    for (size_t r = 0; r < m->n_rows; r++)
        for (int64_t j = 0; j < m->n_keys; j++) {
            const double *a = q->at + (int64_t)r * s->dim, *b = k->in + j * s->kv_heads * s->dim;
            double sum = 0;
            for (int64_t d = 0; d < s->dim; d++) sum += a[d] * b[d];
            to->at[(int64_t)r * m->n_keys + j] = sum;
            to->masked[(int64_t)r * m->n_keys + j] = false;
        }
}

static void run_elementwise(machine *m, const kop *o)
{
    const tile_value *from = &m->value[o->operand[0]], *to = &m->value[o->result[0]];
    size_t i = 0;
    for (size_t r = 0; r < m->n_rows; r++) {
        set_row(m, &m->row[r]);
        for (int64_t j = 0; j < m->n_keys; j++, i++) {
            to->at[i] = from->at[i];
            to->masked[i] = from->masked[i];
            if (from->masked[i]) continue;
            set_key(m, m->key + j);
            m->env.s = from->at[i];
            expr_value v = evaluate(m, o);
            if (o->code == OP_MASK)
                to->masked[i] = !v.i;
            else
                to->at[i] = v.f;
        }
    }
}

static void run_softmax(machine *m, const kop *o)
{
    const tile_value *s = &m->value[o->operand[0]], *p = &m->value[o->result[0]];
    double *lse = rows_of(m, o->result[1]);
    for (size_t r = 0; r < m->n_rows; r++) {
        size_t first = r * (size_t)m->n_keys, end = first + (size_t)m->n_keys;
        double sink = row_value(m, o, r, -INFINITY), max = sink;
        for (size_t i = first; i < end; i++)
            if (!s->masked[i]) max = larger(s->at[i], max);
        double sum = weight(m, sink, max);
        for (size_t i = first; i < end; i++) {
            p->masked[i] = s->masked[i];
            p->at[i] = s->masked[i] ? 0 : weight(m, s->at[i], max);
            sum += p->at[i];
        }
        for (size_t i = first; i < end && sum != 0; i++) p->at[i] /= sum;
        lse[r] = sum == 0 ? -INFINITY : max + log(sum);
    }
}

/* to += P V over what is not masked. */
static void add_weighted(machine *m, const tile_value *p, const tile_value *v, double *to)
{
    const shape *s = &m->k->shape;
    for (size_t r = 0; r < m->n_rows; r++)
        for (int64_t j = 0; j < m->n_keys; j++) {
            size_t i = r * (size_t)m->n_keys + (size_t)j;
            const double *from = v->in + j * s->kv_heads * value_size(m);
            if (p->masked[i]) continue;
            for (int64_t d = 0; d < s->dim_v; d++) to[(int64_t)r * s->dim_v + d] += p->at[i] * from[d];
        }
}

static void run_dot_pv(machine *m, const kop *o)
{
    double *to = rows_of(m, o->result[0]);
    memset(to, 0, m->n_rows * (size_t)m->k->shape.dim_v * sizeof *to);
    add_weighted(m, &m->value[o->operand[0]], &m->value[o->operand[1]], to);
}

static void run_accum_pv(machine *m, const kop *o)
{
    double *to = rows_of(m, o->result[0]);
    memcpy(to, rows_of(m, o->operand[2]), m->n_rows * (size_t)m->k->shape.dim_v * sizeof *to);
    add_weighted(m, &m->value[o->operand[0]], &m->value[o->operand[1]], to);
}

static void run_init(machine *m, const kop *o)
{
    double *max = rows_of(m, o->result[0]), *sum = rows_of(m, o->result[1]), *out = rows_of(m, o->result[2]);
    for (size_t r = 0; r < m->n_rows; r++) {
        max[r] = m->part == 0 ? row_value(m, o, r, -INFINITY) : -INFINITY;
        sum[r] = max[r] == -INFINITY ? 0 : 1;
    }
    memset(out, 0, m->n_rows * (size_t)m->k->shape.dim_v * sizeof *out);
}

static void run_rowmax(machine *m, const kop *o)
{
    const tile_value *s = &m->value[o->operand[0]];
    const double *old = rows_of(m, o->operand[1]);
    double *to = rows_of(m, o->result[0]);
    for (size_t r = 0, i = 0; r < m->n_rows; r++) {
        double max = old[r];
        for (int64_t j = 0; j < m->n_keys; j++, i++)
            if (!s->masked[i]) max = larger(s->at[i], max);
        to[r] = max;
    }
}

static void run_decay(machine *m, const kop *o)
{
    const double *old = rows_of(m, o->operand[0]), *max = rows_of(m, o->operand[1]);
    double *to = rows_of(m, o->result[0]);
    for (size_t r = 0; r < m->n_rows; r++) to[r] = weight(m, old[r], max[r]);
}

static void run_exp(machine *m, const kop *o)
{
    const tile_value *s = &m->value[o->operand[0]], *to = &m->value[o->result[0]];
    const double *max = rows_of(m, o->operand[1]);
    for (size_t r = 0, i = 0; r < m->n_rows; r++)
        for (int64_t j = 0; j < m->n_keys; j++, i++) {
            to->masked[i] = s->masked[i];
            to->at[i] = s->masked[i] ? 0 : weight(m, s->at[i], max[r]);
        }
}

static void run_rowsum(machine *m, const kop *o)
{
    const tile_value *p = &m->value[o->operand[0]];
    const double *old = rows_of(m, o->operand[1]), *decay = rows_of(m, o->operand[2]);
    double *to = rows_of(m, o->result[0]);
    for (size_t r = 0, i = 0; r < m->n_rows; r++) {
        double sum = old[r] * decay[r];
        for (int64_t j = 0; j < m->n_keys; j++, i++)
            if (!p->masked[i]) sum += p->at[i];
        to[r] = sum;
    }
}

static void run_rescale(machine *m, const kop *o)
{
    const double *from = rows_of(m, o->operand[0]), *by = rows_of(m, o->operand[1]);
    double *to = rows_of(m, o->result[0]);
    size_t dims = (size_t)m->k->shape.dim_v;
    for (size_t r = 0; r < m->n_rows; r++)
        for (size_t d = 0; d < dims; d++) to[r * dims + d] = from[r * dims + d] * by[r];
}

static void run_finish(machine *m, const kop *o)
{
    const double *max = rows_of(m, o->operand[0]), *sum = rows_of(m, o->operand[1]), *from = rows_of(m, o->operand[2]);
    double *to = rows_of(m, o->result[0]), *lse = rows_of(m, o->result[1]);
    size_t dims = (size_t)m->k->shape.dim_v;
    double unit = m->k->base2 ? log(2) : 1;
    for (size_t r = 0; r < m->n_rows; r++) {
        for (size_t d = 0; d < dims; d++) to[r * dims + d] = sum[r] == 0 ? 0 : from[r * dims + d] / sum[r];
        lse[r] = sum[r] == 0 ? -INFINITY : max[r] * unit + log(sum[r]);
    }
}

static void run_store(machine *m, const kop *o)
{
    const double *from = rows_of(m, o->operand[0]), *lse = rows_of(m, o->operand[1]);
    const shape *s = &m->k->shape;
    for (size_t r = 0; r < m->n_rows; r++) {
        int64_t at = m->row[r].index * s->q_heads + m->row[r].head;
        memcpy(m->seq->o + at * s->dim_v, from + (int64_t)r * s->dim_v, (size_t)s->dim_v * sizeof *from);
        if (m->seq->lse) m->seq->lse[at] = lse[r];
    }
}

/* ---- values and blocks ----------------------------------------------------------------------------------- */

static size_t row_width(const machine *m, char type)
{
    const shape *s = &m->k->shape;
    return type == 'q' ? (size_t)s->dim : type == 'o' ? (size_t)s->dim_v : type == 's' ? m->max_keys : 1;
}

static void copy_rows(machine *m, char type, double *to, const double *from)
{
    memcpy(to, from, m->n_rows * row_width(m, type) * sizeof *to);
}

static char type_of(const machine *m, kvalue v) { return (char)m->k->types.at[v]; }

static void run_store_part(machine *m, const kop *o)
{
    for (size_t i = 0; i < 3; i++)
        copy_rows(m, type_of(m, o->operand[i]), m->parts[m->part * 3 + i].at, rows_of(m, o->operand[i]));
}

static void add_part(machine *m, const tile_value *part, double *max, double *sum, double *out)
{
    size_t dims = (size_t)m->k->shape.dim_v;
    for (size_t r = 0; r < m->n_rows; r++) {
        double both = larger(part[0].at[r], max[r]);
        double old = weight(m, max[r], both), add = weight(m, part[0].at[r], both);
        sum[r] = sum[r] * old + part[1].at[r] * add;
        for (size_t d = 0; d < dims; d++) out[r * dims + d] = out[r * dims + d] * old + part[2].at[r * dims + d] * add;
        max[r] = both;
    }
}

static uint32_t part_count(const machine *m) { return m->k->split && m->options->parts ? m->options->parts : 1; }

static void run_load_parts(machine *m, const kop *o)
{
    for (size_t i = 0; i < 3; i++) copy_rows(m, type_of(m, o->result[i]), rows_of(m, o->result[i]), m->parts[i].at);
    for (uint32_t p = 1; p < part_count(m); p++)
        add_part(m, m->parts + p * 3, rows_of(m, o->result[0]), rows_of(m, o->result[1]), rows_of(m, o->result[2]));
}

static void run_load_keys(machine *m, const kop *o)
{
    const shape *s = &m->k->shape;
    int64_t dim = o->code == OP_LOAD_K ? s->dim : value_size(m);
    const double *from = o->code == OP_LOAD_K || is_k_v(m) ? m->keys : m->values;
    m->value[o->result[0]].in = m->n_keys ? from + (m->key * s->kv_heads + m->kv_head) * dim : NULL;
}

/* Through the stage: a body may yield its own arguments in another order. */
static void assign(machine *m, const kvalue *to, const kvalue *from)
{
    for (size_t i = 0; i < 3; i++) copy_rows(m, type_of(m, from[i]), m->stage[i].at, rows_of(m, from[i]));
    for (size_t i = 0; i < 3; i++) copy_rows(m, type_of(m, to[i]), rows_of(m, to[i]), m->stage[i].at);
}

static void run_block(machine *m, const kblock *b);

/* The next run of keys of this class at or behind `from`, at most one tile long; false at the end. */
static bool next_tile(machine *m, keys_range range, int64_t from)
{
    int64_t most = (int64_t)m->max_keys;
    while (range != KEYS_ALL && from < m->part_end && m->key_class[from] != range) from++;
    m->key = from;
    for (m->n_keys = 0; m->n_keys < most && from < m->part_end; m->n_keys++, from++)
        if (range != KEYS_ALL && m->key_class[from] != range) break;
    return m->n_keys > 0;
}

static void run_keys(machine *m, const kop *o)
{
    assign(m, o->body->arg, o->operand);
    for (int64_t from = m->part_begin; next_tile(m, o->range, from); from = m->key + m->n_keys) {
        int64_t key = m->key;
        run_block(m, o->body);
        ATTNC_CHECK(m->key == key);
        assign(m, o->body->arg, o->body->ops.at[o->body->ops.n - 1]->operand);
    }
    assign(m, o->result, o->body->arg);
    m->key = 0;
    m->n_keys = m->seq->n_keys;
}

static void run_op(machine *m, const kop *o)
{
    switch (o->code) {
    case OP_ROWS:
        run_block(m, o->body);
        return;
    case OP_MERGE:
        run_block(m, o->body);
        return;
    case OP_LOAD_Q:
        run_load_q(m, o);
        return;
    case OP_LOAD_K:
        run_load_keys(m, o);
        return;
    case OP_LOAD_V:
        run_load_keys(m, o);
        return;
    case OP_DOT_QK:
        run_dot_qk(m, o);
        return;
    case OP_MAP:
        run_elementwise(m, o);
        return;
    case OP_MASK:
        run_elementwise(m, o);
        return;
    case OP_SOFTMAX:
        run_softmax(m, o);
        return;
    case OP_DOT_PV:
        run_dot_pv(m, o);
        return;
    case OP_INIT:
        run_init(m, o);
        return;
    case OP_KEYS:
        run_keys(m, o);
        return;
    case OP_ROWMAX:
        run_rowmax(m, o);
        return;
    case OP_DECAY:
        run_decay(m, o);
        return;
    case OP_EXP:
        run_exp(m, o);
        return;
    case OP_ROWSUM:
        run_rowsum(m, o);
        return;
    case OP_RESCALE:
        run_rescale(m, o);
        return;
    case OP_ACCUM_PV:
        run_accum_pv(m, o);
        return;
    case OP_YIELD:
        return; /* run_keys takes its operands */
    case OP_FINISH:
        run_finish(m, o);
        return;
    case OP_STORE:
        run_store(m, o);
        return;
    case OP_STORE_PART:
        run_store_part(m, o);
        return;
    case OP_LOAD_PARTS:
        run_load_parts(m, o);
        return;
    case OP_COUNT:
        break;
    }
    ATTNC_UNREACHABLE();
}

static void run_block(machine *m, const kblock *b)
{
    for (size_t i = 0; i < b->ops.n; i++) run_op(m, b->ops.at[i]);
}

/* ---- key classes of a tile of rows ----------------------------------------------------------------------- */

static void mark_keys(machine *m, ranges_list which, uint8_t bit)
{
    key_interval at[RANGES_MAX_INTERVALS];
    uint32_t n = ranges_evaluate(m->k->module->pool, m->k->ranges, which, &m->env, m->seq->n_keys, at);
    for (uint32_t i = 0; i < n; i++)
        for (int64_t k = at[i].lo; k <= at[i].hi; k += at[i].step) m->key_class[k] |= bit;
}

/* Full: in the must of every head of the tile. Partial: in the may of some, or in the must of some only. */
static void classify_keys(machine *m)
{
    enum { MAY = 1, MUST = 2, LACKS = 4, SEEN = 8 };
    int64_t q0 = INT64_MAX, q1 = INT64_MIN;
    for (size_t r = 0; r < m->n_rows; r++) {
        int64_t q = m->seq->pos + m->row[r].index;
        q0 = q < q0 ? q : q0;
        q1 = q > q1 ? q : q1;
    }
    memset(m->key_class, 0, (size_t)m->seq->n_keys);
    for (size_t r = 0; r < m->n_rows; r++) {
        bool seen = false;
        for (size_t before = 0; before < r; before++) seen |= m->row[before].head == m->row[r].head;
        if (seen) continue;
        set_row(m, &m->row[r]);
        m->env.var[VAR_Q0] = q0, m->env.var[VAR_Q1] = q1;
        mark_keys(m, RANGES_MAY, MAY);
        mark_keys(m, RANGES_MUST, MUST);
        for (int64_t k = 0; k < m->seq->n_keys; k++) {
            uint8_t c = m->key_class[k];
            m->key_class[k] = (uint8_t)((c & (LACKS | SEEN)) | (c & MUST ? SEEN : LACKS) | (c & MAY ? SEEN : 0));
        }
    }
    for (int64_t k = 0; k < m->seq->n_keys; k++) {
        uint8_t c = m->key_class[k];
        m->key_class[k] = !(c & SEEN) ? KEYS_ALL : c & LACKS ? KEYS_PARTIAL : KEYS_FULL;
    }
}

/* ---- tiles of rows --------------------------------------------------------------------------------------- */

static void run_tile(machine *m)
{
    int64_t n = m->seq->n_keys, parts = part_count(m);
    if (m->k->ranges) classify_keys(m);
    for (m->part = 0; m->part < parts; m->part++) {
        m->part_begin = n * m->part / parts;
        m->part_end = n * (m->part + 1) / parts;
        m->key = 0;
        m->n_keys = n;
        run_op(m, m->k->body->ops.at[0]);
    }
    m->part = 0;
    if (m->k->split) run_op(m, m->k->body->ops.at[1]);
}

/* Rows of one query head, or the pairs (query row, head of the KV head's group), heads fastest. */
static void run_rows(machine *m, int64_t first_head, int64_t heads)
{
    int64_t n = m->seq->n_q * heads;
    for (int64_t at = 0; at < n; at += (int64_t)m->max_rows) {
        m->n_rows = 0;
        for (int64_t i = at; i < n && m->n_rows < m->max_rows; i++)
            m->row[m->n_rows++] = (query_row){i / heads, first_head + i % heads};
        run_tile(m);
    }
}

/* What a cache rounds is rounded before anybody reads it. */
static const double *stored(machine *m, const double *rows, int64_t dim)
{
    const shape *s = &m->k->shape;
    const int64_t n = m->seq->n_keys * s->kv_heads;
    if (s->kv == KV_AS_GIVEN || !rows) return rows;
    double *to = ARENA_ARRAY(m->scratch, double, (size_t)(n * dim) + 1);
    interp_store_rows(s, rows, n, dim, to);
    return to;
}

static void run_sequence(machine *m, const interp_sequence *seq)
{
    const shape *s = &m->k->shape;
    int64_t group = s->q_heads / s->kv_heads;
    m->seq = seq;
    m->keys = stored(m, seq->k, s->dim);
    m->values = is_k_v(m) ? NULL : stored(m, seq->v, s->dim_v);
    for (int64_t h = 0; h < s->q_heads; h += m->k->grouped ? group : 1) {
        m->kv_head = h / group;
        run_rows(m, h, m->k->grouped ? group : 1);
    }
}

/* ---- set-up ---------------------------------------------------------------------------------------------- */

static tile_value make_value(machine *m, char type)
{
    tile_value v = {0};
    if (!type || type == 'k' || type == 'v') return v;
    size_t n = m->max_rows * row_width(m, type);
    v.at = ARENA_ARRAY(m->scratch, double, n ? n : 1);
    if (type == 's') v.masked = ARENA_ARRAY(m->scratch, bool, n ? n : 1);
    return v;
}

static bool has_loop(const kernel *k)
{
    const kblock *rows = k->body->ops.at[0]->body;
    for (size_t i = 0; i < rows->ops.n; i++)
        if (rows->ops.at[i]->code == OP_INIT) return true;
    return false;
}

static void size_tiles(machine *m, const interp_sequence *seqs, size_t n)
{
    const interp_options *o = m->options;
    size_t longest = 0;
    for (size_t i = 0; i < n; i++) longest = (size_t)seqs[i].n_keys > longest ? (size_t)seqs[i].n_keys : longest;
    m->max_rows = m->k->schedule.lanes ? m->k->schedule.lanes : o->row_tile ? o->row_tile : 1;
    m->max_keys = has_loop(m->k) && o->key_tile && o->key_tile < longest ? o->key_tile : longest;
    m->key_class = ARENA_ARRAY(m->scratch, uint8_t, longest + 1);
}

static void make_machine(machine *m, const interp_sequence *seqs, size_t n)
{
    const kernel *k = m->k;
    const symbols *s = &k->module->symbols;
    size_tiles(m, seqs, n);
    m->row = ARENA_ARRAY(m->scratch, query_row, m->max_rows);
    m->value = ARENA_ARRAY(m->scratch, tile_value, k->types.n);
    for (size_t v = 1; v < k->types.n; v++) m->value[v] = make_value(m, type_of(m, (kvalue)v));
    m->parts = ARENA_ARRAY(m->scratch, tile_value, (size_t)part_count(m) * 3);
    for (size_t i = 0; i < (size_t)part_count(m) * 3; i++) m->parts[i] = make_value(m, "rro"[i % 3]);
    for (size_t i = 0; i < 3; i++) m->stage[i] = make_value(m, "rro"[i]);
    m->attr = arena_array(m->scratch, s->attrs.n + 1, sizeof *m->attr);
    size_t atoms = k->ranges ? k->ranges->n_data : 0;
    m->data = arena_array(m->scratch, atoms + 1, sizeof *m->data);
    for (size_t i = 0; i < atoms; i++) m->data[i][0] = true; /* nothing is known of data: may, not must */
    const double **tables = ARENA_ARRAY(m->scratch, const double *, s->tables.n + 1);
    for (size_t i = 0; i < s->tables.n && m->options->tables; i++) tables[i] = m->options->tables[i];
    m->env.attr = (const int64_t(*)[ATTR_SIDE_COUNT])m->attr;
    m->env.data = (const bool(*)[2])m->data;
    m->env.tables = tables;
    m->env.var[VAR_LAYER] = m->options->layer;
    compile_block(m, k->body);
}

/* ---- what the caller must bring -------------------------------------------------------------------------- */

typedef struct needs {
    const expr_pool *pool;
    bool *part; /* per expression: the kernel contains it */
} needs;

static void need_block(needs *u, const kblock *b)
{
    for (size_t i = 0; i < b->ops.n; i++) {
        u->part[b->ops.at[i]->e] = true;
        if (b->ops.at[i]->body) need_block(u, b->ops.at[i]->body);
    }
}

static void need_intervals(needs *u, const interval *at, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) u->part[at[i].lo] = u->part[at[i].hi] = u->part[at[i].step] = true;
}

static const char *missing_leaf(const machine *m, const expr_node *n, const interp_sequence *seqs, size_t n_seqs)
{
    const symbols *s = &m->k->module->symbols;
    arena *a = m->k->module->arena;
    if (n->op == EXPR_ELEM && !s->tables.at[n->index].value && (!m->options->tables || !m->options->tables[n->index]))
        return arena_printf(a, "input %s has no values", s->tables.at[n->index].name);
    for (size_t i = 0; n->op == EXPR_ATTR && i < n_seqs; i++) {
        const int32_t *const *at = n->side == ATTR_Q ? seqs[i].q_attr : seqs[i].k_attr;
        bool empty = (n->side == ATTR_Q ? seqs[i].n_q : seqs[i].n_keys) == 0;
        if (!empty && (!at || !at[n->index]))
            return arena_printf(a, "attribute %s has no values", s->attrs.at[n->index]);
    }
    return NULL;
}

static const char *find_missing(machine *m, const interp_sequence *seqs, size_t n)
{
    const kernel *k = m->k;
    size_t count = expr_count(k->module->pool);
    needs u = {k->module->pool, ARENA_ARRAY(m->scratch, bool, count + 1)};
    const char *error = NULL;
    need_block(&u, k->body);
    if (k->ranges)
        need_intervals(&u, k->ranges->may, k->ranges->n_may), need_intervals(&u, k->ranges->must, k->ranges->n_must);
    for (size_t e = count - 1; e && !error; e--) {
        if (!u.part[e]) continue;
        const expr_node *node = expr_get(u.pool, (expr)e);
        for (uint32_t i = 0; i < node->nargs; i++) u.part[node->arg[i]] = true;
        error = missing_leaf(m, node, seqs, n);
    }
    return error;
}

static const char *check_call(const kernel *k, const interp_sequence *seqs, size_t n, const interp_options *o)
{
    if (o->layer < 0 || (k->module->layers && o->layer >= k->module->layers))
        return arena_printf(k->module->arena, "layer %lld does not exist: the model has %u", (long long)o->layer,
                            (unsigned)k->module->layers);
    for (size_t i = 0; i < n; i++)
        if (seqs[i].n_q < 0 || seqs[i].n_keys < 0 || seqs[i].pos < 0 || seqs[i].pos > EXPR_MAX_POSITION ||
            seqs[i].n_q > EXPR_MAX_POSITION || seqs[i].n_keys > EXPR_MAX_POSITION)
            return arena_printf(k->module->arena, "sequence %zu has lengths or a position out of range", i);
    return NULL;
}

const char *interp_run(const kernel *k, interp_sequence *seqs, size_t n, const interp_options *options)
{
    static const interp_options defaults = {0};
    machine m = {.k = k, .options = options ? options : &defaults};
    const char *error = kernel_verify(k);
    if (!error) error = check_call(k, seqs, n, m.options);
    if (error) return error;
    m.scratch = arena_create(0, NULL, NULL);
    error = find_missing(&m, seqs, n);
    if (!error) make_machine(&m, seqs, n);
    for (size_t i = 0; i < n && !error; i++) run_sequence(&m, &seqs[i]);
    arena_destroy(m.scratch);
    return error;
}
