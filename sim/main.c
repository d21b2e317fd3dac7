/* SPDX-License-Identifier: Apache-2.0 */
/* starling-sim: federated runs with virtual clients, partitions, conformance,
 * experiments. */
#include <stdio.h>
#include <string.h>

#include "accel/accel.h"
#include "common/mem.h"
#include "sim/commands.h"
#include "sim/options.h"

static enum sl_code run_verb(const struct sl_sim_options *o, struct sl_err *err)
{
    if (strcmp(o->verb, "run") == 0)
        return sl_command_run(o, err);
    if (strcmp(o->verb, "partition") == 0)
        return sl_command_partition(o, err);
    if (strcmp(o->verb, "experiment") == 0)
        return sl_command_experiment(o, err);
    if (strcmp(o->verb, "train-policy") == 0)
        return sl_command_train_policy(o, err);
    return sl_command_check(o, err);
}

int main(int argc, char **argv)
{
    struct sl_sim_options o;
    struct sl_err err = {.msg = ""};
    sl_accel_init();
    sl_mem_tune_malloc();
    enum sl_code rc = sl_sim_options_parse(argc, argv, &o, &err);
    if (rc == SL_OK && o.help) {
        fputs(sl_sim_help, stdout);
        return 0;
    }
    if (rc == SL_OK && o.version) {
        puts("starling-sim " SL_VERSION);
        return 0;
    }
    if (rc == SL_OK)
        rc = sl_accel_check_env(&err);
    if (rc == SL_OK)
        rc = run_verb(&o, &err);
    if (rc != SL_OK && err.msg[0] != '\0')
        fprintf(stderr, "starling-sim: %s\n", err.msg);
    if (fflush(stdout) != 0 && rc == SL_OK)
        rc = SL_E_IO;
    return sl_code_exit_status(rc);
}
