/* diag.h - sources, spans and diagnostics as data; printing them is a separate step.
 *
 * A span is a pair of byte offsets into one source; line and column are computed only when printing. */
#ifndef ATTNC_BASE_DIAG_H
#define ATTNC_BASE_DIAG_H

#include "ir/base/arena.h"
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct span {
    uint32_t source;     /* index into diags' sources; UINT32_MAX: no place (command line) */
    uint32_t begin, end; /* bytes */
} span;
#define SPAN_NONE ((span){UINT32_MAX, 0, 0})

typedef enum diag_severity { DIAG_ERROR, DIAG_WARNING, DIAG_PERF, DIAG_NOTE } diag_severity;
typedef enum diag_id {
#define DIAG(ident, slug, severity) DIAG_ID_##ident,
#include "ir/base/diag.def"
#undef DIAG
    DIAG_ID_COUNT
} diag_id;

typedef struct diag_note {
    struct diag_note *next;
    span where; /* SPAN_NONE: a hint, printed without a place */
    const char *text;
} diag_note;

typedef struct diagnostic {
    diag_id id;
    diag_severity severity;
    span where;
    const char *text;
    diag_note *notes; /* in order */
} diagnostic;

typedef struct diag_source {
    const char *name, *text; /* text is NUL-terminated; it may hold NULs itself */
    size_t len;
} diag_source;

typedef struct diags {
    arena *arena;
    VEC(diag_source) sources;
    VEC(diagnostic) list;
    size_t errors, warnings;
    size_t max_errors; /* later errors are counted, not kept; 0 = 20 */
    bool silent;       /* the newest was not kept: nor are its notes */
} diags;

typedef enum diag_format { DIAG_TEXT, DIAG_JSON } diag_format;

uint32_t diags_add_source(diags *d, const char *name, const char *text, size_t len); /* copies both */

/* Exact repeats (same id, place, text) are dropped. */
void diag_report(diags *d, diag_id id, span where, const char *fmt, ...) ATTNC_PRINTF(4, 5);
/* Added to the newest diagnostic; to none if that was not kept. */
void diag_add_note(diags *d, span where, const char *fmt, ...) ATTNC_PRINTF(3, 4);
void diag_add_hint(diags *d, const char *fmt, ...) ATTNC_PRINTF(2, 3);

/* text: `file:line:col: error: what [attn-slug]`, source line, caret line, notes, `hint: ...`.
 * json: one object a line: {"severity","slug","file","line","column","end_column","text","notes":[{...}],"hints":[...]}. */
void diags_print(const diags *d, FILE *to, diag_format format, bool colour);

typedef struct diag_place {
    const char *file;
    uint32_t line, column;      /* 1-based; column counts bytes */
    const char *line_text;
    size_t line_len;
} diag_place;
bool diag_locate(const diags *d, span where, diag_place *out); /* false for SPAN_NONE */

#endif
