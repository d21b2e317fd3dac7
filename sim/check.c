/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/check.h"

#include <string.h>

#include "accel/nn/check_nn.h"

static bool nn_wanted(void *ctx, const char *name)
{
    return sl_cases_match(ctx, name);
}

static enum sl_code run_manifest(void *ctx, const char *dir, const json_t *manifest,
                                 struct sl_err *err)
{
    struct sl_check *c = ctx;
    struct sl_cases *cases = &c->cases;
    if (json_is_array(json_object_get(manifest, "cases")))
        return sl_check_nn(dir, manifest, nn_wanted, cases, cases->out, &cases->counts,
                           err);
    const char *format = json_string_value(json_object_get(manifest, "format"));
    const char *name = json_string_value(json_object_get(manifest, "name"));
    if (format != NULL && strcmp(format, "fl-agg-1") == 0) {
        sl_check_agg(c, dir, manifest);
        return SL_OK;
    }
    const char *shown = name == NULL ? sl_cases_last_name(dir) : name;
    if (!sl_cases_wanted(cases, shown))
        return SL_OK;
    if (format != NULL && strcmp(format, "fl-vectors-1") == 0 && name != NULL) {
        sl_check_fl(c, dir, manifest);
        return SL_OK;
    }
    char why[160];
    snprintf(why, sizeof(why), "format, -, fl-vectors-1 or fl-agg-1, %.60s",
             format == NULL ? "none" : format);
    sl_cases_result(cases, shown, why);
    return SL_OK;
}

enum sl_code sl_check_run(struct sl_check *c, const char *dir, struct sl_err *err)
{
    return sl_cases_walk(&c->cases, dir, run_manifest, c, err);
}
