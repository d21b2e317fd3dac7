/* SPDX-License-Identifier: Apache-2.0 */
/* matmul_fp32.c - products in single precision by OpenBLAS.
 * A convolution goes image by image, so that an image's columns stay in the second-level
 * cache between being written and being multiplied. Two forms:
 * - columns: im2col, one product with K = in_c * kernel^2;
 * - bands (stride 1, enough input channels): the image is expanded along kx only; the
 * columns of one ky are then a window into the bands, and the convolution is `kernel`
 * products with K = in_c * kernel that add up. It writes `kernel` times fewer values
 * before multiplying. The form depends on the geometry alone, so equal models give equal
 * bits. */
#include "accel/units/matmul.h"

#include <cblas.h>
#include <string.h>

#include "accel/kernels/kernels.h"
#include "common/mem.h"

#define BAND_K_MIN 64 /* in_c * kernel from which short products pay */

static void count(struct sl_unit_ctx *ctx, enum sl_pass pass, uint64_t macs)
{
    ctx->ledger.calls[pass]++;
    ctx->ledger.macs[pass] += macs;
}

static void gemm(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha,
                 const float *a, size_t lda, const float *b, size_t ldb, float beta,
                 float *c, size_t ldc)
{
    cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans,
                tb ? CblasTrans : CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, alpha,
                a, (blasint)lda, b, (blasint)ldb, beta, c, (blasint)ldc);
}

static void matmul(struct sl_unit_ctx *ctx, const struct sl_matmul *op)
{
    gemm(op->a.transposed, op->b.transposed, op->m, op->n, op->k, op->alpha, op->a.data,
         op->a.ld, op->b.data, op->b.ld, op->accumulate ? 1.0f : 0.0f, op->c, op->ldc);
    count(ctx, op->pass, (uint64_t)op->m * op->n * op->k);
}

/* --- convolution
 * ---------------------------------------------------------------------------- */

struct conv_size {
    size_t in, out; /* values of an image */
    size_t places;  /* out_h * out_w */
    size_t taps;    /* in_c * kernel^2 */
    size_t band_k;  /* in_c * kernel */
    size_t band_ld; /* (in_h + 2 pad) * out_w: from one band to the next */
    size_t weights; /* out_c * taps */
};

static struct conv_size sizes(const struct sl_conv_geometry *g)
{
    struct conv_size s = {.places = (size_t)g->out_h * g->out_w};
    s.in = (size_t)g->in_c * g->in_h * g->in_w;
    s.out = g->out_c * s.places;
    s.band_k = (size_t)g->in_c * g->kernel;
    s.taps = s.band_k * g->kernel;
    s.band_ld = ((size_t)g->in_h + 2 * g->pad) * g->out_w;
    s.weights = g->out_c * s.taps;
    return s;
}

static bool by_bands(const struct sl_conv_geometry *g)
{
    return g->stride == 1 && g->kernel > 1 && g->in_c * g->kernel >= BAND_K_MIN;
}

/* An image whose columns are itself needs no copy. */
static bool is_pointwise(const struct sl_conv_geometry *g)
{
    return g->kernel == 1 && g->stride == 1 && g->pad == 0;
}

static size_t conv_scratch_bytes(const struct sl_conv_geometry *g)
{
    struct conv_size s = sizes(g);
    if (is_pointwise(g))
        return 0;
    if (by_bands(g))
        return sl_arena_cost(s.band_k * s.band_ld * sizeof(float)) +
               sl_arena_cost(s.weights * sizeof(float));
    return s.taps * s.places * sizeof(float);
}

static void conv_bytes(const struct sl_unit_options *o, const struct sl_conv_geometry *g,
                       size_t n, struct sl_unit_bytes *ret)
{
    size_t need = conv_scratch_bytes(g);
    ret->scratch = need > ret->scratch ? need : ret->scratch;
}

/* The two parts of the scratch in the bands' form. */
static float *bands_of(const struct sl_unit_ctx *ctx)
{
    return ctx->scratch;
}

static float *band_weights_of(const struct sl_unit_ctx *ctx, const struct conv_size *s)
{
    size_t bands = sl_arena_cost(s->band_k * s->band_ld * sizeof(float));
    return (float *)((uint8_t *)ctx->scratch + bands);
}

/* w [out_c][in_c][ky][kx] as v [ky][out_c][in_c][kx], and back: dw (+)= v. */
static void split_weights(const struct sl_conv_geometry *g, const float *w, float *v)
{
    size_t k = g->kernel, rows = (size_t)g->out_c * g->in_c;
    for (size_t r = 0; r < rows; r++)
        for (size_t ky = 0; ky < k; ky++)
            memcpy(v + (ky * rows + r) * k, w + (r * k + ky) * k, k * sizeof(*w));
}

static void join_weights(const struct sl_conv_geometry *g, const float *v,
                         bool accumulate, float *dw)
{
    size_t k = g->kernel, rows = (size_t)g->out_c * g->in_c;
    for (size_t r = 0; r < rows; r++)
        for (size_t ky = 0; ky < k; ky++)
            for (size_t kx = 0; kx < k; kx++) {
                float value = v[(ky * rows + r) * k + kx];
                float *to = dw + (r * k + ky) * k + kx;
                *to = accumulate ? *to + value : value;
            }
}

static void conv_forward(struct sl_unit_ctx *ctx, const struct sl_conv_geometry *g,
                         size_t n, const float *x, const float *w, float *y)
{
    struct conv_size s = sizes(g);
    float *cols = ctx->scratch;
    bool bands = by_bands(g);
    float *v = bands ? band_weights_of(ctx, &s) : NULL;
    if (bands)
        split_weights(g, w, v);
    for (size_t i = 0; i < n; i++, x += s.in, y += s.out) {
        if (bands) {
            float *band = bands_of(ctx);
            ctx->kernels->conv.im2band(g, x, band);
            for (size_t ky = 0; ky < g->kernel; ky++)
                gemm(false, false, g->out_c, s.places, s.band_k, 1.0f,
                     v + ky * g->out_c * s.band_k, s.band_k, band + ky * g->out_w,
                     s.band_ld, ky == 0 ? 0.0f : 1.0f, y, s.places);
            continue;
        }
        if (!is_pointwise(g))
            ctx->kernels->conv.im2col(g, x, cols);
        gemm(false, false, g->out_c, s.places, s.taps, 1.0f, w, s.taps,
             is_pointwise(g) ? x : cols, s.places, 0.0f, y, s.places);
    }
    count(ctx, SL_PASS_FORWARD, (uint64_t)n * s.weights * s.places);
}

static void conv_backward_data(struct sl_unit_ctx *ctx, const struct sl_conv_geometry *g,
                               size_t n, const float *dy, const float *w, float *dx)
{
    struct conv_size s = sizes(g);
    float *cols = ctx->scratch;
    bool bands = by_bands(g);
    float *v = bands ? band_weights_of(ctx, &s) : NULL;
    if (bands)
        split_weights(g, w, v);
    for (size_t i = 0; i < n; i++, dy += s.out, dx += s.in) {
        if (bands) {
            float *band = bands_of(ctx);
            memset(band, 0, s.band_k * s.band_ld * sizeof(*band));
            for (size_t ky = 0; ky < g->kernel; ky++)
                gemm(true, false, s.band_k, s.places, g->out_c, 1.0f,
                     v + ky * g->out_c * s.band_k, s.band_k, dy, s.places, 1.0f,
                     band + ky * g->out_w, s.band_ld);
            ctx->kernels->conv.band2im(g, band, dx);
            continue;
        }
        gemm(true, false, s.taps, s.places, g->out_c, 1.0f, w, s.taps, dy, s.places, 0.0f,
             is_pointwise(g) ? dx : cols, s.places);
        if (!is_pointwise(g))
            ctx->kernels->conv.col2im(g, cols, dx);
    }
    count(ctx, SL_PASS_INPUT_GRADIENT, (uint64_t)n * s.weights * s.places);
}

static void conv_backward_weights(struct sl_unit_ctx *ctx,
                                  const struct sl_conv_geometry *g, size_t n,
                                  const float *x, const float *dy, bool accumulate,
                                  float *dw)
{
    struct conv_size s = sizes(g);
    float *cols = ctx->scratch;
    bool bands = by_bands(g);
    float *v = bands ? band_weights_of(ctx, &s) : NULL;
    for (size_t i = 0; i < n; i++, x += s.in, dy += s.out) {
        if (bands) {
            float *band = bands_of(ctx);
            ctx->kernels->conv.im2band(g, x, band);
            for (size_t ky = 0; ky < g->kernel; ky++)
                gemm(false, true, g->out_c, s.band_k, s.places, 1.0f, dy, s.places,
                     band + ky * g->out_w, s.band_ld, i == 0 ? 0.0f : 1.0f,
                     v + ky * g->out_c * s.band_k, s.band_k);
            continue;
        }
        if (!is_pointwise(g))
            ctx->kernels->conv.im2col(g, x, cols);
        gemm(false, true, g->out_c, s.taps, s.places, 1.0f, dy, s.places,
             is_pointwise(g) ? x : cols, s.places, i > 0 || accumulate ? 1.0f : 0.0f, dw,
             s.taps);
    }
    if (bands)
        join_weights(g, v, accumulate, dw);
    count(ctx, SL_PASS_WEIGHT_GRADIENT, (uint64_t)n * s.weights * s.places);
}

const struct sl_matmul_unit sl_matmul_fp32 = {
    .name = "fp32",
    .conv_bytes = conv_bytes,
    .matmul = matmul,
    .conv_forward = conv_forward,
    .conv_backward_data = conv_backward_data,
    .conv_backward_weights = conv_backward_weights,
};
