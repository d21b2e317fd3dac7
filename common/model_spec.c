/* SPDX-License-Identifier: Apache-2.0 */
#include "common/model_spec.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

static const char *const kind_names[] = {
    [SL_LAYER_DENSE] = "dense",           [SL_LAYER_CONV2D] = "conv2d",
    [SL_LAYER_MAXPOOL] = "maxpool",       [SL_LAYER_AVGPOOL] = "avgpool",
    [SL_LAYER_RELU] = "relu",             [SL_LAYER_GELU_ERF] = "gelu_erf",
    [SL_LAYER_GELU_TANH] = "gelu_tanh",   [SL_LAYER_FLATTEN] = "flatten",
    [SL_LAYER_DROPOUT] = "dropout",       [SL_LAYER_LAYERNORM] = "layernorm",
    [SL_LAYER_GROUPNORM] = "groupnorm",   [SL_LAYER_BATCHNORM] = "batchnorm",
    [SL_LAYER_MHSA] = "mhsa",             [SL_LAYER_MEAN_TOKENS] = "mean_tokens",
    [SL_LAYER_RESIDUAL] = "residual",
    [SL_LAYER_TERNARY_DENSE] = "ternary_dense",
    [SL_LAYER_TERNARY_CONV2D] = "ternary_conv2d",
    [SL_LAYER_SPHERE] = "sphere",
};

#define N_KINDS (sizeof(kind_names) / sizeof(kind_names[0]))

const char *sl_layer_kind_name(enum sl_layer_kind kind)
{
    return (size_t)kind < N_KINDS ? kind_names[kind] : "unknown";
}

bool sl_layer_kind_of(const char *name, enum sl_layer_kind *ret)
{
    for (size_t i = 0; i < N_KINDS; i++)
        if (i != SL_LAYER_SPHERE && strcmp(kind_names[i], name) == 0) {
            *ret = (enum sl_layer_kind)i;
            return true;
        }
    return false;
}

struct sl_layer_spec sl_layer_default(enum sl_layer_kind kind)
{
    return (struct sl_layer_spec){.kind = kind,
                                  .stride = kind == SL_LAYER_CONV2D ||
                                                    kind == SL_LAYER_TERNARY_CONV2D,
                                  .bias = kind != SL_LAYER_SPHERE,
                                  .eps = kind == SL_LAYER_SPHERE ? 1e-12f : 1e-5f,
                                  .momentum = 0.1f,
                                  .scale = 1.0f};
}

void sl_model_spec_deinit(struct sl_model_spec *m)
{
    if (m == NULL)
        return;
    free(m->layers);
    *m = (struct sl_model_spec){0};
}

enum sl_code sl_model_spec_copy(const struct sl_model_spec *from, struct sl_model_spec *ret,
                                struct sl_err *err)
{
    struct sl_model_spec m = {.layers = sl_calloc(from->n_layers, sizeof(*m.layers)),
                              .n_layers = from->n_layers};
    if (m.layers == NULL)
        return sl_err_set(err, SL_E_NOMEM, "model of %zu layers", from->n_layers);
    if (from->n_layers > 0)
        memcpy(m.layers, from->layers, from->n_layers * sizeof(*m.layers));
    *ret = m;
    return SL_OK;
}

enum sl_code sl_model_spec_add(struct sl_model_spec *m, const struct sl_layer_spec *l,
                               struct sl_err *err)
{
    if (m->n_layers >= SL_LAYERS_MAX)
        return sl_err_set(err, SL_E_LIMIT, "model of more than %d layers", SL_LAYERS_MAX);
    struct sl_layer_spec *more = realloc(m->layers, (m->n_layers + 1) * sizeof(*more));
    if (more == NULL)
        return sl_err_set(err, SL_E_NOMEM, "model of %zu layers", m->n_layers + 1);
    m->layers = more;
    m->layers[m->n_layers++] = *l;
    return SL_OK;
}

/* --- named models ------------------------------------------------------------------------------ */

/* A row of a model's table; out 0 in the last dense layer = the number of classes. */
struct row {
    enum sl_layer_kind kind;
    const char *name;
    uint32_t out, kernel, stride, pad, groups;
    float rate;
    bool no_bias;
    uint32_t n_body, n_shortcut;
};

#define DENSE(name, out) {SL_LAYER_DENSE, name, out, 0, 0, 0, 0, 0, false, 0, 0}
#define CONV(name, out, kernel, stride, pad)                                             \
    {SL_LAYER_CONV2D, name, out, kernel, stride, pad, 0, 0, false, 0, 0}
#define CONV_NO_BIAS(name, out, kernel, stride, pad)                                     \
    {SL_LAYER_CONV2D, name, out, kernel, stride, pad, 0, 0, true, 0, 0}
#define MAXPOOL(kernel) {SL_LAYER_MAXPOOL, "", 0, kernel, kernel, 0, 0, 0, false, 0, 0}
#define GLOBAL_AVGPOOL {SL_LAYER_AVGPOOL, "", 0, 0, 0, 0, 0, 0, false, 0, 0}
#define NORM(name) {SL_LAYER_GROUPNORM, name, 0, 0, 0, 0, 8, 0, false, 0, 0}
#define DROPOUT(rate) {SL_LAYER_DROPOUT, "", 0, 0, 0, 0, 0, rate, false, 0, 0}
#define RELU {SL_LAYER_RELU, "", 0, 0, 0, 0, 0, 0, false, 0, 0}
#define FLATTEN {SL_LAYER_FLATTEN, "", 0, 0, 0, 0, 0, 0, false, 0, 0}
#define RESIDUAL(n_body, n_shortcut)                                                     \
    {SL_LAYER_RESIDUAL, "", 0, 0, 0, 0, 0, 0, false, n_body, n_shortcut}

static const struct row tiny[] = {FLATTEN, DENSE("fc1", 0)};

static const struct row mlp[] = {FLATTEN, DENSE("fc1", 200), RELU, DENSE("fc2", 200), RELU,
                                 DENSE("fc3", 0)};

static const struct row lenet[] = {
    CONV("conv1", 6, 5, 1, 2),  RELU, MAXPOOL(2), CONV("conv2", 16, 5, 1, 0), RELU, MAXPOOL(2),
    FLATTEN, DENSE("fc1", 120), RELU, DENSE("fc2", 84), RELU, DENSE("fc3", 0)};

static const struct row cnn[] = {
    CONV("conv1", 32, 5, 1, 2), RELU, MAXPOOL(2), CONV("conv2", 64, 5, 1, 2), RELU, MAXPOOL(2),
    FLATTEN, DENSE("fc1", 512), RELU, DENSE("fc2", 0)};

static const struct row pfl_cnn[] = {
    CONV("conv1", 32, 3, 1, 0), RELU, CONV("conv2", 64, 3, 1, 0), RELU, MAXPOOL(2),
    DROPOUT(0.25f), FLATTEN, DENSE("fc1", 128), RELU, DROPOUT(0.5f), DENSE("fc2", 0)};

static const struct row resnet8[] = {
    CONV_NO_BIAS("conv1", 16, 3, 1, 1), NORM("norm1"), RELU,
    RESIDUAL(5, 0),
    CONV_NO_BIAS("stage1.conv1", 16, 3, 1, 1), NORM("stage1.norm1"), RELU,
    CONV_NO_BIAS("stage1.conv2", 16, 3, 1, 1), NORM("stage1.norm2"),
    RELU,
    RESIDUAL(5, 2),
    CONV_NO_BIAS("stage2.conv1", 32, 3, 2, 1), NORM("stage2.norm1"), RELU,
    CONV_NO_BIAS("stage2.conv2", 32, 3, 1, 1), NORM("stage2.norm2"),
    CONV_NO_BIAS("stage2.proj", 32, 1, 2, 0), NORM("stage2.norm3"),
    RELU,
    RESIDUAL(5, 2),
    CONV_NO_BIAS("stage3.conv1", 64, 3, 2, 1), NORM("stage3.norm1"), RELU,
    CONV_NO_BIAS("stage3.conv2", 64, 3, 1, 1), NORM("stage3.norm2"),
    CONV_NO_BIAS("stage3.proj", 64, 1, 2, 0), NORM("stage3.norm3"),
    RELU,
    GLOBAL_AVGPOOL, DENSE("fc", 0)};

static const struct {
    const char *name;
    const struct row *rows;
    size_t n_rows;
} models[] = {
#define MODEL(name, rows) {name, rows, sizeof(rows) / sizeof(rows[0])}
    MODEL("tiny", tiny),       MODEL("mlp", mlp),         MODEL("lenet", lenet),
    MODEL("cnn", cnn),         MODEL("pfl-cnn", pfl_cnn), MODEL("resnet8", resnet8),
};

#define N_MODELS (sizeof(models) / sizeof(models[0]))

static enum sl_code add_row(const struct row *r, uint32_t n_classes, struct sl_model_spec *m,
                            struct sl_err *err)
{
    struct sl_layer_spec l = sl_layer_default(r->kind);
    strcpy(l.name, r->name);
    l.out = r->kind == SL_LAYER_DENSE && r->out == 0 ? n_classes : r->out;
    l.kernel = r->kernel;
    l.stride = r->stride;
    l.pad = r->pad;
    l.groups = r->groups;
    l.rate = r->rate;
    l.bias = !r->no_bias;
    l.n_body = r->n_body;
    l.n_shortcut = r->n_shortcut;
    return sl_model_spec_add(m, &l, err);
}

enum sl_code sl_model_spec_named(const char *name, uint32_t n_classes,
                                 struct sl_model_spec *ret, struct sl_err *err)
{
    for (size_t i = 0; i < N_MODELS; i++) {
        if (strcmp(models[i].name, name) != 0)
            continue;
        struct sl_model_spec m = {0};
        for (size_t j = 0; j < models[i].n_rows; j++) {
            enum sl_code rc = add_row(&models[i].rows[j], n_classes, &m, err);
            if (rc != SL_OK) {
                sl_model_spec_deinit(&m);
                return rc;
            }
        }
        *ret = m;
        return SL_OK;
    }
    return sl_err_set(err, SL_E_NOTFOUND,
                      "model \"%.40s\" is unknown (tiny, mlp, lenet, cnn, pfl-cnn, resnet8 allowed)",
                      name);
}

/* --- ternary ----------------------------------------------------------------------------------- */

static size_t span(const struct sl_layer_spec *l)
{
    return l->kind == SL_LAYER_RESIDUAL ? 1 + (size_t)l->n_body + l->n_shortcut : 1;
}

static bool has_product(const struct sl_layer_spec *l)
{
    return l->kind == SL_LAYER_DENSE || l->kind == SL_LAYER_CONV2D;
}

static bool has_ternary(const struct sl_model_spec *m)
{
    for (size_t i = 0; i < m->n_layers; i++)
        if (m->layers[i].kind == SL_LAYER_TERNARY_DENSE ||
            m->layers[i].kind == SL_LAYER_TERNARY_CONV2D)
            return true;
    return false;
}

/* Layers that leave or move values, so that a ReLU before them is one before what follows. */
static bool passes_signs(const struct sl_layer_spec *l)
{
    return l->kind == SL_LAYER_MAXPOOL || l->kind == SL_LAYER_AVGPOOL ||
           l->kind == SL_LAYER_FLATTEN || l->kind == SL_LAYER_DROPOUT ||
           l->kind == SL_LAYER_RELU;
}

/* First and last layer with a product, outside residuals; false with none between them. */
static bool inner_range(const struct sl_model_spec *m, size_t *ret_first, size_t *ret_last)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n_layers; i += span(&m->layers[i]))
        if (has_product(&m->layers[i])) {
            if (n++ == 0)
                *ret_first = i;
            *ret_last = i;
        }
    return n >= 3;
}

/* Do the values of layer `at` reach a layer that becomes ternary with their signs? */
static bool reaches_ternary(const struct sl_model_spec *m, size_t at, size_t first,
                            size_t last)
{
    size_t i = at + 1;
    while (i < m->n_layers && passes_signs(&m->layers[i]))
        i++;
    return i > first && i < last && has_product(&m->layers[i]);
}

static enum sl_code add_ternary(const struct sl_model_spec *from, size_t i,
                                struct sl_model_spec *m, struct sl_err *err)
{
    struct sl_layer_spec norm = sl_layer_default(SL_LAYER_BATCHNORM), l = from->layers[i];
    enum sl_code rc = SL_OK;
    if (m->layers[m->n_layers - 1].kind != SL_LAYER_BATCHNORM)
        rc = sl_model_spec_add(m, &norm, err);
    l.kind = l.kind == SL_LAYER_DENSE ? SL_LAYER_TERNARY_DENSE : SL_LAYER_TERNARY_CONV2D;
    return rc == SL_OK ? sl_model_spec_add(m, &l, err) : rc;
}

enum sl_code sl_model_spec_ternary(const struct sl_model_spec *from, struct sl_model_spec *ret,
                                   struct sl_err *err)
{
    struct sl_model_spec m = {0};
    size_t first = 0, last = 0, end = 0;
    enum sl_code rc = SL_OK;
    if (has_ternary(from))
        return sl_model_spec_copy(from, ret, err);
    if (!inner_range(from, &first, &last))
        return sl_err_set(err, SL_E_INPUT,
                          "ternary: no dense or conv2d layer between a first and a last one");
    for (size_t i = 0; i < from->n_layers && rc == SL_OK; i++) {
        const struct sl_layer_spec *l = &from->layers[i];
        bool top = i >= end;
        if (top)
            end = i + span(l);
        if (top && i > first && i < last && has_product(l))
            rc = add_ternary(from, i, &m, err);
        else if (!top || l->kind != SL_LAYER_RELU || !reaches_ternary(from, i, first, last))
            rc = sl_model_spec_add(&m, l, err);
    }
    if (rc != SL_OK) {
        sl_model_spec_deinit(&m);
        return rc;
    }
    *ret = m;
    return SL_OK;
}

/* --- head -------------------------------------------------------------------------------------- */

/* The last layer outside residuals; n_layers when there is none. */
static size_t last_layer(const struct sl_model_spec *m)
{
    size_t last = m->n_layers;
    for (size_t i = 0; i < m->n_layers; i += span(&m->layers[i]))
        last = i;
    return last;
}

static enum sl_code check_dense_end(const struct sl_model_spec *m, size_t *ret_last,
                                    struct sl_err *err)
{
    size_t last = last_layer(m);
    if (last == m->n_layers || m->layers[last].kind != SL_LAYER_DENSE)
        return sl_err_set(err, SL_E_INPUT, "the last layer is %s (dense allowed)",
                          last == m->n_layers ? "missing" : sl_layer_kind_name(m->layers[last].kind));
    *ret_last = last;
    return SL_OK;
}

/* The dense layer whose output, after ReLU and dropout, layer `last` reads; `last` when another kind
 * stands there. */
static size_t features_layer(const struct sl_model_spec *m, size_t last)
{
    size_t at = last;
    for (size_t i = 0; i < last; i += span(&m->layers[i])) {
        const struct sl_layer_spec *l = &m->layers[i];
        if (l->kind == SL_LAYER_DENSE || l->kind == SL_LAYER_TERNARY_DENSE)
            at = i;
        else if (l->kind != SL_LAYER_RELU && l->kind != SL_LAYER_DROPOUT)
            at = last;
    }
    return at;
}

enum sl_code sl_model_spec_width(const struct sl_model_spec *from, uint32_t width,
                                 struct sl_model_spec *ret, struct sl_err *err)
{
    struct sl_model_spec m = {0};
    struct sl_layer_spec features = sl_layer_default(SL_LAYER_DENSE);
    size_t last;
    enum sl_code rc = check_dense_end(from, &last, err);
    if (rc != SL_OK)
        return rc;
    size_t at = features_layer(from, last);
    strcpy(features.name, "features");
    features.out = width;
    for (size_t i = 0; i < from->n_layers && rc == SL_OK; i++) {
        if (i == last && at == last)
            rc = sl_model_spec_add(&m, &features, err);
        if (rc == SL_OK)
            rc = sl_model_spec_add(&m, &from->layers[i], err);
    }
    if (rc != SL_OK) {
        sl_model_spec_deinit(&m);
        return rc;
    }
    if (at != last)
        m.layers[at].out = width;
    *ret = m;
    return SL_OK;
}

static bool has_weights(const struct sl_layer_spec *l)
{
    return has_product(l) || l->kind == SL_LAYER_TERNARY_DENSE ||
           l->kind == SL_LAYER_TERNARY_CONV2D || l->kind == SL_LAYER_MHSA;
}

enum sl_code sl_model_spec_sphere(const struct sl_model_spec *from, uint32_t n_classes, float scale,
                                  bool replace, struct sl_model_spec *ret, struct sl_err *err)
{
    struct sl_model_spec m = {0};
    struct sl_layer_spec head = sl_layer_default(SL_LAYER_SPHERE);
    size_t last = from->n_layers, others = 0;
    enum sl_code rc = replace ? check_dense_end(from, &last, err) : SL_OK;
    for (size_t i = 0; i < from->n_layers; i++)
        others += i != last && has_weights(&from->layers[i]);
    strcpy(head.name, "head");
    head.out = n_classes;
    head.scale = scale;
    for (size_t i = 0; i < from->n_layers && rc == SL_OK; i++)
        if (i != last || others == 0)
            rc = sl_model_spec_add(&m, &from->layers[i], err);
    if (rc == SL_OK)
        rc = sl_model_spec_add(&m, &head, err);
    if (rc != SL_OK) {
        sl_model_spec_deinit(&m);
        return rc;
    }
    *ret = m;
    return SL_OK;
}
