/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/policy/gain_game.h"

#include <stdlib.h>

#include "common/mem.h"
#include "common/rng.h"

#define AGENTS_MAX 16

struct gain_game {
    struct sl_game game;
    double w2, w3;
    double gain[AGENTS_MAX], cost[AGENTS_MAX], time[AGENTS_MAX];
};

static void reset(struct sl_game *game, uint64_t seed)
{
    struct gain_game *g = (struct gain_game *)game;
    struct sl_rng rng;
    sl_rng_init(&rng, &(struct sl_rng_id){.seed = seed, .purpose = SL_RNG_AGENT, .tensor = 30});
    for (uint32_t i = 0; i < game->n_agents; i++) {
        g->gain[i] = sl_rng_f64(&rng);
        g->cost[i] = sl_rng_f64(&rng);
        g->time[i] = sl_rng_f64(&rng);
    }
}

static void observe(const struct sl_game *game, float *ret)
{
    const struct gain_game *g = (const struct gain_game *)game;
    for (uint32_t i = 0; i < game->n_agents; i++) {
        *ret++ = (float)g->gain[i];
        *ret++ = (float)g->cost[i];
        *ret++ = (float)g->time[i];
    }
}

double sl_gain_game_reward(const struct sl_game *game, const uint8_t *actions)
{
    const struct gain_game *g = (const struct gain_game *)game;
    double sum = 0, slowest = 0;
    for (uint32_t i = 0; i < game->n_agents; i++)
        if (actions[i]) {
            sum += g->gain[i] - g->w3 * g->cost[i];
            slowest = g->time[i] > slowest ? g->time[i] : slowest;
        }
    return sum - g->w2 * slowest;
}

double sl_gain_game_best(const struct sl_game *game)
{
    double best = 0;
    for (uint32_t set = 0; set < 1u << game->n_agents; set++) {
        uint8_t actions[AGENTS_MAX];
        for (uint32_t i = 0; i < game->n_agents; i++)
            actions[i] = set >> i & 1;
        double r = sl_gain_game_reward(game, actions);
        best = r > best ? r : best;
    }
    return best;
}

static double step(struct sl_game *game, const uint8_t *actions, bool *ret_done)
{
    *ret_done = true;
    return sl_gain_game_reward(game, actions);
}

static void free_game(struct sl_game *game)
{
    free(game);
}

static const struct sl_game_ops ops = {"gain", reset, observe, step, free_game, NULL};

enum sl_code sl_gain_game_new(uint32_t n_agents, double w2, double w3, struct sl_game **ret,
                              struct sl_err *err)
{
    if (n_agents < 1 || n_agents > AGENTS_MAX)
        return sl_err_set(err, SL_E_RANGE, "%u agents (1 to %d)", n_agents, AGENTS_MAX);
    struct gain_game *g = sl_calloc(1, sizeof(*g));
    if (g == NULL)
        return sl_err_set(err, SL_E_NOMEM, "gain game");
    g->game = (struct sl_game){
        .ops = &ops, .n_agents = n_agents, .n_actions = 2, .n_inputs = 3, .max_steps = 1};
    g->w2 = w2;
    g->w3 = w3;
    reset(&g->game, 0);
    *ret = &g->game;
    return SL_OK;
}
