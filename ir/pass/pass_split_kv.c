/* pass_split_kv.c - the keys of a tile of rows may be cut over workers; partial (m, l, O) and their merge.
 *
 * Needs: finish and store at the end of `rows`.      Breaks: `rows` no longer writes the output.
 * Keeps: the sum: only part 0 counts the sink; uncut rows pass through merge with one part.
 * Ends: moves two ops once.
 *
 *   rows { ..                          rows { ..    store.part m, l, O }
 *     o, lse = finish m, l, O   ==>    merge { m, l, O = load.parts
 *     store o, lse }                           o, lse = finish m, l, O     store o, lse }
 */
#include "ir/pass/pass_internal.h"

const char *pass_split_kv(kernel *k, const pass_options *o)
{
    (void)o;
    kblock *rows = rows_body(k);
    size_t store = find_only(rows, OP_STORE), finish = find_only(rows, OP_FINISH);
    if (finish == NOT_FOUND || store != finish + 1 || store + 1 != rows->ops.n)
        return pass_refuse(k, PASS_split_kv, "rows must end in finish and store");
    kop *fin = rows->ops.at[finish], *out = rows->ops.at[store];
    if (out->operand[0] != fin->result[0] || out->operand[1] != fin->result[1])
        return pass_refuse(k, PASS_split_kv, "store must take what finish gives");
    kblock_remove(rows, store);
    kblock_remove(rows, finish);
    kop_append(k, rows, OP_STORE_PART, fin->operand, 0);
    kblock *merge = kop_append(k, k->body, OP_MERGE, NULL, 0)->body;
    const kop *parts = kop_append(k, merge, OP_LOAD_PARTS, NULL, 0);
    const kop *done = kop_append(k, merge, OP_FINISH, parts->result, 0);
    kop_append(k, merge, OP_STORE, done->result, 0);
    k->split = true;
    return NULL;
}
