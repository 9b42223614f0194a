/* args.c - reading command lines. */
#include "tools/common/args.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *args_next(args *a) { return a->next < a->n ? a->at[a->next++] : NULL; }

bool args_option(args *a, const char *word, const char *name, const char **value)
{
    size_t n = strlen(name);
    if (strncmp(word, name, n)) return false;
    if (word[n] == '=') return *value = word + n + 1, true;
    if (word[n]) return false;
    *value = args_next(a);
    if (!*value) {
        *value = "";
        a->failed = true;
        tool_fail(a->err, "%s needs a value", name);
    }
    return true;
}

static bool read_int(const char **at, int64_t lo, int64_t hi, int64_t *out)
{
    char *end;
    if (**at != '-' && (**at < '0' || **at > '9')) return false; /* strtoll would skip spaces */
    errno = 0;
    long long x = strtoll(*at, &end, 10);
    if (end == *at || errno || x < lo || x > hi) return false;
    *at = end;
    *out = x;
    return true;
}

bool args_int(const char *what, const char *text, int64_t lo, int64_t hi, int64_t *out, tool_error *err)
{
    const char *at = text;
    if (read_int(&at, lo, hi, out) && !*at) return true;
    return tool_fail(err, "%s must be a whole number from %lld to %lld, not '%s'", what, (long long)lo, (long long)hi, text);
}

bool args_ints(const char *what, const char *text, int64_t lo, int64_t hi, int64_t **out, size_t *n, tool_error *err)
{
    size_t count = 1;
    for (const char *p = text; *p; p++)
        count += *p == ',';
    int64_t *list = malloc(count * sizeof *list);
    if (!list) return tool_fail(err, "%s: out of memory", what);
    const char *at = text;
    for (size_t i = 0; i < count; i++, at++)
        if (!read_int(&at, lo, hi, &list[i]) || *at != (i + 1 < count ? ',' : 0)) {
            free(list);
            return tool_fail(err, "%s must be whole numbers from %lld to %lld with commas between them, not '%s'", what,
                             (long long)lo, (long long)hi, text);
        }
    *out = list;
    *n = count;
    return true;
}
