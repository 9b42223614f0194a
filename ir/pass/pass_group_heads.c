/* pass_group_heads.c - query heads of one KV head share a pass over K and V.
 *
 * Needs: the online form.      Breaks: h is one number per tile: from here on it is a quantity of the row.
 * Keeps: every op: none reads a whole tile's head. With one query head a KV head a group is one row, as before.
 * Ends: sets one flag.
 *
 *   rows { one query head }      ==>     rows { (query row, head of the group), heads fastest }
 *   q = load.q { f(h) }                  q = load.q { f(h) }         each row with its own h
 */
#include "ir/pass/pass_internal.h"

const char *pass_group_heads(kernel *k, const pass_options *o)
{
    (void)o;
    k->grouped = true;
    return NULL;
}
