/* SPDX-License-Identifier: Apache-2.0 */
#include "server/selection/fedmarl/reward.h"

#include "common/fdmath.h"

double sl_fedmarl_latency(const double *probe_s, const double *rest_s, const uint8_t *accept,
                          size_t n)
{
    double probe = 0, rest = 0;
    for (size_t i = 0; i < n; i++) {
        if (probe_s[i] > probe)
            probe = probe_s[i];
        if (accept[i] && rest_s[i] > rest)
            rest = rest_s[i];
    }
    return probe + rest;
}

double sl_fedmarl_traffic(const double *bytes, const uint8_t *accept, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        if (accept[i])
            sum += bytes[i];
    return sum;
}

double sl_fedmarl_utility_of(const struct sl_fedmarl_reward *r, double accuracy)
{
    if (r->utility == SL_UTILITY_PAPER)
        return 20 / (1 + sl_exp(0.35 * (1 - accuracy))) - 10;
    return -r->c * sl_log(1 - accuracy + 0.01);
}

double sl_fedmarl_cost_of(const struct sl_fedmarl_reward *r, double latency_s, double traffic)
{
    return r->w2 * latency_s / r->latency_ref_s + r->w3 * traffic / r->traffic_ref;
}

double sl_fedmarl_reward_of(const struct sl_fedmarl_reward *r, double accuracy_before,
                            double accuracy_after, double latency_s, double traffic)
{
    double gain =
        sl_fedmarl_utility_of(r, accuracy_after) - sl_fedmarl_utility_of(r, accuracy_before);
    return r->w1 * gain - sl_fedmarl_cost_of(r, latency_s, traffic);
}
