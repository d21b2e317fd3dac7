/* SPDX-License-Identifier: Apache-2.0 */
/* stock_game.h - a game to attack whose worst case can be enumerated: agent 0 keeps a stock, which the
 * others work from, for five steps. Its action 1 gives the team 0.4 and keeps the stock full; left out,
 * the stock loses a tenth; action 1 on a stock below 0.95 breaks it for good. The others earn
 * stock x (gain - 0.3) with action 1. So the locally worst action, to leave it out for ever, costs much
 * less than leaving it out once. Inputs: gain, load, stock, step / 5. The team's network follows gain
 * and load alone. */
#ifndef SL_TESTS_STOCK_GAME_H
#define SL_TESTS_STOCK_GAME_H

#include <stdlib.h>

#include "common/rng.h"
#include "server/selection/fedmarl/qnet.h"
#include "sim/policy/game.h"

#define STOCK_AGENTS 4
#define STOCK_STEPS 5
#define STOCK_INPUTS 4

struct stock_game {
    struct sl_game game;
    float gain[STOCK_AGENTS], load[STOCK_AGENTS];
    double stock;
    uint32_t step;
};

static void stock_reset(struct sl_game *game, uint64_t seed)
{
    struct stock_game *g = (struct stock_game *)game;
    struct sl_rng rng;
    sl_rng_init(&rng, &(struct sl_rng_id){.seed = seed, .purpose = SL_RNG_TEST});
    for (uint32_t i = 0; i < STOCK_AGENTS; i++) {
        g->gain[i] = (float)(0.7 + 0.3 * sl_rng_f64(&rng));
        g->load[i] = (float)(0.3 * sl_rng_f64(&rng));
    }
    g->stock = 1;
    g->step = 0;
}

static void stock_observe(const struct sl_game *game, float *ret)
{
    const struct stock_game *g = (const struct stock_game *)game;
    for (uint32_t i = 0; i < STOCK_AGENTS; i++) {
        *ret++ = g->gain[i];
        *ret++ = g->load[i];
        *ret++ = (float)g->stock;
        *ret++ = (float)g->step / STOCK_STEPS;
    }
}

static double stock_step(struct sl_game *game, const uint8_t *actions, bool *ret_done)
{
    struct stock_game *g = (struct stock_game *)game;
    double reward = actions[0] ? 0.4 : 0;
    if (actions[0] && g->stock < 0.95)
        g->stock = 0;
    else if (!actions[0])
        g->stock *= 0.9;
    for (uint32_t i = 1; i < STOCK_AGENTS; i++)
        reward += actions[i] ? g->stock * ((double)g->gain[i] - 0.3) : 0;
    *ret_done = ++g->step == STOCK_STEPS;
    return reward;
}

static void stock_free(struct sl_game *game)
{
    free(game);
}

static struct sl_game *stock_game_new(void)
{
    static const struct sl_game_ops ops = {"stock", stock_reset, stock_observe, stock_step,
                                           stock_free, NULL};
    struct stock_game *g = calloc(1, sizeof(*g));
    g->game = (struct sl_game){.ops = &ops,
                               .n_agents = STOCK_AGENTS,
                               .n_actions = 2,
                               .n_inputs = STOCK_INPUTS,
                               .max_steps = STOCK_STEPS};
    stock_reset(&g->game, 0);
    return &g->game;
}

/* Q(1) - Q(0) = h - 0.6, h = relu(gain - load / 2): action 1 at every state of the game. */
static struct sl_qnet stock_net(void)
{
    struct sl_qnet q;
    const struct sl_qnet_shape shape = {STOCK_INPUTS, 2, 1, 2};
    if (sl_qnet_new(&shape, 1, &q, NULL) != SL_OK)
        abort();
    static const float values[] = {1, 0, -0.5f, 0, 0, 0, 0, 0, /* inputs x hidden */
                                   0, 0,                       /* bias */
                                   -0.5f, 0, 0.5f, 0,          /* actions x hidden */
                                   0.6f, 0};
    for (size_t i = 0; i < q.n_values; i++)
        q.values[i] = values[i];
    return q;
}

#endif
