/* isa.h - how many instruction sets this version knows. */
#ifndef ATTN_SRC_ISA_H
#define ATTN_SRC_ISA_H

#include <attn/abi.h>

enum { ISA_COUNT = ATTN_ISA_NATIVE + 1 };

#endif
