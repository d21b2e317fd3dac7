/* SPDX-License-Identifier: Apache-2.0 */
/* layer_residual.c - y = shortcut(x) + body(x) (He et al. 2016); no shortcut: the
 * identity. Body and shortcut are the layers that follow in the model's array; their
 * shapes are inferred by the model's builder, which calls build when both are known. */
#include "accel/nn/layer.h"

#include <string.h>

#include "accel/nn/net.h"

static size_t body_of(const struct sl_layer *l)
{
    return l->number + 1;
}

static size_t shortcut_of(const struct sl_layer *l)
{
    return l->number + 1 + l->spec.n_body;
}

static enum sl_code build(struct sl_model_builder *b, struct sl_layer *l,
                          struct sl_err *err)
{
    char text[2][SL_SHAPE_TEXT];
    if (l->spec.n_body == 0)
        return sl_layer_error(l, err, "no body (at least 1 layer)");
    struct sl_shape body = sl_sequence_output(b->layers, body_of(l), l->spec.n_body);
    struct sl_shape other =
        l->spec.n_shortcut == 0
            ? l->in
            : sl_sequence_output(b->layers, shortcut_of(l), l->spec.n_shortcut);
    if (!sl_shape_equal(&body, &other))
        return sl_layer_error(l, err, "body gives %s, shortcut %s (must be equal)",
                              sl_shape_text(&body, text[0]),
                              sl_shape_text(&other, text[1]));
    l->out = body;
    return SL_OK;
}

static void forward(const struct sl_layer *l, const struct sl_pass_ctx *c, const float *x,
                    float *y, void *aux)
{
    const float *body = sl_net_sequence_forward(c, body_of(l), l->spec.n_body, x);
    const float *other =
        l->spec.n_shortcut == 0
            ? x
            : sl_net_sequence_forward(c, shortcut_of(l), l->spec.n_shortcut, x);
    c->k->elem.add(other, body, y, c->n * l->out_size);
}

/* dx = body's + shortcut's. Each walks down from a copy of dy in the buffers of its
 * depth. */
static void backward(const struct sl_layer *l, const struct sl_pass_ctx *c,
                     const float *x, const float *y, float *dy, float *dx, void *aux)
{
    size_t out = c->n * l->out_size, in = c->n * l->in_size;
    const float *from_body =
        sl_net_sequence_backward(c, body_of(l), l->spec.n_body, x, dy, dx != NULL);
    if (l->spec.n_shortcut == 0) {
        if (dx != NULL)
            c->k->elem.add(dy, from_body, dx, out);
        return;
    }
    if (dx != NULL)
        memcpy(dx, from_body, in * sizeof(*dx));
    const float *from_shortcut = sl_net_sequence_backward(
        c, shortcut_of(l), l->spec.n_shortcut, x, dy, dx != NULL);
    if (dx != NULL)
        c->k->elem.add(from_shortcut, dx, dx, in);
}

const struct sl_layer_ops sl_layer_residual = {
    .kind = SL_LAYER_RESIDUAL,
    .build = build,
    .forward = forward,
    .backward = backward,
};
