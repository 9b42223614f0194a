/* ops.c - the tables of operations and of targets, as data. */
#include "ir/kernel/kernel.h"

#include <string.h>

static const kop_info op_table[OP_COUNT] = {
#define OP(ident, spelling, results, operands, region, expression, effects)                                            \
    [OP_##ident] = {spelling, results, operands, REGION_##region, EXPR_##expression, EFFECT_##effects},
#include "ir/kernel/ops.def"
#undef OP
};

static const target_facts target_table[TARGET_COUNT] = {
#define TARGET(ident, spelling, vector, registers, dot) [TARGET_##ident] = {spelling, vector, registers, dot},
#include "ir/kernel/targets.def"
#undef TARGET
};

#define OP(ident, spelling, results, operands, region, expression, effects)                                            \
    _Static_assert(sizeof(results) - 1 <= KOP_MAX_RESULTS && sizeof(operands) - 1 <= KOP_MAX_OPERANDS, spelling);
#include "ir/kernel/ops.def"
#undef OP

const kop_info *kop_get_info(kop_code c)
{
    ATTNC_CHECK(c < OP_COUNT);
    return &op_table[c];
}

const target_facts *target_get(target_id t)
{
    ATTNC_CHECK(t < TARGET_COUNT);
    return &target_table[t];
}

target_id target_parse(const char *name)
{
    for (int t = 0; t < TARGET_COUNT; t++)
        if (!strcmp(target_table[t].name, name)) return (target_id)t;
    return TARGET_NONE;
}
