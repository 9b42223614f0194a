/* scene.h - a drawing as data: rectangles and lines of text. svg.c and png.c put it on paper. */
#ifndef ATTNC_TOOLS_SCENE_H
#define ATTNC_TOOLS_SCENE_H

#include "ir/base/text.h"
#include "tools/common/file.h"
#include <stdint.h>

typedef uint32_t colour; /* 0xRRGGBB */
typedef enum text_anchor { ANCHOR_START, ANCHOR_MIDDLE, ANCHOR_END } text_anchor;

typedef struct scene_rect {
    double x, y, width, height;
    colour fill;
} scene_rect;

typedef struct scene_text {
    double x, y; /* y: baseline */
    double size; /* height of a line */
    text_anchor anchor;
    colour fill;
    bool bold;
    const char *string;
} scene_text;

typedef struct scene {
    arena *arena;
    double width, height;
    VEC(scene_rect) rects; /* drawn in order, before the texts */
    VEC(scene_text) texts;
} scene;

void scene_rect_add(scene *s, double x, double y, double width, double height, colour fill);
/* A frame of four thin rectangles, inside the box. */
void scene_frame_add(scene *s, double x, double y, double width, double height, double thickness, colour fill);
void scene_text_add(scene *s, scene_text t); /* the string is copied */

void svg_print(const scene *s, text *to);
bool png_write(const scene *s, const char *path, tool_error *err);

/* font.c: glyphs 5 wide and 7 high; row 0 is the top, bit 4 the left. Rows 7 and 8 hold what hangs below the baseline. */
enum { FONT_WIDTH = 5, FONT_HEIGHT = 9, FONT_BASELINE = 7, FONT_ADVANCE = 6 };
const uint8_t *font_glyph(unsigned char c); /* FONT_HEIGHT rows */

#endif
