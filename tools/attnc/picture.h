/* picture.h - --picture: masks with their tile classes, as SVG or PNG. */
#ifndef ATTNC_TOOLS_PICTURE_H
#define ATTNC_TOOLS_PICTURE_H

#include "ir/pattern/module.h"
#include "tools/common/file.h"

typedef struct picture_options {
    int64_t context; /* tokens; 0: enough to show the pattern */
    int64_t layer;   /* -1: every kind, and the schedule */
    const char *output; /* ends in .svg or .png */
} picture_options;

bool picture_write(arena *a, const ir_module *m, const picture_options *o, tool_error *err);

#endif
