/* file.c - whole files in and out, and the one-sentence errors of the tools. */
#define _POSIX_C_SOURCE 200809L
#include "tools/common/file.h"
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool tool_fail(tool_error *err, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, args);
    va_end(args);
    return false;
}

static bool read_stream(FILE *f, char **data, size_t *len)
{
    size_t cap = 1 << 16, n = 0;
    char *buffer = malloc(cap + 1);
    while (buffer) {
        n += fread(buffer + n, 1, cap - n, f);
        if (n < cap) break;
        char *larger = cap < SIZE_MAX / 2 ? realloc(buffer, 2 * cap + 1) : NULL;
        if (!larger) {
            free(buffer);
            return false;
        }
        buffer = larger;
        cap *= 2;
    }
    if (!buffer) return false;
    buffer[n] = 0;
    *data = buffer;
    *len = n;
    return true;
}

bool file_read(const char *path, char **data, size_t *len, tool_error *err)
{
    FILE *f = fopen(path, "rb");
    if (!f) return tool_fail(err, "cannot read '%s': %s", path, strerror(errno));
    struct stat s;
    bool ok = false;
    if (!fstat(fileno(f), &s) && S_ISDIR(s.st_mode)) {
        tool_fail(err, "cannot read '%s': it is a folder", path);
    } else if (!read_stream(f, data, len)) {
        tool_fail(err, "cannot read '%s': out of memory", path);
    } else if (ferror(f)) {
        tool_fail(err, "cannot read '%s': %s", path, strerror(errno));
        free(*data);
    } else {
        ok = true;
    }
    fclose(f);
    return ok;
}

static char *join(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    char *s = malloc(n + m + 1);
    if (s) {
        memcpy(s, a, n);
        memcpy(s + n, b, m + 1);
    }
    return s;
}

/* mkstemp makes files that only their owner may read; an ordinary output follows the umask. */
static void give_usual_mode(int fd)
{
    mode_t mask = umask(0);
    umask(mask);
    if (fchmod(fd, 0666 & ~mask)) return; /* a file system without modes */
}

static char *temporary_for(const file_output *o)
{
    const char *folder = getenv("TMPDIR");
    if (!o->into) return join(o->path, ".XXXXXX");
    return join(folder && *folder ? folder : "/tmp", "/attnc.XXXXXX");
}

bool file_output_begin(file_output *o, const char *path, tool_error *err)
{
    struct stat s;
    bool exists = !stat(path, &s);
    *o = (file_output){.into = exists && !S_ISREG(s.st_mode)};
    if (exists && S_ISDIR(s.st_mode)) return tool_fail(err, "cannot write '%s': it is a folder", path);
    o->path = join(path, "");
    o->temporary = o->path ? temporary_for(o) : NULL;
    int fd = o->temporary ? mkstemp(o->temporary) : -1;
    if (fd < 0) {
        tool_fail(err, "cannot write '%s': %s", path, strerror(o->temporary ? errno : ENOMEM));
        free(o->path), free(o->temporary);
        *o = (file_output){0};
        return false;
    }
    give_usual_mode(fd);
    close(fd);
    return true;
}

static bool copy_stream(FILE *from, FILE *to)
{
    char buffer[1 << 14];
    size_t n;
    while ((n = fread(buffer, 1, sizeof buffer, from)) > 0)
        if (fwrite(buffer, 1, n, to) != n) return false;
    return !ferror(from) && !fflush(to);
}

static bool copy_into(const file_output *o)
{
    FILE *from = fopen(o->temporary, "rb"), *to = from ? fopen(o->path, "wb") : NULL;
    bool ok = to && copy_stream(from, to);
    int error = errno;
    if (from) fclose(from);
    if (to && fclose(to) && ok) return false;
    errno = error;
    return ok;
}

bool file_output_commit(file_output *o, tool_error *err)
{
    bool ok = o->into ? copy_into(o) : !rename(o->temporary, o->path);
    if (!ok) tool_fail(err, "cannot write '%s': %s", o->path, strerror(errno));
    if (!ok || o->into) unlink(o->temporary);
    free(o->path), free(o->temporary);
    *o = (file_output){0};
    return ok;
}

void file_output_abandon(file_output *o)
{
    if (o->temporary) unlink(o->temporary);
    free(o->path), free(o->temporary);
    *o = (file_output){0};
}

static bool write_stream(FILE *f, const void *data, size_t len)
{
    bool ok = fwrite(data, 1, len, f) == len;
    return !fflush(f) && ok;
}

bool file_write(const char *path, const void *data, size_t len, tool_error *err)
{
    if (!strcmp(path, "-"))
        return write_stream(stdout, data, len) || tool_fail(err, "cannot write to standard output: %s", strerror(errno));
    file_output o;
    if (!file_output_begin(&o, path, err)) return false;
    FILE *f = fopen(o.temporary, "wb");
    bool ok = f && write_stream(f, data, len);
    if (f && fclose(f)) ok = false;
    if (!ok) {
        tool_fail(err, "cannot write '%s': %s", path, strerror(errno));
        file_output_abandon(&o);
        return false;
    }
    return file_output_commit(&o, err);
}
