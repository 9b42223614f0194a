/* unit.h - a part of a compilation that becomes one object: an LLVM module in a context of its own. */
#ifndef ATTNC_CPU_UNIT_H
#define ATTNC_CPU_UNIT_H

#include "backends/cpu/internal.h"

#include <llvm-c/TargetMachine.h>

typedef struct unit {
    gen g;
    LLVMTargetMachineRef machine;
    Val counted;              /* the last function that unit_count() has seen */
    LLVMMemoryBufferRef code; /* of units_compile() */
} unit;

void unit_open_llvm(void); /* once, before the first unit */
void unit_open(unit *u, arena *a, const ir_module *m);
void unit_close(unit *u);
/* Adds the instructions of functions that are new since the last call; *largest: of one function. */
void unit_count(unit *u, uint64_t *instructions, uint64_t *largest);
void unit_do_not_optimise(unit *u);
void unit_verify(const unit *u); /* ends the program by an internal error */
/* Machine code or assembly of all units, in as many threads as there are processors. */
void units_compile(unit *units, size_t n, LLVMCodeGenFileType type);

#endif
