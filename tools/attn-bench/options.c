/* options.c - the command line of attn-bench. */
#include "tools/attn-bench/options.h"
#include "tools/common/args.h"
#include <attn/attn.h>
#include <stdio.h>
#include <string.h>

enum { DEFAULT_LENGTH = 1024, DEFAULT_STEP = 16, DEFAULT_KEYS = 4096, DEFAULT_REPEAT = 7 };

void bench_options_help(void)
{
    fputs("usage: attn-bench KERNEL.so --op=prefill|decode|step [options]\n"
          "Times one layer on random tensors, beside a burst of multiply-adds and a plain read timed between the repeats.\n"
          "Runs shorter than ten milliseconds are timed right behind others that are not, as a layer comes behind a layer.\n\n"
          "  --layer L       layer of the schedule (default 0)\n"
          "  --batch B       sequences (default 1)\n"
          "  --q-len M       queries of each (default: prefill 1024, decode 1, step 16)\n"
          "  --kv-len N      keys of each (default: prefill M, else 4096); the queries are the last M positions\n"
          "  --page-size P   decode, step: keys lie in a KV cache with pages of P tokens; timed is attn_step_layer, which puts the\n"
          "                  new tokens into their pages and attends (default: contiguous tensors; where the pattern says kv quant,\n"
          "                  pages of 64, in --op=prefill too)\n"
          "  --layout=NAME   heads: q, k, v, o lie as [batch, heads, tokens, dim], each head in one piece (default); tokens: as\n"
          "                  [batch, tokens, heads, dim], what projections give. The history in a KV cache has the cache's own layout\n"
          "  --attr NAME=FILE.npy, --input NAME=FILE.npy   as in attn-run; the others are made at random\n"
          "  --threads T     (default 1; one thread is timed in its own processor time, more by the clock)\n"
          "  --repeat R      (default 7; medians are printed)\n"
          "  --isa=NAME      baseline, avx2, avx512, avx512bf16, native (default: the best there is)\n"
          "  --csv           a header and one row for machines\n",
          stdout);
}

static bool parse_op(bench_options *o, const char *op, tool_error *err)
{
    static const char *const ops[] = {"prefill", "decode", "step"};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (!strcmp(op, ops[i])) return o->op = ops[i], true;
    return tool_fail(err, "--op must be prefill, decode or step, not '%s'", op);
}

static bool parse_isa(bench_options *o, const char *name, tool_error *err)
{
    o->isa = attn_isa_parse(name);
    if (o->isa >= 0) return true;
    return tool_fail(err, "--isa must be baseline, avx2, avx512, avx512bf16 or native, not '%s'", name);
}

static bool parse_layout(bench_options *o, const char *name, tool_error *err)
{
    static const char *const layouts[] = {"heads", "tokens"};
    for (size_t i = 0; i < ATTNC_COUNT(layouts); i++)
        if (!strcmp(name, layouts[i])) return o->layout = layouts[i], true;
    return tool_fail(err, "--layout must be heads or tokens, not '%s'", name);
}

static bool parse_number(bench_options *o, args *a, const char *word, bool *found)
{
    const struct {
        const char *name;
        int64_t *value, lo, hi;
    } numbers[] = {{"--layer", &o->layer, 0, INT32_MAX},   {"--batch", &o->batch, 1, 1 << 20},  {"--q-len", &o->q_len, 1, 1 << 26},
                   {"--kv-len", &o->kv_len, 1, 1 << 26},   {"--threads", &o->threads, 1, 1024}, {"--repeat", &o->repeat, 1, 100000},
                   {"--page-size", &o->page_size, 1, 1 << 24}};
    const char *v;
    for (size_t i = 0; i < ATTNC_COUNT(numbers); i++)
        if (args_option(a, word, numbers[i].name, &v)) {
            *found = true;
            return !a->failed && args_int(numbers[i].name, v, numbers[i].lo, numbers[i].hi, numbers[i].value, a->err);
        }
    *found = false;
    return true;
}

static bool parse_word(bench_options *o, args *a, const char *word)
{
    const char *v;
    bool found;
    if (!strcmp(word, "--help")) return o->help = true;
    if (!strcmp(word, "--csv")) return o->csv = true;
    if (!parse_number(o, a, word, &found) || found) return found && !a->err->text[0];
    if (args_option(a, word, "--op", &v)) return !a->failed && parse_op(o, v, a->err);
    if (args_option(a, word, "--isa", &v)) return !a->failed && parse_isa(o, v, a->err);
    problem_source *f = &o->files;
    if (args_option(a, word, "--attr", &v)) return !a->failed && problem_name_file("--attr", (char *)v, f->attrs, &f->n_attrs, a->err);
    if (args_option(a, word, "--input", &v)) return !a->failed && problem_name_file("--input", (char *)v, f->inputs, &f->n_inputs, a->err);
    if (args_option(a, word, "--layout", &v)) return !a->failed && parse_layout(o, v, a->err);
    if (args_option(a, word, "--device", &v))
        return !a->failed && (!strcmp(v, "cpu") || tool_fail(a->err, "--device=%s: this version has no GPU backend; there is cpu", v));
    if (word[0] == '-') return tool_fail(a->err, "unknown option '%s'; attn-bench --help lists the options", word);
    if (o->module) return tool_fail(a->err, "one module at a time; there is also '%s'", word);
    o->module = word;
    return true;
}

bool bench_options_parse(int argc, char **argv, bench_options *o, tool_error *err)
{
    *o = (bench_options){.op = "prefill", .isa = -1, .batch = 1, .threads = 1, .repeat = DEFAULT_REPEAT};
    args a = {argc, 1, argv, err, false};
    for (const char *word; (word = args_next(&a));)
        if (!parse_word(o, &a, word)) return false;
    if (o->help) return true;
    if (!o->module) return tool_fail(err, "no kernel given; attn-bench --help says what there is");
    bool prefill = !strcmp(o->op, "prefill"), decode = !strcmp(o->op, "decode");
    if (!o->q_len) o->q_len = prefill ? DEFAULT_LENGTH : decode ? 1 : DEFAULT_STEP;
    if (!o->kv_len) o->kv_len = prefill ? o->q_len : DEFAULT_KEYS;
    if (prefill && o->page_size) return tool_fail(err, "--page-size is for --op=decode and --op=step: --op=prefill has no KV cache");
    if (o->page_size && o->layout) return tool_fail(err, "--layout is for tensors: with --page-size the keys lie as the KV cache keeps them");
    if (!o->layout) o->layout = o->page_size ? "tokens" : "heads";
    if (decode && o->q_len != 1) return tool_fail(err, "--op=decode has one query a sequence; --op=step takes --q-len");
    return o->kv_len >= o->q_len || tool_fail(err, "--kv-len must be at least --q-len: the queries are the last positions");
}
