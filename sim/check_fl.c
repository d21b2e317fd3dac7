/* SPDX-License-Identifier: Apache-2.0 */
/* A stored trajectory against the world: coordinator, clients, rounds and aggregation are
 * the product's own; this file only watches. Start values must be equal to the bit; after
 * each round the new model, losses and test hits must lie within the case's tolerances.
 * The first difference is told. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "accel/nn/train.h"
#include "common/mem.h"
#include "common/index_file.h"
#include "common/partition.h"
#include "sim/check.h"
#include "sim/check_array.h"
#include "sim/check_case.h"
#include "sim/check_sphere.h"
#include "sim/training.h"
#include "sim/world.h"

#define WHY 256
#define EVAL_BATCH 256

struct watch {
    struct sl_fl_case k;
    const json_t *expect, *tolerance;
    struct sl_training
        *training; /* data and model for the losses that the report does not have */
    struct sl_trainer *trainer;
    uint32_t *all; /* samples of all clients */
    size_t n_all, n_params; /* n_params: without a fixed head */
    struct sl_check_array init, params, first_updates, sample_index, sample_params;
    struct sl_check_array state[3]; /* by state_keys */
    float *start, *last; /* with the head; the model of the last round */
    double first_loss_sum; /* of this round's participants, times weight */
    uint64_t first_loss_weight;
    char why[WHY];
};

static void differs(struct watch *w, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void differs(struct watch *w, const char *fmt, ...)
{
    if (w->why[0] != '\0')
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(w->why, sizeof(w->why), fmt, ap);
    va_end(ap);
}

/* Number `round` of an array of the expectations or tolerances; NaN when it is not there.
 */
static double number_at(const json_t *o, const char *key, uint32_t round)
{
    const json_t *v = json_array_get(json_object_get(o, key), round);
    return json_is_number(v) ? json_number_value(v) : (double)NAN;
}

static void compare(struct watch *w, const char *field, uint32_t round, double got,
                    const char *tolerance)
{
    double want = number_at(w->expect, field, round);
    double allowed = number_at(w->tolerance, tolerance, round);
    if (!(fabs(got - want) <= allowed))
        differs(w, "%s, %" PRIu32 ", %.9g, %.9g", field, round, want, got);
}

/* --- models
 * ------------------------------------------------------------------------------------------
 */

/* The row of `params` for this round, or NULL when it is not stored. */
static const float *stored_params(const struct watch *w, uint32_t round)
{
    const json_t *rounds = json_object_get(w->k.manifest, "params_rounds"), *r;
    size_t i;
    json_array_foreach(rounds, i, r) if (json_integer_value(r) == (json_int_t)round + 1 &&
                                         i < w->params.rows) return w->params.f32 +
        i * w->params.columns;
    return NULL;
}

static void compare_params(struct watch *w, uint32_t round, const float *values)
{
    const float *want = stored_params(w, round);
    if (want == NULL)
        return;
    size_t at;
    double max = sl_check_max_abs(values, want, w->n_params, &at);
    double rel = sl_check_rel_l2(values, want, w->start, w->n_params);
    if (!(max <= number_at(w->tolerance, "params_max_abs", round)))
        differs(w, "params of round %" PRIu32 ", %zu, %.9g, %.9g", round + 1, at,
                (double)want[at], (double)values[at]);
    if (!(rel <= number_at(w->tolerance, "params_rel_l2", round)))
        differs(w, "params of round %" PRIu32 ", rel_l2, %.3g, %.3g", round + 1,
                number_at(w->tolerance, "params_rel_l2", round), rel);
}

/* The server's state as the strategy keeps it: momentum v of fedavgm, c of scaffold, m and v of the
 * adaptive ones in turns. */
static const char *const state_keys[] = {"state_c", "state_m", "state_v"};

static void compare_state(struct watch *w, uint32_t round, const float *state, size_t n)
{
    for (size_t k = 0; k < 3; k++) {
        const struct sl_check_array *a = &w->state[k];
        char tolerance[32];
        if (a->f32 == NULL)
            continue;
        size_t step = n / w->n_params, from = step == 2 && k == 2 ? 1 : 0;
        if (state == NULL || n != step * w->n_params || round >= a->rows) {
            differs(w, "%s of round %" PRIu32 ", -, %zu values, %zu", state_keys[k], round + 1,
                    w->n_params, n);
            return;
        }
        const float *want = a->f32 + round * a->columns;
        double off = 0, norm = 0;
        for (size_t i = 0; i < w->n_params; i++) {
            double d = (double)state[i * step + from] - (double)want[i];
            off += d * d;
            norm += (double)want[i] * (double)want[i];
        }
        snprintf(tolerance, sizeof(tolerance), "%s_rel_l2", state_keys[k]);
        double allowed = number_at(w->tolerance, tolerance, round);
        if (!(sqrt(off) <= allowed * sqrt(norm)))
            differs(w, "%s of round %" PRIu32 ", rel_l2, %.3g, %.3g", state_keys[k], round + 1,
                    allowed, sqrt(off / norm));
    }
}

/* row 0 is the start */
static void compare_samples(struct watch *w, size_t row, const float *values,
                            double allowed)
{
    if (w->sample_params.f32 == NULL || row >= w->sample_params.rows)
        return;
    const float *want = w->sample_params.f32 + row * w->sample_params.columns;
    for (size_t i = 0; i < w->sample_params.columns; i++) {
        size_t at = (size_t)w->sample_index.i32[i];
        if (!(fabs((double)values[at] - (double)want[i]) <= allowed))
            differs(w, "sample_params of round %zu, %zu, %.9g, %.9g", row, at,
                    (double)want[i], (double)values[at]);
    }
}

static void compare_start(struct watch *w)
{
    sl_model_init_splitmix(sl_training_model(w->training), w->k.plan.model.init_seed,
                           w->k.plan.model.init_gain, w->start);
    for (size_t i = 0; w->init.f32 != NULL && i < w->n_params; i++)
        if (memcmp(&w->start[i], &w->init.f32[i], sizeof(float)) != 0)
            differs(w, "init, %zu, %.9g, %.9g", i, (double)w->init.f32[i],
                    (double)w->start[i]);
    compare_samples(w, 0, w->start, 0);
}

/* Mean loss of the new model over all clients' data. */
static void compare_loss_after(struct watch *w, uint32_t round, const float *values)
{
    struct sl_samples s = {
        .set = sl_training_set(w->training), .index = w->all, .n = w->n_all};
    struct sl_eval_result r;
    struct sl_err err;
    if (sl_evaluate(w->trainer, values, &s, &r, &err) != SL_OK)
        differs(w, "loss_after, %" PRIu32 ", a loss, %.120s", round, err.msg);
    else
        compare(w, "loss_after", round, r.loss_sum / (double)r.n, "loss_abs");
}

/* --- hooks
 * -------------------------------------------------------------------------------------------
 */

static uint64_t samples_of(const struct watch *w, uint32_t client)
{
    return (uint64_t)json_integer_value(
        json_array_get(json_object_get(w->k.manifest, "client_samples"), client));
}

/* How many participants of the round come before this client: its place in the stored
 * lists. */
static size_t place_of(const struct watch *w, uint32_t round, uint32_t client,
                       bool *ret_found)
{
    char path[SL_PLAN_PATH];
    snprintf(path, sizeof(path), "%s", w->k.plan.selection.path);
    struct sl_index_table t;
    struct sl_err err;
    *ret_found = false;
    if (sl_index_load(SL_INDEX_SELECTION, path, &t, &err) != SL_OK)
        return 0;
    size_t n, i = 0;
    const uint32_t *row = sl_index_find(&t, round, &n);
    while (row != NULL && i < n && row[i] != client)
        i++;
    *ret_found = row != NULL && i < n;
    sl_index_table_deinit(&t);
    return i;
}

static void compare_client_loss(struct watch *w, uint32_t round, uint32_t client,
                                double got)
{
    bool found;
    size_t place = place_of(w, round, client, &found);
    const json_t *list =
        json_array_get(json_object_get(w->expect, "client_loss_start"), round);
    const json_t *v = json_array_get(list, place);
    double want = found && json_is_number(v) ? json_number_value(v) : (double)NAN;
    if (!(fabs(got - want) <= number_at(w->tolerance, "client_loss_abs", round)))
        differs(w,
                "client_loss_start of round %" PRIu32 ", client %" PRIu32 ", %.9g, %.9g",
                round, client, want, got);
}

static void on_updated(void *ctx, uint64_t run, uint32_t round, uint32_t client,
                       const struct sl_update_meta *meta, const float *update, size_t n)
{
    struct watch *w = ctx;
    w->first_loss_sum += meta->first_loss * (double)samples_of(w, client);
    w->first_loss_weight += samples_of(w, client);
    compare_client_loss(w, round, client, meta->first_loss);
    if (round != 0 || w->first_updates.f32 == NULL || client >= w->first_updates.rows)
        return;
    if (n < w->first_updates.columns) { /* control variates may stand behind */
        differs(w, "first_updates, -, %zu values, %zu", w->first_updates.columns, n);
        return;
    }
    n = w->first_updates.columns;
    float *zero = sl_calloc(n, sizeof(*zero));
    const float *want = w->first_updates.f32 + client * n;
    const json_t *allowed = json_object_get(w->tolerance, "first_updates_rel_l2");
    double rel = zero == NULL ? (double)NAN : sl_check_rel_l2(update, want, zero, n);
    if (!json_is_number(allowed) || !(rel <= json_number_value(allowed)))
        differs(w, "first_updates, client %" PRIu32 ", %.3g, %.3g", client,
                json_number_value(allowed), rel);
    free(zero);
}

static void on_report(void *ctx, uint64_t run, json_t *line)
{
    struct watch *w = ctx;
    const char *event = json_string_value(json_object_get(line, "event"));
    if (event == NULL || strcmp(event, "round") != 0)
        return;
    uint32_t round = (uint32_t)json_integer_value(json_object_get(line, "round"));
    double n_test = (double)w->k.plan.data.test_limit;
    double accuracy = json_number_value(json_object_get(line, "accuracy"));
    compare(w, "train_loss", round,
            json_number_value(json_object_get(line, "train_loss")), "loss_abs");
    compare(w, "test_loss", round, json_number_value(json_object_get(line, "loss")),
            "test_loss_abs");
    compare(w, "test_correct", round, rint(accuracy * n_test), "test_correct");
    compare(w, "loss_start", round, w->first_loss_sum / (double)w->first_loss_weight,
            "loss_abs");
    w->first_loss_sum = 0;
    w->first_loss_weight = 0;
}

static void on_committed(void *ctx, uint64_t run, uint32_t round,
                         const struct sl_layout *layout, const float *values,
                         const float *state, size_t n_state)
{
    struct watch *w = ctx;
    if (values == NULL || sl_layout_travelling(layout) != w->n_params) {
        differs(w, "params of round %" PRIu32 ", -, %zu values, another number",
                round + 1, w->n_params);
        return;
    }
    compare_params(w, round, values);
    compare_samples(w, (size_t)round + 1, values,
                    number_at(w->tolerance, "params_max_abs", round));
    memcpy(w->last, values, layout->n_values * sizeof(*values));
    compare_state(w, round, state, n_state);
    compare_loss_after(w, round, values);
}

/* --- a case
 * ---------------------------------------------------------------------------------------------
 */

/* Loads one array when the manifest names it. */
static enum sl_code load(const struct watch *w, const char *key,
                         struct sl_check_array *ret, struct sl_err *err)
{
    const char *file =
        json_string_value(json_object_get(json_object_get(w->k.manifest, "files"), key));
    if (file == NULL)
        return SL_OK;
    enum sl_code rc = sl_check_array_load(w->k.dir, file, ret, err);
    return rc == SL_OK ? rc : sl_err_wrap(err, rc, "%s, -, an array", key);
}

static bool fits(const struct watch *w)
{
    size_t n = w->n_params;
    bool vectors = (w->init.f32 == NULL || w->init.columns == n) &&
                   (w->params.f32 == NULL || w->params.columns == n) &&
                   (w->first_updates.f32 == NULL || w->first_updates.columns == n) &&
                   w->sample_index.columns == w->sample_params.columns &&
                   (w->sample_params.f32 == NULL) == (w->sample_index.i32 == NULL);
    for (size_t i = 0; vectors && i < 3; i++)
        vectors = w->state[i].f32 == NULL || w->state[i].columns == n;
    for (size_t i = 0; vectors && i < w->sample_index.columns; i++)
        vectors = w->sample_index.i32[i] >= 0 && (size_t)w->sample_index.i32[i] < n;
    return vectors && (w->params.f32 != NULL || w->sample_params.f32 != NULL);
}

static enum sl_code load_arrays(struct watch *w, struct sl_err *err)
{
    enum sl_code rc = load(w, "init", &w->init, err);
    if (rc == SL_OK)
        rc = load(w, "params", &w->params, err);
    if (rc == SL_OK)
        rc = load(w, "first_updates", &w->first_updates, err);
    if (rc == SL_OK)
        rc = load(w, "sample_index", &w->sample_index, err);
    if (rc == SL_OK)
        rc = load(w, "sample_params", &w->sample_params, err);
    for (size_t i = 0; rc == SL_OK && i < 3; i++)
        rc = load(w, state_keys[i], &w->state[i], err);
    if (rc == SL_OK && !fits(w))
        rc = sl_err_set(err, SL_E_INPUT, "files, -, arrays for %zu values, others",
                        w->n_params);
    return rc;
}

static enum sl_code prepare(struct watch *w, struct sl_err *err)
{
    enum sl_code rc = sl_training_new(&w->k.plan, 1, &w->training, err);
    if (rc != SL_OK)
        return rc;
    const struct sl_partition *part = sl_training_partition(w->training);
    size_t n_values = sl_model_layout(sl_training_model(w->training))->n_values;
    w->n_params = sl_model_n_travelling(sl_training_model(w->training));
    w->n_all = part->offset[part->clients];
    w->all = sl_calloc(w->n_all, sizeof(*w->all));
    w->start = sl_calloc(n_values, sizeof(*w->start));
    w->last = sl_calloc(n_values, sizeof(*w->last));
    if (w->all == NULL || w->start == NULL || w->last == NULL)
        return sl_err_set(err, SL_E_NOMEM, "case");
    memcpy(w->all, part->index, w->n_all * sizeof(*w->all));
    struct sl_trainer_options options = {.max_batch = EVAL_BATCH};
    rc = sl_trainer_new(sl_training_model(w->training), &options, &w->trainer, err);
    return rc == SL_OK ? load_arrays(w, err) : rc;
}

static enum sl_code run_world(struct watch *w, unsigned jobs, struct sl_err *err)
{
    struct sl_world_options options = {
        .plans = &w->k.plan,
        .n_plans = 1,
        .jobs = jobs,
        .hooks = {.ctx = w,
                  .report = on_report,
                  .committed = on_committed,
                  .updated = on_updated},
    };
    struct sl_world *world;
    enum sl_code rc = sl_world_new(&options, &world, err);
    if (rc != SL_OK)
        return rc;
    rc = sl_world_run(world, 0, err);
    sl_world_free(world);
    return rc;
}

/* A fixed head is the stored one, not one drawn from the seed. */
static enum sl_code take_head(struct watch *w, struct sl_err *err)
{
    const struct sl_layout *layout = sl_model_layout(sl_training_model(w->training));
    size_t n = layout->n_values - w->n_params;
    struct sl_check_array head = {0};
    if (n == 0)
        return SL_OK;
    enum sl_code rc = load(w, "head", &head, err);
    if (rc == SL_OK && (head.f32 == NULL || head.rows * head.columns != n))
        rc = sl_err_set(err, SL_E_INPUT, "head, -, %zu values, others", n);
    if (rc == SL_OK) {
        memcpy(w->start + w->n_params, head.f32, n * sizeof(*head.f32));
        rc = sl_fl_case_start(&w->k, layout, w->start, err);
    }
    sl_check_array_deinit(&head);
    return rc;
}

static enum sl_code calibrate(struct watch *w, struct sl_err *err)
{
    const struct sl_plan *p = &w->k.plan;
    struct sl_dataset test = {0};
    struct sl_dataset_source source = {.kind = p->data.dataset,
                                       .path = p->data.path,
                                       .split = SL_SPLIT_TEST,
                                       .limit = p->data.test_limit};
    enum sl_code rc = sl_dataset_load(&source, &test, err);
    if (rc == SL_OK) {
        struct sl_sphere_case k = {.dir = w->k.dir,
                                   .manifest = w->k.manifest,
                                   .model = sl_training_model(w->training),
                                   .trainer = w->trainer,
                                   .set = sl_training_set(w->training),
                                   .test = &test,
                                   .part = sl_training_partition(w->training),
                                   .values = w->last};
        rc = sl_check_sphere(&k, err);
    }
    sl_dataset_deinit(&test);
    return rc;
}

void sl_check_fl(struct sl_check *c, const char *dir, const json_t *manifest)
{
    struct sl_err err = {.msg = ""};
    struct watch *w = sl_calloc(1, sizeof(*w));
    if (w == NULL) {
        sl_cases_result(&c->cases, dir, "memory, -, some, none");
        return;
    }
    w->expect = json_object_get(manifest, "expect");
    w->tolerance = json_object_get(manifest, "tolerance");
    enum sl_code rc = sl_fl_case_init(&w->k, dir, manifest, &err);
    if (rc == SL_OK)
        rc = prepare(w, &err);
    if (rc == SL_OK) {
        compare_start(w);
        rc = take_head(w, &err);
    }
    if (rc == SL_OK)
        rc = run_world(w, c->jobs, &err);
    if (rc == SL_OK && w->why[0] == '\0' && json_object_get(manifest, "calibration") != NULL)
        rc = calibrate(w, &err);
    if (rc != SL_OK)
        differs(w, "%.*s", WHY - 1, err.msg);
    sl_cases_result(&c->cases, w->k.name[0] == '\0' ? dir : w->k.name,
                    w->why[0] == '\0' ? NULL : w->why);
    sl_trainer_free(w->trainer);
    sl_training_free(w->training);
    sl_check_array_deinit(&w->init);
    sl_check_array_deinit(&w->params);
    sl_check_array_deinit(&w->first_updates);
    sl_check_array_deinit(&w->sample_index);
    sl_check_array_deinit(&w->sample_params);
    for (size_t i = 0; i < 3; i++)
        sl_check_array_deinit(&w->state[i]);
    sl_fl_case_deinit(&w->k);
    free(w->all);
    free(w->start);
    free(w->last);
    free(w);
}
