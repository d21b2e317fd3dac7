/* SPDX-License-Identifier: Apache-2.0 */
/* fast.h - options of the unit "fast" (FAST: Zhang, McDanel, Kung 2021), which multiplies
 * in block floating point: weights and activations truncated, gradients rounded
 * stochastically, widths of 2 or 4 bits chosen by layer and progress of the run.
 * Thread: any; owns nothing. */
#ifndef SL_ACCEL_UNITS_FAST_H
#define SL_ACCEL_UNITS_FAST_H

#include <stdbool.h>
#include <stdint.h>

#include "accel/units/bfp.h"
#include "accel/units/matmul.h"
#include "common/error.h"

enum sl_fast_precision {
    SL_FAST_ADAPTIVE, /* 2 bits where r(X) < alpha - beta i/I - beta l/L, else 4 */
    SL_FAST_LOW,      /* 2 bits */
    SL_FAST_HIGH,     /* 4 bits */
    SL_FAST_FIXED,    /* m[] bits */
};

/* The tensors of a layer: weights, activations, gradients. */
enum { SL_FAST_W, SL_FAST_A, SL_FAST_G, SL_FAST_TENSORS };

struct sl_fast_options {
    enum sl_fast_precision precision;
    uint32_t m[SL_FAST_TENSORS];      /* SL_FAST_FIXED: 1 to 8 each */
    uint32_t g, e;                    /* values of a group; exponent bits 3, 4, 8, 0 */
    enum sl_bfp_round round;          /* weights, activations: TRUNCATE or NEAREST */
    enum sl_bfp_round round_gradient; /* CTR, LFSR, or TRUNCATE, NEAREST */
    double alpha, beta;
    uint32_t refresh; /* r(X) is computed at every so many steps, >= 1 */
    /* cost model: array of multipliers, clock, energy of a pass of 16 elements and of a
     * bit moved, in units of the caller's choice */
    uint32_t rows, cols;
    double hz, e_pass, e_bit;
    const uint64_t
        *keys; /* [3] noise keys by use, instead of their hashes; NULL = none */
};

/* Adaptive, g 16, e 4, truncate, counter noise, alpha 0.6, beta 0.3, every step; 256 x 64
 * at 500 MHz, 1 a pass, 0.01 a bit. */
struct sl_fast_options sl_fast_defaults(void);
/* SL_E_RANGE with option, value and range. */
enum sl_code sl_fast_check(const struct sl_fast_options *o, struct sl_err *err);

/* "adaptive", "low", "high", or "1" to "8" for all tensors; sets precision and m.
 * SL_E_RANGE. */
enum sl_code sl_fast_precision_parse(const char *text, struct sl_fast_options *ret,
                                     struct sl_err *err);

/* e_pass and e_bit applied to what a ledger counted. */
double sl_fast_energy(const struct sl_fast_options *o, const struct sl_unit_ledger *l);

/* ceil(groups / rows) ceil(n / cols) (m passes + rows + cols - 1): a product [m, k] [k,
 * n] whose reduction has `groups` groups. */
uint64_t sl_fast_cycles(const struct sl_fast_options *o, uint64_t m, uint64_t n,
                        uint64_t groups, uint32_t passes);
/* Bits of one group: exponent, and three for every two of a magnitude. */
uint64_t sl_fast_group_bits(const struct sl_fast_options *o, uint32_t m);

/* Key of a conversion's noise: hash64(seed, client, round 2^32 + step, layer, tensor,
 * use). What is not the first product of its kind in the layer, or not in the first part
 * of a batch, has part and number behind. use: 0 forward, 1 data gradient, 2 weight
 * gradient. */
#define SL_FAST_TENSOR_GRADIENT 2
uint64_t sl_fast_key(const struct sl_rng_id *draw, uint32_t layer, uint32_t tensor,
                     uint32_t use, uint32_t part, uint32_t number);

#endif
