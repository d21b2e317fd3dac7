/* SPDX-License-Identifier: Apache-2.0 */
/* strategy.h - how a round's updates become the next model: a const ops table per strategy, one
 * file each (fedavg.c: McMahan et al. 2017). A strategy states the scale s_k of a client's
 * contribution and turns the mean into a server step. Thread: step runs on a worker. */
#ifndef SL_SERVER_STRATEGY_H
#define SL_SERVER_STRATEGY_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/plan.h"
#include "common/wire.h"

struct sl_strategy_ops {
    const char *name;
    /* Floats of server state for a model of n_values (momentum, moments); 0 = none. */
    size_t (*state_values)(const struct sl_plan *plan, size_t n_values);
    /* s_k of an update (1 for FedAvg). */
    double (*scale)(const struct sl_plan *plan, const struct sl_update_meta *meta);
    /* values[0..n-1] is the model before and after; mean is that tile's mean update; state the tile's
     * state, state_values/n_values floats a value, or NULL. */
    void (*step)(const struct sl_plan *plan, float *values, const float *mean, size_t n,
                 float *state, uint32_t round);
};

extern const struct sl_strategy_ops sl_strategy_fedavg;

/* NULL when there is none of that name. */
const struct sl_strategy_ops *sl_strategy_find(const char *name);

#endif
