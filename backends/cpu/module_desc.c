/* module_desc.c - the module's descriptor (attn/abi.h) as constant data. */
#include "backends/cpu/internal.h"

#include "ir/pattern/live_groups.h"

#include <attn/abi.h>
#include <string.h>

static Val global(gen *g, Val value, const char *name)
{
    Val v = LLVMAddGlobal(g->module, LLVMTypeOf(value), name);
    LLVMSetInitializer(v, value);
    LLVMSetLinkage(v, LLVMPrivateLinkage);
    LLVMSetGlobalConstant(v, 1);
    return v;
}

static Val text_of(gen *g, const char *s)
{
    if (!s) s = "";
    return global(g, LLVMConstStringInContext2(g->context, s, strlen(s), 0), "text");
}

static Val u32(const gen *g, uint64_t x) { return LLVMConstInt(g->i32, x, 0); }
static Val u64(const gen *g, uint64_t x) { return LLVMConstInt(g->i64, x, 0); }
static Val null_of(const gen *g) { return LLVMConstNull(g->ptr); }

/* A struct laid out as C does, its size in the first field filled in. */
static Val record(gen *g, Val *fields, unsigned n, size_t c_size, const char *name)
{
    fields[0] = u32(g, c_size);
    Val v = LLVMConstStructInContext(g->context, fields, n, 0);
    ATTNC_CHECK(LLVMABISizeOfType(g->layout, LLVMTypeOf(v)) == c_size);
    return global(g, v, name);
}

static Val pointers(gen *g, Val *list, size_t n)
{
    if (!n) return null_of(g);
    return global(g, LLVMConstArray2(g->ptr, list, n), "list");
}

/* Heads of one KV head that share an item: no more than it has lanes. */
static uint64_t most_heads(const kernel *k)
{
    uint64_t group = k->grouped ? (uint64_t)(k->shape.q_heads / k->shape.kv_heads) : 1;
    return group < k->schedule.lanes ? group : k->schedule.lanes;
}

static Val kernel_desc(gen *g, const kernel_code *k)
{
    Val f[] = {NULL,
               u32(g, k->target->isa),
               u32(g, k->kernel->schedule.lanes),
               u32(g, k->kernel->schedule.vector),
               u32(g, k->kernel->schedule.qk_keys),
               u32(g, most_heads(k->kernel)),
               u64(g, k->workspace),
               u64(g, k->part_bytes),
               k->run,
               k->merge,
               text_of(g, k->name),
               text_of(g, k->schedule),
               u32(g, k->pair),
               u32(g, 0)};
    return record(g, f, ATTNC_COUNT(f), sizeof(attn_kernel_desc), "kernel");
}

/* Which KV heads are live together; none where all are, or where nobody can say. */
static live_groups find_groups(gen *g, const kernel *k, const kernel_code *kernels, size_t n_kinds)
{
    const ranges **by_kind = ARENA_ARRAY(g->arena, const ranges *, n_kinds);
    if (g->ir->patterns.at[k->pattern]->kv_shared) return (live_groups){.n = 0};
    for (size_t i = 0; i < n_kinds; i++) by_kind[kernels[i].kernel->pattern] = kernels[i].kernel->ranges;
    const live_groups groups = live_groups_compute(g->ir, by_kind, k->pattern);
    return groups.n > 1 ? groups : (live_groups){.n = 0};
}

static Val groups_list(gen *g, const live_groups *groups, int64_t kv_heads)
{
    if (!groups->n) return null_of(g);
    const size_t bytes = g->ir->layers * (size_t)kv_heads * sizeof *groups->of;
    return global(g, LLVMConstDataArray(g->i16, (const char *)groups->of, bytes), "groups");
}

static Val kind_desc(gen *g, const kind_code *c, const kernel_code *kernels, size_t kind, size_t n_variants, size_t n_kinds)
{
    const kernel *k = kernels[kind].kernel;
    const pattern *p = g->ir->patterns.at[k->pattern];
    const live_groups groups = find_groups(g, k, kernels, n_kinds);
    Val *list = ARENA_ARRAY(g->arena, Val, n_variants);
    for (size_t i = 0; i < n_variants; i++) list[i] = kernel_desc(g, &kernels[i * n_kinds + kind]);
    _Static_assert((int)DTYPE_F32 == ATTN_F32 && (int)DTYPE_F16 == ATTN_F16 && (int)DTYPE_BF16 == ATTN_BF16, "one order of types");
    _Static_assert((int)KV_AS_GIVEN == ATTN_KV_AS_GIVEN && (int)KV_INT8 == ATTN_KV_INT8, "one order of formats");
    Val f[] = {NULL,
               u32(g, c->flags),
               text_of(g, k->name),
               u32(g, (uint64_t)k->shape.q_heads),
               u32(g, (uint64_t)k->shape.kv_heads),
               u32(g, (uint64_t)k->shape.dim),
               u32(g, (uint64_t)k->shape.dim_v),
               u32(g, k->shape.type),
               u32(g, k->ranges->n_may),
               u32(g, k->ranges->n_must),
               u32(g, k->ranges->n_live),
               u32(g, k->ranges->n_data),
               u32(g, n_variants),
               c->ranges,
               c->live,
               c->bounds ? c->bounds : null_of(g),
               c->visible,
               pointers(g, list, n_variants),
               u32(g, p->kv_layer),
               u32(g, groups.n),
               groups_list(g, &groups, k->shape.kv_heads),
               u64(g, (uint64_t)p->max_len),
               u32(g, k->shape.kv),
               u32(g, (uint64_t)k->shape.kv_group),
               u32(g, k->ranges->row_step),
               u32(g, 0)};
    return record(g, f, ATTNC_COUNT(f), sizeof(attn_kind_desc), "kind");
}

static Val input_desc(gen *g, const table *t)
{
    Val extent[4];
    for (uint32_t i = 0; i < 4; i++) extent[i] = u64(g, i < t->rank ? (uint64_t)t->extent[i] : 0);
    Val f[] = {NULL, u32(g, t->type == TYPE_INT), text_of(g, t->name), u32(g, t->rank), u32(g, 0), LLVMConstArray2(g->i64, extent, 4)};
    return record(g, f, ATTNC_COUNT(f), sizeof(attn_input_desc), "input");
}

static Val schedule_list(gen *g)
{
    Val *list = ARENA_ARRAY(g->arena, Val, g->ir->layers + 1u);
    for (uint32_t i = 0; i < g->ir->layers; i++) list[i] = u32(g, g->ir->schedule[i]);
    return global(g, LLVMConstArray2(g->i32, list, g->ir->layers), "schedule");
}

/* A pattern or a table of the file may be called like the descriptor. What is internal needs no name. */
static void free_name(gen *g, const char *symbol)
{
    Val f = LLVMGetNamedFunction(g->module, symbol), v = LLVMGetNamedGlobal(g->module, symbol);
    if (f) LLVMSetValueName2(f, "", 0);
    if (v) LLVMSetValueName2(v, "", 0);
}

void emit_module_desc(gen *g, const kind_code *kinds, const kernel_code *kernels, size_t n_variants, const backend_options *o,
                      const char *symbol)
{
    const ir_module *m = g->ir;
    size_t n_kinds = m->patterns.n, n_inputs = 0;
    Val *kind = ARENA_ARRAY(g->arena, Val, n_kinds + 1), *input = ARENA_ARRAY(g->arena, Val, m->symbols.tables.n + 1);
    Val *attr = ARENA_ARRAY(g->arena, Val, m->symbols.attrs.n + 1);
    for (size_t i = 0; i < n_kinds; i++) kind[i] = kind_desc(g, &kinds[i], kernels, i, n_variants, n_kinds);
    for (size_t i = 0; i < m->symbols.tables.n; i++)
        if (!m->symbols.tables.at[i].value) input[n_inputs++] = input_desc(g, &m->symbols.tables.at[i]);
    for (size_t i = 0; i < m->symbols.attrs.n; i++) attr[i] = text_of(g, m->symbols.attrs.at[i]);
    Val f[] = {NULL,
               u32(g, ATTN_ABI_VERSION),
               text_of(g, m->name),
               text_of(g, "attnc 0.1.0"),
               text_of(g, o->source_hash),
               text_of(g, o->air),
               u32(g, m->layers),
               u32(g, n_kinds),
               u32(g, n_inputs),
               u32(g, m->symbols.attrs.n),
               schedule_list(g),
               pointers(g, kind, n_kinds),
               pointers(g, input, n_inputs),
               pointers(g, attr, m->symbols.attrs.n)};
    free_name(g, symbol);
    Val desc = record(g, f, ATTNC_COUNT(f), sizeof(attn_module_desc), symbol);
    LLVMSetLinkage(desc, LLVMExternalLinkage);
}
