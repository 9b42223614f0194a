/* rewrite.c - finding ops; the refusal of a kernel that is right but of another shape. */
#include "ir/pass/pass_internal.h"

size_t count_ops(const kblock *b, kop_code code)
{
    size_t n = 0;
    for (size_t i = 0; i < b->ops.n; i++) n += b->ops.at[i]->code == code;
    return n;
}

size_t find_only(const kblock *b, kop_code code)
{
    if (count_ops(b, code) != 1) return NOT_FOUND;
    size_t i = 0;
    while (b->ops.at[i]->code != code) i++;
    return i;
}

kblock *rows_body(const kernel *k)
{
    size_t rows = find_only(k->body, OP_ROWS);
    ATTNC_CHECK(rows != NOT_FOUND); /* the verifier's first rule */
    return k->body->ops.at[rows]->body;
}

const char *pass_refuse(kernel *k, pass_id p, const char *why)
{
    return arena_printf(k->module->arena, "%s cannot change kernel %s: %s", pass_name(p), k->name, why);
}
