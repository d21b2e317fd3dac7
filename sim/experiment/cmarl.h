/* SPDX-License-Identifier: Apache-2.0 */
/* cmarl.h - what the parts of the experiment cmarl share. Thread: a lab is one thread's. */
#ifndef SL_SIM_EXPERIMENT_CMARL_H
#define SL_SIM_EXPERIMENT_CMARL_H

#include <jansson.h>

#include "sim/attack/cmarl/federation_team.h"
#include "sim/attack/cmarl/train.h"
#include "sim/experiment/page.h"

#define SL_CMARL_LEARNER "learner" /* part: the goal of poisoning a learner */
#define SL_CMARL_RULES "rules"     /* part: rules and crafting against no defence */

/* Who is compared with "none": a set of defences. */
struct sl_cmarl_setting {
    const char *name, *says;
    uint32_t on;
};
extern const struct sl_cmarl_setting sl_cmarl_settings[];
extern const size_t sl_cmarl_n_settings;

/* Federations, the policy, and what the attacker may spend; all from a cell. */
struct sl_cmarl_lab {
    struct sl_policy_plan plan;
    struct sl_workers *workers;
    struct sl_update_table *table;
    struct sl_fedmarl_policy policy;
    uint32_t training, episodes; /* of the attacker; of a measurement */
    uint64_t seed;
};

/* A siege of a federation of one part of the table. */
struct sl_cmarl_side {
    struct sl_game *game, *siege;
    struct sl_team *team;
};
struct sl_cmarl_side_options {
    enum sl_federation_part part;
    enum sl_cmarl_goal goal;
    enum sl_siege_control control;
    enum sl_craft_method method;
    double lambda;
    uint32_t defences; /* bits */
    const struct sl_fedmarl_policy *policy; /* NULL = the lab's */
    void (*learn)(void *ctx, const float *inputs, const uint8_t *actions, double reward, bool may);
    void *learn_ctx;
};
enum sl_code sl_cmarl_side_new(const struct sl_cmarl_lab *lab, const struct sl_cmarl_side_options *o,
                               struct sl_cmarl_side *ret, struct sl_err *err);
void sl_cmarl_side_free(struct sl_cmarl_side *s); /* {0} allowed */

/* Means over the lab's episodes of a side. */
struct sl_cmarl_score {
    double team, share;       /* return; share of rounds in which the victim was accepted */
    double wanted, hits, mispredicted; /* shares of rounds; hits: of the wanted */
    double l1;                /* of a lie */
    double latency, accuracy; /* of the federation: sum over rounds, last */
    double detected, delay;   /* share of episodes in which the victim was suspect; rounds until then */
    double false_alarms;      /* share of other client-rounds that were suspect */
};
struct sl_cmarl_score sl_cmarl_measure(const struct sl_cmarl_lab *lab, struct sl_cmarl_side *s,
                                       const struct sl_cmarl_rule *rule);
json_t *sl_cmarl_score_json(const struct sl_cmarl_score *s);

/* Trains an attacker on the pool. */
enum sl_code sl_cmarl_attacker(const struct sl_cmarl_lab *lab, const struct sl_cmarl_side_options *o,
                               struct sl_qnet *ret, struct sl_err *err);

/* The policy goes on learning while attacked, then meets honest clients (cmarl_learner.c). */
enum sl_code sl_cmarl_run_learner(const struct sl_cmarl_lab *lab, uint32_t defences, json_t *result,
                                  struct sl_err *err);

void sl_cmarl_report(const json_t *results, struct sl_page *page);

#endif
