/* tune.h - --tune: measures schedules on this machine and writes the best to the tuning database (docs/tuning.md). */
#ifndef ATTNC_TOOLS_TUNE_H
#define ATTNC_TOOLS_TUNE_H

#include "tools/attnc/tune_bench.h"
#include "tools/attnc/tuning_db.h"

typedef struct tune_options {
    const ir_module *module; /* kernels before `schedule` */
    const target_id *targets;
    size_t n_targets;
    bool native;
    const tune_shape *shapes;
    size_t n_shapes;
    int64_t seconds; /* for one kind and target */
    tuning_db *db;
    diags *diags; /* what the backend says of the table's schedule */
} tune_options;

/* Progress goes to standard error, a line for each kind and target to standard output. A signal ends it between two runs: what is stored
 * stays, nothing is left behind, and the process ends by that signal. A candidate whose result is wrong is ATTNC_BUG.
 * false: the reason is in diags or in err. */
bool tune_run(const tune_options *o, tool_error *err);

#endif
