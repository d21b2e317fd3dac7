/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/nn/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "accel/nn/layer.h"
#include "common/mem.h"

/* --- shapes
 * --------------------------------------------------------------------------------- */

/* Values of a shape into *ret; false when a dimension is 0 or there are too many. */
static bool checked_size(const struct sl_shape *s, size_t *ret)
{
    size_t n = 1;
    if (s->n_dims < 1 || s->n_dims > SL_SHAPE_DIMS)
        return false;
    for (unsigned d = 0; d < s->n_dims; d++)
        if (s->dim[d] == 0 || !sl_size_mul(n, s->dim[d], &n) || n > SL_ACTIVATION_MAX)
            return false;
    *ret = n;
    return true;
}

/* Gives a layer whose tensors have no name one: its kind's prefix and its number in the
 * kind. */
static void name_layer(struct sl_model_builder *b, struct sl_layer *l)
{
    unsigned count = 1;
    if (l->ops->prefix == NULL || l->spec.name[0] != '\0')
        return;
    for (size_t i = 0; i < l->number; i++)
        if (b->layers[i].ops->prefix != NULL &&
            strcmp(b->layers[i].ops->prefix, l->ops->prefix) == 0)
            count++;
    snprintf(l->spec.name, sizeof(l->spec.name), "%s%u", l->ops->prefix, count);
}

/* May l overwrite the output of the layer before it? */
static bool may_overwrite(const struct sl_model_builder *b, const struct sl_layer *l)
{
    if (!l->ops->in_place || l->previous == SL_NO_LAYER)
        return false;
    const struct sl_layer_ops *before = b->layers[l->previous].ops;
    return !before->view && !before->reads_y;
}

static enum sl_code infer(struct sl_model_builder *b, size_t first, size_t count,
                          struct sl_shape in, unsigned depth, struct sl_err *err);

static enum sl_code infer_parts(struct sl_model_builder *b, const struct sl_layer *l,
                                size_t left, struct sl_err *err)
{
    if (l->spec.kind != SL_LAYER_RESIDUAL)
        return SL_OK;
    if (l->spec.n_body > left || l->spec.n_shortcut > left - l->spec.n_body)
        return sl_layer_error(l, err, "body and shortcut of %u and %u layers, %zu follow",
                              l->spec.n_body, l->spec.n_shortcut, left);
    if (l->depth == SL_LAYER_DEPTH)
        return sl_layer_error(l, err, "more than %d residuals inside one another",
                              SL_LAYER_DEPTH);
    enum sl_code rc = infer(b, l->number + 1, l->spec.n_body, l->in, l->depth + 1, err);
    if (rc == SL_OK)
        rc = infer(b, l->number + 1 + l->spec.n_body, l->spec.n_shortcut, l->in,
                   l->depth + 1, err);
    return rc;
}

/* Layers first .. first + count - 1 as one sequence from shape `in`. */
static enum sl_code infer(struct sl_model_builder *b, size_t first, size_t count,
                          struct sl_shape in, unsigned depth, struct sl_err *err)
{
    size_t previous = SL_NO_LAYER, end = first + count;
    char text[SL_SHAPE_TEXT];
    for (size_t i = first; i < end; i += sl_layer_span(&b->layers[i].spec)) {
        struct sl_layer *l = &b->layers[i];
        l->in = in;
        l->in_size = sl_shape_size(&in);
        l->previous = previous;
        l->depth = depth;
        l->has_params_before = b->n_decls > 0;
        l->in_place = may_overwrite(b, l);
        enum sl_code rc = infer_parts(b, l, end - i - 1, err);
        if (rc == SL_OK)
            rc = l->ops->build(b, l, err);
        if (rc != SL_OK)
            return rc;
        if (!checked_size(&l->out, &l->out_size))
            return sl_layer_error(l, err, "output %s beyond %zu values",
                                  sl_shape_text(&l->out, text), SL_ACTIVATION_MAX);
        in = l->out;
        previous = i;
    }
    return SL_OK;
}

/* --- layout
 * --------------------------------------------------------------------------------- */

static enum sl_code place_role(struct sl_model *m, const struct sl_model_builder *b,
                               enum sl_tensor_role role, struct sl_err *err)
{
    for (size_t i = 0; i < b->n_decls; i++) {
        const struct sl_tensor_decl *d = &b->decls[i];
        if (d->role != role)
            continue;
        enum sl_code rc =
            sl_layout_add(&m->layout, d->name, role, d->n_dims, d->dim, err);
        if (rc != SL_OK)
            return sl_err_wrap(err, rc, "layer %zu", d->layer + 1);
        size_t t = m->layout.n_tensors - 1;
        m->start[t].init = d->init;
        m->start[t].fan_in = d->fan_in;
        m->start[t].no_decay = d->no_decay;
        m->layers[d->layer].at[d->slot] = m->layout.tensors[t].offset;
    }
    return SL_OK;
}

static enum sl_code place_tensors(struct sl_model *m, const struct sl_model_builder *b,
                                  struct sl_err *err)
{
    m->start = sl_calloc(b->n_decls, sizeof(*m->start));
    if (m->start == NULL)
        return sl_err_set(err, SL_E_NOMEM, "model of %zu tensors", b->n_decls);
    enum sl_code rc = place_role(m, b, SL_TENSOR_PARAM, err);
    m->n_params = m->layout.n_values;
    if (rc == SL_OK)
        rc = place_role(m, b, SL_TENSOR_BUFFER, err);
    if (rc == SL_OK)
        rc = place_role(m, b, SL_TENSOR_FIXED, err);
    return rc;
}

/* --- model
 * ---------------------------------------------------------------------------------- */

static enum sl_code take_specs(struct sl_model *m, struct sl_model_builder *b,
                               const struct sl_model_spec *spec, struct sl_err *err)
{
    if (spec->n_layers == 0 || spec->n_layers > SL_LAYERS_MAX)
        return sl_err_set(err, SL_E_INPUT, "model of %zu layers (1 to %d)",
                          spec->n_layers, SL_LAYERS_MAX);
    m->layers = sl_calloc(spec->n_layers, sizeof(*m->layers));
    if (m->layers == NULL)
        return sl_err_set(err, SL_E_NOMEM, "model of %zu layers", spec->n_layers);
    m->n_layers = spec->n_layers;
    b->layers = m->layers;
    b->n_layers = m->n_layers;
    for (size_t i = 0; i < m->n_layers; i++) {
        struct sl_layer *l = &m->layers[i];
        l->spec = spec->layers[i];
        l->number = i;
        l->ops = sl_layer_ops_of(l->spec.kind);
        if (l->ops == NULL)
            return sl_err_set(err, SL_E_INPUT, "layer %zu: unknown kind %d", i + 1,
                              (int)l->spec.kind);
        name_layer(b, l);
        if (l->spec.kind == SL_LAYER_BATCHNORM)
            m->needs_whole_batch = true;
    }
    return SL_OK;
}

static enum sl_code build_into(struct sl_model *m, struct sl_model_builder *b,
                               const struct sl_model_spec *spec,
                               const struct sl_shape *input, struct sl_err *err)
{
    char text[SL_SHAPE_TEXT];
    if (!checked_size(input, &m->input_size))
        return sl_err_set(
            err, SL_E_INPUT, "model input %s (1 to %d dimensions, at most %zu values)",
            input->n_dims <= SL_SHAPE_DIMS ? sl_shape_text(input, text) : "",
            SL_SHAPE_DIMS, SL_ACTIVATION_MAX);
    m->input = *input;
    enum sl_code rc = take_specs(m, b, spec, err);
    if (rc == SL_OK)
        rc = infer(b, 0, m->n_layers, *input, 0, err);
    if (rc == SL_OK)
        rc = place_tensors(m, b, err);
    if (rc != SL_OK)
        return rc;
    size_t last = 0;
    for (size_t i = 0; i < m->n_layers; i += sl_layer_span(&m->layers[i].spec))
        last = i;
    m->output = m->layers[last].out;
    m->output_size = m->layers[last].out_size;
    m->n_classes = (uint32_t)m->output_size;
    return SL_OK;
}

enum sl_code sl_model_build(const struct sl_model_spec *spec,
                            const struct sl_shape *input, struct sl_model **ret,
                            struct sl_err *err)
{
    struct sl_model_builder b = {0};
    struct sl_model *m = sl_calloc(1, sizeof(*m));
    if (m == NULL)
        return sl_err_set(err, SL_E_NOMEM, "model");
    enum sl_code rc = build_into(m, &b, spec, input, err);
    free(b.decls);
    if (rc != SL_OK) {
        sl_model_free(m);
        return rc;
    }
    *ret = m;
    return SL_OK;
}

enum sl_code sl_model_new(const struct sl_model_spec *spec, const struct sl_shape *input,
                          uint32_t n_classes, enum sl_loss loss, struct sl_model **ret,
                          struct sl_err *err)
{
    struct sl_model *m = NULL;
    char text[SL_SHAPE_TEXT];
    enum sl_code rc = sl_model_build(spec, input, &m, err);
    if (rc != SL_OK)
        return rc;
    if (m->output.n_dims != 1 || m->output.dim[0] != n_classes) {
        rc = sl_err_set(err, SL_E_INPUT,
                        "the last layer gives %s, the data have %u classes",
                        sl_shape_text(&m->output, text), n_classes);
        sl_model_free(m);
        return rc;
    }
    m->loss = loss;
    *ret = m;
    return SL_OK;
}

void sl_model_free(struct sl_model *m)
{
    if (m == NULL)
        return;
    sl_layout_deinit(&m->layout);
    free(m->start);
    free(m->layers);
    free(m);
}

const struct sl_layout *sl_model_layout(const struct sl_model *m)
{
    return &m->layout;
}

size_t sl_model_n_params(const struct sl_model *m)
{
    return m->n_params;
}

size_t sl_model_n_travelling(const struct sl_model *m)
{
    return sl_layout_travelling(&m->layout);
}

bool sl_model_head(const struct sl_model *m, struct sl_head_info *ret)
{
    size_t last = 0;
    for (size_t i = 0; i < m->n_layers; i += sl_layer_span(&m->layers[i].spec))
        last = i;
    const struct sl_layer *l = &m->layers[last];
    bool fixed = l->spec.kind == SL_LAYER_SPHERE;
    if ((!fixed && l->spec.kind != SL_LAYER_DENSE) || l->in.n_dims != 1)
        return false;
    *ret = (struct sl_head_info){.fixed = fixed,
                                 .width = l->in_size,
                                 .classes = l->out_size,
                                 .weight = l->at[0],
                                 .bias = l->spec.bias ? l->at[1] : SIZE_MAX,
                                 .layer = last,
                                 .scale = fixed ? l->spec.scale : 1.0f};
    return true;
}

uint32_t sl_model_n_classes(const struct sl_model *m)
{
    return m->n_classes;
}

const struct sl_shape *sl_model_input(const struct sl_model *m)
{
    return &m->input;
}
