/* SPDX-License-Identifier: Apache-2.0 */
/* gru.h - dense layers and gated recurrent units over sequences, forward and back through time, on
 * BLAS. Weights are [out, in] and gates stand in the order r, z, n, as PyTorch has them:
 *     r = s(Wi_r x + bi_r + Wh_r h + bh_r)     z = s(Wi_z x + bi_z + Wh_z h + bh_z)
 *     n = tanh(Wi_n x + bi_n + r (Wh_n h + bh_n))     h' = (1 - z) n + z h
 * Sequences are [steps, rows, width]. Bits depend on the BLAS kernel alone (accel/accel.h). Owns
 * nothing; allocates nothing. Thread: any, each with its own memory. */
#ifndef SL_SIM_POLICY_GRU_H
#define SL_SIM_POLICY_GRU_H

#include <stddef.h>

/* y[n, out] = x[n, in] w^T + b */
void sl_affine_forward(size_t n, size_t in, size_t out, const float *w, const float *b,
                      const float *x, float *y);
/* dw += dy^T x, db += column sums of dy; dx = dy w, or += with add_dx; dx NULL: not wanted. */
void sl_affine_backward(size_t n, size_t in, size_t out, const float *w, const float *x,
                       const float *dy, float *dw, float *db, float *dx, int add_dx);

struct sl_gru {
    size_t in, hidden;
    const float *wi, *bi, *wh, *bh; /* [3 hidden, in], [3 hidden], [3 hidden, hidden], [3 hidden] */
};

struct sl_gru_grads {
    float *wi, *bi, *wh, *bh; /* added to */
};

/* What the way back needs. h: [steps + 1, rows, hidden]; the caller fills h[0]. */
struct sl_gru_trace {
    float *gates;  /* [steps, rows, 3 hidden]: r, z, n */
    float *inner;  /* [steps, rows, hidden]: Wh_n h + bh_n */
    float *h;
    float *step;   /* [rows, 3 hidden], scratch */
};

/* x[steps, rows, in] */
void sl_gru_forward(const struct sl_gru *g, size_t steps, size_t rows, const float *x,
                    struct sl_gru_trace *t);
/* dh[steps, rows, hidden]: d loss / d h' of each step from outside; becomes the whole derivative.
 * di, dr [steps, rows, 3 hidden]: scratch. dx[steps, rows, in] is set. h[0] gets no derivative. */
void sl_gru_backward(const struct sl_gru *g, size_t steps, size_t rows, const float *x,
                     const struct sl_gru_trace *t, float *dh, float *di, float *dr,
                     struct sl_gru_grads *grads, float *dx);

#endif
