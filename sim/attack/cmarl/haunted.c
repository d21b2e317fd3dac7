/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/attack/cmarl/haunted.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "common/rng.h"

#define VICTIM 0

struct haunted {
    struct sl_game game;
    struct sl_game *inner;
    struct sl_team *team;
    const struct sl_qnet *net, *attacker;
    bool attacked; /* this episode */
    float *rows;   /* [n_agents, n_inputs]: what the team sees */
};

static struct haunted *self(struct sl_game *g)
{
    return (struct haunted *)g;
}

/* The victim's lie, if it wants another action than its own; its terms are the federation's from now on. */
static void lie(struct haunted *h)
{
    const struct sl_craft_options o = {SL_CRAFT_DEFAULTS};
    const struct sl_cmarl_rule rule = {SL_CMARL_LEARNED, h->attacker, 0};
    const uint32_t own = h->game.n_actions;
    const float *truth = h->rows + (size_t)VICTIM * h->game.n_inputs;
    struct sl_craft_range range;
    struct sl_craft_result r = {.lead = 0};
    float q[SL_GAME_ACTIONS_MAX], x[SL_GAME_INPUTS_MAX];
    uint8_t actions[SL_GAME_AGENTS_MAX];
    double margin, l1;
    sl_qnet_forward(h->net, truth, 1, q);
    const uint32_t natural = sl_cmarl_natural(q, own);
    const uint32_t wanted = sl_cmarl_choose(&rule, truth, q, own, own + 1, 3, 0);
    const uint32_t target = wanted < own ? wanted : own - 1;
    h->team->ops->range(h->team, h->inner, VICTIM, &range, &margin);
    if (target != natural)
        sl_craft(h->net, &o, &range, truth, target, x, &r);
    h->team->ops->decide(h->team, h->inner, VICTIM, r.lead > 0 ? x : NULL, wanted == own, actions,
                         &l1);
    memcpy(h->rows, sl_federation_team_inputs(h->team),
           (size_t)h->game.n_agents * h->game.n_inputs * sizeof(float));
}

static void look(struct haunted *h)
{
    h->inner->ops->observe(h->inner, h->rows);
    if (h->attacked)
        lie(h);
}

static void reset(struct sl_game *g, uint64_t seed)
{
    struct haunted *h = self(g);
    struct sl_rng rng;
    sl_rng_init(&rng, &(struct sl_rng_id){.seed = seed, .purpose = SL_RNG_AGENT, .tensor = 60});
    h->attacked = sl_rng_below(&rng, 2) == 1;
    sl_federation_resident(h->inner, h->attacked);
    h->inner->ops->reset(h->inner, seed);
    h->team->ops->reset(h->team, h->inner);
    look(h);
}

static void observe(const struct sl_game *g, float *ret)
{
    const struct haunted *h = (const struct haunted *)g;
    memcpy(ret, h->rows, (size_t)g->n_agents * g->n_inputs * sizeof(float));
}

static double step(struct sl_game *g, const uint8_t *actions, bool *ret_done)
{
    struct haunted *h = self(g);
    double reward = h->inner->ops->step(h->inner, actions, ret_done);
    if (!*ret_done)
        look(h);
    return reward;
}

static double credit(const struct sl_game *g, double *ret_own)
{
    const struct haunted *h = (const struct haunted *)g;
    return h->inner->ops->credit(h->inner, ret_own);
}

static void free_game(struct sl_game *g)
{
    struct haunted *h = self(g);
    sl_game_free(h->inner);
    sl_federation_team_free(h->team);
    free(h->rows);
    free(h);
}

static const struct sl_game_ops ops = {"haunted", reset, observe, step, free_game, credit};

enum sl_code sl_haunted_game_new(const struct sl_policy_plan *plan,
                                 const struct sl_fedmarl_policy *policy,
                                 const struct sl_qnet *attacker, struct sl_game *federation,
                                 struct sl_game **ret, struct sl_err *err)
{
    const struct sl_federation_team_options o = {
        .policy = policy, SL_FEDERATION_TEAM_DEFAULTS, .goal = SL_GOAL_COST};
    struct haunted *h = sl_calloc(1, sizeof(*h));
    if (h == NULL) {
        sl_game_free(federation);
        return sl_err_set(err, SL_E_NOMEM, "haunted game");
    }
    h->game = *federation;
    h->game.ops = &ops;
    h->inner = federation;
    h->net = &policy->net;
    h->attacker = attacker;
    h->rows = sl_calloc((size_t)h->game.n_agents * h->game.n_inputs, sizeof(float));
    enum sl_code rc = sl_federation_team_new(&o, plan, &h->team, err);
    if (rc == SL_OK && h->rows == NULL)
        rc = sl_err_set(err, SL_E_NOMEM, "haunted game");
    if (rc != SL_OK) {
        free_game(&h->game);
        return rc;
    }
    reset(&h->game, 0);
    *ret = &h->game;
    return SL_OK;
}
