/* SPDX-License-Identifier: Apache-2.0 */
/* train.h - a selection policy from a plan and its table: games one a worker, a learner, learn.h. Inputs
 * that the plan withholds (features.without) are 0 while it learns, and so are their weights in the policy that
 * comes out: it needs no mask at run time. */
#ifndef SL_SIM_POLICY_TRAIN_H
#define SL_SIM_POLICY_TRAIN_H

#include "server/selection/fedmarl/policy.h"
#include "sim/policy/compare.h"
#include "sim/policy/federation_game.h"
#include "sim/policy/learn.h"

struct sl_policy_training {
    const struct sl_policy_plan *plan;
    const struct sl_update_table *table;
    struct sl_workers *workers;
    const char *state_path; /* as in learn.h; NULL = not resumable */
    const char *identity;   /* NULL only with state_path NULL */
    void (*event)(void *ctx, const struct sl_learn_event *e); /* NULL = none */
    void *ctx;
};

/* The caller deinits *ret. Errors of learn.h. */
enum sl_code sl_policy_train(const struct sl_policy_training *t, struct sl_fedmarl_policy *ret,
                             struct sl_err *err);

/* Writes what the policy's inputs and decisions are usually like (usual.h). */
enum sl_code sl_policy_describe(const struct sl_policy_training *t,
                                struct sl_fedmarl_policy *policy, struct sl_err *err);

/* sl_compare on the table's held-out federations. */
enum sl_code sl_policy_compare(const struct sl_policy_training *t,
                               const struct sl_fedmarl_policy *policy,
                               struct sl_compare_row ret[SL_COMPARE_ROWS], struct sl_err *err);

#endif
