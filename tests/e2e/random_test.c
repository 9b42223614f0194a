/* random_test.c - random patterns against the f64 oracle.   random_test [COUNT [SEED]]
 *
 * Case i is made from SEED + i alone: a failure is repeated by `random_test 1 THAT_SEED`. */
#include "tests/e2e/random_pattern.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct lengths {
    uint32_t n;
    int64_t q[RANDOM_SEQS], k[RANDOM_SEQS], pos[RANDOM_SEQS];
} lengths;

static int random_length(random_pattern *r)
{
    if (random_chance(r, 0.1)) return random_below(r, 2);
    return random_chance(r, 0.15) ? random_below(r, 200) : random_below(r, 50);
}

/* Prefill, decode, continuation, or queries anywhere. */
static void choose_lengths(random_pattern *r, lengths *l)
{
    l->n = (uint32_t)(1 + random_below(r, RANDOM_SEQS));
    for (uint32_t i = 0; i < l->n; i++) {
        l->q[i] = random_chance(r, 0.2) ? 1 : random_length(r);
        l->k[i] = l->q[i] + (random_chance(r, 0.4) ? random_length(r) : 0);
        l->pos[i] = l->k[i] - l->q[i];
        if (random_chance(r, 0.2)) l->pos[i] = random_below(r, 60);
        /* Far away from the keys; not with scores, where a penalty on such a distance leaves nothing of the logits in
         * f32. */
        if (random_chance(r, 0.02) && !strstr(r->at, "score")) l->pos[i] = ((int64_t)1 << 29) + random_below(r, 1000);
    }
}

static int32_t random_attr(random_pattern *r, uint32_t attr, int32_t before)
{
    if (attr) return random_chance(r, 0.1);
    return random_chance(r, 0.2) ? random_below(r, 4) - 1 : before;
}

static void fill_attrs(random_pattern *r, e2e_call *c)
{
    const attn_module_desc *d = attn_module_describe(c->m->loaded);
    for (uint32_t a = 0; a < d->n_attrs; a++) {
        uint32_t kind = !strcmp(d->attrs[a], "flag");
        int32_t value = 0;
        for (int64_t t = 0; t < c->total_k; t++) c->k_attrs[a][t] = value = random_attr(r, kind, value);
        for (int64_t t = 0; t < c->total_q; t++) c->q_attrs[a][t] = value = random_attr(r, kind, value);
    }
}

static void fill_inputs(random_pattern *r, e2e_call *c)
{
    const attn_module_desc *d = attn_module_describe(c->m->loaded);
    for (uint32_t i = 0; i < d->n_inputs; i++)
        for (int64_t j = 0; j < e2e_input_count(c, i); j++) {
            double *x = &c->inputs[i][j];
            *x = d->inputs[i]->is_int ? random_below(r, 40) : (double)(float)e2e_uniform(&r->seed);
            if (!strcmp(d->inputs[i]->name, "sinks") && random_chance(r, 0.1))
                *x = random_chance(r, 0.5) ? -INFINITY : 12;
        }
}

static void choose_ways(random_pattern *r, e2e_call *c)
{
    c->isa = r->isa;
    c->threads = (uint32_t)(1 + random_below(r, 3));
    c->own_threads = random_chance(r, 0.2);
    c->parts = random_chance(r, 0.6) ? 0 : (uint32_t)random_below(r, 6);
    c->group = random_chance(r, 0.5) ? 0 : random_chance(r, 0.5) ? 1 : (uint32_t)(r->q_heads / r->kv_heads);
    c->half_output = random_chance(r, 0.2);
    c->layout = (e2e_layout)random_below(r, E2E_LAYOUT_COUNT);
}

static bool run_case(random_pattern *r, const e2e_module *m, unsigned long long seed)
{
    static const double sizes[] = {0.3, 1, 1, 2.5};
    e2e_call c;
    lengths l;
    choose_lengths(r, &l);
    e2e_call_init(&c, m, (uint32_t)random_below(r, r->layers), l.n, l.q, l.k, l.pos);
    fill_attrs(r, &c);
    fill_inputs(r, &c);
    e2e_fill(&c, &r->seed, sizes[random_below(r, ATTNC_COUNT(sizes))]);
    choose_ways(r, &c);
    e2e_note("random_test 1 %llu: %s, layer %u, layout %d, %u threads%s, parts %u, group %u%s", seed,
             attn_isa_name((uint32_t)c.isa), c.layer, c.layout, c.threads, c.own_threads ? " of its own" : "", c.parts,
             c.group, c.half_output ? ", output in the dtype" : "");
    bool ok = e2e_run(&c) && e2e_matches(&c);
    for (uint32_t i = 0; i < l.n && !ok; i++)
        printf("  sequence %u: %lld queries at %lld, %lld keys\n", i, (long long)l.q[i], (long long)l.pos[i],
               (long long)l.k[i]);
    e2e_call_free(&c);
    return ok;
}

/* A pattern, and two calls of it. */
static bool run_pattern(unsigned long long seed)
{
    random_pattern r;
    e2e_module m;
    random_pattern_create(&r, seed, false);
    e2e_note("random_test 1 %llu: compiling for %s", seed, e2e_target_name(r.isa));
    if (!e2e_compile(&m, r.at, e2e_target_name(r.isa))) {
        printf("  in: %s\n", e2e_get_note());
        return false;
    }
    bool ok = run_case(&r, &m, seed) && run_case(&r, &m, seed);
    if (!ok) fputs(r.at, stdout);
    e2e_module_free(&m);
    return ok;
}

int main(int argc, char **argv)
{
    long count = argc > 1 ? strtol(argv[1], NULL, 10) : 200, failed = 0;
    unsigned long long seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    printf("%ld random patterns from seed %llu\n", count, seed);
    for (long i = 0; i < count && failed < 10; i++) failed += !run_pattern(seed + (unsigned long long)i);
    printf("%ld wrong\n", failed);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
