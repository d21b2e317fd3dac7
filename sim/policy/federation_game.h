/* SPDX-License-Identifier: Apache-2.0 */
/* federation_game.h - client selection as a game: one simulated federation an episode, N agents for the
 * round's N clients, T rounds, actions stop and go. Devices have four classes of speed and of
 * uplink (1, 2, 4, 8 times), independent, times a lognormal factor a round; updates come from a
 * source (update_source.h): the table, so that a round costs an average and an evaluation, or real
 * training. Nobody accepted: the model stays (the rails are not part of the game).
 * The reward of a step is reward.h's with the utility's mean over the last rounds (plan: reward.window)
 * in the place of that of one round, so that a run's return does not hang on its last round alone. */
#ifndef SL_SIM_FEDERATION_GAME_H
#define SL_SIM_FEDERATION_GAME_H

#include "common/error.h"
#include "server/selection/facts.h"
#include "sim/policy/game.h"
#include "sim/policy/policy_plan.h"
#include "sim/policy/update_source.h"
#include "sim/policy/update_table.h"

/* Which federations of the table episodes draw from. */
enum sl_federation_part { SL_FEDERATION_POOL, SL_FEDERATION_HELD_OUT };

/* Borrows plan and table. */
enum sl_code sl_federation_game_new(const struct sl_policy_plan *plan,
                                    const struct sl_update_table *table,
                                    enum sl_federation_part part, struct sl_game **ret,
                                    struct sl_err *err);

/* Over any source, which the game owns from now on (freed on failure, too). Borrows the plan. */
enum sl_code sl_federation_game_over(const struct sl_policy_plan *plan,
                                     struct sl_update_source *source, struct sl_game **ret,
                                     struct sl_err *err);
/* The game's source: for its failure, and what only its kind knows. */
struct sl_update_source *sl_federation_source(const struct sl_game *g);

/* The raw facts behind the next step: *ret_rows[n_agents], borrowed until the next step or reset. */
void sl_federation_facts(const struct sl_game *g, struct sl_round_facts *ret_round,
                         const struct sl_client_facts **ret_rows);

/* What is out of the ordinary about one client in the next step; {0} with update_scale 1 is an honest
 * client with all the time it wants. Seconds of delay and stall really pass. */
struct sl_federation_terms {
    double probe_delay_s; /* it reports so much later */
    double stall_s;       /* once accepted, its update comes so much later */
    double deadline_s;    /* after the decision; a later update is dropped; 0 = none */
    float update_scale;   /* of the update that it sends */
};
#define SL_FEDERATION_TERMS_DEFAULTS .update_scale = 1

/* For row i of the next step; the facts show the probe's delay at once. */
void sl_federation_terms(struct sl_game *g, uint32_t row, const struct sl_federation_terms *t);

/* After a step: seconds from the decision to the update of the row that was accepted in it, cut at its
 * deadline; *ret_late: it was dropped. */
double sl_federation_finish_s(const struct sl_game *g, uint32_t row, bool *ret_late);

/* The same for the next step, without stall and deadline. */
double sl_federation_natural_s(const struct sl_game *g, uint32_t row);

/* From the next reset on: one client, drawn for the episode, is row 0 of every cohort. */
void sl_federation_resident(struct sl_game *g, bool on);

/* Seconds of a round that accepts everybody (median of the episode): the unit of the score's latency. */
double sl_federation_latency_ref_s(const struct sl_game *g);

/* The episode so far. Latency and traffic in units of a round that accepts everybody. */
struct sl_federation_score {
    double reward; /* sum of the steps' */
    double plain;  /* the same with a window of 1: what the last round reached */
    double accuracy; /* now */
    double late_accuracy; /* mean over the last 10 rounds played (all, when fewer) */
    double latency, traffic; /* sums of H / H_ref and B / B_ref */
    uint32_t rounds, accepted;
};
void sl_federation_score(const struct sl_game *g, struct sl_federation_score *ret);

#endif
