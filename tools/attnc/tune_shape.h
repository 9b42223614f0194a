/* tune_shape.h - what --tune runs: `prefill:N`, `decode:N`, `step:M:N`. */
#ifndef ATTNC_TOOLS_TUNE_SHAPE_H
#define ATTNC_TOOLS_TUNE_SHAPE_H

#include "ir/base/arena.h"
#include "tools/common/file.h"
#include <stdint.h>

enum { TUNE_PREFILL = 1, TUNE_DECODE = 2, TUNE_STEP = 4 };
enum { TUNE_MAX_SHAPES = 8 };

typedef struct tune_shape {
    uint32_t op; /* one of the above */
    int64_t queries, keys; /* of one sequence; the queries are its last positions */
} tune_shape;

/* "prefill:1024,decode:4096" */
bool tune_shapes_parse(const char *list, tune_shape *out, size_t *n, tool_error *err);
const char *tune_shape_text(arena *a, const tune_shape *s);
const char *tune_shape_unit(const tune_shape *s); /* "of a plain read" */

#endif
