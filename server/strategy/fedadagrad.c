/* SPDX-License-Identifier: Apache-2.0 */
/* FedAdagrad, Reddi et al. 2021, algorithm 2: v += d^2. */
#include "server/strategy/adaptive.h"

static double moment(double v, double square, double beta2)
{
    (void)beta2;
    return v + square;
}

static void step(const struct sl_step *s, float *values, const float *mean, size_t n, float *state)
{
    sl_adaptive_step(s, values, mean, n, state, moment);
}

const struct sl_strategy_ops sl_strategy_fedadagrad = {.name = "fedadagrad",
                                                    .state_per_value = 2,
                                                    .vectors = 1,
                                                    .scale = sl_strategy_scale_one,
                                                    .init_state = sl_adaptive_init,
                                                    .step = step};
