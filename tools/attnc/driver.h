/* driver.h - one run of attnc, from options to exit code. */
#ifndef ATTNC_TOOLS_DRIVER_H
#define ATTNC_TOOLS_DRIVER_H

#include "tools/attnc/options.h"

int driver_run(const options *o);

#endif
