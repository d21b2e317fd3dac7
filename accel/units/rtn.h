/* SPDX-License-Identifier: Apache-2.0 */
/* rtn.h - Reparameterised Ternary Networks (Li, Dong, Zhang, Bai, Chen, Wang: arXiv
 * 1912.02057): activations gamma_a t + beta_a and weights gamma_w tw + beta_w over fixed
 * ternary vectors, products by bit planes (kernels/rtn_ops.h), scale and offset combined
 * afterwards, and the gradients of both. Binary32, round to nearest even, denormals kept.
 * Thread: any; owns nothing. */
#ifndef SL_ACCEL_UNITS_RTN_H
#define SL_ACCEL_UNITS_RTN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "accel/kernels/rtn_ops.h"
#include "accel/units/matmul.h"
#include "common/error.h"

#define SL_RTN_ACTIVATION_D 0.5f /* threshold of activations */
#define SL_RTN_WEIGHT_D 0.7f     /* threshold of weights over their mean magnitude */
#define SL_RTN_KERNEL_MAX 31     /* of a convolution */

/* --- ternary values ------------------------------------------------------------------
 */

/* T((x - beta) / gamma): the reading in which thresholds move with scale and offset.
 * SL_E_INPUT for a NaN, SL_E_RANGE for gamma 0; nothing written then. */
enum sl_code sl_rtn_ternarise_before(const float *x, size_t n, float gamma, float beta,
                                     int8_t *ret_t, struct sl_err *err);
/* Planes of T(x) with threshold d. SL_E_INPUT for a NaN. */
enum sl_code sl_rtn_ternarise(const struct sl_rtn_ops *ops, const float *x, size_t n,
                              float d, uint64_t *flag, uint64_t *sign, uint64_t *clip,
                              struct sl_err *err);
void sl_rtn_unpack(const uint64_t *flag, const uint64_t *sign, size_t n, int8_t *ret_t);
/* gamma t + beta for t = -1, 0, 1: a product and a sum each. */
void sl_rtn_levels(float gamma, float beta, float ret_level[3]);

/* Weights [k inputs, n outputs] wherever they lie: element (i, j) at i * step_k + j *
 * step_n. Sums run over inputs outside, outputs inside. */
struct sl_rtn_weights {
    const float *w;
    size_t k, n, step_k, step_n;
};
/* D_w = 0.7 mean |w|, and the start of gamma_w: the mean of |w| over |w| > D_w, 0 if
 * there is none. SL_E_INPUT for Inf or NaN. */
enum sl_code sl_rtn_threshold(const struct sl_rtn_weights *w, float *ret_d,
                              float *ret_gamma, struct sl_err *err);

/* --- products ------------------------------------------------------------------------
 */

size_t sl_rtn_packed_words(size_t words, size_t n); /* uint64 of n packed lines */
/* Lines [n, words] to blocks (kernels/rtn_ops.h). */
void sl_rtn_pack_lines(const uint64_t *flag, const uint64_t *sign, size_t n, size_t words,
                       uint64_t *ret_packed);
/* Scale and offset of n outputs; gw and bw: n_scales = 1 or n of them. */
void sl_rtn_affine(float ga, float ba, const float *gw, const float *bw, size_t n_scales,
                   size_t n, struct sl_rtn_affine *ret);

/* A convolution's filters (kernel <= SL_RTN_KERNEL_MAX) ready for images. Arrays are the
 * caller's: words = SL_RTN_WORDS(in_c kernel^2), places = out_h out_w. Lanes of a line
 * are ordered (ky, kx, channel). Padding counts for nothing: count and sum_w have, for
 * each place, the positions inside the image and the sum of the weights there. */
struct sl_rtn_filters {
    uint64_t *flag, *sign; /* [out_c, words] */
    int32_t *sum_w;        /* [out_c, places] */
    int32_t *count;        /* [places] */
};
size_t sl_rtn_conv_words(const struct sl_conv_geometry *g);
/* From tw [out_c, in_c, kernel, kernel]; line: room for in_c kernel^2 bytes. */
void sl_rtn_filters_make(const struct sl_rtn_ops *ops, const struct sl_conv_geometry *g,
                         const int8_t *tw, int8_t *line, struct sl_rtn_filters *f);

/* What an image needs; arrays are the caller's. */
struct sl_rtn_image {
    int8_t *padded;        /* [in_h + 2 pad, in_w + 2 pad, in_c] */
    int8_t *line;          /* [in_c kernel^2] */
    uint64_t *flag, *sign; /* [places, words] */
    uint64_t *packed;      /* sl_rtn_packed_words(words, places) */
    int32_t *sum_a;        /* [places] */
    int32_t *d;            /* [out_c, places] */
};
/* r [out_c, places] from t [in_c, in_h, in_w]; affine [out_c]; bias [out_c] or NULL. */
void sl_rtn_conv_image(const struct sl_rtn_ops *ops, const struct sl_conv_geometry *g,
                       const int8_t *t, const struct sl_rtn_filters *f,
                       const struct sl_rtn_affine *affine, const float *bias,
                       struct sl_rtn_image *image, float *r);

/* --- gradients -----------------------------------------------------------------------
 */

/* Sums of g t and of g, in double and in index order; start from {0}. */
struct sl_rtn_sums {
    double gamma, beta;
};
void sl_rtn_sums_add(struct sl_rtn_sums *s, const float *g, const uint64_t *flag,
                     const uint64_t *sign, size_t n);

/* --- cost ----------------------------------------------------------------------------
 */

/* Cost model: lanes that take a word of word_bits multiply-adds a cycle each, clock,
 * energy of a ternary multiply-add and of one in single precision. */
struct sl_rtn_options {
    uint32_t word_bits, lanes;
    double hz, e_ternary, e_fp32;
};

/* 64 lanes of 64 bits at 200 MHz; 1 in single precision, 1/46.46 ternary (the paper's
 * FPGA power). */
struct sl_rtn_options sl_rtn_defaults(void);
/* SL_E_RANGE with option, value and range. */
enum sl_code sl_rtn_check(const struct sl_rtn_options *o, struct sl_err *err);

/* ceil(k / word_bits) m n / lanes, rounded up. */
uint64_t sl_rtn_cycles(const struct sl_rtn_options *o, uint64_t m, uint64_t n,
                       uint64_t k);
/* What a ledger counted: ternary multiply-adds where the unit worked by words, others in
 * single precision. One layer's ledger, or the sum of many. */
double sl_rtn_energy(const struct sl_rtn_options *o, const struct sl_unit_ledger *l);

#endif
