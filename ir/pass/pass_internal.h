/* pass_internal.h - what the passes share among themselves. */
#ifndef ATTNC_IR_PASS_INTERNAL_H
#define ATTNC_IR_PASS_INTERNAL_H

#include "ir/pass/pass.h"

/* Changes one kernel whose facts the driver has checked. NULL, or a sentence: the kernel (written by hand, then) is
 * right but not of the shape that the earlier passes give. lower-pattern gets a kernel without ops. */
typedef const char *pass_function(kernel *k, const pass_options *o);
#define PASS(ident, spelling, needs, gives, help) pass_function pass_##ident;
#include "ir/pass/passes.def"
#undef PASS

#define NOT_FOUND SIZE_MAX

/* Index of the only op of this code in b; NOT_FOUND when there is none or there are several. */
size_t find_only(const kblock *b, kop_code code);
size_t count_ops(const kblock *b, kop_code code);
/* The body of the kernel's `rows`. */
kblock *rows_body(const kernel *k);
const char *pass_refuse(kernel *k, pass_id p, const char *why);

#endif
