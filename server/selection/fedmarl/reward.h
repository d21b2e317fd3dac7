/* SPDX-License-Identifier: Apache-2.0 */
/* reward.h - what a round cost and what it earned (Zhang, Lin, Zhang 2022, section 3).
 *   H = max over all of probe + max over the accepted of (rest + upload); the second 0 for nobody
 *   B = sum over the accepted of bytes
 *   r = w1 (U(accuracy after) - U(accuracy before)) - w2 H / H_ref - w3 B / B_ref
 * the same r for every agent. The terms of U telescope over an episode. Pure; thread: any. */
#ifndef SL_SERVER_FEDMARL_REWARD_H
#define SL_SERVER_FEDMARL_REWARD_H

#include <stddef.h>
#include <stdint.h>

/* Seconds. probe_s[n] of everybody; rest_s[n]: the other epochs and the upload. */
double sl_fedmarl_latency(const double *probe_s, const double *rest_s, const uint8_t *accept,
                          size_t n);
double sl_fedmarl_traffic(const double *bytes, const uint8_t *accept, size_t n);

/* Both rise with accuracy x in [0, 1] (a share, not percent):
 * paper  20 / (1 + exp(0.35 (1 - x))) - 10: nearly a line, from -1.73 to 0
 * late   -c ln(1 - x + 0.01): late gains count more */
enum sl_fedmarl_utility { SL_UTILITY_PAPER, SL_UTILITY_LATE };

struct sl_fedmarl_reward {
    enum sl_fedmarl_utility utility;
    double c;          /* of `late`, > 0 */
    double w1, w2, w3;
    double latency_ref_s; /* > 0: H of a round that accepts everybody (median) */
    double traffic_ref;   /* > 0: B of a round that accepts everybody */
};

double sl_fedmarl_utility_of(const struct sl_fedmarl_reward *r, double accuracy);
/* w2 H / H_ref + w3 B / B_ref */
double sl_fedmarl_cost_of(const struct sl_fedmarl_reward *r, double latency_s, double traffic);
double sl_fedmarl_reward_of(const struct sl_fedmarl_reward *r, double accuracy_before,
                            double accuracy_after, double latency_s, double traffic);

#endif
