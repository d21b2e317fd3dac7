/* SPDX-License-Identifier: Apache-2.0 */
/* rule.h - which action the victim should be made to take (Lin et al. 2020, section III.A):
 *   truth        its own: no attack
 *   random       uniform over what is available
 *   local-worst  the smallest of the victim's own Q values
 *   learned      the largest Q of a network that was trained on -r (train.h): optimised worst, with or
 *                without the regulariser
 * Pure; thread: any. */
#ifndef SL_SIM_CMARL_RULE_H
#define SL_SIM_CMARL_RULE_H

#include "server/selection/fedmarl/qnet.h"

enum sl_cmarl_kind { SL_CMARL_TRUTH, SL_CMARL_RANDOM, SL_CMARL_LOCAL_WORST, SL_CMARL_LEARNED };

struct sl_cmarl_rule {
    enum sl_cmarl_kind kind;
    const struct sl_qnet *net; /* learned; else NULL */
    uint64_t seed;             /* random */
};

/* q[n_own]: the victim's values of the truth o. n_actions: n_own, or one more, which is the last one with
 * a weapon; random and local-worst use the weapon wherever they can. available: bit a for the victim's
 * own action a, at least one; truth does not ask. */
uint32_t sl_cmarl_choose(const struct sl_cmarl_rule *rule, const float *o, const float *q,
                         uint32_t n_own, uint32_t n_actions, uint32_t available, uint32_t step);

/* The victim's own choice: the largest of q, the first of equal ones. */
uint32_t sl_cmarl_natural(const float *q, uint32_t n);

#endif
