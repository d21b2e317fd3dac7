/* SPDX-License-Identifier: Apache-2.0 */
/* FedBuff, Nguyen et al. 2022, algorithm 1 without secure aggregation: K updates that began from any
 * earlier version are a buffer, w += eta sum_k p_k s_k d_k, where an update that is t versions old counts
 * with s_k = (1 + t)^-p (section 5; p = 1/2 there). The p_k are not scaled along: stale updates make the
 * step smaller. server/buffer.c fills the buffers. */
#include "server/strategy/strategy.h"

#include "common/fdmath.h"

static double stale(const struct sl_plan *plan, uint32_t versions)
{
    return versions == 0 ? 1.0 : sl_pow(1.0 + (double)versions, -plan->strategy.staleness_power);
}

static void step(const struct sl_step *s, float *values, const float *mean, size_t n, float *state)
{
    (void)state;
    for (size_t i = 0; i < n; i++)
        values[i] = (float)((double)values[i] + s->plan->strategy.eta * (double)mean[i]);
}

const struct sl_strategy_ops sl_strategy_fedbuff = {.name = "fedbuff",
                                                    .vectors = 1,
                                                    .scale = sl_strategy_scale_one,
                                                    .stale = stale,
                                                    .step = step};
