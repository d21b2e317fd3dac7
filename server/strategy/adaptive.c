/* SPDX-License-Identifier: Apache-2.0 */
#include "server/strategy/adaptive.h"

#include <math.h>

void sl_adaptive_init(const struct sl_plan *plan, float *state, size_t n)
{
    const double tau = plan->strategy.tau;
    for (size_t i = 0; i + 1 < n; i += 2) {
        state[i] = 0;
        state[i + 1] = (float)(tau * tau);
    }
}

void sl_adaptive_step(const struct sl_step *s, float *values, const float *mean, size_t n,
                      float *state, sl_second_moment moment)
{
    const double beta1 = s->plan->strategy.beta1, beta2 = s->plan->strategy.beta2;
    const double eta = s->plan->strategy.eta, tau = s->plan->strategy.tau;
    for (size_t i = 0; i < n; i++) {
        double d = mean[i];
        double m = beta1 * (double)state[2 * i] + (1 - beta1) * d;
        double v = moment(state[2 * i + 1], d * d, beta2);
        state[2 * i] = (float)m;
        state[2 * i + 1] = (float)v;
        values[i] = (float)((double)values[i] + eta * m / (sqrt(v) + tau));
    }
}
