/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/attack/cmarl/rule.h"

#include <assert.h>
#include <stdbool.h>

#include "common/rng.h"

uint32_t sl_cmarl_natural(const float *q, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t a = 1; a < n; a++)
        if (q[a] > q[best])
            best = a;
    return best;
}

static uint32_t random_of(const struct sl_cmarl_rule *rule, uint32_t n, uint32_t available,
                          uint32_t step)
{
    struct sl_rng rng;
    sl_rng_init(&rng, &(struct sl_rng_id){.seed = rule->seed,
                                          .purpose = SL_RNG_AGENT,
                                          .round = step,
                                          .tensor = 50});
    uint64_t k = sl_rng_below(&rng, (uint64_t)__builtin_popcount(available));
    for (uint32_t a = 0; a < n; a++)
        if (available >> a & 1 && k-- == 0)
            return a;
    return 0;
}

/* The largest of sign x q among the available; a weapon is available as its action is. */
static uint32_t extreme(const float *q, float sign, uint32_t n, uint32_t n_own, uint32_t available)
{
    uint32_t best = n;
    for (uint32_t a = 0; a < n; a++) {
        bool can = available >> (a < n_own ? a : n_own - 1) & 1;
        if (can && (best == n || sign * q[a] > sign * q[best]))
            best = a;
    }
    return best;
}

uint32_t sl_cmarl_choose(const struct sl_cmarl_rule *rule, const float *o, const float *q,
                         uint32_t n_own, uint32_t n_actions, uint32_t available, uint32_t step)
{
    float values[SL_QNET_ACTIONS_MAX];
    uint32_t action;
    available &= (1u << n_own) - 1;
    assert(available != 0 && n_actions >= n_own && n_actions <= n_own + 1);
    switch (rule->kind) {
    case SL_CMARL_RANDOM:
        action = random_of(rule, n_own, available, step);
        break;
    case SL_CMARL_LOCAL_WORST:
        action = extreme(q, -1, n_own, n_own, available);
        break;
    case SL_CMARL_LEARNED:
        sl_qnet_forward(rule->net, o, 1, values);
        return extreme(values, 1, n_actions, n_own, available);
    default:
        return sl_cmarl_natural(q, n_own);
    }
    return action == n_own - 1 ? n_actions - 1 : action;
}
