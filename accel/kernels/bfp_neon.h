/* SPDX-License-Identifier: Apache-2.0 */
/* bfp_neon.h - tiles of the Arm products: four rows by one panel of four registers. A
 * file that includes it has dots(acc, x, y): for each quad of the group and each register
 * of four columns, acc += the products of x's quad with y's. Bytes are signed here: 16 is
 * taken off the rows' when they are loaded, so the columns' starts are not needed. */
#include <arm_neon.h>

#include "accel/kernels/bfp_ops.h"

#define TILE_ROWS 4
#define PARTS 4 /* registers of a panel */

static inline __attribute__((always_inline)) void
tile_group(const struct sl_bfp_product *p, const uint8_t *const a[TILE_ROWS],
           const float *const sa[TILE_ROWS], int rows, size_t at, size_t b,
           float32x4_t acc[TILE_ROWS][PARTS])
{
    const int8_t *y = p->b.mantissa + b * SL_BFP_PANEL_BYTES;
    const float *sb = p->b.scale + b * SL_BFP_PANEL;
    for (int r = 0; r < rows; r++) {
        int8x16_t x = vsubq_s8(vreinterpretq_s8_u8(vld1q_u8(a[r] + at * SL_BFP_GROUP)),
                               vdupq_n_s8(16));
        int32x4_t sum[PARTS];
        dots(sum, x, y);
        for (int i = 0; i < PARTS; i++) {
            float32x4_t f = vmulq_f32(vcvtq_f32_s32(sum[i]), vld1q_f32(sb + 4 * i));
            acc[r][i] = vaddq_f32(acc[r][i], vmulq_n_f32(f, sa[r][at]));
        }
    }
}

static void tile_store(const struct sl_bfp_product *p, size_t row, size_t col, int rows,
                       float32x4_t acc[TILE_ROWS][PARTS])
{
    for (int r = 0; r < rows; r++) {
        float v[SL_BFP_PANEL], *c = p->c + (row + (size_t)r) * p->ldc + col;
        size_t n = p->n - col < SL_BFP_PANEL ? p->n - col : SL_BFP_PANEL;
        for (int i = 0; i < PARTS; i++)
            vst1q_f32(v + 4 * i, acc[r][i]);
        for (size_t i = 0; i < n; i++)
            c[i] = p->accumulate ? c[i] + p->alpha * v[i] : p->alpha * v[i];
    }
}

static inline __attribute__((always_inline)) void
tile_run(const struct sl_bfp_product *p, size_t row, size_t col, int rows)
{
    const uint8_t *a[TILE_ROWS];
    const float *sa[TILE_ROWS];
    float32x4_t acc[TILE_ROWS][PARTS];
    size_t panel = col / SL_BFP_PANEL * p->b.groups;
    for (int r = 0; r < rows; r++) {
        size_t i = row + (size_t)r;
        size_t first = p->row == NULL ? i * p->row_step : p->row[i];
        a[r] = p->a.mantissa + first * SL_BFP_GROUP;
        sa[r] = p->a.scale + first;
        float old[SL_BFP_PANEL] = {0};
        for (size_t l = 0; p->resume && l < SL_BFP_PANEL && col + l < p->n; l++)
            old[l] = p->c[i * p->ldc + col + l];
        for (int v = 0; v < PARTS; v++)
            acc[r][v] = vld1q_f32(old + 4 * v);
    }
    for (size_t t = 0; t < p->taps; t++)
        for (size_t g = 0; g < p->groups; g++)
            tile_group(p, a, sa, rows, p->tap[t].a + g, panel + p->tap[t].b + g, acc);
    tile_store(p, row, col, rows, acc);
}

static __attribute__((noinline)) void tile_4(const struct sl_bfp_product *p, size_t row,
                                             size_t col)
{
    tile_run(p, row, col, TILE_ROWS);
}

static __attribute__((noinline)) void tile_1(const struct sl_bfp_product *p, size_t row,
                                             size_t col)
{
    tile_run(p, row, col, 1);
}

static void product_tiles(const struct sl_bfp_product *p)
{
    for (size_t col = 0; col < p->n; col += SL_BFP_PANEL) {
        size_t row = 0;
        for (; row + TILE_ROWS <= p->m; row += TILE_ROWS)
            tile_4(p, row, col);
        for (; row < p->m; row++)
            tile_1(p, row, col);
    }
}
