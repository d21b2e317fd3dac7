/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/attack/cmarl/train.h"

enum sl_code sl_cmarl_train(const struct sl_cmarl_training *t, struct sl_workers *workers,
                            struct sl_game **sieges, struct sl_qnet *ret, struct sl_err *err)
{
    const struct sl_game *g = sieges[0];
    struct sl_vdn_options o = {
        .shape = {.n_inputs = g->n_inputs, .hidden = t->hidden, .layers = 1, .n_actions = g->n_actions},
        .n_agents = 1,
        SL_VDN_DEFAULTS};
    o.gamma = t->gamma;
    o.lr = t->lr;
    o.credit = false;
    o.replay = 20000;
    o.epsilon_steps = (uint64_t)t->episodes * g->max_steps / 2;
    o.seed = t->seed;
    if (o.warmup > t->episodes * g->max_steps / 10)
        o.warmup = t->episodes * g->max_steps / 10 + o.batch;
    const struct sl_learn_options how = {.seed = t->seed,
                                         .episodes = t->episodes,
                                         .batch_episodes = t->batch_episodes,
                                         .updates_per_step = t->updates_per_step,
                                         .validate_every = t->validate_every,
                                         .validation_episodes = t->validation_episodes};
    const struct sl_learn_env env = {.workers = workers, .games = sieges, .identity = "cmarl"};
    struct sl_vdn *v = NULL;
    struct sl_qnet net = {0};
    enum sl_code rc = sl_vdn_new(&o, &v, err);
    if (rc == SL_OK)
        rc = sl_qnet_new(&o.shape, t->seed, &net, err);
    if (rc == SL_OK)
        rc = sl_learn(&how, &env, v, &net, err);
    sl_vdn_free(v);
    if (rc != SL_OK) {
        sl_qnet_deinit(&net);
        return rc;
    }
    *ret = net;
    return SL_OK;
}
