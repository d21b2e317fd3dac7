/* SPDX-License-Identifier: Apache-2.0 */
/* game.h - a cooperative game: a few agents, each with its own observation and a discrete action,
 * one team reward a step. What trains, gates or attacks agents sees games through this table only.
 * An episode is a pure function of (game's settings, seed of reset, actions): a game draws from
 * common/rng.h alone and reads no clock. Thread: one at a time per game; any number of games side
 * by side. After creation nothing is allocated. */
#ifndef SL_SIM_POLICY_GAME_H
#define SL_SIM_POLICY_GAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define SL_GAME_AGENTS_MAX 64u
#define SL_GAME_ACTIONS_MAX 16u
#define SL_GAME_INPUTS_MAX 256u

struct sl_game;

struct sl_game_ops {
    const char *name;
    /* Starts the episode of that seed; allowed at any time. */
    void (*reset)(struct sl_game *g, uint64_t seed);
    /* Inputs of all agents before the next step: ret[n_agents, n_inputs], row-major, every value
     * finite and within [-SL_GAME_INPUT_LIMIT, SL_GAME_INPUT_LIMIT]. */
    void (*observe)(const struct sl_game *g, float *ret);
    /* Plays actions[n_agents], each below n_actions; agent i is row i of observe. The team's
     * reward of the step; *ret_done: the episode is over, and only reset may follow (observe
     * still answers). */
    double (*step)(struct sl_game *g, const uint8_t *actions, bool *ret_done);
    void (*free)(struct sl_game *g); /* never called with NULL */
    /* Optional, after a step: what of its reward is known to be due to an agent's own action,
     * ret_own[n_agents] (0 for action 0); returns the rest, the team's, up to what no action
     * changes. NULL: all of it is the team's. */
    double (*credit)(const struct sl_game *g, double *ret_own);
};

/* First member of every game; constant once it is made. */
struct sl_game {
    const struct sl_game_ops *ops;
    uint32_t n_agents;  /* 1..SL_GAME_AGENTS_MAX */
    uint32_t n_actions; /* 2..SL_GAME_ACTIONS_MAX; an action is 0..n_actions-1 */
    uint32_t n_inputs;  /* 1..SL_GAME_INPUTS_MAX, of one agent */
    uint32_t max_steps; /* >= 1; an episode ends by then */
};

#define SL_GAME_INPUT_LIMIT 5.0f

static inline void sl_game_free(struct sl_game *g) /* NULL allowed */
{
    if (g)
        g->ops->free(g);
}

#endif
