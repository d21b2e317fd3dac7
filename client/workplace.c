/* SPDX-License-Identifier: Apache-2.0 */
#include "client/workplace.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "accel/nn/plan_model.h"
#include "client/local/local.h"
#include "client/local/received.h"
#include "common/index_file.h"
#include "common/mem.h"
#include "common/partition.h"

struct sl_workplace {
    struct sl_workplace_config config;
    bool ready; /* all below is there, for the plan named by plan_id and this index */
    struct sl_blob_id plan_id;
    uint32_t index;
    struct sl_plan plan;
    struct sl_dataset set; /* this client's samples only */
    uint32_t *order;       /* [set.n]: those that train, then those held out */
    size_t n_train;
    struct sl_model *model;
    struct sl_local_bench *bench;
    struct sl_received received;
    uint8_t *state; /* as read, sl_local_state_bytes; NULL until it is needed */
    int64_t local_steps;
    bool probed; /* the bench stands behind the probe epochs of a training */
};

enum sl_code sl_workplace_new(const struct sl_workplace_config *config,
                              struct sl_workplace **ret, struct sl_err *err)
{
    struct sl_workplace *w = sl_calloc(1, sizeof *w);
    if (w == NULL)
        return sl_err_set(err, SL_E_NOMEM, "workplace: no memory");
    w->config = *config;
    *ret = w;
    return SL_OK;
}

static void clear(struct sl_workplace *w)
{
    sl_local_bench_free(w->bench);
    sl_model_free(w->model);
    free(w->state);
    sl_received_deinit(&w->received);
    free(w->order);
    sl_dataset_deinit(&w->set);
    sl_plan_deinit(&w->plan);
    *w = (struct sl_workplace){.config = w->config};
}

void sl_workplace_clear(struct sl_workplace *w)
{
    clear(w);
    malloc_trim(0);
}

bool sl_workplace_is_clear(const struct sl_workplace *w)
{
    return !w->ready;
}

uint32_t sl_workplace_rounds(const struct sl_workplace *w)
{
    return w->ready ? w->plan.run.rounds : 0;
}

void sl_workplace_free(struct sl_workplace *w)
{
    if (w == NULL)
        return;
    clear(w);
    free(w);
}

/* --- this client's samples
 * ------------------------------------------------------------------------ */

static struct sl_dataset_source plan_source(const struct sl_workplace *w)
{
    return (struct sl_dataset_source){
        .kind = w->plan.data.dataset,
        .path = w->config.data_path != NULL ? w->config.data_path : w->plan.data.path,
        .split = SL_SPLIT_TRAIN,
        .limit = w->plan.data.limit,
    };
}

/* The row of the plan's partition, as *ret_index[0..*ret_n-1]. */
static enum sl_code own_row(const struct sl_workplace *w,
                            const struct sl_dataset_source *src, uint32_t **ret_index,
                            size_t *ret_n, struct sl_err *err)
{
    int32_t *labels;
    struct sl_partition_input in = {.seed = w->plan.run.seed};
    struct sl_partition part = {0};
    enum sl_code rc = sl_dataset_labels(src, &labels, &in.n, &in.n_classes, err);
    if (rc != SL_OK)
        return rc;
    in.labels = labels;
    rc = sl_partition_make(&w->plan.data.partition, &in, &part, err);
    free(labels);
    if (rc != SL_OK)
        return sl_err_wrap(err, rc, "partition");
    if (w->index >= part.clients) {
        rc = sl_err_set(err, SL_E_RANGE,
                        "client %" PRIu32 " has no row of a partition of %" PRIu32,
                        w->index, part.clients);
    } else {
        size_t n;
        const uint32_t *row = sl_partition_client(&part, w->index, &n);
        uint32_t *copy = sl_calloc(n, sizeof *copy);
        if (copy == NULL) {
            rc = sl_err_set(err, SL_E_NOMEM, "partition: no memory");
        } else {
            memcpy(copy, row, n * sizeof *copy);
            *ret_index = copy;
            *ret_n = n;
        }
    }
    sl_partition_deinit(&part);
    return rc;
}

static enum sl_code load_rows(struct sl_workplace *w, struct sl_err *err)
{
    struct sl_dataset_source src = plan_source(w);
    uint32_t *index = NULL;
    size_t n = 0;
    enum sl_code rc = own_row(w, &src, &index, &n, err);
    if (rc != SL_OK)
        return rc;
    rc = sl_dataset_subset(&src, index, n, &w->set, err);
    free(index);
    return rc;
}

static enum sl_code load_data(struct sl_workplace *w, struct sl_err *err)
{
    enum sl_code rc = w->config.own.kind != NULL
                          ? sl_dataset_load(&w->config.own, &w->set, err)
                          : load_rows(w, err);
    if (rc != SL_OK)
        return rc;
    w->order = sl_calloc(w->set.n, sizeof w->order[0]);
    if (w->order == NULL)
        return sl_err_set(err, SL_E_NOMEM, "data: no memory");
    for (size_t i = 0; i < w->set.n; i++)
        w->order[i] = (uint32_t)i;
    w->n_train = w->set.n;
    if (w->plan.evaluation.holdout > 0)
        sl_holdout_split(w->order, w->set.n, w->plan.evaluation.holdout, w->plan.run.seed,
                         w->index, w->order, &w->n_train);
    return SL_OK;
}

/* --- model and bench
 * --------------------------------------------------------------------------------- */

/* The model is the plan's; what multiplies is this client's own, if its config says so. */
static enum sl_code make_model(struct sl_workplace *w, struct sl_err *err)
{
    enum sl_code rc = sl_plan_model(&w->plan, &w->set, w->set.n_classes, &w->model, err);
    if (w->config.hardware != NULL)
        w->plan.accelerator = *w->config.hardware;
    return rc;
}

static enum sl_code find_steps(struct sl_workplace *w, struct sl_err *err)
{
    w->local_steps = w->plan.train.local_steps;
    if (w->plan.train.steps_path[0] == 0)
        return SL_OK;
    struct sl_index_table table = {0};
    enum sl_code rc =
        sl_index_load(SL_INDEX_STEPS, w->plan.train.steps_path, &table, err);
    if (rc != SL_OK)
        return rc;
    size_t n;
    const uint32_t *steps = sl_index_find(&table, w->index, &n);
    w->local_steps = steps == NULL ? -1 : (int64_t)steps[0];
    sl_index_table_deinit(&table);
    return SL_OK;
}

static enum sl_code set_up(struct sl_workplace *w, const struct sl_client_job *job,
                           struct sl_err *err)
{
    if (w->ready && w->index == job->index &&
        sl_blob_id_equal(&w->plan_id, &job->order.plan.id))
        return SL_OK;
    clear(w);
    w->index = job->index;
    enum sl_code rc = sl_plan_parse((const char *)job->plan_text, job->plan_bytes,
                                    "plan of the run", NULL, 0, &w->plan, err);
    if (rc == SL_OK)
        rc = load_data(w, err);
    if (rc == SL_OK)
        rc = make_model(w, err);
    if (rc == SL_OK)
        rc = find_steps(w, err);
    if (rc == SL_OK)
        rc = sl_local_bench_new(&w->plan, w->model, &w->bench, err);
    if (rc != SL_OK) {
        clear(w);
        return rc;
    }
    w->plan_id = job->order.plan.id;
    w->ready = true;
    return SL_OK;
}

/* --- tasks
 * ---------------------------------------------------------------------------------------------
 */

/* The state of this client's last committed round; *ret NULL when there is none. */
static enum sl_code carry_over(struct sl_workplace *w, uint64_t run, const uint8_t **ret,
                               struct sl_err *err)
{
    struct sl_client_store *store = w->config.store;
    size_t n = sl_local_state_bytes(&w->plan, sl_model_layout(w->model));
    bool present = false;
    if (n == 0)
        return SL_OK;
    if (w->state == NULL && (w->state = sl_calloc(n, 1)) == NULL)
        return sl_err_set(err, SL_E_NOMEM, "state of %zu bytes", n);
    enum sl_code rc = store->ops->state_read(store, run, w->state, n, &present, err);
    *ret = present ? w->state : NULL;
    return rc;
}

static enum sl_code keep(struct sl_workplace *w, const struct sl_client_job *job,
                         const struct sl_update_meta *meta, const uint8_t *update, size_t n,
                         struct sl_client_result *r, struct sl_err *err)
{
    struct sl_client_store *store = w->config.store;
    size_t n_state = sl_local_state_bytes(&w->plan, sl_model_layout(w->model));
    enum sl_code rc = SL_OK;
    sl_client_keep(job, meta, update, n, &r->kept);
    if (n_state > 0)
        rc = store->ops->state_stage(store, &r->kept, sl_local_state(w->bench), n_state, err);
    if (rc == SL_OK)
        rc = store->ops->update_write(store, &r->kept, update, n, err);
    return rc == SL_OK ? SL_OK : sl_err_wrap(err, rc, "keep the update");
}

static enum sl_code train(struct sl_workplace *w, const struct sl_client_job *job,
                          const float *start, const struct sl_local_data *data, struct sl_client_result *r,
                          struct sl_err *err)
{
    const struct sl_layout *layout = sl_model_layout(w->model);
    struct sl_local_order order = {.plan = &w->plan,
                                   .variates = sl_local_variates(&w->plan, layout, job->model),
                                   .client = job->index,
                                   .round = job->order.round,
                                   .local_steps = w->local_steps,
                                   .evaluate = job->order.evaluate};
    struct sl_update_meta meta;
    const uint8_t *update;
    size_t n;
    enum sl_code rc = carry_over(w, job->order.run_id, &order.state, err);
    if (rc == SL_OK && w->plan.selection.probe_epochs > 0) {
        rc = sl_local_probe(w->bench, &order, data, start, &r->loss, err);
        r->samples = (uint32_t)data->n_train;
        r->probed = w->probed = rc == SL_OK;
        return rc;
    }
    if (rc == SL_OK)
        rc = sl_local_train(w->bench, &order, data, start, &meta, &update, &n, err);
    return rc == SL_OK ? keep(w, job, &meta, update, n, r, err) : rc;
}

static enum sl_code calibrate(struct sl_workplace *w, const struct sl_client_job *job,
                              const float *start, const struct sl_local_data *data,
                              struct sl_client_result *r, struct sl_err *err)
{
    struct sl_client_store *store = w->config.store;
    struct sl_update_meta meta;
    const uint8_t *bytes;
    size_t n;
    enum sl_code rc =
        sl_local_calibrate(w->bench, &w->plan, data, start, &meta, &bytes, &n, err);
    if (rc != SL_OK)
        return rc;
    sl_client_keep(job, &meta, bytes, n, &r->kept);
    rc = store->ops->update_write(store, &r->kept, bytes, n, err);
    return rc == SL_OK ? SL_OK : sl_err_wrap(err, rc, "keep the statistics");
}

static enum sl_code work(struct sl_workplace *w, const struct sl_client_job *job,
                         struct sl_client_result *r, struct sl_err *err)
{
    w->probed = false;
    enum sl_code rc = set_up(w, job, err);
    if (rc != SL_OK)
        return rc;
    size_t want = sl_local_model_bytes(&w->plan, sl_model_layout(w->model));
    size_t head = sl_received_head_bytes(sl_model_layout(w->model));
    if (job->order.head.size != head)
        return sl_err_set(err, SL_E_INPUT,
                          "the received head has %" PRIu64
                          " bytes, this client's data and plan make it %zu",
                          job->order.head.size, head);
    if (job->order.model.size != want)
        return sl_err_set(err, SL_E_INPUT,
                          "the received model has %" PRIu64
                          " bytes, this client's data and plan make it %zu",
                          job->order.model.size, want);
    struct sl_local_data data = {.set = &w->set,
                                 .train = w->order,
                                 .n_train = w->n_train,
                                 .holdout = w->order + w->n_train,
                                 .n_holdout = w->set.n - w->n_train};
    const float *start;
    size_t behind = (sl_local_vectors(&w->plan) - 1) *
                    sl_layout_travelling(sl_model_layout(w->model));
    rc = sl_received_join(&w->received, sl_model_layout(w->model), job->model, behind, job->head,
                          &start, err);
    if (rc != SL_OK)
        return rc;
    if (job->order.kind == SL_TASK_TRAIN)
        return train(w, job, start, &data, r, err);
    if (job->order.kind == SL_TASK_CALIBRATE)
        return calibrate(w, job, start, &data, r, err);
    return sl_local_evaluate(w->bench, &data, start, &r->eval, err);
}

static void tell(struct sl_client_result *ret, enum sl_code rc, const struct sl_err *err)
{
    ret->rc = rc;
    if (rc != SL_OK)
        snprintf(ret->reason, sizeof ret->reason, "%.*s", (int)sizeof ret->reason - 1,
                 err->msg);
}

void sl_workplace_do(struct sl_workplace *w, const struct sl_client_job *job,
                     struct sl_client_result *ret)
{
    struct sl_err err;
    *ret = (struct sl_client_result){0};
    tell(ret, work(w, job, ret, &err), &err);
}

void sl_workplace_go_on(struct sl_workplace *w, const struct sl_client_job *job,
                        struct sl_client_result *ret)
{
    struct sl_update_meta meta;
    const uint8_t *update;
    size_t n;
    struct sl_err err;
    *ret = (struct sl_client_result){0};
    enum sl_code rc = w->probed ? sl_local_go_on(w->bench, &meta, &update, &n, &err)
                                : sl_err_set(&err, SL_E_BUG, "no training has probed");
    w->probed = false;
    if (rc == SL_OK)
        rc = keep(w, job, &meta, update, n, ret, &err);
    tell(ret, rc, &err);
}

enum sl_code sl_workplace_own_samples(const struct sl_workplace_config *config,
                                      uint64_t *ret, struct sl_err *err)
{
    int32_t *labels;
    size_t n;
    uint32_t n_classes;
    *ret = 0;
    if (config->own.kind == NULL)
        return SL_OK;
    enum sl_code rc = sl_dataset_labels(&config->own, &labels, &n, &n_classes, err);
    if (rc != SL_OK)
        return sl_err_wrap(err, rc, "data");
    free(labels);
    *ret = n;
    return SL_OK;
}
