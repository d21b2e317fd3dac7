/* SPDX-License-Identifier: Apache-2.0 */
/* pace_game.h - a small cooperative game in which messages matter: who is faster than the team today?
 * Agent n sees its own delay y_n alone, and goes (1) or stays (0). The team earns, with y the mean of
 * all agents' delays in this step,
 *     r = gain * sum over those that go of (y - y_n)
 * so the best set is everybody below the mean, which nobody can see by itself.
 *     y_n = common + own_n + jitter (white)
 * common: one for all, wide, drifts slowly and now and then jumps (a new load on the network); own_n:
 * narrow, drifts slowly. Both are stationary AR(1). Jitter is what an agent must not put into messages:
 * in the mean of all it fades. Actions move nothing, so the best return is known step by step. */
#ifndef SL_SIM_POLICY_PACE_GAME_H
#define SL_SIM_POLICY_PACE_GAME_H

#include "sim/policy/game.h"

struct sl_pace_options {
    uint32_t n_agents; /* 2..SL_GAME_AGENTS_MAX */
    uint32_t steps;    /* of an episode, >= 1 */
    double common, own, jitter; /* standard deviations, >= 0 */
    double memory;              /* of the drifts, [0, 1): x' = memory x + noise */
    double jump;                /* chance that common is drawn anew, [0, 1] */
    double gain;                /* > 0 */
};

#define SL_PACE_DEFAULTS                                                                           \
    .n_agents = 10, .steps = 40, .common = 0.9, .own = 0.35, .jitter = 0.2, .memory = 0.9998,     \
    .jump = 0.015, .gain = 0.7

/* SL_E_RANGE, SL_E_NOMEM. */
enum sl_code sl_pace_game_new(const struct sl_pace_options *o, struct sl_game **ret,
                              struct sl_err *err);

/* The greatest reward that the next step can have. */
double sl_pace_best(const struct sl_game *g);

#endif
