/* npy.c - NumPy's .npy files.
 *
 * A file is "\x93NUMPY", version, header length, header, data. The header is a Python dictionary with three keys; it comes from
 * strangers, so every length is checked before it is used. */
#include "tools/common/npy.h"
#include "tools/common/half.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum element { ELEMENT_F2, ELEMENT_F4, ELEMENT_F8, ELEMENT_I4, ELEMENT_I8, ELEMENT_BOOL, ELEMENT_COUNT } element;
static const struct {
    const char *name;
    size_t size;
    bool is_int;
} elements[ELEMENT_COUNT] = {
    [ELEMENT_F2] = {"<f2", 2, false}, [ELEMENT_F4] = {"<f4", 4, false}, [ELEMENT_F8] = {"<f8", 8, false},
    [ELEMENT_I4] = {"<i4", 4, true},  [ELEMENT_I8] = {"<i8", 8, true},  [ELEMENT_BOOL] = {"|b1", 1, true},
};

typedef struct header {
    const char *name, *at, *end; /* the text still to be read */
    npy_array *array;
    element element;
    bool has_descr, has_order, has_shape;
} header;

/* ---- the header's dictionary -------------------------------------------------------------------------------------------- */

static void skip_space(header *h)
{
    while (h->at < h->end && strchr(" \t\n\r", *h->at) && *h->at)
        h->at++;
}

static bool take(header *h, char c)
{
    skip_space(h);
    if (h->at == h->end || *h->at != c) return false;
    h->at++;
    return true;
}

static bool take_word(header *h, const char *word)
{
    size_t n = strlen(word);
    skip_space(h);
    if ((size_t)(h->end - h->at) < n || memcmp(h->at, word, n)) return false;
    h->at += n;
    return true;
}

static bool bad_header(const header *h, tool_error *err)
{
    return tool_fail(err, "'%s' has a damaged .npy header", h->name);
}

static bool take_string(header *h, char *out, size_t size)
{
    skip_space(h);
    if (h->at == h->end || (*h->at != '\'' && *h->at != '"')) return false;
    char quote = *h->at++;
    const char *close = memchr(h->at, quote, (size_t)(h->end - h->at));
    if (!close || (size_t)(close - h->at) >= size) return false;
    memcpy(out, h->at, (size_t)(close - h->at));
    out[close - h->at] = 0;
    h->at = close + 1;
    return true;
}

static bool parse_descr(header *h, tool_error *err)
{
    char descr[16];
    skip_space(h);
    if (h->at < h->end && *h->at == '[')
        return tool_fail(err, "'%s' holds records; plain numbers are needed (f2, f4, f8, i4, i8)", h->name);
    if (!take_string(h, descr, sizeof descr)) return bad_header(h, err);
    for (int e = 0; e < ELEMENT_COUNT; e++)
        if (!strcmp(descr, elements[e].name)) {
            h->element = (element)e;
            return h->has_descr = true;
        }
    if (descr[0] == '>')
        return tool_fail(err, "'%s' is big-endian ('%s'); save it with the machine's own byte order", h->name, descr);
    return tool_fail(err, "'%s' holds elements of type '%s'; supported are f2, f4, f8, i4, i8 and bool", h->name, descr);
}

static bool parse_order(header *h, tool_error *err)
{
    if (take_word(h, "False")) return h->has_order = true;
    if (!take_word(h, "True")) return bad_header(h, err);
    return tool_fail(err, "'%s' is stored in Fortran order; save it with np.ascontiguousarray", h->name);
}

static bool parse_extent(header *h, int64_t *out)
{
    int64_t x = 0;
    skip_space(h);
    if (h->at == h->end || *h->at < '0' || *h->at > '9') return false;
    for (; h->at < h->end && *h->at >= '0' && *h->at <= '9'; h->at++) {
        if (x > (INT64_MAX - 9) / 10) return false;
        x = 10 * x + (*h->at - '0');
    }
    *out = x;
    return true;
}

static bool parse_shape(header *h, tool_error *err)
{
    if (!take(h, '(')) return bad_header(h, err);
    while (!take(h, ')')) {
        if (h->array->rank == NPY_MAX_RANK)
            return tool_fail(err, "'%s' has more than %d dimensions", h->name, NPY_MAX_RANK);
        if (!parse_extent(h, &h->array->extent[h->array->rank++])) return bad_header(h, err);
        if (take(h, ',')) continue;
        if (!take(h, ')')) return bad_header(h, err);
        break;
    }
    return h->has_shape = true;
}

static bool parse_entry(header *h, tool_error *err)
{
    char key[32];
    if (!take_string(h, key, sizeof key) || !take(h, ':')) return bad_header(h, err);
    if (!strcmp(key, "descr") && !h->has_descr) return parse_descr(h, err);
    if (!strcmp(key, "fortran_order") && !h->has_order) return parse_order(h, err);
    if (!strcmp(key, "shape") && !h->has_shape) return parse_shape(h, err);
    return bad_header(h, err);
}

static bool parse_dictionary(header *h, tool_error *err)
{
    if (!take(h, '{')) return bad_header(h, err);
    while (!take(h, '}')) {
        if (!parse_entry(h, err)) return false;
        if (take(h, ',')) continue;
        if (!take(h, '}')) return bad_header(h, err);
        break;
    }
    return (h->has_descr && h->has_order && h->has_shape) || bad_header(h, err);
}

/* The product of the extents; false when more elements are promised than `available` bytes can hold. */
static bool count_elements(header *h, size_t available)
{
    uint64_t count = 1, most = available / elements[h->element].size;
    bool empty = false;
    for (uint32_t i = 0; i < h->array->rank; i++)
        empty |= h->array->extent[i] == 0;
    for (uint32_t i = 0; i < h->array->rank && !empty; i++) {
        if ((uint64_t)h->array->extent[i] > most / count) return false;
        count *= (uint64_t)h->array->extent[i];
    }
    h->array->count = empty ? 0 : (int64_t)count;
    return empty || count <= most;
}

/* ---- data --------------------------------------------------------------------------------------------------------------- */

static float element_float(element e, const char *p)
{
    uint16_t half;
    float single;
    double full;
    if (e == ELEMENT_F2) return memcpy(&half, p, 2), half_from_f16(half);
    if (e == ELEMENT_F4) return memcpy(&single, p, 4), single;
    return memcpy(&full, p, 8), (float)full;
}

static bool element_int(element e, const char *p, int32_t *out)
{
    int64_t x = 0;
    if (e == ELEMENT_I4) return memcpy(out, p, 4), true;
    if (e == ELEMENT_BOOL) return *out = *p != 0, true;
    memcpy(&x, p, 8);
    *out = (int32_t)x;
    return x >= INT32_MIN && x <= INT32_MAX;
}

static bool convert(const header *h, const char *data, tool_error *err)
{
    npy_array *a = h->array;
    size_t n = (size_t)a->count, size = elements[h->element].size;
    void *memory = malloc(4 * n + 4);
    if (!memory) return tool_fail(err, "'%s' is too large for the memory", h->name);
    if (!elements[h->element].is_int) {
        a->f32 = memory;
        for (size_t i = 0; i < n; i++)
            a->f32[i] = element_float(h->element, data + i * size);
        return true;
    }
    a->i32 = memory;
    for (size_t i = 0; i < n; i++)
        if (!element_int(h->element, data + i * size, &a->i32[i]))
            return tool_fail(err, "'%s' holds an integer that does not fit 32 bits", h->name);
    return true;
}

static bool parse_file(header *h, const char *data, size_t len, tool_error *err)
{
    const unsigned char *u = (const unsigned char *)data;
    if (len < 10 || memcmp(data, "\x93NUMPY", 6)) return tool_fail(err, "'%s' is not a .npy file", h->name);
    if (u[6] < 1 || u[6] > 3) return tool_fail(err, "'%s' is of .npy version %d; known are 1 to 3", h->name, u[6]);
    size_t start = u[6] == 1 ? 10 : 12;
    if (len < start) return bad_header(h, err);
    size_t size = u[8] + ((size_t)u[9] << 8);
    if (u[6] > 1) size += ((size_t)u[10] << 16) + ((size_t)u[11] << 24);
    if (size > len - start) return bad_header(h, err);
    h->at = data + start;
    h->end = h->at + size;
    if (!parse_dictionary(h, err)) return false;
    size_t available = len - start - size;
    if (!count_elements(h, available) || (size_t)h->array->count * elements[h->element].size != available)
        return tool_fail(err, "'%s' has %zu bytes of data, which is not what its shape says", h->name, available);
    return convert(h, data + start + size, err);
}

bool npy_parse(const char *name, const char *data, size_t len, npy_array *out, tool_error *err)
{
    *out = (npy_array){0};
    header h = {.name = name, .array = out};
    if (parse_file(&h, data, len, err)) return true;
    npy_free(out);
    return false;
}

bool npy_read(const char *path, npy_array *out, tool_error *err)
{
    char *data;
    size_t len;
    *out = (npy_array){0};
    if (!file_read(path, &data, &len, err)) return false;
    bool ok = npy_parse(path, data, len, out, err);
    free(data);
    return ok;
}

void npy_free(npy_array *a)
{
    free(a->f32);
    free(a->i32);
    *a = (npy_array){0};
}

bool npy_make_f32(const char *name, npy_array *a, tool_error *err)
{
    if (a->f32) return true;
    a->f32 = malloc(4 * (size_t)a->count + 4);
    if (!a->f32) return tool_fail(err, "'%s' is too large for the memory", name);
    for (int64_t i = 0; i < a->count; i++)
        a->f32[i] = (float)a->i32[i];
    free(a->i32);
    a->i32 = NULL;
    return true;
}

bool npy_make_i32(const char *name, npy_array *a, tool_error *err)
{
    if (a->i32) return true;
    for (int64_t i = 0; i < a->count; i++)
        if (!(fabsf(a->f32[i]) <= 1e9f && a->f32[i] == floorf(a->f32[i])))
            return tool_fail(err, "'%s' must hold whole numbers", name);
    a->i32 = malloc(4 * (size_t)a->count + 4);
    if (!a->i32) return tool_fail(err, "'%s' is too large for the memory", name);
    for (int64_t i = 0; i < a->count; i++)
        a->i32[i] = (int32_t)a->f32[i];
    free(a->f32);
    a->f32 = NULL;
    return true;
}

/* ---- writing ------------------------------------------------------------------------------------------------------------ */

static size_t write_header(char *out, size_t size, const int64_t *extent, uint32_t rank)
{
    int n = snprintf(out, size, "%cNUMPY%c%c__{'descr': '<f4', 'fortran_order': False, 'shape': (", 0x93, 1, 0);
    for (uint32_t i = 0; i < rank; i++)
        n += snprintf(out + n, size - (size_t)n, "%s%lld", i ? ", " : "", (long long)extent[i]);
    n += snprintf(out + n, size - (size_t)n, "%s), }", rank == 1 ? "," : "");
    while ((n + 1) % 64) /* data begins at a multiple of 64 */
        out[n++] = ' ';
    out[n++] = '\n';
    out[8] = (char)((n - 10) & 255);
    out[9] = (char)((n - 10) >> 8);
    return (size_t)n;
}

bool npy_write_f32(const char *path, const float *data, const int64_t *extent, uint32_t rank, tool_error *err)
{
    char head[512];
    size_t bytes = 4, n = write_header(head, sizeof head - 64, extent, rank);
    for (uint32_t i = 0; i < rank; i++)
        bytes *= (size_t)extent[i];
    char *all = malloc(n + bytes);
    if (!all) return tool_fail(err, "cannot write '%s': out of memory", path);
    memcpy(all, head, n);
    memcpy(all + n, data, bytes);
    bool ok = file_write(path, all, n + bytes, err);
    free(all);
    return ok;
}
