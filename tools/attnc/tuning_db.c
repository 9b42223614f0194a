/* tuning_db.c - the tuning database: one table, one transaction a write, looked at before it is believed. */
#define _POSIX_C_SOURCE 200809L
#include "tools/attnc/tuning_db.h"
#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* SCHEMA changes with the table and with schedule_fields.def. */
enum { APPLICATION = 0x6174746e /* "attn" */, SCHEMA = 1, WAIT_MS = 30000 };

struct tuning_db {
    sqlite3 *file;
    char *path;
};

#define FIELD(name) #name " INTEGER NOT NULL, "
static const char create_table[] =
    "CREATE TABLE entry (processor TEXT NOT NULL, target TEXT NOT NULL, shape TEXT NOT NULL, "
#include "ir/kernel/schedule_fields.def"
    "gain REAL NOT NULL, measured TEXT NOT NULL, version TEXT NOT NULL, date TEXT NOT NULL, PRIMARY KEY (processor, target, shape))";
#undef FIELD

#define FIELD(name) #name ", "
static const char select_entry[] =
    "SELECT "
#include "ir/kernel/schedule_fields.def"
    "gain, measured, version, date FROM entry WHERE processor = ?1 AND target = ?2 AND shape = ?3";
static const char insert_entry[] =
    "INSERT OR REPLACE INTO entry (processor, target, shape, "
#include "ir/kernel/schedule_fields.def"
    "gain, measured, version, date) VALUES (?, ?, ?, "
#undef FIELD
#define FIELD(name) "?, "
#include "ir/kernel/schedule_fields.def"
    "?, ?, ?, ?)";
#undef FIELD

/* ---- paths ------------------------------------------------------------------------------------------------------------------- */

const char *tuning_db_default_path(arena *a)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache && cache[0] == '/') return arena_printf(a, "%s/attnc/tuning.db", cache); /* XDG: relative ones are to be ignored */
    return home && *home ? arena_printf(a, "%s/.cache/attnc/tuning.db", home) : NULL;
}

void tuning_db_make_folders(const char *path)
{
    char *at = strdup(path);
    for (char *slash = at ? strchr(at + 1, '/') : NULL; slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(at, 0700) && errno != EEXIST) break;
        *slash = '/';
    }
    free(at);
}

bool tuning_db_exists(const char *path)
{
    struct stat s;
    return !stat(path, &s) || (errno != ENOENT && errno != ENOTDIR);
}

/* ---- errors -------------------------------------------------------------------------------------------------------------------- */

static bool fail(const tuning_db *db, const char *doing, tool_error *err)
{
    const int code = sqlite3_errcode(db->file);
    if (code == SQLITE_NOTADB) return tool_fail(err, "'%s' is not a tuning database: it is no SQLite file", db->path);
    if (code == SQLITE_CORRUPT)
        return tool_fail(err, "the tuning database '%s' is damaged; remove it and run attnc --tune again", db->path);
    return tool_fail(err, "cannot %s the tuning database '%s': %s", doing, db->path, sqlite3_errmsg(db->file));
}

static bool run(tuning_db *db, const char *sql, const char *doing, tool_error *err)
{
    return sqlite3_exec(db->file, sql, NULL, NULL, NULL) == SQLITE_OK || fail(db, doing, err);
}

/* ---- opening ------------------------------------------------------------------------------------------------------------------- */

static bool read_number(tuning_db *db, const char *sql, int64_t *out, tool_error *err)
{
    sqlite3_stmt *s = NULL;
    bool ok = sqlite3_prepare_v2(db->file, sql, -1, &s, NULL) == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW;
    if (ok) *out = sqlite3_column_int64(s, 0);
    if (!ok) fail(db, "read", err);
    sqlite3_finalize(s);
    return ok;
}

/* empty: nobody has written anything into it. */
static bool check_head(tuning_db *db, bool *empty, tool_error *err)
{
    int64_t application, schema, tables;
    if (!read_number(db, "PRAGMA application_id", &application, err) || !read_number(db, "PRAGMA user_version", &schema, err) ||
        !read_number(db, "SELECT count(*) FROM sqlite_master", &tables, err))
        return false;
    *empty = !application && !schema && !tables;
    if (*empty) return true;
    if (application != APPLICATION) return tool_fail(err, "'%s' is not a tuning database: it belongs to another program", db->path);
    return schema == SCHEMA || tool_fail(err,
                                         "the tuning database '%s' has schema %lld, this attnc (%s) has %d; name another file, or remove it and "
                                         "run attnc --tune again",
                                         db->path, (long long)schema, ATTNC_VERSION, SCHEMA);
}

static bool make_table(tuning_db *db, tool_error *err)
{
    char *pragmas = sqlite3_mprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", APPLICATION, SCHEMA);
    bool ok = pragmas ? run(db, pragmas, "write", err) : tool_fail(err, "out of memory");
    sqlite3_free(pragmas);
    return ok && run(db, create_table, "write", err);
}

/* One transaction from looking to making: two processes may come here at once. */
static bool prepare_writing(tuning_db *db, tool_error *err)
{
    bool empty;
    if (sqlite3_db_readonly(db->file, "main") > 0) return tool_fail(err, "cannot write the tuning database '%s': it is read-only", db->path);
    if (!run(db, "BEGIN IMMEDIATE", "write", err)) return false;
    bool ok = check_head(db, &empty, err) && (!empty || make_table(db, err)) && run(db, "COMMIT", "write", err);
    if (!ok) sqlite3_exec(db->file, "ROLLBACK", NULL, NULL, NULL);
    return ok;
}

static bool prepare_reading(tuning_db *db, tool_error *err)
{
    bool empty;
    return check_head(db, &empty, err) && (!empty || tool_fail(err, "the tuning database '%s' is empty", db->path));
}

/* SQLite reads meaning into some names (":memory:", "file:..."); behind a folder it does not. */
static char *plain_path(const char *path)
{
    size_t n = strlen(path) + 3;
    char *out = malloc(n);
    if (out) snprintf(out, n, "%s%s", path[0] == '/' ? "" : "./", path);
    return out;
}

static bool open_file(tuning_db *db, const char *path, bool write, tool_error *err)
{
    char *plain = plain_path(path);
    db->path = strdup(path);
    if (!plain || !db->path) {
        free(plain);
        return tool_fail(err, "out of memory");
    }
    int flags = write ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
    bool ok = sqlite3_open_v2(plain, &db->file, flags, NULL) == SQLITE_OK;
    if (!ok && db->file) fail(db, write ? "open" : "read", err);
    if (!db->file) tool_fail(err, "out of memory");
    free(plain);
    return ok && sqlite3_busy_timeout(db->file, WAIT_MS) == SQLITE_OK;
}

tuning_db *tuning_db_open(const char *path, bool write, tool_error *err)
{
    tuning_db *db = calloc(1, sizeof *db);
    if (!db) return tool_fail(err, "out of memory"), NULL;
    if (open_file(db, path, write, err) && (write ? prepare_writing(db, err) : prepare_reading(db, err))) return db;
    tuning_db_close(db);
    return NULL;
}

void tuning_db_close(tuning_db *db)
{
    if (!db) return;
    sqlite3_close(db->file);
    free(db->path);
    free(db);
}

/* ---- entries --------------------------------------------------------------------------------------------------------------------- */

static uint32_t size_at(sqlite3_stmt *s, int column)
{
    const int64_t x = sqlite3_column_int64(s, column);
    return sqlite3_column_type(s, column) == SQLITE_INTEGER && x > 0 && x <= UINT32_MAX ? (uint32_t)x : 0;
}

static const char *text_at(arena *a, sqlite3_stmt *s, int column)
{
    const unsigned char *t = sqlite3_column_text(s, column);
    return t ? arena_strdup(a, (const char *)t) : "";
}

static void read_entry(arena *a, sqlite3_stmt *s, tuning_entry *out)
{
    int at = 0;
#define FIELD(name) out->sizes.name = size_at(s, at++);
#include "ir/kernel/schedule_fields.def"
#undef FIELD
    out->gain = sqlite3_column_double(s, at++);
    out->measured = text_at(a, s, at++);
    out->version = text_at(a, s, at++);
    out->date = text_at(a, s, at);
}

static bool bind_text(sqlite3_stmt *s, int at, const char *value) { return sqlite3_bind_text(s, at, value, -1, SQLITE_STATIC) == SQLITE_OK; }

static bool bind_key(sqlite3_stmt *s, const tuning_key *k)
{
    return bind_text(s, 1, k->processor) && bind_text(s, 2, k->target) && bind_text(s, 3, k->shape);
}

bool tuning_db_find(tuning_db *db, arena *a, const tuning_key *key, bool *found, tuning_entry *out, tool_error *err)
{
    sqlite3_stmt *s = NULL;
    bool ok = sqlite3_prepare_v2(db->file, select_entry, -1, &s, NULL) == SQLITE_OK && bind_key(s, key);
    int step = ok ? sqlite3_step(s) : SQLITE_ERROR;
    *found = step == SQLITE_ROW;
    *out = (tuning_entry){.key = *key};
    if (*found)
        read_entry(a, s, out);
    else if (step != SQLITE_DONE)
        fail(db, "read", err);
    sqlite3_finalize(s);
    return step == SQLITE_ROW || step == SQLITE_DONE;
}

static bool bind_entry(sqlite3_stmt *s, const tuning_entry *e)
{
    int at = 4;
    bool ok = bind_key(s, &e->key);
#define FIELD(name) ok = ok && sqlite3_bind_int64(s, at++, e->sizes.name) == SQLITE_OK;
#include "ir/kernel/schedule_fields.def"
#undef FIELD
    ok = ok && sqlite3_bind_double(s, at++, e->gain) == SQLITE_OK && bind_text(s, at++, e->measured);
    return ok && bind_text(s, at++, e->version) && bind_text(s, at, e->date);
}

bool tuning_db_store(tuning_db *db, const tuning_entry *e, tool_error *err)
{
    sqlite3_stmt *s = NULL;
    bool ok = sqlite3_prepare_v2(db->file, insert_entry, -1, &s, NULL) == SQLITE_OK && bind_entry(s, e);
    ok = ok && sqlite3_step(s) == SQLITE_DONE; /* a statement alone is a transaction */
    if (!ok) fail(db, "write", err);
    sqlite3_finalize(s);
    return ok;
}
