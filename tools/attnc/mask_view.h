/* mask_view.h - a mask on a text of n tokens, as a picture asks for it: classes of rectangles, single pairs. */
#ifndef ATTNC_TOOLS_MASK_VIEW_H
#define ATTNC_TOOLS_MASK_VIEW_H

#include "ir/pattern/module.h"

typedef struct mask_view {
    const ir_module *m;
    const ranges *ranges;
    expr_program *mask;
    expr_value *values;
    expr_env env;
    int64_t n;
    int64_t (*attr)[ATTR_SIDE_COUNT];
    const double **tables;
} mask_view;

mask_view *mask_view_create(arena *a, const ir_module *m, const pattern *p, int64_t n, int64_t layer, int64_t head);
bool mask_view_visible(mask_view *v, int64_t q, int64_t k);
tile_class mask_view_classify(mask_view *v, int64_t q0, int64_t q1, int64_t k0, int64_t k1);

/* How many tokens show what is particular about this mask: a power of two. */
int64_t mask_view_default_tokens(const ir_module *m, const pattern *p);

#endif
