/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/attack/cmarl/team.h"

#include <math.h>
#include <string.h>

#include "server/selection/fedmarl/vdn.h"

static void range(const struct sl_team *t, const struct sl_game *g, uint32_t victim,
                  struct sl_craft_range *ret, double *ret_margin)
{
    *ret = ((const struct sl_greedy_team *)t)->range;
    *ret_margin = 0;
}

static void decide(struct sl_team *t, struct sl_game *g, uint32_t victim, const float *shown,
                   bool weapon, uint8_t *ret, double *ret_l1)
{
    float x[SL_GAME_AGENTS_MAX * SL_GAME_INPUTS_MAX], q[SL_GAME_AGENTS_MAX * SL_GAME_ACTIONS_MAX];
    float *row = x + (size_t)victim * g->n_inputs;
    g->ops->observe(g, x);
    *ret_l1 = 0;
    for (uint32_t i = 0; shown != NULL && i < g->n_inputs; i++)
        *ret_l1 += fabs((double)shown[i] - row[i]);
    if (shown != NULL)
        memcpy(row, shown, g->n_inputs * sizeof(float));
    sl_qnet_forward(t->net, x, g->n_agents, q);
    sl_vdn_greedy(q, g->n_agents, g->n_actions, ret);
}

static const struct sl_team_ops ops = {.range = range, .decide = decide};

void sl_greedy_team_init(struct sl_greedy_team *t, const struct sl_qnet *net,
                         const struct sl_craft_range *allowed)
{
    *t = (struct sl_greedy_team){.team = {.ops = &ops, .net = net}, .range = *allowed};
}
