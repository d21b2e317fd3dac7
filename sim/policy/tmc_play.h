/* SPDX-License-Identifier: Apache-2.0 */
/* tmc_play.h - a trained team at work over a lossy channel: each agent's message goes through its gate
 * (common/tmc.h), what is sent reaches each teammate as its chain says (sim/channel.h), and each agent
 * acts on what its own inbox holds. Senders and inboxes start anew with every episode. A function of
 * its arguments; equal seeds and numbers of games give all protocols the same games and chains.
 * Thread: any; the games are used on the caller's. */
#ifndef SL_SIM_POLICY_TMC_PLAY_H
#define SL_SIM_POLICY_TMC_PLAY_H

#include "common/tmc.h"
#include "sim/channel.h"
#include "sim/policy/tmc_net.h"

struct sl_tmc_play_options {
    struct sl_tmc_options gate; /* width: the number of actions */
    enum sl_channel_level channel;
    uint32_t episodes; /* >= 1 */
    uint64_t seed;
};

struct sl_tmc_played_sums {
    double reward;       /* of an episode, mean */
    double sent;         /* share of agents' steps in which something was sent */
    double flips;        /* share of actions that differ from those of a team whose every message arrives */
    double gap;          /* best minus second best Q, mean */
    double invalid;      /* share of teammates' entries that did not count */
    double lost;         /* share of pairs' steps in which the channel lost */
    struct sl_tmc_sent senders;
    struct sl_tmc_received receivers;
};

/* games[n_games], equal but for their state, 1..SL_GAME_AGENTS_MAX: played side by side; episode e starts
 * from sl_splitmix64_at(seed, e). SL_E_RANGE, SL_E_NOMEM. */
enum sl_code sl_tmc_play(const struct sl_tmc_net *net, const struct sl_tmc_play_options *o,
                         struct sl_game *const *games, uint32_t n_games,
                         struct sl_tmc_played_sums *ret, struct sl_err *err);

#endif
