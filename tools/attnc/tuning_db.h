/* tuning_db.h - what --tune measured, kept in an SQLite file for later compilations (docs/tuning.md). */
#ifndef ATTNC_TOOLS_TUNING_DB_H
#define ATTNC_TOOLS_TUNING_DB_H

#include "ir/kernel/kernel.h"
#include "tools/common/file.h"

typedef struct tuning_key { /* where it was measured, and on what */
    const char *processor, *target, *shape;
} tuning_key;

typedef struct tuning_entry {
    tuning_key key;
    schedule sizes;       /* the fields of schedule_fields.def only; what is no such number in the file is 0, which no verifier accepts */
    double gain;          /* time of the table's schedule over this one's; 1: they are the same */
    const char *measured; /* the shares of both, for people */
    const char *version, *date; /* of attnc; day */
} tuning_entry;

typedef struct tuning_db tuning_db;

/* $XDG_CACHE_HOME/attnc/tuning.db, else ~/.cache/attnc/tuning.db; NULL when neither is set. */
const char *tuning_db_default_path(arena *a);
/* Makes the folders that lead to a file. What fails shows when the file is opened. */
void tuning_db_make_folders(const char *path);
bool tuning_db_exists(const char *path); /* something has this name, or nobody may know */

/* Reading makes and changes nothing; writing makes the file. Refuses what is not a tuning database of this schema. NULL and err then. */
tuning_db *tuning_db_open(const char *path, bool write, tool_error *err);
/* Texts are copied to the arena, but the key's. */
bool tuning_db_find(tuning_db *db, arena *a, const tuning_key *key, bool *found, tuning_entry *out, tool_error *err);
/* In the place of an entry of this key; other processes may write meanwhile. */
bool tuning_db_store(tuning_db *db, const tuning_entry *e, tool_error *err);
void tuning_db_close(tuning_db *db);

#endif
