/* json.h - reads JSON text into a tree; strict, and bounded in depth, because files come from anywhere. */
#ifndef ENGINE_JSON_H
#define ENGINE_JSON_H

#include "failure.h"
#include <stddef.h>
#include <stdint.h>

typedef enum json_type {
    JSON_NULL,
    JSON_FALSE,
    JSON_TRUE,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT
} json_type;

typedef struct json_value {
    json_type type;
    uint32_t children;  /* of an array or object: how many */
    uint32_t next;      /* index of the next value of the same array or object; 0: this is the last */
    double number;      /* of a number */
    const char *key;    /* in an object; ends with 0, keys with a 0 inside are refused */
    const char *string; /* of a string: `length` bytes and a 0 */
    size_t length;
} json_value;

typedef struct json {
    json_value *values; /* [0] is the whole; the first child of a value is the value behind it */
    uint32_t count, room;
    char *strings;
} json;

bool json_read(const char *text, size_t size, json *out, failure *f);
void json_free(json *j);

/* Children in order; NULL behind the last. */
const json_value *json_first(const json *j, const json_value *parent);
const json_value *json_next(const json *j, const json_value *v);
/* The value of a key; NULL when `object` is NULL, no object, or has no such key. */
const json_value *json_find(const json *j, const json_value *object, const char *key);
/* A whole number from 0 to 2^53, where doubles are exact? */
bool json_is_count(const json_value *v, uint64_t *out);

#endif
