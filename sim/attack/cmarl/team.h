/* SPDX-License-Identifier: Apache-2.0 */
/* team.h - the side that is attacked: how a cooperative game is decided when one agent, the victim, shows
 * what it likes. One const ops table a kind of team. Thread: one at a time. */
#ifndef SL_SIM_CMARL_TEAM_H
#define SL_SIM_CMARL_TEAM_H

#include "sim/attack/cmarl/craft.h"
#include "sim/policy/game.h"

struct sl_team;

struct sl_team_ops {
    /* After a reset of the game. NULL = nothing to do. */
    void (*reset)(struct sl_team *t, struct sl_game *g);
    /* Bit a: the victim can end up with action a in this step. NULL = all of them. */
    uint32_t (*available)(struct sl_team *t, const struct sl_game *g, uint32_t victim);
    /* What the victim may show now, and by how much a wanted action should lead. */
    void (*range)(const struct sl_team *t, const struct sl_game *g, uint32_t victim,
                  struct sl_craft_range *ret, double *ret_margin);
    /* Actions of everybody, ret[n_agents]. shown[n_inputs]; NULL: the truth. ret_l1: how far from the
     * truth it was, as far as it can be shown at all. weapon: what the victim does beside lying, once it
     * is accepted; only where has_weapon. */
    void (*decide)(struct sl_team *t, struct sl_game *g, uint32_t victim, const float *shown,
                   bool weapon, uint8_t *ret, double *ret_l1);
    /* After a step: what it was worth to the attacker. NULL = -reward. */
    double (*worth)(struct sl_team *t, struct sl_game *g, uint32_t victim, const uint8_t *actions,
                    double reward);
};

struct sl_team {
    const struct sl_team_ops *ops;
    const struct sl_qnet *net; /* of every agent; what the attacker could read */
    bool has_weapon;
};

/* A game whose agents are all greedy over one network; the range is constant. */
struct sl_greedy_team {
    struct sl_team team;
    struct sl_craft_range range;
};
void sl_greedy_team_init(struct sl_greedy_team *t, const struct sl_qnet *net,
                         const struct sl_craft_range *range);

#endif
