/* safetensors.h - named tensors out of a .safetensors file: 8 bytes with the length of a JSON header, the header, the
 * data. */
#ifndef ENGINE_SAFETENSORS_H
#define ENGINE_SAFETENSORS_H

#include "json.h"

enum { TENSOR_MAX_RANK = 8 };

typedef struct tensor {
    const char *name;
    bool half; /* f16; else f32 */
    uint32_t rank;
    uint64_t shape[TENSOR_MAX_RANK];
    uint64_t count;      /* product of the shape */
    const uint8_t *data; /* little-endian, not aligned */
} tensor;

typedef struct safetensors {
    uint8_t *bytes; /* the whole file */
    size_t size;
    json header;
    tensor *tensors;
    size_t count;
} safetensors;

/* Everything is checked here: what the header says of a tensor can be relied on afterwards. Only F16 and F32 are read.
 */
bool safetensors_open(const char *path, safetensors *out, failure *f);
void safetensors_close(safetensors *s);

/* NULL when there is none. */
const tensor *safetensors_find(const safetensors *s, const char *name);
/* A string of the file's metadata, or NULL. */
const json_value *safetensors_metadata(const safetensors *s, const char *key);
float tensor_get(const tensor *t, uint64_t index);

/* A whole file, malloc'ed. */
bool file_read(const char *path, uint8_t **bytes, size_t *size, failure *f);

#endif
