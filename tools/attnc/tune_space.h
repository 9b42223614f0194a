/* tune_space.h - the schedules that the tuner may try, around one that it has (docs/tuning.md). */
#ifndef ATTNC_TOOLS_TUNE_SPACE_H
#define ATTNC_TOOLS_TUNE_SPACE_H

#include "ir/kernel/kernel.h"

size_t tune_coordinates(void);
size_t tune_values(size_t coordinate);
uint32_t tune_touches(size_t coordinate); /* set of TUNE_PREFILL, _DECODE, _STEP: whose time it changes */
const char *tune_coordinate_name(size_t coordinate);

/* `from` with one coordinate changed, and what must follow: key_block becomes the nearest multiple of the register tiles, register tiles
 * divide the vectors of a tile again. false: the verifier refuses it still. */
bool tune_move(const schedule *from, size_t coordinate, size_t value, const shape *of, schedule *out);

bool schedule_same(const schedule *a, const schedule *b); /* by schedule_fields.def */
/* "lanes 64, key_block 128, ..." */
const char *schedule_sizes_text(arena *a, const schedule *s);

#endif
