/* SPDX-License-Identifier: Apache-2.0 */
/* sum_ops.h - kernels of the exact sum (server/aggregate.h): fixed-point accumulation, mean, and the check
 * that comes before. Every variant gives the bits of sum_body.h compiled as plain C. */
#ifndef SL_ACCEL_KERNELS_SUM_OPS_H
#define SL_ACCEL_KERNELS_SUM_OPS_H

#include <stddef.h>
#include <stdint.h>

struct sl_sum_ops {
    /* q[i] += weight * rint(((double)x[i] * scale) * unit), half to even; every product below 2^51
     * in magnitude, x finite. unit = 2^f. */
    void (*add)(int64_t *q, const float *x, size_t n, int64_t weight, double scale, double unit);
    /* The same for products up to 2^63. */
    void (*add_wide)(int64_t *q, const float *x, size_t n, int64_t weight, double scale,
                     double unit);
    /* ret[i] = (float)((double)q[i] / divisor) */
    void (*mean)(const int64_t *q, size_t n, double divisor, float *ret);
    /* First i whose x[i] is not finite or has |x[i] * scale| > max_abs; n when there is none. */
    size_t (*check)(const float *x, size_t n, double scale, double max_abs);
};

/* cpu: SL_CPU_* that may be used. A constant table. */
const struct sl_sum_ops *sl_sum_ops(uint32_t cpu);

extern const struct sl_sum_ops sl_sum_ops_c, sl_sum_ops_avx2, sl_sum_ops_avx512;

#endif
