/* scope.h - names and what they mean: prelude <- file (with its imports) <- model <- pattern.
 *
 * Definitions may share a name when they differ in their number of arguments. An inner scope hides an outer one per
 * name and number of arguments. */
#ifndef ATTNC_FRONTEND_SCOPE_H
#define ATTNC_FRONTEND_SCOPE_H

#include "frontend/ast.h"
#include "frontend/suggest.h"

typedef struct scope scope;
enum { SCOPE_VALUE = -1, SCOPE_ANY = -2 };

scope *scope_create(arena *a, scope *outer);
scope *scope_outer(const scope *s);
void scope_add(scope *s, decl *d); /* sets d->home */
/* arguments: how many; SCOPE_VALUE: what the bare name means; SCOPE_ANY: the first of that name. NULL: nothing. */
decl *scope_find_here(const scope *s, const char *name, int arguments);
decl *scope_find(const scope *s, const char *name, int arguments);
void scope_suggest(const scope *s, suggestion *to);
/* Every declaration of the scope in the order of adding. */
decl *const *scope_all(const scope *s, size_t *n);

#endif
