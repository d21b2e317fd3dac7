/* SPDX-License-Identifier: Apache-2.0 */
/* gain_game.h - one round of client selection with known gains, small enough to enumerate: agent i
 * adds v_i > 0 to accuracy and costs w3 c_i when it goes, and the slowest of those that go costs
 * w2 x its time. Inputs: v_i, c_i, time_i. Optimum over the 2^n joint actions known. */
#ifndef SL_SIM_GAIN_GAME_H
#define SL_SIM_GAIN_GAME_H

#include "common/error.h"
#include "sim/policy/game.h"

/* n_agents: 1..16. v, c and times uniform in [0, 1]. */
enum sl_code sl_gain_game_new(uint32_t n_agents, double w2, double w3, struct sl_game **ret,
                              struct sl_err *err);

/* The reward of actions in the present state, and of the best ones. */
double sl_gain_game_reward(const struct sl_game *g, const uint8_t *actions);
double sl_gain_game_best(const struct sl_game *g);

#endif
