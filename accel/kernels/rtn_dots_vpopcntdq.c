/* SPDX-License-Identifier: Apache-2.0 */
/* rtn_dots_vpopcntdq.c - dot products of bit planes where a vector's bits are counted by
 * one instruction. A word of eight packed lines is one register; the words of up to four
 * lines a are spread over it, so that nothing is added across lanes. */
#include <immintrin.h>

#include "accel/kernels/rtn_ops.h"

#define ROWS 4
#define BLOCKS 2

/* rows lines a with `blocks` packed blocks, `step` words apart. */
static inline __attribute__((always_inline)) void
tile(size_t rows, size_t blocks, size_t words, size_t step, const uint64_t *a_flag,
     const uint64_t *a_sign, const uint64_t *packed, __m256i d[ROWS][BLOCKS])
{
    __m512i both[ROWS][BLOCKS], differ[ROWS][BLOCKS];
    for (size_t r = 0; r < rows; r++)
        for (size_t b = 0; b < blocks; b++)
            both[r][b] = differ[r][b] = _mm512_setzero_si512();
    for (size_t k = 0; k < words; k++, packed += 2 * SL_RTN_BLOCK) {
        __m512i flag[BLOCKS], sign[BLOCKS];
        for (size_t b = 0; b < blocks; b++) {
            flag[b] = _mm512_loadu_si512(packed + b * step);
            sign[b] = _mm512_loadu_si512(packed + b * step + SL_RTN_BLOCK);
        }
        for (size_t r = 0; r < rows; r++) {
            __m512i af = _mm512_set1_epi64((long long)a_flag[r * words + k]);
            __m512i as = _mm512_set1_epi64((long long)a_sign[r * words + k]);
            for (size_t b = 0; b < blocks; b++) {
                __m512i c = _mm512_and_si512(flag[b], af);
                /* c & (sign ^ as) */
                __m512i e = _mm512_ternarylogic_epi64(c, sign[b], as, 0x60);
                both[r][b] = _mm512_add_epi64(both[r][b], _mm512_popcnt_epi64(c));
                differ[r][b] = _mm512_add_epi64(differ[r][b], _mm512_popcnt_epi64(e));
            }
        }
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t b = 0; b < blocks; b++)
            d[r][b] = _mm512_cvtepi64_epi32(_mm512_sub_epi64(
                both[r][b], _mm512_add_epi64(differ[r][b], differ[r][b])));
}

static inline __mmask8 mask_of(size_t n)
{
    return (__mmask8)(n < SL_RTN_BLOCK ? (1u << n) - 1 : 0xffu);
}

void sl_rtn_dots_vpopcntdq(size_t m, size_t n, size_t words, const uint64_t *a_flag,
                           const uint64_t *a_sign, const uint64_t *packed, int32_t *d,
                           size_t ldd)
{
    __m256i part[ROWS][BLOCKS];
    size_t step = words * 2 * SL_RTN_BLOCK;
    for (size_t j = 0; j < n; j += BLOCKS * SL_RTN_BLOCK, packed += BLOCKS * step) {
        size_t blocks = n - j > SL_RTN_BLOCK ? 2 : 1;
        for (size_t i = 0; i < m; i += ROWS) {
            size_t rows = m - i < ROWS ? m - i : ROWS;
            const uint64_t *f = a_flag + i * words, *s = a_sign + i * words;
            if (rows == ROWS && blocks == BLOCKS)
                tile(ROWS, BLOCKS, words, step, f, s, packed, part);
            else
                for (size_t r = 0; r < rows; r++)
                    tile(1, blocks, words, step, f + r * words, s + r * words, packed,
                         part + r);
            for (size_t r = 0; r < rows; r++)
                for (size_t b = 0; b < blocks; b++)
                    _mm256_mask_storeu_epi32(d + (i + r) * ldd + j + b * SL_RTN_BLOCK,
                                             mask_of(n - j - b * SL_RTN_BLOCK),
                                             part[r][b]);
        }
    }
}
