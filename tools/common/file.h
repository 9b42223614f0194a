/* file.h - whole files in and out, and the one-sentence errors of the tools. */
#ifndef ATTNC_TOOLS_FILE_H
#define ATTNC_TOOLS_FILE_H

#include "ir/base/compiler.h"
#include <stdbool.h>
#include <stddef.h>

typedef struct tool_error {
    char text[512];
} tool_error;

bool tool_fail(tool_error *err, const char *fmt, ...) ATTNC_PRINTF(2, 3); /* writes the sentence; always false */

/* The whole file, malloc'ed, with a NUL behind it. */
bool file_read(const char *path, char **data, size_t *len, tool_error *err);

/* A file that appears under its name only when it is whole. What is there and no ordinary file (a device, a pipe) stays what it is: the
 * bytes go into it at the end, and the temporary file lies elsewhere. */
typedef struct file_output {
    char *path, *temporary; /* what to write to: temporary */
    bool into;              /* path is no ordinary file */
} file_output;
bool file_output_begin(file_output *o, const char *path, tool_error *err);
bool file_output_commit(file_output *o, tool_error *err);
void file_output_abandon(file_output *o); /* after begin or commit; more than once is fine */

bool file_write(const char *path, const void *data, size_t len, tool_error *err); /* "-": standard output */

#endif
