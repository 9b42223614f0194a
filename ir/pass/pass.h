/* pass.h - the pass driver. Passes are transformations of kernel IR; each is one file, pass_<name>.c. */
#ifndef ATTNC_IR_PASS_H
#define ATTNC_IR_PASS_H

#include "ir/kernel/kernel.h"

enum {
    KFACT_LOWERED = 1,
    KFACT_ONLINE = 2,
    KFACT_RANGES = 4,
    KFACT_FOLDED = 8,
    KFACT_GROUPED = 16,
    KFACT_SPLIT = 32,
    KFACT_SCHEDULED = 64
};

typedef enum pass_id {
#define PASS(ident, spelling, needs, gives, help) PASS_##ident,
#include "ir/pass/passes.def"
#undef PASS
    PASS_COUNT
} pass_id;

const char *pass_name(pass_id p);
const char *pass_help(pass_id p);

typedef struct pass_options {
    target_id target;         /* of `schedule` */
    const char *passes;       /* "a,b": run these only; NULL: all, in order */
    const char *stop_after;   /* pass name or NULL */
    const char *print_after;  /* pass name, "all" or NULL */
    const char *print_before;
    FILE *print_to;           /* NULL: stderr */
    bool verify_each;         /* also print, read back and compare after each pass */
    double *pass_ms;          /* PASS_COUNT entries to add to, or NULL */
    const schedule *given;    /* of `schedule`: per pattern, sizes to take instead of the table's (lanes 0: the table's); or NULL */
} pass_options;

/* What the table has for a target and a shape. */
typedef struct schedule_row {
    schedule sizes;       /* whole */
    const char *shapes;   /* "any shape": what the row is for */
    const char *measured; /* by what processor, when; or that nothing did */
} schedule_row;
schedule_row schedule_row_find(target_id t, const shape *s);
/* The target, and what follows from it and the storage type. */
void schedule_fill_facts(schedule *s, target_id t, const shape *of);

/* lower-pattern makes a kernel for each pattern that has none; every other pass runs on every kernel. Without `passes`, kernels that
 * show a pass's result already are left alone (a text from the middle of the pipeline goes on from there). NULL, or a sentence about a wrong
 * option or an unmet need. A kernel that fails to verify after a pass is our bug: ATTNC_BUG with the pass's name. */
const char *passes_run(ir_module *m, const pass_options *o);

/* One pass on one kernel, which need not be in its module: how a kernel is cloned and scheduled once per target. */
const char *pass_run(pass_id p, kernel *k, const pass_options *o);

#endif
