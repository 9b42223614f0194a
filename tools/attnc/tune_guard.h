/* tune_guard.h - --tune while it runs: a folder for its libraries, and signals held back until that folder is gone. */
#ifndef ATTNC_TOOLS_TUNE_GUARD_H
#define ATTNC_TOOLS_TUNE_GUARD_H

#include "tools/common/file.h"
#include <signal.h>

enum { TUNE_GUARD_SIGNALS = 4 };

typedef struct tune_guard {
    char folder[4096];
    struct sigaction before[TUNE_GUARD_SIGNALS];
} tune_guard;

bool tune_guard_begin(tune_guard *g, tool_error *err);
bool tune_guard_stopped(void); /* a signal came: end soon */
/* Removes the folder with all that lies in it; a signal that came takes effect now. */
void tune_guard_end(tune_guard *g);

#endif
