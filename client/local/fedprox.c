/* SPDX-License-Identifier: Apache-2.0 */
/* FedProx, Li et al. 2020, equation 2: the local objective has (mu / 2) ||w - w_start||^2 besides,
 * which adds mu (w - w_start) to each gradient. */
#include "client/local/algorithm.h"

static void prepare(struct sl_local_work *w, struct sl_train_spec *spec)
{
    spec->mu = w->order->plan->strategy.mu;
}

const struct sl_local_algorithm sl_local_fedprox = {.name = "fedprox", .prepare = prepare};
