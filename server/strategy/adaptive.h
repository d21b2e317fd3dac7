/* SPDX-License-Identifier: Apache-2.0 */
/* adaptive.h - what FedAdam, FedYogi and FedAdagrad share (Reddi et al. 2021, algorithm 2):
 * m = beta1 m + (1 - beta1) d, v by the strategy, w += eta m / (sqrt(v) + tau); m = 0 and v = tau^2
 * at the start, no bias correction. State: m and v of a value beside each other. */
#ifndef SL_SERVER_STRATEGY_ADAPTIVE_H
#define SL_SERVER_STRATEGY_ADAPTIVE_H

#include "server/strategy/strategy.h"

/* v after the round, from v before and the square of the mean update. */
typedef double (*sl_second_moment)(double v, double square, double beta2);

void sl_adaptive_init(const struct sl_plan *plan, float *state, size_t n);
void sl_adaptive_step(const struct sl_step *s, float *values, const float *mean, size_t n,
                      float *state, sl_second_moment moment);

#endif
