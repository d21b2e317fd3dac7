/* SPDX-License-Identifier: Apache-2.0 */
/* FedAvg, McMahan et al. 2017, algorithm 1: w += sum_k p_k d_k with p_k = n_k / sum n_j. */
#include "server/strategy/strategy.h"

const struct sl_strategy_ops sl_strategy_fedavg = {.name = "fedavg",
                                                   .vectors = 1,
                                                   .scale = sl_strategy_scale_one,
                                                   .step = sl_strategy_step_mean};
