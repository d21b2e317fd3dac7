/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/check.h"
#include "sim/commands.h"

enum sl_code sl_command_check(const struct sl_sim_options *o, struct sl_err *err)
{
    struct sl_check c = {.cases = {.only = o->only, .n_only = o->n_only, .out = stdout},
                         .jobs = o->jobs};
    enum sl_code rc = sl_check_run(&c, o->path, err);
    return rc == SL_OK ? sl_cases_close(&c.cases, o->path, err) : rc;
}
