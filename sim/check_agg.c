/* SPDX-License-Identifier: Apache-2.0 */
/* Aggregation rules on given updates: means go through the coordinator's own exact sum
 * (server/aggregate.h), tile by tile as updates come, the others through its robust rules
 * (server/strategy/robust.h). */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "server/aggregate.h"
#include "server/strategy/strategy.h"
#include "sim/check.h"
#include "sim/check_array.h"
#include "sim/check_case.h"

#define TILE 1024
#define WHY 256

struct agg_case {
    struct sl_check_array updates; /* [clients, values] */
    const json_t *samples;
};

static double largest(const struct sl_check_array *a)
{
    double max = 0;
    for (size_t i = 0; i < a->rows * a->columns; i++)
        max = fabs((double)a->f32[i]) > max ? fabs((double)a->f32[i]) : max;
    return max;
}

static enum sl_code mean_of(const struct agg_case *k, bool by_samples, float *ret,
                            struct sl_err *err)
{
    uint64_t total = 0, most = 1;
    for (size_t c = 0; c < k->updates.rows; c++) {
        uint64_t w =
            by_samples ? (uint64_t)json_integer_value(json_array_get(k->samples, c)) : 1;
        total += w;
        most = w > most ? w : most;
    }
    struct sl_sum_bounds bounds = {.max_abs = fmax(8, largest(&k->updates)),
                                   .max_weight = most,
                                   .sum_weight = total,
                                   .fraction_bits = 32};
    struct sl_sum sum = {0};
    enum sl_code rc = sl_sum_bounds_fit(&bounds, err);
    if (rc == SL_OK)
        rc = sl_sum_init(&sum, k->updates.columns, &bounds, err);
    for (size_t c = 0; c < k->updates.rows && rc == SL_OK; c++) {
        const float *x = k->updates.f32 + c * k->updates.columns;
        uint64_t w =
            by_samples ? (uint64_t)json_integer_value(json_array_get(k->samples, c)) : 1;
        for (size_t at = 0; at < k->updates.columns; at += TILE) {
            size_t n = k->updates.columns - at < TILE ? k->updates.columns - at : TILE;
            sl_sum_add_tile(&sum, at, x + at, n, w, 1.0);
        }
        sl_sum_count(&sum, w);
    }
    if (rc == SL_OK)
        sl_sum_mean_tile(&sum, 0, k->updates.columns, ret);
    sl_sum_deinit(&sum);
    return rc;
}

static size_t stretch(void *ctx, size_t first, size_t most)
{
    const struct agg_case *k = ctx;
    size_t left = k->updates.columns - first;
    return left < most ? left : most;
}

static enum sl_code read_values(void *ctx, size_t update, size_t first, size_t n, float *ret,
                                struct sl_err *err)
{
    const struct agg_case *k = ctx;
    (void)err;
    memcpy(ret, k->updates.f32 + update * k->updates.columns + first, n * sizeof(*ret));
    return SL_OK;
}

static enum sl_code run_robust(struct agg_case *k, const struct sl_plan *plan,
                               const double *weight, float *ret, struct sl_err *err)
{
    const struct sl_update_source source = {.ctx = k,
                                            .k = k->updates.rows,
                                            .n_values = k->updates.columns,
                                            .weight = weight,
                                            .stretch = stretch,
                                            .read = read_values};
    const struct sl_strategy_ops *s = sl_strategy_find(plan->strategy.name);
    struct sl_robust robust = {0};
    size_t n = 0;
    enum sl_code rc = sl_robust_init(&robust, s->rule, plan, &source, err);
    for (size_t at = 0; rc == SL_OK && at < source.n_values; at += n)
        rc = sl_robust_tile(&robust, at, TILE, ret + at, &n, err);
    sl_robust_deinit(&robust);
    return rc;
}

static enum sl_code robust_of(struct agg_case *k, const json_t *rule, float *ret,
                              struct sl_err *err)
{
    const char *weighting = json_string_value(json_object_get(rule, "weighting"));
    bool by_samples = weighting != NULL && strcmp(weighting, "samples") == 0;
    double *weight = sl_calloc(k->updates.rows, sizeof(*weight));
    struct sl_plan plan;
    sl_plan_default(&plan);
    enum sl_code rc = sl_fl_case_rule(
        json_string_value(json_object_get(rule, "aggregator")), rule, &plan, err);
    if (rc == SL_OK && weight == NULL)
        rc = sl_err_set(err, SL_E_NOMEM, "weights");
    for (size_t c = 0; rc == SL_OK && c < k->updates.rows; c++)
        weight[c] = by_samples ? json_number_value(json_array_get(k->samples, c)) : 1;
    if (rc == SL_OK)
        rc = run_robust(k, &plan, weight, ret, err);
    free(weight);
    sl_plan_deinit(&plan);
    return rc;
}

static enum sl_code result_of(struct agg_case *k, const json_t *rule, float *ret,
                              struct sl_err *err)
{
    const char *aggregator = json_string_value(json_object_get(rule, "aggregator"));
    const char *weighting = json_string_value(json_object_get(rule, "weighting"));
    if (strcmp(aggregator, "mean") != 0)
        return robust_of(k, rule, ret, err);
    if (weighting == NULL)
        return sl_err_set(err, SL_E_INPUT, "weighting of a mean, missing");
    return mean_of(k, strcmp(weighting, "samples") == 0, ret, err);
}

/* Fills `why` when the rule's result differs; empty otherwise. */
static void compare(struct agg_case *k, const char *dir, const json_t *rule,
                    char why[WHY])
{
    const char *file = json_string_value(json_object_get(rule, "file"));
    const json_t *tolerance = json_object_get(rule, "max_abs_tolerance");
    struct sl_check_array want = {0};
    struct sl_err err;
    if (file == NULL || !json_is_number(tolerance)) {
        snprintf(why, WHY, "manifest.json, -, file max_abs_tolerance, missing");
        return;
    }
    if (sl_check_array_load(dir, file, &want, &err) != SL_OK || want.f32 == NULL ||
        want.columns != k->updates.columns) {
        snprintf(why, WHY, "%.60s, -, %zu values, not there", file, k->updates.columns);
        sl_check_array_deinit(&want);
        return;
    }
    float *got = sl_calloc(want.columns, sizeof(*got));
    if (got == NULL || result_of(k, rule, got, &err) != SL_OK) {
        snprintf(why, WHY, "result, -, one, %.150s",
                 got == NULL ? "no memory" : err.msg);
    } else {
        size_t at;
        if (!(sl_check_max_abs(got, want.f32, want.columns, &at) <=
              json_number_value(tolerance)))
            snprintf(why, WHY, "result, %zu, %.9g, %.9g", at, (double)want.f32[at],
                     (double)got[at]);
    }
    free(got);
    sl_check_array_deinit(&want);
}

static void run_rule(struct sl_check *c, struct agg_case *k, const char *dir,
                     const char *name, const json_t *rule)
{
    char full[160], why[WHY] = "";
    const char *rule_name = json_string_value(json_object_get(rule, "name"));
    const char *aggregator = json_string_value(json_object_get(rule, "aggregator"));
    snprintf(full, sizeof(full), "%.70s/%.70s", name,
             rule_name == NULL ? "?" : rule_name);
    if (!sl_cases_wanted(&c->cases, full))
        return;
    if (aggregator == NULL)
        snprintf(why, WHY, "aggregator, -, one, none");
    else
        compare(k, dir, rule, why);
    sl_cases_result(&c->cases, full, why[0] == '\0' ? NULL : why);
}

void sl_check_agg(struct sl_check *c, const char *dir, const json_t *manifest)
{
    const char *name = json_string_value(json_object_get(manifest, "name"));
    const json_t *rules = json_object_get(manifest, "rules");
    const char *file =
        json_string_value(json_object_get(json_object_get(manifest, "files"), "updates"));
    struct agg_case k = {.samples = json_object_get(manifest, "client_samples")};
    struct sl_err err;
    if (name == NULL)
        name = dir;
    if (file == NULL || json_array_size(rules) == 0 ||
        sl_check_array_load(dir, file, &k.updates, &err) != SL_OK ||
        k.updates.f32 == NULL || k.updates.rows != json_array_size(k.samples)) {
        if (sl_cases_wanted(&c->cases, name))
            sl_cases_result(&c->cases, name, "updates, -, one row a client, not there");
    } else {
        size_t i;
        const json_t *rule;
        json_array_foreach(rules, i, rule) run_rule(c, &k, dir, name, rule);
    }
    sl_check_array_deinit(&k.updates);
}
