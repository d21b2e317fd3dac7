/* SPDX-License-Identifier: Apache-2.0 */
/* All attackers send the same vector: in each coordinate `strength` standard deviations
 * below the mean of what they would have sent, which hides among honest updates. Source:
 * Baruch, Baruch, Goldberg 2019, "A Little Is Enough", algorithm 3. */
#include "sim/attack/attack.h"

static void alter(const struct sl_attack *a, const float *mean, const float *sd, size_t n,
                  float *update)
{
    for (size_t i = 0; i < n; i++)
        update[i] = mean[i] - (float)a->strength * sd[i];
}

const struct sl_attack_ops sl_attack_little = {
    .name = "little", .strength = 1.5, .colludes = true, .alter = alter};
