/* SPDX-License-Identifier: Apache-2.0 */
/* learn.h - a team learns a game: workers play episodes, one learner learns from them, side by side.
 * Batch b of episodes is played with the net as it stood before the learner began batch b - 1, so
 * that neither waits; the result is a function of (game, options), whatever the number of workers
 * and wherever the training was ended and resumed. Episode e plays the game's seed splitmix64(seed,
 * e); the best net of the validations (greedy, always the same episodes) is the result. */
#ifndef SL_SIM_LEARN_H
#define SL_SIM_LEARN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "server/selection/fedmarl/vdn.h"
#include "sim/policy/game.h"
#include "sim/workers.h"

struct sl_learn_options {
    uint64_t seed;
    uint32_t episodes;         /* rounded up to whole batches */
    uint32_t batch_episodes;   /* >= 1 */
    uint32_t updates_per_step; /* of the learner, for each step played; >= 1 */
    uint32_t lookahead; /* steps whose rewards are summed before the target net's say; above 1 only with
                           gamma 1; 0 = 1 */
    uint32_t validate_every;   /* batches; the last batch always */
    uint32_t validation_episodes;
};

/* What a batch was like; validation: NAN between validations. */
struct sl_learn_event {
    uint32_t episodes, of; /* learned from so far */
    uint64_t updates;
    double mean_return, go_share, loss, epsilon; /* go_share: of actions that are not 0 */
    double validation, best; /* mean return, greedy */
};

struct sl_learn_env {
    struct sl_workers *workers;
    struct sl_game **games; /* one a worker, all alike */
    const char *state_path; /* saved at each validation, resumed from when it exists; NULL = no */
    const char *identity;   /* text that a resumed state must have been made with */
    void (*event)(void *ctx, const struct sl_learn_event *e); /* NULL = none */
    void *ctx;
};

/* Plays with v's net and teaches v; v is fresh. ret_best: a net of v's shape, overwritten. Errors of
 * reading and writing the state; SL_E_NOMEM. */
enum sl_code sl_learn(const struct sl_learn_options *o, const struct sl_learn_env *env,
                      struct sl_vdn *v, struct sl_qnet *ret_best, struct sl_err *err);

/* Seed of an episode that no training and no validation plays. */
uint64_t sl_learn_test_seed(uint64_t seed, uint32_t episode);

#endif
