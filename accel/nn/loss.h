/* SPDX-License-Identifier: Apache-2.0 */
/* loss.h - losses over the outputs of a model; for accel/nn. Thread: any. */
#ifndef SL_ACCEL_NN_LOSS_H
#define SL_ACCEL_NN_LOSS_H

#include <stddef.h>
#include <stdint.h>

#include "accel/kernels/kernels.h"
#include "accel/nn/model.h"

struct sl_loss_sums {
    double loss;      /* over samples */
    uint64_t correct; /* first largest output is the label */
};

/* Adds the losses of n rows out [n, classes] with labels 0..classes-1 to *sums and writes
 * d[n, classes] = scale * (gradient of a sample's loss); d may be out. scale is 1 /
 * (samples of the whole batch) for a mean. */
void sl_loss(enum sl_loss kind, const struct sl_kernels *k, const float *out,
             const int32_t *labels, size_t n, size_t classes, float scale, float *d,
             struct sl_loss_sums *sums);

#endif
