/* SPDX-License-Identifier: Apache-2.0 */
#include "common/schema.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_MAX 192
#define KEY_BYTES 200

/* A table being bound: which node stands for which row. */
struct binding {
    const struct sl_schema *schema;
    const struct sl_schema_in *in;
    const struct sl_yaml_node *given[ROWS_MAX];
    void *object;
    struct sl_err *err;
};

/* --- messages ---------------------------------------------------------------------------------- */

enum sl_code sl_schema_fail(const struct sl_schema_in *in, const struct sl_yaml_node *node,
                            const char *key, struct sl_err *err, enum sl_code code,
                            const char *fmt, ...)
{
    char what[SL_ERR_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);
    const char *prefix = in->prefix == NULL ? "" : in->prefix;
    const char *dot = prefix[0] != '\0' && key[0] != '\0' ? "." : "";
    if (node != NULL && node->is_set)
        return sl_err_set(err, code, "--set %s%s%.200s: %s", prefix, dot, key, what);
    if (node == NULL)
        return sl_err_set(err, code, "%.220s: %s%s%.200s: %s", in->where, prefix, dot, key, what);
    return sl_err_set(err, code, "%.220s:%u: %s%s%.200s: %s", in->where, node->line, prefix, dot,
                      key, what);
}

#define FAIL(code, ...) sl_schema_fail(b->in, node, row->path, b->err, code, __VA_ARGS__)

/* "a, b, c" of a NULL-terminated list. */
static void join(const char *const *names, char *ret, size_t size)
{
    size_t n = 0;
    ret[0] = '\0';
    for (size_t i = 0; names[i] != NULL && n < size; i++)
        n += (size_t)snprintf(ret + n, size - n, "%s%s", i == 0 ? "" : ", ", names[i]);
}

/* --- rows and keys ----------------------------------------------------------------------------- */

static size_t find_row(const struct sl_schema *s, const char *path)
{
    size_t i = 0;
    while (i < s->n && strcmp(s->rows[i].path, path) != 0)
        i++;
    return i;
}

static bool is_below(const char *path, const char *prefix)
{
    size_t n = strlen(prefix);
    return n == 0 || (strncmp(path, prefix, n) == 0 && path[n] == '.');
}

static bool has_below(const struct sl_schema *s, const char *prefix)
{
    for (size_t i = 0; i < s->n; i++)
        if (is_below(s->rows[i].path, prefix))
            return true;
    return false;
}

static bool seen_before(const struct sl_schema *s, size_t row, const char *prefix,
                        const char *key, size_t n_key)
{
    for (size_t i = 0; i < row; i++) {
        const char *k = s->rows[i].path + (prefix[0] == '\0' ? 0 : strlen(prefix) + 1);
        if (is_below(s->rows[i].path, prefix) && strncmp(k, key, n_key) == 0 &&
            (k[n_key] == '.' || k[n_key] == '\0'))
            return true;
    }
    return false;
}

/* The keys there are in the map `prefix`. */
static void allowed_keys(const struct sl_schema *s, const char *prefix, char *ret, size_t size)
{
    size_t n = 0;
    ret[0] = '\0';
    for (size_t i = 0; i < s->n && n < size; i++) {
        if (!is_below(s->rows[i].path, prefix))
            continue;
        const char *key = s->rows[i].path + (prefix[0] == '\0' ? 0 : strlen(prefix) + 1);
        size_t n_key = strcspn(key, ".");
        if (!seen_before(s, i, prefix, key, n_key))
            n += (size_t)snprintf(ret + n, size - n, "%s%.*s", n == 0 ? "" : ", ", (int)n_key,
                                  key);
    }
}

static enum sl_code unknown_key(struct binding *b, const struct sl_yaml_node *node,
                                const char *prefix, const char *path)
{
    char keys[300];
    allowed_keys(b->schema, prefix, keys, sizeof(keys));
    if (keys[0] == '\0')
        return sl_schema_fail(b->in, node, path, b->err, SL_E_INPUT,
                              "unknown key (no key is allowed here)");
    return sl_schema_fail(b->in, node, path, b->err, SL_E_INPUT,
                          "unknown key (allowed here: %s)", keys);
}

/* Notes in b->given which node stands for which row; refuses keys without a row. */
static enum sl_code match(struct binding *b, const struct sl_yaml_node *map, const char *prefix)
{
    enum sl_code rc = SL_OK;
    for (const struct sl_yaml_node *c = map->first; c != NULL && rc == SL_OK; c = c->next) {
        char path[KEY_BYTES];
        snprintf(path, sizeof(path), "%s%s%s", prefix, prefix[0] == '\0' ? "" : ".", c->key);
        bool is_word = c->key[0] != '\0' && strchr(c->key, '.') == NULL;
        size_t row = is_word ? find_row(b->schema, path) : b->schema->n;
        bool below = is_word && has_below(b->schema, path);
        bool is_map = c->kind == SL_YAML_MAP;
        bool is_blank = c->kind == SL_YAML_SCALAR && !c->quoted && c->text[0] == '\0';
        if (row < b->schema->n && !(below && is_map))
            b->given[row] = c;
        else if (below && is_map)
            rc = match(b, c, path);
        else if (!below)
            rc = unknown_key(b, c, prefix, path);
        else if (!is_blank)
            rc = sl_schema_fail(b->in, c, path, b->err, SL_E_INPUT, "must be a map");
    }
    return rc;
}

/* --- values ------------------------------------------------------------------------------------ */

static void *field(const struct binding *b, const struct sl_row *row)
{
    return (char *)b->object + row->offset;
}

static enum sl_code wrong_type(struct binding *b, const struct sl_row *row,
                               const struct sl_yaml_node *node, const char *wanted)
{
    if (node->kind != SL_YAML_SCALAR)
        return FAIL(SL_E_INPUT, "is a %s, must be %s",
                    node->kind == SL_YAML_MAP ? "map" : "list", wanted);
    if (node->text[0] == '\0')
        return FAIL(SL_E_INPUT, "has no value, must be %s", wanted);
    return FAIL(SL_E_INPUT, "%.60s must be %s", node->text, wanted);
}

static size_t digits(const char *s)
{
    return strspn(s, "0123456789");
}

/* How many bytes of s are a decimal number: -12, 0.5, .5, 1e-8. 0: it does not begin with one. */
static size_t number_bytes(const char *s)
{
    const char *at = s + (*s == '-' || *s == '+');
    size_t whole = digits(at), part = 0;
    at += whole;
    if (*at == '.') {
        part = digits(at + 1);
        at += 1 + part;
    }
    if (whole + part == 0)
        return 0;
    if (*at == 'e' || *at == 'E') {
        const char *e = at + 1 + (at[1] == '-' || at[1] == '+');
        if (digits(e) > 0)
            at = e + digits(e);
    }
    return (size_t)(at - s);
}

/* Text that is no number of the kind wanted: 5s, ten, "5", .nan. */
static enum sl_code not_a_number(struct binding *b, const struct sl_row *row,
                                 const struct sl_yaml_node *node, const char *wanted)
{
    size_t n = node->kind == SL_YAML_SCALAR && !node->quoted ? number_bytes(node->text) : 0;
    if (n == 0 || node->text[n] == '\0')
        return wrong_type(b, row, node, wanted);
    if (row->unit != NULL)
        return FAIL(SL_E_INPUT, "%.60s: wrong unit (a number of %s is wanted, without a unit)",
                    node->text, row->unit);
    return FAIL(SL_E_INPUT, "%.60s: wrong unit (this number has none)", node->text);
}

static enum sl_code out_of_range(struct binding *b, const struct sl_row *row,
                                 const struct sl_yaml_node *node, const char *text)
{
    if (row->type == SL_FIELD_WHOLE || row->type == SL_FIELD_INT)
        return FAIL(SL_E_RANGE, "%.60s is out of range (%lld to %llu)", text, (long long)row->lo,
                    (unsigned long long)row->hi);
    char min[SL_REAL_TEXT], max[SL_REAL_TEXT];
    sl_real_text(row->min, min);
    sl_real_text(row->max, max);
    return FAIL(SL_E_RANGE, "%.60s is out of range (%s%s to %s%s)", text,
                row->flags & SL_ROW_ABOVE_MIN ? "above " : "", min,
                row->flags & SL_ROW_BELOW_MAX ? "below " : "", max);
}

static enum sl_code read_whole(struct binding *b, const struct sl_row *row,
                               const struct sl_yaml_node *node)
{
    const char *s = node->kind == SL_YAML_SCALAR && !node->quoted ? node->text : "";
    bool minus = s[0] == '-';
    const char *d = s + minus;
    if (digits(d) == 0 || d[digits(d)] != '\0' || (d[0] == '0' && d[1] != '\0'))
        return not_a_number(b, row, node, "a whole number");
    errno = 0;
    unsigned long long v = strtoull(d, NULL, 10);
    if (errno == ERANGE)
        return out_of_range(b, row, node, s);
    if (minus && v != 0) {
        if (row->lo >= 0 || v > 0ull - (unsigned long long)row->lo)
            return out_of_range(b, row, node, s);
    } else if (v > row->hi || (row->lo > 0 && v < (unsigned long long)row->lo)) {
        return out_of_range(b, row, node, s);
    }
    uint64_t bits = minus ? 0 - (uint64_t)v : (uint64_t)v;
    if (row->size == sizeof(uint32_t))
        memcpy(field(b, row), &(uint32_t){(uint32_t)bits}, sizeof(uint32_t));
    else
        memcpy(field(b, row), &bits, sizeof(bits));
    return SL_OK;
}

static bool in_range(const struct sl_row *row, double v)
{
    return v >= row->min && v <= row->max && !(row->flags & SL_ROW_ABOVE_MIN && v == row->min) &&
           !(row->flags & SL_ROW_BELOW_MAX && v == row->max);
}

static enum sl_code parse_real(struct binding *b, const struct sl_row *row,
                               const struct sl_yaml_node *node, double *ret)
{
    const char *s = node->kind == SL_YAML_SCALAR && !node->quoted ? node->text : "";
    size_t n = number_bytes(s);
    if (n == 0 || s[n] != '\0')
        return not_a_number(b, row, node, "a number");
    double v = strtod(s, NULL);
    if (row->size == sizeof(float) && fabs(v) < 1e30)
        v = (float)v;
    if (!isfinite(v) || !in_range(row, v))
        return out_of_range(b, row, node, s);
    *ret = v + 0.0; /* -0 becomes 0 */
    return SL_OK;
}

static enum sl_code read_real(struct binding *b, const struct sl_row *row,
                              const struct sl_yaml_node *node)
{
    double v;
    enum sl_code rc = parse_real(b, row, node, &v);
    if (rc != SL_OK)
        return rc;
    if (row->size == sizeof(float))
        memcpy(field(b, row), &(float){(float)v}, sizeof(float));
    else
        memcpy(field(b, row), &v, sizeof(v));
    return SL_OK;
}

static enum sl_code read_pair(struct binding *b, const struct sl_row *row,
                              const struct sl_yaml_node *node)
{
    double v[2];
    if (node->kind != SL_YAML_LIST || node->n_children != 2)
        return FAIL(SL_E_INPUT, "must be a list of two numbers");
    enum sl_code rc = parse_real(b, row, node->first, &v[0]);
    if (rc == SL_OK)
        rc = parse_real(b, row, node->first->next, &v[1]);
    if (rc == SL_OK)
        memcpy(field(b, row), v, sizeof(v));
    return rc;
}

static enum sl_code read_bool(struct binding *b, const struct sl_row *row,
                              const struct sl_yaml_node *node)
{
    const char *s = node->kind == SL_YAML_SCALAR && !node->quoted ? node->text : "";
    bool yes = strcmp(s, "true") == 0;
    if (!yes && strcmp(s, "false") != 0)
        return wrong_type(b, row, node, "true or false");
    *(bool *)field(b, row) = yes;
    return SL_OK;
}

static enum sl_code read_word(struct binding *b, const struct sl_row *row,
                              const struct sl_yaml_node *node)
{
    char names[300];
    int i = 0;
    join(row->names, names, sizeof(names));
    if (node->kind != SL_YAML_SCALAR || node->text[0] == '\0')
        return wrong_type(b, row, node, names);
    while (row->names[i] != NULL && strcmp(row->names[i], node->text) != 0)
        i++;
    if (row->names[i] == NULL)
        return FAIL(SL_E_INPUT, "%.60s is not available (%s)", node->text, names);
    if (row->type == SL_FIELD_ENUM)
        memcpy(field(b, row), &i, sizeof(i));
    else if (row->type == SL_FIELD_WORD)
        snprintf(field(b, row), row->size, "%s", row->names[i]);
    return SL_OK;
}

static enum sl_code read_text(struct binding *b, const struct sl_row *row,
                              const struct sl_yaml_node *node)
{
    const char *folder = b->in->folder == NULL ? "" : b->in->folder;
    if (node->kind != SL_YAML_SCALAR || (node->text[0] == '\0' && !node->quoted) ||
        (node->text[0] == '\0' && row->flags & SL_ROW_FILLED))
        return wrong_type(b, row, node, "text");
    bool join_folder = row->type == SL_FIELD_PATH && folder[0] != '\0' && !node->is_set &&
                       node->text[0] != '/' && node->text[0] != '\0';
    size_t n = strlen(node->text) + (join_folder ? strlen(folder) + 1 : 0);
    if (n >= row->size)
        return FAIL(SL_E_LIMIT, "text of %zu bytes (at most %zu)", n, row->size - 1);
    snprintf(field(b, row), row->size, "%s%s%s", join_folder ? folder : "",
             join_folder ? "/" : "", node->text);
    return SL_OK;
}

static enum sl_code read_row(struct binding *b, const struct sl_row *row,
                             const struct sl_yaml_node *node)
{
    switch (row->type) {
    case SL_FIELD_TEXT:
    case SL_FIELD_PATH:
        return read_text(b, row, node);
    case SL_FIELD_WORD:
    case SL_FIELD_ENUM:
    case SL_FIELD_FIXED:
        return read_word(b, row, node);
    case SL_FIELD_BOOL:
        return read_bool(b, row, node);
    case SL_FIELD_WHOLE:
    case SL_FIELD_INT:
        return read_whole(b, row, node);
    case SL_FIELD_REAL:
        return read_real(b, row, node);
    case SL_FIELD_PAIR:
        return read_pair(b, row, node);
    case SL_FIELD_OTHER:
        return row->read(b->in, node, b->object, b->err);
    }
    return FAIL(SL_E_BUG, "no such type");
}

/* --- keys that exist for some values of another ------------------------------------------------ */

static unsigned value_of(const struct sl_row *row, const void *object)
{
    const void *at = (const char *)object + row->offset;
    if (row->type == SL_FIELD_ENUM)
        return *(const unsigned *)at;
    unsigned i = 0;
    while (row->names[i] != NULL && strcmp(row->names[i], at) != 0)
        i++;
    return i;
}

static bool exists(const struct sl_schema *s, const struct sl_row *row, const void *object)
{
    if (row->selector == NULL)
        return true;
    const struct sl_row *by = &s->rows[find_row(s, row->selector)];
    return row->selected >> value_of(by, object) & 1;
}

/* Row i, given by `node`, is ruled out by its selector. Fine when --set changed that. */
static enum sl_code ruled_out(struct binding *b, size_t i)
{
    const struct sl_row *row = &b->schema->rows[i];
    const struct sl_yaml_node *node = b->given[i];
    size_t by = find_row(b->schema, row->selector);
    bool by_set = false;
    for (size_t k = 0; k < b->schema->n; k++)
        if (b->given[k] != NULL && b->schema->rows[k].offset == b->schema->rows[by].offset)
            by_set = by_set || b->given[k]->is_set;
    if (by_set && !node->is_set)
        return SL_OK;
    const struct sl_row *selector = &b->schema->rows[by];
    return FAIL(SL_E_INPUT, "is no key of %s: %s", row->selector,
                selector->names[value_of(selector, b->object)]);
}

enum sl_code sl_schema_bind(const struct sl_schema *s, const struct sl_schema_in *in,
                            const struct sl_yaml_node *map, void *object, struct sl_err *err)
{
    struct binding b = {.schema = s, .in = in, .object = object, .err = err};
    if (s->n > ROWS_MAX)
        return sl_err_set(err, SL_E_BUG, "table of %zu rows", s->n);
    enum sl_code rc = map == NULL ? SL_OK : match(&b, map, "");
    for (size_t i = 0; i < s->n && rc == SL_OK; i++) {
        if (b.given[i] == NULL && s->rows[i].flags & SL_ROW_REQUIRED)
            rc = sl_schema_fail(in, NULL, s->rows[i].path, err, SL_E_INPUT, "is missing");
        else if (b.given[i] != NULL)
            rc = exists(s, &s->rows[i], object) ? read_row(&b, &s->rows[i], b.given[i])
                                                : ruled_out(&b, i);
    }
    return rc;
}

/* --- printing ---------------------------------------------------------------------------------- */

static bool make_room(struct sl_text *t, size_t more)
{
    if (t->failed || t->capacity - t->n > more)
        return !t->failed;
    size_t capacity = 2 * (t->capacity + more) + 256;
    char *bytes = realloc(t->bytes, capacity);
    if (bytes == NULL) {
        t->failed = true;
        return false;
    }
    t->bytes = bytes;
    t->capacity = capacity;
    return true;
}

void sl_text_add(struct sl_text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || !make_room(t, (size_t)n))
        return;
    va_start(ap, fmt);
    vsnprintf(t->bytes + t->n, t->capacity - t->n, fmt, ap);
    va_end(ap);
    t->n += (size_t)n;
}

void sl_text_add_quoted(struct sl_text *t, const char *s)
{
    sl_text_add(t, "\"");
    for (; *s != '\0'; s++)
        sl_text_add(t, *s == '"' || *s == '\\' ? "\\%c" : "%c", *s);
    sl_text_add(t, "\"");
}

/* Digits before the point, so that 600 does not become 6e+02. */
static int whole_digits(double x)
{
    int n = 1;
    for (x = fabs(x); x >= 10 && n < 15; x /= 10)
        n++;
    return n;
}

void sl_real_text(double x, char ret[SL_REAL_TEXT])
{
    for (int n = whole_digits(x); n <= 17; n++) {
        snprintf(ret, SL_REAL_TEXT, "%.*g", n, x);
        if (strtod(ret, NULL) == x)
            return;
    }
}

static void float_text(float x, char ret[SL_REAL_TEXT])
{
    for (int n = 1; n <= 9; n++) {
        snprintf(ret, SL_REAL_TEXT, "%.*g", n, (double)x);
        if ((float)strtod(ret, NULL) == x)
            return;
    }
}

static void print_number(const struct sl_row *row, const void *at, struct sl_text *out)
{
    char text[SL_REAL_TEXT];
    bool small = row->size == sizeof(uint32_t);
    if (row->type == SL_FIELD_WHOLE)
        snprintf(text, sizeof(text), "%llu",
                 small ? (unsigned long long)*(const uint32_t *)at
                       : (unsigned long long)*(const uint64_t *)at);
    else if (row->type == SL_FIELD_INT)
        snprintf(text, sizeof(text), "%lld",
                 small ? (long long)*(const int32_t *)at : (long long)*(const int64_t *)at);
    else if (row->size == sizeof(float))
        float_text(*(const float *)at, text);
    else
        sl_real_text(*(const double *)at, text);
    sl_text_add(out, "%s", text);
}

static void print_value(const struct sl_row *row, const void *object, struct sl_text *out)
{
    const void *at = (const char *)object + row->offset;
    char text[2][SL_REAL_TEXT];
    switch (row->type) {
    case SL_FIELD_TEXT:
    case SL_FIELD_PATH:
        sl_text_add_quoted(out, at);
        break;
    case SL_FIELD_WORD:
        sl_text_add(out, "%s", (const char *)at);
        break;
    case SL_FIELD_ENUM:
        sl_text_add(out, "%s", row->names[*(const unsigned *)at]);
        break;
    case SL_FIELD_FIXED:
        sl_text_add(out, "%s", row->names[0]);
        break;
    case SL_FIELD_BOOL:
        sl_text_add(out, "%s", *(const bool *)at ? "true" : "false");
        break;
    case SL_FIELD_PAIR:
        sl_real_text(((const double *)at)[0], text[0]);
        sl_real_text(((const double *)at)[1], text[1]);
        sl_text_add(out, "[%s, %s]", text[0], text[1]);
        break;
    default:
        print_number(row, at, out);
        break;
    }
}

static bool is_printed(const struct sl_schema *s, const struct sl_row *row, const void *object)
{
    const char *at = (const char *)object + row->offset;
    if (row->flags & SL_ROW_ALIAS || !exists(s, row, object))
        return false;
    if (!(row->flags & SL_ROW_OPTIONAL))
        return true;
    if (row->type == SL_FIELD_INT)
        return (row->size == sizeof(int32_t) ? *(const int32_t *)at : *(const int64_t *)at) >=
               row->lo;
    bool filled = at[0] != '\0';
    for (size_t i = 1; row->type == SL_FIELD_OTHER && i < row->size; i++)
        filled = filled || at[i] != '\0';
    return filled;
}

/* Opens the maps on the way from the path printed before to `path`; the last key's indent. */
static unsigned open_maps(const char *before, const char *path, struct sl_text *out)
{
    unsigned depth = 0;
    const char *key = path;
    bool same = true;
    for (const char *dot; (dot = strchr(key, '.')) != NULL; key = dot + 1, depth++) {
        size_t n = (size_t)(dot - path) + 1;
        same = same && strncmp(before, path, n) == 0;
        if (!same)
            sl_text_add(out, "%*s%.*s:\n", (int)(2 * depth), "", (int)(dot - key), key);
    }
    return 2 * depth;
}

void sl_schema_print(const struct sl_schema *s, const void *object, struct sl_text *out)
{
    const char *before = "";
    for (size_t i = 0; i < s->n; i++) {
        const struct sl_row *row = &s->rows[i];
        if (!is_printed(s, row, object))
            continue;
        unsigned indent = open_maps(before, row->path, out);
        const char *dot = strrchr(row->path, '.');
        sl_text_add(out, "%*s%s:", (int)indent, "", dot == NULL ? row->path : dot + 1);
        if (row->type == SL_FIELD_OTHER) {
            row->print(object, indent + 2, out);
        } else {
            sl_text_add(out, " ");
            print_value(row, object, out);
            sl_text_add(out, "\n");
        }
        before = row->path;
    }
}

void sl_schema_print_flow(const struct sl_schema *s, const void *object, struct sl_text *out)
{
    bool first = true;
    for (size_t i = 0; i < s->n; i++) {
        if (!is_printed(s, &s->rows[i], object))
            continue;
        sl_text_add(out, "%s%s: ", first ? "" : ", ", s->rows[i].path);
        print_value(&s->rows[i], object, out);
        first = false;
    }
}

bool sl_path_folder(const char *file, char *ret, size_t size)
{
    const char *slash = strrchr(file, '/');
    size_t n = slash == NULL ? 0 : (size_t)(slash - file);
    if (slash == file)
        n = 1;
    if (n >= size)
        return false;
    memcpy(ret, file, n);
    ret[n] = '\0';
    return true;
}
