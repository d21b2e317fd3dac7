/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/kernels/tr_ops.h"

#include <immintrin.h>

#define OPS_NAME sl_tr_ops_avx2
#define BAND 16
#include "accel/kernels/tr_body.h"

/* 16 columns of a panel: six rows of two accumulators stay in registers. */
static inline void strip(size_t rows, size_t pairs, const int16_t *a, size_t lda,
                         const int16_t *panel, int32_t *sums)
{
    __m256i acc[SL_TR_ROWS][2];
    for (size_t r = 0; r < SL_TR_ROWS; r++)
        acc[r][0] = acc[r][1] = _mm256_setzero_si256();
    for (size_t p = 0; p < pairs; p++, a += 2, panel += 2 * SL_TR_TILE) {
        __m256i b0 = _mm256_loadu_si256((const __m256i *)panel);
        __m256i b1 = _mm256_loadu_si256((const __m256i *)(panel + 16));
        for (size_t r = 0; r < rows; r++) {
            int32_t two;
            memcpy(&two, a + r * lda, sizeof(two));
            __m256i x = _mm256_set1_epi32(two);
            acc[r][0] = _mm256_add_epi32(acc[r][0], _mm256_madd_epi16(x, b0));
            acc[r][1] = _mm256_add_epi32(acc[r][1], _mm256_madd_epi16(x, b1));
        }
    }
    for (size_t r = 0; r < rows; r++, sums += SL_TR_TILE) {
        _mm256_storeu_si256((__m256i *)sums, acc[r][0]);
        _mm256_storeu_si256((__m256i *)(sums + 8), acc[r][1]);
    }
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
