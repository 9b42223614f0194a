/* pass_lower_pattern.c - the definition of a pattern, written down as a kernel, unfused.
 *
 * Needs: a kernel without ops.      Breaks: nothing.
 * Keeps: the order of scale, scores, mask (semantics.md 0.2); a step that changes nothing is left out.
 * Ends: one op a clause.
 *
 *   mask k <= q;                      s = dot.qk q, k     s = map s { s * 0.125 }
 *   scale 0.125; score s + 1.0;  ==>  s = map s { s + 1.0 }     s = mask s { k <= q }
 *                                     p, lse = softmax s     o = dot.pv p, v     store o, lse
 */
#include "ir/pass/pass_internal.h"

static kvalue append_map(kernel *k, kblock *b, kvalue s, expr e)
{
    if (e == expr_variable(k->module->pool, VAR_S)) return s;
    return kop_append(k, b, OP_MAP, &s, e)->result[0];
}

static kvalue append_logits(kernel *k, kblock *b, const pattern *p)
{
    expr_pool *pool = k->module->pool;
    kvalue q = kop_append(k, b, OP_LOAD_Q, NULL, 0)->result[0];
    kvalue key = kop_append(k, b, OP_LOAD_K, NULL, 0)->result[0];
    kvalue s = kop_append(k, b, OP_DOT_QK, (kvalue[]){q, key}, 0)->result[0];
    s = append_map(k, b, s, expr_binary(pool, EXPR_FMUL, expr_variable(pool, VAR_S), p->scale));
    for (uint32_t i = 0; i < p->n_scores; i++) s = append_map(k, b, s, p->scores[i]);
    if (p->mask != expr_bool(pool, true)) s = kop_append(k, b, OP_MASK, &s, p->mask)->result[0];
    return s;
}

const char *pass_lower_pattern(kernel *k, const pass_options *o)
{
    (void)o;
    const pattern *p = k->module->patterns.at[k->pattern];
    kblock *b = kop_append(k, k->body, OP_ROWS, NULL, 0)->body;
    kvalue s = append_logits(k, b, p);
    const kop *softmax = kop_append(k, b, OP_SOFTMAX, &s, p->sink);
    kvalue v = kop_append(k, b, OP_LOAD_V, NULL, 0)->result[0];
    const kop *out = kop_append(k, b, OP_DOT_PV, (kvalue[]){softmax->result[0], v}, 0);
    kop_append(k, b, OP_STORE, (kvalue[]){out->result[0], softmax->result[1]}, 0);
    return NULL;
}
