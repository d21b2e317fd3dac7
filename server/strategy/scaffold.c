/* SPDX-License-Identifier: Apache-2.0 */
/* SCAFFOLD, Karimireddy et al. 2020, algorithm 1 with option II; the client half is
 * client/local/scaffold.c. The model goes down with the server's variate c behind it, the update
 * comes up with dc_k = c_k+ - c_k behind it:
 *   w += eta sum_k p_k d_k,   c += share * sum_k p_k dc_k,
 * share = weight of the cohort / weight of all clients, which makes the latter (1/N) sum dc_k for
 * uniform weights and sum (n_k / n_all) dc_k for weights by samples. */
#include "server/strategy/strategy.h"

static void step(const struct sl_step *s, float *values, const float *mean, size_t n, float *state)
{
    (void)state;
    for (size_t i = 0; i < n; i++)
        values[i] = (float)((double)values[i] + s->plan->strategy.eta * (double)mean[i]);
}

static void step_variates(const struct sl_step *s, float *values, const float *mean, size_t n)
{
    for (size_t i = 0; i < n; i++)
        values[i] = (float)((double)values[i] + s->share * (double)mean[i]);
}

const struct sl_strategy_ops sl_strategy_scaffold = {.name = "scaffold",
                                                     .vectors = 2,
                                                     .scale = sl_strategy_scale_one,
                                                     .step = step,
                                                     .step_variates = step_variates};
