/* SPDX-License-Identifier: Apache-2.0 */
/* FedProx, Li et al. 2020, algorithm 2: the clients' gradients have the proximal term
 * (client/local/fedprox.c); the server averages as FedAvg does. */
#include "server/strategy/strategy.h"

const struct sl_strategy_ops sl_strategy_fedprox = {.name = "fedprox",
                                                    .vectors = 1,
                                                    .scale = sl_strategy_scale_one,
                                                    .step = sl_strategy_step_mean};
