/* SPDX-License-Identifier: Apache-2.0 */
/* bfp_ops_neon.c - products by widening multiplies: a quad's bytes times four columns',
 * then sums of neighbours, twice. |15 * 15 * 2| fits 16 bits. */
#include <arm_neon.h>

#include "accel/kernels/bfp_ops.h"

/* Quad q of x in all places. */
static inline int8x8_t quad_of(int8x16_t x, int q)
{
    int32_t lane[4];
    vst1q_s32(lane, vreinterpretq_s32_s8(x));
    return vreinterpret_s8_s32(vdup_n_s32(lane[q]));
}

static inline void dots(int32x4_t sum[4], int8x16_t x, const int8_t *y)
{
    int16x8_t low[4], high[4]; /* products of columns 0, 1 and 2, 3 of a register */
    for (int i = 0; i < 4; i++) {
        int8x8_t x0 = quad_of(x, 0);
        low[i] = vmull_s8(x0, vld1_s8(y + i * 16));
        high[i] = vmull_s8(x0, vld1_s8(y + i * 16 + 8));
        for (int q = 1; q < SL_BFP_QUADS; q++) {
            int8x8_t xq = quad_of(x, q);
            low[i] = vmlal_s8(low[i], xq, vld1_s8(y + q * 64 + i * 16));
            high[i] = vmlal_s8(high[i], xq, vld1_s8(y + q * 64 + i * 16 + 8));
        }
        sum[i] = vpaddq_s32(vpaddlq_s16(low[i]), vpaddlq_s16(high[i]));
    }
}

#include "accel/kernels/bfp_neon.h"
#include "accel/kernels/bfp_body.h"

const struct sl_bfp_ops sl_bfp_ops_neon = {
    .largest = largest,
    .pack_rows = pack_rows,
    .pack_columns = pack_columns,
    .rows_to_columns = rows_to_columns,
    .product = product_tiles,
    .values = values,
    .direct = direct,
    .transpose = transpose,
    .pack_wide = pack_wide,
    .product_wide = product_wide,
};
