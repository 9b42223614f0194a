/* main.c - attn-engine: options in, text out. */
#define _POSIX_C_SOURCE 200809L
#include "engine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { EXIT_WRONG = 2, MAX_PROMPTS = 256 };

static const char usage[] =
    "attn-engine MODEL.safetensors --prompt TEXT --count N     the greedy continuation, N bytes, to standard output\n"
    "attn-engine MODEL.safetensors --loss FILE --window N      mean nats per byte over windows of N bytes\n"
    "  --prompt TEXT, --count N  may be given again: prompt i has count i, or the last one; texts come one behind the "
    "other\n"
    "  --batch                   all prompts in one batch, not one after the other\n"
    "  --fork N                  N branches of each prompt, forked when it has been read; they must agree\n"
    "  --n-best N                N texts for each prompt, which begin with the N likeliest bytes; the first is the "
    "greedy "
    "one\n"
    "                            and goes to standard output; all go to standard error, the likeliest first, with "
    "their\n"
    "                            mean log-likelihood\n"
    "  --share                   prompts that begin alike read that beginning once\n"
    "  --draft                   guess by looking back in the text, check the guess in one step, take back what was "
    "wrong\n"
    "  --step N                  most tokens of the prompt in one step (512)\n"
    "  --page-size P             tokens of a cache page (64)\n"
    "  --budget BYTES            most bytes of keys and values\n"
    "  --threads N               threads of attention (1)\n"
    "  --stats                   tokens per second, cache bytes against a full cache, to standard error\n";

typedef struct options {
    const char *model, *loss;
    const char *prompts[MAX_PROMPTS];
    int64_t counts[MAX_PROMPTS];
    uint32_t n_prompts, n_counts;
    int64_t window, forks, n_best, step, page_tokens, budget, threads;
    bool batch, draft, share, stats, help;
} options;

/* ---- the command line ----------------------------------------------------------------------------------------------
 */

static bool read_number(const char *name, const char *text, int64_t least, int64_t most, int64_t *out, failure *f)
{
    char *end;
    errno = 0;
    const long long v = strtoll(text, &end, 10);
    if (errno || end == text || *end || v < least || v > most)
        return fail(f, "%s takes a number from %lld to %lld, not '%s'", name, (long long)least, (long long)most, text);
    *out = v;
    return true;
}

static bool add_prompt(options *o, const char *text, failure *f)
{
    if (o->n_prompts == MAX_PROMPTS) return fail(f, "more than %d prompts", MAX_PROMPTS);
    if (!*text) return fail(f, "a prompt needs at least one byte");
    o->prompts[o->n_prompts++] = text;
    return true;
}

static bool add_count(options *o, const char *text, failure *f)
{
    if (o->n_counts == MAX_PROMPTS) return fail(f, "more than %d counts", MAX_PROMPTS);
    return read_number("--count", text, 0, 1000000, &o->counts[o->n_counts++], f);
}

/* The flag of that name, or NULL. */
static bool *flag_of(options *o, const char *word)
{
    const struct {
        const char *name;
        bool *value;
    } flags[] = {{"--batch", &o->batch},
                 {"--draft", &o->draft},
                 {"--share", &o->share},
                 {"--stats", &o->stats},
                 {"--help", &o->help}};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (!strcmp(word, flags[i].name)) return flags[i].value;
    return NULL;
}

static bool read_option(options *o, const char *name, const char *value, failure *f)
{
    const struct {
        const char *name;
        int64_t *value, most;
    } numbers[] = {{"--window", &o->window, 1000000},
                   {"--fork", &o->forks, 256},
                   {"--n-best", &o->n_best, 256},
                   {"--step", &o->step, 1 << 16},
                   {"--page-size", &o->page_tokens, 1 << 24},
                   {"--threads", &o->threads, 256},
                   {"--budget", &o->budget, INT64_MAX}};
    if (!value) return fail(f, "%s is unknown, or lacks its value; --help lists the options", name);
    if (!strcmp(name, "--prompt")) return add_prompt(o, value, f);
    if (!strcmp(name, "--count")) return add_count(o, value, f);
    if (!strcmp(name, "--loss")) return (o->loss = value);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(name, numbers[i].name)) return read_number(name, value, 1, numbers[i].most, numbers[i].value, f);
    return fail(f, "there is no option %s; --help lists them", name);
}

static bool check(const options *o, failure *f)
{
    if (o->help) return true;
    if (!o->model) return fail(f, "no model; --help says more");
    if (!o->loss == !o->n_prompts) return fail(f, "either --prompt or --loss");
    if (o->loss && !o->window) return fail(f, "--loss needs --window");
    if (o->n_prompts && !o->n_counts) return fail(f, "--prompt needs --count");
    if (o->n_best && o->forks > 1) return fail(f, "either --fork or --n-best");
    return true;
}

static bool read_options(int argc, char **argv, options *o, failure *f)
{
    *o = (options){.forks = 1, .step = 512, .threads = 1};
    for (int i = 1; i < argc; i++) {
        bool *flag = flag_of(o, argv[i]);
        if (flag) {
            *flag = true;
        } else if (!strncmp(argv[i], "--", 2)) {
            if (!read_option(o, argv[i], argv[i + 1], f)) return false;
            i++;
        } else if (o->model) {
            return fail(f, "two models: %s and %s", o->model, argv[i]);
        } else {
            o->model = argv[i];
        }
    }
    return check(o, f);
}

/* ---- work ----------------------------------------------------------------------------------------------------------
 */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void print_stats(const engine_stats *s, double time)
{
    fprintf(stderr, "%lld steps, %lld tokens in, %lld out, %.2f s: %.0f tokens/s\n", (long long)s->steps,
            (long long)s->tokens_in, (long long)s->tokens_out, time,
            (double)(s->tokens_out ? s->tokens_out : s->tokens_in) / time);
    if (s->drafted)
        fprintf(stderr, "drafts: %lld of %lld tokens accepted\n", (long long)s->accepted, (long long)s->drafted);
    if (s->found) fprintf(stderr, "shared: %lld tokens of prompts were there already\n", (long long)s->found);
    if (s->most.bytes_full)
        fprintf(stderr, "cache: %llu bytes; a full one: %llu (%.1f %%)\n", (unsigned long long)s->most.bytes,
                (unsigned long long)s->most.bytes_full, 100.0 * (double)s->most.bytes / (double)s->most.bytes_full);
}

static bool print_loss(model *m, attention *a, const engine_options *e, const options *o, engine_stats *stats,
                       failure *f)
{
    uint8_t *text;
    size_t size;
    double loss;
    if (!file_read(o->loss, &text, &size, f)) return false;
    bool ok = engine_loss(m, a, e, text, size, o->window, &loss, stats, f);
    free(text);
    if (ok) printf("%.9f\n", loss);
    return ok;
}

/* ---- alternatives --------------------------------------------------------------------------------------------------
 */

static bool open_branches(engine_job *jobs, uint32_t n, uint32_t each)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!(jobs[i].branches = calloc(each, sizeof *jobs[i].branches))) return false;
        for (uint32_t j = 0; j < each; j++)
            if (!(jobs[i].branches[j].text = malloc((size_t)jobs[i].count + 1))) return false;
    }
    return true;
}

static void close_branches(engine_job *jobs, uint32_t n, uint32_t each)
{
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = 0; jobs[i].branches && j < each; j++) free(jobs[i].branches[j].text);
        free(jobs[i].branches);
    }
}

static int likelier(const void *a, const void *b)
{
    const double x = ((const engine_branch *)a)->score, y = ((const engine_branch *)b)->score;
    return (x < y) - (x > y);
}

static void print_branches(const engine_job *job, uint32_t each)
{
    qsort(job->branches, each, sizeof *job->branches, likelier);
    for (uint32_t j = 0; j < each; j++) {
        fprintf(stderr, "%.6f ", job->branches[j].score);
        for (int64_t i = 0; i < job->count; i++) {
            const uint8_t c = job->branches[j].text[i];
            fprintf(stderr, c < ' ' || c >= 0x7F || c == '\\' ? "\\x%02x" : "%c", c);
        }
        fputc('\n', stderr);
    }
}

static bool print_text(model *m, attention *a, const engine_options *e, const options *o, engine_stats *stats,
                       failure *f)
{
    engine_job jobs[MAX_PROMPTS];
    size_t total = 0;
    for (uint32_t i = 0; i < o->n_prompts; i++) {
        jobs[i] =
            (engine_job){.prompt = (const uint8_t *)o->prompts[i], .prompt_length = (int64_t)strlen(o->prompts[i])};
        jobs[i].count = o->counts[i < o->n_counts ? i : o->n_counts - 1];
        total += (size_t)jobs[i].count;
    }
    uint8_t *text = malloc(total + 1), *at = text;
    if (!text) return fail(f, "out of memory");
    for (uint32_t i = 0; i < o->n_prompts; at += jobs[i++].count) jobs[i].text = at;
    bool ok = !o->n_best || open_branches(jobs, o->n_prompts, e->forks) || fail(f, "out of memory");
    ok = ok && engine_generate(m, a, e, jobs, o->n_prompts, stats, f);
    if (ok) fwrite(text, 1, total, stdout);
    for (uint32_t i = 0; ok && o->n_best && i < o->n_prompts; i++) print_branches(&jobs[i], e->forks);
    close_branches(jobs, o->n_prompts, e->forks);
    free(text);
    return ok;
}

static bool work(const options *o, model *m, attention *a, failure *f)
{
    const engine_options e = {.forks = (uint32_t)(o->n_best ? o->n_best : o->forks),
                              .diverge = o->n_best > 0,
                              .batch = o->batch,
                              .share = o->share,
                              .draft = o->draft,
                              .step = o->step,
                              .count_bytes = o->stats};
    engine_stats stats = {0};
    const double start = seconds();
    if (!(o->loss ? print_loss : print_text)(m, a, &e, o, &stats, f)) return false;
    if (o->stats) print_stats(&stats, seconds() - start);
    if (fflush(stdout) || ferror(stdout)) return fail(f, "standard output: %s", strerror(errno));
    return true;
}

static bool run(const options *o, failure *f)
{
    model m;
    attention *a;
    if (!model_open(o->model, &m, f)) return false;
    const attention_options ao = {.page_tokens = (uint32_t)o->page_tokens,
                                  .rollback = o->draft ? ENGINE_DRAFT : 0,
                                  .threads = (uint32_t)o->threads,
                                  .budget = (uint64_t)o->budget,
                                  .share = o->share,
                                  .sinks = m.sinks};
    bool ok = attention_open(m.kernels, &ao, &a, f);
    if (ok) {
        ok = work(o, &m, a, f);
        attention_close(a);
    }
    model_close(&m);
    return ok;
}

/* One line, whatever names a file has. */
static void print_failure(failure *f)
{
    for (char *c = f->text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7F) *c = '?';
    fprintf(stderr, "attn-engine: %s\n", f->text);
}

int main(int argc, char **argv)
{
    options o;
    failure f = {""};
    bool ok = read_options(argc, argv, &o, &f);
    if (ok && o.help)
        fputs(usage, stdout);
    else if (ok)
        ok = run(&o, &f);
    if (!ok) print_failure(&f);
    return ok ? 0 : EXIT_WRONG;
}
