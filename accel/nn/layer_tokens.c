/* SPDX-License-Identifier: Apache-2.0 */
/* layer_tokens.c - y[D] = mean over the tokens of x[T,D]. */
#include "accel/nn/layer.h"

#include <string.h>

static enum sl_code build(struct sl_model_builder *b, struct sl_layer *l,
                          struct sl_err *err)
{
    char text[SL_SHAPE_TEXT];
    if (l->in.n_dims != 2)
        return sl_layer_error(l, err, "input %s (tokens and width wanted)",
                              sl_shape_text(&l->in, text));
    l->out = (struct sl_shape){.n_dims = 1, .dim = {l->in.dim[1]}};
    return SL_OK;
}

static void forward(const struct sl_layer *l, const struct sl_pass_ctx *c, const float *x,
                    float *y, void *aux)
{
    size_t t = l->in.dim[0], d = l->in.dim[1];
    for (size_t i = 0; i < c->n; i++, x += t * d, y += d) {
        c->k->elem.bias_rows_grad(x, t, d, false, y);
        c->k->elem.affine(1.0f / (float)t, 0.0f, y, y, d);
    }
}

static void backward(const struct sl_layer *l, const struct sl_pass_ctx *c,
                     const float *x, const float *y, float *dy, float *dx, void *aux)
{
    size_t t = l->in.dim[0], d = l->in.dim[1];
    for (size_t r = 0; dx != NULL && r < c->n * t; r++)
        c->k->elem.affine(1.0f / (float)t, 0.0f, dy + r / t * d, dx + r * d, d);
}

const struct sl_layer_ops sl_layer_mean_tokens = {
    .kind = SL_LAYER_MEAN_TOKENS,
    .build = build,
    .forward = forward,
    .backward = backward,
};
