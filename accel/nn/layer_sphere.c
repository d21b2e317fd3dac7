/* SPDX-License-Identifier: Apache-2.0 */
/* layer_sphere.c - the fixed head of SphereFed (Dong et al. 2022): y = scale w0 x / |x|, w0 [out, in]
 * with orthonormal rows. w0 has no gradient; the unit's products are those of a dense layer. */
#include "accel/nn/layer.h"

#include "accel/nn/sphere_head.h"

static enum sl_code build(struct sl_model_builder *b, struct sl_layer *l,
                          struct sl_err *err)
{
    char text[SL_SHAPE_TEXT];
    if (l->in.n_dims != 1)
        return sl_layer_error(l, err, "input %s has %u dimensions (flatten it first)",
                              sl_shape_text(&l->in, text), l->in.n_dims);
    if (l->spec.out == 0 || l->in.dim[0] < l->spec.out)
        return sl_layer_error(l, err,
                              "%u features for %u classes (at least as many features as "
                              "classes, which are at least 1)",
                              l->in.dim[0], l->spec.out);
    l->out = l->in;
    l->out.dim[0] = l->spec.out;
    return sl_layer_declare(b, l, "weight", SL_TENSOR_FIXED, 2,
                            (uint32_t[]){l->spec.out, l->in.dim[0]},
                            SL_TENSOR_ORTHONORMAL, l->in.dim[0], err);
}

static struct sl_sphere_head head_of(const struct sl_layer *l, const struct sl_pass_ctx *c)
{
    return (struct sl_sphere_head){.width = l->in_size,
                                   .classes = l->out_size,
                                   .w0 = sl_layer_value(l, c, 0),
                                   .eps = l->spec.eps};
}

/* z = x / |x|, kept for backward */
static size_t aux_bytes(const struct sl_layer *l, size_t n)
{
    return n * l->in_size * sizeof(float);
}

static void rescale(const struct sl_layer *l, const struct sl_pass_ctx *c, float *y)
{
    if (l->spec.scale != 1.0f)
        c->k->elem.affine(l->spec.scale, 0.0f, y, y, c->n * l->out_size);
}

static void forward(const struct sl_layer *l, const struct sl_pass_ctx *c, const float *x,
                    float *y, void *aux)
{
    struct sl_sphere_head h = head_of(l, c);
    sl_sphere_head_forward(&h, c->unit, c->n, x, aux, y);
    rescale(l, c, y);
}

static void backward(const struct sl_layer *l, const struct sl_pass_ctx *c,
                     const float *x, const float *y, float *dy, float *dx, void *aux)
{
    struct sl_sphere_head h = head_of(l, c);
    if (dx == NULL)
        return;
    rescale(l, c, dy);
    sl_sphere_head_backward(&h, c->unit, c->n, x, aux, dy, dx);
}

static void unit_bytes(const struct sl_layer *l, size_t n, const struct sl_matmul_unit *u,
                       const struct sl_unit_options *o, struct sl_unit_bytes *ret)
{
    sl_unit_matmul_bytes(u, o, n, l->out_size, l->in_size, true, ret);
}

const struct sl_layer_ops sl_layer_sphere = {
    .kind = SL_LAYER_SPHERE,
    .prefix = "head",
    .build = build,
    .aux_bytes = aux_bytes,
    .unit_bytes = unit_bytes,
    .forward = forward,
    .backward = backward,
};
