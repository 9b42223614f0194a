/* runtime_test.c - the runtime's promises beside its numbers: statuses and sentences for wrong arguments, nothing
 * leaked when memory ends at any point, descriptors of other versions, instruction sets, threads, calls in use, legal
 * splits. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include "fake_module.h"

#include <pthread.h>
#include <stddef.h>
#include <time.h>

static const fake_shape small = {16, 4, 8, 4, 4, 2};
/* ---- an allocator that counts and fails on demand ------------------------------------------------------------- */

typedef struct meter {
    int64_t bytes, calls, fail_at; /* fail_at: number of the call that fails; 0: none */
} meter;

static void *meter_alloc(void *ctx, size_t size, size_t align)
{
    meter *m = ctx;
    if (++m->calls == m->fail_at) return NULL;
    m->bytes += (int64_t)size;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void meter_free(void *ctx, void *p, size_t size)
{
    ((meter *)ctx)->bytes -= (int64_t)size;
    free(p);
}

/* ---- a call that is right, for others to spoil ---------------------------------------------------------------- */

enum { TOKENS = 70, SEQS = 2 };

static struct good {
    attn_plan_config config;
    attn_tensors tensors;
    int64_t lens[SEQS], k_lens[SEQS], positions[SEQS];
    int32_t attr[TOKENS], table[64];
    const int32_t *attrs[1];
    int64_t q_shape[4], k_shape[4], v_shape[4], o_shape[4], lse_shape[4], table_shape[2];
    int64_t q_strides[4], o_strides[4], lse_strides[4], table_strides[2];
    DLTensor q, k, v, o, lse, blocks;
    const DLTensor *inputs[1];
    float q_data[TOKENS * 4 * FAKE_DIM + 8], k_data[TOKENS * 2 * FAKE_DIM], v_data[TOKENS * 2 * FAKE_DIM_V],
        o_data[TOKENS * 4 * FAKE_DIM_V + 8], lse_data[TOKENS * 4];
} g;

static void set_tensor(DLTensor *t, float *data, int64_t *shape, int64_t heads, int64_t dim)
{
    shape[0] = TOKENS, shape[1] = heads, shape[2] = dim;
    *t = (DLTensor){
        .data = data, .device = {kDLCPU, 0}, .ndim = dim ? 3 : 2, .dtype = {kDLFloat, 32, 1}, .shape = shape};
}

static void set_good(const fake_mask *mask)
{
    memset(&g, 0, sizeof g);
    unsigned long long state = 7;
    for (size_t i = 0; i < sizeof g.q_data / sizeof *g.q_data; i++)
        g.q_data[i] = (float)(check_random(&state) % 1000) / 1000;
    for (size_t i = 0; i < sizeof g.k_data / sizeof *g.k_data; i++)
        g.k_data[i] = (float)(check_random(&state) % 1000) / 1000;
    for (size_t i = 0; i < sizeof g.v_data / sizeof *g.v_data; i++)
        g.v_data[i] = (float)(check_random(&state) % 1000) / 1000;
    for (int i = 0; i < TOKENS; i++) g.attr[i] = i / 9 - 1;
    g.lens[0] = g.k_lens[0] = 30, g.lens[1] = g.k_lens[1] = 40;
    g.attrs[0] = g.attr;
    g.config = (attn_plan_config){.size = sizeof g.config, .n_seqs = SEQS, .q_lens = g.lens, .isa = -1, .workers = 4};
    set_tensor(&g.q, g.q_data, g.q_shape, 4, FAKE_DIM);
    set_tensor(&g.k, g.k_data, g.k_shape, 2, FAKE_DIM);
    set_tensor(&g.v, g.v_data, g.v_shape, 2, FAKE_DIM_V);
    set_tensor(&g.o, g.o_data, g.o_shape, 4, FAKE_DIM_V);
    set_tensor(&g.lse, g.lse_data, g.lse_shape, 4, 0);
    g.table_shape[0] = g.table_shape[1] = 8;
    g.table[0] = 1;
    g.blocks =
        (DLTensor){.data = g.table, .device = {kDLCPU, 0}, .ndim = 2, .dtype = {kDLInt, 32, 1}, .shape = g.table_shape};
    g.inputs[0] = &g.blocks;
    g.tensors = (attn_tensors){.size = sizeof g.tensors, .q = &g.q, .k = &g.k, .v = &g.v, .o = &g.o, .lse = &g.lse};
    if (mask->attr) g.config.q_attrs = g.attrs;
    if (mask->table) g.config.inputs = g.inputs;
}

static attn_module *open_fake(const fake_mask *mask, const attn_allocator *a)
{
    attn_module *m = NULL;
    attn_error err = {""};
    if (attn_module_open(fake_make(mask, small), a, &m, &err)) printf("%s\n", err.text), exit(1);
    set_good(mask);
    return m;
}

/* ---- wrong arguments ------------------------------------------------------------------------------------------ */

static int64_t no_lens[SEQS] = {30, -1}, long_lens[SEQS] = {30, ((int64_t)1 << 30) + 1},
               far[SEQS] = {0, ((int64_t)1 << 30) - 39};
static const struct newer_config {
    attn_plan_config c;
    int64_t more;
} newer_config = {.more = 1};
static const DLTensor *no_inputs[1];
static const int32_t *no_attrs[1];

static void spoil_size(void) { g.config.size = 4; }
static void spoil_layer(void) { g.config.layer = 3; }
static void spoil_isa(void) { g.config.isa = ATTN_ISA_AVX2; }
static void spoil_isa_name(void) { g.config.isa = 99; }
static void spoil_lens(void) { g.config.q_lens = NULL; }
static void spoil_negative(void) { g.config.q_lens = no_lens; }
static void spoil_k_negative(void) { g.config.k_lens = no_lens; }
static void spoil_long(void) { g.config.q_lens = long_lens; }
static void spoil_k_long(void) { g.config.k_lens = long_lens; }
static void spoil_fewer_keys(void) { g.config.k_lens = g.k_lens, g.k_lens[1] = 39; }
static void spoil_position(void) { g.config.positions = no_lens; }
static void spoil_far(void) { g.config.positions = far; }
static void spoil_workers(void) { g.config.workers = 1u << 20; }
static void spoil_allocator(void)
{
    static const attn_allocator half = {.alloc = meter_alloc};
    g.config.allocator = &half;
}
static void spoil_attrs(void) { g.config.q_attrs = NULL; }
static void spoil_attr(void) { g.config.q_attrs = no_attrs; }
static void spoil_k_attr(void) { g.config.k_attrs = no_attrs; }
static void spoil_k_attrs(void) { g.config.k_lens = g.k_lens, g.k_lens[0] = 31; }
static void spoil_inputs(void) { g.config.inputs = NULL; }
static void spoil_input(void) { g.config.inputs = no_inputs; }
static void spoil_input_type(void) { g.blocks.dtype = (DLDataType){kDLFloat, 32, 1}; }
static void spoil_input_rank(void) { g.blocks.ndim = 1; }
static void spoil_input_shape(void) { g.table_shape[1] = 7; }
static void spoil_input_strides(void)
{
    g.blocks.strides = g.table_strides, g.table_strides[0] = 1, g.table_strides[1] = 8;
}

static const struct wrong_plan {
    const char *what, *mask;
    void (*spoil)(void);
    attn_status status;
    const char *says;
} wrong_plans[] = {
    {"size", "causal", spoil_size, ATTN_E_VERSION, "attn_plan_config.size is 4"},
    {"layer", "causal", spoil_layer, ATTN_E_ARGUMENT, "3 layers"},
    {"isa", "causal", spoil_isa, ATTN_E_ISA, "avx2"},
    {"isa name", "causal", spoil_isa_name, ATTN_E_ISA, "unknown"},
    {"no lengths", "causal", spoil_lens, ATTN_E_ARGUMENT, "q_lens is NULL"},
    {"negative length", "causal", spoil_negative, ATTN_E_ARGUMENT, "q_lens[1] is -1"},
    {"negative keys", "causal", spoil_k_negative, ATTN_E_ARGUMENT, "k_lens[1] is -1"},
    {"too long", "causal", spoil_long, ATTN_E_ARGUMENT, "q_lens[1]"},
    {"too many keys", "causal", spoil_k_long, ATTN_E_ARGUMENT, "k_lens[1]"},
    {"fewer keys than queries", "causal", spoil_fewer_keys, ATTN_E_ARGUMENT, "at which positions"},
    {"negative position", "causal", spoil_position, ATTN_E_ARGUMENT, "positions[1] is -1"},
    {"position too far", "causal", spoil_far, ATTN_E_ARGUMENT, "positions[1]"},
    {"workers", "causal", spoil_workers, ATTN_E_ARGUMENT, "workers"},
    {"allocator", "causal", spoil_allocator, ATTN_E_ARGUMENT, "lacks free"},
    {"no attributes", "documents", spoil_attrs, ATTN_E_MISSING, "'doc'"},
    {"attribute NULL", "documents", spoil_attr, ATTN_E_MISSING, "'doc' of the queries"},
    {"key attribute NULL", "documents", spoil_k_attr, ATTN_E_MISSING, "'doc' of the keys"},
    {"key attributes of other length", "documents", spoil_k_attrs, ATTN_E_MISSING, "give k_attrs"},
    {"no inputs", "blocks", spoil_inputs, ATTN_E_MISSING, "run-time inputs"},
    {"input NULL", "blocks", spoil_input, ATTN_E_MISSING, "'blocks'"},
    {"input type", "blocks", spoil_input_type, ATTN_E_DTYPE, "blocks: is f32"},
    {"input rank", "blocks", spoil_input_rank, ATTN_E_SHAPE, "1 dimensions"},
    {"input shape", "blocks", spoil_input_shape, ATTN_E_SHAPE, "shape[1] is 7"},
    {"input strides", "blocks", spoil_input_strides, ATTN_E_STRIDE, "not contiguous"},
};

static void wrong_plans_are_refused(void)
{
    for (size_t i = 0; i < sizeof wrong_plans / sizeof *wrong_plans; i++) {
        const struct wrong_plan *w = &wrong_plans[i];
        attn_module *m = open_fake(fake_mask_named(w->mask), NULL);
        attn_plan *none = (attn_plan *)&g, *p = none;
        attn_error err = {""};
        w->spoil();
        attn_status s = attn_plan_create(m, &g.config, &p, &err);
        CHECK_MSG(s == w->status, "%s: status %d (%s)", w->what, s, err.text);
        CHECK_MSG(strstr(err.text, w->says) != NULL, "%s: it says: %s", w->what, err.text);
        CHECK(p == none);
        CHECK(attn_plan_create(m, &g.config, &p, NULL) == w->status);
        attn_module_destroy(m);
    }
    attn_module *m = open_fake(fake_mask_named("causal"), NULL);
    attn_plan *p;
    attn_error err = {""};
    CHECK(attn_plan_create(NULL, &g.config, &p, &err) == ATTN_E_ARGUMENT && err.text[0]);
    CHECK(attn_plan_create(m, NULL, &p, &err) == ATTN_E_ARGUMENT);
    CHECK(attn_plan_create(m, &g.config, NULL, &err) == ATTN_E_ARGUMENT);
    struct newer_config newer = newer_config;
    newer.c = g.config;
    newer.c.size = sizeof newer;
    CHECK(attn_plan_create(m, &newer.c, &p, &err) == ATTN_E_VERSION);
    newer.more = 0;
    CHECK(attn_plan_create(m, &newer.c, &p, &err) == ATTN_OK);
    attn_plan_destroy(p);
    g.config.size = offsetof(attn_plan_config, q_attrs); /* of an older caller */
    CHECK(attn_plan_create(m, &g.config, &p, &err) == ATTN_OK);
    attn_plan_destroy(p);
    attn_module_destroy(m);
}

static void spoil_t_size(void) { g.tensors.size = 0; }
static void spoil_t_layer(void) { g.tensors.layer = 3; }
static void spoil_t_other_layer(void) { g.tensors.layer = 1; }
static void spoil_q(void) { g.tensors.q = NULL; }
static void spoil_q_data(void) { g.q.data = NULL; }
static void spoil_q_device(void) { g.q.device.device_type = kDLCUDA; }
static void spoil_q_type(void) { g.q.dtype.bits = 64; }
static void spoil_q_vector(void) { g.q.dtype.lanes = 4; }
static void spoil_q_rank(void) { g.q.ndim = 2; }
static void spoil_q_tokens(void) { g.q_shape[0] = TOKENS - 1; }
static void spoil_q_heads(void) { g.q_shape[1] = 2; }
static void spoil_q_dim(void) { g.q_shape[2] = 2; }
static void spoil_q_shape(void) { g.q.shape = NULL; }
static void spoil_q_negative(void) { g.q_shape[0] = -1; }
static void spoil_q_offset(void) { g.q.byte_offset = 2; }
static void strides_of_q(int64_t a, int64_t b, int64_t c)
{
    g.q.strides = g.q_strides;
    g.q_strides[0] = a, g.q_strides[1] = b, g.q_strides[2] = c;
}
static void spoil_q_last(void) { strides_of_q(12, 3, 2); }
static void spoil_q_reversed(void) { strides_of_q(-12, 3, 1); }
static void spoil_q_huge(void) { strides_of_q(INT64_MAX / 2, 3, 1); }
static void spoil_k_heads(void) { g.k_shape[1] = 4; }
static void spoil_v_dim(void) { g.v_shape[2] = 3; }
static void spoil_k_type(void) { g.k.dtype = (DLDataType){kDLFloat, 16, 1}; }
static void spoil_o_type(void) { g.o.dtype = (DLDataType){kDLBfloat, 16, 1}; }
static void spoil_o_overlap(void)
{
    g.o.strides = g.o_strides;
    g.o_strides[0] = 7, g.o_strides[1] = 2, g.o_strides[2] = 1;
}
static void spoil_o_broadcast(void)
{
    spoil_o_overlap();
    g.o_strides[0] = 0;
}
static void spoil_lse_heads(void) { g.lse_shape[1] = 3; }
static void spoil_lse_rank(void) { g.lse.ndim = 1; }
static void spoil_lse_overlap(void) { g.lse.strides = g.lse_strides, g.lse_strides[0] = 3, g.lse_strides[1] = 1; }
static void batch_of_q(int64_t seqs, int64_t tokens)
{
    g.q.ndim = 4;
    g.q_shape[0] = seqs, g.q_shape[1] = tokens, g.q_shape[2] = 4, g.q_shape[3] = FAKE_DIM;
}
static void spoil_batch(void) { batch_of_q(3, 1); }
static void spoil_batch_tokens(void) { batch_of_q(2, 35); }
static void spoil_call_input(void) { g.tensors.inputs = no_inputs; }

static const struct wrong_plan wrong_calls[] = {
    {"size", "causal", spoil_t_size, ATTN_E_VERSION, "attn_tensors.size is 0"},
    {"layer", "causal", spoil_t_layer, ATTN_E_ARGUMENT, "3 layers"},
    {"other layer", "layers", spoil_t_other_layer, ATTN_E_ARGUMENT, "the plan is for layer 0, not 1"},
    {"q NULL", "causal", spoil_q, ATTN_E_ARGUMENT, "q is NULL"},
    {"q data", "causal", spoil_q_data, ATTN_E_ARGUMENT, "its data is NULL"},
    {"q device", "causal", spoil_q_device, ATTN_E_DEVICE, "device type 2"},
    {"q type", "causal", spoil_q_type, ATTN_E_DTYPE, "q: is f64"},
    {"q vector type", "causal", spoil_q_vector, ATTN_E_DTYPE, "4 lanes"},
    {"q rank", "causal", spoil_q_rank, ATTN_E_SHAPE, "2 dimensions"},
    {"q tokens", "causal", spoil_q_tokens, ATTN_E_SHAPE, "q: shape[0] is 69, not 70"},
    {"q heads", "causal", spoil_q_heads, ATTN_E_SHAPE, "query heads"},
    {"q dim", "causal", spoil_q_dim, ATTN_E_SHAPE, "q: shape[2] is 2, not 3"},
    {"q shape", "causal", spoil_q_shape, ATTN_E_ARGUMENT, "shape is NULL"},
    {"q negative", "causal", spoil_q_negative, ATTN_E_SHAPE, "shape[0] is -1"},
    {"q offset", "causal", spoil_q_offset, ATTN_E_STRIDE, "multiple of its element"},
    {"q last", "causal", spoil_q_last, ATTN_E_STRIDE, "contiguous"},
    {"q reversed", "causal", spoil_q_reversed, ATTN_E_STRIDE, "negative"},
    {"q huge", "causal", spoil_q_huge, ATTN_E_STRIDE, "huge"},
    {"k heads", "causal", spoil_k_heads, ATTN_E_SHAPE, "KV heads"},
    {"k type", "causal", spoil_k_type, ATTN_E_DTYPE, "k: is f16"},
    {"v dim", "causal", spoil_v_dim, ATTN_E_SHAPE, "v: shape[2]"},
    {"o type", "causal", spoil_o_type, ATTN_E_DTYPE, "o: is bf16"},
    {"o overlap", "causal", spoil_o_overlap, ATTN_E_STRIDE, "share memory"},
    {"o broadcast", "causal", spoil_o_broadcast, ATTN_E_STRIDE, "share memory"},
    {"lse heads", "causal", spoil_lse_heads, ATTN_E_SHAPE, "lse: shape[1]"},
    {"lse rank", "causal", spoil_lse_rank, ATTN_E_SHAPE, "lse: has 1"},
    {"lse overlap", "causal", spoil_lse_overlap, ATTN_E_STRIDE, "lse: is written"},
    {"batch", "causal", spoil_batch, ATTN_E_SHAPE, "sequences of the plan"},
    {"batch tokens", "causal", spoil_batch_tokens, ATTN_E_SHAPE, "sequence 1 of the plan has 40"},
    {"call input", "blocks", spoil_call_input, ATTN_E_MISSING, "'blocks'"},
};

static void wrong_calls_are_refused(void)
{
    for (size_t i = 0; i < sizeof wrong_calls / sizeof *wrong_calls; i++) {
        const struct wrong_plan *w = &wrong_calls[i];
        attn_module *m = open_fake(fake_mask_named(w->mask), NULL);
        attn_plan *p = NULL;
        attn_error err = {""};
        CHECK(attn_plan_create(m, &g.config, &p, &err) == ATTN_OK);
        struct good before = g;
        w->spoil();
        attn_status s = attn_forward(p, &g.tensors, NULL, &err);
        CHECK_MSG(s == w->status, "%s: status %d (%s)", w->what, s, err.text);
        CHECK_MSG(strstr(err.text, w->says) != NULL, "%s: it says: %s", w->what, err.text);
        CHECK(attn_begin(p, &g.tensors, NULL) == w->status);
        CHECK(fake.items == 0);
        g = before;
        CHECK_MSG(attn_forward(p, &g.tensors, NULL, &err) == ATTN_OK, "%s: afterwards: %s", w->what, err.text);
        attn_plan_destroy(p);
        attn_module_destroy(m);
    }
    attn_error err = {""};
    CHECK(attn_forward(NULL, &g.tensors, NULL, &err) == ATTN_E_ARGUMENT);
    attn_plan_destroy(NULL), attn_module_destroy(NULL), attn_pool_destroy(NULL);
    attn_pool *pool;
    CHECK(attn_pool_create(0, NULL, &pool, &err) == ATTN_E_ARGUMENT);
}

/* What the mask does not read may be missing from the plan, but not from the call. */
static void inputs_of_the_call(void)
{
    static fake_mask mask;
    mask = *fake_mask_named("causal");
    mask.table = true; /* an input that only scores would read */
    attn_module *m = open_fake(&mask, NULL);
    attn_plan *p = NULL;
    attn_error err = {""};
    g.config.inputs = NULL;
    CHECK(attn_plan_create(m, &g.config, &p, &err) == ATTN_OK);
    CHECK(attn_forward(p, &g.tensors, NULL, &err) == ATTN_E_MISSING);
    CHECK(strstr(err.text, "neither to the plan nor to the call") != NULL);
    g.tensors.inputs = g.inputs;
    CHECK(attn_forward(p, &g.tensors, NULL, &err) == ATTN_OK);
    attn_plan_destroy(p);
    attn_module_destroy(m);
}

/* ---- memory --------------------------------------------------------------------------------------------------- */

/* Everything that takes memory, once. Returns the first status that is not OK; out of memory must leave nothing behind.
 */
static attn_status use_everything(const attn_module_desc *desc, const attn_allocator *a)
{
    attn_module *m = NULL;
    attn_plan *p = NULL;
    attn_pool *pool = NULL;
    attn_error err = {""};
    attn_plan_stats stats = {.size = sizeof stats};
    g.config.allocator = a;
    attn_status s = attn_module_open(desc, a, &m, &err);
    if (!s) s = attn_plan_create(m, &g.config, &p, &err);
    if (!s) s = attn_pool_create(2, a, &pool, &err);
    CHECK(!s || (s == ATTN_E_MEMORY && err.text[0]));
    int64_t before = ((meter *)a->ctx)->calls;
    if (!s) s = attn_forward(p, &g.tensors, pool, &err);
    if (p) CHECK_MSG(((meter *)a->ctx)->calls == before, "%s", "running allocates");
    if (!s) s = attn_plan_get_stats(p, &stats);
    if (!s) s = attn_split_check(m, 0, 9, 18, g.attrs, g.inputs, &err);
    if (s == ATTN_E_SPLIT) s = ATTN_OK;
    attn_pool_destroy(pool);
    attn_plan_destroy(p);
    attn_module_destroy(m);
    return s;
}

static void nothing_leaks(void)
{
    static const char *const names[] = {"causal", "documents", "blocks", "heads"};
    for (int i = 0; i < 4; i++) {
        const attn_module_desc *desc = fake_make(fake_mask_named(names[i]), small);
        set_good(fake_mask_named(names[i]));
        g.config.max_parts = 3;
        meter count = {0};
        const attn_allocator a = {&count, meter_alloc, meter_free};
        attn_status s = ATTN_E_MEMORY;
        int64_t n = 0;
        while (s == ATTN_E_MEMORY && n < 10000) {
            count = (meter){.fail_at = ++n};
            s = use_everything(desc, &a);
            CHECK_MSG(count.bytes == 0, "%lld bytes left when allocation %lld fails", (long long)count.bytes,
                      (long long)n);
        }
        CHECK_MSG(s == ATTN_OK && n > 20, "%s: status %d after %lld", names[i], s, (long long)n);
        CHECK(fake.errors == 0);
    }
}

/* A kind whose values lie in its keys, against one that gets them as values. */
static void values_in_keys(void)
{
    static const fake_model latent = {"latent", 3, 1, {0}, {{.mask = "causal", .flags = ATTN_KIND_K_IS_V}}};
    static float want[TOKENS * 4 * FAKE_DIM_V];
    attn_module *m = open_fake(fake_mask_named("causal"), NULL);
    attn_plan *p = NULL;
    attn_error err = {""};
    for (int i = 0; i < TOKENS * 2; i++)
        for (int d = 0; d < FAKE_DIM_V; d++) g.v_data[i * FAKE_DIM_V + d] = g.k_data[i * FAKE_DIM + d];
    CHECK(!attn_plan_create(m, &g.config, &p, &err) && !attn_forward(p, &g.tensors, NULL, &err));
    memcpy(want, g.o_data, sizeof want);
    memset(g.o_data, 0, sizeof g.o_data);
    attn_plan_destroy(p), attn_module_destroy(m);

    CHECK(!attn_module_open(fake_make_model(&latent, small), NULL, &m, &err));
    CHECK(!attn_plan_create(m, &g.config, &p, &err));
    CHECK(attn_forward(p, &g.tensors, NULL, &err) == ATTN_E_ARGUMENT && strstr(err.text, "v must be NULL"));
    g.tensors.v = NULL;
    CHECK(!attn_forward(p, &g.tensors, NULL, &err) && !memcmp(want, g.o_data, sizeof want));
    g.tensors.k = NULL;
    CHECK(attn_forward(p, &g.tensors, NULL, &err) == ATTN_E_ARGUMENT && strstr(err.text, "k is NULL"));
    attn_plan_destroy(p), attn_module_destroy(m);
    CHECK(fake.errors == 0);
}

/* Without a cache a kind that shares keys gets those of the other layer; no text is longer than its pattern says. */
static void shared_and_limited(void)
{
    static const fake_model model = {
        "shared",
        3,
        2,
        {0, 0, 1},
        {{.mask = "causal", .max_len = 40}, {.mask = "chunk", .flags = ATTN_KIND_KV_SHARED, .max_len = 39}}};
    attn_module *m;
    attn_plan *p = NULL;
    attn_error err = {""};
    set_good(fake_mask_named("causal"));
    CHECK(!attn_module_open(fake_make_model(&model, small), NULL, &m, &err));
    g.config.layer = 2;
    CHECK(attn_plan_create(m, &g.config, &p, &err) == ATTN_E_ARGUMENT);
    CHECK(strstr(err.text, "sequence 1 has 40 tokens; 'chunk' says max_len 39") != NULL);
    g.lens[1] = 39, g.q_shape[0] = g.k_shape[0] = g.v_shape[0] = g.o_shape[0] = g.lse_shape[0] = TOKENS - 1;
    g.tensors.layer = 2;
    CHECK(!attn_plan_create(m, &g.config, &p, &err) && !attn_forward(p, &g.tensors, NULL, &err));
    attn_plan_destroy(p), attn_module_destroy(m);
    CHECK(fake.errors == 0);
}

/* ---- descriptors and instruction sets ------------------------------------------------------------------------- */

static void other_versions(void)
{
    attn_module *m = NULL;
    attn_error err = {""};
    attn_module_desc *d = (attn_module_desc *)fake_make(fake_mask_named("causal"), small);
    d->size =
        offsetof(attn_module_desc, attrs); /* an older attnc, whose structs end here: the rest is not to be looked at */
    d->attrs = (const char *const *)1;
    fake.kernel.size = offsetof(attn_kernel_desc, schedule);
    fake.kernel.schedule = (const char *)1;
    CHECK_MSG(attn_module_open(d, NULL, &m, &err) == ATTN_OK, "%s", err.text);
    CHECK(attn_module_describe(m)->attrs == NULL && attn_module_kernel(m, 0)->schedule == NULL);
    attn_module_destroy(m);

    struct {
        attn_module_desc d;
        int64_t more;
    } newer = {*fake_make(fake_mask_named("causal"), small), 5};
    newer.d.size = sizeof newer;
    CHECK(attn_module_open(&newer.d, NULL, &m, &err) == ATTN_OK);
    CHECK(attn_module_kernel(m, 2) != NULL && attn_module_kernel(m, 3) == NULL);
    attn_module_destroy(m);
}

static void broken_descriptors(void)
{
    static const uint16_t wrong_groups[] = {0, 1, 1, 0, 0, 2}; /* of 3 layers, 2 heads */
    attn_module *m = (attn_module *)&g;
    attn_error err;
#define BROKEN(change, status)                                                                                         \
    do {                                                                                                               \
        attn_module_desc *d = (attn_module_desc *)fake_make(fake_mask_named("documents"), small);                      \
        change;                                                                                                        \
        err.text[0] = 0;                                                                                               \
        CHECK(attn_module_open(d, NULL, &m, &err) == (status));                                                        \
        CHECK(err.text[0] && m == (attn_module *)&g);                                                                  \
    } while (0)
    BROKEN(d->abi = ATTN_ABI_VERSION + 1, ATTN_E_VERSION);
    BROKEN(d->size = 0, ATTN_E_VERSION);
    BROKEN(d->size = offsetof(attn_module_desc, kinds), ATTN_E_VERSION);
    BROKEN(d->name = NULL, ATTN_E_VERSION);
    BROKEN(d->attrs = NULL, ATTN_E_VERSION);
    BROKEN(fake.schedule[2] = 1, ATTN_E_VERSION);
    fake.schedule[2] = 0;
    BROKEN(fake.kinds[0] = NULL, ATTN_E_VERSION);
    BROKEN(fake.kernels[0] = NULL, ATTN_E_VERSION);
    BROKEN(fake.kind[0].bounds = NULL, ATTN_E_VERSION);
    BROKEN(fake.kind[0].ranges = NULL, ATTN_E_VERSION);
    BROKEN(fake.kind[0].visible = NULL, ATTN_E_VERSION);
    BROKEN(fake.kind[0].kv_heads = 3, ATTN_E_VERSION);
    BROKEN(fake.kind[0].dtype = 9, ATTN_E_VERSION);
    BROKEN(d->abi = 2, ATTN_E_VERSION); /* knew no formats of stored rows */
    BROKEN(fake.kind[0].kv_format = 2, ATTN_E_VERSION);
    BROKEN(fake.kind[0].kv_group = 2, ATTN_E_VERSION);
    BROKEN((fake.kind[0].kv_format = ATTN_KV_INT8, fake.kind[0].kv_group = FAKE_DIM + 1), ATTN_E_VERSION);
    BROKEN(fake.kind[0].n_kernels = 0, ATTN_E_VERSION);
    BROKEN(fake.kind[0].n_groups = 2, ATTN_E_VERSION);
    BROKEN((fake.kind[0].n_groups = 2, fake.kind[0].groups = wrong_groups), ATTN_E_VERSION);
    BROKEN((fake.kind[0].flags |= ATTN_KIND_K_IS_V, fake.kind[0].dim_v = FAKE_DIM + 1), ATTN_E_VERSION);
    BROKEN(fake.kind[0].flags |= ATTN_KIND_KV_SHARED, ATTN_E_VERSION);
    BROKEN(fake.kernel.run = NULL, ATTN_E_VERSION);
    BROKEN(fake.kernel.vector = 3, ATTN_E_VERSION);
    BROKEN(fake.kernel.lanes = 0, ATTN_E_VERSION);
    BROKEN(fake.kernel.pair = fake.kernel.vector, ATTN_E_VERSION);
    BROKEN(fake.kernel.pair = fake.kernel.lanes, ATTN_E_VERSION);
    BROKEN(fake.kernel.key_step = 0, ATTN_E_VERSION);
    BROKEN(fake.kernel.isa = 77, ATTN_E_ISA);
#undef BROKEN
    CHECK(attn_module_open(NULL, NULL, &m, &err) == ATTN_E_ARGUMENT);
}

/* Layer 2 reads the keys of a layer that must be there before it, have its own, and be of the same shape. */
static void broken_sharing(void)
{
    static const fake_model good = {"shared", 3, 2, {0, 0, 1}, {{.mask = "causal"}, {.mask = "chunk"}}};
    attn_module *m = NULL;
    attn_error err;
#define SHARED(change, status)                                                                                         \
    do {                                                                                                               \
        attn_module_desc *d = (attn_module_desc *)fake_make_model(&good, small);                                       \
        fake.kind[1].flags |= ATTN_KIND_KV_SHARED;                                                                     \
        change;                                                                                                        \
        const attn_status got = attn_module_open(d, NULL, &m, &err);                                                   \
        CHECK_MSG(got == (status) && (!got || strstr(err.text, "cannot read the keys and values of layer")), "%s",     \
                  err.text);                                                                                           \
        if (!got) attn_module_destroy(m);                                                                              \
    } while (0)
    SHARED(fake.kind[1].kv_layer = 1, ATTN_OK);
    SHARED(fake.kind[1].kv_layer = 2, ATTN_E_VERSION);
    SHARED(fake.kind[1].kv_layer = 3, ATTN_E_VERSION);
    SHARED(fake.schedule[1] = 1, ATTN_OK);
    SHARED((fake.schedule[1] = 1, fake.kind[1].kv_layer = 1), ATTN_E_VERSION);
    SHARED(fake.schedule[0] = 1, ATTN_E_VERSION);
    SHARED(fake.kind[1].dim = 5, ATTN_E_VERSION);
    SHARED(fake.kind[1].dim_v = 1, ATTN_E_VERSION);
    SHARED(fake.kind[1].kv_heads = 1, ATTN_E_VERSION);
    SHARED(fake.kind[1].dtype = ATTN_BF16, ATTN_E_VERSION);
    SHARED(fake.kind[1].flags |= ATTN_KIND_K_IS_V, ATTN_E_VERSION);
    SHARED(fake.kind[1].kv_format = ATTN_KV_INT8, ATTN_E_VERSION);
    SHARED((fake.kind[0].flags |= ATTN_KIND_K_IS_V, fake.kind[1].flags |= ATTN_KIND_K_IS_V), ATTN_OK);
#undef SHARED
}

static void instruction_sets(void)
{
    for (uint32_t i = 0; i <= ATTN_ISA_NATIVE; i++) CHECK(attn_isa_parse(attn_isa_name(i)) == (int)i);
    CHECK(attn_isa_parse("avx") == -1 && attn_isa_parse(NULL) == -1);
    CHECK_STR(attn_isa_name(50), "unknown");
    CHECK(!attn_isa_available(50));
    CHECK(attn_isa_available(ATTN_ISA_AVX2) >= attn_isa_available(ATTN_ISA_AVX512));
    CHECK(attn_isa_available(ATTN_ISA_AVX512) >= attn_isa_available(ATTN_ISA_AVX512BF16));

    const attn_module_desc *d = fake_make(fake_mask_named("causal"), small);
    static attn_kernel_desc kernels[3];
    static const attn_kernel_desc *list[3] = {&kernels[0], &kernels[1], &kernels[2]};
    static const uint32_t isas[] = {ATTN_ISA_NATIVE, ATTN_ISA_BASELINE, 77};
    for (int i = 0; i < 3; i++) kernels[i] = fake.kernel, kernels[i].isa = isas[i];
    fake.kind[0].kernels = list;
    fake.kind[0].n_kernels = 3;
    attn_module *m;
    attn_error err;
    CHECK(attn_module_open(d, NULL, &m, &err) == ATTN_OK); /* native is the last resort */
    CHECK(attn_module_kernel(m, 0)->isa == ATTN_ISA_BASELINE);
    attn_module_destroy(m);
    fake.kind[0].n_kernels = 1;
    CHECK(attn_module_open(d, NULL, &m, &err) == ATTN_OK);
    CHECK(attn_module_kernel(m, 0)->isa == ATTN_ISA_NATIVE);
    attn_module_destroy(m);
}

static void files(void)
{
    attn_module *m = (attn_module *)&g;
    attn_error err = {""};
    CHECK(attn_module_load("no_such_kernel.so", NULL, &m, &err) == ATTN_E_FILE &&
          strstr(err.text, "no_such_kernel.so"));
    CHECK(attn_module_load("", NULL, &m, &err) == ATTN_E_ARGUMENT &&
          attn_module_load(NULL, NULL, &m, &err) == ATTN_E_ARGUMENT);
    char name[] = "runtime_test_XXXXXX", line[4096];
    int fd = mkstemp(name);
    CHECK(fd >= 0);
    CHECK(attn_module_load(name, NULL, &m, &err) == ATTN_E_FILE);
    remove(name);
    FILE *maps = fopen("/proc/self/maps", "r"); /* a library that is no module: libc */
    while (maps && fgets(line, sizeof line, maps)) {
        char *path = strchr(line, '/');
        if (!path || !strstr(path, "/libc.so")) continue;
        path[strcspn(path, "\n")] = 0;
        CHECK(attn_module_load(path, NULL, &m, &err) == ATTN_E_FILE && strstr(err.text, ATTN_MODULE_SYMBOL));
        break;
    }
    if (maps) fclose(maps);
    CHECK(m == (attn_module *)&g);
}

static void statuses(void)
{
    CHECK_STR(attn_status_text(ATTN_OK), "ok");
    CHECK(ATTN_E_SPLIT == 12 && ATTN_E_MEMORY == 9);
    for (int i = 0; i < ATTN_STATUS_COUNT; i++) CHECK(strcmp(attn_status_text((attn_status)i), "unknown status"));
    CHECK_STR(attn_status_text((attn_status)99), "unknown status");
    CHECK_STR(attn_version(), ATTN_VERSION);
}

/* ---- threads -------------------------------------------------------------------------------------------------- */

static struct own {
    attn_plan *plan;
    uint32_t worker, workers;
} own[3];
static void *own_thread(void *arg)
{
    struct own *o = arg;
    attn_run_part(o->plan, o->worker, o->workers);
    return NULL;
}

/* The same bits whoever computes: pools of 1 to 4 and an engine's own threads, many times. */
static void same_bits(void)
{
    attn_module *m = open_fake(fake_mask_named("documents"), NULL);
    attn_plan *p = NULL;
    attn_error err = {""};
    static float first[TOKENS * 4 * FAKE_DIM_V];
    g.config.max_parts = 3;
    CHECK(attn_plan_create(m, &g.config, &p, &err) == ATTN_OK);
    CHECK(attn_forward(p, &g.tensors, NULL, &err) == ATTN_OK);
    memcpy(first, g.o_data, sizeof first);
    for (uint32_t threads = 1; threads <= 5; threads++) {
        attn_pool *pool;
        CHECK(attn_pool_create(threads, NULL, &pool, &err) == ATTN_OK && attn_pool_threads(pool) == threads);
        for (int i = 0; i < 100; i++) {
            memset(g.o_data, 0, sizeof g.o_data);
            CHECK(attn_forward(p, &g.tensors, pool, &err) == ATTN_OK);
            CHECK(!memcmp(first, g.o_data, sizeof first));
        }
        attn_pool_destroy(pool);
    }
    memset(g.o_data, 0, sizeof g.o_data);
    CHECK(attn_begin(p, &g.tensors, &err) == ATTN_OK);
    pthread_t threads[3];
    for (uint32_t i = 0; i < 3; i++) {
        own[i] = (struct own){p, i, 3};
        CHECK(!pthread_create(&threads[i], NULL, own_thread, &own[i]));
    }
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    attn_end(p);
    CHECK(!memcmp(first, g.o_data, sizeof first));
    CHECK(fake.errors == 0);
    attn_plan_destroy(p);
    attn_module_destroy(m);
}

/* Processor time, in milliseconds, that this process takes while its main thread sleeps for 20. */
static int64_t time_beside_sleep(void)
{
    struct timespec from, to, rest = {.tv_nsec = 20000000};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    nanosleep(&rest, NULL);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
    return (to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000;
}

/* Workers look for the next call as long as they were told to, and sleep then. */
static void pool_spins(void)
{
    attn_module *m = open_fake(fake_mask_named("causal"), NULL);
    attn_plan *p = NULL;
    attn_error err = {""};
    attn_pool *pool;
    CHECK(attn_plan_create(m, &g.config, &p, &err) == ATTN_OK);
    CHECK(attn_pool_create(3, NULL, &pool, &err) == ATTN_OK);
    attn_pool_set_spin(pool, 3600u * 1000000u);
    CHECK(attn_forward(p, &g.tensors, pool, &err) == ATTN_OK);
    int64_t taken = 0;
    for (int i = 0; i < 500 && taken < 10; i++) taken += time_beside_sleep(); /* a loaded machine gives them little */
    CHECK_MSG(taken >= 10, "workers took %d ms in 10 s", (int)taken);
    attn_pool_set_spin(pool, 0); /* those who spin go on, until the next call */
    CHECK(attn_forward(p, &g.tensors, pool, &err) == ATTN_OK);
    time_beside_sleep();
    taken = time_beside_sleep();
    CHECK_MSG(taken < 10, "workers that should sleep took %d ms", (int)taken);
    CHECK(attn_forward(p, &g.tensors, pool, &err) == ATTN_OK && fake.errors == 0);
    attn_pool_destroy(pool);
    attn_plan_destroy(p);
    attn_module_destroy(m);
}

static attn_plan *busy_plan;
static attn_pool *busy_pool;
static atomic_int busy_statuses;
static void call_while_running(void)
{
    attn_error err = {""};
    busy_statuses += attn_forward(busy_plan, &g.tensors, busy_pool, &err);
}

static void objects_in_use(void)
{
    attn_module *m = open_fake(fake_mask_named("causal"), NULL);
    attn_plan *p = NULL, *other = NULL;
    attn_error err = {""};
    CHECK(attn_plan_create(m, &g.config, &p, &err) == ATTN_OK &&
          attn_plan_create(m, &g.config, &other, &err) == ATTN_OK);
    attn_run_part(p, 0, 1); /* not begun: nothing happens */
    CHECK(fake.items == 0);
    CHECK(attn_begin(p, &g.tensors, &err) == ATTN_OK);
    CHECK(attn_begin(p, &g.tensors, &err) == ATTN_E_BUSY && attn_forward(p, &g.tensors, NULL, &err) == ATTN_E_BUSY);
    CHECK(attn_forward(other, &g.tensors, NULL, &err) == ATTN_OK);
    attn_run_part(p, 9, 10); /* more than the plan was made for: leaves the work to others */
    attn_end(p);
    attn_plan_stats stats = {.size = sizeof stats};
    CHECK(attn_plan_get_stats(p, &stats) == ATTN_OK);
    const int items = (int)stats.items;

    CHECK(attn_pool_create(2, NULL, &busy_pool, &err) == ATTN_OK);
    busy_plan = other, busy_statuses = fake.items = 0;
    fake.on_item = call_while_running;
    CHECK(attn_forward(p, &g.tensors, busy_pool, &err) == ATTN_OK);
    fake.on_item = NULL;
    CHECK_MSG(busy_statuses == items * ATTN_E_BUSY && fake.items == items, "%d items, %d statuses", fake.items,
              busy_statuses);
    CHECK(attn_forward(other, &g.tensors, busy_pool, &err) == ATTN_OK);
    attn_pool_destroy(busy_pool);
    attn_plan_destroy(p), attn_plan_destroy(other);
    attn_module_destroy(m);
}

static void empty_batches(void)
{
    attn_module *m = open_fake(fake_mask_named("causal"), NULL);
    attn_plan *p = NULL;
    attn_error err = {""};
    g.config.n_seqs = 0;
    CHECK(attn_plan_create(m, &g.config, &p, &err) == ATTN_OK);
    DLTensor *const tensors[] = {&g.q, &g.k, &g.v, &g.o, &g.lse};
    for (int i = 0; i < 5; i++) tensors[i]->data = NULL, tensors[i]->shape[0] = 0;
    CHECK_MSG(attn_forward(p, &g.tensors, NULL, &err) == ATTN_OK, "%s", err.text);
    CHECK(fake.items == 0);
    attn_plan_destroy(p);
    attn_module_destroy(m);
}

/* ---- splits --------------------------------------------------------------------------------------------------- */

static bool splits(const fake_mask *mask, int64_t n, int64_t total)
{
    for (int64_t q = 0; q < n; q++)
        for (int64_t k = n; k < total; k++)
            for (int64_t h = 0; h < 4; h++) {
                fake_pair p = {.q = q, .k = k, .h = h, .q_attr = g.attr[q], .k_attr = g.attr[k], .table = g.table};
                if (mask->see(&p)) return false;
            }
    return true;
}

static void legal_splits(void)
{
    for (int i = 0; i < FAKE_MASKS; i++) {
        const fake_mask *mask = &fake_masks[i];
        attn_module *m = open_fake(mask, NULL);
        unsigned long long state = 3;
        for (int j = 0; j < 64; j++) g.table[j] = j % 9 == 0 || check_random(&state) % 16 == 0;
        for (int64_t n = 0; n <= TOKENS; n++) {
            attn_error err = {""};
            attn_status s =
                attn_split_check(m, 0, n, TOKENS, mask->attr ? g.attrs : NULL, mask->table ? g.inputs : NULL, &err);
            CHECK_MSG(s == (splits(mask, n, TOKENS) ? ATTN_OK : ATTN_E_SPLIT), "%s at %lld: %d %s", mask->name,
                      (long long)n, s, err.text);
            CHECK(!s || strstr(err.text, "sees key"));
        }
        CHECK(attn_split_check(m, 0, 5, 4, g.attrs, g.inputs, NULL) == ATTN_E_ARGUMENT);
        CHECK(attn_split_check(m, 9, 1, 4, g.attrs, g.inputs, NULL) == ATTN_E_ARGUMENT);
        if (mask->attr) CHECK(attn_split_check(m, 0, 1, 4, NULL, NULL, NULL) == ATTN_E_MISSING);
        if (mask->table) CHECK(attn_split_check(m, 0, 1, 4, NULL, NULL, NULL) == ATTN_E_MISSING);
        attn_module_destroy(m);
    }
}

int main(void)
{
    RUN(statuses);
    RUN(instruction_sets);
    RUN(files);
    RUN(other_versions);
    RUN(values_in_keys);
    RUN(shared_and_limited);
    RUN(broken_descriptors);
    RUN(broken_sharing);
    RUN(wrong_plans_are_refused);
    RUN(wrong_calls_are_refused);
    RUN(inputs_of_the_call);
    RUN(nothing_leaks);
    RUN(same_bits);
    RUN(pool_spins);
    RUN(objects_in_use);
    RUN(empty_batches);
    RUN(legal_splits);
    return CHECK_DONE();
}
