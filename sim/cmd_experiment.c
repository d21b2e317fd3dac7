/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "sim/commands.h"
#include "sim/experiment/experiment.h"

static enum sl_code unknown(const char *name, struct sl_err *err)
{
    char names[200];
    size_t n = 0;
    const struct sl_experiment *e;
    for (size_t i = 0; (e = sl_experiment_at(i)) != NULL; i++)
        n += (size_t)snprintf(names + n, sizeof(names) - n, "%s%s", i == 0 ? "" : ", ",
                              e->name);
    return sl_err_set(err, SL_E_USAGE, "no experiment \"%.40s\" (%s)", name, names);
}

enum sl_code sl_command_experiment(const struct sl_sim_options *o, struct sl_err *err)
{
    const struct sl_experiment *e = sl_experiment_find(o->path);
    uint64_t seeds[SL_EXPERIMENT_SEEDS];
    if (e == NULL)
        return unknown(o->path, err);
    if (o->out == NULL && !o->list)
        return sl_err_set(err, SL_E_USAGE,
                          "experiment %s wants --out DIR, where results go", e->name);
    for (size_t i = 0; i < e->default_seeds; i++)
        seeds[i] = i + 1;
    const struct sl_experiment_job job = {
        .experiment = e,
        .options = {.seeds = o->n_seeds > 0 ? o->seeds : seeds,
                    .n_seeds = o->n_seeds > 0 ? o->n_seeds : e->default_seeds,
                    .quick = o->quick,
                    .policy = o->policy},
        .dir = o->out,
        .only = o->only,
        .n_only = o->n_only,
        .jobs = o->jobs == 0 ? 1 : o->jobs,
        .list_only = o->list,
        .no_run = o->no_run,
        .quiet = o->quiet};
    return sl_experiment_run(&job, err);
}
