/* SPDX-License-Identifier: Apache-2.0 */
/* usual.h - what inputs and decisions of a policy are like while nobody attacks: what its file says for the
 * defences (server/selection/defence) to hold on to. Thread: one at a time a game. */
#ifndef SL_SIM_USUAL_H
#define SL_SIM_USUAL_H

#include "common/error.h"
#include "server/selection/fedmarl/policy.h"
#include "sim/policy/game.h"

/* Plays `episodes` of a game of two actions greedily, from seeds that no training, validation or comparison
 * with `seed` plays. SL_E_NOMEM. */
enum sl_code sl_policy_usual(struct sl_game *g, const struct sl_qnet *net, uint64_t seed,
                             uint32_t episodes, struct sl_fedmarl_usual *ret, struct sl_err *err);

#endif
