/* SPDX-License-Identifier: Apache-2.0 */
/* calibrate_parts.h - what calibrate.c and calibrate_check.c share. Nobody else includes this. */
#ifndef SL_ACCEL_NN_CALIBRATE_PARTS_H
#define SL_ACCEL_NN_CALIBRATE_PARTS_H

#include "accel/nn/calibrate.h"

/* Values of a lower triangle; where row `width` of a larger one begins. */
static inline size_t sl_calib_triangle(size_t width)
{
    return width * (width + 1) / 2;
}

/* a [width, width], lower triangle -> its Cholesky factor. false: it has none. */
bool sl_calib_cholesky(double *a, size_t width);

#endif
