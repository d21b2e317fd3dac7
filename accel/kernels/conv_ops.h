/* SPDX-License-Identifier: Apache-2.0 */
/* conv_ops.h - images to columns and back, and biases of planes.
 * Contracts common to all families stand in kernels/kernels.h. */
#ifndef SL_ACCEL_KERNELS_CONV_OPS_H
#define SL_ACCEL_KERNELS_CONV_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "accel/units/matmul.h"

struct sl_conv_ops {
    /* One image x [in_c, in_h, in_w] to col [in_c * kernel * kernel, out_h * out_w]:
     * row (c, ky, kx), column (oy, ox) is x[c, oy stride + ky - pad, ox stride + kx -
     * pad], 0 outside. */
    void (*im2col)(const struct sl_conv_geometry *g, const float *x, float *col);
    /* The transpose: x is set to the sum of what lies in col for each pixel, rows in
     * order. */
    void (*col2im)(const struct sl_conv_geometry *g, const float *col, float *x);
    /* Stride 1 only. Expands along kx alone: band [in_c, kernel, in_h + 2 pad, out_w]:
     * band[c, kx, py, ox] = x[c, py - pad, ox + kx - pad]. Rows (c, ky, kx) of im2col are
     * then out_h * out_w consecutive values from band[c, kx, ky, 0]. */
    void (*im2band)(const struct sl_conv_geometry *g, const float *x, float *band);
    /* The transpose: x is set to the sum over kx, in order, of what lies in band. */
    void (*band2im)(const struct sl_conv_geometry *g, const float *band, float *x);
    /* y[p, i] += b[p % channels], planes of `size` values. */
    void (*bias_planes)(const float *b, float *y, size_t planes, size_t channels,
                        size_t size);
    /* db[c] (+)= sum over images n, in order, of the 16-lane sum of dy[n, c, :]. */
    void (*bias_planes_grad)(const float *dy, size_t n, size_t channels, size_t size,
                             bool accumulate, float *db);
};

void sl_conv_ops_init(struct sl_conv_ops *ops, uint32_t cpu);

extern const struct sl_conv_ops sl_conv_ops_c, sl_conv_ops_avx2, sl_conv_ops_avx512;

#endif
