/* frontend_fuzz.c - no text makes the front end crash, hang or take much memory: it ends in a module or in an error.
 *
 *     frontend_fuzz PRELUDE_DIR [COUNT [SEED [FILE.attn ...]]]
 *
 * Starts from snippets, the files named and the prelude's; changes bytes, tokens and lines, joins pieces of several,
 * and compiles each. The seed reproduces a run; each input is written to frontend_fuzz.attn before it is compiled, so
 * that after a crash the cause lies there. */
#define _POSIX_C_SOURCE 200809L
#include "frontend/frontend.h"
#include "tests/unit/check.h"

#include <dirent.h>
#include <setjmp.h>
#include <time.h>

enum { MOST_SEEDS = 256, MOST_BYTES = 1 << 16, ARENA_LIMIT = 256 << 20 };

typedef struct input {
    char *at;
    size_t n;
} input;

static input seeds[MOST_SEEDS];
static size_t n_seeds;
static unsigned long long state;

static size_t below(size_t n) { return n ? (size_t)(check_random(&state) % n) : 0; }

/* The last one is wrong on purpose. */
static const char *const snippets[] = {
    "pattern main { heads 4 / 2; dim 16; mask causal and window(8); score alibi, softcap(2.0); }",
    "model m { layers 4; heads 8 / 2; dim 64; dtype bf16; input sinks : f32[layers, heads]; pattern a { mask causal "
    "and chunk(8); row softmax(sink: sinks[layer, h]); } pattern b { mask all; score qtemp(0.1, 8192, 1); } schedule "
    "(a * 3, b) * 1; }",
    "attr image : int; param W : int[4] = [1, 4, 16, none]; pattern p { heads 4; dim 16; mask (causal or same(image)) "
    "and window(W[h]); }",
    "pattern p { heads 12; dim 32; input rel : f32[heads, 32]; mask all; scale 1.0; score t5(rel, 32, 128, true), if h "
    "in [0, 2..4] then s else -s; }",
    "mask f(a, b) = 0 <= a - b < 5 and not (a % 3 == b / 2) require a >= 0 \"text\"; let g = min(1, 2, 3); pattern p { "
    "heads 2; dim 8; mask f(q, k); }",
    "model m { layers 12; heads 4; dim 16; pattern a { mask causal; } pattern b { mask streaming(4, 8); } schedule if "
    "layer % 4 == 3 then a else b; }",
    "model m { heads 4; dim 16; dim_v 8; pattern a { mask causal and window(2 + len / 4); max_len 99; kv k_is_v; } pattern b "
    "{ mask all; kv shared(0), k_is_v; } schedule a, b; }",
    "import \"frontend_fuzz.attn\"; mask x(t) = x(t); pattern p { heads 4; dim 16; mask x(1); rope 5; kv ring(3); "
    "select block(8); }",
};

static const char *const tokens[] = {
    "pattern",
    "model",
    "mask",
    "score",
    "let",
    "param",
    "input",
    "attr",
    "schedule",
    "layers",
    "heads",
    "dim",
    "dim_v",
    "dtype",
    "scale",
    "row",
    "kv",
    "shared",
    "k_is_v",
    "quant(int8",
    "max_len",
    "len",
    "softmax",
    "sink",
    "import",
    "require",
    "if",
    "then",
    "else",
    "and",
    "or",
    "not",
    "in",
    "true",
    "none",
    "q",
    "k",
    "h",
    "g",
    "layer",
    "s",
    "causal",
    "window",
    "chunk",
    "same",
    "alibi",
    "t5",
    "block",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ";",
    ",",
    ":",
    "..",
    ".",
    "+",
    "-",
    "*",
    "/",
    "%",
    "<",
    "<=",
    "==",
    "!=",
    ">",
    ">=",
    "=",
    "0",
    "1",
    "-1",
    "8",
    "2147483647",
    "9223372036854775807",
    "99999999999999999999",
    "0.5",
    "1e308",
    "1e999",
    "\"x\"",
    "/*",
    "//",
    "\xff",
    "\xe2\x89\xa4",
    "int",
    "f32",
    "bf16",
    "float",
    "floor",
    "exp2",
    "log2",
    "min",
    "abs",
    "((((((((",
    "if if if",
};

static void add_seed(const char *source, size_t n)
{
    if (n_seeds == MOST_SEEDS || n > MOST_BYTES / 2) return;
    char *copy = malloc(n + 1);
    memcpy(copy, source, n);
    seeds[n_seeds++] = (input){copy, n};
}

static void add_file(const char *path)
{
    static char buffer[MOST_BYTES];
    FILE *f = fopen(path, "rb");
    if (!f) return;
    add_seed(buffer, fread(buffer, 1, sizeof buffer, f));
    fclose(f);
}

static void add_folder(const char *dir)
{
    DIR *d = opendir(dir);
    if (!d) return;
    for (const struct dirent *e; (e = readdir(d));) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (strstr(e->d_name, ".attn")) add_file(path);
    }
    closedir(d);
}

/* ---- changes ---------------------------------------------------------------------------------------------------- */
/* Replaces n bytes at `at` by others. */
static void splice(input *x, size_t at, size_t n, const char *by, size_t m)
{
    if (at > x->n) at = x->n;
    if (n > x->n - at) n = x->n - at;
    if (x->n - n + m > MOST_BYTES) return;
    memmove(x->at + at + m, x->at + at + n, x->n - at - n);
    memcpy(x->at + at, by, m);
    x->n = x->n - n + m;
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
}

static void pick_token(const input *x, size_t *at, size_t *n)
{
    *at = below(x->n);
    while (*at < x->n && x->at[*at] == ' ') ++*at;
    *n = 1;
    if (*at >= x->n || !is_word(x->at[*at])) return;
    while (*at > 0 && is_word(x->at[*at - 1])) --*at;
    while (*at + *n < x->n && is_word(x->at[*at + *n])) ++*n;
}

static void change(input *x)
{
    static char copy[MOST_BYTES];
    const char *token = tokens[below(ATTNC_COUNT(tokens))];
    const input *other = &seeds[below(n_seeds)];
    size_t at, n, from = below(other->n), len = below(80) + 1;
    pick_token(x, &at, &n);
    switch (below(9)) {
    case 0:
        if (x->n) x->at[below(x->n)] = (char)check_random(&state);
        break;
    case 1:
        splice(x, at, n, token, strlen(token));
        break;
    case 2:
        splice(x, at, 0, token, strlen(token));
        splice(x, at, 0, " ", 1);
        break;
    case 3:
        splice(x, at, n, "", 0);
        break;
    case 4:
        splice(x, at, below(60), "", 0);
        break;
    case 5:
        splice(x, at, 0, other->at + from, len < other->n - from ? len : other->n - from);
        break;
    case 6:
        len = len < x->n - at ? len : x->n - at;
        memcpy(copy, x->at + at, len);
        for (size_t i = below(12); i-- > 0;) splice(x, at, 0, copy, len);
        break;
    case 7:
        splice(x, at, x->n - at, "", 0);
        break;
    case 8:
        splice(x, at, x->n - at, other->at + from, other->n - from);
        break;
    }
}

/* ---- running ---------------------------------------------------------------------------------------------------- */
static jmp_buf exhausted;
static void on_exhausted(void *ctx)
{
    (void)ctx;
    longjmp(exhausted, 1);
}

static unsigned modules, refused, too_large;

/* false: neither a module nor an error. */
static bool run_one(const input *x, const char *prelude)
{
    arena *volatile a = arena_create(ARENA_LIMIT, on_exhausted, NULL);
    if (setjmp(exhausted)) {
        too_large++;
        arena_destroy(a);
        return true;
    }
    diags d = {.arena = a};
    frontend_options o = {.prelude_dir = prelude};
    const ir_module *m = frontend_compile_text(a, &d, "fuzz.attn", x->at, x->n, &o);
    bool good = (m != NULL) == (d.errors == 0);
    if (m)
        modules++;
    else
        refused++;
    arena_destroy(a);
    return good;
}

static void keep(const input *x)
{
    FILE *f = fopen("frontend_fuzz.attn", "wb");
    if (!f) return;
    fwrite(x->at, 1, x->n, f);
    fclose(f);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc < 2) return fprintf(stderr, "usage: frontend_fuzz PRELUDE_DIR [COUNT [SEED [FILE.attn ...]]]\n"), 2;
    unsigned long count = argc > 2 ? strtoul(argv[2], NULL, 10) : 2000;
    state = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
    printf("frontend_fuzz: %lu inputs, seed %llu\n", count, state);
    for (size_t i = 0; i < ATTNC_COUNT(snippets); i++) add_seed(snippets[i], strlen(snippets[i]));
    for (int i = 4; i < argc; i++) add_file(argv[i]);
    add_folder(argv[1]);
    char examples[4096];
    snprintf(examples, sizeof examples, "%s/../../examples", argv[1]); /* of the source tree, where that is there */
    add_folder(examples);
    input x = {malloc(MOST_BYTES), 0};
    double slowest = 0;
    for (unsigned long i = 0; i < count && check_current < 5; i++) {
        const input *from = &seeds[i < n_seeds ? i : below(n_seeds)]; /* each as it is, before any is changed */
        memcpy(x.at, from->at, x.n = from->n);
        for (size_t n = i < n_seeds ? 0 : below(below(6) + 1) + 1; n > 0; n--) change(&x);
        keep(&x); /* what is there after a crash is its cause */
        double before = now();
        CHECK_MSG(run_one(&x, argv[1]), "input %lu: neither a module nor an error:\n%.*s", i, (int)x.n, x.at);
        double took = now() - before;
        if (took > slowest) slowest = took;
        CHECK_MSG(took < 10, "input %lu took %.1f s:\n%.*s", i, took, (int)x.n, x.at);
    }
    CHECK(count < n_seeds || modules >= ATTNC_COUNT(snippets) - 1); /* all but the last are right as they stand */
    if (!check_failures) remove("frontend_fuzz.attn");
    printf("%u modules, %u refused, %u over the memory limit, slowest %.3f s\n", modules, refused, too_large, slowest);
    free(x.at);
    for (size_t i = 0; i < n_seeds; i++) free(seeds[i].at);
    return CHECK_DONE();
}
