/* SPDX-License-Identifier: Apache-2.0 */
/* FedProx, Li et al. 2020, equation 2: the local objective has (mu / 2) ||w - w_start||^2 besides,
 * which adds mu (w - w_start) to each gradient. */
#include "client/local/algorithm.h"

static enum sl_code train(struct sl_local_work *w, struct sl_err *err)
{
    struct sl_train_spec spec = sl_local_spec(w);
    spec.mu = w->order->plan->strategy.mu;
    return sl_local_run(w, &spec, err);
}

const struct sl_local_algorithm sl_local_fedprox = {.name = "fedprox", .train = train};
