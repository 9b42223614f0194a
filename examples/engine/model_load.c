/* model_load.c - a model out of a safetensors file that Hugging Face's classes wrote, configuration included. */
#include "model.h"

#include "gpt_oss.h"
#include "llama4.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SIZE = 1 << 20, NAME_ROOM = 128 };

/* A kernel is compiled for one window, one chunk: a file that was trained with another must not run on it. These are
 * the numbers that stand in the .attn files, and those that model.c relies on. true is 1. */
typedef struct demand {
    const char *key;
    double value;
} demand;

static const demand llama4_demands[] = {{"attention_chunk_size", 64},
                                        {"attn_temperature_tuning", 1},
                                        {"attn_scale", 0.1},
                                        {"floor_scale", 128},
                                        {"use_qk_norm", 1},
                                        {"attention_bias", 0},
                                        {NULL, 0}};
static const demand gpt_oss_demands[] = {{"sliding_window", 48}, {"num_local_experts", 1}, {"swiglu_alpha", 1.702},
                                         {"swiglu_limit", 7},    {"attention_bias", 1},    {NULL, 0}};

static const struct {
    const char *name; /* `kind` in the file's metadata */
    const attn_module_desc *kernels;
    const char *full; /* the kind of the layers that the configuration calls full_attention */
    const demand *demands;
    const char *mlp; /* the configuration's word for the MLP's width */
    rotary_pairs pairs;
    qk_norm norm;
} families[FAMILY_COUNT] = {
    [FAMILY_LLAMA4] = {"llama4", &attn_module_llama4, "global", llama4_demands, "intermediate_size_mlp",
                       ROTARY_NEIGHBOURS, QK_NORM_ROPE_THEN_HEAD},
    [FAMILY_GPT_OSS] = {"gpt_oss", &attn_module_gpt_oss, "full", gpt_oss_demands, "intermediate_size", ROTARY_HALVES,
                        QK_NORM_NONE},
};

typedef struct loader {
    safetensors file;
    json config;
    model *m;
    failure *f;
} loader;

/* ---- configuration -------------------------------------------------------------------------------------------------
 */

static const json_value *setting(loader *l, const char *key) { return json_find(&l->config, l->config.values, key); }

static bool read_size(loader *l, const char *key, int64_t *out)
{
    uint64_t n;
    if (!json_is_count(setting(l, key), &n) || n < 1 || n > MAX_SIZE)
        return fail(l->f, "config: %s must be a number from 1 to %d", key, MAX_SIZE);
    *out = (int64_t)n;
    return true;
}

static bool meets(const json_value *v, double value)
{
    if (!v) return false;
    return v->type == JSON_NUMBER ? v->number == value : v->type == (value != 0 ? JSON_TRUE : JSON_FALSE);
}

static bool check_demands(loader *l)
{
    for (const demand *d = families[l->m->family].demands; d->key; d++)
        if (!meets(setting(l, d->key), d->value))
            return fail(l->f, "config: this program was built for models with %s = %g", d->key, d->value);
    return true;
}

static bool check_heads(loader *l)
{
    const attn_kind_desc *kind = l->m->kernels->kinds[0];
    int64_t layers = 0;
    if (!read_size(l, "num_hidden_layers", &layers) || !read_size(l, "num_attention_heads", &l->m->heads) ||
        !read_size(l, "num_key_value_heads", &l->m->kv_heads) || !read_size(l, "head_dim", &l->m->dim))
        return false;
    if (layers != l->m->kernels->n_layers || l->m->heads != kind->q_heads || l->m->kv_heads != kind->kv_heads ||
        l->m->dim != kind->dim)
        return fail(l->f,
                    "config: the kernels have %u layers, %u / %u heads of %u; the file has %lld, %lld / %lld of %lld",
                    l->m->kernels->n_layers, kind->q_heads, kind->kv_heads, kind->dim, (long long)layers,
                    (long long)l->m->heads, (long long)l->m->kv_heads, (long long)l->m->dim);
    return true;
}

static bool check_layer_types(loader *l)
{
    const attn_module_desc *d = l->m->kernels;
    const json_value *types = setting(l, "layer_types");
    const json_value *t =
        types && types->type == JSON_ARRAY && types->children == d->n_layers ? json_first(&l->config, types) : NULL;
    for (uint32_t i = 0; i < d->n_layers; i++, t = json_next(&l->config, t)) {
        if (!t || t->type != JSON_STRING) return fail(l->f, "config: layer_types does not name %u layers", d->n_layers);
        if (!strcmp(t->string, "full_attention") !=
            !strcmp(d->kinds[d->schedule[i]]->name, families[l->m->family].full))
            return fail(l->f, "config: layer %u is %s, but its kernel is %s", i, t->string,
                        d->kinds[d->schedule[i]]->name);
    }
    return true;
}

/* gpt-oss turns in every layer; Llama 4 says where (by a list that is called no_rope_layers, and holds 1 for layers
 * with). */
static bool read_rope_layers(loader *l)
{
    const json_value *list = setting(l, "no_rope_layers"), *v = NULL;
    const bool all = l->m->family == FAMILY_GPT_OSS;
    if (!all && list && list->type == JSON_ARRAY && list->children == l->m->n_layers) v = json_first(&l->config, list);
    for (uint32_t i = 0; i < l->m->n_layers; i++) {
        if (!all && (!v || v->type != JSON_NUMBER))
            return fail(l->f, "config: no_rope_layers does not list %u layers", l->m->n_layers);
        l->m->layers[i].rope = all || v->number != 0;
        if (v) v = json_next(&l->config, v);
    }
    return true;
}

static bool read_rope(loader *l)
{
    const json_value *rope = setting(l, "rope_parameters"), *theta = json_find(&l->config, rope, "rope_theta");
    const json_value *type = json_find(&l->config, rope, "rope_type");
    if (!theta || theta->type != JSON_NUMBER || !(theta->number >= 1) || !type || type->type != JSON_STRING ||
        strcmp(type->string, "default"))
        return fail(l->f, "config: rope_parameters must have a rope_theta and the rope_type default");
    l->m->qk_norm = families[l->m->family].norm;
    return rotary_open(&l->m->rotary, families[l->m->family].pairs, l->m->dim, theta->number, l->f) &&
           read_rope_layers(l);
}

static bool read_family(loader *l)
{
    const json_value *kind = safetensors_metadata(&l->file, "kind");
    for (int i = 0; kind && i < FAMILY_COUNT; i++)
        if (!strcmp(kind->string, families[i].name)) {
            l->m->family = (model_family)i;
            l->m->kernels = families[i].kernels;
            return true;
        }
    return fail(l->f, "its metadata names no `kind` of model that is known here (llama4, gpt_oss)");
}

static bool read_config(loader *l)
{
    const json_value *text = safetensors_metadata(&l->file, "config");
    int64_t vocabulary = 0;
    if (!read_family(l)) return false;
    if (!text) return fail(l->f, "its metadata has no config");
    if (!json_read(text->string, text->length, &l->config, l->f)) return false;
    if (!check_heads(l) || !check_layer_types(l) || !check_demands(l)) return false;
    if (!read_size(l, "vocab_size", &vocabulary) || !read_size(l, "hidden_size", &l->m->hidden)) return false;
    if (vocabulary != VOCABULARY) return fail(l->f, "config: tokens must be bytes (vocab_size %d)", VOCABULARY);
    const json_value *eps = setting(l, "rms_norm_eps");
    if (!eps || eps->type != JSON_NUMBER || !(eps->number >= 0)) return fail(l->f, "config: rms_norm_eps is missing");
    l->m->eps = (float)eps->number;
    return read_size(l, families[l->m->family].mlp, &l->m->mlp);
}

/* ---- weights -------------------------------------------------------------------------------------------------------
 */

/* The tensor of that name with exactly these extents (the last one is 0); NULL is a failure. */
static const tensor *want(loader *l, const char *name, const int64_t *shape)
{
    const tensor *t = safetensors_find(&l->file, name);
    if (!t) {
        fail(l->f, "tensor %s is missing", name);
        return NULL;
    }
    uint32_t rank = 0;
    while (shape[rank] && rank < t->rank && t->shape[rank] == (uint64_t)shape[rank]) rank++;
    if (!shape[rank] && rank == t->rank) return t;
    fail(l->f, "tensor %s does not have the shape that the configuration asks for", name);
    return NULL;
}

static bool load_vector(loader *l, const char *name, const int64_t *shape, float **out)
{
    const tensor *t = want(l, name, shape);
    if (!t) return false;
    *out = malloc((size_t)t->count * sizeof **out);
    if (!*out) return fail(l->f, "out of memory");
    for (uint64_t i = 0; i < t->count; i++) (*out)[i] = tensor_get(t, i);
    return true;
}

/* Stored as [out, in]; `bias` NULL: none. */
static bool load_matrix(loader *l, const char *name, const char *bias, int64_t out, int64_t in, matrix *m)
{
    const tensor *w = want(l, name, (int64_t[]){out, in, 0}), *b = NULL;
    if (!w || (bias && !(b = want(l, bias, (int64_t[]){out, 0})))) return false;
    return matrix_load(m, w, &(matrix_layout){.in = in, .out = out, .in_stride = 1, .out_stride = (uint64_t)in}, b, 1,
                       l->f);
}

/* Stored as [1, in, n * out] with a bias [1, n * out]: n matrices, whose outputs take turns; `which` of them. */
static bool load_expert(loader *l, const char *name, const char *bias, int64_t out, int64_t in, int64_t n,
                        int64_t which, matrix *m)
{
    const tensor *w = want(l, name, (int64_t[]){1, in, n * out, 0}), *b = want(l, bias, (int64_t[]){1, n * out, 0});
    const matrix_layout layout = {
        .in = in, .out = out, .first = (uint64_t)which, .in_stride = (uint64_t)(n * out), .out_stride = (uint64_t)n};
    return w && b && matrix_load(m, w, &layout, b, (uint64_t)n, l->f);
}

typedef struct layer_name {
    char text[NAME_ROOM];
} layer_name;

static layer_name name_in(uint32_t layer, const char *rest)
{
    layer_name n;
    snprintf(n.text, sizeof n.text, "model.layers.%u.%s", layer, rest);
    return n;
}
#define NAME(rest) name_in(i, rest).text

static bool load_attention(loader *l, uint32_t i, model_layer *to)
{
    const model *m = l->m;
    const bool biased = m->family == FAMILY_GPT_OSS;
    const int64_t q = m->heads * m->dim, kv = m->kv_heads * m->dim;
    return load_vector(l, NAME("input_layernorm.weight"), (int64_t[]){m->hidden, 0}, &to->attention_norm) &&
           load_vector(l, NAME("post_attention_layernorm.weight"), (int64_t[]){m->hidden, 0}, &to->mlp_norm) &&
           load_matrix(l, NAME("self_attn.q_proj.weight"), biased ? NAME("self_attn.q_proj.bias") : NULL, q, m->hidden,
                       &to->q) &&
           load_matrix(l, NAME("self_attn.k_proj.weight"), biased ? NAME("self_attn.k_proj.bias") : NULL, kv, m->hidden,
                       &to->k) &&
           load_matrix(l, NAME("self_attn.v_proj.weight"), biased ? NAME("self_attn.v_proj.bias") : NULL, kv, m->hidden,
                       &to->v) &&
           load_matrix(l, NAME("self_attn.o_proj.weight"), biased ? NAME("self_attn.o_proj.bias") : NULL, m->hidden, q,
                       &to->o);
}

static bool load_mlp(loader *l, uint32_t i, model_layer *to)
{
    const int64_t hidden = l->m->hidden, mlp = l->m->mlp;
    switch (l->m->family) {
    case FAMILY_LLAMA4:
        return load_matrix(l, NAME("feed_forward.gate_proj.weight"), NULL, mlp, hidden, &to->gate) &&
               load_matrix(l, NAME("feed_forward.up_proj.weight"), NULL, mlp, hidden, &to->up) &&
               load_matrix(l, NAME("feed_forward.down_proj.weight"), NULL, hidden, mlp, &to->down);
    case FAMILY_GPT_OSS: /* one expert, so the router has no choice: its weight is 1 */
        return load_expert(l, NAME("mlp.experts.gate_up_proj"), NAME("mlp.experts.gate_up_proj_bias"), mlp, hidden, 2,
                           0, &to->gate) &&
               load_expert(l, NAME("mlp.experts.gate_up_proj"), NAME("mlp.experts.gate_up_proj_bias"), mlp, hidden, 2,
                           1, &to->up) &&
               load_expert(l, NAME("mlp.experts.down_proj"), NAME("mlp.experts.down_proj_bias"), hidden, mlp, 1, 0,
                           &to->down);
    case FAMILY_COUNT:
        break;
    }
    return false;
}

static bool load_sinks(loader *l, uint32_t i)
{
    float *sinks = NULL;
    if (!load_vector(l, NAME("self_attn.sinks"), (int64_t[]){l->m->heads, 0}, &sinks)) return false;
    memcpy(l->m->sinks + i * l->m->heads, sinks, (size_t)l->m->heads * sizeof *sinks);
    free(sinks);
    return true;
}

static bool load_weights(loader *l)
{
    model *m = l->m;
    if (m->kernels->n_inputs && !(m->sinks = calloc((size_t)m->n_layers * (size_t)m->heads, sizeof *m->sinks)))
        return fail(l->f, "out of memory");
    for (uint32_t i = 0; i < m->n_layers; i++) {
        if (!load_attention(l, i, &m->layers[i]) || !load_mlp(l, i, &m->layers[i])) return false;
        if (m->sinks && !load_sinks(l, i)) return false;
    }
    return load_vector(l, "model.embed_tokens.weight", (int64_t[]){VOCABULARY, m->hidden, 0}, &m->embedding) &&
           load_vector(l, "model.norm.weight", (int64_t[]){m->hidden, 0}, &m->norm) &&
           load_matrix(l, "lm_head.weight", NULL, VOCABULARY, m->hidden, &m->head);
}

static bool load(loader *l)
{
    if (!read_config(l)) return false;
    l->m->n_layers = l->m->kernels->n_layers;
    l->m->layers = calloc(l->m->n_layers, sizeof *l->m->layers);
    if (!l->m->layers) return fail(l->f, "out of memory");
    return read_rope(l) && load_weights(l);
}

bool model_open(const char *path, model *out, failure *f)
{
    failure why;
    loader l = {.m = out, .f = &why};
    *out = (model){0};
    if (!safetensors_open(path, &l.file, f)) return false;
    bool ok = load(&l);
    json_free(&l.config);
    safetensors_close(&l.file);
    if (ok) return true;
    model_close(out);
    return fail(f, "%s: %.400s", path, why.text);
}

void model_close(model *m)
{
    for (uint32_t i = 0; m->layers && i < m->n_layers; i++) {
        model_layer *l = &m->layers[i];
        matrix *all[] = {&l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down};
        for (size_t j = 0; j < sizeof all / sizeof *all; j++) matrix_free(all[j]);
        free(l->attention_norm);
        free(l->mlp_norm);
    }
    matrix_free(&m->head);
    free(m->layers);
    free(m->embedding);
    free(m->norm);
    free(m->sinks);
    rotary_close(&m->rotary);
    free(m->scratch);
    *m = (model){0};
}
