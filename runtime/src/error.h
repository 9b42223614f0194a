/* error.h - one way to fail: a status and a sentence. Also how size-prefixed structs of callers are read. */
#ifndef ATTN_SRC_ERROR_H
#define ATTN_SRC_ERROR_H

#include <attn/attn.h>

/* Writes the sentence to err (may be NULL) and returns s, so that `return attni_fail(..)` is the idiom. */
attn_status attni_fail(attn_error *err, attn_status s, const char *format, ...) __attribute__((format(printf, 3, 4)));

attn_status attni_no_memory(attn_error *err); /* ATTN_E_MEMORY: there is none for anything but pages */

/* Reads a caller's struct that begins with its size_t size into `to` (own bytes): what an older caller does not know
 * becomes zero; what a newer caller knows and we do not must be zero. `what` names the struct in the message. */
attn_status attni_read_struct(void *to, size_t own, const void *from, const char *what, attn_error *err);

#endif
