/* SPDX-License-Identifier: Apache-2.0 */
/* bfp_ops_avx2.c - products by pairs of bytes: unsigned times signed, two to 16 bits, up
 * to 4 * 2 * 31 * 15 in the sum of a group's quads, exact; then pairs to 32 bits. A tile
 * is four rows by one panel of two registers. */
#include <immintrin.h>

#include "accel/kernels/bfp_body.h"

#define TILE_ROWS 4
#define HALVES 2 /* of a panel: eight columns each */

static inline __attribute__((always_inline)) void
group(const struct sl_bfp_product *p, const uint8_t *const a[TILE_ROWS],
      const float *const sa[TILE_ROWS], int rows, size_t at, size_t b, size_t quads,
      __m256 acc[TILE_ROWS][HALVES])
{
    const __m256i *y =
        (const __m256i *)(const void *)(p->b.mantissa + b * SL_BFP_PANEL_BYTES);
    const float *sb = p->b.scale + b * SL_BFP_PANEL;
    const int32_t *start = p->b.start + b * SL_BFP_PANEL;
    for (int r = 0; r < rows; r++) {
        __m256i sum[HALVES];
        __m256 scale = _mm256_set1_ps(sa[r][at]);
        for (size_t q = 0; q < quads; q++) {
            int32_t four;
            memcpy(&four, a[r] + at * LANES + q * 4, sizeof(four));
            __m256i x = _mm256_set1_epi32(four);
            for (size_t h = 0; h < HALVES; h++) {
                __m256i pairs =
                    _mm256_maddubs_epi16(x, _mm256_loadu_si256(y + q * HALVES + h));
                sum[h] = q == 0 ? pairs : _mm256_add_epi16(sum[h], pairs);
            }
        }
        for (size_t h = 0; h < HALVES; h++) {
            __m256i first = _mm256_loadu_si256(
                (const __m256i *)(const void *)(start + h * LANES / HALVES));
            __m256i v =
                _mm256_add_epi32(first, _mm256_madd_epi16(sum[h], _mm256_set1_epi16(1)));
            __m256 f = _mm256_mul_ps(_mm256_cvtepi32_ps(v),
                                     _mm256_loadu_ps(sb + h * LANES / HALVES));
            acc[r][h] = _mm256_add_ps(acc[r][h], _mm256_mul_ps(f, scale));
        }
    }
}

static void store(const struct sl_bfp_product *p, size_t row, size_t col, int rows,
                  __m256 acc[TILE_ROWS][HALVES])
{
    for (int r = 0; r < rows; r++) {
        float v[LANES], *c = p->c + (row + (size_t)r) * p->ldc + col;
        size_t n = p->n - col < LANES ? p->n - col : LANES;
        for (size_t h = 0; h < HALVES; h++)
            _mm256_storeu_ps(v + h * LANES / HALVES, acc[r][h]);
        for (size_t i = 0; i < n; i++)
            c[i] = p->accumulate ? c[i] + p->alpha * v[i] : p->alpha * v[i];
    }
}

static inline __attribute__((always_inline)) void
tile(const struct sl_bfp_product *p, size_t row, size_t col, int rows, size_t last_quads)
{
    const uint8_t *a[TILE_ROWS];
    const float *sa[TILE_ROWS];
    __m256 acc[TILE_ROWS][HALVES];
    size_t panel = col / SL_BFP_PANEL * p->b.groups;
    for (int r = 0; r < rows; r++) {
        size_t i = row + (size_t)r;
        size_t first = p->row == NULL ? i * p->row_step : p->row[i];
        a[r] = p->a.mantissa + first * LANES;
        sa[r] = p->a.scale + first;
        float old[LANES] = {0};
        for (size_t l = 0; p->resume && l < LANES && col + l < p->n; l++)
            old[l] = p->c[i * p->ldc + col + l];
        for (size_t h = 0; h < HALVES; h++)
            acc[r][h] = _mm256_loadu_ps(old + h * LANES / HALVES);
    }
    for (size_t t = 0; t < p->taps; t++) {
        size_t at = p->tap[t].a, b = panel + p->tap[t].b, g = 0;
        for (; g + 1 < p->groups; g++)
            group(p, a, sa, rows, at + g, b + g, SL_BFP_QUADS, acc);
        if (g < p->groups) /* places behind the end hold zeros */
            group(p, a, sa, rows, at + g, b + g, last_quads, acc);
    }
    store(p, row, col, rows, acc);
}

/* One function a shape, so that each has its registers. */
#define TILE(rows, quads)                                                                \
    static __attribute__((noinline)) void tile_##rows##_##quads(                         \
        const struct sl_bfp_product *p, size_t row, size_t col)                          \
    {                                                                                    \
        tile(p, row, col, rows, quads);                                                  \
    }
TILE(4, 4)
TILE(4, 1)
TILE(1, 4)

static void product(const struct sl_bfp_product *p)
{
    for (size_t col = 0; col < p->n; col += SL_BFP_PANEL) {
        size_t row = 0;
        for (; row + TILE_ROWS <= p->m; row += TILE_ROWS)
            if (p->last_quads == 1)
                tile_4_1(p, row, col);
            else
                tile_4_4(p, row, col);
        for (; row < p->m; row++)
            tile_1_4(p, row, col);
    }
}

const struct sl_bfp_ops sl_bfp_ops_avx2 = {
    .largest = largest,
    .pack_rows = pack_rows,
    .pack_columns = pack_columns,
    .rows_to_columns = rows_to_columns,
    .product = product,
    .values = values,
    .direct = direct,
    .transpose = transpose,
    .pack_wide = pack_wide,
    .product_wide = product_wide,
};
