/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/units/matmul.h"

#include <string.h>

static const struct sl_matmul_unit *const units[] = {
    &sl_matmul_fp32,
    &sl_matmul_fast,
    &sl_matmul_tr,
    &sl_matmul_rtn,
};
#define N_UNITS (sizeof(units) / sizeof(units[0]))

const struct sl_matmul_unit *sl_matmul_unit_at(size_t i)
{
    return i < N_UNITS ? units[i] : NULL;
}

const struct sl_matmul_unit *sl_matmul_unit_find(const char *name)
{
    for (size_t i = 0; i < N_UNITS; i++)
        if (strcmp(units[i]->name, name) == 0)
            return units[i];
    return NULL;
}

void sl_matmul(struct sl_unit_ctx *ctx, const struct sl_matmul *op)
{
    ctx->unit->matmul(ctx, op);
}
