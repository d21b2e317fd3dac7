/* SPDX-License-Identifier: Apache-2.0 */
/* haunted.h - a federation as a team in training sees it when, in half of the episodes, one client is dishonest:
 * adversarial training. The client is row 0; it lies by a learned rule against the network that the
 * team acts with when the game is made, and has the goal cost. Otherwise the game is the federation's.
 * Owns: the federation and its buffers. Thread: one at a time. */
#ifndef SL_SIM_CMARL_HAUNTED_H
#define SL_SIM_CMARL_HAUNTED_H

#include "sim/attack/cmarl/federation_team.h"
#include "sim/attack/cmarl/rule.h"

/* federation: the game's from now on (freed on failure, too). Borrows policy and attacker, which must stay
 * as they are. Errors of sl_federation_team_new. */
enum sl_code sl_haunted_game_new(const struct sl_policy_plan *plan,
                                 const struct sl_fedmarl_policy *policy,
                                 const struct sl_qnet *attacker, struct sl_game *federation,
                                 struct sl_game **ret, struct sl_err *err);

#endif
