/* args.h - reading command lines: `--name value`, `--name=value`, flags, numbers and lists of numbers. */
#ifndef ATTNC_TOOLS_ARGS_H
#define ATTNC_TOOLS_ARGS_H

#include "tools/common/file.h"
#include <stdint.h>

typedef struct args {
    int n, next;
    char **at;
    tool_error *err;
    bool failed;
} args;

/* The next argument, or NULL at the end. */
const char *args_next(args *a);
/* Is `word` this option? *value is what follows `=` or the next word; a missing one is an error. */
bool args_option(args *a, const char *word, const char *name, const char **value);

/* A number within [lo, hi], all of the text; `what` names it in the error. */
bool args_int(const char *what, const char *text, int64_t lo, int64_t hi, int64_t *out, tool_error *err);
/* A list `1,2,3` of at least one number, malloc'ed. */
bool args_ints(const char *what, const char *text, int64_t lo, int64_t hi, int64_t **out, size_t *n, tool_error *err);

#endif
