/* SPDX-License-Identifier: Apache-2.0 */
#include "server/selection/selection.h"

#include <string.h>

static const struct sl_selection_ops *const policies[] = {
    &sl_selection_random, &sl_selection_all, &sl_selection_file};

const struct sl_selection_ops *sl_selection_find(const char *name)
{
    for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++)
        if (strcmp(policies[i]->name, name) == 0)
            return policies[i];
    return NULL;
}
