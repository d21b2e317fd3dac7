/* SPDX-License-Identifier: Apache-2.0 */
#include "server/strategy/strategy.h"

#include <string.h>

static const struct sl_strategy_ops *const strategies[] = {
    &sl_strategy_fedavg,     &sl_strategy_fedavgm,      &sl_strategy_fedprox,
    &sl_strategy_fednova,    &sl_strategy_scaffold,     &sl_strategy_fedadam,
    &sl_strategy_fedyogi,    &sl_strategy_fedadagrad,   &sl_strategy_median,
    &sl_strategy_trimmed_mean, &sl_strategy_krum,       &sl_strategy_multi_krum,
    &sl_strategy_geometric_median, &sl_strategy_fedbuff,
};

const struct sl_strategy_ops *sl_strategy_find(const char *name)
{
    for (size_t i = 0; i < sizeof(strategies) / sizeof(strategies[0]); i++)
        if (strcmp(strategies[i]->name, name) == 0)
            return strategies[i];
    return NULL;
}

double sl_strategy_scale_one(const struct sl_plan *plan, const struct sl_update_meta *meta)
{
    (void)plan;
    (void)meta;
    return 1.0;
}

void sl_strategy_step_mean(const struct sl_step *s, float *values, const float *mean, size_t n,
                           float *state)
{
    (void)s;
    (void)state;
    for (size_t i = 0; i < n; i++)
        values[i] += mean[i];
}
