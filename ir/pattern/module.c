/* module.c - dtypes by name, sizes of stored rows, and an empty module. */
#include "ir/pattern/module.h"

#include <string.h>

static const char *const dtype_names[] = {[DTYPE_F32] = "f32", [DTYPE_F16] = "f16", [DTYPE_BF16] = "bf16"};

const char *dtype_name(dtype t) { return dtype_names[t]; }

bool dtype_parse(const char *name, size_t len, dtype *out)
{
    for (size_t i = 0; i < ATTNC_COUNT(dtype_names); i++)
        if (strlen(dtype_names[i]) == len && !memcmp(dtype_names[i], name, len)) {
            *out = (dtype)i;
            return true;
        }
    return false;
}

int64_t kv_row_bytes(const shape *s, int64_t dim)
{
    switch (s->kv) {
    case KV_AS_GIVEN:
        return dim * (s->type == DTYPE_F32 ? 4 : 2);
    case KV_INT8:
        return dim + dim / kv_group_of(s, dim) * 4;
    }
    ATTNC_UNREACHABLE();
}

ir_module *ir_module_create(arena *a, const char *name)
{
    ir_module *m = ARENA_NEW(a, ir_module);
    m->arena = a;
    m->name = arena_strdup(a, name);
    m->pool = expr_pool_create(a, &m->symbols);
    return m;
}
