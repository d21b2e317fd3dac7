/* SPDX-License-Identifier: Apache-2.0 */
/* tr_ops.h - Term Revealing: codes, signed digits, budgets, and products of codes.
 * Contracts common to all families stand in kernels/kernels.h; here all results are
 * integers or single IEEE operations, so variants agree to the bit.
 *
 * A code is an integer of at most 15 bits with its sign apart, |q| <= 2^14. Digits of a
 * magnitude are two planes: bit i of plus is the digit +1 at 2^i, bit i of minus the
 * digit -1; a negative code has its planes swapped. */
#ifndef SL_ACCEL_KERNELS_TR_OPS_H
#define SL_ACCEL_KERNELS_TR_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Numbers are those of the vectors and of the command line. */
enum sl_tr_encoder {
    SL_TR_NAF,    /* canonical signed digits: minimal, none next to another */
    SL_TR_WINDOW, /* a run of ones from bit a to bit b > a is +2^(b+1) - 2^a */
    SL_TR_BINARY, /* the bits of the magnitude, all positive */
};

#define SL_TR_BITS_MIN 2
#define SL_TR_BITS_MAX 15 /* of a code, its sign counted */
#define SL_TR_G_MAX 256
#define SL_TR_TILE 64 /* columns of a tile of weights and of a packed panel */
#define SL_TR_ROWS 6  /* rows of a tile of a product */

/* Packed weights of a product [m, k] x [k, n]: panels of SL_TR_TILE columns, in each
 * [pairs = (k + 1) / 2][SL_TR_TILE][2] codes: rows 2 i and 2 i + 1 of a column side by
 * side; what lies outside the matrix is 0. */
#define SL_TR_PAIRS(k) (((k) + 1) / 2)

/* What becomes of the integer dot products: c = alpha * ((float)dot * scale + bias), each
 * operation rounded on its own, added to the old c with accumulate. Without bias or with
 * alpha 1 those operations do not take place. */
struct sl_tr_finish {
    float scale, alpha;
    const float *bias; /* [n] or NULL */
    bool accumulate;
    float *c;
    size_t ldc;
};

struct sl_tr_ops {
    /* The largest |x[i]| as the bits of a float; 0x7f800000 or more when one of them is
     * Inf or NaN. 0 when n is 0. */
    uint32_t (*max_bits)(const float *x, size_t n);
    /* q = (int)min(|x| / sf + 0.5, limit) with the sign of x; denormal x count as 0. x
     * finite, sf >= 2^-126. */
    void (*quantise)(const float *x, size_t n, float sf, int16_t limit, int16_t *q);
    void (*encode)(enum sl_tr_encoder enc, const int16_t *q, size_t n, uint16_t *plus,
                   uint16_t *minus);
    /* v = the sum of the s >= 1 largest digits of q, whose codes have `bits` bits; v may
     * be q. */
    void (*cap)(enum sl_tr_encoder enc, unsigned bits, const int16_t *q, size_t n,
                unsigned s, int16_t *v);
    /* Groups side by side: group j is column j of planes [g, SL_TR_TILE]; keeps the k
     * largest digits of each, of equal ones those of the lowest rows. Returns the number
     * of digits kept. g <= SL_TR_G_MAX. */
    uint64_t (*reveal)(size_t g, unsigned k, uint16_t *plus, uint16_t *minus);
    /* c from codes a [m, lda >= 2 pairs] (a missing odd element is 0) and packed
     * weights. The sums of every dot product and of its parts fit 32 bits. */
    void (*product)(size_t m, size_t n, size_t pairs, const int16_t *a, size_t lda,
                    const int16_t *packed, const struct sl_tr_finish *f);
    /* The same; ret [m, n] takes the integers. */
    void (*product_int)(size_t m, size_t n, size_t pairs, const int16_t *a, size_t lda,
                        const int16_t *packed, int32_t *ret);
};

void sl_tr_ops_init(struct sl_tr_ops *ops, uint32_t cpu);

extern const struct sl_tr_ops sl_tr_ops_c, sl_tr_ops_avx2, sl_tr_ops_avx512,
    sl_tr_ops_neon;

#endif
