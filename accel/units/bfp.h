/* SPDX-License-Identifier: Apache-2.0 */
/* bfp.h - block floating point as FAST defines it: the scalar definition that every
 * kernel reproduces bit for bit. Source: Zhang, McDanel, Kung 2021 (arXiv 2110.15456). g
 * values along a line share an exponent; a value keeps a sign and m bits of magnitude,
 * the highest of which weighs 2^E'. E = largest exponent of the group, limited to
 * [-60, 60]; E_T = largest E of the tensor; the group's code is c = min(E_T - E, 2^e - 1)
 * and its exponent E' = E_T - c >= E. A group of zeros, or of values below 2^-60, has the
 * largest code and mantissas 0. Zeros and denormals count as zero, infinities as the
 * largest finite number; a NaN refuses the tensor.
 * t = significand >> (16 - m + E' - exponent): eight bits below those that stay;
 * M = min((t + r) >> 8, 2^m - 1); value = +-M 2^(E' - m + 1).
 * Binary32 throughout, round to nearest even, denormals kept. Thread: any; owns nothing.
 */
#ifndef SL_ACCEL_UNITS_BFP_H
#define SL_ACCEL_UNITS_BFP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define SL_BFP_M_MAX 8
#define SL_BFP_E_MAX 8
#define SL_BFP_EXPONENT_MAX 60 /* of a group, and -60 the least */
#define SL_BFP_LANES 16        /* of the converter's shift registers */
#define SL_BFP_PERIOD 255      /* draws after which a register repeats */

/* What is added below the kept bits: r of the formula above. */
enum sl_bfp_round {
    SL_BFP_TRUNCATE, /* 0 */
    SL_BFP_NEAREST,  /* 128: half up in magnitude */
    SL_BFP_CTR,      /* upper byte of splitmix64(key + n) */
    SL_BFP_LFSR,     /* element k of a line draws from register k mod 16 */
    SL_BFP_GIVEN,    /* the caller's bytes */
};

struct sl_bfp_options {
    uint32_t g; /* values of a group, >= 1 */
    uint32_t e; /* bits of the exponent code: 3, 4, 8; 0 = unlimited, handled as 8 */
    uint32_t m; /* bits of a magnitude, 1 to 8 */
    enum sl_bfp_round round;
    uint64_t key;         /* SL_BFP_CTR */
    uint64_t lfsr_start;  /* SL_BFP_LFSR: draws taken before from every register */
    const uint8_t *given; /* SL_BFP_GIVEN: in the places of the values */
};

/* Lines of a tensor: line i0 * n1 + i1 has its element k at x[i0 * step0 + i1 * step1 +
 * k * step_k]. Element k of line l has number n = l * k_count + k in the converted order;
 * its group is k / g. */
struct sl_bfp_lines {
    size_t n0, n1, k;
    size_t step0, step1, step_k;
};

/* Lines along one axis of a row-major tensor, numbered row-major over the others. */
struct sl_bfp_lines sl_bfp_lines_axis(const size_t *dim, unsigned n_dims, unsigned axis);
size_t sl_bfp_line_count(const struct sl_bfp_lines *l);
size_t sl_bfp_groups(size_t k, uint32_t g); /* of a line: ceil(k / g) */

/* What a conversion writes; NULL = not wanted. Mantissas, values and noise stand where
 * the source's elements stand, codes and exponents at [line][group]. */
struct sl_bfp_out {
    int16_t *mantissa; /* -255 to 255 */
    uint8_t *code;
    int16_t *exponent; /* E' */
    float *value;
    uint8_t *noise; /* r; 0 and 128 for the fixed ones */
    int32_t exponent_t;
    uint64_t n_inf; /* infinities replaced */
};

/* SL_E_RANGE: g 0, m not 1..8, e not one of 0, 3, 4, 8. */
enum sl_code sl_bfp_check(const struct sl_bfp_options *o, struct sl_err *err);
/* The sum of a group's products must stay exact in a float: g (2^mx - 1) (2^my - 1) <
 * 2^24, or SL_E_RANGE. */
enum sl_code sl_bfp_check_product(uint32_t g, uint32_t mx, uint32_t my,
                                  struct sl_err *err);

/* Converts. SL_E_RANGE as sl_bfp_check; SL_E_INPUT for a NaN, with nothing written. */
enum sl_code sl_bfp_convert(const struct sl_bfp_options *o, const struct sl_bfp_lines *l,
                            const float *x, struct sl_bfp_out *out, struct sl_err *err);

/* E_T of a tensor. SL_E_INPUT for a NaN. */
enum sl_code sl_bfp_tensor_exponent(const struct sl_bfp_lines *l, const float *x,
                                    int32_t *ret, struct sl_err *err);
/* r of each element, by its number in the converted order. */
void sl_bfp_numbered_noise(const struct sl_bfp_options *o, const struct sl_bfp_lines *l,
                           uint8_t *ret);
/* Place of element k of a line among the source's values. */
size_t sl_bfp_place(const struct sl_bfp_lines *l, size_t line, size_t k);

/* Largest code of e: 2^e - 1. */
uint32_t sl_bfp_code_max(uint32_t e);
/* M 2^(exponent - m + 1). */
float sl_bfp_value(int32_t mantissa, int32_t exponent, uint32_t m);

/* --- products
 * -------------------------------------------------------------------------------- */

/* Sum of x[i] y[i]. */
int32_t sl_bfp_dot(const int16_t *x, const int16_t *y, size_t n);
/* ret[i][j]: sum of the products of two-bit chunk i of x with chunk j of y, 0 = low; each
 * chunk carries its value's sign. Chunks beyond a width are 0. The sum of ret[i][j]
 * 4^(i + j) is sl_bfp_dot. */
#define SL_BFP_CHUNKS 4
void sl_bfp_dot_chunks(const int16_t *x, const int16_t *y, size_t n,
                       int32_t ret[SL_BFP_CHUNKS][SL_BFP_CHUNKS]);
/* Passes of the multiplier: ceil(mx / 2) ceil(my / 2). */
uint32_t sl_bfp_passes(uint32_t mx, uint32_t my);

/* A converted line: k mantissas `step` apart, an exponent a group, m bits. */
struct sl_bfp_line {
    const int16_t *mantissa;
    size_t step;
    const int16_t *exponent;
    uint32_t m;
};

/* acc, then += (float)P 2^(Ea - ma + 1 + Eb - mb + 1) for each group in turn, where P is
 * the sum of the group's products. */
float sl_bfp_add_line(float acc, uint32_t g, size_t k, const struct sl_bfp_line *a,
                      const struct sl_bfp_line *b);

/* One operand of a product: `lines` lines of k mantissas in groups of g. */
struct sl_bfp_operand {
    const int16_t *mantissa;
    size_t step_line, step_k; /* of mantissas; exponents lie at [line][group] */
    const int16_t *exponent;
    int32_t exponent_t; /* exact only */
    uint32_t m, e;
};

struct sl_bfp_gemm {
    size_t rows, cols, k;
    uint32_t g;
    struct sl_bfp_operand a, b; /* lines of a are rows, lines of b columns */
    const float *bias;          /* [cols], added last; NULL = none */
    bool exact; /* int64 sums on a common exponent and one rounding; e of both <= 4 */
};

/* c[rows][cols]: sl_bfp_add_line from +0, then the bias.
 * SL_E_RANGE for widths whose products are not exact, and for `exact` beyond e = 4. */
enum sl_code sl_bfp_gemm(const struct sl_bfp_gemm *p, float *ret_c, struct sl_err *err);

/* --- noise
 * ----------------------------------------------------------------------------------- */

/* h = 0, then h = splitmix64(h ^ v) for each v. */
uint64_t sl_hash64(const uint64_t *v, size_t n);
/* r of element n under a key. */
uint8_t sl_bfp_noise(uint64_t key, uint64_t n);
/* table[d][lane]: draw d of each register (d taken modulo SL_BFP_PERIOD), draw 0 = the
 * state after the first eight shifts. x^8 + x^6 + x^5 + x^4 + 1, register `lane` starts
 * at 1 + 15 lane. */
void sl_bfp_lfsr_table(uint8_t ret[SL_BFP_PERIOD][SL_BFP_LANES]);

/* --- adaptive precision
 * ---------------------------------------------------------------------- */

/* num = sum |Q4(x) - Q2(x)|, den = sum |Q2(x)|, truncating, in double and in the order of
 * the lines' storage. SL_E_INPUT for a NaN. */
enum sl_code sl_bfp_improvement(uint32_t g, uint32_t e, const struct sl_bfp_lines *l,
                                const float *x, double *ret_num, double *ret_den,
                                struct sl_err *err);
/* (alpha - beta i / n_iterations) - beta l / n_layers; l from 1, i from 0. */
double sl_bfp_threshold(double alpha, double beta, uint64_t i, uint64_t n_iterations,
                        uint32_t l, uint32_t n_layers);
/* 2 if num / den < eps, else 4; 4 if den is 0. */
uint32_t sl_bfp_pick(double num, double den, double eps);

#endif
