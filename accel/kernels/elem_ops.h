/* SPDX-License-Identifier: Apache-2.0 */
/* elem_ops.h - elementwise kernels, sums, and the optimisers' steps.
 * Contracts common to all families stand in kernels/kernels.h. n, rows and cols may be 0.
 */
#ifndef SL_ACCEL_KERNELS_ELEM_OPS_H
#define SL_ACCEL_KERNELS_ELEM_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SL_LANES 16

struct sl_sgd_step {
    float lr, momentum, decay;
    bool first; /* u is not read: u = g */
};

struct sl_adam_step {
    float lr, beta1, beta2, eps, decay;
    float one_minus_beta1, one_minus_beta2; /* rounded from double */
    float correct1, correct2;               /* 1 / (1 - beta^t) */
};

struct sl_elem_ops {
    /* y = x < 0 ? 0 : x; y may be x. A NaN stays. */
    void (*relu)(const float *x, float *y, size_t n);
    /* dx = y > 0 ? dy : 0; dx may be dy. */
    void (*relu_grad)(const float *y, const float *dy, float *dx, size_t n);
    /* y = x/2 (1 + erf(x / sqrt 2)) and x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). */
    void (*gelu_erf)(const float *x, float *y, size_t n);
    void (*gelu_erf_grad)(const float *x, const float *dy, float *dx, size_t n);
    void (*gelu_tanh)(const float *x, float *y, size_t n);
    void (*gelu_tanh_grad)(const float *x, const float *dy, float *dx, size_t n);
    /* y = a + b; y may be a or b. */
    void (*add)(const float *a, const float *b, float *y, size_t n);
    /* y += a x */
    void (*axpy)(float a, const float *x, float *y, size_t n);
    /* y = a x + b; y may be x. */
    void (*affine)(float a, float b, const float *x, float *y, size_t n);
    /* y = (x - mean) inv; y may be x. */
    void (*normalise)(float mean, float inv, const float *x, float *y, size_t n);
    /* y = x[i] * w[i] + b[i] */
    void (*mul_add)(const float *x, const float *w, const float *b, float *y, size_t n);
    /* y = x * w, and y += x * w */
    void (*mul)(const float *x, const float *w, float *y, size_t n);
    void (*mul_acc)(const float *x, const float *w, float *y, size_t n);
    /* dx = inv (dxhat - m1 - xhat m2): the input gradient of a normalisation; dx may be
     * dxhat. */
    void (*norm_grad)(float inv, float m1, float m2, const float *dxhat,
                      const float *xhat, float *dx, size_t n);
    /* y = keep[i] ? scale x : 0; y may be x. */
    void (*mask_scale)(const uint8_t *keep, float scale, const float *x, float *y,
                       size_t n);
    /* y[r, c] += b[c] */
    void (*bias_rows)(const float *b, float *y, size_t rows, size_t cols);
    /* db[c] = (accumulate ? db[c] : 0) + sum over r, in order of r, of dy[r, c] */
    void (*bias_rows_grad)(const float *dy, size_t rows, size_t cols, bool accumulate,
                           float *db);
    /* Sums over 16 lanes (kernels.h): x; x y; (x - mean)^2. */
    float (*sum)(const float *x, size_t n);
    float (*dot)(const float *x, const float *y, size_t n);
    float (*square_deviation)(const float *x, float mean, size_t n);
    /* Each row y = exp(x - max) / sum; y may be x. ret_max, ret_sum [rows] or NULL. cols
     * >= 1. */
    void (*softmax_rows)(const float *x, float *y, size_t rows, size_t cols,
                         float *ret_max, float *ret_sum);
    /* g += decay w; u = first ? g : momentum u + g; w -= lr u; g is not written. */
    void (*sgd)(const struct sl_sgd_step *s, float *w, const float *g, size_t n);
    void (*sgd_momentum)(const struct sl_sgd_step *s, float *w, const float *g, float *u,
                         size_t n);
    void (*adam)(const struct sl_adam_step *s, float *w, const float *g, float *m,
                 float *v, size_t n);
    /* g += mu (w - w0) */
    void (*proximal)(float mu, const float *w, const float *w0, float *g, size_t n);
    bool (*all_finite)(const float *x, size_t n);
};

void sl_elem_ops_init(struct sl_elem_ops *ops, uint32_t cpu);

/* Variants; each exists where its instruction set can be compiled. */
extern const struct sl_elem_ops sl_elem_ops_c, sl_elem_ops_avx2, sl_elem_ops_avx512;

#endif
