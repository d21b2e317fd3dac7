/* SPDX-License-Identifier: Apache-2.0 */
/* bfp_conv.h - convolution in block floating point, by the letter: the definition that
 * the fast unit is compared with. Groups never cross a kernel position. Forward: lines
 * along the input channels at a pixel, sums over (ky, kx, block of channels). Data
 * gradient: lines along the output channels, (ky, kx, block). Weight gradient: lines
 * along the images at a pixel, (oy, ox, block of images). Ascending; padding is skipped.
 * The converted order of dy is (n, y, x, o) for the data gradient and (y, x, o, n) for
 * the weights'. Allocates while it works. Thread: any. */
#ifndef SL_ACCEL_UNITS_BFP_CONV_H
#define SL_ACCEL_UNITS_BFP_CONV_H

#include "accel/units/bfp.h"
#include "accel/units/matmul.h"

struct sl_bfp_conv {
    struct sl_conv_geometry g;
    size_t n;                       /* images */
    struct sl_bfp_options x, w, dy; /* of equal g; dy.key as the product wants it */
};

/* Tensors as in units/matmul.h. SL_E_INPUT for a NaN, SL_E_RANGE for options, SL_E_NOMEM.
 */
enum sl_code sl_bfp_conv_forward(const struct sl_bfp_conv *c, const float *x,
                                 const float *w, float *ret_y, struct sl_err *err);
enum sl_code sl_bfp_conv_data(const struct sl_bfp_conv *c, const float *dy,
                              const float *w, float *ret_dx, struct sl_err *err);
enum sl_code sl_bfp_conv_weights(const struct sl_bfp_conv *c, const float *x,
                                 const float *dy, float *ret_dw, struct sl_err *err);

/* The lines of each operand. */
struct sl_bfp_lines sl_bfp_lines_channels(size_t n, size_t channels, size_t places);
struct sl_bfp_lines sl_bfp_lines_images(size_t n, size_t channels, size_t places);

#endif
