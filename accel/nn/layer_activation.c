/* SPDX-License-Identifier: Apache-2.0 */
/* layer_activation.c - elementwise functions, and flatten, which only renames a shape. */
#include "accel/nn/layer.h"

static enum sl_code build_same(struct sl_model_builder *b, struct sl_layer *l,
                               struct sl_err *err)
{
    l->out = l->in;
    return SL_OK;
}

static void relu_forward(const struct sl_layer *l, const struct sl_pass_ctx *c,
                         const float *x, float *y, void *aux)
{
    c->k->elem.relu(x, y, c->n * l->in_size);
}

static void relu_backward(const struct sl_layer *l, const struct sl_pass_ctx *c,
                          const float *x, const float *y, float *dy, float *dx, void *aux)
{
    if (dx != NULL)
        c->k->elem.relu_grad(y, dy, dx, c->n * l->in_size);
}

const struct sl_layer_ops sl_layer_relu = {
    .kind = SL_LAYER_RELU,
    .in_place = true,
    .grad_in_place = true,
    .reads_y = true,
    .build = build_same,
    .forward = relu_forward,
    .backward = relu_backward,
};

static void gelu_erf_forward(const struct sl_layer *l, const struct sl_pass_ctx *c,
                             const float *x, float *y, void *aux)
{
    c->k->elem.gelu_erf(x, y, c->n * l->in_size);
}

static void gelu_erf_backward(const struct sl_layer *l, const struct sl_pass_ctx *c,
                              const float *x, const float *y, float *dy, float *dx,
                              void *aux)
{
    if (dx != NULL)
        c->k->elem.gelu_erf_grad(x, dy, dx, c->n * l->in_size);
}

const struct sl_layer_ops sl_layer_gelu_erf = {
    .kind = SL_LAYER_GELU_ERF,
    .grad_in_place = true,
    .build = build_same,
    .forward = gelu_erf_forward,
    .backward = gelu_erf_backward,
};

static void gelu_tanh_forward(const struct sl_layer *l, const struct sl_pass_ctx *c,
                              const float *x, float *y, void *aux)
{
    c->k->elem.gelu_tanh(x, y, c->n * l->in_size);
}

static void gelu_tanh_backward(const struct sl_layer *l, const struct sl_pass_ctx *c,
                               const float *x, const float *y, float *dy, float *dx,
                               void *aux)
{
    if (dx != NULL)
        c->k->elem.gelu_tanh_grad(x, dy, dx, c->n * l->in_size);
}

const struct sl_layer_ops sl_layer_gelu_tanh = {
    .kind = SL_LAYER_GELU_TANH,
    .grad_in_place = true,
    .build = build_same,
    .forward = gelu_tanh_forward,
    .backward = gelu_tanh_backward,
};

static enum sl_code build_flatten(struct sl_model_builder *b, struct sl_layer *l,
                                  struct sl_err *err)
{
    l->out = (struct sl_shape){.n_dims = 1, .dim = {(uint32_t)l->in_size}};
    return SL_OK;
}

const struct sl_layer_ops sl_layer_flatten = {
    .kind = SL_LAYER_FLATTEN,
    .view = true,
    .build = build_flatten,
};
