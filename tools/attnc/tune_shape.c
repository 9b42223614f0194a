/* tune_shape.c - what --tune runs: `prefill:N`, `decode:N`, `step:M:N`. */
#include "tools/attnc/tune_shape.h"
#include "ir/base/compiler.h"
#include <stdio.h>
#include <string.h>

enum { MOST_TOKENS = 1 << 20 };

static const struct {
    const char *name, *unit;
    uint32_t op;
    int numbers;
} ops[] = {{"prefill", "of a multiply-add burst", TUNE_PREFILL, 1}, {"decode", "of a plain read", TUNE_DECODE, 1}, {"step", "of a plain read", TUNE_STEP, 2}};

/* ":N" */
static bool read_number(const char **at, int64_t *out)
{
    const char *p = *at;
    if (*p++ != ':' || *p < '1' || *p > '9') return false;
    for (*out = 0; *p >= '0' && *p <= '9' && *out <= MOST_TOKENS; p++)
        *out = *out * 10 + (*p - '0');
    *at = p;
    return *out <= MOST_TOKENS;
}

static bool read_shape(const char **at, tune_shape *out)
{
    for (size_t i = 0; i < ATTNC_COUNT(ops); i++) {
        const size_t n = strlen(ops[i].name);
        if (strncmp(*at, ops[i].name, n)) continue;
        *at += n;
        *out = (tune_shape){.op = ops[i].op, .queries = 1};
        if (ops[i].numbers == 2 && !read_number(at, &out->queries)) return false;
        if (!read_number(at, &out->keys)) return false;
        if (out->op == TUNE_PREFILL) out->queries = out->keys;
        return out->queries <= out->keys;
    }
    return false;
}

bool tune_shapes_parse(const char *list, tune_shape *out, size_t *n, tool_error *err)
{
    const char *at = list;
    for (*n = 0; *n < TUNE_MAX_SHAPES; at++) {
        if (!read_shape(&at, &out[*n]) || (*at && *at != ',')) break;
        ++*n;
        if (!*at) return true;
    }
    return tool_fail(err, "--tune-shapes must be up to %d of prefill:N, decode:N, step:M:N (M queries, N keys up to %d, M <= N) with commas between them, not '%s'",
                     TUNE_MAX_SHAPES, MOST_TOKENS, list);
}

const char *tune_shape_text(arena *a, const tune_shape *s)
{
    const char *name = "";
    for (size_t i = 0; i < ATTNC_COUNT(ops); i++)
        if (ops[i].op == s->op) name = ops[i].name;
    if (s->op == TUNE_STEP) return arena_printf(a, "%s:%lld:%lld", name, (long long)s->queries, (long long)s->keys);
    return arena_printf(a, "%s:%lld", name, (long long)s->keys);
}

const char *tune_shape_unit(const tune_shape *s)
{
    const char *unit = "";
    for (size_t i = 0; i < ATTNC_COUNT(ops); i++)
        if (ops[i].op == s->op) unit = ops[i].unit;
    return unit;
}
