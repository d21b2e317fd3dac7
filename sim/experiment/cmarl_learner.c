/* SPDX-License-Identifier: Apache-2.0 */
/* The third goal: a coordinator whose policy goes on learning from its rounds. During `training` episodes
 * one client is the attacker of the goal cost, trained with the defences on: it shows what makes it look
 * worth taking, then holds everybody up, so that rounds with good-looking clients earn little. Then
 * the policy as it was learned meets honest clients; the same with an honest client all along. */
#include <string.h>

#include "server/selection/fedmarl/vdn.h"
#include "sim/experiment/cmarl.h"

#define LEARN_LR 3e-4
#define UPDATES 2 /* a round */

/* The learner behind a coordinator: joins rounds to transitions. */
struct learner {
    struct sl_vdn *v;
    uint32_t n, n_inputs;
    float inputs[SL_GAME_AGENTS_MAX * SL_FEDMARL_INPUTS_MAX];
    uint8_t actions[SL_GAME_AGENTS_MAX];
    double reward;
    bool waiting; /* a round whose next state is not known yet */
    bool may;
    uint32_t frozen, rounds;
};

static void push(struct learner *l, const float *next)
{
    double loss;
    l->waiting = false;
    l->rounds++;
    if (!l->may) {
        l->frozen++;
        return;
    }
    sl_vdn_push(l->v, &(struct sl_vdn_transition){.s = l->inputs,
                                                  .actions = l->actions,
                                                  .n = l->n,
                                                  .reward = l->reward,
                                                  .next = next,
                                                  .n_next = next == NULL ? 0 : l->n,
                                                  .done = next == NULL});
    for (int i = 0; i < UPDATES; i++)
        sl_vdn_update(l->v, &loss);
}

static void learn(void *ctx, const float *inputs, const uint8_t *actions, double reward, bool may)
{
    struct learner *l = ctx;
    if (l->waiting)
        push(l, inputs);
    memcpy(l->inputs, inputs, (size_t)l->n * l->n_inputs * sizeof(float));
    memcpy(l->actions, actions, l->n);
    l->reward = reward;
    l->may = may;
    l->waiting = true;
}

static enum sl_code new_learner(const struct sl_cmarl_lab *lab, struct learner *ret,
                                struct sl_err *err)
{
    struct sl_vdn_options o = lab->plan.learner;
    o.shape = lab->policy.net.shape;
    o.credit = false; /* a coordinator knows the team's reward */
    o.lr = LEARN_LR;
    o.batch = 32;
    o.warmup = 64;
    o.replay = 5000;
    o.target_every = 100;
    *ret = (struct learner){.n = o.n_agents, .n_inputs = o.shape.n_inputs};
    enum sl_code rc = sl_vdn_new(&o, &ret->v, err);
    if (rc == SL_OK)
        sl_vdn_start_from(ret->v, &lab->policy.net);
    return rc;
}

/* policy: starts as the lab's, and is what was learned afterwards. */
static enum sl_code learn_under(const struct sl_cmarl_lab *lab, struct sl_cmarl_side_options o,
                                const struct sl_cmarl_rule *rule, struct sl_fedmarl_policy *policy,
                                double *ret_frozen, struct sl_err *err)
{
    struct learner l;
    struct sl_cmarl_side side;
    enum sl_code rc = new_learner(lab, &l, err);
    if (rc != SL_OK)
        return rc;
    o.part = SL_FEDERATION_POOL;
    o.policy = policy;
    o.learn = learn;
    o.learn_ctx = &l;
    rc = sl_cmarl_side_new(lab, &o, &side, err);
    for (uint32_t e = 0; rc == SL_OK && e < lab->episodes; e++) {
        sl_siege_play(side.siege, rule, sl_learn_test_seed(lab->plan.seed + 1, e));
        if (l.waiting)
            push(&l, NULL);
        sl_vdn_acting(l.v, &policy->net);
    }
    if (rc == SL_OK) {
        *ret_frozen = l.rounds > 0 ? (double)l.frozen / l.rounds : 0;
        sl_cmarl_side_free(&side);
    }
    sl_vdn_free(l.v);
    return rc;
}

static enum sl_code measure(const struct sl_cmarl_lab *lab, struct sl_cmarl_side_options o,
                            const struct sl_cmarl_rule *rule, const char *key, json_t *result,
                            struct sl_err *err)
{
    const struct sl_cmarl_rule truth = {SL_CMARL_TRUTH};
    struct sl_fedmarl_policy policy = lab->policy;
    struct sl_cmarl_side side;
    double frozen = 0;
    enum sl_code rc = sl_qnet_new(&lab->policy.net.shape, 0, &policy.net, err);
    if (rc != SL_OK)
        return rc;
    memcpy(policy.net.values, lab->policy.net.values, policy.net.n_values * sizeof(float));
    rc = learn_under(lab, o, rule, &policy, &frozen, err);
    o.part = SL_FEDERATION_HELD_OUT;
    o.policy = &policy;
    if (rc == SL_OK)
        rc = sl_cmarl_side_new(lab, &o, &side, err);
    if (rc == SL_OK) {
        struct sl_cmarl_score s = sl_cmarl_measure(lab, &side, &truth);
        json_t *score = sl_cmarl_score_json(&s);
        json_object_set_new(score, "frozen", json_real(frozen));
        json_object_set_new(result, key, score);
        sl_cmarl_side_free(&side);
    }
    sl_fedmarl_policy_deinit(&policy);
    return rc;
}

enum sl_code sl_cmarl_run_learner(const struct sl_cmarl_lab *lab, uint32_t defences, json_t *result,
                                  struct sl_err *err)
{
    const struct sl_cmarl_side_options o = {.part = SL_FEDERATION_POOL,
                                            .goal = SL_GOAL_COST,
                                            .control = SL_SIEGE_TWO_STEP,
                                            .method = SL_CRAFT_ANY,
                                            .defences = defences};
    const struct sl_cmarl_rule truth = {SL_CMARL_TRUTH};
    struct sl_qnet net = {0};
    enum sl_code rc = sl_cmarl_attacker(lab, &o, &net, err);
    const struct sl_cmarl_rule learned = {SL_CMARL_LEARNED, &net, 0};
    if (rc == SL_OK)
        rc = measure(lab, o, &truth, "clean", result, err);
    if (rc == SL_OK)
        rc = measure(lab, o, &learned, "worst", result, err);
    sl_qnet_deinit(&net);
    return rc;
}
