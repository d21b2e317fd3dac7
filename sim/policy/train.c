/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/policy/train.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "sim/policy/usual.h"

static void free_games(struct sl_game **games, unsigned n)
{
    for (unsigned i = 0; games != NULL && i < n; i++)
        sl_game_free(games[i]);
    free(games);
}

static enum sl_code make_games(const struct sl_policy_training *t, enum sl_federation_part part,
                               struct sl_game ***ret, struct sl_err *err)
{
    const unsigned n = sl_workers_count(t->workers);
    struct sl_game **games = sl_calloc(n, sizeof(*games));
    enum sl_code rc = games == NULL ? sl_err_set(err, SL_E_NOMEM, "%u games", n) : SL_OK;
    for (unsigned i = 0; rc == SL_OK && i < n; i++)
        rc = sl_federation_game_new(t->plan, t->table, part, &games[i], err);
    if (rc == SL_OK)
        *ret = games;
    else
        free_games(games, n);
    return rc;
}

/* Weights of the first layer lie input-major (qnet.h). */
static void forget_withheld(const struct sl_policy_plan *plan, struct sl_qnet *net)
{
    uint32_t from, to;
    sl_policy_withheld(plan, &from, &to);
    memset(net->values + (size_t)from * net->shape.hidden, 0,
           (size_t)(to - from) * net->shape.hidden * sizeof(float));
}

static enum sl_code learn(const struct sl_policy_training *t, struct sl_vdn *v, struct sl_qnet *net,
                          struct sl_err *err)
{
    const struct sl_policy_plan *p = t->plan;
    const struct sl_learn_options options = {.seed = p->seed,
                                             .episodes = p->training.episodes,
                                             .batch_episodes = p->training.batch_episodes,
                                             .updates_per_step = p->training.updates_per_step,
                                             .lookahead = p->training.lookahead,
                                             .validate_every = p->training.validate_every,
                                             .validation_episodes = p->training.validation_episodes};
    struct sl_learn_env env = {.workers = t->workers,
                               .state_path = t->state_path,
                               .identity = t->identity,
                               .event = t->event,
                               .ctx = t->ctx};
    enum sl_code rc = make_games(t, SL_FEDERATION_POOL, &env.games, err);
    if (rc != SL_OK)
        return rc;
    rc = sl_learn(&options, &env, v, net, err);
    if (rc == SL_OK)
        forget_withheld(p, net);
    free_games(env.games, sl_workers_count(t->workers));
    return rc;
}

enum sl_code sl_policy_train(const struct sl_policy_training *t, struct sl_fedmarl_policy *ret,
                             struct sl_err *err)
{
    struct sl_fedmarl_policy p = {.spec = t->plan->features};
    struct sl_vdn *v = NULL;
    enum sl_code rc = sl_vdn_new(&t->plan->learner, &v, err);
    if (rc == SL_OK)
        rc = sl_qnet_new(&t->plan->learner.shape, t->plan->seed, &p.net, err);
    if (rc == SL_OK)
        rc = learn(t, v, &p.net, err);
    sl_vdn_free(v);
    if (rc != SL_OK) {
        sl_fedmarl_policy_deinit(&p);
        return rc;
    }
    *ret = p;
    return SL_OK;
}

enum sl_code sl_policy_describe(const struct sl_policy_training *t,
                                struct sl_fedmarl_policy *policy, struct sl_err *err)
{
    struct sl_game *g;
    enum sl_code rc = sl_federation_game_new(t->plan, t->table, SL_FEDERATION_POOL, &g, err);
    if (rc != SL_OK)
        return rc;
    rc = sl_policy_usual(g, &policy->net, t->plan->seed, t->plan->training.validation_episodes,
                         &policy->usual, err);
    sl_game_free(g);
    return rc;
}

enum sl_code sl_policy_compare(const struct sl_policy_training *t,
                               const struct sl_fedmarl_policy *policy,
                               struct sl_compare_row ret[SL_COMPARE_ROWS], struct sl_err *err)
{
    struct sl_game **games;
    enum sl_code rc = make_games(t, SL_FEDERATION_HELD_OUT, &games, err);
    if (rc != SL_OK)
        return rc;
    rc = sl_compare(t->plan, t->workers, games, policy, t->plan->training.evaluation_episodes, ret,
                    err);
    free_games(games, sl_workers_count(t->workers));
    return rc;
}
