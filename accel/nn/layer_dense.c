/* SPDX-License-Identifier: Apache-2.0 */
/* layer_dense.c - y[r, out] = x[r, in] w[out, in]^T + b[out], over the last dimension:
 * rows r are samples, or tokens of samples. */
#include "accel/nn/layer.h"

static enum sl_code build(struct sl_model_builder *b, struct sl_layer *l,
                          struct sl_err *err)
{
    char text[SL_SHAPE_TEXT];
    if (l->in.n_dims == 3)
        return sl_layer_error(l, err, "input %s has 3 dimensions (flatten it first)",
                              sl_shape_text(&l->in, text));
    if (l->spec.out == 0)
        return sl_layer_error(l, err, "out 0 (at least 1)");
    l->out = l->in;
    l->out.dim[l->in.n_dims - 1] = l->spec.out;
    return sl_layer_declare_dense(b, l, "", l->spec.out, l->in.dim[l->in.n_dims - 1],
                                  l->spec.bias, err);
}

void sl_unit_matmul_bytes(const struct sl_matmul_unit *u, const struct sl_unit_options *o,
                          size_t m, size_t n, size_t k, bool keep,
                          struct sl_unit_bytes *ret)
{
    if (u->matmul_bytes != NULL)
        u->matmul_bytes(o, m, n, k, keep, ret);
}

void sl_dense_forward(const struct sl_pass_ctx *c, size_t rows, size_t in, size_t out,
                      const float *x, const float *w, const float *b, float *y)
{
    sl_matmul(c->unit, &(struct sl_matmul){.pass = SL_PASS_FORWARD,
                                           .m = rows,
                                           .n = out,
                                           .k = in,
                                           .a = {x, in, false, SL_ROLE_ACTIVATION},
                                           .b = {w, in, true, SL_ROLE_WEIGHT},
                                           .alpha = 1.0f,
                                           .c = y,
                                           .ldc = out});
    if (b != NULL)
        c->k->elem.bias_rows(b, y, rows, out);
}

/* dx = dy w, dw = dy^T x, db = column sums of dy; in this order, which units whose noise
 * runs on draw by. */
void sl_dense_backward(const struct sl_pass_ctx *c, size_t rows, size_t in, size_t out,
                       const float *x, const float *w, const float *dy, float *dw,
                       float *db, bool add_dx, float *dx)
{
    if (dx != NULL)
        sl_matmul(c->unit, &(struct sl_matmul){.pass = SL_PASS_INPUT_GRADIENT,
                                               .m = rows,
                                               .n = in,
                                               .k = out,
                                               .a = {dy, out, false, SL_ROLE_GRADIENT},
                                               .b = {w, in, false, SL_ROLE_WEIGHT},
                                               .alpha = 1.0f,
                                               .accumulate = add_dx,
                                               .c = dx,
                                               .ldc = in});
    sl_matmul(c->unit, &(struct sl_matmul){.pass = SL_PASS_WEIGHT_GRADIENT,
                                           .m = out,
                                           .n = in,
                                           .k = rows,
                                           .a = {dy, out, true, SL_ROLE_GRADIENT},
                                           .b = {x, in, false, SL_ROLE_ACTIVATION},
                                           .alpha = 1.0f,
                                           .accumulate = c->accumulate,
                                           .c = dw,
                                           .ldc = in});
    if (db != NULL)
        c->k->elem.bias_rows_grad(dy, rows, out, c->accumulate, db);
}

static size_t rows_of(const struct sl_layer *l, size_t n)
{
    return n * (l->in_size / l->in.dim[l->in.n_dims - 1]);
}

static void forward(const struct sl_layer *l, const struct sl_pass_ctx *c, const float *x,
                    float *y, void *aux)
{
    size_t in = l->in.dim[l->in.n_dims - 1];
    sl_dense_forward(c, rows_of(l, c->n), in, l->spec.out, x, sl_layer_value(l, c, 0),
                     l->spec.bias ? sl_layer_value(l, c, 1) : NULL, y);
}

static void backward(const struct sl_layer *l, const struct sl_pass_ctx *c,
                     const float *x, const float *y, float *dy, float *dx, void *aux)
{
    size_t in = l->in.dim[l->in.n_dims - 1];
    sl_dense_backward(c, rows_of(l, c->n), in, l->spec.out, x, sl_layer_value(l, c, 0),
                      dy, sl_layer_grad(l, c, 0),
                      l->spec.bias ? sl_layer_grad(l, c, 1) : NULL, false, dx);
}

static void unit_bytes(const struct sl_layer *l, size_t n, const struct sl_matmul_unit *u,
                       const struct sl_unit_options *o, struct sl_unit_bytes *ret)
{
    size_t in = l->in.dim[l->in.n_dims - 1], out = l->spec.out;
    sl_unit_matmul_bytes(u, o, n * l->in_size / in, out, in, true, ret);
}

const struct sl_layer_ops sl_layer_dense = {
    .kind = SL_LAYER_DENSE,
    .prefix = "fc",
    .build = build,
    .unit_bytes = unit_bytes,
    .forward = forward,
    .backward = backward,
};
