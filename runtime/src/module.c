/* module.c - opens what attnc wrote: reads the descriptors into our own storage, checks them, chooses kernels.
 *
 * Descriptors of an older attnc are shorter than ours; what they lack is zero here. So the checks ask for values, never
 * for sizes. */
#include "module.h"

#include "error.h"
#include "isa.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum { MAX_LIST = 1 << 20, MAX_LANES = 4096, MAX_RANGES = 4096 };

/* A descriptor begins with its uint32_t size. */
static void *copy_desc(memory *m, const void *from, size_t own)
{
    uint32_t size;
    memcpy(&size, from, sizeof size);
    void *to = attni_alloc(m, 1, own);
    if (to) memcpy(to, from, size < own ? size : own);
    return to;
}

static attn_status check_kernel(const attn_kernel_desc *k, const attn_kind_desc *kind, attn_error *err)
{
    if (!k->run || !k->name)
        return attni_fail(err, ATTN_E_VERSION, "a kernel of '%s' has no entry or no name", kind->name);
    if (!k->vector || !k->lanes || k->lanes % k->vector || k->lanes > MAX_LANES)
        return attni_fail(err, ATTN_E_VERSION, "kernel %s: %u lanes are not vectors of %u", k->name, k->lanes,
                          k->vector);
    if (k->pair && (k->pair != 2 * k->vector || k->lanes % k->pair || k->lanes == k->pair))
        return attni_fail(err, ATTN_E_VERSION, "kernel %s: %u lanes are no pair of vectors of %u", k->name, k->pair,
                          k->vector);
    if (!k->key_step || !k->max_group || k->max_group > k->lanes)
        return attni_fail(err, ATTN_E_VERSION, "kernel %s: key step %u, groups of %u", k->name, k->key_step,
                          k->max_group);
    return ATTN_OK;
}

static attn_status copy_kernels(attn_module *m, attn_kind_desc *kind, attn_error *err)
{
    if (!kind->n_kernels || kind->n_kernels > MAX_LIST || !kind->kernels)
        return attni_fail(err, ATTN_E_VERSION, "kind '%s' has no kernels", kind->name);
    const attn_kernel_desc **list = attni_alloc(&m->mem, kind->n_kernels, sizeof *list);
    if (!list) return attni_no_memory(err);
    for (uint32_t i = 0; i < kind->n_kernels; i++) {
        if (!kind->kernels[i]) return attni_fail(err, ATTN_E_VERSION, "kernel %u of '%s' is missing", i, kind->name);
        list[i] = copy_desc(&m->mem, kind->kernels[i], sizeof **list);
        if (!list[i]) return attni_no_memory(err);
        attn_status s = check_kernel(list[i], kind, err);
        if (s) return s;
    }
    kind->kernels = list;
    return ATTN_OK;
}

static attn_status check_kind(const attn_kind_desc *k, attn_error *err)
{
    if (!k->name) return attni_fail(err, ATTN_E_VERSION, "a kind has no name");
    if (!k->kv_heads || !k->q_heads || k->q_heads % k->kv_heads || k->q_heads > MAX_LIST || !k->dim || !k->dim_v ||
        k->dim > MAX_LIST || k->dim_v > MAX_LIST)
        return attni_fail(err, ATTN_E_VERSION, "kind '%s': heads %u / %u, dim %u, dim_v %u", k->name, k->q_heads,
                          k->kv_heads, k->dim, k->dim_v);
    if (k->dtype > ATTN_BF16) return attni_fail(err, ATTN_E_VERSION, "kind '%s': unknown dtype %u", k->name, k->dtype);
    if (k->kv_format > ATTN_KV_INT8)
        return attni_fail(err, ATTN_E_VERSION, "kind '%s': unknown format %u of stored keys", k->name, k->kv_format);
    if (k->kv_group && (k->kv_format != ATTN_KV_INT8 || k->dim % k->kv_group || k->dim_v % k->kv_group))
        return attni_fail(err, ATTN_E_VERSION, "kind '%s': groups of %u in rows of %u and %u", k->name, k->kv_group, k->dim,
                          k->dim_v);
    if (k->flags & ATTN_KIND_K_IS_V && k->dim_v > k->dim)
        return attni_fail(err, ATTN_E_VERSION, "kind '%s': values of %u elements in keys of %u", k->name, k->dim_v,
                          k->dim);
    if (k->row_step > INT32_MAX)
        return attni_fail(err, ATTN_E_VERSION, "kind '%s': rows %u apart", k->name, k->row_step);
    if (!k->ranges || !k->visible || (k->n_data && !k->bounds))
        return attni_fail(err, ATTN_E_VERSION, "kind '%s' lacks code for its ranges", k->name);
    if (k->n_may > MAX_RANGES || k->n_must > MAX_RANGES || k->n_data > MAX_RANGES)
        return attni_fail(err, ATTN_E_VERSION, "kind '%s': %u + %u ranges, %u data atoms", k->name, k->n_may, k->n_must,
                          k->n_data);
    return ATTN_OK;
}

static attn_status check_groups(const attn_module_desc *d, const attn_kind_desc *k, attn_error *err)
{
    if (k->n_groups > 1 && !k->groups)
        return attni_fail(err, ATTN_E_VERSION, "kind '%s' has %u groups of heads, but no list", k->name, k->n_groups);
    for (size_t i = 0; k->n_groups > 1 && i < (size_t)d->n_layers * k->kv_heads; i++)
        if (k->groups[i] >= k->n_groups)
            return attni_fail(err, ATTN_E_VERSION, "kind '%s': group %u of %u", k->name, k->groups[i], k->n_groups);
    return ATTN_OK;
}

/* A layer whose keys and values are read by others has its own, of the same shape. */
static attn_status check_shared(const attn_module_desc *d, uint32_t layer, attn_error *err)
{
    const attn_kind_desc *k = d->kinds[d->schedule[layer]];
    if (!(k->flags & ATTN_KIND_KV_SHARED)) return ATTN_OK;
    const attn_kind_desc *own = k->kv_layer < layer ? d->kinds[d->schedule[k->kv_layer]] : NULL;
    if (own && !(own->flags & ATTN_KIND_KV_SHARED) && own->kv_heads == k->kv_heads && own->dim == k->dim &&
        own->dim_v == k->dim_v && own->dtype == k->dtype && own->kv_format == k->kv_format &&
        own->kv_group == k->kv_group && !((own->flags ^ k->flags) & ATTN_KIND_K_IS_V))
        return ATTN_OK;
    return attni_fail(err, ATTN_E_VERSION, "layer %u ('%s') cannot read the keys and values of layer %u", layer,
                      k->name, k->kv_layer);
}

static attn_status check_between(const attn_module_desc *d, attn_error *err)
{
    attn_status s = ATTN_OK;
    for (uint32_t i = 0; !s && i < d->n_kinds; i++) s = check_groups(d, d->kinds[i], err);
    for (uint32_t l = 0; !s && l < d->n_layers; l++) s = check_shared(d, l, err);
    return s;
}

static attn_status copy_kinds(attn_module *m, attn_error *err)
{
    attn_module_desc *d = &m->desc;
    const attn_kind_desc **list = attni_alloc(&m->mem, d->n_kinds, sizeof *list);
    m->best = attni_alloc(&m->mem, d->n_kinds, sizeof *m->best);
    if (m->mem.failed) return attni_no_memory(err);
    for (uint32_t i = 0; i < d->n_kinds; i++) {
        if (!d->kinds[i]) return attni_fail(err, ATTN_E_VERSION, "kind %u is missing", i);
        attn_kind_desc *kind = copy_desc(&m->mem, d->kinds[i], sizeof *kind);
        if (!kind) return attni_no_memory(err);
        attn_status s = check_kind(kind, err);
        if (!s) s = copy_kernels(m, kind, err);
        if (s) return s;
        list[i] = kind;
        m->best[i] = attni_kind_kernel(kind, -1);
        if (!m->best[i])
            return attni_fail(err, ATTN_E_ISA, "no kernel of '%s' runs on this processor; the first one needs %s",
                              kind->name, attn_isa_name(kind->kernels[0]->isa));
    }
    d->kinds = list;
    return ATTN_OK;
}

static attn_status copy_inputs(attn_module *m, attn_error *err)
{
    attn_module_desc *d = &m->desc;
    if (!d->n_inputs) return ATTN_OK;
    const attn_input_desc **list = attni_alloc(&m->mem, d->n_inputs, sizeof *list);
    for (uint32_t i = 0; list && i < d->n_inputs; i++) {
        if (!d->inputs[i]) return attni_fail(err, ATTN_E_VERSION, "input %u is missing", i);
        list[i] = copy_desc(&m->mem, d->inputs[i], sizeof **list);
        if (!list[i]) break;
        if (!list[i]->name || list[i]->rank > 4)
            return attni_fail(err, ATTN_E_VERSION, "input %u: no name, or rank %u", i, list[i]->rank);
    }
    if (m->mem.failed) return attni_no_memory(err);
    d->inputs = list;
    return ATTN_OK;
}

static attn_status check_module(const attn_module_desc *d, attn_error *err)
{
    if (!d->name || !d->n_layers || !d->n_kinds || !d->schedule || !d->kinds)
        return attni_fail(err, ATTN_E_VERSION, "the module's descriptor is incomplete");
    if (d->n_layers > MAX_LIST || d->n_kinds > MAX_LIST || d->n_inputs > MAX_LIST || d->n_attrs > MAX_LIST)
        return attni_fail(err, ATTN_E_VERSION, "module '%s': %u layers, %u kinds, %u inputs, %u attributes", d->name,
                          d->n_layers, d->n_kinds, d->n_inputs, d->n_attrs);
    if ((d->n_inputs && !d->inputs) || (d->n_attrs && !d->attrs))
        return attni_fail(err, ATTN_E_VERSION, "module '%s' lacks its inputs or attributes", d->name);
    for (uint32_t i = 0; i < d->n_layers; i++)
        if (d->schedule[i] >= d->n_kinds)
            return attni_fail(err, ATTN_E_VERSION, "module '%s': layer %u is of kind %u of %u", d->name, i,
                              d->schedule[i], d->n_kinds);
    return ATTN_OK;
}

static attn_status read_module(attn_module *m, const attn_module_desc *desc, attn_error *err)
{
    if (desc->size < 2 * sizeof(uint32_t))
        return attni_fail(err, ATTN_E_VERSION, "the module's descriptor has no size");
    if (desc->abi != ATTN_ABI_VERSION)
        return attni_fail(err, ATTN_E_VERSION,
                          "the module speaks ABI %u, this library ABI %u; compile the pattern again", desc->abi,
                          ATTN_ABI_VERSION);
    memcpy(&m->desc, desc, desc->size < sizeof m->desc ? desc->size : sizeof m->desc);
    m->desc.size = sizeof m->desc;
    attn_status s = check_module(&m->desc, err);
    if (!s) s = copy_kinds(m, err);
    if (!s) s = check_between(&m->desc, err);
    if (!s) s = copy_inputs(m, err);
    return s;
}

/* Opens desc; takes over `library`, also when it fails. */
static attn_status open_module(const attn_module_desc *desc, void *library, const attn_allocator *a, attn_module **out,
                               attn_error *err)
{
    memory *mem;
    attn_status s;
    attn_module *m = attni_new_owner(sizeof *m, a, &mem, offsetof(attn_module, mem), &s, err);
    if (!m) {
        if (library) dlclose(library);
        return s;
    }
    m->library = library;
    s = read_module(m, desc, err);
    if (s)
        attn_module_destroy(m);
    else
        *out = m;
    return s;
}

attn_status attn_module_open(const attn_module_desc *desc, const attn_allocator *a, attn_module **out, attn_error *err)
{
    if (!desc || !out) return attni_fail(err, ATTN_E_ARGUMENT, "attn_module_open: %s is NULL", desc ? "out" : "desc");
    return open_module(desc, NULL, a, out, err);
}

/* A name without a slash is a file here, as everywhere but in dlopen. */
static void *open_library(const char *path)
{
    char here[4096];
    if (strchr(path, '/')) return dlopen(path, RTLD_NOW | RTLD_LOCAL);
    int n = snprintf(here, sizeof here, "./%s", path);
    return dlopen(n > 0 && (size_t)n < sizeof here ? here : path, RTLD_NOW | RTLD_LOCAL);
}

attn_status attn_module_load(const char *path, const attn_allocator *a, attn_module **out, attn_error *err)
{
    if (!path || !out || !*path)
        return attni_fail(err, ATTN_E_ARGUMENT, "attn_module_load: %s", out ? "no path" : "out is NULL");
    void *library = open_library(path);
    if (!library) {
        const char *why = dlerror();
        return attni_fail(err, ATTN_E_FILE, "%s", why ? why : path);
    }
    const attn_module_desc *desc = dlsym(library, ATTN_MODULE_SYMBOL);
    if (!desc) {
        dlclose(library);
        return attni_fail(err, ATTN_E_FILE, "%s: no attnc module (it has no symbol %s)", path, ATTN_MODULE_SYMBOL);
    }
    return open_module(desc, library, a, out, err);
}

void attn_module_destroy(attn_module *m)
{
    if (!m) return;
    void *library = m->library;
    attni_delete_owner(m, sizeof *m, offsetof(attn_module, mem));
    if (library) dlclose(library);
}

const attn_module_desc *attn_module_describe(const attn_module *m) { return &m->desc; }

const attn_kind_desc *attni_module_kind(const attn_module *m, uint32_t layer)
{
    return m->desc.kinds[m->desc.schedule[layer]];
}

const attn_kernel_desc *attn_module_kernel(const attn_module *m, uint32_t layer)
{
    return layer < m->desc.n_layers ? m->best[m->desc.schedule[layer]] : NULL;
}

static int better(const attn_kernel_desc *a, const attn_kernel_desc *b)
{
    if (!b || a->isa == ATTN_ISA_NATIVE) return !b; /* nobody can say that native code runs here: the last resort */
    return b->isa == ATTN_ISA_NATIVE || a->isa > b->isa;
}

const attn_kernel_desc *attni_kind_kernel(const attn_kind_desc *kind, int32_t isa)
{
    const attn_kernel_desc *best = NULL;
    int only_native = 1;
    for (uint32_t i = 0; i < kind->n_kernels; i++) only_native &= kind->kernels[i]->isa == ATTN_ISA_NATIVE;
    for (uint32_t i = 0; i < kind->n_kernels; i++) {
        const attn_kernel_desc *k = kind->kernels[i];
        if (isa >= 0 ? k->isa != (uint32_t)isa : k->isa == ATTN_ISA_NATIVE && !only_native) continue;
        if (attn_isa_available(k->isa) && better(k, best)) best = k;
    }
    return best;
}
