/* SPDX-License-Identifier: Apache-2.0 */
/* bfp_ops.h - block floating point in the forms that products read, converted as
 * units/bfp.h defines it. Contracts common to all families stand in kernels/kernels.h.
 *
 * Narrow form: groups of 16, m <= 4. An operand is rows or columns.
 * - Rows: group i is 16 bytes, mantissa + 16 each (1 to 31), and a scale.
 * - Columns: panels of 16 columns; group i of a panel is 4 x 16 x 4 signed bytes
 * [quad of k][column][k], 16 scales, and 16 starts: -16 times the sum of the column's
 * mantissas, from which the sum of (mantissa + 16) times mantissa starts.
 * Wide form: any g, m <= 8. Group i of a line is g int16 and a scale.
 * Places behind the last element of a line hold mantissa 0. The scale is 2^(E' - m + 1),
 * and 0 for a group of zeros. */
#ifndef SL_ACCEL_KERNELS_BFP_OPS_H
#define SL_ACCEL_KERNELS_BFP_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "accel/units/bfp.h"

#define SL_BFP_GROUP 16 /* of the narrow form */
#define SL_BFP_PANEL 16 /* columns */
#define SL_BFP_QUADS 4  /* of a group: 4 k each */
#define SL_BFP_NARROW_M 4
#define SL_BFP_PANEL_BYTES (SL_BFP_QUADS * SL_BFP_PANEL * 4) /* of a group */

/* sum |Q4 - Q2| and sum |Q2| of what was converted, truncating, in steps of
 * 2^(E_T - (2^e - 1) - 3): exact while e <= 4. */
struct sl_bfp_sums {
    int64_t difference, coarse;
};

/* Lines of k elements: element j of line i is x[i * line_step + j * k_step] (narrow: one
 * of the steps is 1) and has number first + i * number_step + j. */
struct sl_bfp_source {
    const float *x;
    size_t lines, k;
    size_t line_step, k_step;
    int32_t exponent_t;
    uint32_t code_max; /* 2^e - 1 */
    uint32_t m;
    enum sl_bfp_round round;
    uint64_t key;         /* SL_BFP_CTR */
    const uint8_t *given; /* SL_BFP_GIVEN: by number; SL_BFP_LFSR is none of a kernel's */
    uint64_t first, number_step;
    struct sl_bfp_sums *sums; /* added to; NULL = not wanted. code_max <= 15 */
};

/* Group j of line i is number i * step + j of these. */
struct sl_bfp_rows {
    uint8_t *mantissa; /* NULL: nothing is written, only summed */
    float *scale;
    size_t step;
};

/* Line i is column i % 16 of panel i / 16; its group j is number first + j of `groups`.
 */
struct sl_bfp_columns {
    int8_t *mantissa;
    float *scale;
    int32_t *start;
    size_t groups, first;
};

struct sl_bfp_wide {
    int16_t *mantissa;
    float *scale;
    size_t step;
};

/* A stretch of k: its groups start at group `a` behind a row's first and at group `b` of
 * a panel (or wide column). */
struct sl_bfp_tap {
    uint32_t a, b;
};

/* c[i][j] = alpha * sum over taps and groups, ascending, of P scale scale (from +0; P the
 * sum of a group's products), plus the old c with `accumulate`. With `resume` the sum
 * goes on from the old c instead of +0 (alpha 1, no accumulate): a product in several
 * calls. */
struct sl_bfp_product {
    size_t m, n;
    const struct sl_bfp_tap *tap;
    size_t taps;
    size_t groups;       /* of a tap */
    size_t last_quads;   /* of a tap's last group: others are zero; 1 to 4 */
    const uint32_t *row; /* [m]: first group of a row; NULL: i * row_step */
    size_t row_step;
    struct sl_bfp_rows a;    /* step is not read */
    struct sl_bfp_columns b; /* first is not read */
    float alpha;
    bool accumulate, resume;
    float *c;
    size_t ldc;
};

/* The same in the wide form: b's columns are lines with their groups `b.step` apart. */
struct sl_bfp_wide_product {
    size_t m, n;
    const struct sl_bfp_tap *tap;
    size_t taps, groups;
    uint32_t g;
    const uint32_t *row;
    size_t row_step;
    struct sl_bfp_wide a, b;
    float alpha;
    bool accumulate, resume;
    float *c;
    size_t ldc;
};

#define SL_BFP_SHALLOW 4 /* channels of a direct convolution, at most */
#define SL_BFP_SLACK 64  /* values readable behind a direct convolution's planes */

/* A convolution of decoded values, stride 1, with one group of few channels at a kernel
 * position: x [channels][plane], rows `width` apart, borders included; w
 * [taps][channels][out_c]; y [out_c][out_h][out_w]. The products of a group add up
 * exactly in floats, so y is what the packed form gives. */
struct sl_bfp_direct {
    size_t channels, kernel, out_c, out_h, out_w;
    size_t width, plane;
    const float *x, *w;
    float *y;
};

struct sl_bfp_ops {
    /* Largest |x| as bits; above 0x7f800000 there is a NaN. 0 for n = 0. */
    uint32_t (*largest)(const float *x, size_t n);
    void (*pack_rows)(const struct sl_bfp_source *s, const struct sl_bfp_rows *to);
    /* Columns behind the last line of the last panel become zeros. */
    void (*pack_columns)(const struct sl_bfp_source *s, const struct sl_bfp_columns *to);
    /* Columns from rows: line i, `groups` groups, at number i * from->step + j. */
    void (*rows_to_columns)(const struct sl_bfp_rows *from, size_t lines, size_t groups,
                            const struct sl_bfp_columns *to);
    void (*product)(const struct sl_bfp_product *p);
    /* Decoded values of lines side by side (line_step 1): to[j * k_step + i] is element j
     * of line i. */
    void (*values)(const struct sl_bfp_source *s, float *to, size_t k_step);
    void (*direct)(const struct sl_bfp_direct *d);
    /* to[j * ld_to + i] = from[i * ld_from + j], rows x cols. */
    void (*transpose)(const float *from, size_t rows, size_t cols, size_t ld_from,
                      float *to, size_t ld_to);
    /* Any steps. */
    void (*pack_wide)(const struct sl_bfp_source *s, uint32_t g,
                      const struct sl_bfp_wide *to);
    void (*product_wide)(const struct sl_bfp_wide_product *p);
};

void sl_bfp_ops_init(struct sl_bfp_ops *ops, uint32_t cpu);

extern const struct sl_bfp_ops sl_bfp_ops_c, sl_bfp_ops_avx2, sl_bfp_ops_avx512,
    sl_bfp_ops_neon;
/* Products by the dot-product instructions; everything else is the base set's. */
void sl_bfp_product_vnni(const struct sl_bfp_product *p);
void sl_bfp_product_dotprod(const struct sl_bfp_product *p);

#endif
