/* SPDX-License-Identifier: Apache-2.0 */
/* tmc_replay.h - whole episodes of a team, the oldest making room; for tmc_learn.c. Owns: its memory. */
#ifndef SL_SIM_POLICY_TMC_REPLAY_H
#define SL_SIM_POLICY_TMC_REPLAY_H

#include <stdint.h>

#include "common/error.h"
#include "sim/policy/game.h"

struct sl_tmc_episode {
    uint32_t *length;
    float *inputs;    /* [max_steps, agents, inputs] */
    uint8_t *actions; /* [max_steps, agents] */
    float *rewards;   /* [max_steps] */
};

struct sl_tmc_replay {
    uint32_t capacity, n, next;
    size_t inputs, actions, steps; /* numbers of one episode */
    uint32_t *lengths;
    float *all_inputs, *all_rewards;
    uint8_t *all_actions;
};

enum sl_code sl_tmc_replay_init(struct sl_tmc_replay *r, const struct sl_game *game,
                                uint32_t capacity, struct sl_err *err);
void sl_tmc_replay_deinit(struct sl_tmc_replay *r); /* NULL and {0} allowed */
/* The place of a new episode, length 0. */
struct sl_tmc_episode sl_tmc_replay_add(struct sl_tmc_replay *r);
/* i < r->n */
struct sl_tmc_episode sl_tmc_replay_at(const struct sl_tmc_replay *r, uint32_t i);

#endif
