/* spans_steps.h - for spans.c only: what it does when a list has spans with gaps. */
#ifndef ATTN_SRC_SPANS_STEPS_H
#define ATTN_SRC_SPANS_STEPS_H

#include "spans.h"

void attni_steps_unite(const spans *a, const spans *b, spans *out);
void attni_steps_unite_less(const spans *a, const spans *b, spans *out);
void attni_steps_intersect(const spans *a, const spans *b, spans *out);
void attni_steps_subtract(const spans *a, const spans *b, spans *out);

#endif
