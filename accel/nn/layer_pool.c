/* SPDX-License-Identifier: Apache-2.0 */
/* layer_pool.c - maximum and mean over windows of [C,H,W].
 * Maximum: padding never wins; the first maximum in row-major order takes the gradient;
 * its place is kept from forward to backward. Mean: no padding; kernel 0 is the whole
 * plane and gives [C]. */
#include "accel/nn/layer.h"

#include <string.h>

#include "accel/nn/conv_geometry.h"

#define WINDOW_MAX 4096 /* kernel, stride and pad of any window */

enum sl_code sl_window_shape(struct sl_layer *l, uint32_t channels, struct sl_err *err)
{
    const struct sl_layer_spec *s = &l->spec;
    char text[SL_SHAPE_TEXT];
    if (l->in.n_dims != 3)
        return sl_layer_error(l, err, "input %s (channels, height and width wanted)",
                              sl_shape_text(&l->in, text));
    if (channels == 0)
        return sl_layer_error(l, err, "out 0 (at least 1)");
    if (s->kernel == 0 || s->kernel > WINDOW_MAX || s->stride == 0 ||
        s->stride > WINDOW_MAX || s->pad >= s->kernel)
        return sl_layer_error(
            l, err,
            "kernel %u, stride %u, pad %u (kernel and stride 1 to %d, pad "
            "below kernel)",
            s->kernel, s->stride, s->pad, WINDOW_MAX);
    l->out = l->in;
    l->out.dim[0] = channels;
    for (unsigned d = 1; d < 3; d++) {
        uint64_t padded = (uint64_t)l->in.dim[d] + 2 * (uint64_t)s->pad;
        if (padded < s->kernel)
            return sl_layer_error(l, err, "kernel %u larger than the padded input %s",
                                  s->kernel, sl_shape_text(&l->in, text));
        l->out.dim[d] = (uint32_t)((padded - s->kernel) / s->stride + 1);
    }
    return SL_OK;
}

/* --- maximum
 * -------------------------------------------------------------------------------- */

static enum sl_code build_max(struct sl_model_builder *b, struct sl_layer *l,
                              struct sl_err *err)
{
    if (l->spec.kernel > SL_POOL_KERNEL_MAX)
        return sl_layer_error(l, err, "kernel %u (1 to %d)", l->spec.kernel,
                              SL_POOL_KERNEL_MAX);
    return sl_window_shape(l, l->in.dim[0], err);
}

static struct sl_pool_geometry pool_geometry(const struct sl_layer *l)
{
    return (struct sl_pool_geometry){
        .in_h = l->in.dim[1],
        .in_w = l->in.dim[2],
        .out_h = l->out.dim[1],
        .out_w = l->out.dim[2],
        .kernel = l->spec.kernel,
        .stride = l->spec.stride,
        .pad = l->spec.pad,
    };
}

static size_t max_aux_bytes(const struct sl_layer *l, size_t n)
{
    return n * l->out_size; /* places */
}

static void max_forward(const struct sl_layer *l, const struct sl_pass_ctx *c,
                        const float *x, float *y, void *aux)
{
    struct sl_pool_geometry g = pool_geometry(l);
    c->k->pool.max(&g, c->n * l->in.dim[0], x, y, aux);
}

static void max_backward(const struct sl_layer *l, const struct sl_pass_ctx *c,
                         const float *x, const float *y, float *dy, float *dx, void *aux)
{
    struct sl_pool_geometry g = pool_geometry(l);
    if (dx != NULL)
        c->k->pool.max_grad(&g, c->n * l->in.dim[0], dy, aux, dx);
}

const struct sl_layer_ops sl_layer_maxpool = {
    .kind = SL_LAYER_MAXPOOL,
    .build = build_max,
    .aux_bytes = max_aux_bytes,
    .forward = max_forward,
    .backward = max_backward,
};

/* --- mean
 * ----------------------------------------------------------------------------------- */

static enum sl_code build_avg(struct sl_model_builder *b, struct sl_layer *l,
                              struct sl_err *err)
{
    char text[SL_SHAPE_TEXT];
    if (l->spec.pad != 0)
        return sl_layer_error(l, err, "pad %u (0 only)", l->spec.pad);
    if (l->spec.kernel != 0)
        return sl_window_shape(l, l->in.dim[0], err);
    if (l->in.n_dims != 3)
        return sl_layer_error(l, err, "input %s (channels, height and width wanted)",
                              sl_shape_text(&l->in, text));
    l->out = (struct sl_shape){.n_dims = 1, .dim = {l->in.dim[0]}};
    return SL_OK;
}

static float window_sum(const float *x, size_t w, size_t k)
{
    float sum = 0.0f;
    for (size_t ky = 0; ky < k; ky++)
        for (size_t kx = 0; kx < k; kx++)
            sum += x[ky * w + kx];
    return sum;
}

static void avg_forward(const struct sl_layer *l, const struct sl_pass_ctx *c,
                        const float *x, float *y, void *aux)
{
    size_t h = l->in.dim[1], w = l->in.dim[2], planes = c->n * l->in.dim[0];
    size_t k = l->spec.kernel, s = l->spec.stride;
    for (size_t p = 0; p < planes; p++, x += h * w) {
        if (k == 0) {
            *y++ = c->k->elem.sum(x, h * w) / (float)(h * w);
            continue;
        }
        for (size_t oy = 0; oy < l->out.dim[1]; oy++)
            for (size_t ox = 0; ox < l->out.dim[2]; ox++)
                *y++ = window_sum(x + oy * s * w + ox * s, w, k) / (float)(k * k);
    }
}

static void window_add(float *dx, size_t w, size_t k, float value)
{
    for (size_t ky = 0; ky < k; ky++)
        for (size_t kx = 0; kx < k; kx++)
            dx[ky * w + kx] += value;
}

static void avg_backward(const struct sl_layer *l, const struct sl_pass_ctx *c,
                         const float *x, const float *y, float *dy, float *dx, void *aux)
{
    size_t h = l->in.dim[1], w = l->in.dim[2], planes = c->n * l->in.dim[0];
    size_t k = l->spec.kernel, s = l->spec.stride;
    if (dx == NULL)
        return;
    memset(dx, 0, planes * h * w * sizeof(*dx));
    for (size_t p = 0; p < planes; p++, dx += h * w) {
        if (k == 0) {
            float value = *dy++ / (float)(h * w);
            for (size_t i = 0; i < h * w; i++)
                dx[i] = value;
            continue;
        }
        for (size_t oy = 0; oy < l->out.dim[1]; oy++)
            for (size_t ox = 0; ox < l->out.dim[2]; ox++)
                window_add(dx + oy * s * w + ox * s, w, k, *dy++ / (float)(k * k));
    }
}

const struct sl_layer_ops sl_layer_avgpool = {
    .kind = SL_LAYER_AVGPOOL,
    .build = build_avg,
    .forward = avg_forward,
    .backward = avg_backward,
};
