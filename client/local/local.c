/* SPDX-License-Identifier: Apache-2.0 */
#include "client/local/local.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "accel/codec/codec.h"
#include "accel/nn/calibrate.h"
#include "accel/units/setup.h"
#include "client/local/algorithm.h"
#include "common/mem.h"

/* A larger batch goes through the trainer in parts of BATCH_PART. Which part size is used
 * depends on the plan alone, because it decides how gradients are summed. */
#define BATCH_WHOLE 1024
#define BATCH_PART 256

static const struct {
    const char *strategy;
    const struct sl_local_algorithm *algorithm;
} algorithms[] = {
    {"fedavg", &sl_local_sgd},
    {"fedavgm", &sl_local_sgd},
    {"fedprox", &sl_local_fedprox},
    {"fednova", &sl_local_sgd},
    {"scaffold", &sl_local_scaffold},
    {"fedadam", &sl_local_sgd},
    {"fedyogi", &sl_local_sgd},
    {"fedadagrad", &sl_local_sgd},
    {"fedbuff", &sl_local_sgd},
    {"median", &sl_local_sgd},
    {"trimmed-mean", &sl_local_sgd},
    {"krum", &sl_local_sgd},
    {"multi-krum", &sl_local_sgd},
    {"geometric-median", &sl_local_sgd},
};

struct sl_local_bench {
    const struct sl_local_algorithm *algorithm;
    const struct sl_model *model;
    struct sl_trainer *trainer;
    struct sl_codec codec;
    size_t n_moved;   /* values of the model that travel */
    float *update;    /* [codec.n_values], values after minus before; change of the variates */
    uint8_t *encoded; /* [codec.n_bytes] */
    struct sl_unit_setup unit;
    /* What the client carries over: where its noise registers stand, then the residual, then
     * its control variates. */
    uint8_t *state; /* [n_state]; NULL = nothing */
    size_t n_state;
    /* The training under way. */
    struct sl_local_work work;
    struct sl_local_order order;
    struct sl_local_data data;
    bool has_eval;
    struct sl_eval_counts eval; /* of the received model */
    struct sl_unit_ledger before;
    struct sl_calib calib; /* {0} before the first calibration */
    uint8_t *statistics;   /* its bytes */
};

/* Parts of the state. */
static bool has_noise(const struct sl_plan *p)
{
    return p->accelerator.matmul == SL_MATMUL_FAST &&
           p->accelerator.round_gradient == SL_NOISE_LFSR;
}

static bool has_residual(const struct sl_plan *p)
{
    return p->uplink.encoding == SL_ENC_TERNARY && p->uplink.error_feedback;
}

static float *residual_of(const struct sl_local_bench *b, const struct sl_plan *p)
{
    size_t before = has_noise(p) ? sizeof(uint64_t) : 0;
    return has_residual(p) ? (float *)(void *)(b->state + before) : NULL;
}

/* The last of the state. */
static float *variate_of(const struct sl_local_bench *b)
{
    size_t before = b->n_state - b->n_moved * sizeof(float);
    return (float *)(void *)(b->state + before);
}

/* NULL when there is none. */
static const struct sl_local_algorithm *algorithm_of(const struct sl_plan *p)
{
    for (size_t i = 0; i < sizeof algorithms / sizeof algorithms[0]; i++)
        if (strcmp(algorithms[i].strategy, p->strategy.name) == 0)
            return algorithms[i].algorithm;
    return NULL;
}

static bool has_variates(const struct sl_plan *p)
{
    const struct sl_local_algorithm *a = algorithm_of(p);
    return a != NULL && a->variates;
}

unsigned sl_local_vectors(const struct sl_plan *plan)
{
    return has_variates(plan) ? 2 : 1;
}

size_t sl_local_model_bytes(const struct sl_plan *plan, const struct sl_layout *layout)
{
    return sl_layout_travelling(layout) * sl_local_vectors(plan) * sizeof(float);
}

const float *sl_local_variates(const struct sl_plan *plan, const struct sl_layout *layout,
                               const float *received)
{
    return has_variates(plan) ? received + sl_layout_travelling(layout) : NULL;
}

size_t sl_local_state_bytes(const struct sl_plan *plan, const struct sl_layout *layout)
{
    size_t moved = sl_layout_travelling(layout) * sizeof(float);
    size_t n = has_noise(plan) ? sizeof(uint64_t) : 0;
    n += has_residual(plan) ? moved * sl_local_vectors(plan) : 0;
    return n + (has_variates(plan) ? moved : 0);
}

static enum sl_code make_vectors(struct sl_local_bench *b, const struct sl_plan *plan,
                                 struct sl_err *err)
{
    enum sl_code rc =
        sl_codec_init(&plan->uplink, sl_model_layout(b->model), sl_local_vectors(plan),
                      &b->codec, err);
    if (rc != SL_OK)
        return rc;
    b->n_moved = sl_layout_travelling(sl_model_layout(b->model));
    b->n_state = sl_local_state_bytes(plan, sl_model_layout(b->model));
    b->update = sl_calloc(b->codec.n_values, sizeof b->update[0]);
    b->encoded = sl_calloc(b->codec.n_bytes, 1);
    b->state = b->n_state > 0 ? sl_calloc(b->n_state, 1) : NULL;
    if (b->update == NULL || b->encoded == NULL || (b->n_state > 0 && b->state == NULL))
        return sl_err_set(err, SL_E_NOMEM, "bench: no memory");
    return SL_OK;
}

enum sl_code sl_local_bench_new(const struct sl_plan *plan, const struct sl_model *model,
                                struct sl_local_bench **ret, struct sl_err *err)
{
    uint32_t batch = plan->train.batch_size;
    struct sl_trainer_options options = {
        .max_batch = batch == 0 || batch > BATCH_WHOLE ? BATCH_PART : batch,
    };
    struct sl_local_bench *b = sl_calloc(1, sizeof *b);
    if (b == NULL)
        return sl_err_set(err, SL_E_NOMEM, "bench: no memory");
    b->model = model;
    b->algorithm = algorithm_of(plan);
    enum sl_code rc = b->algorithm != NULL
                          ? make_vectors(b, plan, err)
                          : sl_err_set(err, SL_E_INPUT, "strategy %s has no client half here",
                                       plan->strategy.name);
    if (rc == SL_OK)
        rc = sl_unit_setup(&plan->accelerator, &b->unit, err);
    if (rc == SL_OK) {
        options.unit = b->unit.unit;
        options.unit_options = sl_unit_setup_options(&b->unit);
        rc = sl_trainer_new(model, &options, &b->trainer, err);
    }
    if (rc != SL_OK) {
        sl_local_bench_free(b);
        return rc;
    }
    *ret = b;
    return SL_OK;
}

void sl_local_bench_free(struct sl_local_bench *b)
{
    if (b == NULL)
        return;
    sl_trainer_free(b->trainer);
    sl_codec_deinit(&b->codec);
    free(b->update);
    free(b->encoded);
    free(b->state);
    sl_calib_deinit(&b->calib);
    free(b->statistics);
    free(b);
}

/* The update holds trained values and those that follow the data, tensor after tensor. */
static void subtract(const struct sl_layout *l, const float *after, const float *before,
                     float *ret_update)
{
    size_t n = 0;
    for (size_t i = 0; i < l->n_tensors; i++) {
        const struct sl_tensor *t = &l->tensors[i];
        if (t->role == SL_TENSOR_FIXED)
            continue;
        for (size_t j = 0; j < t->size; j++)
            ret_update[n + j] = after[t->offset + j] - before[t->offset + j];
        n += t->size;
    }
}

static enum sl_code check_finite(const float *v, size_t n, struct sl_err *err)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(v[i]))
            return sl_err_set(err, SL_E_FAILED,
                              "training diverged: value %zu of the update is not finite",
                              i);
    return SL_OK;
}

static enum sl_code evaluate(struct sl_local_bench *b, const struct sl_local_data *data,
                             const float *values, struct sl_eval_counts *ret,
                             struct sl_err *err)
{
    struct sl_samples held = {
        .set = data->set, .index = data->holdout, .n = data->n_holdout};
    struct sl_eval_result r;
    enum sl_code rc = sl_evaluate(b->trainer, values, &held, &r, err);
    if (rc != SL_OK)
        return sl_err_wrap(err, rc, "evaluate the received model");
    *ret = (struct sl_eval_counts){
        .samples = r.n, .correct = r.correct, .loss_sum = r.loss_sum};
    return SL_OK;
}

const uint8_t *sl_local_state(const struct sl_local_bench *b)
{
    return b->state;
}

static enum sl_code encode(struct sl_local_bench *b, const struct sl_local_order *order,
                           struct sl_err *err)
{
    struct sl_codec_noise noise = {
        .seed = order->plan->run.seed, .client = order->client, .round = order->round};
    return sl_codec_encode(&b->codec, &noise, b->update, residual_of(b, order->plan),
                           b->encoded, err);
}

static void take_state(struct sl_local_bench *b, const struct sl_local_order *order,
                       uint64_t *ret_noise)
{
    *ret_noise = 0;
    if (b->n_state == 0)
        return;
    if (order->state != NULL)
        memcpy(b->state, order->state, b->n_state);
    else
        memset(b->state, 0, b->n_state);
    if (has_noise(order->plan))
        memcpy(ret_noise, b->state, sizeof *ret_noise);
}

/* --- a training: begin, run, end ------------------------------------------------------------- */

static enum sl_code begin(struct sl_local_bench *b, const struct sl_local_order *order,
                          const struct sl_local_data *data, const float *start,
                          struct sl_err *err)
{
    if (b->algorithm->variates && order->variates == NULL)
        return sl_err_set(err, SL_E_BUG, "%s without control variates", b->algorithm->name);
    if (data->n_train == 0)
        return sl_err_set(err, SL_E_INPUT, "no samples to train on");
    b->has_eval = order->evaluate && data->n_holdout > 0;
    b->eval = (struct sl_eval_counts){0};
    enum sl_code rc = b->has_eval ? evaluate(b, data, start, &b->eval, err) : SL_OK;
    if (rc != SL_OK)
        return rc;
    b->before = *sl_trainer_ledger(b->trainer);
    b->order = *order;
    b->data = *data;
    take_state(b, order, &b->order.noise);
    b->work = (struct sl_local_work){.trainer = b->trainer,
                                     .order = &b->order,
                                     .data = &b->data,
                                     .start = start,
                                     .n_params = sl_model_n_params(b->model),
                                     .n_moved = b->n_moved,
                                     .result.noise = b->order.noise};
    if (b->algorithm->variates) {
        b->work.variate = order->variates;
        b->work.own_variate = variate_of(b);
        b->work.ret_change = b->update + b->n_moved;
    }
    if (order->local_steps == 0)
        return SL_OK;
    struct sl_samples samples = {.set = data->set, .index = data->train, .n = data->n_train};
    struct sl_train_spec spec = sl_local_spec(&b->work);
    if (b->algorithm->prepare != NULL)
        b->algorithm->prepare(&b->work, &spec);
    rc = sl_train_begin(b->trainer, start, &samples, &spec, err);
    return rc == SL_OK ? rc : sl_err_wrap(err, rc, "training of round %" PRIu32, order->round);
}

static enum sl_code run(struct sl_local_bench *b, uint32_t n_epochs, struct sl_err *err)
{
    if (b->order.local_steps == 0) /* empty training: talking is all there is to do */
        return SL_OK;
    enum sl_code rc = sl_train_run(b->trainer, n_epochs, &b->work.result, err);
    return rc == SL_OK ? rc : sl_err_wrap(err, rc, "training of round %" PRIu32, b->order.round);
}

/* The change of the values, and of the variates, into b->update. */
static enum sl_code difference(struct sl_local_bench *b, struct sl_err *err)
{
    if (b->order.local_steps == 0) {
        memset(b->update, 0, b->codec.n_values * sizeof b->update[0]);
        return SL_OK;
    }
    b->work.values = sl_train_values(b->trainer);
    if (b->algorithm->finish != NULL)
        b->algorithm->finish(&b->work);
    subtract(sl_model_layout(b->model), b->work.values, b->work.start, b->update);
    return check_finite(b->update, b->codec.n_values, err);
}

static enum sl_code end(struct sl_local_bench *b, struct sl_update_meta *ret_meta,
                        const uint8_t **ret_update, size_t *ret_n, struct sl_err *err)
{
    const struct sl_plan *plan = b->order.plan;
    const struct sl_train_result *r = &b->work.result;
    enum sl_code rc = difference(b, err);
    if (rc == SL_OK && has_noise(plan))
        memcpy(b->state, &r->noise, sizeof r->noise);
    if (rc == SL_OK)
        rc = encode(b, &b->order, err);
    if (rc != SL_OK)
        return rc;
    if (r->steps > UINT32_MAX)
        return sl_err_set(err, SL_E_LIMIT, "%" PRIu64 " local steps, allowed are %u", r->steps,
                          UINT32_MAX);
    *ret_meta = (struct sl_update_meta){
        .weight = plan->aggregation.weighting == SL_WEIGHT_SAMPLES ? b->data.n_train : 1,
        .samples = r->samples_seen,
        .steps = (uint32_t)r->steps,
        .loss_sum = r->loss_sum,
        .first_loss = r->first_loss,
        .encoding = b->codec.encoding,
        .has_eval = b->has_eval,
        .eval = b->eval,
    };
    struct sl_unit_ledger did = sl_unit_ledger_since(sl_trainer_ledger(b->trainer), &b->before);
    sl_unit_cost(&b->unit, &did, &ret_meta->cost);
    *ret_update = b->encoded;
    *ret_n = b->codec.n_bytes;
    return SL_OK;
}

enum sl_code sl_local_train(struct sl_local_bench *b, const struct sl_local_order *order,
                            const struct sl_local_data *data, const float *start,
                            struct sl_update_meta *ret_meta, const uint8_t **ret_update,
                            size_t *ret_n, struct sl_err *err)
{
    enum sl_code rc = begin(b, order, data, start, err);
    return rc == SL_OK ? sl_local_go_on(b, ret_meta, ret_update, ret_n, err) : rc;
}

enum sl_code sl_local_probe(struct sl_local_bench *b, const struct sl_local_order *order,
                            const struct sl_local_data *data, const float *start,
                            float *ret_loss, struct sl_err *err)
{
    enum sl_code rc = begin(b, order, data, start, err);
    if (rc == SL_OK)
        rc = run(b, order->plan->selection.probe_epochs, err);
    if (rc != SL_OK)
        return rc;
    const struct sl_train_result *r = &b->work.result;
    *ret_loss = r->samples_seen > 0 ? (float)(r->loss_sum / (double)r->samples_seen) : 0;
    return SL_OK;
}

enum sl_code sl_local_go_on(struct sl_local_bench *b, struct sl_update_meta *ret_meta,
                            const uint8_t **ret_update, size_t *ret_n, struct sl_err *err)
{
    enum sl_code rc = run(b, UINT32_MAX, err);
    return rc == SL_OK ? end(b, ret_meta, ret_update, ret_n, err) : rc;
}

enum sl_code sl_local_evaluate(struct sl_local_bench *b, const struct sl_local_data *data,
                               const float *values, struct sl_eval_counts *ret,
                               struct sl_err *err)
{
    if (data->n_holdout == 0) {
        *ret = (struct sl_eval_counts){0};
        return SL_OK;
    }
    return evaluate(b, data, values, ret, err);
}

static enum sl_code ready_calibration(struct sl_local_bench *b, const struct sl_plan *plan,
                                      struct sl_err *err)
{
    struct sl_calib_shape shape;
    if (b->statistics != NULL)
        return SL_OK;
    enum sl_code rc = sl_calib_shape_of(b->model, plan->calibration.balanced, &shape, err);
    if (rc == SL_OK)
        rc = sl_calib_init(&b->calib, &shape, err);
    if (rc != SL_OK)
        return rc;
    b->statistics = malloc((size_t)sl_calib_bytes(&shape));
    if (b->statistics != NULL)
        return SL_OK;
    sl_calib_deinit(&b->calib);
    return sl_err_set(err, SL_E_NOMEM, "bench: no memory");
}

enum sl_code sl_local_calibrate(struct sl_local_bench *b, const struct sl_plan *plan,
                                const struct sl_local_data *data, const float *values,
                                struct sl_update_meta *ret_meta, const uint8_t **ret_bytes,
                                size_t *ret_n, struct sl_err *err)
{
    struct sl_samples own = {.set = data->set, .index = data->train, .n = data->n_train};
    if (data->n_train == 0)
        return sl_err_set(err, SL_E_INPUT, "no samples to calibrate with");
    enum sl_code rc = ready_calibration(b, plan, err);
    if (rc != SL_OK)
        return rc;
    sl_calib_clear(&b->calib);
    rc = sl_calib_collect(&b->calib, b->trainer, values, &own, err);
    if (rc != SL_OK)
        return sl_err_wrap(err, rc, "statistics for the calibration");
    sl_calib_write(&b->calib, b->statistics);
    *ret_meta = (struct sl_update_meta){.weight = data->n_train, .samples = data->n_train};
    *ret_bytes = b->statistics;
    *ret_n = (size_t)sl_calib_bytes(&b->calib.shape);
    return SL_OK;
}
