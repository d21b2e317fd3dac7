/* SPDX-License-Identifier: Apache-2.0 */
/* federation_team.h - the agents that select clients (server/selection/fedmarl), attacked by the one client
 * that is row 0 of every cohort (sim/policy/federation_game.h). It may claim any loss and cost and any
 * number of samples up to the most seen, and report its probe later than it could; nothing else
 * about its row is its own to say.
 * The attacker knows the defences: it shows nothing that one of them would undo, and holds its update back
 * until just before a deadline.
 *   return     loses the team as much as it can
 *   cost       and, once accepted, may hold its update back for `stall` rounds' time
 *   starve     wants to be stopped: what a rival of the box's owner would want
 *   admission  wants to be accepted, and then may send its update times `poison` */
#ifndef SL_SIM_CMARL_FEDERATION_TEAM_H
#define SL_SIM_CMARL_FEDERATION_TEAM_H

#include "server/selection/defence/defence.h"
#include "sim/attack/cmarl/team.h"
#include "sim/policy/federation_game.h"

enum sl_cmarl_goal { SL_GOAL_RETURN, SL_GOAL_COST, SL_GOAL_STARVE, SL_GOAL_ADMISSION, SL_GOALS };
const char *sl_cmarl_goal_name(enum sl_cmarl_goal goal);

struct sl_federation_team_options {
    const struct sl_fedmarl_policy *policy; /* borrowed */
    struct sl_fedmarl_rails rails;
    enum sl_cmarl_goal goal;
    double stall;  /* of the time of a round that accepts everybody */
    double poison; /* factor on an update */
    struct sl_defence_options defences;
    /* After each round of everybody, with what it may teach (freeze); NULL = none. inputs: as
     * decided upon, [n, n_inputs]. */
    void (*learn)(void *ctx, const float *inputs, const uint8_t *actions, double reward, bool may);
    void *learn_ctx;
};

#define SL_FEDERATION_TEAM_DEFAULTS                                                                \
    .rails = {SL_FEDMARL_RAILS_DEFAULTS}, .stall = 3, .poison = -4,               \
    .defences = {SL_DEFENCE_DEFAULTS}

/* For games made of `plan`. SL_E_RANGE when the policy's features are not the plan's; SL_E_NOMEM. */
enum sl_code sl_federation_team_new(const struct sl_federation_team_options *o,
                                    const struct sl_policy_plan *plan, struct sl_team **ret,
                                    struct sl_err *err);
void sl_federation_team_free(struct sl_team *t); /* NULL allowed */

/* Inputs of everybody as the last decision saw them, [n, n_inputs]: with the lie, and what was made of it. */
const float *sl_federation_team_inputs(const struct sl_team *t);

/* Since the last reset: what the defences did. */
struct sl_federation_alarms {
    uint32_t victim;      /* rounds in which the victim was suspect */
    uint32_t first;       /* the first of them, plus 1; 0 = never */
    uint32_t others;      /* client-rounds of others that were suspect */
    uint32_t others_out;  /* of these: kept out */
};
const struct sl_federation_alarms *sl_federation_alarms(const struct sl_team *t);

#endif
