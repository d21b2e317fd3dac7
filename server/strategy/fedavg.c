/* SPDX-License-Identifier: Apache-2.0 */
/* FedAvg, McMahan et al. 2017, algorithm 1: w += sum_k p_k d_k with p_k = n_k / sum n_j. */
#include "server/strategy/strategy.h"

static size_t state_values(const struct sl_plan *plan, size_t n_values)
{
    (void)plan;
    (void)n_values;
    return 0;
}

static double scale(const struct sl_plan *plan, const struct sl_update_meta *meta)
{
    (void)plan;
    (void)meta;
    return 1.0;
}

static void step(const struct sl_plan *plan, float *values, const float *mean, size_t n,
                 float *state, uint32_t round)
{
    (void)plan;
    (void)state;
    (void)round;
    for (size_t i = 0; i < n; i++)
        values[i] += mean[i];
}

const struct sl_strategy_ops sl_strategy_fedavg = {"fedavg", state_values, scale, step};
