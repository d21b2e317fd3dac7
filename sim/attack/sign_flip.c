/* SPDX-License-Identifier: Apache-2.0 */
/* The update the other way round, `strength` times as long. */
#include "sim/attack/attack.h"

static void alter(const struct sl_attack *a, const float *mean, const float *sd, size_t n,
                  float *update)
{
    float factor = (float)-a->strength;
    for (size_t i = 0; i < n; i++)
        update[i] *= factor;
}

const struct sl_attack_ops sl_attack_sign_flip = {
    .name = "sign-flip", .strength = 5, .alter = alter};
