/* SPDX-License-Identifier: Apache-2.0 */
/* tr_ops_neon.c - products by widening multiply-adds: eight columns of a pair of rows are
 * taken apart into even and odd rows, which one lane of a multiplies each. */
#include <arm_neon.h>

#include "accel/kernels/tr_ops.h"

#define OPS_NAME sl_tr_ops_neon
#define BAND 8
#include "accel/kernels/tr_body.h"

#define PARTS 4 /* registers of four sums in a strip */

/* 16 columns of a panel: rows x 4 accumulators stay in registers. */
static inline __attribute__((always_inline)) void
strip(size_t rows, size_t pairs, const int16_t *a, size_t lda, const int16_t *panel,
      int32_t *sums)
{
    int32x4_t acc[SL_TR_ROWS][PARTS];
    for (size_t r = 0; r < rows; r++)
        for (int i = 0; i < PARTS; i++)
            acc[r][i] = vdupq_n_s32(0);
    for (size_t p = 0; p < pairs; p++, a += 2, panel += 2 * SL_TR_TILE) {
        int16x8x2_t b[2] = {vld2q_s16(panel), vld2q_s16(panel + 16)};
        for (size_t r = 0; r < rows; r++)
            for (int row = 0; row < 2; row++) {
                int16_t x = a[r * lda + (size_t)row];
                for (int i = 0; i < PARTS; i += 2) {
                    int16x8_t y = b[i / 2].val[row];
                    acc[r][i] = vmlal_n_s16(acc[r][i], vget_low_s16(y), x);
                    acc[r][i + 1] = vmlal_n_s16(acc[r][i + 1], vget_high_s16(y), x);
                }
            }
    }
    for (size_t r = 0; r < rows; r++, sums += SL_TR_TILE)
        for (int i = 0; i < PARTS; i++)
            vst1q_s32(sums + 4 * i, acc[r][i]);
}

static void tile(size_t rows, size_t strips, size_t pairs, const int16_t *a, size_t lda,
                 const int16_t *panel, int32_t sums[SL_TR_ROWS][SL_TR_TILE])
{
    for (size_t s = 0; s < strips; s++)
        if (rows == SL_TR_ROWS)
            strip(SL_TR_ROWS, pairs, a, lda, panel + 32 * s, sums[0] + 16 * s);
        else
            for (size_t r = 0; r < rows; r++)
                strip(1, pairs, a + r * lda, lda, panel + 32 * s, sums[r] + 16 * s);
}
