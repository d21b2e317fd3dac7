/* SPDX-License-Identifier: Apache-2.0 */
/* ClientUpdate of McMahan et al. 2017, algorithm 1: E epochs (or a number of steps) of
 * mini-batches of size B over the client's own samples, from the received model. */
#include "client/local/algorithm.h"

static enum sl_code train(struct sl_trainer *t, const struct sl_local_order *order,
                          const struct sl_local_data *data, const float *start,
                          const float **ret_values, struct sl_train_result *ret_result,
                          struct sl_err *err)
{
    const struct sl_plan *p = order->plan;
    struct sl_samples samples = {
        .set = data->set, .index = data->train, .n = data->n_train};
    struct sl_train_spec spec = {
        .optimizer = p->train.optimizer,
        .lr = sl_plan_lr(p, order->round),
        .momentum = p->train.momentum,
        .weight_decay = p->train.weight_decay,
        .beta1 = p->train.beta1,
        .beta2 = p->train.beta2,
        .eps = p->train.eps,
        .batch_size = p->train.batch_size,
        .epochs = p->train.epochs,
        .local_steps = order->local_steps,
        .order = p->train.order,
        .seed = p->run.seed,
        .round = order->round,
        .client = order->client,
        .rounds = p->run.rounds,
        .noise = order->noise,
    };
    struct sl_train_result r;
    enum sl_code rc = sl_train_begin(t, start, &samples, &spec, err);
    if (rc == SL_OK)
        rc = sl_train_run(t, UINT32_MAX, &r, err);
    if (rc != SL_OK)
        return rc;
    *ret_values = sl_train_values(t);
    *ret_result = r;
    return SL_OK;
}

const struct sl_local_algorithm sl_local_sgd = {.name = "sgd", .train = train};
