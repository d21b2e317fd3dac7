/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/kernels/tr_ops.h"

#include <immintrin.h>

#define OPS_NAME sl_tr_ops_avx512
#define BAND 32
#include "accel/kernels/tr_body.h"

#define STRIPS (SL_TR_TILE / 16)

/* rows x strips accumulators of 16 sums stay in registers: at most 24 of 32. */
static inline __attribute__((always_inline)) void
block(size_t rows, size_t strips, size_t pairs, const int16_t *a, size_t lda,
      const int16_t *panel, int32_t sums[SL_TR_ROWS][SL_TR_TILE])
{
    __m512i acc[SL_TR_ROWS][STRIPS];
    for (size_t r = 0; r < rows; r++)
        for (size_t s = 0; s < strips; s++)
            acc[r][s] = _mm512_setzero_si512();
    for (size_t p = 0; p < pairs; p++, a += 2, panel += 2 * SL_TR_TILE) {
        __m512i b[STRIPS];
        for (size_t s = 0; s < strips; s++)
            b[s] = _mm512_loadu_si512(panel + 32 * s);
        for (size_t r = 0; r < rows; r++) {
            int32_t two;
            memcpy(&two, a + r * lda, sizeof(two));
            __m512i x = _mm512_set1_epi32(two);
            for (size_t s = 0; s < strips; s++)
                acc[r][s] = _mm512_add_epi32(acc[r][s], _mm512_madd_epi16(x, b[s]));
        }
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t s = 0; s < strips; s++)
            _mm512_storeu_si512(sums[r] + 16 * s, acc[r][s]);
}

static void tile(size_t rows, size_t strips, size_t pairs, const int16_t *a, size_t lda,
                 const int16_t *panel, int32_t sums[SL_TR_ROWS][SL_TR_TILE])
{
    if (rows == SL_TR_ROWS && strips == 4)
        block(SL_TR_ROWS, 4, pairs, a, lda, panel, sums);
    else if (rows == SL_TR_ROWS && strips == 3)
        block(SL_TR_ROWS, 3, pairs, a, lda, panel, sums);
    else if (rows == SL_TR_ROWS && strips == 2)
        block(SL_TR_ROWS, 2, pairs, a, lda, panel, sums);
    else if (rows == SL_TR_ROWS)
        block(SL_TR_ROWS, 1, pairs, a, lda, panel, sums);
    else
        for (size_t r = 0; r < rows; r++)
            block(1, strips, pairs, a + r * lda, lda, panel, sums + r);
}
