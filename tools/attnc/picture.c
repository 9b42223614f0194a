/* picture.c - --picture: a page with one panel per kind of layer (and per kind of head), the schedule, and a legend.
 *
 * Tiles are classed by the same analysis that makes the kernels. Inside partial tiles single pairs are drawn, or, for long texts,
 * blocks of pairs. */
#include "tools/attnc/picture.h"
#include "tools/attnc/mask_view.h"
#include "tools/attnc/scene.h"
#include <inttypes.h>
#include <string.h>

enum { MAX_CELLS = 256, TILES = 16, PANEL_TARGET = 280, MAX_HEAD_PANELS = 3, MAX_PANELS = 24, MAX_LINES = 4, MAX_COLUMNS = 3 };

static const double margin = 28, gap = 40, axis = 34, title_line = 13, header = 62;

static const colour ink = 0x1f2933, faint = 0x7b8794, empty_tile = 0xf0f2f4, partial_tile = 0xfde3c3, partial_pair = 0xf08a24,
                    partial_block = 0xf8b878, full_tile = 0x3f7fc4, grid = 0xffffff, frame = 0xaab4be;
static const colour kinds[] = {0x2f6f8f, 0xc2577a, 0x6a8f2f, 0x8a5fb0, 0xb07a2a, 0x4f6fd0, 0x3a9a86, 0x9a4a3a};

/* One mask to draw: a kind, and the heads that share its formula. */
typedef struct panel {
    uint32_t kind;
    int64_t layer, head;
    const char *heads; /* "heads 0-3" or NULL when all are alike */
    const char *lines[MAX_LINES]; /* the formula, broken */
    uint32_t n_lines;
} panel;

typedef struct page {
    arena *arena;
    const ir_module *m;
    const picture_options *o;
    scene scene;
    VEC(panel) panels;
    int64_t n, block, cells; /* tokens; tokens of a cell; cells of a side */
    double cell, side;       /* of a cell and a panel, in units of the page */
} page;

static int64_t min_int(int64_t a, int64_t b) { return a < b ? a : b; }

static void write_at(page *p, double x, double y, double size, text_anchor anchor, colour fill, const char *string)
{
    scene_text_add(&p->scene, (scene_text){.x = x, .y = y, .size = size, .anchor = anchor, .fill = fill, .string = string});
}

static void write_bold(page *p, double x, double y, double size, const char *string)
{
    scene_text_add(&p->scene, (scene_text){.x = x, .y = y, .size = size, .fill = ink, .bold = true, .string = string});
}

/* ---- which panels ------------------------------------------------------------------------------------------------------------------ */

/* Breaks a formula at spaces into lines that fit the panel. */
static void break_lines(page *p, panel *x, const char *formula)
{
    size_t room = (size_t)(p->side / 6.2);
    while (*formula && x->n_lines < MAX_LINES) {
        size_t n = strlen(formula), cut = n;
        bool last = x->n_lines + 1 == MAX_LINES;
        if (n > room) {
            for (cut = room; cut > 0 && formula[cut] != ' ';)
                cut--;
            if (!cut) cut = room;
        }
        x->lines[x->n_lines++] = arena_printf(p->arena, "%.*s%s", (int)cut, formula, last && cut < n ? " ..." : "");
        formula += cut;
        while (*formula == ' ')
            formula++;
    }
}

static expr mask_of_head(const ir_module *m, const pattern *t, int64_t head)
{
    expr e = expr_substitute(m->pool, t->mask, VAR_H, expr_int(m->pool, head));
    return expr_substitute(m->pool, e, VAR_G, expr_int(m->pool, head * t->shape.kv_heads / t->shape.q_heads));
}

/* "heads 0-3, 8": those whose mask is `e`. */
static const char *name_heads(page *p, const expr *masks, int64_t n, expr e)
{
    text t = {.arena = p->arena};
    uint32_t pieces = 0;
    for (int64_t h = 0; h < n; h++) {
        if (masks[h] != e) continue;
        int64_t last = h;
        while (last + 1 < n && masks[last + 1] == e)
            last++;
        if (pieces == 3) {
            text_add(&t, " ...");
            break;
        }
        text_printf(&t, "%s%" PRId64, pieces++ ? ", " : last > h ? "heads " : "head ", h);
        if (last > h) text_printf(&t, "-%" PRId64, last);
        h = last;
    }
    return text_get(&t);
}

static void add_panel(page *p, panel x, expr mask)
{
    text t = {.arena = p->arena};
    if (p->panels.n == MAX_PANELS) return;
    expr_print(p->m->pool, mask, &t);
    break_lines(p, &x, text_get(&t));
    VEC_PUSH(p->arena, &p->panels, x);
}

/* One panel for a kind, or one for each of its first few kinds of heads. */
static void add_kind(page *p, uint32_t kind, int64_t layer)
{
    const pattern *t = p->m->patterns.at[kind];
    if (!expr_reads_var(p->m->pool, t->mask, VAR_H) && !expr_reads_var(p->m->pool, t->mask, VAR_G)) {
        add_panel(p, (panel){.kind = kind, .layer = layer}, t->mask);
        return;
    }
    expr *masks = ARENA_ARRAY(p->arena, expr, (size_t)t->shape.q_heads);
    for (int64_t h = 0; h < t->shape.q_heads; h++)
        masks[h] = mask_of_head(p->m, t, h);
    uint32_t made = 0;
    for (int64_t h = 0; h < t->shape.q_heads && made < MAX_HEAD_PANELS; h++) {
        int64_t first = 0;
        while (masks[first] != masks[h])
            first++;
        if (first < h) continue;
        panel x = {.kind = kind, .layer = layer, .head = h, .heads = name_heads(p, masks, t->shape.q_heads, masks[h])};
        add_panel(p, x, masks[h]);
        made++;
    }
}

static int64_t first_layer(const ir_module *m, uint32_t kind)
{
    for (uint32_t l = 0; l < m->layers; l++)
        if (m->schedule[l] == kind) return l;
    return 0;
}

static void choose_panels(page *p)
{
    if (p->o->layer >= 0)
        add_kind(p, p->m->schedule[p->o->layer], p->o->layer);
    else
        for (uint32_t i = 0; i < p->m->patterns.n; i++)
            add_kind(p, i, first_layer(p->m, i));
}

static void choose_tokens(page *p)
{
    p->n = p->o->context;
    for (uint32_t i = 0; i < p->m->patterns.n && !p->o->context; i++) {
        if (p->o->layer >= 0 && p->m->schedule[p->o->layer] != i) continue;
        int64_t n = mask_view_default_tokens(p->m, p->m->patterns.at[i]);
        p->n = n > p->n ? n : p->n;
    }
    p->block = (p->n + MAX_CELLS - 1) / MAX_CELLS;
    p->cells = (p->n + p->block - 1) / p->block;
    p->cell = (double)(PANEL_TARGET / p->cells > 1 ? PANEL_TARGET / p->cells : 1);
    p->side = p->cell * (double)p->cells;
}

/* ---- one panel ---------------------------------------------------------------------------------------------------------------------- */

typedef struct mask_canvas {
    page *page;
    mask_view *view;
    double x, y;
    int64_t tile; /* cells of a tile's side */
} mask_canvas;

static void fill_cells(const mask_canvas *c, int64_t row, int64_t rows, int64_t column, int64_t columns, colour fill)
{
    double size = c->page->cell;
    scene_rect_add(&c->page->scene, c->x + (double)column * size, c->y + (double)row * size, (double)columns * size,
                   (double)rows * size, fill);
}

static colour cell_colour(const mask_canvas *c, int64_t row, int64_t column)
{
    int64_t b = c->page->block, n = c->page->n;
    if (b == 1) return mask_view_visible(c->view, row, column) ? partial_pair : partial_tile;
    int64_t q1 = min_int((row + 1) * b, n) - 1, k1 = min_int((column + 1) * b, n) - 1;
    switch (mask_view_classify(c->view, row * b, q1, column * b, k1)) {
    case TILE_EMPTY: return partial_tile;
    case TILE_PARTIAL: return partial_block;
    case TILE_FULL: return partial_pair;
    }
    ATTNC_UNREACHABLE();
}

/* Cells of one colour beside each other become one rectangle. */
static void draw_partial(const mask_canvas *c, int64_t row0, int64_t row1, int64_t column0, int64_t column1)
{
    fill_cells(c, row0, row1 - row0, column0, column1 - column0, partial_tile);
    for (int64_t row = row0; row < row1; row++)
        for (int64_t column = column0, end; column < column1; column = end) {
            colour here = cell_colour(c, row, column);
            for (end = column + 1; end < column1 && cell_colour(c, row, end) == here;)
                end++;
            if (here != partial_tile) fill_cells(c, row, 1, column, end - column, here);
        }
}

static void draw_tile(const mask_canvas *c, int64_t row0, int64_t column0)
{
    const page *p = c->page;
    int64_t row1 = min_int(row0 + c->tile, p->cells), column1 = min_int(column0 + c->tile, p->cells), b = p->block;
    switch (mask_view_classify(c->view, row0 * b, min_int(row1 * b, p->n) - 1, column0 * b, min_int(column1 * b, p->n) - 1)) {
    case TILE_EMPTY: fill_cells(c, row0, row1 - row0, column0, column1 - column0, empty_tile); return;
    case TILE_FULL: fill_cells(c, row0, row1 - row0, column0, column1 - column0, full_tile); return;
    case TILE_PARTIAL: draw_partial(c, row0, row1, column0, column1); return;
    }
}

static void draw_grid(const mask_canvas *c)
{
    page *p = c->page;
    for (int64_t i = c->tile; i < p->cells; i += c->tile) {
        double at = (double)i * p->cell;
        scene_rect_add(&p->scene, c->x + at - 0.25, c->y, 0.5, p->side, grid);
        scene_rect_add(&p->scene, c->x, c->y + at - 0.25, p->side, 0.5, grid);
    }
    scene_frame_add(&p->scene, c->x - 1, c->y - 1, p->side + 2, p->side + 2, 1, frame);
}

static void draw_axes(page *p, double x, double y)
{
    const char *end = arena_printf(p->arena, "%" PRId64, p->n - 1);
    write_at(p, x, y - 5, 10, ANCHOR_START, faint, "0");
    write_at(p, x + p->side / 2, y - 5, 10, ANCHOR_MIDDLE, faint, "key k");
    write_at(p, x + p->side, y - 5, 10, ANCHOR_END, faint, end);
    write_at(p, x - 6, y + 8, 10, ANCHOR_END, faint, "0");
    write_at(p, x - 6, y + p->side / 2 + 4, 10, ANCHOR_END, faint, "q");
    write_at(p, x - 6, y + p->side, 10, ANCHOR_END, faint, end);
}

static const char *panel_title(const page *p, const panel *x)
{
    const char *name = p->m->patterns.at[x->kind]->name;
    return x->heads ? arena_printf(p->arena, "%s, %s", name, x->heads) : name;
}

static double title_height(const page *p)
{
    uint32_t most = 1;
    for (size_t i = 0; i < p->panels.n; i++)
        most = p->panels.at[i].n_lines > most ? p->panels.at[i].n_lines : most;
    return 24 + title_line * most + 16;
}

/* x, y: the upper left corner of the panel's square. */
static void draw_panel(page *p, const panel *x, double left, double top)
{
    double line = top - title_height(p) + 12;
    scene_rect_add(&p->scene, left, line - 9, 10, 10, kinds[x->kind % ATTNC_COUNT(kinds)]);
    write_bold(p, left + 16, line, 13, panel_title(p, x));
    for (uint32_t i = 0; i < x->n_lines; i++)
        write_at(p, left, line + 18 + title_line * i, 10, ANCHOR_START, ink, x->lines[i]);
    const pattern *t = p->m->patterns.at[x->kind];
    mask_canvas c = {p, mask_view_create(p->arena, p->m, t, p->n, x->layer, x->head), left, top, 0};
    c.tile = p->cells > TILES * 8 ? (p->cells + TILES - 1) / TILES : p->cells > 16 ? 8 : 4;
    for (int64_t row = 0; row < p->cells; row += c.tile)
        for (int64_t column = 0; column < p->cells; column += c.tile)
            draw_tile(&c, row, column);
    draw_grid(&c);
    draw_axes(p, left, top);
}

/* ---- the page ----------------------------------------------------------------------------------------------------------------------- */

static void draw_header(page *p)
{
    const ir_module *m = p->m;
    const shape *s = &m->patterns.at[0]->shape;
    write_bold(p, margin, margin + 8, 18, m->name);
    write_at(p, margin, margin + 27, 11, ANCHOR_START, faint,
             arena_printf(p->arena, "%u layer%s, heads %" PRId64 " / %" PRId64 ", dim %" PRId64 ", %s; %" PRId64 " tokens", m->layers,
                          m->layers == 1 ? "" : "s", s->q_heads, s->kv_heads, s->dim, dtype_name(s->type), p->n));
}

/* The layers in order, each in the colour of its kind. */
static double draw_schedule(page *p, double y)
{
    double room = p->scene.width - 2 * margin, width = room / p->m->layers;
    if (width > 18) width = 18;
    write_at(p, margin, y, 11, ANCHOR_START, ink, "layers");
    for (uint32_t l = 0, end; l < p->m->layers; l = end) {
        for (end = l + 1; width < 3 && end < p->m->layers && p->m->schedule[end] == p->m->schedule[l];)
            end++;
        scene_rect_add(&p->scene, margin + width * l, y + 7, width * (end - l) - (width >= 3 ? 1 : 0), 14,
                       kinds[p->m->schedule[l] % ATTNC_COUNT(kinds)]);
    }
    write_at(p, margin, y + 33, 10, ANCHOR_START, faint, "0");
    if (p->m->layers > 1)
        write_at(p, margin + width * p->m->layers, y + 33, 10, ANCHOR_END, faint, arena_printf(p->arena, "%u", p->m->layers - 1));
    return y + 58;
}

static double draw_entry(page *p, double y, colour fill, const char *words)
{
    scene_rect_add(&p->scene, margin, y - 9, 11, 11, fill);
    write_at(p, margin + 18, y, 10, ANCHOR_START, ink, words);
    return y + 17;
}

static double draw_legend(page *p, double y)
{
    y = draw_entry(p, y, full_tile, "full tile: no mask code");
    y = draw_entry(p, y, partial_pair, p->block == 1 ? "partial tile, visible pair" : "partial tile, visible");
    if (p->block > 1) y = draw_entry(p, y, partial_block, "partial tile, finer than drawn");
    y = draw_entry(p, y, partial_tile, "partial tile, masked");
    y = draw_entry(p, y, empty_tile, "empty tile: never visited");
    if (p->m->symbols.attrs.n || p->m->symbols.tables.n) {
        write_at(p, margin, y + 2, 10, ANCHOR_START, faint, "Attributes and inputs: example values.");
        y += 17;
    }
    return y;
}

static void draw_page(page *p)
{
    int64_t columns = p->panels.n == 4 ? 2 : min_int((int64_t)p->panels.n, MAX_COLUMNS), rows = ((int64_t)p->panels.n + columns - 1) / columns;
    double wide = axis + p->side, high = title_height(p) + p->side, top = margin + header;
    p->scene.width = 2 * margin + wide * (double)columns + gap * (double)(columns - 1);
    if (p->scene.width < 360) p->scene.width = 360;
    draw_header(p);
    for (size_t i = 0; i < p->panels.n; i++) {
        double x = margin + axis + (wide + gap) * (double)((int64_t)i % columns);
        double y = top + (high + gap) * (double)((int64_t)i / columns) + title_height(p);
        draw_panel(p, &p->panels.at[i], x, y);
    }
    double y = top + (high + gap) * (double)rows;
    if (p->o->layer < 0) y = draw_schedule(p, y);
    p->scene.height = draw_legend(p, y) + margin - 12;
}

bool picture_write(arena *a, const ir_module *m, const picture_options *o, tool_error *err)
{
    page p = {.arena = a, .m = m, .o = o, .scene = {.arena = a}};
    choose_tokens(&p);
    choose_panels(&p);
    draw_page(&p);
    size_t n = strlen(o->output);
    if (!strcmp(o->output + n - 4, ".png")) return png_write(&p.scene, o->output, err);
    text t = {.arena = a};
    svg_print(&p.scene, &t);
    return file_write(o->output, text_get(&t), strlen(text_get(&t)), err);
}
