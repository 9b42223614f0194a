/* build.c - making and changing kernels: values, blocks, ops, copies. */
#include "ir/kernel/kernel.h"

#include <string.h>

static arena *kernel_arena(const kernel *k) { return k->module->arena; }

kvalue kernel_value(kernel *k, char type)
{
    VEC_PUSH(kernel_arena(k), &k->types, (uint8_t)type);
    return (kvalue)(k->types.n - 1);
}

kblock *kblock_create(kernel *k) { return ARENA_NEW(kernel_arena(k), kblock); }

kernel *kernel_create(ir_module *m, const char *name, uint32_t index)
{
    ATTNC_CHECK(index < m->patterns.n);
    kernel *k = ARENA_NEW(m->arena, kernel);
    k->name = arena_strdup(m->arena, name);
    k->module = m;
    k->pattern = index;
    k->shape = m->patterns.at[index]->shape;
    k->body = kblock_create(k);
    kernel_value(k, 0); /* id 0 is "none" */
    VEC_PUSH(m->arena, &m->kernels, k);
    return k;
}

/* ---- ops ------------------------------------------------------------------------------------------------- */

static void make_region(kernel *k, kop *o, const kop_info *info)
{
    if (info->region == REGION_NONE) return;
    o->body = kblock_create(k);
    if (info->region != REGION_LOOP) return;
    for (const char *t = info->operands; *t; t++) o->body->arg[o->body->n_args++] = kernel_value(k, *t);
}

static kop *make_op(kernel *k, kop_code code, const kvalue *operands, expr e)
{
    const kop_info *info = kop_get_info(code);
    kop *o = ARENA_NEW(kernel_arena(k), kop);
    o->code = code;
    o->e = e;
    for (size_t i = 0; info->results[i]; i++) o->result[i] = kernel_value(k, info->results[i]);
    for (size_t i = 0; info->operands[i]; i++) o->operand[i] = operands[i];
    make_region(k, o, info);
    return o;
}

static kop *place(kernel *k, kblock *b, size_t at, kop *o)
{
    ATTNC_CHECK(at <= b->ops.n);
    VEC_PUSH(kernel_arena(k), &b->ops, o);
    memmove(b->ops.at + at + 1, b->ops.at + at, (b->ops.n - 1 - at) * sizeof *b->ops.at);
    b->ops.at[at] = o;
    return o;
}

kop *kop_append(kernel *k, kblock *b, kop_code code, const kvalue *operands, expr e)
{
    return place(k, b, b->ops.n, make_op(k, code, operands, e));
}

kop *kop_insert(kernel *k, kblock *b, size_t at, kop_code code, const kvalue *operands, expr e)
{
    return place(k, b, at, make_op(k, code, operands, e));
}

void kblock_remove(kblock *b, size_t at)
{
    ATTNC_CHECK(at < b->ops.n);
    memmove(b->ops.at + at, b->ops.at + at + 1, (b->ops.n - 1 - at) * sizeof *b->ops.at);
    b->ops.n--;
}

void kblock_replace_uses(kblock *b, kvalue from, kvalue to)
{
    for (size_t i = 0; i < b->ops.n; i++) {
        kop *o = b->ops.at[i];
        for (size_t j = 0; j < KOP_MAX_OPERANDS; j++)
            if (o->operand[j] == from) o->operand[j] = to;
        if (o->body) kblock_replace_uses(o->body, from, to);
    }
}

/* ---- copies ---------------------------------------------------------------------------------------------- */

/* new_id: per old value, the value of the copy; identity where the copy keeps it. */
static kblock *copy_block(kernel *k, const kblock *from, kvalue *new_id, bool fresh);

static kvalue copy_definition(kernel *k, kvalue v, kvalue *new_id, bool fresh)
{
    if (v && fresh) new_id[v] = kernel_value(k, (char)k->types.at[v]);
    return v ? new_id[v] : 0;
}

static kop *copy_op(kernel *k, const kop *from, kvalue *new_id, bool fresh)
{
    kop *o = ARENA_NEW(kernel_arena(k), kop);
    *o = *from;
    for (size_t i = 0; i < KOP_MAX_OPERANDS; i++) o->operand[i] = new_id[from->operand[i]];
    for (size_t i = 0; i < KOP_MAX_RESULTS; i++) o->result[i] = copy_definition(k, from->result[i], new_id, fresh);
    if (from->body) o->body = copy_block(k, from->body, new_id, fresh);
    return o;
}

static kblock *copy_block(kernel *k, const kblock *from, kvalue *new_id, bool fresh)
{
    kblock *b = kblock_create(k);
    b->n_args = from->n_args;
    for (uint32_t i = 0; i < from->n_args; i++) b->arg[i] = copy_definition(k, from->arg[i], new_id, fresh);
    for (size_t i = 0; i < from->ops.n; i++)
        VEC_PUSH(kernel_arena(k), &b->ops, copy_op(k, from->ops.at[i], new_id, fresh));
    return b;
}

static kvalue *identity(const kernel *k)
{
    kvalue *id = ARENA_ARRAY(kernel_arena(k), kvalue, k->types.n);
    for (kvalue v = 0; v < k->types.n; v++) id[v] = v;
    return id;
}

kop *kop_append_copy(kernel *k, kblock *b, const kop *o)
{
    return place(k, b, b->ops.n, copy_op(k, o, identity(k), true));
}

kernel *kernel_clone(ir_module *m, const kernel *from, const char *name)
{
    kernel *k = ARENA_NEW(m->arena, kernel);
    *k = *from;
    k->name = arena_strdup(m->arena, name);
    k->module = m;
    k->types.at = NULL;
    k->types.n = k->types.cap = 0;
    for (size_t v = 0; v < from->types.n; v++) VEC_PUSH(m->arena, &k->types, from->types.at[v]);
    k->body = copy_block(k, from->body, identity(from), false);
    return k;
}
