/* rotary_test.c - RoPE and QK norm in the engine against their definitions, in double.   rotary_test [--list | NAME
 * ...]
 *
 *   D13  NoPE, neighbours, halves, a quarter of the head; positions 0 and 10^6
 *   D14  norms behind RoPE, before it, and over the whole projection: the order matters */
#include "examples/engine/rotary.h"
#include "tests/unit/check.h"

#include <complex.h>
#include <math.h>

enum { HEADS = 3, DIM = 64, ROWS = 2, TOKEN = HEADS * DIM, ALL = ROWS * TOKEN };
static const double eps = 1e-5, theta = 10000;
static const int64_t far = 1000000;

/* ---- the definitions -----------------------------------------------------------------------------------------------
 */

/* Pair i of n elements is a complex number, and position p multiplies it by e^(i p theta^(-2 i / n)). */
static void turn(double *head, rotary_pairs pairs, int n, int64_t position)
{
    for (int i = 0; i < n / 2; i++) {
        const int a = pairs == ROTARY_NEIGHBOURS ? 2 * i : i, b = pairs == ROTARY_NEIGHBOURS ? a + 1 : i + n / 2;
        const double angle = (double)position / pow(theta, 2.0 * i / n);
        const double complex z = (head[a] + head[b] * I) * cexp(I * angle);
        head[a] = creal(z), head[b] = cimag(z);
    }
}

static void normalise(double *x, int n, const float *weight)
{
    double squares = 0;
    for (int i = 0; i < n; i++) squares += x[i] * x[i];
    for (int i = 0; i < n; i++) x[i] *= (weight ? (double)weight[i] : 1) / sqrt(squares / n + eps);
}

/* ---- shared --------------------------------------------------------------------------------------------------------
 */

static void fill(float *x, int n, unsigned long long seed)
{
    for (int i = 0; i < n; i++) x[i] = (float)((double)(check_random(&seed) >> 11) / (double)(1ull << 52) - 1);
}

static void widen(double *to, const float *from, int n)
{
    for (int i = 0; i < n; i++) to[i] = (double)from[i];
}

static double worst(const float *x, const double *want, int n)
{
    double most = 0;
    for (int i = 0; i < n; i++) most = fmax(most, fabs((double)x[i] - want[i]));
    return most;
}

static rotary open_rotary(rotary_pairs pairs, int64_t n)
{
    rotary r;
    failure f;
    CHECK(rotary_open(&r, pairs, n, theta, &f));
    return r;
}

/* ---- D13 -----------------------------------------------------------------------------------------------------------
 */

static void check_turn(rotary_pairs pairs, int n, int64_t position)
{
    float head[DIM], before[DIM], turns[DIM];
    double want[DIM];
    rotary r = open_rotary(pairs, n);
    fill(before, DIM, 13);
    memcpy(head, before, sizeof head);
    rotary_prepare(&r, position, turns);
    rotary_turn(&r, turns, head);
    widen(want, before, DIM);
    turn(want, pairs, n, position);
    CHECK_MSG(worst(head, want, DIM) < 5e-7, "%d of %d elements at %d: off by %g", n, DIM, (int)position,
              worst(head, want, DIM));
    CHECK(!memcmp(head + n, before + n, (size_t)(DIM - n) * sizeof *head)); /* the rest of the head stays */
    CHECK(position || !memcmp(head, before, sizeof head));                  /* and all of it at 0 */
    rotary_close(&r);
}

/* What a query and a key say to each other depends on their distance only. */
static void check_distance(rotary_pairs pairs, int n)
{
    double dot[2] = {0};
    rotary r = open_rotary(pairs, n);
    for (int i = 0; i < 2; i++) {
        float q[DIM], k[DIM], turns[DIM];
        fill(q, DIM, 1), fill(k, DIM, 2);
        rotary_prepare(&r, i * far + 7, turns);
        rotary_turn(&r, turns, q);
        rotary_prepare(&r, i * far, turns);
        rotary_turn(&r, turns, k);
        for (int d = 0; d < DIM; d++) dot[i] += (double)q[d] * (double)k[d];
    }
    CHECK_MSG(fabs(dot[0] - dot[1]) < 2e-6, "%g is not %g", dot[0], dot[1]);
    rotary_close(&r);
}

/* The two ways to pair are one and the same up to the order of elements, so they differ on one order. */
static void check_pairs_differ(void)
{
    float a[DIM], b[DIM], turns[DIM];
    double other[DIM];
    rotary halves = open_rotary(ROTARY_HALVES, DIM), neighbours = open_rotary(ROTARY_NEIGHBOURS, DIM);
    fill(a, DIM, 4);
    memcpy(b, a, sizeof a);
    rotary_prepare(&halves, 5, turns);
    rotary_turn(&halves, turns, a);
    rotary_turn(&neighbours, turns, b);
    widen(other, b, DIM);
    CHECK(worst(a, other, DIM) > 0.1);
    rotary_close(&halves);
    rotary_close(&neighbours);
}

static void D13(void)
{
    static const int64_t positions[] = {0, 1, 8191, 1000000};
    static const int counts[] = {0, DIM / 4, DIM}; /* NoPE, partial RoPE of 0.25, RoPE */
    for (int p = 0; p < 4; p++)
        for (int i = 0; i < 3; i++) {
            check_turn(ROTARY_NEIGHBOURS, counts[i], positions[p]);
            check_turn(ROTARY_HALVES, counts[i], positions[p]);
        }
    for (int i = 0; i < 3; i++) {
        check_distance(ROTARY_NEIGHBOURS, counts[i]);
        check_distance(ROTARY_HALVES, counts[i]);
    }
    check_pairs_differ();
}

/* ---- D14 -----------------------------------------------------------------------------------------------------------
 */

static const int64_t positions[ROWS] = {3, 1000000};

static void define(double *x, qk_norm norm, const float *weight, rotary_pairs pairs, int n)
{
    for (int row = 0; row < ROWS; row++, x += TOKEN) {
        if (norm == QK_NORM_ALL_THEN_ROPE) normalise(x, TOKEN, weight);
        for (int h = 0; h < HEADS; h++) {
            if (norm == QK_NORM_HEAD_THEN_ROPE) normalise(x + h * DIM, DIM, weight);
            turn(x + h * DIM, pairs, n, positions[row]);
            if (norm == QK_NORM_ROPE_THEN_HEAD) normalise(x + h * DIM, DIM, weight);
        }
    }
}

/* The engine's heads of two tokens. */
static void place(float *x, qk_norm norm, const float *weight, rotary_pairs pairs, int n)
{
    float turns[ROWS * DIM];
    rotary r = open_rotary(pairs, n);
    const heads h = {.n = HEADS, .dim = DIM, .norm = norm, .eps = (float)eps, .weight = weight};
    fill(x, ALL, 14);
    for (int i = 0; i < DIM; i++) x[i] *= 5; /* heads of several lengths */
    for (int row = 0; row < ROWS; row++) rotary_prepare(&r, positions[row], turns + row * n);
    heads_place(&h, &r, turns, ROWS, x);
    rotary_close(&r);
}

static void check_place(qk_norm norm, const float *weight, rotary_pairs pairs, int n)
{
    float x[ALL], before[ALL];
    double want[ALL];
    fill(before, ALL, 14);
    for (int i = 0; i < DIM; i++) before[i] *= 5;
    widen(want, before, ALL);
    define(want, norm, weight, pairs, n);
    place(x, norm, weight, pairs, n);
    CHECK_MSG(worst(x, want, ALL) < 5e-6, "norm %d, %d elements turn: off by %g", (int)norm, n, worst(x, want, ALL));
}

static double apart(qk_norm a, qk_norm b, const float *weight)
{
    float x[ALL], y[ALL];
    double wide[ALL];
    place(x, a, weight, ROTARY_HALVES, DIM);
    place(y, b, weight, ROTARY_HALVES, DIM);
    widen(wide, y, ALL);
    return worst(x, wide, ALL);
}

static void D14(void)
{
    static const int counts[] = {0, DIM / 4, DIM};
    float weight[TOKEN];
    fill(weight, TOKEN, 140);
    for (int norm = QK_NORM_NONE; norm <= QK_NORM_ALL_THEN_ROPE; norm++)
        for (int i = 0; i < 3; i++)
            for (int w = 0; w < 2; w++) {
                check_place((qk_norm)norm, w ? weight : NULL, ROTARY_NEIGHBOURS, counts[i]);
                check_place((qk_norm)norm, w ? weight : NULL, ROTARY_HALVES, counts[i]);
            }
    CHECK(apart(QK_NORM_HEAD_THEN_ROPE, QK_NORM_ROPE_THEN_HEAD, weight) > 0.1);
    CHECK(apart(QK_NORM_HEAD_THEN_ROPE, QK_NORM_ALL_THEN_ROPE, weight) > 0.1);
    CHECK(apart(QK_NORM_HEAD_THEN_ROPE, QK_NORM_ALL_THEN_ROPE, NULL) > 0.1);
    /* Without weights turning changes no length, and only these two are the same. */
    CHECK(apart(QK_NORM_HEAD_THEN_ROPE, QK_NORM_ROPE_THEN_HEAD, NULL) < 5e-6);
}

static const struct {
    const char *name;
    void (*run)(void);
} tests[] = {{"D13", D13}, {"D14", D14}};

int main(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        if (argc == 2 && !strcmp(argv[1], "--list")) puts(tests[i].name);
        if (argc > 1 && strcmp(argv[1], tests[i].name)) continue;
        check_current = 0, tests[i].run();
        printf("%s %s\n", check_current ? "FAIL" : "pass", tests[i].name);
    }
    return CHECK_DONE();
}
