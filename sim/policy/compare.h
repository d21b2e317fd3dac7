/* SPDX-License-Identifier: Apache-2.0 */
/* compare.h - a policy and its rivals on the same held-out federations, devices and cohorts: paired.
 * Rivals that keep k take k from the policy's own mean acceptance, so that bytes are equal. In
 * cached-update mode: a check of the training, not a result. */
#ifndef SL_SIM_COMPARE_H
#define SL_SIM_COMPARE_H

#include "common/error.h"
#include "server/selection/decide.h"
#include "sim/policy/federation_game.h"
#include "sim/workers.h"

struct sl_compare_row {
    const char *name;
    uint32_t episodes;
    /* means over the episodes */
    double reward, late_accuracy, latency, traffic, accepted; /* sums of an episode; accepted a round */
    /* the policy's reward less this one's, paired: mean and half of its 95 % interval */
    double lead, lead_half;
};

#define SL_COMPARE_ROWS 8 /* fedmarl first, then as in decide.h */

/* Plays `episodes` of the games' held-out part; games: one a worker. SL_E_NOMEM. */
enum sl_code sl_compare(const struct sl_policy_plan *plan, struct sl_workers *workers,
                        struct sl_game **games, const struct sl_fedmarl_policy *policy,
                        uint32_t episodes, struct sl_compare_row ret[SL_COMPARE_ROWS],
                        struct sl_err *err);

struct sl_compare_how {
    const struct sl_decide_ops *ops;
    double accept;                          /* mean kept, of those that keep k */
    const struct sl_fedmarl_policy *policy; /* fedmarl */
};

/* One episode of a federation's game: its score. ret_accuracy[max_steps]: after each round; NULL = not
 * wanted. */
enum sl_code sl_compare_episode(struct sl_game *g, const struct sl_compare_how *how, uint64_t seed,
                                double *ret_accuracy, struct sl_federation_score *ret,
                                struct sl_err *err);

#endif
