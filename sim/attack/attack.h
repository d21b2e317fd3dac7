/* SPDX-License-Identifier: Apache-2.0 */
/* attack.h - clients that send what they should not: a const ops table an attack, one file
 * each. Attackers are the first n clients of a run. They know each other's data, nothing of
 * honest clients. The simulator's clients alone have them; no daemon links this folder.
 * Thread: any; constant. */
#ifndef SL_SIM_ATTACK_H
#define SL_SIM_ATTACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct sl_attack;

struct sl_attack_ops {
    const char *name;
    double strength; /* unless said */
    /* An attacker trains with flipped labels: c becomes classes - 1 - c. */
    bool flips_labels;
    /* alter gets mean and sd [n] of the updates that each attacker would have made. */
    bool colludes;
    /* update[0..n-1] becomes what is sent; NULL: it is sent as it is. mean and sd NULL
     * unless colludes. */
    void (*alter)(const struct sl_attack *a, const float *mean, const float *sd, size_t n,
                  float *update);
};

struct sl_attack {
    const struct sl_attack_ops *ops;
    uint32_t n;      /* attackers: clients 0 to n - 1 */
    double strength; /* > 0; what it is stands with each attack */
};

extern const struct sl_attack_ops sl_attack_sign_flip, sl_attack_label_flip,
    sl_attack_scaling, sl_attack_little;

/* NULL when there is none of that name. */
const struct sl_attack_ops *sl_attack_find(const char *name);

#endif
