/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/check/vector.h"
#include "accel/tool/commands.h"

enum sl_code sl_tool_check(const struct sl_tool_options *o, uint32_t cpu,
                           struct sl_err *err)
{
    static const enum sl_tool_option allowed[] = {SL_OPT_ONLY};
    struct sl_cases c = {.only = o->only, .n_only = o->n_only, .out = stdout};
    enum sl_code rc = sl_tool_allow(o, NULL, allowed, 1, err);
    if (rc == SL_OK && o->n_paths != 1)
        rc = sl_err_set(err, SL_E_USAGE, "check wants one DIR");
    if (rc == SL_OK)
        rc = sl_vector_check_dir(&c, o->path[0], err);
    return rc == SL_OK ? sl_cases_close(&c, o->path[0], err) : rc;
}
