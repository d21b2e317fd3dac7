/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/attack/attack.h"

#include <string.h>

static const struct sl_attack_ops *const attacks[] = {
    &sl_attack_sign_flip, &sl_attack_label_flip, &sl_attack_scaling, &sl_attack_little};

const struct sl_attack_ops *sl_attack_find(const char *name)
{
    for (size_t i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++)
        if (strcmp(attacks[i]->name, name) == 0)
            return attacks[i];
    return NULL;
}
