/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/attack/cmarl/siege.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

struct siege {
    struct sl_game game;
    struct sl_siege_options o;
    struct sl_game *inner;
    struct sl_team *team;
    float *rows; /* [n_agents, n_inputs] of the inner game */
    float q[SL_GAME_ACTIONS_MAX]; /* the victim's own, of the truth */
    uint32_t available;
    struct sl_siege_counts counts;
};

static struct siege *self(struct sl_game *g)
{
    return (struct siege *)g;
}

static float *truth(const struct siege *s)
{
    return s->rows + (size_t)s->o.victim * s->inner->n_inputs;
}

/* What the victim sees before the next step. */
static void look(struct siege *s)
{
    const uint32_t all = (1u << s->inner->n_actions) - 1;
    s->inner->ops->observe(s->inner, s->rows);
    sl_qnet_forward(s->team->net, truth(s), 1, s->q);
    s->available = s->team->ops->available == NULL
                       ? all
                       : s->team->ops->available(s->team, s->inner, s->o.victim) & all;
}

static void reset(struct sl_game *game, uint64_t seed)
{
    struct siege *s = self(game);
    s->inner->ops->reset(s->inner, seed);
    if (s->team->ops->reset != NULL)
        s->team->ops->reset(s->team, s->inner);
    s->counts = (struct sl_siege_counts){0};
    look(s);
}

static void observe(const struct sl_game *game, float *ret)
{
    const struct siege *s = (const struct siege *)game;
    memcpy(ret, truth(s), game->n_inputs * sizeof(float));
}

/* The lie; NULL when the truth will do, or nothing helps. */
static const float *craft(struct siege *s, uint32_t target, uint32_t natural, float *lie)
{
    struct sl_craft_range range;
    struct sl_craft_result r;
    struct sl_craft_options o = s->o.craft;
    double margin;
    if (s->o.control == SL_SIEGE_DIRECT || target == natural)
        return NULL;
    s->team->ops->range(s->team, s->inner, s->o.victim, &range, &margin);
    o.margin = margin > o.margin ? margin : o.margin;
    sl_craft(s->team->net, &o, &range, truth(s), target, lie, &r);
    return r.lead > 0 ? lie : NULL;
}

static void count(struct siege *s, uint32_t target, uint32_t natural, uint32_t action, double l1)
{
    struct sl_siege_counts *c = &s->counts;
    c->steps++;
    c->wanted += target != natural;
    c->hits += target != natural && action == target;
    c->mispredicted += action != natural;
    c->lies += l1 > 0;
    c->accepted += action != 0;
    c->l1 += l1;
}

static double step(struct sl_game *game, const uint8_t *actions, bool *ret_done)
{
    struct siege *s = self(game);
    const uint32_t own = s->inner->n_actions, natural = sl_cmarl_natural(s->q, own);
    const bool weapon = actions[0] == own;
    uint32_t target = weapon ? own - 1 : actions[0];
    if (!(s->available >> target & 1) || __builtin_popcount(s->available) == 1)
        target = natural; /* nothing to win */
    uint8_t all[SL_GAME_AGENTS_MAX];
    float lie[SL_GAME_INPUTS_MAX];
    double l1 = 0, gap = s->q[natural] - s->q[target];
    const float *shown = craft(s, target, natural, lie);
    s->team->ops->decide(s->team, s->inner, s->o.victim, shown, weapon, all, &l1);
    if (s->o.control == SL_SIEGE_DIRECT && target != natural)
        all[s->o.victim] = (uint8_t)target;
    count(s, target, natural, all[s->o.victim], l1);
    double reward = s->inner->ops->step(s->inner, all, ret_done);
    double worth = s->team->ops->worth == NULL
                       ? -reward
                       : s->team->ops->worth(s->team, s->inner, s->o.victim, all, reward);
    s->counts.team += reward;
    s->counts.worth += worth;
    if (!*ret_done)
        look(s);
    return worth - s->o.lambda * gap * gap;
}

static void free_game(struct sl_game *game)
{
    free(self(game)->rows);
    free(game);
}

static const struct sl_game_ops ops = {"siege", reset, observe, step, free_game, NULL};

enum sl_code sl_siege_new(const struct sl_siege_options *o, struct sl_game *inner,
                          struct sl_team *team, struct sl_game **ret, struct sl_err *err)
{
    if (o->victim >= inner->n_agents)
        return sl_err_set(err, SL_E_RANGE, "victim %u (below %u)", o->victim, inner->n_agents);
    if (team->net->shape.n_inputs != inner->n_inputs ||
        team->net->shape.n_actions != inner->n_actions)
        return sl_err_set(err, SL_E_RANGE, "a team of %u inputs and %u actions (the game's: %u, %u)",
                          team->net->shape.n_inputs, team->net->shape.n_actions, inner->n_inputs,
                          inner->n_actions);
    struct siege *s = sl_calloc(1, sizeof(*s));
    if (s == NULL)
        return sl_err_set(err, SL_E_NOMEM, "siege");
    s->rows = sl_calloc((size_t)inner->n_agents * inner->n_inputs, sizeof(float));
    if (s->rows == NULL) {
        free(s);
        return sl_err_set(err, SL_E_NOMEM, "siege");
    }
    s->game = (struct sl_game){.ops = &ops,
                               .n_agents = 1,
                               .n_actions = inner->n_actions + (team->has_weapon ? 1 : 0),
                               .n_inputs = inner->n_inputs,
                               .max_steps = inner->max_steps};
    s->o = *o;
    s->inner = inner;
    s->team = team;
    *ret = &s->game;
    return SL_OK;
}

const struct sl_siege_counts *sl_siege_counts(const struct sl_game *siege)
{
    return &((const struct siege *)siege)->counts;
}

struct sl_siege_counts sl_siege_play(struct sl_game *game, const struct sl_cmarl_rule *rule,
                                     uint64_t seed)
{
    struct siege *s = self(game);
    bool done = false;
    reset(game, seed);
    while (!done) {
        uint8_t action = (uint8_t)sl_cmarl_choose(rule, truth(s), s->q, s->inner->n_actions,
                                                  game->n_actions, s->available, s->counts.steps);
        step(game, &action, &done);
    }
    return s->counts;
}
