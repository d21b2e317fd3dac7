/* SPDX-License-Identifier: Apache-2.0 */
#include "server/strategy/strategy.h"

#include <string.h>

static const struct sl_strategy_ops *const strategies[] = {&sl_strategy_fedavg};

const struct sl_strategy_ops *sl_strategy_find(const char *name)
{
    for (size_t i = 0; i < sizeof(strategies) / sizeof(strategies[0]); i++)
        if (strcmp(strategies[i]->name, name) == 0)
            return strategies[i];
    return NULL;
}
