/* processor.c - the processor's brand, and family and model: clouds sell different cores under one brand. */
#include "tools/attnc/processor.h"
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

/* The brand comes in three pieces of 16 letters, filled up with blanks. */
static const char *brand(arena *a)
{
    uint32_t words[12 + 1] = {0};
    for (unsigned i = 0; i < 3; i++) {
        uint32_t *w = words + 4 * i;
        if (!__get_cpuid(0x80000002u + i, &w[0], &w[1], &w[2], &w[3])) return "";
    }
    char text[sizeof words], *at = text;
    memcpy(text, words, sizeof words);
    while (*at == ' ')
        at++;
    size_t n = strlen(at);
    while (n && at[n - 1] == ' ')
        n--;
    return arena_copy(a, at, n);
}

const char *processor_name(arena *a)
{
    uint32_t eax, b, c, d;
    if (!__get_cpuid(1, &eax, &b, &c, &d)) return "";
    uint32_t family = eax >> 8 & 15, model = eax >> 4 & 15;
    if (family == 6 || family == 15) model += (eax >> 16 & 15) << 4;
    if (family == 15) family += eax >> 20 & 255;
    return arena_printf(a, "%s, family %u model %u", brand(a), family, model);
}
#else
const char *processor_name(arena *a)
{
    (void)a;
    return "";
}
#endif
