/* SPDX-License-Identifier: Apache-2.0 */
/* Coordinate-wise trimmed mean, Yin et al. 2018, definition 2: the `trim` smallest and largest values
 * are left out, the others averaged. Weights play no part. */
#include "server/strategy/strategy.h"

static size_t least(const struct sl_plan *plan)
{
    return 2 * (size_t)plan->strategy.trim + 1;
}

static void combine(const struct sl_plan *plan, float *rows, size_t k, size_t stride, size_t n,
                    float *ret)
{
    size_t trim = plan->strategy.trim;
    sl_robust_sort(rows, k, stride, n);
    double sum[SL_ROBUST_BLOCK] = {0};
    for (size_t j = trim; j < k - trim; j++)
        for (size_t i = 0; i < n; i++)
            sum[i] += (double)rows[j * stride + i];
    for (size_t i = 0; i < n; i++)
        ret[i] = (float)(sum[i] / (double)(k - 2 * trim));
}

const struct sl_rule sl_rule_trimmed_mean = {
    .name = "trimmed-mean", .least = least, .combine = combine};

const struct sl_strategy_ops sl_strategy_trimmed_mean = {.name = "trimmed-mean",
                                                         .vectors = 1,
                                                         .scale = sl_strategy_scale_one,
                                                         .step = sl_strategy_step_mean,
                                                         .rule = &sl_rule_trimmed_mean};
