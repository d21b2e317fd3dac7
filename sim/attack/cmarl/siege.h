/* SPDX-License-Identifier: Apache-2.0 */
/* siege.h - a cooperative game seen by the adversary of one of its agents, as a game of its own for one
 * player: it observes the victim's true inputs, its action is the action that the victim should be made
 * to take, its reward what that costs the team. So an adversary is trained by what trains teams
 * (sim/policy/learn.h).
 * direct    the victim is made to take the action: the bound of every attack with the same rule
 * two-step  it is shown a lie (craft.h) if its own action is another one; if none is found that works,
 *           the truth
 * The regulariser is in the reward: -r - lambda d^2, d = max Q(o, .) - Q(o, target).
 * Owns: its buffers; borrows game and team. Thread: one at a time. */
#ifndef SL_SIM_CMARL_SIEGE_H
#define SL_SIM_CMARL_SIEGE_H

#include "sim/attack/cmarl/rule.h"
#include "sim/attack/cmarl/team.h"

enum sl_siege_control { SL_SIEGE_DIRECT, SL_SIEGE_TWO_STEP };

struct sl_siege_options {
    enum sl_siege_control control;
    struct sl_craft_options craft; /* its margin is what the team's range says, at least */
    double lambda;
    uint32_t victim;
};

/* The episode so far. */
struct sl_siege_counts {
    uint32_t steps;
    uint32_t wanted;       /* the target was not the victim's own action */
    uint32_t hits;         /* of these: the victim took the target */
    uint32_t mispredicted; /* the victim took another action than its own, the target or not */
    uint32_t lies;         /* steps with something else than the truth shown */
    uint32_t accepted;     /* steps in which its action was not 0 */
    double l1;             /* sum over the lies */
    double team;           /* the team's return */
    double worth;          /* the attacker's, without the regulariser */
};

enum sl_code sl_siege_new(const struct sl_siege_options *o, struct sl_game *game,
                          struct sl_team *team, struct sl_game **ret, struct sl_err *err);
const struct sl_siege_counts *sl_siege_counts(const struct sl_game *siege);

/* Plays the episode of a seed by a rule; the counts of it. */
struct sl_siege_counts sl_siege_play(struct sl_game *siege, const struct sl_cmarl_rule *rule,
                                     uint64_t seed);

#endif
