/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/policy/gru.h"

#include <cblas.h>
#include <string.h>

#include "accel/kernels/fmath.h"

void sl_affine_forward(size_t n, size_t in, size_t out, const float *w, const float *b,
                      const float *x, float *y)
{
    for (size_t i = 0; i < n; i++)
        memcpy(y + i * out, b, out * sizeof(*y));
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)n, (int)out, (int)in, 1, x, (int)in,
                w, (int)in, 1, y, (int)out);
}

void sl_affine_backward(size_t n, size_t in, size_t out, const float *w, const float *x,
                       const float *dy, float *dw, float *db, float *dx, int add_dx)
{
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)out, (int)in, (int)n, 1, dy, (int)out,
                x, (int)in, 1, dw, (int)in);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < out; k++)
            db[k] += dy[i * out + k];
    if (dx != NULL)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)n, (int)in, (int)out, 1, dy,
                    (int)out, w, (int)in, add_dx ? 1 : 0, dx, (int)in);
}

static inline float sigmoid(float x)
{
    return 1.0f / (1.0f + sl_expf(-x));
}

/* One step: gates holds Wi x + bi and becomes r, z, n; from_h is Wh h + bh. */
static void step_forward(size_t rows, size_t hidden, float *restrict gates,
                         const float *restrict from_h, float *restrict inner,
                         const float *restrict h, float *restrict ret)
{
    for (size_t i = 0; i < rows; i++) {
        float *restrict g = gates + 3 * i * hidden;
        const float *restrict f = from_h + 3 * i * hidden;
        for (size_t k = 0; k < 2 * hidden; k++)
            g[k] = sigmoid(g[k] + f[k]);
        for (size_t k = 0; k < hidden; k++) {
            float a = f[2 * hidden + k];
            float n = sl_tanhf(g[2 * hidden + k] + g[k] * a);
            float z = g[hidden + k];
            inner[i * hidden + k] = a;
            g[2 * hidden + k] = n;
            ret[i * hidden + k] = (1.0f - z) * n + z * h[i * hidden + k];
        }
    }
}

void sl_gru_forward(const struct sl_gru *g, size_t steps, size_t rows, const float *x,
                    struct sl_gru_trace *t)
{
    size_t hidden = g->hidden, area = rows * hidden;
    sl_affine_forward(steps * rows, g->in, 3 * hidden, g->wi, g->bi, x, t->gates);
    for (size_t s = 0; s < steps; s++) {
        sl_affine_forward(rows, hidden, 3 * hidden, g->wh, g->bh, t->h + s * area, t->step);
        step_forward(rows, hidden, t->gates + 3 * s * area, t->step, t->inner + s * area,
                     t->h + s * area, t->h + (s + 1) * area);
    }
}

/* One step back: dh is d loss / d h'; di and dr are the derivatives of both sides of the gates, and
 * carry gets dh z, the part that goes straight to h. */
static void step_backward(size_t rows, size_t hidden, const float *restrict gates,
                          const float *restrict inner, const float *restrict h,
                          const float *restrict dh, float *restrict di, float *restrict dr,
                          float *restrict carry)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t k = 0; k < hidden; k++) {
            size_t at = i * hidden + k, gate = 3 * i * hidden + k;
            float r = gates[gate], z = gates[gate + hidden], n = gates[gate + 2 * hidden];
            float d = dh[at];
            float dn = d * (1.0f - z) * (1.0f - n * n);
            float dz = d * (h[at] - n) * z * (1.0f - z);
            float dreset = dn * inner[at] * r * (1.0f - r);
            di[gate] = dr[gate] = dreset;
            di[gate + hidden] = dr[gate + hidden] = dz;
            di[gate + 2 * hidden] = dn;
            dr[gate + 2 * hidden] = dn * r;
            carry[at] += d * z;
        }
}

void sl_gru_backward(const struct sl_gru *g, size_t steps, size_t rows, const float *x,
                     const struct sl_gru_trace *t, float *dh, float *di, float *dr,
                     struct sl_gru_grads *grads, float *dx)
{
    size_t hidden = g->hidden, area = rows * hidden;
    float *before = t->step; /* where the derivative of h[0] goes, which nobody wants */
    for (size_t s = steps; s-- > 0;) {
        float *carry = s > 0 ? dh + (s - 1) * area : before;
        step_backward(rows, hidden, t->gates + 3 * s * area, t->inner + s * area, t->h + s * area,
                      dh + s * area, di + 3 * s * area, dr + 3 * s * area, carry);
        if (s > 0)
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)hidden,
                        (int)(3 * hidden), 1, dr + 3 * s * area, (int)(3 * hidden), g->wh,
                        (int)hidden, 1, carry, (int)hidden);
    }
    sl_affine_backward(steps * rows, g->in, 3 * hidden, g->wi, x, di, grads->wi, grads->bi, dx, 0);
    sl_affine_backward(steps * rows, hidden, 3 * hidden, g->wh, t->h, dr, grads->wh, grads->bh, NULL,
                      0);
}
