/* SPDX-License-Identifier: Apache-2.0 */
/* pool_ops.h - pooling of planes.
 * Contracts common to all families stand in kernels/kernels.h. */
#ifndef SL_ACCEL_KERNELS_POOL_OPS_H
#define SL_ACCEL_KERNELS_POOL_OPS_H

#include <stddef.h>
#include <stdint.h>

#define SL_POOL_KERNEL_MAX 15 /* a place in a window is one byte */

struct sl_pool_geometry {
    uint32_t in_h, in_w, out_h, out_w;
    uint32_t kernel, stride, pad; /* pad < kernel <= SL_POOL_KERNEL_MAX */
};

struct sl_pool_ops {
    /* x [planes, in_h, in_w] to y [planes, out_h, out_w], and where: the place ky *
     * kernel + kx of the first maximum in row-major order. Padding never wins; a NaN wins
     * over numbers. */
    void (*max)(const struct sl_pool_geometry *g, size_t planes, const float *x, float *y,
                uint8_t *where);
    /* dx = 0 but where a maximum stood, which takes the sum of its windows' dy in order.
     */
    void (*max_grad)(const struct sl_pool_geometry *g, size_t planes, const float *dy,
                     const uint8_t *where, float *dx);
};

void sl_pool_ops_init(struct sl_pool_ops *ops, uint32_t cpu);

extern const struct sl_pool_ops sl_pool_ops_c, sl_pool_ops_avx2, sl_pool_ops_avx512;

#endif
