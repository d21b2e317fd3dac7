/* SPDX-License-Identifier: Apache-2.0 */
/* SCAFFOLD, Karimireddy et al. 2020, algorithm 1: each local gradient is corrected by c - c_k;
 * afterwards (option II) c_k+ = c_k - c + (w - w_k) / (E lr), E steps of plain SGD at lr. The
 * change c_k+ - c_k goes behind the update. Buffers have no gradient: their variates stay 0. */
#include "client/local/algorithm.h"

static void correct(void *ctx, uint64_t step, const float *values, float *grads,
                    size_t n_params)
{
    const struct sl_local_work *w = ctx;
    (void)step;
    (void)values;
    for (size_t i = 0; i < n_params; i++)
        grads[i] += w->variate[i] - w->own_variate[i];
}

static void finish(struct sl_local_work *w)
{
    const double length = (double)w->result.steps * sl_local_spec(w).lr;
    for (size_t i = 0; i < w->n_moved; i++)
        w->ret_change[i] = 0;
    for (size_t i = 0; w->result.steps > 0 && i < w->n_params; i++) {
        double moved = (double)w->start[i] - (double)w->values[i];
        double change = moved / length - (double)w->variate[i];
        w->ret_change[i] = (float)change;
        w->own_variate[i] = (float)((double)w->own_variate[i] + change);
    }
}

static void prepare(struct sl_local_work *w, struct sl_train_spec *spec)
{
    spec->hook = correct;
    spec->hook_ctx = w;
}

const struct sl_local_algorithm sl_local_scaffold = {
    .name = "scaffold", .variates = true, .prepare = prepare, .finish = finish};
