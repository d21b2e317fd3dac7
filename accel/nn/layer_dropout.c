/* SPDX-License-Identifier: Apache-2.0 */
/* layer_dropout.c - each value is 0 with chance `rate`, else scaled by 1 / (1 - rate);
 * identity outside training. Srivastava et al. 2014, scaled at training time. The mask is
 * word `position` of the stream (seed, SL_RNG_DROPOUT, client, round, step, tensor =
 * layer), position counted over the whole batch: parts of a batch draw what the whole
 * would. */
#include "accel/nn/layer.h"

#include <string.h>

static enum sl_code build(struct sl_model_builder *b, struct sl_layer *l,
                          struct sl_err *err)
{
    if (!(l->spec.rate >= 0.0f && l->spec.rate < 1.0f))
        return sl_layer_error(l, err, "rate %g (0 <= rate < 1)", (double)l->spec.rate);
    l->out = l->in;
    return SL_OK;
}

static size_t aux_bytes(const struct sl_layer *l, size_t n)
{
    return n * l->out_size; /* 1 where a value is kept */
}

static void draw_mask(const struct sl_layer *l, const struct sl_pass_ctx *c,
                      uint8_t *keep)
{
    struct sl_rng_id id = c->draw;
    struct sl_rng r;
    uint32_t drop_below = (uint32_t)((double)l->spec.rate * 4294967296.0);
    uint64_t first = (uint64_t)c->first * l->out_size, n = (uint64_t)c->n * l->out_size,
             i = 0;
    id.purpose = SL_RNG_DROPOUT;
    id.tensor = (uint32_t)l->number;
    sl_rng_init(&r, &id);
    for (; i < n && (first + i) % 4 != 0; i++)
        keep[i] = sl_rng_at(&r, first + i) >= drop_below;
    r.block = (first + i) / 4;
    r.left = 0;
    for (; i < n; i++)
        keep[i] = sl_rng_u32(&r) >= drop_below;
}

static void forward(const struct sl_layer *l, const struct sl_pass_ctx *c, const float *x,
                    float *y, void *aux)
{
    size_t n = c->n * l->out_size;
    if (!c->train) {
        if (y != x)
            memcpy(y, x, n * sizeof(*y));
        return;
    }
    draw_mask(l, c, aux);
    c->k->elem.mask_scale(aux, 1.0f / (1.0f - l->spec.rate), x, y, n);
}

static void backward(const struct sl_layer *l, const struct sl_pass_ctx *c,
                     const float *x, const float *y, float *dy, float *dx, void *aux)
{
    size_t n = c->n * l->out_size;
    if (dx == NULL)
        return;
    if (c->train)
        c->k->elem.mask_scale(aux, 1.0f / (1.0f - l->spec.rate), dy, dx, n);
    else if (dx != dy)
        memcpy(dx, dy, n * sizeof(*dx));
}

const struct sl_layer_ops sl_layer_dropout = {
    .kind = SL_LAYER_DROPOUT,
    .in_place = true,
    .grad_in_place = true,
    .build = build,
    .aux_bytes = aux_bytes,
    .forward = forward,
    .backward = backward,
};
