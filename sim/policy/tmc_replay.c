/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/policy/tmc_replay.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/mem.h"

enum sl_code sl_tmc_replay_init(struct sl_tmc_replay *r, const struct sl_game *game,
                                uint32_t capacity, struct sl_err *err)
{
    *r = (struct sl_tmc_replay){.capacity = capacity,
                                .steps = game->max_steps,
                                .actions = (size_t)game->max_steps * game->n_agents};
    r->inputs = r->actions * game->n_inputs;
    r->lengths = sl_calloc(capacity, sizeof(*r->lengths));
    r->all_inputs = sl_calloc(capacity, r->inputs * sizeof(*r->all_inputs));
    r->all_rewards = sl_calloc(capacity, r->steps * sizeof(*r->all_rewards));
    r->all_actions = sl_calloc(capacity, r->actions);
    if (r->lengths != NULL && r->all_inputs != NULL && r->all_rewards != NULL &&
        r->all_actions != NULL)
        return SL_OK;
    sl_tmc_replay_deinit(r);
    return sl_err_set(err, SL_E_NOMEM, "team: %" PRIu32 " episodes of experience", capacity);
}

void sl_tmc_replay_deinit(struct sl_tmc_replay *r)
{
    if (r == NULL)
        return;
    free(r->lengths);
    free(r->all_inputs);
    free(r->all_rewards);
    free(r->all_actions);
    *r = (struct sl_tmc_replay){0};
}

struct sl_tmc_episode sl_tmc_replay_at(const struct sl_tmc_replay *r, uint32_t i)
{
    return (struct sl_tmc_episode){.length = r->lengths + i,
                                   .inputs = r->all_inputs + i * r->inputs,
                                   .actions = r->all_actions + i * r->actions,
                                   .rewards = r->all_rewards + i * r->steps};
}

struct sl_tmc_episode sl_tmc_replay_add(struct sl_tmc_replay *r)
{
    struct sl_tmc_episode e = sl_tmc_replay_at(r, r->next);
    *e.length = 0;
    r->next = (r->next + 1) % r->capacity;
    r->n += r->n < r->capacity;
    return e;
}
