/* SPDX-License-Identifier: Apache-2.0 */
/* tr.h - Term Revealing (Kung, McDanel, Zhang: arXiv 2007.06389): codes with a scale per
 * tensor, at most k signed digits in a group of g weights, at most s digits in a data
 * value, exact integer products. Digits, budgets and ties are defined in
 * kernels/tr_ops.h; here tensors are led through the kernels and operations are counted.
 * Binary32, round to nearest even, denormals kept. Thread: any; owns nothing. */
#ifndef SL_ACCEL_UNITS_TR_H
#define SL_ACCEL_UNITS_TR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "accel/kernels/tr_ops.h"
#include "accel/units/matmul.h"
#include "common/error.h"

#define SL_TR_BUDGET_MAX 4096  /* every digit of the largest group */
#define SL_TR_ARRAY_MAX 65536u /* rows or columns of cells */
#define SL_TR_COEFFICIENTS 32  /* of a cell: exponents 0 to 2 * 15 */

struct sl_tr_options {
    unsigned bits_w, bits_x; /* of codes, the sign counted: SL_TR_BITS_MIN..MAX */
    unsigned g, k;           /* weights: k digits in a group of g along the reduction */
    unsigned s;              /* data: digits of a value */
    enum sl_tr_encoder enc;  /* of both */
    /* cost model: array of cells, clock, energy of a term pair and of a bit of weights
     * read, in units of the caller's choice */
    uint32_t rows, cols;
    double hz, e_pair, e_bit;
};

/* 8 and 8 bits, g 8, k 12, s 3, NAF; 64 x 128 cells at 170 MHz, 1 a pair, 0.01 a bit. */
struct sl_tr_options sl_tr_defaults(void);
/* SL_E_RANGE with option, value and range. */
enum sl_code sl_tr_check(const struct sl_tr_options *o, struct sl_err *err);

/* --- codes ---------------------------------------------------------------------------
 */

/* The scale of a tensor: max |x| / 2^(bits - 1); 1 when that is below 2^-126, where all
 * codes are to be 0: *ret_zero. SL_E_INPUT for Inf or NaN. */
enum sl_code sl_tr_scale(const struct sl_tr_ops *ops, const float *x, size_t n,
                         unsigned bits, float *ret_sf, bool *ret_zero,
                         struct sl_err *err);
/* A scale from outside: finite, at least 2^-126; else SL_E_RANGE. */
enum sl_code sl_tr_check_scale(float sf, struct sl_err *err);

/* Codes of a tensor. sf NULL: the tensor's own scale, else a given one. *ret_sf is the
 * scale used. SL_E_INPUT for Inf or NaN, SL_E_RANGE for a bad scale, nothing written. */
enum sl_code sl_tr_quantise(const struct sl_tr_ops *ops, const float *x, size_t n,
                            unsigned bits, const float *sf, int16_t *ret_q, float *ret_sf,
                            struct sl_err *err);

/* --- digits --------------------------------------------------------------------------
 */

/* Lines of a row-major tensor: element k of line (i0, i1) stands at (i0 * len + k) * n1 +
 * i1. */
struct sl_tr_lines {
    size_t n0, len, n1;
};
struct sl_tr_lines sl_tr_lines_axis(const size_t *dim, unsigned n_dims, unsigned axis);

/* What a tensor of codes becomes; each NULL = not wanted, value may be the codes. */
struct sl_tr_out {
    uint16_t *plus, *minus; /* digits kept */
    int16_t *value;         /* plus - minus */
    uint64_t terms;         /* digits kept in all */
};

/* Group budget: k digits in g consecutive elements of a line; the last group of a line
 * may be shorter and has the full budget. */
void sl_tr_reveal(const struct sl_tr_ops *ops, enum sl_tr_encoder enc, size_t g,
                  unsigned k, const struct sl_tr_lines *lines, const int16_t *q,
                  struct sl_tr_out *out);

/* Digits of planes [n]. */
uint64_t sl_tr_count(const uint16_t *plus, const uint16_t *minus, size_t n);

/* --- cost ----------------------------------------------------------------------------
 */

/* Term pairs of a product: for each place along the reduction, digits in all of x there
 * times digits in all of w there. x planes [m, k], w planes [k, n]. */
uint64_t sl_tr_pairs(size_t m, size_t k, size_t n, const uint16_t *x_plus,
                     const uint16_t *x_minus, const uint16_t *w_plus,
                     const uint16_t *w_minus);
/* The same as cells in lock step take them: m n ceil(len / g) k s. */
uint64_t sl_tr_bound(const struct sl_tr_options *o, uint64_t m, uint64_t n, uint64_t len);
/* Cycles of the array for a product whose reduction has `groups` groups: a wave of rows *
 * cols outputs takes groups k s, and rows + cols to fill. */
uint64_t sl_tr_cycles(const struct sl_tr_options *o, uint64_t m, uint64_t n,
                      uint64_t groups);
/* Bits of `terms` kept digits: exponent, sign and end mark of each. */
uint64_t sl_tr_bits(const struct sl_tr_options *o, uint64_t terms);
/* e_pair and e_bit applied to what a ledger counted. */
double sl_tr_energy(const struct sl_tr_options *o, const struct sl_unit_ledger *l);

/* A tMAC cell as the paper builds it, term by term: coefficient e counts the pairs whose
 * exponents add up to e, with the product of their signs. Returns the dot product, the
 * sum of ret[e] 2^e. */
int64_t sl_tr_cell(size_t n, const uint16_t *x_plus, const uint16_t *x_minus,
                   const uint16_t *w_plus, const uint16_t *w_minus,
                   int32_t ret[SL_TR_COEFFICIENTS], uint64_t *ret_pairs);

/* --- products ------------------------------------------------------------------------
 */

/* Sums of len products may leave 32 bits: len 2^(bits_w + bits_x) >= 2^31. */
bool sl_tr_is_wide(const struct sl_tr_options *o, size_t len);

size_t sl_tr_packed_values(size_t k, size_t n); /* int16 of a packed [k, n] */
/* values [k, n], rows ld apart (transposed: [n, k]), to packed. */
void sl_tr_pack(const int16_t *values, size_t ld, bool transposed, size_t k, size_t n,
                int16_t *ret_packed);

/* c [m, n] from codes a [m, lda] and packed codes, in 32 or 64 bits as `wide` says. */
void sl_tr_product(const struct sl_tr_ops *ops, bool wide, size_t m, size_t n, size_t k,
                   const int16_t *a, size_t lda, const int16_t *packed,
                   const struct sl_tr_finish *f);
/* The integers themselves, ret [m, n]. */
void sl_tr_product_int(const struct sl_tr_ops *ops, bool wide, size_t m, size_t n,
                       size_t k, const int16_t *a, size_t lda, const int16_t *packed,
                       int64_t *ret);

#endif
