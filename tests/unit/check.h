/* check.h - a test program is a main that calls TEST functions; each CHECK keeps its expression's text.
 * Ends with exit status 1 when something failed. Prints one line a failed check and one a test. */
#ifndef ATTNC_TEST_CHECK_H
#define ATTNC_TEST_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_failures, check_current;

#define CHECK(cond) \
    do { \
        if (!(cond)) { \
            check_failures++, check_current++; \
            if (check_current <= 20) printf("%s:%d: failed: %s\n", __FILE__, __LINE__, #cond); \
        } \
    } while (0)
#define CHECK_MSG(cond, ...) \
    do { \
        if (!(cond)) { \
            check_failures++, check_current++; \
            if (check_current <= 20) printf("%s:%d: failed: %s: ", __FILE__, __LINE__, #cond), printf(__VA_ARGS__), puts(""); \
        } \
    } while (0)
#define CHECK_STR(a, b) CHECK_MSG(!strcmp((a), (b)), "\"%s\" is not \"%s\"", (a), (b))
#define RUN(test) (check_current = 0, test(), printf("%s %s\n", check_current ? "FAIL" : "pass", #test))
#define CHECK_DONE() (check_failures ? EXIT_FAILURE : EXIT_SUCCESS)

/* A small seeded generator, the same everywhere; print the seed. */
static inline unsigned long long check_random(unsigned long long *state)
{
    unsigned long long x = *state += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

#endif
