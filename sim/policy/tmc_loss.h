/* SPDX-License-Identifier: Apache-2.0 */
/* tmc_loss.h - what a team with messages is trained on (Zhang, Lin, Zhang 2020): over the P played steps of
 * a batch of B episodes
 *     L = 1/P sum over episodes and steps of (y - Q_tot)^2 + lambda_s L_s - lambda_r L_r
 * Two forms of either regulariser:
 *   PAPER  L_s = sum_n sum_{i=1..3} beta_i |m^t - m^{t-i}|^2       L_r = sum_n (Q best - Q second best)
 *   CODE   L_s = sum over the steps up to t of sum_i beta_i |M^t - M^{t-i}|^2 /
 *                (k B N A (|M^t|^2 + 1e-6)), M: messages of the whole batch, one L_s for all episodes; k of
 *                the three earlier steps are there
 *          L_r = -B/192 sum_n exp(-25 (Q best - Q second best))
 * CODE is what the authors' published code computes, with its constants; the 1e-6, which it lacks, keeps
 * a message of zeros from making a NaN. beta = 1.5, 1, 0.5 for lags 1, 2, 3. The gap is taken over
 * available actions; with fewer than two of them there is none. Arrays are [steps, B, agents, actions].
 * Pure; thread: any. */
#ifndef SL_SIM_POLICY_TMC_LOSS_H
#define SL_SIM_POLICY_TMC_LOSS_H

#include <stddef.h>
#include <stdint.h>

enum sl_tmc_form { SL_TMC_FORM_CODE, SL_TMC_FORM_PAPER };

struct sl_tmc_batch_shape {
    size_t steps, episodes, agents, actions;
    const uint32_t *lengths; /* [episodes], 1..steps: what is beyond is not played */
};

size_t sl_tmc_played(const struct sl_tmc_batch_shape *b);

/* lambda x the mean of L_s; its derivative is added to dm. */
double sl_tmc_smooth_loss(const struct sl_tmc_batch_shape *b, enum sl_tmc_form form, double lambda,
                          const float *m, float *dm);

/* -lambda x the mean of L_r; its derivative is added to dq. available[steps, B, agents]: bit a is set
 * when action a is; NULL: all are. */
double sl_tmc_confident_loss(const struct sl_tmc_batch_shape *b, enum sl_tmc_form form,
                             double lambda, const float *q, const uint16_t *available, float *dq);

/* Best minus second best of the available actions; their numbers in ret. Negative when there are
 * fewer than two. */
double sl_tmc_gap(const float *q, size_t actions, uint16_t available, uint8_t ret[2]);

/* Mean of (y - Q_tot)^2; its derivative is added to dq. actions[steps, B, agents], y[steps, B]. */
double sl_tmc_value_loss(const struct sl_tmc_batch_shape *b, const float *q, const uint8_t *actions,
                         const float *y, float *dq);

#endif
