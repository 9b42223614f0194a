/* tune_guard.c - --tune while it runs: a folder for its libraries, and signals held back until that folder is gone. */
#define _POSIX_C_SOURCE 200809L
#include "tools/attnc/tune_guard.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t caught; /* a handler reaches nothing else */

static void on_signal(int number) { caught = number; }
bool tune_guard_stopped(void) { return caught != 0; }

static const int signals[TUNE_GUARD_SIGNALS] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};

/* What is ignored (nohup) stays ignored. */
static void catch_signals(struct sigaction *before)
{
    struct sigaction a = {.sa_handler = on_signal};
    sigemptyset(&a.sa_mask);
    caught = 0;
    for (size_t i = 0; i < ATTNC_COUNT(signals); i++)
        if (!sigaction(signals[i], &a, &before[i]) && before[i].sa_handler == SIG_IGN) sigaction(signals[i], &before[i], NULL);
}

/* As if nobody had caught it, now that all is clean. */
static void release_signals(const struct sigaction *before)
{
    for (size_t i = 0; i < ATTNC_COUNT(signals); i++)
        sigaction(signals[i], &before[i], NULL);
    if (caught) raise(caught);
}

bool tune_guard_begin(tune_guard *g, tool_error *err)
{
    const char *place = getenv("TMPDIR");
    snprintf(g->folder, sizeof g->folder, "%s/attnc-tune.XXXXXX", place && *place ? place : "/tmp");
    catch_signals(g->before);
    if (mkdtemp(g->folder)) return true;
    tool_fail(err, "cannot make a folder '%s': %s", g->folder, strerror(errno));
    release_signals(g->before);
    return false;
}

/* With what an interrupted compilation left in it. */
void tune_guard_end(tune_guard *g)
{
    DIR *d = opendir(g->folder);
    for (struct dirent *e; d && (e = readdir(d));)
        unlinkat(dirfd(d), e->d_name, 0);
    if (d) closedir(d);
    rmdir(g->folder);
    release_signals(g->before);
}
