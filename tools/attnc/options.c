/* options.c - the command line of attnc. Every rule about which options go together is here. */
#include "tools/attnc/options.h"
#include "backends/backend.h"
#include "tools/common/args.h"
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_TUNE_SECONDS = 60 };

static const char *const kind_names[OUTPUT_COUNT] = {
#define KIND(ident, spelling) [OUTPUT_##ident] = spelling,
#include "tools/attnc/output_kinds.def"
#undef KIND
};

void options_help(FILE *to)
{
    fputs("usage: attnc FILE.attn -o kernel.so [options]\n"
          "Compiles an attention pattern to a library of kernels.\n\n"
          "  -o FILE                output; - is standard output for text\n"
          "  -c                     write an object and a header for static linking (-o kernel.o makes kernel.h too)\n"
          "  --target=T[,T...]      cpu (default: all variants, chosen at load), cpu:native, cpu:baseline, cpu:avx2,\n"
          "                         cpu:avx512, cpu:avx512bf16\n"
          "  -D NAME=VALUE          set a param of the file\n"
          "  --emit=KIND            ast, pattern, air, llvm, asm, obj, so (default)\n"
          "  --report               what was proved and chosen, per layer kind\n"
          "  --picture=FILE         the mask with its tile classes, .svg or .png\n"
          "  --context=N            tokens for --report and --picture\n"
          "  --layer=L              layer for --picture; all (default) draws every kind\n"
          "  --json                 --report for machines\n"
          "  --print-after=PASS     print the kernels after a pass, or all; --print-before=PASS\n"
          "  --passes=A,B           run these passes only (with --emit=air); --stop-after=PASS\n"
          "  --verify-each          check and read back after each pass\n"
          "  --time                 where the time went\n"
          "  --diag-format=F        text (default) or json\n"
          "  --prelude-dir=DIR      definitions every file may use (else $ATTNC_PRELUDE, else as installed)\n"
          "  --tuning-db=FILE       schedules that --tune measured here (else $XDG_CACHE_HOME or ~/.cache, attnc/tuning.db);\n"
          "                         --no-tuning-db: those of the table only\n"
          "  --tune                 measure schedules on this machine for each layer kind, and write the best to the tuning\n"
          "                         database; --target: default is the one that would run here\n"
          "  --tune-shapes=S[,S...] what is timed: prefill:N, decode:N, step:M:N (default prefill:1024,decode:4096)\n"
          "  --tune-seconds=N       for one layer kind and target (default 60)\n"
          "  --version, --help, --help-prelude\n\n"
          "Passes:\n",
          to);
    for (int p = 0; p < PASS_COUNT; p++)
        fprintf(to, "  %-22s %s\n", pass_name((pass_id)p), pass_help((pass_id)p));
    fputs("\nExit status: 0 done, 1 mistakes in the input, 2 bad usage, 70 a bug in attnc.\n", to);
}

/* ---- values ------------------------------------------------------------------------------------------------------------- */

static int usage(tool_error *err, const char *what, const char *word)
{
    tool_fail(err, "%s '%s'; attnc --help lists the options", what, word);
    return EXIT_USAGE;
}

static int parse_kind(options *o, const char *name, tool_error *err)
{
    if (!strcmp(name, "ptx")) {
        tool_fail(err, "--emit=ptx: this version has no GPU backend [attn-unsupported]");
        return EXIT_MISTAKES;
    }
    for (int k = 0; k < OUTPUT_COUNT; k++)
        if (!strcmp(name, kind_names[k])) return o->emit = (output_kind)k, EXIT_DONE;
    tool_fail(err, "--emit must be ast, pattern, air, llvm, asm, obj or so, not '%s'", name);
    return EXIT_USAGE;
}

static void add_target(options *o, target_id t)
{
    for (size_t i = 0; i < o->n_targets; i++)
        if (o->targets[i] == t) return;
    o->targets[o->n_targets++] = t;
}

static int parse_target(options *o, const char *name, tool_error *err)
{
    if (!strncmp(name, "cuda:", 5) || !strcmp(name, "cuda")) {
        tool_fail(err, "target '%s': this version has no GPU backend [attn-unsupported]", name);
        return EXIT_MISTAKES;
    }
    if (!strcmp(name, "cpu")) {
        for (int t = 0; t < TARGET_COUNT; t++)
            add_target(o, (target_id)t);
        return EXIT_DONE;
    }
    o->native |= !strcmp(name, "cpu:native");
    target_id t = strcmp(name, "cpu:native") ? target_parse(name) : backend_cpu_native();
    if (t == TARGET_NONE) {
        tool_fail(err, "there is no target '%s'; there are cpu, cpu:native, cpu:baseline, cpu:avx2, cpu:avx512 and cpu:avx512bf16", name);
        return EXIT_USAGE;
    }
    add_target(o, t);
    return EXIT_DONE;
}

static int parse_targets(options *o, const char *list, tool_error *err)
{
    for (const char *at = list;; at++) {
        char name[64];
        size_t n = strcspn(at, ",");
        if (n == 0 || n >= sizeof name) return usage(err, "bad target list", list);
        memcpy(name, at, n);
        name[n] = 0;
        int status = parse_target(o, name, err);
        if (status) return status;
        at += n;
        if (!*at) return EXIT_DONE;
    }
}

/* -D W=512: the name is cut off in place, as argv belongs to us. */
static int parse_define(options *o, char *word, tool_error *err)
{
    char *equals = strchr(word, '=');
    if (!equals || equals == word || !equals[1]) return usage(err, "-D needs NAME=VALUE, not", word);
    if (o->n_defines == OPTIONS_MAX_DEFINES) {
        tool_fail(err, "more than %d -D options", OPTIONS_MAX_DEFINES);
        return EXIT_USAGE;
    }
    *equals = 0;
    o->defines[o->n_defines++] = (frontend_define){word, equals + 1};
    return EXIT_DONE;
}

static int parse_layer(options *o, const char *word, tool_error *err)
{
    if (!strcmp(word, "all")) return EXIT_DONE;
    return args_int("--layer", word, 0, MODULE_MAX_LAYERS - 1, &o->layer, err) ? EXIT_DONE : EXIT_USAGE;
}

static int parse_tune_shapes(options *o, const char *word, tool_error *err)
{
    return tune_shapes_parse(word, o->tune_shapes, &o->n_tune_shapes, err) ? EXIT_DONE : EXIT_USAGE;
}

static int parse_tune_seconds(options *o, const char *word, tool_error *err)
{
    return args_int("--tune-seconds", word, 1, 1 << 20, &o->tune_seconds, err) ? EXIT_DONE : EXIT_USAGE;
}

static int parse_diag_format(options *o, const char *word, tool_error *err)
{
    if (strcmp(word, "text") && strcmp(word, "json")) {
        tool_fail(err, "--diag-format must be text or json, not '%s'", word);
        return EXIT_USAGE;
    }
    o->diag_format = strcmp(word, "json") ? DIAG_TEXT : DIAG_JSON;
    return EXIT_DONE;
}

/* ---- words -------------------------------------------------------------------------------------------------------------- */

static bool parse_flag(options *o, const char *word)
{
    const struct {
        const char *name;
        bool *flag;
    } flags[] = {{"--verify-each", &o->verify_each}, {"--time", &o->time},  {"--report", &o->report}, {"--json", &o->json},
                 {"--no-tuning-db", &o->no_tuning_db}, {"--tune", &o->tune}};
    for (size_t i = 0; i < ATTNC_COUNT(flags); i++)
        if (!strcmp(word, flags[i].name)) return *flags[i].flag = true;
    return false;
}

static bool parse_mode(options *o, const char *word)
{
    if (!strcmp(word, "--help") || !strcmp(word, "-h")) return o->mode = MODE_HELP, true;
    if (!strcmp(word, "--version")) return o->mode = MODE_VERSION, true;
    if (!strcmp(word, "--help-prelude")) return o->mode = MODE_HELP_PRELUDE, true;
    return false;
}

static bool parse_string(options *o, args *a, const char *word)
{
    const struct {
        const char *name;
        const char **value;
    } strings[] = {{"-o", &o->output},
                   {"--picture", &o->picture},
                   {"--print-after", &o->print_after},
                   {"--print-before", &o->print_before},
                   {"--passes", &o->passes},
                   {"--stop-after", &o->stop_after},
                   {"--tuning-db", &o->tuning_db},
                   {"--prelude-dir", &o->prelude_dir}};
    for (size_t i = 0; i < ATTNC_COUNT(strings); i++)
        if (args_option(a, word, strings[i].name, strings[i].value)) return true;
    return false;
}

static int parse_word(options *o, args *a, char *word)
{
    const char *value;
    if (parse_mode(o, word) || parse_flag(o, word) || parse_string(o, a, word)) return EXIT_DONE;
    if (!strcmp(word, "-c")) return o->emit = OUTPUT_OBJ, EXIT_DONE;
    if (!strcmp(word, "-D")) {
        if (a->next == a->n) return usage(a->err, "-D needs NAME=VALUE after", word);
        return parse_define(o, a->at[a->next++], a->err);
    }
    if (!strncmp(word, "-D", 2)) return parse_define(o, word + 2, a->err);
    if (args_option(a, word, "--emit", &value)) return a->failed ? EXIT_USAGE : parse_kind(o, value, a->err);
    if (args_option(a, word, "--target", &value)) return a->failed ? EXIT_USAGE : parse_targets(o, value, a->err);
    if (args_option(a, word, "--layer", &value)) return a->failed ? EXIT_USAGE : parse_layer(o, value, a->err);
    if (args_option(a, word, "--diag-format", &value)) return a->failed ? EXIT_USAGE : parse_diag_format(o, value, a->err);
    if (args_option(a, word, "--tune-shapes", &value)) return a->failed ? EXIT_USAGE : parse_tune_shapes(o, value, a->err);
    if (args_option(a, word, "--tune-seconds", &value)) return a->failed ? EXIT_USAGE : parse_tune_seconds(o, value, a->err);
    if (args_option(a, word, "--context", &value)) {
        if (a->failed) return EXIT_USAGE;
        return args_int("--context", value, 1, 1 << 24, &o->context, a->err) ? EXIT_DONE : EXIT_USAGE;
    }
    if (word[0] == '-' && word[1]) return usage(a->err, "unknown option", word);
    if (o->input) return usage(a->err, "one file at a time; there is also", word);
    o->input = word;
    return EXIT_DONE;
}

/* ---- together ------------------------------------------------------------------------------------------------------------- */

static bool is_pass(const char *name, size_t len)
{
    for (int p = 0; p < PASS_COUNT; p++)
        if (strlen(pass_name((pass_id)p)) == len && !strncmp(pass_name((pass_id)p), name, len)) return true;
    return false;
}

static int check_pass(const char *option, const char *name, bool or_all, tool_error *err)
{
    if (!name || is_pass(name, strlen(name)) || (or_all && !strcmp(name, "all"))) return EXIT_DONE;
    tool_fail(err, "%s: there is no pass '%s'; attnc --help lists them", option, name);
    return EXIT_USAGE;
}

static int check_passes(const options *o, tool_error *err)
{
    for (const char *at = o->passes; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (!is_pass(at, strcspn(at, ","))) return usage(err, "--passes: unknown pass in", o->passes);
    int status = check_pass("--print-after", o->print_after, true, err);
    if (!status) status = check_pass("--print-before", o->print_before, true, err);
    if (!status) status = check_pass("--stop-after", o->stop_after, false, err);
    return status;
}

static int usage_text(tool_error *err, const char *word)
{
    tool_fail(err, "%s", word);
    return EXIT_USAGE;
}

static bool has_ending(const char *name, const char *ending)
{
    size_t n = strlen(name), m = strlen(ending);
    return n > m && !strcmp(name + n - m, ending);
}

static int check_tuning(options *o, tool_error *err)
{
    const bool else_too = o->output || o->emit != OUTPUT_NONE || o->report || o->picture || o->passes || o->stop_after || o->print_after ||
                          o->print_before || o->time || o->context || o->layer != OPTIONS_ALL_LAYERS;
    if (o->tuning_db && !*o->tuning_db) return usage_text(err, "--tuning-db needs the name of a file");
    if (o->tuning_db && o->no_tuning_db) return usage_text(err, "--tuning-db and --no-tuning-db exclude each other");
    if (o->tune && o->no_tuning_db) return usage_text(err, "--tune writes a tuning database; --no-tuning-db says there is none");
    if (o->tune && else_too) return usage_text(err, "--tune measures and writes the tuning database, nothing else; compile with it afterwards");
    if (!o->tune && o->n_tune_shapes) return usage_text(err, "--tune-shapes belongs to --tune");
    if (!o->tune && o->tune_seconds) return usage_text(err, "--tune-seconds belongs to --tune");
    if (!o->tune_seconds) o->tune_seconds = DEFAULT_TUNE_SECONDS;
    return o->n_tune_shapes ? EXIT_DONE : parse_tune_shapes(o, "prefill:1024,decode:4096", err);
}

static int check_together(options *o, tool_error *err)
{
    bool asked = o->report || o->picture;
    if (!o->input) return usage_text(err, "no input file; attnc --help says what there is");
    int status = check_tuning(o, err);
    if (status) return status;
    if (o->picture && !has_ending(o->picture, ".svg") && !has_ending(o->picture, ".png"))
        return usage_text(err, "--picture needs a name that ends in .svg or .png");
    if (o->json && !o->report) return usage_text(err, "--json belongs to --report; diagnostics have --diag-format=json");
    if (o->layer != OPTIONS_ALL_LAYERS && !o->picture) return usage_text(err, "--layer belongs to --picture");
    if (o->context && !asked) return usage_text(err, "--context belongs to --report and --picture");
    if (o->emit == OUTPUT_NONE && o->output) o->emit = OUTPUT_SO;
    if (o->emit == OUTPUT_NONE && (o->passes || o->stop_after)) o->emit = OUTPUT_AIR;
    if ((o->passes || o->stop_after) && o->emit != OUTPUT_AIR)
        return usage_text(err, "--passes and --stop-after leave kernels half done; they need --emit=air");
    if (o->emit == OUTPUT_NONE && !asked && !o->print_after && !o->print_before && !o->time && !o->tune)
        return usage_text(err, "nothing to write; give -o FILE, --emit=KIND, --report, --picture=FILE or --tune");
    bool binary = o->emit == OUTPUT_OBJ || o->emit == OUTPUT_SO;
    if (binary && (!o->output || !strcmp(o->output, "-"))) return usage_text(err, "a library or an object needs -o FILE");
    return check_passes(o, err);
}

int options_parse(int argc, char **argv, options *o, tool_error *err)
{
    *o = (options){.emit = OUTPUT_NONE, .layer = OPTIONS_ALL_LAYERS};
    args a = {argc, 1, argv, err, false};
    while (a.next < a.n) {
        int status = parse_word(o, &a, a.at[a.next++]);
        if (!status && a.failed) status = EXIT_USAGE;
        if (status) return status;
    }
    if (o->mode != MODE_COMPILE) return EXIT_DONE;
    int status = check_together(o, err);
    if (status || o->n_targets) return status;
    if (o->tune) return add_target(o, backend_cpu_native()), EXIT_DONE;
    return parse_target(o, "cpu", err);
}
