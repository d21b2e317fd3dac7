/* SPDX-License-Identifier: Apache-2.0 */
/* What a run needs, built from its plan alone: model, test set, expected weights, sum. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/hash.h"
#include "common/mem.h"
#include "common/model_file.h"
#include "server/core.h"

static struct sl_dataset_source source(const struct run *r, enum sl_dataset_split split)
{
    const struct sl_plan *p = &r->plan;
    bool train = split == SL_SPLIT_TRAIN;
    return (struct sl_dataset_source){
        .kind = p->data.dataset,
        .path = r->c->env.data_path != NULL ? r->c->env.data_path : p->data.path,
        .split = split,
        .limit = train ? p->data.limit : p->data.test_limit,
    };
}

/* Each client's samples, and what its update should weigh: its training samples, or 1. */
static enum sl_code expect_shares(struct run *r, const int32_t *labels, size_t n,
                                   uint32_t n_classes, struct sl_err *err)
{
    const struct sl_plan *p = &r->plan;
    struct sl_partition_input in = {
        .labels = labels, .n = n, .n_classes = n_classes, .seed = p->run.seed};
    struct sl_partition part;
    enum sl_code rc = sl_partition_make(&p->data.partition, &in, &part, err);
    if (rc != SL_OK)
        return sl_err_wrap(err, rc, "partition");
    r->n_clients = part.clients;
    r->share = sl_calloc(part.clients, sizeof(*r->share));
    uint32_t *scratch = sl_calloc(n, sizeof(*scratch));
    if (r->share == NULL || scratch == NULL)
        rc = sl_err_set(err, SL_E_NOMEM, "partition of %" PRIu32 " clients", part.clients);
    for (uint32_t k = 0; rc == SL_OK && k < part.clients; k++) {
        size_t m, train;
        const uint32_t *index = sl_partition_client(&part, k, &m);
        train = m;
        if (p->evaluation.holdout > 0)
            sl_holdout_split(index, m, p->evaluation.holdout, p->run.seed, k, scratch, &train);
        r->share[k] = (struct share){
            .train = train,
            .held = m - train,
            .weight = p->aggregation.weighting == SL_WEIGHT_UNIFORM ? 1 : train,
        };
    }
    free(scratch);
    sl_partition_deinit(&part);
    return rc;
}

static enum sl_code build_data(struct run *r, uint32_t *ret_classes, struct sl_err *err)
{
    struct sl_dataset_source train = source(r, SL_SPLIT_TRAIN), test = source(r, SL_SPLIT_TEST);
    int32_t *labels;
    size_t n;
    enum sl_code rc = sl_dataset_labels(&train, &labels, &n, ret_classes, err);
    if (rc != SL_OK)
        return rc;
    rc = expect_shares(r, labels, n, *ret_classes, err);
    free(labels);
    test.n_classes = *ret_classes;
    return rc == SL_OK ? sl_dataset_load(&test, &r->test, err) : rc;
}

static enum sl_code build_model(struct run *r, uint32_t n_classes, struct sl_err *err)
{
    const struct sl_plan *p = &r->plan;
    enum sl_code rc = sl_plan_model(p, &r->test, n_classes, &r->model, err);
    if (rc != SL_OK)
        return rc;
    r->n_values = sl_model_n_travelling(r->model);
    r->n_all = sl_model_layout(r->model)->n_values;
    r->calib.at = r->calib.kept_at = UINT32_MAX;
    rc = sl_calib_shape_of(r->model, p->calibration.balanced, &r->calib.shape, err);
    if (rc == SL_OK)
        r->calib.bytes = sl_calib_bytes(&r->calib.shape);
    else if (p->calibration.at_end || p->calibration.every > 0)
        return rc;
    rc = sl_codec_init(&p->uplink, sl_model_layout(r->model), r->strategy->vectors, &r->codec, err);
    if (rc == SL_OK)
        rc = sl_unit_setup(&p->accelerator, &r->unit, err);
    if (rc != SL_OK)
        return rc;
    struct sl_trainer_options o = {.max_batch = EVAL_BATCH,
                                   .unit = r->unit.unit,
                                   .unit_options = sl_unit_setup_options(&r->unit)};
    return sl_trainer_new(r->model, &o, &r->trainer, err);
}

static enum sl_code build_sum(struct run *r, struct sl_err *err)
{
    const struct sl_plan *p = &r->plan;
    uint64_t heaviest = 0;
    for (uint32_t k = 0; k < r->n_clients; k++)
        heaviest = r->share[k].weight > heaviest ? r->share[k].weight : heaviest;
    if (heaviest > p->aggregation.max_weight)
        return sl_err_set(err, SL_E_RANGE,
                          "a client has %" PRIu64 " samples, aggregation.max_weight is %" PRIu64,
                          heaviest, p->aggregation.max_weight);
    struct sl_sum_bounds b = {.max_abs = p->aggregation.max_abs,
                              .max_weight = p->aggregation.max_weight,
                              .fraction_bits = p->aggregation.fraction_bits};
    for (uint32_t k = 0; k < r->n_clients; k++)
        b.sum_weight += r->share[k].weight;
    r->all_weight = b.sum_weight;
    enum sl_code rc = sl_sum_bounds_fit(&b, err);
    if (rc != SL_OK)
        return rc;
    b.sum_weight = sl_sum_capacity(&b); /* clients with own data may bring more than the partition */
    /* the next model, its head with it, is made in the sum's place (step.c) */
    size_t floats = (r->n_all + 1) / 2;
    return sl_sum_init(&r->sum, floats > r->codec.n_values ? floats : r->codec.n_values, &b, err);
}

static enum sl_code build_policy(struct run *r, struct sl_err *err)
{
    const struct sl_plan *p = &r->plan;
    r->strategy = sl_strategy_find(p->strategy.name);
    r->selection = sl_selection_find(sl_plan_decides(p) ? "random" : p->selection.policy);
    if (r->strategy == NULL || r->selection == NULL)
        return sl_err_set(err, SL_E_NOTFOUND, "strategy %s or policy %s is not available",
                          p->strategy.name, p->selection.policy);
    if (p->selection.path[0] == '\0')
        return SL_OK;
    return sl_index_load(SL_INDEX_SELECTION, p->selection.path, &r->selection_file, err);
}

static enum sl_code build_vectors(struct run *r, struct sl_err *err)
{
    bool variates = r->strategy->vectors > 1;
    r->n_state = r->n_values * r->strategy->state_per_value;
    r->n_sent = r->n_values * r->strategy->vectors;
    r->values = sl_calloc(r->n_all, sizeof(float));
    r->sent = variates ? sl_calloc(r->n_sent, sizeof(float)) : r->values;
    r->state = r->n_state > 0 ? sl_calloc(r->n_state, sizeof(float)) : NULL;
    uint32_t most = sl_plan_cohort_size(&r->plan);
    double wanted = (double)most * r->plan.selection.over_select + 1;
    r->n_slots = wanted < r->n_clients ? (uint32_t)wanted : r->n_clients;
    if (strcmp(r->selection->name, "random") != 0)
        r->n_slots = r->n_clients;
    if (r->strategy->stale != NULL)
        r->n_slots = r->n_clients;
    r->uploads = sl_calloc(r->n_slots, sizeof(*r->uploads));
    r->eval.n = r->n_clients;
    r->eval.counts = sl_calloc(r->n_clients, sizeof(*r->eval.counts));
    r->eval.there = sl_calloc(r->n_clients, sizeof(*r->eval.there));
    enum sl_code rc = probe_build(r, err);
    if (rc != SL_OK)
        return rc;
    if (r->values == NULL || r->sent == NULL || r->uploads == NULL ||
        (r->n_state > 0 && r->state == NULL) || r->eval.counts == NULL || r->eval.there == NULL)
        return sl_err_set(err, SL_E_NOMEM, "model of %zu values", r->n_all);
    if (r->strategy->init_state != NULL)
        r->strategy->init_state(&r->plan, r->state, r->n_state);
    for (uint32_t i = 0; i < r->n_slots; i++) {
        r->uploads[i].run = r;
        r->uploads[i].position = i;
    }
    return r->strategy->stale != NULL ? buffer_build(r, err) : SL_OK;
}

static void refer(const void *data, size_t n, struct sl_blob_ref *ret)
{
    ret->size = n;
    sl_xxh3_128(data, n, &ret->id);
}

void run_name_model(struct run *r)
{
    if (r->sent != r->values) /* its variates stand there already */
        memcpy(r->sent, r->values, r->n_values * sizeof(float));
    refer(r->sent, r->n_sent * sizeof(float), &r->model_ref);
    if (r->n_all > r->n_values)
        refer(r->values + r->n_values, (r->n_all - r->n_values) * sizeof(float),
              &r->head_ref);
}

static enum sl_code init_values(struct run *r, struct sl_err *err)
{
    const struct sl_plan *p = &r->plan;
    const struct sl_layout *layout = sl_model_layout(r->model);
    enum sl_code rc = SL_OK;
    if (p->model.init != SL_INIT_FILE)
        rc = sl_model_init_head(r->model, p->run.seed, r->values, err);
    switch (p->model.init) {
    case SL_INIT_UNIFORM:
        sl_model_init_uniform(r->model, p->run.seed, r->values);
        break;
    case SL_INIT_SPLITMIX:
        sl_model_init_splitmix(r->model, p->model.init_seed, p->model.init_gain, r->values);
        break;
    case SL_INIT_FILE:
        rc = sl_model_file_load(p->model.init_path, layout, r->values, err);
        if (rc == SL_OK)
            rc = sl_model_check_head(r->model, r->values, err);
        if (rc != SL_OK)
            rc = sl_err_wrap(err, rc, "model.init");
        break;
    }
    sl_model_digest(layout, r->values, r->digest);
    run_name_model(r);
    return rc;
}

enum sl_code run_build(struct sl_coordinator *c, uint64_t id, const struct sl_plan *plan,
                       struct run **ret, struct sl_err *err)
{
    struct run *r = sl_calloc(1, sizeof(*r));
    if (r == NULL)
        return sl_err_set(err, SL_E_NOMEM, "run");
    r->c = c;
    r->id = id;
    size_t n;
    uint32_t n_classes = 0;
    enum sl_code rc = sl_plan_canonical(plan, &r->plan_text, &n, err);
    if (rc == SL_OK)
        rc = sl_plan_parse(r->plan_text, n, "plan", NULL, 0, &r->plan, err);
    if (rc == SL_OK) {
        refer(r->plan_text, n, &r->plan_ref);
        rc = build_policy(r, err);
    }
    if (rc == SL_OK)
        rc = build_data(r, &n_classes, err);
    if (rc == SL_OK)
        rc = build_model(r, n_classes, err);
    if (rc == SL_OK)
        rc = build_sum(r, err);
    if (rc == SL_OK)
        rc = build_vectors(r, err);
    if (rc == SL_OK)
        rc = init_values(r, err);
    if (rc != SL_OK) {
        run_free(r);
        return rc;
    }
    *ret = r;
    return SL_OK;
}

void run_free(struct run *r)
{
    if (r == NULL)
        return;
    while (r->checks != NULL) {
        struct check *next = r->checks->next;
        free(r->checks);
        r->checks = next;
    }
    for (uint32_t i = 0; r->uploads != NULL && i < r->n_slots; i++)
        free(r->uploads[i].have);
    free(r->uploads);
    buffer_free(r);
    probe_free(r);
    free(r->eval.counts);
    free(r->eval.there);
    if (r->sent != r->values)
        free(r->sent);
    free(r->values);
    sl_codec_deinit(&r->codec);
    free(r->state);
    free(r->calib.values);
    free(r->share);
    free(r->plan_text);
    sl_round_deinit(&r->round);
    sl_sum_deinit(&r->sum);
    sl_trainer_free(r->trainer);
    sl_model_free(r->model);
    sl_dataset_deinit(&r->test);
    sl_index_table_deinit(&r->selection_file);
    sl_plan_deinit(&r->plan);
    free(r);
}
