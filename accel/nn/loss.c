/* SPDX-License-Identifier: Apache-2.0 */
/* loss.c - softmax cross-entropy: log sum exp(x) - x[label], gradient softmax(x) -
 * onehot. Squared loss: sum over classes of (x - onehot)^2, gradient 2 (x - onehot).
 * Losses are added in double, in order of samples; log is ours (common/fdmath.h). */
#include "accel/nn/loss.h"

#include "common/fdmath.h"

static bool first_largest(const float *row, size_t classes, size_t label)
{
    size_t best = 0;
    for (size_t c = 1; c < classes; c++)
        if (row[c] > row[best])
            best = c;
    return best == label;
}

static double cross_entropy(const struct sl_kernels *k, const float *row, size_t label,
                            size_t classes, float scale, float *d)
{
    float at_label = row[label], max, sum;
    k->elem.softmax_rows(row, d, 1, classes, &max, &sum);
    k->elem.affine(scale, 0.0f, d, d, classes);
    d[label] -= scale;
    return sl_log((double)sum) + ((double)max - (double)at_label);
}

static double squared(const float *row, size_t label, size_t classes, float scale,
                      float *d)
{
    double loss = 0.0;
    for (size_t c = 0; c < classes; c++) {
        float diff = row[c] - (c == label ? 1.0f : 0.0f);
        loss += (double)diff * (double)diff;
        d[c] = 2.0f * scale * diff;
    }
    return loss;
}

void sl_loss(enum sl_loss kind, const struct sl_kernels *k, const float *out,
             const int32_t *labels, size_t n, size_t classes, float scale, float *d,
             struct sl_loss_sums *sums)
{
    for (size_t i = 0; i < n; i++, out += classes, d += classes) {
        size_t label = (size_t)labels[i];
        sums->correct += first_largest(out, classes, label);
        sums->loss += kind == SL_LOSS_SQUARED
                          ? squared(out, label, classes, scale, d)
                          : cross_entropy(k, out, label, classes, scale, d);
    }
}
