/* SPDX-License-Identifier: Apache-2.0 */
/* schema.h - from a YAML tree into a struct and back, by a table: one row a key, with type, place,
 * range and unit. Errors name where, key and what is allowed:
 * "plans/demo.yaml:7: train.lr: 0 is out of range (1e-09 to 1000)". Tables are constant;
 * the object is the caller's and holds its defaults before it is bound. Thread: any. */
#ifndef SL_COMMON_SCHEMA_H
#define SL_COMMON_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/yaml_doc.h"

enum sl_field {
    SL_FIELD_TEXT,  /* char[size] */
    SL_FIELD_PATH,  /* char[size], relative to the file's folder */
    SL_FIELD_WORD,  /* char[size]: one of `names` */
    SL_FIELD_ENUM,  /* an enum: index into `names` */
    SL_FIELD_FIXED, /* not stored: names[0] is the one value there is */
    SL_FIELD_BOOL,
    SL_FIELD_WHOLE, /* uint32_t or uint64_t by size: lo..hi */
    SL_FIELD_INT,   /* int32_t or int64_t by size: lo..hi */
    SL_FIELD_REAL,  /* double or float by size: min..max */
    SL_FIELD_PAIR,  /* double[2], a list: min..max each */
    SL_FIELD_OTHER, /* `read` and `print` do it */
};

enum {
    SL_ROW_REQUIRED = 1,  /* must be given */
    SL_ROW_FILLED = 2,    /* a text that is given may not be empty */
    SL_ROW_OPTIONAL = 4,  /* not printed while empty, below lo, or (OTHER) all zero bytes */
    SL_ROW_ALIAS = 8,     /* another way to give a key; never printed */
    SL_ROW_ABOVE_MIN = 16, /* min itself is out of range */
    SL_ROW_BELOW_MAX = 32, /* max itself is out of range */
};

/* Where printed text goes; grows. */
struct sl_text {
    char *bytes; /* owned by whoever made it */
    size_t n, capacity;
    bool failed; /* no memory */
};

struct sl_schema_in {
    const char *where;  /* the file, for messages */
    const char *folder; /* of relative paths; NULL or "" = they stay as they are */
    const char *prefix; /* of keys in messages: "model.layers[2].conv2d"; NULL = none */
};

struct sl_row {
    const char *path; /* "train.lr" */
    enum sl_field type;
    size_t offset, size;
    unsigned flags;
    double min, max;
    int64_t lo;
    uint64_t hi;
    const char *const *names; /* NULL-terminated */
    const char *unit;         /* "seconds": for values such as 5s; NULL = none */
    const char *selector;     /* path of the row whose value decides whether this key exists */
    unsigned selected;        /* bit i: it exists when the selector's value is names[i] */
    enum sl_code (*read)(const struct sl_schema_in *in, const struct sl_yaml_node *node,
                         void *object, struct sl_err *err);
    void (*print)(const void *object, unsigned indent, struct sl_text *out);
};

struct sl_schema {
    const struct sl_row *rows;
    size_t n;
};

/* Binds every key of `map` (NULL: none is given). A key that another key rules out is an error,
 * unless it stands in the file and --set gave the other: then it is not read. The object
 * is half written on failure. SL_E_INPUT, SL_E_RANGE, SL_E_LIMIT, SL_E_NOMEM. */
enum sl_code sl_schema_bind(const struct sl_schema *s, const struct sl_schema_in *in,
                            const struct sl_yaml_node *map, void *object, struct sl_err *err);

/* One error line for `node`: "WHERE:LINE: KEY: what" or "--set KEY: what". */
enum sl_code sl_schema_fail(const struct sl_schema_in *in, const struct sl_yaml_node *node,
                            const char *key, struct sl_err *err, enum sl_code code,
                            const char *fmt, ...) __attribute__((format(printf, 6, 7)));

/* Appends "key: value" lines of all rows in table order, maps indented by two. */
void sl_schema_print(const struct sl_schema *s, const void *object, struct sl_text *out);
/* The same as "key: value, key: value" (for tables without maps). */
void sl_schema_print_flow(const struct sl_schema *s, const void *object, struct sl_text *out);

void sl_text_add(struct sl_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sl_text_add_quoted(struct sl_text *t, const char *s); /* in double quotes */

/* The shortest decimal that reads back as x: 0.05, 600, 1e-08. */
#define SL_REAL_TEXT 32
void sl_real_text(double x, char ret[SL_REAL_TEXT]);

/* The folder of a file's path without a slash behind it, "" when it is the current one.
 * false when it does not fit. */
bool sl_path_folder(const char *file, char *ret, size_t size);

#endif
