/* engine.c - the loop of an inference engine: which sequences bring which tokens to the next step, and what comes out.
 *
 * Prefill, decode, a prompt in pieces and the check of a draft are one thing here: a step with one or more new tokens
 * of each sequence that is not done. A branch's text holds everything, prompt first; `fed` of its `known` bytes are in
 * the cache.
 *
 *     |<------------- known ------------>|<- draft ->|
 *     |<-------- fed ------>|<---- this step ------->|      then: compare, take back what was guessed wrong, add the
 * next byte */
#include "engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct branch {
    engine_job *job;
    uint32_t fork;
    bool waiting; /* for the first branch of its prompt, which reads it for all */
    uint8_t *text;
    int64_t known, fed, end;
    attention_sequence sequence;
    bool open;
    float first[VOCABULARY]; /* the logits behind the prompt */
    double score;            /* log-likelihood of what was generated */
    int64_t take, draft;     /* in this step: known tokens, and guessed ones */
} branch;

typedef struct run {
    model *m;
    attention *a;
    const engine_options *o;
    engine_stats *stats;
    failure *f;
    branch *branches;
    uint32_t n;
    /* of one step */
    uint32_t n_active;
    branch **active;
    attention_sequence *sequences;
    int64_t *counts;
    int64_t rows, room;
    uint8_t *tokens;
    int64_t *positions;
} run;

/* ---- a step --------------------------------------------------------------------------------------------------------
 */

static bool reserve_rows(run *r, int64_t rows)
{
    if (rows <= r->room) return true;
    uint8_t *tokens = realloc(r->tokens, (size_t)rows);
    if (tokens) r->tokens = tokens;
    int64_t *positions = realloc(r->positions, (size_t)rows * sizeof *positions);
    if (positions) r->positions = positions;
    if (!tokens || !positions) return fail(r->f, "out of memory");
    r->room = rows;
    return true;
}

/* `count` more tokens of a sequence that has `position` of them. */
static bool add_rows(run *r, attention_sequence s, const uint8_t *tokens, int64_t position, int64_t count)
{
    if (!reserve_rows(r, r->rows + count)) return false;
    memcpy(r->tokens + r->rows, tokens, (size_t)count);
    for (int64_t i = 0; i < count; i++) r->positions[r->rows + i] = position + i;
    r->sequences[r->n_active] = s;
    r->counts[r->n_active++] = count;
    r->rows += count;
    return true;
}

static bool note_bytes(run *r)
{
    attention_stats now;
    if (!r->o->count_bytes) return true;
    if (!attention_get_stats(r->a, &now, r->f)) return false;
    if (now.bytes_full > r->stats->most.bytes_full) r->stats->most = now;
    return true;
}

static bool take_step(run *r, const float **logits)
{
    if (!attention_step(r->a, r->n_active, r->sequences, r->counts, r->tokens, r->f)) return false;
    if (!model_run(r->m, r->a, r->tokens, r->positions, r->rows, logits, r->f)) {
        attention_step_cancel(r->a);
        return false;
    }
    r->stats->steps++;
    r->stats->tokens_in += r->rows;
    return attention_step_end(r->a, r->f) && note_bytes(r);
}

/* ---- drafts --------------------------------------------------------------------------------------------------------
 */

/* Prompt lookup: where did the last bytes stand before, and what followed them there? The longest match wins, of these
 * the latest. */
static int64_t guess(const branch *b, int64_t most, uint8_t *out)
{
    enum { LONGEST = 6, SHORTEST = 3 };
    for (int64_t n = LONGEST; n >= SHORTEST; n--)
        for (int64_t at = b->known - n - 1; at >= 0; at--) {
            if (memcmp(b->text + at, b->text + b->known - n, (size_t)n) != 0) continue;
            int64_t length = b->known - (at + n);
            if (length > most) length = most;
            memcpy(out, b->text + at + n, (size_t)length);
            return length;
        }
    return 0;
}

/* ---- what a branch brings, and what it gets ------------------------------------------------------------------------
 */

static bool is_done(const branch *b) { return b->known == b->end; }

static bool bring(run *r, branch *b)
{
    b->take = b->known - b->fed;
    b->draft = 0;
    if (b->take > r->o->step) {
        b->take = r->o->step;
    } else if (r->o->draft) { /* the step itself adds one byte behind the draft */
        int64_t most = b->end - b->known - 1;
        b->draft = guess(b, most < ENGINE_DRAFT ? most : ENGINE_DRAFT, b->text + b->known);
    }
    r->active[r->n_active] = b;
    return add_rows(r, b->sequence, b->text + b->fed, b->fed, b->take + b->draft);
}

static uint8_t best(const float *logits)
{
    int b = 0;
    for (int i = 1; i < VOCABULARY; i++)
        if (logits[i] > logits[b]) b = i;
    return (uint8_t)b;
}

/* The byte that `rank` others are better than. */
static uint8_t best_but(const float *logits, uint32_t rank)
{
    for (int b = 0; b < VOCABULARY; b++) {
        uint32_t better = 0;
        for (int i = 0; i < VOCABULARY; i++) better += logits[i] > logits[b] || (logits[i] == logits[b] && i < b);
        if (better == rank) return (uint8_t)b;
    }
    return best(logits);
}

/* Minus the logarithm of the probability that softmax(logits) gives to `byte`. */
static double surprise(const float *logits, uint8_t byte)
{
    double sum = 0;
    const double most = (double)logits[best(logits)];
    for (int i = 0; i < VOCABULARY; i++) sum += exp((double)logits[i] - most);
    return log(sum) + most - (double)logits[byte];
}

/* `logits` begins at the branch's first row. The row of the last known token says what follows; where the draft said
 * the same, the next row is right, too, and so on. */
static bool receive(run *r, branch *b, const float *logits)
{
    b->fed += b->take + b->draft;
    if (b->fed < b->known) return true;
    const float *row = logits + (b->take - 1) * VOCABULARY;
    if (b->known == b->job->prompt_length) memcpy(b->first, row, sizeof b->first);
    int64_t right = 0;
    uint8_t next = best(row);
    b->score -= surprise(row, next);
    while (right < b->draft && b->text[b->known + right] == next) {
        row += VOCABULARY;
        next = best(row);
        b->score -= surprise(row, next);
        right++;
    }
    const int64_t wrong = b->draft - right;
    r->stats->drafted += b->draft;
    r->stats->accepted += right;
    r->stats->tokens_out += right + 1;
    if (wrong && !attention_rollback(r->a, b->sequence, wrong, r->f)) return false;
    b->fed -= wrong;
    b->known += right;
    b->text[b->known++] = next;
    return true;
}

/* The first branch of a prompt has read it, and the first byte is chosen: the others begin as its forks. Those that are
 * to diverge take another first byte, and nothing that a draft has added. */
static bool wake(run *r, branch *b)
{
    const branch *first = b - b->fork;
    const int64_t prompt = b->job->prompt_length;
    if (!b->waiting || first->known == prompt) return true;
    b->waiting = false;
    b->known = r->o->diverge ? prompt + 1 : first->known;
    b->fed = r->o->diverge ? prompt : first->fed;
    memcpy(b->text, first->text, (size_t)b->known);
    if (r->o->diverge) {
        b->text[prompt] = best_but(first->first, b->fork);
        b->score = -surprise(first->first, b->text[prompt]);
        r->stats->tokens_out++;
    }
    if (is_done(b)) return true;
    b->open = attention_fork(r->a, first->sequence, &b->sequence, r->f);
    return b->open && (first->fed == b->fed || attention_rollback(r->a, b->sequence, first->fed - b->fed, r->f));
}

static bool finish(run *r, branch *b)
{
    if (!b->open || !is_done(b)) return true;
    b->open = false;
    return attention_end(r->a, b->sequence, r->f);
}

/* ---- beginnings ----------------------------------------------------------------------------------------------------
 */

static int64_t bytes_alike(const branch *a, const branch *b)
{
    int64_t n = 0;
    while (n < a->job->prompt_length && n < b->job->prompt_length && a->text[n] == b->text[n]) n++;
    return n;
}

/* Does another one read now what this one begins with? Then it pays to wait, and to find that. */
static bool is_read_by_another(const branch *b, const branch *from, uint32_t n)
{
    enum { LEAST = 16 };
    for (uint32_t i = 0; i < n; i++) {
        const int64_t alike = from[i].open ? bytes_alike(b, &from[i]) : 0;
        if (alike >= LEAST && alike > from[i].fed) return true;
    }
    return false;
}

static bool open_branch(run *r, branch *b)
{
    b->open = r->o->share ? attention_begin_with(r->a, b->text, b->known, &b->sequence, &b->fed, r->f)
                          : attention_begin(r->a, &b->sequence, r->f);
    r->stats->found += b->fed;
    return b->open;
}

/* ---- all branches --------------------------------------------------------------------------------------------------
 */

static bool round_of(run *r, branch *from, uint32_t n, bool *any)
{
    const float *logits;
    r->n_active = 0;
    r->rows = 0;
    for (uint32_t i = 0; i < n; i++) {
        branch *b = &from[i];
        if (is_done(b) || b->waiting) continue;
        if (!b->open && r->o->share && is_read_by_another(b, from, n)) continue;
        if ((!b->open && !open_branch(r, b)) || !bring(r, b)) return false;
    }
    *any = r->n_active > 0;
    if (!*any) return true;
    if (!take_step(r, &logits)) return false;
    for (uint32_t i = 0; i < r->n_active; logits += r->counts[i++] * VOCABULARY)
        if (!receive(r, r->active[i], logits)) return false;
    for (uint32_t i = 0; i < n; i++)
        if (!wake(r, &from[i])) return false;
    for (uint32_t i = 0; i < n; i++)
        if (!finish(r, &from[i])) return false;
    return true;
}

static bool begin(run *r, branch *b, engine_job *job, uint32_t fork)
{
    *b = (branch){.job = job,
                  .fork = fork,
                  .waiting = fork > 0,
                  .known = job->prompt_length,
                  .end = job->prompt_length + job->count};
    b->text = malloc((size_t)b->end);
    if (!b->text) return fail(r->f, "out of memory");
    memcpy(b->text, job->prompt, (size_t)job->prompt_length);
    return true;
}

static bool generate(run *r, branch *from, uint32_t n)
{
    bool any = true;
    while (any)
        if (!round_of(r, from, n, &any)) return false;
    return true;
}

static bool collect(run *r)
{
    for (uint32_t i = 0; i < r->n; i++) {
        const branch *b = &r->branches[i], *first = b - b->fork;
        const engine_job *job = b->job;
        if (!r->o->diverge && memcmp(b->text, first->text, (size_t)b->end) != 0)
            return fail(r->f, "branch %u does not say what the first says", b->fork + 1);
        if (!job->count) continue;
        if (!b->fork) memcpy(job->text, b->text + job->prompt_length, (size_t)job->count);
        if (!job->branches) continue;
        memcpy(job->branches[b->fork].text, b->text + job->prompt_length, (size_t)job->count);
        job->branches[b->fork].score = b->score / (double)job->count;
    }
    return true;
}

static bool generate_all(run *r, engine_job *jobs, uint32_t n)
{
    const uint32_t forks = r->o->forks;
    for (; r->n < n * forks; r->n++)
        if (!begin(r, &r->branches[r->n], &jobs[r->n / forks], r->n % forks)) {
            r->n++;
            return false;
        }
    const uint32_t together = r->o->batch ? r->n : forks;
    for (uint32_t i = 0; i < r->n; i += together)
        if (!generate(r, r->branches + i, together)) return false;
    return collect(r);
}

static bool open_run(run *r, uint32_t n)
{
    r->branches = calloc((size_t)n + 1, sizeof *r->branches);
    r->active = calloc((size_t)n + 1, sizeof *r->active);
    r->sequences = calloc((size_t)n + 1, sizeof *r->sequences);
    r->counts = calloc((size_t)n + 1, sizeof *r->counts);
    return (r->branches && r->active && r->sequences && r->counts) || fail(r->f, "out of memory");
}

static void close_run(run *r)
{
    failure ignored;
    for (uint32_t i = 0; i < r->n; i++) {
        if (r->branches[i].open) (void)attention_end(r->a, r->branches[i].sequence, &ignored);
        free(r->branches[i].text);
    }
    free(r->branches);
    free(r->active);
    free(r->sequences);
    free(r->counts);
    free(r->tokens);
    free(r->positions);
}

bool engine_generate(model *m, attention *a, const engine_options *o, engine_job *jobs, uint32_t n, engine_stats *stats,
                     failure *f)
{
    run r = {.m = m, .a = a, .o = o, .stats = stats, .f = f};
    bool ok = open_run(&r, n * o->forks) && generate_all(&r, jobs, n);
    close_run(&r);
    return ok;
}

/* ---- evaluation ----------------------------------------------------------------------------------------------------
 */

static bool window_loss(run *r, const uint8_t *text, int64_t window, double *sum)
{
    attention_sequence s;
    const float *logits;
    bool ok = true;
    if (!attention_begin(r->a, &s, r->f)) return false;
    for (int64_t at = 0; ok && at < window; at += r->rows) {
        r->n_active = 0;
        r->rows = 0;
        ok =
            add_rows(r, s, text + at, at, window - at < r->o->step ? window - at : r->o->step) && take_step(r, &logits);
        for (int64_t i = 0; ok && i < r->rows; i++) *sum += surprise(logits + i * VOCABULARY, text[at + i + 1]);
    }
    failure second;
    return attention_end(r->a, s, ok ? r->f : &second) && ok;
}

bool engine_loss(model *m, attention *a, const engine_options *o, const uint8_t *text, size_t size, int64_t window,
                 double *loss, engine_stats *stats, failure *f)
{
    run r = {.m = m, .a = a, .o = o, .stats = stats, .f = f};
    double sum = 0;
    int64_t n = 0;
    bool ok = open_run(&r, 1);
    for (int64_t at = 0; ok && at + window < (int64_t)size; at += window, n += window)
        ok = window_loss(&r, text + at, window, &sum);
    close_run(&r);
    if (ok && !n)
        return fail(f, "the text has %zu bytes; a window of %lld needs one more than itself", size, (long long)window);
    *loss = sum / (double)n;
    return ok;
}
