/* time.c - where the time of a compilation went. */
#define _POSIX_C_SOURCE 200809L
#include "tools/attnc/time.h"
#include <sys/resource.h>
#include <time.h>

double time_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static void line(FILE *to, const char *name, double ms, double total)
{
    fprintf(to, "  %-16s %9.2f ms %5.1f %%\n", name, ms, total > 0 ? 100 * ms / total : 0);
}

void time_print(const time_table *t, FILE *to)
{
    double total = time_now() - t->start;
    struct rusage usage;
    fprintf(to, "time\n");
    line(to, "frontend", t->frontend, total);
    for (int p = 0; p < PASS_COUNT; p++)
        line(to, pass_name((pass_id)p), t->pass[p], total);
    line(to, "build", t->backend.build, total);
    line(to, "optimise", t->backend.optimise, total);
    line(to, "codegen", t->backend.codegen, total);
    line(to, "link", t->backend.link, total);
    line(to, "report, picture", t->analysis, total);
    line(to, "total", total, total);
    if (!getrusage(RUSAGE_SELF, &usage)) fprintf(to, "  %-16s %9.1f MB\n", "peak memory", (double)usage.ru_maxrss / 1024);
}
