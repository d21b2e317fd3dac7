/* SPDX-License-Identifier: Apache-2.0 */
/* tmc_learn.h - trains a team with messages on a game: value decomposition (plain sum) over Q_glb, double Q
 * with a target copy, whole episodes through time, RMSprop, epsilon-greedy exploration (tmc_net.h,
 * tmc_loss.h). The channel is perfect and nothing is gated: the paper trains without losses, since a
 * team trained at one level of loss is good at that level only. A function of (options, game).
 * Thread: one training a thread; games are used on the caller's. */
#ifndef SL_SIM_POLICY_TMC_LEARN_H
#define SL_SIM_POLICY_TMC_LEARN_H

#include "sim/policy/tmc_loss.h"
#include "sim/policy/tmc_net.h"

struct sl_tmc_regulariser {
    enum sl_tmc_form form;
    double lambda; /* >= 0; 0: without */
};

struct sl_tmc_learn_options {
    uint32_t hidden;
    enum sl_tmc_message message;
    enum sl_tmc_listen listen;
    struct sl_tmc_regulariser smooth, confident;
    double gamma;                 /* [0, 1] */
    double lr, alpha, eps, clip;  /* RMSprop; clip: norm of the gradient, 0 = off */
    double lr_end;                /* the rate falls to this share of lr, linearly */
    uint32_t episodes;            /* played in all */
    uint32_t replay, batch;       /* episodes kept, and in an update */
    uint32_t updates_per_episode;
    uint32_t target_every;        /* episodes between copies to the target net */
    double epsilon_start, epsilon_end;
    uint32_t epsilon_episodes;    /* linear over so many */
    uint64_t seed;
};

/* The authors' readings and constants where they do not depend on the length of a training: message
 * CELL, MEAN, both regularisers in the CODE form with 1.5 and 0.08, gamma 0.99, RMSprop 5e-4, 0.99,
 * 1e-5, clip 10, replay 5000, batch 32, target every 200 episodes, epsilon 1 to 0.05. */
#define SL_TMC_LEARN_DEFAULTS                                                                      \
    .hidden = 64, .smooth = {SL_TMC_FORM_CODE, 1.5}, .confident = {SL_TMC_FORM_CODE, 0.08},        \
    .gamma = 0.99, .lr = 5e-4, .alpha = 0.99, .eps = 1e-5, .clip = 10, .lr_end = 1,                \
    .replay = 5000, .batch = 32, .updates_per_episode = 1, .target_every = 200,                    \
    .epsilon_start = 1, .epsilon_end = 0.05

struct sl_tmc_learned {
    double loss;   /* (y - Q_tot)^2 of the last tenth of the updates, mean */
    double reward; /* of an episode, the last tenth of them, exploration included */
    uint64_t updates, steps; /* steps of the game */
};

/* games[n_games], equal but for their state: played side by side. *ret: the caller's to deinit.
 * SL_E_RANGE, SL_E_NOMEM; SL_E_FAILED when the values do not stay finite. */
enum sl_code sl_tmc_learn(const struct sl_tmc_learn_options *o, struct sl_game *const *games,
                          uint32_t n_games, struct sl_tmc_net *ret, struct sl_tmc_learned *ret_how,
                          struct sl_err *err);

#endif
