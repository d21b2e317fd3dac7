/* SPDX-License-Identifier: Apache-2.0 */
/* policy_plan.h - how a selection policy is trained: a YAML file of its own, checked like a run's plan
 * (unknown keys and values out of range are errors that name the line). Thread: any. */
#ifndef SL_SIM_POLICY_PLAN_H
#define SL_SIM_POLICY_PLAN_H

#include "common/error.h"
#include "common/plan.h"
#include "server/selection/fedmarl/features.h"
#include "server/selection/fedmarl/reward.h"
#include "server/selection/fedmarl/vdn.h"

struct sl_policy_plan {
    uint64_t seed;
    struct {
        char dataset[SL_PLAN_NAME], path[SL_PLAN_PATH];
        uint32_t samples; /* clients own the first so many of the training set */
        uint32_t holdout; /* and the so many behind them measure accuracy */
        uint32_t pooling; /* edge of the squares of pixels that become one input */
    } data;
    struct { /* what a client trains: inputs - hidden - classes, plain SGD */
        uint32_t hidden, epochs, batch_size;
        double lr, momentum;
    } local;
    struct {
        uint32_t clients;  /* of a federation */
        uint32_t cohort;   /* N: agents */
        uint32_t rounds;   /* T: steps of an episode */
        uint32_t pool;     /* federations of each kind of partition that episodes draw from */
        uint32_t held_out; /* the same for the closing comparison */
        uint32_t buckets;  /* of accuracy */
        double keep;       /* factor on the measured keep (update_table.h), [0, 1] */
        uint32_t reference_cohort, reference_rounds; /* of the run whose models they start from */
    } federation;
    struct {
        double samples_per_s; /* of the fastest class */
        double sigma;         /* of the lognormal factor of a round */
        double upload_s[2];   /* of the fastest class; drawn in between, log-uniform, per episode */
    } devices;
    struct sl_fedmarl_spec features;
    enum sl_withheld { SL_WITHHELD_NOTHING, SL_WITHHELD_LOSS, SL_WITHHELD_TIMES } without;
    struct sl_fedmarl_reward reward; /* references are measured per episode */
    uint32_t window; /* rounds over which the reward takes the mean of the utility; 1 = the last alone */
    struct sl_vdn_options learner; /* shape's inputs and actions, n_agents, steps: filled in */
    double epsilon[2];
    struct {
        uint32_t episodes, batch_episodes, updates_per_step, lookahead, validate_every,
            validation_episodes, evaluation_episodes;
        uint32_t adversaries; /* times that an adversary is trained, and the team against it; 0 = none */
        uint32_t adversary_episodes; /* of each training of an adversary, and of the team after it */
    } training;
};

void sl_policy_plan_default(struct sl_policy_plan *ret);

/* A file, and `--set` on top; everything checked, the learner's options complete. Errors as of
 * sl_plan_load. */
enum sl_code sl_policy_plan_load(const char *path, const struct sl_plan_override *overrides,
                                 size_t n_overrides, struct sl_policy_plan *ret,
                                 struct sl_err *err);

/* The same from text that `where` names in messages; paths in it stand as they are. */
enum sl_code sl_policy_plan_parse(const char *text, size_t n, const char *where,
                                  const struct sl_plan_override *overrides, size_t n_overrides,
                                  struct sl_policy_plan *ret, struct sl_err *err);

/* Every key in a fixed order; *ret is the caller's to free(). */
enum sl_code sl_policy_plan_text(const struct sl_policy_plan *p, char **ret, struct sl_err *err);

/* The inputs of an agent that it never sees: from..to - 1. */
void sl_policy_withheld(const struct sl_policy_plan *p, uint32_t *ret_from, uint32_t *ret_to);

/* Fills in what follows from the rest. */
void sl_policy_plan_complete(struct sl_policy_plan *p);

#endif
