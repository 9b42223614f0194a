/* print.c - kernels and modules as text (.air), docs/kernel-ir.md.
 *
 * Values are numbered by the order in which they are printed, so that the text does not depend on how a kernel was made
 * and reading it back prints the same. */
#include "ir/kernel/kernel.h"

#include <string.h>

typedef struct printer {
    const kernel *k;
    text *to;
    uint32_t *number; /* per value; 0: not printed yet */
    uint32_t next;
} printer;

static void indent(text *to, int depth) { text_printf(to, "%*s", depth * 2, ""); }

static void print_value(printer *p, kvalue v)
{
    if (!p->number[v]) p->number[v] = ++p->next;
    text_printf(p->to, "%%%u", (unsigned)p->number[v]);
}

static void print_values(printer *p, const kvalue *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (i) text_add(p->to, ", ");
        print_value(p, v[i]);
    }
}

static void print_braced(const kernel *k, expr e, text *to)
{
    text_add(to, "{ ");
    expr_print(k->module->pool, e, to);
    text_add(to, " }");
}

static const char *const range_name[] = {[KEYS_ALL] = "all", [KEYS_FULL] = "full", [KEYS_PARTIAL] = "partial"};

static void print_block(printer *p, const kblock *b, int depth);

static void print_head(printer *p, const kop *o, const kop_info *info)
{
    size_t results = strlen(info->results), operands = strlen(info->operands);
    if (results) {
        print_values(p, o->result, results);
        text_add(p->to, " = ");
    }
    text_add(p->to, info->name);
    bool loop = info->region == REGION_LOOP;
    if (loop)
        text_printf(p->to, " %s (", range_name[o->range]);
    else if (operands)
        text_add(p->to, " ");
    print_values(p, o->operand, operands);
    if (loop) text_add(p->to, ")");
}

static void print_op(printer *p, const kop *o, int depth)
{
    const kop_info *info = kop_get_info(o->code);
    indent(p->to, depth);
    print_head(p, o, info);
    if (o->e) {
        text_add(p->to, " ");
        print_braced(p->k, o->e, p->to);
    }
    if (o->body) {
        text_add(p->to, " {\n");
        print_block(p, o->body, depth + 1);
        indent(p->to, depth);
        text_add(p->to, "}");
    }
    text_add(p->to, "\n");
}

static void print_block(printer *p, const kblock *b, int depth)
{
    if (b->n_args) {
        indent(p->to, depth);
        text_add(p->to, "(");
        print_values(p, b->arg, b->n_args);
        text_add(p->to, "):\n");
    }
    for (size_t i = 0; i < b->ops.n; i++) print_op(p, b->ops.at[i], depth);
}

/* ---- ranges and schedule --------------------------------------------------------------------------------- */

static void print_intervals(const kernel *k, const char *what, const interval *at, uint32_t n, text *to)
{
    indent(to, 3);
    text_add(to, what);
    for (uint32_t i = 0; i < n; i++) {
        text_add(to, i ? ", [" : " [");
        expr_print(k->module->pool, at[i].lo, to);
        text_add(to, ", ");
        expr_print(k->module->pool, at[i].hi, to);
        if (at[i].step) text_add(to, ", "), expr_print(k->module->pool, at[i].step, to);
        text_add(to, "]");
    }
    text_add(to, ";\n");
}

static void print_ranges(const kernel *k, text *to)
{
    const ranges *r = k->ranges;
    text_add(to, "    ranges {\n");
    print_intervals(k, "may", r->may, r->n_may, to);
    print_intervals(k, "must", r->must, r->n_must, to);
    print_intervals(k, "live", r->live, r->n_live, to);
    for (uint32_t i = 0; i < r->n_data; i++) {
        text_add(to, "      data ");
        print_braced(k, r->data[i].atom, to);
        text_add(to, " may ");
        print_braced(k, r->data[i].may, to);
        text_add(to, " must ");
        print_braced(k, r->data[i].must, to);
        text_add(to, ";\n");
    }
    for (uint32_t i = 0; i < r->n_undecided; i++) {
        text_add(to, "      undecided ");
        print_braced(k, r->undecided[i], to);
        text_add(to, ";\n");
    }
    if (r->row_step) text_printf(to, "      row_step %u;\n", (unsigned)r->row_step);
    if (r->sweeps) text_add(to, "      sweeps;\n");
    if (r->exact_rows) text_add(to, "      exact;\n");
    text_add(to, "    }\n");
}

static void print_schedule(const schedule *s, text *to)
{
    text_printf(to,
                "    schedule %s { lanes %u; vector %u; key_block %u; qk %u x %u; pv %u x %u; narrow %u x %u; "
                "few %u, %u x %u; fetch %u;%s }\n",
                target_get(s->target)->name, (unsigned)s->lanes, (unsigned)s->vector, (unsigned)s->key_block,
                (unsigned)s->qk_keys, (unsigned)s->qk_vectors, (unsigned)s->pv_dims, (unsigned)s->pv_vectors,
                (unsigned)s->narrow_keys, (unsigned)s->narrow_dims, (unsigned)s->few_lanes,
                (unsigned)s->few_rows, (unsigned)s->few_keys, (unsigned)s->fetch, s->dot_bf16 ? " dot_bf16;" : "");
}

void kernel_print(const kernel *k, text *to)
{
    text_printf(to, "  kernel %s : %s%s%s%s {\n", k->name, k->module->patterns.at[k->pattern]->name,
                k->base2 ? " base2" : "", k->grouped ? " grouped" : "", k->split ? " split" : "");
    if (k->ranges) print_ranges(k, to);
    if (k->schedule.lanes) print_schedule(&k->schedule, to);
    printer p = {.k = k, .to = to, .number = ARENA_ARRAY(to->arena, uint32_t, k->types.n)};
    print_block(&p, k->body, 2);
    text_add(to, "  }\n");
}

/* ---- module ---------------------------------------------------------------------------------------------- */

static void print_quoted(const char *s, text *to)
{
    text_add(to, "\"");
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            text_printf(to, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            text_printf(to, "\\x%02x", c);
        else
            text_addn(to, s, 1);
    }
    text_add(to, "\"");
}

static void print_layers(const ir_module *m, text *to)
{
    text_printf(to, "  layers %u;\n", (unsigned)m->layers);
    if (!m->layers) return;
    text_add(to, "  schedule");
    for (uint32_t i = 0, run; i < m->layers; i += run) {
        for (run = 1; i + run < m->layers && m->schedule[i + run] == m->schedule[i];) run++;
        text_printf(to, "%s %s", i ? "," : "", m->patterns.at[m->schedule[i]]->name);
        if (run > 1) text_printf(to, " * %u", (unsigned)run);
    }
    text_add(to, ";\n");
}

static void print_table_values(const table *t, text *to)
{
    int64_t n = 1;
    for (uint32_t d = 0; d < t->rank; d++) n *= t->extent[d];
    text_add(to, " = [");
    for (int64_t i = 0; i < n; i++) {
        if (i) text_add(to, ", ");
        if (t->type == TYPE_INT)
            text_printf(to, "%lld", (long long)t->value[i]);
        else
            text_double(to, t->value[i]);
    }
    text_add(to, "]");
}

static void print_symbols(const symbols *s, text *to)
{
    for (size_t i = 0; i < s->tables.n; i++) {
        const table *t = &s->tables.at[i];
        text_printf(to, "  %s %s : %s", t->value ? "table" : "input", t->name, t->type == TYPE_INT ? "int" : "f32");
        for (uint32_t d = 0; d < t->rank; d++) text_printf(to, "%s%lld", d ? ", " : "[", (long long)t->extent[d]);
        if (t->rank) text_add(to, "]");
        if (t->value) print_table_values(t, to);
        text_add(to, ";\n");
    }
    for (size_t i = 0; i < s->attrs.n; i++) text_printf(to, "  attr %s;\n", s->attrs.at[i]);
}

static void print_clause(const ir_module *m, const char *what, expr e, text *to)
{
    if (!e) return;
    text_printf(to, "    %s ", what);
    expr_print(m->pool, e, to);
    text_add(to, ";\n");
}

static void print_policies(const pattern *p, text *to)
{
    const char *before = "    kv ";
    if (p->kv_shared) text_printf(to, "%sshared(%u)", before, (unsigned)p->kv_layer), before = ", ";
    if (p->k_is_v) text_printf(to, "%sk_is_v", before), before = ", ";
    if (p->shape.kv == KV_INT8) {
        text_printf(to, "%squant(int8", before), before = ", ";
        if (p->shape.kv_group) text_printf(to, ", %lld", (long long)p->shape.kv_group);
        text_add(to, ")");
    }
    if (*before == ',') text_add(to, ";\n");
}

static void print_pattern(const ir_module *m, const pattern *p, text *to)
{
    text_printf(to, "  pattern %s {\n    heads %lld / %lld; dim %lld; dim_v %lld; dtype %s;\n", p->name,
                (long long)p->shape.q_heads, (long long)p->shape.kv_heads, (long long)p->shape.dim,
                (long long)p->shape.dim_v, dtype_name(p->shape.type));
    print_clause(m, "mask", p->mask, to);
    print_clause(m, "scale", p->scale, to);
    for (uint32_t i = 0; i < p->n_scores; i++) print_clause(m, "score", p->scores[i], to);
    print_clause(m, "sink", p->sink, to);
    print_policies(p, to);
    if (p->max_len) text_printf(to, "    max_len %lld;\n", (long long)p->max_len);
    text_add(to, "  }\n");
}

void ir_module_print(const ir_module *m, text *to)
{
    text_add(to, "module ");
    print_quoted(m->name ? m->name : "", to);
    text_add(to, " {\n");
    print_layers(m, to);
    print_symbols(&m->symbols, to);
    for (size_t i = 0; i < m->patterns.n; i++) print_pattern(m, m->patterns.at[i], to);
    for (size_t i = 0; i < m->kernels.n; i++) kernel_print(m->kernels.at[i], to);
    text_add(to, "}\n");
}
