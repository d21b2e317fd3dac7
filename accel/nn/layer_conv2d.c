/* SPDX-License-Identifier: Apache-2.0 */
/* layer_conv2d.c - cross-correlation of [C,H,W] with w [out, C, k, k], zero padding, and
 * a bias per output channel. The unit does the arithmetic. */
#include "accel/nn/layer.h"

#include "accel/nn/conv_geometry.h"
#include "common/mem.h"

struct sl_conv_geometry sl_conv_geometry_of(const struct sl_layer *l)
{
    return (struct sl_conv_geometry){
        .in_c = l->in.dim[0],
        .in_h = l->in.dim[1],
        .in_w = l->in.dim[2],
        .out_c = l->out.dim[0],
        .out_h = l->out.dim[1],
        .out_w = l->out.dim[2],
        .kernel = l->spec.kernel,
        .stride = l->spec.stride,
        .pad = l->spec.pad,
    };
}

static enum sl_code check_columns(const struct sl_layer *l, struct sl_err *err)
{
    size_t n = (size_t)l->in.dim[0];
    if (!sl_size_mul(n, l->spec.kernel, &n) || !sl_size_mul(n, l->spec.kernel, &n) ||
        n > SL_ACTIVATION_MAX ||
        !sl_size_mul(n, l->out.dim[1] + 2 * (size_t)l->spec.pad, &n) ||
        !sl_size_mul(n, l->out.dim[2], &n) || n > SL_ACTIVATION_MAX)
        return sl_layer_error(l, err, "more than %zu values in an image's columns",
                              SL_ACTIVATION_MAX);
    return SL_OK;
}

static enum sl_code build(struct sl_model_builder *b, struct sl_layer *l,
                          struct sl_err *err)
{
    const struct sl_layer_spec *s = &l->spec;
    enum sl_code rc = sl_window_shape(l, s->out, err);
    if (rc == SL_OK)
        rc = check_columns(l, err);
    if (rc != SL_OK)
        return rc;
    uint32_t dim[4] = {s->out, l->in.dim[0], s->kernel, s->kernel};
    size_t fan_in = (size_t)l->in.dim[0] * s->kernel * s->kernel;
    rc = sl_layer_declare(b, l, "weight", SL_TENSOR_PARAM, 4, dim,
                          SL_TENSOR_UNIFORM_WEIGHT, fan_in, err);
    if (rc == SL_OK && s->bias)
        rc = sl_layer_declare(b, l, "bias", SL_TENSOR_PARAM, 1, dim,
                              SL_TENSOR_UNIFORM_BIAS, fan_in, err);
    return rc;
}

static void forward(const struct sl_layer *l, const struct sl_pass_ctx *c, const float *x,
                    float *y, void *aux)
{
    struct sl_conv_geometry g = sl_conv_geometry_of(l);
    c->unit->unit->conv_forward(c->unit, &g, c->n, x, sl_layer_value(l, c, 0), y);
    if (l->spec.bias)
        c->k->conv.bias_planes(sl_layer_value(l, c, 1), y, c->n * g.out_c, g.out_c,
                               (size_t)g.out_h * g.out_w);
}

static void backward(const struct sl_layer *l, const struct sl_pass_ctx *c,
                     const float *x, const float *y, float *dy, float *dx, void *aux)
{
    struct sl_conv_geometry g = sl_conv_geometry_of(l);
    if (dx != NULL)
        c->unit->unit->conv_backward_data(c->unit, &g, c->n, dy, sl_layer_value(l, c, 0),
                                          dx);
    c->unit->unit->conv_backward_weights(c->unit, &g, c->n, x, dy, c->accumulate,
                                         sl_layer_grad(l, c, 0));
    if (l->spec.bias)
        c->k->conv.bias_planes_grad(dy, c->n, g.out_c, (size_t)g.out_h * g.out_w,
                                    c->accumulate, sl_layer_grad(l, c, 1));
}

static void unit_bytes(const struct sl_layer *l, size_t n, const struct sl_matmul_unit *u,
                       const struct sl_unit_options *o, struct sl_unit_bytes *ret)
{
    struct sl_conv_geometry g = sl_conv_geometry_of(l);
    u->conv_bytes(o, &g, n, ret);
}

const struct sl_layer_ops sl_layer_conv2d = {
    .kind = SL_LAYER_CONV2D,
    .prefix = "conv",
    .build = build,
    .unit_bytes = unit_bytes,
    .forward = forward,
    .backward = backward,
};
