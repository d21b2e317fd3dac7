/* SPDX-License-Identifier: Apache-2.0 */
/* bfp_ops_avx2.c - products by pairs of bytes: unsigned times signed, two to 16 bits, up
 * to 4 * 2 * 31 * 15 in the sum of a group's quads, exact; then pairs to 32 bits. A tile
 * is three rows by one panel of two registers: six sums of a group and six accumulators,
 * two registers of columns, one of a row's quad and one product fill the 16. */
#include <immintrin.h>

#include "accel/kernels/bfp_body.h"
#include "accel/kernels/bfp_pack_avx2.h"

#define TILE_ROWS 3
#define HALVES 2 /* of a panel: eight columns each */
/* Holds the compiler to the order written: it would start all products of a group before
 * the first sum, for which there are no registers. */
#define IN_ORDER(v) __asm__ volatile("" : "+x"(v))

/* Where a tile reads: bytes and scales of its rows at tap offset 0, and its panel. */
struct tile {
    const uint8_t *a[TILE_ROWS];
    const float *sa[TILE_ROWS];
    const int8_t *b;
    const float *sb;
    const int32_t *start;
};

/* One quad of each row by one of all columns. */
static inline __attribute__((always_inline)) void
tile_quad(const struct tile *t, int rows, size_t a, const int8_t *columns, bool first,
          __m256i sum[TILE_ROWS][HALVES])
{
    __m256i y0 = load_ints(columns), y1 = load_ints(columns + 32);
    UNROLL for (int r = 0; r < rows; r++)
    {
        int32_t four;
        memcpy(&four, t->a[r] + a, sizeof(four));
        __m256i x = _mm256_set1_epi32(four);
        __m256i p0 = _mm256_maddubs_epi16(x, y0), p1 = _mm256_maddubs_epi16(x, y1);
        sum[r][0] = first ? p0 : _mm256_add_epi16(sum[r][0], p0);
        sum[r][1] = first ? p1 : _mm256_add_epi16(sum[r][1], p1);
        IN_ORDER(sum[r][0]);
        IN_ORDER(sum[r][1]);
    }
}

static inline __attribute__((always_inline)) void
tile_group(const struct tile *t, int rows, size_t quads, size_t a, size_t b,
           __m256 acc[TILE_ROWS][HALVES])
{
    const __m256i ones = _mm256_set1_epi16(1);
    const int8_t *columns = t->b + b * SL_BFP_PANEL_BYTES;
    __m256i sum[TILE_ROWS][HALVES];
    UNROLL for (size_t q = 0; q < quads; q++)
        tile_quad(t, rows, a * LANES + q * 4, columns + q * 64, q == 0, sum);
    UNROLL for (int h = 0; h < HALVES; h++)
    {
        __m256i start = load_ints(t->start + b * SL_BFP_PANEL + h * HALF);
        __m256 sb = _mm256_loadu_ps(t->sb + b * SL_BFP_PANEL + h * HALF);
        UNROLL for (int r = 0; r < rows; r++)
        {
            __m256i v = _mm256_add_epi32(start, _mm256_madd_epi16(sum[r][h], ones));
            __m256 f = _mm256_mul_ps(_mm256_cvtepi32_ps(v), sb);
            f = _mm256_mul_ps(f, _mm256_set1_ps(t->sa[r][a]));
            acc[r][h] = _mm256_add_ps(acc[r][h], f);
            IN_ORDER(acc[r][h]);
        }
    }
}

static inline __attribute__((always_inline)) void
tile_taps(const struct sl_bfp_product *p, const struct tile *t, int rows,
          size_t last_quads, __m256 acc[TILE_ROWS][HALVES])
{
    for (size_t tap = 0; tap < p->taps; tap++) {
        size_t a = p->tap[tap].a, b = p->tap[tap].b;
        for (size_t g = 0; g + 1 < p->groups; g++, a++, b++)
            tile_group(t, rows, SL_BFP_QUADS, a, b, acc);
        tile_group(t, rows, last_quads, a, b, acc);
    }
}

static inline __attribute__((always_inline)) void
tile_store(const struct sl_bfp_product *p, size_t row, size_t col, int rows,
           __m256 acc[TILE_ROWS][HALVES])
{
    const __m256 alpha = _mm256_set1_ps(p->alpha);
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (size_t h = 0; h < HALVES; h++)
    {
        if (col + h * HALF >= p->n)
            continue;
        __m256i mask = lanes_below(p->n - col - h * HALF);
        float *c = p->c + (row + (size_t)r) * p->ldc + col + h * HALF;
        __m256 y = _mm256_mul_ps(alpha, acc[r][h]);
        if (p->accumulate)
            y = _mm256_add_ps(_mm256_maskload_ps(c, mask), y);
        _mm256_maskstore_ps(c, mask, y);
    }
}

static inline __attribute__((always_inline)) void tile_run(const struct sl_bfp_product *p,
                                                           size_t row, size_t col,
                                                           int rows, size_t last_quads)
{
    size_t panel = col / SL_BFP_PANEL * p->b.groups;
    struct tile t = {.b = p->b.mantissa + panel * SL_BFP_PANEL_BYTES,
                     .sb = p->b.scale + panel * SL_BFP_PANEL,
                     .start = p->b.start + panel * SL_BFP_PANEL};
    __m256 acc[TILE_ROWS][HALVES];
    UNROLL for (int r = 0; r < rows; r++)
    {
        size_t i = row + (size_t)r;
        size_t first = p->row == NULL ? i * p->row_step : p->row[i];
        t.a[r] = p->a.mantissa + first * LANES;
        t.sa[r] = p->a.scale + first;
        UNROLL for (size_t h = 0; h < HALVES; h++)
        {
            size_t at = col + h * HALF;
            acc[r][h] = _mm256_setzero_ps();
            if (p->resume && at < p->n)
                acc[r][h] =
                    _mm256_maskload_ps(p->c + i * p->ldc + at, lanes_below(p->n - at));
        }
    }
    if (p->groups > 0)
        tile_taps(p, &t, rows, last_quads, acc);
    tile_store(p, row, col, rows, acc);
}

/* One function a shape, so that each has its registers. */
#define TILE(rows, quads)                                                                \
    static __attribute__((noinline)) void tile_##rows##_##quads(                         \
        const struct sl_bfp_product *p, size_t row, size_t col)                          \
    {                                                                                    \
        tile_run(p, row, col, rows, quads);                                              \
    }
TILE(3, 4)
TILE(3, 2)
TILE(3, 1)
TILE(2, 4)
TILE(1, 4)

static void product_avx2(const struct sl_bfp_product *p)
{
    for (size_t col = 0; col < p->n; col += SL_BFP_PANEL) {
        size_t row = 0;
        for (; row + TILE_ROWS <= p->m; row += TILE_ROWS)
            if (p->last_quads == 1)
                tile_3_1(p, row, col);
            else if (p->last_quads == 2)
                tile_3_2(p, row, col);
            else /* places behind the end hold zeros */
                tile_3_4(p, row, col);
        if (p->m - row == 2)
            tile_2_4(p, row, col);
        else if (row < p->m)
            tile_1_4(p, row, col);
    }
}

/* --- few channels
 * ---------------------------------------------------------------------------- */

static inline __attribute__((always_inline)) void values_by(const struct sl_bfp_source *s,
                                                            enum sl_bfp_round round,
                                                            float *to, size_t k_step)
{
    struct rounding r = rounding_of(s, round, s->number_step);
    for (size_t line = 0; line < s->lines; line += HALF) {
        size_t n = s->lines - line;
        __m256i mask = lanes_below(n), v[SL_BFP_SHALLOW], max = _mm256_setzero_si256();
        for (size_t j = 0; j < s->k; j++) {
            v[j] = load_lanes(s->x + line + j * s->k_step, mask, n >= HALF);
            max = _mm256_max_epu32(max,
                                   _mm256_and_si256(v[j], _mm256_set1_epi32(ABS_BITS)));
        }
        struct lanes_of_groups g = groups_from(s, max, extra_bits_of(round));
        for (size_t j = 0; j < s->k; j++) {
            __m256i m = convert(v[j], g.factor, &r, 0);
            _mm256_maskstore_ps(to + line + j * k_step, mask,
                                _mm256_mul_ps(_mm256_cvtepi32_ps(m), g.scale));
        }
    }
}

static void values_avx2(const struct sl_bfp_source *s, float *to, size_t k_step)
{
    if (s->k > SL_BFP_SHALLOW || s->sums != NULL || s->round != SL_BFP_TRUNCATE)
        values(s, to, k_step);
    else if (way_of(s) == TRUNCATE_PLAIN)
        values_by(s, TRUNCATE_PLAIN, to, k_step);
    else
        values_by(s, SL_BFP_TRUNCATE, to, k_step);
}

#define DIRECT_OUT 4 /* channels of y at a time, by two registers of a row */

/* One kernel position: the sum over the channels is exact, adding it rounds. */
static inline __attribute__((always_inline)) void
direct_tap(const struct sl_bfp_direct *d, const float *x, const float *w, int outs,
           bool one, __m256 acc[DIRECT_OUT][2])
{
    UNROLL for (int o = 0; o < outs; o++)
    {
        __m256 w0 = _mm256_set1_ps(w[o]), sum[2];
        UNROLL for (int i = 0; i < 2; i++) sum[i] =
            _mm256_mul_ps(_mm256_loadu_ps(x + i * HALF), w0);
        for (size_t c = 1; c < d->channels && !one; c++) {
            __m256 wc = _mm256_set1_ps(w[c * d->out_c + (size_t)o]);
            UNROLL for (int i = 0; i < 2; i++)
            {
                __m256 xc = _mm256_loadu_ps(x + c * d->plane + i * HALF);
                sum[i] = _mm256_add_ps(sum[i], _mm256_mul_ps(xc, wc));
            }
        }
        UNROLL for (int i = 0; i < 2; i++) acc[o][i] = _mm256_add_ps(acc[o][i], sum[i]);
    }
}

static inline __attribute__((always_inline)) void
direct_rows(const struct sl_bfp_direct *d, size_t o, int outs, bool one)
{
    const size_t kernel = d->kernel, width = d->width, step = d->channels * d->out_c;
    for (size_t y = 0; y < d->out_h; y++)
        for (size_t x = 0; x < d->out_w; x += 2 * HALF) {
            const float *row = d->x + y * width + x, *w = d->w + o;
            __m256 acc[DIRECT_OUT][2];
            UNROLL for (int i = 0; i < outs; i++) acc[i][0] = acc[i][1] =
                _mm256_setzero_ps();
            for (size_t ky = 0; ky < kernel; ky++)
                for (size_t kx = 0; kx < kernel; kx++, w += step)
                    direct_tap(d, row + ky * width + kx, w, outs, one, acc);
            for (int i = 0; i < outs; i++)
                for (size_t at = x; at < d->out_w && at < x + 2 * HALF; at += HALF)
                    _mm256_maskstore_ps(
                        d->y + ((o + (size_t)i) * d->out_h + y) * d->out_w + at,
                        lanes_below(d->out_w - at), acc[i][(at - x) / HALF]);
        }
}

static inline __attribute__((always_inline)) void
direct_all(const struct sl_bfp_direct *d, bool one)
{
    size_t o = 0;
    for (; o + DIRECT_OUT <= d->out_c; o += DIRECT_OUT)
        direct_rows(d, o, DIRECT_OUT, one);
    if (o + 2 <= d->out_c) {
        direct_rows(d, o, 2, one);
        o += 2;
    }
    if (o < d->out_c)
        direct_rows(d, o, 1, one);
}

static void direct_avx2(const struct sl_bfp_direct *d)
{
    if (d->channels == 1)
        direct_all(d, true);
    else
        direct_all(d, false);
}

/* A square of 8 x 8, all of it there. */
static inline void transpose_square(const float *from, size_t ld_from, float *to,
                                    size_t ld_to)
{
    __m256 r[HALF], t[HALF];
    for (size_t i = 0; i < 4; i++) { /* column halves of rows i and i + 4 together */
        __m256 a = _mm256_loadu_ps(from + i * ld_from);
        __m256 b = _mm256_loadu_ps(from + (i + 4) * ld_from);
        r[i] = _mm256_permute2f128_ps(a, b, 0x20);
        r[i + 4] = _mm256_permute2f128_ps(a, b, 0x31);
    }
    for (int h = 0; h < HALF; h += 4) {
        t[0] = _mm256_unpacklo_ps(r[h], r[h + 1]);
        t[1] = _mm256_unpackhi_ps(r[h], r[h + 1]);
        t[2] = _mm256_unpacklo_ps(r[h + 2], r[h + 3]);
        t[3] = _mm256_unpackhi_ps(r[h + 2], r[h + 3]);
        for (int i = 0; i < 4; i++) {
            __m256d a = _mm256_castps_pd(t[i / 2]), b = _mm256_castps_pd(t[i / 2 + 2]);
            __m256d y = i % 2 == 0 ? _mm256_unpacklo_pd(a, b) : _mm256_unpackhi_pd(a, b);
            _mm256_storeu_ps(to + (size_t)(h + i) * ld_to, _mm256_castpd_ps(y));
        }
    }
}

static void transpose_avx2(const float *from, size_t rows, size_t cols, size_t ld_from,
                           float *to, size_t ld_to)
{
    size_t i = 0, j;
    for (; i + HALF <= rows; i += HALF) {
        for (j = 0; j + HALF <= cols; j += HALF)
            transpose_square(from + i * ld_from + j, ld_from, to + j * ld_to + i, ld_to);
        transpose(from + i * ld_from + j, HALF, cols - j, ld_from, to + j * ld_to + i,
                  ld_to);
    }
    transpose(from + i * ld_from, rows - i, cols, ld_from, to + i, ld_to);
}

const struct sl_bfp_ops sl_bfp_ops_avx2 = {
    .largest = largest,
    .pack_rows = pack_rows_avx2,
    .pack_columns = pack_columns_avx2,
    .rows_to_columns = rows_to_columns_avx2,
    .product = product_avx2,
    .values = values_avx2,
    .direct = direct_avx2,
    .transpose = transpose_avx2,
    .pack_wide = pack_wide,
    .product_wide = product_wide,
};
