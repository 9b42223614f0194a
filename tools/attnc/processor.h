/* processor.h - what this machine's processor is called, for measurements. */
#ifndef ATTNC_TOOLS_PROCESSOR_H
#define ATTNC_TOOLS_PROCESSOR_H

#include "ir/base/arena.h"

/* "AMD EPYC, family 26 model 2"; "" when the processor does not say. */
const char *processor_name(arena *a);

#endif
