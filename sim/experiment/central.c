/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "accel/nn/plan_model.h"
#include "common/mem.h"
#include "sim/experiment/training.h"

#define EVALUATION_BATCH 256

static enum sl_code load(const struct sl_plan *p, enum sl_dataset_split split,
                         uint64_t limit, struct sl_dataset *ret, struct sl_err *err)
{
    struct sl_dataset_source src = {
        .kind = p->data.dataset, .path = p->data.path, .split = split, .limit = limit};
    return sl_dataset_load(&src, ret, err);
}

static enum sl_code prepare(struct sl_central *c, const struct sl_plan *p,
                            struct sl_err *err)
{
    enum sl_code rc = load(p, SL_SPLIT_TRAIN, p->data.limit, &c->train, err);
    if (rc == SL_OK)
        rc = load(p, SL_SPLIT_TEST, p->data.test_limit, &c->test, err);
    if (rc == SL_OK)
        rc = sl_plan_model(p, &c->train, c->train.n_classes, &c->model, err);
    if (rc == SL_OK)
        rc = sl_unit_setup(&p->accelerator, &c->unit, err);
    if (rc != SL_OK)
        return rc;
    struct sl_trainer_options o = {.max_batch = p->train.batch_size,
                                   .unit = c->unit.unit,
                                   .unit_options = sl_unit_setup_options(&c->unit)};
    rc = sl_trainer_new(c->model, &o, &c->trainer, err);
    o.max_batch = EVALUATION_BATCH;
    if (rc == SL_OK)
        rc = sl_trainer_new(c->model, &o, &c->judge, err);
    if (rc != SL_OK)
        return rc;
    c->values = sl_calloc(sl_model_layout(c->model)->n_values, sizeof(float));
    if (c->values == NULL)
        return sl_err_set(err, SL_E_NOMEM, "central training");
    sl_model_init_uniform(c->model, p->run.seed, c->values);
    return SL_OK;
}

void sl_central_deinit(struct sl_central *c)
{
    if (c == NULL)
        return;
    sl_trainer_free(c->trainer);
    sl_trainer_free(c->judge);
    sl_model_free(c->model);
    sl_dataset_deinit(&c->train);
    sl_dataset_deinit(&c->test);
    free(c->values);
    *c = (struct sl_central){0};
}

/* --- learning rate ---------------------------------------------------------------- */

/* The plan's schedule with the steps of the training in the place of rounds. */
struct schedule {
    struct sl_trainer *trainer;
    struct sl_plan plan;
};

static void follow_schedule(void *ctx, uint64_t step, const float *values, float *grads,
                            size_t n)
{
    const struct schedule *s = ctx;
    sl_trainer_set_lr(s->trainer, sl_plan_lr(&s->plan, (uint32_t)step));
}

static struct sl_train_spec spec_of(const struct sl_plan *p)
{
    return (struct sl_train_spec){.optimizer = p->train.optimizer,
                                  .lr = p->train.lr,
                                  .momentum = p->train.momentum,
                                  .weight_decay = p->train.weight_decay,
                                  .beta1 = p->train.beta1,
                                  .beta2 = p->train.beta2,
                                  .eps = p->train.eps,
                                  .batch_size = p->train.batch_size,
                                  .epochs = p->train.epochs,
                                  .local_steps = -1,
                                  .order = p->train.order,
                                  .seed = p->run.seed};
}

/* --- what came out ---------------------------------------------------------------- */

static double share(uint64_t part, uint64_t whole)
{
    return whole == 0 ? 0 : (double)part / (double)whole;
}

static double wide_share(const struct sl_unit_ledger *l, enum sl_role role)
{
    return share(l->wide[role], l->widths[role]);
}

static uint64_t sum(const uint64_t v[SL_PASSES])
{
    return v[0] + v[1] + v[2];
}

/* Of each layer with products. */
static json_t *layers_json(const struct sl_central *c)
{
    json_t *layers = json_array();
    const struct sl_unit_ledger *l;
    for (size_t i = 0; (l = sl_trainer_layer_ledger(c->trainer, i)) != NULL; i++)
        if (sum(l->macs) > 0)
            json_array_append_new(layers,
                                  json_pack("{s:f, s:f, s:f, s:f}", "passes",
                                            share(sum(l->work), sum(l->macs)), "w",
                                            wide_share(l, SL_ROLE_WEIGHT), "a",
                                            wide_share(l, SL_ROLE_ACTIVATION), "g",
                                            wide_share(l, SL_ROLE_GRADIENT)));
    return layers;
}

static json_t *result_of(const struct sl_central *c, json_t *accuracy)
{
    const struct sl_unit_ledger *l = sl_trainer_ledger(c->trainer);
    size_t n = json_array_size(accuracy);
    struct sl_task_cost cost;
    sl_unit_cost(&c->unit, l, &cost);
    return json_pack("{s:O, s:O, s:f, s:{s:f, s:f, s:f, s:f}, s:o}", "accuracy", accuracy,
                     "final", json_array_get(accuracy, n - 1), "passes",
                     share(cost.work, cost.macs), "cost", "macs", (double)cost.macs,
                     "work", (double)cost.work, "cycles", (double)cost.cycles, "energy",
                     cost.energy, "layers", layers_json(c));
}

/* --- the training ----------------------------------------------------------------- */

/* One epoch; *ret_accuracy on the test set. */
static enum sl_code run_epoch(struct sl_central *c, double *ret_accuracy,
                              struct sl_err *err)
{
    const struct sl_samples test = {.set = &c->test, .n = c->test.n};
    struct sl_train_result result;
    struct sl_eval_result eval;
    enum sl_code rc = sl_train_run(c->trainer, 1, &result, err);
    if (rc == SL_OK)
        rc = sl_evaluate(c->judge, sl_train_values(c->trainer), &test, &eval, err);
    if (rc == SL_OK)
        *ret_accuracy = share(eval.correct, eval.n);
    return rc;
}

static enum sl_code run_epochs(struct sl_central *c, const struct sl_plan *p,
                               json_t *accuracy, struct sl_err *err)
{
    struct sl_train_spec spec = spec_of(p);
    const struct sl_samples samples = {.set = &c->train, .n = c->train.n};
    struct schedule schedule = {c->trainer, *p}; /* borrows what *p owns */
    double guess = 1.0 / c->train.n_classes;
    schedule.plan.run.rounds = (uint32_t)sl_train_steps(&spec, c->train.n);
    spec.hook = follow_schedule;
    spec.hook_ctx = &schedule;
    enum sl_code rc = sl_train_begin(c->trainer, c->values, &samples, &spec, err);
    for (uint32_t e = 0; e < p->train.epochs; e++) {
        double reached = guess;
        if (rc == SL_OK)
            rc = run_epoch(c, &reached, err);
        json_array_append_new(accuracy, json_real(reached));
    }
    if (rc == SL_OK)
        memcpy(c->values, sl_train_values(c->trainer),
               sl_model_layout(c->model)->n_values * sizeof(float));
    return rc;
}

enum sl_code sl_central_train(struct sl_central *c, const struct sl_plan *plan,
                              json_t **ret, struct sl_err *err)
{
    json_t *accuracy = json_array(), *result = NULL;
    *c = (struct sl_central){0};
    enum sl_code rc = prepare(c, plan, err);
    if (rc == SL_OK) {
        rc = run_epochs(c, plan, accuracy, err);
        if (rc == SL_OK || rc == SL_E_FAILED)
            result = result_of(c, accuracy);
    }
    json_decref(accuracy);
    if (rc == SL_E_FAILED && result != NULL) { /* it diverged: a result */
        json_object_set_new(result, "failed", json_string(err->msg));
        rc = SL_OK;
    }
    if (rc == SL_OK && result == NULL)
        rc = sl_err_set(err, SL_E_NOMEM, "result");
    if (rc == SL_OK)
        *ret = result;
    return rc;
}
