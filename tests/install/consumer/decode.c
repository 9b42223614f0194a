/* decode.c - an engine's loop over the KV cache in small, valid as C99 and as C++11.   decode DECODE.so
 *
 * A prompt, tokens one at a time, a branch, a draft that is taken back, and calls that fail. Every result is compared
 * with attention computed plainly over all tokens; the cache keeps only what the masks of decode.attn ask for. */
#include <attn/cache.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LAYERS = 2, HEADS = 2, DIM = 16, WINDOW = 4, MOST = 64 };

/* What an engine knows of a sequence: its tokens. Its keys and values are the cache's. */
typedef struct text {
    attn_seq_id id;
    int n;
    int token[MOST];
} text;

static float q[MOST * HEADS * DIM], k[MOST * DIM], v[MOST * DIM], o[MOST * HEADS * DIM];

/* ---- a model without weights: a token's numbers are hashed from it ------------------------------------------------ */

enum part { QUERY, KEY, VALUE };

static float value(int token, int layer, enum part part, int i)
{
    unsigned x = (unsigned)(((token * LAYERS + layer) * 3 + (int)part) * HEADS * DIM + i) * 2654435761u;
    x = (x ^ (x >> 15)) * 2246822519u;
    return (float)(x >> 8) / (float)(1 << 23) - 1.0f;
}

static int sees(int layer, int query, int key)
{
    return key <= query && (layer == 1 || query - key < WINDOW);
}

/* One element of attention, from the definition. */
static double plain(const text *t, int layer, int query, int head, int i)
{
    double sum = 0, mixed = 0;
    int key, d;
    for (key = 0; key < t->n; key++) {
        double dot = 0, weight;
        if (!sees(layer, query, key)) continue;
        for (d = 0; d < DIM; d++)
            dot += (double)value(t->token[query], layer, QUERY, head * DIM + d) * value(t->token[key], layer, KEY, d);
        weight = exp(dot / sqrt((double)DIM));
        sum += weight;
        mixed += weight * value(t->token[key], layer, VALUE, i);
    }
    return mixed / sum;
}

/* ---- steps -------------------------------------------------------------------------------------------------------- */

static DLTensor describe(float *data, int64_t *shape)
{
    DLTensor t;
    memset(&t, 0, sizeof t);
    t.data = data;
    t.device.device_type = kDLCPU;
    t.ndim = 3;
    t.dtype.code = kDLFloat;
    t.dtype.bits = 32;
    t.dtype.lanes = 1;
    t.shape = shape;
    return t;
}

/* The last m tokens of the text, which are new, through one layer. */
static attn_status run_layer(attn_cache *cache, int layer, const text *t, int m, attn_error *err)
{
    int64_t wide[3], narrow[3];
    DLTensor tq, tk, tv, to;
    attn_tensors tensors;
    int row, i;
    wide[0] = narrow[0] = m;
    wide[1] = HEADS, narrow[1] = 1;
    wide[2] = narrow[2] = DIM;
    for (row = 0; row < m; row++)
        for (i = 0; i < HEADS * DIM; i++) {
            const int token = t->token[t->n - m + row];
            q[row * HEADS * DIM + i] = value(token, layer, QUERY, i);
            if (i >= DIM) continue;
            k[row * DIM + i] = value(token, layer, KEY, i);
            v[row * DIM + i] = value(token, layer, VALUE, i);
        }
    tq = describe(q, wide), tk = describe(k, narrow), tv = describe(v, narrow), to = describe(o, wide);
    memset(&tensors, 0, sizeof tensors);
    tensors.size = sizeof tensors;
    tensors.q = &tq, tensors.k = &tk, tensors.v = &tv, tensors.o = &to;
    return attn_step_layer(cache, (uint32_t)layer, &tensors, NULL, err);
}

static double worst; /* difference between the cache's results and the plain ones */

static void compare(const text *t, int layer, int m)
{
    int row, head, i;
    for (row = 0; row < m; row++)
        for (head = 0; head < HEADS; head++)
            for (i = 0; i < DIM; i++) {
                const double want = plain(t, layer, t->n - m + row, head, i);
                const double off = fabs(want - o[(row * HEADS + head) * DIM + i]);
                if (!(off <= worst)) worst = off;
            }
}

/* m more tokens, which the text has already: prompt, decode and draft are this one thing. */
static attn_status step(attn_cache *cache, const text *t, int m, attn_error *err)
{
    const int64_t count = m;
    attn_step_config config;
    attn_status status;
    int layer;
    memset(&config, 0, sizeof config);
    config.size = sizeof config;
    config.n_seqs = 1;
    config.seqs = &t->id;
    config.counts = &count;
    status = attn_step_begin(cache, &config, err);
    if (status != ATTN_OK) return status;
    for (layer = 0; layer < LAYERS && status == ATTN_OK; layer++) {
        status = run_layer(cache, layer, t, m, err);
        if (status == ATTN_OK) compare(t, layer, m);
    }
    if (status == ATTN_OK) status = attn_step_end(cache, err);
    if (status != ATTN_OK) attn_step_cancel(cache); /* nothing when the step has ended */
    return status;
}

static attn_status append(attn_cache *cache, text *t, int first_token, int m, attn_error *err)
{
    int i;
    for (i = 0; i < m; i++)
        t->token[t->n++] = first_token + i;
    return step(cache, t, m, err);
}

/* ---- the story ------------------------------------------------------------------------------------------------------ */

static attn_status talk(attn_cache *cache, attn_error *err)
{
    text a, b;
    attn_status status;
    attn_cache_stats stats;
    int i;
    memset(&a, 0, sizeof a);
    status = attn_seq_begin(cache, &a.id, err);
    if (status == ATTN_OK) status = append(cache, &a, 1, 9, err); /* a prompt of nine */
    for (i = 0; i < 12 && status == ATTN_OK; i++)                 /* tokens one at a time */
        status = append(cache, &a, 100 + 7 * i, 1, err);
    if (status != ATTN_OK) return status;

    b = a; /* a second answer, which shares what was said so far */
    status = attn_seq_fork(cache, a.id, &b.id, err);
    if (status == ATTN_OK) status = append(cache, &b, 500, 3, err);
    if (status == ATTN_OK) status = append(cache, &a, 600, 4, err); /* a draft of four, of which two are wrong */
    if (status == ATTN_OK) status = attn_seq_rollback(cache, a.id, 2, err);
    a.n -= 2;
    if (status == ATTN_OK) status = append(cache, &a, 700, 1, err);
    if (status == ATTN_OK) status = append(cache, &b, 800, 1, err);
    if (status != ATTN_OK) return status;

    memset(&stats, 0, sizeof stats);
    stats.size = sizeof stats;
    status = attn_cache_get_stats(cache, &stats);
    if (status != ATTN_OK) return status;
    printf("tokens: %d and %d\n", a.n, b.n);
    printf("keeps %llu bytes of %llu\n", (unsigned long long)stats.bytes, (unsigned long long)stats.bytes_full);
    status = attn_seq_rollback(cache, a.id, 9, err); /* deeper than was promised */
    printf("%s: %s\n", attn_status_text(status), err->text);
    status = attn_step_end(cache, err);
    printf("%s: %s\n", attn_status_text(status), err->text);
    printf("check: %s\n", attn_cache_check(cache) ? attn_cache_check(cache) : "all is well");

    status = attn_seq_end(cache, b.id, err);
    if (status == ATTN_OK) status = append(cache, &a, 900, 1, err); /* neither failure has changed anything */
    if (status == ATTN_OK) status = attn_seq_end(cache, a.id, err);
    return status;
}

int main(int argc, char **argv)
{
    attn_error err = {""};
    attn_module *module;
    attn_cache_config config;
    attn_cache *cache = NULL;
    attn_status status = attn_module_load(argc > 1 ? argv[1] : "decode.so", NULL, &module, &err);
    if (status == ATTN_OK) {
        memset(&config, 0, sizeof config);
        config.size = sizeof config;
        config.page_tokens = 4;
        config.rollback = 2;
        config.isa = -1;
        status = attn_cache_create(module, &config, &cache, &err);
        if (status == ATTN_OK) status = talk(cache, &err);
        attn_cache_destroy(cache);
        attn_module_destroy(module);
    }
    if (status != ATTN_OK) {
        printf("%s: %s\n", attn_status_text(status), err.text);
        return 1;
    }
    printf("results %s the plain ones\n", worst < 1e-5 ? "are" : "differ from");
    return worst < 1e-5 ? 0 : 1;
}
