/* suggest.h - "did you mean": the known name that is nearest to a mistyped one. */
#ifndef ATTNC_FRONTEND_SUGGEST_H
#define ATTNC_FRONTEND_SUGGEST_H

#include <stdbool.h>
#include <stddef.h>

typedef struct suggestion {
    const char *wrong, *best;
    unsigned distance;
} suggestion;

suggestion suggest_begin(const char *wrong);
void suggest_offer(suggestion *s, const char *candidate);
/* NULL when nothing is near enough to be worth a hint. */
const char *suggest_result(const suggestion *s);

#endif
