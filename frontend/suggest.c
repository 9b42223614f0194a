/* suggest.c - nearest name by edit distance (insert, delete, change, swap of neighbours). */
#include "frontend/suggest.h"

#include <limits.h>
#include <string.h>

enum { LONGEST = 48 }; /* longer names are not compared: nobody mistypes them twice */

static unsigned least(unsigned a, unsigned b) { return a < b ? a : b; }

static unsigned edit_distance(const char *a, size_t n, const char *b, size_t m)
{
    unsigned row[3][LONGEST + 1];
    for (size_t j = 0; j <= m; j++) row[0][j] = (unsigned)j;
    for (size_t i = 1; i <= n; i++) {
        unsigned *now = row[i % 3], *before = row[(i + 2) % 3], *earlier = row[(i + 1) % 3];
        now[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            now[j] = least(least(before[j], now[j - 1]) + 1, before[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = least(now[j], earlier[j - 2] + 1);
        }
    }
    return row[n % 3][m];
}

suggestion suggest_begin(const char *wrong) { return (suggestion){.wrong = wrong, .distance = UINT_MAX}; }

void suggest_offer(suggestion *s, const char *candidate)
{
    size_t n = strlen(s->wrong), m = strlen(candidate);
    if (n > LONGEST || m > LONGEST || !strcmp(s->wrong, candidate)) return;
    unsigned d = edit_distance(s->wrong, n, candidate, m);
    bool begins = n >= 3 && !strncmp(s->wrong, candidate, n);
    if (begins && d > 1) d = 2;
    if (d < s->distance) s->distance = d, s->best = candidate;
}

const char *suggest_result(const suggestion *s)
{
    size_t n = strlen(s->wrong);
    unsigned most = n <= 2 ? 1 : n <= 5 ? 2 : 3;
    if (n == 1) return NULL;
    return s->best && s->distance <= most ? s->best : NULL;
}
