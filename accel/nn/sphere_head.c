/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/nn/sphere_head.h"

#include <math.h>

#include "accel/kernels/kernels.h"

/* 1 / ||h||, or 0 for a vector too short to point anywhere. Squares are added in double, four sums
 * side by side, so that z has length 1 to float's last bit and no square leaves the range. */
static float inverse_norm(const struct sl_sphere_head *s, const float *h)
{
    double sum[4] = {0};
    size_t i = 0;
    for (; i + 4 <= s->width; i += 4)
        for (size_t j = 0; j < 4; j++)
            sum[j] += (double)h[i + j] * (double)h[i + j];
    for (; i < s->width; i++)
        sum[0] += (double)h[i] * (double)h[i];
    double norm = sqrt((sum[0] + sum[1]) + (sum[2] + sum[3]));
    return norm <= (double)s->eps ? 0.0f : (float)(1.0 / norm);
}

void sl_sphere_head_forward(const struct sl_sphere_head *s, struct sl_unit_ctx *unit,
                            size_t n, const float *h, float *z, float *o)
{
    for (size_t i = 0; i < n; i++)
        unit->kernels->elem.affine(inverse_norm(s, h + i * s->width), 0.0f,
                                   h + i * s->width, z + i * s->width, s->width);
    sl_matmul(unit, &(struct sl_matmul){.pass = SL_PASS_FORWARD,
                                        .m = n,
                                        .n = s->classes,
                                        .k = s->width,
                                        .a = {z, s->width, false, SL_ROLE_ACTIVATION},
                                        .b = {s->w0, s->width, true, SL_ROLE_WEIGHT},
                                        .alpha = 1.0f,
                                        .c = o,
                                        .ldc = s->classes});
}

/* dz = do w0; dh = (dz - z (z . dz)) / ||h|| */
void sl_sphere_head_backward(const struct sl_sphere_head *s, struct sl_unit_ctx *unit,
                             size_t n, const float *h, const float *z, const float *dout,
                             float *dh)
{
    const struct sl_elem_ops *e = &unit->kernels->elem;
    sl_matmul(unit, &(struct sl_matmul){.pass = SL_PASS_INPUT_GRADIENT,
                                        .m = n,
                                        .n = s->width,
                                        .k = s->classes,
                                        .a = {dout, s->classes, false, SL_ROLE_GRADIENT},
                                        .b = {s->w0, s->width, false, SL_ROLE_WEIGHT},
                                        .alpha = 1.0f,
                                        .c = dh,
                                        .ldc = s->width});
    for (size_t i = 0; i < n; i++) {
        float *d = dh + i * s->width;
        const float *zi = z + i * s->width;
        e->axpy(-e->dot(zi, d, s->width), zi, d, s->width);
        e->affine(inverse_norm(s, h + i * s->width), 0.0f, d, d, s->width);
    }
}
