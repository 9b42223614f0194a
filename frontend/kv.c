/* kv.c - the clause `kv`: whose keys and values a layer reads, whether its keys are its values too, and how they are
 * stored. */
#include "frontend/internal.h"
#include "ir/pattern/live_groups.h"

#include <string.h>

static bool mistake(frontend *f, const option *o, const char *what)
{
    diag_report(f->diags, DIAG_ID_CLAUSE, o->where, "'%.64s' %s", o->name, what);
    return false;
}

static bool read_shared(frontend *f, source_pattern *p, const option *o)
{
    int64_t layer;
    if (!o->value || o->value->next) {
        mistake(f, o, "needs the layer whose keys and values are read");
        diag_add_hint(f->diags, "kv shared(L); with L counted from 0");
        return false;
    }
    const bool good =
        constant_integer(f, o->value, clause_names(f, p, CLAUSE_KV), 0, MODULE_MAX_LAYERS - 1, "the layer", &layer);
    if (good) p->shared = o, p->kv_layer = (uint32_t)layer;
    return good;
}

static void hint_formats(frontend *f)
{
    diag_add_hint(f->diags, "kv quant(int8); with a scale for each row, or kv quant(int8, G); with one for each G elements");
}

/* Its name, then how many elements share a scale. */
static bool read_quant(frontend *f, source_pattern *p, const option *o)
{
    const node *format = o->value, *group = format ? format->next : NULL;
    if (!format || format->kind != NODE_NAME || (group && group->next)) {
        mistake(f, o, "needs the format in which keys and values are stored");
        hint_formats(f);
        return false;
    }
    if (strcmp(format->name, "int8") != 0) {
        diag_report(f->diags, DIAG_ID_UNSUPPORTED, format->where, "the cache format '%.64s' is unsupported in this version",
                    format->name);
        hint_formats(f);
        return false;
    }
    p->quant = o;
    return !group || constant_integer(f, group, clause_names(f, p, CLAUSE_KV), 1, MODULE_MAX_DIM,
                                      "the number of elements that share a scale", &p->kv_group);
}

static bool unknown_policy(frontend *f, const option *o)
{
    diag_report(f->diags, DIAG_ID_UNSUPPORTED, o->where, "the cache policy '%.64s' is unsupported in this version", o->name);
    diag_add_hint(f->diags, "there are derived (the default: exactly what the mask can still see), shared(LAYER) and k_is_v, "
                            "quant(int8)");
    return false;
}

static bool read_policy(frontend *f, source_pattern *p, const option *o)
{
    const bool shared = !strcmp(o->name, "shared"), k_is_v = !strcmp(o->name, "k_is_v"), quant = !strcmp(o->name, "quant");
    if (!shared && !k_is_v && !quant && strcmp(o->name, "derived") != 0) return unknown_policy(f, o);
    if ((shared && p->shared) || (k_is_v && p->k_is_v) || (quant && p->quant)) return mistake(f, o, "is said twice");
    if (quant) return read_quant(f, p, o);
    if (!shared && o->value) return mistake(f, o, "takes no arguments");
    if (k_is_v) p->k_is_v = o;
    return !shared || read_shared(f, p, o);
}

static bool check_values(frontend *f, const source_pattern *p)
{
    const int64_t dim = p->sizes.value[CONSTANT_DIM], dim_v = p->sizes.value[CONSTANT_DIM_V];
    if (!p->k_is_v || dim_v <= dim) return true;
    diag_report(f->diags, DIAG_ID_RANGE, p->k_is_v->where,
                "a value is the first dim_v elements of its key: dim_v is %lld, dim only %lld", (long long)dim_v,
                (long long)dim);
    diag_add_hint(f->diags, "dim_v %lld; or less, or values of their own, without k_is_v", (long long)dim);
    return false;
}

static int64_t common_divisor(int64_t a, int64_t b)
{
    while (b) {
        const int64_t rest = a % b;
        a = b, b = rest;
    }
    return a;
}

/* A group that is the whole row is none. */
static bool check_group(frontend *f, source_pattern *p)
{
    const int64_t dim = p->sizes.value[CONSTANT_DIM], dim_v = p->sizes.value[CONSTANT_DIM_V], group = p->kv_group;
    if (group && group == dim && group == dim_v) p->kv_group = 0;
    if (!p->kv_group || (group % KV_GROUP_STEP == 0 && dim % group == 0 && dim_v % group == 0)) return true;
    diag_report(f->diags, DIAG_ID_RANGE, p->quant->where,
                "groups of %lld elements: they must be multiples of %d that divide dim (%lld) and dim_v (%lld)",
                (long long)group, KV_GROUP_STEP, (long long)dim, (long long)dim_v);
    int64_t best = 0;
    for (int64_t g = KV_GROUP_STEP, all = common_divisor(dim, dim_v); g <= all; g += KV_GROUP_STEP)
        if (all % g == 0 && (!best || g <= group)) best = g;
    if (best)
        diag_add_hint(f->diags, "kv quant(int8, %lld); or without groups: kv quant(int8);", (long long)best);
    else
        diag_add_hint(f->diags, "kv quant(int8); has a scale for each row");
    return false;
}

bool read_policies(frontend *f, source_pattern *p)
{
    const decl *d = p->clause[CLAUSE_KV];
    bool good = true;
    for (const option *o = d ? d->options : NULL; o; o = o->next) {
        const bool alone = o == d->options && !o->next;
        if (!strcmp(o->name, "derived") && !alone)
            good = mistake(f, o, "is the default: it stands alone");
        else
            good &= read_policy(f, p, o);
    }
    return good && check_values(f, p) && check_group(f, p);
}

/* ---- whose keys they are ---------------------------------------------------------------------------------------- */

static const source_pattern *pattern_of(const frontend *f, uint32_t layer)
{
    size_t i = 0;
    while (f->patterns.at[i]->index != f->module->schedule[layer]) i++;
    return f->patterns.at[i];
}

static bool check_place(frontend *f, const source_pattern *p)
{
    const uint32_t first = p->layers.at[0];
    if (p->kv_layer >= f->module->layers) {
        diag_report(f->diags, DIAG_ID_RANGE, p->shared->where, "there is no layer %u: the model has %u, counted from 0",
                    p->kv_layer, f->module->layers);
        return false;
    }
    if (p->kv_layer < first) return true;
    diag_report(f->diags, DIAG_ID_SCHEDULE, p->shared->where,
                "layer %u has this pattern, and layer %u is not before it", first, p->kv_layer);
    if (first)
        diag_add_hint(f->diags, "the keys are those of an earlier layer: 0 to %u", first - 1);
    else
        diag_add_hint(f->diags, "the first layer has keys of its own: it needs a pattern without 'shared'");
    return false;
}

static bool check_owner(frontend *f, const source_pattern *p, const source_pattern *owner)
{
    if (!owner->shared) return true;
    diag_report(f->diags, DIAG_ID_SCHEDULE, p->shared->where,
                "layer %u has no keys of its own: it reads those of layer %u", p->kv_layer, owner->kv_layer);
    if (owner != p) diag_add_hint(f->diags, "kv shared(%u);", owner->kv_layer);
    return false;
}

static const char *format_text(const frontend *f, const source_pattern *p)
{
    if (!p->quant) return "as they are given";
    return p->kv_group ? arena_printf(f->arena, "as quant(int8, %lld)", (long long)p->kv_group) : "as quant(int8)";
}

static const char *difference(frontend *f, const source_pattern *p, const source_pattern *owner)
{
    static const struct {
        constant which;
        const char *name;
    } compared[] = {{CONSTANT_KV_HEADS, "KV heads"}, {CONSTANT_DIM, "dim"}, {CONSTANT_DIM_V, "dim_v"}};
    for (size_t i = 0; i < ATTNC_COUNT(compared); i++) {
        const int64_t own = p->sizes.value[compared[i].which], other = owner->sizes.value[compared[i].which];
        if (own != other)
            return arena_printf(f->arena, "%s %lld, not %lld", compared[i].name, (long long)other, (long long)own);
    }
    if (p->type != owner->type)
        return arena_printf(f->arena, "dtype %s, not %s", dtype_name(owner->type), dtype_name(p->type));
    if (!p->k_is_v != !owner->k_is_v) return owner->k_is_v ? "no values beside its keys (k_is_v)" : "values of its own";
    if (!p->quant != !owner->quant || p->kv_group != owner->kv_group)
        return arena_printf(f->arena, "keys that are stored %s, not %s", format_text(f, owner), format_text(f, p));
    return NULL;
}

static bool check_likeness(frontend *f, const source_pattern *p, const source_pattern *owner)
{
    const char *differs = difference(f, p, owner);
    if (!differs) return true;
    diag_report(f->diags, DIAG_ID_SCHEDULE, p->shared->where, "layer %u has %s", p->kv_layer, differs);
    diag_add_note(f->diags, owner->decl->name_where, "its pattern is '%s'", owner->decl->name);
    diag_add_hint(f->diags, "who reads another layer's keys has its KV heads, dim, dim_v, dtype, k_is_v and quant; query "
                            "heads and mask may differ");
    return false;
}

bool check_shared(frontend *f)
{
    bool good = true;
    for (size_t i = 0; i < f->patterns.n; i++) {
        const source_pattern *p = f->patterns.at[i];
        if (p->index == UINT32_MAX || !p->shared) continue;
        const source_pattern *owner = p->kv_layer < f->module->layers ? pattern_of(f, p->kv_layer) : NULL;
        good &= check_place(f, p) && check_owner(f, p, owner) && check_likeness(f, p, owner);
    }
    return good;
}

/* ---- what is kept ----------------------------------------------------------------------------------------------- */

void remark_kept(frontend *f)
{
    const ranges **by_kind = ARENA_ARRAY(f->arena, const ranges *, f->module->patterns.n + 1);
    for (size_t i = 0; i < f->module->patterns.n; i++) by_kind[i] = f->module->patterns.at[i]->ranges;
    for (size_t i = 0; i < f->patterns.n; i++) {
        const source_pattern *p = f->patterns.at[i];
        if (p->index == UINT32_MAX || p->shared || live_groups_compute(f->module, by_kind, p->index).n) continue;
        diag_report(f->diags, DIAG_ID_KEPT, p->clause[CLAUSE_MASK]->values.first->where,
                    "too many KV heads of '%s' need different keys: the cache keeps for each what any of them needs",
                    p->decl->name);
    }
}
