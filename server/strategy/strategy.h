/* SPDX-License-Identifier: Apache-2.0 */
/* strategy.h - how a round's updates become the next model: a const ops table per strategy, one
 * file each (fedavg.c: McMahan et al. 2017). A strategy states the scale s_k of a client's
 * contribution and turns the mean, or what its rule makes of the single updates (robust.h), into a
 * server step. Thread: scale from any; step runs on a worker. */
#ifndef SL_SERVER_STRATEGY_H
#define SL_SERVER_STRATEGY_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/plan.h"
#include "common/wire.h"
#include "server/strategy/robust.h"

/* What a step knows of its round. p_k: the included updates' weights, divided by their sum. */
struct sl_step {
    const struct sl_plan *plan;
    uint32_t round;
    double mean_steps; /* sum of p_k E_k, E_k local steps */
    double share;      /* weight of the included updates / weight of all clients, at most 1 */
};

struct sl_strategy_ops {
    const char *name;
    unsigned state_per_value; /* floats of server state that belong to a value (momentum, moments) */
    /* Vectors that travel, of as many values each. 1: the model. 2: control variates go behind the model
     * and behind the update, and are server state. */
    unsigned vectors;
    /* s_k of an update (1 for FedAvg). */
    double (*scale)(const struct sl_plan *plan, const struct sl_update_meta *meta);
    /* Asynchronous aggregation: the factor, in (0, 1], of an update that began so many versions of the model
     * ago, on top of scale. NULL: rounds. */
    double (*stale)(const struct sl_plan *plan, uint32_t versions);
    /* state[0..n-1] before the first round; NULL: zeros. */
    void (*init_state)(const struct sl_plan *plan, float *state, size_t n);
    /* values[0..n-1] is the model before and after; mean is that tile's mean update; state its
     * n * state_per_value floats. */
    void (*step)(const struct sl_step *s, float *values, const float *mean, size_t n, float *state);
    /* The same for the second vector. */
    void (*step_variates)(const struct sl_step *s, float *values, const float *mean, size_t n);
    const struct sl_rule *rule; /* takes the mean's place; NULL: the exact sum's mean */
};

extern const struct sl_strategy_ops sl_strategy_fedavg, sl_strategy_fedavgm, sl_strategy_fedprox,
    sl_strategy_fednova, sl_strategy_scaffold, sl_strategy_fedadam, sl_strategy_fedyogi,
    sl_strategy_fedadagrad, sl_strategy_fedbuff, sl_strategy_median, sl_strategy_trimmed_mean, sl_strategy_krum,
    sl_strategy_multi_krum, sl_strategy_geometric_median;

/* NULL when there is none of that name. */
const struct sl_strategy_ops *sl_strategy_find(const char *name);

/* Of strategies that have nothing of their own: s_k = 1; w += mean. */
double sl_strategy_scale_one(const struct sl_plan *plan, const struct sl_update_meta *meta);
void sl_strategy_step_mean(const struct sl_step *s, float *values, const float *mean, size_t n,
                           float *state);

#endif
