/* link.c - objects become a library: the first linker that is there, called without a shell. */
#define _POSIX_C_SOURCE 200809L
#include "backends/cpu/internal.h"

#include <errno.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>

extern char **environ;

/* Exit status of the program; -1: it could not be started. */
static int run(const char *const *argv)
{
    pid_t child;
    int status;
    if (posix_spawnp(&child, argv[0], NULL, NULL, (char *const *)argv, environ)) return -1;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return -1;
    if (!WIFEXITED(status)) return 128;
    return WEXITSTATUS(status) == 127 ? -1 : WEXITSTATUS(status);
}

static const char **arguments(arena *a, const char *linker, const char *library, const char *const *objects, size_t n)
{
    static const char *const direct[] = {"-shared", "-z", "defs", "-o"}, *const through[] = {"-shared", "-nostdlib", "-Wl,-z,defs", "-o"};
    const char **list = ARENA_ARRAY(a, const char *, n + 7);
    size_t at = 0;
    list[at++] = linker;
    for (size_t i = 0; i < ATTNC_COUNT(direct); i++) list[at++] = strcmp(linker, "cc") ? direct[i] : through[i];
    list[at++] = library;
    for (size_t i = 0; i < n; i++) list[at++] = objects[i];
    return list;
}

/* -z defs: an undefined symbol is our mistake and shows here, not at load. */
bool link_library(arena *a, const char *const *objects, size_t n, const char *library, diags *d)
{
    static const char *const linkers[] = {"ld.lld-22", "ld.lld", "cc", "ld"};
    for (size_t i = 0; i < ATTNC_COUNT(linkers); i++) {
        int status = run(arguments(a, linkers[i], library, objects, n));
        if (status < 0) continue;
        if (!status) return true;
        diag_report(d, DIAG_ID_FILE_ERROR, SPAN_NONE, "%s ended with status %d", linkers[i], status);
        return false;
    }
    diag_report(d, DIAG_ID_FILE_ERROR, SPAN_NONE, "no linker was found: ld.lld-22, ld.lld, cc and ld were tried");
    diag_add_hint(d, "install lld-22 or a C compiler, or write an object with -c");
    return false;
}
