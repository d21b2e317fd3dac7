/* SPDX-License-Identifier: Apache-2.0 */
/* sphere_head.h - a fixed linear head on the unit sphere (Dong et al. 2022, SphereFed):
 * z = h / ||h|| (0 where ||h|| <= eps), o = w0 z, squared loss. Thread: any. */
#ifndef SL_ACCEL_NN_SPHERE_HEAD_H
#define SL_ACCEL_NN_SPHERE_HEAD_H

#include "accel/nn/loss.h"
#include "accel/units/matmul.h"

struct sl_sphere_head {
    size_t width, classes;
    const float *w0; /* [classes, width] */
    float eps;
};

/* o [n, classes] from h [n, width]; z [n, width] is kept for backward. */
void sl_sphere_head_forward(const struct sl_sphere_head *s, struct sl_unit_ctx *unit,
                            size_t n, const float *h, float *z, float *o);
/* dh [n, width] from dout [n, classes]. */
void sl_sphere_head_backward(const struct sl_sphere_head *s, struct sl_unit_ctx *unit,
                             size_t n, const float *h, const float *z, const float *dout,
                             float *dh);

#endif
