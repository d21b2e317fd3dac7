/* SPDX-License-Identifier: Apache-2.0 */
/* optim.h - optimisers of local training.
 * SGD: u = g at the first step, then momentum u + g; w -= lr u. Adam (Kingma, Ba 2015)
 * with bias correction: w -= lr mhat / (sqrt(vhat) + eps). Weight decay adds decay * w to
 * g in both, but for the ranges that are exempt. Owns: nothing; `slots` are two vectors of n values that need not be cleared.
 * Thread: one. */
#ifndef SL_ACCEL_NN_OPTIM_H
#define SL_ACCEL_NN_OPTIM_H

#include <stddef.h>
#include <stdint.h>

#include "accel/kernels/kernels.h"
#include "common/plan.h"

/* Values first .. first + n - 1. */
struct sl_optim_range {
    size_t first, n;
};

struct sl_optim {
    enum sl_optimizer kind;
    double lr, momentum, weight_decay, beta1, beta2, eps;
    uint64_t step;         /* taken so far */
    double power1, power2; /* beta^step */
    float *slots[2];       /* momentum; first and second moment */
    const struct sl_optim_range *exempt; /* [n_exempt] without decay, ascending; borrowed */
    size_t n_exempt;
};

/* The numbers are set by the caller; starts at step 0. */
void sl_optim_start(struct sl_optim *o);

/* One step over n parameters w with gradient g. */
void sl_optim_step(struct sl_optim *o, const struct sl_elem_ops *e, float *w,
                   const float *g, size_t n);

#endif
