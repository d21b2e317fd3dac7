/* SPDX-License-Identifier: Apache-2.0 */
/* Geometric median, Pillutla et al. 2022, algorithm 2 (smoothed Weiszfeld): from the weighted mean,
 * `iterations` times z = sum_k b_k d_k / sum_k b_k, b_k = a_k / max(nu, ||z - d_k||), all values as
 * one vector.
 *
 * z stays a mean of the updates with shares s, so its distances follow from those between updates,
 * D_ij = ||d_i - d_j||^2:  ||z - d_k||^2 = sum_j s_j D_kj - 1/2 sum_ij s_i s_j D_ij.
 * Hence the updates are read twice whatever the iterations: for D, and for the last mean. */
#include <math.h>

#include "server/strategy/strategy.h"

static size_t least(const struct sl_plan *plan)
{
    (void)plan;
    return 1;
}

static void scale_to_one(double *s, size_t k)
{
    double sum = 0;
    for (size_t i = 0; i < k; i++)
        sum += s[i];
    for (size_t i = 0; i < k; i++)
        s[i] /= sum;
}

/* ret[i] = sum_j s_j D_ij; returns half their mean by s. */
static double spread(const double *square, const double *s, size_t k, double *ret)
{
    double half = 0;
    for (size_t i = 0; i < k; i++) {
        ret[i] = 0;
        for (size_t j = 0; j < k; j++)
            ret[i] += s[j] * square[i * k + j];
        half += s[i] * ret[i];
    }
    return half / 2;
}

static void choose(const struct sl_plan *plan, const double *square, const double *weight, size_t k,
                   double *scratch, double *ret)
{
    for (size_t i = 0; i < k; i++)
        ret[i] = weight[i];
    scale_to_one(ret, k);
    for (uint32_t t = 0; t < plan->strategy.iterations; t++) {
        double half = spread(square, ret, k, scratch);
        for (size_t i = 0; i < k; i++) {
            double d = scratch[i] > half ? sqrt(scratch[i] - half) : 0;
            ret[i] = weight[i] / fmax(plan->strategy.nu, d);
        }
        scale_to_one(ret, k);
    }
}

const struct sl_rule sl_rule_geometric_median = {
    .name = "geometric-median", .least = least, .choose = choose};

const struct sl_strategy_ops sl_strategy_geometric_median = {.name = "geometric-median",
                                                             .vectors = 1,
                                                             .scale = sl_strategy_scale_one,
                                                             .step = sl_strategy_step_mean,
                                                             .rule = &sl_rule_geometric_median};
