/* SPDX-License-Identifier: Apache-2.0 */
/* Training on wrong labels, with an update `strength` times as long, so that it outweighs
 * the others in a mean. Source: Bagdasaryan et al. 2020, "How To Backdoor Federated
 * Learning", section 4.2 (model replacement), with flipped labels in place of a backdoor.
 */
#include "sim/attack/attack.h"

static void alter(const struct sl_attack *a, const float *mean, const float *sd, size_t n,
                  float *update)
{
    for (size_t i = 0; i < n; i++)
        update[i] *= (float)a->strength;
}

const struct sl_attack_ops sl_attack_scaling = {
    .name = "scaling", .strength = 10, .flips_labels = true, .alter = alter};
