/* options.c - the command line of attn-run. */
#include "tools/attn-run/options.h"
#include "tools/common/args.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void run_options_help(void)
{
    fputs("usage: attn-run KERNEL.so --q Q.npy --k K.npy --v V.npy [options]    (no --v where the pattern says kv k_is_v)\n"
          "Runs one layer of a compiled model on tensors from .npy files.\n\n"
          "  --out O.npy, --lse LSE.npy   where the result and the log-sum-exp go\n"
          "  --layer L                    layer of the schedule (default 0)\n"
          "  --lengths A,B,...            packed: the tensors are [all tokens, heads, dim]; else [batch, tokens, heads, dim]\n"
          "  --steps A,B,...              feed each sequence through the KV cache in steps of A, B, ... queries; keys before the first query\n"
          "                               are there already (without: no cache, or one step where the pattern says kv quant)\n"
          "  --page-size P, --rollback R, --budget BYTES   of that cache: tokens a page (64), how far it can go back (0), most bytes\n"
          "  --attr NAME=FILE.npy         per-token attribute, int32: [tokens] or [batch, tokens]\n"
          "  --input NAME=FILE.npy        run-time input that the pattern declares\n"
          "  --threads N                  worker threads (default 1)\n"
          "  --isa=NAME                   baseline, avx2, avx512, avx512bf16, native (default: the best there is)\n"
          "  --check                      compare with the oracle\n"
          "  --expect O.npy               compare with a recorded result; --tolerance X (default 1e-4)\n"
          "  --random B,S[,SEED]          random tensors of B sequences of S tokens instead of --q --k --v\n"
          "  --kv-len N                   with --random: N keys; the queries are the last S of these positions\n\n"
          "Exit status: 0 done, 1 a comparison failed, 2 bad usage, a bad file or an unsupported shape.\n",
          stdout);
}

static bool parse_random(run_options *o, const char *text, tool_error *err)
{
    int64_t *list;
    size_t n;
    if (!args_ints("--random", text, 0, 1 << 30, &list, &n, err)) return false;
    bool ok = (n == 2 || n == 3) && list[0] >= 1;
    problem_source *s = &o->source;
    s->random = true;
    if (ok) s->batch = list[0], s->q_tokens = list[1], s->seed = n == 3 ? list[2] : 1;
    free(list);
    return ok || tool_fail(err, "--random needs B,S or B,S,SEED with at least one sequence, not '%s'", text);
}

static bool parse_pieces(run_options *o, const char *text, tool_error *err)
{
    free(o->pieces);
    o->pieces = NULL;
    if (!args_ints("--steps", text, 0, 1 << 30, &o->pieces, &o->steps.n_pieces, err)) return false;
    o->steps.pieces = o->pieces;
    return true;
}

/* Is it an option of the cache? a->failed when its value is wrong. */
static bool parse_cache(run_options *o, args *a, const char *word)
{
    const struct {
        const char *name;
        int64_t lo, hi;
        int64_t *value;
    } numbers[] = {{"--page-size", 1, 1 << 24, &o->steps.page_tokens},
                   {"--rollback", 0, 1 << 30, &o->steps.rollback},
                   {"--budget", 1, INT64_MAX, &o->steps.budget}};
    const char *v;
    if (args_option(a, word, "--steps", &v)) return a->failed = a->failed || !parse_pieces(o, v, a->err), true;
    for (size_t i = 0; i < ATTNC_COUNT(numbers); i++)
        if (args_option(a, word, numbers[i].name, &v)) {
            o->cache = true;
            a->failed = a->failed || !args_int(numbers[i].name, v, numbers[i].lo, numbers[i].hi, numbers[i].value, a->err);
            return true;
        }
    return false;
}

static bool parse_isa(run_options *o, const char *name, tool_error *err)
{
    o->isa = attn_isa_parse(name);
    if (o->isa >= 0) return true;
    return tool_fail(err, "--isa must be baseline, avx2, avx512, avx512bf16 or native, not '%s'", name);
}

static bool parse_tolerance(run_options *o, const char *text, tool_error *err)
{
    char *end;
    o->tolerance = strtod(text, &end);
    if (end != text && !*end && o->tolerance >= 0) return true;
    return tool_fail(err, "--tolerance must be a number that is not negative, not '%s'", text);
}

static bool parse_device(const char *name, tool_error *err)
{
    if (!strcmp(name, "cpu")) return true;
    return tool_fail(err, "--device=%s: this version has no GPU backend; there is cpu", name);
}

static bool parse_string(run_options *o, args *a, const char *word)
{
    const struct {
        const char *name;
        const char **value;
    } strings[] = {{"--q", &o->source.q}, {"--k", &o->source.k}, {"--v", &o->source.v}, {"--out", &o->out}, {"--lse", &o->lse}, {"--expect", &o->expect}};
    for (size_t i = 0; i < ATTNC_COUNT(strings); i++)
        if (args_option(a, word, strings[i].name, strings[i].value)) return true;
    return false;
}

static bool parse_value(run_options *o, args *a, const char *word)
{
    const char *v;
    if (args_option(a, word, "--layer", &v)) return !a->failed && args_int("--layer", v, 0, INT32_MAX, &o->source.layer, a->err);
    if (args_option(a, word, "--threads", &v)) return !a->failed && args_int("--threads", v, 1, 1024, &o->threads, a->err);
    if (args_option(a, word, "--isa", &v)) return !a->failed && parse_isa(o, v, a->err);
    if (args_option(a, word, "--kv-len", &v)) return !a->failed && args_int("--kv-len", v, 1, 1 << 30, &o->kv_len, a->err);
    if (args_option(a, word, "--device", &v)) return !a->failed && parse_device(v, a->err);
    if (args_option(a, word, "--tolerance", &v)) return !a->failed && parse_tolerance(o, v, a->err);
    if (args_option(a, word, "--random", &v)) return !a->failed && parse_random(o, v, a->err);
    if (args_option(a, word, "--attr", &v)) return !a->failed && problem_name_file("--attr", (char *)v, o->source.attrs, &o->source.n_attrs, a->err);
    if (args_option(a, word, "--input", &v)) return !a->failed && problem_name_file("--input", (char *)v, o->source.inputs, &o->source.n_inputs, a->err);
    if (args_option(a, word, "--lengths", &v)) {
        free(o->lengths);
        o->lengths = NULL;
        if (a->failed || !args_ints("--lengths", v, 0, 1 << 30, &o->lengths, &o->source.n_lengths, a->err)) return false;
        o->source.lengths = o->lengths;
        return true;
    }
    return tool_fail(a->err, "unknown option '%s'; attn-run --help lists the options", word);
}

static bool parse_word(run_options *o, args *a, const char *word)
{
    if (!strcmp(word, "--help")) return o->help = true;
    if (!strcmp(word, "--check")) return o->check = true;
    if (parse_cache(o, a, word)) return !a->failed;
    if (parse_string(o, a, word)) return !a->failed;
    if (word[0] == '-') return parse_value(o, a, word);
    if (o->module) return tool_fail(a->err, "one module at a time; there is also '%s'", word);
    o->module = word;
    return true;
}

static bool check_together(run_options *o, tool_error *err)
{
    if (!o->module) return tool_fail(err, "no kernel given; attn-run --help says what there is");
    problem_source *s = &o->source;
    bool some = s->q || s->k || s->v, all = s->q && s->k; /* v: the layer says whether it is needed */
    if (s->random && some) return tool_fail(err, "--random takes the place of --q, --k and --v");
    if (!s->random && !all) return tool_fail(err, "--q, --k and --v are needed (or --random B,S)");
    if (s->random && s->lengths) return tool_fail(err, "--random makes sequences of one length; --lengths does not go with it");
    if (o->kv_len && !s->random) return tool_fail(err, "--kv-len belongs to --random");
    if (o->cache && !o->steps.n_pieces) return tool_fail(err, "--page-size, --rollback and --budget belong to --steps");
    s->k_tokens = o->kv_len ? o->kv_len : s->q_tokens;
    return true;
}

bool run_options_parse(int argc, char **argv, run_options *o, tool_error *err)
{
    *o = (run_options){.isa = -1, .threads = 1, .tolerance = 1e-4};
    args a = {argc, 1, argv, err, false};
    for (const char *word; (word = args_next(&a));)
        if (!parse_word(o, &a, word)) return false;
    return o->help || check_together(o, err);
}

void run_options_free(run_options *o)
{
    free(o->lengths);
    free(o->pieces);
}
