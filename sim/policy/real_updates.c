/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "accel/nn/plan_model.h"
#include "client/local/algorithm.h"
#include "common/mem.h"
#include "server/aggregate.h"
#include "sim/policy/update_source.h"

#define BATCH_MOST 1024 /* goes through a client's trainer at once (client/local/local.c) */
#define EVAL_BATCH 256
#define HELD_OUT 1000003u /* number of partitions: apart from those of any table */

/* A client of the round under way. */
struct seat {
    struct sl_trainer *trainer;
    uint32_t client;
    bool finished; /* all of its epochs */
};

struct real {
    struct sl_update_source source;
    const struct sl_plan *plan;
    struct sl_dataset train, test;
    struct sl_model *model;
    struct sl_partition part;
    uint32_t *samples; /* [clients] */
    struct sl_trainer *judge;
    struct seat *seats; /* [cohort] */
    uint32_t n_seats, n;
    struct sl_sum sum;
    float *values, *next, *update; /* [n_values] */
    size_t n_values;
};

static struct real *self(struct sl_update_source *s)
{
    return (struct real *)s;
}

static void fail(struct real *r, const struct sl_err *err)
{
    if (r->source.failure.code == SL_OK)
        r->source.failure = *err;
}

static double accuracy_of(struct real *r, const float *values)
{
    const struct sl_samples samples = {.set = &r->test, .n = r->test.n};
    struct sl_eval_result e = {0};
    struct sl_err err;
    if (sl_evaluate(r->judge, values, &samples, &e, &err) == SL_OK)
        return (double)e.correct / (double)e.n;
    fail(r, &err);
    return 0;
}

static double begin(struct sl_update_source *s, uint32_t which)
{
    struct real *r = self(s);
    r->n = 0;
    sl_model_init_uniform(r->model, r->plan->run.seed, r->values);
    return accuracy_of(r, r->values);
}

static enum sl_code probe_one(struct real *r, struct seat *seat, uint32_t round, double *ret_loss,
                              struct sl_err *err)
{
    const struct sl_local_order order = {
        .plan = r->plan, .client = seat->client, .round = round, .local_steps = -1};
    const struct sl_local_work work = {.order = &order};
    const struct sl_train_spec spec = sl_local_spec(&work);
    struct sl_samples samples = {.set = &r->train};
    struct sl_train_result result;
    samples.index = sl_partition_client(&r->part, seat->client, &samples.n);
    seat->finished = false;
    enum sl_code rc = sl_train_begin(seat->trainer, r->values, &samples, &spec, err);
    if (rc == SL_OK)
        rc = sl_train_run(seat->trainer, 1, &result, err);
    if (rc == SL_OK)
        *ret_loss = result.loss_sum / (double)result.samples_seen;
    return rc;
}

static void probe(struct sl_update_source *s, uint32_t round, const uint32_t *cohort, uint32_t n,
                  double *ret_loss)
{
    struct real *r = self(s);
    struct sl_err err;
    r->n = n;
    for (uint32_t i = 0; i < n && s->failure.code == SL_OK; i++) {
        r->seats[i].client = cohort[i];
        ret_loss[i] = 0;
        if (probe_one(r, &r->seats[i], round, &ret_loss[i], &err) != SL_OK)
            fail(r, &err);
    }
}

/* The seat trains what is left of its epochs, and its update joins the sum. */
static enum sl_code add_update(struct real *r, struct seat *seat, double scale, struct sl_err *err)
{
    struct sl_train_result result;
    const uint32_t weight = r->samples[seat->client];
    enum sl_code rc = SL_OK;
    if (!seat->finished)
        rc = sl_train_run(seat->trainer, UINT32_MAX, &result, err);
    if (rc != SL_OK)
        return rc;
    seat->finished = true;
    const float *local = sl_train_values(seat->trainer);
    for (size_t v = 0; v < r->n_values; v++)
        r->update[v] = local[v] - r->values[v];
    const size_t bad = sl_update_check(r->update, r->n_values, scale, r->sum.bounds.max_abs);
    if (bad < r->n_values)
        return sl_err_set(err, SL_E_FAILED, "client %u: value %zu of the update is beyond %g",
                          seat->client, bad, r->sum.bounds.max_abs);
    sl_sum_add_tile(&r->sum, 0, r->update, r->n_values, weight, scale);
    sl_sum_count(&r->sum, weight);
    return SL_OK;
}

static double reach(struct sl_update_source *s, const uint8_t *in, const float *scale)
{
    struct real *r = self(s);
    struct sl_err err;
    sl_sum_clear(&r->sum);
    for (uint32_t i = 0; i < r->n && s->failure.code == SL_OK; i++)
        if (in[i] && add_update(r, &r->seats[i], scale != NULL ? scale[i] : 1, &err) != SL_OK)
            fail(r, &err);
    memcpy(r->next, r->values, r->n_values * sizeof(float));
    if (r->sum.n_sum > 0) {
        sl_sum_mean_tile(&r->sum, 0, r->n_values, r->update);
        for (size_t v = 0; v < r->n_values; v++)
            r->next[v] += r->update[v];
    }
    return accuracy_of(r, r->next);
}

static void keep(struct sl_update_source *s)
{
    struct real *r = self(s);
    float *values = r->next;
    r->next = r->values;
    r->values = values;
    r->n = 0; /* trainers start from what `values` was */
}

const float *sl_real_updates_model(const struct sl_update_source *s, size_t *ret_n)
{
    const struct real *r = (const struct real *)s;
    *ret_n = r->n_values;
    return r->values;
}

enum sl_code sl_real_updates_classes(struct sl_update_source *s, uint32_t *ret_hits,
                                     uint32_t *ret_of, struct sl_err *err)
{
    struct real *r = self(s);
    uint32_t *index = sl_calloc(r->test.n, sizeof(*index));
    enum sl_code rc =
        index == NULL ? sl_err_set(err, SL_E_NOMEM, "%zu samples", r->test.n) : SL_OK;
    for (uint32_t c = 0; rc == SL_OK && c < s->n_classes; c++) {
        struct sl_samples samples = {.set = &r->test, .index = index};
        struct sl_eval_result e = {0};
        for (uint32_t i = 0; i < r->test.n; i++)
            if (r->test.labels[i] == (int32_t)c)
                index[samples.n++] = i;
        if (samples.n > 0)
            rc = sl_evaluate(r->judge, r->values, &samples, &e, err);
        ret_hits[c] = (uint32_t)e.correct;
        ret_of[c] = (uint32_t)samples.n;
    }
    free(index);
    return rc;
}

/* --- lifetime --------------------------------------------------------------------------------- */

static void free_source(struct sl_update_source *s)
{
    struct real *r = self(s);
    for (uint32_t i = 0; r->seats != NULL && i < r->n_seats; i++)
        sl_trainer_free(r->seats[i].trainer);
    free(r->seats);
    sl_trainer_free(r->judge);
    sl_sum_deinit(&r->sum);
    sl_partition_deinit(&r->part);
    sl_model_free(r->model);
    sl_dataset_deinit(&r->train);
    sl_dataset_deinit(&r->test);
    free(r->samples);
    free(r->values);
    free(r->next);
    free(r->update);
    free(r);
}

static const struct sl_update_source_ops ops = {begin, probe, reach, keep, free_source};

static enum sl_code check(const struct sl_plan *p, struct sl_err *err)
{
    if (strcmp(p->strategy.name, "fedavg") != 0 || p->uplink.encoding != SL_ENC_FP32 ||
        p->downlink != SL_ENC_FP32 || p->accelerator.matmul != SL_MATMUL_FP32 ||
        p->aggregation.clip_norm > 0 || p->evaluation.holdout > 0 || p->train.local_steps >= 0 ||
        p->train.steps_path[0] != '\0' || p->model.head != SL_HEAD_DENSE ||
        p->model.init != SL_INIT_UNIFORM)
        return sl_err_set(err, SL_E_INPUT,
                          "real updates are FedAvg in fp32 by epochs, without held-out shares, "
                          "clipping, or a fixed head");
    if (p->train.batch_size < 1 || p->train.batch_size > BATCH_MOST || p->train.epochs < 2)
        return sl_err_set(err, SL_E_INPUT, "batch_size %u, epochs %u (1 to %d, from 2)",
                          p->train.batch_size, p->train.epochs, BATCH_MOST);
    return SL_OK;
}

static enum sl_code load(struct real *r, struct sl_err *err)
{
    const struct sl_plan *p = r->plan;
    struct sl_dataset_source src = {.kind = p->data.dataset,
                                    .path = p->data.path,
                                    .split = SL_SPLIT_TRAIN,
                                    .limit = p->data.limit};
    enum sl_code rc = sl_dataset_load(&src, &r->train, err);
    src.split = SL_SPLIT_TEST;
    src.limit = 0;
    if (rc == SL_OK)
        rc = sl_dataset_load(&src, &r->test, err);
    if (rc == SL_OK)
        rc = sl_plan_model(p, &r->train, r->train.n_classes, &r->model, err);
    return rc;
}

static enum sl_code divide(struct real *r, enum sl_policy_partition kind, struct sl_err *err)
{
    const struct sl_plan *p = r->plan;
    const struct sl_partition_input in = {.labels = r->train.labels,
                                          .n = r->train.n,
                                          .n_classes = r->train.n_classes,
                                          .seed = p->run.seed};
    enum sl_code rc =
        kind == SL_POLICY_PARTITIONS
            ? sl_partition_make(&p->data.partition, &in, &r->part, err)
            : sl_policy_partition_make(kind, &r->train, (uint32_t)r->train.n,
                                       p->data.partition.clients, p->run.seed, HELD_OUT,
                                       &r->part, err);
    if (rc != SL_OK)
        return rc;
    r->samples = sl_calloc(r->part.clients, sizeof(*r->samples));
    if (r->samples == NULL)
        return sl_err_set(err, SL_E_NOMEM, "%u clients", r->part.clients);
    for (uint32_t c = 0; c < r->part.clients; c++)
        r->samples[c] = (uint32_t)(r->part.offset[c + 1] - r->part.offset[c]);
    return SL_OK;
}

/* As the coordinator bounds its sum (server/run_build.c). */
static enum sl_code make_sum(struct real *r, struct sl_err *err)
{
    const struct sl_plan *p = r->plan;
    struct sl_sum_bounds b = {.max_abs = p->aggregation.max_abs,
                              .max_weight = p->aggregation.max_weight,
                              .fraction_bits = p->aggregation.fraction_bits};
    for (uint32_t c = 0; c < r->part.clients; c++)
        b.sum_weight += r->samples[c];
    enum sl_code rc = sl_sum_bounds_fit(&b, err);
    return rc == SL_OK ? sl_sum_init(&r->sum, r->n_values, &b, err) : rc;
}

static enum sl_code make_room(struct real *r, struct sl_err *err)
{
    const struct sl_trainer_options judge = {.max_batch = EVAL_BATCH};
    const struct sl_trainer_options local = {.max_batch = r->plan->train.batch_size};
    r->n_values = sl_model_layout(r->model)->n_values;
    r->values = sl_calloc(r->n_values, sizeof(float));
    r->next = sl_calloc(r->n_values, sizeof(float));
    r->update = sl_calloc(r->n_values, sizeof(float));
    r->seats = sl_calloc(r->n_seats, sizeof(*r->seats));
    if (r->values == NULL || r->next == NULL || r->update == NULL || r->seats == NULL)
        return sl_err_set(err, SL_E_NOMEM, "models of %zu values", r->n_values);
    enum sl_code rc = sl_trainer_new(r->model, &judge, &r->judge, err);
    for (uint32_t i = 0; rc == SL_OK && i < r->n_seats; i++)
        rc = sl_trainer_new(r->model, &local, &r->seats[i].trainer, err);
    return rc == SL_OK ? make_sum(r, err) : rc;
}

enum sl_code sl_real_updates_new(const struct sl_plan *plan, enum sl_policy_partition kind,
                                 uint32_t cohort, struct sl_update_source **ret,
                                 struct sl_err *err)
{
    enum sl_code rc = check(plan, err);
    if (rc != SL_OK)
        return rc;
    struct real *r = sl_calloc(1, sizeof(*r));
    if (r == NULL)
        return sl_err_set(err, SL_E_NOMEM, "real updates");
    r->source.ops = &ops;
    r->plan = plan;
    r->n_seats = cohort;
    rc = load(r, err);
    if (rc == SL_OK)
        rc = divide(r, kind, err);
    if (rc == SL_OK)
        rc = make_room(r, err);
    if (rc != SL_OK) {
        free_source(&r->source);
        return rc;
    }
    r->source.clients = r->part.clients;
    r->source.n_classes = r->train.n_classes;
    r->source.n_federations = 1;
    r->source.epochs = plan->train.epochs;
    r->source.n_params = r->n_values;
    r->source.samples = r->samples;
    begin(&r->source, 0);
    *ret = &r->source;
    return SL_OK;
}
