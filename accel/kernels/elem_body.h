/* SPDX-License-Identifier: Apache-2.0 */
/* elem_body.h - definition of the elementwise kernels; OPS_NAME is the table it makes. */
#include <math.h>

#include "accel/kernels/fmath.h"
#include "accel/kernels/lanes.h"

#define INV_SQRT_2 0.707106781f
#define INV_SQRT_2PI 0.398942280f
#define SQRT_2_OVER_PI 0.797884561f
#define GELU_CUBE 0.044715f

static void relu(const float *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] < 0.0f ? 0.0f : x[i];
}

static void relu_grad(const float *y, const float *dy, float *dx, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dx[i] = y[i] > 0.0f ? dy[i] : 0.0f;
}

static void gelu_erf(const float *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = 0.5f * x[i] * (1.0f + sl_erff(x[i] * INV_SQRT_2));
}

/* Phi(x) + x phi(x) */
static void gelu_erf_grad(const float *x, const float *dy, float *dx, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float cdf = 0.5f * (1.0f + sl_erff(x[i] * INV_SQRT_2));
        float pdf = INV_SQRT_2PI * sl_expf(-0.5f * x[i] * x[i]);
        dx[i] = dy[i] * (cdf + x[i] * pdf);
    }
}

static void gelu_tanh(const float *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float inner = SQRT_2_OVER_PI * (x[i] + GELU_CUBE * x[i] * x[i] * x[i]);
        y[i] = 0.5f * x[i] * (1.0f + sl_tanhf(inner));
    }
}

static void gelu_tanh_grad(const float *x, const float *dy, float *dx, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float inner = SQRT_2_OVER_PI * (x[i] + GELU_CUBE * x[i] * x[i] * x[i]);
        float slope = SQRT_2_OVER_PI * (1.0f + 3.0f * GELU_CUBE * x[i] * x[i]);
        float t = sl_tanhf(inner);
        dx[i] = dy[i] * (0.5f * (1.0f + t) + 0.5f * x[i] * (1.0f - t * t) * slope);
    }
}

static void add(const float *a, const float *b, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = a[i] + b[i];
}

static void axpy(float a, const float *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

static void affine(float a, float b, const float *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = a * x[i] + b;
}

static void normalise(float mean, float inv, const float *x, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (x[i] - mean) * inv;
}

static void mul_add(const float *x, const float *w, const float *b, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * w[i] + b[i];
}

static void mul(const float *x, const float *w, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * w[i];
}

static void mul_acc(const float *x, const float *w, float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += x[i] * w[i];
}

static void norm_grad(float inv, float m1, float m2, const float *dxhat,
                      const float *xhat, float *dx, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dx[i] = inv * (dxhat[i] - m1 - xhat[i] * m2);
}

static void mask_scale(const uint8_t *keep, float scale, const float *x, float *y,
                       size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = keep[i] != 0 ? scale * x[i] : 0.0f;
}

static void bias_rows(const float *b, float *y, size_t rows, size_t cols)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            y[r * cols + c] += b[c];
}

static void bias_rows_grad(const float *dy, size_t rows, size_t cols, bool accumulate,
                           float *db)
{
    if (!accumulate)
        for (size_t c = 0; c < cols; c++)
            db[c] = 0.0f;
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            db[c] += dy[r * cols + c];
}

static float dot(const float *x, const float *y, size_t n)
{
    lanes acc = {0};
    size_t i = 0;
    for (; i + SL_LANES <= n; i += SL_LANES)
        acc += lanes_load(x + i) * lanes_load(y + i);
    if (i < n)
        acc += lanes_load_part(x + i, n - i) * lanes_load_part(y + i, n - i);
    return lanes_fold(acc);
}

static float square_deviation(const float *x, float mean, size_t n)
{
    lanes acc = {0};
    size_t i = 0;
    for (; i + SL_LANES <= n; i += SL_LANES) {
        lanes d = lanes_load(x + i) - mean;
        acc += d * d;
    }
    float rest[SL_LANES];
    size_t left = n - i;
    for (size_t j = 0; j < left; j++)
        rest[j] = (x[i + j] - mean) * (x[i + j] - mean);
    if (left > 0)
        acc += lanes_load_part(rest, left);
    return lanes_fold(acc);
}

static void softmax_rows(const float *x, float *y, size_t rows, size_t cols,
                         float *ret_max, float *ret_sum)
{
    for (size_t r = 0; r < rows; r++) {
        const float *in = x + r * cols;
        float *out = y + r * cols;
        float max = in[0];
        for (size_t c = 1; c < cols; c++)
            max = in[c] > max ? in[c] : max;
        for (size_t c = 0; c < cols; c++)
            out[c] = sl_expf(in[c] - max);
        float sum = lanes_sum(out, cols);
        for (size_t c = 0; c < cols; c++)
            out[c] = out[c] / sum;
        if (ret_max != NULL)
            ret_max[r] = max;
        if (ret_sum != NULL)
            ret_sum[r] = sum;
    }
}

static void sgd(const struct sl_sgd_step *s, float *w, const float *g, size_t n)
{
    float lr = s->lr, decay = s->decay;
    if (decay == 0.0f) {
        for (size_t i = 0; i < n; i++)
            w[i] -= lr * g[i];
        return;
    }
    for (size_t i = 0; i < n; i++)
        w[i] -= lr * (g[i] + decay * w[i]);
}

static void sgd_momentum(const struct sl_sgd_step *s, float *w, const float *g, float *u,
                         size_t n)
{
    float lr = s->lr, decay = s->decay, momentum = s->momentum;
    if (s->first) {
        for (size_t i = 0; i < n; i++) {
            u[i] = g[i] + decay * w[i];
            w[i] -= lr * u[i];
        }
        return;
    }
    for (size_t i = 0; i < n; i++) {
        u[i] = momentum * u[i] + (g[i] + decay * w[i]);
        w[i] -= lr * u[i];
    }
}

static void adam(const struct sl_adam_step *s, float *w, const float *g, float *m,
                 float *v, size_t n)
{
    const struct sl_adam_step a = *s;
    for (size_t i = 0; i < n; i++) {
        float d = g[i] + a.decay * w[i];
        m[i] = a.beta1 * m[i] + a.one_minus_beta1 * d;
        v[i] = a.beta2 * v[i] + a.one_minus_beta2 * (d * d);
        w[i] -= a.lr * (m[i] * a.correct1) / (sqrtf(v[i] * a.correct2) + a.eps);
    }
}

static void proximal(float mu, const float *w, const float *w0, float *g, size_t n)
{
    for (size_t i = 0; i < n; i++)
        g[i] += mu * (w[i] - w0[i]);
}

static bool all_finite(const float *x, size_t n)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t exponent = sl_bits_of_float(x[i]) & 0x7f800000u;
        bad |= exponent == 0x7f800000u ? 1u : 0u;
    }
    return bad == 0;
}

const struct sl_elem_ops OPS_NAME = {
    .relu = relu,
    .relu_grad = relu_grad,
    .gelu_erf = gelu_erf,
    .gelu_erf_grad = gelu_erf_grad,
    .gelu_tanh = gelu_tanh,
    .gelu_tanh_grad = gelu_tanh_grad,
    .add = add,
    .axpy = axpy,
    .affine = affine,
    .normalise = normalise,
    .mul_add = mul_add,
    .mul = mul,
    .mul_acc = mul_acc,
    .norm_grad = norm_grad,
    .mask_scale = mask_scale,
    .bias_rows = bias_rows,
    .bias_rows_grad = bias_rows_grad,
    .sum = lanes_sum,
    .dot = dot,
    .square_deviation = square_deviation,
    .softmax_rows = softmax_rows,
    .sgd = sgd,
    .sgd_momentum = sgd_momentum,
    .adam = adam,
    .proximal = proximal,
    .all_finite = all_finite,
};
