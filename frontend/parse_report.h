/* parse_report.h - what the grammar's actions say about mistakes. */
#ifndef ATTNC_FRONTEND_PARSE_REPORT_H
#define ATTNC_FRONTEND_PARSE_REPORT_H

#include "frontend/parse_context.h"

typedef enum parse_word {
#define WORD(token, group) PARSE_WORD_##group,
#include "frontend/expected_words.def"
#undef WORD
    PARSE_WORD_COUNT
} parse_word;

/* `wanted`: which words could have stood at `where`. */
void parse_report_syntax(parse_context *c, span where, bool at_end, const bool *wanted);
void parse_reserved(parse_context *c, span where); /* a clause of later versions; mutes what follows up to `;` */
void parse_too_deep(parse_context *c, span where);
type_name parse_type(parse_context *c, span where, const char *name);

#endif
