/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/kernels/tr_ops.h"

#define OPS_NAME sl_tr_ops_c
#define BAND 8
#include "accel/kernels/tr_body.h"

static void tile(size_t rows, size_t strips, size_t pairs, const int16_t *a, size_t lda,
                 const int16_t *panel, int32_t sums[SL_TR_ROWS][SL_TR_TILE])
{
    memset(sums, 0, rows * sizeof(sums[0]));
    for (size_t p = 0; p < pairs; p++, a += 2, panel += 2 * SL_TR_TILE)
        for (size_t r = 0; r < rows; r++) {
            int32_t even = a[r * lda], odd = a[r * lda + 1];
            for (size_t j = 0; j < 16 * strips; j++)
                sums[r][j] += even * panel[2 * j] + odd * panel[2 * j + 1];
        }
}
