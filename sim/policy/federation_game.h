/* SPDX-License-Identifier: Apache-2.0 */
/* federation_game.h - client selection as a game: one simulated federation an episode, N agents for the
 * round's N clients, T rounds, actions stop and go. Devices have four classes of speed and of
 * uplink (1, 2, 4, 8 times), independent, times a lognormal factor a round; updates come from a
 * table (update_table.h), so a round costs an average and an evaluation. Nobody accepted: the
 * model stays (the rails are not part of the game). */
#ifndef SL_SIM_FEDERATION_GAME_H
#define SL_SIM_FEDERATION_GAME_H

#include "common/error.h"
#include "server/selection/facts.h"
#include "sim/policy/game.h"
#include "sim/policy/policy_plan.h"
#include "sim/policy/update_table.h"

/* Which federations of the table episodes draw from. */
enum sl_federation_part { SL_FEDERATION_POOL, SL_FEDERATION_HELD_OUT };

/* Borrows plan and table. */
enum sl_code sl_federation_game_new(const struct sl_policy_plan *plan,
                                    const struct sl_update_table *table,
                                    enum sl_federation_part part, struct sl_game **ret,
                                    struct sl_err *err);

/* The raw facts behind the next step: *ret_rows[n_agents], borrowed until the next step or reset. */
void sl_federation_facts(const struct sl_game *g, struct sl_round_facts *ret_round,
                         const struct sl_client_facts **ret_rows);

/* The episode so far. Latency and traffic in units of a round that accepts everybody. */
struct sl_federation_score {
    double reward;   /* sum, with unsmoothed accuracy */
    double accuracy; /* now */
    double late_accuracy; /* mean over the last 10 rounds played (all, when fewer) */
    double latency, traffic; /* sums of H / H_ref and B / B_ref */
    uint32_t rounds, accepted;
};
void sl_federation_score(const struct sl_game *g, struct sl_federation_score *ret);

#endif
