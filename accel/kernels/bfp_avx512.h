/* SPDX-License-Identifier: Apache-2.0 */
/* bfp_avx512.h - the register tiles of the AVX-512 products; a file that includes it has
 * dot(acc, a, b): acc += the four products of unsigned bytes of a with signed ones of b,
 * by 32-bit lane. A tile is MR rows by NV panels; per group four dots a row and panel,
 * started from the columns' starts, then convert, scale, fused add: the product with the
 * scales is exact, so fusing rounds as the definition does. */
#include <immintrin.h>

#include "accel/kernels/bfp_ops.h"

#define TILE_ROWS 6   /* by two panels: 12 of 32 registers accumulate */
#define STRIP_ROWS 12 /* by one panel */

/* Where a tile reads: bytes and scales of its rows at tap offset 0, and its panels. */
struct tile {
    const uint8_t *a[STRIP_ROWS];
    const float *sa[STRIP_ROWS];
    const int8_t *b;
    const float *sb;
    const int32_t *start;
    size_t panel_groups;
};

static inline __mmask16 columns_below(size_t n)
{
    return n >= SL_BFP_PANEL ? 0xffff : (__mmask16)((1u << n) - 1);
}

static inline __attribute__((always_inline)) void tile_group(const struct tile *t,
                                                             int rows, int panels,
                                                             size_t quads, size_t a,
                                                             size_t b, __m512 acc[][2])
{
    __m512i y[2][SL_BFP_QUADS], start[2];
    __m512 sb[2];
    for (int v = 0; v < panels; v++) {
        size_t at = b + (size_t)v * t->panel_groups;
        for (size_t q = 0; q < quads; q++)
            y[v][q] = _mm512_loadu_si512(t->b + at * SL_BFP_PANEL_BYTES + q * 64);
        sb[v] = _mm512_loadu_ps(t->sb + at * SL_BFP_PANEL);
        start[v] = _mm512_loadu_si512(t->start + at * SL_BFP_PANEL);
    }
    for (int r = 0; r < rows; r++) {
        const uint8_t *x = t->a[r] + a * SL_BFP_GROUP;
        __m512 sa = _mm512_set1_ps(t->sa[r][a]);
        __m512i sum[2];
        for (int v = 0; v < panels; v++)
            sum[v] = start[v];
        for (size_t q = 0; q < quads; q++) {
            int32_t four;
            __builtin_memcpy(&four, x + q * 4, sizeof(four));
            __m512i x4 = _mm512_set1_epi32(four);
            for (int v = 0; v < panels; v++)
                sum[v] = dot(sum[v], x4, y[v][q]);
        }
        for (int v = 0; v < panels; v++)
            acc[r][v] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum[v]), sb[v]),
                                        sa, acc[r][v]);
    }
}

static inline __attribute__((always_inline)) void
tile_taps(const struct sl_bfp_product *p, const struct tile *t, int rows, int panels,
          size_t last_quads, __m512 acc[][2])
{
    for (size_t tap = 0; tap < p->taps; tap++) {
        size_t a = p->tap[tap].a, b = p->tap[tap].b;
        for (size_t g = 0; g + 1 < p->groups; g++)
            tile_group(t, rows, panels, SL_BFP_QUADS, a + g, b + g, acc);
        a += p->groups - 1;
        b += p->groups - 1;
        tile_group(t, rows, panels, last_quads, a, b, acc);
    }
}

static inline __attribute__((always_inline)) void
tile_store(const struct sl_bfp_product *p, size_t row, size_t col, int rows, int panels,
           __m512 acc[][2])
{
    const __m512 alpha = _mm512_set1_ps(p->alpha);
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < panels; v++) {
            size_t at = col + (size_t)v * SL_BFP_PANEL;
            __mmask16 mask = columns_below(p->n - at);
            float *c = p->c + (row + (size_t)r) * p->ldc + at;
            __m512 y = _mm512_mul_ps(alpha, acc[r][v]);
            if (p->accumulate)
                y = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, c), y);
            _mm512_mask_storeu_ps(c, mask, y);
        }
}

static inline __attribute__((always_inline)) void
tile_run(const struct sl_bfp_product *p, size_t row, size_t col, int rows, int panels)
{
    struct tile t;
    __m512 acc[STRIP_ROWS][2];
    size_t panel = col / SL_BFP_PANEL * p->b.groups;
    t.b = p->b.mantissa + panel * SL_BFP_PANEL_BYTES;
    t.sb = p->b.scale + panel * SL_BFP_PANEL;
    t.start = p->b.start + panel * SL_BFP_PANEL;
    t.panel_groups = p->b.groups;
    for (int r = 0; r < rows; r++) {
        size_t i = row + (size_t)r;
        size_t first = p->row == NULL ? i * p->row_step : p->row[i];
        t.a[r] = p->a.mantissa + first * SL_BFP_GROUP;
        t.sa[r] = p->a.scale + first;
        for (int v = 0; v < panels; v++) {
            size_t at = col + (size_t)v * SL_BFP_PANEL;
            acc[r][v] = p->resume ? _mm512_maskz_loadu_ps(columns_below(p->n - at),
                                                          p->c + i * p->ldc + at)
                                  : _mm512_setzero_ps();
        }
    }
    switch (p->groups == 0 ? 0 : p->last_quads) {
    case 0:
        break;
    case 1:
        tile_taps(p, &t, rows, panels, 1, acc);
        break;
    case 2:
        tile_taps(p, &t, rows, panels, 2, acc);
        break;
    default: /* places behind the end hold zeros */
        tile_taps(p, &t, rows, panels, SL_BFP_QUADS, acc);
        break;
    }
    tile_store(p, row, col, rows, panels, acc);
}

/* One function a shape, so that each has its registers. */
#define TILE(rows, panels)                                                               \
    static __attribute__((noinline)) void tile_##rows##x##panels(                        \
        const struct sl_bfp_product *p, size_t row, size_t col)                          \
    {                                                                                    \
        tile_run(p, row, col, rows, panels);                                             \
    }
TILE(6, 2)
TILE(4, 2)
TILE(2, 2)
TILE(1, 2)
TILE(12, 1)
TILE(4, 1)
TILE(1, 1)

static void rows_by_two(const struct sl_bfp_product *p, size_t col)
{
    size_t i = 0;
    for (; i + TILE_ROWS <= p->m; i += TILE_ROWS)
        tile_6x2(p, i, col);
    if (p->m - i >= 4) {
        tile_4x2(p, i, col);
        i += 4;
    }
    if (p->m - i >= 2) {
        tile_2x2(p, i, col);
        i += 2;
    }
    if (i < p->m)
        tile_1x2(p, i, col);
}

static void rows_by_one(const struct sl_bfp_product *p, size_t col)
{
    size_t i = 0;
    for (; i + STRIP_ROWS <= p->m; i += STRIP_ROWS)
        tile_12x1(p, i, col);
    for (; i + 4 <= p->m; i += 4)
        tile_4x1(p, i, col);
    for (; i < p->m; i++)
        tile_1x1(p, i, col);
}

static void product_tiles(const struct sl_bfp_product *p)
{
    size_t col = 0;
    for (; p->n - col > SL_BFP_PANEL; col += 2 * SL_BFP_PANEL) {
        rows_by_two(p, col);
        if (p->n - col <= 2 * SL_BFP_PANEL)
            return;
    }
    if (col < p->n)
        rows_by_one(p, col);
}
