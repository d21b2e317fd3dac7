/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "accel/accel.h"
#include "common/mem.h"
#include "common/report.h"
#include "sim/experiment/experiment.h"
#include "sim/experiment/training.h"
#include "sim/world.h"

#define LAST 5 /* evaluations whose mean is a run's accuracy */

enum sl_code sl_cell_plan(const json_t *cell, struct sl_plan *ret, struct sl_err *err)
{
    const char *text = json_string_value(json_object_get(cell, "plan"));
    char seed[48], name[SL_CELL_NAME];
    snprintf(seed, sizeof(seed), "run.seed=%" JSON_INTEGER_FORMAT,
             json_integer_value(json_object_get(cell, "seed")));
    sl_cell_name(cell, name);
    const struct sl_plan_override set = {seed};
    return sl_plan_parse(text, strlen(text), name, &set, 1, ret, err);
}

/* What the report's lines add up to. */
struct tally {
    json_t *accuracy, *loss; /* owned */
    json_t *calibration;     /* {arrays}; owned */
    double recent[LAST];
    size_t evaluated;
    double bytes_up, bytes_down, updates, parameters;
    double macs, work, cycles, energy;
    json_t *digest; /* of the last round; owned */
    struct sl_federated_end *end; /* NULL = not wanted */
    bool no_memory;
};

static double number(const json_t *line, const char *key)
{
    return json_number_value(json_object_get(line, key));
}

static void add_round(struct tally *t, const json_t *line)
{
    json_t *accuracy = json_object_get(line, "accuracy");
    const json_t *cost = json_object_get(line, "cost");
    json_array_append(t->accuracy, accuracy);
    json_array_append(t->loss, json_object_get(line, "loss"));
    if (json_is_number(accuracy))
        t->recent[t->evaluated++ % LAST] = json_number_value(accuracy);
    t->bytes_up += number(line, "bytes_up");
    t->bytes_down += number(line, "bytes_down");
    t->updates += number(line, "completed");
    t->macs += number(cost, "macs");
    t->work += number(cost, "work");
    t->cycles += number(cost, "cycles");
    t->energy += number(cost, "energy");
    json_decref(t->digest);
    t->digest = json_incref(json_object_get(line, "model_digest"));
}

static void append(json_t *arrays, const char *key, json_t *value)
{
    json_t *array = json_object_get(arrays, key);
    if (array == NULL) {
        array = json_array();
        json_object_set_new(arrays, key, array);
    }
    json_array_append_new(array, value);
}

/* A calibration that nobody answered has no head. */
static void add_calibration(struct tally *t, const json_t *line)
{
    if (!json_is_number(json_object_get(line, "accuracy_after")))
        return;
    append(t->calibration, "rounds", json_incref(json_object_get(line, "round")));
    append(t->calibration, "before", json_real(number(line, "accuracy_before")));
    append(t->calibration, "after", json_real(number(line, "accuracy_after")));
    append(t->calibration, "lambda",
           json_real(number(line, "lambda") / number(line, "samples")));
    append(t->calibration, "share", json_real(number(line, "share")));
}

static int by_number(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void keep_cohort(struct tally *t, const json_t *line)
{
    const json_t *included = json_object_get(line, "included");
    size_t n = json_array_size(included);
    uint32_t *cohort = sl_calloc(n, sizeof(*cohort));
    if (cohort == NULL) {
        t->no_memory = true;
        return;
    }
    for (size_t i = 0; i < n; i++)
        cohort[i] = (uint32_t)json_integer_value(json_array_get(included, i));
    qsort(cohort, n, sizeof(*cohort), by_number);
    free(t->end->cohort);
    t->end->cohort = cohort;
    t->end->n_cohort = n;
}

static void keep_values(float **to, const float *values, size_t n, bool *no_memory)
{
    if (*to == NULL)
        *to = sl_calloc(n, sizeof(float));
    if (*to == NULL)
        *no_memory = true;
    else
        memcpy(*to, values, n * sizeof(float));
}

static void on_committed(void *ctx, uint64_t run, uint32_t round,
                         const struct sl_layout *layout, const float *values,
                         const float *state, size_t n_state)
{
    struct tally *t = ctx;
    t->end->n_values = layout->n_values;
    keep_values(&t->end->trained, values, layout->n_values, &t->no_memory);
}

static void keep_published(struct tally *t, const struct sl_world *world)
{
    const struct sl_layout *layout;
    const float *values = sl_world_model(world, &layout);
    if (values != NULL && t->end->trained != NULL)
        keep_values(&t->end->published, values, layout->n_values, &t->no_memory);
}

void sl_federated_end_deinit(struct sl_federated_end *e)
{
    if (e == NULL)
        return;
    free(e->trained);
    free(e->published);
    free(e->cohort);
    *e = (struct sl_federated_end){0};
}

static void on_report(void *ctx, uint64_t run, json_t *line)
{
    struct tally *t = ctx;
    const char *event = json_string_value(json_object_get(line, "event"));
    if (event != NULL && strcmp(event, "run_start") == 0)
        t->parameters = number(line, "parameters");
    if (event != NULL && strcmp(event, "round") == 0)
        add_round(t, line);
    if (event != NULL && strcmp(event, "round") == 0 && t->end != NULL)
        keep_cohort(t, line);
    if (event != NULL && strcmp(event, "calibration") == 0)
        add_calibration(t, line);
}

static double mean_recent(const struct tally *t)
{
    size_t n = t->evaluated < LAST ? t->evaluated : LAST;
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += t->recent[i];
    return n == 0 ? 0 : sum / (double)n;
}

static json_t *result_of(struct tally *t, double virtual_s)
{
    double values = t->updates * t->parameters;
    json_t *result = json_pack(
        "{s:O, s:O, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:{s:f, s:f, s:f, s:f}, s:f, s:O}",
        "accuracy", t->accuracy, "loss", t->loss, "last5", mean_recent(t), "bytes_up",
        t->bytes_up, "bytes_down", t->bytes_down, "updates", t->updates, "parameters",
        t->parameters, "wire_bits", values > 0 ? 8 * t->bytes_up / values : 0,
        "virtual_s", virtual_s, "cost", "macs", t->macs, "work", t->work, "cycles",
        t->cycles, "energy", t->energy, "passes", t->macs > 0 ? t->work / t->macs : 0,
        "model_digest", t->digest);
    if (json_object_size(t->calibration) > 0)
        json_object_set(result, "calibration", t->calibration);
    return result;
}

static enum sl_code run_world(const struct sl_world_options *options, struct tally *t,
                              json_t **ret, struct sl_err *err)
{
    struct sl_world *world;
    enum sl_code rc = sl_world_new(options, &world, err);
    if (rc != SL_OK)
        return rc;
    rc = sl_world_run(world, 0, err);
    if (t->end != NULL)
        keep_published(t, world);
    json_t *result = result_of(t, sl_world_stats(world).virtual_s);
    sl_world_free(world);
    if (rc == SL_E_FAILED) { /* the run, not the machine: a result */
        json_object_set_new(result, "failed", json_string(err->msg));
        rc = SL_OK;
    }
    if (rc == SL_OK && (result == NULL || t->no_memory))
        rc = sl_err_set(err, SL_E_NOMEM, "result");
    if (rc == SL_OK)
        *ret = result;
    else
        json_decref(result);
    return rc;
}

enum sl_code sl_federated_run(const struct sl_plan *plan, const struct sl_attack *attack,
                              struct sl_federated_end *end, json_t **ret,
                              struct sl_err *err)
{
    struct tally t = {.accuracy = json_array(),
                      .loss = json_array(),
                      .calibration = json_object(),
                      .digest = json_null(),
                      .end = end};
    struct sl_world_options options = {
        .plans = plan,
        .n_plans = 1,
        .jobs = 1,
        .attack = attack,
        .blas_name = sl_accel_blas_name(),
        .hooks = {.ctx = &t,
                  .report = on_report,
                  .committed = end == NULL ? NULL : on_committed}};
    if (end != NULL)
        *end = (struct sl_federated_end){0};
    enum sl_code rc = run_world(&options, &t, ret, err);
    json_decref(t.accuracy);
    json_decref(t.loss);
    json_decref(t.calibration);
    json_decref(t.digest);
    return rc;
}
