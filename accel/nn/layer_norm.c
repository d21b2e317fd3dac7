/* SPDX-License-Identifier: Apache-2.0 */
/* layer_norm.c - layer norm (Ba et al. 2016) and group norm (Wu, He 2018).
 * Both normalise segments of consecutive values: xhat = (x - mean) / sqrt(var + eps),
 * biased variance, then weight and bias: per value of the segment (layer norm over the
 * last dimension) or per channel (group norm). Kept for backward: xhat, and 1 / sqrt(var
 * + eps) per segment. */
#include "accel/nn/layer.h"

#include <math.h>
#include <string.h>

#include "common/mem.h"

/* xhat and inv of `count` segments of `size` values. */
static void normalise_segments(const struct sl_elem_ops *e, size_t count, size_t size,
                               float eps, const float *x, float *xhat, float *inv)
{
    for (size_t s = 0; s < count; s++, x += size, xhat += size) {
        float mean = e->sum(x, size) / (float)size;
        float var = e->square_deviation(x, mean, size) / (float)size;
        inv[s] = 1.0f / sqrtf(var + eps);
        e->normalise(mean, inv[s], x, xhat, size);
    }
}

/* Turns dxhat into dx, in place. */
static void segment_gradients(const struct sl_elem_ops *e, size_t count, size_t size,
                              const float *xhat, const float *inv, float *dx)
{
    for (size_t s = 0; s < count; s++, dx += size, xhat += size) {
        float m1 = e->sum(dx, size) / (float)size;
        float m2 = e->dot(dx, xhat, size) / (float)size;
        e->norm_grad(inv[s], m1, m2, dx, xhat, dx, size);
    }
}

static size_t aux_of(const struct sl_layer *l, size_t n, size_t segments)
{
    return sl_arena_cost(n * l->in_size * sizeof(float)) + n * segments * sizeof(float);
}

static float *inv_of(const struct sl_layer *l, const struct sl_pass_ctx *c, void *aux)
{
    return (float *)((uint8_t *)aux + sl_arena_cost(c->n * l->in_size * sizeof(float)));
}

static void clear_affine_gradient(const struct sl_layer *l, const struct sl_pass_ctx *c,
                                  size_t size)
{
    if (c->accumulate)
        return;
    memset(sl_layer_grad(l, c, 0), 0, size * sizeof(float));
    memset(sl_layer_grad(l, c, 1), 0, size * sizeof(float));
}

static enum sl_code check_eps(const struct sl_layer *l, struct sl_err *err)
{
    if (!(l->spec.eps > 0.0f && l->spec.eps <= 1.0f))
        return sl_layer_error(l, err, "eps %g (0 < eps <= 1)", (double)l->spec.eps);
    return SL_OK;
}

/* --- layer norm
 * ----------------------------------------------------------------------------- */

static size_t width_of(const struct sl_layer *l)
{
    return l->in.dim[l->in.n_dims - 1];
}

static enum sl_code build_layernorm(struct sl_model_builder *b, struct sl_layer *l,
                                    struct sl_err *err)
{
    enum sl_code rc = check_eps(l, err);
    if (rc != SL_OK)
        return rc;
    l->out = l->in;
    return sl_layer_declare_affine(b, l, (uint32_t)width_of(l), err);
}

static size_t layernorm_aux_bytes(const struct sl_layer *l, size_t n)
{
    return aux_of(l, n, l->in_size / width_of(l));
}

static void layernorm_forward(const struct sl_layer *l, const struct sl_pass_ctx *c,
                              const float *x, float *y, void *aux)
{
    size_t width = width_of(l), rows = c->n * (l->in_size / width);
    float *xhat = aux;
    normalise_segments(&c->k->elem, rows, width, l->spec.eps, x, xhat, inv_of(l, c, aux));
    for (size_t r = 0; r < rows; r++)
        c->k->elem.mul_add(xhat + r * width, sl_layer_value(l, c, 0),
                           sl_layer_value(l, c, 1), y + r * width, width);
}

static void layernorm_backward(const struct sl_layer *l, const struct sl_pass_ctx *c,
                               const float *x, const float *y, float *dy, float *dx,
                               void *aux)
{
    size_t width = width_of(l), rows = c->n * (l->in_size / width);
    const float *xhat = aux;
    clear_affine_gradient(l, c, width);
    for (size_t r = 0; r < rows; r++)
        c->k->elem.mul_acc(dy + r * width, xhat + r * width, sl_layer_grad(l, c, 0),
                           width);
    c->k->elem.bias_rows_grad(dy, rows, width, true, sl_layer_grad(l, c, 1));
    if (dx == NULL)
        return;
    for (size_t r = 0; r < rows; r++)
        c->k->elem.mul(dy + r * width, sl_layer_value(l, c, 0), dx + r * width, width);
    segment_gradients(&c->k->elem, rows, width, xhat, inv_of(l, c, aux), dx);
}

const struct sl_layer_ops sl_layer_layernorm = {
    .kind = SL_LAYER_LAYERNORM,
    .prefix = "norm",
    .build = build_layernorm,
    .aux_bytes = layernorm_aux_bytes,
    .forward = layernorm_forward,
    .backward = layernorm_backward,
};

/* --- group norm
 * ----------------------------------------------------------------------------- */

static enum sl_code build_groupnorm(struct sl_model_builder *b, struct sl_layer *l,
                                    struct sl_err *err)
{
    uint32_t channels = l->in.dim[0], groups = l->spec.groups;
    enum sl_code rc = check_eps(l, err);
    if (rc != SL_OK)
        return rc;
    if (l->in.n_dims == 2)
        return sl_layer_error(l, err, "input of 2 dimensions ([C,H,W] or [C] wanted)");
    if (groups == 0 || channels % groups != 0)
        return sl_layer_error(l, err, "%u groups for %u channels (must divide them)",
                              groups, channels);
    l->out = l->in;
    return sl_layer_declare_affine(b, l, channels, err);
}

static size_t groupnorm_aux_bytes(const struct sl_layer *l, size_t n)
{
    return aux_of(l, n, l->spec.groups);
}

static void groupnorm_forward(const struct sl_layer *l, const struct sl_pass_ctx *c,
                              const float *x, float *y, void *aux)
{
    size_t channels = l->in.dim[0], places = l->in_size / channels;
    size_t segments = c->n * l->spec.groups;
    const float *w = sl_layer_value(l, c, 0), *b = sl_layer_value(l, c, 1);
    float *xhat = aux;
    normalise_segments(&c->k->elem, segments, l->in_size / l->spec.groups, l->spec.eps, x,
                       xhat, inv_of(l, c, aux));
    for (size_t p = 0; p < c->n * channels; p++)
        c->k->elem.affine(w[p % channels], b[p % channels], xhat + p * places,
                          y + p * places, places);
}

static void groupnorm_backward(const struct sl_layer *l, const struct sl_pass_ctx *c,
                               const float *x, const float *y, float *dy, float *dx,
                               void *aux)
{
    size_t channels = l->in.dim[0], places = l->in_size / channels;
    const float *w = sl_layer_value(l, c, 0), *xhat = aux;
    float *dw = sl_layer_grad(l, c, 0), *db = sl_layer_grad(l, c, 1);
    clear_affine_gradient(l, c, channels);
    for (size_t p = 0; p < c->n * channels; p++) {
        dw[p % channels] += c->k->elem.dot(dy + p * places, xhat + p * places, places);
        db[p % channels] += c->k->elem.sum(dy + p * places, places);
        if (dx != NULL)
            c->k->elem.affine(w[p % channels], 0.0f, dy + p * places, dx + p * places,
                              places);
    }
    if (dx != NULL)
        segment_gradients(&c->k->elem, c->n * l->spec.groups, l->in_size / l->spec.groups,
                          xhat, inv_of(l, c, aux), dx);
}

const struct sl_layer_ops sl_layer_groupnorm = {
    .kind = SL_LAYER_GROUPNORM,
    .prefix = "norm",
    .build = build_groupnorm,
    .aux_bytes = groupnorm_aux_bytes,
    .forward = groupnorm_forward,
    .backward = groupnorm_backward,
};
