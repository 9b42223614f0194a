/* png.c - a scene as a PNG file, through libpng. Coordinates are doubled, so that text is readable. */
#define _POSIX_C_SOURCE 200809L
#include "tools/attnc/scene.h"
#include <errno.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>

static const double scale = 2, advance_dots = FONT_ADVANCE, baseline_dots = FONT_BASELINE;

typedef struct bitmap {
    int width, height;
    uint8_t *pixels; /* RGB */
} bitmap;

static int clamp(double x, int limit) { return x < 0 ? 0 : x > limit ? limit : (int)(x + 0.5); }

static void fill(bitmap *b, double x, double y, double width, double height, colour c)
{
    int x0 = clamp(x, b->width), y0 = clamp(y, b->height), x1 = clamp(x + width, b->width), y1 = clamp(y + height, b->height);
    if (x1 == x0 && width > 0 && x1 < b->width) x1++; /* thin lines stay visible */
    if (y1 == y0 && height > 0 && y1 < b->height) y1++;
    for (int row = y0; row < y1; row++)
        for (int column = x0; column < x1; column++) {
            uint8_t *p = b->pixels + 3 * ((size_t)row * (size_t)b->width + (size_t)column);
            p[0] = (uint8_t)(c >> 16), p[1] = (uint8_t)(c >> 8), p[2] = (uint8_t)c;
        }
}

static void draw_glyph(bitmap *b, const uint8_t *glyph, double x, double y, double dot, bool bold, colour c)
{
    for (int row = 0; row < FONT_HEIGHT; row++)
        for (int column = 0; column < FONT_WIDTH; column++)
            if (glyph[row] >> (FONT_WIDTH - 1 - column) & 1)
                fill(b, x + column * dot, y + row * dot, dot + (bold ? dot / 2 : 0), dot, c);
}

/* A font of squares has whole sizes only: the one next to what SVG would draw. */
static void draw_text(bitmap *b, const scene_text *t)
{
    double dot = (int)(t->size * scale / 11 + 0.5), advance;
    if (dot < 1) dot = 1;
    advance = advance_dots * dot;
    double width = advance * (double)strlen(t->string), x = t->x * scale;
    if (t->anchor == ANCHOR_MIDDLE) x -= width / 2;
    if (t->anchor == ANCHOR_END) x -= width;
    for (const char *p = t->string; *p; p++, x += advance)
        draw_glyph(b, font_glyph((unsigned char)*p), (int)x, (int)(t->y * scale) - baseline_dots * dot, dot, t->bold, t->fill);
}

static bool draw(const scene *s, bitmap *b, tool_error *err)
{
    *b = (bitmap){(int)(s->width * scale), (int)(s->height * scale), NULL};
    size_t bytes = 3 * (size_t)b->width * (size_t)b->height;
    b->pixels = malloc(bytes + 1);
    if (!b->pixels) return tool_fail(err, "no memory for a picture of %d x %d", b->width, b->height);
    memset(b->pixels, 255, bytes);
    for (size_t i = 0; i < s->rects.n; i++) {
        const scene_rect *r = &s->rects.at[i];
        fill(b, r->x * scale, r->y * scale, r->width * scale, r->height * scale, r->fill);
    }
    for (size_t i = 0; i < s->texts.n; i++)
        draw_text(b, &s->texts.at[i]);
    return true;
}

static bool save(const bitmap *b, const char *path, tool_error *err)
{
    file_output out;
    if (!file_output_begin(&out, path, err)) return false;
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = (png_uint_32)b->width,
                       .height = (png_uint_32)b->height,
                       .format = PNG_FORMAT_RGB};
    if (png_image_write_to_file(&image, out.temporary, 0, b->pixels, 0, NULL)) return file_output_commit(&out, err);
    tool_fail(err, "cannot write '%s': %s", path, image.message);
    file_output_abandon(&out);
    return false;
}

bool png_write(const scene *s, const char *path, tool_error *err)
{
    bitmap b;
    bool ok = draw(s, &b, err) && save(&b, path, err);
    free(b.pixels);
    return ok;
}
