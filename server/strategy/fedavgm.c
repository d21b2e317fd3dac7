/* SPDX-License-Identifier: Apache-2.0 */
/* FedAvgM, Hsu et al. 2019, section 4.3: server momentum without dampening or Nesterov,
 * v = beta v + d, w += eta v; v = 0 at the start. State: v. */
#include "server/strategy/strategy.h"

static void step(const struct sl_step *s, float *values, const float *mean, size_t n, float *state)
{
    const double beta = s->plan->strategy.beta, eta = s->plan->strategy.eta;
    for (size_t i = 0; i < n; i++) {
        state[i] = (float)(beta * (double)state[i] + (double)mean[i]);
        values[i] = (float)((double)values[i] + eta * (double)state[i]);
    }
}

const struct sl_strategy_ops sl_strategy_fedavgm = {.name = "fedavgm",
                                                    .state_per_value = 1,
                                                    .vectors = 1,
                                                    .scale = sl_strategy_scale_one,
                                                    .step = step};
