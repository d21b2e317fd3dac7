/* SPDX-License-Identifier: Apache-2.0 */
#include <arm_neon.h>

#include "accel/kernels/bfp_ops.h"

static inline void dots(int32x4_t sum[4], int8x16_t x, const int8_t *y)
{
    for (int i = 0; i < 4; i++) {
        sum[i] = vdupq_n_s32(0);
        sum[i] = vdotq_laneq_s32(sum[i], vld1q_s8(y + i * 16), x, 0);
        sum[i] = vdotq_laneq_s32(sum[i], vld1q_s8(y + 64 + i * 16), x, 1);
        sum[i] = vdotq_laneq_s32(sum[i], vld1q_s8(y + 128 + i * 16), x, 2);
        sum[i] = vdotq_laneq_s32(sum[i], vld1q_s8(y + 192 + i * 16), x, 3);
    }
}

#include "accel/kernels/bfp_neon.h"

void sl_bfp_product_dotprod(const struct sl_bfp_product *p)
{
    product_tiles(p);
}
