/* pass_fuse_online.c - softmax over all keys becomes a running (m, l, O) over key tiles; QK, maps and PV share one
 * loop.
 *
 * Needs: softmax and dot.pv in `rows`.      Breaks: the tile of all keys: nothing is rows x keys any more.
 * Keeps: values up to rounding; rows that see nothing (m stays -inf, l stays 0).
 * Ends: each op is visited once, softmax and dot.pv disappear.
 *
 *   s = ...                            m, l, O = init
 *   p, lse = softmax s                 m, l, O = keys all (m, l, O) { s = ...; m' = rowmax s, m; a = decay m, m';
 *   o = dot.pv p, v           ==>          p = exp s, m'; l = rowsum p, l, a; O = accum.pv p, v, rescale O, a }
 *   store o, lse                       o, lse = finish m, l, O     store o, lse
 */
#include "ir/pass/pass_internal.h"

#include <string.h>

/* True for ops over tiles that have keys: they move into the loop. */
static bool is_per_key(const kop *o)
{
    const kop_info *info = kop_get_info(o->code);
    return strpbrk(info->results, "kvs") || strpbrk(info->operands, "kvs");
}

typedef struct fusion {
    kernel *k;
    kblock *out; /* the new body of rows */
    kop *loop;   /* made at the softmax's place */
    kop *softmax;
    kop *weighted;                  /* dot.pv */
    kvalue max, decay, sum, output; /* of the loop's body */
} fusion;

/* init and the loop; what was met before (loads, logits) is already in body. */
static void open_loop(fusion *f, kblock *body)
{
    const kop *init = kop_append(f->k, f->out, OP_INIT, NULL, f->softmax->e);
    f->loop = kop_append(f->k, f->out, OP_KEYS, init->result, 0);
    f->loop->range = KEYS_ALL;
    body->n_args = f->loop->body->n_args;
    memcpy(body->arg, f->loop->body->arg, sizeof body->arg);
    f->loop->body = body;
}

static void append_online_softmax(fusion *f, kblock *body)
{
    kernel *k = f->k;
    kvalue s = f->softmax->operand[0], m = body->arg[0], l = body->arg[1];
    f->max = kop_append(k, body, OP_ROWMAX, (kvalue[]){s, m}, 0)->result[0];
    f->decay = kop_append(k, body, OP_DECAY, (kvalue[]){m, f->max}, 0)->result[0];
    kvalue p = kop_append(k, body, OP_EXP, (kvalue[]){s, f->max}, 0)->result[0];
    f->sum = kop_append(k, body, OP_ROWSUM, (kvalue[]){p, l, f->decay}, 0)->result[0];
    kblock_replace_uses(body, f->softmax->result[0], p);
    f->weighted->operand[0] = p;
}

static void append_accumulation(fusion *f, kblock *body)
{
    kernel *k = f->k;
    kvalue scaled = kop_append(k, body, OP_RESCALE, (kvalue[]){body->arg[2], f->decay}, 0)->result[0];
    kvalue p = f->weighted->operand[0], v = f->weighted->operand[1];
    f->output = kop_append(k, body, OP_ACCUM_PV, (kvalue[]){p, v, scaled}, 0)->result[0];
    kop_append(k, body, OP_YIELD, (kvalue[]){f->max, f->sum, f->output}, 0);
}

static kop *append_finish(fusion *f) { return kop_append(f->k, f->out, OP_FINISH, f->loop->result, 0); }

static bool find_parts(fusion *f, const kblock *rows)
{
    size_t softmax = find_only(rows, OP_SOFTMAX), weighted = find_only(rows, OP_DOT_PV);
    if (softmax == NOT_FOUND || weighted == NOT_FOUND) return false;
    f->softmax = rows->ops.at[softmax];
    f->weighted = rows->ops.at[weighted];
    return softmax < weighted && f->weighted->operand[0] == f->softmax->result[0];
}

const char *pass_fuse_online(kernel *k, const pass_options *o)
{
    (void)o;
    kblock *rows = rows_body(k);
    fusion f = {.k = k, .out = kblock_create(k)};
    if (!find_parts(&f, rows))
        return pass_refuse(k, PASS_fuse_online, "it needs one softmax whose weights go to one dot.pv");
    kblock *body = kblock_create(k);
    const kop *finish = NULL;
    for (size_t i = 0; i < rows->ops.n; i++) {
        kop *op = rows->ops.at[i];
        if (op == f.softmax) {
            open_loop(&f, body);
            append_online_softmax(&f, body);
        } else if (op == f.weighted) {
            append_accumulation(&f, body);
            finish = append_finish(&f);
        } else if (is_per_key(op)) {
            if (finish) return pass_refuse(k, PASS_fuse_online, "an op over keys follows dot.pv");
            VEC_PUSH(k->module->arena, &body->ops, op);
        } else {
            VEC_PUSH(k->module->arena, &f.out->ops, op);
        }
    }
    kblock_replace_uses(f.out, f.weighted->result[0], finish->result[0]);
    kblock_replace_uses(f.out, f.softmax->result[1], finish->result[1]);
    rows->ops.at = f.out->ops.at, rows->ops.n = f.out->ops.n, rows->ops.cap = f.out->ops.cap;
    return NULL;
}
