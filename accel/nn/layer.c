/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/nn/layer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct sl_layer_ops *const kinds[] = {
    &sl_layer_dense,         &sl_layer_conv2d,         &sl_layer_maxpool,
    &sl_layer_avgpool,       &sl_layer_relu,           &sl_layer_gelu_erf,
    &sl_layer_gelu_tanh,     &sl_layer_flatten,        &sl_layer_dropout,
    &sl_layer_layernorm,     &sl_layer_groupnorm,      &sl_layer_batchnorm,
    &sl_layer_mhsa,          &sl_layer_mean_tokens,    &sl_layer_residual,
    &sl_layer_ternary_dense, &sl_layer_ternary_conv2d, &sl_layer_sphere,
};

const struct sl_layer_ops *sl_layer_ops_of(enum sl_layer_kind kind)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (kinds[i]->kind == kind)
            return kinds[i];
    return NULL;
}

size_t sl_shape_size(const struct sl_shape *s)
{
    size_t n = 1;
    for (unsigned d = 0; d < s->n_dims; d++)
        n *= s->dim[d];
    return n;
}

bool sl_shape_equal(const struct sl_shape *a, const struct sl_shape *b)
{
    if (a->n_dims != b->n_dims)
        return false;
    for (unsigned d = 0; d < a->n_dims; d++)
        if (a->dim[d] != b->dim[d])
            return false;
    return true;
}

const char *sl_shape_text(const struct sl_shape *s, char ret[SL_SHAPE_TEXT])
{
    size_t at = 0;
    at += (size_t)snprintf(ret, SL_SHAPE_TEXT, "[");
    for (unsigned d = 0; d < s->n_dims; d++)
        at += (size_t)snprintf(ret + at, SL_SHAPE_TEXT - at, d == 0 ? "%u" : ", %u",
                               s->dim[d]);
    snprintf(ret + at, SL_SHAPE_TEXT - at, "]");
    return ret;
}

size_t sl_layer_span(const struct sl_layer_spec *s)
{
    return s->kind == SL_LAYER_RESIDUAL ? 1 + (size_t)s->n_body + s->n_shortcut : 1;
}

enum sl_code sl_layer_error(const struct sl_layer *l, struct sl_err *err, const char *fmt,
                            ...)
{
    char text[SL_ERR_MAX / 2];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    return sl_err_set(err, SL_E_INPUT, "layer %zu (%s): %s", l->number + 1,
                      sl_layer_kind_name(l->spec.kind), text);
}

enum sl_code sl_layer_declare(struct sl_model_builder *b, struct sl_layer *l,
                              const char *suffix, enum sl_tensor_role role,
                              unsigned n_dims, const uint32_t *dim,
                              enum sl_tensor_init init, size_t fan_in, struct sl_err *err)
{
    struct sl_tensor_decl d = {.role = role,
                               .n_dims = n_dims,
                               .init = init,
                               .fan_in = fan_in,
                               .layer = l->number,
                               .slot = l->n_tensors};
    int len = snprintf(d.name, sizeof(d.name), "%s.%s", l->spec.name, suffix);
    if (len < 0 || (size_t)len >= sizeof(d.name))
        return sl_layer_error(l, err, "tensor name \"%s.%s\" longer than %zu bytes",
                              l->spec.name, suffix, sizeof(d.name) - 1);
    for (unsigned i = 0; i < n_dims; i++)
        d.dim[i] = dim[i];
    struct sl_tensor_decl *more = realloc(b->decls, (b->n_decls + 1) * sizeof(*more));
    if (more == NULL)
        return sl_err_set(err, SL_E_NOMEM, "tensor %s", d.name);
    b->decls = more;
    b->decls[b->n_decls++] = d;
    l->n_tensors++;
    return SL_OK;
}

enum sl_code sl_layer_declare_dense(struct sl_model_builder *b, struct sl_layer *l,
                                    const char *part, uint32_t out, uint32_t in,
                                    bool bias, struct sl_err *err)
{
    char suffix[32];
    uint32_t dim[2] = {out, in};
    snprintf(suffix, sizeof(suffix), "%sweight", part);
    enum sl_code rc = sl_layer_declare(b, l, suffix, SL_TENSOR_PARAM, 2, dim,
                                       SL_TENSOR_UNIFORM_WEIGHT, in, err);
    if (rc != SL_OK || !bias)
        return rc;
    snprintf(suffix, sizeof(suffix), "%sbias", part);
    return sl_layer_declare(b, l, suffix, SL_TENSOR_PARAM, 1, dim, SL_TENSOR_UNIFORM_BIAS,
                            in, err);
}

enum sl_code sl_layer_declare_affine(struct sl_model_builder *b, struct sl_layer *l,
                                     uint32_t size, struct sl_err *err)
{
    enum sl_code rc = sl_layer_declare(b, l, "weight", SL_TENSOR_PARAM, 1, &size,
                                       SL_TENSOR_ONES, size, err);
    if (rc == SL_OK)
        rc = sl_layer_declare(b, l, "bias", SL_TENSOR_PARAM, 1, &size, SL_TENSOR_ZEROS,
                              size, err);
    return rc;
}
