/* module.h - an opened module: our own copy of its descriptors, and the kernel chosen for each kind. */
#ifndef ATTN_SRC_MODULE_H
#define ATTN_SRC_MODULE_H

#include "memory.h"

struct attn_module {
    memory mem;
    attn_module_desc desc;         /* kinds, kernels and inputs point to copies of this version's size */
    void *library;                 /* from dlopen; NULL for a linked-in descriptor */
    const attn_kernel_desc **best; /* per kind */
};

const attn_kind_desc *attni_module_kind(const attn_module *m, uint32_t layer); /* layer < n_layers */
/* The kernel of a kind for one instruction set, or for isa < 0 the best that this processor runs; NULL: there is none.
 */
const attn_kernel_desc *attni_kind_kernel(const attn_kind_desc *kind, int32_t isa);

#endif
