/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/experiment/experiment.h"

static const struct sl_experiment *const experiments[] = {
    &sl_experiment_fast, &sl_experiment_tr, &sl_experiment_rtn, &sl_experiment_uplink,
    &sl_experiment_spherefed, &sl_experiment_robust, &sl_experiment_strategies,
    &sl_experiment_fedbuff, &sl_experiment_tmc, &sl_experiment_cmarl,
    &sl_experiment_fedmarl};

#define N_EXPERIMENTS (sizeof(experiments) / sizeof(experiments[0]))

const struct sl_experiment *sl_experiment_at(size_t i)
{
    return i < N_EXPERIMENTS ? experiments[i] : NULL;
}

const struct sl_experiment *sl_experiment_find(const char *name)
{
    for (size_t i = 0; i < N_EXPERIMENTS; i++)
        if (strcmp(experiments[i]->name, name) == 0)
            return experiments[i];
    return NULL;
}

void sl_cell_name(const json_t *cell, char ret[SL_CELL_NAME])
{
    snprintf(ret, SL_CELL_NAME, "%s/%s/seed-%" JSON_INTEGER_FORMAT,
             json_string_value(json_object_get(cell, "part")),
             json_string_value(json_object_get(cell, "setting")),
             json_integer_value(json_object_get(cell, "seed")));
}

enum sl_code sl_cell_add(json_t *cells, const char *part, const char *setting,
                         uint64_t seed, struct sl_err *err, const char *text, ...)
{
    va_list args;
    char *plan = NULL;
    va_start(args, text);
    int n = vasprintf(&plan, text, args);
    va_end(args);
    json_t *cell = n < 0 ? NULL
                         : json_pack("{s:s, s:s, s:I, s:s}", "part", part, "setting",
                                     setting, "seed", (json_int_t)seed, "plan", plan);
    if (n >= 0)
        free(plan);
    if (json_array_append_new(cells, cell) != 0)
        return sl_err_set(err, SL_E_NOMEM, "cells of the experiment");
    return SL_OK;
}
