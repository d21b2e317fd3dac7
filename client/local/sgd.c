/* SPDX-License-Identifier: Apache-2.0 */
/* ClientUpdate of McMahan et al. 2017, algorithm 1: E epochs (or a number of steps) of
 * mini-batches of size B over the client's own samples, from the received model. */
#include "client/local/algorithm.h"

struct sl_train_spec sl_local_spec(const struct sl_local_work *w)
{
    const struct sl_local_order *order = w->order;
    const struct sl_plan *p = order->plan;
    return (struct sl_train_spec){
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
}

enum sl_code sl_local_run(struct sl_local_work *w, const struct sl_train_spec *spec,
                          struct sl_err *err)
{
    struct sl_samples samples = {
        .set = w->data->set, .index = w->data->train, .n = w->data->n_train};
    enum sl_code rc = sl_train_begin(w->trainer, w->start, &samples, spec, err);
    if (rc == SL_OK)
        rc = sl_train_run(w->trainer, UINT32_MAX, &w->result, err);
    if (rc == SL_OK)
        w->values = sl_train_values(w->trainer);
    return rc;
}

static enum sl_code train(struct sl_local_work *w, struct sl_err *err)
{
    struct sl_train_spec spec = sl_local_spec(w);
    return sl_local_run(w, &spec, err);
}

const struct sl_local_algorithm sl_local_sgd = {.name = "sgd", .train = train};
