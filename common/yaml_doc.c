/* SPDX-License-Identifier: Apache-2.0 */
#include "common/yaml_doc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#define PATH_MAX_BYTES 200 /* of a key path in --set */

struct reader {
    yaml_parser_t parser;
    const char *where;
    bool is_set;
    uint32_t n_nodes;
    struct sl_err *err;
};

static void free_node(struct sl_yaml_node *n)
{
    if (n == NULL)
        return;
    for (struct sl_yaml_node *c = n->first, *next; c != NULL; c = next) {
        next = c->next;
        free_node(c);
    }
    free(n);
}

void sl_yaml_deinit(struct sl_yaml_doc *d)
{
    if (d == NULL)
        return;
    free_node(d->root);
    *d = (struct sl_yaml_doc){0};
}

/* --- messages ---------------------------------------------------------------------------------- */

static enum sl_code fail(struct reader *r, enum sl_code code, size_t line, const char *what)
{
    if (r->is_set)
        return sl_err_set(r->err, code, "%.220s: %s", r->where, what);
    return sl_err_set(r->err, code, "%.220s:%zu: %s", r->where, line, what);
}

static enum sl_code fail_at(struct reader *r, const yaml_event_t *e, const char *what)
{
    return fail(r, SL_E_INPUT, e->start_mark.line + 1, what);
}

static enum sl_code fail_parser(struct reader *r)
{
    const yaml_parser_t *p = &r->parser;
    size_t line = p->problem_mark.line + 1;
    char what[200];
    if (p->error == YAML_MEMORY_ERROR)
        return fail(r, SL_E_NOMEM, line, "no memory");
    if (p->error == YAML_READER_ERROR) {
        snprintf(what, sizeof(what), "%s at byte %zu (allowed: UTF-8 text)",
                 p->problem == NULL ? "unreadable" : p->problem, p->problem_offset);
        return fail(r, SL_E_INPUT, p->mark.line + 1, what);
    }
    snprintf(what, sizeof(what), "not YAML: %s", p->problem == NULL ? "unreadable" : p->problem);
    return fail(r, SL_E_INPUT, line, what);
}

/* --- text -------------------------------------------------------------------------------------- */

/* One code point of valid UTF-8 at s; its bytes into *ret_n. */
static uint32_t code_point(const unsigned char *s, size_t *ret_n)
{
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    uint32_t c = n == 1 ? s[0] : s[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++)
        c = c << 6 | (s[i] & 0x3fu);
    *ret_n = n;
    return c;
}

/* Whether text stays the same when it is written in double quotes and read again. */
static bool is_plain_text(const unsigned char *s, size_t n)
{
    size_t step;
    for (size_t i = 0; i < n; i += step) {
        uint32_t c = code_point(s + i, &step);
        if (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 ||
            c == 0xfeff || (c >= 0xd800 && c < 0xe000) || (c & 0xfffe) == 0xfffe ||
            i + step > n)
            return false;
    }
    return true;
}

static enum sl_code check_scalar(struct reader *r, const yaml_event_t *e)
{
    if (e->data.scalar.anchor != NULL)
        return fail_at(r, e, "anchors (&) are not allowed");
    if (e->data.scalar.tag != NULL)
        return fail_at(r, e, "tags (!) are not allowed");
    if (!is_plain_text(e->data.scalar.value, e->data.scalar.length))
        return fail_at(r, e, "line breaks and control characters in a text are not allowed");
    return SL_OK;
}

/* --- nodes ------------------------------------------------------------------------------------- */

static struct sl_yaml_node *new_node(enum sl_yaml_kind kind, const char *key, const char *text)
{
    size_t n_key = key == NULL ? 0 : strlen(key) + 1;
    size_t n_text = text == NULL ? 0 : strlen(text) + 1;
    struct sl_yaml_node *n = calloc(1, sizeof(*n) + n_key + n_text);
    if (n == NULL)
        return NULL;
    n->kind = kind;
    if (key != NULL)
        n->key = memcpy(n->bytes, key, n_key);
    if (text != NULL)
        n->text = memcpy(n->bytes + n_key, text, n_text);
    return n;
}

static enum sl_code add_node(struct reader *r, enum sl_yaml_kind kind, const yaml_event_t *e,
                             const char *key, struct sl_yaml_node **ret)
{
    if (r->n_nodes >= SL_YAML_NODES)
        return fail(r, SL_E_LIMIT, e->start_mark.line + 1,
                    "too large: more than 20000 values");
    const char *text = kind == SL_YAML_SCALAR ? (const char *)e->data.scalar.value : NULL;
    struct sl_yaml_node *n = new_node(kind, key, text);
    if (n == NULL)
        return fail(r, SL_E_NOMEM, e->start_mark.line + 1, "no memory");
    n->is_set = r->is_set;
    n->line = r->is_set ? 0 : (uint32_t)e->start_mark.line + 1;
    n->quoted = kind == SL_YAML_SCALAR && e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    r->n_nodes++;
    *ret = n;
    return SL_OK;
}

static enum sl_code next_event(struct reader *r, yaml_event_t *ret)
{
    return yaml_parser_parse(&r->parser, ret) ? SL_OK : fail_parser(r);
}

static enum sl_code read_node(struct reader *r, const yaml_event_t *e, const char *key,
                              unsigned depth, struct sl_yaml_node **ret);

/* The items of a list, up to its end. */
static enum sl_code read_list(struct reader *r, struct sl_yaml_node *list, unsigned depth)
{
    struct sl_yaml_node **tail = &list->first;
    for (;;) {
        yaml_event_t e;
        enum sl_code rc = next_event(r, &e);
        if (rc != SL_OK)
            return rc;
        bool end = e.type == YAML_SEQUENCE_END_EVENT;
        if (!end)
            rc = read_node(r, &e, NULL, depth, tail);
        yaml_event_delete(&e);
        if (end || rc != SL_OK)
            return rc;
        tail = &(*tail)->next;
        list->n_children++;
    }
}

static enum sl_code check_key(struct reader *r, const struct sl_yaml_node *map,
                              const yaml_event_t *e)
{
    char what[160];
    if (e->type != YAML_SCALAR_EVENT)
        return fail_at(r, e, "a key must be a word");
    enum sl_code rc = check_scalar(r, e);
    if (rc != SL_OK)
        return rc;
    const char *key = (const char *)e->data.scalar.value;
    const struct sl_yaml_node *old = sl_yaml_get(map, key);
    if (old != NULL) {
        int n = snprintf(what, sizeof(what), "%.60s: given twice", key);
        if (!r->is_set)
            snprintf(what + n, sizeof(what) - (size_t)n, " (first in line %u)", old->line);
        return fail_at(r, e, what);
    }
    if (map->n_children >= SL_YAML_KEYS)
        return fail(r, SL_E_LIMIT, e->start_mark.line + 1, "a map of more than 256 keys");
    return SL_OK;
}

/* The keys and values of a map, up to its end. */
static enum sl_code read_map(struct reader *r, struct sl_yaml_node *map, unsigned depth)
{
    struct sl_yaml_node **tail = &map->first;
    for (;;) {
        yaml_event_t key, value;
        enum sl_code rc = next_event(r, &key);
        if (rc != SL_OK)
            return rc;
        bool end = key.type == YAML_MAPPING_END_EVENT;
        if (!end)
            rc = check_key(r, map, &key);
        if (!end && rc == SL_OK)
            rc = next_event(r, &value);
        if (!end && rc == SL_OK) {
            rc = read_node(r, &value, (const char *)key.data.scalar.value, depth, tail);
            yaml_event_delete(&value);
        }
        if (!end && rc == SL_OK) {
            (*tail)->line = r->is_set ? 0 : (uint32_t)key.start_mark.line + 1;
            tail = &(*tail)->next;
            map->n_children++;
        }
        yaml_event_delete(&key);
        if (end || rc != SL_OK)
            return rc;
    }
}

static enum sl_code read_collection(struct reader *r, const yaml_event_t *e, const char *key,
                                    unsigned depth, struct sl_yaml_node **ret)
{
    bool is_map = e->type == YAML_MAPPING_START_EVENT;
    if ((is_map ? e->data.mapping_start.anchor : e->data.sequence_start.anchor) != NULL)
        return fail_at(r, e, "anchors (&) are not allowed");
    if ((is_map ? e->data.mapping_start.tag : e->data.sequence_start.tag) != NULL)
        return fail_at(r, e, "tags (!) are not allowed");
    if (depth >= SL_YAML_DEPTH)
        return fail(r, SL_E_LIMIT, e->start_mark.line + 1, "nested more than 16 deep");
    struct sl_yaml_node *n;
    enum sl_code rc = add_node(r, is_map ? SL_YAML_MAP : SL_YAML_LIST, e, key, &n);
    if (rc != SL_OK)
        return rc;
    rc = is_map ? read_map(r, n, depth + 1) : read_list(r, n, depth + 1);
    if (rc == SL_OK)
        *ret = n;
    else
        free_node(n);
    return rc;
}

static enum sl_code read_node(struct reader *r, const yaml_event_t *e, const char *key,
                              unsigned depth, struct sl_yaml_node **ret)
{
    enum sl_code rc;
    switch (e->type) {
    case YAML_SCALAR_EVENT:
        rc = check_scalar(r, e);
        return rc == SL_OK ? add_node(r, SL_YAML_SCALAR, e, key, ret) : rc;
    case YAML_SEQUENCE_START_EVENT:
    case YAML_MAPPING_START_EVENT:
        return read_collection(r, e, key, depth, ret);
    case YAML_ALIAS_EVENT:
        return fail_at(r, e, "aliases (*) are not allowed");
    default:
        return fail_at(r, e, "not YAML: no value");
    }
}

/* --- documents --------------------------------------------------------------------------------- */

/* The document's value, or NULL when there is none. */
static enum sl_code read_document(struct reader *r, const char *key, unsigned depth,
                                  struct sl_yaml_node **ret)
{
    struct sl_yaml_node *root = NULL;
    enum sl_code rc = SL_OK;
    unsigned n_documents = 0;
    for (bool end = false; !end && rc == SL_OK;) {
        yaml_event_t e;
        rc = next_event(r, &e);
        if (rc != SL_OK)
            break;
        end = e.type == YAML_STREAM_END_EVENT;
        if (e.type == YAML_DOCUMENT_START_EVENT && n_documents++ > 0)
            rc = fail_at(r, &e, "a second document (---) is not allowed");
        else if (!end && e.type != YAML_STREAM_START_EVENT &&
                 e.type != YAML_DOCUMENT_START_EVENT && e.type != YAML_DOCUMENT_END_EVENT)
            rc = read_node(r, &e, key, depth, &root);
        yaml_event_delete(&e);
    }
    if (rc == SL_OK)
        *ret = root;
    else
        free_node(root);
    return rc;
}

static enum sl_code read_text(const char *text, size_t n, const char *key, unsigned depth,
                              struct reader *r, struct sl_yaml_node **ret)
{
    if (!yaml_parser_initialize(&r->parser))
        return fail(r, SL_E_NOMEM, 1, "no memory");
    yaml_parser_set_encoding(&r->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r->parser, (const unsigned char *)text, n);
    enum sl_code rc = read_document(r, key, depth, ret);
    yaml_parser_delete(&r->parser);
    return rc;
}

static bool is_blank(const struct sl_yaml_node *n)
{
    return n == NULL || (n->kind == SL_YAML_SCALAR && !n->quoted && n->text[0] == '\0');
}

enum sl_code sl_yaml_parse(const char *text, size_t n, const char *where,
                           struct sl_yaml_doc *ret, struct sl_err *err)
{
    struct reader r = {.where = where, .err = err};
    struct sl_yaml_node *root = NULL;
    if (n > SL_YAML_BYTES)
        return sl_err_set(err, SL_E_LIMIT, "%.220s: %zu bytes (at most %u)", where, n,
                          SL_YAML_BYTES);
    enum sl_code rc = read_text(text, n, NULL, 0, &r, &root);
    if (rc != SL_OK)
        return rc;
    if (is_blank(root)) {
        free_node(root);
        root = new_node(SL_YAML_MAP, NULL, NULL);
        if (root == NULL)
            return fail(&r, SL_E_NOMEM, 1, "no memory");
        root->line = 1;
    } else if (root->kind != SL_YAML_MAP) {
        rc = fail(&r, SL_E_INPUT, root->line, "must be a map (key: value)");
        free_node(root);
        return rc;
    }
    *ret = (struct sl_yaml_doc){.where = where, .root = root, .n_nodes = r.n_nodes};
    return SL_OK;
}

/* --- changes ----------------------------------------------------------------------------------- */

struct sl_yaml_node *sl_yaml_get(const struct sl_yaml_node *map, const char *key)
{
    if (map == NULL || map->kind != SL_YAML_MAP)
        return NULL;
    struct sl_yaml_node *c = map->first;
    while (c != NULL && strcmp(c->key, key) != 0)
        c = c->next;
    return c;
}

void sl_yaml_remove(struct sl_yaml_node *map, struct sl_yaml_node *child)
{
    if (child == NULL)
        return;
    struct sl_yaml_node **at = &map->first;
    while (*at != child)
        at = &(*at)->next;
    *at = child->next;
    map->n_children--;
    free_node(child);
}

/* Puts `child` into `map` in place of the one of the same key. */
static void put(struct sl_yaml_node *map, struct sl_yaml_node *child)
{
    sl_yaml_remove(map, sl_yaml_get(map, child->key));
    struct sl_yaml_node **tail = &map->first;
    while (*tail != NULL)
        tail = &(*tail)->next;
    *tail = child;
    map->n_children++;
}

/* Follows path "a.b.c" to the map "a.b", making maps; *ret_last is "c". Edits path. */
static enum sl_code reach(struct sl_yaml_doc *d, char *path, struct reader *r,
                          struct sl_yaml_node **ret_map, const char **ret_last)
{
    struct sl_yaml_node *map = d->root;
    unsigned depth = 1;
    char *dot;
    for (; (dot = strchr(path, '.')) != NULL; path = dot + 1, depth++) {
        *dot = '\0';
        if (depth + 1 >= SL_YAML_DEPTH)
            return fail(r, SL_E_LIMIT, 0, "nested more than 16 deep");
        struct sl_yaml_node *next = sl_yaml_get(map, path);
        if (next == NULL || next->kind != SL_YAML_MAP) {
            next = new_node(SL_YAML_MAP, path, NULL);
            if (next == NULL)
                return fail(r, SL_E_NOMEM, 0, "no memory");
            next->is_set = true;
            put(map, next);
        }
        map = next;
    }
    *ret_map = map;
    *ret_last = path;
    return SL_OK;
}

static unsigned dots(const char *s)
{
    unsigned n = 0;
    for (; *s != '\0'; s++)
        n += *s == '.';
    return n;
}

enum sl_code sl_yaml_set(struct sl_yaml_doc *d, const char *assignment, struct sl_err *err)
{
    const char *equals = strchr(assignment, '=');
    size_t n_path = equals == NULL ? 0 : (size_t)(equals - assignment);
    if (n_path == 0 || n_path > PATH_MAX_BYTES)
        return sl_err_set(err, SL_E_INPUT, "--set %.100s: must be KEY.PATH=VALUE", assignment);
    char path[PATH_MAX_BYTES + 1], where[PATH_MAX_BYTES + 8];
    memcpy(path, assignment, n_path);
    path[n_path] = '\0';
    snprintf(where, sizeof(where), "--set %s", path);
    struct reader r = {.where = where, .is_set = true, .n_nodes = d->n_nodes, .err = err};
    struct sl_yaml_node *map = NULL, *value = NULL;
    const char *last = strrchr(path, '.');
    unsigned depth = 1 + dots(path);
    last = last == NULL ? path : last + 1;
    const char *text = equals + 1;
    enum sl_code rc = read_text(text, strlen(text), last, depth, &r, &value);
    if (rc == SL_OK && value == NULL) {
        value = new_node(SL_YAML_SCALAR, last, "");
        if (value == NULL)
            return fail(&r, SL_E_NOMEM, 0, "no memory");
        value->is_set = value->quoted = true;
    }
    if (rc == SL_OK)
        rc = reach(d, path, &r, &map, &last);
    if (rc != SL_OK) {
        free_node(value);
        return rc;
    }
    put(map, value);
    d->n_nodes = r.n_nodes;
    return SL_OK;
}
