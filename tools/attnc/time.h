/* time.h - where the time of a compilation went, for --time. */
#ifndef ATTNC_TOOLS_TIME_H
#define ATTNC_TOOLS_TIME_H

#include "backends/backend.h"
#include "ir/pass/pass.h"

typedef struct time_table {
    double start; /* of the process' work, by time_now */
    double frontend, analysis, pass[PASS_COUNT];
    backend_times backend;
} time_table;

double time_now(void); /* milliseconds */
void time_print(const time_table *t, FILE *to);

#endif
