/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/attack/cmarl/harden.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "sim/attack/cmarl/haunted.h"
#include "sim/attack/cmarl/train.h"

#define LAMBDA 1.0  /* of the adversary's regulariser */
#define EPSILON 0.1 /* the team has learned to walk before */

struct hardening {
    const struct sl_policy_plan *plan;
    const struct sl_update_table *table;
    struct sl_workers *workers;
    struct sl_fedmarl_policy *policy;
    unsigned n; /* games, one a worker */
};

static void free_games(struct sl_game **games, unsigned n)
{
    for (unsigned i = 0; games != NULL && i < n; i++)
        sl_game_free(games[i]);
    free(games);
}

/* The adversary of the policy as it stands. */
static enum sl_code train_adversary(const struct hardening *h, uint32_t number, struct sl_qnet *ret,
                                    struct sl_err *err)
{
    struct sl_game **federations = sl_calloc(h->n, sizeof(struct sl_game *));
    struct sl_game **sieges = sl_calloc(h->n, sizeof(struct sl_game *));
    struct sl_team **teams = sl_calloc(h->n, sizeof(struct sl_team *));
    const struct sl_federation_team_options team = {
        .policy = h->policy, SL_FEDERATION_TEAM_DEFAULTS, .goal = SL_GOAL_COST};
    const struct sl_siege_options siege = {
        .control = SL_SIEGE_TWO_STEP, .craft = {SL_CRAFT_DEFAULTS}, .lambda = LAMBDA};
    struct sl_cmarl_training t = {SL_CMARL_TRAINING_DEFAULTS};
    t.seed = h->plan->seed + number;
    t.episodes = h->plan->training.adversary_episodes;
    enum sl_code rc = federations == NULL || sieges == NULL || teams == NULL
                          ? sl_err_set(err, SL_E_NOMEM, "%u games", h->n)
                          : SL_OK;
    for (unsigned i = 0; rc == SL_OK && i < h->n; i++) {
        rc = sl_federation_game_new(h->plan, h->table, SL_FEDERATION_POOL, &federations[i], err);
        if (rc != SL_OK)
            break;
        sl_federation_resident(federations[i], true);
        rc = sl_federation_team_new(&team, h->plan, &teams[i], err);
        if (rc == SL_OK)
            rc = sl_siege_new(&siege, federations[i], teams[i], &sieges[i], err);
    }
    if (rc == SL_OK)
        rc = sl_cmarl_train(&t, h->workers, sieges, ret, err);
    free_games(sieges, h->n);
    for (unsigned i = 0; teams != NULL && i < h->n; i++)
        sl_federation_team_free(teams[i]);
    free(teams);
    free_games(federations, h->n);
    return rc;
}

static enum sl_code new_haunted(const struct hardening *h, const struct sl_qnet *adversary,
                                struct sl_game **ret, struct sl_err *err)
{
    struct sl_game *federation;
    enum sl_code rc =
        sl_federation_game_new(h->plan, h->table, SL_FEDERATION_POOL, &federation, err);
    return rc == SL_OK
               ? sl_haunted_game_new(h->plan, h->policy, adversary, federation, ret, err)
               : rc;
}

static enum sl_code train_team(const struct hardening *h, const struct sl_qnet *adversary,
                               uint32_t number, struct sl_qnet *ret, struct sl_err *err)
{
    struct sl_game **games = sl_calloc(h->n, sizeof(struct sl_game *));
    struct sl_vdn_options o = h->plan->learner;
    struct sl_vdn *v = NULL;
    const struct sl_learn_options how = {
        .seed = h->plan->seed + 1000 + number,
        .episodes = h->plan->training.adversary_episodes,
        .batch_episodes = h->plan->training.batch_episodes,
        .updates_per_step = h->plan->training.updates_per_step,
        .validate_every = h->plan->training.validate_every,
        .validation_episodes = h->plan->training.validation_episodes};
    const struct sl_learn_env env = {.workers = h->workers, .games = games, .identity = "harden"};
    o.epsilon_start = EPSILON;
    o.epsilon_end = EPSILON;
    o.seed = h->plan->seed + number;
    enum sl_code rc =
        games == NULL ? sl_err_set(err, SL_E_NOMEM, "%u games", h->n) : sl_vdn_new(&o, &v, err);
    for (unsigned i = 0; rc == SL_OK && i < h->n; i++)
        rc = new_haunted(h, adversary, &games[i], err);
    if (rc == SL_OK) {
        sl_vdn_start_from(v, &h->policy->net);
        rc = sl_learn(&how, &env, v, ret, err);
    }
    free_games(games, h->n);
    sl_vdn_free(v);
    return rc;
}

static enum sl_code harden_once(const struct hardening *h, uint32_t number, struct sl_err *err)
{
    struct sl_qnet adversary = {0}, better = {0};
    enum sl_code rc = train_adversary(h, number, &adversary, err);
    if (rc == SL_OK)
        rc = sl_qnet_new(&h->policy->net.shape, 0, &better, err);
    if (rc == SL_OK)
        rc = train_team(h, &adversary, number, &better, err);
    if (rc == SL_OK)
        memcpy(h->policy->net.values, better.values, better.n_values * sizeof(float));
    sl_qnet_deinit(&adversary);
    sl_qnet_deinit(&better);
    return rc;
}

enum sl_code sl_cmarl_harden(const struct sl_policy_plan *plan, const struct sl_update_table *table,
                             struct sl_workers *workers, struct sl_fedmarl_policy *policy,
                             struct sl_err *err)
{
    struct sl_fedmarl_policy copy = *policy;
    const struct hardening h = {plan, table, workers, &copy, sl_workers_count(workers)};
    if (plan->training.adversaries == 0)
        return SL_OK;
    enum sl_code rc = sl_qnet_new(&policy->net.shape, 0, &copy.net, err);
    if (rc != SL_OK)
        return rc;
    memcpy(copy.net.values, policy->net.values, copy.net.n_values * sizeof(float));
    for (uint32_t k = 0; rc == SL_OK && k < plan->training.adversaries; k++)
        rc = harden_once(&h, k, err);
    if (rc == SL_OK)
        memcpy(policy->net.values, copy.net.values, copy.net.n_values * sizeof(float));
    sl_qnet_deinit(&copy.net);
    return rc;
}
