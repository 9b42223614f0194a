/* tuning_test.c - the tuning database (round trip, other processes, wrong files), and which schedules the tuner may try. */
#define _POSIX_C_SOURCE 200809L
#include "ir/pass/pass.h"
#include "tests/unit/check.h"
#include "tools/attnc/tune_score.h"
#include "tools/attnc/tune_shape.h"
#include "tools/attnc/tune_space.h"
#include "tools/attnc/tuning_db.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char path[] = "tuning_test.db";

/* An entry whose numbers say which one it is. */
static tuning_entry entry(const char *processor, const char *name, uint32_t number)
{
    tuning_entry e = {.key = {processor, "cpu:avx2", name}, .gain = 1 + number / 8.0, .measured = "so much", .version = "1", .date = "2026-11-26"};
#define FIELD(name) e.sizes.name = ++number;
#include "ir/kernel/schedule_fields.def"
#undef FIELD
    return e;
}

static bool is_there(tuning_db *db, arena *a, const tuning_entry *e)
{
    tuning_entry got;
    tool_error err;
    bool found;
    if (!tuning_db_find(db, a, &e->key, &found, &got, &err) || !found) return false;
    return schedule_same(&e->sizes, &got.sizes) && e->gain == got.gain && !strcmp(e->measured, got.measured) &&
           !strcmp(e->version, got.version) && !strcmp(e->date, got.date);
}

static void what_is_stored_is_found(void)
{
    arena *a = arena_create(0, NULL, NULL);
    tool_error err = {""};
    remove(path);
    CHECK(!tuning_db_open(path, false, &err)); /* reading makes no file */
    CHECK(access(path, F_OK));
    tuning_db *db = tuning_db_open(path, true, &err);
    CHECK_MSG(db, "%s", err.text);
    const tuning_entry first = entry("here", "q'; DROP TABLE entry; --", 10), second = entry("here", "another", 50);
    tuning_entry again = entry("here", "another", 90);
    CHECK(tuning_db_store(db, &first, &err) && tuning_db_store(db, &second, &err));
    CHECK(is_there(db, a, &first) && is_there(db, a, &second));
    CHECK(tuning_db_store(db, &again, &err)); /* in its place */
    CHECK(is_there(db, a, &first) && is_there(db, a, &again) && !is_there(db, a, &second));
    tuning_db_close(db);
    db = tuning_db_open(path, false, &err);
    CHECK_MSG(db, "%s", err.text);
    CHECK(is_there(db, a, &first) && is_there(db, a, &again));
    again.key.processor = "there";
    CHECK(!is_there(db, a, &again));
    CHECK(!tuning_db_store(db, &first, &err) && strstr(err.text, path)); /* opened to be read */
    tuning_db_close(db);
    arena_destroy(a);
}

enum { WRITERS = 4, EACH = 25 };

static int write_many(int writer)
{
    tool_error err;
    char name[32];
    for (int i = 0; i < EACH; i++) {
        tuning_db *db = tuning_db_open(path, true, &err);
        snprintf(name, sizeof name, "%d", writer * EACH + i);
        const tuning_entry e = entry("here", name, (uint32_t)i);
        if (!db || !tuning_db_store(db, &e, &err)) return fprintf(stderr, "%s\n", err.text), 1;
        tuning_db_close(db);
    }
    return 0;
}

/* All start with no file, so that its making is contested too. */
static void processes_write_at_once(void)
{
    arena *a = arena_create(0, NULL, NULL);
    tool_error err = {""};
    pid_t child[WRITERS];
    remove(path);
    for (int i = 0; i < WRITERS; i++)
        if (!(child[i] = fork())) _exit(write_many(i));
    for (int i = 0; i < WRITERS; i++) {
        int status = 1;
        CHECK(waitpid(child[i], &status, 0) == child[i] && !status);
    }
    tuning_db *db = tuning_db_open(path, false, &err);
    CHECK_MSG(db, "%s", err.text);
    for (int i = 0; i < WRITERS * EACH && db; i++) {
        char name[32];
        snprintf(name, sizeof name, "%d", i);
        const tuning_entry e = entry("here", name, (uint32_t)(i % EACH));
        CHECK(is_there(db, a, &e));
    }
    tuning_db_close(db);
    arena_destroy(a);
}

static void write_file(const char *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(bytes, 1, n, f) == n);
    if (f) fclose(f);
}

static void refuse(const char *why)
{
    for (int write = 0; write < 2; write++) {
        tool_error err = {""};
        tuning_db *db = tuning_db_open(path, write, &err);
        CHECK_MSG(!db && strstr(err.text, why) && strstr(err.text, path), "'%s' instead of '%s'", err.text, why);
        tuning_db_close(db);
    }
}

/* Every beginning of a good file, and single bytes changed: an error or what was there, no crash. */
static void damaged_files_are_survived(void)
{
    static char good[1 << 16], bad[1 << 16];
    arena *a = arena_create(0, NULL, NULL);
    tool_error err;
    remove(path);
    tuning_db *db = tuning_db_open(path, true, &err);
    const tuning_entry e = entry("here", "one", 1);
    CHECK(db && tuning_db_store(db, &e, &err));
    tuning_db_close(db);
    FILE *f = fopen(path, "rb");
    const size_t n = f ? fread(good, 1, sizeof good, f) : 0;
    if (f) fclose(f);
    CHECK(n > 4096);
    for (size_t i = 0; i < n; i += i < 128 ? 1 : 97) {
        const size_t length = i % 2 ? i : n;
        memcpy(bad, good, n);
        if (length == n) bad[i] ^= 0x55;
        write_file(bad, length);
        tuning_entry got;
        bool found;
        db = tuning_db_open(path, false, &err);
        if (db && tuning_db_find(db, a, &e.key, &found, &got, &err) && found) CHECK(got.measured && got.date && got.version);
        tuning_db_close(db);
    }
    arena_destroy(a);
}

static void other_files_are_refused(void)
{
    char letters[8192];
    memset(letters, 'x', sizeof letters);
    write_file(letters, sizeof letters);
    refuse("it is no SQLite file");
    write_file("", 0); /* an empty file is an empty database: there is nothing to read, and it may be filled */
    tool_error err = {""};
    CHECK(!tuning_db_open(path, false, &err) && strstr(err.text, "is empty"));
    tuning_db *db = tuning_db_open(path, true, &err);
    CHECK_MSG(db, "%s", err.text);
    tuning_db_close(db);
    CHECK(!tuning_db_open(".", true, &err) && err.text[0]);
    CHECK(!tuning_db_open("no/such/folder/x.db", true, &err) && strstr(err.text, "no/such/folder/x.db"));
    db = tuning_db_open(":memory:", true, &err); /* a file of this name */
    CHECK(db && !access(":memory:", F_OK));
    tuning_db_close(db);
    remove(":memory:");
}

/* ---- the space ------------------------------------------------------------------------------------------------------------------- */

/* Every move from every row is whole, and there are many. */
static void moves_pass_the_verifier(void)
{
    for (int t = 0; t < TARGET_COUNT; t++)
        for (int type = 0; type <= DTYPE_BF16; type++) {
            const shape s = {8, 2, 64, 64, (dtype)type, KV_AS_GIVEN, 0};
            const schedule from = schedule_row_find((target_id)t, &s).sizes;
            size_t n = 0, itself = 0;
            for (size_t c = 0; c < tune_coordinates(); c++)
                for (size_t v = 0; v < tune_values(c); v++) {
                    schedule x;
                    if (!tune_move(&from, c, v, &s, &x)) continue;
                    CHECK(!schedule_verify(&x, &s) && x.target == from.target && x.vector == from.vector);
                    CHECK(tune_touches(c) && !(tune_touches(c) & ~(uint32_t)(TUNE_PREFILL | TUNE_DECODE | TUNE_STEP)));
                    n++, itself += schedule_same(&x, &from);
                }
            CHECK_MSG(n > 30 && itself < n / 2, "%zu moves, %zu of them none", n, itself);
        }
}

/* A new register tile takes the key block along; fewer lanes take the tiles along. */
static void moves_settle(void)
{
    const shape s = {8, 2, 64, 64, DTYPE_F32, KV_AS_GIVEN, 0};
    schedule from = schedule_row_find(TARGET_CPU_AVX512, &s).sizes, x;
    from.key_block = 128, from.narrow_keys = 8, from.lanes = 64, from.qk_vectors = 4, from.few_lanes = 64;
    bool six = false, narrow = false;
    for (size_t c = 0; c < tune_coordinates(); c++)
        for (size_t v = 0; v < tune_values(c); v++) {
            if (!tune_move(&from, c, v, &s, &x)) continue;
            if (x.qk_keys == 6 && x.qk_vectors == 4) six = x.key_block == 120; /* the multiple of 24 nearest to 128 */
            if (x.lanes == 16) narrow = x.qk_vectors == 1 && x.pv_vectors == 1 && x.few_lanes == 16;
        }
    CHECK(six && narrow);
}

/* ---- scores ------------------------------------------------------------------------------------------------------------------------ */

static void noise_is_not_a_gain(void)
{
    double list[] = {0.05, -0.02, 0.01, 0.04, 0.00, 0.03, -0.01, 0.06, 0.02};
    const size_t n = sizeof list / sizeof *list;
    score s = score_rounds(list, n);
    CHECK(fabs(s.gain - 0.02) < 1e-12);
    CHECK(fabs(s.noise - 1.4826 * 1.2533 * 0.02 / 3) < 1e-12); /* deviations .00 .01 .01 .02 .02 .03 .03 .04 .04 */
    CHECK(!score_is_better(&s, 1)); /* 2 % with a noise of 1.2 % */
    s.noise = 0.005;
    CHECK(score_is_better(&s, 1));
    s.gain = 0.009, s.noise = 0;
    CHECK(!score_is_better(&s, 1)); /* too little to be worth an entry */
    const score one_loses[] = {{0.10, 0.001}, {-0.04, 0.001}}, one_is_still[] = {{0.20, 0.001}, {-0.04, 0.02}};
    CHECK(!score_is_better(one_loses, 2) && score_is_better(one_is_still, 2));
}

static void results_are_compared(void)
{
    const float want[] = {1, -2, NAN, INFINITY, 0, 0.01f, 0.02f, 0.03f, 0.04f, 0.0f}; /* two rows */
    const double unit = 0x1p-13;
    int64_t at = -1;
    float got[10];
    memcpy(got, want, sizeof got);
    CHECK(results_agree(want, got, 2, 5, unit, &at));
    got[1] = -2.0002f;
    CHECK(results_agree(want, got, 2, 5, unit, &at));
    for (int i = 0; i < 10; i++) {
        const bool number = i != 2 && i != 3;
        memcpy(got, want, sizeof got);
        got[i] = i == 2 ? 0 : i == 3 ? 1e30f : want[i] + (i < 5 ? 0.001f : 0.0001f); /* the second row is small: less is wrong there */
        CHECK(!results_agree(want, got, 2, 5, unit, &at) && at == i);
        CHECK(results_agree(want, got, 2, 5, 0x1p-6, &at) == number);
        got[i] = i == 2 ? INFINITY : i == 3 ? -INFINITY : NAN;
        CHECK(!results_agree(want, got, 2, 5, unit, &at) && at == i);
    }
}

static void shapes_are_read(void)
{
    arena *a = arena_create(0, NULL, NULL);
    static const char *const wrong[] = {"", ",", "prefill", "prefill:", "prefill:0", "prefill:-1", "prefill:1,", "decode:1x", "step:4", "step:9:8", "fly:3",
                                        "prefill:9999999999999999999999", "decode: 1", "decode:1,decode:2,decode:3,decode:4,decode:5,decode:6,decode:7,decode:8,decode:9"};
    tune_shape s[TUNE_MAX_SHAPES];
    size_t n;
    tool_error err;
    CHECK(tune_shapes_parse("prefill:7,decode:9,step:3:1048576", s, &n, &err) && n == 3);
    CHECK(s[0].queries == 7 && s[0].keys == 7 && s[1].queries == 1 && s[1].keys == 9 && s[2].queries == 3 && s[2].keys == 1 << 20);
    CHECK(!strcmp(tune_shape_text(a, &s[0]), "prefill:7") && !strcmp(tune_shape_text(a, &s[2]), "step:3:1048576"));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK_MSG(!tune_shapes_parse(wrong[i], s, &n, &err) && strstr(err.text, wrong[i]), "'%s'", wrong[i]);
    arena_destroy(a);
}

int main(void)
{
    RUN(what_is_stored_is_found);
    RUN(processes_write_at_once);
    RUN(damaged_files_are_survived);
    RUN(other_files_are_refused);
    RUN(moves_pass_the_verifier);
    RUN(moves_settle);
    RUN(noise_is_not_a_gain);
    RUN(results_are_compared);
    RUN(shapes_are_read);
    remove(path);
    return CHECK_DONE();
}
