/* SPDX-License-Identifier: Apache-2.0 */
/* layer_batchnorm.c - batch norm (Ioffe, Szegedy 2015) per channel of [C,H,W] or [C].
 * Training: mean and biased variance over the batch and all places; running statistics
 * follow with `momentum` (the variance unbiased, and biased where there is one value
 * only). Evaluation: running statistics, which carry no gradient. They are buffers of the
 * model. Kept for backward: xhat and 1 / sqrt(var + eps) per channel. */
#include "accel/nn/layer.h"

#include <math.h>
#include <string.h>

#include "common/mem.h"

enum { WEIGHT, BIAS, RUNNING_MEAN, RUNNING_VAR };

static enum sl_code build(struct sl_model_builder *b, struct sl_layer *l,
                          struct sl_err *err)
{
    uint32_t channels = l->in.dim[0];
    if (l->in.n_dims == 2)
        return sl_layer_error(l, err, "input of 2 dimensions ([C,H,W] or [C] wanted)");
    if (!(l->spec.eps > 0.0f && l->spec.eps <= 1.0f))
        return sl_layer_error(l, err, "eps %g (0 < eps <= 1)", (double)l->spec.eps);
    if (!(l->spec.momentum >= 0.0f && l->spec.momentum <= 1.0f))
        return sl_layer_error(l, err, "momentum %g (0 to 1)", (double)l->spec.momentum);
    l->out = l->in;
    enum sl_code rc = sl_layer_declare_affine(b, l, channels, err);
    if (rc == SL_OK)
        rc = sl_layer_declare(b, l, "running_mean", SL_TENSOR_BUFFER, 1, &channels,
                              SL_TENSOR_ZEROS, channels, err);
    if (rc == SL_OK)
        rc = sl_layer_declare(b, l, "running_var", SL_TENSOR_BUFFER, 1, &channels,
                              SL_TENSOR_ONES, channels, err);
    return rc;
}

static size_t aux_bytes(const struct sl_layer *l, size_t n)
{
    return sl_arena_cost(n * l->in_size * sizeof(float)) + l->in.dim[0] * sizeof(float);
}

static float *inv_of(const struct sl_layer *l, const struct sl_pass_ctx *c, void *aux)
{
    return (float *)((uint8_t *)aux + sl_arena_cost(c->n * l->in_size * sizeof(float)));
}

static void follow(const struct sl_layer *l, const struct sl_pass_ctx *c, size_t channel,
                   double mean, double var, size_t count)
{
    if (c->stats == NULL)
        return;
    float m = l->spec.momentum;
    double unbiased = count > 1 ? var * (double)count / (double)(count - 1) : var;
    float *rm = c->stats + l->at[RUNNING_MEAN] + channel;
    float *rv = c->stats + l->at[RUNNING_VAR] + channel;
    *rm = (1.0f - m) * *rm + m * (float)mean;
    *rv = (1.0f - m) * *rv + m * (float)unbiased;
}

/* Mean and variance of a channel: of the batch, or as they run. */
static void statistics(const struct sl_layer *l, const struct sl_pass_ctx *c,
                       const float *x, size_t channel, float *ret_mean, float *ret_var)
{
    size_t channels = l->in.dim[0], places = l->in_size / channels, count = c->n * places;
    if (!c->train) {
        *ret_mean = sl_layer_value(l, c, RUNNING_MEAN)[channel];
        *ret_var = sl_layer_value(l, c, RUNNING_VAR)[channel];
        return;
    }
    double sum = 0.0, squares = 0.0;
    for (size_t i = 0; i < c->n; i++)
        sum += (double)c->k->elem.sum(x + (i * channels + channel) * places, places);
    *ret_mean = (float)(sum / (double)count);
    for (size_t i = 0; i < c->n; i++)
        squares += (double)c->k->elem.square_deviation(
            x + (i * channels + channel) * places, *ret_mean, places);
    *ret_var = (float)(squares / (double)count);
    follow(l, c, channel, sum / (double)count, squares / (double)count, count);
}

static void forward(const struct sl_layer *l, const struct sl_pass_ctx *c, const float *x,
                    float *y, void *aux)
{
    size_t channels = l->in.dim[0], places = l->in_size / channels;
    const float *w = sl_layer_value(l, c, WEIGHT), *b = sl_layer_value(l, c, BIAS);
    float *xhat = aux, *inv = inv_of(l, c, aux);
    for (size_t ch = 0; ch < channels; ch++) {
        float mean, var;
        statistics(l, c, x, ch, &mean, &var);
        inv[ch] = 1.0f / sqrtf(var + l->spec.eps);
        for (size_t i = 0; i < c->n; i++) {
            size_t at = (i * channels + ch) * places;
            c->k->elem.normalise(mean, inv[ch], x + at, xhat + at, places);
            c->k->elem.affine(w[ch], b[ch], xhat + at, y + at, places);
        }
    }
}

/* With batch statistics dx = inv w (dy - mean(dy) - xhat mean(dy xhat)); without, inv w
 * dy. */
static void backward(const struct sl_layer *l, const struct sl_pass_ctx *c,
                     const float *x, const float *y, float *dy, float *dx, void *aux)
{
    size_t channels = l->in.dim[0], places = l->in_size / channels, count = c->n * places;
    float *dw = sl_layer_grad(l, c, WEIGHT), *db = sl_layer_grad(l, c, BIAS);
    const float *w = sl_layer_value(l, c, WEIGHT), *xhat = aux, *inv = inv_of(l, c, aux);
    for (size_t ch = 0; ch < channels; ch++) {
        double sum = 0.0, product = 0.0;
        for (size_t i = 0; i < c->n; i++) {
            size_t at = (i * channels + ch) * places;
            sum += (double)c->k->elem.sum(dy + at, places);
            product += (double)c->k->elem.dot(dy + at, xhat + at, places);
        }
        dw[ch] = (c->accumulate ? dw[ch] : 0.0f) + (float)product;
        db[ch] = (c->accumulate ? db[ch] : 0.0f) + (float)sum;
        float m1 = c->train ? (float)(sum / (double)count) : 0.0f;
        float m2 = c->train ? (float)(product / (double)count) : 0.0f;
        for (size_t i = 0; dx != NULL && i < c->n; i++) {
            size_t at = (i * channels + ch) * places;
            c->k->elem.norm_grad(inv[ch] * w[ch], m1, m2, dy + at, xhat + at, dx + at,
                                 places);
        }
    }
}

const struct sl_layer_ops sl_layer_batchnorm = {
    .kind = SL_LAYER_BATCHNORM,
    .prefix = "norm",
    .build = build,
    .aux_bytes = aux_bytes,
    .forward = forward,
    .backward = backward,
};
