/* SPDX-License-Identifier: Apache-2.0 */
/* order_ops.h - kernels of the robust rules (server/strategy/robust.h): exchange of whole rows, and
 * distance between two. Every variant gives the bits of order_body.h compiled as plain C. */
#ifndef SL_ACCEL_KERNELS_ORDER_OPS_H
#define SL_ACCEL_KERNELS_ORDER_OPS_H

#include <stddef.h>
#include <stdint.h>

struct sl_order_ops {
    /* a[i] and b[i] change places where b[i] < a[i]. No NaN. */
    void (*exchange)(float *a, float *b, size_t n);
    /* Sum of (a[i] - b[i])^2 in double: value i goes into partial sum i % 8; the eight are added
     * pairwise, ((0+4) + (2+6)) + ((1+5) + (3+7)). */
    double (*distance)(const float *a, const float *b, size_t n);
};

/* cpu: SL_CPU_* that may be used. A constant table. */
const struct sl_order_ops *sl_order_ops(uint32_t cpu);

extern const struct sl_order_ops sl_order_ops_c, sl_order_ops_avx2, sl_order_ops_avx512;

#endif
