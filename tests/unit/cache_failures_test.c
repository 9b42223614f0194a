/* cache_failures_test.c - a call that fails changes nothing: the cache before and after each failure, and beside a twin
 * that never saw it, whose next steps give the same to the bit. */
#include "cache_model.h"
#include "fake_models.h"

static const fake_shape small_shape = {16, 8, 4, 2, MODEL_Q_HEADS, MODEL_KV_HEADS};

enum { LAYERS = 3, ROLLBACK = 3, SEQS = 3, MAX_SPANS = 16, RECORD = 1 << 14, BUDGET = 30000 };

/* ---- all that can be seen ---------------------------------------------------------------------------------------- */

typedef struct snapshot {
    attn_cache_stats stats;
    int64_t length[SEQS], spans[SEQS][LAYERS], kept[SEQS][LAYERS][MAX_SPANS][2];
} snapshot;

static void look(const model *m, snapshot *s)
{
    memset(s, 0, sizeof *s);
    s->stats = model_stats(m);
    for (int i = 0; i < SEQS; i++) {
        CHECK(!attn_seq_length(m->cache, m->seqs[i].id, &s->length[i], NULL));
        for (uint32_t l = 0; l < LAYERS; l++)
            s->spans[i][l] = attn_cache_kept(m->cache, m->seqs[i].id, l, s->kept[i][l], MAX_SPANS);
    }
    model_check(m);
}

/* ---- tensors of a layer, to be spoilt ------------------------------------------------------------------------------
 */

enum { Q, K, V, O, LSE, TENSORS };

typedef struct layer_tensors {
    model_tensor t[TENSORS];
    attn_tensors call;
} layer_tensors;

typedef void spoil_fn(layer_tensors *x);

static void spoil_rows(layer_tensors *x) { x->t[K].shape[0]--; }
static void spoil_heads(layer_tensors *x) { x->t[V].shape[1]++; }
static void spoil_dim(layer_tensors *x) { x->t[Q].shape[2]--; }
static void spoil_rank(layer_tensors *x) { x->t[K].dl.ndim = 2; }
static void spoil_negative_shape(layer_tensors *x) { x->t[O].shape[0] = -1; }
static void spoil_lse(layer_tensors *x) { x->t[LSE].shape[1]--; }
static void spoil_dtype(layer_tensors *x) { x->t[K].dl.dtype.bits = 16; }
static void spoil_output_dtype(layer_tensors *x) { x->t[O].dl.dtype.code = kDLInt; }
static void spoil_negative_stride(layer_tensors *x) { x->t[V].stride[0] = -x->t[V].stride[0]; }
static void spoil_last_stride(layer_tensors *x) { x->t[K].stride[2] = 2; }
static void spoil_overlap(layer_tensors *x) { x->t[O].stride[0] = 1; }
static void spoil_address(layer_tensors *x) { x->t[Q].dl.byte_offset = 2; }
static void spoil_device(layer_tensors *x) { x->t[V].dl.device.device_type = kDLCUDA; }
static void spoil_data(layer_tensors *x) { x->t[V].dl.data = NULL; }
static void spoil_missing(layer_tensors *x) { x->call.k = NULL; }
static void spoil_size(layer_tensors *x) { x->call.size = 0; }

static void make_tensors(layer_tensors *x, int64_t rows)
{
    static const int64_t heads[] = {MODEL_Q_HEADS, MODEL_KV_HEADS, MODEL_KV_HEADS, MODEL_Q_HEADS, MODEL_Q_HEADS};
    static const int64_t dims[] = {FAKE_DIM, FAKE_DIM, FAKE_DIM_V, FAKE_DIM_V, 0};
    for (int i = 0; i < TENSORS; i++) {
        model_tensor_make(&x->t[i], rows, heads[i], dims[i], 0);
        for (int64_t j = 0; j < rows * heads[i] * (dims[i] ? dims[i] : 1); j++) x->t[i].at[j] = 77;
    }
    x->call = (attn_tensors){.size = sizeof x->call,
                             .q = &x->t[Q].dl,
                             .k = &x->t[K].dl,
                             .v = &x->t[V].dl,
                             .o = &x->t[O].dl,
                             .lse = &x->t[LSE].dl};
}

/* Layer 1 with spoilt tensors: neither keys nor results are written. */
static attn_status run_spoilt(model *m, int64_t rows, spoil_fn *spoil, attn_error *err)
{
    layer_tensors x;
    make_tensors(&x, rows);
    spoil(&x);
    const attn_status s = attn_step_layer(m->cache, 1, &x.call, NULL, err);
    for (int64_t j = 0; j < rows * MODEL_Q_HEADS * FAKE_DIM_V; j++) CHECK(x.t[O].at[j] == 77);
    for (int64_t j = 0; j < rows * MODEL_Q_HEADS; j++) CHECK(x.t[LSE].at[j] == 77);
    for (int i = 0; i < TENSORS; i++) free(x.t[i].at);
    return s;
}

/* ---- failures between steps ----------------------------------------------------------------------------------------
 */

typedef attn_status fail_fn(model *m, attn_error *err);

static attn_status begin_raw(model *m, uint32_t n, const attn_seq_id *ids, const int64_t *counts, attn_error *err)
{
    int32_t group[400];
    const int32_t *attrs[1] = {group};
    for (int i = 0; i < 400; i++) group[i] = 1 << 20; /* of their own */
    const attn_step_config c = {.size = sizeof c, .n_seqs = n, .seqs = ids, .counts = counts, .attrs = attrs};
    return attn_step_begin(m->cache, &c, err);
}

static attn_status fail_budget(model *m, attn_error *err)
{
    return begin_raw(m, 2, (attn_seq_id[]){m->seqs[0].id, m->seqs[1].id}, (int64_t[]){1, 399}, err);
}
static attn_status fail_split(model *m, attn_error *err)
{
    const attn_seq_id id = m->seqs[0].id;
    const int64_t one = 1;
    const int32_t last = m->seqs[0].attr[m->seqs[0].n - 1], *attrs[1] = {&last};
    const attn_step_config c = {.size = sizeof c, .n_seqs = 1, .seqs = &id, .counts = &one, .attrs = attrs};
    return attn_step_begin(m->cache, &c, err);
}
static attn_status fail_deep(model *m, attn_error *err)
{
    return attn_seq_rollback(m->cache, m->seqs[0].id, ROLLBACK + 1, err);
}
static attn_status fail_past_the_beginning(model *m, attn_error *err)
{
    return attn_seq_rollback(m->cache, m->seqs[1].id, m->seqs[1].n + 1, err);
}
static attn_status fail_negative_rollback(model *m, attn_error *err)
{
    return attn_seq_rollback(m->cache, m->seqs[0].id, -1, err);
}

/* The sequence that was begun and ended before all others. */
enum { ENDED = 1 };
static attn_status fail_ended_step(model *m, attn_error *err)
{
    return begin_raw(m, 2, (attn_seq_id[]){m->seqs[0].id, ENDED}, (int64_t[]){2, 1}, err);
}
static attn_status fail_ended_fork(model *m, attn_error *err)
{
    attn_seq_id out;
    return attn_seq_fork(m->cache, ENDED, &out, err);
}
static attn_status fail_ended_rollback(model *m, attn_error *err) { return attn_seq_rollback(m->cache, ENDED, 0, err); }
static attn_status fail_ended_end(model *m, attn_error *err) { return attn_seq_end(m->cache, ENDED, err); }
static attn_status fail_never_begun(model *m, attn_error *err) { return attn_seq_end(m->cache, 1000, err); }

static attn_status fail_twice(model *m, attn_error *err)
{
    return begin_raw(m, 2, (attn_seq_id[]){m->seqs[2].id, m->seqs[2].id}, (int64_t[]){1, 1}, err);
}
static attn_status fail_negative_count(model *m, attn_error *err)
{
    return begin_raw(m, 2, (attn_seq_id[]){m->seqs[0].id, m->seqs[1].id}, (int64_t[]){3, -1}, err);
}
static attn_status fail_too_long(model *m, attn_error *err)
{
    return begin_raw(m, 1, &m->seqs[0].id, (int64_t[]){(int64_t)1 << 30}, err);
}
static attn_status fail_attrs(model *m, attn_error *err)
{
    const attn_step_config c = {
        .size = sizeof c, .n_seqs = 1, .seqs = &m->seqs[0].id, .counts = (int64_t[]){1}, .attrs = NULL};
    return attn_step_begin(m->cache, &c, err);
}
static attn_status fail_config_version(model *m, attn_error *err)
{
    attn_step_config c = {.size = 4, .n_seqs = 1};
    return attn_step_begin(m->cache, &c, err);
}
static attn_status fail_layer_without_step(model *m, attn_error *err) { return run_spoilt(m, 1, spoil_rows, err); }
static attn_status fail_end_without_step(model *m, attn_error *err) { return attn_step_end(m->cache, err); }

/* A module of another version beside the one in use, and a cache for one that has no live rule yet. */
static attn_status fail_module(model *m, attn_error *err)
{
    attn_module_desc other = fake.module;
    attn_module *out = NULL;
    (void)m;
    other.abi = ATTN_ABI_VERSION + 1;
    const attn_status s = attn_module_open(&other, NULL, &out, err);
    CHECK(!out);
    return s;
}
static attn_status fail_old_module(model *m, attn_error *err)
{
    attn_cache *out = NULL;
    attn_module *old = NULL;
    attn_live_fn *live = fake.kind[0].live;
    fake.kind[0].live = NULL;
    CHECK(!attn_module_open(&fake.module, NULL, &old, NULL));
    const attn_status s = attn_cache_create(old, &m->config, &out, err);
    CHECK(!out);
    attn_module_destroy(old);
    fake.kind[0].live = live;
    return s;
}

typedef struct failure {
    const char *name;
    fail_fn *fail;
    attn_status status;
    const char *words; /* of the sentence */
} failure;

static const failure between_steps[] = {
    {"budget", fail_budget, ATTN_E_BUDGET, "bytes"},
    {"split", fail_split, ATTN_E_SPLIT, "sees key"},
    {"rollback deeper than R", fail_deep, ATTN_E_ROLLBACK, "the cache keeps the state 3 tokens back"},
    {"rollback past the beginning", fail_past_the_beginning, ATTN_E_ROLLBACK, "there are"},
    {"rollback by -1", fail_negative_rollback, ATTN_E_ARGUMENT, "by -1 tokens"},
    {"step of an ended sequence", fail_ended_step, ATTN_E_STATE, "has ended"},
    {"fork of an ended sequence", fail_ended_fork, ATTN_E_STATE, "has ended"},
    {"rollback of an ended sequence", fail_ended_rollback, ATTN_E_STATE, "has ended"},
    {"end of an ended sequence", fail_ended_end, ATTN_E_STATE, "has ended"},
    {"a sequence of nobody", fail_never_begun, ATTN_E_STATE, "not of this cache"},
    {"a sequence twice", fail_twice, ATTN_E_ARGUMENT, "twice"},
    {"a negative count", fail_negative_count, ATTN_E_ARGUMENT, "counts[1] is -1"},
    {"too long", fail_too_long, ATTN_E_ARGUMENT, "may grow from"},
    {"attributes missing", fail_attrs, ATTN_E_MISSING, "attribute 'doc'"},
    {"a struct of another version", fail_config_version, ATTN_E_VERSION, "attn_step_config"},
    {"a layer without a step", fail_layer_without_step, ATTN_E_STATE, "no step is open"},
    {"an end without a step", fail_end_without_step, ATTN_E_STATE, "no step is open"},
    {"a module of another version", fail_module, ATTN_E_VERSION, "compile"},
    {"a module without a live rule", fail_old_module, ATTN_E_VERSION, "compile the pattern again"},
};

/* ---- failures in a step
 * ---------------------------------------------------------------------------------------------- */

enum { STEP_ROWS = 9 }; /* of the step that is open; layer 0 has been run */

static attn_status fail_second_step(model *m, attn_error *err)
{
    return begin_raw(m, 1, &m->seqs[0].id, (int64_t[]){1}, err);
}
static attn_status fail_begin_in_step(model *m, attn_error *err)
{
    attn_seq_id out;
    return attn_seq_begin(m->cache, &out, err);
}
static attn_status fail_fork_in_step(model *m, attn_error *err)
{
    attn_seq_id out;
    return attn_seq_fork(m->cache, m->seqs[0].id, &out, err);
}
static attn_status fail_rollback_in_step(model *m, attn_error *err)
{
    return attn_seq_rollback(m->cache, m->seqs[0].id, 1, err);
}
static attn_status fail_end_in_step(model *m, attn_error *err) { return attn_seq_end(m->cache, m->seqs[0].id, err); }
static attn_status fail_layer_twice(model *m, attn_error *err)
{
    layer_tensors x;
    make_tensors(&x, STEP_ROWS); /* nothing is wrong with them */
    const attn_status s = attn_step_layer(m->cache, 0, &x.call, NULL, err);
    for (int i = 0; i < TENSORS; i++) free(x.t[i].at);
    return s;
}
static attn_status fail_layer_number(model *m, attn_error *err)
{
    return attn_step_layer(m->cache, LAYERS, NULL, NULL, err);
}
static attn_status fail_layers_missing(model *m, attn_error *err) { return attn_step_end(m->cache, err); }

static const failure in_steps[] = {
    {"a step in a step", fail_second_step, ATTN_E_STATE, "a step is open"},
    {"begin in a step", fail_begin_in_step, ATTN_E_STATE, "a step is open"},
    {"fork in a step", fail_fork_in_step, ATTN_E_STATE, "a step is open"},
    {"rollback in a step", fail_rollback_in_step, ATTN_E_STATE, "a step is open"},
    {"end of a sequence in a step", fail_end_in_step, ATTN_E_STATE, "a step is open"},
    {"a layer twice", fail_layer_twice, ATTN_E_STATE, "layer 0 has been run"},
    {"a layer that is not there", fail_layer_number, ATTN_E_ARGUMENT, "has 3 layers"},
    {"an end with layers missing", fail_layers_missing, ATTN_E_STATE, "layer 1 has not"},
};

static const struct {
    const char *name;
    spoil_fn *spoil;
    attn_status status;
    const char *words;
} spoilt[] = {
    {"too few rows", spoil_rows, ATTN_E_SHAPE, "k: shape[0] is 8, not 9"},
    {"heads", spoil_heads, ATTN_E_SHAPE, "v: shape[1] is 3, not 2"},
    {"dim", spoil_dim, ATTN_E_SHAPE, "q: shape[2] is 2, not 3"},
    {"rank", spoil_rank, ATTN_E_SHAPE, "k: has 2 dimensions"},
    {"a negative shape", spoil_negative_shape, ATTN_E_SHAPE, "o: shape[0] is -1"},
    {"lse", spoil_lse, ATTN_E_SHAPE, "lse: shape[1] is 3, not 4"},
    {"dtype", spoil_dtype, ATTN_E_DTYPE, "k: is f16"},
    {"dtype of o", spoil_output_dtype, ATTN_E_DTYPE, "o: is int32"},
    {"a negative stride", spoil_negative_stride, ATTN_E_STRIDE, "v: strides[0]"},
    {"last stride", spoil_last_stride, ATTN_E_STRIDE, "k: the last dimension must be contiguous"},
    {"rows of o in each other", spoil_overlap, ATTN_E_STRIDE, "o: is written to"},
    {"address", spoil_address, ATTN_E_STRIDE, "q: its address"},
    {"device", spoil_device, ATTN_E_DEVICE, "v: is on device type"},
    {"no data", spoil_data, ATTN_E_ARGUMENT, "v: its data is NULL"},
    {"no tensor", spoil_missing, ATTN_E_ARGUMENT, "k is NULL"},
    {"a struct of another version", spoil_size, ATTN_E_VERSION, "attn_tensors"},
};

/* ---- the cache and its twin ---------------------------------------------------------------------------------------
 */

typedef struct twins {
    model m[2]; /* the failures are the first's */
    float record[2][RECORD];
} twins;

/* 20 tokens, 9 tokens, and a fork of the first; what the images' and documents' attributes are is up to the seed. */
static void open_twins(twins *x, const fake_model *what)
{
    for (int i = 0; i < 2; i++) {
        model *m = &x->m[i];
        attn_seq_id ended;
        const attn_cache_config c = {.page_tokens = 4, .rollback = ROLLBACK, .workers = 2, .budget = BUDGET};
        CHECK(!model_open_kinds(m, what, small_shape, c, 5));
        CHECK(!attn_seq_begin(m->cache, &ended, NULL) && ended == ENDED && !attn_seq_end(m->cache, ended, NULL));
        model_seq *a = model_begin(m), *b = model_begin(m);
        CHECK(model_feed(m, a, 20) && model_feed(m, b, 9));
        model_fork(m, a);
        m->record = x->record[i], m->recorded = 0;
    }
}

static model_step next_tokens(model *m, int64_t first, int64_t second, int64_t third)
{
    model_step x = {.n = SEQS, .seqs = {&m->seqs[0], &m->seqs[1], &m->seqs[2]}, .counts = {first, second, third}};
    for (int i = 0; i < SEQS; i++) {
        model_new_tokens(m, x.seqs[i], x.counts[i]);
        /* a group of their own, so that the step may begin here */
        for (int64_t j = 0; j < x.counts[i]; j++) m->seqs[i].attr[m->seqs[i].n + j] = 1000 + m->next_token;
    }
    return x;
}

static void finish(model *m, const model_step *x)
{
    CHECK(!attn_step_end(m->cache, NULL));
    for (int i = 0; i < SEQS; i++) {
        m->seqs[i].n += x->counts[i];
        if (m->seqs[i].n > m->seqs[i].furthest) m->seqs[i].furthest = m->seqs[i].n;
    }
}

/* Layers from `from` on, the end, and one more rollback and step. */
static void go_on(model *m, const model_step *open)
{
    int64_t rows = 0;
    for (int i = 0; i < SEQS; i++) rows += open->counts[i];
    for (uint32_t l = 1; l < LAYERS; l++) model_layer(m, open, rows, l); /* readers of keys come last */
    finish(m, open);
    model_rollback(m, &m->seqs[2], 2);
    const model_step x = next_tokens(m, 2, 1, 4);
    CHECK(!model_step_begin(m, &x, NULL));
    model_layers(m, &x);
    finish(m, &x);
}

static model_step open_step(model *m)
{
    const model_step x = next_tokens(m, 1, 5, 3);
    CHECK(!model_step_begin(m, &x, NULL));
    model_layer(m, &x, STEP_ROWS, 0);
    return x;
}

static void close_twins(twins *x, const char *name)
{
    snapshot s[2];
    for (int i = 0; i < 2; i++) look(&x->m[i], &s[i]);
    CHECK_MSG(!memcmp(&s[0], &s[1], sizeof s[0]), "%s: the twin's state is another", name);
    CHECK_MSG(x->m[0].recorded == x->m[1].recorded && x->m[0].recorded > 500 &&
                  !memcmp(x->record[0], x->record[1], x->m[0].recorded * sizeof(float)),
              "%s: the twin's results are others", name);
    for (int i = 0; i < 2; i++) model_close(&x->m[i]);
}

static void expect_failure(const char *name, attn_status got, attn_status want, const attn_error *err,
                           const char *words)
{
    CHECK_MSG(got == want && strstr(err->text, words), "%s: status %d, '%s'", name, (int)got, err->text);
}

static void fail_once(model *m, const failure *f)
{
    snapshot before, after;
    attn_error err = {""};
    look(m, &before);
    expect_failure(f->name, f->fail(m, &err), f->status, &err, f->words);
    look(m, &after);
    CHECK_MSG(!memcmp(&before, &after, sizeof before), "%s: changed the cache", f->name);
}

static twins both;

/* Masks with an attribute, for splits; caches that let go, with pages that are shared; groups of heads, shared keys. */
static const char *const masks[] = {"images", "streaming", "chunk", "layers", "mixed"};
static const char *const mixtures[] = {"groups by head", "shared", "shared, by head", "latent"};
enum { MASKS = sizeof masks / sizeof *masks, MIXTURES = sizeof mixtures / sizeof *mixtures };

static fake_model choose(int i)
{
    return i < MASKS ? fake_plain(fake_mask_named(masks[i])) : *model_named(mixtures[i - MASKS]);
}

static bool applies(const failure *f)
{
    if (f->fail == fail_split) return fake.mask[0]->see == see_images;
    return f->fail != fail_attrs || fake.mask[0]->attr;
}

static void test_between_steps(void)
{
    for (int i = 0; i < MASKS + MIXTURES; i++)
        for (size_t j = 0; j < sizeof between_steps / sizeof *between_steps; j++) {
            const fake_model what = choose(i);
            open_twins(&both, &what);
            if (applies(&between_steps[j])) fail_once(&both.m[0], &between_steps[j]);
            for (int t = 0; t < 2; t++) {
                const model_step x = open_step(&both.m[t]);
                go_on(&both.m[t], &x);
            }
            close_twins(&both, between_steps[j].name);
        }
}

static void test_in_steps(void)
{
    for (int i = 0; i < MASKS + MIXTURES; i++)
        for (size_t j = 0; j < sizeof in_steps / sizeof *in_steps; j++) {
            const fake_model what = choose(i);
            open_twins(&both, &what);
            const model_step x = open_step(&both.m[0]), y = open_step(&both.m[1]);
            fail_once(&both.m[0], &in_steps[j]);
            go_on(&both.m[0], &x);
            go_on(&both.m[1], &y);
            close_twins(&both, in_steps[j].name);
        }
}

static void test_wrong_tensors(void)
{
    for (int i = 0; i < MASKS; i++)
        for (size_t j = 0; j < sizeof spoilt / sizeof *spoilt; j++) {
            snapshot before, after;
            attn_error err = {""};
            const fake_model what = choose(i);
            open_twins(&both, &what);
            const model_step x = open_step(&both.m[0]), y = open_step(&both.m[1]);
            look(&both.m[0], &before);
            const attn_status s = run_spoilt(&both.m[0], STEP_ROWS, spoilt[j].spoil, &err);
            expect_failure(spoilt[j].name, s, spoilt[j].status, &err, spoilt[j].words);
            look(&both.m[0], &after);
            CHECK_MSG(!memcmp(&before, &after, sizeof before), "%s: changed the cache", spoilt[j].name);
            go_on(&both.m[0], &x);
            go_on(&both.m[1], &y);
            close_twins(&both, spoilt[j].name);
        }
}

int main(void)
{
    RUN(test_between_steps);
    RUN(test_in_steps);
    RUN(test_wrong_tensors);
    return CHECK_DONE();
}
