/* options.h - the command line of attnc as data (docs: interface of the commands). */
#ifndef ATTNC_TOOLS_OPTIONS_H
#define ATTNC_TOOLS_OPTIONS_H

#include "frontend/frontend.h"
#include "ir/pass/pass.h"
#include "tools/attnc/tune_shape.h"
#include "tools/common/file.h"

enum { EXIT_DONE = 0, EXIT_MISTAKES = 1, EXIT_USAGE = 2 }; /* and 70: ATTNC_BUG */
enum { OPTIONS_MAX_DEFINES = 256, OPTIONS_MAX_TARGETS = 8, OPTIONS_ALL_LAYERS = -1 };

typedef enum output_kind {
#define KIND(ident, spelling) OUTPUT_##ident,
#include "tools/attnc/output_kinds.def"
#undef KIND
    OUTPUT_COUNT,
    OUTPUT_NONE = OUTPUT_COUNT /* only a report or a picture */
} output_kind;

typedef enum options_mode { MODE_COMPILE, MODE_HELP, MODE_VERSION, MODE_HELP_PRELUDE } options_mode;

typedef struct options {
    options_mode mode;
    const char *input, *output, *prelude_dir;
    output_kind emit;
    target_id targets[OPTIONS_MAX_TARGETS];
    size_t n_targets;
    bool native;
    frontend_define defines[OPTIONS_MAX_DEFINES];
    size_t n_defines;
    const char *print_after, *print_before, *passes, *stop_after;
    bool verify_each, time, report, json;
    const char *picture;
    int64_t context, layer; /* 0: chosen; OPTIONS_ALL_LAYERS */
    diag_format diag_format;
    const char *tuning_db; /* NULL: the default place */
    bool no_tuning_db, tune;
    tune_shape tune_shapes[TUNE_MAX_SHAPES];
    size_t n_tune_shapes;
    int64_t tune_seconds; /* for one kind and target */
} options;

/* EXIT_DONE, or the exit code and the sentence to print. */
int options_parse(int argc, char **argv, options *o, tool_error *err);
void options_help(FILE *to);

#endif
