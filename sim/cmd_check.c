/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/check.h"
#include "sim/commands.h"

enum sl_code sl_command_check(const struct sl_sim_options *o, struct sl_err *err)
{
    struct sl_check c = {
        .only = o->only, .n_only = o->n_only, .jobs = o->jobs, .out = stdout};
    enum sl_code rc = sl_check_run(&c, o->path, err);
    if (rc != SL_OK)
        return rc;
    printf("%zu passed, %zu failed", c.counts.passed, c.counts.failed);
    if (c.counts.skipped > 0)
        printf(", %zu skipped", c.counts.skipped);
    putchar('\n');
    if (c.counts.passed + c.counts.failed == 0)
        return sl_err_set(err, SL_E_INPUT, "--only leaves no case of %s", o->path);
    return c.counts.failed == 0 ? SL_OK : SL_E_FAILED;
}
