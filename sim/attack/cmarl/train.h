/* SPDX-License-Identifier: Apache-2.0 */
/* train.h - the adversary's policy: a DQN (double Q, target network, replay) on a siege. Lambda 0 of the
 * siege gives optimised worst, above 0 the same with the regulariser. Thread: any. */
#ifndef SL_SIM_CMARL_TRAIN_H
#define SL_SIM_CMARL_TRAIN_H

#include "sim/attack/cmarl/siege.h"
#include "sim/policy/learn.h"

struct sl_cmarl_training {
    uint64_t seed;
    uint32_t episodes, batch_episodes, validate_every, validation_episodes;
    uint32_t hidden, updates_per_step;
    double gamma, lr;
};

#define SL_CMARL_TRAINING_DEFAULTS                                                                 \
    .seed = 1, .episodes = 320, .batch_episodes = 8, .validate_every = 5,                          \
    .validation_episodes = 16, .hidden = 64, .updates_per_step = 2, .gamma = .95, .lr = 5e-4

/* sieges: one a worker, all alike. *ret is a new network. SL_E_RANGE, SL_E_NOMEM. */
enum sl_code sl_cmarl_train(const struct sl_cmarl_training *t, struct sl_workers *workers,
                            struct sl_game **sieges, struct sl_qnet *ret, struct sl_err *err);

#endif
