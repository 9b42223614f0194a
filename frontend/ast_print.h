/* ast_print.h - the syntax tree as text. */
#ifndef ATTNC_FRONTEND_AST_PRINT_H
#define ATTNC_FRONTEND_AST_PRINT_H

#include "frontend/ast.h"
#include "ir/base/text.h"

void ast_print(text *to, decl_list decls);

#endif
