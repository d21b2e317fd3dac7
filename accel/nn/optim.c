/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/nn/optim.h"

#include <string.h>

void sl_optim_start(struct sl_optim *o)
{
    o->step = 0;
    o->power1 = 1.0;
    o->power2 = 1.0;
}

static void sgd_step(const struct sl_optim *o, const struct sl_elem_ops *e, double decay,
                     float *w, const float *g, size_t first, size_t n)
{
    struct sl_sgd_step s = {.lr = (float)o->lr,
                            .momentum = (float)o->momentum,
                            .decay = (float)decay,
                            .first = o->step == 0};
    if (o->momentum == 0.0)
        e->sgd(&s, w + first, g + first, n);
    else
        e->sgd_momentum(&s, w + first, g + first, o->slots[0] + first, n);
}

static void adam_step(const struct sl_optim *o, const struct sl_elem_ops *e, double decay,
                      float *w, const float *g, size_t first, size_t n)
{
    if (o->step == 0) {
        memset(o->slots[0] + first, 0, n * sizeof(float));
        memset(o->slots[1] + first, 0, n * sizeof(float));
    }
    struct sl_adam_step s = {.lr = (float)o->lr,
                             .beta1 = (float)o->beta1,
                             .beta2 = (float)o->beta2,
                             .eps = (float)o->eps,
                             .decay = (float)decay,
                             .one_minus_beta1 = (float)(1.0 - o->beta1),
                             .one_minus_beta2 = (float)(1.0 - o->beta2),
                             .correct1 = (float)(1.0 / (1.0 - o->power1)),
                             .correct2 = (float)(1.0 / (1.0 - o->power2))};
    e->adam(&s, w + first, g + first, o->slots[0] + first, o->slots[1] + first, n);
}

static void step_range(const struct sl_optim *o, const struct sl_elem_ops *e,
                       double decay, float *w, const float *g, size_t first, size_t end)
{
    if (first >= end)
        return;
    if (o->kind == SL_OPT_ADAM)
        adam_step(o, e, decay, w, g, first, end - first);
    else
        sgd_step(o, e, decay, w, g, first, end - first);
}

void sl_optim_step(struct sl_optim *o, const struct sl_elem_ops *e, float *w,
                   const float *g, size_t n)
{
    size_t at = 0, n_exempt = o->weight_decay == 0.0 ? 0 : o->n_exempt;
    if (o->kind == SL_OPT_ADAM) {
        o->power1 *= o->beta1;
        o->power2 *= o->beta2;
    }
    for (size_t i = 0; i < n_exempt; i++) {
        const struct sl_optim_range *r = &o->exempt[i];
        step_range(o, e, o->weight_decay, w, g, at, r->first);
        step_range(o, e, 0.0, w, g, r->first, r->first + r->n);
        at = r->first + r->n;
    }
    step_range(o, e, o->weight_decay, w, g, at, n);
    o->step++;
}
