/* attnc_opt.c - attnc-opt: reads .air text, runs named passes, prints .air. */
#include "ir/pass/pass.h"

#include <errno.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_DONE = 0, EXIT_MISTAKE = 1, EXIT_USAGE = 2 };
enum { MEMORY_LIMIT = 1 << 30 };

typedef struct command {
    const char *input, *output, *target;
    pass_options passes;
    bool time, help;
} command;

/* ---- command line ---------------------------------------------------------------------------------------- */

static void print_help(void)
{
    puts("attnc-opt FILE.air|-  [options]      reads kernel IR, runs passes, prints kernel IR\n"
         "  --passes=a,b        these passes, in this order; none: `--passes=`; without it the whole pipeline\n"
         "  --stop-after=PASS   end behind this pass\n"
         "  --print-after=PASS  print the module behind this pass (or `all`) to standard error; --print-before\n"
         "  --verify-each       after each pass print, read back and compare\n"
         "  --target=T          what the schedule is for (default cpu:baseline)\n"
         "  --time              milliseconds of each pass, to standard error\n"
         "  -o FILE             output (default standard output)\n"
         "passes, in the order of the pipeline:");
    for (int p = 0; p < PASS_COUNT; p++) printf("  %-18s  %s\n", pass_name((pass_id)p), pass_help((pass_id)p));
    fputs("targets:", stdout);
    for (int t = 0; t < TARGET_COUNT; t++) printf(" %s", target_get((target_id)t)->name);
    puts("");
}

static bool take_value(const char *arg, const char *name, const char **out)
{
    size_t n = strlen(name);
    if (strncmp(arg, name, n) || arg[n] != '=') return false;
    *out = arg + n + 1;
    return true;
}

static bool take_option(command *c, const char *arg)
{
    pass_options *p = &c->passes;
    if (!strcmp(arg, "--verify-each")) return p->verify_each = true;
    if (!strcmp(arg, "--time")) return c->time = true;
    if (!strcmp(arg, "--help") || !strcmp(arg, "-h")) return c->help = true;
    return take_value(arg, "--passes", &p->passes) || take_value(arg, "--stop-after", &p->stop_after) ||
           take_value(arg, "--print-after", &p->print_after) || take_value(arg, "--print-before", &p->print_before) ||
           take_value(arg, "--target", &c->target);
}

static bool usage(const char *what, const char *about)
{
    fprintf(stderr, "attnc-opt: %s%s; attnc-opt --help lists the options\n", what, about);
    return false;
}

static bool parse_arguments(command *c, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (!strcmp(arg, "-o")) {
            if (++i == argc) return usage("-o needs a file", "");
            c->output = argv[i];
        } else if (*arg == '-' && arg[1]) {
            if (!take_option(c, arg)) return usage("unknown option ", arg);
        } else if (c->input) {
            return usage("one input file, not also ", arg);
        } else {
            c->input = arg;
        }
    }
    if (!c->input && !c->help) return usage("no input file", "");
    c->passes.target = c->target ? target_parse(c->target) : TARGET_CPU_BASELINE;
    return c->passes.target != TARGET_NONE || usage("unknown target ", c->target);
}

/* ---- files ----------------------------------------------------------------------------------------------- */

static bool file_error(const char *what, const char *path)
{
    fprintf(stderr, "attnc-opt: cannot %s %s: %s\n", what, path, strerror(errno));
    return false;
}

static bool read_input(arena *a, const char *path, text *out)
{
    *out = (text){.arena = a};
    FILE *f = strcmp(path, "-") ? fopen(path, "rb") : stdin;
    if (!f) return file_error("read", path);
    char part[65536];
    for (size_t n; (n = fread(part, 1, sizeof part, f));) text_addn(out, part, n);
    bool good = !ferror(f) || file_error("read", path);
    if (f != stdin) fclose(f);
    return good;
}

static bool write_output(const char *path, text *t)
{
    bool standard = !path || !strcmp(path, "-");
    FILE *f = standard ? stdout : fopen(path, "wb");
    if (!f) return file_error("write", path);
    bool good = fwrite(text_get(t), 1, t->n, f) == t->n && !fflush(f);
    if (!standard && fclose(f)) good = false;
    return good || file_error("write", standard ? "standard output" : path);
}

/* ---- work ------------------------------------------------------------------------------------------------ */

static void print_times(const double *ms)
{
    for (int p = 0; p < PASS_COUNT; p++) fprintf(stderr, "%-18s %8.3f ms\n", pass_name((pass_id)p), ms[p]);
}

static int run(arena *a, const command *c)
{
    text in, out = {.arena = a};
    diags d = {.arena = a};
    double ms[PASS_COUNT] = {0};
    if (!read_input(a, c->input, &in)) return EXIT_USAGE;
    const char *name = strcmp(c->input, "-") ? c->input : "<stdin>";
    ir_module *m = ir_module_read(a, &d, diags_add_source(&d, name, text_get(&in), in.n));
    diags_print(&d, stderr, DIAG_TEXT, false);
    if (!m) return EXIT_MISTAKE;
    pass_options passes = c->passes;
    passes.pass_ms = ms;
    const char *error = passes_run(m, &passes);
    if (c->time) print_times(ms);
    if (error) {
        fprintf(stderr, "attnc-opt: %s\n", error);
        return EXIT_MISTAKE;
    }
    ir_module_print(m, &out);
    return write_output(c->output, &out) ? EXIT_DONE : EXIT_USAGE;
}

static void memory_exhausted(void *ctx) { longjmp(*(jmp_buf *)ctx, 1); }

int main(int argc, char **argv)
{
    static jmp_buf too_large;
    command c = {0};
    if (!parse_arguments(&c, argc, argv)) return EXIT_USAGE;
    if (c.help) {
        print_help();
        return EXIT_DONE;
    }
    arena *volatile a = arena_create(MEMORY_LIMIT, memory_exhausted, &too_large);
    int status = EXIT_MISTAKE;
    if (setjmp(too_large))
        fprintf(stderr, "attnc-opt: %s: the input is too large\n", c.input);
    else
        status = run(a, &c);
    arena_destroy(a);
    return status;
}
