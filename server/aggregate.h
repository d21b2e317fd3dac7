/* SPDX-License-Identifier: Apache-2.0 */
/* aggregate.h - the exact sum of updates in fixed point (DESIGN section 4).
 * A client's contribution to value i is n_k * rint((double)x_i * s_k * 2^f), an int64; the sum does
 * not depend on order, workers or restarts. The mean is (float)((double)q_i / ((double)n * 2^f)).
 * Owns: one accumulator of n_values int64, whatever the cohort. Thread: one at a time. */
#ifndef SL_SERVER_AGGREGATE_H
#define SL_SERVER_AGGREGATE_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct sl_sum_bounds {
    double max_abs;      /* of |x * s_k| */
    uint64_t max_weight; /* of n_k */
    uint64_t sum_weight; /* largest sum of weights that can come together */
    uint32_t fraction_bits;
};

/* Lowers fraction_bits until max_abs * 2^f * sum_weight < 2^63; SL_E_RANGE naming the numbers when
 * fewer than 16 bits would be left. */
enum sl_code sl_sum_bounds_fit(struct sl_sum_bounds *b, struct sl_err *err);

/* The largest sum of weights that fits b's max_abs and fraction_bits (sum_weight is not looked at): never
 * less than a sum_weight that fits. */
uint64_t sl_sum_capacity(const struct sl_sum_bounds *b);

struct sl_sum {
    int64_t *q; /* n_values, owned */
    size_t n_values;
    uint64_t n_sum; /* weights added */
    struct sl_sum_bounds bounds;
};

enum sl_code sl_sum_init(struct sl_sum *s, size_t n_values, const struct sl_sum_bounds *b,
                         struct sl_err *err);
void sl_sum_deinit(struct sl_sum *s);
void sl_sum_clear(struct sl_sum *s);

/* Adds x[0..n-1] (scaled by s_k) to values offset.. with weight n_k, but not n_k to n_sum: an update
 * comes in tiles. Every value must have passed sl_update_check. */
void sl_sum_add_tile(struct sl_sum *s, size_t offset, const float *x, size_t n, uint64_t weight,
                     double scale);
void sl_sum_count(struct sl_sum *s, uint64_t weight);

/* Mean of values offset..offset+n-1. n_sum >= 1. */
void sl_sum_mean_tile(const struct sl_sum *s, size_t offset, size_t n, float *ret);

/* First value of x that is not finite or has |x * scale| > max_abs; n when there is none. */
size_t sl_update_check(const float *x, size_t n, double scale, double max_abs);

/* Sum of the squares, in double, in one order whatever the CPU. */
double sl_norm_square(const float *x, size_t n);

#endif
