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

const struct sl_local_algorithm sl_local_sgd = {.name = "sgd"};
