/* scene.c - a drawing as data. */
#include "tools/attnc/scene.h"

void scene_rect_add(scene *s, double x, double y, double width, double height, colour fill)
{
    scene_rect r = {x, y, width, height, fill};
    VEC_PUSH(s->arena, &s->rects, r);
}

void scene_frame_add(scene *s, double x, double y, double width, double height, double thickness, colour fill)
{
    scene_rect_add(s, x, y, width, thickness, fill);
    scene_rect_add(s, x, y + height - thickness, width, thickness, fill);
    scene_rect_add(s, x, y, thickness, height, fill);
    scene_rect_add(s, x + width - thickness, y, thickness, height, fill);
}

void scene_text_add(scene *s, scene_text t)
{
    t.string = arena_strdup(s->arena, t.string);
    VEC_PUSH(s->arena, &s->texts, t);
}
