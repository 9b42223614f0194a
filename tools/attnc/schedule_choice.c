/* schedule_choice.c - which schedule each kind gets for each target: the tuning database's, else the table's. */
#include "tools/attnc/schedule_choice.h"
#include "tools/attnc/processor.h"
#include <inttypes.h>
#include <string.h>

const char *schedule_target_name(arena *a, target_id t, bool native)
{
    return arena_printf(a, "%s%s", target_get(t)->name, native ? " (native)" : "");
}

static void add_expression(text *to, const ir_module *m, const char *word, expr e)
{
    if (!e) return;
    text_printf(to, "; %s ", word);
    expr_print(m->pool, e, to);
}

const char *schedule_shape_text(arena *a, const ir_module *m, const pattern *p)
{
    const shape *s = &p->shape;
    text t = {.arena = a};
    const char *kv = s->kv == KV_INT8 ? arena_printf(a, "; int8 %" PRId64, s->kv_group) : "";
    text_printf(&t, "heads %" PRId64 " / %" PRId64 "; dim %" PRId64 " / %" PRId64 "; %s%s%s", s->q_heads, s->kv_heads, s->dim, s->dim_v,
                dtype_name(s->type), kv, p->k_is_v ? "; k_is_v" : "");
    add_expression(&t, m, "mask", p->mask);
    add_expression(&t, m, "scale", p->scale);
    for (uint32_t i = 0; i < p->n_scores; i++)
        add_expression(&t, m, "score", p->scores[i]);
    add_expression(&t, m, "sink", p->sink);
    return text_get(&t);
}

/* NULL, or why an entry that was found is not taken. Its sizes become whole. */
static const char *unusable(arena *a, tuning_entry *e, target_id t, const shape *of)
{
    schedule_fill_facts(&e->sizes, t, of);
    if (strcmp(e->version, ATTNC_VERSION)) return arena_printf(a, "attnc %s measured it, this is %s", e->version, ATTNC_VERSION);
    return schedule_verify(&e->sizes, of);
}

static const tuning_entry *find_entry(arena *a, tuning_db *db, const ir_module *m, const pattern *p, const char *target, target_id t, diags *d)
{
    tuning_entry *e = ARENA_NEW(a, tuning_entry);
    const tuning_key key = {processor_name(a), target, schedule_shape_text(a, m, p)};
    bool found;
    tool_error err;
    if (!tuning_db_find(db, a, &key, &found, e, &err)) {
        diag_report(d, DIAG_ID_TUNING, SPAN_NONE, "%s", err.text);
        return NULL;
    }
    const char *wrong = found ? unusable(a, e, t, &p->shape) : NULL;
    if (wrong) {
        diag_report(d, DIAG_ID_TUNING, p->where, "the tuning database's entry of pattern %s for %s is not used: %s", p->name, target, wrong);
        diag_add_hint(d, "attnc --tune measures again");
    }
    return found && !wrong ? e : NULL;
}

schedule_choice schedule_choose(arena *a, tuning_db *db, const ir_module *m, uint32_t kind, target_id t, bool native, diags *d)
{
    const pattern *p = m->patterns.at[kind];
    schedule_choice c = {.row = schedule_row_find(t, &p->shape)};
    if (db) c.entry = find_entry(a, db, m, p, schedule_target_name(a, t, native), t, d);
    c.sizes = c.entry ? c.entry->sizes : c.row.sizes;
    return c;
}
