/* SPDX-License-Identifier: Apache-2.0 */
#include "accel/nn/optim.h"

#include <string.h>

void sl_optim_start(struct sl_optim *o)
{
    o->step = 0;
    o->power1 = 1.0;
    o->power2 = 1.0;
}

static void sgd_step(struct sl_optim *o, const struct sl_elem_ops *e, float *w,
                     const float *g, size_t n)
{
    struct sl_sgd_step s = {.lr = (float)o->lr,
                            .momentum = (float)o->momentum,
                            .decay = (float)o->weight_decay,
                            .first = o->step == 0};
    if (o->momentum == 0.0)
        e->sgd(&s, w, g, n);
    else
        e->sgd_momentum(&s, w, g, o->slots[0], n);
}

static void adam_step(struct sl_optim *o, const struct sl_elem_ops *e, float *w,
                      const float *g, size_t n)
{
    if (o->step == 0) {
        memset(o->slots[0], 0, n * sizeof(float));
        memset(o->slots[1], 0, n * sizeof(float));
    }
    o->power1 *= o->beta1;
    o->power2 *= o->beta2;
    struct sl_adam_step s = {.lr = (float)o->lr,
                             .beta1 = (float)o->beta1,
                             .beta2 = (float)o->beta2,
                             .eps = (float)o->eps,
                             .decay = (float)o->weight_decay,
                             .one_minus_beta1 = (float)(1.0 - o->beta1),
                             .one_minus_beta2 = (float)(1.0 - o->beta2),
                             .correct1 = (float)(1.0 / (1.0 - o->power1)),
                             .correct2 = (float)(1.0 / (1.0 - o->power2))};
    e->adam(&s, w, g, o->slots[0], o->slots[1], n);
}

void sl_optim_step(struct sl_optim *o, const struct sl_elem_ops *e, float *w,
                   const float *g, size_t n)
{
    if (o->kind == SL_OPT_ADAM)
        adam_step(o, e, w, g, n);
    else
        sgd_step(o, e, w, g, n);
    o->step++;
}
