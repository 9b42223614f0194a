/* backend.h - kernel IR to machine code. The only header of backends/ that others include. */
#ifndef ATTNC_BACKEND_H
#define ATTNC_BACKEND_H

#include "ir/kernel/kernel.h"

typedef enum emit_kind { EMIT_LLVM, EMIT_ASM, EMIT_OBJ, EMIT_SO } emit_kind;

typedef struct backend_times { /* milliseconds */
    double build, optimise, codegen, link;
} backend_times;

typedef struct backend_options {
    emit_kind emit;
    const char *output;      /* file; NULL or "-": standard output for text kinds */
    const char *header;      /* EMIT_OBJ: where the C header for static linking goes, or NULL */
    bool native;             /* cpu:native: tune for and use this machine's features */
    const char *source_hash; /* goes into the descriptor */
    const char *air;         /* the module as text after lower-pattern; goes into the descriptor: attn-run --check runs it */
    backend_times *times;    /* or NULL */
} backend_options;

/* variants[t] is the module's kernels scheduled for one target: n_kernels entries, in pattern order; all targets are linked into one
 * library, chosen at load. Mistakes of the environment (no linker, no space) and unsupported patterns go to d; false then. */
typedef struct backend_variant {
    target_id target;
    kernel *const *kernels;
} backend_variant;
bool backend_cpu_emit(const ir_module *m, const backend_variant *variants, size_t n_variants, const backend_options *o, diags *d);

/* The best CPU target of this machine. */
target_id backend_cpu_native(void);

#endif
