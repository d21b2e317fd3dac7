/* SPDX-License-Identifier: Apache-2.0 */
/* FedNova, Wang et al. 2020, equations 7 and 8, for plain local SGD, where the normaliser of client
 * k is its number of local steps E_k: w += tau_eff * sum_k p_k d_k / E_k, tau_eff = sum_k p_k E_k.
 * A client without steps brings nothing and counts in tau_eff. */
#include "server/strategy/strategy.h"

static double scale(const struct sl_plan *plan, const struct sl_update_meta *meta)
{
    (void)plan;
    return meta->steps == 0 ? 0.0 : 1.0 / (double)meta->steps;
}

static void step(const struct sl_step *s, float *values, const float *mean, size_t n, float *state)
{
    (void)state;
    for (size_t i = 0; i < n; i++)
        values[i] = (float)((double)values[i] + s->mean_steps * (double)mean[i]);
}

const struct sl_strategy_ops sl_strategy_fednova = {
    .name = "fednova", .vectors = 1, .scale = scale, .step = step};
