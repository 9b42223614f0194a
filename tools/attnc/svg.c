/* svg.c - a scene as SVG text. */
#include "tools/attnc/scene.h"

static void escaped(const char *string, text *to)
{
    for (; *string; string++)
        switch (*string) {
        case '&': text_add(to, "&amp;"); break;
        case '<': text_add(to, "&lt;"); break;
        case '>': text_add(to, "&gt;"); break;
        default:
            if ((unsigned char)*string >= 0x20) text_addn(to, string, 1);
        }
}

static void print_rect(const scene_rect *r, text *to)
{
    text_printf(to, "<rect x=\"%.6g\" y=\"%.6g\" width=\"%.6g\" height=\"%.6g\" fill=\"#%06x\"/>\n", r->x, r->y, r->width, r->height,
                r->fill);
}

static void print_text(const scene_text *t, text *to)
{
    static const char *const anchors[] = {"start", "middle", "end"};
    text_printf(to, "<text x=\"%.6g\" y=\"%.6g\" font-size=\"%.6g\" text-anchor=\"%s\" fill=\"#%06x\"%s>", t->x, t->y, t->size,
                anchors[t->anchor], t->fill, t->bold ? " font-weight=\"bold\"" : "");
    escaped(t->string, to);
    text_add(to, "</text>\n");
}

void svg_print(const scene *s, text *to)
{
    text_add(to, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    text_printf(to, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.6g\" height=\"%.6g\" viewBox=\"0 0 %.6g %.6g\"", s->width,
                s->height, s->width, s->height);
    text_add(to, " font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" shape-rendering=\"crispEdges\">\n");
    text_printf(to, "<rect width=\"%.6g\" height=\"%.6g\" fill=\"#ffffff\"/>\n", s->width, s->height);
    for (size_t i = 0; i < s->rects.n; i++)
        print_rect(&s->rects.at[i], to);
    for (size_t i = 0; i < s->texts.n; i++)
        print_text(&s->texts.at[i], to);
    text_add(to, "</svg>\n");
}
