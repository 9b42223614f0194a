/* fake_models.h - models of several kinds for the hand-made module: groups of KV heads, shared keys, keys that are
 * values. */
#ifndef ATTNC_TEST_FAKE_MODELS_H
#define ATTNC_TEST_FAKE_MODELS_H

#include "fake_module.h"

/* What the compiler writes: a number for each layer and KV head, the same for those that are live together. */
static const uint16_t by_head[] = {0, 1, 0, 1, 0, 1, 0, 1};
static const uint16_t by_layer_and_head[] = {0, 1, 1, 0, 0, 1};
static const uint16_t by_reader[] = {0, 1, 2, 1, 0, 0}; /* layer 0's first head has a reader that layer 1's has not */
static const uint16_t in_the_middle[] = {0, 0, 0, 1, 0, 0, 0, 1, 0, 0};
static const uint16_t all_differ[] = {2, 0, 1, 3, 0, 0};

#define SHARED ATTN_KIND_KV_SHARED
#define LATENT ATTN_KIND_K_IS_V

static const fake_model models[] = {
    {"groups by head", 3, 1, {0, 0, 0}, {{.mask = "heads", .n_groups = 2, .groups = by_head}}},
    {"groups by layer and head", 3, 1, {0, 0, 0}, {{.mask = "duo", .n_groups = 2, .groups = by_layer_and_head}}},
    {"groups that split what is alike",
     3,
     2,
     {0, 0, 1},
     {{.mask = "causal", .n_groups = 4, .groups = all_differ}, {.mask = "chunk"}}},
    {"groups beside other kinds",
     5,
     3,
     {2, 0, 1, 0, 2},
     {{.mask = "heads", .n_groups = 2, .groups = in_the_middle},
      {.mask = "chunk", .dim = 5, .dim_v = 7},
      {.mask = "streaming", .dim = 2, .dim_v = 8}}},
    {"shared", 3, 2, {0, 0, 1}, {{.mask = "chunk"}, {.mask = "streaming", .flags = SHARED, .kv_layer = 0}}},
    {"shared, read twice",
     5,
     3,
     {0, 1, 1, 0, 2},
     {{.mask = "streaming", .dim = 4, .dim_v = 4},
      {.mask = "chunk", .flags = SHARED, .dim = 4, .dim_v = 4},
      {.mask = "heads", .flags = SHARED, .kv_layer = 3, .dim = 4, .dim_v = 4}}},
    {"shared, by head",
     3,
     2,
     {0, 0, 1},
     {{.mask = "heads", .n_groups = 3, .groups = by_reader}, {.mask = "streaming", .flags = SHARED}}},
    {"shared, by layer", 3, 2, {0, 0, 1}, {{.mask = "layers"}, {.mask = "duo", .flags = SHARED, .kv_layer = 1}}},
    {"shared, with data", 3, 2, {0, 1, 0}, {{.mask = "streaming"}, {.mask = "documents", .flags = SHARED}}},
    {"latent",
     3,
     2,
     {0, 1, 0},
     {{.mask = "streaming", .flags = LATENT, .dim = 6, .dim_v = 4},
      {.mask = "causal", .flags = LATENT, .dim = 5, .dim_v = 5}}},
    {"latent, shared, by head",
     4,
     3,
     {0, 1, 2, 0},
     {{.mask = "heads", .n_groups = 2, .groups = by_head, .flags = LATENT},
      {.mask = "chunk", .flags = LATENT | SHARED},
      {.mask = "layers", .dim = 8, .dim_v = 1}}},
    {"three kinds",
     4,
     3,
     {1, 0, 2, 1},
     {{.mask = "causal", .dim = 8, .dim_v = 8},
      {.mask = "chunk", .dim = 1, .dim_v = 1},
      {.mask = "mixed", .dim = 4, .dim_v = 6, .max_len = 1000}}},
};
enum { MODELS = sizeof models / sizeof *models };

static inline const fake_model *model_named(const char *name)
{
    for (size_t i = 0; i < MODELS; i++)
        if (!strcmp(models[i].name, name)) return &models[i];
    abort();
}

#undef SHARED
#undef LATENT

#endif
