/* error.c - statuses, their texts, and size-prefixed structs. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *attn_version(void) { return ATTN_VERSION; }

const char *attn_status_text(attn_status s)
{
    switch (s) {
#define STATUS(ident, value, text)                                                                                     \
    case ATTN_##ident:                                                                                                 \
        return text;
#include <attn/status.def>
#undef STATUS
    case ATTN_STATUS_COUNT:
        break;
    }
    return "unknown status";
}

attn_status attni_fail(attn_error *err, attn_status s, const char *format, ...)
{
    if (!err) return s;
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    return s;
}

attn_status attni_no_memory(attn_error *err) { return attni_fail(err, ATTN_E_MEMORY, "out of memory"); }

attn_status attni_read_struct(void *to, size_t own, const void *from, const char *what, attn_error *err)
{
    if (!from) return attni_fail(err, ATTN_E_ARGUMENT, "%s is NULL", what);
    size_t size;
    memcpy(&size, from, sizeof size);
    if (size < sizeof size)
        return attni_fail(err, ATTN_E_VERSION, "%s.size is %zu; set it to sizeof(%s)", what, size, what);
    const unsigned char *bytes = from;
    for (size_t i = own; i < size; i++)
        if (bytes[i])
            return attni_fail(err, ATTN_E_VERSION, "%s uses a field that attn %s does not know (byte %zu)", what,
                              ATTN_VERSION, i);
    memset(to, 0, own);
    memcpy(to, from, size < own ? size : own);
    return ATTN_OK;
}
