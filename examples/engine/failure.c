/* failure.c - one sentence about what went wrong. */
#include "failure.h"

#include <stdarg.h>
#include <stdio.h>

bool fail(failure *f, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(f->text, sizeof f->text, format, args);
    va_end(args);
    return false;
}
