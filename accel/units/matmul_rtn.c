/* SPDX-License-Identifier: Apache-2.0 */
/* matmul_rtn.c - unit "rtn": layers that are ternary (nn/layer_ternary.c) multiply by bit
 * planes; every other product, and all gradients, are in single precision. */
#include "accel/units/matmul.h"

static void conv_bytes(const struct sl_unit_options *o, const struct sl_conv_geometry *g,
                       size_t n, struct sl_unit_bytes *ret)
{
    sl_matmul_fp32.conv_bytes(o, g, n, ret);
}

static void matmul(struct sl_unit_ctx *ctx, const struct sl_matmul *op)
{
    sl_matmul_fp32.matmul(ctx, op);
}

static void conv_forward(struct sl_unit_ctx *ctx, const struct sl_conv_geometry *g,
                         size_t n, const float *x, const float *w, float *y)
{
    sl_matmul_fp32.conv_forward(ctx, g, n, x, w, y);
}

static void conv_backward_data(struct sl_unit_ctx *ctx, const struct sl_conv_geometry *g,
                               size_t n, const float *dy, const float *w, float *dx)
{
    sl_matmul_fp32.conv_backward_data(ctx, g, n, dy, w, dx);
}

static void conv_backward_weights(struct sl_unit_ctx *ctx,
                                  const struct sl_conv_geometry *g, size_t n,
                                  const float *x, const float *dy, bool accumulate,
                                  float *dw)
{
    sl_matmul_fp32.conv_backward_weights(ctx, g, n, x, dy, accumulate, dw);
}

const struct sl_matmul_unit sl_matmul_rtn = {
    .name = "rtn",
    .ternary = true,
    .conv_bytes = conv_bytes,
    .matmul = matmul,
    .conv_forward = conv_forward,
    .conv_backward_data = conv_backward_data,
    .conv_backward_weights = conv_backward_weights,
};
