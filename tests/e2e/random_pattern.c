/* random_pattern.c - writes patterns as a person might, only stranger. What it writes must compile: ranges of constants
 * and the depth of expressions are chosen so that nothing of it can be refused. */
#include "tests/e2e/random_pattern.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int random_below(random_pattern *r, int n) { return (int)e2e_below(&r->seed, n); }
bool random_chance(random_pattern *r, double p) { return (e2e_uniform(&r->seed) + 1) / 2 < p; }

static int between(random_pattern *r, int lo, int hi) { return lo + random_below(r, hi - lo + 1); }

static void add(random_pattern *r, const char *format, ...) ATTNC_PRINTF(2, 3);
static void add(random_pattern *r, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    r->n += (size_t)vsnprintf(r->at + r->n, sizeof r->at - r->n, format, args);
    va_end(args);
    ATTNC_CHECK(r->n < sizeof r->at);
}

static const char *pick(random_pattern *r, const char *const *from, size_t n) { return from[random_below(r, (int)n)]; }
#define PICK(r, ...)                                                                                                   \
    pick((r), (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

/* ---- integers ---- */

static void add_int(random_pattern *r, int depth);

static void add_int_leaf(random_pattern *r)
{
    switch (random_below(r, 8)) {
    case 0:
        add(r, "%d", between(r, -5, 40));
        return;
    case 1:
        if (r->may_read_len && random_chance(r, 0.3))
            add(r, "%s", PICK(r, "len", "len / 4", "(len % 7)"));
        else
            add(r, "%s", PICK(r, "h", "g", "layer", "heads"));
        return;
    case 2:
        add(r, "%s", PICK(r, "doc.q", "doc.k", "flag.q", "flag.k"));
        return;
    case 3:
        add(r, "%s[h]", PICK(r, "W", "reach"));
        return;
    case 4:
        add(r, "W[%s %% 5]", PICK(r, "q", "k", "doc.q"));
        return;
    default:
        add(r, "%s", PICK(r, "q", "k"));
        return;
    }
}

static void add_int(random_pattern *r, int depth)
{
    if (depth <= 0 || random_chance(r, 0.3)) {
        add_int_leaf(r);
        return;
    }
    int form = random_below(r, 9);
    if (form == 8) {
        add(r, "(if layer + h > %d then ", random_below(r, 3));
        add_int(r, depth - 1);
        add(r, " else ");
        add_int(r, depth - 1);
        add(r, ")");
        return;
    }
    if (form >= 6) {
        add(r, "%s(", PICK(r, "min", "max"));
        add_int(r, depth - 1);
        add(r, ", ");
        add_int(r, depth - 1);
        add(r, ")");
        return;
    }
    if (form == 5) {
        add(r, "abs(");
        add_int(r, depth - 1);
        add(r, ")");
        return;
    }
    add(r, "(");
    add_int(r, depth - 1);
    if (form < 2) {
        add(r, " %s ", PICK(r, "+", "-"));
        add_int(r, depth - 1);
    } else {
        add(r, " %s %d", PICK(r, "*", "/", "%"), between(r, 1, 17));
    }
    add(r, ")");
}

/* ---- masks ---- */

static void add_mask(random_pattern *r, int depth);

static void add_prelude_mask(random_pattern *r)
{
    switch (random_below(r, 16)) {
    case 0:
        add(r, "window(%d)", between(r, 1, 40));
        return;
    case 1:
        add(r, "chunk(%d)", between(r, 1, 40));
        return;
    case 2:
        add(r, "chunk(%d, %d)", between(r, 1, 20), between(r, -9, 30));
        return;
    case 3:
        add(r, "sink(%d)", between(r, 0, 9));
        return;
    case 4:
        add(r, "every(%d, %s)", between(r, 1, 7), PICK(r, "1", "h", "layer"));
        return;
    case 5:
        add(r, "stride(%d)", between(r, 1, 6));
        return;
    case 6:
        add(r, "band(%d, %d)", between(r, -20, 3), between(r, 4, 30));
        return;
    case 7:
        add(r, "ahead(%d)", between(r, 0, 12));
        return;
    case 8:
        add(r, "same(doc)");
        return;
    case 9:
        add(r, "lastblock(%d, %d)", between(r, 1, 12), between(r, 1, 4));
        return;
    case 10:
        add(r, "streaming(%d, %d)", between(r, 0, 5), between(r, 1, 30));
        return;
    case 11:
        add(r, "dilated(%d, %d)", between(r, 1, 9), between(r, 1, 5));
        return;
    case 12:
        add(r, "longformer(%d, flag)", between(r, 0, 9));
        return;
    case 13:
        add(r, "prefixlm(flag)");
        return;
    case 14: /* two sweeps, where sequences are long */
        add(r, "(%s stride(%d) or window(%d))", PICK(r, "", "h < 3 and", "sink(3) or"), between(r, 2, 10), between(r, 1, 40));
        return;
    default:
        add(r, "block(%d, table)", between(r, 1, 20));
        return;
    }
}

static void add_comparison(random_pattern *r)
{
    switch (random_below(r, 7)) {
    case 0:
        add(r, "window(W[h])");
        return;
    case 1:
        add(r, "q - k < reach[h]");
        return;
    case 2:
        add(r, "table[h, q / 8, k / 8] %s %.2f", PICK(r, "<", ">"), e2e_uniform(&r->seed));
        return;
    case 3:
        add(r, "%s in [0, 2..3]", PICK(r, "h", "g", "q % 5", "layer"));
        return;
    case 4:
        add(r, "full[layer, h]");
        return;
    default:
        break;
    }
    add_int(r, 2);
    add(r, " %s ", PICK(r, "<", "<=", ">", ">=", "==", "!="));
    add_int(r, 2);
}

static void add_mask(random_pattern *r, int depth)
{
    int form = depth <= 0 ? random_below(r, 5) : random_below(r, 12);
    if (form < 2) {
        add(r, "causal");
    } else if (form < 4) {
        add_prelude_mask(r);
    } else if (form == 4) {
        add(r, "(");
        add_comparison(r);
        add(r, ")");
    } else if (form == 5) {
        add(r, "(not ");
        add_mask(r, depth - 1);
        add(r, ")");
    } else if (form == 6) {
        add(r, "(if %s then ", PICK(r, "h < 2", "g == 0", "layer == 0", "full[layer, h]", "q < 20", "k % 2 == 0"));
        add_mask(r, depth - 1);
        add(r, " else ");
        add_mask(r, depth - 1);
        add(r, ")");
    } else {
        add(r, "(");
        add_mask(r, depth - 1);
        add(r, " %s ", random_chance(r, 0.6) ? "and" : "or");
        add_mask(r, depth - 1);
        add(r, ")");
    }
}

/* ---- scores ---- */

static double small_factor(random_pattern *r) { return 0.05 * between(r, 1, 40); }

static void add_raw_score(random_pattern *r)
{
    switch (random_below(r, 8)) {
    case 0:
        add(r, "s * %.2f", small_factor(r));
        return;
    case 1:
        add(r, "s + %.2f * tanh(s)", small_factor(r));
        return;
    case 2:
        add(r, "if q - k < %d then s else s * 0.5", between(r, 0, 20));
        return;
    case 3:
        add(r, "s * (0.5 + h) - %.2f * abs(q - k)", 0.01 * between(r, 0, 20));
        return;
    case 4:
        add(r, "%s(s, %.2f)", PICK(r, "min", "max"), e2e_uniform(&r->seed) * 3);
        return;
    case 5:
        add(r, "s + %.2f * table[h, q / 8, k / 8]", small_factor(r));
        return;
    case 6:
        add(r, "s / (1.0 + %s) + exp(min(s, 1.0))", PICK(r, "layer", "h", "abs(s)", "sqrt(float(abs(q - k)))"));
        return;
    default:
        add(r, "s * max(1.0, log2(q + 2) / %.2f) + float(%s) * 0.1", 2 + small_factor(r),
            PICK(r, "doc.k", "flag.q", "k % 3", "q / 7 % 4"));
        return;
    }
}

static void add_score(random_pattern *r)
{
    switch (random_below(r, 9)) {
    case 0:
        add(r, "softcap(%.2f)", 0.5 + 10 * small_factor(r));
        return;
    case 1:
        add(r, "alibi");
        return;
    case 2:
        add(r, "alibi(slopes)");
        return;
    case 3:
        add(r, "qtemp(%.2f, %d, %d)", small_factor(r), between(r, 1, 30), between(r, 0, 2));
        return;
    case 4:
        add(r, "bias(near)");
        return;
    case 5:
        add(r, "bias_rel(rel, %d)", between(r, 0, 7));
        return;
    case 6:
        add(r, "t5(rel, %d, %d, %s)", random_chance(r, 0.5) ? 8 : 14, between(r, 9, 64), PICK(r, "true", "false"));
        return;
    default:
        add_raw_score(r);
        return;
    }
}

/* ---- the whole ---- */

static void add_sizes(random_pattern *r)
{
    static const int group[] = {1, 1, 1, 2, 2, 3, 4, 8}, dims[] = {16, 24, 32, 40, 64, 80, 96, 128};
    r->kv_heads = between(r, 1, 3);
    r->q_heads = r->kv_heads * group[random_below(r, 8)];
    if (r->q_heads > 8) r->q_heads = r->kv_heads;
    int dim = random_chance(r, 0.4) ? between(r, 1, 40) : dims[random_below(r, 8)];
    add(r, "  heads %d / %d;  dim %d;  dtype %s;\n", r->q_heads, r->kv_heads, dim,
        PICK(r, "f32", "f32", "bf16", "f16"));
    const int dim_v = random_chance(r, 0.3) ? between(r, 1, 70) : dim;
    if (dim_v != dim) add(r, "  dim_v %d;\n", dim_v);
    r->k_is_v = dim_v <= dim && random_chance(r, 0.15);
    if (r->cached && random_chance(r, 0.3))
        r->quant = dim % 16 || dim_v % 16 || random_chance(r, 0.5) ? "quant(int8)" : "quant(int8, 16)";
    if (r->k_is_v || r->quant) add(r, "  kv %s%s%s;\n", r->k_is_v ? "k_is_v" : "", r->k_is_v && r->quant ? ", " : "", r->quant ? r->quant : "");
    if (random_chance(r, 0.2)) add(r, "  max_len 5000;\n");
    if (random_chance(r, 0.3)) add(r, "  scale %s;\n", PICK(r, "1.0", "0.25", "0.1 * (1 + h)", "1.0 / (2 + layer)"));
}

static void add_table(random_pattern *r, const char *type, int n)
{
    for (int i = 0; i < n; i++)
        add(r, "%s%s", i ? ", " : "", *type == 'b' ? PICK(r, "true", "false") : PICK(r, "1", "3", "8", "20", "none"));
}

/* All of the names are declared; those that nothing uses bring warnings only. */
static void add_names(random_pattern *r)
{
    add(r, "  attr doc : int;  attr flag : int;\n  param W : int[%d] = [", r->q_heads);
    add_table(r, "int", r->q_heads);
    add(r, "];\n  param full : bool[layers, %d] = [", r->q_heads);
    for (int l = 0; l < r->layers; l++) {
        add(r, "%s[", l ? ", " : "");
        add_table(r, "bool", r->q_heads);
        add(r, "]");
    }
    add(r, "];\n  input sinks : f32[layers, heads];  input slopes : f32[heads];  input reach : i32[heads];\n"
           "  input table : f32[heads, 8, 8];  input near : f32[heads, 50, 50];  input rel : f32[heads, 15];\n");
}

static void add_pattern(random_pattern *r, const char *name)
{
    const bool shares = *name == 'b' && random_chance(r, 0.3);
    add(r, "  pattern %s {\n", name);
    const bool groups = r->quant && strchr(r->quant, ','); /* of a size for this shape */
    if (*name == 'b' && !shares && !groups && random_chance(r, 0.5)) { /* another shape than the model's */
        const int dim = between(r, 1, 70), dim_v = between(r, 1, r->k_is_v ? dim : 70);
        add(r, "    dim %d;  dim_v %d;  dtype %s;\n", dim, dim_v, PICK(r, "f32", "bf16", "f16"));
    }
    add(r, "    mask ");
    r->may_read_len = random_chance(r, 0.5);
    if (r->may_read_len) add(r, "causal and (");
    add_mask(r, 3);
    add(r, "%s;\n", r->may_read_len ? ")" : "");
    r->may_read_len = true; /* in scores */
    if (shares) add(r, "    kv shared(0)%s%s%s;\n", r->k_is_v ? ", k_is_v" : "", r->quant ? ", " : "", r->quant ? r->quant : "");
    for (int i = 0, n = random_chance(r, 0.5) ? between(r, 1, 3) : 0; i < n; i++) {
        add(r, "%s", i ? ", " : "    score ");
        add_score(r);
        if (i + 1 == n) add(r, ";\n");
    }
    if (random_chance(r, 0.3))
        add(r, "    row softmax(sink: %s);\n", PICK(r, "sinks[layer, h]", "0.5", "0.3 * h - 1.0", "float(q % 3)"));
    add(r, "  }\n");
}

void random_pattern_create(random_pattern *r, unsigned long long seed, bool cached)
{
    *r = (random_pattern){.seed = seed, .cached = cached};
    int32_t isa[E2E_MAX_ISAS];
    r->isa = isa[random_below(r, (int)e2e_isas(isa))];
    bool two = random_chance(r, 0.2);
    r->layers = two ? between(r, 2, 3) : between(r, 1, 2);
    add(r, "model random {\n  layers %d;\n", r->layers);
    add_sizes(r);
    add_names(r);
    add_pattern(r, "a");
    if (two) add_pattern(r, "b");
    add(r, "  schedule %s;\n}\n", !two ? "if layer == 0 then a else a" : r->layers == 2 ? "a, b" : "a, (b, a)");
}
