/* frontend.h - from .attn text to pattern IR. */
#ifndef ATTNC_FRONTEND_H
#define ATTNC_FRONTEND_H

#include "ir/pattern/module.h"

typedef struct frontend_define { /* -D NAME=VALUE */
    const char *name, *value;
} frontend_define;

typedef struct frontend_options {
    const char *prelude_dir; /* folder of the prelude's *.attn */
    const frontend_define *defines;
    size_t n_defines;
} frontend_options;

/* Reads, parses and checks a model; mistakes go to d. NULL when there were errors. The module's patterns are those that
 * the schedule uses, in order of declaration; each has its ranges computed. */
ir_module *frontend_compile(arena *a, diags *d, const char *path, const frontend_options *o);
/* The same for text in memory (fuzzing, tests); imports are looked for beside `name`. */
ir_module *frontend_compile_text(arena *a, diags *d, const char *name, const char *text, size_t len,
                                 const frontend_options *o);
/* The syntax tree, for --emit=ast; false after errors. */
bool frontend_print_ast(arena *a, diags *d, const char *path, const frontend_options *o, text *to);
/* Names, arguments and comment of every definition of the prelude, for --help-prelude. */
bool frontend_print_prelude(arena *a, diags *d, const char *prelude_dir, text *to);

#endif
