/* SPDX-License-Identifier: Apache-2.0 */
/* The head of a finished model, fitted to samples that lie in one place: what calibrations
 * of many clients are compared with. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "accel/nn/calibrate.h"
#include "common/mem.h"
#include "common/partition.h"
#include "sim/experiment/training.h"
#include "sim/training.h"

#define BATCH 256

struct refit {
    const struct sl_plan *plan;
    struct sl_training *training;
    struct sl_dataset test;
    struct sl_unit_setup unit;
    struct sl_trainer *trainer;
    struct sl_calib sum;
    uint32_t *index; /* of the samples; owned */
    size_t n;
    double *w;
    float *values; /* with the fitted head */
};

static const struct sl_model *model_of(const struct refit *r)
{
    return sl_training_model(r->training);
}

static enum sl_code prepare(struct refit *r, struct sl_err *err)
{
    struct sl_dataset_source src = {.kind = r->plan->data.dataset,
                                    .path = r->plan->data.path,
                                    .split = SL_SPLIT_TEST,
                                    .limit = r->plan->data.test_limit};
    struct sl_calib_shape shape;
    enum sl_code rc = sl_training_new(r->plan, 1, &r->training, err);
    if (rc == SL_OK)
        rc = sl_dataset_load(&src, &r->test, err);
    if (rc == SL_OK)
        rc = sl_unit_setup(&r->plan->accelerator, &r->unit, err);
    if (rc != SL_OK)
        return rc;
    struct sl_trainer_options o = {.max_batch = BATCH,
                                   .unit = r->unit.unit,
                                   .unit_options = sl_unit_setup_options(&r->unit)};
    rc = sl_trainer_new(model_of(r), &o, &r->trainer, err);
    if (rc == SL_OK)
        rc = sl_calib_shape_of(model_of(r), r->plan->calibration.balanced, &shape, err);
    if (rc == SL_OK)
        rc = sl_calib_init(&r->sum, &shape, err);
    if (rc != SL_OK)
        return rc;
    r->w = sl_calloc(sl_calib_n_u(&shape), sizeof(*r->w));
    r->values = sl_calloc(sl_model_layout(model_of(r))->n_values, sizeof(float));
    return r->w != NULL && r->values != NULL ? SL_OK
                                             : sl_err_set(err, SL_E_NOMEM, "refit");
}

/* The samples of those clients, or of all, behind one another. */
static enum sl_code choose(struct refit *r, const uint32_t *clients, size_t n,
                           struct sl_err *err)
{
    const struct sl_partition *part = sl_training_partition(r->training);
    size_t all = part->offset[part->clients], own;
    r->index = sl_calloc(all, sizeof(*r->index));
    if (r->index == NULL)
        return sl_err_set(err, SL_E_NOMEM, "refit");
    for (size_t i = 0; i < (clients == NULL ? part->clients : n); i++) {
        const uint32_t *index =
            sl_partition_client(part, clients == NULL ? (uint32_t)i : clients[i], &own);
        memcpy(r->index + r->n, index, own * sizeof(*index));
        r->n += own;
    }
    return SL_OK;
}

/* The largest difference of two models in their heads. */
static double heads_apart(const struct refit *r, const float *a, const float *b)
{
    struct sl_head_info h = {0};
    double apart = 0;
    sl_model_head(model_of(r), &h);
    for (size_t i = 0; i < h.classes * h.width; i++)
        apart = fmax(apart, fabs((double)a[h.weight + i] - (double)b[h.weight + i]));
    for (size_t i = 0; i < h.classes && h.bias != SIZE_MAX; i++)
        apart = fmax(apart, fabs((double)a[h.bias + i] - (double)b[h.bias + i]));
    return apart;
}

static enum sl_code fit(struct refit *r, const float *values, struct sl_refit *ret,
                        struct sl_err *err)
{
    const struct sl_samples own = {
        .set = sl_training_set(r->training), .index = r->index, .n = r->n};
    const struct sl_samples test = {.set = &r->test, .n = r->test.n};
    struct sl_eval_result eval;
    double lambda;
    enum sl_code rc = sl_calib_collect(&r->sum, r->trainer, values, &own, err);
    if (rc == SL_OK)
        rc = sl_calib_solve(&r->sum, r->plan->calibration.ridge * (double)r->n, NULL,
                            r->w, &lambda, err);
    if (rc != SL_OK)
        return rc;
    memcpy(r->values, values, sl_model_layout(model_of(r))->n_values * sizeof(float));
    sl_calib_apply(&r->sum.shape, r->w, model_of(r), r->values);
    rc = sl_evaluate(r->trainer, r->values, &test, &eval, err);
    if (rc == SL_OK)
        *ret = (struct sl_refit){.accuracy = (double)eval.correct / (double)eval.n,
                                 .lambda = lambda / (double)r->n,
                                 .correct = eval.correct,
                                 .n_test = eval.n,
                                 .n_samples = r->n};
    return rc;
}

enum sl_code sl_refit(const struct sl_plan *plan, const float *values,
                      const float *against, const uint32_t *clients, size_t n,
                      struct sl_refit *ret, struct sl_err *err)
{
    struct refit r = {.plan = plan};
    enum sl_code rc = prepare(&r, err);
    if (rc == SL_OK)
        rc = choose(&r, clients, n, err);
    if (rc == SL_OK)
        rc = fit(&r, values, ret, err);
    if (rc == SL_OK)
        ret->apart = heads_apart(&r, r.values, against == NULL ? values : against);
    sl_trainer_free(r.trainer);
    sl_calib_deinit(&r.sum);
    sl_training_free(r.training);
    sl_dataset_deinit(&r.test);
    free(r.index);
    free(r.w);
    free(r.values);
    return rc;
}
