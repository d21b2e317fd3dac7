/* SPDX-License-Identifier: Apache-2.0 */
/* Coordinate-wise median, Yin et al. 2018, definition 1: the middle value, or the mean of the two
 * middle ones. Weights play no part. */
#include "server/strategy/strategy.h"

static size_t least(const struct sl_plan *plan)
{
    (void)plan;
    return 1;
}

static void combine(const struct sl_plan *plan, float *rows, size_t k, size_t stride, size_t n,
                    float *ret)
{
    (void)plan;
    sl_robust_sort(rows, k, stride, n);
    const float *low = rows + (k - 1) / 2 * stride, *high = rows + k / 2 * stride;
    for (size_t i = 0; i < n; i++)
        ret[i] = (float)(((double)low[i] + (double)high[i]) / 2);
}

const struct sl_rule sl_rule_median = {.name = "median", .least = least, .combine = combine};

const struct sl_strategy_ops sl_strategy_median = {.name = "median",
                                                   .vectors = 1,
                                                   .scale = sl_strategy_scale_one,
                                                   .step = sl_strategy_step_mean,
                                                   .rule = &sl_rule_median};
