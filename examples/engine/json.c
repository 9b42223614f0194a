/* json.c - a recursive reader of JSON (RFC 8259): values go into one array, unescaped strings into one buffer. */
#include "json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 32, MAX_VALUES = 1 << 24, NUMBER_ROOM = 64 };

typedef struct reader {
    const char *start, *at, *end;
    char *write; /* strings never grow when unescaped: a buffer of the text's size is enough */
    json *out;
    failure *f;
    int depth;
} reader;

static bool wrong(reader *r, const char *what)
{
    return fail(r->f, "JSON, byte %zu: %s", (size_t)(r->at - r->start), what);
}

static void skip_blanks(reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r')) r->at++;
}

static bool take(reader *r, char c)
{
    if (r->at == r->end || *r->at != c) return false;
    r->at++;
    return true;
}

static bool add_value(reader *r, uint32_t *index)
{
    json *j = r->out;
    if (j->count == j->room) {
        uint32_t room = j->room ? 2 * j->room : 256;
        json_value *more = room <= MAX_VALUES ? realloc(j->values, room * sizeof *more) : NULL;
        if (!more) return wrong(r, "too many values");
        j->values = more;
        j->room = room;
    }
    j->values[j->count] = (json_value){0};
    *index = j->count++;
    return true;
}

/* ---- strings -------------------------------------------------------------------------------------------------------
 */

static bool read_hex4(reader *r, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < 4; i++) {
        char c = r->at < r->end ? *r->at : 0;
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return wrong(r, "four hexadecimal digits are expected behind \\u");
        *out = *out * 16 + (uint32_t)digit;
        r->at++;
    }
    return true;
}

static void write_utf8(reader *r, uint32_t c)
{
    if (c < 0x80) {
        *r->write++ = (char)c;
        return;
    }
    int tail = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    *r->write++ = (char)(uint8_t)((tail == 1 ? 0xC0u : tail == 2 ? 0xE0u : 0xF0u) | c >> (6 * tail));
    while (tail--) *r->write++ = (char)(uint8_t)(0x80u | (c >> (6 * tail) & 0x3Fu));
}

static bool read_unicode(reader *r)
{
    uint32_t high, low;
    if (!read_hex4(r, &high)) return false;
    if (high >= 0xD800 && high < 0xDC00) {
        if (!take(r, '\\') || !take(r, 'u')) return wrong(r, "half of a surrogate pair");
        if (!read_hex4(r, &low)) return false;
        if (low < 0xDC00 || low > 0xDFFF) return wrong(r, "half of a surrogate pair");
        high = 0x10000 + ((high - 0xD800) << 10 | (low - 0xDC00));
    } else if (high >= 0xDC00 && high < 0xE000) {
        return wrong(r, "half of a surrogate pair");
    }
    write_utf8(r, high);
    return true;
}

static bool read_escape(reader *r)
{
    static const char names[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
    char c = r->at < r->end ? *r->at++ : 0;
    if (c == 'u') return read_unicode(r);
    const char *name = c ? strchr(names, c) : NULL;
    if (!name) return wrong(r, "an unknown escape");
    *r->write++ = bytes[name - names];
    return true;
}

static bool read_string(reader *r, const char **out, size_t *length)
{
    if (!take(r, '"')) return wrong(r, "a string is expected");
    char *start = r->write;
    while (!take(r, '"')) {
        if (r->at == r->end) return wrong(r, "the text ends inside a string");
        if ((uint8_t)*r->at < 0x20) return wrong(r, "a control character in a string");
        if (*r->at != '\\') {
            *r->write++ = *r->at++;
            continue;
        }
        r->at++;
        if (!read_escape(r)) return false;
    }
    *out = start;
    *length = (size_t)(r->write - start);
    *r->write++ = 0; /* in the place of a quote */
    return true;
}

/* ---- numbers and words ---------------------------------------------------------------------------------------------
 */

static size_t digits(reader *r)
{
    const char *from = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
    return (size_t)(r->at - from);
}

static bool read_number(reader *r, double *out)
{
    const char *from = r->at;
    take(r, '-');
    bool ok = take(r, '0') || digits(r) > 0;
    if (ok && take(r, '.')) ok = digits(r) > 0;
    if (ok && (take(r, 'e') || take(r, 'E'))) {
        if (!take(r, '+')) take(r, '-');
        ok = digits(r) > 0;
    }
    char text[NUMBER_ROOM];
    size_t n = (size_t)(r->at - from);
    if (!ok || n >= sizeof text) return wrong(r, "not a number");
    memcpy(text, from, n);
    text[n] = 0;
    *out = strtod(text, NULL);
    return isfinite(*out) || wrong(r, "a number that is too large");
}

static bool read_word(reader *r, json_type *type)
{
    static const struct {
        const char *text;
        json_type type;
    } words[] = {{"null", JSON_NULL}, {"false", JSON_FALSE}, {"true", JSON_TRUE}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t n = strlen(words[i].text);
        if ((size_t)(r->end - r->at) < n || memcmp(r->at, words[i].text, n) != 0) continue;
        r->at += n;
        *type = words[i].type;
        return true;
    }
    return wrong(r, "a value is expected");
}

/* ---- values --------------------------------------------------------------------------------------------------------
 */

static bool read_value(reader *r, uint32_t *index);

static bool read_key(reader *r, const char **key)
{
    size_t length;
    if (!read_string(r, key, &length)) return false;
    if (strlen(*key) != length) return wrong(r, "a key with a 0 byte");
    skip_blanks(r);
    return take(r, ':') || wrong(r, "a colon is expected");
}

static bool read_members(reader *r, uint32_t parent, bool object)
{
    const char close = object ? '}' : ']';
    uint32_t last = 0, n = 0;
    skip_blanks(r);
    if (take(r, close)) return true;
    do {
        const char *key = NULL;
        uint32_t child;
        skip_blanks(r);
        if (object && !read_key(r, &key)) return false;
        if (!read_value(r, &child)) return false;
        r->out->values[child].key = key;
        if (last) r->out->values[last].next = child;
        last = child;
        r->out->values[parent].children = ++n;
        skip_blanks(r);
    } while (take(r, ','));
    return take(r, close) || wrong(r, object ? "a comma or } is expected" : "a comma or ] is expected");
}

static bool read_value(reader *r, uint32_t *index)
{
    json_value v = {0};
    if (!add_value(r, index)) return false;
    skip_blanks(r);
    char c = r->at < r->end ? *r->at : 0;
    if (c == '{' || c == '[') {
        r->out->values[*index].type = c == '{' ? JSON_OBJECT : JSON_ARRAY;
        if (r->depth == MAX_DEPTH) return wrong(r, "nested too deeply");
        r->at++;
        r->depth++;
        bool ok = read_members(r, *index, c == '{');
        r->depth--;
        return ok;
    }
    bool ok;
    if (c == '"') {
        v.type = JSON_STRING;
        ok = read_string(r, &v.string, &v.length);
    } else if (c == '-' || (c >= '0' && c <= '9')) {
        v.type = JSON_NUMBER;
        ok = read_number(r, &v.number);
    } else {
        ok = read_word(r, &v.type);
    }
    r->out->values[*index] = v;
    return ok;
}

bool json_read(const char *text, size_t size, json *out, failure *f)
{
    *out = (json){0};
    out->strings = malloc(size + 1);
    if (!out->strings) return fail(f, "out of memory");
    reader r = {.start = text, .at = text, .end = text + size, .write = out->strings, .out = out, .f = f};
    uint32_t whole;
    bool ok = read_value(&r, &whole);
    skip_blanks(&r);
    if (ok && r.at != r.end) ok = wrong(&r, "text behind the value");
    if (!ok) json_free(out);
    return ok;
}

void json_free(json *j)
{
    free(j->values);
    free(j->strings);
    *j = (json){0};
}

/* ---- looking into it -----------------------------------------------------------------------------------------------
 */

const json_value *json_first(const json *j, const json_value *parent)
{
    (void)j;
    return parent->children ? parent + 1 : NULL;
}

const json_value *json_next(const json *j, const json_value *v) { return v->next ? &j->values[v->next] : NULL; }

const json_value *json_find(const json *j, const json_value *object, const char *key)
{
    if (!object || object->type != JSON_OBJECT) return NULL;
    for (const json_value *v = json_first(j, object); v; v = json_next(j, v))
        if (!strcmp(v->key, key)) return v;
    return NULL;
}

bool json_is_count(const json_value *v, uint64_t *out)
{
    if (!v || v->type != JSON_NUMBER || !(v->number >= 0 && v->number <= 9007199254740992.0)) return false;
    *out = (uint64_t)v->number;
    return (double)*out == v->number;
}
