/* schedule_choice.h - which schedule each kind gets for each target: the tuning database's, else the table's. */
#ifndef ATTNC_TOOLS_SCHEDULE_CHOICE_H
#define ATTNC_TOOLS_SCHEDULE_CHOICE_H

#include "ir/pass/pass.h"
#include "tools/attnc/tuning_db.h"

typedef struct schedule_choice {
    schedule sizes;            /* whole */
    schedule_row row;          /* what the table has */
    const tuning_entry *entry; /* why something else was taken, or that the row was measured; NULL: there is none */
} schedule_choice;

/* How a target is called in the database: native code is another thing than the target's own. */
const char *schedule_target_name(arena *a, target_id t, bool native);
/* Everything that makes the kernel, as text: the database's key. */
const char *schedule_shape_text(arena *a, const ir_module *m, const pattern *p);

/* The table's row for a pattern, or what db (may be NULL) has; an entry that cannot be used is said in d. */
schedule_choice schedule_choose(arena *a, tuning_db *db, const ir_module *m, uint32_t kind, target_id t, bool native, diags *d);

#endif
