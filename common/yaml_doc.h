/* SPDX-License-Identifier: Apache-2.0 */
/* yaml_doc.h - one YAML document as a tree of maps, lists and scalars with line numbers.
 * A subset for people's files: no anchors, aliases, tags, duplicate keys or second
 * document, at most SL_YAML_BYTES long, SL_YAML_DEPTH deep, SL_YAML_NODES nodes, SL_YAML_KEYS keys in a map;
 * keys are scalars, text is UTF-8 without control characters. Owns: its nodes; borrows the name
 * that messages begin with. Thread: any. */
#ifndef SL_COMMON_YAML_DOC_H
#define SL_COMMON_YAML_DOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define SL_YAML_BYTES (1u << 20)
#define SL_YAML_DEPTH 16
#define SL_YAML_NODES 20000
#define SL_YAML_KEYS 256

enum sl_yaml_kind { SL_YAML_SCALAR, SL_YAML_LIST, SL_YAML_MAP };

struct sl_yaml_node {
    enum sl_yaml_kind kind;
    bool quoted;           /* scalar: in quotes or a block, so it is text whatever it looks like */
    bool is_set;           /* from an option --set; has no line */
    uint32_t line;         /* from 1; 0 with is_set. Of the key for a map's value */
    uint32_t n_children;
    const char *key;       /* in a map; else NULL */
    const char *text;      /* scalar, zero-terminated, holds no zero byte; else NULL */
    struct sl_yaml_node *first, *next; /* children; the next sibling */
    char bytes[];          /* of key and text */
};

struct sl_yaml_doc {
    const char *where; /* borrowed: "plans/demo.yaml" */
    struct sl_yaml_node *root; /* a map; NULL when empty */
    uint32_t n_nodes;
};

void sl_yaml_deinit(struct sl_yaml_doc *d); /* NULL, {0} allowed */

/* Reads n bytes. An empty document is an empty map. SL_E_INPUT, SL_E_LIMIT, SL_E_NOMEM
 * with one line: "WHERE:LINE: what". */
enum sl_code sl_yaml_parse(const char *text, size_t n, const char *where,
                           struct sl_yaml_doc *ret, struct sl_err *err);

/* Puts "key.path=VALUE", VALUE in YAML, into the tree: what stood there is replaced, maps on the
 * way are made. Messages begin with "--set key.path". */
enum sl_code sl_yaml_set(struct sl_yaml_doc *d, const char *assignment, struct sl_err *err);

/* The child of that key; NULL when `map` is NULL, no map or has none. */
struct sl_yaml_node *sl_yaml_get(const struct sl_yaml_node *map, const char *key);
/* Takes a child out of its map and frees it; nothing when it is NULL. */
void sl_yaml_remove(struct sl_yaml_node *map, struct sl_yaml_node *child);

#endif
