/* SPDX-License-Identifier: Apache-2.0 */
#include "common/plan_layers.h"

#include <stdio.h>
#include <string.h>

#define WIDTH_MAX 1000000
#define WINDOW_MAX 4096
#define PREFIX_BYTES 160

#define PLACE(field) offsetof(struct sl_layer_spec, field), sizeof(((struct sl_layer_spec *)0)->field)
#define COUNT(key, field, least, most, more)                                             \
    {.path = key, .type = SL_FIELD_WHOLE, PLACE(field), .flags = more, .lo = least, .hi = most}
#define REAL(key, field, least, most, more)                                              \
    {.path = key, .type = SL_FIELD_REAL, PLACE(field), .flags = more, .min = least, .max = most}
#define FLAG(key, field) {.path = key, .type = SL_FIELD_BOOL, PLACE(field)}
#define NAME                                                                             \
    {.path = "name", .type = SL_FIELD_TEXT, PLACE(name), .flags = SL_ROW_OPTIONAL}
static const char *const form_names[] = {"learned", "plain", "binary", NULL};
#define FORM {.path = "form", .type = SL_FIELD_ENUM, PLACE(form), .names = form_names}
#define EPS REAL("eps", eps, 1e-20, 1, 0)

static const struct sl_row dense_rows[] = {
    COUNT("out", out, 1, WIDTH_MAX, SL_ROW_REQUIRED), FLAG("bias", bias), NAME};
static const struct sl_row conv2d_rows[] = {
    COUNT("out", out, 1, WIDTH_MAX, SL_ROW_REQUIRED),
    COUNT("kernel", kernel, 1, WINDOW_MAX, SL_ROW_REQUIRED),
    COUNT("stride", stride, 1, WINDOW_MAX, 0),
    COUNT("pad", pad, 0, WINDOW_MAX, 0),
    FLAG("bias", bias),
    NAME};
static const struct sl_row ternary_dense_rows[] = {
    COUNT("out", out, 1, WIDTH_MAX, SL_ROW_REQUIRED), FORM, FLAG("bias", bias), NAME};
static const struct sl_row ternary_conv2d_rows[] = {
    COUNT("out", out, 1, WIDTH_MAX, SL_ROW_REQUIRED),
    COUNT("kernel", kernel, 1, WINDOW_MAX, SL_ROW_REQUIRED),
    COUNT("stride", stride, 1, WINDOW_MAX, 0),
    COUNT("pad", pad, 0, WINDOW_MAX, 0),
    FORM,
    FLAG("bias", bias),
    NAME};
static const struct sl_row maxpool_rows[] = {
    COUNT("kernel", kernel, 1, WINDOW_MAX, SL_ROW_REQUIRED),
    COUNT("stride", stride, 0, WINDOW_MAX, 0), /* 0 = kernel */
    COUNT("pad", pad, 0, WINDOW_MAX, 0)};
static const struct sl_row avgpool_rows[] = {
    COUNT("kernel", kernel, 0, WINDOW_MAX, 0), /* 0 = all of it */
    COUNT("stride", stride, 0, WINDOW_MAX, 0)};
static const struct sl_row dropout_rows[] = {
    REAL("rate", rate, 0, 1, SL_ROW_REQUIRED | SL_ROW_BELOW_MAX)};
static const struct sl_row layernorm_rows[] = {EPS, NAME};
static const struct sl_row groupnorm_rows[] = {
    COUNT("groups", groups, 1, WIDTH_MAX, SL_ROW_REQUIRED), EPS, NAME};
static const struct sl_row batchnorm_rows[] = {REAL("momentum", momentum, 0, 1, 0), EPS, NAME};
static const struct sl_row mhsa_rows[] = {
    COUNT("heads", heads, 1, WIDTH_MAX, SL_ROW_REQUIRED), FLAG("causal", causal), NAME};

/* A kind's keys, and the one that a bare value stands for ({dense: 10}). */
static const struct kind {
    struct sl_schema keys;
    const char *shortened;
} kinds[] = {
#define KEYS(rows) {rows, sizeof(rows) / sizeof(rows[0])}
    [SL_LAYER_DENSE] = {KEYS(dense_rows), "out"},
    [SL_LAYER_CONV2D] = {KEYS(conv2d_rows), NULL},
    [SL_LAYER_MAXPOOL] = {KEYS(maxpool_rows), "kernel"},
    [SL_LAYER_AVGPOOL] = {KEYS(avgpool_rows), "kernel"},
    [SL_LAYER_DROPOUT] = {KEYS(dropout_rows), "rate"},
    [SL_LAYER_LAYERNORM] = {KEYS(layernorm_rows), NULL},
    [SL_LAYER_GROUPNORM] = {KEYS(groupnorm_rows), "groups"},
    [SL_LAYER_BATCHNORM] = {KEYS(batchnorm_rows), NULL},
    [SL_LAYER_MHSA] = {KEYS(mhsa_rows), "heads"},
    [SL_LAYER_RESIDUAL] = {{NULL, 0}, NULL},
    [SL_LAYER_TERNARY_DENSE] = {KEYS(ternary_dense_rows), "out"},
    [SL_LAYER_TERNARY_CONV2D] = {KEYS(ternary_conv2d_rows), NULL},
};

#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* --- reading ----------------------------------------------------------------------------------- */

static enum sl_code unknown_kind(const struct sl_schema_in *in, const struct sl_yaml_node *node,
                                 const char *name, struct sl_err *err)
{
    char names[300];
    size_t n = 0;
    for (size_t i = 0; i < N_KINDS; i++)
        n += (size_t)snprintf(names + n, sizeof(names) - n, "%s%s", i == 0 ? "" : ", ",
                              sl_layer_kind_name((enum sl_layer_kind)i));
    return sl_schema_fail(in, node, "", err, SL_E_INPUT, "%.60s is not available (%s)", name,
                          names);
}

static enum sl_code read_list(const struct sl_schema_in *in, const struct sl_yaml_node *node,
                              unsigned depth, struct sl_model_spec *spec, struct sl_err *err);

/* {residual: [body]} or {residual: {body: [...], shortcut: [...]}} */
static enum sl_code read_residual(const struct sl_schema_in *in, const struct sl_yaml_node *node,
                                  unsigned depth, struct sl_model_spec *spec,
                                  struct sl_err *err)
{
    const struct sl_yaml_node *body = node, *shortcut = NULL;
    struct sl_layer_spec l = sl_layer_default(SL_LAYER_RESIDUAL);
    char prefix[2][PREFIX_BYTES];
    snprintf(prefix[0], PREFIX_BYTES, "%.140s.body", in->prefix);
    snprintf(prefix[1], PREFIX_BYTES, "%.140s.shortcut", in->prefix);
    if (depth >= SL_RESIDUAL_DEPTH)
        return sl_schema_fail(in, node, "", err, SL_E_LIMIT, "residuals nested more than %d deep",
                              SL_RESIDUAL_DEPTH);
    if (node->kind == SL_YAML_MAP) {
        body = sl_yaml_get(node, "body");
        shortcut = sl_yaml_get(node, "shortcut");
        for (const struct sl_yaml_node *c = node->first; c != NULL; c = c->next)
            if (c != body && c != shortcut)
                return sl_schema_fail(in, c, c->key, err, SL_E_INPUT,
                                      "unknown key (allowed here: body, shortcut)");
    }
    if (body == NULL || body->kind != SL_YAML_LIST)
        return sl_schema_fail(in, node, "", err, SL_E_INPUT,
                              "must be a list of layers, or {body: [...], shortcut: [...]}");
    size_t at = spec->n_layers;
    struct sl_schema_in inside = {in->where, in->folder, prefix[0]};
    enum sl_code rc = sl_model_spec_add(spec, &l, err);
    if (rc != SL_OK)
        return sl_schema_fail(in, node, "", err, rc, "more than %d layers", SL_LAYERS_MAX);
    rc = read_list(&inside, body, depth + 1, spec, err);
    if (rc != SL_OK)
        return rc;
    spec->layers[at].n_body = (uint32_t)(spec->n_layers - at - 1);
    bool identity = shortcut == NULL ||
                    (shortcut->kind == SL_YAML_LIST && shortcut->n_children == 0);
    inside.prefix = prefix[1];
    rc = identity ? SL_OK : read_list(&inside, shortcut, depth + 1, spec, err);
    if (rc == SL_OK)
        spec->layers[at].n_shortcut =
            (uint32_t)(spec->n_layers - at - 1 - spec->layers[at].n_body);
    return rc;
}

/* `value` is NULL for a bare word. */
static enum sl_code read_options(const struct sl_schema_in *in, enum sl_layer_kind kind,
                                 const struct sl_yaml_node *item,
                                 const struct sl_yaml_node *value, struct sl_layer_spec *l,
                                 struct sl_err *err)
{
    const struct kind *k = &kinds[kind];
    struct sl_yaml_node only, map = {.kind = SL_YAML_MAP, .line = item->line,
                                     .is_set = item->is_set};
    if (value != NULL && value->kind != SL_YAML_MAP) {
        if (k->shortened == NULL)
            return sl_schema_fail(in, value, "", err, SL_E_INPUT, "must be a map");
        only = *value;
        only.key = k->shortened;
        only.next = NULL;
        map.first = &only;
        map.n_children = 1;
        value = &map;
    }
    for (size_t i = 0; i < k->keys.n; i++)
        if (k->keys.rows[i].flags & SL_ROW_REQUIRED &&
            sl_yaml_get(value, k->keys.rows[i].path) == NULL)
            return sl_schema_fail(in, item, k->keys.rows[i].path, err, SL_E_INPUT, "is missing");
    enum sl_code rc = sl_schema_bind(&k->keys, in, value, l, err);
    bool pool = kind == SL_LAYER_MAXPOOL || kind == SL_LAYER_AVGPOOL;
    if (rc == SL_OK && pool && l->stride == 0)
        l->stride = l->kernel;
    return rc;
}

static enum sl_code read_item(const struct sl_schema_in *in, const struct sl_yaml_node *item,
                              unsigned depth, struct sl_model_spec *spec, struct sl_err *err)
{
    const struct sl_yaml_node *value = item->kind == SL_YAML_MAP ? item->first : NULL;
    enum sl_layer_kind kind;
    char prefix[PREFIX_BYTES];
    if (item->kind == SL_YAML_LIST || (item->kind == SL_YAML_MAP && item->n_children != 1))
        return sl_schema_fail(in, item, "", err, SL_E_INPUT,
                              "must be one layer: a word, or {kind: {key: value}}");
    const char *name = value != NULL ? value->key : item->text;
    if (!sl_layer_kind_of(name, &kind))
        return unknown_kind(in, item, name, err);
    if (value != NULL && value->kind == SL_YAML_SCALAR && !value->quoted && value->text[0] == '\0')
        value = NULL; /* "relu:" is the bare word, too */
    snprintf(prefix, sizeof(prefix), "%.140s.%s", in->prefix, name);
    const struct sl_schema_in inside = {in->where, in->folder, prefix};
    if (kind == SL_LAYER_RESIDUAL)
        return read_residual(&inside, value == NULL ? item : value, depth, spec, err);
    struct sl_layer_spec l = sl_layer_default(kind);
    enum sl_code rc = read_options(&inside, kind, item, value, &l, err);
    if (rc != SL_OK)
        return rc;
    rc = sl_model_spec_add(spec, &l, err);
    if (rc != SL_OK)
        return sl_schema_fail(in, item, "", err, rc, "more than %d layers", SL_LAYERS_MAX);
    return SL_OK;
}

static enum sl_code read_list(const struct sl_schema_in *in, const struct sl_yaml_node *node,
                              unsigned depth, struct sl_model_spec *spec, struct sl_err *err)
{
    if (node->kind != SL_YAML_LIST || node->first == NULL)
        return sl_schema_fail(in, node, "", err, SL_E_INPUT, "must be a list of layers");
    enum sl_code rc = SL_OK;
    size_t i = 0;
    for (const struct sl_yaml_node *c = node->first; c != NULL && rc == SL_OK; c = c->next, i++) {
        char prefix[PREFIX_BYTES];
        snprintf(prefix, sizeof(prefix), "%.140s[%zu]", in->prefix, i);
        const struct sl_schema_in inside = {in->where, in->folder, prefix};
        rc = read_item(&inside, c, depth, spec, err);
    }
    return rc;
}

enum sl_code sl_plan_layers_read(const struct sl_schema_in *in, const struct sl_yaml_node *node,
                                 struct sl_model_spec *spec, struct sl_err *err)
{
    struct sl_model_spec m = {0};
    const struct sl_schema_in inside = {in->where, in->folder, "model.layers"};
    enum sl_code rc = read_list(&inside, node, 0, &m, err);
    if (rc != SL_OK) {
        sl_model_spec_deinit(&m);
        return rc;
    }
    sl_model_spec_deinit(spec);
    *spec = m;
    return SL_OK;
}

/* --- printing ---------------------------------------------------------------------------------- */

static size_t print_layer(const struct sl_model_spec *spec, size_t i, struct sl_text *out);

/* "[a, b]" of the layers from i to end - 1 */
static void print_list(const struct sl_model_spec *spec, size_t i, size_t end,
                       struct sl_text *out)
{
    sl_text_add(out, "[");
    for (size_t first = i; i < end;) {
        sl_text_add(out, "%s", i == first ? "" : ", ");
        i = print_layer(spec, i, out);
    }
    sl_text_add(out, "]");
}

/* Returns where the next layer stands. */
static size_t print_layer(const struct sl_model_spec *spec, size_t i, struct sl_text *out)
{
    const struct sl_layer_spec *l = &spec->layers[i];
    const char *name = sl_layer_kind_name(l->kind);
    if (l->kind == SL_LAYER_RESIDUAL) {
        size_t body = i + 1 + l->n_body, end = body + l->n_shortcut;
        sl_text_add(out, "{residual: {body: ");
        print_list(spec, i + 1, body, out);
        sl_text_add(out, ", shortcut: ");
        print_list(spec, body, end, out);
        sl_text_add(out, "}}");
        return end;
    }
    if (kinds[l->kind].keys.n == 0) {
        sl_text_add(out, "%s", name);
        return i + 1;
    }
    sl_text_add(out, "{%s: {", name);
    sl_schema_print_flow(&kinds[l->kind].keys, l, out);
    sl_text_add(out, "}}");
    return i + 1;
}

void sl_plan_layers_print(const struct sl_model_spec *spec, unsigned indent, struct sl_text *out)
{
    for (size_t i = 0; i < spec->n_layers;) {
        sl_text_add(out, "%*s- ", (int)indent, "");
        i = print_layer(spec, i, out);
        sl_text_add(out, "\n");
    }
}
