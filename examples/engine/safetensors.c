/* safetensors.c - reads and checks a .safetensors file. */
#include "safetensors.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LENGTH_BYTES = 8, MAX_HEADER = 100 * 1000 * 1000 };

/* ---- files ---------------------------------------------------------------------------------------------------------
 */

static bool read_stream(FILE *in, const char *path, uint8_t **bytes, size_t *size, failure *f)
{
    size_t room = 0;
    do {
        if (*size == room) {
            room = room ? 2 * room : 1 << 16;
            uint8_t *more = realloc(*bytes, room);
            if (!more) return fail(f, "%s: out of memory", path);
            *bytes = more;
        }
        *size += fread(*bytes + *size, 1, room - *size, in);
    } while (!feof(in) && !ferror(in));
    return !ferror(in) || fail(f, "%s: %s", path, strerror(errno));
}

bool file_read(const char *path, uint8_t **bytes, size_t *size, failure *f)
{
    *bytes = NULL;
    *size = 0;
    FILE *in = fopen(path, "rb");
    if (!in) return fail(f, "%s: %s", path, strerror(errno));
    bool ok = read_stream(in, path, bytes, size, f);
    fclose(in);
    if (!ok) {
        free(*bytes);
        *bytes = NULL;
    }
    return ok;
}

/* ---- the header ----------------------------------------------------------------------------------------------------
 */

static uint64_t little_endian(const uint8_t *b, int n)
{
    uint64_t v = 0;
    while (n--) v = v << 8 | b[n];
    return v;
}

static bool read_dtype(const json_value *v, tensor *t, failure *f)
{
    if (!v || v->type != JSON_STRING) return fail(f, "tensor %s has no dtype", t->name);
    if (strcmp(v->string, "F16") && strcmp(v->string, "F32"))
        return fail(f, "tensor %s is %s; only F16 and F32 are read", t->name, v->string);
    t->half = !strcmp(v->string, "F16");
    return true;
}

static bool read_shape(const json *j, const json_value *v, uint64_t most, tensor *t, failure *f)
{
    if (!v || v->type != JSON_ARRAY || v->children > TENSOR_MAX_RANK)
        return fail(f, "tensor %s has no shape of at most %d extents", t->name, TENSOR_MAX_RANK);
    t->rank = v->children;
    t->count = 1;
    const json_value *e = json_first(j, v);
    for (uint32_t i = 0; i < t->rank; i++, e = json_next(j, e)) {
        if (!json_is_count(e, &t->shape[i])) return fail(f, "tensor %s has a wrong shape", t->name);
        if (t->shape[i] && t->count > most / t->shape[i]) return fail(f, "tensor %s is larger than its file", t->name);
        t->count *= t->shape[i];
    }
    return true;
}

static bool read_offsets(const json *j, const json_value *v, const uint8_t *data, uint64_t size, tensor *t, failure *f)
{
    uint64_t at[2];
    const json_value *first = v && v->type == JSON_ARRAY && v->children == 2 ? json_first(j, v) : NULL;
    if (!first || !json_is_count(first, &at[0]) || !json_is_count(json_next(j, first), &at[1]))
        return fail(f, "tensor %s has no data_offsets", t->name);
    if (at[0] > at[1] || at[1] > size) return fail(f, "the data of tensor %s lies outside of the file", t->name);
    if (at[1] - at[0] != t->count * (t->half ? 2 : 4))
        return fail(f, "the data of tensor %s does not have the size of its shape", t->name);
    t->data = data + at[0];
    return true;
}

static bool read_tensor(const json *j, const json_value *v, const uint8_t *data, uint64_t size, tensor *t, failure *f)
{
    t->name = v->key;
    if (v->type != JSON_OBJECT) return fail(f, "tensor %s is not an object", t->name);
    return read_dtype(json_find(j, v, "dtype"), t, f) && read_shape(j, json_find(j, v, "shape"), size, t, f) &&
           read_offsets(j, json_find(j, v, "data_offsets"), data, size, t, f);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const tensor *)a)->name, ((const tensor *)b)->name);
}

static int by_place(const void *a, const void *b)
{
    const tensor *x = a, *y = b;
    if (x->data != y->data) return x->data > y->data ? 1 : -1;
    return (x->count > y->count) - (x->count < y->count); /* empty ones first */
}

static uint64_t bytes_of(const tensor *t) { return t->count * (t->half ? 2 : 4); }

/* The format allows no holes and no overlaps: every byte belongs to one tensor. */
static bool check_tiling(safetensors *s, const uint8_t *data, failure *f)
{
    uint64_t total = 0;
    if (s->count) qsort(s->tensors, s->count, sizeof *s->tensors, by_place);
    for (size_t i = 0; i < s->count; i++) {
        const tensor *t = &s->tensors[i];
        if (i && t->data < t[-1].data + bytes_of(&t[-1]))
            return fail(f, "the data of tensors %s and %s overlap", t[-1].name, t->name);
        total += bytes_of(t);
    }
    if (total != (uint64_t)(s->bytes + s->size - data)) return fail(f, "some bytes belong to no tensor");
    return true;
}

static bool check_names(safetensors *s, failure *f)
{
    if (s->count) qsort(s->tensors, s->count, sizeof *s->tensors, by_name);
    for (size_t i = 1; i < s->count; i++)
        if (!by_name(&s->tensors[i - 1], &s->tensors[i]))
            return fail(f, "tensor %s is there twice", s->tensors[i].name);
    return true;
}

static bool read_tensors(safetensors *s, const uint8_t *data, failure *f)
{
    const json *j = &s->header;
    const json_value *all = &j->values[0];
    if (all->type != JSON_OBJECT) return fail(f, "the header is not an object");
    s->tensors = calloc((size_t)all->children + 1, sizeof *s->tensors);
    if (!s->tensors) return fail(f, "out of memory");
    for (const json_value *v = json_first(j, all); v; v = json_next(j, v)) {
        if (!strcmp(v->key, "__metadata__")) continue;
        if (!read_tensor(j, v, data, (uint64_t)(s->bytes + s->size - data), &s->tensors[s->count], f)) return false;
        s->count++;
    }
    return check_tiling(s, data, f) && check_names(s, f);
}

static bool read_file(safetensors *s, failure *f)
{
    uint64_t length = s->size < LENGTH_BYTES ? 0 : little_endian(s->bytes, LENGTH_BYTES);
    if (s->size < LENGTH_BYTES || length > s->size - LENGTH_BYTES || length > MAX_HEADER)
        return fail(f, "not a safetensors file, or cut off");
    return json_read((const char *)s->bytes + LENGTH_BYTES, length, &s->header, f) &&
           read_tensors(s, s->bytes + LENGTH_BYTES + length, f);
}

bool safetensors_open(const char *path, safetensors *out, failure *f)
{
    failure why;
    *out = (safetensors){0};
    if (!file_read(path, &out->bytes, &out->size, f)) return false;
    if (read_file(out, &why)) return true;
    safetensors_close(out);
    return fail(f, "%s: %.400s", path, why.text);
}

void safetensors_close(safetensors *s)
{
    json_free(&s->header);
    free(s->tensors);
    free(s->bytes);
    *s = (safetensors){0};
}

/* ---- use -----------------------------------------------------------------------------------------------------------
 */

const tensor *safetensors_find(const safetensors *s, const char *name)
{
    const tensor wanted = {.name = name};
    return s->count ? bsearch(&wanted, s->tensors, s->count, sizeof *s->tensors, by_name) : NULL;
}

const json_value *safetensors_metadata(const safetensors *s, const char *key)
{
    const json *j = &s->header;
    const json_value *v = json_find(j, json_find(j, &j->values[0], "__metadata__"), key);
    return v && v->type == JSON_STRING ? v : NULL;
}

static float from_half(uint32_t h)
{
    uint32_t sign = (h & 0x8000u) << 16, exponent = h >> 10 & 0x1Fu, fraction = h & 0x3FFu, bits;
    float value;
    if (!exponent) { /* zero and subnormals: fraction * 2^-24 */
        value = (float)fraction * 0x1p-24f;
        return sign ? -value : value;
    }
    bits = sign | (exponent == 31 ? 0xFFu : exponent + 112) << 23 | fraction << 13;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float tensor_get(const tensor *t, uint64_t index)
{
    if (t->half) return from_half((uint32_t)little_endian(t->data + 2 * index, 2));
    uint32_t bits = (uint32_t)little_endian(t->data + 4 * index, 4);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
