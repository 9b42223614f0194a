/* failure.h - why something did not work: one sentence, made where it happens, printed by main. */
#ifndef ENGINE_FAILURE_H
#define ENGINE_FAILURE_H

#include <stdbool.h>

typedef struct failure {
    char text[512];
} failure;

/* Fills in the sentence and returns false, so that `return fail(f, ..)` is how a function gives up. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
bool fail(failure *f, const char *format, ...);

#endif
