/* air_fuzz.c - mutated .air text: read, verify, print, read again, run the passes. Nothing may crash or hang.
 *
 * Valid texts (random modules at a random stage of the pipeline) are cut, spliced and sprinkled with words and numbers
 * of the format. What the reader takes must verify, print and read back; passes may refuse it with a sentence, but not
 * break it.
 *
 *   air_fuzz [count [seed]] */
#include "tests/unit/check.h"

#include "ir/pass/pass.h"
#include "tests/unit/random_module.h"

#include <setjmp.h>

enum { MEMORY_LIMIT = 256 << 20, MAX_TEXT = 1 << 16 };

/* clang-format off */
static const char *const words[] = {
    "%1", "%2", "%999999999", "{", "}", "(", ")", ";", ",", "[", "]", "0", "-1", "9223372036854775807", "9223372036854775808", "1e999", "nan",
    "inf", "rows", "keys all", "keys full", "keys partial", "yield", "store", "merge", "load.q", "load.k", "dot.qk", "softmax", "init", "split",
    "grouped", "base2", "ranges", "may", "must", "live", "data", "exact", "schedule cpu:avx2", "lanes", "layers 65536;", "heads 4096 / 1",
    "dim 1024", "mask", "score", "sink", "scale", "if", "then", "else", "not", "and", "or", "q", "k", "s", "h", "q0", "k1", "doc.q", "doc.k.min",
    "may#0", "must#7", "min_of(", "win[", "float(", "tanh(", "/", "%", "==", "<=", "\"", "//", "\n", "table x : int[9] =", "((((((((", "- - - -",
};
/* clang-format on */

typedef struct buffer {
    char at[MAX_TEXT];
    size_t n;
} buffer;

static size_t below(unsigned long long *state, size_t n) { return n ? (size_t)(check_random(state) % n) : 0; }

static void splice(buffer *b, size_t at, size_t cut, const char *in, size_t n)
{
    cut = cut < b->n - at ? cut : b->n - at;
    if (b->n - cut + n >= MAX_TEXT) return;
    memmove(b->at + at + n, b->at + at + cut, b->n - at - cut);
    memcpy(b->at + at, in, n);
    b->n += n - cut;
}

/* Mutations that often leave a module right: another number, another operand, a line less or twice. */
static void mutate_gently(buffer *b, unsigned long long *state)
{
    char piece[24];
    size_t at = below(state, b->n + 1);
    while (at < b->n && !strchr("0123456789\n", b->at[at])) at++;
    size_t digits = strspn(b->at + at, "0123456789");
    if (digits) {
        int n = snprintf(piece, sizeof piece, "%d", (int)below(state, below(state, 4) ? 12 : 70000));
        splice(b, at, digits, piece, (size_t)n);
    } else if (at < b->n) {
        size_t line = strcspn(b->at + at + 1, "\n") + 1;
        char copy[512];
        size_t n = line < sizeof copy ? line : sizeof copy;
        memcpy(copy, b->at + at, n);
        splice(b, at, below(state, 3) ? line : 0, copy, below(state, 3) ? 0 : n);
    }
    b->at[b->n] = 0;
}

static void mutate(buffer *b, unsigned long long *state)
{
    char piece[256];
    size_t at = below(state, b->n + 1), from = below(state, b->n + 1), len = below(state, sizeof piece);
    const char *word = words[below(state, ATTNC_COUNT(words))];
    len = len < b->n - from ? len : b->n - from;
    memcpy(piece, b->at + from, len);
    switch (below(state, 7)) {
    case 0:
        splice(b, at, 1, &(char){(char)check_random(state)}, 1);
        break;
    case 1:
        splice(b, at, below(state, 40), "", 0);
        break;
    case 2:
        splice(b, at, 0, piece, len);
        break;
    case 3:
        splice(b, at, below(state, 8), word, strlen(word));
        break;
    case 4:
        splice(b, at, strcspn(b->at + at, " ;,\n"), word, strlen(word));
        break;
    case 5:
        splice(b, at, below(state, 80), piece, len);
        break;
    default:
        splice(b, at, 0, word, strlen(word));
        break;
    }
    b->at[b->n] = 0;
}

static void make_text(arena *a, unsigned long long *state, buffer *b)
{
    random_module r = random_module_create(a, state);
    size_t stage = below(state, PASS_COUNT + 1);
    const char *error = NULL;
    if (stage < PASS_COUNT)
        error = passes_run(r.m, &(pass_options){.stop_after = pass_name((pass_id)stage), .target = TARGET_CPU_AVX2});
    CHECK_MSG(!error, "%s", error);
    text t = {.arena = a};
    ir_module_print(r.m, &t);
    b->n = t.n < MAX_TEXT - 1 ? t.n : 0;
    memcpy(b->at, text_get(&t), b->n);
    b->at[b->n] = 0;
}

static ir_module *read_text(arena *a, const char *at, size_t n, bool *reported)
{
    diags d = {.arena = a};
    ir_module *m = ir_module_read(a, &d, diags_add_source(&d, "fuzz", at, n));
    *reported = d.errors > 0;
    return m;
}

static bool try_text(arena *a, const buffer *b)
{
    bool reported;
    ir_module *m = read_text(a, b->at, b->n, &reported);
    CHECK(reported == !m);
    if (!m) return false;
    CHECK(!ir_module_verify(m));
    text once = {.arena = a}, twice = {.arena = a};
    ir_module_print(m, &once);
    ir_module *again = read_text(a, text_get(&once), once.n, &reported);
    if (again) ir_module_print(again, &twice);
    CHECK_MSG(!strcmp(text_get(&once), text_get(&twice)), "%s", text_get(&once));
    passes_run(m, &(pass_options){.verify_each = true, .target = TARGET_CPU_AVX2});
    return true;
}

static void exhausted(void *ctx) { longjmp(*(jmp_buf *)ctx, 1); }

typedef enum outcome { REFUSED, TAKEN, TOO_LARGE } outcome;

static outcome fuzz_once(unsigned long long state, buffer *b)
{
    static jmp_buf out;
    arena *source = arena_create(0, NULL, NULL), *volatile a = arena_create(MEMORY_LIMIT, exhausted, &out);
    make_text(source, &state, b);
    bool gentle = below(&state, 2);
    for (size_t i = below(&state, 4) + 1; i; i--)
        if (gentle)
            mutate_gently(b, &state);
        else
            mutate(b, &state);
    volatile outcome o = TOO_LARGE;
    if (!setjmp(out)) o = try_text(a, b) ? TAKEN : REFUSED;
    arena_destroy(a);
    arena_destroy(source);
    return o;
}

int main(int argc, char **argv)
{
    unsigned long long seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    int count = argc > 1 ? atoi(argv[1]) : 2000, seen[3] = {0};
    static buffer b;
    printf("seed %llu, %d texts\n", seed, count);
    for (int i = 0; i < count; i++) {
        int before = check_failures;
        seen[fuzz_once(seed + (unsigned long long)i, &b)]++;
        if (check_failures != before) printf("repeat with: air_fuzz 1 %llu\n", seed + (unsigned long long)i);
    }
    printf("%d refused, %d taken, %d too large\n", seen[REFUSED], seen[TAKEN], seen[TOO_LARGE]);
    CHECK(count < 1000 || (seen[REFUSED] && seen[TAKEN])); /* otherwise the mutations say nothing */
    return CHECK_DONE();
}
