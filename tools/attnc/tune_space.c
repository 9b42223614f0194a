/* tune_space.c - the schedules that the tuner may try: moves along one coordinate, in the order of tune_space.def. */
#include "tools/attnc/tune_space.h"
#include "ir/base/text.h"
#include "tools/attnc/tune_shape.h"
#include <stddef.h>
#include <string.h>

enum { WIDE = TUNE_PREFILL | TUNE_STEP, FEW = TUNE_DECODE | TUNE_STEP, STEP = TUNE_STEP, MOST_NUMBERS = 32 };

static const struct coordinate {
    const char *name;
    size_t field[2]; /* offsets in a schedule */
    uint32_t width, touches;
    uint32_t numbers[MOST_NUMBERS]; /* width a value; 0 ends them */
} coordinates[] = {
#define ONE(a, what, ...) {#a, {offsetof(schedule, a)}, 1, what, {__VA_ARGS__}},
#define PAIR(a, b, what, ...) {#a " x " #b, {offsetof(schedule, a), offsetof(schedule, b)}, 2, what, {__VA_ARGS__}},
#include "tools/attnc/tune_space.def"
#undef ONE
#undef PAIR
};

size_t tune_coordinates(void) { return ATTNC_COUNT(coordinates); }
uint32_t tune_touches(size_t coordinate) { return coordinates[coordinate].touches; }
const char *tune_coordinate_name(size_t coordinate) { return coordinates[coordinate].name; }

size_t tune_values(size_t coordinate)
{
    const struct coordinate *c = &coordinates[coordinate];
    size_t n = 0;
    while (n < MOST_NUMBERS && c->numbers[n])
        n++;
    return n / c->width;
}

static uint32_t common_multiple(uint32_t a, uint32_t b)
{
    uint32_t x = a, y = b;
    while (y) {
        uint32_t rest = x % y;
        x = y, y = rest;
    }
    return a / x * b;
}

static uint32_t divisor_at_most(uint32_t most, uint32_t of)
{
    while (of % most)
        most--;
    return most;
}

static void settle(schedule *s)
{
    const uint32_t vectors = s->lanes / s->vector, step = common_multiple(s->qk_keys, s->narrow_keys);
    if (vectors) {
        s->qk_vectors = divisor_at_most(s->qk_vectors, vectors);
        s->pv_vectors = divisor_at_most(s->pv_vectors, vectors);
    }
    if (s->few_lanes > s->lanes) s->few_lanes = s->lanes;
    s->key_block = (s->key_block + step / 2) / step * step;
    if (!s->key_block) s->key_block = step;
}

bool tune_move(const schedule *from, size_t coordinate, size_t value, const shape *of, schedule *out)
{
    const struct coordinate *c = &coordinates[coordinate];
    *out = *from;
    for (uint32_t i = 0; i < c->width; i++)
        memcpy((char *)out + c->field[i], &c->numbers[value * c->width + i], sizeof(uint32_t));
    settle(out);
    return !schedule_verify(out, of);
}

bool schedule_same(const schedule *a, const schedule *b)
{
    bool same = true;
#define FIELD(name) same = same && a->name == b->name;
#include "ir/kernel/schedule_fields.def"
#undef FIELD
    return same;
}

const char *schedule_sizes_text(arena *a, const schedule *s)
{
    text t = {.arena = a};
#define FIELD(name) text_printf(&t, "%s" #name " %u", t.n ? ", " : "", s->name);
#include "ir/kernel/schedule_fields.def"
#undef FIELD
    return text_get(&t);
}
