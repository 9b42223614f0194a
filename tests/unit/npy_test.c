/* npy_test.c - .npy files: what NumPy writes, what it may write, and what nobody should. */
#include "tools/common/npy.h"
#include "tools/common/half.h"
#include "tests/unit/check.h"
#include <math.h>

/* A file of version `major` around a dictionary and some data. */
static size_t make(char *out, int major, const char *dictionary, const void *data, size_t bytes)
{
    size_t n = strlen(dictionary), start = major == 1 ? 10 : 12;
    memcpy(out, "\x93NUMPY", 6);
    out[6] = (char)major;
    out[7] = 0;
    memset(out + 8, 0, 4);
    out[8] = (char)(n & 255);
    out[9] = (char)(n >> 8);
    memcpy(out + start, dictionary, n);
    memcpy(out + start + n, data, bytes);
    return start + n + bytes;
}

static bool parse(int major, const char *dictionary, const void *data, size_t bytes, npy_array *a, tool_error *err)
{
    static char file[4096];
    return npy_parse("x.npy", file, make(file, major, dictionary, data, bytes), a, err);
}

static void reads_every_number_type(void)
{
    npy_array a;
    tool_error err;
    CHECK(parse(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }", (float[]){1.5f, -2}, 8, &a, &err));
    CHECK(a.rank == 2 && a.extent[0] == 2 && a.extent[1] == 1 && a.f32[0] == 1.5f && a.f32[1] == -2);
    npy_free(&a);
    CHECK(parse(2, "{'shape': (1,), 'fortran_order': False, 'descr': '<f8'}", (double[]){0.1}, 8, &a, &err));
    CHECK(a.f32[0] == 0.1f);
    npy_free(&a);
    CHECK(parse(3, "{'descr': '<f2', 'fortran_order': False, 'shape': (3,)}", (uint16_t[]){0x3c00, 0x8001, 0x7c00}, 6, &a, &err));
    CHECK(a.f32[0] == 1 && a.f32[1] == -0x1p-24f && isinf(a.f32[2]));
    npy_free(&a);
    CHECK(parse(1, "{'descr': '<i8', 'fortran_order': False, 'shape': ()}", (int64_t[]){-7}, 8, &a, &err));
    CHECK(a.rank == 0 && a.count == 1 && a.i32[0] == -7);
    npy_free(&a);
    CHECK(parse(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 9223372036854775000)}", "", 0, &a, &err));
    CHECK(a.count == 0);
    npy_free(&a);
}

static void refuses(const char *dictionary, size_t bytes, const char *word)
{
    static const char zeros[64];
    npy_array a;
    tool_error err = {""};
    CHECK_MSG(!parse(1, dictionary, zeros, bytes, &a, &err), "%s", dictionary);
    CHECK_MSG(strstr(err.text, word), "'%s' lacks '%s'", err.text, word);
    CHECK(!a.f32 && !a.i32);
}

static void refuses_what_it_cannot_read(void)
{
    refuses("{'descr': '>f4', 'fortran_order': False, 'shape': (1,)}", 4, "big-endian");
    refuses("{'descr': '<f4', 'fortran_order': True, 'shape': (1,)}", 4, "Fortran");
    refuses("{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}", 8, "'<c8'");
    refuses("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", 4, "records");
    refuses("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", 4, "shape");
    refuses("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", 8, "shape");
    refuses("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4)}", 0, "shape");
    refuses("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}", 4, "damaged");
    refuses("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", 4, "damaged");
    refuses("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}", 4, "dimensions");
    refuses("{'descr': '<f4', 'fortran_order': False}", 4, "damaged");
    refuses("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", 4, "damaged");
    refuses("{'descr': '<i8', 'fortran_order': False, 'shape': (", 8, "damaged");
    refuses("", 0, "damaged");
}

/* Every prefix of a good file, and every single changed byte of its header: an answer, never a crash. */
static void survives_damage(void)
{
    char file[256], broken[256];
    size_t n = make(file, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }", (float[]){1, 2, 3, 4}, 16);
    npy_array a;
    tool_error err;
    for (size_t i = 0; i < n; i++) {
        char *exact = malloc(i + 1);
        memcpy(exact, file, i);
        CHECK(!npy_parse("x", exact, i, &a, &err));
        free(exact);
    }
    for (size_t i = 0; i < n - 16; i++)
        for (int c = 0; c < 256; c++) {
            memcpy(broken, file, n);
            broken[i] = (char)c;
            if (npy_parse("x", broken, n, &a, &err)) npy_free(&a);
        }
}

static void written_files_read_back(void)
{
    float x[6] = {1, 2, 3, -0.0f, 1e-40f, 6};
    int64_t extent[3] = {1, 2, 3};
    npy_array a;
    tool_error err = {""};
    const char *path = "npy_test.tmp.npy";
    CHECK_MSG(npy_write_f32(path, x, extent, 3, &err), "%s", err.text);
    CHECK_MSG(npy_read(path, &a, &err), "%s", err.text);
    CHECK(a.rank == 3 && a.extent[2] == 3 && !memcmp(a.f32, x, sizeof x));
    npy_free(&a);
    remove(path);
    CHECK(!npy_read("no/such/file.npy", &a, &err) && strstr(err.text, "no/such/file.npy"));
    CHECK(!npy_read(".", &a, &err) && strstr(err.text, "folder"));
    CHECK(!npy_write_f32("no/such/folder/x.npy", x, extent, 3, &err));
}

static void halves_round_to_nearest_even(void)
{
    for (uint32_t u = 0; u < 65536; u++) { /* every half that is a number survives the way there and back */
        float x = half_from_f16((uint16_t)u), y = half_from_bf16((uint16_t)u);
        if (!isnan(x)) CHECK_MSG(half_to_f16(x) == u, "f16 %04x", u);
        if (!isnan(y)) CHECK_MSG(half_to_bf16(y) == u, "bf16 %04x", u);
    }
    CHECK(half_to_f16(1 + 0x1p-11f) == 0x3c00 && half_to_f16(1 + 3 * 0x1p-11f) == 0x3c02);
    CHECK(half_to_f16(65519.0f) == 0x7bff && half_to_f16(65520.0f) == 0x7c00 && half_to_f16(0x1p-25f) == 0);
    CHECK(half_to_f16(2047.5f * 0x1p-1f) == 0x6400);
    CHECK(half_to_bf16(1 + 0x1p-8f) == 0x3f80 && half_to_bf16(1 + 3 * 0x1p-8f) == 0x3f82);
    CHECK(isnan(half_from_f16(half_to_f16(NAN))) && isnan(half_from_bf16(half_to_bf16(NAN))));
}

int main(void)
{
    RUN(reads_every_number_type);
    RUN(refuses_what_it_cannot_read);
    RUN(survives_damage);
    RUN(written_files_read_back);
    RUN(halves_round_to_nearest_even);
    return CHECK_DONE();
}
