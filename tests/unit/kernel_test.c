/* kernel_test.c - kernel IR by itself: the reader's refusals, the verifier's rules, the interpreter's numbers, copies.
 */
#include "tests/unit/check.h"

#include "ir/kernel/interp.h"

#include <math.h>

#define HEAD                                                                                                           \
    "module \"m\" { layers 1; schedule p; input t : f32[2]; attr doc;"                                                 \
    "pattern p { heads 2 / 1; dim 1; dim_v 1; dtype f32; mask k <= q; scale 1.0; } "
#define TAIL " }"
#define LOOP(range, inside)                                                                                            \
    "%5, %6, %7 = keys " range " (%2, %3, %4) { (%8, %9, %10): %11 = load.k %12 = dot.qk %1, %11 " inside              \
    " %14 = rowmax %12, %8 %15 = decay %8, %14 %16 = exp %12, %14 %17 = rowsum %16, %9, %15 "                          \
    "%18 = load.v %19 = rescale %10, %15 %20 = accum.pv %16, %18, %19 yield %14, %17, %20 } "
#define START  "%1 = load.q %2, %3, %4 = init "
#define END    "%21, %22 = finish %5, %6, %7 store %21, %22 "
#define RANGES "ranges { may [0, q1]; must [0, q0]; live [0, 9]; } "

/* The module, or NULL with the first diagnostic in *error. */
static ir_module *read_text(arena *a, const char *t, const char **error)
{
    diags *d = ARENA_NEW(a, diags);
    d->arena = a;
    ir_module *m = ir_module_read(a, d, diags_add_source(d, "t.air", t, strlen(t)));
    *error = d->list.n ? d->list.at[0].text : "";
    CHECK_MSG(!m == (d->errors != 0), "a mistake is reported, or there is a module: %s", t);
    return m;
}

static void refuse(const char *t, const char *says)
{
    arena *a = arena_create(0, NULL, NULL);
    const char *error;
    ir_module *m = read_text(a, t, &error);
    CHECK_MSG(!m && strstr(error, says), "says \"%s\", not \"%s\", of %s", error, says, t);
    arena_destroy(a);
}

static void accept(const char *t)
{
    arena *a = arena_create(0, NULL, NULL);
    const char *error;
    CHECK_MSG(read_text(a, t, &error), "%s: %s", error, t);
    arena_destroy(a);
}

static void reader_names_the_mistake(void)
{
    refuse("", "expected 'module', found the end of the text");
    refuse("module m {}", "expected a name in quotes, found 'm'");
    refuse("module \"m\" { layers 1 }", "expected ';', found '}'");
    refuse("module \"m\" { layers 99999999999999999999; }", "the number of layers must lie between 0 and 65536");
    refuse("module \"m\" { colour 1; }", "expected layers, schedule, input");
    refuse("module \"m\" { layers 1; schedule p; }", "there is no pattern p");
    refuse("module \"m\" { layers 2; }", "the schedule has 0 of 2 layers");
    refuse(HEAD "schedule p; }", "the schedule has more than 1 layers");
    refuse(HEAD "attr doc; }", "doc is defined twice");
    refuse(HEAD "pattern p { } }", "p is defined twice");
    refuse(HEAD "input x : f64; }", "expected int or f32, found 'f64'");
    refuse(HEAD "table x : int[2] = [1, 0.5]; }", "an int table holds integers");
    refuse(HEAD "table x : int[2] = [1]; }", "a value for each element");
    refuse(HEAD "table x : int[2, 2, 2, 2, 2] = [1]; }", "at most 4 indices");
    refuse(HEAD "input x : f32[2000000000, 2000000000, 2000000000]; }", "the table is too large");
    refuse(HEAD "pattern x { dtype f8; } }", "there is no dtype f8");
    refuse(HEAD "pattern x { heads 2 / 1; dim 4; dim_v 4; mask k <= ; scale 1.0; } }", "");
    refuse(HEAD "kernel k : nobody { } }", "there is no pattern nobody");
    refuse(HEAD "kernel k : p { rows { %1 = fly } } }", "there is no op fly");
    refuse(HEAD "kernel k : p { rows { %1, %2 = load.q } } }", "load.q has 1 results, not 2");
    refuse(HEAD "kernel k : p { rows { %1 = dot.qk %1, %1 } } }", "%1 is not defined before this");
    refuse(HEAD "kernel k : p { rows { %1 = load.q %1 = load.k } } }", "%1 is defined twice");
    refuse(HEAD "kernel k : p { rows { rows { rows { rows { rows { } } } } } } }", "nested too deeply");
    refuse(HEAD "kernel k : p { schedule cpu:z80 { lanes 4; } rows { } } }", "there is no target cpu:z80");
    refuse(HEAD TAIL " more", "expected the end of the text, found 'more'");
    refuse(HEAD "\x01", "found a byte of value 1");
}

static void verifier_checks_patterns(void)
{
#define PATTERN(clauses) HEAD "pattern x { heads 2 / 1; dim 4; dim_v 4; dtype f32; " clauses " } }"
    accept(PATTERN("mask k <= q; scale t[h]; score s + float(doc.q - doc.k); sink float(q);"));
    accept(PATTERN("mask k <= q; scale 1.0; kv quant(int8);"));
    refuse(PATTERN("mask k <= q; scale 1.0; kv quant(int4);"), "expected 'int8', found 'int4'");
    refuse(PATTERN("mask k <= q; scale 1.0; kv quant(int8, 16);"), "groups must be multiples of 16 that divide dim and dim_v");
    refuse(PATTERN("mask k <= q; scale 1.0; kv ring(4);"), "expected 'quant', found 'ring'");
    refuse(PATTERN("scale 1.0;"), "the mask has no expression");
    refuse(PATTERN("mask k <= q;"), "the scale has no expression");
    refuse(PATTERN("mask k + q; scale 1.0;"), "the mask must be bool, not int");
    refuse(PATTERN("mask s < 0.0; scale 1.0;"), "the mask must not depend on the logit s");
    refuse(PATTERN("mask k < q0; scale 1.0;"), "q0, q1 and row_step belong to ranges");
    refuse(PATTERN("mask k < sweep; scale 1.0;"), "sweep belongs to kernels whose ranges have sweeps");
    refuse(PATTERN("mask k < k1; scale 1.0;"), "k0 and k1 belong to bounds of data");
    refuse(PATTERN("mask doc.k.min == q; scale 1.0;"), "an attribute's bounds belong to bounds of data");
    refuse(PATTERN("mask may#0; scale 1.0;"), "there is no such data atom here");
    refuse(PATTERN("mask k <= q; scale float(q);"), "the scale must not depend on the query's row");
    refuse(PATTERN("mask k <= q; scale 1.0; sink float(k);"), "the sink must not depend on the key");
    refuse(PATTERN("mask k <= q; scale 1.0; score q;"), "a score must be float, not int");
    refuse(HEAD "pattern x { heads 3 / 2; dim 4; dim_v 4; mask true; scale 1.0; } }",
           "query heads must be a multiple of KV heads");
    refuse(HEAD "pattern x { heads 2 / 1; dim 4; mask true; scale 1.0; } }", "dim is out of range");
}

static void verifier_checks_kernels(void)
{
#define KERNEL(flags, body) HEAD "kernel k : p " flags " { " body " } }"
    accept(KERNEL("", "rows { " START LOOP("all", "") END "}"));
    accept(KERNEL("base2 grouped", RANGES "rows { " START LOOP("full", "") END "}"));
    refuse(KERNEL("", ""), "a kernel is one rows");
    refuse(KERNEL("", "rows { }"), "a body must end in store");
    refuse(KERNEL("", "rows { " START "yield %2, %3, %4 }"), "yield must stand last in a loop");
    refuse(KERNEL("", "rows { " START "keys all (%2, %3, %4) { (%8, %9, %10): yield %8, %9, %10 } }"),
           "keys has 3 results, not 0");
    refuse(KERNEL("", "rows { " START LOOP("full", "") END "}"), "keys full and partial need ranges");
    refuse(KERNEL("", RANGES "rows { " START LOOP("all", "") END "}"), "keys all: the kernel has ranges");
    refuse(KERNEL("", RANGES "rows { " START LOOP("full", "%13 = mask %12 { k <= q }") END "}"), "mask in keys full");
    refuse(KERNEL("", RANGES "rows { " START LOOP("full", "%13 = map %12 { float(k0) }") END "}"),
           "k0 and k1 belong to bounds");
    refuse(KERNEL("", RANGES "rows { " START LOOP("full", "%13 = map %12 { 1 }") END "}"),
           "the expression of map must be float, not int");
    refuse(KERNEL("", "rows { " START LOOP("all", "%13 = load.q") END "}"), "load.q must stand in rows, outside loops");
    refuse(KERNEL("", "rows { " START LOOP("all", "%13 = rowmax %11, %8") END "}"),
           "rowmax wants a value of type s, not k");
    refuse(KERNEL("", "rows { " START LOOP("all", "") "%21, %22 = finish %5, %6, %10 store %21, %22 }"),
           "finish uses a value that is not defined before it");
    refuse(KERNEL("",
                  "rows { %1 = load.q { float(k) } "
                  "%2 = load.k %3 = dot.qk %1, %2 %4, %5 = softmax %3 %6 = load.v %7 = dot.pv %4, %6 store %7, %5 }"),
           "the expression of load.q must not depend on the key");
    refuse(KERNEL("base2", "rows { %1 = load.q %2 = load.k %3 = dot.qk %1, %2 %4, %5 = softmax %3 %6 = load.v %7 = "
                           "dot.pv %4, %6 store %7, %5 }"),
           "need the online form");
    refuse(KERNEL("split", "rows { " START LOOP("all", "") END "}"), "finish must stand in merge");
    refuse(KERNEL("split", "rows { " START LOOP("all", "") "store.part %5, %6, %7 }"),
           "a split kernel is rows and merge");
    refuse(KERNEL("", "rows { " START LOOP("all", "") "store.part %5, %6, %7 }"),
           "store.part must stand last in rows of a split kernel");
    refuse(KERNEL("", "rows { " START LOOP("all", "") END "} merge { }"),
           "merge must stand behind rows, in a split kernel");
    refuse(KERNEL("", "rows { " START LOOP("all", "") "%31 = load.k " END "}"), "load.k must stand where keys are");
    refuse(KERNEL("", "ranges { may [k, q1]; } rows { " START LOOP("full", "") END "}"),
           "ranges may must not depend on the key");
    refuse(KERNEL("", "ranges { may [0, q1, h]; } rows { " START LOOP("full", "") END "}"),
           "ranges may has a step that may not be positive");
    refuse(KERNEL("", "ranges { live [0, q1, 2]; } rows { " START LOOP("full", "") END "}"),
           "ranges live has a step");
    refuse(KERNEL("", "ranges { may [if may#0 then 0 else 1, q1]; } rows { " START LOOP("full", "") END "}"),
           "there is no such data atom");
    refuse(KERNEL("", "ranges { data { k } may { true } must { true }; } rows { " START LOOP("full", "") END "}"),
           "a data atom must be bool, not int");
}

static void verifier_checks_schedules(void)
{
#define SCHEDULED(s) KERNEL("", "schedule " s " rows { " START LOOP("all", "") END "}")
#define SIZES_FEW(lanes, vector, block, qk, few)                                                                       \
    "{ lanes " lanes "; vector " vector "; key_block " block "; qk " qk "; pv 4 x 2; narrow 4 x 8; few " few           \
    "; fetch 64; }"
#define SIZES(lanes, vector, block, qk) SIZES_FEW(lanes, vector, block, qk, "16, 4 x 2")
    accept(SCHEDULED("cpu:avx2 " SIZES("64", "8", "96", "6 x 2")));
    refuse(SCHEDULED("cpu:avx2 { vector 8; }"), "a schedule needs lanes");
    refuse(SCHEDULED("cpu:avx2 " SIZES("64", "16", "96", "6 x 2")), "the schedule's vector is not the target's");
    refuse(SCHEDULED("cpu:avx2 " SIZES("60", "8", "96", "6 x 2")), "lanes must be a multiple of vector");
    refuse(SCHEDULED("cpu:avx2 " SIZES("48", "8", "96", "6 x 2")), "a tile must have 1, 2, 4, 8 or 16 vectors");
    accept(SCHEDULED("cpu:avx2 " SIZES("128", "8", "96", "6 x 2")));
    refuse(SCHEDULED("cpu:avx2 " SIZES("256", "8", "96", "6 x 2")), "a tile must have 1, 2, 4, 8 or 16 vectors");
    refuse(SCHEDULED("cpu:avx2 " SIZES("64", "8", "100", "6 x 2")), "key_block must be a multiple");
    refuse(SCHEDULED("cpu:avx2 " SIZES("64", "8", "96", "8 x 2")), "does not fit the target's registers");
    refuse(SCHEDULED("cpu:avx2 " SIZES("64", "8", "96", "4 x 3")), "register tiles must divide");
    refuse(SCHEDULED("cpu:avx2 { lanes 64; }"), "a size of the schedule is 0");
    accept(SCHEDULED("cpu:avx2 " SIZES_FEW("64", "8", "96", "6 x 2", "16, 4 x 2")));
    refuse(SCHEDULED("cpu:avx2 " SIZES_FEW("64", "8", "96", "6 x 2", "16, 3 x 8")), "must be powers of two");
    refuse(SCHEDULED("cpu:avx2 " SIZES_FEW("64", "8", "96", "6 x 2", "16, 2 x 2")), "that fill vectors");
    refuse(SCHEDULED("cpu:avx2 " SIZES_FEW("64", "8", "96", "6 x 2", "16, 4 x 4")), "register tile of few rows");
    refuse(SCHEDULED("cpu:avx2 " SIZES_FEW("64", "8", "96", "6 x 2", "65, 4 x 2")), "register tile of few rows");
    refuse(SCHEDULED("cpu:avx512 { lanes 64; vector 16; key_block 68; qk 4 x 2; pv 4 x 2; narrow 17 x 8; few 16, 4 x 4; fetch 64; }"),
           "a narrow tile has more than 16 keys");
    refuse(SCHEDULED("cpu:avx512 { lanes 64; vector 16; key_block 64; qk 4 x 2; pv 4 x 2; narrow 4 x 8; few 16, 16 x 1; fetch 64; }"),
           "a tile of few rows has more than 8");
    refuse(
        SCHEDULED("cpu:avx512bf16 { lanes 64; vector 16; key_block 64; qk 4 x 2; pv 4 x 2; narrow 4 x 8; few 16, 4 x 4; "
                  "fetch 64; dot_bf16; }"),
        "dot_bf16 needs a target that has it and bf16 storage");
    schedule pairs = {.target = TARGET_CPU_AVX512BF16, .lanes = 64, .vector = 16, .key_block = 60, .qk_keys = 4, .qk_vectors = 4, .pv_dims = 3,
                      .pv_vectors = 4, .narrow_keys = 5, .narrow_dims = 7, .few_lanes = 16, .few_rows = 4, .few_keys = 4, .fetch = 1, .dot_bf16 = true};
    shape s = {1, 1, 16, 16, DTYPE_BF16, KV_AS_GIVEN, 0};
    CHECK(!schedule_verify(&pairs, &s));
    pairs.qk_keys = 3;
    const char *wrong = schedule_verify(&pairs, &s);
    CHECK(wrong && strstr(wrong, "are even where bf16 is multiplied in pairs"));
    pairs.dot_bf16 = false;
    s.type = DTYPE_F32;
    CHECK(!schedule_verify(&pairs, &s));
}

/* ---- the interpreter, by hand ---------------------------------------------------------------------------- */

typedef struct run {
    double o[8], lse[8]; /* 4 queries, 2 heads, dim 1 */
    const char *error;
} run;

#define UNFUSED(map, mask, sink)                                                                                       \
    HEAD "kernel k : p { rows { %1 = load.q %2 = load.k %3 = dot.qk %1, %2 %4 = map %3 { " map                         \
         " } %5 = mask %4 { " mask " } %6, %7 = softmax %5 " sink " %8 = load.v %9 = dot.pv %6, %8 store %9, %7 } } }"

/* 4 queries of value 1, keys 0, ln 2, ln 2, 0: weights 1, 2, 2, 1; values 1, 10, 100, 1000. */
static run run_kernel(const char *t, double poison, const interp_options *o)
{
    arena *a = arena_create(0, NULL, NULL);
    const double q[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    double k[4] = {0, log(2), log(2), poison}, v[4] = {1, 10, 100, poison != 0 ? poison : 1000};
    const int32_t doc[4] = {0, 0, 1, 1};
    const int32_t *const attrs[1] = {doc};
    run r = {0};
    interp_sequence s = {
        .n_q = 4, .n_keys = 4, .q = q, .k = k, .v = v, .q_attr = attrs, .k_attr = attrs, .o = r.o, .lse = r.lse};
    ir_module *m = read_text(a, t, &r.error);
    CHECK_MSG(m, "%s", r.error);
    r.error = m ? interp_run(m->kernels.at[0], &s, 1, o) : "does not read";
    if (r.error) {
        static char kept[200];
        snprintf(kept, sizeof kept, "%s", r.error);
        r.error = kept;
    }
    arena_destroy(a);
    return r;
}

static bool is_near(double a, double b) { return a == b || fabs(a - b) < 1e-12 * (1 + fabs(b)); }

static void interpreter_computes_attention(void)
{
    run r = run_kernel(UNFUSED("s", "k <= q", ""), 0, NULL);
    const double o[4] = {1, 21.0 / 3, 221.0 / 5, 1221.0 / 6}, total[4] = {1, 3, 5, 6};
    for (int i = 0; i < 8; i++) CHECK(is_near(r.o[i], o[i / 2]) && is_near(r.lse[i], log(total[i / 2])));
    r = run_kernel(UNFUSED("s", "doc.q == doc.k", ""), 0, NULL);
    CHECK(is_near(r.o[0], 21.0 / 3) && is_near(r.o[7], 1200.0 / 3));
    r = run_kernel(UNFUSED("s", "k <= q", "{ 0.0 }"), 0, NULL);
    CHECK(is_near(r.o[0], 0.5) && is_near(r.lse[0], log(2)));
    r = run_kernel(UNFUSED("s * float(h)", "true", ""), 0, NULL); /* head 0: all weights 1 */
    CHECK(is_near(r.o[0], 1111.0 / 4) && is_near(r.o[1], 1221.0 / 6));
}

static void rows_without_keys_are_zero(void)
{
    run r = run_kernel(UNFUSED("s", "k < q and 1 < q", ""), 0, NULL);
    CHECK(r.o[0] == 0 && r.o[3] == 0 && r.lse[0] == -INFINITY && is_near(r.o[4], 21.0 / 3));
    r = run_kernel(UNFUSED("s", "false", "{ 2.5 }"), 0, NULL);
    CHECK(r.o[0] == 0 && r.lse[0] == 2.5);
    r = run_kernel(UNFUSED("s", "false", "{ -inf }"), 0, NULL);
    CHECK(r.o[0] == 0 && r.lse[0] == -INFINITY);
}

static void masked_nan_stays_and_visible_nan_shows(void)
{
    const interp_options tiles = {.row_tile = 3, .key_tile = 1};
    run r = run_kernel(UNFUSED("s", "k <= q", ""), NAN, NULL);
    CHECK(is_near(r.o[5], 221.0 / 5) && isnan(r.o[6]) && isnan(r.lse[7]));
    r = run_kernel(HEAD "kernel k : p { rows { " START LOOP("all", "") END "} } }", NAN,
                   &tiles); /* no mask: all see the last key */
    CHECK(isnan(r.o[0]) && isnan(r.o[7]) && isnan(r.lse[0]));
    r = run_kernel(HEAD "kernel k : p { ranges { may [0, 2]; must [0, 2]; } rows { " START LOOP("full", "") END "} } }",
                   NAN, &tiles);
    CHECK(is_near(r.o[0], 221.0 / 5) && is_near(r.lse[7], log(5)));
}

static void the_sink_is_counted_once(void)
{
    const interp_options parts = {.parts = 4, .key_tile = 1};
    const char *t = HEAD "kernel k : p split { rows { %1 = load.q %2, %3, %4 = init { 0.0 } " LOOP(
        "all", "") "store.part %5, %6, %7 } merge { %31, %32, %33 = load.parts %34, %35 = finish %31, %32, %33 store "
                   "%34, %35 } } }";
    run r = run_kernel(t, 0, &parts);
    for (int i = 0; i < 8; i++) CHECK(is_near(r.o[i], 1221.0 / 7) && is_near(r.lse[i], log(7)));
}

static void interpreter_refuses_bad_calls(void)
{
    run r = run_kernel(UNFUSED("s + t[h]", "true", ""), 0, NULL);
    CHECK(r.error && strstr(r.error, "input t has no values"));
    r = run_kernel(UNFUSED("s", "true", ""), 0, &(interp_options){.layer = 1});
    CHECK(r.error && strstr(r.error, "layer 1 does not exist"));
}

/* ---- copies ---------------------------------------------------------------------------------------------- */

static const char *print_kernel(arena *a, const kernel *k)
{
    text t = {.arena = a};
    kernel_print(k, &t);
    return text_get(&t);
}

static void clones_are_independent(void)
{
    arena *a = arena_create(0, NULL, NULL);
    const char *error;
    ir_module *m = read_text(a, KERNEL("", "rows { " START LOOP("all", "") END "}"), &error);
    kernel *k = m->kernels.at[0], *copy = kernel_clone(m, k, "k");
    const char *before = print_kernel(a, k);
    CHECK_STR(print_kernel(a, copy), before);
    CHECK(!kernel_verify(copy) && m->kernels.n == 1);
    kblock_remove(copy->body->ops.at[0]->body->ops.at[2]->body, 2);
    kernel_value(copy, 'r');
    CHECK_STR(print_kernel(a, k), before);
    CHECK(kernel_verify(copy) && strstr(kernel_verify(copy), "not defined before"));
    arena_destroy(a);
}

/* A loop beside the loop: other values, the same operands. */
static void op_copies_have_their_own_values(void)
{
    arena *a = arena_create(0, NULL, NULL);
    const char *error;
    ir_module *m = read_text(a, KERNEL("", RANGES "rows { " START LOOP("full", "") END "}"), &error);
    kernel *k = m->kernels.at[0];
    kblock *rows = k->body->ops.at[0]->body;
    const kop *loop = rows->ops.at[2];
    kop *copy = kop_append_copy(k, rows, loop);
    CHECK(copy->operand[0] == loop->operand[0] && copy->result[0] != loop->result[0]);
    CHECK(copy->body->arg[0] != loop->body->arg[0] && copy->body->ops.at[2]->operand[1] == copy->body->arg[0]);
    CHECK(kernel_verify(k) && strstr(kernel_verify(k), "store must stand last in rows"));
    arena_destroy(a);
}

static void tables_answer(void)
{
    CHECK(target_parse("cpu:avx2") == TARGET_CPU_AVX2 && target_parse("avx2") == TARGET_NONE &&
          target_parse("") == TARGET_NONE);
    CHECK_STR(target_get(TARGET_CPU_BASELINE)->name, "cpu:baseline");
    for (int c = 0; c < OP_COUNT; c++) CHECK(kop_get_info((kop_code)c)->name[0]);
}

int main(void)
{
    RUN(reader_names_the_mistake);
    RUN(verifier_checks_patterns);
    RUN(verifier_checks_kernels);
    RUN(verifier_checks_schedules);
    RUN(interpreter_computes_attention);
    RUN(rows_without_keys_are_zero);
    RUN(masked_nan_stays_and_visible_nan_shows);
    RUN(the_sink_is_counted_once);
    RUN(interpreter_refuses_bad_calls);
    RUN(clones_are_independent);
    RUN(op_copies_have_their_own_values);
    RUN(tables_answer);
    return CHECK_DONE();
}
